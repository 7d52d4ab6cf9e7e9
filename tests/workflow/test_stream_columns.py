"""Columns of a stream are taken by the names that the scorer was trained on; what does not fit is refused or said."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hunch.errors import InputError
from hunch.models import Flow, Quak, Sample, ScorerSpace
from hunch.models.export.onnx_export import export_onnx
from hunch.table import QUAK_FEATURES, Table, read_table, write_part, write_parts_record
from hunch.workflow import stream
from hunch.workflow.stream import stream_scores

QUICK = {"device": "cpu", "max_epochs": 1, "hidden": 4, "steps": 1}
SCALES = (1.0, 100.0, 1e4)


def rows(n: int = 120, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(SCALES, np.array(SCALES) / 10, size=(n, 3))


@pytest.fixture(scope="module")
def flow() -> Flow:
    return Flow(**QUICK).fit(Sample(rows(), ("a", "b", "c")))


@pytest.fixture(scope="module")
def folder(flow: Flow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("columns") / "scorer"
    flow.save(path)
    return path


Scored = Callable[..., np.ndarray]


@pytest.fixture
def scored(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scored:
    """Scores of a text of CSV on standard input."""

    def scores(
        text: str | bytes, *, scorer: Path = folder, columns: tuple[str, ...] | None = None, **options: bool
    ) -> np.ndarray:
        given = text.encode() if isinstance(text, str) else text
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        stream_scores(scorer, output=tmp_path / "out.csv", columns=columns, **options)
        return pd.read_csv(tmp_path / "out.csv")["score"].to_numpy()

    return scores


def test_the_order_of_hunchs_own_table_gives_the_scores_of_the_order_of_training(
    shared_data: Callable[[str], Path], tmp_path: Path
) -> None:
    plain, other = (shared_data(f"found/stream_column_order/{name}.csv") for name in ("plain", "tableorder"))
    inputs = pd.read_csv(plain)[list(QUAK_FEATURES)].to_numpy()
    x = np.random.default_rng(0).normal(inputs.mean(axis=0), inputs.std(axis=0) + 0.01, size=(200, 12))
    quak = Quak(**QUICK, family=False).fit(Sample(x, QUAK_FEATURES))
    quak.save(tmp_path / "scorer")
    exported = export_onnx(quak, tmp_path / "scorer.onnx")
    for scorer in (tmp_path / "scorer", exported):
        for source in (plain, other):
            stream_scores(scorer, [source], tmp_path / "out.csv")
            found = pd.read_csv(tmp_path / "out.csv")["score"]
            np.testing.assert_allclose(found, quak.score(inputs), rtol=1e-9)
    for source in (plain, other):
        np.testing.assert_array_equal(quak.score(pd.read_csv(source)), quak.score(inputs))
        np.testing.assert_array_equal(quak.score(read_table(source)), quak.score(inputs))


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n \n", "\ufeff\n"])
def test_a_header_in_another_order_and_of_any_writing(
    scored: Scored, flow: Flow, newline: str, quote: str, start: str
) -> None:
    x = rows(3, 1)
    header = ",".join(f"{quote}{name}{quote}" for name in ("c", "event", "a", "mjj", "b"))
    lines = [header, "", *(f"{c!r},{i},{a!r},nan, {b!r}" for i, (a, b, c) in enumerate(x.tolist()))]
    np.testing.assert_array_equal(scored(start + newline.join([*lines, ""])), flow.score(x))


def test_parquet_and_tables_in_parts_are_taken_by_name_too(flow: Flow, folder: Path, tmp_path: Path) -> None:
    x = rows(6, 1)
    columns = {"b": x[:, 1], "event": np.arange(6), "c": x[:, 2], "a": x[:, 0]}
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    (tmp_path / "parts.parquet").mkdir()
    for i in (0, 3):
        write_part(tmp_path / "parts.parquet", f"{i}", Table({n: v[i : i + 3] for n, v in columns.items()}))
    write_parts_record(tmp_path / "parts.parquet", list(columns), {}, rows=6)
    for name in ("in.parquet", "parts.parquet"):
        assert stream_scores(folder, [tmp_path / name], tmp_path / "out.csv").rows == 6
        np.testing.assert_array_equal(pd.read_csv(tmp_path / "out.csv")["score"], flow.score(x))


def test_surplus_columns_are_said_once(
    scored: Scored, flow: Flow, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BLOCK", 10)
    x = rows(4, 1)
    text = "a,deta,b,c,mjj\n" + "".join(f"{a!r},1,{b!r},{c!r},2\n" for a, b, c in x.tolist())
    np.testing.assert_array_equal(scored(text), flow.score(x))
    assert [r.getMessage() for r in caplog.records] == [
        "standard input: columns that the scorer does not read are left out: deta"
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b,d\n1,2,3\n", "no column 'c'; allowed: a, b, d; the scorer was trained on it"),
        ("a,bb\n1,2\n", "no column 'b'; did you mean 'bb'\\? .*; 2 of 3 are missing: b, c"),
        ("a,b,c,a\n1,2,3,4\n", "column 'a' is there 2 times"),
        ("1,2,3\n1,2,3\n", "line 1 holds numbers"),
        ("qcd,1,1,7,1.0,2.0,3.0\n", "line 1 holds numbers"),
        ("a;b;c\n1;2;3\n", "cut at semicolons"),
        ("a\tb\tc\n1\t2\t3\n", "cut at tabs"),
        ("a,b,c\r1,2,3\r", "lines end as on old Macs"),
        ("", "empty; a header line"),
        ("\n\n", "empty; a header line"),
        ("a,b,c\n1,2,3\na,b,c\n1,2,3\n", "line 3, the header comes again"),
        ("a,b,c\n1,2,3\n1,2", "line 3, 2 values, the header names 3 columns"),
        ("a,b,c\n1,2,\n", "line 2, column 'c': '' is no finite number"),
        ("a,b,c\n1,NaN,3\n", "line 2, column 'b': 'NaN' is no finite number"),
        (b"a,b,c\n1,2\x003,4\n", "line 2, "),
        (b"\xff\xfea\x00,\x00b\x00\n", "line 1: no UTF-8 text"),
    ],
)
def test_what_is_wrong_is_named(scored: Scored, text: str | bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^standard input: .*{said}"):
        scored(text)
    assert not (tmp_path / "out.csv").exists()


def test_a_header_in_the_middle_is_skipped_where_it_is_the_same_and_else_never(scored: Scored, flow: Flow) -> None:
    text = "a,b,c\n1,100,10000\na,b,c\n1,101,10000\n"
    np.testing.assert_array_equal(scored(text, skip_bad=True), flow.score([[1, 100, 1e4], [1, 101, 1e4]]))
    with pytest.raises(InputError, match=r"line 3 is another header \(c, b, a\)"):
        scored("a,b,c\n1,100,10000\nc,b,a\n10000,101,1\n", skip_bad=True)


def test_a_last_line_without_its_end_is_said(scored: Scored, caplog: pytest.LogCaptureFixture) -> None:
    assert len(scored("a,b,c\n1,100,10000\n1,100,10")) == 2
    assert "standard input: line 3, the last one, has no end: it may be cut off" in caplog.text


def test_columns_of_other_names_stand_for_those_of_the_training(
    scored: Scored, flow: Flow, caplog: pytest.LogCaptureFixture
) -> None:
    text, expected = "z,y,x\n10000,100,1\n", flow.score([[1, 100, 1e4]])
    np.testing.assert_array_equal(scored(text, columns=("x", "y", "z")), expected)
    assert "columns are taken as --columns says: x as a, y as b, z as c" in caplog.text
    own = "c,b,a\n10000,100,1\n"
    for order in (("a", "b", "c"), ("c", "a", "b")):
        np.testing.assert_array_equal(scored(own, columns=order), expected)
    with pytest.raises(InputError, match="--columns: 'c' stands in the place of 'b'"):
        scored("a,c,x\n1,2,3\n", columns=("a", "c", "x"))
    with pytest.raises(
        InputError, match=r"--columns: 2 columns are named \(a, b\), the scorer was trained on 3: a, b, c"
    ):
        scored(own, columns=("a", "b"))
    with pytest.raises(InputError, match="--columns: 'a' is named twice"):
        scored(own, columns=("a", "b", "a"))


def test_a_scorer_without_names_says_which_columns_it_takes(
    scored: Scored, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bare = Flow(**QUICK).fit(rows())
    bare.save(tmp_path / "bare")
    np.testing.assert_array_equal(
        scored("y,event,x,z\n1,7,100,10000\n", scorer=tmp_path / "bare"), bare.score([[1, 100, 1e4]])
    )
    assert "knows no names of its inputs (it was trained on an array, or stored by an older version)" in caplog.text
    assert "columns are taken in this order: y, x, z; --columns names them in the order of training" in caplog.text


def test_names_may_be_numbers(scored: Scored, tmp_path: Path) -> None:
    named = Flow(**QUICK).fit(pd.DataFrame(rows()))
    named.save(tmp_path / "numbers")
    found = scored("2,0,1\n10000,1,100\n", scorer=tmp_path / "numbers")
    np.testing.assert_array_equal(found, named.score([[1, 100, 1e4]]))


def test_a_space_takes_the_columns_of_each_axis(scored: Scored, tmp_path: Path) -> None:
    x = pd.DataFrame(rows(), columns=["a", "b", "c"])
    space = ScorerSpace(Flow(**QUICK), {"near": Flow(**QUICK)})
    space.fit({"background": x, "near": x[["c", "a", "b"]]}, priors={"near": x}).save(tmp_path / "space")
    found = scored("b,c,a\n100,10000,1\n", scorer=tmp_path / "space")
    np.testing.assert_allclose(found, space.score(pd.DataFrame({"a": [1.0], "b": [100.0], "c": [1e4]})))
