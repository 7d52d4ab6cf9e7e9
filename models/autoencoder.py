"""Variational autoencoders on tables as density models, m of them stacked, in one common space.

Each member is trained on its own sample to the evidence lower bound of log p(x) in nats (arXiv:1312.6114): a Gaussian
likelihood whose mean and per-feature noise both come from the decoder, and the KL divergence of the latent space.
Scores take the likelihood at the latent mean, without a draw: they are deterministic, and lie below −log p(x) by
about half a nat a used latent dimension, which is nearly the same for all events and members.
Noise of fixed size 1 would make the reconstruction error a distance, not a log-density, and losses of two
models could not be compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .preprocessing import ColumnMap, dequantise, fit_column_map, map_columns
from .training import TrainingSettings, few_threads, resolve_device, train_stack

__all__ = ["DensityStack", "StackedVae", "fit_densities", "gaussian_kl", "split_rows"]

Matrix = npt.NDArray[np.float64]

NOISE = (0.05, 2.0)  # allowed noise, in units of the sample's own spread: no spike on a repeated value is unbounded
LOG_LATENT_SIGMA = 5.0  # bound of |log sigma − start| of the encoder
MIN_SPREAD = 1e-2  # smallest spread of a sample along any direction, in the background's standard deviations
KL_WARM_UP = 0.1  # part of the training over which the KL term is switched on, against an unused latent space
SCORE_ROWS = 4096  # rows a step of scoring: fixed, so that scores do not depend on how many rows come at once
SCORE_THREADS = 4  # never above the cores, nor above what the caller set torch to
VALIDATION_PART = 0.15
MIN_VALIDATION, MAX_VALIDATION = 20, 20_000


def gaussian_kl(mu: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
    """Return KL(N(mu, sigma²) ‖ N(0, 1)) in nats, summed over the last axis.

    >>> round(gaussian_kl(torch.tensor([1.0]), torch.tensor([0.5]).log()).item(), 6)
    0.818147
    """
    return (0.5 * (mu.square() + torch.exp(2 * log_sigma) - 1) - log_sigma).sum(dim=-1)


class StackedVae(torch.nn.Module):
    """m autoencoders d → hidden → hidden → latent → hidden → hidden → d, every parameter (m, ...)."""

    def __init__(self, members: int, features: int, latent: int, hidden: int, *, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        widths = [(features, hidden), (hidden, hidden), (hidden, 2 * latent)]
        widths += [(latent, hidden), (hidden, hidden), (hidden, 2 * features)]
        self.weights = torch.nn.ParameterList()
        self.biases = torch.nn.ParameterList()
        for layer, (n_in, n_out) in enumerate(widths):
            scale = (0.5 if layer in (2, 5) else 1.0) / math.sqrt(n_in)
            start = scale * torch.randn(members, n_in, n_out, generator=generator)
            self.weights.append(torch.nn.Parameter(start))
            self.biases.append(torch.nn.Parameter(torch.zeros(members, 1, n_out)))

    def _layers(self, x: torch.Tensor, first: int) -> torch.Tensor:
        """Run three layers; tanh keeps the outputs bounded, so a far outlier is never reconstructed by extrapolation."""
        for layer in (first, first + 1):
            x = torch.tanh(torch.baddbmm(self.biases[layer], x, self.weights[layer]))
        return torch.baddbmm(self.biases[first + 2], x, self.weights[first + 2])

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log sigma (m, b, latent) of the latent Gaussian of x (m, b, d)."""
        mu, raw = self._layers(x, 0).chunk(2, dim=-1)
        return mu, LOG_LATENT_SIGMA * torch.tanh((raw - 1.0) / LOG_LATENT_SIGMA)

    def decode(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log noise (m, b, d) of the features given the latent z (m, b, latent)."""
        mean, raw = self._layers(z, 3).chunk(2, dim=-1)
        low, high = (math.log(bound) for bound in NOISE)
        return mean, low + (high - low) * torch.sigmoid(raw)

    def reconstruction(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Return −log p(x | z) (m, b) in nats."""
        mean, log_noise = self.decode(z)
        pull = (x - mean) * torch.exp(-log_noise)
        return (0.5 * pull.square() + log_noise + 0.5 * math.log(2 * math.pi)).sum(dim=-1)

    def losses(self, x: torch.Tensor, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        """Return the negative evidence lower bound (m, b) with one latent draw; the KL term warms up."""
        mu, log_sigma = self.encode(x)
        draw = torch.randn(mu.shape, generator=generator, device=mu.device, dtype=mu.dtype)
        z = mu + torch.exp(log_sigma) * draw
        return self.reconstruction(x, z) + min(1.0, progress / KL_WARM_UP) * gaussian_kl(mu, log_sigma)


@dataclass(frozen=True)
class DensityStack:
    """m fitted density models over one column map.

    columns: the map, fitted on the first sample; centre (m, d), whiten (m, d, d): where each sample lies in mapped
    space and how it spreads, its log-determinant (m,) part of the loss, so that densities stay those of one space;
    network: in float64 on the CPU.
    """

    columns: ColumnMap
    centre: Matrix
    whiten: Matrix
    log_det: Matrix
    network: StackedVae

    @torch.no_grad()
    def terms(self, x: Matrix) -> dict[str, Matrix]:
        """Return `reconstruction` and `kl` (n, m) in nats at the latent mean; their sum is the loss.

        `reconstruction` includes the log-Jacobian of the column map and each member's own scale.
        x: (n, d) finite.
        """
        with few_threads(SCORE_THREADS):
            return self._terms(x)

    def _terms(self, x: Matrix) -> dict[str, Matrix]:
        members = len(self.centre)
        reconstruction, kl = np.empty((len(x), members)), np.empty((len(x), members))
        for first in range(0, len(x), SCORE_ROWS):
            part = slice(first, first + SCORE_ROWS)
            mapped, log_jacobian = map_columns(self.columns, x[part])
            rows = torch.from_numpy(whitened(mapped, self.centre, self.whiten))
            mu, log_sigma = self.network.encode(rows)
            log_density = self.network.reconstruction(rows, mu).numpy().T
            reconstruction[part] = log_density - self.log_det - log_jacobian[:, None]
            kl[part] = gaussian_kl(mu, log_sigma).numpy().T
        return {"reconstruction": reconstruction, "kl": kl}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return everything fitted as named tensors."""
        arrays = {name: getattr(self.columns, name) for name in ColumnMap.__dataclass_fields__}
        arrays |= {"centre": self.centre, "whiten": self.whiten, "log_det": self.log_det}
        found = {f"density.{name}": torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}
        return found | {f"network.{name}": p.detach() for name, p in self.network.named_parameters()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> DensityStack:
        """Rebuild from `tensors()`; KeyError or RuntimeError where they do not fit."""
        columns = ColumnMap(**{name: tensors[f"density.{name}"].numpy() for name in ColumnMap.__dataclass_fields__})
        first, last = tensors["network.weights.0"], tensors["network.weights.2"]
        members, features, hidden = first.shape
        network = StackedVae(members, features, last.shape[2] // 2, hidden, seed=0).double()
        network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
        centre, whiten, log_det = (tensors[f"density.{name}"].numpy() for name in ("centre", "whiten", "log_det"))
        return cls(columns, centre, whiten, log_det, network)


def whitened(mapped: Matrix, centre: Matrix, whiten: Matrix) -> Matrix:
    """Return mapped rows (n, d) as each member sees them (m, n, d)."""
    seen: Matrix = np.einsum("mnd,mde->mne", mapped[None] - centre[:, None], whiten)
    return seen


def fit_whitening(mapped: Matrix) -> tuple[Matrix, Matrix, float]:
    """Return centre (d,), whitening (d, d) and log|det| of one sample's mapped rows (n, d).

    A member's own coordinates, not its own scaling: the log-determinant enters the loss, so losses stay densities of
    the common space. Without it a prior that fills a corner of the background's range would have to be learned there.
    """
    centre = mapped.mean(axis=0)
    covariance = np.atleast_2d(np.cov(mapped, rowvar=False))
    variances, axes = np.linalg.eigh(covariance)
    spread = np.sqrt(np.maximum(variances, MIN_SPREAD**2))
    return centre, axes / spread, -float(np.log(spread).sum())


def split_rows(x: Matrix, rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    """Split a sample (n, d) into training and validation rows by a random order."""
    n_held = min(max(int(VALIDATION_PART * len(x)), MIN_VALIDATION), MAX_VALIDATION)
    order = rng.permutation(len(x))
    return x[order[n_held:]], x[order[:n_held]]


def fit_densities(
    samples: Sequence[Matrix],
    validation: Sequence[Matrix | None],
    *,
    latent: int | None,
    hidden: int,
    settings: TrainingSettings,
    seed: int,
    device: str,
    checkpoint: str | Path | None = None,
    progress: bool = False,
) -> tuple[DensityStack, dict[str, Any]]:
    """Fit one density model to each sample (n_k, d), the column map on the first; return them and the record.

    validation: rows for early stopping, or None to split them off. latent: None for min(d, 8).
    """
    target = resolve_device(device)
    # A generator for each sample: a member's split does not depend on which others there are.
    rngs = [np.random.default_rng([seed, k]) for k in range(len(samples))]
    pairs = [
        split_rows(x, rng) if held is None else (x, held)
        for x, held, rng in zip(samples, validation, rngs, strict=True)
    ]
    columns = fit_column_map(pairs[0][0], rngs[0])
    mapped = [
        tuple(map_columns(columns, dequantise(part, columns.integer, rng))[0] for part in pair)
        for pair, rng in zip(pairs, rngs, strict=True)
    ]
    fits = [fit_whitening(train) for train, _ in mapped]
    centre, whiten = np.stack([f[0] for f in fits]), np.stack([f[1] for f in fits])
    own = [
        [torch.from_numpy((rows - c) @ w).float() for rows in pair]
        for pair, (c, w, _) in zip(mapped, fits, strict=True)
    ]
    features = columns.n_columns
    network = StackedVae(len(samples), features, latent or min(features, 8), hidden, seed=seed)
    record = train_stack(
        network,
        network,
        [train for train, _ in own],
        [held for _, held in own],
        settings=settings,
        seed=seed,
        device=target,
        checkpoint=checkpoint,
        progress=progress,
    )
    # Scores are float64 on the CPU wherever the training ran: the same on every machine, whatever comes in one batch.
    network.to("cpu").double().requires_grad_(requires_grad=False)
    return DensityStack(columns, centre, whiten, np.array([f[2] for f in fits]), network), record
