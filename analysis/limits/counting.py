"""Upper limits on the signal of a counting experiment by CLs, from the count itself and from pyhf's likelihood.

The statistic of the first is the number of events: CLs(s) = P(n <= observed | s + b) / P(n <= observed | b)
(J. Phys. G 28 (2002) 2693), each averaged over the uncertainty of b. It holds for any number of events; pyhf's, from
qtilde (arXiv:1007.1727, eq. 16), is asymptotic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special
from scipy.stats import qmc
from threadpoolctl import threadpool_limits

from ...errors import InputError
from ..significance.counting import Expectation, check_systematic, counting_workspace, open_workspace, whole_number
from .asymptotic import SIGMAS
from .pyhf_limits import NO_ANSWER, pyhf_limits, with_fallback

__all__ = ["CountingLimits", "counting_limits"]

Floats = npt.NDArray[np.float64]
LOG_POINTS = 12  # 2^12 points of a Sobol sequence over the uncertainties: limits to about 1e-3
SMALLEST = 1e-250  # a chance of as few events below which CLs is a ratio of nothing


@dataclass(frozen=True, repr=False)
class CountingLimits:
    """Upper limits at `confidence` on the signal events above the threshold.

    observed: None where blind; expected: at -2, -1, 0, 1, 2 sigma of the count without a signal; observed_pyhf, expected_pyhf:
    pyhf's asymptotic ones, None where a fit fails; luminosity: fb^-1 or None; signal_efficiency: share of the signal's
    events that end up above the threshold, None where not known.
    """

    observed: float | None
    expected: tuple[float, ...]
    observed_pyhf: float | None
    expected_pyhf: tuple[float, ...] | None
    confidence: float
    luminosity: float | None = None
    signal_efficiency: float | None = None

    @property
    def per_event(self) -> float | None:
        """Return the fb that one signal event above the threshold stands for, None without a luminosity.

        It is a cross-section with a signal efficiency and a cross-section times efficiency without one.
        """
        return None if self.luminosity is None else 1.0 / (self.luminosity * (self.signal_efficiency or 1.0))

    @property
    def observed_fb(self) -> float | None:
        """Return the observed limit in fb (`per_event`), None where blind or without a luminosity."""
        return None if self.per_event is None or self.observed is None else self.observed * self.per_event

    @property
    def expected_fb(self) -> tuple[float, ...] | None:
        """Return the five expected limits in fb (`per_event`), None without a luminosity."""
        return None if self.per_event is None else tuple(e * self.per_event for e in self.expected)

    def as_dict(self) -> dict[str, Any]:
        """Return everything for strict JSON; a limit that does not exist is null."""
        return {
            "observed": self.observed,
            "expected": list(self.expected),
            "expected_sigmas": list(SIGMAS),
            "unit": "signal events above the threshold",
            "method": "CLs of the number of events",
            "observed_pyhf": self.observed_pyhf,
            "expected_pyhf": None if self.expected_pyhf is None else list(self.expected_pyhf),
            "confidence": self.confidence,
            "luminosity": self.luminosity,
            "signal_efficiency": self.signal_efficiency,
            "observed_fb": self.observed_fb,
            "expected_fb": None if self.expected_fb is None else list(self.expected_fb),
        }

    def __repr__(self) -> str:
        """Return the limits in a line."""
        seen = "blind" if self.observed is None else f"{self.observed:.3g}"
        low, high = self.expected[1], self.expected[3]
        return (
            f"CountingLimits({seen} signal events at {self.confidence:.0%} CL, expected {self.expected[2]:.3g} "
            f"({low:.3g} to {high:.3g}))"
        )


def counting_limits(
    observed: int | None,
    expectation: Expectation,
    *,
    systematic: float = 0.1,
    constraint: str = "gamma",
    confidence: float = 0.95,
    luminosity: float | None = None,
    signal_efficiency: float | None = None,
) -> CountingLimits:
    """Set CLs limits on the signal above the threshold, observed (None: blind) and expected.

    systematic, constraint: as in `count`; luminosity: fb^-1; signal_efficiency: in (0, 1]. The signal has no error of its own.
    Raises InputError for settings outside what they mean, and where CLs has no value because so few events were seen.
    """
    check_systematic(systematic, constraint)
    if not 0.5 <= confidence < 1:
        raise InputError(f"confidence lies in [0.5, 1), usually 0.95; found {confidence:g}")
    if luminosity is not None and not (np.isfinite(luminosity) and luminosity > 0):
        raise InputError(f"luminosity is a positive number of fb^-1; found {luminosity:g}")
    if signal_efficiency is not None and not 0 < signal_efficiency <= 1:
        raise InputError(f"the efficiency of a signal lies in (0, 1]; found {signal_efficiency:g}")
    level = 1 - confidence
    number = None if observed is None else whole_number(observed)
    few, many = (drawn_backgrounds(expectation, systematic, constraint, upper=upper) for upper in (False, True))
    counts = [quantile_count(many, float(special.ndtr(sigma))) for sigma in SIGMAS]
    found = {n: cls_limit(n, few, level) for n in {*counts, *([] if number is None else [number])}}
    asymptotic = asymptotic_counting(number, expectation, systematic, constraint, level)
    return CountingLimits(
        observed=None if number is None else found[number],
        expected=tuple(found[n] for n in counts),
        observed_pyhf=None if asymptotic is None or number is None else float(asymptotic[0]),
        expected_pyhf=None if asymptotic is None else tuple(asymptotic[1:].tolist()),
        confidence=confidence,
        luminosity=luminosity,
        signal_efficiency=signal_efficiency,
    )


def drawn_backgrounds(expectation: Expectation, systematic: float, constraint: str, *, upper: bool) -> Floats:
    """Return background expectations (4096,) spread as their uncertainty is, the same each time.

    A count N stands for Gamma(N + 1) or Gamma(N). upper: the choice that makes the background larger, as p-values have it
    and expected counts here; else the one that makes it smaller, and so a limit larger.
    """
    raised = [n for name, n in expectation.counts.items() if name != "D"]
    lowered = [n for name, n in expectation.counts.items() if name == "D"]
    sampler = qmc.Sobol(len(raised) + len(lowered) + 1, scramble=False)
    uniform = (sampler.random_base2(LOG_POINTS) + 0.5 / 2**LOG_POINTS).T
    b = np.full(uniform.shape[1], expectation.scale)
    for n, u in zip(raised, uniform, strict=False):
        shape = n + upper
        b = b * (special.gammaincinv(shape, u) if shape > 0 else 0.0)
    for n, u in zip(lowered, uniform[len(raised) :], strict=False):
        b = b / special.gammaincinv(n + (not upper), u)
    if systematic == 0:
        return np.asarray(b)
    if constraint == "lognormal":
        return np.asarray(b * (1 + systematic) ** special.ndtri(uniform[-1]))
    n = systematic**-2
    return np.asarray(b * special.gammaincinv(n + upper, uniform[-1]) / n)


def chance(counts: float, mean: Floats) -> float:
    """Return P(n <= counts) averaged over Poisson means (m,)."""
    return float(special.gammaincc(counts + 1.0, mean).mean())


def quantile_count(backgrounds: Floats, probability: float) -> int:
    """Return the smallest count whose cumulative probability without a signal reaches `probability`."""
    below, above = -1, 1
    while chance(above, backgrounds) < probability:
        below, above = above, 2 * above + 1
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if chance(middle, backgrounds) < probability else (below, middle)
    return above


def cls_limit(observed: int, backgrounds: Floats, level: float) -> float:
    """Return the signal whose CLs is `level`, given equally likely background expectations (m,)."""
    without = chance(observed, backgrounds)
    if without < SMALLEST:
        raise InputError(
            f"{observed} events were seen where about {backgrounds.mean():.4g} are expected: a deficit that the stated "
            "errors do not allow, and no limit has a meaning; the expectation or its systematic error is wrong"
        )

    def excess(signal: float) -> float:
        return chance(observed, signal + backgrounds) / without - level

    high = observed + 10.0
    while excess(high) > 0:
        high *= 2
    return float(optimize.brentq(excess, 0.0, high, xtol=1e-6, rtol=1e-6))


def asymptotic_counting(
    observed: int | None, expectation: Expectation, systematic: float, constraint: str, level: float
) -> Floats | None:
    """Return pyhf's limits in events, observed and the five expected (6,); None where a fit or the search fails.

    The expected ones are of the background as it fits the data; blind, the expectation stands in for the count.
    """
    count = expectation.mean if observed is None else float(observed)
    unit = 2.0 * float(np.sqrt(expectation.mean + expectation.stat**2 + (systematic * expectation.mean) ** 2 + 1.0))
    built, data = open_workspace(
        counting_workspace(count, expectation, systematic=systematic, constraint=constraint, unit=unit)
    )
    with threadpool_limits(1):
        try:
            return unit * with_fallback(lambda: pyhf_limits(built, data, level))
        except NO_ANSWER:
            return None
