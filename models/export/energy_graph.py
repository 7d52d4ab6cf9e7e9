"""The energy of a normalised autoencoder as nodes of an ONNX graph: coordinates, encoder, sphere, decoder, mean squared error.

Weights are those that are applied, divided by their largest singular values already.
"""

from __future__ import annotations

import numpy as np

from ..energy.coordinates import Coordinates
from ..energy.langevin import TINY
from ..energy.nae import NAE
from ..energy.networks import SphereAutoencoder, Weights
from ..scorer import require_fitted
from .conv_graph import convolved, dense, doubled, elu
from .density_graph import column_map
from .graph import Graph

__all__ = ["energy_score"]


def energy_score(graph: Graph, scorer: NAE, x: str, metric: str) -> str:
    """Return one metric (n,) of single inputs x, as `NAE.score` does: rows (n, d), images (n, height, width) or sets (n, slots, numbers)."""
    network = require_fitted(scorer.network_ if metric == "energy" else scorer.autoencoder_, scorer)
    coordinates, d = require_fitted(scorer.coordinates_, scorer), network.sizes.numbers
    weights = [weight.detach()[0] for weight in network.weights()]
    given, filled = coordinates_of(graph, coordinates, x, normalise=scorer.normalise)
    if network.sizes.channels:
        made = convolved_back(graph, network, weights, given)
    else:
        seen, slots = given, network.sizes.slots
        if slots:
            seen = graph.op("Concat", given, graph.reshape(filled, 0, slots), axis=1)
        made = dense_back(graph, network, weights, seen)
    off = graph.subtract(given, made)
    if filled:
        off = graph.reshape(graph.multiply(graph.reshape(off, 0, *coordinates.shape), filled), 0, d)
    return graph.multiply(graph.total(graph.square(off), 1), 1 / d)


def coordinates_of(graph: Graph, fitted: Coordinates, x: str, *, normalise: bool) -> tuple[str, str]:
    """Return coordinates (n, d) and, of sets, 1 for each slot that is filled (n, slots, 1), else "": `Coordinates.of`."""
    d = len(fitted.centre)
    if fitted.columns is not None:
        mapped, _ = column_map(graph, fitted.columns, graph.op("Transpose", x, perm=[1, 0]))
        return centred(graph, graph.op("Transpose", mapped, perm=[1, 0]), fitted), ""
    if fitted.scaling is None:
        flat = graph.reshape(x, 0, d)
        if normalise:
            flat = graph.op("Div", flat, graph.total(flat, 1, keep=True))
        return centred(graph, flat, fitted), ""
    bounds = (graph.constant(bound, dtype=np.int64) for bound in ([0], [1], [2]))
    there = graph.op("Greater", graph.op("Slice", x, *bounds), graph.constant(0.0))
    filled = graph.cast(there, graph.element)
    # whatever stands in an empty slot is left out before it is multiplied by anything
    own = graph.subtract(graph.multiply(x, filled), fitted.scaling.centre)
    scaled = graph.subtract(graph.multiply(own, 1 / fitted.scaling.spread), fitted.centre.reshape(fitted.shape))
    only = graph.multiply(graph.multiply(scaled, 1 / fitted.spread), filled)
    return graph.reshape(only, 0, d), filled


def centred(graph: Graph, raw: str, fitted: Coordinates) -> str:
    """Return (raw - centre) / spread of raw values (n, d)."""
    return graph.multiply(graph.subtract(raw, fitted.centre), 1 / fitted.spread)


def dense_back(graph: Graph, network: SphereAutoencoder, weights: Weights, x: str) -> str:
    """Return what the decoder makes (n, d) of the encoder's point for x (n, in), of dense layers alone."""
    biases = [bias.detach()[0] for bias in network.biases]
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = dense(graph, x, weight, bias)
        if layer == network.depth - 1:
            x = on_sphere(graph, x)
        elif layer < len(weights) - 1:
            x = elu(graph, x)
    return x


def convolved_back(graph: Graph, network: SphereAutoencoder, weights: Weights, x: str) -> str:
    """Return what the decoder makes (n, d) of the encoder's point for x (n, d), of images that are convolved."""
    sizes, biases = network.sizes, [bias.detach()[0] for bias in network.biases]
    height, width, channels, first = sizes.height, sizes.width, sizes.channels, network.depth
    coarse = height // 2, width // 2

    def layer(y: str, number: int, *shape: int) -> str:
        """Return a layer of y: a convolution where the height and width of y are told."""
        weight, bias = weights[number], biases[number]
        if not shape:
            return dense(graph, y, weight, bias)
        return convolved(graph, y, weight, bias, (shape[0], shape[1], weight.shape[1]))

    y = graph.reshape(x, 0, height, width, 1)
    for number in (0, 1):
        y = elu(graph, layer(y, number, height, width))
    y = graph.op("ReduceMax", graph.reshape(y, 0, coarse[0], 2, coarse[1], 2, channels), axes=[2, 4], keepdims=0)
    for number in (2, 3, 4):
        y = elu(graph, layer(y, number, *coarse))
    y = elu(graph, layer(graph.reshape(y, 0, sizes.coarse), 5))
    y = on_sphere(graph, layer(y, 6))
    for number in (first, first + 1):
        y = elu(graph, layer(y, number))
    y = graph.reshape(y, 0, *coarse, 1)
    for number in (first + 2, first + 3):
        y = elu(graph, layer(y, number, *coarse))
    y = doubled(graph, y, (*coarse, channels))
    for number in (first + 4, first + 5):
        y = elu(graph, layer(y, number, height, width))
    return graph.reshape(layer(y, first + 6, height, width), 0, sizes.numbers)


def on_sphere(graph: Graph, z: str) -> str:
    """Return points (n, latent) divided by their lengths."""
    length = graph.op("Sqrt", graph.total(graph.square(z), 1, keep=True))
    return graph.op("Div", z, graph.op("Max", length, graph.constant(TINY)))
