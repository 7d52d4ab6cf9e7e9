"""The command line as a stranger meets it: real files that are wrong, exit codes, interruption."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hunch.cli import cli, main
from hunch.models import Quak
from hunch.table import DIJET_COLUMNS, read_table

HUNCH = str(Path(sys.executable).with_name("hunch"))


def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command line in this process; return exit status, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["hunch", "--quiet", *arguments])
    try:
        main()
        status = 0
    except SystemExit as stop:
        status = int(stop.code or 0)
    out, err = capfd.readouterr()
    return status, out, err


def test_help_lists_the_commands_in_pipeline_order() -> None:
    text = CliRunner().invoke(cli, ["--help"]).output
    names = ["run", "simulate", "fetch", "convert", "process", "train", "score", "export", "hunt", "report"]
    places = [text.index(f"\n  {name} ") for name in names]
    assert places == sorted(places)


@pytest.mark.parametrize("name", ["treemaker.root", "uproot-HZZ.root", "missing_luminosityBlock.root"])
def test_a_wrong_file_is_one_line_and_exit_2(
    name: str,
    shared_data: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    table = tmp_path / "t.parquet"
    arguments = ("process", str(shared_data(name)), "-o", str(table), "--executor", "iterative")
    status, out, err = call(monkeypatch, capfd, *arguments)
    assert (status, out) == (2, "")
    assert name in err
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_truncated_directory_and_missing_files_are_named(
    shared_data: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    truncated = tmp_path / "truncated.root"
    truncated.write_bytes(shared_data("pfnano.root").read_bytes()[:100_000])
    for path in (truncated, tmp_path, tmp_path / "absent.root"):
        status, _, err = call(monkeypatch, capfd, "process", str(path), "-o", str(tmp_path / "t.parquet"))
        assert status == 2
        assert str(path) in err
        assert "Traceback" not in err
    assert not (tmp_path / "t.parquet").exists()


@pytest.mark.parametrize("name", ["nano_dimuon.root", "nano_dy.root"])
def test_files_without_candidates_end_in_a_clear_statement(
    name: str,
    shared_data: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    table = tmp_path / "t.parquet"
    arguments = ("process", str(shared_data(name)), "-o", str(table), "--executor", "iterative")
    status, out, err = call(monkeypatch, capfd, *arguments)
    assert "Traceback" not in err
    if status == 0:
        assert "read" in out
        assert set(DIJET_COLUMNS) <= set(read_table(table).columns)
    else:
        assert status == 2
        assert name in err
        assert "candidates" in err


def test_bad_files_are_skipped_and_counted_on_request(
    shared_data: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    good = tmp_path / "tiny.root"
    assert call(monkeypatch, capfd, "convert", "lhco", str(shared_data("lhco_events_tiny.h5")), str(good))[0] == 0
    table = tmp_path / "t.parquet"
    files = [str(good), str(shared_data("treemaker.root"))]
    arguments = ("process", *files, "-o", str(table), "--executor", "iterative", "--skip-bad-files")
    status, out, err = call(monkeypatch, capfd, *arguments)
    assert status == 0
    assert "1000 events, 1 files skipped" in out
    assert "treemaker.root" in err
    stored = read_table(table)
    assert len(stored) == 1000
    assert stored["event"].tolist() == list(range(1000))
    assert int(stored["truth_signal"].sum()) == 93
    assert stored.metadata["ntrk"] == "all"
    assert len(stored.metadata["skipped"]) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["simulate", "qdc", "-n", "5", "-o", "x.root"], ["qdc", "did you mean 'qcd'"]),
        (["simulate", "zprime_xy", "-n", "5", "-o", "x.root", "--set", "m_zp=3"], ["m_zp", "m_zprime"]),
        (["simulate", "zprime_xy", "-n", "5", "-o", "x.root", "--set", "m_zprime"], ["NAME=GEV"]),
        (["run", "absent.yaml"], ["absent.yaml"]),
        (["process", "a.root"], ["-o TABLE.parquet"]),
        (["process", "a.root", "-o", "t.csv"], ["t.csv", ".parquet"]),
        (["fetch", "lhco"], ["lhco", "allowed"]),
        (["convert", "lhco", "absent.h5", "x.root"], ["absent.h5"]),
        (["run", "absent.yaml", "--force"], ["--force"]),
    ],
)
def test_wrong_calls_exit_2_and_say_what_is_allowed(
    arguments: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = call(monkeypatch, capfd, *arguments)
    assert (status, out) == (2, "")
    assert all(word in err for word in words)
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_an_interrupted_simulation_leaves_nothing(tmp_path: Path, heeds_interrupts: Callable[[], None]) -> None:
    command = [HUNCH, "simulate", "qcd", "-n", "100000", "-o", "x.root", "--workers", "1"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=heeds_interrupts,
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
                time.sleep(0.2)
            assert list(tmp_path.iterdir()), "the simulation never began to write"
            time.sleep(1)
            # Python loses an interrupt that lands in a destructor: a person presses again
            while process.poll() is None and time.monotonic() < deadline + 60:
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=10)
            assert process.returncode == 130
        finally:
            process.kill()
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    assert not list(tmp_path.iterdir())


def test_a_scorer_is_exported_and_scores_a_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    quak = Quak(seed=0, device="cpu", max_epochs=1, hidden=8).fit(
        rng.normal(size=(300, 2)), priors={"p": rng.normal(1.0, 0.5, size=(200, 2))}
    )
    quak.save(tmp_path / "scorer")
    model, rows, out = tmp_path / "model.onnx", tmp_path / "rows.csv", tmp_path / "scores.csv"
    x = rng.normal(size=(50, 2))
    np.savetxt(rows, x, delimiter=",", header="a,b", comments="", fmt="%.17g")
    assert call(monkeypatch, capfd, "export", str(tmp_path / "scorer"), "-o", str(model))[0] == 0
    for scorer in (tmp_path / "scorer", model):
        assert call(monkeypatch, capfd, "score", "--stream", str(scorer), str(rows), "-o", str(out))[0] == 0
        found = np.genfromtxt(out, delimiter=",", names=True)["score"]
        np.testing.assert_allclose(found, quak.score(x), rtol=1e-5, atol=1e-9)
    rows.write_text("a\n1.0\n")
    status, _, err = call(monkeypatch, capfd, "score", "--stream", str(model), str(rows), "-o", str(out))
    assert status == 2
    assert "rows.csv" in err
    status, _, err = call(monkeypatch, capfd, "score", str(tmp_path / "a.yaml"), str(rows))
    assert (status, "only with --stream" in err) == (2, True)
    status, _, err = call(monkeypatch, capfd, "export", str(tmp_path / "nowhere"), "-o", str(model))
    assert (status, "no such folder" in err) == (2, True)
