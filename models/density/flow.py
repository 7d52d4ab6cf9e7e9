"""A normalising flow as an anomaly score: its density is exact, rare is anomalous."""

from __future__ import annotations

from ...errors import unknown_name
from ..inputs import ScorerError
from .densities import Architecture
from .density_scorer import DensityScorer
from .flows import TRANSFORMS

__all__ = ["Flow"]


class Flow(DensityScorer):
    """A masked autoregressive flow trained to −log p(x) in nats (arXiv:1705.07057).

    transform: "affine", or "spline" (rational-quadratic, arXiv:1906.04032; needs the package zuko); steps: of the
    flow, each with its own network; hidden: width of their layers; seed, device, max_epochs, patience, batch_size,
    learning_rate: as for `Vae`.
    decorrelation: strength of the penalty on what the score of a training event tells of its mass (`disco.py`), 0 for none;
    `fit` then needs the masses.

    Metrics: "loss" (default; −log p), "latent" (−log N(z; 0, 1)), "jacobian" (the rest: −log|dz/dx|).
    """

    metrics = ("loss", "latent", "jacobian")
    parameter_names = (
        "seed",
        "device",
        "transform",
        "steps",
        "hidden",
        "max_epochs",
        "patience",
        "batch_size",
        "learning_rate",
        "decorrelation",
    )

    def __init__(
        self,
        *,
        seed: int = 0,
        device: str = "auto",
        transform: str = "affine",
        steps: int = 4,
        hidden: int = 64,
        max_epochs: int = 60,
        patience: int = 10,
        batch_size: int = 512,
        learning_rate: float = 3e-3,
        decorrelation: float = 0.0,
    ) -> None:
        super().__init__()
        self.seed, self.device, self.transform, self.steps, self.hidden = seed, device, transform, steps, hidden
        self.max_epochs, self.patience = max_epochs, patience
        self.batch_size, self.learning_rate, self.decorrelation = batch_size, learning_rate, decorrelation

    def architecture(self) -> Architecture:
        """Return what is stacked."""
        if self.transform not in TRANSFORMS:
            raise ScorerError(unknown_name("transform", self.transform, TRANSFORMS))
        name = "maf" if self.transform == "affine" else "nsf"
        return Architecture(name, hidden=self.hidden, steps=self.steps)
