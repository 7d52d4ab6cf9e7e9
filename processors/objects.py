"""Events as the objects that a detector reconstructs: missing transverse momentum, electrons, muons and jets, in slots of their class.

The layout is that of the data of arXiv:2107.02157: MET, 4 electrons, 4 muons and 10 jets, each pT, eta and phi. Objects are those of
the file: no jet is clustered, no lepton is told from a jet that it is in, and nothing is identified.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..table import IDENTITY, Observable
from .chunks import ROW, Columns, Made, Representation, completed_columns
from .events import (
    GENERATED,
    LARGEST_ANGLE,
    LARGEST_PT,
    MISSING,
    OBJECTS,
    EventSource,
    flat_branch,
    jagged_branch,
    require_branches,
    told_apart,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = [
    "NoObjectsError",
    "ObjectSource",
    "Objects",
    "StoredObjects",
    "object_slots",
    "object_source",
    "read_objects",
]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Single = npt.NDArray[np.float32]

KINEMATICS = ("pt", "eta", "phi")
SHORT = {"Electron": "e", "Muon": "mu", "Jet": "jet"}
"""What an object is called in the names of columns."""
TWO_PI = 2 * np.pi
LARGEST_PHI = np.nextafter(np.float32(np.pi), np.float32(0))
"""The largest single-precision number below pi: pi itself is rounded up, out of [-pi, pi]."""
MOST_SLOTS = 1000
SET_AXES = 3  # of a column of sets: row, slot, number


class NoObjectsError(InputError):
    """A tree in which no reconstructed objects are stored."""


@dataclass(frozen=True, kw_only=True)
class ObjectSource(EventSource):
    """Where one file keeps its objects: `Electron_*`, `Muon_*`, `Jet_*`, and the missing transverse momentum.

    met: the name of the latter; counters: which of the branches `nElectron`, `nMuon` and `nJet` there are.
    """

    met: str
    counters: tuple[str, ...] = ()

    @property
    def branches(self) -> tuple[str, ...]:
        """Every branch that is read, and no other."""
        stored = (f"{name}_{k}" for name in OBJECTS for k in KINEMATICS)
        return (*self.of_event, *self.counters, *stored, f"{self.met}_pt", f"{self.met}_phi")


@dataclass(frozen=True)
class StoredObjects:
    """The objects of one class of n events, flat: event i owns the slice offsets[i]:offsets[i+1]; pt: (m,) GeV; eta, phi: (m,)."""

    offsets: Int
    pt: Float
    eta: Float
    phi: Float

    @property
    def event(self) -> Int:
        """The event of each object (m,)."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def select(self, keep: npt.NDArray[np.bool_]) -> StoredObjects:
        """Return the objects where `keep` (m,) holds."""
        counts = np.bincount(self.event[keep], minlength=len(self.offsets) - 1)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return StoredObjects(offsets, self.pt[keep], self.eta[keep], self.phi[keep])


@dataclass(frozen=True, kw_only=True, repr=False)
class Objects(Representation):
    """An event as a set of its objects, `objects`: (n, 1 + slots, 3) float32 of pT (GeV), eta and phi; 19 slots unless others are asked for.

    Slot 0 is the missing transverse momentum, whose eta is 0; then come max_electrons electrons, max_muons muons and max_jets
    jets, each class by falling pT; empty slots are zeros. phi lies in [-pi, pi]. An object counts with pT above min_lepton_pt or
    min_jet_pt (GeV) and |eta| below electron_eta, muon_eta or jet_eta. Of more objects than slots the softest are left out,
    and such events are counted; an event without any object but missing momentum is lost.

    Beside the set stand `met`, `ht` (the sum of the jets' pT), `pt_e_1`, `pt_mu_1` and `pt_jet_1` (GeV, 0 where there is none), and how
    many electrons, muons and jets count, `n_e`, `n_mu` and `n_jet`. No mass is hunted in unless a column is named: hunt: count.
    """

    name: ClassVar[str] = "objects"
    kind: ClassVar[str] = "sets"

    observable: Observable | None = None
    max_electrons: int = 4
    max_muons: int = 4
    max_jets: int = 10
    min_lepton_pt: float = 3.0
    min_jet_pt: float = 15.0
    electron_eta: float = 3.0
    muon_eta: float = 2.1
    jet_eta: float = 4.0

    def __post_init__(self) -> None:
        for name in ("max_electrons", "max_muons", "max_jets"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value <= MOST_SLOTS:
                raise InputError(f"{name}: {value!r} is not a whole number from 0 to {MOST_SLOTS}")
        if not sum(self.slots.values()):
            raise InputError("max_electrons: 0, and so are max_muons and max_jets: an event needs a slot for an object")
        for name in ("min_lepton_pt", "min_jet_pt", "electron_eta", "muon_eta", "jet_eta"):
            value = getattr(self, name)
            of_pt = name.startswith("min")
            least, most = (0.0, LARGEST_PT) if of_pt else (np.nextafter(0.0, 1.0), LARGEST_ANGLE)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                wanted = f"0 to {LARGEST_PT:g} GeV" if of_pt else f"above 0 and up to {LARGEST_ANGLE:g}"
                raise InputError(f"{name}: {value!r}; a number {wanted} is expected")
        super().__post_init__()

    @property
    def slots(self) -> dict[str, int]:
        """How many slots each class of objects has."""
        return {"Electron": self.max_electrons, "Muon": self.max_muons, "Jet": self.max_jets}

    @property
    def acceptance(self) -> dict[str, tuple[float, float]]:
        """What the pT (GeV) of each class of objects has to be above, and |eta| below."""
        return {
            "Electron": (self.min_lepton_pt, self.electron_eta),
            "Muon": (self.min_lepton_pt, self.muon_eta),
            "Jet": (self.min_jet_pt, self.jet_eta),
        }

    @property
    def inputs(self) -> tuple[str, ...]:
        """The set of objects."""
        return ("objects",)

    @property
    def scalars(self) -> tuple[str, ...]:
        """Names of the columns that hold one number a row."""
        names = SHORT.values()
        return ("met", "ht", *(f"pt_{name}_1" for name in names), *(f"n_{name}" for name in names))

    @property
    def usual_observable(self) -> str:
        """The missing transverse momentum."""
        return "met"

    def observed(self, name: str) -> Observable:
        """Return the observable of a column: momenta in GeV, numbers of objects without a unit."""
        return Observable.of(name, "" if name.startswith("n_") else "GeV")

    def source_of(self, branches: Collection[str], where: str) -> EventSource:
        """Find the objects among the names of a tree's branches."""
        return object_source(branches, where)

    def columns(self, events: Any) -> tuple[Columns, dict[str, int]]:
        """Return the columns of the events that are kept, beginning with ROW, and the cutflow of a chunk of events."""

        def read(source: Any) -> Made:
            stored, met, phi, unphysical = read_objects(events, source)
            event_id = told_apart(events, source, functools.partial(_content, stored, met, phi))
            return lambda: (*self.made(stored, met, phi, unphysical), event_id)

        return completed_columns(events, self, read)

    def made(
        self, stored: Mapping[str, StoredObjects], met: Float, phi: Float, unphysical: npt.NDArray[np.bool_]
    ) -> tuple[Columns, dict[str, int]]:
        """Return the columns of events with an object, with their ROW, and the cutflow up to there.

        stored: of each class; met, phi: (n,) of the missing transverse momentum; unphysical: (n,) events to be left out.
        """
        inside = {}
        for name, (least, edge) in self.acceptance.items():
            own = stored[name]
            inside[name] = own.select((own.pt > least) & (np.abs(own.eta) < edge) & ~unphysical[own.event])
        found, columns = object_slots(inside, met, phi, slots=self.slots)
        filled = sum(columns[f"n_{SHORT[name]}"] for name in OBJECTS if self.slots[name])
        keep = np.flatnonzero(~unphysical & (filled > 0))
        cutflow = {
            "read": len(met),
            "unphysical objects": int(unphysical.sum()),
            "no object": int((~unphysical).sum()) - len(keep),
        }
        told = {name: columns[name][keep] for name in self.scalars}
        return {ROW: keep, **told, "objects": found[keep]}, cutflow

    def usable(self, columns: Mapping[str, npt.NDArray[Any]]) -> tuple[npt.NDArray[np.bool_], dict[str, int]]:
        """Tell which rows (n,) a search can use, and count the others: those without an object, or with one of negative pT, too."""
        found, lost = super().usable(columns)
        sets = columns["objects"]
        if sets.ndim != SET_AXES:
            return found, lost
        pt = sets[..., 0]
        for why, bad in (
            ("no object", ~(pt[:, 1:] != 0).any(axis=1)),
            ("an object of negative pT", (pt < 0).any(axis=1)),
        ):
            rows = found & bad
            if rows.any():
                found, lost[why] = found & ~rows, int(rows.sum())
        return found, lost

    def noted(self, columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, int]:
        """Return how many events have more objects of a class than slots: "truncated_e", "truncated_mu" and "truncated_jet"."""
        return {
            f"truncated_{SHORT[name]}": int((columns[f"n_{SHORT[name]}"] > most).sum())
            for name, most in self.slots.items()
        }

    def warning(self, noted: Mapping[str, int], *, rows: int) -> str:
        """Return how many events lost objects, where any did."""
        words = {"Electron": "electrons", "Muon": "muons", "Jet": "jets"}
        told = [
            f"{noted[f'truncated_{SHORT[name]}']} have more than {most} {words[name]}"
            for name, most in self.slots.items()
            if noted.get(f"truncated_{SHORT[name]}")
        ]
        return f"of {rows} events {', '.join(told)}; the softest are left out" if told else ""


def object_source(branches: Collection[str], where: str) -> ObjectSource:
    """Find the objects among the names of a tree's branches; `where` begins the message of an error.

    Raises InputError for a missing branch, and NoObjectsError where there is no object at all.
    """
    require_branches(IDENTITY[1:], branches, where)
    if not any(f"{name}_pt" in branches for name in OBJECTS):
        raise NoObjectsError(
            f"{where}: no branch 'Electron_pt', 'Muon_pt' or 'Jet_pt', so no objects: representation objects takes NanoAOD, and the "
            "files of hunch simulate event_... and hunch convert adc2021"
        )
    require_branches((f"{name}_{k}" for name in OBJECTS for k in KINEMATICS), branches, where)
    met = next((name for name in MISSING if f"{name}_pt" in branches), MISSING[0])
    require_branches((f"{met}_pt", f"{met}_phi"), branches, where)
    return ObjectSource(
        met=met,
        counters=tuple(f"n{name}" for name in OBJECTS if f"n{name}" in branches),
        truth="truth_signal" in branches,
        gen_weight="genWeight" in branches,
        generated=any(name.startswith(GENERATED) for name in branches),
    )


def read_objects(
    events: Any, source: ObjectSource
) -> tuple[dict[str, StoredObjects], Float, Float, npt.NDArray[np.bool_]]:
    """Read the objects of a chunk of events: those of each class as they are stored, pT and phi of the missing momentum (n,), and which
    events (n,) are unphysical.

    An object of pT 0 is none. An event is unphysical where an object is not finite, has negative pT or the values of a placeholder.
    Raises InputError where a branch is damaged, and where the branches say different numbers of objects.
    """
    met, phi = (np.asarray(flat_branch(events, f"{source.met}_{k}"), dtype=np.float64) for k in ("pt", "phi"))
    unphysical = ~_physical(met, np.zeros_like(met), phi)
    stored = {}
    for name in OBJECTS:
        counter = f"n{name}"
        known = flat_branch(events, counter) if counter in source.counters and counter in events.fields else None
        counts, pt = jagged_branch(events, f"{name}_pt", counts=known)
        eta, azimuth = (jagged_branch(events, f"{name}_{k}", counts=counts)[1] for k in ("eta", "phi"))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        own = StoredObjects(offsets, pt, eta, azimuth).select(pt != 0)
        unphysical[own.event[~_physical(own.pt, own.eta, own.phi)]] = True
        stored[name] = own
    return stored, met, phi, unphysical


def _physical(pt: Float, eta: Float, phi: Float) -> npt.NDArray[np.bool_]:
    """Tell which momenta (m,) a particle can have; comparisons with NaN are false."""
    return np.asarray((pt >= 0) & (pt <= LARGEST_PT) & (np.maximum(np.abs(eta), np.abs(phi)) <= LARGEST_ANGLE))


def _content(stored: Mapping[str, StoredObjects], met: Float, phi: Float) -> Float:
    """Return what tells events of simulation apart, (n, 8): missing momentum, and of each class how many are stored and their pT's sum."""
    told: list[npt.NDArray[Any]] = [met, phi]
    for own in stored.values():
        told += [np.diff(own.offsets), np.bincount(own.event, weights=own.pt, minlength=len(met))]
    return np.stack(told, axis=1).astype(np.float64)


def object_slots(
    stored: Mapping[str, StoredObjects], met: Float, phi: Float, *, slots: Mapping[str, int]
) -> tuple[Single, dict[str, npt.NDArray[Any]]]:
    """Return events as slots of pT (GeV), eta and phi, (n, 1 + slots, 3) float32, and their numbers by name, each (n,).

    stored: the objects of each class that count; met, phi: (n,) of the missing transverse momentum; slots: how many each class has.
    Of the same pT the one that is stored first comes first. The numbers are those of `Objects.scalars`.
    """
    n = len(met)
    found = np.zeros((n, 1 + sum(slots.values()), 3))
    found[:, 0, 0], found[:, 0, 2] = met, phi
    numbers: dict[str, npt.NDArray[Any]] = {"met": met}
    first = 1
    for name, most in slots.items():
        own, short = stored[name], SHORT[name]
        event, counts = own.event, np.diff(own.offsets)
        order = np.lexsort(
            (-own.pt, event)
        )  # stable: event after event as before, so `event` holds for the sorted ones too
        place = np.arange(len(event)) - own.offsets[:-1][event]
        kept = place < most
        rows, at, objects = event[kept], first + place[kept], order[kept]
        for i, values in enumerate((own.pt, own.eta, own.phi)):
            found[rows, at, i] = values[objects]
        numbers[f"n_{short}"] = counts
        leading = np.zeros(n)
        leading[event[place == 0]] = own.pt[order[place == 0]]
        numbers[f"pt_{short}_1"] = leading
        if name == "Jet":
            numbers["ht"] = np.bincount(event, weights=own.pt, minlength=n)
        first += most
    found[:, :, 2] -= TWO_PI * np.rint(found[:, :, 2] / TWO_PI)
    single = found.astype(np.float32)
    single[:, :, 2] = np.clip(single[:, :, 2], -LARGEST_PHI, LARGEST_PHI)
    return single, numbers
