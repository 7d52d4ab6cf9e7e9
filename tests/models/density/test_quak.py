"""QUAK against known likelihood ratios, and the reduction of its losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from hunch.models import ConstantColumnError, NonFiniteError, PriorNameError, Quak, Sample, ShapeError, TooFewRowsError
from hunch.models.train import loop
from hunch.models.train.loop import train_epoch
from hunch.models.train.objective import Objective

pytestmark = pytest.mark.usefixtures("small_family")  # what is tested is what happens around it

QUICK = {"device": "cpu", "max_epochs": 3, "patience": 3, "hidden": 16, "batch_size": 64}


def labels(n_background: int, n_signal: int) -> np.ndarray:
    return np.repeat([0, 1], [n_background, n_signal])


def test_two_gaussians_reproduce_the_likelihood_ratio(rng: np.random.Generator) -> None:
    # Different covariances: the optimal boundary is curved and no single loss finds it.
    p = stats.multivariate_normal([0, 0, 0], [[1, 0.7, 0], [0.7, 1, 0.2], [0, 0.2, 1]])
    q = stats.multivariate_normal([1, -0.2, 0.5], [[0.5, -0.2, 0], [-0.2, 0.3, 0], [0, 0, 2.0]])
    quak = Quak(seed=0, device="cpu", max_epochs=7).fit(
        p.rvs(12_000, random_state=rng), priors={"signal": q.rvs(12_000, random_state=rng)}
    )
    x = np.concatenate([p.rvs(20_000, random_state=rng), q.rvs(20_000, random_state=rng)])
    y = labels(20_000, 20_000)
    best = roc_auc_score(y, q.logpdf(x) - p.logpdf(x))
    assert roc_auc_score(y, quak.score(x, metric="difference")) > best - 0.005
    assert roc_auc_score(y, quak.score(x)) > best - 0.005
    assert roc_auc_score(y, quak.score(x, metric="background")) < best - 0.1


def test_anomaly_beside_a_prior_in_a_dense_region(rng: np.random.Generator) -> None:
    def background(n: int) -> np.ndarray:
        mass = rng.exponential(1.0, n)
        bent = rng.normal(0.15 * (mass - 1) ** 2, 0.5 + 0.2 * mass)
        ratio = rng.beta(2, 3, n)
        return np.stack([mass, bent, ratio, rng.gamma(3, 1, n) * (0.5 + ratio)], axis=1)

    centre, width = np.array([2.2, 0.8, 0.35, 1.2]), np.array([0.25, 0.3, 0.06, 0.35])
    shift = 1.5 * width * np.array([1, -1, 1, 1])
    quak = Quak(seed=0, device="cpu", max_epochs=6).fit(
        background(20_000), priors={"near": rng.normal(centre + shift, width, (5_000, 4))}
    )
    x = np.concatenate([background(40_000), rng.normal(centre, width, (200, 4))])  # 0.5 % signal
    y = labels(40_000, 200)
    unsupervised = roc_auc_score(y, quak.score(x, metric="background"))
    found = roc_auc_score(y, quak.score(x))
    assert found > 0.94  # the likelihood ratio to the shifted prior has 0.98
    assert found > unsupervised + 0.2  # the signal hides in the bulk: the background's density alone has 0.69


def test_losses_are_ordered_as_the_priors_are_given(rng: np.random.Generator) -> None:
    places = {"right": 4.0, "left": -4.0}
    quak = Quak(**QUICK).fit(
        rng.normal(size=(400, 2)), priors={k: rng.normal(v, 1, (300, 2)) for k, v in places.items()}
    )
    assert quak.prior_names == ("right", "left")
    assert quak.metrics == ("anomaly", "difference", "background", "right", "left", "family")
    assert quak.axis_names == ("background", "right", "left", "family")
    losses = quak.losses(np.array([[0.0, 0.0], [4.0, 4.0], [-4.0, -4.0]]))
    assert losses.shape == (3, 4)
    assert losses[:, :3].argmin(axis=1).tolist() == [0, 1, 2]


def test_scores_are_the_documented_reductions_of_the_losses(rng: np.random.Generator) -> None:
    background = rng.normal(size=(400, 2))
    quak = Quak(alpha=0.7, **QUICK).fit(
        background, priors={"a": rng.normal(2, 1, (300, 2)), "b": rng.normal(-3, 0.5, (300, 2))}
    )
    x = np.concatenate([rng.normal(size=(50, 2)), [[30.0, -30.0]]])
    b, *k, family = quak.losses(x).T
    difference = b - 0.7 * np.minimum(*k)
    np.testing.assert_array_equal(quak.score(x, metric="background"), b)
    np.testing.assert_array_equal(quak.score(x, metric="b"), b - 0.7 * k[1])
    np.testing.assert_array_equal(quak.score(x, metric="difference"), difference)
    beyond = b - quak.losses(background)[:, 0].max()
    np.testing.assert_array_equal(quak.score(x, metric="family"), b - 0.7 * family)
    np.testing.assert_array_equal(quak.score(x), np.maximum(b - 0.7 * family, beyond))
    alone = Quak(alpha=0.7, family=False, **QUICK).fit(background, priors={"a": rng.normal(2, 1, (300, 2))})
    b, k = alone.losses(x).T
    np.testing.assert_array_equal(alone.score(x), np.maximum(b - 0.7 * k, b - alone.background_max_))
    assert quak.score(background, metric="background").max() == quak.background_max_


def test_outlier_that_no_prior_claims_is_not_lost(rng: np.random.Generator) -> None:
    quak = Quak(seed=0, **QUICK).fit(rng.normal(size=(2_000, 3)), priors={"narrow": rng.normal(1, 0.1, (500, 3))})
    outlier = np.full((1, 3), -9.0)
    assert quak.score(outlier, metric="difference")[0] < -100  # narrow prior: further from it than from the background
    assert quak.score(outlier)[0] > quak.score(rng.normal(size=(500, 3))).max()


@pytest.mark.parametrize("none", [None, {}])
def test_without_priors_the_score_is_the_background_loss(none: dict[str, np.ndarray] | None) -> None:
    x = np.random.default_rng(1).normal(size=(300, 2))
    quak = Quak(**QUICK).fit(x, priors=none)
    assert quak.prior_names == ()
    losses = quak.losses(x)
    assert losses.shape == (300, 1)
    for metric in (None, "anomaly", "difference", "background"):
        np.testing.assert_array_equal(quak.score(x, metric=metric), losses[:, 0])


def test_prior_equal_to_background_gives_no_power(rng: np.random.Generator) -> None:
    quak = Quak(seed=0, family=False, **{**QUICK, "max_epochs": 6}).fit(
        rng.normal(size=(3_000, 2)), priors={"same": rng.normal(size=(3_000, 2))}
    )
    assert abs(quak.score(rng.normal(size=(2_000, 2)), metric="difference")).mean() < 0.25


def test_bad_priors_are_named(rng: np.random.Generator) -> None:
    x = rng.normal(size=(200, 2))
    for name in ("background", "family"):
        with pytest.raises(PriorNameError, match=f"'{name}'"):
            Quak(**QUICK).fit(x, priors={name: x})
    constant = x.copy()
    constant[:, 1] = 3.5
    with pytest.raises(ConstantColumnError, match=r"background: column 1 \(= 3.5\)"):
        Quak(**QUICK).fit(constant)
    with pytest.raises(ConstantColumnError, match=r"background: column tau21 \(= 3.5\)"):
        Quak(**QUICK).fit(Sample(constant, names=("mass", "tau21")))
    broken = x.copy()
    broken[3, 0] = np.inf
    with pytest.raises(
        NonFiniteError, match=r"prior 'p': NaN or infinity in 1 of 200 rows, in columns mass \(1 rows\)"
    ):
        Quak(**QUICK).fit(Sample(x, names=("mass", "tau21")), priors={"p": broken})
    with pytest.raises(ShapeError, match="data: has 3 columns"):
        Quak(**QUICK).fit(x, priors={"p": x}, data=rng.normal(size=(200, 3)))
    with pytest.raises(ShapeError, match="prior 'three': has 3 columns"):
        Quak(**QUICK).fit(x, priors={"three": rng.normal(size=(200, 3))})
    with pytest.raises(TooFewRowsError, match="prior 'few': has 5 rows"):
        Quak(**QUICK).fit(x, priors={"few": x[:5]})


@pytest.mark.parametrize("columns", [1, 2, 30])
def test_any_number_of_columns(columns: int, rng: np.random.Generator) -> None:
    x = rng.normal(size=(300, columns))
    quak = Quak(seed=0, device="cpu", max_epochs=2, hidden=16).fit(x, priors={"p": x[:150] + 1})
    assert np.isfinite(quak.losses(x)).all()


def test_losses_of_narrow_and_wide_priors_are_densities_of_one_space(rng: np.random.Generator) -> None:
    # Each model sees its own sample at unit spread; without that scale in the loss both would come out at about 2.
    widths = {"narrow": 0.1, "wide": 3.0}
    samples = {name: rng.normal(1, width, (2_000, 2)) for name, width in widths.items()}
    quak = Quak(family=False, **QUICK).fit(rng.normal(size=(2_000, 2)), priors=samples)
    for k, (name, width) in enumerate(widths.items(), 1):
        expected = -stats.norm.logpdf(samples[name], 1, width).sum(axis=1).mean()
        assert quak.losses(samples[name])[:, k].mean() == pytest.approx(expected, abs=1.2)


def test_a_fit_killed_in_the_family_does_not_train_the_first_models_again(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    background, priors = rng.normal(size=(400, 2)), {k: rng.normal(v, 1, (300, 2)) for k, v in (("a", 3), ("b", -3))}
    asked: list[int] = []
    killed_at = [0]

    def epoch(objective: Objective, *arguments: Any, epoch: int, **others: Any) -> float:
        asked.append(epoch)
        if len(asked) == killed_at[0]:
            raise KeyboardInterrupt
        return train_epoch(objective, *arguments, epoch=epoch, **others)

    monkeypatch.setattr(loop, "train_epoch", epoch)
    whole = Quak(**QUICK, hypotheses=3).fit(background, priors=priors)
    assert asked == [0, 1, 2] * 3  # background and priors, the family, its neighbourhoods
    for stop, again in ((5, [1, 2, 0, 1, 2]), (9, [2])):
        asked.clear()
        killed_at[0] = stop
        with pytest.raises(KeyboardInterrupt):
            Quak(**QUICK, hypotheses=3).fit(background, priors=priors, checkpoint=tmp_path / "c")
        asked.clear()
        killed_at[0] = 0
        resumed = Quak(**QUICK, hypotheses=3).fit(background, priors=priors, checkpoint=tmp_path / "c")
        assert asked == again
        np.testing.assert_array_equal(resumed.losses(background), whole.losses(background))
        assert list(tmp_path.iterdir()) == []
