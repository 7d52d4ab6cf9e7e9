"""The counting experiment: events above a threshold against an expectation that is itself made of counts.

The expectation is a product of Poisson counts that no signal enters: one control count times a scale (a background
sample), or B C / D of a plane of two axes (ABCD). With one control count n_off, scale 1 / tau and no systematic error the
p-value is the exact binomial one of the on/off problem, P_Bi of Cousins, Linnemann and Tucker (arXiv:physics/0702156);
any other uncertainty is integrated over, as in their Z_Gamma. pyhf's q0 of the same counts stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyhf
from scipy import special

from ...errors import InputError, unknown_name
from ..fits.log_p import SMALLEST, p_of_log, p_of_z, stated_p, z_of_log
from .bumphunter import log_tail
from .q0 import q0_z

__all__ = [
    "CONSTRAINTS",
    "CountingResult",
    "Expectation",
    "check_systematic",
    "count",
    "counting_workspace",
    "exact_p",
    "expectation_from_abcd",
    "expectation_from_sample",
    "open_workspace",
]

Floats = npt.NDArray[np.float64]
CONSTRAINTS = ("gamma", "lognormal")
LARGEST_SYSTEMATIC = 1.0  # relative: a background known to less than a factor of two is no expectation
STEPS = 6  # of a quadrature in ln x, per standard deviation: the trapezoidal rule is then exact to 1e-15
NEGLIGIBLE = 0.01  # of the spread of observed minus expected: 1e-4 of its variance
LOW, HIGH = 45.0, 700.0  # a quadrature ends where its density has fallen by exp of these, below and above
MARGIN = 100.0  # by which HIGH lies above -ln p where p is smaller than any double
MOST_NODES = 6_000  # points of one quadrature; fewer than STEPS a standard deviation move ln p by less than 1
BY_LOGARITHM = 1e-290  # below, the incomplete beta function loses digits
INTERPOLATION = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}  # what `pyhf cls` sets


@dataclass(frozen=True, repr=False)
class Expectation:
    """Background events expected above the threshold, as a product of independent Poisson counts.

    method: "sample" or "abcd"; counts: {"control": n} with the expectation `scale` n, or {"B": , "C": , "D": } with the
    expectation B C / D; scale: hunted events that one control event stands for (1 / tau of the on/off problem).
    """

    method: str
    counts: Mapping[str, float]
    scale: float = 1.0

    @property
    def mean(self) -> float:
        """Return the number of background events expected."""
        if self.method == "sample":
            return self.scale * self.counts["control"]
        return self.counts["B"] * self.counts["C"] / self.counts["D"]

    @property
    def stat(self) -> float:
        """Return the statistical error of the mean from error propagation; no control event counts as 0 +- 1 of them."""
        if self.method == "sample":
            return self.scale * float(np.sqrt(max(self.counts["control"], 1.0)))
        return self.mean * float(np.sqrt(sum(1.0 / n for n in self.counts.values())))

    def as_dict(self) -> dict[str, Any]:
        """Return everything for strict JSON."""
        return {
            "method": self.method,
            "counts": dict(self.counts),
            "scale": self.scale,
            "events": self.mean,
            "statistical_error": self.stat,
        }

    def __repr__(self) -> str:
        """Return the expectation in a line."""
        counts = ", ".join(f"{k} = {v:g}" for k, v in self.counts.items())
        return (
            f"Expectation({self.mean:.4g} +- {self.stat:.2g} events, {self.method}: {counts}, scale {self.scale:.4g})"
        )


def expectation_from_sample(counts: npt.ArrayLike, *, scale: npt.ArrayLike) -> Expectation:
    """Return the expectation from background events above the threshold, each of which stands for `scale` hunted ones.

    counts, scale: numbers, or (k,) of k folds. Folds of unequal scale become one control count of the same mean and the
    same variance, a scaled Poisson distribution (Bohm and Zech, arXiv:1309.1287); of equal scale they add up exactly.
    Raises InputError for a scale that is not positive and counts that are negative or not finite.
    """
    n = np.atleast_1d(np.asarray(counts, dtype=np.float64))
    weight = np.broadcast_to(np.asarray(scale, dtype=np.float64), n.shape)
    if not np.all(np.isfinite(weight) & (weight > 0)):
        raise InputError(f"the scale of a background sample is a positive number; found {weight.tolist()}")
    if not np.all(np.isfinite(n) & (n >= 0)):
        raise InputError(f"counts of a background sample are 0 or more; found {n.tolist()}")
    mean, variance = float((weight * n).sum()), float((weight**2 * n).sum())
    if mean == 0:
        return Expectation("sample", {"control": 0.0}, float(weight.max()))
    if np.ptp(weight) == 0:
        return Expectation("sample", {"control": float(n.sum())}, float(weight[0]))
    return Expectation("sample", {"control": mean**2 / variance}, variance / mean)


def expectation_from_abcd(b: float, c: float, d: float) -> Expectation:
    """Return the expectation B C / D of events above both thresholds, from those above the first, the second and neither.

    It is right where the two axes are independent on background, and where B, C and D hold no signal.
    Raises InputError for an empty control region, by name.
    """
    counts = {"B": float(b), "C": float(c), "D": float(d)}
    empty = [name for name, n in counts.items() if not (np.isfinite(n) and n > 0)]
    if empty:
        found = ", ".join(f"{name} = {n:g}" for name, n in counts.items())
        raise InputError(
            f"an ABCD expectation needs events in each control region; {' and '.join(empty)} is empty ({found}): "
            "loosen the efficiency, or take the expectation from a background sample"
        )
    return Expectation("abcd", counts)


@dataclass(frozen=True, repr=False)
class CountingResult:
    """The events counted, the events expected, and how unlikely as many are without a signal.

    p_value, z: with the statistical and the systematic error, one-sided; a deficit has p > 0.5 and z < 0; log_p: ln of that p.
    p_statistical: without the systematic error; p_known: of an expectation known exactly, None where that is zero and events
    were seen; p_pyhf, z_pyhf: pyhf's asymptotic q0, 0.5 and 0 for every deficit, None where no fit converges. A p of 1e-300
    stands for smaller ones too. systematic: relative.
    """

    observed: int
    expectation: Expectation
    systematic: float
    constraint: str
    log_p: float
    p_statistical: float
    p_known: float | None
    z_pyhf: float | None

    @property
    def p_value(self) -> float:
        """Return the p-value, 1e-300 where it is smaller."""
        return float(p_of_log(self.log_p))

    @property
    def z(self) -> float:
        """Return the one-sided significance of `p_value`."""
        return float(z_of_log(self.log_p))

    @property
    def p_pyhf(self) -> float | None:
        """Return pyhf's p-value, 1e-300 where it is smaller."""
        return None if self.z_pyhf is None else float(p_of_z(self.z_pyhf))

    def as_dict(self) -> dict[str, Any]:
        """Return everything for strict JSON."""
        return {
            "observed": self.observed,
            "expected": self.expectation.mean,
            "statistical_error": self.expectation.stat,
            "systematic_error": self.systematic * self.expectation.mean,
            "systematic": self.systematic,
            "constraint": self.constraint,
            "p_value": self.p_value,
            "p_value_is_bound": bool(self.p_value <= SMALLEST),
            "z": self.z,
            "p_statistical": self.p_statistical,
            "p_known": self.p_known,
            "p_pyhf": self.p_pyhf,
            "z_pyhf": self.z_pyhf,
            "expectation": self.expectation.as_dict(),
        }

    def __repr__(self) -> str:
        """Return the answer in a line."""
        mean, stat = self.expectation.mean, self.expectation.stat
        return (
            f"CountingResult({self.observed} events, {mean:.4g} +- {stat:.2g} (stat) +- {self.systematic * mean:.2g} (syst) "
            f"expected, p {stated_p(self.p_value)}, z = {self.z:.2f})"
        )


def count(
    observed: int, expectation: Expectation, *, systematic: float = 0.1, constraint: str = "gamma"
) -> CountingResult:
    """Compare events counted with those expected: exact p-values and pyhf's.

    systematic: relative error of the expectation beside its statistical one; constraint: "gamma" or "lognormal", its shape.
    Raises InputError for a count that is no whole number of 0 or more, a systematic outside 0 to 1, an unknown constraint.
    """
    number = whole_number(observed)
    mean = expectation.mean
    return CountingResult(
        observed=number,
        expectation=expectation,
        systematic=systematic,
        constraint=constraint,
        log_p=log_exact_p(number, expectation, systematic=systematic, constraint=constraint),
        p_statistical=exact_p(number, expectation, systematic=0.0),
        p_known=None if mean == 0 < number else poisson_p(number, mean),
        z_pyhf=pyhf_z(number, expectation, systematic=systematic, constraint=constraint),
    )


def whole_number(observed: float) -> int:
    """Return the count as an integer; raises InputError where it is none."""
    if not (np.isfinite(observed) and observed >= 0 and observed == round(observed)):
        raise InputError(f"events are counted in whole numbers of 0 or more; found {observed!r}")
    return int(observed)


def check_systematic(systematic: float, constraint: str) -> None:
    """Raise InputError for a relative systematic error or a constraint that cannot be."""
    if constraint not in CONSTRAINTS:
        raise InputError(unknown_name("constraint", constraint, CONSTRAINTS, "systematic error"))
    if not (np.isfinite(systematic) and 0 <= systematic <= LARGEST_SYSTEMATIC):
        raise InputError(
            f"the systematic error is relative and lies in [0, {LARGEST_SYSTEMATIC:g}]; found {systematic:g}"
        )


def poisson_p(observed: int, mean: float) -> float:
    """Return P(n >= observed) of a Poisson distribution of known mean, 1e-300 where it is smaller."""
    return float(p_of_log(log_tail(np.array([float(observed)]), np.array([mean]))[0])) if observed else 1.0


def exact_p(observed: int, expectation: Expectation, *, systematic: float = 0.0, constraint: str = "gamma") -> float:
    """Return P(n >= observed) with the expectation's uncertainties integrated over, 1e-300 where it is smaller.

    Raises InputError as `count` does.
    """
    return float(p_of_log(log_exact_p(observed, expectation, systematic=systematic, constraint=constraint)))


def log_exact_p(
    observed: int, expectation: Expectation, *, systematic: float = 0.0, constraint: str = "gamma"
) -> float:
    """Return ln P(n >= observed) with the expectation's uncertainties integrated over, however small it is.

    A count N that raises the expectation stands for a mean distributed as Gamma(N + 1), one that lowers it (D) for
    Gamma(N): the sides on which the test of a single ratio is exact (arXiv:physics/0702156). The integral over the first
    count is the binomial tail I(r / (1 + r); observed, N + 1), r hunted events for one of it. The
    systematic factor has the density Gamma(1 / systematic^2 + 1) over 1 / systematic^2, an auxiliary count as pyhf's
    `shapesys` has it, or is log-normal of median 1 and width ln(1 + systematic), as `normsys`.
    Raises InputError as `count` does.
    """
    check_systematic(systematic, constraint)
    if observed == 0:
        return 0.0
    first = expectation.counts["control" if expectation.method == "sample" else "B"]

    def log_integral(high: float) -> tuple[float, float]:
        """Return ln of the integral, and of its largest tail where the uncertainties are likeliest."""
        log_ratio, log_share = ratio_nodes(expectation, high=high)
        log_factor, log_weight = systematic_nodes(systematic, constraint, high=high)
        log_tails = log_betainc(observed, first + 1.0, log_ratio[:, None] + log_factor[None, :])
        total = special.logsumexp(log_share[:, None] + log_tails + log_weight[None, :])
        return float(total), float(log_tails[log_share.argmax(), log_weight.argmax()])

    log_p, likeliest = log_integral(HIGH)
    if -likeliest > HIGH - MARGIN:
        # the integral is at least about the tail at the likeliest place, so what lies beyond this adds nothing to it
        log_p, _ = log_integral(MARGIN - likeliest)
    return min(log_p, 0.0)


def log_betainc(a: float, b: float, log_odds: Floats) -> Floats:
    """Return ln of the regularised incomplete beta function I(x; a, b) at x = 1 / (1 + exp(-log_odds)), also below 1e-308.

    There the series x^a (1 - x)^b / (a B(a, b)) times the sum of (a + b) ... (a + b + n) / ((a + 1) ... (a + 1 + n)) x^(n + 1)
    converges: x lies far below its mean a / (a + b).
    """
    direct = special.betainc(a, b, special.expit(log_odds))
    with np.errstate(divide="ignore"):
        value = np.log(direct)
    far = direct < BY_LOGARITHM
    if far.any():
        t = log_odds[far]
        x, total, term, n = special.expit(t), np.ones(len(t)), np.ones(len(t)), 0
        while np.any(term > 1e-15 * total):
            term = term * x * (a + b + n) / (a + 1.0 + n)
            total += term
            n += 1
        value[far] = (
            -a * np.logaddexp(0.0, -t) - b * np.logaddexp(0.0, t) - np.log(a) - special.betaln(a, b) + np.log(total)
        )
    return np.asarray(value)


def ratio_nodes(expectation: Expectation, *, high: float = HIGH) -> tuple[Floats, Floats]:
    """Return ln of the hunted events that one event of the first count stands for, and ln of weights that add up to one.

    For ABCD that is C / D, whose distribution is the beta prime one of C + 1 and D.
    """
    if expectation.method == "sample":
        return np.log([expectation.scale]), np.zeros(1)
    a, b = expectation.counts["C"] + 1.0, expectation.counts["D"]

    def log_density(t: Floats) -> Floats:
        return np.asarray(a * t - (a + b) * np.logaddexp(0.0, t))

    width = float(np.sqrt(special.polygamma(1, a) + special.polygamma(1, b)))
    return nodes(log_density, float(np.log(a / b)), width, high=high)


def systematic_nodes(systematic: float, constraint: str, *, high: float = HIGH) -> tuple[Floats, Floats]:
    """Return ln of the factor by which the systematic error moves the expectation, and ln of weights that add up to one."""
    if systematic == 0:
        return np.zeros(1), np.zeros(1)
    if constraint == "lognormal":
        width = float(np.log1p(systematic))
        return nodes(lambda t: -0.5 * (t / width) ** 2, 0.0, width, high=high)
    n = systematic**-2
    mode, width = float(np.log1p(1.0 / n)), float(np.sqrt(1.0 / (n + 1.0)))
    return nodes(lambda t: (n + 1.0) * t - n * np.expm1(t), mode, width, high=high)


def nodes(log_density: Callable[[Floats], Floats], mode: float, width: float, *, high: float) -> tuple[Floats, Floats]:
    """Return equidistant points over a log-concave density of ln x, and ln of the weights of the trapezoidal rule.

    The points reach further up than down, to where the density has fallen by exp(high): a larger expectation makes a p-value
    larger, so what is cut off below is small beside what stays, while small p-values are made by the far upper tail.
    """

    def reach(direction: float, fall: float) -> float:
        distance = 4 * width
        peak = log_density(np.array([mode]))[0]
        while log_density(np.array([mode + direction * distance]))[0] > peak - fall:
            distance *= 1.25
        return distance

    below, above = reach(-1.0, LOW), reach(1.0, high)
    step = max(width / STEPS, (below + above) / MOST_NODES)
    t = np.arange(mode - below, mode + above, step)
    log_values = log_density(t)
    return t, log_values - special.logsumexp(log_values)


def pyhf_z(observed: int, expectation: Expectation, *, systematic: float, constraint: str) -> float | None:
    """Return the z of pyhf's asymptotic q0 (arXiv:1007.1727, eq. 53), 0 for a deficit; None where no fit converges."""
    if observed <= expectation.mean:
        return 0.0
    workspace = counting_workspace(observed, expectation, systematic=systematic, constraint=constraint)
    model, data = open_workspace(workspace)
    if sum(model.config.suggested_fixed()) == model.config.npars - 1:
        # with all but mu known there is nothing to fit: eq. 12 with the best signal observed - mean
        mean = float(expectation.mean)
        return float(np.sqrt(2 * (observed * np.log(observed / mean) - (observed - mean))))
    return q0_z(model, data)


def open_workspace(workspace: Mapping[str, Any]) -> tuple[Any, list[float]]:
    """Return the pyhf model and the data of a workspace."""
    opened = pyhf.Workspace(workspace)
    model = opened.model(modifier_settings=INTERPOLATION)
    return model, list(opened.data(model))


def counting_workspace(
    observed: float, expectation: Expectation, *, systematic: float, constraint: str, unit: float | None = None
) -> dict[str, Any]:
    """Build the pyhf workspace of a counting experiment, with a channel for each control count.

    The statistical error is that of the control counts, Poisson as they are, with their means free; the systematic error is a
    `shapesys` (gamma) or a `normsys` (log-normal) on the hunted channel's background. unit: signal events at mu = 1, by
    default about the error of the background. Raises InputError as `count` does.
    """
    check_systematic(systematic, constraint)
    mean = expectation.mean
    scale = unit or float(np.sqrt(mean + expectation.stat**2 + (systematic * mean) ** 2 + 1.0))
    # a mean of zero has no factor: an empty control count starts from one event, whose factor may fall to zero
    nominal = {name: max(n, 1.0) for name, n in expectation.counts.items()}
    rates = {"control": ("rate",), "B": ("rate_d", "ratio_b"), "C": ("rate_d", "ratio_c"), "D": ("rate_d",)}
    sample = expectation.method == "sample"
    hunted = Expectation(expectation.method, nominal, expectation.scale).mean
    factors = rates["control"] if sample else ("rate_d", "ratio_b", "ratio_c")
    background = {
        "name": "background",
        "data": [hunted],
        "modifiers": [*map(free, factors), *error_of(hunted, systematic, constraint)],
    }
    signal = {"name": "signal", "data": [scale], "modifiers": [free("mu")]}
    channels = [{"name": "hunted", "samples": [signal, background]}]
    for name, n in nominal.items():
        channels.append(
            {
                "name": f"control_{name}",
                "samples": [{"name": "background", "data": [n], "modifiers": [free(r) for r in rates[name]]}],
            }
        )
    # the spread of observed minus expected, relative; a factor known far better has a valley too narrow for a fit's steps
    spread = float(np.sqrt(mean + expectation.stat**2 + (systematic * mean) ** 2)) / hunted
    known = [1.0 / np.sqrt(n) < NEGLIGIBLE * spread for name, n in nominal.items() if name != "D"]
    if not sample:
        known.insert(0, 1.0 / np.sqrt(nominal["D"]) < NEGLIGIBLE * spread)
    parameters = [
        {"name": "mu", "inits": [0.5], "bounds": [[0.0, 100.0 + 2.0 * observed / scale]]},
        *(
            {"name": f, "inits": [1.0], "bounds": [[0.0, 20.0]], "fixed": bool(held)}
            for f, held in zip(factors, known, strict=True)
        ),
    ]
    return {
        "channels": channels,
        "observations": [
            {"name": "hunted", "data": [float(observed)]},
            *({"name": f"control_{name}", "data": [n]} for name, n in expectation.counts.items()),
        ],
        "measurements": [{"name": "counting", "config": {"poi": "mu", "parameters": parameters}}],
        "version": "1.0.0",
    }


def free(name: str) -> dict[str, Any]:
    """Return pyhf's factor without a constraint."""
    return {"name": name, "type": "normfactor", "data": None}


def error_of(background: float, systematic: float, constraint: str) -> list[dict[str, Any]]:
    """Return pyhf's modifier of the systematic error, none where that is zero."""
    if systematic == 0:
        return []
    if constraint == "gamma":
        return [{"name": "systematic", "type": "shapesys", "data": [systematic * background]}]
    data = {"hi": 1.0 + systematic, "lo": 1.0 / (1.0 + systematic)}
    return [{"name": "systematic", "type": "normsys", "data": data}]
