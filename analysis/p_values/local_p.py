"""The local p-value that is quoted: by pseudo-experiments as far as they reach, beyond them the more careful of two others.

The asymptotic p of a scan is a statistic. Of a Gaussian process that was chosen beside the signal it is too small by itself; the
experiments repeat that choice, so the share of them with as small a p at the same mass is right. Where fewer than ten show one, the
larger is quoted of the experiments' tail, carried on by a fit, and of the asymptotic p before that choice: but never more than the
experiments' own upper limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr

from ..fits.log_p import p_of_log, stated_p, z_of_log
from .tail import ENOUGH_ABOVE, fit_tail, upper_limit

__all__ = ["LocalP", "local_p"]

Floats = npt.NDArray[np.float64]
How = Literal["experiments", "tail", "asymptotic", "upper limit"]
SAID: dict[How, str] = {
    "experiments": "by pseudo-experiments",
    "tail": "by a fit of the pseudo-experiments' tail",
    "asymptotic": "asymptotic",
    "upper limit": "the pseudo-experiments' upper limit at 95 %",
}


@dataclass(frozen=True)
class LocalP:
    """A local p-value, as its logarithm, which goes on where p itself ends; how: what it is by; above: experiments of n as small."""

    log_p: float
    how: How
    above: int
    n: int

    def __repr__(self) -> str:
        """Return the p-value in a line."""
        return f"LocalP(p {stated_p(self.p)}, z = {self.z:.2f}, {self.said})"

    @property
    def p(self) -> float:
        """Return p, 1e-300 where it is smaller."""
        return float(p_of_log(self.log_p))

    @property
    def z(self) -> float:
        """Return the one-sided significance."""
        return float(z_of_log(self.log_p))

    @property
    def said(self) -> str:
        """Return in words what it is by."""
        return SAID[self.how]


def local_p(experiments: Floats, log_observed: float, log_first: float) -> LocalP:
    """Calibrate ln of the observed p by those of experiments at the same mass, (n,); log_first: ln of p before a second choice."""
    n = len(experiments)
    above = int((experiments <= log_observed).sum())
    share = math.log((1 + above) / (1 + n))
    if above >= ENOUGH_ABOVE:
        return LocalP(share, "experiments", above, n)
    asymptotic = max(log_first, log_observed)
    found: tuple[float, How] = (asymptotic, "asymptotic")
    tail = fit_tail(-experiments, -log_observed)
    log_tail = -math.inf if tail is None else float(log_ndtr(-tail.z))  # tail.p itself ends at 1e-300
    if log_tail > asymptotic:
        found = log_tail, "tail"
    limit = math.log(upper_limit(above, n)) if n else 0.0
    return LocalP(*((limit, "upper limit") if found[0] > limit else found), above, n)
