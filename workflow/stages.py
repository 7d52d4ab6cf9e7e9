"""The stages of a search in order: process, train, score, hunt, limits, report. Each reads and writes files of one output folder.

A stage is skipped when its key is unchanged: what it reads of the configuration, the content of its inputs, and the source of the
rooms that it uses; and when what it wrote is as it was. Its stamp is written last. Until then finished pieces of its work are kept
(`hunch.pieces`), so that a killed run goes on where it was: at the sample, the chunk, the model, the epoch, the experiments.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Analysis
from ..errors import HunchError, unknown_name
from ..files import remove, require_place
from ..lock import writing
from ..pieces import Pieces
from .hunt import hunt
from .layout import (
    FOLDERS,
    in_output,
    model_paths,
    plain_paths,
    region_settings_of,
    sample_inputs,
    score_path,
    scores_of,
    simulated_signals,
    stamp_path,
    started_from,
    table_path,
    tables_of,
    training_samples,
)
from .limits import limits, report
from .of_result import validation_files
from .older import mark_older
from .process import process, settings_of
from .score import score
from .stamps import Key, hashed, source_hash, stamp_holds, why_stale, write_stamp
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
    do: Callable[[Analysis, bool, Pieces], None]


def run(analysis: Analysis, *, force: Sequence[str] = (), progress: bool = True) -> dict[str, Any]:
    """Run every stage that is not up to date and return the result; `force` reruns stages and what depends on them.

    Raises HunchError for an unknown stage, and where another run uses the output folder.
    """
    for name in force:
        if name not in STAGES:
            raise HunchError(unknown_name("stage", name, STAGES, "--force"))
    from .given_spectra import read_any_result

    with writing(Path(analysis.output), within=FOLDERS):
        for name in STAGES:
            run_stage(analysis, name, force=name in force, progress=progress)
        return read_any_result(Path(analysis.output))


def run_stage(analysis: Analysis, name: str, *, force: bool = False, progress: bool = True) -> bool:
    """Run one stage unless it is up to date; say whether it ran.

    Raises HunchError where an earlier stage is missing or was run with other settings or inputs, and where another run uses the
    output folder.
    """
    stage, output = STAGES[name], Path(analysis.output)
    with writing(output, within=FOLDERS):
        check_earlier(analysis, name)
        stamp, kept = stamp_path(analysis, name), output / ".stages" / "pieces" / name
        key = stage_key(analysis, stage)
        if not force and stamp_holds(stamp, key, stage.writes(analysis)):
            remove(kept)
            log.info("%s: up to date", name)
            return False
        require_place(output)
        log.info("%s: running", name)
        if name != "report":
            mark_older(output)
        if force:
            remove(kept)
            if name == "process":
                remove(output / ".stages" / "tables")
        # an old stamp stays until the new one: it holds hashes of its outputs, so that what was half written does not pass for them
        stage.do(analysis, progress, Pieces(kept, key.hash))
        write_stamp(stamp, key, stage.writes(analysis))
        remove(kept)
    return True


def check_earlier(analysis: Analysis, name: str, *, asked: str | None = None, any_source: bool = False) -> None:
    """Raise HunchError where what the stages before this one wrote is missing, was changed, or is of another configuration.

    asked: what the user asked for, where that is no stage; any_source: whether another version of the program may have run them.
    """
    before = list(STAGES)[: list(STAGES).index(name)]
    for i, earlier in enumerate(before):
        stage = STAGES[earlier]
        why = why_stale(
            stamp_path(analysis, earlier), stage_key(analysis, stage), stage.writes(analysis), any_source=any_source
        )
        if why:
            needed = ", ".join(f"hunch {own}" for own in before[i:])
            raise HunchError(
                f"{analysis.output}: stage {earlier!r} {why}; before {asked or name!r} run {needed}, or hunch run, which does all "
                "that is needed"
            )


def stage_key(analysis: Analysis, stage: Stage) -> Key:
    """Return the stage's key: its settings, the content of its inputs, and its source."""
    return Key(
        stage.name,
        stage.settings(analysis),
        hashed(stage.reads(analysis)),
        source_hash(*stage.rooms, "workflow"),
    )


def training_settings(analysis: Analysis) -> dict[str, Any]:
    """Return what training depends on: neither regions but their number of hypotheses, nor signals, nor folds that are not used."""
    plan, before = analysis.plan, started_from(analysis)
    # what is in the folder is an input, whatever its place
    options = analysis.scorer_options | {option: folder.name for option, folder in before.items()}
    return {
        "representation": {k: v for k, v in settings_of(analysis).items() if k != "skip_bad_files"},
        "scorer": [analysis.scorer_name, options],
        "seed": analysis.seed,
        "hypotheses": analysis.hypotheses,
        "samples": training_samples(analysis),
        "folds": plan.n_models if plan.n_models > 1 else None,
        "held_out": plan.held_out if plan.background else None,
        "weak": plan.weak,
        "exposure_jets": analysis.samples.exposure_jets,
        "without_exposure": bool(plain_paths(analysis)),
        **({"prior_scorer": [analysis.prior_method.__name__, analysis.prior_options]} if analysis.prior_method else {}),
    }


def training_inputs(analysis: Analysis) -> list[Path]:
    """Return what training reads: tables, and the folders of the models that it starts from."""
    tables = [table_path(analysis, name) for name in training_samples(analysis)]
    return [*tables, *started_from(analysis).values()]


def scoring_settings(analysis: Analysis) -> dict[str, Any]:
    """Return what scoring depends on."""
    return {**training_settings(analysis), "metric": analysis.axis_metric, "per_jet": analysis.per_jet}


HUNT_KEYS = (
    *(
        "seed",
        "fit_range",
        "masses",
        "width",
        "sqrt_s",
        "background_function",
        "combination",
        "pseudo_experiments",
        "after_first",
        "blind",
    ),
    *("plane_scan", "expected_discovery", "hunt", "count", "luminosity", "observable"),
)


def hunting_settings(analysis: Analysis) -> dict[str, Any]:
    """Return what the hunt depends on."""
    own = analysis.model_dump(mode="json", include=set(HUNT_KEYS))
    if analysis.hunt == "bump":
        del own["count"]
        if analysis.expected_discovery is None:
            del own["luminosity"], own["expected_discovery"]
    else:
        own["confidence"] = analysis.limits.confidence
    signals = {} if analysis.expected_discovery is None else {"signals": simulated_signals(analysis)}
    return {**own, "regions": region_settings_of(analysis), "priors": list(analysis.samples.priors), **signals}


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
        lambda a: {
            **settings_of(a),
            "exposure_jets": a.samples.exposure_jets,
            "samples": {name: len(files) for name, files in a.sample_files().items()},
        },
        sample_inputs,
        tables_of,
        ("processors",),
        process,
    ),
    "train": Stage(
        "train",
        training_settings,
        training_inputs,
        lambda a: [*model_paths(a), *plain_paths(a)],
        ("models", "processors"),
        train,
    ),
    "score": Stage(
        "score",
        scoring_settings,
        lambda a: [*tables_of(a), *model_paths(a), *plain_paths(a)],
        scores_of,
        ("models", "processors"),
        score,
    ),
    "hunt": Stage(
        "hunt",
        hunting_settings,
        lambda a: [*scores_of(a), *tables_of(a), *model_paths(a), *plain_paths(a)],
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
        lambda a: [*in_output("result.json", "limits.json", "limits", "figures")(a), *validation_files(Path(a.output))],
        in_output("report.html"),
        ("analysis",),
        report,
    ),
}
"""The stages, in order."""
