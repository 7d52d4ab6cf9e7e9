"""A scorer that was exported as ONNX, run by ONNX Runtime: one metric, on one core."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..inputs import ScorerError, ShapeError, as_matrix, check_metric

__all__ = ["OnnxScorer"]

MAX_ROWS = 4096  # a step: the activations of as many rows stay in a core's cache


class OnnxScorer:
    """The scorer of a file that `export_onnx` wrote; it cannot be trained.

    path: of the file; threads: that ONNX Runtime may use inside a node. `metrics` holds the one metric of the file.
    Raises ScorerError where the package onnxruntime or the file is missing, or the file is no exported scorer.
    """

    def __init__(self, path: str | Path, *, threads: int = 1) -> None:
        try:
            import onnxruntime
            from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf
        except ImportError as error:
            raise ScorerError(
                f"{path}: scoring with it needs the package onnxruntime: pip install onnxruntime"
            ) from error
        if not Path(path).is_file():
            raise ScorerError(f"{path}: no such file; a file that hunch export wrote is expected")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        try:
            self.session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except (Fail, InvalidGraph, InvalidProtobuf) as error:
            raise ScorerError(f"{path}: damaged, or no ONNX file: {error}") from error
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        if "hunch_version" not in self.metadata:
            raise ScorerError(f"{path}: an ONNX file, but not one that hunch export wrote")
        self.n_features = int(self.metadata["n_columns"])
        self.shape = tuple(json.loads(self.metadata.get("shape", f"[{self.n_features}]")))
        self.axis_names = tuple(json.loads(self.metadata["axis_names"]))
        self.metrics = (self.metadata["metric"],)
        self.dtype: type[np.floating[Any]] = np.float64 if self.metadata["precision"] == "double" else np.float32

    def score(self, x: npt.ArrayLike, *, metric: str | None = None) -> npt.NDArray[np.float64]:
        """Return (n,) scores of finite events x (n, ...), larger = more anomalous; metric: the one of the file or None.

        x: rows (n, d), or images of the sizes in `shape`, which are not checked to sum to one.
        """
        check_metric(metric, self.metrics, "the ONNX file")
        if len(self.shape) == 1:
            rows = as_matrix(x, n_columns=self.n_features)
        else:
            rows = np.asarray(x, dtype=np.float64)
            if rows.shape[1:] != self.shape:
                raise ShapeError(f"x: events of {rows.shape[1:]}, {self.shape} are expected")
        with np.errstate(over="ignore"):
            rows = np.clip(rows, np.finfo(self.dtype).min, np.finfo(self.dtype).max).astype(self.dtype)
        found = np.empty(len(rows))
        for first in range(0, len(rows), MAX_ROWS):
            part = slice(first, first + MAX_ROWS)
            found[part] = self.session.run(["score"], {"x": rows[part]})[0]
        return found
