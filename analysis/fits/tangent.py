"""The directions that the logarithm of a fitted background can move in, of every family: exact where it is log-linear, else its tangent."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .background import BackgroundFit, is_log_linear, orthonormal_basis
from .bernstein import bernstein_basis
from .formula_fit import curve_around

__all__ = ["LEAST_EXPECTED", "tangent_basis"]

Floats = npt.NDArray[np.float64]
LEAST_EXPECTED = 1e-12  # events: ln b of a bin where polynomials are 0
HELD = 1e-3  # events: a Bernstein coefficient below stands at its bound, and stays there
DIRECTION = 1e-6  # of the largest singular value: a combination of parameters below it moves nothing


def tangent_basis(
    background: BackgroundFit, spectrum: int, counts: Floats, edges: Floats, *, sqrt_s: float, family: str, least: float
) -> Floats:
    """Return how ln b of one spectrum's fit moves with its parameters, (bins, k), orthonormal under its expected events.

    counts: (bins,) that were fitted; edges: (bins + 1,) GeV; least: events that a bin weighs at least.
    """
    expected = np.maximum(np.exp(np.clip(background.log_expected[spectrum], -60.0, 60.0)), LEAST_EXPECTED)
    weights, order = np.maximum(expected, least), int(background.order[spectrum])
    if is_log_linear(family):
        return orthonormal_basis(edges, order, sqrt_s=sqrt_s, family=family, weights=weights)
    if family == "bernstein":
        slopes = bernstein_basis(edges, order) / expected[:, None]
        coefficients = np.linalg.lstsq(slopes, np.ones(len(slopes)), rcond=None)[0]
        slopes = slopes[:, coefficients > HELD]
    else:
        assert background.parameters is not None, "a formula that is not log-linear has parameters"
        parameters = background.parameters[spectrum]
        curve = curve_around(family, edges, parameters, counts, sqrt_s=sqrt_s)
        slopes = curve.slopes(np.zeros((1, len(parameters)))).first[0]
    root = np.sqrt(weights)[:, None]
    scaled = slopes * root
    left, values, _ = np.linalg.svd(scaled / np.linalg.norm(scaled, axis=0), full_matrices=False)
    return np.asarray(left[:, values > DIRECTION * values[0]] / root)
