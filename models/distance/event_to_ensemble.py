"""Event to ensemble: a jet is anomalous when it is far from the jets that stand for a sample (arXiv:2110.06948).

The sample is whatever `fit` gets: QCD jets (far = unlike QCD), top jets or another prior (far = unlike the prior).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch

from ...errors import unknown_name
from ..inputs import ShapeError, TooFewRowsError, check_metric, whole_number
from ..sample import Events, refuse_unused, sample_names, single_jet
from ..scorer import Method, require_fitted, save_scorer
from ..train.loop import named_device
from .clouds import (
    Array,
    Clouds,
    as_jets,
    check_pixel,
    clouds_from_constituents,
    clouds_from_images,
    require_unit,
    require_weights,
)
from .medoids import elbow, medoid_path
from .sinkhorn import TOLERANCE, check_tolerance, sinkhorn
from .transport import TransportOptionError, check_options, wasserstein

__all__ = ["EventToEnsemble", "mean_power_distance"]

CHUNK = 4096  # jets at once in score: what is between jets and references stays small
LEAST_ELBOW = 3  # numbers of medoids that an elbow is looked for among
POWERS = {"mae": 1.0, "mse": 2.0}
REDUCTIONS: dict[str, Callable[..., Array]] = {"min": np.min, "mean": np.mean, "sum": np.sum}
ALLOWED = {
    "inputs": ("images", "constituents"),
    "distance": ("wasserstein", *POWERS),
    "solver": ("exact", "sinkhorn"),
    "references": ("medoids", "average", "all"),
}


def mean_power_distance(x: Array, y: Array, *, power: float) -> Array:
    """Return the mean over all entries of |x − y|^power, (n, k), of jets x (n, a, b) to jets y (k, a, b).

    power: 1 is the MAE, 2 the MSE, per pixel: 1,600 times less than the sums over a 40×40 image. Of constituents the
    entries are the i-th's pT and coordinates against the i-th's, so their order counts. Raises ShapeError.
    """
    if x.shape[1:] != y.shape[1:]:
        raise ShapeError(f"x: jets have the shape {x.shape[1:]}, y: {y.shape[1:]}")
    size = int(np.prod(x.shape[1:]))
    flat, others = x.reshape(len(x), size), y.reshape(len(y), size)
    found = [(np.abs(flat - other) ** power).mean(axis=1) for other in others]
    return np.stack(found, axis=1) if found else np.empty((len(x), 0))


@dataclass(kw_only=True, eq=False, repr=False)
class EventToEnsemble(Method):
    """Score = distance to references drawn from a sample: the nearest one, the mean or the sum over them.

    inputs: "images" (n, height, width) of pT, or "constituents" (n, m, 1 + d): pT first, then coordinates relative to
    the jet's axis, pT 0 is padding. distance: "wasserstein" (Wass(p)), "mae" or "mse". solver: of the transport, "exact"
    (`transport.py`; needs POT) or "sinkhorn" (`sinkhorn.py`: the middle of two bounds, on a GPU where there is one; it
    logs a warning where they are further apart than the tolerance allows). references: "medoids" (needs the package kmedoids for more than one), the "average" image, or "all" jets of
    the sample. k: number of medoids; None takes the elbow of k = 1 to k_max. sample: jets at most that medoids are
    chosen from, by seed: their distances are n(n − 1)/2 transports. unbalanced: R, a cost for unequal pT sums in place
    of normalised jets. pixel: side of a pixel, 1 for distances in pixels. normalise: divide each jet's pT by their sum.
    threads: of the transport; changes no score (None: as many as torch may use, Sinkhorn one). Of Sinkhorn alone are
    device ("auto", "cpu", "cuda", ...) and tolerance (relative; None: 0.02); there the company changes a score by
    rounding.

    metrics: the reduction over the references. "sum" is k times "mean" and ranks alike.
    """

    takes: ClassVar = ("images", "sets")
    trains: ClassVar = False
    metrics: ClassVar = tuple(REDUCTIONS)
    kind_options: ClassVar = {"images": {"inputs": "images"}, "sets": {"inputs": "constituents"}}
    kind_defaults: ClassVar = {"sets": {"normalise": True}}
    shown: ClassVar = ("inputs", "distance", "references")

    inputs: str = "images"
    distance: str = "wasserstein"
    solver: str = "exact"
    p: float = 1.0
    references: str = "medoids"
    k: int | None = None
    k_max: int = 10
    sample: int = 500
    unbalanced: float | None = None
    pixel: float = 1.0
    normalise: bool = False
    threads: int | None = None
    tolerance: float | None = None
    references_: Array | None = field(default=None, init=False)

    def fit(self, x: Events, *, validation: Events | None = None, progress: bool = False) -> Self:
        """Choose the references from the jets x, shaped as `inputs` says, and return self.

        x: one jet an event, an array or the one column of a table or a sample, whose name is stored and asked for in `score`; validation: jets whose mean score ("min") is noted in `training_`; they change no reference. progress: a bar on
        stderr. Raises TransportOptionError, TooFewRowsError (no jets, k above
        them), DeviceError, and what `as_jets`, the clouds and `wasserstein` raise.
        """
        self._check_options()
        refuse_unused(x, self.uses, type(self).__name__)
        names, made = sample_names(x)
        jets = self._prepared(as_jets(single_jet(x, names)), "x")
        chosen = self._chosen(len(jets))
        training: dict[str, Any] = {"rows": [len(chosen)], "rows_given": len(jets)}
        if self.references == "average":
            self.references_ = jets.mean(axis=0, keepdims=True)
            self._distances(self.references_[:0], self.references_)  # an image that transport cannot take is named here
        elif self.references == "all":
            self.references_ = jets
            self._distances(jets[:0], jets)
        else:
            path = medoid_path(
                self._distances(jets[chosen], None, progress=progress), k_max=self.k or min(self.k_max, len(chosen))
            )
            k = self.k or elbow(path.inertia)
            self.references_ = jets[chosen[path.rows[k - 1]]]
            training |= {"k": k, "medoids": chosen[path.rows[k - 1]].tolist(), "inertia": path.inertia.tolist()}
        self.training_, self.input_names, self.made_ = training, names, made
        if validation is not None:
            scores = self.score(validation)
            training["validation_mean"] = float(scores.mean()) if len(scores) else None
        return self

    def score(self, x: Events, *, metric: str | None = None) -> npt.NDArray[np.float64]:
        """Return (n,) distances, larger = more anomalous; metric: one of `metrics`.

        In the unit of the points for transport, of |pT|^power for MAE and MSE. Errors as in `fit`.
        """
        metric = check_metric(metric, self.metrics, type(self).__name__)
        return self.score_each(x, (metric,))[metric]

    def score_each(self, x: Events, metrics: Sequence[str]) -> dict[str, npt.NDArray[np.float64]]:
        """Return the scores (n,) of several metrics; the distances are computed once."""
        references = require_fitted(self.references_, self)
        jets = as_jets(single_jet(x, self.input_names, made=self.made_))
        self._require_shape(jets, references)
        scores = {metric: np.empty(len(jets)) for metric in metrics}
        for first in range(0, len(jets), CHUNK):
            part = self._prepared(jets[first : first + CHUNK], f"x from {first}" if first else "x")
            distances = self._distances(part, references)
            for metric, found in scores.items():
                found[first : first + CHUNK] = REDUCTIONS[metric](distances, axis=1)
        return scores

    def save(self, path: str | Path) -> None:
        """Write the folder that `load_scorer` reads."""
        references = require_fitted(self.references_, self)
        save_scorer(
            path,
            self,
            parameters=self.parameters(),
            n_features=int(np.prod(references.shape[1:])),
            state={"shape": list(references.shape)},
            training=self.training_,
            tensors={"references": torch.from_numpy(references)},
        )

    @classmethod
    def from_stored(cls, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """Rebuild from what `save` wrote."""
        scorer = cls(**record["parameters"])
        references = tensors["references"].numpy()
        if list(references.shape) != record["state"]["shape"] or references.ndim != 3:
            raise ValueError(f"references of shape {references.shape}, the record says {record['state']['shape']}")
        scorer.references_ = references
        scorer.training_ = dict(record["training"])
        return scorer

    def check(self, shape: Sequence[int] = ()) -> None:
        """Raise TransportOptionError for options that mean nothing, or not together."""
        del shape
        self._check_options()

    def _check_options(self) -> None:
        for name, allowed in ALLOWED.items():
            if getattr(self, name) not in allowed:
                raise TransportOptionError(unknown_name(name, str(getattr(self, name)), allowed, type(self).__name__))
        check_options(self.p, self.unbalanced, self.threads)
        for name in ("k", "k_max", "sample"):
            value = getattr(self, name)
            if value is not None and whole_number(name, value) < 1:
                raise TransportOptionError(f"{name} is {value}; at least 1")
        check_pixel(self.pixel)
        if self.references != "medoids" and self.k is not None:
            raise TransportOptionError(
                f"k is {self.k}, but references={self.references!r} has no medoids; leave it None"
            )
        if self.k is None and self.references == "medoids" and self.k_max < LEAST_ELBOW:
            raise TransportOptionError(
                f"k_max is {self.k_max}; an elbow needs {LEAST_ELBOW} numbers of medoids or more, or give k"
            )
        if self.distance in POWERS and (self.p != 1 or self.unbalanced is not None):
            raise TransportOptionError(
                f"p is {self.p}, unbalanced {self.unbalanced}: options of distance='wasserstein', not of {self.distance!r}"
            )
        if self.references == "average" and self.inputs != "images":
            raise TransportOptionError("references='average' needs inputs='images': constituents have no mean")
        self._check_solver()

    def _check_solver(self) -> None:
        if self.solver == "sinkhorn":
            if self.distance in POWERS:
                raise TransportOptionError(
                    f"solver='sinkhorn' needs distance='wasserstein': {self.distance!r} is no transport"
                )
            check_tolerance(TOLERANCE if self.tolerance is None else self.tolerance)
            named_device(self.device)
            return
        if self.device not in ("auto", "cpu"):
            raise TransportOptionError(
                f"device is {self.device!r}; the exact solver runs on the CPU, solver='sinkhorn' on this one"
            )
        if self.tolerance is not None:
            raise TransportOptionError(
                f"tolerance is {self.tolerance}; the exact solver has none, leave it None or take solver='sinkhorn'"
            )

    def _chosen(self, n: int) -> npt.NDArray[np.int64]:
        """Return the rows, ascending, that medoids are chosen from."""
        if n == 0:
            raise TooFewRowsError("x: has 0 jets, at least 1 is needed")
        if self.references != "medoids" or n <= self.sample:
            chosen = np.arange(n)
        else:
            chosen = np.sort(np.random.default_rng(self.seed).choice(n, self.sample, replace=False))
        if self.references == "medoids" and (self.k or 1) > len(chosen):
            raise TooFewRowsError(
                f"k is {self.k}, more than the {len(chosen)} jets to choose from (x has {n}, sample is {self.sample})"
            )
        return chosen

    def _prepared(self, jets: Array, name: str) -> Array:
        """Return the jets (n, a, b), with unit pT sum where asked for, or say which hold no pT, or less than none.

        Images are compared with unit sums alone; what transport asks for it asks itself.
        """
        images = self.inputs == "images"
        weights = jets.reshape(len(jets), jets.shape[1] * jets.shape[2]) if images else jets[..., 0]
        require_weights(weights, name)
        sums = weights.sum(axis=1)
        if not self.normalise:
            if images and self.distance in POWERS:
                require_unit(sums, name, "normalise=True divides by the sum")
            return jets
        if images:
            return np.asarray(jets / sums[:, None, None])
        return np.concatenate([jets[..., :1] / sums[:, None, None], jets[..., 1:]], axis=2)

    def _require_shape(self, jets: Array, references: Array) -> None:
        # transport takes constituents padded to any length
        free = self.inputs == "constituents" and self.distance == "wasserstein"
        if jets.shape[2 if free else 1 :] != references.shape[2 if free else 1 :]:
            raise ShapeError(f"x: jets have the shape {jets.shape[1:]}, the references {references.shape[1:]}")

    def _clouds(self, jets: Array, name: str) -> Clouds:
        if self.inputs == "images":
            return clouds_from_images(jets, pixel=self.pixel, name=name)
        return clouds_from_constituents(jets, name=name)

    def _distances(self, jets: Array, references: Array | None, *, progress: bool = False) -> Array:
        """Return distances (n, k) to the references, or (n, n) of all pairs."""
        if self.distance in POWERS:
            return mean_power_distance(jets, jets if references is None else references, power=POWERS[self.distance])
        clouds = self._clouds(jets, "x")
        others = None if references is None else self._clouds(references, "references")
        if self.solver == "sinkhorn":
            return sinkhorn(
                clouds,
                others,
                p=self.p,
                unbalanced=self.unbalanced,
                tolerance=TOLERANCE if self.tolerance is None else self.tolerance,
                device=self.device,
                threads=self.threads or 1,
                progress=progress,
            ).distance
        return wasserstein(
            clouds,
            others,
            p=self.p,
            unbalanced=self.unbalanced,
            threads=self.threads,
            progress=progress,
        )
