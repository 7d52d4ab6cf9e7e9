"""Single jets that the studies of constituents share, simulated once and kept; no study of its own.

Tables are kept in the folder HUNCH_STUDY (.study). EVENTS sets the QCD jets that are trained on (30,000), of pT > 450 GeV as in
arXiv:2007.01850; all other sizes follow from it. Jets that are tested have 550 < pT < 650 GeV. SEEDS sets how often a model is trained.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hunch.processors import Constituents, Running, aligned_four_vectors, run_table
from hunch.samples import simulate
from hunch.table import read_table, write_table

__all__ = ["SIGNALS", "Jets", "jets", "known", "mean_and_error", "seeds", "sizes"]

Floats = npt.NDArray[np.float64]
SLOTS = 20
ALL_PT = (450.0, float("inf"))
TESTED_PT = (550.0, 650.0)
PER_30000 = 30_000


@dataclass(frozen=True)
class Source:
    """How a sample is made: the process, its seed, jets for 30,000 of training, the window of pT (GeV) and the masses (GeV)."""

    process: str
    seed: int
    number: int
    pt: tuple[float, float] = TESTED_PT
    masses: tuple[tuple[str, Any], ...] = ()


SOURCES = {
    "qcd_train": Source("jet_qcd", 12, 30_000, ALL_PT),
    "w_flat": Source("jet_w", 11, 6_000, ALL_PT, (("m_w", (20.0, 300.0)),)),
    "top_train": Source("jet_top", 33, 12_000, ALL_PT),
    "qcd": Source("jet_qcd", 13, 8_000),
    "w_59": Source("jet_w", 79, 3_000, masses=(("m_w", 59.0),)),
    "w_80": Source("jet_w", 100, 3_000, masses=(("m_w", 80.0),)),
    "w_120": Source("jet_w", 140, 3_000, masses=(("m_w", 120.0),)),
    "w_174": Source("jet_w", 194, 3_000, masses=(("m_w", 174.0),)),
    "top_80": Source("jet_top", 32, 3_000, masses=(("m_top", 80.0),)),
    "top_174": Source("jet_top", 31, 3_000),
    "hh_20": Source("jet_hh4j", 42, 3_000, masses=(("m_H", 174.0), ("m_h", 20.0))),
    "hh_80": Source("jet_hh4j", 41, 3_000, masses=(("m_H", 174.0), ("m_h", 80.0))),
}
"""Every sample by name; `w_flat` is what a model is exposed to, of W masses flat from 20 to 300 GeV."""
SIGNALS = ("w_59", "w_80", "w_120", "w_174", "top_80", "top_174", "hh_20", "hh_80")


@dataclass(frozen=True)
class Jets:
    """vectors: (n, 20, 4) E, px, py, pz (GeV) in the jets' frames; mass, pt: (n,) of whole jets (GeV); stored: (n, 100, 3)."""

    vectors: npt.NDArray[np.float32]
    mass: Floats
    pt: Floats
    stored: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.mass)

    def select(self, rows: Any) -> Jets:
        """Return some of the jets."""
        return Jets(self.vectors[rows], self.mass[rows], self.pt[rows], self.stored[rows])


def events() -> int:
    """Return the QCD jets that are trained on."""
    return int(os.environ.get("EVENTS", str(PER_30000)))


def seeds() -> tuple[int, ...]:
    """Return the seeds of repeated trainings."""
    return tuple(range(int(os.environ.get("SEEDS", "3"))))


def jets(name: str) -> Jets:
    """Return a sample of SOURCES, simulated where it is not kept yet."""
    source = SOURCES[name]
    number = max(source.number * events() // PER_30000, 200)
    path = Path(os.environ.get("HUNCH_STUDY", ".study")) / f"constituents_{name}_{number}_{source.seed}.parquet"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_suffix(".root")
        simulate(
            source.process,
            number,
            made,
            seed=source.seed,
            workers=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            jet_pt=source.pt,
            parameters=dict(source.masses) or None,
            progress=sys.stderr.isatty(),
        )
        running = Running(executor="iterative", progress=False)
        write_table(path, run_table(made, Constituents(jets=1), running).table)
        made.unlink()
    table = read_table(path)
    stored = np.asarray(table["constituents_1"], dtype=np.float32)
    return Jets(
        aligned_four_vectors(stored, slots=SLOTS),
        np.asarray(table["mJ_1"], dtype=np.float64),
        np.asarray(table["pt_1"], dtype=np.float64),
        stored,
    )


def known() -> dict[str, int]:
    """Return the number of jets of every sample."""
    return {name: max(source.number * events() // PER_30000, 200) for name, source in SOURCES.items()}


def sizes() -> dict[str, Any]:
    """Return what every study states about its samples."""
    return {
        "training_jets": events(),
        "exposed_jets": known()["w_flat"],
        "tested_qcd": known()["qcd"],
        "seeds": len(seeds()),
    }


def mean_and_error(values: Sequence[float], statistical: float = 0.0, *, digits: int = 3) -> tuple[float, float]:
    """Return the mean over trainings, and its error with that of the test sample in quadrature."""
    found = np.asarray(values, dtype=np.float64)
    spread = float(found.std(ddof=1)) / np.sqrt(len(found)) if len(found) > 1 else 0.0
    return round(float(found.mean()), digits), round(float(np.hypot(spread, statistical)), digits)
