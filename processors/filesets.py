"""Filesets: which event files make up which dataset, from plain paths or from coffea's JSON and YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import IN_QUOTES, InputError, shown, unknown_name
from ..files import read_json, read_yaml

__all__ = ["FILESET_SUFFIXES", "check_fileset", "read_fileset"]

FILESET_SUFFIXES = (".json", ".yaml", ".yml")
KEYS = ("files", "metadata", "treename")

Fileset = dict[str, dict[str, Any]]


def read_fileset(
    paths: str | Path | Sequence[str | Path], *, dataset: str | None = None, tree: str = "Events"
) -> Fileset:
    """Return {dataset: {"files": {path: tree}, "metadata": {...}}} in coffea's form.

    A plain ROOT file is a dataset named by its stem, or all of them are the one called `dataset`. A name that ends in
    .json, .yaml or .yml is a fileset: {name: [paths]} or {name: {"files": [paths] or {path: tree}, "metadata": {}}};
    paths in it are relative to its folder. Raises InputError naming file and key.
    """
    fileset: Fileset = {}
    for path in [paths] if isinstance(paths, str | Path) else paths:
        if Path(path).suffix.lower() in FILESET_SUFFIXES:
            for name, entry in _read(Path(path), tree).items():
                if name in fileset:
                    raise InputError(f"{path}: dataset {name!r} is already given; names must be unique")
                fileset[name] = entry
            continue
        name = dataset or Path(path).stem
        files = fileset.setdefault(name, {"files": {}, "metadata": {}})["files"]
        if str(path) in files:
            raise InputError(f"{path}: given twice; every event would be counted twice")
        if files and dataset is None:
            raise InputError(
                f"{path}: has the same name as {next(iter(files))}, and a dataset is named by its file; "
                "name datasets in a fileset or give them one name"
            )
        files[str(path)] = tree
    if not fileset:
        raise InputError("no event files given; ROOT files or a fileset (.json, .yaml) are expected")
    return fileset


def _read(path: Path, tree: str) -> Fileset:
    content = (read_json if path.suffix.lower() == ".json" else read_yaml)(path, "a fileset")
    return check_fileset(content, where=str(path), folder=path.parent, tree=tree)


def check_fileset(content: Any, *, where: str = "fileset", folder: Path | None = None, tree: str = "Events") -> Fileset:
    """Return coffea's looser forms of a fileset in the one form of `read_fileset`; InputError names dataset and key.

    folder: what relative paths are relative to, when not the working directory.
    """
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{where}: a fileset maps dataset names to files, found {shown(content)}")
    for name in content:
        if not isinstance(name, str):
            raise InputError(f"{where}: dataset {shown(name)} is no name; {IN_QUOTES}")
    return {
        str(name): _entry(entry, f"{where}: dataset {str(name)!r}", folder or Path(), tree)
        for name, entry in content.items()
    }


def _entry(entry: Any, where: str, folder: Path, tree: str) -> dict[str, Any]:
    metadata: Any = {}
    files = entry
    if isinstance(entry, Mapping):
        for key in entry:
            if key not in KEYS:
                raise InputError(unknown_name("key", str(key), KEYS, where))
        if "files" not in entry:
            raise InputError(f"{where}: no key 'files'; found: {', '.join(map(str, entry)) or 'none'}")
        files, metadata, tree = entry["files"], entry.get("metadata") or {}, entry.get("treename", tree)
    if isinstance(files, str | Path):
        files = [files]
    if isinstance(files, Sequence):
        files = [str(f) if isinstance(f, Path) else f for f in files]
        if len(set(map(str, files))) < len(files):
            twice = next(f for f in files if list(files).count(f) > 1)
            raise InputError(f"{where}: {twice} is given twice; every event would be counted twice")
        files = dict.fromkeys(files, tree)
    if not isinstance(files, Mapping) or not files:
        raise InputError(f"{where}: 'files' must be a list of paths or map paths to trees, found {shown(files)}")
    if not isinstance(metadata, Mapping):
        raise InputError(f"{where}: 'metadata' must map names to values, found {shown(metadata)}")
    resolved = {}
    for name, value in files.items():
        # coffea's preprocessed filesets hold a mapping a file, with the tree under object_path.
        found = value.get("object_path", tree) if isinstance(value, Mapping) else value
        if not isinstance(name, str) or not isinstance(found, str):
            raise InputError(f"{where}: {shown(name)}: {shown(value)} is not a path and a tree{_hint(name, found)}")
        resolved[name if "://" in name else str(folder / name)] = found
    return {"files": resolved, "metadata": dict(metadata)}


def _hint(*names: Any) -> str:
    return "" if all(isinstance(name, str) for name in names) else f"; {IN_QUOTES}"
