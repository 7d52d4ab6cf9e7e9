"""Boundaries that follow the mass: the cut of `decorrelation.py` in the form in which regions keep and save it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import InputError, unknown_name
from .cuts import upper_cut
from .decorrelation import MovingCut, fit_fixed_efficiency, fit_quantile_regression

__all__ = ["DECORRELATIONS", "MassCurve", "moving_cut"]

Floats = npt.NDArray[np.float64]
DECORRELATIONS = ("map", "quantile")
POINTS = 65  # along ln m: the splines have a few pieces, between points of 2 % of the range the curve is straight


@dataclass(frozen=True)
class MassCurve:
    """A cut on a score against m_jj: values at masses (GeV, rising), straight in ln m between them, constant beyond."""

    masses: tuple[float, ...]
    values: tuple[float, ...]

    def at(self, mjj: Floats) -> Floats:
        """Return the cut at masses (n,) in GeV."""
        return np.interp(np.log(mjj), np.log(self.masses), self.values)


def moving_cut(score: Floats, mjj: Floats, share: float, how: str) -> tuple[MassCurve, float]:
    """Fit the cut that a share of the background passes at every mass: score, mjj (n,), GeV.

    how: "map" (`fit_fixed_efficiency`) or "quantile" (`fit_quantile_regression`). Returns the cut and what is left of a
    boundary on the score less it, so that exactly this share of the events passes. Raises InputError for another method,
    and where there are too few events for it.
    """
    if how not in DECORRELATIONS:
        raise InputError(unknown_name("decorrelation", how, DECORRELATIONS))
    if share >= 1:
        return MassCurve((float(mjj.min()),), (0.0,)), upper_cut(score, share)
    fit = fit_fixed_efficiency if how == "map" else fit_quantile_regression
    found: MovingCut = fit(score, mjj, efficiency=share)
    masses = np.geomspace(mjj.min(), mjj.max(), POINTS)
    curve = MassCurve(tuple(masses.tolist()), tuple(found.cut(masses).tolist()))
    return curve, upper_cut(score - curve.at(mjj), share)
