"""Convolutional variational autoencoders on jet images, m of them stacked (arXiv:2110.06948).

The encoder has `blocks` down-samplings, each of convolutions 3×3, ELU (arXiv:1511.07289) and an average pooling that
halves the image; a dense layer leads to the mean and log sigma of the latent Gaussian. The decoder mirrors it, with
the nearest pixel repeated in place of the pooling, and ends in a softmax over all pixels: a reconstruction is an image that holds no negative pixel
and sums to one, as the inputs do, so that every loss below, and transport, can be asked of any network.

    loss = (1 − β) · reconstruction + β · KL(q(z|x) ‖ N(0, 1)), the KL summed over the latent dimensions

reconstruction: the mean power error Σ|x − x'|^α / N_pix, or Wass(p) (`grid_transport.py`). A mean over 1,600 pixels of
images that sum to one is 1e-6 to 1e-4, hence β of 1e-8 and 1e-7: against a summed error the same β is 1,600 times
larger. At β = 1 nothing is reconstructed. In training the loss is multiplied by a constant that makes the error of the average image 1,
since Adam (arXiv:1412.6980) ignores gradients below its 1e-8.

Grouped convolutions serve all members at once: images (m, b, k) go through as (b, m · channels, height, width).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from ..density.autoencoder import kl_of_each
from ..distance.grid_transport import GridTransport
from ..train.exposure import Parts

__all__ = ["ConvSizes", "StackedConvVae", "mean_power_error"]

LOG_LATENT_SIGMA = 5.0  # bound of |log sigma|
KL_WARM_UP = 0.1  # part of the training over which the KL term is switched on
KERNEL = 3
TRANSPORTED_ROWS = 128  # images whose transport is computed at once: their costs take 0.4 MB each at 40 x 40
GAIN = 1.5  # of the first weights: ELU and pooling shrink what passes


def mean_power_error(x: torch.Tensor, y: torch.Tensor, alpha: float) -> torch.Tensor:
    """Return the mean over the last axis of |x − y|^alpha: 1 is the MAE, 2 the MSE."""
    return (x - y).abs().pow(alpha).mean(dim=-1)


@dataclass(frozen=True)
class ConvSizes:
    """What a network looks like.

    height, width: of the images, multiples of 2^blocks; blocks: down-samplings; convolutions: in each of them;
    channels: of every convolution; hidden: of the dense layer; latent: dimensions.
    """

    height: int
    width: int
    blocks: int = 2
    convolutions: int = 1
    channels: int = 16
    hidden: int = 64
    latent: int = 16

    @property
    def coarse(self) -> tuple[int, int]:
        """Return height and width after all down-samplings."""
        return self.height // 2**self.blocks, self.width // 2**self.blocks

    @property
    def size(self) -> tuple[int, int]:
        """How many arrays the parameters of one network are, and how many numbers they hold."""
        flat, inner = self.channels * math.prod(self.coarse), self.blocks * self.convolutions
        one, more = KERNEL**2 * self.channels, KERNEL**2 * self.channels**2 + self.channels
        dense = (flat + 1) * self.hidden + (self.hidden + 1) * 2 * self.latent
        dense += (self.latent + 1) * self.hidden + (self.hidden + 1) * flat
        return 4 * (inner + 1) + 6, (one + self.channels) + (one + 1) + (2 * inner - 1) * more + dense


class StackedConvVae(torch.nn.Module):
    """m networks of the same sizes, every parameter (m, ...).

    transport: p of Wass(p) as the reconstruction loss, None for the mean power error with this alpha; blur: see `GridTransport`;
    beta: see the module; scale: what the loss is multiplied with in training.
    """

    def __init__(
        self,
        members: int,
        sizes: ConvSizes,
        *,
        seed: int,
        alpha: float = 2.0,
        transport: float | None = None,
        blur: float = 0.1,
        pixel: float = 1.0,
        beta: float = 1e-8,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.members, self.sizes = members, sizes
        self.alpha, self.beta, self.scale = alpha, beta, scale
        self.grid = (
            None if transport is None else GridTransport(sizes.height, sizes.width, p=transport, blur=blur, pixel=pixel)
        )
        generator = torch.Generator().manual_seed(seed)
        self.weights, self.biases = torch.nn.ParameterList(), torch.nn.ParameterList()
        flat = sizes.channels * math.prod(sizes.coarse)
        n_inner = sizes.blocks * sizes.convolutions
        encoder = [(1, sizes.channels)] + [(sizes.channels, sizes.channels)] * (n_inner - 1)
        decoder = [(sizes.channels, sizes.channels)] * n_inner + [(sizes.channels, 1)]
        dense = [
            (flat, sizes.hidden),
            (sizes.hidden, 2 * sizes.latent),
            (sizes.latent, sizes.hidden),
            (sizes.hidden, flat),
        ]
        for n_in, n_out in encoder:
            self._add((members, n_out, n_in, KERNEL, KERNEL), (members, n_out), KERNEL**2 * n_in, GAIN, generator)
        for layer, (n_in, n_out) in enumerate(dense):
            gain = 0.5 if layer == 1 else GAIN  # the latent space starts narrow
            self._add((members, n_in, n_out), (members, 1, n_out), n_in, gain, generator)
        for n_in, n_out in decoder:
            gain = 0.1 if n_out == 1 else GAIN  # and the images flat
            self._add((members, n_out, n_in, KERNEL, KERNEL), (members, n_out), KERNEL**2 * n_in, gain, generator)
        self.first_dense, self.first_decoder = len(encoder), len(encoder) + len(dense)

    def _add(
        self, weight: tuple[int, ...], bias: tuple[int, ...], fan_in: int, gain: float, generator: torch.Generator
    ) -> None:
        start = gain * torch.randn(weight, generator=generator) / math.sqrt(fan_in)
        self.weights.append(torch.nn.Parameter(start))
        self.biases.append(torch.nn.Parameter(torch.zeros(bias)))

    def _convolve(self, x: torch.Tensor, layer: int) -> torch.Tensor:
        """Return the convolution (b, m · out, height, width) of x (b, m · in, height, width)."""
        weight, bias = self.weights[layer], self.biases[layer]
        m = weight.shape[0]
        return functional.conv2d(x, weight.flatten(0, 1), bias.flatten(), padding=KERNEL // 2, groups=m)

    def _dense(self, x: torch.Tensor, layer: int) -> torch.Tensor:
        return torch.baddbmm(self.biases[layer], x, self.weights[layer])

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log sigma (m, b, latent) of the latent Gaussian of images x (m, b, height · width)."""
        sizes, (m, b, k) = self.sizes, x.shape
        # pixels of a mean of 1, as an activation is
        y = (k * x).transpose(0, 1).reshape(b, m, sizes.height, sizes.width)
        y = torch.sqrt(y)
        layer = 0
        for _ in range(sizes.blocks):
            for _ in range(sizes.convolutions):
                y = functional.elu(self._convolve(y, layer))
                layer += 1
            y = functional.avg_pool2d(y, 2)
        y = y.reshape(b, m, -1).transpose(0, 1)
        y = functional.elu(self._dense(y, layer))
        mu, raw = self._dense(y, layer + 1).chunk(2, dim=-1)
        return mu, LOG_LATENT_SIGMA * torch.tanh(raw / LOG_LATENT_SIGMA)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Return images (m, b, height · width) that sum to one, given the latent z (m, b, latent)."""
        sizes, (m, b, _) = self.sizes, z.shape
        layer = self.first_dense + 2
        y = functional.elu(self._dense(z, layer))
        y = functional.elu(self._dense(y, layer + 1))
        y = y.transpose(0, 1).reshape(b, m * sizes.channels, *sizes.coarse)
        layer = self.first_decoder
        for _ in range(sizes.blocks):
            y = functional.interpolate(y, scale_factor=2, mode="nearest")
            for _ in range(sizes.convolutions):
                y = functional.elu(self._convolve(y, layer))
                layer += 1
        y = self._convolve(y, layer)
        return torch.softmax(y.reshape(b, m, -1), dim=-1).transpose(0, 1)

    def reconstruction_error(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the reconstruction loss (m, b) of images x by y, (m, b, height · width) each."""
        if self.grid is None:
            return mean_power_error(x, y, self.alpha)
        flat, made = x.flatten(0, 1), y.flatten(0, 1)
        starts = range(0, len(flat), TRANSPORTED_ROWS)
        errors = [self.grid(flat[i : i + TRANSPORTED_ROWS], made[i : i + TRANSPORTED_ROWS]) for i in starts]
        return torch.cat(errors).view(x.shape[:2])

    def parts(self, x: torch.Tensor, *, generator: torch.Generator) -> Parts:
        """Return the scaled error (m, b) and the KL (m, b, latent) of images x (m, b, height · width) with one latent draw."""
        mu, log_sigma = self.encode(x)
        draw = torch.randn(mu.shape, generator=generator, device=x.device, dtype=x.dtype)
        error = self.reconstruction_error(x, self.decode(mu + torch.exp(log_sigma) * draw))
        return Parts(self.scale * error, kl_of_each(mu, log_sigma))

    def loss_of(self, parts: Parts, *, progress: float) -> torch.Tensor:
        """Return the scaled loss (m, b); the KL term warms up."""
        kl = min(1.0, progress / KL_WARM_UP) * parts.kl.sum(dim=-1)
        return (1 - self.beta) * parts.error + self.scale * self.beta * kl

    def losses(self, x: torch.Tensor, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        """Return the scaled loss (m, b) with one latent draw."""
        return self.loss_of(self.parts(x, generator=generator), progress=progress)
