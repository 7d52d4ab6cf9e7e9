"""The coordinates in which an autoencoder sees rows, images and sets: centred at the mean, the root mean square distance from it being one.

Rows go through the column map first (`column_map.py`), numbers of constituents through their medians and spreads (`set_scaling.py`). One learning
rate, one bound of the layers and one scale of the noise then serve all of them. Empty slots of sets stay zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from ..autoencoders.set_scaling import SetScaling, filled_slots, robust_scaling
from ..density.column_map import ColumnMap, fit_column_map, map_columns, unmap_columns
from ..inputs import ScorerError, ShapeError

__all__ = ["Coordinates", "fit_coordinates"]

Array = npt.NDArray[np.float64]
SMALLEST = 1e-12  # of the spread


@dataclass(frozen=True)
class Coordinates:
    """How inputs (n, ...) become coordinates (n, d).

    kind: "rows", "images" or "sets"; shape: of one input; centre: (d,); spread: the root mean square distance from it; columns: of rows;
    scaling: of sets; filled: (slots + 1,) how often so many slots of a set are filled, of the training.
    """

    kind: str
    shape: tuple[int, ...]
    centre: Array
    spread: float
    columns: ColumnMap | None = None
    scaling: SetScaling | None = None
    filled: Array | None = None

    def __post_init__(self) -> None:
        if self.centre.shape != (int(np.prod(self.shape)),) or not np.isfinite(self.centre).all():
            raise ScorerError(f"centre has shape {self.centre.shape}, finite numbers for {self.shape} are needed")
        if not 0 < self.spread < float("inf"):
            raise ScorerError(f"spread is {self.spread}, a finite number above 0 is needed")

    def of(self, x: Array) -> tuple[Array, Array | None]:
        """Return the coordinates (n, d) of inputs, and of sets the mask (n, d), 1 where a slot is filled."""
        if x.shape[1:] != self.shape:
            raise ShapeError(f"x: inputs of {x.shape[1:]}, {self.shape} are expected")
        raw, mask = raw_values(x, self.columns, self.scaling)
        found = (raw - self.centre) / self.spread
        return (found if mask is None else found * mask), mask

    def back(self, coordinates: Array, mask: Array | None = None) -> Array:
        """Return inputs (n, ...) of coordinates (n, d): pixels are not negative and sum to one, as those of the training do; slots that are not
        filled, or hold no pT, are zeros."""
        raw = coordinates * self.spread + self.centre
        if self.columns is not None:
            made = unmap_columns(self.columns, raw)
            return np.where(self.columns.integer, np.rint(made), made)
        shaped = raw.reshape(len(raw), *self.shape)
        if self.scaling is None:
            pixels = np.maximum(shaped, 0.0)
            return np.asarray(pixels / np.maximum(pixels.sum(axis=(1, 2), keepdims=True), SMALLEST))
        sets = self.scaling.restored(shaped)
        there = filled_slots(sets) if mask is None else filled_slots(sets) & (mask.reshape(sets.shape)[..., 0] > 0)
        return np.asarray(np.where(there[..., None], sets, 0.0))

    @property
    def domain(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Lowest and highest coordinates (d,) each: pixels from 0 to 1; none of rows and sets."""
        if self.kind != "images":
            return None
        edges = (torch.from_numpy((edge - self.centre) / self.spread).float() for edge in (0.0, 1.0))
        low, high = edges
        return low, high

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the fitted arrays by name."""
        found = {"centre": torch.from_numpy(self.centre), "spread": torch.tensor([self.spread], dtype=torch.float64)}
        for name, part in (("columns", self.columns), ("scaling", self.scaling)):
            for own in fields(part) if part is not None else ():
                found[f"{name}.{own.name}"] = torch.from_numpy(np.asarray(getattr(part, own.name)))
        return found | ({} if self.filled is None else {"filled": torch.from_numpy(self.filled)})

    @classmethod
    def from_tensors(cls, kind: str, shape: tuple[int, ...], tensors: Mapping[str, torch.Tensor]) -> Self:
        """Rebuild from what `tensors` gave; KeyError, TypeError or ScorerError where they do not fit."""

        def part(name: str) -> dict[str, Any]:
            return {
                key.removeprefix(f"{name}."): value.numpy()
                for key, value in tensors.items()
                if key.startswith(f"{name}.")
            }

        columns = ColumnMap(**part("columns")) if kind == "rows" else None
        scaling = SetScaling(**part("scaling")) if kind == "sets" else None
        if columns is not None and columns.n_columns != shape[0]:
            raise ScorerError(f"tells {shape[0]} columns, the column map is of {columns.n_columns}")
        if scaling is not None and scaling.centre.shape != shape:
            raise ScorerError(f"tells sets of {shape}, the scaling is of {scaling.centre.shape}")
        filled = tensors["filled"].numpy() if kind == "sets" else None
        if filled is not None and (filled.shape != (shape[0] + 1,) or not (filled >= 0).all() or not filled.sum() > 0):
            raise ScorerError(f"filled has shape {filled.shape}, counts of 0 to {shape[0]} slots are needed")
        return cls(kind, shape, tensors["centre"].numpy(), float(tensors["spread"][0]), columns, scaling, filled)


def fit_coordinates(kind: str, x: Array, *, seed: int) -> Coordinates:
    """Return the coordinates of a training sample x (n, ...); kind: "rows", "images" or "sets"."""
    columns = fit_column_map(x, np.random.default_rng(seed)) if kind == "rows" else None
    scaling = robust_scaling(x) if kind == "sets" else None
    raw, mask = raw_values(x, columns, scaling)
    if mask is None:
        centre = raw.mean(axis=0)
        off, filled = raw - centre, None
    else:
        centre = (raw * mask).sum(axis=0) / np.maximum(mask.sum(axis=0), 1)
        off = (raw - centre) * mask
        filled = np.bincount(filled_slots(x).sum(axis=1), minlength=x.shape[1] + 1).astype(np.float64)
    spread = float(np.sqrt((off**2).sum(axis=1).mean()))
    return Coordinates(kind, x.shape[1:], centre, max(spread, SMALLEST), columns, scaling, filled)


def raw_values(x: Array, columns: ColumnMap | None, scaling: SetScaling | None) -> tuple[Array, Array | None]:
    """Return inputs as rows (n, d) before they are centred, and the masks (n, d) of sets."""
    if columns is not None:
        return map_columns(columns, x)[0], None
    if scaling is None:
        return x.reshape(len(x), int(np.prod(x.shape[1:]))), None
    mask = np.repeat(filled_slots(x), x.shape[2], axis=1).astype(np.float64)
    return scaling.scaled(x).reshape(mask.shape), mask
