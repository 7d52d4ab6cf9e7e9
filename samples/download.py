"""A download that goes on where it stopped, from addresses that are https at every hop, of no more bytes than are expected."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from tqdm import tqdm

from ..errors import HunchError, shown

__all__ = ["FetchError", "ResumingDownloader", "refuse_hops", "require_https"]

log = logging.getLogger(__name__)

CHUNK = 1 << 20
ATTEMPTS = 4
"""Connections in a row that may bring nothing before the download is given up; the part file stays for next time."""
PAUSE = 1.0
"""Seconds before the second connection; doubled each time."""
TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and between two pieces of data."""
PARTIAL, RANGE_PAST_END = 206, 416
MAX_BYTES = 1 << 40
"""Of a file whose size neither the record nor the server tells."""
SCHEMES = ("https",)
"""Of addresses that are asked, and that a server may send us on to."""


class FetchError(HunchError):
    """A record that cannot be downloaded."""


def require_https(url: str, schemes: Sequence[str]) -> None:
    """Raise FetchError for an address of another scheme."""
    try:
        scheme = urlsplit(url).scheme.lower()
    except ValueError as error:
        raise FetchError(f"{shown(url, limit=200)}: is no address: {error}") from error
    if scheme not in schemes:
        raise FetchError(f"{shown(url, limit=200)}: is not {' or '.join(schemes)}, and is not asked for anything")


def refuse_hops(schemes: Sequence[str]) -> Callable[..., None]:
    """Return a hook of requests that raises FetchError before a redirect to an address of another scheme is followed."""

    def hook(response: requests.Response, *_: Any, **__: Any) -> None:
        if response.is_redirect:
            require_https(urljoin(response.url, response.headers["location"]), schemes)

    return hook


def size_of(part: Path) -> int:
    """Return the bytes of a file, 0 where there is none."""
    return part.stat().st_size if part.exists() else 0


class ResumingDownloader:
    """Keeps what came in a file and asks for the rest with a Range request.

    A server that ignores the range starts the file anew; so does one that says there is nothing left (416). size: bytes of the whole
    file, None where nobody tells: no more is taken, and no more than the server declares.
    """

    def __init__(
        self,
        *,
        progress: bool = True,
        pause: float = PAUSE,
        size: int | None = None,
        schemes: Sequence[str] = SCHEMES,
    ) -> None:
        self.progress = progress
        self.pause = pause
        self.size = size
        self.schemes = tuple(schemes)

    def __call__(self, url: str, part: Path) -> None:
        """Download `url` to `part`; raises OSError (requests' errors are OSErrors) when it cannot go on, FetchError for a size."""
        if part.is_symlink() or (self.size is not None and size_of(part) > self.size):
            part.unlink()
        if self.size is not None:
            free, missing = shutil.disk_usage(part.parent).free, self.size - size_of(part)
            if missing > free:
                raise FetchError(f"{part}: {missing} bytes are to come, and the disk has {free} free")
            if missing == 0:
                return
        interval = 0.5 if sys.stderr.isatty() else 30.0
        bar: tqdm[NoReturn] = tqdm(
            desc=url.rpartition("/")[2], unit="B", unit_scale=True, disable=not self.progress, mininterval=interval
        )
        idle, most = 0, size_of(part)
        with bar:
            while True:
                try:
                    self._connect(url, part, bar)
                except (requests.ConnectionError, requests.Timeout) as error:
                    # progress is more than ever came: a server without ranges may break anywhere, for ever
                    idle = 0 if size_of(part) > most else idle + 1
                    most = max(most, size_of(part))
                    if idle >= ATTEMPTS:
                        raise
                    log.warning("%s: connection lost after %d bytes (%s), trying again", url, size_of(part), error)
                    time.sleep(self.pause * 2**idle)
                else:
                    break

    def _connect(self, url: str, part: Path, bar: tqdm[NoReturn]) -> None:
        """Ask once for what is missing and append it; returns when the server says that the file is complete."""
        have = size_of(part)
        headers: Mapping[str, str] = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
        hooks = {"response": refuse_hops(self.schemes)}
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT, hooks=hooks) as response:
            if response.status_code == RANGE_PAST_END:
                part.unlink(missing_ok=True)
                raise requests.ConnectionError("the server has nothing after what is here; starting anew")
            response.raise_for_status()
            resumed = response.status_code == PARTIAL and _range_start(response) == have
            if response.status_code == PARTIAL and not resumed:
                part.unlink(missing_ok=True)
                raise requests.ConnectionError("the server sent another part than was asked for; starting anew")
            start = have if resumed else 0
            length = _number(response.headers.get("Content-Length", ""))
            declared = None if length is None else start + length
            most = MAX_BYTES if declared is None else declared
            if self.size is not None and (declared is None or declared > self.size):
                most = self.size
            bar.total, bar.n = declared, start
            if declared is not None and declared > most:
                raise FetchError(f"{url}: the server sends {declared} bytes, the record says {most}")
            with part.open("ab" if resumed else "wb") as file:
                for piece in _pieces(response):
                    start += len(piece)
                    if start > most:
                        raise FetchError(f"{url}: more than the {most} bytes come that are expected")
                    file.write(piece)
                    bar.update(len(piece))
        if declared is not None and size_of(part) != declared:
            raise requests.ConnectionError(f"{size_of(part)} of {declared} bytes came")


def _pieces(response: requests.Response) -> Iterator[bytes]:
    """Give the body as it arrives; unlike `iter_content` this loses nothing that came before a break."""
    try:
        while piece := response.raw.read1(CHUNK):
            yield piece
    except urllib3.exceptions.HTTPError as error:
        raise requests.ConnectionError(error) from error


def _number(text: str) -> int | None:
    """Return a whole number of a header, None for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _range_start(response: requests.Response) -> int | None:
    """Return the first byte of a partial answer, from `Content-Range: bytes 5-9/10`."""
    unit, _, span = response.headers.get("Content-Range", "").partition(" ")
    return _number(span.partition("-")[0]) if unit == "bytes" else None
