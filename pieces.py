"""Finished pieces of long work, kept until all of it is done: a run that was killed goes on after the last of them.

A piece is a few arrays in a file of its own, named by the hash of everything that it depends on, with a sum over its content.
What is taken up again is bit for bit what would be made again; a damaged or foreign piece is made anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from .files import make_folder, write_aside

__all__ = ["NONE_KEPT", "Pieces", "digest"]

log = logging.getLogger(__name__)

Arrays = dict[str, npt.NDArray[Any]]
SUM = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Pieces:
    """Where the pieces of some work are kept, and the key of what they depend on; folder None: nothing is kept."""

    folder: Path | None
    key: str = ""

    def of(self, name: str, *depends: Any) -> Pieces:
        """Return the pieces of one loop, which depend on these values too; see `digest`."""
        if self.folder is None:
            return self
        return Pieces(self.folder / name, digest([self.key, name, *depends]))

    def kept(self, name: str, make: Callable[[], Mapping[str, npt.ArrayLike]]) -> Arrays:
        """Return a piece's arrays: those that were kept, else those of `make`, which are kept from then on."""
        found = self.load(name)
        if found is None:
            found = {key: np.asarray(value) for key, value in make().items()}
            self.save(name, **found)
        return found

    def load(self, name: str) -> Arrays | None:
        """Return a piece's arrays, None where it was not kept or is damaged."""
        if self.folder is None:
            return None
        path = self.path(name)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(content[SUM:]).digest() != content[:SUM]:
            log.info("%s: damaged; made anew", path)
            return None
        try:
            with np.load(io.BytesIO(content[SUM:]), allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
        except (OSError, ValueError, BadZipFile):
            return None

    def save(self, name: str, **arrays: npt.ArrayLike) -> None:
        """Keep a piece."""
        if self.folder is None:
            return
        buffer = io.BytesIO()
        named: dict[str, Any] = {key: np.asarray(value) for key, value in arrays.items()}
        np.savez(buffer, **named)
        content = buffer.getvalue()
        with write_aside(self.path(name)) as aside:
            aside.write_bytes(hashlib.sha256(content).digest() + content)

    def path(self, name: str) -> Path:
        """Return the file of a piece."""
        assert self.folder is not None
        return self.folder / f"{name}.{self.key[:32]}.piece"

    def place(self, name: str) -> Path | None:
        """Return a folder for what is kept in files of its own, None where nothing is kept."""
        if self.folder is None:
            return None
        path = self.folder / f"{name}.{self.key[:32]}"
        return make_folder(path)


NONE_KEPT = Pieces(None)


def digest(value: Any) -> str:
    """Return the hash of what pieces depend on: JSON-like values, arrays, paths, dataclasses of these; and numpy's and scipy's versions.

    >>> digest([1.0, "a"]) == digest((1.0, "a")), digest([1.0, "a"]) == digest([1.0, "b"])
    (True, False)
    """
    made_by = [version("numpy"), version("scipy")]
    return hashlib.sha256(json.dumps([made_by, plain(value)], sort_keys=True).encode()).hexdigest()


def plain(value: Any) -> Any:
    """Return a value as JSON has it; an array is its type, shape and the hash of its bytes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"of": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(key): plain(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [plain(own) for own in value]
    if isinstance(value, np.ndarray):
        content = np.ascontiguousarray(value)
        return [str(content.dtype), list(content.shape), hashlib.sha256(content.tobytes()).hexdigest()]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, Path):
        return str(value)
    return value
