"""Several scorers as one: AND, OR, average and product of their scores on the scale of background quantiles (arXiv:2010.07940).

A score means nothing beside that of another method, but the part of the background that has a higher one, p, does. Each scorer's p is read off held-out background events
that it has not been trained on, and of k scorers

    AND      all find an event anomalous      p = max p_i        (the smallest quantile 1 − p_i)
    OR       one of them does                 p = min p_i        (the largest)
    average                                   p = Σ p_i / k      (their mean)
    product                                   p = 1 − Π(1 − p_i) (their product)

and the score is −ln p. Between held-out events ln p is interpolated; beyond the last one it falls as an exponential of the mean excess of the highest scores, so that
events out there are not all alike.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch

from ..errors import shown
from .axis_fit import Axis, fit_axes, in_order, remove_finished
from .inputs import ScorerError, TooFewRowsError, check_metric, require_seed, whole_number
from .sample import MIN_VALIDATION, Events, Sample, as_sample, named_inputs, refuse_unused, split_rows
from .scorer import (
    KINDS,
    Method,
    Scorer,
    check_options,
    for_kind,
    method_class,
    rebuilt,
    require_columns,
    require_fitted,
    save_scorer,
    scorer_fields,
)
from .space import axis_seed, of_kind
from .storage import read_folder

__all__ = ["BackgroundQuantiles", "Combined"]

Array = npt.NDArray[np.float64]
OWN = ("seed", "device")  # of the whole, and of no part
MIN_EVENTS = 100
TAIL_PART, LEAST_TAIL = 0.05, 10  # of the held-out scores whose mean excess is that of the tail
LEAST_SCORERS = 2


@dataclass(frozen=True)
class BackgroundQuantiles:
    """Held-out scores of the background, (n,) rising and not all the same."""

    scores: Array

    def __post_init__(self) -> None:
        if self.scores.ndim != 1 or len(self.scores) < MIN_VALIDATION or not np.isfinite(self.scores).all():
            raise ScorerError(
                f"held-out scores of shape {self.scores.shape}, {MIN_VALIDATION} finite numbers are needed at least"
            )
        if (np.diff(self.scores) < 0).any() or not self.scores[-1] > self.scores[0]:
            raise ScorerError("held-out scores are all the same, or do not rise")

    def surprise(self, score: Array) -> Array:
        """Return −ln p (n,) of scores, p the part of the background with a higher one, strictly rising with the score; above 0."""
        values, last = np.unique(self.scores, return_index=True)
        n = len(self.scores)
        # of a score among the held-out ones, those above it, half of its equals, and one half more: never none, never all
        equal = np.diff(np.append(last, n))
        t = -np.log((n - last - equal + 0.5 * equal + 0.5) / (n + 1))
        found = np.interp(score, values, t)
        top = max(LEAST_TAIL, int(TAIL_PART * n))
        above, below = score > values[-1], score < values[0]
        for rows, edge, scale in (
            (above, values[-1], float((self.scores[-top:] - self.scores[-top]).mean())),
            (below, values[0], float((self.scores[top - 1] - self.scores[:top]).mean())),
        ):
            # where the scores at the end are all the same, their spread is that of all
            distance = np.abs(score[rows] - edge) / (scale or float(np.ptp(self.scores)))
            found[rows] = t[-1] + distance if edge == values[-1] else t[0] / (1 + distance)
        return np.asarray(found)


@dataclass(kw_only=True, eq=False, repr=False)
class Combined(Method):
    """Several scorers of the same events as one.

    scorers: of each a name, or a mapping of `name`, `metric` and its options, two at least; any method that takes the kind of events can join, one that spans
    a space too, as Encoded does; outlier exposure and pretrained scorers cannot. inputs: the kind of events. seed, device: of all.

    metrics: "or" (default), "and", "average", "product", see the module; models are not trained again for another one.

    scorers_: the fitted ones; quantiles_: of each the held-out scores of the background; n_features_: numbers of an event.
    """

    takes: ClassVar = KINDS
    kind_options: ClassVar = {kind: {"inputs": kind} for kind in KINDS}
    kind_defaults: ClassVar = {
        "rows": {"scorers": ("Flow", "Vae")},
        "images": {"scorers": ("ConvVae", "NAE")},
        "sets": {"scorers": ("ConstituentVae", "EventToEnsemble")},
    }
    least: ClassVar = MIN_EVENTS + MIN_VALIDATION
    metrics: ClassVar = ("or", "and", "average", "product")
    shown: ClassVar = ("scorers",)

    inputs: str = "rows"
    scorers: tuple[str | dict[str, Any], ...] = ("Flow", "Vae")
    scorers_: list[Any] | None = field(default=None, init=False)
    n_features_: int = field(default=0, init=False)
    quantiles_: list[BackgroundQuantiles] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        given: Any = self.scorers
        if isinstance(given, list):  # as JSON and YAML have it
            self.scorers = tuple(given)

    @classmethod
    def parts(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return option -> the class of each scorer's own options, and further keys of its mapping; ScorerError naming a method that there is not."""
        return {"scorers": [(member[0], ("name", "metric")) for member in members_of(options.get("scorers", ()))]}

    def described(self) -> list[str]:
        """Return what the repr says before the training: the names of the scorers."""
        return [cls.__name__ for cls, _, _ in members_of(self.scorers)]

    def check(self, shape: Sequence[int] = ()) -> None:
        """Raise ScorerError for options that mean nothing."""
        if self.inputs not in KINDS:
            raise ScorerError(f"inputs is {shown(self.inputs)}, allowed: {', '.join(KINDS)}")
        require_seed(self)
        for number, scorer in enumerate(self.fresh_scorers()):
            try:
                if isinstance(scorer, Method):
                    scorer.check(shape)
            except ScorerError as error:
                raise type(error)(f"scorers: number {number + 1}: {error}") from error

    def fresh_scorers(self) -> list[Scorer]:
        """Return the scorers before their training; raises ScorerError for options that they do not have, and for what does not take the kind of events."""
        members = members_of(self.scorers)
        if len(members) < LEAST_SCORERS:
            raise ScorerError(f"scorers: {len(members)} are named, {LEAST_SCORERS} or more are needed")
        found: list[Any] = []
        for number, (cls, metric, options) in enumerate(members):
            where, name = f"scorers: number {number + 1}", cls.__name__
            if cls is Combined:
                raise ScorerError(f"{where}: is Combined itself; name the scorers that it is made of")
            if self.inputs not in cls.takes:
                fits = [other for other in for_kind(self.inputs) if other != "Combined"]
                raise ScorerError(
                    f"{where}: {name} takes {' and '.join(cls.takes)}, not {self.inputs}; what takes {self.inputs}: {', '.join(fits)}"
                )
            for option in options:
                if option in OWN:
                    raise ScorerError(f"{where}: option {option} is that of Combined itself, for all of them")
            for option, allowed in (("exposure", "none"), ("pretrained", "")):
                if options.get(option, allowed) != allowed:
                    raise ScorerError(
                        f"{where}: {option} is {shown(options[option])}, allowed in a combination: {allowed or 'none'}"
                    )
            if any("/" in str(folder) for folder in cls.folders(options).values()):
                raise ScorerError(f"{where}: takes the folder of an earlier training, which a combination does not")
            try:
                check_options(cls, options)
                whole = of_kind(name, options, self.inputs)
                own: Any = cls(**{**whole, "seed": axis_seed(self.seed, number), "device": self.device})
                if metric is not None:
                    check_metric(metric, tuple(own.metrics), name)
            except ScorerError as error:
                raise ScorerError(f"{where}: {error}") from error
            if "family" in scorer_fields(cls):
                own.family = False  # of priors, which there are none of
            found.append(own)
        return found

    def fit(
        self,
        x: Events,
        *,
        validation: Events | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> Self:
        """Train all scorers on x, one after another, and return self.

        validation: background events for their early stopping and for the quantiles, else 15 % of x by seed: none of them is trained on; checkpoint: a file
        to resume a killed training from, with what is finished beside it; progress: as the scorers have it. Raises ScorerError for options that mean
        nothing, for weights and exposure, and for a scorer that gives all held-out events the same score, TooFewRowsError, and what the scorers raise.
        """
        refuse_unused(x, self.uses, type(self).__name__)
        self.check()
        sample = as_sample(x)
        names, made = sample.names, dict(sample.made)
        sample = in_order(sample, names, made, "x")
        least, unit = self.least if validation is None else MIN_EVENTS, "rows" if self.inputs == "rows" else "events"
        if len(sample) < least:
            raise TooFewRowsError(f"x: has {len(sample)} {unit}, at least {least} are needed")
        if validation is None:
            kept, rest = split_rows(np.arange(len(sample)), np.random.default_rng(self.seed))
            train, held = sample.select(kept), sample.select(rest)
        else:
            train = sample
            held = in_order(as_sample(validation, names, where="validation"), names, made, "validation")
        if len(held) < MIN_VALIDATION:
            raise TooFewRowsError(f"validation: has {len(held)} {unit}, at least {MIN_VALIDATION} are needed")
        axes = [Axis(scorer, train, held) for scorer in self.fresh_scorers()]
        scorers = fit_axes(axes, checkpoint=None if checkpoint is None else str(checkpoint), progress=progress)
        quantiles = []
        for number, (scorer, scores) in enumerate(zip(scorers, self._scores(scorers, held), strict=True)):
            try:
                quantiles.append(BackgroundQuantiles(np.sort(scores)))
            except ScorerError as error:
                raise ScorerError(f"scorers: number {number + 1}, {type(scorer).__name__}: {error}") from error
        self.scorers_, self.quantiles_ = scorers, quantiles
        self.n_features_ = int(np.prod(train.inputs.shape[1:]))
        self.input_names, self.made_ = names, made
        self.training_ = {
            "rows": [len(train)],
            "validation_rows": [len(held)],
            "rows_given": len(sample) + (0 if validation is None else len(held)),
            "scorers": [dict(getattr(scorer, "training_", {})) for scorer in scorers],
        }
        if checkpoint is not None:
            for number in range(len(scorers)):
                remove_finished(f"{checkpoint}.{number}")
        return self

    def score(self, x: Events, *, metric: str | None = None) -> Array:
        """Return (n,) scores, −ln p, larger = more anomalous; metric: one of `metrics`. Errors as those of the scorers."""
        metric = check_metric(metric, self.metrics, type(self).__name__)
        return self.score_each(x, [metric])[metric]

    def score_each(self, x: Events, metrics: Sequence[str]) -> dict[str, Array]:
        """Return metric -> (n,) scores of one inference."""
        chosen = [check_metric(metric, self.metrics, type(self).__name__) for metric in metrics]
        surprises = self.surprises(x)
        return {metric: combined(surprises, metric) for metric in chosen}

    def surprises(self, x: Events) -> Array:
        """Return −ln p (n, k) of each scorer, p the part of the background that it gives a higher score."""
        scorers = require_fitted(self.scorers_, self)
        inputs = named_inputs(x, self.input_names, made=self.made_)
        sample = Sample(inputs, self.input_names if inputs.ndim == 2 else ())
        found = self._scores(scorers, sample)
        return np.stack([q.surprise(s) for q, s in zip(self.quantiles_, found, strict=True)], axis=1)

    def _scores(self, scorers: Sequence[Any], sample: Sample) -> list[Array]:
        """Return the scores (n,) of each scorer, by the metric that was asked for."""
        asked = [metric for _, metric, _ in members_of(self.scorers)]
        given: Any = sample if sample.names else sample.inputs
        return [scorer.score(given, metric=metric) for scorer, metric in zip(scorers, asked, strict=True)]

    def save(self, path: str | Path) -> None:
        """Write the folder that `load_scorer` reads: every scorer, as each writes itself, and the held-out scores."""
        scorers = require_fitted(self.scorers_, self)
        records: list[Any] = []
        tensors: dict[str, torch.Tensor] = {}
        with tempfile.TemporaryDirectory() as folder:
            for number, (scorer, quantiles) in enumerate(zip(scorers, self.quantiles_, strict=True)):
                scorer.save(Path(folder) / str(number))
                record, stored = read_folder(Path(folder) / str(number))
                records.append(record)
                tensors |= {f"scorer.{number}.{name}": tensor for name, tensor in stored.items()}
                tensors[f"quantiles.{number}"] = torch.from_numpy(quantiles.scores)
        save_scorer(
            path,
            self,
            parameters={**self.parameters(), "scorers": list(self.scorers)},
            n_features=self.n_features_,
            state={"scorers": records},
            training=self.training_,
            tensors=tensors,
        )

    @classmethod
    def from_stored(cls, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """Rebuild from what `save` wrote."""
        scorer = cls(**record["parameters"])
        scorer.check()
        records, members = record["state"]["scorers"], members_of(scorer.scorers)
        if [own["class"] for own in records] != [member[0].__name__ for member in members]:
            raise ScorerError(
                f"holds {', '.join(shown(own['class']) for own in records)}, the options name {', '.join(scorer.described())}"
            )
        scorer.n_features_ = whole_number("n_features", record["n_features"])
        if record.get("input_names"):
            require_columns(record, scorer.n_features_)
        found: list[Any] = []
        for number, own in enumerate(records):
            begin = f"scorer.{number}."
            parts = {name.removeprefix(begin): value for name, value in tensors.items() if name.startswith(begin)}
            found.append(rebuilt(own, parts))
        scorer.scorers_ = found
        held = [tensors[f"quantiles.{number}"] for number in range(len(found))]
        if not all(tensor.is_floating_point() for tensor in held):
            raise ScorerError("a held-out score is no real number")
        scorer.quantiles_ = [BackgroundQuantiles(tensor.double().numpy()) for tensor in held]
        scorer.training_ = dict(record["training"])
        return scorer


def combined(surprises: Array, metric: str) -> Array:
    """Return −ln p (n,) of −ln p_i (n, k); metric: one of `Combined.metrics`."""
    if metric == "and":
        return np.asarray(surprises.min(axis=1))
    if metric == "or":
        return np.asarray(surprises.max(axis=1))
    # the smallest p_i may be too small for a number of its own
    total = np.logaddexp.reduce(-surprises, axis=1)
    if metric == "average":
        return np.asarray(np.log(surprises.shape[1]) - total)
    none = np.log1p(-np.exp(-surprises)).sum(axis=1)  # ln Π(1 − p_i)
    exact = -np.log(-np.expm1(np.minimum(none, -np.finfo(float).tiny)))
    return np.asarray(np.where(total < SMALL, -total, exact))


SMALL = -30.0  # ln of a sum of p_i of which no more than its first order is left of the product


def members_of(given: Any) -> list[tuple[type[Method], str | None, dict[str, Any]]]:
    """Return class, metric and options of each scorer of a combination; raises ScorerError for what is none."""
    if isinstance(given, str | Mapping) or not isinstance(given, Sequence):
        raise ScorerError(f"scorers: is {shown(given)}, allowed: a list of names, or of mappings of name and options")
    found = []
    for number, one in enumerate(given):
        options = dict(one) if isinstance(one, Mapping) else {"name": one}
        name, metric = options.pop("name", None), options.pop("metric", None)
        where = f"scorers: number {number + 1}"
        if not isinstance(name, str) or not name:
            raise ScorerError(f"{where} is {shown(one)}, allowed: a name, or a mapping of name and options")
        if metric is not None and not isinstance(metric, str):
            raise ScorerError(f"{where}: metric is {shown(metric)}, allowed: the name of one")
        try:
            found.append((method_class(name), metric, {str(key): value for key, value in options.items()}))
        except ScorerError as error:
            raise ScorerError(f"{where}: {error}") from error
    return found
