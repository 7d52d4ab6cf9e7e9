"""What a scorer accepts: a finite numeric table, checked once at the door, and the errors that say what was wrong."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import HunchError, shown, unknown_name

__all__ = [
    "DtypeError",
    "MissingPackageError",
    "NonFiniteError",
    "NotFittedError",
    "ScorerError",
    "ShapeError",
    "TooFewRowsError",
    "UnknownMetricError",
    "as_matrix",
    "check_metric",
    "require_numbers",
    "require_switches",
    "require_whole",
    "required_package",
    "whole_number",
]

Matrix = npt.NDArray[np.float64]
MOST_SEED = 2**63 - 1
JETS = "; these look like images or constituents of jets, which is another representation"


class ScorerError(HunchError):
    """Base of every error that a scorer raises."""


class NonFiniteError(ScorerError):
    """The input holds NaN or infinity."""


class ShapeError(ScorerError):
    """The input has another number of columns or axes than the scorer works on."""


class DtypeError(ScorerError):
    """The input does not hold real numbers."""


class TooFewRowsError(ScorerError):
    """There are too few rows to train on."""


class NotFittedError(ScorerError):
    """The scorer is used before it was fitted."""


class MissingPackageError(ScorerError):
    """What was asked for needs a package that is not installed."""


class UnknownMetricError(ScorerError):
    """The scorer does not give this metric."""


def as_matrix(
    x: Any,
    *,
    name: str = "x",
    n_columns: int | None = None,
    min_rows: int = 0,
    columns: Sequence[str] | None = None,
) -> Matrix:
    """Return a table of real numbers as float64 (n, d), or say what is wrong with it.

    x: (n, d) of any integer, boolean or float type. name: what the table is called in errors.
    n_columns: the d that is required, if any. min_rows: the n that is required. columns: names for errors.
    Raises DtypeError, ShapeError, NonFiniteError (column indices and row counts), TooFewRowsError.
    """
    if isinstance(x, np.ma.MaskedArray):
        x = np.ma.filled(x.astype(np.float64), np.nan)
    values = np.asarray(x)
    if values.dtype.kind not in "fiub":
        raise DtypeError(f"{name}: holds {values.dtype}, not real numbers; allowed: float, integer and boolean arrays")
    if values.ndim != 2 or values.shape[1] == 0:
        hint = {1: "; reshape one column with x[:, None]", 3: JETS, 4: JETS}.get(values.ndim, "")
        raise ShapeError(f"{name}: has shape {values.shape}, a table (rows, columns) is needed{hint}")
    if n_columns is not None and values.shape[1] != n_columns:
        told = f": {', '.join(columns)}" if columns else ""
        raise ShapeError(f"{name}: has {values.shape[1]} columns, the scorer was trained on {n_columns}{told}")
    if columns is not None and len(columns) != values.shape[1]:
        raise ShapeError(f"{name}: has {values.shape[1]} columns, {len(columns)} names are given: {', '.join(columns)}")
    bad = ~np.isfinite(values)
    if bad.any():
        counts = bad.sum(axis=0)
        named = columns or [str(j) for j in range(values.shape[1])]
        listed = ", ".join(f"{named[j]} ({counts[j]} rows)" for j in np.flatnonzero(counts)[:12])
        n_rows = int(bad.any(axis=1).sum())
        raise NonFiniteError(
            f"{name}: NaN or infinity in {n_rows} of {len(values)} rows, in columns {listed}; "
            "first such row " + str(int(np.flatnonzero(bad.any(axis=1))[0]))
        )
    if len(values) < min_rows:
        raise TooFewRowsError(f"{name}: has {len(values)} rows, at least {min_rows} are needed")
    with np.errstate(over="ignore"):  # long doubles beyond float64; the scaling is bounded at 1e300 anyway
        return np.clip(values.astype(np.float64), -1e300, 1e300)


def check_metric(metric: str | None, metrics: tuple[str, ...], scorer: str) -> str:
    """Return the metric asked for, the first of `metrics` for None; raises UnknownMetricError with the nearest name."""
    if metric is None:
        return metrics[0]
    if metric not in metrics:
        raise UnknownMetricError(unknown_name("metric", metric, metrics, scorer))
    return metric


def required_package(module: str, package: str, purpose: str) -> Any:
    """Import a module that only some uses need; raises MissingPackageError naming the package and the purpose."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(f"{purpose} needs the package {package}: pip install {package.lower()}") from error


def whole_number(name: str, value: Any) -> int:
    """Return an option as an integer; raises ScorerError for anything else, 2.0 and True too."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ScorerError(f"{name} is {value!r}; a whole number is expected")
    return int(value)


def require_whole(options: Any, least: Mapping[str, int]) -> None:
    """Raise ScorerError for the first of some attributes that is no whole number, or below the least that it may be."""
    for name, low in least.items():
        value = getattr(options, name)
        if whole_number(name, value) < low:
            raise ScorerError(f"{name} is {shown(value)}, allowed: {low} or more")


def require_seed(options: Any) -> None:
    """Raise ScorerError for a seed that is no whole number from 0 to 2^63 - 1, the most that torch and numpy both take."""
    require_whole(options, {"seed": 0})
    if options.seed > MOST_SEED:
        raise ScorerError(f"seed is {shown(options.seed)}, allowed: 0 to {MOST_SEED}")


def require_numbers(options: Any, names: Iterable[str], *, zero: bool = False) -> None:
    """Raise ScorerError for the first of some attributes that is no finite number above 0; zero: whether 0 is one of them."""
    for name in names:
        value = getattr(options, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and 0 <= value < math.inf) or (value == 0 and not zero):
            allowed = "0, or a finite number above" if zero else "a finite number above 0"
            raise ScorerError(f"{name} is {shown(value)}, allowed: {allowed}")


def require_switches(options: Any, names: Iterable[str]) -> None:
    """Raise ScorerError for the first of some attributes that is neither true nor false."""
    for name in names:
        value = getattr(options, name)
        if not isinstance(value, bool):
            raise ScorerError(f"{name} is {shown(value)}, allowed: true or false")
