"""Sinkhorn transport between jets: many pairs at once in torch, each distance with a proven lower and upper bound.

Entropic transport (Cuturi, arXiv:1306.0895) at a falling temperature ε, from EPSILON_FIRST down, halved at each level. The
iterations are products of matrices with scalings u and v; the logarithms of u and v go into the potentials f and g at
the end of each level (the absorption of Schmitzer, arXiv:1610.06519), so that nothing under- or overflows for long. The
costs are in units of the largest d^p of the pair.

Unbalanced as in `transport.py`: the lighter jet gets one more point that holds what it lacks. Because all that it holds is
moved whatever the plan, its distance R may be left out and R^p times the difference added: a large R costs no digits.

No regularised number is given out. At each temperature the plan is rounded to one with the right sums (Altschuler et al.,
arXiv:1705.09634, algorithm 2), whose cost is an upper bound of Wass(p)^p, and the potentials are made feasible, whose
dual value is a lower bound. The best of each so far count: the distance is the middle of the two, half their difference
bounds its error, and a pair has converged when that is below `tolerance` of the distance. In practice the middle is
several times better than that.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from ..inputs import ShapeError
from ..train.loop import resolve_device
from ..train.threads import few_threads
from .clouds import Array, Clouds
from .transport import TransportOptionError, check_options

__all__ = ["TOLERANCE", "SinkhornDistances", "check_tolerance", "sinkhorn"]

logger = logging.getLogger(__name__)

TOLERANCE = 0.02  # where nothing else is asked for
EPSILON_FIRST, LEVELS = 0.5, 18  # the last ε is 0.5 / 2^17 = 4e-6 of the largest cost, where float32 ends
FIRST_CHECK = 5  # the level, ε = 0.016, before which no pair of jets is within 2 %
STEPS = 15  # iterations a level, twice as many from FIRST_CHECK on, three times from twice that
TINY = 1e-30
SMALL = 1e-6  # of the heavier jet: what float32 does not see, and what would need many iterations to find its place
ENTRIES = {"cpu": 2**19, "cuda": 2**26}  # costs at once: on a CPU what stays in the cache


@dataclass(frozen=True)
class SinkhornDistances:
    """Wass(p) between jets, each (n, k), in the unit of the points.

    distance: the middle of the bounds; lower, upper: bounds of the exact distance (to float32: d^p to about 1e-6 of the
    largest d^p, or of the charge for unequal sums); converged: half their difference is at most the tolerance times the distance.
    """

    distance: Array
    lower: Array
    upper: Array
    converged: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Padded:
    """Clouds as tensors on a device, zeros behind the `counts` (n,) of each jet.

    weights: (n, m) of unit sums; points: (n, m, d); sums: (n,) what the weights were divided by.
    """

    weights: torch.Tensor
    points: torch.Tensor
    counts: npt.NDArray[np.int64]
    sums: Array


def check_tolerance(tolerance: float) -> None:
    """Raise TransportOptionError unless the tolerance lies between 0 and 1."""
    if not 0 < tolerance < 1:
        raise TransportOptionError(f"tolerance is {tolerance}; a fraction of the distance between 0 and 1")


def sinkhorn(
    x: Clouds,
    y: Clouds | None = None,
    *,
    p: float = 1.0,
    unbalanced: float | None = None,
    tolerance: float = TOLERANCE,
    batch: int | None = None,
    device: str = "auto",
    threads: int = 1,
    progress: bool = False,
) -> SinkhornDistances:
    """Return distances of all jets x to all jets y, or of all pairs of x, with bounds.

    p, unbalanced: as in `wasserstein`; tolerance: relative, of half the bounds' difference; where it is not reached at the lowest temperature `converged`
    is False and a warning is logged. batch: pairs at once (None: by the size of the jets); device: "auto", "cpu",
    "cuda", ...; threads: torch's, at most what it has (with busy cores two were seen to take ten times as long as one);
    progress: a bar on stderr of a terminal.
    The company in a batch changes a distance by rounding at most. Raises NotNormalisedError, ShapeError,
    TransportOptionError, DeviceError.
    """
    others = x if y is None else y
    check_options(p, unbalanced, threads)
    check_tolerance(tolerance)
    if batch is not None and batch < 1:
        raise TransportOptionError(f"batch is {batch}; at least 1 pair, or None to choose by size")
    if x.points.shape[1] != others.points.shape[1]:
        raise ShapeError(
            f"{x.name} has points of {x.points.shape[1]} coordinates, {others.name} of {others.points.shape[1]}"
        )
    if unbalanced is None:
        x.require_unit_sums()
        others.require_unit_sums()
    where = resolve_device(device)
    left, right = _padded(x, where), _padded(others, where)
    if y is None:
        rows, columns = np.triu_indices(len(x), 1)
    else:
        rows, columns = (index.ravel() for index in np.indices((len(x), len(others))))
    lower, upper = np.zeros((2, len(x), len(others)))
    shown = progress and sys.stderr.isatty()
    bar = tqdm(total=len(rows), desc="sinkhorn", unit="pair", disable=not shown, file=sys.stderr)
    with bar, few_threads(threads), torch.no_grad():
        for chosen in _batches(
            left.counts[rows], right.counts[columns], batch, ENTRIES.get(where.type, ENTRIES["cpu"])
        ):
            i, j = rows[chosen], columns[chosen]
            jets = _take(left, i), _take(right, j)
            if unbalanced is None:
                lower[i, j], upper[i, j] = _bounds(*jets, None, p, tolerance)
            else:
                total, difference = _differences(left.sums[i], right.sums[j], unbalanced, where)
                lower[i, j], upper[i, j] = total ** (1 / p) * _bounds(*jets, difference, p, tolerance)
            bar.update(len(chosen))
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
    sums = clouds.sums()
    weights[row, place] = clouds.weights / np.repeat(sums, counts)
    points[row, place] = clouds.points
    return _Padded(torch.from_numpy(weights).to(device), torch.from_numpy(points).to(device), counts, sums)


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


@dataclass(frozen=True)
class _Differences:
    """What the jets of b pairs lack, in units of the heavier one's sum: lacks_a, lacks_b (b,); radius: of a unit."""

    lacks_a: torch.Tensor
    lacks_b: torch.Tensor
    radius: float


def _differences(a: Array, b: Array, radius: float, device: torch.device) -> tuple[Array, _Differences]:
    """Return the heavier sums (b,) of pairs with the sums a and b, and what the other one lacks."""
    total = np.maximum(a, b)
    lacks_a, lacks_b = (torch.from_numpy(((total - one) / total).astype(np.float32)).to(device) for one in (a, b))
    return total, _Differences(lacks_a, lacks_b, radius)


def _bounds(
    x: tuple[torch.Tensor, torch.Tensor],
    y: tuple[torch.Tensor, torch.Tensor],
    difference: _Differences | None,
    p: float,
    tolerance: float,
) -> Array:
    """Return lower and upper bounds (2, b) of the distances of b pairs of unit weight (the heavier jet, if unequal).

    x, y: weights (b, m) of unit sums and points (b, m, d).
    """
    (a, points_a), (b, points_b) = x, y
    length = (points_a[:, :, None] - points_b[:, None]).square().sum(dim=3).sqrt()
    equal = torch.zeros(len(a), dtype=torch.bool, device=a.device)
    if a.shape == b.shape:  # rounded plans blur a little; equal jets are 0
        equal = (a == b).all(dim=1) & (points_a == points_b).all(dim=(1, 2))
    if difference is not None:
        equal &= difference.lacks_a == difference.lacks_b
        a, b = (_with_point(one, lacks) for one, lacks in ((a, difference.lacks_a), (b, difference.lacks_b)))
        length = torch.nn.functional.pad(length, (0, 1, 0, 1))
    there = (a > 0)[:, :, None] & (b > 0)[:, None, :]
    length = length * there
    scale = length.amax(dim=(1, 2)).clamp(min=TINY)
    cost = (length / scale[:, None, None]) ** p
    unit, charge = scale, torch.zeros_like(scale)
    if difference is not None:
        unit = scale.clamp(min=difference.radius)
        charge = (difference.lacks_a + difference.lacks_b) * (difference.radius / unit) ** p
    moved = (scale / unit) ** p
    f, g = torch.zeros_like(a), torch.zeros_like(b)
    found = torch.zeros(2, len(a), device=a.device)
    best = torch.stack([torch.zeros_like(scale), torch.full_like(scale, torch.inf)])
    rows = torch.arange(len(a), device=a.device)
    for level in range(LEVELS):
        epsilon = EPSILON_FIRST / 2**level
        kernel = ((f[:, :, None] + g[:, None, :] - cost) / epsilon).exp() * there
        u, v = _scalings(kernel, a, b, STEPS * (1 + level // FIRST_CHECK))
        f, g = f + epsilon * u.clamp(min=TINY).log(), g + epsilon * v.clamp(min=TINY).log()
        if level < FIRST_CHECK:
            continue
        upper = _cost_of_rounded(u[:, :, None] * kernel * v[:, None, :], a, b, cost)
        pair = torch.stack([_dual_value(g, a, b, cost, there), upper]).clamp(min=0)
        pair = (pair * moved + charge) ** (1 / p)
        best = torch.stack([torch.maximum(best[0], pair[0]), torch.minimum(best[1], pair[1])])
        best[0] = torch.minimum(best[0], best[1])
        found[:, rows] = best
        still = best[1] - best[0] > tolerance * (best[0] + best[1])
        if not still.any():
            break
        if not still.all():  # so what a pair gets does not depend on how long the others of its batch take either
            a, b, f, g, cost, there = (value[still] for value in (a, b, f, g, cost, there))
            moved, charge, rows, best = moved[still], charge[still], rows[still], best[:, still]
    bounds: Array = torch.where(equal, 0.0, found * unit).double().cpu().numpy()
    return bounds


def _with_point(weights: torch.Tensor, lacks: torch.Tensor) -> torch.Tensor:
    """Return the weights (b, m) of unit sums with one more, so that they sum to one with it."""
    lacks = torch.where(lacks > SMALL, lacks, 0.0)
    return torch.cat([weights * (1 - lacks)[:, None], lacks[:, None]], dim=1)


def _scalings(kernel: torch.Tensor, a: torch.Tensor, b: torch.Tensor, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return u (b, m) and v (b, n) after so many iterations towards u · kernel · v having the sums a and b."""
    v = torch.ones_like(b)
    u = torch.ones_like(a)
    turned = kernel.transpose(1, 2)
    for _ in range(steps):
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
