"""Boundaries of regions that follow the mass: the same share of background at every mass, and no sculpting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunch.analysis import (
    DECORRELATIONS,
    SHAPES,
    HuntSettings,
    RegionChoice,
    Regions,
    Scored,
    fix_regions,
    read_regions,
    search,
)
from hunch.errors import InputError

Array = np.ndarray[Any, Any]
N = 16_000


def background(rng: np.random.Generator, n: int, hypotheses: int = 1) -> tuple[Array, Array]:
    """Masses (n,) GeV, and losses (n, 1 + hypotheses) whose difference rises by two of its widths over the range."""
    mjj = 2700 + rng.exponential(600, size=n)
    losses = rng.normal(size=(n, 1 + hypotheses))
    losses[:, 0] += 2 * np.log(mjj / 2700)
    return mjj, losses


def shares(region: Array, mjj: Array, n_regions: int) -> Array:
    """Each region's share of the events below and above 3200 GeV, (regions, 2)."""
    low = mjj < 3200
    return np.array([[np.mean(region[low] == r), np.mean(region[~low] == r)] for r in range(n_regions)])


@pytest.mark.parametrize("how", ["map", "quantile"])
@pytest.mark.parametrize(("shape", "hypotheses", "n"), [("difference", 1, 3), ("l5", 3, 2), ("mosaic", 4, 4)])
def test_every_region_keeps_one_share_at_every_mass(
    shape: str, hypotheses: int, n: int, how: str, rng: np.random.Generator
) -> None:
    mjj, losses = background(rng, N, hypotheses)
    options: dict[str, Any] = {"shape": shape, "fraction": 0.2, "n_regions": n}
    fixed = fix_regions([losses], **options)
    moving = fix_regions([losses], decorrelation=how, mass=[mjj], **options)
    np.testing.assert_allclose(np.bincount(moving.assign(losses, mass=mjj) + 1)[1:], 0.2 * N / n, atol=2)
    mass, others = background(rng, N, hypotheses)
    before, after = shares(fixed.assign(others), mass, n), shares(moving.assign(others, mass=mass), mass, n)
    assert np.all(before[:, 1] > 1.15 * before[:, 0])
    # some 400 and more events in each half of a region
    np.testing.assert_allclose(after[:, 1] / after[:, 0], 1, atol=0.25)


def test_folds_have_curves_of_their_own_and_are_read_again(tmp_path: Path, rng: np.random.Generator) -> None:
    mjj, losses = background(rng, N)
    mass, rising = background(rng, N)
    falling = rising * [-1, 1]
    regions = fix_regions([losses, falling], fraction=0.1, decorrelation="quantile", mass=[mjj, mass])
    regions.save(tmp_path / "regions.json")
    again = read_regions(tmp_path / "regions.json")
    assert again == regions
    both, fold = np.concatenate([losses, falling]), np.repeat([0, 1], N)
    region = again.assign(both, fold, np.concatenate([mjj, mass]))
    for f, m in enumerate((mjj, mass)):
        found = shares(region[fold == f], m, 3)
        np.testing.assert_allclose(found[:, 1] / found[:, 0], 1, atol=0.25)
    assert regions.curves[0][0].values[0] < regions.curves[0][0].values[-1]
    assert regions.curves[1][0].values[0] > regions.curves[1][0].values[-1]


def test_slices_stay_nested_and_all_events_can_be_kept(rng: np.random.Generator) -> None:
    mjj, losses = background(rng, N)
    regions = fix_regions([losses], fraction=1.0, decorrelation="map", mass=[mjj])
    region, score = regions.assign(losses, mass=mjj), losses[:, 0] - losses[:, 1]
    assert (region >= 0).all()
    here = np.abs(mjj - 3000) < 5
    tops = [score[here & (region == r)] for r in range(3)]
    assert tops[0].mean() > tops[1].mean() > tops[2].mean()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("how", DECORRELATIONS)
def test_each_shape_follows_the_mass_or_says_that_it_cannot(shape: str, how: str, rng: np.random.Generator) -> None:
    mjj, losses = background(rng, 4_000, 3)
    options: dict[str, Any] = {"shape": shape, "fraction": 0.3, "decorrelation": how, "mass": [mjj]}
    if SHAPES[shape].follows_mass:
        regions = fix_regions([losses], **options)
        assert len(regions.curves[0]) == regions.n_regions
    else:
        with pytest.raises(InputError, match=f"'{shape}' has boundaries that cannot follow the mass"):
            fix_regions([losses], **options)


def test_what_is_missing_or_cannot_be_is_named(rng: np.random.Generator) -> None:
    mjj, losses = background(rng, 4_000, 3)
    moving = fix_regions([losses], fraction=0.2, decorrelation="map", mass=[mjj])
    with pytest.raises(InputError, match="mass is needed"):
        moving.assign(losses)
    with pytest.raises(InputError, match="the mass of each held-out event"):
        fix_regions([losses], decorrelation="map", mass=[mjj[1:]])
    with pytest.raises(InputError, match="did you mean 'quantile'"):
        fix_regions([losses], decorrelation="quantil", mass=[mjj])
    with pytest.raises(InputError, match="needed"):
        fix_regions([losses[:300]], fraction=0.02, expected_events=1e6, decorrelation="map", mass=[mjj[:300]])


def test_a_search_states_the_sculpting_before_and_after(rng: np.random.Generator) -> None:
    held_out, data = (
        Scored(name, *background(rng, n), np.zeros(n, dtype=np.int64)) for name, n in (("b", N), ("d", 4_000))
    )
    options: dict[str, Any] = {"fit_range": (2800, 6000), "progress": False}
    found = search(
        data,
        held_out,
        choice=RegionChoice(fraction=0.2, decorrelation="quantile"),
        settings=HuntSettings(pseudo_experiments=20),
        **options,
    )
    assert isinstance(found.regions, Regions)
    assert len(found.regions.curves[0]) == 3
    for after in found.sculpting:
        assert after.jsd < 1.4 * after.floor_95
    assert found.sculpting_before[0].jsd > 2 * found.sculpting[0].jsd
    assert sum(s.jsd for s in found.sculpting_before) > 2.5 * sum(s.jsd for s in found.sculpting)
    assert sum(found.cutflow.values()) == 4_000
