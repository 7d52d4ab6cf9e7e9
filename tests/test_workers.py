"""Workers do not outlive their run, however it ends."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from hunch.workers import WorkerPool


def test_an_interrupted_pool_waits_for_nobody() -> None:
    def interrupted() -> None:
        with WorkerPool(1) as pool:
            waiting = [pool.submit(time.sleep, 30) for _ in range(3)]
            while not waiting[0].running():
                time.sleep(0.01)
            raise KeyboardInterrupt

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - begin < 20


def test_workers_of_a_killed_run_end(tmp_path: Path) -> None:
    script = (
        "import os, time\nfrom hunch.workers import WorkerPool\npool = WorkerPool(1)\n"
        "print(pool.submit(os.getpid).result(), flush=True)\npool.submit(time.sleep, 60)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        worker = psutil.Process(int(run.stdout.readline()))
        run.kill()
        run.wait()
    worker.wait(20)
