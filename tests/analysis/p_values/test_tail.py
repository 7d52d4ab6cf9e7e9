"""The tail fit against tails that are known beyond the experiments it is made on, and the bound beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats
from scipy.ndimage import gaussian_filter1d

from hunch.analysis import fit_tail, upper_limit
from hunch.errors import InputError

Array = np.ndarray[Any, Any]
TRIALS = 20
POINTS, LENGTH = 40, 2.0  # of a scan: masses, and the width of the filter that makes its z smooth
REPEATS, EXPERIMENTS = 100, 2000


def smallest_of_many(n: int, rng: np.random.Generator) -> Array:
    """Return t (n,) of the smallest of 20 independent p-values."""
    return -np.log(rng.uniform(size=(n, TRIALS)).min(axis=1))


def t_of_many(p: float) -> float:
    """Return the t whose chance is p: P(t) = 1 - (1 - exp(-t))^20."""
    return float(-np.log(-np.expm1(np.log1p(-p) / TRIALS)))


def smooth_scans(n: int, rng: np.random.Generator) -> Array:
    """Return t (n,) of the largest z of scans of 40 masses, a smooth Gaussian process."""
    pad = int(5 * LENGTH)
    z = gaussian_filter1d(rng.standard_normal((n, POINTS + 2 * pad)), LENGTH, axis=1, mode="constant")
    norm = np.sqrt((gaussian_filter1d(np.eye(2 * pad + 1)[pad], LENGTH, mode="constant") ** 2).sum())
    return np.asarray(-stats.norm.logsf(z[:, pad:-pad].max(axis=1) / norm))


def t_of_scans(p: float) -> float:
    """Return the t whose chance is p by Rice's formula; the filter's correlation length is sqrt(2) of its width."""
    rises = (POINTS - 1) / (2 * np.pi * np.sqrt(2) * LENGTH)

    def excess(z: float) -> float:
        return float(np.log((stats.norm.sf(z) + rises * np.exp(-0.5 * z**2)) / p))

    return float(-stats.norm.logsf(optimize.brentq(excess, 1.0, 9.0)))


CASES = {"many": (smallest_of_many, t_of_many), "scans": (smooth_scans, t_of_scans)}


@pytest.fixture(scope="module")
def drawn() -> dict[str, Array]:
    rng = np.random.default_rng(71)
    return {k: draw(REPEATS * EXPERIMENTS, rng).reshape(REPEATS, EXPERIMENTS) for k, (draw, _) in CASES.items()}


@pytest.mark.parametrize("case", CASES)
def test_the_true_tail_is_that_of_many_experiments(case: str, drawn: dict[str, Array]) -> None:
    # 20,000 of the experiments at p = 1e-2, all 200,000 at 1e-3: points of a grid miss a little of a maximum
    for p, t in ((1e-2, drawn[case][:10]), (1e-3, drawn[case])):
        above = int((t >= CASES[case][1](p)).sum())
        assert 0.85 * t.size * p - 3 * np.sqrt(t.size * p) < above < 1.05 * t.size * p + 3 * np.sqrt(t.size * p)


@pytest.mark.parametrize("beyond", [10, 100])
@pytest.mark.parametrize("case", CASES)
def test_the_interval_covers_the_true_p_far_beyond(case: str, beyond: int, drawn: dict[str, Array]) -> None:
    p = 1 / EXPERIMENTS / beyond
    t = CASES[case][1](p)
    fits = [f for f in (fit_tail(row, t) for row in drawn[case]) if f is not None]
    assert len(fits) >= REPEATS - 3  # a KS p below 1 % is no fit
    covered = sum(f.low <= p <= f.high for f in fits)
    ratio = float(np.exp(np.mean([np.log(f.p / p) for f in fits])))
    width = float(np.median([f.high / f.low for f in fits]))
    told = f"{case}, {beyond} times beyond: {covered}/{len(fits)} cover, p {ratio:.2f} times the true one, x {width**0.5:.1f}"
    print(told)  # noqa: T201
    low, high = stats.binom.ppf([0.001, 0.999], len(fits), 0.683)
    assert low <= covered <= high
    assert 0.5 < ratio < 2
    assert width < 12
    for f in fits:
        assert f.low < f.p < f.high
        assert f.n_tail == 100
        assert f.z == pytest.approx(float(stats.norm.isf(f.p)))


def test_more_experiments_know_more(drawn: dict[str, Array]) -> None:
    t = t_of_many(1e-6)
    few, many = fit_tail(drawn["many"][0], t), fit_tail(drawn["many"][10:20].ravel(), t)
    assert few is not None
    assert many is not None
    assert many.n_tail == 250
    assert many.high / many.low < 0.7 * few.high / few.low
    assert many.p == pytest.approx(1e-6, rel=0.8)


def test_an_exponential_is_carried_on_as_one() -> None:
    t = np.random.default_rng(2).exponential(size=3000)
    found = fit_tail(t, 11.0)
    assert found is not None
    tail = np.sort(t)[-150:]
    threshold = np.sort(t)[-151]
    scale = (tail - threshold).mean()
    assert (found.n_tail, found.shape) == (150, 0.0)
    assert found.threshold == threshold
    assert found.scale == pytest.approx(scale, rel=1e-3)
    assert found.p == pytest.approx(0.05 * np.exp(-(11.0 - threshold) / scale), rel=0.02)


def test_interval_is_that_of_the_likelihood(rng: np.random.Generator) -> None:
    """Errors of the share, 1 / sqrt(m), and of the scale, (t - u) / (scale sqrt(m)), add up in ln p."""
    found = fit_tail(rng.exponential(size=20_000), 14.0)
    assert found is not None
    steps = (14.0 - found.threshold) / found.scale
    assert np.log(found.high / found.low) / 2 == pytest.approx(np.sqrt((1 + steps**2) / 250), rel=0.05)


def test_a_tail_with_a_heavy_end(rng: np.random.Generator) -> None:
    at = float(stats.genpareto.isf(1e-5, 0.3))
    fits = [fit_tail(stats.genpareto.rvs(0.3, size=5000, random_state=rng), at) for _ in range(20)]
    found = [fit for fit in fits if fit is not None and fit.shape > 0]
    assert len(found) >= 14
    assert np.median([fit.shape for fit in found]) == pytest.approx(0.3, abs=0.15)
    assert np.mean([fit.low < 1e-5 < fit.high for fit in found]) > 0.35  # 68 +- 10 % of them
    assert np.median([fit.high / fit.low for fit in found]) > 6  # the price of another parameter


def test_a_tail_with_an_end(rng: np.random.Generator) -> None:
    """An end is never believed in: the exponential is above such a tail."""
    t = stats.genpareto.rvs(-0.3, size=5000, random_state=rng)
    found = fit_tail(t, float(stats.genpareto.isf(1e-5, -0.3)))
    assert found is None or (found.shape == 0 and found.p > 1e-5)


def test_ks_p_of_exponential_tails_is_uniform(rng: np.random.Generator) -> None:
    ks = [f.ks for f in (fit_tail(rng.exponential(size=500), 12.0) for _ in range(400)) if f is not None]
    assert len(ks) >= 390
    assert stats.kstest(ks, "uniform").pvalue > 0.01
    assert 0.02 < (np.array(ks) < 0.05).mean() < 0.08


def test_no_fit_where_it_is_no_help(rng: np.random.Generator) -> None:
    t = rng.exponential(size=2000)
    tenth = float(np.sort(t)[-10])
    assert fit_tail(t, tenth) is None  # ten lie above: their share is the better number
    assert fit_tail(t, np.nextafter(tenth, 99.0)) is not None
    assert fit_tail(t[:399], 20.0) is None
    assert fit_tail(t[:400], 20.0) is not None
    assert fit_tail(np.where(t > np.quantile(t, 0.97), 6.0, t), 20.0) is None  # a spike is no tail
    assert fit_tail(np.full(500, 3.0), 20.0) is None
    with pytest.raises(InputError, match="finite"):
        fit_tail(np.append(t, np.inf), 20.0)


def test_the_upper_limit_is_the_binomial_one() -> None:
    assert upper_limit(0, 5000) == pytest.approx(3 / 5000, rel=3e-3)
    for above, n in ((0, 50), (3, 1000), (700, 1000)):
        limit = upper_limit(above, n)
        assert stats.binom.cdf(above, n, limit) == pytest.approx(0.05)
    assert upper_limit(20, 20) == 1
    with pytest.raises(InputError, match="21 of 20"):
        upper_limit(21, 20)
