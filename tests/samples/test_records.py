from __future__ import annotations

import errno
import hashlib
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pooch
import pytest

from hunch.samples import RECORDS, FetchError, Record, fetch
from hunch.samples.download import ResumingDownloader
from hunch.samples.records import fetch_files, open_record

LOCAL = {"progress": False, "pause": 0.0, "schemes": ("http",)}
"""How files are fetched from a server on this machine, which has no certificate."""

DATA = np.random.default_rng(1).bytes(300_000)
CHECKSUM = "md5:" + hashlib.md5(DATA, usedforsecurity=False).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves DATA; `cut`: bytes after which each of the first connections breaks; `ranges`: whether it knows them.

    moved: where it sends everybody on to; lies: headers in place of its own, "" for none.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cut: list[int] = []
        self.ranges = True
        self.asked: list[str | None] = []
        self.sent = 0
        self.moved: str | None = None
        self.lies: dict[str, str] = {}


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.server.moved is not None:
            self.send_response(302)
            self.send_header("Location", self.server.moved)
            self.end_headers()
            return
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.ranges else 0
        if first >= len(DATA):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(DATA) - 1}/{len(DATA)}")
        length = self.server.lies.get("Content-Length", str(len(DATA) - first))
        if length:
            self.send_header("Content-Length", length)
        self.end_headers()
        end = first + self.server.cut.pop(0) if self.server.cut else len(DATA)
        self.server.sent += len(DATA[first:end])
        self.wfile.write(DATA[first:end])

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def store(server, tmp_path):
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    return pooch.create(path=tmp_path, base_url=url, registry={"a.h5": CHECKSUM})


def part_of(folder):
    """Return where an earlier call left what came of a.h5."""
    own = folder / ".a.h5.download"
    own.mkdir(mode=0o700)
    return own / "part"


def test_download_is_checked_kept_and_not_repeated(server, store, tmp_path):
    assert fetch_files(store, ["a.h5"], **LOCAL) == [tmp_path / "a.h5"]
    assert (tmp_path / "a.h5").read_bytes() == DATA
    fetch_files(store, ["a.h5"], **LOCAL)
    assert server.asked == [None]
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_broken_connection_goes_on_with_the_missing_bytes(server, store, tmp_path):
    server.cut = [150_000, 50_000]
    fetch_files(store, ["a.h5"], **LOCAL)
    assert (tmp_path / "a.h5").read_bytes() == DATA
    assert server.asked == [None, "bytes=150000-", "bytes=200000-"]
    assert server.sent == len(DATA)


def test_a_later_call_resumes_an_earlier_one(server, store, tmp_path):
    server.cut = [100_000, 0, 0, 0, 0]
    with pytest.raises(FetchError, match=re.escape("100000 bytes are kept in")):
        fetch_files(store, ["a.h5"], **LOCAL)
    assert not (tmp_path / "a.h5").exists()
    server.cut, server.asked = [], []
    fetch_files(store, ["a.h5"], **LOCAL)
    assert server.asked == ["bytes=100000-"]
    assert (tmp_path / "a.h5").read_bytes() == DATA


def test_server_without_ranges_starts_anew(server, store, tmp_path):
    server.ranges = False
    part_of(tmp_path).write_bytes(b"x" * 1000)
    fetch_files(store, ["a.h5"], **LOCAL)
    assert (tmp_path / "a.h5").read_bytes() == DATA


def test_part_longer_than_the_file_starts_anew(server, store, tmp_path):
    part_of(tmp_path).write_bytes(b"x" * (len(DATA) + 5))
    fetch_files(store, ["a.h5"], **LOCAL)
    assert server.asked == [f"bytes={len(DATA) + 5}-", None]
    assert (tmp_path / "a.h5").read_bytes() == DATA


def test_wrong_checksum_is_an_error_and_the_file_is_gone(server, store, tmp_path):
    part_of(tmp_path).write_bytes(b"x" * 1000)
    with pytest.raises(FetchError, match="does not have the record's checksum md5:"):
        fetch_files(store, ["a.h5"], **LOCAL)
    assert not list(tmp_path.iterdir())
    fetch_files(store, ["a.h5"], **LOCAL)
    assert (tmp_path / "a.h5").read_bytes() == DATA


def test_no_server_is_a_clear_error(server, store):
    store.urls["a.h5"] = "http://127.0.0.1:9/a.h5"
    with pytest.raises(FetchError, match=r"a\.h5 from http://127\.0\.0\.1:9/a\.h5"):
        fetch_files(store, ["a.h5"], **LOCAL)


def test_full_disk_keeps_what_came(server, store, tmp_path, monkeypatch):
    part_of(tmp_path).write_bytes(DATA[:1000])

    def full(_self, _url, _part, _bar):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ResumingDownloader, "_connect", full)
    with pytest.raises(FetchError, match=r"the disk is full; .*; 1000 bytes are kept"):
        fetch_files(store, ["a.h5"], **LOCAL)


def test_records_choose_from_what_the_archive_lists():
    names = ["events_anomalydetection_v2.h5", "events_anomalydetection_v2.features.h5", "readme.txt"]
    assert RECORDS["lhco_rnd"].choose(names) == names[:1]
    assert RECORDS["lhco_features"].choose(names) == names[1:2]
    with pytest.raises(FetchError, match=r"no file like \*\.root; it holds: events"):
        Record("", "10.1/2", wanted=("*.root",)).choose(names)


def test_unknown_record_is_named(tmp_path):
    with pytest.raises(FetchError, match="did you mean 'lhco_rnd'"):
        fetch("lhco_rd", tmp_path)


UNSAFE = [
    "a/../../x.h5",
    "../x.h5",
    "/tmp/x.h5",
    "a/x.h5",
    "a\\x.h5",
    "..",
    ".",
    "",
    ".x.h5",
    "-x.h5",
    "x.h5\0",
    "x\n.h5",
    "x\x1b[2J.h5",
]
UNSAFE += ["x.h5 ", "x.", "CON", "nul.h5", "Com1.h5", "~x.h5", "$HOME.h5", "é.h5", "x:y.h5", "a" * 201]


@pytest.mark.parametrize("name", UNSAFE)
def test_a_name_that_is_none_of_a_plain_file_is_refused_before_anything_is_asked(name, server, store, tmp_path):
    store.registry[name] = CHECKSUM
    with pytest.raises(FetchError, match=r"a file is named .*, which is no plain name of a file"):
        fetch_files(store, ["a.h5", name], **LOCAL)
    assert server.asked == []
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FetchError, match="no plain name"):
        Record("", "10.1/2", wanted=("*",)).choose([name])


def test_names_that_are_one_file_on_some_systems_are_refused(store):
    with pytest.raises(FetchError, match=r"'a\.h5' and 'A\.h5', which are one file"):
        fetch_files(store, ["a.h5", "A.h5"], **LOCAL)


def test_a_name_of_another_folder_fits_no_pattern_of_a_record():
    with pytest.raises(FetchError, match="no plain name of a file"):
        RECORDS["lhco_rnd"].choose(["events_anomalydetection/../../x.h5"])
    with pytest.raises(FetchError, match=r"it holds: a\\x1b\[2J, b"):
        RECORDS["lhco_rnd"].choose(["a\x1b[2J", "b"])


def test_planted_links_are_not_followed(server, store, tmp_path):
    theirs = tmp_path.parent / f"{tmp_path.name}.theirs"
    theirs.mkdir()
    (theirs / "thesis.tex").write_text("mine")
    (tmp_path / "a.h5.part").symlink_to(theirs / "thesis.tex")  # at the name that a download once had
    fetch_files(store, ["a.h5"], **LOCAL)
    assert (tmp_path / "a.h5").read_bytes() == DATA
    (tmp_path / "a.h5").unlink()
    part_of(tmp_path).symlink_to(theirs / "thesis.tex")
    fetch_files(store, ["a.h5"], **LOCAL)
    assert (tmp_path / "a.h5").read_bytes() == DATA
    (tmp_path / "a.h5").unlink()
    for place, where in ((".a.h5.download", theirs), ("a.h5", theirs), ("a.h5", theirs / "thesis.tex")):
        (tmp_path / place).symlink_to(where)
        with pytest.raises(FetchError, match=r"no folder that you alone can write into|is a symbolic link"):
            fetch_files(store, ["a.h5"], **LOCAL)
        (tmp_path / place).unlink()
    (tmp_path / "a.h5").mkdir()
    with pytest.raises(FetchError, match="is no file, and nothing is written there"):
        fetch_files(store, ["a.h5"], **LOCAL)
    assert (theirs / "thesis.tex").read_text() == "mine"
    assert [path.name for path in theirs.iterdir()] == ["thesis.tex"]


def test_a_folder_that_others_can_write_into_is_not_resumed_from(store, tmp_path):
    part_of(tmp_path).write_bytes(DATA[:1000])
    (tmp_path / ".a.h5.download").chmod(0o777)
    with pytest.raises(FetchError, match="no folder that you alone can write into"):
        fetch_files(store, ["a.h5"], **LOCAL)


def test_what_is_no_https_is_not_asked(server, store):
    with pytest.raises(FetchError, match=r"http://127\.0\.0\.1:\d+/a\.h5': is not https, and is not asked"):
        fetch_files(store, ["a.h5"], progress=False, pause=0.0)
    assert server.asked == []


@pytest.mark.parametrize(
    "moved", ["http://127.0.0.1:9/a.h5", "HTTP://127.0.0.1:9/a.h5", "ftp://x/a.h5", "file:///etc/passwd"]
)
def test_a_redirect_to_another_scheme_is_not_followed(moved, server, store):
    """The server stands for one of https; where it sends us on to is refused before anything is asked there."""
    server.moved = moved
    downloader = ResumingDownloader(progress=False, pause=0.0, schemes=("https",))
    with pytest.raises(FetchError, match=rf"(?i){re.escape(moved)}': is not https"):
        downloader(store.get_url("a.h5"), part_of(store.path))


def test_the_archive_is_asked_without_leaving_https(server, monkeypatch, tmp_path):
    import requests

    server.moved = "http://127.0.0.1:9/record"
    asked = requests.get
    monkeypatch.setattr(
        requests, "get", lambda _, **given: asked(f"http://127.0.0.1:{server.server_address[1]}/", **given)
    )
    with pytest.raises(FetchError, match=r"http://127\.0\.0\.1:9/record': is not https"):
        open_record(RECORDS["lhco_rnd"], tmp_path)


class Archive:
    """Stands for an archive's answer."""

    def __init__(self, files):
        self.api_response = {"files": files}

    def populate_registry(self, store):
        for file in self.api_response["files"]:
            store.registry[file["key"]] = file["checksum"]

    def download_url(self, name):
        return {file["key"]: file for file in self.api_response["files"]}[name]["links"]["self"]


def test_links_and_sizes_of_the_archive_are_not_believed(monkeypatch, tmp_path):
    file = {"key": "events_anomalydetection.h5", "checksum": CHECKSUM, "size": 10, "links": {"self": "http://h/x"}}
    monkeypatch.setattr("hunch.samples.records.doi_to_repository", lambda *_, **__: Archive([file]))
    with pytest.raises(FetchError, match="'http://h/x': is not https"):
        fetch("lhco_rnd", tmp_path, progress=False)
    for wrong in ({**file, "key": "events_anomalydetection/../../x.h5"}, {"key": "x.h5"}, None):
        monkeypatch.setattr("hunch.samples.records.doi_to_repository", lambda *_, own=wrong, **__: Archive([own]))
        with pytest.raises(FetchError, match=r"no plain name|cannot be read"):
            fetch("lhco_rnd", tmp_path, progress=False)
    file |= {"checksum": "md5:", "links": {"self": "https://127.0.0.1:9/x"}}
    monkeypatch.setattr("hunch.samples.records.doi_to_repository", lambda *_, **__: Archive([file]))
    with pytest.raises(FetchError, match="the record's checksum is 'md5:'"):
        fetch("lhco_rnd", tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_no_more_comes_than_the_record_says(server, store, tmp_path):
    with pytest.raises(FetchError, match="the server sends 300000 bytes, the record says 1000"):
        fetch_files(store, ["a.h5"], sizes={"a.h5": 1000}, **LOCAL)
    server.lies = {"Content-Length": ""}
    with pytest.raises(FetchError, match="more than the 1000 bytes come"):
        fetch_files(store, ["a.h5"], sizes={"a.h5": 1000}, **LOCAL)
    assert not (tmp_path / "a.h5").exists()
    shutil.rmtree(tmp_path / ".a.h5.download", ignore_errors=True)
    with pytest.raises(FetchError, match="bytes are to come, and the disk has"):
        fetch_files(store, ["a.h5"], sizes={"a.h5": 1 << 60}, **LOCAL)
    server.lies = {"Content-Length": "²"}
    fetch_files(store, ["a.h5"], sizes={"a.h5": len(DATA)}, **LOCAL)
    assert (tmp_path / "a.h5").read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
