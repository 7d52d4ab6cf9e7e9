"""A normalising flow as an anomaly score: its density is exact, rare is anomalous."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...errors import unknown_name
from ..inputs import ScorerError
from .densities import Architecture
from .density_scorer import DensityScorer
from .flows import TRANSFORMS

__all__ = ["Flow"]


@dataclass(kw_only=True, eq=False, repr=False)
class Flow(DensityScorer):
    """A masked autoregressive flow trained to −log p(x) in nats (arXiv:1705.07057).

    transform: "affine", or "spline" (rational-quadratic, arXiv:1906.04032; needs the package zuko); steps: of the
    flow, each with its own network; hidden: width of their layers; seed, device, max_epochs, patience, batch_size,
    learning_rate: as for `Vae`.
    decorrelation: strength of the penalty on what the score of a training event tells of its mass (`disco.py`), 0 for none;
    `fit` then needs the masses.

    Metrics: "loss" (default; −log p), "latent" (−log N(z; 0, 1)), "jacobian" (the rest: −log|dz/dx|).
    """

    metrics: ClassVar = ("loss", "latent", "jacobian")
    shown: ClassVar = ("transform",)

    transform: str = "affine"
    steps: int = 4

    def architecture(self) -> Architecture:
        """Return what is stacked."""
        if self.transform not in TRANSFORMS:
            raise ScorerError(unknown_name("transform", self.transform, TRANSFORMS))
        name = "maf" if self.transform == "affine" else "nsf"
        return Architecture(name, hidden=self.hidden, steps=self.steps)
