"""Which limits and checks belong to the result of a folder: a stamp beside them holds the hash of the result they were made of."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from jinja2 import UndefinedError

from ..errors import HunchError, shown
from .stamps import Key, hashed, why_stale, write_stamp

__all__ = [
    "ANEW",
    "belongs",
    "beside",
    "check_result",
    "describing",
    "made_of",
    "stamp_of_result",
    "validation_files",
    "written_by",
]

log = logging.getLogger(__name__)

WRITES = {
    "hunt": ("result.json", "figures"),
    "limits": ("limits.json", "limits"),
    "validate": ("validation.json", "validation"),
}
"""What is made in a folder -> its files; the hunt is that in spectra which others made."""
ANEW = "hunch run or hunch hunt writes it anew"
DAMAGE = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, UndefinedError)
"""What comes of a result that lacks something, or holds it in another form."""
FOUND = {"limits": "limits.json", "validate": "validation.json"}


@contextlib.contextmanager
def describing(*paths: Path) -> Iterator[None]:
    """Turn what goes wrong with the content of a result into a HunchError that names its files."""
    try:
        yield
    except DAMAGE as error:
        said = f"{type(error).__name__}: {shown(str(error), limit=200)}"
        named = ", ".join(map(str, paths))
        raise HunchError(f"{named}: damaged, or written by another version of hunch ({said}); {ANEW}") from error


def beside(output: Path) -> Path:
    """Return where a folder's stamps and pieces are: those of an analysis, or of a hunt in spectra that others made."""
    analysis = output / ".stages"
    return analysis if analysis.exists() else output / ".spectra"


def written_by(output: Path, name: str) -> list[Path]:
    """Return the files that something writes."""
    return [output / own for own in WRITES[name]]


def made_of(output: Path, name: str) -> Key:
    """Return the key of what is made of a result: the result's hash; that of a hunt is what it wrote."""
    return Key(name, None, () if name == "hunt" else hashed([output / "result.json"]), "")


def stamp_of_result(output: Path, name: str) -> None:
    """Note that something is made, and of which result."""
    write_stamp(beside(output) / f"{name}.json", made_of(output, name), written_by(output, name))


def belongs(output: Path, name: str) -> bool:
    """Tell whether limits or checks are there, of this very result, and as they were written; what is there and is not is said."""
    if not (output / FOUND[name]).is_file():
        return False
    why = why_stale(beside(output) / f"{name}.json", made_of(output, name), written_by(output, name))
    if why:
        log.warning("%s: left out of the report: %s %s; hunch %s makes it anew", output / FOUND[name], name, why, name)
    return why is None


def validation_files(output: Path) -> list[Path]:
    """Return the files of the checks where they belong to the result."""
    return written_by(output, "validate") if belongs(output, "validate") else []


def check_result(output: Path) -> None:
    """Raise HunchError where the result of a hunt in spectra, or its figures, were changed since; without a stamp that is not known."""
    stamp = output / ".spectra" / "hunt.json"
    if not stamp.is_file():
        log.warning(
            "%s: has no stamp beside it: whether it is as hunch hunt wrote it is not known", output / "result.json"
        )
        return
    why = why_stale(stamp, made_of(output, "hunt"), written_by(output, "hunt"))
    if why:
        raise HunchError(f"{output}: the hunt {why}; hunch hunt SPECTRUM -o {output} makes it anew")
