"""Does a spectrum rise before it falls? A test of its bins alone, without a background function.

The statistic S is twice the gain in ln L of the best density that rises and then falls over the best one that falls from
the first bin on, both steps of one bin (isotonic regression by pool-adjacent-violators: Barlow et al. 1972). A resonance
on a falling spectrum rises too. So where S is large it is taken again with a bump in both densities: a window as long as
a signal, whose bins are free above a floor. The floor rises from the first bin behind the window towards lower masses,
with half the power of the mass that the spectrum falls with behind the window: a falling spectrum stays above it below a
bump, and the foot of a turn-on does not (docs/design/background.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy.optimize import isotonic_regression

from ..fits.background import goodness_of_fit
from ..fits.log_linear import fit_log_linear
from ..spectra.bins import TurnOn

__all__ = ["find_turn_on", "turn_on_statistics"]

Floats = npt.NDArray[np.float64]
Kernel = TypeVar("Kernel", bound=Callable[..., Any])
EXPERIMENTS = 2000
WINDOW_EXPERIMENTS = (50, 400)  # of them, fewest and most, that tell what a window gives by chance
WINDOW_WORK = 10_000_000  # these times the square of the bins: the time that a window takes goes with that
QUANTILE = 0.999
LEAST = 9.55  # the 99.9 % quantile of S for two bins that expect the same, half a chi-squared of one degree of freedom
SEED = 0x7C
MODE = 2.0  # ln L below the largest within which a mode may lie
WINDOW = 3.0  # widths on either side of a bump: beyond lies a thousandth of it
SHARE = (
    0.5  # of the power of the mass with which a spectrum falls behind a window, by which it falls below one at least
)
STRETCH = 1.28  # in the mass, at most, from which that power is taken: a spectrum may bend down behind a wide bump
SMOOTH, SMOOTH_BINS, SMOOTH_P = 1.5, 8, 0.01  # reach in the mass, bins at least, and p of a parabola behind a threshold
ERRORS = 2.0  # by which that power is taken smaller than it is found


def compiled(kernel: Kernel) -> Kernel:
    """Compile a kernel; numba keeps what it compiled beside this file."""
    return cast("Kernel", njit(cache=True, nogil=True)(kernel))


@compiled
def gain(events: float, width: float) -> float:
    """Return n ln(n / w): all of a block's ln L that depends on the density, as what is expected is always what was counted."""
    return events * np.log(events / width) if events > 0 else 0.0


@compiled
def monotone_gains(counts: Floats, widths: Floats, sign: int) -> Floats:
    """Return ln L of the best density that rises (sign 1) or falls (-1) on the first 0, 1, ... n bins: (n + 1,)."""
    n = len(counts)
    events, width, values, result = np.empty(n), np.empty(n), np.empty(n), np.zeros(n + 1)
    top, total = 0, 0.0
    for i in range(n):
        c, w = counts[i], widths[i]
        while top > 0 and sign * events[top - 1] * w > sign * c * width[top - 1]:
            top -= 1
            c += events[top]
            w += width[top]
            total -= values[top]
        events[top], width[top], values[top] = c, w, gain(c, w)
        total += values[top]
        top += 1
        result[i + 1] = total
    return result


@compiled
def unimodal_gains(counts: Floats, widths: Floats) -> Floats:
    """Return ln L of the best density that rises before bin k and falls from it on, for every k: (n + 1,); the first only falls."""
    backwards = monotone_gains(counts[::-1].copy(), widths[::-1].copy(), 1)
    return monotone_gains(counts, widths, 1) + backwards[::-1]


@compiled
def statistics(counts: Floats, widths: Floats) -> Floats:
    """Return S of every spectrum, (n,) of counts (n, bins)."""
    result = np.empty(len(counts))
    for e in range(len(counts)):
        values = unimodal_gains(counts[e], widths)
        result[e] = 2 * (values.max() - values[0])
    return result


@compiled
def floor_power(counts: Floats, edges: Floats, a: int, b: int) -> float:
    """Return the power of the mass with which the floor of a window, bins a to b, rises towards lower masses.

    It is half of that with which the density falls in as long a stretch behind the window, of a quarter in ln m at most, two
    errors smaller; 0 or more.
    """
    n = len(counts)
    stop, end = b, edges[b] * min(edges[b] / edges[a], STRETCH)
    while stop < n and (edges[stop] < end or stop < b + 2):
        stop += 1
    if stop < b + 2:
        return 0.0
    half = b + 1
    while half < stop - 1 and edges[half] * edges[half] < edges[b] * edges[stop]:
        half += 1
    near, far = 0.0, 0.0
    for i in range(b, half):
        near += counts[i]
    for i in range(half, stop):
        far += counts[i]
    if near == 0 or far == 0:
        return 0.0
    fall = np.log(near / (edges[half] - edges[b])) - np.log(far / (edges[stop] - edges[half]))
    apart = np.log((edges[half] + edges[stop]) / (edges[b] + edges[half]))
    return float(max(SHARE * (fall - ERRORS * np.sqrt(1 / near + 1 / far)) / apart, 0.0))


@compiled
def pool_falling(counts: Floats, widths: Floats, first: int, stop: int, events: Floats, width: Floats) -> int:
    """Fill the blocks, events and width, of the best falling density on the bins from `first` to `stop`; returns their number."""
    top = 0
    for i in range(first, stop):
        c, w = counts[i], widths[i]
        while top > 0 and events[top - 1] * w < c * width[top - 1]:
            top -= 1
            c += events[top]
            w += width[top]
        events[top], width[top] = c, w
        top += 1
    return top


@compiled
def lowest_below(
    density: float, counts: Floats, widths: Floats, free: npt.NDArray[np.bool_], a: int, b: int
) -> tuple[float, int]:
    """Return density and index of the lowest free bin of a to b below a density, which comes back with -1 where there is none."""
    lowest = -1
    for j in range(a, b):
        if free[j] and counts[j] < density * widths[j]:
            density, lowest = counts[j] / widths[j], j
    return density, lowest


@compiled
def falling_with_window(counts: Floats, edges: Floats, first: int, a: int, b: int) -> float:
    """Return ln L of the best density on the bins from `first` on that falls but for bins a to b, free above the window's floor.

    The floor is bin b's density where the window ends and `floor_power` above it; the bins before the window do not lie
    below its top. So bin b has children, the block before the window and each bin of the window, that may not lie below it
    times the floor; of those that do, the lowest is pooled first (Thompson 1962).
    """
    n = len(counts)
    power = floor_power(counts, edges, a, b)
    total = 0.0
    widths, free = np.empty(n), np.zeros(n, dtype=np.bool_)
    for i in range(n):
        widths[i] = edges[i + 1] - edges[i]
        free[i] = a <= i < b
        if first <= i < b:
            # densities over the floor's shape, so that the floor is flat
            floor = power * np.log(edges[b] / max(edges[i], edges[a]))
            widths[i] *= np.exp(floor)
            total += counts[i] * floor
    events, width = np.empty(n), np.empty(n)
    top = pool_falling(counts, widths, first, a, events, width)
    base = top  # the block that holds bin b
    for i in range(b, n):
        c, w = counts[i], widths[i]
        while True:
            if top > base:
                if events[top - 1] * w >= c * width[top - 1]:
                    break
                top -= 1
                c += events[top]
                w += width[top]
                continue
            density, lowest = lowest_below(c / w, counts, widths, free, a, b)
            if base > 0 and events[base - 1] < density * width[base - 1]:
                base -= 1
                top = base
                c += events[base]
                w += width[base]
            elif lowest >= 0:
                free[lowest] = False
                c += counts[lowest]
                w += widths[lowest]
            else:
                break
        events[top], width[top] = c, w
        top += 1
    for block in range(top):
        total += gain(events[block], width[block])
    for j in range(a, b):
        if free[j]:
            total += gain(counts[j], widths[j])
    return total


@compiled
def gains_with_bump(counts: Floats, edges: Floats, ends: npt.NDArray[np.int64]) -> Floats:
    """Return what `unimodal_gains` does where the falling part may have a bump in one window, bins a to ends[a]: (n + 1,)."""
    n = len(counts)
    widths = edges[1:] - edges[:-1]
    values = unimodal_gains(counts, widths)
    rising = monotone_gains(counts, widths, 1)
    alone = np.empty(n)
    for a in range(n):
        alone[a] = falling_with_window(counts, edges, a, a, ends[a])
    for k in range(n):
        # the bins from k to the window, as if they had nothing to do with it: no window gives more
        before = monotone_gains(counts[k:], widths[k:], -1)
        for a in range(k, n):
            if rising[k] + before[a - k] + alone[a] > values[k]:
                values[k] = max(values[k], rising[k] + falling_with_window(counts, edges, k, a, ends[a]))
    return values


@compiled
def window_gains(counts: Floats, edges: Floats, ends: npt.NDArray[np.int64]) -> Floats:
    """Return twice what a window gives in ln L to the best falling density of every spectrum: (n,) of counts (n, bins)."""
    result = np.zeros(len(counts))
    widths = edges[1:] - edges[:-1]
    for e in range(len(counts)):
        falling = monotone_gains(counts[e], widths, -1)[-1]
        for a in range(len(ends)):
            result[e] = max(result[e], 2 * (falling_with_window(counts[e], edges, 0, a, ends[a]) - falling))
    return result


def turn_on_statistics(counts: npt.ArrayLike, edges: npt.ArrayLike) -> Floats:
    """Return S of every spectrum, (n,) of counts (n, bins) in bins with edges (bins + 1,), without a bump."""
    rows = np.ascontiguousarray(counts, dtype=np.float64)
    return np.asarray(statistics(rows, np.diff(np.asarray(edges, dtype=np.float64))))


def find_turn_on(counts: npt.ArrayLike, edges: npt.ArrayLike, *, width: float) -> TurnOn:
    """Look for a turn-on in counts (bins,) in bins with edges (bins + 1,) above 0, in GeV; width: of the signal, relative.

    S is compared with that of 2,000 experiments drawn from the best falling density, the same ones for the same counts. Where
    the spectrum falls smoothly from its second bin on, the first is cut by a threshold, and no bump is asked for.
    """
    given, at = np.ascontiguousarray(counts, dtype=np.float64), np.ascontiguousarray(edges, dtype=np.float64)
    widths = np.diff(at)
    falling = isotonic_regression(given / widths, weights=widths, increasing=False).x * widths
    rng = np.random.default_rng(SEED)
    drawn = rng.poisson(falling, size=(EXPERIMENTS, len(given))).astype(np.float64)
    null = turn_on_statistics(drawn, at)
    threshold = max(float(np.quantile(null, QUANTILE)), LEAST)
    values = unimodal_gains(given, widths)
    s = 2 * float(values.max() - values[0])
    lowest = int(modes_of(values)[0])
    bumped = None
    if s > threshold:
        bumped = s
        if lowest > 1 or not falls_smoothly(given[1:], at[1:], width=width):
            bumped, values = without_bumps(given, at, drawn, values, width=width)
    # a density that rises before bin k and falls from it on is largest in bin k or in the one before
    highest = max(int(modes_of(values)[-1]), 1)
    p = float(1 + (null >= s).sum()) / (EXPERIMENTS + 1)
    return TurnOn(s, threshold, p, bumped, (float(at[min(lowest, highest - 1)]), float(at[highest])))


def modes_of(values: Floats) -> npt.NDArray[np.int64]:
    """Return the bins from which on a density may fall, of ln L (bins + 1,)."""
    return np.flatnonzero(values >= values.max() - MODE)


def falls_smoothly(counts: Floats, edges: Floats, *, width: float) -> bool:
    """Tell whether the first bins have no bump: a parabola in ln m describes ln of their density with p > 0.01."""
    reach = edges[0] * max(SMOOTH, 1 + 4 * WINDOW * width)
    stop = min(max(int(np.searchsorted(edges, reach)), SMOOTH_BINS), len(counts))
    u = np.log(0.5 * (edges[1 : stop + 1] + edges[:stop]) / edges[0])
    basis = np.stack([np.ones(stop), u, u**2], axis=1)
    theta, _, converged = fit_log_linear(counts[None, :stop], basis, np.log(np.diff(edges[: stop + 1])))
    expected = np.exp(basis @ theta[0]) * np.diff(edges[: stop + 1])
    p = goodness_of_fit(counts[None, :stop], expected[None], np.full(1, 3.0))
    return bool(converged[0]) and float(p[0]) > SMOOTH_P


def without_bumps(
    counts: Floats, edges: Floats, drawn: Floats, values: Floats, *, width: float
) -> tuple[float, Floats]:
    """Return S where both densities may have a bump, and the ln L (bins + 1,) that its modes are read from.

    drawn: (n, bins) experiments without a bump; values: ln L without one. A density with a mode may take that for a bump and
    its window for noise. So it is either taken without a window, or what windows give in experiments is taken off.
    """
    # a window holds all bins that a signal at the end of its first one reaches into
    length = (1 + WINDOW * width) / max(1 - WINDOW * width, 0.1)
    ends = np.minimum(np.searchsorted(edges, edges[1:] * length), len(counts)).astype(np.int64)
    both = gains_with_bump(counts, edges, ends)
    enough = int(np.clip(WINDOW_WORK // len(counts) ** 2, *WINDOW_EXPERIMENTS))
    noise = float(np.quantile(window_gains(drawn[:enough], edges, ends), QUANTILE))
    alone, together = 2 * float(values.max() - both[0]), 2 * float(both[1:].max() - both[0]) - noise
    return (alone, values) if alone >= together else (together, both)
