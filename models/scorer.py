"""The one protocol of every anomaly method, the registry of methods, saving and loading.

A scorer is fitted on an array, gives one number an event (larger = more anomalous), and lives on disk as a folder.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from .. import __version__
from ..errors import unknown_name
from .inputs import NotFittedError
from .storage import RECORD, ScorerFolderError, read_folder, write_folder

T = TypeVar("T")

__all__ = ["JET_SCORERS", "SCORERS", "SPACES", "Scorer", "load_scorer", "require_fitted", "save_scorer", "scorer_class"]


@runtime_checkable
class Scorer(Protocol):
    """What every anomaly method offers; the rest of the project uses nothing else."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names that `score` takes as `metric`; the first is the default."""

    def fit(self, x: npt.ArrayLike, *, validation: npt.ArrayLike | None = None) -> Self:
        """Train on x (n, d), never on labels; without `validation` a part of x is split off by seed."""

    def score(self, x: npt.ArrayLike, *, metric: str | None = None) -> npt.NDArray[np.float64]:
        """Return (n,) scores, larger = more anomalous."""

    def save(self, path: str | Path) -> None:
        """Write the folder that `load_scorer` reads."""


class StoredScorer(Scorer, Protocol):
    """A scorer that can be rebuilt from what `save_scorer` wrote."""

    @classmethod
    def from_stored(cls, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """Rebuild the fitted scorer; KeyError, TypeError, ValueError or RuntimeError where the folder does not fit."""


SCORERS: dict[str, str] = {
    "Flow": "density.flow",
    "Quak": "density.quak",
    "Vae": "density.vae",
}
"""Class name -> module of this room: the methods that take tables. The one place where a new method is entered."""

JET_SCORERS: dict[str, str] = {
    "ConvVae": "autoencoders.conv_vae",
    "EventToEnsemble": "distance.event_to_ensemble",
}
"""Class name -> module, likewise, of the methods that take jets (n, a, b): images or constituents."""

SPACES: dict[str, str] = {
    "ScorerSpace": "space",
}
"""Class name -> module, likewise, of what is put together from other scorers."""


def scorer_class(name: str, *, where: str = "") -> type[StoredScorer]:
    """Return the scorer class of that name; raises ScorerFolderError with the nearest name."""
    known = SCORERS | JET_SCORERS | SPACES
    if name not in known:
        raise ScorerFolderError(unknown_name("scorer", name, known, where))
    found: type[StoredScorer] = getattr(importlib.import_module(f".{known[name]}", __package__), name)
    return found


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
    """Write a fitted scorer as a folder.

    parameters: the constructor's arguments; n_features: columns of its input; state: JSON-like fitted values;
    training: the training record; tensors: the fitted arrays.
    """
    record = {
        "class": type(scorer).__name__,
        "version": __version__,
        "parameters": dict(parameters),
        "metrics": list(scorer.metrics),
        "n_features": n_features,
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
    cls = scorer_class(name, where=str(where))
    try:
        return cls.from_stored(record, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ScorerFolderError(f"{where}: does not describe a fitted {name}: {error!r}") from error


def require_fitted(fitted: T | None, scorer: object) -> T:
    """Return the fitted state, or raise NotFittedError."""
    if fitted is None:
        raise NotFittedError(f"{type(scorer).__name__} is not fitted; call fit(x) or load_scorer(path) first")
    return fitted
