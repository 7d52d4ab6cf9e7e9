"""Black boxes in the manner of LHC Olympics box 1: what a whole search finds when its priors are far from the signal.

`make study ONLY=black_box`. A box is 40,000 simulated QCD events with 160, 320 or no events of Z'(3823) -> X(732) Y(378),
drawn without replacement from the samples that neither trained a model nor fixed a region: two boxes share a part of
their background. Two other samples train the background model and fix the regions, as `hunch run` does by default. No prior has
m_Z', m_X and m_Y of the box. "mosaic" (the default regions), "family" and "priors as given" apply one model to all
boxes; "weak" lets the other folds of each box narrow down the family of the priors, which costs five narrowings a box:
BOXES, WEAK_BOXES and NULL_BOXES set how many, QCD_SEEDS and FEATURES with what.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hunch.analysis import (
    SHAPES,
    FitRange,
    HuntSettings,
    RegionChoice,
    Regions,
    Scored,
    SignalShape,
    find_fit_range,
    fit_signal_shape,
    hunt,
    mass_grid,
    spectrum,
)
from hunch.analysis.regions.scored import choose_regions, regions_of_events
from hunch.analysis.resonance_search import spurious_signals
from hunch.config import FEW_FEATURES
from hunch.models import Quak
from hunch.table import Table

from . import simulated
from .simulated import Masses, told

BOXES = int(os.environ.get("BOXES", "20"))
WEAK_BOXES = int(os.environ.get("WEAK_BOXES", "6"))
NULL_BOXES = int(os.environ.get("NULL_BOXES", "20"))
QCD_SEEDS = tuple(map(int, os.environ.get("QCD_SEEDS", "201,202,309,310,311,401,402,403").split(",")))
"""Of 20,000 events each: two to train and calibrate, the others to draw boxes from."""
SIGNAL: Masses = (3823, 732, 378)
PRIORS: dict[Masses, tuple[int, int]] = {
    (4500, 500, 150): (3000, 102),
    (3000, 400, 200): (2000, 104),
    (4500, 500, 300): (2000, 105),
    (4500, 300, 300): (2000, 106),
}
"""Masses -> events and seed."""
FOLDS = 5
NEIGHBOURHOODS = 24
FEATURES = tuple(os.environ.get("FEATURES", ",".join(FEW_FEATURES)).split(","))


def draw(pool: Table, n: int, rng: np.random.Generator) -> Table:
    """Return n different events of a pool: an event drawn twice is a bump where events are few."""
    return pool.select(np.sort(rng.choice(len(pool), n, replace=False)))


@dataclass(frozen=True)
class Prepared:
    """What is fixed before a box is opened."""

    window: FitRange
    regions: Regions
    masses: npt.NDArray[np.float64]
    shape: SignalShape
    settings: HuntSettings


def prepare(
    calibration: Scored, window: FitRange, shape: SignalShape, reference: npt.NDArray[np.float64], choice: RegionChoice
) -> Prepared:
    """Fix regions, masses and the lowest orders of the background on held-out events, as `hunch.analysis.search` does."""
    settings = HuntSettings(pseudo_experiments=0, combination=SHAPES[choice.shape].combination)
    expected = round(float(window.inside(reference).mean()) * 40_000)
    regions = choose_regions(calibration, window, choice, expected_events=expected)
    masses = mass_grid(window, reference, resolution=min(max(shape.width, 0.035), 0.05))
    checked = spurious_signals(
        calibration, regions, window, masses, shape=shape, expected_events=expected, settings=settings
    )
    orders = tuple(s.lowest for s in checked)
    return Prepared(window, regions, masses, shape, replace(settings, lowest_orders=orders))


def hunted(box: Scored, prepared: Prepared, *, experiments: int, seed: int) -> dict[str, float]:
    """Hunt in one box."""
    region = regions_of_events(box, prepared.regions)
    spectra = [spectrum(box.mass[region == r], prepared.window.edges) for r in range(prepared.regions.n_regions)]
    settings = replace(prepared.settings, pseudo_experiments=experiments, seed=seed)
    found = hunt(spectra, prepared.masses, shape=prepared.shape, settings=settings, progress=False)
    near = int(np.argmin(np.abs(found.masses - SIGNAL[0])))
    return {
        "z": float(found.z_combined[found.best]),
        "z_at_signal": float(found.z_combined[near]),
        "mass": float(found.masses[found.best]),
        "z_global": float("nan") if found.global_p is None else found.global_p.z,
    }


def run() -> dict[str, Any]:
    """Search the boxes; returns medians and the single values."""
    qcd = [simulated.table("qcd", 20_000, seed) for seed in QCD_SEEDS]
    signal = simulated.table("zprime_xy", 4_000, 103, SIGNAL)
    priors = {m: simulated.table("zprime_xy", *settings, m) for m, settings in PRIORS.items()}
    features = {"_".join(map(str, m)): t.matrix(FEATURES) for m, t in priors.items()}
    masses = {"_".join(map(str, m)): np.asarray(t["mjj"], dtype=np.float64) for m, t in priors.items()}
    train, held = qcd[0], qcd[1]
    inclusive = np.concatenate([train["mjj"], held["mjj"]])
    quak = Quak(seed=0, device="cpu", hypotheses=NEIGHBOURHOODS).fit(train.matrix(FEATURES), priors=features)
    names = quak.axis_names
    first = names.index("family")
    family, places = (names[0], "family"), (names[0], *names[first + 1 :])
    held_x, held_mjj = held.matrix(FEATURES), np.asarray(held["mjj"], dtype=np.float64)
    held_losses = quak.losses(held_x)
    split = np.random.default_rng(0).integers(FOLDS, size=len(held))
    reference = np.concatenate([t["mjj"] for t in qcd[2:]]).astype(np.float64)
    window = find_fit_range(inclusive, sqrt_s=13_000.0, reach=float(reference.max()))
    shape = fit_signal_shape(masses)
    calibration = Scored("held-out QCD", held_mjj, held_losses, np.zeros(len(held), dtype=np.int64), axes=names)
    prepared = {
        name: prepare(calibration, window, shape, reference, replace(choice, axes=axes))
        for name, (choice, axes) in {
            "mosaic": (RegionChoice(shape="mosaic", number=NEIGHBOURHOODS, fraction=0.15), places),
            "family": (RegionChoice(), family),
            "priors as given": (RegionChoice(), names[:first]),
        }.items()
    }
    rows: list[dict[str, Any]] = []
    for n_signal, n_boxes in ((160, BOXES), (320, BOXES), (0, NULL_BOXES)):
        values: dict[str, list[dict[str, float]]] = {}
        experiments = 0 if n_signal else 400
        for number in range(n_boxes):
            rng = np.random.default_rng([n_signal, number])
            parts = [draw(t, rng.poisson(40_000 / len(qcd[2:])), rng) for t in qcd[2:]]
            parts += [draw(signal, n_signal, rng)] if n_signal else []
            x = np.concatenate([p.matrix(FEATURES) for p in parts])
            mjj = np.concatenate([p["mjj"] for p in parts]).astype(np.float64)
            losses = quak.losses(x)
            box = Scored("box", mjj, losses, np.zeros(len(x), dtype=np.int64), axes=names)
            for name, fixed in prepared.items():
                n = experiments if name == "mosaic" else 0
                values.setdefault(name, []).append(hunted(box, fixed, experiments=n, seed=number))
            if number < WEAK_BOXES and n_signal != 320:
                fold = rng.integers(FOLDS, size=len(x))
                box_losses, held_fold = np.empty_like(losses), np.empty_like(held_losses)
                for i in range(FOLDS):
                    own = quak.narrow(x[fold != i], priors=features, reference=held_x[split != i])
                    box_losses[fold == i] = own.losses(x[fold == i])
                    held_fold[split == i] = own.losses(held_x[split == i])
                fixing = Scored("held-out QCD", held_mjj, held_fold, split, axes=names)
                fixed = prepare(fixing, window, shape, reference, RegionChoice(axes=family))
                weak = Scored("box", mjj, box_losses, fold, axes=names)
                values.setdefault("weak", []).append(hunted(weak, fixed, experiments=experiments, seed=number))
            told({"signal": n_signal, "box": number, **{k: v[-1] for k, v in values.items() if len(v) == number + 1}})
        rows += [told(summary(n_signal, name, found)) for name, found in values.items()]
    return {
        "command": "make study ONLY=black_box",
        "pool": int(sum(len(t) for t in qcd[2:])),
        "box": list(SIGNAL),
        "features": list(FEATURES),
        "priors": [list(m) for m in PRIORS],
        "rows": rows,
    }


def summary(n_signal: int, name: str, found: list[dict[str, float]]) -> dict[str, Any]:
    """Return medians over boxes."""
    z, at, mass, glob = (np.array([f[k] for f in found]) for k in ("z", "z_at_signal", "mass", "z_global"))
    return {
        "signal_events": n_signal,
        "regions": name,
        "boxes": len(found),
        "median_z": round(float(np.median(z)), 2),
        "median_z_at_signal": round(float(np.median(at)), 2),
        "z_quartiles": [round(float(v), 2) for v in np.quantile(z, [0.25, 0.75])],
        "median_mass_over_pole": round(float(np.median(mass)) / SIGNAL[0], 3),
        "mass_within_3_percent": round(float(np.mean(np.abs(mass / SIGNAL[0] - 1) < 0.03)), 2),
        "above_2_global": int((glob > 2).sum()) if np.isfinite(glob).all() else None,
    }
