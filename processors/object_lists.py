"""The objects of a whole event in one list by falling pT, each with its energy and category (arXiv:2105.14027)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .stored_objects import StoredObjects

__all__ = ["CATEGORIES", "category_of", "object_list"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

CATEGORIES = ("MET", "j", "b", "e-", "e+", "m-", "m+", "g")
"""What an object is, numbered from 0."""
CHARGED = {"Electron": "e", "Muon": "m"}


def category_of(name: str, own: StoredObjects, *, btag_above: float) -> Int:
    """Return the number in CATEGORIES of each object (m,) of a class; a jet is b where its btag is above btag_above, no jet without btag is."""
    if name in CHARGED:
        minus = CATEGORIES.index(f"{CHARGED[name]}-")
        if own.charge is None:
            raise ValueError(f"{name}: the charge was not read")
        return np.where(own.charge > 0, minus + 1, minus)
    if name == "Photon":
        return np.full(len(own.pt), CATEGORIES.index("g"))
    light = np.full(len(own.pt), CATEGORIES.index("j"))
    return light if own.btag is None else np.where(own.btag > btag_above, CATEGORIES.index("b"), light)


def object_list(
    stored: Mapping[str, StoredObjects], met: Float, phi: Float, *, most: int, btag_above: float
) -> tuple[Float, dict[str, npt.NDArray[Any]]]:
    """Return events as a list of pT (GeV), eta, phi, E (GeV) and category, (n, 1 + most, 5), and `n_b` and `n_objects` (n,).

    stored: the objects of each class that count; met, phi: (n,) of the missing transverse momentum, which comes first, its E its pT. The most objects of largest pT follow by
    falling pT, of the same pT by class and as they are stored. An object without mass has E = pT cosh eta, one of negative mass less (E^2 = p^2 - m^2).
    """
    n = len(met)
    found = np.zeros((n, 1 + most, 5))
    found[:, 0, 0], found[:, 0, 2], found[:, 0, 3] = met, phi, met
    event = np.concatenate([own.event for own in stored.values()])
    pt, eta, angle = (np.concatenate([getattr(own, k) for own in stored.values()]) for k in ("pt", "eta", "phi"))
    mass = np.concatenate([np.zeros(len(own.pt)) if own.mass is None else own.mass for own in stored.values()])
    category = np.concatenate([category_of(name, own, btag_above=btag_above) for name, own in stored.items()])
    energy = np.sqrt(np.maximum((pt * np.cosh(eta)) ** 2 + mass * np.abs(mass), 0.0))
    order = np.lexsort((-pt, event))
    counts = np.bincount(event, minlength=n)
    rows = event[order]
    place = np.arange(len(order)) - (np.cumsum(counts) - counts)[rows]
    kept = place < most
    for i, values in enumerate((pt, eta, angle, energy, category)):
        found[rows[kept], 1 + place[kept], i] = values[order[kept]]
    jets = category == CATEGORIES.index("b")
    return found, {"n_b": np.bincount(event[jets], minlength=n), "n_objects": counts}
