"""The checks of a finished search at full size."""

from __future__ import annotations

import dataclasses
import functools
import logging
from pathlib import Path
from typing import Any

import numpy as np

from ..config import REPRESENTED_BY, Analysis
from ..errors import HunchError
from ..files import finite, remove, write_json
from ..lock import writing
from ..pieces import NONE_KEPT, Pieces
from ..table import Table, read_table, table_info, write_table
from .layout import FOLDERS, scores_of, table_path, tables_of
from .of_result import stamp_of_result
from .older import mark_older
from .score import read_scored
from .stages import check_earlier, run_stage
from .stamps import Key, hashed, source_hash

__all__ = ["retrained_p", "validate_analysis"]

log = logging.getLogger(__name__)


def validate_analysis(analysis: Analysis, *, retrain: int = 0, progress: bool = True, **numbers: int) -> dict[str, Any]:
    """Make every check of a finished search at full size; write validation.json, figures and report.html anew.

    Outer experiments are drawn from samples.validation, else from the held-out background that fixed the regions. retrain: as
    many more whole analyses on data drawn from samples.validation, models trained anew. numbers: local, outer, inner,
    injected, workers of `analysis.validate`.
    """
    if analysis.hunt == "count":
        raise HunchError(
            "hunt: count has no spectra to check; its closure on held-out background stands in result.json"
        )
    from .given_spectra import read_result

    output = Path(analysis.output)
    read_result(output)
    with writing(output, within=FOLDERS):
        check_earlier(analysis, "report", asked="validate")
        for left in output.glob(".retrained.*"):  # of a killed run
            remove(left)
        mark_older(output)
        inputs = [output / "result.json", output / "regions.json", *scores_of(analysis), *tables_of(analysis)]
        key = Key(
            "validate", analysis.seed, hashed(inputs), source_hash("analysis", "models", "processors", "workflow")
        )
        pieces = Pieces(output / ".stages" / "pieces" / "validate", key.hash)
        checks = checks_of(analysis, pieces=pieces, retrain=retrain, progress=progress, **numbers)
        run_stage(analysis, "report", progress=progress)
        remove(output / ".stages" / "pieces" / "validate")
    return checks


def checks_of(analysis: Analysis, *, pieces: Pieces, retrain: int, progress: bool, **numbers: int) -> dict[str, Any]:
    """Make the checks of a finished search and write them."""
    from ..analysis import global_uniformity, read_regions, validate, write_validation
    from .given_spectra import hunt_in

    output = Path(analysis.output)
    found, names = hunt_in(output)
    pool = None
    if analysis.samples.validation is not None or analysis.samples.background is not None:
        pool = read_scored(analysis, "calibration" if analysis.samples.validation is None else "validation")
    if retrain and analysis.samples.validation is None:
        raise HunchError("--retrain needs samples.validation: background events from which whole datasets are drawn")
    made = validate(
        found,
        names,
        seed=analysis.seed,
        events=float(table_info(table_path(analysis, "data")).rows),
        pool=pool,
        regions=None if pool is None else read_regions(output / "regions.json"),
        progress=progress,
        pieces=pieces,
        **numbers,
    )
    if retrain:
        inner = numbers.get("inner", 500)
        p, events = retrained_p(analysis, retrain, inner=inner, pieces=pieces)
        how = f"{events:.0f} events of validation, models trained anew in each"
        again = global_uniformity(p, how=how, inner=inner, events=events)
        made = dataclasses.replace(made, global_p=(*made.global_p, again))
    checks: dict[str, Any] = finite(made.as_dict())
    remove(output / "validation.json")
    write_validation(made, output)
    write_json(output / "validation.json", checks)
    stamp_of_result(output, "validate")
    return checks


def retrained_p(analysis: Analysis, n: int, *, inner: int, pieces: Pieces = NONE_KEPT) -> tuple[list[float], float]:
    """Run the analysis on n datasets drawn from the validation sample, models and all; return global p and mean events."""
    pool = read_table(table_path(analysis, "validation"))
    events = min(table_info(table_path(analysis, "data")).rows, len(pool) // 2)
    own, found = pieces.of("retrained", analysis.model_dump(mode="json"), inner), []
    for i in range(n):
        rng = np.random.default_rng(np.random.SeedSequence([analysis.seed, 0x2E7, i]))
        rows = np.sort(rng.choice(len(pool), min(int(rng.poisson(events)), len(pool)), replace=False))
        made = own.kept(f"{i}", functools.partial(one_retrained, analysis, i, pool.select(rows), inner=inner))
        found.append(float(made["p"]))
        log.info("retrained experiment %d of %d: global p = %.3g", i + 1, n, found[-1])
    return found, float(events)


def one_retrained(analysis: Analysis, i: int, drawn: Table, *, inner: int) -> dict[str, float]:
    """Run the analysis on events in place of the data, with seeds of experiment i, and return the global p."""
    import tempfile

    from .given_spectra import read_result

    with tempfile.TemporaryDirectory(dir=analysis.output, prefix=".retrained.") as folder:
        data = Path(folder) / "data.parquet"
        write_table(data, drawn)
        files = {name: (str(table_path(analysis, name)),) for name in analysis.sample_files()}
        samples = analysis.samples.model_copy(
            update={
                "data": (str(data),),
                "background": files.get("background"),
                "priors": {name: files[f"prior.{name}"] for name in analysis.samples.priors},
                "signals": {},
                "exposure": files.get("exposure"),
                "validation": None,
            }
        )
        own = analysis.model_copy(
            update={
                "samples": samples,
                "output": str(Path(folder) / "out"),
                "seed": analysis.seed + 1 + i,
                "pseudo_experiments": inner,
                "blind": False,
                "jets": {},
                "representation": own_representation(analysis),
                "plane_scan": None,
                "expected_discovery": None,
                "without_exposure": False,
            }
        )
        for stage in ("process", "train", "score", "hunt"):
            run_stage(own, stage, progress=False)
        return {"p": float(read_result(Path(own.output))["best"]["p_global"])}


def own_representation(analysis: Analysis) -> dict[str, Any]:
    """Return the key `representation` that says all of an analysis', that of its jets too, but what keys of their own say."""
    made = analysis.represented
    return {"name": made.name, **{k: v for k, v in made.settings().items() if k not in REPRESENTED_BY}}
