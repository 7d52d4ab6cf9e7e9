"""How the rows of a scorer are scaled: by mean and standard deviation, or by the quantiles that `Flow` takes.

Both are a `ColumnMap`: invertible, with a log-Jacobian, and logarithmic from ten standard deviations on, so that no value overflows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from ..density.column_map import SMALLEST, ColumnMap, fit_column_map
from ..inputs import ScorerError

__all__ = ["SCALINGS", "column_tensors", "columns_from_tensors", "fit_scaling"]

Matrix = npt.NDArray[np.float64]

SCALINGS = ("standard", "quantiles")
"""Mean and standard deviation, or the map of `column_map.py`."""
PREFIX = "columns."


def fit_scaling(x: Matrix, scaling: str, rng: np.random.Generator) -> ColumnMap:
    """Return the map of training rows x (n, d) that a scaling stands for.

    A constant column is divided by its size, or by one where it is zero: in the training it is 0 everywhere, and any other value is far.
    """
    if scaling == "quantiles":
        return fit_column_map(x, rng)
    low, high = x.min(axis=0), x.max(axis=0)
    size = np.where(low == high, 1.0, np.maximum(np.abs(low), np.abs(high)))  # squares of 1e300 would overflow
    mean, spread = (x / size).mean(axis=0) * size, (x / size).std(axis=0) * size
    knots, normal = np.stack([mean - spread, mean + spread], axis=1), np.tile([-1.0, 1.0], (len(low), 1))
    # a spread that rounding loses beside the mean: the range takes its place
    lost = ~(knots[:, 1] - knots[:, 0] > spread) | ~(spread > SMALLEST)
    knots[lost] = np.stack([low, high], axis=1)[lost]
    constant = ~(knots[:, 1] - knots[:, 0] > SMALLEST)
    knots[constant] = low[constant, None]
    normal[constant] = 0.0
    gap = np.where(constant, np.where(low == 0, 1.0, np.maximum(np.abs(low), SMALLEST)), knots[:, 1] - knots[:, 0])
    slope = np.where(constant, 1.0, 2.0) / gap
    return ColumnMap(knots, normal, slope, slope.copy(), np.zeros(len(low), dtype=bool), low, high)


def column_tensors(columns: ColumnMap) -> dict[str, torch.Tensor]:
    """Return a map as named tensors."""
    arrays = {name: getattr(columns, name) for name in ColumnMap.__dataclass_fields__}
    return {f"{PREFIX}{name}": torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def columns_from_tensors(tensors: Mapping[str, torch.Tensor]) -> ColumnMap:
    """Return the map of `column_tensors`; raises KeyError for what is missing, ScorerError for shapes that do not fit."""
    arrays = {name: tensors[f"{PREFIX}{name}"].numpy() for name in ColumnMap.__dataclass_fields__}
    knots = arrays["knots"]
    if knots.ndim != 2 or knots.size == 0:
        raise ScorerError(f"knots has the shape {knots.shape}; one row for each column is expected")
    for name, array in arrays.items():
        shape = knots.shape if name in {"knots", "normal"} else knots.shape[:1]
        if array.shape != shape:
            raise ScorerError(f"{name} has the shape {array.shape}; {shape} is expected")
    return ColumnMap(**arrays)
