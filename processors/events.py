"""Event files: which candidate collection a file holds, and one chunk's candidates in one uniform form.

Read are PFNano (`PFCands_*` with `puppiWeight`), NanoAOD v15 (`PFCand_*`, weight already applied) and this project's
own event files (`PFCands_*`; converted LHC Olympics files store pt, eta and phi only). GeV and radians.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import uproot

from ..errors import InputError, unknown_name
from ..folds import COLLISIONS_RUN, content_hash, hash_columns, mix
from ..table import IDENTITY

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = [
    "Candidates",
    "EventFile",
    "NoCandidatesError",
    "Source",
    "branch",
    "branch_names",
    "charge_of",
    "inspect_file",
    "read_candidates",
    "same_event",
    "source_of",
]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

COLLECTIONS = ("PFCands", "PFCand")
KINEMATICS = ("pt", "eta", "phi")
GENERATED = ("genWeight", "GenPart_", "Generator_")
"""Branches, or how their names begin, that a file of simulated events has and one of collisions has not."""
NESTED = (*COLLECTIONS, "truth", "GenPart", "Generator")
"""Collections that some schemas put branches into: `PFCands_pt` is the field `pt` of `PFCands` then."""
LARGEST_PT, LARGEST_ANGLE = 1e9, 100.0
"""GeV, and |eta| or |phi|: beyond this a value is a placeholder (-999), no momentum and no direction."""

READ_ERRORS = (
    *(OSError, EOFError, ValueError, KeyError, IndexError, TypeError, AssertionError, NotImplementedError),
    *(struct.error, zlib.error, uproot.DeserializationError),
)
"""What uproot raises on damaged bytes; it documents no common base class."""


class NoCandidatesError(InputError):
    """An event file in which no particle-flow candidates are stored."""


@dataclass(frozen=True)
class Source:
    """Where one file keeps its candidates and what it stores for each.

    collection: branch prefix; has_mass, has_weight: stored or not (no mass means massless);
    charge: the branch that the charge comes from, None when no such branch exists;
    truth, gen_weight: whether `truth_signal` and `genWeight` are stored; generated: whether the file has branches that only
    simulated events have (GENERATED).
    """

    collection: str
    has_mass: bool
    has_weight: bool
    charge: str | None
    truth: bool
    gen_weight: bool
    generated: bool = False

    @property
    def branches(self) -> tuple[str, ...]:
        """Every branch that is read, and no other."""
        own = (*KINEMATICS, *(("mass",) if self.has_mass else ()), *(("puppiWeight",) if self.has_weight else ()))
        own = (*own, self.charge) if self.charge else own
        event = (*(("truth_signal",) if self.truth else ()), *(("genWeight",) if self.gen_weight else ()))
        return (*IDENTITY[1:], *event, *(f"{self.collection}_{name}" for name in own))

    @property
    def counting(self) -> str:
        """How `ntrk` counts: "charged" constituents where the charge is known, else "all"."""
        return "charged" if self.charge else "all"


@dataclass(frozen=True)
class EventFile:
    """One checked event file: its dataset, path, tree, number of events, ROOT identifier and candidate source."""

    dataset: str
    path: str
    tree: str
    entries: int
    uuid: bytes
    source: Source


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


def inspect_file(path: str | Path, *, tree: str = "Events", dataset: str | None = None) -> EventFile:
    """Open a file, check that it can be processed, and say what it holds; no event is read.

    Raises InputError naming file, tree and branch, what was found and the nearest name, for a missing file, a
    directory, a file that is not ROOT or is truncated, a missing tree or branch; NoCandidatesError when it is
    NanoAOD without candidates.
    """
    name = str(path)
    if "://" not in name:
        if Path(name).is_dir():
            raise InputError(f"{name}: is a directory; a ROOT file with a tree {tree!r} is expected")
        if not Path(name).is_file():
            raise InputError(f"{name}: no such file")
    try:
        file = uproot.open(name)
    except READ_ERRORS as error:
        damaged = "://" not in name and _begins_as_root(Path(name))
        what = "truncated or damaged" if damaged else "not a ROOT file"
        raise InputError(f"{name}: {what}: {_first_line(error)}") from error
    with file:
        size, end = file.file.source.num_bytes, file.file.fEND
        if size < end:
            raise InputError(f"{name}: truncated: it holds {size} of the {end} bytes that its header announces")
        try:
            kinds = file.classnames(recursive=True, cycle=False)
        except READ_ERRORS as error:
            raise InputError(f"{name}: cannot be read as a ROOT file: {_first_line(error)}") from error
        trees = [key for key, kind in kinds.items() if kind == "TTree" or "RNTuple" in kind]
        if tree not in trees:
            raise InputError(unknown_name("tree", tree, trees, name))
        try:
            found = file[tree]
            branches, entries = set(found.keys(recursive=False)), int(found.num_entries)
        except READ_ERRORS as error:
            raise InputError(f"{name}: tree {tree!r} cannot be read: {_first_line(error)}") from error
        source = source_of(branches, f"{name}: tree {tree!r}")
        return EventFile(dataset or Path(name).stem, name, tree, entries, file.file.fUUID, source)


def source_of(branches: Collection[str], where: str) -> Source:
    """Find the candidates among the names of a tree's branches; `where` begins the message of an error.

    Raises InputError for a missing branch and NoCandidatesError when there is no candidate collection at all.
    """
    for name in IDENTITY[1:]:
        if name not in branches:
            raise InputError(unknown_name("branch", name, sorted(branches), where))
    present = [c for c in COLLECTIONS if any(f"{c}_{k}" in branches for k in KINEMATICS)]
    if not present:
        message = unknown_name("branch", "PFCands_pt", sorted(branches), where)
        raise NoCandidatesError(
            f"{message}; there are no candidates to cluster: "
            "PFNano (PFCands_*), NanoAOD v15 (PFCand_*) or this project's event files have them"
        )
    collection = present[0]
    for name in KINEMATICS:
        if f"{collection}_{name}" not in branches:
            raise InputError(unknown_name("branch", f"{collection}_{name}", sorted(branches), where))
    return Source(
        collection=collection,
        has_mass=f"{collection}_mass" in branches,
        has_weight=f"{collection}_puppiWeight" in branches,
        charge=next((n for n in ("charge", "pdgId") if f"{collection}_{n}" in branches), None),
        truth="truth_signal" in branches,
        gen_weight="genWeight" in branches,
        generated=any(name.startswith(GENERATED) for name in branches),
    )


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


def read_candidates(events: Any, source: Source) -> Candidates:
    """Read the candidates of a chunk of events: an awkward array of any of coffea's schemas, or of none.

    The puppi weight scales the four-momentum (pT and mass) where the file has not applied it yet (CMS-JME-18-001),
    and candidates of weight or pT 0 are dropped before anything is clustered: fastjet takes a thousand times longer
    with them and finds the same jets. Stored masses may be rounded below 0; the sign is ignored.
    """
    collection = source.collection
    counts, pt = _flat(branch(events, f"{collection}_pt"))
    eta, phi = (_flat(branch(events, f"{collection}_{name}"))[1] for name in ("eta", "phi"))
    mass = np.abs(_flat(branch(events, f"{collection}_mass"))[1]) if source.has_mass else np.zeros_like(pt)
    angles = np.maximum(np.abs(eta), np.abs(phi))
    # comparisons with NaN are false
    bad = ~((pt >= 0) & (pt <= LARGEST_PT) & (angles <= LARGEST_ANGLE) & (mass <= LARGEST_PT))
    if source.has_weight:
        weight = _flat(branch(events, f"{collection}_puppiWeight"))[1]
        bad |= ~np.isfinite(weight) | (weight < 0)
        pt, mass = pt * weight, mass * weight
    charge = None
    if source.charge:
        stored = _flat(branch(events, f"{collection}_{source.charge}"))[1].astype(np.int64)
        charge = charge_of(stored) if source.charge == "pdgId" else stored
    event = np.repeat(np.arange(len(counts)), counts)
    unphysical = np.zeros(len(counts), dtype=np.bool_)
    unphysical[event[bad]] = True
    keep = (pt > 0) & ~unphysical[event]
    if not keep.all():
        counts = np.bincount(event[keep], minlength=len(counts))
        pt, eta, phi, mass = (values[keep] for values in (pt, eta, phi, mass))
        charge = None if charge is None else charge[keep]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Candidates(offsets, pt, eta, phi, mass, charge, unphysical)


def same_event(events: Any, source: Source) -> npt.NDArray[np.uint64]:
    """Return 64 bits (n,) that two events share where they are the same event, whatever they are processed to.

    Of collisions these are of run, luminosityBlock and event. Simulated and converted files all count from 0 in run 1: there a
    hash of what the file stores joins in, the number of candidates and pt, eta and phi of the one of largest stored pt.
    """
    own = hash_columns(*(np.asarray(ak.to_numpy(branch(events, name))) for name in IDENTITY[1:]))
    simulated = np.asarray(ak.to_numpy(branch(events, "run"))) == COLLISIONS_RUN
    if source.generated:
        simulated = np.ones_like(simulated)
    if not simulated.any():
        return own
    counts, pt = _flat(branch(events, f"{source.collection}_pt"))
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
            values = _flat(branch(events, f"{source.collection}_{name}"))[1]
            stored[filled, column] = values[hardest]
    return np.where(simulated, mix(own ^ content_hash(stored)), own)


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


def _flat(jagged: Any) -> tuple[Int, Float]:
    """Return the number of entries per event and the entries side by side, in double precision."""
    counts = np.asarray(ak.to_numpy(ak.num(jagged, axis=1)), dtype=np.int64)
    return counts, np.asarray(ak.to_numpy(ak.flatten(jagged, axis=1)), dtype=np.float64)


def _begins_as_root(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"root"


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
