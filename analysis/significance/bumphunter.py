"""The BumpHunter statistic (arXiv:1101.0390): the most unlikely window of a binned spectrum, and how often one is seen.

Windows of variable width slide over the bins; the local p of a window is the Poisson tail of its events, and the
statistic of a spectrum is t = -ln(min p). It needs no signal shape, only the expected background. The smallest p is no
significance by itself: its distribution comes from pseudo-experiments. A background that was fitted to the data has to
be fitted again to each of them (`refit`), else the answer is conservative: the fit has absorbed part of the data's
fluctuations and none of theirs.

Few windows need an incomplete gamma function. With D(n) = n ln(n/b) - n + b, the tail lies between two normal ones,
Q(sqrt(2 D(n))) < P(N >= n) < Q(sqrt(2 D(n - 1))) for n > b (Short 2013, doi:10.1155/2013/412958, theorem 2), so a
window whose lower bound is above another's upper bound cannot have the smallest p. The bound D(n) <= (n - b)^2 / 2b
discards most of them before any logarithm is taken.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import hist
import numpy as np
import numpy.typing as npt
from scipy import special
from tqdm import tqdm

from ...errors import InputError
from ..fits.log_p import p_of_log, stated_p, z_of_log
from ..p_values.combination import z_value
from .bumphunt import stack

__all__ = ["BumpHunterResult", "WindowScan", "bump_hunter", "log_tail", "scan_windows"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Refit = Callable[[Floats], Floats]
BLOCK = 200  # spectra scanned together: their windows stay in the cache
SMALLEST = 1e-290  # below, the incomplete gamma function loses digits


@dataclass(frozen=True, repr=False)
class WindowScan:
    """The most unlikely window of each of n spectra, all arrays (n,).

    t: -ln of the smallest local p, 0 where no window has an excess; low, high: its bins, high excluded; observed,
    expected: events in it, the expectation after normalisation to the sidebands where that was asked for.
    """

    t: Floats
    low: Integers
    high: Integers
    observed: Floats
    expected: Floats

    def __repr__(self) -> str:
        """Return the value in a line."""
        return f"WindowScan({len(self.t)} spectra, largest t {self.t.max():.3g})"


@dataclass(frozen=True, repr=False)
class BumpHunterResult:
    """One spectrum's most unlikely window, and the probability of one as unlikely anywhere under no signal.

    t: -ln p_local, where p_local itself is no smaller than 1e-300; bins: (low, high) of the window, high excluded; window: its edges in the axis' unit (GeV);
    observed, expected: events; z_local: one-sided significance of p_local, before the look-elsewhere effect;
    p_global: (1 + above) / (1 + n) of n pseudo-experiments, with its binomial error; is_bound: none of them reached the
    observed t, p_global is an upper limit; deficit: windows with too few events were searched; experiments: (n,) their t.
    """

    t: float
    bins: tuple[int, int]
    window: tuple[float, float]
    observed: float
    expected: float
    p_local: float
    z_local: float
    p_global: float
    p_global_error: float
    z_global: float
    n: int
    above: int
    is_bound: bool
    deficit: bool
    experiments: Floats

    def __repr__(self) -> str:
        """Return the value in a line."""
        return (
            f"BumpHunterResult({self.window[0]:g} to {self.window[1]:g}, {self.observed:g} events where {self.expected:.3g} are "
            f"expected, local p {stated_p(self.p_local)}, global p {stated_p(self.p_global, bound=self.is_bound)})"
        )


def bump_hunter(
    spectrum: hist.Hist[Any],
    background: npt.ArrayLike,
    *,
    widths: Sequence[int] | None = None,
    step: int | Literal["half", "full"] = 1,
    deficit: bool = False,
    sidebands: int | None = None,
    refit: Refit | None = None,
    n: int = 10_000,
    seed: int = 0,
    progress: bool = False,
) -> BumpHunterResult:
    """Search a spectrum of events for the most unlikely window, and repeat the search on n background-only experiments.

    spectrum: one mass axis, unweighted; background: (bins,) expected events, from a fit or a control sample. widths:
    of the windows in bins, by default 1 to half the bins; step: how far a window moves, in bins, or "half", "full" of
    its width. sidebands: scale the expectation to the events outside each window, and keep this many bins at each end out of
    the search (0 for none). refit: counts (k, bins) -> expectation (k, bins), the fit that made `background`, done again on
    every experiment. seed: of the experiments, drawn bin by bin from `background`.
    Raises InputError for weighted spectra, a background that is no expectation, and windows that do not fit.
    """
    if n < 1:
        raise InputError(f"{n} pseudo-experiments, needed: 1 or more for a global p-value")
    edges, counts = stack([spectrum])
    expected = np.asarray(background, dtype=np.float64)
    if expected.ndim != 1:
        raise InputError(f"background has the shape {expected.shape}, needed: ({counts.shape[1]},)")
    options: dict[str, Any] = {"widths": widths, "step": step, "deficit": deficit, "sidebands": sidebands}
    found = scan_windows(counts, expected, **options)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0xB0B]))
    experiments = np.empty(n)
    pace = 0.5 if sys.stderr.isatty() else 30.0  # in a log, one line in 30 s
    with tqdm(total=n, desc="pseudo-experiments", unit="exp", disable=not progress, mininterval=pace) as bar:
        for start in range(0, n, 5 * BLOCK):
            size = min(5 * BLOCK, n - start)
            drawn = rng.poisson(expected, size=(size, len(expected))).astype(np.float64)
            experiments[start : start + size] = scan_windows(
                drawn, expected if refit is None else refit(drawn), **options
            ).t
            bar.update(size)
    t = float(found.t[0])
    above = int((experiments >= t * (1 - 1e-12)).sum())  # equal counts have equal t but for rounding
    p_global = (1 + above) / (1 + n)
    low, high = int(found.low[0]), int(found.high[0])
    return BumpHunterResult(
        t=t,
        bins=(low, high),
        window=(float(edges[low]), float(edges[high])),
        observed=float(found.observed[0]),
        expected=float(found.expected[0]),
        p_local=float(p_of_log(-t)),
        z_local=float(z_of_log(-t)),
        p_global=p_global,
        p_global_error=float(np.sqrt(p_global * (1 - p_global) / (1 + n))),
        z_global=float(z_value(p_global)),
        n=n,
        above=above,
        is_bound=above == 0,
        deficit=deficit,
        experiments=experiments,
    )


def scan_windows(
    counts: npt.ArrayLike,
    background: npt.ArrayLike,
    *,
    widths: Sequence[int] | None = None,
    step: int | Literal["half", "full"] = 1,
    deficit: bool = False,
    sidebands: int | None = None,
) -> WindowScan:
    """Find the most unlikely window of each spectrum: counts (n, bins), expectation (bins,) or (n, bins).

    Of equal windows the narrowest counts, then the lowest. Only windows with more events than expected (fewer, with
    `deficit`) are excesses; others have p = 1. Bins at the ends where nothing is expected are not searched. With
    `sidebands` a window outside of which nothing is observed or expected says nothing and has p = 1.
    Raises InputError where events lie in a window in which nothing is expected, or no window fits.
    """
    n, b = np.atleast_2d(np.asarray(counts, np.float64)), np.atleast_2d(np.asarray(background, np.float64))
    check_spectra(n, b)
    used = np.flatnonzero(b.max(axis=0) > 0)
    searched = slice(int(used[0]), int(used[-1]) + 1)
    if n[:, : searched.start].any() or n[:, searched.stop :].any():
        raise InputError(f"events outside of bins {used[0]} to {used[-1]}, the only ones where background is expected")
    margin = sidebands or 0
    if margin < 0:
        raise InputError(f"sidebands of {margin} bins, allowed: 0 or more, or None for no normalisation")
    low, high = windows(searched.start + margin, searched.stop - margin, n.shape[1], widths=widths, step=step)
    t, best = np.zeros(len(n)), np.zeros(len(n), dtype=np.int64)
    observed_in, expected_in = np.zeros(len(n)), np.zeros(len(n))
    for start in range(0, len(n), BLOCK):
        block = slice(start, start + BLOCK)
        events, reference = n[block], b if len(b) == 1 else b[block]
        observed, expected = window_sums(events, low, high), window_sums(reference, low, high)
        if sidebands is not None:
            expected = normalised(observed, expected, events.sum(axis=1), reference.sum(axis=1))
        elif np.any(expected <= 0) and np.any(lost := (expected <= 0) & (observed > 0)):
            at = int(np.argwhere(lost)[0, 1])
            raise InputError(f"events in bins {low[at]} to {high[at] - 1}, where no background is expected")
        best[block], t[block] = most_unlikely(observed, expected, deficit=deficit)
        rows = np.arange(len(events))
        observed_in[block] = observed[rows, best[block]]
        expected_in[block] = np.broadcast_to(expected, observed.shape)[rows, best[block]]
    return WindowScan(t, low[best], high[best], observed_in, expected_in)


def windows(
    first: int, end: int, bins: int, *, widths: Sequence[int] | None, step: int | Literal["half", "full"]
) -> tuple[Integers, Integers]:
    """Return the low and high edges (windows,) in bins of all windows inside first:end, narrow ones first."""
    chosen = list(range(1, max(bins // 2, 1) + 1)) if widths is None else sorted(set(widths))
    if not chosen or chosen[0] < 1 or chosen[-1] > bins:
        raise InputError(f"widths of windows are {chosen}, allowed: 1 to the {bins} bins of the spectrum")
    if step not in {"half", "full"} and not (isinstance(step, int) and step >= 1):
        raise InputError(f"step of the windows is {step!r}, allowed: a number of bins from 1, 'half', 'full'")
    steps = {w: w if step == "full" else max(1, w // 2) if step == "half" else int(step) for w in chosen}
    lows = [np.arange(first, end - w + 1, steps[w], dtype=np.int64) for w in chosen]
    low = np.concatenate(lows)
    if len(low) == 0:
        raise InputError(
            f"no window of {chosen[0]} or more bins fits into bins {first} to {end - 1}, which are searched"
        )
    return low, low + np.repeat(chosen, [len(x) for x in lows])


def window_sums(spectra: Floats, low: Integers, high: Integers) -> Floats:
    """Return the contents (n, windows) of windows, exact for counts: spectra (n, bins)."""
    total = np.zeros((len(spectra), spectra.shape[1] + 1))
    np.cumsum(spectra, axis=1, out=total[:, 1:])
    return np.asarray(np.take(total, high, axis=1) - np.take(total, low, axis=1))


def normalised(observed: Floats, expected: Floats, events: Floats, reference: Floats) -> Floats:
    """Scale what windows expect (n, windows) to the events outside of each; 0 where there is nothing outside."""
    outside, predicted = events[:, None] - observed, reference[:, None] - expected
    scale = np.divide(outside, predicted, out=np.zeros(observed.shape), where=predicted > 1e-12 * reference[:, None])
    return np.asarray(expected * scale)


def most_unlikely(observed: Floats, expected: Floats, *, deficit: bool) -> tuple[Integers, Floats]:
    """Return index and -ln p (n,) of the window with the smallest p: observed (n, windows), expected the same or (1, windows).

    Windows are discarded by the bounds of the module's docstring, less what rounding can do to them.
    """
    candidate = observed < expected if deficit else excesses(observed, expected)
    row, column = np.nonzero(candidate)
    n, b = observed[row, column], np.broadcast_to(expected, observed.shape)[row, column]
    best, t = np.zeros(len(observed), dtype=np.int64), np.zeros(len(observed))
    if len(row) == 0:
        return best, t
    start = np.flatnonzero(np.diff(row, prepend=-1))
    at_least = np.maximum.reduceat(surely(n, b, deficit=deficit), start)
    keep = special.kl_div(n, b) >= np.repeat(at_least, np.diff(start, append=len(row)))
    row, column, n, b = row[keep], column[keep], n[keep], b[keep]
    log_p = log_tail(n, b, deficit=deficit)
    smallest = np.lexsort((column, log_p, row))
    found, at = np.unique(row[smallest], return_index=True)
    best[found], t[found] = column[smallest[at]], -log_p[smallest[at]]
    return best, t


def excesses(observed: Floats, expected: Floats) -> npt.NDArray[np.bool_]:
    """Return which windows (n, windows) may have the smallest tail, by D(n) <= (n - b)^2 / 2b alone."""
    inverse = np.zeros(expected.shape)
    np.divide(1.0, np.sqrt(2 * np.maximum(expected, 0.0)), out=inverse, where=expected > 0)
    root = (observed - expected) * inverse
    rows, first = np.arange(len(observed)), root.argmax(axis=1)
    floor = surely(observed[rows, first], np.broadcast_to(expected, observed.shape)[rows, first], deficit=False)
    return np.asarray(root >= np.maximum(np.sqrt(floor), 1e-300)[:, None])


def surely(n: Floats, b: Floats, *, deficit: bool) -> Floats:
    """Return what z^2 / 2 of a window is at least: D of the count next nearer to b, 0 past it; less some rounding."""
    nearer = n + 1 if deficit else n - 1
    value = special.kl_div(nearer, b) * (1 - 1e-9) - 1e-14 * n - 1e-12
    return np.asarray(np.where((nearer < b) if deficit else (nearer > b), np.maximum(value, 0.0), 0.0))


def log_tail(n: Floats, b: Floats, *, deficit: bool = False) -> Floats:
    """Return ln P(N >= n), or ln P(N <= n) of a deficit, for Poisson N of mean b > 0, also where P is below 1e-308.

    P(N >= n) is the regularised incomplete gamma function P(n, b), P(N <= n) is Q(n + 1, b).
    """
    p = special.gammaincc(n + 1, b) if deficit else special.gammainc(n, b)
    with np.errstate(divide="ignore"):
        value = np.log(p)
    for i in np.flatnonzero(p < SMALLEST):
        value[i] = log_far_tail(float(n[i]), float(b[i]), deficit=deficit)
    return np.asarray(value)


def log_far_tail(n: float, b: float, *, deficit: bool) -> float:
    """Return the logarithm of a tail summed from its largest term, the one at n, which is far from b."""
    total, term, k = 1.0, 1.0, n
    while term > 1e-17 * total:
        # the next term outwards: P(k + 1) / P(k) = b / (k + 1), P(k - 1) / P(k) = k / b
        term *= k / b if deficit else b / (k + 1)
        k += -1 if deficit else 1
        total += term
    return float(n * np.log(b) - b - special.gammaln(n + 1) + np.log(total))


def check_spectra(counts: Floats, background: Floats) -> None:
    """Refuse spectra that are no counts and a background that is no expectation of them, InputError."""
    if counts.ndim != 2 or counts.size == 0:
        raise InputError(f"counts have the shape {counts.shape}, needed: (spectra, bins), at least one each")
    if background.shape not in {(1, counts.shape[1]), counts.shape}:
        raise InputError(f"background has the shape {background.shape}, counts {counts.shape}")
    if not np.all(np.isfinite(background)) or np.any(background < 0):
        at = int(np.argwhere(~(np.isfinite(background) & (background >= 0)))[0, 1])
        raise InputError(f"background of bin {at} is {background[:, at].min()}, needed: 0 or more events")
    if np.all(background == 0):
        raise InputError("background is empty: no window expects an event")
    if not np.array_equal(counts, np.round(counts)) or np.any(counts < 0):
        raise InputError("counts are negative or fractional; a Poisson tail needs whole events")
