"""Convert the LHC Olympics HDF5 format to an event file, in chunks (the public file is 18 GB in memory).

A row is 700 particles of (pT, eta, phi), zero-padded, and in most files a label: 2101 or 2100 columns, stored by pandas
in its fixed or its table layout. PyTables reads slices of both, Blosc compression included.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import awkward as ak
import numpy as np
import numpy.typing as npt
import tables
from tqdm import tqdm

from ..errors import InputError, unknown_name
from .eventfile import event_writer

__all__ = ["ConversionReport", "convert_lhco"]

log = logging.getLogger(__name__)

SLOTS = 700
COLUMNS = 3 * SLOTS
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did: events and particles written, signal events by the label (None without a label)."""

    source: str
    path: str
    key: str
    n_events: int
    n_particles: int
    n_signal: int | None


@dataclass(frozen=True)
class Rows:
    """The numbers under one pandas key, read in slices of rows.

    pandas keeps columns of one type together in a block: `blocks` holds the node, its field (None in the fixed
    layout) and the positions of the block's columns.
    """

    key: str
    blocks: tuple[tuple[Any, str | None, Ints], ...]

    @property
    def n_rows(self) -> int:
        """Number of events."""
        return int(self.blocks[0][0].shape[0])

    @property
    def n_columns(self) -> int:
        """Number of columns over all blocks."""
        return sum(len(positions) for _, _, positions in self.blocks)

    def read(self, start: int, stop: int) -> Floats:
        """Return rows start to stop: (n, n_columns) float64."""
        out = np.empty((stop - start, self.n_columns))
        for node, column, positions in self.blocks:
            values = node.read(start, stop) if column is None else node.read(start, stop, field=column)
            out[:, positions] = values
        return out


def convert_lhco(
    source: str | Path,
    target: str | Path,
    *,
    chunk_size: int = 5000,
    key: str | None = None,
    progress: bool = True,
) -> ConversionReport:
    """Write the events of an LHC Olympics file as an event file.

    `event` is the row number from 0, `run` and `luminosityBlock` are 1, slots with pT = 0 are dropped, the label
    becomes `truth_signal`. The format stores no charge and no type, so the event file has neither. key: the pandas
    key, needed where the file holds several. chunk_size: rows in memory at once. Raises InputError that names file,
    key and row for a file that is not HDF5, has other columns, or holds what cannot be a particle.
    """
    source = Path(source)
    if chunk_size < 1:
        raise InputError(f"chunk_size = {chunk_size}; allowed: 1 or more")
    if not source.is_file():
        raise InputError(
            f"{source}: {'is a directory' if source.is_dir() else 'no such file'}; an HDF5 file is expected"
        )
    if Path(target).resolve() == source.resolve():
        raise InputError(f"{target}: is the file to convert; give the event file another name")
    with _open(source) as file:
        rows = _rows(file, source, key)
        n_rows, n_columns = rows.n_rows, rows.n_columns
        if n_columns not in (COLUMNS, COLUMNS + 1):
            raise InputError(
                f"{source}: key {rows.key!r} has {n_columns} columns; allowed: {COLUMNS} "
                f"({SLOTS} particles of pT, eta, phi) or {COLUMNS + 1} with a label"
            )
        labelled = n_columns > COLUMNS
        n_particles, n_signal = 0, 0
        interval = 0.5 if sys.stderr.isatty() else 30.0
        bar: tqdm[NoReturn] = tqdm(
            total=n_rows, desc="convert lhco", unit="event", disable=not progress, mininterval=interval
        )
        with bar, event_writer(target, charged=False, truth=labelled, weighted=False) as writer:
            for start in range(0, n_rows, chunk_size):
                chunk = _checked(rows.read(start, min(start + chunk_size, n_rows)), start, source, rows.key)
                label = chunk[:, COLUMNS].astype(np.uint8) if labelled else None
                particles = _particles(chunk)
                writer.write(particles, truth_signal=label)
                n_particles += int(ak.count(particles.pt))
                n_signal += int(label.sum()) if label is not None else 0
                bar.update(len(chunk))
    log.info("%s: %d events converted to %s", source, n_rows, target)
    return ConversionReport(str(source), str(target), rows.key, n_rows, n_particles, n_signal if labelled else None)


@contextmanager
def _open(source: Path) -> Iterator[Any]:
    """Open an HDF5 file; PyTables' errors become one that names the file."""
    try:
        with tables.open_file(str(source), mode="r") as file:
            yield file
    except tables.HDF5ExtError as error:
        reason = "truncated or damaged" if tables.is_hdf5_file(str(source)) else "not an HDF5 file"
        raise InputError(f"{source}: {reason}; a pandas HDF5 file of the LHC Olympics is expected") from error


def _rows(file: Any, source: Path, key: str | None) -> Rows:
    """Find the matrix under `key`, or under the only pandas key of the file."""
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
    group = groups[name]
    table = "table" in group
    stored: list[tuple[Any, str | None, Any, list[Any]]]
    if table:
        names = [column for column in group.table.colnames if column.startswith("values_block_")]
        labels = list(group._v_attrs.non_index_axes[0][1])
        stored = [(group.table, n, group.table.coldtypes[n], getattr(group.table._v_attrs, f"{n}_kind")) for n in names]
    else:
        names = sorted(node for node in group._v_children if node.startswith("block") and node.endswith("_values"))
        labels = group.axis0.read().tolist()
        items = [group._f_get_child(n.replace("_values", "_items")).read().tolist() for n in names]
        nodes = [group._f_get_child(n) for n in names]
        stored = [(node, None, node.dtype, own) for node, own in zip(nodes, items, strict=True)]
    position = {label: i for i, label in enumerate(labels)}
    blocks = []
    for node, column, dtype, own in stored:
        if dtype.base.kind not in "fiu":
            raise InputError(f"{source}: key {name!r} holds columns of {dtype.base}; numbers are expected")
        blocks.append((node, column, np.array([position[label] for label in own], dtype=np.int64)))
    if not blocks:
        raise InputError(f"{source}: key {name!r} holds no columns of numbers")
    return Rows(name, tuple(blocks))


def _checked(chunk: Floats, start: int, source: Path, key: str) -> Floats:
    """Return the chunk if every number in it can be one of a particle or a label."""

    def refuse(bad: npt.NDArray[np.bool_], allowed: str) -> None:
        if bad.any():
            row, column = np.argwhere(bad)[0]
            found = chunk[row, column if bad.shape[1] > 1 else COLUMNS]
            where = f"row {start + row}, column {column if bad.shape[1] > 1 else COLUMNS}"
            raise InputError(f"{source}: key {key!r}, {where}: found {found:g}; allowed: {allowed}")

    refuse(~np.isfinite(chunk), "finite numbers")
    negative = np.zeros(chunk.shape, dtype=bool)
    negative[:, :COLUMNS:3] = chunk[:, :COLUMNS:3] < 0
    refuse(negative, "pT of 0 or more")
    if chunk.shape[1] > COLUMNS:
        refuse(~np.isin(chunk[:, COLUMNS:], (0.0, 1.0)), "0 or 1, the label")
    return chunk


def _particles(chunk: Floats) -> ak.Array:
    """Return massless particles as lists per event from rows of (pT, eta, phi) slots: the slots with pT > 0."""
    slots = chunk[:, :COLUMNS].reshape(len(chunk), SLOTS, 3)
    filled = slots[:, :, 0] > 0
    pt, eta, phi = slots[filled].astype(np.float32).T
    flat = ak.zip({"pt": pt, "eta": eta, "phi": phi, "mass": np.zeros_like(pt)})
    return ak.unflatten(flat, filled.sum(axis=1))
