"""The whole hunt: global p under background only, a strong signal, the same answer for the same seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import hist
import numpy as np
import pytest
from scipy import stats

from hunch.analysis import HuntSettings, SignalShape, combine, hunt, signal_templates, z_value
from hunch.errors import InputError

Array = np.ndarray[Any, Any]
Truth = Callable[..., Array]
MASSES = np.array([1800, 1950, 2100, 2250, 2400, 2600, 2800, 3000, 3300, 3600], dtype=float)
REGIONS = (300, 2000, 4000)


def spectra_of(counts: Array, edges: Array) -> list[hist.Hist[Any]]:
    made = []
    for row in counts:
        histogram = hist.Hist(hist.axis.Variable(edges, name="mjj"))
        histogram.view()[...] = row
        made.append(histogram)
    return made


def background(truth: Truth) -> Array:
    return np.stack([truth(n) for n in REGIONS])


def test_global_p_of_background_only_is_not_too_small(edges: Array, truth: Truth) -> None:
    rng = np.random.default_rng(21)
    found = []
    for seed in range(30):
        spectra = spectra_of(rng.poisson(background(truth)), edges)
        result = hunt(spectra, MASSES, settings=HuntSettings(pseudo_experiments=99, seed=seed), progress=False)
        assert result.global_p is not None
        assert result.global_p.failed < 0.02
        found.append(result.global_p.p)
        # a scan of many masses: its global p is larger than the smallest local one
        assert result.global_p.p >= 0.5 * result.combined.min()
    assert stats.kstest(found, "uniform", alternative="greater").pvalue > 0.01
    assert stats.kstest(found, "uniform").pvalue > 0.001
    assert (np.array(found) < 0.05).sum() <= 6


@pytest.fixture(scope="module")
def strong(edges: Array, truth: Truth) -> Array:
    templates = signal_templates(SignalShape(), [2700.0], edges)
    expected = background(truth) + np.array([[60.0], [20.0], [10.0]]) * templates
    return np.random.default_rng(22).poisson(expected)


def test_a_strong_signal_is_found_where_it_is(strong: Array, edges: Array) -> None:
    grid = np.arange(1800, 4001, 50.0)
    found = hunt(spectra_of(strong, edges), grid, settings=HuntSettings(pseudo_experiments=100), progress=False)
    assert abs(found.masses[found.best] / 2700 - 1) < 0.03
    assert z_value(found.combined[found.best]) > 5
    assert found.global_p is not None
    assert found.global_p.is_bound
    assert found.global_p.above == 0
    assert found.global_p.p == pytest.approx(1 / 101)
    assert found.global_p.z == pytest.approx(float(z_value(1 / 101)))
    assert found.combined.min() < found.global_p.gross_vitells < 1e-3
    fitted = found.scan.converged.all(axis=0)
    assert fitted.mean() > 0.6
    expected = combine(found.scan.p.T, "fisher")
    np.testing.assert_allclose(found.combined[fitted], expected[fitted], rtol=1e-9)
    assert found.expected_in_window[found.best] == pytest.approx(
        found.background.expected[:, (edges[:-1] > 2500) & (edges[1:] < 2900)].sum(), rel=0.5
    )


def test_the_same_seed_gives_the_same_answer(strong: Array, edges: Array) -> None:
    settings = HuntSettings(pseudo_experiments=20, seed=4)
    first, second = (
        hunt(spectra_of(strong, edges), MASSES, settings=settings, progress=False).global_p for _ in range(2)
    )
    other = hunt(
        spectra_of(strong, edges), MASSES, settings=dataclasses.replace(settings, seed=5), progress=False
    ).global_p
    assert first is not None
    assert second is not None
    assert other is not None
    np.testing.assert_array_equal(first.smallest, second.smallest)
    assert not np.array_equal(first.smallest, other.smallest)


def test_without_pseudo_experiments_there_is_no_global_p(strong: Array, edges: Array) -> None:
    named = dict(zip("abc", spectra_of(strong, edges), strict=True))
    found = hunt(named, MASSES, settings=HuntSettings(pseudo_experiments=0), progress=False)
    assert found.global_p is None
    assert found.counts.shape == strong.shape


def test_raised_orders_are_kept(strong: Array, edges: Array) -> None:
    settings = HuntSettings(pseudo_experiments=0, lowest_orders=(3, 2, 4))
    order = hunt(spectra_of(strong, edges), MASSES, settings=settings, progress=False).background.order
    assert np.all(order >= [3, 2, 4])


def test_weighted_and_differing_spectra_are_refused(strong: Array, edges: Array) -> None:
    settings = HuntSettings(pseudo_experiments=0)
    good = spectra_of(strong, edges)
    weighted = hist.Hist(hist.axis.Variable(edges, name="mjj"))
    weighted.fill([2000.0, 3000.0], weight=[0.5, 1.0])
    with pytest.raises(InputError, match="spectrum 3 is weighted"):
        hunt([*good, weighted], MASSES, settings=settings)
    scaled = hist.Hist(hist.axis.Variable(edges, name="mjj"), storage=hist.storage.Weight())
    scaled.fill([2000.0, 3000.0], weight=[2.0, 3.0])
    with pytest.raises(InputError, match="weight"):
        hunt([scaled], MASSES, settings=settings)
    with pytest.raises(InputError, match="spectrum 1 has another mass axis"):
        hunt([good[0], *spectra_of(strong[:1, 1:], edges[1:])], MASSES, settings=settings)
    with pytest.raises(InputError, match="no spectrum"):
        hunt([], MASSES, settings=settings)
    with pytest.raises(InputError, match="did you mean 'fisher'"):
        hunt(good, MASSES, settings=HuntSettings(pseudo_experiments=0, combination="fishr"))
