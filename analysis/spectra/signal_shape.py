"""The signal's shape in the mass: a double-sided Crystal Ball fitted to the priors relative to their peak.

`mass` means the peak of the reconstructed mass everywhere: of dijets about 0.975 of the pole mass for two-prong signals.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from iminuit import Minuit
from iminuit.cost import BinnedNLL
from scipy import special

from ...errors import InputError

__all__ = ["SignalShape", "fit_signal_shape", "signal_templates"]

log = logging.getLogger(__name__)
Floats = npt.NDArray[np.float64]
GAUSSIAN_RESOLUTION = 0.035
MIN_EVENTS = 200
LIMITS = {
    "width": (0.005, 0.15),
    "alpha_low": (0.3, 5.0),
    "n_low": (1.05, 50.0),
    "alpha_high": (0.3, 5.0),
    "n_high": (1.05, 50.0),
}


@dataclass(frozen=True)
class SignalShape:
    """A double-sided Crystal Ball in m / mass with its core at 1; a Gaussian where both alphas are infinite (None).

    width: relative core width; alpha_*: where the power tails start, in widths; n_*: their powers;
    source: what it was fitted to.
    """

    width: float = GAUSSIAN_RESOLUTION
    alpha_low: float | None = None
    n_low: float = 2.0
    alpha_high: float | None = None
    n_high: float = 2.0
    source: str = "Gaussian of 3.5 %"

    def cdf(self, ratio: Floats) -> Floats:
        """Return the cumulative distribution at m / mass."""
        t = (np.asarray(ratio, dtype=np.float64) - 1.0) / self.width
        return crystal_ball_cdf(t, self.alpha_low or np.inf, self.n_low, self.alpha_high or np.inf, self.n_high)

    def as_dict(self) -> dict[str, float | str | None]:
        """Return the fields for JSON."""
        return asdict(self)


def crystal_ball_cdf(t: Floats, alpha_low: float, n_low: float, alpha_high: float, n_high: float) -> Floats:
    """Return the CDF of a double-sided Crystal Ball at t, in core widths: Gaussian core, power-law tails."""

    def tail(distance: Floats, alpha: float, n: float) -> Floats:
        # integral of the power law from `distance` (>= alpha) outward: exp(-a^2/2) (n/a) / (n-1) (1 + a/n (d - a))^(1-n)
        if not np.isfinite(alpha):
            return np.zeros_like(distance)
        return np.asarray(
            np.exp(-0.5 * alpha**2) * n / alpha / (n - 1) * (1 + alpha / n * (distance - alpha)) ** (1 - n)
        )

    root = np.sqrt(2 * np.pi)
    low_total = tail(np.array(alpha_low), alpha_low, n_low)
    high_total = tail(np.array(alpha_high), alpha_high, n_high)
    core_low = root * special.ndtr(-alpha_low)
    total = low_total + high_total + root * (special.ndtr(alpha_high) - special.ndtr(-alpha_low))
    middle = low_total + root * special.ndtr(np.clip(t, -alpha_low, alpha_high)) - core_low
    below = tail(np.maximum(-t, alpha_low if np.isfinite(alpha_low) else 1.0), alpha_low, n_low)
    above = total - tail(np.maximum(t, alpha_high if np.isfinite(alpha_high) else 1.0), alpha_high, n_high)
    return np.asarray(np.where(t < -alpha_low, below, np.where(t > alpha_high, above, middle)) / total)


def peak_of(mass: Floats) -> float:
    """Return the peak of a mass distribution (GeV): the half-sample mode's neighbourhood, averaged.

    The densest half is halved again (Robertson and Cryer 1974) down to a twentieth of the sample; the median of that is
    steady where a histogram's highest bin is not.
    """
    x = np.sort(mass)
    stop = max(20, len(mass) // 20)
    while len(x) > stop:
        half = max(len(x) // 2, stop)
        widths = x[half - 1 :] - x[: len(x) - half + 1]
        start = int(np.argmin(widths))
        x = x[start : start + half]
        if half == stop:
            break
    return float(np.median(x))


def fit_signal_shape(priors: Mapping[str, npt.ArrayLike]) -> SignalShape:
    """Fit the shape to the priors' masses (name -> (n,) GeV), each relative to its own peak, all priors weighing the same.

    Without priors, or where the fit is no narrow resonance, a Gaussian of 3.5 % is returned and the source says why.
    """
    ratios = []
    for values in priors.values():
        mass = np.asarray(values, dtype=np.float64)
        if len(mass) >= MIN_EVENTS:
            ratios.append(mass / peak_of(mass))
    if not ratios:
        why = f"no prior with {MIN_EVENTS} events" if priors else "no priors"
        return SignalShape(source=f"Gaussian of {GAUSSIAN_RESOLUTION:.1%} ({why})")
    edges = np.linspace(0.6, 1.3, 141)
    counts = sum(np.histogram(r, edges)[0] / len(r) for r in ratios) * min(len(r) for r in ratios)

    def cdf(
        x: Floats, center: float, width: float, alpha_low: float, n_low: float, alpha_high: float, n_high: float
    ) -> Floats:
        full = crystal_ball_cdf((np.append(edges[[0, -1]], x) - center) / width, alpha_low, n_low, alpha_high, n_high)
        return np.asarray((full[2:] - full[0]) / (full[1] - full[0]))

    minuit = Minuit(
        BinnedNLL(counts, edges, cdf), center=1.0, width=0.04, alpha_low=1.2, n_low=3.0, alpha_high=1.8, n_high=4.0
    )
    minuit.limits["center"] = (0.9, 1.1)
    for name, limits in LIMITS.items():
        minuit.limits[name] = limits
    minuit.migrad(ncall=20000)
    center, width = minuit.values["center"], minuit.values["width"]
    if not minuit.valid or width > 0.9 * LIMITS["width"][1] or width < 1.1 * LIMITS["width"][0]:
        log.warning("the priors' mass is no narrow peak (width %.3f): a Gaussian of 3.5 %% is hunted", width)
        return SignalShape(source=f"Gaussian of {GAUSSIAN_RESOLUTION:.1%} (the priors' mass is no narrow peak)")
    v = minuit.values
    return SignalShape(
        float(width / center),
        float(v["alpha_low"]),
        float(v["n_low"]),
        float(v["alpha_high"]),
        float(v["n_high"]),
        f"double-sided Crystal Ball fitted to {', '.join(priors)}",
    )


def signal_templates(shape: SignalShape, masses: Sequence[float] | Floats, edges: Sequence[float] | Floats) -> Floats:
    """Return the signal's expected share of each bin for unit yield: (n_masses, n_bins); edges and masses in GeV.

    The share outside the edges is not put back: a yield counts signal events at all masses.
    """
    m = np.asarray(masses, dtype=np.float64)[:, None]
    if np.any(m <= 0):
        raise InputError(f"masses are positive, found {float(m.min()):g} GeV")
    return np.diff(shape.cdf(np.asarray(edges, dtype=np.float64)[None, :] / m), axis=1)
