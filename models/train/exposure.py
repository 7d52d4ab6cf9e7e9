"""Outlier exposure: a training that is shown events of another kind and made to find them anomalous (arXiv:2007.01850).

    L = L_inner − lambda · L_exposure

"mse": L_exposure = sigmoid(error of an exposed event − error of a background event), each pair of a batch at random;
"kl": L_exposure = min(0, KL of the exposed event − KL of the background event − margin), for each latent dimension.
Both are bounded, so that nothing is won by making an exposed event ever more anomalous. lambda is annealed in cycles, as in the
published code: none in the first fifth of the training, twice a rise and a plateau, back to none each time, at last a rise to stay.
With lambda = 0 the training is the plain one, bit for bit.
"""

from __future__ import annotations

from typing import Any

import torch

from ...errors import unknown_name
from ..inputs import ScorerError
from .objective import Batch, Objective, WrappedObjective

__all__ = ["EXPOSURES", "Exposed", "annealed", "check_exposure"]

EXPOSURES = ("none", "mse", "kl")
QUIET, CYCLE, KEPT = 0.2, 0.2, 0.7  # parts of the training: without exposure, of a cycle, from where lambda stays
RISE = 0.5  # of a cycle


def check_exposure(kind: str, strength: float, margin: float) -> None:
    """Raise ScorerError for a kind of exposure that there is not, and for a strength or margin below 0."""
    if kind not in EXPOSURES:
        raise ScorerError(unknown_name("exposure", kind, EXPOSURES))
    for name, value in (("exposure_strength", strength), ("exposure_margin", margin)):
        if not 0 <= value < float("inf"):
            raise ScorerError(f"{name} is {value!r}, allowed: 0 or more")


def annealed(progress: float) -> float:
    """Return what lambda is multiplied with, 0 to 1, at a progress of 0 to 1 of the training.

    >>> [round(annealed(p), 3) for p in (0.1, 0.25, 0.35, 0.41, 0.65, 0.7, 1.0)]
    [0.0, 0.5, 1.0, 0.1, 0.5, 1.0, 1.0]
    """
    if progress < QUIET:
        return 0.0
    if progress >= KEPT:
        return 1.0
    return min(1.0, ((progress - QUIET) / CYCLE % 1.0) / RISE)


class Exposed(WrappedObjective):
    """An objective that is paid for finding the events of the stream "exposure" (b, ...) more anomalous than its own rows.

    inner: of a module with `parts(x, generator=)`, which gives the error (m, b) and the KL of each latent dimension (m, b, latent), and
    `loss_of(parts, progress=)`. kind: "mse" or "kl"; strength: the largest lambda; margin: of "kl". One stream serves all members.
    """

    def __init__(self, inner: Objective, *, kind: str, strength: float = 2.0, margin: float = 2.0) -> None:
        super().__init__(inner)
        check_exposure(kind, strength, margin)
        self.kind, self.strength, self.margin = kind, strength, margin

    def losses(self, batch: Batch, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        """Return the loss (m, b) of the own rows less what the exposed ones beside them pay."""
        weight = self.strength * annealed(progress)
        if weight == 0 or self.kind == "none":
            return super().losses(batch, generator=generator, progress=progress)
        network: Any = self.model
        own = network.parts(batch["x"], generator=generator)
        beside = batch["exposure"].expand(len(own.error), *batch["exposure"].shape)
        other = network.parts(beside, generator=generator)
        found: torch.Tensor = network.loss_of(own, progress=progress)
        if self.kind == "mse":
            return found - weight * torch.sigmoid(other.error - own.error)
        return found + weight * torch.relu(own.kl - other.kl + self.margin).mean(dim=-1)
