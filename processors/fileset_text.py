"""The text of a fileset: JSON or YAML, compressed or not, of bounded size; and the metadata in it, as JSON can hold them."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..documents import parse_json, parse_yaml, read_json, read_yaml
from ..errors import InputError, shown

__all__ = ["FILESET_SUFFIXES", "checked_metadata", "is_fileset", "read_fileset_text"]

FILESET_SUFFIXES = tuple(f"{kind}{packed}" for packed in ("", ".gz") for kind in (".json", ".yaml", ".yml"))
LARGEST = 256 * 1024**2
"""Bytes of an unpacked fileset: preprocessed filesets of whole runs hold some tens of MB."""
MOST_VALUES = 10_000
"""Values in a dataset's metadata, which go into the metadata of every table made of it."""


def is_fileset(path: str | Path) -> bool:
    """Tell a fileset from an event file by its name."""
    return str(path).lower().endswith(FILESET_SUFFIXES)


def read_fileset_text(path: Path) -> Any:
    """Return the content of a fileset's file; raises InputError naming it for what cannot be read, or is too large."""
    name = path.name.lower()
    if not name.endswith(".gz"):
        return (read_json if name.endswith(".json") else read_yaml)(path, "a fileset")
    if not path.is_file():
        raise InputError(f"{path}: {'is a directory' if path.is_dir() else 'no such file'}; a fileset is expected")
    try:
        with gzip.open(path) as file:
            raw = file.read(LARGEST + 1)
        text = raw[:LARGEST].decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: damaged, or no compressed text: {error}; a fileset is expected") from error
    if len(raw) > LARGEST:
        raise InputError(f"{path}: a fileset of more than {LARGEST // 1024**2} MB; so many files are several filesets")
    return (parse_json if name.endswith(".json.gz") else parse_yaml)(text, str(path))


def checked_metadata(given: Any, where: str) -> dict[str, Any]:
    """Return a dataset's metadata as JSON can hold them; raises InputError for what it cannot, and for too many."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InputError(f"{where}: 'metadata' must map names to values, found {shown(given)}")
    left = MOST_VALUES

    def checked(value: Any, at: str) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise InputError(f"{where}: metadata: more than {MOST_VALUES} values")
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        if isinstance(value, Mapping):
            return {str(name): checked(inner, f"{at}.{name}") for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [checked(inner, at) for inner in value]
        raise InputError(f"{where}: {at}: {shown(value)} is no number, text, list or mapping that JSON has")

    try:
        found: dict[str, Any] = checked(given, "metadata")
    except RecursionError as error:
        raise InputError(f"{where}: metadata: lists or mappings lie too deep in each other") from error
    return found
