"""Combinations against scipy, under independence, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hunch.analysis import COMBINATIONS, combine, z_value
from hunch.errors import InputError

SCIPY = {"fisher": "fisher", "stouffer": "stouffer", "tippett": "tippett"}


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


@pytest.mark.parametrize("method", COMBINATIONS)
def test_type_one_error_for_independent_p(method: str, rng: np.random.Generator) -> None:
    n = 100_000
    combined = combine(rng.uniform(size=(n, 5)), method)
    assert combined.shape == (n,)
    for level in (0.05, 0.001):
        assert abs((combined < level).mean() - level) < 4.5 * np.sqrt(level / n)


@pytest.mark.parametrize("method", COMBINATIONS)
def test_one_value_is_itself_and_small_values_stay_finite(method: str) -> None:
    np.testing.assert_allclose(combine([[0.3], [1e-30], [0.97]], method), [0.3, 1e-30, 0.97], rtol=1e-6)
    smallest = combine([0.0, 0.2, 0.9], method)
    assert 0 <= float(smallest) < 1e-50  # Stouffer's is 1e-99
    assert np.isfinite(z_value(smallest))
    assert float(combine([1.0, 1.0, 1.0], method)) > 0.99


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
