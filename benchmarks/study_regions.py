"""Which regions see an injected signal best: shape and fraction compared on our own simulation, never on a box.

`make study ONLY=regions`. QUAK trains on 10,000 simulated QCD events with one prior that is not the signal. Pseudo-data are
drawn with replacement from QCD events that neither training nor the region boundaries used, with signal events added; each
is hunted at the signal's mass. The figure is the median combined local z over pseudo-data. EVENTS sets the QCD events.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hunch.analysis import (
    HuntSettings,
    RegionChoice,
    Scored,
    find_fit_range,
    fit_signal_shape,
    hunt,
    spectrum,
)
from hunch.analysis.search import choose_regions
from hunch.models import Quak
from hunch.processors import read_fileset, run_dijets
from hunch.samples import simulate
from hunch.table import QUAK_FEATURES, Table, read_table, write_table

log = logging.getLogger(__name__)
CACHE = Path(os.environ.get("HUNCH_STUDY", ".study"))
EVENTS = int(os.environ.get("EVENTS", "40000"))
TRAINING = 10_000
N_DATA = 10_000
N_SIGNAL = 40
N_PSEUDO = 60
SIGNALS = {
    "xy_3500_500_100": (3500, 500, 100),
    "xy_4000_300_300": (4000, 300, 300),
    "xy_3000_400_200": (3000, 400, 200),
}
PRIOR = ("xy_4500_500_150", (4500, 500, 150))
Rows = npt.NDArray[np.int64]


def table(name: str, process: str, n: int, seed: int, masses: tuple[float, ...] | None = None) -> Table:
    """Simulate and process a sample once; the table is kept in the study's folder."""
    path = CACHE / f"{name}.parquet"
    if not path.is_file():
        events = CACHE / f"{name}.root"
        parameters = dict(zip(("m_zprime", "m_x", "m_y"), masses, strict=True)) if masses else None
        if not events.is_file():
            simulate(
                process,
                n,
                events,
                seed=seed,
                workers=os.cpu_count() or 1,
                parameters=parameters,
                progress=sys.stderr.isatty(),
            )
        write_table(path, run_dijets(read_fileset([events]), progress=False).table)
    return read_table(path)


def qcd(n: int) -> tuple[Table, Table]:
    """Return QCD events to train on and others to hunt in, of two seeds."""
    return table("qcd_c", "qcd", n // 2, 1003), table("qcd_d", "qcd", n // 2, 1004)


def scored(quak: Quak, sample: Table, name: str) -> Scored:
    """Score a table by one model."""
    return Scored(name, sample["mjj"], quak.losses(sample.matrix(QUAK_FEATURES)), np.zeros(len(sample), dtype=np.int64))


def trained() -> tuple[Quak, Scored, Scored, dict[str, Scored], Table]:
    """Return the model, events that fix regions, events that make pseudo-data, the signals, and the prior."""
    first, second = qcd(EVENTS)
    prior = table(PRIOR[0], "zprime_xy", 3000, 12, PRIOR[1])
    rows = np.arange(len(first)) < TRAINING
    quak = Quak(seed=0).fit(first.select(rows).matrix(QUAK_FEATURES), priors={"prior": prior.matrix(QUAK_FEATURES)})
    seeds = {"xy_3500_500_100": (2000, 11), "xy_3000_400_200": (3000, 13), "xy_4000_300_300": (3000, 14)}
    signals = {
        name: scored(quak, table(name, "zprime_xy", *seeds[name], masses), name) for name, masses in SIGNALS.items()
    }
    return quak, scored(quak, first.select(~rows), "calibration"), scored(quak, second, "pseudo-data"), signals, prior


def draw(pool: Scored, rows: Rows) -> Scored:
    """Return the rows of a sample, repeated as drawn."""
    return Scored(pool.name, pool.mjj[rows], pool.losses[rows], pool.fold[rows])


def run() -> dict[str, Any]:
    """Compare shapes and fractions; returns the table of median z and the choice."""
    _, calibration, pool, signals, prior = trained()
    settings = HuntSettings(pseudo_experiments=0)
    window = find_fit_range(calibration.mjj, sqrt_s=settings.sqrt_s, reach=float(pool.mjj.max()))
    shape = fit_signal_shape({"prior": prior["mjj"]})
    expected = round(float(window.inside(pool.mjj).mean()) * N_DATA)
    rows = []
    for kind in ("difference", "plane"):
        for fraction in (0.01, 0.02, 0.06, 0.1, 0.3):
            for number in (1, 3):
                choice = RegionChoice(kind, number, fraction)
                regions = choose_regions(calibration, window, choice, expected_events=expected)
                z: dict[str, float] = {}
                for name, signal in signals.items():
                    rng = np.random.default_rng(7)
                    mass = float(np.median(signal.mjj))
                    values = []
                    for _ in range(N_PSEUDO):
                        b = draw(pool, rng.integers(len(pool.mjj), size=rng.poisson(N_DATA)))
                        s = draw(signal, rng.integers(len(signal.mjj), size=N_SIGNAL))
                        mjj, losses = np.concatenate([b.mjj, s.mjj]), np.concatenate([b.losses, s.losses])
                        region = regions.assign(losses)
                        spectra = [spectrum(mjj[region == r], window.edges) for r in range(number)]
                        found = hunt(spectra, [mass], shape=shape, settings=settings, progress=False)
                        values.append(float(-_ndtri(found.combined[0])))
                    z[name] = round(float(np.median(values)), 3)
                rows.append(
                    {
                        "shape": kind,
                        "fraction_asked": fraction,
                        "fraction": round(regions.fraction, 4),
                        "number": number,
                        "median_z": z,
                        "mean": round(float(np.mean(list(z.values()))), 3),
                    }
                )
                print(rows[-1], file=sys.stderr, flush=True)
    three = [r for r in rows if r["number"] == 3]
    best = {
        kind: max((r for r in three if r["shape"] == kind), key=lambda r: r["mean"]) for kind in ("difference", "plane")
    }
    return {
        "command": "make study ONLY=regions",
        "qcd_events": EVENTS,
        "data_events": N_DATA,
        "signal_events": N_SIGNAL,
        "pseudo_data": N_PSEUDO,
        "fit_range": [window.low, window.high],
        "prior": PRIOR[0],
        "rows": rows,
        "best_of_three_regions": best,
    }


def _ndtri(p: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(max(p, 1e-300)))
