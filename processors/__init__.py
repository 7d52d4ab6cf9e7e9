"""Event files in; dijet features or histograms out; trained scorers applied. coffea processors and what runs them."""

from __future__ import annotations

from .dijet import DijetProcessor, DijetSettings
from .events import EventFile, NoCandidatesError, inspect_file
from .filesets import read_fileset
from .runner import EXECUTORS, DijetResult, ProcessingError, open_files, run_dijets

__all__ = [
    "EXECUTORS",
    "DijetProcessor",
    "DijetResult",
    "DijetSettings",
    "EventFile",
    "NoCandidatesError",
    "ProcessingError",
    "inspect_file",
    "open_files",
    "read_fileset",
    "run_dijets",
]
