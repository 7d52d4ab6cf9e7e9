"""Files whose counters disagree with what they hold, files that are something else, and addresses that nothing here reads."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import uproot

from hunch.errors import InputError
from hunch.processors import inspect_file
from hunch.processors.baskets import check_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAIR = [(100.0, 0.0, 0.0), (90.0, 0.0, 3.0)]
KEY_BYTES, BASKET_BYTES = 18, 19


@pytest.fixture
def whole(write_events: Callable[..., Path]) -> Path:
    """Write a file of 41 events in one basket a branch: 41 stands nowhere else in it."""
    return write_events("whole.root", [PAIR] * 41)


def tree_bytes(path: Path) -> tuple[int, int]:
    """Return where the tree's own object begins and ends in the file; what writes it here does not compress it."""
    with uproot.open(path) as file:
        key = file.key("Events")
        return int(key.fSeekKey), int(key.fSeekKey + key.fNbytes)


def replaced(path: Path, name: str, *changes: tuple[bytes, bytes], first: bool = False) -> Path:
    """Write a copy of a file with bytes of its tree replaced, all of them or the first alone."""
    raw = path.read_bytes()
    start, stop = tree_bytes(path)
    tree = raw[start:stop]
    for old, new in changes:
        assert old in tree
        tree = tree.replace(old, new, 1) if first else tree.replace(old, new)
    changed = path.with_name(name)
    changed.write_bytes(raw[:start] + tree + raw[stop:])
    return changed


def long(value: int) -> bytes:
    return struct.pack(">q", value)


def basket_of(path: Path, branch: str) -> tuple[int, int]:
    """Return where a branch's first basket begins, and the bytes of its key."""
    with uproot.open(path) as file:
        start = int(file["Events"][branch].member("fBasketSeek")[0])
        return start, int(file["Events"][branch].basket_key(0).fKeylen)


def test_a_whole_file_is_taken(whole: Path) -> None:
    assert inspect_file(whole).entries == 41


@pytest.mark.parametrize("name", ["entries_too_small", "entries_too_large"])
def test_a_counter_that_is_not_what_the_baskets_hold_is_named(name: str, shared_data: Callable[[str], Path]) -> None:
    said = {"entries_too_small": 100, "entries_too_large": 10**12}[name]
    with pytest.raises(InputError, match=rf"{name}\.root: tree 'Events': says {said} events, .*'run' .*baskets of 200"):
        inspect_file(shared_data(f"found/{name}.root"))


@pytest.mark.parametrize("said", [0, 40, 42, 2**62, -1])
def test_any_wrong_counter_of_the_tree_is_seen(whole: Path, said: int) -> None:
    wrong = replaced(whole, "wrong.root", (long(41), long(said)), first=True)
    with pytest.raises(
        InputError, match=rf"wrong\.root: tree 'Events': says (that it has )?{said} ent|says {said} events"
    ):
        inspect_file(wrong)


@pytest.mark.parametrize("said", [20, 42, 10**12])
def test_counters_that_agree_among_themselves_are_compared_with_the_baskets_own(whole: Path, said: int) -> None:
    wrong = replaced(whole, "wrong.root", (long(41), long(said)))
    with pytest.raises(InputError, match=f"basket 0 holds 41 entries, the branch says {said}"):
        inspect_file(wrong)


def test_branches_of_different_length_are_seen(write_events: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "short.root"
    with uproot.recreate(path) as file:
        file.mktree("Events", {"a": "int64", "b": "int64"})
        file["Events"].extend({"a": np.arange(41), "b": np.arange(41)})
    with uproot.open(path) as file:
        tree = file["Events"]
        size = path.stat().st_size
        check_size(tree, ["a", "b"], where="x", size=size)
        for name in ("fBasketEntry", "fBasketSeek", "fBasketBytes"):
            tree["b"]._members[name] = tree["b"].member(name).copy()
        tree["b"].member("fBasketEntry")[1] = 40
        with pytest.raises(InputError, match="x: says 41 events, its branch 'b' says 41 and has baskets of 40"):
            check_size(tree, ["a", "b"], where="x", size=size)
        tree["b"].member("fBasketEntry")[1] = 41
        tree["b"].member("fBasketSeek")[0] = tree["a"].member("fBasketSeek")[0]
        with pytest.raises(InputError, match="lie on top of each other"):
            check_size(tree, ["a", "b"], where="x", size=size)
        for name, value in (("fBasketSeek", size + 1), ("fBasketSeek", -5), ("fBasketBytes", 2**31 - 1)):
            kept = tree["b"].member(name)[0]
            tree["b"].member(name)[0] = value
            with pytest.raises(InputError, match="branch 'b': has baskets that do not lie within"):
                check_size(tree, ["a", "b"], where="x", size=size)
            tree["b"].member(name)[0] = kept


@pytest.mark.parametrize(
    ("place", "form", "value", "says"),
    [
        (0, ">i", 2**31 - 1, "has a header of another length"),  # fNbytes
        (6, ">i", 2**31 - 1, "says it has 164 bytes of data in 2147483647"),  # fObjlen
        (14, ">h", 3, "has a header of another length"),  # fKeylen
        (-BASKET_BYTES + 10, ">i", 42, "holds 42 entries, the branch says 41"),  # fNevBuf
        (-BASKET_BYTES + 14, ">i", 2**30, "bytes of data"),  # fLast
        (-BASKET_BYTES + 14, ">i", -7, "bytes of data"),
    ],
)
def test_a_baskets_own_header_is_looked_at(whole: Path, place: int, form: str, value: int, says: str) -> None:
    start, key = basket_of(whole, "run")
    raw = bytearray(whole.read_bytes())
    at = start + place if place >= 0 else start + key + place
    raw[at : at + struct.calcsize(form)] = struct.pack(form, value)
    whole.write_bytes(raw)
    with pytest.raises(InputError, match=rf"branch 'run': basket 0 .*{says}"):
        inspect_file(whole)


def test_an_rntuple_is_compared_with_its_pages(shared_data: Callable[[str], Path]) -> None:
    path = shared_data("pfnano_rntuple.root")
    with uproot.open(path) as file:
        tuple_ = file["Events"]
        names, size = ["run", "event", "PFCands_pt"], path.stat().st_size
        check_size(tuple_, names, where="x", size=size)
        tuple_.cluster_summaries[0].num_entries = 9
        with pytest.raises(InputError, match="cluster 0 says 9 events and holds 10 of field 'run'"):
            check_size(tuple_, names, where="x", size=size)


def spectra(path: Path) -> None:
    with uproot.recreate(path) as file:
        file["h"] = np.histogram([1.0, 2.0])


def nothing(path: Path) -> None:
    with uproot.recreate(path):
        pass


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a ROOT file: is empty"),
        (b"PAR1....", "not a ROOT file: a parquet file; a ROOT file with a tree 'Events' is expected"),
        (b"\x89HDF\r\n", "not a ROOT file: a HDF5 file"),
        (b"hello, world, this", "not a ROOT file: begins with b'hell'"),
        (b"root" + bytes(range(256)) * 4, "truncated or damaged: .+"),
        (spectra, r"no tree 'Events', no event file: it holds h \(TH1D\); hunch hunt takes spectra"),
        (nothing, "no tree 'Events', no event file: it holds nothing at all"),
    ],
)
def test_what_is_no_event_file_is_said_to_be_what_it_is(content: Any, says: str, tmp_path: Path) -> None:
    path = tmp_path / "other.root"
    content(path) if callable(content) else path.write_bytes(content)
    with pytest.raises(InputError, match=rf"other\.root: {says}") as error:
        inspect_file(path)
    assert str(error.value).count("not a ROOT file") <= 1
    assert not str(error.value).endswith((",", ":"))


def test_other_trees_are_named_with_their_kind(shared_data: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match=r"no tree 'Event'; did you mean 'Events'\? found: Events \(RNTuple\)"):
        inspect_file(shared_data("pfnano_rntuple.root"), tree="Event")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("root://server.ch//store/a.root", "root:// needs the package fsspec-xrootd, which is not installed"),
        ("s3://bucket/a.root", "s3:// needs the package s3fs"),
        ("gs://bucket/a.root", "gs:// needs the package gcsfs"),
        ("foo://x/a.root", "no address that can be read; allowed: root"),
        ("https://", "names no file"),
        ("http://127.0.0.1:9/a.root", "cannot be reached or read: .*127.0.0.1"),
    ],
)
def test_an_address_is_one_clear_line(address: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    missing = {"fsspec_xrootd", "s3fs", "gcsfs"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None if name in missing else found(name, *a))
    with pytest.raises(InputError, match=says) as error:
        inspect_file(address)
    assert str(error.value).startswith(address)
    assert "\n" not in str(error.value)


def test_a_file_by_its_address_is_the_file(whole: Path) -> None:
    assert inspect_file(f"file://{whole}").path == str(whole)
