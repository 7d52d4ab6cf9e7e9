"""Events: which candidates a tree holds, and those of one chunk in one uniform form.

Read are PFNano (`PFCands_*` with `puppiWeight`) and this project's own event files (`PFCands_*`; converted LHC Olympics
files store pt, eta and phi only). NanoAOD v15 is refused: its `PFCand_*` are not all candidates. GeV and radians.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import numpy.typing as npt

from ..errors import InputError, nearest
from ..folds import COLLISIONS_RUN, content_hash, hash_columns, mix
from ..table import IDENTITY
from .damage import READ_ERRORS, told

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

__all__ = [
    "Candidates",
    "EventSource",
    "IncompleteCandidatesError",
    "NoCandidatesError",
    "Source",
    "branch",
    "branch_names",
    "charge_of",
    "flat_branch",
    "jagged_branch",
    "read_candidates",
    "require_branches",
    "same_event",
    "source_of",
    "told_apart",
]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

COLLECTION = "PFCands"
OF_STORED_JETS = "PFCand"
"""The collection of NanoAOD v15, which holds the constituents of stored AK8 jets and no other candidate."""
KINEMATICS = ("pt", "eta", "phi")
GENERATED = ("genWeight", "GenPart_", "Generator_")
"""Branches, or how their names begin, that a file of simulated events has and one of collisions has not."""
OBJECTS = ("Electron", "Muon", "Jet")
"""Collections of reconstructed objects, which `objects` takes (`processors/objects.py`)."""
PHOTON = "Photon"
"""The collection that `objects` takes too where photons are asked for."""
MISSING = ("MET", "PuppiMET", "PFMET")
"""What the missing transverse momentum is called in NanoAOD, the first that a file has is taken; v15 has no MET."""
NESTED = (COLLECTION, OF_STORED_JETS, *OBJECTS, PHOTON, *MISSING, "truth", "GenPart", "Generator")
"""Collections that some schemas put branches into: `PFCands_pt` is the field `pt` of `PFCands` then."""
LARGEST_PT, LARGEST_ANGLE = 1e9, 100.0
"""GeV, and |eta| or |phi|: beyond this a value is a placeholder (-999), no momentum and no direction."""
SHOWN = 5
"""Names of branches that a message lists."""


class NoCandidatesError(InputError):
    """A tree in which no particle-flow candidates are stored."""


class IncompleteCandidatesError(NoCandidatesError):
    """A tree that stores the candidates of some jets alone, from which no other jets can be built."""


@dataclass(frozen=True, kw_only=True)
class EventSource(ABC):
    """What one file stores of an event, whatever is made of it.

    truth, gen_weight: whether `truth_signal` and `genWeight` are stored; generated: whether the file has branches that only
    simulated events have (GENERATED).
    """

    truth: bool
    gen_weight: bool
    generated: bool = False

    @property
    @abstractmethod
    def branches(self) -> tuple[str, ...]:
        """Every branch that is read, and no other."""

    @property
    def of_event(self) -> tuple[str, ...]:
        """The branches that are read of one number an event."""
        return (
            *IDENTITY[1:],
            *(("truth_signal",) if self.truth else ()),
            *(("genWeight",) if self.gen_weight else ()),
        )

    @property
    def counting(self) -> str:
        """How `ntrk` counts: "charged" constituents where the charge is known, else "all"."""
        return "all"


@dataclass(frozen=True, kw_only=True)
class Source(EventSource):
    """Where one file keeps its candidates and what it stores for each.

    collection: branch prefix; has_mass, has_weight: stored or not (no mass means massless); counted: whether the file says
    how many candidates each event has (`nPFCands`);
    charge: the branch that the charge comes from, None when no such branch exists.
    """

    collection: str
    has_mass: bool
    has_weight: bool
    charge: str | None
    counted: bool = False

    @property
    def branches(self) -> tuple[str, ...]:
        """Every branch that is read, and no other."""
        own = (*KINEMATICS, *(("mass",) if self.has_mass else ()), *(("puppiWeight",) if self.has_weight else ()))
        own = (*own, self.charge) if self.charge else own
        counter = (self.counter,) if self.counted else ()
        return (*self.of_event, *counter, *(f"{self.collection}_{name}" for name in own))

    @property
    def counter(self) -> str:
        """The branch that says how many candidates an event has."""
        return f"n{self.collection}"

    @property
    def counting(self) -> str:
        """How `ntrk` counts: "charged" constituents where the charge is known, else "all"."""
        return "charged" if self.charge else "all"


@dataclass(frozen=True)
class Candidates:
    """The particles of a chunk of events, flat: event i owns the slice offsets[i]:offsets[i+1].

    offsets: (n_events + 1,) int64; pt, mass: (n,) GeV; eta, phi: (n,); charge: (n,) int64 or None;
    unphysical: (n_events,) True where a candidate is not finite, has negative pT or the values of a placeholder (that event
    holds none here).
    """

    offsets: Int
    pt: Float
    eta: Float
    phi: Float
    mass: Float
    charge: Int | None
    unphysical: Bool


def source_of(branches: Collection[str], where: str) -> Source:
    """Find the candidates among the names of a tree's branches; `where` begins the message of an error.

    Raises InputError for a missing branch, NoCandidatesError when there is no candidate collection at all, and
    IncompleteCandidatesError for the one of NanoAOD v15.
    """
    require_branches(IDENTITY[1:], branches, where)
    stored = {c: [k for k in KINEMATICS if f"{c}_{k}" in branches] for c in (COLLECTION, OF_STORED_JETS)}
    if not stored[COLLECTION] and stored[OF_STORED_JETS]:
        raise IncompleteCandidatesError(
            f"{where}: {OF_STORED_JETS}_* of NanoAOD v15 are the constituents of its stored AK8 jets and no other candidates: "
            "jets built from them would miss most of what is around these, so that nothing is clustered from them. Give PFNano "
            f"({COLLECTION}_*) of these events; stored jets are to be read by a later version"
        )
    if not stored[COLLECTION]:
        objects = [name for name in OBJECTS if f"{name}_pt" in branches]
        hint = f"{', '.join(objects)} are stored, which representation: objects takes; " if objects else ""
        raise NoCandidatesError(
            f"{where}: no branch '{COLLECTION}_pt', so no candidates to cluster: event files are PFNano ({COLLECTION}_*) or "
            f"those of hunch simulate and hunch convert; {hint}{_found(branches, '')}"
        )
    require_branches([f"{COLLECTION}_{k}" for k in KINEMATICS], branches, where)
    return Source(
        collection=COLLECTION,
        has_mass=f"{COLLECTION}_mass" in branches,
        has_weight=f"{COLLECTION}_puppiWeight" in branches,
        charge=next((n for n in ("charge", "pdgId") if f"{COLLECTION}_{n}" in branches), None),
        truth="truth_signal" in branches,
        gen_weight="genWeight" in branches,
        generated=any(name.startswith(GENERATED) for name in branches),
        counted=f"n{COLLECTION}" in branches,
    )


def require_branches(names: Iterable[str], branches: Collection[str], where: str) -> None:
    """Raise InputError for the first of the names that is no branch; `where` begins its message."""
    for name in names:
        if name not in branches:
            raise InputError(f"{where}: no branch {name!r}, which every event file needs; {_found(branches, name)}")


def _found(branches: Collection[str], name: str) -> str:
    """Say which branches there are, the one nearest to a name first where one is asked for."""
    guess = nearest(name, branches) if name else None
    names = sorted(branches, key=lambda n: (n != guess, n))
    hint = f"did you mean {guess!r}? " if guess else ""
    more = ", ..." if len(names) > SHOWN else ""
    return f"{hint}found {len(names)} branches: {', '.join(names[:SHOWN])}{more}" if names else "found no branch at all"


def branch_names(events: Any) -> set[str]:
    """Return the names that the branches of an array of events have in their file; of records, only those of NESTED.

    events: an awkward array whose fields are the branches (coffea's BaseSchema, `uproot`'s arrays), or whose fields are
    collections of them (coffea's NanoAODSchema).
    """
    names = set(events.fields)
    for collection in NESTED:
        if collection in names:
            names |= {f"{collection}_{field}" for field in events[collection].fields}
    return names


def branch(events: Any, name: str) -> Any:
    """Return a branch by its name in the file, whether the schema has put it into a collection or not."""
    if name in events.fields:
        return events[name]
    collection, _, field = name.partition("_")
    return events[collection][field]


def flat_branch(events: Any, name: str) -> npt.NDArray[Any]:
    """Return a branch of one number an event: (n,). Raises InputError where it holds anything else, and where its bytes are damaged."""
    try:
        stored = branch(events, name)
        _check_numbers(stored, name, axes=1)
        return np.asarray(ak.to_numpy(stored))
    except READ_ERRORS as error:
        raise InputError(f"branch {name!r} cannot be read, damaged: {told(error)}") from error


def jagged_branch(events: Any, name: str, *, counts: Int | None = None) -> tuple[Int, Float]:
    """Return a branch of numbers as how many each event has (n,), and all of them side by side, in double precision.

    counts: how many each event should have (n,). Raises InputError where the branch has others, or no list of numbers an event, and where its bytes
    are damaged.
    """
    try:
        jagged = branch(events, name)
        _check_numbers(jagged, name, axes=2)
        own = np.asarray(ak.to_numpy(ak.num(jagged, axis=1)), dtype=np.int64)
        if counts is not None:
            _same_counts(own, counts, name)  # before damaged numbers of them are taken for sizes
        return own, np.asarray(ak.to_numpy(ak.flatten(jagged, axis=1)), dtype=np.float64)
    except READ_ERRORS as error:
        raise InputError(f"branch {name!r} cannot be read, damaged: {told(error)}") from error


def _check_numbers(stored: Any, name: str, *, axes: int) -> None:
    """Raise InputError where a branch holds no numbers of so many axes: 1, a number an event, or 2, a list of them an event."""
    inner, found = ak.type(stored).content, 1
    while isinstance(inner, ak.types.ListType | ak.types.RegularType):
        inner, found = inner.content, found + 1
    text = inner.parameters.get("__array__") in {"char", "byte"}
    if found != axes or text or not isinstance(inner, ak.types.NumpyType | ak.types.UnknownType):
        held = "text" if text else getattr(inner, "primitive", "what is no number")
        wanted = "a number" if axes == 1 else "a list of numbers"
        raise InputError(
            f"branch {name!r} holds {'a list of ' * (found - 1 - text)}{held} an event, {wanted} is expected"
        )


def read_candidates(events: Any, source: Source) -> Candidates:
    """Read the candidates of a chunk of events: an awkward array of any of coffea's schemas, or of none.

    Candidates of pT or weight 0 are dropped before anything else is asked of them: PFNano stores many, and fastjet takes a
    thousand times longer with them and finds the same jets. The puppi weight scales the four-momentum (pT and mass) where the
    file has not applied it yet (CMS-JME-18-001). Stored masses may be rounded below 0; the sign is ignored. Raises InputError
    where a branch is damaged, and where the branches say different numbers of candidates.
    """
    collection = source.collection
    known = flat_branch(events, source.counter) if source.counted and source.counter in events.fields else None
    counts, pt = jagged_branch(events, f"{collection}_pt", counts=known)

    def stored(name: str) -> Float:
        return jagged_branch(events, f"{collection}_{name}", counts=counts)[1]

    eta, phi = stored("eta"), stored("phi")
    mass = np.abs(stored("mass")) if source.has_mass else np.zeros_like(pt)
    weight = stored("puppiWeight") if source.has_weight else np.ones_like(pt)
    charge = stored(source.charge).astype(np.int64) if source.charge else None
    if source.charge == "pdgId":
        charge = charge_of(charge)  # type: ignore[arg-type]
    event = np.repeat(np.arange(len(counts)), counts)
    there = (pt != 0) & (weight != 0)
    with np.errstate(invalid="ignore", over="ignore"):  # of candidates that are dropped, or make their event unphysical
        pt, mass = pt * weight, mass * weight
    angles = np.maximum(np.abs(eta), np.abs(phi))
    # comparisons with NaN are false
    good = (pt >= 0) & (pt <= LARGEST_PT) & (angles <= LARGEST_ANGLE) & (mass <= LARGEST_PT) & (weight >= 0)
    unphysical = np.zeros(len(counts), dtype=np.bool_)
    unphysical[event[there & ~good]] = True
    keep = there & ~unphysical[event] & (pt > 0)  # a product of small numbers may be 0
    if not keep.all():
        counts = np.bincount(event[keep], minlength=len(counts))
        pt, eta, phi, mass = (values[keep] for values in (pt, eta, phi, mass))
        charge = None if charge is None else charge[keep]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Candidates(offsets, pt, eta, phi, mass, charge, unphysical)


def _same_counts(found: Int, counts: npt.NDArray[Any], name: str) -> None:
    """Raise InputError where a branch has another number of candidates of an event than others say."""
    if len(found) != len(counts):
        raise InputError(f"branch {name!r} holds {len(found)} events, others say {len(counts)}: damaged")
    other = np.flatnonzero(found != counts)
    if len(other):
        at = int(other[0])
        raise InputError(
            f"branch {name!r} holds {found[at]} candidates of event {at} of the chunk, other branches say {counts[at]}; so for "
            f"{len(other)} of {len(counts)} events: damaged"
        )


def same_event(events: Any, source: Source) -> npt.NDArray[np.uint64]:
    """Return 64 bits (n,) that two events share where they are the same event, whatever they are processed to.

    Of collisions these are of run, luminosityBlock and event. Simulated and converted files all count from 0 in run 1: there a
    hash of what the file stores joins in, the number of candidates and pt, eta and phi of the one of largest stored pt.
    """
    return told_apart(events, source, lambda: _hardest(events, source))


def told_apart(events: Any, source: EventSource, stored: Callable[[], Float]) -> npt.NDArray[np.uint64]:
    """Return the hash (n,) of run, luminosityBlock and event and, in simulation, of what `stored` gives of each event, (n, k)."""
    own = hash_columns(*(flat_branch(events, name) for name in IDENTITY[1:]))
    simulated = flat_branch(events, "run") == COLLISIONS_RUN
    if source.generated:
        simulated = np.ones_like(simulated)
    return np.where(simulated, mix(own ^ content_hash(stored())), own) if simulated.any() else own


def _hardest(events: Any, source: Source) -> Float:
    """Return the number of candidates of each event, and pt, eta and phi of the one of largest stored pt: (n, 4)."""
    counts, pt = jagged_branch(events, f"{source.collection}_pt")
    stored = np.zeros((len(counts), 4))
    stored[:, 0] = counts
    filled = np.flatnonzero(counts)
    if len(filled):
        first = (np.cumsum(counts) - counts)[filled]
        known = np.where(np.isnan(pt), -np.inf, pt)
        place = np.repeat(np.arange(len(filled)), counts[filled])
        largest = np.flatnonzero(known == np.maximum.reduceat(known, first)[place])[::-1]
        hardest = np.empty(len(filled), dtype=np.int64)
        hardest[place[largest]] = largest  # of equal ones the first, which is written last
        for column, name in enumerate(KINEMATICS, start=1):
            values = jagged_branch(events, f"{source.collection}_{name}")[1]
            stored[filled, column] = values[hardest]
    return stored


def charge_of(pdg_id: npt.ArrayLike) -> Int:
    """Return the sign of the electric charge from PDG identity numbers: (n,) int64 of -1, 0 or 1.

    Below 100 only e, mu, tau and W are charged: CMS uses 1 and 2 for neutral deposits in the forward calorimeter.
    Hadrons by their quark digits (PDG Monte Carlo numbering scheme, section 45 of the Review of Particle Physics).
    """
    ids = np.asarray(pdg_id, dtype=np.int64)
    size = np.abs(ids)
    first, second, third = size // 1000 % 10, size // 100 % 10, size // 10 % 10

    def thirds(quark: Int) -> Int:
        return np.where(quark == 0, 0, np.where(quark % 2 == 0, 2, -1))

    # In a meson the heavier quark's digit comes first and the sign of the number is that of the up-type content.
    meson = np.where((second % 2) == (third % 2), 0, 1)
    baryon = np.sign(thirds(first) + thirds(second) + thirds(third))
    hadron = np.where(first == 0, meson, baryon)
    light = np.where(np.isin(size, (11, 13, 15)), -1, np.where(size == 24, 1, 0))
    charge = np.where(size < 100, light, hadron)
    charge = np.where(size >= 1_000_000_000, np.sign(size // 10_000 % 1000), charge)
    return np.asarray(charge * np.sign(ids), dtype=np.int64)
