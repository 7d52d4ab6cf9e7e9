"""Combination of p-values over disjoint regions at one mass, each method with what it assumes about dependence.

All functions take `p` of shape (..., k) with values in (0, 1) and combine along the last axis to shape (...).
p-values of several scores on the same events are positively correlated: Fisher and Stouffer then overstate; use Simes,
Cauchy or the harmonic mean there. Rejection of six true null hypotheses at a nominal 5 % and 0.1 %, whose normal
deviates have the correlation rho (a test measures the table again):

| rho | fisher | stouffer | tippett | simes | cauchy | harmonic | harmonic_bound |
| --- | --- | --- | --- | --- | --- | --- | --- |
| 0 | .050/.0010 | .050/.0010 | .050/.0010 | .050/.0010 | .050/.0010 | .048/.0010 | .011/.0002 |
| 0.5 | .141/.032 | .190/.049 | .039/.0009 | .043/.0009 | .062/.0011 | .050/.0011 | .012/.0002 |
| 0.9 | .169/.058 | .241/.094 | .021/.0005 | .031/.0006 | .053/.0011 | .044/.0011 | .011/.0002 |
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from ...errors import InputError, unknown_name
from ..fits.log_p import NEXT_TO_ONE, SMALLEST, p_of_log, z_of_log

__all__ = [
    "COMBINATIONS",
    "cauchy",
    "combine",
    "combine_log",
    "fisher",
    "harmonic",
    "harmonic_bound",
    "simes",
    "stouffer",
    "tippett",
    "z_value",
]

Floats = npt.NDArray[np.float64]
FAR = -600.0  # ln p from where sums of 1 / p go by logarithms
LANDAU_TAIL = 40.0  # ln of 1 / HMP from where its Landau tail is 1 / (1 / HMP) to all digits


def z_value(p: npt.ArrayLike) -> Floats:
    """Return the one-sided significance of a p-value: 1 - Phi(z) = p; negative for a deficit.

    A p of 1e-300 or less stands for smaller ones too, and its z of 37.05 is a lower bound; what is known by its logarithm
    has `fits.log_p.z_of_log`.
    """
    return np.asarray(-special.ndtri(np.clip(np.asarray(p, dtype=np.float64), SMALLEST, 1.0 - 1e-16)))


def fisher(p: npt.ArrayLike) -> Floats:
    """Fisher's method: -2 sum ln p is chi-squared with 2k degrees of freedom; independent p-values only."""
    return p_of_log(log_fisher(logs(p)))


def log_fisher(log_p: Floats) -> Floats:
    """Return ln p of `fisher`: the tail of chi-squared with 2k degrees of freedom is exp(-s) sum over i < k of s^i / i!."""
    s = np.maximum(-log_p.sum(axis=-1), 1e-300)
    terms, total = np.zeros_like(s), np.zeros_like(s)
    for i in range(1, log_p.shape[-1]):
        terms = terms + np.log(s) - np.log(i)
        total = np.logaddexp(total, terms)
    return np.asarray(np.minimum(total - s, 0.0))


def stouffer(
    p: npt.ArrayLike, *, weights: npt.ArrayLike | None = None, correlation: npt.ArrayLike | None = None
) -> Floats:
    """Stouffer's method: sum of w z over sqrt(w' R w); independent p-values, or normal deviates of known correlation R.

    weights: (k,), 0 or more, by default 1; best is what each z is expected to have under a signal. correlation: (k, k)
    of the z-values under no signal, by default of independent ones; one that is only estimated does not keep the level.
    Raises InputError for weights or a correlation that cannot be.
    """
    return p_of_log(log_stouffer(logs(p), weights=weights, correlation=correlation))


def log_stouffer(
    log_p: Floats, *, weights: npt.ArrayLike | None = None, correlation: npt.ArrayLike | None = None
) -> Floats:
    """Return ln p of `stouffer`."""
    k = log_p.shape[-1]
    w = np.ones(k) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != (k,) or not np.all(np.isfinite(w) & (w >= 0)) or not w.any():
        raise InputError(f"weights of {k} p-values are {w.tolist()}, needed: {k} numbers of 0 or more, not all 0")
    variance = float(w @ w) if correlation is None else float(w @ checked_correlation(correlation, k) @ w)
    if variance <= 1e-12 * float(w @ w):
        raise InputError("the weighted z-values cancel under this correlation: their sum has no spread")
    return np.asarray(special.log_ndtr(-(z_of_log(log_p) @ w) / np.sqrt(variance)))


def tippett(p: npt.ArrayLike) -> Floats:
    """Tippett's method: 1 - (1 - min p)^k; exact for independent, conservative for positively dependent p-values."""
    return p_of_log(log_tippett(logs(p)))


def log_tippett(log_p: Floats) -> Floats:
    """Return ln p of `tippett`."""
    smallest, k = log_p.min(axis=-1), log_p.shape[-1]
    near = np.log(-np.expm1(k * np.log1p(-np.exp(np.maximum(smallest, FAR)))))
    return np.asarray(np.where(smallest > FAR, near, smallest + np.log(k)))


def simes(p: npt.ArrayLike) -> Floats:
    """Simes' method: min over i of k p_(i) / i; independent or positively dependent (PRDS) p-values."""
    return p_of_log(log_simes(logs(p)))


def log_simes(log_p: Floats) -> Floats:
    """Return ln p of `simes`."""
    k = log_p.shape[-1]
    return np.asarray((np.sort(log_p, axis=-1) + np.log(k / np.arange(1, k + 1))).min(axis=-1))


def cauchy(p: npt.ArrayLike) -> Floats:
    """Cauchy combination (ACAT): mean of tan((1/2 - p) pi); accurate in the tail for many kinds of dependence."""
    return p_of_log(log_cauchy(logs(p)))


def log_cauchy(log_p: Floats) -> Floats:
    """Return ln p of `cauchy`; where a p is tiny, tan((1/2 - p) pi) is 1 / (pi p) and the others add nothing to it."""
    near = np.maximum(log_p, FAR)
    values, rest = np.exp(near), -np.expm1(near)
    # cot(pi p) and arctan2 keep p below 1e-16, where tan((1/2 - p) pi) stops at 1.6e16
    terms = np.where(values < 0.5, 1.0 / np.tan(np.pi * np.minimum(values, 0.5)), -1.0 / np.tan(np.pi * rest))
    by_angle = np.log(np.arctan2(1.0, terms.mean(axis=-1)) / np.pi)
    return np.asarray(np.where(log_p.min(axis=-1) > FAR, by_angle, -log_mean_inverse(log_p)))


def harmonic(p: npt.ArrayLike) -> Floats:
    """Harmonic mean of the p-values, calibrated: 1 / HMP of k independent ones follows a Landau distribution for large k.

    Its location is ln k + 1 - gamma + ln(pi / 2), its scale pi / 2 (Wilson 2019, doi:10.1073/pnas.1814092116, as
    in R's harmonicmeanp). Exact for many independent p-values, a little conservative for few
    (4.7 % at 5 % for five), and hardly moved by positive dependence; it is no bound for every dependence. The HMP itself
    is no p-value: it rejects too often at every level.
    """
    return p_of_log(log_harmonic(logs(p)))


def log_harmonic(log_p: Floats) -> Floats:
    """Return ln p of `harmonic`."""
    k = log_p.shape[-1]
    if k == 1:
        return np.asarray(log_p[..., 0])
    location = np.log(k) + 1.0 - np.euler_gamma + np.log(0.5 * np.pi)
    log_h = log_mean_inverse(log_p)
    h = np.exp(np.minimum(log_h, LANDAU_TAIL))
    # scipy's landau is the one of scale 1 in Wilson's notation, f(x | 0, 1): its upper tail is 2 / (pi x)
    near = np.log(stats.landau.sf((h - location) / (0.5 * np.pi)))
    return np.asarray(np.where(log_h < LANDAU_TAIL, near, -log_h))


def harmonic_bound(p: npt.ArrayLike) -> Floats:
    """Harmonic mean of the p-values times e ln k, at most 1: valid under any dependence, and conservative.

    Vovk and Wang, "Combining p-values via averaging", arXiv:1212.4966, for k > 2; twice the mean for two, which is above
    Bonferroni's 2 min p.
    """
    return p_of_log(log_harmonic_bound(logs(p)))


def log_harmonic_bound(log_p: Floats) -> Floats:
    """Return ln p of `harmonic_bound`."""
    k = log_p.shape[-1]
    factor = 1.0 if k == 1 else 2.0 if k == 2 else np.e * np.log(k)
    return np.asarray(np.minimum(0.0, np.log(factor) - log_mean_inverse(log_p)))


def log_mean_inverse(log_p: Floats) -> Floats:
    """Return ln of the mean of 1 / p along the last axis."""
    return np.asarray(special.logsumexp(-log_p, axis=-1) - np.log(log_p.shape[-1]))


COMBINATIONS: dict[str, Callable[[npt.ArrayLike], Floats]] = {
    "fisher": fisher,
    "stouffer": stouffer,
    "simes": simes,
    "cauchy": cauchy,
    "tippett": tippett,
    "harmonic": harmonic,
    "harmonic_bound": harmonic_bound,
}
BY_LOGARITHM: dict[str, Callable[[Floats], Floats]] = {
    "fisher": log_fisher,
    "stouffer": log_stouffer,
    "simes": log_simes,
    "cauchy": log_cauchy,
    "tippett": log_tippett,
    "harmonic": log_harmonic,
    "harmonic_bound": log_harmonic_bound,
}


def combine(p: npt.ArrayLike, method: str = "fisher") -> Floats:
    """Combine signed local p-values over regions, shape (..., k) -> (...), by the named method; 1e-300 where it is smaller."""
    if method not in COMBINATIONS:
        raise InputError(unknown_name("combination", method, COMBINATIONS))
    return COMBINATIONS[method](p)


def combine_log(log_p: npt.ArrayLike, method: str = "fisher") -> Floats:
    """Combine ln p of signed local p-values over regions, shape (..., k) -> (...), however small they are: ln of the combined p."""
    if method not in BY_LOGARITHM:
        raise InputError(unknown_name("combination", method, BY_LOGARITHM))
    return BY_LOGARITHM[method](np.minimum(np.asarray(log_p, dtype=np.float64), NEXT_TO_ONE))


def logs(p: npt.ArrayLike) -> Floats:
    """Return ln p of values that are p-values; InputError else."""
    return np.asarray(np.log(checked(p)))


def checked_correlation(correlation: npt.ArrayLike, k: int) -> Floats:
    """Refuse what is no correlation matrix (k, k)."""
    matrix = np.asarray(correlation, dtype=np.float64)
    if matrix.shape != (k, k):
        raise InputError(f"correlation has the shape {matrix.shape}, needed: ({k}, {k})")
    good = np.all(np.isfinite(matrix)) and np.allclose(matrix, matrix.T) and np.allclose(np.diag(matrix), 1.0)
    if not good or np.linalg.eigvalsh(matrix)[0] < -1e-9:
        raise InputError("correlation is no correlation matrix: symmetric, 1 on the diagonal, no negative eigenvalue")
    return matrix


def checked(p: npt.ArrayLike) -> Floats:
    """Refuse what is no p-value, and p-values capped at 1/2 as q0 gives them.

    Several values that are exactly 0.5 come from a statistic that calls every deficit 0.5 (q0); combining those
    rejects 7 % at a nominal 5 % (Fisher, five of them), so two or more in one combination are refused.
    """
    values = np.atleast_1d(np.asarray(p, dtype=np.float64))
    if values.shape[-1] == 0:
        raise InputError("no p-values to combine")
    if not np.all((values >= 0) & (values <= 1)):
        raise InputError(f"p-values lie in [0, 1], found {values[~((values >= 0) & (values <= 1))][0]}")
    if np.any((values == 0.5).sum(axis=-1) > 1):
        raise InputError("several p-values are exactly 0.5: q0 caps deficits there; combine signed local p-values")
    return np.clip(values, SMALLEST, 1.0 - 1e-16)
