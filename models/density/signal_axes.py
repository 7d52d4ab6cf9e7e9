"""The axes of a QUAK space that come on top of those of the priors: their family, and its neighbourhoods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..sample import split_rows
from ..train.loop import TrainingSettings
from ..train.mass_penalty import MassSample
from .column_map import map_columns
from .densities import DensityStack, fit_mapped, to_mapped
from .family import Adaptation, adapt, sample_family
from .neighbourhoods import neighbourhood_samples

__all__ = [
    "Fitting",
    "mass_sample",
    "narrowed",
    "prior_moments",
    "remove_checkpoints",
    "with_family",
    "with_neighbourhoods",
]

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Fitting:
    """How the models of further axes are trained: settings, seed, device, what they pay for, checkpoint, progress."""

    settings: TrainingSettings
    seed: int
    device: str
    penalty: MassSample | None
    checkpoint: str | Path | None
    progress: bool

    def fit(
        self, density: DensityStack, pairs: Sequence[tuple[Matrix, Matrix]], name: str
    ) -> tuple[DensityStack, dict[str, Any]]:
        """Train one model for each pair of training and validation rows of the mapped space; `name` ends its checkpoint, which stays."""
        return fit_mapped(
            density.columns,
            pairs,
            architecture=density.architecture,
            settings=self.settings,
            seed=self.seed,
            device=self.device,
            penalty=self.penalty,
            checkpoint=None if self.checkpoint is None else f"{self.checkpoint}.{name}",
            keep_checkpoint=True,
            progress=self.progress,
        )


def remove_checkpoints(checkpoint: str | Path | None) -> None:
    """Remove the checkpoints of a fit that is done: that of its first models and those of further axes."""
    if checkpoint is not None:
        for end in ("", ".family", ".neighbourhoods"):
            Path(f"{checkpoint}{end}").unlink(missing_ok=True)


def mass_sample(density: DensityStack, rows: Matrix, mass: Matrix, *, strength: float, seed: int) -> MassSample:
    """Return what further models pay for, by background rows (n, d) and their masses (n,)."""
    mapped = to_mapped(density.columns, rows, np.random.default_rng([seed, 0xFC]))
    apart, masses = (split_rows(a, np.random.default_rng([seed, 0xFD])) for a in (mapped, mass))
    return MassSample(strength, apart, masses)


def with_family(
    density: DensityStack,
    samples: Sequence[Matrix],
    data: Matrix,
    fitting: Fitting,
    *,
    events: int,
    reference: Matrix | None = None,
) -> tuple[DensityStack, dict[str, Any]]:
    """Narrow the family down by data and append a model of it; return the stack and the record of the axis.

    density: the background's and the priors' models; samples: the priors' rows; data: rows by which the family is weighed; events:
    drawn from the family to train on; reference: rows of pure background, against which errors of its model are taken off.
    """
    rng = np.random.default_rng([fitting.seed, 0xFA])
    found = narrowed(density, data, rng, reference)
    # apart before they are drawn with repetition: copies of one event in both would hide overfitting
    parts = [split_rows(to_mapped(density.columns, x, rng), rng) for x in samples]
    drawn, held = (
        sample_family(found.family, found.weights, [pair[i] for pair in parts], n, rng=rng)
        for i, n in enumerate((events, events // 4))
    )
    stack, record = fitting.fit(density, [(drawn, held)], "family")
    best = int(found.log_ratio.argmax())
    told = {
        "rows": found.rows,
        "refined": found.refined,
        "log_likelihood_ratio": float(found.log_ratio[best]),
        "fraction": float(found.fraction[best]),
        "validation_loss": record["validation_loss"],
        "best_epoch": record["best_epoch"],
    }
    return density.append(stack), told


def with_neighbourhoods(
    density: DensityStack, samples: Sequence[Matrix], number: int, fitting: Fitting
) -> tuple[DensityStack, int, dict[str, Any]]:
    """Divide the family into at most `number` neighbourhoods and append a model of each; no data are looked at.

    Returns the stack, how many there are, and the record of their training.
    """
    rng = np.random.default_rng([fitting.seed, 0xFB])
    parts = [split_rows(to_mapped(density.columns, x, rng), rng) for x in samples]
    places = neighbourhood_samples(*prior_moments(density, len(samples)), parts, number, rng=rng)
    stack, record = fitting.fit(density, places, "neighbourhoods")
    told = {name: record[name] for name in ("validation_loss", "best_epoch")}
    return density.append(stack), len(places), told


def prior_moments(density: DensityStack, n_priors: int) -> tuple[Matrix, Matrix]:
    """Return centres (k, d) and covariances (k, d, d) of the priors, members 1 to k of a stack, in the common space."""
    whiten = density.whiten[1 : 1 + n_priors]
    covariances: Matrix = np.linalg.inv(whiten @ np.swapaxes(whiten, 1, 2)).astype(np.float64)
    return np.asarray(density.centre[1 : 1 + n_priors], dtype=np.float64), covariances


def narrowed(
    density: DensityStack, data: Matrix, rng: np.random.Generator, reference: Matrix | None = None
) -> Adaptation:
    """Weigh the family of a stack's priors (all its members but the first) by unlabelled data (n, d)."""

    def with_background(x: Matrix) -> tuple[Matrix, Matrix]:
        mapped = map_columns(density.columns, x)[0]
        return mapped, density.log_density(0, mapped)

    return adapt(
        *with_background(data),
        *prior_moments(density, len(density.centre) - 1),
        lambda prior, rows: density.log_density(prior + 1, rows),
        rng=rng,
        reference=None if reference is None else with_background(reference),
    )
