"""Whole events as objects in an analysis: processed, trained on, counted; nothing is hunted for a bump in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
import yaml

from hunch.config import read_analysis
from hunch.errors import HunchError
from hunch.models import AnomalyCLR, load_space
from hunch.processors import Objects
from hunch.table import EVENT_ID, read_table
from hunch.workflow import run, run_stage

CLASSES = (("Electron", 4, 3.0, 2.9), ("Muon", 4, 3.0, 2.0), ("Jet", 10, 15.0, 3.9))


def write_objects(path: Path, n: int, seed: int, *, signal: bool = False) -> Path:
    """Events of a few objects; the signal has more leptons and all of its events a truth of 1."""
    rng = np.random.default_rng(seed)
    branches = {
        "run": np.ones(n, dtype=np.uint32),
        "luminosityBlock": np.ones(n, dtype=np.uint32),
        "event": np.arange(n, dtype=np.uint64),
        "MET_pt": rng.exponential(20, n),
        "MET_phi": rng.uniform(-3, 3, n),
        "truth_signal": np.full(n, signal, dtype=np.uint8),
    }
    for name, most, least, edge in CLASSES:
        counts = rng.integers(1 + 2 * signal, 1 + min(most, 2 + 2 * signal), n)
        values = (
            least + 1 + rng.exponential(20, counts.sum()),
            rng.uniform(-edge, edge, counts.sum()),
            rng.uniform(-3, 3, counts.sum()),
        )
        branches[name] = ak.zip({k: ak.unflatten(v, counts) for k, v in zip(("pt", "eta", "phi"), values, strict=True)})
    kinds = {name: v.type if isinstance(v, ak.Array) else v.dtype for name, v in branches.items()}
    with uproot.recreate(path) as file:
        file.mktree("Events", kinds)
        file["Events"].extend(branches)
    return path


@pytest.fixture
def analysis(tmp_path: Path) -> Callable[..., Path]:
    samples = {
        "data": [str(write_objects(tmp_path / "data.root", 900, 1))],
        "background": [str(write_objects(tmp_path / "background.root", 900, 2))],
        "signals": {"many": [str(write_objects(tmp_path / "signal.root", 200, 3, signal=True))]},
    }

    def write(**keys: object) -> Path:
        content = {
            "samples": samples,
            "output": str(tmp_path / "out"),
            "representation": {"name": "objects", "max_jets": 6},
            "scorer": {"name": "ConstituentVae", "max_epochs": 1, "latent": 2},
            "hunt": "count",
            "count": {"efficiency": 0.1},
            "executor": "iterative",
            **keys,
        }
        (tmp_path / "analysis.yaml").write_text(yaml.safe_dump(content))
        return tmp_path / "analysis.yaml"

    return write


def test_objects_go_from_files_to_a_table(analysis: Callable[..., Path], tmp_path: Path) -> None:
    read = read_analysis(analysis())
    assert read.represented == Objects(max_jets=6)
    run_stage(read, "process", progress=False)
    table = read_table(tmp_path / "out" / "tables" / "data.parquet")
    assert table["objects"].shape == (900, 15, 3)
    assert set(Objects().scalars) <= set(table.columns)
    assert {EVENT_ID, "truth_signal", "event"} <= set(table.columns)
    assert table.metadata["truncated_jet"] == 0
    assert len(set(table[EVENT_ID].tolist())) == 900


def test_objects_are_counted_and_no_bump_is_looked_for(analysis: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(HunchError, match="representation objects has no mass to look for a bump in; hunt: count"):
        read_analysis(analysis(hunt="bump", count={}))
    run(read_analysis(analysis()), progress=False)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["counting"]["result"]["observed"] > 0
    assert result["cutflow"]["read"] == 900


ENCODED = {
    "name": "Encoded",
    "encoder": {
        "name": "AnomalyCLR",
        "max_epochs": 2,
        "width": 8,
        "heads": 2,
        "layers": 1,
        "feedforward": 8,
        "dims": 3,
        "projection": 4,
    },
    "scorer": {"name": "Vae", "max_epochs": 2, "hidden": 8},
}


def test_objects_are_encoded_and_counted(analysis: Callable[..., Path], tmp_path: Path) -> None:
    run(read_analysis(analysis(representation="objects", scorer=ENCODED)), progress=False)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["counting"]["result"]["observed"] > 0
    assert 0 <= result["counting"]["result"]["p_value"] <= 1
    assert [axis["name"] for axis in result["how_trained"]["axes"]] == ["encoder of all axes"]
    encoder = load_space(tmp_path / "out" / "models" / "fold_0").encoder_
    assert isinstance(encoder, AnomalyCLR)
    assert encoder.jets == 10


def test_an_encoder_of_other_slots_is_refused_before_anything_is_read(analysis: Callable[..., Path]) -> None:
    objects = {"name": "objects", "max_jets": 6, "muon_eta": 2.4}
    with pytest.raises(
        HunchError, match=r"key 'scorer\.encoder\.jets': is 5, and representation\.max_jets is 6, of which it takes"
    ):
        read_analysis(
            analysis(representation=objects, scorer={**ENCODED, "encoder": {"name": "AnomalyCLR", "jets": 5}})
        )
    with pytest.raises(
        HunchError, match=r"key 'scorer\.encoder\.muon_eta': is 2.1, and representation\.muon_eta is 2\.4"
    ):
        read_analysis(
            analysis(representation=objects, scorer={**ENCODED, "encoder": {"name": "AnomalyCLR", "muon_eta": 2.1}})
        )
    with pytest.raises(HunchError, match=r"key 'representation\.min_jet_pt': is 0\.0, and AnomalyCLR adds objects"):
        read_analysis(analysis(representation={"name": "objects", "min_jet_pt": 0.0}, scorer=ENCODED))
    # what is not given is that of the representation
    found = read_analysis(analysis(representation=objects, scorer=ENCODED)).scorer_options["encoder"]
    assert (found["jets"], found["muons"], found["muon_eta"], found["jet_pt"]) == (6, 4, 2.4, 15.0)


@pytest.mark.parametrize(
    ("representation", "encoder", "said"),
    [
        (
            "constituents",
            "AnomalyCLR",
            "takes whole events: representation: objects; allowed of constituents: .*JetCLR",
        ),
        ("objects", "JetCLR", "takes single jets: representation: constituents; allowed of objects: AnomalyCLR"),
    ],
)
def test_an_encoder_of_something_else_is_refused(
    analysis: Callable[..., Path], representation: str, encoder: str, said: str
) -> None:
    with pytest.raises(HunchError, match=rf"key 'scorer\.encoder': {encoder} {said}"):
        read_analysis(
            analysis(representation=representation, scorer={"name": "Encoded", "encoder": encoder, "scorer": "Vae"})
        )


@pytest.mark.parametrize(
    ("objects", "key"),
    [({"layout": "list"}, "layout': is list"), ({"max_photons": 2}, "max_photons': is 2")],
)
def test_objects_that_an_encoder_does_not_know_are_refused(
    analysis: Callable[..., Path], objects: dict[str, object], key: str
) -> None:
    with pytest.raises(HunchError, match=rf"key 'representation\.{key}, and scorer\.encoder: AnomalyCLR takes pT"):
        read_analysis(analysis(representation={"name": "objects", **objects}, scorer=ENCODED))


@pytest.mark.parametrize("scorer", ["ConstituentVae", "EventToEnsemble", "NAE"])
def test_methods_of_momenta_refuse_a_list_with_categories(analysis: Callable[..., Path], scorer: str) -> None:
    with pytest.raises(HunchError, match=rf"key 'representation\.layout': is list, .* scorer: {scorer} takes pT"):
        read_analysis(analysis(representation={"name": "objects", "layout": "list"}, scorer=scorer))
    read_analysis(analysis(representation="objects", scorer=scorer))


@pytest.mark.parametrize(("channel", "read"), [(1, "1"), ("2a", "2a"), ("none", "none")])
def test_a_channel_is_given_as_yaml_reads_it(analysis: Callable[..., Path], channel: object, read: str) -> None:
    objects = {"name": "objects", "channel": channel, "max_photons": 1}
    assert read_analysis(analysis(representation=objects)).represented == Objects(channel=read, max_photons=1)
