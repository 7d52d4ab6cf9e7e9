"""Convert the test sets of arXiv:2007.01850 (Zenodo 3901833, 4614656, 4641460) to event files of one jet an event.

`objects/jets/constituents` holds a list of numbers for each event and jet, (events, jets), the leading jet first: E, px, py, pz of each
constituent (GeV), one constituent after the other, by falling pT. `objects/jets/obs` holds pt, eta, phi, m and tau1 to tau5 of the jets,
which follow from the constituents and are not read. A file is one process, without a label.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ..errors import InputError
from ..hdf5 import open_lists
from .convert import LARGEST_ETA, LARGEST_PT, ConversionReport, check_conversion
from .eventfile import event_writer
from .toptag import particles_of

__all__ = ["convert_vaejet"]

log = logging.getLogger(__name__)

CONSTITUENTS, OBS = "objects/jets/constituents", "objects/jets/obs"
NAMES = ("E", "px", "py", "pz")
NAMED = 10
"""Malformed events that the log names; the others are counted."""
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def convert_vaejet(
    source: str | Path,
    target: str | Path,
    *,
    jet: int = 1,
    numbers: int = 4,
    truth: int | None = None,
    chunk_size: int = 5000,
    progress: bool = True,
) -> ConversionReport:
    """Write one jet of each event of a file in this layout as an event file.

    jet: its rank, 1 for the leading one. numbers: how many a constituent has, E, px, py, pz first; further ones are left out. truth: 0
    or 1, the `truth_signal` of every jet; None for a file without. chunk_size: events in memory at once.

    `event` is the row number from 0, `run` and `luminosityBlock` are 1, constituents of zeros are dropped. A mass is as for the
    top-tagging data (`convert_toptag`). Events without this jet are written as events without a particle (`n_empty`). A jet whose list has
    no whole number of constituents, or holds what cannot be a particle, is malformed: it is left out, counted (`n_malformed`) and
    named in the log. Raises InputError for a file that is not HDF5, is damaged, lacks the dataset or the jet, or holds malformed jets
    for the most part.
    """
    source = Path(source)
    check_conversion(source, Path(target), chunk_size)
    for name, value, allowed in (("jet", jet, range(1, 100)), ("numbers", numbers, range(4, 100))):
        if value not in allowed:
            raise InputError(f"{name} = {value}; allowed: {allowed[0]} to {allowed[-1]}")
    if truth not in (None, 0, 1):
        raise InputError(f"truth = {truth}; allowed: 0, 1 or None")
    malformed: list[str] = []
    n_particles = n_empty = n_spacelike = 0
    fives = True
    expected = f"an HDF5 file with {CONSTITUENTS}"
    with open_lists(source, CONSTITUENTS, column=jet - 1, beside=OBS, expected=expected) as stored:
        if not stored.n_rows:
            raise InputError(f"{stored.where} holds no events; nothing to convert")
        interval = 0.5 if sys.stderr.isatty() else 30.0
        bar: tqdm[NoReturn] = tqdm(
            total=stored.n_rows, desc="convert vaejet", unit="jet", disable=not progress, mininterval=interval
        )
        with bar, event_writer(target, charged=False, truth=truth is not None, weighted=False) as writer:
            for start, lengths, values in stored.slices(chunk_size):
                momenta, counts, bad = _jets(lengths, values, numbers)
                particles, spacelike = particles_of(momenta, counts)
                good = np.array([row not in bad for row in range(len(lengths))], dtype=bool)
                writer.write(particles, truth_signal=truth, event=start + np.flatnonzero(good))
                malformed += [f"event {start + row}: {why}" for row, why in bad.items()]
                n_particles += len(momenta)
                n_empty += int(np.sum(counts == 0))
                n_spacelike += spacelike
                fives = fives and not np.any(lengths % 5)
                bar.update(len(lengths))
            if 2 * len(malformed) > stored.n_rows - n_empty or 2 * n_spacelike > max(n_particles, 1):
                raise InputError(_foreign(stored.where, malformed, n_spacelike, fives=fives and numbers != 5))
            n_events = writer.n_events
    if malformed:
        more = f", ... ({len(malformed)} in all)" if len(malformed) > NAMED else ""
        log.warning(
            "%s: jet %d of %d of %d events is malformed; left out: %s%s",
            source,
            jet,
            len(malformed),
            len(malformed) + n_events,
            "; ".join(malformed[:NAMED]),
            more,
        )
    if n_spacelike:
        log.warning("%s: %d particles have E < |p| by more than rounding; written massless", source, n_spacelike)
    if n_empty:
        log.warning(
            "%s: %d of %d events have no jet %d; written as events without a particle", source, n_empty, n_events, jet
        )
    log.info("%s: %d jets converted to %s", source, n_events, target)
    signal = None if truth is None else truth * n_events
    return ConversionReport(
        str(source), str(target), CONSTITUENTS, n_events, n_particles, signal, n_empty, n_spacelike, len(malformed)
    )


def _jets(lengths: Ints, values: Floats, numbers: int) -> tuple[Floats, Ints, dict[int, str]]:
    """Sort lists into jets: E, px, py, pz of the good ones' constituents (n, 4), how many each has, and what is wrong with the others.

    The last by the number of the row. lengths: (rows,); values: all lists' numbers, one after the other.
    """
    ends = np.cumsum(lengths)
    bad = {int(row): f"{lengths[row]} numbers, no multiple of {numbers}" for row in np.flatnonzero(lengths % numbers)}
    whole = np.repeat(lengths % numbers == 0, lengths)
    kept = np.where(lengths % numbers == 0, lengths // numbers, 0)
    momenta = values[whole].reshape(-1, numbers)[:, :4]
    row = np.repeat(np.arange(len(lengths)), kept)
    place = np.arange(len(row)) - np.repeat(np.cumsum(kept) - kept, kept)
    filled = momenta.any(axis=1)
    for odd, what, allowed in (
        (~np.isfinite(momenta), None, "finite numbers"),
        (filled & (momenta[:, 0] <= 0), "E", "E above 0, or zeros alone"),
        (filled & (np.abs(momenta) > LARGEST_PT).any(axis=1), "E", f"up to {LARGEST_PT:g} GeV"),
        (filled & _along_the_beam(momenta), "pz", f"|eta| up to {LARGEST_ETA:g}"),
    ):
        for where in np.argwhere(odd):
            column = int(where[1]) if what is None else NAMES.index(what)
            name, found = NAMES[column], momenta[where[0], column]
            text = f"constituent {place[where[0]]}, {name}: found {found:g}; allowed: {allowed}"
            bad.setdefault(int(row[where[0]]), text)
    good = np.ones(len(ends), dtype=bool)
    good[list(bad)] = False
    picked = filled & good[row]
    counts = np.bincount(row[picked], minlength=len(lengths))
    return momenta[picked], counts[good], dict(sorted(bad.items()))


def _along_the_beam(momenta: Floats) -> npt.NDArray[np.bool_]:
    """Tell which particles (n, 4) have no transverse momentum to speak of."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(np.hypot(momenta[:, 1], momenta[:, 2]) * np.sinh(LARGEST_ETA) <= np.abs(momenta[:, 3]))


def _foreign(where: str, malformed: list[str], spacelike: int, *, fives: bool) -> str:
    """Return what is said of a file of which most is no jet."""
    if malformed:
        said = f"{len(malformed)} of its jets are malformed; {malformed[0]}"
    else:
        said = f"{spacelike} constituents, most of them, have E < |p|: E, px, py, pz are expected in this order"
    return f"{where}: {said}" + ("; 5 numbers a constituent fit all of them (--numbers 5)" if fives else "")
