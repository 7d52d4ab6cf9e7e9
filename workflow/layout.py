"""Where an analysis keeps its files, and which samples it has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..config import Analysis
from ..folds import event_hash, fold_of
from ..table import QUAK_FEATURES, Table

__all__ = [
    "FEW_FEATURES",
    "HELD_OUT_STEPS",
    "features_of",
    "held_out_rows",
    "in_output",
    "model_paths",
    "sample_inputs",
    "score_path",
    "scored_samples",
    "scores_of",
    "simulated_signals",
    "table_path",
    "tables_of",
]


HELD_OUT_STEPS = 10_000

FEW_FEATURES = ("mJ_1", "mJ_2", "tau21_1", "tau21_2", "tau32_1", "tau32_2")


def table_path(analysis: Analysis, sample: str) -> Path:
    """Return where a sample's table is."""
    return Path(analysis.output) / "tables" / f"{sample}.parquet"


def features_of(analysis: Analysis) -> tuple[str, ...]:
    """Return the training columns: the user's, or the 12 QUAK features, or six of them where a family is searched through.

    Density ratios of a few thousand events are better in six dimensions than in 12: in a mosaic the mean z of six
    signals (160 in 40,000 events) was 6.4 against 4.3, with weak supervision 12 columns found nothing in the one box tried.
    """
    searched = analysis.weak_supervision or analysis.region_settings.shape == "mosaic"
    return analysis.features or (FEW_FEATURES if searched else QUAK_FEATURES)


def model_paths(analysis: Analysis) -> list[Path]:
    """Return the scorers' folders: one trained on the background, or one a fold of the data."""
    n = 1 if analysis.samples.background is not None and not analysis.weak_supervision else analysis.folds
    return [Path(analysis.output) / "models" / f"fold_{i}" for i in range(n)]


def held_out_rows(analysis: Analysis, background: Table) -> npt.NDArray[np.bool_]:
    """Return which background events no model trains on."""
    steps = fold_of(event_hash(background, features_of(analysis)), HELD_OUT_STEPS)
    return np.asarray(steps < analysis.held_out * HELD_OUT_STEPS)


def score_path(analysis: Analysis, sample: str) -> Path:
    """Return where a sample's scored table is."""
    return Path(analysis.output) / "scores" / f"{sample}.parquet"


def scored_samples(analysis: Analysis) -> list[str]:
    """Return the samples that get scores; "calibration" are the events on which the regions are fixed."""
    more = [] if analysis.samples.validation is None else ["validation"]
    return ["data", "calibration", *more, *simulated_signals(analysis)]


def simulated_signals(analysis: Analysis) -> list[str]:
    """Return the samples of priors, and of signals that limits are set on."""
    return [name for name in analysis.sample_files() if name.startswith(("prior.", "signal."))]


def sample_inputs(analysis: Analysis) -> list[Path]:
    """Return the user's files."""
    return [Path(file) for files in analysis.sample_files().values() for file in files]


def tables_of(analysis: Analysis) -> list[Path]:
    """Return the tables of all samples."""
    return [table_path(analysis, name) for name in analysis.sample_files()]


def scores_of(analysis: Analysis) -> list[Path]:
    """Return the scored tables."""
    return [score_path(analysis, name) for name in scored_samples(analysis)]


def in_output(*names: str) -> Callable[[Analysis], list[Path]]:
    """Return files of the output folder."""
    return lambda analysis: [Path(analysis.output) / name for name in names]
