"""The second stage: a space of losses is trained on the background, or one a fold of the data."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..config import Analysis
from ..files import make_folder, remove
from ..folds import fold_hash
from ..pieces import NONE_KEPT, Pieces
from ..table import EVENT_ID, Table, read_table, table_info
from .before_training import check_before_training
from .layout import model_paths, plain_paths, table_path, training_samples
from .stamps import finish, is_finished

if TYPE_CHECKING:
    from ..models.space import Sample, Space

__all__ = ["train"]

log = logging.getLogger(__name__)


def train(analysis: Analysis, progress: bool, pieces: Pieces = NONE_KEPT) -> None:
    """Train one space on the background, or one a fold of the data, as the plan of folds says.

    pieces: where it is noted which of them are finished.

    With weak supervision and a background sample, model i has the densities of the background sample and the hypotheses that all
    folds of the data but i narrow down, against those held-out background events that do not fix the regions of fold i. An exposed
    model i is trained without exposure too, on the same events, to be compared with. Raises
    InputError before the first training for what the tables alone tell that training or the hunt cannot do.
    """
    check_before_training(analysis)
    plan, folders, plain = analysis.plan, model_paths(analysis), plain_paths(analysis)
    tables = {name: training_table(analysis, name) for name in training_samples(analysis)}
    hashes = {
        name: fold_hash(tables[name], analysis.represented.content) for name in tables if name in {"data", "background"}
    }
    priors = {name: samples_of(analysis, tables[f"prior.{name}"]) for name in analysis.samples.priors}
    exposure = exposure_of(analysis, tables["exposure"]) if "exposure" in tables else None
    narrowing = plan.weak and plan.background
    paths = [folders[0].with_name("common")] if narrowing else folders
    for number, folder in enumerate([*paths, *plain]):
        i, is_plain = number % len(paths), number >= len(paths)
        name = f"model {i + 1} of {len(paths)}{' without exposure' if is_plain else ''}"
        if is_finished(pieces, folder):
            log.info("%s is trained already", name)
            continue
        rows = (
            ("background", ~plan.held_out_rows(hashes["background"]))
            if plan.background
            else ("data", plan.trains_on_data(hashes["data"], i))
        )
        sample = samples_of(analysis, tables[rows[0]], rows[1])
        space = space_of(analysis, tuple(priors), number=i, exposed=not is_plain)
        make_folder(folder.parent)
        checkpoint = folder.with_name(f"{folder.name}.checkpoint")
        log.info("training %s on %d events", name, len(sample))
        shown = None if is_plain else exposure
        space.fit(sample, priors=priors, exposure=shown, checkpoint=checkpoint, progress=progress)
        space.save(folder)
        finish(pieces, folder)
        for left in folder.parent.glob(f"{folder.name}.checkpoint*"):
            remove(left)
    if narrowing:
        narrow(analysis, tables, hashes, priors, pieces=pieces, progress=progress)


def space_of(analysis: Analysis, priors: tuple[str, ...], *, number: int, exposed: bool) -> Space:
    """Return the unfitted space of a model of an analysis, number 0 and on, with the axes of `priors`."""
    from ..models.space import make_space

    unexposed = {} if exposed else {"exposure": "none"}
    return make_space(
        analysis.scorer_name,
        kind=analysis.represented.kind,
        priors=priors,
        options={**analysis.scorer_options, **unexposed},
        seed=analysis.seed + number,
        hypotheses=analysis.hypotheses,
        prior_scorer=None if analysis.prior_method is None else analysis.prior_method.__name__,
        prior_options=analysis.prior_options,
    )


def narrow(
    analysis: Analysis,
    tables: dict[str, Table],
    hashes: dict[str, npt.NDArray[np.uint64]],
    priors: dict[str, Sample],
    *,
    pieces: Pieces,
    progress: bool,
) -> None:
    """Narrow the common space's hypotheses down, once a fold, by the data of the other folds."""
    from ..models.space import load_space

    plan, folders = analysis.plan, model_paths(analysis)
    common: Any = load_space(folders[0].with_name("common"))  # of a class that says it narrows
    held = plan.held_out_rows(hashes["background"])
    for i, folder in enumerate(folders):
        if is_finished(pieces, folder):
            continue
        log.info("narrowing the hypotheses down by data, fold %d of %d", i + 1, len(folders))
        reference = held & plan.reference_rows(hashes["background"], i)
        common.narrow(
            samples_of(analysis, tables["data"], plan.narrows_on_data(hashes["data"], i)),
            priors=priors,
            reference=samples_of(analysis, tables["background"], reference),
            progress=progress,
        ).save(folder)
        finish(pieces, folder)


def training_table(analysis: Analysis, sample: str) -> Table:
    """Read the columns of a sample that training needs, and no others."""
    path = table_path(analysis, sample)
    known = table_info(path).columns
    wanted = (*analysis.represented_of(sample).content, *((EVENT_ID,) if EVENT_ID in known else ()))
    return read_table(path, columns=tuple(dict.fromkeys(wanted)))


def samples_of(analysis: Analysis, table: Table, rows: npt.NDArray[np.bool_] | None = None) -> Sample:
    """Return a table's rows as what a space is fitted on: inputs, observable and event hashes."""
    from ..processors import sample_of

    return sample_of(table if rows is None else table.select(rows), analysis.represented)


def exposure_of(analysis: Analysis, table: Table) -> Sample:
    """Return the exposure sample; of events of one jet beside those of two without names, since their jets are those of any place."""
    from ..processors import sample_of

    own = analysis.represented_of("exposure")
    sample = sample_of(table, own)
    if own.inputs == analysis.represented.inputs:
        return sample
    return dataclasses.replace(sample, names=(), made={})
