"""The family of the priors: exact maps of Gaussians, evidence by unlabelled data, and what it does without a signal."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hunch.models.density import family as morphing
from hunch.models.density.family import adapt, broad_family, make_family, profile_fraction, sample_family

CENTRES = np.array([[1.0, 2.0], [3.0, 2.0], [2.0, 4.0]])
COVARIANCES = np.array([[[0.04, 0.01], [0.01, 0.09]], [[0.09, 0.0], [0.0, 0.04]], [[0.05, -0.02], [-0.02, 0.06]]])


def gaussian(prior: int, rows: np.ndarray) -> np.ndarray:
    """The priors' models, exact."""
    found = stats.multivariate_normal(CENTRES[prior], COVARIANCES[prior]).logpdf(rows)
    return np.atleast_1d(found)


def samples(rng: np.random.Generator, n: int = 4000) -> list[np.ndarray]:
    return [rng.multivariate_normal(c, s, n) for c, s in zip(CENTRES, COVARIANCES, strict=True)]


def test_a_prior_carried_to_itself_stays() -> None:
    family = make_family(CENTRES, COVARIANCES, np.eye(3), np.zeros((3, 2)))
    assert family.prior.tolist() == [0, 1, 2]
    # the interpolation leaves every prior a share of 2 %
    np.testing.assert_allclose(family.matrix, np.broadcast_to(np.eye(2), (3, 2, 2)), atol=0.05)
    for k in range(3):
        np.testing.assert_allclose(family.matrix[k] @ CENTRES[k] + family.offset[k], CENTRES[k], atol=1e-12)


def test_carried_events_have_the_moments_between(rng: np.random.Generator) -> None:
    half = np.array([[0.5, 0.5, 0.0]])
    family = make_family(CENTRES, COVARIANCES, half, np.array([[0.3, 0.0]]))
    found = morphing.Adaptation(family, np.ones(1), np.zeros(1), np.zeros(1), 0.0, 0)
    x = sample_family(found.family, found.weights, samples(rng, 40_000), 40_000, rng=rng)
    np.testing.assert_allclose(x.mean(axis=0), [2.3, 2.0], atol=0.01)
    covariance = np.cov(x.T)
    logs = [np.linalg.slogdet(s)[1] for s in COVARIANCES[:2]]
    # log-Euclidean interpolation: the determinant is the geometric mean, up to the 2 % share of the third
    assert np.linalg.slogdet(covariance)[1] == pytest.approx(np.mean(logs), abs=0.06)
    assert 0.04 < covariance[0, 0] < 0.09


def test_fraction_maximises_the_likelihood(rng: np.random.Generator) -> None:
    r = rng.normal(0.0, 2.0, 500)
    for mean in (0.0, 0.5):
        value, w = profile_fraction(r, 2000, mean)

        def likelihood(v: float, mean: float = mean) -> float:
            return float(np.log1p(v * (np.exp(r) - 1)).sum() + 1500 * np.log1p(-v) - 2000 * np.log1p(v * mean))

        grid = np.linspace(0, morphing.MAX_FRACTION, 2001)
        best = max(likelihood(v) for v in grid)
        assert value == pytest.approx(best, abs=1e-3)
        assert likelihood(w) == pytest.approx(value, abs=1e-6)
    assert profile_fraction(np.full(10, -1.0), 2000) == (0.0, 0.0)


def data(rng: np.random.Generator, n_signal: int, place: tuple[float, float] = (2.0, 2.7)) -> np.ndarray:
    signal = rng.multivariate_normal(place, 0.05 * np.eye(2), n_signal)
    return np.concatenate([rng.normal(0.0, 2.0, (20_000, 2)), signal])


def log_background(x: np.ndarray) -> np.ndarray:
    return stats.norm(0.0, 2.0).logpdf(x).sum(axis=1)


def adapted(x: np.ndarray, rng: np.random.Generator) -> tuple[morphing.Adaptation, np.ndarray]:
    found = adapt(x, log_background(x), CENTRES, COVARIANCES, gaussian, rng=rng)
    return found, sample_family(found.family, found.weights, samples(rng), 4000, rng=rng)


def test_data_with_a_signal_between_the_priors_narrow_the_family_down(rng: np.random.Generator) -> None:
    found, drawn = adapted(data(rng, 250), rng)
    assert found.weights.sum() == pytest.approx(1.0)
    assert found.fraction[found.log_ratio.argmax()] == pytest.approx(250 / 20_250, rel=0.3)
    np.testing.assert_allclose(np.median(drawn, axis=0), [2.0, 2.7], atol=0.1)
    assert (drawn.std(axis=0) < 0.5).all()


def test_without_a_signal_the_broad_family_remains(rng: np.random.Generator) -> None:
    found, drawn = adapted(data(rng, 0), rng)
    assert found.refined < 0.3
    broad = broad_family(CENTRES, COVARIANCES, rng)
    assert len(broad) == morphing.BROAD
    assert (drawn.std(axis=0) > 0.5).all()  # far wider than any prior
    assert 1 / (found.weights**2).sum() > 20


def test_reference_takes_off_what_a_wrong_background_model_feigns(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(morphing, "BROAD", 100)
    monkeypatch.setattr(morphing, "REFINED", 50)

    def wrong(x: np.ndarray, missed: float) -> np.ndarray:  # misses a share of what is there near (2, 2.7)
        dip = missed * np.exp(-((x - [2.0, 2.7]) ** 2).sum(axis=1) / 0.5)
        return log_background(x) + np.log1p(-dip)

    def adapted_to(x: np.ndarray, missed: float, known: np.ndarray | None = None) -> morphing.Adaptation:
        reference = None if known is None else (known, wrong(known, missed))
        rng = np.random.default_rng(0)
        return adapt(x, wrong(x, missed), CENTRES, COVARIANCES, gaussian, rng=rng, reference=reference)

    x, known = data(rng, 0), rng.normal(0.0, 2.0, (40_000, 2))
    # far above the 4 to 13 that the luckiest hypothesis has without any error
    assert adapted_to(x, 0.8, known).log_ratio.max() < 0.5 * adapted_to(x, 0.8).log_ratio.max()
    still = adapted_to(data(rng, 250), 0.2, known)
    assert still.fraction[still.log_ratio.argmax()] == pytest.approx(250 / 20_250, rel=0.4)
