"""How much a wrong prior costs: QUAK against a supervised network, given an exact, a near and a far prior.

`make study ONLY=model_independence`. Both train on the same simulated QCD and the same prior; both are tested on other
events, Z'(3500) -> X(500) Y(100) in QCD. The supervised network is an MLP of 12-84-42-21-10-1 (scikit-learn's
MLPClassifier, stopped on a tenth of its training events), as the comparator of arXiv:2011.03550 but for its last layer. QUAK
is quoted as it is by default, by its loss difference, and with VAEs and no family of priors as in that paper. None sees
unlabelled data.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from hunch.models import Quak

from . import simulated
from .simulated import Floats, Masses, summary, told

TRAININGS = int(os.environ.get("TRAININGS", "5"))
EPOCHS = 60
PRIORS: dict[str, Masses] = {"exact": simulated.SIGNAL, "near": (3500, 400, 130), "far": (3500, 250, 200)}


def run() -> dict[str, Any]:
    """Train on each prior; returns AUC and the largest SIC of both methods with errors."""
    background = simulated.training_background()
    x, label = simulated.tested()
    rows: list[dict[str, Any]] = []
    alone: list[Floats] = []
    for name, masses in PRIORS.items():
        signal = simulated.prior(masses)
        scores: dict[str, list[Floats]] = {}
        for seed in range(TRAININGS):
            for kind, options in simulated.KINDS.items():
                quak = Quak(seed=seed, device="cpu", max_epochs=EPOCHS, **options)
                quak.fit(background, priors={"prior": signal})
                scores.setdefault(kind, []).append(quak.score(x))
                if kind == "QUAK":
                    scores.setdefault("QUAK, loss difference", []).append(quak.score(x, metric="difference"))
                    if len(alone) < TRAININGS:
                        alone.append(quak.score(x, metric="background"))
            scores.setdefault("supervised network", []).append(simulated.supervised(background, signal, x, seed=seed))
        rows += [told(row(name, masses, method, found, label)) for method, found in scores.items()]
    rows.append(told(row("none", None, "background loss", alone, label)))
    return {"command": "make study ONLY=model_independence", **simulated.sizes(label, TRAININGS), "rows": rows}


def row(
    name: str, masses: Masses | None, method: str, scores: list[Floats], label: npt.NDArray[np.int64]
) -> dict[str, Any]:
    """Return one line of the table."""
    return {"prior": name, "masses": list(masses or ()), "method": method, **summary(scores, label)}
