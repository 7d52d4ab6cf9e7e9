"""z beside every fixed Gaussian process, and beside the one that held-out background chooses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hunch.analysis import HuntSettings, SignalShape, hunt, mass_edges, signal_templates
from hunch.analysis.checks.process_choices import process_choices
from hunch.analysis.spectra.bins import as_hist

EDGES = mass_edges(1530, 7060)
CENTRES = 0.5 * (EDGES[1:] + EDGES[:-1])
MASSES = np.geomspace(1720, 5500, 20)


def falling(events: float) -> np.ndarray[Any, Any]:
    x = CENTRES / 13_000
    nu = (1 - x) ** 8 * x**-5.2 * np.diff(EDGES)
    return nu * events / nu.sum()


def test_the_pair_that_was_chosen_is_among_them(rng: np.random.Generator) -> None:
    background = falling(1e5)
    shape = signal_templates(SignalShape(), MASSES[8:9], EDGES)[0]
    counts = rng.poisson(background + 6 * shape / np.sqrt((shape**2 / background).sum()))
    found = hunt(
        [as_hist(EDGES, counts)], MASSES, settings=HuntSettings(family="gaussian_process", pseudo_experiments=0)
    )
    told = process_choices(found, held_out=rng.poisson(20 * background).astype(float)[None])
    assert told is not None
    fit = found.background.process
    assert fit is not None
    at = told.lengths.index(fit.length[0]), told.widths.index(fit.width[0])
    assert told.z[at] == pytest.approx(found.scan.z[0, found.best], abs=1e-3)
    assert told.z[0, 0] == pytest.approx(told.z[1, 0], abs=0.02)  # a width of 0.003 is the dijet function here
    assert told.z[0, -1] < told.z[0, 0]  # a background that may bend takes some of the signal
    assert told.simulated is not None
    assert told.simulated_widths[0] <= 0.03
    assert told.as_dict()["z"][0][0] == told.z[0, 0]


def test_another_background_has_none() -> None:
    found = hunt(
        [as_hist(EDGES, falling(1e5).round())], MASSES, settings=HuntSettings(family="dijet", pseudo_experiments=0)
    )
    assert process_choices(found) is None
