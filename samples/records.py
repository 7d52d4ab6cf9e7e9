"""Download public records: checksums from the record itself at run time, interrupted downloads go on where they stopped.

What a server says is not believed: names, sizes and addresses are checked before anything is written or asked for.
"""

from __future__ import annotations

import contextlib
import fnmatch
import logging
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
from pooch.downloaders import doi_to_repository

from ..errors import shown, unknown_name
from ..files import make_folder, require_place, write_reason
from .download import PAUSE, SCHEMES, TIMEOUT, FetchError, ResumingDownloader, refuse_hops, require_https, size_of

__all__ = ["RECORDS", "Record", "fetch", "fetch_files", "open_record"]

log = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+()=,@-]{0,199}")
"""Of a file: no separators, none that is hidden, nothing that a terminal, a shell or another system reads as something else."""
DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10))}
DIGITS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}
"""Checksum -> its hexadecimal digits."""


@dataclass(frozen=True)
class Record:
    """Files of a public record: its DOI, the file names wanted (shell patterns, chosen from what the record lists)."""

    description: str
    doi: str
    wanted: tuple[str, ...]
    unwanted: tuple[str, ...] = ()

    def choose(self, names: list[str]) -> list[str]:
        """Return the names this record stands for; raises FetchError listing what there is when none fits, or for an unsafe one."""
        fits = [n for n in names if any(fnmatch.fnmatch(n.lower(), p) for p in self.wanted)]
        chosen = [n for n in fits if not any(fnmatch.fnmatch(n.lower(), p) for p in self.unwanted)]
        if not chosen:
            held = ", ".join(shown(name).strip("'") for name in names[:12]) or "none"
            raise FetchError(f"doi:{self.doi}: no file like {', '.join(self.wanted)}; it holds: {held}")
        require_safe(chosen, f"doi:{self.doi}")
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
    where it stopped), a full disk, a checksum other than the record's, and what a server may not say: a name that is no plain name
    of a file, a size other than the record's, an address that is not https.
    """
    if name not in RECORDS:
        raise FetchError(unknown_name("record", name, RECORDS))
    require_place(directory)
    store, sizes = open_record(RECORDS[name], directory)
    return fetch_files(store, RECORDS[name].choose(list(store.registry)), sizes=sizes, progress=progress)


def open_record(record: Record, directory: str | Path) -> tuple[pooch.Pooch, dict[str, int]]:
    """Ask the record's archive for its file names, checksums, addresses, and sizes in bytes; nothing is downloaded yet."""
    store = pooch.create(path=Path(directory), base_url=f"doi:{record.doi}", registry=None)
    try:
        archive = doi_to_repository(record.doi, hooks={"response": refuse_hops(SCHEMES)}, timeout=TIMEOUT)
        archive.populate_registry(store)
        store.urls = {file: archive.download_url(file) for file in record.choose(list(store.registry))}
        listed = archive.api_response["files"]
        sizes = {str(f.get("key", f.get("filename"))): f.get("size", f.get("filesize")) for f in listed}
    except (requests.RequestException, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FetchError(f"doi:{record.doi}: the record cannot be read: {error}") from error
    return store, {file: size for file, size in sizes.items() if isinstance(size, int) and size >= 0}


def fetch_files(
    store: pooch.Pooch,
    names: Sequence[str],
    *,
    sizes: Mapping[str, int] | None = None,
    progress: bool = True,
    pause: float = PAUSE,
    schemes: Sequence[str] = SCHEMES,
) -> list[Path]:
    """Download the named files of a pooch registry, resuming what an earlier call left; returns their paths.

    sizes: bytes of those whose size the record tells; pause: seconds before the second connection after one is lost; schemes: of
    addresses that may be asked. Raises FetchError as `fetch` does.
    """
    folder = make_folder(store.path)
    require_safe(names, str(folder))
    return [
        fetch_file(
            folder / name,
            store.get_url(name),
            store.registry[name],
            ResumingDownloader(progress=progress, pause=pause, size=(sizes or {}).get(name), schemes=schemes),
        )
        for name in names
    ]


def fetch_file(target: Path, url: str, checksum: str, download: ResumingDownloader) -> Path:
    """Download one file to `target` unless it is there and whole.

    What came is kept in a folder beside it that is ours alone until the file is whole: nobody can put a link in its place, and the
    next call goes on with it.
    """
    require_https(url, download.schemes)
    kind, digest = checksum_of(target.name, checksum)
    if target.is_symlink() or target.exists():
        if target.is_file() and pooch.file_hash(str(target), alg=kind) == digest:
            return target
        if target.is_symlink() or not target.is_file():
            found = "is a symbolic link" if target.is_symlink() else "is no file"
            raise FetchError(f"{target}: {found}, and nothing is written there; remove it, or name another folder")
        log.warning("%s: does not have the record's checksum, and is downloaded anew", target)
    part = target.with_name(f".{target.name}.download") / "part"
    try:
        own_folder(part.parent)
        download(url, part)
        if pooch.file_hash(str(part), alg=kind) != digest:
            part.unlink()
            raise FetchError(
                f"{target.name} from {url}: what came does not have the record's checksum {checksum}; it was deleted, run again "
                "to download it anew"
            )
        part.replace(target)
    except OSError as error:
        kept = f"; {size_of(part)} bytes are kept in {part}, run again to go on" if size_of(part) else ""
        said = write_reason(error) if error.errno and not isinstance(error, requests.RequestException) else error
        raise FetchError(f"{target.name} from {url}: {said}{kept}") from error
    finally:
        with contextlib.suppress(OSError):  # not empty: what came is kept
            part.parent.rmdir()
    return target


def require_safe(names: Sequence[str], where: str) -> None:
    """Raise FetchError for a name that is no plain name of a file, or that differs from another one in case alone."""
    seen: dict[str, str] = {}
    for name in names:
        plain = NAME.fullmatch(name) and not name.endswith((".", " "))
        if not plain or name.partition(".")[0].strip().upper() in DEVICES:
            raise FetchError(
                f"{where}: a file is named {shown(name)}, which is no plain name of a file (letters, digits and ._+()=,@- without "
                "folders); nothing was downloaded"
            )
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise FetchError(f"{where}: files are named {other!r} and {name!r}, which are one file on some systems")


def checksum_of(name: str, checksum: str) -> tuple[str, str]:
    """Return kind and digits of a checksum, "md5:0123..." or of SHA256 without its name; raises FetchError for what is none."""
    kind, _, digest = str(checksum).lower().rpartition(":")
    kind = kind or "sha256"
    if len(digest) != DIGITS.get(kind) or not re.fullmatch("[0-9a-f]+", digest):
        raise FetchError(f"{name}: the record's checksum is {shown(checksum)}; allowed: {', '.join(DIGITS)}")
    return kind, digest


def own_folder(path: Path) -> None:
    """Make a folder that nobody else can write into, or take the one that is there; raises FetchError where it is not ours alone."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError as error:
        found = path.lstat()
        owned = not hasattr(os, "getuid") or found.st_uid == os.getuid()
        if not stat.S_ISDIR(found.st_mode) or not owned or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise FetchError(
                f"{path}: is there, and is no folder that you alone can write into; remove it, or name another folder"
            ) from error
