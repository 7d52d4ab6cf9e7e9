"""The event table: its schema, the identity of an event, the fold an event belongs to, and writing aside.

A table has one row an event: identity columns, representation columns, later `score_*`, `loss_*` and `fold`.
On disk it is parquet with the settings that made it in the file's metadata; users may bring CSV or HDF5.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InputError, unknown_name
from .files import write_aside

__all__ = [
    "DIJET_COLUMNS",
    "IDENTITY",
    "QUAK_FEATURES",
    "TABLE_SUFFIXES",
    "Table",
    "concatenate",
    "is_table",
    "read_table",
    "write_table",
]

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

TABLE_SUFFIXES = (".parquet", ".csv", ".h5", ".hdf5", ".hdf")

METADATA_KEY = b"hunch"

SHAPE_KEY = b"shape"
"""Of a parquet field: the shape of one row of a column with more than one axis, as JSON."""


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

    def __getitem__(self, name: str) -> Array:
        if name not in self.columns:
            raise InputError(unknown_name("column", name, self.columns, self.source))
        return self.columns[name]

    def matrix(self, names: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return the named numeric columns side by side: (n, len(names)) float64."""
        for name in names:
            if self[name].dtype.kind not in "fiub":
                raise InputError(
                    f"{self.source}: column {name!r} holds {self[name].dtype}, not numbers; "
                    f"first value {self[name][:1].tolist()}"
                )
            if self[name].ndim > 1:
                raise InputError(
                    f"{self.source}: column {name!r} holds an array of shape {self[name].shape[1:]} a row, not a number"
                )
        if not names:
            return np.empty((len(self), 0))
        return np.stack([np.asarray(self[name], dtype=np.float64) for name in names], axis=1)

    def select(self, keep: Array) -> Table:
        """Return the rows where the boolean mask (or index array) `keep` points."""
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


def is_table(path: str | Path) -> bool:
    """Tell a table from an event file by its suffix."""
    return Path(path).suffix.lower() in TABLE_SUFFIXES


def write_table(path: str | Path, table: Table) -> None:
    """Write a table as parquet with its metadata, aside and renamed.

    A column with more than one axis is a list of fixed size a row, its shape in the field's metadata.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

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
    schema = pa.schema(fields, metadata={METADATA_KEY: json.dumps(dict(table.metadata)).encode()})
    # Images are mostly zeros: zstd halves what snappy leaves, and a dictionary of pixels would only cost time.
    options = {"compression": "zstd", "use_dictionary": flat, "row_group_size": 1000} if len(flat) < len(fields) else {}
    with write_aside(path) as aside:
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), aside, **options)


def read_table(path: str | Path) -> Table:
    """Read a parquet, CSV or HDF5 table; missing identity columns are filled from file name and row number.

    `metadata["identity"]` lists the identity columns that the file itself holds. Raises InputError naming the file.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: {'is a directory' if path.is_dir() else 'no such file'}; a table is expected")
    if not is_table(path):
        raise InputError(f"{path}: not a table by its name; allowed: {', '.join(TABLE_SUFFIXES)}")
    readers = {".parquet": _read_parquet, ".csv": _read_csv}
    try:
        columns, metadata = readers.get(path.suffix.lower(), _read_hdf5)(path)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise InputError(f"{path}: cannot be read as a table: {error}") from error
    own = [name for name in IDENTITY if name in columns]
    n = len(next(iter(columns.values()))) if columns else 0
    filled: dict[str, Array] = {
        "dataset": np.full(n, path.stem),
        "run": np.ones(n, dtype=np.int64),
        "luminosityBlock": np.ones(n, dtype=np.int64),
        "event": np.arange(n, dtype=np.int64),
    }
    return Table({**filled, **columns}, {**metadata, "identity": metadata.get("identity", own)}, str(path))


def _read_parquet(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        data = pq.read_table(path)
    except pa.ArrowException as error:
        raise ValueError(error) from error
    stored = (data.schema.metadata or {}).get(METADATA_KEY)
    columns = {}
    for name in data.column_names:
        column = data.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_fixed_size_list(column.type):
            given = (data.schema.field(name).metadata or {}).get(SHAPE_KEY)
            shape = json.loads(given) if given else [column.type.list_size]
            values = np.concatenate([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks])
            values = values.reshape(len(column), *shape)
        else:
            values = column.to_numpy()
        columns[name] = values.astype(str) if values.dtype.kind in "OU" else values
    return columns, json.loads(stored) if stored else {}


def _read_csv(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    import pandas as pd

    return _from_pandas(pd.read_csv(path, skipinitialspace=True)), {}


def _read_hdf5(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read the only pandas key of a file, or, failing that, its one-dimensional datasets as columns."""
    import h5py
    import pandas as pd
    from tables import HDF5ExtError

    try:
        with pd.HDFStore(path, mode="r") as store:
            keys = store.keys()
            if len(keys) > 1:
                raise ValueError(f"holds the keys {', '.join(keys)}; a table file holds one")
            if keys:
                return _from_pandas(store[keys[0]]), {}
    except HDF5ExtError as error:
        # a RuntimeError with the library's whole back trace; its last line says what happened
        raise ValueError(f"damaged or no HDF5 file ({str(error).strip().splitlines()[-1]})") from error
    with h5py.File(path) as file:
        columns = {name: np.asarray(item) for name, item in file.items() if isinstance(item, h5py.Dataset)}
        flat = {name: c.astype(str) if c.dtype.kind in "SO" else c for name, c in columns.items() if c.ndim == 1}
    if not flat:
        raise ValueError("holds neither a pandas table nor one-dimensional datasets")
    return flat, {}


def _from_pandas(frame: Any) -> dict[str, Array]:
    columns = {}
    for name in frame.columns:
        values = frame[name].to_numpy()
        columns[str(name)] = values.astype(str) if values.dtype.kind in "OUT" else values
    return columns
