"""What an HDF5 file declares against what it holds; links, other files and sizes are refused before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from ..errors import InputError

__all__ = ["attribute", "check_stored", "check_total", "inflated", "objects", "text_attribute"]

OBJECTS = 50_000
"""Groups and datasets that are looked at; a table with a dataset a column has as many as columns."""
ATTRIBUTE = 1 << 22
"""Bytes of an attribute; the names of a hundred thousand columns take two million."""
INFLATION = 200
"""How much larger than its file a table may be. LHC Olympics rows, mostly zeros, shrink 10 times; deflate ends at 1032, where no
number is left in what is stored."""
FREE = 1 << 28
"""Bytes that a table may have whatever its file's size: columns of one value shrink without bound."""


def inflated(size: int) -> int:
    """Return the bytes that the tables of a file of `size` bytes may take in memory."""
    return max(FREE, INFLATION * size)


def objects(file: h5py.File, path: Path) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Give every group and dataset under its name without the leading slash, the root first, each once.

    Raises InputError for a link that leads by a path, to another file or within this one, and for more than can be looked at.
    """
    waiting: list[tuple[str, h5py.Group]] = [("", file["/"])]
    seen = {address(file["/"])}
    yield waiting[0]
    count = 0
    while waiting:
        where, group = waiting.pop(0)
        count += len(group)
        if count > OBJECTS:
            raise InputError(f"{path}: holds more than {OBJECTS:,} groups and datasets; a table is expected")
        for name in group:
            full = f"{where}/{name}".lstrip("/")
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                other = (
                    f"{link.filename}:{link.path}"
                    if isinstance(link, h5py.ExternalLink)
                    else getattr(link, "path", "?")
                )
                raise InputError(
                    f"{path}: {full!r} is a link to {other!r}; no link is followed, what is read lies in the file itself"
                )
            item = group[name]
            if isinstance(item, h5py.Datatype) or address(item) in seen:
                continue
            seen.add(address(item))
            yield full, item
            if isinstance(item, h5py.Group):
                waiting.append((full, item))


def address(item: h5py.Group | h5py.Dataset) -> int:
    """Return where an object begins in its file, which tells two names of one object from two objects."""
    return int(h5py.h5o.get_info(item.id).addr)


def attribute(item: h5py.Group | h5py.Dataset, name: str) -> Any:
    """Return an attribute as h5py reads it, b"" for an empty one, None where there is none; raises ValueError for a huge one."""
    if name not in item.attrs:
        return None
    found = item.attrs.get_id(name)
    size = max(found.get_storage_size(), math.prod(found.shape or (0,)) * found.dtype.itemsize)
    if size > ATTRIBUTE:
        raise ValueError(f"the attribute {name!r} has {size:,} bytes; allowed: {ATTRIBUTE:,}")
    value = item.attrs[name]
    return b"" if isinstance(value, h5py.Empty) else value


def text_attribute(item: h5py.Group | h5py.Dataset, name: str) -> str:
    """Return an attribute as text, "" where there is none or it is none."""
    value = attribute(item, name)
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return value if isinstance(value, str) else ""


def check_stored(item: h5py.Dataset, name: str, path: Path) -> int:
    """Return the bytes of a dataset in memory; raises InputError unless the file itself stores the whole of it.

    Refused are data in other files, filters that nobody has, more than the file can hold, and chunks that were never written.
    """
    where = f"{path}: dataset {name!r}"
    settings = item.id.get_create_plist()
    layout = settings.get_layout()
    if layout == h5py.h5d.VIRTUAL or settings.get_external_count():
        kind = "virtual: its numbers lie" if layout == h5py.h5d.VIRTUAL else "stored outside: its numbers lie"
        raise InputError(f"{where} is {kind} in other files, which are not opened; copy them into this one")
    if item.shape is None:
        raise InputError(f"{where} is empty: it has no rows and no shape")
    for i in range(settings.get_nfilters()):
        code, _, _, label = settings.get_filter(i)
        if not h5py.h5z.filter_avail(code):
            raise InputError(
                f"{where} is compressed by the filter {code} ({label.decode(errors='replace') or 'unnamed'}), which neither HDF5 nor "
                "hdf5plugin has; write it with another, such as Blosc or gzip"
            )
    size = Path(path).stat().st_size
    row = math.prod(item.shape[1:]) * item.id.get_type().get_size()
    declared = row * (item.shape[0] if item.shape else 1)
    held = item.id.get_storage_size()
    says = f"{where} declares {' x '.join(f'{n:,}' for n in item.shape) or 1} values"
    if layout == h5py.h5d.CHUNKED:
        chunks = settings.get_chunk()
        expected = math.prod(-(-n // c) for n, c in zip(item.shape, chunks, strict=True))
        stored = item.id.get_num_chunks() if expected else 0
        if stored < expected:
            raise InputError(f"{says}; the file holds {stored:,} of its {expected:,} chunks: never written, or cut off")
        check_total(math.prod(chunks) * item.id.get_type().get_size(), f"{where}: a chunk", path)
    elif held < declared:
        raise InputError(f"{says} of {declared:,} bytes; the file holds {held:,}: never written, or cut off")
    if held > size:
        raise InputError(f"{says}, which take {held:,} bytes of a file of {size:,}: damaged")
    check_total(declared, where, path)
    return int(declared)


def check_total(declared: int, where: str, path: Path) -> None:
    """Raise InputError for more bytes in memory than a file of this size can mean."""
    size = Path(path).stat().st_size
    if declared > inflated(size):
        raise InputError(
            f"{where} takes {declared:,} bytes in memory, the file has {size:,}; "
            f"allowed: {inflated(size):,}, the larger of {FREE:,} and {INFLATION} times the file"
        )
