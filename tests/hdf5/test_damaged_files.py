"""A damaged file gives a message, whatever it does to the HDF5 library, and leaves nothing behind for the next file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hunch.errors import InputError
from hunch.hdf5 import open_hdf5, reader
from hunch.table import read_table


@pytest.fixture
def path(tmp_path: Path, rng: np.random.Generator) -> Path:
    pd.DataFrame(rng.normal(size=(60, 3)), columns=list("abc")).to_hdf(
        tmp_path / "t.h5", key="df", complib="blosc", complevel=5
    )
    return tmp_path / "t.h5"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGSEGV, r"reading it crashed the HDF5 library \(signal 11\): the file is damaged"),
        (signal.SIGABRT, r"reading it crashed the HDF5 library \(signal 6\): the file is damaged"),
        (signal.SIGXCPU, "reading it led the HDF5 library in a circle"),
        (signal.SIGKILL, "the process that read it was killed; was there too little memory"),
    ],
)
def test_a_crash_is_a_message_and_the_next_file_is_read(number: signal.Signals, said: str, path: Path) -> None:
    """What the library does to its process where a file leads it astray is done to it here."""
    with open_hdf5(path, expected="a table") as stored:
        child = stored._child
        (forked,) = forks_of(child.process.pid)
        os.kill(forked, number)
        with pytest.raises(InputError, match=rf"t\.h5: {said}"):
            stored.matrix(0, 60)
    assert child not in reader.IDLE[os.getpid()]
    assert child.process.returncode is not None
    assert len(read_table(path)) == 60


def forks_of(process: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_a_process_serves_one_file_after_the_other_and_is_ended_where_it_owes_an_answer(path: Path) -> None:
    with open_hdf5(path, expected="a table") as stored:
        child = stored._child
        assert stored.matrix(0, 2).shape == (2, 3)
    assert child in reader.IDLE[os.getpid()]
    with suppress(ZeroDivisionError), open_hdf5(path, expected="a table") as stored:
        assert stored._child is child
        raise ZeroDivisionError
    assert child in reader.IDLE[os.getpid()]
    with suppress(KeyboardInterrupt), open_hdf5(path, expected="a table") as stored:
        stored._child.waiting = True  # as in the middle of an answer
        raise KeyboardInterrupt
    assert child not in reader.IDLE[os.getpid()]
    assert child.process.returncode == -signal.SIGKILL


def test_two_files_at_once_and_threads(path: Path) -> None:
    with open_hdf5(path, expected="a table") as first, open_hdf5(path, expected="a table") as second:
        np.testing.assert_array_equal(first.matrix(0, 60), second.matrix(0, 60))
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(len(read_table(path)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [60] * 4


def test_a_process_that_was_forked_has_children_of_its_own(path: Path) -> None:
    assert len(read_table(path)) == 60
    script = (
        "import os, sys; from hunch.table import read_table\n"
        f"a = read_table({str(path)!r}); pid = os.fork(); b = [read_table({str(path)!r}) for _ in range(5)]\n"
        "assert all((a['a'] == t['a']).all() for t in b)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_relative_path_is_read_where_it_is_meant(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    assert len(read_table("t.h5")) == 60
    (path.parent / "below").mkdir()
    monkeypatch.chdir(path.parent / "below")
    assert len(read_table("../t.h5")) == 60
    with pytest.raises(InputError, match=r"^t\.h5: no such file"):
        read_table("t.h5")


def test_nothing_of_the_working_folder_is_imported(path: Path) -> None:
    (path.parent / "h5py.py").write_text("raise SystemExit('imported')")
    script = f"from hunch.table import read_table; print(len(read_table({str(path)!r})))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=False, timeout=60, cwd=path.parent
    )
    assert (done.stdout, done.returncode) == ("60\n", 0), done.stderr


def test_no_process_stays_behind(path: Path) -> None:
    script = f"from hunch.table import read_table; from hunch.hdf5 import reader; read_table({str(path)!r}); print([c.process.pid for own in reader.IDLE.values() for c in own][0])"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    assert not Path(f"/proc/{int(done.stdout)}").exists()


def test_a_reader_that_is_killed_takes_its_child_along(path: Path) -> None:
    script = (
        "import time; from pathlib import Path; from hunch.hdf5 import open_hdf5\n"
        f"with open_hdf5(Path({str(path)!r}), expected='a') as t: print(t._child.process.pid, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    child = Path(f"/proc/{int(process.stdout.readline())}")
    assert child.exists()
    process.kill()
    process.wait()
    process.stdout.close()
    for _ in range(100):
        if not child.exists() or "(zombie)" in (child / "status").read_text():
            return
        time.sleep(0.05)
    raise AssertionError("the child lives on")


def mutants(data: bytes, rng: np.random.Generator, n: int) -> list[bytes]:
    """Change some bytes, most of them in what is not zero; cut off some files."""
    filled = np.flatnonzero(np.frombuffer(data, dtype=np.uint8))
    made = []
    for _ in range(n):
        changed = bytearray(data)
        for place in rng.choice(filled, rng.choice([1, 2, 8, 50])):
            changed[place] = rng.choice([0, 255, 127, 128, 1, rng.integers(256)])
        made.append(bytes(changed[: rng.integers(len(data))] if rng.random() < 0.05 else changed))
    return made


@pytest.mark.parametrize(
    ("layout", "n"),
    [
        ("fixed", 40),
        ("table", 40),
        pytest.param("fixed", 1000, marks=pytest.mark.slow),
        pytest.param("table", 1000, marks=pytest.mark.slow),
    ],
)
def test_mutants_give_a_table_or_a_message(layout: str, n: int, tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "t.h5"
    pd.DataFrame(rng.normal(size=(60, 3)), columns=list("abc")).to_hdf(
        path, key="df", format=layout, complib="blosc", complevel=5, index=False
    )
    outcomes: Counter[str] = Counter()
    for mutant in mutants(path.read_bytes(), rng, n):
        path.write_bytes(mutant)
        try:
            read_table(path)
            outcomes["table"] += 1
        except InputError as error:
            outcomes["nameless" if "t.h5" not in str(error) else "crash" if "signal" in str(error) else "message"] += 1
    assert outcomes["nameless"] == 0
    assert outcomes["message"] > n / 8
    assert outcomes["table"] > n / 8


def test_nothing_of_the_package_opens_hdf5_by_itself() -> None:
    """PyTables and pandas unpickle what they open; h5py is the child's alone."""
    root = Path(__file__).resolve().parents[2]
    rooms = [
        p
        for p in root.rglob("*.py")
        if p.relative_to(root).parts[0] not in {"tests", "benchmarks", "notebooks", "build", ".venv"}
    ]
    assert len(rooms) > 100
    for source in rooms:
        text = source.read_text(encoding="utf-8")
        imported = set(re.findall(r"^\s*(?:import|from) (\w+)", text, re.MULTILINE))
        assert not imported & {"tables", "pickle", "cloudpickle", "joblib", "dill"}, source
        assert "HDFStore" not in text, source
        assert "pd.read_hdf" not in text, source
        assert "h5py" not in imported or source.parent == root / "hdf5", source
