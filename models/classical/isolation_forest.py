"""An isolation forest as an anomaly score: what random cuts soon set apart is anomalous."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..inputs import ScorerError
from .row_scorer import Arrays, FittedRows, Matrix

__all__ = ["IsolationForest", "average_path"]

NODES = ("left", "right", "feature", "threshold", "path")


def average_path(n: npt.ArrayLike) -> Matrix:
    """Return the mean depth c(n) of a row in a tree of random cuts that is grown until n rows are apart.

    c(n) = 2 (ln(n - 1) + gamma) - 2 (n - 1) / n (Liu, Ting, Zhou 2008, eq. 1), 1 of two rows, 0 of one.

    >>> average_path([1, 2, 256]).round(4).tolist()
    [0.0, 1.0, 10.2448]
    """
    count = np.asarray(n, dtype=np.float64)
    more = np.maximum(count, 3)
    long = 2 * (np.log(more - 1) + np.euler_gamma) - 2 * (more - 1) / more
    return np.asarray(np.where(count > 2, long, np.where(count == 2, 1.0, 0.0)))


@dataclass(kw_only=True, eq=False, repr=False)
class IsolationForest(FittedRows):
    """Isolation forest (Liu, Ting, Zhou, ICDM 2008), fitted by scikit-learn.

    n_estimators: trees; max_samples: rows a tree is grown with, or all where there are fewer; scaling: see `RowScorer`; cuts are uniform between the
    extremes of a column, so that "quantiles" changes more than the units.

    Metrics: "isolation", 2^(-E[h] / c(max_samples)) of the mean depth h of a row: 0.5 is ordinary, near 1 anomalous. A row is no further out than
    the outermost row of the training, wherever it lies, and a constant column is never cut.
    """

    metrics: ClassVar = ("isolation",)
    shown: ClassVar = ("n_estimators",)
    whole_numbers: ClassVar = {"n_estimators": (1, 10_000), "max_samples": (2, 1_000_000)}

    n_estimators: int = 100
    max_samples: int = 256

    def fitted_to(self, mapped: Matrix) -> tuple[Arrays, dict[str, Any]]:
        """Return the nodes of all trees, one tree behind the other."""
        from sklearn.ensemble import IsolationForest as Forest

        samples = min(self.max_samples, len(mapped))
        forest = Forest(n_estimators=self.n_estimators, max_samples=samples, random_state=self.random_state())
        trees = [estimator.tree_ for estimator in forest.fit(mapped).estimators_]
        sizes = [tree.node_count for tree in trees]
        roots = np.concatenate([[0], np.cumsum(sizes[:-1])]).astype(np.int64)
        children = {
            side: np.concatenate(
                [
                    np.where((own := getattr(tree, f"children_{side}")) < 0, -1, own + root)
                    for tree, root in zip(trees, roots, strict=True)
                ]
            ).astype(np.int64)
            for side in ("left", "right")
        }
        fitted: Arrays = {
            "roots": roots,
            **children,
            "feature": np.concatenate([np.maximum(tree.feature, 0) for tree in trees]).astype(np.int64),
            "threshold": np.concatenate([tree.threshold for tree in trees]),
            "path": depths(children, roots) + average_path(np.concatenate([tree.n_node_samples for tree in trees])),
            "unit": average_path([samples]),
        }
        return fitted, {"max_samples": samples, "nodes": int(sum(sizes))}

    def scores(self, mapped: Matrix, metric: str) -> Matrix:
        """Return the scores (n,) of scaled rows (n, d), which the trees see in single precision, as in the fit."""
        from .forest_paths import path_sums

        del metric
        roots, unit = self.fitted_["roots"], float(self.fitted_["unit"][0])
        sums = path_sums(mapped.astype(np.float32), roots, *(self.fitted_[name] for name in NODES))
        return np.asarray(2.0 ** (-sums / (len(roots) * unit)))

    def check_stored(self, n_columns: int) -> None:
        """Raise ScorerError where nodes are missing, or their numbers lead out of the arrays, in a circle or to no column."""
        nodes = self.fitted_["threshold"].shape
        self.require_shapes(roots=(self.n_estimators,), unit=(1,), **dict.fromkeys(NODES, nodes))
        roots, left, right, feature = (self.fitted_[name] for name in ("roots", "left", "right", "feature"))
        for name in ("roots", "left", "right", "feature"):
            if self.fitted_[name].dtype != np.int64:
                raise ScorerError(f"{name} holds {self.fitted_[name].dtype}, int64 is expected")
        own = np.arange(len(left))
        inner = left != -1
        behind = [(child[inner] > own[inner]).all() and (child[inner] < len(own)).all() for child in (left, right)]
        if len(own) == 0 or not all(behind) or roots.min() < 0 or roots.max() >= len(own):
            raise ScorerError("the trees lead to nodes that there are not, or back to one of before")
        if feature.min() < 0 or feature.max() >= n_columns or not self.fitted_["unit"][0] > 0:
            raise ScorerError(f"the trees cut columns other than the {n_columns} there are")


def depths(children: Arrays, roots: npt.NDArray[np.int64]) -> Matrix:
    """Return the depth (nodes,) of every node below its root."""
    depth = np.zeros(len(children["left"]))
    level = roots
    while len(level):
        inner = level[children["left"][level] >= 0]
        below = [children[side][inner] for side in ("left", "right")]
        for child in below:
            depth[child] = depth[inner] + 1
        level = np.concatenate(below)
    return depth
