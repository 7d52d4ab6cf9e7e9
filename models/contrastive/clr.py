"""Encoders that learn from pairs of versions of the same event, without a label: jets of constituents, and whole events (arXiv:2108.04253, 2301.04660).

An encoder is no scorer: `encode` gives a row of numbers an event, on which any scorer of rows may be trained. What it has learned of the events that
it was trained on is in these rows, so that it belongs to the fold of the scorer on top.
"""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch

from ... import __version__
from ...errors import shown, unknown_name
from ..autoencoders.set_scaling import as_sets, polar
from ..distance.clouds import EmptyImageError
from ..inputs import (
    NonFiniteError,
    ScorerError,
    TooFewRowsError,
    require_numbers,
    require_switches,
    require_whole,
    whole_number,
)
from ..sample import Events, event_hashes, refuse_unused, sample_names, single_jet, split_rows
from ..scorer import Method, require_fitted
from ..storage import RECORD, ScorerFolderError, read_folder, write_folder
from ..train.loop import TrainingSettings, named_device, resolve_device, train_stack
from ..train.threads import few_threads
from .event_augmentations import EventAugmentations, EventLayout, as_objects
from .jet_augmentations import JetAugmentations
from .losses import LOSSES, PLAIN, WITH_ANOMALIES
from .set_transformer import SetTransformer, TransformerSizes
from .training import ContrastiveObjective, Versions, collapse_of

__all__ = ["AnomalyCLR", "Encoder", "JetCLR", "rebuilt_encoder"]

logger = logging.getLogger(__name__)

Array = npt.NDArray[np.float64]
MIN_EVENTS = 100
LEAST_HELD = 2  # held-out events: a loss takes each against the others
ENCODE_ROWS = 512  # events a step of encoding: fixed, so that representations do not depend on how many come at once
ENCODE_THREADS = 4
LARGEST_PT, LARGEST_ANGLE = 1e9, 100.0  # GeV, and |eta| or |phi|
TRAINED_ON = "trained_on"  # the tensor of a folder that is no weight
AROUND = "Encoded"  # the class of a folder that holds an encoder and what is trained on its representations


@dataclass(kw_only=True, eq=False, repr=False)
class Encoder(Method):
    """Base of the encoders; what they have in common.

    loss: one of `losses` (`losses.py`); temperature: τ of it; width, heads, layers, feedforward: of the transformer (`set_transformer.py`);
    dims: numbers of the representation; projection: of what the loss sees; dropout: part that is left out while training; infrared_safe: whether
    what has little pT fades out. seed, device, max_epochs, patience, batch_size, learning_rate: see `TrainingSettings`; a batch is what each event is
    told from: it is no larger than the training sample, and no event is twice in it. An epoch has 50 to 300 batches, so that a small sample is passed through several
    times, and of one of more than 300 batches an epoch sees a part; "steps_per_epoch" of the record says how many.

    unit_: the median over training events of the sum of pT, in GeV, in which the network takes pT; network_: the fitted network; slots_: of an event;
    trained_on: the sorted hashes of the events that it has seen in `fit`, those for validation too, none where they had none.
    """

    takes: ClassVar = ("sets",)
    least: ClassVar = MIN_EVENTS
    losses: ClassVar[tuple[str, ...]]
    whole_events: ClassVar[bool] = False  # whether it takes objects of events, and no constituents of jets
    shown: ClassVar = ("loss", "dims")

    loss: str = "nt_xent"
    temperature: float = 0.1
    width: int = 128
    heads: int = 4
    layers: int = 2
    feedforward: int = 128
    dims: int = 128
    projection: int = 128
    dropout: float = 0.1
    infrared_safe: bool = True
    max_epochs: int = 100
    patience: int = 20
    batch_size: int = 128
    learning_rate: float = 5e-4
    network_: SetTransformer | None = field(default=None, init=False)
    unit_: float = field(default=math.nan, init=False)
    slots_: int = field(default=0, init=False)
    trained_on: npt.NDArray[np.uint64] = field(default_factory=lambda: event_hashes([]), init=False)

    @property
    @abstractmethod
    def inputs(self) -> int:
        """Numbers that the network takes of a slot."""

    @abstractmethod
    def versions(self) -> Versions:
        """Return what makes versions of events (n, slots, 3) for the loss; raises ScorerError for options that mean nothing."""

    @abstractmethod
    def features(self, sets: torch.Tensor, unit: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the network takes of sets (..., slots, 3): (..., slots, inputs), and pT (..., slots) in the unit."""

    @abstractmethod
    def sets_of(self, x: npt.ArrayLike, name: str, *, slots: int = 0) -> Array:
        """Return events (n, slots, 3) of pT, eta, phi in float64, or say what is wrong with them; slots: that are expected, 0 for any."""

    def fit(
        self,
        x: Events,
        *,
        validation: Events | None = None,
        checkpoint: str | Path | None = None,
        keep_checkpoint: bool = False,
        progress: bool = False,
    ) -> Self:
        """Train on events x (n, slots, 3), n at least 100, and return self.

        validation: events for early stopping, else 15 % of x by seed; checkpoint: a file to resume a killed training from; keep_checkpoint: whether it
        stays at the end, for whoever has more to train; progress: a bar on stderr, or a log line in 30 s. The record of the training holds figures of each epoch ("monitor") and what the representation has collapsed to
        ("collapse", see `training.py`; "" for nothing), which is logged as well. Raises ScorerError for options that mean nothing, TooFewRowsError,
        ShapeError, NonFiniteError, EmptyImageError for events with nothing in them, NegativePixelError, DeviceError, TrainingDivergedError.
        """
        refuse_unused(x, self.uses, type(self).__name__)
        self.check()
        names, made = sample_names(x)
        sets = self.sets_of(single_jet(x, names), "x")
        if len(sets) < MIN_EVENTS:
            raise TooFewRowsError(f"x: has {len(sets)} events, at least {MIN_EVENTS} are needed")
        slots = sets.shape[1]
        if validation is None:
            train, held = split_rows(sets, np.random.default_rng(self.seed))
        else:
            given = single_jet(validation, names, made=made, where="validation")
            train, held = sets, self.sets_of(given, "validation", slots=slots)
            if len(held) < LEAST_HELD:
                raise TooFewRowsError(f"validation: has {len(held)} events, at least {LEAST_HELD} are needed")
        unit = float(np.median(train[..., 0].sum(axis=1)))
        network = self._network()
        objective = ContrastiveObjective(
            network,
            versions=self.versions(),
            features=lambda some: self.features(some, unit),
            loss=self.loss,
            temperature=self.temperature,
        )
        record = train_stack(
            objective,
            [torch.from_numpy(train).float()],
            [torch.from_numpy(held).float()],
            settings=self._settings(len(train)),
            seed=self.seed,
            device=resolve_device(self.device),
            identity={name: value for name, value in self.parameters().items() if name != "device"},
            checkpoint=checkpoint,
            keep_checkpoint=keep_checkpoint,
            progress=progress,
        )
        collapse = collapse_of(record)
        if collapse:
            logger.warning(
                "%s: the representation that was chosen has collapsed to a %s", type(self).__name__, collapse
            )
        self.training_ = {**record, "collapse": collapse}
        # representations are float64 on the CPU wherever the training ran
        self.network_ = network.to("cpu").double().requires_grad_(requires_grad=False)
        self.unit_, self.slots_ = unit, slots
        self.input_names, self.made_ = names, made
        self.trained_on = event_hashes([x, validation])
        return self

    @torch.no_grad()
    def encode(self, x: Events) -> Array:
        """Return the representation (n, dims) of events; deterministic, one event does not depend on the others. Errors as in `fit`."""
        network = require_fitted(self.network_, self)
        given = single_jet(x, self.input_names, made=self.made_)
        sets = torch.from_numpy(self.sets_of(given, "x", slots=self.slots_))
        found = [np.empty((0, self.dims))]
        with few_threads(ENCODE_THREADS):
            for first in range(0, len(sets), ENCODE_ROWS):
                inputs, pt = self.features(sets[None, first : first + ENCODE_ROWS], self.unit_)
                found.append(network(inputs, pt)[0][0].numpy())
        return np.concatenate(found)

    def stored(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Return what is written of a fitted encoder: a JSON-like record and tensors, from which `from_stored` rebuilds it."""
        network = require_fitted(self.network_, self)
        record = {
            "class": type(self).__name__,
            "version": __version__,
            "parameters": self.parameters(),
            "input_names": list(self.input_names),
            "inputs_made": dict(self.made_),
            "state": {"slots": self.slots_, "unit": self.unit_},
            "training": dict(self.training_),
        }
        tensors = {name: p.detach() for name, p in network.named_parameters()}
        return record, {**tensors, TRAINED_ON: torch.from_numpy(self.trained_on)}

    def save(self, path: str | Path) -> None:
        """Write the folder that `load` reads."""
        record, tensors = self.stored()
        write_folder(path, record, tensors)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return the fitted encoder of a folder; raises ScorerFolderError naming the file and what is wrong with it, another class too."""
        found = rebuilt_encoder(path, {own.__name__: own for own in (AnomalyCLR, JetCLR, cls)})
        if not isinstance(found, cls):
            raise ScorerFolderError(
                f"{Path(path) / RECORD}: holds a {type(found).__name__}, a {cls.__name__} is expected"
            )
        return found

    @classmethod
    def from_stored(cls, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """Rebuild from what `stored` gave; raises ScorerError, KeyError, TypeError, ValueError or RuntimeError where it does not fit."""
        encoder = cls(**record["parameters"])
        encoder.check()
        slots, unit = whole_number("slots", record["state"]["slots"]), float(record["state"]["unit"])
        if slots < 1 or not 0 < unit < math.inf:
            raise ScorerError(f"slots is {slots} and unit {unit}, numbers above 0 are needed")
        network, tensors = encoder._network(), dict(tensors)
        encoder.trained_on = tensors.pop(TRAINED_ON).numpy()
        found = sum(tensor.numel() for tensor in tensors.values())
        if found != network.sizes.size:
            raise ScorerError(f"{network.sizes} has {network.sizes.size} weights, the folder holds {found}")
        network.double().requires_grad_(requires_grad=False).load_state_dict(tensors)
        if not all(bool(torch.isfinite(p).all()) for p in network.parameters()):
            raise ScorerError("a weight is not finite")
        names = record.get("input_names", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ScorerError(f"input_names is {shown(names)}, a list of names is expected")
        encoder.network_, encoder.unit_, encoder.slots_ = network, unit, slots
        encoder.input_names, encoder.made_ = tuple(names), dict(record.get("inputs_made", {}))
        encoder.training_ = dict(record["training"])
        return encoder

    def check(self, shape: Sequence[int] = ()) -> None:
        """Raise ScorerError for options that mean nothing."""
        del shape
        if self.loss not in self.losses:
            raise ScorerError(unknown_name("loss", str(self.loss), self.losses, type(self).__name__))
        require_numbers(self, ("temperature", "learning_rate"))
        require_numbers(self, ("dropout",), zero=True)
        if self.dropout >= 1:
            raise ScorerError(f"dropout is {self.dropout}, allowed: 0 to 1, and below 1")
        require_whole(self, {"seed": 0, "max_epochs": 1, "patience": 1, "batch_size": 2})
        require_switches(self, ("infrared_safe",))
        named_device(self.device)
        _ = self._sizes
        self.versions()

    @property
    def _sizes(self) -> TransformerSizes:
        return TransformerSizes(
            self.inputs, self.width, self.heads, self.layers, self.feedforward, self.dims, self.projection
        )

    def _network(self) -> SetTransformer:
        """Return a network of fresh weights."""
        return SetTransformer(1, self._sizes, seed=self.seed, dropout=self.dropout, infrared_safe=self.infrared_safe)

    def _settings(self, events: int) -> TrainingSettings:
        """Return the settings of a training on so many events, none of which is to be told from itself in a batch larger than all of them."""
        return TrainingSettings(
            max_epochs=self.max_epochs,
            patience=self.patience,
            batch_size=min(self.batch_size, events),
            learning_rate=self.learning_rate,
        )


@dataclass(kw_only=True, eq=False, repr=False)
class JetCLR(Encoder):
    """Representation of a jet that rotations, translations, soft radiation and collinear splittings of its constituents leave alone (arXiv:2108.04253).

    Jets are (n, slots, 3) of pT (GeV), eta and phi relative to the jet's axis, or (n, slots, 4) of E, px, py, pz in a frame where the jet lies along
    eta = phi = 0; slots whose first number is 0 are empty.

    rotation, translation, collinear, soft, soft_scale, spare_slots: of the versions that are told to be alike (`jet_augmentations.py`), of which the spare slots
    are for collinear splittings of jets that fill all of theirs; the others: see `Encoder`.
    """

    losses: ClassVar = PLAIN

    rotation: bool = True
    translation: bool = True
    collinear: bool = True
    soft: bool = True
    soft_scale: float = 0.1
    spare_slots: int = 10

    @property
    def inputs(self) -> int:
        """Numbers that the network takes of a slot: pT, eta and phi."""
        return 3

    def versions(self) -> Versions:
        """Return what makes pairs of jets."""
        return JetAugmentations(
            rotation=self.rotation,
            translation=self.translation,
            collinear=self.collinear,
            soft=self.soft,
            soft_scale=self.soft_scale,
            spare_slots=self.spare_slots,
        ).pair

    def features(self, sets: torch.Tensor, unit: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return pT in the unit, eta and phi (..., slots, 3), and pT in the unit (..., slots)."""
        pt = sets[..., 0] / unit
        return torch.cat([pt[..., None], sets[..., 1:]], dim=-1), pt

    def sets_of(self, x: npt.ArrayLike, name: str, *, slots: int = 0) -> Array:
        """Return jets (n, slots, 3); any number of slots may be encoded, since empty ones change nothing."""
        del slots
        jets = as_sets(x, name)
        sets = polar(jets)
        there = (jets[..., :1] > 0) & (sets[..., :1] > 0)
        nothing = ~there.any(axis=(1, 2))
        if nothing.any():
            raise EmptyImageError(
                f"{name}: {nothing.sum()} of {len(jets)} jets have no constituents with pT, first {np.flatnonzero(nothing)[0]}"
            )
        return measured(np.where(there, sets, 0.0), name)


@dataclass(kw_only=True, eq=False, repr=False)
class AnomalyCLR(Encoder):
    """Representation of a whole event that measuring it again leaves alone and that anomalous versions of it change (arXiv:2301.04660).

    Events are (n, slots, 3) of pT (GeV), eta and phi: the missing momentum, then electrons, muons and jets, as many slots of each as the options say,
    or (n, slots, 4) with the class of each object beside; slots without pT are empty.

    loss: "anomclr" and "anomclr_plus" need anomalous versions, the others do not make any. "anomclr_plus" can end in a representation that tells
    anomalous versions from all events and nothing else: see "collapse" in the record. electrons, muons, jets, electron_eta, muon_eta, jet_eta, lepton_pt,
    jet_pt, trigger_pt: see `EventLayout`; rotation, smearing: of the versions that are told to be alike; added, split, shifted: of the anomalous ones
    (`event_augmentations.py`); the others: see `Encoder`.
    """

    losses: ClassVar = LOSSES
    whole_events: ClassVar = True

    loss: str = "anomclr"
    dims: int = 32
    infrared_safe: bool = False
    electrons: int = 4
    muons: int = 4
    jets: int = 10
    electron_eta: float = 3.0
    muon_eta: float = 2.1
    jet_eta: float = 4.0
    lepton_pt: float = 3.0
    jet_pt: float = 15.0
    trigger_pt: float = 23.0
    rotation: bool = True
    smearing: bool = True
    added: bool = True
    split: bool = True
    shifted: bool = True

    @property
    def layout(self) -> EventLayout:
        """Which slots hold what; raises ScorerError naming the option."""
        return EventLayout(
            electrons=self.electrons,
            muons=self.muons,
            jets=self.jets,
            electron_eta=self.electron_eta,
            muon_eta=self.muon_eta,
            jet_eta=self.jet_eta,
            lepton_pt=self.lepton_pt,
            jet_pt=self.jet_pt,
            trigger_pt=self.trigger_pt,
        )

    @property
    def inputs(self) -> int:
        """Numbers that the network takes of a slot: pT, eta, cos phi, sin phi, and one for each of the four classes."""
        return 8

    def versions(self) -> Versions:
        """Return what makes pairs of events, or three of each with anomalous ones."""
        made = EventAugmentations(
            self.layout,
            rotation=self.rotation,
            smearing=self.smearing,
            added=self.added,
            split=self.split,
            shifted=self.shifted,
        )
        if self.loss not in WITH_ANOMALIES:
            return made.pair
        if not made.anomalies:
            raise ScorerError(
                f"loss is {self.loss!r} and added, split and shifted are false: one of them is needed, or loss: {', '.join(PLAIN)}"
            )
        return made.triple

    def features(self, sets: torch.Tensor, unit: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return pT in the unit, eta, cos phi, sin phi and the class (..., slots, 8), and pT in the unit (..., slots)."""
        pt, eta, phi = sets.unbind(dim=-1)
        pt = pt / unit
        classes = self.layout.classes(sets.device)
        one_hot = (classes[:, None] == torch.arange(4, device=sets.device)).to(sets.dtype).expand(*sets.shape[:-1], 4)
        return torch.cat([torch.stack([pt, eta, phi.cos(), phi.sin()], dim=-1), one_hot], dim=-1), pt

    def sets_of(self, x: npt.ArrayLike, name: str, *, slots: int = 0) -> Array:
        """Return events (n, slots, 3), of as many slots as the options say."""
        del slots
        return measured(as_objects(x, name, self.layout), name)


def measured(sets: Array, name: str) -> Array:
    """Return sets (n, slots, 3), or raise NonFiniteError for numbers that no momentum has and that single precision would not hold."""
    far = np.argwhere(np.abs(sets).max(axis=1, initial=0.0) > (LARGEST_PT, LARGEST_ANGLE, LARGEST_ANGLE))
    if not len(far):
        return sets
    event, number = far[0]
    found = sets[event, :, number][np.abs(sets[event, :, number]).argmax()]
    raise NonFiniteError(
        f"{name}: {len(np.unique(far[:, 0]))} of {len(sets)} events have numbers that no momentum has, first {event}: "
        f"{('pT', 'eta', 'phi')[number]} {found:g}; allowed: pT up to {LARGEST_PT:g} GeV, eta and phi within ±{LARGEST_ANGLE:g}"
    )


def inner_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of the encoder in that of an `Encoded`; empty where there is none."""
    state = record.get("state")
    inner = state.get("encoder") if isinstance(state, Mapping) else None
    return dict(inner) if isinstance(inner, Mapping) else {}


def rebuilt_encoder(path: str | Path, classes: Mapping[str, type[Any]]) -> Any:
    """Return the fitted encoder of a folder, or that of an `Encoded`, one of some classes by name.

    Raises ScorerFolderError naming the file and what is wrong with it.
    """
    record, tensors = read_folder(path)
    where = Path(path) / RECORD
    name = record.get("class")
    if name == AROUND:
        begins = "encoder."
        tensors = {key.removeprefix(begins): value for key, value in tensors.items() if key.startswith(begins)}
        record = inner_record(record)
        name = record.get("class")
    if not isinstance(name, str):
        raise ScorerFolderError(f"{where}: damaged, no class name in it")
    if name not in classes:
        raise ScorerFolderError(unknown_name("encoder", name, classes, str(where)))
    try:
        return classes[name].from_stored(record, tensors)
    except ScorerError as error:
        raise ScorerFolderError(f"{where}: does not describe a fitted {name}: {error}") from error
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError, AttributeError, OverflowError) as error:
        raise ScorerFolderError(f"{where}: does not describe a fitted {name}: {error!r}") from error
