"""Training a QUAK space: N models as one batched ensemble against the usual loop, one model after another.

The loop is what the field's scripts do: for each model a network of plain torch layers, a DataLoader with batches of
800, Adam, one epoch after another, validation after each; it gets torch's own number of threads or one,
whichever is faster. Both train the same architecture with the same batch size, rows, epochs and learning rates, on the
same machine, in turns; the final validation losses stand beside the times. `floor` is the time that the matrix products
alone take, forward and backward, at the rate of batched products of these shapes: what no training of these networks
can undercut.
"""

from __future__ import annotations

import math
import sys
import time
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from hunch.models import Quak
from hunch.models.density.densities import Architecture
from hunch.models.density.flows import LOG_SCALE, TAIL_FROM, FlowDensities
from hunch.models.train.loop import TrainingSettings, train_stack
from hunch.models.train.objective import Objective
from hunch.models.train.threads import few_threads

MODELS, FEATURES, ROWS, HELD, BATCH, EPOCHS = 7, 12, 16_000, 4_000, 800, 10
ARCHITECTURE = Architecture("maf", hidden=32, steps=4)
RATE = 3e-3
REPEATS = 3
LIMIT = 600.0


def samples(seed: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return training and validation rows of 7 correlated, bent samples of unit spread."""
    made = []
    for k in range(MODELS):
        rng = np.random.default_rng([seed, k])
        mixing = rng.normal(size=(FEATURES, FEATURES)) / math.sqrt(FEATURES)
        z = rng.normal(size=(ROWS + HELD, FEATURES))
        x = z @ mixing + 0.3 * np.tanh(z[:, ::-1]) ** 2
        made.append(torch.from_numpy((x - x.mean(axis=0)) / x.std(axis=0)).float())
    return [x[:ROWS] for x in made], [x[ROWS:] for x in made]


def ensemble(train: list[torch.Tensor], held: list[torch.Tensor], device: torch.device) -> tuple[float, list[float]]:
    """Train all at once; return seconds and each model's validation loss."""
    model = ARCHITECTURE.build(MODELS, FEATURES, seed=0)
    settings = TrainingSettings(
        max_epochs=EPOCHS, patience=EPOCHS, batch_size=BATCH, learning_rate=RATE, min_steps=ROWS // BATCH
    )
    start = time.perf_counter()
    record = train_stack(Objective(model), train, held, settings=settings, seed=0, device=device)
    return time.perf_counter() - start, record["validation_loss"]


class MaskedLinear(torch.nn.Linear):
    """A linear layer with some connections cut; starts from weight (1, i, o) and bias (1, 1, o) of a stack of one."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, mask: torch.Tensor) -> None:
        super().__init__(*mask.shape)
        self.register_buffer("mask", mask.T.contiguous())
        with torch.no_grad():
            self.weight.copy_(weight[0].T)
            self.bias.copy_(bias[0, 0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs (b, o) of x (b, i)."""
        return torch.nn.functional.linear(x, self.weight * self.mask, self.bias)


class PlainFlow(torch.nn.Module):
    """The same masked autoregressive flow as it is usually written; starts where `FlowDensities` of one does."""

    def __init__(self, start: FlowDensities) -> None:
        super().__init__()
        self.networks = torch.nn.ModuleList()
        for made in start.flow.networks:
            first, second, last = (
                MaskedLinear(*parts) for parts in zip(made.weights, made.biases, made.masks(), strict=True)
            )
            relu = torch.nn.ReLU()
            self.networks.append(torch.nn.Sequential(first, relu, second, relu, last))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return −log p (b,) of x (b, d)."""
        tail = 0.5 * (x.abs() - TAIL_FROM).clamp(min=0.0).square().sum(dim=-1)
        log_slope = torch.zeros(len(x), device=x.device)
        for network in self.networks:
            shift, raw = network(x).chunk(2, dim=-1)
            log_scale = raw / torch.sqrt(1 + (raw / LOG_SCALE) ** 2)
            x = (x - shift) * torch.exp(-log_scale)
            log_slope = log_slope - log_scale.sum(dim=-1)
        return 0.5 * (x**2).sum(dim=-1) + 0.5 * math.log(2 * math.pi) * x.shape[-1] - log_slope + tail


def loop(train: list[torch.Tensor], held: list[torch.Tensor], device: torch.device) -> tuple[float, list[float]]:
    """Train one after another with a DataLoader each; return seconds and each model's best validation loss."""
    start = time.perf_counter()
    found = []
    for k, (rows, validation) in enumerate(zip(train, held, strict=True)):
        model = PlainFlow(cast("FlowDensities", ARCHITECTURE.build(1, FEATURES, seed=k))).to(device)
        loader = DataLoader(
            TensorDataset(rows), batch_size=BATCH, shuffle=True, generator=torch.Generator().manual_seed(k)
        )
        optimiser = torch.optim.Adam(model.parameters(), lr=RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS * len(loader))
        best = float("inf")
        for _ in range(EPOCHS):
            for (batch,) in loader:
                optimiser.zero_grad()
                loss = model(batch.to(device)).mean()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
                optimiser.step()
                schedule.step()
            with torch.no_grad():
                total = 0.0
                for (batch,) in DataLoader(TensorDataset(validation), batch_size=BATCH):
                    total += model(batch.to(device)).sum().item()
            best = min(best, total / len(validation))
        found.append(best)
    return time.perf_counter() - start, found


def floor(device: torch.device, threads: int) -> float:
    """Return the seconds that the training's matrix products take by themselves."""
    model = ARCHITECTURE.build(MODELS, FEATURES, seed=0)
    shapes = [tuple(p.shape) for p in model.parameters() if p.shape[1] > 1]
    pairs = [(torch.randn(m, BATCH, i, device=device), torch.randn(m, i, o, device=device)) for m, i, o in shapes]
    outs = [torch.randn(m, BATCH, o, device=device) for m, _, o in shapes]

    def products() -> None:
        for (x, w), y in zip(pairs, outs, strict=True):
            torch.bmm(x, w)
            torch.bmm(x.transpose(1, 2), y)
            torch.bmm(y, w.transpose(1, 2))

    steps = EPOCHS * ROWS // BATCH
    with few_threads(threads):
        products()
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(max(20, steps // 4)):
            products()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    return seconds / max(20, steps // 4) * steps


def compare(device: torch.device, bar: float) -> list[dict[str, Any]]:
    """Take ensemble and loop in turns on one device."""
    ours, theirs = [], []
    for repeat in range(REPEATS):
        train, held = samples(repeat)
        # on busy cores more threads can be slower
        runs = []
        for threads in {torch.get_num_threads(), 1}:
            with few_threads(threads):
                runs.append(loop(train, held, device))
        theirs.append(min(runs))
        ours.append(ensemble(train, held, device))
    seconds, reference = (float(np.median([s for s, _ in runs])) for runs in (ours, theirs))
    difference = np.array([np.subtract(a, b) for (_, a), (_, b) in zip(ours, theirs, strict=True)])
    spread = np.std([loss for _, loss in theirs], axis=0).mean()
    bare = min(floor(device, threads) for threads in {torch.get_num_threads(), 1})
    print(
        f"{device.type}: validation loss, ensemble minus loop {difference.mean():+.3f} +- {difference.std():.3f} nats "
        f"(seeds of the data move it by {spread:.3f}); matrix products alone {bare:.2f} s, {seconds / bare:.1f} floors",
        file=sys.stderr,
    )
    name = f"train_7_models_{device.type}_seconds"
    return [
        {"name": name, "ours": seconds, "reference": reference, "ratio": reference / seconds, "bar": bar, "unit": "s"},
        {
            "name": f"train_7_models_{device.type}_floor",
            "ours": seconds,
            "reference": bare,
            "ratio": bare / seconds,
            "bar": None,
            "unit": "s",
        },
        {
            "name": f"train_7_models_{device.type}_loss",
            "ours": float(np.mean([loss for _, loss in ours])),
            "reference": float(np.mean([loss for _, loss in theirs])),
            "ratio": 1.0 - float(difference.mean()),
            "bar": 1.0 - 0.02,
            "unit": "nats",
        },
    ]


def default_fit() -> dict[str, Any]:
    """Return the line of `Quak` as it comes on 60,000 × 4 with three priors: limit / measured."""
    rng = np.random.default_rng(0)
    mass = rng.exponential(1.0, 60_000)
    bent = rng.normal(0.15 * (mass - 1) ** 2, 0.5 + 0.2 * mass)
    ratio = rng.beta(2, 3, 60_000)
    background = np.stack([mass, bent, ratio, rng.gamma(3, 1, 60_000) * (0.5 + ratio)], axis=1)
    width = np.array([0.25, 0.3, 0.08, 0.35])
    centres = {"near": [2.6, 0.4, 0.37, 1.7], "far": [5.0, 2.0, 0.6, 4.0], "low": [0.5, 3.0, 0.8, 4.0]}
    priors = {name: rng.normal(centre, width, (20_000, 4)) for name, centre in centres.items()}
    start = time.perf_counter()
    Quak(seed=0, device="cpu").fit(background, priors=priors)
    seconds = time.perf_counter() - start
    return {
        "name": "train_quak_seconds",
        "ours": seconds,
        "reference": LIMIT,
        "ratio": LIMIT / seconds,
        "bar": 1.0,
        "unit": "s",
    }


def run() -> list[dict[str, Any]]:
    """Return the lines: 7 models against the loop on every device there is, and the default fit."""
    lines = compare(torch.device("cpu"), 6.0)
    if torch.cuda.is_available():
        lines += compare(torch.device("cuda"), 40.0)
    else:
        print("train_quak: no CUDA device, the comparison on a GPU was left out", file=sys.stderr)
    return [*lines, default_fit()]
