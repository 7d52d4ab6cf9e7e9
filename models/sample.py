"""One sample of events as it travels to every method: the inputs with their names, and what is known of each event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import unknown_name
from .columns import columns_of, input_columns, made_by, refuse_missing, refuse_other_settings, say_surplus, stacked
from .inputs import DtypeError, ScorerError, ShapeError

__all__ = ["Events", "Sample", "as_sample", "event_hashes", "named_inputs", "sample_names", "single_jet", "split_rows"]

Array = npt.NDArray[Any]
UInt64 = npt.NDArray[np.uint64]
Item = TypeVar("Item", bound=np.generic)

VALIDATION_PART = 0.15
MIN_VALIDATION, MAX_VALIDATION = 20, 20_000


@dataclass(frozen=True, eq=False, repr=False)
class Sample:
    """n events.

    inputs: (n, d) rows, (n, jets, a, b) images or (n, jets, k, c) sets, where (n, a, b) are events of one jet, or what names its
    columns itself (`columns_of`: a table, a data frame), of which those in `names` are taken, all where none are named; names: of the
    inputs' columns, d or one a jet, or none; observable: (n,) what is hunted in, such as the mass; weight: (n,); event: (n,)
    uint64 hashes that tell which event a row is; made: how the columns were made, as the metadata of a table say, of which it is taken where
    the inputs are one. Raises ShapeError for lengths that differ, ScorerError for names that repeat, for a
    column that is not there and one that nothing trains on.
    """

    inputs: Array
    names: tuple[str, ...] = ()
    observable: npt.NDArray[np.float64] | None = None
    weight: npt.NDArray[np.float64] | None = None
    event: UInt64 | None = None
    made: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = tuple(self.names)
        columns = columns_of(self.inputs, "inputs")
        object.__setattr__(self, "made", dict(self.made) or made_by(self.inputs))
        if columns is not None:
            names = names or input_columns(columns, "inputs")
            object.__setattr__(self, "inputs", stacked(columns, names, "inputs"))
        object.__setattr__(self, "inputs", plain_array(self.inputs, "inputs"))
        object.__setattr__(self, "names", names)
        for name, kind in (("observable", np.float64), ("weight", np.float64), ("event", np.uint64)):
            values = getattr(self, name)
            if values is None:
                continue
            found = np.asarray(values, dtype=kind)
            if found.shape != (len(self.inputs),):
                raise ShapeError(f"{name} has shape {found.shape}, the inputs have {len(self.inputs)} rows")
            object.__setattr__(self, name, found)
        if self.names and len(self.names) != self.columns:
            raise ShapeError(
                f"inputs of shape {self.inputs.shape} have {self.columns} columns, "
                f"{len(self.names)} names are given: {', '.join(self.names)}"
            )
        if len(set(self.names)) < len(self.names):
            raise ScorerError(f"a name is given twice: {', '.join(self.names)}")

    @property
    def columns(self) -> int:
        """Number of the inputs' columns: d of rows, the number of jets of images and sets."""
        shape = self.inputs.shape
        return int(shape[1]) if len(shape) in {2, 4} else 1

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        known = [name for name in ("observable", "weight", "event") if getattr(self, name) is not None]
        shape = " x ".join(map(str, self.inputs.shape[1:]))
        return f"Sample({len(self):,} events of {shape or 'nothing'}{', with ' if known else ''}{', '.join(known)})"

    def select(self, rows: npt.ArrayLike) -> Sample:
        """Return the events of a mask (n,) or of row numbers (k,)."""
        chosen = np.asarray(rows)
        parts = {name: getattr(self, name) for name in ("inputs", "observable", "weight", "event")}
        return replace(self, **{name: values[chosen] for name, values in parts.items() if values is not None})


Events = Sample | npt.ArrayLike | Mapping[str, Any]
"""What spaces take: a sample, the inputs alone, or what names its columns (`columns_of`)."""


def as_sample(x: Any, names: Sequence[str] = (), *, where: str = "x") -> Sample:
    """Return a sample as it is, or one of the inputs of a plain array or of what names its columns.

    names: the columns to take of the last, which may hold others; without them all are inputs. Raises ScorerError and its
    like, which name a column that is missing, cannot be an input, or holds no numbers.
    """
    if isinstance(x, Sample):
        return x
    columns = columns_of(x, where)
    if columns is None:
        return Sample(plain_array(x, where))
    chosen = tuple(names) or input_columns(columns, where)
    found = Sample(stacked(columns, chosen, where), chosen, made=made_by(x))
    if names:
        say_surplus(tuple(columns), chosen, where)
    return found


def plain_array(x: Any, where: str) -> Array:
    """Return an array, of masked values NaN; raises DtypeError for a list of samples or tables, ShapeError for one that is ragged."""
    if isinstance(x, np.ma.MaskedArray):
        return np.asarray(np.ma.filled(x.astype(np.float64), np.nan))
    if isinstance(x, list | tuple):
        kinds = {
            type(part).__name__
            for part in x
            if isinstance(part, Sample) or hasattr(part, "columns") or hasattr(part, "iloc")
        }
        if kinds:
            raise DtypeError(
                f"{where}: is a list of {len(x)} {' and '.join(sorted(kinds))}; one sample, table or array (n, d) is expected: "
                "join them first, as hunch.table.concatenate does tables"
            )
    try:
        return np.asarray(x)
    except ValueError as error:
        raise ShapeError(f"{where}: a list whose events have different shapes: {error}") from error


def named_inputs(x: Any, names: Sequence[str], *, made: Mapping[str, Any] | None = None, where: str = "x") -> Array:
    """Return the inputs of events with their columns in the order of `names`, those of the training.

    made: how the columns of the training were made; those that were made otherwise, as jets of another radius, are refused.

    Columns are matched by name where both sides have names. A plain array has none, and is taken as it is; so are events with
    names where the training had none, which is logged, and what the training did not have is left out, which is logged too. Raises
    ScorerError for names that are missing, with the nearest one.
    """
    sample = as_sample(x, names, where=where)
    refuse_other_settings(sample.made, made or {}, where)
    if not sample.names or sample.names == tuple(names):
        return sample.inputs
    refuse_missing(names, sample.names, where)
    say_surplus(sample.names, tuple(names), where)
    if not names:
        return sample.inputs
    return np.asarray(sample.inputs[:, [sample.names.index(name) for name in names]])


def sample_names(x: Any, *, where: str = "x") -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the names of the columns of events that are trained on and how they were made; nothing of a plain array.

    Raises ScorerError as `as_sample`.
    """
    if isinstance(x, Sample):
        return x.names, dict(x.made)
    columns = columns_of(x, where)
    return () if columns is None else input_columns(columns, where), made_by(x)


def single_jet(x: Any, names: Sequence[str] = (), *, made: Mapping[str, Any] | None = None, where: str = "x") -> Array:
    """Return the inputs of events of one jet without the axis of jets: (n, a, b) of (n, 1, a, b); others as they are."""
    inputs = named_inputs(x, names, made=made, where=where)
    return inputs[:, 0] if inputs.ndim == 4 and inputs.shape[1] == 1 else inputs


def event_hashes(samples: Sequence[Any]) -> UInt64:
    """Return the sorted hashes of all events of some samples, each once; samples that know none, or are None, add nothing."""
    known = [s.event for s in samples if isinstance(s, Sample) and s.event is not None]
    return np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *known]))


def refuse_unused(sample: Any, uses: Sequence[str], method: str, *, exposure: Any = None) -> None:
    """Refuse weights and exposure that a method cannot use: raises ScorerError naming what it uses."""
    if isinstance(exposure, Sample) and exposure.weight is not None:
        raise ScorerError(f"exposure: has weights, which {method} does not use; resample it by them, or leave them out")
    weighted = isinstance(sample, Sample) and sample.weight is not None
    for given, what, told in (
        (weighted, "weights", "weights"),
        (exposure is not None, "exposure", "an exposure sample"),
    ):
        if given and what not in uses:
            raise ScorerError(
                f"{method} cannot use {told}; it uses: {', '.join(uses) or 'neither weights nor exposure'}"
            )


def refuse_unknown_priors(priors: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse samples of priors that are not those of `names`: raises ScorerError for an unknown or a missing one."""
    for name in priors:
        if name not in names:
            raise ScorerError(unknown_name("prior", name, names, "priors"))
    for name in names:
        if name not in priors:
            raise ScorerError(f"priors: no sample of {name!r}; one for each of {', '.join(names)} is needed")


def split_rows(x: npt.NDArray[Item], rng: np.random.Generator) -> tuple[npt.NDArray[Item], npt.NDArray[Item]]:
    """Split a sample (n, ...) into training and validation rows by a random order: 85 and 15 %, within bounds."""
    n_held = min(max(int(VALIDATION_PART * len(x)), MIN_VALIDATION), MAX_VALIDATION)
    order = rng.permutation(len(x))
    return x[order[n_held:]], x[order[:n_held]]
