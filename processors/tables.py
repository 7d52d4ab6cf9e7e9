"""From events to tables: the coffea processor of a representation, and its run over files into a folder of parts."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coffea.processor import ProcessorABC

from ..documents import parse_json
from ..errors import InputError
from ..files import write_folder_aside
from ..pieces import NONE_KEPT, Pieces
from ..table import (
    IDENTITY,
    PARTS_RECORD,
    Table,
    is_table_folder,
    read_table,
    write_part,
    write_parts_record,
)
from .chunks import ROW, Representation, UnreadableError, metadata_of
from .eventfiles import EventFile
from .events import branch_names
from .features import Features
from .repeats import COMES_AGAIN, Repeats, settle_repeats
from .runner import FilesetLike, Processed, Running, Skipped, as_fileset, open_files, process_files
from .weights import note_on, total, weights_of

__all__ = ["TableProcessor", "TableResult", "jets_and_features", "run_table"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableResult:
    """What became of event files: the cutflow ("read" is the sum of the rest), the skipped files, and the table.

    path: the folder of parts, None where none was asked for; rows: of the table.
    """

    cutflow: dict[str, int]
    skipped: Skipped
    path: Path | None
    rows: int
    _table: Table | None = field(default=None, repr=False)

    @property
    def table(self) -> Table:
        """The table in file and entry order; read anew each time where it lies at `path`."""
        if self._table is not None:
            return self._table
        return read_table(str(self.path))

    def __repr__(self) -> str:
        where = f" at {self.path}" if self.path else ""
        return (
            f"TableResult({self.rows:,} of {self.cutflow['read']:,} events{where}, {len(self.skipped)} files skipped)"
        )


class TableProcessor(ProcessorABC):  # type: ignore[misc]
    """Turn chunks of events into parts of a table; keeps no state between chunks.

    folder: where each chunk's part is written by the worker, which then hands on its name alone; None: the columns
    themselves are handed on. The accumulator has one entry a file under "files", keyed by (dataset, file name): its
    "cutflow", its number of "rows", what `Representation.noted` counted under "noted", `weights_of` under "weights", and under "parts" the name of the part, or
    its columns, by the first entry of the chunk; and under "failed" the reason, by (dataset, file name, first entry),
    where the chunk's bytes could not be read.
    """

    def __init__(
        self, representation: Representation, folder: str | Path | None = None, pieces: Pieces = NONE_KEPT
    ) -> None:
        self.representation = representation
        self.folder = None if folder is None else Path(folder)
        self.pieces = pieces

    def process(self, events: Any) -> dict[str, Any]:
        """Process one chunk of events of any of coffea's schemas, or of none."""
        meta = metadata_of(events)
        where, start = (meta["dataset"], meta["filename"]), int(meta["entrystart"])
        try:
            columns, cutflow = self.representation.columns(events)
        except UnreadableError as error:
            return {"files": {}, "failed": {(*where, start): str(error)}}
        del columns[ROW]
        made = {"cutflow": cutflow, "rows": cutflow["kept"], "noted": self.representation.noted(columns)}
        if "genWeight" in columns:
            made["weights"] = weights_of(columns["genWeight"])
        if self.folder is None:
            return {"files": {where: {**made, "parts": {start: columns}}}, "failed": {}}
        name = _part_name(meta.get("number"), where, start)
        write_part(self.folder, name, Table(columns))
        told = {"where": where, "made": {**made, "parts": {start: name}}}
        self.pieces.save(
            self.piece(name, meta.get("entrystop")), told=json.dumps(told, default=sorted), sum=self.sum_of(name)
        )
        return {"files": {where: {**made, "parts": {start: name}}}, "failed": {}}

    def piece(self, part: str, stop: object) -> str:
        """Return the name under which a chunk is kept: that of its part, and its last entry."""
        return f"{part}-{stop}"

    def sum_of(self, part: str) -> str:
        """Return the hash of a part's file, "" where there is none."""
        assert self.folder is not None
        path = self.folder / f"{part}.parquet"
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""

    def finished(self, number: int, where: tuple[str, str], start: int, stop: int) -> dict[str, Any] | None:
        """Return what a run that was killed has made of a chunk, None where it did not come to it or its part is no longer as it was."""
        name = _part_name(number, where, start)
        found = self.pieces.load(self.piece(name, stop))
        if found is None or not str(found["sum"]) or str(found["sum"]) != self.sum_of(name):
            return None
        told = parse_json(str(found["told"]), "a kept chunk")
        if tuple(told["where"]) != where:
            return None
        made = told["made"]
        parts = {int(first): part for first, part in made["parts"].items()}
        if "weights" in made:
            made["weights"]["extremes"] = set(made["weights"]["extremes"])
        return {"files": {where: {**made, "parts": parts}}, "failed": {}}

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Return the accumulator as it is; ordering is the caller's, who knows the files."""
        return accumulator


def _part_name(number: int | None, where: tuple[str, str], start: int) -> str:
    """Return a name by which parts sort in the order of files and entries; without a number, of one file together."""
    if number is None:
        first = hashlib.blake2b("\0".join(where).encode(), digest_size=6).hexdigest()
    else:
        first = f"{number:06d}"
    return f"{first}-{start:012d}"


def jets_and_features(events: Any, representation: Representation | None = None) -> Table:
    """Return the table of an array of events: jets and their features, or another representation of them.

    events: what a coffea processor is given (NanoAODSchema, BaseSchema), or any awkward array with the fields `run`,
    `luminosityBlock`, `event` and `PFCands_pt`, `PFCands_eta`, `PFCands_phi`, or with a record `PFCands` of them; of objects
    `Electron_pt` and the like.
    representation: `Features()` where none is given. The column "row" says which of `events` each row is; the
    metadata have the cutflow. Raises InputError for a field that is missing, and for `PFCand` of NanoAOD v15.
    """
    representation = representation or Features()
    columns, cutflow = representation.columns(events)
    where = str(metadata_of(events)["filename"])
    counting = representation.source_of(branch_names(events), where).counting
    noted: dict[str, Any] = dict(representation.noted(columns))
    if "genWeight" in columns:
        noted |= _summary([weights_of(columns["genWeight"])], where)
    metadata = {**_metadata(representation, counting), "cutflow": cutflow, **noted}
    return Table(columns, metadata, where)


def run_table(
    fileset: FilesetLike,
    representation: Representation,
    running: Running = Running(),  # noqa: B008 - frozen
    *,
    output: str | Path | None = None,
    repeats: Repeats = "refuse",
    sample: str | None = None,
    pieces: Pieces = NONE_KEPT,
) -> TableResult:
    """Turn event files into the table of a representation; rows come in file and entry order, however it is run.

    fileset: of `read_fileset`, or what it takes. output: the folder of parts, which appears whole or not at all; an older table
    in parts there is replaced, anything else an InputError. Without it the parts are read back, and their folder, in that of
    temporary files, is deleted. repeats: an event that comes again, in one file or another, is an error ("refuse"), or left out and
    counted ("drop"); sample: what messages call all of them together. pieces: where finished chunks are kept, for a run that is killed,
    keyed by the content of the files. The metadata have representation, settings, cutflow, skipped files, files, the fileset's metadata
    under "datasets", a summary of genWeight, and what ntrk counts. `truth_signal` stays only where every file has it; `genWeight` must
    be in all files or in none. Raises InputError for bad files, ProcessingError when workers die.
    """
    representation.require_events()
    if output is not None:
        refuse_to_replace(Path(output))
    given = as_fileset(fileset)
    files, bad = open_files(
        given,
        skip_bad_files=running.skip_bad_files,
        same_counting=representation.same_counting,
        find=representation.source_of,
    )
    with _folder(output) as folder:
        if pieces.folder is not None:  # workers have folders of their own to start from
            pieces = dataclasses.replace(pieces, folder=pieces.folder.resolve())
        kept = pieces.place("parts")
        processor = TableProcessor(representation, (kept or folder).resolve(), pieces)
        done = process_files(files, processor, running, finished=None if kept is None else processor.finished)
        for part in () if kept is None else kept.glob("*.parquet"):
            part.replace(folder / part.name)
        skipped = (*bad, *done.skipped)
        told = {name: entry["metadata"] for name, entry in given.items() if entry["metadata"]}
        rows = _finish(folder, done, files, representation, skipped, told, sample)
        cutflow = done.cutflow
        again = settle_repeats(
            folder,
            representation,
            repeats=repeats,
            where=sample or ", ".join(given),
            files=[file.path for file in files],
        )
        if again:
            rows -= again
            cutflow = {**{k: v for k, v in cutflow.items() if k != "kept"}, COMES_AGAIN: again, "kept": rows}
        if rows == 0:
            logger.warning("no event is left of %d: %s", cutflow["read"], _lost(cutflow))
        table = None
        if output is None:
            read = read_table(folder)
            table = Table(read.columns, read.metadata, f"table of {representation.name}")
    return TableResult(cutflow, skipped, None if output is None else Path(output), rows, table)


def _lost(cutflow: dict[str, int]) -> str:
    """Return what an event was lost by, the most frequent first."""
    lost = [(count, name) for name, count in cutflow.items() if name not in {"read", "kept"} and count]
    return (
        ", ".join(f"{count} {name}" for count, name in sorted(lost, reverse=True))
        or "the files, or their steps, hold none"
    )


def refuse_to_replace(output: Path) -> None:
    """Raise InputError where something else than a table in parts stands at the output's place: it would be lost."""
    if not output.exists():
        return
    if not is_table_folder(output):
        found = "a folder without" if output.is_dir() else "a file, no folder with"
        raise InputError(
            f"{output}: is {found} {PARTS_RECORD}, no table in parts; it is not replaced: name another output"
        )
    strangers = sorted(p.name for p in output.iterdir() if p.name != PARTS_RECORD and p.suffix != ".parquet")
    if strangers:
        raise InputError(f"{output}: holds {', '.join(strangers[:5])} beside a table's parts; it is not replaced")


@contextlib.contextmanager
def _folder(output: str | Path | None) -> Iterator[Path]:
    if output is None:
        with tempfile.TemporaryDirectory(prefix="hunch-") as name:
            yield Path(name)
    else:
        with write_folder_aside(output) as aside:
            yield aside


def _metadata(representation: Representation, counting: str) -> dict[str, Any]:
    return {
        "representation": representation.name,
        "settings": representation.settings(),
        "identity": list(IDENTITY),
        **({"ntrk": counting} if representation.same_counting else {}),
    }


def _finish(
    folder: Path,
    done: Processed,
    files: list[EventFile],
    representation: Representation,
    skipped: Skipped,
    told: dict[str, Any],
    sample: str | None,
) -> int:
    """Delete the parts of files that were left out, write the record, and return the number of rows."""
    used = {f"{name}.parquet" for _, part in done.parts for name in part["parts"].values()}
    for stray in folder.glob("*.parquet"):
        if stray.name not in used:
            stray.unlink()
    sources = [file.source for file, _ in done.parts]
    dropped = set() if all(s.truth for s in sources) else {"truth_signal"}
    if dropped and any(s.truth for s in sources):
        logger.warning("truth_signal is left out of the table: not every file has it")
    rows = sum(int(part["rows"]) for _, part in done.parts)
    noted: dict[str, int] = {}
    for _, part in done.parts:
        for name, count in part["noted"].items():
            noted[name] = noted.get(name, 0) + count
    warning = representation.warning(noted, rows=rows)
    if warning:
        logger.warning("%s", warning)
    metadata = {
        **_metadata(representation, files[0].source.counting),
        "cutflow": done.cutflow,
        "skipped": [list(pair) for pair in skipped],
        "files": [file.path for file, _ in done.parts],
        **({"datasets": told} if told else {}),
        **_steps(done),
        **_weights(done, sample),
        **noted,
    }
    columns = [name for name in _columns(folder / min(used)) if name not in dropped]
    write_parts_record(folder, columns, metadata, rows=rows)
    return rows


def _steps(done: Processed) -> dict[str, Any]:
    """Return what the metadata say of steps: how many events of each file that has some are processed, and hold."""
    taken = {
        file.path: {"steps": file.selected, "events": file.entries} for file, _ in done.parts if file.steps is not None
    }
    return {"steps": taken} if taken else {}


def _weights(done: Processed, sample: str | None) -> dict[str, Any]:
    """Return what the metadata say of the genWeight of files."""
    parts = [part["weights"] for _, part in done.parts if "weights" in part]
    where = sample or ", ".join(dict.fromkeys(file.dataset for file, _ in done.parts))
    return _summary(parts, where) if parts else {}


def _summary(parts: list[dict[str, Any]], where: str) -> dict[str, Any]:
    """Return what metadata say of genWeight, and warn where it differs between events."""
    weights = total("genWeight", parts)
    note = note_on(weights)
    if note:
        logger.warning("%s: %s", where, note)
    return {"weights": weights, "notes": [note] if note else []}


def _columns(part: Path) -> list[str]:
    import pyarrow.parquet as pq

    return list(pq.read_schema(part).names)
