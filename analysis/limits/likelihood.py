"""The likelihood of one signal strength over all bins of all regions: what it is, and the arrays that its compiled parts take.

In bin i of region r

    nu = exp(basis_r theta_r + offset_r) + mu F_r(alpha) s_ri(alpha)

with each region's background parameters theta_r under N(centre, 1 / precision), of a free one next to no constraint
(`width_of`), and nuisances alpha of the signal under N(auxiliary, 1). Templates are interpolated as pyhf's `histosys` with code4p, factors as its `normsys` with
code4, so that an exported workspace is the same likelihood. pyhf's templates turn negative some two sigma out, and it has no
likelihood there where no background stands below: here a bin that comes down to a fiftieth falls exponentially from there. -ln L is half the Poisson deviance plus the constraints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .backgrounds import RegionBackground, width_of

__all__ = ["Arrays", "Observed", "arrays_of"]

Floats = npt.NDArray[np.float64]


class Arrays(NamedTuple):
    """What does not change while a likelihood is fitted. R regions, B bins, K parameters at most, J = shapes + factors nuisances.

    basis (R, B, K), offset (R, B), sizes (R,) parameters of each region, precision (R, K); signal (R, B) events at mu = 1;
    slope, curve (shapes, R, B), half the difference of a template at +1 and -1 sigma and a 16th of its second difference;
    powers (factors, R, 6) and log_high, log_low (factors, R), a factor's polynomial within one sigma, and its ends.
    """

    basis: Floats
    offset: Floats
    sizes: npt.NDArray[np.int64]
    precision: Floats
    signal: Floats
    slope: Floats
    curve: Floats
    powers: Floats
    log_high: Floats
    log_low: Floats


class Observed(NamedTuple):
    """What a likelihood is fitted to: counts (R, B); auxiliary (J,), what was measured of each nuisance of the signal; centre
    (R, K) of the constraints of the backgrounds.

    A background's constraint is no measurement: its centre is 0 in data and in experiments. In Asimov data it stands at the
    fitted values, as auxiliary data do in pyhf's, so that their best fit is the point which they were made of.
    """

    counts: Floats
    auxiliary: Floats
    centre: Floats

    def __repr__(self) -> str:
        """Return the sizes in a line."""
        return f"Observed({len(self.counts)} regions, {self.counts.sum():g} events, nuisances: {len(self.auxiliary)})"


def arrays_of(
    backgrounds: Sequence[RegionBackground],
    signal: Floats,
    shapes: Mapping[str, tuple[Floats, Floats]],
    factors: Mapping[str, tuple[Floats, Floats]],
) -> Arrays:
    """Lay out a likelihood for the compiled parts: backgrounds in standard form; signal (R, B) events at mu = 1; shapes: name -> (R, B) at +1 and at -1
    sigma; factors: name -> (R,) at +1 and at -1 sigma."""
    regions, bins = signal.shape
    largest = max(b.basis.shape[1] for b in backgrounds)
    basis, precision = np.zeros((regions, bins, largest)), np.zeros((regions, largest))
    for r, background in enumerate(backgrounds):
        k = background.basis.shape[1]
        basis[r, :, :k], precision[r, :k] = background.basis, width_of(background) ** -2
    high = np.array([h for h, _ in shapes.values()]).reshape(-1, regions, bins)
    low = np.array([w for _, w in shapes.values()]).reshape(-1, regions, bins)
    log_high = np.log(np.array([h for h, _ in factors.values()]).reshape(-1, regions))
    log_low = np.log(np.array([w for _, w in factors.values()]).reshape(-1, regions))
    return Arrays(
        basis,
        np.stack([b.offset for b in backgrounds]),
        np.array([b.basis.shape[1] for b in backgrounds], dtype=np.int64),
        precision,
        np.ascontiguousarray(signal, dtype=np.float64),
        0.5 * (high - low),
        (high + low - 2 * signal) / 16,
        powers_of(log_high, log_low),
        log_high,
        log_low,
    )


def powers_of(log_high: Floats, log_low: Floats) -> Floats:
    """Return the coefficients (..., 6) of alpha to alpha^6 of pyhf's code4, 1 at alpha = 0, which meets high^alpha at 1 and
    low^-alpha at -1 with its first and second derivatives."""
    n = np.arange(1, 7)
    at = [[s**n, n * s ** (n - 1), n * (n - 1) * s ** np.maximum(n - 2, 0)] for s in (1.0, -1.0)]
    high, low = np.exp(log_high), np.exp(log_low)
    wanted = [high - 1, high * log_high, high * log_high**2, low - 1, -low * log_low, low * log_low**2]
    return np.ascontiguousarray(np.linalg.solve(np.concatenate(at), np.stack(wanted, axis=-1)[..., None])[..., 0])
