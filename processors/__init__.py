"""Event files in; features, jet images or histograms out; trained scorers applied. coffea processors and what runs them."""

from __future__ import annotations

from .dijet import DijetProcessor, DijetSettings
from .events import EventFile, NoCandidatesError, inspect_file
from .filesets import read_fileset
from .images import (
    IMAGE_AXES,
    ConstituentsError,
    ImageSettings,
    ImageSettingsError,
    JetConstituents,
    JetImages,
    constituents_of,
    flat_constituents,
    jagged_constituents,
    jet_images,
    padded_constituents,
)
from .jets import JetProcessor, JetResult, JetSettings, relative_constituents, run_jets
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
