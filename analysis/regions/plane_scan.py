"""A scan of the loss plane: where in (background loss, smallest prior loss) does the mass spectrum show a resonance?

Method 1 of QUAK (arXiv:2011.03550): the mass spectrum of every window of the plane is fitted with a Bernstein polynomial
and a Gaussian at every mass. Windows overlap, there are hundreds, and the largest excess was chosen after looking: its z
says where an excess lies, never how significant it is. The regions of `regions` and the `hunt` with its global p-value
are for that.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from ...errors import InputError
from ...files import write_json
from ..fits.background import choose_background, goodness_of_fit
from ..fits.bernstein import bernstein_basis, choose_degree, fit_bernstein
from ..spectra.signal_shape import GAUSSIAN_RESOLUTION, SignalShape, signal_templates
from .losses import as_losses

__all__ = ["FOR_LOCATING", "PlaneScan", "plane_windows", "scan_plane"]

log = logging.getLogger(__name__)
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
FOR_LOCATING = "for locating an excess, not for its significance"
BACKGROUND_QUANTILES = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 1.0)
PRIOR_QUANTILES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
MIN_EVENTS = 50
BLOCK = 20_000  # fits of 40 bins and 5 parameters solved together: about 100 MB of work arrays


@dataclass(frozen=True, repr=False)
class PlaneScan:
    """Fits of every window of the loss plane at every mass: `for_locating` an excess, not for its significance.

    The largest z is that of the window and mass that fluctuated most (or hold a signal): biased upwards by the choice,
    by the number of windows and masses, and by an unknown amount, as windows share events. Never quote it, never combine it.

    windows: (n_windows, 4) quantiles of held-out losses [background from, to, prior from, to]; boundaries:
    (n_folds, n_windows, 4) the same as losses of each fold's model; corner: (n_windows,) true for "background loss above
    and prior loss below", false for a cell between neighbouring quantiles; counts: (n_windows, bins), edges and masses in
    GeV; signal, error: fitted yield and its curvature error in events, z: sign(signal) sqrt(2 Delta ln L), all
    (n_windows, n_masses) and NaN where not converged (a failed fit, or a window of too few events); fit_p: (n_windows,)
    chi-squared probability of the background alone, NaN as well; family: of the inclusive fit that the polynomials of
    `degree` multiply, None for bare polynomials; width: of the Gaussian, relative to the mass.
    """

    windows: Floats
    boundaries: Floats
    corner: Bools
    edges: Floats
    counts: Floats
    masses: Floats
    signal: Floats
    error: Floats
    z: Floats
    converged: Bools
    fit_p: Floats
    degree: int
    family: str | None
    width: float
    note: str = FOR_LOCATING

    def __repr__(self) -> str:
        """Return the value in a line."""
        best = ""
        if self.converged.any():
            window, m = self.largest
            best = f", largest local z {self.z[window, m]:.2f} at {self.masses[m]:g} GeV"
        return f"PlaneScan({len(self.windows)} windows, {len(self.masses)} masses{best}; {self.note})"

    @property
    def largest(self) -> tuple[int, int]:
        """Return (window, mass index) of the largest z; raises InputError where no fit converged."""
        if not self.converged.any():
            raise InputError("no fit of the plane converged; give wider windows or more events")
        window, mass = np.unravel_index(int(np.nanargmax(np.where(self.converged, self.z, np.nan))), self.z.shape)
        return int(window), int(mass)

    def save(self, path: str | Path) -> None:
        """Write all fields as JSON, null where there is no number."""
        found: dict[str, object] = {}
        for name, value in dataclasses.asdict(self).items():
            array = value.astype(object) if isinstance(value, np.ndarray) else value
            if isinstance(value, np.ndarray) and value.dtype == np.float64:
                array[np.isnan(value)] = None
            found[name] = array.tolist() if isinstance(value, np.ndarray) else value
        write_json(path, found)


def plane_windows(
    background: Sequence[float] = BACKGROUND_QUANTILES, prior: Sequence[float] = PRIOR_QUANTILES
) -> tuple[Floats, Bools]:
    """Return windows (n, 4) [background from, to, prior from, to] in quantiles, and which of them are corners (n,).

    Corners: background loss above one of its quantiles and prior loss below one of its own, in all pairs; then the cells
    between neighbouring quantiles, but for the one that is a corner already.
    Raises InputError where the quantiles are not ascending from 0 to 1.
    """
    for name, values in (("background", background), ("prior", prior)):
        if len(values) < 2 or values[0] != 0 or values[-1] != 1 or np.any(np.diff(values) <= 0):
            raise InputError(f"the {name} quantiles ascend from 0 to 1, found {list(values)}")
    corners = [(q, 1.0, 0.0, r) for q in background[:-1] for r in prior[1:]]
    cells = [(q, up, r, right) for q, up in itertools.pairwise(background) for r, right in itertools.pairwise(prior)]
    windows = [*corners, *(c for c in cells if c not in corners)]
    return np.array(windows), np.arange(len(windows)) < len(corners)


def scan_plane(
    mass: npt.ArrayLike,
    losses: npt.ArrayLike,
    edges: Sequence[float] | Floats,
    masses: npt.ArrayLike,
    *,
    held_out: Sequence[npt.ArrayLike],
    fold: npt.ArrayLike | None = None,
    width: float = GAUSSIAN_RESOLUTION,
    degree: int | None = 3,
    family: str | None = "dijet",
    sqrt_s: float = 13_000.0,
    background_quantiles: Sequence[float] = BACKGROUND_QUANTILES,
    prior_quantiles: Sequence[float] = PRIOR_QUANTILES,
    min_events: int = MIN_EVENTS,
) -> PlaneScan:
    """Fit every window of the plane at every mass: events mass (n,) GeV, losses (n, 1 + n_priors), fold (n,) of the model.

    held_out: losses that fix the windows, one array a fold, as for `fix_regions`; masses: (n_masses,) or one, GeV;
    width: of the Gaussian, relative; degree: of the polynomials, None for the one that the inclusive spectrum asks for;
    family: of the inclusive fit that they multiply, None for bare Bernstein polynomials, which cannot fall by decades;
    windows of fewer than `min_events` inside the edges are not fitted.
    Raises InputError for losses without priors, unknown folds, no event inside the edges, and unusable quantiles.
    """
    values, masses_ = as_losses(losses), np.asarray(mass, dtype=np.float64)
    edges, grid = np.asarray(edges, dtype=np.float64), np.atleast_1d(np.asarray(masses, dtype=np.float64))
    folds = np.zeros(len(values), dtype=np.int64) if fold is None else np.asarray(fold, dtype=np.int64)
    windows, corner = plane_windows(background_quantiles, prior_quantiles)
    quantiles = (np.asarray(background_quantiles, dtype=np.float64), np.asarray(prior_quantiles, dtype=np.float64))
    cuts = [plane_cuts(as_losses(x), *quantiles) for x in held_out]
    counts = window_counts(masses_, values, folds, edges, cuts, windows, quantiles)
    inclusive = np.histogram(masses_, edges)[0].astype(np.float64)
    if inclusive.sum() == 0:
        raise InputError(f"none of {len(masses_)} events lies between {edges[0]:g} and {edges[-1]:g} GeV")
    reference = None
    if family is not None:
        reference = choose_background(inclusive[None], edges, sqrt_s=sqrt_s, family=family).expected[0]
    if degree is None:
        degree = choose_degree(inclusive, edges, reference=reference)
    basis = bernstein_basis(edges, degree, reference=reference)
    templates = signal_templates(SignalShape(width=width), grid, edges)
    shape = (len(windows), len(grid))
    signal, error, z = (np.full(shape, np.nan) for _ in range(3))
    converged, fit_p = np.zeros(shape, dtype=bool), np.full(len(windows), np.nan)
    rows = np.flatnonzero(counts.sum(axis=1) >= max(min_events, 1))
    per_block = max(1, BLOCK // len(grid))
    # matrices of a few columns: threads of the linear algebra library cost more than they give
    with threadpool_limits(1):
        alone = fit_bernstein(counts[rows], basis)
        for first in range(0, len(rows), per_block):
            part = slice(first, first + per_block)
            n = len(rows[part])
            both = fit_bernstein(np.repeat(counts[rows[part]], len(grid), axis=0), basis, np.tile(templates, (n, 1)))
            gain = alone.nll[part, None] - both.nll.reshape(n, -1)
            ok = both.converged.reshape(n, -1) & alone.converged[part, None]
            found = both.signal.reshape(n, -1)
            signal[rows[part]] = np.where(ok, found, np.nan)
            error[rows[part]] = np.where(ok, both.error.reshape(n, -1), np.nan)
            z[rows[part]] = np.where(ok, np.sign(found) * np.sqrt(2 * np.maximum(gain, 0.0)), np.nan)
            converged[rows[part]] = ok
    parameters = np.full(len(rows), degree + 1)
    fit_p[rows] = np.where(
        alone.converged, goodness_of_fit(counts[rows], np.maximum(alone.expected, 1e-12), parameters), np.nan
    )
    failed = int((~converged[rows]).sum())
    if failed:
        log.warning("%d of %d fits of the loss plane did not converge and are left out", failed, len(rows) * len(grid))
    boundaries = np.stack(
        [np.stack([c[i // 2][at(quantiles[i // 2], windows[:, i])] for i in range(4)], 1) for c in cuts]
    )
    return PlaneScan(
        windows, boundaries, corner, edges, counts, grid, signal, error, z, converged, fit_p, degree, family, width
    )


def at(quantiles: Floats, values: Floats) -> Ints:
    """Return the index of each value (n,) in the quantiles that it comes from."""
    return np.asarray(np.searchsorted(quantiles, values), dtype=np.int64)


def plane_cuts(held_out: Floats, background: Floats, prior: Floats) -> tuple[Floats, Floats]:
    """Return the boundaries of background loss and smallest prior loss at their quantiles, open at both ends."""
    if held_out.shape[1] < 2:
        raise InputError("the loss plane needs the loss of a prior beside the background's, found one loss an event")
    largest = np.finfo(np.float64).max
    cuts = []
    for values, quantiles in ((held_out[:, 0], background), (held_out[:, 1:].min(axis=1), prior)):
        cuts.append(np.concatenate([[-largest], np.quantile(values, quantiles[1:-1]), [largest]]))
    return cuts[0], cuts[1]


def window_counts(
    mass: Floats,
    losses: Floats,
    fold: Ints,
    edges: Floats,
    cuts: Sequence[tuple[Floats, Floats]],
    windows: Floats,
    quantiles: tuple[Floats, Floats],
) -> Floats:
    """Count the events of each window in each mass bin, (n_windows, bins), all folds together.

    One histogram of the finest cells, summed up: time does not depend on the number of windows.
    """
    if len(fold) and not (fold.min() >= 0 and fold.max() < len(cuts)):
        raise InputError(f"folds {fold.min()} to {fold.max()} found, held-out losses given for 0 to {len(cuts) - 1}")
    n_b, n_s, bins = len(quantiles[0]) - 1, len(quantiles[1]) - 1, len(edges) - 1
    cells = np.zeros((n_b, n_s, bins))
    for f, (background, prior) in enumerate(cuts):
        here = (fold == f) & (mass >= edges[0]) & (mass < edges[-1])
        b = np.searchsorted(background[1:-1], losses[here, 0], side="left")
        s = np.searchsorted(prior[1:-1], losses[here, 1:].min(axis=1), side="left")
        m = np.searchsorted(edges, mass[here], side="right") - 1
        cells += np.bincount((b * n_s + s) * bins + m, minlength=cells.size).reshape(cells.shape)
    total = np.zeros((n_b + 1, n_s + 1, bins))
    total[1:, 1:] = cells.cumsum(axis=0).cumsum(axis=1)
    low, high, left, right = (at(quantiles[i // 2], windows[:, i]) for i in range(4))
    return np.asarray(total[high, right] - total[low, right] - total[high, left] + total[low, left])
