"""Read a table in HDF5 in slices of rows, in a child process, so that a file that crashes the HDF5 library gives a message."""

from __future__ import annotations

import atexit
import json
import logging
import os
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError, unknown_name

__all__ = ["StoredArray", "StoredLists", "StoredTable", "open_array", "open_hdf5", "open_lists"]

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Label = str | int | float


@dataclass(frozen=True)
class StoredTable:
    """A table in an HDF5 file that is open: the names of its columns in order, its rows, and slices of them.

    key: its name in the file, None where its columns are datasets of their own; labels: as stored, text or numbers; unreadable: column
    -> what it holds that is not read; dtypes: of the others, as stored; deep: columns with an array a row.
    """

    path: Path
    key: str | None
    labels: tuple[Label, ...]
    n_rows: int
    unreadable: dict[str, str]
    dtypes: dict[str, str] = field(repr=False)
    deep: frozenset[str] = field(repr=False)
    _blocks: tuple[tuple[Label, ...], ...] = field(repr=False)
    _slab: int = field(repr=False)
    _child: Child = field(repr=False)

    @property
    def where(self) -> str:
        """Return the file and the key, as messages name them."""
        return f"{self.path}: key {self.key!r}" if self.key is not None else str(self.path)

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns as text."""
        return tuple(map(str, self.labels))

    def check_numbers(self) -> None:
        """Raise InputError unless every column holds numbers, and there is one at least."""
        for block in self._blocks:
            names = [str(label) for label in block]
            found = self.unreadable.get(names[0], "") if names else ""
            if names and (found or np.dtype(self.dtypes[names[0]]).kind not in "biuf"):
                shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
                raise InputError(
                    f"{self.where}: column {shown}: numbers are expected; found {found or 'text or times'}"
                )
        if not self.labels:
            raise InputError(f"{self.where} holds no columns of numbers")

    def matrix(self, start: int, stop: int) -> Floats:
        """Return rows start to stop of all columns side by side, in order: (n, columns) float64."""
        position = {str(label): i for i, label in enumerate(self.labels)}
        places = [np.array([position[str(label)] for label in block], dtype=np.int64) for block in self._blocks]
        out = np.empty((stop - start, len(self.labels)))
        for first, blocks in self._slabs(start, stop, range(len(self._blocks))):
            for place, values in zip(places, blocks, strict=True):
                whole = len(place) == len(self.labels) and bool((place == np.arange(len(place))).all())
                out[first - start : first - start + len(values), slice(None) if whole else place] = values
        return out

    def read(self, columns: Sequence[str]) -> dict[str, Array]:
        """Return the named columns whole: name -> (n,) array of numbers, text or times, (n, ...) where a value is an array.

        Raises InputError for a name that is not there, and for a column that holds what is not read.
        """
        place = {str(label): (i, j) for i, block in enumerate(self._blocks) for j, label in enumerate(block)}
        for name in columns:
            if name not in place:
                raise InputError(unknown_name("column", name, self.columns, self.where))
            if name in self.unreadable:
                raise InputError(f"{self.where}: column {name!r} holds {self.unreadable[name]}")
        wanted = sorted({place[name][0] for name in columns})
        parts: dict[str, list[Array]] = {name: [] for name in columns}
        for _, blocks in self._slabs(0, self.n_rows, wanted):
            for name in columns:
                number, within = place[name]
                values = blocks[wanted.index(number)]
                parts[name].append(values if name in self.deep else values[:, within].copy())
        return {name: np.concatenate(parts.pop(name)) if self.n_rows else self._empty(name) for name in columns}

    def _empty(self, name: str) -> Array:
        """Return a column of no rows."""
        dtype = np.dtype(self.dtypes[name])
        return np.empty(0, dtype=dtype if dtype.kind in "biuf" else np.dtype("U1"))

    def _slabs(self, start: int, stop: int, wanted: Sequence[int]) -> Iterator[tuple[int, list[Array]]]:
        """Give rows start to stop of the wanted blocks, as many at once as the child holds in memory."""
        for first in range(start, stop, self._slab) if wanted else ():
            last = min(first + self._slab, stop)
            yield first, self._child.ask(self.path, start=first, stop=last, blocks=list(wanted))[1]


@contextmanager
def open_hdf5(path: Path, *, expected: str, key: str | None = None, frames_only: bool = False) -> Iterator[StoredTable]:
    """Open the table under `key`, or the only one of an HDF5 file; raises InputError that names the file and what is wrong with it.

    Tables are pandas' frames, in both its layouts, and, unless `frames_only`, structured datasets; where a file has none of them, its
    one-dimensional datasets are the columns of one. Nothing in the file is unpickled or followed to another file. expected: what the
    file should be, for messages.
    """
    with opened(path, key=key, frames_only=frames_only, expected=expected) as (header, child):
        blocks = tuple(tuple(block["labels"]) for block in header["blocks"])
        of_column = {str(label): block for block in header["blocks"] for label in block["labels"]}
        yield StoredTable(
            path=path,
            key=header["key"],
            labels=tuple(header["labels"]),
            n_rows=header["n_rows"],
            unreadable={name: block["unreadable"] for name, block in of_column.items() if block["unreadable"]},
            dtypes={name: block["dtype"] for name, block in of_column.items() if not block["unreadable"]},
            deep=frozenset(name for name, block in of_column.items() if block["deep"]),
            _blocks=blocks,
            _slab=header["slab"],
            _child=child,
        )


@dataclass(frozen=True)
class StoredLists:
    """A list of numbers a row, of different lengths, in an HDF5 file that is open."""

    path: Path
    name: str
    n_rows: int
    _slab: int = field(repr=False)
    _child: Child = field(repr=False)

    @property
    def where(self) -> str:
        """Return the file and the dataset, as messages name them."""
        return f"{self.path}: dataset {self.name!r}"

    def slices(self, size: int) -> Iterator[tuple[int, npt.NDArray[np.int64], Floats]]:
        """Give rows, `size` at once or as many as the child holds: the first one's number, their lengths (n,), and all their numbers."""
        step = min(size, self._slab)
        for first in range(0, self.n_rows, step):
            last = min(first + step, self.n_rows)
            lengths, values = self._child.ask(self.path, start=first, stop=last)[1]
            yield first, lengths, values.astype(np.float64)


@contextmanager
def open_lists(path: Path, name: str, *, column: int, beside: str, expected: str) -> Iterator[StoredLists]:
    """Open the lists in a column of the dataset `name`, (n,) or (n, columns), of float32 or float64 of variable length.

    beside: a dataset that must have as many rows, where there is one. expected: what the file should be, for messages. Raises
    InputError that names the file and what is wrong with it.
    """
    with opened(path, lists=name, column=column, beside=beside, expected=expected) as (header, child):
        yield StoredLists(path, name, header["n_rows"], header["slab"], child)


@dataclass(frozen=True)
class StoredArray:
    """An array of numbers with one entry a row in an HDF5 file that is open."""

    path: Path
    name: str
    n_rows: int
    _slab: int = field(repr=False)
    _child: Child = field(repr=False)

    @property
    def where(self) -> str:
        """Return the file and the dataset, as messages name them."""
        return f"{self.path}: dataset {self.name!r}"

    def slices(self, size: int) -> Iterator[tuple[int, Floats]]:
        """Give rows, `size` at once or as many as the child holds: the first one's number, and the rows, (n, ...)."""
        step = min(size, self._slab)
        for first in range(0, self.n_rows, step):
            last = min(first + step, self.n_rows)
            yield first, self._child.ask(self.path, start=first, stop=last)[1][0]


@contextmanager
def open_array(path: Path, name: str, *, shape: tuple[int, ...], expected: str) -> Iterator[StoredArray]:
    """Open the dataset `name` of numbers, (rows, *shape). Raises InputError that names the file and what is wrong with it."""
    with opened(path, array=name, shape=list(shape), expected=expected) as (header, child):
        yield StoredArray(path, name, header["n_rows"], header["slab"], child)


@contextmanager
def opened(path: Path, **request: Any) -> Iterator[tuple[dict[str, Any], Child]]:
    """Open a file in a child; give what it says of it, and the child. Raises InputError for a file that cannot be opened."""
    if not path.is_file():
        found = "is a directory" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {found}; an HDF5 file is expected")
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"{path}: cannot be opened: {error.strerror}") from error
    idle = IDLE.setdefault(os.getpid(), [])
    child = idle.pop() if idle else Child()
    try:
        where = {} if path.is_absolute() else {"cwd": str(Path.cwd())}
        header, _ = child.ask(path, path=str(path), **request, **where)
        yield header, child
    finally:
        child.release()


IDLE: dict[int, list[Child]] = {}
"""Process -> children that wait for its next file; a process that was forked has none of those of before.

Starting one takes a quarter of a second, a file in one that waits some milliseconds.
"""


class Child:
    """The reader's side of a child process (`child.py`): one file at a time, a request and its answer after the other."""

    def __init__(self) -> None:
        code = "import importlib, json, sys; sys.path[:] = json.loads(sys.argv[1]); importlib.import_module(sys.argv[2]).serve()"
        self.said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, json.dumps(sys.path), f"{__package__}.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            bufsize=0,
            pipesize=1 << 20,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the child
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "BLOSC_NTHREADS": "1"},
        )
        self.open = False
        """Whether a file is open in it."""
        self.waiting = True
        """Whether it owes an answer: the first says that it is ready."""
        self.answer("the HDF5 reader")

    def ask(self, about: Path, **request: Any) -> tuple[dict[str, Any], list[Array]]:
        """Send a request and return the header and the arrays of the answer; raises InputError where it says so or there is none."""
        self.waiting = self.open = True
        with suppress(BrokenPipeError):  # the end of its answers tells why
            self.pipe("stdin").write(json.dumps(request).encode() + b"\n")
        return self.answer(str(about))

    def answer(self, about: str) -> tuple[dict[str, Any], list[Array]]:
        """Read the next answer."""
        try:
            (size,) = struct.unpack("<I", self.bytes_of(np.empty(4, dtype=np.uint8)).tobytes())
            header: dict[str, Any] = json.loads(self.bytes_of(np.empty(size, dtype=np.uint8)).tobytes())
            arrays = [np.empty(shape, dtype=kind) for kind, shape in header.get("arrays", [])]
            for values in arrays:
                self.bytes_of(values.reshape(-1).view(np.uint8))
        except EOFError:
            raise InputError(f"{about}: {self.end()}") from None
        except (ValueError, TypeError) as error:
            self.stop()
            raise InputError(f"{about}: reading it gave what is no answer: the file is damaged") from error
        self.waiting = False
        if "error" in header:
            self.open = False
            raise InputError(header["error"])
        return header, arrays

    def bytes_of(self, values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Fill an array of bytes from the answers; raises EOFError where they end."""
        left = memoryview(values.data)
        while left:
            n = self.pipe("stdout").readinto(left)
            if not n:
                raise EOFError
            left = left[n:]
        return values

    def pipe(self, name: str) -> Any:
        """Return a pipe to or from the process."""
        return getattr(self.process, name)

    def end(self) -> str:
        """Say why the process ended."""
        code = self.process.wait()
        self.said.seek(0)
        said = self.said.read().decode(errors="replace").strip()
        log.debug("the HDF5 reader ended with %d: %s", code, said)
        number = -code if code < 0 else code - 128
        if number == signal.SIGXCPU:
            return "reading it led the HDF5 library in a circle: the file is damaged"
        if number == signal.SIGKILL:
            return "the process that read it was killed; was there too little memory?"
        if number in {s.value for s in signal.Signals}:
            return f"reading it crashed the HDF5 library (signal {number}): the file is damaged"
        return f"the process that reads HDF5 ended with status {code}: {said.splitlines()[-1] if said else 'no reason given'}"

    def release(self) -> None:
        """Close the file and keep the process for the next one, or end it where it owes an answer or has ended."""
        if self.open and not self.waiting:
            with suppress(InputError):
                self.ask(Path("closing"))
                self.open = False
        if self.open or self.waiting or self.process.poll() is not None:
            self.stop()
        else:
            IDLE.setdefault(os.getpid(), []).append(self)

    def stop(self) -> None:
        """End the process and what it forked."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for pipe in (self.pipe("stdin"), self.pipe("stdout"), self.said):
            pipe.close()


@atexit.register
def end_idle() -> None:
    """End the children that wait, at the end of this process."""
    for child in IDLE.pop(os.getpid(), []):
        child.stop()
