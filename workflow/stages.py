"""The stages of a search in order: process, train, score, hunt, limits, report. Each reads and writes files of one output folder.

A stage is skipped when its key is unchanged: what it reads of the configuration, the content of its inputs, and the source of the
rooms that it uses; and when what it wrote is as it was. Its stamp is written last, so a killed run resumes at the stage, and the
training at the epoch, where it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Analysis
from ..errors import HunchError, unknown_name
from ..files import remove
from .hunt import hunt
from .layout import (
    in_output,
    model_paths,
    region_settings_of,
    sample_inputs,
    score_path,
    scores_of,
    simulated_signals,
    table_path,
    tables_of,
    training_samples,
)
from .limits import limits, report
from .process import process, settings_of
from .score import score
from .stamps import file_hash, key_of, only_run, source_hash, stamp_holds, write_stamp
from .train import train

__all__ = ["STAGES", "Stage", "check_earlier", "run", "run_stage", "stage_key"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """One stage: what it reads of the configuration, its files, the rooms whose source it runs, and what it does."""

    name: str
    settings: Callable[[Analysis], Any]
    reads: Callable[[Analysis], list[Path]]
    writes: Callable[[Analysis], list[Path]]
    rooms: tuple[str, ...]
    do: Callable[[Analysis, bool], None]


def run(analysis: Analysis, *, force: Sequence[str] = (), progress: bool = True) -> dict[str, Any]:
    """Run every stage that is not up to date and return the result; `force` reruns stages and what depends on them.

    Raises HunchError for an unknown stage, and where another run uses the output folder.
    """
    for name in force:
        if name not in STAGES:
            raise HunchError(unknown_name("stage", name, STAGES, "--force"))
    with only_run(Path(analysis.output)):
        for name in STAGES:
            run_stage(analysis, name, force=name in force, progress=progress)
    from .given_spectra import read_any_result

    return read_any_result(Path(analysis.output))


def run_stage(analysis: Analysis, name: str, *, force: bool = False, progress: bool = True) -> bool:
    """Run one stage unless it is up to date; say whether it ran.

    Raises HunchError where an earlier stage is missing or was run with other settings or inputs, and where another run uses the
    output folder.
    """
    stage = STAGES[name]
    with only_run(Path(analysis.output)):
        check_earlier(analysis, name)
        stamp = stamp_path(analysis, name)
        key = stage_key(analysis, stage)
        if not force and stamp_holds(stamp, key, stage.writes(analysis)):
            log.info("%s: up to date", name)
            return False
        # an old stamp stays until the new one: it holds hashes of its outputs, so that what was half written does not pass for them
        sweep(Path(analysis.output))
        log.info("%s: running", name)
        stage.do(analysis, progress)
        write_stamp(stamp, key, stage.writes(analysis))
    return True


def sweep(output: Path) -> None:
    """Delete the half-written files and folders that a killed run left; the output folder is held, so nobody writes them."""
    for folder in (output, *(output / name for name in ("tables", "scores", "models"))):
        for left in folder.glob(".*.part"):
            remove(left)


def check_earlier(analysis: Analysis, name: str, *, asked: str | None = None) -> None:
    """Raise HunchError where what the stages before this one wrote is missing, was changed, or is of another configuration.

    asked: what the user asked for, where that is no stage.
    """
    wanted = asked or name
    for earlier, stage in STAGES.items():
        if earlier == name:
            return
        if not stamp_path(analysis, earlier).is_file():
            raise HunchError(
                f"{analysis.output}: stage {earlier!r} has not been run yet; run the stages before {wanted!r} first (hunch run does "
                "all of them)"
            )
        if not stamp_holds(
            stamp_path(analysis, earlier), stage_key(analysis, stage), stage.writes(analysis), any_source=True
        ):
            raise HunchError(
                f"{analysis.output}: what stage {earlier!r} wrote is of another configuration, of other inputs, or was changed "
                f"since; run the stages before {wanted!r} first (hunch run does all of them)"
            )


def stamp_path(analysis: Analysis, name: str) -> Path:
    """Return where a stage's stamp is."""
    return Path(analysis.output) / ".stages" / f"{name}.json"


def stage_key(analysis: Analysis, stage: Stage) -> str:
    """Return the stage's key: the hash of its settings and of the content of its inputs, then that of its source."""
    inputs = [[path.name, file_hash(path)] for path in stage.reads(analysis)]
    return f"{key_of([stage.name, stage.settings(analysis), inputs])}.{source_hash(*stage.rooms, 'workflow')}"


def training_settings(analysis: Analysis) -> dict[str, Any]:
    """Return what training depends on: neither regions but their number of hypotheses, nor signals, nor folds that are not used."""
    plan = analysis.plan
    return {
        "representation": {k: v for k, v in settings_of(analysis).items() if k != "skip_bad_files"},
        "scorer": [analysis.scorer_name, analysis.scorer_options],
        "seed": analysis.seed,
        "hypotheses": analysis.hypotheses,
        "samples": training_samples(analysis),
        "folds": plan.n_models if plan.n_models > 1 else None,
        "held_out": plan.held_out if plan.background else None,
        "weak": plan.weak,
    }


def scoring_settings(analysis: Analysis) -> dict[str, Any]:
    """Return what scoring depends on."""
    return {**training_settings(analysis), "metric": analysis.metric, "per_jet": analysis.per_jet}


HUNT_KEYS = (
    *("seed", "fit_range", "masses", "sqrt_s", "background_function", "combination", "pseudo_experiments", "blind"),
    *("plane_scan", "hunt", "count", "luminosity", "observable"),
)


def hunting_settings(analysis: Analysis) -> dict[str, Any]:
    """Return what the hunt depends on."""
    own = analysis.model_dump(mode="json", include=set(HUNT_KEYS))
    if analysis.hunt == "bump":
        del own["count"], own["luminosity"]  # of the counting experiment alone
    else:
        own["confidence"] = analysis.limits.confidence
    return {**own, "regions": region_settings_of(analysis), "priors": list(analysis.samples.priors)}


def limit_settings(analysis: Analysis) -> dict[str, Any]:
    """Return what the limits depend on."""
    return {
        **analysis.model_dump(mode="json", include={"limits", "luminosity", "blind", "hunt", "count"}),
        "signals": simulated_signals(analysis),
    }


HUNTED = ("regions.json", "spectra.root", "plane_scan.json", "result.json", "figures")
COUNTED = ("result.json", "figures")
"""What the hunt for a bump writes, and the counting experiment."""

STAGES: dict[str, Stage] = {
    "process": Stage(
        "process",
        lambda a: [settings_of(a), list(a.sample_files())],
        sample_inputs,
        tables_of,
        ("processors",),
        process,
    ),
    "train": Stage(
        "train",
        training_settings,
        lambda a: [table_path(a, name) for name in training_samples(a)],
        model_paths,
        ("models", "processors"),
        train,
    ),
    "score": Stage(
        "score",
        scoring_settings,
        lambda a: [*tables_of(a), *model_paths(a)],
        scores_of,
        ("models", "processors"),
        score,
    ),
    "hunt": Stage(
        "hunt",
        hunting_settings,
        lambda a: [*scores_of(a), *tables_of(a), *model_paths(a)],
        lambda a: in_output(*(HUNTED if a.hunt == "bump" else COUNTED))(a),
        ("analysis", "models"),
        hunt,
    ),
    "limits": Stage(
        "limits",
        limit_settings,
        lambda a: [
            *in_output("result.json", *(["regions.json"] if a.hunt == "bump" else []))(a),
            *(model_paths(a) if a.hunt == "count" else []),
            *(score_path(a, name) for name in simulated_signals(a)),
        ],
        in_output("limits.json", "limits"),
        ("analysis", "models"),
        limits,
    ),
    "report": Stage(
        "report",
        lambda _: None,
        in_output("result.json", "limits.json", "figures"),
        in_output("report.html"),
        ("analysis",),
        report,
    ),
}
"""The stages, in order."""
