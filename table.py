"""The event table: its columns, its schema, and how it is read and written.

A table has one row an event: identity columns, the observable, the inputs of a scorer; a scored table has identity, the
observable, `loss_NAME` of each axis and `fold`. On disk it is parquet with the settings that made it in the file's metadata,
or a folder of parts, one for each chunk of events that was processed; users may bring CSV or HDF5.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from .documents import parse_json, read_json
from .errors import InputError, printable, unknown_name
from .files import finite, write_aside, write_json
from .tabular import arrow_values, csv_columns, csv_header, is_number

__all__ = [
    "DIJET_COLUMNS",
    "EVENT_ID",
    "IDENTITY",
    "MJJ",
    "QUAK_FEATURES",
    "TABLE_SUFFIXES",
    "Observable",
    "Table",
    "TableInfo",
    "concatenate",
    "differing_settings",
    "identity_numbers",
    "is_table",
    "is_table_folder",
    "read_table",
    "table_info",
    "table_parts",
    "table_writer",
    "weight_columns",
    "write_part",
    "write_parts_record",
    "write_table",
]

log = logging.getLogger(__name__)
Array = npt.NDArray[Any]

IDENTITY = ("dataset", "run", "luminosityBlock", "event")

QUAK_FEATURES = tuple(
    f"{feature}_{jet}" for jet in (1, 2) for feature in ("mJ", "tau21", "tau32", "tau43", "tau12", "ntrk")
)
"""The 12 QUAK features (arXiv:2011.03550), jet 1 the more massive; tau12 is sqrt(tau1 at beta 2) / tau1 at beta 1."""

DIJET_COLUMNS = (
    *IDENTITY,
    *("mjj", "deta", "pt_1", "pt_2", "mJ_1", "mJ_2"),
    *("tau21_1", "tau21_2", "tau32_1", "tau32_2", "tau43_1", "tau43_2", "tau12_1", "tau12_2", "ntrk_1", "ntrk_2"),
)
"""Column order of the dijet table; GeV and radians."""

SAID = 400
"""Characters of a library's message that ours repeats."""
LONGEST_LABEL = 60
"""Characters of a column's name that fit beside an axis."""
SHOWN = 16
"""Columns that the repr of a table names."""
EVENT_ID = "event_id"
"""Column of a table made of event files: 64 bits that two rows share where they are the same event (`folds.same_event_hash`).

A column of that name in a table of somebody else's is left out when the table is read: what it means is not known.
"""

TABLE_SUFFIXES = (".parquet", ".csv", ".h5", ".hdf5", ".hdf")

METADATA_KEY = b"hunch"

SHAPE_KEY = b"shape"
"""Of a parquet field: the shape of one row of a column with more than one axis, as JSON."""

CHOICE = ("features", "observable", "unit")
"""Settings of a representation that choose columns and make none."""
CUTS = ("min_pt", "max_pt", "max_abs_eta", "min_leading_pt", "max_deta", "min_mjj", "max_mjj")
"""Settings of a representation that choose events; what a column means does not depend on them."""

WEIGHTS = {
    *("weight", "weights", "w", "wgt", "genweight", "generatorweight", "genevtweight"),
    *("eventweight", "evtweight", "evtwgt", "mcweight", "totalweight", "sampleweight", "xsweight", "lumiweight"),
}
"""Names of columns that are the weight of an event, in small letters without underscores."""

PARTS_RECORD = "_table.json"
"""What a folder of parts says of itself, written last; other readers of parquet pass over names with an underscore."""


@dataclass(frozen=True)
class Observable:
    """What is hunted in: the name of its column, its unit, and its label in figures, which matplotlib reads as mathtext."""

    name: str = "mjj"
    unit: str = "GeV"
    label: str = r"$m_{jj}$"

    @classmethod
    def of(cls, name: str, unit: str = "GeV") -> Observable:
        """Return the observable of a column: the dijet mass by its own label, any other by its name as it is written.

        >>> Observable.of("mJ_1").axis_label
        'mJ_1 [GeV]'
        """
        if name == MJJ.name:
            return cls(unit=unit)
        return cls(name, unit, printable(name, limit=LONGEST_LABEL).replace("$", r"\$"))

    @property
    def axis_label(self) -> str:
        """Return label and unit for an axis, the label alone where there is no unit."""
        unit = printable(self.unit, limit=LONGEST_LABEL).replace("$", r"\$")
        return f"{self.label} [{unit}]" if unit else self.label

    @property
    def text(self) -> str:
        """Return the name for plain text: m_jj for the dijet mass, the column's name for any other."""
        return "m_jj" if self.name == MJJ.name else self.name

    def span(self, low: float, high: float) -> str:
        """Return a range in words, as "2000 to 3000 GeV"."""
        return f"{low:g} to {high:g} {self.unit}".rstrip()

    def at(self, value: float) -> str:
        """Return a value in words: whole numbers from 100 on, three digits below.

        >>> Observable().at(3123.4), Observable().at(999.7), Observable().at(91.19)
        ('3123 GeV', '1000 GeV', '91.2 GeV')
        """
        return f"{value:.0f} {self.unit}".rstrip() if abs(value) >= 100 else f"{value:.3g} {self.unit}".rstrip()


MJJ = Observable()
"""The dijet mass, which is hunted in where nothing else is said."""


@dataclass(frozen=True)
class Table:
    """Columns of equal length, with the settings that made them.

    columns: name -> (n,) array, or (n, ...) of images and the like; metadata: JSON-like settings;
    source: the file named in errors.
    """

    columns: Mapping[str, Array]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    source: str = "table"

    def __post_init__(self) -> None:
        lengths = {name: len(values) for name, values in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"{self.source}: columns differ in length: {lengths}")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    @overload
    def __getitem__(self, name: str) -> Array: ...

    @overload
    def __getitem__(self, name: slice | list[str] | tuple[str, ...]) -> Table: ...

    def __getitem__(self, name: str | slice | list[str] | tuple[str, ...]) -> Array | Table:
        """Return a column by its name, rows by a slice, or several columns by a list of names, the last two as a table."""
        if isinstance(name, slice):
            return self.select(name)
        if not isinstance(name, str):
            if not isinstance(name, list | tuple) or not all(isinstance(n, str) for n in name):
                raise TypeError(f"a table takes a column's name, a list of names, or a slice of rows; found {name!r}")
            return Table({n: self[n] for n in name}, self.metadata, self.source)
        if name not in self.columns:
            raise InputError(unknown_name("column", name, self.columns, self.source))
        return self.columns[name]

    def __repr__(self) -> str:
        deep = [f"{n} {v.shape[1:]}" if v.ndim > 1 else n for n, v in self.columns.items()]
        more = [f"... {len(deep)} columns"] if len(deep) > SHOWN else []
        return f"Table({len(self):,} rows of {self.source}: {', '.join([*deep[:SHOWN], *more])})"

    def to_pandas(self) -> Any:
        """Return a pandas data frame; a column with an array a row becomes one of objects."""
        import pandas as pd

        return pd.DataFrame({n: v if v.ndim == 1 else pd.Series(list(v)) for n, v in self.columns.items()})

    def matrix(self, names: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return the named numeric columns side by side: (n, len(names)) float64."""
        for name in names:
            if self[name].dtype.kind not in "fiub":
                values = list(map(str, self[name].ravel().tolist()))
                row, value = next(((i, v) for i, v in enumerate(values) if not is_number(v)), (0, ""))
                comma = "; write decimals with a point" if re.fullmatch(r"[+-]?\d+,\d+", value) else ""
                kind = "text" if self[name].dtype.kind in "UST" else str(self[name].dtype)
                first = f"first value that is none: {value[:60]!r} in row {row}{comma}"
                if values and all(map(is_number, values)):
                    first = f"store numbers as such; row 0 holds the text {values[0][:60]!r}"
                raise InputError(f"{self.source}: column {name!r} holds {kind}, not numbers; {first}")
            if self[name].ndim > 1:
                raise InputError(
                    f"{self.source}: column {name!r} holds an array of shape {self[name].shape[1:]} a row, not a number"
                )
        if not names:
            return np.empty((len(self), 0))
        return np.stack([np.asarray(self[name], dtype=np.float64) for name in names], axis=1)

    def select(self, keep: Array | slice) -> Table:
        """Return the rows where the boolean mask (or index array, or slice) `keep` points."""
        return Table({name: values[keep] for name, values in self.columns.items()}, self.metadata, self.source)

    def with_columns(self, **columns: Array) -> Table:
        """Return the table with columns added or replaced."""
        return Table({**self.columns, **columns}, self.metadata, self.source)


def concatenate(tables: Sequence[Table], source: str) -> Table:
    """Join tables row after row; they must have the same columns, and the first one's metadata is kept."""
    names = list(tables[0].columns)
    for table in tables[1:]:
        missing = sorted(set(names) ^ set(table.columns))
        if missing:
            raise InputError(f"{table.source}: columns differ from those of {tables[0].source}: {', '.join(missing)}")
        for name in names:
            found, expected = table[name].shape[1:], tables[0][name].shape[1:]
            if found != expected:
                raise InputError(
                    f"{table.source}: column {name!r} holds {found} a row where {tables[0].source} holds {expected}"
                )
    joined = {name: np.concatenate([table[name] for table in tables]) for name in names}
    return Table(joined, tables[0].metadata, source)


def differing_settings(
    made: Mapping[str, Any], reference: Mapping[str, Any], *, cuts: bool = True
) -> dict[str, tuple[Any, Any]]:
    """Return the settings that two tables were made with otherwise: name -> (of the first, of the second).

    made, reference: metadata, whose "settings" are those of a representation; only what both say is compared. cuts: whether the
    choice of events is, too.
    """
    mine, other = (m["settings"] if isinstance(m.get("settings"), Mapping) else {} for m in (made, reference))
    apart = {*CHOICE, *(() if cuts else CUTS)}
    return {
        name: (mine[name], other[name])
        for name in mine
        if name in other and name not in apart and mine[name] != other[name]
    }


def weight_columns(names: Collection[str]) -> list[str]:
    """Return the columns that are the weight of an event by their names, whatever case and underscores.

    >>> weight_columns(["mjj", "genWeight", "event_weight", "puppiWeight"])
    ['genWeight', 'event_weight']
    """
    return [name for name in names if name.lower().replace("_", "") in WEIGHTS]


def is_table(path: str | Path) -> bool:
    """Tell a table from an event file by its suffix."""
    return Path(path).suffix.lower() in TABLE_SUFFIXES


def write_table(path: str | Path, table: Table) -> None:
    """Write a table as one parquet file with its metadata, aside and renamed.

    A column with more than one axis is a list of fixed size a row, its shape in the field's metadata.
    """
    with write_aside(path) as aside:
        _write_parquet(aside, table)


def write_part(folder: str | Path, name: str, table: Table) -> None:
    """Write one part of a table into a folder of parts, as NAME.parquet; parts are read in the order of their names.

    Raises InputError where there is no such folder: it is not made, so that nothing stays behind of a run that was stopped.
    """
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder to write parts of a table into; every worker needs to see it")
    with write_aside(Path(folder) / f"{name}.parquet") as aside:
        _write_parquet(aside, Table(table.columns))


def write_parts_record(folder: str | Path, columns: Sequence[str], metadata: Mapping[str, Any], *, rows: int) -> None:
    """Write what makes a folder of parts a table, last of all: its columns in order, its number of rows, its metadata."""
    record = {"columns": list(columns), "rows": rows, "metadata": dict(metadata)}
    write_json(Path(folder) / PARTS_RECORD, record)


@contextmanager
def table_writer(path: str | Path, metadata: Mapping[str, Any]) -> Iterator[Callable[[Mapping[str, Array]], None]]:
    """Give a function that appends columns, name -> (n, ...), to a parquet table; the file appears under its name only when the block ends without an error.

    All calls have the same columns, of the same types and shapes.
    """
    import pyarrow.parquet as pq

    with write_aside(path) as aside, ExitStack() as stack:
        writer: list[Any] = []

        def write(columns: Mapping[str, Array]) -> None:
            data, options = _as_arrow(Table(dict(columns), metadata))
            if not writer:
                options.pop("row_group_size", None)
                writer.append(
                    stack.enter_context(pq.ParquetWriter(aside, data.schema, write_page_checksum=True, **options))
                )
            writer[0].write_table(data)

        yield write


def _write_parquet(path: Path, table: Table) -> None:
    import pyarrow.parquet as pq

    data, options = _as_arrow(table)
    pq.write_table(data, path, write_page_checksum=True, **options)


def _as_arrow(table: Table) -> tuple[Any, dict[str, Any]]:
    """Return a table as pyarrow has it, with the options to write it with."""
    import pyarrow as pa

    arrays, fields, flat = [], [], []
    for name, values in table.columns.items():
        array, shape = pa.array(values.ravel()), values.shape[1:]
        if shape:
            array = pa.FixedSizeListArray.from_arrays(array, math.prod(shape))
        else:
            array = array.dictionary_encode() if values.dtype.kind in "UO" else array
            flat.append(name)
        arrays.append(array)
        fields.append(pa.field(name, array.type, metadata={SHAPE_KEY: json.dumps(shape)} if shape else None))
    schema = pa.schema(fields, metadata={METADATA_KEY: json.dumps(finite(table.metadata), allow_nan=False).encode()})
    # Images are mostly zeros: zstd halves what snappy leaves, and a dictionary of pixels would only cost time.
    options = {"compression": "zstd", "use_dictionary": flat, "row_group_size": 1000} if len(flat) < len(fields) else {}
    return pa.Table.from_arrays(arrays, schema=schema), options


@dataclass(frozen=True)
class TableInfo:
    """What a table holds, without its rows: names of its columns, number of rows, metadata."""

    columns: tuple[str, ...]
    rows: int
    metadata: Mapping[str, Any]


def is_table_folder(path: str | Path) -> bool:
    """Tell whether a path is a whole folder of parts."""
    return (Path(path) / PARTS_RECORD).is_file()


def table_info(path: str | Path) -> TableInfo:
    """Return what a table holds; of a folder of parts, of parquet and of HDF5 no row is read. Raises InputError as `read_table`."""
    path = Path(path)
    if is_table_folder(path):
        columns, metadata, rows = _parts_record(path)
        return TableInfo(columns, rows, metadata)
    if path.is_file() and is_table(path) and path.suffix.lower() not in {".parquet", ".csv"}:
        return _hdf5_info(path)
    whole = read_table(path, columns=())
    if path.suffix.lower() == ".csv":
        names = csv_header(path)[0]
    else:
        import pyarrow.parquet as pq

        names = pq.read_schema(path).names
    stored = (n for n in names if n != EVENT_ID or "representation" in whole.metadata)
    return TableInfo(tuple(dict.fromkeys((*IDENTITY, *stored))), len(whole), whole.metadata)


def table_parts(path: str | Path, columns: Sequence[str] | None = None) -> Iterator[Table]:
    """Give a table part by part, each with the metadata of the whole; a single file is one part.

    columns: the columns to read, all where none are named; identity columns are there always.
    """
    path = Path(path)
    if not is_table_folder(path):
        yield read_table(path, columns=columns)
        return
    known, metadata, rows = _parts_record(path)
    wanted = _wanted(columns, known, path)
    found = 0
    for part in sorted(path.glob("*.parquet")):
        read, _ = _opened(part, _read_parquet, wanted)
        found += len(next(iter(read.values()))) if read else 0
        yield Table({name: read[name] for name in wanted}, metadata, str(path))
    if found != rows:
        raise InputError(
            f"{path}: its parts hold {found} rows, {PARTS_RECORD} says {rows}; a part is missing or was changed"
        )


def read_table(path: str | Path, columns: Sequence[str] | None = None) -> Table:
    """Read a parquet, CSV or HDF5 table, or a folder of parts; missing identity columns are filled from name and row number.

    columns: the columns to read beside the identity, all where none are named. `metadata["identity"]` lists the identity
    columns that the file itself holds. Raises InputError naming the file.
    """
    path = Path(path)
    if is_table_folder(path):
        return _joined(path, list(table_parts(path, columns)), columns)
    if not path.is_file():
        found = f"is a directory without {PARTS_RECORD}" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {found}; a table is expected")
    if not is_table(path):
        raise InputError(f"{path}: not a table by its name; allowed: {', '.join(TABLE_SUFFIXES)}")
    readers = {".parquet": _read_parquet, ".csv": _read_csv}
    read, metadata = _opened(path, readers.get(path.suffix.lower(), _read_hdf5), columns)
    if "representation" not in metadata:
        read.pop(EVENT_ID, None)
    for name in IDENTITY[1:]:
        if name in read:
            with suppress(ValueError):  # where it tells events apart, `folds.as_identity` says what is wrong
                read[name] = identity_numbers(read[name])
    filled = _filled(path, read)
    own = [name for name in IDENTITY if name in read]
    kept = {name: filled[name] for name in _wanted(columns, filled, path)}
    return Table(kept, {**metadata, "identity": metadata.get("identity", own)}, str(path))


def _opened(path: Path, reader: Any, columns: Sequence[str] | None) -> tuple[dict[str, Array], dict[str, Any]]:
    try:
        found: tuple[dict[str, Array], dict[str, Any]] = reader(path, columns)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise InputError(f"{path}: cannot be read as a table: {' '.join(str(error).split())[:SAID]}") from error
    return found


def _known(wanted: Sequence[str], stored: Sequence[str], path: Path) -> None:
    for name in wanted:
        if name not in {*IDENTITY, *stored}:
            raise InputError(unknown_name("column", name, stored, str(path)))


def _wanted(columns: Sequence[str] | None, known: Collection[str], path: Path) -> list[str]:
    """Return the columns to read: the identity that is there, and those asked for, or all."""
    for name in columns or ():
        if name not in known:
            raise InputError(unknown_name("column", name, known, str(path)))
    if columns is None:
        return list(known)
    return list(dict.fromkeys((*(name for name in IDENTITY if name in known), *columns)))


def _parts_record(path: Path) -> tuple[tuple[str, ...], dict[str, Any], int]:
    try:
        record = read_json(path / PARTS_RECORD)
        columns, metadata, rows = record["columns"], record["metadata"], record["rows"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path / PARTS_RECORD}: damaged, or no record of a table: {error!r}") from error
    return tuple(columns), dict(metadata), int(rows)


def _joined(path: Path, parts: list[Table], columns: Sequence[str] | None) -> Table:
    if not parts:
        known, metadata, _ = _parts_record(path)
        raise InputError(
            f"{path}: holds no parts; columns {', '.join(_wanted(columns, known, path))} were expected of {metadata}"
        )
    return concatenate(parts, str(path))


def _filled(path: Path, columns: Mapping[str, Array]) -> dict[str, Array]:
    """Return the columns behind identity columns, which are filled where there are none."""
    n = len(next(iter(columns.values()))) if columns else 0
    filled: dict[str, Array] = {
        "dataset": np.full(n, path.stem),
        "run": np.ones(n, dtype=np.uint64),
        "luminosityBlock": np.ones(n, dtype=np.uint64),
        "event": np.arange(n, dtype=np.uint64),
    }
    return {**filled, **columns}


def identity_numbers(values: Array) -> npt.NDArray[np.uint64]:
    """Return numbers that tell events apart as uint64 (n,); raises ValueError that says what else they are.

    >>> identity_numbers(np.array([7.0])).tolist()
    [7]
    """
    kind = values.dtype.kind
    if kind not in "iubf":
        raise ValueError(f"{values.dtype}, not integers")
    if kind == "f":
        if not np.all(np.isfinite(values) & (values == np.round(values))):
            raise ValueError("values that are no integers")
        exact = 2.0 ** (np.finfo(values.dtype).nmant + 1)
        if np.any(np.abs(values) >= exact):
            raise ValueError(
                f"{np.abs(values).max():g} as {values.dtype}, exact below {exact:g} alone; store it as uint64"
            )
    if kind != "u" and np.any(values < 0):
        raise ValueError(
            f"{values.min()}, a negative number; one above 2^63 is negative in a signed column: store it as uint64"
        )
    return values.astype(np.uint64)


def _check_parquet(path: Path, names: Sequence[str] | None) -> None:
    """Raise InputError where the rows that a file declares take more memory than a file of its size can mean."""
    import pyarrow.parquet as pq

    from .hdf5.limits import check_total

    told = pq.read_metadata(path)
    kinds = {field.name: field.type for field in told.schema.to_arrow_schema() if names is None or field.name in names}
    width = sum(8 * getattr(kind, "list_size", 1) for kind in kinds.values())
    check_total(told.num_rows * width, f"{path}: a table of {told.num_rows:,} rows", path)


def _read_parquet(path: Path, wanted: Sequence[str] | None = None) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read the wanted columns that the file holds, the identity always, all where none are named."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names, stored_names = None, pq.read_schema(path).names
        if wanted is not None:
            _known(wanted, stored_names, path)
            names = [name for name in stored_names if name in {*IDENTITY, *wanted}] or stored_names[:1]
        _check_parquet(path, names)
        for name in stored_names if names is None else names:
            if stored_names.count(name) > 1:
                raise ValueError(f"column {name!r} is there {stored_names.count(name)} times")
        data = pq.read_table(path, columns=names, page_checksum_verification=True)
    except pa.ArrowException as error:
        raise ValueError(error) from error
    stored = (data.schema.metadata or {}).get(METADATA_KEY)
    columns = {}
    for name in data.column_names:
        given = (data.schema.field(name).metadata or {}).get(SHAPE_KEY)
        shape = parse_json(given, f"{path}: column {name!r}: shape") if given else None
        try:
            columns[name] = arrow_values(data.column(name), name, shape)
        except ValueError as error:
            if wanted is not None:
                raise
            log.warning("%s: left out: %s", path, error)
    return columns, parse_json(stored, f"{path}: metadata 'hunch'") if stored else {}


def _read_csv(path: Path, wanted: Sequence[str] | None = None) -> tuple[dict[str, Array], dict[str, Any]]:
    if wanted is not None:
        _known(wanted, csv_header(path)[0], path)
    return csv_columns(path, wanted, always=IDENTITY), {}


def _read_hdf5(path: Path, wanted: Sequence[str] | None = None) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read the wanted columns of the only table of a file, the identity always, all where none are named."""
    from .hdf5 import open_hdf5

    with open_hdf5(path, expected="a table") as stored:
        names = list(stored.columns)
        if wanted is not None:
            _known(wanted, names, path)
            # without any, one column says how many rows there are
            any_one = [name for name in names if name not in stored.unreadable][:1]
            names = [name for name in names if name in {*IDENTITY, *wanted}] or any_one
        return stored.read(names), {}


def _hdf5_info(path: Path) -> TableInfo:
    from .hdf5 import open_hdf5

    with open_hdf5(path, expected="a table") as stored:
        own = [name for name in IDENTITY if name in stored.columns]
        names = tuple(dict.fromkeys((*IDENTITY, *(name for name in stored.columns if name != EVENT_ID))))
        return TableInfo(names, stored.n_rows, {"identity": own})
