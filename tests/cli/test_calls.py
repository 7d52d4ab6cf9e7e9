"""Calls that are wrong: exit 2, one line, what is allowed, and nothing made."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hunch.cli import cli
from hunch.cli.terminal import PlainFormatter
from hunch.models import Flow

Call = Callable[..., tuple[int, str, str]]
PROCESS = ["process", "a.root", "-o", "t.parquet"]
IMAGES = [*PROCESS, "--as", "images"]


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
        "generate",
        "hunt",
        "limits",
        "validate",
        "report",
        "explore",
    ]
    places = [text.index(f"\n  {name} ") for name in names]
    assert places == sorted(places)


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
        (["simulate", "jet_w", "-n", "5", "-o", "x.root", "--set", "m_w=200:40"], ["m_w = 200:40", "LOW:HIGH"]),
        (["simulate", "jet_qcd", "-n", "5", "-o", "x.root", "--sqrt-s", "14"], ["sqrt_s = 14", "14 TeV is 14000"]),
        (["simulate", "jet_qcd", "-n", "5", "-o", "x.root", "--sqrt-s", "14 TV"], ["'14 TV'", "14TeV"]),
        (["simulate", "jet_qcd", "-n", "5", "-o", "x.root", "--sqrt-s", "nan"], ["sqrt_s = nan", "allowed"]),
        (["simulate", "jet_qcd", "-n", "5", "-o", "x.root", "--jet-eta", "2.2"], ["jet_eta = 2.2", "0.1 to 2"]),
        (["simulate", "jet_qcd", "-n", "5", "-o", "x.root", "--set", "radius=0.8"], ["radius=0.8", "--jet-radius"]),
        (["simulate", "jet_qcd", "-n", "5", "-o", "x.root", "--set", "sqrt_s=14000"], ["--sqrt-s"]),
        (
            ["simulate", "jet_qcd", "-n", "5", "-o", "x.root", "--set", "pt_min=450"],
            ["pt_min=450", "--jet-pt LOW HIGH"],
        ),
        (["convert", "toptag", "absent.h5", "x.root"], ["absent.h5"]),
        (["convert", "vaejet", "absent.h5", "x.root"], ["absent.h5"]),
        (["convert", "adc2021", "absent.h5", "x.root"], ["absent.h5"]),
        (["convert", "phenoml", "absent.csv", "x.root"], ["absent.csv"]),
        (["convert", "phenoml", "absent.root", "x.csv"], ["absent.root"]),
        (["convert", "phenoml", "absent.csv", "x.root", "--unit", "keV"], ["keV", "GeV"]),
        (["simulate", "events", "-n", "5", "-o", "x.root"], ["no process 'events'", "event_sm"]),
        (
            ["simulate", "event_sm", "-n", "5", "-o", "x.root", "--jet-eta", "2"],
            ["jet_eta = 2", "selected by their objects"],
        ),
        (["simulate", "event_a4l", "-n", "5", "-o", "x.root", "--set", "m_A=5"], ["m_A = 5", "20 to 13000"]),
        (["generate", "absent", "-n", "5", "-o", "x.parquet"], ["absent"]),
        (["generate", "absent", "-n", "0", "-o", "x.parquet"], ["-n", "0 is not in the range x>=1"]),
        (["generate", "absent", "-n", "5", "-o", "x.npz"], ["x.npz", ".parquet"]),
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
    arguments: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert all(word in err for word in words)
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options", [["-o", "t.parquet"], ["--workers", "2"], ["--executor", "futures"], ["--skip-bad-files"]]
)
def test_options_of_event_files_are_refused_beside_an_analysis(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text("mjj,a\n1,2\n")
    Path("a.yaml").write_text("samples: {data: [t.csv]}\nfeatures: [a]\noutput: out\n")
    status, _, err = call("process", "a.yaml", *options)
    assert status == 2
    assert "for event files; an ANALYSIS has these in its own keys" in err
    assert not Path("out").exists()


def test_keys_given_on_the_command_line_are_named_as_such(tmp_path: Path, call: Call) -> None:
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
        status, _, err = call("run", str(analysis), "--set", key)
        assert status == 2
        assert said in err


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
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
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
    status, out, err = call(*arguments)
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
    call: Call,
    write_jets: Callable[[Path], Path],
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
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert "file is a file" in err
    assert len(err.strip().splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert (tmp_path / "file").read_text() == "mine"


def test_a_log_message_is_one_line_and_plain() -> None:
    record = logging.LogRecord("hunch", logging.WARNING, "", 0, "%s", ("region a\nlocal: p = 1e-9\x1b[31m",), None)
    assert PlainFormatter("%(message)s").format(record) == r"region a\nlocal: p = 1e-9\x1b[31m"


def test_the_command_line_prints_in_one_place() -> None:
    folder = Path(__file__).resolve().parents[2] / "cli"
    printing = [p.name for p in folder.glob("*.py") if re.search(r"click\.s?echo|\bprint\(", p.read_text("utf-8"))]
    assert printing == ["terminal.py"]
