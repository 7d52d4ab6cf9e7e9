"""Sinkhorn transport between jets: many pairs at once in torch, each distance with a proven lower and upper bound.

Entropic transport (Cuturi, arXiv:1306.0895) at a falling temperature ε, from EPSILON_FIRST down, halved at each level. The
iterations are products of matrices with scalings u and v; the logarithms of u and v go into the potentials f and g at
the end of each level (the absorption of Schmitzer, arXiv:1610.06519), so that nothing under- or overflows for long. The
costs are in units of the largest d^p of the pair.

No regularised number is given out. At each temperature the plan is rounded to one with the right sums (Altschuler et al.,
arXiv:1705.09634, algorithm 2), whose cost is an upper bound of Wass(p)^p, and the potentials are made feasible, whose
dual value is a lower bound. The distance is the middle of the two, half their difference bounds its error, and a pair
has converged when that is below `tolerance` of the distance. In practice the middle is several times better than that.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from .clouds import Array, Clouds
from .inputs import ShapeError
from .threads import few_threads
from .training import resolve_device
from .transport import TransportOptionError, check_options

__all__ = ["SinkhornDistances", "sinkhorn"]

logger = logging.getLogger(__name__)

EPSILON_FIRST, LEVELS = 0.5, 10  # the last ε is 0.5 / 2^9 = 0.001 of the largest cost
FIRST_CHECK = 5  # the level, ε = 0.016, before which no pair of jets is within 2 %
STEPS = 15  # iterations a level
TINY = 1e-30
ENTRIES = {"cpu": 2**19, "cuda": 2**26}  # costs at once: on a CPU what stays in the cache


@dataclass(frozen=True)
class SinkhornDistances:
    """Wass(p) between jets, each (n, k), in the unit of the points.

    distance: the middle of the bounds; lower, upper: bounds of the exact distance (to float32: about 1e-6 of the
    largest d); converged: half their difference is at most the tolerance times the distance.
    """

    distance: Array
    lower: Array
    upper: Array
    converged: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Padded:
    """Clouds as tensors on a device: weights (n, m), points (n, m, d), zeros behind the `counts` (n,) of each jet."""

    weights: torch.Tensor
    points: torch.Tensor
    counts: npt.NDArray[np.int64]


def sinkhorn(
    x: Clouds,
    y: Clouds | None = None,
    *,
    p: float = 1.0,
    tolerance: float = 0.02,
    batch: int | None = None,
    device: str = "auto",
    threads: int = 1,
) -> SinkhornDistances:
    """Return balanced distances of all jets x to all jets y, or of all pairs of x, with bounds.

    tolerance: relative, of half the bounds' difference; where it is not reached at the lowest temperature `converged`
    is False and a warning is logged. batch: pairs at once (None: by the size of the jets); device: "auto", "cpu",
    "cuda", ...; threads: torch's, at most what it has (with busy cores two were seen to take ten times as long as one).
    The company in a batch changes a distance by rounding at most. Raises NotNormalisedError, ShapeError,
    TransportOptionError, DeviceError.
    """
    others = x if y is None else y
    check_options(p, None, threads)
    if not 0 < tolerance < 1:
        raise TransportOptionError(f"tolerance is {tolerance}; a fraction of the distance between 0 and 1")
    if batch is not None and batch < 1:
        raise TransportOptionError(f"batch is {batch}; at least 1 pair, or None to choose by size")
    if x.points.shape[1] != others.points.shape[1]:
        raise ShapeError(
            f"{x.name} has points of {x.points.shape[1]} coordinates, {others.name} of {others.points.shape[1]}"
        )
    x.require_unit_sums()
    others.require_unit_sums()
    where = resolve_device(device)
    left, right = _padded(x, where), _padded(others, where)
    if y is None:
        rows, columns = np.triu_indices(len(x), 1)
    else:
        rows, columns = (index.ravel() for index in np.indices((len(x), len(others))))
    lower, upper = np.zeros((2, len(x), len(others)))
    with few_threads(threads), torch.no_grad():
        for chosen in _batches(
            left.counts[rows], right.counts[columns], batch, ENTRIES.get(where.type, ENTRIES["cpu"])
        ):
            i, j = rows[chosen], columns[chosen]
            lower[i, j], upper[i, j] = _bounds(_take(left, i), _take(right, j), p, tolerance)
    if y is None:
        lower, upper = lower + lower.T, upper + upper.T
    distance = (lower + upper) / 2
    converged = upper - distance <= tolerance * distance
    if not converged.all():
        logger.warning(
            "sinkhorn: %d of %d distances are not known to %g", (~converged).sum(), converged.size, tolerance
        )
    return SinkhornDistances(distance, lower, upper, converged)


def _padded(clouds: Clouds, device: torch.device) -> _Padded:
    counts = np.diff(clouds.starts)
    row = np.repeat(np.arange(len(clouds)), counts)
    place = np.arange(len(clouds.weights)) - np.repeat(clouds.starts[:-1], counts)
    most = int(counts.max(initial=1))
    weights = np.zeros((len(clouds), most), dtype=np.float32)
    points = np.zeros((len(clouds), most, clouds.points.shape[1]), dtype=np.float32)
    weights[row, place] = clouds.weights / np.repeat(clouds.sums(), counts)
    points[row, place] = clouds.points
    return _Padded(torch.from_numpy(weights).to(device), torch.from_numpy(points).to(device), counts)


def _take(clouds: _Padded, rows: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    most = int(clouds.counts[rows].max())
    index = torch.from_numpy(rows).to(clouds.weights.device)
    return clouds.weights[index, :most], clouds.points[index, :most]


def _batches(
    m: npt.NDArray[np.int64], n: npt.NDArray[np.int64], batch: int | None, entries: int
) -> Iterator[npt.NDArray[np.int64]]:
    """Give the pairs in batches of like sizes, which need little padding."""
    order = np.argsort(m * n, kind="stable")[::-1]
    first = 0
    while first < len(order):
        size = batch or max(1, entries // int(m[order[first]] * n[order[first]]))
        yield order[first : first + size]
        first += size


def _bounds(
    x: tuple[torch.Tensor, torch.Tensor], y: tuple[torch.Tensor, torch.Tensor], p: float, tolerance: float
) -> tuple[Array, Array]:
    """Return lower and upper bounds (b,) of the distances of b pairs; x, y: weights (b, m) and points (b, m, d)."""
    (a, points_a), (b, points_b) = x, y
    there = (a > 0)[:, :, None] & (b > 0)[:, None, :]
    length = (points_a[:, :, None] - points_b[:, None]).square().sum(dim=3).sqrt() * there
    scale = length.amax(dim=(1, 2)).clamp(min=TINY)
    cost = (length / scale[:, None, None]) ** p
    f, g = torch.zeros_like(a), torch.zeros_like(b)
    found = torch.zeros(2, len(a), device=a.device)
    open_ = torch.ones(len(a), dtype=torch.bool, device=a.device)
    for level in range(LEVELS):
        epsilon = EPSILON_FIRST / 2**level
        kernel = ((f[:, :, None] + g[:, None, :] - cost) / epsilon).exp() * there
        u, v = _scalings(kernel, a, b)
        f, g = f + epsilon * u.clamp(min=TINY).log(), g + epsilon * v.clamp(min=TINY).log()
        if level < FIRST_CHECK:
            continue
        upper = _cost_of_rounded(u[:, :, None] * kernel * v[:, None, :], a, b, cost)
        pair = torch.stack([_dual_value(g, a, b, cost, there), upper]).clamp(min=0) ** (1 / p)
        pair[0] = torch.minimum(pair[0], pair[1])
        # what a pair gets does not depend on how long the others of its batch take
        found = torch.where(open_, pair, found)
        open_ &= pair[1] - pair[0] > tolerance * (pair[0] + pair[1])
        if not open_.any():
            break
    found = found * scale
    if a.shape == b.shape:  # rounded plans blur a little; equal jets are 0
        equal = (a == b).all(dim=1) & (points_a == points_b).all(dim=(1, 2))
        found = torch.where(equal, 0.0, found)
    lower, upper_ = found.double().cpu().numpy()
    return lower, upper_


def _scalings(kernel: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return u (b, m) and v (b, n) after STEPS iterations towards u · kernel · v having the sums a and b."""
    v = torch.ones_like(b)
    u = torch.ones_like(a)
    turned = kernel.transpose(1, 2)
    for _ in range(STEPS):
        u = a / torch.bmm(kernel, v[:, :, None])[:, :, 0].clamp(min=TINY)
        v = b / torch.bmm(turned, u[:, :, None])[:, :, 0].clamp(min=TINY)
    return u, v


def _cost_of_rounded(plan: torch.Tensor, a: torch.Tensor, b: torch.Tensor, cost: torch.Tensor) -> torch.Tensor:
    """Return the cost (b,) of the plan after it is scaled down to sums of at most a and b and filled up to them."""
    plan = plan * (a / plan.sum(dim=2).clamp(min=TINY)).clamp(max=1)[:, :, None]
    plan = plan * (b / plan.sum(dim=1).clamp(min=TINY)).clamp(max=1)[:, None, :]
    lacks_a = (a - plan.sum(dim=2)).clamp(min=0)
    lacks_b = (b - plan.sum(dim=1)).clamp(min=0)
    filled = torch.einsum("bi,bij,bj->b", lacks_a, cost, lacks_b)
    return (plan * cost).sum(dim=(1, 2)) + filled / lacks_a.sum(dim=1).clamp(min=TINY)


def _dual_value(
    g: torch.Tensor, a: torch.Tensor, b: torch.Tensor, cost: torch.Tensor, there: torch.Tensor
) -> torch.Tensor:
    """Return the dual value (b,) of the largest potentials that g allows: f_i + g_j ≤ cost_ij everywhere."""
    bounded = cost.masked_fill(~there, torch.inf)
    f = (bounded - g[:, None, :]).amin(dim=2)
    better = (bounded - f[:, :, None].masked_fill(a[:, :, None] == 0, 0.0)).amin(dim=1)
    return torch.where(a > 0, f * a, 0.0).sum(dim=1) + torch.where(b > 0, better * b, 0.0).sum(dim=1)
