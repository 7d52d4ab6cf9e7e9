"""The state of a training between epochs, in memory and as one safetensors file with a JSON header."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ...files import write_aside

__all__ = ["TrainingState", "fingerprint", "keep_members", "read_checkpoint", "write_checkpoint"]

logger = logging.getLogger(__name__)

MIN_GAIN = 1e-4  # nats that count as an improvement


@dataclass
class TrainingState:
    """Where a training of m members stands.

    epoch: epochs done; best_loss, best_epoch: (m,) of the validation sample; best: each parameter at the best
    epoch of each member.
    """

    epoch: int
    best_loss: torch.Tensor
    best_epoch: torch.Tensor
    best: dict[str, torch.Tensor]

    @classmethod
    def fresh(cls, model: torch.nn.Module, n_members: int) -> TrainingState:
        """Return the state before the first epoch."""
        best = {name: p.detach().clone() for name, p in model.named_parameters()}
        loss = torch.full((n_members,), float("inf"), dtype=torch.float64)
        return cls(0, loss, torch.zeros(n_members, dtype=torch.int64), best)

    def finished(self, patience: int) -> torch.Tensor:
        """Tell which members (m,) have gone `patience` epochs without a better validation loss."""
        return self.epoch - self.best_epoch >= patience

    def active(self, patience: int) -> torch.Tensor:
        """Return the indices (a,) of the members that still train."""
        return torch.nonzero(~self.finished(patience))[:, 0]

    def record(self, model: torch.nn.Module, loss: torch.Tensor, active: torch.Tensor) -> None:
        """Count an epoch of the active members and keep the parameters of those that got better.

        model: of the active members alone; loss: (a,) of theirs.
        """
        self.epoch += 1
        # Written so that a NaN loss is no improvement.
        better = loss < self.best_loss[active] - MIN_GAIN
        self.best_loss[active[better]] = loss[better]
        self.best_epoch[active[better]] = self.epoch
        for name, p in model.named_parameters():
            self.best[name][active[better].to(p.device)] = p.detach()[better.to(p.device)]

    @torch.no_grad()
    def restore_best(self, model: torch.nn.Module) -> None:
        """Put each member's best parameters into the model, the members that had stopped too."""
        for name, p in model.named_parameters():
            p.data = self.best[name].clone()


@torch.no_grad()
def keep_members(model: torch.nn.Module, optimiser: torch.optim.Optimizer, keep: torch.Tensor) -> None:
    """Leave only these members in a model, in place, and in what the optimiser knows of them; keep: (a,) indices."""
    for p in model.parameters():
        chosen = keep.to(p.device)
        for slot, value in optimiser.state.get(p, {}).items():
            if isinstance(value, torch.Tensor) and value.dim() > 0:
                optimiser.state[p][slot] = value[chosen]
        p.data, p.grad = p.data[chosen], None


def fingerprint(
    samples: Sequence[torch.Tensor], validation: Sequence[torch.Tensor], settings: Mapping[str, Any], seed: int
) -> str:
    """Hash what a training depends on, so that a checkpoint of another one is not resumed."""
    digest = hashlib.sha256(json.dumps([dict(settings), seed], sort_keys=True).encode())
    for sample in (*samples, *validation):
        digest.update(str(tuple(sample.shape)).encode())
        digest.update(sample.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_checkpoint(
    path: str | Path, key: str, model: torch.nn.Module, optimiser: torch.optim.Optimizer, state: TrainingState
) -> None:
    """Write parameters, best parameters, the optimiser's state and the epoch to one file, aside and renamed."""
    tensors = {f"now.{name}": p.detach() for name, p in model.named_parameters()}
    tensors |= {f"best.{name}": p for name, p in state.best.items()}
    for index, slots in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{slot}": value for slot, value in slots.items()}
    tensors |= {"state.best_loss": state.best_loss, "state.best_epoch": state.best_epoch}
    header = {"key": key, "epoch": str(state.epoch)}
    with write_aside(path) as aside:
        save_file({name: t.cpu().contiguous() for name, t in tensors.items()}, aside, metadata=header)


@torch.no_grad()
def read_checkpoint(
    path: str | Path, key: str, model: torch.nn.Module, optimiser: torch.optim.Optimizer, state: TrainingState
) -> bool:
    """Put a checkpoint of this very training back in place; a missing, damaged or foreign one starts from scratch."""
    if not Path(path).is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        logger.warning("%s: damaged checkpoint, training starts from scratch: %s", path, error)
        return False
    if header.get("key") != key:
        logger.warning(
            "%s: checkpoint of another training (data, settings or seed differ), starting from scratch", path
        )
        return False
    slots: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimiser":
            index, slot = rest.split(".")
            slots.setdefault(int(index), {})[slot] = tensor
    for name, p in model.named_parameters():
        # members that had stopped are not in it
        p.data = tensors[f"now.{name}"].to(p.device)
        state.best[name].copy_(tensors[f"best.{name}"])
    optimiser.load_state_dict({**optimiser.state_dict(), "state": slots})
    state.epoch = int(header["epoch"])
    state.best_loss, state.best_epoch = tensors["state.best_loss"], tensors["state.best_epoch"]
    logger.info("%s: resumed after epoch %d", path, state.epoch)
    return True
