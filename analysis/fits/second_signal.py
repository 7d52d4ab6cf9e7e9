"""A second signal beside a first one of free yield: nu = exp(basis theta + offset) + mu_1 s_1 + mu_2 s_2, everything fitted at once.

The door to the kernels with two templates. The background is that of a process (`ProcessColumns`); a log-linear one is a process
without modes. Counts have shape (n_spectra, n_bins), first (n_spectra, n_bins) the first signal's shape for each of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .engine import fit_signals_together, second_scan_rows
from .gaussian_process import GaussianProcess, ProcessColumns
from .log_linear import SignalFits, in_threads

__all__ = ["SecondFits", "fit_with_signals", "log_linear_columns", "scan_seconds"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class SecondFits(NamedTuple):
    """Fits with the first signal alone, its yields (n,) and the expectation with it (n, bins); and of the second one (n, masses)."""

    first: Floats
    expected: Floats
    signals: SignalFits


def log_linear_columns(basis: Floats, offset: Floats) -> ProcessColumns:
    """Return the columns of a log-linear background, basis (bins, k): free ones alone."""
    free = np.ascontiguousarray(basis.T)
    process = GaussianProcess(widths=(1.0,), lengths=(1.0,))
    return ProcessColumns(process, free, np.zeros(len(free)), np.empty((1, 0, len(offset))), offset)


def scan_seconds(
    counts: Floats,
    columns: ProcessColumns,
    chosen: Indices,
    theta: Floats,
    first: Floats,
    templates: Floats,
    asked: Bools,
) -> SecondFits:
    """Scan each spectrum with its first signal in the model: the process chosen, (n, 2) indices, theta (n, f + m) to start from.

    asked: (n, masses), where the second one is looked for; elsewhere no fit converged.
    """
    n, masses = len(counts), len(templates)
    start = np.array(theta, dtype=np.float64, order="C")
    background, expected, yields = np.empty(counts.shape), np.empty(counts.shape), np.empty(n)
    signal, gain, error = np.empty((3, n, masses))
    converged = np.zeros((n, masses), dtype=bool)
    rows, shapes = np.ascontiguousarray(counts, dtype=np.float64), np.ascontiguousarray(templates)
    ones, index, wanted = np.ascontiguousarray(first), np.ascontiguousarray(chosen), np.ascontiguousarray(asked)

    def work(part: slice) -> None:
        second_scan_rows(
            rows[part],
            *columns.arrays,
            index[part],
            start[part],
            ones[part],
            shapes,
            wanted[part],
            background[part],
            expected[part],
            yields[part],
            signal[part],
            gain[part],
            error[part],
            converged[part],
        )

    in_threads(n, work)
    return SecondFits(yields, expected, SignalFits(signal, gain, error, converged))


def fit_with_signals(
    counts: Floats, basis: Floats, offset: Floats, templates: Floats, theta: Floats, *, precision: Floats
) -> tuple[Floats, Floats, float, bool]:
    """Fit one spectrum (bins,) with the yields of several templates (signals, bins) at once, basis (bins, k), from theta (k,).

    Returns the yields, the expectation (bins,), the penalised -ln L and whether the fit converged.
    """
    size = len(theta) + len(templates)
    mu, nu, now = np.zeros(len(templates)), np.empty(len(counts)), np.array(theta, dtype=np.float64)
    value, _, converged = fit_signals_together(
        np.ascontiguousarray(counts, dtype=np.float64),
        np.ascontiguousarray(basis.T),
        np.ascontiguousarray(offset),
        np.ascontiguousarray(precision, dtype=np.float64),
        np.ascontiguousarray(templates),
        now,
        mu,
        np.empty((size, size)),
        nu,
    )
    return mu, nu, float(value), bool(converged)
