"""hunch: from collider events in ROOT files to a p-value, without being told which particle to look for.

A map of the house (imports run one way, down this list never up):

- `hunch.errors`, `hunch.table`: the base exception; the event table, its identity columns and folds
- `hunch.models`: arrays in, anomaly scores out (torch)
- `hunch.analysis`: histograms and scores in; fits, p-values, figures and the report out
- `hunch.samples`: where events come from: simulation, converters, public records
- `hunch.processors`: coffea processors; event files in, features or spectra out
- `hunch.config`, `hunch.workflow`, `hunch.cli`: the user's YAML, the stages in order, the command line

This module imports no room: `from hunch.models import Quak` loads torch and nothing of ROOT.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
