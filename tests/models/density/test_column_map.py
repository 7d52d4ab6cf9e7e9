"""The column map: invertible, bounded, with the right Jacobian, fitted on the background alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hunch.models import Quak
from hunch.models.density.column_map import COMPRESS_FROM, dequantise, fit_column_map, map_columns

COLUMNS = {
    "normal": lambda rng, n: rng.normal(3, 2, n),
    "exponential": lambda rng, n: rng.exponential(40.0, n),
    "cauchy": lambda rng, n: rng.standard_cauchy(n),
    "lognormal": lambda rng, n: rng.lognormal(0, 3, n),
    "ratio": lambda rng, n: rng.beta(2, 5, n),
    "spike": lambda rng, n: np.where(rng.random(n) < 0.3, 0.0, rng.beta(2, 5, n)),
    "mostly one value": lambda rng, n: np.where(rng.random(n) < 0.9995, 1.0, rng.random(n)),
    "whole numbers": lambda rng, n: rng.poisson(30, n).astype(float),
    "two values": lambda rng, n: rng.integers(0, 2, n).astype(float),
    "constant": lambda rng, n: np.full(n, 5.0),
    "zero": lambda rng, n: np.zeros(n),
    "huge": lambda rng, n: rng.normal(0, 1e250, n),
    "tiny": lambda rng, n: rng.normal(0, 1e-200, n),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_map_is_strictly_increasing_and_finite(name: str, rng: np.random.Generator) -> None:
    column = COLUMNS[name](rng, 5_000)
    fitted = fit_column_map(column[:, None], rng)
    spread = np.ptp(column) or 1.0
    x = np.sort(
        np.concatenate([np.unique(column), np.linspace(column.min() - 3 * spread, column.max() + 3 * spread, 301)])
    )
    z, log_jacobian = map_columns(fitted, x[:, None])
    assert np.isfinite(z).all()
    assert np.isfinite(log_jacobian).all()
    apart = np.diff(x) > 1e-9 * spread
    assert (np.diff(z[:, 0])[apart] > 0).all()
    ends, _ = map_columns(fitted, np.array([[-1e300], [1e300]]))
    assert np.isfinite(ends).all()
    assert np.abs(ends).max() < 1500


@pytest.mark.parametrize("name", ["normal", "exponential", "cauchy", "lognormal", "spike"])
def test_log_jacobian_is_the_derivative(name: str, rng: np.random.Generator) -> None:
    fitted = fit_column_map(COLUMNS[name](rng, 5_000)[:, None], rng)
    x = np.quantile(COLUMNS[name](rng, 5_000), np.linspace(0.003, 0.997, 97)) + 1e-3
    x = np.concatenate([x, [x[0] - 900.0, x[-1] + 900.0]])
    step = 1e-7 * np.maximum(np.abs(x), 1e-2)
    low, high = (map_columns(fitted, (x + sign * step)[:, None])[0][:, 0] for sign in (-1, 1))
    _, log_jacobian = map_columns(fitted, x[:, None])
    agree = np.isclose(np.log((high - low) / (2 * step)), log_jacobian, atol=1e-3)
    assert agree.mean() > 0.97  # a knot may lie between x - step and x + step
    assert agree[-2:].all()


def test_heavy_tails_become_about_normal_and_light_ones_stay_linear(rng: np.random.Generator) -> None:
    heavy = rng.standard_cauchy(20_000)[:, None]
    z, _ = map_columns(fit_column_map(heavy, rng), heavy)
    assert stats.kstest(z[:, 0], "norm").statistic < 0.01
    light = rng.normal(5, 2, (20_000, 1))
    z, _ = map_columns(fit_column_map(light, rng), light)
    low, high = np.quantile(light, stats.norm.cdf([-1, 1]))
    np.testing.assert_allclose(z, (2 * light - low - high) / (high - low), atol=1e-9)


def test_a_prior_far_outside_stays_resolved(rng: np.random.Generator) -> None:
    fitted = fit_column_map(rng.normal(0, 1, (20_000, 1)), rng)
    z, _ = map_columns(fitted, rng.normal(50, 1, (2_000, 1)))
    assert z.min() > COMPRESS_FROM
    assert np.std(z) > 0.01


def test_whole_numbers_are_spread_for_training_only(rng: np.random.Generator) -> None:
    x = np.stack([rng.poisson(9, 1_000), rng.normal(size=1_000)], axis=1)
    fitted = fit_column_map(x, rng)
    assert fitted.integer.tolist() == [True, False]
    spread = dequantise(x, fitted.integer, rng)
    assert np.array_equal(spread[:, 1], x[:, 1])
    assert len(np.unique(spread[:, 0])) == 1_000
    assert np.abs(spread[:, 0] - x[:, 0]).max() <= 0.5


def test_scaling_is_fitted_on_the_background_alone(rng: np.random.Generator) -> None:
    background = rng.normal(size=(500, 3))
    quick = {"device": "cpu", "max_epochs": 1, "hidden": 8}
    maps = [
        Quak(family=False, **quick).fit(background, priors=priors).density_.columns  # type: ignore[union-attr]
        for priors in (None, {"far": rng.normal(100, 5, (300, 3))}, {"wide": rng.normal(0, 30, (300, 3))})
    ]
    for other in maps[1:]:
        np.testing.assert_array_equal(other.knots, maps[0].knots)
        np.testing.assert_array_equal(other.slope_above, maps[0].slope_above)
    moved = Quak(**quick).fit(background + 1).density_.columns  # type: ignore[union-attr]
    assert not np.array_equal(moved.knots, maps[0].knots)
