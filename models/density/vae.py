"""A variational autoencoder as an anomaly score: rare is anomalous."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ...errors import shown
from ..generation import as_latent
from ..inputs import ScorerError, ShapeError, as_matrix, whole_number
from ..pretrained import check_pretrained, pretrained_scorer, require_same_inputs
from ..sample import Events, Sample, as_sample, named_inputs
from ..scorer import require_fitted
from ..train.exposed_events import ExposedEvents, ExposedMethod, matched_values, refuse_same_events
from ..train.loop import TrainingSettings
from .densities import Architecture, DensityStack
from .density_scorer import DensityScorer
from .drawing import decoded_rows

__all__ = ["Vae"]

Matrix = npt.NDArray[np.float64]
MAX_SAMPLES = 100_000


@dataclass(kw_only=True, eq=False, repr=False)
class Vae(ExposedMethod, DensityScorer):
    """A VAE trained to bound −log p(x) in nats (arXiv:1312.6114), with outlier exposure.

    seed: of everything random; device: "auto", "cpu", "cuda"; latent: dimensions, None for min(d, 8); hidden: width
    of the layers; flow_steps: masked autoregressive flows that the posterior passes through, 0 for a Gaussian one;
    beta: weight of the KL term (beta-VAE); samples: draws of the metric "log_density"; max_epochs, patience,
    batch_size, learning_rate: see TrainingSettings.
    decorrelation: strength of the penalty on what the score of a training event tells of its mass (`disco.py`), 0 for none;
    `fit` then needs the masses.
    exposure: "none", "mse" or "kl" (`train/exposure.py`), which needs the sample `exposure` in `fit`; exposure_strength: the largest lambda;
    exposure_margin: of "kl". The error of "mse" is the reconstruction term, −log p(x | z) in nats in the coordinates of the network; the KL of "kl" is
    that of each latent dimension, of all together with flow_steps. exposure_match: what the exposed rows are resampled in to the background's spectrum:
    "observable" (that of the samples, or `mass`), a column of the rows by its name, or "none". An exposed training does not stop early.
    pretrained: folder of a saved `Vae` of the same columns and sizes, or of a space whose background axis is one, that the training starts from, with
    its scaling of the columns; "" for none.

    Metrics, all deterministic: "loss" (default; reconstruction + kl), "reconstruction" (−log p(x | z) at the latent
    mean, with the Jacobian of the scaling), "kl" (times beta), "log_density" (−log p(x) by importance sampling,
    arXiv:1509.00519; no bound of a bound, and `samples` times as slow).
    """

    uses: ClassVar = ("mass", "exposure")
    metrics: ClassVar = ("loss", "reconstruction", "kl", "log_density")
    matches_columns: ClassVar = True

    latent: int | None = None
    flow_steps: int = 0
    beta: float = 1.0
    samples: int = 64
    pretrained: str = ""

    def architecture(self) -> Architecture:
        """Return what is stacked."""
        if self.flow_steps == 0:
            return Architecture("vae", latent=self.latent, hidden=self.hidden, beta=self.beta)
        return Architecture("flow_vae", latent=self.latent, hidden=self.hidden, steps=self.flow_steps, beta=self.beta)

    def check(self, shape: Sequence[int] = ()) -> None:
        """Raise ScorerError for options that mean nothing."""
        super().check(shape)
        self.check_exposed()
        check_pretrained(self.pretrained)
        if not 1 <= whole_number("samples", self.samples) <= MAX_SAMPLES:
            raise ScorerError(f"samples is {shown(self.samples)}, allowed: 1 to {MAX_SAMPLES}")

    def settings(self) -> TrainingSettings:
        """Return how long and how fast to train."""
        return self.unhurried(super().settings())

    def exposed_to(
        self, exposure: Events | None, rows: Matrix, background: Sample, mass: npt.ArrayLike | None
    ) -> ExposedEvents | None:
        """Return the rows that the training is exposed to, with the spectrum of the background's rows (n, d) or masses (n,)."""
        self.check_exposed()
        self.require_exposure(given=exposure is not None)
        if exposure is None:
            return None
        names = background.names
        sample = as_sample(exposure, names, where="exposure")
        inputs = named_inputs(sample, names, made=background.made, where="exposure")
        beside = as_matrix(inputs, name="exposure", n_columns=rows.shape[1], columns=names or None)
        refuse_same_events(beside, x=rows)
        values = matched_values(
            self.exposure_match,
            Sample(beside, names, observable=sample.observable),
            Sample(rows, names, observable=None if mass is None else np.asarray(mass)),
        )
        return self.exposed_events(beside, values, column=self.exposure_match)

    def started_from(self, background: Sample, width: int) -> DensityStack | None:
        """Return the fitted model that a training on rows of so many columns starts from; ScorerError where it has other columns."""
        before = pretrained_scorer(self, agree=("latent", "hidden", "flow_steps"))
        if before is None:
            return None
        density = require_fitted(before.density_, before)
        require_same_inputs(before, background.names, background.made)
        if density.columns.n_columns != width:
            raise ShapeError(
                f"pretrained: {self.pretrained}: was trained on {density.columns.n_columns} columns, x has {width}"
            )
        return density

    def latent_means(self, x: Events) -> npt.NDArray[np.float64]:
        """Return the latent means (n, latent) of rows x, as `score` takes them; behind the flow where there is one."""
        density = require_fitted(self.density_, self)
        inputs, names = named_inputs(x, self.input_names, made=self.made_), self.input_names or None
        return density.latent_means(as_matrix(inputs, n_columns=density.columns.n_columns, columns=names))

    def decode(self, z: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the rows (n, d) in the middle of p(x | z) at latent points z (n, latent), in the units of the training, without the noise.

        Raises NotFittedError, ShapeError, NonFiniteError.
        """
        density = require_fitted(self.density_, self)
        return decoded_rows(density, as_latent(z, density.network.weights[3].shape[1]))

    def term(self, density: DensityStack, rows: Matrix, metric: str) -> Matrix:
        """Return one metric (n, 1)."""
        if metric == "log_density":
            return density.importance_weighted(rows, self.samples, seed=self.seed)
        return super().term(density, rows, metric)
