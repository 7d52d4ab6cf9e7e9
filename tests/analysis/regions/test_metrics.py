"""Figures of merit with known answers: Gaussian shifts, ties, random scores, the floor."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hunch.analysis import evaluate, roc, significance_improvement
from hunch.errors import InputError


def gaussians(rng: np.random.Generator, n: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    score = np.concatenate([rng.normal(size=n), rng.normal(shift, size=n)])
    return score, np.repeat([0, 1], n)


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0, 2.0])
def test_auc_and_efficiencies_of_shifted_gaussians(shift: float, rng: np.random.Generator) -> None:
    found = evaluate(*gaussians(rng, 20_000, shift))
    assert found.auc == pytest.approx(stats.norm.cdf(shift / np.sqrt(2)), abs=5 * found.auc_error)
    for level, eps_s in found.eps_s.items():
        expected = stats.norm.sf(stats.norm.isf(float(level)) - shift)
        assert eps_s == pytest.approx(expected, abs=0.02)
    expected = 1 / stats.norm.sf(stats.norm.isf(0.5) + shift)
    assert found.rejection["0.5"] == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(("n", "error"), [(10_000, 0.0023), (1_000, 0.0071)])
def test_hanley_mcneil_error(n: int, error: float) -> None:
    """AUC 0.9: 0.0023 for 10,000 on each side, 0.0071 for 1,000; scores are quantiles, so that the AUC is exact."""
    q = (np.arange(n) + 0.5) / n
    shift = np.sqrt(2) * stats.norm.ppf(0.9)
    found = evaluate(np.concatenate([stats.norm.ppf(q), stats.norm.ppf(q) + shift]), np.repeat([0, 1], n))
    assert found.auc == pytest.approx(0.9, abs=5e-4)
    assert found.auc_error == pytest.approx(error, abs=5e-5)


def test_hanley_mcneil_covers(rng: np.random.Generator) -> None:
    found = [evaluate(*gaussians(rng, 200, 1.0)) for _ in range(150)]
    assert np.std([f.auc for f in found]) == pytest.approx(np.mean([f.auc_error for f in found]), rel=0.2)


def test_random_score_has_sic_of_root_eps_b(rng: np.random.Generator) -> None:
    score, label = gaussians(rng, 50_000, 0.0)
    eps_b, sic = significance_improvement(*roc(score, label), 50_000)
    here = eps_b > 0.01
    np.testing.assert_allclose(sic[here], np.sqrt(eps_b[here]), rtol=0.15)
    assert eps_b.min() >= 19.5 / 50_000
    assert sic[-1] == pytest.approx(1)


def test_sic_of_a_known_pair(rng: np.random.Generator) -> None:
    found = evaluate(*gaussians(rng, 50_000, 2.0))
    eps_b = np.geomspace(20 / 50_000, 1, 400)
    expected = (stats.norm.sf(stats.norm.isf(eps_b) - 2) / np.sqrt(eps_b)).max()
    assert found.max_sic == pytest.approx(expected, abs=3.5 * found.max_sic_error)
    assert found.eps_b_floor == 1 / 50_000


def test_sign_and_monotone_transforms(rng: np.random.Generator) -> None:
    score, label = gaussians(rng, 2000, 0.8)
    found = evaluate(score, label)
    assert evaluate(-score, label).auc == pytest.approx(1 - found.auc, abs=1e-12)
    assert evaluate(np.exp(score), label) == found
    order = rng.permutation(len(score))
    assert evaluate(score[order], label[order]).auc == pytest.approx(found.auc, abs=1e-12)


def test_ties_move_together() -> None:
    label = np.array([0, 1] * 500)
    eps_b, eps_s = roc(np.ones(1000), label)
    assert eps_b.tolist() == eps_s.tolist() == [0, 1]
    assert evaluate(np.ones(1000), label).auc == 0.5
    score = np.array([0.0, 0.0, 1.0, 1.0])
    assert evaluate(score, np.array([0, 1, 0, 1])).auc == 0.5
    assert evaluate(score, np.array([0, 0, 0, 1])).auc == pytest.approx((1 + 1 + 0.5) / 3)


def test_perfect_score_is_bounded_by_the_floor() -> None:
    found = evaluate(np.arange(2000.0), np.repeat([0, 1], 1000))
    assert found.auc == 1
    assert found.auc_error == 0
    assert found.rejection["0.5"] == 1000
    assert found.max_sic == pytest.approx(1 / np.sqrt(0.02))
    tiny = evaluate(np.arange(10.0), np.repeat([0, 1], 5))  # fewer than 20 background events: no SIC but 1
    assert (tiny.max_sic, tiny.max_sic_eps_b) == (1.0, 1.0)


def test_input_is_checked() -> None:
    with pytest.raises(InputError, match="both classes are needed, found 0 signal and 3"):
        evaluate(np.arange(3.0), np.zeros(3))
    with pytest.raises(InputError, match="one entry an event"):
        evaluate(np.arange(3.0), np.zeros(4))
    with pytest.raises(InputError, match="1 scores are no numbers"):
        evaluate(np.array([0.0, np.nan]), np.array([0, 1]))
    with pytest.raises(InputError, match="labels are 0"):
        evaluate(np.arange(3.0), np.array([0, 1, 2]))
