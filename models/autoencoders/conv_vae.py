"""A convolutional VAE on jet images as an anomaly score (arXiv:2110.06948): what it cannot reconstruct is anomalous."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch

from ...errors import unknown_name
from ..density.autoencoder import gaussian_kl
from ..distance.clouds import Array, as_jets, check_pixel, clouds_from_images, require_unit, require_weights
from ..distance.transport import check_options, wasserstein_rowwise
from ..generation import as_latent, prior_draws
from ..inputs import ScorerError, ShapeError, TooFewRowsError, check_metric, whole_number
from ..pretrained import check_pretrained, pretrained_scorer, require_same_inputs
from ..sample import Events, Sample, as_sample, refuse_unused, sample_names, single_jet, split_rows
from ..scorer import require_fitted, save_scorer
from ..train.exposed_events import ExposedEvents, ExposedMethod, exposed_objective, matched_values, refuse_same_events
from ..train.loop import TrainingSettings, named_device, resolve_device, train_stack
from ..train.objective import Objective
from ..train.threads import few_threads
from .conv_autoencoder import ConvSizes, StackedConvVae, mean_power_error

__all__ = ["ConvVae"]

MIN_IMAGES = 100
RECONSTRUCTIONS = ("power", "wasserstein")
SCORE_ROWS = 256  # images a step of scoring: fixed, so that scores do not depend on how many come at once
SCORE_THREADS = 4
LARGEST_BLOCKS = 3


@dataclass(kw_only=True, eq=False, repr=False)
class ConvVae(ExposedMethod):
    """Score = how badly a VAE that was trained on a sample of jet images reconstructs an image.

    Images are (n, height, width), hold no negative pixel and sum to one (normalise=True divides by the sum); height and width
    are multiples of 2^blocks.

    blocks: down-samplings, 1 to 3; convolutions, channels: in each; hidden, latent: of the dense layers;
    reconstruction: "power", the mean over all pixels of |x − x'|^alpha (alpha = 2 is the MSE, 1 the MAE), or
    "wasserstein", Wass(p) with the regularisation length `blur` in pixels; beta: of the loss
    (1 − beta) · reconstruction + beta · KL, whose size goes with the reconstruction's (`conv_autoencoder.py`): 1e-8 to 1e-7
    for the MSE, 1e-3 or so for Wass(1) in pixels; pixel: side of a pixel, the unit of Wass(p); threads: of the exact transport
    in scores; seed, device, max_epochs, patience, batch_size, learning_rate: see `TrainingSettings`.

    exposure: "none", "mse" or "kl" (`train/exposure.py`), which needs the sample `exposure` in `fit`; exposure_strength: the largest lambda;
    exposure_margin: of "kl". The error of "mse" is that of the reconstruction, in units of the average image's. exposure_match: "observable" resamples the
    exposed images to the background's spectrum of that of the samples, "none" takes them as they are. An exposed training does not stop early.
    pretrained: folder of a saved `ConvVae` of the same sizes, or of a space whose background axis is one, that the training starts from; "" for none.

    metrics, all at the latent mean and deterministic, whatever the network was trained with: "loss" (default),
    "reconstruction" (its own error), "kl", "mse", "mae", "wass1", "wass2" (exact transport between the image and its
    reconstruction; needs POT, some 10 ms an image) and "latent_radius", |mu|.
    """

    takes: ClassVar = ("images",)
    least: ClassVar = MIN_IMAGES
    metrics: ClassVar = ("loss", "reconstruction", "kl", "mse", "mae", "wass1", "wass2", "latent_radius")
    shown: ClassVar = ("latent",)

    blocks: int = 2
    convolutions: int = 1
    channels: int = 16
    hidden: int = 64
    latent: int = 16
    reconstruction: str = "power"
    alpha: float = 2.0
    p: float = 1.0
    blur: float = 0.1
    beta: float = 1e-8
    pixel: float = 1.0
    normalise: bool = False
    threads: int | None = None
    max_epochs: int = 30
    patience: int = 8
    batch_size: int = 128
    learning_rate: float = 1e-3
    pretrained: str = ""
    network_: StackedConvVae | None = field(default=None, init=False)

    def fit(
        self,
        x: Events,
        *,
        validation: Events | None = None,
        exposure: Events | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> Self:
        """Train on images x (n, height, width), n at least 100, and return self.

        x: an array, or the one column of a table or a sample, whose name is stored and asked for in `score`; validation: images for early stopping, else 15 % of x by seed; exposure: images that are to be found anomalous, needed where the
        option `exposure` is not "none" and refused where it is; checkpoint: a file to resume a killed training from; progress: a bar on stderr, or a log line in 30 s. Raises ScorerError for options that mean nothing,
        TooFewRowsError, ShapeError, EmptyImageError, NegativePixelError, NotNormalisedError, DeviceError.
        """
        refuse_unused(x, self.uses, type(self).__name__, exposure=exposure)
        names, made = sample_names(x)
        images = self._images(single_jet(x, names), "x")
        if len(images) < MIN_IMAGES:
            raise TooFewRowsError(f"x: has {len(images)} images, at least {MIN_IMAGES} are needed")
        sizes = self._sizes(images.shape[1], images.shape[2])
        flat = images.reshape(len(images), -1)
        if validation is None:
            train, held = split_rows(flat, np.random.default_rng(self.seed))
        else:
            held_out = single_jet(validation, names, made=made, where="validation")
            other = self._images(held_out, "validation", shape=images.shape[1:])
            if not len(other):
                raise TooFewRowsError("validation: has 0 images, at least 1 is needed")
            train, held = flat, other.reshape(len(other), flat.shape[1])
        exposed = self._exposed_to(exposure, images, x, names=names, made=made)
        network = self._network(sizes)
        before = pretrained_scorer(self, agree=("blocks", "convolutions", "channels", "hidden", "latent"))
        if before is not None:
            fitted = require_fitted(before.network_, before)
            require_same_inputs(before, names, made)
            if fitted.sizes != sizes:
                raise ShapeError(f"pretrained: {self.pretrained}: was trained on {fitted.sizes}, x needs {sizes}")
            network.load_state_dict(fitted.state_dict())
        rows = [torch.from_numpy(part).float() for part in (train, held)]
        network.scale = 1 / max(average_image_error(network, rows[1], rows[0].mean(dim=0)), 1e-30)
        objective, streams = exposed_objective(
            Objective(network), exposed, lambda part: torch.from_numpy(part.reshape(len(part), -1)).float()
        )
        record = train_stack(
            objective,
            [rows[0]],
            [rows[1]],
            settings=self._settings(),
            seed=self.seed,
            device=resolve_device(self.device),
            streams=streams,
            identity={name: value for name, value in self.parameters().items() if name not in {"device", "threads"}},
            checkpoint=checkpoint,
            progress=progress,
        )
        record["validation_loss"] = [loss / network.scale for loss in record["validation_loss"]]
        self.training_ = {**record, "scale": network.scale, **asdict(sizes)} | (dict(exposed.record) if exposed else {})
        # scores are float64 on the CPU wherever the training ran
        self.network_ = network.to("cpu").double().requires_grad_(requires_grad=False)
        self.input_names, self.made_ = names, made
        return self

    def score(self, x: Events, *, metric: str | None = None) -> npt.NDArray[np.float64]:
        """Return (n,) scores, larger = more anomalous; metric: one of `metrics`. Errors as in `fit`."""
        metric = check_metric(metric, self.metrics, type(self).__name__)
        network = require_fitted(self.network_, self)
        images = self._images(
            single_jet(x, self.input_names, made=self.made_), "x", shape=(network.sizes.height, network.sizes.width)
        )
        return self._by_parts(images, lambda part: self._term(network, part, metric))

    def latent_means(self, x: Events) -> npt.NDArray[np.float64]:
        """Return the latent means (n, latent) of images; distances between them are the latent distances of the paper."""
        network = require_fitted(self.network_, self)
        images = self._images(
            single_jet(x, self.input_names, made=self.made_), "x", shape=(network.sizes.height, network.sizes.width)
        )
        means = self._by_parts(images, lambda part: network.encode(part)[0][0].numpy())
        return means.reshape(len(images), network.sizes.latent)

    def reconstruct(self, x: Events) -> npt.NDArray[np.float64]:
        """Return the reconstructions (n, height, width) of images at the latent mean; each sums to one."""
        network = require_fitted(self.network_, self)
        images = self._images(
            single_jet(x, self.input_names, made=self.made_), "x", shape=(network.sizes.height, network.sizes.width)
        )
        made = self._by_parts(images, lambda part: network.decode(network.encode(part)[0])[0].numpy())
        return made.reshape(images.shape)

    def decode(self, z: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the images (n, height, width) of latent points z (n, latent); none holds a negative pixel, each sums to one.

        Raises NotFittedError, ShapeError, NonFiniteError.
        """
        network = require_fitted(self.network_, self)
        points = as_latent(z, network.sizes.latent)
        made = self._by_parts(points[..., None], lambda part: network.decode(part)[0].numpy())
        return made.reshape(len(points), network.sizes.height, network.sizes.width)

    def sample(self, n: int, *, seed: int = 0) -> npt.NDArray[np.float64]:
        """Return n images (n, height, width) decoded from draws of the prior, float64, not negative, each with a sum of one, as in the training.

        An image is the decoder's output: the loss of the training states no noise around it, so that there is no p(x | z) to draw from.
        Where real jets have some tens of bright pixels it has their expectation. The same seed gives the same images. Raises
        NotFittedError, and ScorerError for an n that is no whole number from 1 on.
        """
        network = require_fitted(self.network_, self)
        return self.decode(prior_draws(n, network.sizes.latent, seed=seed))

    def save(self, path: str | Path) -> None:
        """Write the folder that `load_scorer` reads."""
        network = require_fitted(self.network_, self)
        save_scorer(
            path,
            self,
            parameters=self.parameters(),
            n_features=network.sizes.height * network.sizes.width,
            state={"height": network.sizes.height, "width": network.sizes.width},
            training=self.training_,
            tensors={name: p.detach() for name, p in network.named_parameters()},
        )

    @classmethod
    def from_stored(cls, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """Rebuild from what `save` wrote."""
        scorer = cls(**record["parameters"])
        sizes = scorer._sizes(int(record["state"]["height"]), int(record["state"]["width"]))
        found = len(tensors), sum(tensor.numel() for tensor in tensors.values())
        if found != sizes.size or record["n_features"] != sizes.height * sizes.width:
            wanted = f"{sizes.size[1]} numbers in {sizes.size[0]} arrays"
            raise ScorerError(f"{sizes} has {wanted}, the weights hold {found[1]} in {found[0]}")
        network = scorer._network(sizes).double().requires_grad_(requires_grad=False)
        network.load_state_dict(dict(tensors))
        scorer.network_ = network
        scorer.training_ = dict(record["training"])
        return scorer

    def check(self, shape: Sequence[int] = ()) -> None:
        """Raise ScorerError for options that mean nothing, ShapeError for images (height, width) that cannot be halved so often."""
        whole_number("blocks", self.blocks)
        named_device(self.device)
        self._settings()
        self.check_exposed()
        check_pretrained(self.pretrained)
        height, width = tuple(shape) or (2**LARGEST_BLOCKS, 2**LARGEST_BLOCKS)
        self._network(self._sizes(height, width))

    def _settings(self) -> TrainingSettings:
        """Return how long and how fast to train."""
        settings = TrainingSettings(
            max_epochs=self.max_epochs,
            patience=self.patience,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
        )
        return self.unhurried(settings)

    def _exposed_to(
        self, exposure: Events | None, images: Array, x: Events, *, names: tuple[str, ...], made: Mapping[str, Any]
    ) -> ExposedEvents | None:
        """Return the images that a training on images (n, height, width) of x is exposed to."""
        self.check_exposed()
        self.require_exposure(given=exposure is not None)
        if exposure is None:
            return None
        beside = self._images(
            single_jet(exposure, names, made=made, where="exposure"), "exposure", shape=images.shape[1:]
        )
        refuse_same_events(beside, x=images)
        observed = as_sample(exposure, names, where="exposure").observable
        values = matched_values(
            self.exposure_match,
            Sample(beside, observable=observed),
            Sample(images, observable=as_sample(x, names).observable),
        )
        return self.exposed_events(beside, values, column=self.exposure_match)

    def _sizes(self, height: int, width: int) -> ConvSizes:
        """Return the network's sizes, or say which option or image side does not fit."""
        for name in ("blocks", "convolutions", "channels", "hidden", "latent"):
            value = whole_number(name, getattr(self, name))
            most = LARGEST_BLOCKS if name == "blocks" else None
            if value < 1 or (most is not None and value > most):
                raise ScorerError(f"{name} is {value}, allowed: {f'1 to {most}' if most else '1 or more'}")
        step = 2**self.blocks
        if height % step or width % step:
            raise ShapeError(
                f"images of {height} x {width} pixels cannot be halved {self.blocks} times: "
                f"multiples of {step} are needed with blocks={self.blocks}"
            )
        return ConvSizes(height, width, self.blocks, self.convolutions, self.channels, self.hidden, self.latent)

    def _network(self, sizes: ConvSizes) -> StackedConvVae:
        """Return an untrained network, or say which option means nothing."""
        if self.reconstruction not in RECONSTRUCTIONS:
            raise ScorerError(unknown_name("reconstruction", self.reconstruction, RECONSTRUCTIONS, type(self).__name__))
        if not self.alpha > 0:
            raise ScorerError(f"alpha is {self.alpha}; the power of an error is above 0")
        if not 0 <= self.beta <= 1:
            raise ScorerError(
                f"beta is {self.beta}; allowed: 0 to 1, as the loss is (1 - beta) reconstruction + beta KL"
            )
        check_options(self.p, None, self.threads)
        check_pixel(self.pixel)
        return StackedConvVae(
            1,
            sizes,
            seed=self.seed,
            alpha=self.alpha,
            transport=self.p if self.reconstruction == "wasserstein" else None,
            blur=self.blur,
            pixel=self.pixel,
            beta=self.beta,
        )

    def _images(self, x: npt.ArrayLike, name: str, *, shape: tuple[int, ...] | None = None) -> Array:
        """Return images (n, height, width) that sum to one, or say what is wrong with them."""
        images = as_jets(x, name=name)
        if shape is not None and images.shape[1:] != shape:
            raise ShapeError(f"{name}: images of {images.shape[1:]} pixels, {shape} are expected")
        require_weights(images.reshape(len(images), images.shape[1] * images.shape[2]), name)
        sums = images.sum(axis=(1, 2))
        if self.normalise:
            return np.asarray(images / sums[:, None, None])
        require_unit(sums, name, "normalise=True divides by the sum")
        return images

    @torch.no_grad()
    def _by_parts(self, images: Array, term: Any) -> Array:
        """Return what `term` gives for images (1, b, height · width) in float64, a few at a time."""
        flat = torch.from_numpy(images.reshape(len(images), images.shape[1] * images.shape[2]))
        with few_threads(SCORE_THREADS):
            parts = [term(flat[None, i : i + SCORE_ROWS]) for i in range(0, len(flat), SCORE_ROWS)]
        return np.concatenate(parts) if parts else np.empty(0)

    def _term(self, network: StackedConvVae, x: torch.Tensor, metric: str) -> Array:
        """Return one metric (b,) of images x (1, b, height · width)."""
        mu, log_sigma = network.encode(x)
        if metric == "latent_radius":
            return np.asarray(mu[0].norm(dim=-1).numpy())
        kl = gaussian_kl(mu, log_sigma)[0]
        if metric == "kl":
            return np.asarray(kl.numpy())
        made = network.decode(mu)
        if metric in {"mse", "mae"}:
            return np.asarray(mean_power_error(x, made, 2.0 if metric == "mse" else 1.0)[0].numpy())
        if metric in {"wass1", "wass2"}:
            shape = (-1, network.sizes.height, network.sizes.width)
            pair = [clouds_from_images(of[0].view(shape).numpy(), pixel=self.pixel, normalise=True) for of in (x, made)]
            return wasserstein_rowwise(pair[0], pair[1], p=1.0 if metric == "wass1" else 2.0, threads=self.threads)
        error = network.reconstruction_error(x, made)[0]
        loss = error if metric == "reconstruction" else (1 - self.beta) * error + self.beta * kl
        return np.asarray(loss.numpy())


@torch.no_grad()
def average_image_error(network: StackedConvVae, images: torch.Tensor, average: torch.Tensor) -> float:
    """Return the mean reconstruction loss of images (n, k) if every reconstruction were the average image (k,)."""
    some = images[:1000]
    total = 0.0
    for first in range(0, len(some), SCORE_ROWS):
        part = some[None, first : first + SCORE_ROWS]
        total += float(network.reconstruction_error(part, average.expand_as(part)).sum())
    return total / len(some)
