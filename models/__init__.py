"""Arrays in, anomaly scores out (torch). Knows no file format, no coffea, no ROOT.

Read `scorer.py` (the protocol, the registry of methods), then `training.py` (the one loop), then a method.
"""

from .disco import Decorrelated, distance_correlation
from .flow import Flow
from .inputs import (
    DtypeError,
    NonFiniteError,
    NotFittedError,
    ScorerError,
    ShapeError,
    TooFewRowsError,
    UnknownMetricError,
)
from .quak import ConstantColumnError, PriorNameError, Quak
from .scorer import SCORERS, Scorer, load_scorer
from .storage import ScorerFolderError
from .training import DeviceError, TrainingDivergedError, TrainingSettings, resolve_device
from .vae import Vae

__all__ = [
    "SCORERS",
    "ConstantColumnError",
    "Decorrelated",
    "DeviceError",
    "DtypeError",
    "Flow",
    "NonFiniteError",
    "NotFittedError",
    "PriorNameError",
    "Quak",
    "Scorer",
    "ScorerError",
    "ScorerFolderError",
    "ShapeError",
    "TooFewRowsError",
    "TrainingDivergedError",
    "TrainingSettings",
    "UnknownMetricError",
    "Vae",
    "distance_correlation",
    "load_scorer",
    "resolve_device",
]
