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
from ..distance.clouds import EmptyImageError, NegativePixelError, as_jets, clouds_from_constituents
from ..distance.transport import wasserstein_rowwise
from ..inputs import ScorerError, ShapeError, TooFewRowsError, check_metric, whole_number
from ..matching import matched_rows
from ..sample import Events, refuse_unused, sample_names, single_jet, split_rows
from ..scorer import Method, require_fitted, save_scorer
from ..train.exposure import Exposed, check_exposure
from ..train.loop import TrainingSettings, named_device, resolve_device, train_stack
from ..train.objective import Objective
from ..train.threads import few_threads
from .set_autoencoder import ARCHITECTURES, SetSizes, StackedSetVae, kl_of_each
from .set_scaling import SetScaling, filled_slots, jet_masses, polar, robust_scaling

__all__ = ["ConstituentVae"]

Array = npt.NDArray[np.float64]
MIN_JETS = 100
NUMBERS = (3, 4)  # of a constituent: pT, eta, phi, or E, px, py, pz
SCORE_ROWS = 1024  # jets a step of scoring: fixed, so that scores do not depend on how many come at once
SCORE_THREADS = 4
LEAST_PT = 1e-6  # of a jet's pT: a reconstructed constituent below has no weight
MATCHES = ("jet_mass", "none")


@dataclass(kw_only=True, eq=False, repr=False)
class ConstituentVae(Method):
    """Score = error of the reconstruction of a jet's constituents and distance of its code from the prior.

    Jets are (n, slots, 4) of E, px, py, pz, or (n, slots, 3) of pT, eta and phi, the hardest constituent first; slots whose first
    number is 0 are empty. Each number of each slot is scaled by its median and quartiles (`set_scaling.py`).

    architecture: "dense" or "lstm" (`set_autoencoder.py`); latent: dimensions; beta: of the loss MSE + beta · KL, where the MSE is the mean
    over all numbers and the KL the mean over the latent dimensions (0.1 there is 0.01 of a summed KL of ten dimensions).
    exposure: "none", "mse" or "kl" (`train/exposure.py`), which needs the sample `exposure` in `fit`; exposure_strength: the largest lambda;
    exposure_margin: of "kl"; exposure_match: "jet_mass" resamples the exposed jets to the jet masses of the background, "none" takes them as they
    are. seed, device, max_epochs, patience, batch_size, learning_rate: see `TrainingSettings`; an exposed training does not stop early, since
    lambda changes over it.

    metrics, all at the latent mean and deterministic: "loss" (default), "mse", "kl" (mean over dimensions), "emd" (energy mover's distance between
    the jet and its reconstruction, pT normalised, in the unit of eta and phi; needs POT) and "mss", the mean of the squares
    of the scaled numbers, a baseline that no training is needed for.
    """

    takes: ClassVar = ("sets",)
    uses: ClassVar = ("exposure",)
    least: ClassVar = MIN_JETS
    metrics: ClassVar = ("loss", "mse", "kl", "emd", "mss")
    shown: ClassVar = ("latent",)

    architecture: str = "dense"
    latent: int = 10
    beta: float = 0.1
    exposure: str = "none"
    exposure_strength: float = 2.0
    exposure_margin: float = 2.0
    exposure_match: str = "jet_mass"
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
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> Self:
        """Train on jets x (n, slots, numbers), n at least 100, and return self.

        validation: jets for early stopping, else 15 % of x by seed; exposure: jets that are to be found anomalous, needed where the option
        `exposure` is not "none" and refused where it is; checkpoint: a file to resume a killed training from; progress: a bar on
        stderr, or a log line in 30 s. Raises ScorerError for options that mean nothing, TooFewRowsError, ShapeError, NonFiniteError,
        EmptyImageError for jets without constituents, NegativePixelError, DeviceError.
        """
        refuse_unused(x, self.uses, type(self).__name__)
        self.check()
        self._require_exposure(given=exposure is not None)
        names, made = sample_names(x)
        jets = self._jets(single_jet(x, names), "x")
        if len(jets) < MIN_JETS:
            raise TooFewRowsError(f"x: has {len(jets)} jets, at least {MIN_JETS} are needed")
        if validation is None:
            train, held = split_rows(jets, np.random.default_rng(self.seed))
        else:
            train = jets
            held = self._jets(
                single_jet(validation, names, made=made, where="validation"), "validation", shape=jets.shape[1:]
            )
            if not len(held):
                raise TooFewRowsError("validation: has 0 jets, at least 1 is needed")
        scaling = robust_scaling(train)
        sizes = SetSizes(jets.shape[1], jets.shape[2], self.latent, self.architecture)
        network = StackedSetVae(1, sizes, seed=self.seed, beta=self.beta)
        objective: Objective = Objective(network)
        streams: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        if exposure is not None:
            objective = Exposed(
                objective, kind=self.exposure, strength=self.exposure_strength, margin=self.exposure_margin
            )
            beside = self._jets(
                single_jet(exposure, names, made=made, where="exposure"), "exposure", shape=jets.shape[1:]
            )
            streams["exposure"] = self._stream(beside, train, scaling)
        record = train_stack(
            objective,
            [as_rows(scaling.scaled(train))],
            [as_rows(scaling.scaled(held))],
            settings=self._settings(),
            seed=self.seed,
            device=resolve_device(self.device),
            streams=streams,
            identity={name: value for name, value in self.parameters().items() if name != "device"},
            checkpoint=checkpoint,
            progress=progress,
        )
        self.training_ = {
            **record,
            "slots": sizes.slots,
            "numbers": sizes.numbers,
            **({"exposed_rows": len(streams["exposure"][0]) + len(streams["exposure"][1])} if streams else {}),
        }
        # scores are float64 on the CPU wherever the training ran
        self.network_ = network.to("cpu").double().requires_grad_(requires_grad=False)
        self.scaling_, self.input_names, self.made_ = scaling, names, made
        return self

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
    def sample(self, n: int, *, seed: int = 0) -> Array:
        """Return n jets (n, slots, numbers) decoded from draws of the prior, in their own units."""
        network, scaling = require_fitted(self.network_, self), require_fitted(self.scaling_, self)
        draws = np.random.default_rng(seed).normal(size=(whole_number("n", n), self.latent))
        made = network.decode(torch.from_numpy(draws)[None])[0].numpy()
        return scaling.restored(made.reshape(n, *scaling.centre.shape))

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
        if self.exposure_match not in MATCHES:
            raise ScorerError(unknown_name("exposure_match", self.exposure_match, MATCHES, type(self).__name__))
        if whole_number("latent", self.latent) < 1:
            raise ScorerError(f"latent is {self.latent}, allowed: 1 or more")
        if not 0 <= self.beta < float("inf"):
            raise ScorerError(f"beta is {self.beta}, allowed: 0 or more")
        check_exposure(self.exposure, self.exposure_strength, self.exposure_margin)
        named_device(self.device)
        self._settings()

    def _settings(self) -> TrainingSettings:
        return TrainingSettings(
            max_epochs=self.max_epochs,
            patience=self.patience if self.exposure == "none" else self.max_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
        )

    def _require_exposure(self, *, given: bool) -> None:
        """Raise ScorerError where an exposure sample is missing, or is there and nothing uses it."""
        if given and self.exposure == "none":
            raise ScorerError("exposure: a sample is given, and the option exposure is 'none'; allowed: mse, kl")
        if not given and self.exposure != "none":
            raise ScorerError(
                f"exposure: the option is {self.exposure!r}, which needs a sample of jets to be exposed to"
            )

    def _stream(self, beside: Array, train: Array, scaling: SetScaling) -> tuple[torch.Tensor, torch.Tensor]:
        """Return exposed jets for training and for validation, resampled to the background's masses where that is asked for."""
        if len(beside) < MIN_JETS:
            raise TooFewRowsError(f"exposure: has {len(beside)} jets, at least {MIN_JETS} are needed")
        if self.exposure_match == "jet_mass":
            masses = jet_masses(beside), jet_masses(train)
            beside = beside[matched_rows(*masses, seed=self.seed, of="exposure", column="jet mass")]
        # one order of a seed of its own, else the validation rows would be those of the background's order
        train_part, held_part = split_rows(scaling.scaled(beside), np.random.default_rng([self.seed, 0xE]))
        return as_rows(train_part), as_rows(held_part)

    def _jets(self, x: npt.ArrayLike, name: str, *, shape: tuple[int, ...] | None = None) -> Array:
        """Return jets (n, slots, numbers) in float64, or say what is wrong with them."""
        jets = as_jets(x, name=name)
        if jets.shape[2] not in NUMBERS:
            raise ShapeError(
                f"{name}: has shape {jets.shape}; a constituent is pT, eta, phi or E, px, py, pz: (jets, slots, 3 or 4)"
            )
        if shape is not None and jets.shape[1:] != shape:
            raise ShapeError(f"{name}: jets of {jets.shape[1:]} numbers, {shape} are expected")
        negative = (jets[..., 0] < 0).any(axis=1)
        if negative.any():
            raise NegativePixelError(
                f"{name}: {negative.sum()} of {len(jets)} jets have a constituent of E or pT below 0, first {np.flatnonzero(negative)[0]}"
            )
        there = filled_slots(jets).any(axis=1)
        if not there.all():
            first = int(np.flatnonzero(~there)[0])
            raise EmptyImageError(f"{name}: {(~there).sum()} of {len(jets)} jets have no constituents, first {first}")
        return jets

    def _known(self, x: Events) -> tuple[Array, SetScaling, StackedSetVae]:
        """Return the jets to score, with what was fitted."""
        network, scaling = require_fitted(self.network_, self), require_fitted(self.scaling_, self)
        jets = single_jet(x, self.input_names, made=self.made_)
        return self._jets(jets, "x", shape=scaling.centre.shape), scaling, network

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


def as_rows(sets: Array) -> torch.Tensor:
    """Return scaled jets as rows (n, slots · numbers) in single precision."""
    return torch.from_numpy(sets.reshape(len(sets), -1)).float()


def energy_movers_distances(x: Array, made: Array) -> Array:
    """Return the energy mover's distance (n,) between jets and their reconstructions, (n, slots, 3 or 4) each.

    pT are divided by their sums. A reconstruction without any pT is as far as the jet's own width from its axis.
    """
    given, output = polar(x), polar(made)
    output[..., 0] = np.where(output[..., 0] > LEAST_PT * given[..., 0].sum(axis=1)[:, None], output[..., 0], 0.0)
    nothing = ~(output[..., 0] > 0).any(axis=1)
    output[nothing] = 0.0
    output[nothing, 0, 0] = 1.0
    clouds = [clouds_from_constituents(jets, normalise=True) for jets in (given, output)]
    return wasserstein_rowwise(clouds[0], clouds[1], p=1.0)
