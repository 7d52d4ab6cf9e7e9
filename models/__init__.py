"""Arrays in, anomaly scores out (torch). Knows no file format, no coffea, no ROOT.

Read `scorer.py` (the protocol, the registry of methods), then `training.py` (the one loop), then a method.
"""

from .autoencoders.conv_vae import ConvVae
from .density.flow import Flow
from .density.quak import ConstantColumnError, PriorNameError, Quak
from .density.vae import Vae
from .distance.clouds import (
    Clouds,
    EmptyImageError,
    NegativePixelError,
    NotNormalisedError,
    clouds_from_constituents,
    clouds_from_images,
)
from .distance.event_to_ensemble import EventToEnsemble, mean_power_distance
from .distance.medoids import MedoidPath, elbow, medoid_path
from .distance.sinkhorn import SinkhornDistances
from .distance.transport import (
    MissingPackageError,
    TransportOptionError,
    TransportSolverError,
    wasserstein,
    wasserstein_rowwise,
)
from .inputs import (
    DtypeError,
    NonFiniteError,
    NotFittedError,
    ScorerError,
    ShapeError,
    TooFewRowsError,
    UnknownMetricError,
)
from .scorer import JET_SCORERS, SCORERS, Scorer, load_scorer
from .space import ScorerSpace
from .storage import ScorerFolderError
from .train.disco import Decorrelated, distance_correlation
from .train.loop import DeviceError, TrainingDivergedError, TrainingSettings, resolve_device

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
