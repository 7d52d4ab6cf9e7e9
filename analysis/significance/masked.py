"""Background fits that do not look at some bins: those of a window that stays blind.

Bins that are left out of the columns of a log-linear likelihood are left out of everything that is made of it, the evidence of a Gaussian
process too; the fit is then carried on over all bins.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from ...errors import InputError
from ..fits.background import BackgroundFit, choose_process, columns_of_process, family_orders, fit_background
from ..fits.gaussian_process import GAUSSIAN_PROCESS
from ..fits.log_linear import fit_log_linear
from .procedure import HuntSettings

__all__ = ["bins_seen", "filled", "masked_background"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
BESIDE = 6  # bins on either side of a window
PAYS = 0.05
LOOK_AHEAD = 2  # orders


def bins_seen(edges: Floats, window: tuple[float, float]) -> Bools:
    """Return which bins (bins,) lie outside of a window [low, high] GeV; a bin that it touches is masked as a whole.

    Raises InputError for a window that does not rise, or holds no bin.
    """
    low, high = window
    if not (low < high and np.isfinite([low, high]).all()):
        raise InputError(f"blind [{low:g}, {high:g}] GeV: low and then high are expected")
    masked = (edges[1:] > low) & (edges[:-1] < high)
    if not masked.any():
        raise InputError(
            f"blind [{low:g}, {high:g}] GeV: no bin lies there, the spectrum goes from {edges[0]:g} to {edges[-1]:g} GeV"
        )
    return np.asarray(~masked)


def filled(counts: Floats, edges: Floats, seen: Bools) -> Floats:
    """Return counts (bins,) with what a power law through six bins on either side lets one expect where they are not seen, rounded.

    Beside a window at an end of the spectrum it is that of one side. Raises InputError where fewer than two filled bins are beside it.
    """
    masked = np.flatnonzero(~seen)
    first, last = int(masked[0]), int(masked[-1]) + 1
    beside = np.r_[max(0, first - BESIDE) : first, last : min(len(counts), last + BESIDE)]
    if (counts[beside] > 0).sum() < 2:
        raise InputError(f"blind {edges[first]:g} to {edges[last]:g} GeV: hardly a bin beside it holds an event")
    centres, widths = 0.5 * (edges[1:] + edges[:-1]), np.diff(edges)
    basis = np.stack([np.ones(len(centres)), np.log(centres / centres[beside[0]])], axis=1)
    theta, _, _ = fit_log_linear(counts[None, beside], basis[beside], np.log(widths[beside]))
    expected = np.exp(np.clip(basis @ theta[0], -60.0, 60.0)) * widths
    return np.asarray(np.where(seen, counts, np.round(expected)))


def masked_background(counts: Floats, edges: Floats, seen: Bools, settings: HuntSettings) -> BackgroundFit:
    """Fit spectra (n, bins) over the bins that are seen (bins,); the expectation is that of all bins.

    A Gaussian process is chosen by the evidence without signal; an order while one or two more parameters gain with
    p < 0.05 in the likelihood ratio. Counts of bins that are not seen change nothing.
    """
    rows = np.where(seen, counts, 0.0)
    if settings.family == GAUSSIAN_PROCESS:
        columns = columns_of_process(settings.process, edges, rows, sqrt_s=settings.sqrt_s)
        part = replace(
            columns,
            free=np.ascontiguousarray(columns.free[:, seen]),
            modes=np.ascontiguousarray(columns.modes[:, :, seen]),
            offset=np.ascontiguousarray(columns.offset[seen]),
        )
        fit = choose_process(rows[:, seen], part)
        process = fit.process
        assert process is not None, "a Gaussian process has its process"
        free = columns.free[columns.prior == 0]
        constrained = np.stack([process.coefficients[i] @ columns.constrained(process, i) for i in range(len(rows))])
        # the free columns follow from the bins that are seen, where all of them are met exactly
        root = np.sqrt(fit.expected.mean(axis=0))
        rest = (fit.log_expected - (columns.offset + constrained)[:, seen]) * root
        theta = np.linalg.lstsq((free[:, seen] * root).T, rest.T, rcond=None)[0].T
        log_expected = theta @ free + constrained + columns.offset
        return replace(fit, log_expected=log_expected, expected=np.exp(np.clip(log_expected, -60.0, 60.0)))
    mask = seen.astype(np.float64)
    fits = [one_order(row, edges, mask, settings) for row in rows]
    return BackgroundFit(
        log_expected=np.concatenate([f.log_expected for f in fits]),
        expected=np.concatenate([f.expected for f in fits]),
        nll=np.concatenate([f.nll for f in fits]),
        order=np.concatenate([f.order for f in fits]),
        n_parameters=np.concatenate([f.n_parameters for f in fits]),
        converged=np.concatenate([f.converged for f in fits]),
        parameters=None
        if any(f.parameters is None for f in fits)
        else np.concatenate([f.parameters for f in fits if f.parameters is not None]),
    )


def one_order(counts: Floats, edges: Floats, mask: Floats, settings: HuntSettings) -> BackgroundFit:
    """Fit one spectrum (bins,) with the order that its seen bins want."""
    found: BackgroundFit | None = None
    for order in family_orders(settings.family):
        # polynomials of even and odd degrees gain in turns: one that does not pay is no reason to stop
        if mask.sum() < order + 3 or (found is not None and order > int(found.order[0]) + LOOK_AHEAD):
            break
        fit = fit_background(counts[None], edges, order, sqrt_s=settings.sqrt_s, family=settings.family, mask=mask)
        if found is None:
            found = fit
            continue
        gain = 2 * float(found.nll[0] - fit.nll[0])
        if fit.converged[0] and stats.chi2.sf(gain, order - int(found.order[0])) < PAYS:
            found = fit
    if found is None:
        raise InputError(
            f"{int(mask.sum())} bins outside of the blind window are too few for the {settings.family} function"
        )
    return found
