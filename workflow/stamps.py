"""Whether something is up to date: hashes of files, of folders, of the package's own source, and the stamps that keep them.

A stamp is written last and holds what was done, with which settings, of which inputs, by which source, and the hashes of what was
written; a killed run has none. No time of a file plays a part.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..documents import parse_json, read_json
from ..errors import InputError
from ..files import write_json
from ..pieces import Pieces

__all__ = [
    "Key",
    "file_hash",
    "finish",
    "hashed",
    "is_finished",
    "key_of",
    "source_hash",
    "stamp_holds",
    "why_stale",
    "write_stamp",
]

ROOT = Path(__file__).parents[1]
ROOT_SOURCES = ("errors", "documents", "files", "lock", "pieces", "tabular", "table", "folds", "workers")
"""Modules of the root that every room may use, as it may the room hdf5."""
SHOWN = 3
"""Names that a message gives of several."""


@dataclass(frozen=True)
class Key:
    """What something depends on: its settings, JSON-like; its inputs, names and hashes, in order; the hash of its source."""

    name: str
    settings: Any
    inputs: tuple[tuple[str, str], ...]
    source: str

    @property
    def hash(self) -> str:
        """Return the hash of all of it."""
        return key_of([self.name, self.settings, self.inputs, self.source])


def key_of(value: Any) -> str:
    """Return the hash of a JSON-like value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def hashed(paths: Iterable[Path]) -> tuple[tuple[str, str], ...]:
    """Return the names of files and folders with their hashes."""
    return tuple((path.name, file_hash(path)) for path in paths)


def file_hash(path: Path) -> str:
    """Return the hash of a file's content, or of a folder's files with their names; "" where there is nothing."""
    if path.is_dir():
        parts = [f"{p.relative_to(path)}:{file_hash(p)}" for p in sorted(path.rglob("*")) if p.is_file()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
    try:
        stat = path.stat()
    except OSError:
        return ""
    return content_hash_of(str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


@functools.lru_cache(maxsize=100_000)
def content_hash_of(path: str, size: int, written: int, changed: int, node: int) -> str:
    """Hash a file once for as long as its size, times and place on the disk stay, within this process."""
    del size, written, changed, node
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def source_hash(*rooms: str) -> str:
    """Hash the package's source files of these rooms, and of the root's modules that all rooms use."""
    sources = [ROOT / f"{name}.py" for name in ROOT_SOURCES]
    sources += [p for room in ("hdf5", *rooms) for p in sorted((ROOT / room).rglob("*.py"))]
    return hashlib.sha256("".join(f"{p.relative_to(ROOT)}:{file_hash(p)}" for p in sources).encode()).hexdigest()


def write_stamp(stamp: Path, key: Key, writes: Sequence[Path]) -> None:
    """Write what was done, with the hashes of what it wrote."""
    write_json(
        stamp,
        {
            "key": key.hash,
            "settings": key.settings,
            "inputs": key.inputs,
            "source": key.source,
            "version": __version__,
            "written": dict(hashed(writes)),
        },
    )


def stamp_holds(stamp: Path, key: Key, writes: Sequence[Path]) -> bool:
    """Tell whether this was done with this key and all that it wrote is still there as it was."""
    return why_stale(stamp, key, writes) is None


def why_stale(stamp: Path, key: Key, writes: Sequence[Path], *, any_source: bool = False) -> str | None:
    """Return why something has to be done again, None where it was done with this key and what it wrote is as it was.

    any_source: whether it was done by the same source does not matter.
    """
    if not stamp.is_file():
        return "has not been run yet"
    try:
        stored = read_json(stamp)
    except InputError:
        stored = None
    if not isinstance(stored, dict) or not {"key", "settings", "inputs", "source", "written"} <= stored.keys():
        return f"has a damaged stamp, or one of another version ({stamp})"
    if stored["settings"] != as_stored(key.settings):
        return f"is older than the configuration ({differing(stored['settings'], as_stored(key.settings))})"
    if stored["inputs"] != as_stored(key.inputs):
        return f"is older than what it was made of ({other_inputs(stored['inputs'], key.inputs)})"
    changed = [path for path in writes if not is_as_written(stored["written"], path)]
    if changed:
        what = ", ".join(f"{path.name} {'was changed' if path.exists() else 'is gone'}" for path in changed[:SHOWN])
        return f"no longer has what it wrote ({what})"
    if stored["source"] != key.source and not any_source:
        return f"was run by another version of the program ({stored.get('version')})"
    if stored["key"] != key.hash and not any_source:
        return f"has a damaged stamp ({stamp})"
    return None


def is_as_written(written: Any, path: Path) -> bool:
    """Tell whether a file or folder has the hash that a stamp has for it."""
    return isinstance(written, dict) and path.name in written and written[path.name] == file_hash(path)


def as_stored(value: Any) -> Any:
    """Return a JSON-like value as it is read back."""
    return parse_json(json.dumps(value), "settings")


def other_inputs(stored: Any, inputs: Sequence[tuple[str, str]]) -> str:
    """Return which inputs are others."""
    before = [tuple(pair) for pair in stored] if isinstance(stored, list) else []
    new = [f"{name} {'was changed' if found else 'is gone'}" for name, found in inputs if (name, found) not in before]
    gone = [f"{name} is no longer one" for name, found in before if (name, found) not in inputs]
    return ", ".join((new or gone)[:SHOWN]) or "their order"


def differing(stored: Any, now: Any) -> str:
    """Return which settings differ, with both values."""
    before, after = dict(flat(stored)), dict(flat(now))
    names = [name for name in {**before, **after} if before.get(name, "not given") != after.get(name, "not given")]
    told = [f"{n} was {before.get(n, 'not given')} and is {after.get(n, 'not given')}"[:120] for n in names[:SHOWN]]
    return "; ".join(told) + f", and {len(names) - SHOWN} more" * (len(names) > SHOWN)


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Give the values of nested mappings and lists of them by names with dots."""
    if isinstance(value, Mapping) and value:
        for key, own in value.items():
            yield from flat(own, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(own, Mapping | list) for own in value):
        for number, own in enumerate(value):
            yield from flat(own, f"{name}[{number}]" if name else str(number))
    else:
        yield name, value


def is_finished(pieces: Pieces, path: Path) -> bool:
    """Tell whether an earlier run of the same work has written this file or folder, and it is as it was."""
    found = pieces.load(path.name)
    return found is not None and path.exists() and str(found["hash"]) == file_hash(path)


def finish(pieces: Pieces, path: Path) -> None:
    """Note that a file or folder is written, for a run that is killed after it."""
    pieces.save(path.name, hash=np.array(file_hash(path)))
