"""Spectra that others made: ROOT histograms, CSV, HEPData tables (YAML, CSV), JSON, and tables of events, as hists.

A source is a file name, and where a file holds several spectra, FILE:NAME. Every format gives the same thing: bins side
by side in GeV and whole numbers of events, as hists. What is no such thing is an InputError that names file, column and bin.

CSV columns are known by their names, case and units in [] or () aside. Lower edges: `low`, `m_low`, `mjj_low`, `bin_low`,
`xlow`, `low_edge`, `left`, `min`; upper edges: `high`, `m_high`, ..., `right`, `max`. The value is the column that is
called `count`, `events`, `n`, `data`, `observed` or `entries`, or has a density's unit (`density`, `events_per_gev`,
`dsigma_dm [pb/GeV]`), or is the only one that is left; columns of errors and bin centres are passed over.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import hist
import numpy as np
import numpy.typing as npt

from ...errors import InputError, shown, unknown_name
from ...files import parse_json, parse_yaml, read_text, shown_number
from ...table import MJJ, TABLE_SUFFIXES, Observable, read_table
from .bins import as_hist, spectra_of_table
from .units import Luminosity, Unit, counts_from, read_unit, to_gev

__all__ = ["GivenSpectra", "SpectrumColumn", "read_spectra"]

Floats = npt.NDArray[np.float64]
SUFFIXES = (".root", ".json", ".csv", ".yaml", ".yml", ".parquet")
LOW, HIGH = {"low", "lower", "lo", "left", "min"}, {"high", "higher", "upper", "hi", "right", "max"}
PREFIX = ("", "m", "x", "e", "bin", "edge", "mass", "mjj")
COUNT = {"count", "counts", "event", "events", "n", "entries", "data", "observed", "obs", "nobs", "nevents"}
DENSITY = {"density", "densities", "dn", "dsigma", "dsig", "sigma", "sig", "xsec", "xs"}
ERROR = {"err", "error", "errors", "unc", "uncertainty", "stat", "syst", "sys", "up", "down", "+", "-"}
CENTRE = {"m", "x", "mass", "mjj", "bin", "centre", "center", "mid", "index"}
REGION = re.compile(r"region[ _]?\d+")


@dataclass(frozen=True, repr=False)
class SpectrumColumn:
    """One spectrum as it is written: where it was found, its name, edges in GeV, values with their digits, their unit.

    outside: events below and above the bins, where the format keeps them.
    """

    where: str
    name: str
    edges: Floats
    values: tuple[Decimal, ...]
    unit: str
    outside: tuple[float, float] = (0.0, 0.0)

    def __repr__(self) -> str:
        """Return where it was found and its bins in a line."""
        return f"SpectrumColumn({self.where}: {len(self.values)} bins, {self.edges[0]:g} to {self.edges[-1]:g} GeV, {self.unit})"


@dataclass(frozen=True, repr=False)
class GivenSpectra:
    """Spectra of disjoint regions, name -> hist of counts on one mass axis in GeV; what was left out; what to know."""

    spectra: dict[str, hist.Hist[Any]]
    cutflow: dict[str, int]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        """Return the value in a line."""
        events = sum(h.sum() for h in self.spectra.values())
        return f"GivenSpectra({', '.join(self.spectra)}: {events:.0f} events, notes: {len(self.notes)})"


def read_spectra(
    sources: Sequence[str | Path],
    *,
    sqrt_s: float = 13_000.0,
    unit: str | None = None,
    luminosity: Luminosity | None = None,
    observable: Observable = MJJ,
) -> GivenSpectra:
    """Read the spectra of disjoint regions from files of any format; all must have the same bins.

    unit: what the values are, where the file does not say; luminosity: turns cross-sections into events; sqrt_s (GeV):
    the end of the bins that a table of events is filled into; observable: the column of such a table, and what the mass
    axis is called.
    """
    spectra: dict[str, hist.Hist[Any]] = {}
    cutflow: dict[str, int] = {}
    notes: list[str] = []
    units: list[Unit] = []
    for source in sources:
        path, part = split_source(str(source))
        if is_event_table(path, observable.name):
            if part is not None or unit is not None:
                raise InputError(f"{source}: a table of events has no named spectrum and no unit")
            table_spectra, table_cutflow = spectra_of_table(read_table(path), sqrt_s=sqrt_s, observable=observable)
            found, known = list(table_spectra.items()), table_cutflow
        else:
            found, known = [], {}
            for column in columns_of(path, part):
                units.append(read_unit(unit if unit is not None else column.unit, column.where))
                counts, note = counts_from(
                    column.values, column.edges, units[-1], luminosity=luminosity, where=column.where
                )
                notes += [note] if note else []
                found.append((column.name, as_hist(column.edges, counts, column.outside, observable=observable)))
                for side, events in zip(("below the bins", "above the bins"), column.outside, strict=True):
                    known[side] = known.get(side, 0) + int(events)
        for name, histogram in found:
            if histogram.sum() == 0:
                raise InputError(
                    f"{source}: spectrum {name!r} is empty: none of its {histogram.axes[0].size} bins holds an event"
                )
            spectra[name if name not in spectra else f"{name} ({path.name})"] = histogram
        cutflow = {side: cutflow.get(side, 0) + known.get(side, 0) for side in (*cutflow, *known)}
    if luminosity is not None and not any(u.cross_section for u in units):
        raise InputError(
            "--luminosity: none of the spectra is a cross-section, whose unit (pb/GeV) the file or --unit states"
        )
    check_same_bins(spectra)
    return GivenSpectra(spectra, {side: n for side, n in cutflow.items() if n}, tuple(notes))


def check_same_bins(spectra: Mapping[str, hist.Hist[Any]]) -> None:
    """Refuse regions on different mass axes, naming the first difference."""
    first = next(iter(spectra))
    edges = spectra[first].axes[0].edges
    for name, histogram in spectra.items():
        other = histogram.axes[0].edges
        if not np.array_equal(other, edges):
            raise InputError(
                f"{name!r} has other bins than {first!r} ({len(other) - 1} from {other[0]:g} to {other[-1]:g} GeV, and "
                f"{len(edges) - 1} from {edges[0]:g} to {edges[-1]:g}); regions that are hunted together share one mass axis"
            )


def split_source(source: str) -> tuple[Path, str | None]:
    """Split FILE:NAME at the colon behind a known suffix; a file that has a colon in its name is a file."""
    match = re.fullmatch(rf"(.*?(?:{'|'.join(re.escape(s) for s in SUFFIXES)})):(.+)", source, flags=re.IGNORECASE)
    if match is None or Path(source).exists():
        return Path(source), None
    return Path(match.group(1)), match.group(2)


def is_event_table(path: Path, mass: str) -> bool:
    """Tell a table of events from a table of bins: parquet and HDF5 are, and CSV with the column `mass` and no bin edges."""
    suffix = path.suffix.lower()
    if suffix != ".csv" or not path.is_file():
        return suffix in TABLE_SUFFIXES and suffix != ".csv"
    with path.open(encoding="utf-8", errors="replace") as file:
        header = [name.strip() for name in file.readline().split(",")]
    return mass in header and not any(tokens(name)[0] & (LOW | HIGH) for name in header)


def columns_of(path: Path, part: str | None) -> list[SpectrumColumn]:
    """Read the spectra of one file: the named one, the only one, or all regions that hunch wrote."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: no spectrum by its name; allowed: {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise InputError(f"{path}: {'is a directory' if path.is_dir() else 'no such file'}; a spectrum is expected")
    if suffix == ".root":
        return root_columns(path, part)
    reader = {".json": json_columns, ".csv": csv_columns}.get(suffix, hepdata_columns)
    text = read_text(path, f"a spectrum ({suffix[1:].upper()})")
    found = list(reader(text, path))
    # the regions of a JSON file are written as belonging together
    return found if suffix == ".json" and part is None else choose(found, part, path)


def choose(found: list[SpectrumColumn], part: str | None, path: Path) -> list[SpectrumColumn]:
    """Return the named spectrum; else the only one, the only one of counts, or every `region N`."""
    if part is not None:
        named = [c for c in found if c.name == part]
        if not named:
            raise InputError(unknown_name("spectrum", part, [c.name for c in found], str(path)))
        return named
    regions = [c for c in found if REGION.fullmatch(c.name)]
    if regions and len(regions) == len(found):
        return regions
    counts = [c for c in found if tokens(c.name)[0] & COUNT or c.unit in COUNT]
    for several in (found, counts):
        if len(several) == 1:
            return several
    names = ", ".join(c.name for c in found[:12]) or "none"
    raise InputError(
        f"{path}: holds {len(found)} spectra ({names}); name one: {path.name}:{found[0].name if found else 'NAME'}"
    )


# ------------------------------------------------------------------------------------------ formats


def decimals(values: Sequence[Any], where: str) -> tuple[Decimal, ...]:
    """Read numbers as they are written, digits kept."""
    result = []
    for i, value in enumerate(values):
        text = str(value).strip()
        try:
            result.append(Decimal(text))
        except InvalidOperation as error:
            raise InputError(f"{where}: value {i} is {shown(value)}, no number") from error
        if result[-1].is_finite() and not np.isfinite(float(result[-1])):
            raise InputError(
                f"{where}: value {i} is {shown_number(text)}, more than a number in double precision can be"
            )
    return tuple(result)


def as_edges(values: Sequence[Any], where: str, *, scale: float = 1.0) -> Floats:
    """Return bin edges in GeV; they rise, are finite and start at 0 or above."""
    edges = np.array([float(v) for v in decimals(values, where)]) * scale
    if len(edges) < 2:
        empty = ": there are no rows" if len(edges) == 0 else ""
        raise InputError(f"{where}: {len(edges)} bin edges{empty}; at least two are needed")
    wrong = np.flatnonzero(~(np.isfinite(edges[1:]) & (np.diff(edges) > 0)))
    if len(wrong) or not edges[0] >= 0:
        i = int(wrong[0]) if len(wrong) else 0
        raise InputError(f"{where}: edges rise from 0 or above, found {edges[i]:g} and then {edges[i + 1]:g} GeV")
    return edges


def joined_edges(low: Sequence[Any], high: Sequence[Any], where: str, *, scale: float) -> Floats:
    """Join the lower and upper edges of bins that lie side by side; a gap or an overlap is an error."""
    lows, highs = ([float(v) for v in decimals(side, where)] for side in (low, high))
    for i in range(1, len(lows)):
        if not np.isclose(lows[i], highs[i - 1], rtol=1e-9, atol=0):
            raise InputError(
                f"{where}: bin {i - 1} ends at {highs[i - 1]:g} and bin {i} starts at {lows[i]:g}; bins lie side by side"
            )
    return as_edges([*lows, *highs[-1:]], where, scale=scale)


def json_columns(text: str, path: Path) -> Iterator[SpectrumColumn]:
    """Read {"edges": [...], "counts": [...]}, or "densities" with "unit"; several regions: counts is a mapping."""
    content = parse_json(text, str(path), exact=True)
    if not isinstance(content, dict):
        raise InputError(f'{path}: a mapping with "edges" and "counts" is expected, found a {type(content).__name__}')
    if "edges" not in content or len({"counts", "densities"} & set(content)) != 1:
        raise InputError(
            f'{path}: "edges" and either "counts" or "densities" are needed; found: {", ".join(content) or "no key"}'
        )
    key = "counts" if "counts" in content else "densities"
    given = content[key] if isinstance(content[key], dict) else {path.stem: content[key]}
    for name, values in given.items():
        where = f"{path}: {key}" + (f" of {name!r}" if isinstance(content[key], dict) else "")
        if not isinstance(values, list) or not isinstance(content["edges"], list):
            raise InputError(f"{where}: edges and {key} are lists of numbers")
        edges = as_edges(content["edges"], f"{path}: edges", scale=to_gev(str(content.get("mass_unit", "")), str(path)))
        if len(values) != len(edges) - 1:
            raise InputError(f"{where}: {len(values)} values do not fit {len(edges)} bin edges")
        unit = str(content.get("unit", "counts" if key == "counts" else "events/GeV"))
        yield SpectrumColumn(where, name, edges, decimals(values, where), unit)


def tokens(header: str) -> tuple[set[str], str]:
    """Split a column's header into its lower-case words and its unit: "D(SIG)/DM [PB/GEV]", "events_per_gev", "m_low (GeV)"."""
    match = re.search(r"\[(.*?)\]", header) or re.search(
        r"\(([^()]*(?:[gtm]ev|[fpn]b)[^()]*)\)\s*$", header, re.IGNORECASE
    )
    unit = match.group(1) if match else ""
    name = header.replace(match.group(0), " ") if match else header
    words = [w for w in re.split(r"[^a-z0-9+-]+", name.lower()) if w]
    if not unit and "per" in words[1:-1]:
        i = words.index("per", 1)
        unit = f"{words[i - 1]}/{words[i + 1]}"
    # xlow, mjjmin: one word of a known prefix and a known end
    split = {s for w in words for p in PREFIX for s in LOW | HIGH if w == p + s}
    return {*words, *split}, unit


def csv_columns(text: str, path: Path) -> Iterator[SpectrumColumn]:
    """Read a CSV of bins, or several with blank lines between (as HEPData writes them); lines that start with # are comments."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    blocks = [b.strip("\n") for b in re.split(r"\n\s*\n", "\n".join(lines)) if b.strip()]
    if not blocks:
        raise InputError(f"{path}: is empty; a header line and a line a bin are expected")
    for block in blocks:
        head = block.splitlines()[0]
        delimiter = max(",;\t", key=head.count)
        rows = [[cell.strip() for cell in row] for row in csv.reader(block.splitlines(), delimiter=delimiter) if row]
        yield from block_columns(rows[0], rows[1:], path)


def block_columns(header: Sequence[str], rows: Sequence[Sequence[str]], path: Path) -> Iterator[SpectrumColumn]:
    """Find the edges and the values of one block by the names in its header."""
    if len(set(header)) < len(header):
        raise InputError(f"{path}: two columns have the same name; header: {', '.join(header)}")
    for i, row in enumerate(rows):
        if len(row) != len(header):
            raise InputError(f"{path}: row {i} behind the header has {len(row)} cells, {len(header)} are expected")
    known = {name: tokens(name) for name in header}
    ends = []
    for side, words in (("lower", LOW), ("upper", HIGH)):
        sided = [name for name in header if known[name][0] & words]
        if len(sided) != 1:
            raise InputError(
                f"{path}: {len(sided)} columns of {side} bin edges; one with a name like m_{'low' if side == 'lower' else 'high'} is needed. "
                f"Header: {', '.join(header)}"
            )
        ends.append(sided[0])
    low, high = ends
    cells = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    edges = joined_edges(
        cells[low], cells[high], f"{path}: columns {low!r}, {high!r}", scale=to_gev(known[low][1], str(path))
    )
    left = [n for n in header if n not in ends and not known[n][0] & ERROR]
    counts = [n for n in left if known[n][0] & COUNT and "/" not in known[n][1]]
    named = [n for n in left if known[n][0] & (COUNT | DENSITY) or "/" in known[n][1]]
    rest = [n for n in left if not known[n][0] <= CENTRE | {"jj", "j", "gev"}]
    values = counts or named or rest
    if not values:
        raise InputError(
            f"{path}: no column of counts or densities beside {low!r} and {high!r}. Header: {', '.join(header)}"
        )
    for name in values:
        where = f"{path}: column {name!r}"
        yield SpectrumColumn(where, name, edges, decimals(cells[name], where), value_unit(*known[name], where))


def value_unit(words: set[str], unit: str, where: str) -> str:
    """Return the unit of a column by its name: dN/dm and densities are events/GeV where none is stated."""
    if unit or words & COUNT or not words & DENSITY:
        return unit or "counts"
    if words & {"density", "densities", "dn"}:
        return "events/GeV"
    raise InputError(
        f"{where}: a cross-section, but in which unit? Write it behind the name, as in [pb/GeV], or say --unit pb/GeV"
    )


def hepdata_columns(text: str, path: Path) -> Iterator[SpectrumColumn]:
    """Read a HEPData table in YAML: independent_variables with low and high, dependent_variables with value."""
    # numbers stay as they are written, so that their digits can be counted
    content = parse_yaml(text, str(path), typed=False)
    if not isinstance(content, dict) or not {"independent_variables", "dependent_variables"} <= set(content):
        found = ", ".join(content) if isinstance(content, dict) else type(content).__name__
        raise InputError(
            f"{path}: neither an analysis (samples, output) nor a HEPData table (independent_variables, dependent_variables); found: {found}"
        )
    try:
        axis = content["independent_variables"][0]
        bins = axis["values"]
        low, high = ([b[side] for b in bins] for side in ("low", "high"))
        scale = to_gev(axis.get("header", {}).get("units", ""), str(path))
        edges = joined_edges(low, high, f"{path}: independent_variables", scale=scale)
        for variable in content["dependent_variables"]:
            header = variable.get("header", {})
            name = str(header.get("name", path.stem))
            where = f"{path}: {name!r}"
            values = decimals([v["value"] for v in variable["values"]], where)
            if len(values) != len(edges) - 1:
                raise InputError(f"{where}: {len(values)} values do not fit {len(edges) - 1} bins")
            words, unit = tokens(name)
            yield SpectrumColumn(where, name, edges, values, value_unit(words, str(header.get("units", unit)), where))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(
            f"{path}: not laid out as a HEPData table: bins need low and high, values need value ({error!r})"
        ) from error


def root_columns(path: Path, part: str | None) -> list[SpectrumColumn]:
    """Read one-dimensional histograms (TH1) of a ROOT file; uproot is imported here alone, as analysis does without it else."""
    import uproot

    try:
        file = uproot.open(path)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as ROOT: {str(error).strip().splitlines()[0]}") from error
    with file:
        classes = file.classnames(cycle=False)
        names = [name for name, kind in classes.items() if kind.startswith("TH1")]
        if part is not None and part in classes and part not in names:
            raise InputError(f"{path}: {part!r} is a {classes[part]}; a histogram (TH1) is expected")
        if not names:
            kinds = ", ".join(f"{name} ({kind})" for name, kind in list(classes.items())[:8]) or "nothing"
            raise InputError(f"{path}: holds no histogram (TH1); found: {kinds}")
        wanted = [name for name in names if part is None or name == part]
        empty = np.array([0.0, 1.0])
        chosen = choose([SpectrumColumn("", n, empty, (), "") for n in (wanted or names)], part, path)
        return [root_column(file[c.name], c.name, path) for c in chosen]


def root_column(histogram: Any, name: str, path: Path) -> SpectrumColumn:
    """Read one histogram; one whose stored variances are not its contents was filled with weights."""
    where = f"{path}: {name!r}"
    contents, edges = histogram.to_numpy(flow=True)
    variances = np.asarray(histogram.variances(flow=True), dtype=np.float64)
    if not np.allclose(variances, np.abs(contents), rtol=1e-6, atol=1e-9):
        i = int(np.argmax(np.abs(variances - contents)[1:-1]))
        raise InputError(
            f"{where}: filled with weights or scaled (bin {i}: {contents[i + 1]:g} with variance {variances[i + 1]:g}); data are counts"
        )
    edges = np.asarray(edges, dtype=np.float64)[1:-1]
    values = tuple(Decimal(repr(float(v))) for v in contents[1:-1])
    title = str(histogram.member("fYaxis").member("fTitle"))
    unit = "events/GeV" if re.search(r"/\s*gev", title, re.IGNORECASE) else "counts"
    return SpectrumColumn(
        where, name, as_edges(edges.tolist(), where), values, unit, (float(contents[0]), float(contents[-1]))
    )
