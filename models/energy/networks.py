"""Autoencoders whose latent space is a sphere, m of them stacked: what the energy of a normalised autoencoder is made of.

The encoder ends in a point of the unit sphere, z / |z|. "dense": layers of `hidden`, half of it, and the latent space, and back. "conv", of images
(arXiv:2206.14225): convolutions 3×3 of c channels, 1→c→c, a pooling of 2×2, c→c→c→1, dense layers to `hidden` and the latent space; and back,
with the nearest pixel repeated in place of the pooling. Activations are ELU (arXiv:1511.07289): chains follow gradients, which are continuous
with it. The last layer is linear, since coordinates are centred (`coordinates.py`).

Every layer's weights are divided by their largest singular value (arXiv:1802.05957) and multiplied by `lipschitz`, the same for all; a
convolution's as the matrix (out, in · 9). The singular vectors come from one step of the power method after each step of the training and are buffers: they are
part of the state. The weights of a chain are computed once for all its steps.

    E(x) = Σ_k (x_k − x'_k)² / d, the mean over all d numbers; of sets only over those of slots that are filled, still divided by d
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from .langevin import on_sphere

__all__ = ["ARCHITECTURES", "Sizes", "SphereAutoencoder", "Weights"]

ARCHITECTURES = ("dense", "conv")
KERNEL = 3
GAIN = 1.5  # of the first weights where nothing normalises them: ELU shrinks what passes
BIAS = 0.5  # length of the first biases of a dense layer: inputs have a length around one
POWER_STEPS = 20  # of the first singular vectors
TINY = 1e-12

Weights = Sequence[torch.Tensor]


@dataclass(frozen=True)
class Sizes:
    """What a network looks like.

    numbers: d of one input; slots: of sets, 0 for what has none; latent: dimensions of the space around the sphere; hidden: of the dense layers;
    height, width, channels: of images that are convolved, else 0.
    """

    numbers: int
    latent: int
    hidden: int
    slots: int = 0
    height: int = 0
    width: int = 0
    channels: int = 0

    @property
    def coarse(self) -> int:
        """Pixels after the pooling."""
        return (self.height // 2) * (self.width // 2)

    @property
    def size(self) -> int:
        """How many numbers the weights and biases of one network hold."""
        return sum(n_in * n_out * kernel**2 + n_out for n_in, n_out, kernel in self.layers)

    @property
    def layers(self) -> tuple[tuple[int, int, int], ...]:
        """In, out and kernel (1 of a dense layer) of all layers, those of the encoder first: as many as of the decoder."""
        h, z = self.hidden, self.latent
        if not self.channels:
            half = max(h // 2, 2)
            first = self.numbers + self.slots
            return ((first, h, 1), (h, half, 1), (half, z, 1), (z, half, 1), (half, h, 1), (h, self.numbers, 1))
        c, k, flat = self.channels, KERNEL, self.coarse
        down = ((1, c, k), (c, c, k), (c, c, k), (c, c, k), (c, 1, k), (flat, h, 1), (h, z, 1))
        up = ((z, h, 1), (h, flat, 1), (1, c, k), (c, c, k), (c, c, k), (c, c, k), (c, 1, k))
        return down + up


class SphereAutoencoder(torch.nn.Module):
    """m autoencoders of the same sizes, every parameter and buffer (m, ...).

    lipschitz: largest singular value of each layer's weights, 0 for weights as they are.
    """

    def __init__(self, members: int, sizes: Sizes, *, seed: int, lipschitz: float = 1.0) -> None:
        super().__init__()
        self.members, self.sizes, self.lipschitz = members, sizes, lipschitz
        generator = torch.Generator().manual_seed(seed)
        self.raw, self.biases = torch.nn.ParameterList(), torch.nn.ParameterList()
        last = len(sizes.layers) - 1
        for number, (n_in, n_out, kernel) in enumerate(sizes.layers):
            if kernel == 1:
                shape: tuple[int, ...] = (members, n_in, n_out)
                bias: tuple[int, ...] = (members, 1, n_out)
            else:
                shape, bias = (members, n_out, n_in, kernel, kernel), (members, n_out)
            start = GAIN * torch.randn(shape, generator=generator) / math.sqrt(n_in * kernel**2)
            self.raw.append(torch.nn.Parameter(start))
            # without biases the mean of the inputs has no direction on the sphere, and what is close to it goes to all sides
            size = 0.0 if kernel > 1 or number == last else BIAS / math.sqrt(n_out)
            self.biases.append(torch.nn.Parameter(size * torch.randn(bias, generator=generator)))
        if lipschitz > 0:
            for number, weight in enumerate(self.raw):
                vector = torch.randn((members, matrix_of(weight).shape[1]), generator=generator)
                self.register_buffer(f"singular{number}", functional.normalize(vector, dim=-1))
            for _ in range(POWER_STEPS):
                self.power_step()

    @property
    def depth(self) -> int:
        """Layers of the encoder, which are as many as those of the decoder."""
        return len(self.raw) // 2

    @torch.no_grad()
    def power_step(self) -> None:
        """Bring the singular vectors of all layers closer to those of the largest singular values; buffers are replaced, not written to."""
        if self.lipschitz <= 0:
            return
        for number, weight in enumerate(self.raw):
            matrix, left = matrix_of(weight), self._buffers[f"singular{number}"]
            assert left is not None
            right = functional.normalize(torch.bmm(left[:, None], matrix)[:, 0], dim=-1)
            self._buffers[f"singular{number}"] = functional.normalize(
                torch.bmm(matrix, right[..., None])[..., 0], dim=-1
            )

    def weights(self) -> list[torch.Tensor]:
        """Return the weights of all layers as they are applied, with a graph where there is one."""
        if self.lipschitz <= 0:
            return list(self.raw)
        found = []
        for number, weight in enumerate(self.raw):
            matrix, left = matrix_of(weight), self._buffers[f"singular{number}"]
            assert left is not None
            with torch.no_grad():
                right = functional.normalize(torch.bmm(left[:, None], matrix)[:, 0], dim=-1)
            largest = torch.bmm(torch.bmm(left[:, None], matrix), right[..., None])
            found.append(weight * (self.lipschitz / largest).reshape(-1, *(1,) * (weight.dim() - 1)))
        return found

    def encode(self, x: torch.Tensor, weights: Weights, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return points of the sphere (m, b, latent) of inputs x (m, b, d); mask: (m, b, d) of sets, 1 where a slot is filled."""
        sizes, last = self.sizes, self.depth - 1
        if not sizes.channels:
            y = x
            if mask is not None:
                y = torch.cat([x * mask, mask[..., :: sizes.numbers // sizes.slots]], dim=-1)
            for layer in range(last):
                y = functional.elu(self._dense(y, layer, weights))
            return on_sphere(self._dense(y, last, weights))
        m, b, _ = x.shape
        y = x.transpose(0, 1).reshape(b, m, sizes.height, sizes.width)
        y = functional.elu(self._convolve(functional.elu(self._convolve(y, 0, weights)), 1, weights))
        y = functional.max_pool2d(y, 2)
        for layer in (2, 3, 4):
            y = functional.elu(self._convolve(y, layer, weights))
        y = y.reshape(b, m, -1).transpose(0, 1)
        y = functional.elu(self._dense(y, 5, weights))
        return on_sphere(self._dense(y, 6, weights))

    def decode(self, z: torch.Tensor, weights: Weights) -> torch.Tensor:
        """Return outputs (m, b, d) of points of the sphere z (m, b, latent); of sets all slots are filled."""
        sizes, first = self.sizes, self.depth
        y = z
        if not sizes.channels:
            for layer in range(first, 2 * first - 1):
                y = functional.elu(self._dense(y, layer, weights))
            return self._dense(y, 2 * first - 1, weights)
        m, b, _ = z.shape
        for layer in (first, first + 1):
            y = functional.elu(self._dense(y, layer, weights))
        y = y.transpose(0, 1).reshape(b, m, sizes.height // 2, sizes.width // 2)
        for layer in (first + 2, first + 3):
            y = functional.elu(self._convolve(y, layer, weights))
        y = functional.interpolate(y, scale_factor=2, mode="nearest")
        for layer in (first + 4, first + 5):
            y = functional.elu(self._convolve(y, layer, weights))
        y = self._convolve(y, first + 6, weights)
        return y.reshape(b, m, -1).transpose(0, 1)

    def energy(self, x: torch.Tensor, weights: Weights, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return the energies (m, b) of inputs x (m, b, d)."""
        off = x - self.decode(self.encode(x, weights, mask), weights)
        if mask is not None:
            off = off * mask
        return off.square().mean(dim=-1)

    def _dense(self, x: torch.Tensor, layer: int, weights: Weights) -> torch.Tensor:
        return torch.baddbmm(self.biases[layer], x, weights[layer])

    def _convolve(self, x: torch.Tensor, layer: int, weights: Weights) -> torch.Tensor:
        """Return the convolution (b, m · out, height, width) of x (b, m · in, height, width), channels last in memory.

        With so few channels the gradient of x takes a quarter of the time so, and the pooling a tenth.
        """
        weight = weights[layer]
        members, kernels = weight.shape[0], weight.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        y = x.contiguous(memory_format=torch.channels_last)
        return functional.conv2d(y, kernels, self.biases[layer].flatten(), padding=KERNEL // 2, groups=members)


def matrix_of(weight: torch.Tensor) -> torch.Tensor:
    """Return the weights (m, ...) of a layer as matrices (m, rows, columns)."""
    return weight.flatten(2)
