"""Regions side by side: equal populations, small neighbourhoods joined, a signal of one place seen in one region."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from hunch.analysis import Regions, fix_regions, read_regions
from hunch.analysis.regions.mosaic import join_neighbourhoods, mosaic_place
from hunch.errors import HunchError

CENTRES = np.array([[2.5, 0.0], [0.0, 2.5], [2.0, 2.0], [-2.0, 2.0]])


def losses_of(x: np.ndarray) -> np.ndarray:
    """Return exact losses of a normal background and normal hypotheses at CENTRES, of width 0.5: (n, 5)."""
    background = -stats.multivariate_normal([0, 0]).logpdf(x)
    return np.stack([background, *(-stats.multivariate_normal(c, 0.25).logpdf(x) for c in CENTRES)], axis=1)


@pytest.fixture
def fixed(rng: np.random.Generator) -> Regions:
    return fix_regions([losses_of(rng.normal(size=(40_000, 2)))], shape="mosaic", n_regions=4, fraction=0.02)


def test_regions_have_equal_populations_of_new_background(fixed: Regions, rng: np.random.Generator) -> None:
    region = fixed.assign(losses_of(rng.normal(size=(400_000, 2))))
    share = np.array([(region == r).mean() for r in range(fixed.n_regions)])
    assert fixed.n_regions == 4
    assert share == pytest.approx(0.005, rel=0.2)
    assert fixed.fraction == pytest.approx(0.02)


def test_a_signal_of_one_place_is_in_one_region(fixed: Regions, rng: np.random.Generator) -> None:
    for place, centre in enumerate(CENTRES):
        region = fixed.assign(losses_of(rng.normal(centre + 0.3, 0.4, size=(2_000, 2))))
        counts = np.bincount(region[region >= 0], minlength=4)
        assert counts.argmax() == [g[0] for g in fixed.groups].index(place)
        assert counts.max() > 0.5 * 2_000
        assert counts.max() > 5 * np.sort(counts)[-2]


def test_events_that_the_background_explains_better_come_last(fixed: Regions) -> None:
    # the bulk belongs to no region, though one neighbourhood is always the best of them
    assert fixed.assign(losses_of(np.zeros((3, 2)))).tolist() == [-1, -1, -1]


def test_neighbourhoods_with_too_few_events_are_joined_to_their_second_choice(rng: np.random.Generator) -> None:
    losses = np.full((1000, 3), 9.0)
    place = np.repeat([0, 1, 2], [600, 390, 10])
    losses[np.arange(1000), place] = 1.0
    losses[place == 2, 1] = 2.0  # the few of 2 would rather be in 1 than in 0
    assert join_neighbourhoods(losses, 50, 9) == ((0,), (1, 2))
    assert join_neighbourhoods(losses, 5, 9) == ((0,), (1,), (2,))
    assert join_neighbourhoods(losses, 5, 2) == ((0,), (1, 2))
    assert join_neighbourhoods(losses, 1001, 9) == ((0, 1, 2),)


def test_a_joined_group_takes_what_any_of_its_neighbourhoods_explains() -> None:
    # 2 (10 events) joins 1, and only then has 1 enough: with 1 alone it would be joined to 0 as well
    losses = np.full((1000, 3), 9.0)
    place = np.repeat([0, 1, 2], [700, 290, 10])
    losses[np.arange(1000), place] = 1.0
    losses[place == 2, 0] = 3.0
    losses[place == 2, 1] = 2.0
    losses[place == 2, 2] = 1.0
    assert join_neighbourhoods(losses, 300, 9) == ((0,), (1, 2))
    losses[place == 2, 0] = 1.5  # the second choice of the few is 0, which leaves 1 too small
    assert join_neighbourhoods(losses, 300, 9) == ((0, 1, 2),)


def test_an_empty_neighbourhood_is_joined_too() -> None:
    losses = np.array([[1.0, 2.0, 9.0], [2.0, 1.0, 9.0], [1.0, 2.0, 9.0]])
    assert [len(g) for g in join_neighbourhoods(losses, 1, 9)] in ([2, 1], [1, 2])


def test_score_is_background_loss_minus_the_groups_smallest() -> None:
    losses = np.array([[5.0, 4.0, 1.0, 3.0], [5.0, 0.5, 9.0, 3.0]])
    place, score = mosaic_place(losses, ((0,), (1, 2)), alpha=2.0)
    assert place.tolist() == [1, 0]
    assert score.tolist() == [3.0, 4.0]


def test_few_expected_events_raise_the_fraction(rng: np.random.Generator) -> None:
    losses = losses_of(rng.normal(size=(40_000, 2)))
    raised = fix_regions([losses], shape="mosaic", n_regions=4, fraction=0.001, expected_events=4_000)
    assert raised.fraction == pytest.approx(4 * 80 / 4_000)


def test_few_events_have_fewer_regions_rather_than_larger_ones(rng: np.random.Generator) -> None:
    losses = losses_of(rng.normal(size=(40_000, 2)))
    few = fix_regions([losses], shape="mosaic", n_regions=4, fraction=0.02, expected_events=500)
    assert few.n_regions == 3
    assert few.fraction == pytest.approx(3 * 80 / 500)


def test_saved_and_read_again(fixed: Regions, tmp_path: Path, rng: np.random.Generator) -> None:
    fixed.save(tmp_path / "regions.json")
    again = read_regions(tmp_path / "regions.json")
    assert again == fixed
    losses = losses_of(rng.normal(size=(1_000, 2)))
    assert np.array_equal(again.assign(losses), fixed.assign(losses))


def test_several_folds_and_background_alone_are_refused(rng: np.random.Generator) -> None:
    losses = losses_of(rng.normal(size=(1_000, 2)))
    with pytest.raises(HunchError, match="one model for all events, found 2 folds"):
        fix_regions([losses, losses], shape="mosaic")
    with pytest.raises(HunchError, match="background alone"):
        fix_regions([losses[:, :1]], shape="mosaic")
