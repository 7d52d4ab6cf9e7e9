"""What jets are kept of an event: the leading one or the two leading ones, the cuts on them and what each cut lost."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .chunks import ROW, Columns, Representation, chunk_columns
from .substructure import Jets, dijet_mass, leading_jets, momenta

if TYPE_CHECKING:
    from .events import Candidates

__all__ = ["JET_SCALARS", "JetRepresentation", "Momenta", "jet_numbers", "single_jet_of"]

Float = npt.NDArray[np.float64]
Momenta = tuple[Float, Float, Float, Float]

FEWER = {1: "no jet", 2: "fewer than two jets"}
"""What the cutflow calls events with fewer jets than asked for."""

PAIR_CUTS = ("min_leading_pt", "max_deta", "min_mjj", "max_mjj")
"""Cuts on two jets."""

JET_SCALARS = ("pt", "mJ", "eta", "n")
"""What is told of a jet beside its image or its constituents: GeV, and the number of constituents."""

RANGES = (("min_pt", "max_pt"), ("min_mjj", "max_mjj"))


@dataclass(frozen=True, kw_only=True, repr=False)
class JetRepresentation(Representation):
    """An event as its leading jet or its two leading jets; GeV. The defaults keep events with two R = 1.0 jets of 50 GeV.

    jets: 1 or 2 an event; of two, jet 1 is the more massive (the harder one when their masses are equal). radius: of the
    anti-kT jets; min_pt, max_abs_eta: what counts as a jet; max_pt: of each of the leading jets, a harder one takes its event
    with it. Of two jets: min_leading_pt of the harder one, max_deta |eta_1 - eta_2|, min_mjj and max_mjj of their mass. The
    observable is `mjj` of two jets and `mJ_1` of one, unless it is named.
    """

    jets: Literal[1, 2] = 2
    radius: float = 1.0
    min_pt: float = 50.0
    max_pt: float | None = None
    max_abs_eta: float | None = None
    min_leading_pt: float | None = None
    max_deta: float | None = None
    min_mjj: float | None = None
    max_mjj: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.jets, bool) or self.jets not in FEWER:
            raise InputError(f"jets: {self.jets!r}; 1 or 2 jets an event are allowed")
        _check_cuts({name: getattr(self, name) for name in ("radius", "min_pt", "max_pt", "max_abs_eta", *PAIR_CUTS)})
        for low, high in RANGES:
            below, above = getattr(self, low), getattr(self, high)
            if below is not None and above is not None and below >= above:
                raise InputError(f"{low}: {below!r} is not below {high}: {above!r}")
        for name in PAIR_CUTS:
            if self.jets == 1 and getattr(self, name) is not None:
                raise InputError(f"{name}: {getattr(self, name)!r} is a cut on two jets, and jets is 1")
        super().__post_init__()

    @property
    def usual_observable(self) -> str:
        """The mass of the two jets, or of the only one."""
        return "mjj" if self.jets == 2 else "mJ_1"

    @property
    def scalars(self) -> tuple[str, ...]:
        """Names of the columns that hold one number a row."""
        return (*(("mjj", "deta") if self.jets == 2 else ()), *self.of_each(*self.jet_scalars))

    @property
    @abstractmethod
    def jet_scalars(self) -> tuple[str, ...]:
        """What is told of each jet by one number, in the order of the columns."""

    @abstractmethod
    def described(self, jets: Jets, candidates: Candidates, momentum: Momenta) -> tuple[Jets, Columns, dict[str, int]]:
        """Return the jets of the events that are kept, what is told of each of them, (n, jets, ...), and what was lost."""

    def of_each(self, *names: str) -> tuple[str, ...]:
        """Return names of columns of each jet: NAME_1, NAME_2 for every name."""
        return tuple(f"{name}_{jet}" for name in names for jet in range(1, self.jets + 1))

    def columns(self, events: Any) -> tuple[Columns, dict[str, int]]:
        """Return the columns of the events that are kept, beginning with ROW, and the cutflow of a chunk of events."""
        return chunk_columns(events, self, self._batch)

    def _batch(self, candidates: Candidates) -> tuple[Columns, dict[str, int]]:
        """Return the columns of the kept events with their ROW in the batch, and what each cut lost."""
        momentum = momenta(candidates)
        jets = leading_jets(
            candidates,
            momentum,
            radius=self.radius,
            min_pt=self.min_pt,
            max_abs_eta=self.max_abs_eta,
            n_jets=self.jets,
        )
        # Events with unphysical candidates hold none here and so have no jets, but they are counted as such.
        lost = {FEWER[self.jets]: int((~candidates.unphysical).sum()) - len(jets.event)}
        keep = np.ones(len(jets.event), dtype=np.bool_)
        for name, passed in self._cuts(jets).items():
            lost[f"failed {name}"] = int((keep & ~passed).sum())
            keep &= passed
        # What is told of jets is the expensive part, so cuts come first.
        jets, told, without = self.described(jets.select(keep), candidates, momentum)
        columns: Columns = {ROW: jets.event}
        if self.jets == 2:
            columns |= {"mjj": dijet_mass(jets), "deta": np.abs(jets.eta[:, 0] - jets.eta[:, 1])}
        one, heavier = np.arange(len(jets.event)), np.argmax(jets.mass, axis=1)
        for name, values in told.items():
            for number, picked in enumerate((heavier, 1 - heavier)[: self.jets], start=1):
                columns[f"{name}_{number}"] = values[one, picked]
        return columns, lost | without

    def _cuts(self, jets: Jets) -> dict[str, npt.NDArray[np.bool_]]:
        """Return what passes each cut that was asked for, in the order of the cutflow."""
        cuts = {}
        if self.max_pt is not None:
            cuts["max_pt"] = (jets.pt <= self.max_pt).all(axis=1)
        if self.min_leading_pt is not None:
            cuts["min_leading_pt"] = jets.pt[:, 0] >= self.min_leading_pt
        if self.max_deta is not None:
            cuts["max_deta"] = np.abs(jets.eta[:, 0] - jets.eta[:, 1]) <= self.max_deta
        if self.min_mjj is not None:
            cuts["min_mjj"] = dijet_mass(jets) >= self.min_mjj
        if self.max_mjj is not None:
            cuts["max_mjj"] = dijet_mass(jets) <= self.max_mjj
        return {name: np.asarray(passed) for name, passed in cuts.items()}


def single_jet_of(representation: Representation) -> Representation:
    """Return what makes of each event's leading jet alone what a representation makes of one of its jets; cuts on two jets are left out.

    A representation of one jet is returned as it is. Of others nothing is hunted in such events: their observable is None. Raises InputError for a representation whose inputs are not those of
    single jets, one jet after another.
    """
    if not isinstance(representation, JetRepresentation) or representation.kind == "rows":
        raise InputError(
            f"{representation.name}: its inputs are not those of single jets; those of images and constituents are"
        )
    if representation.jets == 1:
        return representation
    none: dict[str, Any] = dict.fromkeys((*PAIR_CUTS, "observable"))
    return dataclasses.replace(representation, jets=1, **none)


def jet_numbers(jets: Jets) -> Columns:
    """Return JET_SCALARS of each jet: (n, jets)."""
    return {"pt": jets.pt, "mJ": jets.mass, "eta": jets.eta, "n": jets.n_constituents}


def _check_cuts(cuts: dict[str, Any]) -> None:
    """Raise InputError for a cut that is no positive number; `min_pt` may be 0, None is no cut."""
    for name, value in cuts.items():
        if value is None:
            continue
        floor = 0.0 if name == "min_pt" else np.nextafter(0.0, 1.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not (floor <= value < np.inf):
            raise InputError(f"{name}: {value!r} is not a positive number")
