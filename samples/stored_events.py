"""Event files of objects read back, chunk by chunk: what converters to other formats need of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import uproot

from ..errors import InputError

__all__ = ["ObjectChunk", "ObjectFile", "open_objects"]

Ints = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]

COLLECTIONS = ("Jet", "Electron", "Muon", "Photon")
LEPTONS = ("Electron", "Muon")
FIELDS = ("pt", "eta", "phi", "mass")
TAGGED = 0.5
"""`Jet_btag` of a b-jet is above it."""
MISSING = ("MET_pt", "MET_phi")


@dataclass(frozen=True)
class ObjectChunk:
    """Some events: event (n,); scalars (n, 3) of genWeight, MET (GeV) and its phi; counts (4, n) of jets, electrons, muons and photons; kinematics
    (4, 4, m) of pT, eta, phi and mass (GeV) of each of these, by falling pT within an event; tags (4, m): 1 for a b-jet, else 0, and charges of leptons."""

    event: npt.NDArray[np.uint64]
    scalars: Singles
    counts: Ints
    kinematics: Singles
    tags: npt.NDArray[np.int8]


class ObjectFile:
    """An open event file of objects; `n_events` says how many, `n_signal` how many of the chunks read had `truth_signal` 1, None without labels."""

    def __init__(self, tree: Any, path: Path) -> None:
        self._tree = tree
        self._path = path
        self._branches = set(tree.keys(recursive=False))
        self.n_events = int(tree.num_entries)
        self.n_signal: int | None = 0 if "truth_signal" in self._branches else None
        for name in ("event", *MISSING, *(f"{name}_{field}" for name in COLLECTIONS[:3] for field in FIELDS[:3])):
            if name not in self._branches:
                raise InputError(f"{path}: no branch {name!r}, so no event file of objects")
        self._there = tuple(name for name in COLLECTIONS if f"{name}_pt" in self._branches)

    @property
    def massive(self) -> bool:
        """Whether all objects have a mass."""
        return all(f"{name}_mass" in self._branches for name in self._there)

    def require_charges(self) -> None:
        """Raise InputError where leptons have no charge."""
        for name in LEPTONS:
            if f"{name}_charge" not in self._branches:
                raise InputError(
                    f"{self._path}: no branch '{name}_charge', which tells {name.lower()}s from their antiparticles"
                )

    def chunks(self, size: int) -> Iterator[ObjectChunk]:
        """Yield the events, so many at a time; raises InputError for what no object can be, and for damaged branches."""
        extra = [name for name in ("genWeight", "truth_signal", "Jet_btag") if name in self._branches]
        fields = [f"{name}_{field}" for name in self._there for field in FIELDS if f"{name}_{field}" in self._branches]
        charges = [f"{name}_charge" for name in LEPTONS if f"{name}_charge" in self._branches]
        names = ["event", *MISSING, *extra, *fields, *charges]
        for start in range(0, self.n_events, size):
            try:
                events = self._tree.arrays(names, entry_start=start, entry_stop=start + size, library="ak")
                chunk = self._chunk(events, start)
            except InputError:
                raise
            except (ValueError, TypeError, OSError, EOFError, IndexError, KeyError, AssertionError) as error:
                raise InputError(f"{self._path}: cannot be read, damaged: {error}") from error
            if self.n_signal is not None:
                self.n_signal += int(np.sum(ak.to_numpy(events.truth_signal) == 1))
            yield chunk

    def _chunk(self, events: Any, start: int) -> ObjectChunk:
        """Return events as arrays; start: the number of the first."""
        n = len(events)
        weights = ak.to_numpy(events.genWeight) if "genWeight" in events.fields else np.ones(n)
        scalars = np.stack([weights, *(ak.to_numpy(events[name]) for name in MISSING)], axis=1).astype(np.float32)
        self._require(np.isfinite(scalars).all(axis=1) & (scalars[:, 1] >= 0), start, "MET or a weight")
        counts = np.zeros((len(COLLECTIONS), n), dtype=np.int64)
        flat: list[dict[str, npt.NDArray[Any]]] = []
        for i, name in enumerate(COLLECTIONS):
            if name not in self._there:
                flat.append({})
                continue
            counts[i] = ak.to_numpy(ak.num(events[f"{name}_pt"]))
            event = np.repeat(np.arange(n), counts[i])
            own = {
                field: ak.to_numpy(ak.flatten(events[f"{name}_{field}"]))
                for field in (*FIELDS, "charge", "btag")
                if f"{name}_{field}" in events.fields
            }
            for field, values in own.items():
                if len(values) != len(event):
                    raise InputError(
                        f"{self._path}: branch '{name}_{field}' holds other numbers of objects than '{name}_pt': damaged"
                    )
            good = np.isfinite(np.stack([own[field] for field in FIELDS if field in own])).all(axis=0) & (own["pt"] > 0)
            if not good.all():
                self._require(np.bincount(event[~good], minlength=n) == 0, start, f"{name}_*")
            order = np.lexsort((-own["pt"], event))
            flat.append({field: values[order] for field, values in own.items()})
        kinematics = np.zeros((len(COLLECTIONS), len(FIELDS), int(counts.sum(axis=1).max(initial=0))), dtype=np.float32)
        tags = np.zeros((len(COLLECTIONS), kinematics.shape[2]), dtype=np.int8)
        for i, own in enumerate(flat):
            for k, field in enumerate(FIELDS):
                if field in own:
                    kinematics[i, k, : len(own[field])] = own[field]
            if "btag" in own:
                tags[i, : len(own["btag"])] = own["btag"] > TAGGED
            if "charge" in own:
                tags[i, : len(own["charge"])] = own["charge"]
        return ObjectChunk(ak.to_numpy(events.event).astype(np.uint64), scalars, counts, kinematics, tags)

    def _require(self, good: npt.NDArray[np.bool_], start: int, what: str) -> None:
        """Raise InputError for the first event that is not good."""
        if not good.all():
            first = start + int(np.argmin(good))
            raise InputError(
                f"{self._path}: {what} of {int((~good).sum())} events, first entry {first}, is not finite, or a momentum is not above 0"
            )


@contextmanager
def open_objects(path: str | Path) -> Iterator[ObjectFile]:
    """Open an event file of objects to read; raises InputError for a file that is none."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        file = uproot.open({str(path): None}, array_cache=None)  # a chunk is read once
    except (ValueError, OSError, EOFError, IndexError, KeyError, AssertionError) as error:
        raise InputError(f"{path}: no ROOT file, or damaged: {error}") from error
    with file:
        try:
            tree = file["Events"]
        except (ValueError, OSError, EOFError, IndexError, KeyError, AssertionError) as error:
            raise InputError(f"{path}: no tree 'Events', so no event file") from error
        yield ObjectFile(tree, path)
