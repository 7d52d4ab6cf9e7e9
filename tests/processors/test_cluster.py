"""Dask's scheduler is watched: one that is lost ends the run with one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from hunch.processors import Features, ProcessingError, Running, run_table
from hunch.processors.cluster import watched

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Client:
    """A client whose scheduler answers as often as it is told to."""

    status = "running"
    scheduler = type("Scheduler", (), {"identity": None})

    def __init__(self, answers: int) -> None:
        self.left = answers

    def sync(self, _: Any, *, callback_timeout: float) -> None:
        del callback_timeout
        self.left -= 1
        if self.left < 0:
            raise TimeoutError


def test_a_scheduler_that_falls_silent_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hunch.processors.cluster.PING_EVERY", 0.01)
    never = threading.Event()
    with pytest.raises(ProcessingError, match=r"scheduler 'tcp://x:1' does not answer any more"):
        watched(Client(3), "tcp://x:1", never.wait)
    never.set()
    assert watched(Client(1000), None, lambda: time.sleep(0.05) or 7) == 7


def test_what_the_work_raises_is_raised_and_what_a_lost_scheduler_makes_it_raise_is_not() -> None:
    def fail() -> None:
        raise OSError("connection lost")

    with pytest.raises(OSError, match="connection lost"):
        watched(Client(1000), None, fail)
    with pytest.raises(ProcessingError, match="dask's scheduler does not answer any more"):
        watched(Client(0), None, fail)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGKILL", "SIGSTOP"])
def test_a_run_ends_within_half_a_minute_of_its_scheduler(
    name: str, random_events: Callable[[int], Any], write_events: Callable[..., Path], tmp_path: Path
) -> None:
    place = tmp_path / "scheduler.json"
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--host", "127.0.0.1"]
    started = subprocess.Popen(
        [*scheduler, "--no-dashboard", "--scheduler-file", str(place)], stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            if place.is_file() and place.stat().st_size:
                break
            time.sleep(0.1)
        import json

        address = json.loads(place.read_text())["address"]
        # There is no worker, so that the run waits.
        threading.Timer(5, lambda: os.kill(started.pid, getattr(signal, name))).start()
        begun = time.monotonic()
        with pytest.raises(ProcessingError, match=rf"scheduler '{address}' does not answer any more"):
            run_table(
                write_events("a.root", random_events(5)),
                Features(),
                Running(executor="dask", scheduler=address, progress=False),
                output=tmp_path / "t",
            )
        assert time.monotonic() - begun < 5 + 30
        assert not (tmp_path / "t").exists()
    finally:
        started.kill()
        started.wait()
