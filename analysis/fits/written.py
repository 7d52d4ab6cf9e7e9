"""A background function as text: with the reported parameters it gives the curve that was fitted.

A formula is a density, events per unit of mass. p0 is the logarithm of its normalisation, m the mass in the unit of the
edges, and what else stands in it is said in `variables`. The dijet function (1 - x)^p1 x^-(p2 + p3 ln x + p4 ln^2 x) exp(-p5 x) is
written with one exponent. A Gaussian process multiplies it by a factor a bin, which no formula has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from .formula import is_formula
from .gaussian_process import GAUSSIAN_PROCESS

__all__ = ["AT_CENTRE", "INTEGRATED", "WrittenFunction", "own_parameters", "written_function"]

Floats = npt.NDArray[np.float64]
AT_CENTRE = "events in a bin: formula at its centre times its width"
INTEGRATED = "events in a bin: integral of formula over it"
FACTOR = "exp of the Gaussian process in each bin, process.factor"
DIJET = ("p2", "p3*log(x)", "p4*log(x)**2")


@dataclass(frozen=True)
class WrittenFunction:
    """A formula in Python's notation, what its variables are in terms of the mass m, and how bins follow from it."""

    formula: str
    variables: Mapping[str, str]
    bins: str

    def as_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return {"formula": self.formula, "variables": dict(self.variables), "bins": self.bins}


def written_function(family: str, order: int, edges: Sequence[float] | Floats, *, sqrt_s: float) -> WrittenFunction:
    """Return the function of one order of a family on bins with these edges (bins + 1,), in the unit of sqrt_s.

    Its parameters are those of `MinuitFit` and `curve_parameters`: p0, p1, ...; c0, c1, ... of Bernstein polynomials.
    """
    low, high = float(edges[0]), float(edges[-1])
    scaled = {"x": f"m / {sqrt_s!r}"}
    if is_formula(family):
        return WrittenFunction(f"exp(p0) * ({family.strip()})", scaled, AT_CENTRE)
    if family == GAUSSIAN_PROCESS:
        dijet = written_function("dijet", order, edges, sqrt_s=sqrt_s)
        return WrittenFunction(f"{dijet.formula} * factor", scaled | {"factor": FACTOR}, AT_CENTRE)
    if family == "dijet":
        # one exponent: parameters of five are so large, of both signs, that exp(p0) alone overflows
        power = " + ".join(DIJET[: min(order - 1, len(DIJET))])
        end = " - p5*x" if order > 4 else ""
        return WrittenFunction(f"exp(p0 + p1*log(1 - x) - ({power})*log(x){end})", scaled, AT_CENTRE)
    if family == "exponential":
        centres = 0.5 * (np.asarray(edges[1:], dtype=np.float64) + np.asarray(edges[:-1], dtype=np.float64))
        terms = ["p0", "p1*t", *(f"p{k}*t**{k}" for k in range(2, order + 1))]
        reach = float(centres[-1] - centres[0]) if len(centres) > 1 else sqrt_s
        variables = {"t": f"(m - {float(centres.mean())!r}) / {reach!r}"}
        return WrittenFunction(f"exp({' + '.join(terms)})", variables, AT_CENTRE)
    # a normalised polynomial is the density of Beta(j + 1, degree - j + 1) of u
    factors = [round((order + 1) * special.comb(order, j, exact=True)) for j in range(order + 1)]
    terms = [f"c{j}*{factor}*u**{j}*(1 - u)**{order - j}" for j, factor in enumerate(factors)]
    return WrittenFunction(
        f"({' + '.join(terms)}) / {high - low!r}", {"u": f"(m - {low!r}) / {high - low!r}"}, INTEGRATED
    )


def own_parameters(
    family: str, values: Floats, covariance: Floats, edges: Sequence[float] | Floats
) -> tuple[Floats, Floats]:
    """Return the parameters (k,) of a written function, and their covariance, from those of its columns.

    The fits have ln of the events in a bin of mean width as a sum of columns; x^-(p2 + p3 ln x) exp(-p5 x) has its signs.
    """
    sign = np.ones(len(values))
    if family == "dijet":
        sign[2:] = -1.0
    own = values * sign
    own[0] -= np.log(np.diff(np.asarray(edges, dtype=np.float64)).mean())
    return own, covariance * np.outer(sign, sign)
