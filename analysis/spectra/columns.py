"""One spectrum as a file writes it, and what names and numbers in files of others mean."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import numpy.typing as npt

from ...documents import shown_number
from ...errors import InputError, shown
from .units import axis_unit, title_unit

__all__ = [
    "CENTRE",
    "COUNT",
    "DENSITY",
    "ERROR",
    "HIGH",
    "LOW",
    "PER_MASS",
    "SpectrumColumn",
    "as_edges",
    "decimals",
    "edge_unit",
    "joined_edges",
    "tokens",
    "told_apart",
    "value_unit",
]

Floats = npt.NDArray[np.float64]
LOW, HIGH = {"low", "lower", "lo", "left", "min"}, {"high", "higher", "upper", "hi", "right", "max"}
PREFIX = ("", "m", "x", "e", "bin", "edge", "mass", "mjj")
COUNT = {"count", "counts", "event", "events", "n", "entries", "data", "observed", "obs", "nobs", "nevents"}
DENSITY = {"density", "densities", "dn", "dsigma", "dsig", "sigma", "sig", "xsec", "xs"}
ERROR = {"err", "error", "errors", "unc", "uncertainty", "stat", "syst", "sys", "up", "down", "+", "-"}
CENTRE = {"m", "x", "mass", "mjj", "bin", "centre", "center", "mid", "index"}
PER_MASS = "density"
"""The unit of values that are events by mass, of which a file does not say by which unit of it."""


@dataclass(frozen=True, repr=False)
class SpectrumColumn:
    """One spectrum as it is written: where it was found, its name, edges, values with their digits.

    unit: of the values, "" where the file states none; mass_unit: of the edges, likewise; outside: events below and above
    the bins, where the format keeps them.
    """

    where: str
    name: str
    edges: Floats
    values: tuple[Decimal, ...]
    unit: str = ""
    mass_unit: str = ""
    outside: tuple[float, float] = (0.0, 0.0)

    def __repr__(self) -> str:
        """Return where it was found and its bins in a line."""
        span = f"{self.edges[0]:g} to {self.edges[-1]:g} {self.mass_unit or 'GeV'}"
        return f"SpectrumColumn({self.where}: {len(self.values)} bins, {span}, {self.unit or 'counts'})"


def decimals(values: Sequence[Any], where: str) -> tuple[Decimal, ...]:
    """Read numbers as they are written, digits kept."""
    result = []
    for i, value in enumerate(values):
        text = str(value).strip()
        try:
            number = Decimal(text)
        except InvalidOperation as error:
            comma = "; a comma parts no digits here: 1203 or 1203.5" if re.fullmatch(r"[+-]?[\d,.]+", text) else ""
            found = f"a {type(value).__name__}" if isinstance(value, list | dict) else shown(value)
            raise InputError(f"{where}: value {i} is {found}, no number{comma}") from error
        if number.is_snan():
            raise InputError(f"{where}: value {i} is {shown(value)}, no number")
        if number.is_finite() and not np.isfinite(float(number)):
            raise InputError(
                f"{where}: value {i} is {shown_number(text)}, more than a number in double precision can be"
            )
        result.append(number)
    return tuple(result)


def as_edges(values: Sequence[Any], where: str) -> Floats:
    """Return bin edges as they are written; they rise, are finite and start at 0 or above."""
    edges = np.array([float(v) for v in decimals(values, where)])
    if len(edges) < 2:
        empty = ": there are no rows" if len(edges) == 0 else ""
        raise InputError(f"{where}: {len(edges)} bin edges{empty}; at least two are needed")
    wrong = np.flatnonzero(~(np.isfinite(edges[1:]) & (np.diff(edges) > 0)))
    if len(wrong) or not edges[0] >= 0:
        i = int(wrong[0]) if len(wrong) else 0
        raise InputError(f"{where}: edges rise from 0 or above, found {edges[i]:g} and then {edges[i + 1]:g}")
    return edges


def joined_edges(low: Sequence[Any], high: Sequence[Any], where: str) -> Floats:
    """Join the lower and upper edges of bins that lie side by side; a gap or an overlap is an error."""
    lows, highs = ([float(v) for v in decimals(side, where)] for side in (low, high))
    for i in range(1, len(lows)):
        if not np.isclose(lows[i], highs[i - 1], rtol=1e-9, atol=0):
            raise InputError(
                f"{where}: bin {i - 1} ends at {highs[i - 1]:g} and bin {i} starts at {lows[i]:g}; bins lie side by side"
            )
    return as_edges([*lows, *highs[-1:]], where)


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
    if not unit and set(words) & (COUNT | DENSITY):
        unit = title_unit(header)
    # xlow, mjjmin: one word of a known prefix and a known end
    split = {s for w in words for p in PREFIX for s in LOW | HIGH if w == p + s}
    return {*words, *split}, unit


def value_unit(header: str, where: str, stated: str = "") -> str:
    """Return the unit of a column by what is stated, else by its name; a density is one by the unit of the mass."""
    words, unit = tokens(header)
    if stated or unit:
        return stated or unit
    if words & COUNT:
        return "counts"
    if not words & DENSITY:
        return ""
    if words & {"density", "densities", "dn"}:
        return PER_MASS
    raise InputError(
        f"{where}: a cross-section, but in which unit? Write it behind the name, as in [pb/GeV], or say --unit pb/GeV"
    )


def edge_unit(headers: Sequence[str], where: str) -> str:
    """Return the unit of the mass that the headers of lower and upper edges state; two different ones are an error."""
    stated = {axis_unit(header).lower(): axis_unit(header) for header in headers if axis_unit(header)}
    if len(stated) > 1:
        raise InputError(f"{where}: lower and upper edges are in different units: {', '.join(stated.values())}")
    return next(iter(stated.values()), "")


def told_apart(names: Sequence[str], qualifiers: Sequence[Sequence[str]]) -> list[str]:
    """Return the names of spectra, those of one name followed by the qualifiers that differ, else by their number.

    >>> told_apart(["D(SIG)", "D(SIG)", "N"], [["P P", "SQRT(S) 7000"], ["P P", "SQRT(S) 8000"], []])
    ['D(SIG) (SQRT(S) 7000)', 'D(SIG) (SQRT(S) 8000)', 'N']
    """
    result = list(names)
    for name in [n for n, times in Counter(names).items() if times > 1]:
        same = [i for i, n in enumerate(names) if n == name]
        common = set.intersection(*(set(qualifiers[i]) for i in same))
        told = [", ".join(q for q in qualifiers[i] if q not in common) for i in same]
        for number, i in enumerate(same, 1):
            own = told[number - 1]
            result[i] = f"{name} ({own if own and told.count(own) == 1 else number})"
    return result
