"""What scorers of one density model share: fit on one sample, −log p(x) as the score, saving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch

from ..generation import checked_draws
from ..inputs import as_matrix, check_metric
from ..sample import Events, Sample, as_sample, named_inputs, refuse_unused
from ..scorer import Method, require_columns, require_fitted, save_scorer
from ..train.exposed_events import ExposedEvents
from ..train.loop import TrainingSettings, named_device
from ..train.mass_penalty import check_strength, checked_masses
from .densities import Architecture, DensityStack, fit_densities
from .drawing import draw_rows

__all__ = ["MIN_ROWS", "DensityScorer"]

Matrix = npt.NDArray[np.float64]

MIN_ROWS = 100


@dataclass(kw_only=True, eq=False, repr=False)
class DensityScorer(Method):
    """Base of `Vae` and `Flow`: one density model; rare is anomalous.

    metrics: the loss, then the two terms that it is the sum of.
    """

    takes: ClassVar = ("rows",)
    uses: ClassVar[tuple[str, ...]] = ("mass",)
    least: ClassVar = MIN_ROWS
    metrics: ClassVar[tuple[str, ...]]

    hidden: int = 64
    max_epochs: int = 60
    patience: int = 10
    batch_size: int = 512
    learning_rate: float = 3e-3
    decorrelation: float = 0.0
    density_: DensityStack | None = field(default=None, init=False)

    def architecture(self) -> Architecture:
        """Return what is stacked."""
        raise NotImplementedError

    def check(self, shape: Sequence[int] = ()) -> None:
        """Raise ScorerError for options that mean nothing."""
        del shape
        self.architecture()
        self.settings()
        named_device(self.device)
        check_strength(self.decorrelation)

    def settings(self) -> TrainingSettings:
        """Return how long and how fast to train."""
        return TrainingSettings(
            max_epochs=self.max_epochs,
            patience=self.patience,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
        )

    def described(self) -> list[str]:
        """Return what the repr says before the training."""
        width = [] if self.density_ is None else [f"{self.density_.columns.n_columns} features"]
        return [*super().described(), *width]

    def fit(
        self,
        x: Events,
        *,
        validation: Events | None = None,
        mass: npt.ArrayLike | None = None,
        validation_mass: npt.ArrayLike | None = None,
        exposure: Events | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> Self:
        """Train on x (n, d), n at least 100, and return self.

        x: rows, whose names are stored where they have some (a sample, a table, a data frame); validation: rows for early stopping,
        matched by name, else 15 % of x by seed; mass: (n,) of x in whatever unit, needed where decorrelation is above 0 and else not
        looked at, a sample's observable where none is given; validation_mass: of the validation rows, likewise; exposure: rows that are to be found anomalous,
        where the method has outlier exposure and its option asks for it; checkpoint: a file to
        resume a killed training from; progress: a bar on stderr, or a log line in 30 s. Raises the errors of `as_matrix`, and
        ScorerError for names that are missing, for weights, and for masses that are missing, not one a row, not finite or all the same.
        """
        sample = as_sample(x)
        refuse_unused(sample, self.uses, type(self).__name__, exposure=exposure)
        names = sample.names
        rows = as_matrix(sample.inputs, name="x", min_rows=MIN_ROWS, columns=names or None)
        width, held = rows.shape[1], None
        if validation is not None:
            own = as_sample(validation, names, where="validation")
            held = named_inputs(own, names, made=sample.made, where="validation")
            held = as_matrix(held, name="validation", n_columns=width, min_rows=1, columns=names or None)
            validation_mass = own.observable if validation_mass is None else validation_mass
        mass = sample.observable if mass is None else mass
        exposed = self.exposed_to(exposure, rows, sample, mass)
        masses = checked_masses(
            self.decorrelation, (mass, len(rows)), (validation_mass, None if held is None else len(held))
        )
        self.density_, self.training_ = fit_densities(
            [rows],
            [held],
            architecture=self.architecture(),
            settings=self.settings(),
            seed=self.seed,
            device=self.device,
            decorrelation=self.decorrelation,
            mass=masses[0],
            validation_mass=masses[1],
            exposed=exposed,
            start=self.started_from(sample, rows.shape[1]),
            checkpoint=checkpoint,
            progress=progress,
        )
        self.input_names, self.made_ = names, dict(sample.made)
        return self

    def exposed_to(
        self, exposure: Events | None, rows: Matrix, background: Sample, mass: npt.ArrayLike | None
    ) -> ExposedEvents | None:
        """Return the rows that the training is exposed to beside the background's rows (n, d) and masses (n,); none."""
        del exposure, rows, background, mass
        return None

    def started_from(self, background: Sample, width: int) -> DensityStack | None:
        """Return the fitted model that a training on rows of so many columns starts from; none."""
        del background, width
        return None

    def score(self, x: Events, *, metric: str | None = None) -> npt.NDArray[np.float64]:
        """Return (n,) scores in nats, larger = more anomalous; metric: one of `metrics`.

        x: rows (n, d); columns with names are put in the order of `input_names`, those of a plain array are taken as they are.
        """
        metric = check_metric(metric, self.metrics, type(self).__name__)
        density = require_fitted(self.density_, self)
        inputs, names = named_inputs(x, self.input_names, made=self.made_), self.input_names or None
        rows = as_matrix(inputs, n_columns=density.columns.n_columns, columns=names)
        return np.asarray(self.term(density, rows, metric)[:, 0])

    def term(self, density: DensityStack, rows: npt.NDArray[np.float64], metric: str) -> npt.NDArray[np.float64]:
        """Return one metric (n, 1)."""
        first, second = density.terms(rows)
        return {self.metrics[0]: first + second, self.metrics[1]: first, self.metrics[2]: second}[metric]

    def sample(self, n: int, *, seed: int = 0) -> npt.NDArray[np.float64]:
        """Return n rows (n, d) drawn from the density, float64, in the units of the training and in the order of `input_names`.

        A VAE's latent point is drawn from the prior and x from its Gaussian p(x | z), noise included (`drawing.py`). Whole numbers come back
        whole, and every column stays within the range of the training rows. The same seed gives the same rows. Raises
        NotFittedError, and ScorerError for an n that is no whole number from 1 on.
        """
        number, rng = checked_draws(n, seed)
        return draw_rows(require_fitted(self.density_, self), number, rng)

    def save(self, path: str | Path) -> None:
        """Write the folder that `load_scorer` reads."""
        density = require_fitted(self.density_, self)
        save_scorer(
            path,
            self,
            parameters=self.parameters(),
            n_features=density.columns.n_columns,
            state={},
            training=self.training_,
            tensors=density.tensors(),
        )

    @classmethod
    def from_stored(cls, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """Rebuild from what `save` wrote."""
        scorer = cls(**record["parameters"])
        scorer.check()
        scorer.density_ = DensityStack.from_tensors(tensors, scorer.architecture())
        require_columns(record, scorer.density_.columns.n_columns)
        scorer.training_ = dict(record["training"])
        return scorer
