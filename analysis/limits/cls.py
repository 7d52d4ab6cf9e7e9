"""Upper limits on a resonance by CLs against mass, from the models of `limit_model`.

Limits follow from qtilde (arXiv:1007.1727, eq. 16) by CLs (J. Phys. G 28 (2002) 2693), asymptotically.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyhf
from scipy import optimize, special
from threadpoolctl import threadpool_limits

from ...errors import InputError
from ...pieces import NONE_KEPT, Pieces
from ...table import MJJ, Observable
from ..significance.bumphunt import BumpHunt
from ..significance.q0 import q0_p, q0_z
from .model import MU_MAX, RESOLUTION_ERROR, SCALE_ERROR, LimitModel, limit_model, region_names, shares

__all__ = ["Limits", "cls_limits", "model_cls", "model_discovery_p", "model_discovery_z"]

Answer = TypeVar("Answer")
Floats = npt.NDArray[np.float64]
LEVEL = 0.05
PRECISION = 1e-3  # of a limit, relative
NOT_THE_MINIMUM = 1e-3  # in -2 ln L: a fixed fit this far below the free one shows that the free one failed
FEW_EVENTS = 10.0
SAID = 4  # masses that a note names
# how a fit, its matrices or the search for a crossing end without an answer: one mass without a limit, not a lost run
NO_ANSWER = (pyhf.exceptions.FailedMinimization, np.linalg.LinAlgError, ValueError, RuntimeError)
SIGMAS = (-2, -1, 0, 1, 2)


@dataclass(frozen=True, repr=False)
class Limits:
    """Upper limits at `confidence` on the signal events at all masses in all regions together, one point a mass.

    masses: (n,) GeV; observed: (n,), NaN where blind; expected: (n, 5) at -2, -1, 0, 1, 2 sigma; failures: mass -> why it has
    no limit, where observed and expected are NaN (a region that holds signal cannot be used, or a fit failed); background: (n,) events expected in the window; asymptotic: (n,) False
    where that is below 10, where the asymptotic formulas want pseudo-experiments; dropped: mass -> region -> why it was left out;
    luminosity: fb^-1 or None; efficiencies: (n, regions), the share of the signal in each region.
    """

    masses: Floats
    observed: Floats
    expected: Floats
    confidence: float
    blind: bool
    failures: dict[float, str]
    dropped: dict[float, dict[str, str]]
    background: Floats
    asymptotic: npt.NDArray[np.bool_]
    efficiencies: Floats
    scale_error: float
    resolution_error: float
    luminosity: float | None = None

    def __repr__(self) -> str:
        """Return the value in a line."""
        kind = "blind" if self.blind else "observed and expected"
        lowest, highest = (f"{m:g}" for m in (self.masses.min(), self.masses.max()))
        return (
            f"Limits({kind} at {self.confidence:.0%}, masses: {len(self.masses)} from {lowest} to {highest} GeV, "
            f"without a limit: {self.n_failed})"
        )

    @property
    def n_failed(self) -> int:
        """Return the number of masses without a limit."""
        return len(self.failures)

    def note(self, name: str, observable: Observable = MJJ) -> str | None:
        """Say at which masses a signal of this name has no limit, and why at the first; None where it has one at all."""
        if not self.failures:
            return None
        where = ", ".join(observable.at(m) for m in list(self.failures)[:SAID])
        more = f" and {self.n_failed - SAID} more" if self.n_failed > SAID else ""
        first = next(iter(self.failures.values()))
        return f"{name}: no limit at {self.n_failed} of {len(self.masses)} masses, {where}{more}: {first}"

    @property
    def observed_fb(self) -> Floats | None:
        """Return the observed limit (n,) on cross-section times branching times efficiency in fb, None without luminosity."""
        return None if self.luminosity is None else self.observed / self.luminosity

    @property
    def expected_fb(self) -> Floats | None:
        """Return the expected limits (n, 5) in fb, None without luminosity; the efficiency is that of the whole selection."""
        return None if self.luminosity is None else self.expected / self.luminosity

    def as_dict(self) -> dict[str, Any]:
        """Return everything for strict JSON; a limit that does not exist is null."""
        answer = {
            "masses": self.masses.tolist(),
            "observed": strict(self.observed),
            "expected": strict(self.expected),
            "expected_sigmas": list(SIGMAS),
            "unit": "signal events at all masses in all regions",
            "confidence": self.confidence,
            "method": "CLs with qtilde, asymptotic (pyhf)",
            "blind": self.blind,
            "failed": self.n_failed,
            "failures": [{"mass": m, "reason": why} for m, why in self.failures.items()],
            "dropped_regions": [{"mass": m, "regions": regions} for m, regions in self.dropped.items()],
            "background_in_window": strict(self.background),
            "asymptotic_holds": self.asymptotic.tolist(),
            "efficiencies": self.efficiencies.tolist(),
            "scale_error": self.scale_error,
            "resolution_error": self.resolution_error,
            "luminosity": self.luminosity,
        }
        if self.observed_fb is not None and self.expected_fb is not None:
            answer |= {"observed_fb": strict(self.observed_fb), "expected_fb": strict(self.expected_fb)}
        return answer


def strict(values: Floats) -> list[Any]:
    """Return nested lists with None where a value is not finite: strict JSON has no NaN."""
    if values.ndim > 1:
        return [strict(row) for row in values]
    return [v if np.isfinite(v) else None for v in values.tolist()]


def use_scipy() -> None:
    """Set pyhf to numpy and scipy, as its command line has them."""
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer())


def use_minuit() -> None:
    """Set pyhf to numpy and minuit: three times slower, and goes on where scipy gives up."""
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(tolerance=1e-3))


def model_cls(model: LimitModel, mu: float) -> tuple[float, Floats]:
    """Return pyhf's observed CLs of signal strength `mu` and the expected ones at -2, -1, 0, 1, 2 sigma, (5,).

    Raises pyhf's FailedMinimization where neither scipy nor minuit fits.
    """
    built, data = model.build()

    def ask() -> tuple[float, Floats]:
        observed, expected = pyhf.infer.hypotest(mu, data, built, test_stat="qtilde", return_expected_set=True)
        return float(observed), np.array([float(e) for e in expected])

    return with_fallback(ask)


def model_discovery_p(model: LimitModel) -> float | None:
    """Return pyhf's q0 p-value of the joint fit, capped at 0.5 and so never to be combined; None where a fit fails."""
    return q0_p(*model.build())


def model_discovery_z(model: LimitModel) -> float | None:
    """Return the z of `model_discovery_p`, however large it is; 0 for every deficit."""
    return q0_z(*model.build())


def with_fallback(ask: Callable[[], Answer]) -> Answer:
    """Ask with scipy's fits, and with minuit's where those fail."""
    use_scipy()
    try:
        return ask()
    except pyhf.exceptions.FailedMinimization:
        use_minuit()
        return ask()


def failed(why: str) -> pyhf.exceptions.FailedMinimization:
    """Return pyhf's exception for a fit that gave no answer."""
    return pyhf.exceptions.FailedMinimization(optimize.OptimizeResult(message=why))


def asymptotic_limits(built: Any, data: list[float], level: float) -> Floats:
    """Return the signal strengths whose CLs is `level`: observed, then expected at -2, -1, 0, 1, 2 sigma, (6,).

    The same CLs as `pyhf.infer.hypotest` (arXiv:1007.1727, eqs. 16, 62 to 66), whose fits that do not depend on mu are made
    once: of the data and of the background-only Asimov data. Raises pyhf's FailedMinimization where a fit fails.
    """
    asimov_pars = pyhf.infer.mle.fixed_poi_fit(0.0, data, built)
    asimov = built.expected_data(asimov_pars).tolist()
    free = [pyhf.infer.mle.fit(d, built, return_fitted_val=True) for d in (data, asimov)]
    best = float(free[0][0][built.config.poi_index])

    def root_q(which: int, mu: float) -> float:
        pars, minimum = free[which]
        _, value = pyhf.infer.mle.fixed_poi_fit(
            mu, (data, asimov)[which], built, init_pars=list(pars), return_fitted_val=True
        )
        q = float(value) - float(minimum)
        if not q > -NOT_THE_MINIMUM:  # NaN too
            raise failed(f"-2 ln L at mu = {mu:g} lies {-q:.2g} below that of the free fit")
        return float(np.sqrt(max(q, 0.0)))

    # CLs at N sigma is (1 - Phi(sqrt(q_A) - N)) / Phi(N): each N wants its own sqrt(q_A)
    sigmas = np.array(SIGMAS, dtype=np.float64)
    wanted = special.ndtri(1 - level * special.ndtr(sigmas)) + sigmas

    def curves(mu: float) -> Floats:
        root_a = root_q(1, mu)
        root = root_q(0, mu) if mu > best else 0.0
        t = root - root_a if root <= root_a else (root**2 - root_a**2) / (2 * max(root_a, 1e-12))
        log_cls = special.log_ndtr(-(t + root_a)) - special.log_ndtr(-t)
        return np.append(log_cls - np.log(level), wanted - root_a)

    return crossings(curves, np.append(-np.log(level), wanted))


def crossings(curves: Callable[[float], Floats], at_zero: Floats) -> Floats:
    """Return where each of k falling curves crosses 0, (k,); at_zero: their values at mu = 0, all positive.

    Raises FailedMinimization where one is positive up to mu = 100 still.
    """
    known = {0.0: at_zero}

    def at(mu: float) -> Floats:
        if mu not in known:
            known[mu] = curves(mu)
        return known[mu]

    high = 1.0
    while at(high).max() >= 0:
        high *= 1.6
        if high > MU_MAX:
            raise failed(f"no limit up to {MU_MAX:g} times the one expected of a known background")
    found = np.empty(len(at_zero))
    for i in range(len(at_zero)):
        above = min(m for m, v in known.items() if v[i] < 0)
        below = max(m for m, v in known.items() if v[i] >= 0 and m < above)

        def curve(mu: float, i: int = i) -> float:
            return float(at(mu)[i])

        found[i] = optimize.brentq(curve, below, above, rtol=PRECISION, xtol=1e-6)
    return found


def cls_limits(
    found: BumpHunt,
    *,
    names: Sequence[str] | None = None,
    masses: npt.ArrayLike | None = None,
    efficiencies: npt.ArrayLike | None = None,
    luminosity: float | None = None,
    confidence: float = 1 - LEVEL,
    scale_error: float = SCALE_ERROR,
    resolution_error: float = RESOLUTION_ERROR,
    blind: bool = False,
    pieces: Pieces = NONE_KEPT,
) -> Limits:
    """Set CLs limits over a hunt's regions at each mass (GeV; the hunt's own by default), observed and expected.

    efficiencies: (regions,) or (masses, regions), share of the signal events in each region; luminosity: fb^-1, for limits
    in fb; blind: the sidebands' background stands in for the counts and observed is NaN. A mass whose model cannot be built
    or fitted has NaN and its reason in `failures`. pieces: where the limits of a mass are kept. Raises InputError for settings outside what they mean.
    """
    grid = np.atleast_1d(np.asarray(found.masses if masses is None else masses, dtype=np.float64))
    regions = region_names(found, names)
    share = shares(efficiencies, len(regions), len(grid))
    if luminosity is not None and not (np.isfinite(luminosity) and luminosity > 0):
        raise InputError(f"luminosity is a positive number of fb^-1; found {luminosity:g}")
    if not 0.5 <= confidence < 1:
        raise InputError(f"confidence lies in [0.5, 1), usually 0.95; found {confidence:g}")
    observed, background = np.full(len(grid), np.nan), np.full(len(grid), np.nan)
    expected = np.full((len(grid), len(SIGMAS)), np.nan)
    failures: dict[float, str] = {}
    dropped: dict[float, dict[str, str]] = {}
    settled: dict[str, Any] = {"confidence": confidence, "blind": blind}
    errors = [scale_error, resolution_error]
    own = pieces.of("limits", dataclasses.replace(found, global_p=None), list(regions), grid, share, errors, settled)
    with threadpool_limits(1):
        for m, mass in enumerate(grid.tolist()):
            model = limit_model(
                found,
                mass,
                names=regions,
                efficiencies=share[m],
                scale_error=scale_error,
                resolution_error=resolution_error,
            )
            if isinstance(model, str):
                failures[mass] = model
                continue
            background[m] = model.background
            if model.dropped:
                dropped[mass] = model.dropped
            built, data = model.build(model.expected if blind else None)

            def ask(built: Any = built, data: list[float] = data) -> Floats:
                return asymptotic_limits(built, data, 1 - confidence)

            def answered(unit: float = model.unit, ask: Callable[[], Floats] = ask) -> dict[str, Any]:
                try:
                    return {"limits": unit * with_fallback(ask), "failure": ""}
                except NO_ANSWER as error:
                    return {"limits": np.nan, "failure": f"a fit of the limit failed: {error}"}

            made = own.kept(f"{m}", answered)
            if str(made["failure"]):
                failures[mass] = str(made["failure"])
                continue
            found_here = made["limits"]
            observed[m] = np.nan if blind else found_here[0]
            expected[m] = found_here[1:]
    return Limits(
        masses=grid,
        observed=observed,
        expected=expected,
        confidence=confidence,
        blind=blind,
        failures=failures,
        dropped=dropped,
        background=background,
        asymptotic=background >= FEW_EVENTS,
        efficiencies=share,
        scale_error=scale_error,
        resolution_error=resolution_error,
        luminosity=luminosity,
    )
