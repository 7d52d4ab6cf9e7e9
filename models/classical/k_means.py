"""The distance to the nearest of some cluster centres as an anomaly score."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .row_scorer import Arrays, FittedRows, Matrix

__all__ = ["KMeans"]


@dataclass(kw_only=True, eq=False, repr=False)
class KMeans(FittedRows):
    """k-means (Lloyd's algorithm from k-means++ starts), fitted by scikit-learn.

    clusters: how many; n_init: starts, of which the best is taken; max_iter: steps of one; scaling: see `RowScorer`.

    Metrics: "distance", the Euclidean one to the nearest centre, in scaled columns.
    """

    metrics: ClassVar = ("distance",)
    shown: ClassVar = ("clusters",)
    whole_numbers: ClassVar = {"clusters": (1, 100_000), "n_init": (1, 1000), "max_iter": (1, 100_000)}

    clusters: int = 8
    n_init: int = 4
    max_iter: int = 300

    def fitted_to(self, mapped: Matrix) -> tuple[Arrays, dict[str, Any]]:
        """Return the centres."""
        from sklearn.cluster import KMeans as Clusters
        from sklearn.exceptions import ConvergenceWarning
        from threadpoolctl import threadpool_limits

        self.require_rows("clusters", mapped)
        made = Clusters(self.clusters, n_init=self.n_init, max_iter=self.max_iter, random_state=self.random_state())
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different rows than clusters: centres coincide
            made.fit(mapped)
        centres = np.asarray(made.cluster_centers_, dtype=np.float64)
        return {"centres": centres}, {"iterations": int(made.n_iter_), "inertia": float(made.inertia_)}

    def scores(self, mapped: Matrix, metric: str) -> Matrix:
        """Return the distance (n,) of scaled rows (n, d) to the nearest centre."""
        del metric
        nearest = np.full(len(mapped), np.inf)
        for centre in self.fitted_["centres"]:
            np.minimum(nearest, np.square(mapped - centre).sum(axis=1), out=nearest)
        return np.asarray(np.sqrt(nearest))

    def check_stored(self, n_columns: int) -> None:
        """Raise ScorerError where there are other centres than clusters and columns."""
        self.require_shapes(centres=(self.clusters, n_columns))
