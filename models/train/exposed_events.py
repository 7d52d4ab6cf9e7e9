"""What methods with outlier exposure share: their options, and the events that a training is exposed to.

These events are brought to a spectrum of the background, split into those for training and for validation, and drawn: an event that
stands in for several never serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from ...errors import unknown_name
from ...folds import shared_events
from ..inputs import ScorerError, TooFewRowsError
from ..matching import drawn_rows, effective_fraction, matched_weights
from ..sample import Sample, split_rows
from ..scorer import Method
from .exposure import Exposed, check_exposure
from .loop import TrainingSettings
from .objective import Objective

__all__ = ["ExposedEvents", "ExposedMethod", "exposed_objective", "matched_values", "refuse_same_events"]

Array = npt.NDArray[Any]
Values = npt.NDArray[np.float64]
STREAM = 0xE  # sets the exposed events' order apart from that of the background


@dataclass(frozen=True)
class ExposedEvents:
    """Events that a training is exposed to.

    kind, strength, margin: what is paid for them (`exposure.py`); rows: (n, ...) for training and for validation; record: what the record
    of the training says of them.
    """

    kind: str
    strength: float
    margin: float
    rows: tuple[Array, Array]
    record: Mapping[str, Any]


def exposed_objective(
    objective: Objective,
    exposed: ExposedEvents | None,
    as_rows: Callable[[Array], torch.Tensor],
    *,
    members: Sequence[bool] | None = None,
) -> tuple[Objective, dict[str, tuple[torch.Tensor, torch.Tensor]]]:
    """Return an objective that pays for exposed events, and the streams that it takes from the training; of strength 0 the plain one.

    as_rows: brings events (n, ...) to what the objective's module takes, without the axis of members; members: which of them are exposed, all
    where nothing is said.
    """
    if exposed is None or exposed.strength == 0:
        return objective, {}
    train, held = exposed.rows
    paid = Exposed(objective, kind=exposed.kind, strength=exposed.strength, margin=exposed.margin, members=members)
    return paid, {"exposure": (as_rows(train), as_rows(held))}


@dataclass(kw_only=True, eq=False, repr=False)
class ExposedMethod(Method):
    """Base of methods with outlier exposure.

    exposure: "none", "mse" or "kl" (`exposure.py`), which needs the sample `exposure` in `fit`; exposure_strength: the largest lambda, 0
    trains without exposure; exposure_margin: of "kl"; exposure_match: the column whose spectrum the exposed events get from the background by
    resampling, "none" takes them as they are.

    matches: what `exposure_match` can be for every sample; matches_columns: whether it can be one of the inputs' columns too.
    """

    uses: ClassVar[tuple[str, ...]] = ("exposure",)
    matches: ClassVar[tuple[str, ...]] = ("observable", "none")
    matches_columns: ClassVar[bool] = False

    exposure: str = "none"
    exposure_strength: float = 2.0
    exposure_margin: float = 2.0
    exposure_match: str = "observable"

    def check_exposed(self) -> None:
        """Raise ScorerError for options of the exposure that mean nothing."""
        check_exposure(self.exposure, self.exposure_strength, self.exposure_margin)
        if not self.matches_columns and self.exposure_match not in self.matches:
            raise ScorerError(unknown_name("exposure_match", self.exposure_match, self.matches, type(self).__name__))

    def unhurried(self, settings: TrainingSettings) -> TrainingSettings:
        """Return settings of a training that does not stop early where it is exposed: lambda changes to its end."""
        pays = self.exposure != "none" and self.exposure_strength > 0
        return replace(settings, patience=settings.max_epochs) if pays else settings

    def require_exposure(self, *, given: bool) -> None:
        """Raise ScorerError where an exposure sample is missing, or is there and nothing uses it."""
        if given and self.exposure == "none":
            raise ScorerError("exposure: a sample is given, and the option exposure is 'none'; allowed: mse, kl")
        if not given and self.exposure != "none":
            raise ScorerError(f"exposure: the option is {self.exposure!r}, which needs a sample to be exposed to")

    def exposed_events(
        self, events: Array, values: tuple[Values, Values] | None, *, column: str, **record: Any
    ) -> ExposedEvents:
        """Return events (n, ...) as a training is exposed to them.

        values: of the events (n,) and of the background (k,), whose spectrum they are resampled to, None to take them as they are; column: what
        the values are called; record: more to tell of them. Raises TooFewRowsError for fewer than `least`, and the errors of `matched_weights`.
        """
        if len(events) < self.least:
            raise TooFewRowsError(f"exposure: has {len(events)} events, at least {self.least} are needed")
        weights = np.ones(len(events)) if values is None else matched_weights(*values, of="exposure", column=column)
        there = np.flatnonzero(weights > 0)
        if len(there) < self.least:
            raise TooFewRowsError(
                f"exposure: {len(there)} of {len(events)} events lie within the background's {column}, at least {self.least} are needed"
            )
        rng = np.random.default_rng([self.seed, STREAM])
        train, held = split_rows(there, rng)
        if values is not None:
            train, held = (part[drawn_rows(weights[part], rng)] for part in (train, held))
        return ExposedEvents(
            self.exposure,
            self.exposure_strength,
            self.exposure_margin,
            (events[train], events[held]),
            {"exposed_rows": len(there), "exposure_effective": effective_fraction(weights), **record},
        )


def refuse_same_events(exposed: Array, **others: Array | None) -> None:
    """Raise ScorerError where events (n, ...) of an exposure are among those (k, ...) of another sample, number by number.

    Coarse rows that meet by chance are told from such (`folds.shared_events`).
    """
    own = hashes_of(exposed)
    for name, events in others.items():
        shared = 0 if events is None else shared_events(own, hashes_of(events))
        if shared:
            raise ScorerError(
                f"exposure: {shared} of {len(own)} events are in {name}, too; what is shown as no background is no part of it"
            )


def hashes_of(events: Array) -> npt.NDArray[np.uint64]:
    """Return a hash of the numbers of each event (n, ...), the same within a process."""
    rows = np.ascontiguousarray(events.reshape(len(events), -1), dtype=np.float64)
    return np.fromiter((hash(row.tobytes()) & 0xFFFFFFFFFFFFFFFF for row in rows), dtype=np.uint64, count=len(rows))


def matched_values(match: str, exposed: Sample, background: Sample) -> tuple[Values, Values] | None:
    """Return the values of two samples whose spectra are to be the same; None where `match` is "none".

    match: "observable", or a column of rows by its name. Raises ScorerError for a column that is not there and a sample without an observable.
    """
    if match == "none":
        return None
    if match != "observable":
        if match not in exposed.names:
            raise ScorerError(
                unknown_name(
                    "exposure_match", match, ("observable", "none", *exposed.names), limit=len(exposed.names) + 2
                )
            )
        number = exposed.names.index(match)
        return exposed.inputs[:, number], background.inputs[:, number]
    found = []
    for sample, where in ((exposed, "exposure"), (background, "x")):
        if sample.observable is None:
            columns = f", or one of {', '.join(exposed.names)}" if exposed.names else ""
            raise ScorerError(
                f"{where}: has no observable, which exposure_match 'observable' resamples to that of the background; give a Sample "
                f"with its observable, or exposure_match 'none'{columns}"
            )
        found.append(sample.observable)
    return found[0], found[1]
