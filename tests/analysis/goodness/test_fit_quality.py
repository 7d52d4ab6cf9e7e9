"""The two refusals: a background that fits neither alone nor with a signal, and a yield that depends on how far it may bend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hunch.analysis import HuntSettings, SignalShape, hunt, mass_edges, signal_templates
from hunch.analysis.goodness.fit_quality import bending_notes, fit_qualities, quality_notes, significance_refused
from hunch.analysis.significance.bumphunt import BumpHunt
from hunch.analysis.spectra.bins import as_hist

Array = np.ndarray[Any, np.dtype[np.float64]]
EDGES = mass_edges(1530, 7060)
CENTRES = 0.5 * (EDGES[1:] + EDGES[:-1])
MASSES = np.geomspace(1720, 5500, 40)
FAMILIES = ("gaussian_process", "dijet")


def falling(events: float) -> Array:
    x = CENTRES / 13_000
    nu = (1 - x) ** 8 * x**-5.2 * np.diff(EDGES)
    return np.asarray(nu * events / nu.sum())


def gaussian(mass: float, width: float, sigmas: float, background: Array) -> Array:
    shape = signal_templates(SignalShape(width), [mass], EDGES)[0]
    return np.asarray(sigmas * shape / np.sqrt((shape**2 / background).sum()))


def hunted(counts: Array, family: str) -> BumpHunt:
    return hunt([as_hist(EDGES, counts)], MASSES, settings=HuntSettings(family=family, pseudo_experiments=0))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("events", [300, 1e4, 6.6e6])
def test_a_smooth_spectrum_is_not_refused(family: str, events: float, rng: np.random.Generator) -> None:
    refused = [fit_qualities(hunted(rng.poisson(falling(events)), family), ["all"])[0].unfit for _ in range(12)]
    assert sum(refused) <= 1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sigmas", [8, 30, 100])
def test_a_bump_of_the_template_is_no_reason_to_refuse(family: str, sigmas: float, rng: np.random.Generator) -> None:
    background = falling(1e6)
    found = hunted(rng.poisson(background + gaussian(2500, 0.035, sigmas, background)), family)
    (quality,) = fit_qualities(found, ["all"])
    assert quality.p_with_signal > 0.001
    assert not quality.unfit
    assert significance_refused([quality]) is None
    assert quality.at == pytest.approx(2500, rel=0.03)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_hole_is_described_by_neither(family: str, rng: np.random.Generator) -> None:
    counts = rng.poisson(falling(2e5)).astype(float)
    counts[12] = 0
    (quality,) = fit_qualities(hunted(counts, family), ["loose"])
    assert quality.p_value < 1e-3
    assert quality.p_with_signal < 1e-3
    assert significance_refused([quality]) is not None
    assert "loose: the " in quality_notes([quality], refusing=True)[0]
    assert "no significance is quoted" in quality_notes([quality], refusing=True)[0]
    assert "with care" in quality_notes([quality], refusing=False)[0]


def test_a_wide_excess_hunted_with_a_narrow_template_is_found_or_refused(rng: np.random.Generator) -> None:
    """The process takes much of it up, and how much depends on how far it may bend."""
    background = falling(6.5e6)
    refused = []
    for _ in range(5):
        found = hunted(rng.poisson(background + gaussian(2500, 0.10, 60, background)), "gaussian_process")
        (quality,) = fit_qualities(found, ["all"])
        assert quality.unfit or found.first.z.max() > 4
        refused.append(quality.unfit)
    assert any(refused)


def test_what_a_dijet_function_makes_of_another_truth_is_refused(rng: np.random.Generator) -> None:
    """Smooth, not dijet, 1e6 events: beside a flexible background the yield is another."""
    nu = (CENTRES / 2500) ** -4.0 / (1 + (CENTRES / 2500) ** 4) * np.diff(EDGES)
    counts = rng.poisson(nu * 3e6 / nu.sum())
    found = hunt(
        [as_hist(EDGES, counts)],
        MASSES,
        settings=HuntSettings(family="dijet", pseudo_experiments=0, spare_orders=0, highest=0.0, lowest_orders=(2,)),
    )
    process = hunted(counts, "gaussian_process")
    assert not fit_qualities(process, ["all"])[0].unfit
    assert found.largest_z[0] > process.largest_z[0]


def test_without_a_dijet_function_there_is_no_flexible_yield() -> None:
    """Bins that reach sqrt_s, of a formula that does not mind: the first question alone is asked."""
    edges = np.linspace(0.0, 1.2, 41)
    counts = np.round(3000 * np.exp(-3 * edges[1:]))
    settings = HuntSettings(sqrt_s=1.0, family="exponential", pseudo_experiments=0)
    found = hunt([as_hist(edges, counts)], [0.4, 0.5, 0.6], settings=settings)
    (quality,) = fit_qualities(found, ["all"])
    assert quality.tension is None
    assert not quality.bent


@pytest.mark.parametrize("events", [1e4, 1e5])
def test_a_background_that_takes_up_a_wide_signal_is_said(events: float, rng: np.random.Generator) -> None:
    """A signal of 10 % of its mass, hunted with 3.5 %, bends the background as smooth ones hardly do."""
    truth = falling(events)
    wide = truth + gaussian(3000, 0.10, 25, truth)
    noted = [bool(bending_notes(hunted(rng.poisson(wide), "gaussian_process"), ["all"])) for _ in range(6)]
    assert sum(noted) >= 5
    smooth = [bending_notes(hunted(rng.poisson(truth), "gaussian_process"), ["all"]) for _ in range(10)]
    assert sum(map(bool, smooth)) <= 2
    assert not bending_notes(hunted(rng.poisson(wide), "dijet"), ["all"])
