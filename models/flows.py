"""Masked autoregressive flows, m of them stacked: exact densities, every parameter (m, ...).

A flow maps x to z by n_steps invertible steps, each a transform of one feature at a time whose parameters a masked
network computes from the features before it (MADE, arXiv:1502.03509; MAF, arXiv:1705.07057), with the order of the
features reversed between steps; log p(x) = log N(z; 0, 1) + log|dz/dx|. "affine" shifts and scales; "spline" bends with
monotone rational-quadratic splines (arXiv:1906.04032; zuko's transform), the identity beyond `SPLINE_BOUND`. Each step
has a network of its own: a list that holds one layer several times is one step repeated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch

from ..errors import unknown_name
from .inputs import ScorerError
from .layers import linear_layer, relu_layer

__all__ = ["TRANSFORMS", "StackedFlow", "gaussian_loss"]

LOG_SCALE = 3.0  # bound of |log scale| of one affine step: no spike on a repeated value is unbounded
SPLINE_BINS = 8
SPLINE_BOUND = 6.0  # in units of the sample's own spread; identity outside, so tails stay those of a Gaussian
TAIL_FROM = 8.0  # beyond it, in the same units, each feature adds half its squared excess to the loss

Step = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class Affine(torch.autograd.Function):
    """z = (x − t) exp(−s) and Σ −s, with s = r / sqrt(1 + (r / bound)²): one step of a flow without its temporaries."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Take x (..., d) and parameters (..., 2, d): t, r."""
        shift, raw = parameters.unbind(dim=-2)
        slope = torch.mul(raw, raw).mul_(LOG_SCALE**-2).add_(1.0).rsqrt_()
        s = raw * slope
        scale = torch.neg(s).exp_()
        z = (x - shift).mul_(scale)
        ctx.save_for_backward(z, scale, slope)
        return z, s.sum(dim=-1).neg_()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, towards_z: torch.Tensor, towards_log: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gradients of x and the parameters."""
        z, scale, slope = ctx.saved_tensors
        towards_x = towards_z * scale
        towards_raw = torch.mul(towards_z, z).add_(towards_log[..., None]).mul_(slope).mul_(slope).mul_(slope)
        return towards_x, torch.stack([towards_x, towards_raw], dim=-2).neg_()


def affine(x: torch.Tensor, parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return z = (x − shift) exp(−s) and log|dz/dx|, summed; x (..., d), parameters (..., 2, d)."""
    found: tuple[torch.Tensor, torch.Tensor] = Affine.apply(x, parameters)  # type: ignore[no-untyped-call]
    return found


def affine_inverse(z: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Return the x of `affine`."""
    shift, raw = parameters.unbind(dim=-2)
    return z * torch.exp(raw * torch.rsqrt(1.0 + (raw / LOG_SCALE).square())) + shift


def spline_transform(parameters: torch.Tensor) -> Any:
    """Return zuko's rational-quadratic spline of parameters (..., 3 bins − 1, d)."""
    try:
        from zuko.transforms import MonotonicRQSTransform
    except ImportError as error:
        raise ScorerError("transform 'spline' needs the package zuko: pip install zuko; or use 'affine'") from error
    widths, heights, slopes = torch.split(
        parameters.transpose(-1, -2), [SPLINE_BINS, SPLINE_BINS, SPLINE_BINS - 1], dim=-1
    )
    return MonotonicRQSTransform(widths, heights, slopes, bound=SPLINE_BOUND)


def spline(x: torch.Tensor, parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the bent x and its log-derivative, summed; x (..., d), parameters (..., 3 bins − 1, d)."""
    z, log_slope = spline_transform(parameters).call_and_ladj(x)
    return z, log_slope.sum(dim=-1)


def spline_inverse(z: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Return the x of `spline`."""
    found: torch.Tensor = spline_transform(parameters).inv(z)
    return found


TRANSFORMS: dict[str, tuple[int, Step, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]] = {
    "affine": (2, affine, affine_inverse),
    "spline": (3 * SPLINE_BINS - 1, spline, spline_inverse),
}
"""Name -> parameters a feature, the transform with its log-derivative, its inverse; parameters (..., p, d)."""


def gaussian_loss(z: torch.Tensor) -> torch.Tensor:
    """Return −log N(z; 0, 1) in nats, summed over the last axis."""
    return (0.5 * z.square() + 0.5 * math.log(2 * math.pi)).sum(dim=-1)


class MaskedNetworks(torch.nn.Module):
    """m networks d → hidden → hidden → p × d in which output j depends on the features before j alone.

    reverse: "before" means after, counted from the last feature down.
    """

    def __init__(
        self,
        members: int,
        features: int,
        hidden: int,
        outputs: int,
        *,
        reverse: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        inputs = torch.arange(features)
        degree = inputs.flip(0) if reverse else inputs
        inner = torch.arange(hidden) % max(features - 1, 1)
        last = degree.repeat(outputs)
        masks = [inner[None, :] >= degree[:, None], inner[None, :] >= inner[:, None], last[None, :] > inner[:, None]]
        self.outputs, self.order = outputs, degree.argsort().tolist()
        self.weights, self.biases = torch.nn.ParameterList(), torch.nn.ParameterList()
        for layer, mask in enumerate(masks):
            # small in the last layer: a flow starts as the identity, its sample's own Gaussian
            scale = (0.1 if layer == 2 else 1.0) / torch.sqrt(mask.sum(dim=0).clamp(min=1.0))
            start = scale * torch.randn(members, *mask.shape, generator=generator) * mask
            self.weights.append(torch.nn.Parameter(start))
            self.biases.append(torch.nn.Parameter(torch.zeros(members, 1, mask.shape[1])))
            self.register_buffer(f"mask_{layer}", mask.float(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the parameters (m, b, p, d) for x (m, b, d)."""
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            dense = relu_layer if layer < 2 else linear_layer
            x = dense(x, weight * getattr(self, f"mask_{layer}"), bias)
        return x.reshape(*x.shape[:-1], self.outputs, -1)


class StackedFlow(torch.nn.Module):
    """m flows on d features; see the module's text. steps: of their own networks; transform: one of TRANSFORMS."""

    def __init__(
        self, members: int, features: int, *, steps: int, hidden: int, transform: str, generator: torch.Generator
    ) -> None:
        super().__init__()
        if transform not in TRANSFORMS:
            raise ScorerError(unknown_name("transform", transform, TRANSFORMS))
        outputs, self.step, self.step_inverse = TRANSFORMS[transform]
        self.networks = torch.nn.ModuleList(
            MaskedNetworks(members, features, hidden, outputs, reverse=bool(k % 2), generator=generator)
            for k in range(steps)
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return z (m, b, d) and log|dz/dx| (m, b) of x (m, b, d)."""
        total = torch.zeros(x.shape[:-1], dtype=x.dtype, device=x.device)
        for network in self.networks:
            x, log_slope = self.step(x, network(x))
            total = total + log_slope
        return x, total

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        """Return the x (m, b, d) of z, one feature after another: d times the cost of `forward`."""
        for network in reversed(self.networks):
            x = torch.zeros_like(z)
            for j in cast("MaskedNetworks", network).order:
                found = self.step_inverse(z, network(x))
                x = torch.cat([x[..., :j], found[..., j : j + 1], x[..., j + 1 :]], dim=-1)
            z = x
        return z


class FlowDensities(torch.nn.Module):
    """m flows as densities of rows in units of their samples' own spread."""

    def __init__(self, members: int, features: int, *, steps: int, hidden: int, transform: str, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.flow = StackedFlow(members, features, steps=steps, hidden=hidden, transform=transform, generator=generator)

    def losses(self, x: torch.Tensor, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        """Return −log p (m, b) in nats of x (m, b, d)."""
        del generator, progress
        latent, jacobian = self.terms(x)
        return latent + jacobian

    def terms(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return −log N(z) and −log|dz/dx| (m, b); the latter holds what the tails add.

        Autoregressive scales learned on the bulk say nothing about outliers, and could shrink them: what lies more
        than 8 spreads out costs at least what it would in a Gaussian of unit spread from there on.
        """
        z, log_slope = self.flow(x)
        tail = 0.5 * (x.abs() - TAIL_FROM).clamp(min=0.0).square().sum(dim=-1)
        return gaussian_loss(z), tail - log_slope
