"""QUAK: anomalies by how well a background model and models of approximate signal priors explain an event.

Quasi-Anomalous Knowledge, arXiv:2011.03550: one density model for the background and one for each prior; their losses
span the space in which one searches. One more axis, "family", is a model of what lies around and between the priors,
narrowed down by the unlabelled data (family.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch

from ..inputs import ScorerError, as_matrix, check_metric
from ..sample import Events, Sample, as_sample, event_hashes, named_inputs, refuse_unused
from ..scorer import Method, require_columns, require_fitted, save_scorer
from ..train.loop import TrainingSettings, named_device
from ..train.mass_penalty import check_strength, checked_masses
from .densities import Architecture, DensityStack, fit_densities
from .density_scorer import MIN_ROWS
from .signal_axes import Fitting, mass_sample, remove_checkpoints, with_family, with_neighbourhoods

__all__ = ["ConstantColumnError", "PriorNameError", "Quak"]

Matrix = npt.NDArray[np.float64]
OWN_METRICS = ("anomaly", "difference", "background")
FAMILY = "family"
FAMILY_EVENTS = 20_000


class PriorNameError(ScorerError):
    """A prior has no name, or that of a metric."""


class ConstantColumnError(ScorerError):
    """A column of the background holds one value alone."""


@dataclass(kw_only=True, eq=False, repr=False)
class Quak(Method):
    """Background and prior densities over one scaling, trained side by side; losses in nats.

    architecture: of ARCHITECTURES: "maf" (default), "nsf", "vae", "flow_vae"; hidden: width of the layers, None for 32
    up to 6 columns and 64 above; steps: of a flow; latent, beta: of a VAE. family: whether the priors span a family
    that unlabelled data narrow down; hypotheses: into how many parts, its neighbourhoods, the family is divided, each with a density of
    its own (at most; 0: none), for searches that look at each place by itself. alpha: weight of the signal's loss in the differences; at 1 (default) the
    difference of two exact densities is the log likelihood ratio, the best test there is for that signal.
    learning_rate: None for 3e-3 up to 6 columns and 5e-4 above, where priors of some thousand events are learned by heart
    within an epoch. decorrelation: strength of the penalty on what the losses of a background event, by whichever model,
    tell of its mass (`mass_penalty.py`), 0 for none; the samples of `fit` and `narrow` then need
    their observable.
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

    takes: ClassVar = ("rows",)
    uses: ClassVar = ("mass",)
    least: ClassVar = MIN_ROWS
    spans: ClassVar = True
    mosaic: ClassVar = True
    narrows: ClassVar = True

    alpha: float = 1.0
    architecture: str = "maf"
    family: bool = True
    hypotheses: int = 0
    latent: int | None = None
    hidden: int | None = None
    steps: int = 4
    beta: float = 1.0
    max_epochs: int = 60
    patience: int = 10
    batch_size: int = 512
    learning_rate: float | None = None
    decorrelation: float = 0.0
    prior_names: tuple[str, ...] = field(default=(), init=False)
    trained_on: npt.NDArray[np.uint64] = field(default_factory=lambda: event_hashes([]), init=False)
    n_neighbourhoods_: int = field(default=0, init=False)
    background_max_: float = field(default=float("nan"), init=False)
    density_: DensityStack | None = field(default=None, init=False)

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

    def described(self) -> list[str]:
        """Return what the repr says before the training."""
        if self.density_ is None:
            return [self.architecture, *([f"hypotheses={self.hypotheses}"] if self.hypotheses else [])]
        parts = {"features": self.density_.columns.n_columns, "priors": len(self.prior_names)}
        if self.n_neighbourhoods_:
            parts["neighbourhoods"] = self.n_neighbourhoods_
        return [self.architecture, *(f"{n} {name}" for name, n in parts.items())]

    def check(self, shape: Sequence[int] = ()) -> None:
        """Raise ScorerError for options that mean nothing."""
        del shape
        self.stacked(1)
        self.settings(1)
        named_device(self.device)
        check_strength(self.decorrelation)

    def stacked(self, n_columns: int) -> Architecture:
        """Return what is stacked for this many columns."""
        hidden = (32 if n_columns <= 6 else 64) if self.hidden is None else self.hidden
        return Architecture(self.architecture, latent=self.latent, hidden=hidden, steps=self.steps, beta=self.beta)

    def settings(self, n_columns: int) -> TrainingSettings:
        """Return how long and how fast to train on this many columns."""
        rate = (3e-3 if n_columns <= 6 else 5e-4) if self.learning_rate is None else self.learning_rate
        return TrainingSettings(
            max_epochs=self.max_epochs, patience=self.patience, batch_size=self.batch_size, learning_rate=rate
        )

    def fit(
        self,
        sample: Events,
        *,
        priors: Mapping[str, Events] | None = None,
        data: Events | None = None,
        exposure: Events | None = None,
        validation: Events | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> Self:
        """Train on the background and each prior, rows (n, d), at least 100 each; return self.

        sample: the background, simulated, or unlabelled data; its names are stored, and the columns of the others are put in
        their order. Its observable is the mass that is needed where decorrelation is above 0 and else not looked at (priors need
        none: their models pay for the background's events, too). priors: name -> events, or None; data: unlabelled events by which
        the family is narrowed down, default the background; they must not be events that will be hunted in. validation: background
        events for early stopping, with their observable where decorrelation is above 0, else 15 % by seed, as for each prior.
        checkpoint: a file to resume a killed training from; progress: a bar on stderr, or a log line in 30 s. Raises
        PriorNameError, ConstantColumnError, ScorerError for weights and exposure, which densities do not use, for names that are
        missing and for masses that are missing, not finite or all the same, and the errors of `as_matrix`, naming sample and column.
        """
        refuse_unused(sample, self.uses, type(self).__name__, exposure=exposure)
        background = as_sample(sample, where="background")
        names, made = background.names, dict(background.made)
        rows = as_matrix(background.inputs, name="background", min_rows=MIN_ROWS, columns=names or None)
        width = rows.shape[1]
        check_prior_names(priors or {})
        samples = [self._rows(x, f"prior {name!r}", width, names, made) for name, x in (priors or {}).items()]
        held = None if validation is None else self._rows(validation, "validation", width, names, made, least=1)
        refuse_constant(rows, names)
        unlabelled = rows if data is None else self._rows(data, "data", width, names, made)
        masses = checked_masses(
            self.decorrelation,
            (background.observable, len(rows)),
            (observable_of(validation), None if held is None else len(held)),
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
            keep_checkpoint=True,
            progress=progress,
        )
        self.prior_names, self.input_names, self.made_ = tuple(priors or {}), names, made
        if self._has_family:
            fitting = self._fitting(density, rows, masses[0], settings, checkpoint, progress=progress)
            # a penalised density is not that of the background: what it is off must not pass for a signal
            reference = None if fitting.penalty is None else rows
            density, told = with_family(
                density, samples, unlabelled, fitting, events=FAMILY_EVENTS, reference=reference
            )
            self.training_ = {**self.training_, FAMILY: told}
            if self.hypotheses:
                density, self.n_neighbourhoods_, told = with_neighbourhoods(density, samples, self.hypotheses, fitting)
                self.training_ = {**self.training_, "neighbourhoods": told}
        self.density_ = density
        self.background_max_ = float(self.losses(rows)[:, 0].max())
        self.trained_on = event_hashes([sample, *(priors or {}).values(), data, validation])
        remove_checkpoints(checkpoint)
        return self

    def _rows(
        self,
        x: Events,
        name: str,
        width: int,
        names: tuple[str, ...],
        made: Mapping[str, Any],
        *,
        least: int = MIN_ROWS,
    ) -> Matrix:
        """Return the rows (n, d) of events with the columns in the order of the background's."""
        inputs = named_inputs(x, names, made=made, where=name)
        return as_matrix(inputs, name=name, n_columns=width, min_rows=least, columns=names or None)

    def _fitting(
        self,
        density: DensityStack,
        rows: Matrix,
        mass: Matrix | None,
        settings: TrainingSettings,
        checkpoint: str | Path | None,
        *,
        progress: bool,
    ) -> Fitting:
        """Return how the models that come on top of a stack are trained; rows: of background, of which the masses are."""
        penalty = None
        if mass is not None:
            penalty = mass_sample(density, rows, mass, strength=self.decorrelation, seed=self.seed)
        return Fitting(settings, self.seed, self.device, penalty, checkpoint, progress)

    def narrow(
        self,
        data: Events,
        *,
        priors: Mapping[str, Events],
        reference: Events | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> Quak:
        """Return a scorer of the same background and prior models whose family is narrowed down by other data.

        data: unlabelled rows (m, d), none of which will be hunted in with it; priors: those of `fit`;
        reference: rows of pure background, against which errors of the background model are taken off; decorrelation above 0
        needs it, and the observable of the data, nearly all of which are background. This is the
        weakly supervised use of QUAK: k folds of data, each hunted in with a family that the other folds chose.
        Raises PriorNameError for other priors, ScorerError where there is no family, for masses as `fit` does, and for no
        reference where decorrelation is above 0.
        """
        density = require_fitted(self.density_, self)
        if not self._has_family:
            raise ScorerError("no family to narrow down: it needs priors, and family=True")
        if tuple(priors) != self.prior_names:
            raise PriorNameError(f"priors {', '.join(priors)} given, fitted with {', '.join(self.prior_names)}")
        refuse_unused(data, self.uses, type(self).__name__)
        width, names, made = density.columns.n_columns, self.input_names, self.made_
        rows = self._rows(data, "data", width, names, made)
        samples = [self._rows(x, f"prior {name!r}", width, names, made, least=0) for name, x in priors.items()]
        masses = checked_masses(self.decorrelation, (observable_of(data), len(rows)), (None, None), of="data")
        if masses[0] is not None and reference is None:
            raise ScorerError("decorrelation needs reference: rows of pure background beside the data")
        known = None if reference is None else self._rows(reference, "reference", width, names, made)
        own = density.select(range(1 + len(self.prior_names)))
        fitting = self._fitting(own, rows, masses[0], self.settings(width), checkpoint, progress=progress)
        narrow, told = with_family(own, samples, rows, fitting, events=FAMILY_EVENTS, reference=known)
        if self.n_neighbourhoods_:
            first = 2 + len(self.prior_names)
            narrow = narrow.append(density.select(range(first, first + self.n_neighbourhoods_)))
        other = type(self)(**self.parameters())
        other.prior_names, other.background_max_ = self.prior_names, self.background_max_
        other.n_neighbourhoods_, other.input_names, other.made_ = self.n_neighbourhoods_, names, made
        other.training_ = {**{k: v for k, v in self.training_.items() if k != FAMILY}, FAMILY: told}
        other.trained_on = np.union1d(self.trained_on, event_hashes([data, reference, *priors.values()]))
        other.density_ = narrow
        remove_checkpoints(checkpoint)
        return other

    def losses(self, x: Events) -> Matrix:
        """Return the losses (n, m) in nats, one column for each of `axis_names`: densities in the space of x.

        x: rows (n, d); columns with names (of a sample, a table, a data frame) are put in the order of `input_names`, those of a plain
        array, which have none to compare, are taken as they are. A flow's loss is −log p(x); a VAE's
        −log p(x | z) + KL at the latent mean.
        """
        density = require_fitted(self.density_, self)
        inputs, names = named_inputs(x, self.input_names, made=self.made_), self.input_names or None
        rows = as_matrix(inputs, n_columns=density.columns.n_columns, columns=names)
        first, second = density.terms(rows)
        return np.asarray(first + second)

    def score_of(self, losses: Matrix, metric: str | None = None) -> Matrix:
        """Return the scores (n,) in nats of losses (n, m), larger = more anomalous; metric: one of `metrics`."""
        metric = check_metric(metric, self.metrics, type(self).__name__)
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

    def score(self, x: Events, *, metric: str | None = None) -> Matrix:
        """Return (n,) scores in nats, larger = more anomalous; metric: one of `metrics`, default "anomaly"."""
        require_fitted(self.density_, self)
        check_metric(metric, self.metrics, type(self).__name__)
        return self.score_of(self.losses(x), metric)

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
            tensors={**density.tensors(), "trained_on": torch.from_numpy(self.trained_on)},
        )

    @classmethod
    def from_stored(cls, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """Rebuild from what `save` wrote."""
        scorer, state = cls(**record["parameters"]), record["state"]
        scorer.check()
        density = DensityStack.from_tensors(tensors, scorer.stacked(record["n_features"]))
        scorer.density_ = density
        require_columns(record, density.columns.n_columns)
        scorer.training_ = dict(record["training"])
        scorer.prior_names = tuple(state["prior_names"])
        scorer.n_neighbourhoods_ = int(state["n_neighbourhoods"])
        own = 1 + len(scorer.prior_names) + (1 + scorer.n_neighbourhoods_ if scorer._has_family else 0)
        if own != len(density.centre):
            raise ScorerError(f"{own} axes are named, the weights are those of {len(density.centre)} models")
        scorer.background_max_ = float(state["background_max"])
        scorer.trained_on = tensors["trained_on"].numpy()
        return scorer


def observable_of(x: Events | None) -> Matrix | None:
    """Return the observable (n,) of a sample, None of other events."""
    return x.observable if isinstance(x, Sample) else None


def check_prior_names(priors: Mapping[str, Any]) -> None:
    """Refuse priors without a name and with one that means something else: raises PriorNameError."""
    for name in priors:
        if not isinstance(name, str) or not name or name in OWN_METRICS or name.startswith(FAMILY):
            taken = ", ".join(OWN_METRICS)
            raise PriorNameError(
                f"a prior is named {name!r}; allowed: any text but {taken} and what begins with {FAMILY!r}"
            )


def refuse_constant(rows: Matrix, names: tuple[str, ...]) -> None:
    """Refuse background rows (n, d) with a column of one value: raises ConstantColumnError naming it."""
    constant = np.flatnonzero(np.ptp(rows, axis=0) == 0).tolist()
    if constant:
        shown = ", ".join(f"{names[j] if names else j} (= {rows[0, j]:g})" for j in constant)
        raise ConstantColumnError(
            f"background: column {shown} holds one value in all {len(rows)} rows; "
            "leave it out, no density can be learned of it"
        )
