"""The look-elsewhere effect of one scan from its up-crossings (Gross and Vitells, arXiv:1005.1891).

For a scan whose q(m) = z(m)^2 is a chi-squared field of one degree of freedom, the chance of a maximum above q is at
most P(q) + <N(q0)> exp(-(q - q0) / 2), with <N(q0)> the mean number of up-crossings of a low level q0, which a hundred
pseudo-experiments measure. With signed z, of which only excesses count, the local term is one-sided and so are the
crossings.

A scan that begins at a finite mass m_0 lies above q somewhere if it starts above q or rises through q later: the two
terms. A start above the level belongs to the first and is no up-crossing; counted as one too, it would enter twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ..fits.log_p import log_p_of_z, p_of_log, z_of_log

__all__ = ["GrossVitells", "from_crossings", "global_p_gross_vitells", "up_crossings"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GrossVitells:
    """A global p-value from up-crossings, close to an upper bound where it is small.

    p: global p of the largest z, z: its significance; p_local, z_local: of that z itself; crossings, crossings_error: mean number of up-crossings of
    z = level and its error from n experiments; p_error: what that does to p.
    """

    p: float
    p_error: float
    z: float
    p_local: float
    z_local: float
    level: float
    crossings: float
    crossings_error: float
    n: int


def up_crossings(z: npt.ArrayLike, *, level: float = 0.5) -> npt.NDArray[np.int64]:
    """Count how often each curve (n, masses) of signed z rises through the level, a start above it not among them: (n,)."""
    above = np.atleast_2d(np.asarray(z, dtype=np.float64)) >= level
    return np.asarray((above[:, 1:] & ~above[:, :-1]).sum(axis=1), dtype=np.int64)


def global_p_gross_vitells(z_max: float, z: npt.ArrayLike, *, level: float = 0.5) -> GrossVitells:
    """Return the global p of the largest signed z of a scan: z (n, masses) of background-only experiments.

    For one scan whose z(m) is standard normal at each mass and smooth on the grid: of one region, or of a joint fit; for
    a combination of regions it is an approximation. Where z_max is below the level the bound says nothing and p is 1.
    Raises InputError for fewer than two experiments or masses, or values that are not finite.
    """
    curves = np.atleast_2d(np.asarray(z, dtype=np.float64))
    if curves.ndim != 2 or min(curves.shape) < 2:
        raise InputError(f"z of shape {curves.shape}, needed: (experiments, masses), two or more of each")
    if not np.all(np.isfinite(curves)):
        raise InputError("z is not finite; leave out experiments whose fit failed")
    return from_crossings(z_max, up_crossings(curves, level=level), level=level)


def from_crossings(z_max: float, crossings: npt.ArrayLike, *, level: float = 0.5) -> GrossVitells:
    """Return the global p of the largest signed z from the up-crossings (n,) of z = level in background-only scans.

    One scan alone gives no error: crossings_error is infinite. Raises InputError for none, or a z_max that is not finite.
    """
    counts = np.asarray(crossings, dtype=np.float64)
    if counts.ndim != 1 or len(counts) == 0:
        raise InputError(f"up-crossings of shape {counts.shape}, needed: (experiments,), one or more")
    if not np.isfinite(z_max):
        raise InputError("z is not finite; leave out experiments whose fit failed")
    n, mean = len(counts), float(counts.mean())
    error = float(counts.std(ddof=1) / np.sqrt(n)) if n > 1 else np.inf
    log_local = float(log_p_of_z(z_max))
    log_factor = -0.5 * (z_max**2 - level**2)
    with np.errstate(divide="ignore"):  # no crossing at all adds nothing
        log_p = float(np.logaddexp(log_local, np.log(mean) + log_factor)) if z_max > level else 0.0
    log_p = min(log_p, 0.0)
    p_error = error * float(np.exp(log_factor)) if log_p < 0 else 0.0
    return GrossVitells(
        float(p_of_log(log_p)),
        p_error,
        float(z_of_log(log_p)),
        float(p_of_log(log_local)),
        float(z_max),
        level,
        mean,
        error,
        n,
    )
