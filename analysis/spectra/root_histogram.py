"""Spectra in ROOT files: one-dimensional histograms (TH1) by their keys; uproot is imported here alone, as analysis does without it else."""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError, unknown_name
from .columns import SpectrumColumn, as_edges
from .units import axis_unit, bin_name, title_unit

__all__ = ["root_spectra"]

Choice = Callable[[Sequence[str], Sequence[bool]], list[int]]
"""Names, and which of them are surely counts -> the places of those to read."""
FULL = {"TH1C": 127, "TH1S": 32_767, "TH1I": 2_147_483_647, "TH1F": 16_777_216}
"""Type of a histogram -> where its bins stop to count: the largest integer, and of floats the last that one can be added to."""


@contextmanager
def named(where: str) -> Iterator[None]:
    """Turn what uproot raises on bytes that are not what they should be into one line that says where."""
    import cramjam
    from uproot.deserialization import DeserializationError

    damage = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError)
    deeper = (
        NameError,
        RuntimeError,
        MemoryError,
        struct.error,
        zlib.error,
        lzma.LZMAError,
        cramjam.DecompressionError,
    )
    try:
        yield
    except (*damage, *deeper, DeserializationError) as error:
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(f"{where}: damaged, or not written by ROOT: {said[:200]}") from error


def root_spectra(path: Path, part: str | None, choice: Choice) -> list[SpectrumColumn]:
    """Read the histogram called `part` ("name", "folder/name", "name;cycle"), or those that `choice` takes of all."""
    import uproot

    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty; a ROOT file with a histogram (TH1) is expected")
    with named(f"{path}: cannot be read as ROOT"):
        file = uproot.open(path)
    with file:
        if file.file.fEND > path.stat().st_size:
            raise InputError(f"{path}: is cut off: {path.stat().st_size} of {file.file.fEND} bytes are there")
        with named(str(path)):
            cycles = dict(file.iterclassnames(cycle=True))
        kinds: dict[str, str] = {}
        newest: dict[str, tuple[int, str]] = {}
        for key, kind in cycles.items():
            name, _, cycle = key.rpartition(";")
            if int(cycle) >= newest.get(name, (-1, ""))[0]:
                newest[name], kinds[name] = (int(cycle), key), kind
        if part is not None and part in cycles:
            kinds, newest = {part: cycles[part]}, {part: (0, part)}
        names = [name for name, kind in kinds.items() if kind.startswith("TH1")]
        if part is not None and part not in names:
            if part in kinds:
                raise InputError(f"{path}: {part!r} is a {kinds[part]}; a histogram of one dimension (TH1) is expected")
            raise InputError(unknown_name("histogram", part, names or kinds, str(path)))
        if not names:
            listed = ", ".join(f"{name} ({kind})" for name, kind in list(kinds.items())[:8]) or "nothing"
            trees = "; events in a tree go through hunch run" if {"TTree"} & set(kinds.values()) else ""
            raise InputError(f"{path}: holds no histogram (TH1); found: {listed}{trees}")
        chosen = [part] if part is not None else [names[i] for i in choice(names, [False] * len(names))]
        return [root_spectrum(file, newest[name][1], name, path) for name in chosen]


def root_spectrum(file: Any, key: str, name: str, path: Path) -> SpectrumColumn:
    """Read one histogram; one whose stored variances are not its contents was filled with weights."""
    where = f"{path}: {name!r}"
    with named(where):
        # by its whole key: a name may hold a slash without being in a folder
        histogram = next(
            item
            for found, item in file.iteritems(filter_name=lambda n: n == name.split(";", maxsplit=1)[0])
            if found == key
        )
        contents, bounds = (np.asarray(a, dtype=np.float64) for a in histogram.to_numpy(flow=True))
        variances = np.asarray(histogram.variances(flow=True), dtype=np.float64)
        labels = histogram.axis().labels()
        titles = [str(histogram.member(axis).member("fTitle")) for axis in ("fXaxis", "fYaxis")]
        kind = str(histogram.classname)
    if not len(contents) == len(variances) == len(bounds) - 1 or len(contents) < 3:
        raise InputError(f"{where}: damaged: {len(contents)} contents, {len(variances)} variances, {len(bounds)} edges")
    if labels:
        raise InputError(
            f"{where}: its x axis has labels ({', '.join(map(str, labels[:4]))}), no masses; a spectrum is expected"
        )
    edges = as_edges(bounds[1:-1].tolist(), where)
    places = ["the underflow bin", *(bin_name(edges, i) for i in range(len(edges) - 1)), "the overflow bin"]
    if kind in FULL and (full := np.flatnonzero(contents == FULL[kind])).size:
        raise InputError(
            f"{where}: {places[full[0]]} holds {contents[full[0]]:.0f}, where a {kind} stops to count; fill a TH1D"
        )
    for i in (0, -1):
        if not (np.isfinite(contents[i]) and contents[i] >= 0 and contents[i] == np.round(contents[i])):
            raise InputError(f"{where}: {places[i]} holds {contents[i]:g}; counts are whole numbers, 0 or larger")
    counts = contents >= 0  # what else there is `counts_from` names
    wrong = np.flatnonzero(counts & np.isfinite(contents) & ~np.isclose(variances, contents, rtol=1e-6, atol=1e-9))
    if wrong.size:
        i = int(wrong[0])
        raise InputError(
            f"{where}: filled with weights or scaled ({places[i]}: {contents[i]:g} with variance {variances[i]:g}); data are counts"
        )
    values = tuple(Decimal(repr(float(v))) for v in contents[1:-1])
    outside = (float(contents[0]), float(contents[-1]))
    return SpectrumColumn(where, name, edges, values, title_unit(titles[1]), axis_unit(titles[0]), outside)
