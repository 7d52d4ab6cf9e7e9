"""QUAK with an axis by optimal transport: the distance of a dijet event to a prior's medoids in place of a prior's loss.

`make study ONLY=transport_axes`; EVENTS is the number of QCD events, half to train on and half to test on (6,000). An event is its two jets'
images, the first the more massive; its distance to another is the mean of Wass(1) between their first and between their second jets. It is
one transport: the jets lie so far apart in a third coordinate that nothing is moved between them. Medoids are those of the
training events alone, densities train on the same events' features; axes of different units are put together by `ScorerSpace`.
The prior misses the signal's masses.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hunch.models import EventToEnsemble, Flow, Quak, ScorerSpace
from hunch.processors import Features, Images, Running, run_table
from hunch.samples import simulate
from hunch.table import QUAK_FEATURES, Table, read_table, write_table

from .simulated import Masses, summary, told

Floats = npt.NDArray[np.float64]
EPOCHS = 60
EVENTS = int(os.environ.get("EVENTS", "6000"))
SIGNAL: Masses = (3500, 500, 100)
PRIORS: dict[str, Masses] = {"near": (3500, 400, 80), "far": (3500, 250, 200)}
SEEDS: dict[str, int] = {"train": 611, "test": 612, "signal": 613, "near": 614, "far": 615}
WINDOW = (3000.0, 4200.0)  # GeV, of the m_jj of tested events
ABOVE = 2800.0  # GeV, of the m_jj of training events
MEDOIDS = 5
APART = 1e3  # pixels between the first and the second jets


def pair(name: str, n: int, masses: Masses | None = None) -> tuple[Table, Table]:
    """Return the dijet features and the images of both jets of one sample, the same events row by row."""
    process = "qcd" if masses is None else "zprime_xy"
    stem = "_".join(map(str, ("pairs", process, *(masses or ()), n, SEEDS[name])))
    folder = Path(os.environ.get("HUNCH_STUDY", ".study"))
    paths = [folder / f"{stem}_{part}.parquet" for part in ("features", "images")]
    if not all(path.is_file() for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / f"{stem}.root"
        simulate(
            process,
            n,
            made,
            seed=SEEDS[name],
            workers=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            parameters=dict(zip(("m_zprime", "m_x", "m_y"), map(float, masses), strict=True)) if masses else None,
            progress=sys.stderr.isatty(),
        )
        running = Running(executor="iterative", progress=False)
        for path, representation in zip(paths, (Features(), Images()), strict=True):
            write_table(path, run_table(made, representation, running).table)
        made.unlink()
    features, images = (read_table(path) for path in paths)
    _, rows, others = np.intersect1d(event_numbers(features), event_numbers(images), return_indices=True)
    return features.select(rows), images.select(others)


def event_numbers(table: Table) -> npt.NDArray[np.int64]:
    """Return one number an event of one simulated file: (n,)."""
    return np.asarray(table["luminosityBlock"] * 10**9 + table["event"], dtype=np.int64)


def points(images: Table) -> Floats:
    """Return events (n, m, 4) as points: half of a pixel's pT, its row, its column, which jet it is of; zeros are padding."""
    n = len(images)
    both = np.stack([images["image_1"], images["image_2"]], axis=1).astype(np.float64)
    both /= 2 * both.sum(axis=(2, 3), keepdims=True)
    event, jet, row, column = np.nonzero(both)
    counts = np.bincount(event, minlength=n)
    slot = np.arange(len(event)) - np.repeat(np.cumsum(counts) - counts, counts)
    found = np.zeros((n, int(counts.max()), 4))
    found[event, slot] = np.column_stack([both[event, jet, row, column], row, column, APART * jet])
    return found


def inside(sample: tuple[Table, Table], low: float, high: float) -> tuple[Floats, Floats]:
    """Return the features (n, 12) and the points of the events with m_jj in a window, GeV."""
    features, images = sample
    kept = (features["mjj"] >= low) & (features["mjj"] < high)
    return features.select(kept).matrix(QUAK_FEATURES), points(images.select(kept))


def run() -> dict[str, Any]:
    """Compare the spaces; returns AUC and the largest SIC with errors."""
    background = inside(pair("train", EVENTS // 2), ABOVE, np.inf)
    tested = [
        inside(pair("test", EVENTS // 2), *WINDOW),
        inside(pair("signal", max(EVENTS // 6, 100), SIGNAL), *WINDOW),
    ]
    x, clouds = (np.concatenate(parts) for parts in zip(*padded(tested), strict=True))
    label = np.repeat([0, 1], [len(t[0]) for t in tested])

    def medoids() -> EventToEnsemble:
        return EventToEnsemble(inputs="constituents", k=MEDOIDS)

    to_qcd, density = medoids().fit(background[1]), Flow(seed=0, device="cpu", max_epochs=EPOCHS).fit(background[0])
    rows = [told({"prior": "-", "axes": "transport to QCD", **summary([to_qcd.score(clouds)], label)})]
    for name, masses in PRIORS.items():
        prior = inside(pair(name, max(EVENTS // 12, 100), masses), ABOVE, np.inf)
        quak = Quak(seed=0, device="cpu", family=False, max_epochs=EPOCHS).fit(background[0], priors={name: prior[0]})
        to_prior = medoids().fit(prior[1])
        images = ScorerSpace(to_qcd, {name: to_prior}).fit(background[1], fitted=True)
        both = ScorerSpace(density, {name: to_prior}).fit(
            {"background": background[0], name: background[1]}, fitted=True
        )
        spaces = {
            "losses of densities": quak.score(x, metric="difference"),
            "transport to QCD and to the prior": images.score(clouds),
            "transport to the prior alone": -to_prior.score(clouds),
            "background loss, transport to the prior": both.score({"background": x, name: clouds}),
        }
        rows += [told({"prior": name, "axes": axes, **summary([score], label)}) for axes, score in spaces.items()]
    return {
        "command": "make study ONLY=transport_axes",
        "events": EVENTS,
        "signal": list(SIGNAL),
        "medoids": MEDOIDS,
        "tested_background": int((label == 0).sum()),
        "tested_signal": int((label == 1).sum()),
        "rows": rows,
    }


def padded(samples: list[tuple[Floats, Floats]]) -> list[tuple[Floats, Floats]]:
    """Return the samples with as many points an event in each: zeros are padding."""
    most = max(events.shape[1] for _, events in samples)
    return [(x, np.pad(events, [(0, 0), (0, most - events.shape[1]), (0, 0)])) for x, events in samples]
