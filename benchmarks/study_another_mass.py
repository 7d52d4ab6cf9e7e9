"""W as an approximate prior for Z (the QUAK talk's example): single jets of 550 to 650 GeV, hunted in the jet mass.

QCD jets with Z jets hidden among them (the W process with its mass at 91 GeV); the prior are W jets of 80 GeV. Features without the
mass and images are searched, with regions whose boundaries follow the mass. What is found should lie at 91 and not at 80, and nothing where
nothing is hidden: in each of several samples of data, which the same models search. The background is three times the data: boundaries
that follow the mass are fixed on half of it, and their own error is a bump that every sample shares. HUNCH_STUDY is the folder of the
event files, JETS the QCD jets of a sample of data, HIDDEN the Z jets, SAMPLES the samples of data.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hunch.config import read_analysis
from hunch.samples import simulate
from hunch.workflow import run as run_analysis

from .simulated import told

JETS = int(os.environ.get("JETS", "12000"))
HIDDEN = int(os.environ.get("HIDDEN", "300"))
SAMPLES = int(os.environ.get("SAMPLES", "3"))
BACKGROUND_SEEDS = (12, 41, 51)
PRIOR = 3000
MASSES = {"z": 91.0, "w": 80.4}  # GeV, of the jets that are simulated
FIT_RANGE = (50.0, 200.0)  # GeV
FUNCTION = "exp(p1*log(m/100)+p2*log(m/100)**2+p3*log(m/100)**3)"
"""A cubic in ln m: QCD jets have a Sudakov peak near 70 GeV, which neither the dijet function nor a fit above it describes. Range and
function were chosen on the background sample alone, which it fits with p = 0.36 (Bernstein polynomials of order 5: 0.35), but after
a first search with others had found 146 GeV where Z was hidden."""
FEATURES = ("tau21_1", "tau32_1", "tau43_1", "tau12_1", "ntrk_1")
METHODS: dict[str, dict[str, Any]] = {
    "features, Quak": {"representation": {"name": "features", "jets": 1}, "features": list(FEATURES), "scorer": "Quak"},
    "images, ConvVae": {
        "representation": {"name": "images", "jets": 1, "pixels": 24},
        "scorer": {"name": "ConvVae", "max_epochs": 12},
    },
}
EXPERIMENTS = 1000
FRACTION = 0.2  # of the background kept, in one region


def jets(folder: Path, name: str, n: int, seed: int) -> str:
    """Simulate jets of QCD ("qcd"), W or Z, or take what an earlier run left: the event file."""
    file = folder / f"{name}_{seed}_{n}.root"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        process, parameters = ("jet_w", {"m_w": MASSES[name]}) if name in MASSES else ("jet_qcd", None)
        simulate(process, n, file, seed=seed, workers=workers, parameters=parameters, progress=sys.stderr.isatty())
    return str(file)


def search(folder: Path, method: str, hidden: bool, sample: int, events: Path) -> dict[str, Any]:
    """Search one sample of data and return what was found; models trained for an earlier one are taken again."""
    z = [jets(events, "z", HIDDEN, 13 + 10 * sample)] if hidden else []
    keys: dict[str, Any] = {
        "samples": {
            "data": [jets(events, "qcd", JETS, 11 + 10 * sample), *z],
            "background": [jets(events, "qcd", JETS, seed) for seed in BACKGROUND_SEEDS],
            "priors": {"w": [jets(events, "w", PRIOR, 14)]},
        },
        "output": str(folder / method.partition(",")[0]),
        **METHODS[method],
        "observable": "mJ_1",
        "fit_range": list(FIT_RANGE),
        "masses": [65.0, 160.0],
        "background_function": FUNCTION,
        "regions": {"number": 1, "fraction": FRACTION, "decorrelation": "quantile"},
        "pseudo_experiments": EXPERIMENTS,
        "limits": {"points": 1},
    }
    path = folder / "analysis.yaml"
    path.write_text(yaml.safe_dump(keys))
    result = run_analysis(read_analysis(path), progress=False)
    best, scan = result["best"], result["scan"]
    near = {name: int(np.argmin(np.abs(np.array(scan["masses"]) - mass))) for name, mass in MASSES.items()}
    return told(
        {
            "method": method,
            "hidden": HIDDEN if hidden else 0,
            "sample": sample,
            "mass": best["mass"],
            "z_local": best["z_local"],
            "p_global": best["p_global"],
            "z_at_91": scan["z_combined"][near["z"]],
            "z_at_80": scan["z_combined"][near["w"]],
            "jsd": result["sculpting"][0]["jsd"],
            "jsd_one_cut": result["sculpting_before"][0]["jsd"],
            "jsd_random": result["sculpting"][0]["floor"],
        }
    )


def run() -> dict[str, Any]:
    """Return the searches with and without Z jets in each sample of data, for each method."""
    events = Path(os.environ.get("HUNCH_STUDY", ".study")) / "another_mass"
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            search(Path(folder), method, hidden, sample, events)
            for method in METHODS
            for hidden in (True, False)
            for sample in range(SAMPLES)
        ]
    return {
        "command": "make study ONLY=another_mass",
        "jets": JETS,
        "background_jets": JETS * len(BACKGROUND_SEEDS),
        "prior_jets": PRIOR,
        "fit_range": list(FIT_RANGE),
        "function": FUNCTION,
        "fraction": FRACTION,
        "pseudo_experiments": EXPERIMENTS,
        "searches": rows,
    }
