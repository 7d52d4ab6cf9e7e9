"""A VAE on the constituents of jets, with outlier exposure (arXiv:2007.01850): what it cannot reconstruct, or has to encode far from
what is usual, is anomalous."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch

from ...errors import unknown_name
from ..density.autoencoder import kl_of_each
from ..distance.clouds import clouds_from_constituents
from ..distance.transport import wasserstein_rowwise
from ..generation import as_latent, prior_draws
from ..inputs import ScorerError, ShapeError, TooFewRowsError, check_metric, whole_number
from ..matching import LEAST_EFFECTIVE
from ..pretrained import check_pretrained, pretrained_scorer, require_same_inputs
from ..sample import Events, Sample, as_sample, refuse_unused, sample_names, single_jet, split_rows
from ..scorer import require_fitted, save_scorer
from ..train.exposed_events import ExposedEvents, ExposedMethod, matched_values, refuse_same_events
from ..train.loop import TrainingSettings, named_device, resolve_device
from ..train.mass_penalty import check_strength, checked_masses
from ..train.threads import few_threads
from .rescaled_sets import rescaled_to_spectrum
from .set_autoencoder import ARCHITECTURES, SetSizes, StackedSetVae
from .set_scaling import SetScaling, as_sets, filled_slots, jet_masses, polar, robust_scaling
from .set_training import SetMember, train_members

__all__ = ["ConstituentVae"]

Array = npt.NDArray[np.float64]
MIN_JETS = 100
SCORE_ROWS = 1024  # jets a step of scoring: fixed, so that scores do not depend on how many come at once
SCORE_THREADS = 4
LEAST_PT = 1e-6  # of a jet's pT: a reconstructed constituent below has no weight


@dataclass(kw_only=True, eq=False, repr=False)
class ConstituentVae(ExposedMethod):
    """Score = error of the reconstruction of a jet's constituents and distance of its code from the prior.

    Jets are (n, slots, 4) of E, px, py, pz, or (n, slots, 3) of pT, eta and phi, the hardest constituent first; slots whose first
    number is 0 are empty. Each number of each slot is scaled by its median and quartiles (`set_scaling.py`).

    architecture: "dense" or "lstm" (`set_autoencoder.py`); latent: dimensions; beta: of the loss MSE + beta · KL, where the MSE is the mean
    over all numbers and the KL the mean over the latent dimensions (0.1 there is 0.01 of a summed KL of ten dimensions).
    exposure: "none", "mse" or "kl" (`train/exposure.py`), which needs the sample `exposure` in `fit`; exposure_strength: the largest lambda;
    exposure_margin: of "kl"; exposure_match: "jet_mass" and "observable" resample the exposed jets to the background's spectrum of the jet mass
    or of the samples' observable, "rescaled" brings each exposed jet to a jet mass of the background (`rescaled_sets.py`), which jets of one
    mass need, and "none" takes them as they are. decorrelation: strength of the penalty on what the loss of a training jet tells of its mass
    (`train/disco.py`), 0 for none, with or without exposure; `fit` says which mass. pretrained: the folder of a ConstituentVae, or of a space
    whose background axis is one, whose weights and scaling the training starts from (`pretrained.py`): architecture and latent are then
    those of it. seed, device, max_epochs, patience, batch_size, learning_rate: see `TrainingSettings`; an exposed training does not stop
    early while lambda changes over it, that is with an exposure_strength above 0.

    metrics, all at the latent mean and deterministic: "loss" (default), "mse", "kl" (mean over dimensions), "emd" (energy mover's distance between
    the jet and its reconstruction, pT normalised, in the unit of eta and phi; needs POT) and "mss", the mean of the squares
    of the scaled numbers, a baseline that no training is needed for.
    """

    takes: ClassVar = ("sets",)
    uses: ClassVar = ("exposure", "mass")
    stacks: ClassVar = (
        "seed",
        "exposure",
        "exposure_strength",
        "exposure_margin",
        "exposure_match",
        "pretrained",
    )
    least: ClassVar = MIN_JETS
    metrics: ClassVar = ("loss", "mse", "kl", "emd", "mss")
    shown: ClassVar = ("latent",)
    matches: ClassVar = ("jet_mass", "observable", "rescaled", "none")

    architecture: str = "dense"
    latent: int = 10
    beta: float = 0.1
    exposure_match: str = "jet_mass"
    decorrelation: float = 0.0
    pretrained: str = ""
    max_epochs: int = 50
    patience: int = 10
    batch_size: int = 100
    learning_rate: float = 1e-3
    network_: StackedSetVae | None = field(default=None, init=False)
    scaling_: SetScaling | None = field(default=None, init=False)

    def fit(
        self,
        x: Events,
        *,
        validation: Events | None = None,
        exposure: Events | None = None,
        mass: npt.ArrayLike | None = None,
        validation_mass: npt.ArrayLike | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> Self:
        """Train on jets x (n, slots, numbers), n at least 100, and return self.

        validation: jets for early stopping, else 15 % of x by seed; exposure: jets that are to be found anomalous, needed where the option
        `exposure` is not "none" and refused where it is; mass: (n,) of x in whatever unit, which a score with decorrelation above 0 is kept
        independent of and which is else not looked at, a sample's observable where none is given, and the jets' own masses where the
        sample has none either; validation_mass: of the validation jets, likewise; checkpoint: a file to resume a killed training from;
        progress: a bar on stderr, or a log line in 30 s. Raises ScorerError for options that mean nothing, for masses that are not one a jet,
        not finite or all the same, and for a pretrained scorer that does not fit, ScorerFolderError for its folder, TooFewRowsError,
        ShapeError, NonFiniteError, EmptyImageError for jets without constituents, NegativePixelError, DeviceError.
        """
        given = {
            "x": x,
            "validation": validation,
            "exposure": exposure,
            "mass": mass,
            "validation_mass": validation_mass,
        }
        self.fit_stack([self], [given], checkpoint=checkpoint, progress=progress)
        return self

    @classmethod
    def fit_stack(
        cls,
        scorers: Sequence[Self],
        given: Sequence[Mapping[str, Any]],
        *,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> None:
        """Fit scorers that differ in `stacks` alone side by side, each on its own jets; given: arguments of `fit`, of each.

        One of them at most is exposed. With decorrelation each pays for what its score of the first one's jets tells of their masses: a
        model of a signal prior sculpts the background as one of the background does. See `set_training.py` for what of the result depends
        on the other scorers. Raises what `fit` raises.
        """
        first, shown = scorers[0], sum(own.get("exposure") is not None for own in given)
        if shown > 1:
            raise ScorerError(
                f"exposure: samples for {shown} of the scorers of a stack are given, allowed: for one of them"
            )
        device = resolve_device(first.device)
        made = [
            scorer._member(**own, pays=number == 0)
            for number, (scorer, own) in enumerate(zip(scorers, given, strict=True))
        ]
        networks, records = train_members(
            made,
            settings=first._settings(),
            seed=first.seed,
            device=device,
            decorrelation=first.decorrelation,
            identity={"members": [scorer._identity() for scorer in scorers]},
            checkpoint=checkpoint,
            progress=progress,
        )
        for scorer, own, member, network, record in zip(scorers, given, made, networks, records, strict=True):
            scorer.network_, scorer.scaling_, scorer.training_ = network, member.scaling, record
            scorer.input_names, scorer.made_ = sample_names(own["x"])

    def score(self, x: Events, *, metric: str | None = None) -> Array:
        """Return (n,) scores, larger = more anomalous; metric: one of `metrics`. Errors as in `fit`."""
        metric = check_metric(metric, self.metrics, type(self).__name__)
        return self.score_each(x, [metric])[metric]

    def score_each(self, x: Events, metrics: Sequence[str]) -> dict[str, Array]:
        """Return metric -> (n,) scores of one inference."""
        chosen = [check_metric(metric, self.metrics, type(self).__name__) for metric in metrics]
        jets, scaling, network = self._known(x)
        scaled = scaling.scaled(jets)
        found: dict[str, list[Array]] = {metric: [] for metric in chosen}
        for first, (mu, log_sigma, made) in self._by_parts(network, scaled):
            rows = slice(first, first + len(mu))
            mse = ((made - scaled[rows].reshape(len(mu), -1)) ** 2).mean(axis=1)
            kl = kl_of_each(torch.from_numpy(mu), torch.from_numpy(log_sigma)).mean(dim=-1).numpy()
            for metric in chosen:
                if metric == "emd":
                    output = scaling.restored(made.reshape(scaled[rows].shape))
                    found[metric].append(energy_movers_distances(jets[rows], output))
                elif metric == "mss":
                    found[metric].append((scaled[rows] ** 2).mean(axis=(1, 2)))
                else:
                    found[metric].append({"mse": mse, "kl": kl, "loss": mse + self.beta * kl}[metric])
        return {metric: np.concatenate(parts) if parts else np.empty(0) for metric, parts in found.items()}

    def latent_means(self, x: Events) -> Array:
        """Return the latent means (n, latent) of jets."""
        jets, scaling, network = self._known(x)
        parts = [mu for _, (mu, _, _) in self._by_parts(network, scaling.scaled(jets))]
        return np.concatenate(parts) if parts else np.empty((0, self.latent))

    def reconstruct(self, x: Events) -> Array:
        """Return the reconstructions (n, slots, numbers) of jets at the latent mean, in their own units, all slots filled."""
        jets, scaling, network = self._known(x)
        parts = [made for _, (_, _, made) in self._by_parts(network, scaling.scaled(jets))]
        return scaling.restored(np.concatenate(parts).reshape(jets.shape)) if parts else jets

    @torch.no_grad()
    def decode(self, z: npt.ArrayLike) -> Array:
        """Return the jets (n, slots, numbers) of latent points z (n, latent), in the units of the training.

        A constituent whose E or pT would not be above 0 is an empty slot, zeros. Raises NotFittedError, ShapeError, NonFiniteError.
        """
        network, scaling = require_fitted(self.network_, self), require_fitted(self.scaling_, self)
        points = torch.from_numpy(as_latent(z, self.latent))[None]
        with few_threads(SCORE_THREADS):
            parts = [network.decode(part)[0].numpy() for part in torch.split(points, SCORE_ROWS, dim=1)]
        made = np.concatenate(parts) if parts else np.empty((0, scaling.centre.size))
        jets = scaling.restored(made.reshape(-1, *scaling.centre.shape))
        return np.asarray(np.where(filled_slots(jets)[..., None], jets, 0.0))

    def sample(self, n: int, *, seed: int = 0) -> Array:
        """Return n jets (n, slots, numbers) decoded from draws of the prior, float64, in the units of the training, as `decode` has them.

        A jet is the mean of p(x | z): the loss takes the same noise for all numbers, which no real jet has, and a draw would add it. Each of
        E, px, py and pz is decoded by itself, so that constituents are not quite massless. The same seed gives the same jets. Raises
        NotFittedError, and ScorerError for an n that is no whole number from 1 on.
        """
        require_fitted(self.network_, self)
        return self.decode(prior_draws(n, self.latent, seed=seed))

    def save(self, path: str | Path) -> None:
        """Write the folder that `load_scorer` reads."""
        network, scaling = require_fitted(self.network_, self), require_fitted(self.scaling_, self)
        tensors = {name: p.detach() for name, p in network.named_parameters()}
        tensors |= {f"scaling.{name}": torch.from_numpy(value) for name, value in vars(scaling).items()}
        save_scorer(
            path,
            self,
            parameters=self.parameters(),
            n_features=scaling.centre.size,
            state={"slots": network.sizes.slots, "numbers": network.sizes.numbers},
            training=self.training_,
            tensors=tensors,
        )

    @classmethod
    def from_stored(cls, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """Rebuild from what `save` wrote."""
        scorer = cls(**record["parameters"])
        scorer.check()
        slots, numbers = (whole_number(name, record["state"][name]) for name in ("slots", "numbers"))
        sizes = SetSizes(slots, numbers, scorer.latent, scorer.architecture)
        weights = dict(tensors)
        scaling = SetScaling(*(weights.pop(f"scaling.{name}").double().numpy() for name in ("centre", "spread")))
        wanted = sum((n_in + 1) * n_out for n_in, n_out in sizes.layers)
        found = sum(tensor.numel() for tensor in weights.values())
        if (found, scaling.centre.shape, record["n_features"]) != (wanted, (slots, numbers), slots * numbers):
            raise ScorerError(
                f"{sizes} has {wanted} weights, the folder holds {found}, and a scaling of {scaling.centre.shape}"
            )
        network = StackedSetVae(1, sizes, seed=0, beta=scorer.beta).double().requires_grad_(requires_grad=False)
        network.load_state_dict(weights)
        scorer.network_, scorer.scaling_ = network, scaling
        scorer.training_ = dict(record["training"])
        return scorer

    def check(self, shape: Sequence[int] = ()) -> None:
        """Raise ScorerError for options that mean nothing."""
        del shape
        if self.architecture not in ARCHITECTURES:
            raise ScorerError(unknown_name("architecture", self.architecture, ARCHITECTURES, type(self).__name__))
        if whole_number("latent", self.latent) < 1:
            raise ScorerError(f"latent is {self.latent}, allowed: 1 or more")
        if not 0 <= self.beta < float("inf"):
            raise ScorerError(f"beta is {self.beta}, allowed: 0 or more")
        self.check_exposed()
        check_strength(self.decorrelation)
        check_pretrained(self.pretrained)
        named_device(self.device)
        self._settings()

    def _settings(self) -> TrainingSettings:
        settings = TrainingSettings(
            max_epochs=self.max_epochs,
            patience=self.patience,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
        )
        return self.unhurried(settings)

    def _identity(self) -> dict[str, Any]:
        """Return what a training depends on but for its data, first weights, and what changes no bit."""
        return {name: value for name, value in self.parameters().items() if name not in {"device", "pretrained"}}

    def _member(
        self,
        x: Events,
        *,
        pays: bool,
        validation: Events | None = None,
        exposure: Events | None = None,
        mass: npt.ArrayLike | None = None,
        validation_mass: npt.ArrayLike | None = None,
    ) -> SetMember:
        """Return what is trained on, and what is started from; pays: whether it is its own jets' masses that count."""
        refuse_unused(x, self.uses, type(self).__name__, exposure=exposure)
        self.check()
        self.require_exposure(given=exposure is not None)
        names, made = sample_names(x)
        jets = as_sets(single_jet(x, names), "x")
        if len(jets) < MIN_JETS:
            raise TooFewRowsError(f"x: has {len(jets)} jets, at least {MIN_JETS} are needed")
        if validation is None:
            train, held = split_rows(jets, np.random.default_rng(self.seed))
        else:
            train = jets
            held = as_sets(
                single_jet(validation, names, made=made, where="validation"), "validation", shape=jets.shape[1:]
            )
            if not len(held):
                raise TooFewRowsError("validation: has 0 jets, at least 1 is needed")
        masses = None
        if pays and self.decorrelation > 0:
            masses = self._masses((x, jets, mass), (validation, None if validation is None else held, validation_mass))
        before = pretrained_scorer(self, agree=("architecture", "latent"))
        if before is not None:
            require_same_inputs(before, names, made)
        scaling, network = self._start(before, train)
        exposed = self._exposed_to(exposure, jets, x, names=names, made=made)
        return SetMember(train, held, scaling, network, self._settings().patience, exposed, masses)

    def _masses(
        self,
        own: tuple[Events, Array, npt.ArrayLike | None],
        held: tuple[Events | None, Array | None, npt.ArrayLike | None],
    ) -> tuple[Array, Array]:
        """Return the masses of training and validation jets, each given as events, their jets and masses; None: split off."""
        mass, other = (given if given is not None else observable_of(events) for events, _, given in (own, held))
        if mass is None:
            mass, other = jet_masses(own[1]), None if held[1] is None else jet_masses(held[1])
        jets = len(own[1]), None if held[1] is None else len(held[1])
        first, second = checked_masses(self.decorrelation, (mass, jets[0]), (other, jets[1]))
        if first is not None and second is not None:
            return first, second
        # a generator of the same seed splits the masses as it did the jets
        return split_rows(np.asarray(first), np.random.default_rng(self.seed))

    def _start(self, before: Self | None, train: Array) -> tuple[SetScaling, StackedSetVae]:
        """Return scaling and weights to start from: fresh ones, or those of a scorer that was trained before."""
        sizes = SetSizes(train.shape[1], train.shape[2], self.latent, self.architecture)
        if before is None:
            return robust_scaling(train), StackedSetVae(1, sizes, seed=self.seed, beta=self.beta)
        network, scaling = require_fitted(before.network_, before), require_fitted(before.scaling_, before)
        if network.sizes != sizes:
            wanted, found = ((own.slots, own.numbers) for own in (network.sizes, sizes))
            raise ShapeError(
                f"x: jets of {found} numbers, allowed: {wanted}, as pretrained, {self.pretrained}, was trained on"
            )
        network.beta = self.beta
        return scaling, network

    def _exposed_to(
        self, exposure: Events | None, jets: Array, x: Events, *, names: tuple[str, ...], made: Mapping[str, Any]
    ) -> ExposedEvents | None:
        """Return the jets that a training on jets (n, slots, numbers) of x is exposed to."""
        if exposure is None:
            return None
        given = single_jet(exposure, names, made=made, where="exposure")
        beside, match = as_sets(given, "exposure", shape=jets.shape[1:]), self.exposure_match
        refuse_same_events(beside, x=jets)
        if match == "rescaled":
            made_so, reached = rescaled_to_spectrum(beside, jet_masses(jets), seed=self.seed)
            if reached.mean() < LEAST_EFFECTIVE:
                raise ScorerError(
                    f"exposure: {reached.sum()} of {len(beside)} jets can be rescaled to jet masses of the background, {100 * LEAST_EFFECTIVE:.0f} % are "
                    "needed: jets of one constituent and jets at rest cannot"
                )
            return self.exposed_events(made_so[reached], None, column=match, exposure_unreached=int((~reached).sum()))
        if match == "jet_mass":
            return self.exposed_events(beside, (jet_masses(beside), jet_masses(jets)), column="jet mass")
        observed = Sample(beside, observable=as_sample(exposure, names, where="exposure").observable)
        values = matched_values(match, observed, Sample(jets, observable=as_sample(x, names).observable))
        return self.exposed_events(beside, values, column=match)

    def _known(self, x: Events) -> tuple[Array, SetScaling, StackedSetVae]:
        """Return the jets to score, with what was fitted."""
        network, scaling = require_fitted(self.network_, self), require_fitted(self.scaling_, self)
        jets = single_jet(x, self.input_names, made=self.made_)
        return as_sets(jets, "x", shape=scaling.centre.shape), scaling, network

    @torch.no_grad()
    def _by_parts(self, network: StackedSetVae, scaled: Array) -> list[tuple[int, tuple[Array, Array, Array]]]:
        """Return first row, mean, log sigma and output of some jets after another."""
        found = []
        with few_threads(SCORE_THREADS):
            for first in range(0, len(scaled), SCORE_ROWS):
                part = torch.from_numpy(scaled[first : first + SCORE_ROWS].reshape(1, -1, scaled[0].size))
                mu, log_sigma = network.encode(part)
                made = network.decode(mu)
                found.append((first, (mu[0].numpy(), log_sigma[0].numpy(), made[0].numpy())))
        return found


def observable_of(x: Events | None) -> Array | None:
    """Return the observable (n,) of a sample that has one."""
    return x.observable if isinstance(x, Sample) else None


def energy_movers_distances(x: Array, made: Array) -> Array:
    """Return the energy mover's distance (n,) between jets and their reconstructions, (n, slots, 3 or 4) each.

    pT are divided by their sums; azimuths are those from the jet's own. Of a reconstruction only the slots count that the jet fills, and in
    them what has E (or pT) above 0. A reconstruction without any pT is as far as the jet's own width from its axis.
    """
    given, output = polar(x), polar(made)
    x_, y_ = ((given[..., 0] * turn(given[..., 2])).sum(axis=1) for turn in (np.cos, np.sin))
    axis = np.arctan2(y_, x_)[:, None]
    for points in (given, output):
        points[..., 2] -= axis
        points[..., 2] -= 2 * np.pi * np.rint(points[..., 2] / (2 * np.pi))
    there = filled_slots(x) & filled_slots(made) & (output[..., 0] > LEAST_PT * given[..., 0].sum(axis=1)[:, None])
    output[..., 0] = np.where(there, output[..., 0], 0.0)
    nothing = ~(output[..., 0] > 0).any(axis=1)
    output[nothing] = 0.0
    output[nothing, 0, 0] = 1.0
    clouds = [clouds_from_constituents(jets, normalise=True) for jets in (given, output)]
    return wasserstein_rowwise(clouds[0], clouds[1], p=1.0)
