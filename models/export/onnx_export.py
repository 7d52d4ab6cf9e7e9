"""A fitted scorer as one ONNX graph, scaling included: for triggers and programs that have no Python.

The graph is built node by node from the fitted numbers, so that what runs online is what `score` computes, in the
same order: the column map with its log-Jacobian, each member's own coordinates, the stacked networks (masks folded
into their weights), the losses, the reduction to one score. Nothing is traced, and torch is not needed to run it.

ONNX has no searchsorted: a value's segment of the column map is the number of knots below it. Every constant factor
that can be is folded into a weight, for each node costs some microseconds when events come one at a time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from ... import __version__
from ...errors import unknown_name
from ...files import write_aside
from ..density.autoencoder import LOG_LATENT_SIGMA, NOISE, StackedVae
from ..density.column_map import COMPRESS_FROM, ColumnMap
from ..density.densities import DensityStack
from ..density.density_scorer import DensityScorer
from ..density.flows import LOG_SCALE, TAIL_FROM, MaskedNetworks, StackedFlow
from ..density.quak import Quak
from ..inputs import ScorerError, check_metric
from ..scorer import Scorer, require_fitted

__all__ = ["EXPORTABLE", "PRECISIONS", "export_onnx"]

Array = npt.NDArray[Any]
Layer = tuple[torch.Tensor, torch.Tensor]

EXPORTABLE = ("maf", "vae", "flow_vae")
"""Architectures that can be written as ONNX; the splines of "nsf" are zuko's."""
PRECISIONS: dict[str, type[np.floating[Any]]] = {"double": np.float64, "float": np.float32}
"""Name -> type of the input, of all arithmetic, and of the scores."""
OPSET = 17
LARGEST = {"double": 1e300, "float": 3e38}  # of the mapped values, before they are compressed
SAME_SLOPE = 1e-12  # relative: a column whose slopes agree to this is one straight line
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Graph:
    """Nodes and constants of one ONNX graph in one precision; every method returns the name of what it made."""

    def __init__(self, precision: str) -> None:
        import onnx

        self.helper, self.numpy_helper = onnx.helper, onnx.numpy_helper
        self.dtype = PRECISIONS[precision]
        self.element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        self.int32 = onnx.TensorProto.INT32
        self.largest = LARGEST[precision]
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def op(self, kind: str, *inputs: str, called: str = "", **attributes: Any) -> str:
        """Add one node with one output, `called` so or numbered."""
        name = called or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, list(inputs), [name], name=f"node_{name}", **attributes))
        return name

    def constant(self, values: npt.ArrayLike | torch.Tensor, *, dtype: Any = None) -> str:
        """Add a constant in the graph's precision, or of `dtype` (axes, indices)."""
        array = np.asarray(values.numpy() if isinstance(values, torch.Tensor) else values)
        if dtype is None and self.dtype is np.float32:
            array = np.where(np.isfinite(array), np.clip(array, -self.largest, self.largest), array)
        name = f"constant_{len(self.constants)}"
        self.constants.append(self.numpy_helper.from_array(np.array(array, dtype or self.dtype, order="C"), name))
        return name

    def add(self, a: str, b: str | float | Array | torch.Tensor, *, called: str = "") -> str:
        """Return a + b."""
        return self.op("Add", a, b if isinstance(b, str) else self.constant(b), called=called)

    def subtract(self, a: str, b: str | float | Array | torch.Tensor, *, called: str = "") -> str:
        """Return a − b."""
        return self.op("Sub", a, b if isinstance(b, str) else self.constant(b), called=called)

    def multiply(self, a: str, b: str | float | Array | torch.Tensor, *, called: str = "") -> str:
        """Return a · b."""
        return self.op("Mul", a, b if isinstance(b, str) else self.constant(b), called=called)

    def square(self, a: str) -> str:
        """Return a²."""
        return self.op("Mul", a, a)

    def bounded(self, a: str) -> str:
        """Return a / sqrt(1 + a²)."""
        return self.op("Div", a, self.op("Sqrt", self.add(self.square(a), 1.0)))

    def clip(self, a: str, bound: float) -> str:
        """Return a within ±bound."""
        return self.op("Clip", a, self.constant(-bound), self.constant(bound))

    def cast(self, a: str, element: int) -> str:
        """Return a as another type of element."""
        return self.op("Cast", a, to=element)

    def total(self, a: str, axis: int, *, keep: bool = False) -> str:
        """Return the sum over one axis, which goes, or stays with length 1."""
        return self.op("ReduceSum", a, self.constant([axis], dtype=np.int64), keepdims=int(keep))

    def halves(self, x: str, width: int) -> tuple[str, str]:
        """Return the first and the last `width` of the features of x (m, features, n)."""
        first, second = f"first_{len(self.nodes)}", f"second_{len(self.nodes)}"
        sizes = self.constant([width, width], dtype=np.int64)
        node = self.helper.make_node("Split", [x, sizes], [first, second], name=f"node_{first}", axis=1)
        self.nodes.append(node)
        return first, second

    def axis(self, losses: str, index: int) -> str:
        """Return one member's row (n,) of the losses (m, n)."""
        return self.op("Gather", losses, self.constant(index, dtype=np.int64), axis=0)


def export_onnx(scorer: Scorer, path: str | Path, *, metric: str | None = None, precision: str = "double") -> Path:
    """Write a fitted scorer as an ONNX file, scaling included, and return its path.

    scorer: a `Quak`, `Flow` or `Vae` of an architecture in EXPORTABLE; metric: one of its metrics, default the first,
    fixed in the file; precision: "double" scores as `scorer.score` does, to rounding; "float" takes half the memory
    and time. The input is `x` (n, d), any n, in the order of the columns of training; finite values are the caller's
    duty. Outputs: `score` (n,), and of a `Quak` also `losses` (n, m). The file's metadata hold the version, class,
    architecture, metric, precision, number of columns and axis names.
    Raises ScorerError where the package onnx is missing or the scorer cannot be exported, UnknownMetricError.
    """
    if precision not in PRECISIONS:
        raise ScorerError(unknown_name("precision", precision, PRECISIONS))
    name = type(scorer).__name__
    if not isinstance(scorer, Quak | DensityScorer):
        raise ScorerError(f"{name} cannot be exported as ONNX; allowed: scorers of density models: Flow, Quak, Vae")
    density = require_fitted(scorer.density_, scorer)
    if density.architecture.name not in EXPORTABLE:
        raise ScorerError(
            f"{name} of architecture {density.architecture.name!r} cannot be exported as ONNX; "
            f"allowed: {', '.join(EXPORTABLE)}"
        )
    metric = check_metric(metric, scorer.metrics, name)
    try:
        import onnx
    except ImportError as error:
        raise ScorerError("exporting a scorer needs the package onnx: pip install onnx") from error
    graph = Graph(precision)
    terms = density_terms(graph, density)
    outputs = ["score"]
    if isinstance(scorer, Quak):
        losses = graph.add(*terms)
        quak_score(graph, scorer, losses, metric)
        graph.op("Transpose", losses, perm=[1, 0], called="losses")
        outputs.append("losses")
    else:
        term_score(graph, scorer, terms, metric)
    width, axes = density.columns.n_columns, scorer.axis_names if isinstance(scorer, Quak) else ()
    shapes: dict[str, list[str | int]] = {"score": ["n"], "losses": ["n", len(density.centre)]}
    helper = onnx.helper
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            f"hunch {name}",
            [helper.make_tensor_value_info("x", graph.element, ["n", width])],
            [helper.make_tensor_value_info(output, graph.element, shapes[output]) for output in outputs],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,  # the one of opset 17: runtimes since 2022 read it
        producer_name="hunch",
        producer_version=__version__,
    )
    metadata = {
        "hunch_version": __version__,
        "class": name,
        "architecture": density.architecture.name,
        "metric": metric,
        "precision": precision,
        "n_columns": str(width),
        "axis_names": json.dumps(list(axes)),
    }
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    with write_aside(path) as aside:
        aside.write_bytes(model.SerializeToString())
    return Path(path)


def term_score(graph: Graph, scorer: DensityScorer, terms: tuple[str, str], metric: str) -> None:
    """Make `score` of a scorer of one density model: its loss or one of the two terms (1, n)."""
    if metric not in scorer.metrics[:3]:
        allowed = ", ".join(scorer.metrics[:3])
        raise ScorerError(f"metric {metric!r} is a sampled estimate and cannot be exported as ONNX; allowed: {allowed}")
    made = graph.add(*terms) if metric == scorer.metrics[0] else terms[scorer.metrics.index(metric) - 1]
    graph.op("Squeeze", made, graph.constant([0], dtype=np.int64), called="score")


def quak_score(graph: Graph, scorer: Quak, losses: str, metric: str) -> None:
    """Make `score` from the losses (m, n) as `Quak.score` does."""
    background = graph.axis(losses, 0)
    axes, priors = scorer.axis_names, len(scorer.prior_names)

    def against(signal: str, *, called: str) -> str:
        return graph.subtract(background, graph.multiply(signal, scorer.alpha), called=called)

    if metric in axes[1:]:
        against(graph.axis(losses, axes.index(metric)), called="score")
    elif metric == "background" or not priors:
        graph.op("Identity", background, called="score")
    elif metric == "anomaly" and len(axes) > 1 + priors:
        beyond = graph.subtract(background, scorer.background_max_)
        graph.op("Max", against(graph.axis(losses, 1 + priors), called="difference"), beyond, called="score")
    else:
        of_priors = graph.op("Gather", losses, graph.constant(np.arange(1, 1 + priors), dtype=np.int64), axis=0)
        nearest = graph.op("ReduceMin", of_priors, axes=[0], keepdims=0)
        if metric == "difference":
            against(nearest, called="score")
        else:
            beyond = graph.subtract(background, scorer.background_max_)
            graph.op("Max", against(nearest, called="difference"), beyond, called="score")


def density_terms(graph: Graph, density: DensityStack) -> tuple[str, str]:
    """Return the two terms (m, n) of `DensityStack.terms` for the input `x` (n, d)."""
    mapped, log_jacobian = column_map(graph, density.columns, graph.op("Transpose", "x", perm=[1, 0]))
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
