"""Other smooth functions that might describe a spectrum as well as the hunt's: one spectrum, fitted by its Poisson likelihood.

Where several functions describe the data, nobody knows which of them is the truth, and an answer that holds for one of
them only is none. Each family is fitted with a signal on top, so that a resonance in the data is held against no family,
and gives its best member as a truth without the signal:

    dijet                  as in `background.py`, orders 2 to 5
    exponential            exp of a polynomial in m, degrees 1 to 4
    bernstein              polynomials of coefficients of 0 or more, degrees 3 to 12
    log-polynomial         exp of a polynomial in ln m, degrees 1 to 8
    UA2                    x^-p1 exp(-p2 x - p3 x^2), x = m / sqrt(s) (UA2, Z. Phys. C 49 (1991) 17; arXiv:1804.03496)
    sum of exponentials    1 to 4 of them, falling, with positive amplitudes
    sum of powers          1 to 3 of m, falling, with positive amplitudes
    broken power           (m / m0)^-p1 / (1 + (m / m0)^p2)

Densities stand at the centre of a bin, times its width. The member taken is the first that describes the data, and after it
the next ones while each makes 2 nll + 2 k smaller (AIC); where none describes them, that of the smallest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .background import FAMILIES, design_matrix, goodness_of_fit, merged, orthonormal, poisson_nll
from .bernstein import bernstein_basis, fit_bernstein
from .curved import SmoothFit, fit_broken_power, fit_sums
from .log_linear import fit_log_linear
from .log_p import stated_p
from .newton import LogLinear, fit_curve

__all__ = ["ALTERNATIVES", "DESCRIBES", "Alternative", "fit_alternatives", "same_curve"]

Floats = npt.NDArray[np.float64]
DESCRIBES = 0.01  # goodness of fit above which a family describes a spectrum
DEGREES = range(1, 9)  # of polynomials in ln m
MOST_EXPONENTIALS, MOST_POWERS = 4, 3
SAME = 0.1  # chi-squared between two curves under which no experiment tells them apart


@dataclass(frozen=True, repr=False)
class Alternative:
    """The member of a family that is best for one spectrum.

    order: degree or number of terms; expected: (bins,) its background without the signal, NaN where there is no fit;
    signal, error, z: of the signal fitted along, events, NaN without one; nll, nll_alone: Poisson -ln L with the
    signal, and of the background alone; n_parameters: of the background; p: goodness of the fit with the signal; left_out:
    why it does not describe the spectrum, empty where it does.
    """

    family: str
    order: int
    expected: Floats
    signal: float
    error: float
    z: float
    nll: float
    nll_alone: float
    n_parameters: int
    p: float
    left_out: str

    def __repr__(self) -> str:
        """Return the value in a line."""
        return f"Alternative({self.name}, {'described' if self.described else self.left_out})"

    @property
    def name(self) -> str:
        """Return the family with its order, as a report has it."""
        several = self.order > 1
        return {
            "log-polynomial": f"log-polynomial of degree {self.order}",
            "exponential": f"exponential of degree {self.order}",
            "bernstein": f"Bernstein polynomial of degree {self.order}",
            "dijet": f"dijet of order {self.order}",
            "gaussian_process": "dijet times a Gaussian process",
            "sum of exponentials": f"sum of {self.order} exponentials" if several else "one exponential",
            "sum of powers": f"sum of {self.order} powers" if several else "one power",
        }.get(self.family, self.family)

    @property
    def described(self) -> bool:
        """Tell whether the family describes the spectrum."""
        return not self.left_out


class Spectrum(NamedTuple):
    """One spectrum: counts, bin centres (GeV) and widths over their mean, (bins,); the signal's template (bins,) or None."""

    counts: Floats
    edges: Floats
    centres: Floats
    width: Floats
    template: Floats | None
    sqrt_s: float


Fits = Callable[[Spectrum], Iterator[tuple[int, SmoothFit]]]


def fit_columns(of: Spectrum, columns: Floats) -> SmoothFit:
    """Fit nu = width exp(columns theta), and a signal on top where there is a template."""
    offset = np.log(of.width)
    basis = orthonormal(columns, np.maximum(of.counts, 1e-3 * of.counts.mean()))
    theta, nll, converged = fit_log_linear(of.counts[None], basis, offset)
    curve = LogLinear(basis, offset)
    if of.template is None:
        alone = float(nll[0])
        return SmoothFit(curve.expected(theta)[0], 0.0, np.nan, alone, alone, theta[0], bool(converged[0]))
    fit = fit_curve(of.counts[None], curve, theta, of.template[None])
    return SmoothFit(
        background=curve.expected(fit.theta)[0],
        signal=float(fit.signal[0]),
        error=float(fit.error[0]),
        nll=float(fit.nll[0]),
        nll_alone=max(float(nll[0]), float(fit.nll[0])),
        parameters=fit.theta[0],
        converged=bool(fit.converged[0]),
    )


def designed(of: Spectrum, family: str) -> Iterator[tuple[int, SmoothFit]]:
    """Fit every order of a built-in log-linear family."""
    for order in FAMILIES[family]:
        yield order, fit_columns(of, design_matrix(of.edges, order, sqrt_s=of.sqrt_s, family=family))


def bernstein(of: Spectrum) -> Iterator[tuple[int, SmoothFit]]:
    """Fit Bernstein polynomials: that of the highest degree alone where it is hopeless, for it holds all the others."""
    degrees = [degree for degree in FAMILIES["bernstein"] if degree < len(of.counts) - 1]
    if not degrees:
        return
    highest = fit_polynomial(of, degrees[-1])
    nu = np.maximum(highest.background + highest.signal * (0.0 if of.template is None else of.template), 1e-12)
    if goodness_of_fit(of.counts[None], nu[None], np.array([degrees[0]]))[0] <= DESCRIBES:
        yield degrees[-1], highest
        return
    for degree in degrees[:-1]:
        yield degree, fit_polynomial(of, degree)
    yield degrees[-1], highest


def fit_polynomial(of: Spectrum, degree: int) -> SmoothFit:
    """Fit the Bernstein polynomial of one degree."""
    basis = bernstein_basis(of.edges, degree)
    alone = fit_bernstein(of.counts, basis)
    fit = alone if of.template is None else fit_bernstein(of.counts, basis, of.template[None])
    coefficients = fit.coefficients[0]
    return SmoothFit(
        background=basis @ coefficients,
        signal=float(np.nan_to_num(fit.signal[0])),
        error=float(fit.error[0]),
        nll=float(poisson_nll(of.counts, np.maximum(fit.expected[0], 1e-300))),
        nll_alone=float(poisson_nll(of.counts, np.maximum(alone.expected[0], 1e-300))),
        parameters=coefficients,
        converged=bool(fit.converged[0]),
    )


def log_polynomials(of: Spectrum) -> Iterator[tuple[int, SmoothFit]]:
    """Fit exp of polynomials in ln m."""
    u = np.log(of.centres)
    scaled = 2 * (u - u[0]) / (u[-1] - u[0]) - 1
    for degree in DEGREES:
        yield degree, fit_columns(of, np.polynomial.legendre.legvander(scaled, degree))


def ua2(of: Spectrum) -> Iterator[tuple[int, SmoothFit]]:
    """Fit the function of UA2."""
    x = of.centres / of.sqrt_s
    yield 3, fit_columns(of, np.stack([np.ones_like(x), np.log(x), x, x**2], axis=1))


def sums(of: Spectrum, t: Floats, most: int) -> Iterator[tuple[int, SmoothFit]]:
    """Fit sums of falling terms in t (bins,)."""
    scaled = (t - t[0]) / (t[-1] - t[0])
    yield from enumerate(fit_sums(of.counts, scaled, of.width, most=most, template=of.template), start=1)


ALTERNATIVES: dict[str, Fits] = {
    "dijet": lambda of: designed(of, "dijet"),
    "exponential": lambda of: designed(of, "exponential"),
    "bernstein": bernstein,
    "log-polynomial": log_polynomials,
    "UA2": ua2,
    "sum of exponentials": lambda of: sums(of, of.centres, MOST_EXPONENTIALS),
    "sum of powers": lambda of: sums(of, np.log(of.centres), MOST_POWERS),
    "broken power": lambda of: iter(
        [(2, fit_broken_power(of.counts, np.log(of.centres), of.width, template=of.template))]
    ),
}
"""Family -> its fits, member by member, those of fewer parameters first."""
ANY_MASS = {"exponential", "bernstein", "sum of exponentials"}
"""Families that are defined at masses of 0 and below, too."""


def fit_alternatives(
    counts: Floats,
    edges: Floats,
    *,
    sqrt_s: float,
    template: Floats | None = None,
    families: Iterable[str] = tuple(ALTERNATIVES),
) -> tuple[Alternative, ...]:
    """Fit the families to one spectrum of counts (bins,), edges (bins + 1,) in GeV, each with a signal of a template (bins,)."""
    width = np.diff(edges)
    spectrum = Spectrum(counts, edges, 0.5 * (edges[1:] + edges[:-1]), width / width.mean(), template, sqrt_s)
    return tuple(fit_family(spectrum, family) for family in families)


def fit_family(of: Spectrum, family: str) -> Alternative:
    """Return the best member of one family, or why there is none."""
    outside = why_undefined(of, family)
    if outside:
        return without_fit(of, family, outside)
    found = best_member(of, ALTERNATIVES[family](of))
    if isinstance(found, str):
        return without_fit(of, family, found)
    order, fit, p = found
    there = of.template is not None
    return Alternative(
        family=family,
        order=order,
        expected=fit.background,
        signal=fit.signal if there else np.nan,
        error=fit.error,
        z=float(np.sign(fit.signal) * np.sqrt(2 * max(fit.nll_alone - fit.nll, 0.0))) if there else np.nan,
        nll=fit.nll,
        nll_alone=fit.nll_alone,
        n_parameters=len(fit.parameters),
        p=p,
        left_out="" if p > DESCRIBES else f"p {stated_p(p)}",
    )


def why_undefined(of: Spectrum, family: str) -> str:
    """Return why a family cannot be fitted to a spectrum at all, empty where it can."""
    if not of.counts.any():
        return "the spectrum is empty"
    if family == "dijet" and (of.edges[0] <= 0 or of.edges[-1] >= of.sqrt_s):
        return f"defined between 0 and sqrt(s) = {of.sqrt_s:g} GeV alone"
    if family not in ANY_MASS and of.centres[0] <= 0:
        return "defined at masses above 0 alone"
    return ""


def without_fit(of: Spectrum, family: str, why: str) -> Alternative:
    """Return a family that has no fit."""
    nan, none = np.nan, np.full(len(of.counts), np.nan)
    return Alternative(family, 0, none, nan, nan, nan, np.inf, np.inf, 0, nan, why)


def best_member(of: Spectrum, members: Iterator[tuple[int, SmoothFit]]) -> tuple[int, SmoothFit, float] | str:
    """Return order, fit and goodness of fit of a family's best member, one that describes the spectrum where one does.

    Where there is none the text says why.
    """
    best: tuple[tuple[bool, float], int, SmoothFit, float] | None = None
    why = f"{len(of.counts)} bins are too few for its parameters"
    for order, fit in members:
        k = len(fit.parameters) + (of.template is not None)
        if k >= len(of.counts):
            break
        if not fit.converged:
            why = "no fit reached a minimum"
            continue
        nu = np.maximum(fit.background + fit.signal * (0.0 if of.template is None else of.template), 1e-12)
        if len(merged(of.counts, nu)[0]) <= k:
            why = f"{of.counts.sum():.0f} events are too few to tell"
            continue
        p = float(goodness_of_fit(of.counts[None], nu[None], np.array([k]))[0])
        rank = (p <= DESCRIBES, 2 * fit.nll + 2 * k)
        if best is not None and rank >= best[0]:
            if best[3] > DESCRIBES:
                break
            continue
        best = (rank, order, fit, p)
    return why if best is None else best[1:]


def same_curve(first: Floats, second: Floats) -> bool:
    """Tell whether two backgrounds (bins,) are so close that no experiment of this size tells them apart."""
    return bool(((first - second) ** 2 / np.maximum(second, 1e-12)).sum() < SAME)
