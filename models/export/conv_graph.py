"""The scores of a convolutional VAE as nodes of an ONNX graph.

Convolutions are products of 3 x 3 patches, since ONNX Runtime has them in single precision alone; images are
(n, height, width, channels) in between.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch

from ..autoencoders.conv_autoencoder import LOG_LATENT_SIGMA, StackedConvVae
from ..autoencoders.conv_vae import ConvVae
from ..inputs import ScorerError
from ..scorer import require_fitted
from .graph import Graph

__all__ = ["conv_score", "convolved", "dense", "doubled", "elu"]


def conv_score(graph: Graph, scorer: ConvVae, images: str, metric: str) -> str:
    """Return one metric (n,) of images (n, height, width), as `ConvVae.score` does; raises ScorerError for transport."""
    network = require_fitted(scorer.network_, scorer)
    if metric.startswith("wass") or (metric in {"loss", "reconstruction"} and network.grid is not None):
        allowed = "kl, mse, mae, latent_radius" + ("" if network.grid is not None else ", loss, reconstruction")
        raise ScorerError(f"metric {metric!r} is optimal transport and cannot be exported as ONNX; allowed: {allowed}")
    pixels = network.sizes.height * network.sizes.width
    x = graph.reshape(images, 0, pixels)
    if scorer.normalise:
        x = graph.op("Div", x, graph.total(x, 1, keep=True))
    mu, log_sigma = encoded(graph, network, x)
    if metric == "latent_radius":
        return graph.op("Sqrt", graph.total(graph.square(mu), 1))
    spread = graph.op("Exp", graph.multiply(log_sigma, 2.0))
    each = graph.subtract(graph.multiply(graph.add(graph.square(mu), spread), 0.5), log_sigma)
    kl = graph.add(graph.total(each, 1), -0.5 * network.sizes.latent)
    if metric == "kl":
        return kl
    power = {"mse": 2.0, "mae": 1.0}.get(metric, network.alpha)
    off = graph.op("Abs", graph.subtract(x, decoded(graph, network, mu)))
    error = graph.multiply(graph.total(graph.op("Pow", off, graph.constant(power)), 1), 1 / pixels)
    if metric != "loss":
        return error
    # ONNX Runtime takes a factor of 1 - 1e-8 for one and leaves it out
    return graph.add(error, graph.multiply(graph.subtract(kl, error), network.beta))


def encoded(graph: Graph, network: StackedConvVae, x: str) -> tuple[str, str]:
    """Return mean and log sigma (n, latent) of images x (n, pixels): `StackedConvVae.encode`."""
    sizes = network.sizes
    height, width, channels = sizes.height, sizes.width, 1
    y = graph.op("Sqrt", graph.reshape(graph.multiply(x, float(height * width)), 0, height, width, 1))
    layer = 0
    for _ in range(sizes.blocks):
        for _ in range(sizes.convolutions):
            y = elu(graph, convolved(graph, y, *layer_of(network, layer), (height, width, channels)))
            layer, channels = layer + 1, sizes.channels
        height, width = height // 2, width // 2
        y = graph.reshape(y, 0, height, 2, width, 2, channels)
        y = graph.multiply(graph.total(graph.total(y, 4), 2), 0.25)
    flat = graph.reshape(graph.op("Transpose", y, perm=[0, 3, 1, 2]), 0, channels * height * width)
    inner = elu(graph, dense(graph, flat, *layer_of(network, layer)))
    mu, raw = graph.halves(dense(graph, inner, *layer_of(network, layer + 1)), sizes.latent)
    bounded = graph.op("Tanh", graph.multiply(raw, 1 / LOG_LATENT_SIGMA))
    return mu, graph.multiply(bounded, LOG_LATENT_SIGMA)


def decoded(graph: Graph, network: StackedConvVae, z: str) -> str:
    """Return images (n, pixels) that sum to one, given the latent z (n, latent): `StackedConvVae.decode`."""
    sizes, layer = network.sizes, network.first_dense + 2
    (height, width), channels = sizes.coarse, sizes.channels
    inner = elu(graph, dense(graph, z, *layer_of(network, layer)))
    y = elu(graph, dense(graph, inner, *layer_of(network, layer + 1)))
    y = graph.op("Transpose", graph.reshape(y, 0, channels, height, width), perm=[0, 2, 3, 1])
    layer = network.first_decoder
    for _ in range(sizes.blocks):
        y = doubled(graph, y, (height, width, channels))
        height, width = 2 * height, 2 * width
        for _ in range(sizes.convolutions):
            y = elu(graph, convolved(graph, y, *layer_of(network, layer), (height, width, channels)))
            layer += 1
    y = convolved(graph, y, *layer_of(network, layer), (height, width, channels))
    return graph.op("Softmax", graph.reshape(y, 0, height * width), axis=1)


def layer_of(network: StackedConvVae, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight and bias of a layer."""
    weight, bias = (cast("torch.Tensor", of[layer]).detach()[0] for of in (network.weights, network.biases))
    return weight, bias


def convolved(graph: Graph, y: str, weight: torch.Tensor, bias: torch.Tensor, shape: tuple[int, int, int]) -> str:
    """Return the convolution (n, height, width, out) of y (n, height, width, in), zero beyond its edges.

    weight: (out, in, k, k), k odd; bias: (out,); shape: height, width and in.
    """
    height, width, channels = shape
    kernel = weight.shape[-1]
    edge = kernel // 2
    padded = graph.op("Pad", y, graph.constant([0, edge, edge, 0] * 2, dtype=np.int64))
    patches = []
    for down in range(kernel):
        for right in range(kernel):
            bounds = ([down, right], [down + height, right + width], [1, 2])
            patches.append(graph.op("Slice", padded, *(graph.constant(b, dtype=np.int64) for b in bounds)))
    turned = weight.permute(2, 3, 1, 0).reshape(kernel**2 * channels, -1)
    return graph.add(graph.op("MatMul", graph.op("Concat", *patches, axis=3), graph.constant(turned)), bias)


def doubled(graph: Graph, y: str, shape: tuple[int, int, int]) -> str:
    """Return y (n, 2 height, 2 width, channels), each pixel of (n, height, width, channels) repeated; shape: of the latter."""
    height, width, channels = shape
    sizes = graph.constant([1, 1, 2, 1, 2, 1], dtype=np.int64)
    repeated = graph.op("Tile", graph.reshape(y, 0, height, 1, width, 1, channels), sizes)
    return graph.reshape(repeated, 0, 2 * height, 2 * width, channels)


def dense(graph: Graph, x: str, weight: torch.Tensor, bias: torch.Tensor) -> str:
    """Return a dense layer (n, out) of x (n, in); weight: (in, out), bias: (1, out)."""
    return graph.add(graph.op("MatMul", x, graph.constant(weight)), bias)


def elu(graph: Graph, x: str) -> str:
    """Return the larger of x and exp(min(x, 0)) - 1."""
    below = graph.op("Exp", graph.op("Min", x, graph.constant(0.0)))
    return graph.op("Max", x, graph.add(below, -1.0))
