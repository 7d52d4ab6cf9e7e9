"""What the second phase follows: the exact gradient of a likelihood whose normalisation is integrated, and its distance of samples."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from hunch.models.energy.langevin import Langevin, run_chain
from hunch.models.energy.networks import Sizes, SphereAutoencoder
from hunch.models.energy.training import Negatives, NormalisedObjective, wasserstein_to

TEMPERATURE = 0.3
PARTS = 20  # of the samples, from whose spread the Monte Carlo error is taken


class Known:
    """A small network in one or two dimensions, its density on a grid, and data that are not of it."""

    def __init__(self, dimensions: int, *, lipschitz: float = 2.0) -> None:
        self.network = SphereAutoencoder(1, Sizes(dimensions, 3, 6), seed=4, lipschitz=lipschitz).double()
        axis = torch.linspace(-5, 5, 1001 if dimensions == 1 else 201, dtype=torch.float64)
        self.grid = torch.cartesian_prod(*[axis] * dimensions).reshape(-1, dimensions)
        self.spacing = float(axis[1] - axis[0])
        generator = torch.Generator().manual_seed(5)
        data = torch.randn(1, 4000, dimensions, generator=generator, dtype=torch.float64)
        self.data = 0.6 * data + torch.sign(data) * 0.5

    def energies(self, x: torch.Tensor) -> torch.Tensor:
        return self.network.energy(x, self.network.weights())

    def gradient(self, value: torch.Tensor) -> torch.Tensor:
        """Return the gradient of a number in all parameters, as one row."""
        return torch.cat([part.flatten() for part in torch.autograd.grad(value, list(self.network.parameters()))])

    def exact(self) -> torch.Tensor:
        """Return the gradient of −log p of the data, through the integral."""
        log_omega = torch.logsumexp(-self.energies(self.grid[None])[0] / TEMPERATURE, dim=0)
        return self.gradient(self.energies(self.data).mean() / TEMPERATURE + log_omega)

    def likelihoods(self) -> torch.Tensor:
        """Return the probability of each cell of the grid, whose edge holds nothing."""
        with torch.no_grad():
            found = torch.softmax(-self.energies(self.grid[None])[0] / TEMPERATURE, dim=0)
        assert found[self.grid.abs().max(dim=1).values > 4.5].sum() < 1e-6
        return found

    def drawn(self, n: int, *, steps: int = 60) -> torch.Tensor:
        """Return points (1, n, d) of the model: cells by their probability, and a corrected chain from there."""
        generator = torch.Generator().manual_seed(6)
        cells = torch.multinomial(self.likelihoods(), n, replacement=True, generator=generator)
        start = self.grid[cells] + self.spacing * (torch.rand(n, self.grid.shape[1], generator=generator) - 0.5)
        weights = [w.detach() for w in self.network.weights()]
        settings = Langevin(steps, 0.3, 0.5, temperature=TEMPERATURE)
        return run_chain(lambda x: self.network.energy(x, weights), start[None], settings, generator=generator).points


@pytest.mark.parametrize("dimensions", [1, 2])
def test_the_gradient_of_the_likelihood_is_data_less_model(dimensions: int) -> None:
    known = Known(dimensions)
    model = (known.likelihoods() * known.energies(known.grid[None])[0]).sum()
    found = known.gradient((known.energies(known.data).mean() - model) / TEMPERATURE)
    exact = known.exact()
    assert exact.norm() > 0.1
    assert torch.allclose(found, exact, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_the_objective_follows_that_gradient_with_what_its_chains_draw(
    dimensions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, unit = Known(dimensions), 0.04
    drawn = known.drawn(known.data.shape[1])
    settings = Negatives(Langevin(1, 0.1, 0.1), Langevin(1, 0.1, 0.1), 10, 0.0, 0.0)
    objective = NormalisedObjective(
        known.network, settings, units=torch.tensor([unit]).double(), reference=known.data, seed=0
    )
    parts = []
    for x, negatives in zip(known.data.chunk(PARTS, dim=1), drawn.chunk(PARTS, dim=1), strict=True):
        monkeypatch.setattr(objective, "negatives", lambda *_, at=negatives, **__: at)
        rows = objective.losses({"x": x}, generator=torch.Generator(), progress=0.5)
        assert rows.shape == x.shape[:2]
        # energies of the loss are in units of E0, and so is T
        parts.append(known.gradient(rows.mean()) * unit / TEMPERATURE)
    found = torch.stack(parts)
    error = found.std(dim=0) / math.sqrt(PARTS)
    exact = known.exact()
    # the data are the same on both sides: the error is that of the negatives, and less
    pulls = ((found.mean(dim=0) - exact) / error.clamp(min=1e-9))[exact.abs() > 1e-6]
    assert len(pulls) > 20
    assert pulls.square().mean() < 2
    assert torch.nn.functional.cosine_similarity(found.mean(dim=0), exact, dim=0) > 0.97


def exact_distance(drawn: torch.Tensor, data: torch.Tensor) -> float:
    """Return the Wasserstein distance of as many points as points by the best assignment."""
    costs = cdist(drawn.numpy(), data.numpy())
    return float(costs[linear_sum_assignment(costs)].mean())


@pytest.mark.parametrize("dimensions", [1, 2, 30, 400])
def test_the_distance_is_that_of_the_best_assignment_and_grows_with_a_shift(dimensions: int) -> None:
    generator = torch.Generator().manual_seed(7)
    data, drawn = torch.randn(2, 300, dimensions, generator=generator) / math.sqrt(dimensions)
    found = []
    for shift in (0.0, 0.2, 0.6, 2.0):
        moved = drawn + shift / math.sqrt(dimensions)
        found.append(wasserstein_to(moved, data))
        exact, mean = exact_distance(moved, data), float(torch.cdist(moved, data).mean())
        assert exact * (1 - 1e-9) <= found[-1] < exact + max(0.06 * exact, 0.012 * mean)
    assert found == sorted(found)


def test_the_distance_does_not_forget_what_lies_far_away() -> None:
    generator = torch.Generator().manual_seed(7)
    data, drawn = torch.randn(2, 200, 2, generator=generator)
    data[0] = 300.0
    for pair in ((drawn, data), (data, drawn)):
        assert wasserstein_to(*pair) == pytest.approx(exact_distance(*pair), rel=0.06)
    assert wasserstein_to(data, torch.full_like(data, math.nan)) == math.inf
    same = torch.zeros(5, 2)
    assert wasserstein_to(same, same) == 0.0
    assert wasserstein_to(same, same + torch.tensor([3.0, 4.0])) == pytest.approx(5.0)
