"""Jets rescaled to a mass: the mass is reached, the pT and the direction stay, and what cannot be rescaled stays as it was."""

from __future__ import annotations

import numpy as np
import pytest

from hunch.models.autoencoders.rescaled_sets import rescaled_to_masses, rescaled_to_spectrum
from hunch.models.autoencoders.set_scaling import jet_masses, polar
from hunch.models.inputs import NonFiniteError, ScorerError, ShapeError


def jets(n: int, *, masses: float = 0.0, tilt: float = 0.0) -> np.ndarray:
    """Jets (n, 12, 4) of two prongs, hardest first, their axis at a rapidity and an azimuth of `tilt`; masses: of the constituents."""
    rng = np.random.default_rng(0)
    pt = np.sort(rng.exponential(50.0, size=(n, 12)), axis=1)[:, ::-1].copy()
    pt[np.arange(12) >= rng.integers(4, 13, size=n)[:, None]] = 0
    side = np.where(np.arange(12) % 2 == 0, 0.15, -0.15)
    y, phi = tilt + rng.normal(0, 0.05, (n, 12)), tilt + side + rng.normal(0, 0.05, (n, 12))
    mt = np.where(pt > 0, np.hypot(pt, masses), 0.0)
    return np.stack([mt * np.cosh(y), pt * np.cos(phi), pt * np.sin(phi), mt * np.sinh(y)], axis=-1)


def momentum(sets: np.ndarray) -> np.ndarray:
    """pT, rapidity and azimuth (n, 3) of jets."""
    energy, px, py, pz = sets.sum(axis=1).T
    return np.stack([np.hypot(px, py), 0.5 * np.log((energy + pz) / (energy - pz)), np.arctan2(py, px)], axis=-1)


@pytest.mark.parametrize(("masses", "tilt"), [(0.0, 0.0), (0.0, 3.1), (0.5, -1.2)])
def test_masses_are_reached_and_momenta_stay(masses: float, tilt: float) -> None:
    x = jets(300, masses=masses, tilt=tilt)
    wanted = np.random.default_rng(1).uniform(15, 0.6 * momentum(x)[:, 0])
    made, reached = rescaled_to_masses(x, wanted)
    assert reached.mean() > 0.97
    np.testing.assert_allclose(jet_masses(made)[reached], wanted[reached], rtol=1e-3)
    turned = momentum(made) - momentum(x)
    turned[:, 2] -= 2 * np.pi * np.rint(turned[:, 2] / (2 * np.pi))
    np.testing.assert_allclose(turned, 0.0, atol=1e-6)
    np.testing.assert_array_equal(made[~reached], x[~reached])
    assert (made[x == 0] == 0).all()
    # the order of the constituents and how they share the momentum stay
    share = [s[..., 0] / s[:, :1, 0] for s in (polar(made), polar(x))]
    np.testing.assert_allclose(*share, atol=1e-9)


def test_distances_between_constituents_grow_by_one_factor() -> None:
    x = jets(50)
    made, reached = rescaled_to_masses(x, 1.3 * jet_masses(x))
    before, after = polar(x)[reached], polar(made)[reached]
    apart = [(s[:, 1, 1:] - s[:, 0, 1:]) for s in (before, after)]
    factor = np.linalg.norm(apart[1], axis=1) / np.linalg.norm(apart[0], axis=1)
    np.testing.assert_allclose(apart[1], factor[:, None] * apart[0], rtol=1e-6)
    assert ((factor > 1.2) & (factor < 1.5)).all()


def test_polar_jets_are_rescaled_as_four_vectors_are() -> None:
    x, wanted = jets(100), np.full(100, 90.0)
    made, reached = rescaled_to_masses(x, wanted)
    relative, same = rescaled_to_masses(polar(x), wanted)
    np.testing.assert_array_equal(same, reached)
    np.testing.assert_allclose(relative, polar(made), atol=1e-6)


def test_what_cannot_reach_a_mass_is_left() -> None:
    one, at_rest, beam = (np.zeros((1, 3, 4)) for _ in range(3))
    one[0, 0] = [50, 40, 30, 0]
    at_rest[0, :2] = [[50, 50, 0, 0], [50, -50, 0, 0]]
    beam[0, :2] = [[50, 40, 30, 0], [10, 0, 0, 10]]
    line = np.repeat(one[:, :1], 3, axis=1)
    x = np.concatenate([one, at_rest, beam, line, jets(1)[:, :3]])
    made, reached = rescaled_to_masses(x, [30.0] * 5)
    assert reached.tolist() == [False, False, False, False, True]
    np.testing.assert_array_equal(made[:4], x[:4])


def test_a_spectrum_is_drawn_from() -> None:
    x, spectrum = jets(2000), 30 + np.random.default_rng(2).exponential(20, 500)
    made, reached = rescaled_to_spectrum(x, spectrum, seed=1)
    for q in (0.25, 0.5, 0.75):
        assert np.quantile(jet_masses(made)[reached], q) == pytest.approx(np.quantile(spectrum, q), rel=0.07)
    np.testing.assert_array_equal(made, rescaled_to_spectrum(x, spectrum, seed=1)[0])
    assert not np.array_equal(made, rescaled_to_spectrum(x, spectrum, seed=2)[0])


def test_wrong_masses_and_jets_are_said() -> None:
    x = jets(3)
    for sets, masses, error, words in (
        (x, [1.0, 2.0], ShapeError, "one for each of 3 jets"),
        (x, [1.0, -2.0, 1.0], ScorerError, "-2.0 in row 1"),
        (x, [1.0, 2.0, np.nan], ScorerError, "nan in row 2"),
        (x[..., :2], [1.0, 1.0, 1.0], ShapeError, "3 or 4"),
        (np.full_like(x, np.nan), [1.0, 1.0, 1.0], NonFiniteError, "jets: NaN"),
    ):
        with pytest.raises(error, match=words):
            rescaled_to_masses(sets, masses)
    with pytest.raises(ScorerError, match="at least one"):
        rescaled_to_spectrum(x, [])
