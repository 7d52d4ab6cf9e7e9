"""The hunt without a mass: events above a threshold in the space of losses, against what background predicts there."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..config import Analysis
from ..files import finite, write_json
from ..folds import as_identity, hash_columns
from ..table import EVENT_ID, IDENTITY, read_table
from .layout import score_path, simulated_signals
from .score import loaded_spaces
from .trainings import draw_how_trained

if TYPE_CHECKING:
    from ..analysis import CountedSample

__all__ = ["count", "count_limits"]

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]


def count(analysis: Analysis) -> None:
    """Fix thresholds on held-out background, count, and write result.json and the figure."""
    from ..analysis import CountingChoice, counting_figure, hunt_counts
    from ..analysis.figures.base import save_figure
    from .hunt import before_the_hunt, how_it_was_made, leave_nothing, sample_notes

    space = loaded_spaces(analysis)[0]
    own = analysis.samples.background is not None
    data, calibration = (counted(analysis, name, space) for name in ("data", "calibration"))
    validation = None if analysis.samples.validation is None else counted(analysis, "validation", space)
    choice = CountingChoice(**analysis.count.model_dump(exclude={"axes"}), confidence=analysis.limits.confidence)
    found = hunt_counts(
        data,
        calibration,
        choice=choice,
        seed=analysis.seed,
        validation=validation,
        independent=own,
        blind=analysis.blind,
        luminosity=analysis.luminosity,
    )
    for note in found.notes:
        log.warning("%s", note)
    output = Path(analysis.output)
    leave_nothing(output)
    shown = calibration if analysis.blind else data
    figure = counting_figure(
        shown.scores,
        shown.folds,
        found.thresholds,
        title="held-out background" if analysis.blind else "data",
        labels=counted_axes(analysis, space) if choice.expectation == "abcd" else ["score"],
    )
    save_figure(figure, output / "figures", "counting")
    result = {
        **how_it_was_made(analysis),
        "cutflow": {**before_the_hunt(analysis), **{k: v for k, v in found.cutflow["data"].items() if k != "events"}},
        "counting": found.as_dict(),
        "score": ", ".join(counted_axes(analysis, space)) if choice.expectation == "abcd" else space.metrics[0],
        "notes": [*sample_notes(analysis), *found.notes],
        **draw_how_trained(analysis),
    }
    write_json(output / "result.json", finite(result))


def counted_axes(analysis: Analysis, space: Any) -> tuple[str, str]:
    """Return the two axes of an ABCD: those named, or the first two of the space."""
    first, second = analysis.count.axes or tuple(space.axis_names)[:2]
    return first, second


def counted(analysis: Analysis, sample: str, space: Any) -> CountedSample:
    """Read a scored sample as what is counted: one score an event, or two axes of an ABCD, larger = more like a signal.

    An axis of a prior or a family counts from its other end: an event near it has a small loss there.
    """
    from ..analysis import CountedSample

    table = read_table(score_path(analysis, sample))
    names = list(table.metadata["axes"])
    losses = table.matrix([f"loss_{name}" for name in names])
    if analysis.count.expectation == "abcd":
        axes = counted_axes(analysis, space)
        signs = [1.0 if name.startswith("background") else -1.0 for name in axes]
        scores: Floats = losses[:, [names.index(name) for name in axes]] * signs
    else:
        scores = np.asarray(space.score_of(losses), dtype=np.float64)
    known = EVENT_ID in table or "event" in table.metadata.get("identity", ())
    events = hash_columns(*(as_identity(table, name) for name in IDENTITY[1:])) if known else None
    return CountedSample(sample, scores, table["fold"].astype(np.int64), events)


def count_limits(analysis: Analysis, result: dict[str, Any]) -> dict[str, Any]:
    """Return the limits on each signal, or prior, from its share above the thresholds, and the notes beside them."""
    from ..analysis import counting_limits, expectation_of, share_above

    space = loaded_spaces(analysis)[0]
    counting = result["counting"]
    thresholds = np.asarray(counting["thresholds"], dtype=np.float64)
    kind = "signal" if analysis.samples.signals else "prior"
    notes, signals = [], {}
    for name in simulated_signals(analysis):
        if not name.startswith(f"{kind}."):
            continue
        own = counted(analysis, name, space)
        share = share_above(own.scores, own.folds, thresholds)
        if share == 0:
            notes.append(f"{name}: none of its {len(own.folds)} events lies above the threshold; no limit on it")
            continue
        seen = counting["result"]
        signals[name.removeprefix(f"{kind}.")] = counting_limits(
            None if seen is None else seen["observed"],
            expectation_of(counting["expectation"]),
            systematic=analysis.count.systematic,
            constraint=analysis.count.constraint,
            confidence=analysis.limits.confidence,
            luminosity=analysis.luminosity,
            signal_efficiency=share,
        ).as_dict()
    if not simulated_signals(analysis):
        notes.append(
            "no limits on cross-sections: samples name neither signals nor priors, whose share would be needed"
        )
    elif kind == "prior":
        notes.append(
            "efficiencies are those of events that the models trained on, and so a little high; name samples.signals"
        )
    return {"signals": signals, "notes": notes}
