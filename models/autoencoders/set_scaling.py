"""Robust scaling of jets as fixed lists of constituents: a median and a spread for each number of each slot.

Late slots are empty in most jets, and the quartiles of a column of zeros are zero: medians and spreads are of the constituents that
are there, and a slot that few jets fill has those of all slots together. Empty slots stay zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..distance.clouds import EmptyImageError, NegativePixelError, as_jets
from ..inputs import ScorerError, ShapeError

__all__ = ["SetScaling", "as_sets", "filled_slots", "jet_masses", "polar", "robust_scaling"]

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
FEWEST = 50  # constituents whose quartiles are taken
SMALLEST = 1e-3  # of the spread of all slots together, that a slot's is at least: nothing is divided by next to nothing
FOUR_VECTOR, RELATIVE = 4, 3
NUMBERS = (RELATIVE, FOUR_VECTOR)  # of a constituent: pT, eta, phi, or E, px, py, pz


@dataclass(frozen=True)
class SetScaling:
    """centre, spread: (slots, numbers) each, spread above 0."""

    centre: Array
    spread: Array

    def __post_init__(self) -> None:
        if self.centre.shape != self.spread.shape or self.centre.ndim != 2:
            raise ScorerError(
                f"scaling of shapes {self.centre.shape} and {self.spread.shape}, one (slots, numbers) is needed"
            )
        if not (np.isfinite(self.centre).all() and np.isfinite(self.spread).all() and (self.spread > 0).all()):
            raise ScorerError("scaling: centre and spread are finite numbers, and the spread is above 0")

    def scaled(self, sets: Array) -> Array:
        """Return scaled jets (n, slots, numbers)."""
        return np.asarray(np.where(filled_slots(sets)[..., None], (sets - self.centre) / self.spread, 0.0))

    def restored(self, scaled: Array) -> Array:
        """Return jets (n, slots, numbers) of scaled ones, all slots as if they were filled."""
        return np.asarray(scaled * self.spread + self.centre)


def as_sets(x: npt.ArrayLike, name: str, *, shape: tuple[int, ...] | None = None) -> Array:
    """Return jets (n, slots, numbers) in float64, of the shape (slots, numbers) where one is expected, or say what is wrong with them.

    name: what they are called in errors. Raises ShapeError, NegativePixelError for an E or pT below 0, EmptyImageError for jets without
    constituents, and what `as_jets` raises.
    """
    jets = as_jets(x, name=name)
    if jets.shape[2] not in NUMBERS:
        raise ShapeError(
            f"{name}: has shape {jets.shape}; a constituent is pT, eta, phi or E, px, py, pz: (jets, slots, 3 or 4)"
        )
    if shape is not None and jets.shape[1:] != shape:
        raise ShapeError(f"{name}: jets of {jets.shape[1:]} numbers, {shape} are expected")
    negative = (jets[..., 0] < 0).any(axis=1)
    if negative.any():
        first = int(np.flatnonzero(negative)[0])
        raise NegativePixelError(
            f"{name}: {negative.sum()} of {len(jets)} jets have a constituent of E or pT below 0, first {first}: {jets[first, :, 0].min():g}; "
            "allowed: 0 or more"
        )
    there = filled_slots(jets).any(axis=1)
    if not there.all():
        first = int(np.flatnonzero(~there)[0])
        raise EmptyImageError(f"{name}: {(~there).sum()} of {len(jets)} jets have no constituents, first {first}")
    return jets


def filled_slots(sets: Array) -> Bools:
    """Tell which slots (n, slots) hold a constituent: those whose first number, E or pT, is above 0."""
    return np.asarray(sets[..., 0] > 0)


def robust_scaling(sets: Array) -> SetScaling:
    """Return medians and quartile distances of jets (n, slots, numbers)."""
    there = filled_slots(sets)
    slots, numbers = sets.shape[1:]
    everything = sets[there]
    low, middle, high = np.quantile(everything, [0.25, 0.5, 0.75], axis=0)
    pooled = np.where(high > low, high - low, np.maximum(everything.std(axis=0), 1e-12))
    centre, spread = np.tile(middle, (slots, 1)), np.tile(pooled, (slots, 1))
    for slot in range(slots):
        own = sets[there[:, slot], slot]
        if len(own) < FEWEST:
            continue
        low, centre[slot], high = np.quantile(own, [0.25, 0.5, 0.75], axis=0)
        spread[slot] = np.maximum(high - low, SMALLEST * pooled)
    return SetScaling(centre, spread.reshape(slots, numbers))


def polar(sets: Array) -> Array:
    """Return pT, eta and phi (n, slots, 3) of four-vectors E, px, py, pz; those that are polar stay as they are.

    A vector without pT has eta 0: it has no weight either.
    """
    if sets.shape[2] == RELATIVE:
        return sets.copy()
    px, py, pz = sets[..., 1], sets[..., 2], sets[..., 3]
    pt = np.hypot(px, py)
    eta = np.arcsinh(np.divide(pz, pt, out=np.zeros_like(pt), where=pt > 0))
    return np.stack([pt, eta, np.arctan2(py, px)], axis=-1)


def jet_masses(sets: Array) -> Array:
    """Return the masses (n,) of jets (n, slots, numbers): of four-vectors, or of massless constituents pT, eta, phi."""
    if sets.shape[2] == RELATIVE:
        pt, eta, phi = (sets[..., i] for i in range(3))
        vectors = [pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)]
    else:
        vectors = [sets[..., i] for i in range(FOUR_VECTOR)]
    energy, px, py, pz = (v.sum(axis=1) for v in vectors)
    return np.asarray(np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0.0)))
