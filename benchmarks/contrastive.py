"""Training a contrastive encoder on a CPU: what its augmentations take of a step, and the whole against bare forward and backward passes.

The bare passes are those that a step contains: all versions of a batch (two of jets, three of events), drawn beforehand, through the same encoder with
the same dropout, and the gradient of the squared projections; no augmentation, no contrastive loss, no optimiser. The training is `train_stack` with
shuffled batches, fresh augmentations, loss, Adam, the figures of the epoch, validation on as many events as `fit` would split off, and the best epoch
kept. Jets have 30 slots of which 20 to 30 are filled, and versions of them the spare ones of `JetCLR` beside; events have 19, of which some 40 % are filled.
One thread; in turns in one run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from hunch.models.contrastive.clr import AnomalyCLR, Encoder, JetCLR
from hunch.models.contrastive.set_transformer import SetTransformer
from hunch.models.contrastive.training import ContrastiveObjective
from hunch.models.train.loop import TrainingSettings, train_stack
from hunch.models.train.threads import few_threads

WIDTH, LAYERS, SLOTS, BATCH, STEPS, ROUNDS = 128, 2, 30, 128, 10, 5
HELD = STEPS * BATCH * 15 // 85  # events of the validation sample, as `fit` splits them off
BAR_AUGMENTATION, BAR_PASSES = 5.0, 0.8  # a step over what augmentations take of it; training over bare passes
OPTIONS: dict[str, Any] = {"width": WIDTH, "feedforward": WIDTH, "layers": LAYERS, "device": "cpu", "batch_size": BATCH}


def jets(n: int) -> torch.Tensor:
    """Return jets (n, SLOTS, 3) of falling pT around the axis."""
    rng = np.random.default_rng(1)
    pt = -np.sort(-rng.exponential(20.0, size=(n, SLOTS)), axis=1)
    made = np.stack([pt, *rng.normal(0, 0.3, (2, n, SLOTS))], axis=-1)
    made[np.arange(SLOTS) >= rng.integers(20, SLOTS + 1, size=n)[:, None]] = 0.0
    return torch.from_numpy(made).float()


def events(n: int) -> torch.Tensor:
    """Return events (n, 19, 3) in the layout of `AnomalyCLR`."""
    rng = np.random.default_rng(1)
    slots = AnomalyCLR().layout.slots
    made = np.stack(
        [15 + rng.exponential(30.0, (n, slots)), rng.uniform(-2, 2, (n, slots)), rng.uniform(-3, 3, (n, slots))],
        axis=-1,
    )
    made[:, 0, 1] = 0.0
    empty = rng.random((n, slots)) < 0.6
    empty[:, :2] = False
    made[empty] = 0.0
    return torch.from_numpy(made).float()


def objective_of(encoder: Encoder) -> ContrastiveObjective:
    """Return the objective of a fresh network."""
    network = SetTransformer(1, encoder._sizes, seed=0, dropout=encoder.dropout, infrared_safe=encoder.infrared_safe)
    return ContrastiveObjective(
        network,
        versions=encoder.versions(),
        features=lambda sets: encoder.features(sets, 500.0),
        loss=encoder.loss,
        temperature=encoder.temperature,
    )


def seconds_of(work: Callable[[], Any], times: int) -> float:
    """Return the seconds that some repetitions take."""
    begin = time.perf_counter()
    for _ in range(times):
        work()
    return time.perf_counter() - begin


def figures_of(encoder: Encoder, sets: torch.Tensor) -> dict[str, float]:
    """Return the median seconds of STEPS augmentations, bare passes and steps of a training, in turns."""
    objective, generator = objective_of(encoder), torch.Generator().manual_seed(1)
    batch = sets[:BATCH]
    versions = torch.cat(list(objective.versions(batch, generator)))[None]
    inputs, pt = objective.features(versions)

    def bare() -> None:
        objective.model.zero_grad()
        _, projections = objective.network(inputs, pt, generator=generator)
        projections.square().mean().backward()

    def training() -> None:
        settings = TrainingSettings(
            max_epochs=1,
            patience=1,
            batch_size=BATCH,
            learning_rate=encoder.learning_rate,
            min_steps=STEPS,
            max_steps=STEPS,
            threads=1,
        )
        train_stack(objective_of(encoder), [sets], [sets[:HELD]], settings=settings, seed=0, device=torch.device("cpu"))

    seconds: dict[str, list[float]] = {"augmentation": [], "bare": [], "training": []}
    for _ in range(ROUNDS + 1):  # the first round warms up
        seconds["augmentation"].append(seconds_of(lambda: objective.versions(batch, generator), STEPS))
        seconds["bare"].append(seconds_of(bare, STEPS))
        seconds["training"].append(seconds_of(training, 1))
    return {name: float(np.median(times[1:])) for name, times in seconds.items()}


def run() -> list[dict[str, Any]]:
    """Return the part of augmentations and the steps/s of training against bare passes, of jets and of events."""
    lines = []
    for told, encoder, sets in (
        ("JetCLR", JetCLR(**OPTIONS), jets(2000)),
        ("AnomalyCLR", AnomalyCLR(**OPTIONS), events(2000)),
    ):
        with few_threads(1):
            found = figures_of(encoder, sets)
        size = f"width {WIDTH}, {LAYERS} layers, {sets.shape[1]} slots, batch {BATCH}"
        lines += [
            {
                "name": f"augmentations of {told}, {size}",
                "ours": 1e3 * found["augmentation"] / STEPS,
                "reference": 1e3 * found["training"] / STEPS,
                "ratio": found["training"] / found["augmentation"],
                "bar": BAR_AUGMENTATION,
                "unit": "ms, and ms a step",
            },
            {
                "name": f"training of {told}, {size}",
                "ours": STEPS / found["training"],
                "reference": STEPS / found["bare"],
                "ratio": found["bare"] / found["training"],
                "bar": BAR_PASSES,
                "unit": "steps/s",
            },
        ]
    return lines
