"""What becomes of a sample's events before anything trains on them: repeats, weights, wildcards, filesets."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import pandas as pd
import pytest
import uproot

from hunch.config import read_analysis
from hunch.errors import HunchError, InputError
from hunch.table import read_table, table_info
from hunch.workflow.hunt import sample_notes
from hunch.workflow.stages import run_stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from hunch.config import Analysis

WRITERS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "csv": lambda frame, path: frame.to_csv(path, index=False),
    "parquet": lambda frame, path: frame.to_parquet(path, index=False),
    "h5": lambda frame, path: frame.to_hdf(path, key="t"),
}


def rows(rng: np.random.Generator, n: int, *, run: int | None = None) -> pd.DataFrame:
    """Return rows of one's own, with the identity of collisions where a run is given."""
    frame = pd.DataFrame({"mjj": 2000 + rng.exponential(500, n), "a": rng.normal(size=n), "b": rng.normal(size=n)})
    return frame if run is None else frame.assign(run=run, luminosityBlock=1, event=np.arange(n))


def analysis(tmp_path: Path, samples: str, *keys: str, features: str = "features: [a, b]") -> Analysis:
    own = "\n".join([features, *keys])
    (tmp_path / "analysis.yaml").write_text(f"samples: {samples}\noutput: out\n{own}\nexecutor: iterative\n")
    return read_analysis(tmp_path / "analysis.yaml")


def processed(tmp_path: Path, samples: str, *keys: str, sample: str = "data") -> Any:
    made = analysis(tmp_path, samples, *keys)
    run_stage(made, "process", progress=False)
    return read_table(tmp_path / "out" / "tables" / f"{sample}.parquet")


@pytest.mark.parametrize("kind", ["csv", "parquet", "h5"])
@pytest.mark.parametrize("run", [316_000, 1, None])
def test_rows_that_come_again_are_refused_or_left_out(
    kind: str, run: int | None, tmp_path: Path, rng: np.random.Generator
) -> None:
    frame = rows(rng, 200, run=run)
    WRITERS[kind](pd.concat([frame, frame.iloc[50:150]]), tmp_path / f"data.{kind}")
    samples = f"{{data: [data.{kind}]}}"
    with pytest.raises(
        InputError, match=rf"sample data: 100 of 300 events come again: .*data\.{kind}, and .*repeats: drop"
    ):
        processed(tmp_path, samples)
    assert not (tmp_path / "out" / "tables").exists()
    table = processed(tmp_path, samples, "repeats: drop")
    np.testing.assert_array_equal(table["mjj"], frame["mjj"])
    cutflow = table.metadata["cutflow"]
    assert (cutflow["read"], cutflow["comes again"], cutflow["kept"]) == (300, 100, 200)
    assert cutflow["read"] == sum(count for name, count in cutflow.items() if name != "read")


def test_rows_that_are_equal_by_chance_stay(tmp_path: Path, rng: np.random.Generator) -> None:
    frame = rows(rng, 3000).assign(mjj=lambda f: f["mjj"].round(-1), a=lambda f: f["a"].round(), b=0.0)
    frame.to_csv(tmp_path / "data.csv", index=False)
    assert frame.duplicated().sum() > 500
    table = processed(tmp_path, "{data: [data.csv]}")
    assert len(table) == 3000
    assert "comes again" not in table.metadata["cutflow"]


def test_samples_that_share_rows_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    for run in (None, 316_000):
        frame = rows(rng, 200, run=run)
        frame.to_csv(tmp_path / "data.csv", index=False)
        pd.concat([rows(rng, 100, run=None if run is None else run + 1), frame[:20]]).to_csv(
            tmp_path / "qcd.csv", index=False
        )
        with pytest.raises(InputError, match=r"data\.csv.*qcd\.csv.* share events \(20 by"):
            processed(tmp_path, "{data: [data.csv], background: [qcd.csv]}")


@pytest.mark.parametrize("name", ["genWeight", "weight", "Event_Weight"])
def test_weights_of_tables_are_said_and_of_data_refused(
    name: str, tmp_path: Path, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    rows(rng, 50).assign(**{name: 1.0}).to_csv(tmp_path / "data.csv", index=False)
    weights = np.where(np.arange(100) % 4 == 0, -0.5, 0.5)
    weights[7], weights[9] = np.nan, np.inf
    rows(rng, 100).assign(**{name: weights}).to_csv(tmp_path / "qcd.csv", index=False)
    samples = "{data: [data.csv], background: [qcd.csv]}"
    table = processed(tmp_path, samples, sample="background")
    said = f"{name} is not used: every event counts as one, though the weights of 98 events go from -0.5 to 0.5, 25 of them"
    assert f"sample background: {said}" in caplog.text
    assert table.metadata["cutflow"]["its weight is no finite number"] == 2
    assert len(table) == 98
    (note,) = sample_notes(analysis(tmp_path, samples))
    assert note.startswith(f"sample background: {said}")
    rows(rng, 50).assign(**{name: rng.uniform(size=50)}).to_csv(tmp_path / "data.csv", index=False)
    with pytest.raises(InputError, match=rf"data\.csv: column '{name}' differs between events; data carry no weights"):
        processed(tmp_path, samples)
    rows(rng, 50).assign(**{name: np.nan}).to_csv(tmp_path / "data.csv", index=False)
    with pytest.raises(InputError, match="sample data: no event left of 50"):
        processed(tmp_path, samples)
    both = {"genWeight": 1.0, name + "s": 1.0, "mcWeight": rng.uniform(size=50)}
    rows(rng, 50).assign(**both).to_csv(tmp_path / "data.csv", index=False)
    with pytest.raises(InputError, match=r"data\.csv: column 'mcWeight' differs between events"):
        processed(tmp_path, samples)


def events(path: Path, first: int, n: int, rng: np.random.Generator) -> None:
    """Write collisions of two jets of one particle each."""
    identity = {"run": np.full(n, 316, np.uint32), "luminosityBlock": np.ones(n, np.uint32)}
    lists = {"pt": rng.uniform(100, 200, (n, 2)), "eta": rng.normal(size=(n, 2)), "phi": np.tile([0.0, 3.0], (n, 1))}
    candidates = ak.zip({name: ak.from_regular(values) for name, values in lists.items()})
    kinds = {**dict.fromkeys(identity, "uint32"), "event": "uint64", "PFCands": candidates.type.content}
    with uproot.recreate(path) as file:
        file.mktree("Events", kinds)
        file["Events"].extend(
            {**identity, "event": np.arange(first, first + n, dtype=np.uint64), "PFCands": candidates}
        )


def test_wildcards_and_filesets_are_samples(tmp_path: Path, rng: np.random.Generator) -> None:
    for i in range(3):
        events(tmp_path / f"data{i}.root", 10 * i, 10, rng)
    events(tmp_path / "qcd.root", 1000, 10, rng)
    entry = {"files": {"qcd.root": {"object_path": "Events", "steps": [[2, 8]]}}, "metadata": {"xs": 1.5}}
    (tmp_path / "qcd.json.gz").write_bytes(gzip.compress(json.dumps({"qcd": entry}).encode()))
    text = "samples: {data: ['data?.root'], background: [qcd.json.gz]}\noutput: out\nfeatures: [pt_1, pt_2]\n"
    (tmp_path / "a.yaml").write_text(f"{text}executor: iterative\n")
    made = read_analysis(tmp_path / "a.yaml")
    assert [Path(file).name for file in made.samples.data] == ["data0.root", "data1.root", "data2.root"]
    assert run_stage(made, "process", progress=False)
    data, background = (table_info(tmp_path / f"out/tables/{name}.parquet") for name in ("data", "background"))
    assert (data.rows, background.rows) == (30, 6)
    assert background.metadata["datasets"] == {"qcd": {"xs": 1.5}}
    assert list(background.metadata["steps"].values()) == [{"steps": 6, "events": 10}]
    assert not run_stage(made, "process", progress=False)
    # What a fileset names is an input like any other.
    events(tmp_path / "qcd.root", 2000, 10, rng)
    assert run_stage(made, "process", progress=False)
    assert read_table(tmp_path / "out/tables/background.parquet")["event"].min() >= 2000
    events(tmp_path / "data3.root", 25, 10, rng)
    with pytest.raises(
        InputError, match=r"sample data: 5 of 40 .*event 25 of .*data2\.root, and .* event 25 of .*data3\.root"
    ):
        run_stage(read_analysis(tmp_path / "a.yaml"), "process", progress=False)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("['no*.root']", r"line 1: key 'samples.data\[0\]': .*no\*\.root: no file matches"),
        ("['*.root', a.root]", r"key 'samples.data\[1\]': .*a\.root is listed twice"),
        ("['root://x//a.root', 'root://x//a.root']", "listed twice"),
    ],
)
def test_names_of_samples_that_stand_for_nothing_or_twice_are_named(data: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "a.root").touch()
    with pytest.raises(HunchError, match=says):
        analysis(tmp_path, f"{{data: {data}}}", features="features: [pt_1]")


def test_an_address_in_an_analysis_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    made = analysis(tmp_path, "{data: ['root://server.ch//store/a.root']}", features="features: [pt_1]")
    with pytest.raises(InputError, match=r"^root://server\.ch//store/a\.root: root:// needs the package fsspec-xrootd"):
        run_stage(made, "process", progress=False)
