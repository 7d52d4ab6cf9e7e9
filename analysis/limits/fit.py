"""The likelihood of one mass as a value that is fitted: to the data, to Asimov data, to experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .backgrounds import RegionBackground
from .likelihood import Arrays, Observed, arrays_of
from .newton_steps import Point, expected, newton_fit, objective

__all__ = ["Fit", "Likelihood", "likelihood_of"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Fit:
    """A fit: mu; alpha (J,); theta (R, K); -ln L, half a deviance; slope, its derivative by mu; error of mu by the curvature
    of the fit, infinite where mu was fixed; converged."""

    mu: float
    alpha: Floats
    theta: Floats
    nll: float
    slope: float
    error: float
    converged: bool

    def __repr__(self) -> str:
        """Return the value in a line."""
        error = f" ± {self.error:.4g}" if np.isfinite(self.error) else ""
        return f"Fit(mu {self.mu:.4g}{error}, -ln L {self.nll:.6g}{'' if self.converged else ', not converged'})"


@dataclass(frozen=True, repr=False)
class Likelihood:
    """One signal strength over the bins of R regions. arrays: as the compiled parts take them; nuisances: names of the signal's,
    shapes before factors; data: what was seen; start (R, K): the background fits."""

    arrays: Arrays
    nuisances: tuple[str, ...]
    data: Observed
    start: Floats

    def __repr__(self) -> str:
        """Return the value in a line."""
        regions, bins = self.arrays.signal.shape
        own = int(self.arrays.sizes.sum())
        named = ", ".join(self.nuisances) or "none"
        return f"Likelihood({regions} regions of {bins} bins, {own} background parameters, nuisances: {named})"

    def fit(
        self, mu: float | None = None, *, to: Observed | None = None, near: Fit | None = None, lower: float = 0.0
    ) -> Fit:
        """Fit everything but mu where it is given, else mu too, above `lower`; from the point of another fit, else from the
        background fits, which mu waits for at 0: no fit of a signal starts from a background that does not describe the data."""
        data = to or self.data
        if mu is None and near is None:
            near = self.fit(0.0, to=data)
        alpha = data.auxiliary.copy() if near is None else near.alpha.copy()
        theta = self.start.copy() if near is None else near.theta.copy()
        start = mu if mu is not None else 0.0 if near is None else near.mu
        found, nll, slope, error, converged = newton_fit(
            self.arrays, data, float(start), alpha, theta, mu is None, lower
        )
        return Fit(found, alpha, theta, nll, slope, error, converged)

    def expected(self, at: Fit) -> Floats:
        """Return the events expected in every bin (R, B)."""
        point = self.point(at)
        return point.background + point.amplitude[:, None] * point.template

    def point(self, at: Fit) -> Point:
        """Return the parameters of a fit with what is expected there."""
        background, template = np.empty_like(self.arrays.signal), np.empty_like(self.arrays.signal)
        point = Point(at.alpha, at.theta, background, template, np.empty(len(template)))
        expected(self.arrays, at.mu, point)
        return point

    def nll(self, at: Fit, *, to: Observed | None = None) -> float:
        """Return -ln L at one point."""
        return objective(self.arrays, to or self.data, self.point(at))

    def asimov(self, at: Fit) -> Observed:
        """Return the data that are expected at one point, constraints centred there: `at` is their best fit, with -ln L = 0."""
        return Observed(self.expected(at), at.alpha.copy(), at.theta.copy())


def likelihood_of(
    counts: Floats,
    backgrounds: Sequence[RegionBackground],
    signal: Floats,
    *,
    shapes: Mapping[str, tuple[Floats, Floats]] | None = None,
    factors: Mapping[str, tuple[Floats, Floats]] | None = None,
) -> Likelihood:
    """Build a likelihood: counts (R, B); backgrounds in standard form (`standard`); signal (R, B) events at mu = 1; shapes: nuisance -> the signal (R, B) at +1 and -1
    sigma; factors: nuisance -> what multiplies it in each region (R,), at +1 and -1 sigma."""
    arrays = arrays_of(backgrounds, signal, shapes or {}, factors or {})
    start, centre = np.zeros_like(arrays.precision), np.zeros_like(arrays.precision)
    for r, background in enumerate(backgrounds):
        start[r, : len(background.theta)] = background.theta
        centre[r, : len(background.theta)] = background.centre
    nuisances = (*(shapes or {}), *(factors or {}))
    data = Observed(np.ascontiguousarray(counts, dtype=np.float64), np.zeros(len(nuisances)), centre)
    return Likelihood(arrays, nuisances, data, start)
