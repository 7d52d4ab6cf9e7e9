"""Events as their objects: slots by class and pT, acceptance, what is lost and counted, and what files may be."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import pytest
import uproot

from hunch.errors import InputError
from hunch.processors import (
    NoCandidatesError,
    NoObjectsError,
    Objects,
    Running,
    inspect_file,
    jets_and_features,
    read_inputs,
    representation_of,
    run_table,
)
from hunch.table import EVENT_ID, IDENTITY, Observable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RUNNING = Running(executor="iterative", progress=False)
Objs = list[list[tuple[float, float, float]]]


def events_of(electrons: Objs, muons: Objs, jets: Objs, met: list[tuple[float, float]], **flat: Any) -> dict[str, Any]:
    """Branches of an event file of objects; of each event a list of (pt, eta, phi) of every class, and pt and phi of MET."""
    n = len(met)
    found: dict[str, Any] = {
        "run": np.ones(n, dtype=np.uint32),
        "luminosityBlock": np.ones(n, dtype=np.uint32),
        "event": np.arange(n, dtype=np.uint64),
        "MET_pt": np.array([pt for pt, _ in met]),
        "MET_phi": np.array([phi for _, phi in met]),
        **{name: np.asarray(values) for name, values in flat.items()},
    }
    for name, lists in (("Electron", electrons), ("Muon", muons), ("Jet", jets)):
        values = np.array([one for event in lists for one in event], dtype=np.float64).reshape(-1, 3)
        counts = [len(event) for event in lists]
        found[name] = ak.zip({k: ak.unflatten(values[:, i], counts) for i, k in enumerate(("pt", "eta", "phi"))})
    return found


def write(path: Path, branches: dict[str, Any], **new: Any) -> Path:
    chosen = {**branches, **new}
    kinds = {name: v.type if isinstance(v, ak.Array) else v.dtype for name, v in chosen.items()}
    with uproot.recreate(path) as file:
        file.mktree("Events", kinds)
        file["Events"].extend(chosen)
    return path


def three(tmp_path: Path) -> Path:
    """An event of all classes out of order, one of a single muon, one of no object in the acceptance."""
    return write(
        tmp_path / "a.root",
        events_of(
            [[(25.0, 0.5, 1.0), (40.0, -2.9, 7.0)], [], [(5.0, 3.1, 0.0), (2.9, 0.0, 0.0)]],
            [[(6.0, 2.0, -1.0)], [(30.0, 0.1, 0.2)], [(50.0, 2.2, 0.0)]],
            [[(20.0, 3.9, 3.0), (60.0, 0.0, -3.0), (14.0, 0.0, 0.0)], [], [(100.0, 4.1, 0.0)]],
            [(33.0, 2.0), (7.0, -4.0), (9.0, 0.0)],
            truth_signal=np.array([1, 0, 0], dtype=np.uint8),
            genWeight=np.array([1.0, 2.0, 1.0], dtype=np.float32),
        ),
    )


def test_slots_are_of_their_class_by_falling_pt_with_the_angles_wrapped(tmp_path: Path) -> None:
    table = run_table(three(tmp_path), Objects(), RUNNING).table
    found = table["objects"]
    assert found.shape == (2, 19, 3)
    assert found.dtype == np.float32
    first = np.zeros((19, 3))
    first[0] = (33.0, 0.0, 2.0)
    first[1:3] = (40.0, -2.9, 7.0 - 2 * np.pi), (25.0, 0.5, 1.0)
    first[5] = (6.0, 2.0, -1.0)
    first[9:11] = (60.0, 0.0, -3.0), (20.0, 3.9, 3.0)
    np.testing.assert_allclose(found[0], first, atol=1e-6)
    second = np.zeros((19, 3))
    second[0], second[5] = (7.0, 0.0, 2 * np.pi - 4.0), (30.0, 0.1, 0.2)
    np.testing.assert_allclose(found[1], second, atol=1e-6)
    told = {name: table[name].tolist() for name in Objects().scalars}
    assert told == {
        "met": [33.0, 7.0],
        "ht": [80.0, 0.0],
        "pt_e_1": [40.0, 0.0],
        "pt_mu_1": [6.0, 30.0],
        "pt_jet_1": [60.0, 0.0],
        "n_e": [2, 0],
        "n_mu": [1, 1],
        "n_jet": [2, 0],
    }
    assert (table["event"].tolist(), table["truth_signal"].tolist()) == ([0, 1], [1, 0])
    assert table["genWeight"].tolist() == [1.0, 2.0]
    assert table.metadata["cutflow"] == {
        "read": 3,
        "unphysical objects": 0,
        "no object": 1,
        "an input or the observable is no finite number": 0,
        "its weight is no finite number": 0,
        "kept": 2,
    }
    assert read_inputs(table, Objects()).shape == (2, 1, 19, 3)
    numbers = [name for name in table.columns if table[name].ndim == 1 and name not in (*IDENTITY, EVENT_ID)]
    assert tuple(numbers[:-2]) == Objects().scalars


def test_the_angle_pi_stays_within_pi(tmp_path: Path) -> None:
    lists = [[(30.0, 0.0, np.pi)], [(30.0, 0.0, -np.pi)], [(30.0, 0.0, 3 * np.pi)]]
    branches = events_of(lists, [[]] * 3, [[]] * 3, [(1.0, np.pi)] * 3)
    phi = run_table(write(tmp_path / "a.root", branches), Objects(), RUNNING).table["objects"][..., 2]
    assert np.abs(phi.astype(np.float64)).max() <= np.pi
    assert np.abs(phi[:, 1]) == pytest.approx(np.pi, abs=1e-6)


def test_acceptance_and_slots_are_options(tmp_path: Path) -> None:
    wide = Objects(min_lepton_pt=0, min_jet_pt=0, electron_eta=5, muon_eta=5, jet_eta=5, max_jets=2)
    table = run_table(three(tmp_path), wide, RUNNING).table
    assert table["objects"].shape == (3, 11, 3)
    assert table["n_jet"].tolist() == [3, 0, 1]
    assert table["n_e"].tolist() == [2, 0, 2]
    assert table["n_mu"].tolist() == [1, 1, 1]


def test_more_objects_than_slots_are_counted_and_stated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(1)
    jets = [[(float(pt), 0.0, 0.0) for pt in rng.uniform(20, 90, n)] for n in (12, 10, 3)]
    muons = [[(30.0 + i, 0.0, 0.0) for i in range(n)] for n in (1, 5, 1)]
    branches = events_of([[]] * 3, muons, jets, [(5.0, 0.0)] * 3)
    with caplog.at_level(logging.WARNING):
        table = run_table(write(tmp_path / "a.root", branches), Objects(), RUNNING).table
    assert {k: v for k, v in table.metadata.items() if k.startswith("truncated")} == {
        "truncated_e": 0,
        "truncated_mu": 1,
        "truncated_jet": 1,
    }
    assert "of 3 events 1 have more than 4 muons, 1 have more than 10 jets; the softest are left out" in caplog.text
    kept = table["objects"][0, 9:, 0]
    assert kept.tolist() == pytest.approx(sorted((pt for pt, _, _ in jets[0]), reverse=True)[:10])
    assert table["objects"][1, 5:9, 0].tolist() == [34.0, 33.0, 32.0, 31.0]
    assert table["ht"][0] == pytest.approx(sum(pt for pt, _, _ in jets[0]))


@pytest.mark.parametrize(
    "bad", [(np.nan, 0.0, 0.0), (-5.0, 0.0, 0.0), (30.0, np.inf, 0.0), (30.0, 0.0, -999.0), (1e10, 0.0, 0.0)]
)
def test_events_with_an_unphysical_object_are_counted(tmp_path: Path, bad: tuple[float, float, float]) -> None:
    good = (30.0, 0.0, 0.0)
    branches = events_of([[good], [good, bad], [(0.0, np.nan, 0.0), good]], [[]] * 3, [[]] * 3, [(5.0, 0.0)] * 3)
    result = run_table(write(tmp_path / "a.root", branches), Objects(), RUNNING)
    assert result.table["event"].tolist() == [0, 2]
    assert (result.cutflow["unphysical objects"], result.cutflow["no object"], result.cutflow["kept"]) == (1, 0, 2)
    lost = events_of([[good]] * 2, [[]] * 2, [[]] * 2, [(np.nan, 0.0), (5.0, 0.0)])
    assert run_table(write(tmp_path / "b.root", lost), Objects(), RUNNING).cutflow["unphysical objects"] == 1


def test_the_same_number_in_another_file_is_another_event(tmp_path: Path) -> None:
    one = events_of([[(30.0, 0.0, 0.0)]], [[]], [[]], [(5.0, 0.0)])
    other = events_of([[(31.0, 0.0, 0.0)]], [[]], [[]], [(5.0, 0.0)])
    paths = [write(tmp_path / f"{i}.root", branches) for i, branches in enumerate((one, other))]
    assert len(set(run_table(paths, Objects(), RUNNING).table[EVENT_ID].tolist())) == 2
    again = write(tmp_path / "again.root", one)
    with pytest.raises(InputError, match="1 of 2 events come again"):
        run_table([paths[0], again], Objects(), RUNNING)
    # what is stored tells events apart, no setting does
    strict = run_table(paths, Objects(min_lepton_pt=20, max_jets=1), RUNNING).table
    assert strict[EVENT_ID].tolist() == run_table(paths, Objects(), RUNNING).table[EVENT_ID].tolist()


def test_arrays_of_either_schema_give_the_table_of_the_file(tmp_path: Path) -> None:
    branches = events_of([[(30.0, 0.0, 0.1)]], [[]], [[(20.0, 1.0, 2.0)]], [(5.0, 0.3)])
    table = run_table(write(tmp_path / "a.root", branches), Objects(), RUNNING).table
    flat = {k: v for k, v in branches.items() if not isinstance(v, ak.Array)}
    jagged = {f"{c}_{k}": branches[c][k] for c in ("Electron", "Muon", "Jet") for k in ("pt", "eta", "phi")}
    met = ak.zip({"pt": flat["MET_pt"], "phi": flat["MET_phi"]})
    nested = {name: branches[name] for name in ("run", "luminosityBlock", "event", "Electron", "Muon", "Jet")}
    for events in (ak.Array({**flat, **jagged}), ak.Array({**nested, "MET": met})):
        np.testing.assert_array_equal(jets_and_features(events, Objects())["objects"], table["objects"])


def test_nanoaod_is_read_and_files_of_the_other_kind_say_so(
    tmp_path: Path, shared_data: Callable[[str], Path], write_events: Callable[..., Path]
) -> None:
    with pytest.raises(NoCandidatesError, match="Electron, Muon, Jet are stored, which representation: objects takes"):
        inspect_file(three(tmp_path))
    with pytest.raises(NoObjectsError, match="no branch 'Electron_pt', 'Muon_pt' or 'Jet_pt'"):
        run_table(write_events("c.root", [[(30.0, 0.0, 0.0)]]), Objects(), RUNNING)
    branches = events_of([[(30.0, 0.0, 0.1)]], [[]], [[]], [(5.0, 0.3)])
    without = {name: values for name, values in branches.items() if not name.startswith("MET")}
    with pytest.raises(InputError, match="no branch 'MET_pt'"):
        run_table(write(tmp_path / "m.root", without), Objects(), RUNNING)
    puppi = {f"PuppiMET_{k}": branches[f"MET_{k}"] for k in ("pt", "phi")}
    assert run_table(write(tmp_path / "p.root", {**without, **puppi}), Objects(), RUNNING).table["met"].tolist() == [
        5.0
    ]
    table = run_table(shared_data("nano_tt_v15.root"), Objects(), RUNNING).table
    assert len(table) > 0
    assert (np.diff(table["objects"][:, 9:, 0], axis=1) <= 0).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_jets": -1}, "max_jets: -1 is not a whole number from 0 to 1000"),
        ({"max_electrons": True}, "max_electrons: True"),
        ({"max_electrons": 0, "max_muons": 0, "max_jets": 0}, "an event needs a slot for an object"),
        ({"jet_eta": 0}, "jet_eta: 0; a number above 0"),
        ({"min_jet_pt": -1}, "min_jet_pt: -1; a number 0 to"),
        ({"muon_eta": "wide"}, "muon_eta: 'wide'"),
        ({"observable": "mjj"}, "objects: no observable 'mjj'"),
        ({"jets": 2}, "representation objects: no option 'jets'"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        representation_of("objects", **options)


def test_nothing_is_hunted_in_unless_a_column_is_named() -> None:
    assert Objects().observable is None
    assert Objects().content == ("objects",)
    assert Objects(observable="met").observable == Observable.of("met")
    assert Objects(observable="n_jet").observable == Observable.of("n_jet", "")
    assert repr(Objects(max_jets=4)) == "Objects(max_jets=4)"


def test_rows_of_a_table_that_hold_no_event_are_counted() -> None:
    sets = np.zeros((4, 19, 3), dtype=np.float32)
    sets[:, 0, 0] = 20.0
    sets[[0, 2, 3], 5, 0] = 30.0
    sets[2, 6, 0], sets[3, 6, 1] = -1.0, np.nan
    usable, lost = Objects().usable({"objects": sets})
    assert usable.tolist() == [True, False, False, False]
    assert lost == {"an input or the observable is no finite number": 1, "no object": 1, "an object of negative pT": 1}


@pytest.mark.parametrize(
    ("name", "held", "wanted"),
    [
        ("MET_pt", "a list of float64", "a number"),
        ("event", "a list of int64", "a number"),
        ("Jet_pt", "float64", "a list"),
    ],
)
def test_a_branch_of_another_shape_is_named(tmp_path: Path, name: str, held: str, wanted: str) -> None:
    branches = events_of(*[[[(30.0, 0.1, 0.2)]] * 3] * 3, [(9.0, 0.0)] * 3)
    if name == "Jet_pt":
        jets = branches.pop("Jet")
        branches |= {f"Jet_{k}": ak.flatten(jets[k]) if k == "pt" else jets[k] for k in ("pt", "eta", "phi")}
    else:
        branches[name] = ak.unflatten(np.arange(3) + (0 if name == "event" else 0.5), [1, 1, 1])
    path = write(tmp_path / "a.root", branches)
    with pytest.raises(InputError, match=r"a\.root") as caught:
        run_table(path, Objects(), RUNNING)
    assert f"branch {name!r} holds {held} an event, {wanted}" in str(caught.value)
