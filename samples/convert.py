"""Convert the LHC Olympics HDF5 format to an event file, in chunks (the public file is 18 GB in memory).

A row is 700 particles of (pT, eta, phi), zero-padded, and in most files a label: 2101 or 2100 columns, stored by pandas
in its fixed or its table layout. PyTables reads slices of both, Blosc compression included.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import awkward as ak
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ..errors import InputError
from .eventfile import event_writer
from .pandasfile import check_conversion, find_rows, open_hdf5

__all__ = ["ConversionReport", "convert_lhco"]

log = logging.getLogger(__name__)

SLOTS = 700
COLUMNS = 3 * SLOTS
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did: events and particles written, signal events by the label (None without a label).

    n_spacelike: particles whose stored energy is below their momentum by more than rounding, written massless; formats
    without an energy have none.
    """

    source: str
    path: str
    key: str
    n_events: int
    n_particles: int
    n_signal: int | None
    n_spacelike: int = 0


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
    check_conversion(source, Path(target), chunk_size)
    with open_hdf5(source, expected="a pandas HDF5 file of the LHC Olympics") as file:
        rows = find_rows(file, source, key)
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
