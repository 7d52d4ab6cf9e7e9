"""Which regions see an injected signal best: axis, shape, fraction and number, on our own simulation, never on a box.

`make study ONLY=regions`. QUAK trains on 10,000 simulated QCD events with two priors, neither of which is a signal. Pseudo-data
are drawn with replacement from QCD events that neither training nor the region boundaries used, with signal events added;
each is hunted at the signal's mass. The figure is the median combined local z over pseudo-data.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from hunch.analysis import (
    SHAPES,
    HuntSettings,
    RegionChoice,
    Scored,
    find_fit_range,
    fit_signal_shape,
    hunt,
    spectrum,
)
from hunch.analysis.regions.scored import choose_regions
from hunch.config import FEW_FEATURES
from hunch.models import Quak
from hunch.table import Table

from . import simulated
from .simulated import Masses, told

TRAINING = 10_000
N_DATA = 10_000
N_SIGNAL = 60
N_PSEUDO = 40
QCD_SEEDS = (201, 202)  # of 20,000 events each: to train on and to fix regions, to draw pseudo-data from
SIGNALS: dict[Masses, tuple[int, int]] = {
    (3500, 500, 100): (4000, 101),
    (3500, 400, 200): (1500, 304),
    (3823, 732, 378): (4000, 103),
}
PRIORS: dict[Masses, tuple[int, int]] = {(4500, 500, 150): (3000, 102), (3500, 800, 300): (1500, 319)}
"""Masses -> events and seed."""
FRACTIONS = (0.005, 0.02, 0.06, 0.1, 0.3)
NUMBERS = (1, 3, 6)
AXES = {
    "neighbourhoods": ("mosaic",),
    "family": ("difference", "plane"),
    "priors": ("difference", "plane", "l5", "tree"),
}
NEIGHBOURHOODS = 24
FEATURES = tuple(os.environ.get("FEATURES", ",".join(FEW_FEATURES)).split(","))
Rows = npt.NDArray[np.int64]


def signal(masses: Masses, settings: tuple[int, int]) -> Table:
    """Return a simulated Z' -> X Y sample."""
    return simulated.table("zprime_xy", *settings, masses)


def scored(quak: Quak, sample: Table, name: str) -> Scored:
    """Score a table by one model."""
    x = sample.matrix(FEATURES)
    mass, fold = np.asarray(sample["mjj"], dtype=np.float64), np.zeros(len(x), dtype=np.int64)
    return Scored(name, mass, quak.losses(x), fold, axes=quak.axis_names)


def axes_of(quak: Quak, axis: str) -> tuple[str, ...]:
    """Return the axes that regions look at: of background and "family", its "neighbourhoods", or the "priors"."""
    names = quak.axis_names
    family = names.index("family")
    if axis == "neighbourhoods":
        return (names[0], *names[family + 1 :])
    return (names[0], "family") if axis == "family" else names[:family]


def trained() -> tuple[Quak, Scored, Scored, dict[str, npt.NDArray[np.float64]]]:
    """Return the model, events that fix regions, events that make pseudo-data, and the masses of the priors' events."""
    first, second = (simulated.table("qcd", 20_000, seed) for seed in QCD_SEEDS)
    priors = {"_".join(map(str, m)): signal(m, settings) for m, settings in PRIORS.items()}
    rows = np.arange(len(first)) < TRAINING
    quak = Quak(seed=0, device="cpu", hypotheses=NEIGHBOURHOODS).fit(
        first.select(rows).matrix(FEATURES), priors={n: t.matrix(FEATURES) for n, t in priors.items()}
    )
    masses = {n: np.asarray(t["mjj"], dtype=np.float64) for n, t in priors.items()}
    return quak, scored(quak, first.select(~rows), "calibration"), scored(quak, second, "pseudo-data"), masses


def draw(pool: Scored, rows: Rows) -> Scored:
    """Return the rows of a sample, repeated as drawn."""
    return Scored(pool.name, pool.mass[rows], pool.losses[rows], pool.fold[rows], axes=pool.axes)


def run() -> dict[str, Any]:
    """Compare axes, shapes, fractions and numbers; returns the table of median z and the best of each."""
    quak, calibration, pool, masses = trained()
    signals = {"_".join(map(str, m)): scored(quak, signal(m, settings), "signal") for m, settings in SIGNALS.items()}
    settings = HuntSettings(pseudo_experiments=0)
    window = find_fit_range(calibration.mass, sqrt_s=settings.sqrt_s, reach=float(pool.mass.max()))
    shape = fit_signal_shape(masses)
    expected = round(float(window.inside(pool.mass).mean()) * N_DATA)
    rows: list[dict[str, Any]] = []
    seen: set[tuple[Any, ...]] = set()
    for axis, kind, number, fraction in (
        (a, k, n, f)
        for a, kinds in AXES.items()
        for k in kinds
        for n in (NUMBERS if not SHAPES[k].needs_hypotheses else (NEIGHBOURHOODS,))
        for f in FRACTIONS
    ):
        choice = RegionChoice(kind, number, fraction, 1.0, axes_of(quak, axis))
        settings = HuntSettings(pseudo_experiments=0, combination=SHAPES[kind].combination)
        regions = choose_regions(calibration, window, choice, expected_events=expected)
        key = (axis, kind, regions.n_regions, round(regions.fraction, 4))
        if key in seen:  # small fractions are raised to 150 events a region
            continue
        seen.add(key)
        z: dict[str, float] = {}
        for name, sample in signals.items():
            rng = np.random.default_rng(7)
            peak = float(np.median(sample.mass))
            values = []
            for _ in range(N_PSEUDO):
                b = draw(pool, rng.integers(len(pool.mass), size=rng.poisson(N_DATA)))
                s = draw(sample, rng.integers(len(sample.mass), size=N_SIGNAL))
                mass, losses = np.concatenate([b.mass, s.mass]), np.concatenate([b.losses, s.losses])
                region = regions.assign(losses, names=pool.axes)
                spectra = [spectrum(mass[region == r], window.edges) for r in range(regions.n_regions)]
                found = hunt(spectra, [peak], shape=shape, settings=settings, progress=False)
                values.append(float(found.z_combined[0]))
            z[name] = round(float(np.median(values)), 2)
        rows.append(
            told(
                {
                    "axis": axis,
                    "shape": kind,
                    "number": regions.n_regions,
                    "fraction": round(regions.fraction, 4),
                    "median_z": z,
                    "mean": round(float(np.mean(list(z.values()))), 2),
                }
            )
        )
    return {
        "command": "make study ONLY=regions",
        "data_events": N_DATA,
        "signal_events": N_SIGNAL,
        "pseudo_data": N_PSEUDO,
        "fit_range": [window.low, window.high],
        "features": list(FEATURES),
        "priors": [list(m) for m in PRIORS],
        "rows": rows,
        "best": max(rows, key=lambda r: float(r["mean"])),
    }
