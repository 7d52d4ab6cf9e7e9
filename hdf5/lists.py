"""Find a dataset of lists of numbers, of different lengths, in an HDF5 file, and read slices of it.

It runs in the child process of `reader.py`. HDF5 stores such a list in a heap of the file, and in the dataset its length and its place.
The library allocates the length that stands there before it looks at the heap, so the lengths are read first, and compared with the file.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import InputError, unknown_name
from .limits import check_stored, objects
from .stored import dtype_of

__all__ = ["Lists", "find_lists", "read_lists"]

Ints = npt.NDArray[np.int64]
LENGTH = np.dtype("<u4")
"""How HDF5 stores the length of a list, at the beginning of its 16 bytes in the dataset."""


@dataclass(frozen=True)
class Lists:
    """One list a row: the dataset, the column of it that the lists are in (None where it has no columns), and their lengths (n,)."""

    dataset: h5py.Dataset
    column: int | None
    lengths: Ints

    @property
    def longest(self) -> int:
        """Return the bytes of the longest list, 1 at least."""
        width: int = np.dtype(h5py.check_vlen_dtype(self.dataset.dtype)).itemsize
        return max(int(self.lengths.max(initial=0)) * width, 1)


def find_lists(file: h5py.File, path: Path, name: str, *, column: int, beside: str) -> Lists:
    """Find the lists of float32 or float64 in a column of the dataset `name`, (n,) or (n, columns); raises InputError.

    beside: a dataset with the same rows, which is not read; the file may lack it.
    """
    found = dict(objects(file, path))
    datasets = {n: item for n, item in found.items() if isinstance(item, h5py.Dataset)}
    if name not in datasets:
        if name in found:
            raise InputError(f"{path}: {name!r} is a group; a dataset is expected")
        raise InputError(unknown_name("dataset", name, datasets, str(path)))
    item = datasets[name]
    where = f"{path}: dataset {name!r}"
    base = h5py.check_vlen_dtype(dtype_of(item))
    if base is None or np.dtype(base).kind != "f" or np.dtype(base).itemsize > 8:
        held = f"lists of {base}" if base is not None else str(dtype_of(item))
        raise InputError(f"{where} holds {held}; lists of float32 or float64, of variable length, are expected")
    if item.ndim not in (1, 2):
        raise InputError(f"{where} has the shape {item.shape}; one list an event and jet is expected")
    columns = item.shape[1] if item.ndim == 2 else 1
    if not 0 <= column < columns:
        raise InputError(f"{where} has {columns} jets an event; jet {column + 1} is asked for, allowed: 1 to {columns}")
    rows = datasets[beside].shape[:1] if beside in datasets else item.shape[:1]
    if rows != item.shape[:1]:
        raise InputError(
            f"{where} has {item.shape[0]:,} events, {beside!r} has {rows[0] if rows else 0:,}; the same is expected"
        )
    if not item.shape[0]:
        return Lists(item, None, np.zeros(0, dtype=np.int64))
    check_stored(item, name, path)
    lengths = stored_lengths(item, path)
    held, size = int(lengths.sum()) * np.dtype(base).itemsize, path.stat().st_size
    if held > size:
        raise InputError(f"{where} declares lists that take {held:,} bytes; the file has {size:,}: damaged, or cut off")
    return Lists(item, column if item.ndim == 2 else None, lengths[:, column] if item.ndim == 2 else lengths)


def stored_lengths(item: h5py.Dataset, path: Path) -> Ints:
    """Return the lengths that a dataset of lists declares, of its shape; no list is read."""
    width = item.id.get_type().get_size()
    out = np.zeros(item.shape, dtype=np.int64)
    if item.chunks is None:
        place = item.id.get_offset()
        if place is None:  # within its own description, of at most 64 KiB
            raise InputError(
                f"{path}: dataset {item.name.lstrip('/')!r} lies in its own header; lists are read from outside it"
            )
        with path.open("rb") as stream:
            stream.seek(place)
            raw = stream.read(width * item.size)
        out[...] = lengths_in(raw, width).reshape(item.shape)
        return out
    for inside, chunk in zip(chunk_slices(item), chunks_of(item, width), strict=True):
        whole = lengths_in(chunk, width).reshape(item.chunks)
        out[inside] = whole[tuple(slice(s.stop - s.start) for s in inside)]
    return out


def lengths_in(raw: bytes, width: int) -> Ints:
    """Return the lengths in the stored references, each of `width` bytes."""
    words = np.frombuffer(raw, dtype=np.uint8).reshape(-1, width)[:, : LENGTH.itemsize]
    return np.ascontiguousarray(words).view(LENGTH)[:, 0].astype(np.int64)


def chunk_slices(item: h5py.Dataset) -> Iterator[tuple[slice, ...]]:
    """Give where each chunk lies in a dataset, cut at the dataset's edges, the last axis fastest."""
    starts = (range(0, n, c) for n, c in zip(item.shape, item.chunks, strict=True))
    for corner in itertools.product(*starts):
        yield tuple(slice(a, min(a + c, n)) for a, c, n in zip(corner, item.chunks, item.shape, strict=True))


def chunks_of(item: h5py.Dataset, width: int) -> Iterator[bytes]:
    """Give the references in each chunk as they are stored, unpacked.

    The library unpacks chunks only on the way to the lists themselves; as opaque values of a dataset in memory they are not followed.
    """
    opaque = h5py.h5t.create(h5py.h5t.OPAQUE, width)
    count = math.prod(item.chunks)
    with h5py.File("unpacked", "w", driver="core", backing_store=False) as memory:
        space = h5py.h5s.create_simple(item.chunks)
        own = item.id.get_create_plist()
        filters = [own.get_filter(i) for i in range(own.get_nfilters())]
        for number, inside in enumerate(chunk_slices(item)):
            mask, packed = item.id.read_direct_chunk(tuple(s.start for s in inside))
            settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            settings.set_chunk(item.chunks)
            for i, (code, flags, options, _) in enumerate(filters):
                if not mask >> i & 1:  # a chunk is stored without the filters in its mask: shuffling is none for lists
                    settings.set_filter(code, flags, options)
            copy = h5py.h5d.create(memory.id, str(number).encode(), opaque, space, settings)
            copy.write_direct_chunk((0,) * item.ndim, packed)
            values = np.empty(item.chunks, dtype=f"V{width}")
            copy.read(h5py.h5s.ALL, h5py.h5s.ALL, values, mtype=opaque)
            del memory[str(number)]
            yield values.tobytes()[: count * width]


def read_lists(found: Lists, start: int, stop: int) -> list[npt.NDArray[Any]]:
    """Return the lengths of the lists of rows start to stop, (n,), and their numbers, one after the other."""
    rows = found.dataset[start:stop] if found.column is None else found.dataset[start:stop, found.column]
    base = np.dtype(h5py.check_vlen_dtype(found.dataset.dtype))
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    # h5py 3.16 gives lists of the other byte order as they are stored, under the type of this machine's
    values = np.concatenate([np.zeros(0, dtype=base), *(row.view(base) for row in rows)])
    return [lengths, np.ascontiguousarray(values, dtype=base.newbyteorder("="))]
