"""The fit of the axes of a `ScorerSpace`: jets are pooled, events are split, axes are stacked, and what is finished is kept."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .pretrained import content_of, folder_of
from .sample import Sample, named_inputs, split_rows
from .scorer import SCORERS, SECOND_PHASE, Method, Scorer, load_scorer
from .storage import ScorerFolderError

__all__ = ["SPLIT", "Axis", "fit_axes", "in_order", "n_jets", "remove_finished", "single_jets"]

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]
SPLIT = 0xE7  # sets the split of events into training and validation apart from what the scorers draw


def n_jets(inputs: Array) -> int:
    """Return the number of jets of events (n, jets, a, b); one of rows (n, d) and of single jets (n, a, b)."""
    return int(inputs.shape[1]) if inputs.ndim == 4 else 1


def single_jets(inputs: Array) -> Array:
    """Return jets (n · jets, a, b) of events (n, jets, a, b); others as they are."""
    return inputs.reshape(-1 if inputs.size else 0, *inputs.shape[2:]) if inputs.ndim == 4 else inputs


def jets_of(sample: Sample) -> Sample:
    """Return a sample of the single jets of events, each with its event's observable; rows are those of before, with their names."""
    return Sample(
        single_jets(sample.inputs),
        sample.names if sample.inputs.ndim == 2 else (),
        observable=of_each_jet(sample.observable, sample),
    )


def in_order(sample: Sample, names: Sequence[str], made: Mapping[str, Any], where: str) -> Sample:
    """Return a sample with the columns of its inputs in the order of `names`, where both have names; rows alone keep the names."""
    inputs = named_inputs(sample, names, made=made, where=where)
    return Sample(
        inputs,
        tuple(names) if inputs.ndim == 2 else (),
        observable=sample.observable,
        weight=sample.weight,
        event=sample.event,
        made=sample.made,
    )


@dataclass(frozen=True, eq=False)
class Axis:
    """What one axis is fitted on: its scorer, its events, those for validation, else split off by event where there are several
    jets, and those that it is exposed to."""

    scorer: Scorer
    sample: Sample
    held: Sample | None = None
    exposure: Sample | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input of the scorer."""
        return tuple(single_jets(self.sample.inputs).shape[1:])

    def key(self) -> str:
        """Return a hash of what the fit depends on."""
        scorer = self.scorer
        options = scorer.parameters() if isinstance(scorer, Method) else {}
        folder = folder_of(scorer)
        options |= {"pretrained": content_of(folder)} if folder else {}
        digest = hashlib.sha256(json.dumps([type(scorer).__name__, options], sort_keys=True).encode())
        for sample in (self.sample, self.held, self.exposure):
            for values in (None, None, None) if sample is None else (sample.inputs, sample.observable, sample.weight):
                digest.update(b"none" if values is None else str(values.shape).encode())
                digest.update(b"" if values is None else np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()[:16]

    def arguments(self) -> dict[str, Any]:
        """Return what `fit` takes: events of several jets as jets, split by event here where nothing is for validation."""
        scorer, sample, held = self.scorer, self.sample, self.held
        found: dict[str, Any] = {}
        trains = not isinstance(scorer, Method) or scorer.trains
        if held is None and trains and n_jets(sample.inputs) > 1:
            seed = scorer.seed if isinstance(scorer, Method) else 0
            train, rest = split_rows(np.arange(len(sample)), np.random.default_rng([seed, SPLIT]))
            sample, held = sample.select(train), sample.select(rest)
        if held is not None and trains:
            found["validation"] = single_jets(held.inputs)
        if isinstance(scorer, Method):
            if "weights" in scorer.uses and sample.weight is not None:
                found["weight"] = of_each_jet(sample.weight, sample)
            if "exposure" in scorer.uses and self.exposure is not None:
                found["exposure"] = jets_of(self.exposure)
            if "mass" in scorer.uses and sample.observable is not None:
                found["mass"] = of_each_jet(sample.observable, sample)
                found |= {} if held is None else {"validation_mass": of_each_jet(held.observable, held)}
        named = isinstance(scorer, Method) and sample.names and sample.weight is None
        own = jets_of(sample) if named or "exposure" in found else single_jets(sample.inputs)
        return {"x": own, **found}


def of_each_jet(values: Array | None, sample: Sample) -> Array | None:
    """Return a value of each event (n,) as one of each jet (n · jets,)."""
    return None if values is None else np.repeat(values, n_jets(sample.inputs))


def fit_axes(axes: Sequence[Axis], *, checkpoint: str | None, progress: bool) -> list[Scorer]:
    """Return the scorers of all axes, fitted: side by side where they are of one method that can be stacked, else one after another.

    checkpoint: each axis writes `{checkpoint}.{number}`, a stack that of its first; what a killed fit had finished on the very same
    is taken from beside it.
    """
    groups = [list(range(len(axes)))] if can_stack(axes) else [[number] for number in range(len(axes))]
    found: list[Scorer] = []
    for group in groups:
        own = [axes[number] for number in group]
        kept = None if checkpoint is None else [f"{checkpoint}.{number}" for number in group]
        found += fit_group(own, kept, progress=progress)
    return found


def can_stack(axes: Sequence[Axis]) -> bool:
    """Tell whether the scorers of several axes can be trained in one batch: equal but in what may differ, on inputs of one shape."""
    first = axes[0].scorer
    if len(axes) < 2 or not isinstance(first, Method) or not first.stacks:
        return False
    apart = dict.fromkeys(first.stacks)
    alike = [
        type(axis.scorer) is type(first)
        and isinstance(axis.scorer, Method)
        and axis.scorer.parameters() | apart == first.parameters() | apart
        and axis.shape == axes[0].shape
        for axis in axes
    ]
    return all(alike)


def fit_group(axes: Sequence[Axis], checkpoints: Sequence[str] | None, *, progress: bool) -> list[Scorer]:
    """Return fitted scorers that are trained together, one or a stack, or those that a killed fit had finished."""
    folders: list[Path] = []
    if checkpoints is not None:
        keys = [axis.key() for axis in axes]
        # what the others of a stack are changes each of them
        keys = (
            keys if len(keys) == 1 else [hashlib.sha256(" ".join([k, *keys]).encode()).hexdigest()[:16] for k in keys]
        )
        folders = [Path(f"{path}.{key}.axis") for path, key in zip(checkpoints, keys, strict=True)]
        found = [finished(folder) for folder in folders]
        if all(scorer is not None for scorer in found):
            return [scorer for scorer in found if scorer is not None]
    scorers, first = [axis.scorer for axis in axes], axes[0].scorer
    given = [axis.arguments() for axis in axes]
    options: dict[str, Any] = {}
    if isinstance(first, Method):
        options = {"progress": progress}
        if first.trains and checkpoints is not None:
            options["checkpoint"] = checkpoints[0]
    if len(axes) > 1 and isinstance(first, Method):
        type(first).fit_stack([s for s in scorers if isinstance(s, Method)], given, **options)
    else:
        first.fit(given[0].pop("x"), **given[0], **options)
    for scorer, folder in zip(scorers, folders, strict=False):
        if type(scorer).__name__ in SCORERS:
            scorer.save(folder)
    return scorers


def finished(folder: Path) -> Scorer | None:
    """Return the scorer that a killed fit had finished and kept, None where there is none that can be read."""
    if not folder.is_dir():
        return None
    try:
        found = load_scorer(folder)
    except ScorerFolderError as error:
        logger.warning("%s; this axis is trained anew", error)
        shutil.rmtree(folder)
        return None
    logger.info("%s: finished before, taken from there", folder)
    return found


def remove_finished(checkpoint: str) -> None:
    """Remove what a fit of one axis has left: its checkpoint, that of a second phase, and the finished scorers beside it."""
    path = Path(checkpoint)
    for left in (path, Path(f"{checkpoint}{SECOND_PHASE}")):
        left.unlink(missing_ok=True)
    for folder in path.parent.glob(f"{glob.escape(path.name)}.*.axis"):
        shutil.rmtree(folder)
