"""The third stage: every event gets its losses, by a model that never saw it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..config import Analysis
from ..errors import InputError
from ..files import write_folder_aside
from ..folds import fold_hash, same_event_hash
from ..pieces import NONE_KEPT, Pieces
from ..table import EVENT_ID, IDENTITY, Table, read_table, table_info, table_parts, write_part, write_parts_record
from .layout import model_paths, score_path, scored_samples, simulated_signals, table_path
from .stamps import finish, is_finished

if TYPE_CHECKING:
    from ..analysis import Scored

__all__ = ["loaded_spaces", "read_scored", "score"]


def loaded_spaces(analysis: Analysis) -> list[Any]:
    """Return the trained spaces as this analysis reads them; raises InputError where their axes or inputs do not fit."""
    from ..models.space import load_space
    from ..processors.scoring import check_inputs, shared_axes

    spaces = [load_space(folder, metric=analysis.metric, per_jet=analysis.per_jet) for folder in model_paths(analysis)]
    for space in spaces:
        space.alpha = analysis.regions.alpha  # of differences alone; no model depends on it
    shared_axes(spaces)
    check_inputs(spaces, analysis.represented)
    return spaces


def score(analysis: Analysis, progress: bool, pieces: Pieces = NONE_KEPT) -> None:  # noqa: ARG001 - every stage takes progress
    """Write losses and fold of data, calibration events, priors and signals; no event by a model that trained on it.

    But priors, which every model trains on: they are scored by model 0, for figures, and for limits where no signals are
    given. Signals, too, are scored by model 0. Tables are read and written part by part. pieces: where it is noted which of them
    are finished.
    """
    spaces = loaded_spaces(analysis)
    for sample in scored_samples(analysis):
        if not is_finished(pieces, score_path(analysis, sample)):
            score_sample(analysis, sample, spaces)
            finish(pieces, score_path(analysis, sample))


def score_sample(analysis: Analysis, sample: str, spaces: list[Any]) -> None:
    """Write the scored table of one sample, part by part."""
    from ..processors import sample_of, score_events

    representation = analysis.represented
    own = "background" if analysis.samples.background is not None else "data"
    source = table_path(analysis, own if sample == "calibration" else sample)
    info = table_info(source)
    hunted = () if representation.observable is None else (representation.observable.name,)
    kept = (*IDENTITY, EVENT_ID, *hunted, "truth_signal", "genWeight")
    columns = [name for name in dict.fromkeys((*representation.content, *kept)) if name in info.columns]
    rows = 0
    names: tuple[str, ...] = ()
    with write_folder_aside(score_path(analysis, sample)) as folder:
        for number, whole in enumerate(table_parts(source, columns)):
            chosen, model = scoring_model(analysis, sample, whole)
            part, model = whole.select(chosen), model[chosen]
            losses = score_events(sample_of(part, representation), spaces, model)
            if not sample.startswith("prior."):
                check_untrained(analysis, part, spaces, model)
            axes = {f"loss_{name}": losses[:, k] for k, name in enumerate(spaces[0].axis_names)}
            scored = Table({**{n: part[n] for n in kept if n in part}, **axes, "fold": model}, {}, str(source))
            write_part(folder, f"{number:06d}", scored)
            rows, names = rows + len(scored), tuple(scored.columns)
        metadata = {"axes": list(spaces[0].axis_names), "identity": info.metadata.get("identity", [])}
        write_parts_record(folder, names, metadata, rows=rows)


def scoring_model(analysis: Analysis, sample: str, part: Table) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Return which rows of a part belong to a sample, and the model that scores each: (n,) and (n,)."""
    plan, n = analysis.plan, len(part)
    if sample in simulated_signals(analysis):
        return np.ones(n, dtype=np.bool_), np.zeros(n, dtype=np.int64)
    hashes = fold_hash(part, analysis.represented.content)
    if sample != "calibration":
        return np.ones(n, dtype=np.bool_), plan.hunting_model(hashes)
    chosen = plan.held_out_rows(hashes) if plan.background else np.ones(n, dtype=np.bool_)
    return chosen, plan.calibrating_model(hashes)


def check_untrained(analysis: Analysis, part: Table, spaces: list[Any], model: npt.NDArray[np.int64]) -> None:
    """Raise InputError where an event would be scored by a model that has trained on it.

    Rows without an identity count where more of them are equal than chance repeats explain.
    """
    from ..processors.scoring import told_by_content, trained_events

    events = same_event_hash(part, analysis.represented.content)
    seen = sum(trained_events(events, spaces, model, by_content=told_by_content(part)).values())
    if seen:
        raise InputError(
            f"{part.source}: {seen} events would be scored by a model that has trained on them; train anew (--force train)"
        )


def read_scored(analysis: Analysis, sample: str) -> Scored:
    """Read a scored sample."""
    from ..analysis import Scored

    path = score_path(analysis, sample)
    table = read_table(path)
    axes = tuple(table.metadata["axes"])
    hunted = analysis.represented.observable
    mass = np.zeros(len(table)) if hunted is None else table[hunted.name].astype(np.float64)
    truth = table["truth_signal"].astype(np.uint8) if "truth_signal" in table else None
    losses = table.matrix([f"loss_{name}" for name in axes])
    return Scored(sample, mass, losses, table["fold"].astype(np.int64), truth, axes=axes)
