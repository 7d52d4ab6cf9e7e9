"""What pandas, PyTables and h5py write comes back: types, names, missing text, compression."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pandas as pd
import pytest
import tables

from hunch.errors import InputError
from hunch.hdf5 import open_hdf5
from hunch.table import read_table, table_info

N = 50


@pytest.fixture
def frame(rng: np.random.Generator) -> pd.DataFrame:
    columns: dict[str, Any] = {
        "mjj": rng.uniform(1500, 4000, N),
        "tau21_1": rng.random(N).astype(np.float32),
        "event": rng.integers(0, 2**63, N, dtype=np.uint64) + np.uint64(2**63),
        "ntrk_1": rng.integers(-5, 90, N).astype(np.int16),
        "truth_signal": rng.random(N) < 0.5,
        "τ": rng.normal(size=N),
    }
    return pd.DataFrame(columns)


@pytest.mark.parametrize("layout", ["fixed", "table"])
@pytest.mark.parametrize(
    "complib",
    [None, "zlib", "bzip2", "blosc", "blosc:lz4", "blosc:zstd", "blosc:zlib", "blosc2:zstd", "blosc2:blosclz"],
)
def test_both_layouts_with_every_compression(
    layout: str, complib: str | None, frame: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "t.h5"
    frame.to_hdf(path, key="df", format=layout, complib=complib, complevel=5 if complib else 0)
    table = read_table(path)
    assert list(table.columns)[:3] == ["dataset", "run", "luminosityBlock"]
    for name in frame:
        np.testing.assert_array_equal(table[name], frame[name].to_numpy())
        assert table[name].dtype == frame[name].dtype
    assert table_info(path).rows == N
    assert table_info(path).columns == tuple(table.columns)
    assert table_info(path).metadata == {"identity": ["event"]} == dict(table.metadata)


def test_text_comes_from_the_table_layout(frame: pd.DataFrame, tmp_path: Path) -> None:
    text = [f"qcd {i}" if i % 3 else "naïve" for i in range(N)]
    frame = frame.assign(dataset=text, region=["low", "high"] * (N // 2))
    frame.to_hdf(tmp_path / "t.h5", key="df", format="table", data_columns=["region", "mjj"])
    table = read_table(tmp_path / "t.h5")
    assert table["dataset"].tolist() == text
    assert table["region"].tolist() == frame["region"].tolist()
    np.testing.assert_array_equal(table["mjj"], frame["mjj"])


def test_times_and_categories(frame: pd.DataFrame, tmp_path: Path) -> None:
    times = pd.date_range("2020-01-01", periods=N, unit="ns").to_series().to_numpy()
    frame = frame.assign(time=times)
    for layout in ("fixed", "table"):
        frame.to_hdf(tmp_path / "t.h5", key="df", format=layout, mode="w")
        np.testing.assert_array_equal(read_table(tmp_path / "t.h5")["time"], times)
    frame.assign(kind=pd.Categorical(["a", "b"] * (N // 2))).to_hdf(
        tmp_path / "t.h5", key="df", format="table", mode="w"
    )
    with pytest.raises(InputError, match=r"t\.h5: key 'df': column 'kind' holds categories"):
        read_table(tmp_path / "t.h5")


def test_names_of_python_2_and_of_numbers(tmp_path: Path, rng: np.random.Generator) -> None:
    values = rng.normal(size=(N, 3))
    pd.DataFrame(values).to_hdf(tmp_path / "t.h5", key="df", format="table")
    with h5py.File(tmp_path / "t.h5", "a") as file:
        file["df"].attrs["non_index_axes"] = np.bytes_(
            b"(lp1\n(I1\n(lp2\nS'E_0'\np3\naS'PX_0'\np4\naS'PY_0'\np5\natp6\na."
        )
        file["df/table"].attrs["values_block_0_kind"] = np.bytes_(b"(lp1\nS'PX_0'\np2\naS'E_0'\np3\naS'PY_0'\np4\na.")
    with open_hdf5(tmp_path / "t.h5", expected="a table") as stored:
        assert stored.labels == ("E_0", "PX_0", "PY_0")
        np.testing.assert_array_equal(stored.matrix(3, 20), values[3:20, [1, 0, 2]])


def test_big_endian_numbers_and_long_ones(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["mjj"] = np.arange(5, dtype=">f8")
        file["event"] = np.arange(5, dtype=">u8")
        file["wide"] = np.arange(5, dtype=np.longdouble)
        file["flag"] = np.array([True, False] * 2 + [True])
        file["dataset"] = ["a", "", "bcd", "é", "e"]
        file["short"] = np.array([b"a", b""] * 2 + [b"b"])
    table = read_table(tmp_path / "t.h5")
    assert table["mjj"].dtype == table["wide"].dtype == np.float64
    assert table["mjj"].dtype.isnative
    assert table["event"].tolist() == table["wide"].tolist() == list(range(5))
    assert table["flag"].tolist() == [True, False, True, False, True]
    assert table["dataset"].tolist() == ["a", "", "bcd", "é", "e"]
    assert table["short"].tolist() == ["a", "", "a", "", "b"]


def test_text_of_nothing(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["mjj"] = np.ones(2)
        file["dataset"] = ["", ""]
        file["short"] = np.array([b"", b""], dtype="S3")
    assert read_table(tmp_path / "t.h5")["dataset"].tolist() == ["", ""]
    assert read_table(tmp_path / "t.h5")["short"].tolist() == ["", ""]


def test_one_structured_dataset_is_a_table(tmp_path: Path) -> None:
    records = np.zeros(
        4, dtype=[("mjj", "f4"), ("event", "u8"), ("image", "f4", (2, 3)), ("pair", "f8", (2,)), ("name", "S5")]
    )
    records["mjj"], records["event"], records["name"] = [1, 2, 3, 4], 2**63 + np.arange(4, dtype=np.uint64), b"qcd"
    records["image"], records["pair"] = np.arange(24).reshape(4, 2, 3), np.arange(8).reshape(4, 2)
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["deep/events"] = records
    with tables.open_file(str(tmp_path / "p.h5"), "w") as file:
        file.create_table(file.root, "events", records)
    for name in ("t.h5", "p.h5"):
        table = read_table(tmp_path / name)
        for column in ("mjj", "event", "image", "pair"):
            np.testing.assert_array_equal(table[column], records[column])
        assert table["name"].tolist() == ["qcd"] * 4


def test_no_rows(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.iloc[:0].to_hdf(tmp_path / "t.h5", key="df")
    assert len(read_table(tmp_path / "t.h5")) == 0
    assert table_info(tmp_path / "t.h5").rows == 0
    with h5py.File(tmp_path / "h.h5", "w") as file:
        file.create_dataset("mjj", (0,), "f8", maxshape=(None,), chunks=(10,))
        file.create_dataset("dataset", (0,), h5py.string_dtype())
    table = read_table(tmp_path / "h.h5")
    assert (len(table), table["mjj"].dtype, table["dataset"].dtype.kind) == (0, np.dtype("f8"), "U")


def test_more_than_one_slab_in_odd_chunks(tmp_path: Path, rng: np.random.Generator) -> None:
    values = rng.normal(size=(30_011, 200))  # 48 MB, read in pieces of 32
    with h5py.File(tmp_path / "t.h5", "w") as file:
        group = file.create_group("df")
        group.attrs["pandas_type"] = "frame"
        group["axis0"] = group["block0_items"] = np.arange(200)
        group.create_dataset("block0_values", data=values, chunks=(7001, 33), **hdf5plugin.LZ4())
    with open_hdf5(tmp_path / "t.h5", expected="a table") as stored:
        np.testing.assert_array_equal(stored.matrix(5, 30_000), values[5:30_000])
        np.testing.assert_array_equal(stored.read(["7"])["7"], values[:, 7])


def test_a_chunk_is_unpacked_once_however_few_rows_are_asked_for(tmp_path: Path, rng: np.random.Generator) -> None:
    """Two chunks larger than the library's own cache: unpacked for each piece they would take twenty times as long."""
    with h5py.File(tmp_path / "t.h5", "w") as file:
        group = file.create_group("df")
        group.attrs["pandas_type"] = "frame"
        group["axis0"] = group["block0_items"] = np.arange(100)
        group.create_dataset(
            "block0_values",
            data=rng.random((30_000, 100)),
            chunks=(15_000, 100),
            compression="gzip",
            compression_opts=1,
        )
    with open_hdf5(tmp_path / "t.h5", expected="a table") as stored:
        started = time.perf_counter()
        whole = stored.matrix(0, 30_000)
        at_once = time.perf_counter() - started
        parts = [stored.matrix(start, start + 500) for start in range(0, 30_000, 500)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert time.perf_counter() - started < 8 * at_once


WRONG = {
    "a series": (lambda p: pd.Series([1.0, 2.0]).to_hdf(p, key="s"), r"holds no pandas frame, but: s \(series\)"),
    "two columns of one name": (
        lambda p: pd.DataFrame([[1.0, 2.0]], columns=["a", "a"]).to_hdf(p, key="df", format="table"),
        "key 'df': two columns are called 'a'",
    ),
    "names of two levels": (
        lambda p: pd.DataFrame([[1.0]], columns=pd.MultiIndex.from_tuples([("a", "b")])).to_hdf(p, key="df"),
        "names of several levels",
    ),
    "complex numbers": (lambda p: pd.DataFrame({"z": [1j]}).to_hdf(p, key="df"), "column 'z' holds complex128"),
}


@pytest.mark.parametrize("name", WRONG)
def test_other_things_are_named(name: str, tmp_path: Path) -> None:
    write, said = WRONG[name]
    write(tmp_path / "t.h5")
    with pytest.raises(InputError, match=rf"t\.h5: .*{said}"):
        read_table(tmp_path / "t.h5")


def change(path: Path, where: str, name: str, value: object) -> None:
    with h5py.File(path, "a") as file:
        file[where].attrs[name] = value


DAMAGE = {
    "names that do not fit": ("df/table", "values_block_0_kind", np.bytes_(b"(lp0\nVtau21_1\np1\naVx\np2\na.")),
    "a name too few": ("df", "non_index_axes", np.bytes_(b"(lp0\n(I1\n(lp1\nVmjj\np2\natp3\na.")),
    "no names": ("df", "non_index_axes", np.bytes_(b"N.")),
    "names that are lists": ("df", "non_index_axes", np.bytes_(b"(lp0\n(I1\n(lp1\n(lp2\natp3\na.")),
    "an encoding that is none": ("df", "encoding", np.bytes_(b"zlib_codec")),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_frame_whose_names_are_damaged_is_refused(name: str, frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.to_hdf(tmp_path / "t.h5", key="df", format="table")
    change(tmp_path / "t.h5", *DAMAGE[name])
    with pytest.raises(InputError, match=r"t\.h5: key 'df'"):
        read_table(tmp_path / "t.h5")
