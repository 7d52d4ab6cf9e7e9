"""The third stage: every event gets its losses, by a model that never saw it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from ..config import Analysis
from ..errors import InputError
from ..folds import fold_of
from ..table import read_table, write_table

if TYPE_CHECKING:
    from ..analysis import Scored
from ..folds import event_hash
from .layout import features_of, held_out_rows, model_paths, score_path, simulated_signals, table_path

__all__ = ["read_scored", "score"]


def score(analysis: Analysis, progress: bool) -> None:  # noqa: ARG001 - every stage takes progress
    """Write losses, score and fold of data, calibration events, priors and signals; no event by a model that trained on it.

    But priors, which every model trains on: they are scored by model 0, for figures, and for limits where no signals are
    given. Signals, too, are scored by model 0.
    """
    from ..models import Quak, load_scorer

    features = features_of(analysis)
    scorers = []
    for folder in model_paths(analysis):
        scorer = load_scorer(folder)
        if not isinstance(scorer, Quak):
            raise InputError(f"{folder}: holds a {type(scorer).__name__}, a Quak is expected")
        scorers.append(scorer)
    n_axes = len(scorers[0].axis_names)
    data = read_table(table_path(analysis, "data"))
    if analysis.samples.background is not None:
        background = read_table(table_path(analysis, "background"))
        calibration = background.select(held_out_rows(analysis, background))
        fold, calibration_fold = (fold_of(event_hash(t, features), len(scorers)) for t in (data, calibration))
    else:
        fold = fold_of(event_hash(data, features), analysis.folds)
        calibration, calibration_fold = data, (fold - 1) % analysis.folds
    named = {"data": (data, fold), "calibration": (calibration, calibration_fold)}
    if analysis.samples.validation is not None:
        validation = read_table(table_path(analysis, "validation"))
        named["validation"] = (validation, fold_of(event_hash(validation, features), len(scorers)))
    for name in simulated_signals(analysis):
        simulated = read_table(table_path(analysis, name))
        named[name] = (simulated, np.zeros(len(simulated), dtype=np.int64))
    for sample, (table, folds) in named.items():
        x = table.matrix(features)
        losses = np.empty((len(x), n_axes))
        scores = np.empty(len(x))
        for i, scorer in enumerate(scorers):
            rows = folds == i
            if rows.any():
                losses[rows] = scorer.losses(x[rows])
                scores[rows] = scorer.score(x[rows])
        columns = {f"loss_{i}": losses[:, i] for i in range(losses.shape[1])}
        write_table(score_path(analysis, sample), table.with_columns(**columns, score=scores, fold=folds))


def read_scored(analysis: Analysis, sample: str) -> Scored:
    """Read a scored sample."""
    from ..analysis import Scored

    table = read_table(score_path(analysis, sample))
    columns = list(itertools.takewhile(lambda name: name in table, map("loss_{}".format, itertools.count())))
    truth = table["truth_signal"].astype(np.uint8) if "truth_signal" in table else None
    return Scored(sample, table["mjj"].astype(np.float64), table.matrix(columns), table["fold"].astype(np.int64), truth)
