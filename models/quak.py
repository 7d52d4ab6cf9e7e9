"""QUAK: anomalies by how well a background model and models of approximate signal priors explain an event.

Quasi-Anomalous Knowledge, arXiv:2011.03550: one density-like model for the background and one for each prior;
their losses span the space in which one searches.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from .autoencoder import DensityStack, fit_densities
from .inputs import ScorerError, as_matrix, check_metric
from .scorer import require_fitted, save_scorer
from .training import TrainingSettings
from .vae import MIN_ROWS

__all__ = ["PriorNameError", "Quak"]

OWN_METRICS = ("anomaly", "difference", "background")


class PriorNameError(ScorerError):
    """A prior has no name, or that of a metric."""


class Quak:
    """Background and prior VAEs over one scaling, trained side by side; losses in nats.

    alpha: weight of the prior in the difference; at 1 (default) the difference of two exact densities is the log
    likelihood ratio to the prior that claims the event most, the best test there is for that prior. The minimum over
    priors, rather than their mean, keeps a far prior from spoiling a near one.
    seed, device, latent, hidden, max_epochs, patience, batch_size, learning_rate: as for `Vae`.

    Metrics, larger = more anomalous:
    - "anomaly" (default): max(L_b − alpha·min_k L_k, L_b − L_b^max), L_b^max the largest loss of the background's
      training rows. An event that no prior claims has a large loss in every model, and the difference alone would
      call it the least anomalous of all; it counts by how far it lies beyond the whole background instead.
      Background inside its own range is never above 0 by the second term. Without priors: L_b.
    - "difference": L_b − alpha·min_k L_k; without priors L_b.
    - "background": L_b.
    - each prior's name: L_b − alpha·L_k.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        device: str = "auto",
        alpha: float = 1.0,
        latent: int | None = None,
        hidden: int = 64,
        max_epochs: int = 60,
        patience: int = 10,
        batch_size: int = 512,
        learning_rate: float = 3e-3,
    ) -> None:
        self.seed, self.device, self.alpha, self.latent, self.hidden = seed, device, alpha, latent, hidden
        self.max_epochs, self.patience = max_epochs, patience
        self.batch_size, self.learning_rate = batch_size, learning_rate
        self.prior_names: tuple[str, ...] = ()
        self.background_max_: float = float("nan")
        self.density_: DensityStack | None = None
        self.training_: dict[str, Any] = {}

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names that `score` takes: the three reductions and each prior."""
        return (*OWN_METRICS, *self.prior_names)

    def parameters(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = ("seed", "device", "alpha", "latent", "hidden", "max_epochs", "patience", "batch_size", "learning_rate")
        return {name: getattr(self, name) for name in names}

    def fit(
        self,
        background: npt.ArrayLike,
        *,
        priors: Mapping[str, npt.ArrayLike] | None = None,
        validation: npt.ArrayLike | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> Self:
        """Train on the background (n, d) and each prior (n_k, d), at least 100 rows each, and return self.

        priors: name -> array, or None; validation: background rows for early stopping, else 15 % by seed, as for
        each prior; checkpoint: a file to resume a killed training from; progress: a bar on stderr, or a log line
        in 30 s. Raises PriorNameError and the errors of `as_matrix`.
        """
        rows = as_matrix(background, name="background", min_rows=MIN_ROWS)
        width = rows.shape[1]
        names = tuple(priors or {})
        for name in names:
            if not isinstance(name, str) or not name or name in OWN_METRICS:
                raise PriorNameError(f"a prior is named {name!r}; allowed: any text but {', '.join(OWN_METRICS)}")
        samples = [
            as_matrix(x, name=f"prior {name!r}", n_columns=width, min_rows=MIN_ROWS)
            for name, x in (priors or {}).items()
        ]
        held = None if validation is None else as_matrix(validation, name="validation", n_columns=width, min_rows=1)
        density, self.training_ = fit_densities(
            [rows, *samples],
            [held, *(None for _ in samples)],
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
        self.density_, self.prior_names = density, names
        self.background_max_ = float(self.losses(rows)[:, 0].max())
        return self

    def losses(self, x: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the losses (n, 1 + n_priors) in nats: column 0 the background, then the priors as `prior_names`.

        Each is −log p(x | latent mean) + KL at the latent mean, of densities in the space of x.
        """
        density = require_fitted(self.density_, self)
        terms = density.terms(as_matrix(x, n_columns=density.columns.n_columns))
        return np.asarray(terms["reconstruction"] + terms["kl"])

    def score(self, x: npt.ArrayLike, *, metric: str | None = None) -> npt.NDArray[np.float64]:
        """Return (n,) scores in nats, larger = more anomalous; metric: one of `metrics`, default "anomaly"."""
        require_fitted(self.density_, self)
        metric = check_metric(metric, self.metrics, "Quak")
        losses = self.losses(x)
        background = losses[:, 0]
        if metric in self.prior_names:
            return np.asarray(background - self.alpha * losses[:, 1 + self.prior_names.index(metric)])
        if metric == "background" or not self.prior_names:
            return background
        difference = background - self.alpha * losses[:, 1:].min(axis=1)
        if metric == "difference":
            return np.asarray(difference)
        return np.asarray(np.maximum(difference, background - self.background_max_))

    def save(self, path: str | Path) -> None:
        """Write the folder that `load_scorer` reads."""
        density = require_fitted(self.density_, self)
        save_scorer(
            path,
            self,
            parameters=self.parameters(),
            n_features=density.columns.n_columns,
            state={"prior_names": list(self.prior_names), "background_max": self.background_max_},
            training=self.training_,
            tensors=density.tensors(),
        )

    @classmethod
    def from_stored(cls, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """Rebuild from what `save` wrote."""
        scorer = cls(**record["parameters"])
        scorer.density_, scorer.training_ = DensityStack.from_tensors(tensors), dict(record["training"])
        scorer.prior_names = tuple(record["state"]["prior_names"])
        scorer.background_max_ = float(record["state"]["background_max"])
        return scorer
