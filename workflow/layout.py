"""Where an analysis keeps its files, which samples it has, and which columns stand for what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Analysis
from ..errors import InputError

if TYPE_CHECKING:
    from ..processors import Running

__all__ = [
    "FOLDERS",
    "JET_MASS",
    "in_output",
    "inputs_of",
    "model_paths",
    "plain_paths",
    "region_axes",
    "region_settings_of",
    "running_of",
    "sample_inputs",
    "score_path",
    "scored_samples",
    "scores_of",
    "simulated_signals",
    "stamp_path",
    "started_from",
    "table_path",
    "tables_of",
    "training_samples",
]

FOLDERS = ("tables", "models", "scores", "figures", "limits", "validation", ".stages", ".spectra")
"""Folders of an output folder in which files are written under temporary names."""


JET_MASS = "mJ_1"
"""The column of a table that holds the mass of an event's jet, of two the more massive one."""


def stamp_path(analysis: Analysis, name: str) -> Path:
    """Return where a stage's stamp is."""
    return Path(analysis.output) / ".stages" / f"{name}.json"


def table_path(analysis: Analysis, sample: str) -> Path:
    """Return where a sample's table is, a folder of parts."""
    return Path(analysis.output) / "tables" / f"{sample}.parquet"


def score_path(analysis: Analysis, sample: str) -> Path:
    """Return where a sample's scored table is, a folder of parts."""
    return Path(analysis.output) / "scores" / f"{sample}.parquet"


def model_paths(analysis: Analysis) -> list[Path]:
    """Return the folders of the spaces that hunt: one trained on the background, or one a fold of the data."""
    return [Path(analysis.output) / "models" / f"fold_{i}" for i in range(analysis.plan.n_models)]


def plain_paths(analysis: Analysis) -> list[Path]:
    """Return the folders of what an exposed search is compared with: its models, trained without exposure; else none.

    No hunt looks at them.
    """
    if not (analysis.is_exposed and analysis.without_exposure and analysis.hunt == "bump"):
        return []
    return [Path(analysis.output) / "models" / f"plain_{i}" for i in range(analysis.plan.n_models)]


def started_from(analysis: Analysis) -> dict[str, Path]:
    """Return option -> folder of the models that training starts from, or builds on as they are; none where it starts afresh."""
    return {option: Path(folder) for option, folder in analysis.method.folders(analysis.scorer_options).items()}


def region_axes(analysis: Analysis, axis_names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the losses that the regions look at, the background's first.

    axis_names: of all losses: the background, each prior, and where the method has one their family and its hypotheses.
    """
    priors = tuple(analysis.samples.priors)
    if not priors:
        chosen: tuple[str, ...] = ("background",)
    elif analysis.axis == "priors":
        chosen = ("background", *priors)
    elif analysis.region_settings.shape == "mosaic":
        chosen = ("background", *(name for name in axis_names if name.startswith("family ")))
    else:
        chosen = ("background", "family")
    missing = [name for name in chosen if name not in axis_names]
    if missing:
        raise InputError(f"regions look at the losses {', '.join(chosen)}; the models give {', '.join(axis_names)}")
    return chosen


def region_settings_of(analysis: Analysis) -> dict[str, Any]:
    """Return the settings of the regions with nothing absent, the losses that stand for the signal too."""
    return {**analysis.region_settings.model_dump(mode="json"), "axis": analysis.axis}


def training_samples(analysis: Analysis) -> list[str]:
    """Return the samples that training reads: the background, or the data where there is none or they narrow down hypotheses."""
    own = ["background"] if analysis.samples.background is not None else []
    if not own or analysis.weak_supervision:
        own.insert(0, "data")
    if analysis.samples.exposure is not None:
        own.append("exposure")
    return [*own, *(f"prior.{name}" for name in analysis.samples.priors)]


def scored_samples(analysis: Analysis) -> list[str]:
    """Return the samples that get scores; "calibration" are the events on which the regions are fixed."""
    more = [] if analysis.samples.validation is None else ["validation"]
    return ["data", "calibration", *more, *simulated_signals(analysis)]


def simulated_signals(analysis: Analysis) -> list[str]:
    """Return the samples of priors, and of signals that limits are set on."""
    return [name for name in analysis.sample_files() if name.startswith(("prior.", "signal."))]


def running_of(analysis: Analysis, *, progress: bool) -> Running:
    """Return how event files are processed."""
    from ..processors import Running

    return Running(
        executor=analysis.executor,
        workers=analysis.workers,
        scheduler=analysis.scheduler,
        skip_bad_files=analysis.skip_bad_files,
        progress=progress,
    )


def inputs_of(files: Sequence[str]) -> list[Path]:
    """Return the files of a sample, and those that its filesets name."""
    from ..processors.filesets import files_of, is_fileset

    return [Path(own) for file in files for own in (file, *(files_of([file]) if is_fileset(file) else ()))]


def sample_inputs(analysis: Analysis) -> list[Path]:
    """Return the user's files, and those that filesets among them name."""
    return [path for files in analysis.sample_files().values() for path in inputs_of(files)]


def tables_of(analysis: Analysis) -> list[Path]:
    """Return the tables of all samples."""
    return [table_path(analysis, name) for name in analysis.sample_files()]


def scores_of(analysis: Analysis) -> list[Path]:
    """Return the scored tables."""
    return [score_path(analysis, name) for name in scored_samples(analysis)]


def in_output(*names: str) -> Callable[[Analysis], list[Path]]:
    """Return files of the output folder."""
    return lambda analysis: [Path(analysis.output) / name for name in names]
