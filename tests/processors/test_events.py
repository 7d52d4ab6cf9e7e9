"""What is said about files that cannot be processed, and what is read of those that can."""

from __future__ import annotations

from typing import TYPE_CHECKING

import awkward as ak
import numpy as np
import pytest
import uproot
from coffea.nanoevents import BaseSchema, NanoEventsFactory

from hunch.errors import InputError
from hunch.processors import IncompleteCandidatesError, NoCandidatesError, inspect_file, jets_and_features
from hunch.processors.events import Candidates, Source, charge_of, read_candidates, source_of
from hunch.processors.representations import REPRESENTATIONS, representation_of

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
        InputError,
        match=r"part\.root: tree 'Events': no branch 'PFCands_phi', which every event file needs; did you mean 'PFCands_pt'",
    ):
        inspect_file(path)


def test_what_a_file_stores_is_found(write_events: Callable[..., Path], shared_data: Callable[[str], Path]) -> None:
    bare = inspect_file(write_events("bare.root", [JET], truth_signal=np.uint8([1])))
    assert (bare.entries, bare.source.counting, bare.source.truth, bare.source.gen_weight) == (1, "all", True, False)
    pfnano = inspect_file(shared_data("pfnano.root")).source
    assert (pfnano.collection, pfnano.has_weight, pfnano.charge) == ("PFCands", True, "charge")
    assert pfnano.counted
    assert not bare.source.generated


def test_candidates_of_stored_jets_alone_are_clustered_by_nothing(shared_data: Callable[[str], Path]) -> None:
    path = shared_data("nano_tt_v15.root")
    with pytest.raises(
        IncompleteCandidatesError, match=r"nano_tt_v15\.root: .*PFCand_\* of NanoAOD v15.*stored jets are to be read"
    ):
        inspect_file(path)
    candidates = ak.zip({name: [[1.0, 2.0]] for name in ("pt", "eta", "phi")})
    identity = {name: np.ones(1, dtype=np.int64) for name in ("run", "luminosityBlock", "event")}
    for events in (
        ak.Array({**identity, "PFCand": candidates}),
        ak.Array({**identity, **{f"PFCand_{name}": candidates[name] for name in candidates.fields}}),
    ):
        for name, cls in REPRESENTATIONS.items():
            if cls.of_events and name != "objects":
                with pytest.raises(IncompleteCandidatesError, match="constituents of its stored AK8 jets"):
                    jets_and_features(events, representation_of(name))
    both = source_of({*identity, *(f"{c}_{k}" for c in ("PFCand", "PFCands") for k in ("pt", "eta", "phi"))}, "a")
    assert both.collection == "PFCands"


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
    "nothing",
    [
        *[(0.0, 1e10, 0.2, 0.1, 1.0), (0.0, np.nan, np.inf, np.nan, np.nan), (0.0, 0.1, -999.0, 1e30, -1.0)],
        *[(10.0, 1e10, 0.2, 0.1, 0.0), (np.nan, 0.1, 0.2, 0.1, 0.0), (-1.0, np.inf, 0.2, np.inf, 0.0)],
    ],
)
def test_a_candidate_of_no_pt_or_weight_costs_nothing(
    nothing: tuple[float, ...], write_events: Callable[..., Path]
) -> None:
    fields = ("pt", "eta", "phi", "mass", "puppiWeight")
    jet = (100.0, 0.1, 0.2, 0.5, 0.5)
    candidates = read(write_events("nothing.root", [[jet, nothing], [nothing], [nothing, jet]], fields=fields))
    assert not candidates.unphysical.any()
    assert candidates.offsets.tolist() == [0, 1, 1, 2]
    assert candidates.pt.tolist() == [50.0, 50.0]


def test_found_candidates_of_pt_zero_cost_no_event(shared_data: Callable[[str], Path]) -> None:
    candidates = read(shared_data("found/pt0_candidate/pt0eta.root"))
    assert len(candidates.unphysical) == 40
    assert not candidates.unphysical.any()


@pytest.mark.parametrize("bad", [(10.0, 0.1, 0.2, 1.0, np.nan), (10.0, 0.1, 0.2, np.nan, 1.0), (10.0, 0, 0, 1, 1e30)])
def test_a_weight_or_mass_that_is_none_makes_its_event_unphysical(
    bad: tuple[float, ...], write_events: Callable[..., Path]
) -> None:
    fields = ("pt", "eta", "phi", "mass", "puppiWeight")
    candidates = read(write_events("bad.root", [[bad], [(10.0, 0.1, 0.2, 1.0, 1.0)]], fields=fields))
    assert candidates.unphysical.tolist() == [True, False]


def test_branches_that_count_candidates_differently_are_refused() -> None:
    source = Source(
        collection="PFCands", has_mass=False, has_weight=False, charge=None, truth=False, gen_weight=False, counted=True
    )
    lists = {"PFCands_pt": [[1.0], [1.0, 2.0]], "PFCands_eta": [[1.0], [1.0, 2.0]], "PFCands_phi": [[1.0], [1.0, 2.0]]}
    whole = {**lists, "nPFCands": np.int32([1, 2])}
    assert read_candidates(ak.Array(whole), source).offsets.tolist() == [0, 1, 3]
    for wrong, says in (
        (
            {"nPFCands": np.int32([2, 1])},
            "'PFCands_pt' holds 1 candidates of event 0 of the chunk, other branches say 2",
        ),
        ({"nPFCands": np.int32([1, -2])}, "'PFCands_pt' holds 2 candidates of event 1 .* say -2"),
        ({"nPFCands": np.int64([1, 10**12])}, "say 1000000000000; so for 1 of 2 events"),
        ({"PFCands_eta": [[1.0, 2.0], [1.0]]}, "'PFCands_eta' holds 2 candidates of event 0"),
    ):
        with pytest.raises(InputError, match=says):
            read_candidates(ak.Array({**whole, **wrong}), source)


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
