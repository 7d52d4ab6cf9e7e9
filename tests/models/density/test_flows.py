"""Flows as exact densities: they invert, integrate to one, and agree with zuko's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import zuko
from scipy import stats

from hunch.models import ScorerError
from hunch.models.density.densities import Architecture, fit_densities
from hunch.models.density.flows import TAIL_FROM, TRANSFORMS, FlowDensities, MaskedNetworks, StackedFlow
from hunch.models.train.loop import TrainingSettings


def flow(features: int, transform: str, *, members: int = 2, spread: float = 1.0) -> StackedFlow:
    """A flow with random weights in float64, far from the identity."""
    generator = torch.Generator().manual_seed(3)
    made = StackedFlow(members, features, steps=3, hidden=16, transform=transform, generator=generator).double()
    with torch.no_grad():
        for p in made.parameters():
            p.add_(spread * 0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return made


@pytest.mark.parametrize("transform", sorted(TRANSFORMS))
@pytest.mark.parametrize("features", [1, 2, 7])
def test_inverse_undoes_the_flow(transform: str, features: int) -> None:
    made = flow(features, transform, spread=0.5)
    x = 2 * torch.randn(2, 500, features, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        z, _ = made(x)
        assert (z - x).abs().max() > 0.5
        torch.testing.assert_close(made.inverse(z), x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("transform", sorted(TRANSFORMS))
def test_log_slope_is_the_log_determinant(transform: str) -> None:
    made = flow(3, transform, members=1)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for row in x:
        jacobian = torch.autograd.functional.jacobian(lambda v: made(v[None, None])[0][0, 0], row)
        expected = torch.linalg.slogdet(jacobian).logabsdet
        assert made(row[None, None])[1].item() == pytest.approx(expected.item(), abs=1e-9)


@pytest.mark.parametrize("transform", sorted(TRANSFORMS))
def test_density_integrates_to_one_in_one_and_two_dimensions(transform: str) -> None:
    for features in (1, 2):
        density = FlowDensities(1, features, steps=2, hidden=8, transform=transform, seed=0).double()
        density.flow = flow(features, transform, members=1, spread=0.4)
        axis = torch.linspace(-24, 24, 601, dtype=torch.float64)
        axes = torch.meshgrid(*[axis] * features, indexing="ij")
        x = torch.stack([a.ravel() for a in axes], dim=-1)
        with torch.no_grad():
            p = torch.exp(-sum(density.terms(x[None])))[0]
        cell = (axis[1] - axis[0]).item() ** features
        # beyond eight spreads the tail penalty takes away what little is there
        assert p.sum().item() * cell == pytest.approx(1.0, abs=2e-3)


def test_outputs_depend_on_features_before_them_alone() -> None:
    for reverse in (False, True):
        generator = torch.Generator().manual_seed(0)
        network = MaskedNetworks(1, 5, 48, 3, reverse=reverse, generator=generator)
        x = torch.randn(1, 1, 5, generator=generator)
        jacobian = torch.autograd.functional.jacobian(lambda v, n=network: n(v)[0, 0], x)[..., 0, 0, :]  # (p, d, d)
        if reverse:
            jacobian = jacobian.flip(1, 2)
        for j in range(5):
            assert jacobian[:, j, j:].abs().max() == 0
            if j:
                assert (jacobian[:, j, :j].abs().sum(dim=0) > 0).all()


def test_steps_have_networks_of_their_own() -> None:
    made = StackedFlow(1, 3, steps=4, hidden=8, transform="affine", generator=torch.Generator().manual_seed(0))
    firsts = [network.weights[0] for network in made.networks]
    assert len({id(w) for w in firsts}) == 4
    assert not torch.equal(firsts[0], firsts[1])


def test_one_step_is_zukos_masked_affine_step() -> None:
    # a peer: zuko's MADE with our weights put into its layers gives our log-density
    made = flow(3, "affine", members=1)
    theirs = zuko.flows.MAF(3, transforms=1, hidden_features=(16, 16), activation=torch.nn.ReLU).double()
    layers = [m for m in theirs.transform.transforms[0].hyper if hasattr(m, "mask")]
    ours = made.networks[0]
    with torch.no_grad():
        # zuko gives exp(scale) x + shift with the scale bounded its own way: compare the networks' outputs instead
        for k, layer in enumerate(layers):
            mask, weight, bias = getattr(ours, f"mask_{k}").bool(), ours.weights[k][0], ours.biases[k][0, 0]
            if k == 2:  # zuko keeps a feature's parameters together, we keep a parameter's features together
                mask, weight = (v.unflatten(1, (2, 3)).transpose(1, 2).flatten(1) for v in (mask, weight))
                bias = bias.unflatten(0, (2, 3)).T.flatten()
            layer.mask.copy_(mask.T)
            layer.weight.copy_(weight.T)
            layer.bias.copy_(bias)
        x = torch.randn(1, 20, 3, dtype=torch.float64)
        torch.testing.assert_close(
            theirs.transform.transforms[0].hyper(x[0]).unflatten(-1, (3, 2)), ours(x)[0].transpose(1, 2)
        )


def test_standard_gaussian_in_twelve_dimensions_has_its_entropy(rng: np.random.Generator) -> None:
    settings = TrainingSettings(max_epochs=4)
    for name in ("maf", "nsf"):
        stack, _ = fit_densities(
            [rng.normal(size=(8_000, 12))],
            [None],
            architecture=Architecture(name, hidden=24, steps=2),
            settings=settings,
            seed=0,
            device="cpu",
        )
        nll = sum(stack.terms(rng.normal(size=(20_000, 12))))[:, 0]
        expected = 6 * math.log(2 * math.pi * math.e)
        assert expected == pytest.approx(17.03, abs=0.005)
        # statistical error of the mean of 20,000 is 0.017; the rest is what 8,000 training rows do not tell
        assert -0.05 < nll.mean() - expected < 0.15, name


@pytest.mark.parametrize("name", ["maf", "nsf"])
def test_flow_learns_a_bent_density(name: str, rng: np.random.Generator) -> None:
    def banana(n: int) -> np.ndarray:
        x = rng.normal(size=n)
        return np.stack([x, x**2 + 0.3 * rng.normal(size=n)], axis=1)

    stack, _ = fit_densities(
        [banana(20_000)],
        [None],
        architecture=Architecture(name, hidden=32, steps=4),
        settings=TrainingSettings(max_epochs=12),
        seed=0,
        device="cpu",
    )
    x = banana(10_000)
    truth = -(stats.norm.logpdf(x[:, 0]) + stats.norm.logpdf(x[:, 1], x[:, 0] ** 2, 0.3))
    found = sum(stack.terms(x))[:, 0]
    assert (found - truth).mean() == pytest.approx(0.0, abs=0.06)
    gaussian = stats.multivariate_normal(x.mean(axis=0), np.cov(x.T))
    assert (-gaussian.logpdf(x) - truth).mean() > 0.5  # what a single Gaussian would miss


def test_outlier_costs_at_least_its_tail() -> None:
    density = FlowDensities(1, 2, steps=4, hidden=8, transform="affine", seed=0).double()
    density.flow = flow(2, "affine", members=1, spread=3.0)
    far = torch.tensor([[[TAIL_FROM + 20.0, 0.0]]], dtype=torch.float64)
    with torch.no_grad():
        assert density.terms(far)[1].item() > 0.5 * 20**2 - 2 * 4 * 3.0 - 1e-9


def test_unknown_names_are_errors() -> None:
    with pytest.raises(ScorerError, match="did you mean 'maf'"):
        Architecture("mafs")
    with pytest.raises(ScorerError, match="steps is 0"):
        Architecture(steps=0)
