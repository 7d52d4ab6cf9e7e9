"""hunch: from collider events in ROOT files to a p-value, without being told which particle to look for.

A map of the house (imports run one way, down this list never up):

- `hunch.errors`, `hunch.documents`, `hunch.files`, `hunch.lock`, `hunch.pieces`, `hunch.workers`: messages; the one reader of JSON and the
  one of YAML; writing aside; one writer at a time; finished pieces of long work; worker processes
- `hunch.tabular`, `hunch.table`, `hunch.folds`: CSV and parquet; the event table; identity and folds
- `hunch.hdf5`: HDF5 files read as data, in a child process
- `hunch.models`: arrays in, anomaly scores out (torch)
- `hunch.analysis`: histograms and scores in; fits, p-values, figures and the report out
- `hunch.samples`: where events come from: simulation, converters, public records
- `hunch.processors`: coffea processors; event files in, tables or spectra out
- `hunch.config`, `hunch.workflow`, `hunch.cli`: the user's YAML, the stages in order, the command line

This module imports no room: `from hunch.models import Quak` loads torch and nothing of ROOT. A room is loaded when it is asked for, as
in `hunch.models.Quak`.
"""

from typing import Any

__version__ = "0.1.0"

__all__ = ["__version__"]

ROOMS = (
    "analysis",
    "cli",
    "config",
    "errors",
    "files",
    "folds",
    "hdf5",
    "lock",
    "models",
    "pieces",
    "processors",
    "samples",
    "table",
    "workers",
    "workflow",
)


def __getattr__(name: str) -> Any:
    """Load a room when it is asked for, by its own name, so that there is never a second one."""
    if name in ROOMS:
        from importlib import import_module

        return import_module(f"hunch.{name}")
    raise AttributeError(f"module 'hunch' has no attribute {name!r}; rooms: {', '.join(ROOMS)}")


def __dir__() -> list[str]:
    """Return what there is: the rooms and the version."""
    return ["__version__", *ROOMS]
