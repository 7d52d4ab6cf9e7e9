"""Names of regions as other programs can hold them: combine's bins, ROOT's folders, HistFactory's channels, files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ...errors import printable

__all__ = ["renamed", "valid_name", "valid_names"]

LONGEST = 60  # characters: what is made of a name becomes a file's, and those end at 255 bytes


def valid_name(name: str, *, prefix: str = "bin") -> str:
    """Return a name of ASCII letters, digits and underscores that begins with a letter; combine refuses one that begins with a digit.

    >>> valid_name("region 0 (nested)"), valid_name("2018_mjj"), valid_name("+")
    ('region_0_nested', 'bin_2018_mjj', 'bin')
    """
    made = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")[:LONGEST].strip("_")
    return made if made[:1].isalpha() else f"{prefix}_{made}".rstrip("_")


def valid_names(names: Sequence[str], *, prefix: str = "bin") -> dict[str, str]:
    """Return name -> valid name for different names, no two alike, capitals aside: what would be has _2, _3, ... behind it.

    A name that is valid keeps itself.
    """
    made = {name: name for name in names if valid_name(name, prefix=prefix) == name}
    taken = {name.lower() for name in made}
    if len(taken) < len(made):  # a and A are one file where the system knows no capitals
        made, taken = {}, set()
    for name in names:
        if name in made:
            continue
        base = valid_name(name, prefix=prefix)
        found, number = base, 1
        while found.lower() in taken:
            number += 1
            found = f"{base}_{number}"
        made[name] = found
        taken.add(found.lower())
    return {name: made[name] for name in names}


def renamed(names: Mapping[str, str]) -> list[str]:
    """Say in a line each, for a comment, which region a name stands for where it is another."""
    return [f"{valid} is region {printable(name)!r}" for name, valid in names.items() if valid != name]
