"""HDF5 files as data: tables, arrays and lists read in slices, in a child process; nothing in a file is unpickled, followed or taken on trust."""

from .reader import StoredArray, StoredLists, StoredTable, open_array, open_hdf5, open_lists

__all__ = ["StoredArray", "StoredLists", "StoredTable", "open_array", "open_hdf5", "open_lists"]


def __dir__() -> list[str]:
    """Return what the room hands on."""
    return __all__
