"""Event files in; features, jet images or histograms out; trained scorers applied. coffea processors and what runs them."""

from __future__ import annotations

from .constituents import (
    ConstituentsError,
    JetConstituents,
    constituents_of,
    flat_constituents,
    jagged_constituents,
    padded_constituents,
    relative_constituents,
)
from .events import EventFile, NoCandidatesError, inspect_file
from .features import DijetProcessor, DijetSettings
from .filesets import read_fileset
from .images import IMAGE_AXES, ImageSettings, ImageSettingsError, JetImages, jet_images
from .jets import JetProcessor, JetResult, JetSettings, run_jets
from .runner import EXECUTORS, DijetResult, ProcessingError, open_files, run_dijets
from .search import RegionsLike, SearchResult, assign_regions, run_search

__all__ = [
    "EXECUTORS",
    "IMAGE_AXES",
    "ConstituentsError",
    "DijetProcessor",
    "DijetResult",
    "DijetSettings",
    "EventFile",
    "ImageSettings",
    "ImageSettingsError",
    "JetConstituents",
    "JetImages",
    "JetProcessor",
    "JetResult",
    "JetSettings",
    "NoCandidatesError",
    "ProcessingError",
    "RegionsLike",
    "SearchResult",
    "assign_regions",
    "constituents_of",
    "flat_constituents",
    "inspect_file",
    "jagged_constituents",
    "jet_images",
    "open_files",
    "padded_constituents",
    "read_fileset",
    "relative_constituents",
    "run_dijets",
    "run_jets",
    "run_search",
]
