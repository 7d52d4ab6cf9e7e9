"""QUAK on real LHC Olympics features: background only, the exact prior, and three grids of priors that all miss it.

`make study ONLY=lhco`, with `lhco_signal_region_train.npy` in ../shared/data or $HUNCH_SHARED/data: 60,000 events in 3.3 < m_jj < 3.7
TeV, 0.66 % signal. The default `Quak` trains on one half of the file, unlabelled, and scores the other, in turns; a
search would have twice the events. The label column is read after the last score is there. No prior of the grids has
m_X or m_Y within 15 % of the truth (500, 100). The grids, as every setting of `Quak`, were chosen on hunch's own
simulation.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from hunch.analysis import evaluate
from hunch.models import Quak
from hunch.table import Table

from . import simulated
from .__main__ import Unavailable
from .simulated import Floats, Masses

FILE = "lhco_signal_region_train.npy"
FOLDS = 2
EXACT: Masses = (3500, 500, 100)
SEEDS: dict[Masses, int] = {
    (3500, x, y): 301 + i
    for i, (x, y) in enumerate((x, y) for x in (400, 600, 250, 800) for y in (60, 80, 130, 200, 300) if y <= x)
}
PER_PRIOR = 1_500
GRIDS: dict[str, tuple[tuple[int, int], ...]] = {
    "grid near": ((400, 60), (400, 80), (400, 130), (600, 80), (600, 130), (600, 200)),
    "grid wide": ((250, 60), (250, 130), (600, 60), (600, 200), (800, 80), (800, 200)),
    "grid loose": ((250, 80), (400, 60), (400, 200), (600, 60), (600, 200), (800, 130)),
}
"""(m_X, m_Y) in GeV, m_Z' = 3500 GeV."""


def path() -> Path:
    """Return the file; raises Unavailable where it is not."""
    folder = Path(os.environ.get("HUNCH_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    if not (folder / FILE).is_file():
        raise Unavailable(f"{folder / FILE} is not there")
    return folder / FILE


def features(table: Table) -> Floats:
    """Return the file's features (n, 4) of a dijet table: lighter m_J, m_J difference (TeV), tau21 of lighter, heavier.

    Jet 1 of the table is the more massive one. The file's tau2/(tau1 + 1e-5) is tau21 but for a hundredth of a percent.
    """
    heavy, light = table["mJ_1"] / 1000, table["mJ_2"] / 1000
    inside = (table["mjj"] > 3300) & (table["mjj"] < 3700)
    return np.stack([light, heavy - light, table["tau21_2"], table["tau21_1"]], axis=1)[inside].astype(np.float64)


def priors(names: tuple[tuple[int, int], ...]) -> dict[str, Floats]:
    """Return the priors of a grid, simulated."""
    return {
        f"X{x}_Y{y}": features(simulated.table("zprime_xy", PER_PRIOR, SEEDS[3500, x, y], (3500, x, y)))
        for x, y in names
    }


def run() -> dict[str, Any]:
    """Score every event by a model that did not see it, then read the labels."""
    x: Floats = np.load(path(), mmap_mode="r")[:, 1:5].astype(np.float64)
    half = np.random.default_rng(0).permutation(len(x)) % FOLDS
    cases: dict[str, dict[str, Floats]] = {"background only": {}}
    cases["exact prior"] = {"exact": features(simulated.table("zprime_xy", 4_000, simulated.SIGNAL_SEED, EXACT))}
    cases |= {name: priors(grid) for name, grid in GRIDS.items()}
    scores: dict[tuple[str, str], Floats] = {}
    notes: dict[str, list[dict[str, float]]] = {}
    for case, given in cases.items():
        for fold in range(FOLDS):
            start = time.monotonic()
            quak = Quak(seed=1, device="cpu").fit(x[half != fold], priors=given)
            for metric in ("anomaly", "difference") if given else ("anomaly",):
                scores.setdefault((case, metric), np.empty(len(x)))[half == fold] = quak.score(
                    x[half == fold], metric=metric
                )
            notes.setdefault(case, []).append({"seconds": time.monotonic() - start, **family_of(quak)})
            print(case, fold, notes[case][-1], file=sys.stderr, flush=True)
    label = np.load(path(), mmap_mode="r")[:, 5].astype(np.int64)  # once, at the end
    rows: list[dict[str, Any]] = []
    for (case, metric), score in scores.items():
        found = [evaluate(score[half == fold], label[half == fold]) for fold in range(FOLDS)]
        rows.append(
            {
                "priors": case,
                "score": metric,
                "auc": round(float(np.mean([m.auc for m in found])), 3),
                "max_sic": round(float(np.mean([m.max_sic for m in found])), 2),
                "max_sic_halves": [round(m.max_sic, 2) for m in found],
                "fraction": [round(n["fraction"], 4) for n in notes[case] if "fraction" in n],
                "seconds": round(float(np.mean([n["seconds"] for n in notes[case]]))),
            }
        )
    return {
        "command": "make study ONLY=lhco",
        "events": len(x),
        "trained_on": int((half != 0).sum()),
        "tested_on": int((half == 0).sum()),
        "per_prior": PER_PRIOR,
        "rows": rows,
        "worst_grid": min(r["max_sic"] for r in rows if r["priors"] in GRIDS and r["score"] == "anomaly"),
    }


def family_of(quak: Quak) -> dict[str, float]:
    """Return what the data said about the family: no label in it."""
    found = quak.training_.get("family", {})
    return {k: float(found[k]) for k in ("log_likelihood_ratio", "fraction", "refined") if k in found}
