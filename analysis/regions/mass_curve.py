"""Boundaries that follow the mass: the cut of `decorrelation.py` in the form in which regions keep and save it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import InputError, unknown_name
from .cuts import upper_cut
from .decorrelation import MovingCut, fit_fixed_efficiency, fit_quantile_regression

__all__ = ["DECORRELATIONS", "MassCurve", "moving_cut"]

Floats = npt.NDArray[np.float64]
DECORRELATIONS: dict[str, Callable[..., MovingCut]] = {"map": fit_fixed_efficiency, "quantile": fit_quantile_regression}
"""How a boundary follows the mass -> what fits it."""
POINTS = 65  # along ln m: the splines have a few pieces, between points of 2 % of the range the curve is straight


@dataclass(frozen=True, repr=False)
class MassCurve:
    """A cut on a score against the mass: values at masses (GeV, rising), straight in ln m between them, constant beyond."""

    masses: tuple[float, ...]
    values: tuple[float, ...]

    def __repr__(self) -> str:
        """Return the value in a line."""
        return f"MassCurve({len(self.masses)} points, {self.masses[0]:g} to {self.masses[-1]:g} GeV)"

    def at(self, mass: Floats) -> Floats:
        """Return the cut at masses (n,) in GeV."""
        return np.interp(np.log(mass), np.log(self.masses), self.values)


def moving_cut(score: Floats, mass: Floats, share: float, how: str) -> tuple[MassCurve, float]:
    """Fit the cut that a share of the background passes at every mass: score, mass (n,), GeV.

    how: a name in `DECORRELATIONS`. Returns the cut and what is left of a
    boundary on the score less it, so that exactly this share of the events passes. Raises InputError for another method,
    and where there are too few events for it.
    """
    if how not in DECORRELATIONS:
        raise InputError(unknown_name("decorrelation", how, DECORRELATIONS))
    if share >= 1:
        return MassCurve((float(mass.min()),), (0.0,)), upper_cut(score, share)
    found = DECORRELATIONS[how](score, mass, efficiency=share)
    masses = np.geomspace(mass.min(), mass.max(), POINTS)
    curve = MassCurve(tuple(masses.tolist()), tuple(found.cut(masses).tolist()))
    return curve, upper_cut(score - curve.at(mass), share)
