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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ...errors import shown
from ..inputs import ScorerError
from .checkpoint import Kept, TrainingState, fingerprint, keep_members, read_checkpoint, write_checkpoint
from .objective import Objective
from .threads import few_threads, training_threads

__all__ = [
    "DeviceError",
    "TrainingDivergedError",
    "TrainingSettings",
    "resolve_device",
    "train_stack",
]

logger = logging.getLogger(__name__)

MOST_SETBACKS = 5
"""Epochs that may be taken back, each time with half the learning rate, before a training ends with its best epoch."""
LOG_EVERY = 30.0  # seconds between lines where stderr is a log
GRADIENT_NORM = 5.0
MOST = {True: 1_000_000, False: 1_000}  # of a whole number of the settings, and of the learning rate
WARM_UP_STEPS, WARM_UP_PART = 100, 0.05  # the smaller of the two
VALIDATION_CHUNK = {"cpu": 1024}  # rows and member at once, so that a layer fits the cache
LARGE_CHUNK = 4096  # elsewhere
STREAM = 0x57  # sets the generators of streams apart from those of members


class DeviceError(ScorerError):
    """The device does not exist here."""


class TrainingDivergedError(ScorerError):
    """The training loss became NaN or infinite."""


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how fast to train.

    max_epochs: length of the cosine schedule; patience: epochs without a better validation loss before a member
    stops; batch_size: rows a step and member; learning_rate: of Adam at its peak; min_steps, max_steps: bounds of
    the steps an epoch, so that a small sample is not undertrained and a huge one does not take hours; threads: of
    torch on a CPU at most (`training_threads`).
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
            whole = name != "learning_rate"
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                raise ScorerError(
                    f"training: {name} is {shown(value)}, allowed: a {'whole ' if whole else ''}number above 0"
                )
            if not value > 0:
                raise ScorerError(f"training: {name} is {shown(value)}, allowed: above 0")
            if not value <= MOST[whole]:
                raise ScorerError(f"training: {name} is {shown(value)}, allowed: up to {MOST[whole]:,}")


def named_device(device: str) -> torch.device:
    """Return the torch device of a name, "auto" as the CPU; DeviceError for what is no name of one. Whether it is here is not asked."""
    try:
        return torch.device("cpu" if device == "auto" else device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise DeviceError(f"no device {shown(device)}; allowed: auto, cpu, cuda, cuda:0, ...") from error


def resolve_device(device: str) -> torch.device:
    """Return the torch device of "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1", ...; else DeviceError."""
    found = named_device(device)
    if device == "auto" and torch.cuda.is_available():
        return torch.device("cuda")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"no device {device!r} here: {torch.cuda.device_count()} CUDA devices found; use 'auto'")
    return found


def epoch_generator(seed: int, epoch: int, device: torch.device, *member: int) -> torch.Generator:
    """Return a generator that depends on the seed, the epoch and, where given, the member alone."""
    state = np.random.SeedSequence([seed, epoch, *member]).generate_state(1, np.uint64)[0]
    return torch.Generator(device=device).manual_seed(int(state >> np.uint64(1)))


def train_stack(
    objective: Objective,
    samples: Sequence[torch.Tensor],
    validation: Sequence[torch.Tensor],
    *,
    settings: TrainingSettings,
    seed: int,
    device: torch.device,
    streams: Mapping[str, tuple[torch.Tensor, torch.Tensor]] | None = None,
    identity: Mapping[str, Any] | None = None,
    patience: Sequence[int] | None = None,
    checkpoint: str | Path | None = None,
    keep_checkpoint: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Train the m members of the objective's model in place, each to its own best epoch; return the training record.

    samples, validation: m tensors (n_k, ...) each, which the objective sees as batch["x"] (m, b, ...). streams: further keys
    of the batch, name -> rows (n, ...) for training and for validation, which have an order of their own and come as (b, ...).
    patience: of each member, else the settings'. checkpoint: a file written after epochs and resumed from when it belongs to this very
    training (same data, settings, first parameters, seed and JSON-like `identity`, which is whatever else the objective depends on),
    removed at the end, unless it is kept so that several trainings resume after those that are done. progress: a bar, or one log line
    in 30 s. Raises TrainingDivergedError.
    """
    start = time.monotonic()
    model, streams = objective.model, streams or {}
    objective.to(device)
    data, held = Resident(samples, device), Resident(validation, device)
    beside = {name: Resident([pair[0]], device) for name, pair in streams.items()}
    held_beside = {name: Resident([pair[1]], device) for name, pair in streams.items()}
    steps = min(max(math.ceil(max(data.sizes) / settings.batch_size), settings.min_steps), settings.max_steps)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, fused=True)
    state = TrainingState.fresh(objective, len(samples))
    waits: int | torch.Tensor = settings.patience if patience is None else torch.tensor(list(patience))
    key = ""
    if checkpoint is not None:
        described = {
            "settings": asdict(settings),
            "seed": seed,
            "identity": dict(identity or {}),
            "streams": [*streams],
            **({} if patience is None else {"patience": list(patience)}),
        }
        given = [*samples, *validation, *(rows for pair in streams.values() for rows in pair), *model.parameters()]
        key = fingerprint(described, given)
        read_checkpoint(checkpoint, key, objective, optimiser, state)
    active = state.active(waits)
    with progress_bar(settings.max_epochs, state.epoch, show=progress) as report:
        while (
            state.epoch < settings.max_epochs
            and len(state.setbacks) < MOST_SETBACKS
            and not state.finished(waits).all()
        ):
            most = settings.threads if device.type == "cpu" else 1
            before = Kept.of(objective, optimiser) if objective.rolls_back else None
            with few_threads(training_threads(len(active), most, by_member=objective.by_member)):
                loss_is = train_epoch(
                    objective,
                    data,
                    beside,
                    active,
                    optimiser,
                    epoch=state.epoch,
                    steps=steps,
                    settings=settings,
                    seed=seed,
                    slower=0.5 ** len(state.setbacks),
                )
                with torch.no_grad():
                    noted = objective.monitor()
                if before is None and not math.isfinite(loss_is):
                    raise TrainingDivergedError(
                        f"training loss is {loss_is} in epoch {state.epoch + 1}; "
                        f"lower learning_rate (now {settings.learning_rate})"
                    )
                if before is not None and (not math.isfinite(loss_is) or bool(objective.diverged(noted).any())):
                    before.restore(objective, optimiser)
                    state.setbacks.append(state.epoch + 1)
                    logger.warning("training: epoch %d diverged and is taken back: %s", state.epoch + 1, told(noted))
                    if checkpoint is not None:
                        write_checkpoint(checkpoint, key, objective, optimiser, state)
                    continue
                loss = validation_loss(objective, held, held_beside, active, seed, whole=settings.batch_size)
                with torch.no_grad():
                    state.record(objective, loss, active, noted)
            report(state)
            left = state.active(waits)
            if 0 < len(left) < len(active):  # a member that has stopped costs nothing any more
                keep_members(objective, optimiser, torch.searchsorted(active, left))
                active = left
            if checkpoint is not None:
                write_checkpoint(checkpoint, key, objective, optimiser, state)
    state.restore_best(objective)
    if checkpoint is not None and not keep_checkpoint:
        Path(checkpoint).unlink(missing_ok=True)
    logger.debug("trained %d models on %s for %.1f s", len(samples), device, time.monotonic() - start)
    figures = {
        name: [[None if math.isnan(v) else v for v in row] for row in values.tolist()]
        for name, values in state.figures.items()
    }
    return {
        "epochs": state.epoch,
        "steps_per_epoch": steps,
        "best_epoch": state.best_epoch.tolist(),
        # not finite where no epoch was any good, and the first parameters stay
        "validation_loss": [float(v) if math.isfinite(v) else None for v in state.best_loss],
        "rows": list(data.sizes),
        "validation_rows": list(held.sizes),
        "seed": seed,
        "device": device.type,
        "settings": asdict(settings),
        **({"monitor": figures, "select": objective.select} if figures or objective.rolls_back else {}),
        **({"setbacks": state.setbacks} if objective.rolls_back else {}),
    }


class Resident:
    """m samples as one tensor on the device; a batch is a slice by index."""

    def __init__(self, samples: Sequence[torch.Tensor], device: torch.device) -> None:
        self.rows = torch.cat(list(samples)).to(device)
        self.sizes = tuple(len(sample) for sample in samples)
        self.offsets = np.cumsum([0, *self.sizes[:-1]])
        self.device = device

    def batch(self, indices: torch.Tensor) -> torch.Tensor:
        """Return the rows (m, b, ...) at indices (m, b), or (b, ...) at (b,); a third of the time of `rows[indices]`."""
        return self.rows.index_select(0, indices.flatten()).view(*indices.shape, *self.rows.shape[1:])

    def shuffled(
        self, members: Sequence[int], steps: int, batch: int, seed: int, epoch: int, *, once: bool = False
    ) -> torch.Tensor:
        """Return row indices (steps, members, batch): each one's own permutations, repeated where its sample is short.

        A member's order depends on seed, epoch and its number alone, not on which others still train. once: no row is twice in a batch of a
        sample that has as many rows, so that the rest of a permutation that fills no batch is left out.
        """
        per_member = []
        for member in members:
            size, offset = self.sizes[member], self.offsets[member]
            generator = epoch_generator(seed, epoch, torch.device("cpu"), member)
            taken = size - size % batch if once and size >= batch else size
            repeats = math.ceil(steps * batch / taken)
            order = torch.cat([torch.randperm(size, generator=generator)[:taken] for _ in range(repeats)])
            per_member.append(int(offset) + order[: steps * batch].view(steps, batch))
        return torch.stack(per_member, dim=1).to(self.device)

    def stream_order(self, steps: int, batch: int, seed: int, epoch: int, number: int) -> torch.Tensor:
        """Return row indices (steps, batch) of one sample that serves all members: permutations of its own."""
        generator = epoch_generator(seed, epoch, torch.device("cpu"), number, STREAM)
        repeats = math.ceil(steps * batch / self.sizes[0])
        order = torch.cat([torch.randperm(self.sizes[0], generator=generator) for _ in range(repeats)])
        return order[: steps * batch].view(steps, batch).to(self.device)


def train_epoch(
    objective: Objective,
    data: Resident,
    streams: Mapping[str, Resident],
    active: torch.Tensor,
    optimiser: torch.optim.Optimizer,
    *,
    epoch: int,
    steps: int,
    settings: TrainingSettings,
    seed: int,
    slower: float = 1.0,
) -> float:
    """Take one epoch's steps and return the last loss: cosine learning rate with a short warm-up, gradients clipped member by member.

    slower: what the learning rate is multiplied by.
    """
    noise = epoch_generator(seed, epoch, data.device)
    indices = data.shuffled(active.tolist(), steps, settings.batch_size, seed, epoch, once=objective.whole_batch)
    orders = {
        name: rows.stream_order(steps, settings.batch_size, seed, epoch, number)
        for number, (name, rows) in enumerate(streams.items())
    }
    parameters = [p for p in objective.model.parameters() if p.requires_grad]
    total = settings.max_epochs * steps
    warm_up = max(1.0, min(WARM_UP_STEPS, WARM_UP_PART * total))
    for i in range(steps):
        step = epoch * steps + i
        rate = 0.5 * (1 + math.cos(math.pi * step / total)) * min(1.0, (step + 1) / warm_up)
        for group in optimiser.param_groups:
            group["lr"] = slower * settings.learning_rate * rate
        batch = {"x": data.batch(indices[i])} | {name: rows.batch(orders[name][i]) for name, rows in streams.items()}
        # Members share no parameter, so the gradient of the sum is each member's own gradient.
        loss = objective.losses(batch, generator=noise, progress=step / total).mean(dim=1).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_members(parameters)
        optimiser.step()
        objective.after_step()
    return float(loss.detach())


def told(figures: Mapping[str, torch.Tensor]) -> str:
    """Return figures (m,) of an epoch in words."""
    return ", ".join(f"{name} {' '.join(f'{v:.3g}' for v in values.tolist())}" for name, values in figures.items())


def clip_members(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Bound each member's gradient norm; one member's spike must not scale another's step."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.cat([g.flatten(1) for g in gradients], dim=1).norm(dim=1)
    scale = (GRADIENT_NORM / (norm + 1e-12)).clamp(max=1.0)
    for g in gradients:
        g.mul_(scale.view(-1, *(1,) * (g.dim() - 1)))


@torch.no_grad()
def validation_loss(
    objective: Objective,
    held: Resident,
    streams: Mapping[str, Resident],
    active: torch.Tensor,
    seed: int,
    *,
    whole: int,
) -> torch.Tensor:
    """Return the mean loss (a,) of the active members on their own held-out rows, with the same noise in every epoch.

    whole: rows of a batch that may not be divided; the last one then goes back to rows that were counted before.
    """
    generator = epoch_generator(seed, 2**31, held.device)
    chosen = active.tolist()
    offsets = torch.as_tensor(held.offsets[chosen], device=held.device)[:, None]
    sizes = torch.tensor(held.sizes, device=held.device)[active.to(held.device)][:, None]
    longest = int(sizes.max())
    total = torch.zeros(len(chosen), dtype=torch.float64, device=held.device)
    chunk = whole if objective.whole_batch else VALIDATION_CHUNK.get(held.device.type, LARGE_CHUNK)
    for first in range(0, longest, chunk):
        start = max(0, min(first, longest - chunk)) if objective.whole_batch else first
        position = torch.arange(start, min(start + chunk, longest), device=held.device)[None, :]
        counted = (position >= first) & (position < sizes)  # a shorter sample goes round, its repeats do not count
        batch = {"x": held.batch(offsets + position % sizes)}
        batch |= {name: rows.batch(position[0] % rows.sizes[0]) for name, rows in streams.items()}
        losses = objective.validation_losses(batch, generator=generator)
        total += (losses.double() * counted).sum(dim=1)
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
