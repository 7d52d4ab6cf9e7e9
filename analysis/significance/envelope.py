"""What the choice of the background function does to a fitted yield: the same fits in every family that describes the data.

Two answers stand side by side. The envelope: the smallest and the largest yield, half their spread a systematic error.
And discrete profiling (Dauncey, Kenzie, Wardle and Davies, arXiv:1408.6865, section 5): the family is one more nuisance
parameter, a discrete one, and a parameter more costs 1 in -2 ln L,

    z_profiled = sign(mu) sqrt( min_f [2 nll_f(mu = 0) + k_f] - min_f [2 nll_f(mu free) + k_f] ).

The family that is best at mu = 0 has to pay for being worse with mu free, or the other way round, so that |z_profiled| lies
between the |z| of these two families: it is never larger than the largest single one. Both answers are systematic
statements beside the hunt's p-values, which keep the family that was fixed before the scan; neither enters them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ..fits.background import FAMILIES, BackgroundFit, choose_background, family_orders, fit_background, goodness_of_fit
from ..fits.log_p import shown_p, stated_p
from ..fits.scan import LocalScan, scan_spectra
from .bumphunt import BumpHunt
from .fit_quality import away_from

__all__ = ["Envelope", "FamilyFits", "background_envelope"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
DESCRIBES = 0.01  # goodness of fit above which a family describes a spectrum


@dataclass(frozen=True, repr=False)
class FamilyFits:
    """One family's fits of every region: its order, goodness of fit and 2 nll + k at mu = 0, (regions,); nll as `poisson_nll`.

    left_out: why it does not stand for a region, empty where it does; signal, error (events), z: (regions, masses), NaN
    where it is left out or the signal fit failed.
    """

    family: str
    order: npt.NDArray[np.int64]
    fit_p: Floats
    penalised: Floats
    left_out: tuple[str, ...]
    signal: Floats
    error: Floats
    z: Floats

    def __repr__(self) -> str:
        """Return the value in a line."""
        orders = ", ".join(map(str, self.order.tolist()))
        return f"FamilyFits({self.family}, orders {orders}, left out: {sum(map(bool, self.left_out))})"


@dataclass(frozen=True, repr=False)
class Envelope:
    """Fits at a few masses (GeV) in several families, the hunt's own first.

    lowest, highest: (regions, masses) smallest and largest fitted yield, events; z_profiled: (regions, masses), by discrete
    profiling; all NaN where no family describes the region.
    """

    masses: Floats
    families: tuple[FamilyFits, ...]
    lowest: Floats
    highest: Floats
    z_profiled: Floats

    def __repr__(self) -> str:
        """Return the value in a line."""
        families = ", ".join(f.family for f in self.families)
        return f"Envelope({families}; regions: {len(self.lowest)}, masses: {len(self.masses)})"

    @property
    def uncertainty(self) -> Floats:
        """Return half the spread of the yields, (regions, masses) events; 0 where one family alone is left."""
        return np.asarray(0.5 * (self.highest - self.lowest))

    @property
    def left_out(self) -> tuple[tuple[int, str, str], ...]:
        """Return (region, family, reason) of every family that does not stand for a region."""
        return tuple((r, f.family, why) for f in self.families for r, why in enumerate(f.left_out) if why)

    def as_dict(self) -> dict[str, Any]:
        """Return the envelope as a JSON-like mapping; null where there is no number."""
        regions = range(len(self.lowest))
        return {
            "masses": self.masses.tolist(),
            "regions": [
                {
                    "lowest_yield": numbers(self.lowest[r]),
                    "highest_yield": numbers(self.highest[r]),
                    "uncertainty": numbers(self.uncertainty[r]),
                    "z_profiled": numbers(self.z_profiled[r]),
                    "families": [
                        {
                            "family": f.family,
                            "order": int(f.order[r]),
                            "p_value": numbers(f.fit_p[r : r + 1])[0],
                            "left_out": f.left_out[r] or None,
                            "signal_yield": numbers(f.signal[r]),
                            "signal_yield_error": numbers(f.error[r]),
                            "z_local": numbers(f.z[r]),
                        }
                        for f in self.families
                    ],
                }
                for r in regions
            ],
        }


def numbers(values: Floats) -> list[float | None]:
    """Return values (n,) for strict JSON, which has no NaN and no infinity."""
    return [v if math.isfinite(v) else None for v in values.tolist()]


def background_envelope(
    found: BumpHunt,
    *,
    families: Sequence[str] = tuple(FAMILIES),
    masses: npt.ArrayLike | None = None,
) -> Envelope:
    """Fit every region of a hunt at a few masses in its own and in other families, formulas among them.

    masses: (n,) GeV of the hunt's, by default the best one and its two neighbours. A family stands for a region where its
    background fit converged and has p above 0.01, or has that without the bins of the bump at the hunt's best mass: a bump
    spoils every family's fit, and says nothing against it. Raises InputError for unknown families, for masses that were not
    hunted at, and what a formula itself raises.
    """
    at = chosen_masses(found, masses)
    own = found.settings.family
    for family in families:
        family_orders(family)
    fits = tuple(family_fits(found, f, at) for f in (own, *(f for f in dict.fromkeys(families) if f != own)))
    signal = np.stack([f.signal for f in fits])
    usable = np.isfinite(signal).any(axis=0)
    lowest = np.where(usable, np.where(np.isfinite(signal), signal, np.inf).min(axis=0), np.nan)
    highest = np.where(usable, np.where(np.isfinite(signal), signal, -np.inf).max(axis=0), np.nan)
    return Envelope(found.masses[at], fits, lowest, highest, profiled(fits))


def profiled(fits: Sequence[FamilyFits]) -> Floats:
    """Return z of discrete profiling (regions, masses), the sign that of the yield in the family best with mu free."""
    z, signal = np.stack([f.z for f in fits]), np.stack([f.signal for f in fits])
    there = np.isfinite(z)
    fixed = np.where(there, np.stack([f.penalised for f in fits])[:, :, None], np.inf)
    free = np.where(there, fixed - np.nan_to_num(z) ** 2, np.inf)
    best = free.argmin(axis=0)[None]
    with np.errstate(invalid="ignore"):  # inf - inf where no family is left
        gain = fixed.min(axis=0) - free.min(axis=0)
    sign = np.sign(np.take_along_axis(signal, best, axis=0)[0])
    return np.asarray(np.where(there.any(axis=0), sign * np.sqrt(np.maximum(gain, 0.0)), np.nan))


def chosen_masses(found: BumpHunt, masses: npt.ArrayLike | None) -> npt.NDArray[np.int64]:
    """Return where the masses stand in the hunt's."""
    if masses is None:
        near = np.arange(found.best - 1, found.best + 2)
        return near[(near >= 0) & (near < len(found.masses))]
    wanted = np.atleast_1d(np.asarray(masses, dtype=np.float64))
    at = np.abs(found.masses[None, :] - wanted[:, None]).argmin(axis=1)
    missed = wanted[~np.isclose(found.masses[at], wanted)]
    if len(wanted) == 0 or len(missed):
        what = f"{missed[0]:g} GeV is none of them" if len(missed) else "none is given"
        low, high = found.masses.min(), found.masses.max()
        raise InputError(f"an envelope is drawn at masses that were hunted at, {low:g} to {high:g} GeV; {what}")
    return np.asarray(at, dtype=np.int64)


def family_fits(found: BumpHunt, family: str, at: npt.NDArray[np.int64]) -> FamilyFits:
    """Fit one family to every region, alone and with a signal at masses number `at` (masses,); the hunt's own is taken as it is."""
    settings, fit, scan = found.settings, found.background, found.scan
    if family == settings.family:
        scan = LocalScan(*(getattr(scan, f.name)[:, at] for f in dataclasses.fields(scan)))
    else:
        try:
            fit = choose_background(found.counts, found.edges, sqrt_s=settings.sqrt_s, family=family)
        except InputError as refused:
            return without_fits(found, family, at, str(refused))
        scan = scan_spectra(found.counts, fit, found.templates[at], found.edges, sqrt_s=settings.sqrt_s, family=family)
    p = goodness_of_fit(found.counts, fit.expected, fit.n_parameters)
    reasons = tuple(why_left_out(found, family, fit, p, r) for r in range(len(found.counts)))
    usable = scan.converged & np.array([not why for why in reasons])[:, None]
    signal, error, z = (np.where(usable, a, np.nan) for a in (scan.signal, scan.error, scan.z))
    return FamilyFits(family, fit.order, p, 2 * fit.nll + fit.n_parameters, reasons, signal, error, z)


def without_fits(found: BumpHunt, family: str, at: npt.NDArray[np.int64], why: str) -> FamilyFits:
    """Return a family that cannot be fitted in these bins at all: too few for it, or outside where it is defined."""
    regions = len(found.counts)
    none = np.full((regions, len(at)), np.nan)
    return FamilyFits(
        family,
        np.zeros(regions, dtype=np.int64),
        np.full(regions, np.nan),
        np.full(regions, np.inf),
        (why,) * regions,
        none,
        none,
        none,
    )


def why_left_out(found: BumpHunt, family: str, fit: BackgroundFit, p: Floats, region: int) -> str:
    """Return why a family does not describe a region, empty where it does."""
    if not fit.converged[region]:
        return "the background fit did not converge"
    if p[region] > DESCRIBES:
        return ""
    mass, order = float(found.masses[found.best]), int(fit.order[region])
    away = away_from(found.edges, mass, found.shape.width)
    outside = 0.0
    if away.sum() > order + 2:
        again = fit_background(
            found.counts[region][None],
            found.edges,
            order,
            sqrt_s=found.settings.sqrt_s,
            family=family,
            mask=away.astype(np.float64),
        )
        if again.converged[0]:
            outside = float(
                goodness_of_fit(found.counts[region][None, away], again.expected[:, away], again.n_parameters)[0]
            )
    if outside > DESCRIBES:
        return ""
    return f"p {stated_p(p[region])}, and {shown_p(outside)} without the bins around {mass:.0f} GeV"
