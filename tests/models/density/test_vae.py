"""The VAE's loss as a log-density in nats."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from hunch.models import Vae
from hunch.models.density.autoencoder import StackedVae, gaussian_kl

QUICK = {"device": "cpu", "hidden": 16, "batch_size": 64}


def test_gaussian_kl_closed_form() -> None:
    kl = gaussian_kl(torch.tensor([[1.0]], dtype=torch.float64), torch.tensor([[0.5]], dtype=torch.float64).log())
    assert kl.item() == pytest.approx(0.818147, abs=1e-6)
    assert gaussian_kl(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 0.0
    # Against the integral, for three latents at once.
    mu, sigma = np.array([0.3, -1.0, 2.0]), np.array([0.2, 1.5, 0.7])
    grid = np.linspace(-12, 12, 200_001)
    pieces = [
        np.trapezoid(stats.norm.pdf(grid, m, s) * (stats.norm.logpdf(grid, m, s) - stats.norm.logpdf(grid)), grid)
        for m, s in zip(mu, sigma, strict=True)
    ]
    assert gaussian_kl(torch.tensor(mu), torch.tensor(sigma).log()).item() == pytest.approx(sum(pieces), abs=1e-6)


def test_reconstruction_is_a_normalised_density() -> None:
    network = StackedVae(1, 1, 2, 8, seed=0).double()
    z = torch.tensor([[[0.4, -0.3]]], dtype=torch.float64)
    x = torch.linspace(-40, 40, 400_001, dtype=torch.float64)[None, :, None]
    with torch.no_grad():
        density = torch.exp(-network.reconstruction(x, z.expand(1, x.shape[1], 2)))
    assert torch.trapezoid(density[0], x[0, :, 0]).item() == pytest.approx(1.0, abs=1e-6)


def test_loss_of_gaussian_data_is_minus_log_density(rng: np.random.Generator) -> None:
    # Units of 1000: the scaling's Jacobian must be in the loss.
    truth = stats.multivariate_normal([500.0, 0.0], [[1e6, 400.0], [400.0, 1.0]])
    vae = Vae(seed=0, device="cpu", max_epochs=6).fit(truth.rvs(8_000, random_state=rng))
    x = truth.rvs(4_000, random_state=rng)
    loss, expected = vae.score(x), -truth.logpdf(x)
    # At the latent mean the noise of the latent draw is missing, at most half a nat a latent dimension.
    assert -1.0 - 0.1 < np.mean(loss - expected) < 0.1
    assert np.corrcoef(loss, expected)[0, 1] > 0.97
    # importance sampling has all of it
    assert np.std(vae.score(x, metric="log_density") - expected) < 0.1


def test_loss_is_reconstruction_plus_kl(rng: np.random.Generator) -> None:
    x = rng.normal(size=(300, 3))
    vae = Vae(max_epochs=2, **QUICK).fit(x)
    total = vae.score(x, metric="reconstruction") + vae.score(x, metric="kl")
    np.testing.assert_allclose(vae.score(x), total, rtol=0, atol=1e-12)
    assert (vae.score(x, metric="kl") >= 0).all()


def test_units_move_every_loss_by_one_constant(rng: np.random.Generator) -> None:
    x = rng.gamma(2.0, 1.0, size=(1_000, 2))
    scale = np.array([1000.0, 0.01])
    first, second = (Vae(max_epochs=3, **QUICK).fit(x * s).score(x * s) for s in (np.ones(2), scale))
    np.testing.assert_allclose(second - first, math.log(scale.prod()), atol=1e-3)


def test_stacked_members_are_the_single_models_side_by_side() -> None:
    stack = StackedVae(3, 4, 2, 8, seed=5).double()
    x = torch.randn(3, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = stack.encode(x)[0]
        for k in range(3):
            hidden = x[k]
            for layer in (0, 1):
                hidden = hidden @ stack.weights[layer][k] + stack.biases[layer][k]
                hidden = hidden / torch.sqrt(1 + hidden**2)
            alone = (hidden @ stack.weights[2][k] + stack.biases[2][k])[:, :2]
            torch.testing.assert_close(together[k], alone)


def test_constant_and_repeated_columns_do_not_blow_up(rng: np.random.Generator) -> None:
    x = rng.normal(size=(400, 5))
    x[:, 1], x[:, 2], x[:, 3] = 7.0, x[:, 0], rng.integers(0, 2, 400)
    x[:, 4] = np.where(rng.random(400) < 0.98, 0.0, x[:, 4])
    vae = Vae(max_epochs=4, **QUICK).fit(x)
    scores = vae.score(x)
    assert np.isfinite(scores).all()
    odd = x[:1].copy()
    odd[0, 1] = 70.0
    assert vae.score(odd)[0] > scores.max()  # a constant that is not kept is an anomaly
