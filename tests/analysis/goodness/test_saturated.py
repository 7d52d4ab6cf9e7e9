"""The saturated goodness of fit: its p is uniform under the fit, few events or many, and small where the spectrum has a wiggle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hist
import numpy as np
import pytest
from scipy import special, stats

from hunch.analysis import BumpHunt, HuntSettings, SignalShape, hunt, signal_templates
from hunch.analysis.fits.background import goodness_of_fit
from hunch.analysis.goodness.saturated import compared, saturated_fits, saturated_notes
from hunch.analysis.significance.procedure import procedure, saturated_deviances

Array = np.ndarray[Any, Any]
Truth = Callable[..., Array]
MASSES = np.array([2000.0, 2700.0, 3400.0])
EDGES = np.linspace(1500.0, 5500.0, 41)


def found_in(edges: Array, *rows: Array, n: int = 400, family: str = "dijet") -> BumpHunt:
    made = [hist.Hist(hist.axis.Variable(edges, name="mjj")) for _ in rows]
    for one, row in zip(made, rows, strict=True):
        one.view()[...] = row
    return hunt(made, MASSES, settings=HuntSettings(pseudo_experiments=n, family=family), progress=False)


def deviances(expected: Array, n: int, seed: int) -> tuple[Array, Array]:
    """Return the deviances (2, n) of experiments of an expectation (bins,), and the chi-squared p of their fits (n,)."""
    counts = np.random.default_rng(seed).poisson(expected, size=(n, len(expected))).astype(float)
    made = procedure(counts[:, None, :], EDGES, signal_templates(SignalShape(), MASSES, EDGES), HuntSettings())
    p = goodness_of_fit(counts, made.background.expected, made.background.n_parameters)
    return saturated_deviances(counts, made.background, made.scan), p


@pytest.mark.parametrize("events", [40, 20_000])
def test_p_is_uniform_under_the_fit(events: int) -> None:
    shape = np.exp(-np.arange(40) / 6)
    expected = events * shape / shape.sum()
    null, _ = deviances(expected, 1500, 1)
    data, chi2_p = deviances(expected, 500, 2)
    found = [compared("a", row, null) for row in data.T]
    for p in ([f.p_value for f in found], [f.p_with_signal for f in found]):
        assert stats.kstest(p, "uniform").pvalue > 0.01
    # neither chi-squared of merged bins nor of the deviance is right for 40 events in 40 bins
    asymptotic = stats.chi2.sf(data[0], 40 - 3)
    if events == 40:
        assert all(stats.kstest(p, "uniform").pvalue < 1e-5 for p in (chi2_p, asymptotic))


@pytest.mark.parametrize("family", ["dijet", "gaussian_process"])
def test_a_wiggle_of_neighbouring_bins_is_seen_and_a_bump_is_forgiven(family: str, edges: Array, truth: Truth) -> None:
    rng = np.random.default_rng(7)
    smooth, (bump,) = truth(100_000), signal_templates(SignalShape(), [2700.0], edges)
    wiggle = smooth * (1 + 0.05 * (-1.0) ** np.arange(len(smooth)))
    found = found_in(edges, rng.poisson(wiggle), rng.poisson(smooth), rng.poisson(smooth + 450 * bump), family=family)
    fits = saturated_fits(found, ["wiggle", "smooth", "bump"])
    assert [f.region for f in fits] == ["wiggle", "smooth", "bump", "all regions"]
    wiggled, quiet, bumped, together = fits
    assert (wiggled.above, wiggled.p_value) == (0, pytest.approx(1 / 401))
    assert wiggled.as_dict()["p_is_bound"]
    assert wiggled.p_with_signal < 0.01
    assert quiet.p_value > 0.02
    assert bumped.p_value < 0.02 < bumped.p_with_signal
    assert together.p_value < 0.01
    assert together.deviance == pytest.approx(sum(f.deviance for f in fits[:3]))
    counts, nu = found.counts[0], found.background.expected[0]
    assert wiggled.deviance == pytest.approx(2 * (nu - counts + special.xlogy(counts, counts / nu)).sum())
    notes = saturated_notes(fits)
    assert [n.split(":")[0] for n in notes] == ["wiggle", "all regions"]
    assert "p < 0.0025" in notes[0]


def test_without_experiments_there_is_none(edges: Array, truth: Truth) -> None:
    found = found_in(edges, np.round(truth(1000)), n=0)
    assert saturated_fits(found, ["a"]) == ()
    assert saturated_notes(()) == []


def test_several_widths_are_forgiven_in_the_data_as_in_experiments(edges: Array, truth: Truth) -> None:
    rng = np.random.default_rng(8)
    made = [hist.Hist(hist.axis.Variable(edges, name="mjj")) for _ in range(2)]
    for one in made:
        one.view()[...] = rng.poisson(truth(5000))
    settings = HuntSettings(pseudo_experiments=20, widths=(0.02, 0.08))
    found = hunt(made, MASSES, settings=settings, progress=False)
    whole = procedure(found.counts, edges, found.all_templates, settings).scan
    best = np.maximum(np.where(whole.converged, whole.z, 0).max(axis=1), 0)
    np.testing.assert_allclose(found.deviances[0] - found.deviances[1], best**2, rtol=1e-6)
    assert [f.deviance for f in saturated_fits(found, ["a", "b"])][:2] == found.deviances[0].tolist()
