"""Events scored by trained spaces: each by the model that hunts in it, once; and which of them that model has trained on."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import HunchError, InputError, unknown_name
from ..folds import UInt64, already_trained_on, same_event_hash, told_by
from ..table import EVENT_ID, Table, differing_settings
from .representations import read_inputs

if TYPE_CHECKING:
    from ..models.space import Sample
    from .chunks import Representation

__all__ = [
    "AxisMetric",
    "FolderTimes",
    "ScoringError",
    "SpaceLike",
    "check_inputs",
    "folder_times",
    "loaded_spaces",
    "sample_of",
    "score_events",
    "shared_axes",
    "told_by_content",
    "trained_events",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
FolderTimes = tuple[tuple[str, int], ...]
AxisMetric = str | tuple[tuple[str, str], ...] | None
"""How a space is read (`load_space`): the metric of all axes, or pairs of axis and metric."""


class ScoringError(HunchError):
    """A space that gives something else than finite losses."""


class Trained(Protocol):
    """What has trained on events."""

    @property
    def trained_on(self) -> UInt64:
        """Hashes of every event that it was fitted with, sorted."""


class SpaceLike(Trained, Protocol):
    """What scoring needs of a trained space."""

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the columns that it was fitted with; none where it knows none."""

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Names of the axes, in the order of the columns of `losses`."""

    def losses(self, inputs: Any, /) -> Floats:
        """Return (n, axes) losses of a sample."""


def sample_of(table: Table, representation: Representation, *, weight: npt.ArrayLike | None = None) -> Sample:
    """Return the events of a table as a space takes them: inputs with their names, observable, weight, and who they are."""
    from ..models.space import Sample

    refuse_other_settings(table, representation)
    observable = representation.observable
    return Sample(
        inputs=read_inputs(table, representation),
        names=representation.inputs,
        observable=None if observable is None else np.asarray(table[observable.name], dtype=np.float64),
        weight=None if weight is None else np.asarray(weight, dtype=np.float64),
        event=same_event_hash(table, representation.content),
        made=made_by(table, representation),
    )


def made_by(table: Table, representation: Representation) -> dict[str, Any]:
    """Return how the inputs were made: as the table's metadata say, else, of events, by the representation; nothing of other tables."""
    settings = table.metadata.get("settings")
    if isinstance(settings, Mapping):
        return {"representation": table.metadata.get("representation"), "settings": dict(settings)}
    if EVENT_ID not in table or not representation.of_events:
        return {}
    return {"representation": representation.name, "settings": representation.settings()}


def refuse_other_settings(table: Table, representation: Representation, *, cuts: bool = False) -> None:
    """Raise InputError for a table of this representation that was made with other settings; cuts: choices of events too."""
    if table.metadata.get("representation") != representation.name:
        return
    differing = differing_settings(table.metadata, {"settings": representation.settings()}, cuts=cuts)
    if differing:
        told = "; ".join(f"{name} is {mine}, not {other}" for name, (mine, other) in differing.items())
        raise InputError(f"{table.source}: was made with other settings than those asked for: {told}")


def score_events(sample: Sample, spaces: Sequence[SpaceLike], model: Ints) -> Floats:
    """Return the losses (n, axes) of a sample, each event's by the space of its model (n,); each event is inferred once.

    Raises InputError for spaces whose axes differ, ScoringError for losses that are not finite.
    """
    axes = shared_axes(spaces)
    losses = np.empty((len(sample), len(axes)))
    for number in np.unique(model):
        rows = model == number
        own = np.asarray(spaces[number].losses(sample if rows.all() else sample.select(rows)), dtype=np.float64)
        if not np.isfinite(own).all():
            raise ScoringError(
                f"model {number} gives {int((~np.isfinite(own)).any(axis=1).sum())} events no finite loss"
            )
        losses[rows] = own
    return losses


def trained_events(
    events: UInt64, spaces: Sequence[Trained], model: Ints, *, by_content: bool = False
) -> dict[int, int]:
    """Count the events (n,), by `same_event_hash`, that the model (n,) which scores them has trained on: model -> count.

    by_content: events are told by their content alone, so that coarse rows are equal by chance, as often as they repeat
    among `events`: a model counts where it is five standard deviations above that.
    """
    found = {}
    for number in np.unique(model):
        own, trained_on = events[model == number], spaces[number].trained_on
        count = int(already_trained_on(own, trained_on).sum())
        chance = _equal_pairs(events) * len(own) * len(trained_on) if count and by_content else 0.0
        if count > chance + 5 * np.sqrt(chance):
            found[int(number)] = count
    return found


def told_by_content(table: Table) -> bool:
    """Tell whether the events of a table are known by nothing but their content."""
    return told_by(table) == "content"


def _equal_pairs(events: UInt64) -> float:
    """Return which part of all pairs of events are equal."""
    repeats = np.unique(events, return_counts=True)[1].astype(np.float64)
    pairs = len(events) * (len(events) - 1)
    return float((repeats * (repeats - 1)).sum() / pairs) if pairs else 0.0


def shared_axes(spaces: Sequence[SpaceLike]) -> tuple[str, ...]:
    """Return the names of the axes that all spaces have; raises InputError where they differ or there is no space."""
    if not spaces:
        raise InputError("spaces: at least one is needed")
    names = tuple(spaces[0].axis_names)
    for number, space in enumerate(spaces):
        if tuple(space.axis_names) != names:
            raise InputError(
                f"space {number} has the axes {', '.join(space.axis_names)} where space 0 has {', '.join(names)}; "
                "one search has one set of axes"
            )
    return names


def check_inputs(spaces: Sequence[SpaceLike], representation: Representation) -> None:
    """Raise InputError where a space was fitted with a column that is none of the representation's inputs."""
    for number, space in enumerate(spaces):
        for name in space.input_names:
            if name not in representation.inputs:
                where = f"space {number} and representation {representation.name}"
                raise InputError(unknown_name("input", name, representation.inputs, where))


def folder_times(folders: Sequence[str | Path]) -> FolderTimes:
    """Return the folders of spaces with the time each was last written, in ns, so that no worker keeps an older one."""
    found = []
    for path in map(Path, folders):
        record = path / "scorer.json"
        # 0 leaves it to `load_space` to say what is missing
        found.append((str(path.resolve()), record.stat().st_mtime_ns if record.is_file() else 0))
    return tuple(found)


@functools.lru_cache(maxsize=4)
def loaded_spaces(
    folders: FolderTimes, *, metric: AxisMetric = None, per_jet: str = "sum", threads: int | None = None
) -> tuple[SpaceLike, ...]:
    """Load spaces from their folders, once a process.

    threads: of torch, so that threads times workers stay within the cores of the machine; None leaves torch as it is.
    """
    import torch

    from ..models.space import load_space

    if threads is not None:
        torch.set_num_threads(threads)
    spaces = tuple(load_space(folder, metric=metric, per_jet=per_jet) for folder, _ in folders)
    shared_axes(spaces)
    return spaces
