"""The command line, a file a group of commands: each opens, calls one function, writes. `hunch run` is the whole job."""

from __future__ import annotations

from .program import cli, main

__all__ = ["cli", "main"]


def __dir__() -> list[str]:
    """Return what the room hands on, and nothing else."""
    return sorted(__all__)
