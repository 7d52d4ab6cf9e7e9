"""The base exception of the project, the one way its messages name what was meant, and how names of others are shown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = ["IN_QUOTES", "HunchError", "InputError", "nearest", "printable", "shown", "unknown_name"]


class HunchError(Exception):
    """Base of every error that a user can cause; the command line prints it without a traceback and exits 2."""


class InputError(HunchError):
    """A file, table or column is not what the caller said it is."""


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed name closest to `name` by edit distance, or None when nothing is close."""
    candidates = list(allowed)
    lowered = {c.lower(): c for c in reversed(candidates)}
    match = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    return lowered[match[0]] if match else None


def unknown_name(kind: str, name: object, allowed: Iterable[str], where: str = "", *, limit: int = 12) -> str:
    """Build the message for a name that does not exist: what was found, the nearest name, what is allowed.

    >>> unknown_name("column", "mass", ["mjj", "mJ_1"], "data.csv")
    "data.csv: no column 'mass'; allowed: mjj, mJ_1"
    """
    ordered = list(allowed)
    guess = nearest(name, ordered) if isinstance(name, str) else None
    if guess is not None:
        ordered = [guess, *(a for a in ordered if a != guess)]
    listed = ", ".join(map(printable, ordered[:limit])) + (
        f", ... ({len(ordered)} in all)" if len(ordered) > limit else ""
    )
    prefix = f"{where}: " if where else ""
    hint = f"; did you mean {guess!r}?" if guess is not None else ";"
    return f"{prefix}no {kind} {name!r}{hint} allowed: {listed or 'none'}"


IN_QUOTES = "a name that YAML reads as something else (no, on, 2018, null) stands in quotes: 'no'"
"""The hint behind a value that is no name."""


def shown(value: Any, *, limit: int = 60) -> str:
    """Return how a value is shown in a message: in quotes where it is text, nothing that a terminal acts on, the end of a long one cut.

    >>> shown("m" * 100, limit=12)
    "'mmmmmmmm..."
    """
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 1000:
        return f"a whole number of {value.bit_length()} bits"  # Python writes out none of 4,300 digits or more
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def printable(text: str, *, keep: str = "", limit: int | None = None) -> str:
    r"""Return text with every character that cannot be seen written out, as Python writes it in a repr.

    Names of regions, samples and columns come from files: an escape sequence in one would move the cursor of a terminal, a
    line feed would forge a line, a lone surrogate has no UTF-8. keep: characters that stay as they are; limit: characters,
    of which the middle is left out.

    >>> printable("QCD\x1b[31m\nHT")
    'QCD\\x1b[31m\\nHT'
    >>> printable("a_name_that_is_longer_than_a_legend", limit=12)
    'a_name…egend'
    """
    if limit is not None and len(text) > limit:
        end = (limit - 1) // 2
        text = f"{text[: limit - 1 - end]}…{text[len(text) - end :]}"
    if text.isprintable():
        return text
    return "".join(c if c in keep or c.isprintable() else repr(c)[1:-1] for c in text)
