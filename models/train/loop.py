"""The one training loop: a stack of m models of one architecture, each on its own sample, trained side by side.

Every parameter has a leading dimension m, so one matrix product serves all members; a single model is m = 1.
Data stay on the device as one tensor and minibatches are index slices of it. Each epoch's shuffling and noise
come from generators seeded by (seed, epoch) alone: the global random state is never touched, and a training
that is killed and resumed takes the same steps as one that is not.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from tqdm import tqdm

from ..inputs import ScorerError
from .checkpoint import TrainingState, fingerprint, keep_members, read_checkpoint, write_checkpoint
from .threads import ThreadChoice

__all__ = [
    "DeviceError",
    "Stack",
    "TrainingDivergedError",
    "TrainingSettings",
    "resolve_device",
    "train_stack",
]

logger = logging.getLogger(__name__)

LOG_EVERY = 30.0  # seconds between lines where stderr is a log
GRADIENT_NORM = 5.0
WARM_UP_STEPS, WARM_UP_PART = 100, 0.05  # the smaller of the two
VALIDATION_CHUNK = {"cpu": 1024}  # rows and member at once, so that a layer fits the cache
LARGE_CHUNK = 4096  # elsewhere


class DeviceError(ScorerError):
    """The device does not exist here."""


class TrainingDivergedError(ScorerError):
    """The training loss became NaN or infinite."""


class Stack(Protocol):
    """A torch module of m stacked models: every parameter has the leading dimension m."""

    def losses(self, x: torch.Tensor, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        """Return the loss (m, b) of each row of x (m, b, ...); progress runs from 0 to 1 over the training."""


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how fast to train.

    max_epochs: length of the cosine schedule; patience: epochs without a better validation loss before a member
    stops; batch_size: rows a step and member; learning_rate: of Adam at its peak; min_steps, max_steps: bounds of
    the steps an epoch, so that a small sample is not undertrained and a huge one does not take hours; threads: of
    torch on a CPU at most: one or as many as this, whichever is faster at the time (`ThreadChoice`).
    """

    max_epochs: int = 60
    patience: int = 10
    batch_size: int = 512
    learning_rate: float = 3e-3
    min_steps: int = 50
    max_steps: int = 300
    threads: int = 4

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise ScorerError(f"training: {name} is {value!r}, allowed: above 0")


def resolve_device(device: str) -> torch.device:
    """Return the torch device of "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1", ...; else DeviceError."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise DeviceError(f"no device {device!r}; allowed: auto, cpu, cuda, cuda:0, ...") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"no device {device!r} here: {torch.cuda.device_count()} CUDA devices found; use 'auto'")
    return found


def epoch_generator(seed: int, epoch: int, device: torch.device, *member: int) -> torch.Generator:
    """Return a generator that depends on the seed, the epoch and, where given, the member alone."""
    state = np.random.SeedSequence([seed, epoch, *member]).generate_state(1, np.uint64)[0]
    return torch.Generator(device=device).manual_seed(int(state >> np.uint64(1)))


def train_stack(
    model: torch.nn.Module,
    stack: Stack,
    samples: Sequence[torch.Tensor],
    validation: Sequence[torch.Tensor],
    *,
    settings: TrainingSettings,
    seed: int,
    device: torch.device,
    checkpoint: str | Path | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Train the m members of `model` in place, each to its own best validation loss; return the training record.

    model: the module, changed in place; stack: the same object, seen as losses; samples, validation: m tensors
    (n_k, ...) each. checkpoint: a file written after epochs and resumed from when it belongs to this very training
    (same data, settings and seed), removed at the end. progress: a bar, or one log line in 30 s.
    Raises TrainingDivergedError.
    """
    start = time.monotonic()
    model.to(device)
    data = Resident(samples, device)
    held = Resident(validation, device)
    steps = min(max(math.ceil(max(data.sizes) / settings.batch_size), settings.min_steps), settings.max_steps)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, fused=True)
    state = TrainingState.fresh(model, len(samples))
    key = fingerprint(samples, validation, asdict(settings), seed)
    if checkpoint is not None:
        read_checkpoint(checkpoint, key, model, optimiser, state)
    active = state.active(settings.patience)
    # what wraps a model may add its rows up in any way: rounding would depend on the threads
    choice = ThreadChoice(settings.threads if device.type == "cpu" and cast("object", stack) is model else 1)
    with choice as threads, progress_bar(settings.max_epochs, state.epoch, show=progress) as report:
        while state.epoch < settings.max_epochs and not state.finished(settings.patience).all():
            threads.at_most(len(active))
            train_epoch(
                model,
                stack,
                data,
                active,
                optimiser,
                threads,
                epoch=state.epoch,
                steps=steps,
                settings=settings,
                seed=seed,
            )
            state.record(model, validation_loss(stack, held, active, seed), active)
            report(state)
            left = state.active(settings.patience)
            if 0 < len(left) < len(active):  # a member that has stopped costs nothing any more
                keep_members(model, optimiser, torch.searchsorted(active, left))
                active = left
            if checkpoint is not None:
                write_checkpoint(checkpoint, key, model, optimiser, state)
    state.restore_best(model)
    if checkpoint is not None:
        Path(checkpoint).unlink(missing_ok=True)
    logger.debug("trained %d models on %s for %.1f s", len(samples), device, time.monotonic() - start)
    return {
        "epochs": state.epoch,
        "steps_per_epoch": steps,
        "best_epoch": state.best_epoch.tolist(),
        "validation_loss": [float(v) for v in state.best_loss],
        "rows": list(data.sizes),
        "validation_rows": list(held.sizes),
        "seed": seed,
        "device": device.type,
        "settings": asdict(settings),
    }


class Resident:
    """m samples as one tensor on the device; a batch is a slice by index."""

    def __init__(self, samples: Sequence[torch.Tensor], device: torch.device) -> None:
        self.rows = torch.cat(list(samples)).to(device)
        self.sizes = tuple(len(sample) for sample in samples)
        self.offsets = np.cumsum([0, *self.sizes[:-1]])
        self.device = device

    def batch(self, indices: torch.Tensor) -> torch.Tensor:
        """Return the rows (m, b, ...) at indices (m, b); a third of the time of `rows[indices]`."""
        return self.rows.index_select(0, indices.flatten()).view(*indices.shape, *self.rows.shape[1:])

    def shuffled(self, members: Sequence[int], steps: int, batch: int, seed: int, epoch: int) -> torch.Tensor:
        """Return row indices (steps, members, batch): each one's own permutations, repeated where its sample is short.

        A member's order depends on seed, epoch and its number alone, not on which others still train.
        """
        per_member = []
        for member in members:
            size, offset = self.sizes[member], self.offsets[member]
            generator = epoch_generator(seed, epoch, torch.device("cpu"), member)
            repeats = math.ceil(steps * batch / size)
            order = torch.cat([torch.randperm(size, generator=generator) for _ in range(repeats)])
            per_member.append(int(offset) + order[: steps * batch].view(steps, batch))
        return torch.stack(per_member, dim=1).to(self.device)


def train_epoch(
    model: torch.nn.Module,
    stack: Stack,
    data: Resident,
    active: torch.Tensor,
    optimiser: torch.optim.Optimizer,
    threads: ThreadChoice,
    *,
    epoch: int,
    steps: int,
    settings: TrainingSettings,
    seed: int,
) -> None:
    """Take one epoch's steps: cosine learning rate with a short warm-up, gradients clipped member by member."""
    noise = epoch_generator(seed, epoch, data.device)
    indices = data.shuffled(active.tolist(), steps, settings.batch_size, seed, epoch)
    parameters = [p for p in model.parameters() if p.requires_grad]
    total = settings.max_epochs * steps
    warm_up = max(1.0, min(WARM_UP_STEPS, WARM_UP_PART * total))
    for i in range(steps):
        step = epoch * steps + i
        rate = 0.5 * (1 + math.cos(math.pi * step / total)) * min(1.0, (step + 1) / warm_up)
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * rate
        with threads.step():
            # Members share no parameter, so the gradient of the sum is each member's own gradient.
            loss = stack.losses(data.batch(indices[i]), generator=noise, progress=step / total).mean(dim=1).sum()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            clip_members(parameters)
            optimiser.step()
    if not torch.isfinite(loss):
        raise TrainingDivergedError(
            f"training loss is {loss.item()} in epoch {epoch + 1}; lower learning_rate (now {settings.learning_rate})"
        )


def clip_members(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Bound each member's gradient norm; one member's spike must not scale another's step."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.cat([g.flatten(1) for g in gradients], dim=1).norm(dim=1)
    scale = (GRADIENT_NORM / (norm + 1e-12)).clamp(max=1.0)
    for g in gradients:
        g.mul_(scale.view(-1, *(1,) * (g.dim() - 1)))


@torch.no_grad()
def validation_loss(stack: Stack, held: Resident, active: torch.Tensor, seed: int) -> torch.Tensor:
    """Return the mean loss (a,) of the active members on their own held-out rows, with the same noise in every epoch."""
    generator = epoch_generator(seed, 2**31, held.device)
    chosen = active.tolist()
    offsets = torch.as_tensor(held.offsets[chosen], device=held.device)[:, None]
    sizes = torch.tensor(held.sizes, device=held.device)[active.to(held.device)][:, None]
    longest = int(sizes.max())
    total = torch.zeros(len(chosen), dtype=torch.float64, device=held.device)
    chunk = VALIDATION_CHUNK.get(held.device.type, LARGE_CHUNK)
    for first in range(0, longest, chunk):
        position = torch.arange(first, min(first + chunk, longest), device=held.device)[None, :]
        inside = position < sizes  # a shorter sample goes round, and its repeats do not count
        losses = stack.losses(held.batch(offsets + position % sizes), generator=generator, progress=1.0)
        total += (losses.double() * inside).sum(dim=1)
    return (total / sizes[:, 0]).cpu()


@contextlib.contextmanager
def progress_bar(total: int, done: int, *, show: bool) -> Iterator[Any]:
    """Give a function that reports a TrainingState: a bar on a terminal, at most one line in 30 s in a log."""
    terminal = show and sys.stderr.isatty()
    last = time.monotonic()
    with tqdm(total=total, initial=done, desc="training", unit="epoch", disable=not terminal, file=sys.stderr) as bar:

        def report(state: TrainingState) -> None:
            nonlocal last
            bar.update(1)
            if show and not terminal and time.monotonic() - last > LOG_EVERY:
                last = time.monotonic()
                best = ", ".join(f"{v:.3f}" for v in state.best_loss.tolist())
                logger.info("training: epoch %d of at most %d, validation loss %s", state.epoch, total, best)

        yield report
