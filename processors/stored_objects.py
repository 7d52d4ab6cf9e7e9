"""The objects of whole events as a file stores them: which branches hold them, and those of one chunk in one uniform form."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..table import IDENTITY
from .events import (
    GENERATED,
    LARGEST_ANGLE,
    LARGEST_PT,
    MISSING,
    OBJECTS,
    PHOTON,
    EventSource,
    flat_branch,
    jagged_branch,
    require_branches,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["NoObjectsError", "ObjectSource", "StoredObjects", "event_content", "object_source", "read_objects"]

log = logging.getLogger(__name__)

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

KINEMATICS = ("pt", "eta", "phi")
LEPTONS = ("Electron", "Muon")
BTAG = "Jet_btag"
"""The branch of hunch's own event files that tells b-jets."""


class NoObjectsError(InputError):
    """A tree in which no reconstructed objects are stored."""


@dataclass(frozen=True, kw_only=True)
class ObjectSource(EventSource):
    """Where one file keeps its objects: `Electron_*`, `Muon_*`, `Jet_*`, `Photon_*` where it is read, and the missing transverse momentum.

    met: the name of the latter; counters: which of the branches `nElectron`, `nMuon`, `nJet` and `nPhoton` there are; collections: what is read;
    more: what is read of objects beside pt, eta and phi: (collection, field of `StoredObjects`, branch).
    """

    met: str
    counters: tuple[str, ...] = ()
    collections: tuple[str, ...] = OBJECTS
    more: tuple[tuple[str, str, str], ...] = ()

    @property
    def branches(self) -> tuple[str, ...]:
        """Every branch that is read, and no other."""
        stored = (f"{name}_{k}" for name in self.collections for k in KINEMATICS)
        more = (branch for _, _, branch in self.more)
        return (*self.of_event, *self.counters, *stored, *more, f"{self.met}_pt", f"{self.met}_phi")


@dataclass(frozen=True)
class StoredObjects:
    """The objects of one class of n events, flat: event i owns the slice offsets[i]:offsets[i+1]; pt: (m,) GeV; eta, phi: (m,).

    mass (GeV), charge, btag: (m,), None where they are not read.
    """

    offsets: Int
    pt: Float
    eta: Float
    phi: Float
    mass: Float | None = None
    charge: Float | None = None
    btag: Float | None = None

    @property
    def event(self) -> Int:
        """The event of each object (m,)."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def select(self, keep: npt.NDArray[np.bool_]) -> StoredObjects:
        """Return the objects where `keep` (m,) holds."""
        counts = np.bincount(self.event[keep], minlength=len(self.offsets) - 1)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        more = (None if values is None else values[keep] for values in (self.mass, self.charge, self.btag))
        return StoredObjects(offsets, self.pt[keep], self.eta[keep], self.phi[keep], *more)

    def count(self, keep: npt.NDArray[np.bool_] | None = None) -> Int:
        """Return how many objects each event has (n,), or how many of those where `keep` (m,) holds."""
        if keep is None:
            return np.diff(self.offsets)
        return np.bincount(self.event[keep], minlength=len(self.offsets) - 1)


def object_source(
    branches: Collection[str], where: str, *, photons: bool = False, categories: bool = False, btag: str = ""
) -> ObjectSource:
    """Find the objects among the names of a tree's branches; `where` begins the message of an error.

    photons: whether they are read; categories: whether masses, charges of leptons and b-jets are read too, of which only charges have to be there, and
    photons neither: what is absent is said in the log; btag: the branch that tells b-jets, "" for `Jet_btag` where it is. Raises InputError for a
    missing branch, and NoObjectsError where there is no object at all.
    """
    require_branches(IDENTITY[1:], branches, where)
    if not any(f"{name}_pt" in branches for name in OBJECTS):
        raise NoObjectsError(
            f"{where}: no branch 'Electron_pt', 'Muon_pt' or 'Jet_pt', so no objects: representation objects takes NanoAOD, and the "
            "files of hunch simulate event_... and hunch convert adc2021"
        )
    absent = [name for name in (PHOTON,) if photons and categories and f"{name}_pt" not in branches]
    collections = (*OBJECTS, PHOTON) if photons and not absent else OBJECTS
    require_branches((f"{name}_{k}" for name in collections for k in KINEMATICS), branches, where)
    met = next((name for name in MISSING if f"{name}_pt" in branches), MISSING[0])
    require_branches((f"{met}_pt", f"{met}_phi"), branches, where)
    more: list[tuple[str, str, str]] = []
    if categories:
        require_branches((f"{name}_charge" for name in LEPTONS), branches, where)
        more += [(name, "charge", f"{name}_charge") for name in LEPTONS]
        more += [(name, "mass", f"{name}_mass") for name in collections if f"{name}_mass" in branches]
    if btag:
        require_branches((btag,), branches, where)
        more.append(("Jet", "btag", btag))
    elif categories and BTAG in branches:
        more.append(("Jet", "btag", BTAG))
    elif categories:
        absent.append(BTAG)
    if absent:
        told = {PHOTON: "photons", BTAG: "b-jets (btag: BRANCH names what tells them)"}
        log.warning("%s: knows no %s; read without", where, " and no ".join(told[name] for name in absent))
    return ObjectSource(
        met=met,
        counters=tuple(f"n{name}" for name in collections if f"n{name}" in branches),
        collections=collections,
        more=tuple(more),
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
    for name in source.collections:
        counter = f"n{name}"
        known = flat_branch(events, counter) if counter in source.counters and counter in events.fields else None
        counts, pt = jagged_branch(events, f"{name}_pt", counts=known)
        eta, azimuth = (jagged_branch(events, f"{name}_{k}", counts=counts)[1] for k in ("eta", "phi"))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        more = {
            field: jagged_branch(events, branch, counts=counts)[1] for of, field, branch in source.more if of == name
        }
        own = StoredObjects(offsets, pt, eta, azimuth, **more).select(pt != 0)
        good = _physical(own.pt, own.eta, own.phi)
        if own.mass is not None:
            good &= np.abs(own.mass) <= LARGEST_PT
        unphysical[own.event[~good]] = True
        stored[name] = own
    return stored, met, phi, unphysical


def _physical(pt: Float, eta: Float, phi: Float) -> npt.NDArray[np.bool_]:
    """Tell which momenta (m,) a particle can have; comparisons with NaN are false."""
    return np.asarray((pt >= 0) & (pt <= LARGEST_PT) & (np.maximum(np.abs(eta), np.abs(phi)) <= LARGEST_ANGLE))


def event_content(stored: Mapping[str, StoredObjects], met: Float, phi: Float) -> Float:
    """Return what tells events of simulation apart, (n, 8): missing momentum, and of OBJECTS how many are stored and their pT's sum.

    What else is read is no part of it, so that no setting makes another event of one.
    """
    told: list[npt.NDArray[Any]] = [met, phi]
    for name in OBJECTS:
        own = stored[name]
        told += [np.diff(own.offsets), np.bincount(own.event, weights=own.pt, minlength=len(met))]
    return np.stack(told, axis=1).astype(np.float64)
