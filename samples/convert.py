"""Convert the LHC Olympics HDF5 format to an event file, in chunks (the public file is 18 GB in memory).

A row is 700 particles of (pT, eta, phi), zero-padded, and in most files a label: 2101 or 2100 columns, stored by pandas
in its fixed or its table layout, Blosc compression included.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import awkward as ak
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ..errors import InputError
from ..hdf5 import StoredTable, open_hdf5
from .eventfile import event_writer

__all__ = ["ConversionReport", "check_conversion", "convert_lhco", "rows_of"]

log = logging.getLogger(__name__)

SLOTS = 700
COLUMNS = 3 * SLOTS
LARGEST_PT = 1e6
"""GeV; some seventy times what a collider gives."""
LARGEST_ETA = 20.0
"""At 1 GeV of pT an energy of 2e8 GeV."""
LARGEST_PHI = 2 * np.pi + 1e-6
"""Angles from -pi to pi or from 0 to 2 pi in single precision; degrees lie above."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did: events and particles written, signal events by the label (None without a label).

    n_empty: of the events, those whose row holds no particle; they are written, so that events count as rows do.
    n_spacelike: particles whose stored energy is below their momentum by more than rounding, written massless; formats
    without an energy have none. n_malformed: events that are no jet, named in the log and left out; formats of which each
    must be one have none. n_unordered: events whose objects were out of order, and are sorted.
    """

    source: str
    path: str
    key: str
    n_events: int
    n_particles: int
    n_signal: int | None
    n_empty: int = 0
    n_spacelike: int = 0
    n_malformed: int = 0
    n_unordered: int = 0


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
    becomes `truth_signal`. Rows without a particle are written as events without one, counted (`n_empty`) and logged.
    The format stores no charge and no type, so the event file has neither. key: the pandas key, needed where the file
    holds several. chunk_size: rows in memory at once. Raises InputError that names file, key and row for a file that
    is not HDF5, is damaged, has other columns, or holds what cannot be a particle.
    """
    source = Path(source)
    check_conversion(source, Path(target), chunk_size)
    with rows_of(source, key, expected="a pandas HDF5 file of the LHC Olympics") as rows:
        n_rows, n_columns = rows.n_rows, len(rows.labels)
        if n_columns not in (COLUMNS, COLUMNS + 1):
            raise InputError(
                f"{rows.where} has {n_columns} columns; allowed: {COLUMNS} "
                f"({SLOTS} particles of pT, eta, phi) or {COLUMNS + 1} with a label"
            )
        labelled = n_columns > COLUMNS
        n_particles = n_signal = n_empty = 0
        interval = 0.5 if sys.stderr.isatty() else 30.0
        bar: tqdm[NoReturn] = tqdm(
            total=n_rows, desc="convert lhco", unit="event", disable=not progress, mininterval=interval
        )
        with bar, event_writer(target, charged=False, truth=labelled, weighted=False) as writer:
            for start in range(0, n_rows, chunk_size):
                chunk = _checked(rows.matrix(start, min(start + chunk_size, n_rows)), start, rows.where)
                label = chunk[:, COLUMNS].astype(np.uint8) if labelled else None
                particles = _particles(chunk)
                writer.write(particles, truth_signal=label)
                n_particles += int(ak.count(particles.pt))
                n_empty += int(ak.sum(ak.num(particles.pt) == 0))
                n_signal += int(label.sum()) if label is not None else 0
                bar.update(len(chunk))
    if n_empty:
        log.warning("%s: %d of %d rows hold no particle; written as events without one", source, n_empty, n_rows)
    log.info("%s: %d events converted to %s", source, n_rows, target)
    signal = n_signal if labelled else None
    return ConversionReport(str(source), str(target), str(rows.key), n_rows, n_particles, signal, n_empty)


def check_conversion(source: Path, target: Path, chunk_size: int) -> None:
    """Refuse blocks of no rows, and an event file that would replace the file it is made from."""
    if chunk_size < 1:
        raise InputError(f"chunk_size = {chunk_size}; allowed: 1 or more")
    if target.resolve() == source.resolve():
        raise InputError(f"{target}: is the file to convert; give the event file another name")


@contextmanager
def rows_of(source: Path, key: str | None, *, expected: str) -> Iterator[StoredTable]:
    """Open the pandas frame under `key`, or the only one, of numbers alone and at least one row; raises InputError."""
    with open_hdf5(source, key=key, frames_only=True, expected=expected) as rows:
        rows.check_numbers()
        if not rows.n_rows:
            raise InputError(f"{rows.where} holds no rows; nothing to convert")
        yield rows


def _checked(chunk: Floats, start: int, source: str) -> Floats:
    """Return the chunk if every number in it can be one of a particle or a label."""

    def refuse(bad: npt.NDArray[np.bool_], allowed: str) -> None:
        if bad.any():
            row, column = np.argwhere(bad)[0]
            found = chunk[row, column if bad.shape[1] > 1 else COLUMNS]
            where = f"row {start + row}, column {column if bad.shape[1] > 1 else COLUMNS}"
            raise InputError(f"{source}, {where}: found {found:g}; allowed: {allowed}")

    refuse(~np.isfinite(chunk), "finite numbers")
    bad = np.zeros(chunk.shape, dtype=bool)
    bad[:, :COLUMNS:3] = chunk[:, :COLUMNS:3] < 0
    refuse(bad, "pT of 0 or more")
    bad[:, :COLUMNS:3] = chunk[:, :COLUMNS:3] > LARGEST_PT
    refuse(bad, f"pT up to {LARGEST_PT:g} GeV")
    bad[:, :COLUMNS:3] = False
    filled = chunk[:, :COLUMNS:3] > 0
    bad[:, 1:COLUMNS:3] = filled & (np.abs(chunk[:, 1:COLUMNS:3]) > LARGEST_ETA)
    refuse(bad, f"eta from -{LARGEST_ETA:g} to {LARGEST_ETA:g}")
    bad[:, 1:COLUMNS:3] = False
    bad[:, 2:COLUMNS:3] = filled & (np.abs(chunk[:, 2:COLUMNS:3]) > LARGEST_PHI)
    refuse(bad, "phi in radians, from -2 pi to 2 pi")
    if chunk.shape[1] > COLUMNS:
        refuse(~np.isin(chunk[:, COLUMNS:], (0.0, 1.0)), "0 or 1, the label")
    return chunk


def _particles(chunk: Floats) -> ak.Array:
    """Return massless particles as lists per event from rows of (pT, eta, phi) slots: the slots with pT > 0."""
    slots = chunk[:, :COLUMNS].reshape(len(chunk), SLOTS, 3)
    filled = slots[:, :, 0].astype(np.float32) > 0  # a pT that single precision cannot tell from 0 is none
    pt, eta, phi = slots[filled].astype(np.float32).T
    flat = ak.zip({"pt": pt, "eta": eta, "phi": phi, "mass": np.zeros_like(pt)})
    return ak.unflatten(flat, filled.sum(axis=1))
