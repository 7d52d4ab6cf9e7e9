"""Read pandas tables in HDF5 in slices of rows, without pandas: its fixed and its table layout, Blosc included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tables

from ..errors import InputError, unknown_name

__all__ = ["Rows", "check_conversion", "find_rows", "open_hdf5"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """The numbers under one pandas key, read in slices of rows.

    columns: their labels, in order. pandas keeps columns of one type together in a block: `blocks` holds the node, its
    field (None in the fixed layout) and the positions of the block's columns.
    """

    key: str
    columns: tuple[Any, ...]
    blocks: tuple[tuple[Any, str | None, Ints], ...]

    @property
    def n_rows(self) -> int:
        """Number of events."""
        return _length(self.blocks[0][0])

    @property
    def n_columns(self) -> int:
        """Number of columns over all blocks."""
        return sum(len(positions) for _, _, positions in self.blocks)

    def read(self, start: int, stop: int) -> Floats:
        """Return rows start to stop: (n, n_columns) float64."""
        out = np.empty((stop - start, self.n_columns))
        for node, column, positions in self.blocks:
            values = node.read(start, stop) if column is None else node.read(start, stop, field=column)
            out[:, positions] = values.reshape(stop - start, -1)
        return out


@contextmanager
def open_hdf5(source: Path, *, expected: str) -> Iterator[Any]:
    """Open an HDF5 file; PyTables' errors become one that names the file and what was expected of it."""
    if not source.is_file():
        raise InputError(
            f"{source}: {'is a directory' if source.is_dir() else 'no such file'}; an HDF5 file is expected"
        )
    try:
        with tables.open_file(str(source), mode="r") as file:
            yield file
    except tables.HDF5ExtError as error:
        reason = "truncated or damaged" if tables.is_hdf5_file(str(source)) else "not an HDF5 file"
        raise InputError(f"{source}: {reason}; {expected} is expected") from error


def find_rows(file: Any, source: Path, key: str | None) -> Rows:
    """Find the matrix under `key`, or under the only pandas key of the file; raises InputError."""
    groups = {
        group._v_pathname.lstrip("/"): group
        for group in file.walk_groups("/")
        if str(getattr(group._v_attrs, "pandas_type", "")).startswith("frame")
    }
    if key is not None and key.strip("/") not in groups:
        raise InputError(unknown_name("key", key, groups, str(source)))
    if key is None and len(groups) != 1:
        found = ", ".join(groups) or "none"
        raise InputError(f"{source}: holds the pandas keys: {found}; one is expected" + ("; name it" if groups else ""))
    name = key.strip("/") if key is not None else next(iter(groups))
    labels, stored = _stored(groups[name])
    position = {label: i for i, label in enumerate(labels)}
    blocks = []
    for node, column, dtype, own in stored:
        if dtype is None or dtype.base.kind not in "fiu":
            found = "text or objects" if dtype is None else dtype.base
            columns = ", ".join(str(_text(label)) for label in own[:3]) + (", ..." if len(own) > 3 else "")
            raise InputError(f"{source}: key {name!r} holds columns of {found} ({columns}); numbers are expected")
        blocks.append((node, column, np.array([position[_text(label)] for label in own], dtype=np.int64)))
    if not blocks:
        raise InputError(f"{source}: key {name!r} holds no columns of numbers")
    rows = Rows(name, tuple(labels), tuple(blocks))
    if not rows.n_rows:
        raise InputError(f"{source}: key {name!r} holds no rows; nothing to convert")
    return rows


def _length(node: Any) -> int:
    """Return the rows of a node. For a block without any pandas' fixed layout stores one number, and its true shape beside it."""
    shape = getattr(node._v_attrs, "shape", None)
    return 0 if shape is not None and 0 in tuple(shape) else int(node.shape[0])


def _stored(group: Any) -> tuple[list[Any], list[tuple[Any, str | None, Any, list[Any]]]]:
    """Return a group's column labels, and its blocks: node, field, type, own labels."""
    if "table" in group:
        table = group.table
        names = [column for column in table.colnames if column != "index"]  # blocks, and columns made searchable
        labels = [_text(label) for label in group._v_attrs.non_index_axes[0][1]]
        return labels, [(table, n, table.coldtypes[n], getattr(table._v_attrs, f"{n}_kind")) for n in names]
    names = sorted(node for node in group._v_children if node.startswith("block") and node.endswith("_values"))
    labels = [_text(label) for label in group.axis0.read().tolist()]
    items = [group._f_get_child(n.replace("_values", "_items")).read().tolist() for n in names]
    nodes = [group._f_get_child(n) for n in names]
    # text and objects are pickled into an array of another kind, which has no type
    return labels, [(node, None, getattr(node, "dtype", None), own) for node, own in zip(nodes, items, strict=True)]


def _text(label: Any) -> Any:
    """Return a label that pandas may have stored as bytes."""
    return label.decode() if isinstance(label, bytes) else label


def check_conversion(source: Path, target: Path, chunk_size: int) -> None:
    """Refuse blocks of no rows, and an event file that would replace the file it is made from."""
    if chunk_size < 1:
        raise InputError(f"chunk_size = {chunk_size}; allowed: 1 or more")
    if target.resolve() == source.resolve():
        raise InputError(f"{target}: is the file to convert; give the event file another name")
