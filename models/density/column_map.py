"""A fitted monotone map of each column to a common scale, one for all models of a scorer.

It is fitted once, on the background training sample, and the priors use the same map: losses of two models can
only be compared in one space. It is invertible, and its log-Jacobian turns a density of mapped values into a
density of x; in the difference of two losses the Jacobian cancels.

A column without heavy tails is standardised by its central 68 %. (On a four-column toy with a known likelihood ratio, mapping such
columns by quantiles cost 0.002 in AUC: the kinks of the map show up in the priors.) A heavy-tailed one goes by its
quantiles to about normal values: piecewise linear between them, beyond them with the mean slope of that half.
From `COMPRESS_FROM` standard deviations on every map is logarithmic: a prior may lie far outside the background's
range and stays resolved there, while no value, however wild, can dominate a training step or overflow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

__all__ = ["ColumnMap", "dequantise", "fit_column_map", "map_columns", "ranged", "unmap_columns"]

Matrix = npt.NDArray[np.float64]

MAX_SIGMA = 3.0  # outermost quantiles of the map, 0.13 % each side, fewer where there are few rows
KNOT_STEP = 0.25  # between quantiles, in standard deviations
COMPRESS_FROM = 10.0
HEAVY_TAIL = 8.0  # 99.9 % quantile over 84 % quantile, both from the median: 3.1 for a normal, 5.4 an exponential
MIN_EVENTS_BEYOND = 10  # rows beyond the outermost quantile, so that one event does not set the slope
SMALLEST = 1e-290  # a spread below it counts as none: its inverse would overflow
TIE = 1e-6  # quantiles closer than this part of the column's spread are one: it bounds the slope


@dataclass(frozen=True)
class ColumnMap:
    """The fitted map of d columns.

    knots: (d, k) values of x, increasing, the last one repeated as padding; normal: (d, k) what they map to;
    slope_below, slope_above: (d,) beyond the knots; integer: (d,) columns that hold whole numbers only; low, high: (d,) the
    smallest and the largest value of the training rows, which events that are generated stay between.
    """

    knots: Matrix
    normal: Matrix
    slope_below: Matrix
    slope_above: Matrix
    integer: npt.NDArray[np.bool_]
    low: Matrix
    high: Matrix

    @property
    def n_columns(self) -> int:
        """Number of columns d."""
        return len(self.knots)


def dequantise(x: Matrix, integer: npt.NDArray[np.bool_], rng: np.random.Generator) -> Matrix:
    """Spread whole numbers uniformly over ±0.5, for training only (arXiv:1511.01844).

    A density model of a lattice would else put all its weight on the lattice points without bound.
    x: (n, d); integer: (d,) the columns to spread.
    """
    noise = rng.uniform(-0.5, 0.5, size=(len(x), int(integer.sum())))
    spread = x.copy()
    spread[:, integer] += noise
    return spread


def fit_column_map(x: Matrix, rng: np.random.Generator) -> ColumnMap:
    """Fit the map on the background's training rows x (n, d); any finite columns, constant ones too."""
    whole = np.all(x == np.round(x), axis=0)
    integer = np.asarray(whole & (np.ptp(x, axis=0) > 0))
    spread = dequantise(x, integer, rng)
    columns = [_fit_column(column) for column in spread.T]
    width = max(len(knots) for knots, _ in columns)
    knots = np.stack([np.pad(k, (0, width - len(k)), mode="edge") for k, _ in columns])
    normal = np.stack([np.pad(z, (0, width - len(z)), mode="edge") for _, z in columns])
    slopes = np.array([_outer_slopes(k, z) for k, z in columns])
    return ColumnMap(knots, normal, slopes[:, 0], slopes[:, 1], integer, x.min(axis=0), x.max(axis=0))


def ranged(fitted: ColumnMap, x: Matrix) -> ColumnMap:
    """Return the same map for a training that goes on with other rows x (n, d), whose range is that of what is generated."""
    return replace(fitted, low=x.min(axis=0), high=x.max(axis=0))


def _fit_column(column: Matrix) -> tuple[Matrix, Matrix]:
    """Return the knots of one column and their normal values; one knot of value 0 for a constant column."""
    normal = NormalDist()
    levels = [normal.cdf(-MAX_SIGMA), normal.cdf(-1), 0.5, normal.cdf(1), normal.cdf(MAX_SIGMA)]
    lowest, lower, median, upper, uppermost = np.quantile(column, levels)
    light = median - lowest < HEAVY_TAIL * (median - lower) and uppermost - median < HEAVY_TAIL * (upper - median)
    if light and upper - lower > SMALLEST:
        # By the central 68 %, not the standard deviation: one absurd row must not flatten a column.
        return np.array([lower, upper]), np.array([-1.0, 1.0])
    sigma = min(MAX_SIGMA, -normal.inv_cdf(min(0.25, MIN_EVENTS_BEYOND / len(column))))
    n_steps = int(sigma / KNOT_STEP)
    z = KNOT_STEP * np.arange(-n_steps, n_steps + 1, dtype=np.float64)
    x = np.quantile(column, [normal.cdf(value) for value in z])
    low, high = np.min(column), np.max(column)
    spread = x[-1] - x[0] if x[-1] > x[0] else high - low
    if not spread > SMALLEST:
        return np.array([low]), np.array([0.0])
    # Quantiles that fall on one value (a spike in the column) are one knot in the middle of their normal values.
    group = np.concatenate([[0], np.cumsum(np.diff(x) > TIE * spread)])
    sizes = np.bincount(group)
    knots, values = np.bincount(group, x) / sizes, np.bincount(group, z) / sizes
    if len(knots) == 1:  # nearly all rows share one value: the few others set the scale
        return np.array([low, high]), np.array([-MAX_SIGMA, MAX_SIGMA]) * spread / (high - low)
    return knots, values


def _outer_slopes(knots: Matrix, normal: Matrix) -> tuple[float, float]:
    """Return the mean slope of the lower and the upper half, which goes on beyond the knots."""
    if len(knots) == 1:
        return 1.0 / (abs(knots[0]) or 1.0), 1.0 / (abs(knots[0]) or 1.0)
    middle = float(np.interp(0.0, normal, knots))
    whole = (normal[-1] - normal[0]) / (knots[-1] - knots[0])
    below = -normal[0] / (middle - knots[0]) if middle > knots[0] and normal[0] < 0 else whole
    above = normal[-1] / (knots[-1] - middle) if knots[-1] > middle and normal[-1] > 0 else whole
    return float(below), float(above)


def map_columns(fitted: ColumnMap, x: Matrix) -> tuple[Matrix, Matrix]:
    """Return the mapped values (n, d) and the log-Jacobian log|dz/dx| summed over columns (n,), both finite."""
    z = np.empty_like(x)
    log_jacobian = np.zeros(len(x))
    for j in range(fitted.n_columns):
        z[:, j], log_slope = _map_column(
            x[:, j], fitted.knots[j], fitted.normal[j], fitted.slope_below[j], fitted.slope_above[j]
        )
        log_jacobian += log_slope
    return z, log_jacobian


def _map_column(x: Matrix, knots: Matrix, normal: Matrix, below: float, above: float) -> tuple[Matrix, Matrix]:
    size = np.searchsorted(knots, knots[-1]) + 1  # the rest is padding
    knots, normal = knots[:size], normal[:size]
    slopes = np.concatenate([[below], np.diff(normal) / np.diff(knots), [above]])
    segment = np.searchsorted(knots, x)
    anchor = np.clip(segment - 1, 0, size - 1)
    with np.errstate(over="ignore"):
        z = np.clip(normal[anchor] + slopes[segment] * (x - knots[anchor]), -1e300, 1e300)
    log_slope = np.log(slopes[segment])
    far = np.abs(z) > COMPRESS_FROM
    excess = np.abs(z[far]) - COMPRESS_FROM
    z[far] = np.sign(z[far]) * (COMPRESS_FROM + np.log1p(excess))
    log_slope[far] -= np.log1p(excess)
    return z, log_slope


def unmap_columns(fitted: ColumnMap, z: Matrix) -> Matrix:
    """Return the values (n, d) whose mapped values are z (n, d): the inverse of `map_columns`, within ±1e300."""
    x = np.empty_like(z)
    for j in range(fitted.n_columns):
        knots, normal = fitted.knots[j], fitted.normal[j]
        size = np.searchsorted(knots, knots[-1]) + 1  # the rest is padding
        knots, normal = knots[:size], normal[:size]
        slopes = np.concatenate([[fitted.slope_below[j]], np.diff(normal) / np.diff(knots), [fitted.slope_above[j]]])
        value = z[:, j].copy()
        far = np.abs(value) > COMPRESS_FROM
        with np.errstate(over="ignore"):
            value[far] = np.sign(value[far]) * (COMPRESS_FROM + np.expm1(np.abs(value[far]) - COMPRESS_FROM))
            segment = np.searchsorted(normal, value)
            anchor = np.clip(segment - 1, 0, size - 1)
            x[:, j] = np.clip(knots[anchor] + (value - normal[anchor]) / slopes[segment], -1e300, 1e300)
    return x
