"""Cost of regions as the number of priors grows: fix them on held-out events and assign 200,000, with 2, 4 and 8 priors.

The number of regions stays the same. A grid with one cut an axis would have 2^N cells; these shapes have as many cells as
were asked for and look at every loss once, so that four times the priors may cost four times the time and no more.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from hunch.analysis import SHAPES as ALL
from hunch.analysis import fix_regions

EVENTS, HELD, FOLDS, NUMBER, FRACTION = 200_000, 50_000, 2, 9, 0.1
SHAPES = [name for name, shape in ALL.items() if not shape.needs_hypotheses]  # of a mosaic each axis is a region
PRIORS = (2, 4, 8)
REPEATS = 7
GROWTH = PRIORS[-1] / PRIORS[0]


def losses(n: int, priors: int, seed: int) -> npt.NDArray[np.float64]:
    """Return (n, 1 + priors) correlated losses."""
    rng = np.random.default_rng([seed, priors])
    return np.asarray(rng.normal(size=(n, 1)) + rng.normal(size=(n, 1 + priors)))


def seconds(shape: str, held_out: list[npt.NDArray[np.float64]], events: npt.NDArray[np.float64]) -> float:
    """Fix the regions and assign the events once; return seconds."""
    fold = np.arange(len(events)) % FOLDS
    start = time.perf_counter()
    regions = fix_regions(held_out, shape=shape, fraction=FRACTION, n_regions=NUMBER)
    found = regions.assign(events, fold)
    taken = time.perf_counter() - start
    kept = np.bincount(found + 1, minlength=NUMBER + 1)[1:]
    if not (np.abs(kept / (FRACTION * EVENTS / NUMBER) - 1) < 0.15).all():
        raise RuntimeError(f"{shape}: regions of {kept.tolist()} events are not equal")
    return taken


def run() -> list[dict[str, Any]]:
    """Return one line a shape: seconds with 8 priors against 2, in turns, the best of several."""
    samples = {n: ([losses(HELD, n, 10 + f) for f in range(FOLDS)], losses(EVENTS, n, 1)) for n in PRIORS}
    cases = list(itertools.product(SHAPES, PRIORS))
    taken: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    for _ in range(REPEATS):
        for shape, n in cases:
            taken[shape, n].append(seconds(shape, *samples[n]))
    best = {case: min(times) for case, times in taken.items()}
    lines = []
    for shape in SHAPES:
        few, many = best[shape, PRIORS[0]], best[shape, PRIORS[-1]]
        times = ", ".join(f"{n}: {best[shape, n]:.3f} s" for n in PRIORS)
        lines.append(
            {
                "name": f"{NUMBER} regions of shape {shape} by number of priors ({times})",
                "ours": many / few,
                "reference": GROWTH,
                "ratio": GROWTH * few / many,
                "bar": 1.0,
                "unit": f"time with {PRIORS[-1]} priors over time with {PRIORS[0]}",
            }
        )
    return lines
