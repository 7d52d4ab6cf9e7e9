"""The signal's shape: a proper distribution, its published density, parameters found again, the Gaussian fallback."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from hunch.analysis import SignalShape, fit_signal_shape, signal_templates
from hunch.errors import InputError

CRYSTAL_BALL = SignalShape(width=0.03, alpha_low=1.1, n_low=3.0, alpha_high=1.7, n_high=5.0)


def density(t: Any) -> Any:
    """Return the double-sided Crystal Ball of CRYSTAL_BALL in core widths, unnormalised, from its definition."""
    al, nl, ah, nh = 1.1, 3.0, 1.7, 5.0
    low = (nl / al) ** nl * np.exp(-(al**2) / 2) * (nl / al - al - np.minimum(t, 0)) ** -nl
    high = (nh / ah) ** nh * np.exp(-(ah**2) / 2) * (nh / ah - ah + np.maximum(t, 0)) ** -nh
    return np.where(t < -al, low, np.where(t > ah, high, np.exp(-(t**2) / 2)))


def sample(rng: np.random.Generator, n: int, mass: float) -> Any:
    """Draw from CRYSTAL_BALL by inverting its own cumulative distribution on a fine grid."""
    ratio = np.linspace(0.3, 2.0, 20_001)
    return mass * np.interp(rng.uniform(size=n), CRYSTAL_BALL.cdf(ratio), ratio)


def test_cumulative_is_the_integral_of_the_density() -> None:
    total = integrate.quad(density, -2000, 2000, limit=500, points=[-1.1, 0, 1.7])[0]
    for ratio in (0.85, 0.95, 0.967, 1.0, 1.03, 1.051, 1.1, 1.3):
        t = (ratio - 1) / 0.03
        expected = integrate.quad(density, -2000, t, limit=500, points=[p for p in (-1.1, 0, 1.7) if p < t])[0] / total
        assert float(CRYSTAL_BALL.cdf(np.array(ratio))) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("shape", [CRYSTAL_BALL, SignalShape(), SignalShape(alpha_low=1.5)])
def test_cumulative_rises_from_zero_to_one(shape: SignalShape) -> None:
    values = shape.cdf(np.linspace(-100, 100, 40_001))
    assert values[0] == pytest.approx(0, abs=1e-4)
    assert values[-1] == pytest.approx(1, abs=1e-4)
    assert (np.diff(values) >= -1e-12).all()


def test_infinite_alphas_are_a_gaussian() -> None:
    ratio = np.linspace(0.8, 1.2, 101)
    np.testing.assert_allclose(SignalShape().cdf(ratio), stats.norm.cdf(ratio, 1, 0.035), atol=1e-12)


def test_parameters_are_found_again(rng: np.random.Generator) -> None:
    shape = fit_signal_shape({"a": sample(rng, 20_000, 3000.0)})
    assert shape.source.startswith("double-sided Crystal Ball fitted to a")
    assert shape.width == pytest.approx(0.03, rel=0.08)
    assert shape.alpha_low == pytest.approx(1.1, rel=0.15)
    assert shape.alpha_high == pytest.approx(1.7, rel=0.2)
    grid = np.linspace(0.8, 1.2, 41)
    np.testing.assert_allclose(shape.cdf(grid), CRYSTAL_BALL.cdf(grid), atol=0.03)


def test_priors_of_different_mass_share_one_shape(rng: np.random.Generator) -> None:
    both = fit_signal_shape({"a": sample(rng, 5000, 2000.0), "b": sample(rng, 5000, 4000.0)})
    assert both.width == pytest.approx(0.03, rel=0.15)


def test_gaussian_where_there_is_nothing_to_fit(rng: np.random.Generator, caplog: pytest.LogCaptureFixture) -> None:
    none = fit_signal_shape({})
    assert (none.width, none.alpha_low, none.alpha_high) == (0.035, None, None)
    assert "no priors" in none.source
    assert "no prior with 200 events" in fit_signal_shape({"a": rng.normal(3000, 100, 50)}).source
    with caplog.at_level(logging.WARNING):
        broad = fit_signal_shape({"a": rng.uniform(1000, 6000, 5000)})
    assert "no narrow peak" in broad.source
    assert broad.width == 0.035
    assert "no narrow peak" in caplog.text


def test_templates_are_shares_of_unit_yield() -> None:
    edges = np.geomspace(1000, 9000, 101)
    templates = signal_templates(CRYSTAL_BALL, [2500.0, 3000.0], edges)
    assert templates.shape == (2, 100)
    np.testing.assert_allclose(templates.sum(axis=1), 1, atol=0.01)
    assert (np.abs(edges[templates.argmax(axis=1)] / [2500, 3000] - 1) < 0.03).all()
    assert signal_templates(CRYSTAL_BALL, [1000.0], edges).sum() == pytest.approx(0.4, abs=0.1)
    with pytest.raises(InputError, match="masses are positive"):
        signal_templates(CRYSTAL_BALL, [0.0], edges)
