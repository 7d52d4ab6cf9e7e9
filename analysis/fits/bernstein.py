"""Bernstein polynomials with a signal on top: binned Poisson fits of many spectra at once, coefficients bounded at 0.

nu = B c + s t is linear in its parameters, so that the extended negative log-likelihood is convex. c >= 0 makes the
background positive; s is free while every bin stays at or above 0. Bounds that are met (a coefficient at 0, an empty bin
under a deficit) are what plain Newton steps fail on: here a primal-dual interior-point method takes them all along.
With a multiplier y_i for each bin and y_j for each coefficient, the minimum is where

    y_i nu_i = n_i,   y_j c_j = 0,   B^T (1 - y) = y_c,   t^T (1 - y) = 0,   all of them >= 0

(Karush, Kuhn and Tucker), and Newton's method solves these equations with the zeros replaced by a tau that falls to 0
(S. Wright, Primal-Dual Interior-Point Methods, SIAM 1997, chapter 1). The multipliers also bound how far -ln L lies
above its minimum, whatever the steps were: `converged` means that this duality gap is below 1e-6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from ...errors import InputError

__all__ = ["BernsteinFit", "bernstein_basis", "choose_degree", "fit_bernstein"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
DEGREES = tuple(range(3, 13))
MAX_ITERATIONS = 80
GAP = 1e-6  # in ln L; what is left moves 2 ln L by 2e-6
AIM = 1e-8
TO_BOUNDARY = 0.95
AT_EDGE = 1e-3  # an empty bin with this multiplier or more holds the signal back


@dataclass(frozen=True, repr=False)
class BernsteinFit:
    """Fits of n spectra. nll: half the Poisson deviance, the -ln L above that of nu = n.

    coefficients: (n, degree + 1) events, the background's share of each polynomial; signal, error: (n,) events, NaN in a
    fit without signal; expected: (n, bins); gap: (n,) how far at most nll is above its minimum; converged: (n,).
    """

    coefficients: Floats
    signal: Floats
    error: Floats
    expected: Floats
    nll: Floats
    gap: Floats
    converged: Bools

    def __repr__(self) -> str:
        """Return the value in a line."""
        n, k = self.coefficients.shape
        return f"BernsteinFit({n} spectra, degree {k - 1}, converged: {int(self.converged.sum())})"


def bernstein_basis(edges: Sequence[float] | Floats, degree: int, *, reference: npt.ArrayLike | None = None) -> Floats:
    """Return the share of each bin in each Bernstein polynomial on the range of the edges: (bins, degree + 1).

    Polynomial j, normalised, is the density of Beta(j + 1, degree - j + 1): a coefficient is a number of events.
    With coefficients >= 0 none falls faster than (1 - x)^degree: a spectrum that falls by decades needs a high degree,
    or a reference (bins,), its smooth expectation, that the polynomials multiply.
    Raises InputError for a degree below 0 or with too many parameters for the bins, and for a reference that is not
    positive.
    """
    edges = np.asarray(edges, dtype=np.float64)
    if not 0 <= degree < len(edges) - 2:
        raise InputError(
            f"a Bernstein polynomial on {len(edges) - 1} bins has degree 0 to {len(edges) - 3}, found {degree}"
        )
    x = (edges - edges[0]) / (edges[-1] - edges[0])
    j = np.arange(degree + 1)
    share = np.diff(special.betainc(j + 1, degree - j + 1, x[:, None]), axis=0)
    if reference is None:
        return np.asarray(share)
    shape = np.asarray(reference, dtype=np.float64)
    if shape.shape != (len(x) - 1,) or not (np.isfinite(shape).all() and (shape > 0).all()):
        raise InputError(f"the reference of a Bernstein fit has {len(x) - 1} positive bins, found {shape}")
    share = share * (shape / np.diff(x))[:, None]
    return np.asarray(share / share.sum(axis=0))


def choose_degree(
    counts: npt.ArrayLike,
    edges: Sequence[float] | Floats,
    *,
    reference: npt.ArrayLike | None = None,
    degrees: Sequence[int] = DEGREES,
    alpha: float = 0.05,
) -> int:
    """Return the degree for one spectrum, counts (bins,): a higher one while the likelihood ratio pays at level `alpha`.

    Two degrees in a row that gain nothing end the search, not one: even and odd ones gain in turns.
    """
    n = np.atleast_2d(np.asarray(counts, dtype=np.float64))
    allowed = [d for d in degrees if d < n.shape[1] - 1]
    nll = [float(fit_bernstein(n, bernstein_basis(edges, d, reference=reference)).nll[0]) for d in allowed]
    chosen = 0
    for i in range(1, len(allowed)):
        if i - chosen > 2:
            break
        if stats.chi2.sf(2 * (nll[chosen] - nll[i]), allowed[i] - allowed[chosen]) < alpha:
            chosen = i
    return int(allowed[chosen])


def fit_bernstein(counts: npt.ArrayLike, basis: Floats, templates: Floats | None = None) -> BernsteinFit:
    """Fit nu = basis c + s template to every row of counts (n, bins), c >= 0 and s free while nu >= 0.

    basis: (bins, k), its columns of unit sum; templates: (n, bins) for unit yield, None for background alone.
    A spectrum without events has no fit: it is returned as not converged.
    """
    n = np.atleast_2d(np.asarray(counts, dtype=np.float64))
    at = start(n, basis)
    gap = np.full(len(n), np.inf)
    active = np.flatnonzero(n.sum(axis=1) > 0)
    for _ in range(MAX_ITERATIONS):
        t = None if templates is None else templates[active]
        part = at.take(active)
        gap[active] = duality_gap(n[active], basis, t, part)
        going = gap[active] >= AIM
        active = active[going]
        if len(active) == 0:
            break
        moved = step(n[active], basis, None if t is None else t[going], part.take(going))
        for whole, new in zip(at, moved, strict=True):
            whole[active] = new
    converged = gap < GAP
    signal, error = np.full(len(n), np.nan), np.full(len(n), np.nan)
    if templates is not None:
        signal = at.signal
        error[converged] = yield_error(n[converged], basis, templates[converged], at.take(converged))
    nll = half_deviance(n, at.expected)
    return BernsteinFit(at.coefficients, signal, error, at.expected, nll, gap, converged)


class State(NamedTuple):
    """Where the fits stand: parameters, bins (n, bins), and the multipliers of bins (n, bins) and coefficients (n, k)."""

    coefficients: Floats
    signal: Floats
    expected: Floats
    y: Floats
    y_c: Floats

    def take(self, rows: npt.NDArray[np.int64] | Bools) -> State:
        """Return the given rows."""
        return State(*(a[rows] for a in self))


def start(counts: Floats, basis: Floats) -> State:
    """Start from equal coefficients without signal: strictly inside every bound."""
    n, k = len(counts), basis.shape[1]
    total = np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    coefficients = np.repeat(total / k, k, axis=1)
    return State(coefficients, np.zeros(n), coefficients @ basis.T, np.ones_like(counts), np.full((n, k), 0.1))


def duality_gap(counts: Floats, basis: Floats, templates: Floats | None, at: State) -> Floats:
    """Return how far -ln L is above its minimum at most, plus what the multipliers still miss of being feasible: (n,).

    -ln L(p) - L_dual(y) = sum_i n_i (r_i - 1 - ln r_i) + sum over n_i = 0 of y_i nu_i + y_c c, with r_i = y_i nu_i / n_i.
    """
    product = at.y * at.expected
    ratio = np.where(counts > 0, product / np.maximum(counts, 1e-300), 1.0)
    full = np.where(counts > 0, counts * (ratio - 1 - np.log(ratio)), product)
    slack = (1 - at.y) @ basis - at.y_c
    missing = (np.abs(slack) * at.coefficients).sum(axis=1)
    if templates is not None:
        missing += np.abs(((1 - at.y) * templates).sum(axis=1) * at.signal)
    return np.asarray(full.sum(axis=1) + (at.y_c * at.coefficients).sum(axis=1) + missing)


def step(counts: Floats, basis: Floats, templates: Floats | None, at: State) -> State:
    """Take one Newton step on the conditions of the minimum, tau at a tenth of where it stands, bounds kept."""
    empty = counts == 0
    n_zero = empty.sum(axis=1) + basis.shape[1]
    held = np.where(empty, at.y * at.expected, 0.0).sum(axis=1) + (at.y_c * at.coefficients).sum(axis=1)
    tau = 0.1 * (held / n_zero)[:, None]
    target = np.where(empty, tau, counts)
    pull = target / at.expected
    matrix = normal_matrix(at.y / at.expected, at.y_c / at.coefficients, basis, templates)
    residual = (pull - 1.0) @ basis + tau / at.coefficients
    if templates is not None:
        residual = np.concatenate([residual, ((pull - 1.0) * templates).sum(axis=1)[:, None]], axis=1)
    change = solve_scaled(matrix, residual)
    k = basis.shape[1]
    d_c = change[:, :k]
    d_s = np.zeros(len(counts)) if templates is None else change[:, k]
    d_nu = d_c @ basis.T
    if templates is not None:
        d_nu += d_s[:, None] * templates
    d_y = pull - at.y - at.y / at.expected * d_nu
    d_yc = tau / at.coefficients - at.y_c - at.y_c / at.coefficients * d_c
    primal = np.minimum(room(at.expected, d_nu), room(at.coefficients, d_c))
    dual = np.minimum(room(at.y, d_y), room(at.y_c, d_yc))
    return State(
        at.coefficients + primal[:, None] * d_c,
        at.signal + primal * d_s,
        at.expected + primal[:, None] * d_nu,
        at.y + dual[:, None] * d_y,
        at.y_c + dual[:, None] * d_yc,
    )


def room(value: Floats, change: Floats) -> Floats:
    """Return the share of a change, at most 1, that leaves 5 % of what is above 0: (n, k) -> (n,)."""
    worst = (-change / value).max(axis=1)
    return np.asarray(np.minimum(1.0, TO_BOUNDARY / np.maximum(worst, 1e-300)))


def normal_matrix(weights: Floats, diagonal: Floats, basis: Floats, templates: Floats | None) -> Floats:
    """Return A^T W A with W = weights (n, bins) and A = (basis, template), plus the coefficients' diagonal (n, k)."""
    n, k = len(weights), basis.shape[1]
    outer = (basis[:, :, None] * basis[:, None, :]).reshape(len(basis), k * k)
    size = k if templates is None else k + 1
    matrix = np.empty((n, size, size))
    matrix[:, :k, :k] = (weights @ outer).reshape(n, k, k)
    matrix[:, np.arange(k), np.arange(k)] += diagonal
    if templates is not None:
        weighted = weights * templates
        matrix[:, :k, k] = matrix[:, k, :k] = weighted @ basis
        matrix[:, k, k] = (weighted * templates).sum(axis=1)
    return matrix


def solve_scaled(matrix: Floats, vector: Floats) -> Floats:
    """Solve matrix x = vector, (n, k, k) and (n, k), scaled to a unit diagonal with a ridge at rounding level."""
    scale = np.sqrt(np.maximum(np.einsum("nii->ni", matrix), 1e-300))
    scaled = matrix / (scale[:, :, None] * scale[:, None, :]) + 1e-14 * np.eye(matrix.shape[1])
    return np.asarray(np.linalg.solve(scaled, (vector / scale)[..., None])[..., 0] / scale)


def yield_error(counts: Floats, basis: Floats, templates: Floats, at: State) -> Floats:
    """Return the signal's curvature error (n,), coefficients at their bound held there.

    Where an empty bin holds a deficit back, -ln L has no curvature to speak of: there the expected information of the
    fitted background gives the error.
    """
    held = ((counts == 0) & (at.y > AT_EDGE) & (at.expected < AT_EDGE)).any(axis=1)
    background = np.maximum(at.coefficients @ basis.T, 1e-300)
    weights = np.where(held[:, None], 1 / background, counts / at.expected**2)
    matrix = normal_matrix(weights, at.y_c / at.coefficients, basis, templates)
    unit = np.zeros((len(counts), matrix.shape[1]))
    unit[:, -1] = 1.0
    return np.asarray(np.sqrt(np.maximum(solve_scaled(matrix, unit)[:, -1], 0.0)))


def half_deviance(counts: Floats, expected: Floats) -> Floats:
    """Return -ln L above that of expected = counts: (n, bins) -> (n,)."""
    return np.asarray((expected - counts - special.xlogy(counts, expected / np.maximum(counts, 1e-300))).sum(axis=1))
