"""Where a spectrum is fitted, and at which masses it is hunted in: of events in bins of ours, or of given bins.

A range starts at the first filled bin, or two signal widths above a turn-on where there is one (`turn_on`). No background
function has a say in it: where one fails, that is said, and no event is left out for it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ...table import MJJ, Observable
from ..fits.background import family_orders
from ..fits.gaussian_process import GAUSSIAN_PROCESS
from ..fits.log_linear import fit_log_linear
from ..spectra.bins import MIN_ABOVE, MIN_BINS, FitRange, TurnOn, mass_grid, scan_ends, search_grid
from ..spectra.signal_shape import SignalShape
from .turn_on import find_turn_on

__all__ = [
    "find_fit_range",
    "given_fit_range",
    "left_out_note",
    "masses_note",
    "masses_within",
    "range_of_spectrum",
    "scan_masses",
]

Floats = npt.NDArray[np.float64]
MARGIN = 2.0  # signal widths above the mode of a turn-on
MOST_BELOW = 2 / 3  # of the events, that may lie below a turn-on's end
LEAST_EVENTS = 50
TAIL_BINS = 6
MAX_BINS = 1000  # a resolution of 3.5 % has 66 between 1 and 10 TeV; the time of a hunt grows with the square
LOST = 15.0  # events; e^-15 that a background of that size leaves every bin empty


def find_fit_range(
    mass: npt.ArrayLike, *, sqrt_s: float, shape: SignalShape | None = None, reach: float = 0.0
) -> FitRange:
    """Find the fit range on an inclusive spectrum, masses (n,) in GeV: it is kept for all regions.

    The lower edge follows the rule of `range_of_spectrum`, in bins of ours; shape: of the signal, a Gaussian of 3.5 % where
    none is given. The upper edge is the first one above every event, and above `reach` (GeV), the largest mass that will be
    hunted in. Raises InputError for fewer than 50 events, where fewer than eight bins are left, and where more than two
    thirds of the events would lie below the range.
    """
    masses = np.asarray(mass, dtype=np.float64)
    masses = masses[(masses > 0) & (masses < sqrt_s)]
    if len(masses) < LEAST_EVENTS:
        raise InputError(
            f"{len(masses)} events between 0 and sqrt_s = {sqrt_s:g} GeV cannot set a fit range; give fit_range"
        )
    grid, counts = binned(masses, sqrt_s=sqrt_s, reach=reach)
    # what lies below our bins is below the range too
    events_below = np.concatenate([[0], np.cumsum(counts)]) + float((masses < grid[0]).sum())
    start, chosen, turn_on = first_edge(
        counts, grid, shape or SignalShape(), events_below, ask="fit_range: [low, high]"
    )
    left = len(grid) - 1 - start
    if left < MIN_BINS:
        raise InputError(
            f"{left} bins from {grid[start]:.0f} to {grid[-1]:.0f} GeV are too few for a fit, {MIN_BINS} are needed ({chosen}); give fit_range: [low, high]"
        )
    return FitRange(tuple(float(e) for e in grid[start:]), chosen, turn_on)


def given_fit_range(mass: npt.ArrayLike, edges: Floats, *, sqrt_s: float, shape: SignalShape | None = None) -> FitRange:
    """Return a given range, its edges (bins + 1,) in GeV, with the test for a turn-on in the masses (n,) that it is a part of."""
    masses = np.asarray(mass, dtype=np.float64)
    masses = masses[(masses > 0) & (masses < sqrt_s)]
    found = None
    if len(masses) >= LEAST_EVENTS:
        grid, counts = binned(masses, sqrt_s=sqrt_s)
        found = turn_on_of(counts, grid, shape or SignalShape())
    return FitRange(tuple(float(e) for e in edges), given_words(float(edges[0]), found), found)


def binned(masses: Floats, *, sqrt_s: float, reach: float = 0.0) -> tuple[Floats, Floats]:
    """Return edges (bins + 1,) of ours for masses (n,) in GeV, and their counts (bins,)."""
    grid = search_grid(masses, sqrt_s=sqrt_s, reach=reach)
    return grid, np.histogram(masses, grid)[0].astype(np.float64)


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

    A given fit_range [low, high] GeV takes the bins inside it. Without one: all bins from the first filled one. Where there
    is a turn-on: the bins two signal widths above the highest one that may be its mode; or from the second filled bin on,
    where that is the mode, because a threshold lies inside the first. Raises InputError for spectra that end in a cut,
    have too few bins for the function or none inside fit_range, and where more than two thirds of the events would lie below the range.
    """
    if fit_range is not None:
        start, stop = given_range(counts, edges, fit_range)
        check_bins(counts[start:stop], edges[start : stop + 1], family=family)
        turn_on = turn_on_of(counts, edges, shape) if len(counts) <= MAX_BINS else None
        return FitRange(tuple(edges[start : stop + 1].tolist()), given_words(float(edges[start]), turn_on), turn_on)
    stop = last_bin(counts, edges, sqrt_s=sqrt_s, family=family)
    check_start(counts, edges, int(np.flatnonzero(counts[:stop])[0]))
    first = first_bin(counts, edges)
    check_bins(counts[first:stop], edges[first : stop + 1], family=family)
    events_below = np.concatenate([[0], np.cumsum(counts)])
    start, chosen, found = first_edge(
        counts[:stop], edges[: stop + 1], shape, events_below, ask="a fit range (--fit-range LOW HIGH)"
    )
    if start > first:
        check_bins(counts[start:stop], edges[start : stop + 1], family=family, why=f" ({chosen})")
    return FitRange(tuple(edges[start : stop + 1].tolist()), chosen, found)


def first_bin(counts: Floats, edges: Floats) -> int:
    """Return the first bin with events that does not start at 0: a mass's logarithm, in functions and scans, needs an edge above."""
    return max(int(np.flatnonzero(counts)[0]), 1 if edges[0] <= 0 else 0)


def turn_on_of(counts: Floats, edges: Floats, shape: SignalShape) -> TurnOn:
    """Look for a turn-on in counts (bins,) with edges (bins + 1,) in GeV, from the first filled bin on."""
    first = first_bin(counts, edges)
    return find_turn_on(counts[first:], edges[first:], width=shape.width)


def first_edge(
    counts: Floats, edges: Floats, shape: SignalShape, events_below: Floats, *, ask: str
) -> tuple[int, str, TurnOn]:
    """Return where a range starts in counts (bins,) with edges (bins + 1,) in GeV, why in words, and the test for a turn-on.

    events_below: (bins + 1 or more,) events of the spectrum below each edge, the last one all; ask: for what, where they are too many.
    """
    first, found = first_bin(counts, edges), turn_on_of(counts, edges, shape)
    if not found.seen:
        where = "all bins" if first == 0 else "all bins from the first that holds an event"
        if first == 1 and counts[0]:
            where = "all bins but the first, which starts at 0"
        return first, f"{where}: {seen_words(found)}", found
    if found.mode[0] == edges[first + 1]:
        start, where = first + 1, "the second bin with events: a threshold lies inside the first"
    else:
        mode = int(np.searchsorted(edges, found.mode[1])) - 1
        clear = 0.5 * (edges[mode] + edges[mode + 1]) * (1 + MARGIN * shape.width)
        start = int(np.argmin(np.abs(edges - clear)))
        where = f"{MARGIN:g} signal widths above a turn-on that may reach {edges[mode + 1]:g} GeV"
    below, events = events_below[min(start, len(counts))], events_below[-1]
    if below > MOST_BELOW * events:
        raise InputError(
            f"{below:.0f} of {events:.0f} events, more than two thirds, lie below {edges[min(start, len(counts))]:g} GeV, where the fit would start "
            f"({where}; {seen_words(found)}). Give {ask}"
        )
    return start, f"{where}; {seen_words(found)}", found


def seen_words(found: TurnOn) -> str:
    """Return in words what the test for a turn-on says."""
    if found.seen:
        return f"S = {found.with_bump:.3g}, {found.threshold:.3g} or less in 99.9 % of spectra that fall"
    if found.with_bump is not None:
        return f"no turn-on, S = {found.statistic:.3g} is that of a bump"
    return f"no turn-on, S = {found.statistic:.3g}"


def given_words(low: float, found: TurnOn | None) -> str:
    """Return in words that a range is given, and what it starts in; low: GeV."""
    if found is None or not found.seen or low >= found.mode[1]:
        return "given"
    return f"given; it starts inside a turn-on that may reach {found.mode[1]:g} GeV ({seen_words(found)})"


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
    """Return the bin behind the last: the dijet function, alone or times a process, ends at sqrt_s, where only empty bins may be left out."""
    if not counts.any():
        raise InputError(f"the spectrum is empty: none of its {len(counts)} bins holds an event")
    if family not in {"dijet", GAUSSIAN_PROCESS}:
        return len(counts)
    stop = int(np.searchsorted(edges, sqrt_s)) - 1
    beyond = counts[max(stop, 0) :].sum()
    if beyond:
        raise InputError(
            f"{beyond:.0f} events in bins that reach sqrt_s = {sqrt_s:g} GeV or lie above it (edges to {edges[-1]:g} GeV); another --sqrt-s, or another unit of the mass?"
        )
    return stop


def check_bins(counts: Floats, edges: Floats, *, family: str, why: str = "") -> None:
    """Refuse too many bins, too few for the function's parameters, and a spectrum that is cut off: all zero where it cannot be.

    why: the bins start where they do, for the message.
    """
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
            f"{len(filled)} bins with events from {edges[0]:g} to {edges[-1]:g} GeV{why}: the {family} function has {lowest + 1} parameters or "
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


def scan_masses(
    fit_range: FitRange, counts: Floats, *, width: float, masses: tuple[float, float] | None = None
) -> Floats:
    """Return the masses to hunt at (GeV), from counts (bins,) in the fit range: half a width or half a bin apart.

    Two widths clear of both ends, up to where ten events are left. masses: [low, high] GeV to keep of them; InputError
    where they reach out of the fit range, or hold no mass of the scan.
    """
    edges = np.asarray(fit_range.edges)
    events, coarse = events_and_step(fit_range, counts, width=width)
    grid = mass_grid(fit_range, events, resolution=coarse)
    if masses is None:
        return grid
    low, high = masses
    if not low <= high or low < edges[0] or high > edges[-1]:
        raise InputError(
            f"masses [{low:g}, {high:g}] GeV: they rise and lie in the fit range, {edges[0]:g} to {edges[-1]:g} GeV"
        )
    return masses_within(grid, masses)


def events_and_step(fit_range: FitRange, counts: Floats, *, width: float) -> tuple[Floats, float]:
    """Return masses (n,) in GeV that stand for counts (bins,) at the end of a scan, and its resolution: a width or a bin."""
    edges = np.asarray(fit_range.edges)
    centres = 0.5 * (edges[1:] + edges[:-1])
    # only the ten highest events matter, so ten a bin stand for all of them
    events = np.repeat(centres, np.minimum(counts, MIN_ABOVE).astype(np.int64))
    return events, max(width, float(np.median(np.diff(edges) / centres)))


def masses_within(grid: Floats, asked: tuple[float, float], observable: Observable = MJJ) -> Floats:
    """Return those masses of a scan (n,) GeV that lie in `asked`, [low, high]; raises InputError where there are none."""
    kept = grid[(grid >= asked[0]) & (grid <= asked[1])]
    if not len(kept):
        raise InputError(
            f"{words(asked, observable)} hold none of the {len(grid)} masses of the scan, {observable.span(grid[0], grid[-1])}: two "
            f"widths clear of both ends of the fit range, and {MIN_ABOVE} events at the last mass or above"
        )
    return kept


def words(asked: tuple[float, float], observable: Observable) -> str:
    """Return the masses that were asked for as people write them."""
    return f"masses [{asked[0]:g}, {asked[1]:g}] {observable.unit}".rstrip()


def masses_note(
    fit_range: FitRange, counts: Floats, grid: Floats, *, width: float, masses: tuple[float, float] | None
) -> list[str]:
    """Say which of the masses asked for a scan of counts (bins,) left out; arguments as `scan_masses` has them, of which grid came."""
    if masses is None:
        return []
    events, coarse = events_and_step(fit_range, counts, width=width)
    return left_out_note(fit_range, events, grid, resolution=coarse, asked=masses)


def left_out_note(
    fit_range: FitRange,
    events: npt.ArrayLike,
    grid: Floats,
    *,
    resolution: float,
    asked: tuple[float, float],
    observable: Observable = MJJ,
) -> list[str]:
    """Say how many masses below and above those of a scan (n,) GeV were asked for, [low, high], and why they are not scanned.

    events: (n,) inclusive masses; resolution: two steps of the scan, as `mass_grid` has it.
    """
    low, high, few = scan_ends(fit_range, events, resolution=resolution)
    step = 0.5 * resolution
    why = "two widths clear of the ends of the fit range"
    notes = []
    above = int(np.log(asked[1] / grid[-1]) / step)
    if above > 0 and asked[1] > high:
        left = f"beyond it fewer than {MIN_ABOVE} events are left" if few else why
        notes.append(f"the last mass scanned is {observable.at(grid[-1])}, {above} above it are left out: {left}")
    below = int(np.log(grid[0] / asked[0]) / step) if asked[0] > 0 else int(np.log(grid[0] / fit_range.low) / step)
    if below > 0 and asked[0] < low:
        notes.append(f"the first mass scanned is {observable.at(grid[0])}, {below} below it are left out: {why}")
    return [f"{words(asked, observable)}: {note}" for note in notes]
