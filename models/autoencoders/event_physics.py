"""What a decoder's numbers mean as events, compiled: pT, eta, phi, E and category of objects, put right and counted.

One pass over the rows, without an array between: the exponential, the angle of a point of the circle, E no smaller than the momentum, objects outside of the acceptance left out,
and the objects of each class by falling pT. What was wrong before is counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["COUNTED", "physical_events"]

Function = TypeVar("Function", bound=Callable[..., Any])
Single = npt.NDArray[np.float32]
COUNTED = ("events", "objects", "unordered", "below_momentum", "outside", "empty")
"""What is counted, in order."""
HALF = 0.5  # of an indicator
WITH_ENERGY = 5  # numbers of an object that has one
LN_MOST = 20.0  # of a pT in GeV: what is above is outside anyway
ROUNDING = 1e-3  # relative, that an energy may lie below the momentum: as of events that are trained on


def compiled(function: Function) -> Function:
    """Compile a function with numba, kept between runs."""
    return cast("Function", numba.njit(cache=True, nogil=True, error_model="numpy")(function))


@compiled
def kind_of(row: Single, begin: int, stop: int, first: int, category: npt.NDArray[np.int64], listed: bool) -> int:
    """Return the category of the largest of the indicators begin:stop of a row, of one indicator alone 1 where it is above one half; 0 is an empty slot."""
    if not listed:
        return 1 if row[begin] > HALF else 0
    best = begin
    for mark in range(begin + 1, stop):
        if row[mark] > row[best]:
            best = mark
    return int(category[best - first])


@compiled
def place_of(event: Single, first: int, end: int, pt: float) -> int:
    """Return where an object of some pT goes among those in first:end, which are sorted, and move the softer ones on."""
    place = end
    while place > first and event[place - 1, 0] < pt:
        for k in range(event.shape[1]):
            event[place, k] = event[place - 1, k]
        place -= 1
    return place


@compiled
def physical_events(
    rows: Single,
    marks: npt.NDArray[np.int64],
    category: npt.NDArray[np.int64],
    always: npt.NDArray[np.bool_],
    fixed: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    least: Single,
    edge: Single,
    found: Single,
    good: npt.NDArray[np.bool_],
    counts: npt.NDArray[np.int64],
) -> None:
    """Fill events (n, slots, 3 or 5) of decoded rows (n, numbers), and whether each has an object (n,); add to the counts of COUNTED.

    A row has the numbers of all slots in their units, 4 or 5 each (ln pT, eta, a point of the circle, ln(E/p)), then the indicators of slot s at marks[s]:marks[s + 1], of
    the categories `category`; a slot without any is filled where `always` says so, with its `fixed` category. groups: the first slot of each
    class and the number of slots; the first class is missing momentum, which has no acceptance and is no object, unless it is empty. least, edge: (slots, 8) pT that
    an object of a category needs to have more than, and |eta| less than.
    """
    numbers = found.shape[2]
    kinematics = 5 if numbers == WITH_ENERGY else 4
    for event in range(len(rows)):
        row = rows[event]
        unordered: bool = False
        objects = 0
        for group in range(len(groups) - 1):
            first, last = groups[group], groups[group + 1]
            end = first
            previous = np.float32(np.inf)
            for slot in range(first, last):
                kind = fixed[slot]
                if marks[slot + 1] > marks[slot]:
                    kind = kind_of(row, marks[slot], marks[slot + 1], marks[0], category, numbers == WITH_ENERGY)
                if not (always[slot] or kind > 0):
                    previous = np.float32(-1.0)  # whatever follows is out of order
                    continue
                at = slot * kinematics
                pt = math.exp(min(row[at], np.float32(LN_MOST)))
                eta = row[at + 1]
                if group > 0:
                    objects += 1
                    unordered = bool(unordered or pt > previous)
                    previous = np.float32(pt)
                    counts[3] += numbers == WITH_ENERGY and row[at + 4] < -ROUNDING
                    of = kind if numbers == WITH_ENERGY else 0
                    if not (pt > least[slot, of] and abs(eta) < edge[slot, of]):
                        counts[4] += 1
                        continue
                place = place_of(found[event], first, end, pt)
                found[event, place, 0] = pt
                found[event, place, 1] = eta
                found[event, place, 2] = math.atan2(row[at + 3], row[at + 2])
                if numbers == WITH_ENERGY:
                    above = row[at + 4]
                    grown = math.exp(eta)
                    momentum = np.float32(HALF) * pt * (grown + np.float32(1) / grown)
                    found[event, place, 3] = momentum * math.exp(above) if above > 0 else momentum
                    found[event, place, 4] = kind
                end += 1
            for slot in range(end, last):
                for k in range(numbers):
                    found[event, slot, k] = 0
            if group > 0:
                good[event] = good[event] or end > first
        counts[0] += 1
        counts[1] += objects
        counts[2] += unordered
        counts[5] += not good[event]
