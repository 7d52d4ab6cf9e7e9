from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import awkward as ak
import fastjet
import numpy as np
import pytest
import uproot

from hunch.samples import SimulationError, simulate
from hunch.samples.processes import with_defaults

TWO_BLOCKS = 950
"""Accepted W' events that need a second block of 1000 tries: 91 % pass."""
UNDERLYING = 2200.0
"""GeV^2 that the underlying event adds to m^2 of an ungroomed R = 1 jet: about 0.8 GeV an area of 1 at pT = 1.7 TeV."""


def read(path: Path) -> dict[str, ak.Array]:
    with uproot.open(path) as file:
        tree = file["Events"]
        return {name: tree[name].array() for name in tree.keys()}  # noqa: SIM118 - a tree, not a dict


def dijets(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """m_jj (n,) and the two jet masses (n, 2), lighter first, of anti-kT R = 1.0 jets, clustered here on its own."""
    events = read(path)
    pt, eta, phi, mass = (ak.values_astype(events[f"PFCands_{c}"], np.float64) for c in ("pt", "eta", "phi", "mass"))
    momenta = ak.zip(
        {
            "px": pt * np.cos(phi),
            "py": pt * np.sin(phi),
            "pz": pt * np.sinh(eta),
            "E": np.hypot(pt * np.cosh(eta), mass),
        },
        with_name="Momentum4D",
    )
    jets = fastjet.ClusterSequence(momenta, fastjet.JetDefinition(fastjet.antikt_algorithm, 1.0)).inclusive_jets(
        min_pt=50.0
    )
    jets = jets[ak.argsort(-np.hypot(jets.px, jets.py), axis=1)]
    jets = jets[ak.num(jets) >= 2][:, :2]
    square = jets.E**2 - jets.px**2 - jets.py**2 - jets.pz**2
    total = {c: ak.sum(jets[c], axis=1) for c in ("E", "px", "py", "pz")}
    mjj = np.sqrt(total["E"] ** 2 - total["px"] ** 2 - total["py"] ** 2 - total["pz"] ** 2)
    return ak.to_numpy(mjj), ak.to_numpy(ak.sort(np.sqrt(np.maximum(square, 0)), axis=1))


def half_sample_mode(values: np.ndarray, share: float) -> float:
    """The middle of the shortest interval that holds this share of the values."""
    ordered = np.sort(values)
    size = int(len(ordered) * share)
    first = int(np.argmin(ordered[size:] - ordered[:-size]))
    return float(ordered[first : first + size].mean())


def test_events_do_not_depend_on_workers_or_on_how_many_are_asked_for(tmp_path):
    simulate("wprime_wz", TWO_BLOCKS, tmp_path / "one.root", seed=4, progress=False)
    simulate("wprime_wz", TWO_BLOCKS, tmp_path / "two.root", seed=4, workers=2, progress=False)
    simulate("wprime_wz", 40, tmp_path / "few.root", seed=4, progress=False)
    simulate("wprime_wz", 40, tmp_path / "other.root", seed=5, progress=False)
    one, two, few, other = (read(tmp_path / f"{name}.root") for name in ("one", "two", "few", "other"))
    assert set(one) == set(two)
    for name in one:
        assert ak.array_equal(one[name], two[name])
        assert ak.array_equal(one[name][:40], few[name])
    assert ak.to_list(few["PFCands_pt"]) != ak.to_list(other["PFCands_pt"])


@pytest.fixture(scope="module")
def qcd(tmp_path_factory):
    path = tmp_path_factory.mktemp("qcd") / "qcd.root"
    return path, simulate("qcd", 100, path, seed=1, min_jet_pt=500.0, progress=False)


def test_event_file_holds_the_contract(qcd):
    path, report = qcd
    events = read(path)
    assert events["event"].tolist() == list(range(100))
    assert set(events["run"].tolist()) == set(events["luminosityBlock"].tolist()) == {1}
    assert set(events["truth_signal"].tolist()) == {0}
    assert {name: str(events[name].type.content) for name in ("run", "event", "truth_signal", "genWeight")} == {
        "run": "uint32",
        "event": "uint64",
        "truth_signal": "uint8",
        "genWeight": "float32",
    }
    assert ak.to_list(events["nPFCands"]) == ak.to_list(ak.num(events["PFCands_pt"]))
    assert ak.max(np.abs(events["PFCands_eta"])) <= 2.5
    assert set(np.unique(ak.flatten(np.abs(events["PFCands_pdgId"])))) <= {11, 13, 22, 130, 211}
    neutral = (events["PFCands_pdgId"] == 22) | (events["PFCands_pdgId"] == 130)
    assert ak.all((events["PFCands_charge"] == 0) == neutral)
    assert report.accepted == 100
    assert 100 < report.tries < 1000
    # 13 TeV dijet production above pT-hat = 450 GeV, leading order: a few hundred pb
    assert 100 < report.cross_section < 3000
    assert 0 < report.cross_section_error < 0.1 * report.cross_section


def test_every_event_has_the_jet_it_was_selected_for(qcd):
    path, _ = qcd
    events = read(path)
    mjj, _ = dijets(path)
    assert len(mjj) == 100
    scalar = ak.sum(events["PFCands_pt"], axis=1)
    assert ak.min(scalar) > 500
    assert mjj.min() > 400


def test_coffea_opens_the_file_as_nanoaod(qcd):
    from coffea.nanoevents import NanoEventsFactory, PFNanoAODSchema

    path, _ = qcd
    with warnings.catch_warnings():
        # coffea warns of the cross references of CMS files that ours does not have
        warnings.filterwarnings("ignore", message=".*cross-reference.*", category=RuntimeWarning)
        events = NanoEventsFactory.from_root({str(path): "Events"}, schemaclass=PFNanoAODSchema, mode="eager").events()
        pt = ak.to_list(events.PFCands.pt)
    assert pt == ak.to_list(read(path)["PFCands_pt"])


@pytest.mark.parametrize(
    ("process", "ratio", "masses", "tolerance"),
    [
        ("zprime_xy", 0.99, (100, 500), 0.12),
        ("zprime_qqq", 0.99, (100, 500), 0.12),
        # two jets of one mass, ordered by mass: the heavier comes out above it, the lighter below
        ("zprime_tt", 0.97, (173, 173), 0.25),
        ("wprime_wz", 0.99, (80.4, 91.2), 0.15),
    ],
)
def test_signal_masses_come_out_where_they_were_put(tmp_path, process, ratio, masses, tolerance):
    simulate(process, 150, tmp_path / "signal.root", seed=2, progress=False)
    assert set(read(tmp_path / "signal.root")["truth_signal"].tolist()) == {1}
    mjj, jets = dijets(tmp_path / "signal.root")
    assert half_sample_mode(mjj, 0.5) / 3500 == pytest.approx(ratio, abs=0.025)
    for column, mass in enumerate(masses):
        expected = np.sqrt(mass**2 + UNDERLYING)
        assert half_sample_mode(jets[:, column], 0.4) == pytest.approx(expected, rel=tolerance)


def test_masses_are_parameters(tmp_path):
    parameters = {"m_zprime": 5000, "m_x": 800, "m_y": 300}
    report = simulate("zprime_xy", 60, tmp_path / "heavy.root", parameters=parameters, progress=False)
    mjj, jets = dijets(tmp_path / "heavy.root")
    assert report.parameters == parameters
    assert half_sample_mode(mjj, 0.5) / 5000 == pytest.approx(0.99, abs=0.03)
    assert half_sample_mode(jets[:, 1], 0.4) == pytest.approx(800, rel=0.1)
    assert half_sample_mode(jets[:, 0], 0.4) == pytest.approx(300, rel=0.15)


@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted_run_stops_promptly_and_leaves_nothing(tmp_path, workers, heeds_interrupts):
    code = (
        "from hunch.samples import simulate\n"
        f"simulate('qcd', 100000, r'{tmp_path / 'big.root'}', workers={workers}, progress=False)\n"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    with subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
        preexec_fn=heeds_interrupts,
    ) as run:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".big*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert list(tmp_path.glob(".big*")), "the file was never begun"
        time.sleep(2)
        run.send_signal(signal.SIGINT)
        run.wait(timeout=30)
    assert run.returncode != 0
    assert [path.name for path in tmp_path.iterdir()] == ["run.py"]


@pytest.mark.parametrize(
    ("process", "parameters", "message"),
    [
        ("zprime_yx", {}, "did you mean 'zprime_xy'"),
        ("zprime_xy", {"m_zprim": 3000}, "did you mean 'm_zprime'"),
        ("zprime_xy", {"m_x": 3000, "m_y": 900}, r"too light for daughters of 3000 \+ 900 GeV"),
        ("zprime_tt", {"m_zprime": 300}, "too light"),
        ("zprime_xy", {"m_y": -5}, "m_y = -5; allowed: 20 to 13000"),
    ],
)
def test_wrong_processes_and_parameters_are_named(process, parameters, message):
    with pytest.raises(SimulationError, match=message):
        with_defaults(process, parameters)


@pytest.mark.slow
def test_hopeless_settings_end_with_a_reason(tmp_path):
    with pytest.raises(SimulationError, match=r"none of .* events has a jet of pT > 1200 GeV with m_wprime = 400"):
        simulate("wprime_wz", 5, tmp_path / "no.root", parameters={"m_wprime": 400}, workers=2, progress=False)
    assert not list(tmp_path.iterdir())
