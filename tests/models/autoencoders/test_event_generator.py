"""The generator of events: draws of the information buffer, physical events and what is counted of them, windows, mixtures, and the same events whatever the threads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hunch.models import EventVae, NotFittedError, Sample, ScorerError, ShapeError
from hunch.models.autoencoders import event_generator
from hunch.models.autoencoders.event_coordinates import EventCoordinates
from hunch.models.autoencoders.event_generator import EventGenerator, LatentBuffer, Physicality
from hunch.models.autoencoders.event_layout import EventLayout, window_of
from hunch.models.train.threads import side_by_side

SLOTS = 7
OPTIONS: dict[str, Any] = {"max_epochs": 10, "latent": 6, "hidden": 32, "blocks": 1, "batch_size": 64, "device": "cpu"}
OPTIONS |= {"learning_rate": 4e-3, "patience": 40}
SETTINGS = {
    "layout": "list",
    "min_lepton_pt": 15.0,
    "min_jet_pt": 20.0,
    "min_photon_pt": 20.0,
    "electron_eta": 2.7,
    "muon_eta": 2.7,
    "jet_eta": 2.8,
    "photon_eta": 2.37,
}


def events(n: int, seed: int = 0, *, hard: float = 1.0) -> np.ndarray:
    """Events (n, 7, 5) of missing momentum and up to 6 objects by falling pT."""
    rng = np.random.default_rng(seed)
    pt = np.sort(25 * hard * np.exp(rng.exponential(0.7, (n, SLOTS))), axis=1)[:, ::-1].copy()
    pt[:, 0] = rng.exponential(60 * hard, n) + 1
    filled = np.arange(SLOTS) <= rng.integers(1, SLOTS, n)[:, None]
    eta, phi = rng.uniform(-2.3, 2.3, (n, SLOTS)), rng.uniform(-np.pi, np.pi, (n, SLOTS))
    eta[:, 0] = 0
    category = rng.choice([1, 2, 3, 6, 7], size=(n, SLOTS))
    category[:, 0] = 0
    mass = np.where((category == 1) & (np.arange(SLOTS) > 0), rng.exponential(0.1, (n, SLOTS)), 0)
    energy = pt * np.cosh(eta) * np.exp(mass)
    return np.where(filled[..., None], np.stack([pt, eta, phi, energy, category], axis=-1), 0.0)


@pytest.fixture(scope="module")
def vae() -> EventVae:
    made = {"representation": "objects", "settings": SETTINGS}
    x = Sample(events(800)[:, None], names=("objects",), made=made)
    return EventVae(**OPTIONS, beta=1e-5, buffer=500).fit(x)


def test_draws_have_the_variance_of_the_formula() -> None:
    rng = np.random.default_rng(1)
    buffer = LatentBuffer(rng.normal(0, [1, 2, 0.3], (400, 3)), rng.uniform(0.1, 0.5, (400, 3)))
    for alpha, gamma in ((1.0, 0.05), (0.5, 0.0), (0.0, 0.4), (2.0, 0.3)):
        expected = buffer.mean.var(axis=0) + ((alpha * buffer.sigma + gamma) ** 2).mean(axis=0)
        np.testing.assert_allclose(buffer.variance(alpha=alpha, gamma=gamma), expected)
        found = buffer.draws(400 * 500, alpha=alpha, gamma=gamma, seed=2).var(axis=0)
        np.testing.assert_allclose(found, expected, rtol=0.02)


def test_entries_come_one_after_another_in_an_order_of_the_seed() -> None:
    buffer = LatentBuffer(np.arange(30.0).reshape(10, 3), np.ones((10, 3)))
    drawn = buffer.draws(40_000, alpha=0.0, gamma=0.0, seed=5)
    np.testing.assert_array_equal(np.unique(drawn[:, 0], return_counts=True)[1], 4000)
    np.testing.assert_array_equal(drawn[:10], drawn[10:20])  # across chunks too
    np.testing.assert_array_equal(drawn[16_380:16_390], drawn[0:10])
    assert not np.array_equal(buffer.draws(10, alpha=0.0, gamma=0.0, seed=6), drawn[:10])
    np.testing.assert_array_equal(buffer.draws(7, seed=5), buffer.draws(20_000, seed=5)[:7])


def test_weights_are_how_often_an_entry_is_drawn() -> None:
    buffer = LatentBuffer(np.array([[0.0], [1.0], [2.0]]), np.full((3, 1), 0.5))
    modified = buffer.reweighted(lambda mean: mean[:, 0] + 1).reweighted(lambda mean: (mean[:, 0] > 0).astype(float))
    drawn = modified.draws(60_000, alpha=0.0, gamma=0.0, seed=1)[:, 0]
    np.testing.assert_allclose([(drawn == k).mean() for k in range(3)], [0, 0.4, 0.6], atol=0.01)
    np.testing.assert_allclose(modified.variance(alpha=1.0, gamma=0.1), 0.24 + 0.36)


def test_mixtures_and_points_between() -> None:
    first = LatentBuffer(np.zeros((5, 2)), np.ones((5, 2)))
    second = LatentBuffer(np.full((3, 2), 4.0), np.full((3, 2), 3.0))
    drawn = first.mixed(second, 0.25).draws(40_000, alpha=0.0, gamma=0.0)[:, 0]
    assert abs((drawn == 4).mean() - 0.25) < 0.01
    half = first.between(second, 50, part=0.25)
    np.testing.assert_allclose([half.mean, half.sigma], [np.ones((50, 2)), np.full((50, 2), 1.5)])
    uniform = first.between(second, 4000, seed=1).mean[:, 0]
    assert abs(uniform.mean() - 2) < 0.1
    assert abs(uniform.std() - 4 / np.sqrt(12)) < 0.05
    with pytest.raises(ShapeError, match="buffers of 2 and 3 latent dimensions"):
        first.mixed(LatentBuffer(np.zeros((1, 3)), np.ones((1, 3))), 0.5)
    with pytest.raises(ScorerError, match=r"share is 1\.5, allowed: 0 to 1"):
        first.mixed(second, 1.5)
    with pytest.raises(ScorerError, match="part is -1, allowed: 0 to 1, or None"):
        first.between(second, 3, part=-1)


@pytest.mark.parametrize(
    ("mean", "sigma", "weight", "told"),
    [
        (np.zeros((3, 2)), np.zeros((3, 1)), None, r"means \(3, 2\) and sigmas \(3, 1\)"),
        (np.zeros((0, 2)), np.zeros((0, 2)), None, r"\(events, latent\) both are expected"),
        (np.full((3, 2), np.nan), np.zeros((3, 2)), None, "finite numbers, and no sigma is below 0"),
        (np.zeros((3, 2)), np.full((3, 2), -1.0), None, "no sigma is below 0"),
        (np.zeros((3, 2)), np.ones((3, 2)), [1, 2], r"weights \(2,\) of 3 entries"),
        (np.zeros((3, 2)), np.ones((3, 2)), [0, 0, 0], "not all of them 0"),
    ],
)
def test_buffers_that_are_none_are_refused(mean: Any, sigma: Any, weight: Any, told: str) -> None:
    with pytest.raises(ScorerError, match=told):
        LatentBuffer(mean, sigma, weight)


def test_without_smearing_the_reconstructed_events_come_out(vae: EventVae) -> None:
    x = events(50, seed=3)
    z = vae.latent_means(x)
    expected = vae.decode(z)
    plain = replace(EventLayout.of(vae.coordinates_, {}), groups=(0, 1, SLOTS))  # type: ignore[arg-type]
    decoder = event_generator.EventDecoder(vae.network_, vae.coordinates_, plain)  # type: ignore[arg-type]
    found = decoder.events(z.astype(np.float32))[0]
    expected[..., 3] = np.maximum(expected[..., 3], expected[..., 0] * np.cosh(expected[..., 1]))
    order = np.argsort(-expected[:, 1:, 0], axis=1, kind="stable") + 1
    expected[:, 1:] = np.take_along_axis(expected, order[..., None], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    # of the buffer, which is of the training
    buffer = vae.buffer_
    assert buffer is not None
    made = EventGenerator(vae=vae, alpha=0.0, gamma=0.0).generate(500, seed=1).events
    again = {tuple(event.ravel().round(2)) for event in EventGenerator(vae=vae, alpha=0, gamma=0).generate(1500).events}
    assert {tuple(event.ravel().round(2)) for event in made} == again


def test_generated_events_are_physical(vae: EventVae) -> None:
    generator = EventGenerator(vae=vae, gamma=0.3)
    found = generator.generate(20_000, seed=4)
    made, counts = found.events, found.physicality
    assert made.shape == (20_000, SLOTS, 5)
    assert made.dtype == np.float32
    objects = made[:, 1:]
    there = objects[..., 0] > 0
    assert there.any(axis=1).all()
    assert (np.diff(objects[..., 0], axis=1) <= 0).all()
    assert (made[..., 3] >= made[..., 0] * np.cosh(made[..., 1].astype(float)) * (1 - 1e-5)).all()
    jet = np.isin(objects[..., 4], [1, 2])
    assert (objects[jet, 0] > 20).all()
    assert (np.abs(objects[jet, 1]) < 2.8).all()
    assert (np.abs(objects[objects[..., 4] == 7, 1]) < 2.37).all()
    assert (np.abs(made[..., 2]) <= np.float32(np.pi)).all()
    assert not objects[~there].any()
    assert (made[:, 0, 4] == 0).all()
    assert np.isfinite(vae.score(made.astype(float))).all()
    assert counts.events == 2 * 16_384
    assert min(counts.unordered, counts.below_momentum, counts.outside) > 0
    assert counts.rejected == 0
    assert set(counts.shares()) == {"unordered", "below_momentum", "outside", "empty", "rejected"}


def test_what_is_wrong_is_counted_before_it_is_put_right() -> None:
    from hunch.models.autoencoders.event_physics import physical_events

    # one slot of missing momentum, three of a list; ln pT, eta, cos, sin, ln(E/p) each, then indicators of empty and jet
    def row(*objects: tuple[float, float, float, float]) -> np.ndarray:
        numbers = [np.log(30), 0, 1, 0, 0]
        marks: list[float] = []
        for pt, eta, above, there in objects:
            numbers += [np.log(pt), eta, 0, 2, above]
            marks += [1 - there, there]
        return np.array([*numbers, *marks], dtype=np.float32)

    rows = np.stack(
        [
            row((50, 0, 0.1, 1), (40, 0.5, 0, 1), (30, 0, 0, 0)),  # as it should be
            row((40, 0, 0.1, 1), (50, 0.5, 0, 1), (30, 0, 0, 0)),  # out of order
            row((50, 0, -0.1, 1), (40, 0, 0, 1), (30, 5, 0, 1)),  # E below p, and one outside
            row((50, 0, 0, 0), (40, 0, 0, 1), (30, 0, 0, 1)),  # a gap
            row((10, 0, 0, 1), (40, 0, 0, 0), (30, 0, 0, 0)),  # too soft, so nothing left
        ]
    )
    found, good, counts = np.empty((5, 4, 5), dtype=np.float32), np.zeros(5, dtype=bool), np.zeros(6, dtype=np.int64)
    least, edge = np.full((4, 8), 20, dtype=np.float32), np.full((4, 8), 2.8, dtype=np.float32)
    marks = 20 + np.array([0, 0, 2, 4, 6])
    category, fixed = np.array([0, 1, 0, 1, 0, 1]), np.zeros(4, dtype=np.int64)
    always = np.array([True, False, False, False])
    physical_events(rows, marks, category, always, fixed, np.array([0, 1, 4]), least, edge, found, good, counts)
    assert Physicality(*counts.tolist()) == Physicality(
        events=5, objects=10, unordered=2, below_momentum=1, outside=2, empty=1
    )
    np.testing.assert_allclose(
        found[:, 1:, 0], [[50, 40, 0], [50, 40, 0], [50, 40, 0], [40, 30, 0], [0, 0, 0]], rtol=1e-6
    )
    np.testing.assert_allclose(found[0, 1], [50, 0, np.pi / 2, 50 * np.exp(0.1), 1], rtol=1e-6)
    np.testing.assert_allclose(found[1, 1], [50, 0.5, np.pi / 2, 50 * np.cosh(0.5), 1], rtol=1e-6)
    np.testing.assert_allclose(found[2, 1, 3], 50, rtol=1e-6)
    np.testing.assert_array_equal(good, [True, True, True, True, False])
    np.testing.assert_allclose(found[4, 0, [0, 3]], 30, rtol=1e-6)
    assert Physicality(1, 2, 3) + Physicality(events=4, rejected=5) == Physicality(5, 2, 3, rejected=5)


def test_the_same_events_whatever_the_threads(vae: EventVae, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = EventGenerator(vae=vae)
    expected = generator.generate(40_000, seed=7).events
    monkeypatch.setattr(event_generator, "allowed_threads", lambda limit: min(limit, 3))
    before = torch.get_num_threads()
    np.testing.assert_array_equal(generator.generate(40_000, seed=7).events, expected)
    assert torch.get_num_threads() == before
    np.testing.assert_array_equal(generator.generate(100, seed=7).events, expected[:100])
    assert not np.array_equal(generator.generate(100, seed=8).events, expected[:100])
    sizes = [len(chunk.events) for chunk in generator.stream(40_000, seed=7)]
    assert sum(sizes) == 40_000
    assert len(sizes) == 3


def test_pieces_side_by_side_have_torch_with_one_thread() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = side_by_side(lambda number: (number, torch.get_num_threads()), threads=2)
        assert [next(found) for _ in range(9)] == [(number, 1) for number in range(9)]
        assert torch.get_num_threads() == 2
        found.close()  # type: ignore[attr-defined]
    finally:
        torch.set_num_threads(before)


def test_events_of_a_window_lie_in_it_and_are_not_copies_of_few(vae: EventVae) -> None:
    lowest = float(np.quantile(EventGenerator(vae=vae, gamma=0).generate(500).events[:, 0, 0], 0.8))
    generator = EventGenerator(vae=vae, where={"met": (lowest, np.inf), "n_jet": (1, np.inf)})
    assert 20 < len(generator.drawn_around) < 250
    found = generator.generate(3000, seed=2)
    assert len(found.events) == 3000
    assert (found.events[:, 0, 0] >= lowest).all()
    assert (np.isin(found.events[:, 1:, 4], [1, 2]).sum(axis=1) >= 1).all()
    assert found.physicality.rejected > 0
    # entries near the window are drawn around too, not those in it alone
    means = generator.decoder.events(generator.drawn_around.mean.astype(np.float32))[0]
    assert (means[:, 0, 0] < lowest).any()


@pytest.mark.parametrize(
    ("where", "told"),
    [
        (
            {"met": (1e5, 2e5)},
            r"where: met=100000:200000: none of the 500 events of the buffer lies in or near; their met is",
        ),
        ({"met": (200, 100)}, "where: met: 200 to 100; two numbers are expected, the lower one first"),
        ({"met": 3}, "where: met: 3; two numbers"),
        ({"mass": (0, 1)}, "no quantity 'mass' of an event; allowed: met, ht, n_objects"),
        ({"dphi_1": (0, 1)}, "no quantity 'dphi_1'"),
        ({"pt_jet_0": (0, 1)}, "jet_0: objects are counted from 1"),
        ({"pt_9": (0, 1)}, "no event of the buffer has one"),
    ],
)
def test_windows_that_cannot_be_are_refused(vae: EventVae, where: Any, told: str) -> None:
    with pytest.raises(ScorerError, match=told):
        EventGenerator(vae=vae, where=where)


def test_a_window_that_no_draw_hits_ends(vae: EventVae, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_generator, "HOPELESS", 30_000)
    met = float(np.median(EventGenerator(vae=vae).generate(500).events[:, 0, 0]))
    generator = EventGenerator(vae=vae, where={"met": (met, met + 1e-7)})
    with pytest.raises(ScorerError, match="where: of 32768 draws none is an event with met="):
        generator.generate(5)


def test_quantities_of_events() -> None:
    x = np.zeros((2, 5, 5))
    x[0, :4] = [[80, 0, 3.0, 80, 0], [60, 1, -3.0, 0, 5], [50, -1, 1, 0, 1], [40, 0.5, 0, 0, 2]]
    x[1, :2] = [[10, 0, 0, 10, 0], [30, 0, 1, 0, 7]]
    coordinates = EventCoordinates.of(x)
    layout = EventLayout.of(coordinates, {})
    assert layout.groups == (0, 1, 5)
    expected = {
        "met": [80, 10],
        "ht": [90, 0],
        "n_objects": [3, 1],
        "n_jet": [2, 0],
        "n_b": [1, 0],
        "n_mu": [1, 0],
        "pt_2": [50, np.nan],
        "pt_jet_2": [40, np.nan],
        "pt_photon_1": [np.nan, 30],
        "eta_b_1": [0.5, np.nan],
        "dphi_met_1": [2 * np.pi - 6, 1],
        "dphi_jet_1_jet_2": [1, np.nan],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(layout.quantity(x, name), values, err_msg=name)


def test_classes_have_their_slots_and_their_acceptance() -> None:
    settings = {**SETTINGS, "layout": "classes", "max_electrons": 1, "max_muons": 0, "max_jets": 3, "max_photons": 0}
    x = events(300)[:, :5, :3]
    vae = EventVae(**{**OPTIONS, "max_epochs": 1}, buffer=100).fit(
        Sample(x[:, None], names=("objects",), made={"representation": "objects", "settings": settings})
    )
    generator = EventGenerator(vae=vae, gamma=0.5)
    assert generator.layout.groups == (0, 1, 2, 5)
    made = generator.generate(500).events
    assert (np.diff(made[:, 2:, 0], axis=1) <= 0).all()
    lepton, jet = made[:, 1, 0], made[:, 2:, 0]
    assert (lepton < jet[:, 0]).any()  # classes have an order of their own
    assert jet[jet > 0].min() > 20
    assert generator.layout.least[:, 0].tolist() == [0, 15, 20, 20, 20]
    assert generator.layout.edge[1:, 0].tolist() == [2.7, 2.8, 2.8, 2.8]
    assert (generator.layout.quantity(made, "pt_1") == np.maximum(lepton, jet[:, 0])).all()
    np.testing.assert_allclose(generator.layout.quantity(made, "ht"), jet.sum(axis=1), rtol=1e-6)
    with pytest.raises(ScorerError, match="mu: no class of these events; they have e, jet"):
        generator.layout.quantity(made, "n_mu")
    with pytest.raises(ScorerError, match="settings of 6 slots, the events have 5"):
        EventLayout.of(
            generator.vae.coordinates_, {"representation": "objects", "settings": {**settings, "max_jets": 4}}
        )  # type: ignore[arg-type]
    with pytest.raises(ScorerError, match="no settings of the representation objects"):
        EventLayout.of(generator.vae.coordinates_, {"representation": "objects", "settings": {"layout": "classes"}})  # type: ignore[arg-type]


def test_codes_of_other_events_are_a_buffer(vae: EventVae) -> None:
    other = events(40, seed=9, hard=2.0)
    buffer = LatentBuffer.of(vae, other)
    np.testing.assert_array_equal(buffer.mean, vae.latent_means(other))
    np.testing.assert_array_equal(buffer.sigma, vae.latent_sigmas(other))
    assert EventGenerator(vae=vae, buffer=buffer).generate(100).events.shape == (100, SLOTS, 5)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"alpha": -1}, "alpha is -1, allowed: a number from 0 on"),
        ({"gamma": float("nan")}, "gamma is nan"),
        ({"gamma": True}, "gamma is True"),
        ({"buffer": LatentBuffer(np.zeros((1, 2)), np.ones((1, 2)))}, "buffer of 2 dimensions, the latent space has 6"),
    ],
)
def test_options_that_mean_nothing_are_refused(vae: EventVae, options: Any, told: str) -> None:
    with pytest.raises(ScorerError, match=told):
        EventGenerator(vae=vae, **options)


def test_a_vae_without_buffer_or_training_is_refused() -> None:
    with pytest.raises(NotFittedError):
        EventGenerator(vae=EventVae())
    plain = EventVae(**{**OPTIONS, "max_epochs": 1}).fit(events(150))
    with pytest.raises(ScorerError, match=r"trained without a buffer .*; train it with buffer=N"):
        EventGenerator(vae=plain)
    assert EventGenerator(vae=plain, buffer=LatentBuffer.prior(6)).generate(5).events.shape == (5, SLOTS, 5)


def test_a_slot_of_one_category_has_it_and_rare_events_without_missing_momentum_do_not_empty_all() -> None:
    x = events(300)
    x[:, 1, 4] = 2
    x[3, 0] = 0
    coordinates = EventCoordinates.of(x)
    back = coordinates.events(coordinates.rows(x))
    np.testing.assert_array_equal(back[:, 1, 4], 2)
    np.testing.assert_allclose(np.delete(back[:, 0, 0], 3), np.delete(x[:, 0, 0], 3))


def test_windows_are_written_as_they_are_read() -> None:
    assert str(window_of("met", ("200", "inf"))) == "met=200:inf"
    np.testing.assert_array_equal(
        window_of("met", (1, 2)).inside(np.array([0.9, 1, 2, 2.1, np.nan])), [False, True, True, False, False]
    )
