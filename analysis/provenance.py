"""What computed an answer: the versions that stand in every result.json."""

from __future__ import annotations

import platform
from importlib.metadata import version

__all__ = ["versions"]


def versions() -> dict[str, str]:
    """Return the versions of what computes the answer."""
    names = ("numpy", "scipy", "torch", "coffea", "fastjet", "awkward", "uproot", "iminuit", "pyhf", "hist")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
