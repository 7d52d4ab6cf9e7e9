"""The search without tables: trained scorers and fixed regions applied to event files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import Analysis
from ..errors import HunchError
from .layout import features_of, model_paths

__all__ = ["search_files"]


def search_files(analysis: Analysis, files: Sequence[str], *, progress: bool = True) -> Any:
    """Apply the analysis' trained scorers and fixed regions to event files chunk by chunk, no table in between.

    Returns the processors' SearchResult, whose spectra have the edges of the analysis' own fit range.
    """
    from ..analysis import read_regions
    from ..processors import DijetSettings, read_fileset, run_search

    output = Path(analysis.output)
    for needed in ("result.json", "regions.json"):
        if not (output / needed).is_file():
            raise HunchError(f"{output / needed}: not there yet; hunch run fixes the regions first")
    edges = json.loads((output / "result.json").read_text(encoding="utf-8"))["fit_range"]["edges"]
    return run_search(
        read_fileset(files),
        scorers=model_paths(analysis),
        regions=read_regions(output / "regions.json"),
        features=features_of(analysis),
        edges=edges,
        settings=DijetSettings(**analysis.jets.model_dump()),
        executor=analysis.executor,
        workers=analysis.workers,
        scheduler=analysis.scheduler,
        skip_bad_files=analysis.skip_bad_files,
        progress=progress,
    )
