"""Spectra: CMS edges, the range above a turn-on, masses outside counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hunch.analysis import find_fit_range, mass_edges, mass_grid, spectrum
from hunch.analysis.resonance_search import choose_fit_range
from hunch.analysis.significance.procedure import HuntSettings
from hunch.analysis.spectra.bins import DIJET_EDGES, FitRange, spectra_of_table
from hunch.errors import InputError
from hunch.table import Table

SQRT_S = 13_000.0


@pytest.fixture(scope="module")
def turn_on() -> Any:
    """Return 40,000 masses of a falling spectrum with an efficiency that rises until about 2.6 TeV."""
    rng = np.random.default_rng(31)
    m = np.geomspace(1200, 9000, 40_001)
    density = (1 - m / SQRT_S) ** 9 * (m / SQRT_S) ** -5.0 / (1 + np.exp(-(m - 2350) / 60))
    cumulative = np.cumsum(density * np.gradient(m))
    return np.interp(rng.uniform(size=40_000), cumulative / cumulative[-1], m)


def test_the_range_starts_above_the_turn_on(turn_on: Any) -> None:
    found = find_fit_range(turn_on, sqrt_s=SQRT_S)
    assert 2350 < found.low < 3100
    assert found.low in DIJET_EDGES
    assert found.high > turn_on.max()
    assert found.turn_on is not None
    assert found.turn_on.seen
    assert found.low > found.turn_on.mode[1]
    assert "2 signal widths above a turn-on" in found.chosen
    edges = np.array(DIJET_EDGES)
    assert found.high == edges[edges > turn_on.max()][0]


@pytest.mark.parametrize(("mass", "events"), [(3500.0, 300), (4300.0, 100), (6000.0, 24), (3500.0, 10_000)])
def test_a_bump_far_above_does_not_push_the_range_above_itself(mass: float, events: int, turn_on: Any) -> None:
    plain = find_fit_range(turn_on, sqrt_s=SQRT_S)
    bump = np.random.default_rng(5).normal(mass, 0.02 * mass, events)
    assert find_fit_range(np.concatenate([turn_on, bump]), sqrt_s=SQRT_S).low == plain.low


@pytest.mark.parametrize("events", [100, 3000])
def test_a_bump_on_a_falling_spectrum_moves_no_range(events: int, rng: np.random.Generator) -> None:
    falling = 1530 * rng.uniform(size=5000) ** (-1 / 6)
    both = np.concatenate([falling[falling < 8000], rng.normal(1700, 60, events)])
    found = find_fit_range(both[both > 1530], sqrt_s=SQRT_S)
    assert found.low == 1530
    assert "no turn-on" in found.chosen


def test_steps_that_no_function_describes_move_no_range() -> None:
    edges = np.array([e for e in DIJET_EDGES if 1530 <= e <= 3279], dtype=float)
    steps = [1000 - 30 * i if i % 3 else 980 - 30 * i for i in range(len(edges) - 1)]
    assert find_fit_range(np.repeat(0.5 * (edges[1:] + edges[:-1]), steps), sqrt_s=SQRT_S).low == 1530


def test_a_hole_far_above_does_not_move_the_range(turn_on: Any) -> None:
    plain = find_fit_range(turn_on, sqrt_s=SQRT_S)
    assert find_fit_range(turn_on[(turn_on < 4869) | (turn_on > 5058)], sqrt_s=SQRT_S).low == plain.low


def test_a_turn_on_that_hides_most_events_is_refused(rng: np.random.Generator) -> None:
    """It ends at its highest events: nothing would be left to hunt in."""
    rising = rng.normal(3000, 250, 20_000)
    with pytest.raises(
        InputError, match=r"of 20000 events, more than two thirds, lie below .* GeV.*Give fit_range: \["
    ):
        find_fit_range(rising, sqrt_s=SQRT_S)
    with pytest.raises(InputError, match="more than two thirds"):
        find_fit_range(2000 + 1000 * rng.uniform(size=20_000) ** 0.3, sqrt_s=SQRT_S)


def test_events_below_the_bins_count_as_lost(rng: np.random.Generator) -> None:
    """CMS's dijet bins start at 1000 GeV, and these events rise from 400."""
    masses = np.concatenate([rng.uniform(400, 1000, 9_000), 1000 + rng.exponential(300, 12_000)])
    masses = masses[rng.uniform(size=len(masses)) < 1 / (1 + np.exp(-(masses - 1250) / 40))]
    found = find_fit_range(masses, sqrt_s=SQRT_S)
    assert found.turn_on is not None
    assert found.turn_on.seen
    assert (masses < found.low).mean() < 2 / 3


def test_a_spectrum_without_a_turn_on_starts_at_its_peak() -> None:
    masses = 1530 * np.random.default_rng(3).uniform(size=5000) ** (-1 / 7.0)
    assert find_fit_range(masses[masses < 8000], sqrt_s=SQRT_S).low <= 1700


def test_masses_far_from_the_dijet_edges_get_edges_of_their_own() -> None:
    masses = 100 * (1 + np.random.default_rng(4).exponential(0.25, size=4000))
    found = find_fit_range(masses, sqrt_s=SQRT_S)
    assert 90 < found.low < 200
    assert found.high > masses.max()


def test_a_given_range_is_used(turn_on: Any) -> None:
    found = choose_fit_range(turn_on, fit_range=(2800.0, 6000.0), settings=HuntSettings())
    assert (found.low, found.high, found.chosen) == (2800, 6000, "given")
    assert found.inside(np.array([2799.9, 2800.0, 5999.9, 6000.0])).tolist() == [False, True, True, False]
    inside = choose_fit_range(turn_on, fit_range=(2200.0, 6000.0), settings=HuntSettings())
    assert "given; it starts inside a turn-on" in inside.chosen
    with pytest.raises(InputError, match=r"holds none of the 40000 events \(1[0-9.]* to"):
        choose_fit_range(turn_on, fit_range=(10.0, 20.0), settings=HuntSettings())


def test_too_few_events_and_too_few_bins_are_refused() -> None:
    with pytest.raises(InputError, match="10 events between 0 and sqrt_s"):
        find_fit_range(np.full(10, 2000.0), sqrt_s=SQRT_S)
    with pytest.raises(InputError, match=r"2 bins from 1945 to 2132 GeV are too few.*give fit_range"):
        find_fit_range(np.linspace(1965, 2100, 60), sqrt_s=2500)


def test_masses_outside_are_counted(edges: Any) -> None:
    histogram = spectrum([1000.0, 1530.0, 2000.0, 6098.0, 6099.0, 9000.0], edges)
    assert histogram.values().sum() == 3
    assert histogram.values(flow=True)[[0, -1]].tolist() == [1, 2]
    assert histogram.axes[0].name == "mjj"


def test_edges_cover_exactly_what_was_asked() -> None:
    inside = mass_edges(1500.0, 6000.0)
    assert inside[[0, -1]].tolist() == [1500, 6000]
    assert set(inside[1:-1]) <= set(DIJET_EDGES)
    elsewhere = mass_edges(80.0, 300.0)
    assert elsewhere[[0, -1]] == pytest.approx([80, 300])
    np.testing.assert_allclose(np.diff(elsewhere) / elsewhere[:-1], 0.035, rtol=0.05)
    for bad in ((2000.0, 1000.0), (0.0, 1000.0), (-1.0, 5.0)):
        with pytest.raises(InputError, match="two increasing positive numbers"):
            mass_edges(*bad)


def test_masses_to_scan_stay_clear_of_the_ends(edges: Any) -> None:
    window = FitRange(tuple(edges), "given")
    grid = mass_grid(window, np.full(100, 6000.0))
    assert grid[0] > window.low * 1.06
    assert grid[-1] < window.high * 0.94
    assert (np.diff(grid) > 0).all()
    assert np.diff(np.log(grid)).max() < 0.025
    # no mass far above the last events
    masses = np.append(np.full(100, 2500.0), [5000.0, 6000.0])
    assert 2500 < mass_grid(window, masses)[-1] < 2700
    with pytest.raises(InputError, match="too short to scan"):
        mass_grid(FitRange((2000.0, 2100.0), "given"), masses)


def test_the_bins_of_a_table_start_at_its_lowest_event(rng: np.random.Generator) -> None:
    mjj = 1500 * (1 - rng.uniform(size=5000)) ** (-1 / 6)
    spectra, cutflow = spectra_of_table(Table({"mjj": mjj}), sqrt_s=13000)
    found = spectra["all events"]
    assert found.axes[0].edges[0] <= mjj.min() < found.axes[0].edges[1]
    assert found.values()[0] > 0
    assert cutflow == {"below the bins": 0}


@pytest.mark.parametrize("name", ["genWeight", "weight"])
def test_a_table_with_weights_is_refused(name: str, rng: np.random.Generator) -> None:
    columns = {"mjj": 2000 + rng.exponential(500, 60), name: np.ones(60)}
    assert spectra_of_table(Table(columns), sqrt_s=13000)[0].keys() == {"all events"}
    columns[name] = np.repeat([1.0, 2.0], 30)
    with pytest.raises(InputError, match=f"column '{name}' differs between events"):
        spectra_of_table(Table(columns), sqrt_s=13000)
