"""How a command ends that does not end by itself: interruption, signals, another writer, a full disk, want of memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hunch.files import write_aside
from hunch.lock import only_writer, writing

Call = Callable[..., tuple[int, str, str]]
HUNCH = str(Path(sys.executable).with_name("hunch"))


def test_the_package_runs_as_the_program_does(tmp_path: Path) -> None:
    done = [
        subprocess.run(
            [*start, "train", "nowhere.yaml"], capture_output=True, text=True, cwd=tmp_path, check=False, timeout=60
        )
        for start in ([HUNCH], [sys.executable, "-m", "hunch"])
    ]
    assert done[1].returncode == 2
    assert done[1].stderr == done[0].stderr
    assert "nowhere.yaml" in done[1].stderr


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
    name: str, status: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
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
        found, out, err = call("simulate", "qcd", "-n", "1", "-o", str(tmp_path / "x.root"))
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
        ("convert", "vaejet", "absent.h5", "OUT.root"),
        ("convert", "adc2021", "absent.h5", "OUT.root"),
        ("convert", "phenoml", "absent.csv", "OUT.root"),
        ("convert", "phenoml", "absent.root", "OUT.csv"),
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
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
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
        status, out, err = call(*arguments)
        assert sorted(tmp_path.rglob("*")) == before
    finally:
        over.set()
        thread.join()
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert f"is in use by another run (process {os.getpid()} on " in err


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


def test_want_of_memory_is_one_line(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    def much(*_: Any, **__: Any) -> None:
        raise MemoryError("Unable to allocate 8 TiB")

    monkeypatch.setattr("hunch.samples.fetch", much)
    status, _, err = call("fetch", "lhco_rnd")
    assert (status, err) == (2, "hunch: the memory does not suffice: Unable to allocate 8 TiB\n")
