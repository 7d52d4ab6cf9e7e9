"""The second stage: the scorers are trained."""

from __future__ import annotations

import logging

import numpy as np

from ..config import Analysis
from ..errors import InputError
from ..files import remove
from ..folds import event_hash, fold_of
from ..table import read_table
from .layout import features_of, held_out_rows, model_paths, table_path

__all__ = ["train"]

log = logging.getLogger(__name__)


def train(analysis: Analysis, progress: bool) -> None:
    """Train one QUAK model on the background, or one a fold of the data.

    Model i of k trains on all folds but i, which it hunts in, and i + 1, on which the regions are fixed. With weak
    supervision and a background sample, model i has the densities of the background sample and the family that all
    folds of the data but i narrow down, against those held-out background events that do not fix the regions of fold i.
    """
    from ..models import Quak, load_scorer

    features = features_of(analysis)
    tables = {name: read_table(table_path(analysis, name)) for name in analysis.sample_files()}
    priors = {name: tables[f"prior.{name}"].matrix(features) for name in analysis.samples.priors}
    options = {k: v for k, v in analysis.training.model_dump().items() if v is not None}
    folders = model_paths(analysis)
    weak = analysis.weak_supervision and "background" in tables
    x, mjj = tables["data"].matrix(features), tables["data"]["mjj"].astype(np.float64)
    fold = fold_of(event_hash(tables["data"], features), analysis.folds)
    if "background" in tables:
        chosen = tables["background"].select(~held_out_rows(analysis, tables["background"]))
        samples = [(chosen.matrix(features), chosen["mjj"].astype(np.float64))]
    else:
        kept = [(fold != i) & (fold != (i + 1) % analysis.folds) for i in range(analysis.folds)]
        samples = [(x[rows], mjj[rows]) for rows in kept]
    paths = [folders[0].with_name("common")] if weak else folders
    for i, (folder, (sample, masses)) in enumerate(zip(paths, samples, strict=True)):
        regions = analysis.region_settings
        places = regions.number or 0 if regions.shape == "mosaic" else 0
        scorer = Quak(seed=analysis.seed + i, alpha=regions.alpha, neighbourhoods=places, **options)
        folder.parent.mkdir(parents=True, exist_ok=True)
        checkpoint = folder.with_name(f"{folder.name}.checkpoint")
        log.info("training model %d of %d on %d events", i + 1, len(paths), len(sample))
        scorer.fit(sample, priors=priors, mass=masses, columns=features, checkpoint=checkpoint, progress=progress)
        scorer.save(folder)
        remove(checkpoint)
    if weak:
        held = tables["background"].select(held_out_rows(analysis, tables["background"]))
        held_x, held_fold = held.matrix(features), fold_of(event_hash(held, features), analysis.folds)
        common = load_scorer(paths[0])
        if not isinstance(common, Quak):
            raise InputError(f"{paths[0]}: holds a {type(common).__name__}, a Quak is expected")
        for i, folder in enumerate(folders):
            log.info("narrowing the family down by data, fold %d of %d", i + 1, len(folders))
            others = fold != i
            narrowed = common.narrow(
                x[others], priors=priors, reference=held_x[held_fold != i], mass=mjj[others], progress=progress
            )
            narrowed.save(folder)
