"""Autoencoders of whole events: coordinates there and back, loss and scores against the formulas, padding, and what beta does to the latent space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hunch.models import EventAutoencoder, EventVae, Sample, ScorerError, load_scorer
from hunch.models.autoencoders.event_coordinates import EventCoordinates, as_events
from hunch.models.autoencoders.event_network import EventSizes, StackedEventCoder, squared_error
from hunch.models.distance.clouds import EmptyImageError, NegativePixelError
from hunch.models.inputs import NonFiniteError, ShapeError, UnknownMetricError
from hunch.models.storage import write_folder

OPTIONS: dict[str, Any] = {"max_epochs": 3, "latent": 3, "hidden": 16, "blocks": 1, "batch_size": 64, "device": "cpu"}
SLOTS = 7


def events(n: int, seed: int = 0, *, energies: bool = True, hard: float = 1.0) -> np.ndarray:
    """Events (n, 7, 5) of missing momentum and up to 6 objects by falling pT, or (n, 7, 3); hard: of all momenta."""
    rng = np.random.default_rng(seed)
    pt = np.sort(20 * hard * np.exp(rng.exponential(1.0, (n, SLOTS))), axis=1)[:, ::-1].copy()
    filled = np.arange(SLOTS) <= rng.integers(1, SLOTS, n)[:, None]
    eta, phi = rng.normal(0, 1.2, (n, SLOTS)), rng.uniform(-np.pi, np.pi, (n, SLOTS))
    eta[:, 0] = 0
    category = rng.choice([1, 2, 5, 7], size=(n, SLOTS))
    category[:, 0] = 0
    mass = np.where(category == 1, rng.exponential(0.1, (n, SLOTS)), 0)
    mass[:, 0] = 0
    energy = pt * np.cosh(eta) * np.exp(mass)
    parts = [pt, eta, phi, energy, category] if energies else [pt, eta, phi]
    return np.where(filled[..., None], np.stack(parts, axis=-1), 0.0)


@pytest.fixture(scope="module")
def plain() -> EventVae:
    return EventVae(**OPTIONS, buffer=40).fit(events(300))


@pytest.mark.parametrize("energies", [True, False])
def test_rows_tell_the_events_that_they_were_made_of(energies: bool) -> None:
    x = events(400, energies=energies)
    coordinates = EventCoordinates.of(as_events(x, "x"))
    rows = coordinates.rows(x)
    assert rows.shape == (400, coordinates.width)
    assert coordinates.width == SLOTS * ((5 + 8) if energies else (4 + 1)) + 1
    np.testing.assert_allclose(coordinates.events(rows), x, rtol=1e-9, atol=1e-9)


def test_numbers_of_filled_slots_have_zero_mean_and_unit_variance() -> None:
    x = events(2000)
    coordinates = EventCoordinates.of(x)
    rows, counted = coordinates.rows(x), coordinates.counted(x)
    number = 2 * 5  # ln pT of slot 2
    own = rows[counted[:, number], number]
    np.testing.assert_array_equal(counted[:, number], x[:, 2, 0] > 0)
    assert abs(own.mean()) < 1e-9
    assert abs(own.std() - 1) < 1e-9
    assert not rows[~counted[:, number], number].any()
    # the missing momentum has eta 0 and no energy beside it: constants, which no loss counts
    assert not coordinates.counted()[[1, 4]].any()
    np.testing.assert_allclose(rows[:, -1], (6 - (x[:, 1:, 0] == 0).sum(axis=1) + 1 - 4.5) / 1.7, atol=0.2)


def test_the_loss_is_that_of_the_paper() -> None:
    network = StackedEventCoder(1, EventSizes(9, latent=4, hidden=8, blocks=1), seed=0, beta=0.2)
    rows, counted = torch.randn(1, 6, 9), (torch.rand(1, 6, 9) > 0.4).float()
    counted[..., 0] = 1
    found = network.losses(torch.cat([rows, counted], dim=-1), generator=torch.Generator().manual_seed(1), progress=0.5)
    mu, log_sigma = network.encode(rows)
    assert log_sigma is not None
    draw = torch.randn(mu.shape, generator=torch.Generator().manual_seed(1))
    made = network.decode(mu + log_sigma.exp() * draw)
    for event in range(6):
        kept = counted[0, event] > 0
        mse = ((made - rows)[0, event][kept] ** 2).mean()
        kl = torch.distributions.kl_divergence(
            torch.distributions.Normal(mu[0, event], log_sigma[0, event].exp()), torch.distributions.Normal(0.0, 1.0)
        ).sum()
        torch.testing.assert_close(found[0, event], 0.8 * mse + 0.2 * kl)


def test_scores_are_those_of_the_formulas(plain: EventVae) -> None:
    x = events(20, seed=5)
    scores = plain.score_each(x, plain.metrics)
    mu, sigma = plain.latent_means(x), plain.latent_sigmas(x)
    np.testing.assert_allclose(scores["radius"], np.sqrt((mu**2).sum(axis=1)))
    np.testing.assert_allclose(scores["sigma_radius"], np.sqrt((mu**2 / sigma**2).sum(axis=1)))
    kl = (0.5 * (mu**2 + sigma**2 - 1) - np.log(sigma)).sum(axis=1)
    np.testing.assert_allclose(scores["kl"], kl)
    np.testing.assert_allclose(scores["loss"], (1 - 1e-3) * scores["reconstruction"] + 1e-3 * kl)
    network, coordinates = plain.network_, plain.coordinates_
    assert network is not None
    assert coordinates is not None
    made = network.decode(torch.from_numpy(mu)[None])[0].numpy()
    rows, counted = coordinates.rows(x), coordinates.counted(x)
    for event in range(20):
        kept = counted[event]
        assert scores["reconstruction"][event] == pytest.approx(((made - rows)[event, kept] ** 2).mean())
    np.testing.assert_array_equal(plain.score(x), scores["loss"])


def test_padding_that_is_masked_is_not_counted() -> None:
    x = events(300)
    masked, whole = (EventAutoencoder(**OPTIONS, mask_padding=mask).fit(x) for mask in (True, False))
    for scorer in (masked, whole):
        network, coordinates = scorer.network_, scorer.coordinates_
        assert network is not None
        assert coordinates is not None
        rows = torch.from_numpy(coordinates.rows(x))[None]
        everything = torch.from_numpy(np.broadcast_to(coordinates.counted(), rows[0].shape).astype(float))[None]
        error = squared_error(network.decode(network.encode(rows)[0]), rows, everything)[0].numpy()
        agree = np.allclose(error, scorer.score(x))
        assert agree == (scorer is whole)


def test_an_event_far_from_all_others_is_anomalous(plain: EventVae) -> None:
    usual, hard = events(200, seed=7), events(200, seed=8, hard=30.0)
    for metric in plain.metrics:
        assert np.median(plain.score(hard, metric=metric)) > np.median(plain.score(usual, metric=metric))
    auto = EventAutoencoder(**OPTIONS).fit(events(300))
    assert np.median(auto.score(hard)) > np.median(auto.score(usual))


def test_the_latent_variance_rises_with_beta_to_that_of_the_prior() -> None:
    x = events(300)
    options = OPTIONS | {"max_epochs": 8, "learning_rate": 5e-3}
    sigmas = [np.mean(EventVae(**options, beta=beta).fit(x).latent_sigmas(x) ** 2) for beta in (0.0, 1e-2, 1e-1, 1.0)]
    assert 4 * sigmas[0] < sigmas[1] < 0.5 * sigmas[2]
    assert sigmas[2] < sigmas[3]
    assert sigmas[3] == pytest.approx(1, abs=0.02)


def test_a_pure_kl_puts_every_event_at_the_middle() -> None:
    x = events(300)
    scorer = EventVae(**OPTIONS | {"max_epochs": 8, "learning_rate": 5e-3}, beta=1.0).fit(x)
    assert np.sqrt((scorer.latent_means(x) ** 2).mean()) < 0.05


def test_saved_and_loaded_is_the_same_with_its_buffer(plain: EventVae, tmp_path: Path) -> None:
    plain.save(tmp_path / "vae")
    loaded = load_scorer(tmp_path / "vae")
    assert isinstance(loaded, EventVae)
    x = events(50, seed=9)
    for metric in plain.metrics:
        np.testing.assert_array_equal(loaded.score(x, metric=metric), plain.score(x, metric=metric))
    assert loaded.buffer_ is not None
    assert plain.buffer_ is not None
    for own, other in zip(loaded.buffer_, plain.buffer_, strict=True):
        assert own.shape == (40, 3)
        np.testing.assert_array_equal(own, other)
    np.testing.assert_array_equal(loaded.sample(5, seed=1), plain.sample(5, seed=1))


def test_the_buffer_holds_codes_of_training_events() -> None:
    x, held = events(150), events(30, seed=3)
    scorer = EventVae(**OPTIONS, buffer=200).fit(x, validation=held)
    assert scorer.buffer_ is not None
    np.testing.assert_allclose(scorer.buffer_[0], scorer.latent_means(x), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(scorer.buffer_[1], scorer.latent_sigmas(x), rtol=1e-6)


def test_what_was_trained_on_is_known(plain: EventVae) -> None:
    hashes = np.arange(300, dtype=np.uint64)
    scorer = EventVae(**OPTIONS).fit(Sample(events(300), event=hashes))
    np.testing.assert_array_equal(scorer.trained_on, hashes)
    assert not len(plain.trained_on)


def broken(change: Any) -> np.ndarray:
    x = events(120)
    change(x)
    return x


@pytest.mark.parametrize(
    ("x", "error", "told"),
    [
        (broken(lambda x: x.__setitem__((3, 0, 0), -1.0)), NegativePixelError, "1 of 120 events .* below 0, first event 3, slot 0"),
        (broken(lambda x: x.__setitem__((4, 0, 3), 1e-3)), ScorerError, "energy is below its momentum, first event 4, slot 0"),
        (broken(lambda x: x.__setitem__((5, 0, 4), 9)), ScorerError, "category than 0 to 7, first event 5"),
        (broken(lambda x: x.__setitem__((5, 0, 4), 1.5)), ScorerError, "category than 0 to 7, first event 5"),
        (broken(lambda x: x.__setitem__(6, 0.0)), EmptyImageError, "1 of 120 events have no object, first 6"),
        (broken(lambda x: x.__setitem__((7, 0, 1), np.nan)), NonFiniteError, "NaN"),
        (events(120)[..., :4], ShapeError, "slots, 3 or 5"),
    ],
)  # fmt: skip
def test_events_that_cannot_be_are_named(x: np.ndarray, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        EventVae(**OPTIONS).fit(x)


def test_other_slots_than_those_of_the_training_are_refused(plain: EventVae) -> None:
    with pytest.raises(ShapeError, match=r"\(6, 5\) numbers, \(7, 5\) are expected"):
        plain.score(events(5)[:, :6])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"beta": 1.5}, "beta is 1.5, allowed: 0 to 1"),
        ({"beta": True}, "beta is True"),
        ({"latent": 0}, "latent is 0"),
        ({"blocks": -1}, "blocks is -1"),
        ({"buffer": -5}, "buffer is -5"),
        ({"seed": "abc"}, "seed is 'abc'"),
        ({"seed": -1}, "seed is -1, allowed: 0 or more"),
        ({"seed": 10**30}, "seed is 10+, allowed: 0 to 9223372036854775807"),
        ({"latent": 10**12}, "latent is 1000000000000, allowed: 1 to 10000"),
        ({"hidden": 10**12}, "hidden is 1000000000000, allowed: 1 to 10000"),
        ({"blocks": 10**12}, "blocks is 1000000000000, allowed: 0 to 100"),
        ({"device": 10**30}, "no device 10+"),
        ({"max_epochs": "abc"}, "training: max_epochs is 'abc', allowed: a whole number above 0"),
        ({"max_epochs": 2.5}, "training: max_epochs is 2.5, allowed: a whole number above 0"),
        ({"patience": None}, "training: patience is None"),
        ({"batch_size": 10**12}, "training: batch_size is 1000000000000, allowed: up to 1,000,000"),
        ({"learning_rate": float("inf")}, "training: learning_rate is inf, allowed: up to 1,000"),
        ({"learning_rate": float("nan")}, "training: learning_rate is nan, allowed: above 0"),
        ({"learning_rate": [1]}, "training: learning_rate is .1., allowed: a number above 0"),
        ({"mask_padding": "yes"}, "mask_padding is 'yes', allowed: true or false"),
    ],
)
def test_options_that_mean_nothing_are_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ScorerError, match=told):
        EventVae(**options).fit(events(120))


def test_numbers_of_numpy_are_options_as_good(tmp_path: Path) -> None:
    given = {name: np.int64(value) for name, value in OPTIONS.items() if name != "device"}
    one = EventVae(**given, seed=np.int64(3)).fit(events(120))
    one.save(tmp_path / "vae")
    np.testing.assert_array_equal(
        EventVae(**OPTIONS, seed=3).fit(events(120)).score(events(5)), load_scorer(tmp_path / "vae").score(events(5))
    )


@pytest.mark.parametrize("name", ["coordinates.centre", "coordinates.seen", "biases.0", "buffer.mean"])
def test_numbers_of_another_sort_in_a_folder_are_refused(plain: EventVae, tmp_path: Path, name: str) -> None:
    record, tensors = plain.stored()
    sort = torch.float64 if name == "coordinates.seen" else torch.complex64
    write_folder(tmp_path / "vae", record, {**tensors, name: tensors[name].to(sort)})
    with pytest.raises(ScorerError, match=r"has the type torch|no real number"):
        load_scorer(tmp_path / "vae")


def test_an_autoencoder_has_no_kl() -> None:
    with pytest.raises(UnknownMetricError, match="kl"):
        EventAutoencoder(**OPTIONS).fit(events(120)).score(events(5), metric="kl")
