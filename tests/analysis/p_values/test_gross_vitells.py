"""Up-crossings: counted by hand, the paper's numbers, and a smooth Gaussian scan whose global p is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from hunch.analysis import global_p_gross_vitells, up_crossings
from hunch.analysis.p_values.gross_vitells import from_crossings
from hunch.errors import InputError

Array = np.ndarray[Any, Any]


def smooth_scans(n: int, rng: np.random.Generator, *, points: int = 120) -> Array:
    """Return curves (n, points) of unit normal values, correlated over some 6 points."""
    z = gaussian_filter1d(rng.standard_normal((n, points + 40)), 6.0, axis=1, mode="constant")[:, 20:-20]
    return np.asarray(z / z.std())


def test_up_crossings_are_counted() -> None:
    z = [[0.0, 1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.2, 0.4, 0.5, 0.4]]
    np.testing.assert_array_equal(up_crossings(z, level=0.5), [2, 0, 1])
    np.testing.assert_array_equal(up_crossings(z, level=0.3), [2, 0, 1])
    np.testing.assert_array_equal(up_crossings(z, level=1.5), [0, 0, 0])


@pytest.mark.parametrize(("z_max", "rises", "level", "p"), [(4.0, 4.34, 0.5**0.5, 1.90e-3), (3.0, 3.0, 0.0, 0.0347)])
def test_examples_of_the_formula(z_max: float, rises: float, level: float, p: float) -> None:
    # 100 curves with a mean of `rises` crossings
    counts = np.full(100, int(rises))
    counts[: round(100 * (rises - int(rises)))] += 1
    z = np.full((100, 20), -1.0)
    for row, k in zip(z, counts, strict=True):
        row[1 : 2 * k : 2] = 1.0
    found = global_p_gross_vitells(z_max, z, level=level)
    assert found.crossings == pytest.approx(rises)
    assert found.p == pytest.approx(p, rel=0.01)
    assert found.p_error == pytest.approx(found.crossings_error * (found.p - found.p_local) / rises)
    assert found.n == 100


def test_global_p_of_a_smooth_scan(rng: np.random.Generator) -> None:
    few, many = smooth_scans(200, rng), smooth_scans(60_000, rng)
    largest = many.max(axis=1)
    for z_max in (2.0, 3.0, 3.5):
        measured = (largest >= z_max).mean()
        found = global_p_gross_vitells(z_max, few)
        error = np.hypot(found.p_error, np.sqrt(measured / len(many)))
        # an upper bound, which several crossings in one scan loosen at low z
        assert -4 * error < found.p - measured < 4 * error + (0.15 if z_max < 2.5 else 0.06) * measured
    assert global_p_gross_vitells(0.4, few).p == 1
    assert found.z < 3.5


def test_a_start_above_the_level_is_no_up_crossing(rng: np.random.Generator) -> None:
    """A scan of a few masses is high mostly because it starts high: the local term has that, and it counts once."""
    z = smooth_scans(300_000, rng, points=8)
    z_max = 3.0
    measured = (z.max(axis=1) >= z_max).mean()
    found = global_p_gross_vitells(z_max, z)
    assert found.p == pytest.approx(measured, rel=0.1)
    starts = (z[:, 0] >= found.level).mean()
    assert from_crossings(z_max, up_crossings(z) + (z[:, 0] >= found.level)).p > 2 * measured
    assert starts == pytest.approx(0.309, abs=0.01)


def test_crossings_alone_give_the_same_answer(rng: np.random.Generator) -> None:
    z = smooth_scans(300, rng)
    assert from_crossings(3.2, up_crossings(z, level=0.4), level=0.4) == global_p_gross_vitells(3.2, z, level=0.4)
    one = from_crossings(3.2, [2])
    assert (one.crossings, one.crossings_error, one.n) == (2, np.inf, 1)
    with pytest.raises(InputError, match="one or more"):
        from_crossings(3.2, [])
    with pytest.raises(InputError, match="not finite"):
        from_crossings(np.nan, [1, 2])


def test_what_is_no_scan_is_refused() -> None:
    with pytest.raises(InputError, match="two or more"):
        global_p_gross_vitells(3.0, [[0.1, 0.2]])
    with pytest.raises(InputError, match="not finite"):
        global_p_gross_vitells(3.0, [[0.1, np.nan], [0.0, 0.0]])
