"""The state of a training between epochs, in memory and as one safetensors file with a JSON header."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ...files import write_aside
from .objective import Objective

__all__ = ["Kept", "TrainingState", "fingerprint", "keep_members", "read_checkpoint", "write_checkpoint"]

logger = logging.getLogger(__name__)

MIN_GAIN = 1e-4  # nats of the validation loss that count as an improvement


@dataclass
class TrainingState:
    """Where a training of m members stands.

    epoch: epochs done; best_loss, best_epoch: (m,) of the figure that chooses the best epoch; best: each parameter, and each
    tensor of the objective's state, at the best epoch of each member; figures: name -> (epochs, m) of `monitor`, NaN after a member
    has stopped; setbacks: the epochs, counted from 1, that were taken back.
    """

    epoch: int
    best_loss: torch.Tensor
    best_epoch: torch.Tensor
    best: dict[str, torch.Tensor]
    best_state: dict[str, torch.Tensor]
    figures: dict[str, torch.Tensor] = field(default_factory=dict)
    setbacks: list[int] = field(default_factory=list)

    @classmethod
    def fresh(cls, objective: Objective, n_members: int) -> TrainingState:
        """Return the state before the first epoch."""
        best = {name: p.detach().clone() for name, p in objective.model.named_parameters()}
        best_state = {name: value.clone() for name, value in objective.state().items()}
        loss = torch.full((n_members,), float("inf"), dtype=torch.float64)
        return cls(0, loss, torch.zeros(n_members, dtype=torch.int64), best, best_state)

    def finished(self, patience: int | torch.Tensor) -> torch.Tensor:
        """Tell which members (m,) have gone `patience` epochs, of all or of each (m,), without a better one."""
        return self.epoch - self.best_epoch >= patience

    def active(self, patience: int | torch.Tensor) -> torch.Tensor:
        """Return the indices (a,) of the members that still train."""
        return torch.nonzero(~self.finished(patience))[:, 0]

    def record(
        self, objective: Objective, loss: torch.Tensor, active: torch.Tensor, figures: Mapping[str, torch.Tensor]
    ) -> None:
        """Count an epoch of the active members and keep the parameters and the state of those that got better.

        objective: of the active members alone; loss: (a,) of their validation samples; figures: name -> (a,).
        """
        self.epoch += 1
        n_members = len(self.best_loss)
        for name, values in figures.items():
            row = torch.full((1, n_members), float("nan"), dtype=torch.float64)
            row[0, active] = values.detach().double().cpu()
            before = self.figures.get(name, row[:0])
            self.figures[name] = torch.cat([before, row])
        gain = MIN_GAIN
        if objective.select is not None:
            loss, gain = figures[objective.select].detach().double().cpu(), 0.0
        # Written so that a NaN loss is no improvement.
        better = loss < self.best_loss[active] - gain
        self.best_loss[active[better]] = loss[better]
        self.best_epoch[active[better]] = self.epoch
        for name, p in objective.model.named_parameters():
            self.best[name][active[better].to(p.device)] = p.detach()[better.to(p.device)]
        for name, value in objective.state().items():
            self.best_state[name][active[better].to(value.device)] = value[better.to(value.device)]

    @torch.no_grad()
    def restore_best(self, objective: Objective) -> None:
        """Put each member's best parameters and state back, those of the members that had stopped too."""
        for name, p in objective.model.named_parameters():
            p.data = self.best[name].clone()
        objective.load_state(self.best_state)


@dataclass(frozen=True)
class Kept:
    """A training as it was before an epoch: parameters, what the optimiser knows of each, and the objective's state."""

    parameters: list[torch.Tensor]
    slots: list[dict[str, torch.Tensor]]
    state: dict[str, torch.Tensor]

    @classmethod
    def of(cls, objective: Objective, optimiser: torch.optim.Optimizer) -> Kept:
        """Copy it."""
        own = list(objective.model.parameters())
        slots = [{name: value.clone() for name, value in optimiser.state.get(p, {}).items()} for p in own]
        state = {name: value.clone() for name, value in objective.state().items()}
        return cls([p.detach().clone() for p in own], slots, state)

    @torch.no_grad()
    def restore(self, objective: Objective, optimiser: torch.optim.Optimizer) -> None:
        """Put it back."""
        for p, value, slots in zip(objective.model.parameters(), self.parameters, self.slots, strict=True):
            p.copy_(value)
            p.grad = None
            if slots:
                optimiser.state[p] = slots
            else:
                optimiser.state.pop(p, None)
        objective.load_state(self.state)


@torch.no_grad()
def keep_members(objective: Objective, optimiser: torch.optim.Optimizer, keep: torch.Tensor) -> None:
    """Leave only these members in an objective, in place, and in what the optimiser knows of them; keep: (a,) indices."""
    for p in objective.model.parameters():
        chosen = keep.to(p.device)
        for slot, value in optimiser.state.get(p, {}).items():
            if isinstance(value, torch.Tensor) and value.dim() > 0:
                optimiser.state[p][slot] = value[chosen]
        p.data, p.grad = p.data[chosen], None
    objective.keep(keep)


def fingerprint(settings: Mapping[str, Any], tensors: Sequence[torch.Tensor]) -> str:
    """Hash what a training depends on, JSON-like settings and tensors, so that a checkpoint of another one is not resumed."""
    digest = hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode())
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_checkpoint(
    path: str | Path, key: str, objective: Objective, optimiser: torch.optim.Optimizer, state: TrainingState
) -> None:
    """Write parameters, state, the best of both, the optimiser's state and the epoch to one file, aside and renamed."""
    tensors = {f"now.{name}": p.detach() for name, p in objective.model.named_parameters()}
    tensors |= {f"state.{name}": value for name, value in objective.state().items()}
    tensors |= {f"best.{name}": p for name, p in state.best.items()}
    tensors |= {f"best_state.{name}": p for name, p in state.best_state.items()}
    tensors |= {f"figures.{name}": values for name, values in state.figures.items()}
    for index, slots in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{slot}": value for slot, value in slots.items()}
    tensors |= {"progress.best_loss": state.best_loss, "progress.best_epoch": state.best_epoch}
    header = {"key": key, "epoch": str(state.epoch), "setbacks": " ".join(map(str, state.setbacks))}
    with write_aside(path) as aside:
        # cloned: a buffer may share its memory with another, which the format refuses
        made = save({name: t.cpu().contiguous().clone() for name, t in tensors.items()}, metadata=header)
        aside.write_bytes(made)  # by Python: safetensors' own error of a full disk is none of the system's


@torch.no_grad()
def read_checkpoint(
    path: str | Path, key: str, objective: Objective, optimiser: torch.optim.Optimizer, state: TrainingState
) -> bool:
    """Put a checkpoint of this very training back in place; a missing, damaged or foreign one starts from scratch."""
    if not Path(path).is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        logger.warning("%s: damaged checkpoint, training starts from scratch: %s", path, error)
        return False
    if header.get("key") != key:
        logger.warning(
            "%s: checkpoint of another training (data, settings or seed differ), starting from scratch", path
        )
        return False
    own = [name for name, _ in objective.model.named_parameters()]
    needed = {
        *(f"{kind}.{name}" for kind in ("now", "best") for name in own),
        "progress.best_loss",
        "progress.best_epoch",
    }
    numbers = [header.get("epoch", ""), *header.get("setbacks", "").split()]
    if not needed <= set(tensors) or not all(number.isdecimal() for number in numbers):
        logger.warning("%s: damaged checkpoint, training starts from scratch: not all of it is there", path)
        return False
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        parts.setdefault(kind, {})[rest] = tensor
    slots: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in parts.get("optimiser", {}).items():
        index, slot = name.split(".")
        slots.setdefault(int(index), {})[slot] = tensor
    for name, p in objective.model.named_parameters():
        # members that had stopped are not in it; copied, since the memory of a file is not aligned, and products of it are rounded otherwise
        p.data = parts["now"][name].to(p.device).clone()
        state.best[name].copy_(parts["best"][name])
    objective.load_state(parts.get("state", {}))
    for name, value in parts.get("best_state", {}).items():
        state.best_state[name].copy_(value)
    optimiser.load_state_dict({**optimiser.state_dict(), "state": slots})
    state.epoch = int(header["epoch"])
    state.best_loss, state.best_epoch = parts["progress"]["best_loss"], parts["progress"]["best_epoch"]
    state.figures = parts.get("figures", {})
    state.setbacks = [int(number) for number in header.get("setbacks", "").split()]
    logger.info("%s: resumed after epoch %d", path, state.epoch)
    return True
