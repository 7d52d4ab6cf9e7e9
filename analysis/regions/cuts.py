"""Boundaries at quantiles of held-out events, and the slices between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["slice_of", "upper_cut"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def slice_of(score: Floats, cuts: Sequence[float]) -> Ints:
    """Return how many of the descending boundaries lie above each score (n,): its slice."""
    return np.asarray(np.searchsorted(-np.asarray(cuts, dtype=np.float64), -score, side="left"), dtype=np.int64)


def upper_cut(values: Floats, fraction: float) -> float:
    """Return the boundary above which a fraction of the values lies, half-way between two neighbours.

    No event used to fix it sits on the boundary, so rounding in the last digit of a score cannot move it across.
    """
    n = len(values)
    keep = round(fraction * n)
    ordered = np.sort(values)[::-1]
    if keep <= 0:
        return float(np.nextafter(ordered[0], np.inf))
    if keep >= n:
        return float(-np.finfo(np.float64).max)
    return float(0.5 * (ordered[keep - 1] + ordered[keep]))
