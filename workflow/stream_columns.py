"""Which columns of a stream are what: those that a scorer was trained on, by name, and those that identify the event."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError, unknown_name
from ..table import EVENT_ID, IDENTITY
from ..tabular import is_number

__all__ = ["NO_FEATURES", "Layout", "laid_out"]

log = logging.getLogger(__name__)

NO_FEATURES = (*IDENTITY, "mjj", "truth_signal", EVENT_ID, "genWeight")
"""Columns that are no features unless they are named: who the event is, what is hunted in, what is the truth, what it weighs."""
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}
SHOWN = 12


@dataclass(frozen=True)
class Layout:
    """Which columns of a source are what; unit: "line" or "row", what its places count.

    features: of the source, in the order in which the scorer takes them.
    """

    source: str
    unit: str
    header: tuple[str, ...]
    identity: tuple[str, ...]
    features: tuple[str, ...]


def laid_out(
    source: str, header: Sequence[str], columns: Sequence[str] | None, names: Sequence[str], width: int, *, unit: str
) -> Layout:
    """Find identity and features among a source's columns.

    columns: the features as the user names them, else those of `names`, which the scorer was trained on; where it knows no
    names, all but NO_FEATURES in the order of the source, which must be `width`, and which is logged. Columns that are read by nobody are
    logged. Raises InputError for a column that is missing or there twice, and for what is no header.
    """
    refuse_no_header(source, header, names)
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(f"{source}: column {twice[0]!r} is there {header.count(twice[0])} times")
    if columns:
        features = given(source, columns, names, header)
    elif names:
        refuse_missing(source, names, header)
        features = tuple(names)
    else:
        features = tuple(name for name in header if name not in NO_FEATURES)
    if len(features) != width:
        dropped = "" if columns else f" besides {', '.join(NO_FEATURES)}"
        raise InputError(
            f"{source}: {len(features)} columns{dropped} ({', '.join(features) or 'none'}), the scorer was trained on "
            f"{width}; name them in the order of training with --columns"
        )
    if not names and not columns:
        log.warning(
            "%s: the scorer knows no names of its inputs (it was trained on an array, or stored by an older version); columns "
            "are taken in this order: %s; --columns names them in the order of training",
            source,
            ", ".join(features),
        )
    surplus = [name for name in header if name not in features and name not in NO_FEATURES]
    if surplus:
        shown = ", ".join(surplus[:SHOWN]) + (f", ... ({len(surplus)} in all)" if len(surplus) > SHOWN else "")
        log.warning("%s: columns that the scorer does not read are left out: %s", source, shown)
    return Layout(source, unit, tuple(header), tuple(name for name in IDENTITY if name in header), features)


def given(source: str, columns: Sequence[str], names: Sequence[str], header: Sequence[str]) -> tuple[str, ...]:
    """Return the features that the user names, in the order in which the scorer takes them.

    The scorer's own names may come in any order; other names stand for the inputs in the order of training, which is
    logged. Raises InputError for a name that is not in the source or given twice, and for own names in another's place.
    """
    for name in columns:
        if name not in header:
            raise InputError(unknown_name("column", name, header, source))
        if list(columns).count(name) > 1:
            raise InputError(f"--columns: {name!r} is named twice")
    if not names or len(columns) != len(names):
        if names:
            raise InputError(
                f"--columns: {len(columns)} columns are named ({', '.join(columns)}), the scorer was trained on {len(names)}: "
                f"{', '.join(names)}"
            )
        return tuple(columns)
    if set(columns) == set(names):
        return tuple(names)
    for mine, own in zip(columns, names, strict=True):
        if mine != own and mine in names:
            raise InputError(
                f"--columns: {mine!r} stands in the place of {own!r}, and the scorer was trained on a column {mine!r}; "
                f"the order of training is {', '.join(names)}"
            )
    taken = [f"{mine} as {own}" for mine, own in zip(columns, names, strict=True) if mine != own]
    log.warning("%s: columns are taken as --columns says: %s", source, ", ".join(taken))
    return tuple(columns)


def refuse_missing(source: str, names: Sequence[str], header: Sequence[str]) -> None:
    """Raise InputError where a source lacks a column that the scorer was trained on: the nearest one, and all that are missing."""
    missing = [name for name in names if name not in header]
    if missing:
        more = f"; {len(missing)} of {len(names)} are missing: {', '.join(missing[:SHOWN])}" if len(missing) > 1 else ""
        raise InputError(f"{unknown_name('column', missing[0], header, source)}{more}; the scorer was trained on it")


def refuse_no_header(source: str, header: Sequence[str], names: Sequence[str]) -> None:
    """Raise InputError where what stands for a header holds values, or is not cut at commas; names: that the scorer knows."""
    if names and set(names) <= set(header):
        return
    numbers = [name for name in header if is_number(name)]
    if numbers:
        shown = ",".join(header)[:60]
        raise InputError(f"{source}: line 1 holds numbers ({shown}); names of columns are expected there")
    if len(header) == 1:
        for separator, called in SEPARATORS.items():
            if separator in header[0]:
                raise InputError(f"{source}: line 1 is cut at {called} ({header[0][:60]}); commas are expected")
