"""Nested slices of the signed L5 of the prior axes, each standardised on held-out background (arXiv:2412.03747)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from .difference import Slices
from .shape import Boundaries

__all__ = ["L5", "centre_and_scale", "prior_axes", "signed_l5"]

Floats = npt.NDArray[np.float64]
CENTRAL = (0.16, 0.84)


def signed_l5(values: npt.ArrayLike, p: float = 5.0) -> Floats:
    """Reduce many axes to one, (n, k) -> (n,): y = sum_k sign(x_k) |x_k|^p, returned as sign(y) |y|^(1/p).

    Between the sum (p = 1) and the largest in size (p -> infinity): one axis that stands out decides, several together
    count a little more. That holds for a large negative axis too: an event far from one prior is pulled away from all,
    and the more priors, the more often. CMS reduces its six signal losses with p = 5 (arXiv:2412.03747).
    Raises InputError for another shape or p <= 0.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] < 1:
        raise InputError(f"the axes to reduce have shape (n, k) with k >= 1, found {x.shape}")
    if not p > 0:
        raise InputError(f"the power of the norm is positive, found {p:g}")
    # relative to the largest, so that no power overflows
    largest = np.maximum(np.abs(x).max(axis=1), np.finfo(np.float64).tiny)
    relative = x / largest[:, None]
    y = (np.sign(relative) * np.abs(relative) ** p).sum(axis=1)
    return np.asarray(largest * np.sign(y) * np.abs(y) ** (1 / p))


def prior_axes(losses: Floats, alpha: float) -> Floats:
    """Return L_b - alpha L_k of each prior: (n, 1 + n_priors) -> (n, n_priors)."""
    return np.asarray(losses[:, :1] - alpha * losses[:, 1:])


def centre_and_scale(axes: Floats) -> tuple[Floats, Floats]:
    """Return the median and half the central 68 % of each axis (n, k), each (k,).

    An axis without spread says nothing: its scale is 1, which leaves it at 0.
    """
    low, middle, high = np.quantile(axes, [CENTRAL[0], 0.5, CENTRAL[1]], axis=0)
    half = 0.5 * (high - low)
    # equal values differ by rounding
    return middle, np.where(half > 1e-9 * np.abs(middle), half, 1.0)


@dataclass(frozen=True)
class L5(Slices):
    """Nested slices of the signed L5 of x_k = (L_b - alpha L_k - centre_k) / scale_k; of L_b where there are no priors.

    x_k is larger where an event is more like prior k and less like background.
    """

    @property
    def description(self) -> str:
        """Return what the regions are, in words for the report."""
        return "nested slices of the signed L5 of the prior axes"

    def standardised(self, losses: Floats) -> Boundaries:
        """Return centre and scale of the prior axes of losses (n, 1 + n_priors), without cuts."""
        if losses.shape[1] == 1:
            return Boundaries(())
        centre, scale = centre_and_scale(prior_axes(losses, self.alpha))
        return Boundaries((), tuple(centre.tolist()), tuple(scale.tolist()))

    def axes(self, losses: Floats, own: Boundaries) -> Floats:
        """Return the standardised prior axes x of events of one fold: (n, 1 + n_priors) -> (n, n_priors)."""
        n_priors = len(own.centre)
        if losses.shape[1] != 1 + n_priors:
            raise InputError(f"losses of {losses.shape[1] - 1} priors found, regions fixed for {n_priors}")
        return np.asarray((prior_axes(losses, self.alpha) - np.asarray(own.centre)) / np.asarray(own.scale))

    def score(self, losses: Floats, own: Boundaries) -> Floats:
        """Return the signed L5 of the prior axes, L_b without priors."""
        return signed_l5(self.axes(losses, own)) if own.centre else losses[:, 0]
