"""The training of a normalised autoencoder (arXiv:2105.05735): energies of data go down, those of what the model itself draws go up.

    ∇ (−log p) = E_data[∇E] / T − E_model[∇E] / T   as   p(x) = exp(−E(x) / T) / Ω,   ∇ log Ω = −E_model[∇E] / T

Energies are in units of E0, the mean energy of the held-out data after the first phase, the training as an autoencoder, so that one setting serves rows,
images and sets. The expectation over the model is one over chains that start on the manifold of the decoder g: a chain on the sphere with the energy
H(z) = E(g(z)), which goes on from update to update in a replay buffer and is restarted now and then, then a chain of x from g(z), whose coordinates are in
units of √E0, the spread of what the autoencoder leaves over. Its step is a part of that: with a step h, λ = h d / 2 and the decoder held fixed,
one step takes the part h of x − g(z) away. At the temperature T = 2 / d a normal spread around the manifold has the energy of the data.

A short chain of x from g(z) does not go from mode to mode: how many are drawn of each is then what the chain on the sphere tells, where a volume is
another one. Chains of x may therefore go on from update to update in a buffer as well, and start from g(z) anew now and then.

A loss of γ E(x−)² beside bounds the energies of what is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..train.objective import Batch, Objective
from .langevin import Chain, Langevin, on_sphere, run_chain
from .networks import SphereAutoencoder, Weights

__all__ = ["AutoencoderObjective", "Negatives", "NormalisedObjective", "drawn_around", "latent_chain", "wasserstein_to"]

COMPARED = 512  # negatives of an epoch, and data, between which the distance is taken
SMOOTHED = 0.3  # part of the newest epoch in the mean distance that chooses the best one
FRAMES, SHOWN = 6, 16  # times along the training at which negatives are kept, and how many
ADAPT, TARGET, SMALLEST = (
    0.1,
    0.574,
    1e-3,
)  # of the steps' scale: rate, acceptance aimed at (Roberts and Rosenthal 1998), lowest
FLOOR = 1e-3  # of the distance of data and data, in units of their spread: events may all be the same
BLUR, ROUNDS, SMALLEST_UNIT = 0.02, 300, 1e-290  # of the Wasserstein distance
DIVERGED = 20.0  # mean energy of data, in units of that of the autoencoder or of a normal spread at the temperature, beyond which nothing is learned any more


@dataclass(frozen=True)
class Negatives:
    """How negatives are drawn, and what they cost.

    latent, inputs: of the two chains; replay: latent chains in the buffer of each member; restart: the part of those that are taken that starts anew;
    gamma: of the squared energies of negatives; adapt: whether steps are shortened while too few are accepted, and lengthened again up to those given;
    go_on: whether chains of x go on from update to update, too, and start from the decoder only where their chain on the sphere starts anew.
    """

    latent: Langevin
    inputs: Langevin
    replay: int
    restart: float
    gamma: float
    adapt: bool = True
    go_on: bool = False


class AutoencoderObjective(Objective):
    """The first phase: the energy of the data alone. scale: of the loss, since Adam ignores gradients below its 1e-8."""

    def __init__(self, model: SphereAutoencoder, *, scale: float) -> None:
        super().__init__(model)
        self.network, self.scale = model, scale

    def losses(self, batch: Batch, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        """Return the scaled energies (m, b); batch["x"]: (m, b, d), or (m, b, 2, d) with masks."""
        del generator, progress
        x, mask = unpacked(batch["x"])
        return self.scale * self.network.energy(x, self.network.weights(), mask)

    def after_step(self) -> None:
        """Follow the largest singular values."""
        self.network.power_step()


class NormalisedObjective(Objective):
    """The second phase.

    units: E0 of each member (m,); reference: held-out inputs, as batch["x"] has them, (m, n, ...), with which negatives are compared; domain: lowest and highest value of
    each coordinate, (d,) each, or none.
    """

    select = "wasserstein_mean"
    rolls_back = True

    def __init__(
        self,
        model: SphereAutoencoder,
        settings: Negatives,
        *,
        units: torch.Tensor,
        reference: torch.Tensor,
        seed: int,
        domain: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> None:
        super().__init__(model)
        self.network, self.settings, self.units = model, settings, units
        self.domain = domain
        m, sizes = model.members, model.sizes
        generator = torch.Generator().manual_seed(seed)
        chains = on_sphere(torch.randn((m, settings.replay, sizes.latent), generator=generator))
        self.buffers = {
            "replay": chains,
            "scales": torch.ones((m, 2)),
            "distance": torch.full((m, 1), math.nan),
            "frames": torch.full((m, FRAMES, SHOWN, sizes.numbers), math.nan),
        }
        if settings.go_on:
            with torch.no_grad():
                self.buffers["points"] = model.decode(chains.to(model.raw[0]), model.weights()).cpu()
        held, self.held_mask = unpacked(reference[:, : 2 * COMPARED])
        if self.held_mask is not None:
            held = held * self.held_mask
        self.held = held
        half = held.shape[1] // 2
        self.floor = torch.tensor([wasserstein_to(own[:half], own[half : 2 * half]) for own in held]).clamp(min=FLOOR)
        self.sums: dict[str, torch.Tensor] = {}
        self.count = 0
        self.recent: list[torch.Tensor] = []

    def losses(self, batch: Batch, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        """Return E(x+) − E(x−) + γ E(x−)² (m, b), each negative beside a row of the data, in units of E0."""
        x, mask = unpacked(batch["x"])
        network, units = self.network, self.units.to(x.device)[:, None]
        weights = network.weights()
        positive = network.energy(x, weights, mask) / units
        drawn = self.negatives([w.detach() for w in weights], mask, x.shape[1], generator=generator)
        negative = network.energy(drawn, weights, mask) / units
        self.note({"positive": positive.detach().mean(dim=1), "negative": negative.detach().mean(dim=1)})
        self.keep_some(drawn, progress)
        return positive - negative + self.settings.gamma * negative.square()

    def validation_losses(self, batch: Batch, *, generator: torch.Generator) -> torch.Tensor:
        """Return the energies (m, b) of held-out data in units of E0."""
        del generator
        x, mask = unpacked(batch["x"])
        return self.network.energy(x, self.network.weights(), mask) / self.units.to(x.device)[:, None]

    def negatives(
        self, weights: Weights, mask: torch.Tensor | None, count: int, *, generator: torch.Generator
    ) -> torch.Tensor:
        """Return what the model draws (m, count, d); chains of the replay buffer go on."""
        network, settings = self.network, self.settings
        replay = self.buffers["replay"]
        device = replay.device
        units = self.units.to(device)[:, None]
        chosen = torch.randperm(replay.shape[1], generator=generator, device=device)[:count]
        z = replay[:, chosen]
        fresh = on_sphere(torch.randn(z.shape, generator=generator, device=device))
        anew = torch.rand(z.shape[:2], generator=generator, device=device) < settings.restart
        z = torch.where(anew[..., None], fresh, z)

        scales = self.buffers["scales"]
        latent = latent_chain(
            network, weights, z, settings.latent, units, generator=generator, mask=mask, scale=scales[:, 0]
        )
        replay = replay.clone()
        replay[:, chosen] = latent.points
        self.buffers["replay"] = replay
        x, accepted, moved = drawn_around(
            network,
            weights,
            latent.points,
            settings.inputs,
            units,
            generator=generator,
            mask=mask,
            domain=self.domain,
            scale=scales[:, 1],
            going_on=(self.buffers["points"][:, chosen], ~anew) if settings.go_on else None,
        )
        if settings.go_on:
            points = self.buffers["points"].clone()
            points[:, chosen] = x
            self.buffers["points"] = points
        if settings.adapt:
            away = torch.stack([latent.accepted, accepted], dim=1) - TARGET
            self.buffers["scales"] = (scales * torch.exp(ADAPT * away)).clamp(SMALLEST, 1.0)
        self.note(
            {
                "latent_acceptance": latent.accepted,
                "latent_displacement": latent.displacement.mean(dim=1),
                "input_acceptance": accepted,
                "input_displacement": moved,
            }
        )
        return x

    def note(self, figures: Mapping[str, torch.Tensor]) -> None:
        """Add figures (m,) of an update to those of the epoch."""
        for name, value in figures.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.count += "positive" in figures

    def keep_some(self, drawn: torch.Tensor, progress: float) -> None:
        """Keep the last negatives (m, b, d) of the epoch, and some of those along the training."""
        few = drawn[:, :SHOWN]
        self.buffers["frames"][:, min(int(progress * FRAMES), FRAMES - 1), : few.shape[1]] = few
        self.recent.append(drawn)
        while sum(part.shape[1] for part in self.recent[1:]) >= COMPARED:
            self.recent.pop(0)

    def monitor(self) -> dict[str, torch.Tensor]:
        """Return the means over the epoch: energies in units of E0 and their gap, acceptances, displacements (of z an angle, of x in units of √E0 a
        coordinate), and the Wasserstein distance of negatives and data in units of that between data and data."""
        found = {name: value / max(self.count, 1) for name, value in self.sums.items()}
        drawn = torch.cat(self.recent, dim=1)[:, -COMPARED:].cpu()
        found["gap"] = found["positive"] - found["negative"]
        size = min(drawn.shape[1], self.held.shape[1] // 2)
        distances = [wasserstein_to(own[:size], held[:size]) for own, held in zip(drawn, self.held, strict=True)]
        found["wasserstein"] = (torch.tensor(distances) / self.floor).to(found["positive"].device)
        before = self.buffers["distance"][:, 0].to(found["wasserstein"])
        step = torch.where(torch.isnan(before), 1.0, SMOOTHED) * (found["wasserstein"] - torch.nan_to_num(before))
        found["wasserstein_mean"] = torch.nan_to_num(before) + step
        self.buffers["distance"] = found["wasserstein_mean"][:, None]
        self.sums, self.count, self.recent = {}, 0, []
        return found

    def diverged(self, figures: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Tell which members (m,) have lost the data, or themselves: an energy that is not finite, or far above that of the autoencoder."""
        positive, negative = figures["positive"], figures["negative"]
        warm = 0.5 * self.settings.inputs.effective_temperature * self.network.sizes.numbers
        return (
            ~(positive < DIVERGED * max(warm, 1.0))
            | ~torch.isfinite(negative)
            | ~torch.isfinite(figures["wasserstein"])
        )

    def after_step(self) -> None:
        """Follow the largest singular values."""
        self.network.power_step()

    def to(self, device: torch.device) -> None:
        """Bring network and chains to a device."""
        super().to(device)
        self.buffers = {name: value.to(device) for name, value in self.buffers.items()}

    def state(self) -> dict[str, torch.Tensor]:
        """Return singular vectors, replay buffer, and the negatives that were kept."""
        return super().state() | self.buffers

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put back what `state` gave."""
        own = {name: state[name] for name in self.buffers}
        super().load_state({name: value for name, value in state.items() if name not in own})
        self.buffers = {name: value.to(self.buffers[name].device).clone() for name, value in own.items()}

    def keep(self, members: torch.Tensor) -> None:
        """Leave only these members (a,)."""
        super().keep(members)
        self.buffers = {name: value[members.to(value.device)] for name, value in self.buffers.items()}
        self.units, self.held, self.floor = (
            self.units[members.cpu()],
            self.held[members.cpu()],
            self.floor[members.cpu()],
        )


def latent_chain(
    network: SphereAutoencoder,
    weights: Weights,
    z: torch.Tensor,
    settings: Langevin,
    units: torch.Tensor,
    *,
    generator: torch.Generator,
    mask: torch.Tensor | None = None,
    scale: torch.Tensor | None = None,
) -> Chain:
    """Run the chain on the sphere from z (m, b, latent), with the energy of what the decoder makes of a point, in units of E0 (m, 1)."""

    def on_manifold(points: torch.Tensor) -> torch.Tensor:
        made = network.decode(points, weights)
        return network.energy(made if mask is None else made * mask, weights, mask) / units

    return run_chain(on_manifold, z, settings, generator=generator, sphere=True, scale=scale)


def drawn_around(
    network: SphereAutoencoder,
    weights: Weights,
    z: torch.Tensor,
    settings: Langevin,
    units: torch.Tensor,
    *,
    generator: torch.Generator,
    mask: torch.Tensor | None = None,
    domain: tuple[torch.Tensor, torch.Tensor] | None = None,
    scale: torch.Tensor | None = None,
    going_on: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run the chain of x from the decoder's output at z (m, b, latent): points (m, b, d), acceptance (m,), root mean square move of a coordinate (m,).

    units: E0 (m, 1); the move is in units of √E0; going_on: points (m, b, d) where chains ended before, and which of them (m, b) start there instead.
    """
    length = units.sqrt()[..., None]
    with torch.no_grad():
        start = network.decode(z, weights)
    if going_on is not None:
        start = torch.where(going_on[1][..., None], going_on[0], start)
    low = high = None
    if domain is not None:
        low, high = (bound.to(start.device) for bound in domain)
        start = start.clamp(low, high)
    start = start / length if mask is None else start * mask / length
    bounds = None if low is None or high is None else (low / length, high / length)
    chain = run_chain(
        lambda u: network.energy(u * length, weights, mask) / units,
        start,
        settings,
        generator=generator,
        domain=bounds,
        mask=mask,
        scale=scale,
    )
    moved = (chain.displacement.square().mean(dim=1) / start.shape[-1]).sqrt()
    return chain.points * length, chain.accepted, moved


def unpacked(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return inputs (m, b, d) and their masks, none for inputs that have none; x: (m, b, d), or (m, b, 2, d)."""
    return (x, None) if x.dim() == 3 else (x[:, :, 0], x[:, :, 1])


def wasserstein_to(drawn: torch.Tensor, data: torch.Tensor) -> float:
    """Return the Wasserstein distance between n points and n others, (n, d) each, in their unit; infinite where a point is not finite.

    It is the mean length that the plan of Sinkhorn's iteration (arXiv:1306.0895) moves, at a regularisation of BLUR of the mean distance and rounded
    to a plan that leaves nothing behind (arXiv:1705.09634, algorithm 2): an upper bound, the same for every sample it is compared with.
    """
    if not (torch.isfinite(drawn).all() and torch.isfinite(data).all()):
        return math.inf
    costs = torch.cdist(drawn.double(), data.double(), compute_mode="donot_use_mm_for_euclid_dist")
    kernel = torch.exp(
        -(costs - costs.min(dim=1, keepdim=True).values) / (BLUR * costs.mean()).clamp(min=SMALLEST_UNIT)
    )
    part = torch.full((len(costs),), 1 / len(costs), dtype=torch.float64, device=costs.device)
    other = torch.full_like(part, 1.0)
    for _ in range(ROUNDS):
        own = part / (kernel @ other)
        other = part / (own @ kernel).clamp(min=SMALLEST_UNIT)
    plan = own[:, None] * kernel * other
    plan = plan * (part / plan.sum(dim=1).clamp(min=SMALLEST_UNIT)).clamp(max=1.0)[:, None]
    plan = plan * (part / plan.sum(dim=0).clamp(min=SMALLEST_UNIT)).clamp(max=1.0)
    # a point far from all others has nothing to give or to get in the kernel
    left, missing = part - plan.sum(dim=1), part - plan.sum(dim=0)
    plan = plan + left[:, None] * missing / left.sum().clamp(min=SMALLEST_UNIT)
    return float((plan * costs).sum())
