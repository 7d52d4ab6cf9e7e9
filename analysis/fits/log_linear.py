"""Fits of log-linear backgrounds to many spectra: ln nu = basis theta + offset, penalised by priors of theta where they have any.

The door to the kernels of `engine`, which fit one spectrum after another, spread over the threads that OMP_NUM_THREADS allows.
Counts have shape (n_spectra, n_bins), templates (n_masses, n_bins) for unit yield.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .engine import fit_rows, scan_rows

__all__ = ["OneFit", "SignalFits", "fit_log_linear", "fit_one_signal", "fit_signals", "in_threads"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
FEWEST = 32  # spectra a thread


class SignalFits(NamedTuple):
    """Of every spectrum and template, (n, masses): yield mu, gain in ln L over mu = 0, curvature error of mu, convergence."""

    signal: Floats
    gain: Floats
    error: Floats
    converged: Bools


class OneFit(NamedTuple):
    """A signal and a background fitted to one spectrum: yield mu, its curvature error, theta (k,), expected (bins,), convergence."""

    signal: float
    error: float
    theta: Floats
    expected: Floats
    converged: bool


def in_threads(n: int, work: Callable[[slice], None]) -> None:
    """Do the work on parts of n rows at once, in as many threads as there are cores, or OMP_NUM_THREADS where that is fewer.

    The kernels release Python's lock. What a row gives does not depend on the parts.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    threads = max(1, min(cores, int(asked) if asked.isdigit() else cores, n // FEWEST))
    if threads == 1:
        work(slice(0, n))
        return
    # several parts a thread: some spectra take longer than others
    bounds = np.linspace(0, n, min(4 * threads, n // FEWEST) + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, map(slice, bounds[:-1], bounds[1:])))


def fit_log_linear(
    counts: Floats, basis: Floats, offset: Floats, mask: Floats | None = None, *, precision: Floats | None = None
) -> tuple[Floats, Floats, Bools]:
    """Maximise the Poisson likelihood of nu = exp(basis theta + offset) for many spectra.

    counts (n, bins); basis (bins, k); offset (bins,); mask (bins,) or (n, bins) of 0 and 1 leaves bins out; precision (k,) of
    the priors N(0, 1 / precision) of theta, 0 where there is none. Returns theta (n, k), the penalised -ln L (n,) over the bins
    kept, converged (n,).
    """
    k = basis.shape[1]
    rows = np.ascontiguousarray(counts, dtype=np.float64)
    keep = np.ones((1, counts.shape[1])) if mask is None else np.ascontiguousarray(np.atleast_2d(mask), np.float64)
    prior = np.zeros(k) if precision is None else np.ascontiguousarray(precision, dtype=np.float64)
    # start: weighted least squares of ln(n + 1/2)
    outer = (basis[:, :, None] * basis[:, None, :]).reshape(len(basis), k * k)
    weight = keep * (rows + 0.5)
    normal = (weight @ outer).reshape(-1, k, k) + np.diag(prior)
    theta = solve(normal, (weight * (np.log(rows + 0.5) - offset)) @ basis)
    value, converged = np.empty(len(rows)), np.zeros(len(rows), dtype=bool)
    columns, shift = np.ascontiguousarray(basis.T), np.ascontiguousarray(offset)

    def work(part: slice) -> None:
        own = keep[part] if len(keep) > 1 else keep
        fit_rows(rows[part], own, columns, shift, prior, theta[part], value[part], converged[part])

    in_threads(len(rows), work)
    return theta, value, converged


def fit_signals(
    counts: Floats,
    basis: Floats,
    offset: Floats,
    templates: Floats,
    theta: Floats,
    *,
    precision: Floats | None = None,
) -> SignalFits:
    """Fit nu = exp(basis theta + offset) + mu s to each row of counts (n, bins) for each template s, from theta (n, k).

    mu may be negative while every bin stays positive.
    """
    return signal_fits(counts, basis, offset, templates, theta, precision)[0]


def fit_one_signal(
    counts: Floats, basis: Floats, offset: Floats, template: Floats, theta: Floats, *, precision: Floats | None = None
) -> OneFit:
    """Fit nu = exp(basis theta + offset) + mu s to one spectrum, counts (bins,), from theta (k,)."""
    fits, (own,) = signal_fits(counts[None], basis, offset, template[None], theta[None], precision)
    mu = float(fits.signal[0, 0])
    expected = np.exp(np.clip(basis @ own + offset, -60.0, 60.0)) + mu * template
    return OneFit(mu, float(fits.error[0, 0]), own, expected, bool(fits.converged[0, 0]))


def signal_fits(
    counts: Floats, basis: Floats, offset: Floats, templates: Floats, theta: Floats, precision: Floats | None
) -> tuple[SignalFits, Floats]:
    """Return the fits, and theta (n, k) of the background, or of the fit with the template where there is one alone."""
    k, n = basis.shape[1], len(counts)
    rows, start = np.ascontiguousarray(counts, dtype=np.float64), np.array(theta, dtype=np.float64, order="C")
    prior = np.zeros(k) if precision is None else np.ascontiguousarray(precision, dtype=np.float64)
    columns, shift = np.ascontiguousarray(basis.T), np.ascontiguousarray(offset)
    shapes = np.ascontiguousarray(templates)
    signal, gain, error = np.empty((3, n, len(shapes)))
    converged = np.zeros((n, len(shapes)), dtype=bool)

    def work(part: slice) -> None:
        scan_rows(
            rows[part],
            columns,
            shift,
            prior,
            start[part],
            shapes,
            signal[part],
            gain[part],
            error[part],
            converged[part],
        )

    in_threads(n, work)
    return SignalFits(signal, gain, error, converged), start


def solve(matrices: Floats, vectors: Floats) -> Floats:
    """Solve symmetric positive systems (n, k, k) x = (n, k), with a ridge at rounding level against singular ones."""
    k = matrices.shape[-1]
    ridge = 1e-12 * np.trace(matrices, axis1=1, axis2=2)[:, None, None] / k + 1e-300
    return np.asarray(np.linalg.solve(matrices + ridge * np.eye(k), vectors[..., None])[..., 0])
