"""The stages of a search in order. Each reads and writes files of one output folder.

A stage is skipped when its key is unchanged: its settings, the content of its inputs and the package's own source. Its
stamp is written last, so a killed run resumes at the stage, and the training at the epoch, where it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..config import Analysis
from ..errors import HunchError, unknown_name
from ..files import write_json
from .hunt import hunt
from .layout import (
    features_of,
    in_output,
    model_paths,
    sample_inputs,
    score_path,
    scores_of,
    simulated_signals,
    tables_of,
)
from .limits import limits, report
from .process import process
from .score import score
from .train import train

__all__ = ["HUNT_KEYS", "STAGES", "Stage", "file_hash", "run", "run_stage", "source_hash", "stage_key", "stamp_holds"]

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage: the settings it depends on, the files it reads and writes, and what it does."""

    name: str
    keys: tuple[str, ...]
    reads: Callable[[Analysis], list[Path]]
    writes: Callable[[Analysis], list[Path]]
    do: Callable[[Analysis, bool], None]


def run(analysis: Analysis, *, force: Sequence[str] = (), progress: bool = True) -> dict[str, Any]:
    """Run every stage that is not up to date and return the result; `force` reruns stages and what depends on them."""
    for name in force:
        if name not in STAGES:
            raise HunchError(unknown_name("stage", name, STAGES, "--force"))
    for name in STAGES:
        run_stage(analysis, name, force=name in force, progress=progress)
    from .given_spectra import read_result

    return read_result(Path(analysis.output))


def run_stage(analysis: Analysis, name: str, *, force: bool = False, progress: bool = True) -> bool:
    """Run one stage unless it is up to date; say whether it ran. Raises HunchError where an earlier stage is missing."""
    stage = STAGES[name]
    for path in stage.reads(analysis):
        if not path.exists():
            raise HunchError(
                f"{path}: not there yet; run the stages before {name!r} first (hunch run does all of them)"
            )
    stamp = Path(analysis.output) / ".stages" / f"{name}.json"
    key = stage_key(analysis, stage)
    if not force and stamp_holds(stamp, key, stage.writes(analysis)):
        log.info("%s: up to date", name)
        return False
    stamp.unlink(missing_ok=True)
    log.info("%s: running", name)
    stage.do(analysis, progress)
    write_json(stamp, {"stage": name, "key": key, "version": __version__})
    return True


def stamp_holds(stamp: Path, key: str, writes: Sequence[Path]) -> bool:
    """Tell whether a stage was finished with this key and all that it wrote is still there."""
    try:
        stored = json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(stored.get("key") == key) and all(path.exists() for path in writes)


def stage_key(analysis: Analysis, stage: Stage) -> str:
    """Hash the stage's settings, the content of its inputs and the package's source."""
    settings = analysis.model_dump(mode="json", include=set(stage.keys))
    if "features" in settings:
        settings["features"] = features_of(analysis)
    inputs = [[str(path), file_hash(path)] for path in stage.reads(analysis)]
    text = json.dumps([stage.name, settings, inputs, source_hash()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def file_hash(path: Path) -> str:
    """Hash a file's content, or a folder's files in order of name."""
    if path.is_dir():
        parts = [f"{p.relative_to(path)}:{file_hash(p)}" for p in sorted(path.rglob("*")) if p.is_file()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def source_hash() -> str:
    """Hash the package's own source files."""
    root = Path(__file__).parents[1]
    rooms = ("models", "analysis", "samples", "processors", "workflow", "cli")
    sources = [*root.glob("*.py"), *(p for room in rooms for p in (root / room).rglob("*.py"))]
    return hashlib.sha256("".join(file_hash(p) for p in sorted(sources)).encode()).hexdigest()


HUNT_KEYS = (
    "samples",
    "seed",
    "regions",
    "fit_range",
    "masses",
    "sqrt_s",
    "weak_supervision",
    "background_function",
    "combination",
    "pseudo_experiments",
    "blind",
    "plane_scan",
)

STAGES: dict[str, Stage] = {
    "process": Stage(
        "process",
        ("samples", "features", "weak_supervision", "jets", "skip_bad_files"),
        sample_inputs,
        tables_of,
        process,
    ),
    "train": Stage(
        "train",
        ("samples", "features", "seed", "folds", "held_out", "weak_supervision", "training", "regions"),
        tables_of,
        model_paths,
        train,
    ),
    "score": Stage(
        "score",
        ("samples", "features", "folds", "held_out", "weak_supervision"),
        lambda a: [*tables_of(a), *model_paths(a)],
        scores_of,
        score,
    ),
    "hunt": Stage(
        "hunt",
        HUNT_KEYS,
        lambda a: [*scores_of(a), *tables_of(a), *model_paths(a)],
        in_output("regions.json", "spectra.root", "result.json", "figures"),
        hunt,
    ),
    "limits": Stage(
        "limits",
        ("samples", "limits", "luminosity", "blind"),
        lambda a: [
            *in_output("result.json", "regions.json")(a),
            *(score_path(a, name) for name in simulated_signals(a)),
        ],
        in_output("limits.json"),
        limits,
    ),
    "report": Stage("report", (), in_output("result.json", "limits.json", "figures"), in_output("report.html"), report),
}
"""The stages, in order."""
