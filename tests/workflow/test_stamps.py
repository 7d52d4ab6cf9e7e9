"""Stamps and the lock of an output folder: damaged ones mean that it is done again, links are not followed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hunch.files import WriteError, require_place
from hunch.lock import writing
from hunch.workflow.layout import FOLDERS
from hunch.workflow.stamps import Key, stamp_holds, write_stamp

KEY = Key("train", {"seed": 0}, (("data", "0f"),), "source")


@pytest.mark.parametrize("cut", ["", "{", '{"key": "k", "version"', "[" * 100_000, "[1]", "null", "9" * 5000])
def test_a_damaged_stamp_stands_for_nothing(cut: str, tmp_path: Path) -> None:
    stamp, made = tmp_path / "stamp.json", tmp_path / "made"
    made.write_text("x")
    write_stamp(stamp, KEY, [made])
    assert stamp_holds(stamp, KEY, [made])
    stamp.write_text(cut)
    assert not stamp_holds(stamp, KEY, [made])


def test_a_truncated_output_is_made_again(tmp_path: Path) -> None:
    stamp, made = tmp_path / "stamp.json", tmp_path / "result.json"
    made.write_text('{"best": 1}')
    write_stamp(stamp, KEY, [made])
    made.write_text('{"be')
    assert not stamp_holds(stamp, KEY, [made])


def test_a_lock_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").symlink_to(tmp_path / "theirs")
    with (
        pytest.raises(WriteError, match=r"out/\.lock: cannot be written: it is a symbolic link"),
        writing(tmp_path / "out"),
    ):
        pass
    assert (tmp_path / "theirs").read_text() == "mine"


def test_a_folder_that_is_closed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The superuser, who may write everywhere, runs tests too: the system's answer is put in place of."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        with pytest.raises(WriteError, match=r"out: cannot be written: permission denied"):
            require_place(tmp_path / "out")

    def closed(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", closed)
    with pytest.raises(WriteError, match=r"out: .*permission denied"), writing(tmp_path / "out"):
        pass


@pytest.mark.parametrize("name", ["figures", ".spectra", ".stages", "limits/near", ".spectra/pieces"])
def test_a_folder_inside_that_is_a_link_is_not_written_into(name: str, tmp_path: Path) -> None:
    theirs, out = tmp_path / "theirs", tmp_path / "out"
    half = theirs / "pieces" / ".x.0123456789ab.part"
    half.mkdir(parents=True)
    (out / name).parent.mkdir(parents=True)
    (out / name).symlink_to(theirs)
    with (
        pytest.raises(WriteError, match=rf"out/{name}: cannot be written: it is a symbolic link.*; delete it, or name"),
        writing(out, within=FOLDERS),
    ):
        pass
    assert half.is_dir()
    assert not (out / ".lock").exists()
    (out / name).unlink()
    (out / "result.json").symlink_to(theirs / "other.json")  # a file's is replaced
    (tmp_path / "linked").symlink_to(out)  # as a whole it may lie elsewhere
    with writing(tmp_path / "linked", within=FOLDERS):
        pass
