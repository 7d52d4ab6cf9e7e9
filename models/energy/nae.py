"""A normalised autoencoder (arXiv:2105.05735, 2206.14225) as an anomaly score: what the model gives a low density is anomalous.

An autoencoder reconstructs what is simple, whether or not it has seen the like: its error is no density. Here the density exp(−E(x) / T), of the
error E, is trained, by lowering E on data and raising it where the model itself would draw (`training.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch

from ...errors import unknown_name
from ..autoencoders.set_scaling import as_sets
from ..distance.clouds import as_jets, require_unit, require_weights
from ..generation import as_latent, checked_draws
from ..inputs import (
    NonFiniteError,
    ScorerError,
    ShapeError,
    TooFewRowsError,
    as_matrix,
    check_metric,
    require_numbers,
    require_switches,
    require_whole,
    whole_number,
)
from ..sample import Events, named_inputs, refuse_unused, sample_names, single_jet, split_rows
from ..scorer import KINDS, SECOND_PHASE, Method, require_columns, require_fitted, save_scorer
from ..train.loop import TrainingSettings, named_device, resolve_device, train_stack
from ..train.threads import few_threads
from .coordinates import Coordinates, fit_coordinates
from .langevin import SAMPLERS, Langevin
from .networks import ARCHITECTURES, Sizes, SphereAutoencoder
from .training import AutoencoderObjective, Negatives, NormalisedObjective, drawn_around, latent_chain

__all__ = ["NAE"]

Array = npt.NDArray[np.float64]
MIN_EVENTS = 100
SCORE_ROWS = 512  # events a step of scoring: fixed, so that scores do not depend on how many come at once
SCORE_THREADS = 4
LEAST_HELD = 2  # held-out events: half of them are compared with the other half
LEAST_SIDE = 4  # of images that are convolved
SECOND = 1  # sets the random numbers of the second phase apart from those of the first


LEAST = dict.fromkeys(
    ("channels", "hidden", "max_epochs", "patience", "batch_size", "nae_epochs", "nae_patience"), 1
) | {"latent": 2, "seed": 0}
AT_LEAST_ZERO = ("lipschitz", "gamma", "clip", "latent_temperature", "input_temperature")
ABOVE_ZERO = ("learning_rate", "nae_learning_rate", "latent_step", "latent_noise", "input_step", "input_noise")


@dataclass(kw_only=True, eq=False, repr=False)
class NAE(Method):
    """Score = energy of a normalised autoencoder, its mean squared error with a latent space on a sphere.

    inputs: "rows" (n, d), "images" (n, height, width) of pT that sum to one (normalise=True divides by the sum), or "sets" (n, slots, numbers) of
    constituents pT, eta, phi or E, px, py, pz, empty slots with zeros; a search sets it. architecture: "dense" or "conv", of images
    (`networks.py`); channels: of the convolutions; hidden, latent: of the dense layers; lipschitz: largest singular value of each layer's weights, 0
    for weights as they are, which nothing keeps from diverging.

    First phase, the autoencoder: max_epochs, patience, batch_size, learning_rate, see `TrainingSettings`. Second phase, normalised: nae_epochs,
    nae_patience: epochs without a better running mean of the Wasserstein distance of negatives and data; nae_learning_rate; gamma: of the squared energies of negatives.

    Chains (`langevin.py`): sampler: "mala", "langevin" or "released"; energies are in units of E0, the autoencoder's mean one. latent_steps, latent_step
    (radian² a unit of energy), latent_noise (radian): of the chain on the sphere; input_steps, input_step (the part of x − g(z) that one step takes away),
    input_noise (in units of √E0, each coordinate): of the chain of x. latent_temperature, input_temperature: of "mala", in units of E0, 0 for
    noise² / (2 step), which is noise² / (d input_step) of x. adapt: whether "mala" shortens steps of which too few are accepted, at the same temperature.
    clip: longest gradient in these units, 0 for no bound; anneal: whether the noise of x falls as 1 / (1 + t). replay: chains in the buffer, at least
    batch_size; restart: the part of those taken that starts anew; input_replay: whether chains of x go on in a buffer as well, with which the density
    of a few columns comes out closer (`training.py`).

    metrics, all deterministic: "energy" (default), mean squared error a number in coordinates of unit spread, and "autoencoder", that of the autoencoder
    after the first phase, for comparison.
    """

    takes: ClassVar = KINDS
    least: ClassVar = MIN_EVENTS
    metrics: ClassVar = ("energy", "autoencoder")
    shown: ClassVar = ("inputs", "latent")
    kind_options: ClassVar = {kind: {"inputs": kind} for kind in KINDS}
    kind_defaults: ClassVar = {"images": {"normalise": True}}

    inputs: str = "images"
    normalise: bool = False
    architecture: str = "dense"
    channels: int = 8
    hidden: int = 256
    latent: int = 3
    lipschitz: float = 2.5
    max_epochs: int = 40
    patience: int = 10
    batch_size: int = 256
    learning_rate: float = 1e-3
    nae_epochs: int = 50
    nae_patience: int = 50
    nae_learning_rate: float = 1e-4
    gamma: float = 0.1
    sampler: str = "mala"
    latent_steps: int = 15
    latent_step: float = 0.0225
    latent_noise: float = 0.3
    latent_temperature: float = 0.0
    input_steps: int = 5
    input_step: float = 0.1
    input_noise: float = 0.45
    input_temperature: float = 0.0
    adapt: bool = True
    clip: float = 0.0
    anneal: bool = False
    replay: int = 10_000
    restart: float = 0.5
    input_replay: bool = False
    network_: SphereAutoencoder | None = field(default=None, init=False)
    autoencoder_: SphereAutoencoder | None = field(default=None, init=False)
    coordinates_: Coordinates | None = field(default=None, init=False)
    chains_: dict[str, torch.Tensor] = field(default_factory=dict, init=False)

    def fit(
        self,
        x: Events,
        *,
        validation: Events | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> Self:
        """Train on events x (n, ...), n at least 100, and return self.

        validation: events for early stopping, for E0 and for the comparison with negatives, else 15 % of x by seed; checkpoint: a file to resume a killed training from, with a second one beside it
        for the second phase; progress: a bar on stderr, or a log line in 30 s. The record of the training holds that of the "autoencoder", the figures of each
        epoch of the second phase ("monitor"), the epochs that diverged and were taken back ("setbacks"), E0 ("unit") and the temperatures. Raises
        ScorerError for options that mean nothing, TooFewRowsError, ShapeError, NonFiniteError, EmptyImageError, NegativePixelError,
        NotNormalisedError, DeviceError.
        """
        refuse_unused(x, self.uses, type(self).__name__)
        self.check()
        names, made = sample_names(x)
        events = self._events(self._single(x, names), "x", least=MIN_EVENTS)
        if len(events) < MIN_EVENTS:
            raise TooFewRowsError(f"x: has {len(events)} events, at least {MIN_EVENTS} are needed")
        if validation is None:
            train, held = split_rows(events, np.random.default_rng(self.seed))
        else:
            given = self._single(validation, names, made=made, where="validation")
            train, held = events, self._events(given, "validation", shape=events.shape[1:])
            if len(held) < LEAST_HELD:
                raise TooFewRowsError(f"validation: has {len(held)} events, at least {LEAST_HELD} are needed")
        sizes = self._sizes(events.shape[1:])
        coordinates = fit_coordinates(self.inputs, train, seed=self.seed)
        rows, beside = (packed(*coordinates.of(part)) for part in (train, held))
        device, path = resolve_device(self.device), None if checkpoint is None else str(checkpoint)
        identity = {name: value for name, value in self.parameters().items() if name != "device"}
        network = SphereAutoencoder(1, sizes, seed=self.seed, lipschitz=self.lipschitz)
        common: dict[str, Any] = {"seed": self.seed, "device": device, "identity": identity, "progress": progress}
        # the spread of the coordinates is one: their mean square is one over their number
        first = train_stack(
            AutoencoderObjective(network, scale=sizes.numbers),
            [rows],
            [beside],
            settings=self._settings(),
            checkpoint=path,
            keep_checkpoint=True,
            **common,
        )
        if None in first["validation_loss"]:
            raise NonFiniteError(
                f"{'x' if validation is None else 'validation'}: the mean energy of the held-out events is not finite after the first phase; "
                "events with far larger numbers than the others are among them"
            )
        first["validation_loss"] = [loss / sizes.numbers for loss in first["validation_loss"]]
        self.autoencoder_ = copy_of(network).to("cpu").double().requires_grad_(requires_grad=False)
        unit = max(float(self._energies(self.autoencoder_, beside).mean()), 1e-30)
        objective = self.second_phase(network, unit, beside, coordinates)
        common["seed"] = int(np.random.SeedSequence([self.seed, SECOND]).generate_state(1)[0])
        second = None if path is None else f"{path}{SECOND_PHASE}"
        record = train_stack(
            objective, [rows], [beside], settings=self._settings(second=True), checkpoint=second, **common
        )
        if path is not None:
            Path(path).unlink(missing_ok=True)
        chains = self._negatives(sizes)
        self.training_ = {
            **record,
            "autoencoder": first,
            "unit": unit,
            "temperatures": {
                "latent": chains.latent.effective_temperature,
                "input": chains.inputs.effective_temperature,
            },
        }
        # scores are float64 on the CPU wherever the training ran
        self.network_ = network.to("cpu").double().requires_grad_(requires_grad=False)
        self.chains_ = {name: value.cpu() for name, value in objective.buffers.items()}
        self.coordinates_ = coordinates
        self.input_names, self.made_ = names, made
        return self

    def second_phase(
        self, network: SphereAutoencoder, unit: float, held: torch.Tensor, coordinates: Coordinates
    ) -> NormalisedObjective:
        """Return what the second phase minimises; a study that looks at its epochs returns one that does so in `monitor`.

        unit: E0; held: held-out coordinates (n, d), or (n, 2, d) with masks, that negatives are compared with.
        """
        return NormalisedObjective(
            network,
            self._negatives(network.sizes),
            units=torch.tensor([unit]),
            reference=held[None],
            seed=self.seed,
            domain=self._domain(coordinates),
        )

    def score(self, x: Events, *, metric: str | None = None) -> Array:
        """Return (n,) scores, larger = more anomalous; metric: one of `metrics`. Errors as in `fit`."""
        metric = check_metric(metric, self.metrics, type(self).__name__)
        found = self._energies(self._of(metric), self._known(x))
        bad = ~np.isfinite(found)
        if bad.any():
            raise NonFiniteError(
                f"x: the energies of {bad.sum()} of {len(found)} events are not finite, the numbers of event {int(np.flatnonzero(bad)[0])} are too large"
            )
        return found

    def latent_points(self, x: Events, *, metric: str | None = None) -> Array:
        """Return the points of the sphere (n, latent) of events, as the network of a metric encodes them."""
        network = self._of(check_metric(metric, self.metrics, type(self).__name__))
        weights = network.weights()
        return self._by_parts(self._known(x), lambda x, mask: network.encode(x, weights, mask)[0], self.latent)

    def manifold_energies(self, z: npt.ArrayLike, *, metric: str | None = None) -> Array:
        """Return the energies (n,) of what the decoder makes of points of the sphere z (n, latent), as the network of a metric has them.

        Of sets all slots count as filled. Points are divided by their lengths. Raises NotFittedError, ShapeError, NonFiniteError.
        """
        network = self._of(check_metric(metric, self.metrics, type(self).__name__))
        weights = network.weights()
        points = self._on_sphere(z)
        mask = None if network.sizes.slots == 0 else torch.ones((1, len(points), network.sizes.numbers)).double()
        with torch.no_grad():
            return np.asarray(network.energy(network.decode(points[None], weights), weights, mask)[0].numpy())

    def decode(self, z: npt.ArrayLike) -> Array:
        """Return the events (n, ...) of points of the sphere z (n, latent), in the units of the training; points are divided by their lengths.

        Raises NotFittedError, ShapeError, NonFiniteError.
        """
        network, coordinates = require_fitted(self.network_, self), require_fitted(self.coordinates_, self)
        with torch.no_grad():
            made = network.decode(self._on_sphere(z)[None], network.weights())[0]
        return coordinates.back(made.numpy())

    def sample(self, n: int, *, seed: int = 0) -> Array:
        """Return n events (n, ...) drawn by the chains of the training, float64, in the units of the training.

        Chains of the replay buffer, or fresh ones beyond it, go on on the sphere and then in x, or in x alone with input_replay. Sets have as many filled slots as jets of the
        training. The same seed gives the same events. Raises NotFittedError, and ScorerError for an n that is no whole number from 1 on.
        """
        network, coordinates = require_fitted(self.network_, self), require_fitted(self.coordinates_, self)
        number, rng = checked_draws(n, seed)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        weights, chains = network.weights(), self._negatives(network.sizes)
        units = torch.tensor([[self.training_["unit"]]]).double()
        buffer = self.chains_["replay"][0].double()
        fresh = self._on_sphere(rng.normal(size=(number, self.latent)))
        taken = torch.from_numpy(rng.permutation(len(buffer))[:number])
        fresh[: len(taken)] = buffer[taken]
        # with a buffer of points all chains go on from one of them, several from the same where there are too few
        points = self.chains_["points"][0].double() if self.input_replay else None
        followed = torch.from_numpy(np.resize(taken.numpy(), number))
        mask = self._drawn_masks(coordinates, number, rng)
        found = []
        with few_threads(SCORE_THREADS):
            for first in range(0, number, SCORE_ROWS):
                part = slice(first, first + SCORE_ROWS)
                own = None if mask is None else mask[None, part]
                z = latent_chain(
                    network, weights, fresh[None, part], chains.latent, units, generator=generator, mask=own
                )
                x, _, _ = drawn_around(
                    network,
                    weights,
                    z.points,
                    chains.inputs,
                    units,
                    generator=generator,
                    mask=own,
                    domain=self._domain(coordinates),
                    going_on=None
                    if points is None
                    else (points[None, followed[part]], torch.ones_like(z.energies) > 0),
                )
                found.append(coordinates.back(x[0].numpy(), None if own is None else own[0].numpy()))
        return np.concatenate(found)

    def frames(self) -> Array:
        """Return negatives along the training (times, events, ...), the earliest first, up to the epoch that was chosen."""
        coordinates = require_fitted(self.coordinates_, self)
        kept = self.chains_["frames"][0].double().numpy()
        there = np.isfinite(kept).all(axis=2)  # a small batch fills fewer
        times = there.any(axis=1)
        if not times.any():
            return np.empty((0, 0, *coordinates.shape))
        # empty slots are zeros
        return np.stack([coordinates.back(part, part != 0) for part in kept[times][:, there[times].all(axis=0)]])

    def save(self, path: str | Path) -> None:
        """Write the folder that `load_scorer` reads: both networks with their singular vectors, the coordinates, the chains."""
        network, coordinates = require_fitted(self.network_, self), require_fitted(self.coordinates_, self)
        tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
        tensors |= {f"autoencoder.{name}": value for name, value in self._of("autoencoder").state_dict().items()}
        tensors |= {f"coordinates.{name}": value for name, value in coordinates.tensors().items()}
        tensors |= {f"chains.{name}": value for name, value in self.chains_.items()}
        save_scorer(
            path,
            self,
            parameters=self.parameters(),
            n_features=network.sizes.numbers,
            state={"shape": list(coordinates.shape)},
            training=self.training_,
            tensors=tensors,
        )

    @classmethod
    def from_stored(cls, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """Rebuild from what `save` wrote."""
        scorer = cls(**record["parameters"])
        scorer.check()
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            parts.setdefault(kind, {})[rest] = value
        shape = tuple(whole_number("shape", side) for side in record["state"]["shape"])
        if min(shape, default=0) < 1 or record["n_features"] != math.prod(shape):
            raise ScorerError(f"tells inputs of {shape} and {record['n_features']} numbers")
        if scorer.inputs == "rows":
            require_columns(record, shape[0])
        scorer.coordinates_ = Coordinates.from_tensors(scorer.inputs, shape, parts["coordinates"])
        sizes = scorer._sizes(shape)
        for name in ("network", "autoencoder"):
            found = sum(value.numel() for key, value in parts[name].items() if not key.startswith("singular"))
            if found != sizes.size:
                raise ScorerError(f"{sizes} has {sizes.size} numbers, the weights hold {found}")
        scorer.network_, scorer.autoencoder_ = (
            rebuilt_network(sizes, scorer.lipschitz, parts[name]) for name in ("network", "autoencoder")
        )
        scorer.chains_ = parts["chains"]
        if scorer.chains_["replay"].shape != (1, scorer.replay, scorer.latent):
            raise ScorerError(f"tells {scorer.replay} chains, the buffer is {tuple(scorer.chains_['replay'].shape)}")
        points = scorer.chains_["points"].shape if scorer.input_replay else (1, scorer.replay, sizes.numbers)
        if points != (1, scorer.replay, sizes.numbers):
            raise ScorerError(f"tells {scorer.replay} chains of {sizes.numbers} numbers, the buffer is {tuple(points)}")
        if not 0 < float(record["training"]["unit"]) < math.inf:
            raise ScorerError(f"unit is {record['training']['unit']}, a finite number above 0 is needed")
        scorer.training_ = dict(record["training"])
        return scorer

    def check(self, shape: Sequence[int] = ()) -> None:
        """Raise ScorerError for options that mean nothing, ShapeError for images (height, width) that the convolutions cannot take."""
        for name, value, allowed in (
            ("inputs", self.inputs, KINDS),
            ("architecture", self.architecture, ARCHITECTURES),
            ("sampler", self.sampler, SAMPLERS),
        ):
            if value not in allowed:
                raise ScorerError(unknown_name(name, value, allowed, type(self).__name__))
        if self.architecture == "conv" and self.inputs != "images":
            raise ScorerError(f"architecture is 'conv', which takes images, not {self.inputs}; allowed: 'dense'")
        require_whole(self, LEAST)
        require_numbers(self, (*AT_LEAST_ZERO, "restart"), zero=True)
        require_numbers(self, ABOVE_ZERO)
        require_switches(self, ("normalise", "adapt", "anneal", "input_replay"))
        if self.restart > 1:
            raise ScorerError(f"restart is {self.restart}, allowed: 0 to 1")
        if whole_number("replay", self.replay) < whole_number("batch_size", self.batch_size):
            raise ScorerError(f"replay is {self.replay}, allowed: batch_size, {self.batch_size}, or more")
        named_device(self.device)
        self._negatives(Sizes(1, self.latent, self.hidden))
        if shape:
            self._sizes(tuple(shape))

    def _settings(self, *, second: bool = False) -> TrainingSettings:
        return TrainingSettings(
            max_epochs=self.nae_epochs if second else self.max_epochs,
            patience=self.nae_patience if second else self.patience,
            batch_size=self.batch_size,
            learning_rate=self.nae_learning_rate if second else self.learning_rate,
        )

    def _negatives(self, sizes: Sizes) -> Negatives:
        """Return how negatives are drawn; raises ScorerError naming the option."""
        chains = {}
        for name, factor in (("latent", 1.0), ("input", 0.5 * sizes.numbers)):
            steps, step, noise, temperature = (
                getattr(self, f"{name}_{part}") for part in ("steps", "step", "noise", "temperature")
            )
            try:
                chains[name] = Langevin(
                    steps,
                    step * factor,
                    noise,
                    sampler=self.sampler,
                    clip=self.clip or None,
                    anneal=self.anneal and name == "input",
                    temperature=temperature or None,
                )
            except ScorerError as error:
                raise ScorerError(f"{name}_{error}") from error
        return Negatives(
            chains["latent"],
            chains["input"],
            self.replay,
            self.restart,
            self.gamma,
            adapt=self.adapt and self.sampler == "mala",
            go_on=self.input_replay,
        )

    def _domain(self, coordinates: Coordinates) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return what chains of x are clipped to: pixels from 0 to 1, none with "mala", whose density is one over all of space.

        Most pixels are 0: a density that ends there would hardly ever accept a step.
        """
        return None if self.sampler == "mala" else coordinates.domain

    def _sizes(self, shape: tuple[int, ...]) -> Sizes:
        """Return the network's sizes for inputs of a shape, or say what does not fit."""
        if self.architecture == "conv":
            if min(shape) < LEAST_SIDE or any(side % 2 for side in shape):
                raise ShapeError(
                    f"images of {' x '.join(map(str, shape))} pixels cannot be convolved: sides of an even number from {LEAST_SIDE} on are needed "
                    "with architecture='conv'"
                )
            return Sizes(
                math.prod(shape),
                self.latent,
                self.hidden,
                height=shape[0],
                width=shape[1],
                channels=self.channels,
            )
        slots = shape[0] if self.inputs == "sets" else 0
        return Sizes(math.prod(shape), self.latent, self.hidden, slots=slots)

    def _of(self, metric: str) -> SphereAutoencoder:
        """Return the network of a metric."""
        return require_fitted(self.network_ if metric == "energy" else self.autoencoder_, self)

    def _single(
        self, x: Events, names: Sequence[str], *, made: Mapping[str, Any] | None = None, where: str = "x"
    ) -> npt.NDArray[Any]:
        """Return the inputs of events by name: rows, or those of one jet."""
        taken = named_inputs if self.inputs == "rows" else single_jet
        return taken(x, names, made=made, where=where)

    def _events(self, x: npt.ArrayLike, name: str, *, shape: tuple[int, ...] | None = None, least: int = 0) -> Array:
        """Return inputs (n, ...) in float64, or say what is wrong with them."""
        if self.inputs == "rows":
            width = None if shape is None else shape[0]
            return as_matrix(x, name=name, n_columns=width, min_rows=least, columns=self.input_names or None)
        if self.inputs == "sets":
            return as_sets(x, name, shape=shape)
        images = as_jets(x, name=name)
        if shape is not None and images.shape[1:] != shape:
            raise ShapeError(f"{name}: images of {images.shape[1:]}, {shape} are expected")
        require_weights(images.reshape(len(images), images.shape[1] * images.shape[2]), name)
        sums = images.sum(axis=(1, 2))
        if self.normalise:
            return np.asarray(images / sums[:, None, None])
        require_unit(sums, name, "normalise=True divides by the sum")
        return images

    def _known(self, x: Events) -> torch.Tensor:
        """Return the coordinates of events to score."""
        coordinates = require_fitted(self.coordinates_, self)
        given = self._single(x, self.input_names, made=self.made_)
        return packed(*coordinates.of(self._events(given, "x", shape=coordinates.shape)), single=False)

    def _energies(self, network: SphereAutoencoder, rows: torch.Tensor) -> Array:
        """Return the energies (n,) of coordinates (n, d) or (n, 2, d)."""
        weights = network.weights()
        return self._by_parts(rows.double(), lambda x, mask: network.energy(x, weights, mask)[0])

    @torch.no_grad()
    def _by_parts(self, rows: torch.Tensor, term: Any, *width: int) -> Array:
        """Return what `term` gives for coordinates and masks (1, b, d), a few at a time."""
        parts = [np.empty((0, *width))]
        with few_threads(SCORE_THREADS):
            for first in range(0, len(rows), SCORE_ROWS):
                part = rows[None, first : first + SCORE_ROWS]
                pair = (part, None) if part.dim() == 3 else (part[:, :, 0], part[:, :, 1])
                parts.append(term(*pair).numpy())
        return np.concatenate(parts)

    def _on_sphere(self, z: npt.ArrayLike) -> torch.Tensor:
        """Return points (n, latent) of length 1 in float64."""
        points = as_latent(z, self.latent)
        lengths = np.linalg.norm(points, axis=1, keepdims=True)
        if not (lengths > 0).all():
            raise ScorerError(
                f"z: point {int(np.flatnonzero(lengths[:, 0] == 0)[0])} has no length and no place on the sphere"
            )
        return torch.from_numpy(points / lengths)

    def _drawn_masks(self, coordinates: Coordinates, number: int, rng: np.random.Generator) -> torch.Tensor | None:
        """Return masks (number, d) of as many filled slots as those of the training, none where there are no slots."""
        if coordinates.filled is None:
            return None
        slots, numbers = coordinates.shape
        drawn = rng.choice(slots + 1, number, p=coordinates.filled / coordinates.filled.sum())
        there = np.arange(slots) < drawn[:, None]
        return torch.from_numpy(np.repeat(there, numbers, axis=1).astype(np.float64))


def packed(coordinates: Array, mask: Array | None, *, single: bool = True) -> torch.Tensor:
    """Return coordinates (n, d), or (n, 2, d) with their masks; single: in single precision."""
    both = coordinates if mask is None else np.stack([coordinates, mask], axis=1)
    made = torch.from_numpy(both)
    return made.float() if single else made


def copy_of(network: SphereAutoencoder) -> SphereAutoencoder:
    """Return a network of the same weights and singular vectors."""
    other = SphereAutoencoder(network.members, network.sizes, seed=0, lipschitz=network.lipschitz)
    other.load_state_dict(network.state_dict())
    return other


def rebuilt_network(sizes: Sizes, lipschitz: float, tensors: Mapping[str, torch.Tensor]) -> SphereAutoencoder:
    """Return a fitted network from what was stored, in float64."""
    network = SphereAutoencoder(1, sizes, seed=0, lipschitz=lipschitz).double().requires_grad_(requires_grad=False)
    network.load_state_dict(dict(tensors))
    return network
