"""Jets and N-subjettiness against independent clusterings, CMS's own branches and exact small cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import fastjet
import numpy as np
import pytest
import uproot
from coffea.nanoevents import BaseSchema, NanoEventsFactory

from hunch.processors import inspect_file
from hunch.processors.events import Candidates, read_candidates
from hunch.processors.substructure import leading_jets, momenta, n_subjettiness, ratio, tau12

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def candidates_of(path: Path) -> Candidates:
    source = inspect_file(path).source
    with uproot.open(path) as file:
        events = NanoEventsFactory.from_root(
            file=file, treepath="Events", schemaclass=BaseSchema, mode="virtual",
            iteritems_options={"filter_name": list(source.branches)},
        ).events()  # fmt: skip
        return read_candidates(events, source)


def candidates_from(events: list[list[tuple[float, float, float]]]) -> Candidates:
    flat = np.array([p for event in events for p in event], dtype=np.float64).reshape(-1, 3)
    offsets = np.concatenate([[0], np.cumsum([len(event) for event in events])])
    return Candidates(
        offsets, flat[:, 0], flat[:, 1], flat[:, 2], np.zeros(len(flat)), None, np.zeros(len(events), dtype=bool)
    )


def test_lhco_jets_agree_with_an_independent_clustering(lhco_file: Path) -> None:
    """The classic PseudoJet interface, one event at a time, with particles made by fastjet itself."""
    candidates = candidates_of(lhco_file)
    jets = leading_jets(candidates, momenta(candidates))
    assert len(jets.event) == 1000
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, 1.0)
    for i in range(1000):
        a, b = candidates.offsets[i : i + 2]
        particles = [
            fastjet.PtYPhiM(float(pt), float(y), float(phi), 0.0)  # massless: rapidity is pseudorapidity
            for pt, y, phi in zip(candidates.pt[a:b], candidates.eta[a:b], candidates.phi[a:b], strict=True)
        ]
        sequence = fastjet._swig.ClusterSequence(particles, definition)
        expected = fastjet.sorted_by_pt(sequence.inclusive_jets(50.0))[:2]
        for j, jet in enumerate(expected):
            assert jets.pt[i, j] == pytest.approx(jet.pt(), rel=1e-6)
            assert jets.mass[i, j] == pytest.approx(jet.m(), rel=1e-6, abs=1e-3)
            assert jets.eta[i, j] == pytest.approx(jet.eta(), abs=1e-6)
            assert jets.n_constituents[i, j] == len(jet.constituents())


def matched_jets(path: Path) -> list[dict[str, float]]:
    """Match every FatJet of a CMS file to an AK8 jet clustered from its candidates; ours and CMS's values."""
    candidates = candidates_of(path)
    momentum = momenta(candidates)
    names = [f"FatJet_{n}" for n in ("pt", "eta", "phi", "mass", "rawFactor", "tau1", "tau2", "tau3", "tau4")]
    with uproot.open(path) as file:
        fat = file["Events"].arrays(names)
    found: list[list[dict[str, float]]] = [[] for _ in range(len(fat))]
    for n in range(1, 7):
        jets = leading_jets(candidates, momentum, radius=0.8, min_pt=15.0, n_jets=n)
        taus = n_subjettiness(jets, momentum, radius=0.8).beta1.reshape(-1, n, 4)
        for row, event in enumerate(jets.event):
            one = {"eta": jets.eta[row, -1], "phi": jets.phi[row, -1], "mass": jets.mass[row, -1]}
            found[event].append(one | {f"tau{k + 1}": taus[row, -1, k] for k in range(4)})
    matches = []
    for event, mine in zip(fat.to_list(), found, strict=True):
        for i, raw in enumerate(event["FatJet_rawFactor"]):
            eta, phi = event["FatJet_eta"][i], event["FatJet_phi"][i]
            near = [m for m in mine if np.hypot(m["eta"] - eta, np.angle(np.exp(1j * (m["phi"] - phi)))) < 0.2]
            cms = {f"cms_{k}": event[f"FatJet_{k}"][i] for k in ("tau1", "tau2", "tau3", "tau4")}
            matches.append({**(near[0] if near else {}), **cms, "cms_mass": event["FatJet_mass"][i] * (1 - raw)})
    return matches


def test_pfnano_taus_and_masses_are_those_of_cms(shared_data: Callable[[str], Path]) -> None:
    jets = matched_jets(shared_data("pfnano.root"))
    assert len(jets) == 24
    for k in range(1, 5):
        close = [abs(j.get(f"tau{k}", -1.0) / j[f"cms_tau{k}"] - 1) < 0.01 for j in jets]
        assert np.mean(close) >= 0.95, f"tau{k}"
    assert np.mean([abs(j.get("mass", -1.0) / j["cms_mass"] - 1) < 0.01 for j in jets]) >= 0.95


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_jet_with_n_or_fewer_particles_has_tau_n_zero_and_finite_ratios(n: int) -> None:
    def jet(phi: float) -> list[tuple[float, float, float]]:
        return [(60.0 + i, 0.2 * i, phi + 0.1 * i * i) for i in range(n)]

    candidates = candidates_from([jet(0.0) + jet(3.0)])
    momentum = momenta(candidates)
    jets = leading_jets(candidates, momentum)
    assert jets.n_constituents.tolist() == [[n, n]]
    taus = n_subjettiness(jets, momentum)
    assert (taus.beta1[:, n - 1 :] == 0).all()
    assert (taus.beta1[:, : n - 1] > 0).all()
    for k in (1, 2, 3):
        expected_zero = n <= k + 1
        assert (ratio(taus.beta1[:, k], taus.beta1[:, k - 1]) == 0).all() == expected_zero
    assert np.isfinite(tau12(taus)).all()
    if n == 1:
        assert (tau12(taus) == 1).all()


def test_collinear_particles_give_finite_values() -> None:
    candidates = candidates_from([[(60.0, 0.3, 0.1)] * 6 + [(80.0, -0.3, 3.1)] * 6])
    momentum = momenta(candidates)
    jets = leading_jets(candidates, momentum)
    taus = n_subjettiness(jets, momentum)
    assert jets.n_constituents.tolist() == [[6, 6]]
    for values in (taus.beta1, ratio(taus.beta1[:, 1], taus.beta1[:, 0]), tau12(taus), jets.mass):
        assert np.isfinite(values).all()


def test_tau1_of_two_particles_is_the_exact_one() -> None:
    """Two particles of equal pT at distance d: the best axis at beta 2 is half-way, tau_1 = (d/2)^2 / R0^2."""
    d = 0.4
    candidates = candidates_from([[(100.0, 0.0, d / 2), (100.0, 0.0, -d / 2), (150.0, 0.0, 3.0), (150.0, 0.0, -3.0)]])
    momentum = momenta(candidates)
    jets = leading_jets(candidates, momentum, radius=0.8)
    taus = n_subjettiness(jets, momentum, radius=0.8)
    assert taus.beta2[1] == pytest.approx((d / 2 / 0.8) ** 2, rel=1e-3)
    assert taus.beta2[0] == pytest.approx(((np.pi - 3.0) / 0.8) ** 2, rel=1e-3)  # across +-pi


def test_rotation_in_phi_changes_nothing(
    random_events: Callable[[int], list[list[tuple[float, float, float]]]],
) -> None:
    events = random_events(20)
    turned = [[(pt, eta, float(np.angle(np.exp(1j * (phi + 2.0))))) for pt, eta, phi in event] for event in events]
    results = []
    for sample in (events, turned):
        candidates = candidates_from(sample)
        momentum = momenta(candidates)
        jets = leading_jets(candidates, momentum)
        results.append((jets, n_subjettiness(jets, momentum)))
    (a, first), (b, second) = results
    assert len(a.event) == 20
    np.testing.assert_allclose(a.mass, b.mass, rtol=1e-6)
    np.testing.assert_array_equal(a.n_constituents, b.n_constituents)
    np.testing.assert_allclose(first.beta1, second.beta1, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(first.beta2, second.beta2, rtol=1e-4, atol=1e-9)


def test_only_jets_inside_eta_and_above_pt_count() -> None:
    candidates = candidates_from([[(100.0, 3.0, 0.0), (90.0, 0.0, 2.0), (80.0, 0.5, -2.0), (49.0, 0.0, 0.5)]])
    momentum = momenta(candidates)
    np.testing.assert_allclose(leading_jets(candidates, momentum).pt, [[100.0, 90.0]])
    np.testing.assert_allclose(leading_jets(candidates, momentum, max_abs_eta=2.5).pt, [[90.0, 80.0]])
    assert len(leading_jets(candidates, momentum, min_pt=95.0).event) == 0
