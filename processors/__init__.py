"""Event files in; features, jet images, constituents, objects or histograms out; trained spaces applied. coffea processors and what runs them."""

from __future__ import annotations

from .constituents import (
    ConstituentsError,
    JetConstituents,
    constituents_of,
    flat_constituents,
    jagged_constituents,
    padded_constituents,
)
from .eventfiles import EventFile, inspect_file
from .events import IncompleteCandidatesError, NoCandidatesError
from .filesets import read_fileset
from .image_filters import filtered_images
from .images import IMAGE_AXES, ImageSettings, ImageSettingsError, JetImages, jet_images
from .jet_features import FEATURE_LABELS, constituent_features, constituent_images, image_features
from .jets import single_jet_of
from .representations import (
    REPRESENTATIONS,
    Constituents,
    Features,
    Images,
    Objects,
    Representation,
    UserTable,
    read_inputs,
    representation_of,
)
from .runner import EXECUTORS, ProcessingError, Running, open_files
from .scoring import sample_of, score_events, trained_events
from .search import RegionsLike, SearchProcessor, SearchResult, run_search, search_table
from .sets import aligned_four_vectors, relative_constituents
from .stored_objects import NoObjectsError
from .tables import TableProcessor, TableResult, jets_and_features, run_table

__all__ = [
    "EXECUTORS",
    "FEATURE_LABELS",
    "IMAGE_AXES",
    "REPRESENTATIONS",
    "Constituents",
    "ConstituentsError",
    "EventFile",
    "Features",
    "ImageSettings",
    "ImageSettingsError",
    "Images",
    "IncompleteCandidatesError",
    "JetConstituents",
    "JetImages",
    "NoCandidatesError",
    "NoObjectsError",
    "Objects",
    "ProcessingError",
    "RegionsLike",
    "Representation",
    "Running",
    "SearchProcessor",
    "SearchResult",
    "TableProcessor",
    "TableResult",
    "UserTable",
    "aligned_four_vectors",
    "constituent_features",
    "constituent_images",
    "constituents_of",
    "filtered_images",
    "flat_constituents",
    "image_features",
    "inspect_file",
    "jagged_constituents",
    "jet_images",
    "jets_and_features",
    "open_files",
    "padded_constituents",
    "read_fileset",
    "read_inputs",
    "relative_constituents",
    "representation_of",
    "run_search",
    "run_table",
    "sample_of",
    "score_events",
    "search_table",
    "single_jet_of",
    "trained_events",
]


def __dir__() -> list[str]:
    """Return what the room hands on, and nothing else."""
    return sorted(__all__)
