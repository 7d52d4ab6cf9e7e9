"""Autoencoders of whole events as rows of numbers, m of them stacked, with residual layers (arXiv:1901.00875).

A dense layer brings a row to `hidden` numbers; each block is two dense layers, what goes into it added before its last activation; a linear layer gives mean and
log sigma of the latent Gaussian, or the latent point of an autoencoder that is not variational. The decoder is built the same way. Activations are ELU,
first weights normal of variance 1.55 / inputs. The loss is that of arXiv:1901.00875,

    (1 − beta) · MSE + beta · KL,   MSE the mean over the numbers of a row that count, KL the sum over the latent dimensions

so that at beta = 1 nothing is reconstructed. A row is told as (numbers, whether each counts), side by side.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from ..density.autoencoder import kl_of_each

__all__ = ["EventSizes", "StackedEventCoder"]

GAIN = 1.55  # variance of the first weights, times the number of inputs
LOG_LATENT_SIGMA = 8.0  # bound of |log sigma|


@dataclass(frozen=True)
class EventSizes:
    """What a network looks like: numbers of a row, latent dimensions, width and number of blocks; variational: whether it has a latent Gaussian."""

    numbers: int
    latent: int
    hidden: int
    blocks: int
    variational: bool = True

    @property
    def half(self) -> tuple[int, ...]:
        """Widths between the layers of the encoder, without its ends."""
        return (self.hidden,) * (1 + 2 * self.blocks)

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """What goes in and comes out of every layer, the encoder's first."""
        code = 2 * self.latent if self.variational else self.latent
        encoder, decoder = (self.numbers, *self.half, code), (self.latent, *self.half, self.numbers)
        return (*itertools.pairwise(encoder), *itertools.pairwise(decoder))

    @property
    def size(self) -> int:
        """How many numbers the weights and biases of one network hold."""
        return sum((n_in + 1) * n_out for n_in, n_out in self.layers)


class StackedEventCoder(torch.nn.Module):
    """m networks of the same sizes, every parameter (m, ...); beta: see the module, 0 for one that is not variational."""

    def __init__(self, members: int, sizes: EventSizes, *, seed: int, beta: float) -> None:
        super().__init__()
        self.sizes, self.beta = sizes, beta
        generator = torch.Generator().manual_seed(seed)
        self.weights, self.biases = torch.nn.ParameterList(), torch.nn.ParameterList()
        for n_in, n_out in sizes.layers:
            start = torch.randn(members, n_in, n_out, generator=generator) * math.sqrt(GAIN / n_in)
            self.weights.append(torch.nn.Parameter(start))
            self.biases.append(torch.nn.Parameter(torch.zeros(members, 1, n_out)))

    def _layer(self, x: torch.Tensor, layer: int) -> torch.Tensor:
        return torch.baddbmm(self.biases[layer], x, self.weights[layer])

    def _half(self, x: torch.Tensor, first: int) -> torch.Tensor:
        """Run one half of the network, from the layer `first` on."""
        y = functional.elu(self._layer(x, first))
        for layer in range(first + 1, first + 1 + 2 * self.sizes.blocks, 2):
            inner = functional.elu(self._layer(y, layer))
            y = functional.elu(self._layer(inner, layer + 1) + y)
        return self._layer(y, first + 1 + 2 * self.sizes.blocks)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return mean and log sigma (m, b, latent) of rows x (m, b, numbers); the latent point and None where it is not variational."""
        y = self._half(x, 0)
        if not self.sizes.variational:
            return y, None
        mu, raw = y.chunk(2, dim=-1)
        return mu, LOG_LATENT_SIGMA * torch.tanh(raw / LOG_LATENT_SIGMA)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Return rows (m, b, numbers) of latent points z (m, b, latent)."""
        return self._half(z, len(self.weights) // 2)

    def losses(self, x: torch.Tensor, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        """Return the loss (m, b) of rows and what counts of them, x (m, b, 2 · numbers), with one latent draw."""
        del progress
        rows, counted = x.chunk(2, dim=-1)
        mu, log_sigma = self.encode(rows)
        if log_sigma is None:
            return squared_error(self.decode(mu), rows, counted)
        draw = torch.randn(mu.shape, generator=generator, device=x.device, dtype=x.dtype)
        error = squared_error(self.decode(mu + torch.exp(log_sigma) * draw), rows, counted)
        return (1 - self.beta) * error + self.beta * kl_of_each(mu, log_sigma).sum(dim=-1)


def squared_error(made: torch.Tensor, rows: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Return the mean square (m, b) of the differences of the numbers (m, b, numbers) that count."""
    return ((made - rows).square() * counted).sum(dim=-1) / counted.sum(dim=-1)
