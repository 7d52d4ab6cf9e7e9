"""Tables: what is written comes back; identities, folds and hashes are the same everywhere; no half file stays."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hunch.errors import InputError
from hunch.files import write_aside, write_json
from hunch.folds import content_hash, fold_of, identity_hash, known_identities, shared_events
from hunch.table import DIJET_COLUMNS, IDENTITY, QUAK_FEATURES, Table, concatenate, is_table, read_table, write_table

N = 40
GOLDEN_HASH = [13195752971741037351, 6974385482646569342, 935600215895643033]
GOLDEN_FOLD = [1, 4, 2, 0, 1, 0, 0, 0, 1, 4, 3, 0]


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
    with pytest.raises(InputError, match=r"m\.parquet: cannot be read as a table"):
        read_table(tmp_path / "m.parquet")


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


@pytest.mark.parametrize("representation", ["dijet", "images", "constituents"])
def test_simulated_events_are_not_known_by_their_numbers(representation: str, tmp_path: Path) -> None:
    table = events(5).with_columns(run=np.array([1, 1, 7, 7, 1]))
    write_table(tmp_path / "t.parquet", Table(table.columns, {"representation": representation}))
    assert len(known_identities(read_table(tmp_path / "t.parquet"))) == 2


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
    for name, content in (("a.parquet", b"PAR1 nothing"), ("b.h5", b"no HDF5"), ("c.csv", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: cannot be read as a table"):
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


@pytest.mark.parametrize("bad", [np.array([1.5, 2.0]), np.array([np.nan, 1.0]), np.array(["a", "b"])])
def test_identity_columns_hold_integers(bad: np.ndarray[Any, Any]) -> None:
    table = Table({"dataset": np.array(["d", "d"]), "run": np.ones(2), "luminosityBlock": np.ones(2), "event": bad})
    with pytest.raises(InputError, match="'event' identifies events"):
        identity_hash(table)


# ------------------------------------------------------------------------------------------ writing aside


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "out.txt"
    with write_aside(path) as aside:
        aside.write_text("old")

    def fail(error: BaseException) -> None:
        with write_aside(path) as aside:
            aside.write_text("half")
            assert aside.suffix == path.suffix
            raise error

    for error in (RuntimeError("full disk"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            fail(error)
        assert [p.name for p in path.parent.iterdir()] == ["out.txt"]
        assert path.read_text() == "old"


def test_a_directory_is_no_file_to_write(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory"), write_aside(tmp_path):
        pass


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_is_strict(value: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "r.json", {"best": {"p": value}})
    assert list(tmp_path.iterdir()) == []


def test_json_round_trip(tmp_path: Path) -> None:
    write_json(tmp_path / "r.json", {"p": 1e-300, "name": "ψ"})
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8")) == {"p": 1e-300, "name": "ψ"}


# ------------------------------------------------------------------------------------------ identity, folds, content


def events(n: int, dataset: str = "qcd", dtype: Any = np.int64, start: int = 0) -> Table:
    ones = np.ones(n, dtype=dtype)
    return Table(
        {
            "dataset": np.full(n, dataset),
            "run": ones,
            "luminosityBlock": ones,
            "event": np.arange(start, start + n).astype(dtype),
        }
    )


def test_folds_never_change() -> None:
    """Values written down once: another version that changes them would hunt events with models that saw them."""
    assert identity_hash(events(3)).tolist() == GOLDEN_HASH
    assert fold_of(identity_hash(events(12)), 5).tolist() == GOLDEN_FOLD


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.uint64, np.float64])
def test_identity_does_not_depend_on_the_integer_type(dtype: Any) -> None:
    np.testing.assert_array_equal(identity_hash(events(100, dtype=dtype)), identity_hash(events(100)))


def test_identity_depends_on_every_column() -> None:
    base = identity_hash(events(50))
    for name in IDENTITY[1:]:
        moved = events(50)
        moved = moved.with_columns(**{name: moved[name] + 1000})
        assert not np.isin(identity_hash(moved), base).any()
    assert not np.isin(identity_hash(events(50, "other")), base).any()


@pytest.mark.parametrize("n_folds", [2, 5, 7])
def test_folds_are_uniform_and_independent_of_the_event_number(n_folds: int) -> None:
    folds = fold_of(identity_hash(events(20_000)), n_folds)
    assert folds.min() == 0
    assert folds.max() == n_folds - 1
    assert stats.chisquare(np.bincount(folds)).pvalue > 0.001
    pairs = np.bincount(folds[1:] * n_folds + folds[:-1], minlength=n_folds**2)
    assert stats.chisquare(pairs).pvalue > 0.001


rows = st.lists(
    st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=3, max_size=3), min_size=1, max_size=30
)


@settings(max_examples=60, deadline=None)
@given(values=rows, seed=st.integers(0, 1000))
def test_content_hash_follows_the_rows(values: list[list[float]], seed: int) -> None:
    x = np.array(values)
    order = np.random.default_rng(seed).permutation(len(x))
    np.testing.assert_array_equal(content_hash(x[order]), content_hash(x)[order])
    # rows that are equal have equal hashes whatever stands around them, and through single precision
    np.testing.assert_array_equal(content_hash(x[:1]), content_hash(x)[:1])
    np.testing.assert_array_equal(content_hash(x.astype(np.float32).astype(np.float64)), content_hash(x))


def test_content_hash_tells_columns_zeros_and_nans() -> None:
    x = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0], [-0.0, np.nan], [0.0, -np.nan]])
    h = content_hash(x)
    assert h[0] == h[2]
    assert h[0] != h[1]
    assert h[3] == h[4]
    assert content_hash(x + 1e-3)[0] != h[0]


def test_real_overlap_is_counted_and_its_absence_is_zero(rng: np.random.Generator) -> None:
    first, second = (content_hash(rng.normal(size=(5000, 4))) for _ in range(2))
    assert shared_events(first, second) == 0
    assert shared_events(first, np.concatenate([second, first[:3]])) == 3
    assert shared_events(first, first) == 5000
    assert shared_events(first[:0], second) == 0


def test_coarse_tables_raise_no_false_alarm(rng: np.random.Generator) -> None:
    """Twenty integer values in two columns repeat by chance; half of a sample given twice does not."""
    for _ in range(10):
        first, second = (content_hash(rng.integers(0, 20, size=(2000, 2)).astype(float)) for _ in range(2))
        assert np.isin(first, second).sum() > 1500
        assert shared_events(first, second) == 0
    fine = [content_hash(rng.integers(0, 300, size=(3000, 2)).astype(float)) for _ in range(2)]
    assert shared_events(fine[0], fine[1]) == 0
    assert shared_events(fine[0], np.concatenate([fine[1], fine[0][:1500]])) >= 1500
