"""The losses of a density stack as nodes of an ONNX graph: column map, own coordinates, flow or VAE.

ONNX has no searchsorted: a value's segment of the column map is the number of knots below it. Every constant factor
that can be is folded into a weight, for each node costs some microseconds when events come one at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from ..density.autoencoder import LOG_LATENT_SIGMA, NOISE, StackedVae
from ..density.column_map import COMPRESS_FROM, ColumnMap
from ..density.densities import DensityStack
from ..density.flows import LOG_SCALE, TAIL_FROM, MaskedNetworks, StackedFlow
from .graph import Graph

__all__ = ["density_terms"]

Array = npt.NDArray[Any]
Layer = tuple[torch.Tensor, torch.Tensor]

SAME_SLOPE = 1e-12  # relative: a column whose slopes agree to this is one straight line
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def density_terms(graph: Graph, density: DensityStack, x: str) -> tuple[str, str]:
    """Return the two terms (m, n) of `DensityStack.terms` for rows x (n, d)."""
    mapped, log_jacobian = column_map(graph, density.columns, graph.op("Transpose", x, perm=[1, 0]))
    # (mapped − centre) W = mapped W − centre W
    shift = -np.einsum("md,mde->me", density.centre, density.whiten)[:, :, None]
    rows = graph.add(graph.op("MatMul", graph.constant(np.swapaxes(density.whiten, 1, 2)), mapped), shift)
    network, width = density.network, density.columns.n_columns
    # what turns each member's density into one of x
    scale = graph.add(log_jacobian, density.log_det[:, None])
    if isinstance(network, StackedVae):
        first, second = vae_terms(graph, network, rows, width)
        return graph.subtract(first, scale), second
    first, second = flow_terms(graph, network.flow, rows, width)
    return first, graph.subtract(second, scale)


def column_map(graph: Graph, columns: ColumnMap, x: str) -> tuple[str, str]:
    """Return mapped values (d, n) of x (d, n) and their summed log-Jacobian (1, n): `preprocessing.map_columns`."""
    knots, normal, slopes = segments(columns)
    straight = np.nanmax(slopes, axis=1) - np.nanmin(slopes, axis=1) <= SAME_SLOPE * np.nanmax(slopes, axis=1)
    if straight.all():
        anchor, value, slope, log_slope = (
            graph.constant(table[:, :1]) for table in (knots, normal, slopes, np.log(slopes))
        )
    else:
        width = slopes.shape[1]
        inner = np.where(np.isnan(slopes[:, 1:]), np.inf, columns.knots)  # padding: no value lies above
        one = graph.op("Unsqueeze", x, graph.constant([1], dtype=np.int64))
        above = graph.cast(graph.op("Greater", one, graph.constant(inner[:, :, None])), graph.element)
        # counted by a product: four times as fast as ReduceSum of integers
        segment = graph.op("MatMul", graph.constant(np.ones((1, width - 1))), above)
        first = width * np.arange(len(slopes))[:, None, None]
        place = graph.op("Squeeze", graph.add(segment, first), graph.constant([1], dtype=np.int64))
        index = graph.cast(place, graph.int32)
        anchor, value, slope, log_slope = (
            graph.op("Gather", graph.constant(np.nan_to_num(table, nan=1.0).ravel()), index, axis=0)
            for table in (knots, normal, slopes, np.log(slopes))
        )
    z = graph.add(graph.multiply(graph.subtract(x, anchor), slope), value)
    z = graph.clip(z, graph.largest)
    excess = graph.op("Relu", graph.add(graph.op("Abs", z), -COMPRESS_FROM))
    compressed = graph.op("Log", graph.add(excess, 1.0))
    # ±c within ±c, ±(c + log(1 + excess)) beyond: no sign needed
    stretch = graph.add(graph.multiply(compressed, 1.0 / COMPRESS_FROM), 1.0)
    mapped = graph.multiply(graph.clip(z, COMPRESS_FROM), stretch)
    return mapped, graph.total(graph.subtract(log_slope, compressed), 0, keep=True)


def segments(columns: ColumnMap) -> tuple[Array, Array, Array]:
    """Return each segment's anchor, its normal value and its slope (d, k + 1), NaN in the slopes of padding."""
    n_columns, width = columns.knots.shape
    slopes = np.full((n_columns, width + 1), np.nan)
    anchors = np.zeros((n_columns, width + 1), dtype=np.int64)
    for j, (knots, normal) in enumerate(zip(columns.knots, columns.normal, strict=True)):
        size = int(np.searchsorted(knots, knots[-1])) + 1
        inner = np.diff(normal[:size]) / np.diff(knots[:size])
        slopes[j, : size + 1] = [columns.slope_below[j], *inner, columns.slope_above[j]]
        anchors[j] = np.clip(np.arange(width + 1) - 1, 0, size - 1)
    return np.take_along_axis(columns.knots, anchors, 1), np.take_along_axis(columns.normal, anchors, 1), slopes


def dense(graph: Graph, x: str, layers: Sequence[Layer], *, activation: str) -> str:
    """Return the output (m, o, n) of stacked layers on x (m, i, n), `activation` between them.

    layers: weights (m, i, o) and biases (m, 1, o). One hidden unit more is constant and carries the biases of all
    layers but the first into the products: a pass over the rows and a node less each.
    """
    kept = {"relu": 1.0, "bounded": math.sqrt(0.5)}[activation]  # what is left of 1 behind the activation
    for number, (weight, bias) in enumerate(layers):
        first, last = number == 0, number == len(layers) - 1
        turned, offset = weight.detach().transpose(1, 2), bias.detach().transpose(1, 2)
        if not first:
            turned = torch.cat([turned, offset / kept], dim=2)
        if not last:
            constant = torch.zeros_like(turned[:, :1])
            if not first:
                constant[:, :, -1] = 1.0 / kept
            turned, offset = (
                torch.cat([turned, constant], dim=1),
                torch.cat([offset, torch.ones_like(offset[:, :1])], 1),
            )
        x = graph.op("MatMul", graph.constant(turned), x)
        if first:
            x = graph.add(x, offset)
        if not last:
            x = graph.op("Relu", x) if activation == "relu" else graph.bounded(x)
    return x


def flow_steps(graph: Graph, flow: StackedFlow, x: str, width: int) -> tuple[str, str]:
    """Return z (m, width, n) and −log|dz/dx| by feature (m, width, n) of an affine flow."""
    total = ""
    for network in cast("list[MaskedNetworks]", list(flow.networks)):
        layers = [
            (weight.detach() * getattr(network, f"mask_{layer}"), bias.detach())
            for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True))
        ]
        # s = r / sqrt(1 + (r / bound)²): r comes in units of the bound
        units = torch.ones(2 * width, dtype=layers[-1][0].dtype)
        units[width:] /= LOG_SCALE
        layers[-1] = (layers[-1][0] * units, layers[-1][1] * units)
        shift, raw = graph.halves(dense(graph, x, layers, activation="relu"), width)
        s = graph.bounded(raw)
        x = graph.multiply(graph.subtract(x, shift), graph.op("Exp", graph.multiply(s, -LOG_SCALE)))
        total = graph.add(total, s) if total else s
    return x, graph.multiply(total, LOG_SCALE)


def flow_terms(graph: Graph, flow: StackedFlow, rows: str, width: int) -> tuple[str, str]:
    """Return −log N(z) and −log|dz/dx| with the tails' penalty (m, n): `FlowDensities.terms`."""
    z, minus_log_slope = flow_steps(graph, flow, rows, width)
    tail = graph.square(graph.op("Relu", graph.add(graph.op("Abs", rows), -TAIL_FROM)))
    second = graph.total(graph.add(graph.multiply(tail, 0.5), minus_log_slope), 1)
    return gaussian(graph, z, width), second


def gaussian(graph: Graph, z: str, width: int) -> str:
    """Return −log N(z; 0, 1) (m, n) of z (m, width, n)."""
    return graph.add(graph.multiply(graph.total(graph.square(z), 1), 0.5), width * HALF_LOG_2PI)


def vae_terms(graph: Graph, network: StackedVae, rows: str, width: int) -> tuple[str, str]:
    """Return −log p(x | z) and beta·KL (m, n) at the latent mean: `StackedVae.terms`."""
    latent = network.weights[3].shape[1]
    mu, raw = graph.halves(vae_layers(graph, network, rows, 0), latent)
    pull = graph.op("Tanh", graph.multiply(graph.add(raw, -1.0), 1.0 / LOG_LATENT_SIGMA))
    log_sigma = graph.multiply(pull, LOG_LATENT_SIGMA)
    z = mu
    if network.flow is None:
        spread = graph.op("Exp", graph.multiply(log_sigma, 2.0))
        each = graph.subtract(graph.multiply(graph.add(graph.square(mu), spread), 0.5), log_sigma)
        kl = graph.add(graph.total(each, 1), -0.5 * latent)
    else:
        z, minus_log_slope = flow_steps(graph, network.flow, mu, latent)
        entropy = graph.add(graph.total(graph.subtract(minus_log_slope, log_sigma), 1), -latent * (HALF_LOG_2PI + 0.5))
        kl = graph.add(entropy, gaussian(graph, z, latent))
    mean, raw_noise = graph.halves(vae_layers(graph, network, z, 3), width)
    low, high = (math.log(bound) for bound in NOISE)
    log_noise = graph.add(graph.multiply(graph.op("Sigmoid", raw_noise), high - low), low)
    residual = graph.multiply(graph.subtract(rows, mean), graph.op("Exp", graph.op("Neg", log_noise)))
    each = graph.add(graph.multiply(graph.square(residual), 0.5), log_noise)
    return graph.add(graph.total(each, 1), width * HALF_LOG_2PI), graph.multiply(kl, network.beta)


def vae_layers(graph: Graph, network: StackedVae, x: str, first: int) -> str:
    """Return three layers of a VAE from number `first` on."""
    layers = [(network.weights[layer], network.biases[layer]) for layer in range(first, first + 3)]
    return dense(graph, x, layers, activation="bounded")
