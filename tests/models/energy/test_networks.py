"""Networks of energies: bounds of the layers, gradients by finite differences, members and masks."""

from __future__ import annotations

import pytest
import torch

from hunch.models.energy.networks import Sizes, SphereAutoencoder

DENSE = Sizes(6, 3, 8)
SETS = Sizes(12, 3, 8, slots=4)
IMAGES = Sizes(48, 3, 7, height=8, width=6, channels=2)
SIZES = {"dense": DENSE, "sets": SETS, "conv": IMAGES}


def network(sizes: Sizes, *, members: int = 1, seed: int = 0, lipschitz: float = 1.5) -> SphereAutoencoder:
    return SphereAutoencoder(members, sizes, seed=seed, lipschitz=lipschitz).double()


def rows(sizes: Sizes, *, members: int = 1, n: int = 5, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return inputs (m, n, d) and, of sets, masks, some of whose slots are empty."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(members, n, sizes.numbers, generator=generator, dtype=torch.float64)
    if not sizes.slots:
        return x, None
    there = torch.rand(members, n, sizes.slots, generator=generator) < 0.6
    return x, there.double().repeat_interleave(sizes.numbers // sizes.slots, dim=-1)


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("lipschitz", [0.7, 2.0])
def test_the_largest_singular_value_of_every_layer_is_the_bound(kind: str, lipschitz: float) -> None:
    made = network(SIZES[kind], members=2, lipschitz=lipschitz)
    for _ in range(400):
        made.power_step()
    for weight in made.weights():
        largest = torch.linalg.svdvals(weight.detach().flatten(2))[:, 0]
        assert torch.allclose(largest, torch.full_like(largest, lipschitz), rtol=3e-3)
    # and so the decoder, whose activations do not stretch, is bounded as a whole
    if kind == "dense":
        z = torch.nn.functional.normalize(torch.randn(20, 3, dtype=torch.float64), dim=-1)
        weights = [w.detach() for w in made.weights()]
        jacobians = torch.func.vmap(torch.func.jacrev(lambda z: made.decode(z.expand(2, 1, 3), weights)[0, 0]))(z)
        assert torch.linalg.matrix_norm(jacobians, ord=2).max() <= lipschitz**3


def test_weights_are_as_they_are_without_a_bound() -> None:
    made = network(DENSE, lipschitz=0.0)
    assert all(used is raw for used, raw in zip(made.weights(), made.raw, strict=True))
    assert not dict(made.named_buffers())
    made.power_step()


@pytest.mark.parametrize("kind", SIZES)
def test_shapes_and_the_number_of_weights_do_not_depend_on_the_architecture(kind: str) -> None:
    sizes = SIZES[kind]
    made = network(sizes, members=2)
    x, mask = rows(sizes, members=2)
    weights = made.weights()
    z = made.encode(x, weights, mask)
    assert z.shape == (2, 5, 3)
    assert torch.allclose(z.norm(dim=-1), torch.ones(2, 5, dtype=torch.float64), atol=1e-12)
    assert made.decode(z, weights).shape == x.shape
    assert made.energy(x, weights, mask).shape == (2, 5)
    assert sum(p.numel() for p in made.parameters()) == 2 * sizes.size


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("lipschitz", [0.0, 1.5])
def test_gradients_are_those_of_finite_differences(kind: str, lipschitz: float) -> None:
    """In every parameter, through the division by the singular value, and in the inputs, which chains follow."""
    made = network(SIZES[kind], lipschitz=lipschitz)
    x, mask = rows(SIZES[kind])
    x.requires_grad_()

    def total() -> torch.Tensor:
        return made.energy(x, made.weights(), mask).square().sum()

    varied = [x, *made.parameters()]
    gradients = torch.autograd.grad(total(), varied)
    generator, size = torch.Generator().manual_seed(2), 1e-6
    for values, gradient in zip(varied, gradients, strict=True):
        direction = torch.randn(values.shape, generator=generator, dtype=torch.float64)
        ends = []
        at = values.detach().clone()
        for sign in (1, -1):
            with torch.no_grad():
                values.copy_(at + sign * size * direction)
                ends.append(float(total()))
        with torch.no_grad():
            values.copy_(at)
        slope = (ends[0] - ends[1]) / (2 * size)
        assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-5, abs=1e-7)
        assert slope != 0


@pytest.mark.parametrize("kind", SIZES)
def test_members_of_a_stack_are_those_that_stand_alone(kind: str) -> None:
    stack = network(SIZES[kind], members=3)
    x, mask = rows(SIZES[kind], members=3)
    together = stack.energy(x, stack.weights(), mask)
    for k in range(3):
        alone = network(SIZES[kind], seed=9)
        alone.load_state_dict({name: value[k : k + 1] for name, value in stack.state_dict().items()})
        own = alone.energy(x[k : k + 1], alone.weights(), None if mask is None else mask[k : k + 1])
        assert torch.allclose(own[0], together[k], rtol=1e-12)
        moved = network(SIZES[kind], members=3)
        moved.load_state_dict(stack.state_dict())
        for _ in range(2):
            alone.power_step()
            moved.power_step()
        for name, value in alone.named_buffers():
            assert torch.allclose(moved.get_buffer(name)[k], value[0], rtol=1e-12), name


def test_what_is_in_empty_slots_changes_nothing() -> None:
    made = network(SETS)
    x, mask = rows(SETS, n=20)
    assert mask is not None
    weights = [w.detach() for w in made.weights()]
    other = torch.where(mask > 0, x, 1e3)
    assert torch.equal(made.energy(x * mask, weights, mask), made.energy(other, weights, mask))
    # an empty slot and a filled one with zeros are two things
    assert not torch.allclose(
        made.energy(x * mask, weights, mask), made.energy(x * mask, weights, torch.ones_like(mask))
    )
    other.requires_grad_()
    (gradient,) = torch.autograd.grad(made.energy(other, weights, mask).sum(), other)
    assert (gradient[mask == 0] == 0).all()


def test_empty_slots_that_are_appended_only_count_among_the_numbers() -> None:
    """The energy is a sum over what is there, divided by all numbers: a network of more slots, the further ones empty, gives the same sum."""
    few, many = SETS, Sizes(15, 3, 8, slots=5)
    small, large = network(few, lipschitz=0.0), network(many, lipschitz=0.0)
    with torch.no_grad():
        for old, new in zip(small.parameters(), large.parameters(), strict=True):
            if old.shape == new.shape:
                new.copy_(old)
        first, last = small.raw[0], small.raw[-1]
        large.raw[0][:, :12], large.raw[0][:, 15:19] = first[:, :12], first[:, 12:]
        large.raw[-1][..., :12] = last
        x, mask = rows(few, n=20)
        assert mask is not None
        more = torch.cat([x, torch.full((1, 20, 3), 7.0, dtype=torch.float64)], dim=-1)
        wider = torch.cat([mask, torch.zeros(1, 20, 3, dtype=torch.float64)], dim=-1)
        assert torch.allclose(
            15 * large.energy(more, large.weights(), wider), 12 * small.energy(x, small.weights(), mask), rtol=1e-12
        )
