"""The function that a report gives, evaluated with the parameters that it gives, is the curve that was fitted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hunch.analysis import fit_background, fit_with_minuit
from hunch.analysis.fits.minuit_fit import curve_parameters
from hunch.analysis.fits.written import INTEGRATED, written_function

Array = np.ndarray[Any, Any]
Truth = Callable[..., Array]
SQRT_S = 13_000.0
ORDERS = [
    *(("dijet", order) for order in (2, 3, 4, 5)),
    *(("exponential", order) for order in (1, 2, 3, 4)),
    *(("bernstein", degree) for degree in (3, 8, 12)),
    ("(1-x)**p1 * x**(-p2 - p3*log(x))", 3),
    ("exp(-p1*x) + p2*exp(-p3*x)", 3),
    ("(m/1000)**-p1", 1),
]


def evaluated(told: dict[str, Any], edges: Array) -> Array:
    """Return the events in each bin of what a result.json says of a fit, by Python's own arithmetic."""
    names = {"exp": np.exp, "log": np.log, "__builtins__": {}}

    def density(m: Array) -> Array:
        known = {**names, **told["parameters"], "m": m}
        known |= {name: eval(text, known) for name, text in told["variables"].items()}
        return np.asarray(eval(told["formula"], known))

    width = np.diff(edges)
    if told["bins"] == INTEGRATED:
        nodes, weights = np.polynomial.legendre.leggauss(12)
        points = edges[:-1, None] + 0.5 * width[:, None] * (nodes + 1)
        return np.asarray(0.5 * width * (density(points) @ weights))
    return np.asarray(density(0.5 * (edges[1:] + edges[:-1])) * width)


@pytest.mark.parametrize("unit", [1.0, 1000.0], ids=["GeV", "TeV"])
@pytest.mark.parametrize(("family", "order"), ORDERS)
def test_the_written_function_is_the_fitted_curve(
    family: str, order: int, unit: float, edges: Array, truth: Truth, rng: np.random.Generator
) -> None:
    counts = rng.poisson(truth(20_000)).astype(float)
    if "m/1000" in family:
        family = family.replace("1000", f"{1000 / unit:g}")
    bins, sqrt_s = edges / unit, SQRT_S / unit
    fit = fit_with_minuit(counts, bins, order, sqrt_s=sqrt_s, family=family)
    told = written_function(family, order, bins, sqrt_s=sqrt_s).as_dict() | {"parameters": fit.values}
    found = evaluated(json.loads(json.dumps(told)), bins)
    np.testing.assert_allclose(found, fit.expected, rtol=1e-6)
    batched = fit_background(counts, bins, order, sqrt_s=sqrt_s, family=family)
    told["parameters"] = curve_parameters(batched, 0, bins, sqrt_s=sqrt_s, family=family)
    np.testing.assert_allclose(evaluated(told, bins), batched.expected[0], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found, batched.expected[0], rtol=0.02, atol=0.02)


def test_the_signs_are_those_of_the_documented_function(edges: Array) -> None:
    """x^-(p2 + p3 ln x): a falling spectrum has a positive p2, and p0 is per GeV."""
    x, width = 0.5 * (edges[1:] + edges[:-1]) / SQRT_S, np.diff(edges)
    expected = np.exp(-3.0) * (1 - x) ** 8 * x ** -(4.5 + 0.2 * np.log(x)) * width
    fit = fit_with_minuit(expected, edges, 3, sqrt_s=SQRT_S)
    errors = np.array(list(fit.errors.values()))
    assert np.all(np.abs(np.array(list(fit.values.values())) - [-3.0, 8.0, 4.5, 0.2]) < 0.2 * errors)
    told = written_function("dijet", 5, edges, sqrt_s=SQRT_S)
    assert told.formula == "exp(p0 + p1*log(1 - x) - (p2 + p3*log(x) + p4*log(x)**2)*log(x) - p5*x)"
    assert told.variables == {"x": "m / 13000.0"}
