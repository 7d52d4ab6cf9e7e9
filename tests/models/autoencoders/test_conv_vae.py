"""The convolutional VAE on images: the contract of a scorer, its losses, and a planted outlier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hunch.models import (
    ConvVae,
    DeviceError,
    DtypeError,
    EmptyImageError,
    NegativePixelError,
    NonFiniteError,
    NotFittedError,
    NotNormalisedError,
    Scorer,
    ScorerError,
    ShapeError,
    TooFewRowsError,
    UnknownMetricError,
    load_scorer,
)
from hunch.models.autoencoders.conv_autoencoder import ConvSizes, StackedConvVae, mean_power_error

SIDE = 16
QUICK = {
    "max_epochs": 4,
    "channels": 4,
    "hidden": 16,
    "latent": 4,
    "batch_size": 32,
    "learning_rate": 3e-3,
    "device": "cpu",
}


def prongs(n: int, seed: int, *, number: int = 1) -> np.ndarray:
    """Images of `number` blobs on a ring around the centre, one at the centre for 1."""
    rng = np.random.default_rng(seed)
    images = np.zeros((n, SIDE, SIDE))
    for i in range(n):
        for k in range(number):
            angle = 2 * np.pi * k / number
            centre = SIDE / 2 + (0 if number == 1 else 5) * np.array([np.cos(angle), np.sin(angle)])
            points = np.clip(rng.normal(centre, 1.0, (30, 2)), 0, SIDE - 1).astype(int)
            np.add.at(images[i], (points[:, 0], points[:, 1]), rng.exponential(size=30))
    return images / images.sum(axis=(1, 2), keepdims=True)


@pytest.fixture(scope="module")
def fitted() -> ConvVae:
    return ConvVae(seed=3, **QUICK).fit(prongs(300, 0))


def test_every_metric_is_one_finite_number_an_image(fitted: ConvVae) -> None:
    assert isinstance(fitted, Scorer)
    for metric in (None, *fitted.metrics):
        scores = fitted.score(prongs(5, 1), metric=metric)
        assert scores.shape == (5,)
        assert scores.dtype == np.float64
        assert np.isfinite(scores).all()
        assert fitted.score(np.empty((0, SIDE, SIDE)), metric=metric).shape == (0,)
    assert np.array_equal(fitted.score(prongs(5, 1)), fitted.score(prongs(5, 1), metric="loss"))


@pytest.mark.parametrize("metric", ["loss", "mse", "mae", "wass1", "wass2"])
def test_what_it_was_not_trained_on_is_anomalous(fitted: ConvVae, metric: str) -> None:
    ordinary, strange = (fitted.score(prongs(40, 1, number=n), metric=metric) for n in (1, 3))
    if metric in {"wass1", "wass2"}:
        assert strange.min() > ordinary.max()
    else:  # three prongs share fewer events a pixel: their errors are smaller where pixels count alone
        assert strange.mean() != pytest.approx(ordinary.mean(), rel=0.05)


def test_metrics_are_what_they_say(fitted: ConvVae) -> None:
    x = prongs(6, 1)
    made = fitted.reconstruct(x)
    np.testing.assert_allclose(made.sum(axis=(1, 2)), 1.0)
    assert (made > 0).all()
    np.testing.assert_allclose(fitted.score(x, metric="mse"), ((x - made) ** 2).mean(axis=(1, 2)))
    np.testing.assert_allclose(fitted.score(x, metric="mae"), np.abs(x - made).mean(axis=(1, 2)))
    radius = np.linalg.norm(fitted.latent_means(x), axis=1)
    np.testing.assert_allclose(fitted.score(x, metric="latent_radius"), radius)
    parts = (1 - fitted.beta) * fitted.score(x, metric="reconstruction") + fitted.beta * fitted.score(x, metric="kl")
    np.testing.assert_allclose(fitted.score(x), parts)
    assert (fitted.score(x, metric="wass1") < fitted.score(x, metric="wass2")).all()


def test_wasserstein_scores_are_in_the_unit_of_the_pixel(fitted: ConvVae, tmp_path: Path) -> None:
    fitted.save(tmp_path / "s")
    other = load_scorer(tmp_path / "s")
    assert isinstance(other, ConvVae)
    other.pixel = 0.05
    x = prongs(3, 1)
    np.testing.assert_allclose(other.score(x, metric="wass1"), 0.05 * fitted.score(x, metric="wass1"))


def test_power_of_the_error() -> None:
    x, y = torch.tensor([[0.0, 1.0, 3.0]]), torch.tensor([[1.0, 1.0, 1.0]])
    assert mean_power_error(x, y, 1.0).item() == pytest.approx(1.0)
    assert mean_power_error(x, y, 2.0).item() == pytest.approx(5 / 3)
    assert mean_power_error(x, y, 3.0).item() == pytest.approx(3.0)


@pytest.mark.parametrize("options", [{"blocks": 1, "alpha": 1.0}, {"blocks": 3, "convolutions": 2}])
def test_training_beats_the_average_image(options: dict[str, float]) -> None:
    scorer = ConvVae(**{**QUICK, "max_epochs": 8, **options}).fit(
        prongs(300, 0, number=2), validation=prongs(50, 5, number=2)
    )
    assert scorer.training_["validation_loss"][0] * scorer.training_["scale"] < 0.95


def test_trained_with_transport_it_reconstructs_by_transport() -> None:
    x, other = prongs(200, 0), prongs(30, 1)
    before = ConvVae(**{**QUICK, "max_epochs": 1, "learning_rate": 1e-9}, reconstruction="wasserstein", beta=1e-6).fit(
        x
    )
    after = ConvVae(**{**QUICK, "max_epochs": 3}, reconstruction="wasserstein", beta=1e-6).fit(x)
    assert after.score(other, metric="wass1").mean() < 0.5 * before.score(other, metric="wass1").mean()
    # the regularised loss lies below the exact distance, on average by less than its blur of a tenth of a pixel
    gap = after.score(other, metric="wass1") - after.score(other, metric="reconstruction")
    assert gap.min() > 0
    assert gap.mean() < 0.1


def test_all_weight_on_the_kl_empties_the_latent_space() -> None:
    scorer = ConvVae(**{**QUICK, "max_epochs": 15, "learning_rate": 1e-2}, beta=1.0).fit(prongs(200, 0))
    assert scorer.score(prongs(20, 1), metric="kl").max() < 0.05


def test_members_of_a_stack_are_what_each_is_alone() -> None:
    sizes = ConvSizes(8, 8, blocks=2, channels=3, hidden=5, latent=2)
    stack = StackedConvVae(2, sizes, seed=0).double()
    x = torch.rand(2, 4, 64, dtype=torch.float64)
    x /= x.sum(dim=-1, keepdim=True)
    mu, log_sigma = stack.encode(x)
    made = stack.decode(mu)
    for member in range(2):
        alone = StackedConvVae(1, sizes, seed=1).double()
        with torch.no_grad():
            for own, both in zip(alone.parameters(), stack.parameters(), strict=True):
                own.copy_(both[member : member + 1])
        found = alone.encode(x[member : member + 1])
        torch.testing.assert_close(found[0][0], mu[member])
        torch.testing.assert_close(found[1][0], log_sigma[member])
        torch.testing.assert_close(alone.decode(found[0])[0], made[member])


def test_training_draws_from_the_latent_space() -> None:
    stack = StackedConvVae(1, ConvSizes(8, 8, channels=3, hidden=5, latent=2), seed=0)
    x = torch.full((1, 4, 64), 1 / 64)
    found = [stack.losses(x, generator=torch.Generator().manual_seed(seed), progress=1.0) for seed in (0, 0, 1)]
    assert torch.equal(found[0], found[1])
    assert (found[0] != found[2]).all()


def test_same_seed_same_scores(fitted: ConvVae) -> None:
    x = prongs(20, 1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert np.array_equal(ConvVae(seed=3, **QUICK).fit(prongs(300, 0)).score(x), fitted.score(x))
    assert torch.equal(before, torch.get_rng_state())
    assert not np.array_equal(ConvVae(seed=4, **QUICK).fit(prongs(300, 0)).score(x), fitted.score(x))


def test_saved_scorer_scores_the_same(fitted: ConvVae, tmp_path: Path) -> None:
    x = prongs(20, 1)
    fitted.save(tmp_path / "s")
    loaded = load_scorer(tmp_path / "s")
    for metric in fitted.metrics:
        assert np.array_equal(loaded.score(x, metric=metric), fitted.score(x, metric=metric))


def test_scores_do_not_depend_on_the_batch(fitted: ConvVae) -> None:
    x = prongs(300, 1)
    alone = np.concatenate([fitted.score(x[i : i + 1]) for i in (0, 255, 256, 299)])
    np.testing.assert_allclose(fitted.score(x)[[0, 255, 256, 299]], alone, rtol=1e-9)


def test_bad_input_is_named(fitted: ConvVae) -> None:
    x = prongs(4, 1)
    with pytest.raises(ShapeError, match=r"\(8, 8\) pixels, \(16, 16\) are expected"):
        fitted.score(np.full((2, 8, 8), 1 / 64))
    with pytest.raises(NotNormalisedError, match="2 of 4 do not sum to one, first 1 with 2"):
        fitted.score(x * np.array([1, 2, 1, 3])[:, None, None])
    with pytest.raises(NegativePixelError, match="1 of 4 have entries below zero, first 2"):
        fitted.score(x - 0.1 * (np.arange(4) == 2)[:, None, None])
    with pytest.raises(EmptyImageError, match="1 of 4 are empty, first 3"):
        fitted.score(x * (np.arange(4) < 3)[:, None, None])
    with pytest.raises(NonFiniteError):
        fitted.score(np.where(x > 0, x, np.nan))
    with pytest.raises(DtypeError):
        fitted.score(x.astype(complex))
    with pytest.raises(UnknownMetricError, match="did you mean 'wass1'"):
        fitted.score(x, metric="was1")
    with pytest.raises(NotFittedError):
        ConvVae().score(x)
    with pytest.raises(TooFewRowsError, match="has 4 images, at least 100"):
        ConvVae().fit(x)
    with pytest.raises(TooFewRowsError, match="validation"):
        ConvVae().fit(prongs(100, 0), validation=x[:0])
    with pytest.raises(DeviceError):
        ConvVae(**{**QUICK, "device": "gpu"}).fit(prongs(100, 0))
    with pytest.raises(ShapeError, match=r"12 x 12 pixels cannot be halved 3 times: multiples of 8"):
        ConvVae(blocks=3).fit(np.full((100, 12, 12), 1 / 144))
    for option, told in (
        ({"blocks": 4}, "blocks is 4, allowed: 1 to 3"),
        ({"channels": 0}, "channels is 0"),
        ({"latent": 2.0}, "latent is 2.0; a whole number"),
        ({"pixel": 0.0}, "pixel is 0.0"),
        ({"reconstruction": "powr"}, "did you mean 'power'"),
        ({"alpha": 0.0}, "alpha is 0"),
        ({"beta": 1.5}, "beta is 1.5"),
        ({"p": 0.5}, "p is 0.5"),
        ({"max_epochs": 0}, "max_epochs is 0"),
    ):
        with pytest.raises(ScorerError, match=told):
            ConvVae(**option).fit(prongs(100, 0))


def test_normalise_divides_by_the_sum(fitted: ConvVae) -> None:
    x = prongs(150, 1)
    scaled = ConvVae(seed=3, normalise=True, **QUICK).fit(500 * prongs(300, 0))
    np.testing.assert_allclose(scaled.score(7 * x), fitted.score(x), rtol=1e-6)
