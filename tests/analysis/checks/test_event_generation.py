"""Figures of merit of generated events against their known values: published and true distances, holes, copies, a classifier, and no gain of statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hunch.analysis import (
    classifier_auc,
    copied_share,
    event_figures,
    event_quantities,
    histogram_distances,
    hole_share,
    statistical_floor,
)
from hunch.errors import InputError


def test_the_published_wasserstein_term_is_none() -> None:
    apart = histogram_distances([0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5])
    assert apart.heights == 0
    assert apart.wasserstein == pytest.approx(2)
    assert apart.chi2 == pytest.approx(2)
    assert apart.jsd_root == pytest.approx(np.sqrt(np.log(2)))
    same = histogram_distances([1, 2, 3], [2, 4, 6])
    assert (same.chi2, same.jsd_root, same.heights, same.wasserstein) == (0, 0, 0, 0)
    some = histogram_distances([1, 1], [1, 3])
    assert some.chi2 == pytest.approx(0.25**2 / 0.75 + 0.25**2 / 1.25)
    assert some.wasserstein == pytest.approx(0.25)
    assert some.heights == pytest.approx(0.25)


def test_holes_of_uniform_points() -> None:
    rng = np.random.default_rng(0)
    for n in (5_000, 20_000):
        expected = np.exp(-n / 100**2)
        found = hole_share(*rng.uniform(-np.pi, np.pi, (2, n)), cells=100)
        assert found == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected)) / 100)
    assert hole_share(*rng.uniform(-np.pi, np.pi, (2, 100_000))) == pytest.approx(0.535, abs=0.005)
    assert hole_share([0.0, np.nan], [0.0, 1.0], cells=10) == 0.99


def events(n: int, seed: int, *, shift: float = 0.0) -> np.ndarray:
    """Lists (n, 9, 5) of MET, four jets and two leptons, some events with three jets."""
    rng = np.random.default_rng(seed)
    x = np.zeros((n, 9, 5))
    x[:, 0, 0] = rng.exponential(60, n) + 1
    x[:, 1:7, 0] = np.sort(25 * np.exp(shift + rng.exponential(0.6, (n, 6))), axis=1)[:, ::-1]
    x[:, 1:7, 1] = rng.uniform(-2, 2, (n, 6))
    x[:, :7, 2] = rng.uniform(-np.pi, np.pi, (n, 7))
    x[:, :7, 3] = x[:, :7, 0] * np.cosh(x[:, :7, 1])
    x[:, 1:7, 4] = [1, 3, 2, 1, 6, 1]
    x[: n // 4, 6] = 0
    return x


def test_quantities_are_those_of_the_paper() -> None:
    x = events(200, 0)
    found = event_quantities(x)
    assert len(found) == 27
    np.testing.assert_array_equal(found["pt_j2"], x[:, 3, 0])
    np.testing.assert_array_equal(found["eta_l1"], x[:, 2, 1])
    np.testing.assert_array_equal(np.isnan(found["e_j4"]), np.arange(200) < 50)
    j1, j2 = x[:, 1], x[:, 3]
    massless = np.sqrt(2 * j1[:, 0] * j2[:, 0] * (np.cosh(j1[:, 1] - j2[:, 1]) - np.cos(j1[:, 2] - j2[:, 2])))
    np.testing.assert_allclose(found["m_2j"], massless, rtol=1e-6)
    assert (found["m_4j2l"][50:] > found["m_4j1l"][50:]).all()
    with pytest.raises(InputError, match=r"a list of objects is expected, \(n, slots, 5\)"):
        event_quantities(x[..., :3])


def test_events_that_are_more_alike_have_better_figures() -> None:
    simulated, other, shifted = (event_quantities(events(4000, s, shift=d)) for s, d in ((0, 0), (1, 0), (2, 0.1)))
    ceiling, off = event_figures(other, simulated), event_figures(shifted, simulated)
    assert ceiling.delta_kin > off.delta_kin
    assert ceiling.delta_kin_published > off.delta_kin_published
    assert ceiling.clipped == 0
    one = off.distances.values()
    assert off.delta_kin_published == pytest.approx(
        -sum(np.log(d.chi2) + np.log(d.heights) + np.log(d.jsd_root) for d in one)
    )
    assert off.delta_kin == pytest.approx(-sum(np.log(d.chi2 * d.wasserstein * d.jsd_root) for d in one))
    assert ceiling.holes[0] == hole_share(other["phi_j1"], other["phi_j2"])
    assert 0.95 < ceiling.holes[0] < 1
    few = event_figures({n: v[1000:2000] for n, v in other.items()}, simulated)
    assert few.delta_de > ceiling.delta_de
    # 4 figures of 27 quantities that are all 0
    same = event_figures(simulated, simulated)
    assert same.clipped == 4 * 27
    assert same.delta_kin == pytest.approx(-3 * 27 * np.log(1e-12))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda q: q.pop("met"), "quantity 'met'"),
        (lambda q: q.update(met=np.full(100, np.nan)), "generated: 'met' has 0 finite values, at least 20"),
        (lambda q: q.update(met=np.full(100, 1e9)), "generated: 'met' has no value within 0.1 to 7000"),
    ],
)
def test_quantities_that_cannot_be_compared_are_named(change: Any, told: str) -> None:
    simulated, generated = event_quantities(events(100, 0)), event_quantities(events(100, 1))
    change(generated)
    with pytest.raises(InputError, match=told):
        event_figures(generated, simulated)


def test_histograms_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match="histograms of 2 and 3 bins"):
        histogram_distances([1, 2], [1, 2, 3])
    with pytest.raises(InputError, match="second histogram: contents are finite"):
        histogram_distances([1, 2], [0, 0])


def test_a_classifier_tells_other_events_and_no_like_ones() -> None:
    simulated, other, shifted = (event_quantities(events(1500, s, shift=d)) for s, d in ((0, 0), (1, 0), (2, 0.3)))
    auc, error = classifier_auc(other, simulated)
    assert abs(auc - 0.5) < 4 * error
    assert 0.005 < error < 0.02
    auc, error = classifier_auc(shifted, simulated)
    assert auc > 0.6 + 4 * error
    with pytest.raises(InputError, match="quantity 'met'"):
        classifier_auc({n: v for n, v in other.items() if n != "met"}, simulated)


def test_copies_are_nearer_than_independent_events() -> None:
    rng = np.random.default_rng(0)
    training, independent, new = rng.normal(size=(3, 1500, 4)) * [1, 10, 100, 0]
    copies = copied_share(training + 0.001, training, independent)
    assert copies.share == 1
    assert copies.median < 0.1 * copies.median_independent
    none = copied_share(new, training, independent)
    assert abs(none.share - 0.05) < 4 * none.error
    assert 0.005 < none.error < 0.012
    half = copied_share(np.concatenate([training[:500], new[:500]]), training, independent, level=0.02)
    assert abs(half.share - 0.51) < 4 * half.error
    with pytest.raises(InputError, match=r"rows of shapes \(1500, 3\), \(1500, 4\)"):
        copied_share(new[:, :3], training, independent)
    with pytest.raises(InputError, match="level = 1"):
        copied_share(new, training, independent, level=1)


def test_generated_events_add_no_statistics() -> None:
    # the simplest generator: a Gaussian of the mean and spread of N events; its mean is that of the N, however many are drawn
    rng = np.random.default_rng(1)
    trained_on, models = 100, 400
    own = rng.normal(3.0, 2.0, (models, trained_on))
    estimates = {
        n: own.mean(axis=1) + own.std(axis=1) * rng.normal(size=models) / np.sqrt(n) for n in (10, 100, 100_000)
    }
    few, same, many = statistical_floor(estimates, truth=3.0, spread=2.0, trained_on=trained_on)
    assert few.independent == pytest.approx(2 / np.sqrt(10))
    assert many.floor == pytest.approx(0.2)
    assert abs(few.error - np.hypot(few.independent, 0.2)) < 4 * few.error_error
    assert abs(same.error - 0.2 * np.sqrt(2)) < 4 * same.error_error
    assert abs(many.error - many.floor) < 4 * many.error_error
    assert many.error > 10 * many.independent
    with pytest.raises(InputError, match="two models or more"):
        statistical_floor({5: [1.0]}, truth=0, spread=1, trained_on=5)
