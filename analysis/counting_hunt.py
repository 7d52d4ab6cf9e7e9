"""The hunt without a mass: thresholds from held-out background, an expectation from other events, one count.

Held-out background fixes the thresholds, and other held-out background predicts: a threshold and a prediction from the
same events agree by construction. Where no validation sample is given, half of the held-out background does the one and
half the other, halves by a hash of each event. No hunted event takes part in a threshold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError, unknown_name
from ..folds import fold_of, mix
from .limits.counting import CountingLimits, counting_limits
from .regions.thresholds import abcd_counts, above_thresholds, as_axes, fix_thresholds
from .significance.counting import (
    CountingResult,
    Expectation,
    check_systematic,
    count,
    expectation_from_abcd,
    expectation_from_sample,
)

__all__ = [
    "Closure",
    "CountedSample",
    "CountingChoice",
    "CountingHunt",
    "expectation_of",
    "hunt_counts",
    "share_above",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
EXPECTATIONS = {"sample": 1, "abcd": 2}
"""Where the expectation comes from -> how many axes of scores that takes."""
FAR = 2.0  # errors: a closure test further off, beyond the stated systematic error, is said


@dataclass(frozen=True)
class CountingChoice:
    """How a counting experiment is made, fixed before the hunted events are looked at.

    efficiency: share of the background kept; expectation: "sample" or "abcd"; systematic: relative error of the expectation
    beside its statistical one; constraint: "gamma" or "lognormal"; confidence: of the limits.
    Raises InputError for a value that cannot be.
    """

    efficiency: float = 0.01
    expectation: str = "sample"
    systematic: float = 0.1
    constraint: str = "gamma"
    confidence: float = 0.95

    def __post_init__(self) -> None:
        """Check each value."""
        if self.expectation not in EXPECTATIONS:
            raise InputError(unknown_name("expectation", self.expectation, EXPECTATIONS, "counting experiment"))
        if not 0 < self.efficiency < 1:
            raise InputError(f"the efficiency of a counting experiment lies between 0 and 1; found {self.efficiency:g}")
        check_systematic(self.systematic, self.constraint)
        if not 0.5 <= self.confidence < 1:
            raise InputError(f"confidence lies in [0.5, 1), usually 0.95; found {self.confidence:g}")


@dataclass(frozen=True, repr=False)
class CountedSample:
    """Scored events: scores (n,) or (n, 2 axes), larger is more anomalous; folds (n,) of the model that scored each.

    No event was seen in training by the model of its fold. events: (n,) 64-bit hashes of what identifies the event, None where
    nothing does. Raises InputError for lengths that differ, negative folds and scores that are not finite.
    """

    name: str
    scores: Floats
    folds: npt.NDArray[np.int64]
    events: npt.NDArray[np.uint64] | None = None

    def __post_init__(self) -> None:
        """Check the arrays against each other."""
        lengths = {"scores": len(self.scores), "folds": len(self.folds)}
        if self.events is not None:
            lengths["events"] = len(self.events)
        if len(set(lengths.values())) > 1:
            raise InputError(f"{self.name}: arrays of different length: {lengths}")
        if len(self.folds) and int(np.min(self.folds)) < 0:
            raise InputError(f"{self.name}: folds count from 0; found {int(np.min(self.folds))}")
        try:
            as_axes(self.scores)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from None

    def select(self, keep: Bools) -> CountedSample:
        """Return the events where `keep` is true."""
        events = None if self.events is None else self.events[keep]
        return CountedSample(self.name, self.scores[keep], self.folds[keep], events)

    def halves(self, seed: int) -> tuple[CountedSample, CountedSample]:
        """Return the events in two halves that share none: by their hash, without one by chance from the seed."""
        if self.events is not None:
            # mixed once more: the fold is made of the same hash, and halves must not be folds
            first = fold_of(mix(np.asarray(self.events, dtype=np.uint64)), 2) == 0
        else:
            first = np.zeros(len(self.folds), dtype=bool)
            first[np.random.default_rng([seed, 0xC0]).permutation(len(first))[: len(first) // 2]] = True
        return self.select(first), self.select(~first)

    def __repr__(self) -> str:
        """Return the sample in a line."""
        axes = as_axes(self.scores).shape[1]
        return f"CountedSample({self.name!r}, {len(self.folds):,} events, {axes} {'axis' if axes == 1 else 'axes'})"


@dataclass(frozen=True)
class Closure:
    """What held-out background that fixed nothing shows above the threshold, and what the method says of it.

    sample: the share that the threshold was fixed to keep, times the events; abcd: their own B C / D. ratio: observed over
    expected, with the statistical error of both.
    """

    observed: int
    expected: float
    ratio: float
    error: float


@dataclass(frozen=True, repr=False)
class CountingHunt:
    """A counting experiment from thresholds to limits.

    thresholds: (folds, axes); cutflow: sample -> step -> events, which add up to its "events"; closure: None where no held-out
    background can make the test; result: None where blind; notes: what a reader of the answer must know.
    """

    choice: CountingChoice
    thresholds: Floats
    cutflow: Mapping[str, Mapping[str, int]]
    expectation: Expectation
    closure: Closure | None
    result: CountingResult | None
    limits: CountingLimits
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return everything for strict JSON."""
        return {
            "choice": dataclasses.asdict(self.choice),
            "thresholds": self.thresholds.tolist(),
            "cutflow": {name: dict(steps) for name, steps in self.cutflow.items()},
            "expectation": self.expectation.as_dict(),
            "closure": None if self.closure is None else dataclasses.asdict(self.closure),
            "result": None if self.result is None else self.result.as_dict(),
            "limits": self.limits.as_dict(),
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        """Return the answer in two lines."""
        return f"CountingHunt({self.expectation if self.result is None else self.result},\n             {self.limits})"


def hunt_counts(
    data: CountedSample,
    calibration: CountedSample,
    *,
    choice: CountingChoice,
    seed: int,
    validation: CountedSample | None = None,
    independent: bool = True,
    blind: bool = False,
    scale: float | None = None,
    luminosity: float | None = None,
    signal_efficiency: float | None = None,
) -> CountingHunt:
    """Fix thresholds on held-out background, predict from other events, count, and set limits.

    calibration: held-out background, half of which predicts unless `validation` does. independent: False where it is the
    other folds of the data, which an ABCD may fix its thresholds on and nothing else. scale: hunted events that one event of
    the predicting sample (of the calibration before it is halved) stands for, such as a luminosity weight; by default the
    data have as many events as the background in each fold. luminosity: fb^-1; signal_efficiency: of the limits in fb.
    Raises InputError for numbers of axes that do not fit the expectation, folds without background, empty control regions.
    """
    if choice.expectation == "sample" and not independent:
        raise InputError(
            "expectation: sample needs a background sample, and the held-out events are data; give one, or "
            "take expectation: abcd"
        )
    check_axes(choice, data, calibration, *([] if validation is None else [validation]))
    n_folds = 1 + max((int(s.folds.max(initial=0)) for s in (data, calibration)), default=0)
    fixing, predicting = calibration, validation
    if validation is None and independent:
        fixing, predicting = calibration.halves(seed)
        if scale is not None:
            scale *= len(calibration.folds) / max(len(predicting.folds), 1)
    thresholds = fix_thresholds(fixing.scores, fixing.folds, efficiency=choice.efficiency, n_folds=n_folds)
    hunted = above_thresholds(data.scores, data.folds, thresholds)
    cutflow: dict[str, dict[str, int]] = {
        "data": {"events": len(hunted)} if blind else steps_of(hunted),
        "fixing": steps_of(above_thresholds(fixing.scores, fixing.folds, thresholds)),
    }
    held_out: Bools | None = None
    if predicting is not None:
        held_out = above_thresholds(predicting.scores, predicting.folds, thresholds)
        cutflow["predicting"] = steps_of(held_out)
    if choice.expectation == "abcd" or predicting is None or held_out is None:
        seen = abcd_counts(hunted)
        expectation = expectation_from_abcd(seen["B"], seen["C"], seen["D"])
    else:
        expectation = predict(data, predicting, held_out[:, 0], n_folds=n_folds, scale=scale)
    closure = None if held_out is None else close(held_out, cutflow["fixing"])
    observed = int(hunted.all(axis=1).sum())
    return CountingHunt(
        choice=choice,
        thresholds=thresholds,
        cutflow=cutflow,
        expectation=expectation,
        closure=closure,
        result=None
        if blind
        else count(observed, expectation, systematic=choice.systematic, constraint=choice.constraint),
        limits=counting_limits(
            None if blind else observed,
            expectation,
            systematic=choice.systematic,
            constraint=choice.constraint,
            confidence=choice.confidence,
            luminosity=luminosity,
            signal_efficiency=signal_efficiency,
        ),
        notes=notes_of(choice, closure, blind=blind, independent=independent),
    )


def check_axes(choice: CountingChoice, *samples: CountedSample) -> None:
    """Refuse samples whose number of axes is not that of the expectation."""
    wanted = EXPECTATIONS[choice.expectation]
    for sample in samples:
        axes = as_axes(sample.scores).shape[1]
        if axes != wanted:
            raise InputError(
                f"{sample.name}: expectation: {choice.expectation} takes {wanted} "
                f"{'score' if wanted == 1 else 'axes of scores'} an event; found {axes}"
            )


def steps_of(above: Bools) -> dict[str, int]:
    """Return the cutflow of one sample: above and below, or the four regions of a plane."""
    if above.shape[1] == 2:
        return {"events": len(above), **abcd_counts(above)}
    kept = int(above.sum())
    return {"events": len(above), "above": kept, "below": len(above) - kept}


def predict(
    data: CountedSample, background: CountedSample, above: Bools, *, n_folds: int, scale: float | None
) -> Expectation:
    """Return the expectation from background events above (n,) the thresholds, scaled to the data fold by fold."""
    hunted = np.bincount(data.folds, minlength=n_folds)
    there = np.bincount(background.folds, minlength=n_folds)
    empty = np.flatnonzero((hunted > 0) & (there == 0)).tolist()
    if empty:
        raise InputError(
            f"{background.name}: no held-out background event predicts fold {empty}, in which data are hunted"
        )
    used = hunted > 0
    if not used.any():
        raise InputError(f"{data.name}: no event to hunt in")
    counts = np.bincount(background.folds[above], minlength=n_folds)
    scales = hunted / np.maximum(there, 1) if scale is None else np.full(n_folds, scale)
    return expectation_from_sample(counts[used], scale=scales[used])


def close(held_out: Bools, fixing: Mapping[str, int]) -> Closure | None:
    """Test the method on held-out background that fixed nothing; None where it is too small to say anything."""
    observed = int(held_out.all(axis=1).sum())
    if held_out.shape[1] == 1:
        expected = len(held_out) * fixing["above"] / fixing["events"]
        inverse = 1.0 / fixing["above"]
    else:
        regions = abcd_counts(held_out)
        if min(regions["B"], regions["C"], regions["D"]) == 0:
            return None
        expected = regions["B"] * regions["C"] / regions["D"]
        inverse = 1.0 / regions["B"] + 1.0 / regions["C"] + 1.0 / regions["D"]
    if expected == 0:
        return None
    ratio = observed / expected
    # the error of what is expected where nothing was seen
    error = np.sqrt(max(observed, 1.0) + observed**2 * inverse) / expected
    return Closure(observed=observed, expected=expected, ratio=ratio, error=float(error))


def notes_of(choice: CountingChoice, closure: Closure | None, *, blind: bool, independent: bool) -> tuple[str, ...]:
    """Return what a reader of the answer must know."""
    notes = []
    if blind:
        notes.append("blind: the events above the threshold were not counted")
    if not independent:
        notes.append(
            "no closure test: the held-out events are data, in which a signal would be part of the test; that the two axes are independent of each other is taken for granted"
        )
    elif closure is None:
        notes.append("no closure test: held-out background leaves a control region empty")
    elif abs(closure.ratio - 1) > FAR * closure.error + choice.systematic:
        notes.append(
            f"the closure test is off: {closure.ratio:.3g} +- {closure.error:.2g} times what is expected, "
            f"more than a systematic error of {choice.systematic:g} covers"
        )
    if choice.expectation == "abcd":
        notes.append("a signal in the control regions B, C and D of the data raises the expectation")
    return tuple(notes)


def expectation_of(stored: Mapping[str, Any]) -> Expectation:
    """Return the expectation that a result.json tells of (`Expectation.as_dict`)."""
    return Expectation(str(stored["method"]), dict(stored["counts"]), float(stored["scale"]))


def share_above(scores: npt.ArrayLike, folds: npt.ArrayLike, thresholds: Floats) -> float:
    """Return the share of events above the thresholds of their fold: scores (n,) or (n, 2), folds (n,), thresholds (folds, axes)."""
    above = np.asarray(above_thresholds(scores, folds, thresholds).all(axis=1))
    return float(above.mean()) if len(above) else 0.0
