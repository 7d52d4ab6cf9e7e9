"""A tree of regions: background loss first, then a branch a prior (or group of like priors), then slices along its axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
from scipy.cluster import hierarchy

from ...errors import InputError
from .cuts import slice_of, upper_cut
from .l5 import L5
from .shape import Boundaries, Groups, Rows

__all__ = ["Tree", "group_priors", "leaf_of", "tree_cuts"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
FAR = 5.0  # in scales: how far an outlier may pull the correlation of two prior axes


def group_priors(axes: Sequence[Floats], n_groups: int) -> Groups:
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


@dataclass(frozen=True)
class Tree(L5):
    """Background loss first, then a branch a prior (or group of like priors), then slices along its standardised axis.

    cuts: first [the lower background-loss boundary, the margin by which each branch but the last beats those after it],
    then for each branch the descending inner boundaries of its slices. Without priors: nested slices of L_b. The number of
    regions is what was asked for whatever the number of priors: another prior divides the same cells anew.
    """

    follows_mass: ClassVar[bool] = False

    @property
    def description(self) -> str:
        """Return what the regions are, in words for the report."""
        return "a tree of cuts: background loss, closest prior, slices along its axis"

    def kept(self, losses: Floats) -> Floats:
        """Return the losses of the events above the background-loss boundary, among which the branches compete."""
        return losses[losses[:, 0] > upper_cut(losses[:, 0], self.fraction)]

    def standardised(self, losses: Floats) -> Boundaries:
        """Return centre and scale of the prior axes, from the events that the cut in the background loss keeps."""
        return super().standardised(self.kept(losses) if losses.shape[1] > 1 else losses)

    def arranged(self, held_out: Sequence[Floats]) -> Self:
        """Return the tree with its branches, from the held-out losses (n_f, 1 + n_priors) of each fold.

        Raises InputError where the events kept are too few for the regions.
        """
        super().arranged(held_out)
        n_priors = held_out[0].shape[1] - 1
        if n_priors == 0:
            return self
        fewest = min(len(self.kept(x)) for x in held_out)
        if fewest < 2 * self.n_regions:
            raise InputError(
                f"a share of {self.fraction:.2g} of the held-out events is {fewest}, which cannot fix the "
                f"{self.n_regions} regions of a tree; give fewer regions, a larger fraction or more data"
            )
        # a branch of one slice would not look at how close its prior is: two regions a branch or more
        branches = max(1, min(n_priors, self.n_regions // 2))
        axes = [self.axes(self.kept(x), self.standardised(x)) for x in held_out]
        return replace(self, groups=group_priors(axes, branches))

    def fix(self, losses: Floats, mass: Floats | None = None, *, decorrelation: str | None = None) -> Boundaries:
        """Fix one fold's tree."""
        if not self.groups:
            return super().fix(losses, mass, decorrelation=decorrelation)
        own = self.standardised(losses)
        axes = self.axes(losses, own)
        cuts = tree_cuts(losses[:, 0], axes, self.groups, n_regions=self.n_regions, fraction=self.fraction)
        return replace(own, cuts=cuts)

    def assign(self, losses: Floats, own: Boundaries, mass: Floats) -> Ints:
        """Return the leaf of each event, -1 where its background loss is too small."""
        if not self.groups:
            return super().assign(losses, own, mass)
        region = np.full(len(losses), -1, dtype=np.int64)
        rows = np.flatnonzero(losses[:, 0] > own.cuts[0][0])
        region[rows] = leaf_of(self.axes(losses[rows], own), own.cuts, self.groups)
        return region
