"""pyhf's asymptotic CLs limits, of counting experiments and as a check of the project's own likelihood."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyhf
from scipy import optimize, special

from .asymptotic import MU_MAX, SIGMAS
from .model import LimitModel
from .workspace import build

__all__ = ["NO_ANSWER", "model_cls", "pyhf_limits", "use_scipy", "with_fallback"]

Answer = TypeVar("Answer")
Floats = npt.NDArray[np.float64]
PRECISION = 1e-3  # of a limit, relative
NOT_THE_MINIMUM = 1e-3  # in -2 ln L: a fixed fit this far below the free one shows that the free one failed
# how a fit, its matrices or the search for a crossing end without an answer: one mass without a limit, not a lost run
NO_ANSWER = (pyhf.exceptions.FailedMinimization, np.linalg.LinAlgError, ValueError, RuntimeError)


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
    built, data = build(model)

    def ask() -> tuple[float, Floats]:
        observed, expected = pyhf.infer.hypotest(mu, data, built, test_stat="qtilde", return_expected_set=True)
        return float(observed), np.array([float(e) for e in expected])

    return with_fallback(ask)


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


def pyhf_limits(
    built: Any, data: list[float], level: float, *, precision: float = PRECISION, start: list[float] | None = None
) -> Floats:
    """Return the signal strengths whose CLs is `level`: observed, then expected at -2, -1, 0, 1, 2 sigma, (6,).

    The same CLs as `pyhf.infer.hypotest` (arXiv:1007.1727, eqs. 16, 62 to 66), whose fits that do not depend on mu are made
    once: of the data and of the background-only Asimov data. precision: of a limit, relative; start: of those two fits. Raises pyhf's FailedMinimization where a fit fails.
    """
    asimov_pars = pyhf.infer.mle.fixed_poi_fit(0.0, data, built, init_pars=start)
    asimov = built.expected_data(asimov_pars).tolist()
    free = [pyhf.infer.mle.fit(d, built, init_pars=start, return_fitted_val=True) for d in (data, asimov)]
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

    return crossings(curves, np.append(-np.log(level), wanted), precision)


def crossings(curves: Callable[[float], Floats], at_zero: Floats, precision: float) -> Floats:
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

        found[i] = optimize.brentq(curve, below, above, rtol=precision, xtol=1e-3 * precision)
    return found
