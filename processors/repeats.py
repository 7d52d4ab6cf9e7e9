"""Events that come again within a sample: refused with their number and both files, or left out and counted."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..files import write_folder_aside
from ..folds import beyond_chance, content_of, repeated_events, same_event_hash, told_by
from ..table import EVENT_ID, IDENTITY, table_info, table_parts, write_part, write_parts_record

if TYPE_CHECKING:
    from .chunks import Representation

__all__ = ["COMES_AGAIN", "Repeats", "settle_repeats"]

logger = logging.getLogger(__name__)

Repeats = Literal["refuse", "drop"]
COMES_AGAIN = "comes again"
"""What the cutflow calls an event that stands in the sample already."""
COMPARED = 20
"""Columns of numbers, at most, from which it is judged how many rows are equal by chance."""


def settle_repeats(
    path: Path, representation: Representation, *, repeats: Repeats, where: str, files: Sequence[str]
) -> int:
    """Refuse a table in parts in which an event comes again, or leave the later ones out and count them; return their number.

    Rows without an identity may be equal by chance: they are repeats where more are equal than their columns' digits explain.
    where: begins messages; files: from which the parts are made, whose names begin with the number of the file. Raises InputError
    naming the first event that comes again and the two files that hold it.
    """
    info = table_info(path)
    parts = list(_events(path, representation))
    again = repeated_events(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.bool_)
    n = int(again.sum())
    if n == 0 or (told_by(info) == "content" and not beyond_chance(n, _columns(path, representation))):
        return 0
    told = f"{where}: {n} of {info.rows} events come again: {_first(path, parts, again, files)}"
    if repeats == "refuse":
        raise InputError(f"{told}; repeats: drop leaves the later ones out (--repeats drop of hunch process)")
    logger.warning("%s; the later ones are left out", told)
    ends = np.cumsum([len(part) for part in parts])[:-1]
    names = [part.stem for part in sorted(path.glob("*.parquet"))]
    cutflow = {k: v for k, v in info.metadata["cutflow"].items() if k != "kept"}
    cutflow |= {COMES_AGAIN: n, "kept": info.rows - n}
    with write_folder_aside(path) as folder:
        for name, part, own in zip(names, table_parts(path), np.split(again, ends), strict=True):
            write_part(folder, name, part.select(~own))
        write_parts_record(folder, info.columns, {**info.metadata, "cutflow": cutflow}, rows=info.rows - n)
    return n


def _events(path: Path, representation: Representation) -> Iterator[npt.NDArray[np.uint64]]:
    """Give the hashes by which a table's rows are the same event, part by part."""
    columns = [EVENT_ID] if EVENT_ID in table_info(path).columns else [*representation.content]
    for part in table_parts(path, columns):
        yield same_event_hash(part, representation.content)


def _columns(path: Path, representation: Representation) -> npt.NDArray[np.float64]:
    """Return the first columns of numbers that rows are told by (n, d)."""
    names = list(representation.content)
    return np.concatenate([content_of(part, names)[:, :COMPARED] for part in table_parts(path, names)])


def _first(path: Path, parts: list[npt.NDArray[np.uint64]], again: npt.NDArray[np.bool_], files: Sequence[str]) -> str:
    """Name the first event that comes again, and the two files that hold it."""
    events = np.concatenate(parts)
    later = int(np.flatnonzero(again)[0])
    earlier = int(np.flatnonzero(events == events[later])[0])
    starts = np.cumsum([0, *(len(part) for part in parts)])
    names = [part.stem for part in sorted(path.glob("*.parquet"))]
    told = []
    for row in (earlier, later):
        part = int(np.searchsorted(starts, row, side="right")) - 1
        number = int(names[part].replace("-", "_").split("_")[0])  # parts are named FILE-ENTRY or FILE_PART
        table = next(t for i, t in enumerate(table_parts(path, ())) if i == part)
        at = row - int(starts[part])
        own = table.metadata.get("identity", ())
        event = ", ".join(f"{name} {table[name][at]}" for name in IDENTITY[1:] if name in own)
        told.append(f"{event or f'row {at}'} of {files[number]}")
    return f"{told[0]}, and {told[1]}"
