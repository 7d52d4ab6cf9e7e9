"""Thresholds of a counting experiment, fixed fold by fold on held-out background, and the events above them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from .cuts import upper_cut

__all__ = ["abcd_counts", "above_thresholds", "fix_thresholds"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def fix_thresholds(scores: npt.ArrayLike, folds: npt.ArrayLike, *, efficiency: float, n_folds: int = 1) -> Floats:
    """Return the thresholds (n_folds, axes) above which a share `efficiency` of held-out background lies.

    scores: (n,) or (n, axes), larger is more anomalous; folds: (n,) of the model that scored each event, which gets thresholds
    of its own, half-way between two neighbouring scores. With several axes each keeps efficiency^(1 / axes), so that
    independent axes keep `efficiency` together.
    Raises InputError for an efficiency outside (0, 1) and for a fold with too few events to fix a threshold.
    """
    if not 0 < efficiency < 1:
        raise InputError(f"the efficiency of a counting experiment lies between 0 and 1; found {efficiency:g}")
    axes = as_axes(scores)
    fold = np.asarray(folds, dtype=np.int64)
    share = efficiency ** (1.0 / axes.shape[1])
    fixed = np.empty((n_folds, axes.shape[1]))
    for f in range(n_folds):
        own = axes[fold == f]
        if not 0 < round(share * len(own)) < len(own):
            raise InputError(
                f"fold {f} has {len(own)} held-out background events to fix a threshold on, and a share of {share:g} of "
                f"them is asked for: at least {int(np.ceil(0.5 / min(share, 1 - share))) + 1} are needed"
            )
        fixed[f] = [upper_cut(column, share) for column in own.T]
    return fixed


def above_thresholds(scores: npt.ArrayLike, folds: npt.ArrayLike, thresholds: Floats) -> Bools:
    """Return (n, axes) whether each score lies above the threshold (n_folds, axes) of its fold and axis.

    Raises InputError for a fold without thresholds and another number of axes.
    """
    axes, fold = as_axes(scores), np.asarray(folds, dtype=np.int64)
    if axes.shape[1] != thresholds.shape[1]:
        raise InputError(f"there are {axes.shape[1]} axes of scores and {thresholds.shape[1]} of thresholds")
    strange = np.unique(fold[(fold < 0) | (fold >= len(thresholds))])
    if len(strange):
        raise InputError(
            f"events of fold {strange.tolist()} have no threshold; there are those of 0 to {len(thresholds) - 1}"
        )
    return np.asarray(axes > thresholds[fold])


def abcd_counts(above: Bools) -> dict[str, int]:
    """Count the four regions of a plane: (n, 2) above -> A above both, B the first alone, C the second alone, D neither."""
    first, second = above.T
    regions = {"A": first & second, "B": first & ~second, "C": ~first & second, "D": ~first & ~second}
    return {name: int(inside.sum()) for name, inside in regions.items()}


def as_axes(scores: npt.ArrayLike) -> Floats:
    """Return scores as (n, axes); raises InputError for another shape and scores that are not finite, with their number."""
    values = np.asarray(scores, dtype=np.float64)
    axes = values[:, None] if values.ndim == 1 else values
    if axes.ndim != 2:
        raise InputError(f"scores have the shape (events,) or (events, axes); found {values.shape}")
    bad = int((~np.isfinite(axes)).any(axis=1).sum())
    if bad:
        raise InputError(f"{bad} of {len(axes)} events have a score that is not finite; no threshold can sort them")
    return axes
