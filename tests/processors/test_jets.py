"""From event files to images and constituents of jets: an independent clustering, cutflow, order, settings."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastjet
import numpy as np
import pytest
import uproot

from hunch.errors import InputError
from hunch.processors import (
    Constituents,
    Features,
    Images,
    ImageSettings,
    NoCandidatesError,
    Representation,
    Running,
    TableProcessor,
    TableResult,
    UserTable,
    flat_constituents,
    jet_images,
    padded_constituents,
    relative_constituents,
    representation_of,
    run_table,
    single_jet_of,
)
from hunch.table import EVENT_ID, IDENTITY, Table, read_table, write_table

if TYPE_CHECKING:
    from collections.abc import Callable

Events = list[list[tuple[float, float, float]]]
PAIR = [(100.0, 0.0, 0.0), (90.0, 0.0, 3.0)]


def test_the_repr_of_a_representation_is_what_is_not_usual() -> None:
    assert repr(Images(jets=1, pixels=8)) == "Images(jets=1, pixels=8)"
    assert repr(Images(observable="mJ_1")) == "Images(observable='mJ_1')"


def run(paths: Any, representation: Representation, **options: Any) -> TableResult:
    return run_table(paths, representation, Running(executor="iterative", progress=False, **options))


def same(first: Table, second: Table) -> None:
    assert list(first.columns) == list(second.columns)
    for name, values in first.columns.items():
        assert values.dtype == second[name].dtype
        np.testing.assert_array_equal(values, second[name], err_msg=name)


def adds_up(result: TableResult) -> None:
    names = list(result.cutflow)
    assert (names[0], names[-1]) == ("read", "kept")
    assert result.cutflow["read"] == sum(count for name, count in result.cutflow.items() if name != "read")
    assert result.cutflow["kept"] == len(result.table)


def clustered(event: list[tuple[float, float, float]], n_jets: int) -> list[Any]:
    """Return the leading jets of fastjet's classic interface; constituents know their row in the event."""
    particles = []
    for row, (pt, eta, phi) in enumerate(event):
        particles.append(fastjet.PtYPhiM(pt, eta, phi, 0.0))  # massless: rapidity is pseudorapidity
        particles[-1].set_user_index(row)
    sequence = fastjet._swig.ClusterSequence(particles, fastjet.JetDefinition(fastjet.antikt_algorithm, 1.0))
    jets = fastjet.sorted_by_pt(sequence.inclusive_jets(50.0))[:n_jets]
    found = [
        {"pt": j.pt(), "mJ": j.m(), "eta": j.eta(), "phi": j.phi(), "rows": [c.user_index() for c in j.constituents()]}
        for j in jets
    ]
    return sorted(found, key=lambda jet: -jet["mJ"])


@pytest.mark.parametrize("n_jets", [1, 2])
def test_images_are_those_of_an_independent_clustering(
    n_jets: int, random_events: Callable[[int], Events], write_events: Callable[..., Path]
) -> None:
    events = random_events(25)
    representation = Images(jets=n_jets, pixels=20, half_eta=0.8)
    table = run(write_events("a.root", events), representation).table
    expected = [clustered(event, n_jets) for event in events]
    assert table["event"].tolist() == [i for i, jets in enumerate(expected) if len(jets) == n_jets]
    assert len(table) > 20
    kept = [(events[i], jets) for i, jets in enumerate(expected) if len(jets) == n_jets]
    for number in range(n_jets):
        jets = [(event, jet[number]) for event, jet in kept]
        for name in ("pt", "mJ", "eta"):
            np.testing.assert_allclose(
                table[f"{name}_{number + 1}"], [j[name] for _, j in jets], rtol=1e-6, atol=1e-3 if name == "mJ" else 0
            )
        assert table[f"n_{number + 1}"].tolist() == [len(j["rows"]) for _, j in jets]
        points = np.array([event[row] for event, j in jets for row in j["rows"]])
        inside = flat_constituents(points[:, 0], points[:, 1], points[:, 2], [len(j["rows"]) for _, j in jets])
        images = table[f"image_{number + 1}"]
        assert (images.shape, images.dtype) == ((len(table), 20, 20), np.float32)
        np.testing.assert_allclose(
            images, jet_images(inside, settings=ImageSettings(pixels=20, half_eta=0.8)).images, atol=1e-6
        )
        np.testing.assert_allclose(images.sum(axis=(1, 2)), 1.0, atol=1e-5)


def test_two_jets_are_ordered_by_mass_and_equal_those_of_the_dijet_table(
    random_events: Callable[[int], Events], write_events: Callable[..., Path]
) -> None:
    softer_is_heavier = [(300.0, 0.5, 0.0), (100.0, -0.4, 3.0), (80.0, 0.3, 3.1)]
    path = write_events("a.root", [*random_events(20), softer_is_heavier, softer_is_heavier])
    table, dijets = run(path, Images()).table, run(path, Features()).table
    named = ("mjj", "deta", "pt_1", "pt_2", "mJ_1", "mJ_2")
    assert tuple(table.columns) == (*IDENTITY, *named, "eta_1", "eta_2", "n_1", "n_2", "image_1", "image_2", EVENT_ID)
    for name in (*IDENTITY, *named, EVENT_ID):
        np.testing.assert_array_equal(table[name], dijets[name])
    assert (table["mJ_1"] > table["mJ_2"]).all()
    assert table["n_1"][-2:].tolist() == [2, 2]
    assert (table["pt_1"][-2:] < 200).all()
    assert ((table["image_1"][-2:] > 0).sum(axis=(1, 2)) == 2).all()
    assert ((table["image_2"][-2:] > 0).sum(axis=(1, 2)) == 1).all()
    np.testing.assert_allclose(np.abs(table["eta_1"] - table["eta_2"]), table["deta"])


def test_an_event_of_one_jet_is_kept_whole(rng: np.random.Generator, write_events: Callable[..., Path]) -> None:
    points = np.stack([rng.uniform(10, 50, (12, 20)), *rng.normal(0.3, 0.1, (2, 12, 20))], axis=2)
    events = [[tuple(point) for point in event] for event in points.tolist()]
    path = write_events("jets.root", events, truth_signal=np.arange(12) % 2 == 0, genWeight=np.full(12, -0.5))
    result = run(path, Images(jets=1))
    adds_up(result)
    assert result.cutflow["kept"] == 12
    assert tuple(result.table.columns) == (
        *IDENTITY,
        *("pt_1", "mJ_1", "eta_1", "n_1", "image_1"),
        *(EVENT_ID, "truth_signal", "genWeight"),
    )
    assert result.table["image_1"].shape == (12, 40, 40)
    assert result.table["n_1"].tolist() == [20] * 12
    assert result.table["event"].tolist() == list(range(12))
    assert result.table["truth_signal"].tolist() == [1, 0] * 6
    assert result.table["genWeight"].tolist() == [-0.5] * 12
    pair = run(path, Images())
    adds_up(pair)
    assert pair.cutflow["fewer than two jets"] == 12


@pytest.mark.parametrize("representation", ["images", "constituents"])
@pytest.mark.parametrize("n_jets", [1, 2])
def test_every_loss_is_counted_and_the_cutflow_adds_up(
    n_jets: int, representation: str, write_events: Callable[..., Path]
) -> None:
    events = [
        PAIR,
        [(100.0, 0.0, 0.0)],
        [*PAIR, (np.nan, 0.0, 1.5)],
        [],
        [(700.0, 0.0, 0.0), (90.0, 0.0, 3.0)],
        [*PAIR, (5.0, 0.0, -996.0)],
        [(50.0, -0.3, 0.0), (50.0, 0.3, 0.0), (95.0, 0.0, 3.0)],
        [(20.0, 0.0, 0.0)],
        [(100.0, 3.0, 0.0), (90.0, -0.5, 3.0)],
        PAIR,
    ]
    images = representation == "images"
    narrow = {"half_eta": 0.05, "half_phi": 0.05} if images else {}
    # The jet of event 6 has a mass; all others are single particles, which are hunted in by pT.
    made = representation_of(representation, jets=n_jets, observable="pt_1", max_pt=600.0, max_abs_eta=2.5, **narrow)
    result = run(write_events("a.root", events), made, chunk_size=4)
    adds_up(result)
    # Event 5: the angle is a placeholder's. Event 6: two halves of one jet leave nothing in its middle. Event 8: without its forward jet one is left.
    expected = {
        "read": 10,
        "unphysical candidates": 2,
        **({"no jet": 2} if n_jets == 1 else {"fewer than two jets": 4}),
        "failed max_pt": 1,
        **({"nothing inside the window": 1} if images else {}),
        "an input or the observable is no finite number": 0,
        "pt_1 is not positive": 0,
    }
    assert list(result.cutflow.items())[:-1] == list(expected.items())
    lost = {1: {2, 3, 4, 5, 7}, 2: {1, 2, 3, 4, 5, 7, 8}}[n_jets] | ({6} if images else set())
    assert result.table["event"].tolist() == sorted(set(range(10)) - lost)
    assert set(result.table["eta_1"].round(6)) == {0.0, -0.5} - ({-0.5} if n_jets == 2 else set())
    if not images:  # the empty image of one jet shifts none of the others
        return
    np.testing.assert_array_equal(result.table["image_1"][0], result.table["image_1"][-1])
    np.testing.assert_allclose(result.table["image_1"].sum(axis=(1, 2)), 1.0, atol=1e-6)


@pytest.mark.parametrize("second", [True, False])
def test_an_event_goes_when_either_jet_has_no_image(second: bool, write_events: Callable[..., Path]) -> None:
    phi = (3.0, 0.0) if second else (0.0, 3.0)
    hollow = [(60.0, -0.3, phi[0]), (60.0, 0.3, phi[0]), (130.0 if second else 100.0, 0.0, phi[1])]
    full = [(90.0, 0.0, 3.0), (60.0, 0.0, 0.0), (70.0, 0.04, 0.0)]
    representation = Images(half_phi=0.05)
    result = run(write_events("a.root", [PAIR, hollow, full]), representation)
    assert result.cutflow["nothing inside the window"] == 1
    assert result.table["event"].tolist() == [0, 2]
    without = run(write_events("b.root", [PAIR, full]), representation).table
    for name in ("image_1", "image_2"):
        np.testing.assert_array_equal(result.table[name], without[name])
    assert ((result.table["image_1"] > 0).sum(axis=(1, 2)) == [1, 2]).all()


def test_one_jet_of_what_is_made_of_two() -> None:
    two = Constituents(coordinates="four_vectors", max_constituents=5, radius=0.8, max_pt=900.0, min_mjj=100.0)
    one = single_jet_of(two)
    assert one == dataclasses.replace(two, jets=1, min_mjj=None, observable=None)
    assert (one.inputs, one.content, one.observable) == (("constituents_1",), ("constituents_1",), None)
    assert single_jet_of(Images(jets=1)) == Images(jets=1)
    for rows in (Features(), UserTable(features=("a",))):
        with pytest.raises(InputError, match="its inputs are not those of single jets"):
            single_jet_of(rows)


def test_constituents_by_hand(write_events: Callable[..., Path]) -> None:
    events = [
        [(10.0, 0.4, -3.1), (100.0, 0.5, 3.1), (1.0, 0.6, 3.0)],
        [(80.0, -1.0, 0.0)],
        [(0.0, 0.0, 0.0), (3.0, 0.1, 0.1), (60.0, 0.0, 0.0), (2.0, 0.2, 0.1), (1.0, 0.1, 0.3), (5.0, 0.0, 0.1)],
    ]
    representation = Constituents(jets=1, max_constituents=3, observable="pt_1")
    result = run(write_events("a.root", events), representation)
    found = result.table["constituents_1"]
    assert (found.shape, found.dtype) == ((3, 3, 3), np.float32)
    assert found[:, :, 0].tolist() == [[100, 10, 1], [80, 0, 0], [60, 5, 3]]
    x, y = (sum(pt * f(phi) for pt, _, phi in events[0]) for f in (np.cos, np.sin))
    z = sum(pt * np.sinh(eta) for pt, eta, _ in events[0])
    axis = np.arcsinh(z / np.hypot(x, y)), np.arctan2(y, x) % (2 * np.pi)
    np.testing.assert_allclose(found[0, :, 1], np.array([0.5, 0.4, 0.6]) - axis[0], atol=1e-6)
    np.testing.assert_allclose(found[0, :, 2], np.array([3.1, 2 * np.pi - 3.1, 3.0]) - axis[1], atol=1e-6)
    np.testing.assert_allclose(found[1], [[80, 0, 0], [0, 0, 0], [0, 0, 0]], atol=1e-6)
    assert result.table["n_1"].tolist() == [3, 1, 5]  # a candidate of pT 0 is none
    assert result.table.metadata["truncated_jets"] == 1
    adds_up(result)
    assert result.cutflow["kept"] == 3


def test_constituents_of_both_jets_make_the_same_images(
    random_events: Callable[[int], Events], write_events: Callable[..., Path]
) -> None:
    path = write_events("a.root", random_events(20))
    images = run(path, Images()).table
    result = run(path, Constituents())
    assert result.table.metadata["truncated_jets"] == 0
    assert len(result.table) > 0
    for number in (1, 2):
        constituents = result.table[f"constituents_{number}"]
        assert constituents.shape[1:] == (100, 3)
        assert (np.diff(constituents[:, :, 0], axis=1) <= 0).all()
        assert (constituents[:, :, 0] > 0).sum(axis=1).tolist() == result.table[f"n_{number}"].tolist()
        assert np.abs(constituents[:, :, 1:]).max() < 1.5
        again = jet_images(padded_constituents(constituents)).images
        moved = np.abs(again - images[f"image_{number}"]).sum(axis=(1, 2))
        assert np.median(moved) < 1e-5  # single precision takes few across an edge between pixels
        assert moved.max() < 0.3
    few = run(path, Constituents(max_constituents=15), chunk_size=7).table
    counts = np.concatenate([result.table["n_1"], result.table["n_2"]])
    assert few.metadata["truncated_jets"] == (counts > 15).sum() > 0
    np.testing.assert_array_equal(few["constituents_2"], result.table["constituents_2"][:, :15])


def test_no_constituents_give_no_rows() -> None:
    none = relative_constituents(flat_constituents([], [], [], []), eta=np.zeros(0), phi=np.zeros(0), slots=4)
    assert none.shape == (0, 4, 3)


def test_files_without_jets_give_an_empty_table_with_the_schema(write_events: Callable[..., Path]) -> None:
    full = run(write_events("full.root", [PAIR]), Images())
    for number, events in enumerate(([], [[], [(20.0, 0.0, 0.0)]])):
        result = run(write_events(f"none{number}.root", events), Images())
        adds_up(result)
        assert result.cutflow["kept"] == 0
        assert list(result.table.columns) == list(full.table.columns)
        assert result.table["image_2"].shape == (0, 40, 40)
        assert result.table["image_2"].dtype == np.float32


def test_an_event_file_without_candidates_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        file["Events"] = {name: np.ones(3) for name in (*IDENTITY[1:], "MET_pt")}
    with pytest.raises(NoCandidatesError, match=r"a\.root.*no candidates to cluster"):
        run(path, Images())


def test_the_result_does_not_depend_on_chunks_or_batches(
    random_events: Callable[[int], Events], write_events: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    events = random_events(50)
    paths = [write_events("b.root", events[:30]), write_events("a.root", events[30:])]
    whole = run(paths, Images())
    assert whole.table["dataset"].tolist() == ["b"] * 30 + ["a"] * 20
    again = run(paths, Images(), chunk_size=7)
    same(whole.table, again.table)
    assert again.cutflow == whole.cutflow
    monkeypatch.setattr("hunch.processors.chunks.BATCH", 11)
    same(whole.table, run(paths, Images()).table)


def test_settings_travel_with_the_table(write_events: Callable[..., Path], tmp_path: Path) -> None:
    representation = Images(jets=1, pixels=8, flip=False, max_pt=500.0, observable="pt_1")
    result = run(write_events("a.root", [PAIR, PAIR]), representation)
    write_table(tmp_path / "t.parquet", result.table)
    back = read_table(tmp_path / "t.parquet")
    same(result.table, back)
    assert len(back) == 2
    assert representation_of(back.metadata["representation"], **back.metadata["settings"]) == representation
    assert back.metadata["cutflow"] == result.cutflow
    assert back.metadata["identity"] == list(IDENTITY)
    assert [Path(name).name for name in back.metadata["files"]] == ["a.root"]


def test_files_that_know_charge_go_with_files_that_do_not(write_events: Callable[..., Path]) -> None:
    charged = write_events("charge.root", [[(60.0, 0.0, 0.0, 1.0)]], fields=("pt", "eta", "phi", "charge"))
    result = run([charged, write_events("bare.root", [PAIR])], Images(jets=1, observable="pt_1"))
    assert len(result.table) == 2
    assert "ntrk" not in result.table.metadata


def test_bad_files_are_skipped_and_reported(write_events: Callable[..., Path], tmp_path: Path) -> None:
    good = write_events("good.root", [PAIR])
    with pytest.raises(InputError, match=r"gone\.root: no such file"):
        run([good, tmp_path / "gone.root"], Images())
    result = run([good, tmp_path / "gone.root"], Images(), skip_bad_files=True)
    assert [Path(path).name for path, _ in result.skipped] == ["gone.root"]
    assert result.table.metadata["skipped"] == [list(pair) for pair in result.skipped]


def test_the_processor_can_be_sent_to_workers() -> None:
    representation = Images(pixels=7)
    assert pickle.loads(pickle.dumps(TableProcessor(representation))).representation == representation


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"radius": 0.0}, "radius: 0.0"),
        ({"min_pt": -1.0}, "min_pt: -1.0"),
        ({"max_pt": float("nan")}, "max_pt: nan"),
        ({"min_pt": 60.0, "max_pt": 60.0}, "min_pt: 60.0 is not below max_pt: 60.0"),
        ({"max_abs_eta": 0.0}, "max_abs_eta: 0.0"),
        ({"jets": 3}, "jets: 3; 1 or 2"),
        ({"jets": True}, "jets: True"),
        ({"jets": 1, "max_deta": 1.3}, "max_deta: 1.3 is a cut on two jets"),
        ({"jets": 1, "observable": "mjj"}, "no observable 'mjj'"),
        ({"observable": "image_1"}, "no observable 'image_1'"),
        ({"pixels": 0}, "pixels: 0"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Images(**options)


@pytest.mark.parametrize("slots", [0, 1.5, True])
def test_impossible_numbers_of_constituents_are_refused(slots: Any) -> None:
    with pytest.raises(InputError, match=f"max_constituents: {slots}"):
        Constituents(max_constituents=slots)
