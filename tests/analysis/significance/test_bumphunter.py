"""The BumpHunter scan against a loop over all windows, against pyBumpHunter, and its global p under no signal."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pytest
import uproot
from scipy import special, stats

from hunch.analysis import bump_hunter, scan_windows
from hunch.analysis.significance.bumphunter import log_tail
from hunch.errors import InputError

Array = np.ndarray[Any, Any]
PYBUMPHUNTER_T, PYBUMPHUNTER_WINDOW = 8.659847913307976, (16, 20)
"""What pyBumpHunter 0.5.1 finds on its own toy spectrum: 60 bins from 0 to 20, widths 2 to 6."""
PYBUMPHUNTER_P, PYBUMPHUNTER_N = 0.0174, 10_000


def spectrum_of(counts: Array, edges: Array | None = None) -> hist.Hist[Any]:
    edges = np.linspace(0, 20, len(counts) + 1) if edges is None else edges
    return hist.Hist(hist.axis.Variable(edges), data=np.asarray(counts, dtype=float))


def falling(bins: int, events: float) -> Array:
    shape = np.exp(-np.linspace(0, 7, bins))
    return np.asarray(events * shape / shape.sum())


def slowly(
    counts: Array, background: Array, widths: list[int], *, deficit: bool, sidebands: int | None
) -> tuple[float, int, int]:
    """Do what the paper says, window by window, with scipy's Poisson distribution."""
    margin = sidebands or 0
    best = (0.0, margin, margin + widths[0])
    for width in widths:
        for low in range(margin, len(counts) - margin - width + 1):
            n, b = counts[low : low + width].sum(), background[low : low + width].sum()
            if sidebands is not None:
                b *= (counts.sum() - n) / (background.sum() - b)
            if deficit and n < b:
                t = -stats.poisson.logcdf(n, b)
            elif not deficit and n > b:
                t = -stats.poisson.logsf(n - 1, b)
            else:
                continue
            if t > best[0] + 1e-12:
                best = (float(t), low, low + width)
    return best


@pytest.mark.parametrize("deficit", [False, True])
@pytest.mark.parametrize("sidebands", [None, 0, 2])
@pytest.mark.parametrize("events", [30, 3000, 3e6])
def test_same_window_and_t_as_a_loop_over_all(
    deficit: bool, sidebands: int | None, events: float, rng: np.random.Generator
) -> None:
    background = falling(25, events)
    spread = 0.1 if events < 1e5 else 0.003  # scipy's logarithm of a tail ends at 1e-308
    counts = rng.poisson(background * rng.uniform(1 - spread, 1 + spread, (12, 1)), size=(12, 25))
    found = scan_windows(counts, background, widths=[1, 2, 5], deficit=deficit, sidebands=sidebands)
    for i, row in enumerate(counts):
        t, low, high = slowly(row, background, [1, 2, 5], deficit=deficit, sidebands=sidebands)
        assert found.t[i] == pytest.approx(t, rel=1e-9)
        assert (found.low[i], found.high[i]) == (low, high)
        assert found.observed[i] == row[low:high].sum()
        if sidebands is None:
            assert found.expected[i] == pytest.approx(background[low:high].sum(), rel=1e-12)


def test_one_background_for_each_spectrum(rng: np.random.Generator) -> None:
    background = falling(30, 2000) * rng.uniform(0.8, 1.2, (450, 30))
    counts = rng.poisson(background)
    together = scan_windows(counts, background)
    for i in (0, 199, 200, 449):  # both sides of a block's end
        alone = scan_windows(counts[i], background[i])
        assert (alone.t[0], alone.low[0], alone.high[0]) == (together.t[i], together.low[i], together.high[i])


@pytest.mark.parametrize(("step", "low"), [(1, 7), (2, 6), (4, 8), ("half", 6), ("full", 8)])
def test_steps_leave_out_windows(step: Any, low: int) -> None:
    counts, background = np.full(12, 10), np.full(12, 10.0)
    counts[7:11] += np.array([12, 13, 8, 5])
    found = scan_windows(counts, background, widths=[4], step=step)
    assert (found.low[0], found.high[0]) == (low, low + 4)


def summed(n: float, b: float, *, deficit: bool) -> float:
    """Return the logarithm of a Poisson tail, term by term."""
    terms = np.arange(0, n + 1) if deficit else np.arange(n, n + 5000)
    return float(special.logsumexp(stats.poisson.logpmf(terms, b)))


@pytest.mark.parametrize("deficit", [False, True])
def test_tails_near_and_far_beyond_the_smallest_double(deficit: bool) -> None:
    b = np.full(60, 1200.0)
    n = b - np.linspace(1, 1200, 60).round() if deficit else b + np.linspace(1, 4000, 60).round()
    tail = log_tail(n, b, deficit=deficit)
    expected = [summed(x, y, deficit=deficit) for x, y in zip(n, b, strict=True)]
    assert min(expected) < np.log(1e-310) < np.log(1e-280) < -30 < max(expected)
    np.testing.assert_allclose(tail, expected, rtol=1e-10)


def test_a_window_beyond_the_smallest_double_is_still_compared() -> None:
    found = scan_windows([0, 5000, 0, 5001], [1.0, 1.0, 1.0, 1.0], widths=[1])
    assert (found.low[0], found.high[0]) == (3, 4)
    assert found.t[0] == pytest.approx(-summed(5001, 1.0, deficit=False), rel=1e-12)


def test_bounds_of_the_tail_hold(rng: np.random.Generator) -> None:
    """What lets windows be discarded: Q(sqrt(2 D(n))) < P(N >= n) < Q(sqrt(2 D(n - 1)))."""
    b = np.exp(rng.uniform(-7, 14, 100_000))
    n = rng.poisson(b * rng.uniform(1, 1.5, b.size)).astype(float)
    use = (n - 1 > b) & (stats.poisson.logsf(n - 1, b) > -600)
    n, b = n[use], b[use]
    tail = log_tail(n, b)
    assert np.all(special.log_ndtr(-np.sqrt(2 * special.kl_div(n, b))) < tail)
    assert np.all(tail < special.log_ndtr(-np.sqrt(2 * special.kl_div(n - 1, b))))
    assert np.all(special.kl_div(n, b) <= (n - b) ** 2 / (2 * b) * (1 + 1e-12))


def test_spectrum_of_pybumphunter(shared_data: Callable[[str], Path]) -> None:
    """t, window and global p as pyBumpHunter gave them, whether or not it is installed."""
    edges = np.linspace(0, 20, 61)
    with uproot.open(shared_data("pybumphunter_data.root")) as file:
        data, background = (np.histogram(file[k][k].array(library="np"), edges)[0] for k in ("data", "bkg"))
    found = bump_hunter(spectrum_of(data, edges), background, widths=range(2, 7), n=10_000, seed=1)
    assert found.t == pytest.approx(PYBUMPHUNTER_T, rel=1e-12)
    assert found.bins == PYBUMPHUNTER_WINDOW
    assert found.window == pytest.approx((edges[16], edges[20]))
    assert (found.observed, found.expected) == (data[16:20].sum(), background[16:20].sum())
    assert found.p_local == pytest.approx(np.exp(-PYBUMPHUNTER_T))
    error = np.sqrt(PYBUMPHUNTER_P * (1 - PYBUMPHUNTER_P) / PYBUMPHUNTER_N + found.p_global_error**2)
    assert abs(found.p_global - PYBUMPHUNTER_P) < 4 * error
    assert not found.is_bound


@pytest.mark.parametrize("deficit", [False, True])
@pytest.mark.parametrize("sidebands", [None, 0, 2])
@pytest.mark.parametrize("step", [1, "half"])
def test_against_pybumphunter_on_random_spectra(deficit: bool, sidebands: int | None, step: Any) -> None:
    peer = pytest.importorskip("pyBumpHunter", reason="pyBumpHunter is an optional peer: pip install pyBumpHunter")
    for seed in range(2):
        background = falling(40, 10 ** (2 + 4 * seed)) * np.random.default_rng(seed).uniform(0.8, 1.2, 40)
        data = np.random.default_rng(seed).poisson(background)
        theirs = peer.BumpHunter1D(
            rang=(0, 20),
            mode="deficit" if deficit else "excess",
            width_min=1,
            width_max=9,
            scan_step=step,
            npe=200,
            nworker=1,
            seed=seed,
            use_sideband=sidebands is not None,
            sideband_width=sidebands or None,
        )
        theirs.bins = np.linspace(0, 20, 41)
        with contextlib.redirect_stdout(io.StringIO()):
            theirs.bump_scan(data, background, is_hist=True)
        np.random.seed(seed)  # noqa: NPY002 - how pyBumpHunter draws
        drawn = np.random.poisson(background[:, None], (40, 200)).T  # noqa: NPY002
        found = scan_windows(
            np.vstack([data, drawn]),
            background,
            widths=range(1, 10),
            step=step,
            deficit=deficit,
            sidebands=sidebands,
        )
        # of a deficit pyBumpHunter takes 1 - P(n + 1, b), which has 16 digits after the point and not of the tail
        if deficit:
            np.testing.assert_allclose(np.exp(-found.t), theirs.min_Pval_ar, rtol=1e-10, atol=1e-15)
        else:
            np.testing.assert_allclose(found.t, theirs.t_ar, rtol=1e-10)
        np.testing.assert_array_equal(found.low, theirs.min_loc_ar)
        np.testing.assert_array_equal(found.high - found.low, theirs.min_width_ar)


@pytest.mark.parametrize("sidebands", [None, 0])
def test_global_p_is_uniform_under_no_signal(sidebands: int | None) -> None:
    background = falling(20, 500)
    outer = np.random.default_rng(4).poisson(background, (1500, 20))
    inner = np.random.default_rng(5).poisson(background, (4000, 20))
    t = scan_windows(inner, background, sidebands=sidebands).t
    p = np.array([(1 + (t >= found).sum()) / 4001 for found in scan_windows(outer, background, sidebands=sidebands).t])
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert abs((p < 0.05).mean() - 0.05) < 0.02
    found = bump_hunter(spectrum_of(outer[0]), background, sidebands=sidebands, n=2000)
    assert abs(found.p_global - p[0]) < 4 * np.sqrt(2) * max(found.p_global_error, 0.001)


def test_a_background_that_was_fitted_is_fitted_again() -> None:
    """Without the refit the global p of a fitted background is too large; with it, it is uniform."""
    shape = falling(20, 1.0)

    def refit(counts: Array) -> Array:
        return np.asarray(counts.sum(axis=1, keepdims=True) * shape)

    outer = np.random.default_rng(6).poisson(300 * shape, (100, 20))
    found = [
        [bump_hunter(spectrum_of(row), refit(row[None])[0], refit=r, n=300, seed=i).p_global for r in (refit, None)]
        for i, row in enumerate(outer)
    ]
    again, once = np.array(found).T
    assert stats.kstest(again, "uniform").pvalue > 0.01
    assert once.mean() > again.mean() + 0.005


def test_a_planted_bump_is_found_and_its_p_is_a_bound() -> None:
    background = falling(40, 10_000)
    counts = np.random.default_rng(7).poisson(background)
    counts[20:23] += np.array([25, 50, 25])
    found = bump_hunter(spectrum_of(counts), background, widths=range(1, 8), n=500)
    low, high = found.bins
    assert low <= 20
    assert high >= 23
    assert found.z_local > 5
    assert found.is_bound
    assert found.p_global == 1 / 501
    assert found.experiments.shape == (500,)
    assert not found.deficit
    hole = background.round().astype(int)
    hole[12:15] //= 2
    found = bump_hunter(spectrum_of(hole), background, widths=[3], deficit=True, n=200)
    assert (found.bins, found.is_bound, found.deficit) == ((12, 15), True, True)


def test_no_excess_anywhere_has_p_one() -> None:
    found = bump_hunter(spectrum_of(np.zeros(10)), np.full(10, 3.0), n=50)
    assert (found.t, found.p_local, found.p_global, found.is_bound) == (0, 1, 1, False)
    # all events in the one window that leaves nothing outside: the sidebands say nothing
    assert scan_windows([0, 7, 0], [1.0, 1.0, 1.0], widths=[1], sidebands=0).t[0] == 0


def test_the_seed_alone_decides(rng: np.random.Generator) -> None:
    counts = rng.poisson(falling(20, 400))
    a, b, c = (bump_hunter(spectrum_of(counts), falling(20, 400), n=300, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(a.experiments, b.experiments)
    assert not np.array_equal(a.experiments, c.experiments)


@pytest.mark.parametrize(
    ("counts", "background", "options", "match"),
    [
        ([1, 2, 3], [1.0, 2.0], {}, "shape"),
        ([], [], {}, "shape"),
        ([1, -2, 3], [1.0, 2.0, 3.0], {}, "negative or fractional"),
        ([1, 2.5, 3], [1.0, 2.0, 3.0], {}, "negative or fractional"),
        ([1, 2, 3], [1.0, np.nan, 3.0], {}, "background of bin 1"),
        ([1, 2, 3], [1.0, -0.5, 3.0], {}, "background of bin 1"),
        ([1, 2, 3], [0.0, 0.0, 0.0], {}, "background is empty"),
        ([1, 2, 3], [0.0, 2.0, 3.0], {}, "events outside of bins 1 to 2"),
        ([1, 2, 3, 1], [1.0, 0.0, 3.0, 1.0], {}, "bins 1 to 1, where no background"),
        ([1, 2, 3], [1.0, 2.0, 3.0], {"widths": [0, 1]}, "widths of windows"),
        ([1, 2, 3], [1.0, 2.0, 3.0], {"widths": [4]}, "widths of windows"),
        ([1, 2, 3], [1.0, 2.0, 3.0], {"widths": []}, "widths of windows"),
        ([1, 2, 3], [1.0, 2.0, 3.0], {"step": 0}, "step of the windows"),
        ([1, 2, 3], [1.0, 2.0, 3.0], {"step": "third"}, "step of the windows"),
        ([1, 2, 3], [1.0, 2.0, 3.0], {"sidebands": 1, "widths": [2]}, "no window of 2"),
        ([1, 2, 3], [1.0, 2.0, 3.0], {"sidebands": -1}, "sidebands"),
    ],
)
def test_what_is_no_spectrum_is_refused(counts: Any, background: Any, options: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        scan_windows(counts, background, **options)


def test_weighted_spectra_and_too_few_experiments_are_refused() -> None:
    weighted = hist.Hist(hist.axis.Regular(4, 0, 4), storage=hist.storage.Weight())
    weighted.fill([0.5, 1.5, 2.5], weight=[0.3, 2.0, 1.0])
    with pytest.raises(InputError, match="weight"):
        bump_hunter(weighted, [1.0, 1.0, 1.0, 1.0])
    with pytest.raises(InputError, match="pseudo-experiments"):
        bump_hunter(spectrum_of(np.ones(4)), np.ones(4), n=0)
