"""A tree of regions: background loss first, then a branch a prior (or group of like priors), then slices along its axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.cluster import hierarchy

from .cuts import slice_of, upper_cut

__all__ = ["group_priors", "leaf_of", "tree_cuts"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Rows = tuple[tuple[float, ...], ...]
FAR = 5.0  # in scales: how far an outlier may pull the correlation of two prior axes


def group_priors(axes: Sequence[Floats], n_groups: int) -> tuple[tuple[int, ...], ...]:
    """Join the priors into groups of like ones: average linkage in the correlation of their axes on background.

    axes: one (n_f, n_priors) array a fold, standardised; the folds' mean correlation is used, so that a region means
    the same in every fold. Background events alone are read: no signal, no label, no mass.
    """
    n_priors = axes[0].shape[1]
    if n_groups >= n_priors:
        return tuple((k,) for k in range(n_priors))
    if n_groups == 1:
        return (tuple(range(n_priors)),)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.mean([np.corrcoef(np.clip(x, -FAR, FAR), rowvar=False) for x in axes], axis=0)
    # an axis without spread is like no other
    distance = np.maximum(1 - np.nan_to_num(mean), 0.0)[np.triu_indices(n_priors, 1)]
    label = hierarchy.fcluster(hierarchy.linkage(distance, "average"), n_groups, "maxclust")
    return tuple(sorted(tuple(np.flatnonzero(label == g).tolist()) for g in np.unique(label)))


def branch_axes(axes: Floats, groups: Sequence[Sequence[int]]) -> tuple[Floats, Floats]:
    """Return each branch's axis, the largest of its group's, and its margin over the best branch after it.

    axes (n, n_priors) -> (n, n_branches) and (n, n_branches - 1).
    """
    own = np.stack([axes[:, list(group)].max(axis=1) for group in groups], axis=1)
    later = np.maximum.accumulate(own[:, ::-1], axis=1)[:, ::-1]
    return own, own[:, :-1] - later[:, 1:]


def tree_cuts(
    background: Floats, axes: Floats, groups: Sequence[Sequence[int]], *, n_regions: int, fraction: float
) -> Rows:
    """Fix one fold's tree: background loss (n,) first, then branch after branch of what is left, then their slices.

    A branch takes the events that are closest to its priors, by the margin that gives it its share of the regions'
    events: a margin near 0 where no prior is closer to the background than the others.
    """
    n_branches = len(groups)
    sizes = [n_regions // n_branches + (b < n_regions % n_branches) for b in range(n_branches)]
    lowest = upper_cut(background, fraction)
    own, margin = branch_axes(axes, groups)
    left = background > lowest
    first, rows = [lowest], []
    for b, size in enumerate(sizes):
        here = left
        if b < n_branches - 1:
            first.append(upper_cut(margin[left, b], size / sum(sizes[b:])))
            here = left & (margin[:, b] > first[-1])
        rows.append(tuple(upper_cut(own[here, b], (i + 1) / size) for i in range(size - 1)))
        left = left & ~here
    return (tuple(first), *rows)


def leaf_of(axes: Floats, cuts: Rows, groups: Sequence[Sequence[int]]) -> Ints:
    """Return the leaf of events above the background-loss boundary, most signal-like slice of a branch first.

    axes (n, n_priors) -> (n,).
    """
    leaf = np.zeros(len(axes), dtype=np.int64)
    (_, *margins), *slices = cuts
    own, margin = branch_axes(axes, groups)
    rows, first = np.arange(len(axes)), 0
    for b, inner in enumerate(slices):
        here = margin[rows, b] > margins[b] if b < len(margins) else np.ones(len(rows), dtype=bool)
        leaf[rows[here]] = first + slice_of(own[rows[here], b], inner)
        first += len(inner) + 1
        rows = rows[~here]
    return leaf
