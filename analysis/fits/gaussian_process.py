"""The dijet function times a log-Gaussian process: a smooth background of which no family has to be true.

    ln nu_i = ln dijet_3(m_i) + sum_k c_k phi_k(u_i),   c_k of prior N(0, 1),   u = ln of the bin's centre,

phi_k the largest eigenmodes, times the roots of their eigenvalues, of the covariance w^2 exp(-(u - u')^2 / 2 l^2). The four parameters
of the dijet function of order 3 are free. The process has a width w of a few steps, from 0.003 (the dijet function alone, at most
numbers of events) to 1, and a length l of two; the evidence chooses both for each spectrum, under a prior of the width that is flat in
ln w and falls as exp(-w): counts that tell nothing of a process have none. This is a log-Gaussian Cox process
(arXiv:1709.05681 and 2503.07289 use them on such spectra); what it was measured to do is in docs/design/background.md.
Counts have shape (n_spectra, n_bins).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from .engine import evidence_rows, process_scan_rows, second_evidence_rows, signal_evidence_rows
from .log_linear import SignalFits, in_threads, solve

__all__ = ["GAUSSIAN_PROCESS", "GaussianProcess", "ProcessColumns", "ProcessFit"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
GAUSSIAN_PROCESS = "gaussian_process"
DIJET_ORDER = 3
USUAL_WIDTH = 1.0  # of the exponential in a width's prior
EDGE_SIZE = 0.3
EDGE_LENGTHS = (0.07, 0.15)  # of ln m


@dataclass(frozen=True)
class GaussianProcess:
    """What may be chosen: widths of ln nu, rising, and lengths in ln m; modes: eigenmodes kept of each length.

    edge_terms: whether two terms, 0.3 exp(-(u - u_0) / 0.07) and the same with 0.15, u_0 of the first edge, are added with unit
    priors, for a spectrum that starts just above a turn-on. A single width and length are fixed.
    """

    widths: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    lengths: tuple[float, ...] = (0.3, 0.6)
    modes: int = 14
    edge_terms: bool = False

    def __post_init__(self) -> None:
        for name, values in (("widths", self.widths), ("lengths", self.lengths)):
            if not values or not all(np.isfinite(v) and v > 0 for v in values) or list(values) != sorted(set(values)):
                raise InputError(
                    f"{name} of a Gaussian process are positive, each larger than the one before; found {list(values)}"
                )
        if self.modes < 1:
            raise InputError(f"a Gaussian process has 1 mode or more; found {self.modes}")


@dataclass(frozen=True, repr=False)
class ProcessFit:
    """The process of each spectrum: its width and length (n,), the coefficients c_k (n, terms) of its columns at the mode.

    Coefficients are in units of their prior, those of the edge terms first where there are any; log_evidence: (n, lengths,
    widths), of all that could have been chosen, the width's prior included, up to a constant of each spectrum.
    """

    width: Floats
    length: Floats
    coefficients: Floats
    log_evidence: Floats
    process: GaussianProcess

    def __repr__(self) -> str:
        """Return the value in a line."""
        return (
            f"ProcessFit({len(self.width)} spectra, widths {np.unique(self.width)}, lengths {np.unique(self.length)})"
        )


@dataclass(frozen=True, repr=False)
class ProcessColumns:
    """The columns of a process on bins: free (f, bins) with precisions prior (f,), modes (lengths, m, bins), offset (bins,)."""

    process: GaussianProcess
    free: Floats
    prior: Floats
    modes: Floats
    offset: Floats

    def __repr__(self) -> str:
        """Return the sizes in a line."""
        return f"ProcessColumns({len(self.free)} free columns, {self.modes.shape[1]} modes, {len(self.offset)} bins)"

    @property
    def widths(self) -> Floats:
        """Return the widths (w,)."""
        return np.array(self.process.widths)

    @property
    def arrays(self) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Return what the kernels take of them, in their order."""
        return self.free, self.prior, self.modes, self.widths, self.offset

    @property
    def log_prior(self) -> Floats:
        """Return ln of the prior of each width (w,), up to a constant."""
        return -self.widths / USUAL_WIDTH

    def constrained(self, fit: ProcessFit, spectrum: int) -> Floats:
        """Return the columns of one spectrum's constrained terms, (terms, bins), each of prior N(0, 1)."""
        q = self.process.lengths.index(float(fit.length[spectrum]))
        edge = self.free[self.prior > 0]
        return np.concatenate([edge, fit.width[spectrum] * self.modes[q]])


def process_modes(edges: Floats, length: float, modes: int) -> Floats:
    """Return the largest eigenmodes of a process of width 1, times the roots of their eigenvalues: (modes, bins)."""
    u = np.log(0.5 * (edges[1:] + edges[:-1]))
    values, vectors = np.linalg.eigh(np.exp(-((u[:, None] - u[None, :]) ** 2) / (2 * length**2)))
    kept = min(modes, len(u))
    found = vectors[:, ::-1][:, :kept] * np.sqrt(np.maximum(values[::-1][:kept], 0.0))
    # an eigenvector's sign is free: the largest entry is positive, so that coefficients can be compared
    at = np.abs(found).argmax(axis=0)
    return np.ascontiguousarray((found * np.sign(found[at, np.arange(kept)])).T)


def process_columns(process: GaussianProcess, edges: Floats, dijet: Floats, offset: Floats) -> ProcessColumns:
    """Return the columns on bins with these edges (bins + 1,); dijet (bins, 4) spans the dijet function of order 3."""
    free, prior = dijet.T, np.zeros(dijet.shape[1])
    if process.edge_terms:
        du = np.log(0.5 * (edges[1:] + edges[:-1]) / edges[0])
        free = np.concatenate([free, np.stack([EDGE_SIZE * np.exp(-du / length) for length in EDGE_LENGTHS])])
        prior = np.append(prior, np.ones(len(EDGE_LENGTHS)))
    modes = np.stack([process_modes(edges, length, process.modes) for length in process.lengths])
    return ProcessColumns(process, np.ascontiguousarray(free), prior, modes, np.ascontiguousarray(offset))


def first_guess(counts: Floats, columns: ProcessColumns) -> Floats:
    """Return the free parameters (n, f) from weighted least squares of ln(n + 1/2)."""
    f = len(columns.free)
    outer = (columns.free[:, None, :] * columns.free[None, :, :]).reshape(f * f, -1)
    weight = counts + 0.5
    normal = (weight @ outer.T).reshape(-1, f, f) + np.diag(columns.prior)
    return np.ascontiguousarray(solve(normal, (weight * (np.log(weight) - columns.offset)) @ columns.free.T))


def evidences(counts: Floats, columns: ProcessColumns) -> tuple[Floats, Floats]:
    """Return theta (n, lengths, widths, f + m) and ln of evidence and prior (n, lengths, widths), -inf where a fit failed."""
    n, f = len(counts), len(columns.free)
    lengths, m, _ = columns.modes.shape
    widths, start = columns.widths, first_guess(counts, columns)
    theta = np.empty((n, lengths, len(widths), f + m))
    log_z = np.empty((n, lengths, len(widths)))
    converged = np.zeros(log_z.shape, dtype=bool)

    def work(part: slice) -> None:
        evidence_rows(counts[part], *columns.arrays, start[part], theta[part], log_z[part], converged[part])

    in_threads(n, work)
    return theta, np.where(converged, log_z + columns.log_prior, -np.inf)


def signal_evidences(counts: Floats, columns: ProcessColumns, theta: Floats, *signals: Floats) -> Floats:
    """Return ln of evidence and prior with one or two signals of flat prior on top, from theta of `evidences`: (n, lengths, widths).

    signals: (n, bins) each, the templates of every spectrum.
    """
    kernel: Callable[..., None] = signal_evidence_rows if len(signals) == 1 else second_evidence_rows
    log_z = np.empty(theta.shape[:3])
    converged = np.zeros(log_z.shape, dtype=bool)
    shapes = [np.ascontiguousarray(s) for s in signals]

    def work(part: slice) -> None:
        own = (shape[part] for shape in shapes)
        kernel(counts[part], *columns.arrays, theta[part], *own, log_z[part], converged[part])

    in_threads(len(counts), work)
    return np.where(converged & np.isfinite(log_z), log_z + columns.log_prior, -np.inf)


def largest(log_z: Floats) -> Indices:
    """Return the indices of length and width (n, 2) where the evidence (n, lengths, widths) is largest."""
    return np.stack(np.unravel_index(log_z.reshape(len(log_z), -1).argmax(axis=1), log_z.shape[1:]), axis=1)


@dataclass(frozen=True, repr=False)
class ProcessScan:
    """Fits of chosen processes: the process, expected (n, bins), penalised -ln L, parameters told and convergence (n,); signals."""

    fit: ProcessFit
    expected: Floats
    nll: Floats
    n_parameters: Floats
    converged: Bools
    signals: SignalFits

    def __repr__(self) -> str:
        """Return the value in a line."""
        return f"ProcessScan({self.fit!r}, converged: {int(self.converged.sum())})"

    def replaced(self, rows: Indices, other: ProcessScan, log_evidence: Floats) -> ProcessScan:
        """Return this with the fits of `other` at some rows, and the evidence of all of them."""

        def with_rows(mine: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> npt.NDArray[Any]:
            whole = mine.copy()
            whole[rows] = theirs
            return whole

        mine, theirs = self.fit, other.fit
        fit = ProcessFit(
            with_rows(mine.width, theirs.width),
            with_rows(mine.length, theirs.length),
            with_rows(mine.coefficients, theirs.coefficients),
            log_evidence,
            mine.process,
        )
        return ProcessScan(
            fit,
            with_rows(self.expected, other.expected),
            with_rows(self.nll, other.nll),
            with_rows(self.n_parameters, other.n_parameters),
            with_rows(self.converged, other.converged),
            SignalFits(*map(with_rows, self.signals, other.signals)),
        )


def scan_processes(
    counts: Floats, columns: ProcessColumns, chosen: Indices, theta: Floats, log_z: Floats, templates: Floats
) -> ProcessScan:
    """Fit the process chosen for each spectrum, indices (n, 2) of length and width, from theta (n, f + m), and scan it."""
    n, masses = len(counts), len(templates)
    start = np.array(theta, dtype=np.float64, order="C")
    expected, (value, parameters) = np.empty(counts.shape), np.empty((2, n))
    known, converged = np.zeros(n, dtype=bool), np.zeros((n, masses), dtype=bool)
    signal, gain, error = np.empty((3, n, masses))
    shapes = np.ascontiguousarray(templates)
    index = np.ascontiguousarray(chosen, dtype=np.int64)

    def work(part: slice) -> None:
        process_scan_rows(
            counts[part],
            *columns.arrays,
            index[part],
            start[part],
            shapes,
            expected[part],
            value[part],
            parameters[part],
            known[part],
            signal[part],
            gain[part],
            error[part],
            converged[part],
        )

    in_threads(n, work)
    free = int((columns.prior == 0).sum())
    fit = ProcessFit(
        columns.widths[index[:, 1]],
        np.array(columns.process.lengths)[index[:, 0]],
        start[:, free:],
        log_z,
        columns.process,
    )
    return ProcessScan(fit, expected, value, parameters, known, SignalFits(signal, gain, error, converged))
