"""What a brush on the page of `hunch explore` costs: a million events, four histograms and two scatter plots, all counted anew.

Twice: against half a second, which is the bar, and against numpy's floor, the sum of each of the columns shown, read once. Counting
reads two bytes of each event and plot, the marks of the filters and the number of the sample; what bokeh makes of the bins is counted,
what the browser draws is not. ROWS changes the number of events.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from hunch.table import Table, write_table
from hunch.workflow.explore.explored import read_explored_table
from hunch.workflow.explore.page import Page

ROWS = int(os.environ.get("ROWS", "1000000"))
LIMIT = 0.5
"""Seconds of a brush."""
TURNS = 15


def events(n: int) -> Table:
    """Return n rows of a falling mass spectrum, four other columns and three datasets."""
    rng = np.random.default_rng(1)
    columns = {name: rng.normal(size=n).astype(np.float32) for name in ("loss_background", "loss_near", "eta_1")}
    mjj = 1500 * (1 - rng.random(n)) ** (-1 / 6)
    return Table({"dataset": np.array(["qcd", "top", "signal"])[np.arange(n) % 3], "mjj": mjj, **columns})


def run() -> list[dict[str, Any]]:
    """Return the medians of brushes and of the floor, taken in turns."""
    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder) / "t.parquet", events(ROWS))
        page = Page(read_explored_table(Path(folder) / "t.parquet"))
    names = [axis.column for plot in page.plots for axis in plot.binning.axes]
    brushes, floors = [], []
    for k in range(TURNS + 1):
        begin = time.perf_counter()
        page.plots[0].take_box((1600.0 + 10 * k, 2500.0), (0.0, 1.0))
        brushed = time.perf_counter()
        for name in names:
            page.of.columns[name].sum()
        if k:  # the first one loads the compiled kernels
            brushes.append(brushed - begin)
            floors.append(time.perf_counter() - brushed)
    ours, floor = float(np.median(brushes)), float(np.median(floors))
    return [
        {"name": "explore", "ours": ours, "reference": LIMIT, "ratio": LIMIT / ours, "bar": 1.0, "unit": "s"},
        {"name": "explore_floor", "ours": ours, "reference": floor, "ratio": floor / ours, "bar": None, "unit": "s"},
    ]
