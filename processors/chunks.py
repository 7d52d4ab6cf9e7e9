"""One chunk of an event file as rows of a table: read, cut into batches, and put together with its cutflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..table import IDENTITY
from .events import READ_ERRORS, Candidates, Source, read_candidates, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Columns", "UnreadableError", "accumulated", "chunk_columns"]

Columns = dict[str, npt.NDArray[Any]]

BATCH = 1000
"""Events clustered at a time: fastjet keeps some 50 kB an event, so this bounds memory whatever the chunk."""


class UnreadableError(InputError):
    """A chunk whose bytes are damaged."""


def accumulated(events: Any, columns_of: Callable[[Any], tuple[Columns, dict[str, int]]]) -> dict[str, Any]:
    """Return the accumulator of one chunk of NanoEvents whose branches keep their names (BaseSchema).

    columns_of: gives the chunk's columns and cutflow. The accumulator has one entry a file under "files", keyed by
    (dataset, file name): its "cutflow" and its "rows", columns by the first entry of the chunk; and under "failed" the
    reason, by (dataset, file name, first entry), where the chunk's bytes could not be read.
    """
    meta = events.metadata
    where = (meta["dataset"], meta["filename"])
    start = meta.get("entrystart", 0)
    try:
        columns, cutflow = columns_of(events)
    except UnreadableError as error:
        return {"files": {}, "failed": {(*where, start): str(error)}}
    return {"files": {where: {"rows": {start: columns}, "cutflow": cutflow}}, "failed": {}}


def chunk_columns(
    events: Any, batch: Callable[[Candidates], tuple[Columns, dict[str, int]]]
) -> tuple[Columns, dict[str, int]]:
    """Return the columns of a chunk's kept events, and its cutflow.

    batch: takes the candidates of some events, and gives the columns of those it keeps, in order, with their "row"
    among these events, and what each of its cuts lost; events with unphysical candidates, which hold none here, are
    counted already. Identity columns come first, `truth_signal` and `genWeight` last, where the file has them. The
    cutflow counts "read", then what was lost in order, then "kept"; "read" is the sum of all others. Raises
    UnreadableError.
    """
    meta = events.metadata
    where = f"{meta['filename']}: tree {meta.get('treename', 'Events')!r}"
    source: Source = meta.get("source") or source_of(events.fields, where)
    try:
        candidates = read_candidates(events, source)
        extra = (*(("truth_signal",) if source.truth else ()), *(("genWeight",) if source.gen_weight else ()))
        stored = {name: np.asarray(ak.to_numpy(events[name])) for name in (*IDENTITY[1:], *extra)}
    except READ_ERRORS as error:
        raise UnreadableError(f"{where}: cannot be read: {type(error).__name__}: {error}") from error
    parts, lost = zip(*(batch(piece) for piece in _batches(candidates)), strict=True)
    firsts = np.arange(len(parts)) * BATCH
    row = np.concatenate([first + part.pop("row") for first, part in zip(firsts, parts, strict=True)])
    cutflow = {"read": len(candidates.unphysical), "unphysical candidates": int(candidates.unphysical.sum())}
    cutflow |= {name: sum(counts[name] for counts in lost) for name in lost[0]}
    cutflow["kept"] = len(row)
    columns: Columns = {"dataset": np.full(len(row), meta["dataset"])}
    columns |= {name: stored[name][row].astype(np.int64) for name in IDENTITY[1:]}
    columns |= {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    types = {"truth_signal": np.uint8, "genWeight": np.float64}
    columns |= {name: stored[name][row].astype(types[name]) for name in extra}
    return columns, cutflow


def _batches(candidates: Candidates) -> Iterator[Candidates]:
    n = len(candidates.unphysical)
    for first in range(0, max(n, 1), BATCH):
        last = min(first + BATCH, n)
        a, b = candidates.offsets[first], candidates.offsets[last]
        charge = None if candidates.charge is None else candidates.charge[a:b]
        yield Candidates(
            offsets=candidates.offsets[first : last + 1] - a,
            pt=candidates.pt[a:b],
            eta=candidates.eta[a:b],
            phi=candidates.phi[a:b],
            mass=candidates.mass[a:b],
            charge=charge,
            unphysical=candidates.unphysical[first:last],
        )
