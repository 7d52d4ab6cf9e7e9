"""One spectrum's background as columns: ln nu = basis theta + offset, with the priors of the constrained ones.

What iminuit, pyhf and the limits build their own likelihood from, so that all of them have the one that was fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from .background import BackgroundFit, columns_of_process, is_log_linear, log_offset, orthonormal_basis
from .gaussian_process import DIJET_ORDER, GAUSSIAN_PROCESS

__all__ = ["Columns", "columns_at"]

Floats = npt.NDArray[np.float64]
LEAST_WEIGHT = 0.1  # events: free columns of a bin that expects next to none stay small


@dataclass(frozen=True, repr=False)
class Columns:
    """basis (bins, k), offset (bins,), precision (k,) of the priors N(0, 1 / precision), 0 for free ones, which come first.

    theta: (k,) of the fit. The free columns are orthonormal under the fitted expectation, and no parameter is correlated with
    another there, so that any minimiser gets on with them.
    """

    basis: Floats
    offset: Floats
    precision: Floats
    theta: Floats

    def __repr__(self) -> str:
        """Return the sizes in a line."""
        return f"Columns({self.n_free} free and {len(self.theta) - self.n_free} constrained, {len(self.offset)} bins)"

    @property
    def n_free(self) -> int:
        """Return the number of free columns."""
        return int((self.precision == 0).sum())

    def expected(self, theta: Floats) -> Floats:
        """Return nu (bins,) at theta (k,)."""
        return np.asarray(np.exp(np.clip(self.basis @ theta + self.offset, -60.0, 60.0)))


def columns_at(
    background: BackgroundFit, spectrum: int, edges: Sequence[float] | Floats, *, sqrt_s: float, family: str
) -> Columns:
    """Return the columns of one fitted spectrum. Raises InputError for a family that is not log-linear.

    Of a Gaussian process: the free columns of the dijet function, and the modes of its width and length that the data tell of.
    """
    bins = np.asarray(edges, dtype=np.float64)
    if not (is_log_linear(family) or family == GAUSSIAN_PROCESS):
        raise InputError(f"{family} is not log-linear: it has no columns")
    expected = background.expected[spectrum]
    weights = np.maximum(expected, LEAST_WEIGHT)
    if family != GAUSSIAN_PROCESS:
        basis = orthonormal_basis(bins, int(background.order[spectrum]), sqrt_s=sqrt_s, family=family, weights=weights)
        offset = log_offset(bins, sqrt_s=sqrt_s, family=family)
        theta = (background.log_expected[spectrum] - offset) @ (basis * weights[:, None])
        return Columns(basis, offset, np.zeros(basis.shape[1]), theta)
    fit = background.process
    assert fit is not None, "a Gaussian process has its process"
    columns = columns_of_process(fit.process, bins, weights[None], sqrt_s=sqrt_s)
    # a mode that was left out has a coefficient of exactly 0
    constrained = columns.constrained(fit, spectrum)[np.flatnonzero(fit.coefficients[spectrum])]
    dijet = columns.free[: DIJET_ORDER + 1].T
    q, _ = np.linalg.qr(dijet * np.sqrt(weights)[:, None])
    free = q / np.sqrt(weights)[:, None]
    # what the free columns can take over is theirs, and a rotation leaves priors N(0, 1) what they are
    beside = constrained.T - free @ (free.T @ (weights[:, None] * constrained.T))
    beside = beside @ np.linalg.eigh(beside.T @ (weights[:, None] * beside))[1][:, ::-1]
    basis = np.concatenate([free, beside], axis=1)
    root = np.sqrt(weights)[:, None]
    theta = np.linalg.lstsq(
        basis * root, (background.log_expected[spectrum] - columns.offset) * root[:, 0], rcond=None
    )[0]
    return Columns(basis, columns.offset, np.append(np.zeros(free.shape[1]), np.ones(beside.shape[1])), theta)
