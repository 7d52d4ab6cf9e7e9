"""Augmentations of whole events, made on the device for a batch at once: those that detectors make, and anomalous ones (arXiv:2301.04660).

Events are (n, slots, 3) of pT (GeV), eta and phi. The slots are the missing transverse momentum, then electrons, muons and jets, so many of each as
the layout says; a slot without pT is empty, and stays or becomes zeros. Within a kind the objects are in no order. Every function returns new
events, and draws from the generator that it is given, one of the device of the events.

Physical: what is measured again of the same event.
    turned             all objects, missing momentum included, by one azimuth
    angles_smeared     eta and phi of soft objects by normal draws; what leaves the acceptance is removed
    energies_smeared   pT of jets by a normal draw of width √(0.052 pT² + 1.502 pT); what falls below 0 is removed

Anomalous: events that the background is not to contain.
    added      more electrons, muons and jets; the missing momentum takes the recoil, so that the vector sum stays
    split      more objects that share the pT of those that are there: the sum of pT and the missing momentum stay
    shifted    the missing momentum, all other objects, or everything by one factor: directions stay
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ..distance.clouds import EmptyImageError, NegativePixelError, as_jets
from ..inputs import ScorerError, ShapeError, require_numbers, require_switches, require_whole
from .jet_augmentations import normal, uniform, with_angles

__all__ = [
    "ANOMALIES",
    "CLASSES",
    "EventAugmentations",
    "EventLayout",
    "added",
    "angles_smeared",
    "anomalous",
    "as_objects",
    "energies_smeared",
    "shifted",
    "split",
    "turned",
]

CLASSES = ("MET", "electron", "muon", "jet")
POLAR = 3  # numbers of an object; a fourth one is its class
SMEAR, SMEARED_BELOW, SMEAR_EDGE = 0.028, 25.0, 0.1  # radian; GeV; GeV
CONSTANT_TERM, STOCHASTIC_TERM = 0.052, 1.502  # of the squared energy resolution; the second one in GeV
MET_FACTORS, FACTORS = (0.5, 5.0), (1.0, 5.0)
ANOMALIES = ("added", "split", "shifted")


@dataclass(frozen=True)
class EventLayout:
    """Which slots hold what, and what is measured of it; the defaults are those of the data of ADC2021 (arXiv:2107.02157).

    electrons, muons, jets: slots of each; electron_eta, muon_eta, jet_eta: largest |eta|; lepton_pt, jet_pt: smallest pT in GeV; trigger_pt: in
    GeV, what the leading lepton is not split below. Raises ScorerError naming the option.
    """

    electrons: int = 4
    muons: int = 4
    jets: int = 10
    electron_eta: float = 3.0
    muon_eta: float = 2.1
    jet_eta: float = 4.0
    lepton_pt: float = 3.0
    jet_pt: float = 15.0
    trigger_pt: float = 23.0

    def __post_init__(self) -> None:
        counts = ("electrons", "muons", "jets")
        require_whole(self, dict.fromkeys(counts, 0))
        require_numbers(self, (name for name in vars(self) if name not in counts))
        if self.slots < 2:
            raise ScorerError("electrons, muons and jets are 0, allowed: a slot of one of them at least")

    @property
    def counts(self) -> tuple[int, ...]:
        """Slots of each of CLASSES."""
        return 1, self.electrons, self.muons, self.jets

    @property
    def slots(self) -> int:
        """Slots in all."""
        return sum(self.counts)

    def classes(self, device: torch.device) -> torch.Tensor:
        """Return the class (slots,) of each slot, 0 to 3 in the order of CLASSES."""
        return by_slot(self.counts, tuple(range(len(CLASSES))), device, torch.int64)

    def least_pt(self, like: torch.Tensor) -> torch.Tensor:
        """Return the smallest pT (slots,) of each slot's objects in GeV, 0 of the missing momentum, on the device and in the precision of events."""
        return by_slot(self.counts, (0.0, self.lepton_pt, self.lepton_pt, self.jet_pt), like.device, like.dtype)

    def largest_eta(self, like: torch.Tensor) -> torch.Tensor:
        """Return the largest |eta| (slots,) of each slot's objects, which the missing momentum never leaves."""
        bounds = (math.inf, self.electron_eta, self.muon_eta, self.jet_eta)
        return by_slot(self.counts, bounds, like.device, like.dtype)


@functools.cache
def by_slot(
    counts: tuple[int, ...], values: tuple[float, ...], device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Return the value of each class slot by slot (slots,): made once, since bringing it to a device waits for it."""
    rows = [value for value, count in zip(values, counts, strict=True) for _ in range(count)]
    return torch.tensor(rows, device=device, dtype=dtype)


@dataclass(frozen=True)
class EventAugmentations:
    """Which versions of an event a pair, and its anomalous partner, are made of.

    rotation, smearing: physical ones; added, split, shifted: anomalous ones, of which each event gets one. Raises ScorerError naming the option.
    """

    layout: EventLayout
    rotation: bool = True
    smearing: bool = True
    added: bool = True
    split: bool = True
    shifted: bool = True

    def __post_init__(self) -> None:
        require_switches(self, ("rotation", "smearing", *ANOMALIES))

    @property
    def anomalies(self) -> tuple[str, ...]:
        """The anomalous ones that are drawn from."""
        return tuple(name for name in ANOMALIES if getattr(self, name))

    def pair(self, events: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each event (n, slots, 3) as it is, and turned and smeared."""
        second = events
        if self.rotation:
            second = turned(second, generator)
        if self.smearing:
            second = angles_smeared(energies_smeared(second, self.layout, generator), self.layout, generator)
        return events, second

    def triple(
        self, events: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the pair, and an anomalous version (n, slots, 3) of each event."""
        return *self.pair(events, generator), anomalous(events, self.layout, generator, kinds=self.anomalies)


def turned(events: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return events turned around the beam, each by an azimuth of its own."""
    pt, eta, phi = events.unbind(dim=-1)
    return with_angles(pt, eta, phi + 2 * math.pi * uniform(events, (len(events), 1), generator))


def angles_smeared(events: torch.Tensor, layout: EventLayout, generator: torch.Generator) -> torch.Tensor:
    """Return events whose objects have moved in eta and phi by normal draws of width 0.028 below 25 GeV and 0 above; MET does not move.

    Objects whose |eta| is then beyond what is measured are removed.
    """
    pt, eta, phi = events.unbind(dim=-1)
    width = SMEAR * torch.sigmoid((SMEARED_BELOW - pt) / SMEAR_EDGE)
    width = torch.where(is_met(layout, events), 0.0, width)
    eta, phi = eta + width * normal(events, generator), phi + width * normal(events, generator)
    return with_angles(torch.where(eta.abs() <= layout.largest_eta(events), pt, 0.0), eta, phi)


def energies_smeared(events: torch.Tensor, layout: EventLayout, generator: torch.Generator) -> torch.Tensor:
    """Return events whose jets have another pT, a normal draw around it of width √(0.052 pT² + 1.502 pT); those at or below 0 are removed."""
    pt, eta, phi = events.unbind(dim=-1)
    jets = (layout.classes(events.device) == CLASSES.index("jet")) & (pt > 0)
    width = (CONSTANT_TERM * pt.square() + STOCHASTIC_TERM * pt).sqrt()
    drawn = (pt + width * normal(events, generator)).clamp(min=0)
    return with_angles(torch.where(jets, drawn, pt), eta, phi)


def added(events: torch.Tensor, layout: EventLayout, generator: torch.Generator) -> torch.Tensor:
    """Return events with more electrons, muons and jets, of each from none to as many as there are empty slots, and MET less their sum.

    pT is flat from the smallest that is measured to the largest of the event, eta flat in what is measured, phi flat.
    """
    pt, eta, phi = events.unbind(dim=-1)
    new = drawn_slots(events, layout, generator)
    met = is_met(layout, events)
    least = layout.least_pt(events)
    hardest = torch.where(met, 0.0, pt).amax(dim=1, keepdim=True)
    new_pt = least + (torch.maximum(hardest, least) - least) * uniform(events, pt.shape, generator)
    bound = torch.where(met, 0.0, layout.largest_eta(events))
    new_eta = bound * (2 * uniform(events, pt.shape, generator) - 1)
    new_phi = math.pi * (2 * uniform(events, pt.shape, generator) - 1)
    pt, eta, phi = torch.where(new, new_pt, pt), torch.where(new, new_eta, eta), torch.where(new, new_phi, phi)
    x, y = (
        (pt[:, 0] * turn(phi[:, 0]) - torch.where(new, new_pt * turn(new_phi), 0.0).sum(dim=1))
        for turn in (torch.cos, torch.sin)
    )
    some = new.any(dim=1, keepdim=True) & met
    pt = torch.where(some, torch.hypot(x, y)[:, None], pt)
    phi = torch.where(some, torch.atan2(y, x)[:, None], phi)
    return with_angles(pt, eta, phi)


def split(events: torch.Tensor, layout: EventLayout, generator: torch.Generator) -> torch.Tensor:
    """Return events of more objects at the same total pT and MET: from none to all empty slots of a kind take a part of one object of that kind.

    All parts of an object are where it was and have at least the smallest pT that is measured; what is above that is shared by a flat
    Dirichlet draw. A leading lepton of the trigger's pT or more keeps at least that. An object of less than twice the smallest pT stays whole.
    """
    pt = events[..., 0]
    classes = layout.classes(events.device)
    least = layout.least_pt(events)
    filled = (pt > 0) & (classes > 0)
    lepton = (classes == CLASSES.index("electron")) | (classes == CLASSES.index("muon"))
    leading = lepton & (pt >= layout.trigger_pt) & (pt >= torch.where(lepton, pt, 0.0).amax(dim=1, keepdim=True))
    kept = torch.where(leading, layout.trigger_pt, least)  # of what an object keeps
    most = torch.where(filled, ((pt - kept) / least.clamp(min=1.0e-9)).floor().clamp(min=0), 0.0)

    # each new part has one parent of its kind, (n, part, parent); a parent has no more parts than its pT allows
    new = drawn_slots(events, layout, generator)
    allowed = filled[:, None, :] & (classes[:, None] == classes) & (most > 0)[:, None, :]
    n, slots = pt.shape
    drawn = torch.where(allowed, uniform(events, (n, slots, slots), generator), -1.0)
    parent = drawn.argmax(dim=2, keepdim=True)
    chosen = torch.zeros_like(drawn).scatter_(2, parent, 1.0)
    chosen = chosen * (allowed.gather(2, parent) & new[..., None])
    chosen = chosen * (chosen.cumsum(dim=1) <= most[:, None, :])

    parts = chosen.sum(dim=1)
    spare = pt - torch.where(parts > 0, kept + parts * least, pt)  # what is shared beyond what every part has
    # sizes of a flat Dirichlet draw: exponential ones over their sum; each slot stands for its own
    size = (-torch.log1p(-uniform(events, pt.shape, generator))).clamp(min=1e-9)
    whole = size + torch.bmm(size[:, None], chosen)[:, 0]
    rest = torch.where(parts > 0, kept + spare * size / whole, pt)
    of_parent = torch.bmm(chosen, torch.stack([spare / whole, events[..., 1], events[..., 2]], dim=-1))
    is_new = chosen.sum(dim=2) > 0
    own = torch.where(is_new, least + of_parent[..., 0] * size, rest)
    eta, phi = (torch.where(is_new, of_parent[..., i], events[..., i]) for i in (1, 2))
    return with_angles(own, eta, phi)


def shifted(events: torch.Tensor, layout: EventLayout, generator: torch.Generator) -> torch.Tensor:
    """Return events in which, by a third of a chance each, MET is multiplied by 0.5 to 5, all other objects by 1 to 5, or everything by 1 to 5."""
    pt, eta, phi = events.unbind(dim=-1)
    kind = torch.randint(3, (len(events), 1), generator=generator, device=events.device)
    flat = uniform(events, (len(events), 1), generator)
    of_met, of_all = (low + (high - low) * flat for low, high in (MET_FACTORS, FACTORS))
    met = is_met(layout, events)
    factor = torch.where(met, torch.where(kind == 0, of_met, 1.0), torch.where(kind == 1, of_all, 1.0))
    return with_angles(pt * torch.where(kind == 2, of_all, factor), eta, phi)


def anomalous(
    events: torch.Tensor, layout: EventLayout, generator: torch.Generator, *, kinds: tuple[str, ...] = ANOMALIES
) -> torch.Tensor:
    """Return an anomalous version (n, slots, 3) of each event, of one kind drawn uniformly of `kinds`; those of more objects are smeared in angle."""
    makers: dict[str, Callable[[torch.Tensor, EventLayout, torch.Generator], torch.Tensor]] = {
        "added": added,
        "split": split,
        "shifted": shifted,
    }
    choice = torch.randint(len(kinds), (len(events), 1, 1), generator=generator, device=events.device)
    made = events
    # all are made of all events, since picking some would wait for the device
    for number, kind in enumerate(kinds):
        version = makers[kind](events, layout, generator)
        if kind != "shifted":
            version = angles_smeared(version, layout, generator)
        made = torch.where(choice == number, version, made)
    return made


def is_met(layout: EventLayout, events: torch.Tensor) -> torch.Tensor:
    """Tell which slots (slots,) hold the missing momentum."""
    return layout.classes(events.device) == CLASSES.index("MET")


def drawn_slots(events: torch.Tensor, layout: EventLayout, generator: torch.Generator) -> torch.Tensor:
    """Tell which empty slots (n, slots) are to be filled: of each kind the first ones, from none to all, as many as is drawn."""
    empty = events[..., 0] <= 0
    new = torch.zeros_like(empty)
    first = 0
    for count in layout.counts:
        if first and count:
            own = empty[:, first : first + count]
            number = own.sum(dim=1, keepdim=True)
            drawn = (uniform(events, (len(events), 1), generator) * (number + 1)).floor().clamp(max=number)
            new[:, first : first + count] = own & (own.cumsum(dim=1) <= drawn)
        first += count
    return new


def as_objects(x: npt.ArrayLike, name: str, layout: EventLayout) -> npt.NDArray[np.float64]:
    """Return events (n, slots, 3) in float64, or say what is wrong with them.

    x: (n, slots, 3) of pT, eta and phi, or (n, slots, 4) with a class beside: 1 to 4 for MET, electrons, muons and jets, 0 for an empty slot.
    Raises ShapeError, NegativePixelError for a pT below 0, EmptyImageError for an event without electron, muon and jet, ScorerError for a class
    that does not go with pT or slot, and what `as_jets` raises.
    """
    events = as_jets(x, name=name, each="event")
    if events.shape[1] != layout.slots or events.shape[2] not in {POLAR, POLAR + 1}:
        wanted = ", ".join(f"{count} of {kind}" for kind, count in zip(CLASSES, layout.counts, strict=True))
        raise ShapeError(
            f"{name}: events of {events.shape[1:]} numbers; allowed: ({layout.slots}, 3) of pT, eta, phi, or ({layout.slots}, 4) "
            f"with a class: slots are {wanted}; no photons, and no list of objects (representation objects of layout: classes)"
        )
    pt = events[..., 0]
    negative = (pt < 0).any(axis=1)
    if negative.any():
        first = int(np.flatnonzero(negative)[0])
        raise NegativePixelError(
            f"{name}: {negative.sum()} of {len(events)} events have an object of pT below 0, first {first}: {pt[first].min():g}; allowed: 0 or more"
        )
    if events.shape[2] > POLAR:
        classes = np.repeat(np.arange(1, len(CLASSES) + 1), layout.counts)
        wrong = np.argwhere(events[..., POLAR] != np.where(pt > 0, classes, 0))
        if len(wrong):
            event, slot = wrong[0]
            right = f"{classes[slot]} ({CLASSES[classes[slot] - 1]})" if pt[event, slot] > 0 else "0, an empty slot"
            raise ScorerError(
                f"{name}: the class does not go with pT and slot in {len(np.unique(wrong[:, 0]))} of {len(events)} events, first event {event}: "
                f"slot {slot} of pT {pt[event, slot]:g} has class {events[event, slot, POLAR]:g}, allowed: {right}"
            )
    nothing = ~(pt[:, 1:] > 0).any(axis=1)
    if nothing.any():
        first = int(np.flatnonzero(nothing)[0])
        raise EmptyImageError(
            f"{name}: {nothing.sum()} of {len(events)} events have no electron, muon or jet, first {first}"
        )
    return np.where((pt > 0)[..., None], events[..., :POLAR], 0.0)
