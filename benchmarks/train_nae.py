"""Training a normalised autoencoder on a CPU: its chains against bare forward and backward passes, and the whole against the usual loop.

The bare passes are those that an update contains: an energy and its gradient for each step of both chains, one more for each start, on the same
network with weights computed once, and the forward and backward pass of the loss; nothing else. The usual loop is a plain re-implementation with
`torch.nn.Linear` or `torch.nn.Conv2d`, torch's own spectral norm in every forward pass, and Metropolis steps that evaluate the energy at both ends, as
the public codes of arXiv:2105.05735 do. Sizes, batches, chains and the number of updates are the same; one thread; in turns in one run.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from torch.nn.utils.parametrizations import spectral_norm

from hunch.models.energy.langevin import Langevin, energy_gradient, on_sphere
from hunch.models.energy.networks import Sizes, SphereAutoencoder
from hunch.models.energy.training import Negatives, NormalisedObjective
from hunch.models.train.loop import TrainingSettings, train_stack
from hunch.models.train.threads import few_threads

SIDE, HIDDEN, LATENT, CHANNELS, BATCH, ROUNDS = 20, 256, 3, 8, 256, 3
LATENT_STEPS, INPUT_STEPS = 15, 5
UPDATES = {"dense": 12, "conv": 3}
REPLAY, RESTART, GAMMA = 10_000, 0.5, 0.1
LATENT_CHAIN = Langevin(LATENT_STEPS, 0.0225, 0.3)
INPUT_CHAIN = Langevin(INPUT_STEPS, 0.05 * SIDE**2, 0.45)
BAR_PASSES, BAR_LOOP = 0.8, 2.0


def sizes_of(architecture: str) -> Sizes:
    """Return the sizes of a network."""
    if architecture == "dense":
        return Sizes(SIDE**2, LATENT, HIDDEN)
    return Sizes(SIDE**2, LATENT, HIDDEN, height=SIDE, width=SIDE, channels=CHANNELS)


def objective_of(architecture: str, rows: torch.Tensor) -> NormalisedObjective:
    """Return the second phase of a fresh network, with the energy of these rows (n, d) as unit."""
    network = SphereAutoencoder(1, sizes_of(architecture), seed=0, lipschitz=2.5)
    with torch.no_grad():
        unit = network.energy(rows[None], network.weights()).mean(dim=1)
    settings = Negatives(LATENT_CHAIN, INPUT_CHAIN, REPLAY, RESTART, GAMMA)
    return NormalisedObjective(network, settings, units=unit, reference=rows[None, :64], seed=0)


def chains(objective: NormalisedObjective, updates: int) -> float:
    """Return the seconds of the chains of so many updates."""
    generator = torch.Generator().manual_seed(1)
    weights = [w.detach() for w in objective.network.weights()]
    begin = time.perf_counter()
    for _ in range(updates):
        objective.negatives(weights, None, BATCH, generator=generator)
    return time.perf_counter() - begin


def bare(objective: NormalisedObjective, rows: torch.Tensor, updates: int) -> float:
    """Return the seconds of the energies and gradients that these chains contain, without a chain."""
    network, z = objective.network, on_sphere(torch.randn(1, BATCH, LATENT))
    weights = [w.detach() for w in network.weights()]
    x = rows[None, :BATCH]

    def on_manifold(points: torch.Tensor) -> torch.Tensor:
        return network.energy(network.decode(points, weights), weights)

    begin = time.perf_counter()
    for _ in range(updates):
        for _ in range(LATENT_STEPS + 1):
            energy_gradient(on_manifold, z)
        for _ in range(INPUT_STEPS + 1):
            energy_gradient(lambda u: network.energy(u, weights), x)
    return time.perf_counter() - begin


def ours(architecture: str, rows: torch.Tensor, updates: int) -> float:
    """Return the seconds of the second phase of a training, with shuffled batches, Adam, validation and the best epoch kept."""
    objective = objective_of(architecture, rows)
    settings = TrainingSettings(
        max_epochs=1, patience=1, batch_size=BATCH, learning_rate=1e-4, min_steps=updates, max_steps=updates, threads=1
    )
    begin = time.perf_counter()
    train_stack(objective, [rows], [rows[:BATCH]], settings=settings, seed=0, device=torch.device("cpu"))
    return time.perf_counter() - begin


class Plain(torch.nn.Module):
    """The same layers as they are usually written."""

    def __init__(self, architecture: str) -> None:
        super().__init__()
        self.convolved = architecture == "conv"
        layers = []
        for n_in, n_out, kernel in sizes_of(architecture).layers:
            layer = torch.nn.Linear(n_in, n_out) if kernel == 1 else torch.nn.Conv2d(n_in, n_out, kernel, padding=1)
            layers.append(spectral_norm(layer))
        half = len(layers) // 2
        self.down, self.up = torch.nn.ModuleList(layers[:half]), torch.nn.ModuleList(layers[half:])

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Return points of the sphere (b, latent)."""
        y = x.view(-1, 1, SIDE, SIDE) if self.convolved else x
        for number, layer in enumerate(self.down):
            if self.convolved and number == 2:
                y = torch.nn.functional.max_pool2d(y, 2)
            if self.convolved and number == 5:
                y = y.flatten(1)
            y = layer(y)
            y = torch.nn.functional.elu(y) if number < len(self.down) - 1 else y
        return torch.nn.functional.normalize(y, dim=1)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Return images (b, d)."""
        y = z
        for number, layer in enumerate(self.up):
            if self.convolved and number == 2:
                y = y.view(-1, 1, SIDE // 2, SIDE // 2)
            if self.convolved and number == 4:
                y = torch.nn.functional.interpolate(y, scale_factor=2)
            y = layer(y)
            y = torch.nn.functional.elu(y) if number < len(self.up) - 1 else y
        return y.flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return energies (b,)."""
        return (x - self.decode(self.encode(x))).square().mean(dim=1)


def usual_chain(energy: Any, x: torch.Tensor, settings: Langevin, *, sphere: bool) -> torch.Tensor:
    """Return where a chain of Metropolis-adjusted Langevin steps ends that evaluates both ends of every step."""
    temperature = settings.effective_temperature
    for _ in range(settings.steps):
        x = x.detach().requires_grad_()
        value = energy(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        noise = settings.noise * torch.randn_like(x)
        y = (x - settings.step * gradient + noise).detach()
        y = (torch.nn.functional.normalize(y, dim=1) if sphere else y).requires_grad_()
        other = energy(y)
        (behind,) = torch.autograd.grad(other.sum(), y)
        back = (x - y + settings.step * behind).square().sum(dim=1) - noise.square().sum(dim=1)
        log_ratio = (value - other) / temperature - back / (2 * settings.noise**2)
        taken = torch.rand(len(x)).log() < log_ratio
        x = torch.where(taken[:, None], y, x).detach()
    return x


def usual(architecture: str, rows: torch.Tensor, updates: int) -> float:
    """Return the seconds of so many updates of the usual loop."""
    network = Plain(architecture)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    buffer = torch.nn.functional.normalize(torch.randn(REPLAY, LATENT), dim=1)
    unit = float(network(rows).mean().detach())
    length = math.sqrt(unit)

    def on_manifold(z: torch.Tensor) -> torch.Tensor:
        return network(network.decode(z)) / unit

    def around(u: torch.Tensor) -> torch.Tensor:
        return network(length * u) / unit

    begin = time.perf_counter()
    for _ in range(updates):
        batch = rows[torch.randint(len(rows), (BATCH,))]
        chosen = torch.randint(REPLAY, (BATCH,))
        z = buffer[chosen]
        anew = torch.rand(BATCH) < RESTART
        z[anew] = torch.nn.functional.normalize(torch.randn(int(anew.sum()), LATENT), dim=1)
        z = usual_chain(on_manifold, z, LATENT_CHAIN, sphere=True)
        buffer[chosen] = z
        start = network.decode(z).detach() / length
        drawn = length * usual_chain(around, start, INPUT_CHAIN, sphere=False)
        positive, negative = network(batch) / unit, network(drawn) / unit
        loss = (positive - negative + GAMMA * negative.square()).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
    return time.perf_counter() - begin


def run() -> list[dict[str, Any]]:
    """Return chain steps/s against bare passes, and updates/s against the usual loop; medians of rounds in turns."""
    rng = np.random.default_rng(1)
    made = rng.normal(size=(2000, 5)) @ rng.normal(size=(5, SIDE**2)) + 0.1 * rng.normal(size=(2000, SIDE**2))
    rows = torch.from_numpy(made / np.sqrt((made**2).sum(axis=1).mean())).float()
    lines = []
    for architecture, updates in UPDATES.items():
        seconds: dict[str, list[float]] = {"chains": [], "bare": [], "ours": [], "usual": []}
        with few_threads(1):
            objective = objective_of(architecture, rows)
            for _ in range(ROUNDS + 1):  # the first round warms up
                seconds["chains"].append(chains(objective, updates))
                seconds["bare"].append(bare(objective, rows, updates))
                seconds["ours"].append(ours(architecture, rows, updates))
                seconds["usual"].append(usual(architecture, rows, updates))
        middle = {name: float(np.median(times[1:])) for name, times in seconds.items()}
        steps = updates * (LATENT_STEPS + INPUT_STEPS)
        for told, mine, other, count, bar, unit in (
            ("chains of a normalised autoencoder", "chains", "bare", steps, BAR_PASSES, f"steps/s of {BATCH} jets"),
            ("training of a normalised autoencoder", "ours", "usual", updates, BAR_LOOP, f"updates/s of {BATCH} jets"),
        ):
            lines.append(
                {
                    "name": f"{told}, {architecture}, {SIDE}x{SIDE}",
                    "ours": count / middle[mine],
                    "reference": count / middle[other],
                    "ratio": middle[other] / middle[mine],
                    "bar": bar,
                    "unit": unit,
                }
            )
    return lines
