"""Numbers as the field's users write them in an analysis file: 1e3, 13 TeV, 137/fb."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ..errors import HunchError

__all__ = ["ENERGY", "energies_in", "known_unit", "luminosity_in_fb", "number"]

ENERGY = {"eV": 1e-9, "keV": 1e-6, "MeV": 1e-3, "GeV": 1.0, "TeV": 1e3, "PeV": 1e6}
"""Units of energies, in GeV."""
EXPONENT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")
WITH_UNIT = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([kMGTP]?eV)\s*", re.IGNORECASE)


def number(value: Any) -> Any:
    """Return 1e3, which YAML takes for a text, as the number that it is, whole where it is whole; anything else as it is.

    >>> number("1e3"), number("1.5e-1"), number("1000")
    (1000, 0.15, '1000')
    """
    if not isinstance(value, str) or not EXPONENT.fullmatch(value.strip()):
        return value
    found = float(value)
    if not math.isfinite(found):
        return value
    return int(found) if found.is_integer() and abs(found) < 2**53 else found


def known_unit(unit: str) -> str:
    """Return a unit of energy as it is written, whatever the case; any other unit as it is.

    >>> known_unit("tev"), known_unit("cm")
    ('TeV', 'cm')
    """
    exact = [known for known in ENERGY if known == unit]
    return (exact or [known for known in ENERGY if known.lower() == unit.strip().lower()] or [unit])[0]


def energies_in(unit: str, given: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """Return the values of some keys, single ones or lists, where any has a unit: as numbers in `unit`.

    Raises ValueError, which names the key, where the observable's own unit is none of energy.
    """
    found: dict[str, Any] = {}
    for key in keys:
        value = given.get(key)
        if isinstance(value, list):
            parts = [in_unit(part, unit, key) for part in value]
            if parts != value:
                found[key] = parts
        elif isinstance(value, str) and WITH_UNIT.fullmatch(value):
            found[key] = in_unit(value, unit, key)
    return found


def in_unit(value: Any, unit: str, key: str) -> Any:
    """Return an energy with a unit as a number in another one; anything else as it is."""
    match = WITH_UNIT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return value
    if unit not in ENERGY:
        raise ValueError(
            f"{key}: {value!r} is an energy, and the observable is in {unit or 'no unit'}; a number is expected"
        )
    return float(f"{float(match[1]) * ENERGY[known_unit(match[2])] / ENERGY[unit]:.12g}")


def luminosity_in_fb(value: Any) -> Any:
    """Return a luminosity with its unit, as in 137/fb, 137 fb^-1 or 0.137/ab, as a number in inverse femtobarn.

    Raises ValueError for a text that is no luminosity; a number is one in inverse femtobarn.
    """
    if not isinstance(value, str):
        return value
    from ..analysis import read_luminosity

    try:
        return float(f"{read_luminosity(value).per_pb / 1000:.12g}")
    except HunchError as error:
        raise ValueError("a number in fb^-1 is expected, or one with its unit, as in 137/fb or 0.137/ab") from error
