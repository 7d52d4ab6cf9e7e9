"""Augmentations of whole events: the sums that each keeps, what it may not make, and events that are empty or full."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from hunch.models.contrastive.event_augmentations import (
    EventAugmentations,
    EventLayout,
    added,
    angles_smeared,
    anomalous,
    as_objects,
    energies_smeared,
    shifted,
    split,
    turned,
)
from hunch.models.distance.clouds import EmptyImageError, NegativePixelError
from hunch.models.inputs import NonFiniteError, ScorerError, ShapeError

LAYOUT = EventLayout()
OBJECTS = {"electron": slice(1, 5), "muon": slice(5, 9), "jet": slice(9, 19)}
LEAST = {"electron": 3.0, "muon": 3.0, "jet": 15.0}
ETA = {"electron": 3.0, "muon": 2.1, "jet": 4.0}
FUNCTIONS: dict[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = {
    "turned": turned,
    "angles_smeared": lambda x, g: angles_smeared(x, LAYOUT, g),
    "energies_smeared": lambda x, g: energies_smeared(x, LAYOUT, g),
    "added": lambda x, g: added(x, LAYOUT, g),
    "split": lambda x, g: split(x, LAYOUT, g),
    "shifted": lambda x, g: shifted(x, LAYOUT, g),
    "second of the pair": lambda x, g: EventAugmentations(LAYOUT).pair(x, g)[1],
    "anomalous": lambda x, g: anomalous(x, LAYOUT, g),
}


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def events(n: int = 600, *, precision: torch.dtype = torch.float64) -> torch.Tensor:
    """Return events (n, 19, 3) within what is measured; the first is empty, the second holds MET alone, the last is full."""
    rng = np.random.default_rng(3)
    pt = rng.exponential(40.0, (n, 19)) + np.concatenate([[0.5], np.full(8, 3.0), np.full(10, 15.0)])
    bound = np.concatenate([[0.0], np.full(4, 2.95), np.full(4, 2.05), np.full(10, 3.95)])
    made = np.stack([pt, bound * rng.uniform(-1, 1, (n, 19)), rng.uniform(-np.pi, np.pi, (n, 19))], axis=-1)
    empty = rng.random((n, 19)) < 0.6
    empty[:, 0], empty[0], empty[1, 1:], empty[-1] = False, True, True, False
    made[empty] = 0.0
    return torch.from_numpy(made).to(precision)


def momentum(x: torch.Tensor, part: slice = slice(None)) -> torch.Tensor:
    """Return the vector sum (n, 2) of the transverse momenta of some slots."""
    pt, phi = x[:, part, 0], x[:, part, 2]
    return torch.stack([(pt * phi.cos()).sum(dim=1), (pt * phi.sin()).sum(dim=1)], dim=1)


def counts(x: torch.Tensor) -> torch.Tensor:
    """Return the number of electrons, muons and jets (n, 3)."""
    return torch.stack([(x[:, part, 0] > 0).sum(dim=1) for part in OBJECTS.values()], dim=1)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_events_of_any_size_stay_events(name: str, precision: torch.dtype) -> None:
    x = events(precision=precision)
    before = x.clone()
    found = FUNCTIONS[name](x, generator())
    assert torch.equal(x, before)
    assert found.dtype == precision
    assert found.shape == x.shape
    assert torch.isfinite(found).all()
    assert (found[..., 0] >= 0).all()
    assert (found[found[..., 0] == 0] == 0).all()
    assert float(found[..., 2].abs().max()) <= math.pi + 1e-6
    for kind, part in OBJECTS.items():
        assert float(found[:, part, 1].abs().max()) <= ETA[kind]
    assert (found[:, 0, 1] == 0).all()
    assert torch.equal(found, FUNCTIONS[name](x, generator()))
    assert not torch.equal(found, FUNCTIONS[name](x, generator(2)))


def test_a_turn_leaves_everything_but_the_common_azimuth() -> None:
    x = events()
    found = turned(x, generator())
    assert torch.equal(found[..., :2], x[..., :2])
    assert torch.allclose(momentum(found).norm(dim=1), momentum(x).norm(dim=1))
    between = [(a[-1, :, None, 2] - a[-1, None, :, 2]).cos() for a in (x, found)]
    assert torch.allclose(between[0], between[1])
    angle = torch.remainder(found[1:, 0, 2] - x[1:, 0, 2], 2 * math.pi)
    assert float(angle.mean()) == pytest.approx(math.pi, abs=0.25)
    assert float(angle.std()) == pytest.approx(2 * math.pi / math.sqrt(12), abs=0.15)


def test_angles_are_smeared_of_soft_objects_alone_and_never_of_met() -> None:
    for pt, width in ((10.0, 0.028), (24.5, 0.0278), (25.0, 0.014), (26.0, 0.0), (60.0, 0.0)):
        x = torch.zeros(3000, 19, 3, dtype=torch.float64)
        x[:, [0, 1, 9], 0] = pt
        found = angles_smeared(x, LAYOUT, generator())
        assert torch.equal(found[:, 0], x[:, 0])
        for slot in (1, 9):
            for i in (1, 2):
                assert float(found[:, slot, i].std()) == pytest.approx(width, rel=0.04, abs=1e-5)
        assert torch.equal(found[..., 0], x[..., 0])


def test_what_leaves_the_acceptance_is_removed() -> None:
    for slot, bound in ((1, 3.0), (5, 2.1), (9, 4.0)):
        x = torch.zeros(2000, 19, 3, dtype=torch.float64)
        x[:, slot] = torch.tensor([10.0, bound - 0.028, 1.0])
        found = angles_smeared(x, LAYOUT, generator())
        gone = found[:, slot, 0] == 0
        assert float(gone.double().mean()) == pytest.approx(0.1587, abs=0.025)
        assert (found[gone] == 0).all()


def test_energies_are_smeared_of_jets_alone_by_the_resolution() -> None:
    x = torch.zeros(4000, 19, 3, dtype=torch.float64)
    x[:, [0, 1, 5, 9, 10], 0] = torch.tensor([100.0, 100.0, 100.0, 100.0, 20.0]).double()
    found = energies_smeared(x, LAYOUT, generator())
    assert torch.equal(found[:, :9], x[:, :9])
    assert float(found[:, 9, 0].std()) == pytest.approx(math.sqrt(0.052 * 100**2 + 1.502 * 100), rel=0.03)
    assert float(found[:, 9, 0].mean()) == pytest.approx(100.0, rel=0.02)
    # at 1 GeV the width is 1.25: what falls below 0 is removed
    x[:, 9] = torch.tensor([1.0, 0.5, 1.0])
    small = energies_smeared(x, LAYOUT, generator())[:, 9]
    gone = small[:, 0] == 0
    assert float(gone.double().mean()) == pytest.approx(0.2112, abs=0.02)
    assert (small[gone] == 0).all()


def test_objects_are_added_at_a_constant_vector_sum() -> None:
    x = events()
    found = added(x, LAYOUT, generator())
    total = x[..., 0].sum(dim=1).clamp(min=1)
    assert float(((momentum(found) - momentum(x)).norm(dim=1) / total).max()) < 1e-12
    single = added(x.float(), LAYOUT, generator())
    after = single[..., 0].sum(dim=1).clamp(min=1)
    assert float(((momentum(single) - momentum(x.float())).norm(dim=1) / after).max()) < 1e-6
    # what was there stays, and what is new is within what is measured
    old = x[:, 1:, 0] > 0
    assert torch.equal(found[:, 1:][old], x[:, 1:][old])
    hardest = x[:, 1:, 0].amax(dim=1)
    for kind, part in OBJECTS.items():
        new = (found[:, part, 0] > 0) & (x[:, part, 0] == 0)
        pt = found[:, part, 0]
        assert float(pt[new].min()) >= LEAST[kind]
        assert (pt <= torch.clamp(hardest, min=LEAST[kind])[:, None])[new].all()
        assert float(found[:, part, 1][new].abs().max()) > 0.95 * ETA[kind]
    # nothing is added to what is full
    assert torch.equal(found[-1], x[-1])


def test_from_none_to_all_empty_slots_are_filled() -> None:
    x = torch.zeros(5000, 19, 3, dtype=torch.float64)
    x[:, [0, 9], 0] = 50.0
    found = counts(added(x, LAYOUT, generator()))
    assert torch.bincount(found[:, 0], minlength=5).double().numpy() == pytest.approx(np.full(5, 1000), abs=120)
    assert torch.bincount(found[:, 2] - 1, minlength=10).double().numpy() == pytest.approx(np.full(10, 500), abs=90)


def test_objects_are_split_at_constant_total_pt_and_met() -> None:
    x = events()
    found = split(x, LAYOUT, generator())
    assert torch.equal(found[:, 0], x[:, 0])
    for part in OBJECTS.values():
        assert torch.allclose(found[:, part, 0].sum(dim=1), x[:, part, 0].sum(dim=1), rtol=1e-12)
        assert torch.allclose(momentum(found, part), momentum(x, part), atol=1e-9)
    single = split(x.float(), LAYOUT, generator())
    assert torch.allclose(single[..., 0].sum(dim=1), x[..., 0].sum(dim=1).float(), rtol=1e-6)
    assert (counts(found) >= counts(x)).all()
    assert float((counts(found) > counts(x)).double().mean()) > 0.3
    # new objects stand where an old one of their kind is
    for part in OBJECTS.values():
        same = (found[:, part, None, 1:] == x[:, None, part, 1:]).all(dim=-1) & (x[:, None, part, 0] > 0)
        assert same.any(dim=2)[found[:, part, 0] > 0].all()
    assert torch.equal(found[-1], x[-1])


def test_parts_are_measurable_and_the_leading_lepton_still_fires_the_trigger() -> None:
    x = events(3000)
    found = split(x, LAYOUT, generator())
    for kind, part in OBJECTS.items():
        pt = found[:, part, 0]
        assert float(pt[pt > 0].min()) >= LEAST[kind] * (1 - 1e-12)
    leading = [a[:, 1:9, 0].amax(dim=1) for a in (x, found)]
    fires = leading[0] >= 23
    assert int(fires.sum()) > 1000
    assert (leading[1][fires] >= 23 * (1 - 1e-12)).all()
    assert (leading[1][fires] < leading[0][fires]).any()
    # what has too little for two stays whole
    soft = torch.zeros(50, 19, 3, dtype=torch.float64)
    soft[:, [1, 9], 0] = torch.tensor([5.9, 29.9]).double()
    assert torch.equal(split(soft, LAYOUT, generator()), soft)


def test_shares_are_those_of_a_flat_dirichlet_draw() -> None:
    x = torch.zeros(20_000, 19, 3, dtype=torch.float64)
    x[:, 9, 0] = 1500.0
    found = split(x, LAYOUT, generator())
    three = found[counts(found)[:, 2] == 3]
    shares = torch.sort(three[:, OBJECTS["jet"], 0], dim=1, descending=True).values[:, :3] - 15
    # means of the ordered shares of three: 11/18, 5/18, 2/18
    mean = (shares / shares.sum(dim=1, keepdim=True)).mean(dim=0)
    assert mean.numpy() == pytest.approx(np.array([11, 5, 2]) / 18, abs=0.01)
    # and no slot has more than another one
    unsorted = (three[:, 9:12, 0] - 15).mean(dim=0) / (1500 - 45)
    assert unsorted.numpy() == pytest.approx(np.full(3, 1 / 3), abs=0.02)


def test_shifts_are_of_met_of_the_others_or_of_everything() -> None:
    x = events(3000)[2:-1]
    found = shifted(x, LAYOUT, generator())
    assert torch.equal(found[..., 1:], x[..., 1:])
    met = found[:, 0, 0] / x[:, 0, 0]
    rest = found[:, 1:, 0].sum(dim=1) / x[:, 1:, 0].sum(dim=1).clamp(min=1e-9)
    some = x[:, 1:, 0].sum(dim=1) > 0
    only_met, only_rest = (some & (rest - 1).abs().lt(1e-9)), (some & (met == 1))
    everything = some & (met - rest).abs().lt(1e-9)
    assert (only_met.long() + only_rest.long() + everything.long())[some].eq(1).all()
    for kind, low in ((only_met, 0.5), (only_rest, 1.0), (everything, 1.0)):
        assert float(kind[some].double().mean()) == pytest.approx(1 / 3, abs=0.04)
        factor = met[kind] if kind is only_met else rest[kind]
        assert low <= float(factor.min()) < low + 0.1
        assert 4.9 < float(factor.max()) <= 5
    # within the others it is one factor
    own = (found[:, 1:, 0] / x[:, 1:, 0].clamp(min=1e-9))[only_rest]
    filled = x[only_rest, 1:, 0] > 0
    assert torch.allclose(own[filled], rest[only_rest][:, None].expand_as(own)[filled])


def test_each_event_gets_one_kind_of_anomaly() -> None:
    x = torch.zeros(3000, 19, 3, dtype=torch.float64)
    x[:, 0], x[:, 9] = torch.tensor([30.0, 0, 1.0]), torch.tensor([400.0, 0.5, 1.0])
    found = anomalous(x, LAYOUT, generator())
    more = counts(found).sum(dim=1) > 1
    met = (found[:, 0] != x[:, 0]).any(dim=1)
    # of two thirds with more objects almost all have some; MET moves where some are added
    assert float((more & met).double().mean()) == pytest.approx(1 / 3, abs=0.03)
    assert float((more & ~met).double().mean()) == pytest.approx(0.9 / 3, abs=0.03)
    assert float((~more & met).double().mean()) == pytest.approx(2 / 9, abs=0.03)
    only = anomalous(x, LAYOUT, generator(), kinds=("shifted",))
    assert (counts(only) == counts(x)).all()
    assert (only[..., 0].sum(dim=1) != 430).all()


def test_a_pair_is_made_of_what_is_asked_for() -> None:
    x = events()
    nothing = {"rotation": False, "smearing": False, "added": False, "split": False, "shifted": False}
    assert all(torch.equal(part, x) for part in EventAugmentations(LAYOUT, **nothing).pair(x, generator()))
    one = EventAugmentations(LAYOUT, **nothing | {"rotation": True, "split": True})
    first, second, third = one.triple(x, generator())
    assert torch.equal(first, x)
    assert torch.equal(second[..., :2], x[..., :2])
    assert not torch.equal(second, x)
    assert one.anomalies == ("split",)
    assert torch.allclose(third[:, 0, 0], x[:, 0, 0])
    smeared = EventAugmentations(LAYOUT, **nothing | {"smearing": True}).pair(x, generator())[1]
    assert torch.equal(smeared[:, 0], x[:, 0])
    assert not torch.equal(smeared[:, 9:, 0], x[:, 9:, 0])
    assert not torch.equal(smeared[:, 1:9, 1], x[:, 1:9, 1])


def test_another_layout_is_kept_to() -> None:
    small = EventLayout(electrons=0, muons=2, jets=3, jet_eta=1.0, lepton_pt=7.0)
    x = torch.zeros(500, 6, 3, dtype=torch.float64)
    x[:, 3] = torch.tensor([400.0, 0.2, 1.0])
    found = added(x, small, generator())
    muons, jets = found[:, 1:3], found[:, 3:]
    assert float(muons[..., 0][muons[..., 0] > 0].min()) >= 7
    assert float(muons[..., 1].abs().max()) > 1.9
    assert float(jets[..., 1].abs().max()) <= 1
    assert small.classes(x.device).tolist() == [0, 2, 2, 3, 3, 3]


def with_class(x: np.ndarray) -> np.ndarray:
    classes = np.repeat([1, 2, 3, 4], [1, 4, 4, 10])
    return np.concatenate([x, np.where(x[..., :1] > 0, classes[:, None], 0)], axis=2)


def test_events_with_or_without_classes_are_the_same() -> None:
    x = events().numpy()[2:]
    x = x[(x[:, 1:, 0] > 0).any(axis=1)]
    np.testing.assert_array_equal(as_objects(with_class(x), "x", LAYOUT), as_objects(x, "x", LAYOUT))
    # an empty slot has no angles
    x[0, 1:, 0] = 0
    x[0, 9] = 20, 1, 1
    assert (as_objects(x, "x", LAYOUT)[0, 1:9] == 0).all()


def changed(event: int, slot: int, number: int, value: float) -> np.ndarray:
    x = with_class(events().numpy()[-40:])
    x[event, slot, number] = value
    return x


@pytest.mark.parametrize(
    ("x", "error", "told"),
    [
        (events().numpy()[-5:, :18], ShapeError, r"allowed: \(19, 3\) of pT, eta, phi"),
        (np.zeros((4, 19, 5)), ShapeError, "slots are 1 of MET, 4 of electron, 4 of muon, 10 of jet"),
        (events().numpy()[:40], EmptyImageError, "2 of 40 events have no electron, muon or jet, first 0"),
        (changed(-1, 4, 1, np.nan), NonFiniteError, "NaN or infinity in 1 of 40"),
        (changed(-1, 4, 0, -2.0), NegativePixelError, "1 of 40 events have an object of pT below 0, first 39: -2"),
        (changed(-1, 4, 3, 0), ScorerError, r"first event 39: slot 4 of pT .* has class 0, allowed: 2 \(electron\)"),
        (changed(-1, 4, 0, 0.0), ScorerError, "slot 4 of pT 0 has class 2, allowed: 0, an empty slot"),
        (changed(-1, 9, 3, 3), ScorerError, r"slot 9 of pT .* has class 3, allowed: 4 \(jet\)"),
    ],
)
def test_what_is_no_event_is_refused(x: np.ndarray, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        as_objects(x, "x", LAYOUT)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"electrons": -1}, "electrons is -1, allowed: 0 or more"),
        ({"jets": 2.0}, "jets is 2.0; a whole number"),
        ({"electrons": 0, "muons": 0, "jets": 0}, "electrons, muons and jets are 0"),
        ({"jet_eta": 0}, "jet_eta is 0, allowed: a finite number above 0"),
        ({"lepton_pt": math.inf}, "lepton_pt is inf, allowed: a finite"),
    ],
)
def test_layouts_that_mean_nothing_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ScorerError, match=told):
        EventLayout(**options)


def test_switches_are_true_or_false() -> None:
    with pytest.raises(ScorerError, match="split is 'no', allowed: true or false"):
        EventAugmentations(LAYOUT, split="no")  # type: ignore[arg-type]
