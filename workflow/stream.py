"""Scoring a stream: rows come in by CSV or parquet, scores go out by CSV, and memory stays bounded.

Nothing waits for more than there is: what standard input holds is scored and written at once, so that a source that
trickles has its scores as it trickles. A file that is longer than memory takes as much of it as a short one.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TextIO

import numpy as np
import numpy.typing as npt

from ..errors import InputError, unknown_name
from ..files import read_json, write_aside
from ..models.export.onnx_scorer import OnnxScorer
from ..models.scorer import Scorer, load_scorer, method_class
from ..models.storage import RECORD
from ..table import IDENTITY

__all__ = ["NO_FEATURES", "StreamReport", "open_scorer", "stream_scores"]

Matrix = npt.NDArray[np.float64]

NO_FEATURES = (*IDENTITY, "mjj", "truth_signal")
"""Columns that are no features unless they are named: who the event is, what is hunted in, what is the truth."""
STANDARD = "-"  # standard input, standard output
BLOCK = 1 << 20  # bytes of CSV read at once
LONGEST = 1 << 24  # bytes of a CSV line
BATCH = 4096  # rows of parquet read at once


class Scores(Protocol):
    """What `stream_scores` needs of a scorer."""

    def score(self, x: npt.ArrayLike, *, metric: str | None = None) -> Matrix:
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
class Layout:
    """Which columns of a source are what; unit: "line" or "row", what its places count."""

    source: str
    unit: str
    header: tuple[str, ...]
    identity: tuple[str, ...]
    features: tuple[str, ...]


def open_scorer(path: str | Path) -> tuple[Scores, int]:
    """Return the scorer of a folder or of an .onnx file, and its number of columns d; raises ScorerError."""
    if Path(path).suffix == ".onnx":
        exported = OnnxScorer(path)
        return exported, exported.n_features
    scorer: Scorer = load_scorer(path)
    record = read_json(Path(path) / RECORD)
    for part in [axis["scorer"] for axis in record["state"].get("axes", ())] or [record]:
        if "rows" not in method_class(part["class"]).takes:
            raise InputError(
                f"{path}: {part['class']} scores jets (n, rows, columns), a stream holds rows of numbers; "
                "in Python: load_scorer(path).score(read_table(table)['image_1'])"
            )
    return scorer, int(record["n_features"])


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

    scorer: a scorer's folder or an .onnx file; sources: files, "-" for CSV on standard input, one after another;
    output: a CSV file, written aside and renamed at the end, or "-" for standard output, where each block's scores
    come as soon as they are known. columns: the features in the order of training; without them all columns but
    NO_FEATURES, which must be as many as the scorer was trained on. metric: one of the scorer's. skip_bad: leave out
    and count rows with a value that is no finite number, instead of raising.
    Raises InputError naming source, line and column; ScorerError. A reader that goes away is a BrokenPipeError.
    """
    model, width = open_scorer(scorer)
    model.score(np.empty((0, width)), metric=metric)  # a metric there is not is said before anything is read or written
    first: Layout | None = None
    rows = skipped = 0
    first_skipped = ""
    with opened_output(output) as target:
        writer = csv.writer(target, lineterminator="\n")
        for source in sources or (STANDARD,):
            with opened_source(source, columns, width) as (layout, chunks):
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
                    scores = model.score(kept.features, metric=metric).tolist()
                    writer.writerows(zip(*kept.identity, scores, strict=True))
                    target.flush()
                    rows, skipped = rows + len(scores), skipped + len(chunk.features) - len(scores)
                    first_skipped = first_skipped or reason
    return StreamReport(rows, skipped, first_skipped)


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
    source: str | Path, columns: Sequence[str] | None, width: int
) -> Iterator[tuple[Layout, Iterator[Chunk]]]:
    """Give a source's layout and its chunks of rows, which are read as they are asked for."""
    if str(source) == STANDARD:
        yield read_csv(sys.stdin.buffer, "standard input", columns, width)
        return
    path = Path(source)
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}; CSV or parquet is expected")
    if path.suffix.lower() == ".parquet":
        with opened_parquet(path) as file:
            yield read_parquet(file, str(path), columns, width)
        return
    with path.open("rb") as stream:
        yield read_csv(stream, str(path), columns, width)


def laid_out(source: str, header: Sequence[str], columns: Sequence[str] | None, width: int, *, unit: str) -> Layout:
    """Find identity and features among a source's columns; raises InputError naming found and expected."""
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(f"{source}: column {twice[0]!r} is there {header.count(twice[0])} times")
    features = tuple(columns) if columns else tuple(name for name in header if name not in NO_FEATURES)
    for name in features:
        if name not in header:
            raise InputError(unknown_name("column", name, header, source))
    if len(features) != width:
        dropped = "" if columns else f" besides {', '.join(NO_FEATURES)}"
        raise InputError(
            f"{source}: {len(features)} columns{dropped} ({', '.join(features) or 'none'}), the scorer was trained on "
            f"{width}; name them in the order of training with --columns"
        )
    identity = tuple(name for name in IDENTITY if name in header)
    return Layout(source, unit, tuple(header), identity, features)


# ------------------------------------------------------------------------------------------ CSV


def read_csv(
    stream: BinaryIO, source: str, columns: Sequence[str] | None, width: int
) -> tuple[Layout, Iterator[Chunk]]:
    """Read the header of CSV, return its layout and its chunks."""
    blocks = whole_lines(stream, source)
    head = next(blocks, b"").lstrip(b"\xef\xbb\xbf")
    line, _, rest = head.partition(b"\n")
    try:
        header = next(csv.reader([line.decode("utf-8").strip("\r")]), [])
    except UnicodeDecodeError as error:
        raise InputError(
            f"{source}: line 1: no UTF-8 text; CSV with a header line, or a .parquet file, is expected"
        ) from error
    if not header:
        raise InputError(f"{source}: empty; a header line with the names of the columns is expected")
    header = [name.strip() for name in header]
    if all(is_number(name) for name in header):
        raise InputError(f"{source}: line 1 holds numbers ({line[:60].decode()}); names of columns are expected there")
    layout = laid_out(source, header, columns, width, unit="line")

    def chunks() -> Iterator[Chunk]:
        number = 2
        for block in itertools.chain([rest], blocks):
            if block.strip():
                yield parsed(block, number, layout)
            number += block.count(b"\n")

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
    for fields in reader:
        if not fields:
            continue
        values = [np.nan] * len(layout.features)
        if len(fields) != len(layout.header):
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
        places.append(line + reader.line_num - 1)
    table = np.array(features, dtype=np.float64).reshape(len(features), len(layout.features))
    return Chunk([list(c) for c in zip(*identity, strict=True)] if layout.identity else [], table, places, wrong)


def is_number(text: str) -> bool:
    """Tell whether a text is a number, NaN and infinity too; Python's own 1_000 is not one."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


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


def read_parquet(file: Any, source: str, columns: Sequence[str] | None, width: int) -> tuple[Layout, Iterator[Chunk]]:
    """Read the schema of a parquet file, return its layout and its chunks; rows count from 0."""
    import pyarrow as pa

    schema = file.schema_arrow
    layout = laid_out(source, schema.names, columns, width, unit="row")
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
