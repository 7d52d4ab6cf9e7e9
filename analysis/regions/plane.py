"""Cells of the plane of background loss and smallest prior loss, with the same number of background events in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from .cuts import upper_cut
from .shape import Boundaries, Shape

__all__ = ["Plane", "plane_grid"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def plane_grid(n_regions: int) -> tuple[int, int]:
    """Split n regions into rows of background loss and columns of prior loss: the most even split, more columns."""
    rows = max(r for r in range(1, int(np.sqrt(n_regions)) + 1) if n_regions % r == 0)
    return rows, n_regions // rows


@dataclass(frozen=True)
class Plane(Shape):
    """Cells of the plane, slices of background loss first and then of the smallest prior loss.

    cuts: one row a slice of background loss, [its lower boundary, the ascending prior-loss boundaries in it...].
    """

    follows_mass: ClassVar[bool] = False

    @property
    def description(self) -> str:
        """Return what the regions are, in words for the report."""
        return "cells of the (background loss, signal loss) plane"

    def fix(self, losses: Floats, mass: Floats | None = None, *, decorrelation: str | None = None) -> Boundaries:
        """Fix slice after slice of the background loss, and in each the boundaries of the prior loss."""
        del mass, decorrelation
        rows, columns = plane_grid(self.n_regions) if losses.shape[1] > 1 else (self.n_regions, 1)
        background = losses[:, 0]
        cuts, above = [], np.inf
        for row in range(rows):
            low = upper_cut(background, self.fraction * (row + 1) / rows)
            prior = losses[(background > low) & (background <= above), 1:]
            smallest = prior.min(axis=1) if prior.shape[1] else np.zeros(0)
            inner = [-upper_cut(-smallest, (c + 1) / columns) for c in range(columns - 1)] if len(smallest) else []
            cuts.append((low, *inner))
            above = low
        return Boundaries(tuple(cuts))

    def assign(self, losses: Floats, own: Boundaries, mass: Floats) -> Ints:
        """Return each event's cell, row by row of background loss, the least background-like first; -1 below the last."""
        del mass
        region = np.full(len(losses), -1, dtype=np.int64)
        columns = len(own.cuts[0])
        smallest = losses[:, 1:].min(axis=1) if losses.shape[1] > 1 else np.zeros(len(losses))
        for row, (low, *inner) in enumerate(own.cuts):
            here = (region < 0) & (losses[:, 0] > low)
            region[here] = row * columns + np.searchsorted(np.asarray(inner), smallest[here], side="right")
        return region
