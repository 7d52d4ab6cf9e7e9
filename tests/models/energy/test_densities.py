"""Densities that are learned against those that are true: two moons and eight Gaussians, on a grid on which both are normalised."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hunch.models import NAE

EDGE, CELLS = 4.0, 121
ARC = (np.arange(100) + 0.5) / 100 * np.pi
UPPER = 1.6 * np.stack([np.cos(ARC) - 0.5, np.sin(ARC) - 0.25], axis=1)
CIRCLE = np.arange(8) * np.pi / 4
DENSITIES = {  # centres of Gaussians, and their spread
    "moons": (np.concatenate([UPPER, -UPPER]), 0.2),
    "ring": (2.0 * np.stack([np.cos(CIRCLE), np.sin(CIRCLE)], axis=1), 0.3),
}
OPTIONS: dict[str, Any] = {
    "inputs": "rows",
    "device": "cpu",
    "hidden": 64,
    "lipschitz": 3.0,
    "max_epochs": 6,
    "nae_epochs": 30,
    "nae_learning_rate": 1e-3,
    "gamma": 0.01,
    "latent_steps": 1,
    "latent_step": 0.05,
    "input_steps": 12,
    "input_step": 0.6,
    "input_noise": 1.4,
    "input_temperature": 1.0,
    "clip": 4.0,
    "replay": 1000,
    "input_replay": True,
    "restart": 0.05,
}
QUICK = OPTIONS | {"hidden": 32, "batch_size": 128, "replay": 500, "input_steps": 10}
QUICK |= {"max_epochs": 3, "nae_epochs": 6, "nae_learning_rate": 2e-3}


def drawn(name: str, n: int) -> np.ndarray:
    centres, spread = DENSITIES[name]
    rng = np.random.default_rng(1)
    return centres[rng.integers(len(centres), size=n)] + spread * rng.normal(size=(n, 2))


class Truth:
    """A density on a grid, each cell with its probability."""

    def __init__(self, name: str) -> None:
        centres, spread = DENSITIES[name]
        axis = np.linspace(-EDGE, EDGE, CELLS)
        self.grid = np.stack([part.ravel() for part in np.meshgrid(axis, axis)], axis=1)
        self.cell = (axis[1] - axis[0]) ** 2
        distances = ((self.grid[:, None] - centres) ** 2).sum(axis=2)
        self.p = self.normalised(np.exp(-distances / (2 * spread**2)).mean(axis=1))
        self.entropy = -float((self.p * np.log(np.maximum(self.p, 1e-300))).sum()) + np.log(self.cell)

    @staticmethod
    def normalised(values: np.ndarray) -> np.ndarray:
        return np.asarray(values / values.sum())

    def of_energies(self, energies: np.ndarray, temperature: float) -> np.ndarray:
        return self.normalised(np.exp(-(energies - energies.min()) / temperature))

    def mean_loss(self, q: np.ndarray) -> float:
        """Return the mean of −log q in nats, the entropy or more."""
        return -float((self.p * np.log(np.maximum(q, 1e-300))).sum()) + np.log(self.cell)

    def variation(self, q: np.ndarray) -> float:
        """Return the total variation distance, 0 to 1."""
        return 0.5 * float(np.abs(self.p - q).sum())

    def gaussian(self, x: np.ndarray) -> np.ndarray:
        off = self.grid - x.mean(axis=0)
        return self.normalised(np.exp(-0.5 * np.einsum("ni,ij,nj->n", off, np.linalg.inv(np.cov(x.T)), off)))


def compared(name: str, options: dict[str, Any], *, n: int, seed: int = 0) -> tuple[Truth, NAE, dict[str, float]]:
    """Train on n rows of a density; return −log p of the truth under what is learned, at the temperature of the chains, and under others."""
    truth, x = Truth(name), drawn(name, n)
    nae = NAE(seed=seed, **options).fit(x)
    temperature = nae.training_["temperatures"]["input"] * nae.training_["unit"]
    energies, plain = nae.score(truth.grid), nae.score(truth.grid, metric="autoencoder")
    tries = temperature * np.geomspace(0.1, 10, 41)
    learned = truth.of_energies(energies, temperature)
    found = {
        "learned": truth.mean_loss(learned),
        "variation": truth.variation(learned),
        "at its best temperature": min(truth.mean_loss(truth.of_energies(energies, t)) for t in tries),
        "autoencoder": truth.mean_loss(truth.of_energies(plain, temperature)),
        "autoencoder at its best": min(truth.mean_loss(truth.of_energies(plain, t)) for t in tries),
        "gaussian": truth.mean_loss(truth.gaussian(x)),
    }
    return truth, nae, found


def test_a_short_training_already_is_nearer_to_two_moons_than_any_autoencoder() -> None:
    truth, _, found = compared("moons", QUICK, n=3000)
    assert truth.entropy < found["learned"] < truth.entropy + 0.38
    assert found["learned"] < found["autoencoder at its best"] - 0.1
    assert found["learned"] < found["autoencoder"] - 0.2
    assert found["learned"] < found["gaussian"] - 0.3
    assert found["variation"] < 0.33


BARS = {  # nats above the entropy, total variation, nats below the autoencoder at its best temperature
    "moons": (0.12, 0.2, 0.2),
    "ring": (0.29, 0.32, 0.04),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DENSITIES)
def test_the_learned_density_is_the_true_one(name: str) -> None:
    truth, nae, found = compared(name, OPTIONS, n=5000)
    nats, variation, better = BARS[name]
    assert truth.entropy < found["learned"] < truth.entropy + nats
    assert found["variation"] < variation
    assert found["learned"] < found["autoencoder at its best"] - better
    assert found["learned"] < found["autoencoder"] - 0.2
    assert found["learned"] < found["gaussian"] - 0.5
    # the temperature is that of the chains, and no other one does better
    assert found["learned"] < found["at its best temperature"] + 0.03

    # what the chains draw has the energies of the density, and is where the data are
    temperature = nae.training_["temperatures"]["input"] * nae.training_["unit"]
    energies = nae.score(truth.grid)
    expected = float((truth.of_energies(energies, temperature) * energies).sum())
    made = nae.sample(1000, seed=1)
    assert nae.score(made).mean() == pytest.approx(expected, rel=0.2)
    centres, spread = DENSITIES[name]
    nearest = np.sqrt(((made[:, None] - centres) ** 2).sum(axis=2)).min(axis=1)
    assert (nearest < 3 * spread).mean() > 0.9
    # every mode, or an eighth of the arcs, has its part
    parts = np.array_split(np.arange(len(centres)), 8)
    closest = ((made[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    shares = np.array([np.isin(closest, part).mean() for part in parts])
    assert shares.min() > 0.04
    assert shares.max() < 0.25
