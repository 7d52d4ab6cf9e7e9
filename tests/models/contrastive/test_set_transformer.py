"""Transformers of masked sets: the order of slots, empty slots and soft constituents change nothing, and stacked models are each their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hunch.models.contrastive.losses import uniformity
from hunch.models.contrastive.set_transformer import SetTransformer, TransformerSizes
from hunch.models.inputs import ScorerError

SIZES = TransformerSizes(3, width=16, heads=4, layers=2, feedforward=24, dims=6, projection=5)


def network(members: int = 1, **options: Any) -> SetTransformer:
    made = SetTransformer(members, SIZES, seed=3, **options)
    with torch.no_grad():
        for bias in made.biases:  # which start at zero
            bias.add_(0.1 * torch.randn(bias.shape, generator=torch.Generator().manual_seed(4)))
    return made.requires_grad_(requires_grad=False)


def sets(members: int = 1, b: int = 7, slots: int = 9, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sets (m, b, slots, 3) whose first number is pT, with 2 to 9 filled slots, and their pT (m, b, slots)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand((members, b, slots, 3), generator=generator)
    filled = torch.arange(slots) < torch.randint(2, slots + 1, (members, b, 1), generator=generator)
    x = torch.where(filled[..., None], x, 0.0)
    return x, x[..., 0]


@pytest.mark.parametrize("infrared_safe", [True, False])
def test_the_order_of_slots_changes_nothing(infrared_safe: bool) -> None:
    own = network(infrared_safe=infrared_safe)
    x, pt = sets()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    for before, after in zip(own(x, pt), own(x[:, :, order], pt[:, :, order]), strict=True):
        assert (before - after).abs().max() < 1e-5
    assert (own(x, pt)[0] - own(x.flip(1), pt.flip(1))[0]).abs().max() > 1e-3  # sets are not all alike


@pytest.mark.parametrize("infrared_safe", [True, False])
@pytest.mark.parametrize("at", [0.0, 5.0])
def test_appended_empty_slots_change_nothing_wherever_they_are(infrared_safe: bool, at: float) -> None:
    own = network(infrared_safe=infrared_safe)
    x, pt = sets()
    beside = torch.full((1, 7, 4, 3), at)
    beside[..., 0] = 0.0
    for before, after in zip(
        own(x, pt), own(torch.cat([beside, x], dim=2), torch.cat([beside[..., 0], pt], dim=2)), strict=True
    ):
        assert (before - after).abs().max() < 1e-5
    # the padding that is there may be cut off as well
    two = pt[0, 0] > 0
    assert (own(x[:, :1, two], pt[:, :1, two])[0] - own(x, pt)[0][:, :1]).abs().max() < 1e-5


def test_a_constituent_fades_out_with_its_pt_where_it_is_asked_for() -> None:
    x, pt = sets(slots=8)
    moved = {}
    for infrared_safe in (True, False):
        own = network(infrared_safe=infrared_safe)
        for soft in (1e-2, 1e-4, 1e-6):
            beside = torch.tensor([soft, 3.0, -2.0]).expand(1, 7, 1, 3)
            both = torch.cat([x, beside], dim=2)
            moved[infrared_safe, soft] = float((own(both, both[..., 0])[0] - own(x, pt)[0]).abs().max())
    # attention goes as the root of pT
    assert moved[True, 1e-6] < 1e-2 * moved[False, 1e-6]
    assert moved[True, 1e-4] < 0.2 * moved[True, 1e-2]
    assert moved[False, 1e-6] > 0.5 * moved[False, 1e-2]


def test_the_attention_is_that_of_the_formula() -> None:
    own = network().double()
    x, pt = (part.double() for part in sets(b=1, slots=4))
    pt = torch.tensor([[[0.7, 0.2, 0.1, 0.0]]]).double()
    found = own(x, pt)[0][0, 0]
    weight, bias = [w[0] for w in own.weights], [b[0, 0] for b in own.biases]

    def normalised(y: torch.Tensor) -> torch.Tensor:
        return (y - y.mean(dim=-1, keepdim=True)) / (y.var(dim=-1, keepdim=True, unbiased=False) + 1e-5).sqrt()

    y = x[0, 0, :3] @ weight[0] + bias[0]
    for layer in (1, 5):
        query, key, value = (normalised(y) @ weight[layer] + bias[layer]).chunk(3, dim=-1)
        heads = []
        for head in range(4):
            own_part = slice(4 * head, 4 * head + 4)
            logits = query[:, own_part] @ key[:, own_part].T / 2 + 0.5 * pt[0, 0, :3].log()
            heads.append(torch.softmax(logits, dim=-1) @ value[:, own_part])
        y = y + torch.cat(heads, dim=-1) @ weight[layer + 1] + bias[layer + 1]
        inner = torch.relu(normalised(y) @ weight[layer + 2] + bias[layer + 2])
        y = y + inner @ weight[layer + 3] + bias[layer + 3]
    summed = pt[0, 0, :3] @ normalised(y)
    assert torch.allclose(found, summed @ weight[-2] + bias[-2], rtol=1e-9, atol=1e-12)


def test_nothing_but_empty_slots_gives_numbers_and_gradients() -> None:
    own = network().requires_grad_()
    x, pt = sets()
    x, pt = x.clone(), pt.clone()
    x[0, 0], pt[0, 0] = 0.0, 0.0
    own(x, pt)[1].square().sum().backward()
    assert torch.isfinite(own(x, pt)[1]).all()
    for p in own.parameters():
        assert p.grad is not None
        assert torch.isfinite(p.grad).all()


def test_stacked_models_are_each_their_own() -> None:
    stack = network(3)
    x, pt = sets(3)
    whole = stack(x, pt)
    for k in range(3):
        own = SetTransformer(1, SIZES, seed=0)
        own.load_state_dict({name: p[k : k + 1].clone() for name, p in stack.state_dict().items()})
        for together, alone in zip(whole, own(x[k : k + 1], pt[k : k + 1]), strict=True):
            assert (together[k] - alone[0]).abs().max() < 1e-5
    assert sum(p.numel() for p in stack.parameters()) == 3 * SIZES.size


def test_a_fresh_network_tells_sets_of_small_numbers_apart() -> None:
    fresh = SetTransformer(1, SIZES, seed=3).requires_grad_(requires_grad=False)
    x, pt = sets(b=200)
    small = torch.cat([0.1 * x[..., :1], 0.3 * (x[..., 1:] - 0.5)], dim=-1) * (pt > 0)[..., None]
    assert float(uniformity(fresh(small, 0.1 * pt)[1])) < -0.4


def test_dropout_is_of_trainings_alone_and_draws_from_its_generator() -> None:
    own = network(dropout=0.3)
    x, pt = sets()
    plain = own(x, pt)[0]
    assert torch.equal(plain, own(x, pt)[0])
    assert torch.equal(plain, network(dropout=0.0)(x, pt, generator=torch.Generator().manual_seed(1))[0])
    before = torch.get_rng_state()
    drawn = [own(x, pt, generator=torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    y = torch.ones(1, 100, 100)
    left = own._dropped(y, torch.Generator().manual_seed(1))
    assert float((left == 0).float().mean()) == pytest.approx(0.3, abs=0.02)
    assert float(left.mean()) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"width": 10, "heads": 4}, "width is 10, allowed: a multiple of heads, 4"),
        ({"layers": 0}, "layers is 0, allowed: 1 or more"),
        ({"dims": 2.0}, "dims is 2.0; a whole number"),
    ],
)
def test_sizes_that_are_none_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ScorerError, match=told):
        TransformerSizes(3, **options)
