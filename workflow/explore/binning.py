"""Columns in bins: which bin each event is in, found once, and events counted by it, sample by sample.

A bin is a code of two bytes an event, so that counting reads three bytes of each and the marks of the filters, and no number again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["BINS", "Axis", "Binning", "axis_of", "bin_events", "count_events", "mark_events"]

Floats = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint16]
Marks = npt.NDArray[np.uint32]
Bools = npt.NDArray[np.bool_]
Kernel = TypeVar("Kernel", bound=Callable[..., Any])

BINS = 60
"""Bins of a histogram at most; those of whole numbers hold the same number of them each."""
SAMPLED = 100_000
"""Events, evenly spread over the table, that tell how far the tails of a column reach."""
TAIL = 5e-4
"""Share of the events on either side that is a tail."""
LONG = 4.0
"""How much longer than the rest a column is where its tails are left out, in a count beside the plot."""
LARGEST_WHOLE = 2.0**24
"""Whole numbers below are exact in single precision."""
OUTSIDE = 3
"""Codes behind those of the bins: no number, below the range, above it."""


def compiled(kernel: Kernel) -> Kernel:
    """Compile a kernel that holds no lock, and keep it compiled beside this file."""
    return cast("Kernel", njit(cache=True, nogil=True)(kernel))


@dataclass(frozen=True)
class Axis:
    """An axis of a plot: its column, and the edges (bins + 1,) of its bins, all of one width."""

    column: str
    edges: Floats

    @property
    def bins(self) -> int:
        """Return the number of bins."""
        return len(self.edges) - 1

    def touched(self, low: float, high: float) -> Bools:
        """Return which bins (bins,) have a part between low and high: the one that holds it where both are the same."""
        return np.asarray((self.edges[:-1] < high) & (self.edges[1:] > low))

    def at(self, value: float) -> int | None:
        """Return the bin that holds a value, None outside of the axis."""
        if not self.edges[0] <= value <= self.edges[-1]:
            return None
        return min(int(np.searchsorted(self.edges, value, side="right")) - 1, self.bins - 1)


@dataclass(frozen=True)
class Binning:
    """Events in the bins of one axis, or of two.

    codes: (n,), the bin of each event, of two axes the first one's bin times the second one's number and the second one's; then come
    the codes of what is in no bin: no number in an axis, below the first axis (of two: outside of either), above it.
    """

    axes: tuple[Axis, ...]
    codes: Codes

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the number of bins of each axis."""
        return tuple(axis.bins for axis in self.axes)

    @property
    def bins(self) -> int:
        """Return the number of bins."""
        return int(np.prod(self.shape))

    @property
    def all_codes(self) -> int:
        """Return the number of codes."""
        return self.bins + OUTSIDE


def axis_of(column: str, values: Single, *, bins: int = BINS, span: tuple[float, float] | None = None) -> Axis:
    """Return the axis of a column (n,): over all its numbers, or without its tails where these are long, or over a span.

    Bins of whole numbers begin and end half-way between them. A column without a number has one bin from 0 to 1.
    """
    known = values[:: max(1, len(values) // SAMPLED)]
    known = known[np.isfinite(known)]
    if not len(known):
        known = values[np.isfinite(values)]
    if not len(known):
        return Axis(column, np.array([0.0, 1.0]))
    low, high = full_range(values) if span is None else span
    if span is None:
        first, last = (float(q) for q in np.quantile(known.astype(np.float64), [TAIL, 1 - TAIL]))
        if last > first and high - low > LONG * (last - first):
            margin = 0.1 * (last - first)
            low, high = max(low, first - margin), min(high, last + margin)
    if np.array_equal(known, np.round(known)) and high - low < LARGEST_WHOLE:
        low, high = np.floor(low + 0.5), max(np.ceil(high - 0.5), np.floor(low + 0.5))
        width = np.ceil((high - low + 1) / bins)
        return Axis(column, low - 0.5 + width * np.arange(np.ceil((high - low + 1) / width) + 1))
    if not high > low:
        margin = max(0.5, abs(low) * 1e-3)
        low, high = low - margin, high + margin
    return Axis(column, np.linspace(low, high, bins + 1))


def full_range(values: Single) -> tuple[float, float]:
    """Return the smallest and the largest finite number of a column that has one."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if not (np.isfinite(low) and np.isfinite(high)):
        finite = values[np.isfinite(values)]
        low, high = float(finite.min()), float(finite.max())
    return low, high


def bin_events(axes: tuple[Axis, ...], values: tuple[Single, ...]) -> Binning:
    """Return events in the bins of one axis or two; values: a column (n,) for each."""
    codes = np.empty(len(values[0]), dtype=np.uint16)
    find_bins(values[0], axes[0].edges, codes)
    if len(axes) > 1:
        second = np.empty(len(codes), dtype=np.uint16)
        find_bins(values[1], axes[1].edges, second)
        join_bins(codes, second, axes[0].bins, axes[1].bins)
    return Binning(axes, codes)


def count_events(
    binning: Binning, failed: Marks, own: int, group: npt.NDArray[np.uint8], groups: int
) -> npt.NDArray[np.int64]:
    """Return how many events of each group have each code, (groups, all codes), of those that all filters but `own` let pass.

    failed: (n,), a bit for each filter that an event fails; own: the bits that do not count; group: (n,).
    """
    counts = np.zeros((groups, binning.all_codes), dtype=np.int64)
    count_codes(binning.codes, failed, np.uint32(~np.uint32(own)), group, counts)
    return counts


def mark_events(codes: Codes, passing: Bools, failed: Marks, bit: int) -> None:
    """Set a filter's bit of the events (n,) whose code does not pass, and clear it of the others; passing: (codes,)."""
    mark_codes(codes, passing, failed, np.uint32(bit))


@compiled
def find_bins(values: Single, edges: Floats, codes: Codes) -> None:
    """Fill the bin of each value (n,), as numpy.histogram finds it for these edges; behind the bins: no number, below, above."""
    bins = len(edges) - 1
    low, high = edges[0], edges[bins]
    scale = bins / (high - low)
    for i in range(len(values)):
        value = np.float64(values[i])
        if value < low:
            codes[i] = bins + 1
        elif value > high:
            codes[i] = bins + 2
        elif not np.isnan(value):
            at = min(int((value - low) * scale), bins - 1)
            if value < edges[at]:
                at -= 1
            elif at < bins - 1 and value >= edges[at + 1]:
                at += 1
            codes[i] = at
        else:
            codes[i] = bins


@compiled
def join_bins(codes: Codes, second: Codes, bins: int, more: int) -> None:
    """Turn the bins of a first axis and a second one into those of the plane, in place of the first."""
    for i in range(len(codes)):
        a, b = codes[i], second[i]
        if a == bins or b == more:
            codes[i] = bins * more
        elif a > bins or b > more:
            codes[i] = bins * more + 1
        else:
            codes[i] = a * more + b


@compiled
def count_codes(
    codes: Codes, failed: Marks, mask: np.uint32, group: npt.NDArray[np.uint8], counts: npt.NDArray[np.int64]
) -> None:
    """Count the codes of events whose marks are none of the mask's."""
    for i in range(len(codes)):
        if failed[i] & mask == 0:
            counts[group[i], codes[i]] += 1


@compiled
def mark_codes(codes: Codes, passing: Bools, failed: Marks, bit: np.uint32) -> None:
    """Set a bit where a code does not pass, and clear it where it does."""
    for i in range(len(codes)):
        if passing[codes[i]]:
            failed[i] &= ~bit
        else:
            failed[i] |= bit
