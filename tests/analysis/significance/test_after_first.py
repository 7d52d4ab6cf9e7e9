"""A second excess beside a first one: found where it is, and not made of what the first one leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from matplotlib.patches import StepPatch
from scipy import stats

from hunch.analysis import HuntSettings, SignalShape, hunt, hunt_spectra, scan_figure, signal_templates, spectrum_result
from hunch.analysis.figures.base import save_figure
from hunch.analysis.figures.spectrum_figures import spectrum_figure
from hunch.analysis.fits.gaussian_process import GAUSSIAN_PROCESS
from hunch.analysis.goodness.fit_quality import fit_qualities
from hunch.analysis.goodness.signal_curve import both_curve, signal_curve
from hunch.analysis.significance.after_first import second_of
from hunch.analysis.significance.bumphunt import BumpHunt
from hunch.analysis.spectra.bins import as_hist
from hunch.errors import InputError

Array = np.ndarray[Any, Any]
Truth = Callable[..., Array]
MASSES = np.geomspace(1800.0, 4200.0, 24)
FIRST, SECOND = 6, 15


def hunted(counts: Array, edges: Array, **settings: Any) -> BumpHunt:
    chosen = HuntSettings(**{"after_first": 4.0, "pseudo_experiments": 120} | settings)
    return hunt([as_hist(edges, row) for row in np.atleast_2d(counts)], MASSES, settings=chosen, progress=False)


@pytest.fixture(scope="module")
def both(edges: Array, truth: Truth) -> Array:
    """Return two regions with signals at two masses."""
    templates = signal_templates(SignalShape(), MASSES[[FIRST, SECOND]], edges)
    rng = np.random.default_rng(12)
    return rng.poisson(np.stack([truth(20_000) + 600 * templates[0] + 165 * templates[1], truth(3_000)]))


@pytest.mark.parametrize("family", ["dijet", GAUSSIAN_PROCESS])
def test_the_second_of_two_bumps_is_found(family: str, both: Array, edges: Array, tmp_path: Path) -> None:
    found = hunted(both, edges, family=family)
    second = second_of(found, progress=False)
    assert second is not None
    assert abs(found.best - FIRST) <= 1
    assert abs(int(np.searchsorted(found.masses, second.mass)) - SECOND) <= 1
    assert (second.local.z > 4, second.p_global) == (True, pytest.approx(1 / (1 + second.n)))
    assert 100 < second.n <= 120
    assert second.first_signal[0] == pytest.approx(600, abs=150)
    # within two widths of the first nothing is scanned
    near = np.abs(found.masses / found.masses[found.best] - 1) <= 2 * 0.035
    np.testing.assert_array_equal(second.log_combined == 0, near)
    assert not second.scan.converged[:, near].any()
    # with both in the model the fit is good, where one alone leaves the other
    one, two = (fit_qualities(found, ("a", "b"), given)[0] for given in (None, second))
    assert two.p_with_signal > max(0.01, one.p_with_signal)
    # the figure has the fit with both, and both signals with the yields that are stated
    curve = both_curve(found, 0, second)
    alone = signal_curve(found, 0, found.best)
    assert curve is not None
    assert alone is not None
    assert curve.sum() == pytest.approx(both[0].sum(), rel=1e-4)
    away = int(second.templates[1].argmax())
    assert abs(curve[away] - both[0, away]) < abs(alone[away] - both[0, away])
    main, _ = cast("Any", spectrum_figure(found, 0, "a", second=second)).axes
    drawn = [p.get_data().values for p in main.patches if isinstance(p, StepPatch)]
    assert any(np.allclose(values, curve) for values in drawn)
    assert not any(np.allclose(values, alone) for values in drawn)
    labels = [text.get_text() for text in main.get_legend().get_texts()]
    assert f"fit with signals at {second.first_mass:.0f} GeV and {second.mass:.0f} GeV" in labels
    assert f"fitted signal at {second.mass:.0f} GeV: {second.signal[0]:.1f} events" in labels
    assert f"fitted signal at {second.first_mass:.0f} GeV: {second.first_signal[0]:.1f} events" in labels
    assert all(path.is_file() for path in save_figure(scan_figure(found, ("a", "b"), second=second), tmp_path, "p"))


def test_nothing_is_taken_in_below_the_threshold(both: Array, edges: Array) -> None:
    assert second_of(hunted(both, edges, after_first=None, pseudo_experiments=0)) is None
    assert second_of(hunted(both, edges, after_first=50.0, pseudo_experiments=0)) is None
    without = second_of(hunted(both, edges, pseudo_experiments=0))
    assert without is not None
    assert (without.p_global, without.local.how) == (None, "asymptotic")


def test_a_family_without_columns_has_no_second(both: Array, edges: Array) -> None:
    with pytest.raises(InputError, match="after_first: a second signal is fitted beside gaussian_process, dijet"):
        hunted(both, edges, family="bernstein")


@pytest.mark.slow
def test_a_second_is_in_the_result_beside_widths(both: Array, edges: Array) -> None:
    settings = HuntSettings(after_first=4.0, pseudo_experiments=110, widths=(0.03, 0.06))
    spectra = {"a": as_hist(edges, both[0]), "b": as_hist(edges, both[1])}
    result = spectrum_result(hunt_spectra(spectra, settings=settings, fit_range=(1530.0, 6099.0), progress=False))
    second = result["second"]
    assert second["mass"] == pytest.approx(MASSES[SECOND], rel=0.05)
    assert second["width"] in {0.03, 0.06}
    assert second["first"]["mass"] == result["best"]["mass"]
    assert len(second["z_combined"]) == len(result["scan"]["masses"])


@pytest.mark.slow
@pytest.mark.parametrize("family", ["dijet", GAUSSIAN_PROCESS])
def test_a_wider_first_makes_no_second_more_often_than_its_p_says(family: str, edges: Array, truth: Truth) -> None:
    """A signal a fifth wider than its template, of some 6 sigma beside a process."""
    signal = signal_templates(SignalShape(0.042), [float(MASSES[10])], edges)[0]
    rng = np.random.default_rng(41)
    p = []
    for seed in range(80):
        found = hunted(rng.poisson(truth(20_000) + 250 * signal), edges, family=family, seed=seed)
        second = second_of(found, progress=False)
        if second is not None and second.p_global is not None:
            p.append(second.p_global)
    assert len(p) > 60
    for level in (0.05, 0.2):
        assert stats.binom.sf((np.array(p) < level).sum() - 1, len(p), level) > 0.005
