"""Axes of the losses are found by name: in another order, among others, or not at all."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunch.analysis import SHAPES, FitRange, RegionChoice, Scored, as_signal, fix_regions, read_regions
from hunch.analysis.regions.scored import choose_regions, region_counts, regions_of_events
from hunch.errors import InputError

NAMES = ("background", "two_prong", "family")
WINDOW = FitRange((2000.0, 2500.0, 3000.0), "given")


def scored(rng: np.random.Generator, n: int = 3000, axes: tuple[str, ...] = NAMES) -> Scored:
    return Scored("events", rng.uniform(2000, 3000, n), rng.normal(size=(n, 3)), np.zeros(n, dtype=np.int64), axes=axes)


@pytest.mark.parametrize("shape", SHAPES)
def test_columns_in_another_order_give_the_same_regions(shape: str, rng: np.random.Generator) -> None:
    x = rng.normal(size=(4000, 3))
    regions = fix_regions([x], shape=shape, fraction=0.3, axes=("background", "family"), names=NAMES)
    assert regions.axes == ("background", "family")
    expected = regions.assign(x, names=NAMES)
    order = [2, 1, 0]
    np.testing.assert_array_equal(regions.assign(x[:, order], names=[NAMES[i] for i in order]), expected)
    # without names the columns are the axes
    np.testing.assert_array_equal(regions.assign(x[:, [0, 2]]), expected)
    assert regions == fix_regions([x[:, [0, 2]]], shape=shape, fraction=0.3, axes=("background", "family"))


def test_names_travel_with_events_and_files(rng: np.random.Generator, tmp_path: Path) -> None:
    calibration, data = scored(rng), scored(rng)
    choice = RegionChoice(fraction=0.4, axes=("background", "two_prong"))
    regions = choose_regions(calibration, WINDOW, choice, expected_events=3000)
    regions.save(tmp_path / "regions.json")
    again = read_regions(tmp_path / "regions.json")
    assert again == regions
    assert again.axes == ("background", "two_prong")
    turned = dataclasses.replace(data, losses=data.losses[:, ::-1], axes=NAMES[::-1])
    np.testing.assert_array_equal(regions_of_events(turned, again), regions_of_events(data, again))
    np.testing.assert_array_equal(
        region_counts(turned, again, np.array(WINDOW.edges)), region_counts(data, again, np.array(WINDOW.edges))
    )
    np.testing.assert_array_equal(as_signal(turned, again).efficiencies, as_signal(data, again).efficiencies)
    np.testing.assert_array_equal(turned.along(("two_prong", "background")), data.losses[:, [1, 0]])
    assert data.select(data.mass > 2500).axes == NAMES
    # where no axis is chosen, all of them are, by name
    everything = choose_regions(calibration, WINDOW, RegionChoice(fraction=0.4), expected_events=3000)
    assert everything.axes == NAMES
    np.testing.assert_array_equal(regions_of_events(turned, everything), regions_of_events(data, everything))


def test_losses_that_nobody_named_are_numbered(rng: np.random.Generator) -> None:
    assert scored(rng, 5, ()).axes == ("background", "prior 1", "prior 2")


def test_what_is_missing_is_named_with_the_nearest(rng: np.random.Generator) -> None:
    events = scored(rng)
    regions = choose_regions(events, WINDOW, RegionChoice(axes=("background", "family")), expected_events=3000)
    with pytest.raises(InputError, match=r"no axis of the losses 'family'.*did you mean 'families'"):
        regions.assign(events.losses, names=("background", "two_prong", "families"))
    with pytest.raises(InputError, match="3 columns and 2 names: background, family"):
        regions.assign(events.losses)
    with pytest.raises(InputError, match="3 columns and 2 names: background, two_prong"):
        regions.assign(events.losses, names=("background", "two_prong"))
    with pytest.raises(InputError, match=r"no axis of the losses 'famly'.*did you mean 'family'"):
        choose_regions(events, WINDOW, RegionChoice(axes=("background", "famly")), expected_events=3000)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"axes": ("background", "a", "a")}, "several columns of losses are called 'a'"),
        ({"axes": ("background",)}, "3 columns and 1 names"),
        ({"mass": np.zeros(4)}, "events: .*found 4 of mass, 5 of losses, 5 of fold"),
        ({"truth": np.zeros(6, dtype=np.uint8)}, "6 of truth"),
        ({"losses": np.zeros(5)}, r"losses \(n, m\)"),
    ],
)
def test_events_that_do_not_fit_together_are_refused(
    changed: dict[str, Any], words: str, rng: np.random.Generator
) -> None:
    with pytest.raises(InputError, match=words):
        dataclasses.replace(scored(rng, 5), **changed)


def test_values_tell_themselves_in_a_line(rng: np.random.Generator) -> None:
    events = dataclasses.replace(scored(rng), truth=np.arange(3000) < 7)
    assert repr(events) == "Scored(events, 3,000 events, axes background, two_prong, family, 7 true signals)"
    regions = choose_regions(events, WINDOW, RegionChoice(fraction=0.4), expected_events=3000)
    assert repr(regions) == (
        "Regions(3 of shape 'difference', 40 % of the background, folds: 1, axes background, two_prong, family)"
    )
