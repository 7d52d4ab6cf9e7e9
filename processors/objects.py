"""Events as the objects that a detector reconstructs: missing transverse momentum, electrons, muons, jets and photons, in slots of their class or in one list.

The layout in slots is that of the data of arXiv:2107.02157: MET, 4 electrons, 4 muons and 10 jets, each pT, eta and phi; that of the list is after
arXiv:2105.14027. Objects are those of the file: no jet is clustered, no lepton is told from a jet that it is in, and nothing is identified.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..errors import InputError, unknown_name
from ..table import Observable
from .channels import CHANNELS, channel_steps
from .chunks import ROW, Columns, Made, Representation, completed_columns
from .events import LARGEST_ANGLE, LARGEST_PT, OBJECTS, PHOTON, EventSource, told_apart
from .object_lists import CATEGORIES, object_list
from .stored_objects import StoredObjects, event_content, object_source, read_objects

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["Objects", "object_numbers", "object_slots"]

Float = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]

SHORT = {"Electron": "e", "Muon": "mu", "Jet": "jet", PHOTON: "photon"}
"""What an object is called in the names of columns."""
WORDS = {"Electron": "electrons", "Muon": "muons", "Jet": "jets", PHOTON: "photons"}
TWO_PI = 2 * np.pi
LARGEST_PHI = np.nextafter(np.float32(np.pi), np.float32(0))
"""The largest single-precision number below pi: pi itself is rounded up, out of [-pi, pi]."""
MOST_SLOTS = 1000
SET_AXES = 3  # of a column of sets: row, slot, number
LISTED = 5
"""Numbers of an object of a list; the last one is its category."""
LAYOUTS = ("classes", "list")
USUAL: dict[str, dict[str, float]] = {
    "classes": {"min_lepton_pt": 3.0, "min_jet_pt": 15.0, "electron_eta": 3.0, "muon_eta": 2.1, "jet_eta": 4.0},
    "list": {"min_lepton_pt": 15.0, "min_jet_pt": 20.0, "electron_eta": 2.7, "muon_eta": 2.7, "jet_eta": 2.8},
}
"""The acceptance where only the layout is said: those of arXiv:2107.02157, and of what the files of arXiv:2105.14027 hold."""
OF_CLASSES = {"max_electrons": 4, "max_muons": 4, "max_jets": 10, "max_photons": 0}
MOST_LISTED = 20


@dataclass(frozen=True, kw_only=True, repr=False)
class Objects(Representation):
    """An event as a set of its objects, `objects`: (n, 1 + slots, 3) float32 of pT (GeV), eta and phi; 19 slots unless others are asked for.

    Slot 0 is the missing transverse momentum, whose eta is 0; then come max_electrons electrons, max_muons muons, max_jets jets and
    max_photons photons, each class by falling pT; empty slots are zeros. phi lies in [-pi, pi]. An object counts with pT above min_lepton_pt, min_jet_pt or
    min_photon_pt (GeV) and |eta| below electron_eta, muon_eta, jet_eta or photon_eta. Of more objects than slots the softest are left out,
    and such events are counted; an event without any object but missing momentum is lost.

    With layout "list" `objects` is (n, 1 + max_objects, 5) of pT, eta, phi, E (GeV) and category: slot 0 is the missing momentum, of category 0 and E = pT,
    then the objects of all classes by falling pT, categories 1 to 7: j, b, e-, e+, m-, m+, g. Photons, b-jets and masses are those that the file knows; charges it
    has to have. The acceptance is None for that of USUAL.

    btag: the branch, one number a jet, that tells b-jets, which are above btag_above; "" for `Jet_btag` in a list and none else. channel: one of the
    selections of `channel_steps`, or none.

    Beside the set stand `met`, `ht` (the sum of the jets' pT), `pt_e_1`, `pt_mu_1` and `pt_jet_1` (GeV, 0 where there is none), and how
    many electrons, muons and jets count, `n_e`, `n_mu` and `n_jet`; where photons are asked for `pt_photon_1` and `n_photon`, where b-jets are `n_b`, which `n_jet`
    counts too, and with a list `n_objects`. No mass is hunted in unless a column is named: hunt: count.
    """

    name: ClassVar[str] = "objects"
    kind: ClassVar[str] = "sets"

    observable: Observable | None = None
    max_electrons: int = 4
    max_muons: int = 4
    max_jets: int = 10
    min_lepton_pt: float | None = None
    min_jet_pt: float | None = None
    electron_eta: float | None = None
    muon_eta: float | None = None
    jet_eta: float | None = None
    max_photons: int = 0
    min_photon_pt: float = 20.0
    photon_eta: float = 2.37
    layout: str = "classes"
    max_objects: int = MOST_LISTED
    channel: str | int = "none"
    btag: str = ""
    btag_above: float = 0.5

    def __post_init__(self) -> None:
        where = f"representation {self.name}"
        if self.layout not in LAYOUTS:
            raise InputError(unknown_name("layout", str(self.layout), LAYOUTS, where))
        if isinstance(self.channel, bool) or str(self.channel) not in CHANNELS:
            raise InputError(unknown_name("channel", str(self.channel), CHANNELS, where))
        object.__setattr__(self, "channel", str(self.channel))
        for name in USUAL[self.layout]:
            if getattr(self, name) is None:
                object.__setattr__(self, name, self.usual[name])
        for name in (*OF_CLASSES, "max_objects"):
            value, fewest = getattr(self, name), int(name == "max_objects")
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or not fewest <= value <= MOST_SLOTS:
                raise InputError(f"{name}: {value!r} is not a whole number from {fewest} to {MOST_SLOTS}")
        self._check_layout()
        for name in (*USUAL[self.layout], "min_photon_pt", "photon_eta"):
            value = getattr(self, name)
            of_pt = name.startswith("min")
            least, most = (0.0, LARGEST_PT) if of_pt else (np.nextafter(0.0, 1.0), LARGEST_ANGLE)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                wanted = f"0 to {LARGEST_PT:g} GeV" if of_pt else f"above 0 and up to {LARGEST_ANGLE:g}"
                raise InputError(f"{name}: {value!r}; a number {wanted} is expected")
        above = self.btag_above
        if isinstance(above, bool) or not isinstance(above, int | float) or not np.isfinite(above):
            raise InputError(f"btag_above: {above!r}; a finite number is expected")
        if not isinstance(self.btag, str) or (self.btag and not self.btag.startswith("Jet_")):
            raise InputError(f"btag: {self.btag!r}; a branch of jets is expected, as Jet_btagDeepFlavB")
        super().__post_init__()

    def _check_layout(self) -> None:
        """Refuse options of the other layout, and classes without a slot."""
        if self.listed:
            for name, value in OF_CLASSES.items():
                if getattr(self, name) != value:
                    raise InputError(f"{name}: {getattr(self, name)!r} is of layout: classes; of a list max_objects")
            return
        if self.max_objects != MOST_LISTED:
            raise InputError(
                f"max_objects: {self.max_objects!r} is of layout: list; of classes {', '.join(OF_CLASSES)}"
            )
        if not sum(self.slots.values()):
            raise InputError("max_electrons: 0, and so are max_muons and max_jets: an event needs a slot for an object")

    @property
    def usual(self) -> dict[str, Any]:
        """The fields where they are not given."""
        return super().usual | USUAL[self.layout]

    @property
    def listed(self) -> bool:
        """Whether objects are in one list."""
        return self.layout == "list"

    @property
    def slots(self) -> dict[str, int]:
        """How many slots each class of objects has, in the layout of classes; photons only where they have any."""
        photons = {PHOTON: self.max_photons} if self.max_photons else {}
        return {"Electron": self.max_electrons, "Muon": self.max_muons, "Jet": self.max_jets, **photons}

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of objects that there may be."""
        return (*OBJECTS, PHOTON) if self.listed else tuple(self.slots)

    @property
    def acceptance(self) -> dict[str, tuple[float, float]]:
        """What the pT (GeV) of each class of objects has to be above, and |eta| below."""
        values = {name: float(getattr(self, name)) for name in USUAL[self.layout]}
        return {
            "Electron": (values["min_lepton_pt"], values["electron_eta"]),
            "Muon": (values["min_lepton_pt"], values["muon_eta"]),
            "Jet": (values["min_jet_pt"], values["jet_eta"]),
            PHOTON: (self.min_photon_pt, self.photon_eta),
        }

    @property
    def inputs(self) -> tuple[str, ...]:
        """The set of objects."""
        return ("objects",)

    @property
    def scalars(self) -> tuple[str, ...]:
        """Names of the columns that hold one number a row."""
        names = [SHORT[name] for name in self.classes]
        more = (*(("n_b",) if self.listed or self.btag else ()), *(("n_objects",) if self.listed else ()))
        return ("met", "ht", *(f"pt_{name}_1" for name in names), *(f"n_{name}" for name in names), *more)

    @property
    def usual_observable(self) -> str:
        """The missing transverse momentum."""
        return "met"

    def observed(self, name: str) -> Observable:
        """Return the observable of a column: momenta in GeV, numbers of objects without a unit."""
        return Observable.of(name, "" if name.startswith("n_") else "GeV")

    def source_of(self, branches: Collection[str], where: str) -> EventSource:
        """Find the objects among the names of a tree's branches."""
        photons = self.listed or self.max_photons > 0
        return object_source(branches, where, photons=photons, categories=self.listed, btag=self.btag)

    def columns(self, events: Any) -> tuple[Columns, dict[str, int]]:
        """Return the columns of the events that are kept, beginning with ROW, and the cutflow of a chunk of events."""

        def read(source: Any) -> Made:
            stored, met, phi, unphysical = read_objects(events, source)
            event_id = told_apart(events, source, functools.partial(event_content, stored, met, phi))
            return lambda: (*self.made(stored, met, phi, unphysical), event_id)

        return completed_columns(events, self, read)

    def made(
        self, stored: Mapping[str, StoredObjects], met: Float, phi: Float, unphysical: npt.NDArray[np.bool_]
    ) -> tuple[Columns, dict[str, int]]:
        """Return the columns of events with an object, with their ROW, and the cutflow up to there.

        stored: of each class; met, phi: (n,) of the missing transverse momentum; unphysical: (n,) events to be left out.
        """
        good = ~unphysical
        cutflow = {"read": len(met), "unphysical objects": int(unphysical.sum())}
        for why, passes in channel_steps(str(self.channel), stored, met):
            cutflow[why] = int((good & ~passes).sum())
            good = good & passes
        inside = {}
        for name, own in stored.items():
            least, edge = self.acceptance[name]
            inside[name] = own.select((own.pt > least) & (np.abs(own.eta) < edge) & ~unphysical[own.event])
        if self.listed:
            found, more = object_list(inside, met, phi, most=self.max_objects, btag_above=self.btag_above)
            filled = more["n_objects"]
        else:
            found, more = object_slots(inside, met, phi, slots=self.slots), {}
            filled = np.sum([inside[name].count() for name, most in self.slots.items() if most], axis=0)
            if self.btag:
                jets = inside["Jet"]
                more = {"n_b": jets.count(np.asarray(jets.btag) > self.btag_above)}
        keep = np.flatnonzero(good & (filled > 0))
        cutflow["no object"] = int(good.sum()) - len(keep)
        numbers = object_numbers(inside, met, classes=self.classes) | more
        told = {name: numbers[name][keep] for name in self.scalars}
        return {ROW: keep, **told, "objects": as_single(found[keep])}, cutflow

    def usable(self, columns: Mapping[str, npt.NDArray[Any]]) -> tuple[npt.NDArray[np.bool_], dict[str, int]]:
        """Tell which rows (n,) a search can use, and count the others: those without an object, or with one of negative pT, too."""
        found, lost = super().usable(columns)
        sets = columns["objects"]
        if sets.ndim != SET_AXES:
            return found, lost
        if self.listed != (sets.shape[2] == LISTED):
            raise InputError(
                f"{self.name}: column 'objects' holds {sets.shape[1:]} numbers a row, {LISTED} an object are those of layout: list, and it is {self.layout}"
            )
        pt = sets[..., 0]
        for why, bad in (
            ("no object", ~(pt[:, 1:] != 0).any(axis=1)),
            ("an object of negative pT", (pt < 0).any(axis=1)),
            *((("an object of no category", wrong_category(sets)),) if self.listed else ()),
        ):
            rows = found & bad
            if rows.any():
                found, lost[why] = found & ~rows, int(rows.sum())
        return found, lost

    def noted(self, columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, int]:
        """Return how many events have more objects than slots: "truncated_e", "truncated_mu" and so on of a class, of a list "truncated_objects"."""
        if self.listed:
            return {"truncated_objects": int((columns["n_objects"] > self.max_objects).sum())}
        return {
            f"truncated_{SHORT[name]}": int((columns[f"n_{SHORT[name]}"] > most).sum())
            for name, most in self.slots.items()
        }

    def warning(self, noted: Mapping[str, int], *, rows: int) -> str:
        """Return how many events lost objects, where any did."""
        if self.listed:
            lost = noted.get("truncated_objects")
            told = [f"{lost} have more than {self.max_objects} objects"] if lost else []
        else:
            told = [
                f"{noted[f'truncated_{SHORT[name]}']} have more than {most} {WORDS[name]}"
                for name, most in self.slots.items()
                if noted.get(f"truncated_{SHORT[name]}")
            ]
        return f"of {rows} events {', '.join(told)}; the softest are left out" if told else ""


def wrong_category(sets: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Tell which lists of objects (n, slots, 5) have an object that is none of CATEGORIES, or an empty slot that is one."""
    category, filled = sets[:, 1:, -1], sets[:, 1:, 0] != 0
    known = np.isin(category, np.arange(1, len(CATEGORIES)))
    return np.asarray((sets[:, 0, -1] != 0) | np.where(filled, ~known, category != 0).any(axis=1))


def object_numbers(
    stored: Mapping[str, StoredObjects], met: Float, *, classes: Collection[str]
) -> dict[str, npt.NDArray[Any]]:
    """Return what is told of events by a number, each (n,): `met`, `ht`, and of each class how many and the largest pT, 0 of one that is not read."""
    n = len(met)
    numbers: dict[str, npt.NDArray[Any]] = {"met": met}
    for name in classes:
        leading, counts = np.zeros(n), np.zeros(n, dtype=np.int64)
        if name in stored:
            own = stored[name]
            counts = own.count()
            np.maximum.at(leading, own.event, own.pt)
        numbers |= {f"n_{SHORT[name]}": counts, f"pt_{SHORT[name]}_1": leading}
    jets = stored["Jet"]
    return numbers | {"ht": np.bincount(jets.event, weights=jets.pt, minlength=n)}


def as_single(found: Float) -> Single:
    """Return sets (n, slots, numbers) in single precision, the third number of an object, phi, in [-pi, pi]."""
    found[:, :, 2] -= TWO_PI * np.rint(found[:, :, 2] / TWO_PI)
    with np.errstate(over="ignore"):  # an energy at large eta: no finite number, and counted as such
        single = found.astype(np.float32)
    single[:, :, 2] = np.clip(single[:, :, 2], -LARGEST_PHI, LARGEST_PHI)
    return single


def object_slots(stored: Mapping[str, StoredObjects], met: Float, phi: Float, *, slots: Mapping[str, int]) -> Float:
    """Return events as slots of pT (GeV), eta and phi, (n, 1 + slots, 3).

    stored: the objects of each class that count; met, phi: (n,) of the missing transverse momentum; slots: how many each class has.
    Of the same pT the one that is stored first comes first.
    """
    n = len(met)
    found = np.zeros((n, 1 + sum(slots.values()), 3))
    found[:, 0, 0], found[:, 0, 2] = met, phi
    first = 1
    for name, most in slots.items():
        own = stored[name]
        event = own.event
        order = np.lexsort(
            (-own.pt, event)
        )  # stable: event after event as before, so `event` holds for the sorted ones too
        place = np.arange(len(event)) - own.offsets[:-1][event]
        kept = place < most
        rows, at, objects = event[kept], first + place[kept], order[kept]
        for i, values in enumerate((own.pt, own.eta, own.phi)):
            found[rows, at, i] = values[objects]
        first += most
    return found
