"""Distance correlation of a score with the mass: 0 only where they are independent, whatever the shape of the relation.

dCorr^2 = dCov^2(x, y) / sqrt(dCov^2(x, x) dCov^2(y, y)) with dCov^2 = E ab + E a E b - 2 E a_ij b_ik of the distances
a = |x - x'|, b = |y - y'| (arXiv:2001.05310, equation 2.4 on). For single numbers the sum over all pairs takes n log n
steps (Chaudhuri and Hu, arXiv:1810.11332), so it is taken over all events of a sample; `models/disco.py` has the
differentiable one of a batch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...errors import InputError

__all__ = ["distance_correlation"]

Floats = npt.NDArray[np.float64]


def distance_correlation(
    x: npt.ArrayLike, y: npt.ArrayLike, *, weights: npt.ArrayLike | None = None, unbiased: bool = True
) -> float:
    """Return the squared distance correlation dCorr^2 of x and y (n,).

    weights: (n,) of events, 0 or more. unbiased: over distinct events (Székely and Rizzo, arXiv:1310.2926), 0 in
    expectation for independent x and y and then as often below 0; else the sample's own, which is of order 1 / n by itself.
    0 where x or y is constant. Raises InputError for shapes that differ, fewer than four events, values or weights that are
    not finite, negative weights.
    """
    values = [np.asarray(v, dtype=np.float64) for v in (x, y)]
    n = len(values[0]) if values[0].ndim == 1 else 0
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    if n < 4 or values[1].shape != (n,) or w.shape != (n,):
        shapes = f"x {values[0].shape}, y {values[1].shape}, weights {w.shape}"
        raise InputError(f"{shapes}; needed: (n,) each, four or more events")
    if not all(np.all(np.isfinite(v)) for v in (*values, w)) or np.any(w < 0) or not w.any():
        raise InputError("x, y or weights are not finite, or weights are negative or all 0")
    spreads = [float(v.std()) for v in values]
    if min(spreads) == 0:
        return 0.0
    a, b = ((v - v.mean()) / s for v, s in zip(values, spreads, strict=True))
    p = w / w.sum()
    spread = covariance(a, a, p, unbiased=unbiased) * covariance(b, b, p, unbiased=unbiased)
    return float(covariance(a, b, p, unbiased=unbiased) / np.sqrt(spread)) if spread > 0 else 0.0


def covariance(x: Floats, y: Floats, p: Floats, *, unbiased: bool) -> float:
    """Return dCov^2 of x and y (n,) with weights p (n,) that add up to 1."""
    a, b = row_sums(x, p), row_sums(y, p)
    pairs = pair_sum(x, y, p, p)
    triples, quadruples = float(p @ (a * b)), float(p @ a) * float(p @ b)
    if not unbiased:
        return pairs + quadruples - 2 * triples
    equal = bool(np.all(p == p[0]))
    once = pairs * p[0] if equal else pair_sum(x, y, p, p**2)
    both = pairs * p[0] ** 2 if equal else pair_sum(x, y, p**2, p**2)
    s2, s3, s4 = (float((p**k).sum()) for k in (2, 3, 4))
    # sums over distinct events are sums over all less those in which some are the same
    quadruples += -4 * (float(p**2 @ (a * b)) - both) - 2 * both
    triples -= once
    return (
        pairs / (1 - s2) + quadruples / (1 - 6 * s2 + 3 * s2**2 + 8 * s3 - 6 * s4) - 2 * triples / (1 - 3 * s2 + 2 * s3)
    )


def row_sums(x: Floats, p: Floats) -> Floats:
    """Return sum_j p_j |x_i - x_j| of each i: (n,)."""
    order = np.argsort(x, kind="stable")
    weight, moment = np.cumsum(p[order]), np.cumsum(p[order] * x[order])
    result = np.empty(len(x))
    result[order] = x[order] * (2 * weight - weight[-1]) - (2 * moment - moment[-1])
    return result


def pair_sum(x: Floats, y: Floats, u: Floats, v: Floats) -> float:
    """Return the sum over all i, j of u_i v_j |x_i - x_j| |y_i - y_j|: x, y, u, v (n,)."""
    if x is y:
        moments = [[float(w @ x**k) for k in range(3)] for w in (u, v)]
        return moments[0][0] * moments[1][2] + moments[0][2] * moments[1][0] - 2 * moments[0][1] * moments[1][1]
    order = np.argsort(x, kind="stable")
    x, y, u, v = x[order], y[order], u[order], v[order]
    total = one_sided(x, y, u, v)
    return 2 * total if u is v or np.array_equal(u, v) else total + one_sided(x, y, v, u)


def one_sided(x: Floats, y: Floats, u: Floats, v: Floats) -> float:
    """Return the sum over i < j of u_j v_i (x_j - x_i) |y_j - y_i| for rising x."""
    moments = np.stack([v, v * x, v * y, v * x * y])
    # |d| = 2 max(d, 0) - d: over pairs with y_i <= y_j twice, less over all pairs
    sums = 2 * sums_below(y, moments) - (np.cumsum(moments, axis=1) - moments)
    return float(u @ (x * y * sums[0] - y * sums[1] - x * sums[2] + sums[3]))


def sums_below(y: Floats, values: Floats) -> Floats:
    """Return for each j the sum of values (k, n) over i < j with y_i <= y_j: (k, n), by halving the range of i and j.

    Of every range of 2h neighbours, sorted by y, the right half's j collect what stands before them of the left half.
    """
    n = len(y)
    size = 1 << max(n - 1, 1).bit_length()
    padded = np.zeros((len(values), size))
    padded[:, :n] = values
    result = np.zeros_like(padded)
    order = np.argsort(np.concatenate([y, np.full(size - n, np.inf)]), kind="stable")
    half = size // 2
    while half:
        right = (order & half) > 0
        before = padded[:, order]
        before[:, right] = 0.0
        blocks = np.cumsum(before.reshape(len(values), -1, 2 * half), axis=2).reshape(len(values), -1)
        result[:, order[right]] += blocks[:, right]
        order = np.stack([order[~right].reshape(-1, half), order[right].reshape(-1, half)], axis=1).reshape(-1)
        half //= 2
    return result[:, :n]
