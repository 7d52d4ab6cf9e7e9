"""Combinations against scipy, under independence, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hunch.analysis import COMBINATIONS, combine, z_value
from hunch.analysis.fits.log_p import log_p_of_z, p_of_log, p_of_z, stated_p, z_of_log
from hunch.analysis.p_values.combination import combine_log, stouffer
from hunch.errors import InputError

SCIPY = {"fisher": "fisher", "stouffer": "stouffer", "tippett": "tippett"}
EXACT = [name for name in COMBINATIONS if not name.startswith("harmonic")]
"""Those whose level under independence is exact for any number of p-values."""
REJECTED = {
    0.0: {
        "fisher": (0.050, 0.0010),
        "stouffer": (0.050, 0.0010),
        "tippett": (0.050, 0.0010),
        "simes": (0.050, 0.0010),
        "cauchy": (0.050, 0.0010),
        "harmonic": (0.048, 0.0010),
        "harmonic_bound": (0.011, 0.0002),
    },
    0.5: {
        "fisher": (0.141, 0.032),
        "stouffer": (0.190, 0.049),
        "tippett": (0.039, 0.0009),
        "simes": (0.043, 0.0009),
        "cauchy": (0.062, 0.0011),
        "harmonic": (0.050, 0.0011),
        "harmonic_bound": (0.012, 0.0002),
    },
    0.9: {
        "fisher": (0.169, 0.058),
        "stouffer": (0.241, 0.094),
        "tippett": (0.021, 0.0005),
        "simes": (0.031, 0.0006),
        "cauchy": (0.053, 0.0011),
        "harmonic": (0.044, 0.0011),
        "harmonic_bound": (0.011, 0.0002),
    },
}
"""Correlation of six normal deviates -> rejection at 5 % and at 0.1 %: fisher to simes and the bound from a study of 4e5."""


def equicorrelated(n: int, k: int, rho: float, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return one-sided p-values (n, k) under no signal."""
    common, own = rng.standard_normal((n, 1)), rng.standard_normal((n, k))
    return np.asarray(stats.norm.sf(np.sqrt(rho) * common + np.sqrt(1 - rho) * own))


@pytest.mark.parametrize("method", SCIPY)
@settings(max_examples=60, deadline=None)
@given(p=st.lists(st.floats(1e-12, 0.999), min_size=1, max_size=8).filter(lambda v: v.count(0.5) < 2))
def test_against_scipy(method: str, p: list[float]) -> None:
    expected = stats.combine_pvalues(p, method=SCIPY[method]).pvalue
    assert float(combine(p, method)) == pytest.approx(expected, rel=1e-6, abs=1e-15)


def test_simes_and_cauchy_against_their_definitions() -> None:
    p = np.array([[0.01, 0.04, 0.9], [0.6, 0.2, 0.3]])
    np.testing.assert_allclose(combine(p, "simes"), [min(0.03, 0.06, 0.9), min(0.6, 0.45, 0.6)])
    t = np.tan((0.5 - p) * np.pi).mean(axis=1)
    np.testing.assert_allclose(combine(p, "cauchy"), 0.5 - np.arctan(t) / np.pi, rtol=1e-9)


@pytest.mark.parametrize("method", EXACT)
def test_type_one_error_for_independent_p(method: str, rng: np.random.Generator) -> None:
    n = 100_000
    combined = combine(rng.uniform(size=(n, 5)), method)
    assert combined.shape == (n,)
    for level in (0.05, 0.001):
        assert abs((combined < level).mean() - level) < 4.5 * np.sqrt(level / n)


@pytest.mark.parametrize("rho", REJECTED)
def test_type_one_error_for_correlated_p(rho: float, rng: np.random.Generator) -> None:
    n = 200_000
    p = equicorrelated(n, 6, rho, rng)
    assert set(REJECTED[rho]) == set(COMBINATIONS)
    for method, expected in REJECTED[rho].items():
        combined = combine(p, method)
        for level, rate in zip((0.05, 0.001), expected, strict=True):
            rounding = 0.0006 if rate > 0.005 else 0.00006
            allowed = rounding + 4.5 * np.sqrt(rate / n)
            assert abs((combined < level).mean() - rate) < allowed, (method, level)


def test_fisher_and_stouffer_overstate_correlated_p_and_the_others_do_not(rng: np.random.Generator) -> None:
    p = equicorrelated(100_000, 6, 0.5, rng)
    rejected = {method: (combine(p, method) < 0.001).mean() for method in COMBINATIONS}
    assert min(rejected["fisher"], rejected["stouffer"]) > 0.02
    assert max(v for m, v in rejected.items() if m not in {"fisher", "stouffer"}) < 0.0016


def test_calibrated_harmonic_mean_is_exact_for_many_p_and_the_raw_one_is_not(rng: np.random.Generator) -> None:
    p = rng.uniform(size=(50_000, 60))
    for level in (0.05, 0.01):
        assert abs((combine(p, "harmonic") < level).mean() - level) < 4.5 * np.sqrt(level / len(p))
    assert (1 / (1 / p).mean(axis=1) < 0.05).mean() > 0.065


def test_harmonic_bound_holds_under_the_worst_dependence() -> None:
    """p-values arranged so that one is small whenever the others are not reject far above the level without the factor."""
    u = (np.arange(200_000) + 0.5) / 200_000
    p = np.stack([(u + j / 6) % 1 for j in range(6)], axis=1)
    assert (combine(p, "harmonic_bound") <= 0.05).mean() < 0.05
    np.testing.assert_allclose(combine([0.01, 0.04], "harmonic_bound"), 2 * 2 / (100 + 25))
    np.testing.assert_allclose(combine([0.01, 0.04, 0.5], "harmonic_bound"), np.e * np.log(3) * 3 / 127)
    assert combine([0.9, 0.8, 0.9, 0.9], "harmonic_bound") == 1


def test_stouffer_with_weights_against_scipy() -> None:
    p, w = np.array([0.01, 0.3, 0.7]), np.array([3.0, 1.0, 0.5])
    expected = stats.combine_pvalues(p, method="stouffer", weights=w).pvalue
    np.testing.assert_allclose(stouffer(p, weights=w), expected, rtol=1e-10)
    np.testing.assert_allclose(stouffer(p, weights=[0, 2, 0]), 0.3, rtol=1e-10)


@pytest.mark.parametrize("weights", [None, [3.0, 1.0, 1.0, 1.0, 0.0, 2.0]])
def test_stouffer_with_the_known_correlation_keeps_its_level(
    weights: list[float] | None, rng: np.random.Generator
) -> None:
    n, rho = 100_000, 0.5
    p = equicorrelated(n, 6, rho, rng)
    known = np.full((6, 6), rho) + (1 - rho) * np.eye(6)
    for level in (0.05, 0.001):
        allowed = 4.5 * np.sqrt(level / n)
        assert abs((stouffer(p, weights=weights, correlation=known) < level).mean() - level) < allowed
        assert (stouffer(p, weights=weights) < level).mean() > 1.5 * level


def test_stouffer_refuses_weights_and_correlations_that_cannot_be() -> None:
    p = [0.1, 0.2]
    for weights in ([1.0], [1.0, -1.0], [0.0, 0.0], [1.0, np.nan]):
        with pytest.raises(InputError, match="weights of 2 p-values"):
            stouffer(p, weights=weights)
    for correlation in ([[1.0, 0.5], [0.4, 1.0]], [[1.0, 2.0], [2.0, 1.0]], [[2.0, 0.0], [0.0, 1.0]]):
        with pytest.raises(InputError, match="no correlation matrix"):
            stouffer(p, correlation=correlation)
    with pytest.raises(InputError, match=r"shape \(3, 3\)"):
        stouffer(p, correlation=np.eye(3))
    with pytest.raises(InputError, match="cancel"):
        stouffer(p, correlation=[[1.0, -1.0], [-1.0, 1.0]])


@pytest.mark.parametrize("method", COMBINATIONS)
def test_one_value_is_itself_and_small_values_stay_finite(method: str) -> None:
    np.testing.assert_allclose(combine([[0.3], [1e-30], [0.97]], method), [0.3, 1e-30, 0.97], rtol=1e-6)
    smallest = combine([0.0, 0.2, 0.9], method)
    assert 0 <= float(smallest) < 1e-50  # Stouffer's is 1e-99
    assert np.isfinite(z_value(smallest))
    assert float(combine([1.0, 1.0, 1.0], method)) > (0.8 if method == "harmonic" else 0.99)


@pytest.mark.parametrize("method", COMBINATIONS)
def test_order_does_not_matter_and_smaller_is_smaller(method: str) -> None:
    p = np.array([0.02, 0.4, 0.8])
    assert float(combine(p, method)) == pytest.approx(float(combine(p[::-1], method)), rel=1e-12)
    assert float(combine(p * [0.5, 1, 1], method)) < float(combine(p, method))


def test_capped_p_values_are_refused_and_would_have_cost() -> None:
    """Fisher over five p capped at 1/2 rejects about 7 % at 5 %: why q0 is never combined."""
    p = np.random.default_rng(1).uniform(size=(200_000, 5))
    capped = np.minimum(p, 0.5)
    rejected = (stats.chi2.sf(-2 * np.log(capped).sum(axis=1), 10) < 0.05).mean()
    assert 0.06 < rejected < 0.08
    with pytest.raises(InputError, match="q0 caps deficits"):
        combine(capped, "fisher")
    assert 0 < float(combine([0.5, 0.2])) < 1  # one value of 1/2 may be a coincidence


@pytest.mark.parametrize("bad", [[0.1, np.nan], [-0.1, 0.2], [0.1, 1.1], []])
def test_no_p_values_are_refused(bad: list[float]) -> None:
    with pytest.raises(InputError, match="p-values"):
        combine(bad)


def test_unknown_method_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'fisher'"):
        combine([0.1], "fischer")


def test_z_is_one_sided_and_signed() -> None:
    np.testing.assert_allclose(z_value([0.5, 0.158655254, 2.866515719e-7, 0.841344746]), [0, 1, 5, -1], atol=1e-6)


@pytest.mark.parametrize("method", COMBINATIONS)
def test_logarithms_carry_on_where_p_ends(method: str) -> None:
    p = np.array([[0.3, 0.9, 0.02], [1e-12, 0.4, 1e-30], [1e-120, 1e-130, 0.999], [0.5, 0.7, 1e-17]])
    np.testing.assert_allclose(combine_log(np.log(p), method), np.log(combine(p, method)), rtol=1e-9)
    # ln p of 10, 50, 100, 500 and 1000 sigma beside another: smooth, falling, as far as they go
    log_p = log_p_of_z(np.stack([np.linspace(2, 1000, 4000), np.full(4000, 1.0)], axis=1))
    combined = combine_log(log_p, method)
    assert np.isfinite(combined).all()
    steps = np.diff(combined)
    assert (steps < 0).all()
    np.testing.assert_allclose(steps[1:], steps[:-1], rtol=0.2, atol=0.1)  # no jump between two ways to count
    assert z_of_log(combined[-1]) > 700
    assert float(combine([0.0, 0.2, 0.9], method)) < 1e-50


def test_fisher_is_the_tail_of_chi_squared_far_out() -> None:
    mpmath = pytest.importorskip("mpmath")

    for k, z in ((1, 51.5), (2, 60.0), (24, 80.0)):
        log_p = np.full(k, float(log_p_of_z(z)))
        exact = mpmath.log(mpmath.gammainc(k, -mpmath.fsum(log_p), regularized=True))
        assert float(combine_log(log_p)) == pytest.approx(float(exact), rel=1e-12)


def test_a_p_that_is_a_bound_is_printed_as_one() -> None:
    assert z_of_log(log_p_of_z([-3.0, 0.0, 5.0, 51.5, 1e4])) == pytest.approx([-3.0, 0.0, 5.0, 51.5, 1e4])
    assert z_value(0.0) == z_value(1e-300) == pytest.approx(37.047, abs=1e-3)
    assert (p_of_z(38.0), p_of_log(-1e9)) == (1e-300, 1e-300)
    assert [stated_p(p) for p in (0.05, 1e-299, 1e-300, 0.0)] == ["= 0.05", "= 1e-299", "< 1e-300", "< 1e-300"]
