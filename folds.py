"""Who an event is, which fold it belongs to, which model trains on what, and which samples share events.

Two questions, two hashes. *The fold* of an event (`fold_hash`) decides which model hunts in it. *The same event*
(`same_event_hash`) decides whether two rows are one event: repeats within a sample, samples that share events, events that a
model has trained on.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InputError
from .table import EVENT_ID, IDENTITY, Table, TableInfo, identity_numbers

__all__ = [
    "COLLISIONS_RUN",
    "FoldPlan",
    "already_trained_on",
    "beyond_chance",
    "check_counting",
    "check_shared",
    "comparable_hashes",
    "content_hash",
    "fold_hash",
    "fold_of",
    "fold_plan",
    "hash_columns",
    "identity_hash",
    "mix",
    "repeated_events",
    "same_event_hash",
    "shared_events",
    "told_by",
]

UInt64 = npt.NDArray[np.uint64]
Array = npt.NDArray[Any]

HELD_OUT_STEPS = 10_000
"""Into how many parts a background sample is hashed; `held_out` is a share of them."""
COLLISIONS_RUN = 1
"""Simulated and converted files count their events from the start in run 1; run numbers of collisions are larger."""


def mix(values: UInt64) -> UInt64:
    """Scramble 64-bit integers (splitmix64, Steele et al. 2014): equal in, equal out, no pattern kept."""
    x = values + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)), dtype=np.uint64)


def hash_names(names: Array) -> UInt64:
    """Hash strings to 64 bits, the same on every machine."""
    unique, inverse = np.unique(np.asarray(names, dtype=str), return_inverse=True)
    hashes = [int.from_bytes(hashlib.blake2b(u.encode(), digest_size=8).digest(), "little") for u in unique]
    return np.array(hashes, dtype=np.uint64)[inverse]


def identity_hash(table: Table) -> UInt64:
    """Hash each event's identity (dataset, run, luminosityBlock, event) to 64 bits: (n,) uint64."""
    h = hash_names(table["dataset"])
    for name in IDENTITY[1:]:
        h = mix(h ^ mix(as_identity(table, name)))
    return h


def content_of(table: Table, names: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return columns side by side (n, d), those with an array a row as so many columns."""
    flat = [table.matrix([n]) if table[n].ndim == 1 else flattened(table[n]) for n in names]
    return np.concatenate(flat, axis=1, dtype=np.float64) if flat else np.empty((len(table), 0))


def flattened(values: Array) -> Array:
    """Return a column with an array a row as (n, numbers); of no rows too, which numpy cannot tell the numbers of."""
    return values.reshape(len(values), math.prod(values.shape[1:]))


def hash_columns(*columns: Array) -> UInt64:
    """Hash integer columns (n,) row by row to 64 bits: (n,) uint64."""
    h = np.zeros(len(columns[0]), dtype=np.uint64)
    for values in columns:
        h = mix(
            h ^ mix(values.astype(np.uint64) if values.dtype.kind == "u" else values.astype(np.int64).view(np.uint64))
        )
    return h


def fold_hash(table: Table, content: Sequence[str]) -> UInt64:
    """Return what an event's fold is made from (n,): run, luminosityBlock and event where the file holds them, else its content.

    The file's name takes no part in it, nor the dataset's: a renamed or merged file keeps its folds. content: the columns that are
    an event's content, the observable and the inputs of a table of the user's own.
    """
    if "event" in table.metadata.get("identity", ()):
        return hash_columns(*(as_identity(table, name) for name in IDENTITY[1:]))
    return content_hash(content_of(table, content))


def told_by(table: Table | TableInfo) -> str:
    """Say how a table's events are told from each other: by `EVENT_ID`, by their "identity", or by their "content" alone."""
    if EVENT_ID in table.columns:
        return EVENT_ID
    return "identity" if "event" in table.metadata.get("identity", ()) else "content"


def same_event_hash(table: Table, content: Sequence[str]) -> UInt64:
    """Return 64 bits (n,) that two rows share where they are the same event.

    A table of event files has them as a column (`EVENT_ID`): of collisions run, luminosityBlock and event; of simulated and
    converted events, which all count from 0 in run 1, these and a hash of what the file stores of the event, which no setting
    changes. A table of the user's own with an identity: likewise, with its content for what is stored. Without one: its
    content alone, so that coarse rows may be equal by chance.
    """
    if EVENT_ID in table:
        return np.asarray(table[EVENT_ID], dtype=np.uint64)
    values = content_hash(content_of(table, content))
    if "event" not in table.metadata.get("identity", ()):
        return values
    own = hash_columns(*(as_identity(table, name) for name in IDENTITY[1:]))
    return np.where(as_identity(table, "run") == np.uint64(COLLISIONS_RUN), mix(own ^ values), own)


def as_identity(table: Table, name: str) -> UInt64:
    """Return an identity column as unsigned 64-bit integers; any integers of 0 or more, or floats that are such numbers."""
    try:
        return identity_numbers(table[name])
    except ValueError as error:
        raise InputError(f"{table.source}: column {name!r} identifies events and holds {error}") from error


def content_hash(values: npt.NDArray[np.float64]) -> UInt64:
    """Hash the content of rows (n, d) to 64 bits: equal to single precision, equal hash; -0 is 0, every NaN the same."""
    single = np.asarray(values, dtype=np.float32) + np.float32(0)
    single = np.where(np.isnan(single), np.float32(np.nan), single)
    bits = np.ascontiguousarray(single).view(np.uint32).astype(np.uint64)
    h = np.zeros(len(bits), dtype=np.uint64)
    for column in bits.T:
        h = mix(h ^ mix(column))
    return h


def fold_of(hashes: UInt64, n_folds: int) -> npt.NDArray[np.int64]:
    """Return the fold (0 to n_folds - 1) of each event from its hash; an event is in the same fold in every file."""
    return (mix(hashes ^ np.uint64(0x5851F42D4C957F2D)) % np.uint64(n_folds)).astype(np.int64)


@dataclass(frozen=True)
class FoldPlan:
    """Which model trains on, calibrates with and hunts in which row; training, scoring and searching all ask it.

    background: whether a background sample trains the models, of which the share `held_out` fixes the regions; else the data
    do, in `folds` folds: model i trains on all folds but i, which it hunts in, and i + 1, on which its regions are fixed.
    weak: each model narrows down its hypotheses by all folds of the data but its own, against held-out background but its own.
    All rows are told by their hashes (n,) of `fold_hash`.
    """

    background: bool
    folds: int
    held_out: float
    weak: bool = False

    @property
    def n_models(self) -> int:
        """Number of models that hunt: one, or one a fold of the data."""
        return 1 if self.background and not self.weak else self.folds

    def hunting_model(self, data: UInt64) -> npt.NDArray[np.int64]:
        """Return the model that scores each event of the data (n,)."""
        return fold_of(data, self.n_models)

    def trains_on_data(self, data: UInt64, model: int) -> npt.NDArray[np.bool_]:
        """Tell which events of the data (n,) a model trains on; none where a background sample trains it."""
        if self.background:
            return np.zeros(len(data), dtype=np.bool_)
        fold = fold_of(data, self.folds)
        return np.asarray((fold != model) & (fold != (model + 1) % self.folds))

    def narrows_on_data(self, data: UInt64, model: int) -> npt.NDArray[np.bool_]:
        """Tell which events of the data (n,) narrow down a model's hypotheses: all but those that it hunts in."""
        return np.asarray(fold_of(data, self.folds) != model)

    def held_out_rows(self, background: UInt64) -> npt.NDArray[np.bool_]:
        """Tell which events of the background sample (n,) no model trains on."""
        return np.asarray(fold_of(background, HELD_OUT_STEPS) < self.held_out * HELD_OUT_STEPS)

    def reference_rows(self, held_out: UInt64, model: int) -> npt.NDArray[np.bool_]:
        """Tell which held-out background events (n,) stand against the data that narrow a model down."""
        return np.asarray(fold_of(held_out, self.folds) != model)

    def calibrating_model(self, events: UInt64) -> npt.NDArray[np.int64]:
        """Return the model whose regions each event fixes (n,): held-out background events, or else those of the data."""
        fold = fold_of(events, self.n_models)
        return fold if self.background else (fold - 1) % self.n_models


def fold_plan(*, background: bool, folds: int = 5, held_out: float = 0.5, weak: bool = False) -> FoldPlan:
    """Return the plan of an analysis; raises InputError for fewer than three folds and a share that is none.

    With two folds no event would be left to train on: one is hunted in, the other fixes the regions.
    """
    if folds < 3:
        raise InputError(f"folds is {folds}; at least 3: one is hunted in, one fixes the regions, the others train")
    if not 0 < held_out < 1:
        raise InputError(f"held_out is {held_out:g}; a share between 0 and 1 is expected")
    return FoldPlan(background, folds, held_out, weak)


def already_trained_on(events: UInt64, trained_on: UInt64) -> npt.NDArray[np.bool_]:
    """Tell which events (n,) a model has trained on: both by `same_event_hash`, those of the model sorted."""
    if not len(trained_on):
        return np.zeros(len(events), dtype=np.bool_)
    place = np.minimum(np.searchsorted(trained_on, events), len(trained_on) - 1)
    return np.asarray(trained_on[place] == events)


def repeated_events(events: UInt64) -> npt.NDArray[np.bool_]:
    """Tell which rows (n,) repeat an event of an earlier row; by `same_event_hash`."""
    again = np.ones(len(events), dtype=np.bool_)
    again[np.unique(events, return_index=True)[1]] = False
    return again


def beyond_chance(repeats: int, values: npt.NDArray[np.float64]) -> bool:
    """Tell whether more rows of (n, d) numbers repeat an earlier one than their digits explain.

    Rows are equal by chance no more often than the column in which it happens least: values that lie on a grid, as wide as the
    smallest step between them in single precision, meet as often as so many values fall on so few places. Repeats count where
    they are five standard deviations above that.
    """
    chance = np.inf
    for column in values.T:
        single = np.sort(np.asarray(column, dtype=np.float32)).astype(np.float64)
        steps = np.diff(np.unique(single[np.isfinite(single)]))
        if not len(steps):
            continue
        expected = 0.0
        for block in np.array_split(single, max(1, min(100, len(single) // 50))):
            places = (block[-1] - block[0]) / steps.min() + 1
            expected += len(block) * (len(block) - 1) / 2 / places
        chance = min(chance, expected)
    return bool(np.isfinite(chance) and repeats > chance + 5 * np.sqrt(chance))


def shared_events(first: UInt64, second: UInt64, *, one_number: bool = False) -> int:
    """Count the events of `first` found in `second` by hash, beyond what chance repeats within each explain.

    Coarse user tables repeat rows by chance; the expected number of chance pairs is scaled from the repeats
    inside each sample and the count is returned only where it is five standard deviations above that, those of the
    repeats themselves included. one_number: the hashes are those of one number a row, of which some meet by chance
    though none may have within.
    """
    shared = int(np.isin(first, second).sum())
    repeats = sum(len(h) - len(np.unique(h)) for h in (first, second)) + int(one_number)
    pairs = sum(len(h) * (len(h) - 1) / 2 for h in (first, second))
    ratio = len(first) * len(second) / pairs if pairs else 0.0
    return shared if shared > ratio * repeats + 5 * np.sqrt(ratio * (1 + ratio) * repeats) else 0


def check_counting(counted: Mapping[str, tuple[str, str]]) -> None:
    """Refuse samples whose n_trk counts charged constituents in one and all of them in the other.

    counted: sample -> its source, and what its n_trk counts, of the samples that have it.
    """
    if len({how for _, how in counted.values()}) > 1:
        said = "; ".join(f"{source}: {how}" for source, how in counted.values())
        raise InputError(f"ntrk counts different things in different samples, which no model may mix: {said}")


def comparable_hashes(table: Table, content: Sequence[str]) -> dict[str, UInt64]:
    """Return the hashes by which a sample's events are compared with those of others: how they are told -> (m,) uint64.

    Event files: `EVENT_ID`. Tables of the user's own: run, luminosityBlock and event, of all rows where the file says the
    dataset too, else of collisions (simulation counts from the start in every sample). Content wherever it is numbers, and of
    images and sets where the file has no `EVENT_ID`.
    """
    found: dict[str, UInt64] = {}
    if EVENT_ID not in table or all(table[name].ndim == 1 for name in content):
        found["content"] = content_hash(content_of(table, content))
    if EVENT_ID in table:
        found["run, luminosityBlock and event"] = np.asarray(table[EVENT_ID], dtype=np.uint64)
        return found
    own = set(table.metadata.get("identity", ()))
    if own >= set(IDENTITY):
        found["run, luminosityBlock and event"] = identity_hash(table)
    elif "event" in own:
        collisions = table.select(as_identity(table, "run") != np.uint64(COLLISIONS_RUN))
        found["run, luminosityBlock and event"] = hash_columns(*(as_identity(collisions, n) for n in IDENTITY[1:]))
    return found


def check_shared(samples: Mapping[str, tuple[str, Mapping[str, UInt64]]]) -> None:
    """Refuse samples that share events, naming both: sample -> its source and its `comparable_hashes`."""
    listed = list(samples.values())
    for i, (first, hashes) in enumerate(listed):
        for second, others in listed[i + 1 :]:
            for how in [how for how in hashes if how in others]:
                n = shared_events(hashes[how], others[how])
                if n:
                    raise InputError(f"{first} and {second} share events ({n} by {how}); no sample may")
