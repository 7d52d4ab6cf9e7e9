"""Speed of jet images on one core, beside a bare histogram of the same points, taken in turns in one run.

Ours goes from awkward arrays of constituents (pt, eta, phi, one list a jet) to normalised 40 x 40 images. The bare
histogram gets the points flat and already centred, rotated and flipped, and does what is left: pixel numbers, what is
inside, one weighted bincount over all jets; no checks, no normalising, no count of what is lost.
"""

from __future__ import annotations

import time
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from hunch.processors import jagged_constituents, jet_images

JETS, ROUNDS, BAR = 20_000, 5, 20_000
FEWEST, MOST = 30, 90
"""Constituents a jet; simulated QCD, W and top jets of R = 1.0 and 550 to 650 GeV have 20 to 90."""
PIXELS, HALF = 40, 1.0

Float = npt.NDArray[np.float64]


def made_up(rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], Float, Float, Float]:
    """Return constituents a jet, pT (GeV), and places around the jet: most close by, some across the window's edge."""
    counts = rng.integers(FEWEST, MOST + 1, JETS)
    n = int(counts.sum())
    width = rng.choice([0.05, 0.2, 0.4], n)
    return counts, rng.exponential(12.0, n) + 0.5, rng.normal(0, 0.7, n) * width, rng.normal(0, 1.0, n) * width


def bare(jet: npt.NDArray[np.int64], pt: Float, x: Float, y: Float) -> Float:
    """Histogram points: (n_jets, pixels, pixels)."""
    scale = PIXELS / (2 * HALF)
    column, row = np.floor((x + HALF) * scale).astype(np.int64), np.floor((y + HALF) * scale).astype(np.int64)
    inside = (column >= 0) & (column < PIXELS) & (row >= 0) & (row < PIXELS)
    flat = ((jet * PIXELS + row) * PIXELS + column)[inside]
    return np.bincount(flat, weights=pt[inside], minlength=JETS * PIXELS**2).reshape(JETS, PIXELS, PIXELS)


def run() -> list[dict[str, Any]]:
    """Return jets/s against the bar, and against the bare histogram; best of five, in turns."""
    rng = np.random.default_rng(1)
    counts, pt, x, y = made_up(rng)
    jet = np.repeat(np.arange(JETS), counts)
    eta = x + rng.uniform(-2, 2, JETS)[jet]
    phi = (y + rng.uniform(-np.pi, np.pi, JETS)[jet] + np.pi) % (2 * np.pi) - np.pi
    lists = [ak.unflatten(values, counts) for values in (pt, eta, phi)]
    ours, least = [], []
    with threadpool_limits(1):
        for _ in range(ROUNDS + 1):  # the first round warms up
            begin = time.perf_counter()
            result = jet_images(jagged_constituents(*lists))
            middle = time.perf_counter()
            histogram = bare(jet, pt, x, y)
            least.append(time.perf_counter() - middle)
            ours.append(middle - begin)
            if len(result.jet) != JETS or not histogram.any():
                raise RuntimeError(f"the benchmark's jets were not kept: {result.cutflow}")
    mine, reference = JETS / min(ours[1:]), JETS / min(least[1:])
    case = f"images of {JETS} jets of {FEWEST} to {MOST} constituents"
    return [
        {"name": case, "ours": mine, "reference": BAR, "ratio": mine / BAR, "bar": 1.0, "unit": "jets/s"},
        {
            "name": f"{case}, bare histogram",
            "ours": mine,
            "reference": reference,
            "ratio": mine / reference,
            "bar": None,
            "unit": "jets/s",
        },
    ]
