"""Single jets of the settings of the top-tagging reference sample (arXiv:1902.09914), simulated once and kept as tables of images.

14 TeV without multiple interactions, anti-kT R = 0.8, 550 < pT < 650 GeV, |eta| < 2, all quarks of a top within the radius. Images are unfiltered, of
20×20 pixels, or as many as are asked for, on the window of arXiv:2206.14225, 1.16 in eta and 1.40 in phi.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hunch.processors import Images, Running, run_table
from hunch.samples import simulate
from hunch.table import Table, read_table, write_table

__all__ = ["SEEDS", "reference_jets"]

SEEDS = {"qcd": 1803, "top": 1804, "w": 1805}
"""Jets of 1801 and 1802 were looked at, with their labels, while the methods were made; those of 1811 and 1812 are what settings were chosen on."""


def reference_jets(kind: str, n: int, *, seed: int | None = None, pixels: int = 20) -> Table:
    """Return n jets, "qcd", "top" or "w": images as `image_1`, `mJ_1` (GeV), `pt_1`, `n_1`; seed: of SEEDS unless given.

    They are kept in the folder HUNCH_STUDY, .study unless set. The jets of a smaller n are the first of a larger one.
    """
    seed = SEEDS[kind] if seed is None else seed
    folder = Path(os.environ.get("HUNCH_STUDY", ".study"))
    path = folder / f"nae_{kind}_{n}_{seed}_{pixels}.parquet"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / f"nae_{kind}_{n}_{seed}.root"
        if not made.is_file():
            workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            simulate(
                f"jet_{kind}",
                n,
                made,
                seed=seed,
                workers=workers,
                sqrt_s=14_000.0,
                jet_radius=0.8,
                jet_eta=2.0,
                multiple_interactions=False,
                progress=sys.stderr.isatty(),
            )
        representation = Images(jets=1, radius=0.8, pixels=pixels, half_eta=0.58, half_phi=0.70)
        write_table(path, run_table(made, representation, Running(executor="iterative", progress=False)).table)
    return read_table(path)
