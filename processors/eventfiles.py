"""Event files: opened, checked against what they hold, and said what is wrong with those that cannot be processed."""

from __future__ import annotations

import contextlib
import importlib.util
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uproot

from ..errors import InputError, nearest
from .baskets import check_size
from .damage import READ_ERRORS, told
from .events import EventSource, source_of

__all__ = ["EventFile", "Steps", "inspect_file"]

Steps = tuple[tuple[int, int], ...]

DRIVERS = {
    **dict.fromkeys(("root", "roots", "xrootd", "xroot"), ("fsspec_xrootd", "fsspec-xrootd")),
    **dict.fromkeys(("http", "https"), ("aiohttp", "aiohttp")),
    "s3": ("s3fs", "s3fs"),
    **dict.fromkeys(("gs", "gcs"), ("gcsfs", "gcsfs")),
}
"""Scheme of an address -> the module that reads it, and the package that brings the module."""
MAGIC = {b"\x89HDF": "HDF5", b"PAR1": "parquet", b"PK\x03\x04": "zip", b"\x1f\x8b": "gzip", b"%PDF": "PDF"}
SHOWN = 5


@dataclass(frozen=True)
class EventFile:
    """One checked event file: its dataset, path, tree, number of events, ROOT identifier and what it stores.

    steps: the ranges of entries that are processed, in order and apart; all entries where there are none.
    """

    dataset: str
    path: str
    tree: str
    entries: int
    uuid: bytes
    source: EventSource
    steps: Steps | None = None

    @property
    def ranges(self) -> Steps:
        """The ranges of entries that are processed."""
        return ((0, self.entries),) if self.steps is None else self.steps

    @property
    def selected(self) -> int:
        """How many events these are."""
        return sum(stop - start for start, stop in self.ranges)


def inspect_file(
    path: str | Path,
    *,
    tree: str = "Events",
    dataset: str | None = None,
    steps: Steps | None = None,
    num_entries: int | None = None,
    file_uuid: str | None = None,
    find: Callable[[Collection[str], str], EventSource] = source_of,
) -> EventFile:
    """Open a file, check that it can be processed, and say what it holds; no event is read.

    steps: ranges of entries to process; num_entries, file_uuid: what a fileset says of the file; find: what is looked for among the
    names of the branches, `Representation.source_of`. Raises InputError naming file,
    tree and branch, what was found and what to do, for a missing file, a directory, a file that is not ROOT, is truncated or
    holds another number of events than it or the fileset says, a missing tree or branch, an address that nothing here reads;
    NoCandidatesError when it is NanoAOD without candidates.
    """
    name = str(path)
    remote = _remote(name)
    if not remote:
        name = name.removeprefix("file://")
        _require_root(Path(name), tree)
    with _opened(name, remote=remote) as file, contextlib.ExitStack() as stack:
        where = f"{name}: tree {tree!r}"
        size, end = file.file.source.num_bytes, file.file.fEND
        if size < end:
            raise InputError(f"{name}: truncated: it holds {size} of the {end} bytes that its header announces")
        found = _tree(file, name, tree)
        headers = None if remote else stack.enter_context(Path(name).open("rb"))
        try:
            branches = set(found.keys(recursive=False))
            source = find(branches, where)
            check_size(found, source.branches, where=where, size=size, file=headers)
            entries, own = int(found.num_entries), file.file.fUUID
        except READ_ERRORS as error:
            raise InputError(f"{where}: cannot be read: {told(error)}") from error
    if num_entries is not None and num_entries != entries:
        raise InputError(f"{name}: holds {entries} events, the fileset says num_entries {num_entries}: another file")
    if file_uuid and uuid.UUID(bytes=own) != uuid.UUID(file_uuid):
        raise InputError(
            f"{name}: has the uuid {uuid.UUID(bytes=own)}, the fileset says {file_uuid}: the file was written anew, and steps "
            "made for the other one may not fit; preprocess the fileset again"
        )
    for start, stop in steps or ():
        if stop > entries:
            raise InputError(f"{name}: steps: [{start}, {stop}] ends beyond the {entries} events of the file")
    return EventFile(dataset or Path(name).stem, name, tree, entries, own, source, steps)


def _remote(name: str) -> bool:
    """Tell whether a name is an address elsewhere; raises InputError where nothing here can read it."""
    scheme, mark, rest = name.partition("://")
    if not mark or scheme == "file":
        return False
    module, package = DRIVERS.get(scheme.lower(), ("", ""))
    if not module:
        raise InputError(
            f"{name}: no address that can be read; allowed: {', '.join(DRIVERS)} and paths of this machine"
        )
    if not urlsplit(name).netloc or not rest.split("/", 1)[-1]:
        raise InputError(f"{name}: names no file; {scheme}://SERVER/PATH is expected")
    if importlib.util.find_spec(module) is None:
        raise InputError(
            f"{name}: {scheme}:// needs the package {package}, which is not installed: pip install {package}, or copy the file here"
        )
    return True


def _require_root(path: Path, tree: str) -> None:
    """Raise InputError for a path that is no file which begins as ROOT files do, saying what it is instead."""
    expected = f"a ROOT file with a tree {tree!r} is expected"
    if path.is_dir():
        raise InputError(f"{path}: is a directory; {expected}")
    if not path.is_file():
        here = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        guess = nearest(path.name, here)
        raise InputError(f"{path}: no such file" + (f"; did you mean {guess!r}?" if guess else ""))
    try:
        with path.open("rb") as file:
            begin = file.read(4)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened: {error.strerror}") from error
    if begin != b"root":
        kind = next((kind for magic, kind in MAGIC.items() if begin.startswith(magic)), None)
        what = f"a {kind} file" if kind else f"begins with {begin!r}" if begin else "is empty"
        raise InputError(f"{path}: not a ROOT file: {what}; {expected}")


@contextlib.contextmanager
def _opened(name: str, *, remote: bool) -> Iterator[Any]:
    """Open a ROOT file; what is wrong with it is an InputError."""
    try:
        file = uproot.open({name: None})
    except READ_ERRORS as error:
        what = "cannot be reached or read" if remote else "truncated or damaged"
        raise InputError(f"{name}: {what}: {told(error)}") from error
    with file:
        yield file


def _tree(file: Any, name: str, tree: str) -> Any:
    """Return the tree of a file by its name; raises InputError saying what the file holds instead."""
    try:
        kinds: Mapping[str, str] = file.classnames(recursive=True, cycle=False)
        trees = [key for key, kind in kinds.items() if kind == "TTree" or "RNTuple" in kind]
        if tree in trees:
            return file[tree]
    except READ_ERRORS as error:
        raise InputError(f"{name}: tree {tree!r} cannot be read: {told(error)}") from error
    guess = nearest(tree, trees)
    if trees:
        hint = f"; did you mean {guess!r}?" if guess else ";"
        others = ", ".join(f"{key} ({kinds[key].rsplit('::', 1)[-1]})" for key in trees[:SHOWN])
        raise InputError(f"{name}: no tree {tree!r}{hint} found: {others}")
    held = [f"{key} ({kind})" for key, kind in kinds.items() if kind not in {"TDirectory", "TDirectoryFile"}]
    more = f", ... ({len(held)} in all)" if len(held) > SHOWN else ""
    what = ", ".join(held[:SHOWN]) + more if held else "nothing at all"
    spectra = "; hunch hunt takes spectra" if any(kind.startswith("TH1") for kind in kinds.values()) else ""
    raise InputError(f"{name}: no tree {tree!r}, no event file: it holds {what}{spectra}")
