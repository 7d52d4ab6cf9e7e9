"""Limits of one mass in three regions: the project's likelihood with pyhf on its exported workspace; pseudo-experiments a second."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyhf
from threadpoolctl import threadpool_limits

from hunch.analysis import BumpHunt, HuntSettings, LimitModel, SignalErrors, hunt, limit_model
from hunch.analysis.fits.background import design_matrix
from hunch.analysis.limits.asymptotic import asymptotic_limits
from hunch.analysis.limits.experiments import experiment_limits
from hunch.analysis.limits.pyhf_limits import pyhf_limits
from hunch.analysis.limits.workspace import build, parameters_of
from hunch.analysis.spectra.bins import DIJET_EDGES, as_hist

MASS, LEVEL = 2600.0, 0.05
EVENTS = (40_000, 8_000, 1_000)
EFFICIENCIES = (0.1, 0.2, 0.3)
ERRORS = SignalErrors(scale=(0.01, 0.015), resolution=0.1, efficiency=0.05, luminosity=0.02)
REPEATS = 20
EXPERIMENTS = 500


def spectra(events: tuple[int, ...]) -> BumpHunt:
    """Hunt in falling spectra of so many events, one a region."""
    edges = np.array([e for e in DIJET_EDGES if 1530 <= e <= 6099], dtype=np.float64)
    columns = design_matrix(edges, 2, sqrt_s=13_000.0)
    shape = np.exp(columns[:, 1:] @ np.array([9.0, -5.0])) * np.diff(edges)
    rng = np.random.default_rng(1)
    drawn = [rng.poisson(n * shape / shape.sum()).astype(float) for n in events]
    return hunt([as_hist(edges, counts) for counts in drawn], [MASS], settings=HuntSettings(pseudo_experiments=0))


def model_of(events: tuple[int, ...], efficiencies: tuple[float, ...]) -> LimitModel:
    """Return the likelihood of one mass in spectra of so many events."""
    model = limit_model(spectra(events), MASS, efficiencies=efficiencies, errors=ERRORS)
    assert isinstance(model, LimitModel), model
    return model


def run() -> list[dict[str, Any]]:
    """Compare seconds a mass and the limits; count fits of pseudo-experiments a second. CPU time of one core."""
    model = model_of(EVENTS, EFFICIENCIES)
    nuisances = sum(b.basis.shape[1] for b in model.backgrounds) + len(model.shapes) + len(model.factors)
    likelihood = model.likelihood
    few = model_of((600,), (0.5,)).likelihood
    # with its usual tolerance pyhf stops 1e-3 of a limit beside the minimum where there are this many parameters
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer(tolerance=1e-9))
    with threadpool_limits(1):
        ours = asymptotic_limits(likelihood, LEVEL)  # compiled by now
        start = time.process_time()
        for _ in range(REPEATS):
            asymptotic_limits(model.likelihood, LEVEL)
        seconds = (time.process_time() - start) / REPEATS
        start = time.process_time()
        built, data = build(model)
        theirs = pyhf_limits(built, data, LEVEL, precision=1e-4, start=parameters_of(model, built, likelihood.fit(0.0)))
        reference = time.process_time() - start
        start = time.process_time()
        experiment_limits(few, LEVEL, n=EXPERIMENTS, seed=1)
        by_experiments = time.process_time() - start
    apart = float(np.abs(theirs / ours - 1).max())
    rate = 11 * EXPERIMENTS / by_experiments
    return [
        {
            "name": f"limits of one mass, three regions, {nuisances} nuisances, against pyhf",
            "ours": seconds,
            "reference": reference,
            "ratio": reference / seconds,
            "bar": 84.0,
            "unit": "s",
        },
        {
            "name": "largest relative difference of a limit from pyhf's",
            "ours": apart,
            "reference": 1e-4,
            "ratio": 1e-4 / apart,
            "bar": 1.0,
            "unit": "",
        },
        {
            "name": "fits of pseudo-experiments a second, one region",
            "ours": rate,
            "reference": 2000.0,
            "ratio": rate / 2000.0,
            "bar": 1.0,
            "unit": "1/s",
        },
    ]
