"""Limits of counting experiments against closed forms, pyhf, and pseudo-experiments with a signal."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

from hunch.analysis import counting_limits, expectation_from_abcd, expectation_from_sample
from hunch.analysis.limits.counting import cls_limit, drawn_backgrounds
from hunch.errors import InputError

KNOWN = 1e14
Z = float(stats.norm.isf(0.025))  # of the median CLs limit at 95 %: 2 (1 - Phi(sqrt(q_A))) = 0.05


def known(mean: float) -> Any:
    """Return an expectation without a statistical error."""
    return expectation_from_sample(KNOWN, scale=mean / KNOWN)


def test_no_event_means_three_whatever_the_background() -> None:
    """CLs of no event is exp(-s), with any uncertainty of the background."""
    for expectation in (known(4.0), expectation_from_sample(0, scale=0.5), expectation_from_abcd(5, 5, 8)):
        for systematic in (0.0, 0.3):
            found = counting_limits(0, expectation, systematic=systematic)
            assert found.observed == pytest.approx(-np.log(0.05), rel=1e-4)
    assert counting_limits(0, known(4.0), confidence=0.9).observed == pytest.approx(-np.log(0.1), rel=1e-4)


@pytest.mark.parametrize(("observed", "mean"), [(3, 2.0), (9, 5.0), (2, 6.0), (140, 120.0)])
def test_a_known_background_has_the_poisson_limit(observed: int, mean: float) -> None:
    level = stats.poisson.cdf(observed, mean) * 0.05
    exact = optimize.brentq(lambda s: stats.poisson.cdf(observed, mean + s) - level, 0, 400)
    assert counting_limits(observed, known(mean), systematic=0.0).observed == pytest.approx(exact, rel=1e-3)


def test_expected_limits_are_those_of_quantiles_of_the_count() -> None:
    found = counting_limits(7, known(5.0), systematic=0.0)
    for sigma, limit in zip((-2, -1, 0, 1, 2), found.expected, strict=True):
        n = int(stats.poisson.ppf(stats.norm.cdf(sigma), 5.0))
        assert limit == pytest.approx(counting_limits(n, known(5.0), systematic=0.0).observed, rel=1e-4)


@pytest.mark.parametrize(("mean", "control", "systematic"), [(50, 1e14, 0.14), (50, 100, 0.06), (400, 400, 0.1)])
def test_pyhf_median_is_that_of_the_asimov_data(mean: float, control: float, systematic: float) -> None:
    """q_A(s) = 1.96^2, the background and its gamma error profiled by hand (arXiv:1007.1727, eq. 66)."""
    tau, auxiliary = control / mean, systematic**-2

    def q_asimov(s: float) -> float:
        def nll(x: Any) -> float:
            b, k = np.exp(x)
            terms = [(mean, s + mean * b * k), (min(control, 1e9), min(control, 1e9) * b), (auxiliary, auxiliary * k)]
            return float(sum(e - n - n * np.log(e / n) for n, e in terms))

        return 2 * float(optimize.minimize(nll, [0.0, 0.0], method="Nelder-Mead", options={"fatol": 1e-10}).fun)

    median = optimize.brentq(lambda s: q_asimov(s) - Z**2, 1.0, 20 * np.sqrt(mean) + mean)
    found = counting_limits(round(mean), expectation_from_sample(control, scale=1 / tau), systematic=systematic)
    assert found.expected_pyhf is not None
    assert found.expected_pyhf[2] == pytest.approx(median, rel=5e-3)
    assert found.observed_pyhf == pytest.approx(median, rel=5e-3)


@pytest.mark.parametrize("constraint", ["gamma", "lognormal"])
def test_counted_and_asymptotic_limits_agree_where_there_are_many_events(constraint: str) -> None:
    for expectation in (expectation_from_sample(2000, scale=0.1), expectation_from_abcd(2e3, 2e3, 2e4)):
        for observed in (180, 200, 230):
            found = counting_limits(observed, expectation, systematic=0.05, constraint=constraint)
            assert found.observed_pyhf == pytest.approx(found.observed, rel=0.06)


def test_excesses_errors_and_confidence_loosen_a_limit() -> None:
    expectation = expectation_from_sample(40, scale=0.5)
    by_count = [counting_limits(n, expectation).observed for n in (15, 20, 25, 30)]
    by_error = [counting_limits(24, expectation, systematic=s).observed for s in (0.0, 0.1, 0.3)]
    by_confidence = [counting_limits(24, expectation, confidence=c).observed for c in (0.9, 0.95, 0.99)]
    for limits in (by_count, by_error, by_confidence):
        assert np.all(np.diff(np.array(limits, dtype=float)) > 0)
    assert np.all(np.diff(counting_limits(24, expectation).expected) > 0)


def test_blind_limits_know_nothing_of_the_count() -> None:
    expectation = expectation_from_abcd(100, 100, 1000)
    blind, seen = counting_limits(None, expectation), counting_limits(10, expectation)
    assert (blind.observed, blind.observed_pyhf, blind.observed_fb) == (None, None, None)
    assert blind.expected == seen.expected
    assert blind.expected_pyhf == pytest.approx(seen.expected_pyhf, rel=1e-3)
    assert "blind" in repr(blind)


def test_luminosity_and_efficiency_make_a_cross_section() -> None:
    found = counting_limits(10, expectation_from_sample(100, scale=0.1), luminosity=40.0, signal_efficiency=0.25)
    assert found.observed is not None
    assert found.observed_fb == pytest.approx(found.observed / 10.0)
    assert found.expected_fb == pytest.approx([e / 10.0 for e in found.expected])
    answer = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert answer["observed_fb"] == found.observed_fb
    assert len(answer["expected"]) == len(answer["expected_sigmas"]) == 5
    without = counting_limits(10, expectation_from_sample(100, scale=0.1), luminosity=40.0)
    assert without.observed_fb == pytest.approx(found.observed / 40.0)
    assert counting_limits(10, expectation_from_sample(100, scale=0.1)).observed_fb is None


@cache
def cached_limit(observed: int, control: int, tau: float, systematic: float, constraint: str) -> float:
    expectation = expectation_from_sample(control, scale=1 / tau)
    return cls_limit(observed, cached_draws(expectation.counts["control"], tau, systematic, constraint), 0.05)


@cache
def cached_draws(control: float, tau: float, systematic: float, constraint: str) -> Any:
    return drawn_backgrounds(expectation_from_sample(control, scale=1 / tau), systematic, constraint, upper=False)


@pytest.mark.parametrize(("mean", "tau", "signal", "constraint"), [(3, 10, 8, "lognormal"), (3, 1, 12, "gamma")])
def test_a_limit_covers_the_signal(mean: float, tau: float, signal: float, constraint: str) -> None:
    """CLs covers at least as often as it says, and not always for a signal that a search can see."""
    rng = np.random.default_rng(3)
    n, systematic = 600, 0.1
    factor = rng.gamma(100, 0.01, n) if constraint == "gamma" else np.exp(rng.normal(0, np.log(1.1), n))
    on, off = rng.poisson(signal + mean * factor), rng.poisson(mean * tau, n)
    limits = np.array([cached_limit(int(x), int(y), tau, systematic, constraint) for x, y in zip(on, off, strict=True)])
    covered = float((limits >= signal).mean())
    assert 0.95 - 3 * np.sqrt(0.05 * 0.95 / n) < covered < 1.0


def test_what_cannot_be_is_refused_by_name() -> None:
    good = expectation_from_sample(100, scale=0.1)
    with pytest.raises(InputError, match=r"in \(0, 1\]; found 1.5"):
        counting_limits(3, good, signal_efficiency=1.5)
    with pytest.raises(InputError, match="positive number of fb"):
        counting_limits(3, good, luminosity=0.0)
    with pytest.raises(InputError, match=r"\[0.5, 1\)"):
        counting_limits(3, good, confidence=95)
    with pytest.raises(InputError, match="0 events were seen where about 5000 are expected"):
        counting_limits(0, known(5000.0), systematic=0.0)


def test_backgrounds_are_drawn_with_their_mean_and_spread() -> None:
    """A count N stands for Gamma(N) below and Gamma(N + 1) above, D the other way round."""
    sample, plane = expectation_from_sample(40, scale=0.5), expectation_from_abcd(30, 40, 60)
    low, high = (drawn_backgrounds(sample, 0.0, "gamma", upper=u) for u in (False, True))
    assert (low.mean(), high.mean()) == (pytest.approx(20.0, rel=1e-3), pytest.approx(20.5, rel=1e-3))
    assert low.std() == pytest.approx(0.5 * np.sqrt(40), rel=5e-3)
    low, high = (drawn_backgrounds(plane, 0.0, "gamma", upper=u) for u in (False, True))
    assert low.mean() == pytest.approx(30 * 40 / 60, rel=2e-3)  # of Gamma(61) in the denominator
    assert high.mean() == pytest.approx(31 * 41 / 59, rel=2e-3)
    moved = drawn_backgrounds(known(20.0), 0.2, "lognormal", upper=False)
    assert np.median(moved) == pytest.approx(20.0, rel=1e-3)
    assert np.log(moved).std() == pytest.approx(np.log(1.2), rel=5e-3)
    gamma = drawn_backgrounds(known(20.0), 0.2, "gamma", upper=False)
    assert (gamma.mean(), gamma.std()) == (pytest.approx(20.0, rel=1e-3), pytest.approx(4.0, rel=5e-3))
