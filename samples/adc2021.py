"""Convert the data of arXiv:2107.02157 (Zenodo 5046389 and others; the ADC2021 challenge) to event files of objects.

`Particles` is (events, 19, 4): missing transverse momentum, 4 electrons, 4 muons and 10 jets, each pT (GeV), eta, phi and its class, 1 to 4
in this order; empty slots are zeros. `Particles_Names` and `Particles_Classes` name the columns and the classes, and `EvtId` of the black box
numbers events; these are not read. A file is one process, without a label.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import NoReturn

import awkward as ak
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ..errors import InputError
from ..hdf5 import open_array
from .convert import LARGEST_ETA, LARGEST_PHI, LARGEST_PT, ConversionReport, check_conversion
from .eventfile import object_writer

__all__ = ["convert_adc2021"]

log = logging.getLogger(__name__)

PARTICLES = "Particles"
SHAPE = (19, 4)
COLUMNS = ("pT", "eta", "phi", "class")
MET = 1
CLASSES = {"Electron": 2, "Muon": 3, "Jet": 4}
NAMED = 10
"""Malformed rows that the log names; the others are counted."""
Floats = npt.NDArray[np.float64]


def convert_adc2021(
    source: str | Path,
    target: str | Path,
    *,
    truth: int | None = None,
    chunk_size: int = 20_000,
    progress: bool = True,
) -> ConversionReport:
    """Write the events of a file in this layout as an event file, `Electron_*`, `Muon_*`, `Jet_*`, `MET_pt` and `MET_phi`.

    The class says what a slot holds, whichever slot it is; one of pT 0 is empty. truth: 0 or 1, the `truth_signal` of every event;
    None for a file without. chunk_size: rows in memory at once.

    `event` is the row number from 0, `run` and `luminosityBlock` are 1. Rows without an object other than missing momentum are written
    and counted (`n_empty`). A row that holds what cannot be an object, or two missing momenta, is malformed: it is left out, counted
    (`n_malformed`) and named in the log. Raises InputError for a file that is not HDF5, is damaged, lacks the dataset, or holds
    malformed rows for the most part.
    """
    source = Path(source)
    check_conversion(source, Path(target), chunk_size)
    if truth not in (None, 0, 1):
        raise InputError(f"truth = {truth}; allowed: 0, 1 or None")
    malformed: list[str] = []
    n_objects = n_empty = n_malformed = 0
    expected = f"an HDF5 file with {PARTICLES}, (events, 19, 4)"
    with open_array(source, PARTICLES, shape=SHAPE, expected=expected) as stored:
        if not stored.n_rows:
            raise InputError(f"{stored.where} holds no events; nothing to convert")
        interval = 0.5 if sys.stderr.isatty() else 30.0
        bar: tqdm[NoReturn] = tqdm(
            total=stored.n_rows, desc="convert adc2021", unit="event", disable=not progress, mininterval=interval
        )
        with bar, object_writer(target, measured=False, truth=truth is not None) as writer:
            for start, rows in stored.slices(chunk_size):
                bad = wrong_rows(rows)
                good = np.ones(len(rows), dtype=bool)
                good[list(bad)] = False
                objects = objects_of(rows[good])
                writer.write(objects, truth_signal=truth, event=start + np.flatnonzero(good))
                named = (f"row {start + row}: {why}" for row, why in bad.items())
                malformed += [text for text, _ in zip(named, range(NAMED - len(malformed)), strict=False)]
                n_malformed += len(bad)
                counts = sum(ak.to_numpy(ak.num(objects[name].pt)) for name in CLASSES)
                n_objects += int(np.sum(counts))
                n_empty += int(np.sum(counts == 0))
                bar.update(len(rows))
            if 2 * n_malformed > stored.n_rows:
                raise InputError(f"{stored.where}: {n_malformed} of {stored.n_rows} rows are malformed; {malformed[0]}")
            n_events = writer.n_events
    if n_malformed:
        more = f", ... ({n_malformed} in all)" if n_malformed > NAMED else ""
        told = "; ".join(malformed)
        log.warning(
            "%s: %d of %d rows are malformed; left out: %s%s", source, n_malformed, n_malformed + n_events, told, more
        )
    if n_empty:
        log.warning("%s: %d of %d events hold no electron, muon or jet; written without one", source, n_empty, n_events)
    log.info("%s: %d events converted to %s", source, n_events, target)
    signal = None if truth is None else truth * n_events
    return ConversionReport(
        str(source), str(target), PARTICLES, n_events, n_objects, signal, n_empty, n_malformed=n_malformed
    )


def wrong_rows(rows: Floats) -> dict[int, str]:
    """Return what is wrong with rows (n, 19, 4), by the number of the row; of each the first that is found."""
    pt, eta, phi, kind = (rows[:, :, i] for i in range(4))
    filled = pt != 0
    codes = (MET, *CLASSES.values())
    found: dict[int, str] = {}
    for bad, column, allowed in (
        (~np.isfinite(rows).all(axis=2), None, "finite numbers"),
        (pt < 0, 0, "0 or more"),
        (pt > LARGEST_PT, 0, f"up to {LARGEST_PT:g} GeV"),
        (filled & ~np.isin(kind, codes), 3, "1 (MET), 2 (electron), 3 (muon), 4 (jet)"),
        (filled & (kind != MET) & (np.abs(eta) > LARGEST_ETA), 1, f"-{LARGEST_ETA:g} to {LARGEST_ETA:g}"),
        (filled & (np.abs(phi) > LARGEST_PHI), 2, "radians, -2 pi to 2 pi"),
    ):
        for row, slot in np.argwhere(bad):
            at = int(np.argmin(np.isfinite(rows[row, slot]))) if column is None else column
            text = f"slot {slot}, {COLUMNS[at]}: found {rows[row, slot, at]:g}; allowed: {allowed}"
            found.setdefault(int(row), text)
    for row in np.flatnonzero((filled & (kind == MET)).sum(axis=1) > 1):
        found.setdefault(int(row), "more than one missing transverse momentum (class 1)")
    return dict(sorted(found.items()))


def objects_of(rows: Floats) -> ak.Array:
    """Return the objects of good rows (n, 19, 4) as the writer takes them, each class by falling pT; no missing momentum is one of 0."""
    pt, phi, kind = rows[:, :, 0], rows[:, :, 2], rows[:, :, 3]
    single = pt.astype(np.float32) > 0  # a pT that single precision cannot tell from 0 is none
    found = {}
    for name, code in CLASSES.items():
        order = np.argsort(np.where(single & (kind == code), -pt, np.inf), axis=1, kind="stable")
        sorted_rows = np.take_along_axis(rows, order[:, :, None], axis=1)
        counts = (single & (kind == code)).sum(axis=1)
        own = sorted_rows[np.arange(SHAPE[0]) < counts[:, None]].astype(np.float32)
        flat = ak.zip({field: own[:, i] for i, field in enumerate(("pt", "eta", "phi"))})
        found[name] = ak.unflatten(flat, counts)
    met = (kind == MET) & (pt > 0)
    found |= {"MET_pt": np.where(met, pt, 0).sum(axis=1), "MET_phi": np.where(met, phi, 0).sum(axis=1)}
    return ak.zip(found, depth_limit=1)
