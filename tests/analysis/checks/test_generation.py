"""Distances of generated from training distributions with a known answer, and latent dimensions that are known to tell of the mass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hunch.analysis import (
    average_image_figure,
    compare_generated,
    generation_figure,
    latent_correlations,
    latent_mass_figure,
)
from hunch.analysis.checks.generation import feature_edges
from hunch.errors import InputError


def test_the_same_distribution_is_at_its_floor_and_a_shift_is_seen() -> None:
    rng = np.random.default_rng(0)
    training = {"same": rng.normal(3, 2, 2000), "shifted": rng.normal(3, 2, 2000), "one": np.ones(2000)}
    made = {"shifted": rng.normal(7, 2, 1000), "one": np.ones(1000), "same": rng.normal(3, 2, 1000)}
    same, shifted, one = compare_generated(made, training, splits=20)
    assert [c.name for c in (same, shifted, one)] == list(training)
    assert same.spread == pytest.approx(2, rel=0.1)
    assert same.wasserstein < 1.5 * same.wasserstein_floor_95
    assert same.jsd < 1.5 * same.jsd_floor_95
    assert 0 < same.wasserstein_floor < same.wasserstein_floor_95
    assert shifted.wasserstein == pytest.approx(2, abs=0.15)  # two spreads
    assert shifted.jsd > 20 * shifted.jsd_floor_95
    assert (one.wasserstein, one.jsd, one.spread) == (0, 0, 1)
    assert "same: Wasserstein" in repr(same)
    assert compare_generated(made, training, splits=20) == (same, shifted, one)


def test_distributions_that_do_not_meet_have_the_largest_divergence() -> None:
    (found,) = compare_generated({"m": np.full(50, 9.0)}, {"m": np.linspace(0, 1, 50)}, splits=3)
    assert found.jsd > 0.5 * np.log(2)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"mas": np.ones(30)}, "no feature 'mas'; did you mean 'mass'"),
        ({}, "generated: no feature 'mass'"),
        ({"mass": np.ones(5)}, "n from 20 on"),
        ({"mass": np.full(30, np.nan)}, "30 numbers that are not finite"),
    ],
)
def test_features_that_do_not_go_together_are_refused(made: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        compare_generated(made, {"mass": np.arange(30.0)})


def test_whole_numbers_have_bins_around_them() -> None:
    edges = feature_edges(np.arange(0.0, 100.0))
    assert len(set(np.diff(edges))) == 1
    assert edges[0] % 1 == 0.5
    assert len(edges) <= 31
    np.testing.assert_allclose(feature_edges(np.full(9, 4.0)), [3.5, 4.5])


def test_the_dimension_that_makes_the_mass_is_found_whatever_the_shape() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1500, 4))
    z[:, 3] = 2.0  # collapsed
    found = latent_correlations(z, 80 + 10 * z[:, 1] ** 2 + 5 * z[:, 0])
    assert found.most == 1
    assert abs(found.pearson[1]) < 0.15 < found.dcorr2[1]
    assert found.pearson[0] > 0.25
    assert (found.pearson[3], found.spearman[3], found.dcorr2[3]) == (0, 0, 0)
    line = latent_correlations(z, np.exp(-z[:, 2]))
    assert line.most == 2
    assert line.spearman[2] == pytest.approx(-1)
    assert line.pearson[2] > -0.9
    assert "most: 2" in repr(line)


@pytest.mark.parametrize(
    ("means", "mass", "words"),
    [
        (np.zeros((30, 2)), np.zeros(29), "one n"),
        (np.zeros((5, 2)), np.zeros(5), "from 20 on"),
        (np.zeros(30), np.zeros(30), "dimensions"),
        (np.full((30, 1), np.inf), np.zeros(30), "not finite"),
    ],
)
def test_means_and_masses_that_do_not_go_together_are_refused(means: Any, mass: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        latent_correlations(means, mass)


def test_distributions_are_drawn_with_their_ratio_and_distances() -> None:
    rng = np.random.default_rng(0)
    training = {
        "mass": rng.exponential(50, 400),
        "n": rng.poisson(9, 400),
        "w": rng.normal(size=400),
        "t": rng.normal(size=400),
    }
    made = {name: values[:200] for name, values in training.items()}
    made["w"] = 0.3 * made["w"]
    figure = generation_figure(made, training, labels={"mass": "jet mass [GeV]", "n": "number of $"})
    shown = [axis for axis in figure.get_axes() if axis.get_visible()]
    assert len(shown) == 8
    assert "jet mass [GeV]" in [axis.get_xlabel() for axis in shown]
    assert any("Wasserstein" in axis.get_title("left") for axis in shown)
    # the ratios of equal distributions are 1; those beyond the axis are arrows
    (points,) = [line for line in shown[3].get_lines() if len(line.get_ydata()) > 2 and line.get_marker() == "o"] or [
        None
    ]
    assert points is not None
    assert abs(np.mean(points.get_ydata()) - 1) < 0.3


def test_average_images_and_their_difference_are_drawn() -> None:
    rng = np.random.default_rng(0)
    training, made = rng.exponential(size=(40, 6, 6)), np.ones((30, 6, 6))
    figure = average_image_figure(made, 3 * training)
    pictures = [axis.get_images()[0].get_array() for axis in figure.get_axes() if axis.get_images()]
    assert len(pictures) == 3
    mean = (training / training.sum(axis=(1, 2), keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(pictures[0], mean)
    np.testing.assert_allclose(pictures[2], 1 / 36 - mean)
    with pytest.raises(InputError, match="one size"):
        average_image_figure(made, training[:, :5])


def test_the_mass_along_a_dimension_is_drawn_with_its_jets() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(200, 3))
    mass = 100 + 20 * z[:, 1]
    found, values = latent_correlations(z, mass), np.linspace(-2, 2, 5)
    made = 100 + 20 * values[:, None] + rng.normal(size=(5, 40))
    figure = latent_mass_figure(found, z, mass, values, made, images=rng.exponential(size=(5, 6, 6)))
    axes = figure.get_axes()
    along = next(axis for axis in axes if axis.get_xlabel() == "latent dimension 1")
    line = next(line for line in along.get_lines() if len(line.get_xdata()) == 5)
    np.testing.assert_allclose(line.get_ydata(), 100 + 20 * values, atol=1)
    assert sum(bool(axis.get_images()) for axis in axes) == 5
    assert len(latent_mass_figure(found, z, mass, values, made).get_axes()) == 3
    with pytest.raises(InputError, match="correlations of 3 dimensions"):
        latent_mass_figure(found, z[:, :2], mass, values, made)
