"""Dense layers of m stacked networks with the activation fused in: what all stacked architectures are made of.

On a CPU a stacked training is bound by memory traffic, not by its matrix products: seven members' activations do not
fit the cache, and every elementwise pass costs as much as a product. Hence as few passes as can be, in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["bounded_layer", "linear_layer", "relu_gradients", "relu_layers", "relu_network"]


def linear_layer(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return x W + b: x (m, b, i), weight (m, i, o), bias (m, 1, o)."""
    return torch.bmm(x, weight) + bias


class BoundedLayer(torch.autograd.Function):
    """a(x W + b) with a(y) = y / sqrt(1 + y²) (arXiv:1710.09967): smooth and bounded as tanh is, at a quarter of its time.

    tanh took as long as the matrix products of a layer of 64. With r² = 1 + y² = 1 / (1 − a²), da/dy = r⁻³ = (1 − a²)^1.5.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Compute the layer and keep its inputs and output."""
        y = torch.bmm(x, weight).add_(bias)
        y.mul_(torch.mul(y, y).add_(1.0).rsqrt_())
        ctx.save_for_backward(x, weight, y)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]:
        """Return the gradients of x, weight and bias."""
        x, weight, y = ctx.saved_tensors
        slope = torch.mul(y, y).neg_().add_(1.0).clamp_(min=0.0)
        inner = slope.sqrt().mul_(slope).mul_(gradient)
        towards_x = torch.bmm(inner, weight.transpose(1, 2)) if ctx.needs_input_grad[0] else None
        return towards_x, torch.bmm(x.transpose(1, 2), inner), inner.sum(dim=1, keepdim=True)


def bounded_layer(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return a(x W + b), a(y) = y / sqrt(1 + y²): shapes as `linear_layer`."""
    found: torch.Tensor = BoundedLayer.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return found


def relu_layers(x: torch.Tensor, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return x and the output of every layer max(W x + b, 0), the last without the max; not differentiable.

    Feature-major: x (m, i, b), outputs (m, o, b), weights (m, i, o), biases (m, 1, o). Sums over features or rows, and
    what takes some features alone, then run along contiguous memory.
    """
    values = [x]
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True), start=1):
        y = torch.baddbmm(bias.transpose(1, 2), weight.transpose(1, 2), values[-1])
        values.append(y.relu_() if layer < len(weights) else y)
    return values


def relu_gradients(
    gradient: torch.Tensor, values: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """Return the gradients of the first layer's output, of the weights and of the biases of `relu_layers`.

    gradient: of the last output (m, o, b); values: x and the outputs, the last one not needed.
    """
    of_weights, of_biases = [], []
    for layer in reversed(range(len(weights))):
        of_weights.append(torch.bmm(values[layer], gradient.transpose(1, 2)))
        of_biases.append(gradient.sum(dim=2)[:, None])
        if layer:
            gradient = torch.bmm(weights[layer], gradient)
            torch.ops.aten.threshold_backward.grad_input(gradient, values[layer], 0, grad_input=gradient)
    return gradient, of_weights[::-1], of_biases[::-1]


class ReluNetwork(torch.autograd.Function):
    """`relu_layers` as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        """Compute the network; parameters: all weights, then all biases. Keeps the input and output of every layer."""
        weights, biases = parameters[: len(parameters) // 2], parameters[len(parameters) // 2 :]
        values = relu_layers(x, weights, biases)
        ctx.save_for_backward(*weights, *values[:-1])
        return values[-1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x and of the parameters."""
        layers = len(ctx.saved_tensors) // 2
        weights, values = ctx.saved_tensors[:layers], ctx.saved_tensors[layers:]
        inner, of_weights, of_biases = relu_gradients(gradient, values, weights)
        towards_x = torch.bmm(weights[0], inner) if ctx.needs_input_grad[0] else None
        return towards_x, *of_weights, *of_biases


def relu_network(x: torch.Tensor, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the last output (m, o, b) of `relu_layers`, differentiable."""
    found: torch.Tensor = ReluNetwork.apply(x, *weights, *biases)  # type: ignore[no-untyped-call]
    return found
