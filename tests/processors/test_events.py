"""What is said about files that cannot be processed, and what is read of those that can."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import uproot
from coffea.nanoevents import BaseSchema, NanoEventsFactory

from hunch.errors import InputError
from hunch.processors import NoCandidatesError, inspect_file, read_fileset
from hunch.processors.events import Candidates, charge_of, read_candidates
from hunch.processors.filesets import check_fileset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

JET = [(100.0, 0.1, 0.2)]


def read(path: Path) -> Candidates:
    source = inspect_file(path).source
    with uproot.open(path) as file:
        events = NanoEventsFactory.from_root(
            file=file, treepath="Events", schemaclass=BaseSchema, mode="virtual"
        ).events()
        return read_candidates(events, source)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("treemaker.root", ["no tree 'Events'", "PreSelection"]),
        ("uproot-HZZ.root", ["no tree 'Events'", "did you mean 'events'"]),
        ("missing_luminosityBlock.root", ["tree 'Events'", "no branch 'luminosityBlock'"]),
        ("lhco_events_tiny.h5", ["not a ROOT file"]),
    ],
)
def test_a_file_that_is_not_an_event_file_is_named(
    name: str, says: list[str], shared_data: Callable[[str], Path]
) -> None:
    path = shared_data(name)
    with pytest.raises(InputError) as error:
        inspect_file(path)
    for words in (str(path), *says):
        assert words in str(error.value)


@pytest.mark.parametrize("name", ["nano_dimuon.root", "nano_dy.root"])
def test_nanoaod_without_candidates_is_said_to_have_none(name: str, shared_data: Callable[[str], Path]) -> None:
    with pytest.raises(NoCandidatesError, match="no candidates to cluster"):
        inspect_file(shared_data(name))


def test_missing_files_directories_and_damaged_files_are_named(
    tmp_path: Path, write_events: Callable[..., Path]
) -> None:
    whole = write_events("whole.root", [JET] * 2000).read_bytes()
    cases = {"missing.root": "no such file"}
    for name, size in (
        ("header.root", 60),
        ("half.root", len(whole) // 2),
        ("tail.root", len(whole) - 1),
        ("no.root", 0),
    ):
        (tmp_path / name).write_bytes(whole[:size])
        cases[name] = "truncated" if size else "not a ROOT file"
    for name, words in cases.items():
        with pytest.raises(InputError, match=f"{name}.*{words}"):
            inspect_file(tmp_path / name)
    with pytest.raises(InputError, match="is a directory"):
        inspect_file(tmp_path)


def test_a_missing_branch_is_named_with_its_nearest(write_events: Callable[..., Path]) -> None:
    path = write_events("part.root", [[(100.0, 0.1)]], fields=("pt", "eta"))
    with pytest.raises(
        InputError, match=r"part\.root: tree 'Events': no branch 'PFCands_phi'; did you mean 'PFCands_pt'"
    ):
        inspect_file(path)


def test_what_a_file_stores_is_found(write_events: Callable[..., Path], shared_data: Callable[[str], Path]) -> None:
    bare = inspect_file(write_events("bare.root", [JET], truth_signal=np.uint8([1])))
    assert (bare.entries, bare.source.counting, bare.source.truth, bare.source.gen_weight) == (1, "all", True, False)
    pfnano, v15 = (inspect_file(shared_data(name)).source for name in ("pfnano.root", "nano_tt_v15.root"))
    assert (pfnano.collection, pfnano.has_weight, pfnano.charge) == ("PFCands", True, "charge")
    assert (v15.collection, v15.has_weight, v15.charge) == ("PFCand", False, "pdgId")


def test_puppi_weight_scales_the_four_momentum_and_zero_is_dropped(write_events: Callable[..., Path]) -> None:
    fields = ("pt", "eta", "phi", "mass", "charge", "puppiWeight")
    path = write_events(
        "puppi.root",
        [[(10.0, 0.1, 0.2, 0.5, 1.0, 0.5), (20.0, 0.3, 0.4, 0.1, -1.0, 0.0)], [(30.0, 0.0, 0.0, 1.0, 0.0, 1.0)]],
        fields=fields,
    )
    candidates = read(path)
    assert candidates.offsets.tolist() == [0, 1, 2]
    assert candidates.pt.tolist() == [5.0, 30.0]
    assert candidates.mass.tolist() == [0.25, 1.0]
    assert candidates.charge is not None
    assert candidates.charge.tolist() == [1, 0]


@pytest.mark.parametrize(
    "bad",
    [
        *[(np.nan, 0.0, 0.0), (np.inf, 0.0, 0.0), (10.0, np.nan, 0.0), (-1.0, 0.0, 0.0)],
        *[(1e10, 0.0, 0.0), (10.0, -999.0, 0.0), (10.0, 0.0, -999.0)],  # values of placeholders
    ],
)
def test_an_event_with_an_unphysical_candidate_is_marked_and_emptied(
    bad: tuple[float, float, float], write_events: Callable[..., Path]
) -> None:
    candidates = read(write_events("bad.root", [JET, [*JET, bad], [*JET, (0.0, 0.0, 0.0)]]))
    assert candidates.unphysical.tolist() == [False, True, False]
    assert candidates.offsets.tolist() == [0, 1, 1, 2]


def test_charge_follows_the_pdg_numbers() -> None:
    charged = [211, -211, 11, -11, 13, 321, 411, 521, 2212, -2212, 3112, 3222, 3312, 24, 1000010020]
    expected = [1, -1, -1, 1, -1, 1, 1, 1, 1, -1, -1, 1, -1, 1, 1]
    neutral = [22, 130, 310, 111, 2112, 3122, -2112, 421, 511, 1, 2, 12, 14, 0]
    assert charge_of(charged).tolist() == expected
    assert charge_of(neutral).tolist() == [0] * len(neutral)


def test_filesets_are_read_from_paths_json_and_yaml(tmp_path: Path) -> None:
    assert read_fileset(["x/a.root", "b.root"]) == {
        "a": {"files": {"x/a.root": "Events"}, "metadata": {}},
        "b": {"files": {"b.root": "Events"}, "metadata": {}},
    }
    assert list(read_fileset(["a.root", "b.root"], dataset="data")["data"]["files"]) == ["a.root", "b.root"]
    (tmp_path / "f.yaml").write_text("qcd: [a.root]\nxy:\n  files: {b.root: tree}\n  metadata: {mass: 1}\n")
    (tmp_path / "f.json").write_text('{"qcd": {"files": ["a.root"], "treename": "T"}}')
    fileset = read_fileset(tmp_path / "f.yaml")
    assert fileset["qcd"]["files"] == {str(tmp_path / "a.root"): "Events"}
    assert fileset["xy"] == {"files": {str(tmp_path / "b.root"): "tree"}, "metadata": {"mass": 1}}
    assert read_fileset(tmp_path / "f.json")["qcd"]["files"] == {str(tmp_path / "a.root"): "T"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("qcd: {file: [a.root]}", "dataset 'qcd': no key 'file'; did you mean 'files'"),
        ("qcd: {metadata: {}}", "no key 'files'"),
        ("qcd: 3", "must be a list"),
        ("qcd: [a.root, a.root]", "given twice"),
        ("[a.root]", "maps dataset names"),
        ("qcd: [a.root", "is no YAML: line 1"),
        ("qcd: [1]", "not a path and a tree"),
    ],
)
def test_a_wrong_fileset_is_explained(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(text)
    with pytest.raises(InputError, match=says):
        read_fileset(tmp_path / "f.yaml")


def test_the_same_file_or_name_twice_is_refused() -> None:
    with pytest.raises(InputError, match="given twice"):
        read_fileset(["a.root", "a.root"])
    with pytest.raises(InputError, match="same name"):
        read_fileset(["x/a.root", "y/a.root"])


@pytest.mark.parametrize("name", ["no", "Yes", "on", "2018", "1.5", "null", "2018-01-01", "1e3"])
def test_a_dataset_is_called_as_its_name_is_written(name: str, tmp_path: Path) -> None:
    path = tmp_path / "fileset.yaml"
    for written in (name, f"'{name}'"):
        path.write_text(f"{written}: {{files: {{{written}: Events}}}}")
        found = read_fileset(path)
        assert list(found) == [name]
        assert list(found[name]["files"]) == [str(tmp_path / name)]


@pytest.mark.parametrize("name", ["no", "2018", "null"])
def test_a_file_or_tree_that_is_no_name_says_how_to_write_one(name: str, tmp_path: Path) -> None:
    path = tmp_path / "fileset.yaml"
    for text in (f"a: [{name}]", f"a: {{files: {{a.root: {name}}}}}", f"a: {{files: [a.root], treename: {name}}}"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"fileset\.yaml: dataset 'a': .*stands in quotes"):
            read_fileset(path)
    with pytest.raises(InputError, match="dataset False is no name"):
        check_fileset({False: ["a.root"]})
