"""Find the table in an HDF5 file, and read slices of it: pandas' fixed and table layouts, one structured dataset, or columns.

It runs in the child process of `reader.py`. pandas keeps columns of one type together in a block: in the fixed layout a dataset a block
(`block0_values`, its columns named by `block0_items`), in the table layout a field of one structured dataset (`table`, columns named by
the attribute `values_block_0_kind`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import InputError, unknown_name
from .limits import attribute, check_stored, check_total, objects, text_attribute
from .pickled import plain_value

__all__ = ["Block", "Found", "datasets_of", "find_table", "read_rows", "reason"]

Array = npt.NDArray[Any]
COLUMNS = 100_000
TEXT = 4096
"""Bytes of one text value or name."""
ENCODINGS = {"utf-8", "utf8", "ascii", "latin-1", "latin1", "iso-8859-1"}
MEANS = re.compile(r"bool$|(?:datetime64|timedelta64)(?:\[(?:s|ms|us|ns)\]|$)")
OBJECTS = "pickled objects, which are not read; write numbers, or text by to_hdf(..., format='table')"


@dataclass(frozen=True)
class Block:
    """Columns of one type: where they lie, what they are called, and why they cannot be read (empty: they can).

    dataset: its name in the file; field: of a structured dataset; deep: the shape of one value of a column; means: what an integer stands for, bool or datetime64[ns].
    """

    dataset: str
    field: str | None
    labels: tuple[str | int | float, ...]
    dtype: np.dtype[Any]
    deep: tuple[int, ...] = ()
    unreadable: str = ""
    means: str = ""
    encoding: str = "utf-8"


@dataclass(frozen=True)
class Found:
    """A table: its key (None where columns are datasets), its labels in order, its blocks, its rows."""

    key: str | None
    labels: tuple[str | int | float, ...]
    blocks: tuple[Block, ...]
    n_rows: int


def find_table(file: h5py.File, path: Path, key: str | None, *, frames_only: bool) -> Found:
    """Find the table under `key`, or the only one of the file; raises InputError.

    frames_only: pandas' frames alone; else a structured dataset is a table too, and where there is none, the one-dimensional datasets at
    the top are its columns.
    """
    frames: dict[str, h5py.Group] = {}
    others: dict[str, str] = {}
    records: dict[str, h5py.Dataset] = {}
    top: dict[str, h5py.Dataset] = {}
    for name, item in objects(file, path):
        if isinstance(item, h5py.Dataset):
            if dtype_of(item).names is not None and item.ndim == 1:
                records[name] = item
            elif "/" not in name and item.ndim == 1:
                top[name] = item
        elif kind := text_attribute(item, "pandas_type"):
            (frames if kind in {"frame", "frame_table"} else others)[name or "/"] = (
                item if kind.startswith("frame") else kind
            )
    inside = tuple(f"{name.strip('/')}/" for name in (*frames, *others))
    tables: dict[str, Any] = {n: g for n, g in frames.items() if not n.startswith(inside)}
    if not frames_only:
        tables |= {name: item for name, item in records.items() if not f"{name}/".startswith(inside)}
    if key is not None and key.strip("/") not in tables:
        raise InputError(unknown_name("key", key, tables, str(path)))
    if key is None and not tables and not frames_only and top and not others:
        return checked(of_datasets(top, path), file, path)
    if key is None and len(tables) != 1:
        raise InputError(several_or_none(path, list(tables), others, frames_only=frames_only))
    name = key.strip("/") if key is not None else next(iter(tables))
    found = of_record(name, tables[name]) if name in records else of_frame(name, tables[name], path)
    return checked(found, file, path)


def several_or_none(path: Path, tables: Sequence[str], others: dict[str, str], *, frames_only: bool) -> str:
    """Return what is said of a file that does not hold one table."""
    shown = ", ".join(tables[:12]) + (f", ... ({len(tables)} in all)" if len(tables) > 12 else "")
    if tables:
        return f"{path}: holds the pandas keys: {shown}; {'one is expected; name it' if frames_only else 'a table file holds one'}"
    odd = ", ".join(f"{name} ({kind})" for name, kind in list(others.items())[:12])
    if odd:
        return f"{path}: holds no pandas frame, but: {odd}; a frame is expected"
    if frames_only:
        return f"{path}: holds the pandas keys: none; one is expected"
    return f"{path}: holds neither a pandas table nor one-dimensional datasets"


def of_frame(name: str, group: h5py.Group, path: Path) -> Found:
    """Return the table of a pandas group, in the table layout where it holds a dataset `table`, else in the fixed layout."""
    where = f"{path}: key {name!r}"
    encoding = text_attribute(group, "encoding").lower() or "utf-8"
    if encoding not in ENCODINGS:
        raise InputError(f"{where}: its text is in the encoding {encoding!r}; allowed: {', '.join(sorted(ENCODINGS))}")
    try:
        if "table" in group:
            return of_table_layout(name, group, encoding)
        return of_fixed_layout(name, group, path, encoding)
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"{where}: no frame as pandas writes it, or damaged: {reason(error)}") from error


def of_table_layout(name: str, group: h5py.Group, encoding: str) -> Found:
    """Read the names of pandas' table layout: pickled lists, through the restricted reader."""
    table = group["table"]
    if not isinstance(table, h5py.Dataset) or dtype_of(table).names is None or table.ndim != 1:
        raise ValueError("its 'table' is no structured dataset")
    axes = unpickled(group, "non_index_axes")
    if not (isinstance(axes, list) and axes and isinstance(axes[0], tuple) and len(axes[0]) == 2):
        raise ValueError("its attribute 'non_index_axes' names no columns")
    labels = names_of(axes[0][1], "non_index_axes")
    blocks = []
    for field in table.dtype.names:
        if field == "index":
            continue
        own = names_of(unpickled(table, f"{field}_kind"), f"{field}_kind")
        dtype = table.dtype[field]
        if (dtype.shape or (1,)) != (len(own),):
            raise ValueError(f"the field {field!r} has the shape {dtype.shape} for {len(own)} columns")
        why = "categories" if text_attribute(table, f"{field}_meta") == "category" else ""
        means = text_attribute(table, f"{field}_dtype")
        blocks.append(block(table, field, own, dtype.base, why=why, means=means, encoding=encoding))
    return Found(name, labels, tuple(blocks), table.shape[0])


def of_fixed_layout(name: str, group: h5py.Group, path: Path, encoding: str) -> Found:
    """Read the names of pandas' fixed layout: arrays of text or integers."""
    if text_attribute(group, "axis0_variety") == "multi":
        raise ValueError("its columns have names of several levels; one is expected")
    labels = stored_names(group, "axis0", path, encoding)
    values = sorted((n for n in group if re.fullmatch(r"block\d+_values", n)), key=lambda n: int(n[5:-7]))
    blocks, rows = [], set()
    for stored in values:
        item = group[stored]
        own = stored_names(group, stored.replace("_values", "_items"), path, encoding)
        if not isinstance(item, h5py.Dataset) or not item.shape:
            raise ValueError(f"{stored!r} is no array")
        dtype = dtype_of(item)
        pickled = text_attribute(item, "PSEUDOATOM") or dtype.kind == "O"
        shape = unpickled(item, "shape") if "shape" in item.attrs else item.shape
        if not isinstance(shape, tuple) or not all(isinstance(n, int) for n in shape):
            raise ValueError(f"{stored!r} has the shape {shape!r}")
        if 0 in shape:  # pandas stores a block of one number for none, and its true shape beside it
            rows.add(0)
        elif not pickled:
            if attribute(item, "transposed") in (0, False) or item.shape[1:] != (len(own),):
                raise ValueError(f"{stored!r} has the shape {item.shape} for {len(own)} columns")
            rows.add(item.shape[0])
        flags = item.id.get_type().get_class() == h5py.h5t.BITFIELD  # how PyTables stores bool
        means = "bool" if flags else text_attribute(item, "value_type")
        blocks.append(block(item, None, own, dtype, why=OBJECTS if pickled else "", means=means, encoding=encoding))
    if len(rows) > 1:
        raise ValueError(f"its blocks have {', '.join(map(str, sorted(rows)))} rows; the same number is expected")
    return Found(name, labels, tuple(blocks), rows.pop() if rows else 0)


def of_record(name: str, item: h5py.Dataset) -> Found:
    """Return a structured dataset as a table, a field a column."""
    kinds = {field: item.dtype[field] for field in item.dtype.names}
    blocks = tuple(block(item, field, (field,), kind.base, deep=kind.shape) for field, kind in kinds.items())
    return Found(name, tuple(kinds), blocks, item.shape[0])


def of_datasets(top: dict[str, h5py.Dataset], path: Path) -> Found:
    """Return the one-dimensional datasets at the top of a file as a table; they must have the same length."""
    blocks = tuple(block(item, None, (name,), dtype_of(item)) for name, item in top.items())
    lengths = {name: item.shape[0] for name, item in top.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"{path}: columns differ in length: {lengths}")
    return Found(None, tuple(top), blocks, next(iter(lengths.values())))


def block(
    item: h5py.Dataset,
    field: str | None,
    labels: tuple[str | int | float, ...],
    dtype: np.dtype[Any],
    *,
    deep: tuple[int, ...] = (),
    why: str = "",
    means: str = "",
    encoding: str = "utf-8",
) -> Block:
    """Return a block, with the reason where its type is none that is read."""
    text = h5py.check_string_dtype(dtype)
    if not why and (dtype.kind not in "fiubSO" or (dtype.kind == "O" and text is None)):
        references = h5py.check_ref_dtype(dtype) is not None
        why = "references" if references else OBJECTS if dtype.kind == "O" else f"{dtype}, no numbers or text"
    if not why and dtype.itemsize > TEXT:
        why = f"text of {dtype.itemsize:,} bytes; allowed: {TEXT:,}"
    known = MEANS.match(means) if dtype.kind in "iu" and dtype.itemsize == (1 if means == "bool" else 8) else None
    means = known.group(0) if known is not None else ""
    means += "[ns]" if means.endswith("64") else ""
    return Block(item.name, field, labels, dtype, deep, why, means, encoding)


def dtype_of(item: h5py.Dataset) -> np.dtype[Any]:
    """Return the type of a dataset's numbers, an object's where numpy has none for it."""
    try:
        found: np.dtype[Any] = np.dtype(item.dtype)
    except TypeError:
        return np.dtype(object)
    return found


def checked(found: Found, file: h5py.File, path: Path) -> Found:
    """Return a table if each column has one place and the file holds what is declared; raises InputError."""
    where = f"{path}: key {found.key!r}" if found.key is not None else str(path)
    placed = [label for b in found.blocks for label in b.labels]
    for names in (found.labels, placed):
        name, times = Counter(map(str, names)).most_common(1)[0] if names else ("", 0)
        if times > 1:
            raise InputError(f"{where}: two columns are called {name!r}")
    if set(placed) != set(found.labels):
        odd = sorted(map(str, set(placed) ^ set(found.labels)))
        raise InputError(f"{where}: damaged: columns without values, or values without a column: {', '.join(odd[:12])}")
    if found.n_rows:
        check_total(sum(check_stored(file[name], name.lstrip("/"), path) for name in datasets_of(found)), where, path)
    return found


def datasets_of(found: Found) -> list[str]:
    """Return the names of the datasets that a table is read from."""
    return list(dict.fromkeys(b.dataset for b in found.blocks if not b.unreadable or b.field is not None))


def unpickled(item: h5py.Group | h5py.Dataset, name: str) -> Any:
    """Return the value of an attribute that pandas pickles."""
    stored = attribute(item, name)
    if isinstance(stored, bytes):
        return plain_value(stored)
    raise ValueError(f"its attribute {name!r} is {'missing' if stored is None else 'no list of names'}")


def names_of(found: Any, where: str) -> tuple[str | int | float, ...]:
    """Return a list of names, text or numbers; raises ValueError for anything else."""
    if not isinstance(found, list) or len(found) > COLUMNS:
        raise ValueError(f"{where!r} is no list of at most {COLUMNS:,} names")
    names = tuple(name.decode("utf-8") if isinstance(name, bytes) else name for name in found)
    for name in names:
        if isinstance(name, bool) or not isinstance(name, str | int | float) or len(str(name)) > TEXT:
            raise ValueError(f"{where!r} holds {str(name)[:40]!r}, which is no name of a column")
    return names


def stored_names(group: h5py.Group, name: str, path: Path, encoding: str) -> tuple[str | int | float, ...]:
    """Return the names that pandas' fixed layout stores in an array."""
    item = group[name]
    if not isinstance(item, h5py.Dataset) or text_attribute(item, "PSEUDOATOM") or dtype_of(item).kind not in "iufS":
        raise ValueError(f"its names, {name!r}, are {OBJECTS}")
    if item.ndim != 1 or item.shape[0] > COLUMNS or item.dtype.itemsize > TEXT:
        raise ValueError(f"{name!r} is no list of at most {COLUMNS:,} names")
    check_stored(item, f"{group.name}/{name}".lstrip("/"), path)
    return names_of(decoded(item[()], encoding).tolist(), name)


def decoded(values: Array, encoding: str) -> Array:
    """Return bytes as text, other values as they are."""
    return np.char.decode(values, encoding) if values.dtype.kind == "S" else values


def reason(error: BaseException) -> str:
    """Return what an exception says, in a line."""
    text = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    return text or type(error).__name__


def read_rows(
    found: Found, datasets: Mapping[str, h5py.Dataset], start: int, stop: int, blocks: Sequence[int]
) -> list[Array]:
    """Return rows start to stop of the numbered blocks, each (n, columns) or (n, ...), numbers in the machine's byte order.

    datasets: those of `datasets_of`, open.
    """
    records: dict[str, Array] = {}
    for name in {found.blocks[i].dataset for i in blocks if found.blocks[i].field is not None}:
        fields = [str(found.blocks[i].field) for i in blocks if found.blocks[i].dataset == name]
        item = datasets[name]
        # a whole record is read without conversion; objects in it are left where they are
        records[name] = (item.fields(fields) if item.dtype.hasobject else item)[start:stop]
    made = []
    for part in (found.blocks[i] for i in blocks):
        stored = datasets[part.dataset][start:stop] if part.field is None else records[part.dataset][part.field]
        made.append(prepared(stored, part))
    return made


def prepared(stored: Array, part: Block) -> Array:
    """Return stored rows of a block as a contiguous array of numbers, text or times."""
    if stored.dtype.kind == "O":
        longest = max((len(v) for v in stored.ravel()), default=0)
        if longest > TEXT:
            raise ValueError(f"column {part.labels[0]!r} holds text of {longest:,} bytes; allowed: {TEXT:,}")
        stored = stored.astype("S")
    values = decoded(stored, part.encoding)
    if part.means:
        values = values.astype(bool) if part.means == "bool" else values.astype(np.int64).view(part.means)
    if values.dtype.kind == "f" and values.dtype.itemsize > 8:
        values = values.astype(np.float64)
    shape = (len(values), *part.deep) if part.deep else (len(values), len(part.labels))
    return np.ascontiguousarray(values.reshape(shape), dtype=values.dtype.newbyteorder("="))
