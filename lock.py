"""One writer at a time: a lock for an output folder, or for an output file, held until its process ends, however that ends."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import hashlib
import logging
import os
import platform
import stat
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from .errors import HunchError, InputError
from .files import REASONS, WriteError, is_private, make_folder, remove, require_no_device, write_reason

__all__ = ["only_writer", "reading", "writing"]

log = logging.getLogger(__name__)

NAME = ".lock"
LONGEST = 200  # bytes of a name; disks take 255
BUSY = {errno.EAGAIN, errno.EACCES}
UNWRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}
HELD: dict[tuple[str, int], int] = {}
"""(Lock file, thread) -> descriptor, of the locks that this process holds."""


@contextlib.contextmanager
def writing(folder: Path, *, within: Sequence[str] = ()) -> Iterator[None]:
    """Hold an output folder, which is made where there is none; raises HunchError where another run uses it, and touches nothing then.

    What a killed run left under temporary names in it, and in its folders `within` at any depth, is deleted. A folder that is
    still empty in the end is removed if it was made here. Raises WriteError where one of those within is a link: whoever made the
    folder would say where files are written and deleted.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; a folder is written")
    refuse_links(folder, within)
    if is_held(folder / NAME):
        yield
        return
    with making(folder), held(folder / NAME, folder):
        sweep(folder, within)
        try:
            yield
        except BaseException:  # workers that were killed cleaned nothing up
            sweep(folder, within)
            raise


def refuse_links(folder: Path, within: Sequence[str]) -> None:
    """Raise WriteError where one of the folders `within`, or a folder in one of them, is a link."""
    waiting = [folder / name for name in within]
    while waiting:
        path = waiting.pop()
        if path.is_symlink():
            raise WriteError(f"{path}: cannot be written: {REASONS[errno.ELOOP]}; delete it, or name another output")
        if path.is_dir():
            with os.scandir(path) as entries:
                waiting += [Path(entry) for entry in entries if entry.is_dir()]


def sweep(folder: Path, within: Sequence[str]) -> None:
    """Delete what was left under temporary names in a folder, and in its folders `within` at any depth."""
    for left in [*folder.glob(".*"), *(path for name in within for path in (folder / name).rglob(".*"))]:
        if is_private(left):
            remove(left)


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Hold a folder that is read and must not change meanwhile; others may read it too."""
    with held(folder / NAME, folder, shared=True):
        yield


@contextlib.contextmanager
def only_writer(target: Path) -> Iterator[None]:
    """Hold an output file, or a folder that is replaced as a whole; raises HunchError where another run writes it, or it is a device.

    What a killed run left of it under a temporary name is deleted.
    """
    path = target if target.name not in {"", ".."} else target.resolve()
    require_no_device(path)
    with making(path.parent), held(path.with_name(f".{short(path.name)}{NAME}"), target):
        for left in path.parent.glob(".*"):
            if is_private(left, path):
                remove(left)
        yield


def short(name: str) -> str:
    """Return a name, or its hash where a name with more to it would be too long for a disk."""
    encoded = os.fsencode(name)
    return name if len(encoded) < LONGEST else hashlib.sha256(encoded).hexdigest()


@contextlib.contextmanager
def making(folder: Path) -> Iterator[None]:
    """Make a folder and those above it; those that were made and are empty in the end are removed again."""
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    make_folder(folder)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the first that is not empty ends it
            for path in made:
                path.rmdir()


@contextlib.contextmanager
def held(lock: Path, what: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock file, which is deleted in the end. A lock within a lock of the same thread is none.

    The lock is the kernel's: it ends with its process, and the file of a killed one holds nobody up. Where the file system has no
    locks, or nothing can be written, nothing is held; the first is said.
    """
    if is_held(lock):
        yield
        return
    number = acquire(lock, what, shared=shared)
    if number is None:
        yield
        return
    name = name_of(lock)
    HELD[name] = number
    try:
        yield
    finally:
        if HELD.pop(name, None) is not None:
            release(lock, number)


def name_of(lock: Path) -> tuple[str, int]:
    """Return what a lock of this thread is known by."""
    return str(lock.resolve()), threading.get_ident()


def is_held(lock: Path) -> bool:
    """Tell whether this thread holds a lock already."""
    return name_of(lock) in HELD


def acquire(lock: Path, what: Path, *, shared: bool) -> int | None:
    """Return the descriptor of the locked file, None where there are no locks; raises HunchError where somebody else holds it."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return None
    while True:
        try:
            number = opened(lock)
        except OSError as error:
            if error.errno in UNWRITABLE or (shared and error.errno == errno.ENOENT):
                return None  # nothing can be written there, by this process at least
            raise WriteError(f"{lock}: cannot be written: {write_reason(error)}") from error
        try:
            fcntl.flock(number, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            who = os.pread(number, 1000, 0).decode(errors="replace").strip()
            os.close(number)
            if error.errno not in BUSY:
                log.warning(
                    "%s: its file system has no locks (%s): two runs that write it at once are not noticed",
                    what,
                    error.strerror,
                )
                return None
            raise HunchError(
                f"{what}: is in use by another run ({who or 'of a process that does not say its number'}); wait for it, or name "
                "another output"
            ) from error
        if is_at(lock, number):
            break
        os.close(number)  # whoever held it has just deleted it
    with contextlib.suppress(OSError):  # a full disk, or a file of somebody else: held all the same
        os.ftruncate(number, 0)
        now = dt.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        os.pwrite(number, f"process {os.getpid()} on {platform.node() or 'this machine'} since {now}\n".encode(), 0)
    return number


def opened(lock: Path) -> int:
    """Open a lock file, never through a link, for writing where that is allowed; no child process inherits it."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        number = os.open(lock, flags | os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        if error.errno not in UNWRITABLE or not lock.is_file():
            raise
        number = os.open(lock, flags | os.O_RDONLY)  # of another user: it can be locked all the same
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise InputError(f"{lock}: is no file; a lock is written there")
    return number


def is_at(lock: Path, number: int) -> bool:
    """Tell whether an open file is the one of that name."""
    try:
        return os.path.samestat(os.stat(lock, follow_symlinks=False), os.fstat(number))  # noqa: PTH116 - compared with the open one
    except FileNotFoundError:
        return False


def release(lock: Path, number: int) -> None:
    """Delete the lock file, unless others hold it too, and let go."""
    import fcntl

    with contextlib.suppress(OSError):
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_at(lock, number):
            lock.unlink()
    os.close(number)


def let_go() -> None:
    """Close the locks in a forked process: it does not hold them, and the parent's end with the parent."""
    for number in HELD.values():
        os.close(number)
    HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=let_go)
