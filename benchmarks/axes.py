"""Training of the axes of a space of constituent VAEs: side by side in one batch, beside one after another, in one run.

Four axes, background and three priors, each of its own jets; dense and LSTM. Both sides train with the same seeds, for as many epochs and steps;
side by side there is a thread an axis, as far as there are cores. The ratio is how many times as fast that is.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from hunch.models import ConstituentVae

JETS, SLOTS, AXES, ROUNDS = 2_000, 20, 4, 2
EPOCHS = {"dense": 6, "lstm": 1}

Floats = npt.NDArray[np.float64]


def made_up(seed: int) -> Floats:
    """Return jets (n, 20, 4) of massless constituents around the x axis, the hardest first; a seed has a width of its own."""
    rng = np.random.default_rng(seed)
    pt = np.sort(rng.exponential(30.0, (JETS, SLOTS)), axis=1)[:, ::-1]
    eta, phi = rng.normal(0, 0.1 * (1 + seed), (2, JETS, SLOTS))
    return np.stack([pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=-1)


def timed(options: dict[str, Any], jets: list[Floats]) -> tuple[float, float]:
    """Return the seconds of a training of all axes side by side, and of one after another."""
    first, second = ([ConstituentVae(**options, seed=seed) for seed in range(AXES)] for _ in range(2))
    start = time.perf_counter()
    ConstituentVae.fit_stack(first, [{"x": own} for own in jets])
    middle = time.perf_counter()
    for scorer, own in zip(second, jets, strict=True):
        scorer.fit(own)
    return middle - start, time.perf_counter() - middle


def run() -> list[dict[str, Any]]:
    """Return the speed of both architectures in axes a minute, the best of some rounds."""
    jets, found = [made_up(seed) for seed in range(AXES)], []
    for architecture, epochs in EPOCHS.items():
        options = {"architecture": architecture, "max_epochs": epochs, "patience": epochs, "device": "cpu"}
        rounds = [timed(options, jets) for _ in range(ROUNDS)]
        ours, reference = (60 * AXES / min(each) for each in zip(*rounds, strict=True))
        found.append(
            {
                "name": f"{AXES} axes of ConstituentVae, {architecture}, {JETS} jets each, {epochs} epochs",
                "ours": ours,
                "reference": reference,
                "ratio": ours / reference,
                "bar": None,
                "unit": "axes/min",
            }
        )
    return found
