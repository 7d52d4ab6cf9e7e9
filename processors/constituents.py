"""The constituents of jets: flat, jagged or padded, and relative to the jet's axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import awkward as ak
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .jets import JET_SCALARS, JetRepresentation, Momenta, jet_numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .chunks import Columns
    from .events import Candidates
    from .substructure import Jets

__all__ = [
    "Constituents",
    "ConstituentsError",
    "JetConstituents",
    "constituents_of",
    "flat_constituents",
    "jagged_constituents",
    "padded_constituents",
    "relative_constituents",
]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Single = npt.NDArray[np.float32]


class ConstituentsError(InputError):
    """Constituents whose arrays do not fit together, or do not hold one number each."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Constituents(JetRepresentation):
    """Jets as sets of constituents, `constituents_1` and `constituents_2`: (n, max_constituents, 3) float32.

    They are those of `relative_constituents`: pT (GeV), eta and phi relative to the jet's axis, hardest first; of more than
    max_constituents the softest are left out, and such jets are counted. The columns beside them are those of `Images`.
    """

    name: ClassVar[str] = "constituents"
    kind: ClassVar[str] = "sets"

    max_constituents: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        slots = self.max_constituents
        if isinstance(slots, bool) or not isinstance(slots, int) or slots < 1:
            raise InputError(f"max_constituents: {slots!r} is not a positive whole number")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The constituents of the jets."""
        return self.of_each("constituents")

    @property
    def jet_scalars(self) -> tuple[str, ...]:
        """What is told of each jet by a number."""
        return JET_SCALARS

    def described(self, jets: Jets, candidates: Candidates, momentum: Momenta) -> tuple[Jets, Columns, dict[str, int]]:
        """Return the jets, and what is told of each; no event is lost."""
        del momentum
        eta, phi = jets.eta.ravel(), jets.phi.ravel()
        inside = constituents_of(jets, candidates)
        sets = relative_constituents(inside, eta=eta, phi=phi, slots=self.max_constituents)
        return jets, {**jet_numbers(jets), "constituents": sets.reshape(*jets.px.shape, *sets.shape[1:])}, {}

    def noted(self, columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, int]:
        """Return how many jets have more constituents than slots: "truncated_jets"."""
        return {"truncated_jets": sum(int((columns[n] > self.max_constituents).sum()) for n in self.of_each("n"))}

    def warning(self, noted: Mapping[str, int], *, rows: int) -> str:
        """Return how many jets lost constituents, where any did."""
        if not noted.get("truncated_jets"):
            return ""
        return (
            f"{noted['truncated_jets']} of {rows * self.jets} jets have more than {self.max_constituents} constituents, "
            "their softest are left out"
        )


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
    return JetConstituents(offsets, _numbers(pt, "pt"), _numbers(eta, "eta"), _numbers(phi, "phi"))


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
        flat.append(_numbers(inner, name))
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
    array = _numbers(constituents, "constituents")
    if array.ndim != 3 or array.shape[2] != 3:
        raise ConstituentsError(f"constituents of shape {array.shape}; (n_jets, c, 3) of pt, eta, phi is expected")
    n, slots = array.shape[:2]
    pt, eta, phi = (array[:, :, i].reshape(-1) for i in range(3))
    return flat_constituents(pt, eta, phi, np.full(n, slots, dtype=np.int64))


def constituents_of(jets: Jets, candidates: Candidates) -> JetConstituents:
    """Return the constituents of clustered jets, one jet after another: those of the events' jets, hardest first."""
    pt, eta, phi = (values[jets.constituents] for values in (candidates.pt, candidates.eta, candidates.phi))
    return JetConstituents(jets.offsets, pt, eta, phi)


def _numbers(values: Any, name: str) -> Float:
    """Return values in double precision; text, lists of different lengths and missing values are errors."""
    try:
        if np.ma.is_masked(values):
            raise ConstituentsError(f"{name}: has missing (masked) values; every constituent needs a number")
        array = np.asarray(values)
        if array.size and array.dtype.kind not in "fiu":
            raise ConstituentsError(f"{name}: holds {array.dtype}, numbers are expected")
        return np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConstituentsError(f"{name}: is no array of numbers: {error}") from error


def relative_constituents(constituents: JetConstituents, *, eta: Float, phi: Float, slots: int) -> Single:
    """Return pT (GeV), eta and phi relative to the jets' axes, hardest constituent first: (n, slots, 3) float32.

    eta, phi: (n,) the axes. Slots of pT 0 are padding; of more constituents than slots the softest are left out.
    Azimuths are wrapped to [-pi, pi].
    """
    n = len(constituents.offsets) - 1
    jet = np.repeat(np.arange(n), np.diff(constituents.offsets))
    order = np.lexsort((-constituents.pt, jet))  # jet after jet as before, so `jet` holds for the sorted ones too
    slot = np.arange(len(jet)) - constituents.offsets[jet]
    kept = slot < slots
    order, jet, slot = order[kept], jet[kept], slot[kept]
    dphi = constituents.phi[order] - phi[jet]
    padded = np.zeros((n, slots, 3), dtype=np.float32)
    padded[jet, slot, 0] = constituents.pt[order]
    padded[jet, slot, 1] = constituents.eta[order] - eta[jet]
    padded[jet, slot, 2] = dphi - 2 * np.pi * np.rint(dphi / (2 * np.pi))
    return padded
