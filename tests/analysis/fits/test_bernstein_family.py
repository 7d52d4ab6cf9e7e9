"""Bernstein polynomials as the background of a hunt: the degree, bounds that are met, z, the reported fit, and what fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from hunch.analysis import (
    HuntSettings,
    SignalShape,
    choose_background,
    choose_degree,
    fit_background,
    fit_with_minuit,
    goodness_of_fit,
    hunt,
    limit_model,
    scan_spectra,
    signal_templates,
)
from hunch.analysis.fits.background import FAMILIES, poisson_nll
from hunch.analysis.fits.bernstein import bernstein_basis
from hunch.analysis.goodness.fit_quality import fit_qualities
from hunch.analysis.spectra.bins import as_hist
from hunch.errors import InputError

SQRT_S = 13_000.0
EDGES = np.linspace(1000.0, 5000.0, 41)
CENTRES = 0.5 * (EDGES[1:] + EDGES[:-1])
SHAPE = np.exp(-(CENTRES - 1000) / 900)
Array = np.ndarray[Any, Any]


def falling(events: float) -> Array:
    return events * SHAPE / SHAPE.sum()


def test_the_degree_is_what_one_spectrum_alone_takes() -> None:
    rng = np.random.default_rng(31)
    wave = np.polynomial.Chebyshev.basis(5)(np.linspace(-1, 1, 40))  # odd: degree 4 gains nothing over 3, but 5 does
    counts = np.concatenate([rng.poisson(falling(20_000), (30, 40)), rng.poisson(500 * (1 + 0.1 * wave), (10, 40))])
    fit = choose_background(counts, EDGES, sqrt_s=SQRT_S, family="bernstein")
    assert fit.converged.all()
    assert fit.order.tolist() == [choose_degree(row, EDGES) for row in counts]
    assert (fit.order[30:] >= 5).all()
    np.testing.assert_array_equal(fit.n_parameters, fit.order + 1)
    np.testing.assert_allclose(fit.nll, poisson_nll(counts, fit.expected), rtol=1e-9)
    p = goodness_of_fit(counts, fit.expected, fit.n_parameters)[:30]
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    raised = choose_background(counts[:3], EDGES, sqrt_s=SQRT_S, family="bernstein", lowest=[6, 7, 8])
    assert np.all(raised.order >= [6, 7, 8])


def test_the_true_degree_is_kept() -> None:
    expected = bernstein_basis(EDGES, 3) @ np.array([12_000.0, 5_000.0, 2_000.0, 1_000.0])
    counts = np.random.default_rng(32).poisson(expected, size=(600, 40)).astype(float)
    order = choose_background(counts, EDGES, sqrt_s=SQRT_S, family="bernstein").order
    # two degrees are looked at, and each is taken in 5 %
    assert 0.86 < (order == 3).mean() < 0.96


@pytest.mark.parametrize("events", [300, 20_000])
def test_z_is_a_standard_normal_and_the_yield_right(events: int) -> None:
    """Coefficients at their bound are in most of these fits; a true 0 is fitted too high, so z is a little low."""
    expected = bernstein_basis(EDGES, 3) @ (np.array([0.8, 0.0, 0.15, 0.05]) * events)
    templates = signal_templates(SignalShape(), [2000.0, 3000.0], EDGES)
    counts = np.random.default_rng(33).poisson(expected, size=(600, 40)).astype(float)
    fit = fit_background(counts, EDGES, 3, sqrt_s=SQRT_S, family="bernstein")
    found = scan_spectra(counts, fit, templates, EDGES, sqrt_s=SQRT_S, family="bernstein")
    assert found.converged.all()
    assert np.isfinite(found.error).all()
    assert -0.25 < found.z.mean() < 0.1
    assert found.z.std() == pytest.approx(1.0, abs=0.08)
    strength = 4 * np.sqrt(events / 40)
    more = np.random.default_rng(34).poisson(expected + strength * templates[1], size=(600, 40)).astype(float)
    fit = fit_background(more, EDGES, 3, sqrt_s=SQRT_S, family="bernstein")
    found = scan_spectra(more, fit, templates[1:], EDGES, sqrt_s=SQRT_S, family="bernstein")
    assert -0.25 < (found.signal.mean() - strength) / found.error.mean() < 0.1
    assert found.error.mean() == pytest.approx(found.signal.std(), rel=0.15)


def test_a_spectrum_that_falls_by_decades_says_so(edges: Array, truth: Any) -> None:
    counts = np.random.default_rng(35).poisson(truth(20_000), size=(20, len(edges) - 1)).astype(float)
    fit = choose_background(counts, edges, sqrt_s=SQRT_S, family="bernstein")
    assert (fit.order == FAMILIES["bernstein"][-1]).all()
    assert (goodness_of_fit(counts, fit.expected, fit.n_parameters) < 1e-3).all()
    found = hunt([as_hist(edges, counts[0])], [2600.0], settings=HuntSettings(family="bernstein", pseudo_experiments=0))
    assert fit_qualities(found, ["all"])[0].unfit


def test_a_mask_leaves_bins_out() -> None:
    counts = falling(50_000)
    spoilt = counts.copy()
    spoilt[12:16] *= 3
    mask = np.ones(40)
    mask[12:16] = 0
    fit = fit_background(spoilt, EDGES, 6, sqrt_s=SQRT_S, family="bernstein", mask=mask)
    np.testing.assert_allclose(fit.expected[0], counts, rtol=0.03, atol=1.0)
    reported = fit_with_minuit(spoilt, EDGES, 6, sqrt_s=SQRT_S, family="bernstein", mask=mask.astype(bool))
    assert reported.valid
    np.testing.assert_allclose(reported.expected, fit.expected[0], rtol=1e-2, atol=0.1)
    with pytest.raises(InputError, match="one mask for all spectra"):
        fit_background(spoilt, EDGES, 6, sqrt_s=SQRT_S, family="bernstein", mask=np.ones((1, 40)))


def test_minuit_reports_coefficients_and_those_at_their_bound() -> None:
    """The error of ln b is what the yield in a bin scatters by."""
    expected = bernstein_basis(EDGES, 3) @ np.array([16_000.0, 0.0, 3_000.0, 1_000.0])
    counts = np.random.default_rng(36).poisson(expected, size=(300, 40)).astype(float)
    fits = fit_background(counts, EDGES, 3, sqrt_s=SQRT_S, family="bernstein")
    held = []
    for i in range(20):
        fit = fit_with_minuit(counts[i], EDGES, 3, sqrt_s=SQRT_S, family="bernstein")
        assert fit.valid
        assert list(fit.values) == ["c0", "c1", "c2", "c3"]
        assert 2 * abs(fit.nll - fits.nll[i]) < 1e-3
        held.append(fit.values["c1"] == 0)
        if held[-1]:
            assert fit.errors["c1"] >= 0.5
        scatter = np.log(fits.expected[:, [0, -1]]).std(axis=0)
        np.testing.assert_allclose(np.sqrt(np.diag(fit.log_covariance))[[0, -1]], scatter, rtol=0.6)
    assert 0 < sum(held) < 20


def test_a_hunt_with_bernstein_polynomials() -> None:
    template = signal_templates(SignalShape(), [2200.0], EDGES)[0]
    counts = np.random.default_rng(37).poisson(falling(20_000) + 350 * template).astype(float)
    settings = HuntSettings(family="bernstein", pseudo_experiments=40)
    found = hunt([as_hist(EDGES, counts)], [1800.0, 2200.0, 2600.0], settings=settings, progress=False)
    assert found.best == 1
    assert found.scan.z[0, 1] > 4
    assert found.global_p is not None
    assert found.global_p.failed == 0
    assert not isinstance(limit_model(found, 2200.0), str)
    assert not fit_qualities(found, ["all"])[0].unfit
