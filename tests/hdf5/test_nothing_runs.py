"""Nothing in an HDF5 file runs: a pickled marker, wherever PyTables and pandas would unpickle it, stays a marker."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import tables

from hunch.analysis.spectra.files import read_spectra
from hunch.cli import main
from hunch.errors import InputError
from hunch.samples import convert_lhco, convert_toptag, convert_vaejet
from hunch.table import read_table, table_info, table_parts

N = 6


class Payload:
    """An object that makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def frame() -> pd.DataFrame:
    return pd.DataFrame({"mjj": np.linspace(1500.0, 4000.0, N), "tau21_1": np.linspace(0, 1, N), "event": np.arange(N)})


def attributes(where: str, *names: str, layout: str = "table") -> Callable[[Path, bytes], None]:
    """Write a frame, and a pickle in each of these attributes, as PyTables stores what is no number and no text."""

    def write(path: Path, pickled: bytes) -> None:
        frame().to_hdf(path, key="df", format=layout, data_columns=["mjj"] if layout == "table" else None)
        with h5py.File(path, "a") as file:
            for name in names:
                file[where].attrs[name] = np.bytes_(pickled)

    return write


def object_array(path: Path, pickled: bytes) -> None:
    frame().to_hdf(path, key="df")
    with tables.open_file(str(path), "a") as file:
        file.create_vlarray(file.root, "extra", tables.ObjectAtom()).append("text")
    replace_objects(path, "extra", pickled)


def object_array_alone(path: Path, pickled: bytes) -> None:
    with tables.open_file(str(path), "w") as file:
        file.create_vlarray(file.root, "mjj", tables.ObjectAtom()).append("text")
    replace_objects(path, "mjj", pickled)


def object_block(path: Path, pickled: bytes) -> None:
    frame().assign(region=["a", "b"] * (N // 2)).to_hdf(path, key="df")  # the fixed layout pickles text
    with h5py.File(path) as file:
        (name,) = (n for n in file["df"] if n.endswith("_values") and file["df"][n].dtype.kind == "O")
    replace_objects(path, f"df/{name}", pickled)


def object_names(path: Path, pickled: bytes) -> None:
    with pd.option_context("mode.performance_warnings", False):
        frame().rename(columns={"event": 7}).to_hdf(path, key="df")  # names of two types
    with h5py.File(path) as file:
        assert file["df/axis0"].dtype.kind == "O"
    replace_objects(path, "df/axis0", pickled)


def replace_objects(path: Path, name: str, pickled: bytes) -> None:
    with h5py.File(path, "a") as file:
        file[name][0] = np.frombuffer(pickled, dtype=np.uint8)


UNREAD = (
    "TITLE",
    "CLASS",
    "VERSION",
    "FLAVOR",
    "FILTERS",
    "NROWS",
    "FIELD_0_NAME",
    "kind",
    "name",
    "nan_rep",
    "errors",
    "anything",
)
PLACES: dict[str, Callable[[Path, bytes], None]] = {
    **{f"table layout, group: {n}": attributes("df", n) for n in ("pandas_type", "encoding", "non_index_axes")},
    "table layout, group: others": attributes("df", "info", "data_columns", "index_cols", "values_cols", "levels", *UNREAD),
    **{f"table layout, table: {n}": attributes("df/table", n) for n in ("values_block_0_kind", "mjj_kind")},
    "table layout, table: others": attributes("df/table", "mjj_dtype", "mjj_meta", "index_kind", "values_block_0_meta", *UNREAD),
    **{f"fixed layout, group: {n}": attributes("df", n, layout="fixed") for n in ("pandas_type", "encoding", "axis0_variety")},
    "fixed layout, group: others": attributes("df", "nblocks", "ndim", "pandas_version", *UNREAD, layout="fixed"),
    "fixed layout, block: shape": attributes("df/block0_values", "shape", layout="fixed"),
    "fixed layout, block: others": attributes("df/block0_values", "value_type", "transposed", *UNREAD, layout="fixed"),
    "fixed layout, names": attributes("df/axis0", *UNREAD, layout="fixed"),
    "root: pandas_type": attributes("/", "pandas_type"),
    "root: others": attributes("/", "PYTABLES_FORMAT_VERSION", *UNREAD),
    "an array of objects beside a frame": object_array,
    "an array of objects": object_array_alone,
    "a block of objects": object_block,
    "names that are objects": object_names,
}  # fmt: skip


def opened_by() -> dict[str, Callable[[Path, Path], Any]]:
    """Return everything that opens an HDF5 file."""
    return {
        "read_table": lambda path, _: read_table(path),
        "read_table, a column": lambda path, _: read_table(path, columns=["mjj"]),
        "table_info": lambda path, _: table_info(path),
        "table_parts": lambda path, _: list(table_parts(path)),
        "read_spectra": lambda path, _: read_spectra([path]),
        "convert_lhco": lambda path, out: convert_lhco(path, out, progress=False),
        "convert_toptag": lambda path, out: convert_toptag(path, out, progress=False),
        "convert_vaejet": lambda path, out: convert_vaejet(path, out, progress=False),
    }


@pytest.mark.parametrize("place", PLACES)
def test_a_pickle_stays_a_pickle(place: str, tmp_path: Path) -> None:
    path, marker = tmp_path / "events.h5", tmp_path / "marker"
    PLACES[place](path, pickle.dumps(Payload(marker), 0))
    for name, opens in opened_by().items():
        with suppress(InputError):
            opens(path, tmp_path / "out.root")
        assert not marker.exists(), name


@pytest.mark.parametrize(
    "place", ["table layout, group: pandas_type", "table layout, group: non_index_axes", "a block of objects"]
)
@pytest.mark.parametrize(
    "command", [["hunt"], ["convert", "lhco"], ["convert", "toptag"], ["convert", "vaejet"], ["run"]]
)
def test_the_command_line_runs_nothing_either(
    place: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path, marker = tmp_path / "events.h5", tmp_path / "marker"
    PLACES[place](path, pickle.dumps(Payload(marker), 0))
    (tmp_path / "a.yaml").write_text(
        "samples: {data: [events.h5]}\noutput: out\nrepresentation: {name: table, features: [tau21_1]}\n"
    )
    last = {"hunt": [str(path), "-o", str(tmp_path / "o")], "run": [str(tmp_path / "a.yaml")]}
    arguments = [*command, *last.get(command[0], [str(path), str(tmp_path / "out.root")])]
    monkeypatch.setattr("sys.argv", ["hunch", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "Traceback" not in capfd.readouterr().err
    assert not marker.exists()


def test_the_markers_would_be_made_by_pandas(tmp_path: Path) -> None:
    """The test's own payloads work: what opened these files before makes the marker."""
    made = 0
    for i, (place, write) in enumerate(PLACES.items()):
        path, marker = tmp_path / f"{i}.h5", tmp_path / f"marker{i}"
        write(path, pickle.dumps(Payload(marker), 0))
        try:
            with pd.HDFStore(path, mode="r") as store:
                store.get(store.keys()[0])
        except Exception:  # noqa: BLE001 - what it says then does not matter
            for file in list(tables.file._open_files.handlers):
                file.close()
        made += marker.exists()
        if place in {"table layout, group: pandas_type", "a block of objects", "names that are objects"}:
            assert marker.exists(), place
    assert made >= len(PLACES) - 3


def test_objects_are_refused_by_the_name_of_their_column(tmp_path: Path) -> None:
    path = tmp_path / "events.h5"
    frame().assign(region=["a", "b"] * (N // 2)).to_hdf(path, key="df")
    with pytest.raises(
        InputError, match=r"events\.h5: key 'df': column 'region' holds pickled objects, which are not read"
    ):
        read_table(path)
    # a column that nobody asked for stops nobody
    assert read_table(path, columns=["mjj"])["mjj"].tolist() == frame()["mjj"].tolist()
