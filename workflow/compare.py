"""An analysis as rows of the challenge's table (arXiv:2105.14027): its score on each of its signals, and what needs no training beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..config import Analysis
from ..errors import InputError
from ..table import Table, table_info, table_parts
from .count import counted
from .layout import score_path, simulated_signals, table_path
from .score import loaded_spaces, scoring_model

if TYPE_CHECKING:
    from ..analysis.regions.challenge import ChallengeRow

__all__ = ["BASELINES", "challenge_rows", "channel_of"]

Floats = npt.NDArray[np.float64]
Number = Callable[[Table], Floats]


def number_of_objects(table: Table) -> Floats:
    """Return how many objects each event has."""
    whole = "n_objects" in table.columns
    names = ["n_objects"] if whole else [name for name in table.columns if name.startswith("n_")]
    return np.asarray(np.sum([table[name].astype(np.float64) for name in names], axis=0))


BASELINES: dict[str, tuple[str, Number]] = {
    "number of objects": ("n_jet", number_of_objects),
    "MET": ("met", lambda table: table["met"].astype(np.float64)),
    "HT": ("ht", lambda table: table["ht"].astype(np.float64)),
}
"""What tags without any training: name -> a column that a table needs for it, and the number of an event, larger = more anomalous."""


def channel_of(analysis: Analysis, channel: str | None) -> str:
    """Return the channel of an analysis: that of its representation, or the one that is given; raises InputError where there is none, or where they differ."""
    own = getattr(analysis.represented, "channel", None)
    known = None if own in {None, "none"} else str(own)
    if known is None and channel is None:
        raise InputError(
            "no channel: representation.channel names none, and the table of the challenge needs one; give --channel"
        )
    if known is not None and channel is not None and channel != known:
        raise InputError(f"--channel {channel}: the analysis is of channel {known} (representation.channel)")
    return str(known or channel)


def challenge_rows(analysis: Analysis, *, model: str, channel: str | None = None) -> list[ChallengeRow]:
    """Return a row for each signal of an analysis that is scored, and rows of the baselines as models of their own.

    The background are its validation events, or where it has none the held-out ones, which fix the threshold of a hunt and no model has trained on. Raises
    InputError where there are no signals, and where the scores are not there.
    """
    from ..analysis.regions.challenge import challenge_row

    channel = channel_of(analysis, channel)
    signals = [name for name in simulated_signals(analysis) if name.startswith("signal.")]
    if not signals:
        raise InputError("samples.signals: names none, on which a score could be judged")
    background = "calibration" if analysis.samples.validation is None else "validation"
    for sample in (background, *signals):
        if not score_path(analysis, sample).exists():
            raise InputError(f"{score_path(analysis, sample)}: no such table; run hunch score first")
    if analysis.hunt == "count" and analysis.count.expectation == "abcd":
        raise InputError("count.expectation: abcd has two axes, and one score is compared")
    space = loaded_spaces(analysis)[0]
    scores = {sample: scores_of_sample(analysis, sample, space) for sample in (background, *signals)}
    rows = [
        challenge_row(
            scores[background], scores[sample], name=sample.removeprefix("signal."), model=model, channel=channel
        )
        for sample in signals
    ]
    numbers = {sample: baseline_numbers(analysis, sample) for sample in (background, *signals)}
    for name in BASELINES:
        if all(name in own for own in numbers.values()):
            rows += [
                challenge_row(
                    numbers[background][name],
                    numbers[sample][name],
                    name=sample.removeprefix("signal."),
                    model=name,
                    channel=channel,
                )
                for sample in signals
            ]
    return rows


def scores_of_sample(analysis: Analysis, sample: str, space: Any) -> Floats:
    """Return the scores (n,) of a scored sample, larger = more anomalous."""
    return counted(analysis, sample, space).scores


def baseline_numbers(analysis: Analysis, sample: str) -> Mapping[str, Floats]:
    """Return baseline -> number (n,) of the events of a sample, of the baselines whose columns its table has."""
    own = "background" if analysis.samples.background is not None else "data"
    path = table_path(analysis, own if sample == "calibration" else sample)
    columns = table_info(path).columns
    known = {name: number for name, (needed, number) in BASELINES.items() if needed in columns}
    if not known:
        return {}
    read = [
        name
        for name in columns
        if name in {"met", "ht"} or name.startswith("n_") or name in analysis.represented.content
    ]
    identity = [name for name in columns if name in {"dataset", "run", "luminosityBlock", "event", "event_id"}]
    found: dict[str, list[Floats]] = {name: [] for name in known}
    for part in table_parts(path, list(dict.fromkeys((*read, *identity)))):
        chosen, _ = scoring_model(analysis, sample, part)
        kept = part.select(chosen)
        for name, number in known.items():
            found[name].append(number(kept))
    return {name: np.concatenate(parts) for name, parts in found.items()}
