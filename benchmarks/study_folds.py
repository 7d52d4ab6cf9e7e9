"""Folds of the data in place of simulation: how much of a signal a search loses that trains on the data it hunts in.

`make study ONLY=folds`. Data are 20,000 simulated QCD events with 0, 20 or 80 events of a signal (0.1 and 0.4 %) whose
masses no prior has. "simulation": one model of other QCD events, its regions fixed on a third sample. "folds": five
models as `hunch run` trains them without a background sample, model i on all folds but i, in which it hunts, and i + 1,
on which its regions are fixed; "folds, signal left out" are the same folds of the same events without the signal, so
that what contamination costs stands apart from what fewer events cost. All are applied to the same events in one fit
range. Labels evaluate alone. DATA sets the seeds of the data, FEATURES the columns.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hunch.analysis import (
    FitRange,
    HuntSettings,
    RegionChoice,
    Regions,
    Scored,
    SignalShape,
    choose_background,
    difference_score,
    find_fit_range,
    fit_signal_shape,
    hunt,
    mass_grid,
    signal_templates,
    spectrum,
)
from hunch.analysis.fits.log_p import z_of_log
from hunch.analysis.regions.cuts import upper_cut
from hunch.analysis.regions.scored import choose_regions, regions_of_events
from hunch.analysis.resonance_search import spurious_signals
from hunch.analysis.significance.procedure import procedure
from hunch.config import FEW_FEATURES
from hunch.folds import fold_hash, fold_of
from hunch.models import Quak
from hunch.table import Table, concatenate

from . import simulated
from .simulated import Masses, told

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

N_QCD = 20_000  # events of every QCD sample
DATA_SEEDS = tuple(int(s) for s in os.environ.get("DATA", "309,310,311").split(","))
POOL_SEEDS = (401, 402)  # of QCD that no model, region or data has: background fractions and expectations
SIGNAL: Masses = (3500, 500, 100)
SIGNAL_SAMPLE = (4000, 101)
INJECTED = (20, 80)
PRIORS: dict[Masses, tuple[int, int]] = {(4500, 500, 150): (3000, 102), (3500, 400, 130): (1500, 303)}
"""Masses -> events and seed."""
FOLDS = 5
FRACTIONS = (0.01, 0.02, 0.05, 0.1)
OPTIONS: dict[str, Any] = {}
"""Of every model: the defaults, as in `hunch run`."""
EXPERIMENTS = 400  # of an expected significance
FEATURES = tuple(os.environ.get("FEATURES", ",".join(FEW_FEATURES)).split(","))
SIMULATION, LEFT_OUT, AS_IS = "simulation", "folds, signal left out", "folds"


# ------------------------------------------------------------------------------------------ training


@dataclass(frozen=True)
class Trained:
    """Models, one a fold of the data or one for all, and the events that fix the regions, each with its model's fold."""

    models: tuple[Quak, ...]
    calibration: Scored

    def fold(self, events: Table) -> Ints:
        """Return the model of each event: that of its fold."""
        return folds_of(events) if len(self.models) > 1 else np.zeros(len(events), dtype=np.int64)

    def scored(self, events: Table, name: str) -> Scored:
        """Score every event by the model of its fold."""
        return scored(self.models, events, self.fold(events), name)


def folds_of(events: Table) -> Ints:
    """Return the fold of each event, as `hunch run` has it; an event keeps it whatever other events there are."""
    return fold_of(fold_hash(events, FEATURES), FOLDS)


def scored(models: Sequence[Quak], events: Table, fold: Ints, name: str) -> Scored:
    """Score each event by the model that `fold` (n,) names."""
    x = events.matrix(FEATURES)
    losses = np.empty((len(x), len(models[0].axis_names)))
    for i, model in enumerate(models):
        if (fold == i).any():
            losses[fold == i] = model.losses(x[fold == i])
    mass = np.asarray(events["mjj"], dtype=np.float64)
    return Scored(name, mass, losses, fold, axes=models[0].axis_names)


def fitted(x: Floats, priors: Mapping[str, Floats], *, seed: int) -> Quak:
    """Train one model."""
    return Quak(seed=seed, device="cpu", **OPTIONS).fit(x, priors=priors)


def in_folds(data: Table, priors: Mapping[str, Floats]) -> Trained:
    """Train one model a fold of the data, as `workflow.train` does, and score what fixes the regions as `workflow.score`."""
    x, fold = data.matrix(FEATURES), folds_of(data)
    models = tuple(fitted(x[(fold != i) & (fold != (i + 1) % FOLDS)], priors, seed=i) for i in range(FOLDS))
    return Trained(models, scored(models, data, (fold - 1) % FOLDS, "the next fold"))


def on_simulation(background: Table, held_out: Table, priors: Mapping[str, Floats], *, seed: int) -> Trained:
    """Train one model on simulation."""
    models = (fitted(background.matrix(FEATURES), priors, seed=seed),)
    return Trained(models, scored(models, held_out, np.zeros(len(held_out), dtype=np.int64), "held-out simulation"))


def signal_events() -> Table:
    """Return the simulated signal in a fixed random order: data take their own blocks of it, the rest is independent."""
    events = simulated.table("zprime_xy", *SIGNAL_SAMPLE, SIGNAL)
    return events.select(np.random.default_rng(7).permutation(len(events)))


def injected(number: int) -> Table:
    """Return the signal events that the data of this number hold at the largest strength."""
    first = number * max(INJECTED)
    return signal_events().select(np.arange(first, first + max(INJECTED)))


def qcd(*seeds: int) -> Table:
    """Return QCD events of these samples."""
    return concatenate([simulated.table("qcd", N_QCD, seed) for seed in seeds], "QCD")


def trainings(number: int, priors: Mapping[str, Floats]) -> dict[tuple[str, int], Trained]:
    """Return (kind, signal events in training) -> models for the data of this number."""
    background, signal = qcd(DATA_SEEDS[number]), injected(number)
    held_out = qcd(simulated.TEST_SEED)
    found = {(SIMULATION, 0): on_simulation(qcd(simulated.TRAIN_SEED), held_out, priors, seed=number)}
    found[LEFT_OUT, 0] = in_folds(background, priors)
    for n in sorted(INJECTED, reverse=True):
        found[AS_IS, n] = in_folds(concatenate([background, signal.select(np.arange(n))], "data"), priors)
    return found


# ------------------------------------------------------------------------------------------ how much is kept


def scores(losses: Floats) -> dict[str, Floats]:
    """Return the two scores that regions can cut in, larger = more like the signal: losses (n, m) -> name -> (n,)."""
    return {"difference": difference_score(losses[:, :-1]), "family": difference_score(losses[:, [0, -1]])}


@dataclass(frozen=True)
class Kept:
    """Shares of events above a boundary, one a model: (models,) each, but (n,) for the injected events, 0 or 1 each.

    background, signal: above the boundary that the search fixes on its calibration events; signal_at_share: above the
    one that keeps the stated share of independent background, which no signal among the calibration events moves.
    """

    background: Floats
    signal: Floats
    signal_at_share: Floats
    injected: Floats


def kept(trained: Trained, window: FitRange, pool: Table, signal: Table, own: Table) -> dict[tuple[str, float], Kept]:
    """Return (score, fraction) -> shares kept of events in the fit range: independent QCD and signal, and the injected."""
    pool, signal, own = (t.select(window.inside(t["mjj"])) for t in (pool, signal, own))
    calibration = trained.calibration.select(window.inside(trained.calibration.mass))
    fixing = scores(calibration.losses)
    one = [
        {name: scores(m.losses(t.matrix(FEATURES))) for name, t in (("b", pool), ("s", signal))} for m in trained.models
    ]
    injected_scores, injected_fold = scores(trained.scored(own, "injected").losses), trained.fold(own)
    found = {}
    for score, values in fixing.items():
        for fraction in FRACTIONS:
            cuts = np.array([upper_cut(values[calibration.fold == i], fraction) for i in range(len(one))])
            rows = [
                (
                    (x["b"][score] > cut).mean(),
                    (x["s"][score] > cut).mean(),
                    (x["s"][score] > upper_cut(x["b"][score], fraction)).mean(),
                )
                for x, cut in zip(one, cuts, strict=True)
            ]
            above = (injected_scores[score] > cuts[injected_fold]).astype(np.float64)
            found[score, fraction] = Kept(*np.array(rows).T, above)
    return found


def mean_error(values: Sequence[Floats]) -> tuple[float, float]:
    """Return the mean of one array of models a data set, (models,) each, and its error.

    The error is the larger of that from the spread of the models and that from the spread of the data sets: models of
    one data set share most of their events, and few data sets have no well-known spread.
    """
    flat, means = np.concatenate(values), np.array([v.mean() for v in values])
    errors = [float(v.std(ddof=1) / np.sqrt(len(v))) for v in (flat, means) if len(v) > 1]
    return float(flat.mean()), max(errors, default=0.0)


def binomial(share: float, n: int) -> float:
    """Return the statistical error of a share of n events."""
    return float(np.sqrt(max(share * (1 - share), 0.0) / max(n, 1)))


# ------------------------------------------------------------------------------------------ the search


@dataclass(frozen=True)
class Fixed:
    """What is fixed before the data are opened."""

    window: FitRange
    regions: Regions
    masses: Floats
    at: int
    shape: SignalShape
    settings: HuntSettings


def fix(trained: Trained, window: FitRange, shape: SignalShape, background: Table, mass: float) -> Fixed:
    """Fix regions, and the lowest orders where the calibration is simulation, as `hunch.analysis.search` does."""
    reference = np.asarray(background["mjj"], dtype=np.float64)
    expected = int(window.inside(reference).sum())
    axes = trained.calibration.axes
    regions = choose_regions(
        trained.calibration, window, RegionChoice(axes=(axes[0], axes[-1])), expected_events=expected
    )
    grid = mass_grid(window, reference, resolution=min(max(shape.width, 0.035), 0.05))
    masses = np.unique(np.append(grid, mass))
    settings = HuntSettings(pseudo_experiments=0)
    if len(trained.models) == 1:
        checked = spurious_signals(
            trained.calibration, regions, window, grid, shape=shape, expected_events=expected, settings=settings
        )
        settings = replace(settings, lowest_orders=tuple(s.lowest for s in checked))
    return Fixed(window, regions, masses, int(np.flatnonzero(masses == mass)[0]), shape, settings)


def hunted(events: Scored, fixed: Fixed) -> dict[str, float]:
    """Hunt in data that were scored; z at the signal's mass, the largest z and its mass."""
    region = regions_of_events(events, fixed.regions)
    spectra = [spectrum(events.mass[region == r], fixed.window.edges) for r in range(fixed.regions.n_regions)]
    found = hunt(spectra, fixed.masses, shape=fixed.shape, settings=fixed.settings, progress=False)
    z = found.z_combined
    return {
        "z_at_signal": float(z[fixed.at]),
        "z_largest": float(z[found.best]),
        "mass": float(found.masses[found.best]),
    }


def by_region(trained: Trained, fixed: Fixed, events: Table) -> Floats:
    """Return the share of events in each region and bin (regions, bins), the mean over the models."""
    mjj, x = np.asarray(events["mjj"], dtype=np.float64), events.matrix(FEATURES)
    counts = np.zeros((fixed.regions.n_regions, len(fixed.window.edges) - 1))
    for i, model in enumerate(trained.models):
        region = fixed.regions.assign(model.losses(x), np.full(len(x), i), names=model.axis_names)
        for r in range(len(counts)):
            counts[r] += np.histogram(mjj[region == r], np.asarray(fixed.window.edges))[0]
    return counts / (len(trained.models) * len(events))


def expected_z(background: Floats, signal: Floats, fixed: Fixed, *, n_signal: int, n_pool: int, seed: int) -> float:
    """Return the median z at the signal's mass over pseudo-data with this many signal events.

    background, signal: shares (regions, bins); the background's is fitted on n_pool events and drawn for N_QCD, so that
    no fluctuation of the events that it comes from is in it.
    """
    edges = np.asarray(fixed.window.edges)
    settings = fixed.settings
    smooth = choose_background(
        background * n_pool, edges, sqrt_s=settings.sqrt_s, family=settings.family, lowest=settings.lowest_orders
    )
    mean = smooth.expected * N_QCD / n_pool + n_signal * signal
    rng = np.random.default_rng([seed, n_signal])
    counts = rng.poisson(np.broadcast_to(mean, (EXPERIMENTS, *mean.shape))).astype(np.float64)
    templates = signal_templates(fixed.shape, fixed.masses[[fixed.at]], edges)
    return float(np.median(z_of_log(procedure(counts, edges, templates, settings)[2][:, 0])))


# ------------------------------------------------------------------------------------------ the study


def run() -> dict[str, Any]:
    """Train, compare and hunt; returns shares kept, what is lost by which cause, and significances."""
    tables = {"_".join(map(str, m)): simulated.table("zprime_xy", *sample, m) for m, sample in PRIORS.items()}
    priors = {name: t.matrix(FEATURES) for name, t in tables.items()}
    shape = fit_signal_shape({name: np.asarray(t["mjj"], dtype=np.float64) for name, t in tables.items()})
    pool, signal = qcd(*POOL_SEEDS), signal_events()
    signal = signal.select(np.arange(len(DATA_SEEDS) * max(INJECTED), len(signal)))
    mass = float(np.median(signal["mjj"]))
    simulation = qcd(simulated.TRAIN_SEED, simulated.TEST_SEED)["mjj"]
    everything = [qcd(*DATA_SEEDS)["mjj"], pool["mjj"], signal_events()["mjj"]]
    window = find_fit_range(simulation, sqrt_s=13_000.0, reach=float(max(m.max() for m in everything)))
    shares: dict[tuple[str, int], list[dict[tuple[str, float], Kept]]] = {}
    hunts: dict[tuple[str, int, int], list[dict[str, float]]] = {}
    narrowed: dict[tuple[str, int], list[float]] = {}
    for number, data_seed in enumerate(DATA_SEEDS):
        background, own = qcd(data_seed), injected(number)
        for (kind, trained_with), trained in trainings(number, priors).items():
            shares.setdefault((kind, trained_with), []).append(
                kept(trained, window, pool, signal, own.select(np.arange(trained_with or max(INJECTED))))
            )
            narrowed.setdefault((kind, trained_with), []).extend(
                m.training_["family"]["refined"] for m in trained.models
            )
            fixed = fix(trained, window, shape, background, mass)
            b, s = (by_region(trained, fixed, t) for t in (pool, signal))
            events = trained.scored(concatenate([background, own], "data"), "data")
            for n in (trained_with,) if trained_with else (0, *INJECTED):
                there = np.arange(len(events.mass)) < len(background) + n
                row = {
                    **hunted(events.select(there), fixed),
                    "z_expected": expected_z(b, s, fixed, n_signal=n, n_pool=len(pool), seed=number),
                    "background_share": float(b.sum() / window.inside(pool["mjj"]).mean()),
                    "signal_share": float(s.sum() / window.inside(signal["mjj"]).mean()),
                }
                hunts.setdefault((kind, trained_with, n), []).append(row)
                told(
                    {"data": data_seed, "trained on": kind, "signal": n, "orders": fixed.settings.lowest_orders, **row}
                )
    n_signal = int(window.inside(signal["mjj"]).sum())
    return {
        "command": "make study ONLY=folds",
        "signal": list(SIGNAL),
        "priors": [list(m) for m in PRIORS],
        "features": list(FEATURES),
        "data": list(DATA_SEEDS),
        "data_background": N_QCD,
        "folds": FOLDS,
        "fit_range": [window.low, window.high],
        "independent_background_in_fit_range": int(window.inside(pool["mjj"]).sum()),
        "independent_signal_in_fit_range": n_signal,
        "signal_mass": round(mass),
        "kept": [told(r) for r in kept_rows(shares, n_signal)],
        "lost": [told(r) for r in lost_rows(shares)],
        "search": [told(search_row(*key, values)) for key, values in sorted(hunts.items(), key=lambda kv: kv[0][2])],
        "family_moved_by_data": [
            told({"trained_on": kind, "signal_in_training": n, "mean_weight": round(float(np.mean(w)), 3)})
            for (kind, n), w in narrowed.items()
        ],
    }


def kept_rows(
    shares: Mapping[tuple[str, int], Sequence[dict[tuple[str, float], Kept]]], n: int
) -> list[dict[str, Any]]:
    """Return one row a score, fraction and training; n: independent signal events."""
    rows = []
    for score, fraction in next(iter(shares.values()))[0]:
        for (kind, trained_with), sets in shares.items():
            of = [k[score, fraction] for k in sets]
            at_share, error = mean_error([k.signal_at_share for k in of])
            as_cut, cut_error = mean_error([k.signal for k in of])
            own = np.concatenate([k.injected for k in of])
            rows.append(
                {
                    "score": score,
                    "fraction": fraction,
                    "trained_on": kind,
                    "signal_in_training": trained_with,
                    "signal_kept": round(at_share, 4),
                    "error": round(float(np.hypot(error, binomial(at_share, n))), 4),
                    "above_boundary": round(as_cut, 4),
                    "above_boundary_error": round(float(np.hypot(cut_error, binomial(as_cut, n))), 4),
                    "background_above_boundary": round(mean_error([k.background for k in of])[0], 4),
                    "injected_above_boundary": round(float(own.mean()), 4),
                    "injected_error": round(binomial(float(own.mean()), len(own)), 4),
                }
            )
    return rows


def lost_rows(shares: Mapping[tuple[str, int], Sequence[dict[tuple[str, float], Kept]]]) -> list[dict[str, Any]]:
    """Return what each cause takes from the signal kept, in paired differences of the same events (negative: lost)."""
    steps = [("folds in place of simulation", (SIMULATION, 0), (LEFT_OUT, 0), "signal_at_share")]
    for n in INJECTED:
        steps.append((f"{n} signal events in training", (LEFT_OUT, 0), (AS_IS, n), "signal_at_share"))
        steps.append((f"{n} in training and in what fixes regions", (LEFT_OUT, 0), (AS_IS, n), "signal"))
    rows = []
    for score, fraction in next(iter(shares.values()))[0]:
        for cause, before, after, name in steps:
            old, new = ([getattr(k[score, fraction], name) for k in shares[key]] for key in (before, after))
            change, error = mean_error([b - a for a, b in zip(old, new, strict=True)])
            reference = float(np.mean([v.mean() for v in old]))
            rows.append(
                {
                    "score": score,
                    "fraction": fraction,
                    "cause": cause,
                    "change": round(change, 4),
                    "error": round(error, 4),
                    "relative": round(change / reference, 3) if reference else 0.0,
                    "relative_error": round(error / reference, 3) if reference else 0.0,
                }
            )
    return rows


def search_row(kind: str, trained_with: int, n: int, found: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return expected and measured significance over the data sets; a single local z has an error of about 1."""
    values = {name: np.array([f[name] for f in found]) for name in found[0]}
    # of a median of pseudo-data, and of models and data sets
    errors = [1.2533 / np.sqrt(EXPERIMENTS * len(found)), mean_error(list(values["z_expected"][:, None]))[1]]
    return {
        "signal_events": n,
        "trained_on": kind,
        "signal_in_training": trained_with,
        "z_expected": round(float(values["z_expected"].mean()), 2),
        "z_expected_error": round(float(np.hypot(*errors)), 2),
        "z_expected_each": [round(float(v), 2) for v in values["z_expected"]],
        "median_z_at_signal": round(float(np.median(values["z_at_signal"])), 2),
        "z_at_signal_each": [round(float(v), 2) for v in values["z_at_signal"]],
        "z_largest_each": [round(float(v), 2) for v in values["z_largest"]],
        "mass_each": [round(float(v)) for v in values["mass"]],
        "background_share": round(float(values["background_share"].mean()), 4),
        "signal_share": round(float(values["signal_share"].mean()), 4),
    }
