"""Single jets: which one is taken, what is stored of it, and whether the three kinds look as they should."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import awkward as ak
import fastjet
import numpy as np
import pytest
import uproot

from hunch.processors import Features, Running, run_table
from hunch.samples import Detector, SimulationError, reconstruct, simulate
from hunch.samples.generation import final_state, start_pythia
from hunch.samples.jets import decay_quarks, leading_jet_pt, single_jets
from hunch.samples.processes import PROCESSES, pythia_settings, spread_of, with_defaults
from hunch.samples.selection import Selection, selection_of
from hunch.samples.veto import MARGIN, EarlyVeto, hardest_cone

UNDERLYING = 780.0
"""GeV^2 that the underlying event adds to m^2 of an ungroomed R = 1 jet of 600 GeV (2200 at 1.7 TeV, falls as pT)."""
SPRAY = [(0.5, 0.0, 0.0), (0.3, 0.3, 0.1), (0.2, -0.2, -0.2)]
"""Shares of pT and offsets in eta and phi of the three particles of a made-up jet."""


def event(*jets: tuple[float, float, float]) -> list[dict[str, float]]:
    """Three particles for each (pt, eta, phi), by falling pT; `jet` says which one they were made for."""
    made = [
        {"pt": pt * share, "eta": eta + d, "phi": (phi + f + np.pi) % (2 * np.pi) - np.pi, "mass": 0.1, "jet": number}
        for number, (pt, eta, phi) in enumerate(jets)
        for share, d, f in SPRAY
    ]
    return sorted(made, key=lambda p: -p["pt"])


def quark(eta: float, phi: float, sign: int) -> dict[str, float]:
    return {"eta": eta, "phi": phi, "sign": sign}


def numbers(jets: ak.Array) -> list[list[int]]:
    return [sorted(set(own)) for own in jets.jet.tolist()]


def test_the_leading_jet_is_taken_whole_if_it_lies_in_the_window_and_the_detector():
    events = ak.Array(
        [
            event((500, 0.2, 3.1), (610, -0.3, -0.1), (40, 1.0, 1.5)),  # the second is taken
            event((580, 0.2, 3.1), (800, -0.3, -0.1)),  # the leading one lies above
            event((500, 0.2, 3.1), (530, -0.3, -0.1)),  # and here below
            event((600, 1.6, 3.1), (580, 0.1, -0.1)),  # and here too far forward
            event((600, 1.4, 3.1), (580, 0.1, -0.1)),
        ]
    )
    rows, jets = single_jets(events, window=(540, 650), quarks=None)
    assert rows.tolist() == [0, 4]
    assert numbers(jets) == [[1], [0]]
    assert ak.num(jets).tolist() == [3, 3]
    assert ak.all(jets.pt[:, :-1] >= jets.pt[:, 1:])
    narrow, _ = single_jets(events, window=(540, 650), quarks=None, radius=0.8)  # its edge is at 2.5 - 0.8
    assert narrow.tolist() == [0, 3, 4]
    assert single_jets(events, window=(540, 650), quarks=None, eta_max=1.0)[0].tolist() == [0]
    assert single_jets(events, window=(2000, 3000), quarks=None)[0].tolist() == []
    assert single_jets(events[:0], window=(540, 650), quarks=None)[0].tolist() == []


def test_a_jet_that_holds_a_decay_is_taken_though_another_is_harder():
    events = ak.Array([event((640, 0.2, 3.1), (600, -0.3, -0.1))] * 6)
    quarks = ak.Array(
        [
            [quark(-0.3, 0.3, 1), quark(-0.4, -0.6, 1)],
            [quark(-0.3, 0.3, 1), quark(-0.4, -1.3, 1)],  # one of two is outside
            [quark(-0.3, 0.3, 1), quark(0.2, 3.0, -1)],  # each jet holds one of another decay: the harder
            [quark(-0.3, 0.3, -1), quark(0.2, 3.0, -1)],  # no jet holds both of one decay
            [quark(0.2, -3.1, 1), quark(0.1, 3.0, 1), quark(-0.3, 0.0, -1), quark(-0.3, 2.0, -1)],  # across phi = pi
            [],
        ]
    )
    rows, jets = single_jets(events, window=(550, 650), quarks=quarks)
    assert rows.tolist() == [0, 2, 4]
    assert numbers(jets) == [[1], [0], [0]]
    # of the first decay the quarks lie 0.4 and 0.5 from the jet's axis, of the others less
    assert single_jets(events, window=(550, 650), quarks=quarks, radius=0.45)[0].tolist() == [2, 4]


def test_the_radius_is_that_of_the_jets_themselves():
    events = ak.Array([event((500, 0.0, 0.0), (90, 0.0, 0.9))])
    assert single_jets(events, window=(550, 650), quarks=None)[0].tolist() == [0]
    assert single_jets(events, window=(550, 650), quarks=None, radius=0.6)[0].tolist() == []
    assert leading_jet_pt(events, min_pt=100) > 550
    assert leading_jet_pt(events, min_pt=100, radius=0.6) < 505


@pytest.fixture(scope="module")
def tops() -> tuple[ak.Array, ak.Array]:
    """Return 100 t tbar events as generated (no detector) and the quarks of their decays."""
    values = with_defaults("jet_top", {"pthat_floor": 0.9})
    settings = pythia_settings("jet_top", values, min_jet_pt=550, max_jet_pt=650)
    batch = start_pythia(tuple(settings), 3).nextBatch(100)
    seen = final_state(batch)
    pt = np.hypot(seen.px, seen.py)
    eta, phi = np.arcsinh(seen.pz / pt), np.arctan2(seen.py, seen.px)
    square = seen.e**2 - pt**2 - seen.pz**2
    particles = ak.zip({"pt": pt, "eta": eta, "phi": phi, "mass": np.sqrt(np.maximum(square, 0)), "pdg": seen.pdg})
    particles = particles[(np.abs(eta) < 2.5) & (pt > 0.5)]
    return particles[ak.argsort(-particles.pt, axis=1)], decay_quarks(batch, (6, 24))


def momenta(particles: ak.Array) -> ak.Array:
    pt, eta, phi, mass = (ak.values_astype(particles[name], np.float64) for name in ("pt", "eta", "phi", "mass"))
    columns = {"px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": pt * np.sinh(eta)}
    return ak.zip({**columns, "E": np.hypot(pt * np.cosh(eta), mass)}, with_name="Momentum4D")


def totals(particles: ak.Array) -> dict[str, np.ndarray]:
    """pt, eta, phi, mass of the sum of each event's particles."""
    px, py, pz, e = (ak.to_numpy(ak.sum(momenta(particles)[name], axis=1)) for name in ("px", "py", "pz", "E"))
    pt = np.hypot(px, py)
    mass = np.sqrt(np.maximum(e**2 - pt**2 - pz**2, 0))
    return {"pt": pt, "eta": np.arcsinh(pz / pt), "phi": np.arctan2(py, px), "mass": mass}


def test_each_top_leaves_three_quarks(tops):
    _, quarks = tops
    assert set(ak.num(quarks[quarks.sign > 0]).tolist()) == {3}
    assert set(ak.num(quarks[quarks.sign < 0]).tolist()) == {3}


def test_the_constituents_add_up_to_the_jets_that_fastjet_finds(tops):
    particles, quarks = tops
    jets = fastjet.ClusterSequence(momenta(particles), fastjet.JetDefinition(fastjet.antikt_algorithm, 1.0))
    found = jets.inclusive_jets(min_pt=450.0)
    pt = np.hypot(found.px, found.py)
    hardest = ak.to_numpy(ak.fill_none(ak.max(pt, axis=1), 0))
    assert leading_jet_pt(particles, min_pt=450.0) == pytest.approx(hardest)
    for truth in (None, quarks):
        rows, own = single_jets(particles, window=(450, 800), quarks=truth)
        assert len(rows) > 20
        total = totals(own)
        mass = np.sqrt(found.E**2 - pt**2 - found.pz**2)
        nearest = ak.argmin(np.abs(pt[rows] - total["pt"]), axis=1, keepdims=True)
        for values, name in ((pt, "pt"), (mass, "mass")):
            np.testing.assert_allclose(ak.flatten(values[rows][nearest]).to_numpy(), total[name], rtol=1e-6)
        assert np.all((total["pt"] > 450) & (total["pt"] < 800) & (np.abs(total["eta"]) < 1.5))
        if truth is None:
            assert total["pt"] == pytest.approx(hardest[rows])
            continue
        dphi = (quarks.phi[rows] - total["phi"] + np.pi) % (2 * np.pi) - np.pi
        near = np.hypot(quarks.eta[rows] - total["eta"], dphi) < 1.0
        by_sign = [ak.to_numpy(ak.sum(near[quarks.sign[rows] == sign], axis=1)) for sign in (1, -1)]
        assert np.all(np.maximum(*by_sign) == 3)


def test_what_is_taken_does_not_depend_on_the_window(tops):
    particles, quarks = tops
    wide, jets = single_jets(particles, window=(400, 900), quarks=quarks)
    pt = totals(jets)["pt"]
    inside = (pt > 550) & (pt < 650)
    narrow, own = single_jets(particles, window=(550, 650), quarks=quarks)
    assert 5 < len(narrow) < len(wide)
    assert narrow.tolist() == wide[inside].tolist()
    assert own.pdg.tolist() == jets[inside].pdg.tolist()


def read(path: Path) -> ak.Array:
    with uproot.open(path) as file:
        return file["Events"].arrays()


def candidates(events: ak.Array) -> ak.Array:
    return ak.zip({name: events[f"PFCands_{name}"] for name in ("pt", "eta", "phi", "mass", "pdgId", "charge")})


def mode(values: np.ndarray, share: float = 0.4) -> float:
    """The middle of the shortest interval that holds this share of the values."""
    ordered = np.sort(values)
    size = int(len(ordered) * share)
    first = int(np.argmin(ordered[size:] - ordered[:-size]))
    return float(ordered[first : first + size].mean())


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> dict[str, ak.Array]:
    """60 jets of each kind."""
    folder = tmp_path_factory.mktemp("jets")
    for process in ("jet_qcd", "jet_top", "jet_w"):
        simulate(process, 60, folder / f"{process}.root", seed=6, progress=False)
    return {path.stem: read(path) for path in sorted(folder.glob("*.root"))}


def test_samples_are_balanced_and_every_event_is_one_jet_in_the_window(samples):
    for process, events in samples.items():
        assert events.event.tolist() == list(range(60))
        assert set(events.truth_signal.tolist()) == {int(process != "jet_qcd")}
        assert set(events.genWeight.tolist()) == {1.0}
        jets = totals(candidates(events))
        assert np.all((jets["pt"] > 550) & (jets["pt"] < 650))
        assert np.all(np.abs(jets["eta"]) < 1.5)
        # all of it lies within the radius, hardly anything beyond it by the recombination
        cands = candidates(events)
        dphi = (cands.phi - jets["phi"] + np.pi) % (2 * np.pi) - np.pi
        assert ak.max(np.hypot(cands.eta - jets["eta"], dphi)) < 1.5
        charge = {211: 1, -211: -1, 11: -1, -11: 1, 13: -1, -13: 1, 22: 0, 130: 0}
        expected = [sum(charge[number] for number in own) for own in cands.pdgId.tolist()]
        assert ak.sum(cands.charge, axis=1).tolist() == expected


def test_masses_are_those_of_w_and_top_and_low_for_qcd(samples):
    masses = {process: totals(candidates(events))["mass"] for process, events in samples.items()}
    assert mode(masses["jet_w"]) == pytest.approx(np.sqrt(80.4**2 + UNDERLYING), rel=0.08)
    assert mode(masses["jet_top"]) == pytest.approx(np.sqrt(173**2 + UNDERLYING), rel=0.06)
    # few of the recoiling jets, or of jets that hold a part of the decay, are among them
    assert np.mean((masses["jet_w"] > 70) & (masses["jet_w"] < 115)) > 0.6
    assert np.mean((masses["jet_top"] > 150) & (masses["jet_top"] < 210)) > 0.65
    assert mode(masses["jet_qcd"]) < 75
    assert np.mean(np.abs(masses["jet_qcd"] - 175) < 25) < 0.25


def test_jets_are_the_same_when_fewer_are_asked_for(samples, tmp_path):
    simulate("jet_w", 10, tmp_path / "few.root", seed=6, progress=False)
    few = read(tmp_path / "few.root")
    assert few.PFCands_pt.tolist() == samples["jet_w"].PFCands_pt[:10].tolist()


def test_jets_that_hold_a_part_of_the_decay_are_taken_where_asked_for(samples, tmp_path):
    simulate("jet_top", 60, tmp_path / "part.root", seed=6, parameters={"min_quarks": 1}, progress=False)
    mass = totals(candidates(read(tmp_path / "part.root")))["mass"]
    whole = totals(candidates(samples["jet_top"]))["mass"]
    assert np.mean(mass < 140) > np.mean(whole < 140) + 0.1
    assert np.mean((mass > 150) & (mass < 210)) > 0.3


@pytest.mark.slow
def test_jets_do_not_depend_on_workers(tmp_path):
    for workers in (1, 2):  # about 200 jets a block
        simulate("jet_top", 260, tmp_path / f"{workers}.root", seed=8, workers=workers, progress=False)
    assert ak.array_equal(read(tmp_path / "1.root"), read(tmp_path / "2.root"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("process", "parameters", "window", "mass"),
    [
        ("jet_w", {"m_w": 120.0}, (550, 650), 120),
        ("jet_w", {"m_w": 59.0}, (550, 650), 59),
        ("jet_w", {"m_w": 174.0}, (550, 650), 174),
        ("jet_hh4j", {"m_h": 20.0}, (550, 650), 174),
        ("jet_hh4j", {"m_h": 80.0}, (550, 650), 174),
        ("jet_top", {"m_top": 80.0, "m_w": 37.0}, (550, 650), 80),
        ("jet_top", {"m_top": 250.0}, (900, 1100), 250),
    ],
)
def test_masses_and_windows_are_options(tmp_path, process, parameters, window, mass):
    report = simulate(process, 120, tmp_path / "x.root", parameters=parameters, jet_pt=window, seed=2, progress=False)
    jets = totals(candidates(read(tmp_path / "x.root")))
    assert (report.min_jet_pt, report.max_jet_pt) == window
    assert np.all((jets["pt"] > window[0]) & (jets["pt"] < window[1]))
    expected = np.sqrt(mass**2 + UNDERLYING * sum(window) / 1200)
    assert mode(jets["mass"]) == pytest.approx(expected, rel=0.08)


@pytest.mark.slow
def test_prongs_and_flat_masses(tmp_path):
    """Each kind falls most at the ratio that its prongs say: W at tau21, top at tau32, H at tau43."""
    kinds: dict[str, dict[str, Any]] = {"jet_w": {"m_w": 174.0}, "jet_top": {"m_top": 174.0}, "jet_hh4j": {"m_h": 80.0}}
    ratios = {}
    for process, parameters in kinds.items():
        simulate(process, 120, tmp_path / "x.root", parameters=parameters, seed=2, progress=False)
        table = run_table(tmp_path / "x.root", Features(jets=1), Running(progress=False)).table
        ratios[process] = [np.median(table[f"tau{n}_1"]) for n in (21, 32, 43)]
    w, top, higgs = ratios.values()
    assert w[0] < min(top[0], higgs[0]) - 0.1
    assert top[1] < min(w[1], higgs[1]) - 0.08
    assert higgs[2] < min(w[2], top[2]) - 0.05
    simulate("jet_w", 200, tmp_path / "flat.root", parameters={"m_w": (40.0, 200.0)}, seed=2, progress=False)
    mass = totals(candidates(read(tmp_path / "flat.root")))["mass"]
    share = np.histogram(mass, (60, 95, 130, 165, 200))[0] / len(mass)
    assert share == pytest.approx(np.full(4, 0.22), abs=0.08)


@pytest.mark.parametrize(
    ("process", "options", "message"),
    [
        ("jet_qcd", {"jet_pt": (650, 550)}, "jet_pt = 650 to 550; allowed: two rising numbers from 20 GeV"),
        ("jet_qcd", {"jet_pt": (5, 550)}, "jet_pt = 5 to 550"),
        ("jet_qcd", {"jet_pt": (np.inf, np.inf)}, "jet_pt = inf to inf"),
        ("jet_qcd", {"jet_pt": (np.nan, 650)}, "jet_pt = nan to 650"),
        ("jet_qcd", {"jet_pt": (550, np.nan)}, "jet_pt = 550 to nan"),
        ("jet_top", {"min_jet_pt": 500.0}, "'jet_top': min_jet_pt is for whole events"),
        ("qcd", {"jet_pt": (550, 650)}, "'qcd': jet_pt is for single jets"),
        ("jet_qcd", {"jet_radius": 0.0}, "jet_radius = 0.0; allowed: 0.1 to 1.5$"),
        ("qcd", {"jet_radius": np.nan}, "jet_radius = nan; allowed: 0.1 to 1.5$"),
        ("qcd", {"jet_eta": 2.0}, "'qcd': jet_eta is for single jets"),
        (
            "jet_qcd",
            {"jet_eta": 2.1},
            "jet_eta = 2.1; allowed: 0.1 to 2: jets of R = 1 have to lie within .eta. = 3, where",
        ),
        ("jet_qcd", {"jet_eta": 2.3, "jet_radius": 0.8}, "jet_eta = 2.3; allowed: 0.1 to 2.2: jets of R = 0.8"),
        ("jet_qcd", {"jet_eta": -1.0}, "jet_eta = -1.0; allowed: 0.1 to 2"),
        ("jet_qcd", {"sqrt_s": 14}, "sqrt_s = 14; allowed: 500 to 200000 GeV; 14 TeV is 14000"),
        ("qcd", {"sqrt_s": "14 TeV"}, "sqrt_s = '14 TeV'; allowed: 500 to 200000 GeV"),
        ("zprime_tt", {"sqrt_s": 8000.0, "parameters": {"m_zprime": 9000}}, "m_zprime = 9000; allowed: 20 to 8000"),
        ("jet_topp", {}, "did you mean 'jet_top'"),
        ("jet_top", {"parameters": {"m_topp": 170}}, "did you mean 'm_top'"),
        ("jet_top", {"parameters": {"m_top": 84, "m_w": 80.4}}, r"too light for daughters of 80.4 \+ 4.8 GeV"),
        (
            "jet_top",
            {"parameters": {"m_top": 80, "m_w": 76}},
            r"for daughters of 76 \+ 4.8 GeV; allowed: a sum below 78.4 GeV",
        ),
        (
            "jet_top",
            {"parameters": {"m_top": (80, 250), "m_w": 80}},
            r"m_top = 80:250 GeV is too light for daughters of 80 \+",
        ),
        (
            "jet_hh4j",
            {"parameters": {"m_h": 88}},
            r"m_H = 174 GeV is too light for daughters of 88 \+ 88 GeV; allowed: a sum below 170",
        ),
        ("jet_hh4j", {"parameters": {"m_h": 10}}, "m_h = 10; allowed: 20 to 13000"),
        ("jet_hh4j", {"parameters": {"m_H": (100, 200)}}, "m_H = 100:200; allowed: 20 to 13000$"),
        ("jet_hh4j", {"parameters": {"m_hh": 80}}, "no parameter 'm_hh'; did you mean 'm_[hH]'"),
        ("jet_w", {"parameters": {"m_w": -80}}, "m_w = -80; allowed: 20 to 13000, or LOW:HIGH within it"),
        ("jet_w", {"parameters": {"m_w": np.nan}}, "m_w = nan; allowed: 20 to 13000"),
        ("jet_w", {"parameters": {"m_w": (200, 40)}}, "m_w = 200:40; allowed: 20 to 13000, or LOW:HIGH"),
        ("jet_w", {"parameters": {"m_w": (10, 200)}}, "m_w = 10:200; allowed: 20 to 13000"),
        ("jet_w", {"parameters": {"m_w": (80, 80)}}, "m_w = 80:80; allowed"),
        ("jet_w", {"parameters": {"pthat_floor": (0.5, 0.6)}}, "pthat_floor = 0.5:0.6; allowed: 0.4 to 1$"),
        ("zprime_xy", {"parameters": {"m_x": (100, 500)}}, "m_x = 100:500; allowed: 20 to 13000$"),
        ("jet_w", {"parameters": {"pthat_ceiling": 0.5}}, "pthat_ceiling = 0.5; allowed: 1 to 10"),
        ("jet_w", {"parameters": {"min_quarks": 3}}, "min_quarks = 3; allowed: whole numbers, 1 to 2"),
        ("jet_top", {"parameters": {"min_quarks": 1.5}}, "min_quarks = 1.5; allowed: whole numbers, 1 to 3"),
    ],
)
def test_wrong_options_are_named(tmp_path, process, options, message):
    with pytest.raises(SimulationError, match=message):
        simulate(process, 5, tmp_path / "no.root", progress=False, **options)
    assert not list(tmp_path.iterdir())


def test_without_options_neither_pythia_nor_the_selection_differs_from_what_it_always_was():
    unset = dict.fromkeys(("min_jet_pt", "jet_pt", "jet_radius", "jet_eta"))
    assert selection_of("jet_top", **unset) == Selection((550.0, 650.0), 1.0, 1.5, Detector())
    assert selection_of("qcd", **unset) == Selection((1200.0, np.inf), 1.0, np.inf, Detector())
    assert Detector().eta_max == 2.5
    assert pythia_settings("jet_qcd", with_defaults("jet_qcd"), min_jet_pt=550, max_jet_pt=650) == [
        "Beams:eCM = 13000.0",
        "Print:quiet = on",
        "Random:setSeed = on",
        "HardQCD:all = on",
        "PhaseSpace:pTHatMin = 330.0",
        "PhaseSpace:pTHatMax = 845.0",
    ]


def test_jets_of_another_energy_and_radius_are_whole_beyond_the_tracker(tmp_path):
    options = {"sqrt_s": 14000.0, "jet_radius": 0.8, "jet_eta": 2.2, "multiple_interactions": False}
    report = simulate("jet_qcd", 150, tmp_path / "x.root", seed=4, jet_pt=(50, 100), progress=False, **options)
    assert {name: getattr(report, name) for name in options} == options
    cands = candidates(read(tmp_path / "x.root"))
    jets = totals(cands)
    assert np.all((jets["pt"] > 50) & (jets["pt"] < 100))
    assert 1.9 < np.abs(jets["eta"]).max() < 2.2
    dphi = (cands.phi - jets["phi"] + np.pi) % (2 * np.pi) - np.pi
    assert 0.5 < np.quantile(ak.flatten(np.hypot(cands.eta - jets["eta"], dphi)), 0.98) < 0.8
    forward = np.abs(cands.eta) > 2.5
    assert ak.sum(forward) > 5
    assert not ak.any(cands.charge[forward] != 0)
    lines = pythia_settings(
        "jet_qcd", with_defaults("jet_qcd"), min_jet_pt=550, sqrt_s=14e3, multiple_interactions=False
    )
    assert {"Beams:eCM = 14000.0", "PartonLevel:MPI = off"} <= set(lines)


def test_the_generated_range_of_pthat_follows_the_window():
    for process, recipe in PROCESSES.items():
        if recipe.single_jet and not recipe.resonant:
            values = with_defaults(process)
            lines = pythia_settings(process, values, min_jet_pt=400, max_jet_pt=500)
            assert f"PhaseSpace:pTHatMin = {values['pthat_floor'] * 400}" in lines
            assert f"PhaseSpace:pTHatMax = {values['pthat_ceiling'] * 500}" in lines
            assert "PhaseSpace:pTHatMax = -1.0" in pythia_settings(process, values, min_jet_pt=450)


def test_a_top_too_light_for_a_w_has_one_in_proportion():
    assert with_defaults("jet_top", {"m_top": 80})["m_w"] == pytest.approx(80.4 / 173 * 80)
    assert with_defaults("jet_top", {"m_top": (60, 250)})["m_w"] == pytest.approx(80.4 / 173 * 60)
    assert with_defaults("jet_top", {"m_top": 80, "m_w": 30})["m_w"] == 30
    assert with_defaults("jet_top", {"m_top": 100})["m_w"] == with_defaults("jet_top")["m_w"] == 80.4


def collisions(process: str, n: int, **parameters: Any) -> ak.Array:
    """n collisions as generated, their particles decayed and neither showered nor hadronised."""
    values = with_defaults(process, parameters)
    settings = pythia_settings(process, values, min_jet_pt=550, max_jet_pt=650)
    legs = PROCESSES[process].legs
    hook = EarlyVeto(0.0, spread=spread_of(values), legs=legs)
    bare = [f"{part} = off" for part in ("PartonLevel:MPI", "PartonLevel:ISR", "PartonLevel:FSR", "HadronLevel:all")]
    return start_pythia((*settings, *bare), 5, veto=hook).nextBatch(n)


def masses(batch: ak.Array, number: int) -> np.ndarray:
    """The masses of the particles of this PDG number that the collisions made."""
    p = ak.flatten(batch.prt[(abs(batch.prt.id) == number) & (batch.prt.status == -22)].p)
    return np.sqrt(ak.to_numpy(p.e**2 - p.px**2 - p.py**2 - p.pz**2))


@pytest.mark.parametrize(
    ("process", "name", "number", "edges"), [("jet_w", "m_w", 24, (40, 200)), ("jet_top", "m_top", 6, (60, 250))]
)
def test_a_range_of_masses_is_flat(process, name, number, edges):
    found = masses(collisions(process, 3000, **{name: edges}), number)
    assert found.min() >= edges[0]
    assert found.max() <= edges[1]
    share = np.histogram(found, 8, edges)[0] / len(found)
    # what stays is how the collision's own rate depends on the mass
    assert share == pytest.approx(np.full(8, 1 / 8), rel=0.25)


def test_h_decays_to_two_pairs_of_quarks_of_the_masses_asked_for():
    batch = collisions("jet_hh4j", 100, m_H=174, m_h=20)
    assert masses(batch, 25) == pytest.approx(np.full(100, 174), rel=0.02)
    assert masses(batch, 9900103) == pytest.approx(np.full(200, 20), rel=0.02)
    quarks = decay_quarks(batch, PROCESSES["jet_hh4j"].mothers)
    assert set(ak.num(quarks).tolist()) == {4}
    assert set(ak.flatten(quarks.sign).tolist()) == {1}


def test_jets_of_h_and_of_no_upper_edge(tmp_path):
    report = simulate(
        "jet_hh4j", 10, tmp_path / "h.root", seed=3, jet_pt=(450, np.inf), parameters={"m_h": 60}, progress=False
    )
    events = read(tmp_path / "h.root")
    jets = totals(candidates(events))
    assert report.max_jet_pt == np.inf
    assert jets["pt"].min() > 450
    assert np.median(jets["mass"]) == pytest.approx(175, rel=0.15)
    assert set(events.truth_signal.tolist()) == {1}


def test_the_hardest_cone_sums_partons_across_the_seam_of_phi():
    assert hardest_cone([]) == 0
    assert hardest_cone([(100.0, 0.0, 3.1), (50.0, 1.0, -3.1), (120.0, 2.0, 0.0)]) == 150
    # around the middle one there are all three
    three = [(1.0, -1.4, 0.0), (2.0, 0.0, 0.0), (4.0, 1.4, 0.0)]
    assert hardest_cone(three) == 7
    assert hardest_cone(three, cone=1.3) == 4


@pytest.mark.parametrize(("radius", "hardest"), [(0.8, 4.0), (1.0, 4.0), (1.2, 7.0)])
def test_the_veto_looks_around_partons_as_far_as_wide_jets_reach(radius, hardest):
    class Parton(SimpleNamespace):
        def isFinal(self) -> bool:
            return True

        def pT(self) -> float:
            return self.own[0]

        def eta(self) -> float:
            return self.own[1]

        def phi(self) -> float:
            return self.own[2]

    class Collision(list):
        def size(self) -> int:
            return len(self)

    made = Collision(Parton(own=(10 * pt, eta, 0.0)) for pt, eta in ((1.0, -1.6), (2.0, 0.0), (4.0, 1.6)))
    hook = EarlyVeto(50 / MARGIN, radius=radius)
    assert hook.doVetoPT(1, made) is (hardest == 4.0)
    assert hook.hardest == 10 * hardest


def test_the_veto_gives_up_soft_collisions_and_their_cross_section_is_kept(tmp_path):
    values = {"pthat_floor": 0.4}
    settings = tuple(pythia_settings("jet_w", with_defaults("jet_w", values), min_jet_pt=550, max_jet_pt=650))
    veto = EarlyVeto(550.0)
    pythia = start_pythia(settings, 1, veto=veto)
    pythia.nextBatch(40)
    assert veto.vetoed > 200
    assert veto.hardest > MARGIN * 550
    bare = start_pythia(settings, 1)
    bare.nextBatch(200)
    report = simulate("jet_w", 5, tmp_path / "x.root", parameters=values, progress=False)
    assert report.cross_section == pytest.approx(bare.infoPython().sigmaGen() * 1e9, rel=0.25)


class Recorder(EarlyVeto):
    """Gives up nothing and notes the hardest cone of every collision and the pT of its first outgoing parton."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.cones: list[float] = []
        self.pthat: list[float] = []

    def doVetoPT(self, position: int, event: Any) -> bool:
        given_up = super().doVetoPT(position, event)
        if position != 5:
            self.cones.append(self.hardest)
            self.pthat.append(event[5].pT())
        return given_up


@pytest.mark.slow
@pytest.mark.parametrize(
    ("process", "radius"),
    [("jet_qcd", 1.0), ("jet_top", 1.0), ("jet_w", 1.0), ("jet_hh4j", 1.0), ("jet_qcd", 0.8), ("jet_top", 0.8)],
)
def test_neither_the_veto_nor_the_range_of_pthat_bends_the_window(process, radius, rng):
    """Biased events of a wide range of pT-hat, weighted back: what the defaults leave out is a small share."""
    values = with_defaults(process)
    settings = pythia_settings(process, with_defaults(process, {"pthat_floor": 0.45}), min_jet_pt=550, max_jet_pt=1000)
    biased = [f"PhaseSpace:bias2Selection{end}" for end in (" = on", "Pow = 4.5", "Ref = 500")]
    recorder = Recorder()
    pythia = start_pythia((*settings, *biased), 9, veto=recorder)
    batch = pythia.nextBatch(2500)
    seen = reconstruct(final_state(batch), detector=Detector(), rng=rng)
    mothers = PROCESSES[process].mothers
    quarks = decay_quarks(batch, mothers) if mothers else None
    rows, jets = single_jets(seen, window=(550, 650), quarks=quarks, radius=radius)
    weights = ak.to_numpy(batch.info.weights[:, 0])[rows]
    pthat = np.sqrt(ak.to_numpy(batch.info.pT2Hat))[rows]
    assert len(rows) > 150
    # a collision that does not hadronise is made again, so the notes are found by pT-hat, not by number
    distance = np.abs(np.array(recorder.pthat) - pthat[:, None])
    assert distance.min(axis=1).max() < 1e-6 * 550
    given_up = np.array(recorder.cones)[distance.argmin(axis=1)] < MARGIN * 550
    outside = (pthat < values["pthat_floor"] * 550) | (pthat > values["pthat_ceiling"] * 650)
    assert weights[given_up].sum() < 0.01 * weights.sum()
    assert weights[outside].sum() < 0.12 * weights.sum()
    lost = given_up | outside
    pt = totals(jets)["pt"]
    # the mean pT in the window, with and without what is left out: it spans 100 GeV
    assert np.average(pt[~lost], weights=weights[~lost]) == pytest.approx(np.average(pt, weights=weights), abs=2.5)
