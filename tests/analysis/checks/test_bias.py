"""The bias test: it sees a function that is wrong, passes one that is right, and says where no other function can tell."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunch.analysis import Alternative, Bias, BumpHunt, HuntSettings, bias_test, fit_alternatives, hunt, other_families
from hunch.analysis.checks import bias as bias_module
from hunch.analysis.checks.bias import Share, different_truths, drawn_from, global_p, hunted_at, share_of, usual_error
from hunch.analysis.checks.bias_checks import bias_checks, bias_notes
from hunch.analysis.figures.check_figures import bias_figure
from hunch.analysis.spectra.bins import as_hist
from hunch.errors import InputError
from hunch.pieces import Pieces
from hunch.table import MJJ

Array = np.ndarray[Any, Any]
SQRT_S = 13_000.0


def counted(density: Any, edges: Array, events: float, seed: int = 5) -> Array:
    expected = density(0.5 * (edges[1:] + edges[:-1])) * np.diff(edges)
    return np.random.default_rng(seed).poisson(events * expected / expected.sum()).astype(float)


def exp3(m: Array) -> Array:
    return np.asarray(np.exp(-(m - 500) / 150) + 0.1 * np.exp(-(m - 500) / 350) + 0.01 * np.exp(-(m - 500) / 700))


def dijet(m: Array) -> Array:
    return np.asarray((1 - m / SQRT_S) ** 9 * (m / SQRT_S) ** -5.0)


def dplfall(m: Array) -> Array:
    return np.asarray((m / 2500) ** -4 / (1 + (m / 2500) ** 4))


def wiggles(m: Array) -> Array:
    return np.asarray(exp3(m) * (1 + 0.05 * np.sin(2 * np.pi * np.log(m) / 0.3)))


LOW = np.geomspace(500.0, 6000.0, 41)
HIGH = np.geomspace(1000.0, 6000.0, 31)


def hunted(*spectra: Array, edges: Array, masses: int = 9, experiments: int = 100, family: str = "dijet") -> BumpHunt:
    settings = HuntSettings(family=family, pseudo_experiments=experiments, seed=1)
    filled = edges[:-1][np.sum(spectra, axis=0) > 10]
    grid = np.geomspace(edges[0] * 1.05, filled[-1], masses)
    return hunt([as_hist(edges, s) for s in spectra], grid, settings=settings, progress=False)


@pytest.fixture(scope="module")
def three_exponentials() -> tuple[BumpHunt, Bias]:
    found = hunted(counted(exp3, LOW, 1e5), edges=LOW)
    return found, bias_test(found, ["region"], n=60)


def few_families(found: BumpHunt) -> list[list[Alternative]]:
    """Return two families of each region: what does not ask for all of them is quicker."""
    kept = ("log-polynomial", "sum of exponentials")
    return [[f for f in own if f.family in kept] for own in other_families(found)]


def words(of: Bias) -> dict[str, bool | None]:
    return {check.name.split(",")[1].split()[0]: check.passed for check in bias_checks(of, MJJ)}


def test_a_function_that_is_wrong_is_seen_by_other_truths(three_exponentials: tuple[BumpHunt, Bias]) -> None:
    """The dijet function describes three exponentials at 1e5 events, and is a sigma or more off at the low edge."""
    found, test = three_exponentials
    assert found.fit_p[0] > 0.05
    assert "sum of 3 exponentials" in {f.name for f in test.families}
    worst = max(test.families, key=lambda f: np.abs(f.bias).max())
    assert (worst.worst or (-1, -1))[:2] == (0, 0)
    assert np.abs(worst.bias[0, 0]).min() > 0.8
    assert worst.mean_coverage < 0.62
    said = words(test)
    assert said["yields"] is False
    assert said["coverage"] is False
    notes = bias_notes(test, MJJ)
    assert len(notes) >= 2
    assert "drawn from" in notes[0]


def test_a_function_that_is_right_passes() -> None:
    """A truth of the hunt's own family: what is put in comes back, with the error that is stated."""
    counts = counted(dijet, HIGH, 1e4, seed=7)
    found = hunted(counts, edges=HIGH)
    truth = fit_alternatives(counts, HIGH, sqrt_s=SQRT_S, template=found.templates[found.best], families=["dijet"])
    test = bias_test(found, ["region"], n=200, others=[truth])
    assert set(words(test).values()) == {True}
    assert bias_notes(test, MJJ) == []
    (family,) = test.families
    # 200 pulls have a mean known to 0.07, a width to 0.05
    assert np.abs(family.bias).max() < 0.35
    np.testing.assert_allclose(family.width, 1, atol=0.2)
    assert family.mean_coverage == pytest.approx(0.68, abs=0.04)
    np.testing.assert_allclose(family.sigma[0], found.scan.error[0, [0, 2, 4, 5, 7]], rtol=0.35)
    assert family.global_p_5.share == pytest.approx(0.05, abs=0.05)


def test_no_other_family_describes_wiggles_and_it_says_so() -> None:
    found = hunted(counted(wiggles, LOW, 1e6), edges=LOW, experiments=0)
    test = bias_test(found, ["inclusive"], n=50)
    assert (test.families, test.undescribed) == ((), ("inclusive",))
    (check,) = bias_checks(test, MJJ)
    assert (check.name, check.passed) == ("bias test, inclusive", None)
    assert check.found == "no other family describes these data"
    assert json.loads(json.dumps(test.as_dict()))["no_other_family_describes"] == ["inclusive"]


def test_the_same_seed_gives_the_same_test_and_another_another(three_exponentials: tuple[BumpHunt, Bias]) -> None:
    found, _ = three_exponentials
    others = few_families(found)
    one, again, other = (bias_test(found, ["r"], n=4, others=others, seed=seed).as_dict() for seed in (0, 0, 1))
    assert one == again
    assert one != other


def test_a_test_that_was_killed_goes_on(
    three_exponentials: tuple[BumpHunt, Bias], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = three_exponentials
    others, calls, real = few_families(found), [0], bias_module.hunted_at
    monkeypatch.setattr(bias_module, "BLOCK", 3)

    def hunted_at(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == stop:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(bias_module, "hunted_at", hunted_at)
    stop = 0
    whole = bias_test(found, ["r"], n=5, others=others).as_dict()
    blocks, calls[0], stop = calls[0], 0, 10
    with pytest.raises(KeyboardInterrupt):
        bias_test(found, ["r"], n=5, others=others, pieces=Pieces(tmp_path))
    calls[0], stop = 0, 0
    assert bias_test(found, ["r"], n=5, others=others, pieces=Pieces(tmp_path)).as_dict() == whole
    assert calls[0] == blocks - 9


def test_a_region_that_a_family_does_not_describe_is_drawn_from_the_hunts_own_fit() -> None:
    found = hunted(counted(wiggles, LOW, 1e6), counted(exp3, LOW, 2e3), edges=LOW, masses=6, experiments=0)
    others = few_families(found)
    test = bias_test(found, ["large", "small"], n=4, others=others)
    assert test.undescribed == ("large",)
    family = test.families[0]
    assert family.members[0] == ""
    assert family.name == family.members[1]
    assert np.isnan(family.bias[0]).all()
    assert np.isfinite(family.bias[1]).any()
    truths, _ = different_truths(found, others)
    drawn = drawn_from(found, truths[family.family])
    np.testing.assert_array_equal(drawn[0], found.background.expected[0])
    assert not np.allclose(drawn[1], found.background.expected[1])
    # without pseudo-experiments there is nothing to rank a p among
    assert family.global_p_5.n == 0
    names = [check.name for check in bias_checks(test, MJJ)]
    assert names[0] == "bias test, large"
    assert next(c for c in bias_checks(test, MJJ) if "global" in c.name).passed is None
    json.dumps(test.as_dict(), allow_nan=False)


def test_a_process_is_chosen_in_view_of_the_whole_scan() -> None:
    """The yield at one mass depends on what is found at the others; the masses that are asked for are those that come back."""
    found = hunted(counted(exp3, LOW, 1e5), edges=LOW, experiments=0, family="gaussian_process")
    counts = found.counts[None].repeat(2, axis=0)
    made = hunted_at(found, counts, np.array([1, 4]))
    np.testing.assert_allclose(made["signal"][1, 0], found.scan.signal[0, [1, 4]], rtol=1e-6)
    np.testing.assert_allclose(made["log_p"][0], found.log_combined[[1, 4]], rtol=1e-6)


def test_families_of_the_same_curve_are_drawn_from_once() -> None:
    """One exponential is both the exponential of degree 1 and a sum of one."""
    counts = counted(lambda m: np.exp(-m / 600), HIGH, 3e3)
    found = hunted(counts, edges=HIGH, masses=5, experiments=0)
    test = bias_test(found, ["r"], n=0)
    assert test.same["one exponential"] == "exponential of degree 1"
    assert test.families == ()


def test_few_events_in_a_window_are_stated_without_a_verdict(three_exponentials: tuple[BumpHunt, Bias]) -> None:
    _, test = three_exponentials
    assert words(test)["yields"] is words(test)["coverage"] is False
    few = dataclasses.replace(test, fewest=np.full_like(test.fewest, 3.0))
    assert words(few)["yields"] is words(few)["coverage"] is None
    at_high_masses = dataclasses.replace(test, fewest=np.array([[3.0, 90, 90, 90, 90]]))
    assert bias_checks(at_high_masses, MJJ)[0].found != bias_checks(test, MJJ)[0].found


def test_a_global_p_is_the_rank_among_the_null() -> None:
    null = np.array([0.4, 0.1, 0.2, 0.3])
    np.testing.assert_allclose(global_p(np.array([0.05, 0.1, 0.25, 0.9]), null), [1 / 5, 2 / 5, 3 / 5, 1])
    assert global_p(np.array([0.1]), None).size == 0


def test_a_share_has_its_binomial_interval() -> None:
    share = share_of(np.arange(1000) < 20)
    assert (share.count, share.n, share.share) == (20, 1000, 0.02)
    assert share.low < 0.013 < share.share < share.high
    assert not share.exceeds(0.013)
    assert Share(30, 1000, 0.03, 0.02, 0.04).exceeds(0.013)
    assert not share_of(np.empty(0, dtype=bool)).exceeds(0.013)


def test_the_usual_error_is_that_of_counting_where_fits_tell_none() -> None:
    truth, templates = np.array([[4.0, 4.0, 0.0]]), np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    error = np.array([[[2.0, np.nan]], [[4.0, np.nan]]])
    np.testing.assert_allclose(usual_error(error, truth, templates), [[3.0, 1.0]])
    np.testing.assert_allclose(usual_error(np.full((2, 1, 2), 1e9), truth, templates), [[np.sqrt(8), 1.0]])


def test_wrong_numbers_are_refused(three_exponentials: tuple[BumpHunt, Bias]) -> None:
    found, _ = three_exponentials
    with pytest.raises(InputError, match="-1 experiments"):
        bias_test(found, ["r"], n=-1)
    with pytest.raises(InputError, match="2 named regions"):
        bias_test(found, ["r", "s"], n=1)


@pytest.mark.slow
def test_a_broken_power_is_seen_where_events_are_many() -> None:
    edges = np.geomspace(1000.0, 8000.0, 41)
    found = hunted(counted(dplfall, edges, 1e6, seed=1), edges=edges, masses=25, experiments=1000)
    test = bias_test(found, ["r"], n=400)
    truth = {f.family: f for f in test.families}["broken power"]
    assert np.abs(truth.bias).max() > 0.6
    assert words(test)["yields"] is words(test)["global"] is False


def test_the_figure_has_a_mark_for_each_family_and_strength(three_exponentials: tuple[BumpHunt, Bias]) -> None:
    _, test = three_exponentials
    axes = bias_figure(test, MJJ)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [*(f.name for f in test.families), "0 injected", "2 injected", "5 injected"]
    unknown = dataclasses.replace(test.families[0], bias=np.full_like(test.families[0].bias, np.nan))
    assert unknown.worst is None
    assert bias_figure(dataclasses.replace(test, families=(unknown, *test.families[1:])), MJJ).get_xlabel()
