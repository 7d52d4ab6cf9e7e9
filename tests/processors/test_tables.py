"""A table is a folder of parts that workers write; arrays of any schema give the same rows; who an event is."""

from __future__ import annotations

import pickle
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import pytest
import uproot
from coffea.nanoevents import BaseSchema, NanoAODSchema, NanoEventsFactory
from coffea.processor import IterativeExecutor, ProcessorABC, Runner

from hunch.errors import InputError
from hunch.files import WriteError
from hunch.folds import hash_columns
from hunch.processors import (
    Constituents,
    Features,
    Images,
    ProcessingError,
    Representation,
    Running,
    TableProcessor,
    TableResult,
    jets_and_features,
    run_table,
)
from hunch.processors.chunks import UnreadableError
from hunch.processors.runner import open_files, process_files
from hunch.table import EVENT_ID, Table, read_table, table_info, table_parts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Events = list[list[tuple[float, float, float]]]
PAIR = [(100.0, 0.0, 0.0), (90.0, 0.0, 3.0)]
NANO = pytest.mark.filterwarnings("ignore:Missing cross-reference index:RuntimeWarning")
"""coffea's NanoAODSchema says so of every collection of NanoAOD that a file lacks."""
QUIET = Running(executor="iterative", progress=False)


def run(paths: Any, representation: Representation, **options: Any) -> TableResult:
    return run_table(paths, representation, Running(executor="iterative", progress=False, chunk_size=7), **options)


def same(first: Table, second: Table, *, but: tuple[str, ...] = ()) -> None:
    assert [name for name in first.columns if name not in but] == [name for name in second.columns if name not in but]
    for name in first.columns:
        if name not in but:
            assert first[name].dtype == second[name].dtype, name
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def nano_events(path: Path, schema: type[BaseSchema]) -> Any:
    return NanoEventsFactory.from_root(
        {str(path): "Events"}, schemaclass=schema, mode="virtual", metadata={"dataset": "pfnano"}
    ).events()


def test_a_folder_of_parts_is_the_table(
    random_events: Callable[[int], Events], write_events: Callable[..., Path], tmp_path: Path
) -> None:
    events = random_events(30)
    truth = np.arange(30) % 2
    paths = [
        write_events("b.root", events[:20], truth_signal=truth[:20].astype(np.uint8)),
        write_events("a.root", events[20:]),
    ]
    whole = run_table(paths, Images(pixels=10), QUIET)
    stored = run(paths, Images(pixels=10), output=tmp_path / "t")
    assert stored.path == tmp_path / "t"
    assert whole.path is None
    same(whole.table, stored.table)
    assert whole.rows == stored.rows == len(stored.table) > 20
    assert "truth_signal" not in table_info(tmp_path / "t").columns  # not every file has it
    info = table_info(tmp_path / "t")
    assert (info.rows, info.metadata["cutflow"]) == (stored.rows, stored.cutflow)
    assert info.metadata["representation"] == "images"
    parts = list(table_parts(tmp_path / "t", ["mjj"]))
    assert len(parts) == 3 + 2
    assert np.concatenate([part["mjj"] for part in parts]).tolist() == whole.table["mjj"].tolist()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_the_caller_holds_counts_and_names_alone(
    random_events: Callable[[int], Events], write_events: Callable[..., Path], tmp_path: Path
) -> None:
    events = random_events(40)
    sizes = []
    for n in (10, 40):
        files, _ = open_files([write_events(f"{n}.root", events[:n])])
        folder = tmp_path / str(n)
        folder.mkdir()
        done = process_files(files, TableProcessor(Images(), folder), Running(executor="iterative", progress=False))
        (part,) = (part for _, part in done.parts)
        assert part["rows"] == part["cutflow"]["kept"] > 0
        assert all(isinstance(name, str) for name in part["parts"].values())
        assert sorted(p.stem for p in folder.iterdir()) == sorted(part["parts"].values())
        sizes.append(len(pickle.dumps(done)))
    assert abs(sizes[1] - sizes[0]) < 200  # an image alone has 6,400 bytes


def test_columns_are_handed_on_in_a_runner_of_ones_own(
    random_events: Callable[[int], Events], write_events: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_events("a.root", random_events(12))
    runner = Runner(executor=IterativeExecutor(status=False), schema=BaseSchema, savemetrics=False, chunksize=5)
    out = runner({"a": [str(path)]}, TableProcessor(Features()), treename="Events")
    (file,) = out["files"].values()
    expected = run_table(path, Features(), QUIET).table
    joined = np.concatenate([file["parts"][start]["mjj"] for start in sorted(file["parts"])])
    np.testing.assert_array_equal(joined, expected["mjj"])
    named = runner({"a": [str(path)]}, TableProcessor(Features(), tmp_path), treename="Events")
    (file,) = named["files"].values()
    assert sorted(tmp_path.glob("*.parquet")) == [
        tmp_path / f"{name}.parquet" for _, name in sorted(file["parts"].items())
    ]


def test_a_failed_run_leaves_the_older_table_and_nothing_else(
    write_events: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, output = write_events("a.root", [PAIR] * 20), tmp_path / "t"
    run(path, Features(), output=output)
    before = sorted(p.name for p in output.iterdir())

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hunch.processors.tables.write_parts_record", full)
    with pytest.raises(WriteError, match=rf"{output}: cannot be written: the disk is full"):
        run(path, Images(), output=output)
    assert sorted(p.name for p in output.iterdir()) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.root", "t"]
    assert table_info(output).metadata["representation"] == "features"


class HalfRead(Features):
    """Finds the later chunks of b.root damaged."""

    def columns(self, events: Any) -> Any:
        if events.metadata["filename"].endswith("b.root") and events.metadata["entrystart"] > 10:
            raise UnreadableError("b.root: cannot be read")
        return super().columns(events)


def test_parts_of_files_left_out_are_deleted(
    random_events: Callable[[int], Events], write_events: Callable[..., Path], tmp_path: Path
) -> None:
    paths = [write_events(name, random_events(40)) for name in ("b.root", "a.root")]
    running = Running(executor="iterative", progress=False, chunk_size=10, skip_bad_files=True)
    result = run_table(paths, HalfRead(), running, output=tmp_path / "t")
    left_out = "the file is left out as a whole, with its 40 events"
    assert [reason for _, reason in result.skipped] == [f"b.root: cannot be read; {left_out}"]
    assert len(list((tmp_path / "t").glob("*.parquet"))) == 4
    assert set(result.table["dataset"]) == {"a"}
    assert result.rows == len(result.table) == result.cutflow["kept"]
    with pytest.raises(InputError, match=r"b\.root: cannot be read"):
        run_table(paths, HalfRead(), Running(executor="iterative", progress=False, chunk_size=10))


def test_a_folder_that_workers_do_not_see_is_named(write_events: Callable[..., Path], tmp_path: Path) -> None:
    files, _ = open_files([write_events("a.root", [PAIR])])
    with pytest.raises(ProcessingError, match="no such folder to write parts"):
        process_files(files, TableProcessor(Features(), tmp_path / "gone"), QUIET)
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("executor", ["iterative", "futures"])
def test_ctrl_c_leaves_nothing(
    executor: str,
    random_events: Callable[[int], Events],
    write_events: Callable[..., Path],
    tmp_path: Path,
    heeds_interrupts: Callable[[], None],
) -> None:
    path = write_events("a.root", random_events(50) * 40)
    script = tmp_path / "job.py"
    script.write_text(
        "import sys\nfrom hunch.processors import Images, Running, run_table\n"
        "if __name__ == '__main__':\n"
        f"    running = Running(executor={executor!r}, workers=2, chunk_size=4, progress=False)\n"
        "    run_table(sys.argv[1], Images(), running, output=sys.argv[2])\n"
    )
    out = tmp_path / "out"
    out.mkdir()
    with subprocess.Popen(
        [sys.executable, script, path, out / "t"],
        stderr=subprocess.PIPE, text=True, preexec_fn=heeds_interrupts,
        start_new_session=True,
    ) as job:  # fmt: skip
        deadline = time.monotonic() + 120
        while not list(out.glob(".t.*/t/*.parquet")) and job.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list(out.glob(".t.*/t/*.parquet"))  # it was writing
        job.send_signal(signal.SIGINT)
        _, said = job.communicate(timeout=120)
    assert job.returncode != 0
    assert "KeyboardInterrupt" in said
    assert list(out.iterdir()) == []


def test_an_input_that_is_no_number_is_counted(
    random_events: Callable[[int], Events], write_events: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hunch.processors import features

    events = random_events(8)
    events[3] = [(np.nan, 0.0, 0.0), *events[3]]
    alone: list[tuple[float, float, float]] = [(100.0, 0.0, 0.0), (60.0, 0.0, 3.0)]
    path = write_events("a.root", [*events, alone])
    assert run(path, Features()).cutflow["kept"] == 8
    tau12 = features.tau12

    def third_is_nan(taus: Any) -> Any:
        values = tau12(taus)
        values[2 * 2 : 2 * 2 + 1] = np.nan
        return values

    monkeypatch.setattr(features, "tau12", third_is_nan)
    result = run_table(path, Features(observable="mJ_2"), QUIET)
    table, cutflow = result.table, result.cutflow
    assert cutflow == {
        "read": 9,
        "unphysical candidates": 1,
        "fewer than two jets": 0,
        "an input or the observable is no finite number": 1,
        "mJ_2 is not positive": 1,
        "kept": 6,
    }
    assert table["event"].tolist() == [0, 1, 4, 5, 6, 7]
    assert np.isfinite(table.matrix(Features().inputs)).all()


# ---- schemas ----


@NANO
@pytest.mark.filterwarnings("ignore:Branch Photon_.* already exists:RuntimeWarning")  # which it sets to 0
def test_every_schema_and_no_schema_give_the_same_rows(shared_data: Callable[[str], Path]) -> None:
    path = shared_data("pfnano.root")
    expected = run_table(path, Features(), QUIET).table
    assert len(expected) == 10
    for schema in (NanoAODSchema, BaseSchema):
        found = jets_and_features(nano_events(path, schema))
        assert found["row"].tolist() == list(range(10))
        same(found, expected, but=("row",))
        assert found.metadata["ntrk"] == expected.metadata["ntrk"] == "charged"
    with uproot.open(path) as file:
        names = ["run", "luminosityBlock", "event", "genWeight", *(f"PFCands_{n}" for n in CANDIDATES)]
        plain = file["Events"].arrays(names)
    same(jets_and_features(plain), expected, but=("row", "dataset"))
    assert set(jets_and_features(plain)["dataset"]) == {"events"}
    record = ak.zip({name: plain[f"PFCands_{name}"] for name in CANDIDATES})
    nested = ak.Array({name: plain[name] for name in names[:4]})
    nested["PFCands"] = record
    turned = jets_and_features(nested[::-1], Constituents(jets=1, max_constituents=5))
    straight = jets_and_features(nested, Constituents(jets=1, max_constituents=5))
    np.testing.assert_array_equal(turned["constituents_1"][::-1], straight["constituents_1"])
    np.testing.assert_array_equal(9 - turned["row"][::-1], straight["row"])
    assert turned.metadata["truncated_jets"] == 10


CANDIDATES = ("pt", "eta", "phi", "mass", "charge", "puppiWeight")


@NANO
def test_truth_and_weights_are_found_by_every_schema(write_events: Callable[..., Path]) -> None:
    path = write_events("a.root", [PAIR, [], PAIR], truth_signal=np.uint8([1, 0, 0]), genWeight=np.float32([2, 2, 3]))
    for schema in (NanoAODSchema, BaseSchema):
        found = jets_and_features(nano_events(path, schema))
        assert found["row"].tolist() == [0, 2]
        assert found["truth_signal"].tolist() == [1, 0]
        assert found["genWeight"].tolist() == [2.0, 3.0]
        assert found.metadata["cutflow"]["fewer than two jets"] == 1


class Muons(ProcessorABC):  # type: ignore[misc]
    """A user's processor: an own selection, then jets of what is left, joined by the row."""

    def process(self, events: Any) -> Any:
        chosen = events[events.event % 2 == 0]
        table = jets_and_features(chosen)
        return {"event": np.asarray(chosen.event[table["row"]]).tolist(), "mjj": table["mjj"].tolist()}

    def postprocess(self, accumulator: Any) -> Any:
        return accumulator


@NANO
@pytest.mark.parametrize("schema", [BaseSchema, NanoAODSchema])
def test_a_processor_of_ones_own_finds_jets_of_the_events_that_it_chose(
    schema: type[BaseSchema], random_events: Callable[[int], Events], write_events: Callable[..., Path]
) -> None:
    path = write_events("a.root", random_events(20))
    runner = Runner(executor=IterativeExecutor(status=False), schema=schema, savemetrics=False, chunksize=6)
    out = runner({"a": [str(path)]}, Muons(), treename="Events")
    table = run_table(path, Features(), QUIET).table
    even = table.select(table["event"] % 2 == 0)
    assert len(even) > 5
    assert (out["event"], out["mjj"]) == (even["event"].tolist(), even["mjj"].tolist())


def test_a_missing_field_is_named() -> None:
    events = ak.Array({"run": [1], "event": [1], "luminosityBlock": [1], "PFCands": [[{"pt": 1.0, "eta": 0.0}]]})
    with pytest.raises(
        InputError, match="no branch 'PFCands_phi', which every event file needs; did you mean 'PFCands_pt'"
    ):
        jets_and_features(events)
    with pytest.raises(InputError, match="no branch 'luminosityBlock'"):
        jets_and_features(ak.without_field(events, "luminosityBlock"))


# ---- who an event is ----


def test_an_event_is_the_same_under_other_settings_names_and_in_a_merged_file(
    random_events: Callable[[int], Events], write_events: Callable[..., Path], tmp_path: Path
) -> None:
    first, second = random_events(12), random_events(12)
    paths = [write_events("a.root", first), write_events("b.root", second)]
    ids = [run(path, Features()).table[EVENT_ID] for path in paths]
    assert ids[0].dtype == np.uint64
    # Both count from 0 in run 1 and are other events for all that.
    assert len({*ids[0].tolist(), *ids[1].tolist()}) == 24
    shutil.copy(paths[0], tmp_path / "renamed.root")
    for representation in (Images(pixels=5), Constituents(), Features(radius=0.7, min_pt=20.0), Features(max_deta=1.0)):
        table = run(tmp_path / "renamed.root", representation).table
        assert len(table) > 2
        assert table[EVENT_ID].tolist() == ids[0][table["event"]].tolist()
    merged = write_events("merged.root", [*second, *first], event=np.tile(np.arange(12, dtype=np.uint64), 2))
    assert run(merged, Features()).table[EVENT_ID].tolist() == [*ids[1].tolist(), *ids[0].tolist()]
    reading = jets_and_features(uproot.open(paths[0])["Events"].arrays())
    assert reading[EVENT_ID].tolist() == ids[0].tolist()


def test_collisions_are_told_by_their_numbers_alone(
    random_events: Callable[[int], Events], write_events: Callable[..., Path]
) -> None:
    first, second = random_events(6), random_events(6)
    run_3 = np.full(6, 380_000, dtype=np.uint32)
    a, b = (
        run(write_events(name, e, run=run_3), Features()).table for name, e in (("a.root", first), ("b.root", second))
    )
    both = np.intersect1d(a["event"], b["event"])
    assert len(both) > 2
    np.testing.assert_array_equal(
        a.select(np.isin(a["event"], both))[EVENT_ID], b.select(np.isin(b["event"], both))[EVENT_ID]
    )
    np.testing.assert_array_equal(a[EVENT_ID], hash_columns(a["run"], a["luminosityBlock"], a["event"]))
    # A file with a generator's weights is simulated whatever its run is called.
    c, d = (
        run(write_events(name, e, run=run_3, genWeight=np.ones(6, dtype=np.float32)), Features()).table
        for name, e in (("c.root", first), ("d.root", second))
    )
    assert len({*c[EVENT_ID].tolist(), *d[EVENT_ID].tolist(), *a[EVENT_ID].tolist()}) == len(a) + len(c) + len(d)


def test_the_hardest_stored_candidate_tells_simulated_events_apart(write_events: Callable[..., Path]) -> None:
    fields = ("pt", "eta", "phi", "puppiWeight")
    jet = [(80.0, 0.2, 0.0, 1.0), (60.0, 0.0, 3.0, 1.0), (100.0, 0.4, 0.1, 0.0)]
    zero = np.zeros(6, dtype=np.uint64)
    softer = [(*jet[0][:3], 0.9), *jet[1:]]
    moved = [*jet[:2], (100.0, 0.5, 0.1, 0.0)]
    more = [*jet, (1.0, 0.0, 0.0, 0.0)]
    other = [(80.0, 0.3, 0.0, 1.0), *jet[1:]]
    table = jets_and_features(
        uproot.open(write_events("a.root", [jet, softer, moved, more, other, jet[::-1]], fields=fields, event=zero))[
            "Events"
        ].arrays()
    )
    ids = table[EVENT_ID].tolist()
    assert len(ids) == 6
    # The hardest candidate has weight 0; weights, softer candidates and the order do not tell events apart.
    assert ids[0] == ids[1] == ids[4] == ids[5]
    assert len({ids[0], ids[2], ids[3]}) == 3


def test_a_table_read_back_has_the_same_numbers(write_events: Callable[..., Path], tmp_path: Path) -> None:
    run(write_events("a.root", [PAIR] * 3), Features(), output=tmp_path / "t")
    read = read_table(tmp_path / "t", [EVENT_ID])
    assert read[EVENT_ID].dtype == np.uint64
    assert len(set(read[EVENT_ID].tolist())) == 3


def test_event_numbers_above_2_to_63_stay_what_they_are(
    write_events: Callable[..., Path], random_events: Callable[[int], Events], tmp_path: Path
) -> None:
    numbers = np.arange(6, dtype=np.uint64) + np.uint64(2**64 - 6)
    events = random_events(6)
    path = write_events("large.root", events, event=numbers, run=np.full(6, 2**32 - 1, dtype=np.uint32))
    table = run([path], Features(), output=tmp_path / "t.parquet").table
    assert set(table["event"].tolist()) <= set(numbers.tolist())
    assert (table["event"].dtype, table["run"].dtype) == (np.uint64, np.uint64)
    assert table["run"][0] == 2**32 - 1
    np.testing.assert_array_equal(table[EVENT_ID], hash_columns(table["run"], table["luminosityBlock"], table["event"]))
    signed = write_events("signed.root", events, event=numbers.view(np.int64))
    with pytest.raises(InputError, match=r"signed\.root.*branch 'event' tells events apart and holds -6, a negative"):
        run([signed], Features(), output=tmp_path / "s.parquet")
