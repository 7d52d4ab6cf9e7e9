"""Contrastive losses against their formulas summed up one by one, and in the limits that can be computed; figures of known representations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from hunch.models.contrastive.losses import (
    LOSSES,
    WITH_ANOMALIES,
    alignment,
    anomclr,
    anomclr_plus,
    clr,
    contrastive_loss,
    effective_rank,
    nt_xent,
    uniformity,
    vicreg,
)

TAU = 0.1


def draws(*shape: int, versions: int = 3, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(versions)]


def by_hand(name: str, first: Any, second: Any, anomalous: Any, tau: float) -> np.ndarray:
    """Return the loss (b,) of the formulas, term by term in double precision."""
    z, other, away = ([np.asarray(v) / np.linalg.norm(v) for v in part] for part in (first, second, anomalous))
    n = len(z)
    found = []
    for i in range(n):
        both = []
        for own, mate, mine, theirs in ((z[i], other[i], z, other), (other[i], z[i], other, z)):
            positive = own @ mate / tau
            negatives = sum(math.exp(own @ part[j] / tau) for part in (mine, theirs) for j in range(n) if j != i)
            both.append(
                {
                    "nt_xent": -math.log(math.exp(positive) / (negatives + math.exp(positive))),
                    "clr": -math.log(math.exp(positive) / negatives),
                    "anomclr": -math.log(math.exp(positive - own @ away[i] / tau) / negatives),
                    "anomclr_plus": own @ away[i] / tau - positive,
                }[name]
            )
        found.append(np.mean(both))
    return np.array(found)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "vicreg"])
@pytest.mark.parametrize("tau", [0.1, 0.7])
def test_losses_are_their_formulas(name: str, tau: float) -> None:
    versions = draws(6, 4)
    found = contrastive_loss(name, versions[: 3 if name in WITH_ANOMALIES else 2], temperature=tau)
    np.testing.assert_allclose(found.numpy(), by_hand(name, *(v.numpy() for v in versions), tau), rtol=1e-11)


def test_vicreg_is_its_formula() -> None:
    first, second, _ = draws(7, 4)
    parts = []
    for z in (first.numpy(), 0.3 * second.numpy()):
        covariance = np.cov(z.T)
        spread = np.maximum(0, 1 - np.sqrt(np.diag(covariance) + 1e-4)).mean()
        off = (covariance**2).sum() - (np.diag(covariance) ** 2).sum()
        parts.append(25 * spread / 2 + off / 4)
    wanted = 25 * ((first.numpy() - 0.3 * second.numpy()) ** 2).mean(axis=1) + sum(parts)
    np.testing.assert_allclose(vicreg(first, 0.3 * second).numpy(), wanted, rtol=1e-12)
    # the same rows, of unit spread and uncorrelated, cost nothing
    alike = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    assert float(vicreg(alike, alike).abs().max()) == 0.0


@pytest.mark.parametrize("name", LOSSES)
def test_stacked_models_have_losses_of_their_own(name: str) -> None:
    versions = draws(2, 5, 4, versions=3 if name in WITH_ANOMALIES else 2)
    found = contrastive_loss(name, versions, temperature=TAU)
    assert found.shape == (2, 5)
    for k in range(2):
        alone = contrastive_loss(name, [v[k] for v in versions], temperature=TAU)
        assert torch.allclose(found[k], alone, rtol=1e-12)
    # and the order of the pair does not matter
    turned = contrastive_loss(name, [versions[1], versions[0], *versions[2:]], temperature=TAU)
    assert torch.allclose(found, turned, rtol=1e-12)


def test_the_limits_of_a_batch_of_128() -> None:
    same = torch.ones(128, 200)
    assert nt_xent(same, 3 * same, temperature=TAU).numpy() == pytest.approx(5.5413, abs=1e-4)
    assert clr(same, 3 * same, temperature=TAU).numpy() == pytest.approx(5.5373, abs=1e-4)
    apart = torch.eye(128)
    assert nt_xent(apart, apart, temperature=TAU).numpy() == pytest.approx(0.01147, abs=1e-5)
    assert clr(apart, apart, temperature=TAU).numpy() == pytest.approx(-4.4627, abs=1e-4)
    assert float(nt_xent(apart, apart, temperature=TAU)[0]) == pytest.approx(math.log1p(254 * math.exp(-10)), abs=1e-6)


def test_an_anomalous_version_like_the_second_one_leaves_the_negatives() -> None:
    first, second, _ = draws(5, 4)
    third = second.clone()
    plus = anomclr_plus(first, second, third, temperature=TAU)
    z, other = (v / v.norm(dim=1, keepdim=True) for v in (first, second))
    # s(z, z*) = s(z, z'), while s(z', z*) = 1
    assert torch.allclose(plus, (1 - (z * other).sum(dim=1)) / (2 * TAU))
    assert float(anomclr_plus(first, first, first, temperature=TAU).abs().max()) < 1e-12
    # −2 / τ where both versions agree and the anomalous one is opposite
    assert anomclr_plus(first, first, -first, temperature=TAU).numpy() == pytest.approx(-2 / TAU)
    assert anomclr_plus(first, -first, first, temperature=TAU).numpy() == pytest.approx(1 / TAU)
    apart = torch.eye(128)
    assert anomclr(apart, apart, -apart, temperature=TAU).numpy() == pytest.approx(math.log(254) - 20, abs=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_a_small_temperature_overflows_nothing(name: str) -> None:
    versions = [v.float().requires_grad_() for v in draws(6, 4, versions=3 if name in WITH_ANOMALIES else 2)]
    found = contrastive_loss(name, versions, temperature=1e-3)
    found.sum().backward()
    assert torch.isfinite(found).all()
    for v in versions:
        assert v.grad is not None
        assert torch.isfinite(v.grad).all()


def test_uniformity_and_alignment_of_known_representations() -> None:
    generator = torch.Generator().manual_seed(2)
    for d, floor in ((1000, -3.99), (100, -3.92), (10, -3.25)):
        z = torch.randn((1500, d), generator=generator)
        assert float(uniformity(z)) == pytest.approx(floor, abs=0.015)
    same = torch.ones(4, 3)
    assert float(uniformity(same)) == pytest.approx(0.0, abs=1e-6)
    assert float(alignment(same, 2 * same)) == pytest.approx(0.0, abs=1e-12)
    assert float(alignment(same, -same)) == pytest.approx(4.0)
    two = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert float(alignment(two, two.flip(0))) == pytest.approx(2.0)
    assert float(uniformity(two)) == pytest.approx(-4.0)
    assert uniformity(torch.stack([two, two, two])).shape == (3,)


def test_the_effective_rank_of_known_representations() -> None:
    generator = torch.Generator().manual_seed(2)
    axes = torch.cat([torch.eye(5), -torch.eye(5)])
    assert float(effective_rank(axes + 7)) == pytest.approx(5.0, rel=1e-6)
    line = torch.randn((50, 1), generator=generator) * torch.randn((1, 8), generator=generator)
    assert float(effective_rank(line + 3)) == pytest.approx(1.0, abs=1e-3)
    assert float(effective_rank(torch.full((50, 8), 0.3))) == 0.0
    # shares of 4/5 and 1/5 of the variance
    wanted = math.exp(-(0.8 * math.log(0.8) + 0.2 * math.log(0.2)))
    both = torch.tensor([[2.0, 0], [-2.0, 0], [0, 1.0], [0, -1.0]])
    assert float(effective_rank(both)) == pytest.approx(wanted, rel=1e-6)
    assert effective_rank(torch.stack([both, both])).shape == (2,)
    # of a model that has diverged there is none
    bad = torch.where(torch.eye(4)[:, :2] > 0, math.nan, both)
    found = effective_rank(torch.stack([bad, both, both * math.inf])).tolist()
    assert found == pytest.approx([math.nan, wanted, math.nan], rel=1e-6, nan_ok=True)
