"""Exact transport against a linear programme, sorted quantiles and cases that can be done by hand."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.stats import wasserstein_distance

from hunch.models.distance import transport
from hunch.models.distance.clouds import (
    Clouds,
    EmptyImageError,
    NegativePixelError,
    NotNormalisedError,
    clouds_from_constituents,
    clouds_from_images,
)
from hunch.models.distance.transport import TransportOptionError, TransportSolverError, wasserstein, wasserstein_rowwise
from hunch.models.inputs import DtypeError, NonFiniteError, ShapeError

pytest.importorskip("ot", reason="exact transport needs POT")

POWERS = [1.0, 1.5, 2.0, 5.0]


def jets(n: int, *, seed: int = 0, most: int = 12, total: float | None = 1.0) -> np.ndarray:
    """Constituents (n, most, 3) with padding anywhere; total None: pT sums differ."""
    rng = np.random.default_rng(seed)
    made = np.concatenate([rng.exponential(1.0, (n, most, 1)), rng.normal(0, 0.3, (n, most, 2))], axis=2)
    made[..., 0] *= rng.random((n, most)) < rng.uniform(0.4, 1.0, (n, 1))
    made[:, 0, 0] += 0.1
    if total is not None:
        made[..., 0] *= total / made[..., 0].sum(axis=1, keepdims=True)
    return made


def by_linear_programme(x: np.ndarray, y: np.ndarray, *, p: float, unbalanced: float | None = None) -> float:
    """Wass(p) of two jets (m, 3), as a linear programme; unequal sums: what is moved is at most what is there."""
    cost = np.linalg.norm(x[:, None, 1:] - y[None, :, 1:], axis=2) ** p
    rows = np.kron(np.eye(len(x)), np.ones(len(y)))
    columns = np.kron(np.ones(len(x)), np.eye(len(y)))
    a, b = x[:, 0], y[:, 0]
    moved = min(a.sum(), b.sum())
    found = linprog(
        cost.ravel(),
        A_ub=np.vstack([rows, columns]),
        b_ub=np.concatenate([a, b]),
        A_eq=np.ones((1, cost.size)),
        b_eq=moved,
    )
    charge = 0.0 if unbalanced is None else unbalanced**p * abs(a.sum() - b.sum())
    return float((found.fun + charge) ** (1 / p))


@pytest.mark.parametrize("p", POWERS)
def test_agrees_with_a_linear_programme(p: float) -> None:
    x, y = jets(4), jets(3, seed=1)
    found = wasserstein(clouds_from_constituents(x), clouds_from_constituents(y), p=p)
    expected = [[by_linear_programme(a, b, p=p) for b in y] for a in x]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("p", POWERS)
def test_unbalanced_agrees_with_a_linear_programme(p: float) -> None:
    x, y = jets(4, total=None), jets(3, seed=1, total=None)
    found = wasserstein(clouds_from_constituents(x), clouds_from_constituents(y), p=p, unbalanced=0.7)
    expected = [[by_linear_programme(a, b, p=p, unbalanced=0.7) for b in y] for a in x]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    lacks = np.subtract.outer(x[..., 0].sum(axis=1), y[..., 0].sum(axis=1))
    assert (lacks > 0).any()  # either side is the lighter one somewhere
    assert (lacks < 0).any()


def test_unbalanced_by_hand() -> None:
    """3 GeV at 0 against 1 GeV at 0.4 with R = 2: move 1 by 0.4, pay 2 · 2; equal sums: the balanced distance."""
    x = clouds_from_constituents([[[3.0, 0.0, 0.0]]])
    y = clouds_from_constituents([[[1.0, 0.4, 0.0]]])
    assert wasserstein(x, y, unbalanced=2.0)[0, 0] == pytest.approx(0.4 + 4.0, abs=1e-12)
    assert wasserstein(y, x, unbalanced=2.0)[0, 0] == pytest.approx(0.4 + 4.0, abs=1e-12)
    assert wasserstein(x, y, p=2, unbalanced=2.0)[0, 0] == pytest.approx(math.sqrt(0.16 + 8.0), abs=1e-12)
    even = clouds_from_constituents(jets(6))
    np.testing.assert_allclose(wasserstein(even, unbalanced=1.0), wasserstein(even), rtol=0, atol=1e-12)


@pytest.mark.parametrize("p", POWERS)
def test_two_points_are_their_distance_and_a_shifted_image_its_shift(p: float) -> None:
    image = np.zeros((2, 8, 9))
    image[0, 1, 2] = image[1, 4, 6] = 1.0
    assert wasserstein(clouds_from_images(image, pixel=0.1), p=p)[0, 1] == pytest.approx(0.5, abs=1e-12)
    rng = np.random.default_rng(0)
    large = np.zeros((2, 40, 40))
    large[0, 3:18, 4:19] = rng.random((15, 15)) * (rng.random((15, 15)) < 0.2)
    large[1, 15:30, 20:35] = large[0, 3:18, 4:19]
    found = wasserstein(clouds_from_images(large, normalise=True), p=p)
    assert found[0, 1] == pytest.approx(math.hypot(12, 16), abs=1e-9)


@pytest.mark.parametrize("p", POWERS)
def test_one_dimension_is_the_difference_of_sorted_quantiles(p: float) -> None:
    rng = np.random.default_rng(3)
    u, v = rng.normal(size=(2, 40))
    x, y = (np.stack([np.full(40, 1 / 40), points], axis=1)[None] for points in (u, v))
    found = wasserstein(clouds_from_constituents(x), clouds_from_constituents(y), p=p)[0, 0]
    assert found == pytest.approx((np.abs(np.sort(u) - np.sort(v)) ** p).mean() ** (1 / p), abs=1e-10)
    if p == 1:
        assert found == pytest.approx(wasserstein_distance(u, v), abs=1e-12)


def test_it_is_a_distance() -> None:
    clouds = clouds_from_constituents(jets(12))
    for p in POWERS:
        d = wasserstein(clouds, p=p)
        assert np.array_equal(d, d.T)
        assert (np.diag(d) == 0).all()
        assert (d[~np.eye(12, dtype=bool)] > 0).all()
        assert (d[:, :, None] + d[None] >= d[:, None, :] - 1e-12).all()
        np.testing.assert_allclose(d, wasserstein(clouds, clouds, p=p), rtol=0, atol=1e-10)
    assert (wasserstein(clouds, p=2) >= wasserstein(clouds, p=1) - 1e-12).all()
    loose = clouds_from_constituents(jets(12, total=None))
    d = wasserstein(loose, unbalanced=2.0)
    assert (d[:, :, None] + d[None] >= d[:, None, :] - 1e-12).all()


@pytest.mark.parametrize("p", POWERS)
def test_equal_jets_are_at_zero_and_in_whatever_order_of_constituents(p: float) -> None:
    x = jets(3)
    shuffled = np.random.default_rng(0).permutation(x, axis=1)
    found = wasserstein(clouds_from_constituents(x), clouds_from_constituents(shuffled), p=p)
    assert (np.diag(found) == 0).all()
    other = clouds_from_constituents(jets(4, seed=2))
    np.testing.assert_allclose(
        wasserstein(clouds_from_constituents(shuffled), other, p=p),
        wasserstein(clouds_from_constituents(x), other, p=p),
    )


def test_scale_goes_through_and_small_angles_keep_their_digits() -> None:
    x = jets(5)
    small = x * [1, 1e-4, 1e-4]
    for p in POWERS:
        whole = wasserstein(clouds_from_constituents(x), p=p)
        np.testing.assert_allclose(wasserstein(clouds_from_constituents(small), p=p), 1e-4 * whole, rtol=1e-9)


def test_neither_threads_nor_company_change_a_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = clouds_from_constituents(jets(40)), clouds_from_constituents(jets(7, seed=1))
    whole = wasserstein(x, y, p=2, threads=1)
    assert np.array_equal(wasserstein(x, y, p=2, threads=4), whole)
    assert np.array_equal(wasserstein(clouds_from_constituents(jets(40)[11:12]), y, p=2), whole[11:12])
    monkeypatch.setattr("hunch.models.distance.transport.BLOCK", 50)
    assert np.array_equal(wasserstein(x, y, p=2), whole)
    assert wasserstein(clouds_from_constituents(jets(3)[:0]), y).shape == (0, 7)


def test_unequal_sums_of_any_size_scale_with_the_weights() -> None:
    x = jets(8, total=None)
    expected = wasserstein(clouds_from_constituents(x), unbalanced=0.7)
    for factor in (1e-12, 1e3, 1e12):
        found = wasserstein(clouds_from_constituents(x * [factor, 1, 1]), unbalanced=0.7)
        np.testing.assert_allclose(found, factor * expected, rtol=1e-9)


def test_the_solver_gets_the_larger_jet_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """It then needs about a tenth fewer steps, which no result shows."""
    shapes: list[tuple[int, ...]] = []
    solver = transport._solver()

    def spy(a: np.ndarray, b: np.ndarray, cost: np.ndarray, *rest: int) -> tuple[object, ...]:
        shapes.append(cost.shape)
        return solver(a, b, cost, *rest)

    monkeypatch.setattr(transport, "_solver", lambda: spy)
    x, y = clouds_from_constituents(jets(9)), clouds_from_constituents(jets(7, seed=1))
    wasserstein(x, y, threads=1)
    wasserstein(x, threads=1)
    assert len(shapes) == 9 * 7 + 9 * 8 // 2
    assert all(m >= n for m, n in shapes)


def test_row_by_row_is_the_diagonal() -> None:
    x, y = clouds_from_constituents(jets(70)), clouds_from_constituents(jets(70, seed=1))
    np.testing.assert_allclose(wasserstein_rowwise(x, y, p=2), np.diag(wasserstein(x, y, p=2)), rtol=0, atol=1e-12)
    with pytest.raises(ShapeError, match="70 jets"):
        wasserstein_rowwise(x, clouds_from_constituents(jets(3)))


def test_images_are_their_pixels_above_zero() -> None:
    image = np.zeros((1, 40, 40), dtype=np.float32)
    image[0, 5, 7], image[0, 30, 2] = 0.75, 0.25
    clouds = clouds_from_images(image, pixel=0.05)
    assert isinstance(clouds, Clouds)
    np.testing.assert_array_equal(clouds.weights, [0.25, 0.75])  # lightest first
    np.testing.assert_allclose(clouds.points, [[1.5, 0.1], [0.25, 0.35]])
    assert len(clouds) == 1


def test_bad_jets_are_named() -> None:
    good = np.full((4, 2, 2), 0.25)
    with pytest.raises(EmptyImageError, match="1 of 4 are empty, first 2"):
        clouds_from_images(np.where(np.arange(4)[:, None, None] == 2, 0.0, good))
    with pytest.raises(NegativePixelError, match=r"1 of 4 have entries below zero, first 1 with -0\.5"):
        clouds_from_images(np.where(np.arange(4)[:, None, None] == 1, -0.5, good))
    heavy = clouds_from_images(np.where(np.arange(4)[:, None, None] == 3, 2.0, good), name="tops")
    with pytest.raises(NotNormalisedError, match="tops: 1 of 4 do not sum to one, first 3 with 8"):
        wasserstein(heavy)
    with pytest.raises(NotNormalisedError, match="tops"):
        wasserstein(clouds_from_images(good), heavy)
    with pytest.raises(NotNormalisedError, match="tops"):
        wasserstein(heavy, clouds_from_images(good))
    assert wasserstein(heavy, unbalanced=1.0)[0, 3] == pytest.approx(7.0)
    with pytest.raises(NotNormalisedError, match=r"4 of 4 do not sum to one, first 0 with 1\.001"):
        wasserstein(clouds_from_images(1.001 * good))
    assert wasserstein(clouds_from_images(good), clouds_from_images(good * (1 + 1e-6))).max() == 0  # float32's rounding
    assert wasserstein(clouds_from_images(heavy.weights.reshape(4, 2, 2), normalise=True)).max() < 1
    with pytest.raises(ShapeError, match="different shapes"):
        clouds_from_images([np.ones((2, 2)), np.ones((3, 3))])  # type: ignore[list-item]
    with pytest.raises(ShapeError, match=r"x\[None\]"):
        clouds_from_images(good[0])
    with pytest.raises(ShapeError, match="at least one coordinate"):
        clouds_from_constituents(good[..., :1])
    with pytest.raises(DtypeError, match="complex"):
        clouds_from_images(good.astype(complex))
    with pytest.raises(NonFiniteError, match="1 of 4 jets, first 1"):
        clouds_from_images(np.where(np.arange(4)[:, None, None] == 1, np.nan, good))
    line = clouds_from_constituents(np.array([[[1.0, 0.0]]]))
    with pytest.raises(ShapeError, match="1 coordinates"):
        wasserstein(line, clouds_from_images(good))


def test_options_that_mean_nothing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    x = clouds_from_constituents(jets(3))
    for p in (0.5, math.inf, math.nan):
        with pytest.raises(TransportOptionError, match="finite p >= 1"):
            wasserstein(x, p=p)
    for radius in (0.0, -1.0, math.nan):
        with pytest.raises(TransportOptionError, match="R > 0"):
            wasserstein(x, unbalanced=radius)
    with pytest.raises(TransportOptionError, match="threads is 0"):
        wasserstein(x, threads=0)
    monkeypatch.setattr("hunch.models.distance.transport.MAX_STEPS", 1)
    with pytest.raises(TransportSolverError, match="stopped with code 3"):
        wasserstein(x, threads=2)


@pytest.mark.parametrize("error", [TransportSolverError, KeyboardInterrupt])
def test_after_an_error_or_ctrl_c_no_further_block_is_begun(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    done: list[int] = []

    def fails(a: np.ndarray, *rest: object) -> tuple[object, ...]:
        done.append(len(a))
        if len(done) == 3:
            raise error("the third pair")
        time.sleep(1e-3)
        return None, 0.0, None, None, transport.OPTIMAL

    monkeypatch.setattr(transport, "_solver", lambda: fails)
    monkeypatch.setattr("hunch.models.distance.transport.BLOCK", 1)
    for threads in (1, 2):
        done.clear()
        with pytest.raises(error, match="the third pair"):
            wasserstein(clouds_from_constituents(jets(12)), threads=threads)
        assert len(done) <= 3 + threads


def test_it_is_said_where_a_large_p_resolves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    x = clouds_from_constituents(jets(6))
    for p in (1.0, 2.0, 5.0):
        wasserstein(x, p=p)
        wasserstein_rowwise(x, x, p=p)
    assert not caplog.records
    wasserstein(x, p=40)
    assert "are not resolved" in caplog.text
    assert "at p = 40" in caplog.text


def test_without_pot_the_error_names_it() -> None:
    script = """
    import sys
    sys.modules["ot"] = sys.modules["ot.lp"] = sys.modules["ot.lp.emd_wrap"] = None
    from hunch.models.distance.clouds import clouds_from_images
    from hunch.models import MissingPackageError, wasserstein
    try:
        wasserstein(clouds_from_images([[[1.0]]]))
    except MissingPackageError as error:
        print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "exact transport needs the package POT: pip install pot"
