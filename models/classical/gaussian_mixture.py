"""A Gaussian mixture as an anomaly score: rare is anomalous."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...errors import unknown_name
from ..inputs import ScorerError
from .row_scorer import Arrays, FittedRows, Matrix, negative_log_sum, require_number

__all__ = ["COVARIANCES", "GaussianMixture"]

logger = logging.getLogger(__name__)

COVARIANCES = ("full", "diag", "tied", "spherical")
"""One matrix a component, one variance a column and component, one matrix for all, one variance a component."""


@dataclass(kw_only=True, eq=False, repr=False)
class GaussianMixture(FittedRows):
    """A mixture of Gaussians, fitted by scikit-learn's expectation maximisation.

    components: how many; covariance: of COVARIANCES; n_init: starts, of which the best is taken; max_iter: steps of one; reg_covar: added to every
    variance, in units of the scaled columns, which keeps a component off a single row or a constant column; scaling: see `RowScorer`.

    Metrics: "loss" (default; -log p(x) in nats, with the Jacobian of the scaling), "mahalanobis" (the distance to the nearest component, by its
    covariance).
    """

    metrics: ClassVar = ("loss", "mahalanobis")
    densities: ClassVar = ("loss",)
    shown: ClassVar = ("components", "covariance")
    whole_numbers: ClassVar = {"components": (1, 10_000), "n_init": (1, 1000), "max_iter": (1, 100_000)}

    components: int = 8
    covariance: str = "full"
    n_init: int = 1
    max_iter: int = 200
    reg_covar: float = 1e-6

    def check(self, shape: Sequence[int] = ()) -> None:
        """Raise ScorerError for options that mean nothing."""
        super().check(shape)
        if self.covariance not in COVARIANCES:
            raise ScorerError(unknown_name("covariance", str(self.covariance), COVARIANCES, type(self).__name__))
        require_number("reg_covar", self.reg_covar, zero=True)

    def fitted_to(self, mapped: Matrix) -> tuple[Arrays, dict[str, Any]]:
        """Return weights, means and the Cholesky factors of the inverse covariances."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture as Mixture
        from threadpoolctl import threadpool_limits

        self.require_rows("components", mapped)
        mixture = Mixture(
            self.components,
            covariance_type=self.covariance,
            n_init=self.n_init,
            max_iter=self.max_iter,
            reg_covar=self.reg_covar,
            random_state=self.random_state(),
        )
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            try:
                mixture.fit(mapped)
            except ValueError as error:  # scikit-learn's word for a covariance without an inverse
                raise ScorerError(
                    f"{self.components} components cannot be fitted: a covariance has no inverse; fewer components or a reg_covar above "
                    f"{self.reg_covar:g} may help"
                ) from error
        if not mixture.converged_:
            logger.warning(
                "GaussianMixture: not converged after max_iter=%d steps; the last one is taken", self.max_iter
            )
        names = {"weights": "weights_", "means": "means_", "precisions_cholesky": "precisions_cholesky_"}
        fitted = {name: np.asarray(getattr(mixture, own), dtype=np.float64) for name, own in names.items()}
        return fitted, {"converged": bool(mixture.converged_), "iterations": int(mixture.n_iter_)}

    def scores(self, mapped: Matrix, metric: str) -> Matrix:
        """Return one metric (n,) of scaled rows (n, d)."""
        means = self.fitted_["means"]
        squares, log_det = self.pulls(mapped)
        if metric == "mahalanobis":
            return np.asarray(np.sqrt(squares.min(axis=1)))
        normal = log_det - 0.5 * means.shape[1] * math.log(2 * math.pi)
        with np.errstate(divide="ignore"):  # a component that nothing belongs to has no weight
            log_weights = np.log(self.fitted_["weights"])
        return negative_log_sum(log_weights + normal - 0.5 * squares)

    def pulls(self, mapped: Matrix) -> tuple[Matrix, Matrix]:
        """Return the squared Mahalanobis distances (n, components) of scaled rows, and log det of the factors (components,)."""
        means, factors = self.fitted_["means"], self.fitted_["precisions_cholesky"]
        k, d = means.shape
        squares = np.empty((len(mapped), k))
        for i, mean in enumerate(means):
            off = mapped - mean
            own = factors if self.covariance == "tied" else factors[i]
            pull = off @ own if self.covariance in {"full", "tied"} else off * own
            squares[:, i] = np.square(pull).sum(axis=1)
        if self.covariance in {"full", "tied"}:
            log_det = np.log(np.diagonal(factors, axis1=-2, axis2=-1)).sum(axis=-1)
        else:
            log_det = np.log(factors).sum(axis=1) if self.covariance == "diag" else d * np.log(factors)
        return squares, np.broadcast_to(log_det, (k,))

    def check_stored(self, n_columns: int) -> None:
        """Raise ScorerError where the arrays are not those of as many components, columns and of this covariance."""
        k, d = self.components, n_columns
        factors = {"full": (k, d, d), "diag": (k, d), "tied": (d, d), "spherical": (k,)}[self.covariance]
        self.require_shapes(weights=(k,), means=(k, d), precisions_cholesky=factors)
