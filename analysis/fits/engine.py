"""Compiled Newton fits of a penalised log-linear background to one spectrum, alone and with a signal on top.

The expectation is nu = exp(theta @ basis + offset) + mu s, and what is minimised is

    sum_i (nu_i - n_i ln nu_i) + 0.5 sum_j precision_j theta_j^2.

Kernels take basis (k, bins), offset and counts (bins,), precision (k,), all C-contiguous float64; `log_linear` is their door.
A factored Hessian serves for as long as its steps gain nearly what Newton's would: most signal fits end with the one of their
background fit. A fit has converged where the decrement, what -ln L would still gain, is next to nothing.

numba keeps compiled kernels beside this file and makes them anew when the file changes, not when a file that it imports does: so all
kernels that call one another stand here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = [
    "evidence_rows",
    "fit_rows",
    "process_scan_rows",
    "scan_rows",
    "second_evidence_rows",
    "second_scan_rows",
    "signal_evidence_rows",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
JIT: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
}
TOLERANCE = 1e-9  # decrement in units of ln L: moves z by less than 5e-5 at z = 0
ITERATIONS = 80
LARGEST = 60.0  # of |ln nu|
HALVINGS = 30
ROUNDING = 1e-11  # of -ln L, relative
NEARLY = 1e-4  # decrement at which a step that no longer gains within rounding is the minimum
TO_BOUNDARY = 0.95  # of the way to a bin of zero, at most
EMPTY = 1e-3  # a bin this far below its background counts as zero
LOST = 1e-10  # pivot over diagonal at which a Hessian is not positive
SLOW = 0.05  # ratio of two decrements above which a factor is renewed
NEGLIGIBLE = 1e-4  # information of a mode, in units of its prior's, below which it is left out
STILL = 2e-3  # relative change of a bin below which a factor gives the error of mu


Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(kernel: Kernel) -> Kernel:
    """Compile a kernel that holds no lock, and keep it compiled beside this file."""
    return cast("Kernel", njit(**JIT)(kernel))


@compiled
def background_at(theta: Floats, basis: Floats, offset: Floats, eta: Floats, b: Floats) -> None:
    """Fill eta, ln b and b (bins,)."""
    k, bins = basis.shape
    for i in range(bins):
        eta[i] = offset[i]
    for j in range(k):
        t = theta[j]
        for i in range(bins):
            eta[i] += t * basis[j, i]
    for i in range(bins):
        eta[i] = min(max(eta[i], -LARGEST), LARGEST)
        b[i] = np.exp(eta[i])


@compiled
def penalty(theta: Floats, precision: Floats) -> float:
    """Return half the penalised square of theta (k,)."""
    total = 0.0
    for j in range(len(theta)):
        total += precision[j] * theta[j] * theta[j]
    return 0.5 * total


@compiled
def information(weights: Floats, basis: Floats, precision: Floats, work: Floats, matrix: Floats) -> None:
    """Fill the lower triangle of basis diag(weights) basis^T + diag(precision)."""
    k, bins = basis.shape
    for j in range(k):
        for i in range(bins):
            work[i] = weights[i] * basis[j, i]
        for m in range(j + 1):
            total = 0.0
            for i in range(bins):
                total += work[i] * basis[m, i]
            matrix[j, m] = total
        matrix[j, j] += precision[j]


@compiled
def cholesky(matrix: Floats, k: int, ridge: float) -> bool:
    """Factor the lower triangle of the first k rows in place, a relative ridge added; tell whether it is positive."""
    for j in range(k):
        diagonal = matrix[j, j] * (1.0 + ridge) + 1e-300
        pivot = diagonal
        for m in range(j):
            pivot -= matrix[j, m] * matrix[j, m]
        if not pivot > LOST * diagonal:
            return False
        root = np.sqrt(pivot)
        matrix[j, j] = root
        inverse = 1.0 / root
        for i in range(j + 1, k):
            total = matrix[i, j]
            for m in range(j):
                total -= matrix[i, m] * matrix[j, m]
            matrix[i, j] = total * inverse
    return True


@compiled
def solve_lower(factor: Floats, k: int, x: Floats) -> None:
    """Solve L y = x in place."""
    for j in range(k):
        total = x[j]
        for m in range(j):
            total -= factor[j, m] * x[m]
        x[j] = total / factor[j, j]


@compiled
def solve_upper(factor: Floats, k: int, x: Floats) -> None:
    """Solve L^T y = x in place."""
    for j in range(k - 1, -1, -1):
        value = x[j] / factor[j, j]
        x[j] = value
        for m in range(j):
            x[m] -= factor[j, m] * value


@compiled
def log_determinant(factor: Floats, k: int) -> float:
    """Return ln det of the factored matrix."""
    total = 0.0
    for j in range(k):
        total += 2.0 * np.log(factor[j, j])
    return total


@compiled
def freedom(factor: Floats, precision: Floats, k: int) -> float:
    """Return how many parameters the data determine: k less the trace of precision times the inverse Hessian."""
    x = np.empty(k)
    total = 1.0 * k
    for j in range(k):
        if precision[j] > 0.0:
            x[:] = 0.0
            x[j] = 1.0
            solve_lower(factor, k, x)
            for m in range(j, k):
                total -= precision[j] * x[m] * x[m]
    return total


@compiled
def fit_background(
    counts: Floats, keep: Floats, basis: Floats, offset: Floats, precision: Floats, theta: Floats, factor: Floats,
    b: Floats,
) -> tuple[float, float, bool]:  # fmt: skip
    """Fit theta (k,) in place over the bins where keep (bins,) is 1.

    `factor` is left with the Cholesky factor of the Hessian at the minimum, `b` (bins,) with the expectation. Returns the
    penalised -ln L, ln det of the Hessian, and whether the fit converged.
    """
    k, bins = basis.shape
    eta, work, weights = np.empty(bins), np.empty(bins), np.empty(bins)
    gradient, step, trial = np.empty(k), np.empty(k), np.empty(k)
    background_at(theta, basis, offset, eta, b)
    value = penalty(theta, precision)
    for i in range(bins):
        value += keep[i] * (b[i] - counts[i] * eta[i])
    converged = False
    for _ in range(ITERATIONS):
        for i in range(bins):
            weights[i] = keep[i] * b[i]
            work[i] = keep[i] * (b[i] - counts[i])
        for j in range(k):
            total = precision[j] * theta[j]
            for i in range(bins):
                total += work[i] * basis[j, i]
            gradient[j] = total
        information(weights, basis, precision, work, factor)
        ridge = 0.0
        while not cholesky(factor, k, ridge):
            ridge = max(1e-9, 100.0 * ridge)
            if ridge > 1.0:
                return value, np.nan, False
            information(weights, basis, precision, work, factor)
        for j in range(k):
            step[j] = -gradient[j]
        solve_lower(factor, k, step)
        decrement = 0.0
        for j in range(k):
            decrement += 0.5 * step[j] * step[j]
        if decrement < TOLERANCE:
            converged = True
            break
        solve_upper(factor, k, step)
        scale, new = 1.0, value
        for _halving in range(HALVINGS):
            for j in range(k):
                trial[j] = theta[j] + scale * step[j]
            background_at(trial, basis, offset, eta, b)
            new = penalty(trial, precision)
            for i in range(bins):
                new += keep[i] * (b[i] - counts[i] * eta[i])
            if new <= value + ROUNDING * abs(value):
                break
            scale *= 0.5
        if not new <= value + ROUNDING * abs(value):
            background_at(theta, basis, offset, eta, b)
            converged = decrement < NEARLY
            break
        for j in range(k):
            theta[j] = trial[j]
        value = new
    return value, log_determinant(factor, k), converged


@compiled
def factor_with_signal(
    counts: Floats, b: Floats, nu: Floats, shape: Floats, basis: Floats, precision: Floats, ridge: float, work:
    Floats, weights: Floats, matrix: Floats,
) -> bool:  # fmt: skip
    """Factor the (k + 1, k + 1) Hessian at (theta, mu), or else the part of it that is positive; tell whether it was the whole."""
    k, bins = basis.shape
    for whole in (True, False):
        last = 0.0
        for i in range(bins):
            ratio = counts[i] / nu[i]
            rest = 1.0 - ratio
            if not whole and rest < 0.0:
                rest = 0.0
            curvature = ratio / nu[i]
            weights[i] = curvature * b[i] * b[i] + rest * b[i]
            last += curvature * shape[i] * shape[i]
        information(weights, basis, precision, work, matrix)
        for i in range(bins):
            work[i] = counts[i] / (nu[i] * nu[i]) * b[i] * shape[i]
        for j in range(k):
            total = 0.0
            for i in range(bins):
                total += work[i] * basis[j, i]
            matrix[k, j] = total
        matrix[k, k] = last
        if cholesky(matrix, k + 1, 0.0 if whole else ridge):
            return whole
    matrix[k, k] = np.nan
    return False


@compiled
def border(
    counts: Floats, b: Floats, shape: Floats, basis: Floats, factor: Floats, work: Floats, matrix: Floats
) -> bool:
    """Fill the factor of the Hessian at mu = 0, whose first block is the background fit's; tell whether it is positive."""
    k, bins = basis.shape
    last = 0.0
    for i in range(bins):
        curvature = counts[i] / (b[i] * b[i])
        work[i] = curvature * b[i] * shape[i]
        last += curvature * shape[i] * shape[i]
    row = matrix[k]
    for j in range(k):
        for m in range(j + 1):
            matrix[j, m] = factor[j, m]
        total = 0.0
        for i in range(bins):
            total += work[i] * basis[j, i]
        row[j] = total
    solve_lower(factor, k, row)
    pivot = last
    for j in range(k):
        pivot -= row[j] * row[j]
    if not pivot > LOST * last:
        return False
    row[k] = np.sqrt(pivot)
    return True


@compiled
def signal_gradient(
    counts: Floats, b: Floats, nu: Floats, shape: Floats, basis: Floats, precision: Floats, theta: Floats, work:
    Floats, gradient: Floats,
) -> None:  # fmt: skip
    """Fill the gradient (k + 1,) of the penalised -ln L at (theta, mu)."""
    k, bins = basis.shape
    last = 0.0
    for i in range(bins):
        residual = 1.0 - counts[i] / nu[i]
        work[i] = residual * b[i]
        last += residual * shape[i]
    for j in range(k):
        total = precision[j] * theta[j]
        for i in range(bins):
            total += work[i] * basis[j, i]
        gradient[j] = total
    gradient[k] = last


@compiled
def fit_signal(
    counts: Floats, basis: Floats, offset: Floats, precision: Floats, theta: Floats, start_value: float, start_b:
    Floats, start_factor: Floats, shape: Floats,
) -> tuple[float, float, float, float, bool]:  # fmt: skip
    """Fit mu and theta (k,), in place, from a background fit: -ln L, expectation and factor; shape (bins,) for unit yield.

    mu may be negative while every bin stays positive. Returns mu, the gain in ln L over mu = 0, the error of mu, ln det of the
    Hessian (NaN where it is not positive), and whether the fit converged.
    """
    k, bins = basis.shape
    eta, b, nu, then = np.empty(bins), start_b.copy(), start_b.copy(), start_b.copy()
    work, weights = np.empty(bins), np.empty(bins)
    trial, gradient, step = np.empty(k), np.empty(k + 1), np.empty(k + 1)
    matrix = np.empty((k + 1, k + 1))
    mu, value, before = 0.0, float(start_value), np.inf
    whole = border(counts, b, shape, basis, start_factor, work, matrix)
    factored = fresh = whole
    converged = False
    for _ in range(ITERATIONS):
        signal_gradient(counts, b, nu, shape, basis, precision, theta, work, gradient)
        decrement = 0.0
        for _attempt in range(2):
            if not factored:
                whole = factor_with_signal(counts, b, nu, shape, basis, precision, 1e-8, work, weights, matrix)
                then[:] = nu
                factored = fresh = True
            for j in range(k + 1):
                step[j] = -gradient[j]
            solve_lower(matrix, k + 1, step)
            decrement = 0.0
            for j in range(k + 1):
                decrement += 0.5 * step[j] * step[j]
            if fresh or decrement < TOLERANCE or decrement < SLOW * before:
                break
            factored = False
        if not np.isfinite(decrement):
            break
        before = decrement
        if decrement < TOLERANCE:
            converged = True
            break
        solve_upper(matrix, k + 1, step)
        scale, lowest = 1.0, np.inf
        for i in range(bins):
            change = step[k] * shape[i]
            if change < 0.0:
                scale = min(scale, -TO_BOUNDARY * nu[i] / change)
            lowest = min(lowest, nu[i] / b[i])
        # an empty window pushes mu down to where its bins reach zero: what is left there cannot change ln L further
        if scale < TO_BOUNDARY and mu < 0.0 and lowest < EMPTY:
            converged = True
            break
        better = False
        new, new_mu = value, mu
        for _halving in range(HALVINGS):
            for j in range(k):
                trial[j] = theta[j] + scale * step[j]
            new_mu = mu + float(scale * step[k])
            background_at(trial, basis, offset, eta, b)
            new = penalty(trial, precision)
            positive = True
            for i in range(bins):
                nu[i] = b[i] + new_mu * shape[i]
                if not nu[i] > 0.0:
                    positive = False
                    break
                new += nu[i]
                if counts[i] > 0.0:
                    new -= counts[i] * np.log(nu[i])
            better = positive and new <= value + ROUNDING * abs(value)
            if better:
                break
            scale *= 0.5
        if better:
            for j in range(k):
                theta[j] = trial[j]
            mu, value, fresh = new_mu, new, False
            continue
        background_at(theta, basis, offset, eta, b)
        for i in range(bins):
            nu[i] = b[i] + mu * shape[i]
        if fresh:
            # a step that no longer gains within rounding, while the decrement is small, is the minimum
            converged = decrement < NEARLY
            break
        factored = False
    moved = 0.0
    for i in range(bins):
        moved = max(moved, abs(nu[i] - then[i]) / then[i])
    if moved > STILL or not whole:
        whole = factor_with_signal(counts, b, nu, shape, basis, precision, 1e-10, work, weights, matrix)
    determinant = log_determinant(matrix, k + 1) if whole else np.nan
    return mu, start_value - value, float(1.0 / matrix[k, k]), determinant, converged


@compiled
def fit_rows(
    counts: Floats, keep: Floats, basis: Floats, offset: Floats, precision: Floats, theta: Floats, value: Floats,
    converged: Bools,
) -> None:  # fmt: skip
    """Fit each row of counts (n, bins); keep has one row, or one a spectrum."""
    k, bins = basis.shape
    factor, b = np.empty((k, k)), np.empty(bins)
    for n in range(len(counts)):
        kept = keep[n if len(keep) > 1 else 0]
        value[n], _, converged[n] = fit_background(counts[n], kept, basis, offset, precision, theta[n], factor, b)


@compiled
def scan_rows(
    counts: Floats, basis: Floats, offset: Floats, precision: Floats, theta: Floats, templates: Floats, signal:
    Floats, gain: Floats, error: Floats, converged: Bools,
) -> None:  # fmt: skip
    """Fit every template to each row of counts (n, bins), from its background fit, which starts at theta (n, k).

    theta is left at the background fit, or, where there is one template, at the fit with it.
    """
    k, bins = basis.shape
    factor, b, keep, now = np.empty((k, k)), np.empty(bins), np.ones(bins), np.empty(k)
    for n in range(len(counts)):
        value, _, known = fit_background(counts[n], keep, basis, offset, precision, theta[n], factor, b)
        for m in range(len(templates)):
            now[:] = theta[n]
            signal[n, m], gain[n, m], error[n, m], _, good = fit_signal(
                counts[n], basis, offset, precision, now, value, b, factor, templates[m]
            )
            converged[n, m] = good and known
        if len(templates) == 1:
            theta[n] = now


@compiled
def told_modes(counts: Floats, modes: Floats, width: float) -> int:
    """Return how many of the modes (m, bins), largest first, these counts can tell from zero at a width of the process."""
    m, bins = modes.shape
    for j in range(m - 1, -1, -1):
        total = 0.0
        for i in range(bins):
            total += counts[i] * modes[j, i] * modes[j, i]
        if total * width * width > NEGLIGIBLE:
            return j + 1
    return 0


@compiled
def fill_columns(free: Floats, modes: Floats, width: float, told: int, basis: Floats) -> None:
    """Fill basis with the free columns (f, bins) and the first modes times the width."""
    f, bins = free.shape
    basis[:f] = free
    for j in range(told):
        for i in range(bins):
            basis[f + j, i] = width * modes[j, i]


@compiled
def evidence_rows(
    counts: Floats, free: Floats, prior: Floats, modes: Floats, widths: Floats, offset: Floats, start: Floats,
    theta: Floats, log_z: Floats, converged: Bools,
) -> None:  # fmt: skip
    """Fit a process of every length and width to each row of counts (n, bins).

    free (f, bins) with precisions prior (f,); modes (lengths, m, bins), rising widths (w,), start (n, f). Fills theta
    (n, lengths, w, f + m) and ln of the evidence (n, lengths, w), up to one constant a row.
    """
    f, bins = free.shape
    lengths, m, _ = modes.shape
    factor, b, keep = np.empty((f + m, f + m)), np.empty(bins), np.ones(bins)
    basis, precision, now = np.empty((f + m, bins)), np.ones(f + m), np.zeros(f + m)
    precision[:f] = prior
    for n in range(len(counts)):
        for q in range(lengths):
            now[:] = 0.0
            now[:f] = start[n]
            for s in range(len(widths)):
                told = told_modes(counts[n], modes[q], widths[s])
                if told == 0 and s > 0:
                    # without modes it is the model of the width below
                    theta[n, q, s], log_z[n, q, s] = theta[n, q, s - 1], log_z[n, q, s - 1]
                    converged[n, q, s] = converged[n, q, s - 1]
                    continue
                if s > 0:
                    now[f:] *= widths[s - 1] / widths[s]
                fill_columns(free, modes[q], widths[s], told, basis)
                k = f + told
                value, determinant, converged[n, q, s] = fit_background(
                    counts[n], keep, basis[:k], offset, precision[:k], now[:k], factor, b
                )
                log_z[n, q, s] = -value - 0.5 * determinant
                theta[n, q, s] = now


@compiled
def signal_evidence_rows(
    counts: Floats, free: Floats, prior: Floats, modes: Floats, widths: Floats, offset: Floats, theta: Floats,
    templates: Floats, log_z: Floats, converged: Bools,
) -> None:  # fmt: skip
    """Fill what `evidence_rows` does with a signal of free yield on top, templates (n, bins), from its theta."""
    f, bins = free.shape
    lengths, m, _ = modes.shape
    factor, b, keep = np.empty((f + m, f + m)), np.empty(bins), np.ones(bins)
    basis, precision, now = np.empty((f + m, bins)), np.ones(f + m), np.zeros(f + m)
    precision[:f] = prior
    for n in range(len(counts)):
        for q in range(lengths):
            for s in range(len(widths)):
                told = told_modes(counts[n], modes[q], widths[s])
                if told == 0 and s > 0:
                    log_z[n, q, s], converged[n, q, s] = log_z[n, q, s - 1], converged[n, q, s - 1]
                    continue
                fill_columns(free, modes[q], widths[s], told, basis)
                k = f + told
                now[:] = theta[n, q, s]
                value, _, known = fit_background(counts[n], keep, basis[:k], offset, precision[:k], now[:k], factor, b)
                _, gain, _, determinant, good = fit_signal(
                    counts[n], basis[:k], offset, precision[:k], now[:k], value, b, factor, templates[n]
                )
                log_z[n, q, s] = gain - value - 0.5 * determinant
                converged[n, q, s] = good and known


@compiled
def process_scan_rows(
    counts: Floats, free: Floats, prior: Floats, modes: Floats, widths: Floats, offset: Floats, chosen:
    npt.NDArray[np.int64], theta: Floats, templates: Floats, expected: Floats, value: Floats, parameters: Floats,
    known: Bools, signal: Floats, gain: Floats, error: Floats, converged: Bools,
) -> None:  # fmt: skip
    """Fit each row with the process chosen for it, (n, 2) indices of length and width, from theta (n, f + m), and scan it.

    Fills theta, expected (n, bins), the penalised -ln L `value`, the number of parameters that the data determine and
    convergence, (n,), and the signal fits (n, masses).
    """
    f, bins = free.shape
    m = modes.shape[1]
    factor, keep = np.empty((f + m, f + m)), np.ones(bins)
    basis, precision, with_signal = np.empty((f + m, bins)), np.ones(f + m), np.empty(f + m)
    precision[:f] = prior
    for n in range(len(counts)):
        q, s = chosen[n]
        told = told_modes(counts[n], modes[q], widths[s])
        fill_columns(free, modes[q], widths[s], told, basis)
        k = f + told
        now, b = theta[n, :k], expected[n]
        theta[n, k:] = 0.0
        value[n], _, known[n] = fit_background(counts[n], keep, basis[:k], offset, precision[:k], now, factor, b)
        parameters[n] = freedom(factor, precision[:k], k)
        for t in range(len(templates)):
            with_signal[:k] = now
            signal[n, t], gain[n, t], error[n, t], _, good = fit_signal(
                counts[n], basis[:k], offset, precision[:k], with_signal[:k], value[n], b, factor, templates[t]
            )
            converged[n, t] = good and known[n]


@compiled
def factor_with_signals(
    counts: Floats, b: Floats, nu: Floats, shapes: Floats, basis: Floats, precision: Floats, work: Floats, weights:
    Floats, matrix: Floats,
) -> bool:  # fmt: skip
    """Factor the Hessian (k + signals) at (theta, mu), or else the part of it that is positive; tell whether it was the whole."""
    k, bins = basis.shape
    signals = len(shapes)
    for whole in (True, False):
        for i in range(bins):
            ratio = counts[i] / nu[i]
            rest = 1.0 - ratio
            if not whole and rest < 0.0:
                rest = 0.0
            weights[i] = ratio / nu[i] * b[i] * b[i] + rest * b[i]
        information(weights, basis, precision, work, matrix)
        for s in range(signals):
            for i in range(bins):
                work[i] = counts[i] / (nu[i] * nu[i]) * shapes[s, i]
            for j in range(k):
                total = 0.0
                for i in range(bins):
                    total += work[i] * b[i] * basis[j, i]
                matrix[k + s, j] = total
            for r in range(s + 1):
                total = 0.0
                for i in range(bins):
                    total += work[i] * shapes[r, i]
                matrix[k + s, k + r] = total
        if cholesky(matrix, k + signals, 0.0 if whole else 1e-8):
            return whole
    matrix[k + signals - 1, k + signals - 1] = np.nan
    return False


@compiled
def fit_signals_together(
    counts: Floats, basis: Floats, offset: Floats, precision: Floats, shapes: Floats, theta: Floats, mu: Floats,
    matrix: Floats, nu: Floats,
) -> tuple[float, bool, bool]:  # fmt: skip
    """Fit theta (k,) and the yields mu (signals,) of shapes (signals, bins) in place, from where they are.

    Yields may be negative while every bin stays positive. `matrix` is left with the factor of the Hessian, `nu` with the expectation.
    Returns the penalised -ln L, whether the Hessian is positive, and whether the fit converged.
    """
    k, bins = basis.shape
    signals = len(shapes)
    eta, b, work, weights = np.empty(bins), np.empty(bins), np.empty(bins), np.empty(bins)
    trial, trial_mu, step, gradient = np.empty(k), np.empty(signals), np.empty(k + signals), np.empty(k + signals)
    value, whole, converged, tried = np.inf, False, False, False
    for _ in range(ITERATIONS):
        background_at(theta, basis, offset, eta, b)
        value = penalty(theta, precision)
        lowest = np.inf
        for i in range(bins):
            nu[i] = b[i]
            for s in range(signals):
                nu[i] += mu[s] * shapes[s, i]
            lowest = min(lowest, nu[i] / b[i])
        if not lowest > 0.0:
            if tried:
                return np.nan, False, False
            # a start outside of what is allowed begins at no signal
            mu[:] = 0.0
            tried = True
            continue
        for i in range(bins):
            value += nu[i]
            if counts[i] > 0.0:
                value -= counts[i] * np.log(nu[i])
            work[i] = 1.0 - counts[i] / nu[i]
        for j in range(k):
            total = precision[j] * theta[j]
            for i in range(bins):
                total += work[i] * b[i] * basis[j, i]
            gradient[j] = total
        for s in range(signals):
            total = 0.0
            for i in range(bins):
                total += work[i] * shapes[s, i]
            gradient[k + s] = total
        whole = factor_with_signals(counts, b, nu, shapes, basis, precision, work, weights, matrix)
        for j in range(k + signals):
            step[j] = -gradient[j]
        solve_lower(matrix, k + signals, step)
        decrement = 0.0
        for j in range(k + signals):
            decrement += 0.5 * step[j] * step[j]
        if not np.isfinite(decrement):
            break
        if decrement < TOLERANCE:
            converged = True
            break
        solve_upper(matrix, k + signals, step)
        scale, falls = 1.0, False
        for i in range(bins):
            change = 0.0
            for s in range(signals):
                change += step[k + s] * shapes[s, i]
            if change < 0.0 and -TO_BOUNDARY * nu[i] / change < scale:
                scale = -TO_BOUNDARY * nu[i] / change
                falls = True
        # an empty window pushes a yield down to where its bins reach zero: what is left there cannot change ln L further
        if falls and scale < TO_BOUNDARY and lowest < EMPTY:
            converged = True
            break
        better = False
        for _halving in range(HALVINGS):
            for j in range(k):
                trial[j] = theta[j] + scale * step[j]
            for s in range(signals):
                trial_mu[s] = mu[s] + scale * step[k + s]
            background_at(trial, basis, offset, eta, work)
            new = penalty(trial, precision)
            positive = True
            for i in range(bins):
                at = work[i]
                for s in range(signals):
                    at += trial_mu[s] * shapes[s, i]
                if not at > 0.0:
                    positive = False
                    break
                new += at
                if counts[i] > 0.0:
                    new -= counts[i] * np.log(at)
            better = positive and new <= value + ROUNDING * abs(value)
            if better:
                break
            scale *= 0.5
        if not better:
            # a step that no longer gains within rounding, while the decrement is small, is the minimum
            converged = decrement < NEARLY
            break
        theta[:] = trial
        mu[:] = trial_mu
    return value, whole, converged


@compiled
def second_scan_rows(
    counts: Floats, free: Floats, prior: Floats, modes: Floats, widths: Floats, offset: Floats, chosen:
    npt.NDArray[np.int64], theta: Floats, first: Floats, templates: Floats, asked: Bools, background: Floats,
    expected: Floats, first_yield: Floats, signal: Floats, gain: Floats, error: Floats, converged: Bools,
) -> None:  # fmt: skip
    """Scan each row as `process_scan_rows` does with the row's first signal, shapes (n, bins), of free yield in the model.

    asked (n, masses): the templates that are fitted; others have no gain and did not converge. Fills background (n, bins) and
    expected, which has the first signal on top, its yield (n,), and the second signal's fits (n, masses).
    """
    f, bins = free.shape
    m = modes.shape[1]
    basis, precision = np.empty((f + m, bins)), np.ones(f + m)
    precision[:f] = prior
    factor, alone, nu = np.empty((f + m, f + m)), np.empty(bins), np.empty(bins)
    now, with_second, eta, keep = np.empty(f + m), np.empty(f + m), np.empty(bins), np.ones(bins)
    shapes, one, two = np.empty((2, bins)), np.zeros(1), np.zeros(2)
    for n in range(len(counts)):
        q, s = chosen[n]
        told = told_modes(counts[n], modes[q], widths[s])
        fill_columns(free, modes[q], widths[s], told, basis)
        k = f + told
        matrix, larger = np.empty((k + 1, k + 1)), np.empty((k + 2, k + 2))
        shapes[0] = first[n]
        now[:k] = theta[n, :k]
        value, _, _ = fit_background(counts[n], keep, basis[:k], offset, precision[:k], now[:k], factor, alone)
        one[0], _, _, _, _ = fit_signal(
            counts[n], basis[:k], offset, precision[:k], now[:k], value, alone, factor, shapes[0]
        )
        value, _, known = fit_signals_together(
            counts[n], basis[:k], offset, precision[:k], shapes[:1], now[:k], one, matrix, nu
        )
        theta[n, k:] = 0.0
        theta[n, :k] = now[:k]
        expected[n] = nu
        first_yield[n] = one[0]
        background_at(now[:k], basis[:k], offset, eta, background[n])
        for t in range(len(templates)):
            signal[n, t], gain[n, t], error[n, t], converged[n, t] = 0.0, 0.0, np.inf, False
            if not asked[n, t]:
                continue
            shapes[1] = templates[t]
            with_second[:k] = now[:k]
            two[0], two[1] = one[0], 0.0
            new, _, good = fit_signals_together(
                counts[n], basis[:k], offset, precision[:k], shapes, with_second[:k], two, larger, nu
            )
            signal[n, t], gain[n, t], error[n, t] = two[1], value - new, 1.0 / larger[k + 1, k + 1]
            converged[n, t] = good and known


@compiled
def second_evidence_rows(
    counts: Floats, free: Floats, prior: Floats, modes: Floats, widths: Floats, offset: Floats, theta: Floats,
    first: Floats, second: Floats, log_z: Floats, converged: Bools,
) -> None:  # fmt: skip
    """Fill ln of the evidence (n, lengths, w) with two signals of flat prior on top, shapes (n, bins), from theta of `evidence_rows`."""
    f, bins = free.shape
    lengths, m, _ = modes.shape
    basis, precision, now = np.empty((f + m, bins)), np.ones(f + m), np.zeros(f + m)
    precision[:f] = prior
    shapes, mu, nu = np.empty((2, bins)), np.zeros(2), np.empty(bins)
    for n in range(len(counts)):
        shapes[0], shapes[1] = first[n], second[n]
        for q in range(lengths):
            for s in range(len(widths)):
                told = told_modes(counts[n], modes[q], widths[s])
                if told == 0 and s > 0:
                    log_z[n, q, s], converged[n, q, s] = log_z[n, q, s - 1], converged[n, q, s - 1]
                    continue
                fill_columns(free, modes[q], widths[s], told, basis)
                k = f + told
                matrix = np.empty((k + 2, k + 2))
                now[:] = theta[n, q, s]
                mu[:] = 0.0
                value, whole, good = fit_signals_together(
                    counts[n], basis[:k], offset, precision[:k], shapes, now[:k], mu, matrix, nu
                )
                log_z[n, q, s] = -value - 0.5 * log_determinant(matrix, k + 2) if whole else -np.inf
                converged[n, q, s] = good
