"""Newton fits of smooth curves, with or without a signal on top, to many spectra at once.

nu = b(theta) + mu s, with ln b log-linear in theta (the built-in families) or any smooth function (a user's formula). The
steps use the exact Hessian where it is positive definite, else a part of it that always is; they are cut where the curve
is no longer close to its tangent, shortened until the likelihood improves, and never empty a bin. A fit has converged
where the Newton decrement, what ln L would still gain, is next to nothing and the Hessian says minimum.
Counts have shape (n_spectra, n_bins), templates (n_spectra, n_bins) for unit yield.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from scipy import special

__all__ = ["Curve", "CurveFit", "LogLinear", "Slopes", "fit_curve"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
MAX_ITERATIONS = 40
TOLERANCE = 1e-7  # Newton decrement in units of ln L; moves z by less than 1e-4 at z = 0.001 and above
TO_BOUNDARY = 0.95
EDGE = 1e-3  # a bin this far below its background counts as zero: costs less than 1e-3 of its content in ln L
CLOSE = 0.3  # decrement below which a curve's second derivatives help rather than harm
QUIET: dict[str, Any] = dict.fromkeys(
    ("over", "divide", "invalid"), "ignore"
)  # what leads out of the numbers is refused
LEAST_CURVED = (
    1e-10  # eigenvalue of the scaled Hessian below which a point without slope is no minimum: a saddle or a flat
)


class Slopes(Protocol):
    """The derivatives of ln b by theta at one point of every fit, (n, bins, k) in whatever form they are kept."""

    def project(self, weights: Floats) -> Floats:
        """Return sum over bins of weights (n, bins) times d ln b / d theta: (n, k)."""

    def quadratic(self, weights: Floats) -> Floats:
        """Return the (n, k, k) sums of weights times the products of two slopes."""

    def bend(self, weights: Floats) -> Floats | None:
        """Return the (n, k, k) sums of weights times second derivatives; None where all vanish."""

    def trusted(self, step: Floats, events: Floats) -> Floats | float:
        """Return the share of each step (n, k), at most 1, over which the slopes can be relied on; events (n, bins)."""


class Curve(Protocol):
    """A positive background b(theta), theta (n, k) -> (n, bins)."""

    def expected(self, theta: Floats) -> Floats:
        """Return b; NaN where theta is outside what the curve is defined for."""

    def slopes(self, theta: Floats) -> Slopes:
        """Return the derivatives of ln b."""


class LogLinear:
    """b = exp(basis theta + offset): basis (bins, k), offset (bins,). It is its own tangent everywhere."""

    def __init__(self, basis: Floats, offset: Floats) -> None:
        self.basis, self.offset = basis, offset
        n_bins, k = basis.shape
        self.outer = (basis[:, :, None] * basis[:, None, :]).reshape(n_bins, k * k)

    def expected(self, theta: Floats) -> Floats:
        """Return b (n, bins)."""
        return np.asarray(np.exp(np.clip(theta @ self.basis.T + self.offset, -60.0, 60.0)))

    def slopes(self, theta: Floats) -> LogLinear:  # noqa: ARG002 - the same at every theta
        """Return itself."""
        return self

    def project(self, weights: Floats) -> Floats:
        """Return weights times basis (n, k)."""
        return np.asarray(weights @ self.basis)

    def quadratic(self, weights: Floats) -> Floats:
        """Return (n, k, k)."""
        k = self.basis.shape[1]
        return np.asarray((weights @ self.outer).reshape(len(weights), k, k))

    def bend(self, weights: Floats) -> None:
        """Return None: there are no second derivatives."""

    def trusted(self, step: Floats, events: Floats) -> float:  # noqa: ARG002
        """Return 1."""
        return 1.0


class CurveFit(NamedTuple):
    """theta (n, k); signal mu and its curvature error (n,), zeros without templates; -ln L (n,); its gain over the start;
    converged (n,)."""

    theta: Floats
    signal: Floats
    error: Floats
    nll: Floats
    gain: Floats
    converged: Bools


def fit_curve(
    counts: Floats, curve: Curve, theta: Floats, templates: Floats | None = None, *, iterations: int = MAX_ITERATIONS
) -> CurveFit:
    """Fit nu = b(theta) + mu s to each row of counts (n, bins) from theta (n, k), mu = 0; background alone without templates.

    Newton steps on the exact Hessian where it is positive definite, else on its positive part, and for a curve that is not
    log-linear `curved_step`; a step never goes further than 95 % of the way to a bin of zero. `converged` is false where the
    fit ran out of iterations and where the Hessian leaves a direction without a minimum.
    """
    n = len(counts)
    k = theta.shape[1]
    with_signal = templates is not None
    shapes = np.zeros_like(counts) if templates is None else templates
    params = np.concatenate([theta, np.zeros((n, 1))], axis=1) if with_signal else theta.copy()

    def evaluate(c: Floats, s: Floats, x: Floats) -> tuple[Floats, Floats, Floats]:
        b = curve.expected(x[:, :k])
        nu = b + x[:, k:] * s if with_signal else b
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.where(nu > 0, nu - special.xlogy(c, np.maximum(nu, 1e-300)), np.inf).sum(axis=1)
        return value, b, nu

    value, b, nu = evaluate(counts, shapes, params)
    start_value = value.copy()
    converged = np.zeros(n, dtype=bool)
    sigma = np.full(n, np.inf)
    damping = np.zeros(n)
    active = np.flatnonzero(np.isfinite(value))
    b, nu = b[active], nu[active]
    for _ in range(iterations if len(active) else 0):
        c, s, x = counts[active], shapes[active], params[active]
        slopes = curve.slopes(x[:, :k])
        gradient, hessian, positive = derivatives(c, s, b, nu, slopes, with_signal=with_signal)
        bend = slopes.bend((1.0 - c / nu) * b)
        if bend is None:
            step = newton_step(hessian, positive, gradient)
            decrement, minimum = -0.5 * (gradient * step).sum(axis=1), np.ones(len(active), dtype=bool)
        else:
            step, decrement, minimum = curved_step(hessian, bend, positive, gradient, damping[active])
            hessian[:, :k, :k] += bend
        room = room_to_zero(step[:, k:] * s, nu) if with_signal else np.full(len(active), np.inf)
        scale = np.minimum(np.minimum(1.0, TO_BOUNDARY * room), slopes.trusted(step[:, :k], c + b))
        done = decrement < TOLERANCE
        # an empty window pushes mu down to where its bins reach zero: what is left there cannot change ln L further
        at_edge = ~done & (room < 1.0) & (x[:, -1] < 0) & ((nu / b).min(axis=1) < EDGE)
        finished = done | at_edge
        scale[at_edge] = 0.0
        allowed = scale.copy()
        new_x = x + scale[:, None] * step
        new_value, new_b, new_nu = evaluate(c, s, new_x)
        for _halving in range(30):
            worse = ~finished & ~(new_value <= value[active] + 1e-11 * np.abs(value[active]))
            if not worse.any():
                break
            scale[worse] *= 0.5
            new_x[worse] = x[worse] + scale[worse, None] * step[worse]
            new_value[worse], new_b[worse], new_nu[worse] = evaluate(c[worse], s[worse], new_x[worse])
        shortened = ~finished & (scale < 0.5 * allowed)
        damping[active] = np.where(shortened, np.clip(8 * damping[active], 1e-3, 1e8), 0.2 * damping[active])
        # where no length of the step led anywhere more damping may
        lost = ~np.isfinite(new_value)
        new_b[lost], new_nu[lost] = b[lost], nu[lost]
        better = new_value <= value[active]
        params[active[better]] = new_x[better]
        value[active] = np.where(better, new_value, value[active])
        # a step that no longer improves within rounding, while the decrement is small, is the minimum
        ended = finished | (~better & (decrement < 1e-4))
        converged[active[ended]] = (minimum | at_edge)[ended]
        if ended.any() and with_signal:
            sigma[active[ended]] = yield_error(hessian[ended], positive[ended])
        going = ~ended & np.isfinite(decrement)
        active, b, nu = active[going], new_b[going], new_nu[going]
        if len(active) == 0:
            break
    signal = params[:, k] if with_signal else np.zeros(n)
    with np.errstate(invalid="ignore"):
        return CurveFit(params[:, :k], signal, sigma, value, start_value - value, converged)


def derivatives(
    counts: Floats, shapes: Floats, b: Floats, nu: Floats, slopes: Slopes, *, with_signal: bool
) -> tuple[Floats, Floats, Floats]:
    """Return gradient (n, k + 1) of -ln L, its Hessian without second derivatives of ln b, and a part of that which is positive.

    Dropping what can be negative leaves a matrix that never is; the expected information would not do: its s^2 / nu of an
    empty bin with next to no background pins mu where it stands. Without signal there is no row of mu.
    """
    ratio = counts / nu
    residual = 1.0 - ratio
    curvature = ratio / nu
    gradient = slopes.project(residual * b)
    bb, bs, ss = curvature * b * b, curvature * b * shapes, curvature * shapes * shapes
    if not with_signal:
        # with nu = b this is the expected information, positive as it is
        matrix = slopes.quadratic(bb + residual * b)
        return gradient, matrix, matrix
    gradient = np.concatenate([gradient, (residual * shapes).sum(axis=1)[:, None]], axis=1)
    hessian = bordered(slopes.quadratic(bb + residual * b), slopes.project(bs), ss)
    positive = hessian.copy()
    positive[:, :-1, :-1] = slopes.quadratic(bb + np.maximum(residual, 0.0) * b)
    return gradient, hessian, positive


def bordered(bb: Floats, bs: Floats, ss: Floats) -> Floats:
    """Build the (n, k+1, k+1) matrices of background-background, background-signal and signal-signal (n, bins) parts."""
    n, k = bs.shape
    matrix = np.empty((n, k + 1, k + 1))
    matrix[:, :k, :k] = bb
    matrix[:, :k, k] = matrix[:, k, :k] = bs
    matrix[:, k, k] = ss.sum(axis=1)
    return matrix


def room_to_zero(change: Floats, nu: Floats) -> Floats:
    """Return how many times the signal's change (n, bins) can be taken until it empties the first bin of nu: (n,).

    The background's own part of a step never empties one.
    """
    fall = np.maximum(-change, 0.0)
    with np.errstate(divide="ignore", over="ignore"):
        return np.asarray(np.where(fall > 0, nu / np.maximum(fall, 1e-300), np.inf).min(axis=1))


def curved_step(
    hessian: Floats, bend: Floats, positive: Floats, gradient: Floats, damping: Floats
) -> tuple[Floats, Floats, Bools]:
    """Return the descent step of a curve, its Newton decrement (n,), and where its whole Hessian is that of a minimum.

    Close to a minimum the step has the second derivatives `bend` (n, k, k) of ln b in it; further away it follows the tangent.
    """
    whole = hessian.copy()
    whole[:, : bend.shape[1], : bend.shape[1]] += bend
    step, decrement, lowest = damped_step(whole, positive, gradient, damping)
    away = (lowest < LEAST_CURVED) | ~(decrement < CLOSE)
    if away.any():
        step[away] = damped_step(hessian[away], positive[away], gradient[away], damping[away])[0]
    return step, decrement, lowest > LEAST_CURVED


@np.errstate(**QUIET)
def damped_step(hessian: Floats, positive: Floats, gradient: Floats, damping: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the damped step, the undamped decrement (n,) and the lowest eigenvalue (n,) of the scaled Hessian.

    Along its eigenvectors the step is the slope over the curvature's size plus a damping (Levenberg and Marquardt), so that
    a direction that curves downwards is left and one without curvature is not run along.
    """
    scale = np.sqrt(np.maximum(np.einsum("nii->ni", positive), 1e-30))
    scaled = hessian / (scale[:, :, None] * scale[:, None, :])
    scaled[~np.isfinite(scaled).all(axis=(1, 2))] = -np.eye(gradient.shape[1])
    values, vectors = np.linalg.eigh(scaled)
    along = (vectors.transpose(0, 2, 1) @ (gradient / scale)[..., None])[..., 0]
    size = np.maximum(np.abs(values), 1e-9)
    decrement = 0.5 * (along**2 / size).sum(axis=1)
    step = -(vectors @ (along / (size + damping[:, None]))[..., None])[..., 0] / scale
    return step, decrement, values[:, 0]


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
