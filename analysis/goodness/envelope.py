"""What the choice of the background function does to a fitted yield: the same fit in every family that describes the data.

Two answers stand side by side. The envelope: the smallest and the largest yield, half their spread a systematic error.
And discrete profiling (Dauncey, Kenzie, Wardle and Davies, arXiv:1408.6865, section 5): the family is one more nuisance
parameter, a discrete one, and a parameter more costs 1 in -2 ln L,

    z_profiled = sign(mu) sqrt( min_f [2 nll_f(mu = 0) + k_f] - min_f [2 nll_f(mu free) + k_f] ).

The family that is best at mu = 0 has to pay for being worse with mu free, or the other way round, so that |z_profiled| lies
between the |z| of these two families: it is never larger than the largest single one. Both answers are statements about
these data beside the hunt's p-values, which keep the family that was fixed before the scan. What experiments drawn from
the other families say of those p-values is in `checks/bias.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from ..fits.alternatives import ALTERNATIVES, DESCRIBES, Alternative, fit_alternatives
from ..fits.bernstein import half_deviance
from ..fits.log_p import stated_p
from ..significance.bumphunt import BumpHunt

__all__ = ["Envelope", "background_envelope", "none_left", "other_families", "own_family"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Envelope:
    """Yields at the hunt's best mass (GeV) in several families, (regions,) tuples of them, the hunt's own first.

    lowest, highest: (regions,) smallest and largest fitted yield, events; z_profiled: (regions,), by discrete profiling; all
    NaN where no family describes the region.
    """

    mass: float
    families: tuple[tuple[Alternative, ...], ...]
    lowest: Floats
    highest: Floats
    z_profiled: Floats

    def __repr__(self) -> str:
        """Return the value in a line."""
        left = sum(f.described for own in self.families for f in own)
        return f"Envelope(at {self.mass:g} GeV, regions: {len(self.families)}, families that describe one: {left})"

    @property
    def uncertainty(self) -> Floats:
        """Return half the spread of the yields, (regions,) events; 0 where one family alone is left."""
        return np.asarray(0.5 * (self.highest - self.lowest))

    def as_dict(self) -> dict[str, Any]:
        """Return the envelope as a JSON-like mapping; null where there is no number."""
        return {
            "mass": self.mass,
            "regions": [
                {
                    "lowest_yield": number(self.lowest[r]),
                    "highest_yield": number(self.highest[r]),
                    "uncertainty": number(self.uncertainty[r]),
                    "z_profiled": number(self.z_profiled[r]),
                    "no_other_family": none_left(families[1:]),
                    "families": [
                        {
                            "family": f.family,
                            "order": f.order,
                            "name": f.name,
                            "p_value": number(f.p),
                            "left_out": f.left_out or None,
                            "signal_yield": number(f.signal) if f.described else None,
                            "signal_yield_error": number(f.error) if f.described else None,
                            "z_local": number(f.z) if f.described else None,
                        }
                        for f in families
                    ],
                }
                for r, families in enumerate(self.families)
            ],
        }


def number(value: float) -> float | None:
    """Return a value for strict JSON, which has no NaN and no infinity."""
    return float(value) if math.isfinite(value) else None


def none_left(families: Sequence[Alternative]) -> bool:
    """Tell whether no family describes a region."""
    return not any(f.described for f in families)


def other_families(found: BumpHunt) -> tuple[tuple[Alternative, ...], ...]:
    """Fit every family but the hunt's own to every region, with a signal at the hunt's best mass: (regions, families)."""
    others = [family for family in ALTERNATIVES if family != found.settings.family]
    return tuple(
        fit_alternatives(
            counts,
            found.edges,
            sqrt_s=found.settings.sqrt_s,
            template=found.templates[found.best],
            families=others,
        )
        for counts in found.counts
    )


def own_family(found: BumpHunt, region: int) -> Alternative:
    """Return the hunt's own fits of a region as those of a family: with the signal's deviance where a bump spoils the background's."""
    background, at = found.background, found.best
    counts, expected = found.counts[region], background.expected[region]
    k, z = int(background.n_parameters[region]), float(found.scan.z[region, at])
    deviance = 2 * float(half_deviance(counts[None], expected[None])[0]) - z**2
    with_signal = float(special.chdtrc(max(len(counts) - k - 1, 1), max(deviance, 0.0)))
    p = max(float(found.fit_p[region]), with_signal)
    left_out = "" if p > DESCRIBES else f"p {stated_p(p)}"
    if not (background.converged[region] and found.scan.converged[region, at]):
        left_out = "no fit reached a minimum"
    nll = float(background.nll[region])
    return Alternative(
        family=found.settings.family,
        order=int(background.order[region]),
        expected=expected,
        signal=float(found.scan.signal[region, at]),
        error=float(found.scan.error[region, at]),
        z=z,
        nll=nll - 0.5 * z**2,
        nll_alone=nll,
        n_parameters=k,
        p=p,
        left_out=left_out,
    )


def background_envelope(found: BumpHunt, others: Sequence[Sequence[Alternative]] | None = None) -> Envelope:
    """Compare a hunt's yields at its best mass with those of other families, (regions, families) as `other_families` has them."""
    others = other_families(found) if others is None else others
    families = tuple((own_family(found, r), *other) for r, other in enumerate(others))
    described = [[f for f in own if f.described] for own in families]
    nan = math.nan
    return Envelope(
        mass=float(found.masses[found.best]),
        families=families,
        lowest=np.array([min((f.signal for f in own), default=nan) for own in described]),
        highest=np.array([max((f.signal for f in own), default=nan) for own in described]),
        z_profiled=np.array([profiled(own) for own in described]),
    )


def profiled(families: Sequence[Alternative]) -> float:
    """Return z of discrete profiling over families that describe a region; NaN where there is none."""
    if not families:
        return math.nan
    best = min(families, key=lambda f: 2 * f.nll + f.n_parameters)
    gain = min(2 * f.nll_alone + f.n_parameters for f in families) - (2 * best.nll + best.n_parameters)
    return math.copysign(math.sqrt(max(gain, 0.0)), best.signal)
