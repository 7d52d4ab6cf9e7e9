"""A fitted scorer as one ONNX graph, scaling included: for triggers and programs that have no Python.

The graph is built node by node from the fitted numbers, so that what runs online is what `score` computes, in the
same order: of a density the column map with its log-Jacobian, each member's own coordinates, the stacked networks (masks folded
into their weights), the losses; of a convolutional VAE or a normalised autoencoder its layers; then the reduction to one score. Nothing is traced, and torch
is not needed to run it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ... import __version__
from ...errors import unknown_name
from ...files import write_aside
from ..autoencoders.conv_vae import ConvVae
from ..density.densities import DensityStack
from ..density.density_scorer import DensityScorer
from ..density.quak import Quak
from ..distance.event_to_ensemble import EventToEnsemble
from ..energy.nae import NAE
from ..inputs import ScorerError, check_metric
from ..scorer import Scorer, require_fitted
from ..scorer_space import BACKGROUND, ScorerSpace
from .conv_graph import conv_score
from .density_graph import density_terms
from .energy_graph import energy_score
from .graph import OPSET, PRECISIONS, Graph
from .onnx_file import SUM, sum_of

__all__ = ["EXPORTABLE", "PRECISIONS", "export_onnx"]

EXPORTABLE = ("maf", "vae", "flow_vae")
"""Architectures of densities that can be written as ONNX; the splines of "nsf" are zuko's."""


@dataclass(frozen=True)
class Made:
    """What was put into a graph: the names of its outputs and the sizes of one event's input.

    score: (n,); losses: (n, m), "" for none; shape: of one event; axes: names of the columns of the losses; architecture: of the
    density or the class of network.
    """

    score: str
    shape: tuple[int, ...]
    architecture: str
    losses: str = ""
    axes: tuple[str, ...] = ()


def export_onnx(scorer: Scorer, path: str | Path, *, metric: str | None = None, precision: str = "double") -> Path:
    """Write a fitted scorer as an ONNX file, scaling included, and return its path.

    scorer: a `Quak`, `Flow` or `Vae` of an architecture in EXPORTABLE, a `ConvVae`, a `NAE`, or a `ScorerSpace` of these; metric: one of
    its metrics, default the first, fixed in the file; precision: "double" scores as `scorer.score` does, to rounding; "float" takes
    half the memory and time. The input is `x`: rows (n, d), any n, in the order of the columns of training, images
    (n, height, width), sets (n, slots, numbers), or of a space of jets (n, jets, ...); finite values, images without negative pixels that sum
    to one or are normalised by the scorer, and sets that hold a constituent are the caller's duty. Outputs: `score` (n,), and of a `Quak` or a space also `losses`
    (n, m). The file's metadata hold the sum of all else, the version, class, architecture, metric, precision, the sizes of one event, axis names, the names of
    the columns of training, none where they had none, and how those were made, the last ones as JSON.
    Raises ScorerError where the package onnx is missing or the scorer cannot be exported, as exact transport cannot,
    UnknownMetricError.
    """
    if precision not in PRECISIONS:
        raise ScorerError(unknown_name("precision", precision, PRECISIONS))
    check_exportable(scorer)
    name = type(scorer).__name__
    metric = check_metric(metric, scorer.metrics, name)
    try:
        import onnx
    except ImportError as error:
        raise ScorerError("exporting a scorer needs the package onnx: pip install onnx") from error
    graph = Graph(precision)
    made = made_of(graph, scorer, metric)
    outputs: dict[str, list[str | int]] = {"score": ["n"]}
    graph.op("Identity", made.score, called="score")
    if made.losses:
        graph.op("Identity", made.losses, called="losses")
        outputs["losses"] = ["n", len(made.axes)]
    helper = onnx.helper
    nodes, constants = graph.leading_to(outputs)
    model = helper.make_model(
        helper.make_graph(
            nodes,
            f"hunch {name}",
            [helper.make_tensor_value_info("x", graph.element, ["n", *made.shape])],
            [helper.make_tensor_value_info(output, graph.element, sizes) for output, sizes in outputs.items()],
            constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,  # the one of opset 17: runtimes since 2022 read it
        producer_name="hunch",
        producer_version=__version__,
    )
    metadata = {
        "hunch_version": __version__,
        "class": name,
        "architecture": made.architecture,
        "metric": metric,
        "precision": precision,
        "shape": json.dumps(list(made.shape)),
        "n_columns": str(math.prod(made.shape)),
        "input_names": json.dumps(list(getattr(scorer, "input_names", ()))),
        "inputs_made": json.dumps(getattr(scorer, "made_", {})),
        "axis_names": json.dumps(list(made.axes)),
    }
    helper.set_model_props(model, metadata)
    helper.set_model_props(model, {SUM: sum_of(model), **metadata})
    onnx.checker.check_model(model, full_check=True)
    with write_aside(path) as aside:
        aside.write_bytes(model.SerializeToString())
    return Path(path)


def check_exportable(scorer: Any, where: str = "") -> None:
    """Refuse what ONNX cannot hold, by name: raises ScorerError, and NotFittedError for what is not fitted."""
    name = f"{where}{type(scorer).__name__}"
    if isinstance(scorer, ScorerSpace):
        require_fitted(scorer.spreads_, scorer)
        for axis, own in scorer.scorers.items():
            check_exportable(own, f"axis {axis!r}: ")
        return
    if isinstance(scorer, ConvVae | NAE):
        require_fitted(scorer.network_, scorer)
        return
    if not isinstance(scorer, Quak | DensityScorer):
        transport = " (optimal transport is no graph)" if isinstance(scorer, EventToEnsemble) else ""
        raise ScorerError(
            f"{name} cannot be exported as ONNX{transport}; allowed: ConvVae, Flow, NAE, Quak, Vae, and spaces of them"
        )
    architecture = require_fitted(scorer.density_, scorer).architecture.name
    if architecture not in EXPORTABLE:
        raise ScorerError(
            f"{name} of architecture {architecture!r} cannot be exported as ONNX; allowed: {', '.join(EXPORTABLE)}"
        )


def made_of(graph: Graph, scorer: Any, metric: str, x: str = "x") -> Made:
    """Put a scorer into a graph, of the input or of a node x."""
    if isinstance(scorer, ScorerSpace):
        return space_of(graph, scorer, metric)
    if isinstance(scorer, ConvVae):
        sizes = require_fitted(scorer.network_, scorer).sizes
        score = conv_score(graph, scorer, x, metric)
        return Made(score, (sizes.height, sizes.width), "convolutional VAE")
    if isinstance(scorer, NAE):
        score = energy_score(graph, scorer, x, metric)
        return Made(score, shape_of(scorer), f"{scorer.architecture} autoencoder of {scorer.inputs}")
    density = stack_of(scorer)
    shape, architecture = (density.columns.n_columns,), density.architecture.name
    if isinstance(scorer, DensityScorer):
        return Made(density_score(graph, scorer, x, metric), shape, architecture)
    losses = graph.add(*density_terms(graph, density, x))
    score = quak_score(graph, scorer, losses, metric)
    return Made(score, shape, architecture, graph.op("Transpose", losses, perm=[1, 0]), scorer.axis_names)


def stack_of(scorer: Quak | DensityScorer) -> DensityStack:
    """Return the fitted densities of a scorer."""
    return require_fitted(scorer.density_, scorer)


def space_of(graph: Graph, space: ScorerSpace, metric: str) -> Made:
    """Put a space of scorers into a graph: `ScorerSpace.losses` and `ScorerSpace.score_of`."""
    columns: list[str] = []
    shapes = []
    for axis, scorer in space.scorers.items():
        jets, shape = space.jets_[axis], jet_shape(scorer)
        single = graph.reshape("x", -1, *shape) if shape else "x"
        own = made_of(graph, scorer, space.axis_metric(axis), single)
        shapes.append((jets, *shape) if shape else own.shape)
        scores = graph.multiply(graph.reshape(own.score, -1, jets), 1 / space.spread(axis))
        if jets > 1 and space.per_jet == "sum":
            scores = graph.total(scores, 1, keep=True)
        elif jets > 1 and space.per_jet == "max":
            scores = graph.op("ReduceMax", scores, axes=[1])
        columns.append(scores)
    if len(set(shapes)) > 1:
        raise ScorerError(f"a space whose axes take different inputs cannot be exported as ONNX: {shapes}")
    if len(set(space.names_.values())) > 1:
        told = "; ".join(f"{axis}: {', '.join(names) or 'without names'}" for axis, names in space.names_.items())
        raise ScorerError(f"a space whose axes take different columns cannot be exported as ONNX: {told}")
    background, priors = columns[0], dict(zip(list(space.scorers)[1:], columns[1:], strict=True))
    if metric == BACKGROUND or not priors:
        made = background
    else:
        chosen = list(priors.values()) if metric == "difference" else [priors[metric]]
        nearest = graph.op("Min", *chosen) if len(chosen) > 1 else chosen[0]
        made = graph.subtract(background, graph.multiply(nearest, space.alpha))
    losses = graph.op("Concat", *columns, axis=1)
    return Made(graph.total(made, 1), shapes[0], ", ".join(kinds_of(space)), losses, space.axis_names)


def shape_of(scorer: NAE) -> tuple[int, ...]:
    """Return the shape of one input of a normalised autoencoder."""
    return require_fitted(scorer.coordinates_, scorer).shape


def jet_shape(scorer: Scorer) -> tuple[int, ...]:
    """Return the shape (a, b) of one jet, of which an event of a space may have several; () of a scorer of rows."""
    if isinstance(scorer, ConvVae):
        sizes = require_fitted(scorer.network_, scorer).sizes
        return sizes.height, sizes.width
    return shape_of(scorer) if isinstance(scorer, NAE) and scorer.inputs != "rows" else ()


def kinds_of(space: ScorerSpace) -> list[str]:
    """Return the classes of a space's scorers, each once."""
    return list(dict.fromkeys(type(scorer).__name__ for scorer in space.scorers.values()))


def density_score(graph: Graph, scorer: DensityScorer, x: str, metric: str) -> str:
    """Return the loss of a scorer of one density model, or one of its two terms: (n,) of rows x (n, d)."""
    if metric not in scorer.metrics[:3]:
        allowed = ", ".join(scorer.metrics[:3])
        raise ScorerError(f"metric {metric!r} is a sampled estimate and cannot be exported as ONNX; allowed: {allowed}")
    terms = density_terms(graph, stack_of(scorer), x)
    made = graph.add(*terms) if metric == scorer.metrics[0] else terms[scorer.metrics.index(metric) - 1]
    return graph.op("Squeeze", made, graph.constant([0], dtype=np.int64))


def quak_score(graph: Graph, scorer: Quak, losses: str, metric: str) -> str:
    """Return the score (n,) from the losses (m, n) as `Quak.score` does."""
    background = graph.axis(losses, 0)
    axes, priors = scorer.axis_names, len(scorer.prior_names)

    def against(signal: str) -> str:
        return graph.subtract(background, graph.multiply(signal, scorer.alpha))

    if metric in axes[1:]:
        return against(graph.axis(losses, axes.index(metric)))
    if metric == "background" or not priors:
        return background
    if metric == "anomaly" and len(axes) > 1 + priors:
        difference = against(graph.axis(losses, 1 + priors))
    else:
        of_priors = graph.op("Gather", losses, graph.constant(np.arange(1, 1 + priors), dtype=np.int64), axis=0)
        difference = against(graph.op("ReduceMin", of_priors, axes=[0], keepdims=0))
    if metric == "difference":
        return difference
    return graph.op("Max", difference, graph.subtract(background, scorer.background_max_))
