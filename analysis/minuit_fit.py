"""One background fit with iminuit: parameters, errors and covariance for the report, and a check of the batched fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from iminuit import Minuit
from iminuit.cost import ExtendedBinnedNLL

from .background import design_matrix, orthonormal_basis, poisson_nll

__all__ = ["MinuitFit", "fit_with_minuit"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MinuitFit:
    """One background-only fit: p0 (log of the normalisation) and the shape parameters of the family.

    values, errors: name -> number; covariance: (k, k) in the order of values; expected: (bins,) events;
    expected_covariance: (bins, bins) of ln expected; nll: as `poisson_nll`; valid: iminuit's verdict.
    """

    values: dict[str, float]
    errors: dict[str, float]
    covariance: Floats
    expected: Floats
    log_covariance: Floats
    nll: float
    valid: bool


def fit_with_minuit(
    counts: npt.ArrayLike,
    edges: Sequence[float] | Floats,
    order: int,
    *,
    sqrt_s: float,
    family: str = "dijet",
    mask: npt.NDArray[np.bool_] | None = None,
) -> MinuitFit:
    """Fit one spectrum, counts (bins,), with iminuit's extended binned likelihood; `mask` (bins,) keeps where True.

    Fitted in the orthonormal basis of the bins, where MIGRAD needs no tuned starting values; the parameters and their
    covariance are then carried over to the family's own columns.
    """
    n = np.asarray(counts, dtype=np.float64)
    edges = np.asarray(edges, dtype=np.float64)
    weights = np.maximum(n, max(1e-3 * float(n.mean()), 1e-6))
    basis = orthonormal_basis(edges, order, sqrt_s=sqrt_s, family=family, weights=weights)
    offset = np.log(np.diff(edges) / np.diff(edges).mean())
    k = basis.shape[1]

    def cumulative(_edges: Floats, *theta: float) -> Floats:
        expected = np.exp(np.clip(basis @ np.array(theta) + offset, -60.0, 60.0))
        return np.concatenate([[0.0], np.cumsum(expected)])

    start = basis.T @ (weights * (np.log(n + 0.5) - offset))
    cost = ExtendedBinnedNLL(n, edges, cumulative)
    if mask is not None:
        cost.mask = mask
    minuit = Minuit(cost, *start, name=[f"t{i}" for i in range(k)])
    minuit.strategy = 1
    minuit.tol = 1e-2
    for _ in range(3):
        minuit.migrad(ncall=5000)
        if minuit.valid:
            break
    theta = np.array(minuit.values)
    covariance = np.asarray(minuit.covariance) if minuit.covariance is not None else np.full((k, k), np.nan)
    design = design_matrix(edges, order, sqrt_s=sqrt_s, family=family)
    # basis = design @ carry, so parameters of the family's own columns are carry @ theta
    carry = (
        np.linalg.lstsq(design / np.abs(design).max(axis=0), basis, rcond=None)[0] / np.abs(design).max(axis=0)[:, None]
    )
    own = carry @ theta
    own_covariance = carry @ covariance @ carry.T
    names = [f"p{i}" for i in range(k)]
    expected = np.exp(np.clip(basis @ theta + offset, -60.0, 60.0))
    return MinuitFit(
        values=dict(zip(names, own.tolist(), strict=True)),
        errors=dict(zip(names, np.sqrt(np.maximum(np.diag(own_covariance), 0.0)).tolist(), strict=True)),
        covariance=own_covariance,
        expected=expected,
        log_covariance=basis @ covariance @ basis.T,
        nll=float(poisson_nll(n, expected)),
        valid=bool(minuit.valid),
    )
