"""A sample with the spectrum of another one, by weights and by drawing."""

from __future__ import annotations

import numpy as np
import pytest

from hunch.models.inputs import NonFiniteError, ScorerError
from hunch.models.matching import drawn_rows, effective_fraction, matched_rows, matched_weights


def test_weights_give_the_spectrum_that_is_wanted(rng: np.random.Generator) -> None:
    own, wanted = rng.uniform(20, 200, 5000), 30 + rng.exponential(40, 5000)
    weights = matched_weights(own, wanted, of="exposure")
    assert weights.mean() == pytest.approx(1.0)
    assert (weights[own < wanted.min()] == 0).all()
    edges = np.quantile(wanted[wanted < 190], np.linspace(0, 1, 8))
    found, asked = (
        np.histogram(v, edges, weights=w)[0] / len(v) for v, w in ((own, weights), (wanted, np.ones(len(wanted))))
    )
    np.testing.assert_allclose(found, asked, atol=0.02)
    # rows drawn by them have it too
    rows = drawn_rows(weights, rng)
    np.testing.assert_allclose(np.histogram(own[rows], edges)[0] / len(rows), asked, atol=0.03)
    assert np.array_equal(
        matched_rows(own, wanted, seed=1, of="exposure"), matched_rows(own, wanted, seed=1, of="exposure")
    )


def test_the_effective_part_is_that_of_the_weights() -> None:
    assert effective_fraction(np.ones(10)) == pytest.approx(1.0)
    assert effective_fraction(np.array([4.0, 0, 0, 0])) == pytest.approx(0.25)
    assert effective_fraction(np.array([1.0, 3.0])) == pytest.approx(0.8)
    assert effective_fraction(np.empty(0)) == 0.0


def test_a_spectrum_that_is_none_is_said(rng: np.random.Generator) -> None:
    own, wanted = rng.uniform(20, 200, 500), rng.uniform(30, 150, 500)
    with pytest.raises(ScorerError, match=r"exposure: resampled to the mJ.*20 % are needed.*over a range"):
        matched_weights(rng.normal(80, 1, 500), wanted, of="exposure", column="mJ")
    with pytest.raises(ScorerError, match="all 500 background events have the same mJ"):
        matched_weights(own, np.full(500, 80.0), of="exposure", column="mJ")
    own[7] = np.nan
    with pytest.raises(NonFiniteError, match="exposure: mJ holds nan in 1 rows, first 7"):
        matched_weights(own, wanted, of="exposure", column="mJ")
    with pytest.raises(NonFiniteError, match="background: mJ holds nan"):
        matched_weights(wanted, own, of="exposure", column="mJ")


def test_a_background_beyond_the_sample_is_said_and_much_of_it_refused(
    rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = rng.uniform(0, 100, 5000)
    matched_weights(rng.uniform(0, 99, 2000), wanted, of="exposure", column="mJ")
    assert not caplog.records
    matched_weights(rng.uniform(0, 91, 2000), wanted, of="exposure", column="mJ")
    assert "none of its events has the mJ of 8 % of the background" in caplog.text
    with pytest.raises(
        ScorerError, match=r"68 % of the background lie where none of them does; .*at most 15 % allowed"
    ):
        matched_weights(rng.uniform(0, 30, 2000), wanted, of="exposure", column="mJ")
