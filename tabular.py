"""Columns of CSV and parquet files of others as arrays: what no array can hold is named, and no row is made up or lost."""

from __future__ import annotations

import codecs
import csv
import io
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["arrow_values", "csv_columns", "csv_header", "is_number", "text_encoding", "unended_line"]

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]

DELIMITERS = ",;\t"
INTEGERS = ("run", "luminosityBlock", "event")
"""Columns whose numbers name an event: none of their digits may be lost."""
TEXTS = ("dataset",)
"""Columns that are text, whatever they look like: a dataset may be called 2018, no or null."""
ENCODINGS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
"""First bytes of a text -> its encoding."""
COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
"""First bytes of a file -> what it is packed with."""
BLOCK = 1 << 24
"""Bytes of CSV that are parsed at once, and the longest line."""
LONGEST = 4096
"""Characters of a text in a column: an array gives each row as many as the longest has."""
HEAD = 1 << 20
"""Bytes in which the header line is found."""


def text_encoding(head: bytes) -> str:
    """Return the encoding of a text that starts with these bytes: UTF-8, with or without a mark, or what its mark says.

    Raises ValueError for a compressed file and for NUL bytes, which no text holds.
    """
    for start, name in COMPRESSED.items():
        if head.startswith(start):
            raise ValueError(f"is compressed ({name}); unpack it first")
    for start, name in ENCODINGS.items():
        if head.startswith(start):
            return name
    if b"\0" in head:
        line = head[: head.index(b"\0")].count(b"\n") + 1
        raise ValueError(
            f"line {line} holds NUL bytes: damaged, no text, or UTF-16 without its mark; UTF-8 is expected"
        )
    return "utf-8-sig"


def csv_header(path: Path) -> tuple[list[str], str, int]:
    """Return the names of a CSV's columns, its delimiter, and the number of lines up to the header's end.

    Comments (# at the start of a line) and empty lines stand above the header; commas, semicolons or tabs part the columns.
    Raises ValueError for what is no text or has no header.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    lines = re.split(r"\r\n|\r|\n", head.decode(text_encoding(head), errors="replace"))
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            delimiter = max(DELIMITERS, key=line.count)
            try:
                names = [name.strip() for name in next(csv.reader(io.StringIO(line), delimiter=delimiter))]
            except csv.Error as error:
                raise ValueError(f"line {number} is no header of columns: {error}") from error
            if all(is_number(name) for name in names):
                raise ValueError(f"line {number} holds numbers ({line[:60]}); names of columns are expected there")
            return names, delimiter, number
    raise ValueError("is empty; a header line with the names of the columns is expected")


def is_number(text: str) -> bool:
    """Tell whether a text is a number; Python's own 1_000 is not one."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def csv_columns(path: Path, wanted: Sequence[str] | None = None, *, always: Sequence[str] = ()) -> dict[str, Array]:
    """Read a CSV with a header line: the wanted columns, and those of `always`, that it has; all where none are named, and the
    first where it has none of them.

    Every row has as many values as the header has names. Raises ValueError naming the line, or the column.
    """
    names, delimiter, above = csv_header(path)
    _check_text(path)
    chosen = list(dict.fromkeys(name for name in names if wanted is None or name in {*wanted, *always})) or names[:1]
    for name in chosen:
        if names.count(name) > 1:
            raise ValueError(f"column {name!r} is there {names.count(name)} times; header: {', '.join(names)}")
    read = _read_arrow(path, names, delimiter, above, chosen)
    _say_unended(path)
    columns = {}
    for name in chosen:
        column = read[name]
        if name in INTEGERS and str(column.type) == "double":
            # arrow takes integers above 2^63 for floating point, and their digits would be lost
            column = _integers(_read_arrow(path, names, delimiter, above, [name], text=(name,))[name]) or column
        columns[name] = _text_or_numbers(arrow_values(column, name), name)
    return columns


def _read_arrow(
    path: Path, names: Sequence[str], delimiter: str, above: int, chosen: Sequence[str], text: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the chosen columns as arrow reads them, those of `text` as text."""
    import pyarrow as pa
    from pyarrow import compute
    from pyarrow import csv as arrow_csv

    with path.open("rb") as file:
        encoding = text_encoding(file.read(HEAD))
    wrong: list[Any] = []

    def said(row: Any) -> str:
        if row.text.lstrip().startswith("#"):
            return "skip"
        wrong.append(row)
        return "error"

    labels = [f"c{i}" for i in range(len(names))]  # names may be there twice
    of = {name: labels[names.index(name)] for name in chosen}
    for threads in (True, False):  # threads do not know the number of a line
        try:
            table = arrow_csv.read_csv(
                path,
                read_options=arrow_csv.ReadOptions(
                    column_names=labels,
                    skip_rows=above,
                    use_threads=threads,
                    block_size=BLOCK,
                    encoding=encoding.removesuffix("-sig"),
                ),
                parse_options=arrow_csv.ParseOptions(delimiter=delimiter, invalid_row_handler=said),
                convert_options=arrow_csv.ConvertOptions(
                    include_columns=list(of.values()),
                    column_types={of[name]: pa.string() for name in chosen if name in (*TEXTS, *text)},
                ),
            )
        except (pa.ArrowException, UnicodeError) as error:
            if not wrong:
                raise ValueError(str(error)) from error
        else:
            break
    else:
        row = wrong[-1]
        cut = (
            "; the file ends there without a line end: it is cut off" if unended_line(path) == row.text.strip() else ""
        )
        raise ValueError(
            f"line {row.number} has {row.actual_columns} values where the header names {row.expected_columns} columns "
            f"({row.text[:60]!r}){cut}"
        )
    columns = {name: table[label] for name, label in of.items()}
    for name, column in columns.items():
        if pa.types.is_string(column.type) and compute.any(compute.match_substring(column, "\n")).as_py():
            raise ValueError(f"column {name!r}: a quote is opened and not closed on its line")
    return columns


def _check_text(path: Path) -> None:
    """Refuse bytes that are no text, naming their line, before they are parsed: rows they are in could be taken for others."""
    line, decoder = 1, None
    with path.open("rb") as file:
        while data := file.read(BLOCK):
            decoder = decoder or codecs.getincrementaldecoder(text_encoding(data))()
            try:
                text = decoder.decode(data)
            except UnicodeDecodeError as error:
                line += data[: error.start].count(b"\n")
                raise ValueError(f"line {line} is no UTF-8 text (byte 0x{error.object[error.start]:02x})") from error
            if "\0" in text:
                raise ValueError(f"line {line + text[: text.index(chr(0))].count(chr(10))} holds NUL bytes: damaged")
            line += text.count("\n")


def unended_line(path: Path) -> str | None:
    """Return what stands behind the last line end of a file, None where nothing does."""
    with path.open("rb") as file:
        encoding = text_encoding(file.read(HEAD))
        file.seek(-min(path.stat().st_size, BLOCK), io.SEEK_END)
        last = re.split(r"[\r\n]", file.read().decode(encoding, errors="replace"))[-1].strip()
    return last or None


def _say_unended(path: Path) -> None:
    """Warn of a file that may have been cut off inside its last number, which nothing else shows."""
    last = unended_line(path)
    if last is not None:
        log.warning(
            "%s: the last line has no line end (%s); where the file is cut off, its last row is wrong", path, last[:60]
        )


def _integers(texts: Any) -> Any:
    """Return a column of texts as unsigned integers, None where it holds something else."""
    import pyarrow as pa

    try:
        return texts.cast(pa.uint64())
    except pa.ArrowException:
        return None


def _text_or_numbers(values: Array, name: str) -> Array:
    """Return texts as numbers where each of them is one as Python writes it (+1.5), else as they are."""
    if values.dtype.kind != "U" or name in TEXTS or not len(values) or not all(is_number(v) for v in values[:10]):
        return values
    return values.astype(np.float64) if all(is_number(v) for v in values) else values


def arrow_values(column: Any, name: str, shape: Sequence[int] | None = None) -> Array:
    """Return a column of arrow as an array (n,), or (n, *shape) of lists that all have one length.

    Missing numbers are NaN, missing texts are empty. Decimals without places behind the point become integers where they
    fit. Raises ValueError naming the column and its type for lists of different lengths, structures, and what is no text.
    """
    import pyarrow as pa
    from pyarrow import compute

    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        fixed = pa.types.is_fixed_size_list(kind)
        lengths = [kind.list_size] if fixed else compute.unique(compute.list_value_length(column)).to_pylist()
        if column.null_count or len(lengths) > 1:
            raise ValueError(f"column {name!r} holds {kind} of different lengths a row; numbers or text are expected")
        return arrow_values(compute.list_flatten(column), name).reshape(len(column), *(shape or lengths or [0]))
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    column = _plain(column, name)
    if pa.types.is_string(column.type):
        longest = compute.max(compute.utf8_length(column)).as_py() or 0
        if longest > LONGEST:
            raise ValueError(f"column {name!r} holds a text of {longest} characters; at most {LONGEST} are read")
        return np.asarray(compute.fill_null(column, "").to_numpy()).astype(str)
    values = np.asarray(column.to_numpy())
    if values.dtype.kind == "O":
        raise ValueError(f"column {name!r} holds {kind}; numbers or text are expected")
    return values if values.flags.writeable else values.copy()  # torch takes no read-only arrays


def _plain(column: Any, name: str) -> Any:
    """Return a column with types that numpy has none of as text, integers or floating point; others as they are."""
    import pyarrow as pa
    from pyarrow import compute

    kind, of = column.type, pa.types
    if of.is_dictionary(kind):
        return _plain(column.cast(kind.value_type), name)
    if of.is_decimal(kind):
        whole = pa.uint64() if (compute.min(column).as_py() or 0) >= 0 else pa.int64()
        try:
            return column.cast(whole if kind.scale <= 0 else pa.float64())
        except pa.ArrowException:
            return column.cast(pa.float64())
    if of.is_boolean(kind) and column.null_count:
        return column.cast(pa.uint8())
    if of.is_large_string(kind) or str(kind) == "string_view":
        return column.cast(pa.string())
    if of.is_binary(kind) or of.is_large_binary(kind) or of.is_fixed_size_binary(kind) or str(kind) == "binary_view":
        try:
            return column.cast(pa.binary()).cast(pa.string())
        except pa.ArrowException as error:
            raise ValueError(f"column {name!r} holds bytes ({kind}) that are no UTF-8 text") from error
    return column
