"""A QUAK space (arXiv:2011.03550) whose axes are scorers of any kind: losses of densities, of autoencoders, transport.

An event's place is how anomalous it is to a scorer of the background and to one of each prior: -log p, an image's
reconstruction error, the distance to a sample's medoids. Units differ, so each axis is divided by its spread over the
training background. `losses` then go where those of `Quak` go: into regions, or into the difference that `score` gives.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from ..errors import unknown_name
from .inputs import ScorerError, ShapeError, check_metric
from .scorer import Scorer, require_fitted, save_scorer, scorer_class
from .storage import read_folder

__all__ = ["ScorerSpace"]

Matrix = npt.NDArray[np.float64]
Events = npt.ArrayLike | Mapping[str, npt.ArrayLike]
BACKGROUND = "background"
SCALED = 2000  # events at most whose spread is an axis' scale


class ScorerSpace:
    """Axes "background" and one for each prior, each a scorer of its own (`Quak` trains densities for all in one go).

    background, priors: scorers that are not fitted, or fitted ones if `fit` is told so. alpha: weight of the priors in the
    difference. Events are one array for all axes, or a mapping of every axis' name to the events as its scorer takes them
    (features for a density, images for transport), the same events in the same order. scales_: (m,) spread of each axis over
    the background.

    metrics: "difference" (default), L_background - alpha · the smallest prior's, in spreads; "background"; each prior's
    name, L_background - alpha · its own.
    """

    def __init__(self, background: Scorer, priors: Mapping[str, Scorer], *, alpha: float = 1.0) -> None:
        if BACKGROUND in priors:
            raise ScorerError(f"a prior cannot be called {BACKGROUND!r}: that is the other axis")
        self.scorers: dict[str, Scorer] = {BACKGROUND: background, **priors}
        self.alpha = alpha
        self.scales_: Matrix | None = None

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Names of the axes, in the order of the columns of `losses`."""
        return tuple(self.scorers)

    @property
    def metrics(self) -> tuple[str, ...]:
        """What `score` can give."""
        return ("difference", *self.scorers)

    def fit(
        self,
        x: Events,
        *,
        priors: Mapping[str, npt.ArrayLike] | None = None,
        validation: Events | None = None,
        fitted: bool = False,
    ) -> Self:
        """Fit the background's scorer on x, each prior's on its own sample, set the scales and return self.

        x: background events, for every axis, (n, ...); priors: name -> sample, as that axis' scorer takes it; validation:
        background events, likewise, for the background's scorer (each prior's splits off its own); fitted: the scorers are
        fitted already, only the scales are set. Raises ScorerError for a missing or unknown axis or a constant one,
        ShapeError for axes of different lengths, and what the scorers raise.
        """
        events, priors = self._events(x), priors or {}
        held = None if validation is None else self._events(validation)[BACKGROUND]
        names = self.axis_names[1:]
        for name in priors:
            if name not in names:
                raise ScorerError(unknown_name("prior", name, names, "priors"))
        if not fitted:
            for name in names:
                if name not in priors:
                    raise ScorerError(f"priors: no sample of {name!r}; one for each of {', '.join(names)} is needed")
            self.scorers[BACKGROUND].fit(events[BACKGROUND], validation=held)
            for name in names:
                self.scorers[name].fit(priors[name])
        rows = {name: np.asarray(values)[:SCALED] for name, values in events.items()}
        scales = np.array([scorer.score(rows[name]).std() for name, scorer in self.scorers.items()])
        if not (scales > 0).all():
            constant = self.axis_names[int(np.argmin(scales))]
            raise ScorerError(f"axis {constant!r}: every background event has the same score; it tells nothing apart")
        self.scales_ = scales
        return self

    def losses(self, x: Events) -> Matrix:
        """Return the losses (n, m) of events, one column for each axis, in spreads of the background."""
        scales = require_fitted(self.scales_, self)
        events = self._events(x)
        return np.stack([s.score(events[name]) for name, s in self.scorers.items()], axis=1) / scales

    def score(self, x: Events, *, metric: str | None = None) -> Matrix:
        """Return (n,) scores, larger = more anomalous; metric: one of `metrics`."""
        metric = check_metric(metric, self.metrics, type(self).__name__)
        losses = self.losses(x)
        if metric == BACKGROUND or losses.shape[1] == 1:
            return np.asarray(losses[:, 0])
        chosen = slice(1, None) if metric == "difference" else [self.axis_names.index(metric)]
        return np.asarray(losses[:, 0] - self.alpha * losses[:, chosen].min(axis=1))

    def save(self, path: str | Path) -> None:
        """Write the folder that `load_scorer` reads: the scorers of all axes, as each writes itself, and the scales.

        Raises ScorerFolderError for a scorer of a class that `load_scorer` does not know, and what the scorers raise.
        """
        scales = require_fitted(self.scales_, self)
        axes: list[dict[str, Any]] = []
        tensors = {"scales": torch.from_numpy(scales)}
        with tempfile.TemporaryDirectory() as folder:
            for number, (name, scorer) in enumerate(self.scorers.items()):
                scorer_class(type(scorer).__name__, where=f"axis {name!r}")
                scorer.save(Path(folder) / str(number))
                record, stored = read_folder(Path(folder) / str(number))
                axes.append({"name": name, "scorer": record})
                tensors |= {f"{number}.{key}": tensor for key, tensor in stored.items()}
        save_scorer(
            path,
            self,
            parameters={"alpha": self.alpha},
            n_features=axes[0]["scorer"]["n_features"],
            state={"axes": axes},
            training={},
            tensors=tensors,
        )

    @classmethod
    def from_stored(cls, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """Rebuild from what `save` wrote."""
        scorers: dict[str, Scorer] = {}
        for number, axis in enumerate(record["state"]["axes"]):
            own = {key.removeprefix(f"{number}."): t for key, t in tensors.items() if key.startswith(f"{number}.")}
            scorers[axis["name"]] = scorer_class(axis["scorer"]["class"]).from_stored(axis["scorer"], own)
        space = cls(scorers.pop(BACKGROUND), scorers, **record["parameters"])
        space.scales_ = tensors["scales"].numpy()
        if space.scales_.shape != (len(space.scorers),):
            raise ValueError(f"{len(space.scales_)} scales for {len(space.scorers)} axes")
        return space

    def _events(self, x: Events) -> dict[str, npt.ArrayLike]:
        """Return the events of every axis, or say which is missing, unknown, or of another length."""
        if not isinstance(x, Mapping):
            return dict.fromkeys(self.scorers, x)
        for name in x:
            if name not in self.scorers:
                raise ScorerError(unknown_name("axis", name, self.scorers, "x"))
        lengths = {}
        for name in self.scorers:
            if name not in x:
                raise ScorerError(f"x: nothing for the axis {name!r}; one array for each of {', '.join(self.scorers)}")
            lengths[name] = len(np.asarray(x[name]))
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} {n}" for name, n in lengths.items())
            raise ShapeError(f"x: the axes have different numbers of events: {told}")
        return {name: x[name] for name in self.scorers}
