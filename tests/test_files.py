"""Files: no half file stays, folders are replaced as a whole, JSON is strict."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from hunch.errors import InputError
from hunch.files import remove, write_aside, write_folder_aside, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "out.txt"
    with write_aside(path) as aside:
        aside.write_text("old")

    def fail(error: BaseException) -> None:
        with write_aside(path) as aside:
            aside.write_text("half")
            assert aside.suffix == path.suffix
            raise error

    for error in (RuntimeError("full disk"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            fail(error)
        assert [p.name for p in path.parent.iterdir()] == ["out.txt"]
        assert path.read_text() == "old"


def test_a_directory_is_no_file_to_write(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory"), write_aside(tmp_path):
        pass


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_is_strict(value: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "r.json", {"best": {"p": value}})
    assert list(tmp_path.iterdir()) == []


def test_json_round_trip(tmp_path: Path) -> None:
    write_json(tmp_path / "r.json", {"p": 1e-300, "name": "ψ"})
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8")) == {"p": 1e-300, "name": "ψ"}


def test_a_failed_folder_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "parts"
    with write_folder_aside(path) as aside:
        (aside / "a").write_text("old")

    def fail(error: BaseException) -> None:
        with write_folder_aside(path) as aside:
            (aside / "a").write_text("half")
            raise error

    for error in (RuntimeError("full disk"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            fail(error)
        assert [p.name for p in path.parent.iterdir()] == ["parts"]
        assert (path / "a").read_text() == "old"
    with write_folder_aside(path) as aside:
        (aside / "b").write_text("new")
    assert [p.name for p in path.iterdir()] == ["b"]
    assert [p.name for p in path.parent.iterdir()] == ["parts"]


def test_a_link_is_replaced_and_never_written_through(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.tex").write_text("mine")
    (tmp_path / "link").symlink_to(theirs)
    with write_folder_aside(tmp_path / "link") as aside:
        (aside / "a").write_text("new")
    assert (tmp_path / "link" / "a").read_text() == "new"
    assert (theirs / "thesis.tex").read_text() == "mine"
    (tmp_path / "other").symlink_to(theirs)
    remove(tmp_path / "other")
    assert (theirs / "thesis.tex").is_file()
