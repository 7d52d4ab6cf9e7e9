"""The stages of a search in order, stamps, streams and given spectra. No science."""

from __future__ import annotations

from .given_spectra import hunt_files, limit_folder, read_result, report_folder, validate_folder
from .search import search_files
from .stages import STAGES, run, run_stage
from .validate import validate_analysis

__all__ = [
    "STAGES",
    "hunt_files",
    "limit_folder",
    "read_result",
    "report_folder",
    "run",
    "run_stage",
    "search_files",
    "validate_analysis",
    "validate_folder",
]


def __dir__() -> list[str]:
    """Return what the room hands on, and nothing else."""
    return sorted(__all__)
