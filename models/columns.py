"""Events as columns with names: tables, data frames and records of whatever library, taken by name and never by place."""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import unknown_name
from ..table import CHOICE, EVENT_ID, IDENTITY, Table, differing_settings
from .inputs import DtypeError, ScorerError, ShapeError

__all__ = [
    "NO_INPUTS",
    "columns_of",
    "input_columns",
    "made_by",
    "refuse_missing",
    "refuse_other_settings",
    "say_surplus",
    "stacked",
]

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]

NO_INPUTS = {**dict.fromkeys((*IDENTITY, EVENT_ID), "tells events apart"), "truth_signal": "is a label"}
"""Columns that nothing trains on, and why."""
BESIDE = (*NO_INPUTS, "mjj", "genWeight", "fold")
"""Columns that stand beside the inputs in tables of this project: nobody needs to be told that a scorer does not read them."""


def columns_of(x: Any, where: str = "x") -> dict[str, Any] | None:
    """Return name -> column of what names its columns, None for an array, which does not.

    x: a table, a mapping of columns, a data frame (pandas, polars), an Arrow table, awkward records, a structured array, or a list
    of mappings, one a row. Columns are not converted. Raises ScorerError for a name that is there twice, and for a list of tables.
    """
    named: list[tuple[Any, Any]]
    if isinstance(x, Mapping):
        named = list(x.items())
    elif isinstance(x, np.ndarray):
        if x.dtype.names is None:
            return None
        named = [(name, x[name]) for name in x.dtype.names]
    elif isinstance(x, list | tuple):
        if not x or not isinstance(x[0], Mapping):
            return None
        named = [(name, [row.get(name) for row in x]) for name in dict.fromkeys(n for row in x for n in row)]
    elif isinstance(getattr(x, "column_names", None), list):  # Arrow
        named = [(name, x.column(i)) for i, name in enumerate(x.column_names)]
    elif hasattr(x, "iloc") and hasattr(x, "columns"):  # pandas, where a name may be there twice
        named = [(name, x.iloc[:, i]) for i, name in enumerate(x.columns)]
    elif hasattr(x, "columns") and hasattr(x, "__getitem__") and not callable(x.columns):
        named = [(name, x[name]) for name in x.columns]
    elif type(x).__module__.startswith("awkward") and x.fields:
        named = [(name, x[name]) for name in x.fields]
    else:
        return None
    names = [str(name) for name, _ in named]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ScorerError(f"{where}: column {twice[0]!r} is there {len([n for n in names if n == twice[0]])} times")
    return dict(zip(names, (column for _, column in named), strict=True))


def input_columns(names: Iterable[str], where: str = "x") -> tuple[str, ...]:
    """Return the names of columns, all of which are to be inputs; raises ScorerError where some cannot be, with those that can."""
    names = tuple(names)
    told = [f"column {name!r} {NO_INPUTS[name]}" for name in names if name in NO_INPUTS]
    if told:
        left = [name for name in names if name not in BESIDE]
        raise ScorerError(f"{where}: {', '.join(told)}: nothing trains on that; give the inputs alone, as in x[{left}]")
    return names


def stacked(columns: Mapping[str, Any], names: Sequence[str], where: str = "x") -> Array:
    """Return named columns side by side: rows (n, d) float64 of numbers, (n, jets, a, b) of arrays (n, a, b).

    Missing values become NaN. Raises ScorerError for a column that is not there, with the nearest name and all that are
    missing, DtypeError for one that holds no numbers, ShapeError for columns of different lengths or shapes.
    """
    refuse_missing(names, columns, where)
    if not names:
        raise ShapeError(f"{where}: has no columns")
    found = {name: as_column(columns[name], name, where) for name in names}
    first = found[names[0]].shape
    for name, values in found.items():
        if values.shape != first:
            raise ShapeError(f"{where}: column {name!r} has the shape {values.shape}, {names[0]!r} has {first}")
        if values.ndim not in {1, 3}:
            raise ShapeError(
                f"{where}: column {name!r} has the shape {values.shape}: neither a number nor an image a row"
            )
    if len(first) == 1:
        return np.stack([values.astype(np.float64) for values in found.values()], axis=1)
    return np.stack(list(found.values()), axis=1)


def refuse_missing(names: Sequence[str], found: Collection[str], where: str) -> None:
    """Raise ScorerError where a column that is needed is not among those found: the nearest name, and all that are missing."""
    missing = [name for name in names if name not in found]
    if missing:
        more = f"; {len(missing)} are missing in all: {', '.join(missing[:12])}" if len(missing) > 1 else ""
        raise ScorerError(f"{unknown_name('column', missing[0], found, where)}{more}")


def made_by(x: Any) -> dict[str, Any]:
    """Return how the columns of a table were made: "representation" and "settings" of its metadata; nothing of other events."""
    if not isinstance(x, Table) or not isinstance(x.metadata.get("settings"), Mapping):
        return {}
    settings = {name: value for name, value in x.metadata["settings"].items() if name not in CHOICE}
    return {"representation": x.metadata.get("representation"), "settings": settings}


def refuse_other_settings(made: Mapping[str, Any], trained: Mapping[str, Any], where: str) -> None:
    """Raise ScorerError where columns were made with other settings than those of the training, as jets of another radius."""
    differing = differing_settings(made, trained, cuts=False)
    if differing:
        told = ", ".join(f"{name} = {mine}, trained on {other}" for name, (mine, other) in differing.items())
        raise ScorerError(
            f"{where}: its columns were made with other settings than those that the scorer was trained on: {told}"
        )


def as_column(values: Any, name: str, where: str) -> Array:
    """Return a column as an array of numbers, missing ones as NaN; raises DtypeError, which names it."""
    if type(values).__module__.startswith("awkward"):
        import awkward as ak

        try:
            found: Any = ak.to_numpy(values)
        except ValueError as error:
            raise DtypeError(f"{where}: column {name!r} does not hold one number a row: {values.type}") from error
    elif hasattr(values, "to_numpy"):
        kind = getattr(values, "dtype", None)
        if (
            hasattr(kind, "na_value") and getattr(kind, "kind", "O") in "fiub"
        ):  # pandas' own types, which know of missing values
            found = values.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            found = values.to_numpy()
    else:
        found = values
    if isinstance(found, np.ma.MaskedArray):
        found = np.ma.filled(found.astype(np.float64), np.nan)
    try:
        found = np.asarray(found)
        if isinstance(values, list) and found.dtype == object:  # None for what a row does not have
            found = found.astype(np.float64)
    except (ValueError, TypeError) as error:
        raise DtypeError(f"{where}: column {name!r} does not hold one number a row: {error}") from error
    if found.dtype.kind not in "fiub":
        raise DtypeError(
            f"{where}: column {name!r} holds {'text' if found.dtype.kind in 'UST' else found.dtype}, not real numbers; first {found[:1].tolist()}"
        )
    return np.asarray(found)


@functools.cache
def say_surplus(found: tuple[str, ...], read: tuple[str, ...], where: str) -> None:
    """Log once a process which columns a scorer does not read, or in which order one that knows no names takes them.

    Those that stand beside the inputs of any table are not worth it.
    """
    if not read:
        logger.warning(
            "%s: the scorer knows no names of its inputs; columns are taken in this order: %s", where, ", ".join(found)
        )
        return
    surplus = [name for name in found if name not in read and name not in BESIDE and not name.startswith("loss_")]
    if surplus:
        shown = ", ".join(surplus[:12]) + (f", ... ({len(surplus)} in all)" if len(surplus) > 12 else "")
        logger.warning("%s: columns that the scorer was not trained on are left out: %s", where, shown)
