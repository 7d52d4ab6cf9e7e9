"""Who an event is, which fold it belongs to, and which samples share events."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InputError
from .table import IDENTITY, Table

__all__ = ["check_counting", "check_shared", "content_hash", "event_hash", "fold_of", "identity_hash", "shared_events"]

UInt64 = npt.NDArray[np.uint64]
Array = npt.NDArray[Any]

EVENT_REPRESENTATIONS = ("dijet", "images", "constituents")
"""What a table made of event files says it holds."""


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


def as_identity(table: Table, name: str) -> UInt64:
    """Return an identity column as 64-bit integers; any integer type, or floats that are whole numbers."""
    values = table[name]
    if values.dtype.kind == "f":
        if not np.all(np.isfinite(values) & (values == np.round(values))):
            raise InputError(f"{table.source}: column {name!r} identifies events and holds values that are no integers")
        values = values.astype(np.int64)
    if values.dtype.kind not in "iub":
        raise InputError(f"{table.source}: column {name!r} identifies events and holds {values.dtype}, not integers")
    if values.dtype.kind == "u":
        return values.astype(np.uint64)
    return values.astype(np.int64).view(np.uint64)


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


def shared_events(first: UInt64, second: UInt64) -> int:
    """Count the events of `first` found in `second` by hash, beyond what chance repeats within each explain.

    Coarse user tables repeat rows by chance; the expected number of chance pairs is scaled from the repeats
    inside each sample and the count is returned only where it is five standard deviations above that.
    """
    shared = int(np.isin(first, second).sum())
    repeats = sum(len(h) - len(np.unique(h)) for h in (first, second))
    pairs = sum(len(h) * (len(h) - 1) / 2 for h in (first, second))
    expected = repeats / pairs * len(first) * len(second) if pairs else 0.0
    return shared if shared > expected + 5 * np.sqrt(expected) else 0


def check_counting(tables: Mapping[str, Table]) -> None:
    """Refuse samples whose n_trk counts charged constituents in one and all of them in the other."""
    counted = {name: t.metadata.get("ntrk") for name, t in tables.items() if t.metadata.get("ntrk") and "ntrk_1" in t}
    if len(set(counted.values())) > 1:
        said = "; ".join(f"{tables[name].source}: {how}" for name, how in counted.items())
        raise InputError(f"ntrk counts different things in different samples, which no model may mix: {said}")


def check_shared(tables: Mapping[str, Table], features: Sequence[str]) -> None:
    """Refuse samples that share events, by content or by identity, naming both."""
    contents = {name: content_hash(t.matrix(["mjj", *features])) for name, t in tables.items()}
    identities = {name: known_identities(t) for name, t in tables.items()}
    names = list(tables)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            by_content = shared_events(contents[first], contents[second])
            by_identity = shared_events(identities[first], identities[second])
            if by_content or by_identity:
                how = f"{by_content} by content" if by_content else f"{by_identity} by run, luminosityBlock and event"
                raise InputError(
                    f"{tables[first].source} and {tables[second].source} share events ({how}); no sample may"
                )


def known_identities(table: Table) -> npt.NDArray[np.uint64]:
    """Return hashes of the identities that mean the same event wherever they are found again.

    Event files: collision data, known by run != 1; simulation numbers its events from the start in every sample and is
    compared by content. Tables of the user's own: all rows, where the file itself says dataset and event.
    """
    if table.metadata.get("representation") in EVENT_REPRESENTATIONS:
        collisions = table.select(table["run"] != 1)
        # the same collision can be in several primary datasets
        return identity_hash(collisions.with_columns(dataset=np.full(len(collisions), "")))
    own = set(IDENTITY) <= set(table.metadata.get("identity", ()))
    return identity_hash(table) if own else np.zeros(0, dtype=np.uint64)


def event_hash(table: Table, features: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Return what an event's fold is made from: its identity where the file holds one, else its content."""
    if "event" in table.metadata.get("identity", ()):
        return identity_hash(table)
    return content_hash(table.matrix(["mjj", *features]))
