"""A scan in mass and width: the widths, what results fold it to, and a global p that counts the trial."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from hunch.analysis import HuntSettings, SignalShape, hunt, hunt_of, hunt_spectra, signal_templates, spectrum_result
from hunch.analysis.figures.base import save_figure
from hunch.analysis.figures.width_figure import width_figure
from hunch.analysis.fits.gaussian_process import GAUSSIAN_PROCESS
from hunch.analysis.significance.widths import hunted_widths, width_grid, width_templates
from hunch.analysis.spectra.bins import as_hist
from hunch.errors import InputError

Array = np.ndarray[Any, Any]
Truth = Callable[..., Array]
MASSES = np.geomspace(1800.0, 4200.0, 12)
WIDE = 0.10


@pytest.fixture(scope="module")
def bumped(edges: Array, truth: Truth) -> Array:
    """Return a spectrum with a signal 10 % wide."""
    signal = signal_templates(SignalShape(WIDE), [float(MASSES[5])], edges)[0]
    return np.random.default_rng(5).poisson(truth(100_000) + 1500 * signal)


def test_widths_are_evenly_apart_in_their_logarithm() -> None:
    widths = width_grid(0.01, WIDE)
    assert (len(widths), widths[0], widths[-1]) == (8, 0.01, WIDE)
    steps = np.diff(np.log(widths))
    assert np.allclose(steps, steps[0], rtol=1e-3)
    assert steps[0] <= np.log(np.sqrt(2))
    assert width_grid(0.03, 0.03) == (0.03,)
    with pytest.raises(InputError, match=r"width \[0.1, 0.01\]: the lowest and the highest"):
        width_grid(0.1, 0.01)


def test_a_pair_of_widths_scales_the_core_of_a_fitted_shape(edges: Array) -> None:
    fitted = SignalShape(0.04, 1.2, 3.0, 1.8, 4.0, "double-sided Crystal Ball fitted to xy")
    shape, widths = hunted_widths(fitted, (0.02, 0.08))
    assert shape.alpha_low == fitted.alpha_low
    assert shape.source == "double-sided Crystal Ball fitted to xy, its width scanned from 2 to 8 %"
    flat = width_templates(shape, widths, MASSES, edges)
    assert flat.shape == (5 * 12, len(edges) - 1)
    core = dataclasses.replace(fitted, width=0.04)
    np.testing.assert_allclose(flat[24:36], signal_templates(core, MASSES, edges), rtol=1e-5, atol=1e-12)
    one, none = hunted_widths(SignalShape(), 0.05)
    assert (one.width, none) == (0.05, ())
    assert "a choice that the global p does not count" in one.source
    assert hunted_widths(fitted, None) == (fitted, ())


@pytest.mark.parametrize("family", ["dijet", GAUSSIAN_PROCESS])
def test_a_wide_bump_is_found_with_its_width(family: str, bumped: Array, edges: Array, tmp_path: Path) -> None:
    settings = HuntSettings(family=family, pseudo_experiments=60, widths=width_grid(0.02, WIDE))
    found = hunt([as_hist(edges, bumped)], MASSES, settings=settings, progress=False)
    assert abs(found.masses[found.best] / MASSES[5] - 1) < 0.08
    assert found.widths[found.best] == found.shape.width >= 0.06
    assert f"{100 * found.shape.width:.2g} % wide" in repr(found)
    # at every mass the width with the smallest p, and the templates and fits of it
    surface = found.log_all.reshape(-1, len(MASSES))
    np.testing.assert_array_equal(found.log_combined, surface.min(axis=0))
    m = 2
    own = signal_templates(SignalShape(float(found.widths[m])), MASSES[[m]], edges)
    np.testing.assert_allclose(found.templates[m], own[0])
    alone = hunt(
        [as_hist(edges, bumped)],
        MASSES,
        shape=SignalShape(0.02),
        settings=dataclasses.replace(settings, widths=(), pseudo_experiments=0),
    )
    assert found.z_combined[found.best] > alone.z_combined.max() + 1
    if family == "dijet":  # whose background does not depend on what is scanned
        np.testing.assert_allclose(alone.log_combined, surface[0], rtol=1e-6)
    # a surface is no curve, whose up-crossings could be counted
    assert found.global_p is not None
    assert found.global_p.gross_vitells is None
    assert found.gross_vitells() is None
    assert all(path.is_file() for path in save_figure(width_figure(found), tmp_path, "widths"))


def test_widths_beside_a_process_end_where_it_can_tell_them(bumped: Array, edges: Array) -> None:
    settings = HuntSettings(family=GAUSSIAN_PROCESS, pseudo_experiments=0, widths=width_grid(0.05, 0.15))
    with pytest.raises(InputError, match=r"the signal is 15 % of its mass wide; .* at most 10 %"):
        hunt([as_hist(edges, bumped)], MASSES, settings=settings)


def test_the_trial_is_counted_in_experiments(edges: Array, truth: Truth) -> None:
    counts = np.random.default_rng(8).poisson(truth(20_000))
    spectra = [as_hist(edges, counts)]
    one = hunt(spectra, MASSES, settings=HuntSettings(pseudo_experiments=200), progress=False)
    many = hunt(
        spectra,
        MASSES,
        settings=HuntSettings(pseudo_experiments=200, widths=width_grid(0.01, WIDE)),
        progress=False,
    )
    assert one.global_p is not None
    assert many.global_p is not None
    # the same experiments: each has a smaller p somewhere on the surface
    assert np.median(many.global_p.smallest / one.global_p.smallest) < 0.7


@pytest.mark.slow
def test_a_result_tells_the_widths_and_is_hunted_again_with_them(bumped: Array, edges: Array) -> None:
    settings = HuntSettings(pseudo_experiments=100, widths=width_grid(0.03, WIDE))
    made = hunt_spectra({"all": as_hist(edges, bumped)}, settings=settings, progress=False)
    result = spectrum_result(made) | {"configuration": {"sqrt_s": settings.sqrt_s}}
    best, scan = result["best"], result["scan"]
    assert best["width"] == made.hunt.shape.width == result["signal_shape"]["width"]
    assert scan["widths"][scan["masses"].index(best["mass"])] == best["width"]
    assert np.array(scan["z_of_widths"]).shape == (len(scan["widths_scanned"]), len(scan["masses"]))
    assert best["p_global_gross_vitells_approximate"] is None
    again, _ = hunt_of(result)
    np.testing.assert_allclose(again.log_all, made.hunt.log_all, rtol=1e-6)


@pytest.mark.slow
def test_global_p_is_uniform_with_two_widths(edges: Array, truth: Truth) -> None:
    rng = np.random.default_rng(31)
    found = []
    for seed in range(150):
        settings = HuntSettings(pseudo_experiments=99, seed=seed, widths=(0.03, 0.08))
        spectra = [as_hist(edges, rng.poisson(truth(5_000)))]
        glob = hunt(spectra, MASSES, settings=settings, progress=False).global_p
        assert glob is not None
        found.append(glob.p)
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert stats.binom.sf((np.array(found) < 0.05).sum() - 1, len(found), 0.05) > 0.005
