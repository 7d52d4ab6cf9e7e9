"""Regions side by side: one for each neighbourhood of the signal hypotheses, all with the same number of background events.

An event belongs to the neighbourhood that explains it best, the smallest loss. Neighbourhoods that hold too few background
events are joined to the one that is the second choice of most of theirs. Each region keeps its most signal-like events,
by background loss minus its own. A signal sits in one or two of them, so their p-values want a combination that
listens to the smallest (Simes, Cauchy), not to the sum (Fisher).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["join_neighbourhoods", "mosaic_place"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Groups = tuple[tuple[int, ...], ...]


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
