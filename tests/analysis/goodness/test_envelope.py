"""The envelope over background families: what stands in it, what it covers, and discrete profiling."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from hunch.analysis import (
    ALTERNATIVES,
    BumpHunt,
    HuntSettings,
    SignalShape,
    background_envelope,
    fit_alternatives,
    hunt,
    signal_templates,
)
from hunch.analysis.spectra.bins import as_hist

EDGES = np.linspace(1000.0, 5000.0, 41)
CENTRES = 0.5 * (EDGES[1:] + EDGES[:-1])
TEMPLATE = signal_templates(SignalShape(), [2100.0], EDGES)[0]
Array = np.ndarray[Any, Any]


def exponential(events: float, slope: float) -> Array:
    shape = np.exp(-(CENTRES - 1000) / slope)
    return np.asarray(events * shape / shape.sum())


def hunted(*spectra: Array, family: str = "dijet", spare_orders: int = 1) -> BumpHunt:
    settings = HuntSettings(family=family, pseudo_experiments=0, spare_orders=spare_orders)
    return hunt([as_hist(EDGES, s.astype(float)) for s in spectra], [2100.0], settings=settings)


def test_an_envelope_covers_more_often_than_one_family() -> None:
    """An exponential, hunted in with the dijet function: its bias is in the spread, and only there."""
    rng = np.random.default_rng(41)
    background, injected = exponential(20_000, 400), 60.0
    single = covered = n = 0
    for _ in range(60):
        # without an order to spare, which alone would cure most of it
        found = hunted(rng.poisson(background + injected * TEMPLATE), spare_orders=0)
        other = fit_alternatives(found.counts[0], EDGES, sqrt_s=13_000.0, template=TEMPLATE, families=["exponential"])
        envelope = background_envelope(found, [other])
        if not envelope.families[0][0].described:  # a fluctuation of 1 %
            continue
        n += 1
        error = found.scan.error[0, 0]
        single += abs(found.scan.signal[0, 0] - injected) < error
        covered += envelope.lowest[0] - error < injected < envelope.highest[0] + error
        assert envelope.lowest[0] <= found.scan.signal[0, 0] <= envelope.highest[0]
    assert n > 55
    assert (covered - single) / n > 0.1


def test_profiled_z_lies_between_the_families_best_with_and_without_signal() -> None:
    rng = np.random.default_rng(42)
    below = 0
    for strength in (0.0, 50.0, -50.0):
        background = exponential(20_000, 500) + strength * TEMPLATE
        envelope = background_envelope(hunted(rng.poisson(background), rng.poisson(background / 20)))
        for families, profiled in zip(envelope.families, np.abs(envelope.z_profiled), strict=True):
            left = [f for f in families if f.described]
            at_zero = min(left, key=lambda f: 2 * f.nll_alone + f.n_parameters)
            at_best = min(left, key=lambda f: 2 * f.nll + f.n_parameters)
            largest = max(abs(f.z) for f in left)
            assert abs(at_zero.z) - 1e-6 <= profiled <= abs(at_best.z) + 1e-6
            below += profiled < largest - 0.01
        assert np.sign(envelope.z_profiled[0]) == np.sign(
            min((f for f in envelope.families[0] if f.described), key=lambda f: 2 * f.nll + f.n_parameters).signal
        )
    assert below > 0


def test_one_family_alone_is_the_hunt_itself() -> None:
    found = hunted(np.random.default_rng(43).poisson(exponential(20_000, 900) + 120 * TEMPLATE), family="exponential")
    envelope = background_envelope(found, [()])
    np.testing.assert_allclose(envelope.z_profiled, found.scan.z[:, 0], atol=1e-6)
    np.testing.assert_array_equal(envelope.lowest, found.scan.signal[:, 0])
    np.testing.assert_array_equal(envelope.uncertainty, 0)
    assert envelope.as_dict()["regions"][0]["no_other_family"]


def test_families_that_do_not_describe_a_region_are_named_with_the_reason() -> None:
    """Polynomials of 12 degrees are too few for a spectrum that falls by decades; a bump of 500 is held against no family."""
    steep = np.random.default_rng(44).poisson(exponential(20_000, 250) + 500 * TEMPLATE)
    found = hunted(steep)
    by_name = {f.family: f for f in background_envelope(found).families[0]}
    assert list(by_name) == ["dijet", *(f for f in ALTERNATIVES if f != "dijet")]
    assert found.fit_p[0] < 0.01
    assert by_name["bernstein"].left_out.startswith("p = ")
    assert [by_name[f].left_out for f in ("dijet", "exponential", "log-polynomial", "sum of exponentials")] == [""] * 4


def test_where_no_family_is_left_there_is_no_number() -> None:
    waves = exponential(1_000_000, 700) * (1 + 0.05 * np.sin(CENTRES / 80))
    envelope = background_envelope(hunted(waves.round()))
    assert not any(f.described for f in envelope.families[0])
    assert np.isnan(envelope.z_profiled).all()
    assert np.isnan(envelope.uncertainty).all()
    said = json.loads(json.dumps(envelope.as_dict(), allow_nan=False))["regions"][0]
    assert said["z_profiled"] is None
    assert said["no_other_family"]
    assert said["families"][0]["left_out"].startswith("p ")


@pytest.mark.parametrize(
    ("low", "high", "bins", "left_out"),
    [(0.0, 4000.0, 30, "dijet"), (1500.0, 14_000.0, 30, "dijet"), (1500.0, 2500.0, 6, "UA2")],
)
def test_a_family_that_has_no_fit_in_these_bins_is_left_out(low: float, high: float, bins: int, left_out: str) -> None:
    edges = np.linspace(low, high, bins + 1)
    counts = np.random.default_rng(3).poisson(2000 * np.exp(-(edges[:-1] - low) / 600) + 5)
    settings = HuntSettings(family="exponential", pseudo_experiments=0)
    found = hunt([as_hist(edges, counts)], [0.5 * (low + high)], settings=settings, progress=False)
    envelope = background_envelope(found)
    assert left_out in {f.family for f in envelope.families[0] if not f.described} | ({"UA2"} if bins == 6 else set())
    assert np.isfinite(envelope.lowest).all()
    json.dumps(envelope.as_dict(), allow_nan=False)
