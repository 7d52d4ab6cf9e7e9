"""Files: no half file stays, folders are replaced as a whole, JSON is strict."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hunch.documents import MAX_DEPTH, parse_json, parse_yaml, read_json, read_yaml
from hunch.errors import HunchError, InputError
from hunch.files import WriteError, make_folder, refuse_input, remove, write_aside, write_folder_aside, write_json
from hunch.lock import only_writer


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
    (tmp_path / "file").symlink_to(theirs / "thesis.tex")
    with write_aside(tmp_path / "file") as aside:
        aside.write_text("new")
    assert (tmp_path / "file").read_text() == "new"
    assert not (tmp_path / "file").is_symlink()
    (tmp_path / "nothing").symlink_to(theirs / "not there")
    write_json(tmp_path / "nothing", 1)
    assert sorted(p.name for p in theirs.iterdir()) == ["thesis.tex"]
    assert (theirs / "thesis.tex").read_text() == "mine"


@pytest.mark.parametrize("write", [write_aside, write_folder_aside])
def test_what_is_written_aside_lies_where_nobody_else_can_write(write: Callable[[Path], Any], tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with write(tmp_path / "out") as aside:
            folder = aside.parent
            assert folder.parent == tmp_path
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            if not aside.is_dir():
                aside.touch()
        assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == (0o777 if (tmp_path / "out").is_dir() else 0o666)
    finally:
        os.umask(before)
    names = set()
    for _ in range(5):
        with write(tmp_path / "out") as aside:
            names.add(aside.parent.name)
            if not aside.is_dir():
                aside.touch()
    assert len(names) == 5


def test_a_place_that_is_taken_is_not_written_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name cannot be foreseen; were it, a folder or a link of that name would stop the writing."""
    monkeypatch.setattr("hunch.files.secrets.token_hex", lambda _: "0")
    (tmp_path / "theirs").mkdir()
    (tmp_path / ".out.0.part").symlink_to(tmp_path / "theirs")
    with pytest.raises(WriteError, match="something of that name is there"), write_aside(tmp_path / "out"):
        pass
    assert list((tmp_path / "theirs").iterdir()) == []
    assert (tmp_path / ".out.0.part").is_symlink()


@pytest.mark.parametrize("write", [write_aside, write_folder_aside, only_writer])
def test_a_pipe_or_device_is_not_replaced_by_a_file(write: Callable[[Path], Any], tmp_path: Path) -> None:
    """The superuser's `-o /dev/null` would put a file in its place, for everyone."""
    os.mkfifo(tmp_path / "null")
    (tmp_path / "stdout").symlink_to(tmp_path / "null")
    for name in ("null", "stdout"):
        with pytest.raises(InputError, match=f"{name}: is a device or a pipe"), write(tmp_path / name):
            pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["null", "stdout"]
    assert (tmp_path / "stdout").is_symlink()
    for name in ("null", "stdout", "hunch.json"):
        with pytest.raises(InputError, match=f"/dev/{name}: is a device"), write(Path("/dev", name)):
            pass


def test_a_long_name_is_written(tmp_path: Path) -> None:
    name = "é" * 120 + ".json"
    write_json(tmp_path / name, 1)
    with write_folder_aside(tmp_path / name[:-5]) as aside:
        (aside / "a").touch()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, name[:-5]])
    with pytest.raises(WriteError, match="the name is too long"):
        write_json(tmp_path / ("x" * 300), 1)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "your quota of this disk is used up"),
        (errno.EROFS, "the disk is read-only"),
        (errno.EFBIG, "the file grew beyond"),
    ],
)
def test_an_error_of_writing_names_the_output_and_what_to_do(number: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old")
    for write in (write_aside, write_folder_aside):
        with pytest.raises(WriteError, match=rf"{tmp_path}/out: cannot be written: {said}"), write(tmp_path / "out"):
            raise OSError(number, os.strerror(number))  # as a write to an open file is refused, without a name
        assert [p.name for p in tmp_path.iterdir()] == ["out"]
        assert (tmp_path / "out").read_text() == "old"


def test_an_error_of_reading_meanwhile_is_not_one_of_writing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not there"), write_aside(tmp_path / "out"):
        (tmp_path / "not there").read_text()
    with pytest.raises(OSError, match="basket"), write_aside(tmp_path / "out"):
        raise OSError("basket 3 cannot be read")


@pytest.mark.parametrize("write", [write_aside, write_folder_aside])
def test_a_pipe_or_a_device_is_not_replaced_by_a_file(write: Callable[[Path], Any], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    (tmp_path / "null").symlink_to("/dev/null")
    for name in ("pipe", "stdout", "null"):
        with pytest.raises(InputError, match=f"{name}: is a device or a pipe"), write(tmp_path / name):
            pass
    assert (tmp_path / "pipe").is_fifo()
    assert len(list(tmp_path.iterdir())) == 3


def test_an_output_that_is_an_input_is_refused_by_whatever_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "link.csv").symlink_to("a.csv")
    refuse_input(tmp_path / "new.csv", [tmp_path / "a.csv", "-", "root://elsewhere//a.root"])
    for name in ("a.csv", "link.csv"):
        with pytest.raises(InputError, match=f"{name}: is an input too, and would be lost"):
            refuse_input(tmp_path / name, [tmp_path / "a.csv"])


def test_a_full_device_is_named(tmp_path: Path) -> None:
    def fill(aside: Path) -> None:
        aside.symlink_to("/dev/full")
        aside.write_text("x" * 10_000)

    with (
        pytest.raises(WriteError, match=rf"{tmp_path}/out: cannot be written: the disk is full"),
        write_aside(tmp_path / "out") as aside,
    ):
        fill(aside)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_says_what_stands_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for place in ("file", "file/a", "file/a/b"):
        with pytest.raises(WriteError, match=rf"{place}: no folder can be made there: {tmp_path}/file is a file"):
            make_folder(tmp_path / place)
    with pytest.raises(WriteError, match=rf"link/a: no folder can be made there: {tmp_path}/link is a link to nothing"):
        make_folder(tmp_path / "link" / "a")
    with pytest.raises(WriteError, match=rf"{tmp_path}/file is a file"):
        write_json(tmp_path / "file" / "out.json", 1)
    assert make_folder(tmp_path / "a" / "b").is_dir()


# ------------------------------------------------------------------------------------------ JSON

DEEP = MAX_DEPTH + 1


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty; JSON is expected"),
        ('{"a": [1, 2', r"truncated or no JSON"),
        ('{"a": 1, "a": 2}', "key 'a' is given twice"),
        ("[NaN]", "holds NaN, no number"),
        ('{"a": -Infinity}', "holds -Infinity, no number"),
        ("[1e400]", "holds 1e400, more than a number in double precision can be"),
        ("[" + "9" * 5000 + "]", r"holds 999999999999\.\.\.9999 \(5000 characters\)"),
        ("[" + "9" * 309 + "]", "holds 9"),
        ("[" * 100_000, f"more than {MAX_DEPTH} deep"),
        ("[" * DEEP + "]" * DEEP, f"more than {MAX_DEPTH} deep"),
        ('{"a":' * DEEP + "1" + "}" * DEEP, f"more than {MAX_DEPTH} deep"),
        (r'["\ud800"]', "half a character"),
        (r'{"a\u0000": 1}', "NUL character"),
    ],
)
def test_json_that_is_refused_names_the_file(text: str, said: str, exact: bool, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"r\.json: .*{said}"):
        read_json(path, exact=exact)


def test_json_that_is_read() -> None:
    text = '{"n": 18446744073709551615, "p": 1e-300, "x": [1.5, null, true], "s": "\\ud83d\\ude00 \\\\u0000"}'
    assert parse_json("\ufeff".lstrip("\ufeff") + text, "f") == json.loads(text)
    assert parse_json(text.encode(), "f")["n"] == 2**64 - 1
    assert str(parse_json("[0.10]", "f", exact=True)[0]) == "0.10"
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH, "f")


def test_what_is_no_text_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_bytes(b"\xfa\xfb")
    for name, said in (("b.json", "is no text file"), ("none.json", "no such file"), (".", "is a directory")):
        with pytest.raises(InputError, match=f"{said}.*; a fileset is expected"):
            read_json(tmp_path / name, "a fileset")
    os.mkfifo(tmp_path / "pipe.json")  # nobody writes into it: reading it would wait for ever
    with pytest.raises(InputError, match="is no file"):
        read_json(tmp_path / "pipe.json")
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "bom.json") == [1]


# ------------------------------------------------------------------------------------------ YAML

BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)
)
CHAIN = "a0: &a0 [x]\n" + "\n".join(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, DEEP + 1))
MERGES = "a0: &a0 {k: 1, j: 2}\n" + "\n".join(
    f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}, *a{i - 1}]}}" for i in range(1, 40)
)


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "line 6: aliases stand for more than 100000 values"),
        (MERGES, r"line \d+: aliases stand for more than 100000 values"),
        (CHAIN, rf"line \d+: lists or mappings inside each other more than {MAX_DEPTH} deep"),
        ("samples: " + "[" * 50_000, f"line 1: lists or mappings inside each other more than {MAX_DEPTH} deep"),
        ("x: 1\na: &a [*a]", r"line 2: \*a stands for a list or mapping that it is in itself"),
        ("a: &a {b: {c: *a}}", r"line 1: \*a stands for"),
        ("a: 1\n---\nb: 2\n", "line 2: a second document begins here"),
        ("a: 1\n---\n", "line 2: a second document begins here"),
        ("a:\n  b: 1\n  b: 2\n", r"line 3: key 'a\.b' is given twice"),
        ("a: [{b: 1, b: 2}]", r"line 1: key 'a\[0\]\.b' is given twice"),
        (
            "a: !!python/object/apply:os.system ['touch x']",
            r"line 1: key 'a': tag '!!python/object/apply:os\.system' is not",
        ),
        ("!!python/name:os.system {}", "line 1: tag .* is not read"),
        ("a: !mine x", "line 1: key 'a': tag '!mine' is not read"),
        ("a: !!binary aGk=", "tag '!!binary' is not read"),
        ("[a]: 1", "line 1: a list or a mapping cannot be a key"),
        ("a: [1", "is no YAML: line 1"),
        ("a: *x", "is no YAML: line 1: .*undefined alias 'x'"),
        ('a: "\\0"', "NUL character"),
        ('a: "\\ud800"', "half a character"),
    ],
)
def test_yaml_that_is_refused_names_file_and_line(text: str, said: str, typed: bool, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    started = time.process_time()
    with pytest.raises(InputError, match=rf"r\.yaml: .*{said}"):
        read_yaml(path, typed=typed)
    assert time.process_time() - started < 2.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: " + "9" * 5000, r"line 1: key 'a': 999999999999\.\.\.9999 \(5000 characters\) is more"),
        ("a: 0x" + "f" * 5000, "line 1: key 'a': 0x"),
        ("x: 1\na: {b: 1.0e+400}", r"line 2: key 'a\.b': 1\.0e\+400 is no finite number"),
        ("a: .nan", "line 1: key 'a': .nan is no finite number"),
        ("a: [-.inf]", r"line 1: key 'a\[0\]': -.inf is no finite number"),
        ("a: !!int x", "line 1: key 'a': 'x' is no int"),
        ("a: !!bool x", "line 1: key 'a': 'x' is no bool"),
    ],
)
def test_numbers_of_yaml_are_finite(text: str, said: str) -> None:
    with pytest.raises(InputError, match=f"f: {said}"):
        parse_yaml(text, "f")


def test_yaml_that_is_read() -> None:
    text = "base: &b {p: 1, q: x}\nno: {<<: *b, q: 2}\n2018: [yes, ~, 1.5, 2018-01-01, '9']\nsame: *b\n"
    assert parse_yaml(text, "f") == {
        "base": {"p": 1, "q": "x"},
        "no": {"p": 1, "q": 2},
        "2018": [True, None, 1.5, "2018-01-01", "9"],
        "same": {"p": 1, "q": "x"},
    }
    assert parse_yaml("a: [1.50, ~, 1e9]", "f", typed=False) == {"a": ["1.50", "~", "1e9"]}
    assert parse_yaml("", "f") is None
    assert parse_yaml("--- {a: 1}\n...\n", "f") == {"a": 1}


@pytest.mark.parametrize("name", ["alias_bomb", "recursive_alias", "fileset_odd"])
def test_the_bombs_that_were_found_are_refused_by_everything_that_reads_yaml(
    name: str, shared_data: Callable[[str], Path]
) -> None:
    from hunch.analysis import read_spectra
    from hunch.config import read_analysis
    from hunch.processors import read_fileset

    path = shared_data(f"found/{name}.yaml")
    for read in (read_analysis, read_fileset, lambda p: read_spectra([str(p)])):
        with pytest.raises(HunchError, match=rf"{name}\.yaml: line \d: (aliases stand|\*a stands|lists or mappings)"):
            read(path)
