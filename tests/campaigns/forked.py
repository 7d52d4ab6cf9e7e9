"""One reading of one file in a forked child, with limits on time and memory, and what came of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Child", "Outcome", "start"]

GIB = 1024**3
ONE_MESSAGE = 12  # lines: an error is one message, a list of wrong keys at most


@dataclass(frozen=True)
class Outcome:
    """What came of a reading: its kind, and what was said."""

    kind: str  # "message", "answer", "traceback", "crash", "hang", "blow-up", "wordy", "no message"
    said: str
    answer: Any = None


class Child:
    """A forked child at work in a folder of its own."""

    def __init__(self, pid: int, folder: Path, limit_s: float) -> None:
        self.pid, self.folder, self.limit_s = pid, folder, limit_s
        self.started = time.monotonic()
        self.fd = os.pidfd_open(pid)

    def outcome(self) -> Outcome | None:
        """Return what came of the child, None while it works; a child out of time is killed with all of its own."""
        done, status = os.waitpid(self.pid, os.WNOHANG)
        if not done:
            if time.monotonic() - self.started < self.limit_s:
                return None
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.end()
            return Outcome("hang", f"no end after {self.limit_s:.0f} s")
        self.end()
        said = (self.folder / "stderr").read_text(errors="replace")
        kind = kind_of(status, said)
        if kind == "answer":
            return Outcome(kind, said, json.loads((self.folder / "answer").read_text()))
        if kind == "crash":
            said = f"signal {os.WTERMSIG(status)}: {said}"
        return Outcome(kind, said[-2500:].strip())

    def end(self) -> None:
        """Close the handle and end what the child left running."""
        os.close(self.fd)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def kind_of(status: int, said: str) -> str:
    """Tell what a child's end was from its status and what it said."""
    if os.WIFSIGNALED(status):
        return "crash"
    if any(word in said for word in ("MemoryError", "Cannot allocate memory", "bad_alloc")):
        return "blow-up"
    if "Traceback (most recent call last)" in said:
        return "traceback"
    code = os.WEXITSTATUS(status)
    if code == 0:
        return "answer"
    if code != 2 or not said.strip():
        return "no message"
    odd = re.search(r"[\x00-\x08\x0b-\x1f\x7f]", said)
    return "wordy" if odd or len(said.strip().splitlines()) > ONE_MESSAGE else "message"


def start(read: Callable[[Path, Path], Any], path: Path, folder: Path, *, limit_s: float, memory: float) -> Child:
    """Fork a child that reads the file into the folder; its answer, stdout and stderr are left there.

    read: the file, the folder -> a JSON-like answer; SystemExit ends it with its status. memory: bytes on top of what the
    parent has.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Child(pid, folder, limit_s)
    code = 3
    try:
        os.setsid()
        with redirected(folder):
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (int(used + memory), int(used + memory)))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.chdir(folder)
            try:
                answer = read(path, folder)
                (folder / "answer").write_text(json.dumps(answer))
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0
                if code == 0:
                    code = 4
            except BaseException:  # noqa: BLE001 - whatever it is, it is the finding
                traceback.print_exc()
                code = 1
    finally:
        os._exit(code)


@contextlib.contextmanager
def redirected(folder: Path) -> Iterator[None]:
    """Send stdout and stderr, also those of libraries, to files in the folder."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
        os.close(file)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    yield
    sys.stdout.flush()
    sys.stderr.flush()
