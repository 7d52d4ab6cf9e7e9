"""Writing aside and renaming, strict JSON, and deleting."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError

__all__ = ["finite", "remove", "write_aside", "write_json"]


@contextlib.contextmanager
def write_aside(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` on success, delete it on any failure or Ctrl-C."""
    target = Path(path)
    if not target.parent.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        raise InputError(f"{target}: is a directory, not a file to write")
    aside = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        yield aside
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


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
    """Delete a file or folder where there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
