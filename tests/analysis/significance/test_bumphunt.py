"""The whole hunt: global p under background only, a strong signal, the same answer for the same seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import hist
import numpy as np
import pytest
from scipy import stats

from hunch.analysis import HuntSettings, LocalScan, SignalShape, combine, fit_tail, hunt, signal_templates, z_value
from hunch.analysis.p_values.gross_vitells import from_crossings
from hunch.analysis.significance.procedure import signed_z
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


def test_a_tail_fit_stands_beside_the_bound(strong: Array, edges: Array) -> None:
    settings = HuntSettings(pseudo_experiments=400, seed=3)
    found = hunt(spectra_of(strong, edges), MASSES, settings=settings, progress=False)
    answer = found.global_p
    assert answer is not None
    assert (answer.p, answer.is_bound) == (pytest.approx(1 / 401), True)
    assert answer.upper_95 == pytest.approx(1 - 0.05 ** (1 / 400))
    assert answer.tail is not None
    assert found.combined.min() < answer.tail.low < answer.tail.p < answer.tail.high
    assert answer.tail.p < 1e-4 < answer.p
    again = fit_tail(-np.log(answer.smallest), -np.log(found.combined.min()))
    assert again is not None
    assert dataclasses.astuple(answer.tail) == pytest.approx(dataclasses.astuple(again), rel=1e-9)
    quiet = hunt(spectra_of(np.round(found.background.expected), edges), MASSES, settings=settings, progress=False)
    assert quiet.global_p is not None
    assert quiet.global_p.above >= 10
    assert quiet.global_p.tail is None
    assert quiet.global_p.upper_95 >= quiet.global_p.above / 400


def test_up_crossings_of_one_region_are_those_of_the_scan(edges: Array, truth: Truth) -> None:
    spectra = spectra_of(np.random.default_rng(23).poisson(truth(20_000))[None], edges)
    grid = np.arange(1800, 4201, 50.0)
    found = hunt(spectra, grid, settings=HuntSettings(pseudo_experiments=1000), progress=False)
    answer, own = found.global_p, found.gross_vitells()
    assert answer is not None
    assert own is not None
    assert answer.region_crossings.shape == (1000, 1)
    assert own[0].p == pytest.approx(answer.gross_vitells)
    assert own[0].crossings == answer.crossings
    assert found.largest_z[0] == pytest.approx(float(z_value(found.combined.min())))
    # the global p of the level that 1 in 20 of the experiments reach
    level = float(z_value(np.quantile(answer.smallest, 0.05)))
    assert 0.03 < from_crossings(level, answer.region_crossings[:, 0]).p < 0.1


def test_each_region_has_its_own_up_crossings(strong: Array, edges: Array) -> None:
    spectra = spectra_of(strong, edges)
    found = hunt(spectra, MASSES, settings=HuntSettings(pseudo_experiments=100), progress=False)
    own = found.gross_vitells()
    assert own is not None
    assert len(own) == 3
    for r, region in enumerate(own):
        z = np.where(found.scan.converged[r], found.scan.z[r], 0.0)
        assert found.largest_z[r] == pytest.approx(z.max(), abs=1e-9)
        assert region.p_local == pytest.approx(float(stats.norm.sf(z.max())))
        assert region.p > region.p_local
    # the signal is in the first region
    assert own[0].p < 1e-3 < own[1].p
    bare = hunt(spectra, MASSES, settings=HuntSettings(pseudo_experiments=0), progress=False)
    assert bare.gross_vitells() is None


def test_a_fit_that_says_nothing_is_no_excess() -> None:
    z = np.array([[2.0, 2.0, 0.0, -1.0]])
    fitted = np.array([[True, False, True, True]])
    scan = LocalScan(z=z, p=stats.norm.sf(z), signal=z, error=z, converged=fitted)
    np.testing.assert_array_equal(signed_z(scan), [[2.0, 0.0, 0.0, -1.0]])


def test_without_pseudo_experiments_there_is_no_global_p(strong: Array, edges: Array) -> None:
    named = dict(zip("abc", spectra_of(strong, edges), strict=True))
    found = hunt(named, MASSES, settings=HuntSettings(pseudo_experiments=0), progress=False)
    assert found.global_p is None
    assert found.counts.shape == strong.shape


def test_raised_orders_are_kept(strong: Array, edges: Array) -> None:
    settings = HuntSettings(family="dijet", pseudo_experiments=0, lowest_orders=(3, 2, 4))
    order = hunt(spectra_of(strong, edges), MASSES, settings=settings, progress=False).background.order
    assert np.all(order >= [3, 2, 4])


def test_it_is_said_where_nothing_tells_whether_a_spectrum_is_weighted(
    strong: Array, edges: Array, caplog: pytest.LogCaptureFixture
) -> None:
    settings = HuntSettings(pseudo_experiments=0)
    plain = spectra_of(strong, edges)[0]
    hunt([plain], MASSES, settings=settings)
    assert not caplog.records
    hunt({"summed": plain + plain}, MASSES, settings=settings)
    assert "summed: its storage does not tell" in caplog.text


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


def test_local_p_by_experiments_agrees_with_the_asymptotic_one(edges: Array, truth: Truth) -> None:
    spectra = spectra_of(np.random.default_rng(8).poisson(truth(20_000))[None], edges)
    found = hunt(spectra, np.array([2400.0, 2410.0]), settings=HuntSettings(pseudo_experiments=2000), progress=False)
    answer, local = found.global_p, found.local_p
    assert answer is not None
    assert local.how == "experiments"
    assert local.p == pytest.approx(found.combined.min(), abs=4 * np.sqrt(0.25 / 2000))
    # at two masses that are nearly one, local and global are nearly one
    assert 0 <= answer.above - local.above < 0.1 * answer.n


def test_the_mass_of_an_excess_beyond_the_smallest_double(edges: Array, truth: Truth) -> None:
    """z = 60 and more at several masses: p ends there, and the first of them is not the best."""
    template = signal_templates(SignalShape(), [3000.0], edges)[0]
    counts = np.round(truth(20_000) + 20_000 * template)
    grid = np.arange(2700, 3301, 50.0)
    found = hunt(spectra_of(counts[None], edges), grid, settings=HuntSettings(pseudo_experiments=20), progress=False)
    z = found.scan.z[0]
    assert np.sort(z)[-3] > 50
    assert found.masses[found.best] == found.masses[z.argmax()] == 3000
    beyond = found.scan.converged[0] & (z > 37.1)
    assert beyond.sum() > 2
    np.testing.assert_allclose(found.z_combined[beyond], z[beyond], rtol=1e-9)
    assert found.combined.min() == 1e-300
    assert found.largest_z[0] == z.max()
    assert found.answer.count("p < 1e-300") == 1
    answer, own = found.global_p, found.gross_vitells()
    assert answer is not None
    assert own is not None
    assert (answer.above, answer.gross_vitells) == (0, 1e-300)
    assert 0.9 * z.max() < own[0].z <= own[0].z_local == z.max()


@pytest.mark.parametrize("method", ["fisher", "stouffer", "simes", "cauchy", "tippett", "harmonic", "harmonic_bound"])
def test_two_regions_beyond_the_smallest_double(method: str, edges: Array, truth: Truth) -> None:
    template = signal_templates(SignalShape(), [3000.0], edges)[0]
    counts = np.round(np.stack([truth(20_000) + 20_000 * template, truth(10_000) + 2_000 * template]))
    settings = HuntSettings(pseudo_experiments=0, combination=method)
    found = hunt(spectra_of(counts, edges), np.arange(2700, 3301, 50.0), settings=settings, progress=False)
    assert found.masses[found.best] == 3000
    assert found.z_combined.max() > 50
