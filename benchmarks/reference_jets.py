"""Single jets of the settings of the top-tagging reference sample (arXiv:1902.09914), simulated once and kept: images, constituents and features.

14 TeV without multiple interactions, anti-kT R = 0.8, 550 < pT < 650 GeV, |eta| < 2, all quarks of a top within the radius. Images are unfiltered, of
20×20 pixels, or as many as are asked for, on the window of arXiv:2206.14225, 1.16 in eta and 1.40 in phi. All three tables are made of one event file.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from hunch.processors import Constituents, Features, Images, Representation, Running, run_table
from hunch.samples import simulate
from hunch.table import Table, read_table, write_table

__all__ = ["SEEDS", "SETTING_SEEDS", "reference_constituents", "reference_features", "reference_jets"]

SEEDS = {"qcd": 1803, "top": 1804, "w": 1805}
"""Jets of 1801 and 1802 were looked at, with their labels, while the methods were made."""
SETTING_SEEDS = {"qcd": 1811, "top": 1812}
"""Jets that settings are chosen on."""
RADIUS = 0.8


def reference_jets(kind: str, n: int, *, seed: int | None = None, pixels: int = 20) -> Table:
    """Return n jets, "qcd", "top" or "w": images as `image_1`, `mJ_1` (GeV), `pt_1`, `n_1`; seed: of SEEDS unless given.

    They are kept in the folder HUNCH_STUDY, .study unless set. The jets of a smaller n are the first of a larger one.
    """
    images = Images(jets=1, radius=RADIUS, pixels=pixels, half_eta=0.58, half_phi=0.70)
    return kept_table(kind, n, seed, images, str(pixels))


def reference_constituents(kind: str, n: int, *, seed: int | None = None, slots: int = 100) -> Table:
    """Return the same jets as sets: `constituents_1` (n, slots, 3) of pT (GeV), eta and phi from the jet's axis, hardest first, and `n_1`, of all."""
    sets = Constituents(jets=1, radius=RADIUS, coordinates="relative", max_constituents=slots)
    return kept_table(kind, n, seed, sets, f"sets{slots}")


def reference_features(kind: str, n: int, *, seed: int | None = None) -> Table:
    """Return the same jets as numbers: `mJ_1`, `pt_1` (GeV), `tau21_1`, `tau32_1`, `tau43_1`, `tau12_1`, `ntrk_1`."""
    return kept_table(kind, n, seed, Features(jets=1, radius=RADIUS), "features")


def kept_table(kind: str, n: int, seed: int | None, representation: Representation, told_as: str) -> Table:
    """Return the table of the first n jets of a kind in a representation; told_as: what its file is called after."""
    seed = SEEDS[kind] if seed is None else seed
    path = study_folder() / f"nae_{kind}_{n}_{seed}_{told_as}.parquet"
    if not path.is_file():
        events = event_file(kind, n, seed)
        table = run_table(events, representation, Running(executor="iterative", progress=False)).table
        write_table(path, table.select(np.asarray(table["event"]) < n))
    return read_table(path)


def event_file(kind: str, n: int, seed: int) -> Path:
    """Return an event file of n jets or more, the smallest that is kept; they are simulated where there is none."""
    kept = {}
    for path in study_folder().glob(f"nae_{kind}_*_{seed}.root"):
        number = path.stem.split("_")[2]
        if number.isdecimal() and int(number) >= n:
            kept[int(number)] = path
    if kept:
        return kept[min(kept)]
    path = study_folder() / f"nae_{kind}_{n}_{seed}.root"
    simulate(
        f"jet_{kind}",
        n,
        path,
        seed=seed,
        workers=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        sqrt_s=14_000.0,
        jet_radius=RADIUS,
        jet_eta=2.0,
        multiple_interactions=False,
        progress=sys.stderr.isatty(),
    )
    return path


def study_folder() -> Path:
    """Return the folder that samples are kept in, which is made where it is missing."""
    folder = Path(os.environ.get("HUNCH_STUDY", ".study"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
