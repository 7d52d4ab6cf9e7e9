"""Whole events in the manner of the DarkMachines challenge: photons, b-tags, channels, the Standard Model's mixtures and signals, with known answers."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from hunch.processors import Objects, Running, run_table
from hunch.samples import PROCESSES, SimulationError, object_writer, simulate, write_phenoml
from hunch.samples.challenge_processes import CHANNEL1_SM, CHANNEL2B_SM
from hunch.samples.challenge_selection import ChallengeSelection, challenge_objects, passes
from hunch.samples.detector import INVISIBLE, reconstruct
from hunch.samples.event_simulation import mixture
from hunch.samples.flavour_tags import heavy_hadrons, jet_flavours, tag_rates, tagged
from hunch.samples.generation import final_state, start_pythia
from hunch.samples.objects import EVENT_DETECTOR
from hunch.samples.processes import common_settings, with_defaults
from hunch.samples.slha import spectrum, spectrum_settings
from hunch.samples.veto import SumVeto

COMMON = common_settings(sqrt_s=13_000.0, multiple_interactions=False)
PARTONS = ("PartonLevel:ISR = off", "PartonLevel:FSR = off", "HadronLevel:all = off")
QUIET: dict[str, Any] = {"multiple_interactions": False, "progress": False}
SIGNALS = [
    name for name, recipe in PROCESSES.items() if recipe.signal and any(c.kept == "stored" for c in recipe.components)
]


def read(path: Path) -> ak.Array:
    with uproot.open(path) as file:
        return file["Events"].arrays()


def generated(process: str, n: int, *more: str) -> Any:
    """Return a batch of the one component of a signal."""
    (component,) = PROCESSES[process].components
    values = {k: v for k, v in with_defaults(process).items() if isinstance(v, float)}
    with spectrum_settings("" if component.slha is None else component.slha(values)) as lines:
        return start_pythia((*COMMON, *component.settings(values), *lines, *more), 3).nextBatch(n)


def lists(*events: list[tuple[float, ...]], names: tuple[str, ...]) -> ak.Array:
    flat = [one for event in events for one in event]
    columns = {name: np.array([one[i] for one in flat], dtype=np.float32) for i, name in enumerate(names)}
    return ak.unflatten(ak.zip(columns), [len(event) for event in events])


def candidates(*events: list[tuple[float, float, float, int]]) -> ak.Array:
    """Candidates of (pt, eta, phi, pdgId), massless and by falling pT."""
    found = lists(*events, names=("pt", "eta", "phi", "pdgId"))
    code = ak.values_astype(found.pdgId, np.int32)
    lepton = (np.abs(code) == 11) | (np.abs(code) == 13)
    charge = ak.values_astype(ak.where(lepton, -np.sign(code), 0), np.int8)
    return ak.zip(
        {"pt": found.pt, "eta": found.eta, "phi": found.phi, "mass": 0 * found.pt, "pdgId": code, "charge": charge}
    )


def no_hadrons(n: int) -> ak.Array:
    return lists(*([[]] * n), names=("eta", "phi", "flavour"))


def test_jets_have_the_flavour_of_their_hadrons_and_the_stated_rates_of_tags() -> None:
    jets = lists([(100, 0, 3.1), (80, 0, 0), (60, 2, 0)], [], [(50, 0, 0)], names=("pt", "eta", "phi"))
    hadrons = lists(
        [(0.1, -3.0, 5), (0.1, -3.0, 4), (0.2, 0.2, 4), (2.0, 0.31, 5)],
        [(0, 0, 5)],
        [],
        names=("eta", "phi", "flavour"),
    )
    assert jet_flavours(jets, hadrons).to_list() == [[5, 4, 0], [], [0]]
    rates = tag_rates(np.array([5, 4, 0, 5, 0]), np.array([50.0, 50, 1000, 20, 20]), np.array([0, 1, 2, 2.4, 2.6]))
    stated = [
        0.8 * np.tanh(0.15) * 30 / 5.3,
        0.2 * np.tanh(1) / 1.17,
        0.0093,
        0.8 * np.tanh(0.06) * 30 / 2.72,
        0.0,
    ]
    assert rates == pytest.approx(stated)
    many = lists(*([[(100, 0, 0), (100, 1, 2), (100, -1, 2)]] * 20_000), names=("pt", "eta", "phi"))
    both = lists(*([[(0, 0, 5), (1, 2, 4)]] * 20_000), names=("eta", "phi", "flavour"))
    drawn = tagged(many, both, rng=np.random.default_rng(1))
    assert ak.to_numpy(drawn).mean(axis=0) == pytest.approx([0.7281, 0.1439, 0.00273], abs=0.012)
    assert abs(ak.mean(drawn[:, 2]) - 0.00273) < 0.0015


def test_photons_and_leptons_are_isolated_objects_of_the_acceptance() -> None:
    jet = (100, -2, 1.5, 130)
    events = [
        [jet, (40, 0, 3.1, 22), (4, 0, -3.1, 211)],  # 0.1 of its pT across phi = pi
        [jet, (40, 0, 3.1, 22), (6, 0, -3.1, 211)],  # 0.15
        [jet, (40, 0, 0, 13), (8, 0, 0.4, 211)],  # a muon may have 0.25
        [jet, (40, 0, 0, -11), (8, 0, 0.4, 211)],
        [jet, (40, 0, 0, -11), (30, 0, 0.1, 11)],  # leptons do not count
        [jet, (40, 2.4, 0, 22), (14, 0, 0, 13)],
        [jet, (40, 2.3, 0, 22), (16, 2.45, 3, 11), (16, 0.6, 0, 13)],
    ]
    sure = ChallengeSelection(photon_efficiency=(1.0, 1.0))
    rows, objects = challenge_objects(
        candidates(*events), no_hadrons(7), kept="stored", rng=np.random.default_rng(1), selection=sure
    )
    assert rows.tolist() == list(range(7))
    assert ak.num(objects.Photon).tolist() == [1, 0, 0, 0, 0, 0, 1]
    assert ak.num(objects.Muon).tolist() == [0, 0, 1, 0, 0, 0, 1]
    assert ak.num(objects.Electron).tolist() == [0, 0, 0, 0, 2, 0, 1]
    assert objects.Electron.charge[4].tolist() == [1, -1]
    blind = ChallengeSelection(photon_efficiency=(0.0, 1.0))
    again = challenge_objects(
        candidates(*events), no_hadrons(7), kept="stored", rng=np.random.default_rng(1), selection=blind
    )[1]
    assert ak.num(again.Photon).tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_jets_are_of_all_but_isolated_objects_and_the_missing_momentum_of_all() -> None:
    event = [
        (90, 0, 0, 22),
        (70, 1, 2, 211),
        (30, 1.1, 2.1, 130),
        (40, 2.9, -2, 130),
        (25, 4.5, 1, 130),
        (15, -1, -1, 211),
    ]
    sure = ChallengeSelection(photon_efficiency=(1.0, 1.0))
    hadrons = lists([(1.0, 2.0, 5)], names=("eta", "phi", "flavour"))
    rng = np.random.default_rng(3)
    rows, objects = challenge_objects(candidates(event), hadrons, kept="stored", rng=rng, selection=sure)
    assert rows.tolist() == [0]
    jets = objects.Jet[0]
    assert jets.pt.tolist() == pytest.approx([abs(70 * np.exp(2j) + 30 * np.exp(2.1j))], rel=1e-5)
    assert set(jets.btag.tolist()) <= {0, 1}
    assert objects.Photon[0].pt.tolist() == [90.0]
    pt, phi = np.array(event)[:, 0], np.array(event)[:, 2]
    lost = -np.sum(pt * np.exp(1j * phi))
    assert objects.MET_pt[0] == pytest.approx(abs(lost), rel=1e-6)
    assert objects.MET_phi[0] == pytest.approx(np.angle(lost), abs=1e-6)


def random_objects(n: int, rng: np.random.Generator) -> ak.Array:
    """Objects near the edges of all channels; the numbers on them, too."""

    def some(most: int, scale: float, edge: float, least: float) -> ak.Array:
        counts = rng.integers(0, most + 1, n)
        size = int(counts.sum())
        pt = np.where(rng.random(size) < 0.2, 50 * rng.integers(1, 5, size), least + rng.exponential(scale, size))
        columns = {"pt": pt, "eta": rng.uniform(-edge, edge, size), "phi": rng.uniform(-3, 3, size), "mass": 0 * pt}
        own = ak.zip({k: v.astype(np.float32) for k, v in columns.items()})
        own = ak.with_field(own, np.ones(size, np.int8), "charge")
        own = ak.unflatten(ak.with_field(own, np.zeros(size, np.uint8), "btag"), counts)
        return own[ak.argsort(own.pt, axis=1, ascending=False, stable=True)]

    met = np.where(rng.random(n) < 0.2, 50 * rng.integers(1, 5, n), rng.exponential(200, n)).astype(np.float32)
    lepton = functools.partial(some, 2, 30.0, 2.5, 15.001)
    return ak.zip(
        {
            "Jet": some(8, 120.0, 2.8, 20.001),
            "Electron": lepton(),
            "Muon": lepton(),
            "Photon": some(1, 20.0, 2.37, 20.001),
            "MET_pt": met,
            "MET_phi": 0 * met,
        },
        depth_limit=1,
    )


@pytest.mark.parametrize("channel", ["1", "2b"])
def test_the_channels_are_those_of_the_processor(tmp_path: Path, channel: str, rng: np.random.Generator) -> None:
    objects = random_objects(1500, rng)
    chosen = passes(objects, channel)
    assert 50 < chosen.sum() < 1250
    with object_writer(tmp_path / "x.root", measured=True, truth=False, photons=True, btag=True) as writer:
        writer.write(objects, truth_signal=None)
    made = Objects(layout="list", channel=channel)
    table = run_table(tmp_path / "x.root", made, Running(executor="iterative", progress=False)).table
    assert np.sort(table["event"]).tolist() == np.flatnonzero(chosen).tolist()


def test_the_edges_of_the_channels_are_part_of_them() -> None:
    def one(met: float, *pt: float, leptons: int = 0) -> ak.Array:
        kinds = {"Jet": lists([(each,) for each in pt], names=("pt",)), "Muon": lists([], names=("pt",))}
        kinds["Electron"] = lists([(20.0,)] * leptons, names=("pt",))
        return ak.zip({**kinds, "MET_pt": np.array([met], np.float32)}, depth_limit=1)

    assert passes(one(200, 300, 100, 100, 100), "1")[0]  # HT = 600
    assert passes(one(200, 700, 100, 100, 100), "1")[0]  # MET = 0.2 HT
    for less in (one(199, 700, 100, 100, 100), one(210, 299, 100, 100, 100), one(200, 701, 100, 100, 100)):
        assert not passes(less, "1")[0]
    for less in (one(300, 200, 200, 200, 100), one(300, 700, 100, 100, 50)):  # what jets have is above the edge
        assert not passes(less, "1")[0]
    assert passes(one(50, 30, 20.5, leptons=2), "2b")[0]
    assert passes(one(50, 50, leptons=2), "2b")[0]
    for less in (one(49, 60, leptons=2), one(60, 49, leptons=2), one(60, 60, leptons=1)):
        assert not passes(less, "2b")[0]


def test_the_challenge_stores_events_with_a_hard_object() -> None:
    def one(name: str, pt: float, eta: float) -> ak.Array:
        kinds = {
            k: lists([(pt, eta)] if k == name else [], names=("pt", "eta"))
            for k in ("Jet", "Electron", "Muon", "Photon")
        }
        return ak.zip({**kinds, "MET_pt": np.zeros(1, np.float32)}, depth_limit=1)

    stored = [("Jet", 61, 2.7), ("Electron", 26, 1.3), ("Electron", 26, -1.6), ("Muon", 26, 2.4), ("Photon", 26, 2.3)]
    lost = [("Jet", 59, 0), ("Electron", 26, -1.45), ("Electron", 26, 2.48), ("Muon", 24, 0), ("Photon", 24, 0)]
    assert all(passes(one(*each), "stored")[0] for each in stored)
    assert not any(passes(one(*each), "stored")[0] for each in lost)
    with pytest.raises(ValueError, match="3"):
        passes(one("Jet", 61, 0), "3")


NEUTRAL = (1000022, 1000023, 23, 9900104)


@pytest.mark.parametrize(
    ("process", "masses", "decays"),
    [
        ("event_glgl", {1000021: 1600.0, 1000022: 800.0}, {1000021: [{1000022, q, -q} for q in (1, 2, 3, 4)]}),
        ("event_sqsq", {1000002: 1800.0, 1000022: 800.0}, {1000002: [{1000022, 2}], 2000001: [{1000022, 1}]}),
        ("event_stop2b", {1000006: 1000.0, 1000024: 650.0, 1000022: 300.0}, {1000006: [{1000024, 5}], 1000024: [{1000022, 24}]}),
        ("event_stlp", {1000006: 1000.0}, {1000006: [{5, -11}, {5, -13}]}),
        ("event_chaneut", {1000024: 300.0, 1000023: 300.0, 1000022: 100.0}, {1000023: [{1000022, 23}], 23: [{n, -n} for n in (11, 13, 15)]}),
        ("event_monojet", {55: 2000.0, 52: 50.0}, {55: [{52, -52}]}),
        ("event_zp_mutau", {9900104: 50.0, 4900023: 91.19}, {4900023: [{13, -13, 9900104}], 9900104: [{n, -n} for n in (13, 14, 15, 16)]}),
        ("event_zh_inv", {25: 125.0}, {25: [{14, -14}], 23: [{n, -n} for n in (11, 13)]}),
    ],
)  # fmt: skip
def test_signals_decay_as_they_are_called_with_their_mass(
    process: str, masses: dict[int, float], decays: dict[int, list[set[int]]]
) -> None:
    record = generated(process, 25, *PARTONS).prt
    code = np.abs(record.id)
    for number, mass in masses.items():
        found = ak.to_numpy(ak.flatten(record.m[code == number]))
        assert len(found)
        assert np.median(found) == pytest.approx(mass, rel=0.03)
        assert np.abs(found - mass).max() < (0.021 if number != 4900023 else 0.6) * mass
    seen = 0
    for event in range(25):
        ids, mothers = record.id[event].to_numpy(), record.mother1[event].to_numpy()
        for number, allowed in decays.items():
            for at in np.unique(mothers[(np.abs(ids[mothers]) == number) & (np.abs(ids) != number)]):
                sign = 1 if ids[at] > 0 else -1
                found = {int(i) if int(i) in NEUTRAL else sign * int(i) for i in ids[mothers == at]}
                assert found in allowed
                seen += 1
    assert seen > 15


@functools.cache
def gluinos() -> tuple[Any, ak.Array, ak.Array]:
    """Eighty gluino pairs: a batch, its detector candidates, its final state."""
    batch = generated("event_glgl", 80)
    state = final_state(batch)
    return batch, reconstruct(state, detector=EVENT_DETECTOR, rng=np.random.default_rng(5)), state


def test_gluinos_pass_channel_1_as_often_as_their_particles_say() -> None:
    batch, particles, state = gluinos()
    hadrons = heavy_hadrons(batch)
    rows, _ = challenge_objects(particles, hadrons, kept="1", rng=np.random.default_rng(6))
    pt = np.hypot(state.px, state.py)
    eta = np.arcsinh(state.pz / pt)
    seen = (~np.isin(np.abs(ak.to_numpy(ak.flatten(state.pdg))), INVISIBLE)) & ak.to_numpy(ak.flatten(np.abs(eta) < 5))
    seen = ak.unflatten(seen, ak.num(pt))
    kinds = {
        "pt": pt,
        "eta": eta,
        "phi": np.arctan2(state.py, state.px),
        "mass": 0 * pt,
        "pdgId": state.pdg,
        "charge": 0 * state.pdg,
    }
    true = ak.zip(kinds)[seen]
    expected, told = challenge_objects(
        true[ak.argsort(true.pt, axis=1, ascending=False)], hadrons, kept="1", rng=np.random.default_rng(6)
    )
    both = len(np.intersect1d(rows, expected))
    assert 40 < len(expected) < 75
    assert both > 0.85 * len(expected)
    assert both > 0.85 * len(rows)
    # what is lost is what neutralinos and neutrinos carry
    hidden = np.isin(np.abs(ak.to_numpy(ak.flatten(state.pdg))), INVISIBLE)
    lost = state[ak.unflatten(hidden, ak.num(state.pdg))][expected]
    carried = np.hypot(ak.sum(lost.px, axis=1), ak.sum(lost.py, axis=1))
    assert np.median(np.abs(ak.to_numpy(told.MET_pt - carried))) < 5


def test_top_pairs_have_two_b_jets_tagged_at_the_stated_rate() -> None:
    settings = (*COMMON, *CHANNEL2B_SM[0].settings({}))
    batch = start_pythia(settings, 4).nextBatch(160)
    particles = reconstruct(final_state(batch), detector=EVENT_DETECTOR, rng=np.random.default_rng(1))
    hadrons = heavy_hadrons(batch)
    rows, objects = challenge_objects(particles, hadrons, kept="stored", rng=np.random.default_rng(2))
    jets = objects.Jet
    flavour = ak.flatten(jet_flavours(jets, hadrons[rows])).to_numpy()
    pt, eta, tag = (ak.flatten(jets[name]).to_numpy() for name in ("pt", "eta", "btag"))
    beauty = (flavour == 5) & (np.abs(eta) < 2.5)
    assert 1.3 < beauty.sum() / len(rows) < 2.0
    rate = tag_rates(flavour, pt.astype(float), eta.astype(float))
    for own in (beauty, flavour != 5):
        spread = np.sqrt((rate * (1 - rate))[own].sum())
        assert abs(tag[own].sum() - rate[own].sum()) < 3.5 * spread + 1
    assert tag[beauty].mean() == pytest.approx(0.68, abs=0.08)
    assert tag[flavour == 0].mean() < 0.03


def test_the_transverse_mass_of_a_w_ends_at_its_mass() -> None:
    settings = (*COMMON, "WeakSingleBoson:ffbar2W = on", "24:onMode = off", "24:onIfAny = 13")
    batch = start_pythia(settings, 4).nextBatch(200)
    particles = reconstruct(final_state(batch), detector=EVENT_DETECTOR, rng=np.random.default_rng(1))
    _, objects = challenge_objects(particles, heavy_hadrons(batch), kept="stored", rng=np.random.default_rng(2))
    one = objects[ak.num(objects.Muon) == 1]
    muon = ak.flatten(one.Muon)
    mass = np.sqrt(2 * muon.pt * one.MET_pt * (1 - np.cos(muon.phi - one.MET_phi)))
    assert len(one) > 60
    assert 62 < np.median(mass) < 82
    assert np.mean(mass > 100) < 0.08


def test_z_and_invisible_higgs_become_two_leptons_at_the_mass_of_a_z(tmp_path: Path) -> None:
    report = simulate("event_zh_inv", 40, tmp_path / "zh.root", seed=2, **QUIET)
    events = read(tmp_path / "zh.root")
    assert (report.accepted, report.jet_radius, report.min_jet_pt) == (40, 0.4, 20.0)
    assert report.cross_section > 0.01
    assert {"Photon_pt", "Jet_btag", "Jet_mass", "truth_process"} <= set(events.fields)
    masses = []
    for name in ("Electron", "Muon"):
        two = events[events[f"n{name}"] == 2]
        (pt, eta, phi) = (two[f"{name}_{k}"] for k in ("pt", "eta", "phi"))
        product = 2 * pt[:, 0] * pt[:, 1] * (np.cosh(eta[:, 0] - eta[:, 1]) - np.cos(phi[:, 0] - phi[:, 1]))
        masses += np.sqrt(product).to_list()
        assert ak.all(ak.sum(two[f"{name}_charge"], axis=1) == 0)
    assert len(masses) > 15
    assert np.median(masses) == pytest.approx(91.2, abs=2.5)
    assert ak.mean(events.MET_pt) > 50
    made = Objects(layout="list", channel="2b")
    table = run_table(tmp_path / "zh.root", made, Running(executor="iterative", progress=False)).table
    assert 0 < len(table) < 40
    write_phenoml(tmp_path / "zh.root", tmp_path / "zh.csv", progress=False)
    assert len((tmp_path / "zh.csv").read_text().splitlines()) == 40


def test_events_do_not_depend_on_workers_or_on_how_many_are_asked_for(tmp_path: Path) -> None:
    simulate("event_stlp", 8, tmp_path / "one.root", seed=4, **QUIET)
    simulate("event_stlp", 8, tmp_path / "two.root", seed=4, workers=2, **QUIET)
    simulate("event_stlp", 3, tmp_path / "few.root", seed=4, **QUIET)
    one, two, few = (read(tmp_path / f"{name}.root") for name in ("one", "two", "few"))
    for name in one.fields:
        assert ak.array_equal(one[name], two[name])
        assert ak.array_equal(one[name][:3], few[name])
    leptons = ak.num(one.Electron_pt) + ak.num(one.Muon_pt)
    assert ak.mean(leptons) > 1
    assert set(one.truth_signal.tolist()) == {1}
    assert set(ak.flatten(one.Jet_btag).tolist()) <= {0, 1}


def test_collisions_without_the_transverse_energy_are_given_up() -> None:
    settings = (*COMMON, "HardQCD:all = on", "PhaseSpace:pTHatMin = 100", "HadronLevel:all = off")
    totals = {}
    for least in (0.0, 260.0):
        veto = SumVeto(least)
        pythia = start_pythia(settings, 2, veto=veto)
        totals[least] = [veto.total for _ in range(60) if pythia.next()]
        if not least:
            assert veto.vetoed == 0
            # two partons of 100 GeV or more, but for what the shower sends where nothing counts
            assert np.median(totals[least]) > 200
        else:
            assert veto.vetoed > 10
            assert min(totals[least]) >= least


def test_the_mixtures_are_those_of_their_shares() -> None:
    for components in (CHANNEL1_SM, CHANNEL2B_SM):
        shares = np.array([component.share for component in components])
        drawn = mixture(components, 100_000, seed=1)
        found = np.bincount(drawn, minlength=len(components)) / len(drawn)
        expected = shares / shares.sum()
        assert np.abs(found - expected).max() < 4 * np.sqrt(0.25 / len(drawn))
    assert {c.name for c in CHANNEL1_SM} >= {"znunu", "wlnu", "ttbar"}


def test_masses_are_parameters_within_what_their_process_allows() -> None:
    assert with_defaults("event_glgl", {"m_neut": 1.0})["m_neut"] == 1.0
    with pytest.raises(SimulationError, match=r"m_neut = 0\.5; allowed: 1 to 13000"):
        with_defaults("event_glgl", {"m_neut": 0.5})
    with pytest.raises(SimulationError, match=r"m_zprime = 90; allowed: 20 to 85"):
        with_defaults("event_zp_mutau", {"m_zprime": 90})
    with pytest.raises(SimulationError, match=r"m_stop = 400 GeV is too light for daughters of 300 \+ 80.4 \+ 80.4"):
        with_defaults("event_stop2b", {"m_stop": 400})
    with pytest.raises(SimulationError, match="too light for daughters"):
        with_defaults("event_chaneut", {"m_cha": 180})


def test_a_spectrum_names_masses_widths_and_decays_and_its_file_goes() -> None:
    text = spectrum({1000021: 1500.0, 1000022: 100.0}, {1000021: ((1.0, (1000022, 1, -1)),)})
    lines = text.splitlines()
    assert " 1000021 1.500000e+03" in lines
    assert " 1000022 1.000000e+02" in lines
    assert " 1000006 1.000000e+04" in lines
    at = lines.index("DECAY 1000021 1.500000e+00")
    assert lines[at + 1] == " 1.000000e+00 3 1000022 1 -1"
    with spectrum_settings(text) as settings:
        path = Path(settings[-1].partition(" = ")[2])
        assert path.read_text() == text
    assert not path.exists()
    with spectrum_settings("") as none:
        assert none == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("process", "channel", "n"), [("event_channel1_sm", "1", 12), ("event_channel2b_sm", "2b", 20)]
)
def test_every_event_of_a_mixture_passes_its_channel(tmp_path: Path, process: str, channel: str, n: int) -> None:
    simulate(process, n, tmp_path / "sm.root", seed=5, workers=2, **QUIET)
    events = read(tmp_path / "sm.root")
    assert events.truth_process.tolist() == mixture(PROCESSES[process].components, n, seed=5).tolist()
    assert set(events.truth_signal.tolist()) == {0}
    made = Objects(layout="list", channel=channel)
    assert len(run_table(tmp_path / "sm.root", made, Running(executor="iterative", progress=False)).table) == n
