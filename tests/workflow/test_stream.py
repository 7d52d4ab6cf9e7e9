"""Streams of rows scored in bounded memory: what comes out is what the scorer gives, and what is wrong is named."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hunch.errors import InputError
from hunch.models import NAE, EventToEnsemble, Flow, ScorerError, ScorerSpace, UnknownMetricError, load_scorer
from hunch.models.export.onnx_export import export_onnx
from hunch.models.sample import Sample
from hunch.table import Table, read_table, write_table
from hunch.workflow import stream
from hunch.workflow.stream import stream_scores

NAMES = ("a", "b", "c")
SCRIPT = "import sys; from hunch.workflow.stream import stream_scores; stream_scores(sys.argv[1])"


def rows_of(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3))


@pytest.fixture(scope="module")
def scorer() -> Flow:
    return Flow(seed=0, max_epochs=2, hidden=8, device="cpu").fit(rows_of(300))


@pytest.fixture(scope="module")
def folder(scorer: Flow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stream") / "scorer"
    scorer.save(path)
    return path


def csv_text(x: np.ndarray, *, names: tuple[str, ...] = NAMES, newline: str = "\n") -> str:
    return newline.join([",".join(names), *(",".join(map(repr, row)) for row in x.tolist())]) + newline


def scores_in(path: Path) -> np.ndarray:
    return np.array([float(line.rsplit(",", 1)[-1]) for line in path.read_text().splitlines()[1:]])


def give_input(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_blocks_of_any_size_give_the_scores_of_the_whole(
    scorer: Flow, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newline: str
) -> None:
    x = rows_of(400, 1)
    (tmp_path / "in.csv").write_text(csv_text(x, newline=newline).rstrip(), newline="")  # no line end at the end
    for block in (100, 4096, 1 << 20):
        monkeypatch.setattr(stream, "BLOCK", block)
        report = stream_scores(folder, [tmp_path / "in.csv"], tmp_path / "out.csv")
        assert (report.rows, report.skipped) == (400, 0)
        assert np.allclose(scores_in(tmp_path / "out.csv"), scorer.score(x), rtol=1e-12, atol=0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_identity_goes_through_and_other_columns_do_not_count(scorer: Flow, folder: Path, tmp_path: Path) -> None:
    x = rows_of(3, 2)
    lines = ["mjj,event,b,dataset,a,c,truth_signal"]
    lines += [f'{3000 + i},{2**63 + i},{b!r},"a ""b"", {i}",{a!r},{c!r},1' for i, (a, b, c) in enumerate(x.tolist())]
    (tmp_path / "in.csv").write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    stream_scores(folder, [tmp_path / "in.csv"], tmp_path / "out.csv", columns=NAMES)
    out = (tmp_path / "out.csv").read_text().splitlines()
    assert out[0] == "dataset,event,score"
    assert out[1].startswith(f'"a ""b"", 0",{2**63},')
    assert np.array_equal(scores_in(tmp_path / "out.csv"), scorer.score(x))
    stream_scores(folder, [tmp_path / "in.csv"], tmp_path / "out.csv")  # by number of columns: in the file's order
    assert np.array_equal(scores_in(tmp_path / "out.csv"), scorer.score(x[:, [1, 0, 2]]))


def test_parquet_csv_and_onnx_say_the_same(scorer: Flow, folder: Path, tmp_path: Path) -> None:
    x = rows_of(9000, 3)
    columns = {"dataset": ["d"] * 9000, "event": np.arange(9000, dtype=np.uint64), **dict(zip(NAMES, x.T, strict=True))}
    pq.write_table(pa.table(columns), tmp_path / "in.parquet", row_group_size=5000)
    assert stream_scores(folder, [tmp_path / "in.parquet"], tmp_path / "out.csv", metric="latent").rows == 9000
    assert np.array_equal(scores_in(tmp_path / "out.csv"), scorer.score(x, metric="latent"))
    assert (tmp_path / "out.csv").read_text().splitlines()[9000].startswith("d,8999,")
    exported = export_onnx(scorer, tmp_path / "m.onnx")
    report = stream_scores(exported, [tmp_path / "in.parquet", tmp_path / "in.parquet"], tmp_path / "out.csv")
    assert report.rows == 18000
    np.testing.assert_allclose(scores_in(tmp_path / "out.csv"), np.tile(scorer.score(x), 2), rtol=1e-9)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1,nan,3", "line 4, column 'b': 'nan' is no finite number"),
        ("1,2,-inf", "line 4, column 'c': '-inf' is no finite number"),
        ("1e999,2,3", "line 4, column 'a': '1e999' is no finite number"),
        ("1,,3", "line 4, column 'b': '' is no finite number"),
        ("1,1_0,3", "line 4, column 'b': '1_0' is no finite number"),
        ("1,x,3", "line 4, column 'b': 'x' is no finite number"),
        ("1,2", "line 4, 2 values, the header names 3 columns"),
        ("1,2,3,4", "line 4, 4 values, the header names 3 columns"),
    ],
)
def test_bad_rows_are_named_or_counted(
    scorer: Flow, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    text = "a,b,c\n1,2,3\n\n" + line + "\n4,5,6\n"  # the blank line counts as a line, not as a row
    give_input(monkeypatch, text)
    with pytest.raises(InputError) as error:
        stream_scores(folder, output=tmp_path / "out.csv")
    assert str(error.value) == f"standard input: {said}"
    assert list(tmp_path.iterdir()) == []
    give_input(monkeypatch, text)
    report = stream_scores(folder, output=tmp_path / "out.csv", skip_bad=True)
    assert (report.rows, report.skipped, report.first_skipped) == (2, 1, f"standard input: {said}")
    assert np.array_equal(scores_in(tmp_path / "out.csv"), scorer.score([[1, 2, 3], [4, 5, 6]]))


def test_line_numbers_hold_in_later_blocks(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BLOCK", 64)
    (tmp_path / "in.csv").write_text(csv_text(rows_of(50)) + "1,2,oops\n")
    with pytest.raises(InputError, match=r"in\.csv: line 52, column 'c': 'oops'"):
        stream_scores(folder, [tmp_path / "in.csv"], tmp_path / "out.csv")


def test_missing_values_of_parquet_are_bad_rows(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BATCH", 1)
    columns = {"a": pa.array([1.0, None, 2.0]), "b": pa.array([1, 2, None]), "c": pa.array([True, False, True])}
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    with pytest.raises(InputError, match=r"in\.parquet: row 1, column 'a': nan is no finite number"):
        stream_scores(folder, [tmp_path / "in.parquet"], tmp_path / "out.csv")
    report = stream_scores(folder, [tmp_path / "in.parquet"], tmp_path / "out.csv", skip_bad=True)
    assert (report.rows, report.skipped) == (1, 2)


def test_what_is_wrong_with_a_source_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(text: str, match: str, columns: tuple[str, ...] | None = None) -> None:
        give_input(monkeypatch, text)
        with pytest.raises(InputError, match=match):
            stream_scores(folder, output=tmp_path / "out.csv", columns=columns)

    fails("event,a,b\n1,2,3\n", r"standard input: 2 columns besides .* \(a, b\), the scorer was trained on 3")
    fails("a,b,c,d\n1,2,3,4\n", r"4 columns besides .* trained on 3; name them in the order of training with --columns")
    fails("a,b,c\n1,2,3\n", r"2 columns \(a, b\), the scorer was trained on 3", columns=("a", "b"))
    fails("mass,b,c\n1,2,3\n", r"no column 'mas'; did you mean 'mass'\?", columns=("mas", "b", "c"))
    fails("a,b,b\n1,2,3\n", "column 'b' is there 2 times")
    fails("1,2,3\n1,2,3\n", "line 1 holds numbers")
    fails("", "empty; a header line")
    monkeypatch.setattr(stream, "LONGEST", 1000)
    fails("a,b,c\n" + 2000 * "1", "a line of more than")
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        stream_scores(folder, [tmp_path / "none.csv"], tmp_path / "out.csv")
    (tmp_path / "in.parquet").write_text("no parquet")
    with pytest.raises(InputError, match=r"in\.parquet: damaged, or no parquet file"):
        stream_scores(folder, [tmp_path / "in.parquet"], tmp_path / "out.csv")
    (tmp_path / "1.csv").write_text("a,b,c\n1,2,3\n")
    (tmp_path / "2.csv").write_text("a,b,d\n1,2,3\n")
    with pytest.raises(InputError, match=r"2\.csv: columns a, b, d differ from those of .*1\.csv: a, b, c"):
        stream_scores(folder, [tmp_path / "1.csv", tmp_path / "2.csv"], tmp_path / "out.csv")
    with pytest.raises(UnknownMetricError):
        stream_scores(folder, [tmp_path / "1.csv"], tmp_path / "out.csv", metric="nonsense")
    with pytest.raises(ScorerError, match="no such folder"):
        stream_scores(tmp_path / "nothing", [tmp_path / "1.csv"], tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    with pytest.raises(InputError, match=r"1\.csv: is an input too"):
        stream_scores(folder, [tmp_path / "1.csv"], tmp_path / "1.csv")
    assert (tmp_path / "1.csv").read_text() == "a,b,c\n1,2,3\n"


def test_a_stream_without_rows_gives_the_header(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_input(monkeypatch, "a,event,b,c\n")
    assert stream_scores(folder, output=tmp_path / "out.csv").rows == 0
    assert (tmp_path / "out.csv").read_text() == "event,score\n"


def test_scores_come_before_the_stream_ends(scorer: Flow, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = rows_of(2, 4)
    from_us, to_us = os.pipe()
    into, out = os.pipe()
    header, first, second = csv_text(x).splitlines()
    with (
        os.fdopen(from_us) as stdin,
        os.fdopen(to_us, "w") as feed,
        os.fdopen(into) as seen,
        os.fdopen(out, "w") as stdout,
    ):
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", stdout)
        thread = threading.Thread(target=stream_scores, args=(folder,))
        thread.start()
        feed.write(f"{header}\n")
        feed.flush()
        assert seen.readline() == "score\n"
        for line, expected in zip((first, second), scorer.score(x), strict=True):
            feed.write(f"{line}\n")
            feed.flush()
            assert float(seen.readline()) == expected
        feed.close()
        thread.join(timeout=60)
    assert not thread.is_alive()


def test_memory_stays_bounded_and_a_closed_pipe_ends_it(folder: Path) -> None:
    """Endless input: after 18 MB of it the process holds no more than after 2; it ends when its reader goes."""
    block = csv_text(rows_of(2000)).partition("\n")[2].encode()
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    held = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as process:
        stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None

        def read_some() -> None:
            read = 0
            while read < 6_400_000 and (found := stdout.read(1 << 16)):  # 320,000 scores of 20 bytes
                read += len(found)
            stdout.close()

        reader = threading.Thread(target=read_some)
        reader.start()
        status = Path(f"/proc/{process.pid}/statm")
        stdin.write(b"a,b,c\n")
        broken = False
        for n in range(400):
            try:
                stdin.write(block)
            except BrokenPipeError:
                broken = True
                break
            if n in {20, 150} and status.exists():
                held.append(int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
        reader.join(timeout=60)
        assert broken
        assert b"BrokenPipeError" in stderr.read()
    if len(held) == 2:
        assert held[1] - held[0] < 8e6, held  # of 16 MB in between


def test_a_scorer_of_jets_says_that_it_takes_no_rows(tmp_path: Path, rng: np.random.Generator) -> None:
    images = rng.uniform(size=(4, 3, 3))
    EventToEnsemble(distance="mae", k=1, normalise=True).fit(images).save(tmp_path / "jets")
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="jets: EventToEnsemble scores jets"):
        stream_scores(tmp_path / "jets", [tmp_path / "rows.csv"], tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    ScorerSpace(EventToEnsemble(distance="mae", k=1, normalise=True), {}).fit(images).save(tmp_path / "space")
    with pytest.raises(InputError, match="space: EventToEnsemble scores jets"):
        stream_scores(tmp_path / "space", [tmp_path / "rows.csv"], tmp_path / "out.csv")


@pytest.mark.parametrize("kind", ["rows", "images", "sets"])
def test_a_method_of_any_kind_streams_where_it_was_trained_on_rows(kind: str, tmp_path: Path) -> None:
    quick = dict.fromkeys(("max_epochs", "nae_epochs", "latent_steps", "input_steps"), 1)
    x = rows_of(120) if kind == "rows" else np.random.default_rng(0).exponential(size=(120, 3, 3))
    nae = NAE(inputs=kind, normalise=kind == "images", hidden=4, batch_size=60, replay=60, device="cpu", **quick).fit(x)
    nae.save(tmp_path / "nae")
    (tmp_path / "rows.csv").write_text(csv_text(rows_of(20, 1)))
    for scorer in (tmp_path / "nae", export_onnx(nae, tmp_path / "nae.onnx")):
        if kind == "rows":
            stream_scores(scorer, [tmp_path / "rows.csv"], tmp_path / "out.csv")
            np.testing.assert_allclose(scores_in(tmp_path / "out.csv"), nae.score(rows_of(20, 1)), rtol=1e-12)
            continue
        with pytest.raises(InputError, match=rf"{scorer.name}: .*scores jets .*a stream holds rows of numbers"):
            stream_scores(scorer, [tmp_path / "rows.csv"], tmp_path / "out.csv")


def test_a_scorer_of_jets_says_how_it_is_asked_in_python(tmp_path: Path, rng: np.random.Generator) -> None:
    columns = {name: rng.exponential(size=(150, 3, 3)) for name in ("constituents_1", "constituents_2")}
    x = Sample(np.stack([*columns.values()], axis=1), tuple(columns))
    options = {"inputs": "sets", "hidden": 4, "batch_size": 60, "replay": 60, "device": "cpu"}
    quick = dict.fromkeys(("max_epochs", "nae_epochs", "latent_steps", "input_steps"), 1)
    space = ScorerSpace(NAE(**options, **quick), {}).fit(x)
    path = tmp_path / "space"
    space.save(path)
    with pytest.raises(InputError, match=r"in Python: load_scorer\(path\)\.score\((.*)\)$") as found:
        stream_scores(path, [tmp_path / "rows.csv"], tmp_path / "out.csv")
    write_table(tmp_path / "table.parquet", Table({"mjj": np.ones(150), **columns}, {}))
    names = {"np": np, "read_table": read_table, "table": tmp_path / "table.parquet"}
    names |= {"load_scorer": load_scorer, "path": path}
    said = eval(str(found.value).split("in Python: ")[1], names)
    np.testing.assert_allclose(said, space.score(x), rtol=1e-6)


def test_a_space_of_scorers_takes_rows(tmp_path: Path, rng: np.random.Generator) -> None:
    options: dict[str, Any] = {"device": "cpu", "hidden": 8, "steps": 1, "max_epochs": 1}
    x, prior = rng.normal(size=(150, 2)), rng.normal(2, 1, size=(150, 2))
    space = ScorerSpace(Flow(**options), {"near": Flow(**options)}).fit(x, priors={"near": prior})
    space.save(tmp_path / "space")
    (tmp_path / "rows.csv").write_text("a,b\n" + "".join(f"{a!r},{b!r}\n" for a, b in x[:5].tolist()))
    stream_scores(tmp_path / "space", [tmp_path / "rows.csv"], tmp_path / "out.csv")
    with (tmp_path / "out.csv").open() as out:
        found = [float(row["score"]) for row in csv.DictReader(out)]
    np.testing.assert_allclose(found, space.score(x[:5]), rtol=1e-6)
