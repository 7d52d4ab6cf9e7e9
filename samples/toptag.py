"""Convert the top-tagging reference data (arXiv:1902.09914, Zenodo 2603256) to event files of one jet an event.

A row is one jet: 200 constituents of E, PX, PY, PZ, interleaved (`E_0, PX_0, PY_0, PZ_0, E_1, ...`) and zero-padded,
the generated top (`truthE`, ...), `ttv` (0 train, 1 test, 2 validation) and `is_signal_new` (1: top, 0: QCD). The jets
are anti-kT of R = 0.8 with 550 < pT < 650 GeV, from a simulation at 14 TeV.
"""

from __future__ import annotations

import difflib
import logging
import sys
from pathlib import Path
from typing import NoReturn

import awkward as ak
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ..errors import InputError, unknown_name
from ..hdf5 import StoredTable
from .convert import ConversionReport, check_conversion, rows_of
from .eventfile import event_writer

__all__ = ["convert_toptag", "particles_of"]

log = logging.getLogger(__name__)

SLOTS = 200
NAMES = [f"{component}_{slot}" for slot in range(SLOTS) for component in ("E", "PX", "PY", "PZ")]
LABEL = "is_signal_new"
ROUNDING = 2 * float(np.finfo(np.float32).eps)
"""|m^2| / E^2 that float32 components cannot tell from 0: E^2 and p^2 are each off by up to eps, 1.2e-7, of themselves."""
Floats = npt.NDArray[np.float64]


def convert_toptag(
    source: str | Path,
    target: str | Path,
    *,
    chunk_size: int = 5000,
    key: str | None = None,
    progress: bool = True,
) -> ConversionReport:
    """Write the jets of a file in the top-tagging reference layout as an event file, one jet an event.

    `event` is the row number from 0, `run` and `luminosityBlock` are 1, slots of zeros are dropped, `is_signal_new`
    becomes `truth_signal`; `ttv`, the generated top and further columns are left out. Columns are found by name, in
    any order. m^2 within float32 rounding of 0 is a mass of 0, and so is one further below, which is counted
    (`n_spacelike`) and logged; so are rows without a particle (`n_empty`), which are written as events without one. The format stores no charge and no type, so the event file has neither. key: the pandas
    key, needed where the file holds several. chunk_size: rows in memory at once. Raises InputError that names file,
    key, row and column for a file that is not HDF5, lacks a column, or holds what cannot be a particle or a label.
    """
    source = Path(source)
    check_conversion(source, Path(target), chunk_size)
    with rows_of(source, key, expected="a pandas HDF5 file of the top-tagging reference data") as rows:
        n_rows, columns = rows.n_rows, _positions(rows)
        n_particles = n_signal = n_empty = n_spacelike = 0
        bar: tqdm[NoReturn] = tqdm(
            total=n_rows,
            desc="convert toptag",
            unit="jet",
            disable=not progress,
            mininterval=0.5 if sys.stderr.isatty() else 30.0,
        )
        with bar, event_writer(target, charged=False, truth=True, weighted=False) as writer:
            for start in range(0, n_rows, chunk_size):
                chunk = rows.matrix(start, min(start + chunk_size, n_rows))[:, columns]
                _check(chunk, start, rows.where)
                label = chunk[:, -1].astype(np.uint8)
                slots = chunk[:, :-1].reshape(len(chunk), SLOTS, 4)
                filled = slots.any(axis=2)
                particles, spacelike = particles_of(slots[filled], filled.sum(axis=1))
                writer.write(particles, truth_signal=label)
                n_particles += int(ak.count(particles.pt))
                n_signal += int(label.sum())
                n_empty += int(ak.sum(ak.num(particles.pt) == 0))
                n_spacelike += spacelike
                bar.update(len(chunk))
    if n_spacelike:
        log.warning("%s: %d particles have E < |p| by more than rounding; written massless", source, n_spacelike)
    if n_empty:
        log.warning("%s: %d of %d rows hold no particle; written as events without one", source, n_empty, n_rows)
    log.info("%s: %d jets converted to %s", source, n_rows, target)
    return ConversionReport(
        str(source), str(target), str(rows.key), n_rows, n_particles, n_signal, n_empty, n_spacelike
    )


def _positions(rows: StoredTable) -> list[int]:
    """Return where the constituents' columns and then the label stand; raises InputError for one that is missing."""
    position = {column: i for i, column in enumerate(rows.columns)}
    for name in (*NAMES, LABEL):
        if name not in position:
            # what was meant is a column that nothing else is, and looks like it
            left = [column for column in position if column not in {*NAMES, LABEL}]
            if difflib.get_close_matches(name.lower(), [column.lower() for column in left], n=1, cutoff=0.7):
                raise InputError(unknown_name("column", name, left, rows.where))
            raise InputError(
                f"{rows.where}: no column {name!r} among its {len(position)}; expected: E_0, PX_0, PY_0, PZ_0 to "
                f"PZ_{SLOTS - 1}, and {LABEL}"
            )
    return [position[name] for name in (*NAMES, LABEL)]


def _check(chunk: Floats, start: int, where: str) -> None:
    """Raise InputError for the first number that no particle and no label can have; chunk: (n, 801), label last."""

    def refuse(bad: npt.NDArray[np.bool_], allowed: str) -> None:
        if bad.any():
            row, column = np.argwhere(bad)[0]
            name, found = (*NAMES, LABEL)[column], chunk[row, column]
            raise InputError(f"{where}, row {start + row}, column {name!r}: found {found:g}; allowed: {allowed}")

    refuse(~np.isfinite(chunk), "finite numbers")
    slots = chunk[:, :-1].reshape(len(chunk), SLOTS, 4)
    filled = slots.any(axis=2)
    bad = np.zeros(chunk.shape, dtype=bool)
    bad[:, :-1:4] = filled & (slots[:, :, 0] <= 0)
    refuse(bad, "E above 0, or a slot of zeros")
    bad[:, :-1:4] = False
    bad[:, 1:-1:4] = filled & (slots[:, :, 1] == 0) & (slots[:, :, 2] == 0)
    refuse(bad, "PX or PY other than 0: a particle along the beam has no eta")
    bad[:] = False
    bad[:, -1] = ~np.isin(chunk[:, -1], (0.0, 1.0))
    refuse(bad, "0 or 1, the label")


def particles_of(momenta: Floats, counts: npt.NDArray[np.int64]) -> tuple[ak.Array, int]:
    """Return particles as lists per jet, and how many have E < |p| by more than float32 rounds; those are massless.

    momenta: (n, 4) of E, px, py, pz (GeV), none along the beam; counts: how many of them each jet has.
    """
    e, px, py, pz = momenta.T
    pt = np.hypot(px, py)
    square = e**2 - pt**2 - pz**2
    spacelike = int(np.sum(square < -ROUNDING * e**2))
    mass = np.sqrt(np.where(square > ROUNDING * e**2, square, 0.0))
    columns = {"pt": pt, "eta": np.arcsinh(pz / pt), "phi": np.arctan2(py, px), "mass": mass}
    flat = ak.zip({name: values.astype(np.float32) for name, values in columns.items()})
    return ak.unflatten(flat, counts), spacelike
