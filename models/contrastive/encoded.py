"""A scorer of rows on the representations of an encoder, as one: the encoder is trained in the same fold as what is on top of it.

What an encoder has learned of an event is in the representation, so that it may no more have trained on an event that is hunted in than the scorer may.
A space has one encoder, trained on its background's events and shared by all its axes.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch

from ...errors import shown
from ..axis_fit import SPLIT, in_order, n_jets, of_each_jet, single_jets
from ..columns import refuse_other_settings
from ..inputs import ScorerError, ShapeError, TooFewRowsError, check_metric, require_whole, whole_number
from ..sample import (
    MIN_VALIDATION,
    Events,
    Sample,
    as_sample,
    event_hashes,
    named_inputs,
    refuse_unused,
    split_rows,
)
from ..scorer import Method, check_options, for_kind, method_class, rebuilt, require_fitted, save_scorer
from ..scorer_space import BACKGROUND, MAX_JETS, ScorerSpace, called
from ..space import Space, axis_seed, make_space
from ..storage import ScorerFolderError, read_folder
from ..train.loop import named_device
from .clr import LEAST_HELD, MIN_EVENTS
from .encoders import ENCODERS, RowEncoder, encoder_class, load_encoder

__all__ = ["Encoded"]

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]
Matrix = npt.NDArray[np.float64]
SEED = 0xE4  # number of the encoder's seed, beyond those of the axes
ABOVE = ".scorer"  # ends the name of the checkpoint of what is trained on top
OWN = ("seed", "device", "alpha")  # of the whole, and of no part
ROWS = "rows"
HELD = "validation of the background"
SET_AXES = 3  # of single jets: (n, slots, numbers)


@dataclass(kw_only=True, eq=False, repr=False)
class Encoded(Method):
    """A space of a scorer of rows on the representations of an encoder: its background, and each prior as an axis, by one encoder.

    Events are (n, slots, numbers), or (n, jets, slots, numbers): the encoder is one of single jets, trained on those of all places, and the
    representations of an event's jets stand side by side in its row.

    encoder: a name of ENCODERS, a mapping of `name` and its options, or the path of a folder, which has a / in it: that of a fitted encoder, or of an
    `Encoded` whose encoder is taken; it is then used as it is and not trained any more. scorer: a method that takes rows, or a mapping of `name`, `metric` (which of its metrics
    spans the axes, where it is no space by itself) and its options. A family of hypotheses, outlier exposure and pretrained scorers are not for representations. seed, device: of
    both; alpha: weight of the priors in the difference.

    encoder_: the fitted encoder; space_: the fitted space of rows; jets_: of an event; trained_on: the sorted hashes of the events that both have seen.
    """

    takes: ClassVar = ("sets",)
    uses: ClassVar = ("mass",)
    least: ClassVar = MIN_EVENTS + MIN_VALIDATION
    spans: ClassVar = True

    encoder: str | dict[str, Any] = "JetCLR"
    scorer: str | dict[str, Any] = "Quak"
    alpha: float = 1.0
    trained_on: npt.NDArray[np.uint64] = field(default_factory=lambda: event_hashes([]), init=False)
    encoder_: RowEncoder | None = field(default=None, init=False)
    space_: Space | None = field(default=None, init=False)
    jets_: int = field(default=0, init=False)

    @classmethod
    def parts(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return option -> the class of its own options, and further keys of its mapping; ScorerError naming an option that is none."""
        found: dict[str, tuple[type, tuple[str, ...]]] = {}
        name, _ = named("encoder", options.get("encoder", "JetCLR"))
        if not is_path(name):
            found["encoder"] = (class_of_encoder(name), ("name",))
        name, _ = named("scorer", options.get("scorer", "Quak"))
        try:
            found["scorer"] = (class_of_scorer(name), ("name", "metric"))
        except ScorerError as error:
            raise ScorerError(f"scorer: {error}") from error
        return found

    @classmethod
    def folders(cls, options: Mapping[str, Any]) -> dict[str, str]:
        """Return the folder of the encoder, where the option names one."""
        given = options.get("encoder", "")
        return {"encoder": given} if isinstance(given, str) and is_path(given) else {}

    @property
    def frozen(self) -> str:
        """The folder of an encoder that is not trained any more, "" where one is trained."""
        return self.folders({"encoder": self.encoder}).get("encoder", "")

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Names of the columns of `losses`."""
        return self._space.axis_names

    @property
    def metrics(self) -> tuple[str, ...]:
        """What `score` can give: the metrics of the space of rows."""
        return self._space.metrics

    @property
    def _space(self) -> Space:
        """The fitted space of rows, else one that is not, of the background alone."""
        return self.fresh_space(()) if self.space_ is None else self.space_

    def described(self) -> list[str]:
        """Return what the repr says before the training."""
        names = [named(key, getattr(self, key))[0] for key in ("encoder", "scorer")]
        if self.space_ is None:
            return names
        jets = "1 jet" if self.jets_ == 1 else f"{self.jets_} jets"
        return [*names, jets, f"{len(self.axis_names) - 1} priors"]

    def check(self, shape: Sequence[int] = ()) -> None:
        """Raise ScorerError for options that mean nothing, which it begins with; no folder is read for that."""
        del shape
        named_device(self.device)
        require_whole(self, {"seed": 0})
        for key in ("scorer",) if self.frozen else ("encoder", "scorer"):
            try:
                found = self.fresh_encoder() if key == "encoder" else self.fresh_space(())
                own = found.scorers[BACKGROUND] if isinstance(found, ScorerSpace) else found
                if isinstance(own, Method):
                    own.check()
            except ScorerError as error:
                raise ScorerError(f"{key}: {str(error).removeprefix(f'{key}: ')}") from error

    def fresh_encoder(self) -> RowEncoder:
        """Return the encoder before its training; raises ScorerError for options that it does not have, and without a name of one."""
        name, options = named("encoder", self.encoder)
        cls = class_of_encoder(name)
        refuse_own(options)
        check_options(cls, options)
        found: RowEncoder = cls(**{**options, "seed": axis_seed(self.seed, SEED), "device": self.device})
        return found

    def fresh_space(self, priors: Sequence[str]) -> Space:
        """Return the space of rows before its training, with an axis for each prior.

        Raises ScorerError for a method that takes no rows, and for options that it does not have or that have no meaning on representations.
        """
        name, options = named("scorer", self.scorer)
        metric = options.pop("metric", None)
        refuse_own(options)
        cls = class_of_scorer(name)
        for option, allowed in (("family", False), ("hypotheses", 0), ("exposure", "none"), ("pretrained", "")):
            if options.get(option, allowed) != allowed:
                raise ScorerError(
                    f"{option} is {shown(options[option])}, allowed on representations: {str(allowed).lower() or 'none'}"
                )
        if cls.mosaic:
            options["family"] = False
        space = make_space(
            name,
            kind=ROWS,
            priors=priors,
            options={**options, "device": self.device},
            seed=self.seed,
            alpha=self.alpha,
        )
        if metric is None:
            return space
        if not isinstance(space, ScorerSpace) or not isinstance(metric, str):
            allowed = "a name" if isinstance(space, ScorerSpace) else f"none: the axes of {name} are its losses"
            raise ScorerError(f"metric is {shown(metric)}, allowed: {allowed}")
        return space.configured(metric=metric)

    def fit(
        self,
        sample: Events,
        *,
        priors: Mapping[str, Events] | None = None,
        exposure: Events | None = None,
        validation: Events | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> Self:
        """Train an encoder on background events, then the scorer of each axis on their representations, and return self.

        sample: background events, at least 120, or 100 beside a validation sample; its names are stored, and the columns of the others are put in their
        order. priors: name -> events, at least 100 each: their axes train on them, the encoder does not. validation: background events for the early stopping of
        the encoder and of the background's scorer, else 15 % of the background by seed, the same for both, all jets of an event together. checkpoint: a file to resume a killed training from, with those of the
        scorer beside it; progress: as the two have it. The record of the training holds that of the encoder under "encoder", with "frozen", whether it came
        trained. Raises ScorerError for options that mean nothing, for weights and exposure, and for an encoder of a folder
        that was trained on events of other slots or settings, ShapeError for events of different shapes, TooFewRowsError, and what encoder and scorer raise.
        """
        priors = priors or {}
        for events in (sample, *priors.values()):
            refuse_unused(events, self.uses, type(self).__name__, exposure=exposure)
        self.check()
        background = as_sample(sample, where=BACKGROUND)
        names, made = background.names, dict(background.made)
        given = {
            BACKGROUND: background,
            **{name: as_sample(x, names, where=called(name)) for name, x in priors.items()},
        }
        samples = {name: in_order(events, names, made, called(name)) for name, events in given.items()}
        held = None
        if validation is not None:
            held = in_order(as_sample(validation, names, where="validation"), names, made, "validation")
        space = self.fresh_space(tuple(priors))
        encoder = self._encoder(samples[BACKGROUND], made)
        self._check_events(encoder, samples, held)
        rows_given = len(background) + (0 if held is None else len(held))
        train = samples[BACKGROUND]
        if held is None:
            # one split for both: what stops the scorer has not trained the encoder either
            kept, rest = split_rows(np.arange(len(train)), np.random.default_rng([self.seed, SPLIT]))
            train, held = train.select(kept), train.select(rest)
        if not self.frozen:
            encoder.fit(
                jets_of(train, made),
                validation=jets_of(held, made),
                checkpoint=checkpoint,
                keep_checkpoint=True,
                progress=progress,
            )
        above = None if checkpoint is None else f"{checkpoint}{ABOVE}"
        space.fit(
            encoded(encoder, train),
            priors={name: encoded(encoder, samples[name]) for name in priors},
            validation=encoded(encoder, held),
            checkpoint=above,
            progress=progress,
        )
        self.training_ = {
            "rows": [len(train)],
            "validation_rows": [len(held)],
            "rows_given": rows_given,
            "encoder": {**encoder.training_, "frozen": bool(self.frozen)},
        }
        self.encoder_, self.space_, self.jets_ = encoder, space, n_jets(train.inputs)
        self.input_names, self.made_ = names, made
        own = event_hashes([background, *given.values(), held])
        self.trained_on = np.union1d(own, encoder.trained_on)
        if checkpoint is not None:
            Path(checkpoint).unlink(missing_ok=True)
        return self

    def _encoder(self, background: Sample, made: Mapping[str, Any]) -> RowEncoder:
        """Return the encoder before its training, or the one of the folder, or say why that does not fit the events."""
        if not self.frozen:
            return self.fresh_encoder()
        try:
            encoder = load_encoder(self.frozen)
        except ScorerFolderError as error:
            raise ScorerFolderError(f"encoder: {error}") from error
        try:
            refuse_other_settings(made, encoder.made_, "x")
        except ScorerError as error:
            raise ScorerError(f"encoder: {self.frozen}: {error}") from error
        slots = background.inputs.shape[-2] if background.inputs.ndim >= SET_AXES else encoder.slots_
        if slots != encoder.slots_:
            raise ShapeError(
                f"encoder: {self.frozen}: was trained on events of {encoder.slots_} slots, x has {slots}; as many are needed"
            )
        return encoder

    def _check_events(self, encoder: RowEncoder, samples: Mapping[str, Sample], held: Sample | None) -> None:
        """Raise TooFewRowsError, ShapeError, NonFiniteError and the like for what cannot be trained on, before the first training."""
        least = dict.fromkeys(samples, method_class(named("scorer", self.scorer)[0]).least)
        least[BACKGROUND] = self.least if held is None else max(MIN_EVENTS, least[BACKGROUND])
        shape = samples[BACKGROUND].inputs.shape[1:]
        width = n_jets(samples[BACKGROUND].inputs) * encoder.dims
        for name, events in {**samples, **({} if held is None else {HELD: held})}.items():
            where, wanted = HELD if name == HELD else called(name), least.get(name, LEAST_HELD)
            if len(events) < wanted:
                raise TooFewRowsError(f"{where}: has {len(events)} events, at least {wanted} are needed")
            if events.inputs.shape[1:] != shape:
                raise ShapeError(f"{where}: events of {events.inputs.shape[1:]} numbers, the background's have {shape}")
            encoder.sets_of(single_jets(events.inputs), where)
            if name != HELD and len(events) < width:
                logger.warning(
                    "%s: %d events are fewer than the %d numbers of a representation, of which no density can be learned; a smaller dims of the encoder "
                    "makes them fewer",
                    where,
                    len(events),
                    width,
                )

    def representations(self, x: Events) -> Matrix:
        """Return the rows (n, jets · dims) of events, as `losses` takes them: the encoder's numbers of the first jet, then those of the next.

        Raises NotFittedError, ScorerError for a column that is missing, ShapeError for another number of jets, and what `Encoder.encode` raises.
        """
        encoder = require_fitted(self.encoder_, self)
        inputs = named_inputs(x, self.input_names, made=self.made_)
        if n_jets(inputs) != self.jets_:
            raise ShapeError(f"x: {n_jets(inputs)} jets an event, the space was fitted with {self.jets_}")
        return encoded(encoder, Sample(inputs)).inputs

    def losses(self, x: Events) -> Matrix:
        """Return the losses (n, m) of events, one column for each of `axis_names`; errors as in `representations`."""
        return require_fitted(self.space_, self).losses(self.representations(x))

    def score_of(self, losses: Matrix, metric: str | None = None) -> Matrix:
        """Return the scores (n,) of losses (n, m), larger = more anomalous; metric: one of `metrics`."""
        space = self._space
        space.alpha = self.alpha
        return space.score_of(losses, metric)

    def score(self, x: Events, *, metric: str | None = None) -> Matrix:
        """Return (n,) scores, larger = more anomalous; metric: one of `metrics`."""
        require_fitted(self.space_, self)
        check_metric(metric, self.metrics, type(self).__name__)
        return self.score_of(self.losses(x), metric)

    def save(self, path: str | Path) -> None:
        """Write the folder that `load_scorer` reads: the encoder and the space, as each writes itself."""
        encoder, space = require_fitted(self.encoder_, self), require_fitted(self.space_, self)
        record, weights = encoder.stored()
        with tempfile.TemporaryDirectory() as folder:
            space.save(Path(folder) / ROWS)
            inner, stored = read_folder(Path(folder) / ROWS)
        tensors = {f"encoder.{name}": tensor for name, tensor in weights.items()}
        tensors |= {f"scorer.{name}": tensor for name, tensor in stored.items()}
        save_scorer(
            path,
            self,
            parameters=self.parameters(),
            n_features=self.jets_ * encoder.dims,
            state={"jets": self.jets_, "encoder": record, "scorer": inner},
            training=self.training_,
            tensors={**tensors, "trained_on": torch.from_numpy(self.trained_on)},
        )

    @classmethod
    def from_stored(cls, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """Rebuild from what `save` wrote."""
        scorer, state = cls(**record["parameters"]), record["state"]
        scorer.check()
        parts: dict[str, dict[str, torch.Tensor]] = {"encoder": {}, "scorer": {}}
        for name, tensor in tensors.items():
            key, _, rest = name.partition(".")
            if key in parts:
                parts[key][rest] = tensor
        encoder = class_of_encoder(state["encoder"]["class"]).from_stored(state["encoder"], parts["encoder"])
        space, inner = rebuilt(state["scorer"], parts["scorer"]), state["scorer"]
        jets = whole_number("jets", state["jets"])
        if not 1 <= jets <= MAX_JETS:
            raise ScorerError(f"jets is {shown(jets)}, allowed: 1 to {MAX_JETS}")
        if not isinstance(space, Space):
            raise ScorerError(f"holds a {type(space).__name__} on the representations, a space is expected")
        if record["n_features"] != jets * encoder.dims or inner["n_features"] != jets * encoder.dims:
            raise ScorerError(
                f"tells rows of {shown(record['n_features'])} and {shown(inner['n_features'])} numbers; {jets} jets of {encoder.dims} have {jets * encoder.dims}"
            )
        scorer.encoder_, scorer.space_, scorer.jets_ = encoder, space, jets
        scorer.training_ = dict(record["training"])
        scorer.trained_on = tensors["trained_on"].numpy()
        return scorer


def named(key: str, given: Any) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of an option that is a name, or a mapping of `name` and options; raises ScorerError for anything else."""
    name, options = given, {}
    if isinstance(given, Mapping):
        options = {str(option): value for option, value in given.items() if option != "name"}
        name = given.get("name")
    if not isinstance(name, str) or not name:
        raise ScorerError(f"{key}: is {shown(given)}, allowed: a name, or a mapping of name and options")
    if isinstance(given, Mapping) and key == "encoder" and is_path(name):
        raise ScorerError(
            f"{key}: is a mapping whose name is the path {name}; an encoder that is loaded has options of its own: {key}: {name}"
        )
    return name, options


def is_path(name: str) -> bool:
    """Tell whether the name of an encoder is the path of a folder."""
    return "/" in name and name not in ENCODERS


def class_of_encoder(name: str) -> type[Any]:
    """Return the class of an encoder; raises ScorerError with the nearest name, and how a path is told from a name."""
    try:
        return encoder_class(name)
    except ScorerError as error:
        raise ScorerError(f"encoder: {error}; or the path of a folder, which has a / in it, as ./{name}") from error


def class_of_scorer(name: str) -> type[Method]:
    """Return the class of a method; raises ScorerError with the nearest of those that take rows, where there is no such method."""
    return method_class(name, among=for_kind(ROWS))


def refuse_own(options: Mapping[str, Any]) -> None:
    """Raise ScorerError for options of a part that are those of the whole."""
    for name in options:
        if name in OWN:
            raise ScorerError(f"option {name} is that of Encoded itself, for encoder and scorer")


def jets_of(sample: Sample, made: Mapping[str, Any]) -> Sample:
    """Return the single jets of events, each with the hash of its event, and how they were made."""
    return Sample(single_jets(sample.inputs), event=of_each_jet(sample.event, sample), made=dict(made))


def encoded(encoder: RowEncoder, sample: Sample) -> Sample:
    """Return events as rows (n, jets · dims), the representations of their jets side by side."""
    found = encoder.encode(single_jets(sample.inputs))
    return Sample(
        found.reshape(len(sample), n_jets(sample.inputs) * encoder.dims),
        observable=sample.observable,
        weight=sample.weight,
        event=sample.event,
    )
