"""Deep SVDD as an anomaly score: a network that brings the sample close to one point leaves what is unlike it far away.

A network can bring everything to that point, and then tells nothing apart (arXiv:1801.04062, propositions 1 to 3): one with biases, one with bounded
activations, and one whose point is the image of zero weights. Here layers have no bias, activations are leaky ReLU, so that the outputs of a row twice as
far from the mean are twice as far from zero, and the point is not the origin. What still collapses is named after the training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional

from ...errors import shown
from ..inputs import ScorerError
from ..train.objective import Batch, Objective
from .row_scorer import Matrix, require_number
from .trained_rows import TrainedRows

__all__ = ["DeepSvdd", "StackedFeatures"]

SLOPE = 0.1  # of the leaky ReLU below zero
AWAY = 0.1  # smallest size of each number of the centre, as in the released code of arXiv:1801.04062
COLLAPSED = (
    1e-3  # root mean square distance from the mean of the outputs, over its length, below which a network has collapsed
)
LOOKED_AT = 4096  # rows of the training whose outputs are looked at


class StackedFeatures(torch.nn.Module):
    """m networks d → hidden → hidden → outputs without biases, every parameter (m, ...)."""

    def __init__(self, members: int, features: int, hidden: int, outputs: int, *, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        widths = ((features, hidden), (hidden, hidden), (hidden, outputs))
        gains = (math.sqrt(2 / (1 + SLOPE**2)),) * 2 + (1.0,)
        self.weights = torch.nn.ParameterList(
            torch.nn.Parameter(gain * torch.randn(members, n_in, n_out, generator=generator) / math.sqrt(n_in))
            for (n_in, n_out), gain in zip(widths, gains, strict=True)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs (m, b, outputs) of rows x (m, b, d)."""
        for weight in self.weights[:-1]:
            x = functional.leaky_relu(torch.bmm(x, weight), SLOPE)
        return torch.bmm(x, self.weights[-1])


class OneClass(Objective):
    """|outputs - centre|² and the decay of the weights, decay / 2 · Σ W²."""

    def __init__(self, model: StackedFeatures, centre: torch.Tensor, decay: float) -> None:
        super().__init__(model)
        self.network, self.centre, self.decay = model, centre, decay

    def to(self, device: torch.device) -> None:
        """Bring network and centre to a device."""
        super().to(device)
        self.centre = self.centre.to(device)

    def losses(self, batch: Batch, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        """Return the losses (m, b) of the rows batch["x"] (m, b, d)."""
        del generator, progress
        distance: torch.Tensor = (self.network(batch["x"]) - self.centre).square().sum(dim=-1)
        squares = torch.stack([weight.square().sum(dim=(1, 2)) for weight in self.network.weights]).sum(dim=0)
        return distance + 0.5 * self.decay * squares[:, None]


@dataclass(kw_only=True, eq=False, repr=False)
class DeepSvdd(TrainedRows):
    """One-class deep SVDD (arXiv:1801.04062, eq. 4): a network is trained to bring all rows to one point.

    outputs: numbers of the point; target: none for the mean of the untrained network's outputs, each number at least 0.1 from zero, or a value that all numbers
    of the point have, as in the ensembles of arXiv:2105.14027 (over `outputs`, each with a fixed target); 0 is refused, since zero weights lead there. hidden: width of
    the two layers between; weight_decay: λ of the weights' squares; max_epochs, patience, batch_size, learning_rate: see TrainingSettings; scaling: see `RowScorer`.
    There is no pretraining as an autoencoder.

    Metrics: "distance", |outputs - point|. `fit` raises ScorerError where the outputs have collapsed to one point.
    """

    metrics: ClassVar = ("distance",)
    shown: ClassVar = ("outputs",)
    whole_numbers: ClassVar = {"hidden": (1, 65_536), "outputs": (1, 4096)}

    outputs: int = 8
    target: float | None = None
    weight_decay: float = 1e-6

    def check(self, shape: Sequence[int] = ()) -> None:
        """Raise ScorerError for options that mean nothing."""
        super().check(shape)
        require_number("weight_decay", self.weight_decay, zero=True)
        if self.target is not None:
            number = isinstance(self.target, int | float) and not isinstance(self.target, bool)
            if not number or not math.isfinite(self.target) or self.target == 0:
                raise ScorerError(
                    f"target is {shown(self.target)}, allowed: none, or a finite number other than 0, to which zero weights lead for every row"
                )

    def build(self, n_columns: int) -> torch.nn.Module:
        """Return the untrained network."""
        return StackedFeatures(1, n_columns, self.hidden, self.outputs, seed=self.seed)

    @torch.no_grad()
    def objective(self, network: Any, rows: torch.Tensor) -> Objective:
        """Return the distance to the point, which the outputs of the untrained network set."""
        if self.target is None:
            mean = network(rows[None]).double().mean(dim=1)[0]
            centre = torch.where(mean.abs() < AWAY, torch.where(mean < 0, -AWAY, AWAY).to(mean), mean)
        else:
            centre = torch.full((self.outputs,), float(self.target), dtype=torch.float64)
        self.fitted_ = {"centre": centre.numpy()}
        return OneClass(network, centre.float(), self.weight_decay)

    @torch.no_grad()
    def finish(self, mapped: Matrix) -> dict[str, Any]:
        """Return the spread of the outputs over the length of their mean; raises ScorerError where they have collapsed."""
        outputs = self.network_(torch.from_numpy(mapped[:LOOKED_AT])[None])[0].numpy()
        mean = outputs.mean(axis=0)
        spread = float(np.sqrt(np.square(outputs - mean).sum(axis=1).mean()))
        size = float(np.linalg.norm(self.fitted_["centre"]))
        if not spread > COLLAPSED * size:
            raise ScorerError(
                f"DeepSvdd: the outputs have collapsed to one point, their spread is {spread:.2g} at a distance of {size:.2g} from zero, and every row has "
                "the same score; are all rows of x the same, or as far from their mean? Fewer epochs, a lower learning_rate or another target may help"
            )
        return {"outputs_spread": spread / size}

    def terms(self, rows: torch.Tensor, metric: str) -> torch.Tensor:
        """Return the distance (1, n) of scaled rows (1, n, d)."""
        del metric
        found: torch.Tensor = self.network_(rows) - torch.from_numpy(self.fitted_["centre"])
        return found.square().sum(dim=-1).sqrt()

    def check_stored(self, n_columns: int) -> None:
        """Raise ScorerError where the centre is not that of the options."""
        del n_columns
        self.require_shapes(centre=(self.outputs,))

    def require_size(self, n_columns: int, parameters: Mapping[str, torch.Tensor]) -> None:
        """Raise ScorerError where stored parameters are not those of the options."""
        wanted = n_columns * self.hidden + self.hidden**2 + self.hidden * self.outputs
        found = sum(tensor.numel() for tensor in parameters.values())
        if found != wanted:
            raise ScorerError(
                f"a network of {n_columns} columns, hidden={self.hidden} and outputs={self.outputs} has {wanted} numbers, the weights hold {found}"
            )
