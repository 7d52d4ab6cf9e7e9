"""What a training minimises: a stack of models seen as losses, with all that a training has to keep and to resume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["Batch", "Objective", "WrappedObjective"]

Batch = Mapping[str, torch.Tensor]


class Objective:
    """A stack of m models as the training loop takes it; this class serves every plain module, a method overrides parts.

    model: a module whose parameters and persistent buffers all have the leading dimension m. It has
    `losses(x, generator=..., progress=...)`, which returns the loss (m, b) of each row of x (m, b, ...), or a subclass
    overrides `losses`.

    select: the name of the figure of `monitor` that chooses the best epoch, the smaller the better; None takes the loss
    of the validation sample. whole_batch: the loss of a row depends on its batch, which then has no row twice and is never divided: the validation
    sample comes in batches as large as those of the training. by_member: every member's loss is computed by itself, so the number
    of threads changes no rounding. rolls_back: an epoch that `diverged` tells of is taken back, and tried again at half the learning rate.
    """

    select: str | None = None
    whole_batch: bool = False
    by_member: bool = True
    rolls_back: bool = False

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model

    def to(self, device: torch.device) -> None:
        """Bring the model, and whatever else `state` gives, to a device; asked for before the first step."""
        self.model.to(device)

    def losses(self, batch: Batch, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        """Return the loss (m, b) of the rows batch["x"] (m, b, ...); other keys are the streams of the training.

        A stream's rows (b, ...) serve all members. progress runs from 0 to 1 over the training. Nothing in here may wait
        for the device.
        """
        network: Any = self.model
        found: torch.Tensor = network.losses(batch["x"], generator=generator, progress=progress)
        return found

    def validation_losses(self, batch: Batch, *, generator: torch.Generator) -> torch.Tensor:
        """Return the losses (m, b) of held-out rows, which a training that samples to learn does not sample for."""
        return self.losses(batch, generator=generator, progress=1.0)

    def diverged(self, figures: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Tell from the figures of an epoch, name -> (m,), which members (m,) have diverged; asked where `rolls_back`."""
        del figures
        return torch.zeros(1, dtype=torch.bool)

    def keep(self, members: torch.Tensor) -> None:
        """Leave only these members (a,) in everything that `state` gives; the loop itself cuts the parameters."""
        for _, module, name, value in _buffers(self.model):
            module._buffers[name] = value[members.to(value.device)]

    def state(self) -> dict[str, torch.Tensor]:
        """Return what a resumed training needs besides the parameters, every tensor with the leading dimension m.

        These are buffers, replay buffers, chains. The best epoch of a member includes its part of them.
        """
        return {full: value.detach() for full, _, _, value in _buffers(self.model)}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put back what `state` gave, of however many members that was."""
        for full, module, name, value in _buffers(self.model):
            module._buffers[name] = state[full].to(value.device).clone()

    def after_step(self) -> None:
        """Do what follows each step of the optimiser, such as moving an average or filling a replay buffer."""

    def monitor(self) -> dict[str, torch.Tensor]:
        """Return figures of the training that need no label, name -> (m,), asked for after each epoch."""
        return {}


class WrappedObjective(Objective):
    """An objective that adds something to the losses of another one, which keeps its state, figures and choices."""

    by_member = False

    def __init__(self, inner: Objective) -> None:
        super().__init__(inner.model)
        self.inner = inner
        self.select, self.whole_batch, self.rolls_back = inner.select, inner.whole_batch, inner.rolls_back

    def to(self, device: torch.device) -> None:
        """Bring the inner objective to a device."""
        self.inner.to(device)

    def losses(self, batch: Batch, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        """Return the losses (m, b) of the inner objective."""
        return self.inner.losses(batch, generator=generator, progress=progress)

    def diverged(self, figures: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Tell which members (m,) of the inner objective have diverged."""
        return self.inner.diverged(figures)

    def keep(self, members: torch.Tensor) -> None:
        """Leave only these members (a,)."""
        self.inner.keep(members)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the state of the inner objective."""
        return self.inner.state()

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put back the state of the inner objective."""
        self.inner.load_state(state)

    def after_step(self) -> None:
        """Do what the inner objective does."""
        self.inner.after_step()

    def monitor(self) -> dict[str, torch.Tensor]:
        """Return the figures of the inner objective."""
        return self.inner.monitor()


def _buffers(model: torch.nn.Module) -> list[tuple[str, torch.nn.Module, str, torch.Tensor]]:
    """Return (full name, module, name in it, tensor) of every persistent buffer."""
    return [
        (f"{prefix}.{name}" if prefix else name, module, name, value)
        for prefix, module in model.named_modules()
        for name, value in module._buffers.items()
        if value is not None and name not in module._non_persistent_buffers_set
    ]
