"""A variational autoencoder as an anomaly score: rare is anomalous."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ...errors import shown
from ..inputs import ScorerError, whole_number
from .densities import Architecture, DensityStack
from .density_scorer import DensityScorer

__all__ = ["Vae"]

MAX_SAMPLES = 100_000


@dataclass(kw_only=True, eq=False, repr=False)
class Vae(DensityScorer):
    """A VAE trained to bound −log p(x) in nats (arXiv:1312.6114).

    seed: of everything random; device: "auto", "cpu", "cuda"; latent: dimensions, None for min(d, 8); hidden: width
    of the layers; flow_steps: masked autoregressive flows that the posterior passes through, 0 for a Gaussian one;
    beta: weight of the KL term (beta-VAE); samples: draws of the metric "log_density"; max_epochs, patience,
    batch_size, learning_rate: see TrainingSettings.
    decorrelation: strength of the penalty on what the score of a training event tells of its mass (`disco.py`), 0 for none;
    `fit` then needs the masses.

    Metrics, all deterministic: "loss" (default; reconstruction + kl), "reconstruction" (−log p(x | z) at the latent
    mean, with the Jacobian of the scaling), "kl" (times beta), "log_density" (−log p(x) by importance sampling,
    arXiv:1509.00519; no bound of a bound, and `samples` times as slow).
    """

    metrics: ClassVar = ("loss", "reconstruction", "kl", "log_density")

    latent: int | None = None
    flow_steps: int = 0
    beta: float = 1.0
    samples: int = 64

    def architecture(self) -> Architecture:
        """Return what is stacked."""
        if self.flow_steps == 0:
            return Architecture("vae", latent=self.latent, hidden=self.hidden, beta=self.beta)
        return Architecture("flow_vae", latent=self.latent, hidden=self.hidden, steps=self.flow_steps, beta=self.beta)

    def check(self, shape: Sequence[int] = ()) -> None:
        """Raise ScorerError for options that mean nothing."""
        super().check(shape)
        if not 1 <= whole_number("samples", self.samples) <= MAX_SAMPLES:
            raise ScorerError(f"samples is {shown(self.samples)}, allowed: 1 to {MAX_SAMPLES}")

    def term(self, density: DensityStack, rows: npt.NDArray[np.float64], metric: str) -> npt.NDArray[np.float64]:
        """Return one metric (n, 1)."""
        if metric == "log_density":
            return density.importance_weighted(rows, self.samples, seed=self.seed)
        return super().term(density, rows, metric)
