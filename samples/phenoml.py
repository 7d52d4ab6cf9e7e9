"""Convert whole events between the CSV of phenoML, the format of the DarkMachines challenge, and event files (arXiv:2002.12220, 2105.14027).

A line is an event: `eventID;processID;weight;MET;METphi;obj,E,pt,eta,phi;...`, or as older files have it `weight;MET;METphi;obj,pt,eta,phi;...`.
Energies and momenta are MeV, angles radian; objects are j, b, e-, e+, m-, m+ and g. The event file has single precision, which tells six digits apart, as many as
the format's files have.
"""

from __future__ import annotations

import gzip
import itertools
import logging
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

import awkward as ak
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ..errors import InputError, shown, unknown_name
from ..files import write_aside
from .convert import LARGEST_ETA, LARGEST_PHI, LARGEST_PT, ConversionReport, check_conversion
from .eventfile import ObjectWriter, object_writer
from .phenoml_text import (
    BLANK,
    COLLECTIONS,
    EMPTY,
    EXTREME_ETA,
    EXTREME_PHI,
    GOOD,
    NEGATIVE,
    NO_NUMBER,
    NOT_FINITE,
    SPACELIKE,
    SYMBOLS,
    TOO_FEW,
    TOO_LARGE,
    UNKNOWN,
    WRONG_COUNT,
    Placed,
    Scanned,
    place,
    scan,
    written,
)
from .stored_events import open_objects

__all__ = ["UNITS", "convert_phenoml", "write_phenoml"]

log = logging.getLogger(__name__)

UNITS = ("MeV", "GeV")
LEADING = {3: ("weight", "MET", "phi of MET"), 5: ("event", "process", "weight", "MET", "phi of MET")}
NUMBERS = {3: ("pT", "eta", "phi"), 4: ("E", "pT", "eta", "phi")}
LOOKED_AT = 1000
"""Lines at the beginning of a file that tell its dialect."""
NAMED = 10
"""Malformed lines that the log names; the others are counted."""
ROUNDING = 1e-3
"""How far an energy may lie below pT cosh eta, as a fraction: numbers of four digits are rounded by half of it."""
LEAST_LEADING, MOST_LEADING = 5.0, 5000.0
"""GeV, of the median pT of the leading object: the format keeps events with an object of 25 GeV or more, and protons have 6.5 TeV."""
FEWEST = 10
"""Events with an object that tell the unit."""
BLOCK = 1 << 22
"""Bytes in memory at once; a longer line is no event."""
EVENTS = 20_000
"""Events in memory at once, on the way back."""
READ_ERRORS = (OSError, EOFError, zlib.error)
ENDS = (".csv", ".csv.gz")
ALLOWED = {
    UNKNOWN: ", ".join(SYMBOLS),
    NO_NUMBER: "a finite number",
    NOT_FINITE: "a finite number",
    TOO_LARGE: f"up to {LARGEST_PT:g} GeV",
    EXTREME_ETA: f"-{LARGEST_ETA:g} to {LARGEST_ETA:g}",
    EXTREME_PHI: "radians, -2 pi to 2 pi",
}
"""What is allowed where a line is malformed; `what_is_wrong` says the rest."""


def convert_phenoml(
    source: str | Path,
    target: str | Path,
    *,
    unit: str | None = None,
    truth: int | None = None,
    block_size: int = BLOCK,
    progress: bool = True,
) -> ConversionReport:
    """Write the events of a CSV file, plain or gzipped, as an event file, `Electron_*`, `Muon_*`, `Jet_*`, `Photon_*`, `MET_pt` and `MET_phi`.

    unit: of energies and momenta, MeV or GeV; None for MeV, unless the momenta are too small for it, which is an error. truth: 0 or 1, the
    `truth_signal` of every event; None for a file without. block_size: bytes in memory at once.

    Jets are j and b, the latter with `Jet_btag` 1. Leptons have `charge`. Where objects have an energy they have `mass`, the root of E^2 - p^2, with the sign
    of this: the rounding of E gives what is light a mass of either sign. Objects are sorted by pT; events where they were not are counted
    (`n_unordered`). `event` is the eventID of 5 leading fields where it is a whole number, else the line's number from 1; the weight becomes
    `genWeight`; the process is not kept.

    Which dialect a file has its first 1000 lines say. A line of another one, or that holds what cannot be an event, is malformed: it is left out, counted
    (`n_malformed`), and the first ten are named in the log. Empty lines are none. Raises InputError for a file that cannot be read, has no such line, or
    malformed lines for the most part, and for a unit that the momenta speak against where none was given.
    """
    source = Path(source)
    check_conversion(source, Path(target), 1)
    if block_size < 1:
        raise InputError(f"block_size = {block_size}; allowed: 1 or more")
    if truth not in (None, 0, 1):
        raise InputError(f"truth = {truth}; allowed: 0, 1 or None")
    if unit not in (None, *UNITS):
        raise InputError(unknown_name("unit", str(unit), UNITS, str(source)))
    with opened(source) as file:
        blocks = whole_lines(file, source, block_size)
        begin = next(blocks, b"")
        leading, numbers = dialect_of(begin, source)
        counts: Counter[str] = Counter()
        malformed: list[str] = []
        interval = 0.5 if sys.stderr.isatty() else 30.0
        bar: tqdm[NoReturn] = tqdm(desc="convert phenoml", unit="event", disable=not progress, mininterval=interval)
        writing = object_writer(
            target,
            measured=numbers > 3,
            charged=True,
            photons=True,
            btag=True,
            truth=truth is not None,
            weighted=True,
        )
        with bar, writing as writer:
            first = 1
            for block in itertools.chain([begin], blocks):
                text = np.frombuffer(block, dtype=np.uint8)
                found = scan(text, leading=leading, numbers=numbers, gev=unit == "GeV")
                made = place(
                    found,
                    numbers=numbers,
                    largest=LARGEST_PT,
                    largest_eta=LARGEST_ETA,
                    largest_phi=LARGEST_PHI,
                    rounding=ROUNDING,
                )
                if first == 1:
                    check_unit(made.leading, unit, source)
                good = found.status == GOOD
                bad = np.flatnonzero(~good & (found.status != BLANK))
                malformed += [
                    f"line {first + line}: {what_is_wrong(found, line, block, leading, numbers)}"
                    for line in bad[: NAMED - len(malformed)]
                ]
                write_events(writer, found, made, first=first, truth=truth)
                of_events = made.counts[:, good].sum(axis=0)
                counts["malformed"] += len(bad)
                counts["objects"] += int(of_events.sum())
                counts["empty"] += int((of_events == 0).sum())
                counts["unordered"] += int(made.unordered[good].sum())
                if first == 1 and len(bad) and not good.any():
                    raise InputError(f"{source}: all of its first {len(bad)} lines are malformed; {malformed[0]}")
                first += len(good)
                bar.update(int(good.sum()))
            n_events, n_malformed = writer.n_events, counts["malformed"]
            if n_malformed > n_events:
                raise InputError(
                    f"{source}: {n_malformed} of {n_malformed + n_events} lines are malformed; {malformed[0]}"
                )
    say(source, malformed, counts, n_events)
    log.info("%s: %d events converted to %s", source, n_events, target)
    return ConversionReport(
        str(source),
        str(target),
        f"{leading} leading fields, {numbers} numbers an object",
        n_events,
        counts["objects"],
        None if truth is None else truth * n_events,
        counts["empty"],
        n_malformed=n_malformed,
        n_unordered=counts["unordered"],
    )


def say(source: Path, malformed: list[str], counts: Counter[str], n_events: int) -> None:
    """Log what was left out or changed of a file."""
    n = counts["malformed"]
    if n:
        more = f", ... ({n} in all)" if n > NAMED else ""
        told = "; ".join(malformed)
        log.warning("%s: %d of %d lines are malformed; left out: %s%s", source, n, n + n_events, told, more)
    if counts["empty"]:
        log.warning("%s: %d of %d events hold no object; written without one", source, counts["empty"], n_events)
    if counts["unordered"]:
        log.warning("%s: %d of %d events had objects out of order; sorted by pT", source, counts["unordered"], n_events)


@contextmanager
def opened(source: Path) -> Iterator[IO[bytes]]:
    """Open a file, through gzip where it is one; what reading it raises is an InputError."""
    try:
        with source.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            if not packed:
                yield plain
                return
            with gzip.GzipFile(fileobj=plain) as file:
                yield file  # type: ignore[misc]
    except READ_ERRORS as error:
        if isinstance(error, OSError) and error.filename is not None and Path(error.filename) != source:
            raise  # of the file that is written
        told = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"{source}: cannot be read: {told}") from error


def whole_lines(file: IO[bytes], source: Path, size: int) -> Iterator[bytes]:
    """Yield a file in blocks of whole lines, the last one ended where it is not; raises InputError for a line longer than a block."""
    rest, line = b"", 1
    while block := file.read(size):
        block = rest + block
        end = block.rfind(b"\n") + 1
        if not end and len(block) > size:
            raise InputError(f"{source}: line {line} is longer than {size} bytes; no event of phenoML")
        if end:
            line += block.count(b"\n")
            yield block[:end]
        rest = block[end:]
    if rest:
        yield rest + b"\n"


def dialect_of(block: bytes, source: Path) -> tuple[int, int]:
    """Return how many fields stand before the objects, 3 or 5, and how many numbers an object has, 3 or 4, by most of the first lines.

    Raises InputError where no line is an event.
    """
    leading: Counter[int] = Counter()
    numbers: Counter[int] = Counter()
    for line in block.split(b"\n", LOOKED_AT)[:LOOKED_AT]:
        fields = line.strip().rstrip(b";").split(b";")
        first = next((i for i, field in enumerate(fields) if b"," in field), len(fields))
        if first in LEADING:
            leading[first] += 1
            if first < len(fields) and fields[first].count(b",") in NUMBERS:
                numbers[fields[first].count(b",")] += 1
    if not leading:
        begin = block.split(b"\n", 1)[0][:40].decode("ascii", "backslashreplace")
        raise InputError(
            f"{source}: no event of phenoML in its first lines; event;process;weight;MET;METphi;obj,E,pt,eta,phi;... or "
            f"weight;MET;METphi;obj,pt,eta,phi;... is expected, found {shown(begin)}"
        )
    chosen = leading.most_common(1)[0][0]
    return chosen, numbers.most_common(1)[0][0] if numbers else chosen - 1 if chosen > 3 else 3


def check_unit(leading: npt.NDArray[np.float64], unit: str | None, source: Path) -> None:
    """Refuse momenta that are too small for MeV where no unit was given, and warn where they speak against the one that was.

    leading: (n,) pT of the leading objects in GeV, 0 without any.
    """
    there = leading[leading > 0]
    if len(there) < FEWEST:
        return
    typical = float(np.median(there))
    if LEAST_LEADING <= typical <= MOST_LEADING:
        return
    other = UNITS[1] if typical < LEAST_LEADING else UNITS[0]
    said = (
        f"{source}: the leading object has a pT of {typical:.3g} GeV (median of {len(there)} events) with energies in {unit or UNITS[0]}; "
        f"{LEAST_LEADING:g} to {MOST_LEADING:g} GeV are expected"
    )
    if unit is None and other == UNITS[1]:
        raise InputError(f"{said}: are they GeV? --unit GeV, or --unit MeV to insist")
    if unit is None:
        raise InputError(f"{said}: --unit MeV to insist")
    log.warning("%s; --unit %s was asked for", said, unit)


def what_is_wrong(found: Scanned, line: int, block: bytes, leading: int, numbers: int) -> str:
    """Return where a line is malformed, what stands there and what is allowed."""
    status, part = int(found.status[line]), int(found.part[line])
    token = shown(block[found.start[line] : found.end[line]].decode("ascii", "backslashreplace").strip(), limit=40)
    if status == TOO_FEW:
        return f"has {found.field[line]} fields; allowed: {leading} and then objects"
    if status in (EMPTY, UNKNOWN, WRONG_COUNT, NO_NUMBER):
        place = int(found.field[line]) - leading
        name = (
            LEADING[leading][place - 1] if place <= 0 else "" if part == 0 else NUMBERS[numbers][min(part, numbers) - 1]
        )
    else:
        place = (part - 3) // numbers + 1
        name = LEADING[leading][leading - 3 + part] if place <= 0 else NUMBERS[numbers][(part - 3) % numbers]
    where = name if place <= 0 else f"object {place}, {name or 'symbol'}"
    if status == EMPTY:
        return f"{where}: found nothing; a value is expected"
    if status == WRONG_COUNT:
        return f"object {place}: found {token}; allowed: a symbol and {', '.join(NUMBERS[numbers])}"
    if status == SPACELIKE:
        return f"object {place}, E: found {token}, below pT cosh eta; allowed: no less, but for rounding"
    if status == NEGATIVE:
        return f"{where}: found {token}; allowed: {'above 0' if name == 'pT' else '0 or more'}"
    return f"{where}: found {token}; allowed: {ALLOWED[status]}"


def write_events(writer: ObjectWriter, found: Scanned, made: Placed, *, first: int, truth: int | None) -> None:
    """Append the good lines of a block; first: the number of its first line."""
    good = np.flatnonzero(found.status == GOOD)
    values = found.values[found.first[good, None] + np.arange(3)] if len(good) else np.empty((0, 3))
    objects: dict[str, ak.Array] = {}
    for i, name in enumerate(COLLECTIONS):
        counts = made.counts[i, good]
        n = int(counts.sum())
        flat: dict[str, npt.NDArray[Any]] = {
            field: made.kinematics[i, k, :n] for k, field in enumerate(("pt", "eta", "phi", "mass"))
        }
        if name == "Jet":
            flat["btag"] = made.tags[i, :n].astype(np.uint8)
        elif name != "Photon":
            flat["charge"] = made.tags[i, :n]
        objects[name] = ak.unflatten(ak.zip(flat), counts)
    record = ak.zip({**objects, "MET_pt": values[:, 1], "MET_phi": values[:, 2]}, depth_limit=1)
    event = np.where(found.numbered[good], found.event[good], (first + good).astype(np.uint64))
    writer.write(record, truth_signal=truth, weights=values[:, 0], event=event)


def write_phenoml(
    source: str | Path,
    target: str | Path,
    *,
    numbers: int | None = None,
    process: str = "events",
    progress: bool = True,
) -> ConversionReport:
    """Write an event file of objects as CSV in MeV, gzipped where the name ends in .gz.

    numbers: of an object; 4, E, pT, eta, phi with 5 leading fields, as the challenge has it, or 3, without E and with 3 leading fields. None for 4 where all
    objects have a mass, else 3. process: what stands as the process of every event. Objects come as jets, electrons, muons and photons, each by falling pT.
    A jet is b where `Jet_btag` is above 0.5; a file without it has no b, one without `Photon_*` no photons. Numbers have the fewest digits that single precision tells them
    by. Raises InputError for a file without charges, which tell e- from e+, without masses where 4 numbers were asked for, and for an event with an object that is not finite, or of negative pT.
    """
    source, target = Path(source), Path(target)
    check_conversion(source, target, EVENTS)
    if not target.name.endswith(ENDS):
        raise InputError(f"{target}: a name that ends in {' or '.join(ENDS)} is expected")
    if not re.fullmatch(r"[^;,\s][^;,\r\n]{0,199}", process) or not process.isprintable():
        raise InputError(f"process {shown(process)}: a name without ; and , is expected")
    with open_objects(source) as file:
        own = numbers or (4 if file.massive else 3)
        if own not in NUMBERS:
            raise InputError(f"numbers = {numbers}; allowed: 3, 4 or None")
        file.require_charges()
        if own > 3 and not file.massive:
            raise InputError(f"{source}: its objects have no mass, and so no energy; 3 numbers an object are possible")
        n_particles = n_empty = 0
        interval = 0.5 if sys.stderr.isatty() else 30.0
        bar: tqdm[NoReturn] = tqdm(
            total=file.n_events, desc="write phenoml", unit="event", disable=not progress, mininterval=interval
        )
        with bar, write_aside(target) as aside, packed_or_plain(aside) as out:
            for chunk in file.chunks(EVENTS):
                out.write(
                    written(
                        chunk.event, process, chunk.scalars, chunk.counts, chunk.kinematics, chunk.tags, numbers=own
                    )
                )
                of_events = chunk.counts.sum(axis=0)
                n_particles += int(of_events.sum())
                n_empty += int((of_events == 0).sum())
                bar.update(len(of_events))
        n_events, n_signal = file.n_events, file.n_signal
    log.info("%s: %d events written to %s", source, n_events, target)
    told = f"{5 if own > 3 else 3} leading fields, {own} numbers an object"
    return ConversionReport(str(source), str(target), told, n_events, n_particles, n_signal, n_empty)


@contextmanager
def packed_or_plain(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to write, through gzip where its name ends in .gz; the same events give the same bytes."""
    with path.open("wb") as plain:
        if path.suffix != ".gz":
            yield plain
            return
        with gzip.GzipFile(filename="", mode="wb", fileobj=plain, compresslevel=6, mtime=0) as file:
            yield file  # type: ignore[misc]
