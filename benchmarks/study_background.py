"""What the background model makes of smooth truths, in its family and outside: `make study ONLY=background`.

Each cell is a truth and a number of events: DATASETS datasets without signal, each hunted with experiments of its own fit, and as many
with a signal of 5 sigma against a known background at the low edge, the middle and 90 % of the scan. Limits are those of CLs+b, since
CLs covers more than it says where there is no signal: at ten masses signals of 0.5, 1 and 2 times the median expected CLs limit are
injected, and it is counted how often the limit lies above what was injected. Truths are those of
arXiv:1911.03947 (cms), of the study that the model was built on, and others that it was not tuned on (`own`).
Environment: TRUTHS, EVENTS (lists with commas), DATASETS, EXPERIMENTS, FAMILY.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from hunch.analysis import GaussianProcess, HuntSettings, SignalShape, hunt, mass_edges, signal_templates
from hunch.analysis.fits.columns import columns_at
from hunch.analysis.goodness.fit_quality import fit_qualities
from hunch.analysis.limits.asymptotic import NoLimit, asymptotic_limits
from hunch.analysis.limits.backgrounds import RegionBackground, standard
from hunch.analysis.limits.fit import Likelihood, likelihood_of
from hunch.analysis.ranges.fit_range import range_of_spectrum
from hunch.analysis.significance.procedure import Procedure, procedure
from hunch.analysis.spectra.bins import as_hist
from hunch.errors import InputError

Floats = npt.NDArray[np.float64]
SQRT_S = 13_000.0
DATASETS = int(os.environ.get("DATASETS", "400"))
EXPERIMENTS = int(os.environ.get("EXPERIMENTS", "200"))
FAMILY = os.environ.get("FAMILY", "gaussian_process")
EVENTS = tuple(float(n) for n in os.environ.get("EVENTS", "300,1e3,1e4,1e5,1e6").split(","))
MASSES = 40
SEED = 16
BLOCK = 4_000  # experiments hunted together
LIMIT_MASSES = 10
PLACES = (0, MASSES // 4, MASSES // 2, 3 * MASSES // 4, MASSES - 1)  # of the scan
STRENGTHS = (0.5, 1.0, 2.0)  # of signals, in median expected limits
FOR_EXPECTED = 20  # datasets whose median is the median expected limit
LEVEL = 0.05


@dataclass(frozen=True)
class Truth:
    """A smooth spectrum: a density in m (GeV), and the range of its bins."""

    density: Callable[[Floats], Floats]
    low: float
    high: float
    own: bool = False
    turn_on: bool = False


def dijet(m: Floats, p1: float, p2: float, p3: float = 0.0, p4: float = 0.0, p5: float = 0.0) -> Floats:
    """Return (1 - x)^p1 x^-(p2 + p3 ln x + p4 ln^2 x) exp(-p5 x)."""
    x = m / SQRT_S
    ln = np.log(x)
    return np.asarray((1 - x) ** p1 * x ** -(p2 + p3 * ln + p4 * ln**2) * np.exp(-p5 * x))


def drawn_process(m: Floats) -> Floats:
    """Return m^-6 times exp of one draw of a Gaussian process of width 0.1 and length 0.4 in ln m."""
    nodes = np.linspace(np.log(1000), np.log(8000), 60)
    covariance = 0.01 * np.exp(-((nodes[:, None] - nodes[None, :]) ** 2) / (2 * 0.4**2)) + 1e-10 * np.eye(60)
    draw = np.random.default_rng(7).multivariate_normal(np.zeros(60), covariance)
    return np.asarray((m / 1000) ** -6.0 * np.exp(np.interp(np.log(m), nodes, draw)))


TRUTHS: dict[str, Truth] = {
    "cms": Truth(lambda m: dijet(m, 8.1484, 5.2296, 0.0003), 1530, 8752),
    "dij5": Truth(lambda m: dijet(m, 9, 4.5, 0.3, 0.15, 6), 1000, 8152),
    "dplfall": Truth(lambda m: (m / 2500) ** -4.0 / (1 + (m / 2500) ** 4), 1000, 8152),
    "exp3": Truth(lambda m: sum(a * np.exp(-(m - 500) / t) for a, t in ((1, 150), (0.1, 350), (0.01, 700))), 526, 6099),
    "gpdraw": Truth(drawn_process, 1000, 8152),
    "turn": Truth(lambda m: dijet(m, 8, 5.2) * special.ndtr(np.log(m / 2400) / 0.12), 1856, 8152, turn_on=True),
    # not among those that the model's constants were chosen on
    "ua2": Truth(lambda m: m**-3.5 * np.exp(-9 * m / SQRT_S - 12 * (m / SQRT_S) ** 2), 1000, 8152, own=True),
    "weibull": Truth(lambda m: np.exp(-((m / 220.0) ** 0.75)), 1000, 6099, own=True),
    "two_powers": Truth(lambda m: (m / 1000) ** -7.0 + 0.02 * (m / 1000) ** -3.5, 1000, 8152, own=True),
    "logistic": Truth(lambda m: dijet(m, 10, 4.0) / (1 + 0.15 * np.tanh(np.log(m / 2600) / 0.5)), 1000, 8152, own=True),
}


def expectation(truth: Truth, events: float) -> tuple[Floats, Floats]:
    """Return edges (bins + 1,) and the expected events of each bin, the density integrated over it."""
    edges = mass_edges(truth.low, truth.high)
    nodes, weights = np.polynomial.legendre.leggauss(8)
    half, centre = 0.5 * np.diff(edges), 0.5 * (edges[1:] + edges[:-1])
    expected = (truth.density(centre[:, None] + half[:, None] * nodes) * weights).sum(axis=1) * half
    return edges, expected * events / expected.sum()


def five_sigma(expected: Floats, template: Floats) -> float:
    """Return the yield that has z = 5 against a known background, by the Asimov formula."""

    def excess(yield_: float) -> float:
        s = yield_ * template
        return float(2 * ((s + expected) * np.log1p(s / expected) - s).sum()) - 25.0

    return float(optimize.brentq(excess, 1e-6, 1e9))


def last_mass(edges: Floats, expected: Floats) -> float:
    """Return the highest mass of the scan: ten events above, or two widths below the end."""
    above = np.cumsum(expected[::-1])[::-1]
    return float(min(edges[np.searchsorted(-above, -10.0)], edges[-1] * 0.93))


def hunted(counts: Floats, edges: Floats, templates: Floats, settings: HuntSettings) -> Procedure:
    """Return the procedure of every dataset (n, bins), each a search of one region."""
    return procedure(counts[:, None, :], edges, templates, settings)


@dataclass(frozen=True)
class Bins:
    """The bins that a dataset is hunted in: edges, the true expectation, masses, templates and settings."""

    edges: Floats
    expected: Floats
    masses: Floats
    templates: Floats
    settings: HuntSettings


def bins_from(start: int, edges: Floats, expected: Floats, *, turn_on: bool) -> Bins:
    """Return the bins of a range that starts at a bin."""
    own, nu = edges[start:], expected[start:]
    settings = HuntSettings(
        sqrt_s=SQRT_S, family=FAMILY, process=GaussianProcess(edge_terms=turn_on), pseudo_experiments=0
    )
    masses = np.geomspace(own[0] * 1.07, last_mass(own, nu), MASSES)
    return Bins(own, nu, masses, signal_templates(SignalShape(), masses, own), settings)


def ranges(counts: Floats, edges: Floats) -> list[tuple[int, bool]]:
    """Return where the range of each dataset (n, bins) starts, and whether a turn-on was seen; -1 where it is refused."""
    found = []
    for row in counts:
        try:
            window = range_of_spectrum(row, edges, shape=SignalShape(), sqrt_s=SQRT_S)
        except InputError:
            found.append((-1, False))
            continue
        seen = window.turn_on is not None and window.turn_on.seen
        found.append((int(np.searchsorted(edges, window.low)), seen))
    return found


def grouped(counts: Floats, edges: Floats, expected: Floats) -> list[tuple[npt.NDArray[np.int64], Bins]]:
    """Return the datasets (n, bins) that share a range, and its bins."""
    starts = ranges(counts, edges)
    # the first filled bin of a sparse spectrum is where it starts, and no cut
    return [
        (np.flatnonzero([s == one for s in starts]), bins_from(one[0], edges, expected, turn_on=one[1]))
        for one in sorted(set(starts))
        if one[0] >= 0
    ]


def refused(counts: Floats, of: Bins) -> npt.NDArray[np.bool_]:
    """Tell of each dataset (n, bins) whether no significance would be quoted: (n,)."""
    found = (hunt([as_hist(of.edges, row)], of.masses, settings=of.settings, progress=False) for row in counts)
    return np.array([fit_qualities(one, ["all"])[0].unfit for one in found], dtype=bool)


def without_signal(counts: Floats, of: Bins, rng: np.random.Generator) -> dict[str, Floats]:
    """Hunt in datasets (n, bins) with experiments of their own fits; a row each."""
    made = hunted(counts, of.edges, of.templates, of.settings)
    n, bins = counts.shape
    glob, local = np.empty(n), np.empty((n, MASSES))
    step = max(1, BLOCK // EXPERIMENTS)
    for start in range(0, n, step):
        part = slice(start, min(start + step, n))
        null = made.background.expected[part]
        draws = rng.poisson(null[:, None, :], size=(len(null), EXPERIMENTS, bins)).astype(np.float64)
        inner = hunted(draws.reshape(-1, bins), of.edges, of.templates, of.settings).log_combined
        inner = inner.reshape(len(null), EXPERIMENTS, MASSES)
        seen = made.log_combined[part, None, :]
        glob[part] = (1 + (inner.min(axis=2) <= seen.min(axis=2)).sum(axis=1)) / (1 + EXPERIMENTS)
        local[part] = (1 + (inner <= seen).sum(axis=1)) / (1 + EXPERIMENTS)
    pull = np.where(made.scan.converged, made.scan.signal / made.scan.error, np.nan)
    return {"global": glob, "local": local, "z": made.scan.z, "pull": pull, "error": made.scan.error}


def likelihoods(made: Procedure, counts: Floats, of: Bins, mass: int) -> list[Likelihood]:
    """Return the likelihood of limits at one mass for each dataset (n, bins), with the process that its hunt chose; mu in events."""
    options = {"sqrt_s": SQRT_S, "family": FAMILY}
    found = []
    for i, row in enumerate(counts):
        own = columns_at(made.background, i, of.edges, **options)
        background = standard(RegionBackground(own.basis, own.offset, own.precision, own.theta))
        # in units of about an error, as limits take it
        found.append(likelihood_of(row[None], [background], made.scan.error[i, mass] * of.templates[mass][None]))
    return found


def covered(likelihood: Likelihood, strength: float) -> float:
    """Tell whether the CLs+b limit lies above a strength: 1 or 0, nan where a fit failed."""
    without = likelihood.fit(0.0)
    best, fixed = likelihood.fit(near=without), likelihood.fit(strength, near=without)
    if not (best.converged and fixed.converged):
        return float("nan")
    q = 2 * max(fixed.nll - min(best.nll, without.nll), 0.0) if best.mu < strength else 0.0
    return float(np.sqrt(q) < special.ndtri(1 - LEVEL))


def coverage_of_limits(edges: Floats, expected: Floats, of: Bins, rng: np.random.Generator) -> dict[str, Any]:
    """Return the coverage of CLs+b limits, mean and worst of masses and strengths, where that is, and failed fits, in the usual range."""
    start = len(expected) - len(of.expected)
    shares, lost, total = np.empty((LIMIT_MASSES, len(STRENGTHS))), 0, 0
    masses = np.linspace(0, MASSES - 1, LIMIT_MASSES).round().astype(int)
    for i, mass in enumerate(masses):
        counts = rng.poisson(of.expected, size=(FOR_EXPECTED, len(of.expected))).astype(np.float64)
        made = hunted(counts, of.edges, of.templates, of.settings)
        limits = []
        for n, one in enumerate(likelihoods(made, counts, of, int(mass))):
            try:
                limits.append(asymptotic_limits(one, LEVEL)[3] * made.scan.error[n, mass])
            except NoLimit:
                lost += 1
        median = float(np.median(limits))
        template = signal_templates(SignalShape(), [of.masses[mass]], edges)[0]
        for j, strength in enumerate(STRENGTHS):
            size = strength * median
            counts = rng.poisson(expected + size * template, size=(DATASETS, len(expected))).astype(np.float64)
            counts = np.ascontiguousarray(counts[:, start:])
            made = hunted(counts, of.edges, of.templates, of.settings)
            kept = [
                covered(one, size / made.scan.error[n, mass])
                for n, one in enumerate(likelihoods(made, counts, of, int(mass)))
            ]
            lost += int(np.isnan(kept).sum())
            shares[i, j] = np.nanmean(kept)
            total += len(kept)
    worst = np.unravel_index(shares.argmin(), shares.shape)
    return {
        "limit_coverage": round(float(shares.mean()), 4),
        "worst_limit_coverage": round(float(shares[worst]), 4),
        "worst_at": f"{of.masses[masses[worst[0]]]:.0f} GeV, {STRENGTHS[worst[1]]:g}",
        "no_limit": round(lost / (total + LIMIT_MASSES * FOR_EXPECTED), 4),
    }


def error_beside_dijet(counts: Floats, of: Bins, errors: Floats) -> list[float]:
    """Return the median error of a yield over that beside the dijet function of an order by F-test, at five masses."""
    orders = replace(of.settings, family="dijet")
    made = hunted(counts, of.edges, of.templates, orders)
    return [round(float(np.median(errors[:, m] / made.scan.error[:, m])), 3) for m in PLACES]


def cell(truth: Truth, events: float, *, rng: np.random.Generator) -> dict[str, Any]:
    """Return the figures of one truth and number of events."""
    edges, expected = expectation(truth, events)
    counts = rng.poisson(expected, size=(DATASETS, len(expected))).astype(np.float64)
    groups = grouped(counts, edges, expected)
    rows = [without_signal(np.ascontiguousarray(counts[g][:, -len(b.expected) :]), b, rng) for g, b in groups]
    whole = {key: np.concatenate([r[key] for r in rows]) for key in rows[0]}
    none = np.concatenate([refused(counts[g][:, -len(b.expected) :], b) for g, b in groups])
    bias = np.nanmean(whole["pull"], axis=0)
    first = np.array([np.flatnonzero(row)[0] for row in counts])
    starts = np.array([s for s, _ in ranges(counts, edges)])
    found: dict[str, Any] = {
        "global_below_0.05": share(whole["global"] <= 0.05),
        "global_below_0.01": share(whole["global"] <= 0.01),
        "local_below_0.01": share(whole["local"] <= 0.01),
        "asymptotic_local_below_0.01": share(whole["z"] > 2.3263),
        "bias": [round(float(bias[m]), 2) for m in PLACES],
        "worst_bias": round(float(np.abs(bias).max()), 2),
        "coverage_68": share(np.abs(whole["pull"]) < 1),
        "error": [round(float(np.median(whole["error"][:, m])), 2) for m in PLACES],
        "refused": share(none),
        "no_range": share(starts < 0),
        "cut": share(starts > first),
        "start": float(edges[int(np.median(starts))]),
    }
    # injected at the masses of the usual range
    at, usual = max(zip(groups, rows, strict=True), key=lambda pair: len(pair[0][0]))
    usual_counts = np.ascontiguousarray(counts[at[0]][:, -len(at[1].expected) :])
    found["error_beside_dijet"] = error_beside_dijet(usual_counts, at[1], usual["error"])
    found |= coverage_of_limits(edges, expected, at[1], rng)
    z5, lost = [], []
    for place in (0, MASSES // 2, int(0.9 * MASSES)):
        template = signal_templates(SignalShape(), [at[1].masses[place]], edges)[0]
        size = five_sigma(expected, template)
        injected = rng.poisson(expected + size * template, size=(DATASETS, len(expected))).astype(np.float64)
        z, refusals = np.zeros(DATASETS), np.ones(DATASETS, dtype=bool)
        for g, b in grouped(injected, edges, expected):
            own = np.ascontiguousarray(injected[g][:, -len(b.expected) :])
            nearest = int(np.abs(b.masses - at[1].masses[place]).argmin())
            refusals[g] = refused(own, b)
            # a refusal counts as z = 0: else refusing wins
            z[g] = np.where(refusals[g], 0.0, hunted(own, b.edges, b.templates, b.settings).scan.z[:, nearest])
        z5.append(round(float(np.median(z)), 2))
        lost.append(share(refusals))
    return found | {"z5": z5, "refused_at_5_sigma": lost}


def share(chosen: npt.NDArray[np.bool_]) -> float:
    """Return the share of what is chosen."""
    return round(float(chosen.mean()), 4)


def run() -> dict[str, Any]:
    """Return the figures of every cell."""
    only = os.environ.get("TRUTHS", ",".join(TRUTHS)).split(",")
    rows = []
    for name in only:
        for events in EVENTS:
            rng = np.random.default_rng([SEED, list(TRUTHS).index(name), int(events)])
            row = {"truth": name, "own": TRUTHS[name].own, "events": events, **cell(TRUTHS[name], events, rng=rng)}
            print(row, file=sys.stderr, flush=True)
            rows.append(row)
    return {
        "command": "make study ONLY=background",
        "family": FAMILY,
        "datasets": DATASETS,
        "experiments": EXPERIMENTS,
        "cells": rows,
    }
