"""Tables: what is written comes back, in one file or in parts; what is no table is named."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hunch.errors import InputError
from hunch.files import write_folder_aside
from hunch.table import (
    DIJET_COLUMNS,
    EVENT_ID,
    IDENTITY,
    PARTS_RECORD,
    QUAK_FEATURES,
    Observable,
    Table,
    concatenate,
    is_table,
    is_table_folder,
    read_table,
    table_info,
    table_parts,
    table_writer,
    write_part,
    write_parts_record,
    write_table,
)

N = 40


@pytest.fixture
def frame(rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame(
        {"mjj": rng.uniform(1000, 5000, N), "tau21_1": rng.uniform(0, 1, N).astype(np.float32), "ntrk_1": np.arange(N)}
    )


def same(table: Table, frame: pd.DataFrame) -> None:
    for name in frame.columns:
        np.testing.assert_allclose(
            table[name], frame[name].to_numpy(), rtol=1e-6
        )  # CSV writes single precision in six digits or more


WRITERS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "t.csv": lambda f, p: f.to_csv(p, index=False),
    "t.parquet": lambda f, p: f.to_parquet(p, index=False),
    "fixed.h5": lambda f, p: f.to_hdf(p, key="df", format="fixed"),
    "table.hdf5": lambda f, p: f.to_hdf(p, key="df", format="table"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_users_tables_are_read_and_identity_is_filled(name: str, frame: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](frame, path)
    table = read_table(path)
    same(table, frame)
    assert len(table) == N
    assert table.metadata["identity"] == []
    assert set(table["dataset"]) == {path.stem}
    assert table["run"].tolist() == [1] * N
    assert table["luminosityBlock"].tolist() == [1] * N
    assert table["event"].tolist() == list(range(N))


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("dtype", [np.uint64, np.int64, np.uint32, np.float64])
def test_event_numbers_are_unsigned_and_exact(name: str, dtype: Any, frame: pd.DataFrame, tmp_path: Path) -> None:
    numbers = np.arange(N, dtype=np.uint64) + np.uint64(2**63 + 2**40 if dtype is np.uint64 else 0)
    WRITERS[name](frame.assign(event=numbers.astype(dtype), run=np.ones(N, dtype=dtype)), tmp_path / name)
    table = read_table(tmp_path / name)
    np.testing.assert_array_equal(table["event"], numbers)
    assert table["event"].dtype == table["run"].dtype == table["luminosityBlock"].dtype == np.uint64
    # numbers of two types would become floating point, which holds 53 bits
    other = Table({n: table[n] for n in table.columns}).with_columns(event=table["event"] + np.uint64(1))
    assert concatenate([table, other], "both")["event"].tolist() == [
        *numbers.tolist(),
        *(numbers + np.uint64(1)).tolist(),
    ]


def test_plain_h5py_datasets_are_columns(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "plain.h5"
    with h5py.File(path, "w") as file:
        for name in frame.columns:
            file[name] = frame[name].to_numpy()
        file["event"] = np.arange(N, dtype=np.uint32) + 7
        file["image"] = np.zeros((N, 3, 3))
        file["dataset"] = np.array([b"qcd"] * N)
    table = read_table(path)
    same(table, frame)
    assert table["event"][0] == 7
    assert set(table["dataset"]) == {"qcd"}
    assert "image" not in table
    assert table.metadata["identity"] == ["dataset", "event"]


def test_parquet_keeps_columns_types_and_metadata(tmp_path: Path) -> None:
    columns = {
        "dataset": np.array(["a", "b", "a"]),
        "event": np.array([1, 2, 2**63 + 5], dtype=np.uint64),
        "mjj": np.array([1.5, np.nan, 3.0], dtype=np.float32),
        "truth_signal": np.array([0, 1, 0], dtype=np.uint8),
    }
    path = tmp_path / "t.parquet"
    write_table(path, Table(columns, {"radius": 0.8, "ntrk": "charged"}))
    back = read_table(path)
    for name, values in columns.items():
        np.testing.assert_array_equal(back[name], values)
        assert back[name].dtype == values.dtype
    assert back.metadata["radius"] == 0.8
    assert back.metadata["identity"] == ["dataset", "event"]
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]


DEEP: dict[str, Callable[[np.random.Generator], np.ndarray[Any, Any]]] = {
    "image": lambda r: np.where(r.random((2300, 40, 40)) < 0.03, r.random((2300, 40, 40)), 0).astype(np.float32),
    "constituents": lambda r: r.normal(size=(30, 7, 3)),
    "strided": lambda r: r.normal(size=(5, 6, 60)).transpose(2, 0, 1)[::2, 1:],
    "vector": lambda r: r.integers(0, 200, (11, 3)).astype(np.uint8),
    "four axes, a missing number": lambda r: np.where(r.random((9, 2, 3, 4)) < 0.2, np.nan, 1.0),
    "flags": lambda r: r.random((8, 5)) < 0.5,
    "words": lambda r: np.array([["a", "bc"], ["def", ""]]),
    "no rows": lambda r: np.zeros((0, 40, 40), dtype=np.float32),
}


@pytest.mark.parametrize("name", DEEP)
def test_columns_of_more_axes_come_back(name: str, rng: np.random.Generator, tmp_path: Path) -> None:
    values = DEEP[name](rng)
    n, path = len(values), tmp_path / "t.parquet"
    columns = {"dataset": np.full(n, "jets"), "mJ_1": rng.normal(size=n), "image_1": values, "image_2": values[::-1]}
    write_table(path, Table(columns, {"representation": "images"}))
    back = read_table(path)
    assert set(back.columns) == {*columns, *IDENTITY}
    for key, expected in columns.items():
        np.testing.assert_array_equal(back[key], expected)
        assert back[key].shape == expected.shape
        if n:
            assert back[key].dtype == expected.dtype
    assert back["image_1"].dtype == values.dtype
    assert back["image_1"].flags.writeable  # torch takes no read-only arrays
    assert back.metadata["representation"] == "images"
    write_table(path, Table({"image_1": values}))
    np.testing.assert_array_equal(read_table(path)["image_1"], values)


def test_images_are_lists_of_fixed_size_whose_zeros_take_no_room(rng: np.random.Generator, tmp_path: Path) -> None:
    values = np.zeros((1500, 40, 40), dtype=np.float32)
    values[:, 20, 17] = rng.random(1500)
    write_table(tmp_path / "images.parquet", Table({"mjj": rng.normal(size=1500), "image_1": values}))
    file = pq.ParquetFile(tmp_path / "images.parquet")
    field = file.schema_arrow.field("image_1")
    assert (field.type.list_size, field.metadata[b"shape"]) == (1600, b"[40, 40]")
    assert (tmp_path / "images.parquet").stat().st_size < values.nbytes / 200
    assert file.num_row_groups == 2  # a reader can take some of the images
    write_table(tmp_path / "flat.parquet", Table({"mjj": rng.normal(size=1500)}))
    flat = pq.ParquetFile(tmp_path / "flat.parquet")
    assert flat.metadata.row_group(0).column(0).compression == "SNAPPY"
    assert flat.num_row_groups == 1


def test_lists_of_fixed_size_that_others_wrote_are_columns(tmp_path: Path) -> None:
    values = np.arange(12.0).reshape(4, 3)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 3)
    pq.write_table(pa.table({"x": lists}), tmp_path / "t.parquet")
    np.testing.assert_array_equal(read_table(tmp_path / "t.parquet")["x"], values)
    missing = pa.array([[1.0, 2.0], None, [3.0, 4.0]], type=pa.list_(pa.float64(), 2))
    pq.write_table(pa.table({"x": missing}), tmp_path / "m.parquet")
    with pytest.raises(InputError, match=r"m\.parquet: cannot be read as a table: column 'x' holds fixed_size_list"):
        read_table(tmp_path / "m.parquet", columns=["x"])


def test_columns_of_more_axes_are_selected_and_joined_but_are_no_feature(rng: np.random.Generator) -> None:
    values = rng.normal(size=(6, 4, 5))
    table = Table({"a": np.arange(6), "image_1": values}, source="one")
    assert len(table) == 6
    keep = np.array([True, False, True, True, False, False])
    np.testing.assert_array_equal(table.select(keep)["image_1"], values[keep])
    np.testing.assert_array_equal(table.select(np.array([5, 0]))["image_1"], values[[5, 0]])
    joined = concatenate([table, table.select(keep)], "both")
    np.testing.assert_array_equal(joined["image_1"], np.concatenate([values, values[keep]]))
    with pytest.raises(InputError, match=r"one: column 'image_1' holds an array of shape \(4, 5\) a row"):
        table.matrix(["a", "image_1"])
    with pytest.raises(InputError, match=r"two: column 'image_1' holds \(4, 4\) a row where one holds \(4, 5\)"):
        concatenate([table, Table({"a": np.arange(6), "image_1": values[:, :, 1:]}, source="two")], "both")
    with pytest.raises(InputError, match="differ in length"):
        Table({"a": np.arange(4), "image_1": values})


def test_the_source_of_filled_identity_survives_a_second_round(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.to_csv(tmp_path / "a.csv", index=False)
    write_table(tmp_path / "b.parquet", read_table(tmp_path / "a.csv"))
    again = read_table(tmp_path / "b.parquet")
    assert again.metadata["identity"] == []  # columns are there, but the user's file had none
    assert set(again["dataset"]) == {"a"}


def test_schema() -> None:
    assert len(QUAK_FEATURES) == 12
    assert set(QUAK_FEATURES) < set(DIJET_COLUMNS)
    assert DIJET_COLUMNS[:4] == IDENTITY
    assert len(DIJET_COLUMNS) == len(set(DIJET_COLUMNS)) == 20


# ------------------------------------------------------------------------------------------ refusals


def test_missing_column_names_file_and_nearest() -> None:
    table = Table({"mjj": np.ones(2), "tau21_1": np.ones(2)}, source="my.csv")
    with pytest.raises(InputError, match=r"my\.csv: no column 'tau21'; did you mean 'tau21_1'"):
        table["tau21"]
    with pytest.raises(InputError, match="did you mean 'mjj'"):
        table.matrix(["mj"])


def test_matrix_orders_columns_and_refuses_text() -> None:
    table = Table({"a": np.array([1, 2]), "b": np.array([3.0, 4.0]), "c": np.array(["x", "y"])}, source="s")
    np.testing.assert_array_equal(table.matrix(["b", "a"]), [[3, 1], [4, 2]])
    assert table.matrix([]).shape == (2, 0)
    with pytest.raises(InputError, match=r"s: column 'c' holds .* not numbers; first value"):
        table.matrix(["a", "c"])


def test_unequal_lengths_and_unequal_columns_are_refused() -> None:
    with pytest.raises(InputError, match="differ in length"):
        Table({"a": np.ones(2), "b": np.ones(3)})
    first, second = Table({"a": np.ones(2)}, source="one"), Table({"b": np.ones(2)}, source="two")
    with pytest.raises(InputError, match="two: columns differ from those of one: a, b"):
        concatenate([first, second], "both")
    joined = concatenate([first, first.with_columns(a=np.zeros(1))], "both")
    assert joined["a"].tolist() == [1, 1, 0]


def test_select_and_with_columns_leave_the_first_alone() -> None:
    table = Table({"a": np.arange(4)}, {"k": 1}, "s")
    assert table.select(np.array([True, False, False, True]))["a"].tolist() == [0, 3]
    assert "b" in table.with_columns(b=np.zeros(4))
    assert "b" not in table


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    for name, content, said in (
        ("a.parquet", b"PAR1 nothing", "cannot be read as a table"),
        ("b.h5", b"no HDF5", "not an HDF5 file; a table is expected"),
        ("c.csv", b"", "cannot be read as a table"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: {said}"):
            read_table(tmp_path / name)
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(InputError, match="is a directory"):
        read_table(tmp_path)
    (tmp_path / "d.txt").write_text("a\n1\n")
    with pytest.raises(InputError, match=r"not a table by its name; allowed: \.parquet"):
        read_table(tmp_path / "d.txt")
    assert is_table("A.PARQUET")
    assert not is_table("a.root")


def test_a_truncated_parquet_file_is_refused(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    frame.to_parquet(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"t\.parquet"):
        read_table(path)


def test_hdf5_of_two_tables_or_none_is_refused(frame: pd.DataFrame, tmp_path: Path) -> None:
    two = tmp_path / "two.h5"
    frame.to_hdf(two, key="first")
    frame.to_hdf(two, key="second")
    with pytest.raises(InputError, match=r"two\.h5.*first.*second"):
        read_table(two)
    with h5py.File(tmp_path / "none.h5", "w") as file:
        file["image"] = np.zeros((2, 2))
    with pytest.raises(InputError, match=r"none\.h5.*one-dimensional"):
        read_table(tmp_path / "none.h5")


# ------------------------------------------------------------------------------------------ parts, columns, slices


def parted(path: Path, whole: Table, sizes: list[int]) -> Path:
    """Write a table in parts of these sizes."""
    ends = np.cumsum([0, *sizes])
    with write_folder_aside(path) as folder:
        for number, (start, stop) in enumerate(itertools.pairwise(ends.tolist())):
            write_part(folder, f"{number:05d}", whole[start:stop])
        write_parts_record(folder, list(whole.columns), whole.metadata, rows=len(whole))
    return path


@pytest.fixture
def whole(rng: np.random.Generator) -> Table:
    columns = {
        "dataset": np.array(["a", "bcd"] * 5),
        "event": np.arange(10, dtype=np.uint64) + np.uint64(2**63),
        "mjj": rng.normal(size=10),
        "image_1": rng.random((10, 4, 4)).astype(np.float32),
    }
    return Table(columns, {"identity": ["dataset", "event"], "representation": "images"})


def test_a_folder_of_parts_is_the_table_that_was_parted(whole: Table, tmp_path: Path) -> None:
    path = parted(tmp_path / "t.parquet", whole, [4, 0, 6])
    assert is_table(path)
    assert is_table_folder(path)
    back = read_table(path)
    assert list(back.columns) == list(whole.columns)
    for name, values in whole.columns.items():
        np.testing.assert_array_equal(back[name], values)
        assert back[name].dtype.kind == values.dtype.kind
    assert back.metadata == whole.metadata
    assert [len(part) for part in table_parts(path)] == [4, 0, 6]
    info = table_info(path)
    assert (info.columns, info.rows) == (tuple(whole.columns), 10)
    # others read it as they read every folder of parquet files
    assert pd.read_parquet(path)["mjj"].tolist() == whole["mjj"].tolist()


def test_only_the_columns_asked_for_are_read(whole: Table, tmp_path: Path) -> None:
    single = tmp_path / "single.parquet"
    write_table(single, whole)
    for path in (parted(tmp_path / "t.parquet", whole, [3, 7]), single):
        assert set(read_table(path, columns=["mjj"]).columns) >= {"dataset", "event", "mjj"}
        assert "image_1" not in read_table(path, columns=["mjj"])
        with pytest.raises(InputError, match=r"parquet: no column 'mj'; did you mean 'mjj'"):
            read_table(path, columns=["mj"])
    whole[["mjj"]].to_pandas().to_csv(tmp_path / "t.csv", index=False)
    assert "mjj" in read_table(tmp_path / "t.csv", columns=["mjj"])
    with pytest.raises(InputError, match="did you mean 'mjj'"):
        read_table(tmp_path / "t.csv", columns=["mj"])


def test_a_folder_with_a_part_too_few_or_no_record_is_refused(whole: Table, tmp_path: Path) -> None:
    path = parted(tmp_path / "t.parquet", whole, [4, 6])
    record = (path / PARTS_RECORD).read_text()
    (path / "00001.parquet").unlink()
    with pytest.raises(InputError, match=r"its parts hold 4 rows, _table\.json says 10"):
        read_table(path)
    (path / PARTS_RECORD).write_text(record[:20])
    with pytest.raises(InputError, match=r"_table\.json: truncated or no JSON"):
        read_table(path)
    (path / PARTS_RECORD).unlink()
    assert not is_table_folder(path)
    with pytest.raises(InputError, match=r"is a directory without _table\.json"):
        read_table(path)


def test_rows_are_sliced_and_columns_chosen(whole: Table) -> None:
    assert whole[2:5]["event"].tolist() == whole["event"][2:5].tolist()
    assert list(whole[["mjj", "event"]].columns) == ["mjj", "event"]
    with pytest.raises(InputError, match="did you mean 'mjj'"):
        whole[["mj"]]
    with pytest.raises(TypeError, match="a column's name, a list of names, or a slice of rows; found 5"):
        whole[5]  # type: ignore[call-overload]
    frame = whole.to_pandas()
    assert list(frame.columns) == list(whole.columns)
    np.testing.assert_array_equal(frame["image_1"][3], whole["image_1"][3])
    assert repr(whole) == "Table(10 rows of table: dataset, event, mjj, image_1 (4, 4))"
    wide = repr(Table({f"c{i}": np.ones(1) for i in range(40)}))
    assert wide.endswith("c14, c15, ... 40 columns)")


def test_an_observable_shows_names_of_others_as_they_are() -> None:
    assert Observable().axis_label == r"$m_{jj}$ [GeV]"
    assert Observable.of("mJ_1").axis_label == "mJ_1 [GeV]"
    assert Observable.of("my_$mass", "").axis_label == r"my_\$mass"


def test_a_column_of_others_called_as_ours_is_left_out(tmp_path: Path) -> None:
    """Who an event is would be told by a number of which nobody knows what it means."""
    frame = pd.DataFrame({"mjj": [1.0, 2.0], EVENT_ID: [7, 7]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet", index=False)
    for name in ("t.csv", "t.parquet"):
        assert EVENT_ID not in read_table(tmp_path / name)
        assert EVENT_ID not in table_info(tmp_path / name).columns
    own = Table({"mjj": np.ones(2), EVENT_ID: np.arange(2, dtype=np.uint64)}, {"representation": "features"})
    write_table(tmp_path / "own.parquet", own)
    assert EVENT_ID in read_table(tmp_path / "own.parquet")


def test_a_parquet_file_of_more_rows_than_it_can_mean_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """Parquet stores a value that repeats once: a file of some kilobytes can stand for any number of rows."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    part = pa.table({"mjj": np.full(1_000_000, 1.0)})
    with pq.ParquetWriter(tmp_path / "t.parquet", part.schema) as writer:
        for _ in range(40):
            writer.write_table(part)
    assert (tmp_path / "t.parquet").stat().st_size < 1_000_000
    with pytest.raises(
        InputError, match=r"t\.parquet: a table of 40,000,000 rows takes 320,000,000 bytes in memory, the file has"
    ):
        read_table(tmp_path / "t.parquet")


def test_a_table_written_in_pieces_is_read_as_one(tmp_path: Path) -> None:
    path, rng = tmp_path / "t.parquet", np.random.default_rng(0)
    sets, mass = rng.random((50, 4, 3), dtype=np.float32), rng.random(50)
    with table_writer(path, {"representation": "objects"}) as write:
        for piece in (slice(0, 20), slice(20, 50)):
            write({"objects": sets[piece], "mass": mass[piece]})
        assert not path.exists()
    table = read_table(path)
    np.testing.assert_array_equal(table["objects"], sets)
    np.testing.assert_array_equal(table["mass"], mass)
    assert table.metadata["representation"] == "objects"
    with pytest.raises(KeyError), table_writer(tmp_path / "other.parquet", {}) as write:
        write({"objects": {}["sets"]})
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]
