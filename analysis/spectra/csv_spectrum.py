"""Spectra in CSV: a line a bin, its edges and its values in columns that are known by their names."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import InputError
from .columns import (
    CENTRE,
    COUNT,
    DENSITY,
    ERROR,
    HIGH,
    LOW,
    SpectrumColumn,
    decimals,
    edge_unit,
    joined_edges,
    tokens,
    told_apart,
    value_unit,
)

__all__ = ["csv_spectra"]

Row = tuple[int, list[str]]
"""The number of a line, and its cells."""


def csv_spectra(text: str, path: Path) -> Iterator[SpectrumColumn]:
    """Read a CSV of bins, or several with blank lines between (as HEPData writes them); lines that start with # are comments.

    Blocks of one name are told apart by the comments above them.
    """
    found: list[SpectrumColumn] = []
    qualifiers: list[list[str]] = []
    for comments, rows in blocks(text, path):
        last = not text.endswith("\n") and rows[-1][0] == text.count("\n") + 1
        spectra = list(block_spectra(rows, path, unended=last))
        found += spectra
        qualifiers += [comments] * len(spectra)
    if not found:
        raise InputError(f"{path}: is empty; a header line and a line a bin are expected")
    for name, spectrum in zip(told_apart([s.name for s in found], qualifiers), found, strict=True):
        yield SpectrumColumn(**{**vars(spectrum), "name": name})


def blocks(text: str, path: Path) -> Iterator[tuple[list[str], list[Row]]]:
    """Give the blocks of lines between blank ones: the comments above, without their mark, and the rows of cells."""
    comments: list[str] = []
    lines: list[tuple[int, str]] = []
    for number, line in enumerate([*text.split("\n"), ""], 1):
        if line.lstrip().startswith("#"):
            comments.append(" ".join(line.lstrip("#: ").replace(",", " ").split()))
        elif line.strip():
            lines.append((number, line))
        elif lines:
            delimiter = max(",;\t", key=lines[0][1].count)
            rows = []
            for at, one in lines:
                try:
                    (cells,) = csv.reader([one], delimiter=delimiter, strict=True)
                except (csv.Error, ValueError) as error:
                    raise InputError(f"{path}: line {at} is no row of cells: {error}") from error
                rows.append((at, [cell.strip() for cell in cells]))
            yield comments, rows
            comments, lines = [], []


def block_spectra(rows: Sequence[Row], path: Path, *, unended: bool) -> Iterator[SpectrumColumn]:
    """Find the edges and the values of one block by the names in its header."""
    (top, header), *bins = rows
    for number, row in bins:
        if len(row) != len(header):
            ends = " and ends there without a line end: it is cut off" if unended and number == bins[-1][0] else ""
            raise InputError(f"{path}: line {number} has {len(row)} cells, {len(header)} are expected{ends}")
    known = {name: tokens(name) for name in header}
    low, high = (edge_column(header, side, path, top) for side in ("lower", "upper"))
    left = [n for n in header if n not in {low, high} and not known[n][0] & ERROR]
    counts = [n for n in left if known[n][0] & COUNT and "/" not in known[n][1]]
    named = [n for n in left if known[n][0] & (COUNT | DENSITY) or "/" in known[n][1]]
    rest = [n for n in left if not known[n][0] <= CENTRE | {"jj", "j", "gev", "tev", "mev"}]
    values = counts or named or rest
    if not values:
        raise InputError(
            f"{path}: no column of counts or densities beside {low!r} and {high!r}. Header: {', '.join(header)}"
        )
    for name in (low, high, *values):
        if header.count(name) > 1:
            raise InputError(f"{path}: {header.count(name)} columns are called {name!r}; header: {', '.join(header)}")
    cells = {name: [row[header.index(name)] for _, row in bins] for name in (low, high, *values)}
    edges = joined_edges(cells[low], cells[high], f"{path}: columns {low!r}, {high!r}")
    mass_unit = edge_unit([low, high], str(path))
    for name in values:
        where = f"{path}: column {name!r}"
        yield SpectrumColumn(where, name, edges, decimals(cells[name], where), value_unit(name, where), mass_unit)


def edge_column(header: Sequence[str], side: str, path: Path, line: int) -> str:
    """Return the only column of lower or upper bin edges."""
    found = [name for name in header if tokens(name)[0] & (LOW if side == "lower" else HIGH)]
    if len(found) == 1 and len(header) > 1:
        return found[0]
    if len(header) == 1:
        said = f"line {line} names one column; commas, semicolons or tabs part the columns"
    elif all(name.replace(".", "", 1).isdigit() for name in header):
        said = f"line {line} holds numbers, and a header with the names of the columns is expected there"
    else:
        said = f"{len(found)} columns of {side} bin edges; one with a name like m_{'low' if side == 'lower' else 'high'} is needed"
    raise InputError(
        f"{path}: {said} (a table of events has a column of the mass, mjj, in place of edges). Header: {', '.join(header)}"
    )
