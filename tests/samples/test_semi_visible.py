"""Semi-visible jets: the dark shower as generated, what of it the detector sees, and small samples of both processes."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import fastjet
import numpy as np
import pytest
import uproot

from hunch.samples import Detector, SimulationError, reconstruct, simulate
from hunch.samples.generation import block_seeds, final_state, start_pythia
from hunch.samples.hidden_valley import DARK_QUARK, Z_PRIME, alpha_peak, confinement_scale
from hunch.samples.jets import decay_quarks, single_jets
from hunch.samples.processes import PROCESSES, pythia_settings, with_defaults
from hunch.samples.simulation import Job

COLLISIONS = 100
PSEUDOSCALARS, VECTORS = (4900111, 4900211), (4900113, 4900213)
MATTER = (51, 53)
NEUTRINOS = (12, 14, 16)
SHARES = [0.0, 0.3, 0.6]


def collisions(process: str = "zprime_svj", n: int = COLLISIONS, **parameters: float) -> ak.Array:
    """n collisions as generated, without multiple interactions."""
    values = with_defaults(process, parameters)
    settings = pythia_settings(process, values, min_jet_pt=1200, multiple_interactions=False)
    return start_pythia(tuple(settings), 8).nextBatch(n)


def is_of(particles: ak.Array, numbers: tuple[int, ...]) -> ak.Array:
    found = ak.zeros_like(particles.id, dtype=bool)
    for number in numbers:
        found = found | (np.abs(particles.id) == number)
    return found


def total(particles: ak.Array) -> dict[str, np.ndarray]:
    """The sum of each event's four-momenta (GeV) and its mass."""
    sums = {name: ak.to_numpy(ak.sum(particles.p[name], axis=1)) for name in ("e", "px", "py", "pz")}
    return {**sums, "mass": np.sqrt(sums["e"] ** 2 - sums["px"] ** 2 - sums["py"] ** 2 - sums["pz"] ** 2)}


def decays(record: ak.Array, mesons: tuple[int, ...]) -> np.ndarray:
    """What each meson of these numbers decays to: the positive PDG number of its first daughter."""
    own = record[is_of(record, mesons)]
    return np.abs(ak.to_numpy(ak.flatten(record.id[own.daughter1])))


@pytest.fixture(scope="module", params=SHARES)
def dark(request) -> tuple[float, ak.Array]:
    """r_inv and the particles of 100 collisions with it."""
    return request.param, collisions(r_inv=request.param).prt


def test_a_share_r_inv_of_the_dark_mesons_and_of_their_pt_is_invisible(dark):
    r_inv, record = dark
    mesons = record[is_of(record, PSEUDOSCALARS + VECTORS)]
    unseen = is_of(ak.zip({"id": record.id[mesons.daughter1]}), MATTER)
    pt = np.hypot(mesons.p.px, mesons.p.py)
    assert 20 < ak.mean(ak.num(mesons)) < 30
    assert ak.mean(unseen) == pytest.approx(r_inv, abs=0.03)
    share = ak.to_numpy(ak.sum(pt[unseen], axis=1) / ak.sum(pt, axis=1))
    assert share.mean() == pytest.approx(r_inv, abs=0.05)
    assert r_inv in (0.0, 1.0) or share.std() > 0.05  # a chance for each meson, not a share of each jet


def test_nothing_of_the_dark_sector_is_lost_and_nothing_but_matter_stays(dark):
    r_inv, record = dark
    mesons = record[is_of(record, PSEUDOSCALARS + VECTORS)]
    mediator = record[is_of(record, (Z_PRIME,))][:, -1:]
    np.testing.assert_allclose(total(mesons)["mass"], total(mediator)["mass"], rtol=1e-6)
    np.testing.assert_allclose(total(mesons)["mass"], 3500.0, rtol=0.02)
    final = record[record.status > 0]
    sums = total(final)
    np.testing.assert_allclose(sums["e"], 13_000.0, rtol=1e-5)
    for name in ("px", "py", "pz"):
        np.testing.assert_allclose(sums[name], 0.0, atol=0.1)
    numbers = set(np.abs(ak.to_numpy(ak.flatten(final.id))).tolist())
    assert {n for n in numbers if n in range(40, 80) or n > 4_900_000} == (set(MATTER) if r_inv else set())


def test_dark_mesons_decay_as_they_are_said_to(dark):
    _, record = dark
    assert set(ak.to_list(ak.flatten(np.round(record.m[is_of(record, PSEUDOSCALARS + VECTORS)], 6)))) == {20.0}
    vectors, pseudoscalars = decays(record, VECTORS), decays(record, PSEUDOSCALARS)
    assert len(vectors) / (len(vectors) + len(pseudoscalars)) == pytest.approx(0.75, abs=0.04)
    seen = vectors[vectors != MATTER[1]]
    for quark in (1, 2, 3, 4, 5):
        assert np.mean(seen == quark) == pytest.approx(1 / 5, abs=0.06)
    assert set(seen.tolist()) == {1, 2, 3, 4, 5}
    seen = pseudoscalars[pseudoscalars != MATTER[0]]
    assert set(seen.tolist()) <= {3, 4, 5}
    assert np.mean(seen == 5) == pytest.approx(0.954, abs=0.03)
    assert np.mean(seen == 4) == pytest.approx(0.046, abs=0.03)
    flavoured = is_of(record, (4900211, 4900213))
    assert ak.sum(flavoured) / ak.sum(is_of(record, PSEUDOSCALARS + VECTORS)) == pytest.approx(0.5, abs=0.06)


def test_light_dark_mesons_decay_to_no_quarks_that_they_cannot_hold():
    light = collisions(n=20, m_dark=11.0, r_inv=0.0).prt
    assert set(decays(light, VECTORS).tolist()) == {1, 2, 3, 4}
    assert set(decays(light, PSEUDOSCALARS).tolist()) <= {3, 4}
    assert 5 in decays(collisions(n=20, m_dark=12.0, r_inv=0.0).prt, VECTORS)


def test_the_detector_does_not_see_dark_matter():
    batch = collisions(n=20, r_inv=0.6)
    everything = final_state(batch)
    unseen = (np.abs(everything.pdg) == MATTER[0]) | (np.abs(everything.pdg) == MATTER[1])
    assert ak.sum(unseen) > 100
    found = [
        reconstruct(particles, detector=Detector(), rng=np.random.default_rng(4))
        for particles in (everything, everything[~unseen])
    ]
    assert ak.array_equal(*found)


def momenta(path: Path) -> ak.Array:
    with uproot.open(path) as file:
        events = file["Events"].arrays()
    pt, eta, phi, mass = (ak.values_astype(events[f"PFCands_{c}"], np.float64) for c in ("pt", "eta", "phi", "mass"))
    columns = {"px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": pt * np.sinh(eta)}
    return ak.zip({**columns, "E": np.hypot(pt * np.cosh(eta), mass)}, with_name="Momentum4D")


def two_jets(candidates: ak.Array, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """m_jj (n,) of the leading two anti-kT jets, their transverse momenta (n, 2) as complex numbers (GeV), and the events that have two."""
    found = fastjet.ClusterSequence(candidates, fastjet.JetDefinition(fastjet.antikt_algorithm, radius))
    jets = found.inclusive_jets(min_pt=20.0)
    rows = np.flatnonzero(ak.num(jets) >= 2)
    jets = jets[ak.argsort(-np.hypot(jets.px, jets.py), axis=1)][rows, :2]
    sums = {name: ak.to_numpy(ak.sum(jets[name], axis=1)) for name in ("E", "px", "py", "pz")}
    mjj = np.sqrt(sums["E"] ** 2 - sums["px"] ** 2 - sums["py"] ** 2 - sums["pz"] ** 2)
    return mjj, ak.to_numpy(jets.px + 1j * jets.py), rows


def mode(values: np.ndarray, share: float = 0.5) -> float:
    """The middle of the shortest interval that holds this share of the values."""
    ordered = np.sort(values)
    size = int(len(ordered) * share)
    first = int(np.argmin(ordered[size:] - ordered[:-size]))
    return float(ordered[first : first + size].mean())


def test_all_that_is_not_invisible_makes_the_mass_of_the_z_prime():
    final = final_state(collisions(r_inv=0.0))
    inside = final[np.abs(final.pz) < np.sinh(3.0) * np.hypot(final.px, final.py)]
    particles = ak.zip({"px": inside.px, "py": inside.py, "pz": inside.pz, "E": inside.e}, with_name="Momentum4D")
    mjj, *_ = two_jets(particles, 1.5)  # neutrinos are there, and little is outside so wide a jet
    assert mode(mjj) / 3500 == pytest.approx(1.0, abs=0.02)


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> dict[float, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """m_jj, the jets' and the missing transverse momenta of 80 events for each r_inv; GeV."""
    folder = tmp_path_factory.mktemp("svj")
    found = {}
    for r_inv in SHARES:
        path = folder / f"{r_inv}.root"
        simulate("zprime_svj", 80, path, seed=2, min_jet_pt=400, parameters={"r_inv": r_inv}, progress=False)
        candidates = momenta(path)
        missing = -ak.to_numpy(ak.sum(candidates.px, axis=1) + 1j * ak.sum(candidates.py, axis=1))
        mjj, jets, rows = two_jets(candidates, 1.0)
        assert len(rows) > 70
        found[r_inv] = (mjj, jets, missing[rows])
    return found


def test_the_dijet_mass_moves_down_with_r_inv(samples):
    peaks = [mode(samples[r_inv][0]) / 3500 for r_inv in SHARES]
    # of the first, 4 % lie outside of the jets, 3 % are neutrinos' and 3 % the detector's
    assert peaks == pytest.approx([0.91 * (1 - r_inv) for r_inv in SHARES], abs=0.08)


@pytest.mark.slow
def test_missing_momentum_points_along_a_jet(samples):
    medians = [np.median(np.abs(samples[r_inv][2])) for r_inv in SHARES]
    assert medians[0] < 150 < min(medians[1:])
    _, jets, missing = samples[0.3]
    large = np.abs(missing) > 200
    assert np.sum(large) > 30
    nearest = np.abs(np.angle(missing[large, None] / jets[large])).min(axis=1)
    assert np.median(nearest) < 0.3  # a direction at random: pi / 4
    assert np.mean(nearest < np.pi / 4) > 0.75  # and one half


def test_the_coupling_that_makes_most_mesons_follows_their_mass_unless_it_is_given():
    assert confinement_scale(alpha_peak(20.0)) == pytest.approx(3.2 * 20**0.8)
    assert with_defaults("zprime_svj")["alpha_dark"] == pytest.approx(0.313, abs=1e-3)
    assert with_defaults("jet_svj", {"m_dark": 50})["alpha_dark"] == alpha_peak(50.0) > alpha_peak(20.0)
    assert with_defaults("jet_svj", {"m_dark": 50, "alpha_dark": 0.2})["alpha_dark"] == 0.2
    few = ak.mean(ak.sum(is_of(collisions(n=40, alpha_dark=0.15).prt, PSEUDOSCALARS + VECTORS), axis=1))
    assert few < 20


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"r_inv": 1}, r"r_inv = 1; allowed: 0 to 0.95 \(at 1 nothing of the jets is seen\)"),
        ({"r_inv": -0.1}, r"r_inv = -0.1; allowed: 0 to 0.95"),
        ({"r_inv": (0.1, 0.3)}, r"r_inv = 0.1:0.3; allowed: 0 to 0.95"),
        ({"r_in": 0.3}, "did you mean 'r_inv'"),
        ({"m_dark": 2}, "m_dark = 2; allowed: 5 to 200"),
        ({"alpha_dark": 1}, "alpha_dark = 1; allowed: 0.15 to 0.8"),
        ({"m_zprime": 300, "m_dark": 150}, r"m_zprime = 300 GeV is too light for daughters of 150 \+ 150 GeV"),
    ],
)
@pytest.mark.parametrize("process", ["zprime_svj", "jet_svj"])
def test_parameters_that_make_no_semi_visible_jets_are_named(process, parameters, message):
    with pytest.raises(SimulationError, match=message):
        with_defaults(process, parameters)


def test_the_jet_that_is_taken_holds_a_dark_quark():
    batch = collisions("jet_svj", 30)
    quarks = decay_quarks(batch, PROCESSES["jet_svj"].mothers)
    assert {tuple(sorted(signs)) for signs in quarks.sign.tolist()} == {(-1, 1)}
    first = batch.prt[is_of(batch.prt, (DARK_QUARK,)) & (batch.prt.status == -23)]
    assert ak.num(first).tolist() == [2] * 30
    assert ak.to_list(quarks.phi) == ak.to_list(np.arctan2(first.p.py, first.p.px))
    seen = reconstruct(final_state(batch), detector=Detector(), rng=np.random.default_rng(4))
    rows, jets = single_jets(seen, window=(300, 2000), quarks=quarks, min_quarks=1)
    axis = np.angle(ak.to_numpy(ak.sum(jets.pt * np.exp(1j * jets.phi), axis=1)))
    dphi = np.abs(np.angle(np.exp(1j * (ak.to_numpy(quarks.phi[rows]) - axis[:, None]))))
    assert len(rows) > 10
    assert dphi.min(axis=1).max() < 1.0


def test_a_jet_has_to_hold_one_dark_quark(tmp_path, monkeypatch):
    jobs = []

    def stop(job: Job, number: int) -> None:
        jobs.append((job.min_quarks, number))
        raise SimulationError("enough")

    monkeypatch.setattr("hunch.samples.simulation.run_block", stop)
    with pytest.raises(SimulationError, match="enough"):
        simulate("jet_svj", 1, tmp_path / "svj.root", progress=False)
    assert jobs == [(1, 0)]


@pytest.mark.slow
def test_no_collision_is_given_up_before_its_jets_are_known(tmp_path):
    parameters = {"r_inv": 0.0}
    report = simulate("jet_svj", 4, tmp_path / "svj.root", seed=9, parameters=parameters, progress=False)
    values = with_defaults("jet_svj", parameters)
    settings = pythia_settings("jet_svj", values, min_jet_pt=550, max_jet_pt=650)
    seed, rng = block_seeds(9, 0)
    pythia = start_pythia(tuple(settings), seed)
    tried, taken = [], []
    for first in range(0, report.tries, 100):
        batch = pythia.nextBatch(100)
        seen = reconstruct(final_state(batch), detector=Detector(), rng=rng)
        quarks = decay_quarks(batch, (Z_PRIME,))
        rows, jets = single_jets(seen, window=(550, 650), quarks=quarks, min_quarks=1)
        tried += (first + rows + 1).tolist()
        taken += jets.pt.tolist()
    assert report.tries == tried[3]
    with uproot.open(tmp_path / "svj.root") as file:
        assert file["Events"]["PFCands_pt"].array().tolist() == taken[:4]


@pytest.mark.parametrize(
    ("process", "n", "most"), [pytest.param("zprime_svj", 12, 120, marks=pytest.mark.slow), ("jet_svj", 10, 160)]
)
def test_events_come_at_a_rate_and_do_not_depend_on_workers(tmp_path, process, n, most):
    reports = [
        simulate(process, n, tmp_path / f"{workers}.root", seed=5, workers=workers, progress=False)
        for workers in (1, 2)
    ]
    assert reports[0].tries == reports[1].tries < most
    one, two = (momenta(tmp_path / f"{workers}.root") for workers in (1, 2))
    assert ak.array_equal(one, two)
    if process == "jet_svj":
        pt = np.hypot(ak.sum(one.px, axis=1), ak.sum(one.py, axis=1))
        assert ak.all((pt > 550) & (pt < 650))
