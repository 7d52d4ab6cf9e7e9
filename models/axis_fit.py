"""The fit of one axis of a `ScorerSpace`: jets are pooled, events are split, and what is finished is kept."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .sample import Sample, named_inputs, split_rows
from .scorer import SCORERS, Method, Scorer, load_scorer
from .storage import ScorerFolderError

__all__ = ["SPLIT", "fit_axis", "in_order", "n_jets", "remove_finished", "single_jets"]

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]
SPLIT = 0xE7  # sets the split of events into training and validation apart from what the scorers draw


def n_jets(inputs: Array) -> int:
    """Return the number of jets of events (n, jets, a, b); one of rows (n, d) and of single jets (n, a, b)."""
    return int(inputs.shape[1]) if inputs.ndim == 4 else 1


def single_jets(inputs: Array) -> Array:
    """Return jets (n · jets, a, b) of events (n, jets, a, b); others as they are."""
    return inputs.reshape(-1 if inputs.size else 0, *inputs.shape[2:]) if inputs.ndim == 4 else inputs


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


def fit_axis(
    scorer: Scorer,
    sample: Sample,
    held: Sample | None,
    exposure: Sample | None,
    *,
    checkpoint: str | None,
    progress: bool,
) -> Scorer:
    """Return the scorer fitted on a sample, or the one that a killed fit had finished on the very same.

    held: events for validation, else those of several jets are split here by event.
    """
    finished = None if checkpoint is None else Path(f"{checkpoint}.{axis_key(scorer, sample, held, exposure)}.axis")
    if finished is not None and finished.is_dir():
        try:
            found = load_scorer(finished)
        except ScorerFolderError as error:
            logger.warning("%s; this axis is trained anew", error)
            shutil.rmtree(finished)
        else:
            logger.info("%s: finished before, taken from there", finished)
            return found
    options: dict[str, Any] = {}
    trains = not isinstance(scorer, Method) or scorer.trains
    if held is None and trains and n_jets(sample.inputs) > 1:
        seed = scorer.seed if isinstance(scorer, Method) else 0
        train, rest = split_rows(np.arange(len(sample)), np.random.default_rng([seed, SPLIT]))
        sample, held = sample.select(train), sample.select(rest)
    if held is not None and trains:
        options["validation"] = single_jets(held.inputs)
    if isinstance(scorer, Method):
        options |= {"progress": progress}
        if scorer.trains and checkpoint is not None:
            options["checkpoint"] = checkpoint
        if "weights" in scorer.uses and sample.weight is not None:
            options["weight"] = np.repeat(sample.weight, n_jets(sample.inputs))
        if "exposure" in scorer.uses and exposure is not None:
            options["exposure"] = single_jets(exposure.inputs)
        if "mass" in scorer.uses and sample.observable is not None:
            options["mass"] = sample.observable
            options |= {} if held is None else {"validation_mass": held.observable}
    named = isinstance(scorer, Method) and sample.names and sample.weight is None
    scorer.fit(Sample(sample.inputs, sample.names) if named else single_jets(sample.inputs), **options)
    if finished is not None and type(scorer).__name__ in SCORERS:
        scorer.save(finished)
    return scorer


def axis_key(scorer: Scorer, *samples: Sample | None) -> str:
    """Return a hash of what the fit of an axis depends on."""
    options = scorer.parameters() if isinstance(scorer, Method) else {}
    digest = hashlib.sha256(json.dumps([type(scorer).__name__, options], sort_keys=True).encode())
    for sample in samples:
        for values in (None, None, None) if sample is None else (sample.inputs, sample.observable, sample.weight):
            digest.update(b"none" if values is None else str(values.shape).encode())
            digest.update(b"" if values is None else np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:16]


def remove_finished(checkpoint: str) -> None:
    """Remove what a fit of one axis has left: its checkpoint, and the finished scorers beside it."""
    path = Path(checkpoint)
    path.unlink(missing_ok=True)
    for folder in path.parent.glob(f"{glob.escape(path.name)}.*.axis"):
        shutil.rmtree(folder)
