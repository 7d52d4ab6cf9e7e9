"""Newton steps on the likelihood of limits, compiled: each region's background is eliminated, the rest solved, and put back.

The Hessian has the form of an arrow: background parameters of different regions meet in the signal's parameters alone.
A Schur complement of each region leaves a system of the nuisances and mu, so that the cost grows linearly with regions.

All that is compiled stands in this one file: what numba keeps between runs is renewed when its own file changes, and not
when another does that it calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from .likelihood import Arrays, Observed

__all__ = ["Point", "expected", "newton_fit", "objective"]

Function = TypeVar("Function", bound=Callable[..., Any])
Floats = npt.NDArray[np.float64]
MAX_ITERATIONS = 100
SHORTEST = 1e-12  # of the step that is tried first
TRUSTED = 6.0  # of ln b: a bin that holds an event where next to none is expected asks for any step
TOLERANCE = 1e-7  # Newton decrement in units of ln L; one more whole step follows
ROUNDING = 1e-4  # decrement below which a step that no longer improves is the end
EDGE = 1e-3  # a bin this far below its background counts as zero
KICK, KICKS = 0.3, 3  # sigma off a saddle, and how often
NOTHING = 1e-3  # events of a region in all bins, of Asimov data: such a region is empty
PIVOT = 1e-11  # of the diagonal: below, a matrix is not positive
CUT = 0.02  # of the nominal template: above, a moved template is pyhf's
LOWEST_LOG, LARGEST_LOG = -230.0, 60.0  # of events: beyond, squares leave a float's range


class Point(NamedTuple):
    """Parameters beside mu, alpha (J,) and theta (R, K), and what `expected` fills there: background (R, B), the signal's
    template (R, B) at amplitude 1, and its amplitude (R,)."""

    alpha: Floats
    theta: Floats
    background: Floats
    template: Floats
    amplitude: Floats


class System(NamedTuple):
    """The system of (alpha, mu) without the backgrounds, and what puts these back.

    matrix (J + 1, J + 1), reduced (J + 1,) its gradient, gradient (J + 1,) that of -ln L; kept (R, K, 2 + shapes) and own_gradient
    (R, K) of every region, as `eliminated` has them; chain (R, J + 1), d amplitude by (alpha, mu).
    """

    matrix: Floats
    reduced: Floats
    gradient: Floats
    kept: Floats
    own_gradient: Floats
    chain: Floats


def compiled(function: Function) -> Function:
    """Compile a function with numba, kept between runs."""
    return cast("Function", numba.njit(cache=True, nogil=True, error_model="numpy")(function))


@compiled
def shape_weight(alpha: float) -> tuple[float, float, float]:
    """Return what multiplies `curve` in a template moved by alpha (code4p), and its first and second derivatives."""
    square = alpha * alpha
    if square >= 1.0:
        return 8.0 * abs(alpha), 8.0 if alpha > 0 else -8.0, 0.0
    return (
        square * (15.0 + square * (3.0 * square - 10.0)),
        alpha * (30.0 + square * (18.0 * square - 40.0)),
        30.0 + square * (90.0 * square - 120.0),
    )


@compiled
def factor(alpha: float, powers: Floats, log_high: float, log_low: float) -> tuple[float, float, float]:
    """Return a factor moved by alpha (code4), and its first and second derivatives over it."""
    if alpha >= 1.0:
        return np.exp(alpha * log_high), log_high, log_high * log_high
    if alpha <= -1.0:
        return np.exp(-alpha * log_low), -log_low, log_low * log_low
    value, first, second = 0.0, 0.0, 0.0
    for n in range(6, 0, -1):
        c = powers[n - 1]
        second = second * alpha + n * (n - 1) * c if n > 1 else second
        first = first * alpha + n * c
        value = value * alpha + c
    value = 1.0 + value * alpha
    return value, first / value, second / value


@compiled
def expected(model: Arrays, mu: float, at: Point) -> None:
    """Fill background, template and amplitude of a point, at its own parameters and mu."""
    alpha, theta, background, template, amplitude = at
    regions, bins = model.signal.shape
    shapes = len(model.slope)
    for r in range(regions):
        amplitude[r] = mu
        for n in range(len(model.powers)):
            amplitude[r] *= factor(alpha[shapes + n], model.powers[n, r], model.log_high[n, r], model.log_low[n, r])[0]
        for i in range(bins):
            eta = model.offset[r, i]
            for k in range(model.sizes[r]):
                eta += model.basis[r, i, k] * theta[r, k]
            background[r, i] = np.exp(min(max(eta, LOWEST_LOG), LARGEST_LOG))
            template[r, i] = model.signal[r, i]
        for j in range(shapes):
            weight = shape_weight(alpha[j])[0]
            for i in range(bins):
                template[r, i] += alpha[j] * model.slope[j, r, i] + weight * model.curve[j, r, i]
        for i in range(bins):
            floor = CUT * model.signal[r, i]
            if template[r, i] < floor:
                template[r, i] = floor * np.exp(template[r, i] / floor - 1.0)


@compiled
def objective(model: Arrays, data: Observed, at: Point) -> float:
    """Return -ln L of a point that `expected` filled; infinite where a bin is not positive."""
    counts, auxiliary, centre = data
    alpha, theta, background, template, amplitude = at
    total = 0.0
    for j in range(len(alpha)):
        total += 0.5 * (alpha[j] - auxiliary[j]) ** 2
    regions, bins = counts.shape
    for r in range(regions):
        for k in range(model.sizes[r]):
            total += 0.5 * model.precision[r, k] * (theta[r, k] - centre[r, k]) ** 2
        for i in range(bins):
            nu, n = background[r, i] + amplitude[r] * template[r, i], counts[r, i]
            if not nu > 0.0:
                return np.inf
            total += nu - n
            if n > 0.0:
                total += n * np.log(n / nu)
    return total


@compiled
def cholesky(matrix: Floats, n: int, mend: bool) -> int:
    """Put the Cholesky factor of the leading n rows into the lower triangle; return how many rows are positive, n for all.

    mend: go on with a large pivot for one that is too small, so that nothing moves along it; else stop in that row.
    """
    good = n
    for i in range(n):
        own = matrix[i, i]
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            if i != j:
                matrix[i, j] = total / matrix[j, j]
                continue
            if not total > PIVOT * own or not total > 1e-290:
                good = min(good, i)
                if not mend:
                    return good
                total = max(1e12 * own, 1.0)
            matrix[i, i] = np.sqrt(total)
    return good


@compiled
def solve(matrix: Floats, n: int, vector: Floats) -> None:
    """Solve with a factor of `cholesky`, in place."""
    for i in range(n):
        for k in range(i):
            vector[i] -= matrix[i, k] * vector[k]
        vector[i] /= matrix[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            vector[i] -= matrix[k, i] * vector[k]
        vector[i] /= matrix[i, i]


@compiled
def region_part(  # noqa: C901, PLR0912 - plain loops are what numba compiles best
    model: Arrays,
    r: int,
    data: Observed,
    at: Point,
    exact: bool,
    own: Floats,
    border: Floats,
    inner: Floats,
    slopes: Floats,
) -> None:
    """Fill derivatives of one region by its background and by (amplitude, shapes).

    own (K, K + 1): Hessian by the background, and the gradient in the last used column; border (K, 1 + shapes); inner
    (1 + shapes, 1 + shapes); slopes (1 + shapes,) the gradient. exact: else a part of the Hessian that is never negative.
    """
    counts, _, centre = data
    alpha, theta, background, template, _ = at
    amplitude = at.amplitude[r]
    k_own, shapes, bins = model.sizes[r], len(model.slope), counts.shape[1]
    change, tilt = np.empty(1 + shapes), np.empty(shapes)
    first, second = np.empty(shapes), np.empty(shapes)
    for j in range(shapes):
        _, first[j], second[j] = shape_weight(alpha[j])
    for j in range(1 + shapes):
        slopes[j] = 0.0
        for m in range(1 + shapes):
            inner[j, m] = 0.0
        for k in range(k_own):
            border[k, j] = 0.0
    for k in range(k_own):
        for m in range(k):
            own[k, m] = 0.0
        own[k, k] = model.precision[r, k]
        own[k, k_own] = model.precision[r, k] * (theta[r, k] - centre[r, k])
    for i in range(bins):
        b, t = background[r, i], template[r, i]
        nu = b + amplitude * t
        ratio = counts[r, i] / nu
        residual, curvature = 1.0 - ratio, ratio / nu
        change[0] = t
        floor = CUT * model.signal[r, i]
        cut = t / floor if t < floor else 1.0  # the slope of a template that falls exponentially, over that of pyhf's
        for j in range(shapes):
            tilt[j] = cut * (model.slope[j, r, i] + first[j] * model.curve[j, r, i])
            change[1 + j] = amplitude * tilt[j]
        share = counts[r, i] * (b / nu)  # events that are the background's
        pull, cross = b - share, share / nu
        weight = share * (b / nu) + (pull if exact else max(pull, 0.0))
        for k in range(k_own):
            phi = model.basis[r, i, k]
            own[k, k_own] += pull * phi
            for m in range(k + 1):
                own[k, m] += weight * phi * model.basis[r, i, m]
            for j in range(1 + shapes):
                border[k, j] += cross * phi * change[j]
        for j in range(1 + shapes):
            slopes[j] += residual * change[j]
            for m in range(j + 1):
                inner[j, m] += curvature * change[j] * change[m]
        if exact:
            for j in range(shapes):
                inner[1 + j, 0] += residual * tilt[j]
                inner[1 + j, 1 + j] += residual * amplitude * cut * second[j] * model.curve[j, r, i]
                for m in range(j + 1):
                    if 0.0 < t < floor:
                        inner[1 + j, 1 + m] += residual * amplitude * tilt[j] * tilt[m] / t


@compiled
def eliminated(
    model: Arrays,
    r: int,
    data: Observed,
    at: Point,
    exact: bool,
    inner: Floats,
    slopes: Floats,
    kept: Floats,
    own_gradient: Floats,
) -> bool:
    """Fill the Schur complement of one region's background: inner (1 + shapes, 1 + shapes) and slopes (1 + shapes,).

    kept (K, 2 + shapes): the region's own Hessian^-1 times its gradient and its border; own_gradient (K,). Returns whether that
    Hessian is positive; else nothing is filled.
    """
    k_own, shapes, largest = model.sizes[r], len(model.slope), at.theta.shape[1]
    own, border, column = np.empty((largest, largest + 1)), np.empty((largest, 1 + shapes)), np.empty(largest)
    for _ in range(2):
        region_part(model, r, data, at, exact, own, border, inner, slopes)
        for k in range(k_own):
            own_gradient[k] = own[k, k_own]
        if cholesky(own, k_own, not exact) == k_own or not exact:
            break
        seen = 0.0
        for i in range(data.counts.shape[1]):
            seen += data.counts[r, i]
        if seen > NOTHING:
            return False
        exact = False  # the background of a region without events runs to 0, where its curvature is rounding
    for c in range(2 + shapes):
        for k in range(k_own):
            column[k] = own_gradient[k] if c == 0 else border[k, c - 1]
        solve(own, k_own, column)
        for k in range(k_own):
            kept[k, c] = column[k]
    for j in range(1 + shapes):
        for k in range(k_own):
            slopes[j] -= border[k, j] * kept[k, 0]
            for m in range(j + 1):
                inner[j, m] -= border[k, j] * kept[k, 1 + m]
    return True


@compiled
def taken(kept: Floats, own_gradient: Floats, r: int, size: int, j: int) -> float:
    """Return what the elimination took off the derivative of -ln L by the amplitude (j = 0) or a shape (1, ...)."""
    total = 0.0
    for k in range(size):
        total += kept[r, k, 1 + j] * own_gradient[r, k]
    return total


@compiled
def assemble(  # noqa: C901, PLR0912 - plain loops are what numba compiles best
    model: Arrays, data: Observed, at: Point, exact: bool, system: System
) -> bool:
    """Build the system at a point; False where a region's own block is not positive."""
    matrix, reduced, gradient, kept, own_gradient, chain = system
    alpha, amplitude = at.alpha, at.amplitude
    regions, shapes, factors = len(chain), len(model.slope), len(model.powers)
    n = shapes + factors
    inner, slopes = np.empty((1 + shapes, 1 + shapes)), np.empty(1 + shapes)
    first, second = np.empty(factors), np.empty(factors)
    for j in range(n + 1):
        for m in range(n + 1):
            matrix[j, m] = 1.0 if j == m and j < n else 0.0
        gradient[j] = reduced[j] = alpha[j] - data.auxiliary[j] if j < n else 0.0
    for r in range(regions):
        if not eliminated(model, r, data, at, exact, inner, slopes, kept[r], own_gradient[r]):
            return False
        strength = 1.0
        for f in range(factors):
            value, first[f], second[f] = factor(
                alpha[shapes + f], model.powers[f, r], model.log_high[f, r], model.log_low[f, r]
            )
            strength *= value
        for j in range(shapes):
            chain[r, j] = 0.0
        for f in range(factors):
            chain[r, shapes + f] = amplitude[r] * first[f]
        chain[r, n] = strength
        direct = slopes[0] + taken(kept, own_gradient, r, model.sizes[r], 0)
        for j in range(n + 1):
            gradient[j] += direct * chain[r, j]
            reduced[j] += slopes[0] * chain[r, j]
            for m in range(j + 1):
                matrix[j, m] += inner[0, 0] * chain[r, j] * chain[r, m]
        for j in range(shapes):
            reduced[j] += slopes[1 + j]
            gradient[j] += slopes[1 + j] + taken(kept, own_gradient, r, model.sizes[r], 1 + j)
            for m in range(shapes, n + 1):
                matrix[m, j] += inner[1 + j, 0] * chain[r, m]
            for m in range(j + 1):
                matrix[j, m] += inner[1 + j, 1 + m]
        if exact:
            for f in range(factors):
                matrix[n, shapes + f] += direct * strength * first[f]
                matrix[shapes + f, shapes + f] += direct * amplitude[r] * second[f]
                for g in range(f):
                    matrix[shapes + f, shapes + g] += direct * amplitude[r] * first[f] * first[g]
    return True


@compiled
def step_of(model: Arrays, system: System, room: float, free: bool, step: Floats, step_theta: Floats) -> float:
    """Fill the step of (alpha, mu), (J + 1,), and of the backgrounds (R, K) from a system with its matrix factored; return the decrement.

    room: how far mu may move, negative; where mu is not free it stays.
    """
    matrix, reduced, gradient, kept, own_gradient, chain = system
    n, shapes = len(reduced) - 1, len(model.slope)
    step[n] = 0.0
    if free:
        for j in range(n + 1):
            step[j] = -reduced[j]
        solve(matrix, n + 1, step)
    bounded = step[n] < room
    if bounded or not free:
        step[n] = room if bounded else 0.0
        for j in range(n):
            step[j] = -reduced[j]
            for m in range(j + 1):  # the row of mu against alpha, from the factor
                step[j] -= matrix[j, m] * matrix[n, m] * step[n] if bounded else 0.0
        solve(matrix, n, step)
    decrement = 0.0
    for j in range(n + 1):
        if step[j] != 0.0:  # the slope by mu may be infinite where mu stays
            decrement -= 0.5 * gradient[j] * step[j]
    for r in range(len(chain)):
        moved = 0.0
        for j in range(n + 1):
            moved += chain[r, j] * step[j]
        for k in range(model.sizes[r]):
            total = -kept[r, k, 0] - kept[r, k, 1] * moved
            for j in range(shapes):
                total -= kept[r, k, 2 + j] * step[j]
            step_theta[r, k] = total
            decrement -= 0.5 * own_gradient[r, k] * total
    return decrement


@compiled
def falling(matrix: Floats, row: int, n: int, direction: Floats) -> None:
    """Fill the direction (n,) of nuisances along which -ln L curves downwards, where `cholesky` stopped in a row; 0 for none."""
    for j in range(n):
        direction[j] = 0.0
    if 0 <= row < n:
        direction[row] = 1.0
        for j in range(row - 1, -1, -1):
            total = -matrix[row, j]
            for k in range(j + 1, row):
                total -= matrix[k, j] * direction[k]
            direction[j] = total / matrix[j, j]


@compiled
def first_length(model: Arrays, step_theta: Floats) -> float:
    """Return how much of a step is tried first: no background moves by more than a factor of exp(TRUSTED) at once."""
    largest = 0.0
    for r in range(len(model.basis)):
        for i in range(model.basis.shape[1]):
            moved = 0.0
            for k in range(model.sizes[r]):
                moved += model.basis[r, i, k] * step_theta[r, k]
            largest = max(largest, abs(moved))
    return TRUSTED / largest if largest > TRUSTED else 1.0


@compiled
def newton_fit(  # noqa: C901, PLR0912 - plain loops are what numba compiles best
    model: Arrays, data: Observed, mu: float, alpha: Floats, theta: Floats, free: bool, lower: float
) -> tuple[float, float, float, float, bool]:
    """Minimise -ln L from mu, alpha (J,), theta (R, K), which are overwritten; mu stays where it is unless free, then above `lower`.

    Returns mu, -ln L, its derivative by mu, the error of mu by its curvature (infinite where there is none), and convergence.
    """
    regions, n, largest, shapes = len(data.counts), len(alpha), theta.shape[1], len(model.slope)
    background, template, amplitude = np.empty_like(data.counts), np.empty_like(data.counts), np.empty(regions)
    matrix, gradient = np.empty((n + 1, n + 1)), np.empty(n + 1)
    system = System(
        matrix, np.empty(n + 1), gradient, np.empty((regions, largest, 2 + shapes)), np.empty((regions, largest)),
        np.empty((regions, n + 1)),
    )  # fmt: skip
    step, step_theta = np.empty(n + 1), np.zeros((regions, largest))
    new_alpha, new_theta = np.empty(n), np.empty((regions, largest))
    now = Point(alpha, theta, background, template, amplitude)
    new = Point(new_alpha, new_theta, background, template, amplitude)  # the bins are those of what was filled last
    rows, saddle, kicks = n + 1 if free else n, np.zeros(n), KICKS
    value, error, converged = np.inf, np.inf, False
    gradient[n] = np.nan
    for iteration in range(MAX_ITERATIONS):
        expected(model, mu, now)
        if iteration == 0 or np.isnan(value):
            value = objective(model, data, now)
        if not np.isfinite(value):
            break
        good = 0
        for exact in (True, False):
            ready = assemble(model, data, now, exact, system)
            good = cholesky(matrix, rows, not exact) if ready else -1
            if exact and good >= n:
                break
            if exact:
                falling(matrix, good, n, saddle)
            good = -1
        minimum, unbent = good >= n, free and good == n
        if unbent:  # too few events tell of the signal: mu goes down its slope, in its own unit
            matrix[n, n] = 1.0
        if free:
            error = np.inf if unbent else 1.0 / matrix[n, n]
        decrement = step_of(model, system, lower - mu, free, step, step_theta)
        if not np.isfinite(decrement):
            break
        length = first_length(model, step_theta)
        new_value, improved = np.inf, False
        shortest = SHORTEST * length
        while not improved and length > shortest:
            for j in range(n):
                new_alpha[j] = alpha[j] + length * step[j]
            for r in range(regions):
                for k in range(largest):
                    new_theta[r, k] = theta[r, k] + length * step_theta[r, k]
            expected(model, mu + length * step[n], new)
            new_value = objective(model, data, new)
            improved = new_value <= value + 1e-12 * abs(value)
            length *= 0.5
        if improved:
            mu, value = mu + 2.0 * length * step[n], new_value
            for j in range(n):
                alpha[j] = new_alpha[j]
            for r in range(regions):
                for k in range(largest):
                    theta[r, k] = new_theta[r, k]
        if decrement < TOLERANCE or (not improved and decrement < ROUNDING):
            if not minimum and kicks > 0:  # a saddle: asymmetric templates can make two minima of one
                kicks -= 1
                for j in range(n):
                    alpha[j] += KICK * saddle[j]
                value = np.nan
                continue
            converged = minimum and (not unbent or mu == lower)
            break
        if free and mu <= 0.0 and step[n] < 0.0 and (not improved or emptied(background, template, amplitude)):
            converged = minimum  # at the end of what a negative signal can be
            break
        if not improved:
            break
    return mu, value, gradient[n], error, converged


@compiled
def emptied(background: Floats, template: Floats, amplitude: Floats) -> bool:
    """Tell whether a negative signal takes a bin down to next to nothing of its background: the end of what mu can do."""
    regions, bins = background.shape
    for r in range(regions):
        for i in range(bins):
            if background[r, i] + amplitude[r] * template[r, i] < EDGE * background[r, i]:
                return True
    return False
