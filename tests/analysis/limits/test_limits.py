"""Limits of hunts against the errors of fits, pseudo-data and the batched engine; the workspaces as the `pyhf` command line reads them."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from hunch.analysis import BumpHunt, HuntSettings, SignalShape, hunt, signal_templates
from hunch.analysis.figures.brazil_band import limit_figure
from hunch.analysis.limits.asymptotic import asymptotic_cls
from hunch.analysis.limits.cls import cls_limits, model_discovery_p
from hunch.analysis.limits.model import LimitModel, limit_model
from hunch.analysis.limits.signal_errors import SignalErrors
from hunch.analysis.limits.signals import notes_of
from hunch.analysis.limits.workspace import write_workspaces
from hunch.analysis.spectra.bins import as_hist
from hunch.errors import InputError

Array = np.ndarray[Any, Any]
Truth = Callable[..., Array]
EXACT = SignalErrors(scale=0.0, resolution=0.0)


def hunted(counts: Sequence[Array], edges: Array, masses: Sequence[float]) -> BumpHunt:
    spectra = [as_hist(edges, np.asarray(c, dtype=float)) for c in counts]
    return hunt(spectra, masses, settings=HuntSettings(pseudo_experiments=0))


def model_of(found: BumpHunt, mass: float, **options: Any) -> LimitModel:
    model = limit_model(found, mass, **options)
    assert isinstance(model, LimitModel), model
    return model


def observed_cls(model: LimitModel, events: float) -> float:
    return asymptotic_cls(model.likelihood, events / model.unit)[0]


def test_median_limit_is_1_96_errors_of_the_simultaneous_fit(edges: Array, truth: Truth) -> None:
    found = hunted([np.round(truth(200_000))], edges, [2200, 3400])
    set_at = cls_limits(found, errors=EXACT)
    np.testing.assert_allclose(set_at.expected[:, 2], special.ndtri(0.975) * found.scan.error[0], rtol=0.02)
    np.testing.assert_allclose(set_at.observed, set_at.expected[:, 2], rtol=0.05)
    assert (np.diff(set_at.expected, axis=1) > 0).all()
    assert cls_limits(found).expected[0, 2] > set_at.expected[0, 2]


def test_observed_limits_fill_the_band_and_do_not_exclude_the_truth(edges: Array, truth: Truth) -> None:
    rng = np.random.default_rng(5)
    mass, n = 2600.0, 120
    template = signal_templates(SignalShape(), [mass], edges)[0]
    expected = truth(8000)
    asimov = hunted([np.round(expected)], edges, [mass])
    band = cls_limits(asimov, errors=EXACT).expected[0]
    inside = covered = 0
    for _ in range(n):
        # one fit's order for all: the F-test is no part of what is checked
        quiet = dataclasses.replace(asimov, counts=rng.poisson(expected)[None].astype(float))
        model = model_of(quiet, mass, errors=EXACT)
        inside += observed_cls(model, band[1]) > 0.05 > observed_cls(model, band[3])
        loud = dataclasses.replace(asimov, counts=rng.poisson(expected + band[2] * template)[None].astype(float))
        model = model_of(loud, mass)
        covered += observed_cls(model, band[2]) > 0.05
    print(f"in the 1 sigma band: {inside}/{n}; truth not excluded: {covered}/{n}")  # noqa: T201
    # 99 % binomial intervals of 0.683 and 0.95 (CLs covers that or more)
    assert stats.binom.ppf(0.005, n, 0.683) <= inside <= stats.binom.ppf(0.995, n, 0.683)
    assert covered >= stats.binom.ppf(0.005, n, 0.95)


def test_joint_discovery_agrees_with_the_batched_engine(edges: Array, truth: Truth) -> None:
    rng = np.random.default_rng(3)
    for events, mass, size in [(5e3, 2200, 3), (5e3, 3000, -1), (5e4, 1900, 2), (5e4, 3300, 5), (5e5, 3000, -2)]:
        expected = truth(events)
        template = signal_templates(SignalShape(), [mass], edges)[0]
        signal = size * np.sqrt((expected * template).sum() / (template**2).sum())
        found = hunted([rng.poisson(np.maximum(expected + signal * template, 0))], edges, [mass])
        z = float(found.scan.z[0, 0])
        p = model_discovery_p(model_of(found, mass, errors=EXACT))
        assert p is not None
        assert abs(stats.norm.isf(p) - z) < 1e-3, (events, mass, z)


def test_signal_in_one_region_only_is_that_region_alone(edges: Array, truth: Truth) -> None:
    rng = np.random.default_rng(8)
    counts = [rng.poisson(truth(n)) for n in (3000, 5000)]
    both = hunted(counts, edges, [2600])
    one = hunted(counts[:1], edges, [2600])
    alone = cls_limits(one)
    assert repr(alone) == ("Limits(observed and expected at 95%, masses: 1 from 2600 to 2600 GeV, without a limit: 0)")
    split = cls_limits(both, efficiencies=[1.0, 0.0], names=["a", "b"])
    np.testing.assert_allclose(split.expected, alone.expected, rtol=2e-3)
    np.testing.assert_allclose(split.observed, alone.observed, rtol=2e-3)
    assert split.dropped == {2600.0: {"b": "no signal in it"}}
    # half of the signal alone: a limit on all of the signal is twice as high, and another region helps
    half = cls_limits(one, efficiencies=[0.5])
    np.testing.assert_allclose(half.expected, 2 * alone.expected, rtol=2e-3)
    shared = cls_limits(both, efficiencies=[0.5, 0.3])
    assert shared.expected[0, 2] < half.expected[0, 2]


def test_workspace_is_what_the_pyhf_command_line_reads(edges: Array, truth: Truth, tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    found = hunted([rng.poisson(truth(n)[:32].reshape(-1, 2).sum(axis=1)) for n in (2000, 6000)], edges[:33:2], [2400])
    model = model_of(found, 2400, efficiencies=[0.6, 0.2], names=["tight", "loose"])
    (path,) = write_workspaces([model], tmp_path / "workspaces")
    program = Path(sys.executable).with_name("pyhf")
    said = subprocess.run([program, "cls", path], capture_output=True, text=True, check=True, timeout=120)
    answer = json.loads(said.stdout)
    observed, expected = asymptotic_cls(model.likelihood, 1.0)
    assert answer["CLs_obs"] == pytest.approx(observed, rel=1e-3)
    assert answer["CLs_exp"] == pytest.approx(expected.tolist(), rel=1e-3)
    stored = json.loads(path.read_text())
    assert [c["name"] for c in stored["channels"]] == ["tight", "loose"]
    assert stored["measurements"][0]["name"] == f"mass 2400 GeV; mu = 1 is {model.unit:.10g} signal events"
    # one signal strength, scale and resolution for both; each its own background
    modifiers = [{m["name"] for s in c["samples"] for m in s["modifiers"]} for c in stored["channels"]]
    assert modifiers[0] & modifiers[1] == {"mu", "signal_scale", "signal_resolution"}


def test_blind_limits_do_not_look_into_the_window(edges: Array, truth: Truth) -> None:
    found = hunted([np.round(truth(6000))], edges, [2600])
    more = found.counts + np.round(
        400 * signal_templates(SignalShape(), [2600.0], edges)[0] * (abs(edges[:-1] - 2540) < 150)
    )
    blind = [cls_limits(dataclasses.replace(found, counts=c), blind=True) for c in (found.counts, more)]
    np.testing.assert_allclose(blind[0].expected, blind[1].expected, rtol=1e-3)
    assert np.isnan(blind[0].observed).all()
    assert blind[0].n_failed == 0
    assert json.loads(json.dumps(blind[0].as_dict(), allow_nan=False))["observed"] == [None]
    # with its eyes open it sees them, and does not exclude what is there
    assert cls_limits(dataclasses.replace(found, counts=more)).observed[0] > 350


def test_every_mass_has_a_limit_where_the_window_holds_few_events_or_none(edges: Array, truth: Truth) -> None:
    """What lies above is empty, or next to it: sidebands alone would say nothing there."""
    counts = np.where(edges[:-1] < 3300, np.round(truth(3000)), 0)
    found = hunted([counts], edges, [1700, 2200, 4000, 5700])
    set_at = cls_limits(found, luminosity=100.0, experiments=600)
    assert set_at.failures == {}
    assert np.isfinite(set_at.expected).all()
    assert np.isfinite(set_at.observed).all()
    assert set_at.asymptotic.tolist() == [True, True, False, False]
    few = ~set_at.asymptotic
    # no event, no background: three events, however the background was fitted
    assert set_at.observed[3] == pytest.approx(3.0, rel=0.05)
    assert (set_at.experiment_errors[few] < 0.1 * set_at.observed[few, None]).all()
    assert np.isnan(set_at.experiment_errors[~few]).all()
    assert np.isnan(set_at.p).tolist() == [True, True, False, False]
    assert set_at.expected_fb is not None
    assert set_at.observed_fb is not None
    np.testing.assert_allclose(set_at.expected_fb * 100, set_at.expected)
    answer = json.loads(json.dumps(set_at.as_dict(), allow_nan=False))
    assert "by 600 pseudo-experiments where" in answer["method"]
    assert answer["statistical_errors"][0] == [None] * 6
    assert answer["failed"] == 0
    again = cls_limits(found, luminosity=100.0, experiments=600)
    np.testing.assert_array_equal(again.expected, set_at.expected)
    assert cls_limits(found, experiments=0).asymptotic.all()


def test_a_mass_without_a_likelihood_is_counted_and_said(edges: Array, truth: Truth) -> None:
    spectra = [as_hist(edges, np.round(truth(n))) for n in (3000, 2000)]
    settings = HuntSettings(family="bernstein", pseudo_experiments=0)
    found = hunt(spectra, [2200, 3000], settings=settings)
    background = dataclasses.replace(found.background, converged=np.array([False, True]))
    found = dataclasses.replace(found, background=background)
    names = ["most", "rest"]
    limits = cls_limits(found, efficiencies=[[0.86, 0.14], [0.0, 0.14]], names=names)
    assert limits.failures == {2200.0: "the background fit of most did not converge"}
    assert np.isnan(limits.expected[0]).all()
    assert np.isfinite(limits.expected[1]).all()
    assert limits.dropped == {3000.0: {"most": "no signal in it"}}
    note = limits.note("x", found.settings.observable)
    assert note == "x: no limit at 1 of 2 masses, 2200 GeV: the background fit of most did not converge"
    assert notes_of({"x": limits}, found.settings.observable) == [note]
    axes = limit_figure(limits, "x")
    cross = next(line for line in axes.get_lines() if line.get_label() == "no limit")
    assert cross.get_xdata() == pytest.approx([2200.0])
    answer = json.loads(json.dumps(limits.as_dict(), allow_nan=False))
    assert answer["observed"][0] is None
    assert answer["failures"] == [{"mass": 2200.0, "reason": "the background fit of most did not converge"}]


@pytest.mark.parametrize(
    ("family", "tangent"), [("bernstein", True), ("exp(-p1*x) + p2*exp(-p3*x)", True), ("(1-x)**p1 * x**(-p2)", False)]
)
def test_families_that_are_not_log_linear_are_taken_along_their_tangent(
    edges: Array, truth: Truth, family: str, tangent: bool
) -> None:
    spectra = [as_hist(edges, np.random.default_rng(2).poisson(truth(20_000)).astype(float))]
    found = hunt(spectra, [2400], settings=HuntSettings(pseudo_experiments=0, family=family))
    limits = cls_limits(found, errors=EXACT)
    assert limits.linearised is tangent
    assert ("tangent" in limits.method) is tangent
    assert limits.expected[0, 2] == pytest.approx(special.ndtri(0.975) * found.scan.error[0, 0], rel=0.2)


def test_errors_of_the_signal_loosen_limits(edges: Array, truth: Truth) -> None:
    found = hunted([np.round(truth(20_000))], edges, [2400])
    medians = [
        cls_limits(found, errors=errors).expected[0, 2]
        for errors in (
            EXACT,
            SignalErrors(scale=0.0, resolution=0.0, luminosity=0.1),
            SignalErrors(scale=0.0, resolution=0.0, luminosity=0.1, efficiency=0.3),
            SignalErrors(scale=(0.02, 0.02), resolution=0.0, luminosity=0.1, efficiency=0.3),
            SignalErrors(
                scale=[[2000, 0.01, 0.01], [2800, 0.09, 0.09]], resolution=0.2, luminosity=0.1, efficiency=0.3
            ),
        )
    ]
    assert (np.diff(medians) > 0).all(), medians


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "need efficiencies"),
        ({"efficiencies": [0.5, 0.4, 0.1]}, r"shape \(3,\); allowed: \(2,\)"),
        ({"efficiencies": [0.8, 0.4]}, "at most 1; found .*0.8"),
        ({"efficiencies": [0.8, -0.1]}, "0 or more"),
        ({"efficiencies": [0.0, 0.0]}, "above 0"),
        ({"efficiencies": [0.8, 0.1], "luminosity": 0.0}, "positive number of fb.*found 0"),
        ({"efficiencies": [0.8, 0.1], "confidence": 95.0}, "found 95"),
        ({"efficiencies": [0.8, 0.1], "masses": [900.0]}, "between 1530 and 6099 GeV; found 900"),
        (
            {"efficiencies": [0.8, 0.1], "errors": SignalErrors(region_efficiencies=(0.1,))},
            "2 regions need as many errors of their efficiencies; found 1",
        ),
        ({"efficiencies": [0.8, 0.1], "names": ["a", "a"]}, "found a, a"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    edges: Array, truth: Truth, options: dict[str, Any], message: str
) -> None:
    found = hunted([np.round(truth(2000)), np.round(truth(4000))], edges, [2400])
    with pytest.raises(InputError, match=message):
        cls_limits(found, **options)
