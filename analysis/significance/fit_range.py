"""Where a spectrum is fitted, and at which masses it is hunted in: of events in bins of ours, or of given bins.

A range starts above the turn-on where there is one. The spectrum may be the hunted one and hold the signal, so an edge is
also taken where the function describes all bins but those of one bump: else a strong signal would push the range above itself.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import stats

from ...errors import InputError
from ..fits.background import choose_background, family_orders, fit_log_linear, goodness_of_fit
from ..fits.bernstein import half_deviance
from ..fits.log_p import stated_p
from ..fits.scan import scan_spectra
from ..spectra.bins import MARGIN_BINS, MIN_BINS, FitRange, mass_grid, search_grid
from ..spectra.signal_shape import SignalShape, signal_templates
from .fit_quality import UNFIT, Excess, largest_excess

__all__ = ["find_fit_range", "range_of_spectrum", "scan_masses"]

Floats = npt.NDArray[np.float64]
P_WHOLE = 0.01  # without a turn-on all bins are taken unless the fit is worse than that
P_MIN = 0.05
CLEAR = 1.25  # a bump that excuses a bad fit lies this factor above the edge: a turn-on, too, is a deficit with an excess behind it
LONGEST_TURN_ON = 8  # bins above the peak from which on a bad fit is asked whether its first bins are to blame
TAIL_BINS = 6
MAX_BINS = 1000  # a resolution of 3.5 % has 66 between 1 and 10 TeV; the time of a hunt grows with the square
LOST = 15.0  # events; e^-15 that a background of that size leaves every bin empty


def find_fit_range(
    mass: npt.ArrayLike, *, sqrt_s: float, family: str = "dijet", p_min: float = P_MIN, reach: float = 0.0
) -> FitRange:
    """Find the fit range on an inclusive spectrum, masses (n,) in GeV: it is kept for all regions.

    The upper edge is the first one above every event, and above `reach` (GeV), the largest mass that will be hunted in. The
    lower edge is the lowest one above the spectrum's peak (in events per GeV) from which the background family, its order
    chosen by F-test, fits with p > `p_min`, and two bins more where there is a turn-on (docs/design/background.md). An edge is
    also taken where one bump, a Gaussian of 3.5 % well above it, is all that the fit misses. Where the edge lies more than
    eight bins above the peak or there is none, a fluctuation far above may spoil every range that holds it: then the lowest
    edge is taken whose first bins, one to eight of them, are not what the fit misses (their share of the deviance is one that
    chance gives with p > `p_min`). Raises InputError when there is none.
    """
    masses = np.asarray(mass, dtype=np.float64)
    masses = masses[(masses > 0) & (masses < sqrt_s)]
    if len(masses) < 50:
        raise InputError(
            f"{len(masses)} events between 0 and sqrt_s = {sqrt_s:g} GeV cannot set a fit range; give fit_range"
        )
    grid = search_grid(masses, sqrt_s=sqrt_s, reach=reach)
    counts = np.histogram(masses, grid)[0].astype(np.float64)
    density = counts / np.diff(grid)
    # a running mean over three bins, so that one fluctuation is not the peak
    smooth = np.convolve(density, np.ones(3) / 3, mode="same")
    first = int(np.argmax(smooth))
    lows = range(first, len(grid) - MIN_BINS)

    @cache
    def fitted(low: int) -> tuple[float, float, bool]:
        """Return p, deviance and convergence of the fit from an edge on."""
        fit = choose_background(counts[None, low:], grid[low:], sqrt_s=sqrt_s, family=family)
        p = float(goodness_of_fit(counts[None, low:], fit.expected, fit.n_parameters)[0])
        return p, 2 * float(half_deviance(counts[None, low:], fit.expected)[0]), bool(fit.converged[0])

    def first_bins_fit(low: int) -> bool:
        """Tell whether no run of bins from this edge on is what the fit misses."""
        later = range(low + 1, low + 1 + LONGEST_TURN_ON)
        _, whole, converged = fitted(low)
        return converged and all(stats.chi2.sf(whole - fitted(other)[1], other - low) > p_min for other in later)

    def bump_alone(low: int) -> bool:
        """Tell whether a bump well above this edge is all that the fit misses."""
        _, excess = described(counts[low:], grid[low:], SignalShape(), sqrt_s=sqrt_s, family=family)
        return excess is not None and excess.is_bump and excess.mass > CLEAR * float(grid[low])

    found = next((low for low in lows if fitted(low)[2] and (fitted(low)[0] > p_min or bump_alone(low))), None)
    chosen = "that fits" if found is None or fitted(found)[0] > p_min else "that fits but for a bump"
    if found is None or found > first + LONGEST_TURN_ON:
        near = next((low for low in lows[:-LONGEST_TURN_ON] if first_bins_fit(low)), None)
        if near is not None and (found is None or near < found):
            found, chosen = near, f"whose first bins fit (the range as a whole has p {stated_p(fitted(near)[0])})"
    if found is None:
        best = max(((fitted(low)[0], grid[low]) for low in lows), default=(0.0, grid[first]))
        raise InputError(
            f"no edge above the peak at {grid[first]:.0f} GeV starts a range of {MIN_BINS} bins or more that the {family} "
            f"family fits with p > {p_min:g} (best: {best[1]:.0f} GeV, p {stated_p(best[0])}); give fit_range: [low, high]"
        )
    # a threshold, unlike a turn-on, leaves at most its own bin and one more below the peak
    margin = MARGIN_BINS if (counts[:first] > 0).sum() > 2 else 0
    start = max(found, min(found + margin, len(grid) - 1 - MIN_BINS))
    chosen = f"lowest edge above the peak {chosen}"
    if start > found:
        chosen = f"{start - found} bins above the {chosen}, {grid[found]:.0f} GeV"
    return FitRange(tuple(float(e) for e in grid[start:]), chosen, fitted(start)[0])


def range_of_spectrum(
    counts: Floats,
    edges: Floats,
    *,
    shape: SignalShape,
    sqrt_s: float,
    family: str = "dijet",
    fit_range: tuple[float, float] | None = None,
) -> FitRange:
    """Return the run of bins to fit, of inclusive counts (bins,) with edges (bins + 1,) in GeV.

    A given fit_range [low, high] GeV takes the bins inside it. Without one: all bins from the first filled one, where the
    spectrum falls from there and is fitted with p > 0.01; else the lowest edge from the peak on that is fitted with
    p > 0.05, two bins more where there is a turn-on; else, where no edge is (or half the events would be lost to it and
    all bins have p > 0.001), all bins from the peak, for `fit_quality` to judge. Raises InputError for spectra that end in a cut, have too few bins for the function or none inside fit_range.
    """
    if fit_range is not None:
        start, stop, chosen = *given_range(counts, edges, fit_range), "given"
        check_bins(counts[start:stop], edges[start : stop + 1], family=family)
        p, _ = described(counts[start:stop], edges[start : stop + 1], shape, sqrt_s=sqrt_s, family=family)
        return FitRange(tuple(edges[start : stop + 1].tolist()), chosen, p)
    stop = last_bin(counts, edges, sqrt_s=sqrt_s, family=family)
    filled = np.flatnonzero(counts[:stop])
    check_start(counts, edges, int(filled[0]))
    # the logarithm of a mass, in the function or in the steps of the scan, needs an edge above 0
    floor = max(int(filled[0]), 1 if edges[0] == 0 else 0)
    density = counts[floor:stop] / np.diff(edges[floor : stop + 1])
    window = np.ones(min(3, len(density)))
    smooth = np.convolve(density, window, mode="same") / np.convolve(np.ones_like(density), window, mode="same")
    peak = floor + int(np.argmax(smooth))
    check_bins(counts[peak:stop], edges[peak : stop + 1], family=family)
    turn_on = peak - floor > 2
    tried = []
    for low in range(peak, max(peak + 1, stop - MIN_BINS + 1)):
        if not counts[low]:  # no range starts in a hole
            tried.append(0.0)
            continue
        p, excess = described(counts[low:stop], edges[low : stop + 1], shape, sqrt_s=sqrt_s, family=family)
        # a threshold may lie inside the first bin, which then says nothing of the next edge
        level = P_WHOLE if low <= peak + 1 and not turn_on else P_MIN
        bump = excess is not None and excess.is_bump and (not turn_on or excess.mass > CLEAR * edges[low])
        tried.append(p)
        if p > level or bump:
            if not turn_on and tried[0] > UNFIT and counts[:low].sum() > 0.5 * counts.sum():
                # a fit that is doubtful and said to be so is better than most of the events unseen
                break
            fits = "that fits" if p > level else "that fits but for a bump"
            return settled(counts, edges, low, stop, turn_on, p, shape, fits, sqrt_s=sqrt_s, family=family)
    if not turn_on:
        return FitRange(tuple(edges[peak : stop + 1].tolist()), "all bins; no part with most events fits", tried[0])
    low = peak + int(np.argmax(tried))
    return FitRange(tuple(edges[low : stop + 1].tolist()), "best of the edges above the peak; none fits", max(tried))


def settled(
    counts: Floats,
    edges: Floats,
    low: int,
    stop: int,
    turn_on: bool,
    p: float,
    shape: SignalShape,
    fits: str,
    *,
    sqrt_s: float,
    family: str,
) -> FitRange:
    """Return the range from the edge that was found, its margin above a turn-on added, with the fit's p there; fits: why."""
    first = int(np.flatnonzero(counts)[0])
    start = max(low, min(low + MARGIN_BINS, stop - MIN_BINS)) if turn_on else low
    if start > low:
        p, _ = described(counts[start:stop], edges[start : stop + 1], shape, sqrt_s=sqrt_s, family=family)
        chosen = f"{start - low} bins above the lowest edge above the peak {fits}, {edges[low]:.0f} GeV"
    elif start == 1 > first and edges[0] == 0:
        chosen = "all bins but the first, which starts at 0"
    elif start == first:
        chosen = "all bins" if (start, stop) == (0, len(counts)) else "all bins from the first that holds an event"
    else:
        chosen = f"lowest edge above the peak {fits}"
    return FitRange(tuple(edges[start : stop + 1].tolist()), chosen, p)


def given_range(counts: Floats, edges: Floats, fit_range: tuple[float, float]) -> tuple[int, int]:
    """Return the first bin inside a given range and the one behind the last; what is not covered is an error."""
    low, high = fit_range
    where = f"fit range [{low:g}, {high:g}] GeV"
    if not low < high:
        raise InputError(f"{where}: low and then high are expected")
    if low < edges[0] or high > edges[-1]:
        raise InputError(f"{where}: wider than the spectrum, whose bins go from {edges[0]:g} to {edges[-1]:g} GeV")
    start, stop = int(np.searchsorted(edges, low)), int(np.searchsorted(edges, high, side="right")) - 1
    if start >= stop:
        raise InputError(f"{where}: no bin of the spectrum lies inside it")
    filled = np.flatnonzero(counts[start:stop])
    if not len(filled):
        raise InputError(f"{where}: none of its {stop - start} bins holds an event")
    if filled[0]:
        raise InputError(
            f"{where}: the bins below {edges[start + filled[0]]:g} GeV are all zero; the range starts where the spectrum does"
        )
    return start, stop


def last_bin(counts: Floats, edges: Floats, *, sqrt_s: float, family: str) -> int:
    """Return the bin behind the last: the dijet function ends at sqrt_s, where only empty bins may be left out."""
    if not counts.any():
        raise InputError(f"the spectrum is empty: none of its {len(counts)} bins holds an event")
    if family != "dijet":
        return len(counts)
    stop = int(np.searchsorted(edges, sqrt_s)) - 1
    beyond = counts[max(stop, 0) :].sum()
    if beyond:
        raise InputError(
            f"{beyond:.0f} events in bins that reach sqrt_s = {sqrt_s:g} GeV or lie above it (edges to {edges[-1]:g} GeV); another --sqrt-s, or another unit of the mass?"
        )
    return stop


def check_bins(counts: Floats, edges: Floats, *, family: str) -> None:
    """Refuse too many bins, too few for the function's parameters, and a spectrum that is cut off: all zero where it cannot be."""
    if len(counts) > MAX_BINS:
        raise InputError(
            f"{len(counts)} bins from {edges[0]:g} to {edges[-1]:g} GeV; at most {MAX_BINS} are hunted in. Join some: bins about as wide "
            "as the mass resolution lose nothing"
        )
    lowest = family_orders(family)[0]
    filled = np.flatnonzero(counts)
    needed = lowest + 3
    if len(filled) < needed:
        raise InputError(
            f"{len(filled)} bins with events from {edges[0]:g} to {edges[-1]:g} GeV: the {family} function has {lowest + 1} parameters or "
            f"more and a bump one more, so {needed} bins with events are needed"
        )
    last = int(filled[-1]) + 1
    if last == len(counts):
        return
    tail = expected_beyond(counts, edges, last)
    if tail > LOST:
        raise InputError(
            f"all bins from {edges[last]:g} to {edges[-1]:g} GeV are zero, though the bins below let one expect {tail:.0f} events just there: it is "
            f"cut off there. --fit-range {edges[0]:g} {edges[last]:g} hunts below the cut"
        )


def check_start(counts: Floats, edges: Floats, first: int) -> None:
    """Refuse a spectrum that is cut off below: empty bins, and then one that is neither sparse nor the foot of a turn-on."""
    density = counts / np.diff(edges)
    if first and counts[first] > LOST and density[first] >= 0.5 * density.max():
        raise InputError(
            f"all bins from {edges[0]:g} to {edges[first]:g} GeV are zero, and the next one holds {counts[first]:.0f} events: the spectrum is cut off "
            f"there. --fit-range {edges[first]:g} {edges[-1]:g} hunts above the cut"
        )


def expected_beyond(counts: Floats, edges: Floats, last: int) -> float:
    """Return the events expected in the next tenth of the mass from bin `last` on, by a power law through six bins before it.

    No further: a power law falls more slowly than spectra do near their end. No more than the last filled bin's density
    gives: behind a bump at the end the power law rises.
    """
    centres, widths = 0.5 * (edges[1:] + edges[:-1]), np.diff(edges)
    first = max(0, last - TAIL_BINS)
    basis = np.stack([np.ones(len(centres)), np.log(centres / centres[last - 1])], axis=1)
    near = slice(first, last)
    theta, _, _ = fit_log_linear(counts[None, near], basis[near], np.log(widths[near]))
    beyond = slice(last, max(last + 1, int(np.searchsorted(edges, 1.1 * edges[last], side="right")) - 1))
    density = np.minimum(np.exp(np.minimum(basis[beyond] @ theta[0], 60.0)), counts[last - 1] / widths[last - 1])
    return float((density * widths[beyond]).sum())


def described(
    counts: Floats, edges: Floats, shape: SignalShape, *, sqrt_s: float, family: str
) -> tuple[float, Excess | None]:
    """Return the p-value of the background fit of counts (bins,), and the largest excess where that fit is bad."""
    fit = choose_background(counts[None], edges, sqrt_s=sqrt_s, family=family)
    p = float(goodness_of_fit(counts[None], fit.expected, fit.n_parameters)[0]) if fit.converged[0] else 0.0
    if p > P_MIN:
        return p, None
    try:
        masses = scan_masses(FitRange(tuple(edges.tolist()), ""), counts, width=shape.width)
    except InputError:  # too short a range to hunt in has no bump
        return p, None
    scan = scan_spectra(counts[None], fit, signal_templates(shape, masses, edges), edges, sqrt_s=sqrt_s, family=family)
    order = int(fit.order[0])
    excess = largest_excess(
        counts, fit.expected[0], scan, masses, edges, order=order, width=shape.width, sqrt_s=sqrt_s, family=family
    )
    return p, excess


def scan_masses(
    fit_range: FitRange, counts: Floats, *, width: float, masses: tuple[float, float] | None = None
) -> Floats:
    """Return the masses to hunt at (GeV), from counts (bins,) in the fit range: half a width or half a bin apart.

    Two widths clear of both ends, up to where ten events are left. masses: [low, high] GeV to keep of them; InputError
    where they reach out of the fit range, or hold no mass of the scan.
    """
    edges = np.asarray(fit_range.edges)
    centres = 0.5 * (edges[1:] + edges[:-1])
    coarse = max(width, float(np.median(np.diff(edges) / centres)))
    # only the ten highest events matter, so ten a bin stand for all of them
    events = np.repeat(centres, np.minimum(counts, 10).astype(np.int64))
    grid = mass_grid(fit_range, events, resolution=coarse)
    if masses is None:
        return grid
    low, high = masses
    if not low <= high or low < edges[0] or high > edges[-1]:
        raise InputError(
            f"masses [{low:g}, {high:g}] GeV: they rise and lie in the fit range, {edges[0]:g} to {edges[-1]:g} GeV"
        )
    kept = grid[(grid >= low) & (grid <= high)]
    if not len(kept):
        raise InputError(
            f"masses [{low:g}, {high:g}] GeV hold none of the {len(grid)} masses of the scan, {grid[0]:g} to {grid[-1]:g} GeV: two widths "
            "clear of both ends of the fit range, and ten events above"
        )
    return kept
