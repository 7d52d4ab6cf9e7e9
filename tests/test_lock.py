"""One writer at a time: who holds an output is said, nothing is touched, and no dead process or child of one holds anything."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hunch import lock as locks
from hunch.errors import HunchError
from hunch.lock import only_writer, reading, writing

HOLDS = """
import os, sys, time
from pathlib import Path
from hunch.lock import only_writer, reading, writing
with {how}(Path(sys.argv[1])):
    {then}
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts a process which holds a path; those are killed in the end."""
    started = []

    def hold(path: Path, how: str = "writing", then: str = "pass") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLDS.format(how=how, then=then), str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_the_second_writer_is_told_who_the_first_is_and_touches_nothing(
    tmp_path: Path, other: Callable[..., subprocess.Popen[str]]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    half = out / ".table.0123456789ab.part"
    half.mkdir()
    first = other(out, then="Path(sys.argv[1], '.x.0123456789ab.part').touch()")
    assert not half.exists()  # of a killed run
    before = sorted(p.name for p in out.rglob("*"))
    said = rf"out: is in use by another run \(process {first.pid} on .+ since 20\d\d-.+\); wait for it, or name another"
    for how in (writing, reading):
        with pytest.raises(HunchError, match=said), how(out):
            pytest.fail("held twice")
    link = tmp_path / "same"
    link.symlink_to(out)
    with pytest.raises(HunchError, match="is in use"), writing(link):
        pytest.fail("held twice")
    assert sorted(p.name for p in out.rglob("*")) == before == [".lock", ".x.0123456789ab.part"]
    first.kill()
    first.wait()
    # the file of a killed process is still there, and holds nobody up
    assert (out / ".lock").exists()
    with writing(out), writing(out), reading(out):
        assert not (out / ".x.0123456789ab.part").exists()
    assert list(out.iterdir()) == []


def test_readers_share_and_keep_writers_out(tmp_path: Path, other: Callable[..., subprocess.Popen[str]]) -> None:
    first = other(tmp_path, "reading")
    with reading(tmp_path), pytest.raises(HunchError, match="is in use"):
        # a thread of the same process is another run
        raise_in_thread(lambda: writing(tmp_path).__enter__())
    with reading(tmp_path):
        pass
    with pytest.raises(HunchError, match=f"process {first.pid}|is in use"), writing(tmp_path):
        pytest.fail("held beside a reader")
    first.kill()
    first.wait()
    with writing(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def raise_in_thread(call: Callable[[], object]) -> None:
    """Call in a thread and raise here what it raises there."""
    caught: list[HunchError] = []

    def run() -> None:
        try:
            call()
        except HunchError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if caught:
        raise caught[0]


@pytest.mark.parametrize(
    "child",
    [
        "(os.fork() or time.sleep(60))",
        "import subprocess; subprocess.Popen(['sleep', '60'], close_fds=False)",
        "import loky; loky.ProcessPoolExecutor(1).submit(time.sleep, 60); time.sleep(2)",
    ],
    ids=["fork", "exec", "loky"],
)
def test_an_orphan_holds_nothing(tmp_path: Path, child: str) -> None:
    script = HOLDS.format(how="writing", then=child).replace("    print(", "    if os.getpid() == me: print(")
    script = script.replace("import os, sys, time\n", "import os, sys, time\nme = os.getpid()\n", 1)
    command = [sys.executable, "-c", script, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        first.kill()
        first.wait()
        try:
            assert is_free(tmp_path / "out")
        finally:
            os.killpg(first.pid, 9)


def is_free(folder: Path) -> bool:
    """Tell whether a folder can be held within seconds: a child needs a moment to close what it was born with."""
    for _ in range(100):
        try:
            with writing(folder):
                return True
        except HunchError:
            time.sleep(0.05)
    return False


def test_an_output_file_is_held_beside_it_and_what_a_killed_run_left_goes(
    tmp_path: Path, other: Callable[..., subprocess.Popen[str]]
) -> None:
    path = tmp_path / "new" / "x.root"
    first = other(path, "only_writer")
    with (
        pytest.raises(HunchError, match=rf"x\.root: is in use by another run \(process {first.pid}"),
        only_writer(path),
    ):
        pytest.fail("held twice")
    with only_writer(path.with_name("y.root")):  # another file of the folder
        pass
    first.kill()
    first.wait()
    for name in (".x.root.0123456789ab.part", ".y.root.0123456789ab.part", ".x.root.part"):
        (path.parent / name).touch()
    with only_writer(path):
        path.touch()
    assert sorted(p.name for p in path.parent.iterdir()) == [".x.root.part", ".y.root.0123456789ab.part", "x.root"]


def test_nothing_is_made_for_an_output_that_is_not_written(tmp_path: Path) -> None:
    for how in (writing, only_writer):
        with pytest.raises(HunchError, match="wrong input"), how(tmp_path / "a" / "b"):
            raise HunchError("wrong input")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(HunchError, match="file: is a file; a folder is written"), writing(tmp_path / "file"):
        pytest.fail("a file was held as a folder")


def test_a_file_system_without_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(number: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with writing(tmp_path / "out"):
        (tmp_path / "out" / "x").touch()
    assert "its file system has no locks (No locks available)" in caplog.text
    assert locks.HELD == {}


def test_many_processes_in_turn_never_hold_at_once(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom hunch.errors import HunchError\nfrom hunch.lock import writing\n"
        "folder, held = Path(sys.argv[1]), 0\nend = time.monotonic() + 1.5\n"
        "while time.monotonic() < end:\n"
        "    try:\n"
        "        with writing(folder):\n"
        "            (folder / 'mine').touch(exist_ok=False)\n            held += 1\n            (folder / 'mine').unlink()\n"
        "    except HunchError:\n        pass\n"
        "print(held)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "out")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = [process.communicate(timeout=60)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert all(int(text) > 0 for text in told)
