"""Neighbourhoods of the family: what they cover, and the axes they give a Quak."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hunch.models import Quak, load_scorer
from hunch.models.density import neighbourhoods
from hunch.models.density.neighbourhoods import grouped_hypotheses, neighbourhood_samples

CENTRES = np.array([[2.0, 2.0], [4.0, 1.0], [3.0, 4.0]])
COVARIANCES = np.array([np.eye(2) * 0.2, np.eye(2) * 0.3, np.eye(2) * 0.25])


def test_groups_are_like_hypotheses_and_reach_beyond_the_priors(rng: np.random.Generator) -> None:
    family, label = grouped_hypotheses(CENTRES, COVARIANCES, 12, rng=rng)
    own = np.linalg.solve(family.matrix, (CENTRES[family.prior] - family.offset)[..., None])[..., 0]
    assert set(label) == set(range(label.max() + 1))
    assert 8 <= label.max() + 1 <= 12
    # heavy tails: medians
    middle = np.array([own[label == g].mean(axis=0) for g in range(label.max() + 1)])
    from_group = np.median(np.linalg.norm(own - middle[label], axis=1))
    assert from_group < 0.65 * np.median(np.linalg.norm(own - own.mean(axis=0), axis=1))
    assert middle.min() < -1.0  # by the affine combinations alone it is 0.1, and the largest 4.7
    assert middle.max() > 6.0


def test_samples_lie_around_their_group(rng: np.random.Generator) -> None:
    parts = [
        (rng.multivariate_normal(c, v, 800), rng.multivariate_normal(c, v, 200))
        for c, v in zip(CENTRES, COVARIANCES, strict=True)
    ]
    places = neighbourhood_samples(CENTRES, COVARIANCES, parts, 6, rng=rng)
    assert 4 <= len(places) <= 6
    for first, second in places:
        assert (first.shape, second.shape) == ((neighbourhoods.EVENTS, 2), (neighbourhoods.HELD, 2))
        assert np.median(first, axis=0) == pytest.approx(np.median(second, axis=0), abs=0.5)
    centres = np.array([np.median(first, axis=0) for first, _ in places])
    assert np.linalg.norm(centres[:, None] - centres[None], axis=2)[np.triu_indices(len(places), 1)].min() > 0.3


@pytest.fixture
def divided(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, small_family: None
) -> tuple[Quak, dict[str, np.ndarray], np.ndarray]:
    monkeypatch.setattr(neighbourhoods, "EVENTS", 300)
    monkeypatch.setattr(neighbourhoods, "HELD", 100)
    priors = {"a": rng.normal([2, 2], 0.5, (300, 2)), "b": rng.normal([4, 1], 0.5, (300, 2))}
    background = rng.normal(size=(1_000, 2))
    quak = Quak(seed=3, device="cpu", max_epochs=3, hidden=8, hypotheses=4).fit(background, priors=priors)
    return quak, priors, background


def test_each_neighbourhood_is_an_axis(
    divided: tuple[Quak, dict[str, np.ndarray], np.ndarray], tmp_path: Path, rng: np.random.Generator
) -> None:
    quak, _, _ = divided
    n = quak.n_neighbourhoods_
    assert 2 <= n <= 4
    assert quak.axis_names == ("background", "a", "b", "family", *(f"family {i + 1}" for i in range(n)))
    x = rng.normal(1.0, 2.0, (50, 2))
    losses = quak.losses(x)
    assert losses.shape == (50, 4 + n)
    assert np.allclose(quak.score(x, metric="family 2"), losses[:, 0] - losses[:, 5])
    # the default score is still that of the family, the fourth axis
    assert np.allclose(quak.score(x), np.maximum(losses[:, 0] - losses[:, 3], losses[:, 0] - quak.background_max_))
    quak.save(tmp_path / "quak")
    again = load_scorer(tmp_path / "quak")
    assert isinstance(again, Quak)
    assert again.axis_names == quak.axis_names
    assert np.array_equal(again.losses(x), losses)


def test_they_do_not_depend_on_data_and_stay_when_the_family_is_narrowed(
    divided: tuple[Quak, dict[str, np.ndarray], np.ndarray], rng: np.random.Generator
) -> None:
    quak, priors, background = divided
    narrowed = quak.narrow(np.concatenate([background, priors["a"] + 0.5]), priors=priors)
    x = rng.normal(1.0, 2.0, (50, 2))
    assert narrowed.axis_names == quak.axis_names
    assert np.array_equal(narrowed.losses(x)[:, 4:], quak.losses(x)[:, 4:])
    assert not np.allclose(narrowed.losses(x)[:, 3], quak.losses(x)[:, 3])
