"""Other families fitted to one spectrum: each finds its own truth, a bump is held against none, and what cannot be fitted says why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import optimize

from hunch.analysis import ALTERNATIVES, Alternative, SignalShape, fit_alternatives, signal_templates
from hunch.analysis.fits.alternatives import same_curve
from hunch.analysis.fits.background import poisson_nll
from hunch.analysis.fits.curved import fit_sums, residuals

Array = np.ndarray[Any, Any]
EDGES = np.geomspace(500.0, 6000.0, 41)
SQRT_S = 13_000.0


def counted(density: Any, events: float, *, edges: Array = EDGES) -> Array:
    """Return the expected counts of a density in m."""
    expected = density(0.5 * (edges[1:] + edges[:-1])) * np.diff(edges)
    return np.asarray(events * expected / expected.sum())


def exp3(m: Array) -> Array:
    return np.asarray(np.exp(-(m - 500) / 150) + 0.1 * np.exp(-(m - 500) / 350) + 0.01 * np.exp(-(m - 500) / 700))


def dplfall(m: Array) -> Array:
    return np.asarray((m / 2500) ** -4 / (1 + (m / 2500) ** 4))


TRUTHS: dict[str, Any] = {
    "dijet": lambda m: (1 - m / SQRT_S) ** 9 * (m / SQRT_S) ** -5.0,
    "exponential": lambda m: np.exp(-m / 700 + (m / 4000) ** 2),
    "bernstein": lambda m: (1 - (m - 500) / 5500) ** 4,
    "log-polynomial": lambda m: np.exp(-4 * np.log(m / 500) - 0.5 * np.log(m / 500) ** 2),
    "UA2": lambda m: (m / SQRT_S) ** -2.0 * np.exp(-10 * m / SQRT_S + 5 * (m / SQRT_S) ** 2),
    "sum of exponentials": exp3,
    "sum of powers": lambda m: (m / 500) ** -8.0 + 0.05 * (m / 500) ** -3.0,
    "broken power": dplfall,
}


def one(counts: Array, family: str, *, edges: Array = EDGES, mass: float | None = None) -> Alternative:
    template = None if mass is None else signal_templates(SignalShape(), [mass], edges)[0]
    return fit_alternatives(counts, edges, sqrt_s=SQRT_S, template=template, families=[family])[0]


@pytest.mark.parametrize("family", list(ALTERNATIVES))
def test_a_family_finds_its_own_truth_and_a_signal_on_top(family: str) -> None:
    truth = counted(TRUTHS[family], 1e6)
    template = signal_templates(SignalShape(), [1500.0], EDGES)[0]
    injected = 6 * np.sqrt(truth[template > 0.1 * template.max()].sum())
    counts = np.random.default_rng(7).poisson(truth + injected * template).astype(float)
    found = one(counts, family, mass=1500.0)
    assert found.described
    assert found.p > 0.01
    assert abs(found.signal - injected) < 3.5 * found.error
    assert found.z == pytest.approx(found.signal / found.error, rel=0.2)
    # as close to the truth as its parameters let it come, and the signal is not part of it
    nll = float(poisson_nll(counts, truth + injected * template))
    assert found.nll < nll + (3.0 if family == "bernstein" else 0.5)  # which integrates over its bins, others do not
    assert ((found.expected - truth) ** 2 / truth).sum() < 5 * (found.n_parameters + 2)
    assert found.nll <= found.nll_alone


def test_every_family_is_among_the_truths() -> None:
    assert list(TRUTHS) == list(ALTERNATIVES)


def test_a_sum_of_three_exponentials_is_seen_to_be_none_of_fewer_and_not_more() -> None:
    """A minimum by scipy's own optimiser, from the truth, is not better."""
    truth = counted(exp3, 1e5)
    counts = np.random.default_rng(3).poisson(truth).astype(float)
    found = one(counts, "sum of exponentials")
    assert (found.order, found.name) == (3, "sum of 3 exponentials")
    m, width = 0.5 * (EDGES[1:] + EDGES[:-1]) - 500, np.diff(EDGES) / np.diff(EDGES).mean()

    def nll(x: Array) -> float:
        return float(poisson_nll(counts, width * np.exp(x[:3] - np.exp(x[3:]) * m[:, None]).sum(axis=1)))

    start = np.log([truth[0], truth[0] / 10, truth[0] / 100, 1 / 150, 1 / 350, 1 / 700])
    best = optimize.minimize(nll, start, method="Nelder-Mead", options={"maxiter": 4000, "maxfev": 4000})
    assert found.nll < best.fun + 0.02


def test_a_polynomial_in_the_logarithm_takes_no_degree_that_does_not_pay() -> None:
    truth = counted(TRUTHS["log-polynomial"], 1e5)
    rng = np.random.default_rng(4)
    orders = [one(rng.poisson(truth).astype(float), "log-polynomial").order for _ in range(20)]
    assert min(orders) == 2
    assert np.median(orders) == 2


def test_a_strong_bump_is_held_against_no_family() -> None:
    truth = counted(exp3, 1e5)
    template = signal_templates(SignalShape(), [1500.0], EDGES)[0]
    counts = np.random.default_rng(5).poisson(truth + 2000 * template).astype(float)
    found = one(counts, "sum of exponentials", mass=1500.0)
    assert found.described
    assert found.z > 20
    assert not one(counts, "sum of exponentials").described


@pytest.mark.parametrize("bins", [8, 40, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("events", [0, 5, 100, 1e4, 1e7])
def test_no_spectrum_gives_a_warning_or_a_traceback(bins: int, events: float) -> None:
    """Warnings are errors here: empty tails, next to no events, and as many as an experiment ever has."""
    edges = np.geomspace(500.0, 9000.0, bins + 1)
    counts = np.random.default_rng(1).poisson(counted(exp3, events, edges=edges)).astype(float)
    template = signal_templates(SignalShape(), [2000.0], edges)[0]
    for found in fit_alternatives(counts, edges, sqrt_s=SQRT_S, template=template):
        assert found.described == (found.p > 0.01)
        assert not found.described or (np.isfinite(found.expected).all() and (found.expected >= 0).all())
        assert repr(found)


def test_what_cannot_be_fitted_says_why() -> None:
    few = np.random.default_rng(2).poisson(counted(exp3, 6)).astype(float)
    assert one(few, "dijet").left_out == f"{few.sum():.0f} events are too few to tell"
    assert one(np.zeros(40), "UA2").left_out == "the spectrum is empty"
    wide = np.linspace(0.0, 14_000.0, 41)
    counts = counted(exp3, 1e4, edges=wide).round()
    assert one(counts, "dijet", edges=wide).left_out.startswith("defined between 0 and sqrt(s) = 13000 GeV")
    below = np.linspace(-100.0, 900.0, 41)
    at_any = {f.family for f in fit_alternatives(counts, below, sqrt_s=SQRT_S) if "above 0" not in f.left_out}
    assert at_any == {"dijet", "exponential", "bernstein", "sum of exponentials"}
    short = np.array([500.0, 600, 700, 800])
    assert "bins are too few" in one(np.array([900.0, 300, 100]), "UA2", edges=short).left_out


def test_wiggles_are_described_by_no_family() -> None:
    wiggles = counted(lambda m: dplfall(m) * (1 + 0.05 * np.sin(2 * np.pi * np.log(m) / 0.3)), 1e6)
    counts = np.random.default_rng(6).poisson(wiggles).astype(float)
    found = fit_alternatives(counts, EDGES, sqrt_s=SQRT_S)
    assert not any(f.described for f in found)
    assert all(f.left_out.startswith("p ") for f in found)


def test_sums_end_where_no_further_term_gains() -> None:
    """A spectrum that bends downwards has no better sum of falling powers than one of them."""
    counts = counted(dplfall, 1e4).round()
    u = np.log(0.5 * (EDGES[1:] + EDGES[:-1]))
    t, width = (u - u[0]) / (u[-1] - u[0]), np.diff(EDGES) / np.diff(EDGES).mean()
    assert len(list(fit_sums(counts, t, width, most=3))) == 1


def test_residuals_are_those_of_the_deviance_and_so_are_their_slopes() -> None:
    counts = np.array([0.0, 1.0, 1e6, 1e6, 50.0])
    expected = np.array([1e-9, 3.0, 1e6 + 1e-3, 9.9e5, 20.0])
    value, slope = residuals(counts, expected)
    step = 1e-6 * expected
    numeric = (residuals(counts, expected + step)[0] - residuals(counts, expected - step)[0]) / (2 * step)
    np.testing.assert_allclose(slope, numeric, rtol=1e-4)
    half = expected - counts + np.where(counts > 0, counts * np.log(np.maximum(counts, 1) / expected), 0.0)
    np.testing.assert_allclose(value[[0, 1, 3, 4]] ** 2, 2 * half[[0, 1, 3, 4]], rtol=1e-6)


def test_curves_that_no_experiment_tells_apart_are_the_same() -> None:
    nu = counted(exp3, 1e4)
    assert same_curve(nu, nu * (1 + 1e-3))
    assert not same_curve(nu, nu * 1.02)
