"""Files at the edges: writing aside and renaming, folders, and deleting."""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .documents import require_name
from .errors import HunchError, InputError

__all__ = [
    "WITHOUT_NAME",
    "WriteError",
    "finite",
    "is_private",
    "make_folder",
    "matching",
    "private_folder",
    "refuse_input",
    "remove",
    "require_no_device",
    "require_place",
    "told_to_write",
    "write_aside",
    "write_folder_aside",
    "write_json",
    "write_reason",
]

DEVICES = {Path("/dev"), Path("/dev/fd")}
STEM = 100
"""Bytes of a file's name that its folder beside it repeats; names have 255."""


class WriteError(HunchError):
    """A file or a folder cannot be written: the disk is full, the place is closed, something stands in the way."""


REASONS = {
    errno.ENOSPC: "the disk is full; free some space, or name an output on another disk",
    errno.EDQUOT: "your quota of this disk is used up; delete something there, or name an output on another disk",
    errno.EROFS: "the disk is read-only; name an output on another one",
    errno.EACCES: "permission denied; name an output where you may write",
    errno.EPERM: "the system does not permit it; name an output where you may write",
    errno.EFBIG: "the file grew beyond what its disk, or the limit of this process (ulimit -f), allows",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOTDIR: "a part of its path is a file, no folder",
    errno.EEXIST: "something of that name is there",
    errno.ELOOP: "it is a symbolic link, and nothing is written through one",
}
"""What is said of an error of the system, and what to do."""
WITHOUT_NAME = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
"""Errors that only writing gives: they name no file where it was open already."""


def write_reason(error: OSError) -> str:
    """Return in words why something could not be written."""
    return REASONS.get(error.errno or 0, error.strerror or " ".join(str(error).split()) or type(error).__name__)


@contextlib.contextmanager
def told_to_write(target: str | Path, *places: str | Path) -> Iterator[None]:
    """Turn the system's errors of writing `target` into a WriteError that names it; places: folders that are written for it.

    Errors that name another file, as one that is read meanwhile, pass.
    """
    try:
        yield
    except WriteError as error:  # of something in one of the places, which is known by its final name alone
        for place in [text for p in places for text in (str(p), str(Path(p).resolve()))]:
            if f"{place}/{Path(target).name}" in str(error):
                raise WriteError(str(error).replace(f"{place}/{Path(target).name}", str(target))) from error
        raise
    except OSError as error:
        named = None if error.filename is None else os.fsdecode(error.filename)
        own = [str(target), *map(str, places)]
        if error.errno in WITHOUT_NAME if named is None else any(named == p or named.startswith(f"{p}/") for p in own):
            raise WriteError(f"{target}: cannot be written: {write_reason(error)}") from error
        raise


def make_folder(path: str | Path) -> Path:
    """Make a folder and those above it where there are none, and return it; raises WriteError saying what stands in the way."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        with told_to_write(folder, *folder.parents):
            require_place(folder)
        raise WriteError(f"{folder}: no folder can be made there: {write_reason(error)}") from error
    return folder


def require_place(path: str | Path) -> None:
    """Raise WriteError where no folder can be made at `path`, nor written into, without making it: before what takes long."""
    folder = Path(path)
    for place in (folder, *folder.parents):
        if place.is_symlink() and not place.exists():
            raise WriteError(f"{folder}: no folder can be made there: {place} is a link to nothing")
        if place.exists():
            if not place.is_dir():
                raise WriteError(f"{folder}: no folder can be made there: {place} is a file")
            if not os.access(place, os.W_OK | os.X_OK):
                raise WriteError(f"{folder}: cannot be written: {REASONS[errno.EACCES]}")
            return


@contextlib.contextmanager
def private_folder(target: Path) -> Iterator[Path]:
    """Give a new folder beside `target` that nobody else can write into, under a name that nobody can foresee; deleted at the end.

    What is written for `target` is written in it: no name in it can be taken by somebody's link, as it could be in a folder that
    others can write into, however the library that writes it opens its files.
    """
    make_folder(target.parent)
    stem = os.fsdecode(os.fsencode(target.name)[:STEM])
    folder = target.with_name(f".{stem}.{secrets.token_hex(6)}.part")
    with told_to_write(target, folder):
        folder.mkdir(mode=0o700)  # fails where there is anything of that name, a link too
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


ASIDE = re.compile(r"\.(.+)\.[0-9a-f]{12}\.part", re.DOTALL)


def is_private(path: Path, target: Path | None = None) -> bool:
    """Tell whether a path is named as a private folder: of anything, or of a target beside it.

    >>> is_private(Path(".x.root.0123456789ab.part")), is_private(Path(".x.root.0123456789ab.part"), Path("x")), is_private(Path("x.part"))
    (True, False, False)
    """
    found = ASIDE.fullmatch(path.name)
    return found is not None and (target is None or os.fsencode(found[1]) == os.fsencode(target.name)[:STEM])


def refuse_input(output: str | Path, inputs: Iterable[str | Path]) -> None:
    """Raise InputError where what is written would take the place of a file that is read."""
    target = Path(output)
    for name in inputs:
        source = Path(name)
        if target.exists() and source.exists() and target.samefile(source):
            raise InputError(f"{target}: is an input too, and would be lost; another name for the output is expected")


@contextlib.contextmanager
def write_aside(path: str | Path) -> Iterator[Path]:
    """Give a name in a private folder beside `path`; rename it to `path` on success, delete it on any failure or Ctrl-C.

    A link at `path` is replaced, and nothing is written through it. Raises InputError where `path` is a folder, a device or a pipe,
    WriteError naming `path` where it cannot be written.
    """
    target = Path(path)
    with told_to_write(target):
        if target.is_dir():
            raise InputError(f"{target}: is a directory, not a file to write")
        require_no_device(target)
    with private_folder(target) as folder:
        aside = folder / target.name
        yield aside
        aside.replace(target)


def require_no_device(target: Path) -> None:
    """Raise InputError where a name is a device or a pipe, as /dev/null and /dev/stdout are: a file would be put in its place."""
    other = target.exists() and not target.is_file() and not target.is_dir()
    stream = target.is_symlink() and target.readlink().is_relative_to("/proc")  # to a file where output is redirected
    if other or stream or target.absolute().parent in DEVICES:
        raise InputError(f"{target}: is a device or a pipe, not a file to write; it would be replaced by one")


@contextlib.contextmanager
def write_folder_aside(path: str | Path) -> Iterator[Path]:
    """Give an empty folder in a private one beside `path`; rename it to `path` on success, delete it on any failure or Ctrl-C.

    What was at `path` before, a file, a link or a folder, is replaced as a whole, and stays where anything fails.
    """
    target = Path(path)
    require_no_device(target)
    with private_folder(target) as folder:
        aside, old = folder / target.name, folder / f"{target.name[:STEM]}.old"
        aside.mkdir()
        yield aside
        if target.is_dir() and not target.is_symlink():  # a folder cannot be renamed onto a filled one
            target.rename(old)
        elif target.exists() or target.is_symlink():
            target.unlink()
        try:
            aside.rename(target)
        except BaseException:
            if old.is_dir():
                old.rename(target)
            raise


def write_json(path: str | Path, value: Any) -> None:
    """Write strict JSON (no NaN or infinity), aside and renamed."""
    text = json.dumps(value, indent=2, allow_nan=False)
    with write_aside(path) as aside:
        aside.write_text(text + "\n", encoding="utf-8")


def finite(value: Any) -> Any:
    """Replace what JSON has no number for by null, and numpy values by Python's."""
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, np.ndarray):
        return finite(value.tolist())
    if isinstance(value, np.generic):
        return finite(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def matching(name: str | Path, *, where: str = "") -> list[str]:
    """Return the files that a name stands for, in order: itself, or with * ? [ ] in it all that match, ** any folders.

    A file that is called so is itself. where: begins the message. Raises InputError where nothing matches, and for names that are no
    text.
    """
    text = str(name)
    single = "://" in text or not glob.has_magic(text) or Path(text).exists()
    found = [text] if single else sorted(glob.glob(text, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
    for file in found:
        require_name(file)
    if not found:
        raise InputError(f"{where}{': ' if where else ''}{text}: no file matches")
    return found


def remove(path: Path) -> None:
    """Delete a file, a link or a folder where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
