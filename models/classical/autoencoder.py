"""A plain autoencoder of rows as an anomaly score: what it cannot reconstruct is anomalous."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ...errors import shown
from ..density.autoencoder import StackedVae
from ..density.densities import Architecture
from ..inputs import ScorerError, whole_number
from ..train.objective import Batch, Objective
from .trained_rows import TrainedRows

__all__ = ["Autoencoder"]

LARGEST_LATENT = 4096


def squared_errors(network: StackedVae, x: torch.Tensor) -> torch.Tensor:
    """Return the squared error (m, b, d) of each number of rows x (m, b, d), decoded from the middle of what they are encoded to."""
    return (x - network.decode(network.encode(x)[0])[0]).square()


class Reconstruction(Objective):
    """The squared error of a row, summed over its columns: the mean over them is the score, and Adam ignores gradients below its 1e-8."""

    def losses(self, batch: Batch, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        """Return the losses (m, b) of the rows batch["x"] (m, b, d)."""
        del generator, progress
        network: Any = self.model
        return squared_errors(network, batch["x"]).sum(dim=-1)


@dataclass(kw_only=True, eq=False, repr=False)
class Autoencoder(TrainedRows):
    """A dense autoencoder d → hidden → hidden → latent → hidden → hidden → d, trained to the squared error of scaled rows.

    The network is that of `Vae` without its noise: latent points and reconstructions are the middles of its Gaussians. Activations are bounded, so that a far
    outlier is not reconstructed by extrapolation. latent: None for half the columns, at most 8; hidden: width of the layers; max_epochs, patience,
    batch_size, learning_rate: see TrainingSettings; scaling: see `RowScorer`.

    Metrics: "reconstruction", the mean squared error over the columns, in units of their scaling. It is no density: what is simple is
    reconstructed whether or not the training has seen the like.
    """

    metrics: ClassVar = ("reconstruction",)
    shown: ClassVar = ("latent",)

    latent: int | None = None

    def check(self, shape: Sequence[int] = ()) -> None:
        """Raise ScorerError for options that mean nothing."""
        super().check(shape)
        if self.latent is not None and not 1 <= whole_number("latent", self.latent) <= LARGEST_LATENT:
            raise ScorerError(f"latent is {shown(self.latent)}, allowed: none, or 1 to {LARGEST_LATENT}")

    def architecture(self, n_columns: int) -> Architecture:
        """Return the sizes of the network."""
        return Architecture("vae", latent=self.latent or max(1, min(8, n_columns // 2)), hidden=self.hidden)

    def build(self, n_columns: int) -> torch.nn.Module:
        """Return the untrained network."""
        return self.architecture(n_columns).build(1, n_columns, seed=self.seed)

    def objective(self, network: Any, rows: torch.Tensor) -> Objective:
        """Return the squared error."""
        del rows
        return Reconstruction(network)

    def terms(self, rows: torch.Tensor, metric: str) -> torch.Tensor:
        """Return the mean squared error (1, n) of scaled rows (1, n, d)."""
        del metric
        return squared_errors(self.network_, rows).mean(dim=-1)

    def check_stored(self, n_columns: int) -> None:
        """Raise nothing: all that is fitted is the network."""
        del n_columns

    def require_size(self, n_columns: int, parameters: Mapping[str, torch.Tensor]) -> None:
        """Raise ScorerError where stored parameters are not those of the options."""
        self.architecture(n_columns).require_size(1, n_columns, parameters)
