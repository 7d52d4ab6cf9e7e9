"""Training of VAEs of constituents, m of them side by side in one batch, each on jets and in a scaling of its own.

Every member starts from weights of its own seed, or of a scorer that was trained before, and stops by its own validation loss. The steps
of an epoch are those of the largest sample, and the latent draws are those of the stack: a member ends with the same bits wherever the same
stack is trained again, but not with those of a training alone, unless the stack is itself alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..train.exposed_events import ExposedEvents, exposed_objective
from ..train.loop import TrainingSettings, train_stack
from ..train.mass_penalty import MassPenalty, MassSample
from ..train.objective import Objective
from .set_autoencoder import StackedSetVae
from .set_scaling import SetScaling

__all__ = ["SetMember", "SetPenalty", "as_rows", "train_members"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SetMember:
    """What one scorer is trained on, and what it starts from.

    train, held: jets (n, slots, numbers) for training and for validation; network: one untrained or pretrained model;
    patience: epochs; exposed: jets (n, slots, numbers) that it is exposed to; masses: of `train` and `held`, where its score is kept
    independent of them.
    """

    train: Array
    held: Array
    scaling: SetScaling
    network: StackedSetVae
    patience: int
    exposed: ExposedEvents | None = None
    masses: tuple[Array, Array] | None = None


class SetPenalty(MassPenalty):
    """The mass penalty of members that scale jets: the background's jets come unscaled, and empty slots stay zero in every scaling."""

    def __init__(self, inner: Objective, *, strength: float, scalings: Sequence[SetScaling]) -> None:
        centre, spread = (np.stack([getattr(s, name).ravel() for s in scalings]) for name in ("centre", "spread"))
        super().__init__(inner, strength=strength, centre=centre, whiten=1 / spread[:, None])
        self.numbers = scalings[0].centre.shape[1]

    def seen(self, rows: torch.Tensor) -> torch.Tensor:
        """Return jets (b, slots · numbers) in each member's scaling (m, b, slots · numbers)."""
        filled = (rows[:, :: self.numbers] > 0).repeat_interleave(self.numbers, dim=1)
        scaled = (rows - self.centre.to(rows.device)) * self.whiten.to(rows.device)
        return torch.where(filled, scaled, torch.zeros((), dtype=rows.dtype, device=rows.device))


def train_members(
    members: Sequence[SetMember],
    *,
    settings: TrainingSettings,
    seed: int,
    device: torch.device,
    decorrelation: float,
    identity: Mapping[str, Any],
    checkpoint: str | Path | None,
    progress: bool,
) -> tuple[list[StackedSetVae], list[dict[str, Any]]]:
    """Train all members side by side; return their networks in float64 on the CPU and a record of each.

    One member at most is exposed. decorrelation: strength of what every member pays where its score of the first member's jets depends on
    their masses; the others as `train_stack` takes them.
    """
    network = stacked([member.network for member in members])
    exposed = [member.exposed is not None for member in members]
    shown = members[exposed.index(True)] if any(exposed) else members[0]
    objective, streams = exposed_objective(
        Objective(network), shown.exposed, lambda jets: as_rows(shown.scaling.scaled(jets)), members=exposed
    )
    if members[0].masses is not None:
        objective = SetPenalty(objective, strength=decorrelation, scalings=[member.scaling for member in members])
        rows = flat(members[0].train), flat(members[0].held)
        streams["background"] = MassSample(decorrelation, rows, members[0].masses).stream()
    record = train_stack(
        objective,
        [as_rows(member.scaling.scaled(member.train)) for member in members],
        [as_rows(member.scaling.scaled(member.held)) for member in members],
        settings=settings,
        seed=seed,
        device=device,
        streams=streams,
        identity=identity,
        patience=[member.patience for member in members],
        checkpoint=checkpoint,
        progress=progress,
    )
    # scores are float64 on the CPU wherever the training ran
    network.to("cpu").double().requires_grad_(requires_grad=False)
    return [member_of(network, k) for k in range(len(members))], [
        record_of(record, members, k) for k in range(len(members))
    ]


def record_of(record: Mapping[str, Any], members: Sequence[SetMember], number: int) -> dict[str, Any]:
    """Return one member's part of the record of a training."""
    own: dict[str, Any] = dict(record)
    for name in ("best_epoch", "validation_loss", "rows", "validation_rows"):
        own[name] = [record[name][number]]
    member = members[number]
    own |= {"slots": member.train.shape[1], "numbers": member.train.shape[2]}
    own |= {} if member.exposed is None else dict(member.exposed.record)
    own["settings"] = {**record["settings"], "patience": member.patience}
    return own | ({"stack": [number, len(members)]} if len(members) > 1 else {})


def stacked(networks: Sequence[StackedSetVae]) -> StackedSetVae:
    """Return one stack of networks of the same sizes, with parameters of its own in single precision."""
    whole = StackedSetVae(len(networks), networks[0].sizes, seed=0, beta=networks[0].beta)
    with torch.no_grad():
        for own, *given in zip(whole.parameters(), *(network.parameters() for network in networks), strict=True):
            own.copy_(torch.cat(given))
    return whole


def member_of(network: StackedSetVae, number: int) -> StackedSetVae:
    """Return one member of a fitted stack, in its precision."""
    own = StackedSetVae(1, network.sizes, seed=0, beta=network.beta).double().requires_grad_(requires_grad=False)
    own.load_state_dict({name: p[number : number + 1].clone() for name, p in network.named_parameters()})
    return own


def flat(jets: Array) -> Array:
    """Return jets as rows (n, slots · numbers)."""
    return jets.reshape(len(jets), -1)


def as_rows(sets: Array) -> torch.Tensor:
    """Return scaled jets as rows (n, slots · numbers) in single precision."""
    return torch.from_numpy(flat(sets)).float()
