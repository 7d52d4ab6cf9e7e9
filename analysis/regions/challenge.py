"""The figures of merit of the DarkMachines challenge (arXiv:2105.14027), and its tables of results, so that rows of one's own stand beside published ones.

A row is one model on one signal in one channel: AUC and the signal efficiency at background efficiencies of 1e-2, 1e-3 and 1e-4. The significance improvement is
SI = eps_S / √eps_B, the best of the three; the total improvement of a signal is the best over the channels that have it. A model is judged by the smallest,
median and largest total improvement over the signals.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import InputError, unknown_name
from ...files import write_aside
from .metrics import efficiency_at, evaluate

__all__ = [
    "LEVELS",
    "ChallengeRow",
    "ModelSummary",
    "challenge_row",
    "read_challenge",
    "selected_model",
    "summaries",
    "total_improvements",
    "write_challenge",
]

LEVELS = (1e-2, 1e-3, 1e-4)
HEADER = ("Signal", "Model", "Chan", "AUC", "1e-2", "1e-3", "1e-4")
CHANNELS = ("1", "2a", "2b", "3")
LARGEST_FIELD = 1000


@dataclass(frozen=True)
class ChallengeRow:
    """One model on one signal in one channel.

    auc: NaN where it is not told; eps_s: at each of LEVELS, NaN where fewer than 20 background events pass or it is not told; errors: of the AUC, then of
    these, NaN where not known.
    """

    signal: str
    model: str
    channel: str
    auc: float
    eps_s: tuple[float, float, float]
    errors: tuple[float, float, float, float] = field(default=(math.nan,) * 4, compare=False)

    @property
    def improvement(self) -> float:
        """The largest SI = eps_S / √eps_B of those that are told, NaN where none is."""
        told = [eps / math.sqrt(level) for eps, level in zip(self.eps_s, LEVELS, strict=True) if not math.isnan(eps)]
        return max(told, default=math.nan)


@dataclass(frozen=True)
class ModelSummary:
    """Total improvements of a model over its signals: how many signals and pairs of signal and channel it has, and the smallest, median and largest of them."""

    model: str
    signals: int
    pairs: int
    smallest: float
    median: float
    largest: float


def challenge_row(
    background: npt.ArrayLike, signal: npt.ArrayLike, *, name: str, model: str, channel: str
) -> ChallengeRow:
    """Return the row of scores of background (n,) and signal events (m,), larger = more anomalous.

    The error of an efficiency has the statistics of signal and background (`efficiency_at`). Raises InputError for scores that are no numbers, and for none.
    """
    b, s = (np.asarray(values, dtype=np.float64) for values in (background, signal))
    found = evaluate(np.concatenate([b, s]), np.repeat([0, 1], [len(b), len(s)]))
    at = [efficiency_at(b, s, level) or (math.nan, math.nan) for level in LEVELS]
    values, errors = [pair[0] for pair in at], [pair[1] for pair in at]
    return ChallengeRow(
        name,
        model,
        channel,
        found.auc,
        (values[0], values[1], values[2]),
        (found.auc_error, errors[0], errors[1], errors[2]),
    )


def read_challenge(path: str | Path) -> list[ChallengeRow]:
    """Return the rows of a table of the challenge: CSV with the columns Signal, Model, Chan, AUC, 1e-2, 1e-3, 1e-4, in whatever order; others are not read.

    An empty number, or nan, is one that is not told. Raises InputError naming file, line and column of what is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: {'is no file' if path.exists() else 'no such file'}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = [name.strip() for name in reader.fieldnames or ()]
            for wanted in HEADER:
                if wanted not in names:
                    raise InputError(unknown_name("column", wanted, names, str(path)))
            reader.fieldnames = names
            rows = [row_of(own, f"{path}: line {reader.line_num}") for own in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is no CSV table: {error}") from error
    if not rows:
        raise InputError(f"{path}: holds no row")
    seen: dict[tuple[str, str, str], int] = {}
    for number, row in enumerate(rows):
        key = (row.signal, row.model, row.channel)
        if key in seen:
            raise InputError(
                f"{path}: rows {seen[key] + 1} and {number + 1} are both of {row.model} on {row.signal} in channel {row.channel}"
            )
        seen[key] = number
    return rows


def row_of(own: Mapping[str | None, Any], where: str) -> ChallengeRow:
    """Return the row of a line; raises InputError."""
    if None in own or any(own[name] is None for name in HEADER):
        raise InputError(f"{where}: has another number of fields than the first line names")
    texts = {name: str(own[name]).strip() for name in HEADER}
    for name in HEADER[:3]:
        if not texts[name] or len(texts[name]) > LARGEST_FIELD:
            raise InputError(f"{where}: {name} is {texts[name][:40]!r}, a name is expected")
    numbers = []
    for name in HEADER[3:]:
        try:
            value = float(texts[name] or "nan")
        except ValueError:
            value = math.inf
        if not (math.isnan(value) or 0 <= value <= 1):
            raise InputError(f"{where}: {name} is {texts[name][:40]!r}, a number from 0 to 1 is expected")
        numbers.append(value)
    return ChallengeRow(
        texts["Signal"], texts["Model"], texts["Chan"], numbers[0], (numbers[1], numbers[2], numbers[3])
    )


def write_challenge(path: str | Path, rows: Sequence[ChallengeRow]) -> None:
    """Write rows as a table of the challenge; a number that is not told is empty."""
    with write_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for row in rows:
            numbers = ["" if math.isnan(v) else f"{v:.6g}" for v in (row.auc, *row.eps_s)]
            writer.writerow([row.signal, row.model, row.channel, *numbers])


def total_improvements(rows: Sequence[ChallengeRow]) -> dict[str, dict[str, float]]:
    """Return model -> signal -> total improvement, the best over the channels that have the signal; NaN where no efficiency is told."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        own = found.setdefault(row.model, {})
        own[row.signal] = float(np.fmax(own.get(row.signal, math.nan), row.improvement))
    return found


def summaries(rows: Sequence[ChallengeRow]) -> list[ModelSummary]:
    """Return what each model reaches over its signals, the best median first; signals without a figure are left out, and models without any come last."""
    pairs: dict[str, int] = {}
    for row in rows:
        pairs[row.model] = pairs.get(row.model, 0) + 1
    found = []
    for model, own in total_improvements(rows).items():
        values = np.array([value for value in own.values() if not math.isnan(value)])
        low, middle, high = (
            (float(values.min()), float(np.median(values)), float(values.max())) if len(values) else (math.nan,) * 3
        )
        found.append(ModelSummary(model, len(values), pairs[model], low, middle, high))
    return sorted(found, key=lambda s: (math.isnan(s.median), -s.median if s.signals else 0.0, s.model))


def selected_model(rows: Sequence[ChallengeRow], *, seed: int = 0) -> tuple[ModelSummary, ModelSummary]:
    """Return the model with the best median over one half of the signals, drawn by seed, and what it reaches on the other half, which is what may be quoted.

    Models that lack a figure of a signal that another one has are left out. Raises InputError where fewer than two signals or no such model are there.
    """
    everything = total_improvements(rows)
    signals = sorted({signal for own in everything.values() for signal in own})
    if len(signals) < 2:
        raise InputError(f"{len(signals)} signals: one half to select on and one to quote are needed")
    whole = {
        model
        for model, own in everything.items()
        if all(not math.isnan(own.get(signal, math.nan)) for signal in signals)
    }
    if not whole:
        raise InputError(f"no model has figures of all {len(signals)} signals")
    order = np.random.default_rng(seed).permutation(len(signals))
    first = {signals[i] for i in order[: len(signals) // 2]}
    kept = [row for row in rows if row.model in whole]
    chosen = summaries([row for row in kept if row.signal in first])[0]
    other = summaries([row for row in kept if row.signal not in first and row.model == chosen.model])[0]
    return chosen, other
