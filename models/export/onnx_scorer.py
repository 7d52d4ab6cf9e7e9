"""A scorer that was exported as ONNX, run by ONNX Runtime: one metric, on one core."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...documents import parse_json
from ...errors import InputError, shown
from ..distance.clouds import as_jets
from ..inputs import ScorerError, ShapeError, as_matrix, check_metric, required_package
from ..sample import Events, named_inputs, single_jet
from .graph import PRECISIONS
from .onnx_file import SUM, checked_onnx

__all__ = ["OnnxScorer"]

MAX_ROWS = 4096  # at a time
MAX_NUMBERS = (
    1 << 18
)  # that a step of the graph makes at once: they stay in a core's cache, in which most of the time is won or lost


class OnnxScorer:
    """The scorer of a file that `export_onnx` wrote; it cannot be trained.

    path: of the file; threads: that ONNX Runtime may use inside a node. `metrics` holds the one metric of the file, `input_names` the
    names of the columns of training, none of files that hold none.
    Raises ScorerError where the package onnxruntime or the file is missing, or the file is no exported scorer.
    """

    def __init__(self, path: str | Path, *, threads: int = 1) -> None:
        onnxruntime = required_package("onnxruntime", "onnxruntime", f"{path}: scoring with it")
        if not Path(path).is_file():
            raise ScorerError(f"{path}: no such file; a file that hunch export wrote is expected")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        failures: tuple[type[Exception], ...] = (UnicodeDecodeError, *runtime_errors())
        try:
            content, largest = checked_onnx(path)
            self.session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        except failures as error:
            raise ScorerError(f"{path}: damaged, or no ONNX file: {error}") from error
        self.rows = max(min(MAX_ROWS, MAX_NUMBERS // largest), 1)
        if "hunch_version" not in self.metadata:
            raise ScorerError(f"{path}: an ONNX file, but not one that hunch export wrote")
        self.path = path
        self.read_metadata()
        if SUM not in self.metadata:
            raise ScorerError(f"{path}: damaged, or of an older version: it holds no sum of itself")

    def read_metadata(self) -> None:
        """Take the sizes and names that the file tells of itself; raises ScorerError where they are not those of its graph."""
        entry = next((given for given in self.session.get_inputs() if given.name == "x"), None)
        try:
            self.n_features = int(self.metadata["n_columns"])
            shape = self.metadata.get("shape", f"[{self.n_features}]")
            self.shape = tuple(parse_json(shape, f"{self.path}: metadata 'shape'"))
            self.axis_names = tuple(parse_json(self.metadata["axis_names"], f"{self.path}: metadata 'axis_names'"))
            names = self.metadata.get("input_names", "[]")
            self.input_names = tuple(parse_json(names, f"{self.path}: metadata 'input_names'"))
            made = self.metadata.get("inputs_made", "{}")
            self.made_ = dict(parse_json(made, f"{self.path}: metadata 'inputs_made'"))
            self.metrics = (self.metadata["metric"],)
            self.dtype = PRECISIONS[self.metadata["precision"]]
        except (KeyError, ValueError, TypeError, InputError) as error:
            raise ScorerError(f"{self.path}: damaged, its metadata tell no sizes and names: {error}") from error
        of_graph = None if entry is None else tuple(entry.shape[1:])
        outputs = [given.name for given in self.session.get_outputs()]
        if of_graph != self.shape or math.prod(self.shape) != self.n_features or "score" not in outputs:
            raise ScorerError(
                f"{self.path}: damaged, tells events of {shown(self.shape)}, {shown(self.n_features)} numbers; its graph takes "
                f"{of_graph} and gives {', '.join(outputs)}"
            )
        if len(self.shape) == 1 and len(self.input_names) not in {0, self.n_features}:
            raise ScorerError(f"{self.path}: damaged, names {len(self.input_names)} of {self.n_features} columns")

    def score(self, x: Events, *, metric: str | None = None) -> npt.NDArray[np.float64]:
        """Return (n,) scores of finite events x (n, ...), larger = more anomalous; metric: the one of the file or None.

        x: rows (n, d), or images or sets of the sizes in `shape`, whose sums and empty jets are not looked at; events of one jet with or without the axis of
        jets. Columns with names are put in the order of `input_names`, those of a plain array are taken as they are. Raises
        UnknownMetricError, ShapeError, DtypeError, NonFiniteError, and ScorerError for columns that are missing.
        """
        check_metric(metric, self.metrics, "the ONNX file")
        if len(self.shape) == 1:
            names = self.input_names or None
            rows = as_matrix(
                named_inputs(x, self.input_names, made=self.made_), n_columns=self.n_features, columns=names
            )
        else:
            rows = self.jets(x)
        with np.errstate(over="ignore"):
            rows = np.clip(rows, np.finfo(self.dtype).min, np.finfo(self.dtype).max).astype(self.dtype)
        found = np.empty(len(rows))
        failures: tuple[type[Exception], ...] = (ValueError, *runtime_errors())
        for first in range(0, len(rows), self.rows):
            part = slice(first, first + self.rows)
            try:
                found[part] = self.session.run(["score"], {"x": rows[part]})[0]
            except failures as error:
                raise ScorerError(f"{self.path}: cannot be run: {shown(str(error), limit=300)}") from error
        return found

    def jets(self, x: Events) -> npt.NDArray[np.float64]:
        """Return the images or sets of events (n, *shape), or say what is wrong with them."""
        taken = named_inputs if len(self.shape) > 2 else single_jet
        found = np.asarray(taken(x, self.input_names, made=self.made_))
        if self.shape[:-2] == (1,) and found.ndim == len(self.shape):
            found = found[:, None]
        if found.shape[1:] != self.shape:
            raise ShapeError(f"x: events of {found.shape[1:]}, {self.shape} are expected")
        flat = found.reshape(-1 if found.size else 0, *self.shape[-2:])
        return as_jets(flat).reshape(found.shape)


def runtime_errors() -> tuple[type[Exception], ...]:
    """Return the errors of ONNX Runtime, which have no common base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    return tuple(found)
