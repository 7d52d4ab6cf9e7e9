"""Arrays in, anomaly scores out (torch). Knows no file format, no coffea, no ROOT.

Read `scorer.py` (the protocol, the registry of methods), then `training.py` (the one loop), then a method.
"""

from .clouds import (
    Clouds,
    EmptyImageError,
    NegativePixelError,
    NotNormalisedError,
    clouds_from_constituents,
    clouds_from_images,
)
from .conv_vae import ConvVae
from .disco import Decorrelated, distance_correlation
from .ensemble import EventToEnsemble, mean_power_distance
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
from .medoids import MedoidPath, elbow, medoid_path
from .quak import ConstantColumnError, PriorNameError, Quak
from .scorer import JET_SCORERS, SCORERS, Scorer, load_scorer
from .scorer_space import ScorerSpace
from .sinkhorn import SinkhornDistances
from .storage import ScorerFolderError
from .training import DeviceError, TrainingDivergedError, TrainingSettings, resolve_device
from .transport import (
    MissingPackageError,
    TransportOptionError,
    TransportSolverError,
    wasserstein,
    wasserstein_rowwise,
)
from .vae import Vae

__all__ = [
    "JET_SCORERS",
    "SCORERS",
    "Clouds",
    "ConstantColumnError",
    "ConvVae",
    "Decorrelated",
    "DeviceError",
    "DtypeError",
    "EmptyImageError",
    "EventToEnsemble",
    "Flow",
    "MedoidPath",
    "MissingPackageError",
    "NegativePixelError",
    "NonFiniteError",
    "NotFittedError",
    "NotNormalisedError",
    "PriorNameError",
    "Quak",
    "Scorer",
    "ScorerError",
    "ScorerFolderError",
    "ScorerSpace",
    "ShapeError",
    "SinkhornDistances",
    "TooFewRowsError",
    "TrainingDivergedError",
    "TrainingSettings",
    "TransportOptionError",
    "TransportSolverError",
    "UnknownMetricError",
    "Vae",
    "clouds_from_constituents",
    "clouds_from_images",
    "distance_correlation",
    "elbow",
    "load_scorer",
    "mean_power_distance",
    "medoid_path",
    "resolve_device",
    "wasserstein",
    "wasserstein_rowwise",
]
