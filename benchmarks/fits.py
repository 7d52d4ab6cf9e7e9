"""Batched fits: background fits of 10,000 spectra against a loop of iminuit, and 10,000 pseudo-experiments of a whole scan.

Both fit the four-parameter dijet function to the same spectra of 40 bins, by the extended binned Poisson likelihood. The loop is
`fit_with_minuit`: iminuit's ExtendedBinnedNLL in coordinates and from starting values in which MIGRAD needs few calls;
it fits a part of the spectra and its time is scaled. Every fit of that part is compared: |2 dNLL| < 1e-3 for 99.9 %.
The scan is of 5 regions and 40 masses, the order of each background by F-test, against the two minutes it may take.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from hunch.analysis import HuntSettings, SignalShape, fit_background, fit_with_minuit, signal_templates
from hunch.analysis.significance.bumphunt import pseudo_experiments

SPECTRA, COMPARED, BINS, ORDER, SQRT_S = 10_000, 200, 40, 4, 13_000.0
REGIONS, MASSES, EXPERIMENTS, LIMIT = 5, 40, 10_000, 120.0
EVENTS = (150, 300, 1_000, 5_000, 20_000)  # of the regions


def expected(events: float) -> tuple[np.ndarray, np.ndarray]:
    """Return edges (GeV) and a falling spectrum of so many events."""
    edges = np.geomspace(2_600.0, 8_000.0, BINS + 1)
    x = 0.5 * (edges[1:] + edges[:-1]) / SQRT_S
    shape = (1 - x) ** 9 * x ** -(5.5 + 0.3 * np.log(x)) * np.diff(edges)
    return edges, events * shape / shape.sum()


def background_fits() -> list[dict[str, Any]]:
    """Compare the batched fits with a loop."""
    edges, shape = expected(20_000)
    counts = np.random.default_rng(1).poisson(shape, (SPECTRA, BINS)).astype(float)
    with threadpool_limits(1):
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
    """Time the pseudo-experiments of a scan."""
    edges, _ = expected(1)
    spectra = np.stack([expected(events)[1] for events in EVENTS])
    masses = np.geomspace(2_900.0, 7_000.0, MASSES)
    templates = signal_templates(SignalShape(), masses, edges)
    settings = HuntSettings(pseudo_experiments=EXPERIMENTS)
    start = time.perf_counter()
    found = pseudo_experiments(spectra, edges, templates, float(np.log(1e-4)), settings=settings, progress=False)
    seconds = time.perf_counter() - start
    print({"global_p": found.p, "failed": found.failed, "threads": 1}, file=sys.stderr)
    case = f"{EXPERIMENTS} pseudo-experiments, {REGIONS} regions, {MASSES} masses, F-test inside"
    return [line(case, seconds, LIMIT, "the limit", 1)]


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
