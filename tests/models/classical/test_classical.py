"""Scorers of rows beside scikit-learn's own scores and beside what can be computed by hand."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import cluster, ensemble, mixture, neighbors

from hunch.models import (
    Autoencoder,
    DeepSvdd,
    Flow,
    GaussianMixture,
    IsolationForest,
    KernelDensity,
    KMeans,
    Sample,
    ScorerError,
    ScorerFolderError,
    ScorerSpace,
    TooFewRowsError,
    load_scorer,
)
from hunch.models.classical.gaussian_mixture import COVARIANCES
from hunch.models.classical.isolation_forest import average_path
from hunch.models.classical.scaling import SCALINGS, fit_scaling
from hunch.models.density.column_map import map_columns
from hunch.models.storage import read_folder, write_folder

SHORT: dict[str, Any] = {"max_epochs": 3, "hidden": 8, "batch_size": 64, "device": "cpu"}


def rows(n: int, seed: int = 0, d: int = 4) -> np.ndarray:
    """Correlated rows, the first column in units of 100 around 1000, the last skewed."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    x[:, 1] = 0.8 * x[:, 0] + 0.6 * x[:, 1]
    x[:, 0] = 1000 + 100 * x[:, 0]
    x[:, -1] = np.exp(0.5 * x[:, -1])
    return x


def scaled(scorer: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return map_columns(scorer.columns_, x)


def test_standard_scaling_is_mean_and_standard_deviation_and_its_jacobian() -> None:
    x = rows(500)
    z, log_jacobian = map_columns(fit_scaling(x, "standard", np.random.default_rng(0)), x)
    expected = (x - x.mean(axis=0)) / x.std(axis=0)
    near = np.abs(expected) < 10
    np.testing.assert_allclose(z[near], expected[near], rtol=0, atol=1e-12)
    inside = near.all(axis=1)
    np.testing.assert_allclose(log_jacobian[inside], -np.log(x.std(axis=0)).sum(), rtol=1e-12)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_columns_without_a_spread_and_of_any_size_are_scaled(scaling: str) -> None:
    x = rows(200, d=7)
    x[:, 1], x[:, 2] = 7.0, 0.0
    x[:, 3] *= 1e-200
    x[:, 4] *= 1e299
    x[:, 5] = 1e16 + 2.0 * (np.arange(200) % 2)
    columns = fit_scaling(x, scaling, np.random.default_rng(0))
    z, log_jacobian = map_columns(columns, x)
    assert np.isfinite(z).all()
    assert np.isfinite(log_jacobian).all()
    assert np.abs(z).max() < 20
    assert not z[:, [1, 2]].any()
    assert (z[:, [0, 3, 4, 5]].std(axis=0) > 0.1).all()
    other = x[:1].copy()
    other[0, 1:3] = 14.0, 0.5
    np.testing.assert_allclose(map_columns(columns, other)[0][0, 1:3], [1.0, 0.5])


def test_average_path_is_that_of_a_random_tree() -> None:
    # the harmonic number that the logarithm stands for: c(n) = 2 H(n-1) - 2 (n-1)/n
    exact = 2 * (1 / np.arange(1, 256)).sum() - 2 * 255 / 256
    assert average_path([256])[0] == pytest.approx(exact, abs=0.005)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("max_samples", [64, 100_000])
def test_a_forest_scores_as_that_of_scikit_learn(max_samples: int, scaling: str) -> None:
    x, y = rows(300), rows(1000, seed=1)
    scorer = IsolationForest(n_estimators=20, max_samples=max_samples, scaling=scaling, seed=5).fit(x)
    forest = ensemble.IsolationForest(
        n_estimators=20, max_samples=min(max_samples, 300), random_state=scorer.random_state()
    ).fit(scaled(scorer, x)[0])
    np.testing.assert_allclose(scorer.score(y), -forest.score_samples(scaled(scorer, y)[0]), rtol=1e-10)
    # at the cuts themselves, which single precision decides
    cuts = np.tile(scorer.fitted_["threshold"][:200, None], (1, 4))
    np.testing.assert_allclose(scorer.scores(cuts, "isolation"), -forest.score_samples(cuts), rtol=1e-10)
    assert scorer.training_["max_samples"] == min(max_samples, 300)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_mixture_scores_as_that_of_scikit_learn(covariance: str) -> None:
    x, y = rows(600), rows(300, seed=1)
    scorer = GaussianMixture(components=3, covariance=covariance, seed=5).fit(x)
    made = mixture.GaussianMixture(3, covariance_type=covariance, max_iter=200, random_state=scorer.random_state())
    made.fit(scaled(scorer, x)[0])
    z, log_jacobian = scaled(scorer, y)
    np.testing.assert_allclose(scorer.score(y) + log_jacobian, -made.score_samples(z), rtol=1e-10)


@pytest.mark.parametrize("bandwidth", ["scott", "silverman", 0.3, 1])
def test_kernels_score_as_those_of_scikit_learn(bandwidth: str | float) -> None:
    x, y = rows(600), rows(300, seed=1)
    scorer = KernelDensity(bandwidth=bandwidth).fit(x)
    made = neighbors.KernelDensity(bandwidth=bandwidth, rtol=0, atol=0).fit(scaled(scorer, x)[0])
    z, log_jacobian = scaled(scorer, y)
    np.testing.assert_allclose(scorer.score(y) + log_jacobian, -made.score_samples(z), rtol=1e-10)


def test_k_means_scores_as_that_of_scikit_learn() -> None:
    x, y = rows(600), rows(300, seed=1)
    scorer = KMeans(clusters=5, seed=5).fit(x)
    made = cluster.KMeans(5, n_init=4, random_state=scorer.random_state()).fit(scaled(scorer, x)[0])
    np.testing.assert_allclose(scorer.score(y), made.transform(scaled(scorer, y)[0]).min(axis=1), rtol=1e-10)


def test_one_full_component_is_the_gaussian_of_the_sample_in_its_own_units() -> None:
    """Its order is that of the Mahalanobis distance, its value -log N(x; mean, covariance), with the Jacobian of the scaling."""
    x, y = rows(2000), rows(300, seed=1)
    x[:, -1], y[:, -1] = np.log(x[:, -1]), np.log(y[:, -1])
    scorer = GaussianMixture(components=1, reg_covar=0).fit(x)
    covariance, off = np.cov(x, rowvar=False, bias=True), y - x.mean(axis=0)
    squares = np.einsum("ni,ij,nj->n", off, np.linalg.inv(covariance), off)
    expected = 0.5 * (squares + np.linalg.slogdet(covariance)[1] + 4 * math.log(2 * math.pi))
    np.testing.assert_allclose(scorer.score(y), expected, rtol=1e-9)
    np.testing.assert_allclose(scorer.score(y, metric="mahalanobis"), np.sqrt(squares), rtol=1e-9)
    assert np.array_equal(np.argsort(scorer.score(y)), np.argsort(squares))


def test_kernels_of_a_normal_column_are_the_wider_normal() -> None:
    """The mean density of kernels of width h on N(0, 1) is N(0, 1 + h²); Scott's h in one column is n^(-1/5)."""
    n, scale = 4000, 50.0
    # quantiles in place of draws: a normal sample without its noise
    x = np.array([[scale * NormalDist().inv_cdf((i + 0.5) / n)] for i in range(n)])
    y = scale * np.linspace(-2, 2, 41)
    scorer = KernelDensity().fit(x)
    h = scorer.training_["bandwidth"]
    assert h == pytest.approx(n ** (-1 / 5))
    variance = x.var() * (1 + h**2)
    expected = np.exp(-0.5 * y**2 / variance) / math.sqrt(2 * math.pi * variance)
    np.testing.assert_allclose(np.exp(-scorer.score(y[:, None])), expected, rtol=2e-3)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("scorer", [GaussianMixture(components=4), KernelDensity(bandwidth=0.2)], ids=repr)
def test_densities_integrate_to_one_in_the_units_of_x(scorer: Any, scaling: str) -> None:
    x = np.random.default_rng(0).gamma(2.0, 30.0, size=(500, 1))
    own = type(scorer)(**{**scorer.parameters(), "scaling": scaling}).fit(x)
    grid = np.linspace(-200, 2000, 20_001)
    assert np.trapezoid(np.exp(-own.score(grid[:, None])), grid) == pytest.approx(1.0, abs=0.005)


def test_a_density_stands_beside_a_flow() -> None:
    """Of the same Gaussian in GeV, both are the analytic -log p: their difference is small beside a nat."""
    rng = np.random.default_rng(0)
    x, y = (np.stack([300 * rng.normal(size=n), 0.01 * rng.normal(size=n)], axis=1) for n in (4000, 500))
    expected = 0.5 * ((y[:, 0] / 300) ** 2 + (y[:, 1] / 0.01) ** 2) + math.log(300 * 0.01) + math.log(2 * math.pi)
    for scorer in (GaussianMixture(components=2), KernelDensity(), Flow(max_epochs=5, hidden=16, device="cpu")):
        assert np.abs(scorer.fit(x).score(y) - expected).mean() < 0.15, scorer


def test_kernels_are_as_many_as_max_rows_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    x, y = rows(500), rows(50, seed=1)
    with caplog.at_level("INFO"):
        few = KernelDensity(max_rows=200, seed=1).fit(x)
    assert "200 of 500 rows, drawn by seed, have a kernel (max_rows)" in caplog.text
    assert few.fitted_["rows"].shape == (200, 4)
    assert few.training_["rows"] == [200]
    assert repr(few).endswith("4 features, 200 kernels, fitted on 500 events)")
    assert np.array_equal(KernelDensity(max_rows=200, seed=1).fit(x).score(y), few.score(y))
    assert not np.array_equal(KernelDensity(max_rows=200, seed=2).fit(x).score(y), few.score(y))
    assert len(KernelDensity().fit(x).fitted_["rows"]) == 500


def test_fits_that_do_not_end_or_cannot_be_done_are_told(caplog: pytest.LogCaptureFixture) -> None:
    scorer = GaussianMixture(components=4, max_iter=1).fit(rows(200))
    assert scorer.training_["converged"] is False
    assert "not converged after max_iter=1 steps" in caplog.text
    with pytest.raises(
        ScorerError, match=r"a covariance has no inverse; fewer components or a reg_covar above 0 may help"
    ):
        GaussianMixture(reg_covar=0).fit(np.tile(rows(2), (60, 1)))
    # as many different rows as one, and more clusters: centres coincide
    assert KMeans(clusters=3).fit(np.ones((120, 2))).score(np.ones((1, 2))) == 0


def test_validation_is_scored_and_changes_nothing() -> None:
    x, held = rows(300), rows(50, seed=1)
    scorer = KMeans().fit(x, validation=held)
    assert scorer.training_["validation_mean"] == pytest.approx(scorer.score(held).mean())
    assert np.array_equal(scorer.score(held), KMeans().fit(x).score(held))


def test_outputs_of_deep_svdd_are_homogeneous_and_the_score_is_the_distance_to_the_centre() -> None:
    """Without biases φ(2 z) = 2 φ(z), so that no row but the mean leads to zero and no network to one point."""
    x, y = rows(300), rows(40, seed=1)
    scorer = DeepSvdd(**SHORT, outputs=40).fit(x)
    z = torch.from_numpy(scaled(scorer, y)[0])[None]
    outputs = scorer.network_(z)[0].numpy()
    np.testing.assert_allclose(scorer.network_(2 * z)[0].numpy(), 2 * outputs, rtol=1e-12)
    assert not [name for name, _ in scorer.network_.named_parameters() if "bias" in name]
    centre = scorer.fitted_["centre"]
    assert centre.shape == (40,)
    assert (np.abs(centre) >= 0.1 - 1e-12).all()
    np.testing.assert_allclose(scorer.score(y), np.linalg.norm(outputs - centre, axis=1), rtol=1e-12)
    # the mean of the untrained outputs, moved away from zero
    untrained = scorer.build(4)(torch.from_numpy(scaled(scorer, x)[0]).float()[None])[0].detach().numpy().mean(axis=0)
    assert (np.abs(untrained) < 0.1).any()
    np.testing.assert_allclose(centre, np.sign(untrained) * np.maximum(np.abs(untrained), 0.1), atol=0.1)
    assert scorer.training_["outputs_spread"] > 1e-3


def test_deep_svdd_comes_closer_to_its_target_by_training() -> None:
    x = rows(400)
    means = []
    for epochs in (1, 15):
        scorer = DeepSvdd(**{**SHORT, "max_epochs": epochs}, outputs=3, target=4.0).fit(x)
        np.testing.assert_array_equal(scorer.fitted_["centre"], [4.0, 4.0, 4.0])
        means.append(scorer.score(x).mean())
    assert means[1] < 0.8 * means[0]


def test_a_collapse_is_named() -> None:
    with pytest.raises(
        ScorerError, match=r"DeepSvdd: the outputs have collapsed to one point.*every row has the same score"
    ):
        DeepSvdd(**SHORT).fit(np.ones((150, 3)))
    # rows at +1 and -1 alone are all as far from their mean: a homogeneous network can bring them to one point
    x = np.where(np.arange(400) % 2 == 0, 1.0, -1.0)[:, None]
    with pytest.raises(ScorerError, match="collapsed"):
        DeepSvdd(**{**SHORT, "max_epochs": 15}).fit(x)


def test_an_autoencoder_scores_the_mean_squared_error_of_scaled_rows() -> None:
    x, y = rows(300), rows(40, seed=1)
    scorer = Autoencoder(**SHORT).fit(x)
    z = torch.from_numpy(scaled(scorer, y)[0])[None]
    made = scorer.network_.decode(scorer.network_.encode(z)[0])[0]
    np.testing.assert_allclose(scorer.score(y), ((z - made)[0].numpy() ** 2).mean(axis=1), rtol=1e-12)
    # rows on a line are reconstructed by one latent number, those off it are not
    t = np.random.default_rng(0).normal(size=(600, 1))
    line = np.concatenate([t, 2 * t, -t], axis=1)
    fitted = Autoencoder(latent=1, hidden=16, max_epochs=15, batch_size=64, device="cpu").fit(line)
    on, off = fitted.score(line[:50]), fitted.score(line[:50] + np.array([1.0, -2.0, -1.0]))
    assert np.median(on) < 0.02
    assert np.quantile(off, 0.1) > np.quantile(on, 0.9)


def test_the_scaling_is_that_of_the_option() -> None:
    x = rows(300)
    x[0] = 1e9  # one absurd row
    standard, quantiles = (KMeans(scaling=name).fit(x) for name in SCALINGS)
    assert np.ptp(scaled(standard, x[1:])[0]) < 1e-3
    assert np.ptp(scaled(quantiles, x[1:])[0]) > 3


BAD: dict[str, tuple[Any, str]] = {
    "n_estimators": (IsolationForest(n_estimators=0), "n_estimators is 0, allowed: 1 to 10000"),
    "max_samples": (IsolationForest(max_samples=1), "max_samples is 1, allowed: 2 to 1000000"),
    "half a tree": (IsolationForest(n_estimators=2.5), "n_estimators is 2.5; a whole number is expected"),  # type: ignore[arg-type]
    "components": (GaussianMixture(components=-1), "components is -1, allowed: 1 to 10000"),
    "covariance": (GaussianMixture(covariance="dag"), "no covariance 'dag'; did you mean 'diag'"),
    "reg_covar": (GaussianMixture(reg_covar=-1e-6), "reg_covar is -1e-06, allowed: 0, or a finite number above 0"),
    "bandwidth": (KernelDensity(bandwidth="scot"), "no bandwidth 'scot'; did you mean 'scott'.*, or a number"),
    "no width": (KernelDensity(bandwidth=0.0), "bandwidth is 0.0, allowed: a finite number above 0"),
    "nan width": (KernelDensity(bandwidth=float("nan")), "bandwidth is nan, allowed: a finite number above 0"),
    "max_rows": (KernelDensity(max_rows=1), "max_rows is 1, allowed: 2 to 1000000"),
    "clusters": (KMeans(clusters=0), "clusters is 0, allowed: 1 to 100000"),
    "scaling": (KMeans(scaling="standart"), "no scaling 'standart'; did you mean 'standard'"),
    "no scaling": (KMeans(scaling=None), "no scaling None; allowed: "),  # type: ignore[arg-type]
    "scalings": (KMeans(scaling=["standard"]), r"no scaling \['standard'\]; allowed: "),  # type: ignore[arg-type]
    "seed": (KMeans(seed="abc"), "seed is 'abc'"),  # type: ignore[arg-type]
    "negative seed": (GaussianMixture(seed=-1), "seed is -1, allowed: 0 or more"),
    "target": (DeepSvdd(target=0.0), "target is 0.0, allowed: none, or a finite number other than 0"),
    "outputs": (DeepSvdd(outputs=0), "outputs is 0, allowed: 1 to 4096"),
    "weight_decay": (DeepSvdd(weight_decay=-1.0), "weight_decay is -1.0"),
    "latent": (Autoencoder(latent=0), "latent is 0, allowed: none, or 1 to 4096"),
    "hidden": (Autoencoder(hidden=0), "hidden is 0, allowed: 1 to 65536"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options_are_named(name: str) -> None:
    scorer, said = BAD[name]
    with pytest.raises(ScorerError, match=said):
        scorer.check()
    with pytest.raises(ScorerError, match=said):
        scorer.fit(rows(200))


def test_what_cannot_be_fitted_is_named() -> None:
    x = rows(120)
    for scorer in (GaussianMixture(components=121), KMeans(clusters=121)):
        with pytest.raises(TooFewRowsError, match=r"(components|clusters) is 121, more than the 120 rows of x"):
            scorer.fit(x)
    for cls in (IsolationForest, GaussianMixture, KernelDensity, KMeans, DeepSvdd, Autoencoder):
        with pytest.raises(ScorerError, match=f"{cls.__name__} cannot use weights"):
            cls().fit(Sample(x, weight=np.ones(120)))
        with pytest.raises(TypeError, match="exposure"):
            cls().fit(x, exposure=x)
        space = ScorerSpace(cls())
        with pytest.raises(ScorerError, match=f"{cls.__name__} cannot use an exposure sample"):
            space.fit(x, exposure=x + 1)


def test_axes_of_several_methods_stand_in_one_space(tmp_path: Path) -> None:
    x, near = rows(300), rows(150, seed=3) + 1
    space = ScorerSpace(
        GaussianMixture(components=2), {"near": KernelDensity(), "far": IsolationForest(n_estimators=9)}
    )
    space.fit(x, priors={"near": near, "far": near})
    losses = space.losses(x)
    assert losses.shape == (300, 3)
    space.save(tmp_path / "s")
    again: Any = load_scorer(tmp_path / "s")
    np.testing.assert_array_equal(again.losses(x), losses)
    assert space.configured(metric={"background": "mahalanobis"}).losses(x).shape == (300, 3)


DAMAGED: dict[str, tuple[Any, str, Any, str]] = {
    "a child that is not there": (IsolationForest(n_estimators=2), "left", 10_000, "nodes that there are not"),
    "a circle": (IsolationForest(n_estimators=2), "left", 0, "nodes that there are not, or back"),
    "a column that is not there": (IsolationForest(n_estimators=2), "feature", 4, "cut columns other than the 4"),
    "a root that is not there": (IsolationForest(n_estimators=2), "roots", -1, "nodes that there are not"),
    "means": (GaussianMixture(components=2), "means", np.zeros((2, 3)), r"means has the shape \(2, 3\); \(2, 4\)"),
    "weights": (GaussianMixture(components=2), "weights", np.array([np.nan, 1.0]), "weights holds NaN or infinity"),
    "kernels": (KernelDensity(), "rows", np.zeros((9, 3)), r"rows has the shape \(9, 3\); \(9, 4\)"),
    "centres": (KMeans(clusters=2), "centres", np.zeros((3, 4)), r"centres has the shape \(3, 4\); \(2, 4\)"),
    "centre": (DeepSvdd(**SHORT), "centre", np.zeros(3), r"centre has the shape \(3,\); \(8,\)"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_arrays_that_do_not_fit_are_refused_when_read(name: str, tmp_path: Path) -> None:
    scorer, array, value, said = DAMAGED[name]
    scorer.fit(rows(150)).save(tmp_path / "s")
    record, tensors = read_folder(tmp_path / "s")
    changed = tensors[f"fitted.{array}"].clone()
    if isinstance(value, int):
        changed[0] = value
    else:
        changed = torch.from_numpy(value)
    write_folder(tmp_path / "s", record, tensors | {f"fitted.{array}": changed})
    with pytest.raises(ScorerFolderError, match=said):
        load_scorer(tmp_path / "s")
