"""The constituents of jets: flat, jagged or padded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import numpy.typing as npt

from ..errors import InputError

if TYPE_CHECKING:
    from .events import Candidates
    from .substructure import Jets

__all__ = [
    "ConstituentsError",
    "JetConstituents",
    "constituents_of",
    "flat_constituents",
    "jagged_constituents",
    "number_array",
    "padded_array",
    "padded_constituents",
]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


class ConstituentsError(InputError):
    """Constituents whose arrays do not fit together, or do not hold one finite number each."""


@dataclass(frozen=True)
class JetConstituents:
    """The constituents of n jets, flat: jet i owns the slice offsets[i]:offsets[i+1].

    offsets: (n + 1,) int64; pt: (m,) GeV; eta, phi: (m,). Raises ConstituentsError when they do not fit together.
    """

    offsets: Int
    pt: Float
    eta: Float
    phi: Float

    def __post_init__(self) -> None:
        shapes = {name: getattr(self, name).shape for name in ("pt", "eta", "phi")}
        if len(set(shapes.values())) > 1 or self.pt.ndim != 1:
            told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise ConstituentsError(f"pt, eta and phi have shapes {told}; one (m,) for all three is expected")
        offsets = self.offsets
        if offsets.ndim != 1 or not len(offsets) or not np.issubdtype(offsets.dtype, np.integer):
            raise ConstituentsError(
                f"offsets: {offsets.dtype} of shape {offsets.shape}; integers of shape (n_jets + 1,) are expected"
            )
        if offsets[0] != 0 or offsets[-1] != len(self.pt) or (np.diff(offsets) < 0).any():
            raise ConstituentsError(
                f"offsets: from {offsets[0]} to {offsets[-1]}; they must rise from 0 to the {len(self.pt)} constituents"
            )


def flat_constituents(
    pt: npt.ArrayLike, eta: npt.ArrayLike, phi: npt.ArrayLike, counts: npt.ArrayLike
) -> JetConstituents:
    """Return the constituents of jets from flat arrays, jet after jet.

    pt: (m,) GeV; eta, phi: (m,); counts: (n_jets,) constituents a jet, 0 allowed. Raises ConstituentsError.
    """
    per_jet = np.asarray(counts)
    if per_jet.ndim != 1 or (per_jet.size and not np.issubdtype(per_jet.dtype, np.integer)):
        raise ConstituentsError(f"counts: {per_jet.dtype} of shape {per_jet.shape}; integers (n_jets,) are expected")
    offsets = np.concatenate([[0], np.cumsum(per_jet, dtype=np.int64)]).astype(np.int64)
    return JetConstituents(offsets, number_array(pt, "pt"), number_array(eta, "eta"), number_array(phi, "phi"))


def jagged_constituents(pt: Any, eta: Any, phi: Any) -> JetConstituents:
    """Return the constituents of jets from awkward arrays (or lists of lists): pt in GeV, eta, phi, one list a jet.

    Raises ConstituentsError when the three differ in their lists' lengths, are not lists of numbers, or miss values.
    """
    flat, lengths = [], []
    for name, given in (("pt", pt), ("eta", eta), ("phi", phi)):
        try:
            values = given if isinstance(given, ak.Array) else ak.Array(given)
        except (TypeError, ValueError) as error:
            raise ConstituentsError(f"{name}: one list of numbers a jet is expected: {error}") from error
        if ak.any(ak.is_none(values)) or (values.ndim == 2 and ak.any(ak.is_none(values, axis=1))):
            raise ConstituentsError(f"{name}: has missing values (None); every constituent needs a number")
        if len(values) and values.ndim != 2:
            raise ConstituentsError(f"{name}: {values.type}; one list of numbers a jet is expected")
        inner = ak.flatten(values, axis=1) if len(values) else []
        flat.append(number_array(inner, name))
        lengths.append(np.asarray(ak.num(values, axis=1) if len(values) else [], dtype=np.int64))
    for name, found in (("eta", lengths[1]), ("phi", lengths[2])):
        if len(found) != len(lengths[0]):
            raise ConstituentsError(f"{name}: {len(found)} jets where pt has {len(lengths[0])}")
        if (found != lengths[0]).any():
            at = int(np.flatnonzero(found != lengths[0])[0])
            raise ConstituentsError(f"{name}: jet {at} has {found[at]} constituents where pt has {lengths[0][at]}")
    return flat_constituents(flat[0], flat[1], flat[2], lengths[0])


def padded_constituents(constituents: npt.ArrayLike) -> JetConstituents:
    """Return the constituents of jets from a padded array (n_jets, c, 3) of pt (GeV), eta, phi; pT 0 is padding.

    Raises ConstituentsError for another shape.
    """
    array = padded_array(constituents)
    n, slots = array.shape[:2]
    pt, eta, phi = (array[:, :, i].reshape(-1) for i in range(3))
    return flat_constituents(pt, eta, phi, np.full(n, slots, dtype=np.int64))


def constituents_of(jets: Jets, candidates: Candidates) -> JetConstituents:
    """Return the constituents of clustered jets, one jet after another: those of the events' jets, hardest first."""
    pt, eta, phi = (values[jets.constituents] for values in (candidates.pt, candidates.eta, candidates.phi))
    return JetConstituents(jets.offsets, pt, eta, phi)


def padded_array(constituents: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return constituents (n_jets, c, 3) in the precision that they have; raises ConstituentsError for another shape."""
    array = _numbers(constituents, "constituents")
    if array.ndim != 3 or array.shape[2] != 3:
        raise ConstituentsError(f"constituents of shape {array.shape}; (n_jets, c, 3) of pt, eta, phi is expected")
    return array


def number_array(values: Any, name: str) -> Float:
    """Return values in double precision; raises ConstituentsError for text, lists of different lengths and missing values."""
    return np.asarray(_numbers(values, name), dtype=np.float64)


def _numbers(values: Any, name: str) -> npt.NDArray[Any]:
    """Return values as an array of numbers; text, lists of different lengths and missing values are errors."""
    try:
        if np.ma.is_masked(values):
            raise ConstituentsError(f"{name}: has missing (masked) values; every constituent needs a number")
        array = np.asarray(values)
        if array.size and array.dtype.kind not in "fiu":
            raise ConstituentsError(f"{name}: holds {array.dtype}, numbers are expected")
        return array if array.dtype.kind in "fiu" else array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ConstituentsError(f"{name}: is no array of numbers: {error}") from error
