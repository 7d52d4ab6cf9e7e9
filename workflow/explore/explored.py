"""What is looked at: columns of events in memory, their samples and regions, and how the selected ones are read again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import InputError, unknown_name
from ...table import EVENT_ID, IDENTITY, Table, concatenate, is_table_folder, read_table, table_info, table_parts
from .binning import Codes, Single

__all__ = ["MOST_SAMPLES", "SAMPLE", "Content", "Explored", "content_of", "explored", "read_explored_table", "unit_of"]

MOST_SAMPLES = 10
"""Samples that have a colour of their own; of more, the smallest are put together."""
SAMPLE, REGION = "sample", "region"
"""Columns that a selection is written with, beside those of its events."""
FIRST = 4
"""Columns that have a histogram to begin with."""
GEV = re.compile(r"(mjj|met|ht|pt|mass|mJ|msd)(_\w+)?", re.IGNORECASE)
RADIAN = re.compile(r"phi(_\w+)?|\w+_phi")


@dataclass(frozen=True)
class Content:
    """What of a table's columns a page can show.

    numbers: with one number an event; arrays: with an array an event; text: neither; truth: labels, of which numbers are shown on
    request alone.
    """

    numbers: tuple[str, ...]
    arrays: tuple[str, ...]
    text: tuple[str, ...]
    truth: tuple[str, ...]

    @property
    def notes(self) -> list[str]:
        """Say which columns are left out."""
        told = (
            ("with an array an event", self.arrays),
            ("without numbers", self.text),
            ("of truth labels (--truth shows them)", self.truth),
        )
        return [f"{len(names)} column{'s' if len(names) > 1 else ''} {what} left out" for what, names in told if names]


@dataclass(frozen=True, repr=False)
class Explored:
    """Events to look at, n of them.

    columns: name -> (n,) float32; units: name -> unit, where one is known; samples: names, and sample (n,) uint8 which of them an event is of;
    regions: names, none where there are no regions, and region (n,) which of them it is in; first, pairs: columns that are shown to begin
    with; notes: what was left out; read: gives the tables again, in the same order of events, for the selection.
    """

    source: str
    columns: Mapping[str, Single]
    units: Mapping[str, str]
    samples: tuple[str, ...]
    sample: npt.NDArray[np.uint8]
    regions: tuple[str, ...]
    region: Codes
    first: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    read: Callable[[], Iterator[Table]]

    def __len__(self) -> int:
        return len(self.sample)

    def __repr__(self) -> str:
        return f"Explored({len(self):,} events of {self.source}, {len(self.columns)} columns, samples {', '.join(self.samples)})"

    def selection(self, keep: npt.NDArray[np.bool_]) -> Table:
        """Return the events where `keep` (n,) holds as a table, with every column that is no array, read anew from the files.

        Columns that the events of some samples lack are NaN there. Raises InputError where the files hold other numbers of events than
        when they were read first, and where nothing is selected.
        """
        if not keep.any():
            raise InputError("no event is selected; clear a brush")
        begin, found = 0, []
        for table in self.read():
            own = slice(begin, begin + len(table))
            begin = own.stop
            if begin <= len(keep):
                more = {SAMPLE: np.array(self.samples)[self.sample[own]]} if len(self.samples) > 1 else {}
                if self.regions:
                    more[REGION] = np.array(self.regions)[self.region[own]]
                found.append(table.with_columns(**more).select(keep[own]))
        if begin != len(keep):
            raise InputError(
                f"{self.source}: holds {begin} events now and held {len(keep)} when the page was made; begin anew"
            )
        metadata = {"identity": list(found[0].metadata.get("identity", ())), "selected_of": self.source}
        names = dict.fromkeys(name for table in found for name in table.columns)
        filled = [
            Table({n: table[n] if n in table else missing(found, n, len(table)) for n in names}) for table in found
        ]
        return Table(concatenate(filled, self.source).columns, metadata, self.source)


def missing(tables: Sequence[Table], name: str, rows: int) -> npt.NDArray[Any]:
    """Return what stands for a column in the table that lacks it: NaN, or no text."""
    kind = next(table[name].dtype.kind for table in tables if name in table)
    return np.full(rows, np.nan) if kind in "fiub" else np.full(rows, "")


def unit_of(column: str) -> str:
    """Return the unit of a column of a table that hunch made, by its name.

    >>> unit_of("pt_1"), unit_of("phi"), unit_of("tau21_1")
    ('GeV', 'rad', '')
    """
    if GEV.fullmatch(column):
        return "GeV"
    return "rad" if RADIAN.fullmatch(column) else ""


def is_truth(column: str) -> bool:
    """Tell whether a column is a truth label by its name."""
    return column.lower().startswith("truth")


def content_of(path: Path, *, truth: bool) -> Content:
    """Return what of a table's columns can be shown, by their kinds; no rows of a parquet table are read. Raises InputError as `read_table`."""
    info = table_info(path)
    kinds = parquet_kinds(path) if path.suffix.lower() == ".parquet" else kinds_of(read_table(path))
    kinds = {name: kinds[name] for name in info.columns if name in kinds and name not in {*IDENTITY, EVENT_ID}}
    hidden = [] if truth else [name for name, kind in kinds.items() if is_truth(name) and kind == "number"]
    named = {
        what: tuple(n for n, k in kinds.items() if k == what and n not in hidden)
        for what in ("number", "array", "text")
    }
    return Content(named["number"], named["array"], named["text"], tuple(hidden))


def kinds_of(table: Table) -> dict[str, str]:
    """Return the kind of each column of a table: number, array or text."""
    return {
        name: "array" if values.ndim > 1 else "number" if values.dtype.kind in "fiub" else "text"
        for name, values in table.columns.items()
    }


def parquet_kinds(path: Path) -> dict[str, str]:
    """Return the kind of each column of a parquet file, or of a folder of parts by the first of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = next(iter(sorted(path.glob("*.parquet"))), None) if is_table_folder(path) else path
    if file is None:
        raise InputError(f"{path}: holds no parts, so no events to look at")

    def kind(found: Any) -> str:
        if pa.types.is_nested(found):
            return "array"
        numbers = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
        return "number" if any(test(found) for test in numbers) else "text"

    return {field.name: kind(field.type) for field in pq.read_schema(file)}


def split_names(given: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return names of columns that were given one by one, or several with commas between them.

    >>> split_names(["a,b", "c,d"], ["a", "b", "c,d"])
    ['a', 'b', 'c,d']
    """
    return [name for text in given for name in ([text] if text in known else text.split(","))]


def check_columns(wanted: Sequence[str], content: Content, source: str, known: Sequence[str]) -> None:
    """Raise InputError for a column that cannot be shown, with the nearest one that can."""
    for name in wanted:
        if name in known:
            continue
        if name in content.truth:
            raise InputError(f"{source}: column {name!r} is a truth label; --truth shows it")
        why = "an array an event" if name in content.arrays else "no numbers" if name in content.text else None
        if why is not None:
            raise InputError(f"{source}: column {name!r} holds {why}; one number an event is expected")
        raise InputError(unknown_name("column", name, known, source))


def read_explored_table(path: Path, *, truth: bool = False, columns: Sequence[str] = ()) -> Explored:
    """Read a table to look at: its samples are its datasets.

    truth: whether truth labels are shown; columns: those that have a histogram to begin with. Raises InputError for a table without
    events, without a column of numbers, for a column that is not there, and as `read_table`.
    """
    content = content_of(path, truth=truth)
    info = table_info(path)
    if not content.numbers:
        left = ", ".join(content.notes) or "it has identity columns alone"
        raise InputError(f"{path}: no column holds one number an event, so there is nothing to draw: {left}")
    columns = split_names(columns, content.numbers)
    check_columns(columns, content, str(path), content.numbers)
    found = {name: np.empty(info.rows, dtype=np.float32) for name in content.numbers}
    names: list[npt.NDArray[Any]] = []
    begin = 0
    for part in table_parts(path, content.numbers):
        for name, values in found.items():
            values[begin : begin + len(part)] = single(part[name])
        names.append(part["dataset"] if "dataset" in part else np.full(len(part), path.stem))
        begin += len(part)
    samples, sample = numbered(np.concatenate(names)) if names else ((), np.empty(0, dtype=np.uint8))
    exported = tuple(n for n in info.columns if n not in {*content.truth, *content.arrays})
    return explored(
        str(path),
        found,
        sample,
        samples,
        units={name: unit_of(name) for name in found} if "representation" in info.metadata else {},
        columns=columns,
        notes=content.notes,
        read=lambda: table_parts(path, exported),
    )


def single(values: npt.NDArray[Any]) -> Single:
    """Return numbers (n,) as float32; what is too large is infinite, and so beyond every axis."""
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=np.float32)


def numbered(names: npt.NDArray[Any]) -> tuple[tuple[str, ...], npt.NDArray[np.uint8]]:
    """Return the different names, those of most events first, and the number of each event's (n,); the smallest of many are one."""
    found, place, counts = np.unique(names.astype(str), return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(found), dtype=np.int64)
    rank[order] = np.arange(len(found))
    told = [str(found[k]) for k in order]
    if len(told) > MOST_SAMPLES:
        told = [*told[: MOST_SAMPLES - 1], f"{len(told) - MOST_SAMPLES + 1} others"]
    return tuple(told), np.minimum(rank, len(told) - 1)[place].astype(np.uint8)


def explored(
    source: str,
    columns_found: Mapping[str, Single],
    sample: npt.NDArray[np.uint8],
    samples: Sequence[str],
    *,
    read: Callable[[], Iterator[Table]],
    units: Mapping[str, str],
    columns: Sequence[str] = (),
    notes: Sequence[str] = (),
    regions: Sequence[str] = (),
    region: Codes | None = None,
) -> Explored:
    """Return events to look at, with the columns that are shown to begin with; raises InputError where there are no events or numbers."""
    if not len(sample):
        raise InputError(f"{source}: holds no events, so there is nothing to look at")
    usable = {name: values for name, values in columns_found.items() if np.isfinite(values).any()}
    if not usable:
        raise InputError(f"{source}: no column holds a finite number, so there is nothing to draw")
    empty = [name for name in columns_found if name not in usable]
    told = [
        *notes,
        *([f"{len(empty)} column{'s' if len(empty) > 1 else ''} without a finite number left out"] if empty else []),
    ]
    for name in columns:
        if name not in usable:
            raise InputError(f"{source}: column {name!r} holds no finite number")
    varying = [name for name, values in usable.items() if np.nanmin(values) < np.nanmax(values)] or list(usable)
    first = tuple(dict.fromkeys(columns)) or tuple(varying[:FIRST])
    pairs = tuple(pair for pair in zip(first[::2], first[1::2], strict=False))[:2]
    return Explored(
        source=source,
        columns=usable,
        units=units,
        samples=tuple(samples),
        sample=sample,
        regions=tuple(regions),
        region=np.zeros(len(sample), dtype=np.uint16) if region is None else region,
        first=first,
        pairs=pairs,
        notes=tuple(told),
        read=read,
    )
