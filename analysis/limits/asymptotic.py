"""Asymptotic CLs limits of a likelihood: qtilde (arXiv:1007.1727, eqs. 16, 62 to 66) and CLs (J. Phys. G 28 (2002) 2693).

The expected limits are those of the Asimov data of the background-only fit. Roots are found by Newton's method, with the
derivative of the profile likelihood by mu that every fit gives, inside brackets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from .fit import Fit, Likelihood
from .likelihood import Observed

__all__ = ["MU_MAX", "SIGMAS", "Asymptotic", "NoLimit", "asymptotic_cls", "asymptotic_limits", "discovery_z", "root_of"]

Floats = npt.NDArray[np.float64]
SIGMAS = (-2, -1, 0, 1, 2)
MU_MAX = 100.0  # in units of about one expected limit: a limit beyond is a failure, not an answer
PRECISION = 1e-7  # of a limit, relative
MAX_STEPS = 60
RESTARTS = 5
LEAST_ERROR = 0.1  # of mu, whose unit is about two errors
NOT_THE_MINIMUM = 1e-5  # in -ln L: a fixed fit this far below the free one shows that the free one failed


class NoLimit(Exception):
    """A mass that has no limit; the message says why. Caught in `cls_limits`, where it becomes the mass's reason."""


class AnotherMinimum(NoLimit):
    """A fit at fixed mu that lies below the free one, with that fit."""

    def __init__(self, fit: Fit) -> None:
        super().__init__(f"-ln L at mu = {fit.mu:.4g} lies below that of the fit with signal")
        self.fit = fit


@dataclass(frozen=True)
class Asymptotic:
    """The fits that asymptotic limits start from: background-only and best (mu >= 0) of the data; the Asimov data; their fit
    with its error of mu."""

    background: Fit
    best: Fit
    asimov: Observed
    at_asimov: Fit


def needed(fit: Fit, what: str) -> Fit:
    """Return a fit that converged."""
    if not fit.converged:
        raise NoLimit(f"{what} did not converge")
    return fit


def prepared(likelihood: Likelihood, *, to: Observed | None = None) -> Asymptotic:
    """Make the fits that do not depend on mu, of the data or of what stands in for them."""
    background = needed(likelihood.fit(0.0, to=to), "the fit without signal")
    best = needed(likelihood.fit(to=to, near=background), "the fit with signal")
    if best.nll > background.nll:  # at mu = 0, to rounding
        best = background
    asimov = likelihood.asimov(background)
    at_asimov = needed(likelihood.fit(to=asimov, near=background), "the fit of the Asimov data")
    return Asymptotic(background, best, asimov, at_asimov)


def asymptotic_limits(likelihood: Likelihood, level: float, *, to: Observed | None = None) -> Floats:
    """Return the signal strengths whose CLs is `level`: observed, then expected at -2, -1, 0, 1, 2 sigma, (6,).

    to: what stands in for the data. Raises NoLimit where a fit fails and where there is no limit up to MU_MAX.
    """
    fits = prepared(likelihood, to=to)
    for _ in range(RESTARTS):
        try:
            return limits_from(likelihood, fits, level, to=to)
        except (
            AnotherMinimum
        ) as better:  # the likelihood has more than one, and the fit with signal ended in the wrong one
            best = needed(likelihood.fit(to=to, near=better.fit), "the fit with signal")
            fits = dataclasses.replace(fits, best=best)
    raise NoLimit(f"the likelihood has more minima than {RESTARTS} fits with signal find")


def limits_from(likelihood: Likelihood, fits: Asymptotic, level: float, *, to: Observed | None) -> Floats:
    """Return the limits (6,) of `asymptotic_limits`, given the fits that do not depend on mu; raises AnotherMinimum too."""
    near = {"asimov": fits.at_asimov, "data": fits.best}

    def root_asimov(mu: float) -> tuple[float, float]:
        near["asimov"] = fit = needed(
            likelihood.fit(mu, to=fits.asimov, near=near["asimov"]), f"a fit of the Asimov data at mu = {mu:.4g}"
        )
        return root_and_slope(fit, 0.0)

    # CLs at N sigma is (1 - Phi(sqrt(q_A) - N)) / Phi(N): each N wants its own sqrt(q_A)
    sigmas = np.array(SIGMAS, dtype=np.float64)
    wanted = special.ndtri(1 - level * special.ndtr(sigmas)) + sigmas
    # where next to nothing is expected the curvature at mu = 0 says nothing of where it ends
    error = max(LEAST_ERROR, fits.at_asimov.error)
    expected = np.empty(len(sigmas))
    for i, goal in enumerate(wanted.tolist()):

        def short(mu: float, goal: float = goal) -> tuple[float, float]:
            root, slope = root_asimov(mu)
            return goal - root, -slope

        first = expected[i - 1] * goal / wanted[i - 1] if i else goal * error if np.isfinite(error) else 1.0
        expected[i] = root_of(short, float(first), goal)

    def log_cls(mu: float) -> tuple[float, float]:
        root_a, slope_a = root_asimov(mu)
        root, slope = 0.0, 0.0
        if mu > fits.best.mu:
            near["data"] = fit = needed(
                likelihood.fit(mu, to=to, near=near["data"]), f"a fit of the data at mu = {mu:.4g}"
            )
            root, slope = root_and_slope(fit, fits.best.nll)
        value, by_root, by_root_a = log_cls_of(root, root_a)
        return value - float(np.log(level)), by_root * slope + by_root_a * slope_a

    observed = root_of(log_cls, float(expected[2]), -float(np.log(level)))
    return np.array([observed, *expected])


def root_and_slope(fit: Fit, minimum: float) -> tuple[float, float]:
    """Return the square root of twice what -ln L lies above its minimum, and its derivative by mu."""
    above = fit.nll - minimum
    if above < -NOT_THE_MINIMUM * max(1.0, abs(minimum)):
        raise AnotherMinimum(fit)
    root = float(np.sqrt(2 * max(above, 0.0)))
    return root, fit.slope / root if root > 0 else 0.0


def log_cls_of(root: float, root_a: float) -> tuple[float, float, float]:
    """Return ln CLs of sqrt(qtilde) of the data and of the Asimov data, and its derivatives by both."""
    if root <= root_a:
        t, by_root, by_a = root - root_a, 1.0, -1.0
    else:
        ratio = root / max(root_a, 1e-12)
        t, by_root, by_a = 0.5 * (root * ratio - root_a), ratio, -0.5 * (1 + ratio**2)
    above, below = float(special.log_ndtr(-(t + root_a))), float(special.log_ndtr(-t))
    # d ln Phi(-x) / dx = -phi(x) / Phi(-x)
    hazard = [float(np.exp(-0.5 * x**2 - 0.5 * np.log(2 * np.pi) - v)) for x, v in ((t + root_a, above), (t, below))]
    return above - below, by_root * (hazard[1] - hazard[0]), by_a * (hazard[1] - hazard[0]) - hazard[0]


def root_of(curve: Callable[[float], tuple[float, float]], first: float, at_zero: float) -> float:
    """Return where a falling curve, mu -> (value, slope), crosses 0: Newton's steps from `first`, inside a bracket.

    at_zero: its positive value at mu = 0. Raises NoLimit where it is positive up to MU_MAX.
    """
    low, high, value_low, value_high = 0.0, np.inf, at_zero, -np.inf
    mu = min(max(first, 1e-6), MU_MAX)
    for _ in range(MAX_STEPS):
        value, slope = curve(mu)
        if value >= 0:
            low, value_low = mu, value
            if mu >= MU_MAX:
                raise NoLimit(f"no limit up to {MU_MAX:g} times the one expected of a known background")
        else:
            high, value_high = mu, value
        new = mu - value / slope if slope < 0 else np.inf
        if abs(new - mu) <= PRECISION * mu:
            return float(new)
        if not np.isfinite(high):
            new = min(new, 2 * mu, MU_MAX)
        if not low < new < high:
            new = (low * value_high - high * value_low) / (value_high - value_low)
            if not low < new < high:
                new = 0.5 * (low + high)
        mu = float(new)
        if np.isfinite(high) and high - low <= PRECISION * high:
            return mu
    raise NoLimit(f"the search for the limit ends between {low:.6g} and {high:.6g} times the expected one")


def asymptotic_cls(likelihood: Likelihood, mu: float, *, to: Observed | None = None) -> tuple[float, Floats]:
    """Return the observed CLs of a signal strength and the expected ones at -2, -1, 0, 1, 2 sigma, (5,); raises NoLimit where a fit fails."""
    fits = prepared(likelihood, to=to)
    root_a = root_and_slope(
        needed(likelihood.fit(mu, to=fits.asimov, near=fits.at_asimov), "a fit of the Asimov data"), 0.0
    )[0]
    root = 0.0
    if mu > fits.best.mu:
        root = root_and_slope(needed(likelihood.fit(mu, to=to, near=fits.best), "a fit of the data"), fits.best.nll)[0]
    sigmas = np.array(SIGMAS, dtype=np.float64)
    expected = special.ndtr(sigmas - root_a) / special.ndtr(sigmas)
    return float(np.exp(log_cls_of(root, root_a)[0])), np.asarray(expected)


def discovery_z(likelihood: Likelihood) -> float | None:
    """Return the signed z of a signal, mu free while every bin is positive; None where a fit fails."""
    background = likelihood.fit(0.0)
    best = likelihood.fit(near=background, lower=-np.inf)
    if not (background.converged and best.converged):
        return None
    return float(np.sign(best.mu) * np.sqrt(2 * max(background.nll - best.nll, 0.0)))
