"""The BumpHunter scan of 10,000 pseudo-experiments against pyBumpHunter, one thread each, in turns.

60 bins and 5 widths, on a falling spectrum like the one pyBumpHunter demonstrates its scan with. Both draw the
experiments and scan them. t, window and global p have to agree on pyBumpHunter's own experiments. `floor` is one
incomplete gamma function a window with an excess, which a scan that discards no window cannot undercut.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from typing import Any

import hist
import numpy as np
from scipy import special

from benchmarks.__main__ import Unavailable
from hunch.analysis import bump_hunter, scan_windows
from hunch.analysis.significance.bumphunter import window_sums, windows

BINS, WIDTHS, EXPERIMENTS, EVENTS, REPEATS = 60, (2, 3, 4, 5, 6), 10_000, 100_000, 3


def spectrum() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return edges, observed counts with a small bump, and the expected background."""
    edges = np.linspace(0.0, 20.0, BINS + 1)
    shape = np.exp(-edges[:-1] / 2) - np.exp(-edges[1:] / 2)
    background = EVENTS * shape / shape.sum()
    middle = 0.5 * (edges[1:] + edges[:-1])
    signal = 150 * np.exp(-0.5 * ((middle - 5.5) / 0.35) ** 2) / 2.63
    return edges, np.random.default_rng(1).poisson(background + signal), background


def ours(edges: np.ndarray, data: np.ndarray, background: np.ndarray, seed: int) -> tuple[float, Any]:
    """Return seconds and the result."""
    histogram = hist.Hist(hist.axis.Variable(edges), data=data.astype(float))
    start = time.perf_counter()
    result = bump_hunter(histogram, background, widths=WIDTHS, n=EXPERIMENTS, seed=seed)
    return time.perf_counter() - start, result


def theirs(peer: Any, edges: np.ndarray, data: np.ndarray, background: np.ndarray, seed: int) -> tuple[float, Any]:
    """Return seconds and pyBumpHunter's object after its scan."""
    hunter = peer.BumpHunter1D(
        rang=(edges[0], edges[-1]), width_min=WIDTHS[0], width_max=WIDTHS[-1], npe=EXPERIMENTS, nworker=1, seed=seed
    )
    hunter.bins = edges
    with contextlib.redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        hunter.bump_scan(data, background, is_hist=True)
        return time.perf_counter() - start, hunter


def floor(background: np.ndarray) -> float:
    """Return the seconds that the incomplete gamma functions of all windows with an excess take."""
    low, high = windows(0, BINS, BINS, widths=WIDTHS, step=1)
    counts = np.random.default_rng(2).poisson(background, (EXPERIMENTS, BINS)).astype(float)
    observed, expected = window_sums(counts, low, high), window_sums(background[None], low, high)
    excess = observed > expected
    n, b = observed[excess], np.broadcast_to(expected, observed.shape)[excess]
    start = time.perf_counter()
    special.gammainc(n, b)
    return time.perf_counter() - start


def run() -> list[dict[str, Any]]:
    """Return the lines: time of the whole search, and against the floor; raises where the two searches disagree."""
    try:
        import pyBumpHunter
    except ImportError as error:
        raise Unavailable("pyBumpHunter is not installed: pip install pyBumpHunter") from error
    edges, data, background = spectrum()
    seconds: list[tuple[float, float, float]] = []
    global_p: list[tuple[float, float]] = []
    for seed in range(1, REPEATS + 1):
        reference, hunter = theirs(pyBumpHunter, edges, data, background, seed)
        mine, result = ours(edges, data, background, seed)
        seconds.append((mine, reference, floor(background)))
        global_p.append((result.p_global, hunter.global_Pval))
    np.random.seed(REPEATS)  # noqa: NPY002 - how pyBumpHunter draws
    drawn = np.random.poisson(background[:, None], (BINS, EXPERIMENTS)).T  # noqa: NPY002
    again = scan_windows(np.vstack([data, drawn]), background, widths=WIDTHS)
    worst = float(np.abs(again.t - hunter.t_ar).max())
    same = np.mean((again.low == hunter.min_loc_ar) & (again.high - again.low == hunter.min_width_ar))
    mine, reference, bare = (float(np.median(column)) for column in zip(*seconds, strict=True))
    shared_p = float((again.t[1:] >= again.t[0]).mean())
    p, their_p = np.mean(global_p, axis=0)
    error = np.sqrt(p * (1 - p) / (REPEATS * EXPERIMENTS))
    print(
        f"t of {len(again.t)} spectra within {worst:.1e}, {same:.2%} the same window; global p of the same experiments "
        f"{shared_p:.4f} and {hunter.global_Pval:.4f}, of {REPEATS} times its own {p:.4f} and {their_p:.4f} +- {error:.4f}",
        file=sys.stderr,
    )
    if worst > 1e-9 or same < 1 or shared_p != hunter.global_Pval:
        raise RuntimeError(f"the searches disagree: t by {worst}, the same window in {same:.2%}, p {shared_p}")
    name = "bumphunter_10000_experiments_seconds"
    return [
        {"name": name, "ours": mine, "reference": reference, "ratio": reference / mine, "bar": 5.0, "unit": "s"},
        {
            "name": "bumphunter_incomplete_gamma_floor",
            "ours": mine,
            "reference": bare,
            "ratio": bare / mine,
            "bar": None,
            "unit": "s",
        },
    ]
