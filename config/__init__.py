"""The user's YAML: its schema, its defaults, and errors that name key, line and the nearest key."""

from __future__ import annotations

from .methods import OWN_KEYS, REPRESENTED_BY, checked_options
from .reading import ConfigError, read_analysis, yaml_value
from .schema import FEW_FEATURES, Analysis

__all__ = [
    "FEW_FEATURES",
    "OWN_KEYS",
    "REPRESENTED_BY",
    "Analysis",
    "ConfigError",
    "checked_options",
    "read_analysis",
    "yaml_value",
]


def __dir__() -> list[str]:
    """Return what the room hands on, and nothing else."""
    return sorted(__all__)
