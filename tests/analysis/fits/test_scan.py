"""The signed local p: uniform without a signal, unbiased with one, equal to a direct fit, close to pyhf's q0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from iminuit import Minuit
from scipy import special, stats

from hunch.analysis import (
    SignalShape,
    choose_background,
    discovery_p,
    fit_background,
    scan_spectra,
    signal_templates,
    z_value,
)
from hunch.analysis.fits.background import design_matrix

SQRT_S = 13_000.0
MASSES = np.array([2000.0, 2600.0, 3400.0])
# pyhf 0.7 validates with jsonschema's old resolver; nothing here can change that
RESOLVER = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning")
Array = np.ndarray[Any, Any]
Truth = Callable[..., Array]


def scan_of(counts: Array, edges: Array, templates: Array, order: int = 2) -> Any:
    return scan_spectra(counts, fit_background(counts, edges, order, sqrt_s=SQRT_S), templates, edges, sqrt_s=SQRT_S)


@pytest.fixture(scope="module")
def templates(edges: Array) -> Array:
    return signal_templates(SignalShape(), MASSES, edges)


def test_local_p_is_uniform_without_a_signal(edges: Array, truth: Truth, templates: Array) -> None:
    counts = np.random.default_rng(11).poisson(truth(20_000), size=(2000, len(edges) - 1))
    found = scan_of(counts, edges, templates)
    assert found.converged.mean() > 0.999
    for m in range(len(MASSES)):
        assert stats.kstest(found.p[:, m], "uniform").pvalue > 0.01
        assert abs((found.p[:, m] < 0.05).mean() - 0.05) < 0.02
    assert (found.p > 0.5).mean() == pytest.approx(0.5, abs=0.04)  # deficits are half of everything


def test_injected_yield_is_unbiased_and_its_error_right(edges: Array, truth: Truth, templates: Array) -> None:
    rng = np.random.default_rng(12)
    background = truth(20_000)
    for m, yield_ in enumerate((250.0, 100.0, 60.0)):
        counts = rng.poisson(background + yield_ * templates[m], size=(1000, len(background)))
        found = scan_of(counts, edges, templates[m : m + 1])
        fitted, error = found.signal[:, 0], found.error[:, 0]
        assert abs(fitted.mean() - yield_) < 4 * fitted.std() / np.sqrt(1000) + 0.01 * yield_
        assert error.mean() == pytest.approx(fitted.std(), rel=0.12)


def test_a_deficit_has_p_above_one_half(edges: Array, truth: Truth, templates: Array) -> None:
    background = truth(20_000)
    signal = 150 * templates[1]
    for sign in (1.0, -1.0):
        found = scan_of(background + sign * signal, edges, templates[1:2])
        assert np.sign(found.signal[0, 0]) == np.sign(found.z[0, 0]) == sign
        assert (found.p[0, 0] > 0.5) == (sign < 0)
        assert found.signal[0, 0] == pytest.approx(sign * 150, rel=0.02)
    np.testing.assert_allclose(found.p, special.ndtr(-found.z))


def test_the_asimov_signal_has_the_expected_z(edges: Array, truth: Truth, templates: Array) -> None:
    """Signal on a background known well costs less than sqrt(2((s+b)ln(1+s/b)-s)) summed over bins, and not by much."""
    background = truth(200_000)
    signal = 300 * templates[1]
    z = scan_of(background + signal, edges, templates[1:2]).z[0, 0]
    known = np.sqrt(2 * ((signal + background) * np.log1p(signal / background) - signal).sum())
    assert 0.75 * known < z < known


def test_one_spectrum_is_what_it_is_in_a_batch(edges: Array, truth: Truth, templates: Array, rng: Any) -> None:
    counts = np.concatenate([rng.poisson(truth(n), size=(4, len(edges) - 1)) for n in (200, 5000, 100_000)])
    together = scan_of(counts, edges, templates)
    for i in range(len(counts)):
        alone = scan_of(counts[i], edges, templates)
        both = (alone.converged & together.converged[i])[0]
        np.testing.assert_allclose(alone.z[0][both], together.z[i][both], atol=2e-3)


def direct_z(counts: Array, edges: Array, template: Array, order: int) -> float:
    """Fit signal and background with iminuit alone: its own parameters, numerical gradients, no shared fitting code."""
    a = design_matrix(edges, order, sqrt_s=SQRT_S)
    width = np.log(np.diff(edges) / np.diff(edges).mean())
    root = np.sqrt(counts + 1.0)
    q, _ = np.linalg.qr(a / np.abs(a).max(axis=0) * root[:, None])
    basis = q / root[:, None]
    start = basis.T @ (root**2 * (np.log(counts + 0.5) - width))
    scale = np.sqrt(counts.sum())

    def nll(theta: Array) -> float:
        nu = np.exp(basis @ theta[:-1] + width) + theta[-1] * scale * template
        if nu.min() <= 0:
            return 1e9 * (1 - nu.min())
        return float(2 * (nu - special.xlogy(counts, nu)).sum())

    values = []
    for fixed in (True, False):
        minuit = Minuit(nll, np.append(start, 0.0))
        minuit.fixed[order + 1] = fixed
        minuit.strategy, minuit.tol = 2, 1e-4
        minuit.migrad(ncall=50_000)
        minuit.migrad(ncall=50_000)
        start = np.array(minuit.values)[:-1]
        values.append(float(minuit.fval))
        mu = minuit.values[order + 1]
    return float(np.sign(mu) * np.sqrt(max(values[0] - values[1], 0.0)))


@pytest.mark.parametrize("events", [500, 20_000])
@pytest.mark.parametrize("order", [2, 3])
def test_against_a_direct_fit(events: int, order: int, edges: Array, truth: Truth, templates: Array, rng: Any) -> None:
    counts = rng.poisson(truth(events) + 0.01 * events * templates[0]).astype(float)
    found = scan_of(counts, edges, templates[:2], order)
    assert found.converged.all()
    for m in range(2):
        assert abs(found.z[0, m] - direct_z(counts, edges, templates[m], order)) < 0.01


@RESOLVER
def test_against_pyhf(edges: Array, truth: Truth, templates: Array) -> None:
    """Where the windows expect 10 events or more, pyhf's q0 says the same."""
    rng = np.random.default_rng(5)
    background = truth(20_000)
    differences = []
    for strength in (0.5, 2.0, 4.0):
        for m in range(3):
            window = templates[m] > 0.02 * templates[m].max()
            size = float(np.sqrt(background[window].sum()))
            assert size**2 >= 10
            counts = rng.poisson(background + strength * size * templates[m]).astype(float)
            found = scan_of(counts, edges, templates[m : m + 1])
            if found.signal[0, 0] <= 0:
                continue
            p = discovery_p(counts, edges, templates[m], 2, sqrt_s=SQRT_S)
            assert p is not None
            z = float(found.z[0, 0])
            differences.append(float(z_value(p)) - z)
            assert abs(differences[-1]) < max(0.01 * z, 0.01)
    assert len(differences) >= 6


@RESOLVER
def test_q0_calls_a_deficit_one_half(edges: Array, truth: Truth, templates: Array) -> None:
    counts = np.round(truth(20_000) - 150 * templates[1])
    assert discovery_p(counts, edges, templates[1], 2, sqrt_s=SQRT_S) == pytest.approx(0.5, abs=1e-6)
    assert scan_of(counts, edges, templates[1:2]).p[0, 0] > 0.95


def test_few_and_no_events_stay_finite(edges: Array, templates: Array) -> None:
    counts = np.zeros((3, len(edges) - 1))
    counts[0, :6] = [30, 12, 8, 3, 1, 1]
    counts[1, 0] = 1
    found = scan_spectra(counts, choose_background(counts, edges, sqrt_s=SQRT_S), templates, edges, sqrt_s=SQRT_S)
    assert np.isfinite(found.z).all()
    assert ((found.p >= 0) & (found.p <= 1)).all()
