"""Regions side by side: one for each neighbourhood of the signal hypotheses, all with the same number of background events.

An event belongs to the neighbourhood that explains it best, the smallest loss. Neighbourhoods that hold too few background
events are joined to the one that is the second choice of most of theirs. Each region keeps its most signal-like events,
by background loss minus its own. A signal sits in one or two of them, so their p-values want a combination that
listens to the smallest (Simes, Cauchy), not to the sum (Fisher).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from .cuts import upper_cut
from .mass_curve import moving_cut
from .shape import Boundaries, Groups, Shape

__all__ = ["Mosaic", "join_neighbourhoods", "mosaic_place"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
MOST_OF_ALL = 0.5  # of the events in a mosaic: fewer regions rather than larger ones


def join_neighbourhoods(losses: Floats, least: float, most: int) -> Groups:
    """Join neighbourhoods until each group holds `least` background events and there are no more than `most` groups.

    losses (n, k) -> groups of columns. The group with the fewest events is joined to another; one group may remain.
    """
    groups: list[tuple[int, ...]] = [(k,) for k in range(losses.shape[1])]
    best = losses.copy()  # of each group, its best column
    while len(groups) > 1:
        place = best.argmin(axis=1)
        events = np.bincount(place, minlength=len(groups))
        fewest = int(events.argmin())
        if events[fewest] >= least and len(groups) <= most:
            break
        others = np.delete(np.arange(len(groups)), fewest)
        own = best[place == fewest] if events[fewest] else best
        wanted = np.bincount(own[:, others].argmin(axis=1), minlength=len(others)).argmax()
        into = int(others[wanted])
        groups[into] = tuple(sorted(groups[into] + groups[fewest]))
        best[:, into] = np.minimum(best[:, into], best[:, fewest])
        best = np.delete(best, fewest, axis=1)
        del groups[fewest]
    return tuple(sorted(groups))


def mosaic_place(losses: Floats, groups: Sequence[Sequence[int]], alpha: float) -> tuple[Ints, Floats]:
    """Return each event's group and its L_b - alpha L there: losses (n, 1 + k), the background's first -> (n,), (n,)."""
    own = np.stack([losses[:, 1:][:, list(group)].min(axis=1) for group in groups], axis=1)
    place = own.argmin(axis=1).astype(np.int64)
    return place, losses[:, 0] - alpha * own[np.arange(len(own)), place]


@dataclass(frozen=True)
class Mosaic(Shape):
    """A region for each neighbourhood of hypotheses, or group of like ones: its most signal-like events.

    cuts: one row, the lower boundary of each region's L_b - alpha L. One model scores all events: the neighbourhoods of
    several models are not the same ones.
    """

    needs_hypotheses: ClassVar[bool] = True
    combination: ClassVar[str] = "simes"
    least_events: ClassVar[int] = 80
    """More would let in background that hides a signal of one place."""

    @property
    def description(self) -> str:
        """Return what the regions are, in words for the report."""
        return "one for each neighbourhood of signal hypotheses, the events that it explains best and better than the background"

    @classmethod
    def affordable(cls, n_regions: int, events: float) -> int:
        """Return how many regions of `least_events` half of the hunted events can fill, at most n_regions."""
        if cls.least_events * n_regions > MOST_OF_ALL * events:
            return max(1, int(MOST_OF_ALL * events / cls.least_events))
        return n_regions

    def arranged(self, held_out: Sequence[Floats]) -> Self:
        """Return the mosaic with its groups of neighbourhoods: at most n_regions, all of the same population.

        Raises InputError for several folds, whose models have neighbourhoods of their own, and for losses of the background
        alone.
        """
        if len(held_out) > 1:
            raise InputError(
                f"region shape 'mosaic' needs one model for all events, found {len(held_out)} folds; "
                "give samples.background without weak_supervision, or another shape"
            )
        losses = held_out[0]
        if losses.shape[1] < 2:
            raise InputError(
                "region shape 'mosaic' needs losses of signal hypotheses, found those of the background alone"
            )
        each = self.fraction / self.n_regions
        groups = join_neighbourhoods(losses[:, 1:], each * len(losses), self.n_regions)
        return replace(self, n_regions=len(groups), fraction=each * len(groups), groups=groups)

    def fix(self, losses: Floats, mass: Floats | None = None, *, decorrelation: str | None = None) -> Boundaries:
        """Fix the lower boundary of each region, so that all keep the same number of events."""
        place, score = mosaic_place(losses, self.groups, self.alpha)
        wanted = self.fraction / self.n_regions * len(losses)
        regions = [(place == g, min(wanted / max(int((place == g).sum()), 1), 1.0)) for g in range(self.n_regions)]
        if decorrelation is None or mass is None:
            return Boundaries((tuple(upper_cut(score[here], share) for here, share in regions),))
        moving = [moving_cut(score[here], mass[here], share, decorrelation) for here, share in regions]
        return Boundaries((tuple(cut for _, cut in moving),), curves=tuple(curve for curve, _ in moving))

    def assign(self, losses: Floats, own: Boundaries, mass: Floats) -> Ints:
        """Return the neighbourhood of each event, -1 where it is not signal-like enough for it."""
        place, score = mosaic_place(losses, self.groups, self.alpha)
        if own.curves:
            score = score - own.followed(mass)[np.arange(len(place)), place]
        return np.asarray(np.where(score > np.asarray(own.cuts[0])[place], place, -1), dtype=np.int64)
