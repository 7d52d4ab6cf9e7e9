"""Markov chains that draw from exp(−E(x) / T): Langevin steps with or without a Metropolis correction, in space and on the unit sphere.

A step goes from x to y = x + v with v = −λ ∇E(x) + σ ξ, ξ a normal draw. On the sphere ∇E and ξ are those of the tangent plane, and y is the
end of the great circle of length |v| that leaves x along v, so that |y| = 1. The samplers:

"langevin": every step is taken. For small steps the density is that of T = σ² / (2λ); on E = x²/2 the variance is σ² / (2λ − λ²).
"mala": y is accepted with probability min(1, exp(−[E(y) − E(x)] / T) q(x|y) / q(y|x)) (Roberts and Tweedie, Bernoulli 2 (1996) 341), where q is the
density of the step as it is taken, with its clipped gradient and its own λ and σ, whatever T is: the stationary density is exact. The
density of a step on the sphere has a Jacobian, which depends on |v| alone and cancels. A step out of the domain is never accepted.
"released": the step of the code that arXiv:2206.14225 released, for comparison. λ and σ are independent of each other, y is clipped to the domain or
divided by its length, T = 1, and the ratio of the proposals is that of σ² = 2λ whatever σ is. Where σ² is not 2λ, or a bound or the sphere is met,
the density that it draws from is exp(−E / T) for no T.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...errors import shown, unknown_name
from ..inputs import ScorerError, whole_number

__all__ = ["SAMPLERS", "Chain", "ChainError", "Langevin", "energy_gradient", "on_sphere", "run_chain", "sample_chain"]

SAMPLERS = ("mala", "langevin", "released")
MAX_STEPS = 100_000
TINY = 1e-12  # of a length that is divided by
OFF_SPHERE = 1e-3  # of a start's length from 1

Energy = Callable[[torch.Tensor], torch.Tensor]
"""Points (m, b, d) -> energies (m, b), differentiable."""
Bounds = tuple[float | torch.Tensor, float | torch.Tensor]
"""Lowest and highest value of a coordinate, of all or of each, which points (m, b, d) can be compared with."""


class ChainError(ScorerError):
    """A chain that cannot start, or that met an energy which is not finite."""


@dataclass(frozen=True)
class Langevin:
    """How a chain moves.

    steps: how many; step: λ above; noise: σ of the noise in each coordinate; sampler: one of SAMPLERS; clip: the longest gradient, longer ones are
    shortened to it, none for no bound; anneal: whether the noise of step t is σ / (1 + t), counted from 0; temperature: T of "mala", none for
    σ² / (2λ), which the two other samplers imply. Raises ScorerError for what means nothing.
    """

    steps: int
    step: float
    noise: float
    sampler: str = "mala"
    clip: float | None = None
    anneal: bool = False
    temperature: float | None = None

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ScorerError(unknown_name("sampler", self.sampler, SAMPLERS))
        if not 0 <= whole_number("steps", self.steps) <= MAX_STEPS:
            raise ScorerError(f"steps is {shown(self.steps)}, allowed: 0 to {MAX_STEPS}")
        for name in ("step", "noise", "clip", "temperature"):
            value = getattr(self, name)
            if value is None and name in {"clip", "temperature"}:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ScorerError(f"{name} is {shown(value)}, allowed: a finite number above 0")
        if self.temperature is not None and self.sampler != "mala":
            raise ScorerError(
                f"temperature is {self.temperature}, which the sampler {self.sampler!r} does not take: its own follows from step and noise, "
                "noise² / (2 step); allowed: 'mala', or none"
            )

    @property
    def effective_temperature(self) -> float:
        """T of the density that is drawn from: the one given, else σ² / (2λ)."""
        return self.noise**2 / (2 * self.step) if self.temperature is None else self.temperature


@dataclass(frozen=True)
class Chain:
    """Where chains ended: points (m, b, d), their energies (m, b), the part of the steps that was accepted (m,), and the distance of each
    from its start (m, b), on the sphere the angle."""

    points: torch.Tensor
    energies: torch.Tensor
    accepted: torch.Tensor
    displacement: torch.Tensor


def energy_gradient(energy: Energy, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the energies (m, b) of points x (m, b, d) and their gradients (m, b, d), without a graph."""
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        values = energy(at)
        (gradient,) = torch.autograd.grad(values.sum(), at)
    return values.detach(), gradient


def on_sphere(x: torch.Tensor) -> torch.Tensor:
    """Return points (..., d) divided by their lengths."""
    length: torch.Tensor = x.norm(dim=-1, keepdim=True)
    return x / length.clamp(min=TINY)


@torch.no_grad()
def run_chain(
    energy: Energy,
    start: torch.Tensor,
    settings: Langevin,
    *,
    generator: torch.Generator,
    sphere: bool = False,
    domain: Bounds | None = None,
    mask: torch.Tensor | None = None,
    scale: torch.Tensor | None = None,
) -> Chain:
    """Run a chain from each point of start (m, b, d), and return where they end. Nothing in here waits for the device or checks a number.

    sphere: whether points have length 1; domain: lowest and highest value of a coordinate, of all or of each; mask: (m, b, d), 1 where a coordinate moves, 0 where it
    stays; scale: (m,) what the noise is multiplied by, and the step by its square, so that the temperature stays. A proposal whose energy is not finite is not accepted by "mala", and taken by the other samplers.
    """
    x = start
    value, gradient = energy_gradient(energy, x)
    size = torch.ones((1, 1, 1), device=x.device, dtype=x.dtype) if scale is None else scale[:, None, None]
    step = settings.step * size.square()
    accepted = torch.zeros(x.shape[0], device=x.device)
    for number in range(settings.steps):
        sigma = size * (settings.noise / (1 + number) if settings.anneal else settings.noise)
        draw = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        chance = torch.rand(x.shape[:2], generator=generator, device=x.device, dtype=x.dtype)
        if mask is not None:
            draw, gradient = draw * mask, gradient * mask
        y, log_ratio, new_value, new_gradient = proposed(
            energy, x, value, gradient, draw, settings, step, sigma, sphere=sphere, domain=domain, mask=mask
        )
        # a ratio that is no number compares as false
        taken = torch.log(chance) < log_ratio
        accepted += taken.to(accepted.dtype).mean(dim=1)
        x = torch.where(taken[..., None], y, x)
        value = torch.where(taken, new_value, value)
        gradient = torch.where(taken[..., None], new_gradient, gradient)
    moved = (x - start).norm(dim=-1)
    if sphere:  # the angle of a chord
        moved = 2 * torch.asin((moved / 2).clamp(max=1.0))
    return Chain(x, value, accepted / max(settings.steps, 1), moved)


def proposed(
    energy: Energy,
    x: torch.Tensor,
    value: torch.Tensor,
    gradient: torch.Tensor,
    draw: torch.Tensor,
    settings: Langevin,
    step: torch.Tensor,
    sigma: torch.Tensor,
    *,
    sphere: bool,
    domain: Bounds | None,
    mask: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a proposal y (m, b, d), the log of its ratio of acceptance (m, b), its energy and its gradient."""
    drift = -step * clipped(gradient, settings.clip)
    geodesic = sphere and settings.sampler != "released"
    if geodesic:
        drift, draw = tangent(x, drift), tangent(x, draw)
    forward = drift + sigma * draw
    if geodesic:
        y, back, length = along_circle(x, forward)
    else:
        y, back, length = x + forward, -forward, None
    inside = None
    if domain is not None:
        if settings.sampler == "mala":
            inside = ((y >= domain[0]) & (y <= domain[1])).all(dim=-1)
        else:
            low, high = (torch.as_tensor(bound, device=y.device, dtype=y.dtype) for bound in domain)
            y = y.clamp(low, high)
    if sphere and not geodesic:
        y = on_sphere(y)
    new_value, new_gradient = energy_gradient(energy, y)
    if settings.sampler == "mala":  # an energy of -inf would be taken at once
        there = torch.isfinite(new_value)
        inside = there if inside is None else inside & there
    if settings.sampler == "langevin":
        return y, torch.full_like(value, math.inf), new_value, new_gradient
    masked = new_gradient if mask is None else new_gradient * mask
    if settings.sampler == "released":
        ahead = (sigma * draw).square().sum(dim=-1)
        behind = (-drift + step * clipped(masked, settings.clip) - sigma * draw).square().sum(dim=-1)
        return y, value - new_value - (behind - ahead) / (4 * step[..., 0]), new_value, new_gradient
    returning = -step * clipped(masked, settings.clip)
    if geodesic:
        returning = tangent(y, returning)
    # over the variance first: 1e-8 of energies of 1e-6 would leave no digits
    change = draw.square().sum(dim=-1) - ((back - returning) / sigma).square().sum(dim=-1)
    log_ratio = (value - new_value) / settings.effective_temperature + 0.5 * change
    if inside is not None:
        log_ratio = torch.where(inside, log_ratio, -math.inf)
    if length is not None:  # beyond half the circle another step leads there too
        log_ratio = torch.where(length < math.pi, log_ratio, -math.inf)
    return y, log_ratio, new_value, new_gradient


def clipped(gradient: torch.Tensor, bound: float | None) -> torch.Tensor:
    """Return gradients (..., d) no longer than the bound."""
    if bound is None:
        return gradient
    length: torch.Tensor = gradient.norm(dim=-1, keepdim=True)
    return gradient * (bound / length.clamp(min=bound))


def tangent(x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return the part of v (..., d) that is normal to x (..., d) of length 1."""
    return v - (v * x).sum(dim=-1, keepdim=True) * x


def along_circle(x: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the end y of the great circle of length |v| from x along v, the vector at y that leads back, and |v| (...)."""
    length = v.norm(dim=-1, keepdim=True)
    unit = v / length.clamp(min=TINY)
    cosine, sine = torch.cos(length), torch.sin(length)
    y = on_sphere(x * cosine + unit * sine)
    return y, length * (x * sine - unit * cosine), length[..., 0]


def sample_chain(
    energy: Energy,
    start: torch.Tensor,
    settings: Langevin,
    *,
    seed: int = 0,
    sphere: bool = False,
    domain: Bounds | None = None,
) -> Chain:
    """Run chains as `run_chain` from start (m, b, d), or (b, d) for one energy, after looking at the start and before giving the end back.

    Raises ChainError for starts that are not finite, outside the domain or not on the sphere, for a domain that holds nothing, and for energies that
    are not one a point, have no gradient, or are not finite at the start or at the end, with how many and the first.
    """
    points = start[None] if start.dim() == 2 else start
    if points.dim() != 3 or not points.numel():
        raise ChainError(f"start: has shape {tuple(start.shape)}, points (b, d) or (m, b, d) are needed, at least one")
    if not points.is_floating_point():
        raise ChainError(f"start: holds {str(points.dtype)[6:]} numbers, floating point ones are needed")
    refuse(~torch.isfinite(points).all(dim=-1), "start", "is not finite")
    if domain is not None:
        refuse_domain(domain, points)
        outside = ((points < domain[0]) | (points > domain[1])).any(dim=-1)
        refuse(outside, "start", "lies outside the domain")
    if sphere:
        refuse((points.norm(dim=-1) - 1).abs() > OFF_SPHERE, "start", "is not on the unit sphere")
    with torch.enable_grad():
        values = energy(points.detach().requires_grad_())
    if not values.requires_grad:
        raise ChainError("energy: has no gradient; it has to be computed by torch from the points that it is given")
    values = values.detach()
    if values.shape != points.shape[:2]:
        raise ChainError(f"energy: gives {tuple(values.shape)} for points {tuple(points.shape)}, one a point is needed")
    refuse(~torch.isfinite(values), "energy", "is not finite at the start")
    generator = torch.Generator(device=points.device).manual_seed(seed)
    chain = run_chain(energy, points, settings, generator=generator, sphere=sphere, domain=domain)
    ended = torch.isfinite(chain.energies) & torch.isfinite(chain.points).all(dim=-1)
    refuse(
        ~ended, "energy", f"is not finite after {settings.steps} steps; a smaller step than {settings.step:g} is needed"
    )
    return chain


def refuse_domain(domain: Bounds, points: torch.Tensor) -> None:
    """Raise ChainError for a domain that holds nothing, or whose bounds do not fit points (m, b, d)."""
    low, high = (torch.as_tensor(bound, device=points.device) for bound in domain)
    for bound in (low, high):
        if bound.dim() > 3 or any(
            n not in {1, own} for n, own in zip(bound.shape[::-1], points.shape[::-1], strict=False)
        ):
            raise ChainError(f"domain: bounds of {tuple(bound.shape)}, a number or {points.shape[-1]} are needed")
    held = low < high
    if not held.all():
        first = int(torch.nonzero(~held.flatten())[0])
        lowest, highest = (float(bound.expand(held.shape).flatten()[first]) for bound in (low, high))
        raise ChainError(
            f"domain: the lowest value is {lowest} and the highest {highest}, a lower and a higher one are needed"
        )


def refuse(bad: torch.Tensor, what: str, told: str) -> None:
    """Raise ChainError where a mask (m, b) of chains is not empty."""
    number = int(bad.sum())
    if number:
        first = int(torch.nonzero(bad.flatten())[0])
        raise ChainError(f"{what}: {told} for {number} of {bad.numel()} chains, the first is number {first}")
