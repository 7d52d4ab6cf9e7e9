"""A user's formula fitted to many spectra at once: where to start, and the curve that `curve_fit` moves.

The best of some points spread over all signs and sizes of the parameters are fitted to the mean spectrum. Every spectrum is
then fitted from the best minimum found there, and from the next ones where that fails. Near a minimum the parameters are
counted in standard deviations along independent directions, so that neither their scales nor their correlations matter.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special
from scipy.stats import qmc

from ...errors import InputError
from .formula import UserFunction, parse_function
from .newton import QUIET, fit_curve

__all__ = ["FormulaCurve", "curve_around", "fit_formula", "formula_design"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
TRUSTED = 1.5  # change of ln b in any bin up to which a curve is taken for its tangent
PATIENCE = 150  # iterations that a formula may need from far away
CANDIDATES, STARTS, KEPT = 1024, 24, 4
SMALLEST, LARGEST = -4.0, 2.0  # powers of ten of the parameters that are tried
BLOCK = 2_000  # fits of formulas solved together: their work arrays stay near the processor


@dataclass(frozen=True, repr=False)
class FormulaCurve:
    """b = exp(eta(p) + p0 + offset) of a user's function in theta: (p0, p1, ...) = origin + unit theta.

    unit (k, k) makes the slopes at `origin` orthonormal under the weights it was made for, so that theta counts in
    standard deviations and no scale of a parameter matters.
    """

    function: UserFunction
    centres: Floats
    offset: Floats
    sqrt_s: float
    origin: Floats
    unit: Floats

    def __repr__(self) -> str:
        """Return the function and its bins in a line."""
        return f"FormulaCurve({self.function!r}, {len(self.centres)} bins)"

    def parameters(self, theta: Floats) -> Floats:
        """Return p0, p1, ... (n, k)."""
        return np.asarray(self.origin + theta @ self.unit.T)

    def theta(self, parameters: Floats) -> Floats:
        """Return theta (n, k) of parameters."""
        return np.asarray(np.linalg.solve(self.unit, (parameters - self.origin).T).T)

    @np.errstate(**QUIET)
    def log_expected(self, theta: Floats) -> Floats:
        """Return ln b (n, bins)."""
        p = self.parameters(theta)
        f = self.function
        return np.asarray(
            f.evaluate([f.eta], self.centres, p[:, 1:], sqrt_s=self.sqrt_s)[f.eta] + p[:, :1] + self.offset
        )

    def expected(self, theta: Floats) -> Floats:
        """Return b (n, bins)."""
        return np.asarray(np.exp(np.clip(self.log_expected(theta), -60.0, 60.0)))

    @np.errstate(**QUIET)
    def slopes(self, theta: Floats) -> FormulaSlopes:
        """Return the exact first and second derivatives."""
        f, p = self.function, self.parameters(theta)
        wanted = [*f.slopes, *(step for _, _, step in f.bends)]
        found = f.evaluate(wanted, self.centres, p[:, 1:], sqrt_s=self.sqrt_s)
        own = np.ones((len(p), len(self.centres), len(f.slopes) + 1))
        for i, step in enumerate(f.slopes):
            own[:, :, i + 1] = found[step]
        return FormulaSlopes(own @ self.unit, [(i + 1, j + 1, found[s]) for i, j, s in f.bends], self.unit)


class FormulaSlopes(NamedTuple):
    """Slopes (n, bins, k) by theta, second derivatives (i, j, (n, bins)) by the formula's own parameters, and the unit."""

    first: Floats
    second: list[tuple[int, int, Floats]]
    unit: Floats

    @np.errstate(**QUIET)
    def project(self, weights: Floats) -> Floats:
        """Return (n, k)."""
        return np.asarray((weights[:, None, :] @ self.first)[:, 0])

    @np.errstate(**QUIET)
    def quadratic(self, weights: Floats) -> Floats:
        """Return (n, k, k)."""
        return np.asarray((self.first * weights[:, :, None]).transpose(0, 2, 1) @ self.first)

    @np.errstate(**QUIET)
    def bend(self, weights: Floats) -> Floats | None:
        """Return (n, k, k)."""
        if not self.second:
            return None
        own = np.zeros((len(weights), len(self.unit), len(self.unit)))
        for i, j, values in self.second:
            own[:, i, j] = own[:, j, i] = (weights * values).sum(axis=1)
        return np.asarray(self.unit.T @ own @ self.unit)

    @np.errstate(**QUIET)
    def trusted(self, step: Floats, events: Floats) -> Floats:
        """Return the share of each step that moves no bin by more than TRUSTED in ln b, where it holds events: (n,)."""
        move = (np.abs(self.first @ step[:, :, None])[:, :, 0] * np.minimum(events, 1.0)).max(axis=1)
        return np.asarray(np.where(np.isfinite(move), np.minimum(1.0, TRUSTED / np.maximum(move, 1e-300)), 0.0))


def bare_curve(formula: str, edges: Floats, *, sqrt_s: float) -> FormulaCurve:
    """Return a formula as a curve in its own parameters p0, p1, ...: edges (bins + 1,) GeV."""
    function, widths = parse_function(formula), np.diff(edges)
    k = function.n_parameters + 1
    offset = np.log(widths / widths.mean())
    return FormulaCurve(function, 0.5 * (edges[1:] + edges[:-1]), offset, sqrt_s, np.zeros(k), np.eye(k))


def curve_around(formula: str, edges: Floats, origin: Floats, mean: Floats, *, sqrt_s: float) -> FormulaCurve:
    """Return a formula as a curve around parameters (k,), counted in standard deviations of a spectrum `mean` (bins,)."""
    return around(bare_curve(formula, edges, sqrt_s=sqrt_s), origin, mean)


def whitened(slopes: Floats, weights: Floats) -> tuple[Floats, float]:
    """Return the (k, k) unit in which slopes (bins, k) are orthonormal under weights (bins,), and their smallest independence.

    The second number is the smallest singular value of the slopes scaled to length 1: 0 where one is a sum of others.
    """
    rooted = np.clip(np.nan_to_num(slopes), -1e60, 1e60) * np.sqrt(weights)[:, None]
    length = np.linalg.norm(rooted, axis=0)
    length = np.where(length > 1e-12 * length.max(), length, length.max())
    _, singular, v = np.linalg.svd(rooted / length, full_matrices=False)
    kept = np.maximum(singular, 1e-6 * singular[0])
    return (v.T / kept) / length[:, None], float(singular[-1])


def fit_formula(
    counts: Floats, edges: Floats, formula: str, *, sqrt_s: float, keep: Bools | None = None
) -> tuple[Floats, Floats, Floats, Bools]:
    """Fit a user's formula to every row of counts (n, bins); keep (bins,) False leaves bins out.

    Starts are searched for on the mean of all spectra; every spectrum is then fitted from the best of them, and from the
    next ones where that fails. Returns ln b (n, bins), p0, p1, ... (n, k), -ln L over the bins kept and converged (n,).
    """
    kept = np.ones(counts.shape[1], dtype=bool) if keep is None else keep
    inside = counts[:, kept]
    mean = inside.mean(axis=0)
    whole = bare_curve(formula, edges, sqrt_s=sqrt_s)
    part = dataclasses.replace(whole, centres=whole.centres[kept], offset=whole.offset[kept])
    origins = mean_fits(mean, part)
    n, k = len(counts), len(origins[0])
    parameters, nll, converged = np.zeros((n, k)), np.full(n, np.inf), np.zeros(n, dtype=bool)
    open_ = np.arange(n)
    for origin in origins:
        curve = around(part, origin, mean)
        for first in range(0, len(open_), BLOCK):
            rows = open_[first : first + BLOCK]
            start = np.tile(origin, (len(rows), 1))
            start[:, 0] += np.log(np.maximum(inside[rows].sum(axis=1), 0.5) / max(mean.sum(), 0.5))
            fit = fit_curve(inside[rows], curve, curve.theta(start), iterations=PATIENCE)
            better = (fit.converged & ~converged[rows]) | (~converged[rows] & (fit.nll < nll[rows]))
            parameters[rows[better]] = curve.parameters(fit.theta)[better]
            nll[rows[better]] = fit.nll[better]
            converged[rows] |= fit.converged
        open_ = np.flatnonzero(~converged)
        if len(open_) == 0:
            break
    log_expected = whole.log_expected(parameters)
    return log_expected, parameters, nll, converged & np.isfinite(log_expected).all(axis=1)


def around(curve: FormulaCurve, origin: Floats, mean: Floats) -> FormulaCurve:
    """Return the curve with its parameters counted from `origin` (k,) in standard deviations of a spectrum `mean` (bins,)."""
    bare = dataclasses.replace(curve, origin=origin, unit=np.eye(len(origin)))
    slopes = bare.slopes(np.zeros((1, len(origin)))).first[0]
    weights = np.maximum(bare.expected(np.zeros((1, len(origin))))[0], 1e-3 * max(float(mean.mean()), 1e-9))
    return dataclasses.replace(bare, unit=whitened(slopes, weights)[0])


def mean_fits(mean: Floats, curve: FormulaCurve) -> list[Floats]:
    """Return the parameters (k,) of the best different minima for the mean spectrum (bins,), the best first.

    The points tried spread evenly over both signs and all sizes from 1e-4 to 100 of every parameter. Raises InputError where
    the formula is positive and finite at none of them, or where its parameters do the same at all of them.
    """
    f = curve.function
    points = candidates(f.n_parameters)
    eta = f.evaluate([f.eta], curve.centres, points, sqrt_s=curve.sqrt_s)[f.eta] + curve.offset
    good = np.isfinite(eta).all(axis=1)
    if not good.any():
        raise InputError(not_positive(curve, f"at any of {len(points)} starting points"))
    total = max(float(mean.sum()), 1e-9)
    points, eta = points[good], eta[good]
    norm = np.log(total) - special.logsumexp(eta, axis=1)
    value = total - (mean * (eta + norm[:, None])).sum(axis=1)
    best = np.argsort(value)[:STARTS]
    starts = np.concatenate([norm[best, None], points[best]], axis=1)
    check_independent(f.text, curve.slopes(starts).first, mean + 1e-9)
    rough = around(curve, starts[0], mean)
    fit = fit_curve(np.tile(mean, (len(starts), 1)), rough, rough.theta(starts), iterations=PATIENCE)
    found: list[tuple[bool, float, Floats]] = []
    for i in np.argsort(np.where(np.isfinite(fit.nll), fit.nll, np.inf)):
        if len(found) == KEPT:
            break
        origin = rough.parameters(fit.theta[i : i + 1])[0]
        # the same function by other parameters is a place of its own to start from
        if all(np.abs(origin - o).max() > 1e-2 * np.abs(o).max() for _, _, o in found):
            found.append(refined(mean, curve, origin))
    found.sort(key=lambda place: place[:2])
    # a place without a minimum is none to start from, unless there is no other
    return [origin for failed, _, origin in found if not failed] or [found[0][2]]


def refined(mean: Floats, curve: FormulaCurve, origin: Floats) -> tuple[bool, float, Floats]:
    """Fit the mean spectrum from `origin` (k,) in the units of its own place: whether that failed, -ln L, parameters."""
    for _ in range(3):
        near = around(curve, origin, mean)
        fit = fit_curve(mean[None], near, np.zeros((1, len(origin))), iterations=PATIENCE)
        origin = near.parameters(fit.theta)[0]
        if fit.converged[0]:
            break
    return not fit.converged[0], float(fit.nll[0]), origin


def candidates(n_parameters: int) -> Floats:
    """Return points (n, n_parameters) to start from, of both signs and of all sizes, and the origin."""
    if n_parameters == 0:
        return np.zeros((1, 0))
    even = 2 * qmc.Halton(n_parameters, scramble=False).random(CANDIDATES) - 1
    size = 10.0 ** (SMALLEST + (LARGEST - SMALLEST) * np.abs(even))
    return np.concatenate([np.zeros((1, n_parameters)), np.sign(even) * size])


def check_independent(text: str, slopes: Floats, weights: Floats) -> None:
    """Refuse a formula whose parameters repeat one another at each of some points: slopes (n, bins, k), weights (bins,)."""
    if max(whitened(s, weights)[1] for s in slopes) < 1e-9:
        raise InputError(
            f"background function {text!r}: its parameters are not independent (the normalisation is free already: none "
            "may only multiply the whole)"
        )


def formula_design(formula: str, edges: Floats, *, sqrt_s: float) -> tuple[Floats, Floats]:
    """Return columns (bins, k) and offset (bins,) of a log-linear formula: ln b = columns (p0, p1, ...) + offset.

    edges: (bins + 1,) GeV. Raises InputError where the formula is not positive and finite, or its parameters repeat one
    another.
    """
    curve = bare_curve(formula, edges, sqrt_s=sqrt_s)
    origin = np.zeros((1, len(curve.origin)))
    columns, offset = curve.slopes(origin).first[0], curve.log_expected(origin)[0]
    if not (np.isfinite(columns).all() and np.isfinite(offset).all()):
        raise InputError(not_positive(curve, "for any parameters"))
    check_independent(formula, columns[None], np.ones(len(columns)))
    return columns, offset


def not_positive(curve: FormulaCurve, where: str) -> str:
    """Return the message for a formula without a logarithm."""
    low, high = curve.centres[[0, -1]]
    return (
        f"background function {curve.function.text!r} is not positive and finite from {low:g} to {high:g} GeV {where}; "
        "write it as a product or sum of positive parts"
    )
