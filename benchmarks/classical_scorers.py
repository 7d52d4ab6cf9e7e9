"""Scores a second of the classical scorers on one core, beside scikit-learn's own of the same fitted model, taken in turns in one run.

Ours goes from unscaled rows to scores, the scaling included; scikit-learn gets scaled rows. Its kernel density is the exact one (rtol 0), as ours is, and has
the same kernels.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from hunch.models import GaussianMixture, IsolationForest, KernelDensity, KMeans
from hunch.models.density.column_map import map_columns
from hunch.models.train.threads import few_threads

TRAINED, COLUMNS, ROUNDS = 20_000, 10, 3
SCORED = {"IsolationForest": 20_000, "GaussianMixture": 100_000, "KernelDensity": 1000, "KMeans": 100_000}
"""Rows of a round."""


def pairs(x: np.ndarray) -> list[tuple[Any, Callable[[np.ndarray], np.ndarray]]]:
    """Return each scorer fitted to rows x (n, d) and scikit-learn's score of the same model on scaled rows."""
    from sklearn.cluster import KMeans as Clusters
    from sklearn.ensemble import IsolationForest as Forest
    from sklearn.mixture import GaussianMixture as Mixture
    from sklearn.neighbors import KernelDensity as Kernels

    forest, mixture, kernels, clusters = (
        s.fit(x) for s in (IsolationForest(), GaussianMixture(), KernelDensity(), KMeans())
    )
    z = {scorer: map_columns(scorer.columns_, x)[0] for scorer in (forest, mixture, clusters)}
    trees = Forest(n_estimators=100, max_samples=256, random_state=forest.random_state()).fit(z[forest])
    gaussians = Mixture(8, max_iter=200, random_state=mixture.random_state()).fit(z[mixture])
    width = float(kernels.fitted_["bandwidth"][0])
    density = Kernels(bandwidth=width, rtol=0, atol=0).fit(kernels.fitted_["rows"])
    centres = Clusters(8, n_init=4, random_state=clusters.random_state()).fit(z[clusters])
    return [
        (forest, lambda rows: -trees.score_samples(rows)),
        (mixture, lambda rows: -gaussians.score_samples(rows)),
        (kernels, lambda rows: -density.score_samples(rows)),
        (clusters, lambda rows: centres.transform(rows).min(axis=1)),
    ]


def run() -> list[dict[str, Any]]:
    """Measure every scorer."""
    rng = np.random.default_rng(0)
    x = 300 + 50 * rng.normal(size=(TRAINED, COLUMNS))
    found = []
    with threadpool_limits(1), few_threads(1):
        for scorer, reference in pairs(x):
            name = type(scorer).__name__
            rows = 300 + 50 * rng.normal(size=(SCORED[name], COLUMNS))
            scaled, log_jacobian = map_columns(scorer.columns_, rows)
            shift = log_jacobian if "loss" in scorer.metrics else 0.0
            np.testing.assert_allclose(
                scorer.score(rows) + shift, reference(scaled), rtol=1e-6
            )  # the bounds of scikit-learn's tree leave 1e-8
            times: list[tuple[float, float]] = []
            for _ in range(ROUNDS):
                start = time.perf_counter()
                scorer.score(rows)
                middle = time.perf_counter()
                reference(scaled)
                times.append((middle - start, time.perf_counter() - middle))
            ours, theirs = (len(rows) / min(column) for column in zip(*times, strict=True))
            found.append(
                {
                    "name": f"scores of {name}, {COLUMNS} columns, beside scikit-learn's own",
                    "ours": round(ours),
                    "reference": round(theirs),
                    "ratio": round(ours / theirs, 2),
                    "bar": None,
                    "unit": "rows/s",
                }
            )
    return found
