"""The curve of background and signal is that of the fit whose z the scan states, whatever the family; the figure shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import hist
import numpy as np
import pytest
from matplotlib.patches import StepPatch
from scipy import special

from hunch.analysis import BumpHunt, HuntSettings, SignalShape, hunt, signal_templates
from hunch.analysis.figures.spectrum_figures import spectrum_figure
from hunch.analysis.goodness.signal_curve import signal_curve
from hunch.analysis.results import fits_of

Array = np.ndarray[Any, Any]
MASSES = np.array([2000.0, 2700.0, 3400.0])


def found_in(edges: Array, counts: Array, family: str) -> BumpHunt:
    made = hist.Hist(hist.axis.Variable(edges, name="mjj"))
    made.view()[...] = counts
    return hunt([made], MASSES, settings=HuntSettings(pseudo_experiments=0, family=family), progress=False)


@pytest.fixture(scope="module")
def counts(edges: Array, truth: Callable[..., Array]) -> Array:
    (template,) = signal_templates(SignalShape(), [2700.0], edges)
    return np.random.default_rng(5).poisson(truth(20_000) + 150 * template)


@pytest.mark.parametrize("family", ["dijet", "gaussian_process", "bernstein", "(1-x)**p1 * x**(-p2)"])
def test_the_curve_gains_what_z_says(family: str, edges: Array, counts: Array) -> None:
    found = found_in(edges, counts, family)
    for m in range(len(MASSES)):
        curve = signal_curve(found, 0, m)
        assert curve is not None
        nll, alone = (float((nu - special.xlogy(counts, nu)).sum()) for nu in (curve, found.background.expected[0]))
        if family != "gaussian_process":  # whose fits are penalised
            assert 2 * (alone - nll) == pytest.approx(found.scan.z[0, m] ** 2, abs=2e-3)
        # the sum of a fit with a free norm is that of the data
        assert curve.sum() == pytest.approx(counts.sum(), rel=1e-4)
        # the signal is in it, and the background beside it is smooth: other bins follow
        added = curve - found.scan.signal[0, m] * found.templates[m]
        assert (added > 0).all()


def test_the_figure_and_the_result_have_the_curve(edges: Array, counts: Array) -> None:
    found = found_in(edges, counts, "dijet")
    curve = signal_curve(found, 0, found.best)
    assert curve is not None
    main, pulls = cast("Any", spectrum_figure(found, 0, "a")).axes
    drawn = [p.get_data().values for p in main.patches if isinstance(p, StepPatch)]
    assert any(np.allclose(values, curve) for values in drawn)
    assert any(np.allclose(values, found.background.expected[0]) for values in drawn)
    steps = [p.get_data().values for p in pulls.patches if isinstance(p, StepPatch)]
    assert len(steps) == 2
    # with the signal the pulls are smaller where it is
    inside = (edges[:-1] > 2500) & (edges[1:] < 2900)
    assert np.abs(steps[1][inside]).max() < np.abs(steps[0][inside]).max()
    minuit: Any = type("Fit", (), {"errors": {}, "valid": True, "nll": 0.0})
    assert fits_of(found, ["a"], [minuit])[0]["expected_with_signal"] == pytest.approx(curve.tolist())
