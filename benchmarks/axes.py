"""Training of a space of constituent VAEs: its axes side by side in one batch, beside one axis after another, in one run.

Four axes, background and three priors, each of its own jets; dense and LSTM. The axes one after another are `ConstituentVae.fit` of the same
jets, with the same seeds, for as many epochs and steps. The ratio is how many times as fast the space is.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from hunch.models import ConstituentVae, make_space
from hunch.models.space import axis_seed

JETS, SLOTS, PRIORS, ROUNDS = 3_000, 20, ("one", "two", "three"), 2
EPOCHS = {"dense": 6, "lstm": 2}

Floats = npt.NDArray[np.float64]


def made_up(seed: int) -> Floats:
    """Return jets (n, 20, 4) of massless constituents around the x axis, the hardest first; a seed has a width of its own."""
    rng = np.random.default_rng(seed)
    pt = np.sort(rng.exponential(30.0, (JETS, SLOTS)), axis=1)[:, ::-1]
    eta, phi = rng.normal(0, 0.1 * (1 + seed), (2, JETS, SLOTS))
    return np.stack([pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=-1)


def timed(options: dict[str, Any], jets: list[Floats]) -> tuple[float, float]:
    """Return the seconds of a space's training, and of its axes one after another."""
    start = time.perf_counter()
    space = make_space("ConstituentVae", kind="sets", priors=PRIORS, options=options)
    space.fit(jets[0], priors=dict(zip(PRIORS, jets[1:], strict=True)))
    middle = time.perf_counter()
    for number, own in enumerate(jets):
        ConstituentVae(**options, seed=axis_seed(0, number)).fit(own)
    return middle - start, time.perf_counter() - middle


def run() -> list[dict[str, Any]]:
    """Return the speed of both architectures in axes a minute, the best of some rounds."""
    jets, found = [made_up(seed) for seed in range(1 + len(PRIORS))], []
    for architecture, epochs in EPOCHS.items():
        options = {"architecture": architecture, "max_epochs": epochs, "patience": epochs, "device": "cpu"}
        rounds = [timed(options, jets) for _ in range(ROUNDS)]
        ours, reference = (60 * len(jets) / min(each) for each in zip(*rounds, strict=True))
        found.append(
            {
                "name": f"{len(jets)} axes of ConstituentVae, {architecture}, {JETS} jets each, {epochs} epochs",
                "ours": ours,
                "reference": reference,
                "ratio": ours / reference,
                "bar": None,
                "unit": "axes/min",
            }
        )
    return found
