"""The event file that every sample is written to: a NanoAOD-like tree `Events`, written in chunks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import awkward as ak
import numpy as np
import numpy.typing as npt
import uproot

from ..files import write_aside

__all__ = ["EventWriter", "event_writer"]

KINEMATICS = {"pt": "float32", "eta": "float32", "phi": "float32", "mass": "float32"}
CHARGED = {"pdgId": "int32", "charge": "int8"}


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
        chunk = {
            "run": np.ones(n, dtype=np.uint32),
            "luminosityBlock": np.ones(n, dtype=np.uint32),
            "event": np.asarray(
                np.arange(self.n_events, self.n_events + n) if event is None else event, dtype=np.uint64
            ),
            "PFCands": ak.zip({name: particles[name] for name in self._fields}),
        }
        if truth_signal is not None:
            chunk["truth_signal"] = np.broadcast_to(np.asarray(truth_signal, dtype=np.uint8), (n,)).copy()
        if weights is not None:
            chunk["genWeight"] = np.asarray(weights, dtype=np.float32)
        self._tree.extend(chunk)
        self.n_events += n


@contextlib.contextmanager
def event_writer(path: str | Path, *, charged: bool, truth: bool, weighted: bool) -> Iterator[EventWriter]:
    """Open an event file for writing; it appears under its name only when the block ends without an error.

    charged: candidates carry `pdgId` and `charge`; truth: events carry `truth_signal`; weighted: they carry
    `genWeight`. Branches: `run`, `luminosityBlock`, `event`, `nPFCands`, `PFCands_*` (GeV, radians).
    """
    fields = {**KINEMATICS, **(CHARGED if charged else {})}
    record = ", ".join(f"{name}: {kind}" for name, kind in fields.items())
    branches: dict[str, str] = {"run": "uint32", "luminosityBlock": "uint32", "event": "uint64"}
    branches["PFCands"] = f"var * {{{record}}}"
    if truth:
        branches["truth_signal"] = "uint8"
    if weighted:
        branches["genWeight"] = "float32"
    with write_aside(path) as aside, uproot.recreate(aside) as file:
        tree = file.mktree("Events", branches)
        yield EventWriter(tree, tuple(fields))
