"""Speed of `simulate` against bare Pythia batches with the same settings and seeds; starting Pythia is left out of both."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from hunch.samples import simulate
from hunch.samples.generation import BLOCK_TRIES, block_seeds, start_pythia
from hunch.samples.processes import pythia_settings, with_defaults

EVENTS = 500
"""Most of one block of QCD: eight seconds a side and round."""
ROUNDS = 3
"""Ours and bare take turns on the same seed, so that another job on the machine slows both; the fastest of each counts."""
BAR = 0.8


def bare(tries: int, *, seed: int) -> float:
    """Generate `tries` QCD events as whole blocks' batches with one worker and return the seconds it took."""
    settings = tuple(pythia_settings("qcd", with_defaults("qcd"), min_jet_pt=1200.0))
    seconds = 0.0
    for number, first in enumerate(range(0, tries, BLOCK_TRIES)):
        pythia = start_pythia(settings, block_seeds(seed, number)[0])
        start = time.perf_counter()
        pythia.nextBatch(min(BLOCK_TRIES, tries - first))
        seconds += time.perf_counter() - start
    return seconds


def run() -> list[dict[str, Any]]:
    """Return one record: events tried a second, ours (generate, detect, cluster, select, write) and bare."""
    bare(BLOCK_TRIES // 10, seed=1)  # loads Pythia's data files and the libraries
    ours, reference = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            report = simulate("qcd", EVENTS, Path(folder) / "qcd.root", seed=1, progress=False)
            ours.append(report.tries / (report.seconds - report.init_seconds))
            reference.append(report.tries / bare(report.tries, seed=1))
    return [
        {
            "name": "simulate",
            "ours": max(ours),
            "reference": max(reference),
            "ratio": max(ours) / max(reference),
            "bar": BAR,
            "unit": "events tried/s",
        }
    ]
