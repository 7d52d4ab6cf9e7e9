"""Find an array of numbers with one entry a row in an HDF5 file; it runs in the child process of `reader.py`."""

from __future__ import annotations

from pathlib import Path

import h5py

from ..errors import InputError, unknown_name
from .limits import check_stored, objects
from .stored import dtype_of

__all__ = ["find_array"]


def find_array(file: h5py.File, path: Path, name: str, *, shape: tuple[int, ...]) -> str:
    """Find the dataset `name` of numbers, (rows, *shape), and return its name; raises InputError for another one, and for what the file does not hold."""
    found = dict(objects(file, path))
    datasets = {n: item for n, item in found.items() if isinstance(item, h5py.Dataset)}
    if name not in datasets:
        if name in found:
            raise InputError(f"{path}: {name!r} is a group; a dataset is expected")
        raise InputError(unknown_name("dataset", name, datasets, str(path)))
    item = datasets[name]
    where = f"{path}: dataset {name!r}"
    dtype = dtype_of(item)
    if dtype.kind not in "iuf" or dtype.itemsize > 8 or dtype.subdtype is not None:
        raise InputError(f"{where} holds {dtype}; numbers are expected")
    if item.ndim != len(shape) + 1 or item.shape[1:] != shape:
        wanted = ", ".join(map(str, ("rows", *shape)))
        raise InputError(f"{where} has the shape {item.shape}; ({wanted}) is expected")
    if item.shape[0]:
        check_stored(item, name, path)
    return name
