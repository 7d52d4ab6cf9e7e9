"""Variational autoencoders on jets as fixed lists of constituents, m of them stacked (arXiv:2007.01850).

A jet is k slots of c numbers, the hardest constituent first, empty slots zero. "dense" reads all k c numbers at once:
k c → 256 → 128 → 64 → (mu, log sigma) and back, ReLU between the layers, the last one linear. "lstm" reads one constituent after
another: LSTM(50) → LSTM(latent), whose last state gives mu and log sigma, and a decoder that repeats z for every slot: LSTM(50) →
LSTM(c).

    loss = mean over all k c numbers of (x' − x)² + beta · KL,   KL the mean over the latent dimensions

The mean of the KL is the convention of the paper's published code: its beta of 0.1 is 0.01 of a sum over ten dimensions.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch

from ..density.autoencoder import kl_of_each
from ..train.exposure import Parts

__all__ = ["ARCHITECTURES", "SetSizes", "StackedSetVae"]

ARCHITECTURES = ("dense", "lstm")
WIDTHS = (256, 128, 64)
LSTM_WIDTH = 50
LOG_LATENT_SIGMA = 5.0  # bound of |log sigma|
GATES = 4


@dataclass(frozen=True)
class SetSizes:
    """What a network looks like: slots and numbers of a constituent, latent dimensions, one of ARCHITECTURES."""

    slots: int
    numbers: int
    latent: int = 10
    architecture: str = "dense"

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """What goes in and comes out of every layer; an LSTM has its input and its state side by side, and four gates in torch's order."""
        features = self.slots * self.numbers
        if self.architecture == "dense":
            widths = (features, *WIDTHS, 2 * self.latent)
            back = (self.latent, *WIDTHS[::-1], features)
            return (*itertools.pairwise(widths), *itertools.pairwise(back))
        return (
            (self.numbers + LSTM_WIDTH, GATES * LSTM_WIDTH),
            (LSTM_WIDTH + self.latent, GATES * self.latent),
            (self.latent, 2 * self.latent),
            (self.latent + LSTM_WIDTH, GATES * LSTM_WIDTH),
            (LSTM_WIDTH + self.numbers, GATES * self.numbers),
            # an LSTM's output lies between -1 and 1: a linear layer brings it to the scale of the inputs
            (self.numbers, self.numbers),
        )


class StackedSetVae(torch.nn.Module):
    """m networks of the same sizes, every parameter (m, ...); beta: see the module."""

    def __init__(self, members: int, sizes: SetSizes, *, seed: int, beta: float = 0.1) -> None:
        super().__init__()
        self.sizes, self.beta = sizes, beta
        generator = torch.Generator().manual_seed(seed)
        self.weights, self.biases = torch.nn.ParameterList(), torch.nn.ParameterList()
        for n_in, n_out in sizes.layers:
            start = torch.randn(members, n_in, n_out, generator=generator) * math.sqrt(1.0 / n_in)
            self.weights.append(torch.nn.Parameter(start))
            self.biases.append(torch.nn.Parameter(torch.zeros(members, 1, n_out)))

    def _layer(self, x: torch.Tensor, layer: int) -> torch.Tensor:
        return torch.baddbmm(self.biases[layer], x, self.weights[layer])

    def _dense(self, x: torch.Tensor, first: int) -> torch.Tensor:
        """Run len(WIDTHS) layers with ReLU and a linear one."""
        for layer in range(first, first + len(WIDTHS)):
            x = torch.relu(self._layer(x, layer))
        return self._layer(x, first + len(WIDTHS))

    def _lstm(self, x: torch.Tensor, layer: int) -> torch.Tensor:
        """Return the states (m, b, slots, width) of an LSTM that reads x (m, b, slots, i).

        The members go one after another through torch's own kernel, which takes a time step in less than a stack of products does.
        """
        found = []
        for member, weight, bias in zip(x, self.weights[layer], self.biases[layer], strict=True):
            start = x.new_zeros(1, x.shape[1], len(bias[0]) // GATES)
            from_input, from_state = weight.t().split([x.shape[3], start.shape[2]], dim=1)
            weights = [from_input.contiguous(), from_state.contiguous(), bias[0], torch.zeros_like(bias[0])]
            states, _, _ = torch.lstm(member, (start, start), weights, True, 1, 0.0, self.training, False, True)
            found.append(states)
        return torch.stack(found)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log sigma (m, b, latent) of the latent Gaussian of jets x (m, b, slots · numbers)."""
        if self.sizes.architecture == "dense":
            y = self._dense(x, 0)
        else:
            sets = x.view(*x.shape[:2], self.sizes.slots, self.sizes.numbers)
            y = self._layer(self._lstm(self._lstm(sets, 0), 1)[:, :, -1], 2)
        mu, raw = y.chunk(2, dim=-1)
        return mu, LOG_LATENT_SIGMA * torch.tanh(raw / LOG_LATENT_SIGMA)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Return jets (m, b, slots · numbers) given the latent z (m, b, latent)."""
        if self.sizes.architecture == "dense":
            return self._dense(z, len(WIDTHS) + 1)
        repeated = z[:, :, None].expand(-1, -1, self.sizes.slots, -1)
        states = self._lstm(self._lstm(repeated, 3), 4)
        return self._layer(states.flatten(1, 2), 5).reshape(*z.shape[:2], -1)

    def parts(self, x: torch.Tensor, *, generator: torch.Generator) -> Parts:
        """Return error and KL of jets x (m, b, slots · numbers) with one latent draw."""
        mu, log_sigma = self.encode(x)
        draw = torch.randn(mu.shape, generator=generator, device=x.device, dtype=x.dtype)
        made = self.decode(mu + torch.exp(log_sigma) * draw)
        return Parts((made - x).square().mean(dim=-1), kl_of_each(mu, log_sigma))

    def loss_of(self, parts: Parts, *, progress: float) -> torch.Tensor:
        """Return the loss (m, b); there is no warm-up, as in the published code."""
        del progress
        return parts.error + self.beta * parts.kl.mean(dim=-1)

    def terms(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return error and beta · KL (m, b) of jets at the latent mean, whose sum is the score."""
        mu, log_sigma = self.encode(x)
        error = (self.decode(mu) - x).square().mean(dim=-1)
        return error, self.beta * kl_of_each(mu, log_sigma).mean(dim=-1)

    def losses(self, x: torch.Tensor, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        """Return the loss (m, b) of jets x (m, b, slots · numbers)."""
        return self.loss_of(self.parts(x, generator=generator), progress=progress)
