"""Training a constituent VAE on a CPU, beside bare forward and backward passes of the same shapes, in turns in one run.

Ours is `train_stack` on one network with all that a training is: shuffled batches, clipped gradients, Adam, the validation
after each epoch, the best epoch kept. The bare passes are plain torch layers of the same shapes (`torch.nn.Linear`, `torch.nn.LSTM`),
the same batches in memory one after another, forward, loss and backward for training rows and forward alone for validation rows; no
optimiser, no order. Both have one thread.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import torch

from hunch.models.autoencoders.set_autoencoder import LSTM_WIDTH, WIDTHS, SetSizes, StackedSetVae
from hunch.models.train.loop import TrainingSettings, train_stack
from hunch.models.train.objective import Objective
from hunch.models.train.threads import few_threads

ROWS, HELD, BATCH, ROUNDS, BAR = 10_000, 2_000, 100, 5, 0.7
EPOCHS = {"dense": 3, "lstm": 1}
SLOTS, NUMBERS, LATENT, BETA = 20, 4, 10, 0.1


class PlainDense(torch.nn.Module):
    """80-256-128-64-10 and back, as it is usually written."""

    def __init__(self) -> None:
        super().__init__()
        widths = (SLOTS * NUMBERS, *WIDTHS)
        self.encoder, self.decoder = torch.nn.Sequential(), torch.nn.Sequential()
        for n_in, n_out in itertools.pairwise(widths):
            self.encoder += torch.nn.Sequential(torch.nn.Linear(n_in, n_out), torch.nn.ReLU())
        self.head = torch.nn.Linear(WIDTHS[-1], 2 * LATENT)
        widths = (LATENT, *WIDTHS[::-1])
        for n_in, n_out in itertools.pairwise(widths):
            self.decoder += torch.nn.Sequential(torch.nn.Linear(n_in, n_out), torch.nn.ReLU())
        self.decoder += torch.nn.Sequential(torch.nn.Linear(WIDTHS[0], SLOTS * NUMBERS))

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Return mu and log sigma (b, 2 · latent) side by side."""
        return self.head(self.encoder(x))

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Return jets (b, slots · numbers)."""
        return self.decoder(z)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the loss of jets (b, slots · numbers)."""
        mu, log_sigma = self.encode(x).chunk(2, dim=-1)
        made = self.decode(mu + torch.exp(log_sigma) * torch.randn_like(mu))
        kl = 0.5 * (mu.square() + torch.exp(2 * log_sigma) - 1) - log_sigma
        return (made - x).square().mean() + BETA * kl.mean()


class PlainLstm(PlainDense):
    """LSTM(50), LSTM(10) and back, by torch's own LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = torch.nn.LSTM(NUMBERS, LSTM_WIDTH, batch_first=True)
        self.closing = torch.nn.LSTM(LSTM_WIDTH, LATENT, batch_first=True)
        self.head = torch.nn.Linear(LATENT, 2 * LATENT)
        self.opening = torch.nn.LSTM(LATENT, LSTM_WIDTH, batch_first=True)
        self.writing = torch.nn.LSTM(LSTM_WIDTH, NUMBERS, batch_first=True)
        self.scale = torch.nn.Linear(NUMBERS, NUMBERS)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Return mu and log sigma (b, 2 · latent) side by side."""
        read, _ = self.reading(x.view(len(x), SLOTS, NUMBERS))
        return self.head(self.closing(read)[0][:, -1])

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Return jets (b, slots · numbers)."""
        written, _ = self.writing(self.opening(z[:, None].expand(-1, SLOTS, -1))[0])
        return self.scale(written).reshape(len(z), -1)


PLAIN = {"dense": PlainDense, "lstm": PlainLstm}


def passes(network: torch.nn.Module, rows: torch.Tensor, held: torch.Tensor, epochs: int) -> float:
    """Return the seconds of bare passes over the rows, and over those of the validation without gradients."""
    begin = time.perf_counter()
    for _ in range(epochs):
        for batch in rows.split(BATCH):
            network.zero_grad(set_to_none=True)
            network(batch).backward()
        with torch.no_grad():
            for batch in held.split(1024):
                network(batch)
    return time.perf_counter() - begin


def training(architecture: str, rows: torch.Tensor, held: torch.Tensor, epochs: int) -> float:
    """Return the seconds of a training of the same length."""
    network = StackedSetVae(1, SetSizes(SLOTS, NUMBERS, LATENT, architecture), seed=0, beta=BETA)
    settings = TrainingSettings(
        max_epochs=epochs, patience=epochs, batch_size=BATCH, learning_rate=1e-3, max_steps=ROWS // BATCH, threads=1
    )
    begin = time.perf_counter()
    train_stack(Objective(network), [rows], [held], settings=settings, seed=0, device=torch.device("cpu"))
    return time.perf_counter() - begin


def run() -> list[dict[str, Any]]:
    """Return jets/s of the training of either network against the bare passes; medians of five rounds in turns."""
    rng = np.random.default_rng(1)
    rows, held = (torch.from_numpy(rng.normal(size=(n, SLOTS * NUMBERS))).float() for n in (ROWS, HELD))
    lines = []
    for architecture, epochs in EPOCHS.items():
        ours, bare = [], []
        with few_threads(1):
            network = PLAIN[architecture]()
            for _ in range(ROUNDS + 1):  # the first round warms up
                ours.append(training(architecture, rows, held, epochs))
                bare.append(passes(network, rows, held, epochs))
        mine, reference = (epochs * ROWS / float(np.median(seconds[1:])) for seconds in (ours, bare))
        lines.append(
            {
                "name": f"training of a constituent VAE, {architecture}, batches of {BATCH}",
                "ours": mine,
                "reference": reference,
                "ratio": mine / reference,
                "bar": BAR,
                "unit": "jets/s",
            }
        )
    return lines
