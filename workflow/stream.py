"""Scoring a stream: rows come in by CSV or parquet, scores go out by CSV, and memory stays bounded.

Nothing waits for more than there is: what standard input holds is scored and written at once, so that a source that
trickles has its scores as it trickles. A file that is longer than memory takes as much of it as a short one.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import itertools
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TextIO

import numpy as np
import numpy.typing as npt

from ..documents import read_json
from ..errors import InputError
from ..files import refuse_input, write_aside
from ..models.columns import refuse_other_settings
from ..models.export.onnx_scorer import OnnxScorer
from ..models.sample import Events, Sample
from ..models.scorer import Scorer, load_scorer, stored_kinds
from ..models.storage import RECORD
from ..table import PARTS_RECORD, is_table_folder, table_info
from ..tabular import is_number
from .stream_columns import NO_FEATURES, Layout, laid_out

__all__ = ["NO_FEATURES", "Opened", "StreamReport", "open_scorer", "stream_scores"]

log = logging.getLogger(__name__)

Matrix = npt.NDArray[np.float64]

STANDARD = "-"  # standard input, standard output
BLOCK = 1 << 20  # bytes of CSV read at once
LONGEST = 1 << 24  # bytes of a CSV line
BATCH = 4096  # rows of parquet read at once


class Scores(Protocol):
    """What `stream_scores` needs of a scorer."""

    def score(self, x: Events, *, metric: str | None = None) -> Matrix:
        """Return (n,) scores of rows (n, d)."""


@dataclass(frozen=True)
class StreamReport:
    """What a stream held: rows scored, rows skipped for a bad value, and what was wrong with the first of those."""

    rows: int
    skipped: int
    first_skipped: str = ""


@dataclass(frozen=True)
class Chunk:
    """Some rows: identity columns as text, features (n, d) with NaN where a value is bad; what to call row i, why bad."""

    identity: Sequence[Sequence[str]]
    features: Matrix
    places: Sequence[int]
    wrong: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Opened:
    """A scorer of rows that is ready, its number of columns, and their names in the order of training, none where it knows none."""

    scorer: Scores
    width: int
    names: tuple[str, ...]

    def score(self, x: Matrix, metric: str | None) -> Matrix:
        """Return the scores (n,) of rows (n, d) whose columns are in the order of `names`."""
        return self.scorer.score(Sample(x, self.names), metric=metric)


def open_scorer(path: str | Path) -> Opened:
    """Return the scorer of a folder or of an .onnx file; raises ScorerError, InputError for one of jets."""
    if Path(path).suffix == ".onnx":
        exported = OnnxScorer(path)
        if len(exported.shape) > 1:
            raise InputError(f"{path}: scores jets of {exported.shape}, a stream holds rows of numbers")
        return Opened(exported, exported.n_features, exported.input_names)
    scorer: Scorer = load_scorer(path)
    record = read_json(Path(path) / RECORD)
    names = tuple(getattr(scorer, "input_names", ()))
    for part in [axis["scorer"] for axis in record["state"].get("axes", ())] or [record]:
        if "rows" not in stored_kinds(part):
            raise InputError(
                f"{path}: {part['class']} scores jets (n, rows, columns), a stream holds rows of numbers; "
                f"in Python: load_scorer(path).score({taken(names)})"
            )
    return Opened(scorer, len(names) or int(record["n_features"]), names)


def taken(names: Sequence[str]) -> str:
    """Return the Python that takes a scorer's inputs out of a table; names: of their columns, none where they are not known."""
    if len(names) > 1:
        return f"np.stack([read_table(table)[name] for name in {tuple(names)!r}], axis=1)"
    return f"read_table(table)[{next(iter(names), 'image_1')!r}]"


def stream_scores(
    scorer: str | Path,
    sources: Sequence[str | Path] = (STANDARD,),
    output: str | Path = STANDARD,
    *,
    columns: Sequence[str] | None = None,
    metric: str | None = None,
    skip_bad: bool = False,
) -> StreamReport:
    """Score rows of CSV (with a header line) or parquet one block after another; write identity and score as CSV.

    scorer: a scorer's folder or an .onnx file; sources: files, tables in parts, "-" for CSV on standard input, one after another;
    output: a CSV file, written aside and renamed at the end, or "-" for standard output, where each block's scores
    come as soon as they are known. columns: the features, where they have other names than those that the scorer was trained
    on, in the order of training; without them columns are taken by the scorer's own names, and where it knows none all but NO_FEATURES in
    their order, as many as it was trained on. What is left out or taken by its place is logged once a source. metric: one of the scorer's. skip_bad: leave out
    and count rows with a value that is no finite number, instead of raising.
    Raises InputError naming source, line and column; ScorerError. A reader that goes away is a BrokenPipeError.
    """
    model = open_scorer(scorer)
    model.score(np.empty((0, model.width)), metric)  # a metric there is not is said before anything is read or written
    if str(output) != STANDARD:
        refuse_input(output, [scorer, *(source for source in sources if str(source) != STANDARD)])
    first: Layout | None = None
    rows = skipped = 0
    first_skipped = ""
    with opened_output(output) as target:
        writer = csv.writer(target, lineterminator="\n")
        for source in in_parts(sources or (STANDARD,), model):
            with opened_source(source, columns, model) as (layout, chunks):
                if first is None:
                    first = layout
                    writer.writerow([*layout.identity, "score"])
                    target.flush()
                elif (layout.identity, layout.features) != (first.identity, first.features):
                    raise InputError(
                        f"{layout.source}: columns {', '.join((*layout.identity, *layout.features))} differ from "
                        f"those of {first.source}: {', '.join((*first.identity, *first.features))}"
                    )
                for chunk in chunks:
                    kept, reason = without_bad(chunk, layout)
                    if reason and not skip_bad:
                        raise InputError(reason)
                    scores = model.score(kept.features, metric).tolist()
                    writer.writerows(zip(*kept.identity, scores, strict=True))
                    target.flush()
                    rows, skipped = rows + len(scores), skipped + len(chunk.features) - len(scores)
                    first_skipped = first_skipped or reason
    return StreamReport(rows, skipped, first_skipped)


def in_parts(sources: Sequence[str | Path], model: Opened) -> Iterator[str | Path]:
    """Give sources with the parts of a table in place of its folder; ScorerError where it was made otherwise than those of the training."""
    for source in sources:
        if str(source) != STANDARD and is_table_folder(source):
            refuse_other_settings(table_info(source).metadata, getattr(model.scorer, "made_", {}), str(source))
            yield from sorted(Path(source).glob("*.parquet"))
        else:
            yield source


@contextlib.contextmanager
def opened_output(output: str | Path) -> Iterator[TextIO]:
    """Give the text stream to write to: standard output, or a file that has its name only once it is whole."""
    if str(output) == STANDARD:
        yield sys.stdout
        return
    with write_aside(output) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        yield file


def without_bad(chunk: Chunk, layout: Layout) -> tuple[Chunk, str]:
    """Return a chunk's rows of finite numbers, and what is wrong with the first of the others ("" if there is none)."""
    bad = ~np.isfinite(chunk.features).all(axis=1)
    if not bad.any():
        return chunk, ""
    row = int(np.flatnonzero(bad)[0])
    if row in chunk.wrong:
        said = chunk.wrong[row]
    else:
        column = int(np.flatnonzero(~np.isfinite(chunk.features[row]))[0])
        said = f"column {layout.features[column]!r}: {chunk.features[row, column]:g} is no finite number"
    keep = np.flatnonzero(~bad).tolist()
    identity = [[values[i] for i in keep] for values in chunk.identity]
    good = Chunk(identity, chunk.features[keep], [chunk.places[i] for i in keep])
    return good, f"{layout.source}: {layout.unit} {chunk.places[row]}, {said}"


@contextlib.contextmanager
def opened_source(
    source: str | Path, columns: Sequence[str] | None, model: Opened
) -> Iterator[tuple[Layout, Iterator[Chunk]]]:
    """Give a source's layout and its chunks of rows, which are read as they are asked for."""
    if str(source) == STANDARD:
        yield read_csv(sys.stdin.buffer, "standard input", columns, model)
        return
    path = Path(source)
    if not path.is_file():
        found = f"is a folder without {PARTS_RECORD}" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {found}; CSV or parquet is expected")
    if path.suffix.lower() == ".parquet":
        with opened_parquet(path) as file:
            yield read_parquet(file, str(path), columns, model)
        return
    with path.open("rb") as stream:
        yield read_csv(stream, str(path), columns, model)


# ------------------------------------------------------------------------------------------ CSV


def read_csv(
    stream: BinaryIO, source: str, columns: Sequence[str] | None, model: Opened
) -> tuple[Layout, Iterator[Chunk]]:
    """Read the header of CSV, return its layout and its chunks."""
    blocks = whole_lines(stream, source)
    number, line, rest = 0, b"", b""
    while not line.strip():  # blank lines may stand before the header
        if not rest:
            rest = next(blocks, b"")
            rest = rest.removeprefix(codecs.BOM_UTF8) if number == 0 else rest
        if not rest:
            raise InputError(f"{source}: empty; a header line with the names of the columns is expected")
        line, _, rest = rest.partition(b"\n")
        number += 1
    try:
        text = line.decode("utf-8").strip("\r")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{source}: line {number}: no UTF-8 text; CSV with a header line, or a .parquet file, is expected"
        ) from error
    if "\r" in text:
        raise InputError(f"{source}: lines end as on old Macs, by CR alone; LF or CR LF is expected")
    try:
        header = [name.strip() for name in next(csv.reader([text]), [])]
    except csv.Error as error:
        raise InputError(f"{source}: line {number}: no CSV: {error}") from error
    layout = laid_out(source, header, columns, model.names, model.width, unit="line")

    def chunks() -> Iterator[Chunk]:
        first = number + 1
        block = b""
        for block in itertools.chain([rest], blocks):
            if block.strip():
                yield parsed(block, first, layout)
            first += block.count(b"\n")
        if block and not block.endswith(b"\n"):
            log.warning("%s: line %d, the last one, has no end: it may be cut off", source, first)

    return layout, chunks()


def whole_lines(stream: BinaryIO, source: str) -> Iterator[bytes]:
    """Give what a stream holds in blocks of whole lines, without waiting for a block to fill."""
    read = stream.read1 if isinstance(stream, io.BufferedReader) else stream.read
    pending: list[bytes] = []
    size = 0
    while block := read(BLOCK):
        end = block.rfind(b"\n") + 1
        if end:
            yield b"".join([*pending, block[:end]])
            pending, size = [], 0
        pending.append(block[end:])
        size += len(block) - end
        if size > LONGEST:
            raise InputError(f"{source}: a line of more than {LONGEST >> 20} MiB; CSV with short lines is expected")
    last = b"".join(pending)
    if last:
        yield last


def parsed(block: bytes, line: int, layout: Layout) -> Chunk:
    """Return the rows of a block of CSV whose first line is number `line`."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    try:
        table = arrow_csv.read_csv(
            io.BytesIO(block),
            read_options=arrow_csv.ReadOptions(column_names=list(layout.header), use_threads=False),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=[*layout.identity, *layout.features],
                column_types={name: pa.string() for name in layout.identity}
                | {name: pa.float64() for name in layout.features},
            ),
        )
    except pa.ArrowInvalid:
        return parsed_slowly(block, line, layout)
    features = np.stack([table[name].to_numpy() for name in layout.features], axis=1)
    if not np.isfinite(features).all():
        return parsed_slowly(block, line, layout)
    return Chunk([table[name].to_pylist() for name in layout.identity], features, range(line, line + len(features)))


def parsed_slowly(block: bytes, line: int, layout: Layout) -> Chunk:
    """Return the rows of a block, one by one, with what is wrong with each: what `parsed` could not read."""
    where = {name: i for i, name in enumerate(layout.header)}
    identity: list[list[str]] = []
    features: list[list[float]] = []
    places: list[int] = []
    wrong: dict[int, str] = {}
    reader = csv.reader(io.StringIO(block.decode("utf-8", errors="replace"), newline=""))
    for fields in csv_lines(reader, layout, line):
        if not any(field.strip() for field in fields) and len(fields) <= 1:
            continue
        place = line + reader.line_num - 1
        values = [np.nan] * len(layout.features)
        if again := header_again(fields, layout, place):
            wrong[len(places)] = again
        elif len(fields) != len(layout.header):
            wrong[len(places)] = f"{len(fields)} values, the header names {len(layout.header)} columns"
            fields = [*fields, *[""] * len(layout.header)]  # noqa: PLW2901 - the row is bad, its identity may be there
        else:
            for i, name in enumerate(layout.features):
                text = fields[where[name]].strip()
                if is_number(text) and np.isfinite(float(text)):
                    values[i] = float(text)
                elif len(places) not in wrong:
                    wrong[len(places)] = f"column {name!r}: {text!r} is no finite number"
        identity.append([fields[where[name]] for name in layout.identity])
        features.append(values)
        places.append(place)
    table = np.array(features, dtype=np.float64).reshape(len(features), len(layout.features))
    return Chunk([list(c) for c in zip(*identity, strict=True)] if layout.identity else [], table, places, wrong)


def csv_lines(reader: Any, layout: Layout, line: int) -> Iterator[list[str]]:
    """Give the fields of each line of a block that begins with number `line`; raises InputError where they cannot be told apart."""
    try:
        yield from reader
    except csv.Error as error:
        raise InputError(f"{layout.source}: line {line + reader.line_num - 1}: no CSV: {error}") from error


def header_again(fields: Sequence[str], layout: Layout, line: int) -> str:
    """Return what is said of a line that is the header once more, "" of any other; raises InputError where it is another header."""
    found = [field.strip() for field in fields]
    words = [name for name in layout.features if not is_number(name)]
    if any(map(is_number, found)) or not any(name in found for name in words):
        return ""
    if tuple(found) == layout.header:
        return "the header comes again"
    raise InputError(
        f"{layout.source}: line {line} is another header ({', '.join(found)}): what follows has its columns elsewhere; "
        "score the two parts one after another"
    )


# ------------------------------------------------------------------------------------------ parquet


@contextlib.contextmanager
def opened_parquet(path: Path) -> Iterator[Any]:
    """Give the open parquet file; raises InputError where it is none."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: damaged, or no parquet file: {error}") from error
    with file:
        yield file


def read_parquet(
    file: Any, source: str, columns: Sequence[str] | None, model: Opened
) -> tuple[Layout, Iterator[Chunk]]:
    """Read the schema of a parquet file, return its layout and its chunks; rows count from 0."""
    import pyarrow as pa

    schema = file.schema_arrow
    layout = laid_out(source, schema.names, columns, model.names, model.width, unit="row")
    for name in layout.features:
        kind = schema.field(name).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
            raise InputError(f"{source}: column {name!r} holds {kind}, not numbers")

    def chunks() -> Iterator[Chunk]:
        row = 0
        for batch in file.iter_batches(batch_size=BATCH, columns=[*layout.identity, *layout.features]):
            identity = [["" if v is None else str(v) for v in batch[name].to_pylist()] for name in layout.identity]
            features = np.stack([as_floats(batch[name]) for name in layout.features], axis=1)
            yield Chunk(identity, features, range(row, row + len(features)))
            row += len(features)

    return layout, chunks()


def as_floats(column: Any) -> Matrix:
    """Return an Arrow column of numbers as float64 (n,), missing values as NaN."""
    values = column.to_numpy(zero_copy_only=False)
    return np.asarray([np.nan if v is None else v for v in values] if values.dtype == object else values, np.float64)
