"""Filters that work together: each plot shows the events that every filter but its own lets pass."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from .binning import Binning, Bools, Codes, Marks, count_events, mark_events

__all__ = ["MOST_FILTERS", "Linked"]

MOST_FILTERS = 32
"""Bits of a mark."""


class Linked:
    """The filters on n events, told apart by names: those of plots, of samples, of regions.

    group: (n,) uint8, the number of each event's sample; groups: how many there are.
    """

    def __init__(self, group: npt.NDArray[np.uint8], groups: int) -> None:
        self.group = group
        self.groups = groups
        self.failed: Marks = np.zeros(len(group), dtype=np.uint32)
        self.bits: dict[str, int] = {}

    def restrict(self, name: str, codes: Codes, passing: Bools | None) -> None:
        """Let the events pass whose code (n,) is in `passing` (codes,), in place of what the filter did before; None: all events."""
        if passing is None or passing.all():
            self.release(name)
            return
        if name not in self.bits:
            free = (1 << k for k in range(MOST_FILTERS))
            bit = next((b for b in free if b not in self.bits.values()), None)
            if bit is None:
                raise InputError(f"{MOST_FILTERS} filters at once are the most; clear one of them")
            self.bits[name] = bit
        mark_events(codes, passing, self.failed, self.bits[name])

    def release(self, name: str) -> None:
        """Take a filter away, where there is one of that name."""
        bit = self.bits.pop(name, 0)
        if bit:
            self.failed &= np.uint32(~np.uint32(bit))

    def counts(self, binning: Binning, name: str = "") -> npt.NDArray[np.int64]:
        """Return the events of each group with each code, (groups, all codes), that all filters but that of `name` let pass."""
        return count_events(binning, self.failed, self.bits.get(name, 0), self.group, self.groups)

    def passing(self, name: str = "") -> Bools:
        """Return which events (n,) all filters but that of `name` let pass."""
        mask = np.uint32(~np.uint32(self.bits.get(name, 0)))
        return np.asarray((self.failed & mask) == 0)

    def selected(self) -> npt.NDArray[np.int64]:
        """Return how many events of each group (groups,) all filters let pass."""
        return np.bincount(self.group[self.failed == 0], minlength=self.groups)
