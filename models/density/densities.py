"""m density models of one architecture over one scaling of the columns: fitted together, scored together.

ARCHITECTURES lists what can be stacked; any of them can be the axes of a QUAK space. Losses are −log p(x) in nats, or
a bound of it, of densities in the space of x, so that losses of two members can be subtracted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...errors import shown, unknown_name
from ..inputs import ScorerError, whole_number
from ..sample import split_rows
from ..train.exposed_events import ExposedEvents, exposed_objective
from ..train.loop import TrainingSettings, resolve_device, train_stack
from ..train.mass_penalty import MassPenalty, MassSample
from ..train.objective import Objective
from ..train.threads import few_threads
from .autoencoder import StackedVae, layer_widths
from .column_map import ColumnMap, dequantise, fit_column_map, map_columns, ranged
from .flows import FlowDensities, step_widths

__all__ = ["ARCHITECTURES", "Architecture", "DensityStack", "fit_densities", "fit_mapped", "to_mapped"]

Matrix = npt.NDArray[np.float64]

ARCHITECTURES = {
    "vae": "variational autoencoder",
    "flow_vae": "variational autoencoder whose posterior passes through masked autoregressive flows",
    "maf": "masked autoregressive flow, affine",
    "nsf": "masked autoregressive flow of rational-quadratic splines (needs zuko)",
}
"""Name -> what it is."""
LARGEST = {"latent": 4096, "hidden": 65_536, "steps": 1000}
"""Size of an architecture -> the largest allowed."""
MIN_SPREAD = 1e-2  # smallest spread of a sample along any direction, in the background's standard deviations
SCORE_ROWS = 4096  # rows a step of scoring: fixed, so that scores do not depend on how many rows come at once
SCORE_THREADS = 4  # never above the cores, nor above what the caller set torch to


@dataclass(frozen=True)
class Architecture:
    """One architecture and its sizes.

    name: of ARCHITECTURES; latent: dimensions of a VAE's latent space, None for min(d, 8); hidden: width of every
    layer; steps: of the flow; beta: weight of a VAE's KL term.
    """

    name: str = "vae"
    latent: int | None = None
    hidden: int = 64
    steps: int = 4
    beta: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in ARCHITECTURES:
            raise ScorerError(unknown_name("architecture", self.name, ARCHITECTURES))
        for key, most in LARGEST.items():
            value = getattr(self, key)
            if value is not None and not 1 <= whole_number(key, value) <= most:
                raise ScorerError(f"{key} is {shown(value)}, allowed: 1 to {most}")
        if not self.beta >= 0:
            raise ScorerError(f"beta is {self.beta!r}, allowed: 0 or more")

    def size(self, members: int, features: int) -> tuple[int, int]:
        """Return how many arrays the parameters of m models of d features are, and how many numbers they hold; makes none."""
        layers: list[tuple[int, tuple[int, int]]] = []
        inner, steps = features, self.steps
        if self.name in {"vae", "flow_vae"}:
            inner = self.latent or min(features, 8)
            steps = self.steps if self.name == "flow_vae" else 0
            layers = [(1, widths) for widths in layer_widths(features, inner, self.hidden)]
        transform = "spline" if self.name == "nsf" else "affine"
        layers += [(steps, widths) for widths in step_widths(inner, self.hidden, transform)]
        return 2 * sum(n for n, _ in layers), members * sum(n * (i + 1) * o for n, (i, o) in layers)

    def require_size(self, members: int, features: int, parameters: Mapping[str, torch.Tensor]) -> None:
        """Raise ScorerError where stored parameters are not as many as m models of d features have: nothing is made before."""
        found = len(parameters), sum(p.numel() for p in parameters.values())
        wanted = self.size(members, features)
        if members < 1 or features < 1 or found != wanted:
            raise ScorerError(
                f"{members} models of {features} columns with {asdict(self)} have {wanted[1]} numbers in {wanted[0]} arrays, the "
                f"weights hold {found[1]} in {found[0]}"
            )

    def build(self, members: int, features: int, *, seed: int) -> torch.nn.Module:
        """Return m untrained models of d features."""
        if self.name in {"vae", "flow_vae"}:
            latent = self.latent or min(features, 8)
            steps = self.steps if self.name == "flow_vae" else 0
            return StackedVae(members, features, latent, self.hidden, seed=seed, steps=steps, beta=self.beta)
        transform = "affine" if self.name == "maf" else "spline"
        return FlowDensities(members, features, steps=self.steps, hidden=self.hidden, transform=transform, seed=seed)


@dataclass(frozen=True)
class DensityStack:
    """m fitted density models over one column map.

    columns: the map, fitted on the first sample; centre (m, d), whiten (m, d, d): where each sample lies in mapped
    space and how it spreads, its log-determinant (m,) part of the loss, so that densities stay those of one space;
    network: in float64 on the CPU.
    """

    columns: ColumnMap
    centre: Matrix
    whiten: Matrix
    log_det: Matrix
    architecture: Architecture
    network: Any

    @torch.no_grad()
    def terms(self, x: Matrix) -> tuple[Matrix, Matrix]:
        """Return two terms (n, m) in nats whose sum is the loss, deterministic: a VAE's are taken at the latent mean.

        A VAE's are −log p(x | z) and beta·KL, a flow's −log N(z) and −log|dz/dx|; the log-Jacobian of the column map
        and each member's own scale are in a VAE's first, in a flow's second. x: (n, d) finite.
        """
        first, second = np.empty((len(x), len(self.centre))), np.empty((len(x), len(self.centre)))
        scale_term = first if self.architecture.name in {"vae", "flow_vae"} else second
        with few_threads(SCORE_THREADS):
            for part, rows, jacobian in self._chunks(x):
                for target, values in zip((first, second), self.network.terms(rows), strict=True):
                    target[part] = values.numpy().T
                scale_term[part] += jacobian
        return first, second

    @torch.no_grad()
    def importance_weighted(self, x: Matrix, samples: int, *, seed: int = 0) -> Matrix:
        """Return −log p(x) (n, m) of VAEs by importance sampling with this many draws, deterministic by seed."""
        if not isinstance(self.network, StackedVae):
            raise ScorerError(f"architecture {self.architecture.name!r} has an exact density; nothing to sample")
        latent = self.network.weights[3].shape[1]
        draws = torch.randn(samples, latent, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        found = np.empty((len(x), len(self.centre)))
        with few_threads(SCORE_THREADS):
            for part, rows, jacobian in self._chunks(x):
                found[part] = self.network.importance_weighted(rows, draws).numpy().T + jacobian
        return found

    @torch.no_grad()
    def latent_means(self, x: Matrix) -> Matrix:
        """Return the latent points (n, latent) that the first member, a VAE, has for rows x (n, d), without a draw."""
        found = [np.empty((0, self.network.weights[3].shape[1]))]
        with few_threads(SCORE_THREADS):
            for _, rows, _ in self._chunks(x):
                z, _ = self.network.posterior(rows, torch.zeros((), dtype=rows.dtype))
                found.append(z[0].numpy())
        return np.concatenate(found)

    @torch.no_grad()
    def log_density(self, member: int, mapped: Matrix) -> Matrix:
        """Return log p (n,) of one member at rows (n, d) of the mapped space, in float32: for searches, not for scores."""
        network = self.select([member]).network.float()
        found = np.empty(len(mapped))
        with few_threads(SCORE_THREADS):
            for first in range(0, len(mapped), SCORE_ROWS):
                part = slice(first, first + SCORE_ROWS)
                rows = (mapped[part] - self.centre[member]) @ self.whiten[member]
                first_term, second_term = network.terms(torch.from_numpy(rows).float()[None])
                found[part] = -(first_term + second_term)[0].double().numpy()
        return np.asarray(found + self.log_det[member])

    def select(self, members: Sequence[int]) -> DensityStack:
        """Return the stack of these members alone, with parameters of its own."""
        keep = list(members)
        network = self.architecture.build(len(keep), self.columns.n_columns, seed=0).double()
        with torch.no_grad():
            for new, old in zip(network.parameters(), self.network.parameters(), strict=True):
                new.copy_(old[keep])
        network.requires_grad_(requires_grad=False)
        return replace(
            self,
            centre=self.centre[keep],
            whiten=self.whiten[keep],
            log_det=self.log_det[keep],
            network=network,
        )

    def append(self, other: DensityStack) -> DensityStack:
        """Return the stack with the members of another of the same architecture and column map behind its own."""
        members = len(self.centre) + len(other.centre)
        network = self.architecture.build(members, self.columns.n_columns, seed=0).double()
        with torch.no_grad():
            for new, a, b in zip(
                network.parameters(), self.network.parameters(), other.network.parameters(), strict=True
            ):
                new.copy_(torch.cat([a, b]))
        network.requires_grad_(requires_grad=False)
        return replace(
            self,
            centre=np.concatenate([self.centre, other.centre]),
            whiten=np.concatenate([self.whiten, other.whiten]),
            log_det=np.concatenate([self.log_det, other.log_det]),
            network=network,
        )

    def _chunks(self, x: Matrix) -> Any:
        """Give (rows' slice, rows as each member sees them (m, b, d), what turns its density into one of x (b, m))."""
        for first in range(0, len(x), SCORE_ROWS):
            part = slice(first, first + SCORE_ROWS)
            mapped, log_jacobian = map_columns(self.columns, x[part])
            rows = torch.from_numpy(whitened(mapped, self.centre, self.whiten))
            yield part, rows, -self.log_det - log_jacobian[:, None]

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return everything fitted as named tensors."""
        arrays = {name: getattr(self.columns, name) for name in ColumnMap.__dataclass_fields__}
        arrays |= {"centre": self.centre, "whiten": self.whiten, "log_det": self.log_det}
        found = {f"density.{name}": torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}
        return found | {f"network.{name}": p.detach() for name, p in self.network.named_parameters()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor], architecture: Architecture) -> DensityStack:
        """Rebuild from `tensors()`; ScorerError, KeyError or RuntimeError where they do not fit, before anything large is made."""
        columns = ColumnMap(**{name: tensors[f"density.{name}"].numpy() for name in ColumnMap.__dataclass_fields__})
        centre, whiten, log_det = (tensors[f"density.{name}"].numpy() for name in ("centre", "whiten", "log_det"))
        parameters = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
        m, d = centre.shape
        shapes = {
            "whiten": (whiten, (m, d, d)),
            "log_det": (log_det, (m,)),
            "normal": (columns.normal, columns.knots.shape),
        }
        shapes |= {
            name: (getattr(columns, name), (d,)) for name in ("slope_below", "slope_above", "integer", "low", "high")
        }
        for name, (array, shape) in {**shapes, "knots": (columns.knots, (d, columns.knots.size // max(d, 1)))}.items():
            if array.shape != shape:
                raise ScorerError(f"{name} has the shape {array.shape}; {shape} is expected")
        architecture.require_size(m, d, parameters)
        network = architecture.build(*centre.shape, seed=0).double().requires_grad_(requires_grad=False)
        network.load_state_dict(parameters)
        return cls(columns, centre, whiten, log_det, architecture, network)


def whitened(mapped: Matrix, centre: Matrix, whiten: Matrix) -> Matrix:
    """Return mapped rows (n, d) as each member sees them (m, n, d)."""
    seen: Matrix = np.einsum("mnd,mde->mne", mapped[None] - centre[:, None], whiten)
    return seen


def fit_whitening(mapped: Matrix) -> tuple[Matrix, Matrix, float]:
    """Return centre (d,), whitening (d, d) and log|det| of one sample's mapped rows (n, d).

    A member's own coordinates, not its own scaling: the log-determinant enters the loss, so losses stay densities of
    the common space. Without it a prior that fills a corner of the background's range would have to be learned there.
    """
    centre = mapped.mean(axis=0)
    covariance = np.atleast_2d(np.cov(mapped, rowvar=False))
    variances, axes = np.linalg.eigh(covariance)
    spread = np.sqrt(np.maximum(variances, MIN_SPREAD**2))
    return centre, axes / spread, -float(np.log(spread).sum())


def fit_densities(
    samples: Sequence[Matrix],
    validation: Sequence[Matrix | None],
    *,
    architecture: Architecture,
    settings: TrainingSettings,
    seed: int,
    device: str,
    decorrelation: float = 0.0,
    mass: Matrix | None = None,
    validation_mass: Matrix | None = None,
    exposed: ExposedEvents | None = None,
    start: DensityStack | None = None,
    checkpoint: str | Path | None = None,
    keep_checkpoint: bool = False,
    progress: bool = False,
) -> tuple[DensityStack, dict[str, Any]]:
    """Fit one density model to each sample (n_k, d), the column map on the first; return them and the record.

    validation: rows for early stopping, or None to split them off. decorrelation: strength of the penalty on what
    the losses of the first sample's rows tell of their mass; mass: (n_0,) of them; validation_mass: of their validation
    rows where those are given. exposed: rows (k, d) that the members, which are VAEs, are exposed to. start: fitted
    models of the same architecture that the training starts from, with their column map and scales, as many as there are samples.
    """
    # A generator for each sample: a member's split does not depend on which others there are.
    rngs = [np.random.default_rng([seed, k]) for k in range(len(samples))]
    pairs = [
        split_rows(x, rng) if held is None else (x, held)
        for x, held, rng in zip(samples, validation, rngs, strict=True)
    ]
    own = pairs[0][0]
    columns = fit_column_map(own, rngs[0]) if start is None else ranged(start.columns, own)
    mapped = [
        (to_mapped(columns, train, rng), to_mapped(columns, held, rng))
        for (train, held), rng in zip(pairs, rngs, strict=True)
    ]
    penalty = None
    if decorrelation > 0 and mass is not None:
        # a generator of the same seed splits the masses as it did the rows
        apart = (
            split_rows(mass, np.random.default_rng([seed, 0])) if validation_mass is None else (mass, validation_mass)
        )
        penalty = MassSample(decorrelation, mapped[0], apart)
    if exposed is not None:
        rng = np.random.default_rng([seed, len(samples)])
        train, held = (to_mapped(columns, rows, rng) for rows in exposed.rows)
        exposed = replace(exposed, rows=(train, held))
    return fit_mapped(
        columns,
        mapped,
        architecture=architecture,
        settings=settings,
        seed=seed,
        device=device,
        penalty=penalty,
        exposed=exposed,
        start=start,
        checkpoint=checkpoint,
        keep_checkpoint=keep_checkpoint,
        progress=progress,
    )


def to_mapped(columns: ColumnMap, x: Matrix, rng: np.random.Generator) -> Matrix:
    """Return rows x (n, d) in the mapped space, whole numbers dequantised."""
    return map_columns(columns, dequantise(x, columns.integer, rng))[0]


def fit_mapped(
    columns: ColumnMap,
    pairs: Sequence[tuple[Matrix, Matrix]],
    *,
    architecture: Architecture,
    settings: TrainingSettings,
    seed: int,
    device: str,
    penalty: MassSample | None = None,
    exposed: ExposedEvents | None = None,
    start: DensityStack | None = None,
    checkpoint: str | Path | None = None,
    keep_checkpoint: bool = False,
    progress: bool = False,
) -> tuple[DensityStack, dict[str, Any]]:
    """Fit one density model to each pair of training and validation rows (n_k, d) of the mapped space.

    penalty: what they pay for where background events' losses depend on the mass. exposed: rows of the mapped space that the members are
    exposed to, all of them as the first one sees them. start: fitted models that they start from, with their scales.
    """
    target = resolve_device(device)
    if start is None:
        fits = [fit_whitening(train) for train, _ in pairs]
        centre, whiten, log_det = (np.stack([f[i] for f in fits]) for i in range(3))
    else:
        centre, whiten, log_det = start.centre, start.whiten, start.log_det
    own = [
        [torch.from_numpy((rows - c) @ w).float() for rows in pair]
        for pair, c, w in zip(pairs, centre, whiten, strict=True)
    ]
    network = architecture.build(len(pairs), columns.n_columns, seed=seed)
    if start is not None:
        network.load_state_dict(start.network.state_dict())
    objective, streams = exposed_objective(
        Objective(network), exposed, lambda rows: torch.from_numpy((rows - centre[0]) @ whiten[0]).float()
    )
    if penalty is not None:
        objective = MassPenalty(objective, strength=penalty.strength, centre=centre, whiten=whiten)
        streams["background"] = penalty.stream()
    record = train_stack(
        objective,
        [train for train, _ in own],
        [held for _, held in own],
        settings=settings,
        seed=seed,
        device=target,
        streams=streams,
        identity={
            **asdict(architecture),
            "decorrelation": 0.0 if penalty is None else penalty.strength,
            "exposure": None if exposed is None else [exposed.kind, exposed.strength, exposed.margin],
        },
        checkpoint=checkpoint,
        keep_checkpoint=keep_checkpoint,
        progress=progress,
    )
    # Scores are float64 on the CPU wherever the training ran: the same on every machine, whatever comes in one batch.
    network.to("cpu").double().requires_grad_(requires_grad=False)
    record |= asdict(architecture) | ({} if exposed is None else dict(exposed.record))
    return DensityStack(columns, centre, whiten, log_det, architecture, network), record
