"""Calls of hunch explore that are wrong: one line that says what is allowed, and nothing made."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hunch.lock import only_writer
from hunch.table import Table, write_table

Call = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent.parquet",), "absent.parquet: no such file"),
        (("a.yaml",), "a.yaml: not a table by its name"),
        (("texts.csv",), "texts.csv: no column holds one number an event"),
        (("empty.csv",), "empty.csv: holds no events"),
        (("nan.csv",), "nan.csv: no column holds a finite number"),
        (("out",), "out: no scored table in its folder scores; hunch run writes them"),
        (("t.csv", "--columns", "metx"), "no column 'metx'; did you mean 'met'"),
        (("t.csv", "--columns", "met,ht,htt"), "no column 'htt'; did you mean 'ht'"),
        (("t.csv", "--export", "s.csv"), "--export s.csv: the table is parquet"),
        (("t.csv", "--export", "file/s.parquet"), "file: no folder can be made there: file is a file"),
        (("t.parquet", "--export", "t.parquet"), "t.parquet: is an input too"),
        (("out", "--export", "out/s.parquet"), "--export out/s.parquet: lies in out, which is read"),
        (("t.csv", "--port", "70000"), "--port"),
        (("t.csv", "--port", "TAKEN"), ": in use by another program; --port 0 takes one that is free"),
        (("t.csv", "--export", "held.parquet"), "held.parquet: is in use by another run"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {
        "a.yaml": "samples: {data: [t.csv]}\noutput: o\n",
        "texts.csv": "name,other\na,b\n",
        "empty.csv": "met,ht\n",
        "nan.csv": "met\nnan\nnan\n",
        "t.csv": "met,ht\n1,2\n3,4\n",
        "file": "",
    }
    for name, content in files.items():
        Path(name).write_text(content)
    write_table("t.parquet", Table({"met": np.arange(3.0)}))
    Path("out").mkdir()
    ready, over = threading.Event(), threading.Event()

    def other_run() -> None:
        with only_writer(Path("held.parquet")):
            ready.set()
            over.wait(60)

    thread = threading.Thread(target=other_run)
    thread.start()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        try:
            assert ready.wait(10)
            port = str(taken.getsockname()[1])
            status, _, err = call("explore", *(port if a == "TAKEN" else a for a in arguments), "--no-browser")
        finally:
            over.set()
            thread.join()
    assert status == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*files, "t.parquet", "out"])
