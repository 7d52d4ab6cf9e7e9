"""Outlier exposure: a training that is shown events of another kind and made to find them anomalous (arXiv:2007.01850).

    L = L_inner − lambda · L_exposure

"mse": L_exposure = sigmoid(error of an exposed event − error of a background event), each pair of a batch at random;
"kl": L_exposure = min(0, KL of the exposed event − KL of the background event − margin), for each latent dimension.
Both are bounded, so that nothing is won by making an exposed event ever more anomalous. lambda is annealed in cycles, as in the
published code: none in the first fifth of the training, twice a rise and a plateau, back to none each time, at last a rise to stay.
With lambda = 0 the training is the plain one, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.func import functional_call

from ...errors import unknown_name
from ..inputs import ScorerError
from .objective import Batch, Objective, WrappedObjective

__all__ = ["EXPOSURES", "Exposed", "Parts", "annealed", "check_exposure"]

EXPOSURES = ("none", "mse", "kl")
QUIET, CYCLE, KEPT = 0.2, 0.2, 0.7  # parts of the training: without exposure, of a cycle, from where lambda stays
RISE = 0.5  # of a cycle


class Parts(NamedTuple):
    """What a loss is made of: the error (m, b) of the reconstruction and the KL (m, b, latent) of each latent dimension."""

    error: torch.Tensor
    kl: torch.Tensor


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
    `loss_of(parts, progress=)`. kind: "mse" or "kl"; strength: the largest lambda; margin: of "kl". members: which of the m are
    exposed, all where nothing is said; the others are trained as without it. One stream serves all that are exposed.
    """

    def __init__(
        self,
        inner: Objective,
        *,
        kind: str,
        strength: float = 2.0,
        margin: float = 2.0,
        members: Sequence[bool] | None = None,
    ) -> None:
        super().__init__(inner)
        check_exposure(kind, strength, margin)
        self.kind, self.strength, self.margin = kind, strength, margin
        self.exposed = None if members is None or all(members) else torch.tensor(list(members))
        # a member pays for its own rows, and nothing is added up over members
        self.by_member = inner.by_member

    def keep(self, members: torch.Tensor) -> None:
        """Leave only these members (a,), and know which of them are exposed."""
        super().keep(members)
        if self.exposed is not None:
            self.exposed = self.exposed[members.cpu()]

    def state(self) -> dict[str, torch.Tensor]:
        """Return the state of the inner objective, and which members are exposed."""
        return super().state() | ({} if self.exposed is None else {"exposure.members": self.exposed})

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put back what `state` gave."""
        super().load_state(state)
        if self.exposed is not None:
            self.exposed = state["exposure.members"].clone()

    def losses(self, batch: Batch, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        """Return the loss (m, b) of the own rows less what the exposed ones beside them pay."""
        weight = self.strength * annealed(progress)
        some = self.exposed is not None and not bool(self.exposed.all())
        if weight == 0 or self.kind == "none" or (self.exposed is not None and not bool(self.exposed.any())):
            return super().losses(batch, generator=generator, progress=progress)
        network: Any = self.model
        own = network.parts(batch["x"], generator=generator)
        found: torch.Tensor = network.loss_of(own, progress=progress)
        if not some or self.exposed is None:
            beside = batch["exposure"].expand(len(found), *batch["exposure"].shape)
            return found + weight * self.paid(own.error, own.kl, network.parts(beside, generator=generator))
        rows = torch.nonzero(self.exposed)[:, 0].to(found.device)
        beside = batch["exposure"].expand(len(rows), *batch["exposure"].shape)
        other = parts_of_members(network, rows, beside, generator=generator)
        paid = self.paid(own.error[rows], own.kl[rows], other)
        return found.index_add(0, rows, weight * paid)

    def paid(self, error: torch.Tensor, kl: torch.Tensor, other: Any) -> torch.Tensor:
        """Return what own rows of an error (m, b) and a KL (m, b, latent) pay (m, b) beside the parts of exposed ones, at lambda 1."""
        if self.kind == "mse":
            return -torch.sigmoid(other.error - error)
        return torch.relu(kl - other.kl + self.margin).mean(dim=-1)


class PartsOf(torch.nn.Module):
    """A network whose forward pass is its `parts`, which is what torch calls with other parameters than its own."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, x: torch.Tensor, generator: torch.Generator) -> Any:
        """Return the parts of the loss of rows."""
        return self.network.parts(x, generator=generator)


def parts_of_members(
    network: torch.nn.Module, members: torch.Tensor, x: torch.Tensor, *, generator: torch.Generator
) -> Any:
    """Return the parts of the loss that some members (a,) of a stack give for rows x (a, b, ...); the others are not computed."""
    of_all = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    chosen = {f"network.{name}": tensor[members] for name, tensor in of_all.items()}
    return functional_call(PartsOf(network), chosen, (x, generator))
