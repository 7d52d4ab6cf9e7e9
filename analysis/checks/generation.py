"""How far generated events are from those of the training, in numbers, and which latent dimension tells most of the mass.

Two distances of each distribution stand beside their statistical floor, which is what two halves of the training sample have between them: the
Wasserstein distance, in the training's own spread, sees how far a distribution is shifted or widened; the Jensen-Shannon divergence of histograms,
in nats, sees how little two of them overlap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr, wasserstein_distance

from ...errors import InputError, unknown_name
from ..regions.dependence import distance_correlation
from .background_only import divergence

__all__ = ["Compared", "LatentCorrelations", "compare_generated", "feature_edges", "latent_correlations"]

Floats = npt.NDArray[np.float64]
BINS = 30
OUTSIDE = 0.005  # of the training, beyond the edges at each side
LEAST = 20  # events of a sample that is compared


@dataclass(frozen=True, repr=False)
class Compared:
    """One distribution of generated events against the training's.

    wasserstein: in `spread`, half of the central 68 % of the training (1 where all values are one); jsd: nats; floor and floor_95 of each: mean and
    95 % quantile between two random parts of the training, one as large as the generated sample where half of the training is.
    """

    name: str
    wasserstein: float
    wasserstein_floor: float
    wasserstein_floor_95: float
    jsd: float
    jsd_floor: float
    jsd_floor_95: float
    spread: float

    def __repr__(self) -> str:
        """Return the value in a line."""
        return (
            f"Compared({self.name}: Wasserstein {self.wasserstein:.3g} of {self.wasserstein_floor:.2g} by chance, "
            f"JSD {self.jsd:.3g} of {self.jsd_floor:.2g})"
        )


@dataclass(frozen=True, repr=False)
class LatentCorrelations:
    """How each latent dimension goes with the mass: (dimensions,) each.

    pearson: of a straight line; spearman: of ranks, any rising or falling line; dcorr2: squared distance correlation, unbiased, any dependence.
    0 where a dimension has one value alone.
    """

    pearson: Floats
    spearman: Floats
    dcorr2: Floats

    @property
    def most(self) -> int:
        """Number of the dimension with the largest squared distance correlation, from 0 on."""
        return int(np.argmax(self.dcorr2))

    def __repr__(self) -> str:
        """Return the value in a line."""
        at = self.most
        return (
            f"LatentCorrelations({len(self.dcorr2)} dimensions, most: {at}, Pearson {self.pearson[at]:.2f}, "
            f"Spearman {self.spearman[at]:.2f}, dCorr² {self.dcorr2[at]:.3f})"
        )


def compare_generated(
    generated: Mapping[str, npt.ArrayLike], training: Mapping[str, npt.ArrayLike], *, seed: int = 0, splits: int = 50
) -> tuple[Compared, ...]:
    """Return the distances of each distribution of generated events from the training's, in the order of `training`.

    generated, training: name -> values (n,) and (k,), at least 20 each, the same names; seed, splits: of the random parts of the
    training that give the floors. Raises InputError for a name that one of the two lacks and for values that are too few or not finite.
    """
    checked = _pairs(generated, training)
    found: list[Compared] = []
    for name, (made, real) in checked.items():
        rng = np.random.default_rng([seed, len(found)])
        low, high = np.quantile(real, [0.16, 0.84])
        spread = float(high - low) / 2 or 1.0
        edges = feature_edges(real)
        size = min(len(made), len(real) // 2)
        floors = np.empty((splits, 2))
        for i in range(splits):
            order = rng.permutation(real)
            floors[i] = _distances(order[:size], order[size:], spread, edges)
        far, apart = _distances(made, real, spread, edges)
        floor, most = floors.mean(axis=0).tolist(), np.quantile(floors, 0.95, axis=0).tolist()
        found.append(Compared(name, far, floor[0], most[0], apart, floor[1], most[1], spread))
    return tuple(found)


def feature_edges(training: Floats, bins: int = BINS) -> Floats:
    """Return the edges of equal bins over all but half a percent of the training's values at each side.

    The first and the last bin are to take what is beyond. Whole numbers get bins of equally many of them.
    """
    low, high = np.quantile(training, [OUTSIDE, 1 - OUTSIDE])
    if np.array_equal(training, np.rint(training)) and high > low:
        low, high = np.floor(low), np.ceil(high)
        step = max(1, int(np.ceil((high - low + 1) / bins)))
        return np.asarray(np.arange(low - 0.5, high + 0.5 + step, step))
    return np.linspace(low, high, bins + 1) if high > low else np.array([low - 0.5, high + 0.5])


def latent_correlations(latent_means: npt.ArrayLike, mass: npt.ArrayLike) -> LatentCorrelations:
    """Return how each dimension of latent means (n, dimensions) goes with the masses (n,), or with any other number of the same events.

    Raises InputError for shapes that do not go together, fewer than 20 events and numbers that are not finite.
    """
    means, masses = np.asarray(latent_means, dtype=np.float64), np.asarray(mass, dtype=np.float64)
    if means.ndim != 2 or masses.shape != (len(means),) or len(means) < LEAST or not means.shape[1]:
        raise InputError(
            f"latent means {means.shape} and mass {masses.shape}; (n, dimensions) and (n,) of one n from {LEAST} on are expected"
        )
    if not (np.isfinite(means).all() and np.isfinite(masses).all()):
        raise InputError("latent means or masses hold numbers that are not finite")
    found = np.zeros((3, means.shape[1]))
    for k, column in enumerate(means.T):
        if np.ptp(column) > 0 and np.ptp(masses) > 0:
            linear, rank = np.corrcoef(column, masses)[0, 1], spearmanr(column, masses).statistic
            found[:, k] = linear, rank, distance_correlation(column, masses)
    return LatentCorrelations(*found)


def _pairs(
    generated: Mapping[str, npt.ArrayLike], training: Mapping[str, npt.ArrayLike]
) -> dict[str, tuple[Floats, Floats]]:
    """Return name -> values of generated and of training events, or say what is wrong with them."""
    for name in generated:
        if name not in training:
            raise InputError(unknown_name("feature", name, training, "training"))
    found = {}
    for name, real in training.items():
        if name not in generated:
            raise InputError(unknown_name("feature", name, generated, "generated"))
        pair = np.asarray(generated[name], dtype=np.float64), np.asarray(real, dtype=np.float64)
        for where, values in zip(("generated", "training"), pair, strict=True):
            if values.ndim != 1 or len(values) < LEAST:
                raise InputError(f"{where}: {name!r} has shape {values.shape}; (n,) with n from {LEAST} on is expected")
            if not np.isfinite(values).all():
                raise InputError(
                    f"{where}: {name!r} holds {int((~np.isfinite(values)).sum())} numbers that are not finite"
                )
        found[name] = pair
    return found


def _distances(first: Floats, second: Floats, spread: float, edges: Floats) -> tuple[float, float]:
    """Return Wasserstein distance in spreads and Jensen-Shannon divergence of two samples."""
    counts = [
        np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0].astype(np.float64) for values in (first, second)
    ]
    return float(wasserstein_distance(first, second)) / spread, divergence(counts[0], counts[1])
