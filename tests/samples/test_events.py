"""Whole events: their objects from candidates, the mixture, heavy flavour, and small samples of every process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from hunch.processors import Objects, Running, run_table
from hunch.samples import PROCESSES, ObjectSelection, SimulationError, event_objects, simulate
from hunch.samples.detector import Detector, reconstruct
from hunch.samples.event_processes import COCKTAIL
from hunch.samples.event_simulation import mixture
from hunch.samples.generation import final_state, start_pythia
from hunch.samples.heavy_flavour import allow, heavy_collisions, leaves_lepton, of_kind, redecayed
from hunch.samples.processes import common_settings, with_defaults

EVENTS = [name for name, recipe in PROCESSES.items() if recipe.components]
COMMON = common_settings(sqrt_s=13_000.0, multiple_interactions=False)


def read(path: Path) -> ak.Array:
    with uproot.open(path) as file:
        return file["Events"].arrays()


def candidates(events: list[list[tuple[float, float, float, int]]]) -> ak.Array:
    """Candidates of (pt, eta, phi, pdgId), massless; the sign of the charge is that of a lepton's or pion's number."""
    fields = {}
    counts = [len(event) for event in events]
    flat = [one for event in events for one in event]
    for i, name in enumerate(("pt", "eta", "phi")):
        fields[name] = np.array([one[i] for one in flat], dtype=np.float32)
    pdg = np.array([one[3] for one in flat], dtype=np.int32)
    charge = np.where(np.isin(np.abs(pdg), (11, 13)), -np.sign(pdg), np.where(np.abs(pdg) == 211, np.sign(pdg), 0))
    fields |= {"mass": np.zeros(len(flat), dtype=np.float32), "pdgId": pdg, "charge": charge.astype(np.int8)}
    return ak.unflatten(ak.zip(fields), counts)


def test_the_trigger_takes_an_isolated_lepton_in_the_acceptance() -> None:
    near = (12.0, 0.1, 3.1, 211)
    events = [
        [(24.0, 0.0, -3.1, 13)],
        [(22.9, 0.0, 0.0, 13)],
        [(30.0, 2.2, 0.0, 13)],
        [(30.0, 2.2, 0.0, -11)],
        [(24.0, 0.0, -3.1, 13), near],  # 0.5 of its pT across phi = pi
        [(40.0, 0.0, -3.1, 13), near],
        [(24.0, 0.0, 2.6, 13), near],  # half a unit away
        [(25.0, 0.0, 0.0, 211)],
        [],
    ]
    rows, objects = event_objects(candidates(events))
    assert rows.tolist() == [0, 3, 5, 6]
    assert ak.num(objects.Muon).tolist() == [1, 0, 1, 1]
    assert ak.num(objects.Electron).tolist() == [0, 1, 0, 0]
    assert event_objects(candidates(events), charge=1)[0].tolist() == [3]
    assert event_objects(candidates(events), charge=-1)[0].tolist() == [0, 5, 6]
    strict = event_objects(candidates(events), selection=ObjectSelection(isolation=0.2))
    assert strict[0].tolist() == [0, 3, 6]
    assert event_objects(candidates([[]]))[0].tolist() == []


def test_jets_are_of_all_but_isolated_leptons_and_the_missing_momentum_of_all() -> None:
    events = [
        [
            (50.0, 0.0, 0.0, 13),
            (30.0, 1.0, 2.0, 211),
            (20.0, 1.1, 2.1, 22),
            (16.0, -3.9, -2.0, 130),
            (40.0, -4.2, 1.0, 130),
            (5.0, -1.0, -1.0, 13),
            (4.0, -1.0, -1.1, 22),
            (14.0, 2.0, 0.0, 22),
        ]
    ]
    _, objects = event_objects(candidates(events))
    jets = objects.Jet[0]
    px = 30 * np.cos(2.0) + 20 * np.cos(2.1)
    py = 30 * np.sin(2.0) + 20 * np.sin(2.1)
    assert jets.pt.tolist() == pytest.approx([np.hypot(px, py), 16.0], rel=1e-5)
    assert jets.eta.tolist() == pytest.approx([1.04, -3.9], abs=0.01)
    assert jets.phi.tolist() == pytest.approx([np.arctan2(py, px), -2.0], abs=1e-5)
    assert objects.Muon[0].pt.tolist() == [50.0]  # the soft one has 0.8 of its pT around it
    pt, phi = (np.array([one[i] for one in events[0]]) for i in (0, 2))
    lost = -np.sum(pt * np.exp(1j * phi))
    assert objects.MET_pt[0] == pytest.approx(abs(lost), rel=1e-6)
    assert objects.MET_phi[0] == pytest.approx(np.angle(lost), abs=1e-6)


def test_the_mixture_has_the_published_shares_and_does_not_depend_on_how_many_are_drawn() -> None:
    shares = {component.name: component.share for component in COCKTAIL}
    assert sum(shares.values()) == pytest.approx(1)
    assert (shares["w"], shares["z"], shares["ttbar"]) == (0.592, 0.067, 0.003)
    assert shares["bb"] + shares["cc"] == pytest.approx(0.338)
    drawn = mixture(COCKTAIL, 200_000, seed=1)
    found = np.bincount(drawn, minlength=5) / len(drawn)
    for share, own in zip(shares.values(), found, strict=True):
        assert abs(own - share) < 4 * np.sqrt(share / len(drawn))
    np.testing.assert_array_equal(mixture(COCKTAIL, 100, seed=1), drawn[:100])
    assert (mixture(COCKTAIL, 100, seed=2) != drawn[:100]).any()


def generated(settings: list[str], n: int) -> Any:
    return start_pythia(
        (*COMMON, *settings, "PartonLevel:ISR = off", "PartonLevel:FSR = off", "HadronLevel:all = off"), 3
    ).nextBatch(n)


@pytest.mark.parametrize(
    ("process", "mother", "mass", "decays"),
    [
        ("event_a4l", 25, 50.0, {(23, 23)}),
        ("event_lqbtau", 42, 80.0, {(5, 15)}),
        ("event_h0tautau", 25, 60.0, {(-15, 15)}),
        ("event_htaunu", 37, 60.0, {(-15, 16)}),
    ],
)
def test_signals_decay_as_they_are_called_with_their_mass(
    process: str, mother: int, mass: float, decays: set[Any]
) -> None:
    (component,) = PROCESSES[process].components
    values = {k: v for k, v in with_defaults(process).items() if isinstance(v, float)}
    record = generated(component.settings(values), 30).prt
    decayed = record[(np.abs(record.id) == mother) & (record.status == -22)]
    assert ak.min(ak.num(decayed)) >= 1
    masses = ak.to_numpy(ak.flatten(decayed.m))
    assert np.abs(masses - mass).max() < 0.021 * mass
    for event in range(30):
        ids, parents = record.id[event].to_numpy(), record.mother1[event].to_numpy()
        for number in np.unique(parents[(np.abs(ids[parents]) == mother) & (np.abs(ids) != mother)]):
            products = ids[parents == number] * (np.sign(ids[number]) if mother != 25 else 1)
            assert tuple(sorted(products.tolist())) in decays


def test_every_a_gives_four_electrons_or_muons() -> None:
    (component,) = PROCESSES["event_a4l"].components
    record = generated(component.settings({"m_A": 50.0}), 30).prt
    leptons = record[(record.status > 0) & ((np.abs(record.id) == 11) | (np.abs(record.id) == 13))]
    assert set(ak.num(leptons).tolist()) == {4}
    energy, px, py, pz = (
        ak.to_numpy(ak.sum(x, axis=1)) for x in (leptons.p.e, leptons.p.px, leptons.p.py, leptons.p.pz)
    )
    assert np.sqrt(energy**2 - px**2 - py**2 - pz**2) == pytest.approx(np.full(30, 50.0), rel=0.021)


def test_masses_are_parameters_and_options_of_jets_are_refused(tmp_path: Path) -> None:
    assert with_defaults("event_lqbtau", {"m_LQ": 300})["m_LQ"] == 300.0
    with pytest.raises(SimulationError, match=r"no parameter 'm_a'.*did you mean 'm_A'"):
        with_defaults("event_a4l", {"m_a": 60})
    with pytest.raises(SimulationError, match="too light for daughters"):
        with_defaults("event_a4l", {"m_A": 20})
    with pytest.raises(SimulationError, match=r"jet_radius = 0.4 is of samples that are selected by a jet"):
        simulate("event_sm", 1, tmp_path / "x.root", jet_radius=0.4, progress=False)
    with pytest.raises(SimulationError, match="no process 'events'"):
        simulate("events", 1, tmp_path / "x.root", progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("process", ["event_a4l"])
def test_events_do_not_depend_on_workers_or_on_how_many_are_asked_for(
    tmp_path: Path, process: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hunch.samples.event_simulation.CHUNK", 5)
    options: dict[str, Any] = {"seed": 4, "multiple_interactions": False, "progress": False}
    report = simulate(process, 12, tmp_path / "one.root", **options)
    monkeypatch.undo()  # how many are written at once plays no part either
    simulate(process, 12, tmp_path / "two.root", workers=2, **options)
    simulate(process, 5, tmp_path / "few.root", **options)
    one, two, few = (read(tmp_path / f"{name}.root") for name in ("one", "two", "few"))
    for name in one.fields:
        assert ak.array_equal(one[name], two[name])
        assert ak.array_equal(one[name][:5], few[name])
    assert one.event.tolist() == list(range(12))
    assert set(one.truth_signal.tolist()) == {1}
    assert (report.accepted, report.jet_radius, report.min_jet_pt) == (12, 0.4, 15.0)
    assert report.tries >= 12
    assert report.cross_section > 0


def in_order(events: ak.Array) -> None:
    """Check what every event of such a file has: its trigger, its acceptance, and the order of its objects."""
    leading = np.maximum(
        ak.to_numpy(ak.fill_none(ak.max(events.Electron_pt, axis=1), 0)),
        ak.to_numpy(ak.fill_none(ak.max(events.Muon_pt, axis=1), 0)),
    )
    assert leading.min() > 23
    for name, least, edge in (("Electron", 3, 3.0), ("Muon", 3, 2.1), ("Jet", 15, 4.0)):
        pt, eta, phi = (events[f"{name}_{k}"] for k in ("pt", "eta", "phi"))
        assert ak.all(pt > least)
        assert ak.all(np.abs(eta) < edge)
        assert ak.all(np.abs(phi) <= np.pi + 1e-6)
        assert ak.all(pt[:, :-1] >= pt[:, 1:])
        assert ak.to_list(events[f"n{name}"]) == ak.to_list(ak.num(pt))
    assert set(np.unique(ak.flatten(events.Electron_charge))) <= {-1, 1}
    assert ak.all(events.MET_pt > 0)


def test_a_file_of_a_signal_becomes_objects(tmp_path: Path) -> None:
    simulate("event_a4l", 15, tmp_path / "a.root", seed=2, multiple_interactions=False, progress=False)
    events = read(tmp_path / "a.root")
    in_order(events)
    n = ak.num(events.Electron_pt) + ak.num(events.Muon_pt)
    assert ak.mean(n) > 2
    table = run_table(tmp_path / "a.root", Objects(), Running(executor="iterative", progress=False)).table
    assert len(table) == 15
    assert table["n_e"].tolist() == ak.num(events.Electron_pt).tolist()
    assert table["met"] == pytest.approx(ak.to_numpy(events.MET_pt), rel=1e-6)


def test_leptons_of_forced_decays_have_the_charge_that_was_asked_for() -> None:
    for component in COCKTAIL[1:3]:
        assert component.forced is not None
        for charge in (1, -1):
            settings = (*COMMON, *component.settings({}), *component.forced.by_charge(charge))
            state = final_state(start_pythia(settings, 2).nextBatch(60))
            leptons = state.pdg[
                (np.hypot(state.px, state.py) > 3) & ((np.abs(state.pdg) == 11) | (np.abs(state.pdg) == 13))
            ]
            signs = -np.sign(ak.to_numpy(ak.flatten(leptons)))
            assert (signs == charge).sum() > 1.5 * (signs == -charge).sum()
            assert len(signs) > 15


def test_a_collision_of_heavy_quarks_is_whole_and_has_the_lepton() -> None:
    component = COCKTAIL[1]
    decays = component.forced
    assert decays is not None

    def made(charge: int) -> Any:
        settings = (*COMMON, *component.settings({}), *decays.by_charge(charge))
        rng = np.random.default_rng(7)
        return heavy_collisions(start_pythia(settings, 2), 150, decays=decays, charge=charge, rng=rng)

    state, weights, rows = made(-1)
    assert 2 <= len(rows) <= 40
    assert len(state) == len(weights) == len(rows)
    assert (np.diff(rows) > 0).all()
    assert rows.max() < 150
    # nothing is lost or there twice when hadrons are decayed again
    for name, total in (("px", 0.0), ("py", 0.0), ("pz", 0.0), ("e", 13_000.0)):
        assert ak.to_numpy(ak.sum(state[name], axis=1)) == pytest.approx(np.full(len(rows), total), abs=0.5)
    for event in state:
        flat = np.stack([ak.to_numpy(event[name]) for name in ("pdg", "px", "py", "pz", "e")], axis=1)
        assert leaves_lepton(flat.astype(np.float64), (11, 13), ObjectSelection())
    pythia = start_pythia((*COMMON, *component.settings({}), *decays.by_charge(1)), 2)
    allow(pythia, decays.hadrons, decay=False)
    assert pythia.next()
    allow(pythia, decays.hadrons, decay=True)
    heavy = [p for p in of_kind(pythia.event, frozenset(decays.hadrons)) if p.isFinal()]
    states = list(redecayed(pythia, heavy, (-11, -13), repeats=8, least=0.1))
    assert len(states) > 4
    assert len({float(one[np.isin(one[:, 0], (-11, -13)), 4].max()) for one in states}) == len(states)
    again = made(-1)
    assert ak.array_equal(again[0], state)
    np.testing.assert_array_equal(again[2], rows)


def test_what_may_pass_the_isolation_is_told_before_the_detector() -> None:
    def state(*particles: tuple[int, float, float]) -> np.ndarray:
        return np.array([(pdg, pt * np.cos(phi), pt * np.sin(phi), 0.0, pt) for pdg, pt, phi in particles])

    selection = ObjectSelection()
    assert leaves_lepton(state((-13, 25.0, 3.1), (211, 12.0, -3.1)), (-11, -13), selection)
    assert not leaves_lepton(state((-13, 25.0, 3.1), (211, 17.0, -3.1)), (-11, -13), selection)
    assert leaves_lepton(state((-13, 25.0, 3.1), (211, 17.0, 2.7), (14, 50.0, 3.1)), (-11, -13), selection)
    assert not leaves_lepton(state((13, 25.0, 3.1)), (-11, -13), selection)
    assert not leaves_lepton(state((-13, 20.0, 3.1)), (-11, -13), selection)


def test_calorimeters_reach_forward_where_the_missing_momentum_needs_them(rng: np.random.Generator) -> None:
    eta, energy = 3.7, 1000.0
    pt = energy / np.cosh(eta)
    one = {"pdg": 130, "px": pt, "py": 0.0, "pz": pt * np.sinh(eta), "e": energy}
    particles = ak.Array([[one]] * 300)
    seen = reconstruct(particles, detector=Detector(calorimeter_eta=5.0), rng=rng)
    assert set(ak.num(seen).tolist()) == {1}
    measured = ak.to_numpy(ak.flatten(seen.pt * np.cosh(seen.eta)))
    assert measured.mean() == pytest.approx(energy, rel=0.03)
    sigma = measured.std() / energy
    assert sigma == pytest.approx(np.hypot(0.13, 2.7 / np.sqrt(energy)), rel=0.15)
    assert ak.sum(ak.num(reconstruct(particles, detector=Detector(), rng=rng))) == 0


@pytest.mark.slow
def test_the_cocktail_is_mixed_of_events_that_fire_the_trigger(tmp_path: Path) -> None:
    simulate("event_sm", 60, tmp_path / "sm.root", seed=5, multiple_interactions=False, progress=False)
    simulate("event_sm", 60, tmp_path / "two.root", seed=5, workers=2, multiple_interactions=False, progress=False)
    events, two = read(tmp_path / "sm.root"), read(tmp_path / "two.root")
    in_order(events)
    for name in events.fields:
        assert ak.array_equal(events[name], two[name])
    assert events.truth_process.tolist() == mixture(COCKTAIL, 60, seed=5).tolist()
    assert set(events.truth_signal.tolist()) == {0}
    assert set(events.genWeight.tolist()) == {1.0}
    # the b of a lepton leaves a jet beside it or opposite; a W mostly does not
    jets = ak.to_numpy(ak.num(events.Jet_pt))
    kind = ak.to_numpy(events.truth_process)
    assert jets[kind == 1].mean() > jets[kind == 0].mean()
    assert ak.to_numpy(events.MET_pt)[kind == 0].mean() > ak.to_numpy(events.MET_pt)[kind == 3].mean()
