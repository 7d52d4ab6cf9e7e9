"""QUAK: anomalies by how well a background model and models of approximate signal priors explain an event.

Quasi-Anomalous Knowledge, arXiv:2011.03550: one density model for the background and one for each prior; their losses
span the space in which one searches. One more axis, "family", is a model of what lies around and between the priors,
narrowed down by the unlabelled data (morphing.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from ..inputs import ScorerError, as_matrix, check_metric
from ..scorer import require_fitted, save_scorer
from ..train.loop import TrainingSettings
from ..train.mass_penalty import MassPenalty, checked_masses
from .column_map import map_columns
from .densities import Architecture, DensityStack, fit_densities, fit_mapped, split_rows, to_mapped
from .density_scorer import MIN_ROWS
from .family import Adaptation, adapt, sample_family
from .neighbourhoods import neighbourhood_samples

__all__ = ["ConstantColumnError", "PriorNameError", "Quak"]

Matrix = npt.NDArray[np.float64]
OWN_METRICS = ("anomaly", "difference", "background")
FAMILY = "family"
FAMILY_EVENTS = 20_000


class PriorNameError(ScorerError):
    """A prior has no name, or that of a metric."""


class ConstantColumnError(ScorerError):
    """A column of the background holds one value alone."""


class Quak:
    """Background and prior densities over one scaling, trained side by side; losses in nats.

    architecture: of ARCHITECTURES: "maf" (default), "nsf", "vae", "flow_vae"; hidden: width of the layers, None for 32
    up to 6 columns and 64 above; steps: of a flow; latent, beta: of a VAE. family: whether the priors span a family
    that unlabelled data narrow down; neighbourhoods: into how many parts the family is divided, each with a density of
    its own (at most; 0: none), for searches that look at each place by itself. alpha: weight of the signal's loss in the differences; at 1 (default) the
    difference of two exact densities is the log likelihood ratio, the best test there is for that signal.
    learning_rate: None for 3e-3 up to 6 columns and 5e-4 above, where priors of some thousand events are learned by heart
    within an epoch. decorrelation: strength of the penalty on what the losses of a background event, by whichever model,
    tell of its mass (`mass_penalty.py`), 0 for none; `fit` and `narrow` then need masses.
    seed, device, max_epochs, patience, batch_size: as for `Vae`.

    Metrics, larger = more anomalous:
    - "anomaly" (default): max(L_b − alpha·L_f, L_b − L_b^max), L_f the family's loss (without a family: min_k L_k),
      L_b^max the largest loss of the background's training rows. An event that no hypothesis claims has a large loss
      in every model, and the difference alone would call it the least anomalous of all; it counts by how far it lies
      beyond the whole background instead. Without priors: L_b.
    - "difference": L_b − alpha·min_k L_k over the priors as given; without priors L_b.
    - "background": L_b.
    - "family", "family 1" … of its neighbourhoods, and each prior's name: L_b − alpha·L of that axis.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        device: str = "auto",
        alpha: float = 1.0,
        architecture: str = "maf",
        family: bool = True,
        neighbourhoods: int = 0,
        latent: int | None = None,
        hidden: int | None = None,
        steps: int = 4,
        beta: float = 1.0,
        max_epochs: int = 60,
        patience: int = 10,
        batch_size: int = 512,
        learning_rate: float | None = None,
        decorrelation: float = 0.0,
    ) -> None:
        self.seed, self.device, self.alpha = seed, device, alpha
        self.architecture, self.family, self.neighbourhoods = architecture, family, neighbourhoods
        self.latent, self.hidden, self.steps, self.beta = latent, hidden, steps, beta
        self.max_epochs, self.patience = max_epochs, patience
        self.batch_size, self.learning_rate, self.decorrelation = batch_size, learning_rate, decorrelation
        self.prior_names: tuple[str, ...] = ()
        self.n_neighbourhoods_ = 0
        self.background_max_: float = float("nan")
        self.density_: DensityStack | None = None
        self.training_: dict[str, Any] = {}

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Names of the columns of `losses`: "background", each prior, "family" where there is one, its neighbourhoods."""
        own = [FAMILY, *(f"{FAMILY} {i + 1}" for i in range(self.n_neighbourhoods_))] if self._has_family else []
        return ("background", *self.prior_names, *own)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names that `score` takes: the three reductions and each axis but the background."""
        return (*OWN_METRICS, *self.axis_names[1:])

    @property
    def _has_family(self) -> bool:
        return self.family and bool(self.prior_names)

    def parameters(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = (
            "seed",
            "device",
            "alpha",
            "architecture",
            "family",
            "neighbourhoods",
            "latent",
            "hidden",
            "steps",
            "beta",
            "max_epochs",
            "patience",
            "batch_size",
            "learning_rate",
            "decorrelation",
        )
        return {name: getattr(self, name) for name in names}

    def stacked(self, n_columns: int) -> Architecture:
        """Return what is stacked for this many columns."""
        hidden = self.hidden or (32 if n_columns <= 6 else 64)
        return Architecture(self.architecture, latent=self.latent, hidden=hidden, steps=self.steps, beta=self.beta)

    def settings(self, n_columns: int) -> TrainingSettings:
        """Return how long and how fast to train on this many columns."""
        rate = (3e-3 if n_columns <= 6 else 5e-4) if self.learning_rate is None else self.learning_rate
        return TrainingSettings(
            max_epochs=self.max_epochs, patience=self.patience, batch_size=self.batch_size, learning_rate=rate
        )

    def fit(
        self,
        background: npt.ArrayLike,
        *,
        priors: Mapping[str, npt.ArrayLike] | None = None,
        data: npt.ArrayLike | None = None,
        validation: npt.ArrayLike | None = None,
        mass: npt.ArrayLike | None = None,
        validation_mass: npt.ArrayLike | None = None,
        columns: Sequence[str] | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> Self:
        """Train on the background (n, d) and each prior (n_k, d), at least 100 rows each, and return self.

        background: simulated, or unlabelled data; priors: name -> array, or None; data: unlabelled rows (m, d) by
        which the family is narrowed down, default the background; they must not be events that will be hunted in.
        validation: background rows for early stopping, else 15 % by seed, as for each prior; mass: (n,) of the
        background's rows in whatever unit, needed where decorrelation is above 0 and else not looked at (priors need none:
        their models pay for the background's events, too); validation_mass: of the validation rows, likewise; columns:
        names, for error messages; checkpoint: a file to resume a killed training from; progress: a bar on stderr, or a log
        line in 30 s. Raises PriorNameError, ConstantColumnError, ScorerError for masses that are missing, not one a row, not
        finite or all the same, and the errors of `as_matrix`, naming sample and column.
        """
        rows = as_matrix(background, name="background", min_rows=MIN_ROWS, columns=columns)
        width = rows.shape[1]
        names = tuple(priors or {})
        for name in names:
            if not isinstance(name, str) or not name or name in OWN_METRICS or name.startswith(FAMILY):
                taken = ", ".join(OWN_METRICS)
                raise PriorNameError(
                    f"a prior is named {name!r}; allowed: any text but {taken} and what begins with {FAMILY!r}"
                )
        samples = [
            as_matrix(x, name=f"prior {name!r}", n_columns=width, min_rows=MIN_ROWS, columns=columns)
            for name, x in (priors or {}).items()
        ]
        held = (
            None
            if validation is None
            else as_matrix(validation, name="validation", n_columns=width, min_rows=1, columns=columns)
        )
        constant = np.flatnonzero(np.ptp(rows, axis=0) == 0).tolist()
        if constant:
            shown = ", ".join(f"{columns[j] if columns else j} (= {rows[0, j]:g})" for j in constant)
            raise ConstantColumnError(
                f"background: column {shown} holds one value in all {len(rows)} rows; "
                "leave it out, no density can be learned of it"
            )
        unlabelled = (
            rows if data is None else as_matrix(data, name="data", n_columns=width, min_rows=MIN_ROWS, columns=columns)
        )
        masses = checked_masses(
            self.decorrelation,
            (mass, len(rows)),
            (validation_mass, None if held is None else len(held)),
            of="the background",
        )
        settings = self.settings(width)
        density, self.training_ = fit_densities(
            [rows, *samples],
            [held, *(None for _ in samples)],
            architecture=self.stacked(width),
            settings=settings,
            seed=self.seed,
            device=self.device,
            decorrelation=self.decorrelation,
            mass=masses[0],
            validation_mass=masses[1],
            checkpoint=checkpoint,
            progress=progress,
        )
        self.prior_names = names
        penalty = self._penalty(density, rows, masses[0])
        if self._has_family:
            # a penalised density is not that of the background: what it is off must not pass for a signal
            density = self._with_family(
                density,
                samples,
                unlabelled,
                settings,
                checkpoint,
                penalty=penalty,
                progress=progress,
                reference=None if penalty is None else rows,
            )
        if self._has_family and self.neighbourhoods:
            density = self._with_neighbourhoods(
                density, samples, settings, checkpoint, penalty=penalty, progress=progress
            )
        self.density_ = density
        self.background_max_ = float(self.losses(rows)[:, 0].max())
        return self

    def _penalty(self, density: DensityStack, rows: Matrix, mass: Matrix | None) -> MassPenalty | None:
        """Return what the models that come on top of a stack pay for, by background rows (n, d); None without masses."""
        if mass is None:
            return None
        mapped = to_mapped(density.columns, rows, np.random.default_rng([self.seed, 0xFC]))
        apart, masses = (split_rows(a, np.random.default_rng([self.seed, 0xFD])) for a in (mapped, mass))
        return MassPenalty(self.decorrelation, apart, masses, self.seed)

    def _with_family(
        self,
        density: DensityStack,
        samples: Sequence[Matrix],
        data: Matrix,
        settings: TrainingSettings,
        checkpoint: str | Path | None,
        *,
        penalty: MassPenalty | None,
        progress: bool,
        reference: Matrix | None = None,
    ) -> DensityStack:
        """Narrow the family down by data and append a model of it: one axis more, trained on carried prior events."""
        rng = np.random.default_rng([self.seed, 0xFA])
        found = narrowed(density, data, rng, reference)
        # apart before they are drawn with repetition: copies of one event in both would hide overfitting
        parts = [split_rows(to_mapped(density.columns, x, rng), rng) for x in samples]
        drawn, held = (
            sample_family(found.family, found.weights, [pair[i] for pair in parts], n, rng=rng)
            for i, n in enumerate((FAMILY_EVENTS, FAMILY_EVENTS // 4))
        )
        stack, record = fit_mapped(
            density.columns,
            [(drawn, held)],
            architecture=density.architecture,
            settings=settings,
            seed=self.seed,
            device=self.device,
            penalty=penalty,
            checkpoint=None if checkpoint is None else f"{checkpoint}.family",
            progress=progress,
        )
        best = int(found.log_ratio.argmax())
        self.training_ = {
            **self.training_,
            "family": {
                "rows": found.rows,
                "refined": found.refined,
                "log_likelihood_ratio": float(found.log_ratio[best]),
                "fraction": float(found.fraction[best]),
                "validation_loss": record["validation_loss"],
                "best_epoch": record["best_epoch"],
            },
        }
        return density.append(stack)

    def _with_neighbourhoods(
        self,
        density: DensityStack,
        samples: Sequence[Matrix],
        settings: TrainingSettings,
        checkpoint: str | Path | None,
        *,
        penalty: MassPenalty | None,
        progress: bool,
    ) -> DensityStack:
        """Divide the family into neighbourhoods and append a model of each; no data are looked at."""
        rng = np.random.default_rng([self.seed, 0xFB])
        parts = [split_rows(to_mapped(density.columns, x, rng), rng) for x in samples]
        places = neighbourhood_samples(*prior_moments(density, len(samples)), parts, self.neighbourhoods, rng=rng)
        stack, record = fit_mapped(
            density.columns,
            places,
            architecture=density.architecture,
            settings=settings,
            seed=self.seed,
            device=self.device,
            penalty=penalty,
            checkpoint=None if checkpoint is None else f"{checkpoint}.neighbourhoods",
            progress=progress,
        )
        self.n_neighbourhoods_ = len(places)
        self.training_ = {
            **self.training_,
            "neighbourhoods": {name: record[name] for name in ("validation_loss", "best_epoch")},
        }
        return density.append(stack)

    def narrow(
        self,
        data: npt.ArrayLike,
        *,
        priors: Mapping[str, npt.ArrayLike],
        reference: npt.ArrayLike | None = None,
        mass: npt.ArrayLike | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> Quak:
        """Return a scorer of the same background and prior models whose family is narrowed down by other data.

        data: unlabelled rows (m, d), none of which will be hunted in with it; priors: those of `fit`;
        reference: rows of pure background, against which errors of the background model are taken off; mass: (m,) of the
        data, nearly all of them background; decorrelation above 0 needs both. This is the
        weakly supervised use of QUAK: k folds of data, each hunted in with a family that the other folds chose.
        Raises PriorNameError for other priors, ScorerError where there is no family, for masses as `fit` does, and for no
        reference where decorrelation is above 0.
        """
        density = require_fitted(self.density_, self)
        if not self._has_family:
            raise ScorerError("no family to narrow down: it needs priors, and family=True")
        if tuple(priors) != self.prior_names:
            raise PriorNameError(f"priors {', '.join(priors)} given, fitted with {', '.join(self.prior_names)}")
        width = density.columns.n_columns
        rows = as_matrix(data, name="data", n_columns=width, min_rows=MIN_ROWS)
        samples = [as_matrix(x, name=f"prior {name!r}", n_columns=width) for name, x in priors.items()]
        masses = checked_masses(self.decorrelation, (mass, len(rows)), (None, None), of="data")
        if masses[0] is not None and reference is None:
            raise ScorerError("decorrelation needs reference: rows of pure background beside the data")
        settings = self.settings(width)
        other = type(self)(**self.parameters())
        other.prior_names, other.background_max_ = self.prior_names, self.background_max_
        other.n_neighbourhoods_ = self.n_neighbourhoods_
        other.training_ = {k: v for k, v in self.training_.items() if k != FAMILY}
        own = density.select(range(1 + len(self.prior_names)))
        known = (
            None if reference is None else as_matrix(reference, name="reference", n_columns=width, min_rows=MIN_ROWS)
        )
        penalty = self._penalty(own, rows, masses[0])
        narrow = other._with_family(
            own, samples, rows, settings, checkpoint, penalty=penalty, progress=progress, reference=known
        )
        if self.n_neighbourhoods_:
            first = 2 + len(self.prior_names)
            narrow = narrow.append(density.select(range(first, first + self.n_neighbourhoods_)))
        other.density_ = narrow
        return other

    def losses(self, x: npt.ArrayLike) -> Matrix:
        """Return the losses (n, m) in nats, one column for each of `axis_names`: densities in the space of x.

        A flow's is −log p(x); a VAE's −log p(x | z) + KL at the latent mean.
        """
        density = require_fitted(self.density_, self)
        first, second = density.terms(as_matrix(x, n_columns=density.columns.n_columns))
        return np.asarray(first + second)

    def score(self, x: npt.ArrayLike, *, metric: str | None = None) -> Matrix:
        """Return (n,) scores in nats, larger = more anomalous; metric: one of `metrics`, default "anomaly"."""
        require_fitted(self.density_, self)
        metric = check_metric(metric, self.metrics, "Quak")
        losses = self.losses(x)
        background = losses[:, 0]
        if metric in self.axis_names[1:]:
            return np.asarray(background - self.alpha * losses[:, self.axis_names.index(metric)])
        if metric == "background" or not self.prior_names:
            return background
        difference = background - self.alpha * losses[:, 1 : 1 + len(self.prior_names)].min(axis=1)
        if metric == "difference":
            return np.asarray(difference)
        if self._has_family:
            difference = background - self.alpha * losses[:, self.axis_names.index(FAMILY)]
        return np.asarray(np.maximum(difference, background - self.background_max_))

    def save(self, path: str | Path) -> None:
        """Write the folder that `load_scorer` reads."""
        density = require_fitted(self.density_, self)
        save_scorer(
            path,
            self,
            parameters=self.parameters(),
            n_features=density.columns.n_columns,
            state={
                "prior_names": list(self.prior_names),
                "n_neighbourhoods": self.n_neighbourhoods_,
                "background_max": self.background_max_,
            },
            training=self.training_,
            tensors=density.tensors(),
        )

    @classmethod
    def from_stored(cls, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """Rebuild from what `save` wrote."""
        scorer = cls(**record["parameters"])
        scorer.density_ = DensityStack.from_tensors(tensors, scorer.stacked(record["n_features"]))
        scorer.training_ = dict(record["training"])
        scorer.prior_names = tuple(record["state"]["prior_names"])
        scorer.n_neighbourhoods_ = int(record["state"].get("n_neighbourhoods", 0))
        scorer.background_max_ = float(record["state"]["background_max"])
        return scorer


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
