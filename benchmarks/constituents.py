"""Speed of the alignment of stored constituents on one core, beside the bare arithmetic, taken in turns in one run.

Ours goes from constituents as tables store them (pT and angles relative to the jet's axis, 100 slots, single precision) to
the four-vectors of the 20 hardest in the jet's frame, which a network takes. The bare arithmetic gets the 20 hardest
contiguous and in double precision, and does what is left: momenta, their sum, the turn about the beam, the boost along it, the turn
about the jet's axis, and the copy to single precision; no checks, no order, no padding, no jet without a direction. A third line
goes on to what the network takes: each number of each slot by its median and quartiles, in single precision.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from hunch.models.autoencoders.set_scaling import robust_scaling
from hunch.models.autoencoders.set_training import as_rows
from hunch.processors import aligned_four_vectors

JETS, ROUNDS, BAR = 20_000, 5, 20_000
FEWEST, MOST, STORED, KEPT = 30, 90, 100, 20
"""Constituents a jet, the slots of a table, and what a network takes."""
BLOCK = 1000
"""Jets at a time, as ours are."""

Float = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]


def made_up(rng: np.random.Generator) -> Single:
    """Return stored constituents (n, 100, 3): pT (GeV) hardest first, angles from the axis."""
    present = np.arange(STORED) < rng.integers(FEWEST, MOST + 1, JETS)[:, None]
    stored = np.zeros((JETS, STORED, 3), dtype=np.float32)
    stored[:, :, 0] = -np.sort(-(rng.exponential(12.0, present.shape) + 0.5) * present, axis=1)
    stored[:, :, 1:] = rng.normal(0, 0.2, (*present.shape, 2)) * present[:, :, None]
    return stored


def bare(pt: Float, eta: Float, phi: Float) -> Single:
    """Align full jets (n, k): E, px, py, pz (n, k, 4)."""
    found = np.empty((*pt.shape, 4), dtype=np.float32)
    for first in range(0, len(pt), BLOCK):
        here = slice(first, first + BLOCK)
        p, e, f = pt[here], eta[here], phi[here]
        x, y, z, energy = p * np.cos(f), p * np.sin(f), p * np.sinh(e), p * np.cosh(e)
        px, py, pz, total = (a.sum(axis=1)[:, None] for a in (x, y, z, energy))
        length, gamma = np.hypot(px, py), total / np.sqrt(total**2 - pz**2)
        x, y = (x * px + y * py) / length, (y * px - x * py) / length
        beta = pz / total
        energy, z = gamma * (energy - beta * z), gamma * (z - beta * energy)
        e, f = e - np.arctanh(beta), f - np.arctan2(py, px)
        weight = energy / np.hypot(e, f)
        up, across = (weight * f).sum(axis=1)[:, None], (weight * e).sum(axis=1)[:, None]
        length = np.hypot(up, across)
        found[here, :, 0], found[here, :, 1] = energy, x
        found[here, :, 2], found[here, :, 3] = (y * up + z * across) / length, (z * up - y * across) / length
    return found


def run() -> list[dict[str, Any]]:
    """Return jets/s against the bar, and against the bare arithmetic; best of five, in turns."""
    stored = made_up(np.random.default_rng(1))
    hardest = [np.ascontiguousarray(stored[:, :KEPT, i], dtype=np.float64) for i in range(3)]
    ours, least, whole = [], [], []
    with threadpool_limits(1):
        for _ in range(ROUNDS + 1):  # the first round warms up
            begin = time.perf_counter()
            aligned = aligned_four_vectors(stored, slots=KEPT)
            middle = time.perf_counter()
            expected = bare(*hardest)
            least.append(time.perf_counter() - middle)
            ours.append(middle - begin)
            scaling = robust_scaling(aligned.astype(np.float64))
            begin = time.perf_counter()
            as_rows(scaling.scaled(aligned.astype(np.float64)))
            whole.append(ours[-1] + time.perf_counter() - begin)
            if np.abs(aligned - expected).max() > 1e-5 * np.abs(expected).max():
                raise RuntimeError("the benchmark's jets are not those of the bare arithmetic")
    mine, reference, network = (JETS / min(seconds[1:]) for seconds in (ours, least, whole))
    case = f"alignment of {JETS} stored jets, {KEPT} of {STORED} slots"
    return [
        {"name": case, "ours": mine, "reference": BAR, "ratio": mine / BAR, "bar": 1.0, "unit": "jets/s"},
        {
            "name": f"{case}, and scaling to a network's input",
            "ours": network,
            "reference": BAR,
            "ratio": network / BAR,
            "bar": 1.0,
            "unit": "jets/s",
        },
        {
            "name": f"{case}, bare arithmetic",
            "ours": mine,
            "reference": reference,
            "ratio": mine / reference,
            "bar": None,
            "unit": "jets/s",
        },
    ]
