"""Regions: equal populations, fixed once per fold, the same after JSON, no event on a boundary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hunch.analysis import COMBINATIONS, SHAPES, Regions, difference_score, fix_regions, read_regions
from hunch.analysis.regions.plane import plane_grid
from hunch.errors import InputError

CUT = [
    name for name, shape in SHAPES.items() if not shape.needs_hypotheses
]  # which has one fold and signal losses: test_mosaic.py


def losses(rng: np.random.Generator, n: int, priors: int = 2) -> Any:
    common = rng.normal(size=(n, 1))
    return common + rng.normal(size=(n, 1 + priors))


@pytest.mark.parametrize("priors", [0, 1, 3])
@pytest.mark.parametrize("n_regions", [1, 3, 4, 6])
@pytest.mark.parametrize("shape", CUT)
def test_populations_are_equal(shape: str, n_regions: int, priors: int, rng: np.random.Generator) -> None:
    held_out = losses(rng, 12_000, priors)
    regions = fix_regions([held_out], shape=shape, fraction=0.1, n_regions=n_regions)
    found = np.bincount(regions.assign(held_out) + 1, minlength=n_regions + 1)
    assert found[0] == pytest.approx(10_800, abs=n_regions)
    np.testing.assert_allclose(found[1:], 1200 / n_regions, atol=2)
    # other events of the same kind fill them equally within Poisson errors
    other = np.bincount(regions.assign(losses(rng, 12_000, priors)) + 1, minlength=n_regions + 1)
    assert np.all(np.abs(other[1:] - 1200 / n_regions) < 5.5 * np.sqrt(1200 / n_regions))


def test_region_zero_is_the_most_signal_like(rng: np.random.Generator) -> None:
    held_out = losses(rng, 9000)
    regions = fix_regions([held_out], fraction=0.3)
    score, region = difference_score(held_out), regions.assign(held_out)
    for r in range(2):
        assert score[region == r].min() > score[region == r + 1].max()
    assert score[region == 2].min() > score[region == -1].max()
    plane = fix_regions([held_out], shape="plane", fraction=0.3, n_regions=4)
    cell = plane.assign(held_out)
    assert held_out[(cell == 0) | (cell == 1), 0].min() > held_out[(cell == 2) | (cell == 3), 0].max()
    assert held_out[cell == 0, 1:].min(axis=1).max() < held_out[cell == 1, 1:].min(axis=1).min()


def test_difference_score() -> None:
    x = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]])
    np.testing.assert_array_equal(difference_score(x), [2, -4])
    np.testing.assert_array_equal(difference_score(x, 0.5), [2.5, -2])
    np.testing.assert_array_equal(difference_score(x[:, :1]), [3, 0])


@pytest.mark.parametrize("shape", CUT)
def test_each_fold_has_its_own_scale(shape: str, rng: np.random.Generator) -> None:
    folds = [losses(rng, 6000) * scale + shift for scale, shift in ((1, 0), (7, -20), (0.1, 300))]
    regions = fix_regions(folds, shape=shape, fraction=0.1)
    assert regions.n_folds == 3
    fold = np.repeat([0, 1, 2], 6000)
    region = regions.assign(np.concatenate(folds), fold)
    for f in range(3):
        np.testing.assert_allclose(np.bincount(region[fold == f] + 1)[1:], 200, atol=2)
    with pytest.raises(InputError, match="folds 0 to 3 found, regions fixed for 0 to 2"):
        regions.assign(folds[0][:2], [0, 3])


@pytest.mark.parametrize("shape", CUT)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), noise=st.sampled_from([1e-13, -1e-13]))
def test_no_held_out_event_sits_on_a_boundary(shape: str, seed: int, noise: float) -> None:
    """Scores that differ in the last digit (another batch size, another machine) keep their regions."""
    held_out = losses(np.random.default_rng(seed), 2000)
    regions = fix_regions([held_out], shape=shape, fraction=0.3)
    np.testing.assert_array_equal(regions.assign(held_out), regions.assign(held_out * (1 + noise)))


@pytest.mark.parametrize("shape", CUT)
def test_json_round_trip_is_exact(shape: str, rng: np.random.Generator, tmp_path: Path) -> None:
    regions = fix_regions([losses(rng, 3000), losses(rng, 3000)], shape=shape, fraction=1.0, n_regions=4, alpha=0.7)
    regions.save(tmp_path / "regions.json")
    assert read_regions(tmp_path / "regions.json") == regions
    assert isinstance(read_regions(tmp_path / "regions.json"), Regions)
    assert (regions.assign(losses(rng, 500)) >= 0).all()  # everything kept: nothing is outside


def test_small_fractions_are_raised_to_150_hunted_events_a_region(rng: np.random.Generator) -> None:
    held_out = losses(rng, 20_000)
    assert fix_regions([held_out], fraction=0.05).fraction == 0.05
    assert fix_regions([held_out], fraction=0.001).fraction == pytest.approx(450 / 20_000)
    # what counts is what will be hunted, not what was held out
    assert fix_regions([held_out], fraction=0.001, expected_events=4500).fraction == pytest.approx(0.1)
    assert fix_regions([held_out], fraction=0.001, expected_events=200).fraction == 1.0


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_is_what_it_says(shape: str, rng: np.random.Generator) -> None:
    kind = SHAPES[shape]
    assert kind.combination in COMBINATIONS
    if kind.needs_hypotheses:
        with pytest.raises(InputError, match="needs losses of signal hypotheses"):
            fix_regions([losses(rng, 2000, 0)], shape=shape)
    else:
        assert fix_regions([losses(rng, 2000, 0)], shape=shape).n_regions == 3
    regions = fix_regions([losses(rng, 4000)], shape=shape, alpha=0.5, n_regions=2)
    assert type(regions.rule) is kind
    assert len(regions.rule.description) > 20
    # 150 events a region, 80 of a mosaic, of which half as many as the hunted events may be in one
    raised = fix_regions([losses(rng, 4000)], shape=shape, fraction=1e-3, n_regions=2, expected_events=1000).fraction
    assert raised == pytest.approx(2 * kind.least_events / 1000)
    assert kind.affordable(9, 1000) == (6 if shape == "mosaic" else 9)


def test_grid_of_the_plane() -> None:
    assert [plane_grid(n) for n in (1, 2, 3, 4, 6, 9)] == [(1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (3, 3)]


def test_input_is_checked(rng: np.random.Generator, tmp_path: Path) -> None:
    x = losses(rng, 1000)
    for keyword, match in (
        ({"shape": "plain"}, "did you mean 'plane'"),
        ({"fraction": 0.0}, r"lies in \(0, 1\], found 0"),
        ({"n_regions": 0}, "at least one region"),
    ):
        with pytest.raises(InputError, match=match):
            fix_regions([x], **keyword)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="4 held-out events in the fit range cannot fix 3 regions"):
        fix_regions([x, x[:4]])
    broken = x.copy()
    broken[[3, 5], 1] = np.nan
    with pytest.raises(InputError, match="2 of 1000 events have a loss that is no number"):
        fix_regions([broken])
    with pytest.raises(InputError, match=r"shape \(n, 1 \+ n_priors\), found \(1000,\)"):
        fix_regions([x[:, 0]])
    (tmp_path / "r.json").write_text("{}")
    for name, said in (("r.json", "no regions can be read"), ("none.json", "no such file; regions.json is expected")):
        with pytest.raises(InputError, match=f"{name}: {said}"):
            read_regions(tmp_path / name)
