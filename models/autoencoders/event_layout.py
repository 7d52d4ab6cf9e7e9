"""Which slots of an event belong together and what an object in them has to have, and what can be asked of an event: `met`, `ht`, `pt_jet_1`, `dphi_met_1`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import shown
from ..inputs import ScorerError
from .event_coordinates import CATEGORIES, EventCoordinates

__all__ = ["EventLayout", "Window", "window_of"]

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
NAMED = {"e": (3, 4), "mu": (5, 6), "jet": (1, 2), "b": (2,), "photon": (7,)}
"""What objects are called -> their categories."""
CLASSES = {"e": "max_electrons", "mu": "max_muons", "jet": "max_jets", "photon": "max_photons"}
"""The classes of the representation `objects` in the order of their slots -> the setting that tells how many."""
CUTS = {
    "e": ("min_lepton_pt", "electron_eta"),
    "mu": ("min_lepton_pt", "muon_eta"),
    "jet": ("min_jet_pt", "jet_eta"),
    "photon": ("min_photon_pt", "photon_eta"),
}
"""The settings of its acceptance: pT above, |eta| below."""
FARTHEST = 10.0  # |eta| of an object whose acceptance nobody says
REFERENCE = rf"met|\d+|(?:{'|'.join(NAMED)})_\d+"
QUANTITY = re.compile(rf"(?P<what>pt|eta|dphi)_(?P<first>{REFERENCE})(?:_(?P<second>{REFERENCE}))?")
PLAIN = ("met", "ht", "n_objects", *(f"n_{name}" for name in NAMED))
ALLOWED = f"{', '.join(PLAIN)}, pt_2, pt_jet_1, eta_mu_1, dphi_1_2, dphi_met_jet_1 and the like ({', '.join(NAMED)}, or the number among all objects)"


@dataclass(frozen=True)
class EventLayout:
    """groups: the first slot of each class of objects, and the number of slots; the first class is the missing momentum, and empty where there is none. classes:
    class -> its number, of the layout in classes; none in a list. least, edge: (slots, 8) pT in GeV that an object of a category needs to have more than, |eta|
    less than. listed: whether objects have categories.
    """

    groups: tuple[int, ...]
    classes: Mapping[str, int]
    least: Array
    edge: Array
    listed: bool

    @classmethod
    def of(cls, coordinates: EventCoordinates, made: Mapping[str, Any]) -> EventLayout:
        """Return the layout of what was trained on; made: the metadata of the table, where it was one of the representation `objects`.

        Without them a list has missing momentum first where all events have an object of category 0 there, and other events have objects without an order
        or acceptance, all in classes of their own. Raises ScorerError for settings that are none of the representation.
        """
        slots, numbers = coordinates.shape
        listed = numbers > 3
        settings = made.get("settings") if made.get("representation") == "objects" else None
        least, edge = np.zeros((slots, CATEGORIES)), np.full((slots, CATEGORIES), FARTHEST)
        if not isinstance(settings, Mapping):
            missing = listed and not coordinates.fixed[0] and not coordinates.seen[0].any()
            groups = (0, 1, slots) if missing else ((0, 0, slots) if listed else (0, 0, *range(1, slots + 1)))
            return cls(groups, {}, least, edge, listed)
        try:
            cuts = {name: tuple(float(settings[key]) for key in keys) for name, keys in CUTS.items()}
            counts = {} if listed else {name: int(settings[key]) for name, key in CLASSES.items()}
        except (KeyError, TypeError, ValueError) as error:
            raise ScorerError(f"inputs_made: no settings of the representation objects: {shown(settings)}") from error
        if listed:
            for name, (pt, eta) in cuts.items():
                least[:, NAMED[name]], edge[:, NAMED[name]] = pt, eta
            return cls((0, 1, slots), {}, least, edge, listed)
        counts = {name: count for name, count in counts.items() if count}
        groups = (0, *np.cumsum([1, *counts.values()]).tolist())
        if groups[-1] != slots:
            raise ScorerError(f"inputs_made: settings of {groups[-1]} slots, the events have {slots}")
        for i, name in enumerate(counts):
            own = slice(groups[i + 1], groups[i + 2])
            least[own], edge[own] = cuts[name]
        return cls(groups, {name: i + 1 for i, name in enumerate(counts)}, least, edge, listed)

    @property
    def has_missing(self) -> bool:
        """Whether slot 0 is missing momentum."""
        return self.groups[1] == 1

    def places(self, events: npt.NDArray[Any], name: str) -> Bools:
        """Tell which slots (n, slots) of events hold an object called so, any object with "" as its name; raises ScorerError for one that the layout does not know."""
        there = np.array(events[..., 0] > 0)
        there[:, : self.groups[1]] = False
        if not name:
            return there
        if self.listed:
            return there & np.isin(events[..., 4], NAMED[name])
        if name not in self.classes:
            raise ScorerError(f"{name}: no class of these events; they have {', '.join(self.classes) or 'none'}")
        first, last = self.groups[self.classes[name]], self.groups[self.classes[name] + 1]
        there[:, :first] = there[:, last:] = False
        return there

    def quantity(self, events: npt.NDArray[Any], name: str) -> Array:
        """Return a named quantity (n,) of events (n, slots, 3 or 5), NaN where an object is not there.

        `met`, `ht` (the sum of the jets' pT), `n_objects`, `n_jet` and so on; `pt_`, `eta_` and an object, `dphi_` and two of them (0 to pi). An object is `met`, a
        number among all by falling pT from 1, or `jet_1`. Raises ScorerError for another name.
        """
        if name in PLAIN:
            if name == "met":
                return np.asarray(self._object(events, "met")[0])
            if name == "ht":
                jets = np.where(self.places(events, "jet"), events[..., 0], 0.0)
                return np.asarray(jets.sum(axis=1, dtype=np.float64))
            there = self.places(events, name.removeprefix("n_").replace("objects", ""))
            return np.asarray(there.sum(axis=1), dtype=np.float64)
        found = QUANTITY.fullmatch(name)
        if found is None or (found["what"] == "dphi") != (found["second"] is not None):
            raise ScorerError(f"no quantity {name!r} of an event; allowed: {ALLOWED}")
        first = self._object(events, found["first"])
        if found["what"] == "dphi":
            apart = np.abs(first[2] - self._object(events, found["second"])[2])
            return np.asarray(np.minimum(apart, 2 * np.pi - apart))
        return np.asarray(first[0 if found["what"] == "pt" else 1])

    def _object(self, events: npt.NDArray[Any], name: str) -> Array:
        """Return pT, eta and phi (3, n) of one object, NaN where it is not there."""
        if name == "met":
            if not self.has_missing:
                raise ScorerError("met: these events have no missing momentum, or nothing says so")
            return np.asarray(events[:, 0, :3].T, dtype=np.float64)
        kind, _, number = name.rpartition("_")
        if int(number) < 1:
            raise ScorerError(f"{name}: objects are counted from 1")
        found = np.full((3, len(events)), np.nan)
        if int(number) > events.shape[1]:
            return found
        there = self.places(events, kind)
        if self.listed or kind:
            which = there & (np.cumsum(there, axis=1) == int(number))  # by falling pT as they stand
            rows, slots = np.nonzero(which)
        else:
            order = np.argsort(np.where(there, -events[..., 0], np.inf), axis=1, kind="stable")[:, int(number) - 1]
            rows = np.flatnonzero(there[np.arange(len(events)), order])
            slots = order[rows]
        found[:, rows] = events[rows, slots, :3].T
        return found


@dataclass(frozen=True)
class Window:
    """Events with lowest <= quantity <= highest."""

    name: str
    lowest: float
    highest: float

    def __str__(self) -> str:
        """Return the window as it is written."""
        return f"{self.name}={self.lowest:g}:{self.highest:g}"

    def inside(self, values: Array, *, margin: float = 0.0) -> Bools:
        """Tell which values (n,) lie in the window, or as near to it as the margin; NaN does not."""
        return np.asarray((values >= self.lowest - margin) & (values <= self.highest + margin))


def window_of(name: str, limits: Any) -> Window:
    """Return the window of a quantity; raises ScorerError for limits that are no two numbers in order."""
    try:
        lowest, highest = (float(value) for value in limits)
    except (TypeError, ValueError) as error:
        raise ScorerError(f"where: {name}: {shown(limits)}; two numbers are expected, the lower one first") from error
    if not lowest < highest:  # NaN is neither
        raise ScorerError(f"where: {name}: {lowest:g} to {highest:g}; two numbers are expected, the lower one first")
    return Window(name, lowest, highest)
