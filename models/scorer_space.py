"""A QUAK space (arXiv:2011.03550) whose axes are scorers of any kind: losses of densities, of autoencoders, transport.

An event's place is how anomalous it is to a scorer of the background and to one of each prior: -log p, an image's
reconstruction error, the distance to a sample's medoids. Units differ, so each axis is divided by its spread over the
training background. `losses` then go where those of `Quak` go: into regions, or into the difference that `score` gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
import numpy.typing as npt

from ..errors import unknown_name
from .inputs import NotFittedError, ScorerError, ShapeError, check_metric
from .scorer import Scorer

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
    the background. A space is saved scorer by scorer.

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

    def fit(self, x: Events, *, priors: Mapping[str, npt.ArrayLike], fitted: bool = False) -> Self:
        """Fit the background's scorer on x, each prior's on its own sample, set the scales and return self.

        x: background events, for every axis, (n, ...); priors: name -> sample, as that axis' scorer takes it; fitted: the scorers
        are fitted already, only the scales are set. Raises ScorerError for a missing or unknown axis or a constant one,
        ShapeError for axes of different lengths, and what the scorers raise.
        """
        events = self._events(x)
        names = self.axis_names[1:]
        for name in priors:
            if name not in names:
                raise ScorerError(unknown_name("prior", name, names, "priors"))
        if not fitted:
            for name in names:
                if name not in priors:
                    raise ScorerError(f"priors: no sample of {name!r}; one for each of {', '.join(names)} is needed")
            self.scorers[BACKGROUND].fit(events[BACKGROUND])
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
        if self.scales_ is None:
            raise NotFittedError("ScorerSpace is not fitted; call fit first")
        events = self._events(x)
        return np.stack([s.score(events[name]) for name, s in self.scorers.items()], axis=1) / self.scales_

    def score(self, x: Events, *, metric: str | None = None) -> Matrix:
        """Return (n,) scores, larger = more anomalous; metric: one of `metrics`."""
        metric = check_metric(metric, self.metrics, type(self).__name__)
        losses = self.losses(x)
        if metric == BACKGROUND or losses.shape[1] == 1:
            return np.asarray(losses[:, 0])
        chosen = slice(1, None) if metric == "difference" else [self.axis_names.index(metric)]
        return np.asarray(losses[:, 0] - self.alpha * losses[:, chosen].min(axis=1))

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
