"""Jets made wider or narrower until they have a mass: exposed jets of one mass with the masses of the background (arXiv:2007.01850).

The rapidity and the azimuth of each constituent from the jet's axis are multiplied by one factor, and all transverse momenta and masses by
another one, so that the jet keeps its pT; then the jet is boosted and turned back onto its axis. The mass over the pT of such a jet rises
with the first factor, which is found by bisection. The number of prongs and how they share the momentum stay; the radius does not: a jet that is
made heavier has constituents beyond the radius that it was clustered with.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..distance.clouds import as_jets
from ..inputs import ScorerError, ShapeError
from .set_scaling import RELATIVE, filled_slots

__all__ = ["rescaled_to_masses", "rescaled_to_spectrum"]

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
FACTORS = 100.0  # no jet is made wider than this
FARTHEST = np.pi  # from the axis in rapidity and azimuth that a constituent is moved
STEPS = 40  # of the bisection
BATCH = 2000  # jets at a time: arrays of 20 constituents stay in the processor's cache
LEAST_PT = 1e-3  # of the sum of the constituents' pT: a jet of less has no axis
ROUNDING = 1e-9


def rescaled_to_spectrum(sets: npt.ArrayLike, spectrum: npt.ArrayLike, *, seed: int = 0) -> tuple[Array, Bools]:
    """Return jets with masses that are drawn from a spectrum (k,), and which of them (n,) have theirs; see `rescaled_to_masses`."""
    masses = np.asarray(spectrum, dtype=np.float64)
    if masses.ndim != 1 or not len(masses):
        raise ScorerError(f"masses to draw from: shape {masses.shape}, at least one, (k,), is needed")
    jets = as_jets(sets, name="jets")
    return rescaled_to_masses(jets, np.random.default_rng([seed, 0x5CA]).choice(masses, size=len(jets)))


def rescaled_to_masses(sets: npt.ArrayLike, masses: npt.ArrayLike) -> tuple[Array, Bools]:
    """Return jets (n, slots, numbers) rescaled to masses (n,) in GeV at the same pT, and which of them (n,) have reached theirs.

    sets: E, px, py, pz of constituents, or pT, eta, phi of massless ones; empty slots stay empty. A jet that no widening brings to its mass
    (one constituent, constituents in one direction, a jet at rest) comes back as it was. Raises ShapeError, NonFiniteError, DtypeError, and
    ScorerError for masses below 0 and not finite.
    """
    jets, wanted = as_jets(sets, name="jets"), np.asarray(masses, dtype=np.float64)
    if jets.shape[2] not in {RELATIVE, RELATIVE + 1}:
        raise ShapeError(
            f"jets: have shape {jets.shape}; a constituent is pT, eta, phi or E, px, py, pz: (jets, slots, 3 or 4)"
        )
    if wanted.shape != (len(jets),):
        raise ShapeError(f"masses: have shape {wanted.shape}, one for each of {len(jets)} jets is needed")
    if not (np.isfinite(wanted) & (wanted >= 0)).all():
        first = int(np.argmin(np.isfinite(wanted) & (wanted >= 0)))
        raise ScorerError(f"masses: {wanted[first]} in row {first}; finite ones of 0 or more are needed")
    found, reached = jets.copy(), np.zeros(len(jets), dtype=bool)
    for first in range(0, len(jets), BATCH):
        part = slice(first, first + BATCH)
        made, there = rescaled(jets[part], wanted[part])
        found[part][there], reached[part] = made[there], there
    return found, reached


def rescaled(sets: Array, masses: Array) -> tuple[Array, Bools]:
    """Return some jets rescaled to masses, and which of them are; the others hold nothing that means anything."""
    filled = filled_slots(sets)
    if sets.shape[2] == RELATIVE:
        pt, rapidity, phi = (np.where(filled, sets[..., i], 0.0) for i in range(3))
        mt = pt
    else:
        energy, px, py, pz = (np.where(filled, sets[..., i], 0.0) for i in range(4))
        pt, phi = np.hypot(px, py), np.arctan2(py, px)
        mt = np.sqrt(np.maximum(energy**2 - pz**2, pt**2))
        rapidity = np.arcsinh(np.divide(pz, mt, out=np.zeros_like(mt), where=mt > 0))
    whole = np.asarray((~filled | (mt > 0)).all(axis=1))  # a constituent along the beam has no rapidity
    x, y = (pt * np.cos(phi)).sum(axis=1), (pt * np.sin(phi)).sum(axis=1)
    jet_pt, jet_phi = np.hypot(x, y), np.arctan2(y, x)
    plus, minus = ((mt * np.exp(sign * rapidity)).sum(axis=1) for sign in (1, -1))
    jet_rapidity = 0.5 * np.log(np.divide(plus, minus, out=np.ones_like(plus), where=(plus > 0) & (minus > 0)))
    along = np.where(filled, rapidity - jet_rapidity[:, None], 0.0)
    around = phi - jet_phi[:, None]
    around = np.where(filled, around - 2 * np.pi * np.rint(around / (2 * np.pi)), 0.0)
    whole &= jet_pt > LEAST_PT * np.maximum(pt.sum(axis=1), 1e-300)

    def sums(factor: Array) -> tuple[Array, Array, Array, Array]:
        """Return E + pz, E - pz, px and py of the widened jets relative to their axis, before the pT is put right."""
        forward = np.exp(factor[:, None] * along)
        angle = factor[:, None] * around
        return (
            (mt * forward).sum(axis=1),
            (mt / forward).sum(axis=1),
            (pt * np.cos(angle)).sum(axis=1),
            (pt * np.sin(angle)).sum(axis=1),
        )

    def ratio(factor: Array) -> Array:
        """Return the square of the transverse mass over the pT."""
        plus, minus, x, y = sums(factor)
        return plus * minus / np.maximum(x**2 + y**2, 1e-300)

    target = 1 + np.divide(masses, jet_pt, out=np.zeros_like(masses), where=whole) ** 2
    widest = np.maximum(np.abs(along), np.abs(around)).max(axis=1)
    low = np.zeros(len(sets))
    high = np.minimum(FACTORS, np.divide(FARTHEST, widest, out=np.full_like(widest, FACTORS), where=widest > 0))
    reached = whole & (ratio(low) <= target * (1 + ROUNDING)) & (ratio(high) >= target)
    for _ in range(STEPS):
        middle = 0.5 * (low + high)
        above = ratio(middle) > target
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    factor = 0.5 * (low + high)
    plus, minus, x, y = sums(factor)
    gain = np.divide(jet_pt, np.hypot(x, y), out=np.ones_like(jet_pt), where=reached)[:, None]
    back_along = jet_rapidity - 0.5 * np.log(np.divide(plus, minus, out=np.ones_like(plus), where=reached))
    back_around = jet_phi - np.arctan2(y, x)
    rapidity = back_along[:, None] + factor[:, None] * along
    phi = back_around[:, None] + factor[:, None] * around
    pt, mt = gain * pt, gain * mt
    if sets.shape[2] == RELATIVE:
        made = [pt, rapidity, phi - 2 * np.pi * np.rint(phi / (2 * np.pi))]
    else:
        made = [mt * np.cosh(rapidity), pt * np.cos(phi), pt * np.sin(phi), mt * np.sinh(rapidity)]
    return np.where(filled[..., None], np.stack(made, axis=-1), sets), reached
