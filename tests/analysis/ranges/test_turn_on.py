"""The test for a turn-on: its arithmetic, what it must not take for one, and what it must."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import optimize, special

from hunch.analysis.ranges.turn_on import (
    falling_with_window,
    find_turn_on,
    floor_power,
    gains_with_bump,
    monotone_gains,
    turn_on_statistics,
    unimodal_gains,
)
from hunch.analysis.spectra.bins import DIJET_EDGES
from hunch.analysis.spectra.signal_shape import SignalShape, signal_templates

Array = np.ndarray[Any, Any]
EDGES = np.array([e for e in DIJET_EDGES if 1000 <= e <= 8152], dtype=float)
CENTRES, WIDTHS = 0.5 * (EDGES[1:] + EDGES[:-1]), np.diff(EDGES)


def expected(events: float, density: Callable[[Array], Array], edges: Array = EDGES) -> Array:
    mean = density(0.5 * (edges[1:] + edges[:-1])) * np.diff(edges)
    return np.asarray(events * mean / mean.sum())


def steep(m: Array) -> Array:
    return np.asarray((1 - m / 13_000) ** 9 * m**-5.0)


def with_signal(mean: Array, mass: float, strength: float, *, width: float = 0.035, edges: Array = EDGES) -> Array:
    """Add a bump that is `strength` sigma above a known background."""
    template = signal_templates(SignalShape(width), [mass], edges)[0]
    return np.asarray(mean + strength / np.sqrt((template**2 / np.maximum(mean, 1e-3)).sum()) * template)


def log_likelihood(density: Array, counts: Array, widths: Array) -> float:
    return float((counts * np.log(np.maximum(density, 1e-300)) - density * widths).sum() + counts.sum())


def test_monotone_gains_are_those_of_isotonic_regression(rng: np.random.Generator) -> None:
    counts = rng.poisson(np.geomspace(60, 0.3, 12)).astype(float)
    widths = rng.uniform(1, 3, size=12)
    for sign in (1, -1):
        found = monotone_gains(counts, widths, sign)
        for k in range(1, 13):
            density = optimize.isotonic_regression(counts[:k] / widths[:k], weights=widths[:k], increasing=sign > 0).x
            assert found[k] == pytest.approx(log_likelihood(density, counts[:k], widths[:k]))


def test_a_unimodal_density_is_the_best_over_its_modes(rng: np.random.Generator) -> None:
    counts, widths = rng.poisson(20, size=7).astype(float), rng.uniform(1, 2, size=7)
    values = unimodal_gains(counts, widths)
    rising, falling = (
        lambda c, w: log_likelihood(optimize.isotonic_regression(c / w, weights=w).x, c, w) if len(c) else 0.0,
        lambda c, w: (
            log_likelihood(optimize.isotonic_regression(c / w, weights=w, increasing=False).x, c, w) if len(c) else 0.0
        ),
    )
    for k in range(8):
        expected_here = rising(counts[:k], widths[:k]) + falling(counts[k:], widths[k:])
        assert values[k] == pytest.approx(expected_here)
    assert turn_on_statistics(counts[None], np.append(0, np.cumsum(widths)))[0] == pytest.approx(
        2 * (values.max() - values[0])
    )


@pytest.mark.parametrize(("a", "b"), [(0, 3), (2, 5), (5, 8)])
def test_a_window_is_fitted_above_its_floor(a: int, b: int, rng: np.random.Generator) -> None:
    """Against a general minimiser, with the constraints written out."""
    edges = np.geomspace(1000, 2000, 9)
    widths = np.diff(edges)
    for _ in range(2):
        counts = rng.poisson(np.geomspace(400, 60, 8)).astype(float)
        counts[rng.integers(8)] *= rng.choice([0.5, 2.0])
        power = floor_power(counts, edges, a, b)
        rows = []
        for i in range(8):
            row = np.zeros(8)
            if b == 8 and a <= i:
                continue
            if a <= i < b:
                row[i], row[b] = 1, -((edges[b] / edges[i]) ** power)
            elif i == a - 1 and b < 8:
                row[i], row[b] = 1, -((edges[b] / edges[a]) ** power)
            elif i < 7 and i != a - 1:
                row[i], row[i + 1] = 1, -1
            rows.append(row)
        best = optimize.minimize(
            lambda d, c=counts: -log_likelihood(d, c, widths),
            np.sort(counts / widths)[::-1],
            jac=lambda d, c=counts: widths - c / np.maximum(d, 1e-9),
            bounds=[(1e-6, None)] * 8,
            constraints=optimize.LinearConstraint(np.array(rows), 0, np.inf),
            method="trust-constr",
            options={"gtol": 1e-10, "xtol": 1e-12, "maxiter": 3000},
        )
        assert falling_with_window(counts, edges, 0, a, b) == pytest.approx(-best.fun, abs=5e-3)
        assert falling_with_window(counts, edges, 0, a, b) >= -best.fun - 1e-6


def test_a_bump_is_looked_for_in_every_window(rng: np.random.Generator) -> None:
    """What is left out for speed changes nothing."""
    edges = np.geomspace(1000, 3000, 15)
    for _ in range(5):
        counts = rng.poisson(with_signal(expected(3000, steep, edges), 1500, 8, edges=edges)).astype(float)
        ends = np.minimum(np.arange(14) + 4, 14).astype(np.int64)
        found = gains_with_bump(counts, edges, ends)
        rising = monotone_gains(counts, np.diff(edges), 1)
        plain = unimodal_gains(counts, np.diff(edges))
        for k in range(15):
            windows = [rising[k] + falling_with_window(counts, edges, k, a, ends[a]) for a in range(k, 14)]
            assert found[k] == pytest.approx(max([plain[k], *windows]))


@pytest.mark.parametrize("events", [300, 1e4, 1e6])
def test_a_falling_or_a_flat_spectrum_has_no_turn_on(events: float, rng: np.random.Generator) -> None:
    flat = np.linspace(1000, 2000, 101)
    for edges, density in ((EDGES, steep), (EDGES, lambda m: np.exp(-m / 250)), (flat, np.ones_like)):
        for counts in rng.poisson(expected(events, density, edges), size=(10, len(edges) - 1)):
            found = find_turn_on(counts, edges, width=0.035)
            assert not found.seen
            assert found.threshold >= 9.5


@pytest.mark.parametrize("strength", [5, 30, 100, 1000])
@pytest.mark.parametrize("width", [0.02, 0.035, 0.1])
def test_a_bump_is_no_turn_on(strength: float, width: float, rng: np.random.Generator) -> None:
    mean = expected(1e5, steep)
    for mass in (1000 * (1 + width), 1000 * (1 + 3 * width), 1700, 4000):
        counts = rng.poisson(with_signal(mean, mass, strength, width=width))
        found = find_turn_on(counts, EDGES, width=width)
        assert not found.seen, mass


def turn_on(m: Array, *, at: float = 2400, width: float = 0.12) -> Array:
    return np.asarray(steep(m) * special.ndtr(np.log(m / at) / width))


@pytest.mark.parametrize(("events", "slack"), [(1e3, 600), (1e5, 200)])
def test_a_turn_on_is_seen_and_so_is_its_mode(events: float, slack: float, rng: np.random.Generator) -> None:
    for counts in rng.poisson(expected(events, turn_on), size=(5, len(WIDTHS))):
        found = find_turn_on(counts, EDGES, width=0.035)
        assert found.seen
        assert found.p_value == 1 / 2001
        low, high = found.mode
        assert 2400 - slack < low < high < 2500 + slack


@pytest.mark.parametrize("start", [2037, 2132])
def test_a_spectrum_that_starts_late_in_its_turn_on_is_no_bump_either(start: float, rng: np.random.Generator) -> None:
    """It rises to its mode and falls back to where it started within the length of a strong bump."""
    edges = EDGES[start <= EDGES]
    counts = rng.poisson(expected(1e5, turn_on, edges))
    assert find_turn_on(counts, edges, width=0.035).seen


@pytest.mark.parametrize("strength", [5, 30, 100])
@pytest.mark.parametrize("mass", [3100, 4000, 5500])
def test_a_turn_on_below_a_bump_is_one(mass: float, strength: float, rng: np.random.Generator) -> None:
    counts = rng.poisson(with_signal(expected(1e5, turn_on), mass, strength))
    found = find_turn_on(counts, EDGES, width=0.035)
    assert found.seen
    assert found.mode[1] < 2700


def test_the_same_counts_give_the_same_answer(rng: np.random.Generator) -> None:
    counts = rng.poisson(expected(2000, turn_on))
    assert find_turn_on(counts, EDGES, width=0.035) == find_turn_on(counts, EDGES, width=0.035)
    fine = np.geomspace(1000, 5000, 161)
    found = find_turn_on(np.zeros(160), fine, width=0.035)
    assert (found.statistic, found.seen) == (0, False)
