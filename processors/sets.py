"""Jets as sets of their hardest constituents, relative to the jet's axis or as four-vectors in its frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..errors import InputError, unknown_name
from .alignment import aligned_momenta, checked_alignment
from .constituents import (
    ConstituentsError,
    JetConstituents,
    constituents_of,
    number_array,
    padded_array,
    padded_constituents,
)
from .events import LARGEST_ANGLE, LARGEST_PT
from .jets import JET_SCALARS, JetRepresentation, Momenta, jet_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .chunks import Columns
    from .events import Candidates
    from .substructure import Jets

__all__ = ["Constituents", "aligned_four_vectors", "relative_constituents"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Single = npt.NDArray[np.float32]

USUAL: dict[str, dict[str, Any]] = {
    "relative": {"max_constituents": 100, "align": "none", "rotate": False},
    "four_vectors": {"max_constituents": 20, "align": "longitudinal", "rotate": True},
}
"""What is meant where only the coordinates are said; 20 constituents are those of arXiv:2007.01850."""

SET_AXES = 3  # of a column of sets: row, slot, number

BATCH = 1000
"""Jets aligned at a time: some ten arrays of 20 constituents in double precision (2 MB) stay in the processor's cache."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Constituents(JetRepresentation):
    """Jets as sets of constituents, `constituents_1` and `constituents_2`: (n, max_constituents, 3 or 4) float32, hardest first.

    coordinates: `relative`, those of `relative_constituents`: pT (GeV), eta and phi relative to the jet's axis; or
    `four_vectors`, those of `aligned_four_vectors`: E, px, py, pz (GeV) of massless constituents in the jet's frame, which align
    (`longitudinal`, `rest_frame`, `none`), rotate and flip say. None means 100 relative constituents, or 20 four-vectors with
    `longitudinal` and rotate; without an alignment nothing is rotated. Slots of pT or E 0 are padding.

    Of more than max_constituents the softest are left out, and such jets are counted; the jet of four-vectors is the sum of those
    that are kept. In the rest frame an event is lost where one of its jets has no mass. The columns beside them are those of `Images`.
    """

    name: ClassVar[str] = "constituents"
    kind: ClassVar[str] = "sets"

    coordinates: str = "relative"
    max_constituents: int | None = None
    align: str | None = None
    rotate: bool | None = None
    flip: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.coordinates not in tuple(USUAL):
            raise InputError(unknown_name("coordinates", str(self.coordinates), USUAL, f"representation {self.name}"))
        for name in ("align", "rotate", "flip"):
            value = getattr(self, name)
            if self.coordinates == "relative" and value not in (None, "none", False):
                raise InputError(f"{name}: {value!r} is of coordinates: four_vectors, and they are relative")
        for name in USUAL[self.coordinates]:
            if getattr(self, name) is None:
                object.__setattr__(self, name, self.usual[name])
        _ = self._slots, self._aligned  # which raise for what no jet can be made with

    @property
    def usual(self) -> dict[str, Any]:
        """The fields where they are not given."""
        given = {} if self.align != "none" else {"rotate": False}
        return super().usual | USUAL[self.coordinates] | given

    @property
    def _aligned(self) -> tuple[str, bool, bool]:
        """How jets are aligned, rotated and mirrored."""
        return checked_alignment(self.align, rotate=self.rotate, flip=self.flip)

    @property
    def _slots(self) -> int:
        """How many constituents a jet has at most."""
        return _check_slots(self.max_constituents, "max_constituents")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The constituents of the jets."""
        return self.of_each("constituents")

    @property
    def jet_scalars(self) -> tuple[str, ...]:
        """What is told of each jet by a number."""
        return JET_SCALARS

    def described(self, jets: Jets, candidates: Candidates, momentum: Momenta) -> tuple[Jets, Columns, dict[str, int]]:
        """Return the jets, and what is told of each; events are lost where a jet that has no mass should be at rest."""
        del momentum
        inside = constituents_of(jets, candidates)
        lost = {}
        if self.coordinates == "relative":
            sets = relative_constituents(inside, eta=jets.eta.ravel(), phi=jets.phi.ravel(), slots=self._slots)
        else:
            align, rotate, flip = self._aligned
            sets = aligned_four_vectors(inside, slots=self._slots, align=align, rotate=rotate, flip=flip)
        sets = sets.reshape(*jets.px.shape, *sets.shape[1:])
        if self.align == "rest_frame":
            massive = np.asarray((sets[:, :, 0, 0] > 0).all(axis=1))
            lost = {"a jet without a rest frame": int((~massive).sum())}
            jets, sets = jets.select(massive), sets[massive]
        return jets, {**jet_numbers(jets), "constituents": sets}, lost

    def usable(self, columns: Mapping[str, npt.NDArray[Any]]) -> tuple[npt.NDArray[np.bool_], dict[str, int]]:
        """Tell which rows (n,) a search can use, and count the others: those with a jet that has no constituents, or one of negative pT or E, too."""
        found, lost = super().usable(columns)
        first = [columns[name][..., 0] for name in self.inputs if columns[name].ndim == SET_AXES]
        for why, bad in (
            ("a jet without constituents", [~(of_jet != 0).any(axis=1) for of_jet in first]),
            ("a constituent of negative pT or E", [(of_jet < 0).any(axis=1) for of_jet in first]),
        ):
            rows = found & np.any(bad, axis=0) if bad else np.zeros(len(found), dtype=np.bool_)
            if rows.any():
                found, lost[why] = found & ~rows, int(rows.sum())
        return found, lost

    def noted(self, columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, int]:
        """Return how many jets have more constituents than slots: "truncated_jets"."""
        return {"truncated_jets": sum(int((columns[n] > self._slots).sum()) for n in self.of_each("n"))}

    def warning(self, noted: Mapping[str, int], *, rows: int) -> str:
        """Return how many jets lost constituents, where any did."""
        if not noted.get("truncated_jets"):
            return ""
        return (
            f"{noted['truncated_jets']} of {rows * self.jets} jets have more than {self.max_constituents} constituents, "
            "their softest are left out"
        )


def relative_constituents(constituents: JetConstituents, *, eta: Float, phi: Float, slots: int) -> Single:
    """Return pT (GeV), eta and phi relative to the jets' axes, hardest constituent first: (n, slots, 3) float32.

    eta, phi: (n,) the axes. Slots of pT 0 are padding; of more constituents than slots the softest are left out.
    Azimuths are wrapped to [-pi, pi]. Raises ConstituentsError for what is not finite.
    """
    eta, phi = _axes(eta, phi, len(constituents.offsets) - 1)
    points = _hardest(constituents, slots=_check_slots(slots, "slots"))
    points[:, :, 1] -= eta[:, None]
    points[:, :, 2] -= phi[:, None]
    points[:, :, 2] -= 2 * np.pi * np.rint(points[:, :, 2] / (2 * np.pi))
    points[points[:, :, 0] == 0] = 0.0
    return points.astype(np.float32)


def aligned_four_vectors(
    constituents: JetConstituents | npt.ArrayLike,
    *,
    slots: int = 20,
    eta: npt.ArrayLike | None = None,
    phi: npt.ArrayLike | None = None,
    align: str = "longitudinal",
    rotate: bool | None = None,
    flip: bool = False,
) -> Single:
    """Return E, px, py, pz (GeV) of the hardest constituents in their jet's frame, hardest first: (n, slots, 4) float32.

    constituents: of jets, or padded (n, k, 3) pT (GeV), eta, phi as tables store them. eta, phi: (n,) the axes which their angles are
    relative to, none where they are absolute; only `align="none"` depends on them. align, rotate, flip: the steps of
    `processors/alignment.py`; rotate None: where there is an alignment.

    Constituents are massless, pT 0 is padding and gives zeros. The jet is the sum of the constituents that are kept. They are ordered by
    their pT to the beam; of the same pT by eta and phi, so that the order of the input plays no part. A jet without constituents is all zeros, as is one
    without mass in the rest frame. Raises ConstituentsError for what is not finite, with the jet, and InputError for impossible settings.
    """
    slots = _check_slots(slots, "slots")
    align, rotate, flip = checked_alignment(align, rotate=rotate, flip=flip)
    of_jets = isinstance(constituents, JetConstituents)
    given = (
        _hardest(constituents, slots=slots) if isinstance(constituents, JetConstituents) else padded_array(constituents)
    )
    n = len(given)
    shift = _axes(0.0 if eta is None else eta, 0.0 if phi is None else phi, n)
    found = np.zeros((n, slots, 4), dtype=np.float32)
    for first in range(0, n, BATCH):
        here = slice(first, first + BATCH)
        points = given[here] if of_jets else _leading(given[here], slots=slots, first=first)
        pt, eta_, phi_ = (np.ascontiguousarray(points[:, :, i]) for i in range(3))
        if eta is not None or phi is not None:
            eta_, phi_ = eta_ + shift[0][here, None], phi_ + shift[1][here, None]
        with np.errstate(over="ignore"):
            momenta = aligned_momenta(pt, eta_, phi_, align=align, rotate=rotate, flip=flip)
            found[here, : pt.shape[1]] = momenta
    whole = np.isfinite(found).all(axis=(1, 2))
    if not whole.all():
        raise ConstituentsError(
            f"eta: the constituents of jet {int(np.argmin(whole))} are too far apart for energies in single precision"
        )
    return found


def _hardest(constituents: JetConstituents, *, slots: int) -> Float:
    """Return pT, eta and phi of the hardest constituents, hardest first, zeros after them: (n, slots, 3)."""
    offsets, n = constituents.offsets, len(constituents.offsets) - 1
    values = constituents.pt, constituents.eta, constituents.phi
    _require_physical(*values, jet_of=lambda at: int(np.searchsorted(offsets, at, side="right")) - 1)
    there = values[0] > 0
    jet = np.repeat(np.arange(n), np.diff(offsets))[there]
    pt, eta, phi = (value[there] for value in values)
    order = np.lexsort((-pt, jet))  # jet after jet as before, so `jet` holds for the sorted ones too
    same = (pt[order][1:] == pt[order][:-1]) & (jet[1:] == jet[:-1])
    if same.any():
        run = np.cumsum(np.concatenate([[True], ~same]))  # number of the run of one pT, rising
        alike = np.concatenate([same, [False]]) | np.concatenate([[False], same])
        order[alike] = _by_angles(order[alike], run[alike], jet=jet, pt=pt, eta=eta, phi=phi)
    counts = np.bincount(jet, minlength=n)
    slot = np.arange(len(jet)) - (np.cumsum(counts) - counts)[jet]
    kept = slot < slots
    order, jet, slot = order[kept], jet[kept], slot[kept]
    points = np.zeros((n, slots, 3))
    for i, value in enumerate((pt, eta, phi)):
        points[jet, slot, i] = value[order]
    return points


def _by_angles(rows: Int, run: Int, *, jet: Int, pt: Float, eta: Float, phi: Float) -> Int:
    """Return rows of constituents in the order of their runs, of a run by eta, and by the azimuth from the jet's own where that is the same."""
    order = np.lexsort((eta[rows], run))
    if ((np.diff(eta[rows][order]) == 0) & (np.diff(run) == 0)).any():
        x, y = (np.bincount(jet, weights=pt * f(phi)) for f in (np.cos, np.sin))
        angle = phi[rows] - np.arctan2(y, x)[jet[rows]]
        order = np.lexsort((angle - 2 * np.pi * np.rint(angle / (2 * np.pi)), eta[rows], run))
    return np.asarray(rows[order])


def _leading(points: npt.NDArray[Any], *, slots: int, first: int) -> Float:
    """Return the hardest constituents of padded ones (n, k, 3), hardest first: (n, k or slots, 3); first: number of the first jet."""
    pt, eta, phi = (points[:, :, i] for i in range(3))
    _require_physical(pt, eta, phi, jet_of=lambda at: first + at)
    ordered = ((pt[:, 1:] < pt[:, :-1]) | (pt[:, 1:] == 0)).all(axis=1)
    found = points[:, :slots].astype(np.float64)
    found[found[:, :, 0] == 0] = 0.0  # angles of padding may be anything
    if not ordered.all():
        again = points[~ordered]
        if again.shape[1] > slots:  # only what is as hard as the last one that is kept has to be sorted
            least = np.partition(again[:, :, 0], -slots, axis=1)[:, -slots]
            again = np.where(again[:, :, :1] >= least[:, None, None], again, 0.0)
        found[~ordered] = _hardest(padded_constituents(again), slots=slots)[:, : found.shape[1]]
    return found


def _require_physical(
    pt: npt.NDArray[Any], eta: npt.NDArray[Any], phi: npt.NDArray[Any], *, jet_of: Callable[[int], int]
) -> None:
    """Raise ConstituentsError for a pT or an angle that no constituent has; jet_of: the jet of a row of the arrays."""
    there = pt != 0
    allowed = (
        ("pt", pt, (pt >= 0) & (pt <= LARGEST_PT), f"0 to {LARGEST_PT:g} GeV"),
        ("eta", eta, ~there | (np.abs(eta) <= LARGEST_ANGLE), f"{-LARGEST_ANGLE:g} to {LARGEST_ANGLE:g}"),
        ("phi", phi, ~there | (np.abs(phi) <= LARGEST_ANGLE), f"{-LARGEST_ANGLE:g} to {LARGEST_ANGLE:g}"),
    )
    for name, values, good, wanted in allowed:  # comparisons with NaN are false
        if not good.all():
            at = tuple(np.argwhere(~good)[0])
            raise ConstituentsError(
                f"{name}: jet {jet_of(int(at[0]))} has a constituent of {values[at]}; {wanted} is expected"
            )


def _axes(eta: npt.ArrayLike, phi: npt.ArrayLike, n: int) -> tuple[Float, Float]:
    """Return the axes (n,) of jets; one number is that of all."""
    found = []
    for name, given in (("eta", eta), ("phi", phi)):
        axis = number_array(given, f"{name} of the axes")
        if axis.shape not in {(), (n,)}:
            raise ConstituentsError(f"{name} of the axes: shape {axis.shape}; one a jet, ({n},), is expected")
        axis = np.broadcast_to(axis, (n,))
        if not np.isfinite(axis).all():
            at = int(np.argmin(np.isfinite(axis)))
            raise ConstituentsError(f"{name} of the axes: jet {at} has {axis[at]}; a finite number is expected")
        found.append(axis)
    return found[0], found[1]


def _check_slots(slots: Any, name: str) -> int:
    """Return a number of constituents; raises InputError for what is none."""
    if isinstance(slots, bool) or not isinstance(slots, int | np.integer) or slots < 1:
        raise InputError(f"{name}: {slots!r} is not a positive whole number")
    return int(slots)
