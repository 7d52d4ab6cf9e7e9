"""Exact optimal transport between jets: Wass(p) by POT's network simplex, fed in blocks and by several threads.

Wass(p) = (min over f of Σ_ij f_ij d_ij^p)^(1/p), d Euclidean, with Σ_j f_ij the first jet and Σ_i f_ij the second. This
is a distance for every p ≥ 1 and comes in the unit of the points. The simplex gives the cost to about 1e-15 of the
largest d^p, so for p > 1 distances below (1e-15)^(1/p) of the largest d are not resolved, and those below (1e-12)^(1/p),
a third of it at p = 25, are said in a warning; equal jets are 0 exactly.

Unbalanced, with R > 0: (min over f of Σ_ij f_ij d_ij^p + R^p |Σ_i w_i − Σ_j w'_j|)^(1/p), where f moves as much as the
lighter jet holds. At p = 1 this is R times the energy mover's distance of arXiv:1902.02346, eq. 1; it obeys the triangle
inequality when R is at least half of the largest d (arXiv:1902.02346, below eq. 1).

The package POT does the last step (`pip install pot`); nothing else here needs it.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ..inputs import ScorerError, ShapeError, required_package
from ..train.threads import allowed_threads
from .clouds import Array, Clouds, TransportOptionError

__all__ = [
    "TransportOptionError",
    "TransportSolverError",
    "check_options",
    "wasserstein",
    "wasserstein_rowwise",
]

BLOCK = 2**15  # entries of the costs that are computed at once: 256 KiB, inside the cache of a core
ROWS_TOGETHER = 64  # pairs in one task of a thread
MAX_STEPS = 10**8  # of the simplex: two full 40×40 images need some 10^5
OPTIMAL = 1  # POT's result code
MANY = 1024
UNRESOLVED = 1e-12  # of the largest d^p: of a smaller cost the simplex gives less than three digits

logger = logging.getLogger(__name__)

Solver = Callable[[Array, Array, Array, int, int], tuple[Any, ...]]
Task = Callable[[], None]


class TransportSolverError(ScorerError):
    """The network simplex did not reach an optimum."""


def check_options(p: float, unbalanced: float | None, threads: int | None = None) -> None:
    """Raise TransportOptionError unless p ≥ 1, R > 0 where given, both finite, and threads ≥ 1 where given."""
    if not (math.isfinite(p) and p >= 1):
        raise TransportOptionError(f"p is {p}; Wass(p) is a distance for finite p >= 1")
    if unbalanced is not None and not (math.isfinite(unbalanced) and unbalanced > 0):
        raise TransportOptionError(
            f"unbalanced is {unbalanced}; it is R > 0, a length in the unit of the points, or None"
        )
    if threads is not None and threads < 1:
        raise TransportOptionError(f"threads is {threads}; at least 1, or None for as many as torch may use")


def wasserstein(
    x: Clouds,
    y: Clouds | None = None,
    *,
    p: float = 1.0,
    unbalanced: float | None = None,
    threads: int | None = None,
    progress: bool = False,
) -> Array:
    """Return the exact distances (n, k) of all jets x to all jets y, or (n, n) of all pairs of x.

    p: of Wass(p), any number from 1 on; unbalanced: R, the cost of weight that only one jet has, else both sides sum to
    one; threads: the pairs are shared out among them (None: as many as torch may use), which changes no digit;
    progress: a bar on stderr of a terminal. Raises NotNormalisedError, ShapeError for points of different dimension,
    TransportOptionError, MissingPackageError without POT, TransportSolverError.
    """
    _check(x, x if y is None else y, p, unbalanced, threads)
    solver = _solver()
    # all pairs: the jet behind is never the smaller one, as `_distance` wants it
    rows = np.argsort(np.diff(x.starts), kind="stable") if y is None else np.arange(len(x))
    jets = _ready(x.take(rows), unbalanced)
    others = jets if y is None else _ready(y, unbalanced)
    found = np.zeros((len(jets), len(others)))
    unresolved: deque[float] = deque()

    def task(j: int, first: int, last: int) -> Task:
        def work() -> None:
            weights, points = others.jet(j)
            start = jets.starts[first]
            lengths = _lengths(jets.points[start : jets.starts[last]], points)
            for i in range(first, last):
                inside = lengths[jets.starts[i] - start : jets.starts[i + 1] - start]
                found[i, j] = _distance(jets.jet(i)[0], weights, inside, p, unbalanced, solver, unresolved)

        return work

    tasks = [
        task(j, first, last)
        for j in range(len(others))
        for first, last in _blocks(jets.starts, j + 1 if y is None else 0, len(others.jet(j)[0]))
    ]
    _run(tasks, threads, progress=progress)
    _say_unresolved(unresolved, p)
    if y is None:
        ordered = found + found.T
        found[np.ix_(rows, rows)] = ordered
    return found


def wasserstein_rowwise(
    x: Clouds, y: Clouds, *, p: float = 1.0, unbalanced: float | None = None, threads: int | None = None
) -> Array:
    """Return the exact distances (n,) of jet i of x to jet i of y (an image and its reconstruction).

    Options and errors as in `wasserstein`; ShapeError also for different numbers of jets.
    """
    if len(x) != len(y):
        raise ShapeError(f"{x.name} has {len(x)} jets, {y.name} {len(y)}; row by row needs as many of both")
    _check(x, y, p, unbalanced, threads)
    solver = _solver()
    left, right = _ready(x, unbalanced), _ready(y, unbalanced)
    found = np.zeros(len(x))
    unresolved: deque[float] = deque()

    def task(first: int) -> Task:
        def work() -> None:
            for i in range(first, min(first + ROWS_TOGETHER, len(x))):
                (a, points_a), (b, points_b) = left.jet(i), right.jet(i)
                found[i] = _distance(a, b, _lengths(points_a, points_b), p, unbalanced, solver, unresolved)

        return work

    _run([task(first) for first in range(0, len(x), ROWS_TOGETHER)], threads, progress=False)
    _say_unresolved(unresolved, p)
    return found


def _say_unresolved(distances: deque[float], p: float) -> None:
    if distances:
        logger.warning(
            "%d distances at p = %g, the largest %.3g, are not resolved: d^p is lost beside that of the furthest points",
            *(len(distances), p, max(distances)),
        )


def _check(x: Clouds, y: Clouds, p: float, unbalanced: float | None, threads: int | None) -> None:
    check_options(p, unbalanced, threads)
    if x.points.shape[1] != y.points.shape[1]:
        raise ShapeError(
            f"{x.name} has points of {x.points.shape[1]} coordinates, {y.name} of {y.points.shape[1]}: no distance"
        )
    if unbalanced is None:
        x.require_unit_sums()
        y.require_unit_sums()


def _solver() -> Solver:
    # `ot.emd2` spends as long on its checks of arrays as on a small pair; its kernel lets go of the interpreter lock
    kernel: Solver = required_package("ot.lp.emd_wrap", "POT", "exact transport").emd_c
    return kernel


def _blocks(starts: npt.NDArray[np.int64], first: int, width: int) -> Iterator[tuple[int, int]]:
    """Give runs of jets from `first` on whose costs against `width` points fill a block; a large jet alone."""
    while first < len(starts) - 1:
        end = int(np.searchsorted(starts, starts[first] + BLOCK // width, side="right")) - 1
        last = min(max(end, first + 1), len(starts) - 1)
        yield first, last
        first = last


def _ready(clouds: Clouds, unbalanced: float | None) -> Clouds:
    """Return the clouds with the last digits of their sums right, which the solver takes for equal."""
    if unbalanced is not None:
        return clouds
    return replace(clouds, weights=clouds.weights / np.repeat(clouds.sums(), np.diff(clouds.starts)))


def _lengths(x: Array, y: Array) -> Array:
    """Return distances (t, m) of points x (t, d) and y (m, d), by differences: no digits are lost."""
    total = np.square(np.subtract.outer(x[:, 0], y[:, 0]))
    for axis in range(1, x.shape[1]):
        step = np.subtract.outer(x[:, axis], y[:, axis])
        total += np.square(step, out=step)
    return np.sqrt(total, out=total)


def _distance(
    a: Array, b: Array, lengths: Array, p: float, unbalanced: float | None, solver: Solver, unresolved: deque[float]
) -> float:
    """Return the distance of weights a (m_x,) and b (m_y,); `lengths` (m_x, m_y), of their points, is overwritten.

    A distance that the simplex does not resolve is also put into `unresolved`.
    """
    weight, scale = 1.0, 1.0
    if unbalanced is not None:
        a, b, lengths = _with_difference(a, b, lengths, unbalanced)
        weight = float(a.sum())
        a, b = a / weight, b / b.sum()  # sums may differ by 1e-8 for the simplex: the rounding of sums of 10^9 is more
    cost = lengths
    if p != 1 and (scale := float(cost.max())) > 0:
        cost /= scale  # d^5 of small angles would vanish beside the simplex's own tolerance
        np.power(cost, p, out=cost)
    if len(a) < len(b):  # the simplex needs about a tenth fewer steps with the larger jet first
        a, b, cost = b, a, np.ascontiguousarray(cost.T)
    _, total, _, _, code = solver(a, b, cost, MAX_STEPS, 1)
    if code != OPTIMAL:
        raise TransportSolverError(f"the network simplex stopped with code {code} on {len(a)} against {len(b)} points")
    moved = weight * float(total)
    if p == 1:
        return moved
    distance = float(scale * max(moved, 0.0) ** (1 / p))
    if 0 < total < UNRESOLVED:
        unresolved.append(distance)
    return distance


def _with_difference(a: Array, b: Array, lengths: Array, radius: float) -> tuple[Array, Array, Array]:
    """Give the lighter jet one more point, at distance `radius` of all, that holds what it lacks."""
    lacks = float(a.sum() - b.sum())
    if lacks > 0:
        return a, np.append(b, lacks), np.hstack([lengths, np.full((len(a), 1), radius)])
    if lacks < 0:
        return np.append(a, -lacks), b, np.vstack([lengths, np.full((1, len(b)), radius)])
    return a, b, lengths


def _run(tasks: list[Task], threads: int | None, *, progress: bool) -> None:
    """Do the tasks in threads, of which the caller's is one; after an error or Ctrl-C no further task is begun."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(allowed_threads(MANY) if threads is None else min(threads, cores), len(tasks))
    left = deque(tasks)
    shown = progress and sys.stderr.isatty()
    with tqdm(total=len(tasks), desc="transport", unit="block", disable=not shown, file=sys.stderr) as bar:
        # no future for each task: a main thread that wakes for each result takes the interpreter lock from the workers
        def work(update: Callable[[], None] | None) -> None:
            try:
                while True:
                    try:
                        task = left.popleft()
                    except IndexError:
                        return
                    task()
                    if update:
                        update()
            finally:
                left.clear()

        def update() -> None:
            bar.update(len(tasks) - len(left) - bar.n)

        with ThreadPoolExecutor(max(workers - 1, 1)) as pool:
            others = [pool.submit(work, None) for _ in range(workers - 1)]
            work(update)
            for other in others:
                other.result()
