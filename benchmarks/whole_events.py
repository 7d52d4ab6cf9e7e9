"""Whole events with a lepton, simulated once and kept as tables of objects: the Standard Model and four signals (arXiv:2107.02157); no study of its own.

Tables are kept in the folder HUNCH_STUDY (.study). The background is a cocktail of W, QCD (b and c alone), Z and ttbar after a single-lepton trigger; no fakes, no
pile-up. MULTIPLE_INTERACTIONS=0 leaves out further collisions of the same two protons, as `hunch simulate --no-multiple-interactions`, which is some three
times as fast: other events, under a name of their own.
"""

from __future__ import annotations

import os
import sys

import numpy as np
import numpy.typing as npt

from hunch.processors import Objects, Running, run_table
from hunch.samples import simulate
from hunch.table import read_table, write_table

from .reference_jets import study_folder

__all__ = ["SIGNALS", "multiple_interactions", "whole_events"]

Floats = npt.NDArray[np.float64]
SIGNALS = {
    "event_a4l": "A to 4l, 50 GeV",
    "event_lqbtau": "LQ to b tau, 80 GeV",
    "event_h0tautau": "h0 to tau tau, 60 GeV",
    "event_htaunu": "h+- to tau nu, 60 GeV",
}
"""Process -> what it is called."""


def multiple_interactions() -> bool:
    """Tell whether events have multiple interactions."""
    return os.environ.get("MULTIPLE_INTERACTIONS", "1") != "0"


def whole_events(process: str, n: int, *, seed: int) -> Floats:
    """Return n events (n, 19, 3) of a process: pT (GeV), eta and phi of missing momentum, 4 electrons, 4 muons, 10 jets; empty slots are zeros.

    The events of a smaller n are the first of a larger one, so that the smallest table that is kept and holds them is read. Events without any
    object, which the trigger's lepton leaves next to none of, are lost.
    """
    told_as = "" if multiple_interactions() else "_without"
    kept = {}
    for path in study_folder().glob(f"objects_{process}_*_{seed}{told_as}.parquet"):
        number = path.stem.removeprefix(f"objects_{process}_").split("_")[0]
        if path.name == f"objects_{process}_{number}_{seed}{told_as}.parquet" and int(number) >= n:
            kept[int(number)] = path
    path = kept[min(kept)] if kept else study_folder() / f"objects_{process}_{n}_{seed}{told_as}.parquet"
    if not kept:
        events = path.with_suffix(".root")
        simulate(
            process,
            n,
            events,
            seed=seed,
            workers=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            multiple_interactions=multiple_interactions(),
            progress=sys.stderr.isatty(),
        )
        write_table(path, run_table(events, Objects(), Running(executor="iterative", progress=False)).table)
        events.unlink()
    table = read_table(path)
    return np.asarray(table["objects"], dtype=np.float64)[np.asarray(table["event"]) < n]
