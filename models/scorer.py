"""The one protocol of every anomaly method, the registry of methods, saving and loading.

A scorer is fitted on an array, gives one number an event (larger = more anomalous), and lives on disk as a folder.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from .. import __version__
from ..errors import shown, unknown_name
from .inputs import NotFittedError, ScorerError
from .sample import Events
from .storage import RECORD, ScorerFolderError, read_folder, write_folder

T = TypeVar("T")

__all__ = [
    "KINDS",
    "SCORERS",
    "SECOND_PHASE",
    "Method",
    "Scorer",
    "for_kind",
    "load_scorer",
    "require_columns",
    "require_fitted",
    "save_scorer",
    "scorer_class",
    "scorer_fields",
    "stored_kinds",
]

KINDS = ("rows", "images", "sets")
"""What an event can be to a method: a row (d,), one image a jet (jets, a, b), or one set a jet (jets, k, c)."""

SECOND_PHASE = ".normalised"
"""Ends the name of the checkpoint of a training's second phase, beside that of the first."""


@runtime_checkable
class Scorer(Protocol):
    """What every anomaly method offers; the rest of the project uses nothing else."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names that `score` takes as `metric`; the first is the default."""

    def fit(self, x: Events, *, validation: Events | None = None) -> Self:
        """Train on x, never on labels; without `validation` a part of x is split off by seed.

        The names of the columns are stored, where x has them, and columns of `validation` are taken by name.
        """

    def score(self, x: Events, *, metric: str | None = None) -> npt.NDArray[np.float64]:
        """Return (n,) scores, larger = more anomalous.

        Columns with names are matched with those of the training; those of a plain array are taken by position, and counted.
        """

    def save(self, path: str | Path) -> None:
        """Write the folder that `load_scorer` reads."""


class StoredScorer(Scorer, Protocol):
    """A scorer that can be rebuilt from what `save_scorer` wrote."""

    @classmethod
    def from_stored(cls, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """Rebuild the fitted scorer; KeyError, TypeError, ValueError or RuntimeError where the folder does not fit."""


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class Method:
    """Base of the methods of this room: keyword-only dataclasses whose constructor's fields are their options.

    takes: the kinds of events that the method works on; uses: what else `fit` can use, of "exposure", "weights", "mass"; trains:
    whether it is trained in epochs, with a checkpoint and a validation sample, or only chosen; least: rows or jets that `fit` needs
    at least; spans: whether it is a space by itself; stacks: options in which scorers may differ that `fit_stack` trains side by side,
    none where it cannot; mosaic: whether it can train `hypotheses=n` neighbourhoods; narrows: whether it has `narrow`, which is weak
    supervision; kind_options: kind of events -> options that follow from it; kind_defaults: likewise, what a space takes where its
    maker says nothing; shown: the options that its repr always shows.

    input_names: of the columns that it was trained on, in order, none where they had none; made_: how those were made, as the
    metadata of a table say ("representation", "settings"); training_: the record of the training,
    empty before.
    """

    takes: ClassVar[tuple[str, ...]]
    uses: ClassVar[tuple[str, ...]] = ()
    trains: ClassVar[bool] = True
    least: ClassVar[int] = 1
    spans: ClassVar[bool] = False
    stacks: ClassVar[tuple[str, ...]] = ()
    mosaic: ClassVar[bool] = False
    narrows: ClassVar[bool] = False
    kind_options: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    kind_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    shown: ClassVar[tuple[str, ...]] = ()

    seed: int = 0
    device: str = "auto"
    input_names: tuple[str, ...] = dataclasses.field(default=(), init=False)
    made_: dict[str, Any] = dataclasses.field(default_factory=dict, init=False)
    training_: dict[str, Any] = dataclasses.field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        # a number of numpy is kept as Python's own: JSON has no other, and torch takes none as a seed
        for name in scorer_fields(type(self)):
            value = getattr(self, name)
            if isinstance(value, np.generic):
                setattr(self, name, value.item())

    def parameters(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {name: getattr(self, name) for name in scorer_fields(type(self))}

    @classmethod
    def parts(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return, of options that name a class and may hold options of it: option -> (the class, what else the mapping may hold); none.

        Of an option that is a list of such, a list of these.

        Raises ScorerError, which begins with the option, where there is no such class.
        """
        del options
        return {}

    @classmethod
    def folders(cls, options: Mapping[str, Any]) -> dict[str, str]:
        """Return option -> folder of the earlier training that it names, of the options that name one."""
        return {"pretrained": options["pretrained"]} if options.get("pretrained") else {}

    def check(self, shape: Sequence[int] = ()) -> None:
        """Raise ScorerError for options that mean nothing, before there is anything to fit.

        shape: of one image, where the events are images of a known size.
        """

    @classmethod
    def fit_stack(
        cls,
        scorers: Sequence[Self],
        given: Sequence[Mapping[str, Any]],
        *,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> None:
        """Fit scorers that differ in `stacks` alone, side by side in one training, each with its arguments of `fit`.

        The inputs of all have one shape but for the number of events. checkpoint, progress: of the one training.
        """
        raise NotImplementedError

    def described(self) -> list[str]:
        """Return what the repr says before the training: the options that are shown always, and those that were changed."""
        fields = scorer_fields(type(self))
        changed = {name for name, field in fields.items() if getattr(self, name) != field.default}
        return [f"{name}={getattr(self, name)!r}" for name in fields if name in self.shown or name in changed]

    def trained_rows(self) -> int:
        """Return how many events `fit` was given, those for validation included."""
        first = [self.training_[name][0] for name in ("rows", "validation_rows") if self.training_.get(name)]
        return int(self.training_.get("rows_given", sum(first)))

    def __repr__(self) -> str:
        state = f"fitted on {self.trained_rows():,} events" if self.training_ else "not fitted"
        return f"{type(self).__name__}({', '.join([*self.described(), state])})"


def scorer_fields(cls: type) -> dict[str, dataclasses.Field[Any]]:
    """Return the constructor's fields of a method, name -> field with its type and default."""
    return {field.name: field for field in dataclasses.fields(cls) if field.init}


SCORERS: dict[str, str] = {
    "Autoencoder": "classical.autoencoder",
    "Combined": "combined",
    "ConstituentVae": "autoencoders.constituent_vae",
    "ConvVae": "autoencoders.conv_vae",
    "DeepSvdd": "classical.deep_svdd",
    "Encoded": "contrastive.encoded",
    "EventAutoencoder": "autoencoders.event_vae",
    "EventToEnsemble": "distance.event_to_ensemble",
    "EventVae": "autoencoders.event_vae",
    "Flow": "density.flow",
    "GaussianMixture": "classical.gaussian_mixture",
    "IsolationForest": "classical.isolation_forest",
    "KMeans": "classical.k_means",
    "KernelDensity": "classical.kernel_density",
    "NAE": "energy.nae",
    "Quak": "density.quak",
    "Vae": "density.vae",
}
"""Class name -> module of this room. The one place where a new method is entered."""

STORED = {**SCORERS, "ScorerSpace": "scorer_space"}
"""Likewise, of everything that `load_scorer` reads: the methods, and the space put together from them."""


def method_class(name: str, *, among: Collection[str] = ()) -> type[Method]:
    """Return the class of a method; raises ScorerError with the nearest name; among: those that are named in it, all where none is given."""
    if name not in SCORERS:
        raise ScorerError(unknown_name("scorer", name, among or SCORERS))
    found: type[Method] = getattr(importlib.import_module(f".{SCORERS[name]}", __package__), name)
    return found


def for_kind(kind: str) -> tuple[str, ...]:
    """Return the names of the methods that take a kind of events; raises ScorerError for a kind that there is not."""
    if kind not in KINDS:
        raise ScorerError(unknown_name("kind", kind, KINDS))
    return tuple(name for name in SCORERS if kind in method_class(name).takes)


def stored_kinds(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the kinds of events that a stored method takes: those of its class that go with its options. record: of scorer.json."""
    method, options = method_class(record["class"]), record["parameters"]
    return tuple(kind for kind in method.takes if method.kind_options.get(kind, {}).items() <= options.items())


def scorer_class(name: str, *, where: str = "") -> type[StoredScorer]:
    """Return the class that a stored scorer is of; raises ScorerFolderError with the nearest name."""
    if name not in STORED:
        raise ScorerFolderError(unknown_name("scorer", name, STORED, where))
    found: type[StoredScorer] = getattr(importlib.import_module(f".{STORED[name]}", __package__), name)
    return found


def check_options(cls: type, options: Mapping[str, Any]) -> None:
    """Refuse options that a method does not have: raises ScorerError with the nearest name."""
    known = scorer_fields(cls)
    for name in options:
        if name not in known:
            raise ScorerError(unknown_name("option", name, known, cls.__name__, limit=len(known)))


def save_scorer(
    path: str | Path,
    scorer: Scorer,
    *,
    parameters: Mapping[str, Any],
    n_features: int,
    state: Mapping[str, Any],
    training: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
) -> None:
    """Write a fitted scorer as a folder, with the names of its inputs.

    parameters: the constructor's arguments; n_features: columns of its input; state: JSON-like fitted values;
    training: the training record; tensors: the fitted arrays.
    """
    record = {
        "class": type(scorer).__name__,
        "version": __version__,
        "parameters": dict(parameters),
        "metrics": list(scorer.metrics),
        "n_features": n_features,
        "input_names": list(getattr(scorer, "input_names", ())),
        "inputs_made": dict(getattr(scorer, "made_", {})),
        "state": dict(state),
        "training": dict(training),
    }
    write_folder(path, record, tensors)


def load_scorer(path: str | Path) -> Scorer:
    """Return the fitted scorer of a folder; raises ScorerFolderError naming the file and what is wrong with it."""
    record, tensors = read_folder(path)
    where = Path(path) / RECORD
    name = record.get("class")
    if not isinstance(name, str):
        raise ScorerFolderError(f"{where}: damaged, no class name in it")
    scorer_class(name, where=str(where))
    try:
        return rebuilt(record, tensors)
    except ScorerError as error:
        raise ScorerFolderError(f"{where}: does not describe a fitted {name}: {error}") from error
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError, AttributeError, OverflowError) as error:
        raise ScorerFolderError(f"{where}: does not describe a fitted {name}: {error!r}") from error


def require_columns(record: Mapping[str, Any], n_columns: int) -> None:
    """Raise ScorerError where a stored record tells another number of columns than the weights have, or names others."""
    names = record.get("input_names") or ()
    if record["n_features"] != n_columns or len(names) not in {0, n_columns}:
        told = f"{shown(record['n_features'])} columns" + (f" and {len(names)} input_names" if names else "")
        raise ScorerError(f"tells {told}, the weights are those of {n_columns} columns")


def rebuilt(record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> StoredScorer:
    """Return the scorer of a record and its tensors, which knows the names of its inputs where they were stored.

    Raises what `from_stored` raises, and ScorerError for names that are none.
    """
    scorer = scorer_class(record["class"]).from_stored(record, tensors)
    if isinstance(scorer, Method):
        names = record.get("input_names", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ScorerError(f"input_names is {shown(names)}, a list of names is expected")
        scorer.input_names = tuple(names)
        scorer.made_ = dict(record.get("inputs_made", {}))
    return scorer


def require_fitted(fitted: T | None, scorer: object) -> T:
    """Return the fitted state, or raise NotFittedError."""
    if fitted is None:
        raise NotFittedError(f"{type(scorer).__name__} is not fitted; call fit(x) or load_scorer(path) first")
    return fitted
