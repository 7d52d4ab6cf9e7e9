"""Signals that limits are set on: their share of all selected events in each region, and the masses of the limits."""

from __future__ import annotations

import numpy as np
import pytest

from hunch.analysis import HuntSettings, Regions, Scored, as_signal, fix_regions, hunt
from hunch.analysis.limits.signals import limit_masses
from hunch.analysis.spectra.bins import as_hist
from hunch.errors import InputError


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


def test_a_region_with_next_to_nothing_of_the_signal_is_kept(regions: Regions, rng: np.random.Generator) -> None:
    losses = np.concatenate([np.tile([9.0, 0.0], (995, 1)), np.tile([0.5, 0.0], (5, 1))])
    found = as_signal(Scored("s", rng.normal(3000, 30, 1000), losses, np.zeros(1000, dtype=np.int64)), regions)
    assert sorted(found.efficiencies.tolist()) in ([0.0, 0.995], [0.0, 1.0], [0.005, 0.995])


def test_limits_stand_at_the_ends_the_best_mass_and_the_signals_own(rng: np.random.Generator) -> None:
    edges = np.linspace(1500, 4500, 31)
    counts = rng.poisson(3000 * np.exp(-(edges[:-1] - 1500) / 500))
    masses = np.linspace(1700, 4000, 24)
    found = hunt([as_hist(edges, counts)], masses, settings=HuntSettings(pseudo_experiments=0), progress=False)
    chosen = limit_masses(found, points=3, peaks=[2501.0, 9000.0])
    assert {masses[0], masses[-1], masses[found.best]} <= set(chosen)
    assert np.abs(chosen - 2501).min() <= 50
    assert len(chosen) <= 5
