"""Autoencoders of whole events, variational or not: what is reconstructed badly, or lies far out in the latent space, is anomalous (arXiv:1901.00875, 2010.07940, 2105.14027).

They are encoders too: `Encoded` trains any scorer of rows on their latent space, in the same fold.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch

from ... import __version__
from ...errors import shown
from ..density.autoencoder import kl_of_each
from ..generation import as_latent
from ..inputs import ScorerError, TooFewRowsError, check_metric, require_seed, whole_number
from ..sample import Events, event_hashes, refuse_unused, sample_names, single_jet, split_rows
from ..scorer import Method, require_fitted
from ..storage import write_folder
from ..train.loop import TrainingSettings, named_device, resolve_device, train_stack
from ..train.objective import Objective
from ..train.threads import few_threads
from .event_coordinates import EventCoordinates, as_events
from .event_network import EventSizes, StackedEventCoder, squared_error

__all__ = ["EventAutoencoder", "EventCoder", "EventVae"]

Array = npt.NDArray[np.float64]
MIN_EVENTS = 100
SIZES = {"latent": (1, 10_000), "hidden": (1, 10_000), "blocks": (0, 100)}  # least and most of each option
SCORE_ROWS = 4096  # events a step of scoring: fixed, so that scores do not depend on how many come at once
SCORE_THREADS = 4
COORDINATES = "coordinates."  # begins the names of the tensors of the coordinates
SWITCHES = ("always", "seen")  # of the coordinates, true or false each
BUFFER = "buffer"
TRAINED_ON = "trained_on"


@dataclass(kw_only=True, eq=False, repr=False)
class EventCoder(Method):
    """Base of the autoencoders of whole events; what they have in common.

    Events are (n, slots, 3) of pT, eta and phi, or (n, slots, 5) with energy and category, as the representation `objects` gives them; slots of pT 0 are
    empty. `event_coordinates.py` says what the network sees of them, `event_network.py` what it looks like.

    latent: dimensions; hidden, blocks: of the network; mask_padding: whether the numbers of empty slots are left out of the error, which they otherwise
    dominate where events have few objects. seed, device, max_epochs, patience, batch_size, learning_rate: see `TrainingSettings`.

    coordinates_, network_: what was fitted; slots_: of an event; trained_on: the sorted hashes of the events that it has seen in `fit`, those for
    validation too, none where they had none.
    """

    takes: ClassVar = ("sets",)
    least: ClassVar = MIN_EVENTS
    shown: ClassVar[tuple[str, ...]] = ("latent",)
    whole_events: ClassVar = None  # constituents of jets are objects as good
    variational: ClassVar[bool]
    metrics: ClassVar[tuple[str, ...]]

    latent: int = 8
    hidden: int = 128
    blocks: int = 2
    mask_padding: bool = True
    max_epochs: int = 60
    patience: int = 10
    batch_size: int = 512
    learning_rate: float = 1e-3
    coordinates_: EventCoordinates | None = field(default=None, init=False)
    network_: StackedEventCoder | None = field(default=None, init=False)
    trained_on: npt.NDArray[np.uint64] = field(default_factory=lambda: event_hashes([]), init=False)

    @property
    def dims(self) -> int:
        """Numbers of a representation, for which the latent means stand."""
        return self.latent

    @property
    def slots_(self) -> int:
        """Slots of an event, 0 before the training."""
        return 0 if self.coordinates_ is None else self.coordinates_.shape[0]

    @property
    @abstractmethod
    def weight_of_kl(self) -> float:
        """What the KL is multiplied by."""

    def fit(
        self,
        x: Events,
        *,
        validation: Events | None = None,
        checkpoint: str | Path | None = None,
        keep_checkpoint: bool = False,
        progress: bool = False,
    ) -> Self:
        """Train on events x (n, slots, numbers), n at least 100, and return self.

        validation: events for early stopping, else 15 % of x by seed; checkpoint: a file to resume a killed training from; keep_checkpoint: whether it stays
        at the end, for whoever has more to train; progress: a bar on stderr, or a log line in 30 s. Raises ScorerError for options that mean
        nothing and what `as_events` does, TooFewRowsError, ShapeError, NonFiniteError, DeviceError, TrainingDivergedError.
        """
        refuse_unused(x, self.uses, type(self).__name__)
        self.check()
        names, made = sample_names(x)
        events = self.sets_of(single_jet(x, names), "x")
        if len(events) < MIN_EVENTS:
            raise TooFewRowsError(f"x: has {len(events)} events, at least {MIN_EVENTS} are needed")
        if validation is None:
            train, held = split_rows(events, np.random.default_rng(self.seed))
        else:
            given = single_jet(validation, names, made=made, where="validation")
            train, held = events, as_events(given, "validation", shape=events.shape[1:])
            if not len(held):
                raise TooFewRowsError("validation: has 0 events, at least 1 is needed")
        coordinates = EventCoordinates.of(train)
        network = self._network(coordinates)
        self.training_ = train_stack(
            Objective(network),
            [self._told(coordinates, train)],
            [self._told(coordinates, held)],
            settings=self._settings(),
            seed=self.seed,
            device=resolve_device(self.device),
            identity={name: value for name, value in self.parameters().items() if name != "device"},
            checkpoint=checkpoint,
            keep_checkpoint=keep_checkpoint,
            progress=progress,
        )
        # scores are float64 on the CPU wherever the training ran
        self.network_ = network.to("cpu").double().requires_grad_(requires_grad=False)
        self.coordinates_ = coordinates
        self.input_names, self.made_ = names, made
        self.trained_on = event_hashes([x, validation])
        self._finish(train)
        return self

    def score(self, x: Events, *, metric: str | None = None) -> Array:
        """Return (n,) scores, larger = more anomalous; metric: one of `metrics`. Errors as in `fit`."""
        metric = check_metric(metric, self.metrics, type(self).__name__)
        return self.score_each(x, [metric])[metric]

    def score_each(self, x: Events, metrics: Sequence[str]) -> dict[str, Array]:
        """Return metric -> (n,) scores of one inference."""
        chosen = [check_metric(metric, self.metrics, type(self).__name__) for metric in metrics]
        network, coordinates = require_fitted(self.network_, self), require_fitted(self.coordinates_, self)

        def figures(events: Array) -> Array:
            rows, counted = (torch.from_numpy(part)[None] for part in self._parts(coordinates, events))
            mu, log_sigma = network.encode(rows)
            error = squared_error(network.decode(mu), rows, counted)
            found = {"reconstruction": error, "radius": mu.square().sum(dim=-1).sqrt()}
            if log_sigma is not None:
                kl = kl_of_each(mu, log_sigma).sum(dim=-1)
                found |= {
                    "kl": kl,
                    "loss": (1 - network.beta) * error + network.beta * kl,
                    "sigma_radius": (mu.square() * torch.exp(-2 * log_sigma)).sum(dim=-1).sqrt(),
                }
            return torch.stack([found[name][0] for name in chosen], dim=1).numpy()

        return dict(zip(chosen, self._by_parts(self._known(x), figures, len(chosen)).T, strict=True))

    def encode(self, x: Events) -> Array:
        """Return the representation (n, latent) of events, their latent means; errors as in `fit`."""
        return self.latent_means(x)

    def latent_means(self, x: Events) -> Array:
        """Return the latent means (n, latent) of events."""
        return self._codes(self._known(x))[:, : self.latent]

    def reconstruct(self, x: Events) -> Array:
        """Return the reconstructions (n, slots, numbers) of events at the latent mean, in their own units."""
        return self.decode(self.latent_means(x))

    def decode(self, z: npt.ArrayLike) -> Array:
        """Return the events (n, slots, numbers) of latent points z (n, latent), in the units of the training; objects may be out of order.

        Raises NotFittedError, ShapeError, NonFiniteError.
        """
        network, coordinates = require_fitted(self.network_, self), require_fitted(self.coordinates_, self)

        def decoded(points: Array) -> Array:
            return network.decode(torch.from_numpy(points)[None])[0].numpy()

        return coordinates.events(self._by_parts(as_latent(z, self.latent), decoded, coordinates.width))

    def sets_of(self, x: npt.ArrayLike, name: str, *, slots: int = 0) -> Array:
        """Return events (n, slots, numbers) in float64, or say what is wrong with them; slots: that are expected, 0 for any."""
        del slots  # the coordinates know them
        return as_events(x, name, shape=None if self.coordinates_ is None else self.coordinates_.shape)

    def stored(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Return what is written of a fitted scorer: a JSON-like record and tensors, from which `from_stored` rebuilds it."""
        network, coordinates = require_fitted(self.network_, self), require_fitted(self.coordinates_, self)
        slots, numbers = coordinates.shape
        record = {
            "class": type(self).__name__,
            "version": __version__,
            "parameters": self.parameters(),
            "metrics": list(self.metrics),
            "n_features": slots * numbers,
            "input_names": list(self.input_names),
            "inputs_made": dict(self.made_),
            "state": {"slots": slots, "numbers": numbers},
            "training": dict(self.training_),
        }
        tensors = {name: p.detach() for name, p in network.named_parameters()}
        tensors |= coordinates_stored(coordinates)
        return record, {**tensors, TRAINED_ON: torch.from_numpy(self.trained_on)}

    def save(self, path: str | Path) -> None:
        """Write the folder that `load_scorer` reads."""
        record, tensors = self.stored()
        write_folder(path, record, tensors)

    @classmethod
    def from_stored(cls, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """Rebuild from what `stored` gave."""
        scorer = cls(**record["parameters"])
        scorer.check()
        weights = dict(tensors)
        scorer.trained_on = weights.pop(TRAINED_ON).numpy()
        coordinates = coordinates_from(weights)
        slots, numbers = (whole_number(name, record["state"][name]) for name in ("slots", "numbers"))
        if coordinates.shape != (slots, numbers) or record["n_features"] != slots * numbers:
            raise ScorerError(
                f"tells events of {shown(record['state'])}, the coordinates are of {coordinates.shape} numbers"
            )
        scorer._restore(weights)
        sizes = scorer._sizes(coordinates)  # compared first: a network of sizes that are wrong may not fit into memory
        found = sum(tensor.numel() for tensor in weights.values())
        if found != sizes.size:
            raise ScorerError(f"{sizes} has {sizes.size} weights, the folder holds {found}")
        if not all(tensor.is_floating_point() for tensor in weights.values()):
            raise ScorerError("a weight is no real number")
        network = scorer._network(coordinates)
        network.double().requires_grad_(requires_grad=False).load_state_dict(weights)
        if not all(bool(torch.isfinite(p).all()) for p in network.parameters()):
            raise ScorerError("a weight is not finite")
        scorer.network_, scorer.coordinates_ = network, coordinates
        scorer.input_names, scorer.made_ = names_from(record), dict(record.get("inputs_made", {}))
        scorer.training_ = dict(record["training"])
        return scorer

    def check(self, shape: Sequence[int] = ()) -> None:
        """Raise ScorerError for options that mean nothing."""
        del shape
        require_seed(self)
        for name, (least, most) in SIZES.items():
            if not least <= whole_number(name, getattr(self, name)) <= most:
                raise ScorerError(f"{name} is {shown(getattr(self, name))}, allowed: {least} to {most}")
        if not isinstance(self.mask_padding, bool):
            raise ScorerError(f"mask_padding is {shown(self.mask_padding)}, allowed: true or false")
        named_device(self.device)
        self._settings()

    def _finish(self, train: Array) -> None:
        """Keep what else is needed of the training events (n, slots, numbers)."""

    def _restore(self, weights: dict[str, torch.Tensor]) -> None:
        """Take what `_finish` kept out of the tensors of a folder."""

    def _settings(self) -> TrainingSettings:
        return TrainingSettings(
            max_epochs=self.max_epochs,
            patience=self.patience,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
        )

    def _sizes(self, coordinates: EventCoordinates) -> EventSizes:
        return EventSizes(coordinates.width, self.latent, self.hidden, self.blocks, self.variational)

    def _network(self, coordinates: EventCoordinates) -> StackedEventCoder:
        """Return a network of fresh weights."""
        return StackedEventCoder(1, self._sizes(coordinates), seed=self.seed, beta=self.weight_of_kl)

    def _parts(self, coordinates: EventCoordinates, events: Array) -> tuple[Array, Array]:
        """Return rows of events, and 1 where a number counts, (n, width) each."""
        rows = coordinates.rows(events)
        counted = coordinates.counted(events if self.mask_padding else None)
        return rows, np.broadcast_to(counted, rows.shape).astype(np.float64)

    def _told(self, coordinates: EventCoordinates, events: Array) -> torch.Tensor:
        """Return events as the training takes them, (n, 2 · width) in single precision."""
        return torch.from_numpy(np.concatenate(self._parts(coordinates, events), axis=1)).float()

    def _known(self, x: Events) -> Array:
        """Return the events to score."""
        require_fitted(self.coordinates_, self)
        return self.sets_of(single_jet(x, self.input_names, made=self.made_), "x")

    def _codes(self, events: Array) -> Array:
        """Return what the encoder gives of events side by side: (n, 2 · latent) means and log sigma, or (n, latent)."""
        network, coordinates = require_fitted(self.network_, self), require_fitted(self.coordinates_, self)

        def codes(part: Array) -> Array:
            found = network.encode(torch.from_numpy(coordinates.rows(part))[None])
            return torch.cat([values[0] for values in found if values is not None], dim=1).numpy()

        return self._by_parts(events, codes, 2 * self.latent if self.variational else self.latent)

    @torch.no_grad()
    def _by_parts(self, values: Array, function: Callable[[Array], Array], width: int) -> Array:
        """Return what a function gives of some values after another, (n, width)."""
        found = [np.empty((0, width))]
        with few_threads(SCORE_THREADS):
            found += [function(values[first : first + SCORE_ROWS]) for first in range(0, len(values), SCORE_ROWS)]
        return np.concatenate(found)


@dataclass(kw_only=True, eq=False, repr=False)
class EventVae(EventCoder):
    """A (beta-)VAE of whole events: score = (1 − beta) · error of the reconstruction + beta · KL, or how far out in the latent space an event lies.

    beta: 0 to 1; at 1 nothing is reconstructed, and the latent space is the prior for every event. The error is the mean over the numbers that count, the KL the
    sum over the latent dimensions. buffer: training events, drawn by seed, whose latent Gaussians are kept for the generation of events, 0 for none; the others:
    see `EventCoder`.

    metrics, all at the latent mean and deterministic: "loss" (default), "reconstruction" (the error), "kl", "radius" (of the latent mean, √Σ mu²) and
    "sigma_radius" (√Σ mu²/sigma²).
    """

    variational: ClassVar = True
    metrics: ClassVar = ("loss", "reconstruction", "kl", "radius", "sigma_radius")
    shown: ClassVar = ("latent", "beta")

    beta: float = 1e-3
    buffer: int = 0
    buffer_: tuple[Array, Array] | None = field(default=None, init=False)

    @property
    def weight_of_kl(self) -> float:
        """beta."""
        return self.beta

    def check(self, shape: Sequence[int] = ()) -> None:
        """Raise ScorerError for options that mean nothing."""
        super().check(shape)
        if isinstance(self.beta, bool) or not isinstance(self.beta, int | float) or not 0 <= self.beta <= 1:
            raise ScorerError(f"beta is {shown(self.beta)}, allowed: 0 to 1")
        if whole_number("buffer", self.buffer) < 0:
            raise ScorerError(f"buffer is {self.buffer}, allowed: 0 or more")

    def latent_sigmas(self, x: Events) -> Array:
        """Return the standard deviations (n, latent) of the latent Gaussians of events."""
        return np.exp(self._codes(self._known(x))[:, self.latent :])

    def sample(self, n: int, *, seed: int = 0) -> Array:
        """Return n events (n, slots, numbers) decoded from draws of the prior, in the units of the training, put right as those of an EventGenerator.

        With a small beta the latent means do not fill the prior, and `EventGenerator` draws around a buffer of them instead. The same seed gives the same
        events. Raises NotFittedError, and ScorerError for an n that is no whole number from 1 on.
        """
        from .event_generator import EventGenerator, LatentBuffer

        prior = LatentBuffer.prior(self.latent)
        made = EventGenerator(vae=self, buffer=prior, alpha=1.0, gamma=0.0).generate(n, seed=seed)
        return made.events.astype(np.float64)

    def stored(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Return record and tensors, those of the buffer too."""
        record, tensors = super().stored()
        if self.buffer_ is not None:
            for name, values in zip(("mean", "sigma"), self.buffer_, strict=True):
                tensors[f"{BUFFER}.{name}"] = torch.from_numpy(values).float()
        return record, tensors

    def _finish(self, train: Array) -> None:
        """Keep the latent Gaussians of as many training events as the buffer holds, in single precision."""
        self.buffer_ = None
        if self.buffer:
            rng = np.random.default_rng([self.seed, self.buffer])
            chosen = np.sort(rng.permutation(len(train))[: self.buffer])
            codes = self._codes(train[chosen])
            mean, sigma = codes[:, : self.latent], np.exp(codes[:, self.latent :])
            self.buffer_ = mean.astype(np.float32).astype(np.float64), sigma.astype(np.float32).astype(np.float64)

    def _restore(self, weights: dict[str, torch.Tensor]) -> None:
        """Take the buffer out of the tensors of a folder."""
        if not self.buffer:
            return
        taken = [weights.pop(f"{BUFFER}.{name}") for name in ("mean", "sigma")]
        if not all(tensor.is_floating_point() for tensor in taken):
            raise ScorerError("buffer: a mean or sigma is no real number")
        mean, sigma = (tensor.double().numpy() for tensor in taken)
        if mean.ndim != 2 or mean.shape[1] != self.latent or mean.shape != sigma.shape or not len(mean):
            raise ScorerError(f"buffer of shapes {mean.shape} and {sigma.shape}, (events, {self.latent}) are needed")
        if not (np.isfinite(mean).all() and np.isfinite(sigma).all() and (sigma > 0).all()):
            raise ScorerError("buffer: means and sigmas are finite numbers, and no sigma is 0 or below")
        self.buffer_ = mean, sigma


@dataclass(kw_only=True, eq=False, repr=False)
class EventAutoencoder(EventCoder):
    """An autoencoder of whole events: score = error of the reconstruction, or how far from the middle of its latent space an event lies.

    metrics: "reconstruction" (default), the mean square of the differences over the numbers that count, and "radius", the length of the latent point. Options: see
    `EventCoder`.
    """

    variational: ClassVar = False
    metrics: ClassVar = ("reconstruction", "radius")

    @property
    def weight_of_kl(self) -> float:
        """0: there is no KL."""
        return 0.0


def coordinates_stored(coordinates: EventCoordinates) -> dict[str, torch.Tensor]:
    """Return the tensors of coordinates."""
    return {f"{COORDINATES}{name}": torch.from_numpy(value) for name, value in vars(coordinates).items()}


def coordinates_from(tensors: dict[str, torch.Tensor]) -> EventCoordinates:
    """Take coordinates out of the tensors of a folder; raises KeyError where one is missing, ScorerError for numbers of another sort."""
    taken = {name: tensors.pop(f"{COORDINATES}{name}") for name in EventCoordinates.__dataclass_fields__}
    for name, tensor in taken.items():
        wanted = torch.bool if name in SWITCHES else torch.float64
        if tensor.dtype != wanted:
            raise ScorerError(f"{COORDINATES}{name}: has the type {tensor.dtype}, {wanted} is needed")
    return EventCoordinates(**{name: tensor.numpy() for name, tensor in taken.items()})


def names_from(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the inputs of a record; raises ScorerError for what are none."""
    names = record.get("input_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ScorerError(f"input_names is {shown(names)}, a list of names is expected")
    return tuple(names)
