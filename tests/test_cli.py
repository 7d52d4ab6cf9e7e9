"""The command line as a stranger meets it: real files that are wrong, exit codes, interruption."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from click.testing import CliRunner

from hunch.analysis import SignalErrors
from hunch.cli import cli, main
from hunch.cli.spectra import signal_errors
from hunch.cli.terminal import PlainFormatter
from hunch.errors import HunchError
from hunch.files import write_aside
from hunch.lock import only_writer, writing
from hunch.models import Flow, Quak
from hunch.table import DIJET_COLUMNS, Table, read_table
from hunch.workflow.given_spectra import RESULT_KEYS

PROCESS = ["process", "a.root", "-o", "t.parquet"]
IMAGES = [*PROCESS, "--as", "images"]
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
    names = [
        "run",
        "simulate",
        "fetch",
        "convert",
        "process",
        "train",
        "score",
        "export",
        "hunt",
        "limits",
        "validate",
        "report",
    ]
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
    assert err.count("treemaker.root") == 1
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
        (["simulate", "jet_tpo", "-n", "5", "-o", "x.root"], ["jet_tpo", "did you mean 'jet_top'"]),
        (["simulate", "jet_w", "-n", "5", "-o", "x.root", "--min-jet-pt", "500"], ["min_jet_pt", "jet_pt"]),
        (["simulate", "qcd", "-n", "5", "-o", "x.root", "--jet-pt", "500", "600"], ["jet_pt", "min_jet_pt"]),
        (["simulate", "jet_qcd", "-n", "5", "-o", "x.root", "--jet-pt", "650", "550"], ["650 to 550", "rising"]),
        (["convert", "toptag", "absent.h5", "x.root"], ["absent.h5"]),
        (["run", "absent.yaml"], ["absent.yaml"]),
        (["process", "a.root"], ["-o TABLE.parquet"]),
        (["process", "a.root", "-o", "t.csv"], ["t.csv", ".parquet"]),
        ([*PROCESS, "--pixels", "8"], ["--pixels 8: is now --set pixels=8"]),
        ([*PROCESS, "--jets", "2"], ["--jets 2: is now --set jets=2"]),
        ([*PROCESS, "--max-deta", "1"], ["--max-deta 1: is now --set max_deta=1"]),
        ([*PROCESS, "--force"], ["--force: only with an ANALYSIS"]),
        ([*PROCESS, "--as", "imges"], ["--as: no representation 'imges'; did you mean 'images'"]),
        ([*PROCESS, "--as", "table"], ["table", "features"]),
        ([*PROCESS, "--set", "pixels=8"], ["unknown key '--set pixels'"]),
        ([*IMAGES, "--set", "pixel=8"], ["unknown key '--set pixel'; did you mean 'pixels'"]),
        ([*IMAGES, "--set", "pixels=many"], ["key '--set pixels'", "found 'many'"]),
        ([*IMAGES, "--set", "pixels=1000000"], ["pixels: 1000000 is not a whole number from 1 to 1000"]),
        ([*IMAGES, "--set", "pixels"], ["--set 'pixels': KEY=VALUE is expected"]),
        ([*IMAGES, "--set", "pixels=8", "--set", "pixels=9"], ["--set pixels: is given twice"]),
        ([*IMAGES, "--set", "observable=mjjj"], ["observable 'mjjj'; did you mean 'mjj'"]),
        ([*IMAGES, "--set", "min_pt=60", "--set", "max_pt=5e1"], ["min_pt", "60", "max_pt", "50"]),
        ([*IMAGES, "--set", "jets=3"], ["jets", "3"]),
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


@pytest.mark.parametrize(
    "options", [["-o", "t.parquet"], ["--workers", "2"], ["--executor", "futures"], ["--skip-bad-files"]]
)
def test_options_of_event_files_are_refused_beside_an_analysis(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text("mjj,a\n1,2\n")
    Path("a.yaml").write_text("samples: {data: [t.csv]}\nfeatures: [a]\noutput: out\n")
    status, _, err = call(monkeypatch, capfd, "process", "a.yaml", *options)
    assert status == 2
    assert "for event files; an ANALYSIS has these in its own keys" in err
    assert not Path("out").exists()


def write_jets(path: Path) -> Path:
    """Write two events of two jets and one of a single jet."""
    particles = ak.zip({"pt": [[100.0, 90.0], [80.0], [70.0, 60.0]], "eta": [[0.0, 0.5], [0.0], [0.1, 0.2]],
                        "phi": [[0.0, 3.0], [1.0], [0.0, 3.1]]})  # fmt: skip
    identity = {name: np.arange(1, 4) for name in ("run", "luminosityBlock", "event")}
    with uproot.recreate(path) as file:
        file.mktree("Events", {**dict.fromkeys(identity, "int64"), "PFCands": particles.type})
        file["Events"].extend({**identity, "PFCands": particles})
    return path


def test_event_files_become_images_or_constituents_of_jets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path, out = write_jets(tmp_path / "e.root"), tmp_path / "jets.parquet"

    def processed(*options: str) -> tuple[str, Table]:
        arguments = ("process", str(path), "-o", str(out), "--executor", "iterative", *options)
        status, told, err = call(monkeypatch, capfd, *arguments)
        assert (status, err) == (0, "")
        return told, read_table(out)

    told, table = processed("--as", "images", "--set", "jets=1")
    assert "3 events, 0 files skipped" in told
    assert table["image_1"].shape == (3, 40, 40)
    assert table["event"].tolist() == [1, 2, 3]
    assert "mjj" not in table
    small = ("pixels=8", "radius=0.8", "max_pt=95")
    told, table = processed("--as", "images", *(word for key in small for word in ("--set", key)))
    assert "fewer than two jets" in told
    assert table["image_2"].shape == (1, 8, 8)
    assert table.metadata["settings"]["radius"] == 0.8
    own = ("jets=1", "max_constituents=4", "min_pt=75")
    _, table = processed("--as", "constituents", *(word for key in own for word in ("--set", key)))
    assert table["constituents_1"].shape == (2, 4, 3)
    assert table["constituents_1"][:, 0, 0].tolist() == [100, 80]
    _, table = processed()
    assert set(DIJET_COLUMNS) <= set(table.columns)


def test_no_events_become_a_table_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    status, _, err = call(monkeypatch, capfd, "process", "a.root", "--as", "table", "-o", str(tmp_path / "t.parquet"))
    assert status == 2
    assert "--as table: no events become a table of your own; allowed: features, images, constituents" in err


def test_what_stands_at_the_outputs_place_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_jets(tmp_path / "e.root")
    (tmp_path / "file.parquet").write_text("mine")
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "folder.parquet" / "notes.txt").write_text("mine")
    for name in ("file.parquet", "folder.parquet"):
        status, _, err = call(
            monkeypatch, capfd, "process", str(path), "-o", str(tmp_path / name), "--executor", "iterative"
        )
        assert (status, "is not replaced" in err) == (2, True)
    assert (tmp_path / "file.parquet").read_text() == "mine"
    assert (tmp_path / "folder.parquet" / "notes.txt").read_text() == "mine"
    out = tmp_path / "table.parquet"
    for _ in range(2):  # a table of ours is
        assert call(monkeypatch, capfd, "process", str(path), "-o", str(out), "--executor", "iterative")[0] == 0
    (out / "notes.txt").write_text("mine")
    assert call(monkeypatch, capfd, "process", str(path), "-o", str(out), "--executor", "iterative")[0] == 2


def test_keys_given_on_the_command_line_are_named_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "d.root").write_bytes(b"")
    analysis = tmp_path / "a.yaml"
    analysis.write_text("samples: {data: [d.root]}\noutput: out\n")
    for key, said in (
        (
            "hunt=counts",
            "on the command line: key 'hunt': input should be 'bump' or 'count', found 'counts'; did you mean 'count'?",
        ),
        (
            "regions.number=0",
            "on the command line: key 'regions.number': input should be greater than or equal to 1, found 0",
        ),
        ("latnt=3", "unknown key 'latnt'"),
    ):
        status, _, err = call(monkeypatch, capfd, "run", str(analysis), "--set", key)
        assert status == 2
        assert said in err


def test_a_single_jet_is_simulated_in_the_window_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "jets.root"
    arguments = ("simulate", "jet_w", "-n", "3", "-o", str(path), "--workers", "1")
    options = ("--jet-pt", "400", "500", "--set", "m_w=60")
    status, out, _ = call(monkeypatch, capfd, *arguments, *options)
    assert (status, "3 events of" in out) == (0, True)
    with uproot.open(path) as file:
        scalar = [sum(pt) for pt in file["Events"]["PFCands_pt"].array()]
    assert all(400 < pt < 560 for pt in scalar)


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


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [("SIGTERM", 143, "ended by SIGTERM"), ("SIGHUP", 129, "ended by SIGHUP"), ("SIGINT", 130, "interrupted")],
)
def test_a_signal_that_ends_a_run_cleans_up_and_says_so(
    name: str,
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    number = signal.Signals[name]
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def simulate(*_: object, **__: object) -> None:
        with write_aside(tmp_path / "x.root") as aside:
            aside.touch()
            os.kill(os.getpid(), number)
            time.sleep(10)

    monkeypatch.setattr("hunch.samples.simulate", simulate)
    try:
        found, out, err = call(monkeypatch, capfd, "simulate", "qcd", "-n", "1", "-o", str(tmp_path / "x.root"))
    finally:
        for own, handler in before.items():
            signal.signal(own, handler)
    assert (found, out, err.strip()) == (status, "", said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("simulate", "qcd", "-n", "1", "-o", "OUT.root"),
        ("convert", "lhco", "absent.h5", "OUT.root"),
        ("convert", "toptag", "absent.h5", "OUT.root"),
        ("fetch", "lhco_features", "-o", "."),
        ("process", "absent.root", "-o", "OUT.parquet"),
        ("score", "--stream", "absent", "absent.csv", "-o", "OUT.csv"),
        ("hunt", "absent.json", "-o", "OUT"),
        ("limits", "OUT"),
        ("validate", "OUT"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_second_writer_of_an_output_is_told_at_once(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "OUT").mkdir()
    (tmp_path / "OUT" / "result.json").write_text("{}")
    target = tmp_path / (
        "lhco_features" if arguments[0] == "fetch" else next(a for a in arguments if a.startswith("OUT"))
    )

    def other_run() -> None:
        with writing(target) if target.name == "OUT" else only_writer(target):
            ready.set()
            over.wait(60)

    ready, over = threading.Event(), threading.Event()
    thread = threading.Thread(target=other_run)
    thread.start()
    try:
        assert ready.wait(10)
        before = sorted(tmp_path.rglob("*"))
        status, out, err = call(monkeypatch, capfd, *arguments)
        assert sorted(tmp_path.rglob("*")) == before
    finally:
        over.set()
        thread.join()
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert f"is in use by another run (process {os.getpid()} on " in err


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


FALLING = [4021, 2911, 2156, 1588, 1113, 884, 590, 427, 301, 214, 160, 108, 83, 55, 41, 24, 20, 13, 8, 7]
EDGES = [1530, 1607, 1687, 1770, 1856, 1945, 2037, 2132, 2231, 2332, 2438]
EDGES += [2546, 2659, 2775, 2895, 3019, 3147, 3279, 3416, 3558, 3704]
FEW = ("--pseudo-experiments", "20")


@pytest.mark.usefixtures("fast_hunt")
def test_a_spectrum_of_others_is_hunted_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "s.json", tmp_path / "out"
    source.write_text(json.dumps({"edges": EDGES, "counts": FALLING}))
    status, text, err = call(
        monkeypatch, capfd, "hunt", str(source), "-o", str(out), *FEW, "--width", "0.05", "--seed", "3"
    )
    assert (status, err) == (0, "")
    assert "largest excess at" in text
    result = json.loads((out / "result.json").read_text())
    assert {"mass", "p_local", "z_local", "p_global", "z_global", "p_global_is_bound"} <= set(result["best"])
    assert {"masses", "p_combined", "z_combined", "regions"} <= set(result["scan"])
    assert result["best"]["pseudo_experiments"] == 20
    assert result["signal_shape"]["width"] == 0.05
    assert result["configuration"]["seed"] == 3
    assert result["fit_range"]["edges"] == EDGES
    assert result["regions"]["regions"][0]["counts"] == FALLING
    names = {"p_value_scan", "fit_range", "spectrum_0"}
    assert {p.name for p in (out / "figures").iterdir()} == {f"{n}.{s}" for n in names for s in ("pdf", "png")}
    assert "Search for a resonance" in (out / "report.html").read_text()
    # what `hunch run` writes for its regions goes in again, and the masses can be narrowed down
    with uproot.recreate(tmp_path / "spectra.root") as file:
        for r in range(2):
            file[f"region_{r}"] = (np.array(FALLING, dtype=float), np.array(EDGES, dtype=float))
    again = tmp_path / "again"
    options = ("--masses", "2000", "2500", "--fit-range", "1600", "3560", "--function", "exponential")
    assert call(monkeypatch, capfd, "hunt", str(tmp_path / "spectra.root"), "-o", str(again), *FEW, *options)[0] == 0
    result = json.loads((again / "result.json").read_text())
    assert [r["name"] for r in result["scan"]["regions"]] == ["region_0", "region_1"]
    assert all(2000 <= m <= 2500 for m in result["scan"]["masses"])
    assert (result["fit_range"]["low"], result["fit_range"]["high"]) == (1607, 3558)
    assert result["cutflow"]["below the fit range"] == 2 * FALLING[0]


def test_a_spectrum_that_no_function_fits_is_said_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "s.csv", tmp_path / "out"
    counts = [n * (180 if i % 4 < 2 else 100) for i, n in enumerate(FALLING)]
    rows = "".join(f"{a},{b},{n}\n" for a, b, n in zip(EDGES[:-1], EDGES[1:], counts, strict=True))
    source.write_text("m_low,m_high,count\n" + rows)
    status, text, err = call(monkeypatch, capfd, "hunt", str(source), "-o", str(out), *FEW)
    assert status == 0
    assert "global: none" in text
    assert "no significance is quoted" in err
    assert len(err.strip().splitlines()) == 1
    result = json.loads((out / "result.json").read_text())
    assert result["best"]["p_global"] is None
    assert any("no significance is quoted" in note for note in result["notes"])
    assert "No significance is quoted" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        ({"edges": EDGES, "counts": [-1, *FALLING[1:]]}, [], ["s.json", "bin 0 (1530 to 1607 GeV)", "-1"]),
        ({"edges": EDGES, "counts": [0.5, *FALLING[1:]]}, [], ["s.json", "bin 0", "0.5"]),
        ({"edges": EDGES, "counts": [0] * 20}, [], ["s.json", "empty"]),
        ({"edges": EDGES[:4], "counts": FALLING[:3]}, [], ["3 bins", "parameters"]),
        ({"edges": EDGES, "counts": FALLING[:8] + [0] * 12}, [], ["2231 to 3704", "zero"]),
        (
            {"edges": EDGES, "counts": FALLING},
            ["--fit-range", "1000", "9000"],
            ["wider than the spectrum", "1530 to 3704"],
        ),
        ({"edges": EDGES, "counts": FALLING}, ["--masses", "100", "200"], ["masses", "1530 to 3704"]),
        ({"edges": EDGES, "counts": FALLING}, ["--width", "0.4"], ["0.4", "too short"]),
        ({"edges": EDGES, "counts": FALLING}, ["--width", "-1"], ["width", "-1"]),
        ({"edges": EDGES, "counts": FALLING}, ["--sqrt-s", "3000"], ["sqrt_s = 3000"]),
        ({"edges": EDGES, "counts": FALLING}, ["--luminosity", "20"], ["--luminosity", "cross-section"]),
        ({"edges": EDGES, "counts": FALLING}, ["--force"], ["--force"]),
    ],
)
def test_bad_spectra_end_with_one_message_and_nothing_written(
    content: dict[str, Any],
    arguments: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    source = tmp_path / "s.json"
    source.write_text(json.dumps(content))
    status, out, err = call(monkeypatch, capfd, "hunt", str(source), "-o", str(tmp_path / "out"), *FEW, *arguments)
    assert (status, out) == (2, "")
    assert all(word in err for word in words), err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == [source]


def test_hunt_tells_analyses_from_spectra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    analysis = tmp_path / "a.yaml"
    analysis.write_text("samples: {data: [absent.root]}\noutput: out\n")
    status, _, err = call(monkeypatch, capfd, "hunt", str(analysis))
    assert (status, "absent.root" in err) == (2, True)
    status, _, err = call(monkeypatch, capfd, "hunt", str(analysis), "-o", "x", "--width", "0.1")
    assert (status, "--output, --width: for spectra" in err) == (2, True)
    (tmp_path / "s.json").write_text(json.dumps({"edges": EDGES, "counts": FALLING}))
    status, _, err = call(monkeypatch, capfd, "hunt", str(tmp_path / "s.json"))
    assert (status, "-o OUT is missing" in err) == (2, True)
    (tmp_path / "out" / ".stages").mkdir(parents=True)
    status, _, err = call(monkeypatch, capfd, "hunt", str(tmp_path / "s.json"), "-o", str(tmp_path / "out"))
    assert (status, "holds an analysis" in err) == (2, True)


def test_files_that_hold_no_spectrum_are_named(
    shared_data: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, word in (("pybumphunter_data.root", "data (TTree)"), ("lhco_events_tiny.h5", "'mjj'")):
        status, _, err = call(monkeypatch, capfd, "hunt", str(shared_data(name)), "-o", str(tmp_path / "out"))
        assert status == 2
        assert name in err
        assert word in err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("fast_hunt")
def test_pybumphunters_own_data_are_hunted_in(
    shared_data: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    values = uproot.open(shared_data("pybumphunter_data.root"))["data"]["data"].array(library="np")
    counts, edges = np.histogram(values, np.linspace(0, 20, 61))
    (tmp_path / "s.json").write_text(json.dumps({"edges": edges.tolist(), "counts": counts.tolist()}))
    options = ("--function", "exponential", "--width", "0.065")
    status, _, err = call(
        monkeypatch, capfd, "hunt", str(tmp_path / "s.json"), "-o", str(tmp_path / "out"), *FEW, *options
    )
    assert (status, err) == (0, "")
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert 5 < result["best"]["mass"] < 6.2  # 150 events were put in at 5.5
    assert result["regions"]["regions"][0]["fit"]["p_value"] > 0.05
    assert result["cutflow"] == {
        "below the fit range": int(counts[0]),
        "above the fit range": 0,
        "s": int(counts[1:].sum()),
    }


@pytest.mark.usefixtures("fast_hunt")
def test_limits_and_checks_of_a_hunt_in_a_spectrum(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    edges = np.linspace(1500, 4500, 41)
    centres = 0.5 * (edges[1:] + edges[:-1])
    counts = np.random.default_rng(4).poisson(3e5 * (centres / 1000) ** -6.5)
    spectrum = tmp_path / "spectrum.json"
    spectrum.write_text(json.dumps({"edges": edges.tolist(), "counts": counts.tolist()}))
    out = tmp_path / "out"
    assert call(monkeypatch, capfd, "hunt", str(spectrum), "-o", str(out), "--pseudo-experiments", "40")[0] == 0
    errors = ("--scale-error", "1500:0.01:0.02,4500:0.03:0.03", "--luminosity-error", "0.02")
    status, told, err = call(monkeypatch, capfd, "limits", str(out), "--points", "3", "--luminosity", "20/fb", *errors)
    assert (status, err) == (0, "")
    limits = json.loads((out / "limits.json").read_text(), parse_constant=pytest.fail)["signals"]["signal"]
    assert len(told.splitlines()) == len(limits["masses"]) + 1
    assert limits["observed_fb"][0] == pytest.approx(limits["observed"][0] / 20)
    assert limits["signal_errors"] == "mass scale 1 to 3 %, by mass, resolution 10 %, luminosity 2 %"
    assert limits["failures"] == []
    assert next((out / "limits" / "signal").glob("datacard_*.txt")).stat().st_size > 0
    numbers = ("--local", "200", "--outer", "3", "--inner", "20", "--injected", "40", "--workers", "1")
    status, told, err = call(monkeypatch, capfd, "validate", str(out), *numbers)
    assert status in {0, 1}
    assert ("FAIL" in told) == (status == 1)
    checks = json.loads((out / "validation.json").read_text(), parse_constant=pytest.fail)
    assert "says nothing of a function that is wrong" in checks["global_p"][0]["how"]
    assert checks["bias"]["experiments"] == 40
    assert [family["family"] for family in checks["bias"]["families"]] == ["exponential"]
    assert "bias test, global p below 0.05 without a signal" in told
    assert "experiments of the same fit, which cannot show a wrong function" in told
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<h2>Limits</h2>" in page
    assert "<h2>Validation</h2>" in page
    # hunting again leaves nothing of an old answer
    assert call(monkeypatch, capfd, "hunt", str(spectrum), "-o", str(out), "--pseudo-experiments", "40")[0] == 0
    assert not (out / "limits.json").exists()
    assert not (out / "validation.json").exists()


def test_errors_of_a_signal_are_read_from_options() -> None:
    read = signal_errors(scale_error="0.02,0.01", resolution_error="0.2", efficiency_error=0.1, luminosity_error=None)
    assert read == SignalErrors(scale=(0.02, 0.01), resolution=0.2, efficiency=0.1)
    assert signal_errors(scale_error="2000:0.1:0.2") == SignalErrors(scale=[[2000.0, 0.1, 0.2]])
    assert signal_errors(scale_error=None) == SignalErrors()
    with pytest.raises(HunchError, match="--scale-error 'much': a number, up,down or MASS:up:down"):
        signal_errors(scale_error="much")
    with pytest.raises(HunchError, match="scale error is one number"):
        signal_errors(scale_error="0.1,0.1,0.1")


@pytest.mark.usefixtures("fast_hunt")
def test_a_formula_of_ones_own_is_fitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    edges = np.linspace(1500, 4500, 41)
    centres = 0.5 * (edges[1:] + edges[:-1])
    counts = np.random.default_rng(4).poisson(3e4 * (centres / 1000) ** -6.5)
    spectrum = tmp_path / "spectrum.json"
    spectrum.write_text(json.dumps({"edges": edges.tolist(), "counts": counts.tolist()}))
    results = {}
    for name, function in {"formula": "(1-x)**p1 * x**(-p2 - p3*log(x))", "family": "dijet"}.items():
        out = tmp_path / name
        call_arguments = ("hunt", str(spectrum), "-o", str(out), "--pseudo-experiments", "20", "--function", function)
        assert call(monkeypatch, capfd, *call_arguments)[0] == 0
        results[name] = json.loads((out / "result.json").read_text(), parse_constant=pytest.fail)
    fit = results["formula"]["regions"]["regions"][0]["fit"]
    assert fit["family"] == "(1-x)**p1 * x**(-p2 - p3*log(x))"
    families = results["formula"]["background_envelope"]["regions"][0]["families"]
    assert [f["family"] for f in families] == [fit["family"], "exponential"]
    assert results["family"]["regions"]["regions"][0]["fit"]["order"] == 3
    assert results["formula"]["scan"]["z_combined"] == pytest.approx(results["family"]["scan"]["z_combined"], abs=1e-4)
    status, _, err = call(monkeypatch, capfd, "hunt", str(spectrum), "-o", str(tmp_path / "x"), "--function", "x**-q1")
    assert status == 2
    assert "q1" in err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("limits", "{empty}"), "result.json: not there yet"),
        (("validate", "{empty}"), "result.json: not there yet"),
        (("limits", "{empty}/foreign"), "result.json: no result of hunch run or hunch hunt; missing: best, scan"),
        (("validate", "{empty}/truncated"), "result.json: truncated or no JSON"),
        (("validate", "{empty}", "--retrain", "2"), "--retrain: only with an ANALYSIS"),
        (("limits", "{empty}", "--efficiencies", "a,b"), "--efficiencies 'a,b': numbers are expected"),
        (("limits", "{empty}/truncated"), "result.json: truncated or no JSON"),
        (("limits", "{empty}/deep"), "result.json: lists or mappings inside each other more than 100 deep"),
        (("validate", "{empty}/digits"), "result.json: holds 999999999999...9999 (5000 characters)"),
        (("limits", "{empty}/hollow"), "result.json: damaged, or written by another version of hunch (KeyError"),
        (("limits", "nothing.yaml"), "nothing.yaml"),
        (("validate", "nothing.yaml"), "nothing.yaml"),
        (("limits", "nothing.yaml", "--points", "3"), "--points: for the folder of a hunt"),
    ],
)
def test_limits_and_checks_say_what_is_missing(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    hollow = json.dumps({key: {} for key in RESULT_KEYS})
    made = {
        "foreign": '{"a": 1}',
        "truncated": '{"best": {',
        "deep": "[" * 9999,
        "digits": "9" * 5000,
        "hollow": hollow,
    }
    for folder, text in made.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "result.json").write_text(text)
    status, out, err = call(monkeypatch, capfd, *(a.format(empty=tmp_path) for a in arguments))
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1


def analysis_text(more: str = "") -> str:
    return f"samples: {{data: [d.csv]}}\noutput: out\n{more}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "bomb.yaml"), "bomb.yaml: line 6: aliases stand for more than 100000 values"),
        (("hunt", "bomb.yaml"), "bomb.yaml: line 6: aliases stand for more than 100000 values"),
        (("process", "bomb.yaml", "-o", "t.parquet"), "bomb.yaml: line 6: aliases stand for more than 100000 values"),
        (("score", "own.yaml"), "own.yaml: line 3: *a stands for a list or mapping that it is in itself"),
        (("report", "two.yaml"), "two.yaml: line 3: a second document begins here"),
        (("hunt", "two.yaml", "-o", "o"), "two.yaml: line 3: a second document begins here"),
        (("run", "a.yaml", "--set", "seed=" + "9" * 5000), "--set seed: '99999999"),
        (
            ("run", "a.yaml", "--set", "alpha=1e400"),
            "--set alpha: '1e400' is more than a number in double precision can be",
        ),
        (("run", "a.yaml", "--set", "seed=[" + "[" * 5000), "lists or mappings inside each other more than 100 deep"),
        (("run", "a.yaml", "--set", "x=!!python/name:os.system"), "is not read; plain values are expected"),
        (("run", "a.yaml", "--set", "9" * 5000), "KEY=VALUE is expected"),
        (("process", "e.root", "-o", "t.parquet", "--set", "jets=" + "9" * 5000), "--set jets: '99999999"),
        (("simulate", "qcd", "-n", "1", "-o", "q.root", "--set", "m_x=1e400"), "NAME=GEV is expected"),
        (
            ("process", "deep.json", "-o", "t.parquet"),
            "deep.json: lists or mappings inside each other more than 100 deep",
        ),
        (("hunt", "deep.json", "-o", "o"), "deep.json: lists or mappings inside each other more than 100 deep"),
        (("hunt", "digits.json", "-o", "o"), "digits.json: holds 999999999999...9999 (5000 characters)"),
        (
            ("hunt", "large.csv", "-o", "o"),
            "large.csv: column 'n': value 1 is 999999999999...9999 (5000 characters), more than",
        ),
    ],
)
def test_sizes_are_refused_before_anything_is_made_of_them(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    bomb = "".join(f"a{i}: &a{i} [{','.join(['x' if i == 0 else f'*a{i - 1}'] * 9)}]\n" for i in range(30))
    files = {
        "a.yaml": analysis_text(),
        "bomb.yaml": bomb + analysis_text(),
        "own.yaml": analysis_text("a: &a [*a]\n"),
        "two.yaml": analysis_text("---\na: 1\n"),
        "deep.json": "[" * 100_000,
        "digits.json": f'{{"edges": [1, 2, 3], "counts": [1, {"9" * 5000}]}}',
        "large.csv": f"m_low,m_high,n\n1,2,3\n2,3,{'9' * 5000}\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "d.csv").write_text("mjj\n1\n")
    monkeypatch.chdir(tmp_path)
    status, out, err = call(monkeypatch, capfd, *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert len(err) < 600
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("process", "e.root", "-o", "file/x.parquet"), "file: no folder can be made there: file is a file"),
        (("process", "e.root", "-o", "file/a/x.parquet"), "file/a: no folder can be made there: file is a file"),
        (("hunt", "s.json", "-o", "file/out"), "file/out: no folder can be made there: file is a file"),
        (("run", "a.yaml", "--set", "output=file/out"), "/file/out: no folder can be made there: "),
        (("simulate", "qcd", "-n", "1", "-o", "file/q.root"), "file: no folder can be made there: file is a file"),
        (("fetch", "lhco_rnd", "-o", "file/data"), "file/data: no folder can be made there: file is a file"),
        (("search", "a.yaml", "e.root", "-o", "file/s.root"), "file: no folder can be made there: file is a file"),
        (("score", "--stream", "s", "in.csv", "-o", "file/s.csv"), "file: no folder can be made there: file is a file"),
    ],
)
def test_a_file_in_the_way_of_an_output_is_named(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "s.json").write_text('{"edges": [1000, 1100, 1200], "counts": [5, 3]}')
    (tmp_path / "a.yaml").write_text(analysis_text())
    for name in ("d.csv", "in.csv"):
        (tmp_path / name).write_text("mjj\n1\n")
    if "process" in arguments:
        write_jets(tmp_path / "e.root")
    if "score" in arguments:
        Flow(max_epochs=1, hidden=4).fit(np.random.default_rng(1).normal(size=(120, 1))).save(tmp_path / "s")
    before = sorted(p.name for p in tmp_path.iterdir())
    status, out, err = call(monkeypatch, capfd, *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert "file is a file" in err
    assert len(err.strip().splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_standard_output_is_one_line_and_exit_2() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [HUNCH, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False
        )
    assert done.returncode == 2
    assert (
        done.stderr.strip()
        == "hunch: standard output: the disk is full; free some space, or name an output on another disk"
    )


def test_want_of_memory_is_one_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def much(*_: Any, **__: Any) -> None:
        raise MemoryError("Unable to allocate 8 TiB")

    monkeypatch.setattr("hunch.samples.fetch", much)
    status, _, err = call(monkeypatch, capfd, "fetch", "lhco_rnd")
    assert (status, err) == (2, "hunch: the memory does not suffice: Unable to allocate 8 TiB\n")


def test_names_of_files_reach_no_terminal_raw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    name = "a\x1b]0;owned\x07\x1b[2Kb\r\x00"
    folder = tmp_path / "x\x1b[31m"
    folder.mkdir()
    source = folder / "s.json"
    source.write_text(json.dumps({"edges": EDGES, "counts": {name: [-1, *FALLING[1:]]}}))
    status, text, err = call(monkeypatch, capfd, "hunt", str(source), "-o", str(tmp_path / "out"))
    assert (status, text) == (2, "")
    assert r"x\x1b[31m" in err
    assert r"a\x1b]0;owned\x07\x1b[2Kb\r\x00" in err
    assert not set("\x1b\x07\r\0") & set(err)
    status, _, err = call(monkeypatch, capfd, "hunt", "--width", "\x1b[31m", "x")
    assert (status, "\x1b" in err) == (2, False)


def test_a_log_message_is_one_line_and_plain() -> None:
    record = logging.LogRecord("hunch", logging.WARNING, "", 0, "%s", ("region a\nlocal: p = 1e-9\x1b[31m",), None)
    assert PlainFormatter("%(message)s").format(record) == r"region a\nlocal: p = 1e-9\x1b[31m"


def test_the_command_line_prints_in_one_place() -> None:
    folder = Path(__file__).resolve().parents[1] / "cli"
    printing = [p.name for p in folder.glob("*.py") if re.search(r"click\.s?echo|\bprint\(", p.read_text("utf-8"))]
    assert printing == ["terminal.py"]


@pytest.mark.parametrize(
    "words", [["simulate", "qcd", "-n", "1", "-o"], ["convert", "lhco", "a.h5"], ["convert", "toptag", "a.h5"]]
)
def test_an_event_file_ends_in_root(words: list[str], tmp_path: Path) -> None:
    ran = CliRunner().invoke(cli, [*words, str(tmp_path / "events.txt")])
    assert "events.txt: event files are written as ROOT; a name that ends in .root is expected" in str(ran.exception)
    assert not list(tmp_path.iterdir())


def test_widths_are_fixed_or_scanned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, Any] = {}

    def taken(_sources: Any, _output: Path, **options: Any) -> dict[str, Any]:
        given.update(options)
        raise HunchError("nothing is hunted in here")

    monkeypatch.setattr("hunch.workflow.given_spectra.hunt_files", taken)
    command = ("hunt", str(tmp_path / "s.json"), "-o", str(tmp_path / "out"))
    for options, expected in (
        (("--width", "0.01", "0.10"), (0.01, 0.10)),
        (("--width", "0.01,0.1", "--seed", "2"), (0.01, 0.10)),
        (("--width=0.05",), 0.05),
        (("--width", "0.05", "--seed", "3"), 0.05),
    ):
        assert call(monkeypatch, capfd, *command, *options)[0] == 2
        assert given["width"] == expected
    for wrong in (("0.1", "0.01"), ("1.5",), ("wide",), ("0.1,0.2,0.3",)):
        status, _, err = call(monkeypatch, capfd, *command, "--width", *wrong)
        assert (status, "two that rise" in err) == (2, True)
