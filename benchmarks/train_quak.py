"""Training QUAK with its defaults: 60,000 × 4 with three priors of 20,000 events, on a CPU, against ten minutes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from hunch.models import Quak

LIMIT = 600.0


def samples(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return a background with tails, a bend and a bounded column, and three narrow priors."""
    mass = rng.exponential(1.0, 60_000)
    bent = rng.normal(0.15 * (mass - 1) ** 2, 0.5 + 0.2 * mass)
    ratio = rng.beta(2, 3, 60_000)
    background = np.stack([mass, bent, ratio, rng.gamma(3, 1, 60_000) * (0.5 + ratio)], axis=1)
    width = np.array([0.25, 0.3, 0.08, 0.35])
    centres = {"near": [2.6, 0.4, 0.37, 1.7], "far": [5.0, 2.0, 0.6, 4.0], "low": [0.5, 3.0, 0.8, 4.0]}
    return background, {name: rng.normal(centre, width, (20_000, 4)) for name, centre in centres.items()}


def run() -> list[dict[str, Any]]:
    """Return one benchmark line; ratio is limit / measured."""
    background, priors = samples(np.random.default_rng(0))
    start = time.perf_counter()
    Quak(seed=0, device="cpu").fit(background, priors=priors)
    seconds = time.perf_counter() - start
    return [
        {
            "name": "train_quak_seconds",
            "ours": seconds,
            "reference": LIMIT,
            "ratio": LIMIT / seconds,
            "bar": 1.0,
            "unit": "s",
        }
    ]
