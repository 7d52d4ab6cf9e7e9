"""Augmentations of jets: what each leaves as it is, what it changes, and jets that are empty or full."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from hunch.models.contrastive.jet_augmentations import (
    JetAugmentations,
    rotated,
    smeared,
    split,
    translated,
    wrapped,
)
from hunch.models.inputs import ScorerError

SLOTS = 11
FUNCTIONS: dict[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = {
    "rotated": rotated,
    "translated": translated,
    "split": split,
    "smeared": smeared,
    "first of the pair": lambda jets, generator: JetAugmentations().pair(jets, generator)[0],
    "second of the pair": lambda jets, generator: JetAugmentations().pair(jets, generator)[1],
}


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def jets(n: int = 400, *, wide: float = 0.3) -> torch.Tensor:
    """Return jets (n, 11, 3) in double precision, of 0 to 11 constituents, the filled slots first; the first is empty and the last full."""
    draw = generator(7)
    pt = 20 * torch.rand((n, SLOTS, 1), generator=draw, dtype=torch.float64) + 0.05
    angles = wide * torch.randn((n, SLOTS, 2), generator=draw, dtype=torch.float64).clamp(-2, 2)
    count = torch.randint(0, SLOTS + 1, (n, 1), generator=draw)
    count[0], count[-1] = 0, SLOTS
    return torch.where((torch.arange(SLOTS) < count)[..., None], torch.cat([pt, angles], dim=-1), 0.0)


def flow(x: torch.Tensor) -> torch.Tensor:
    """Return the sums of pT, pT eta, pT phi and pT times products of both (n, 6): what collinear splittings leave."""
    pt, eta, phi = x.unbind(dim=-1)
    return torch.stack([(pt * w).sum(dim=1) for w in (eta**0, eta, phi, eta**2, phi**2, eta * phi)], dim=1)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_jets_of_any_size_stay_jets(name: str, precision: torch.dtype) -> None:
    x = jets(wide=1.5).to(precision)
    before = x.clone()
    found = FUNCTIONS[name](x, generator())
    assert torch.equal(x, before)
    assert found.dtype == precision
    assert found.shape == x.shape
    assert torch.isfinite(found).all()
    assert (found[..., 0] >= 0).all()
    assert (found[found[..., 0] == 0] == 0).all()
    assert float(found[..., 2].abs().max()) <= math.pi + 1e-6
    assert torch.allclose(found[..., 0].sum(dim=1), x[..., 0].sum(dim=1), rtol=1e-5)
    assert (found[0] == 0).all()
    assert torch.equal(found, FUNCTIONS[name](x, generator()))
    assert not torch.equal(found, FUNCTIONS[name](x, generator(2)))


def test_a_rotation_leaves_pt_and_distances_from_the_axis_and_takes_all_angles() -> None:
    x = jets()
    found = rotated(x, generator())
    assert torch.equal(found[..., 0], x[..., 0])
    assert torch.allclose(torch.hypot(found[..., 1], found[..., 2]), torch.hypot(x[..., 1], x[..., 2]), atol=1e-12)
    # distances between constituents, and the sense of rotation
    assert torch.allclose(torch.cdist(found[-1, :, 1:], found[-1, :, 1:]), torch.cdist(x[-1, :, 1:], x[-1, :, 1:]))
    wedge = [a[-1, 0, 1] * a[-1, 1, 2] - a[-1, 0, 2] * a[-1, 1, 1] for a in (x, found)]
    assert float(wedge[0]) == pytest.approx(float(wedge[1]))
    some = x[:, 0, 0] > 0
    angle = torch.atan2(found[some, 0, 2], found[some, 0, 1]) - torch.atan2(x[some, 0, 2], x[some, 0, 1])
    turns = torch.remainder(angle, 2 * math.pi) / (2 * math.pi)
    assert float(turns.mean()) == pytest.approx(0.5, abs=0.06)
    assert float(turns.std()) == pytest.approx(1 / math.sqrt(12), abs=0.03)


def test_a_translation_leaves_distances_and_goes_as_far_as_a_jet_is_wide() -> None:
    x = jets(4000)
    found = translated(x, generator())
    assert torch.equal(found[..., 0], x[..., 0])
    filled = x[..., 0] > 0
    for i in (1, 2):
        moved = found[..., i] - x[..., i]
        first = moved[:, :1]
        assert torch.allclose(torch.where(filled, moved, first), first.expand_as(moved), atol=1e-12)
        inside = [torch.where(filled, x[..., i], sign * math.inf) for sign in (1, -1)]
        width = (inside[1].amax(dim=1) - inside[0].amin(dim=1))[filled.sum(dim=1) > 1]
        part = first[filled.sum(dim=1) > 1, 0] / width
        assert 0.95 < float(part.abs().max()) <= 1
        assert float(part.mean()) == pytest.approx(0, abs=0.04)
        assert float(part.std()) == pytest.approx(1 / math.sqrt(3), abs=0.03)


def test_a_translation_does_not_cross_the_edge_of_phi() -> None:
    x = jets()
    x[..., 2] = torch.where(x[..., 0] > 0, x[..., 2].clamp(-0.4, 0.4) + 2.7, 0.0)
    found = translated(x, generator())
    filled = x[..., 0] > 0
    spread = [(a[-1, :, 2].amax() - a[-1, :, 2].amin()) for a in (x, found)]
    assert float(spread[0]) == pytest.approx(float(spread[1]))
    assert float(found[..., 2][filled].max()) <= math.pi
    assert float(found[..., 2][filled].min()) > 1.0


def test_a_splitting_leaves_the_momentum_flow_and_fills_empty_slots() -> None:
    x = jets()
    found = split(x, generator())
    assert torch.allclose(flow(found), flow(x), rtol=1e-12, atol=1e-12)
    before, after = ((a[..., 0] > 0).sum(dim=1) for a in (x, found))
    assert torch.equal(after, before + torch.minimum(torch.minimum(before, SLOTS - before), torch.tensor(SLOTS // 2)))
    # each is split once at most: what is at one place is one or two
    places = found[:, :, None, 1:] == found[:, None, :, 1:]
    alike = (places.all(dim=-1) & (found[:, :, None, 0] > 0)).sum(dim=1)
    assert int(alike.max()) == 2
    # fractions are uniform, and it is not always the first ones
    one = torch.zeros(4000, 4, 3, dtype=torch.float64)
    one[:, 0] = torch.tensor([1.0, 0.2, -0.1])
    part = split(one, generator())[..., 0]
    assert float(part[:, 0].mean()) == pytest.approx(0.5, abs=0.02)
    assert float(part[:, 0].std()) == pytest.approx(1 / math.sqrt(12), abs=0.01)
    assert torch.allclose(part[:, :2].sum(dim=1), torch.ones((), dtype=torch.float64))
    many = x[(x[..., 0] > 0).sum(dim=1) == SLOTS - 1]
    chosen = (split(many, generator())[..., 0] < many[..., 0]).sum(dim=0)
    assert (chosen[:-1] > 0).all()
    assert int(chosen.sum()) == len(many)


def test_a_single_slot_cannot_be_split() -> None:
    assert torch.equal(split(jets()[:, :1], generator()), jets()[:, :1])


def test_a_smearing_is_wide_for_soft_constituents_alone() -> None:
    for pt, width in ((0.02, 1.0), (0.1, 1.0), (0.5, 0.2), (10.0, 0.01)):
        x = torch.zeros(2000, 2, 3, dtype=torch.float64)
        x[:, 0, 0] = pt
        moved = smeared(x, generator())
        assert float(moved[:, 0, 1].std()) == pytest.approx(width, rel=0.05)
        assert (moved[:, 1] == 0).all()
        assert torch.equal(moved[..., 0], x[..., 0])
    x[:, 0, 0] = 1.0
    assert float(smeared(x, generator(), scale=0.03)[:, 0, 2].std()) == pytest.approx(0.03, rel=0.05)


def test_azimuths_are_wrapped_by_whole_turns() -> None:
    phi = torch.tensor([0.1, 3.2, -3.2, 7.0, -100.0], dtype=torch.float64)
    found = wrapped(phi)
    assert (found.abs() <= math.pi).all()
    assert torch.allclose(found.cos(), phi.cos())
    assert torch.allclose(found.sin(), phi.sin())


def test_a_pair_is_made_of_what_is_asked_for() -> None:
    x = jets()
    nothing = {"rotation": False, "translation": False, "collinear": False, "soft": False}
    first, second = JetAugmentations(**nothing).pair(x, generator())
    assert torch.equal(first, x)
    assert torch.equal(second, x)
    made: dict[str, Any] = {name: JetAugmentations(**nothing | {name: True}).pair(x, generator()) for name in nothing}
    for name in ("collinear", "soft"):
        assert torch.equal(made[name][0], x)
        assert not torch.equal(made[name][1], x)
    for name in ("rotation", "translation"):
        assert not torch.equal(made[name][0], x)
        assert not torch.equal(made[name][0], made[name][1])
    # twice: as many as were there may be four times as many
    one = torch.zeros(5, 8, 3)
    one[:, 0, 0] = 1.0
    two = JetAugmentations(**nothing | {"collinear": True}).pair(one, generator())[1]
    assert (two[..., 0] > 0).sum(dim=1).tolist() == [4] * 5


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"rotation": 1}, "rotation is 1, allowed: true or false"),
        ({"soft_scale": -0.1}, "soft_scale is -0.1, allowed: 0 to 1 GeV"),
        ({"soft_scale": math.nan}, "soft_scale is nan, allowed: 0 to 1 GeV"),
        ({"soft_scale": 100}, "soft_scale is 100, allowed: 0 to 1 GeV"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ScorerError, match=told):
        JetAugmentations(**options)


def test_a_jet_without_empty_slots_has_splittings_in_spare_ones() -> None:
    full = jets(20)[:, :, :]
    full[..., 0] = full[..., 0].clamp(min=1.0)
    apart = {"rotation": False, "translation": False, "soft": False}
    generator = torch.Generator().manual_seed(1)
    _, same = JetAugmentations(**apart).pair(full, generator)
    torch.testing.assert_close(same, full)
    first, second = JetAugmentations(**apart, spare_slots=4).pair(full, generator)
    assert first.shape == second.shape == (20, full.shape[1] + 4, 3)
    torch.testing.assert_close(first[:, :-4], full)
    assert ((second[..., 0] > 0).sum(dim=1) == full.shape[1] + 4).all()
    torch.testing.assert_close(second[..., 0].sum(dim=1), full[..., 0].sum(dim=1))
    # nothing to split, nothing to spare
    none, _ = JetAugmentations(**apart, collinear=False, spare_slots=4).pair(full, generator)
    assert none.shape == full.shape
    with pytest.raises(ScorerError, match="spare_slots is -1, allowed: 0 to 1000"):
        JetAugmentations(spare_slots=-1)
