"""Limits and local p by pseudo-experiments against exact counting of one bin, and asymptotics where there are many events."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

from hunch.analysis import SignalErrors
from hunch.analysis.limits.asymptotic import SIGMAS, asymptotic_limits, discovery_z
from hunch.analysis.limits.backgrounds import RegionBackground, standard
from hunch.analysis.limits.experiments import experiment_limits, experiment_p
from hunch.analysis.limits.fit import Likelihood, likelihood_of

UNIT = 3.0


def one_bin(n: float, b: float) -> Likelihood:
    known = RegionBackground(np.zeros((1, 1)), np.log([b]), np.ones(1), np.zeros(1))
    return likelihood_of(np.array([[n]]), [known], np.array([[UNIT]]))


def exact_limit(n: float, b: float) -> float:
    """CLs = P(k <= n | s + b) / P(k <= n | b) = 5 %."""
    wanted = 0.05 * stats.poisson.cdf(n, b)
    return float(optimize.brentq(lambda s: stats.poisson.cdf(n, s + b) - wanted, 0, 100))


@pytest.mark.parametrize(("n", "b"), [(0, 1.5), (3, 2.0), (2, 6.0), (8, 3.0)])
def test_one_bin_has_the_limits_and_p_of_counting(n: int, b: float) -> None:
    found = experiment_limits(one_bin(n, b), 0.05, n=1500, seed=1)
    # a quantile that lies next to a step of the distribution may fall on either side of it
    steps = [[stats.poisson.ppf(stats.norm.cdf(sigma) + near, b) for sigma in SIGMAS] for near in (-0.02, 0.02)]
    low, high = (np.array([exact_limit(k, b) for k in (n, *(max(c, 0) for c in counts))]) for counts in steps)
    allowed = 3.5 * UNIT * found.errors + 2e-3 * high
    values = UNIT * found.values
    assert ((values > low - allowed) & (values < high + allowed)).all(), (values, low, high, allowed)
    assert found.failed == 0
    assert (UNIT * found.errors < 0.06 * high).all()
    p = experiment_p(one_bin(n, b), n=1500, seed=1)
    assert abs(p.p - stats.poisson.sf(n - 1, b)) < 3.5 * p.error + 1e-9


def test_p_far_below_one_over_the_experiments_has_a_value_and_an_error() -> None:
    p = experiment_p(one_bin(14, 1.0), n=1000, seed=2)
    exact = stats.poisson.sf(13, 1.0)
    assert exact < 1e-10
    assert abs(p.p - exact) < 4 * p.error
    assert p.error < 0.3 * exact


def spectrum(events: float, *, nuisance: float = 0.0) -> Likelihood:
    x = np.linspace(-1, 1, 10)
    rough = RegionBackground(
        np.stack([np.ones(10), x], axis=1), np.zeros(10), np.zeros(2), np.array([np.log(events / 10), -1.0])
    )
    signal = np.exp(-0.5 * (x / 0.25) ** 2)
    signal *= 2 * np.sqrt(events / 10) / signal.sum()
    counts = np.random.default_rng(4).poisson(rough.expected)[None].astype(float)
    factors: dict[str, Any] = (
        {"efficiency": (np.array([1 + nuisance]), np.array([1 / (1 + nuisance)]))} if nuisance else {}
    )
    return likelihood_of(counts, [standard(rough)], signal[None], factors=factors)


def test_experiments_and_formulas_agree_where_there_are_many_events() -> None:
    likelihood = spectrum(3000, nuisance=0.2)
    found = experiment_limits(likelihood, 0.05, n=600, seed=5)
    formulas = asymptotic_limits(likelihood, 0.05)
    assert (np.abs(found.values - formulas) < 3.5 * found.errors + 0.02 * formulas).all(), (found, formulas)
    p = experiment_p(likelihood, n=600, seed=5)
    assert abs(p.p - stats.norm.sf(discovery_z(likelihood))) < 3.5 * p.error + 0.02


def test_experiments_are_those_of_their_seed() -> None:
    one, again, other = (experiment_limits(spectrum(30), 0.05, n=120, seed=s) for s in (1, 1, 2))
    assert one.values.tobytes() == again.values.tobytes()
    assert one.values.tobytes() != other.values.tobytes()


def test_an_uncertain_efficiency_loosens_a_limit_by_experiments() -> None:
    without, with_it = (experiment_limits(spectrum(30, nuisance=s), 0.05, n=300, seed=1) for s in (0.0, 0.45))
    assert with_it.values[0] > 1.1 * without.values[0]
    assert SignalErrors().efficiency == 0.0
