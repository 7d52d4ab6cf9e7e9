"""How accurate a prior must be: a prior sample of which only a part is the signal, the rest a far prior.

`make study ONLY=prior_accuracy`. The sample's size stays the same; 100 % to 0 % of it is Z'(3500) -> X(500) Y(100), the
signal (other events than are tested), the rest X(250) Y(200). QUAK and the supervised network of `model_independence`
train on the same events.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from hunch.models import Quak

from . import simulated
from .simulated import Floats, Masses, summary, told

TRAININGS = int(os.environ.get("TRAININGS", "3"))
EPOCHS = 60
PARTS = (1.0, 0.5, 0.2, 0.1, 0.05, 0.0)
FAR: Masses = (3500, 250, 200)


def diluted(exact: Floats, far: Floats, part: float, seed: int) -> Floats:
    """Return a sample of the smaller one's size with this part of exact rows, both drawn without repetition."""
    n = min(len(exact), len(far))
    rng = np.random.default_rng(seed)
    n_exact = round(part * n)
    rows = [rng.permutation(exact)[:n_exact], rng.permutation(far)[: n - n_exact]]
    return rng.permutation(np.concatenate(rows))


def run() -> dict[str, Any]:
    """Train on each mixture; returns AUC and the largest SIC of both methods with errors."""
    background = simulated.training_background()
    x, label = simulated.tested()
    exact, far = simulated.prior(simulated.SIGNAL), simulated.prior(FAR)
    rows = []
    for part in PARTS:
        scores: dict[str, list[Floats]] = {}
        for seed in range(TRAININGS):
            signal = diluted(exact, far, part, seed)
            for kind, options in simulated.KINDS.items():
                quak = Quak(seed=seed, device="cpu", max_epochs=EPOCHS, **options)
                scores.setdefault(kind, []).append(quak.fit(background, priors={"prior": signal}).score(x))
            scores.setdefault("supervised network", []).append(simulated.supervised(background, signal, x, seed=seed))
        rows += [
            told({"exact_part": part, "method": method, **summary(found, label)}) for method, found in scores.items()
        ]
    return {
        "command": "make study ONLY=prior_accuracy",
        **simulated.sizes(label, TRAININGS),
        "far": list(FAR),
        "rows": rows,
    }
