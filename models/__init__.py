"""Arrays in, anomaly scores out (torch). Knows no file format, no coffea, no ROOT.

Read `scorer.py` (the protocol, the registry of methods), then `sample.py` and `space.py` (what a search works in), then a method.
"""

from .autoencoders.constituent_vae import ConstituentVae
from .autoencoders.conv_vae import ConvVae
from .autoencoders.event_generator import EventGenerator, GeneratedEvents, LatentBuffer, Physicality
from .autoencoders.event_vae import EventAutoencoder, EventVae
from .autoencoders.four_vectors import FourVectors
from .autoencoders.rescaled_sets import rescaled_to_masses, rescaled_to_spectrum
from .classical.autoencoder import Autoencoder
from .classical.deep_svdd import DeepSvdd
from .classical.gaussian_mixture import GaussianMixture
from .classical.isolation_forest import IsolationForest
from .classical.k_means import KMeans
from .classical.kernel_density import KernelDensity
from .combined import Combined
from .contrastive.clr import AnomalyCLR, JetCLR
from .contrastive.encoded import Encoded
from .contrastive.encoders import load_encoder
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
    TransportOptionError,
    TransportSolverError,
    wasserstein,
    wasserstein_rowwise,
)
from .energy.langevin import Chain, ChainError, Langevin, sample_chain
from .energy.nae import NAE
from .generation import Generative, principal_walk, traversal
from .inputs import (
    DtypeError,
    MissingPackageError,
    NonFiniteError,
    NotFittedError,
    ScorerError,
    ShapeError,
    TooFewRowsError,
    UnknownMetricError,
)
from .matching import effective_fraction, matched_rows, matched_weights
from .sample import Sample, as_sample
from .scorer import KINDS, SCORERS, Method, Scorer, for_kind, load_scorer, scorer_fields
from .scorer_space import PER_JET, ScorerSpace
from .space import Space, load_space, make_space
from .storage import ScorerFolderError
from .train.disco import Decorrelated, distance_correlation
from .train.loop import DeviceError, TrainingDivergedError, TrainingSettings, resolve_device

__all__ = [
    "KINDS",
    "NAE",
    "PER_JET",
    "SCORERS",
    "AnomalyCLR",
    "Autoencoder",
    "Chain",
    "ChainError",
    "Clouds",
    "Combined",
    "ConstantColumnError",
    "ConstituentVae",
    "ConvVae",
    "Decorrelated",
    "DeepSvdd",
    "DeviceError",
    "DtypeError",
    "EmptyImageError",
    "Encoded",
    "EventAutoencoder",
    "EventGenerator",
    "EventToEnsemble",
    "EventVae",
    "Flow",
    "FourVectors",
    "GaussianMixture",
    "GeneratedEvents",
    "Generative",
    "IsolationForest",
    "JetCLR",
    "KMeans",
    "KernelDensity",
    "Langevin",
    "LatentBuffer",
    "MedoidPath",
    "Method",
    "MissingPackageError",
    "NegativePixelError",
    "NonFiniteError",
    "NotFittedError",
    "NotNormalisedError",
    "Physicality",
    "PriorNameError",
    "Quak",
    "Sample",
    "Scorer",
    "ScorerError",
    "ScorerFolderError",
    "ScorerSpace",
    "ShapeError",
    "SinkhornDistances",
    "Space",
    "TooFewRowsError",
    "TrainingDivergedError",
    "TrainingSettings",
    "TransportOptionError",
    "TransportSolverError",
    "UnknownMetricError",
    "Vae",
    "as_sample",
    "clouds_from_constituents",
    "clouds_from_images",
    "distance_correlation",
    "effective_fraction",
    "elbow",
    "for_kind",
    "load_encoder",
    "load_scorer",
    "load_space",
    "make_space",
    "matched_rows",
    "matched_weights",
    "mean_power_distance",
    "medoid_path",
    "principal_walk",
    "rescaled_to_masses",
    "rescaled_to_spectrum",
    "resolve_device",
    "sample_chain",
    "scorer_fields",
    "traversal",
    "wasserstein",
    "wasserstein_rowwise",
]


def __dir__() -> list[str]:
    """Return what the room hands on, and nothing else."""
    return sorted(__all__)
