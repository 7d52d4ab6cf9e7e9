"""Smooth backgrounds: families, their extended binned Poisson fits for many spectra at once, and the F-test.

"dijet" and "exponential" are log-linear, ln nu = A theta with one row of A a bin, so that the negative log-likelihood is
convex and Newton's method finds its only minimum; so are many formulas that a user writes (`user_function`), the others
are fitted by `formula_fit`. "gaussian_process" is the dijet function of order 3 times a process (`gaussian_process`). "bernstein" has polynomials with coefficients of 0 or more (`bernstein`), its order is the
degree. The dijet functions with x = m / sqrt(s) (CMS-EXO-19-012,
arXiv:1911.03947, eq. 1, and the orders tabulated in CASEUtils) are

    2: (1-x)^p1 x^-p2     3: (1-x)^p1 x^-(p2 + p3 ln x)     4: exponent + p4 ln^2 x     5: times exp(-p5 x)

each times a normalisation and the bin width, evaluated at the bin centre; `written.py` gives each function as text with
the signs of its reported parameters. Counts have shape (n_spectra, n_bins).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from ...errors import InputError, unknown_name
from .bernstein import bernstein_basis, fit_bernstein
from .formula import is_formula, parse_function
from .formula_fit import fit_formula, formula_design
from .gaussian_process import (
    DIJET_ORDER,
    GAUSSIAN_PROCESS,
    GaussianProcess,
    ProcessColumns,
    ProcessFit,
    ProcessScan,
    evidences,
    largest,
    process_columns,
    scan_processes,
)
from .log_linear import fit_log_linear

__all__ = [
    "FAMILIES",
    "BackgroundFit",
    "choose_background",
    "design_matrix",
    "family_orders",
    "fit_background",
    "goodness_of_fit",
    "poisson_nll",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

FAMILIES: dict[str, tuple[int, ...]] = {
    GAUSSIAN_PROCESS: (DIJET_ORDER,),
    "dijet": (2, 3, 4, 5),
    "exponential": (1, 2, 3, 4),
    "bernstein": tuple(range(3, 13)),
}
"""Family -> orders, lowest first; an order counts the shape parameters, the normalisation comes on top.

A formula in the place of a family's name is a family of one order.
"""
ALPHA = 0.05
LOW_EVENTS, LOW_PER_BIN = 500, 10
FEW_EVENTS_ORDER = 3
SPARE_FROM = 5_000  # events
LOOK_AHEAD = 2  # degrees of Bernstein polynomials beyond the one taken: even and odd ones gain in turns
BAD_FIT = 1e-3  # chi-squared probability below which one parameter that does not pay is no reason to stop


@dataclass(frozen=True, repr=False)
class BackgroundFit:
    """Background-only fits of many spectra in one family.

    log_expected, expected: (n, bins), events a bin and their logarithm (which keeps what exp would round to zero);
    nll: (n,) extended Poisson -ln L, terms without parameters dropped, with the penalty of constrained terms where there are any;
    order: (n,); n_parameters: (n,), of a Gaussian process as many as the data determine, a fraction; converged: (n,);
    parameters: (n, k) p0 (ln of events in a bin of mean width), p1, ... of a formula that is not log-linear, None else;
    process: of a Gaussian process, None else.
    """

    log_expected: Floats
    expected: Floats
    nll: Floats
    order: npt.NDArray[np.int64]
    n_parameters: Floats
    converged: Bools
    parameters: Floats | None = None
    process: ProcessFit | None = None

    def __repr__(self) -> str:
        """Return the value in a line."""
        n, bins = self.expected.shape
        orders = ", ".join(map(str, np.unique(self.order)))
        return f"BackgroundFit({n} spectra of {bins} bins, orders {orders}, converged: {int(self.converged.sum())})"


def family_orders(family: str) -> tuple[int, ...]:
    """Return the orders of a family, lowest first: one where it is a formula. Raises InputError for what is neither."""
    if family in FAMILIES:
        return FAMILIES[family]
    if not is_formula(family):
        raise InputError(unknown_name("background family", family, FAMILIES) + ", or a formula of x, p1, p2, ...")
    return (parse_function(family).n_parameters,)


def is_log_linear(family: str) -> bool:
    """Tell whether a family is ln nu = A theta and has a design matrix."""
    return parse_function(family).log_linear if is_formula(family) else family in {"dijet", "exponential"}


def log_offset(edges: Sequence[float] | Floats, *, sqrt_s: float, family: str) -> Floats:
    """Return the part of ln nu without parameters, (bins,): the width of the bins over its mean, and a formula's own."""
    edges = np.asarray(edges, dtype=np.float64)
    if is_formula(family):
        return formula_design(family, edges, sqrt_s=sqrt_s)[1]
    return np.asarray(np.log(np.diff(edges) / np.diff(edges).mean()))


def design_matrix(edges: Sequence[float] | Floats, order: int, *, sqrt_s: float, family: str = "dijet") -> Floats:
    """Return A of ln nu = A theta + log_offset, shape (n_bins, order + 1); edges in GeV. Of a Gaussian process: of its free part.

    Raises InputError for an unknown family or order or one that is not log-linear, and where edges reach sqrt(s).
    """
    orders = family_orders(family)
    if order not in orders:
        raise InputError(f"{family}: no order {order}; allowed: {', '.join(map(str, orders))}")
    if not (is_log_linear(family) or family == GAUSSIAN_PROCESS):
        raise InputError(f"{family} is not log-linear: it has no design matrix")
    edges = np.asarray(edges, dtype=np.float64)
    if is_formula(family):
        return formula_design(family, edges, sqrt_s=sqrt_s)[0]
    if family != "exponential" and (edges[0] <= 0 or edges[-1] >= sqrt_s):
        raise InputError(
            f"bin edges must lie between 0 and sqrt_s = {sqrt_s:g} GeV, found {edges[0]:g} to {edges[-1]:g}"
        )
    x = 0.5 * (edges[1:] + edges[:-1]) / sqrt_s
    if family == "exponential":
        t = (x - x.mean()) / (x[-1] - x[0] if len(x) > 1 else 1.0)
        return np.stack([t**k for k in range(order + 1)], axis=1)
    ln = np.log(x)
    columns = [np.ones_like(x), np.log1p(-x), ln, ln**2, ln**3, x]
    return np.stack(columns[: order + 1], axis=1)


def orthonormal_basis(
    edges: Sequence[float] | Floats, order: int, *, sqrt_s: float, family: str, weights: Floats
) -> Floats:
    """Return the same column space as the design matrix, orthonormal under `weights` (bins,).

    The dijet columns are almost collinear (condition numbers of 1e8); in this basis the Hessian is close to a multiple
    of the identity, and no scaling or starting value has to be guessed.
    """
    return orthonormal(design_matrix(edges, order, sqrt_s=sqrt_s, family=family), weights)


def orthonormal(columns: Floats, weights: Floats) -> Floats:
    """Return a basis (bins, k) of the columns' space that is orthonormal under `weights` (bins,)."""
    root = np.sqrt(weights)[:, None]
    # two passes: one QR of nearly collinear columns loses digits, the second restores orthogonality
    q, _ = np.linalg.qr(columns / np.abs(columns).max(axis=0) * root)
    q, _ = np.linalg.qr(q)
    return np.asarray(q / root)


def poisson_nll(counts: Floats, expected: Floats) -> Floats:
    """Return the extended Poisson -ln L of each spectrum without the ln n! term: (n, bins) -> (n,)."""
    return np.asarray((expected - special.xlogy(counts, expected)).sum(axis=-1))


def fit_background(
    counts: npt.ArrayLike,
    edges: Sequence[float] | Floats,
    order: int,
    *,
    sqrt_s: float,
    family: str = "dijet",
    mask: Floats | None = None,
) -> BackgroundFit:
    """Fit one order of a family to many spectra at once: counts (n, bins), edges (bins + 1,) GeV; "bernstein" of any degree.

    mask: (bins,), or for a log-linear family (n, bins), leaves bins out where it is 0. Raises InputError for an unknown
    family or order, counts and edges that do not fit, and a formula that is not positive or whose parameters repeat one
    another.
    """
    counts = np.atleast_2d(np.asarray(counts, dtype=np.float64))
    edges = np.asarray(edges, dtype=np.float64)
    if counts.shape[1] != len(edges) - 1:
        raise InputError(f"{counts.shape[1]} counts a spectrum do not fit {len(edges)} bin edges")
    if is_log_linear(family):
        weights = np.maximum(counts.mean(axis=0), 1e-3 * max(counts.mean(), 1e-9))
        basis = orthonormal_basis(edges, order, sqrt_s=sqrt_s, family=family, weights=weights)
        offset = log_offset(edges, sqrt_s=sqrt_s, family=family)
        theta, nll, converged = fit_log_linear(counts, basis, offset, mask)
        return background_fit(theta @ basis.T + offset, nll, converged, order)
    if family != "bernstein" and order not in family_orders(family):
        raise InputError(f"{family}: no order {order}; allowed: {family_orders(family)[0]}")
    if family == GAUSSIAN_PROCESS:
        if mask is not None:
            raise InputError(f"{family}: all bins are fitted, none is masked")
        return choose_background(counts, edges, sqrt_s=sqrt_s, family=family)
    keep = np.ones(counts.shape[1], dtype=bool) if mask is None else np.asarray(mask) > 0
    if keep.shape != (counts.shape[1],):
        raise InputError(f"{family}: one mask for all spectra, {counts.shape[1]} bins long; found shape {keep.shape}")
    if family != "bernstein":
        log_expected, parameters, nll, converged = fit_formula(counts, edges, family, sqrt_s=sqrt_s, keep=keep)
        return background_fit(log_expected, nll, converged, order, parameters)
    basis = bernstein_basis(edges, order)
    share = basis[keep].sum(axis=0)
    fit = fit_bernstein(counts[:, keep], basis[keep] / share)
    expected = (fit.coefficients / share) @ basis.T
    nll = poisson_nll(counts[:, keep], expected[:, keep])
    return background_fit(np.log(np.maximum(expected, 1e-300)), nll, fit.converged, order)


def columns_of_process(
    process: GaussianProcess, edges: Sequence[float] | Floats, counts: Floats, *, sqrt_s: float
) -> ProcessColumns:
    """Return the columns of a process on bins with these edges; counts (n, bins) give the free ones their weights."""
    bins = np.asarray(edges, dtype=np.float64)
    weights = np.maximum(counts.mean(axis=0), 1e-3 * max(counts.mean(), 1e-9))
    dijet = orthonormal_basis(bins, DIJET_ORDER, sqrt_s=sqrt_s, family="dijet", weights=weights)
    return process_columns(process, bins, dijet, log_offset(bins, sqrt_s=sqrt_s, family="dijet"))


def choose_process(counts: Floats, columns: ProcessColumns) -> BackgroundFit:
    """Fit every spectrum, counts (n, bins), with the process that has the largest evidence."""
    rows = np.ascontiguousarray(counts, dtype=np.float64)
    theta, log_z = evidences(rows, columns)
    chosen = largest(log_z)
    start = theta[np.arange(len(rows)), chosen[:, 0], chosen[:, 1]]
    return process_background(scan_processes(rows, columns, chosen, start, log_z, np.empty((0, rows.shape[1]))))


def process_background(scan: ProcessScan) -> BackgroundFit:
    """Return the background of fitted processes as a value."""
    return BackgroundFit(
        log_expected=np.log(scan.expected),
        expected=scan.expected,
        nll=scan.nll,
        order=np.full(len(scan.nll), DIJET_ORDER),
        n_parameters=scan.n_parameters,
        converged=scan.converged,
        process=scan.fit,
    )


def background_fit(
    log_expected: Floats, nll: Floats, converged: Bools, order: int, parameters: Floats | None = None
) -> BackgroundFit:
    """Return fits of one order, (n, bins) and (n,), as a value."""
    n = len(log_expected)
    return BackgroundFit(
        log_expected=log_expected,
        expected=np.exp(np.clip(log_expected, -60.0, 60.0)),
        nll=nll,
        order=np.full(n, order),
        n_parameters=np.full(n, order + 1.0),
        converged=converged & np.isfinite(nll),
        parameters=parameters,
    )


def merged(counts: Floats, expected: Floats, minimum: float = 5.0) -> tuple[Floats, Floats]:
    """Merge neighbouring bins of one spectrum, from the right, until each expects `minimum` events or more."""
    groups: list[tuple[float, float]] = []
    n = e = 0.0
    for i in range(len(counts) - 1, -1, -1):
        n, e = n + counts[i], e + expected[i]
        if e >= minimum:
            groups.append((n, e))
            n = e = 0.0
    if groups:
        groups[-1] = (groups[-1][0] + n, groups[-1][1] + e)
    else:
        groups = [(n, e)]
    merged_counts, merged_expected = np.array(groups[::-1]).T
    return merged_counts, merged_expected


def goodness_of_fit(counts: Floats, expected: Floats, n_parameters: Floats) -> Floats:
    """Return the chi-squared probability of each fit, bins merged to 5 expected events: (n, bins) -> (n,).

    With no degree of freedom left the probability is 1.
    """
    result = np.ones(len(counts))
    for i in range(len(counts)):
        n, e = merged(counts[i], expected[i])
        ndf = len(n) - float(n_parameters[i])
        if ndf > 0:
            result[i] = stats.chi2.sf(((n - e) ** 2 / e).sum(), ndf)
    return result


def choose_background(
    counts: npt.ArrayLike,
    edges: Sequence[float] | Floats,
    *,
    sqrt_s: float,
    family: str = "dijet",
    lowest: npt.ArrayLike | None = None,
    alpha: float = ALPHA,
    highest: float = 0.0,
    spare: int = 0,
    process: GaussianProcess | None = None,
) -> BackgroundFit:
    """Fit every spectrum with the order that the F-test takes: one more parameter while it pays at level `alpha`.

    counts: (n, bins); edges: (bins + 1,) and sqrt_s in GeV; lowest: (n,) order to start from for each spectrum, else the
    family's first. F = (chi2_a - chi2_b) / (chi2_b / ndf_b). Where chi-squared is no F variable (fewer than 500 events, or a
    bin that expects fewer than 10) the likelihood ratio 2 (nll_a - nll_b) against one degree of freedom decides instead. An
    order is also left where its own fit is bad (p < 0.001) and the likelihood ratio to the highest order pays, and, with
    5,000 events or more, where that ratio has p < `highest`. spare: orders above the chosen one that are taken for 5,000
    events or more, where they converge. A spectrum keeps the order below where the next fit did not converge, and an order
    above 3 needs 500 events. A Gaussian process has the width and length of `process` that the evidence takes (the default of the
    class where it is None). A formula has one order; Bernstein polynomials choose by `choose_bernstein`. What the choices
    are for, and what they were measured to do, is in docs/design/background.md.
    """
    counts = np.atleast_2d(np.asarray(counts, dtype=np.float64))
    allowed = list(family_orders(family))
    n_bins = counts.shape[1]
    if family == GAUSSIAN_PROCESS:
        return choose_process(counts, columns_of_process(process or GaussianProcess(), edges, counts, sqrt_s=sqrt_s))
    if is_formula(family):
        return fit_background(counts, edges, allowed[0], sqrt_s=sqrt_s, family=family)
    allowed = [o for o in allowed if o + 1 < n_bins] or allowed[:1]
    start = np.full(len(counts), allowed[0]) if lowest is None else np.asarray(lowest)
    chosen = np.clip(np.searchsorted(allowed, start), 0, len(allowed) - 1)
    if family == "bernstein":
        return choose_bernstein(counts, edges, allowed, chosen, sqrt_s=sqrt_s, alpha=alpha)
    fits = [fit_background(counts, edges, order, sqrt_s=sqrt_s, family=family) for order in allowed]
    total = counts.sum(axis=1)
    low = (total < LOW_EVENTS) | (fits[0].expected.min(axis=1) < LOW_PER_BIN)
    for i in range(len(allowed) - 1):
        a, b = fits[i], fits[i + 1]
        ratio = np.maximum(2 * (a.nll - b.nll), 0.0)
        p = stats.chi2.sf(ratio, 1)
        ndf = n_bins - allowed[i + 1] - 1
        chi2_a, chi2_b = (((counts - f.expected) ** 2 / np.maximum(f.expected, 1e-12)).sum(axis=1) for f in (a, b))
        f_statistic = np.maximum(chi2_a - chi2_b, 0.0) / np.maximum(chi2_b / max(ndf, 1), 1e-300)
        p = np.where(low | (ndf < 1), p, stats.f.sf(f_statistic, 1, max(ndf, 1)))
        # only those that took the order before may take this one
        better = p < alpha
        to_top = stats.chi2.sf(2 * (a.nll - fits[-1].nll), len(allowed) - 1 - i)
        stalled = (stats.chi2.sf(chi2_a, max(ndf + 1, 1)) < BAD_FIT) & (ndf >= 1)
        better |= fits[-1].converged & ((stalled & (to_top < alpha)) | ((total >= SPARE_FROM) & (to_top < highest)))
        better &= (total >= LOW_EVENTS) | (allowed[i + 1] <= FEW_EVENTS_ORDER)
        chosen[(chosen == i) & better & b.converged] = i + 1
    converged = np.stack([f.converged for f in fits])
    for _ in range(spare):
        above = np.minimum(chosen + 1, len(allowed) - 1)
        chosen = np.where((total >= SPARE_FROM) & converged[above, np.arange(len(counts))], above, chosen)
    return of_order(fits, allowed, chosen)


def choose_bernstein(
    counts: Floats,
    edges: Sequence[float] | Floats,
    degrees: Sequence[int],
    lowest: npt.NDArray[np.int64],
    *,
    sqrt_s: float,
    alpha: float,
) -> BackgroundFit:
    """Fit every spectrum with the degree that the likelihood ratio takes, from degrees[lowest] (n,) on.

    As in `choose_degree` two degrees in a row that gain nothing end the search, not one. The ratio serves at all counts: the
    bounds of the coefficients make it smaller than chi-squared, never larger. What falls by decades takes a high degree at
    few events too. Degrees are fitted for the spectra that still look for one.
    """
    chosen = lowest.copy()
    n = len(counts)
    best: BackgroundFit | None = None
    for i, degree in enumerate(degrees):
        rows = np.flatnonzero((i == chosen) | ((i > chosen) & (i - chosen <= LOOK_AHEAD)))
        if len(rows) == 0:
            continue
        fit = fit_background(counts[rows], edges, degree, sqrt_s=sqrt_s, family="bernstein")
        if best is None:
            best = background_fit(np.zeros_like(counts), np.full(n, np.inf), np.zeros(n, dtype=bool), degree)
        gain = 2 * (best.nll[rows] - fit.nll)
        pays = stats.chi2.sf(gain, np.maximum(i - chosen[rows], 1)) < alpha
        taken = (chosen[rows] == i) | (fit.converged & (pays | ~best.converged[rows]))
        chosen[rows[taken]] = i
        for whole, part in zip(fields(best), fields(fit), strict=True):
            whole[rows[taken]] = part[taken]
    assert best is not None
    return best


def fields(fit: BackgroundFit) -> tuple[npt.NDArray[Any], ...]:
    """Return the arrays of fits, one row a spectrum."""
    return fit.log_expected, fit.expected, fit.nll, fit.order, fit.n_parameters, fit.converged


def of_order(fits: Sequence[BackgroundFit], orders: Sequence[int], chosen: npt.NDArray[np.int64]) -> BackgroundFit:
    """Return of each spectrum the fit of order orders[chosen] (n,)."""
    rows = np.arange(len(chosen))
    return BackgroundFit(
        log_expected=np.stack([f.log_expected for f in fits])[chosen, rows],
        expected=np.stack([f.expected for f in fits])[chosen, rows],
        nll=np.stack([f.nll for f in fits])[chosen, rows],
        order=np.array(orders)[chosen],
        n_parameters=np.array(orders)[chosen] + 1.0,
        converged=np.stack([f.converged for f in fits])[chosen, rows],
    )
