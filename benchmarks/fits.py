"""Batched fits: background fits of 10,000 spectra against a loop of iminuit, and 10,000 pseudo-experiments of a whole scan.

Both fit the four-parameter dijet function to the same spectra of 40 bins, by the extended binned Poisson likelihood. The loop is
`fit_with_minuit`: iminuit's ExtendedBinnedNLL in coordinates and from starting values in which MIGRAD needs few calls;
it fits a part of the spectra and its time is scaled. Every fit of that part is compared: |2 dNLL| < 1e-3 for 99.9 %.
The scan is of 5 regions and 40 masses, each background a dijet function of an order by F-test or a Gaussian process chosen twice,
against the two minutes it may take; of one region, on one core, against a thousand experiments a second.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from hunch.analysis import HuntSettings, SignalShape, fit_background, fit_with_minuit, signal_templates
from hunch.analysis.significance.experiments import pseudo_experiments

SPECTRA, COMPARED, BINS, ORDER, SQRT_S = 10_000, 200, 40, 4, 13_000.0
REGIONS, MASSES, EXPERIMENTS, LIMIT = 5, 40, 10_000, 120.0
ONE_CORE, RATE = 2_000, 1_000
EVENTS = (150, 300, 1_000, 5_000, 20_000)  # of the regions


def expected(events: float) -> tuple[np.ndarray, np.ndarray]:
    """Return edges (GeV) and a falling spectrum of so many events."""
    edges = np.geomspace(2_600.0, 8_000.0, BINS + 1)
    x = 0.5 * (edges[1:] + edges[:-1]) / SQRT_S
    shape = (1 - x) ** 9 * x ** -(5.5 + 0.3 * np.log(x)) * np.diff(edges)
    return edges, events * shape / shape.sum()


def background_fits() -> list[dict[str, Any]]:
    """Compare the batched fits with a loop, compilation left out."""
    edges, shape = expected(20_000)
    counts = np.random.default_rng(1).poisson(shape, (SPECTRA, BINS)).astype(float)
    with threadpool_limits(1):
        fit_background(counts[:10], edges, ORDER, sqrt_s=SQRT_S)
        start = time.perf_counter()
        batched = fit_background(counts, edges, ORDER, sqrt_s=SQRT_S)
        ours = time.perf_counter() - start
        start = time.perf_counter()
        single = [fit_with_minuit(n, edges, ORDER, sqrt_s=SQRT_S) for n in counts[:COMPARED]]
        loop = (time.perf_counter() - start) * SPECTRA / COMPARED
    difference = 2 * np.abs(batched.nll[:COMPARED] - np.array([fit.nll for fit in single]))
    told = {
        "largest_2nll_difference": float(difference.max()),
        "beyond_0.001": int((difference > 1e-3).sum()),
        "compared": COMPARED,
        "failed": int((~batched.converged).sum()),
        "fits_a_second": SPECTRA / ours,
    }
    print(told, file=sys.stderr)
    case = f"{SPECTRA} background fits of {BINS} bins, {ORDER} parameters and a norm"
    return [line(case, ours, loop, "a loop of iminuit fits", 300)]


def whole_scans() -> list[dict[str, Any]]:
    """Time the pseudo-experiments of a scan, on all cores and of one region on one."""
    edges, _ = expected(1)
    spectra = np.stack([expected(events)[1] for events in EVENTS])
    masses = np.geomspace(2_900.0, 7_000.0, MASSES)
    templates = signal_templates(SignalShape(), masses, edges)
    lines = []
    for family in ("gaussian_process", "dijet"):
        seconds = timed(spectra, edges, templates, HuntSettings(family=family, pseudo_experiments=EXPERIMENTS))
        case = f"{EXPERIMENTS} pseudo-experiments, {REGIONS} regions, {MASSES} masses, {family}"
        lines.append(line(case, seconds, LIMIT, "the limit", 1))
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    for r, events in enumerate(EVENTS):
        settings = HuntSettings(family="gaussian_process", pseudo_experiments=ONE_CORE)
        seconds = timed(spectra[r : r + 1], edges, templates, settings)
        case = f"{ONE_CORE} pseudo-experiments of {events} events, {MASSES} masses, on one core"
        lines.append(line(case, seconds, ONE_CORE / RATE, f"{RATE} a second", 1))
    if threads is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = threads
    return lines


def timed(spectra: np.ndarray, edges: np.ndarray, templates: np.ndarray, settings: HuntSettings) -> float:
    """Return the seconds of a scan's pseudo-experiments, compilation left out."""
    for n in (10, settings.pseudo_experiments):
        start = time.perf_counter()
        found = pseudo_experiments(
            spectra,
            edges,
            templates,
            float(np.log(1e-4)),
            settings=replace(settings, pseudo_experiments=n),
            progress=False,
        )
        seconds = time.perf_counter() - start
    print({"family": settings.family, "global_p": found.p, "failed": found.failed}, file=sys.stderr)
    return seconds


def line(case: str, ours: float, reference: float, what: str, bar: float) -> dict[str, Any]:
    """Return one result as the benchmarks print it."""
    return {
        "name": f"{case}; reference: {what}",
        "ours": ours,
        "reference": reference,
        "ratio": reference / ours,
        "bar": bar,
        "unit": "s",
    }


def run() -> list[dict[str, Any]]:
    """Run both."""
    return [*background_fits(), *whole_scans()]
