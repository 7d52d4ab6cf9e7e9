"""The checks of a finished search at full size."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np

from ..config import REPRESENTED_BY, Analysis
from ..errors import HunchError
from ..files import finite, write_json
from ..table import read_table, table_info, write_table
from .layout import table_path
from .limits import report
from .score import read_scored
from .stages import check_earlier, run_stage
from .stamps import only_run

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
    with only_run(output):
        check_earlier(analysis, "report", asked="validate")
        return checks_of(analysis, retrain=retrain, progress=progress, **numbers)


def checks_of(analysis: Analysis, *, retrain: int, progress: bool, **numbers: int) -> dict[str, Any]:
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
        **numbers,
    )
    if retrain:
        inner = numbers.get("inner", 500)
        p, events = retrained_p(analysis, retrain, inner=inner)
        how = f"{events:.0f} events of validation, models trained anew in each"
        again = global_uniformity(p, how=how, inner=inner, events=events)
        made = dataclasses.replace(made, global_p=(*made.global_p, again))
    checks: dict[str, Any] = finite(made.as_dict())
    write_validation(made, output)
    write_json(output / "validation.json", checks)
    report(analysis, progress)
    return checks


def retrained_p(analysis: Analysis, n: int, *, inner: int) -> tuple[list[float], float]:
    """Run the analysis on n datasets drawn from the validation sample, models and all; return global p and mean events."""
    import tempfile

    from .given_spectra import read_result

    pool = read_table(table_path(analysis, "validation"))
    events = min(table_info(table_path(analysis, "data")).rows, len(pool) // 2)
    found = []
    for i in range(n):
        rng = np.random.default_rng(np.random.SeedSequence([analysis.seed, 0x2E7, i]))
        rows = np.sort(rng.choice(len(pool), min(int(rng.poisson(events)), len(pool)), replace=False))
        with tempfile.TemporaryDirectory(dir=analysis.output, prefix=".retrained.") as folder:
            drawn = Path(folder) / "data.parquet"
            write_table(drawn, pool.select(rows))
            files = {name: (str(table_path(analysis, name)),) for name in analysis.sample_files()}
            samples = analysis.samples.model_copy(
                update={
                    "data": (str(drawn),),
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
                }
            )
            for stage in ("process", "train", "score", "hunt"):
                run_stage(own, stage, progress=False)
            found.append(float(read_result(Path(own.output))["best"]["p_global"]))
            log.info("retrained experiment %d of %d: global p = %.3g", i + 1, n, found[-1])
    return found, float(events)


def own_representation(analysis: Analysis) -> dict[str, Any]:
    """Return the key `representation` that says all of an analysis', that of its jets too, but what keys of their own say."""
    made = analysis.represented
    return {"name": made.name, **{k: v for k, v in made.settings().items() if k not in REPRESENTED_BY}}
