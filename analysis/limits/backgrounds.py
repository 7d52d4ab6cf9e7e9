"""The background of each region as limits have it: log-linear around its fit, b = exp(basis theta + offset), with a penalty.

Families that are not log-linear (Bernstein polynomials, some formulas) are taken along their tangent: ln b moves along its
slopes by the family's parameters at the fit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..fits.background import is_log_linear, log_offset
from ..fits.gaussian_process import GAUSSIAN_PROCESS
from ..fits.tangent import LEAST_EXPECTED, tangent_basis
from ..significance.bumphunt import BumpHunt

__all__ = ["FREE", "RegionBackground", "background_models", "standard", "width_of"]

Floats = npt.NDArray[np.float64]
LEAST_WEIGHT = 0.1  # events: a bin that expects next to none does not scale a direction
FREE = 150.0  # statistical errors: width of the constraint of a free parameter, which pyhf cannot do without; 1e-5 of a limit
LARGEST_MOVE = 500.0  # of ln b, together, over the whole width of what is free: what a float can hold


@dataclass(frozen=True, repr=False)
class RegionBackground:
    """A region's background b = exp(basis theta + offset) of one bin each.

    basis: (bins, k); offset: (bins,); precision: (k,), the prior of a parameter is N(0, 1 / precision), 0 where it is free;
    theta: (k,) as fitted to the background alone; usable: False where that fit did not converge and a tangent there means nothing;
    linearised: whether ln b of the family is no linear function of its parameters and basis its tangent.
    """

    basis: Floats
    offset: Floats
    precision: Floats
    theta: Floats
    usable: bool = True
    linearised: bool = False

    def __repr__(self) -> str:
        """Return the value in a line."""
        bins, k = self.basis.shape
        constrained = int((self.precision > 0).sum())
        return f"RegionBackground({bins} bins, {k} parameters, constrained: {constrained})"

    @property
    def expected(self) -> Floats:
        """Return the fitted background (bins,) in events."""
        return np.asarray(np.exp(self.basis @ self.theta + self.offset))

    @property
    def centre(self) -> Floats:
        """Return what constraints are centred at (k,): 0, and the fitted value of a free parameter."""
        return np.where(self.precision > 0, 0.0, self.theta)


def standard(background: RegionBackground) -> RegionBackground:
    """Return the same background in parameters of one scale: constrained ones under N(0, 1), free ones in statistical errors."""
    free = background.precision == 0
    basis, theta = background.basis.copy(), background.theta.copy()
    if free.any():
        root = np.sqrt(np.maximum(background.expected, LEAST_WEIGHT))[:, None]
        columns = basis[:, free]
        scale = np.abs(columns).max(axis=0)
        # two passes: one QR of nearly collinear columns loses digits, the second restores orthogonality
        left, first = np.linalg.qr(columns / scale * root)
        left, second = np.linalg.qr(left)
        basis[:, free], theta[free] = left / root, second @ first @ (scale * theta[free])
    unit = np.sqrt(background.precision[~free])
    basis[:, ~free], theta[~free] = basis[:, ~free] / unit, theta[~free] * unit
    return replace(background, basis=basis, theta=theta, precision=np.where(free, 0.0, 1.0))


def width_of(background: RegionBackground) -> Floats:
    """Return the width (k,) of each parameter's constraint, of a background in standard form: 1, or next to no constraint.

    150 statistical errors of a free parameter, less where so large a move of a sparse bin would leave a float's range.
    """
    free = background.precision == 0
    moved = float(np.abs(background.basis[:, free]).sum(axis=1).max(initial=0.0))
    return np.where(free, min(FREE, LARGEST_MOVE / max(moved, 1e-300)), 1.0)


def background_models(found: BumpHunt) -> list[RegionBackground]:
    """Return the background of every region of a hunt, around the fit that the hunt made."""
    settings, edges, fits = found.settings, found.edges, found.background
    options: dict[str, Any] = {"sqrt_s": settings.sqrt_s, "family": settings.family}
    exact = is_log_linear(settings.family)
    models = []
    for r, counts in enumerate(found.counts):
        columns = found.columns(r) if settings.family == GAUSSIAN_PROCESS else None
        if columns is not None:
            own = (columns.basis, columns.offset, columns.precision, columns.theta)
            models.append(RegionBackground(*own))
            continue
        log_expected = np.maximum(fits.log_expected[r], np.log(LEAST_EXPECTED))
        basis = tangent_basis(fits, r, counts, edges, least=LEAST_WEIGHT, **options)
        offset = log_offset(edges, **options) if exact else log_expected
        weights = np.maximum(np.exp(log_expected), LEAST_WEIGHT)
        theta = basis.T @ (weights * (log_expected - offset))
        # where the family is exact the likelihood fits it again, and says whether that converged
        usable = exact or bool(fits.converged[r])
        models.append(RegionBackground(basis, offset, np.zeros(len(theta)), theta, usable, linearised=not exact))
    return models
