"""What a changed fraction of the regions costs: a rerun trains and scores nothing, and its time stands beside the whole run's.

40,000 rows of data and as many of background with the 12 columns of the dijet table, drawn at random; ROWS changes their number.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from hunch.config import read_analysis
from hunch.table import QUAK_FEATURES, Table, write_table
from hunch.workflow import STAGES, run_stage
from hunch.workflow import run as run_analysis

ROWS = int(os.environ.get("ROWS", "40000"))
ANALYSIS = """\
samples:
  data: [data.parquet]
  background: [background.parquet]
  priors: {near: [prior.parquet]}
features: [%s]
output: out
pseudo_experiments: 500
limits: {points: 2}
training: {max_epochs: 2, hidden: 16, family: false}
regions: {axis: priors}
"""


def sample(n: int, seed: int, shift: float = 0.0) -> Table:
    """Return n rows of a falling mass spectrum and 12 columns that know nothing of it."""
    rng = np.random.default_rng(seed)
    mjj = 2000 * (1 - rng.random(n)) ** (-1 / 6)
    return Table({"mjj": mjj, **{name: rng.normal(shift, 1.0, n) for name in QUAK_FEATURES}})


def run_all(path: Path, *overrides: str) -> float:
    """Run an analysis and return the seconds."""
    begin = time.perf_counter()
    run_analysis(read_analysis(path, overrides), progress=False)
    return time.perf_counter() - begin


def run_benchmark(folder: Path) -> dict[str, Any]:
    """Run once, change the fraction, run again, and see that only the hunt and what follows ran."""
    for name, n, seed, shift in (("data", ROWS, 1, 0.0), ("background", ROWS, 2, 0.0), ("prior", 3000, 3, 1.0)):
        write_table(folder / f"{name}.parquet", sample(n, seed, shift))
    path = folder / "analysis.yaml"
    path.write_text(ANALYSIS % ", ".join(QUAK_FEATURES))
    whole = run_all(path)
    again = run_all(path)
    changed = read_analysis(path, ["regions.fraction=0.05"])
    begin = time.perf_counter()
    ran = {name: run_stage(changed, name, progress=False) for name in STAGES}
    seconds = time.perf_counter() - begin
    if [name for name, did in ran.items() if did] != ["hunt", "limits", "report"]:
        raise RuntimeError(f"a changed regions.fraction ran {ran}; hunt, limits and report were expected")
    print(f"rerun: nothing changed {again:.2f} s, whole run {whole:.1f} s", file=sys.stderr)
    return {"name": "rerun", "ours": seconds, "reference": whole, "ratio": whole / seconds, "bar": None, "unit": "s"}


def run() -> list[dict[str, Any]]:
    """Return the measurement as the benchmarks' driver prints it."""
    with tempfile.TemporaryDirectory() as folder:
        return [run_benchmark(Path(folder))]
