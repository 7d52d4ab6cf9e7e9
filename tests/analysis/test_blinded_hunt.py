"""A hunt with a blind window: nothing depends on what it holds, and unblinding takes exactly what was fixed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from hunch.analysis import HuntSettings, hunt, hunt_of, hunt_spectra
from hunch.analysis.blinded_hunt import blinded_result, hunt_blinded, stored_range
from hunch.analysis.fits.background import choose_background, fit_background
from hunch.analysis.fits.gaussian_process import GAUSSIAN_PROCESS, GaussianProcess
from hunch.analysis.significance.masked import bins_seen, filled, masked_background
from hunch.analysis.spectra.bins import as_hist
from hunch.errors import HunchError, InputError
from hunch.workflow.given_spectra import hunt_files, limit_folder

Array = np.ndarray[Any, Any]
Truth = Callable[..., Array]
WINDOW = (2500.0, 3000.0)


@pytest.fixture(scope="module")
def counts(edges: Array, truth: Truth) -> Array:
    return np.random.default_rng(3).poisson(np.stack([truth(20_000), truth(3_000)])).astype(np.float64)


def inside(edges: Array) -> Array:
    return np.asarray(~bins_seen(edges, WINDOW))


@pytest.mark.parametrize("family", ["dijet", GAUSSIAN_PROCESS, "bernstein"])
def test_what_the_window_holds_changes_nothing(family: str, counts: Array, edges: Array) -> None:
    made = []
    for held in (0, 7, 10_000):
        given = np.where(inside(edges), held, counts)
        spectra = {"a": as_hist(edges, given[0]), "b": as_hist(edges, given[1])}
        found = hunt_blinded(spectra, WINDOW, settings=HuntSettings(family=family), experiments=20)
        made.append(json.dumps(blinded_result(found), sort_keys=True))
    assert made[0] == made[1] == made[2]
    result = json.loads(made[0])
    assert result["best"]["mass"] is None
    assert "blind: 2438 to 3019 GeV is masked" in result["best"]["no_significance"]
    region = result["regions"]["regions"][0]
    hidden = np.array([n is None for n in region["counts"]])
    np.testing.assert_array_equal(hidden, inside(edges))
    # no p-value of a bump anywhere: those of the checks are of experiments
    assert {key for key in (*result["best"], *result["scan"]["regions"][0]) if key.startswith("p_local")} == set()
    if family == "bernstein":  # polynomials do not fall by three decades, which is said
        assert "a: the bernstein function fits the bins outside of the blind window with p " in result["notes"][0]
        return
    assert (region["fit"]["p_value"] > 0.01, result["notes"]) == (True, [])
    expected = np.array(region["expected"])[hidden].sum()
    assert expected == pytest.approx(counts[0, inside(edges)].sum(), rel=0.1)


def test_a_masked_fit_is_that_of_bins_that_hold_its_expectation(counts: Array, edges: Array) -> None:
    """Bins that hold what a fit expects there leave it where it is: an identity of the likelihood."""
    seen = ~inside(edges)
    fixed = HuntSettings(family=GAUSSIAN_PROCESS, process=GaussianProcess(widths=(0.1,), lengths=(0.3,)))
    masked = masked_background(counts, edges, seen, fixed)
    whole = choose_background(
        np.where(seen, counts, masked.expected), edges, sqrt_s=13_000.0, family=GAUSSIAN_PROCESS, process=fixed.process
    )
    np.testing.assert_allclose(masked.expected, whole.expected, rtol=2e-3)
    settings = HuntSettings(family="dijet")
    masked = masked_background(counts, edges, seen, settings)
    order = int(masked.order[0])
    whole = fit_background(np.where(seen, counts, masked.expected)[:1], edges, order, sqrt_s=13_000.0)
    np.testing.assert_allclose(masked.expected[0], whole.expected[0], rtol=2e-3)


def test_a_window_is_filled_by_a_power_law_through_its_neighbours(edges: Array) -> None:
    centres = 0.5 * (edges[1:] + edges[:-1])
    spectrum = 1e4 * (centres / 2000) ** -5 * np.diff(edges) / 50
    for window in (WINDOW, (1500.0, 1700.0), (5500.0, 6099.0)):
        seen = bins_seen(edges, window)
        given = np.where(seen, spectrum, 1e9)
        np.testing.assert_allclose(filled(given, edges, seen), np.where(seen, spectrum, np.round(spectrum)), atol=1.0)


@pytest.mark.parametrize(
    ("window", "told"),
    [
        ((3000.0, 2500.0), "low and then high are expected"),
        ((7000.0, 8000.0), "no bin lies there, the spectrum goes from 1530 to 6099 GeV"),
        ((1600.0, 6000.0), "hardly a bin beside it|leaves 1 of 33 bins of the fit range|too few"),
    ],
)
def test_a_window_that_leaves_nothing_is_refused(
    window: tuple[float, float], told: str, counts: Array, edges: Array
) -> None:
    with pytest.raises(InputError, match=told):
        hunt_blinded({"a": as_hist(edges, counts[0])}, window)


def test_unblinding_takes_the_range_as_it_was_fixed(counts: Array, edges: Array) -> None:
    spectra = {"a": as_hist(edges, counts[0]), "b": as_hist(edges, counts[1])}
    settings = HuntSettings(pseudo_experiments=20)
    blind = hunt_blinded(spectra, WINDOW, settings=settings, fit_range=(1687.0, 5663.0), experiments=20)
    result = blinded_result(blind) | {"configuration": {"sqrt_s": 13_000.0}}
    fixed = stored_range(json.loads(json.dumps(result)))
    assert fixed.edges == blind.fit_range.edges
    assert fixed.turn_on == blind.fit_range.turn_on
    opened = hunt_spectra(spectra, settings=settings, fit_range=fixed, progress=False)
    assert opened.fit_range == fixed
    assert opened.fit_range.chosen.startswith("fixed while 2438 to 3019 GeV was blind: ")
    np.testing.assert_array_equal(opened.hunt.counts, counts[:, 2:-2])
    with pytest.raises(InputError, match="has other bins than this spectrum"):
        hunt_spectra({"a": as_hist(edges[::2], counts[0, :16])}, settings=settings, fit_range=fixed)
    # limits and checks of a blind folder have the expectation in the window's place
    again, _ = hunt_of(result)
    np.testing.assert_allclose(again.counts[:, ~blind.seen], blind.background.expected[:, ~blind.seen], atol=0.5)


@pytest.mark.slow
def test_blind_and_open_in_folders(counts: Array, edges: Array, tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    file.write_text(json.dumps({"edges": edges.tolist(), "counts": counts[0].astype(int).tolist()}))
    blind, opened = tmp_path / "blind", tmp_path / "open"
    few: dict[str, Any] = {"pseudo_experiments": 40, "progress": False}
    made = hunt_files([str(file)], blind, blind=WINDOW, **few)
    assert made["blinded"]["window"] == [2438.0, 3019.0]
    page = (blind / "report.html").read_text(encoding="utf-8")
    assert "are masked: nothing here depends on what they hold" in page
    limits = limit_folder(blind, points=2)["signals"]["signal"]
    assert limits["blind"]
    assert set(limits["observed"]) == {None}
    assert all(row[2] > 0 for row in limits["expected"])
    assert "Expected limits" in (blind / "report.html").read_text(encoding="utf-8")
    result = hunt_files([str(file)], opened, unblind=blind, width=0.05, **few)
    assert result["fit_range"]["edges"] == made["fit_range"]["edges"]
    assert result["unblinded"]["window"] == made["blinded"]["window"]
    assert any("width was 0.035 while the window was blind and is 0.05" in note for note in result["notes"])
    assert result["best"]["p_global"] > 0
    with pytest.raises(HunchError, match="is no result of a hunt with --blind"):
        hunt_files([str(file)], tmp_path / "x", unblind=opened, **few)
    with pytest.raises(HunchError, match="--fit-range and --unblind cannot be together"):
        hunt_files([str(file)], tmp_path / "x", unblind=blind, fit_range=(1687.0, 5663.0), **few)


@pytest.mark.slow
def test_the_process_may_be_chosen_again_after_unblinding(edges: Array, truth: Truth) -> None:
    """Global p of spectra without signal whose range was fixed blind, width and length chosen anew with all bins, as in experiments."""
    rng = np.random.default_rng(71)
    p = []
    for seed in range(60):
        spectra = {"a": as_hist(edges, rng.poisson(truth(10_000)))}
        settings = HuntSettings(family=GAUSSIAN_PROCESS, pseudo_experiments=99, seed=seed)
        fixed = hunt_blinded(spectra, WINDOW, settings=settings, experiments=10).fit_range
        cut = slice(int(np.searchsorted(edges, fixed.low)), int(np.searchsorted(edges, fixed.high)))
        counts = as_hist(fixed.edges, np.asarray(spectra["a"].values())[cut])
        made = hunt([counts], np.geomspace(1700.0, 4000.0, 16), settings=settings.in_range(fixed), progress=False)
        assert made.global_p is not None
        p.append(made.global_p.p)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert stats.binom.sf((np.array(p) < 0.05).sum() - 1, len(p), 0.05) > 0.005
