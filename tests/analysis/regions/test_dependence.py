"""Distance correlation of whole samples against its definition, and what independence gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hunch.analysis import distance_correlation
from hunch.errors import InputError

Array = np.ndarray[Any, Any]


def centred(x: Array, p: Array) -> Array:
    d = np.abs(x[:, None] - x)
    return np.asarray(d - (d @ p)[:, None] - d @ p + p @ d @ p)


def by_definition(x: Array, y: Array, w: Array) -> float:
    p = w / w.sum()
    a, b = centred(x, p), centred(y, p)
    return float((p @ (a * b) @ p) / np.sqrt((p @ (a * a) @ p) * (p @ (b * b) @ p)))


def u_centred(x: Array) -> Array:
    """Return the matrix of Székely and Rizzo, arXiv:1310.2926, equation 2.5."""
    d, n = np.abs(x[:, None] - x), len(x)
    rows = d.sum(axis=0) / (n - 2)
    result = d - rows - rows[:, None] + d.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(result, 0.0)
    return np.asarray(result)


@pytest.mark.parametrize("n", [4, 5, 8, 9, 100, 513])
@pytest.mark.parametrize("ties", [False, True])
def test_against_the_definition(n: int, ties: bool, rng: np.random.Generator) -> None:
    x = rng.normal(size=n)
    y = np.sin(2 * x) + 0.3 * rng.normal(size=n)
    if ties:
        x, y = x.round(), y.round(1)
    w = rng.uniform(0, 2, n)
    assert distance_correlation(x, y, weights=w, unbiased=False) == pytest.approx(by_definition(x, y, w), rel=1e-9)
    a, b = u_centred(x), u_centred(y)
    variances = (a * a).sum() * (b * b).sum()
    expected = (a * b).sum() / np.sqrt(variances) if variances > 0 else 0.0
    assert distance_correlation(x, y) == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_weights_leave_events_out_and_repeat_them(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(2, 60))
    w = (rng.uniform(size=60) > 0.3).astype(float)
    some = distance_correlation(x[w > 0], y[w > 0])
    assert distance_correlation(x, y, weights=w) == pytest.approx(some, rel=1e-9)
    times = rng.integers(0, 4, 60)
    assert distance_correlation(x, y, weights=times, unbiased=False) == pytest.approx(
        distance_correlation(np.repeat(x, times), np.repeat(y, times), unbiased=False), rel=1e-9
    )


def test_the_batch_version_of_the_models_agrees(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    from hunch.models.train.disco import distance_correlation as of_batch

    x = rng.exponential(size=200)
    y, w = x * rng.uniform(size=200), rng.uniform(0, 2, 200)
    for unbiased in (False, True):
        theirs = float(of_batch(*(torch.from_numpy(v) for v in (x, y, w)), unbiased=unbiased))
        assert distance_correlation(x, y, weights=w, unbiased=unbiased) == pytest.approx(theirs, rel=1e-9)


def test_zero_in_expectation_for_independent(rng: np.random.Generator) -> None:
    for weights in (None, rng.uniform(0.2, 2, 80)):
        found = np.array([distance_correlation(*rng.exponential(size=(2, 80)), weights=weights) for _ in range(300)])
        assert abs(found.mean()) < 4 * found.std() / np.sqrt(len(found))
        assert (found < 0).mean() > 0.3


def test_no_scale_and_one_for_a_line(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(2, 300))
    assert distance_correlation(x, 5 - 2 * x) == pytest.approx(1, abs=1e-10)
    assert distance_correlation(1e6 + 1e3 * x, -y) == pytest.approx(distance_correlation(x, y), abs=1e-9)
    assert distance_correlation(x, np.ones(300)) == 0
    assert distance_correlation(x, x**2) > 0.1  # no linear correlation


def test_many_events_are_no_matrix(rng: np.random.Generator) -> None:
    x = rng.normal(size=60_000)
    # bivariate normal: dCorr^2 in closed form, Székely, Rizzo and Bakirov 2007, theorem 7
    rho = 0.4
    y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=len(x))
    top = rho * np.arcsin(rho) + np.sqrt(1 - rho**2) - rho * np.arcsin(rho / 2) - np.sqrt(4 - rho**2) + 1
    assert distance_correlation(x, y) == pytest.approx(top / (1 + np.pi / 3 - np.sqrt(3)), abs=0.005)


@pytest.mark.parametrize(
    ("x", "y", "weights", "match"),
    [
        ([1, 2, 3, 4], [1, 2, 3], None, "four or more"),
        ([1, 2, 3], [1, 2, 3], None, "four or more"),
        ([1, 2, 3, np.nan], [1, 2, 3, 4], None, "not finite"),
        ([1, 2, 3, 4], [1, 2, 3, 4], [1, 1, 1, -1], "negative"),
        ([1, 2, 3, 4], [1, 2, 3, 4], [0, 0, 0, 0], "all 0"),
    ],
)
def test_what_is_no_sample_is_refused(x: Any, y: Any, weights: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        distance_correlation(x, y, weights=weights)
