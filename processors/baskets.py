"""What a tree says of its size against what the file holds of it, checked before anything of that size is made.

A TTree keeps the entries of each branch in baskets and says in four places how many there are: for the tree, for the branch,
for each basket in the branch and in the basket's own header. An RNTuple has clusters of pages. Interrupted writing, merging
and repairing leave files in which these differ: events would be missing, come twice, or be asked for that are not there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import uproot

from ..errors import InputError

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["check_size"]

Int = npt.NDArray[np.int64]

KEY = struct.Struct(">ihiIhh")
"""How a basket begins in the file, as any TKey: its bytes there, version, bytes once decompressed, date, bytes of the key, cycle."""
BASKET = struct.Struct(">HiiiiB")
"""How the key of a basket ends: version, size of the buffer, size of an entry's offset, entries, end of the data, a flag."""
LARGEST_BASKET = 2**30
"""Bytes: ROOT writes no larger buffer."""


def check_size(tree: Any, names: Sequence[str], *, where: str, size: int, file: BinaryIO | None = None) -> None:
    """Raise InputError where a tree's number of entries is not what its branches, or fields, hold in the file.

    tree: uproot's TTree or RNTuple; names: of branches that will be read; where: begins messages; size: bytes of the file; file:
    the file itself, opened for reading, for the headers of baskets; without it these are left alone (each is a request to a server).
    """
    entries = int(tree.num_entries)
    if entries < 0:
        raise InputError(f"{where}: says that it has {entries} entries: damaged")
    if isinstance(tree, uproot.behaviors.RNTuple.RNTuple):
        _check_pages(tree, names, where, size)
        return
    spans: list[tuple[Int, Int]] = []
    for name in names:
        branch = tree[name]
        at = f"{where}: branch {name!r}"
        edges, seek, length = _baskets(branch, at)
        held = int(edges[-1]) + sum(int(basket.num_entries) for basket in branch.embedded_baskets)
        if held != entries or int(branch.num_entries) != entries:
            raise InputError(
                f"{where}: says {entries} events, its branch {name!r} says {branch.num_entries} and has baskets of {held}: "
                "damaged, or its writing was interrupted"
            )
        if (np.diff(edges) < 0).any() or edges[0] != 0:
            raise InputError(f"{at}: its baskets begin at the entries {_few(edges)}, which do not rise from 0: damaged")
        if ((seek <= 0) | (length <= KEY.size) | (seek > size - length)).any():
            raise InputError(f"{at}: has baskets that do not lie within the {size} bytes of the file: damaged")
        if file is not None:
            _check_headers(file, branch, np.diff(edges), seek, length, at)
        spans.append((seek, length))
    _check_apart(spans, where)


def _baskets(branch: Any, at: str) -> tuple[Int, Int, Int]:
    """Return the first entries (n + 1,) of a branch's baskets in the file, where each begins (n,), and its bytes (n,)."""
    n = int(branch.num_baskets) - len(branch.embedded_baskets)
    found = [
        np.asarray(branch.member(name), dtype=np.int64) for name in ("fBasketEntry", "fBasketSeek", "fBasketBytes")
    ]
    if n and (len(found[0]) <= n or min(len(found[1]), len(found[2])) < n):
        raise InputError(f"{at}: says that it has {n} baskets and lists fewer: damaged")
    edges = found[0][: n + 1] if n else np.zeros(1, dtype=np.int64)
    return edges, found[1][:n], found[2][:n]


def _check_headers(file: BinaryIO, branch: Any, entries: Int, seek: Int, length: Int, at: str) -> None:
    """Compare each basket's own header with what the branch says of it, and its size with that of its entries."""
    kind = branch.interpretation
    width = kind.itemsize if isinstance(kind, uproot.interpretation.numerical.AsDtype) else None
    for number, (n, start, stored) in enumerate(zip(entries.tolist(), seek.tolist(), length.tolist(), strict=True)):
        file.seek(start)
        own, _, unpacked, _, key, _ = KEY.unpack(file.read(KEY.size))
        if own != stored or not KEY.size + BASKET.size <= key <= own:
            raise InputError(f"{at}: basket {number} has a header of another length than the branch says: damaged")
        file.seek(start + key - BASKET.size)
        _, _, _, held, last, _ = BASKET.unpack(file.read(BASKET.size))
        if held != n:
            raise InputError(f"{at}: basket {number} holds {held} entries, the branch says {n}: damaged")
        data = last - key
        if not 0 <= data <= unpacked <= LARGEST_BASKET or (width is not None and data != n * width):
            raise InputError(
                f"{at}: basket {number} of {n} entries says it has {data} bytes of data in {unpacked}: damaged"
            )


def _check_apart(spans: Iterable[tuple[Int, Int]], where: str) -> None:
    """Refuse baskets that share bytes: events would be read twice."""
    seek, length = (np.concatenate(parts) for parts in zip(*spans, strict=True))
    order = np.argsort(seek)
    if (seek[order][:-1] + length[order][:-1] > seek[order][1:]).any():
        raise InputError(f"{where}: baskets lie on top of each other: damaged")


def _check_pages(tree: Any, names: Sequence[str], where: str, size: int) -> None:
    """Compare the entries of an RNTuple's clusters with the elements of their pages."""
    clusters = [int(cluster.num_entries) for cluster in tree.cluster_summaries]
    firsts = [int(cluster.num_first_entry) for cluster in tree.cluster_summaries]
    if firsts != np.concatenate([[0], np.cumsum(clusters, dtype=np.int64)])[:-1].tolist():
        raise InputError(f"{where}: its clusters begin at the entries {firsts[:6]}, which do not follow on: damaged")
    for name in names:
        own = [i for i, column in enumerate(tree.column_records) if column.field_id == tree[name].field_id]
        for number, (entries, columns) in enumerate(zip(clusters, tree.page_link_list, strict=True)):
            pages = [columns[i].pages for i in own if i < len(columns) and not columns[i].suppressed][:1]
            held = sum(page.num_elements for page in pages[0]) if pages else entries
            if held != entries:
                raise InputError(
                    f"{where}: cluster {number} says {entries} events and holds {held} of field {name!r}: damaged"
                )
            for page in pages[0] if pages else ():
                if page.locator.offset + page.locator.num_bytes > size:
                    raise InputError(f"{where}: field {name!r} has pages beyond the {size} bytes of the file: damaged")


def _few(values: Int) -> str:
    return ", ".join(map(str, values[:6].tolist())) + (", ..." if len(values) > 6 else "")
