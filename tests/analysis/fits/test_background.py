"""Background fits: the maximum of the likelihood, agreement with iminuit, and the F-test's size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from hunch.analysis import choose_background, fit_background, fit_with_minuit, goodness_of_fit
from hunch.analysis.fits.background import FAMILIES, design_matrix, is_log_linear, orthonormal_basis, poisson_nll
from hunch.analysis.significance.bumphunt import stack
from hunch.errors import InputError

SQRT_S = 13_000.0
Array = np.ndarray[Any, Any]
Truth = Callable[..., Array]
ORDERS = [(family, order) for family, orders in FAMILIES.items() if is_log_linear(family) for order in orders]


@pytest.mark.parametrize("events", [150, 500, 20_000])
@pytest.mark.parametrize(("family", "order"), ORDERS)
def test_the_fit_is_the_minimum_and_iminuit_finds_the_same(
    family: str, order: int, events: int, edges: Array, truth: Truth, rng: np.random.Generator
) -> None:
    counts = rng.poisson(truth(events), size=(3, len(edges) - 1)).astype(float)
    fit = fit_background(counts, edges, order, sqrt_s=SQRT_S, family=family)
    assert fit.converged.all()
    assert fit.n_parameters.tolist() == [order + 1] * 3
    np.testing.assert_allclose(fit.nll, poisson_nll(counts, fit.expected), rtol=1e-9)
    # a convex likelihood has its minimum where the score vanishes: every column of the family sees data = fit
    a = design_matrix(edges, order, sqrt_s=SQRT_S, family=family)
    np.testing.assert_allclose((counts - fit.expected) @ a / (counts @ np.abs(a)), 0, atol=1e-5)
    for i in range(3):
        reference = fit_with_minuit(counts[i], edges, order, sqrt_s=SQRT_S, family=family)
        assert reference.valid
        assert 2 * abs(reference.nll - poisson_nll(counts[i], fit.expected[i])) < 1e-3


def test_the_dijet_function_is_the_published_one(edges: Array) -> None:
    """p0 (1-x)^p1 / x^(p2 + p3 ln x) dm at the bin centre, arXiv:1911.03947 eq. 1, fitted back from its own values."""
    x = 0.5 * (edges[1:] + edges[:-1]) / SQRT_S
    p1, p2, p3 = 8.0, 4.5, 0.2
    expected = 1e-3 * (1 - x) ** p1 / x ** (p2 + p3 * np.log(x)) * np.diff(edges)
    expected *= 1e6 / expected.sum()
    fit = fit_background(expected, edges, 3, sqrt_s=SQRT_S)
    np.testing.assert_allclose(fit.expected[0], expected, rtol=1e-5)
    minuit = fit_with_minuit(expected, edges, 3, sqrt_s=SQRT_S)
    found = [minuit.values["p1"], minuit.values["p2"], minuit.values["p3"]]
    errors = [minuit.errors[f"p{i}"] for i in (1, 2, 3)]
    assert np.all(np.abs(np.array(found) - [p1, p2, p3]) < 0.1 * np.array(errors))
    np.testing.assert_allclose(np.sqrt(np.diag(minuit.covariance))[1:], errors, rtol=1e-6)


def test_errors_cover(edges: Array, truth: Truth, rng: np.random.Generator) -> None:
    """The pull of p2 over fluctuated spectra has unit width."""
    expected = truth(5000)
    pulls = []
    for counts in rng.poisson(expected, size=(120, len(expected))).astype(float):
        fit = fit_with_minuit(counts, edges, 2, sqrt_s=SQRT_S)
        pulls.append((fit.values["p2"] - 5.0) / fit.errors["p2"])
    assert abs(np.mean(pulls)) < 0.4
    assert 0.75 < np.std(pulls) < 1.3


def test_a_batch_gives_what_each_spectrum_gives_alone(edges: Array, truth: Truth, rng: np.random.Generator) -> None:
    counts = np.stack([rng.poisson(truth(n)) for n in (150, 3000, 50_000)]).astype(float)
    together = choose_background(counts, edges, sqrt_s=SQRT_S)
    for i in range(3):
        alone = choose_background(counts[i], edges, sqrt_s=SQRT_S)
        assert alone.order[0] == together.order[i]
        np.testing.assert_allclose(alone.expected[0], together.expected[i], rtol=1e-4, atol=1e-6)
        assert 2 * abs(alone.nll[0] - together.nll[i]) < 1e-6


def test_a_mask_leaves_bins_out(edges: Array, truth: Truth) -> None:
    counts = truth(10_000)
    bumped = counts.copy()
    bumped[10:14] += 300
    mask = np.ones(len(counts))
    mask[10:14] = 0
    fit = fit_background(bumped, edges, 2, sqrt_s=SQRT_S, mask=mask)
    np.testing.assert_allclose(fit.expected[0], counts, rtol=1e-4)
    free = fit_background(bumped, edges, 2, sqrt_s=SQRT_S)
    assert np.abs(free.expected[0] / counts - 1).max() > 0.05
    minuit = fit_with_minuit(bumped, edges, 2, sqrt_s=SQRT_S, mask=mask.astype(bool))
    np.testing.assert_allclose(minuit.expected, counts, rtol=5e-3)


@pytest.mark.parametrize("events", [300, 2_000, 20_000, 5_000_000])
def test_f_test_keeps_two_parameters_where_two_are_true(
    events: int, edges: Array, truth: Truth, rng: np.random.Generator
) -> None:
    counts = rng.poisson(truth(events), size=(600, len(edges) - 1))
    order = choose_background(counts, edges, sqrt_s=SQRT_S).order
    assert 0.92 < (order == 2).mean() < 0.98  # 0.95 +- 0.009 in 600


def test_f_test_takes_the_third_parameter_where_it_is_needed(
    edges: Array, truth: Truth, rng: np.random.Generator
) -> None:
    counts = rng.poisson(truth(200_000, p=(-4.0, -9.0, -1.5)), size=(20, len(edges) - 1))
    assert (choose_background(counts, edges, sqrt_s=SQRT_S).order >= 3).all()


def test_parameters_that_each_miss_the_test_are_taken_together(
    edges: Array, truth: Truth, rng: np.random.Generator
) -> None:
    """Orders 3 to 5 move by 1.8 sigma each: none pays alone, the three together do."""
    smooth = truth(20_000)
    basis = orthonormal_basis(edges, 5, sqrt_s=SQRT_S, family="dijet", weights=smooth)
    counts = rng.poisson(smooth * np.exp(basis[:, 3:] @ [1.8, -1.8, 1.8]), size=(300, len(edges) - 1))
    chosen = [choose_background(counts, edges, sqrt_s=SQRT_S, highest=level).order for level in (0.0, 0.1)]
    assert (chosen[0] == 2).mean() > 0.3
    assert (chosen[1] == 2).mean() < 0.25
    few = rng.poisson(truth(4_000), size=(300, len(edges) - 1))  # and below 5,000 events nothing changes
    orders = [choose_background(few, edges, sqrt_s=SQRT_S, highest=level).order for level in (0.0, 0.1)]
    np.testing.assert_array_equal(*orders)


def test_a_strong_signal_is_not_taken_for_background(edges: Array, truth: Truth) -> None:
    """60 signal events on 300 background ones: five parameters would follow the bump, and z = 11 would become 0."""
    signal = np.diff(stats.norm.cdf(edges, 3000, 100)) * 60
    counts = np.random.default_rng(8).poisson(truth(300) + signal, size=(50, len(edges) - 1)).astype(float)
    fit = choose_background(counts, edges, sqrt_s=SQRT_S)
    density = fit.expected / np.diff(edges)
    shown = fit.expected[:, 1:] >= 0.5
    assert ((np.diff(density, axis=1) > 0) & shown).any(axis=1).mean() < 0.1
    free = fit_background(counts, edges, 5, sqrt_s=SQRT_S).expected / np.diff(edges)
    assert ((np.diff(free, axis=1) > 0) & shown).any(axis=1).mean() > 0.5  # the danger is real


def test_lowest_order_is_kept(edges: Array, truth: Truth, rng: np.random.Generator) -> None:
    counts = rng.poisson(truth(3000), size=(3, len(edges) - 1))
    order = choose_background(counts, edges, sqrt_s=SQRT_S, lowest=[2, 3, 4]).order
    assert np.all(order >= [2, 3, 4])


def test_goodness_of_fit_is_uniform_for_the_truth(edges: Array, truth: Truth, rng: np.random.Generator) -> None:
    counts = rng.poisson(truth(20_000), size=(400, len(edges) - 1)).astype(float)
    fit = fit_background(counts, edges, 2, sqrt_s=SQRT_S)
    p = goodness_of_fit(counts, fit.expected, fit.n_parameters)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    wrong = truth(20_000, p=(-9.0, -4.0))
    assert goodness_of_fit(counts[:1], wrong[None], np.array([0]))[0] < 1e-6


def test_empty_bins_stay_in_the_likelihood(edges: Array) -> None:
    counts = np.zeros(len(edges) - 1)
    counts[:5] = [60, 40, 25, 15, 10]
    fit = fit_background(counts, edges, 2, sqrt_s=SQRT_S)
    assert fit.converged.all()
    assert fit.expected.sum() == pytest.approx(150, rel=1e-6)
    assert fit.expected[0, 15:].sum() < 1


def test_input_is_checked(edges: Array, truth: Truth) -> None:
    counts = truth(1000)
    with pytest.raises(InputError, match=f"{len(counts) - 1} counts a spectrum do not fit {len(edges)}"):
        fit_background(counts[:-1], edges, 2, sqrt_s=SQRT_S)
    with pytest.raises(InputError, match="did you mean 'dijet'"):
        choose_background(counts, edges, sqrt_s=SQRT_S, family="dijets")
    with pytest.raises(InputError, match="no order 9; allowed: 2, 3, 4, 5"):
        fit_background(counts, edges, 9, sqrt_s=SQRT_S)
    with pytest.raises(InputError, match="sqrt_s = 5000 GeV, found 1530 to 6099"):
        fit_background(counts, edges, 2, sqrt_s=5000)
    with pytest.raises(InputError, match="no spectrum"):
        stack([])
