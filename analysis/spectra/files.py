"""Spectra that others made: ROOT histograms, CSV, HEPData tables (YAML, CSV), JSON, and tables of events, as hists.

A source is a file name, and where a file holds several spectra, FILE:NAME. Every format gives the same thing: bins side
by side in GeV and whole numbers of events, as hists. What is no such thing is an InputError that names file, column and bin.

CSV columns are known by their names, case and units in [] or () aside. Lower edges: `low`, `m_low`, `mjj_low`, `bin_low`,
`xlow`, `low_edge`, `left`, `min`; upper edges: `high`, `m_high`, ..., `right`, `max`. The value is the column that is
called `count`, `events`, `n`, `data`, `observed` or `entries`, or has a density's unit (`density`, `events_per_gev`,
`dsigma_dm [pb/GeV]`), or is the only one that is left; columns of errors and bin centres are passed over.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import hist
import numpy as np
import numpy.typing as npt

from ...documents import parse_json, parse_yaml, read_text, require_name, require_text
from ...errors import InputError, unknown_name
from ...folds import beyond_chance, content_hash, repeated_events, same_event_hash, shared_events, told_by
from ...table import (
    EVENT_ID,
    IDENTITY,
    MJJ,
    TABLE_SUFFIXES,
    Observable,
    is_table_folder,
    read_table,
    table_info,
    weight_columns,
)
from ...tabular import csv_header, unended_line
from .bins import NO_VALUE, as_hist, spectra_of_table
from .columns import (
    COUNT,
    DENSITY,
    HIGH,
    LOW,
    PER_MASS,
    SpectrumColumn,
    as_edges,
    decimals,
    joined_edges,
    tokens,
    told_apart,
    value_unit,
)
from .csv_spectrum import csv_spectra
from .root_histogram import root_spectra
from .units import Luminosity, Unit, ask_unit, axis_unit, counts_from, mass_scale, read_unit

__all__ = ["GivenSpectra", "SpectrumColumn", "read_spectra"]

Floats = npt.NDArray[np.float64]
SUFFIXES = (".root", ".json", ".csv", ".yaml", ".yml")
ALLOWED = tuple(dict.fromkeys((*SUFFIXES, *TABLE_SUFFIXES)))
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".tgz", ".tar")
CUTTABLE = (".csv", ".yaml", ".yml")
"""Suffixes of texts that are as whole as before where they are cut off inside their last number."""
MANY = 100
"""Events from which on two regions do not have the same number of them in every bin by chance."""
HINT = 'State it in the file (JSON: "mass_unit"; CSV, parquet and YAML: behind the name, as in [TeV]; ROOT: in the title of the axis)'
REGION = re.compile(r"region[ _]?\d+")


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


@dataclass(frozen=True, repr=False)
class Events:
    """Who the events of a table are: how they are told (`told_by`), and hashes (n,) of each event and of its mass alone."""

    told: str
    same: npt.NDArray[np.uint64]
    mass: npt.NDArray[np.uint64]

    def __repr__(self) -> str:
        """Return how many events, and how they are told."""
        return f"Events({len(self.same):,} events told by {self.told})"


def read_spectra(
    sources: Sequence[str | Path],
    *,
    sqrt_s: float = 13_000.0,
    unit: str | None = None,
    mass_unit: str | None = None,
    luminosity: Luminosity | None = None,
    fb_of_counts: bool = False,
    observable: Observable = MJJ,
    blind: tuple[float, float] | None = None,
) -> GivenSpectra:
    """Read the spectra of disjoint regions from files of any format; all must have the same bins.

    unit: what the values are, where the file does not say or is wrong; mass_unit: GeV, TeV or MeV, where the file does not
    say; luminosity: turns cross-sections into events; fb_of_counts: it is wanted for spectra of counts too; sqrt_s (GeV): the end of the bins that a table of events is filled
    into; observable: the column of such a table, and what the mass axis is called; blind: [low, high] GeV whose events tell nothing of such bins.
    """
    spectra: dict[str, hist.Hist[Any]] = {}
    cutflow: dict[str, int] = {}
    notes: list[str] = []
    units: list[Unit] = []
    read: set[tuple[Path, str]] = set()
    hashes: dict[str, Events] = {}
    for source in sources:
        require_name(source)
        path, part = split_source(str(source))
        if is_event_table(path, observable.name):
            if part is not None or unit is not None:
                raise InputError(f"{source}: a table of events has no named spectrum and no unit of values (--unit)")
            found, known, hashes[str(source)] = events_of(
                path, sqrt_s=sqrt_s, mass_unit=mass_unit, observable=observable, blind=blind
            )
            if n := known.get(NO_VALUE, 0):
                notes.append(f"{path}: {n} events have no value in the column 'region' and are in no region")
        else:
            found, known = [], {}
            for column in columns_of(path, part):
                histogram, meant, said = counted(
                    column, unit=unit, mass_unit=mass_unit, luminosity=luminosity, sqrt_s=sqrt_s, observable=observable
                )
                units.append(meant)
                notes += said
                found.append((column.name, histogram))
                for side, events in zip(("below the bins", "above the bins"), column.outside, strict=True):
                    known[side] = known.get(side, 0) + int(events)
            if path.suffix.lower() in CUTTABLE and (last := unended_line(path)) is not None:
                notes.append(
                    f"{path}: the last line has no line end ({last[:60]}); where the file is cut off, its last bin is wrong"
                )
        for name, histogram in found:
            require_text(name, f"{source}: the name of a region")
            if histogram.sum() == 0:
                raise InputError(
                    f"{source}: spectrum {name!r} is empty: none of its {histogram.axes[0].size} bins holds an event"
                )
            if (path.resolve(), name) in read:
                raise InputError(f"{source}: spectrum {name!r} is given twice; regions hold different events")
            read.add((path.resolve(), name))
            free = (n for n in (name, f"{name} ({path.name})", f"{name} ({source})") if n not in spectra)
            spectra[next(free, f"{name} ({len(spectra)})")] = histogram
        cutflow = {side: cutflow.get(side, 0) + known.get(side, 0) for side in (*cutflow, *known)}
    if luminosity is not None and not fb_of_counts and not any(u.cross_section for u in units):
        raise InputError(
            "--luminosity: none of the spectra is a cross-section, whose unit (pb/GeV) the file or --unit states"
        )
    check_events(hashes)
    notes += check_regions(spectra)
    return GivenSpectra(spectra, {side: n for side, n in cutflow.items() if n}, tuple(notes))


def counted(
    column: SpectrumColumn,
    *,
    unit: str | None,
    mass_unit: str | None,
    luminosity: Luminosity | None,
    sqrt_s: float,
    observable: Observable,
) -> tuple[hist.Hist[Any], Unit, list[str]]:
    """Return a spectrum as events in bins in GeV, the unit that its values were taken to be in, and what to know of it."""
    where = column.where
    scale = mass_scale(column.mass_unit, mass_unit, where)
    edges = (
        column.edges
        if scale == 1
        else np.array([float(Decimal(repr(e)) * Decimal(scale)) for e in column.edges.tolist()])
    )
    stated = column.unit
    if stated == PER_MASS:
        if unit is None and scale != 1:
            raise InputError(
                f"{where}: events by mass, and the mass is in {mass_unit or column.mass_unit}: per which unit of it? "
                "Say --unit events/TeV, or events/GeV"
            )
        stated = "events/GeV"
    meant = read_unit(stated if unit is None else unit, where)
    notes = []
    if unit is not None and column.unit not in {"", PER_MASS} and not same_unit(read_unit(stated, where), meant):
        notes.append(f"{where}: the values are in {meant.text} (--unit), where the file says {stated}")
    if meant.in_bins and meant.per_energy is not None and meant.cross_section is None:
        if np.allclose(np.diff(edges), meant.per_energy, rtol=1e-3):
            meant = read_unit("counts")
        elif unit is None:
            raise InputError(
                f"{where}: {meant.text}, in bins of {np.diff(edges).min():g} to {np.diff(edges).max():g} GeV; "
                f"counts or a density? Say --unit counts, or --unit '{meant.text}'"
            )
    counts, note = counts_from(column.values, edges, meant, luminosity=luminosity, where=where)
    if mass_unit is None and not column.mass_unit and observable.unit == "GeV":
        ask_unit(float(edges[-1]), sqrt_s=sqrt_s, where=where, hint=HINT)
    return as_hist(edges, counts, column.outside, observable=observable), meant, [*notes, *([note] if note else [])]


def check_events(events: Mapping[str, Events]) -> None:
    """Refuse tables that share events: source -> its events; those told in different ways are compared by their mass."""
    for (one, first), (two, second) in itertools.combinations(events.items(), 2):
        same = first.told == second.told
        pair = (first.same, second.same) if same else (first.mass, second.mass)
        if n := shared_events(*pair, one_number=not same or first.told == "content"):
            raise InputError(f"{one} and {two} share {n} events; regions that are hunted together hold different ones")


def same_unit(one: Unit, other: Unit) -> bool:
    """Tell whether two units mean the same, however they are written."""
    return (one.per_energy, one.cross_section) == (other.per_energy, other.cross_section)


def check_regions(spectra: Mapping[str, hist.Hist[Any]]) -> list[str]:
    """Refuse regions on different mass axes, naming the first difference; say of two that they hold the same numbers."""
    first = next(iter(spectra))
    edges = spectra[first].axes[0].edges
    for name, histogram in spectra.items():
        other = histogram.axes[0].edges
        if not np.array_equal(other, edges):
            raise InputError(
                f"{name!r} has other bins than {first!r} ({len(other) - 1} from {other[0]:g} to {other[-1]:g} GeV, and "
                f"{len(edges) - 1} from {edges[0]:g} to {edges[-1]:g}); regions that are hunted together share one mass axis"
            )
    notes: list[str] = []
    holding: dict[bytes, str] = {}
    for name, histogram in spectra.items():
        twin = holding.setdefault(histogram.values().tobytes(), name)
        if twin != name and histogram.sum() >= MANY:
            notes.append(
                f"{twin!r} and {name!r} hold the same {histogram.sum():.0f} events, bin by bin: the same events twice? Regions that are "
                "hunted together hold different ones"
            )
    return notes


def split_source(source: str) -> tuple[Path, str | None]:
    """Split FILE:NAME at the colon behind a known suffix; a file that has a colon in its name is a file."""
    match = re.fullmatch(rf"(.*?(?:{'|'.join(re.escape(s) for s in ALLOWED)})):(.+)", source, flags=re.IGNORECASE)
    if match is None or Path(source).exists():
        return Path(source), None
    return Path(match.group(1)), match.group(2)


def is_event_table(path: Path, mass: str) -> bool:
    """Tell a table of events from a table of bins: parquet, HDF5 and folders of parts are; CSV with the mass and no bin edges."""
    suffix = path.suffix.lower()
    if suffix != ".csv" or not path.is_file():
        return (suffix in TABLE_SUFFIXES and suffix != ".csv") or is_table_folder(path)
    try:
        header = csv_header(path)[0]
    except ValueError:
        return False
    return mass_column(header, mass) is not None and not any(tokens(name)[0] & (LOW | HIGH) for name in header)


def mass_column(names: Sequence[str], mass: str) -> str | None:
    """Return the column of the mass by its name, a unit behind it aside: mjj, "mjj [TeV]", mjj_TeV."""
    if mass in names:
        return mass
    behind = rf"{re.escape(mass)}[\s_]*(?:\[.*\]|\(.*\)|/?\s*(?:in\s+)?[kmgt]ev)"
    found = [name for name in names if re.fullmatch(behind, name.strip(), re.IGNORECASE)]
    return found[0] if len(found) == 1 else None


def events_of(
    path: Path,
    *,
    sqrt_s: float,
    mass_unit: str | None,
    observable: Observable,
    blind: tuple[float, float] | None = None,
) -> tuple[list[tuple[str, hist.Hist[Any]]], dict[str, int], Events]:
    """Return the spectra of a table of events, what lies in none, and who its events are.

    Of its columns the mass, the region, weights and the identity alone are read.
    """
    info = table_info(path)
    mass = mass_column(info.columns, observable.name) or observable.name
    names = [mass, *(name for name in ("region", EVENT_ID) if name in info.columns), *weight_columns(info.columns)]
    table = read_table(path, columns=names)
    values = table.matrix([mass])[:, 0]
    if len(values) > 1 and (np.diff(values) > 0).all():
        binned = [n for n in info.columns if n not in {*IDENTITY, *names} and tokens(n)[0] & (COUNT | DENSITY)]
        if binned:
            raise InputError(
                f"{path}: {mass!r} rises from row to row beside a column {binned[0]!r}: centres of bins? A table of bins has "
                "columns of their lower and upper edges (m_low, m_high)"
            )
    stated = axis_unit(mass)
    if observable.unit == "GeV":
        values = values * mass_scale(stated, mass_unit, f"{path}: column {mass!r}")
        if not stated and mass_unit is None and len(values) and (np.isfinite(values) & (values > 0)).all():
            ask_unit(float(values.max()), sqrt_s=sqrt_s, where=f"{path}: column {mass!r}", hint=HINT)
    spectra, cutflow = spectra_of_table(
        table.with_columns(**{observable.name: values}), sqrt_s=sqrt_s, observable=observable, blind=blind
    )
    events = same_event_hash(table, [mass])
    again = repeated_events(events)
    # rows without an identity may be equal by chance, as often as their masses' digits explain
    if again.any() and (told_by(table) != "content" or beyond_chance(int(again.sum()), table.matrix([mass]))):
        row = int(np.flatnonzero(again)[0])
        own = table.metadata.get("identity", ())
        named = ", ".join(f"{name} {table[name][row]}" for name in IDENTITY[1:] if name in own and name in table)
        named = named or f"{mass} {table[mass][row]:.10g}"
        raise InputError(f"{path}: {again.sum()} events are there twice or more; the first: {named}, in row {row}")
    own_mass = content_hash(values[:, None])  # in GeV
    return list(spectra.items()), cutflow, Events(told_by(table), events, own_mass)


def columns_of(path: Path, part: str | None) -> list[SpectrumColumn]:
    """Read the spectra of one file: the named one, the only one, or all regions that hunch wrote."""
    suffix = path.suffix.lower()
    if path.is_dir():
        raise InputError(f"{path}: is a directory; a spectrum is expected ({', '.join(ALLOWED)})")
    if suffix not in SUFFIXES:
        if suffix in PACKED:
            raise InputError(f"{path}: is compressed; unpack it first")
        raise InputError(f"{path}: no spectrum by its name; allowed: {', '.join(ALLOWED)}")
    if not path.is_file():
        raise InputError(f"{path}: no such file; a spectrum is expected")
    if suffix == ".root":
        return root_spectra(path, part, lambda names, counts: choose(names, counts, path))
    text = read_text(path, f"a spectrum ({suffix[1:].upper()})")
    if not text.strip():
        raise InputError(f"{path}: is empty; a spectrum is expected")
    reader = {".json": json_columns, ".csv": csv_spectra}.get(suffix, hepdata_columns)
    found = list(reader(text, path))
    names = [column.name for column in found]
    if part is None:
        # the regions of a JSON file are written as belonging together
        counts = [bool(tokens(c.name)[0] & COUNT) or c.unit in {"", "counts", "events", "entries"} for c in found]
        return found if suffix == ".json" else [found[i] for i in choose(names, counts, path)]
    if part not in names:
        same = [name for name in names if name.startswith(f"{part} (")]
        if len(same) > 1:
            raise InputError(
                f"{path}: {len(same)} spectra are called {part!r}, told apart by what stands beside them; name one: "
                + ", ".join(f"{path.name}:{name}" for name in same)
            )
        raise InputError(unknown_name("spectrum", part, names, str(path)))
    return [found[names.index(part)]]


def choose(names: Sequence[str], counts: Sequence[bool], path: Path) -> list[int]:
    """Return the places of what is read where nothing is named: the only spectrum, the only one of counts, or every `region N`."""
    if names and all(REGION.fullmatch(name) for name in names):
        return list(range(len(names)))
    surely = [i for i, sure in enumerate(counts) if sure]
    for several in (list(range(len(names))), surely):
        if len(several) == 1:
            return several
    if not names:
        raise InputError(f"{path}: holds no spectrum: dependent_variables names none")
    raise InputError(f"{path}: holds {len(names)} spectra ({', '.join(names[:12])}); name one: {path.name}:{names[0]}")


# ------------------------------------------------------------------------------------------ formats


def json_columns(text: str, path: Path) -> Iterator[SpectrumColumn]:
    """Read {"edges": [...], "counts": [...]}, or "densities" with "unit"; several regions: counts is a mapping."""
    content = parse_json(text, str(path), exact=True)
    if not isinstance(content, dict):
        raise InputError(f'{path}: a mapping with "edges" and "counts" is expected, found {kind_of(content)}')
    if "edges" not in content or len({"counts", "densities"} & set(content)) != 1:
        raise InputError(
            f'{path}: "edges" and either "counts" or "densities" are needed; found: {", ".join(content) or "no key"}'
        )
    for key in content:
        if "unit" in key.lower() and key not in {"unit", "mass_unit"}:
            raise InputError(unknown_name("key", key, ["mass_unit", "unit"], str(path)))
    key = "counts" if "counts" in content else "densities"
    given = content[key] if isinstance(content[key], dict) else {path.stem: content[key]}
    if not given:
        raise InputError(f"{path}: {key}: is empty; a list of numbers for each region is expected")
    for name, values in given.items():
        where = f"{path}: {key}" + (f" of {name!r}" if isinstance(content[key], dict) else "")
        if not isinstance(values, list) or not isinstance(content["edges"], list):
            raise InputError(f"{where}: edges and {key} are lists of numbers")
        edges = as_edges(content["edges"], f"{path}: edges")
        if len(values) != len(edges) - 1:
            raise InputError(f"{where}: {len(values)} values do not fit {len(edges)} bin edges")
        unit = str(content.get("unit", "" if key == "counts" else PER_MASS))
        yield SpectrumColumn(where, name, edges, decimals(values, where), unit, str(content.get("mass_unit", "")))


def kind_of(content: object) -> str:
    """Return what a value of JSON or YAML is called."""
    kinds = {dict: "a mapping", list: "a list", str: "a text", bool: "a truth value", type(None): "nothing"}
    return kinds.get(type(content), "a number")


def hepdata_columns(text: str, path: Path) -> Iterator[SpectrumColumn]:
    """Read a HEPData table in YAML: independent_variables with low and high, dependent_variables with value."""
    # numbers stay as they are written, so that their digits can be counted
    content = parse_yaml(text, str(path), typed=False)
    if not isinstance(content, dict) or not {"independent_variables", "dependent_variables"} <= set(content):
        found = ", ".join(content) if isinstance(content, dict) else kind_of(content)
        raise InputError(
            f"{path}: neither an analysis (samples, output) nor a HEPData table (independent_variables, dependent_variables); found: {found}"
        )
    try:
        axis = content["independent_variables"][0]
        bins = axis["values"]
        low, high = ([b[side] for b in bins] for side in ("low", "high"))
        title = axis.get("header", {})
        mass_unit = str(title.get("units", "")) or axis_unit(str(title.get("name", "")))
        edges = joined_edges(low, high, f"{path}: independent_variables")
        variables = content["dependent_variables"]
        headers = [variable.get("header", {}) for variable in variables]
        qualifiers = [
            [
                " ".join(str(q.get(key, "")) for key in ("name", "value", "units")).strip()
                for q in v.get("qualifiers", ())
            ]
            for v in variables
        ]
        written = [str(header.get("name", path.stem)) for header in headers]
        for variable, header, own, name in zip(
            variables, headers, written, told_apart(written, qualifiers), strict=True
        ):
            where = f"{path}: {name!r}"
            values = decimals([v["value"] for v in variable["values"]], where)
            if len(values) != len(edges) - 1:
                raise InputError(f"{where}: {len(values)} values do not fit {len(edges) - 1} bins")
            unit = value_unit(own, where, str(header.get("units", "")))
            yield SpectrumColumn(where, name, edges, values, unit, mass_unit)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        found = f"; no {error.args[0]!r}" if isinstance(error, KeyError) else ""
        raise InputError(
            f"{path}: not laid out as a HEPData table{found}: a list of independent_variables and of dependent_variables, each with a "
            "header and a list of values; bins have low and high, values have value"
        ) from error
