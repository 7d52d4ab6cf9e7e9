"""Writing aside and renaming, strict JSON, and deleting."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError

__all__ = ["finite", "remove", "write_aside", "write_folder_aside", "write_json"]


@contextlib.contextmanager
def write_aside(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` on success, delete it on any failure or Ctrl-C."""
    target = Path(path)
    if not target.parent.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        raise InputError(f"{target}: is a directory, not a file to write")
    aside = target.with_name(f".{target.stem}.{secrets.token_hex(6)}.part{target.suffix}")
    try:
        yield aside
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def write_folder_aside(path: str | Path) -> Iterator[Path]:
    """Give an empty folder beside `path`; rename it to `path` on success, delete it on any failure or Ctrl-C.

    What was at `path` before, a file or a folder, is replaced as a whole, and stays where anything fails.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(6)
    aside, old = (target.with_name(f".{target.name}.{token}.{end}") for end in ("part", "old"))
    aside.mkdir()
    try:
        yield aside
        if target.is_dir() and not target.is_symlink():  # a folder cannot be renamed onto a filled one
            target.rename(old)
        elif target.exists() or target.is_symlink():
            target.unlink()
        aside.rename(target)
    finally:
        if old.is_dir() and not target.exists():
            old.rename(target)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


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


def remove(path: Path) -> None:
    """Delete a file, a link or a folder where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
