"""A QUAK space (arXiv:2011.03550) whose axes are scorers of any kind: losses of densities, of autoencoders, transport.

An event's place is how anomalous it is to a scorer of the background and to one of each prior: -log p, an image's
reconstruction error, the distance to a sample's medoids. Units differ, so each axis is divided by its spread over the
training background. An event of several jets is as many inputs of one model of jets, whose scores are put together.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from ..errors import shown, unknown_name
from .axis_fit import SPLIT, Axis, fit_axes, in_order, n_jets, remove_finished, single_jets
from .columns import columns_of, refuse_other_settings
from .inputs import MissingPackageError, NonFiniteError, ScorerError, ShapeError, TooFewRowsError, check_metric
from .pretrained import folder_of, origin_of
from .sample import (
    Events,
    Sample,
    as_sample,
    event_hashes,
    named_inputs,
    refuse_unknown_priors,
    refuse_unused,
)
from .scorer import Method, Scorer, rebuilt, require_fitted, save_scorer, scorer_class
from .storage import read_folder

__all__ = ["BACKGROUND", "PER_JET", "ScorerSpace"]

Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[Any]
Axes = Events | Mapping[str, Events]
Metric = str | Mapping[str, str] | tuple[tuple[str, str], ...] | None
"""A metric of all axes, axis -> metric of those that take another one than their first, or pairs of these; None for the first of each."""
BACKGROUND = "background"
EXPOSED = ("exposed_rows", "exposure_effective", "exposure_unreached")
PER_JET = ("sum", "max", "concat")
"""How the losses of an event's jets become the event's: their sum, the largest, or one axis for each jet."""
MAX_JETS = 64  # of an event, in what is stored
SPREAD_ROWS = 500  # single jets or rows at most whose spread is an axis' scale: some metrics take 10 ms each
SAME = "every background event has the same score; it tells nothing apart"


@runtime_checkable
class ManyMetrics(Protocol):
    """A scorer that gives several metrics of one inference."""

    def score_each(self, x: npt.ArrayLike, metrics: Sequence[str]) -> dict[str, Matrix]:
        """Return name -> scores (n,)."""


def is_column(values: Any) -> bool:
    """Tell whether a value of a mapping is a column, (n,) numbers, and no sample of events."""
    return not isinstance(values, Sample) and columns_of(values) is None and np.ndim(values) == 1


def called(axis: str) -> str:
    """Return what the sample of an axis is called in errors."""
    return axis if axis == BACKGROUND else f"prior {axis!r}"


def refuse_exposed(exposure: Any, samples: Mapping[str, Sample | None]) -> None:
    """Raise ScorerError where events of an exposure are those of another sample, by their hashes."""
    own = event_hashes([exposure])
    for where, sample in samples.items():
        shared = int(np.isin(own, event_hashes([sample])).sum())
        if shared:
            raise ScorerError(
                f"exposure: {shared} events are among those of {where}, too; what a training is exposed to is a sample apart"
            )


def check_trainable(scorer: Scorer, events: Sample, where: str) -> None:
    """Raise TooFewRowsError or NonFiniteError, naming the sample, where a scorer cannot be trained on events."""
    jets = n_jets(events.inputs)
    found, least = len(events) * jets, scorer.least if isinstance(scorer, Method) else 1
    if found < least:
        told = f"{len(events)} events" if jets == 1 else f"{len(events)} events of {jets} jets"
        raise TooFewRowsError(f"{where}: has {told}, at least {least} {'rows' if jets == 1 else 'jets'} are needed")
    if events.inputs.dtype.kind == "f":
        bad = int((~np.isfinite(events.inputs)).any(axis=tuple(range(1, events.inputs.ndim))).sum())
        if bad:
            columns = [name for i, name in enumerate(events.names) if not np.isfinite(events.inputs[:, i]).all()]
            told = f", in {', '.join(columns)}" if columns else ""
            raise NonFiniteError(f"{where}: NaN or infinity in {bad} of {len(events)} events{told}")


class ScorerSpace:
    """Axes "background" and one for each prior, each a scorer of its own (`Quak` trains densities for all in one go).

    background, priors: scorers that are not fitted, or fitted ones if `fit` is told so. alpha: weight of the priors in the
    difference. metric: which of the scorers' metrics spans the axes, None for the first of each, or axis -> metric of those that take another one;
    per_jet: of PER_JET. Neither changes
    what is trained (`configured`).

    Events are a sample, a plain array or what names its columns (`columns_of`) for all axes, or a mapping of every axis' name to the
    events as its scorer takes them (features for a density, images for transport), the same events in the same order. Columns are
    matched by name where both sides have names, as those of a plain array do not.

    metrics of scores: "difference" (default), L_background - alpha · the smallest prior's, in spreads; "background"; each prior's
    name, L_background - alpha · its own. With "concat" the differences of all jets are added up.
    """

    def __init__(
        self,
        background: Scorer,
        priors: Mapping[str, Scorer] | None = None,
        *,
        alpha: float = 1.0,
        metric: Metric = None,
        per_jet: str = "sum",
    ) -> None:
        if BACKGROUND in (priors or {}):
            raise ScorerError(f"a prior cannot be called {BACKGROUND!r}: that is the other axis")
        if per_jet not in PER_JET:
            raise ScorerError(unknown_name("per_jet", per_jet, PER_JET))
        metric = metric if isinstance(metric, str | None) else dict(metric)
        self.scorers: dict[str, Scorer] = {BACKGROUND: background, **(priors or {})}
        self.alpha, self.metric, self.per_jet = alpha, metric, per_jet
        self._check_metric_axes()
        self.spreads_: dict[str, dict[str, float]] | None = None
        self.left_out_: dict[str, dict[str, str]] = {}
        self.jets_: dict[str, int] = {}
        self.names_: dict[str, tuple[str, ...]] = {}
        self.made_: dict[str, Any] = {}
        self.axis_made_: dict[str, dict[str, Any]] = {}
        self.trained_on = event_hashes([])
        self.rows_ = 0

    def __repr__(self) -> str:
        kinds = ", ".join(dict.fromkeys(type(s).__name__ for s in self.scorers.values()))
        read = [f"metric={self.metric}"] if self.metric else []
        read += [f"per_jet={self.per_jet}"] if self.per_jet != "sum" else []
        state = f"fitted on {self.rows_:,} events" if self.spreads_ is not None else "not fitted"
        return f"ScorerSpace({', '.join([kinds, f'{len(self.scorers) - 1} priors', *read, state])})"

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Names of the axes, in the order of the columns of `losses`; side by side "background jet 1" and so on."""
        if self._columns() == 1:
            return tuple(self.scorers)
        return tuple(f"{name} jet {jet + 1}" for name in self.scorers for jet in range(self._columns()))

    @property
    def metrics(self) -> tuple[str, ...]:
        """What `score` can give."""
        return ("difference", *self.scorers)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs' columns that the space was fitted with, of all axes, each once."""
        return tuple(dict.fromkeys(name for names in self.names_.values() for name in names))

    def fit(
        self,
        sample: Axes,
        *,
        priors: Mapping[str, Events] | None = None,
        exposure: Events | None = None,
        validation: Axes | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = False,
        fitted: bool = False,
    ) -> Self:
        """Fit the background's scorer on a sample, each prior's on its own, set the scales and return self.

        sample: background events, for every axis; priors: name -> events, as that axis' scorer takes them. exposure: events
        that the background's scorer is exposed to: what a prior is like is no background. validation: background events for the background's
        scorer, used as they are; without, jets of one event are kept together when events are split (85 % to train on, by seed), rows are
        split by the scorer. Scorers of one method that can be stacked are trained side by side (`Method.stacks`), others one after another.
        checkpoint: each axis writes `{checkpoint}.{number}`, a finished one is kept beside it until all are; a killed fit that is done
        again ends with the same bits. What a pretrained scorer had trained on, where its folder tells, joins `trained_on`. progress: as the scorers have it. fitted: the scorers are fitted already, only the scales are set.
        Raises ScorerError for a missing or unknown axis or a constant one, for weights and exposure that a scorer does not use,
        ShapeError for axes of different lengths, and what the scorers raise.
        """
        before: list[npt.NDArray[np.uint64]] = []
        known = {name: getattr(scorer, "input_names", ()) if fitted else () for name, scorer in self.scorers.items()}
        axes, priors = self._axes(sample, known), priors or {}
        names = {name: known[name] or given.names for name, given in axes.items()}
        held = None if validation is None else self._axes(validation, names, where="validation")
        if not fitted:
            refuse_unknown_priors(priors, tuple(self.scorers)[1:])
            others = {n: as_sample(priors[n], names[n], where=called(n)) for n in list(self.scorers)[1:]}
            given = {BACKGROUND: axes[BACKGROUND], **others}
            for name, events in given.items():
                uses = getattr(self.scorers[name], "uses", ())
                refuse_unused(events, uses, type(self.scorers[name]).__name__, exposure=exposure)
            refuse_exposed(
                exposure,
                {
                    **{called(name): events for name, events in given.items()},
                    "validation": (held or {}).get(BACKGROUND),
                },
            )
            for name, events in given.items():  # all of them before the first training
                check_trainable(self.scorers[name], events, called(name))
            fits = []
            for name, events in given.items():
                own = beside = None
                made = axes[name].made
                if held is not None and name == BACKGROUND:
                    own = in_order(held[name], names[name], made, "validation")
                if exposure is not None and name == BACKGROUND:
                    beside = in_order(as_sample(exposure, names[name], where="exposure"), names[name], made, "exposure")
                # copies: a fit that fails leaves the space as it was
                ordered = in_order(events, names[name], made, called(name))
                fits.append(Axis(copy.copy(self.scorers[name]), ordered, own, beside))
            origins = [origin_of(folder) for folder in map(folder_of, self.scorers.values()) if folder]
            for origin in origins:
                refuse_other_settings(axes[BACKGROUND].made, origin.made, "x")
            fitted_scorers = fit_axes(
                fits, checkpoint=None if checkpoint is None else str(checkpoint), progress=progress
            )
            scorers = dict(zip(given, fitted_scorers, strict=True))
            before = [origin.trained_on for origin in origins]
            for name, fitted_scorer in scorers.items():
                vars(self.scorers[name]).update(vars(fitted_scorer))
            self.spreads_ = None
        self.made_ = dict(axes[BACKGROUND].made)
        self.axis_made_ = {name: dict(own.made) for name, own in axes.items()}
        self.names_, self.jets_ = names, {name: n_jets(given.inputs) for name, given in axes.items()}
        self.rows_ = len(axes[BACKGROUND])
        self.spreads_, self.left_out_ = self._spreads(axes)
        for name in self.scorers:
            self.spread(name)
        self._columns()
        own_events = event_hashes([*axes.values(), *priors.values(), exposure, *(held or {}).values()])
        self.trained_on = np.unique(np.concatenate([own_events, *before]))
        if checkpoint is not None:
            for number in range(len(self.scorers)):
                remove_finished(f"{checkpoint}.{number}")
        return self

    def configured(self, *, metric: Metric = None, per_jet: str = "sum") -> Self:
        """Return a space of the same models that is read otherwise; metric, per_jet: as the constructor takes them.

        Raises UnknownMetricError for a metric that a scorer does not have, ScorerError for one whose spread is not known, with the
        reason, and for a `per_jet` that there is not.
        """
        if per_jet not in PER_JET:
            raise ScorerError(unknown_name("per_jet", per_jet, PER_JET))
        other = copy.copy(self)
        other.metric, other.per_jet = metric if isinstance(metric, str | None) else dict(metric), per_jet
        other._check_metric_axes()
        for name in self.scorers:
            other.axis_metric(name)
            if self.spreads_ is not None:
                other.spread(name)
        if self.jets_:
            other._columns()
        return other

    def losses(self, x: Axes) -> Matrix:
        """Return the losses (n, m) of events, one column for each of `axis_names`, in spreads of the background.

        Columns with names are put in the order of the training; those of a plain array are taken as they are.
        Raises NotFittedError, ScorerError for a column that is missing, ShapeError for another number of jets.
        """
        require_fitted(self.spreads_, self)
        found = []
        for name, events in self._axes(x, self.names_).items():
            inputs, jets = named_inputs(events, self.names_[name], made=self.axis_made_[name]), self.jets_[name]
            of_rows = getattr(self.scorers[name], "takes", ()) == ("rows",)  # which says itself that these are no rows
            if n_jets(inputs) != jets and not of_rows:
                raise ShapeError(f"x: {n_jets(inputs)} jets an event, the space was fitted with {jets}")
            scores = self.scorers[name].score(single_jets(inputs), metric=self.axis_metric(name))
            each = scores.reshape(len(inputs), jets) / self.spread(name)
            if self.per_jet == "concat":
                found.append(each)
            else:
                found.append((each.sum(axis=1) if self.per_jet == "sum" else each.max(axis=1))[:, None])
        return np.concatenate(found, axis=1)

    def score_of(self, losses: Matrix, metric: str | None = None) -> Matrix:
        """Return the scores (n,) of losses (n, m), larger = more anomalous; metric: one of `metrics`."""
        metric = check_metric(metric, self.metrics, type(self).__name__)
        axes = losses.reshape(len(losses), len(self.scorers), self._columns())
        background = axes[:, 0]
        if metric == BACKGROUND or len(self.scorers) == 1:
            return np.asarray(background.sum(axis=1))
        chosen = slice(1, None) if metric == "difference" else [list(self.scorers).index(metric)]
        return np.asarray((background - self.alpha * axes[:, chosen].min(axis=1)).sum(axis=1))

    def score(self, x: Axes, *, metric: str | None = None) -> Matrix:
        """Return (n,) scores, larger = more anomalous; metric: one of `metrics`."""
        check_metric(metric, self.metrics, type(self).__name__)
        return self.score_of(self.losses(x), metric)

    def save(self, path: str | Path) -> None:
        """Write the folder that `load_scorer` reads: the scorers of all axes, as each writes itself, and the scales.

        Raises ScorerFolderError for a scorer of a class that `load_scorer` does not know, and what the scorers raise.
        """
        spreads = require_fitted(self.spreads_, self)
        axes: list[dict[str, Any]] = []
        tensors = {"trained_on": torch.from_numpy(self.trained_on)}
        with tempfile.TemporaryDirectory() as folder:
            for number, (name, scorer) in enumerate(self.scorers.items()):
                scorer_class(type(scorer).__name__, where=f"axis {name!r}")
                scorer.save(Path(folder) / str(number))
                record, stored = read_folder(Path(folder) / str(number))
                axes.append(
                    {
                        "name": name,
                        "scorer": record,
                        "spreads": spreads[name],
                        "left_out": self.left_out_[name],
                        "jets": self.jets_[name],
                        "input_names": list(self.names_[name]),
                        "inputs_made": self.axis_made_[name],
                    }
                )
                tensors |= {f"{number}.{key}": tensor for key, tensor in stored.items()}
        save_scorer(
            path,
            self,
            parameters={"alpha": self.alpha, "metric": self.metric, "per_jet": self.per_jet},
            n_features=axes[0]["scorer"]["n_features"],
            state={"axes": axes},
            training={"rows": [self.rows_], **self._exposed()},
            tensors=tensors,
        )

    def _exposed(self) -> dict[str, Any]:
        """Return what the training of the background's scorer says of the events that it was exposed to; nothing where there were none."""
        own = getattr(self.scorers[BACKGROUND], "training_", None) or {}
        return {name: own[name] for name in EXPOSED if name in own}

    @classmethod
    def from_stored(cls, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """Rebuild from what `save` wrote."""
        scorers: dict[str, Scorer] = {}
        axes = record["state"]["axes"]
        for number, axis in enumerate(axes):
            if axis["name"] in scorers:
                raise ScorerError(f"axis {shown(axis['name'])} is there twice")
            own = {key.removeprefix(f"{number}."): t for key, t in tensors.items() if key.startswith(f"{number}.")}
            scorers[axis["name"]] = rebuilt(axis["scorer"], own)
        space = cls(scorers.pop(BACKGROUND), scorers, **record["parameters"])
        space.spreads_ = {axis["name"]: dict(axis["spreads"]) for axis in axes}
        space.left_out_ = {axis["name"]: dict(axis["left_out"]) for axis in axes}
        space.jets_ = {axis["name"]: int(axis["jets"]) for axis in axes}
        for name, jets in space.jets_.items():
            if not 1 <= jets <= MAX_JETS:
                raise ScorerError(f"axis {shown(name)}: {shown(jets)} jets an event, allowed: 1 to {MAX_JETS}")
        space.names_ = {axis["name"]: tuple(axis["input_names"]) for axis in axes}
        space.made_ = dict(record.get("inputs_made", {}))
        # those of a folder of before are of all axes
        space.axis_made_ = {axis["name"]: dict(axis.get("inputs_made", space.made_)) for axis in axes}
        space.rows_ = int(record["training"]["rows"][0])
        space.trained_on = tensors["trained_on"].numpy()
        return space

    def _axes(self, x: Axes, names: Mapping[str, tuple[str, ...]], *, where: str = "x") -> dict[str, Sample]:
        """Return the events of every axis, with the columns of `names`, or say which is missing, unknown, or of another length.

        A mapping without any axis, whose values are columns, is one of columns.
        """
        if not isinstance(x, Mapping) or (x and not x.keys() & self.scorers.keys() and all(map(is_column, x.values()))):
            wanted = tuple(dict.fromkeys(name for own in names.values() for name in own))
            return dict.fromkeys(self.scorers, as_sample(x, wanted, where=where))
        for name in x:
            if name not in self.scorers:
                raise ScorerError(unknown_name("axis", name, self.scorers, where))
        found = {}
        for name in self.scorers:
            if name not in x:
                raise ScorerError(
                    f"{where}: nothing for the axis {name!r}; one array for each of {', '.join(self.scorers)}"
                )
            found[name] = as_sample(x[name], names[name], where=f"{where}, axis {name!r}")
        if len({len(events) for events in found.values()}) > 1:
            told = ", ".join(f"{name} {len(events)}" for name, events in found.items())
            raise ShapeError(f"{where}: the axes have different numbers of events: {told}")
        return found

    def axis_metric(self, axis: str) -> str:
        """Return the metric of an axis' scorer that spans it."""
        scorer = self.scorers[axis]
        metric = self.metric.get(axis) if isinstance(self.metric, Mapping) else self.metric
        return check_metric(metric, scorer.metrics, f"axis {axis!r}, {type(scorer).__name__}")

    def _check_metric_axes(self) -> None:
        """Raise ScorerError where metrics are given for an axis that there is not."""
        for axis in self.metric if isinstance(self.metric, Mapping) else ():
            if axis not in self.scorers:
                raise ScorerError(unknown_name("axis", axis, self.scorers, "metric"))

    def spread(self, axis: str) -> float:
        """Return the spread that an axis is divided by, or say why there is none."""
        metric, spreads = self.axis_metric(axis), require_fitted(self.spreads_, self)
        if metric not in spreads[axis]:
            raise ScorerError(f"axis {axis!r}: metric {metric!r}: {self.left_out_[axis][metric]}")
        return spreads[axis][metric]

    def _columns(self) -> int:
        """Return the number of columns of each axis: one, or one a jet."""
        if self.per_jet != "concat":
            return 1
        jets = require_fitted(self.jets_ or None, self)
        if len(set(jets.values())) > 1:
            told = ", ".join(f"{name} {n}" for name, n in jets.items())
            raise ShapeError(f"per_jet 'concat' needs the same number of jets on each axis: {told}")
        return jets[BACKGROUND]

    def _spreads(self, axes: Mapping[str, Sample]) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, str]]]:
        """Return, axis by axis, the spread of every metric over some single jets, and why others have none."""
        n = len(axes[BACKGROUND])
        events = min(n, max(1, SPREAD_ROWS // max(self.jets_.values())))
        rows = np.sort(np.random.default_rng(SPLIT).choice(n, events, replace=False))
        spreads: dict[str, dict[str, float]] = {}
        left_out: dict[str, dict[str, str]] = {}
        for name, scorer in self.scorers.items():
            spreads[name], left_out[name] = {}, {}
            jets = single_jets(named_inputs(axes[name].select(rows), self.names_[name]))
            many = scorer.score_each(jets, scorer.metrics) if isinstance(scorer, ManyMetrics) else {}
            for metric in scorer.metrics:
                try:
                    spread = float((many[metric] if many else scorer.score(jets, metric=metric)).std())
                except MissingPackageError as error:
                    left_out[name][metric] = str(error)
                    continue
                if spread > 0:
                    spreads[name][metric] = spread
                else:
                    left_out[name][metric] = SAME
        return spreads, left_out
