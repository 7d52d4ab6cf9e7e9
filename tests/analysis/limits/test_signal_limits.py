"""Signals that limits are set on: their share of all selected events in each region, and the masses of the limits."""

from __future__ import annotations

import numpy as np
import pytest

from hunch.analysis import HuntSettings, Regions, Scored, as_signal, fix_regions, hunt
from hunch.analysis.limits.signals import limit_masses, notes_of
from hunch.analysis.spectra.bins import as_hist
from hunch.errors import InputError
from hunch.table import Observable


@pytest.fixture
def regions(rng: np.random.Generator) -> Regions:
    return fix_regions(
        [rng.normal(size=(4000, 2))], shape="difference", fraction=0.3, n_regions=2, expected_events=2000
    )


def test_efficiencies_are_shares_of_all_selected_events(regions: Regions, rng: np.random.Generator) -> None:
    # half of the signal looks like background of the lowest kind and lies in no region
    losses = np.concatenate([np.tile([6.0, 0.0], (300, 1)), np.tile([-6.0, 0.0], (300, 1))])
    signal = as_signal(Scored("s", rng.normal(3000, 30, 600), losses, np.zeros(600, dtype=np.int64)), regions)
    assert sorted(signal.efficiencies) == [0.0, 0.5]
    assert signal.peak == pytest.approx(3000, abs=30)
    with pytest.raises(InputError, match="signal s: none of its 300 events lies in a region"):
        as_signal(Scored("s", np.full(300, 3000.0), losses[300:], np.zeros(300, dtype=np.int64)), regions)


def test_a_region_with_next_to_nothing_of_the_signal_is_left_out(regions: Regions) -> None:
    assigned = [np.array([[9.0, 0.0]] * 995 + [[d, 0.0]] * 5) for d in np.linspace(0.3, 9.0, 60)]
    found = [
        as_signal(Scored("s", np.full(1000, 3000.0), losses, np.zeros(1000, dtype=np.int64)), regions).efficiencies
        for losses in assigned
    ]
    # wherever the five stray events lie, they are no share of their own
    assert {round(max(e), 3) for e in found} == {0.995, 1.0}
    assert all(min(e) == 0.0 for e in found)


def test_a_signal_that_is_spread_thin_keeps_its_regions_or_is_said_to_lose_them(rng: np.random.Generator) -> None:
    held_out = [rng.normal(size=(6000, 2))]
    many = fix_regions(held_out, shape="difference", fraction=0.9, n_regions=60, expected_events=60_000)
    losses = rng.normal(size=(6000, 2))
    even = Scored("even", np.full(6000, 3000.0), losses, np.zeros(6000, dtype=np.int64))
    spread = as_signal(even, many)
    assert spread.efficiencies.sum() > 0.8  # 60 regions with less than 2 % each are not put to 0, all of them
    assert 0.02 < spread.left_out <= 0.1
    (note,) = notes_of({}, [spread], Observable())
    assert "are left out; limits are that much weaker" in note


def test_limits_stand_at_the_ends_the_best_mass_and_the_signals_own(rng: np.random.Generator) -> None:
    edges = np.linspace(1500, 4500, 31)
    counts = rng.poisson(3000 * np.exp(-(edges[:-1] - 1500) / 500))
    masses = np.linspace(1700, 4000, 24)
    found = hunt([as_hist(edges, counts)], masses, settings=HuntSettings(pseudo_experiments=0), progress=False)
    chosen = limit_masses(found, points=3, peaks=[2501.0, 9000.0])
    assert {masses[0], masses[-1], masses[found.best]} <= set(chosen)
    assert np.abs(chosen - 2501).min() <= 50
    assert len(chosen) <= 5
