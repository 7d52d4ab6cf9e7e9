from __future__ import annotations

import errno
import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pooch
import pytest

from hunch.samples import RECORDS, FetchError, Record, fetch
from hunch.samples.records import ResumingDownloader, fetch_files

DATA = np.random.default_rng(1).bytes(300_000)
CHECKSUM = "md5:" + hashlib.md5(DATA, usedforsecurity=False).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves DATA; `cut`: bytes after which each of the first connections breaks; `ranges`: whether it knows them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cut: list[int] = []
        self.ranges = True
        self.asked: list[str | None] = []
        self.sent = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
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
        self.send_header("Content-Length", str(len(DATA) - first))
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


def test_download_is_checked_kept_and_not_repeated(server, store, tmp_path):
    assert fetch_files(store, ["a.h5"], progress=False, pause=0.0) == [tmp_path / "a.h5"]
    assert (tmp_path / "a.h5").read_bytes() == DATA
    fetch_files(store, ["a.h5"], progress=False, pause=0.0)
    assert server.asked == [None]
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_broken_connection_goes_on_with_the_missing_bytes(server, store, tmp_path):
    server.cut = [150_000, 50_000]
    fetch_files(store, ["a.h5"], progress=False, pause=0.0)
    assert (tmp_path / "a.h5").read_bytes() == DATA
    assert server.asked == [None, "bytes=150000-", "bytes=200000-"]
    assert server.sent == len(DATA)


def test_a_later_call_resumes_an_earlier_one(server, store, tmp_path):
    server.cut = [100_000, 0, 0, 0, 0]
    with pytest.raises(FetchError, match=re.escape("100000 bytes are kept in")):
        fetch_files(store, ["a.h5"], progress=False, pause=0.0)
    assert not (tmp_path / "a.h5").exists()
    server.cut, server.asked = [], []
    fetch_files(store, ["a.h5"], progress=False, pause=0.0)
    assert server.asked == ["bytes=100000-"]
    assert (tmp_path / "a.h5").read_bytes() == DATA


def test_server_without_ranges_starts_anew(server, store, tmp_path):
    server.ranges = False
    (tmp_path / "a.h5.part").write_bytes(b"x" * 1000)
    fetch_files(store, ["a.h5"], progress=False, pause=0.0)
    assert (tmp_path / "a.h5").read_bytes() == DATA


def test_part_longer_than_the_file_starts_anew(server, store, tmp_path):
    (tmp_path / "a.h5.part").write_bytes(b"x" * (len(DATA) + 5))
    fetch_files(store, ["a.h5"], progress=False, pause=0.0)
    assert server.asked == [f"bytes={len(DATA) + 5}-", None]
    assert (tmp_path / "a.h5").read_bytes() == DATA


def test_wrong_checksum_is_an_error_and_the_file_is_gone(server, store, tmp_path):
    (tmp_path / "a.h5.part").write_bytes(b"x" * 1000)
    with pytest.raises(FetchError, match="does not have the record's checksum md5:"):
        fetch_files(store, ["a.h5"], progress=False, pause=0.0)
    assert not list(tmp_path.iterdir())
    fetch_files(store, ["a.h5"], progress=False, pause=0.0)
    assert (tmp_path / "a.h5").read_bytes() == DATA


def test_no_server_is_a_clear_error(server, store):
    store.urls["a.h5"] = "http://127.0.0.1:9/a.h5"
    with pytest.raises(FetchError, match=r"a\.h5 from http://127\.0\.0\.1:9/a\.h5"):
        fetch_files(store, ["a.h5"], progress=False, pause=0.0)


def test_full_disk_keeps_what_came(server, store, tmp_path, monkeypatch):
    (tmp_path / "a.h5.part").write_bytes(DATA[:1000])

    def full(_self, _url, _bar):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ResumingDownloader, "_connect", full)
    with pytest.raises(FetchError, match="No space left on device; 1000 bytes are kept"):
        fetch_files(store, ["a.h5"], progress=False, pause=0.0)


def test_records_choose_from_what_the_archive_lists():
    names = ["events_anomalydetection_v2.h5", "events_anomalydetection_v2.features.h5", "readme.txt"]
    assert RECORDS["lhco_rnd"].choose(names) == names[:1]
    assert RECORDS["lhco_features"].choose(names) == names[1:2]
    with pytest.raises(FetchError, match=r"no file like \*\.root; it holds: events"):
        Record("", "10.1/2", wanted=("*.root",)).choose(names)


def test_unknown_record_is_named(tmp_path):
    with pytest.raises(FetchError, match="did you mean 'lhco_rnd'"):
        fetch("lhco_rd", tmp_path)
