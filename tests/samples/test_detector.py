from __future__ import annotations

import awkward as ak
import numpy as np
import pytest

from hunch.samples import Detector, reconstruct

DETECTOR = Detector()


def shoot(pdg: int, n: int, *, pt: float, eta: float, rng: np.random.Generator) -> ak.Array:
    """n events of one particle each."""
    phi = rng.uniform(-np.pi, np.pi, n)
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), np.full(n, pt * np.sinh(eta))
    columns = {"pdg": np.full(n, pdg), "px": px, "py": py, "pz": pz, "e": np.sqrt(px**2 + py**2 + pz**2)}
    return ak.unflatten(ak.zip(columns), np.ones(n, dtype=int))


@pytest.mark.parametrize(
    ("pdg", "pt", "eta", "expected"),
    [(211, 20, 0.3, 0.95), (211, 0.8, 0.3, 0.70), (-321, 20, 2.0, 0.85), (13, 50, 2.0, 0.98), (11, 50, 1.0, 0.95)],
)
def test_tracking_efficiency(rng, pdg, pt, eta, expected):
    n = 20_000
    seen = reconstruct(shoot(pdg, n, pt=pt, eta=eta, rng=rng), detector=DETECTOR, rng=rng)
    share = ak.sum(seen.charge != 0) / n
    assert share == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / n))
    charge = {211: 1, -321: -1, 13: -1, 11: -1}[pdg]
    assert set(ak.flatten(seen.charge[seen.charge != 0])) == {charge}


def test_muon_momentum_resolution_is_the_tracker_s(rng):
    seen = reconstruct(shoot(-13, 40_000, pt=500, eta=1.0, rng=rng), detector=DETECTOR, rng=rng)
    pt = ak.to_numpy(ak.flatten(seen.pt))
    assert set(ak.flatten(seen.pdgId)) == {-13}
    assert pt.std() / 500 == pytest.approx(np.hypot(0.015, 1.5e-4 * 500), rel=0.03)
    assert pt.mean() == pytest.approx(500, rel=0.002)


def test_charged_hadrons_are_measured_by_track_and_calorimeter_together(rng):
    for pt in (5.0, 1000.0):
        seen = reconstruct(shoot(211, 40_000, pt=pt, eta=0.0, rng=rng), detector=DETECTOR, rng=rng)
        measured = ak.to_numpy(ak.flatten(seen.pt[seen.charge != 0]))
        track, calorimeter = np.hypot(0.01, 1.5e-4 * pt), np.hypot(0.05, 1.5 / np.sqrt(pt))
        expected = 1 / np.hypot(1 / track, 1 / calorimeter)
        assert measured.std() / pt == pytest.approx(expected, rel=0.03)


def test_photon_energy_resolution_and_granularity(rng):
    photons = shoot(22, 40_000, pt=100, eta=0.6, rng=rng)
    seen = reconstruct(photons, detector=DETECTOR, rng=rng)
    energy, true = 100 * np.cosh(0.6), np.arctan2(ak.flatten(photons.py), ak.flatten(photons.px))
    measured = ak.to_numpy(ak.flatten(seen.pt * np.cosh(seen.eta)))
    expected = (1 + 0.64 * 0.36) * np.sqrt((0.008 * energy) ** 2 + 0.11**2 * energy + 0.4**2)
    assert measured.std() == pytest.approx(expected, rel=0.03)
    assert measured.mean() == pytest.approx(energy, rel=0.001)
    distance = np.abs((ak.to_numpy(ak.flatten(seen.phi)) - ak.to_numpy(true) + np.pi) % (2 * np.pi) - np.pi)
    assert 0.5 * np.deg2rad(1) < distance.max() <= np.deg2rad(1) + 1e-6
    assert np.ptp(ak.to_numpy(ak.flatten(seen.eta))) == pytest.approx(DETECTOR.ecal_cell, rel=0.05)


def test_neutral_hadron_energy_resolution(rng):
    seen = reconstruct(shoot(2112, 40_000, pt=200, eta=0.1, rng=rng), detector=DETECTOR, rng=rng)
    assert set(ak.flatten(seen.pdgId)) == {130}
    measured = ak.to_numpy(ak.flatten(seen.pt * np.cosh(seen.eta)))
    energy = 200 * np.cosh(0.1)
    assert measured.std() == pytest.approx(np.hypot(0.05 * energy, 1.5 * np.sqrt(energy)), rel=0.03)


def test_a_cell_sums_its_photons_and_events_stay_apart(rng):
    two = ak.concatenate([shoot(22, 1, pt=50, eta=0.009, rng=np.random.default_rng(1))] * 2, axis=1)
    both = ak.concatenate([two, two], axis=0)
    seen = reconstruct(both, detector=DETECTOR, rng=rng)
    assert ak.num(seen).tolist() == [1, 1]
    assert ak.to_numpy(ak.flatten(seen.pt)) == pytest.approx([100, 100], rel=0.1)


def test_beyond_the_tracker_calorimeters_see_what_reaches_them(rng):
    wide = Detector(calorimeter_eta=3.0)
    for pdg, expected in ((22, 22), (211, 130), (2112, 130), (11, 22)):
        fired = shoot(pdg, 400, pt=60, eta=2.7, rng=rng)
        assert ak.sum(ak.num(reconstruct(fired, detector=DETECTOR, rng=rng))) == 0
        seen = reconstruct(fired, detector=wide, rng=rng)
        assert set(ak.flatten(seen.pdgId)) == {expected}
        assert ak.mean(seen.pt * np.cosh(seen.eta)) == pytest.approx(60 * np.cosh(2.7), rel=0.05)
        assert ak.max(np.abs(seen.eta - 2.7)) < 0.22
    energy = np.array([500.0])
    assert wide.ecal_resolution(energy, np.array([2.7])) == pytest.approx(np.hypot(0.107 * 500, 2.08 * np.sqrt(500)))
    gone = [shoot(13, 50, pt=60, eta=2.7, rng=rng), shoot(22, 50, pt=60, eta=3.01, rng=rng)]
    assert ak.sum(ak.num(reconstruct(ak.concatenate(gone), detector=wide, rng=rng))) == 0


def test_invisible_forward_and_curling_particles_are_gone(rng):
    unseen = [(pdg, 100, 0) for pdg in (12, -14, 16, 1000022, 51, -51, 53, 4900211, 4900113, 4900991)]
    for pdg, pt, eta in (*unseen, (22, 100, 2.51), (211, 0.09, 0)):
        assert ak.sum(ak.num(reconstruct(shoot(pdg, 50, pt=pt, eta=eta, rng=rng), detector=DETECTOR, rng=rng))) == 0
    assert ak.sum(ak.num(reconstruct(shoot(22, 50, pt=100, eta=2.49, rng=rng), detector=DETECTOR, rng=rng))) == 50


def test_another_resolution_is_a_parameter(rng):
    better = Detector(hcal_stochastic=0.5, hcal_constant=0.0)
    seen = reconstruct(shoot(130, 20_000, pt=100, eta=0.0, rng=rng), detector=better, rng=rng)
    assert ak.to_numpy(ak.flatten(seen.pt)).std() == pytest.approx(5.0, rel=0.03)
