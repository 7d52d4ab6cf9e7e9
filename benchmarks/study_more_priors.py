"""More priors, better: QUAK with 1, 2, 4 and 6 approximate priors on both sides of the truth, none equal to it.

`make study ONLY=more_priors`. The signal is Z'(3500) -> X(500) Y(100), the priors have X of 400 or 600 and Y of 60 to 200.
Which priors one happens to have matters as much as how many, so the loss difference is quoted as mean, worst and best
over all choices of that many of the six. The default score is quoted for the priors in the order of the list, and beside
it that of one prior made of all their events.
"""

from __future__ import annotations

import os
from itertools import combinations, product
from typing import Any

import numpy as np

from hunch.analysis import difference_score, evaluate
from hunch.models import Quak

from . import simulated
from .simulated import Floats, Masses, summary, told

TRAININGS = int(os.environ.get("TRAININGS", "3"))
EPOCHS = 60
NUMBERS = (1, 2, 4, 6)
PRIORS: tuple[Masses, ...] = (
    (3500, 400, 80),
    (3500, 600, 130),
    (3500, 400, 130),
    (3500, 600, 80),
    (3500, 400, 60),
    (3500, 600, 200),
)


def run() -> dict[str, Any]:
    """Train with growing numbers of priors; returns both tables."""
    background = simulated.training_background()
    x, label = simulated.tested()
    samples = {"_".join(map(str, masses[1:])): simulated.prior(masses) for masses in PRIORS}
    names = list(samples)
    in_order: list[dict[str, Any]] = []
    losses: list[Floats] = []
    for number in NUMBERS:
        some = {name: samples[name] for name in names[:number]}
        ways = {"one prior each": some}
        if number > 1:
            ways["one prior of all"] = {"all": np.concatenate(list(some.values()))}
        for (way, priors), (kind, options) in product(ways.items(), simulated.KINDS.items()):
            quaks = [
                Quak(seed=seed, device="cpu", max_epochs=EPOCHS, **options).fit(background, priors=priors)
                for seed in range(TRAININGS)
            ]
            figures = summary([quak.score(x) for quak in quaks], label)
            in_order.append(told({"number": number, "method": kind, "way": way, **figures}))
            if number == len(names) and way == "one prior each" and kind == "QUAK":
                losses = [quak.losses(x)[:, : 1 + number] for quak in quaks]
    any_choice = []
    for number in NUMBERS:
        choices = [
            summary([difference_score(of[:, [0, *(1 + k for k in some)]]) for of in losses], label)
            for some in combinations(range(len(names)), number)
        ]
        line: dict[str, Any] = {"number": number, "choices": len(choices)}
        for figure in ("auc", "max_sic"):
            values = [choice[figure] for choice in choices]
            line |= {
                figure: round(float(np.mean(values)), 4),
                f"{figure}_worst": min(values),
                f"{figure}_best": max(values),
                f"{figure}_error": round(float(np.mean([choice[f"{figure}_error"] for choice in choices])), 4),
            }
        any_choice.append(told(line))
    alone = evaluate(losses[0][:, 0], label)
    return {
        "command": "make study ONLY=more_priors",
        **simulated.sizes(label, TRAININGS),
        "priors": names,
        "background_loss_auc": round(alone.auc, 4),
        "background_loss_max_sic": round(alone.max_sic, 4),
        "any_choice": any_choice,
        "in_order": in_order,
    }
