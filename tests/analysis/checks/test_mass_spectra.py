"""1/JSD of the mass behind a cut: the floor where the score knows nothing of the mass, a known divergence where it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hunch.analysis import mass_decorrelation, mass_spectra
from hunch.analysis.checks.mass_spectra import divergences, mass_bins
from hunch.errors import InputError

Array = np.ndarray[Any, Any]


@pytest.fixture
def mass() -> Array:
    return np.random.default_rng(5).exponential(60, 20_000) + 20


def test_divergences_are_those_of_the_definition() -> None:
    assert divergences([1, 0], [0, 1]) == pytest.approx(np.log(2))
    assert divergences([2, 2], [5, 5]) == pytest.approx(0, abs=1e-12)
    assert divergences([0, 0], [1, 2]) == 0
    p, q = np.array([0.9, 0.1]), np.array([0.4, 0.6])
    half = (p + q) / 2
    wanted = 0.5 * (p * np.log(p / half)).sum() + 0.5 * (q * np.log(q / half)).sum()
    np.testing.assert_allclose(divergences([[9, 1], [1, 1]], [[4, 6], [1, 1]]), [wanted, 0], atol=1e-12)


@pytest.mark.parametrize("against", ["fail", "all"])
def test_a_score_that_knows_nothing_of_the_mass_is_at_the_floor(mass: Array, against: str) -> None:
    rng = np.random.default_rng(0)
    found = [
        mass_decorrelation(rng.normal(size=len(mass)), mass, efficiency=0.3, against=against, n_random=50)
        for _ in range(20)
    ]
    assert np.mean([f.jsd for f in found]) == pytest.approx(found[0].floor, rel=0.1)
    assert sum(f.jsd > f.floor_95 for f in found) <= 4
    assert found[0].eps_b == pytest.approx(0.3, abs=1e-4)
    assert found[0].inverse == pytest.approx(1 / found[0].jsd)
    # of two samples of one spectrum, to first order: (bins - 1) / 8 (1 / n1 + 1 / n2)
    if against == "fail":
        n = found[0].n_pass, found[0].n_background - found[0].n_pass
        assert found[0].floor == pytest.approx(39 / 8 * (1 / n[0] + 1 / n[1]), rel=0.1)


def test_a_score_that_is_the_mass_sculpts_all_of_it(mass: Array) -> None:
    found = mass_decorrelation(mass, mass, efficiency=0.5)
    assert found.jsd == pytest.approx(np.log(2), rel=1e-3)
    assert found.inverse == pytest.approx(1 / np.log(2), rel=1e-3)
    assert found.inverse_floor > 100 * found.inverse
    all_of_it = mass_decorrelation(mass, mass, efficiency=0.5, against="all")
    assert all_of_it.jsd == pytest.approx(0.75 * np.log(4 / 3), rel=1e-2)  # half of the axis, against a flat one
    weak = mass_decorrelation(mass + 50 * np.random.default_rng(0).normal(size=len(mass)), mass, efficiency=0.5)
    assert 5 * weak.floor_95 < weak.jsd < found.jsd
    again = [
        mass_decorrelation(
            (m := mass[i::5]) + 50 * np.random.default_rng(i).normal(size=len(m)), m, edges=mass_bins(mass)
        )
        for i in range(5)
    ]
    assert 0.4 < np.mean([a.error for a in again]) / np.std([a.jsd for a in again], ddof=1) < 3
    assert weak.inverse_error == pytest.approx(weak.error / weak.jsd**2)


def test_the_efficiency_is_that_of_the_sample_that_is_named_and_the_spectra_are_the_background_s(mass: Array) -> None:
    rng = np.random.default_rng(1)
    label = rng.random(len(mass)) < 0.3
    score = rng.normal(size=len(mass)) + 2 * label
    mass = np.where(label, 80.0, mass)
    own = mass_decorrelation(score, mass, label=label, efficiency=0.5, of="signal")
    other = mass_decorrelation(score, mass, label=label, efficiency=0.5)
    assert own.eps_s == pytest.approx(0.5, abs=1e-3)
    assert own.eps_b < 0.05
    assert (other.eps_b, other.eps_s) == (pytest.approx(0.5, abs=1e-3), pytest.approx(0.977, abs=0.01))
    assert own.n_background == other.n_background == (~label).sum()
    assert own.jsd < 2 * own.floor_95  # W jets of one mass take no part in the spectra
    assert mass_decorrelation(score[~label], mass[~label]).eps_s is None
    # bins know neither labels nor scores
    swapped = mass_decorrelation(score, mass, label=~label, efficiency=0.5)
    assert swapped.bins == own.bins


def test_spectra_after_cuts_hold_what_each_cut_keeps(mass: Array) -> None:
    rng = np.random.default_rng(2)
    found = mass_spectra(rng.normal(size=len(mass)), mass, efficiencies=(1, 0.5, 0.1), edges=[20, 60, 100, 1000])
    assert found.counts.shape == (3, 3)
    assert found.counts.sum(axis=1).tolist() == [20_000, 10_000, 2000]
    assert found.eps_b == (1.0, 0.5, 0.1)
    assert [s.efficiency for s in found.shaped] == [0.5, 0.1]
    assert mass_spectra(mass, mass).counts.shape == (7, 40)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"efficiency": 1.0}, r"efficiency: 1.0 must be between 0 and 1"),
        ({"of": "signals"}, r"'signals'.*signal"),
        ({"of": "signal"}, r"no signal events"),
        ({"against": "failing"}, r"'failing'.*fail"),
        ({"mass": np.full(10, np.nan)}, r"mass: 10 of 10 are no numbers"),
        ({"mass": np.ones(10)}, r"1 different values among 10"),
        ({"mass": np.ones(9)}, r"score \(10,\), mass \(9,\)"),
        ({"label": np.full(10, 2)}, r"label: 0 .* found \[2\]"),
        ({"score": np.zeros(10)}, r"keeps nothing of 10"),
        ({"edges": [3, 2]}, r"edges: two or more rising"),
    ],
)
def test_what_cannot_be_is_said(changed: dict[str, Any], told: str) -> None:
    given: dict[str, Any] = {"score": np.arange(10.0), "mass": np.arange(10.0), **changed}
    with pytest.raises(InputError, match=told):
        mass_decorrelation(given.pop("score"), given.pop("mass"), **given)
