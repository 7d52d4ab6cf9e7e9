"""Features of jets given as sets or images: jets whose mass, width and pixels are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hunch.errors import InputError
from hunch.processors import (
    FEATURE_LABELS,
    ImageSettings,
    constituent_features,
    constituent_images,
    flat_constituents,
    image_features,
    jet_images,
)


def two_prongs(angle: float = 0.3) -> np.ndarray:
    """Two massless constituents of 100 GeV at ±angle from the x axis, a third slot empty: (1, 3, 4)."""
    four = [[100, 100 * np.cos(a), 100 * np.sin(a), 0] for a in (angle, -angle)]
    return np.array([[*four, [0, 0, 0, 0]]])


def as_polar(angle: float = 0.3) -> np.ndarray:
    return np.array([[[100, 0, angle], [100, 0, -angle], [0, 0, 0]]])


def test_two_prongs_have_the_mass_and_the_width_of_two_prongs() -> None:
    for jets in (two_prongs(), as_polar()):
        found = constituent_features(jets)
        assert found["mass"][0] == pytest.approx(200 * np.sin(0.3))
        assert found["pt"][0] == pytest.approx(200 * np.cos(0.3))
        assert found["width"][0] == pytest.approx(0.3)
        assert (found["multiplicity"][0], found["leading"][0]) == (2, 0.5)
    assert set(constituent_features(two_prongs())) - set(constituent_features(as_polar())) == {"massless_mass"}


def test_width_is_from_the_axis_across_the_wrap_of_phi() -> None:
    turned = as_polar() + np.array([0, 0, np.pi])
    turned[..., 2] -= 2 * np.pi * (turned[..., 2] > np.pi)
    turned[:, 2] = 0
    assert constituent_features(turned)["width"][0] == pytest.approx(0.3)


def test_masses_of_constituents_off_their_mass_shell() -> None:
    jets = two_prongs()
    jets[:, 0, 0] = 120  # heavy
    found = constituent_features(jets)
    assert found["mass"][0] == pytest.approx(np.sqrt(220**2 - (200 * np.cos(0.3)) ** 2))
    assert found["massless_mass"][0] == pytest.approx(200 * np.sin(0.3))
    jets[:, 0, 0] = 60  # E below |p|
    assert constituent_features(jets)["mass"][0] == 0


def test_tau21_tells_two_prongs_from_one() -> None:
    rng = np.random.default_rng(0)
    side = np.where(np.arange(12) % 2, 0.4, -0.4)
    spread = rng.normal(0, 0.05, (2, 30, 12))
    pt = rng.exponential(30, (30, 12)) + 5
    one, two = (np.stack([pt, spread[0], spread[1] + k * side], axis=-1) for k in (0, 1))
    single, double = (constituent_features(x, tau21=True)["tau21"] for x in (one, two))
    assert double.max() < 0.4 < single.mean()
    assert constituent_features(as_polar(), tau21=True)["tau21"][0] == pytest.approx(0, abs=1e-9)
    empty = np.concatenate([one[:1], np.zeros((1, 12, 3))])
    assert constituent_features(empty, tau21=True)["tau21"][1] == 0


def test_features_of_images_are_those_of_points_at_their_pixels() -> None:
    image = np.zeros((1, 40, 40))
    image[0, 25, 20] = image[0, 14, 20] = 0.5  # phi 0.275 and -0.275, eta 0.025
    found = image_features(image)
    polar = constituent_features(np.array([[[0.5, 0.025, 0.275], [0.5, 0.025, -0.275]]]))
    assert found["mass_over_pt"][0] == pytest.approx(polar["mass"][0])
    assert found["width"][0] == pytest.approx(0.275)
    assert (found["pixels"][0], found["brightest"][0], found["pt"][0]) == (2, 0.5, 1)
    np.testing.assert_allclose(image_features(300 * image)["mass_over_pt"], found["mass_over_pt"])
    assert image_features(300 * image)["pt"][0] == 300
    assert image_features(image, half_phi=0.5)["width"][0] == pytest.approx(0.1375)
    assert set(found) <= set(FEATURE_LABELS)
    assert set(constituent_features(two_prongs(), tau21=True)) <= set(FEATURE_LABELS)


def test_faint_pixels_do_not_count_and_rounding_is_no_pt() -> None:
    image = np.full((1, 8, 8), 1e-5, dtype=np.float32)
    image[0, 4, 4] = 1 - 63e-5
    found = image_features(image)
    assert (found["pixels"][0], found["pt"][0]) == (1, 1.0)
    assert image_features(image, least=1e-6)["pixels"][0] == 64


def test_constituents_become_the_image_that_jet_images_makes() -> None:
    rng = np.random.default_rng(1)
    pt, eta, phi = rng.exponential(30, (5, 10)), *rng.normal(0, 0.3, (2, 5, 10))
    settings = ImageSettings(pixels=20)
    counts = np.full(5, 10)
    wanted = jet_images(flat_constituents(pt.ravel(), eta.ravel(), phi.ravel(), counts), settings=settings).images
    four = np.stack([pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=-1)
    np.testing.assert_allclose(constituent_images(four, settings=settings), wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((3, 4)), "shape"),
        (np.zeros((3, 4, 5)), "shape"),
        (np.full((1, 2, 3), np.nan), "jet 0"),
        (-np.ones((2, 2, 4)), "E or pT below 0"),
    ],
)
def test_sets_that_are_none_are_refused(given: Any, words: str) -> None:
    for function in (constituent_features, constituent_images):
        with pytest.raises(InputError, match=words):
            function(given)


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        (np.zeros((3, 4)), {}, "shape"),
        (np.zeros((2, 4, 4)), {}, "image 0 has no pixel above 0"),
        (-np.ones((1, 4, 4)), {}, "image 0"),
        (np.ones((1, 4, 4)), {"half_eta": 0}, "half_eta: 0 is not a positive number"),
        (np.ones((1, 4, 4)), {"least": -1}, "least: -1"),
    ],
)
def test_images_that_are_none_are_refused(given: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        image_features(given, **options)
