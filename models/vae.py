"""A variational autoencoder as an anomaly score: rare is anomalous."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from .autoencoder import DensityStack, fit_densities
from .inputs import as_matrix, check_metric
from .scorer import require_fitted, save_scorer
from .training import TrainingSettings

__all__ = ["MIN_ROWS", "Vae"]

MIN_ROWS = 100


class Vae:
    """A VAE trained to bound −log p(x) in nats (arXiv:1312.6114).

    seed: of everything random; device: "auto", "cpu", "cuda"; latent: dimensions, None for min(d, 8); hidden: width
    of the layers; max_epochs, patience, batch_size, learning_rate: see TrainingSettings.

    Metrics, all deterministic (at the latent mean): "loss" (default; reconstruction + kl), "reconstruction"
    (−log p(x | latent mean), with the Jacobian of the scaling), "kl".
    """

    metrics: tuple[str, ...] = ("loss", "reconstruction", "kl")

    def __init__(
        self,
        *,
        seed: int = 0,
        device: str = "auto",
        latent: int | None = None,
        hidden: int = 64,
        max_epochs: int = 60,
        patience: int = 10,
        batch_size: int = 512,
        learning_rate: float = 3e-3,
    ) -> None:
        self.seed, self.device, self.latent, self.hidden = seed, device, latent, hidden
        self.max_epochs, self.patience = max_epochs, patience
        self.batch_size, self.learning_rate = batch_size, learning_rate
        self.density_: DensityStack | None = None
        self.training_: dict[str, Any] = {}

    def parameters(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = ("seed", "device", "latent", "hidden", "max_epochs", "patience", "batch_size", "learning_rate")
        return {name: getattr(self, name) for name in names}

    def fit(
        self,
        x: npt.ArrayLike,
        *,
        validation: npt.ArrayLike | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> Self:
        """Train on x (n, d), n at least 100, and return self.

        validation: rows for early stopping, else 15 % of x by seed; checkpoint: a file to resume a killed training
        from; progress: a bar on stderr, or a log line in 30 s. Raises the errors of `as_matrix`.
        """
        rows = as_matrix(x, name="x", min_rows=MIN_ROWS)
        held = (
            None
            if validation is None
            else as_matrix(validation, name="validation", n_columns=rows.shape[1], min_rows=1)
        )
        self.density_, self.training_ = fit_densities(
            [rows],
            [held],
            latent=self.latent,
            hidden=self.hidden,
            settings=TrainingSettings(
                max_epochs=self.max_epochs,
                patience=self.patience,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
            ),
            seed=self.seed,
            device=self.device,
            checkpoint=checkpoint,
            progress=progress,
        )
        return self

    def score(self, x: npt.ArrayLike, *, metric: str | None = None) -> npt.NDArray[np.float64]:
        """Return (n,) scores in nats, larger = more anomalous; metric: one of `metrics`."""
        metric = check_metric(metric, self.metrics, "Vae")
        density = require_fitted(self.density_, self)
        terms = density.terms(as_matrix(x, n_columns=density.columns.n_columns))
        found = terms[metric] if metric != "loss" else terms["reconstruction"] + terms["kl"]
        return np.asarray(found[:, 0])

    def save(self, path: str | Path) -> None:
        """Write the folder that `load_scorer` reads."""
        density = require_fitted(self.density_, self)
        save_scorer(
            path,
            self,
            parameters=self.parameters(),
            n_features=density.columns.n_columns,
            state={},
            training=self.training_,
            tensors=density.tensors(),
        )

    @classmethod
    def from_stored(cls, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """Rebuild from what `save` wrote."""
        scorer = cls(**record["parameters"])
        scorer.density_, scorer.training_ = DensityStack.from_tensors(tensors), dict(record["training"])
        return scorer
