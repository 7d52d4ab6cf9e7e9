"""Whether something is up to date: hashes of files, of folders, of the package's own source, and the stamps that keep them.

A stamp is written last and holds the key of what was done and the hashes of what was written; a killed run has none.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from .. import __version__
from ..errors import HunchError, InputError
from ..files import WriteError, make_folder, read_json, told_to_write, write_json, write_reason

__all__ = ["file_hash", "key_of", "only_run", "source_hash", "stamp_holds", "write_stamp"]

ROOT = Path(__file__).parents[1]
ROOT_SOURCES = ("errors", "files", "table", "folds")
"""Modules of the root that every room may use."""


def key_of(value: Any) -> str:
    """Return the hash of a JSON-like value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """Return the hash of a file's content, or of a folder's files with their names; "" where there is nothing."""
    if path.is_dir():
        parts = [f"{p.relative_to(path)}:{file_hash(p)}" for p in sorted(path.rglob("*")) if p.is_file()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
    try:
        stat = path.stat()
    except OSError:
        return ""
    return content_hash_of(str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino)


@functools.lru_cache(maxsize=100_000)
def content_hash_of(path: str, size: int, written: int, node: int) -> str:
    """Hash a file once for as long as its size, time and place on the disk stay."""
    del size, written, node
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def source_hash(*rooms: str) -> str:
    """Hash the package's source files of these rooms, and of the root's modules that all rooms use."""
    sources = [ROOT / f"{name}.py" for name in ROOT_SOURCES]
    sources += [p for room in rooms for p in sorted((ROOT / room).rglob("*.py"))]
    return hashlib.sha256("".join(f"{p.relative_to(ROOT)}:{file_hash(p)}" for p in sources).encode()).hexdigest()


def write_stamp(stamp: Path, key: str, writes: Sequence[Path]) -> None:
    """Write what was done, with the hashes of what it wrote."""
    written = {str(path.name): file_hash(path) for path in writes}
    write_json(stamp, {"key": key, "version": __version__, "written": written})


def stamp_holds(stamp: Path, key: str, writes: Sequence[Path], *, any_source: bool = False) -> bool:
    """Tell whether this was done with this key and all that it wrote is still there as it was.

    any_source: by whatever source; a key's last part is that of the source.
    """
    try:
        stored = read_json(stamp)
    except InputError:  # none, or a damaged one: what it stood for is done again
        return False
    if not isinstance(stored, dict):
        return False
    known = str(stored.get("key"))
    if known != key and not (any_source and known.rpartition(".")[0] == key.rpartition(".")[0] != ""):
        return False
    return stored.get("written") == {str(path.name): file_hash(path) for path in writes}


@contextlib.contextmanager
def only_run(output: Path) -> Iterator[None]:
    """Hold an output folder for this process; raises HunchError where another run writes into it.

    The lock is the system's and ends with its process, however that ends. Where there are no such locks nothing is held.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    folder = output / ".stages"
    make_folder(folder)
    if str(folder) in HELD:  # a run inside a run of this process
        yield
        return
    file: IO[str]
    lock = folder / "lock"
    try:  # a link there would be somebody else's, and what it leads to would be cut to nothing
        number = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise WriteError(f"{lock}: cannot be written: {write_reason(error)}") from error
    with open(number, "r+", encoding="utf-8") as file:  # noqa: PTH123 - a number is no path
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            who = file.read().strip() or "another process"
            raise HunchError(
                f"{output}: is in use by another run ({who}); wait for it, or name another output"
            ) from error
        with told_to_write(lock):
            file.seek(0)
            file.truncate()
            file.write(f"process {os.getpid()}")
            file.flush()
        HELD.add(str(folder))
        try:
            yield
        finally:
            HELD.discard(str(folder))
            file.truncate(0)


HELD: set[str] = set()
"""Folders that this process holds."""
