"""Counts from what is published in their place: events per GeV, or a differential cross-section and a luminosity.

A published number is rounded. Turned back, it is a whole number of events only as far as its digits and those of the
luminosity say; whatever is further from one than that is no number of events and is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import numpy as np
import numpy.typing as npt

from ...errors import InputError

__all__ = [
    "Luminosity",
    "Unit",
    "ask_unit",
    "axis_unit",
    "bin_name",
    "counts_from",
    "mass_scale",
    "read_luminosity",
    "read_unit",
    "title_unit",
    "to_gev",
]

Floats = npt.NDArray[np.float64]
BARN = {"mb": 1e9, "ub": 1e6, "mub": 1e6, "nb": 1e3, "pb": 1.0, "fb": 1e-3, "ab": 1e-6}  # in pb
ENERGY = {"gev": 1.0, "tev": 1e3, "mev": 1e-3}
COUNTS = {"", "1", "n", "count", "counts", "event", "events", "entries"}
NUMBER = r"\d+(?:\.\d*)?(?:e[+-]?\d+)?"
MASS = r"[kmgtp]?ev(?:\s*/?\s*c(?:(?:\^|\*\*)?-?2|²)?)?"
COLLISIONS = re.compile(r"(?:\\?sqrt\(?s(?:_?nn)?\)?=)?(?:0\.9|2\.76|5\.02|7|8|8\.16|13|13\.6|14)tev", re.IGNORECASE)
"""Energies of collisions, which stand in titles of axes too and are no unit."""
ASKED = 650
"""Masses that end below sqrt_s over this number (20 GeV at 13 TeV) may be in TeV: no less than half of sqrt_s would be hunted in."""
LARGEST = 2**53
"""Counts from which on floating point does not hold every whole number."""
DIGITS = 400
"""Powers of ten that a number of events or GeV stays below."""
UNITS = "counts, events/GeV, pb/GeV, fb/GeV, pb/TeV, fb/TeV and the like"
FLOOR = 1e-3  # binary rounding of numbers that were computed, events
COARSE = 1.0  # digits that move a bin by more than its statistical error leave no spectrum to fit
SEEN = 0.2


@dataclass(frozen=True)
class Unit:
    """What a value means: a count; or divided by a bin width (GeV), or a cross-section (pb), or both.

    in_bins: whether the width is a number (events/20 GeV), which may be that of the bins: such values are counts.
    """

    text: str
    per_energy: float | None = None
    cross_section: float | None = None
    in_bins: bool = False

    @property
    def is_count(self) -> bool:
        """Tell whether the value is a number of events already."""
        return self.per_energy is None and self.cross_section is None


@dataclass(frozen=True)
class Luminosity:
    """An integrated luminosity in inverse pb and the relative half unit of its last digit."""

    per_pb: float
    rounding: float


def read_unit(text: str, where: str = "") -> Unit:
    """Read a unit as people write it: counts, events/GeV, 1/GeV, pb/GeV, PB/GEV, fb TeV^-1, pb.

    >>> read_unit("fb/TeV").per_energy, read_unit("fb/TeV").cross_section
    (1000.0, 0.001)
    >>> read_unit("events").is_count
    True
    """
    plain = undecorated(re.sub(r"\\mu", "u", text.lower()))
    plain = re.sub(r"[\s*()]|(?<!\d)\.|\.(?!\d)", "", plain).replace("per", "/")
    plain = re.sub(r"(gev|tev|mev)\^?-1", r"/\1", re.sub(r"/c\^?2$", "", plain)).replace("//", "/")
    top, slash, bottom = plain.partition("/")
    counted = re.match(NUMBER, bottom)
    number = counted[0] if counted else None
    energy = bottom.removeprefix(number or "")
    known = (top in COUNTS or top in BARN) and (not slash or energy in ENERGY or bottom == "bin")
    if not known:
        axis = "; that of the mass is --mass-unit" if plain in ENERGY else ""
        raise InputError(f"{where + ': ' if where else ''}no unit {text!r}; allowed: {UNITS}{axis}")
    per = ENERGY[energy] * float(number or 1) if energy in ENERGY else None
    return Unit(text.strip() or "counts", per, BARN.get(top), in_bins=number is not None)


def title_unit(title: str) -> str:
    """Return the unit of the values that the title of an axis states, "" where it is none but events in a bin.

    >>> [title_unit(t) for t in ("Events / GeV", "Events / (20 GeV)", "d#sigma/dm [fb/TeV]", "dN/dm [GeV^{-1}]", "Jets")]
    ['events/GeV', 'events/20 GeV', 'fb/TeV', 'events/GeV', '']
    """
    plain = re.sub(r"[\s()\[\]*]", "", undecorated(title).lower()).replace("per", "/")
    words = re.sub(r"[()\[\]]", " ", undecorated(title).lower())
    barn = re.search(r"(?<![a-z/])([mnpfau]b|mub)\s*(?:/|[gtm]ev\s*\^?-1|$)", words)
    top = barn.group(1) if barn else "events"
    by = re.search(rf"/({NUMBER})?(gev|tev|mev)", plain) or re.search(r"()(gev|tev|mev)\^?-1", plain)
    energy = f"{by.group(2)[0].upper()}eV" if by else ""
    return f"{top}/{by.group(1) + ' ' if by.group(1) else ''}{energy}" if by else (top if barn else "")


def to_gev(text: str, where: str) -> float:
    """Return the factor from the mass unit of a file to GeV; none stated means GeV.

    >>> to_gev("GeV/c^{2}", "x"), to_gev("TeV", "x"), to_gev("", "x")
    (1.0, 1000.0, 1.0)
    """
    plain = re.sub(r"/?c(?:(?:\^|\*\*)?-?2|²)?$", "", re.sub(r"\s", "", undecorated(text)).lower()) or "gev"
    if plain not in ENERGY:
        raise InputError(f"{where}: the mass is in {text!r}; allowed: GeV, TeV, MeV. --mass-unit says it in its place")
    return ENERGY[plain]


def undecorated(title: str) -> str:
    """Return a title without what TLatex and LaTeX put around its words.

    >>> undecorated(r"#it{m}_{jj} [GeV/#it{c}^{2}]"), undecorated(r"$m_{jj}$ [$\\mathrm{TeV}$]")
    ('m_jj [GeV/c^2]', 'm_jj [TeV]')
    """
    plain = re.sub(r"#(?:font|scale|color|kern|lower|raise)\[[^\]]*\]|#(?:it|bf|rm|sf|tt|,|;|:|!|/)", "", title)
    plain = re.sub(r"\\(?:mathrm|mathit|mathsf|text|textrm|mbox|rm|it|bf|,|;|:|!|quad)(?![a-z])", "", plain)
    return re.sub(r"[${}\\~]", "", plain)


def axis_unit(title: str) -> str:
    """Return the unit of the mass that a title or a column's name states, "" where it states none.

    >>> [axis_unit(t) for t in ("m_{jj} [TeV]", "m (TeV)", "m / TeV", "mass in MeV", "mjj_low_TeV", "mjj_TeV_low", "mjj")]
    ['TeV', 'TeV', 'TeV', 'MeV', 'TeV', 'TeV', '']
    >>> axis_unit("#it{m} [GeV/#it{c}^{2}]"), axis_unit("m_{jj} at 13 TeV [GeV]"), axis_unit("m_{jj} (13 TeV)")
    ('GeV/c^2', 'GeV', '')
    """
    plain = undecorated(title)
    inside = [m[0] or m[1] for m in reversed(re.findall(r"\[([^\[\]]*)\]|\(([^()]*)\)", plain))]
    for inner in inside:
        if re.search(r"[kmgtp]?ev(?![a-z])", inner, re.IGNORECASE) and not COLLISIONS.fullmatch(inner.replace(" ", "")):
            word = re.match(rf"\s*({MASS})\s*[,;]", inner, re.IGNORECASE)
            return str(word.group(1) if word else inner).strip()
    if brackets := [b for b in re.findall(r"\[([^\[\]]*)\]", plain) if not COLLISIONS.fullmatch(b.replace(" ", ""))]:
        return str(brackets[-1]).strip()
    # a name's own end or part (mjj_TeV, mjj_TeV_low), or a word at the end that no number stands before
    bare = re.search(rf"(?:^|[^0-9.\s]\s+|[^0-9.]_|/\s*)({MASS})\s*$", plain, re.IGNORECASE)
    bare = bare or re.search(rf"[^0-9._]_({MASS})_(?![0-9])", plain, re.IGNORECASE)
    return bare.group(1).strip() if bare else ""


def mass_scale(stated: str, given: str | None, where: str) -> float:
    """Return the factor to GeV of a mass whose unit a file states ("" for none), or the caller, or nobody.

    Raises InputError where the two contradict each other, and where the only one is none of a mass.
    """
    if given is None:
        return to_gev(stated, where)
    asked = to_gev(given, "--mass-unit")
    try:
        own = to_gev(stated, where) if stated else asked
    except InputError:
        own = asked  # "[jets]": what is no unit of a mass contradicts none
    if own != asked:
        raise InputError(f"{where}: the file says that the mass is in {stated}, --mass-unit says {given}")
    return asked


def ask_unit(high: float, *, sqrt_s: float, where: str, hint: str) -> None:
    """Refuse masses that end (GeV) where they would in TeV, and of which nobody says that they are in GeV."""
    if high * ASKED < sqrt_s:
        raise InputError(
            f"{where}: the mass ends at {high:g}, and no unit is stated: GeV or TeV? {hint}, or say --mass-unit TeV (or GeV)"
        )


def read_luminosity(text: str) -> Luminosity:
    """Read an integrated luminosity: "19.7" and "19.7/fb" are inverse femtobarn, "19700/pb" inverse picobarn; 0.02 ab^-1 as well."""
    match = re.fullmatch(r"\s*([0-9.eE+]+?)\s*(?:/?\s*(mb|ub|nb|pb|fb|ab)(?:\s*\^?-1)?)?\s*", text)
    try:
        number = Decimal(match.group(1)) if match else Decimal(0)
    except InvalidOperation:
        number = Decimal(0)
    if match is None or number <= 0:
        raise InputError(f"--luminosity {text!r}: a positive number is expected, as in 19.7 or 19.7/fb or 19700/pb")
    return Luminosity(float(number) / BARN[match.group(2) or "fb"], float(half_unit(number) / number))


def half_unit(value: Decimal) -> Decimal:
    """Return half a unit of the last digit written; of 1.50 it is 0.005, of 1.5e3 it is 50."""
    exponent = value.as_tuple().exponent
    return Decimal(5).scaleb(exponent - 1) if isinstance(exponent, int) else Decimal(0)


def half_units(values: Sequence[Decimal]) -> Floats:
    """Return how far each value of a column may be from what was rounded to it.

    Zeros at the end are often left out, so a value has as many decimals, or as many significant digits, as the column's
    longest: whichever of the two says less of it, and never less than its own digits say.
    """
    decimals = min(int(v.as_tuple().exponent) for v in values)
    digits = max(len(v.as_tuple().digits) for v in values)
    result = []
    for value in values:
        significant = Decimal(5).scaleb(value.adjusted() - digits) if value else Decimal(0)
        result.append(float(min(half_unit(value), max(Decimal(5).scaleb(decimals - 1), significant))))
    return np.array(result)


def counts_from(
    values: Sequence[Decimal],
    edges: Floats,
    unit: Unit,
    *,
    luminosity: Luminosity | None = None,
    where: str,
) -> tuple[Floats, str | None]:
    """Return whole numbers of events (bins,) from values as written, and what their rounding leaves open (or None).

    Raises InputError, naming the bin, for values that are negative or no numbers, for counts that are no whole numbers,
    for densities that no whole number explains within the digits written, and for digits too few to fit to.
    """
    for i, value in enumerate(values):
        if not value.is_finite() or value < 0:
            raise InputError(f"{where}: {bin_name(edges, i)} holds {value}; counts and densities are 0 or larger")
        if value and abs(value.adjusted()) > DIGITS:
            raise InputError(f"{where}: {bin_name(edges, i)} holds {value}, which is no number of events")
    written = np.array([float(v) for v in values])
    if unit.is_count:
        wrong = np.flatnonzero(written != np.round(written))
        if len(wrong):
            raise InputError(
                f"{where}: {bin_name(edges, int(wrong[0]))} holds {values[wrong[0]]}, and {len(wrong)} of {len(values)} bins no "
                "whole number; data are counts without weights. For a density or a cross-section say --unit events/GeV or --unit pb/GeV"
            )
        check_size(written, edges, where)
        return written, None
    scale = np.diff(edges) / unit.per_energy if unit.per_energy else np.ones(len(values))
    if unit.cross_section is not None:
        if luminosity is None:
            raise InputError(
                f"{where}: the values are a cross-section ({unit.text}); --luminosity turns it into events, as in --luminosity 19.7/fb"
            )
        scale = scale * unit.cross_section * luminosity.per_pb
    events = written * scale
    digits = half_units(values) * scale
    common = luminosity.rounding * events if luminosity is not None and unit.cross_section is not None else 0.0
    allowed = FLOOR + 1e-9 * events + digits + common
    counts = np.round(events)
    check_size(counts, edges, where)
    wrong = np.flatnonzero(np.abs(events - counts) > allowed)
    if len(wrong):
        i = int(wrong[0])
        raise InputError(
            f"{where}: {bin_name(edges, i)} holds {values[i]} {unit.text}, which is {events[i]:.6g} events; its digits allow "
            f"{events[i] - allowed[i]:.6g} to {events[i] + allowed[i]:.6g}, no whole number ({len(wrong)} of {len(values)} bins). "
            "Is the unit or the luminosity another? Corrected or weighted values cannot be hunted in: counts are needed"
        )
    share = digits / np.sqrt(np.maximum(counts, 1.0))
    worst = int(np.argmax(share))
    if share[worst] > COARSE:
        raise InputError(
            f"{where}: {bin_name(edges, worst)}: the digits written ({values[worst]} {unit.text}) leave {digits[worst]:.3g} events of "
            f"{counts[worst]:.0f} open, more than the statistical error {np.sqrt(max(counts[worst], 1.0)):.3g}: counts are needed"
        )
    open_bins = int((allowed >= 0.5).sum())
    if not open_bins:
        return counts, None
    note = f"{where}: counts from {unit.text}; the digits written do not fix the whole number in {open_bins} of {len(counts)} bins"
    if share[worst] > SEEN:
        note += f" (up to {share[worst]:.2f} of a bin's statistical error, {bin_name(edges, worst)})"
    return counts, note


def check_size(counts: Floats, edges: Floats, where: str) -> None:
    """Refuse numbers of events that floating point does not tell from their neighbours, naming the bin."""
    wrong = np.flatnonzero(~(counts < LARGEST))
    if len(wrong):
        i = int(wrong[0])
        raise InputError(f"{where}: {bin_name(edges, i)} holds {counts[i]:g} events; fewer than 2^53 are expected")


def bin_name(edges: Floats, i: int) -> str:
    """Name a bin as a reader finds it: "bin 3 (1181 to 1246 GeV)", counted from 0."""
    return f"bin {i} ({edges[i]:g} to {edges[i + 1]:g} GeV)"
