"""The simultaneous fit of signal and background at every mass, for many spectra at once, and its signed local p-value.

p = 1 - Phi(sign(mu) sqrt(2 Delta ln L)) with the background's parameters free over all bins and mu free to be negative
while every bin stays positive: a deficit has p > 0.5 and p is uniform where there is no signal. Counts have shape
(n_spectra, n_bins), templates (n_masses, n_bins) for unit yield.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .background import BackgroundFit, columns_of_process, is_log_linear, log_offset, orthonormal_basis
from .bernstein import bernstein_basis, fit_bernstein, half_deviance
from .formula_fit import curve_around
from .gaussian_process import GAUSSIAN_PROCESS, scan_processes
from .log_linear import SignalFits, fit_signals
from .log_p import p_of_z
from .newton import fit_curve

__all__ = ["LocalScan", "scan_spectra"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
BLOCK = 4_000  # fits of Bernstein polynomials and formulas solved together
PATIENCE = 80  # iterations of a formula, whose slopes change on the way
PairFits = tuple[Floats, Floats, Floats, Bools]


@dataclass(frozen=True, repr=False)
class LocalScan:
    """Signed local significance of many spectra at every mass.

    z, p: (n_spectra, n_masses), one-sided, p no smaller than 1e-300; signal: fitted yield mu in events; error: its curvature error;
    converged: where the fit reached its minimum (or, with mu < 0, the edge where a bin would turn negative).
    """

    z: Floats
    p: Floats
    signal: Floats
    error: Floats
    converged: Bools

    def __repr__(self) -> str:
        """Return the value in a line."""
        n, masses = self.z.shape
        return f"LocalScan({n} spectra at {masses} masses, converged: {int(self.converged.sum())} of {self.converged.size})"


def scan_spectra(
    counts: npt.ArrayLike,
    background: BackgroundFit,
    templates: Floats,
    edges: Floats,
    *,
    sqrt_s: float,
    family: str = "dijet",
) -> LocalScan:
    """Fit signal plus background to every spectrum at every mass, starting from each spectrum's background fit."""
    counts = np.atleast_2d(np.asarray(counts, dtype=np.float64))
    edges = np.asarray(edges, dtype=np.float64)
    n, n_masses = len(counts), len(templates)
    if family == GAUSSIAN_PROCESS:
        return scan_of_processes(counts, background, templates, edges, sqrt_s=sqrt_s)
    z = np.zeros((n, n_masses))
    signal, error = np.zeros_like(z), np.zeros_like(z)
    converged = np.zeros((n, n_masses), dtype=bool)
    per_block = max(1, BLOCK // n_masses)
    for order in np.unique(background.order):
        rows = np.flatnonzero(background.order == order)
        if is_log_linear(family):
            fit = log_linear_signals(counts[rows], background, rows, templates, edges, sqrt_s=sqrt_s, family=family)
            signal[rows], error[rows], converged[rows] = fit.signal, fit.error, fit.converged
            z[rows] = signed_root(fit.signal, fit.gain)
            continue
        fit_pairs = pair_fits(counts[rows], background, rows, edges, sqrt_s=sqrt_s, family=family)
        for start in range(0, len(rows), per_block):
            local = np.arange(start, min(start + per_block, len(rows)))
            mu, gain, sigma, ok = fit_pairs(np.repeat(local, n_masses), np.tile(templates, (len(local), 1)))
            part, shape = rows[local], (len(local), n_masses)
            signal[part], error[part] = mu.reshape(shape), sigma.reshape(shape)
            z[part] = signed_root(mu, gain).reshape(shape)
            converged[part] = ok.reshape(shape)
    converged &= background.converged[:, None]
    return LocalScan(z=z, p=p_of_z(z), signal=signal, error=error, converged=converged)


def scan_of_processes(
    counts: Floats, background: BackgroundFit, templates: Floats, edges: Floats, *, sqrt_s: float
) -> LocalScan:
    """Scan each spectrum with the width and length of its own background fit."""
    fit = background.process
    assert fit is not None, "choose_background gives the process of a Gaussian process"
    columns = columns_of_process(fit.process, edges, counts, sqrt_s=sqrt_s)
    chosen = np.stack(
        [np.searchsorted(fit.process.lengths, fit.length), np.searchsorted(fit.process.widths, fit.width)], axis=1
    )
    constrained = np.stack([fit.coefficients[i] @ columns.constrained(fit, i) for i in range(len(counts))])
    free = columns.free[columns.prior == 0]
    # under any weights a member of the family is met exactly: those of the expectation keep the digits
    root = np.sqrt(background.expected.mean(axis=0))
    rest = (background.log_expected - columns.offset - constrained) * root
    start = np.linalg.lstsq((free * root).T, rest.T, rcond=None)[0].T
    theta = np.concatenate([start, fit.coefficients], axis=1)
    rows = np.ascontiguousarray(counts)
    return local_scan(scan_processes(rows, columns, chosen, theta, fit.log_evidence, templates).signals)


def local_scan(signals: SignalFits) -> LocalScan:
    """Return the signal fits of every spectrum and mass as a scan."""
    z = signed_root(signals.signal, signals.gain)
    return LocalScan(z, p_of_z(z), signals.signal, signals.error, signals.converged)


def pair_fits(
    counts: Floats,
    background: BackgroundFit,
    rows: npt.NDArray[np.int64],
    edges: Floats,
    *,
    sqrt_s: float,
    family: str,
) -> Callable[[npt.NDArray[np.int64], Floats], PairFits]:
    """Return the signal fit of Bernstein polynomials or a formula: (which of `counts` (n, bins), templates) -> mu, gain, error, converged.

    rows: where these spectra stand in `background`.
    """
    if family == "bernstein":
        shares = bernstein_basis(edges, int(background.order[rows[0]]))
        alone = half_deviance(counts, background.expected[rows])

        def fit_polynomial(pairs: npt.NDArray[np.int64], templates: Floats) -> PairFits:
            fit = fit_bernstein(counts[pairs], shares, templates)
            return fit.signal, alone[pairs] - fit.nll, np.where(fit.converged, fit.error, np.inf), fit.converged

        return fit_polynomial
    assert background.parameters is not None, "choose_background gives the parameters of a formula"
    parameters = background.parameters[rows]
    # a formula can have minima apart, between which a mean of parameters lies nowhere: the largest spectrum stands for all
    largest = int(np.argmax(np.where(background.converged[rows], counts.sum(axis=1), -1.0)))
    curve = curve_around(family, edges, parameters[largest], counts.mean(axis=0), sqrt_s=sqrt_s)
    theta, alone = curve.theta(parameters), background.nll[rows]

    def fit_formula_signal(pairs: npt.NDArray[np.int64], templates: Floats) -> PairFits:
        fit = fit_curve(counts[pairs], curve, theta[pairs], templates, iterations=PATIENCE)
        gain = alone[pairs] - fit.nll
        return fit.signal, gain, fit.error, fit.converged & (gain > -1e-5)

    return fit_formula_signal


def signed_root(signal: Floats, gain: Floats) -> Floats:
    """Return z of fitted yields and their gains in ln L."""
    return np.asarray(np.sign(signal) * np.sqrt(2 * np.maximum(gain, 0.0)))


def log_linear_signals(
    counts: Floats,
    background: BackgroundFit,
    rows: npt.NDArray[np.int64],
    templates: Floats,
    edges: Floats,
    *,
    sqrt_s: float,
    family: str,
) -> SignalFits:
    """Fit every template (masses, bins) to counts (n, bins) of one order, which stand at `rows` of `background`."""
    offset = log_offset(edges, sqrt_s=sqrt_s, family=family)
    basis, start = basis_and_start(counts, background, rows, edges, offset, sqrt_s=sqrt_s, family=family)
    return fit_signals(counts, basis, offset, templates, start)


def basis_and_start(
    counts: Floats,
    background: BackgroundFit,
    rows: npt.NDArray[np.int64],
    edges: Floats,
    offset: Floats,
    *,
    sqrt_s: float,
    family: str,
) -> tuple[Floats, Floats]:
    """Return a basis (bins, k) for log-linear fits of one order, and the background fits in it (n, k).

    counts: (n, bins), which stand at `rows` of `background`; offset: `log_offset` (bins,).
    """
    weights = np.maximum(counts.mean(axis=0), 1e-3 * max(counts.mean(), 1e-9))
    basis = orthonormal_basis(edges, int(background.order[rows[0]]), sqrt_s=sqrt_s, family=family, weights=weights)
    # the background fit may have used other weights for its basis: this one is orthonormal under its own
    return basis, (background.log_expected[rows] - offset) @ (basis * weights[:, None])
