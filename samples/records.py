"""Download public records: checksums from the record itself at run time, interrupted downloads go on where they stopped."""

from __future__ import annotations

import fnmatch
import logging
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pooch
import requests
import urllib3
from pooch.downloaders import doi_to_repository
from tqdm import tqdm

from ..errors import HunchError, unknown_name

__all__ = ["RECORDS", "FetchError", "Record", "ResumingDownloader", "fetch", "fetch_files", "open_record"]

log = logging.getLogger(__name__)

CHUNK = 1 << 20
ATTEMPTS = 4
"""Connections in a row that may bring nothing before the download is given up; the part file stays for next time."""
PAUSE = 1.0
"""Seconds before the second connection; doubled each time."""
TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and between two pieces of data."""
PARTIAL, RANGE_PAST_END = 206, 416


class FetchError(HunchError):
    """A record that cannot be downloaded."""


@dataclass(frozen=True)
class Record:
    """Files of a public record: its DOI, the file names wanted (shell patterns, chosen from what the record lists)."""

    description: str
    doi: str
    wanted: tuple[str, ...]
    unwanted: tuple[str, ...] = ()

    def choose(self, names: list[str]) -> list[str]:
        """Return the names this record stands for; raises FetchError listing what there is when none fits."""
        fits = [n for n in names if any(fnmatch.fnmatch(n.lower(), p) for p in self.wanted)]
        chosen = [n for n in fits if not any(fnmatch.fnmatch(n.lower(), p) for p in self.unwanted)]
        if not chosen:
            raise FetchError(
                f"doi:{self.doi}: no file like {', '.join(self.wanted)}; it holds: {', '.join(names) or 'none'}"
            )
        return sorted(chosen)


LHCO_DOI = "10.5281/zenodo.4536377"
RECORDS: dict[str, Record] = {
    "lhco_rnd": Record(
        "LHC Olympics 2020 R&D: particles of QCD and Z' -> X Y events, several GB",
        LHCO_DOI,
        wanted=("events_anomalydetection*.h5",),
        unwanted=("*feature*",),
    ),
    "lhco_features": Record(
        "LHC Olympics 2020 R&D: jet features of the same events",
        LHCO_DOI,
        wanted=("events_anomalydetection*feature*.h5",),
    ),
}
"""Every record by name."""


def fetch(name: str, directory: str | Path, *, progress: bool = True) -> list[Path]:
    """Download the files of a record into `directory` and return their paths; what is there and whole is kept.

    Raises FetchError for an unknown name, a record that cannot be reached, a lost connection (a second call goes on
    where it stopped), a full disk, or a checksum other than the record's.
    """
    if name not in RECORDS:
        raise FetchError(unknown_name("record", name, RECORDS))
    store = open_record(RECORDS[name], directory)
    return fetch_files(store, RECORDS[name].choose(list(store.registry)), progress=progress)


def open_record(record: Record, directory: str | Path) -> pooch.Pooch:
    """Ask the record's archive for its file names, checksums and addresses; nothing is downloaded yet."""
    store = pooch.create(path=Path(directory), base_url=f"doi:{record.doi}", registry=None)
    try:
        store.load_registry_from_doi()
        archive = doi_to_repository(record.doi)
        store.urls = {file: archive.download_url(file) for file in record.choose(list(store.registry))}
    except (requests.RequestException, ValueError) as error:
        raise FetchError(f"doi:{record.doi}: the record cannot be read: {error}") from error
    return store


def fetch_files(store: pooch.Pooch, names: list[str], *, progress: bool = True, pause: float = PAUSE) -> list[Path]:
    """Download the named files of a pooch registry, resuming what an earlier call left; returns their paths.

    pause: seconds before the second connection after one is lost.
    """
    paths = []
    for name in names:
        part = Path(store.path) / f"{name}.part"
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            paths.append(Path(store.fetch(name, downloader=ResumingDownloader(part, progress=progress, pause=pause))))
        except ValueError as error:  # pooch's word for a wrong checksum
            raise FetchError(
                f"{name} from {store.get_url(name)}: what came does not have the record's checksum "
                f"{store.registry[name]}; it was deleted, run again to download it anew ({error})"
            ) from error
        except OSError as error:
            kept = f"; {part.stat().st_size} bytes are kept in {part}, run again to go on" if part.exists() else ""
            raise FetchError(f"{name} from {store.get_url(name)}: {error}{kept}") from error
    return paths


class ResumingDownloader:
    """A pooch downloader that keeps what came in a `.part` file and asks for the rest with a Range request.

    A server that ignores the range starts the file anew; so does one that says there is nothing left (416). Pooch
    checks the hash afterwards and deletes what does not match.
    """

    def __init__(self, part: Path, *, progress: bool = True, pause: float = PAUSE) -> None:
        self.part = part
        self.progress = progress
        self.pause = pause

    def __call__(self, url: str, output_file: str, _pooch: Any) -> None:
        """Download `url` to `output_file`; raises OSError (requests' errors are OSErrors) when it cannot go on."""
        interval = 0.5 if sys.stderr.isatty() else 30.0
        bar: tqdm[NoReturn] = tqdm(
            desc=self.part.stem, unit="B", unit_scale=True, disable=not self.progress, mininterval=interval
        )
        idle, most = 0, self._size()
        with bar:
            while True:
                try:
                    self._connect(url, bar)
                except (requests.ConnectionError, requests.Timeout) as error:
                    # progress is more than ever came: a server without ranges may break anywhere, for ever
                    idle = 0 if self._size() > most else idle + 1
                    most = max(most, self._size())
                    if idle >= ATTEMPTS:
                        raise
                    log.warning("%s: connection lost after %d bytes (%s), trying again", url, self._size(), error)
                    time.sleep(self.pause * 2**idle)
                else:
                    break
        shutil.move(self.part, output_file)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _connect(self, url: str, bar: tqdm[NoReturn]) -> None:
        """Ask once for what is missing and append it; returns when the server says that the file is complete."""
        have = self._size()
        headers: Mapping[str, str] = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == RANGE_PAST_END:
                self.part.unlink()
                raise requests.ConnectionError("the server has nothing after what is here; starting anew")
            response.raise_for_status()
            resumed = response.status_code == PARTIAL and _range_start(response) == have
            if response.status_code == PARTIAL and not resumed:
                self.part.unlink()
                raise requests.ConnectionError("the server sent another part than was asked for; starting anew")
            start = have if resumed else 0
            length = response.headers.get("Content-Length")
            bar.total = start + int(length) if length is not None else None
            bar.n = start
            with self.part.open("ab" if resumed else "wb") as file:
                for piece in _pieces(response):
                    file.write(piece)
                    bar.update(len(piece))
        if length is not None and self._size() != start + int(length):
            raise requests.ConnectionError(f"{self._size()} of {start + int(length)} bytes came")


def _pieces(response: requests.Response) -> Iterator[bytes]:
    """Give the body as it arrives; unlike `iter_content` this loses nothing that came before a break."""
    try:
        while piece := response.raw.read1(CHUNK):
            yield piece
    except urllib3.exceptions.HTTPError as error:
        raise requests.ConnectionError(error) from error


def _range_start(response: requests.Response) -> int | None:
    """Return the first byte of a partial answer, from `Content-Range: bytes 5-9/10`."""
    unit, _, span = response.headers.get("Content-Range", "").partition(" ")
    first = span.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdigit() else None
