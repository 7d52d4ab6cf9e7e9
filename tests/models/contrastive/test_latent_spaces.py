"""Scorers on the latent space of an autoencoder of whole events, and on the objects themselves: one encoder a fold, as `Encoded` has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunch.models import Encoded, FourVectors, Sample, ScorerError, ShapeError, load_encoder, load_scorer
from hunch.models.autoencoders.event_coordinates import EventCoordinates

FLOW: dict[str, Any] = {"name": "Flow", "max_epochs": 4, "hidden": 16}
VAE: dict[str, Any] = {"name": "EventVae", "max_epochs": 3, "latent": 3, "hidden": 16, "blocks": 1}


def events(n: int, seed: int = 0, *, scale: float = 1.0) -> np.ndarray:
    """Whole events (n, 5, 3): missing momentum and one to four objects by falling pT."""
    rng = np.random.default_rng(seed)
    pt = np.sort(20 * scale * np.exp(rng.exponential(0.7, (n, 5))), axis=1)[:, ::-1]
    made = np.stack([pt, rng.normal(0, 1, (n, 5)), rng.uniform(-np.pi, np.pi, (n, 5))], axis=-1)
    made[:, 0, 1] = 0
    return np.where((np.arange(5) <= rng.integers(1, 5, n)[:, None])[..., None], made, 0.0)


@pytest.mark.parametrize("encoder", [VAE, {**VAE, "name": "EventAutoencoder"}, "FourVectors"])
def test_a_scorer_on_top_is_trained_on_the_rows_of_the_encoder(encoder: Any, tmp_path: Path) -> None:
    x, held = events(300), events(60, seed=1)
    space = Encoded(encoder=encoder, scorer=FLOW).fit(Sample(x), validation=Sample(held))
    assert space.encoder_ is not None
    assert space.space_ is not None
    rows = space.encoder_.encode(x[:20])
    assert rows.shape == (20, space.encoder_.dims)
    np.testing.assert_array_equal(space.losses(x[:20]), space.space_.losses(rows))
    space.save(tmp_path / "s")
    loaded = load_scorer(tmp_path / "s")
    np.testing.assert_array_equal(loaded.score(x[:20]), space.score(x[:20]))
    # what is inside is an encoder that can be used again, and is not trained any more
    np.testing.assert_array_equal(load_encoder(tmp_path / "s").encode(x[:20]), rows)
    frozen = Encoded(encoder=str(tmp_path / "s"), scorer=FLOW).fit(Sample(x), validation=Sample(held))
    assert frozen.encoder_ is not None
    np.testing.assert_array_equal(frozen.encoder_.encode(x[:20]), rows)
    assert np.median(space.score(events(100, seed=2, scale=20.0))) > np.median(space.score(held))


def test_four_vectors_are_the_numbers_that_vary() -> None:
    x = events(400)
    encoder = FourVectors().fit(x)
    coordinates = EventCoordinates.of(x)
    np.testing.assert_array_equal(encoder.encode(x), coordinates.rows(x)[:, coordinates.counted()])
    # of the missing momentum pT and the angle, of the others also eta and whether they are there, which of the first one is always so, and their number
    assert encoder.dims == 3 + 4 + 3 * 5 + 1


def test_principal_components_have_unit_variance_and_are_not_correlated(tmp_path: Path) -> None:
    x = events(400)
    encoder = FourVectors(components=4).fit(x)
    rows = encoder.encode(x)
    np.testing.assert_allclose(np.cov(rows, rowvar=False), np.eye(4), atol=1e-9)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-9)
    from sklearn.decomposition import PCA

    whole = FourVectors().fit(x).encode(x)
    other = PCA(4, whiten=True).fit_transform(whole)
    np.testing.assert_allclose(np.abs(other), np.abs(rows), rtol=1e-6, atol=1e-9)
    encoder.save(tmp_path / "f")
    np.testing.assert_array_equal(load_encoder(tmp_path / "f").encode(x[:9]), rows[:9])


def test_what_an_encoder_cannot_do_is_named() -> None:
    with pytest.raises(ScorerError, match="components is 30, allowed: up to 22"):
        FourVectors(components=30).fit(events(300))
    with pytest.raises(ScorerError, match="components is 0, allowed: 1 or more, or none"):
        FourVectors(components=0).fit(events(300))
    with pytest.raises(ShapeError, match=r"\(4, 3\) numbers, \(5, 3\) are expected"):
        FourVectors().fit(events(300)).encode(events(5)[:, :4])
