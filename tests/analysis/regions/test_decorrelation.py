"""Moving cuts on a score whose conditional quantile is known in closed form: found, and the sculpting gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from hunch.analysis import MovingCut, compare_sculpting, fit_fixed_efficiency, fit_quantile_regression
from hunch.analysis.regions.decorrelation import merged_edges, pinball_fit
from hunch.errors import InputError

Array = np.ndarray[Any, Any]
Fit = Callable[..., MovingCut]
FITS = [fit_fixed_efficiency, fit_quantile_regression]


def background(n: int, seed: int) -> tuple[Array, Array]:
    """Return masses above 1.5 TeV that fall, and pT (n,) GeV, a share of the mass that falls with it."""
    rng = np.random.default_rng(seed)
    mjj = 1500 * np.exp(rng.exponential(1 / 5.5, n))
    return mjj, mjj * np.clip(0.5 * rng.beta(6, 4, n) * (1500 / mjj) ** 0.2, 0.02, 0.5)


def mean_score(mjj: Array, pt: Array | None = None) -> Array:
    x = np.log(mjj / 1500)
    return np.asarray(1.5 * x - 0.6 * x**2 + (0 if pt is None else 2 * np.log(pt / mjj / 0.3)))


def score_of(mjj: Array, pt: Array | None, seed: int) -> Array:
    """Return scores whose quantile at efficiency e is mean_score + the normal quantile of e."""
    return np.asarray(mean_score(mjj, pt) + np.random.default_rng(seed).normal(size=len(mjj)))


@pytest.mark.parametrize("efficiency", [0.05, 0.5])
@pytest.mark.parametrize("fit", FITS)
def test_cut_is_the_conditional_quantile(fit: Fit, efficiency: float) -> None:
    mjj, _ = background(20_000, 1)
    moving = fit(score_of(mjj, None, 2), mjj, efficiency=efficiency)
    at = np.linspace(1550, 4500, 60)
    wrong = moving.cut(at) - mean_score(at) - stats.norm.isf(efficiency)
    assert np.sqrt(np.mean(wrong[at < 2800] ** 2)) < 0.15
    assert np.abs(wrong).max() < 0.5
    np.testing.assert_allclose(moving.transform(np.ones(60), at), 1 - moving.cut(at))
    assert moving.efficiency == efficiency
    # constant beyond the sample
    assert moving.cut([1.0])[0] == moving.cut([mjj.min()])[0]
    assert moving.cut([1e5])[0] == pytest.approx(moving.cut([mjj.max()])[0])


@pytest.mark.parametrize("with_pt", [False, True])
@pytest.mark.parametrize("fit", FITS)
def test_the_moving_cut_does_not_sculpt(fit: Fit, with_pt: bool, edges: Array, rng: np.random.Generator) -> None:
    (mjj, pt), (other, other_pt) = background(20_000, 3), background(40_000, 4)
    use = {"pt": pt} if with_pt else {}
    moving = fit(score_of(mjj, pt if with_pt else None, 5), mjj, efficiency=0.1, **use)
    use = {"pt": other_pt} if with_pt else {}
    score = score_of(other, other_pt if with_pt else None, 6)
    found = compare_sculpting(moving, score, other, edges, rng=rng, **use)
    assert found.asked == 0.1
    assert found.efficiency == pytest.approx(0.1, abs=0.006)
    assert found.before.jsd > 3 * found.before.floor_95
    assert found.after.jsd < 1.5 * found.after.floor_95
    assert found.before.n_events == pytest.approx(found.after.n_events, rel=0.06)
    assert found.dependence_before > 0.005
    assert abs(found.dependence_after) < 0.001
    # efficiency in slices of the mass, and of pT where it was fitted with it
    passed = moving.transform(score, other, **use) > 0
    for values in (other, other_pt / other) if with_pt else (other,):
        which = np.searchsorted(np.quantile(values, [0.2, 0.4, 0.6, 0.8]), values)
        for i in range(5):
            assert passed[which == i].mean() == pytest.approx(0.1, abs=0.03 if with_pt else 0.02)


@pytest.mark.parametrize("fit", FITS)
def test_a_score_that_does_not_sculpt_keeps_its_cut(fit: Fit, edges: Array, rng: np.random.Generator) -> None:
    mjj, _ = background(10_000, 7)
    moving = fit(rng.exponential(size=len(mjj)), mjj, efficiency=0.2)
    assert np.abs(moving.cut(np.linspace(1550, 3000, 30)) - np.log(5)).max() < 0.2
    other, _ = background(10_000, 8)
    found = compare_sculpting(moving, rng.exponential(size=len(other)), other, edges, rng=rng)
    assert found.before.jsd < 1.5 * found.before.floor_95
    assert found.after.jsd < 1.5 * found.after.floor_95


def test_smoothing_follows_the_errors_and_no_further() -> None:
    mjj, _ = background(40_000, 9)
    straight = fit_fixed_efficiency(score_of(mjj, None, 10), mjj, efficiency=0.1)
    residual = (straight.cuts[:, 0] - straight.cut(straight.nodes)) / straight.errors[:, 0]
    assert (residual**2).sum() <= 1.01 * len(residual)
    assert len(straight.nodes) >= 10
    wave = np.sin(12 * np.log(mjj / 1500)) + 0.05 * np.random.default_rng(1).normal(size=len(mjj))
    found = fit_fixed_efficiency(wave, mjj, efficiency=0.5)
    at = np.linspace(1600, 2500, 40)
    assert np.abs(found.cut(at) - np.sin(12 * np.log(at / 1500))).max() < 0.12


def test_the_linear_programme_is_solved(rng: np.random.Generator) -> None:
    from scipy.sparse import csr_array

    x = np.stack([np.ones(400), rng.uniform(size=400)], axis=1)
    y = x @ [1.0, 2.0] + rng.exponential(size=400)
    found = pinball_fit(csr_array(x), y, 0.7)

    def pinball(c: Array) -> float:
        r = y - x @ c
        return float(np.maximum(0.7 * r, -0.3 * r).sum())

    for step in ([0.01, 0], [-0.01, 0], [0, 0.01], [0, -0.01], [0.01, -0.02]):
        assert pinball(found) < pinball(found + np.array(step))
    assert (y > x @ found).mean() == pytest.approx(0.3, abs=0.01)


def test_cells_hold_what_was_asked(rng: np.random.Generator) -> None:
    values = rng.exponential(size=3000)
    edges = merged_edges(values, 40, 100)
    counts = np.histogram(values, edges)[0]
    assert counts.min() >= 100
    assert counts.sum() == 3000
    assert len(edges) > 10


@pytest.mark.parametrize("fit", FITS)
def test_what_is_no_sample_is_refused(fit: Fit, edges: Array, rng: np.random.Generator) -> None:
    mjj, pt = background(4000, 11)
    score = score_of(mjj, None, 12)
    for efficiency in (0.0, 1.0, 1.5):
        with pytest.raises(InputError, match="efficiency"):
            fit(score, mjj, efficiency=efficiency)
    with pytest.raises(InputError, match="scores"):
        fit(score[:-1], mjj, efficiency=0.1)
    with pytest.raises(InputError, match="not finite"):
        fit(np.where(score > 2, np.nan, score), mjj, efficiency=0.1)
    with pytest.raises(InputError, match="mass is -1"):
        fit(score, np.where(mjj == mjj[5], -1.0, mjj), efficiency=0.1)
    with pytest.raises(InputError, match="events"):
        fit(score[:60], mjj[:60], efficiency=0.1)
    moving = fit(score, mjj, efficiency=0.3)
    with pytest.raises(InputError, match="without pT"):
        moving.cut(mjj, pt)
    with pytest.raises(InputError, match="no event between"):
        compare_sculpting(moving, score, mjj, edges * 100, rng=rng)
    with_pt = fit(score, mjj, efficiency=0.3, pt=pt)
    with pytest.raises(InputError, match="with pT"):
        with_pt.cut(mjj)
