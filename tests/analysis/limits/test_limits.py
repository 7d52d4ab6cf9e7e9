"""Limits against closed forms, pseudo-data and the batched engine; the workspaces as the `pyhf` command line reads them."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyhf
import pytest
from scipy import optimize, special, stats

from hunch.analysis import BumpHunt, HuntSettings, SignalShape, hunt, signal_templates
from hunch.analysis.figures.brazil_band import limit_figure
from hunch.analysis.limits.cls import asymptotic_limits, cls_limits, model_cls, model_discovery_p, use_scipy
from hunch.analysis.limits.model import LimitModel, limit_model, write_workspaces
from hunch.analysis.limits.signals import Signal, notes_of
from hunch.analysis.spectra.bins import as_hist
from hunch.errors import InputError

Array = np.ndarray[Any, Any]
Truth = Callable[..., Array]
SIGMAS = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])


def hunted(counts: Sequence[Array], edges: Array, masses: Sequence[float]) -> BumpHunt:
    spectra = [as_hist(edges, np.asarray(c, dtype=float)) for c in counts]
    return hunt(spectra, masses, settings=HuntSettings(pseudo_experiments=0))


def model_of(found: BumpHunt, mass: float, **options: Any) -> LimitModel:
    model = limit_model(found, mass, **options)
    assert isinstance(model, LimitModel), model
    return model


def counting(background: float) -> Any:
    signal = {"name": "signal", "data": [20.0], "modifiers": [{"name": "mu", "type": "normfactor", "data": None}]}
    samples = [signal, {"name": "background", "data": [background], "modifiers": []}]
    spec = {
        "channels": [{"name": "window", "samples": samples}],
        "parameters": [{"name": "mu", "bounds": [[0, 100]], "inits": [1]}],
    }
    return pyhf.Model(spec, poi_name="mu")


def test_counting_limits_are_those_of_the_closed_form_and_of_pyhf() -> None:
    use_scipy()
    model, b = counting(100.0), 100.0
    # eq. 66 of arXiv:1007.1727 with a known background, data as expected of it
    for n in (100.0, 90.0, 115.0):
        found = asymptotic_limits(model, [n], 0.05) * 20
        for value, sigma in zip(found[1:], SIGMAS, strict=True):
            wanted = special.ndtri(1 - 0.05 * special.ndtr(sigma)) + sigma
            exact = optimize.brentq(lambda s, w=wanted: np.sqrt(2 * (s - b * np.log1p(s / b))) - w, 1, 200)
            assert value == pytest.approx(exact, rel=2e-3)
        # the exact ratio of Poisson probabilities, half of the observed bin's: asymptotics know no steps
        exact = optimize.brentq(lambda s, n=n: mid_cdf(n, s + b) / mid_cdf(n, b) - 0.05, 1, 100)
        assert found[0] == pytest.approx(exact, rel=0.02)
        observed, expected = pyhf.infer.hypotest(
            found[0] / 20, [n], model, test_stat="qtilde", return_expected_set=True
        )
        assert float(observed) == pytest.approx(0.05, rel=5e-3)
        again = pyhf.infer.hypotest(found[5] / 20, [n], model, test_stat="qtilde", return_expected_set=True)[1]
        assert float(again[4]) == pytest.approx(0.05, rel=5e-3)
        assert float(expected[0]) < float(expected[4])


def mid_cdf(n: float, mean: float) -> float:
    return float(stats.poisson.cdf(n, mean) - 0.5 * stats.poisson.pmf(n, mean))


def test_median_limit_is_1_96_errors_of_the_simultaneous_fit(edges: Array, truth: Truth) -> None:
    # the window's eigenvectors must carry all that the sidebands do not know of the background
    found = hunted([np.round(truth(200_000))], edges, [2200, 3400])
    set_at = cls_limits(found, scale_error=0, resolution_error=0)
    np.testing.assert_allclose(set_at.expected[:, 2], special.ndtri(0.975) * found.scan.error[0], rtol=0.03)
    np.testing.assert_allclose(set_at.observed, set_at.expected[:, 2], rtol=0.05)
    assert (np.diff(set_at.expected, axis=1) > 0).all()
    assert cls_limits(found).expected[0, 2] > set_at.expected[0, 2]


def test_observed_limits_fill_the_band_and_do_not_exclude_the_truth(edges: Array, truth: Truth) -> None:
    rng = np.random.default_rng(5)
    mass, n = 2600.0, 60
    coarse = edges[:-1:2]  # pairs of bins: half the time
    template = signal_templates(SignalShape(), [mass], coarse)[0]
    expected = truth(8000)[:-1].reshape(-1, 2).sum(axis=1)
    asimov = hunted([np.round(expected)], coarse, [mass])
    band = cls_limits(asimov, scale_error=0, resolution_error=0).expected[0]
    inside = covered = 0
    for _ in range(n):
        # one fit's order for all: the F-test is no part of what is checked
        quiet = dataclasses.replace(asimov, counts=rng.poisson(expected)[None].astype(float))
        model = model_of(quiet, mass, scale_error=0, resolution_error=0)
        inside += model_cls(model, band[1] / model.unit)[0] > 0.05 > model_cls(model, band[3] / model.unit)[0]
        loud = dataclasses.replace(asimov, counts=rng.poisson(expected + band[2] * template)[None].astype(float))
        model = model_of(loud, mass)
        covered += model_cls(model, band[2] / model.unit)[0] > 0.05
    print(f"in the 1 sigma band: {inside}/{n}; truth not excluded: {covered}/{n}")  # noqa: T201
    # 99 % binomial intervals of 0.683 and 0.95 (CLs covers that or more)
    assert stats.binom.ppf(0.005, n, 0.683) <= inside <= stats.binom.ppf(0.995, n, 0.683)
    assert covered >= stats.binom.ppf(0.005, n, 0.95)


def test_joint_discovery_agrees_with_the_batched_engine(edges: Array, truth: Truth) -> None:
    rng = np.random.default_rng(3)
    compared = 0
    for events, mass, size in [(5e3, 2200, 3), (5e3, 3000, 4), (5e4, 1900, 2), (5e4, 3300, 5), (5e5, 3000, 2.5)]:
        expected = truth(events)
        template = signal_templates(SignalShape(), [mass], edges)[0]
        signal = size * np.sqrt((expected * template).sum() / (template**2).sum())
        found = hunted([rng.poisson(expected + signal * template)], edges, [mass])
        z = float(found.scan.z[0, 0])
        if z <= 0:
            continue
        p = model_discovery_p(model_of(found, mass, scale_error=0, resolution_error=0))
        assert p is not None
        assert abs(stats.norm.isf(p) - z) < max(0.02 * z, 0.04), (events, mass, z)
        compared += 1
    assert compared >= 4


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
    found = hunted([rng.poisson(truth(n)) for n in (2000, 6000)], edges, [2400])
    model = model_of(found, 2400, efficiencies=[0.6, 0.2], names=["tight", "loose"])
    (path,) = write_workspaces([model], tmp_path / "workspaces")
    program = Path(sys.executable).with_name("pyhf")
    said = subprocess.run([program, "cls", path], capture_output=True, text=True, check=True, timeout=120)
    answer = json.loads(said.stdout)
    observed, expected = model_cls(model, 1.0)
    assert answer["CLs_obs"] == pytest.approx(observed, rel=1e-4)
    assert answer["CLs_exp"] == pytest.approx(expected.tolist(), rel=1e-4)
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


def test_a_mass_without_a_model_is_counted_and_the_rest_keep_theirs(edges: Array, truth: Truth) -> None:
    counts = np.where(edges[:-1] < 3300, np.round(truth(3000)), 0)
    found = hunted([counts], edges, [2200, 5700])
    with_lumi = cls_limits(found, luminosity=100.0)
    assert with_lumi.n_failed == 1
    assert list(with_lumi.failures) == [5700.0]
    assert "sidebands know" in with_lumi.failures[5700.0]
    assert np.isnan(with_lumi.expected[1]).all()
    assert with_lumi.expected_fb is not None
    assert with_lumi.observed_fb is not None
    np.testing.assert_allclose(with_lumi.expected_fb[0] * 100, with_lumi.expected[0])
    np.testing.assert_allclose(with_lumi.observed_fb[0] * 100, with_lumi.observed[0])
    assert with_lumi.asymptotic.tolist() == [True, False]
    answer = json.loads(json.dumps(with_lumi.as_dict(), allow_nan=False))
    assert answer["observed"][1] is None
    assert answer["expected"][1] == [None] * 5
    assert answer["failed"] == 1
    assert answer["failures"][0]["mass"] == 5700


def test_where_a_region_with_signal_cannot_be_used_there_is_no_limit(edges: Array, truth: Truth) -> None:
    """Without it the limit would be that of a tenth of the signal, ten times as high, and nothing would say so."""
    empty_above = np.where(edges[:-1] < 3300, np.round(truth(3000)), 0)
    found = hunted([empty_above, np.round(truth(3000))], edges, [2200, 5400])
    names = ["most", "rest"]
    limits = cls_limits(found, efficiencies=[0.86, 0.14], names=names)
    assert list(limits.failures) == [5400.0]
    assert np.isnan(limits.expected[1]).all()
    assert np.isnan(limits.observed[1])
    assert limits.failures[5400.0].startswith(
        "86 % of the signal lies in regions whose background is not determined (most: "
    )
    note = limits.note("x", found.settings.observable)
    assert note is not None
    assert note.startswith("x: no limit at 1 of 2 masses, 5400 GeV: 86 %")
    assert limit_model(found, 5400, efficiencies=[0.86, 0.14], names=names) == limits.failures[5400.0]
    assert notes_of({"x": limits}, [Signal("x", np.array([0.86, 0.14]))], found.settings.observable) == [note]
    axes = limit_figure(limits, "x")
    cross = next(line for line in axes.get_lines() if line.get_label() == "no limit")
    assert cross.get_xdata() == pytest.approx([5400.0])
    assert axes.get_xlim()[1] > 5400
    assert axes.get_xlim()[0] < 2200
    # next to nothing of the signal makes no difference, and is said where it is left out
    little = cls_limits(found, efficiencies=[0.01, 0.86], names=names)
    assert little.note("x") is None
    assert list(little.dropped[5400.0]) == ["most"]
    assert little.expected[1, 2] == pytest.approx(cls_limits(found, efficiencies=[0.0, 0.86]).expected[1, 2], rel=1e-2)


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
        ({"efficiencies": [0.8, 0.1], "scale_error": -0.01}, "scale error .* found -0.01"),
        ({"efficiencies": [0.8, 0.1], "names": ["a", "a"]}, "found a, a"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    edges: Array, truth: Truth, options: dict[str, Any], message: str
) -> None:
    found = hunted([np.round(truth(2000)), np.round(truth(4000))], edges, [2400])
    with pytest.raises(InputError, match=message):
        cls_limits(found, **options)
