"""CSV and parquet of others: every row is read or its line is named, and columns nobody asked for are in nobody's way."""

from __future__ import annotations

import datetime as dt
import decimal
import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hunch.errors import InputError
from hunch.table import read_table, table_info

HEADER = "mjj,mJ_1\n"
ROWS = "1147.5,86.9\n1321.25,96.4\n1502.5,117.7\n"
MASSES = [1147.5, 1321.25, 1502.5]
READABLE = {
    "plain": (HEADER + ROWS).encode(),
    "mark": b"\xef\xbb\xbf" + (HEADER + ROWS).encode(),
    "UTF-16": (HEADER + ROWS).encode("utf-16"),
    "UTF-16, comment, Windows line ends": ("# µ\n" + HEADER + ROWS).replace("\n", "\r\n").encode("utf-16"),
    "Windows line ends": (HEADER + ROWS).replace("\n", "\r\n").encode(),
    "old Mac line ends": (HEADER + ROWS).replace("\n", "\r").encode(),
    "line ends of two kinds": (HEADER + ROWS.replace("\n", "\r\n")).encode(),
    "quoted": ('"mjj","mJ_1"\n' + ROWS).encode(),
    "comments": (
        "# by my skim, at 13 TeV\n\n" + HEADER + ROWS.replace("\n1502", "\n# half, of it, is here\n1502")
    ).encode(),
    "semicolons": (HEADER + ROWS).replace(",", ";").encode(),
    "tabs": (HEADER + ROWS).replace(",", "\t").encode(),
    "spaces": (HEADER + ROWS).replace(",", " , ").encode(),
    "signs": (HEADER + ROWS).replace("1147", "+1147").encode(),
    "a column of text and a repeated one": "mjj,a,a\n1147.5,x,1\n1321.25,y,1\n1502.5,µ,1\n".encode(),
}
"""Kind of CSV -> bytes of a file that holds the three masses."""


@pytest.mark.parametrize("kind", READABLE)
def test_every_kind_of_csv_gives_its_rows(kind: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(READABLE[kind])
    assert read_table(tmp_path / "t.csv", ["mjj"])["mjj"].tolist() == MASSES
    assert table_info(tmp_path / "t.csv").rows == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ((HEADER + ROWS)[:-8].encode(), ["line 4 has 1 values", "names 2 columns", "'1502.'", "cut off"]),
        ((HEADER + "1,2\n3\n4,5\n").encode(), ["line 3 has 1 values", "'3'"]),
        (b"mjj,mJ_1\n0,1147.5,86.9\n1,1321.25,96.4\n", ["line 2 has 3 values", "names 2 columns"]),
        (ROWS.encode(), ["line 1 holds numbers"]),
        (b"mjj,mjj\n1,2\n", ["'mjj' is there 2 times"]),
        ((HEADER + ROWS).encode("utf-16-le"), ["NUL bytes", "UTF-8"]),
        (gzip.compress((HEADER + ROWS).encode(), mtime=0), ["gzip", "unpack"]),
        (b"# nothing\n\n", ["empty"]),
        (b'mjj,region\n1147.5,"a\n1321.25,b\n1502.5,c\n', ["'region'", "quote"]),
        (b"mjj,region\n1147.5,a\n1321.25,\xb5\n", ["line 3", "UTF-8", "0xb5"]),
        ((HEADER + ROWS).encode() + bytes(9), ["line 5", "NUL"]),
    ],
)
def test_a_csv_with_a_broken_row_is_refused(content: bytes, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"t\.csv: cannot be read as a table") as caught:
        read_table(tmp_path / "t.csv")
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "cut off" in words or "cut off" not in str(caught.value)


def test_a_last_line_without_an_end_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Cut inside its last number a file is as whole as ever; only the missing line end shows that it may be."""
    (tmp_path / "t.csv").write_text((HEADER + ROWS)[:-3])
    assert read_table(tmp_path / "t.csv")["mJ_1"].tolist() == [86.9, 96.4, 117.0]
    assert "the last line has no line end (1502.5,117)" in caplog.text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1147,46", "'1147,46' in row 0; write decimals with a point"),
        ("1e3\n1_000", "'1_000' in row 1"),
        ("-", "'-' in row 0"),
    ],
)
def test_what_is_no_number_is_shown(text: str, value: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("mjj;x\n" + text.replace("\n", ";1\n") + ";1\n")
    with pytest.raises(InputError) as caught:
        read_table(tmp_path / "t.csv").matrix(["mjj"])
    assert value in str(caught.value)


def test_digits_of_an_event_and_names_of_a_dataset_stay(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "dataset,run,event,x\nno,1,18446744073709551615,1\nNA,1,5,\n007,2,9007199254740993,3\n"
    )
    table = read_table(tmp_path / "t.csv")
    assert table["dataset"].tolist() == ["no", "NA", "007"]
    assert table["event"].tolist() == [18446744073709551615, 5, 9007199254740993]
    assert np.isnan(table["x"]).tolist() == [False, True, False]


NUMBERS = {
    "decimal128": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("2.25")]),
    "decimal256": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("2.25")], pa.decimal256(50, 2)),
    "float16": pa.array([1.5, None, 2.25], pa.float16()),
    "dictionary": pa.array([1.5, None, 2.25]).dictionary_encode(),
}
TEXTS = {"string": pa.string(), "large": pa.large_string(), "view": pa.string_view(), "binary": pa.binary()}


def test_types_of_parquet_that_are_numbers_or_text(tmp_path: Path) -> None:
    big = [decimal.Decimal(2**63), decimal.Decimal(5), decimal.Decimal(7)]
    columns = {
        **NUMBERS,
        **{name: pa.array(["a", None, "ccc"], kind) for name, kind in TEXTS.items()},
        "coded": pa.array(["a", None, "ccc"]).dictionary_encode(),
        "event": pa.array(big),
        "flag": pa.array([True, None, False]),
        "null": pa.nulls(3),
        "lists": pa.array([[1, 2], [3, 4], [5, 6]]),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    for name in NUMBERS:
        np.testing.assert_array_equal(table[name], [1.5, np.nan, 2.25], err_msg=name)
    for name in (*TEXTS, "coded"):
        assert table[name].tolist() == ["a", "", "ccc"], name
    assert table["event"].tolist() == [2**63, 5, 7]
    np.testing.assert_array_equal(table["flag"], [1, np.nan, 0])
    assert np.isnan(table["null"]).all()
    assert table["lists"].tolist() == [[1, 2], [3, 4], [5, 6]]


def test_what_no_array_holds_is_refused_only_where_it_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, shared_data: Callable[[str], Path]
) -> None:
    odd = {
        "ragged": pa.array([[1.0], [], [2.0, 3.0]]),
        "struct": pa.array([{"a": 1}, {"a": 2}, {"a": 3}]),
        "time": pa.array([dt.time(1)] * 3),
        "bytes": pa.array([b"\xff", b"a", b"b"]),
    }
    pq.write_table(pa.table({"mjj": MASSES, **odd}), tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet", ["mjj"])["mjj"].tolist() == MASSES
    assert not caplog.text
    assert set(odd).isdisjoint(read_table(tmp_path / "t.parquet").columns)
    for name in odd:
        assert f"left out: column {name!r} holds" in caplog.text
        with pytest.raises(InputError, match=rf"t\.parquet: cannot be read as a table: column '{name}' holds"):
            read_table(tmp_path / "t.parquet", [name])
    one = shared_data("found/parquet_list_column/one_list.parquet")
    assert len(read_table(one, ["mjj", "a"])) == 50
    with pytest.raises(InputError, match="column 'x' holds list"):
        read_table(one, ["x"])
