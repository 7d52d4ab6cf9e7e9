"""Objects in one list with energies and categories, photons and b-jets, and the channels' selections."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import pytest
import uproot

from hunch.errors import InputError
from hunch.processors import Objects, Running, inspect_file, jets_and_features, representation_of, run_table
from hunch.processors.channels import CHANNELS, channel_steps
from hunch.processors.object_lists import CATEGORIES, category_of, object_list
from hunch.processors.objects import object_numbers, object_slots, wrong_category
from hunch.processors.stored_objects import StoredObjects, event_content, object_source
from hunch.samples import convert_phenoml
from hunch.table import EVENT_ID

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RUNNING = Running(executor="iterative", progress=False)
LINES = (
    "11;p;1;60000;1.5;j,200000,90000,1.4,3.1;e-,30000,25000,-0.5,1;b,70000,70000,0,-3;g,100000,40000,1.5,0.5;m+,26000,26000,0,2",
    "12;p;1;300000;4;b,100000,30000,1.8,1;m-,20000,16000,0.6,-1;e+,30000,17000,1.1,0",
    "13;p;1;50000;0;j,19000,19000,0,0;e-,14000,14000,0,0;g,19900,19900,0,0",
    "14;p;1;50000;0;j,900000,65000,2.79,0;m-,200000,30000,2.5,0;e+,90000,30000,1.5,0;g,90000,30000,1.5,0",
)


@pytest.fixture
def events(tmp_path: Path) -> Path:
    source = tmp_path / "in.csv"
    source.write_text("".join(f"{line}\n" for line in LINES))
    convert_phenoml(source, tmp_path / "a.root", progress=False)
    return tmp_path / "a.root"


def stored(pt: list[list[float]], **more: list[list[float]]) -> StoredObjects:
    """Objects of events at eta 0 and phi 0 unless they are given."""
    counts = [len(event) for event in pt]
    flat = {
        name: np.array([x for event in values for x in event], dtype=np.float64)
        for name, values in {"pt": pt, **more}.items()
    }
    zeros = np.zeros(sum(counts))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return StoredObjects(offsets, **{"eta": zeros, "phi": zeros, **flat})


def test_a_list_has_energies_and_categories_of_the_file(events: Path) -> None:
    table = run_table(events, Objects(layout="list"), RUNNING).table
    found = table["objects"]
    assert (found.shape, found.dtype) == ((3, 21, 5), np.float32)
    assert table["event"].tolist() == [11, 12, 14]
    first = np.zeros((21, 5))
    first[0] = 60, 0, 1.5, 60, 0
    first[1:6] = (
        (90, 1.4, 3.1, 200, 1),
        (70, 0, -3, 70, 2),
        (40, 1.5, 0.5, 100, 7),
        (26, 0, 2, 26, 6),
        (25, -0.5, 1, 30, 3),
    )
    np.testing.assert_allclose(found[0], first, rtol=1e-6, atol=1e-6)
    second = np.zeros((21, 5))
    second[0] = 300, 0, 4 - 2 * np.pi, 300, 0
    second[1:4] = (30, 1.8, 1, 100, 2), (17, 1.1, 0, 30, 4), (16, 0.6, -1, 20, 5)
    np.testing.assert_allclose(found[1], second, rtol=1e-6, atol=1e-6)
    assert found[2, 1:6, 4].tolist() == [1, 4, 5, 7, 0]  # of the same pT by class: electron, muon, photon
    told = {name: table[name].tolist() for name in Objects(layout="list").scalars}
    assert told == {
        "met": [60.0, 300.0, 50.0],
        "ht": [160.0, 30.0, 65.0],
        "pt_e_1": [25.0, 17.0, 30.0],
        "pt_mu_1": [26.0, 16.0, 30.0],
        "pt_jet_1": [90.0, 30.0, 65.0],
        "pt_photon_1": [40.0, 0.0, 30.0],
        "n_e": [1, 1, 1],
        "n_mu": [1, 1, 1],
        "n_jet": [2, 1, 1],
        "n_photon": [1, 0, 1],
        "n_b": [1, 1, 0],
        "n_objects": [5, 3, 4],
    }
    cutflow = table.metadata["cutflow"]
    assert (cutflow["no object"], cutflow["kept"]) == (1, 3)


def test_the_softest_beyond_the_list_are_left_out_and_counted(events: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        table = run_table(events, Objects(layout="list", max_objects=3), RUNNING).table
    assert table["objects"].shape == (3, 4, 5)
    assert table["objects"][0, 1:, 0].tolist() == [90.0, 70.0, 40.0]
    assert table["n_objects"].tolist() == [5, 3, 4]
    assert table.metadata["truncated_objects"] == 2
    assert "of 3 events 2 have more than 3 objects; the softest are left out" in caplog.text


def test_the_acceptance_goes_with_the_layout() -> None:
    assert Objects().acceptance["Muon"] == (3.0, 2.1)
    assert Objects(layout="list").acceptance == {
        "Electron": (15.0, 2.7),
        "Muon": (15.0, 2.7),
        "Jet": (20.0, 2.8),
        "Photon": (20.0, 2.37),
    }
    given = Objects(layout="list", muon_eta=2.4, photon_eta=2.0, min_photon_pt=25.0)
    assert (given.acceptance["Muon"], given.acceptance["Photon"]) == ((15.0, 2.4), (25.0, 2.0))
    assert repr(given) == "Objects(muon_eta=2.4, min_photon_pt=25.0, photon_eta=2.0, layout='list')"
    assert representation_of("objects", **given.settings()) == given
    assert representation_of("objects", **Objects().settings()) == Objects()


def test_photons_and_b_jets_in_classes(events: Path) -> None:
    usual = run_table(events, Objects(), RUNNING).table
    chosen = Objects(max_photons=2, btag="Jet_btag")
    table = run_table(events, chosen, RUNNING).table
    assert table["objects"].shape == (4, 21, 3)
    np.testing.assert_array_equal(table["objects"][:, :19], usual["objects"])
    np.testing.assert_allclose(table["objects"][0, 19:], [[40, 1.5, 0.5], [0, 0, 0]], rtol=1e-6)
    assert table["n_photon"].tolist() == [1, 0, 0, 1]
    assert table["n_b"].tolist() == [1, 1, 0, 0]
    assert table.metadata["truncated_photon"] == 0
    # no setting makes another event of one
    assert table[EVENT_ID].tolist() == usual[EVENT_ID].tolist()
    assert run_table(events, Objects(btag="Jet_btag", btag_above=1.0), RUNNING).table["n_b"].tolist() == [0] * 4
    # an event of nothing but photons is kept where they have slots
    only = Objects(max_photons=1, min_photon_pt=0, min_jet_pt=500, min_lepton_pt=500)
    assert run_table(events, only, RUNNING).table["event"].tolist() == [11, 13, 14]


def test_what_a_file_does_not_know_is_said(
    tmp_path: Path, events: Path, caplog: pytest.LogCaptureFixture, shared_data: Callable[[str], Path]
) -> None:
    with uproot.open(events) as file:
        whole = file["Events"].arrays()
    fields = [name for name in whole.fields if not name.startswith("n")]

    def without(name: str, *lost: str) -> Path:
        kept = {f: whole[f] for f in fields if not f.startswith(lost)}
        with uproot.recreate(tmp_path / name) as file:
            file.mktree("Events", {f: str(v.type.content) for f, v in kept.items()})
            file["Events"].extend(kept)
        return tmp_path / name

    bare = without("bare.root", "Photon", "Jet_btag", "Jet_mass")
    with caplog.at_level(logging.WARNING):
        table = run_table(bare, Objects(layout="list"), RUNNING).table
    assert "knows no photons and no b-jets (btag: BRANCH names what tells them); read without" in caplog.text
    assert table["n_photon"].tolist() == table["n_b"].tolist() == [0, 0, 0]
    assert table["objects"][0, 1, 3] == pytest.approx(90 * np.cosh(1.4))  # massless
    with pytest.raises(InputError, match="no branch 'Photon_pt'"):
        run_table(bare, Objects(max_photons=1), RUNNING)
    with pytest.raises(InputError, match=r"no branch 'Jet_btagDeepFlavB'.*did you mean 'Jet_btag'"):
        run_table(events, Objects(layout="list", btag="Jet_btagDeepFlavB"), RUNNING)
    with pytest.raises(InputError, match="no branch 'Muon_charge'"):
        run_table(without("n.root", "Muon_charge"), Objects(layout="list"), RUNNING)
    nano = run_table(shared_data("nano_tt_v15.root"), Objects(layout="list", btag="Jet_btagUParTAK4B"), RUNNING).table
    assert (nano["n_b"] > 0).any()
    assert (nano["n_photon"] > 0).any()
    pt, eta, energy = (nano["objects"][:, 1:, i].astype(np.float64) for i in (0, 1, 3))
    assert (energy >= pt * np.cosh(eta) * (1 - 1e-6)).all()
    assert (np.diff(pt, axis=1) <= 0).all()


def test_arrays_of_either_schema_give_the_list_of_the_file(events: Path) -> None:
    chosen = Objects(layout="list")
    table = run_table(events, chosen, RUNNING).table
    with uproot.open(events) as file:
        flat = file["Events"].arrays()
    nested = {name: flat[name] for name in ("run", "luminosityBlock", "event", "genWeight")}
    for name in ("Electron", "Muon", "Jet", "Photon", "MET"):
        nested[name] = ak.zip({f.partition("_")[2]: flat[f] for f in flat.fields if f.startswith(f"{name}_")})
    for array in (flat, ak.Array(nested)):
        np.testing.assert_array_equal(jets_and_features(array, chosen)["objects"], table["objects"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layout": "lists"}, "representation objects: no layout 'lists'; did you mean 'list'"),
        ({"channel": "2"}, "no channel '2'"),
        ({"channel": True}, "no channel 'True'"),
        ({"layout": "list", "max_jets": 5}, "max_jets: 5 is of layout: classes"),
        ({"layout": "list", "max_photons": 1}, "max_photons: 1 is of layout: classes"),
        ({"max_objects": 10}, "max_objects: 10 is of layout: list"),
        ({"layout": "list", "max_objects": 0}, "max_objects: 0 is not a whole number from 1"),
        ({"max_photons": -1}, "max_photons: -1"),
        ({"photon_eta": 0}, "photon_eta: 0; a number above 0"),
        ({"btag": "btagDeepFlavB"}, "btag: 'btagDeepFlavB'; a branch of jets is expected"),
        ({"btag_above": np.nan}, "btag_above: nan"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        representation_of("objects", **options)


def test_channels_may_be_numbers() -> None:
    assert Objects(channel=1) == Objects(channel="1")
    assert Objects(channel=3).settings()["channel"] == "3"


def test_tables_of_the_other_layout_and_of_wrong_categories_are_told() -> None:
    sets = np.zeros((5, 4, 5), dtype=np.float32)
    sets[:, 0, 0] = 20.0
    sets[:, 1, 0], sets[:, 1, 4] = 30.0, 3
    sets[1, 1, 4], sets[2, 2, 4], sets[3, 0, 4], sets[4, 1, 4] = 8, 1, 1, 2.5
    assert wrong_category(sets).tolist() == [False, True, True, True, True]
    usable, lost = Objects(layout="list").usable({"objects": sets})
    assert (usable.tolist(), lost["an object of no category"]) == ([True, False, False, False, False], 4)
    with pytest.raises(InputError, match=r"holds \(4, 5\) numbers a row, 5 an object are those of layout: list"):
        Objects().usable({"objects": sets})
    with pytest.raises(InputError, match="and it is list"):
        Objects(layout="list").usable({"objects": sets[..., :3]})


def test_lists_and_numbers_of_objects() -> None:
    some = {
        "Electron": stored([[40.0], [], [10.0]], charge=[[1.0], [], [-1.0]], mass=[[30.0], [], [-6.0]]),
        "Jet": stored([[50.0, 40.0], [], []], btag=[[0.9, np.nan], [], []]),
    }
    met, phi = np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.2, 0.3])
    found, numbers = object_list(some, met, phi, most=2, btag_above=0.5)
    assert found[0].tolist() == [[1, 0, 0.1, 1, 0], [50, 0, 0, 50, 2], [40, 0, 0, 50, 4]]
    assert found[2].tolist() == [[3, 0, 0.3, 3, 0], [10, 0, 0, 8, 3], [0, 0, 0, 0, 0]]
    assert {name: values.tolist() for name, values in numbers.items()} == {"n_b": [1, 0, 0], "n_objects": [3, 0, 1]}
    assert category_of("Photon", stored([[1.0]]), btag_above=0).tolist() == [7]
    assert CATEGORIES[category_of("Muon", stored([[1.0]], charge=[[-1.0]]), btag_above=0)[0]] == "m-"
    told = object_numbers(some, met, classes=("Electron", "Jet", "Photon"))
    assert told["pt_jet_1"].tolist() == [50.0, 0.0, 0.0]
    assert told["ht"].tolist() == [90.0, 0.0, 0.0]
    assert (told["n_e"].tolist(), told["n_photon"].tolist()) == ([1, 0, 1], [0, 0, 0])
    slots = object_slots(some, met, phi, slots={"Jet": 1, "Electron": 1})
    assert slots[:, :, 0].tolist() == [[1, 50, 40], [2, 0, 0], [3, 0, 10]]
    contents = event_content({**some, "Muon": stored([[], [], []])}, met, phi)
    assert contents.tolist()[0] == [1.0, 0.1, 1, 40, 0, 0, 2, 90]


def test_a_source_reads_what_is_asked_for_and_no_more(events: Path) -> None:
    usual = inspect_file(events, find=Objects().source_of).source.branches
    assert not any("Photon" in name or "btag" in name or "mass" in name for name in usual)
    names = set(inspect_file(events, find=Objects(layout="list").source_of).source.branches)
    assert {"Photon_pt", "nPhoton", "Jet_btag", "Jet_mass", "Muon_charge", "Photon_mass"} <= names
    only = object_source(names, "f", btag="Jet_btag")
    assert (only.collections, only.more) == (("Electron", "Muon", "Jet"), (("Jet", "btag", "Jet_btag"),))


def random_events(rng: np.random.Generator, n: int) -> tuple[dict[str, StoredObjects], np.ndarray]:
    found = {}
    for name, most in (("Electron", 3), ("Muon", 3), ("Jet", 9)):
        counts = rng.integers(0, most + 1, n)
        m = int(counts.sum())
        scale = 150 if name == "Jet" else 30
        eta = rng.uniform(-3.2, 3.2, m)
        found[name] = StoredObjects(
            np.concatenate([[0], np.cumsum(counts)]), rng.exponential(scale, m), eta, np.zeros(m)
        )
    return found, rng.exponential(150, n)


def passes(channel: str, jets: list, leptons: list, met: float) -> bool:
    """The table of the channels, event by event."""
    jets = [pt for pt, eta in jets if pt > 20 and abs(eta) < 2.8]
    leptons = [pt for pt, eta in leptons if pt > 15 and abs(eta) < 2.7]
    ht = sum(jets)
    return {
        "none": True,
        "1": met >= 200
        and met >= 0.2 * ht
        and sum(pt > 50 for pt in jets) >= 4
        and sum(pt > 200 for pt in jets) >= 1
        and ht >= 600,
        "2a": met >= 50 and len(leptons) >= 3,
        "2b": met >= 50 and len(leptons) >= 2 and ht >= 50,
        "3": met >= 100 and ht >= 600,
    }[channel]


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_channel_keeps_the_events_of_its_definition(channel: str, rng: np.random.Generator) -> None:
    n = 4000
    some, met = random_events(rng, n)
    steps = channel_steps(channel, some, met)
    found = np.ones(n, dtype=bool)
    for _, good in steps:
        found &= good
    lists = {
        k: [list(zip(own.pt[a:b], own.eta[a:b], strict=True)) for a, b in itertools.pairwise(own.offsets)]
        for k, own in some.items()
    }
    expected = [passes(channel, lists["Jet"][i], lists["Electron"][i] + lists["Muon"][i], met[i]) for i in range(n)]
    assert found.tolist() == expected
    assert 5 < found.sum() < n or channel == "none"
    for _, good in steps:  # none is of no use
        assert 0 < good.sum() < n


@pytest.mark.parametrize("layout", ["classes", "list"])
def test_the_steps_of_a_channel_stand_in_the_cutflow_and_add_up(events: Path, layout: str) -> None:
    cutflow = run_table(events, Objects(channel="2b", layout=layout), RUNNING).cutflow
    assert list(cutflow)[:6] == [
        "read",
        "unphysical objects",
        "channel 2b: MET below 50 GeV",
        "channel 2b: fewer than 2 leptons",
        "channel 2b: HT below 50 GeV",
        "no object",
    ]
    assert [cutflow[name] for name in list(cutflow)[:6]] == [4, 0, 0, 1, 1, 0]
    assert cutflow["read"] == sum(cutflow.values()) - cutflow["read"]
    assert cutflow["kept"] == 2
    none = run_table(events, Objects(channel="1", layout=layout), RUNNING)
    assert (none.rows, none.cutflow["channel 1: MET below 200 GeV"]) == (0, 3)
    assert none.cutflow["channel 1: fewer than 4 jets above 50 GeV"] == 1
