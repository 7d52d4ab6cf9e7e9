"""One sample of events as it travels to every method: the inputs with their names, and what is known of each event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import unknown_name
from .inputs import ScorerError, ShapeError

__all__ = ["Events", "Sample", "as_sample", "event_hashes", "named_inputs", "split_rows"]

Array = npt.NDArray[Any]
UInt64 = npt.NDArray[np.uint64]
Item = TypeVar("Item", bound=np.generic)

VALIDATION_PART = 0.15
MIN_VALIDATION, MAX_VALIDATION = 20, 20_000


@dataclass(frozen=True, eq=False, repr=False)
class Sample:
    """n events.

    inputs: (n, d) rows, (n, jets, a, b) images or (n, jets, k, c) sets, where (n, a, b) are events of one jet; names: of the
    inputs' columns, d or one a jet, or none; observable: (n,) what is hunted in, such as the mass; weight: (n,); event: (n,)
    uint64 hashes that tell which event a row is. Raises ShapeError for lengths that differ, ScorerError for names that repeat.
    """

    inputs: Array
    names: tuple[str, ...] = ()
    observable: npt.NDArray[np.float64] | None = None
    weight: npt.NDArray[np.float64] | None = None
    event: UInt64 | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", np.asarray(self.inputs))
        object.__setattr__(self, "names", tuple(self.names))
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


Events = Sample | npt.ArrayLike
"""What spaces take: a sample, or the inputs alone."""


def as_sample(x: Any) -> Sample:
    """Return a sample as it is, or one of a plain array's inputs."""
    if isinstance(x, Sample):
        return x
    return Sample(np.ma.filled(x.astype(np.float64), np.nan) if isinstance(x, np.ma.MaskedArray) else np.asarray(x))


def named_inputs(x: Any, names: Sequence[str], *, where: str = "x") -> Array:
    """Return the inputs of events with their columns in the order of `names`.

    A plain array, events without names and a method that knows none are taken as they are. Raises ScorerError for a missing name,
    with the nearest one.
    """
    sample = as_sample(x)
    if not names or not sample.names or sample.names == tuple(names):
        return sample.inputs
    missing = [name for name in names if name not in sample.names]
    if missing:
        raise ScorerError(unknown_name("column", missing[0], sample.names, where))
    return np.asarray(sample.inputs[:, [sample.names.index(name) for name in names]])


def event_hashes(samples: Sequence[Any]) -> UInt64:
    """Return the sorted hashes of all events of some samples, each once; samples that know none, or are None, add nothing."""
    known = [s.event for s in samples if isinstance(s, Sample) and s.event is not None]
    return np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *known]))


def refuse_unused(sample: Any, uses: Sequence[str], method: str, *, exposure: Any = None) -> None:
    """Refuse weights and exposure that a method cannot use: raises ScorerError naming what it uses."""
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
