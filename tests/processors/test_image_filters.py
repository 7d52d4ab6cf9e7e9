"""The Gaussian filter and the power of images: against known moments, what they keep, their order, and what they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from hunch.errors import InputError
from hunch.processors import Images, ImageSettings, Running, filtered_images, jet_images, padded_constituents, run_table
from hunch.processors.image_filters import ImageSettingsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def sparse(rng: np.random.Generator, n: int = 300, side: int = 12) -> np.ndarray:
    """Images that sum to one with some 5 of their pixels lit, borders too."""
    images = rng.exponential(1.0, (n, side, side)) * (rng.random((n, side, side)) < 0.04)
    images[:, 0, 3] = 0.5
    return np.asarray(images / images.sum(axis=(1, 2), keepdims=True))


@pytest.mark.parametrize("smear", [0.8, 1.0, 2.0])
def test_a_point_becomes_a_gaussian(smear: float) -> None:
    images = np.zeros((2, 41, 31))
    images[0, 20, 15], images[1, 19, 16] = 1.0, 3.0
    found = filtered_images(images, smear=smear)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), [1.0, 3.0], rtol=1e-12)
    for axis, middle in ((1, 20), (2, 15)):
        steps = np.arange(found.shape[axis]) - middle
        profile = found[0].sum(axis=2 - axis)
        assert (profile * steps).sum() == pytest.approx(0, abs=1e-12)
        assert (profile * steps**2).sum() == pytest.approx(smear**2, rel=0.01)
    np.testing.assert_allclose(found[1, 19, 16], 3 * found[0, 20, 15], rtol=1e-12)


@pytest.mark.parametrize("smear", [0.3, 1.0, 7.5, 100.0])
def test_the_filter_loses_nothing_at_the_border_and_mixes_no_images(smear: float, rng: np.random.Generator) -> None:
    images = sparse(rng)
    found = filtered_images(images, smear=smear)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 1.0, rtol=1e-12)
    assert (found >= 0).all()
    np.testing.assert_array_equal(filtered_images(images[290:291], smear=smear)[0], found[290])


@pytest.mark.parametrize("power", [0.01, 0.5, 2.0, 10.0])
def test_a_power_keeps_black_pixels_and_the_order_of_the_others(power: float, rng: np.random.Generator) -> None:
    images = sparse(rng)
    found = filtered_images(images, power=power)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(found > 0, images > 0)
    np.testing.assert_allclose(found[7], images[7] ** power / (images[7] ** power).sum(), rtol=1e-10)


def test_the_power_is_taken_after_the_filter_and_neither_of_nothing(rng: np.random.Generator) -> None:
    images = sparse(rng)
    both = filtered_images(images, smear=1.0, power=0.5)
    after = np.sqrt(filtered_images(images, smear=1.0))
    np.testing.assert_allclose(both, after / after.sum(axis=(1, 2), keepdims=True), rtol=1e-12)
    assert np.abs(both - filtered_images(filtered_images(images, power=0.5), smear=1.0)).max() > 0.01
    np.testing.assert_array_equal(filtered_images(images), images)
    black = filtered_images(np.zeros((2, 5, 5), dtype=np.float32), smear=1.0, power=0.5)
    assert (black.dtype, black.max()) == (np.float32, 0)
    assert filtered_images(np.zeros((0, 5, 5)), smear=1.0, power=0.5).shape == (0, 5, 5)
    assert filtered_images(np.eye(4, dtype=np.int64)[None], power=0.5).sum() == pytest.approx(1)


def test_jet_images_are_filtered_like_images_that_are_there(rng: np.random.Generator) -> None:
    points = np.stack([rng.exponential(20.0, (300, 9)), *rng.normal(0, 0.3, (2, 300, 9))], axis=2)
    jets, filters = padded_constituents(points), {"smear": 1.5, "power": 0.5}
    plain = jet_images(jets, settings=ImageSettings(pixels=20))
    found = jet_images(jets, settings=ImageSettings(pixels=20, **filters))
    np.testing.assert_allclose(found.images, filtered_images(plain.images, **filters), atol=1e-7)
    np.testing.assert_allclose(found.images.sum(axis=(1, 2)), 1.0, rtol=1e-5)
    in_gev = jet_images(jets, settings=ImageSettings(pixels=20, normalise=False, smear=1.5))
    inside = jet_images(jets, settings=ImageSettings(pixels=20, normalise=False))
    np.testing.assert_allclose(in_gev.images.sum(axis=(1, 2)), inside.images.sum(axis=(1, 2)), rtol=1e-5)


def test_tables_hold_filtered_images(write_events: Callable[..., Path]) -> None:
    path = write_events("a.root", [[(60.0, 0.0, 0.0), (40.0, 0.3, 0.2)], [(80.0, 0.1, 3.1), (20.0, -0.1, -3.1)]])
    running = Running(executor="iterative", progress=False)
    plain, found = (
        run_table(path, Images(jets=1, pixels=10, observable="pt_1", **options), running).table
        for options in ({}, {"smear": 1.0, "power": 0.7})
    )
    np.testing.assert_allclose(found["image_1"], filtered_images(plain["image_1"], smear=1.0, power=0.7), atol=1e-7)
    assert {name: found.metadata["settings"][name] for name in ("smear", "power")} == {"smear": 1.0, "power": 0.7}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smear": -1.0}, "smear: -1.0 is not a number of pixels from 0 to 100"),
        ({"smear": np.nan}, "smear: nan"),
        ({"smear": "1"}, "smear: '1'"),
        ({"smear": True}, "smear: True"),
        ({"power": 0.0}, "power: 0.0 is not a number from 0.001 to 10"),
        ({"power": np.inf}, "power: inf"),
        ({"power": None}, "power: None"),
    ],
)
def test_impossible_options_are_errors_everywhere(options: dict[str, Any], message: str) -> None:
    for make in (ImageSettings, Images, lambda **given: filtered_images(np.ones((1, 2, 2)), **given)):
        with pytest.raises(ImageSettingsError, match=message):
            make(**options)


def test_a_power_of_gev_is_refused() -> None:
    with pytest.raises(
        ImageSettingsError, match=r"power: 0\.5 makes an image that sums to one, and normalise is False"
    ):
        ImageSettings(normalise=False, power=0.5)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.ones((4, 4)), r"images: float64 of shape \(4, 4\)"),
        (np.ones((4, 0, 4)), r"shape \(4, 0, 4\)"),
        ([[["a"]]], "images: <U1"),
        (np.stack([np.ones((3, 3)), -np.ones((3, 3))]), "image 1 has a pixel that is negative"),
        (np.full((300, 2, 2), np.nan), "image 0 has a pixel"),
    ],
)
def test_what_is_no_image_is_refused(images: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        filtered_images(images, smear=1.0)
