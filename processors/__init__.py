"""Event files in; dijet features or histograms out; trained scorers applied. coffea processors and what runs them."""

from __future__ import annotations

from .dijet import DijetProcessor, DijetSettings
from .events import EventFile, NoCandidatesError, inspect_file
from .filesets import read_fileset
from .runner import EXECUTORS, DijetResult, ProcessingError, open_files, run_dijets
from .search import RegionsLike, SearchResult, assign_regions, run_search

__all__ = [
    "EXECUTORS",
    "DijetProcessor",
    "DijetResult",
    "DijetSettings",
    "EventFile",
    "NoCandidatesError",
    "ProcessingError",
    "RegionsLike",
    "SearchResult",
    "assign_regions",
    "inspect_file",
    "open_files",
    "read_fileset",
    "run_dijets",
    "run_search",
]
