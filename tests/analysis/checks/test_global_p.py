"""Outer experiments: drawn as they should be, and a global p that is uniform where all is well and is not where it is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr

from hunch.analysis import HuntSettings, Regions, Scored, SignalShape, fix_regions, hunt
from hunch.analysis.checks.all_checks import injection_check, uniformity_checks
from hunch.analysis.checks.background_only import uniformity_of
from hunch.analysis.checks.global_p import (
    drawn_from_events,
    drawn_from_fit,
    global_p_of,
    global_uniformity,
    hunt_experiments,
    shared_distances,
)
from hunch.analysis.checks.injection import injection_linearity
from hunch.analysis.spectra.bins import as_hist
from hunch.errors import InputError

Array = np.ndarray[Any, Any]
Truth = Callable[..., Array]


def pool_of(rng: np.random.Generator, edges: Array, n: int) -> Scored:
    """Make scored background events inside the bins whose loss knows nothing of the mass."""
    mjj = edges[0] + (edges[-1] - edges[0]) * rng.beta(1, 6, n)
    return Scored("pool", mjj, rng.normal(size=(n, 2)), np.zeros(n, dtype=np.int64))


@pytest.fixture
def regions(rng: np.random.Generator) -> Regions:
    """Fix two nested slices of a loss difference."""
    return fix_regions(
        [rng.normal(size=(4000, 2))], shape="difference", fraction=0.3, n_regions=2, expected_events=2000
    )


def test_spectra_are_those_of_the_events_drawn(edges: Array, regions: Regions, rng: np.random.Generator) -> None:
    pool = pool_of(rng, edges, 20_000)
    spectra, size, how = drawn_from_events(pool, regions, edges, events=1500, n=300, rng=rng)
    assert spectra.shape == (300, 2, len(edges) - 1)
    assert size == 1500
    assert how == "1500 events each of 20000 of pool"
    assigned = regions.assign(pool.losses, pool.fold)
    expected = np.stack([np.histogram(pool.mass[assigned == r], edges)[0] for r in range(2)]) * 1500 / 20_000
    total = spectra.sum(axis=(1, 2))
    assert total.mean() == pytest.approx(expected.sum(), rel=0.03)
    assert total.std() == pytest.approx(np.sqrt(expected.sum()), rel=0.15)
    filled = expected > 3
    pulls = (spectra.mean(axis=0) - expected)[filled] / np.sqrt(expected[filled] / 300)
    assert np.abs(pulls).max() < 4.5


def test_a_small_pool_makes_smaller_experiments(edges: Array, regions: Regions, rng: np.random.Generator) -> None:
    pool = pool_of(rng, edges, 3000)
    spectra, size, how = drawn_from_events(pool, regions, edges, events=5000, n=20, rng=rng)
    assert size == 300
    assert "in place of 5000" in how
    assert spectra.sum() / 20 < 300
    outside = Scored("far", np.full(50, 10 * edges[-1]), np.zeros((50, 2)), np.zeros(50, dtype=np.int64))
    with pytest.raises(InputError, match="far: none of its 50 events"):
        drawn_from_events(outside, regions, edges, events=10, n=2, rng=rng)


def test_verdicts() -> None:
    n = np.arange(1, 201) / 201
    good = global_uniformity(n, how="x", inner=500, events=1.0)
    assert good.compatible
    assert good.below_5_percent == pytest.approx(0.05, abs=0.005)
    assert not global_uniformity(n**1.6, how="x", inner=500, events=1.0).compatible
    bumps = np.concatenate([n[:190], np.full(10, 0.001)])
    assert not global_uniformity(bumps, how="x", inner=500, events=1.0).compatible


def test_the_verdict_knows_that_experiments_share_a_pool() -> None:
    uniform = np.arange(1, 201) / 201
    p = uniform - 0.12 * np.sin(np.pi * np.clip(uniform / 0.9 - 0.1 / 0.9, 0, 1))  # 0.12 from uniform, not in the tail
    alone = global_uniformity(p, how="x", inner=500, events=1.0)
    assert not alone.compatible
    assert alone.ks_p_shared is None
    wide, narrow = np.linspace(0.04, 0.14, 100), np.linspace(0.04, 0.06, 100)
    shared = global_uniformity(p, how="x", inner=500, events=1.0, shared=wide)
    assert shared.ks_p == alone.ks_p
    assert shared.ks_p_shared == pytest.approx((1 + (wide >= 0.12).sum()) / 101, abs=0.05)
    assert shared.compatible
    assert not global_uniformity(p, how="x", inner=500, events=1.0, shared=narrow).compatible
    # rejections are judged as before
    bumps = np.concatenate([np.arange(1, 191) / 191, np.full(10, 0.001)])
    assert not global_uniformity(bumps, how="x", inner=500, events=1.0, shared=wide).compatible


def test_experiments_that_share_much_of_a_pool_are_further_from_uniform(edges: Array, truth: Truth) -> None:
    found = hunt(
        [as_hist(edges, np.round(truth(3000)))],
        np.linspace(1800, 3000, 4),
        settings=HuntSettings(pseudo_experiments=0, seed=1),
        progress=False,
    )
    options: dict[str, Any] = {"n": 60, "seed": 2, "pools": 24, "progress": False}
    far, near = shared_distances(found, times=1000, **options), shared_distances(found, times=1.25, **options)
    independent = stats.kstwo(60)
    assert np.median(far) == pytest.approx(independent.median(), abs=3 * independent.std() / np.sqrt(24) * 1.25)
    assert np.median(near) > 2.5 * np.median(far)
    parallel = shared_distances(found, times=1000, workers=2, **{**options, "pools": 3})
    assert np.array_equal(parallel, shared_distances(found, times=1000, **{**options, "pools": 3}))


def test_experiments_of_the_fit_have_a_uniform_global_p(edges: Array, truth: Truth, rng: np.random.Generator) -> None:
    observed = as_hist(edges, rng.poisson(truth(3000)))
    masses = np.linspace(1800, 3000, 8)
    found = hunt([observed], masses, settings=HuntSettings(pseudo_experiments=0, seed=1), progress=False)
    spectra, size, how = drawn_from_fit(found, n=60, rng=rng)
    assert "says nothing" in how
    assert size == pytest.approx(found.counts.sum(), rel=0.01)
    p = hunt_experiments(spectra, found, inner=100, seed=0, progress=False)
    judged = global_uniformity(p, how=how, inner=100, events=size)
    assert judged.compatible
    # the same whatever the processes
    assert np.array_equal(p[:4], hunt_experiments(spectra[:4], found, inner=100, seed=0, workers=2, progress=False))
    assert global_p_of(np.zeros_like(spectra[0]), found, inner=20, seed=0) == 1.0


def test_a_bump_in_the_pool_makes_the_global_p_small(edges: Array, truth: Truth, rng: np.random.Generator) -> None:
    found = hunt(
        [as_hist(edges, rng.poisson(truth(3000)))],
        np.linspace(1800, 3000, 8),
        settings=HuntSettings(pseudo_experiments=0, seed=1),
        progress=False,
    )
    bump = 250 * np.exp(-0.5 * ((0.5 * (edges[1:] + edges[:-1]) - 2400) / 80) ** 2)
    bump = 160 * bump / bump.sum()
    spectra = rng.poisson(truth(3000) + bump, size=(25, 1, len(bump))).astype(float)
    p = hunt_experiments(spectra, found, inner=100, seed=0, progress=False)
    assert not global_uniformity(p, how="x", inner=100, events=1.0).compatible


def test_the_verdict_on_local_p_asks_for_uniformity_where_bins_are_full(rng: np.random.Generator) -> None:
    uniform, shifted = rng.uniform(size=10_000), ndtr(rng.normal(0.1, 1, 10_000))

    def verdicts(p: Array, fewest: float, region: str = "combined") -> list[bool | None]:
        return [check.passed for check in uniformity_checks(uniformity_of(p, 3000.0, region, fewest))]

    assert verdicts(uniform, 50.0) == [True, True]
    assert verdicts(shifted, 50.0)[1] is False
    assert verdicts(shifted, 3.0)[1] is None
    assert verdicts(shifted, 50.0, "region 1")[1] is None
    # too many small p-values are an error whatever the counts
    assert verdicts(np.concatenate([uniform[:9800], np.full(200, 1e-4)]), 3.0)[0] is False
    # too few of them only where the formula should hold
    few = uniform[uniform > 0.01]
    assert verdicts(few, 3.0)[0] is True
    assert verdicts(few, 50.0)[0] is False
    # somewhat too few: p-values that are too large by a third overstate nothing, which is said and no verdict
    conservative = uniformity_of(np.minimum(4 / 3 * uniform, 1), 3000.0, "combined", 50.0)
    assert 0.005 < conservative.below_1_percent < 0.0085
    tail = uniformity_checks(conservative)[0]
    assert tail.passed is None
    assert tail.found.endswith(", conservative")
    assert not uniformity_checks(uniformity_of(uniform, 3000.0, "combined", 50.0))[0].found.endswith("conservative")


def test_the_verdict_on_injections_asks_for_full_bins(edges: Array, truth: Truth) -> None:
    def verdict(events: float, mass: float, **wrong: float) -> bool | None:
        found = injection_linearity(truth(events), edges, mass, shape=SignalShape(), settings=HuntSettings(), n=60)
        return injection_check(dataclasses.replace(found, **wrong)).passed

    assert verdict(20_000, 2400.0) is True
    assert verdict(20_000, 2400.0, slope=0.8) is False
    # 80 events of a mosaic's region: stated
    assert verdict(80, 3000.0, slope=0.8) is None
