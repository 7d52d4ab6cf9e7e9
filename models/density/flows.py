"""Masked autoregressive flows, m of them stacked: exact densities, every parameter (m, ...).

A flow maps x to z by n_steps invertible steps, each a transform of one feature at a time whose parameters a masked
network computes from the features before it (MADE, arXiv:1502.03509; MAF, arXiv:1705.07057), with the order of the
features reversed between steps; log p(x) = log N(z; 0, 1) + log|dz/dx|. "affine" shifts and scales; "spline" bends with
monotone rational-quadratic splines (arXiv:1906.04032; zuko's transform), the identity beyond `SPLINE_BOUND`. Each step
has a network of its own: a list that holds one layer several times is one step repeated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch

from ...errors import unknown_name
from ..inputs import ScorerError
from ..train.layers import relu_gradients, relu_layers, relu_network

__all__ = ["TRANSFORMS", "StackedFlow", "gaussian_loss", "step_widths"]

LOG_SCALE = 3.0  # bound of |log scale| of one affine step: no spike on a repeated value is unbounded
SPLINE_BINS = 8
SPLINE_BOUND = 6.0  # in units of the sample's own spread; identity outside, so tails stay those of a Gaussian
TAIL_FROM = 8.0  # beyond it, in the same units, each feature adds half its squared excess to the loss

LAYERS = 3  # of each step's network

Flow = Callable[[torch.Tensor, "Iterable[MaskedNetworks]"], tuple[torch.Tensor, torch.Tensor]]


def masked(weights: Iterable[torch.Tensor], masks: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """Return weights (m, i, o), or their gradients, times their masks (i, o)."""
    return [weight * mask for weight, mask in zip(weights, masks, strict=True)]


def affine_step(x: torch.Tensor, parameters: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return z = (x − t) exp(−s), Σ −s (m, b), exp(−s) and the cube root of ds/dr; s = r / sqrt(1 + (r / bound)²).

    Feature-major: x (m, d, b), parameters (m, 2 d, b): t, r. Not differentiable.
    """
    shift, raw = parameters.chunk(2, dim=1)
    slope = torch.addcmul(raw.new_ones(()), raw, raw, value=LOG_SCALE**-2).rsqrt_()
    minus_s = torch.addcmul(raw.new_zeros(()), raw, slope, value=-1.0)
    log_slope = minus_s.sum(dim=1)
    scale = minus_s.exp_()
    return (x - shift).mul_(scale), log_slope, scale, slope


def affine_gradients(
    towards_z: torch.Tensor, towards_log: torch.Tensor, z: torch.Tensor, scale: torch.Tensor, slope: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradients of x (m, d, b) and the parameters (m, 2 d, b) of `affine_step` from its results."""
    members, features, rows = z.shape
    towards_parameters = z.new_empty(members, 2 * features, rows)
    towards_shift, towards_raw = towards_parameters.chunk(2, dim=1)
    towards_x = towards_z * scale
    torch.neg(towards_x, out=towards_shift)
    torch.addcmul(-towards_log[:, None], towards_z, z, value=-1.0, out=towards_raw)
    towards_raw.mul_(slope).mul_(slope).mul_(slope)
    return towards_x, towards_parameters


class AffineFlow(torch.autograd.Function):
    """All steps of an affine flow as one node of the graph, without the temporaries and the copies of many small ones."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, masks: Sequence[Sequence[torch.Tensor]], *parameters: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take x (m, d, b), each step's masks, its weights and biases W, W, W, b, b, b, ...; return z and log|dz/dx|."""
        saved, total = [], torch.zeros_like(x[:, 0])
        for step, of_step in enumerate(masks):
            own = parameters[2 * LAYERS * step : 2 * LAYERS * (step + 1)]
            weights, biases = masked(own[:LAYERS], of_step), own[LAYERS:]
            *values, last = relu_layers(x, weights, biases)
            x, log_slope, scale, slope = affine_step(x, last)
            total += log_slope
            saved += [*weights, *values, x, scale, slope]
        ctx.masks = masks
        ctx.save_for_backward(*saved)
        return x, total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, towards_x: torch.Tensor, towards_log: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x and the parameters."""
        found: list[torch.Tensor] = []
        each = 2 * LAYERS + 3
        for step in reversed(range(len(ctx.masks))):
            saved = ctx.saved_tensors[each * step : each * (step + 1)]
            weights, values = saved[:LAYERS], saved[LAYERS : 2 * LAYERS]
            towards_x, inner = affine_gradients(towards_x, towards_log, *saved[2 * LAYERS :])
            inner, of_weights, of_biases = relu_gradients(inner, values, weights)
            found = [*masked(of_weights, ctx.masks[step]), *of_biases, *found]
            if step or ctx.needs_input_grad[0]:
                towards_x.baddbmm_(weights[0], inner)
        return (towards_x if ctx.needs_input_grad[0] else None), None, *found


def affine_flow(x: torch.Tensor, networks: Iterable[MaskedNetworks]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return z (m, d, b) and log|dz/dx| (m, b) of x (m, d, b)."""
    if torch.is_grad_enabled():
        masks = [network.masks() for network in networks]
        parameters = [p for network in networks for p in (*network.weights, *network.biases)]
        found: tuple[torch.Tensor, torch.Tensor] = AffineFlow.apply(x, masks, *parameters)  # type: ignore[no-untyped-call]
        return found
    total = torch.zeros_like(x[:, 0])
    for network in networks:
        x, log_slope, *_ = affine_step(x, relu_layers(x, *network.layers())[-1])
        total += log_slope
    return x, total


def affine_inverse(z: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Return the x of `affine_step`; z (..., d), parameters (..., 2, d)."""
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


def spline_flow(x: torch.Tensor, networks: Iterable[MaskedNetworks]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return z (m, d, b) and log|dz/dx| (m, b) of x (m, d, b)."""
    x = x.transpose(1, 2)
    total = torch.zeros_like(x[..., 0])
    for network in networks:
        x, log_slope = spline_transform(network(x)).call_and_ladj(x)
        total = total + log_slope.sum(dim=-1)
    return x.transpose(1, 2), total


def spline_inverse(z: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Return the x of one step; z (..., d), parameters (..., 3 bins − 1, d)."""
    found: torch.Tensor = spline_transform(parameters).inv(z)
    return found


TRANSFORMS: dict[str, tuple[int, Flow, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]] = {
    "affine": (2, affine_flow, affine_inverse),
    "spline": (3 * SPLINE_BINS - 1, spline_flow, spline_inverse),
}
"""Name -> parameters a feature, all steps with their log-derivative, the inverse of one step."""


def gaussian_loss(z: torch.Tensor) -> torch.Tensor:
    """Return −log N(z; 0, 1) in nats, summed over the last axis."""
    return 0.5 * z.square().sum(dim=-1) + 0.5 * math.log(2 * math.pi) * z.shape[-1]


def step_widths(features: int, hidden: int, transform: str) -> list[tuple[int, int]]:
    """Return what goes in and comes out of each layer of one step's network."""
    return [(features, hidden), (hidden, hidden), (hidden, TRANSFORMS[transform][0] * features)]


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

    def masks(self) -> list[torch.Tensor]:
        """Return each layer's mask (i, o)."""
        return [getattr(self, f"mask_{layer}") for layer in range(LAYERS)]

    def layers(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return the masked weights (m, i, o) and the biases (m, 1, o)."""
        return masked(self.weights, self.masks()), list(self.biases)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the parameters (m, b, p, d) for x (m, b, d)."""
        y = relu_network(x.transpose(1, 2), *self.layers()).transpose(1, 2)
        return y.view(*y.shape[:-1], self.outputs, -1)


class StackedFlow(torch.nn.Module):
    """m flows on d features; see the module's text. steps: of their own networks; transform: one of TRANSFORMS."""

    def __init__(
        self, members: int, features: int, *, steps: int, hidden: int, transform: str, generator: torch.Generator
    ) -> None:
        super().__init__()
        if transform not in TRANSFORMS:
            raise ScorerError(unknown_name("transform", transform, TRANSFORMS))
        outputs, self.steps, self.step_inverse = TRANSFORMS[transform]
        self.networks = torch.nn.ModuleList(
            MaskedNetworks(members, features, hidden, outputs, reverse=bool(k % 2), generator=generator)
            for k in range(steps)
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return z (m, b, d) and log|dz/dx| (m, b) of x (m, b, d)."""
        z, log_slope = self.steps(x.transpose(1, 2).contiguous(), cast("Iterable[MaskedNetworks]", self.networks))
        return z.transpose(1, 2), log_slope

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
        tail = 0.5 * torch.nn.functional.softshrink(x, TAIL_FROM).square().sum(dim=-1)
        return gaussian_loss(z), tail - log_slope
