"""The simultaneous fit of signal and background at every mass, for many spectra at once, and its signed local p-value.

p = 1 - Phi(sign(mu) sqrt(2 Delta ln L)) with the background's parameters free over all bins and mu free to be negative
while every bin stays positive: a deficit has p > 0.5 and p is uniform where there is no signal. Counts have shape
(n_spectra, n_bins), templates (n_masses, n_bins) for unit yield.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from .background import BackgroundFit, orthonormal_basis

__all__ = ["LocalScan", "scan_spectra"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
MAX_ITERATIONS = 40
TOLERANCE = 1e-7  # Newton decrement in units of ln L; moves z by less than 1e-4 at z = 0.001 and above
TO_BOUNDARY = 0.95
EDGE = 1e-3  # a bin this far below its background counts as zero: costs less than 1e-3 of its content in ln L
BLOCK = 60_000  # fits of 40 bins and 5 parameters solved together: about 200 MB of work arrays


@dataclass(frozen=True)
class LocalScan:
    """Signed local significance of many spectra at every mass.

    z, p: (n_spectra, n_masses), one-sided; signal: fitted yield mu in events; error: its curvature error;
    converged: where the fit reached its minimum (or, with mu < 0, the edge where a bin would turn negative).
    """

    z: Floats
    p: Floats
    signal: Floats
    error: Floats
    converged: Bools


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
    z = np.zeros((n, n_masses))
    signal, error = np.zeros_like(z), np.zeros_like(z)
    converged = np.zeros((n, n_masses), dtype=bool)
    offset = np.log(np.diff(edges) / np.diff(edges).mean())
    for order in np.unique(background.order):
        rows = np.flatnonzero(background.order == order)
        weights = np.maximum(counts[rows].mean(axis=0), 1e-3 * max(counts[rows].mean(), 1e-9))
        basis = orthonormal_basis(edges, int(order), sqrt_s=sqrt_s, family=family, weights=weights)
        # the background fit may have used other weights for its basis: this one is orthonormal under its own
        theta = (background.log_expected[rows] - offset) @ (basis * weights[:, None])
        per_block = max(1, BLOCK // n_masses)
        for start in range(0, len(rows), per_block):
            part = rows[start : start + per_block]
            pairs = np.repeat(np.arange(len(part)), n_masses)
            which = np.tile(np.arange(n_masses), len(part))
            mu, gain, sigma, ok = fit_signal(
                counts[part][pairs], basis, offset, templates[which], theta[start : start + per_block][pairs]
            )
            shape = (len(part), n_masses)
            signal[part], error[part] = mu.reshape(shape), sigma.reshape(shape)
            z[part] = (np.sign(mu) * np.sqrt(2 * np.maximum(gain, 0.0))).reshape(shape)
            converged[part] = ok.reshape(shape)
    converged &= background.converged[:, None]
    return LocalScan(z=z, p=special.ndtr(-z), signal=signal, error=error, converged=converged)


def fit_signal(
    counts: Floats, basis: Floats, offset: Floats, templates: Floats, theta: Floats
) -> tuple[Floats, Floats, Floats, Bools]:
    """Fit nu = exp(basis theta + offset) + mu s to each row of counts (n, bins), templates s (n, bins).

    Newton steps on the exact Hessian where it is positive definite, else on its positive part; a step never goes further than 95 % of the way to a bin of zero. Returns mu, the gain in ln L over mu = 0, the
    curvature error of mu and convergence, each (n,).
    """
    n, n_bins = counts.shape
    k = basis.shape[1]
    outer = (basis[:, :, None] * basis[:, None, :]).reshape(n_bins, k * k)
    params = np.concatenate([theta, np.zeros((n, 1))], axis=1)

    def evaluate(c: Floats, s: Floats, x: Floats) -> tuple[Floats, Floats, Floats]:
        b = np.exp(np.clip(x[:, :k] @ basis.T + offset, -60.0, 60.0))
        nu = b + x[:, k:] * s
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.where(nu > 0, nu - special.xlogy(c, np.maximum(nu, 1e-300)), np.inf).sum(axis=1)
        return value, b, nu

    active = np.arange(n)
    value, b, nu = evaluate(counts, templates, params)
    start_value = value.copy()
    converged = np.zeros(n, dtype=bool)
    sigma = np.full(n, np.inf)
    for _ in range(MAX_ITERATIONS):
        c, s, x = counts[active], templates[active], params[active]
        ratio = c / nu
        residual = 1.0 - ratio
        gradient = np.concatenate([(residual * b) @ basis, (residual * s).sum(axis=1)[:, None]], axis=1)
        curvature = ratio / nu
        hessian = assemble(curvature * b * b + residual * b, curvature * b * s, curvature * s * s, basis, outer)
        # dropping what can be negative leaves a matrix that never is; the expected information would not do: its
        # s^2 / nu of an empty bin with next to no background pins mu where it stands
        positive = assemble(
            curvature * b * b + np.maximum(residual, 0.0) * b, curvature * b * s, curvature * s * s, basis, outer
        )
        step = newton_step(hessian, positive, gradient)
        decrement = -0.5 * (gradient * step).sum(axis=1)
        # how far until the falling signal empties the first bin; the background's own part, an exponential, never does
        fall = np.maximum(-step[:, k:] * s, 0.0)
        with np.errstate(divide="ignore", over="ignore"):
            room = np.where(fall > 0, nu / np.maximum(fall, 1e-300), np.inf).min(axis=1)
        scale = np.minimum(1.0, TO_BOUNDARY * room)
        done = decrement < TOLERANCE
        # an empty window pushes mu down to where its bins reach zero: what is left there cannot change ln L further
        at_edge = ~done & (x[:, k] < 0) & (room < 1.0) & ((nu / b).min(axis=1) < EDGE)
        finished = done | at_edge
        if finished.any():
            sigma[active[finished]] = yield_error(hessian[finished], positive[finished])
        converged[active[finished]] = True
        scale[at_edge] = 0.0
        new_x = x + scale[:, None] * step
        new_value, new_b, new_nu = evaluate(c, s, new_x)
        for _halving in range(30):
            worse = ~finished & ~(new_value <= value[active] + 1e-11 * np.abs(value[active]))
            if not worse.any():
                break
            scale[worse] *= 0.5
            new_x[worse] = x[worse] + scale[worse, None] * step[worse]
            new_value[worse], new_b[worse], new_nu[worse] = evaluate(c[worse], s[worse], new_x[worse])
        better = new_value <= value[active]
        params[active[better]] = new_x[better]
        value[active] = np.where(better, new_value, value[active])
        # a step that no longer improves within rounding, while the decrement is small, is the minimum
        stuck = ~finished & ~better & (decrement < 1e-4)
        converged[active[stuck]] = True
        if stuck.any():
            sigma[active[stuck]] = yield_error(hessian[stuck], positive[stuck])
        go_on = ~finished & ~stuck
        active, b, nu = active[go_on], new_b[go_on], new_nu[go_on]
        if len(active) == 0:
            break
    return params[:, k], start_value - value, sigma, converged


def assemble(bb: Floats, bs: Floats, ss: Floats, basis: Floats, outer: Floats) -> Floats:
    """Build the (n, k+1, k+1) matrices of background-background, background-signal and signal-signal weights."""
    n, k = len(bb), basis.shape[1]
    matrix = np.empty((n, k + 1, k + 1))
    matrix[:, :k, :k] = (bb @ outer).reshape(n, k, k)
    matrix[:, :k, k] = matrix[:, k, :k] = bs @ basis
    matrix[:, k, k] = ss.sum(axis=1)
    return matrix


def newton_step(hessian: Floats, positive: Floats, gradient: Floats) -> Floats:
    """Solve for the descent step with the exact Hessian, or the positive part where that is not positive definite."""
    k = gradient.shape[1]
    scale = np.sqrt(np.maximum(np.einsum("nii->ni", positive), 1e-30))
    outer_scale = scale[:, :, None] * scale[:, None, :]
    scaled = hessian / outer_scale
    bad = ~np.isfinite(scaled).all(axis=(1, 2))
    scaled[bad] = np.eye(k)
    bad |= np.linalg.eigvalsh(scaled)[:, 0] < 1e-8
    scaled[bad] = (positive / outer_scale)[bad] + 1e-8 * np.eye(k)
    return np.asarray(-np.linalg.solve(scaled, (gradient / scale)[..., None])[..., 0] / scale)


def yield_error(hessian: Floats, positive: Floats) -> Floats:
    """Return the error of mu (n,) from the inverse of the exact Hessian, or of the positive part where that fails."""
    k = hessian.shape[1]
    scale = np.sqrt(np.maximum(np.einsum("nii->ni", positive), 1e-30))
    outer_scale = scale[:, :, None] * scale[:, None, :]
    use = hessian / outer_scale
    bad = np.linalg.eigvalsh(use)[:, 0] < 1e-10
    use[bad] = (positive / outer_scale)[bad] + 1e-10 * np.eye(k)
    return np.asarray(np.sqrt(np.maximum(np.linalg.inv(use)[:, -1, -1], 0.0)) / scale[:, -1])
