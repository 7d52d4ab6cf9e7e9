"""Filesets: which event files, and which of their events, make up which dataset; plain paths, or coffea's JSON and YAML.

Every form that coffea writes or takes is read: {dataset: [path, ...]}, {dataset: {path: tree}}, {dataset: {"files": ...,
"metadata": {...}, "treename": ...}}, a path with its tree as "file.root:Events", and what coffea's `preprocess` makes, with
object_path, steps, num_entries and uuid of each file, as JSON or as its own classes.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..errors import IN_QUOTES, InputError, shown, unknown_name
from ..files import matching
from .fileset_text import FILESET_SUFFIXES, checked_metadata, is_fileset, read_fileset_text

__all__ = ["FILESET_SUFFIXES", "Fileset", "check_fileset", "files_of", "is_fileset", "read_fileset"]

KEYS = ("files", "metadata", "treename", "format", "form", "compressed_form", "did", "preload")
"""Keys of a dataset, coffea's too: form and preload say how coffea would open the files, did where they are catalogued."""
FILE_KEYS = (
    *("object_path", "steps", "num_entries", "uuid", "format"),
    *("num_selected_entries", "lfn", "pfn", "form", "compressed_form", "form_hash_md5"),
)
"""Keys of a file; the first five are looked at. num_selected_entries is left as it was where coffea itself takes steps away."""

Fileset = dict[str, dict[str, Any]]
Entry = str | dict[str, Any]

WITH_TREE = re.compile(r"(?P<path>.*\.root):(?P<tree>[^:/][^:]*)")
"""A path with its tree behind a colon, as uproot takes it."""


def read_fileset(
    paths: str | Path | Sequence[str | Path], *, dataset: str | None = None, tree: str = "Events"
) -> Fileset:
    """Return {dataset: {"files": {path: tree or entry}, "metadata": {...}}} in coffea's form.

    A plain ROOT file is a dataset named by its stem, or all of them are the one called `dataset`; wildcards stand for the files that
    match. A name that ends in one of FILESET_SUFFIXES is a fileset; paths and wildcards in it are relative to its folder. An entry is
    a mapping where more than a tree is said of a file: "object_path", and "steps" (pairs of entries, sorted), "num_entries" and
    "uuid" where they are given. Raises InputError naming file, dataset and key.
    """
    fileset: Fileset = {}
    for path in [paths] if isinstance(paths, str | Path) else paths:
        if is_fileset(path):
            content = read_fileset_text(Path(path))
            for name, entry in check_fileset(content, where=str(path), folder=Path(path).parent, tree=tree).items():
                if name in fileset:
                    raise InputError(f"{path}: dataset {name!r} is already given; names must be unique")
                fileset[name] = entry
            continue
        for file in matching(path):
            name = dataset or Path(file).stem
            files = fileset.setdefault(name, {"files": {}, "metadata": {}})["files"]
            if file in files:
                raise InputError(f"{file}: given twice; every event would be counted twice")
            if files and dataset is None:
                raise InputError(
                    f"{file}: has the same name as {next(iter(files))}, and a dataset is named by its file; "
                    "name datasets in a fileset or give them one name"
                )
            files[file] = tree
    if not fileset:
        raise InputError("no event files given; ROOT files or a fileset (.json, .yaml) are expected")
    return fileset


def files_of(paths: Iterable[str | Path]) -> list[str]:
    """Return the files that paths, wildcards and filesets stand for, in order."""
    return [file for path in paths for entry in read_fileset(path).values() for file in entry["files"]]


def check_fileset(content: Any, *, where: str = "fileset", folder: Path | None = None, tree: str = "Events") -> Fileset:
    """Return coffea's looser forms of a fileset in the one form of `read_fileset`; InputError names dataset and key.

    folder: what relative paths are relative to, when not the working directory.
    """
    content = _plain(content)
    if not content and not isinstance(content, bool | int | float):
        raise InputError(f"{where}: names no dataset; a fileset maps dataset names to files")
    if not isinstance(content, Mapping):
        raise InputError(f"{where}: a fileset maps dataset names to files, found {shown(content)}")
    fileset: Fileset = {}
    for given, entry in content.items():
        if not isinstance(given, str):
            raise InputError(f"{where}: dataset {shown(given)} is no name; {IN_QUOTES}")
        fileset[given] = _dataset(_plain(entry), f"{where}: dataset {given!r}", folder or Path(), tree)
    return fileset


def _plain(value: Any) -> Any:
    """Return what coffea's own classes of filesets hold; anything else as it is."""
    return value.model_dump() if hasattr(value, "model_dump") else value


def _dataset(entry: Any, where: str, folder: Path, tree: str) -> dict[str, Any]:
    metadata: Any = {}
    files = entry
    if isinstance(entry, Mapping) and (not entry or not all(_names_file(key) for key in entry)):
        for key in entry:
            if key not in KEYS:
                raise InputError(unknown_name("key", str(key), KEYS[:3], where))
        if "files" not in entry:
            raise InputError(f"{where}: no key 'files'; found: {', '.join(map(str, entry)) or 'none'}")
        _require_format(entry.get("format"), where)
        files, metadata = _plain(entry["files"]), entry.get("metadata")
        tree = entry.get("treename", tree)
    if isinstance(files, str | Path):
        files = [files]
    if isinstance(files, Sequence) and not isinstance(files, bytes):
        files = _listed(files, where, tree)
    if not files and not isinstance(files, bool | int | float):
        raise InputError(f"{where}: names no file; 'files' must be a list of paths or map paths to trees")
    if not isinstance(files, Mapping):
        raise InputError(f"{where}: 'files' must be a list of paths or map paths to trees, found {shown(files)}")
    resolved: dict[str, Entry] = {}
    for given, value in files.items():
        if not isinstance(given, str | Path) or not str(given):
            raise InputError(f"{where}: {shown(given)} is no path of a file; {IN_QUOTES}")
        path = str(given)
        said = _file(_plain(value), f"{where}: {path}", tree)
        for file in [path] if "://" in path else matching(folder / path, where=where):
            if file in resolved:
                raise InputError(f"{where}: {file} is given twice; every event would be counted twice")
            if isinstance(said, dict) and file != str(folder / path) and "://" not in path:
                raise InputError(
                    f"{where}: {path}: stands for several files, of which steps and the like cannot be said"
                )
            resolved[file] = said
    return {"files": resolved, "metadata": checked_metadata(metadata, where)}


def _names_file(key: Any) -> bool:
    """Tell a path from a key of a dataset: coffea takes {path: tree} in place of {"files": ...}."""
    return isinstance(key, Path) or (isinstance(key, str) and key not in KEYS and ("/" in key or ".root" in key))


def _listed(files: Sequence[Any], where: str, tree: str) -> dict[str, Any]:
    """Return a list of paths as {path: tree}."""
    found: dict[str, Any] = {}
    for given in files:
        if not isinstance(given, str | Path):
            raise InputError(f"{where}: {shown(given)} is no path of a file; {IN_QUOTES}")
        split = WITH_TREE.fullmatch(str(given))
        path, own = (split["path"], split["tree"]) if split else (str(given), tree)
        if path in found:
            raise InputError(f"{where}: {path} is given twice; every event would be counted twice")
        found[path] = own
    return found


def _file(value: Any, where: str, tree: str) -> Entry:
    """Return what is said of a file: its tree, or a mapping of that and more."""
    if not isinstance(value, Mapping):
        if not isinstance(value, str) or not value:
            raise InputError(f"{where}: {shown(value)} is not a tree, nor a mapping with object_path; {IN_QUOTES}")
        return value
    for key in value:
        if key not in FILE_KEYS:
            raise InputError(unknown_name("key", str(key), FILE_KEYS[:5], where))
    _require_format(value.get("format"), where)
    name = tree if value.get("object_path") is None else value["object_path"]
    if not isinstance(name, str) or not name:
        raise InputError(f"{where}: object_path: {shown(name)} is not the name of a tree")
    entry: dict[str, Any] = {"object_path": name}
    entries = value.get("num_entries")
    if entries is not None:
        if not _whole(entries) or entries < 0:
            raise InputError(f"{where}: num_entries: {shown(entries)} is not a number of events")
        entry["num_entries"] = entries
    if value.get("uuid") is not None:
        entry["uuid"] = _uuid(value["uuid"], where)
    if value.get("steps") is not None:
        entry["steps"] = _steps(value["steps"], where, entries)
    return entry if len(entry) > 1 else name


def _require_format(given: Any, where: str) -> None:
    if given not in (None, "root"):
        raise InputError(f"{where}: format: {shown(given)}; event files are ROOT files: format 'root' alone is read")


def _uuid(given: Any, where: str) -> str:
    try:
        return str(uuid.UUID(str(given)))
    except ValueError as error:
        raise InputError(f"{where}: uuid: {shown(given)} is no uuid of a ROOT file") from error


def _steps(given: Any, where: str, entries: int | None) -> list[list[int]]:
    """Return ranges of entries in order; raises InputError for what is none, for empty ends and overlaps.

    An empty range is left out; where there is no other, [0, 0] stands for no event, as coffea writes of an empty file.
    """
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise InputError(f"{where}: steps: {shown(given)} is no list of [start, stop]")
    steps: list[list[int]] = []
    for step in given:
        if not isinstance(step, Sequence) or isinstance(step, str) or len(step) != 2 or not all(map(_whole, step)):
            raise InputError(f"{where}: steps: {shown(step)} is no [start, stop] of whole numbers")
        start, stop = step
        if not 0 <= start <= stop:
            raise InputError(f"{where}: steps: {shown(step)} does not rise from 0 or above")
        if entries is not None and stop > entries:
            raise InputError(f"{where}: steps: {shown(step)} ends beyond its num_entries {entries}")
        if start < stop:
            steps.append([start, stop])
    steps.sort()
    for first, second in pairwise(steps):
        if second[0] < first[1]:
            raise InputError(f"{where}: steps: {first} and {second} overlap; events would be counted twice")
    return steps or [[0, 0]]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
