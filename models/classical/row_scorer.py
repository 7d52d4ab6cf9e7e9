"""What the scorers of this room share: the check of rows at the door, their scaling, scores a part at a time, storing.

A fitted scorer is the scaling of its columns and some named arrays, of which this project's own code computes the scores; no object of another
library is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch

from ...errors import shown, unknown_name
from ..density.column_map import ColumnMap, map_columns
from ..inputs import ScorerError, TooFewRowsError, as_matrix, check_metric, require_seed, whole_number
from ..sample import Events, as_sample, named_inputs, refuse_unused
from ..scorer import Method, require_columns, require_fitted, save_scorer
from ..train.loop import named_device, resolve_device
from .scaling import SCALINGS, column_tensors, columns_from_tensors, fit_scaling

__all__ = ["Arrays", "FittedRows", "Matrix", "RowScorer", "negative_log_sum", "refuse_numbers", "require_number"]

Matrix = npt.NDArray[np.float64]
Arrays = dict[str, npt.NDArray[Any]]

MIN_ROWS = 100
SCORE_ROWS = 4096  # rows a step of scoring: fixed, so that scores do not depend on how many come at once
SCALING = 0x5C  # sets the random numbers of the scaling apart
FITTED = "fitted."


@dataclass(kw_only=True, eq=False, repr=False)
class RowScorer(Method):
    """Base of the scorers of this room.

    densities: metrics that are -log p in nats, to which the Jacobian of the scaling is added; whole_numbers: options that are whole
    numbers, with the smallest and the largest allowed; scaling: "standard" (mean and standard deviation), or "quantiles" (`column_map.py`, as of
    `Flow`: for columns with heavy tails), both fitted to the training rows.

    columns_: the fitted scaling; fitted_: name -> the fitted arrays.
    """

    takes: ClassVar = ("rows",)
    least: ClassVar = MIN_ROWS
    metrics: ClassVar[tuple[str, ...]]
    densities: ClassVar[tuple[str, ...]] = ()
    whole_numbers: ClassVar[Mapping[str, tuple[int, int]]] = {}

    scaling: str = "standard"
    columns_: ColumnMap | None = field(default=None, init=False)
    fitted_: Arrays = field(default_factory=dict, init=False)

    def check(self, shape: Sequence[int] = ()) -> None:
        """Raise ScorerError for options that mean nothing."""
        del shape
        require_seed(self)
        named_device(self.device)
        if not isinstance(self.scaling, str) or self.scaling not in SCALINGS:
            raise ScorerError(unknown_name("scaling", self.scaling, SCALINGS, type(self).__name__))
        refuse_numbers(self, self.whole_numbers)

    def described(self) -> list[str]:
        """Return what the repr says before the training."""
        width = [] if self.columns_ is None else [f"{self.columns_.n_columns} features"]
        return [*super().described(), *width]

    def scaled_to(self, rows: Matrix) -> ColumnMap:
        """Return the scaling of training rows (n, d)."""
        return fit_scaling(rows, self.scaling, np.random.default_rng([self.seed, SCALING]))

    def fit(self, x: Events, *, validation: Events | None = None) -> Self:
        """Fit to rows x (n, d) and return self."""
        raise NotImplementedError

    def score(self, x: Events, *, metric: str | None = None) -> Matrix:
        """Return (n,) scores, larger = more anomalous; metric: one of `metrics`.

        x: rows (n, d); columns with names are put in the order of `input_names`, those of a plain array are taken as they are.
        """
        metric = check_metric(metric, self.metrics, type(self).__name__)
        columns = require_fitted(self.columns_, self)
        inputs, names = named_inputs(x, self.input_names, made=self.made_), self.input_names or None
        rows = as_matrix(inputs, n_columns=columns.n_columns, columns=names)
        found = np.empty(len(rows))
        for first in range(0, len(rows), SCORE_ROWS):
            part = slice(first, first + SCORE_ROWS)
            mapped, log_jacobian = map_columns(columns, rows[part])
            found[part] = self.scores(mapped, metric)
            if metric in self.densities:
                found[part] -= log_jacobian
        return found

    def scores(self, mapped: Matrix, metric: str) -> Matrix:
        """Return the scores (n,) of scaled rows (n, d)."""
        raise NotImplementedError

    def check_stored(self, n_columns: int) -> None:
        """Raise ScorerError or KeyError where what was read does not fit the options, or rows of so many columns."""
        raise NotImplementedError

    def save(self, path: str | Path) -> None:
        """Write the folder that `load_scorer` reads."""
        columns = require_fitted(self.columns_, self)
        arrays = {
            f"{FITTED}{name}": torch.from_numpy(np.ascontiguousarray(array)) for name, array in self.fitted_.items()
        }
        save_scorer(
            path,
            self,
            parameters=self.parameters(),
            n_features=columns.n_columns,
            state={},
            training=self.training_,
            tensors=column_tensors(columns) | arrays | self.network_tensors(),
        )

    def network_tensors(self) -> dict[str, torch.Tensor]:
        """Return the weights of a network as named tensors; none."""
        return {}

    def take_network(self, n_columns: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take the network of rows of so many columns from the tensors that were stored; there is none."""

    @classmethod
    def from_stored(cls, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """Rebuild from what `save` wrote."""
        scorer = cls(**record["parameters"])
        scorer.check()
        columns = columns_from_tensors(tensors)
        require_columns(record, columns.n_columns)
        scorer.fitted_ = {
            name.removeprefix(FITTED): tensor.numpy() for name, tensor in tensors.items() if name.startswith(FITTED)
        }
        scorer.check_stored(columns.n_columns)
        scorer.take_network(columns.n_columns, tensors)
        scorer.columns_, scorer.training_ = columns, dict(record["training"])
        return scorer

    def require_shapes(self, **shapes: tuple[int, ...]) -> None:
        """Raise ScorerError where a fitted array has another shape or holds what is not finite, KeyError where there is none."""
        for name, shape in shapes.items():
            array = self.fitted_[name]
            if array.shape != shape:
                raise ScorerError(f"{name} has the shape {array.shape}; {shape} is expected")
            if not np.isfinite(array).all():
                raise ScorerError(f"{name} holds NaN or infinity")


@dataclass(kw_only=True, eq=False, repr=False)
class FittedRows(RowScorer):
    """Base of those that are fitted in one go: on the CPU, whatever the device, and on one thread, so that the same seed gives the same bits."""

    trains: ClassVar = False

    def fit(self, x: Events, *, validation: Events | None = None, progress: bool = False) -> Self:
        """Fit to rows x (n, d), n at least 100, and return self.

        x: rows, whose names are stored where they have some; validation: rows, matched by name, whose mean score is noted in `training_`; they change
        nothing; progress: there is none to show. Raises the errors of `as_matrix`, ScorerError for options that mean nothing and for
        weights, TooFewRowsError, DeviceError for a device that is not here.
        """
        del progress
        refuse_unused(x, self.uses, type(self).__name__)
        self.check()
        resolve_device(self.device)
        sample = as_sample(x)
        names = sample.names
        rows = as_matrix(sample.inputs, name="x", min_rows=MIN_ROWS, columns=names or None)
        columns = self.scaled_to(rows)
        fitted, record = self.fitted_to(map_columns(columns, rows)[0])
        self.columns_, self.fitted_ = columns, fitted
        self.training_ = {"rows": [len(rows)], "rows_given": len(rows), "seed": self.seed, **record}
        self.input_names, self.made_ = names, dict(sample.made)
        if validation is not None:
            scores = self.score(validation)
            self.training_["validation_mean"] = float(scores.mean()) if len(scores) else None
        return self

    def fitted_to(self, mapped: Matrix) -> tuple[Arrays, dict[str, Any]]:
        """Return the arrays fitted to scaled rows (n, d), and what the record of the training says of it."""
        raise NotImplementedError

    def random_state(self) -> int:
        """Return the seed that scikit-learn is given, which takes 32 bits."""
        return int(np.random.SeedSequence(self.seed).generate_state(1)[0])

    def require_rows(self, name: str, mapped: Matrix) -> None:
        """Raise TooFewRowsError where an option asks for more parts than there are rows (n, d)."""
        if getattr(self, name) > len(mapped):
            raise TooFewRowsError(f"{name} is {getattr(self, name)}, more than the {len(mapped)} rows of x")


def refuse_numbers(options: Any, bounds: Mapping[str, tuple[int, int]]) -> None:
    """Raise ScorerError for options that are no whole numbers within their bounds, the first of them."""
    for name, (least, most) in bounds.items():
        if not least <= whole_number(name, getattr(options, name)) <= most:
            raise ScorerError(f"{name} is {shown(getattr(options, name))}, allowed: {least} to {most}")


def require_number(name: str, value: Any, *, zero: bool = False) -> None:
    """Raise ScorerError for an option that is no finite number above 0, or 0 where that is allowed."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < 0 or (value == 0 and not zero):
        raise ScorerError(f"{name} is {shown(value)}, allowed: {'0, or ' if zero else ''}a finite number above 0")


def negative_log_sum(log_terms: Matrix) -> Matrix:
    """Return -log of the sum over the last axis of exp(log_terms) (n, k), without overflow.

    >>> negative_log_sum(np.log([[0.25, 0.25]])).round(6).tolist()
    [0.693147]
    """
    largest = log_terms.max(axis=-1)
    return np.asarray(-(largest + np.log(np.exp(log_terms - largest[..., None]).sum(axis=-1))))
