"""Variational autoencoders on tables as density models, m of them stacked, in one common space.

Each member is trained on its own sample to the evidence lower bound of log p(x) in nats (arXiv:1312.6114): a Gaussian
likelihood whose mean and per-feature noise both come from the decoder, and the KL divergence of the latent space.
Noise of fixed size 1 would make the reconstruction error a distance, not a log-density, and losses of two
models could not be compared.

With `steps` > 0 the latent draw passes through masked autoregressive flows (arXiv:1505.05770): z0 ~ N(mu, sigma²) and
z = f(z0), so that log q(z | x) = log q0(z0) − log|df/dz0|. The prior is evaluated at z, the end of the flow:
KL = E[log q0(z0) − log|df/dz0| − log N(z; 0, 1)]. (Evaluated at z0, as QUAK's published code does, it is no bound.)

Scores take the likelihood at the latent mean, without a draw: they are deterministic, and lie below −log p(x) by
about half a nat a used latent dimension, which is nearly the same for all events and members.
"""

from __future__ import annotations

import math

import torch

from ..train.exposure import Parts
from ..train.layers import bounded_layer, linear_layer
from .flows import StackedFlow, gaussian_loss

__all__ = ["StackedVae", "gaussian_kl", "kl_of_each", "layer_widths"]

NOISE = (0.05, 2.0)  # allowed noise, in units of the sample's own spread: no spike on a repeated value is unbounded
LOG_LATENT_SIGMA = 5.0  # bound of |log sigma − start| of the encoder
KL_WARM_UP = 0.1  # part of the training over which the KL term is switched on, against an unused latent space


def gaussian_kl(mu: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
    """Return KL(N(mu, sigma²) ‖ N(0, 1)) in nats, summed over the last axis.

    >>> round(gaussian_kl(torch.tensor([1.0]), torch.tensor([0.5]).log()).item(), 6)
    0.818147
    """
    return kl_of_each(mu, log_sigma).sum(dim=-1)


def kl_of_each(mu: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
    """Return KL(N(mu, sigma²) ‖ N(0, 1)) in nats of each latent dimension."""
    return 0.5 * (mu.square() + torch.exp(2 * log_sigma) - 1) - log_sigma


def layer_widths(features: int, latent: int, hidden: int) -> list[tuple[int, int]]:
    """Return what goes in and comes out of each layer of the encoder and the decoder."""
    widths = [(features, hidden), (hidden, hidden), (hidden, 2 * latent)]
    return [*widths, (latent, hidden), (hidden, hidden), (hidden, 2 * features)]


class StackedVae(torch.nn.Module):
    """m autoencoders d → hidden → hidden → latent → hidden → hidden → d, every parameter (m, ...).

    steps: of the flow behind the encoder, 0 for a Gaussian posterior; beta: weight of the KL term (beta-VAE).
    """

    def __init__(
        self,
        members: int,
        features: int,
        latent: int,
        hidden: int,
        *,
        seed: int,
        steps: int = 0,
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.beta = beta
        self.weights = torch.nn.ParameterList()
        self.biases = torch.nn.ParameterList()
        for layer, (n_in, n_out) in enumerate(layer_widths(features, latent, hidden)):
            scale = (0.5 if layer in (2, 5) else 1.0) / math.sqrt(n_in)
            start = scale * torch.randn(members, n_in, n_out, generator=generator)
            self.weights.append(torch.nn.Parameter(start))
            self.biases.append(torch.nn.Parameter(torch.zeros(members, 1, n_out)))
        self.flow = (
            StackedFlow(members, latent, steps=steps, hidden=hidden, transform="affine", generator=generator)
            if steps
            else None
        )

    def _layers(self, x: torch.Tensor, first: int) -> torch.Tensor:
        """Run three layers; bounded activations, so that a far outlier is never reconstructed by extrapolation."""
        for layer in (first, first + 1):
            x = bounded_layer(x, self.weights[layer], self.biases[layer])
        return linear_layer(x, self.weights[first + 2], self.biases[first + 2])

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

    def posterior(self, x: torch.Tensor, draw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return z (m, b, latent) at a standard normal draw of the same shape, and the KL terms (m, b, latent) there.

        Without a flow the KL of each latent dimension is exact. A flow mixes them: its KL is one term (m, b, 1) of all, where log q0 is
        exact, and the flow's Jacobian and the prior are taken at z.
        """
        mu, log_sigma = self.encode(x)
        z = mu + torch.exp(log_sigma) * draw
        if self.flow is None:
            return z, kl_of_each(mu, log_sigma)
        z, log_slope = self.flow(z)
        negative_entropy = -(log_sigma + 0.5 * math.log(2 * math.pi) + 0.5).sum(dim=-1)
        return z, (negative_entropy - log_slope + gaussian_loss(z))[..., None]

    def parts(self, x: torch.Tensor, *, generator: torch.Generator) -> Parts:
        """Return −log p(x | z) (m, b) and the KL terms of rows x (m, b, d) with one latent draw."""
        shape = (*x.shape[:-1], self.weights[3].shape[1])
        draw = torch.randn(shape, generator=generator, device=x.device, dtype=x.dtype)
        z, kl = self.posterior(x, draw)
        return Parts(self.reconstruction(x, z), kl)

    def loss_of(self, parts: Parts, *, progress: float) -> torch.Tensor:
        """Return the negative evidence lower bound (m, b); the KL term warms up."""
        return parts.error + self.beta * min(1.0, progress / KL_WARM_UP) * parts.kl.sum(dim=-1)

    def losses(self, x: torch.Tensor, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        """Return the negative evidence lower bound (m, b) with one latent draw."""
        return self.loss_of(self.parts(x, generator=generator), progress=progress)

    def terms(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return −log p(x | z) and beta·KL (m, b) at the latent mean."""
        z, kl = self.posterior(x, torch.zeros((), dtype=x.dtype, device=x.device))
        return self.reconstruction(x, z), self.beta * kl.sum(dim=-1)

    def importance_weighted(self, x: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """Return −log p(x) (m, b) by importance sampling (arXiv:1509.00519, eq. 8) with draws (K, latent).

        The same draws serve every row, so the estimate does not depend on what else is in the batch.
        """
        mu, log_sigma = self.encode(x)
        log_weights = []
        for draw in draws:
            z = mu + torch.exp(log_sigma) * draw
            log_q = -(log_sigma.sum(dim=-1) + gaussian_loss(draw))
            if self.flow is not None:
                z, log_slope = self.flow(z)
                log_q = log_q - log_slope
            log_weights.append(-self.reconstruction(x, z) - gaussian_loss(z) - log_q)
        return math.log(len(draws)) - torch.logsumexp(torch.stack(log_weights), dim=0)
