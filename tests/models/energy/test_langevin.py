"""Chains against densities that are known: variances, histograms, directions on the sphere, and detailed balance of one step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from hunch.models.energy.langevin import (
    MAX_STEPS,
    Bounds,
    ChainError,
    Energy,
    Langevin,
    energy_gradient,
    on_sphere,
    proposed,
    run_chain,
    sample_chain,
)
from hunch.models.inputs import ScorerError

CHAINS = 4000
LEAST_P = 1e-3  # of a test of goodness of fit, whose random numbers are fixed


def harmonic(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x.square().sum(dim=-1)


def ends(energy: Energy, start: torch.Tensor, settings: Langevin, **options: Any) -> torch.Tensor:
    """Return where chains (m, b, d) end."""
    return run_chain(energy, start, settings, generator=torch.Generator().manual_seed(3), **options).points


def starts(*shape: int, at: float = 0.7) -> torch.Tensor:
    """Return m × b points that all are the same, far from any stationary density."""
    return torch.full(shape, at, dtype=torch.float64)


def agrees(x: torch.Tensor, variance: float) -> None:
    """Compare numbers with a normal density around 0."""
    found = stats.kstest(x.flatten().numpy(), stats.norm(scale=math.sqrt(variance)).cdf)
    assert found.pvalue > LEAST_P, (float(x.var()), variance)


@pytest.mark.parametrize(("step", "noise"), [(0.1, 0.3), (0.5, 1.0), (1.5, 0.6)])
def test_unadjusted_chains_have_the_variance_of_their_recursion(step: float, noise: float) -> None:
    found = ends(harmonic, starts(1, CHAINS, 2), Langevin(80, step, noise, sampler="langevin"))
    agrees(found, noise**2 / (2 * step - step**2))


MALA = {
    "small steps": {"step": 0.1, "noise": 0.5, "steps": 80},
    "large steps": {"step": 1.0, "noise": 1.6, "steps": 80},
    "colder than the noise tells": {"step": 0.2, "noise": 0.9, "temperature": 0.4, "steps": 80},
    "hotter than the noise tells": {"step": 0.6, "noise": 0.8, "temperature": 2.5, "steps": 80},
    "clipped": {"step": 0.5, "noise": 1.0, "clip": 0.3, "steps": 80},
    "annealed": {"step": 0.4, "noise": 1.2, "anneal": True, "steps": 10},
}


@pytest.mark.parametrize("name", MALA)
def test_corrected_chains_are_exact_whatever_their_steps(name: str) -> None:
    settings = Langevin(**MALA[name])  # type: ignore[arg-type]
    temperature = MALA[name].get("temperature", settings.noise**2 / (2 * settings.step))
    assert settings.effective_temperature == temperature
    start = starts(1, CHAINS, 2)
    if settings.anneal:  # steps that become small keep a density, and are slow to reach one
        drawn = torch.randn(start.shape, generator=torch.Generator().manual_seed(4), dtype=start.dtype)
        start = math.sqrt(temperature) * drawn
    chain = run_chain(harmonic, start, settings, generator=torch.Generator().manual_seed(3))
    assert 0.05 < float(chain.accepted) < 0.99
    agrees(chain.points, temperature)
    assert torch.equal(chain.energies, harmonic(chain.points))


def test_the_scale_of_the_steps_leaves_the_temperature_of_each_member() -> None:
    scale = torch.tensor([1.0, 0.3], dtype=torch.float64)
    mala = ends(harmonic, starts(2, CHAINS, 1), Langevin(300, 0.4, 0.9), scale=scale)
    for own in mala:
        agrees(own, 0.9**2 / 0.8)
    unadjusted = ends(harmonic, starts(2, CHAINS, 1), Langevin(300, 0.4, 0.9, sampler="langevin"), scale=scale)
    for own, size in zip(unadjusted, scale.tolist(), strict=True):
        step, noise = 0.4 * size**2, 0.9 * size
        agrees(own, noise**2 / (2 * step - step**2))


def double_well(x: torch.Tensor) -> torch.Tensor:
    return (x.square() - 1).square().sum(dim=-1) + 0.2 * x.sum(dim=-1)


@pytest.mark.parametrize("domain", [None, (-0.9, 1.1)])
def test_two_wells_are_filled_as_their_density_tells(domain: tuple[float, float] | None) -> None:
    settings = Langevin(150, 0.2, 0.8, temperature=0.5)
    x = ends(double_well, starts(1, CHAINS, 1), settings, domain=domain).flatten().numpy()
    low, high = domain or (-2.2, 2.2)
    edges = np.linspace(low, high, 12)

    def density(at: float) -> float:
        return math.exp(-float(double_well(torch.tensor([at]))) / 0.5)

    parts = np.array([integrate.quad(density, *pair)[0] for pair in itertools.pairwise(edges)])
    seen, _ = np.histogram(x, edges)
    assert seen.sum() >= CHAINS - 2
    # a chain gives one point, so the points are independent
    assert stats.chisquare(seen, parts / parts.sum() * seen.sum()).pvalue > LEAST_P


def test_a_domain_cuts_the_density_at_bounds_of_each_coordinate() -> None:
    low, high = torch.tensor([-0.5, 0.2], dtype=torch.float64), torch.tensor([1.0, math.inf], dtype=torch.float64)
    start = torch.tensor([0.9, 2.0], dtype=torch.float64).repeat(1, CHAINS, 1)
    found = ends(harmonic, start, Langevin(80, 0.3, 0.9), domain=(low, high))[0]
    scale = math.sqrt(0.9**2 / 0.6)
    for x, a, b in zip(found.T, low.tolist(), high.tolist(), strict=True):
        truth = stats.truncnorm(a / scale, b / scale, scale=scale)
        assert stats.kstest(x.numpy(), truth.cdf).pvalue > LEAST_P
    for sampler in ("langevin", "released"):
        clipped = ends(harmonic, start, Langevin(20, 0.3, 0.9, sampler=sampler), domain=(low, high))[0]
        assert ((clipped >= low) & (clipped <= high)).all()


@pytest.mark.parametrize("sampler", ["mala", "langevin", "released"])
def test_masked_coordinates_stay_and_count_for_nothing(sampler: str) -> None:
    mask = torch.ones(1, CHAINS, 3, dtype=torch.float64)
    mask[..., 1] = 0.0
    settings = Langevin(60, 0.5, 1.0, sampler=sampler)
    # the force on a coordinate that stays depends on those that move
    found = ends(lambda x: harmonic(x) + 0.9 * x[..., 0] * x[..., 1], starts(1, CHAINS, 3), settings, mask=mask)
    assert (found[..., 1] == 0.7).all()
    variance = 1.0 / (1 - 0.25) if sampler == "langevin" else 1.0
    agrees(found[..., 0] + 0.9 * 0.7, variance)
    agrees(found[..., 2], variance)


def test_annealed_noise_falls_with_the_number_of_steps() -> None:
    settings = Langevin(3, 1e-6, 0.6, sampler="langevin", anneal=True)
    agrees(ends(harmonic, starts(1, CHAINS, 2), settings) - 0.7, 0.6**2 * (1 + 1 / 4 + 1 / 9))


def resultant(kappa: float, dimensions: int) -> float:
    """Return the mean of z·k under exp(κ z·k) on the unit sphere of a space of so many dimensions."""
    order = dimensions / 2
    return float(special.ive(order, kappa) / special.ive(order - 1, kappa))


SPHERES = [  # dimensions, κ, and the chain
    (3, 2.0, Langevin(60, 0.2, 0.4)),
    (3, 1.5, Langevin(60, 1.2, 2.4, temperature=0.8)),  # beyond half a circle
    (3, 1.5, Langevin(60, 0.3, 0.8, clip=0.2, temperature=0.5)),
    (2, 1.0, Langevin(80, 0.5, 1.9, temperature=0.7)),
    (5, 3.0, Langevin(60, 0.3, 0.6, temperature=0.9)),
]


@pytest.mark.parametrize(("dimensions", "kappa", "settings"), SPHERES)
def test_directions_on_the_sphere_are_those_of_von_mises_and_fisher(
    dimensions: int, kappa: float, settings: Langevin
) -> None:
    start = torch.zeros(1, CHAINS, dimensions, dtype=torch.float64)
    start[..., 1] = 1.0
    z = ends(lambda z: -kappa * z[..., 0], start, settings, sphere=True)[0]
    assert (z.norm(dim=-1) - 1).abs().max() < 1e-12
    k = kappa / settings.effective_temperature
    mean, second = resultant(k, dimensions), 1 - (dimensions - 1) * resultant(k, dimensions) / k
    if dimensions == 3:
        assert mean == pytest.approx(1 / math.tanh(k) - 1 / k)
    assert float(z[:, 0].mean()) == pytest.approx(mean, abs=4.5 * math.sqrt((second - mean**2) / CHAINS))
    assert float(z[:, 0].square().mean()) == pytest.approx(second, abs=0.02)
    # around the axis nothing is preferred, and the start is forgotten
    assert float(z[:, 1].mean()) == pytest.approx(0.0, abs=4.5 * math.sqrt((1 - second) / (dimensions - 1) / CHAINS))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_constant_energy_fills_the_sphere_evenly_with_steps_beyond_half_a_circle(dimensions: int) -> None:
    start = torch.zeros(1, CHAINS, dimensions, dtype=torch.float64)
    start[..., 0] = 1.0
    chain = run_chain(
        lambda z: 0 * z[..., 0],
        start,
        Langevin(40, 1.0, 2.5),
        generator=torch.Generator().manual_seed(3),
        sphere=True,
    )
    z = chain.points[0].numpy()
    assert 0.2 < float(chain.accepted) < 0.9
    if dimensions == 3:  # each coordinate is uniform (Archimedes)
        for own in z.T:
            assert stats.kstest(own, stats.uniform(-1, 2).cdf).pvalue > LEAST_P
    else:
        assert stats.kstest(np.arctan2(z[:, 1], z[:, 0]), stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > LEAST_P
    assert torch.allclose(chain.displacement, torch.arccos((chain.points * start).sum(dim=-1).clamp(-1, 1)), atol=1e-6)


def rugged(x: torch.Tensor) -> torch.Tensor:
    return torch.sin(2 * x[..., 0]) + x[..., 0] * x[..., 1] + 0.3 * x[..., -1].square()


BALANCE = [
    {},
    {"temperature": 0.3},
    {"clip": 0.4, "temperature": 1.7},
    {"clip": 0.2},
]


def step_to(
    x: torch.Tensor, y: torch.Tensor, settings: Langevin, *, sphere: bool, size: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log p(x) q(y|x) min(1, ratio) but for the constants of both, and the end of the step that the code takes with the draw which
    leads from x to y."""
    value, gradient = energy_gradient(rugged, x)
    if settings.clip is not None:
        length = gradient.norm(dim=-1, keepdim=True)
        gradient_used = torch.where(length > settings.clip, gradient * settings.clip / length, gradient)
    else:
        gradient_used = gradient
    step, sigma = settings.step * size**2, settings.noise * size
    if sphere:
        cosine = (x * y).sum(dim=-1, keepdim=True)
        v = torch.arccos(cosine) * on_sphere(y - cosine * x)
        drift = -step * (gradient_used - (gradient_used * x).sum(dim=-1, keepdim=True) * x)
    else:
        v, drift = y - x, -step * gradient_used
    draw = (v - drift) / sigma
    one = torch.ones(1, 1, 1, dtype=x.dtype)
    end, log_ratio, _, _ = proposed(
        rugged, x, value, gradient, draw, settings, step * one, sigma * one, sphere=sphere, domain=None, mask=None
    )
    flow = -value / settings.effective_temperature - 0.5 * draw.square().sum(dim=-1) + log_ratio.clamp(max=0.0)
    return flow, end


@pytest.mark.parametrize("sphere", [False, True])
@pytest.mark.parametrize("options", BALANCE, ids=str)
def test_one_step_is_in_detailed_balance(options: dict[str, float], sphere: bool) -> None:
    settings = Langevin(1, 0.3, 0.5, **options)  # type: ignore[arg-type]
    x, y = torch.randn(2, 1, 200, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    if sphere:
        x, y = on_sphere(x), on_sphere(y)
    for size in (1.0, 0.4):
        there, end = step_to(x, y, settings, sphere=sphere, size=size)
        back, start = step_to(y, x, settings, sphere=sphere, size=size)
        assert torch.allclose(end, y, atol=1e-10)
        assert torch.allclose(start, x, atol=1e-10)
        assert torch.allclose(there, back, atol=1e-8, rtol=1e-9)


@pytest.mark.parametrize("sphere", [False, True])
def test_the_released_step_is_that_of_its_description(sphere: bool) -> None:
    settings = Langevin(1, 0.4, 0.6, sampler="released", clip=0.5)
    x = torch.randn(1, 500, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    x = on_sphere(x) if sphere else x.clamp(-1.5, 1.5)
    chain = run_chain(
        rugged,
        x,
        settings,
        generator=torch.Generator().manual_seed(6),
        sphere=sphere,
        domain=None if sphere else (-1.5, 1.5),
    )
    again = torch.Generator().manual_seed(6)
    xi = torch.randn(x.shape, generator=again, dtype=x.dtype)
    chance = torch.rand(x.shape[:2], generator=again, dtype=x.dtype)

    def pull(at: torch.Tensor) -> torch.Tensor:
        gradient = energy_gradient(rugged, at)[1]
        length = gradient.norm(dim=-1, keepdim=True)
        return torch.where(length > 0.5, gradient * 0.5 / length, gradient)

    v = -0.4 * pull(x) + 0.6 * xi
    y = x + v
    y = y / y.norm(dim=-1, keepdim=True) if sphere else y.clamp(-1.5, 1.5)
    # q(x|y) / q(y|x) as if σ² = 2λ
    ratio = (0.6 * xi).square().sum(dim=-1) - (-v + 0.4 * pull(y)).square().sum(dim=-1)
    taken = chance < torch.exp(rugged(x) - rugged(y) + ratio / (4 * 0.4))
    assert 0.2 < float(taken.double().mean()) < 0.98
    assert torch.allclose(chain.points, torch.where(taken[..., None], y, x))
    assert float(chain.accepted) == pytest.approx(float(taken.double().mean()))


def test_the_released_step_draws_from_no_temperature_unless_noise_and_step_belong_together() -> None:
    together = ends(harmonic, starts(1, CHAINS, 1), Langevin(80, 0.5, 1.0, sampler="released"))
    agrees(together, 1.0)
    for noise in (0.4, 1.7):
        settings = Langevin(200, 0.5, noise, sampler="released")
        variance = float(ends(harmonic, starts(1, CHAINS, 1), settings).var())
        for other in (1.0, settings.effective_temperature):
            assert abs(math.log(variance / other)) > 5 * math.sqrt(2 / CHAINS)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_corrected_chain_never_takes_an_energy_that_is_not_finite(bad: float) -> None:
    def broken(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x[..., 0] > 1, bad, harmonic(x))

    start = starts(1, 500, 1)
    chain = sample_chain(broken, start, Langevin(50, 0.3, 0.9))
    assert (chain.points <= 1).all()
    with pytest.raises(ChainError, match=r"energy: is not finite after 50 steps.*a smaller step than 0\.3"):
        sample_chain(broken, start, Langevin(50, 0.3, 0.9, sampler="langevin"))


def test_members_do_not_feel_each_other() -> None:
    def steep(slope: float) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda x: torch.stack([harmonic(x[0]), slope * harmonic(x[1])])

    start = starts(2, 50, 2)
    settings = Langevin(20, 0.3, 0.9)
    found = [ends(steep(slope), start, settings) for slope in (1.0, 40.0, math.nan)]
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][0], found[2][0])
    assert not torch.equal(found[0][1], found[1][1])
    assert (found[2][1] == 0.7).all()


def test_the_same_seed_gives_the_same_chain() -> None:
    start = starts(1, 50, 2)
    first, again, other = (sample_chain(harmonic, start, Langevin(20, 0.3, 0.9), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.points, again.points)
    assert not torch.equal(first.points, other.points)
    single = sample_chain(harmonic, start[0], Langevin(20, 0.3, 0.9), seed=1)
    assert torch.equal(single.points, first.points)
    nothing = sample_chain(harmonic, start, Langevin(0, 0.3, 0.9))
    assert torch.equal(nothing.points, start)
    assert float(nothing.accepted) == 0.0


START = torch.tensor([[0.5, 0.5], [0.1, 0.2]], dtype=torch.float64)
REFUSED: list[tuple[str, Energy, torch.Tensor, dict[str, Any]]] = [
    (r"start: has shape \(2,\)", harmonic, START[0], {}),
    (r"start: has shape \(0, 2\).*at least one", harmonic, START[:0], {}),
    ("start: holds int64 numbers, floating point ones are needed", harmonic, START.long(), {}),
    ("start: is not finite for 1 of 2 chains, the first is number 1", harmonic, START / START[:, :1].floor(), {}),
    ("start: lies outside the domain for 1 of 2 chains, the first is number 0", harmonic, START, {"domain": (0, 0.4)}),
    ("start: is not on the unit sphere for 2 of 2", harmonic, START, {"sphere": True}),
    (r"domain: the lowest value is 1\.0 and the highest 0\.0", harmonic, START, {"domain": (1.0, 0.0)}),
    ("domain: the lowest value is nan", harmonic, START, {"domain": (math.nan, 1.0)}),
    (r"domain: bounds of \(3,\)", harmonic, START, {"domain": (torch.zeros(3), torch.ones(3))}),
    (r"energy: gives \(1, 2, 2\) for points \(1, 2, 2\), one a point is needed", torch.square, START, {}),
    ("energy: is not finite at the start for 2 of 2", lambda x: harmonic(x) / 0, START, {}),
    ("energy: has no gradient", lambda x: torch.zeros(x.shape[:2]), START, {}),
]


@pytest.mark.parametrize(("told", "energy", "start", "options"), REFUSED, ids=[case[0] for case in REFUSED])
def test_a_chain_that_cannot_start_says_why(
    told: str, energy: Energy, start: torch.Tensor, options: dict[str, Bounds]
) -> None:
    if "is not finite for 1" in told:
        start = torch.tensor([[0.5, 0.5], [math.inf, 0.0]], dtype=torch.float64)
    with pytest.raises(ChainError, match=told):
        sample_chain(energy, start, Langevin(2, 0.1, 0.1), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sampler": "malla"}, "mala"),
        ({"steps": -1}, f"steps is -1, allowed: 0 to {MAX_STEPS}"),
        ({"steps": MAX_STEPS + 1}, f"steps is {MAX_STEPS + 1}, allowed"),
        ({"steps": 2.5}, "steps"),
        ({"step": 0.0}, "step is 0.0, allowed: a finite number above 0"),
        ({"step": math.nan}, "step is nan"),
        ({"noise": -0.1}, "noise is -0.1"),
        ({"noise": True}, "noise is True"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"temperature": 1.0, "sampler": "langevin"}, "temperature is 1.0, which the sampler 'langevin' does not take"),
        ({"temperature": 1.0, "sampler": "released"}, "temperature is 1.0, which the sampler 'released' does not take"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ScorerError, match=told):
        Langevin(**({"steps": 5, "step": 0.1, "noise": 0.1} | options))
