"""The process that opens HDF5 files: it answers requests on its standard input, and forks itself for each file.

The HDF5 library crashes on some damaged files (`docs/design/hdf5.md`), so no other process opens one. A request is a line of JSON; an answer
is the length of a header (4 bytes), the header in JSON, and the arrays that it lists, one after the other.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import struct
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import hdf5plugin  # noqa: F401 - brings Blosc and the like into HDF5
import numpy as np

from ..errors import InputError
from .arrays import find_array
from .lists import find_lists, read_lists
from .stored import Array, Found, datasets_of, find_table, read_rows, reason

__all__ = ["serve"]

SLAB = 1 << 25
"""Bytes of rows that are read at once."""
CACHE = 1 << 30
"""Bytes of chunks that stay unpacked, of one dataset; larger ones are unpacked for each slab."""
MEMORY = 1 << 30
"""Bytes that reading may take beyond the slabs: the library's caches and what a name list may grow to."""
SECONDS, RATE = 5, 1 << 20
"""Processor time of one request, and the bytes that add a second to it (the slowest unpacking takes a fifth of that): a damaged file
can lead the library in a circle."""
UNREADABLE = (OSError, LookupError, ValueError, TypeError, RuntimeError, ArithmeticError, AttributeError)
"""What h5py raises where the library finds a file damaged."""


def serve() -> None:
    """Answer until the input ends: each file in a fork of its own, so that none leaves anything behind for the next."""
    requests, answers = os.fdopen(0, "rb", buffering=0), os.fdopen(1, "wb", buffering=0)
    send(answers, {"ready": True})
    while line := read_line(requests):
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BrokenPipeError):
                session(json.loads(line), requests, answers)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if status:  # the reader sees the end of the answers, and this process's own end says why
            code = os.waitstatus_to_exitcode(status)
            sys.exit(128 - code if code < 0 else code)


def session(request: dict[str, Any], requests: BinaryIO, answers: BinaryIO) -> None:
    """Open one file, say what it holds, and send rows until asked to close it."""
    path = Path(request["path"])
    try:
        os.chdir(request.get("cwd", "/"))
        limit(MEMORY, min(path.stat().st_size, 50 * RATE))
        with h5py.File(path, "r", locking="best-effort") as file:
            serving = lists if "lists" in request else array if "array" in request else table
            serving(file, path, request, requests, answers)
        send(answers, {"closed": True})
    except InputError as error:
        send(answers, {"error": str(error)})
    except MemoryError:
        send(answers, {"error": f"{path}: reading it takes more memory than a file of its size can need; damaged"})
    except UNREADABLE as error:
        what = f"truncated or damaged ({reason(error)})" if h5py.is_hdf5(path) else "not an HDF5 file"
        send(answers, {"error": f"{path}: {what}; {request['expected']} is expected"})


def table(file: h5py.File, path: Path, request: dict[str, Any], requests: BinaryIO, answers: BinaryIO) -> None:
    """Say what a table holds, and send rows of its blocks."""
    found = find_table(file, path, request["key"], frames_only=request["frames_only"])
    datasets, cache = opened(file, found)
    slab, size = rows_of_slab(datasets, found.n_rows)
    send(answers, described(found, slab))
    while (asked := json.loads(read_line(requests) or "{}")).get("blocks"):
        limit(MEMORY + 2 * cache + 8 * size, size + cache)
        send_arrays(answers, read_rows(found, datasets, asked["start"], asked["stop"], asked["blocks"]))


def lists(file: h5py.File, path: Path, request: dict[str, Any], requests: BinaryIO, answers: BinaryIO) -> None:
    """Say how many lists there are, and send some of them."""
    found = find_lists(file, path, request["lists"], column=request["column"], beside=request["beside"])
    slab = max(SLAB // found.longest, 1)
    send(answers, {"n_rows": len(found.lengths), "slab": slab})
    while "start" in (asked := json.loads(read_line(requests) or "{}")):
        limit(MEMORY, SLAB)
        send_arrays(answers, read_lists(found, asked["start"], asked["stop"]))


def array(file: h5py.File, path: Path, request: dict[str, Any], requests: BinaryIO, answers: BinaryIO) -> None:
    """Say how many rows an array has, and send some of them."""
    name = find_array(file, path, request["array"], shape=tuple(request["shape"]))
    dataset, cache = cached(file, name)
    n_rows = dataset.shape[0]
    slab, size = rows_of_slab({name: dataset}, n_rows)
    send(answers, {"n_rows": n_rows, "slab": slab})
    while "start" in (asked := json.loads(read_line(requests) or "{}")):
        limit(MEMORY + 2 * cache + 8 * size, size + cache)
        values = dataset[asked["start"] : asked["stop"]]
        send_arrays(answers, [np.ascontiguousarray(values, dtype=np.float64)])


def send_arrays(answers: BinaryIO, arrays: Sequence[Array]) -> None:
    """Send arrays under a header that lists them."""
    send(answers, {"arrays": [[a.dtype.str, a.shape] for a in arrays]}, arrays)


def opened(file: h5py.File, found: Found) -> tuple[dict[str, h5py.Dataset], int]:
    """Open the datasets of a table; return them, and the bytes of cache that their chunks have.

    A row of chunks stays unpacked until all its rows are read: blocks of rows that are no whole chunks would unpack one again each.
    """
    datasets, total = {}, 0
    for name in datasets_of(found):
        datasets[name], size = cached(file, name)
        total += size
    return datasets, total


def cached(file: h5py.File, name: str) -> tuple[h5py.Dataset, int]:
    """Open a dataset with a cache that holds a row of its chunks; return it and the bytes of the cache."""
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    chunks, shape, size = file[name].chunks, file[name].shape, 0
    if chunks is not None:
        across = math.prod(-(-n // c) for n, c in zip(shape[1:], chunks[1:], strict=True))
        size = min(across * math.prod(chunks) * file[name].dtype.itemsize, CACHE)
        access.set_chunk_cache(max(521, 10 * across), size, 1.0)
    # the cache is that of who opens a dataset first: none is open here
    return h5py.Dataset(h5py.h5d.open(file.id, name.encode(), access)), size


def rows_of_slab(datasets: Mapping[str, h5py.Dataset], n_rows: int) -> tuple[int, int]:
    """Return how many rows are read at once, and their bytes."""
    row = max(sum(math.prod(d.shape[1:]) * d.id.get_type().get_size() for d in datasets.values()), 1)
    rows = min(max(SLAB // row, 1), max(n_rows, 1))
    return rows, rows * row


def described(found: Found, slab: int) -> dict[str, Any]:
    """Return the header that says what a table holds."""
    blocks = [
        {"labels": b.labels, "dtype": b.dtype.str, "deep": bool(b.deep), "unreadable": b.unreadable}
        for b in found.blocks
    ]
    return {"key": found.key, "labels": found.labels, "blocks": blocks, "n_rows": found.n_rows, "slab": slab}


def limit(memory: int, size: int) -> None:
    """Let this process take `memory` bytes beyond what it has, and the time that reading `size` bytes may need beyond what it used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + SECONDS + size // RATE
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    statistics = Path("/proc/self/statm")
    if statistics.is_file():  # elsewhere the limit of memory is not kept
        taken = int(statistics.read_text().split()[0]) * resource.getpagesize()
        most = resource.getrlimit(resource.RLIMIT_AS)[1]
        wanted = taken + memory
        resource.setrlimit(resource.RLIMIT_AS, (wanted if most < 0 else min(wanted, most), most))


def send(answers: BinaryIO, header: dict[str, Any], arrays: Sequence[Array] = ()) -> None:
    """Write an answer: its header, and the arrays that this lists."""
    text = json.dumps(header).encode()
    parts: list[Any] = [struct.pack("<I", len(text)), text, *(a.view(np.uint8).reshape(-1) for a in arrays)]
    for part in parts:
        left = memoryview(part)
        while left:
            left = left[answers.write(left) or 0 :]


def read_line(requests: BinaryIO) -> bytes:
    """Return the next request, empty at the end of the input; nothing behind it is taken, which is another process's to read."""
    line = bytearray()
    while not line.endswith(b"\n") and (byte := requests.read(1)):
        line += byte
    return bytes(line)
