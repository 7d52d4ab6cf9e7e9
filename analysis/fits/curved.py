"""Smooth functions that are not log-linear, fitted to one spectrum: sums of falling terms, and a broken power.

A sum is nu_i = w_i sum_k A_k exp(-r_k t_i) with A_k > 0 and r_k >= 0: exponentials with t = m, powers with t = ln m. Its terms
are found one after the other, each where the likelihood gains most by a little of it (the directional derivative of
Lindsay, Annals of Statistics 11 (1983) 86): where no term gains, no number of terms is better. A broken power is
(m / m0)^-a / (1 + (m / m0)^b), its start the best of a grid. Fits are least squares of deviance residuals, whose sum is
-2 ln L up to a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from .background import poisson_nll
from .log_linear import fit_log_linear

__all__ = ["SmoothFit", "fit_broken_power", "fit_sums"]

Floats = npt.NDArray[np.float64]
Model = Callable[[Floats], tuple[Floats, Floats]]
"""Parameters (k,) -> background (bins,) and its derivatives (bins, k)."""
RATES = 60  # of the grid that terms start from
LARGEST = 40.0  # of ln of an amplitude over the mean count, either way
LEAST = 1e-12  # events that a bin expects at the least
ROOM = 1e-3  # of its background that a negative signal leaves of a bin
EVALUATIONS = 150  # of the function, in a fit
GAIN = 1e-4  # in ln L, under which a further term gains nothing
KNEES = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85)  # of the range in ln m, where a broken power may break
STEPS = (2.0, 6.0, 20.0)  # powers by which it may break
STEEPEST = 100.0  # power
STARTS = 3  # of the grid's that are fitted


class SmoothFit(NamedTuple):
    """Background (bins,) and signal (events, with its error; 0 and NaN without a template); -ln L of both together.

    nll_alone: of the background without a signal; parameters: (k,) of the background.
    """

    background: Floats
    signal: float
    error: float
    nll: float
    nll_alone: float
    parameters: Floats
    converged: bool


def residuals(counts: Floats, expected: Floats) -> tuple[Floats, Floats]:
    """Return the deviance residuals (bins,), sign(n - nu) sqrt(2 (nu - n + n ln(n / nu))), and their slopes in nu."""
    excess = (counts - expected) / expected
    close = np.abs(excess) < 1e-3
    safe = np.where(close, 0.5, excess)
    # (1 + d) ln(1 + d) - d by its series where the two all but cancel
    whole = np.where(safe > -1, (1 + safe) * np.log1p(np.maximum(safe, -1 + 1e-15)), 0.0) - safe
    factor = np.where(close, 1 - excess / 3 + excess**2 / 6, 2 * whole / safe**2)
    root = np.sqrt(expected * factor)
    return excess * root, -1 / root


def best_fit(
    counts: Floats, model: Model, starts: Iterable[Floats], bounds: tuple[Floats, Floats], template: Floats | None
) -> SmoothFit | None:
    """Fit a model from several starts, which are moved within the bounds; return the best fit, None where there is no start."""
    inside = [np.clip(start, bounds[0] + 1e-9, bounds[1] - 1e-9) for start in starts]
    best = min((fit_model(counts, model, s, bounds, template) for s in inside), key=lambda fit: fit.nll, default=None)
    if best is None or template is None:
        return best
    alone = fit_model(counts, model, np.clip(best.parameters, bounds[0] + 1e-9, bounds[1] - 1e-9), bounds, None)
    return best._replace(nll_alone=max(alone.nll, best.nll))


def fit_model(
    counts: Floats, model: Model, start: Floats, bounds: tuple[Floats, Floats], template: Floats | None
) -> SmoothFit:
    """Fit a model, and with a template (bins,) a signal of either sign on top of it, from a start within bounds."""
    k = len(start)
    if template is not None:
        # a signal in units of its counting error is a parameter like the others
        unit = float(np.sqrt(max(counts[template > 0.02 * template.max()].sum(), 1.0)))
        start = np.append(start, 0.0)
        bounds = (np.append(bounds[0], -np.inf), np.append(bounds[1], np.inf))

    def expected(x: Floats) -> tuple[Floats, Floats]:
        b, slopes = model(x[:k])
        b = np.maximum(b, LEAST)
        if template is None:
            return b, slopes
        nu = b + x[k] * unit * template
        empty = nu < ROOM * b
        slopes = np.column_stack([slopes, unit * template])
        slopes[empty, k] = 0.0
        return np.where(empty, ROOM * b, nu), slopes

    def value(x: Floats) -> Floats:
        return residuals(counts, expected(x)[0])[0]

    def jacobian(x: Floats) -> Floats:
        nu, slopes = expected(x)
        return np.asarray(residuals(counts, nu)[1][:, None] * slopes)

    fit = optimize.least_squares(
        value, start, jacobian, bounds=bounds, x_scale="jac", ftol=1e-8, xtol=1e-8, gtol=1e-8, max_nfev=EVALUATIONS
    )
    nu, slopes = expected(fit.x)
    background = np.maximum(model(fit.x[:k])[0], LEAST)
    nll = float(poisson_nll(counts, nu))
    signal, error = 0.0, np.nan
    if template is not None:
        information = slopes.T @ (slopes / nu[:, None])
        scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
        covariance = np.linalg.pinv(information / np.outer(scale, scale), rcond=1e-12)
        signal, error = float(fit.x[k] * unit), float(np.sqrt(max(covariance[k, k], 0.0)) / scale[k] * unit)
    return SmoothFit(background, signal, error, nll, nll, fit.x[:k], bool(fit.status > 0 and np.isfinite(nll)))


def sum_model(t: Floats, width: Floats) -> Model:
    """Return the model of a sum: ln of amplitudes, then rates."""

    def model(x: Floats) -> tuple[Floats, Floats]:
        log_amplitude, rate = np.split(x, 2)
        terms = width[:, None] * np.exp(log_amplitude - np.outer(t, rate))
        return terms.sum(axis=1), np.concatenate([terms, -terms * t[:, None]], axis=1)

    return model


def fit_sums(
    counts: Floats, t: Floats, width: Floats, *, most: int, template: Floats | None = None
) -> Iterator[SmoothFit]:
    """Fit sums of one falling term, of two, up to `most`, to counts (bins,); ends before where another term gains nothing.

    t: (bins,) from 0 to 1, that the terms fall in; width: (bins,) of the bins, 1 in the mean.
    """
    steepest = 1.0 / max(float(np.diff(t).min()), 1e-6)
    rates = np.concatenate([[0.0], np.geomspace(0.1, steepest, RATES)])
    shapes = width[:, None] * np.exp(-np.outer(t, rates))
    total = max(float(counts.sum()), 1.0)
    whole = np.log(total / shapes.sum(axis=0))  # ln of the amplitude of a term that has all events
    shapes *= np.exp(whole)
    model = sum_model(t, width)
    best: SmoothFit | None = None
    for n in range(1, most + 1):
        starts = []
        if best is None:
            first = int(np.argmin(poisson_nll(counts, np.maximum(shapes.T, LEAST))))
            starts.append(np.array([whole[first], rates[first]]))
        else:
            amplitude, rate = np.split(best.parameters, 2)
            b = np.maximum(best.background, LEAST)
            nu = b if template is None else np.maximum(b + best.signal * template, ROOM * b)
            for new in peaks_of((counts / nu - 1) @ shapes):
                share = best_share(counts, nu, shapes[:, new])
                more = (amplitude + np.log1p(-share), whole[new] + np.log(share), rate, rates[new])
                starts.append(np.hstack(more))
        bounds = (np.repeat([-LARGEST, 0.0], n), np.repeat([LARGEST, steepest], n))
        fit = best_fit(counts, model, starts, bounds, template)
        if fit is None or (best is not None and fit.nll > best.nll - GAIN):
            return
        best = fit
        yield fit


def peaks_of(gain: Floats) -> list[int]:
    """Return where a function on a grid (n,) has positive local maxima, `STARTS` of them at most, the largest first."""
    padded = np.concatenate([[-np.inf], gain, [-np.inf]])
    peaks = np.flatnonzero((gain > 0) & (gain >= padded[:-2]) & (gain > padded[2:]))
    return [int(i) for i in peaks[np.argsort(-gain[peaks])][:STARTS]]


def best_share(counts: Floats, expected: Floats, term: Floats) -> float:
    """Return the share of all events that a further term (bins,) had better take from what is expected without it."""
    shares = np.geomspace(1e-4, 0.5, 12)
    mixed = (1 - shares[:, None]) * expected + shares[:, None] * term
    return float(shares[np.argmin(poisson_nll(counts, mixed))])


def broken_power_model(u: Floats, width: Floats) -> Model:
    """Return the model of a broken power in u = ln m: ln of the amplitude, the powers a and b, and ln m0."""

    def model(x: Floats) -> tuple[Floats, Floats]:
        log_amplitude, a, b, knee = x
        above = b * (u - knee)
        nu = width * np.exp(np.clip(log_amplitude - a * (u - knee) - np.logaddexp(0.0, above), -60.0, 60.0))
        share = special.expit(above)
        slopes = np.stack([np.ones_like(u), knee - u, -share * (u - knee), a + share * b], axis=1)
        return nu, nu[:, None] * slopes

    return model


def fit_broken_power(counts: Floats, u: Floats, width: Floats, *, template: Floats | None = None) -> SmoothFit:
    """Fit A (m / m0)^-a / (1 + (m / m0)^b) to counts (bins,), with u = ln m (bins,) and widths as `fit_sums` has them."""
    span = float(u[-1] - u[0])
    starts = []
    for knee in u[0] + span * np.array(KNEES):
        for b in STEPS:
            columns = np.stack([np.ones_like(u), knee - u], axis=1)
            offset = np.log(width) - np.logaddexp(0.0, b * (u - knee))
            theta, nll, _ = fit_log_linear(counts[None], columns, offset)
            starts.append((float(nll[0]), np.append(theta[0], [b, knee])))
    starts.sort(key=lambda one: one[0])
    bounds = (np.array([-LARGEST, -STEEPEST, 0.0, u[0] - span]), np.array([LARGEST, STEEPEST, STEEPEST, u[-1] + span]))
    model = broken_power_model(u, width)
    fit = best_fit(counts, model, (start for _, start in starts[:STARTS]), bounds, template)
    assert fit is not None
    return fit
