"""The third stage: every event gets its losses, by a model that never saw it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..config import Analysis
from ..errors import InputError
from ..files import write_folder_aside
from ..folds import fold_hash, same_event_hash
from ..pieces import NONE_KEPT, Pieces
from ..table import EVENT_ID, IDENTITY, Table, read_table, table_info, table_parts, write_part, write_parts_record
from .layout import JET_MASS, model_paths, plain_paths, score_path, scored_samples, simulated_signals, table_path
from .stamps import finish, is_finished

if TYPE_CHECKING:
    from pathlib import Path

    from ..analysis import Scored

__all__ = ["loaded_spaces", "read_jet_mass", "read_plain", "read_scored", "score"]

PLAIN = "plain_"
"""Begins the columns of losses of the models without exposure."""


def loaded_spaces(analysis: Analysis, folders: Sequence[Path] | None = None) -> list[Any]:
    """Return the trained spaces as this analysis reads them; raises InputError where their axes or inputs do not fit.

    folders: of the spaces, without them those that hunt.
    """
    from ..models.space import load_space
    from ..processors.scoring import check_inputs, shared_axes

    chosen = model_paths(analysis) if folders is None else folders
    spaces = [load_space(folder, metric=analysis.axis_metric, per_jet=analysis.per_jet) for folder in chosen]
    for space in spaces:
        space.alpha = analysis.regions.alpha  # of differences alone; no model depends on it
    shared_axes(spaces)
    check_inputs(spaces, analysis.represented)
    return spaces


def score(analysis: Analysis, progress: bool, pieces: Pieces = NONE_KEPT) -> None:  # noqa: ARG001 - every stage takes progress
    """Write losses and fold of data, calibration events, priors and signals; no event by a model that trained on it.

    But priors, which every model trains on: they are scored by model 0, for figures, and for limits where no signals are
    given. Signals, too, are scored by model 0. Calibration events get the losses of the models without exposure too, where there are such.
    Tables are read and written part by part. pieces: where it is noted which of them are finished.
    """
    spaces = loaded_spaces(analysis)
    plain = loaded_spaces(analysis, folders) if (folders := plain_paths(analysis)) else []
    for sample in scored_samples(analysis):
        if not is_finished(pieces, score_path(analysis, sample)):
            score_sample(analysis, sample, spaces, plain if sample == "calibration" else [])
            finish(pieces, score_path(analysis, sample))


def score_sample(analysis: Analysis, sample: str, spaces: list[Any], plain: Sequence[Any] = ()) -> None:
    """Write the scored table of one sample, part by part; plain: the spaces without exposure, which write their losses beside."""
    from ..processors import sample_of, score_events

    representation = analysis.represented
    own = "background" if analysis.samples.background is not None else "data"
    source = table_path(analysis, own if sample == "calibration" else sample)
    info = table_info(source)
    hunted = () if representation.observable is None else (representation.observable.name,)
    kept = (*IDENTITY, EVENT_ID, *hunted, "truth_signal", "genWeight", *((JET_MASS,) if plain else ()))
    columns = [name for name in dict.fromkeys((*representation.content, *kept)) if name in info.columns]
    rows = 0
    names: tuple[str, ...] = ()
    with write_folder_aside(score_path(analysis, sample)) as folder:
        for number, whole in enumerate(table_parts(source, columns)):
            chosen, model = scoring_model(analysis, sample, whole)
            part, model = whole.select(chosen), model[chosen]
            events = sample_of(part, representation)
            axes: dict[str, npt.NDArray[np.float64]] = {}
            for begins, own_spaces in (("loss_", spaces), (PLAIN, plain)):
                if own_spaces:
                    losses = score_events(events, own_spaces, model)
                    axes |= {f"{begins}{name}": losses[:, k] for k, name in enumerate(own_spaces[0].axis_names)}
                    if not sample.startswith("prior."):
                        check_untrained(analysis, part, own_spaces, model)
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


def check_untrained(analysis: Analysis, part: Table, spaces: Sequence[Any], model: npt.NDArray[np.int64]) -> None:
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


def read_plain(analysis: Analysis, calibration: Scored) -> Scored | None:
    """Return the calibration events with the losses of the models without exposure; None where none was trained."""
    if not plain_paths(analysis):
        return None
    table = read_table(score_path(analysis, "calibration"))
    losses = table.matrix([f"{PLAIN}{name}" for name in calibration.axes])
    return dataclasses.replace(calibration, losses=losses)


def read_jet_mass(analysis: Analysis) -> npt.NDArray[np.float64] | None:
    """Return the mass (n,) GeV of a jet of each calibration event, of two the more massive one; None where it is not known of all."""
    path = score_path(analysis, "calibration")
    if JET_MASS not in table_info(path).columns:
        return None
    values = read_table(path, columns=[JET_MASS])[JET_MASS]
    return values.astype(np.float64) if values.dtype.kind in "fiu" and np.isfinite(values).all() else None
