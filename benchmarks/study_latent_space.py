"""Loss space against latent space: separate densities of background and prior, or one VAE of both, under the same head.

`make study ONLY=latent_space`. Samples and test are those of `model_independence`. Two thirds of the training events
train the densities and the rest, scored by them, the head, so that no head sees a loss of an event its model trained on.
The densities are VAEs too, of the same size: what differs is the space.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from hunch.models import Quak, Vae

from . import simulated
from .simulated import Floats, summary, told
from .spaces import HEADS, head_scores, latent_means
from .study_model_independence import PRIORS

TRAININGS = int(os.environ.get("TRAININGS", "3"))
EPOCHS = 60


def split(x: Floats, seed: int) -> tuple[Floats, Floats]:
    """Return two thirds of the rows and the rest, by seed."""
    shuffled = np.random.default_rng(seed).permutation(x)
    return shuffled[: 2 * len(x) // 3], shuffled[2 * len(x) // 3 :]


def run() -> dict[str, Any]:
    """Compare both spaces for each prior; returns AUC and the largest SIC with errors."""
    background = simulated.training_background()
    x, label = simulated.tested()
    rows = []
    for name, masses in PRIORS.items():
        signal = simulated.prior(masses)
        scores: dict[tuple[str, str], list[Floats]] = {}
        for seed in range(TRAININGS):
            (b, b_head), (s, s_head) = split(background, seed), split(signal, seed)
            quak = Quak(seed=seed, device="cpu", max_epochs=EPOCHS, **simulated.KINDS["QUAK of VAEs"])
            quak.fit(b, priors={"prior": s})
            vae = Vae(seed=seed, device="cpu", max_epochs=EPOCHS).fit(np.concatenate([b, s]))
            spaces = {
                "losses": [quak.losses(part) for part in (b_head, s_head, x)],
                "latent": [latent_means(vae, part) for part in (b_head, s_head, x)],
            }
            for head in HEADS:
                for space, parts in spaces.items():
                    scores.setdefault((space, head), []).append(head_scores(*parts, head=head))
            scores.setdefault(("difference", "none"), []).append(quak.score(x))
        rows += [
            told({"prior": name, "space": space, "head": head, **summary(found, label)})
            for (space, head), found in scores.items()
        ]
    return {"command": "make study ONLY=latent_space", **simulated.sizes(label, TRAININGS), "rows": rows}
