"""Whole events as rows of numbers that a network can learn: logarithms of momenta, angles as points of a circle, categories as indicators, and how many objects there are.

An event is a set of objects, (slots, 3) of pT, eta and phi, or (slots, 5) with the energy and a category (a whole number from 0 to 7) beside; a slot of pT 0 is
empty. Of each slot the row has ln pT, eta, cos phi and sin phi, with energies ln(E/p) too, and whether it is filled, or of categories one indicator each,
where an empty slot is of category 0. The last number is that of filled slots. Numbers of objects have zero mean and unit variance over the slots
that are filled; indicators stay 0 and 1. Those of an empty slot are zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..distance.clouds import EmptyImageError, NegativePixelError, as_jets
from ..inputs import ScorerError, ShapeError

__all__ = ["CATEGORIES", "EventCoordinates", "as_events"]

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
POLAR, WITH_CATEGORY = 3, 5
CATEGORIES = 8
FEWEST = 50  # filled slots whose mean and spread are taken; a slot that is filled less often has those of all slots
SMALLEST = 1e-6  # of a spread: what varies less is a constant
HALF = 0.5  # of an indicator
ROUNDING = 1e-3  # relative, that an energy may lie below the momentum


def as_events(x: npt.ArrayLike, name: str, *, shape: tuple[int, ...] | None = None) -> Array:
    """Return events (n, slots, 3) of pT, eta and phi, or (n, slots, 5) with energy and category, or say what is wrong with them.

    shape: (slots, numbers) that is expected. Raises ShapeError, NegativePixelError for a pT below 0, ScorerError for an energy below the momentum and a
    category that is none of 0 to 7, EmptyImageError for events without any object, and what `as_jets` raises.
    """
    events = as_jets(x, name=name)
    if events.shape[2] not in {POLAR, WITH_CATEGORY}:
        raise ShapeError(
            f"{name}: has shape {events.shape}; an object is pT, eta, phi, or pT, eta, phi, E, category: (events, slots, 3 or 5)"
        )
    if shape is not None and events.shape[1:] != shape:
        raise ShapeError(f"{name}: events of {events.shape[1:]} numbers, {shape} are expected")
    pt = events[..., 0]
    there = pt > 0
    wrong: list[tuple[Bools, str, type[ScorerError]]] = [(pt < 0, "an object of pT below 0", NegativePixelError)]
    if events.shape[2] == WITH_CATEGORY:
        energy, category = events[..., 3], events[..., 4]
        momentum = pt * np.cosh(events[..., 1])
        known = (category >= 0) & (category < CATEGORIES) & (category == np.rint(category))
        wrong += [
            (there & (energy < (1 - ROUNDING) * momentum), "an object whose energy is below its momentum", ScorerError),
            (there & ~known, f"an object of another category than 0 to {CATEGORIES - 1}", ScorerError),
        ]
    for bad, what, error in wrong:
        rows = bad.any(axis=1)
        if rows.any():
            first = int(np.flatnonzero(rows)[0])
            slot = int(np.flatnonzero(bad[first])[0])
            raise error(
                f"{name}: {rows.sum()} of {len(events)} events have {what}, first event {first}, slot {slot}: {events[first, slot].tolist()}"
            )
    nothing = ~there.any(axis=1)
    if nothing.any():
        first = int(np.flatnonzero(nothing)[0])
        raise EmptyImageError(f"{name}: {nothing.sum()} of {len(events)} events have no object, first {first}")
    return np.where(there[..., None], events, 0.0)


@dataclass(frozen=True)
class EventCoordinates:
    """centre, spread: (slots, k) of the numbers of an object, 4 or 5, spread 0 where a number is the same in all training events; always: (slots,) slots that all of
    them fill; fixed: (slots,) category where it is the same in all training events that fill the slot, else 0; seen: (slots, indicators) which indicators differ
    between them; count: mean and spread of the number of filled slots, (2,)."""

    centre: Array
    spread: Array
    always: Bools
    fixed: Array
    seen: Bools
    count: Array

    def __post_init__(self) -> None:
        slots, indicators = self.seen.shape if self.seen.ndim == 2 else (0, 0)
        kinematics = self.centre.shape[1] if self.centre.ndim == 2 else 0
        if (kinematics, indicators) not in {(4, 1), (5, CATEGORIES)} or (
            self.centre.shape,
            self.spread.shape,
            self.always.shape,
            self.fixed.shape,
            self.count.shape,
        ) != ((slots, kinematics), (slots, kinematics), (slots,), (slots,), (2,)):
            shapes = ", ".join(f"{name} {value.shape}" for name, value in vars(self).items())
            raise ScorerError(f"coordinates of shapes that do not fit together: {shapes}")
        numbers = np.concatenate([self.centre.ravel(), self.spread.ravel(), self.count])
        if not np.isfinite(numbers).all() or (self.spread < 0).any() or self.count[1] <= 0:
            raise ScorerError("coordinates: centres and spreads are finite numbers, and no spread is below 0")
        if not np.isin(self.fixed, np.arange(CATEGORIES)).all():
            raise ScorerError(f"coordinates: a category is none of 0 to {CATEGORIES - 1}")

    @classmethod
    def of(cls, events: Array) -> EventCoordinates:
        """Return the coordinates of training events, as `as_events` gives them."""
        there, numbers = events[..., 0] > 0, kinematics_of(events)
        pooled = numbers[there]
        centre = np.tile(pooled.mean(axis=0), (events.shape[1], 1))
        spread = np.tile(pooled.std(axis=0), (events.shape[1], 1))
        for slot in range(events.shape[1]):
            own = numbers[there[:, slot], slot]
            if len(own) >= FEWEST:
                centre[slot], spread[slot] = own.mean(axis=0), own.std(axis=0)
        varies = spread > SMALLEST * np.maximum(1.0, np.abs(centre))
        marks = indicators_of(events)
        seen = np.asarray(np.ptp(marks, axis=0) > 0)
        count = there.sum(axis=1)
        always, fixed = np.asarray(there.all(axis=0)), np.zeros(events.shape[1])
        if events.shape[2] == WITH_CATEGORY:
            told = ~seen.any(axis=1)
            # of missing momentum, whose category is that of an empty slot, nothing tells the rare event that has none
            always |= told & there.any(axis=0)
            fixed[told] = events[0, told, 4]
        return cls(
            centre,
            np.where(varies, spread, 0.0),
            always,
            fixed,
            seen,
            np.array([count.mean(), max(float(count.std()), 1.0)]),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Slots and numbers of an event."""
        return len(self.centre), POLAR if self.centre.shape[1] == POLAR + 1 else WITH_CATEGORY

    @property
    def width(self) -> int:
        """Numbers of a row."""
        return self.centre.size + self.seen.size + 1

    def rows(self, events: Array) -> Array:
        """Return rows (n, width): the numbers of all objects slot by slot, the indicators slot by slot, and the number of filled slots."""
        there = events[..., 0] > 0
        scaled = (kinematics_of(events) - self.centre) / np.where(self.spread > 0, self.spread, 1.0)
        scaled = np.where(there[..., None] & (self.spread > 0), scaled, 0.0)
        marks = np.where(self.seen, indicators_of(events), 0.0)
        count = (there.sum(axis=1) - self.count[0]) / self.count[1]
        return np.concatenate([scaled.reshape(len(events), -1), marks.reshape(len(events), -1), count[:, None]], axis=1)

    def counted(self, events: Array | None = None) -> Bools:
        """Tell which numbers of rows a loss counts: those that vary, (width,); of events, the numbers of empty slots are left out, (n, width)."""
        varies = np.concatenate([(self.spread > 0).ravel(), self.seen.ravel(), [True]])
        if events is None:
            return varies
        there = np.repeat(events[..., 0] > 0, self.centre.shape[1], axis=1)
        others = np.ones((len(events), self.seen.size + 1), dtype=bool)
        return np.asarray(np.concatenate([there, others], axis=1) & varies)

    def events(self, rows: Array) -> Array:
        """Return events (n, slots, numbers) of rows, in the units of the training.

        A slot is filled where its indicator is above one half, or one of a category is larger than that of an empty slot; its category is the
        one of the largest indicator. Slots that all training events fill are filled.
        """
        n, (slots, numbers) = len(rows), self.shape
        kinematics, marks = np.split(rows[:, :-1], [self.centre.size], axis=1)
        values = self.centre + kinematics.reshape(n, slots, -1) * self.spread
        marks = marks.reshape(n, slots, -1)
        pt, eta = np.exp(values[..., 0]), values[..., 1]
        parts = [pt, eta, np.arctan2(values[..., 3], values[..., 2])]
        if numbers == POLAR:
            there = marks[..., 0] > HALF
        else:
            chosen = np.where(self.seen, marks, -np.inf)
            category = np.where(self.seen.any(axis=1), chosen.argmax(axis=2), self.fixed)
            there = category > 0
            parts += [pt * np.cosh(eta) * np.exp(values[..., 4]), category.astype(np.float64)]
        return np.where((there | self.always)[..., None], np.stack(parts, axis=-1), 0.0)


def kinematics_of(events: Array) -> Array:
    """Return ln pT, eta, cos phi, sin phi, and ln(E/p) where there are energies, of every slot, zeros where it is empty, (n, slots, 4 or 5)."""
    there = events[..., 0] > 0
    pt = np.where(there, events[..., 0], 1.0)
    found = [np.log(pt), events[..., 1], np.where(there, np.cos(events[..., 2]), 0.0), np.sin(events[..., 2])]
    if events.shape[2] == WITH_CATEGORY:
        momentum = pt * np.cosh(events[..., 1])
        found.append(np.log(np.where(there, np.maximum(events[..., 3], momentum) / momentum, 1.0)))
    return np.stack(found, axis=-1)


def indicators_of(events: Array) -> Array:
    """Return 1 where a slot is filled, (n, slots, 1), or with categories 1 at the category of each, 0 for an empty slot, (n, slots, 8)."""
    if events.shape[2] == POLAR:
        return np.asarray(events[..., :1] > 0, dtype=np.float64)
    return np.asarray(events[..., 4, None] == np.arange(CATEGORIES), dtype=np.float64)
