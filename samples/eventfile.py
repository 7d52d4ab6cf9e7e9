"""The event file that every sample is written to: a NanoAOD-like tree `Events`, written in chunks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import uproot

from ..files import write_aside

__all__ = ["EventWriter", "ObjectWriter", "event_writer", "object_writer"]

KINEMATICS = {"pt": "float32", "eta": "float32", "phi": "float32", "mass": "float32"}
CHARGED = {"pdgId": "int32", "charge": "int8"}
IDENTITY = {"run": "uint32", "luminosityBlock": "uint32", "event": "uint64"}
MISSING = ("MET_pt", "MET_phi")
"""Missing transverse momentum; GeV, radians."""


class EventWriter:
    """Append chunks of events to an open event file; `n_events` counts what was written."""

    def __init__(self, tree: uproot.writing.writable.WritableTree, fields: tuple[str, ...]) -> None:
        self._tree = tree
        self._fields = fields
        self.n_events = 0

    def write(
        self,
        particles: ak.Array,
        *,
        truth_signal: npt.ArrayLike | None,
        weights: npt.ArrayLike | None = None,
        event: npt.ArrayLike | None = None,
    ) -> None:
        """Append events; particles: lists per event with `pt`, `eta`, `phi`, `mass` and the writer's further fields.

        `event` counts on from what was written before unless given, (n,); `run` and `luminosityBlock` are 1.
        truth_signal: scalar or (n,), 1 for signal; None only where the file was opened without it.
        """
        n = len(particles)
        if not n:
            return
        chunk = _of_events(n, self.n_events, event=event, truth_signal=truth_signal, weights=weights)
        self._tree.extend({**chunk, "PFCands": ak.zip({name: particles[name] for name in self._fields})})
        self.n_events += n


class ObjectWriter:
    """Append chunks of events, told as objects, to an open event file; `n_events` counts what was written."""

    def __init__(self, tree: uproot.writing.writable.WritableTree, fields: Mapping[str, tuple[str, ...]]) -> None:
        self._tree = tree
        self._fields = fields
        self.n_events = 0

    def write(
        self,
        objects: ak.Array,
        *,
        truth_signal: npt.ArrayLike | None,
        truth_process: npt.ArrayLike | None = None,
        weights: npt.ArrayLike | None = None,
        event: npt.ArrayLike | None = None,
    ) -> None:
        """Append events; objects: a record an event, of lists `Electron`, `Muon`, `Jet`, and `Photon` where the file has it, and numbers `MET_pt`, `MET_phi`.

        event, truth_signal: as of EventWriter; truth_process: (n,) number of the kind of collision, None only where the file was
        opened without it.
        """
        n = len(objects)
        if not n:
            return
        chunk = _of_events(n, self.n_events, event=event, truth_signal=truth_signal, weights=weights)
        if truth_process is not None:
            chunk["truth_process"] = np.asarray(truth_process, dtype=np.uint8)
        for name, fields in self._fields.items():
            chunk[name] = ak.zip({field: ak.to_packed(objects[name][field]) for field in fields})
        for name in MISSING:
            chunk[name] = ak.to_numpy(objects[name]).astype(np.float32)
        self._tree.extend(chunk)
        self.n_events += n


def _of_events(
    n: int,
    first: int,
    *,
    event: npt.ArrayLike | None,
    truth_signal: npt.ArrayLike | None,
    weights: npt.ArrayLike | None,
) -> dict[str, Any]:
    """Return the branches of n events that are one number an event; first: the number of the first unless they are given."""
    chunk: dict[str, Any] = {
        "run": np.ones(n, dtype=np.uint32),
        "luminosityBlock": np.ones(n, dtype=np.uint32),
        "event": np.asarray(np.arange(first, first + n) if event is None else event, dtype=np.uint64),
    }
    if truth_signal is not None:
        chunk["truth_signal"] = np.broadcast_to(np.asarray(truth_signal, dtype=np.uint8), (n,)).copy()
    if weights is not None:
        chunk["genWeight"] = np.asarray(weights, dtype=np.float32)
    return chunk


@contextlib.contextmanager
def event_writer(path: str | Path, *, charged: bool, truth: bool, weighted: bool) -> Iterator[EventWriter]:
    """Open an event file for writing; it appears under its name only when the block ends without an error.

    charged: candidates carry `pdgId` and `charge`; truth: events carry `truth_signal`; weighted: they carry
    `genWeight`. Branches: `run`, `luminosityBlock`, `event`, `nPFCands`, `PFCands_*` (GeV, radians).
    """
    fields = {**KINEMATICS, **(CHARGED if charged else {})}
    record = ", ".join(f"{name}: {kind}" for name, kind in fields.items())
    branches = {**IDENTITY, "PFCands": f"var * {{{record}}}", **_optional(truth=truth, weighted=weighted)}
    with write_aside(path) as aside, uproot.recreate(aside) as file:
        tree = file.mktree("Events", branches)
        yield EventWriter(tree, tuple(fields))


@contextlib.contextmanager
def object_writer(
    path: str | Path,
    *,
    measured: bool,
    truth: bool,
    process: bool = False,
    weighted: bool = False,
    charged: bool | None = None,
    photons: bool = False,
    btag: bool = False,
) -> Iterator[ObjectWriter]:
    """Open an event file of objects for writing; it appears under its name only when the block ends without an error.

    measured: objects carry `mass`, and leptons `charge`, unless charged says otherwise of that; photons: events have lists `Photon`; btag: jets carry `btag`, 0 or 1;
    truth, process, weighted: events carry `truth_signal`, `truth_process`, `genWeight`. Branches: `run`, `luminosityBlock`, `event`, `MET_pt`, `MET_phi`,
    and of `Electron`, `Muon`, `Jet` and `Photon` their number (`nElectron`) and `_pt`, `_eta`, `_phi` (GeV, radians).
    """
    plain = dict(KINEMATICS) if measured else {name: kind for name, kind in KINEMATICS.items() if name != "mass"}
    has_charge = measured if charged is None else charged
    lepton = {**plain, "charge": CHARGED["charge"]} if has_charge else plain
    jet = {**plain, "btag": "uint8"} if btag else plain
    kinds = {"Electron": lepton, "Muon": lepton, "Jet": jet, **({"Photon": plain} if photons else {})}
    branches = {
        **IDENTITY,
        **{name: f"var * {{{', '.join(f'{f}: {kind}' for f, kind in own.items())}}}" for name, own in kinds.items()},
        **dict.fromkeys(MISSING, "float32"),
        **_optional(truth=truth, weighted=weighted),
        **({"truth_process": "uint8"} if process else {}),
    }
    with write_aside(path) as aside, uproot.recreate(aside) as file:
        tree = file.mktree("Events", branches)
        yield ObjectWriter(tree, {name: tuple(own) for name, own in kinds.items()})


def _optional(*, truth: bool, weighted: bool) -> dict[str, str]:
    """Return the branches that only some files have."""
    return {**({"truth_signal": "uint8"} if truth else {}), **({"genWeight": "float32"} if weighted else {})}
