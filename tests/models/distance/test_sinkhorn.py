"""Sinkhorn against exact transport: its error, its bounds, and that it says where it has not converged."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from hunch.models.distance.clouds import NotNormalisedError, clouds_from_constituents, clouds_from_images
from hunch.models.distance.sinkhorn import sinkhorn
from hunch.models.distance.transport import TransportOptionError, wasserstein
from hunch.models.inputs import ShapeError
from hunch.models.train.loop import DeviceError


def jets(n: int, *, seed: int = 0, most: int = 16) -> np.ndarray:
    """Constituents (n, most, 3), at least half of them there, pT sums of one."""
    rng = np.random.default_rng(seed)
    made = np.concatenate([rng.exponential(1.0, (n, most, 1)) ** 2, rng.normal(0, 0.3, (n, most, 2))], axis=2)
    made[:, most // 2 :, 0] *= rng.random((n, most - most // 2)) < 0.5
    made[..., 0] /= made[..., 0].sum(axis=1, keepdims=True)
    return made


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_close_to_exact_and_between_its_bounds(p: float) -> None:
    pytest.importorskip("ot", reason="exact transport needs POT")
    x, y = clouds_from_constituents(jets(8)), clouds_from_constituents(jets(6, seed=1))
    found, exact = sinkhorn(x, y, p=p, device="cpu"), wasserstein(x, y, p=p)
    assert np.median(np.abs(found.distance / exact - 1)) < 0.01
    assert (found.lower <= exact + 1e-6).all()
    assert (found.upper >= exact - 1e-6).all()
    assert found.converged.mean() > 0.5
    off = np.abs(found.distance - exact)
    assert (off <= 0.02 * found.distance + 1e-6)[found.converged].all()


def test_bounds_hold_and_shrink_with_the_tolerance(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("ot", reason="exact transport needs POT")
    clouds = clouds_from_constituents(jets(7))
    exact = wasserstein(clouds)
    widths = []
    for tolerance in (0.5, 0.005, 1e-5):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = sinkhorn(clouds, tolerance=tolerance, device="cpu")
        widths.append(np.median(found.upper - found.lower))
        assert (found.lower <= exact + 1e-6).all()
        assert (found.upper >= exact - 1e-6).all()
        assert bool(caplog.records) is not bool(found.converged.all())
        assert np.array_equal(found.converged, found.upper - found.distance <= tolerance * found.distance)
        assert np.array_equal(found.distance, (found.lower + found.upper) / 2)
    assert widths[0] > widths[1] > widths[2]
    assert not found.converged.all()
    assert "of 49 distances are not known to 1e-05" in caplog.text


def uneven(n: int, *, seed: int = 0) -> np.ndarray:
    """Constituents (n, 16, 3) whose pT sums differ by up to a factor of four."""
    made = jets(n, seed=seed)
    made[..., 0] *= np.random.default_rng(seed + 9).uniform(50, 200, (n, 1))
    return made


@pytest.mark.parametrize("radius", [0.01, 0.7, 100.0])
@pytest.mark.parametrize("p", [1.0, 2.0])
def test_unbalanced_is_close_to_exact_and_between_its_bounds(p: float, radius: float) -> None:
    pytest.importorskip("ot", reason="exact transport needs POT")
    x, y = clouds_from_constituents(uneven(8)), clouds_from_constituents(uneven(6, seed=1))
    assert len(set(np.sign(np.subtract.outer(x.sums(), y.sums())).ravel())) == 2  # either side is the lighter one
    exact = wasserstein(x, y, p=p, unbalanced=radius)
    found = sinkhorn(x, y, p=p, unbalanced=radius, device="cpu")
    assert np.median(np.abs(found.distance / exact - 1)) < 0.01
    assert (found.lower <= exact * (1 + 1e-6)).all()
    assert (found.upper >= exact * (1 - 1e-6)).all()
    assert found.converged.mean() > 0.9
    pairs = sinkhorn(x, p=p, unbalanced=radius, batch=3, device="cpu")
    assert np.array_equal(pairs.distance, pairs.distance.T)
    assert (np.diag(pairs.distance) == 0).all()
    alone = sinkhorn(x, y, p=p, unbalanced=radius, batch=1, device="cpu")
    np.testing.assert_allclose(alone.distance, found.distance, rtol=1e-4)


def test_unbalanced_by_hand() -> None:
    """3 GeV at 0 against 1 GeV at 0.4 with R = 2: move 1 by 0.4, pay 2 · 2; equal sums: the balanced distance."""
    x, y = clouds_from_constituents([[[3.0, 0.0, 0.0]]]), clouds_from_constituents([[[1.0, 0.4, 0.0]]])
    for one, other in ((x, y), (y, x)):
        assert sinkhorn(one, other, unbalanced=2.0, device="cpu").distance[0, 0] == pytest.approx(4.4, rel=1e-6)
    squares = sinkhorn(x, y, p=2, unbalanced=2.0, device="cpu").distance[0, 0]
    assert squares == pytest.approx(np.sqrt(0.16 + 8.0), rel=1e-6)
    twice, once = clouds_from_constituents([[[2.0, 0.0, 0.0]]]), clouds_from_constituents([[[1.0, 0.0, 0.0]]])
    charged = sinkhorn(twice, once, unbalanced=2.0, device="cpu")  # the same point, but a unit more
    assert charged.lower[0, 0] == charged.upper[0, 0] == pytest.approx(2.0, rel=1e-6)
    even = clouds_from_constituents(jets(4))
    np.testing.assert_allclose(
        sinkhorn(even, unbalanced=1.0, device="cpu").distance, sinkhorn(even, device="cpu").distance, rtol=1e-4
    )


def test_high_powers_converge_on_images() -> None:
    pytest.importorskip("ot", reason="exact transport needs POT")
    rng = np.random.default_rng(0)
    images = np.zeros((6, 40, 40))
    for image in images:
        places = np.clip(np.rint(rng.normal(20, 5, (30, 2))), 0, 39).astype(int)
        np.add.at(image, tuple(places.T), rng.exponential(1.0, 30) ** 2)
    clouds = clouds_from_images(images, normalise=True)
    exact, found = wasserstein(clouds, p=5.0), sinkhorn(clouds, p=5.0, device="cpu")
    off = exact > 0
    assert np.median(np.abs(found.distance[off] / exact[off] - 1)) < 0.01
    assert found.converged[off].mean() > 0.9
    assert (found.lower <= exact * (1 + 1e-4)).all()
    assert (found.upper >= exact * (1 - 1e-4)).all()


def test_by_hand() -> None:
    """Two single deposits: their distance; a shifted image: the shift, inside the bounds."""
    image = np.zeros((2, 8, 9))
    image[0, 1, 2] = image[1, 4, 6] = 1.0
    assert sinkhorn(clouds_from_images(image, pixel=0.1), device="cpu").distance[0, 1] == pytest.approx(0.5, rel=1e-5)
    large = np.zeros((2, 40, 40))
    large[0, 3:13, 4:14] = np.random.default_rng(0).random((10, 10)) * (np.arange(100).reshape(10, 10) % 3 == 0)
    large[1, 15:25, 20:30] = large[0, 3:13, 4:14]
    found = sinkhorn(clouds_from_images(large, normalise=True), device="cpu")
    assert found.distance[0, 1] == pytest.approx(20.0, rel=0.01)
    assert found.lower[0, 1] <= 20.0 + 1e-4
    assert found.upper[0, 1] >= 20.0 - 1e-4


def test_symmetric_zero_for_equal_and_independent_of_company() -> None:
    x = jets(6)
    found = sinkhorn(clouds_from_constituents(x), device="cpu")
    assert np.array_equal(found.distance, found.distance.T)
    assert (np.diag(found.distance) == 0).all()
    assert found.converged.diagonal().all()
    again = sinkhorn(clouds_from_constituents(x), clouds_from_constituents(x), device="cpu")
    assert (np.diag(again.distance) == 0).all()
    np.testing.assert_allclose(again.distance, found.distance, rtol=0.02)
    one = sinkhorn(clouds_from_constituents(x), batch=1, device="cpu")
    np.testing.assert_allclose(one.distance, found.distance, rtol=1e-4)
    assert sinkhorn(clouds_from_constituents(x[:0]), clouds_from_constituents(x), device="cpu").distance.shape == (0, 6)


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    sinkhorn(clouds_from_constituents(jets(2)), device="cpu", threads=1)
    assert torch.get_num_threads() == before


def test_scale_goes_through() -> None:
    x = jets(4)
    found = sinkhorn(clouds_from_constituents(x * [1, 1e-3, 1e-3]), device="cpu").distance
    np.testing.assert_allclose(found, 1e-3 * sinkhorn(clouds_from_constituents(x), device="cpu").distance, rtol=1e-3)


@pytest.mark.parametrize("p", [1.0, 5.0])
def test_scale_goes_through_unbalanced_however_small_the_unit(p: float) -> None:
    x, factor = uneven(4), 1e-12
    whole = sinkhorn(clouds_from_constituents(x), p=p, unbalanced=0.5, device="cpu").distance
    small = clouds_from_constituents(x * [1, factor, factor])
    found = sinkhorn(small, p=p, unbalanced=0.5 * factor, device="cpu").distance
    np.testing.assert_allclose(found, factor * whole, rtol=1e-3)


def test_bad_input_is_named() -> None:
    x = clouds_from_constituents(jets(3))
    with pytest.raises(NotNormalisedError, match="do not sum to one"):
        sinkhorn(clouds_from_constituents(2 * jets(3)), x)
    with pytest.raises(NotNormalisedError, match="do not sum to one"):
        sinkhorn(x, clouds_from_constituents(2 * jets(3)))
    with pytest.raises(ShapeError, match="2 coordinates"):
        sinkhorn(x, clouds_from_constituents(jets(3)[..., :2]))
    for options in (
        {"p": 0.5},
        {"unbalanced": 0.0},
        {"tolerance": 0.0},
        {"tolerance": 2.0},
        {"batch": 0},
        {"threads": 0},
    ):
        with pytest.raises(TransportOptionError, match=next(iter(options))):
            sinkhorn(x, **options)  # type: ignore[arg-type]
    assert sinkhorn(x, clouds_from_constituents(2 * jets(3)), unbalanced=1.0, device="cpu").distance.min() > 0
    with pytest.raises(DeviceError, match="no device 'gpu'"):
        sinkhorn(x, device="gpu")
