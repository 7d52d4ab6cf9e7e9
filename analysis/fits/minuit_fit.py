"""One background fit with iminuit: parameters, errors and covariance for the report, and a check of the batched fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from iminuit import Minuit
from iminuit.cost import Cost, ExtendedBinnedNLL, NormalConstraint

from ...errors import InputError
from .background import (
    BackgroundFit,
    design_matrix,
    family_orders,
    fit_background,
    is_log_linear,
    log_offset,
    orthonormal_basis,
    poisson_nll,
)
from .bernstein import bernstein_basis, fit_bernstein
from .columns import Columns, columns_at
from .formula_fit import curve_around
from .gaussian_process import GAUSSIAN_PROCESS
from .written import own_parameters

__all__ = ["MinuitFit", "curve_parameters", "fit_with_minuit"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
HELD = 1e-3  # events: a coefficient below stands at its bound of 0


@dataclass(frozen=True, repr=False)
class MinuitFit:
    """One background-only fit: the parameters of `written_function`, p0 the ln of events per unit of mass, p1, ... the shape.

    Of Bernstein polynomials the parameters are the coefficients c0, c1, ... in events. One that is held at 0 has as its
    error the number of events at which -2 ln L has risen by 1. A Gaussian process has p0 to p3 of its dijet function, and g0, g1,
    ..., the coefficients of its constrained columns in units of their prior.
    values, errors: name -> number; covariance: (k, k) in the order of values; expected: (bins,) events;
    log_covariance: (bins, bins) of ln expected; nll: as `poisson_nll`, with the penalty of constrained terms; valid: iminuit's verdict.
    """

    values: dict[str, float]
    errors: dict[str, float]
    covariance: Floats
    expected: Floats
    log_covariance: Floats
    nll: float
    valid: bool

    def __repr__(self) -> str:
        """Return the value in a line."""
        values = ", ".join(f"{name} = {v:.4g} ± {self.errors[name]:.2g}" for name, v in self.values.items())
        return f"MinuitFit({values}{'' if self.valid else ', not valid'})"


def fit_with_minuit(
    counts: npt.ArrayLike,
    edges: Sequence[float] | Floats,
    order: int,
    *,
    sqrt_s: float,
    family: str = "dijet",
    mask: Bools | None = None,
    columns: Columns | None = None,
) -> MinuitFit:
    """Fit one spectrum, counts (bins,), with iminuit's extended binned likelihood; `mask` (bins,) keeps where True.

    Fitted in the orthonormal basis of the bins, where MIGRAD needs no tuned starting values; the parameters and their
    covariance are then carried over to the family's own columns. Formulas that are not log-linear and Bernstein polynomials
    start from the batched fit. columns: of a Gaussian process, whose width and length have been chosen (`columns_at`). Raises
    InputError for an unknown family or order.
    """
    n = np.asarray(counts, dtype=np.float64)
    edges = np.asarray(edges, dtype=np.float64)
    if is_log_linear(family):
        return fit_columns(n, edges, order, sqrt_s=sqrt_s, family=family, mask=mask)
    if family == "bernstein":
        return fit_polynomial(n, edges, order, mask=mask)
    if family == GAUSSIAN_PROCESS:
        if columns is None:
            chosen = fit_background(n, edges, order, sqrt_s=sqrt_s, family=family)
            columns = columns_at(chosen, 0, edges, sqrt_s=sqrt_s, family=family)
        return fit_process(n, edges, columns, sqrt_s=sqrt_s)
    if order not in family_orders(family):
        raise InputError(f"{family}: no order {order}; allowed: {family_orders(family)[0]}")
    return fit_formula_parameters(n, edges, order, sqrt_s=sqrt_s, formula=family, mask=mask)


def curve_parameters(
    background: BackgroundFit, spectrum: int, edges: Sequence[float] | Floats, *, sqrt_s: float, family: str = "dijet"
) -> dict[str, float]:
    """Return the parameters of `written_function` that give the curve of one spectrum's batched fit to rounding.

    iminuit's own stop a little beside the minimum, by 0.4 % of their errors: enough to move a sparse bin by 1e-3.
    """
    bins, order = np.asarray(edges, dtype=np.float64), int(background.order[spectrum])
    if family == GAUSSIAN_PROCESS:
        columns = columns_at(background, spectrum, bins, sqrt_s=sqrt_s, family=family)
        free = columns.n_free
        p = own_of_dijet(columns, bins, np.zeros((free, free)), columns.theta[:free], sqrt_s=sqrt_s)[0]
        return named("p", p) | named("g", columns.theta[free:])
    if is_log_linear(family):
        design = design_matrix(bins, order, sqrt_s=sqrt_s, family=family)
        scale = np.abs(design).max(axis=0)
        target = background.log_expected[spectrum] - log_offset(bins, sqrt_s=sqrt_s, family=family)
        values = np.linalg.lstsq(design / scale, target, rcond=None)[0] / scale
    elif family == "bernstein":
        # relative, so that the bins of few events have their digits too
        expected = np.maximum(background.expected[spectrum], 1e-300)
        basis = bernstein_basis(bins, order) / expected[:, None]
        return named("c", np.maximum(np.linalg.lstsq(basis, np.ones(len(basis)), rcond=None)[0], 0.0))
    else:
        assert background.parameters is not None, "a formula that is not log-linear has parameters"
        values = background.parameters[spectrum]
    return named("p", own_parameters(family, values, np.zeros((len(values),) * 2), bins)[0])


def named(letter: str, values: Floats) -> dict[str, float]:
    """Return parameters (k,) called letter0, letter1, ..."""
    return {f"{letter}{i}": value for i, value in enumerate(values.tolist())}


def minimised(
    counts: Floats,
    edges: Floats,
    expected_at: Callable[[Floats], Floats],
    start: Floats,
    *,
    fixed: Bools | None = None,
    mask: Bools | None = None,
    constrained: Sequence[int] = (),
) -> tuple[Floats, Floats, bool]:
    """Return the parameters (k,), their covariance (k, k), 0 for those fixed, and iminuit's verdict.

    constrained: the parameters that have a prior N(0, 1).
    """

    def cumulative(_edges: Floats, *theta: float) -> Floats:
        return np.concatenate([[0.0], np.cumsum(expected_at(np.array(theta)))])

    k = len(start)
    names = [f"t{i}" for i in range(k)]
    binned = ExtendedBinnedNLL(counts, edges, cumulative, name=names)
    if mask is not None:
        binned.mask = mask
    cost: Cost = binned
    if constrained:
        own = [names[i] for i in constrained]
        cost = binned + NormalConstraint(own, np.zeros(len(own)), np.ones(len(own)))
    minuit = Minuit(cost, **dict(zip(names, start.tolist(), strict=True)))
    if fixed is not None:
        minuit.fixed = fixed.tolist()
    minuit.strategy = 1
    minuit.tol = 1e-2
    for _ in range(3):
        minuit.migrad(ncall=5000)
        if minuit.valid:
            break
    covariance = np.asarray(minuit.covariance) if minuit.covariance is not None else np.full((k, k), np.nan)
    return np.array(minuit.values), covariance, bool(minuit.valid)


def as_fit(
    counts: Floats,
    values: Floats,
    covariance: Floats,
    expected: Floats,
    log_covariance: Floats,
    *,
    valid: bool,
    letter: str = "p",
) -> MinuitFit:
    """Return a fit with its parameters (k,) named letter0, letter1, ..."""
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    return MinuitFit(
        values=named(letter, values),
        errors=named(letter, errors),
        covariance=covariance,
        expected=expected,
        log_covariance=log_covariance,
        nll=float(poisson_nll(counts, expected)),
        valid=valid,
    )


def fit_columns(
    counts: Floats, edges: Floats, order: int, *, sqrt_s: float, family: str, mask: Bools | None
) -> MinuitFit:
    """Fit a log-linear family."""
    weights = np.maximum(counts, max(1e-3 * float(counts.mean()), 1e-6))
    basis = orthonormal_basis(edges, order, sqrt_s=sqrt_s, family=family, weights=weights)
    offset = log_offset(edges, sqrt_s=sqrt_s, family=family)

    def expected_at(theta: Floats) -> Floats:
        return np.asarray(np.exp(np.clip(basis @ theta + offset, -60.0, 60.0)))

    start = basis.T @ (weights * (np.log(counts + 0.5) - offset))
    theta, covariance, valid = minimised(counts, edges, expected_at, start, mask=mask)
    design = design_matrix(edges, order, sqrt_s=sqrt_s, family=family)
    # basis = design @ carry, so parameters of the family's own columns are carry @ theta
    carry = (
        np.linalg.lstsq(design / np.abs(design).max(axis=0), basis, rcond=None)[0] / np.abs(design).max(axis=0)[:, None]
    )
    own, own_covariance = own_parameters(family, carry @ theta, carry @ covariance @ carry.T, edges)
    return as_fit(
        counts,
        own,
        own_covariance,
        expected_at(theta),
        basis @ covariance @ basis.T,
        valid=valid,
    )


def own_of_dijet(
    columns: Columns, edges: Floats, covariance: Floats, theta: Floats, *, sqrt_s: float
) -> tuple[Floats, Floats]:
    """Return p0 to p3 and their covariance from theta of the free columns, and its covariance."""
    design = design_matrix(edges, len(theta) - 1, sqrt_s=sqrt_s)
    scale = np.abs(design).max(axis=0)
    carry = np.linalg.lstsq(design / scale, columns.basis[:, : len(theta)], rcond=None)[0] / scale[:, None]
    return own_parameters("dijet", carry @ theta, carry @ covariance @ carry.T, edges)


def fit_process(counts: Floats, edges: Floats, columns: Columns, *, sqrt_s: float) -> MinuitFit:
    """Fit the columns of a Gaussian process, from zero in the constrained ones."""
    free, k = columns.n_free, len(columns.theta)
    start = np.append(columns.theta[:free], np.zeros(k - free))
    theta, covariance, valid = minimised(counts, edges, columns.expected, start, constrained=range(free, k))
    own, own_covariance = own_of_dijet(columns, edges, covariance[:free, :free], theta[:free], sqrt_s=sqrt_s)
    whole = covariance.copy()
    whole[:free, :free] = own_covariance
    errors = np.sqrt(np.maximum(np.diag(whole), 0.0))
    expected = columns.expected(theta)
    return MinuitFit(
        values=named("p", own) | named("g", theta[free:]),
        errors=named("p", errors[:free]) | named("g", errors[free:]),
        covariance=whole,
        expected=expected,
        log_covariance=columns.basis @ covariance @ columns.basis.T,
        nll=float(poisson_nll(counts, expected)) + 0.5 * float((theta[free:] ** 2).sum()),
        valid=valid,
    )


def fit_formula_parameters(
    counts: Floats, edges: Floats, order: int, *, sqrt_s: float, formula: str, mask: Bools | None
) -> MinuitFit:
    """Fit a formula that is not log-linear, in standard deviations around the batched fit."""
    keep = None if mask is None else np.asarray(mask, dtype=np.float64)
    batched = fit_background(counts[None], edges, order, sqrt_s=sqrt_s, family=formula, mask=keep)
    assert batched.parameters is not None, "a formula that is not log-linear has parameters"
    curve = curve_around(formula, edges, batched.parameters[0], counts, sqrt_s=sqrt_s)

    def expected_at(theta: Floats) -> Floats:
        # outside what the formula is defined for the likelihood is made bad, not undefined
        return np.asarray(np.nan_to_num(curve.expected(theta[None])[0], nan=1e30, posinf=1e30))

    theta, covariance, valid = minimised(counts, edges, expected_at, np.zeros(order + 1), mask=mask)
    slopes = curve.slopes(theta[None]).first[0]
    own, own_covariance = own_parameters(
        formula, curve.parameters(theta[None])[0], curve.unit @ covariance @ curve.unit.T, edges
    )
    return as_fit(
        counts,
        own,
        own_covariance,
        expected_at(theta),
        slopes @ covariance @ slopes.T,
        valid=valid and bool(batched.converged[0]),
    )


def fit_polynomial(counts: Floats, edges: Floats, degree: int, *, mask: Bools | None) -> MinuitFit:
    """Fit Bernstein polynomials; coefficients that the batched fit has at 0 stay there."""
    kept = np.ones(len(counts), dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    basis = bernstein_basis(edges, degree)
    share = basis[kept].sum(axis=0)
    batched = fit_bernstein(counts[None, kept], basis[kept] / share)
    start = batched.coefficients[0] / share
    held = start * share < HELD
    start = np.where(held, 0.0, start)

    def expected_at(coefficients: Floats) -> Floats:
        return np.asarray(basis @ coefficients)

    def scaled(theta: Floats) -> Floats:
        return np.maximum(expected_at(theta * unit), 1e-12)

    # in units of their own size, for coefficients of 1 and of 100,000 events stand side by side
    unit = np.where(held, 1.0, np.sqrt(np.maximum(start, 1.0)))
    theta, covariance, valid = minimised(counts, edges, scaled, start / unit, fixed=held, mask=mask)
    values, covariance = theta * unit, covariance * np.outer(unit, unit)
    expected = scaled(theta)
    slope = basis[kept].T @ (1.0 - counts[kept] / expected[kept])
    covariance[held, held] = (0.5 / np.maximum(slope[held], 0.05)) ** 2
    log_covariance = basis @ covariance @ basis.T / np.outer(expected, expected)
    valid = valid and bool(batched.converged[0])
    return as_fit(counts, values, covariance, expected, log_covariance, valid=valid, letter="c")
