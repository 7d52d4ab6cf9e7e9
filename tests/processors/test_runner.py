"""From event files to the table of features: cutflow, order, executors, bad files."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import uproot

from hunch.errors import InputError
from hunch.files import WriteError
from hunch.processors import Features, ProcessingError, Running, TableProcessor, TableResult, run_table
from hunch.table import DIJET_COLUMNS, EVENT_ID, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Events = list[list[tuple[float, float, float]]]

USABLE = {"an input or the observable is no finite number": 0, "mjj is not positive": 0}


def run(paths: Any, representation: Features | None = None, **options: Any) -> TableResult:
    running = Running(**{"executor": "iterative", "progress": False, **options})
    return run_table(paths, representation or Features(), running)


def same(first: Table, second: Table) -> None:
    assert list(first.columns) == list(second.columns)
    for name, values in first.columns.items():
        assert values.dtype == second[name].dtype
        np.testing.assert_array_equal(values, second[name], err_msg=name)


@contextlib.contextmanager
def small_files(most: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def adds_up(cutflow: dict[str, int]) -> None:
    assert cutflow["read"] == sum(count for name, count in cutflow.items() if name != "read")


def test_lhco_events_are_all_counted_with_jet_one_the_more_massive(lhco_file: Path) -> None:
    result = run(lhco_file)
    table = result.table
    assert tuple(table.columns) == (*DIJET_COLUMNS, EVENT_ID, "truth_signal")
    assert result.cutflow == {
        "read": 1000,
        "unphysical candidates": 0,
        "fewer than two jets": 0,
        **USABLE,
        "kept": 1000,
    }
    assert len(set(table[EVENT_ID].tolist())) == 1000
    assert table["event"].tolist() == list(range(1000))
    assert table["truth_signal"].sum() == 93
    assert (table["mJ_1"] >= table["mJ_2"]).all()
    features = table.matrix(DIJET_COLUMNS[4:])
    assert np.isfinite(features).all()
    assert features.dtype == np.float64
    for name in ("tau21_1", "tau32_1", "tau43_1"):
        assert 0 < np.median(table[name]) < 1
    assert (np.maximum(table["pt_1"], table["pt_2"]) > 1100).all()
    assert table.metadata["ntrk"] == "all"
    # The public signal is a Z' of 3.5 TeV to jets of 500 and 100 GeV: the table must show it.
    signal_like = table.select(table["truth_signal"] == 1)
    assert np.median(signal_like["mjj"]) == pytest.approx(3400, abs=150)
    assert np.median(signal_like["mJ_1"]) == pytest.approx(500, abs=40)
    assert np.median(signal_like["mJ_2"]) == pytest.approx(100, abs=25)


def test_mjj_and_deta_are_those_of_two_known_jets(write_events: Callable[..., Path]) -> None:
    path = write_events("two.root", [[(100.0, 0.5, 3.1), (80.0, -0.7, -0.1)]])
    table = run(path).table
    expected = np.sqrt(2 * 100 * 80 * (np.cosh(1.2) - np.cos(3.2)))
    assert table["mjj"][0] == pytest.approx(expected, rel=1e-12)
    assert table["deta"][0] == pytest.approx(1.2, rel=1e-12)
    assert (table["ntrk_1"][0], table["tau12_1"][0], table["tau21_1"][0]) == (1, 1, 0)


def test_every_cut_is_counted_and_the_cutflow_adds_up(write_events: Callable[..., Path]) -> None:
    pair = [(100.0, 0.0, 0.0), (90.0, 0.0, 3.0)]
    events = [
        pair,
        [(100.0, 0.0, 0.0)],
        [*pair, (np.nan, 0.0, 1.5)],
        [(100.0, 1.0, 0.0), (90.0, -1.0, 3.0)],
        [(60.0, 0.0, 0.0), (55.0, 0.0, 3.0)],
        [(100.0, 0.0, 0.0), (90.0, 0.0, 1.2)],
        [],
        [(400.0, 0.0, 0.0), (400.0, 0.0, 3.0)],
    ]
    representation = Features(max_deta=1.3, min_mjj=150.0, max_mjj=500.0, min_leading_pt=70.0)
    result = run(write_events("cuts.root", events), representation)
    assert result.cutflow == {
        "read": 8,
        "unphysical candidates": 1,
        "fewer than two jets": 2,
        "failed min_leading_pt": 1,
        "failed max_deta": 1,
        "failed min_mjj": 1,
        "failed max_mjj": 1,
        **USABLE,
        "kept": 1,
    }
    adds_up(result.cutflow)
    assert result.table["event"].tolist() == [0]
    assert result.table.metadata["settings"]["max_deta"] == 1.3


def test_no_event_left_is_an_empty_table_with_the_schema(write_events: Callable[..., Path]) -> None:
    for events in ([], [[(100.0, 0.0, 0.0)]]):
        result = run(write_events(f"few{len(events)}.root", events))
        assert tuple(result.table.columns) == (*DIJET_COLUMNS, EVENT_ID)
        assert len(result.table) == 0
        assert result.table["mjj"].dtype == np.float64
        adds_up(result.cutflow)


def test_the_result_does_not_depend_on_chunks_or_batches(
    random_events: Callable[[int], Events], write_events: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    events = random_events(60)
    paths = [write_events("a.root", events[:40]), write_events("b.root", events[40:])]
    whole = run(paths)
    assert whole.table["dataset"].tolist() == ["a"] * 40 + ["b"] * 20
    assert whole.table["event"].tolist() == [*range(40), *range(20)]
    same(whole.table, run(paths, chunk_size=7).table)
    monkeypatch.setattr("hunch.processors.chunks.BATCH", 11)
    same(whole.table, run(paths).table)


@pytest.mark.parametrize("executor", ["futures", "dask"])
def test_every_executor_gives_the_same_table(
    executor: str, random_events: Callable[[int], Events], write_events: Callable[..., Path]
) -> None:
    events = random_events(40)
    paths = [write_events("b.root", events[:25]), write_events("a.root", events[25:])]
    options = {"workers": 1 if executor == "dask" else 2, "chunk_size": 10}
    result, expected = run(paths, executor=executor, **options), run(paths)
    same(result.table, expected.table)
    assert result.cutflow == expected.cutflow


def test_charged_constituents_are_counted_where_charge_is_known(write_events: Callable[..., Path]) -> None:
    jets = [(60.0, 0.0, 0.0, 1.0), (20.0, 0.1, 0.1, 0.0), (5.0, -0.1, 0.1, -1.0), (55.0, 0.0, 3.0, 0.0)]
    with_charge = write_events("charge.root", [jets], fields=("pt", "eta", "phi", "charge"))
    result = run(with_charge)
    assert (result.table["ntrk_1"][0], result.table["ntrk_2"][0]) == (2, 0)
    assert result.table.metadata["ntrk"] == "charged"
    without = write_events("bare.root", [[j[:3] for j in jets]])
    with pytest.raises(InputError, match=r"bare\.root.*all.*charge\.root.*charged"):
        run([with_charge, without])


def test_bad_files_stop_the_run_or_are_skipped_and_reported(
    random_events: Callable[[int], Events], write_events: Callable[..., Path], tmp_path: Path
) -> None:
    good = write_events("good.root", random_events(5))
    (tmp_path / "cut.root").write_bytes(good.read_bytes()[:-200])
    paths = [tmp_path / "cut.root", good, tmp_path / "gone.root"]
    with pytest.raises(InputError, match=r"cut\.root: truncated"):
        run(paths)
    result = run(paths, skip_bad_files=True)
    assert [Path(path).name for path, _ in result.skipped] == ["cut.root", "gone.root"]
    assert "no such file" in result.skipped[1][1]
    assert result.cutflow["read"] == 5
    assert set(result.table["dataset"]) == {"good"}
    assert result.table.metadata["skipped"] == [list(pair) for pair in result.skipped]
    with pytest.raises(InputError, match="not one of 2 files"):
        run([paths[0], paths[2]], skip_bad_files=True)


def test_a_damaged_basket_leaves_out_its_whole_file(
    random_events: Callable[[int], Events], write_events: Callable[..., Path]
) -> None:
    paths = [write_events(name, random_events(40)) for name in ("a.root", "b.root")]
    with uproot.open(paths[1]) as file:
        branch = file["Events"]["PFCands_eta"]
        start, size = int(branch.member("fBasketSeek")[0]), branch.basket(0).compressed_bytes
    damaged = bytearray(paths[1].read_bytes())
    damaged[start + 100 : start + size] = bytes(size - 100)
    paths[1].write_bytes(damaged)
    with pytest.raises(InputError, match=r"b\.root: tree 'Events': branch 'PFCands_eta' cannot be read, damaged: "):
        run(paths, chunk_size=10)
    result = run(paths, chunk_size=10, skip_bad_files=True)
    assert [Path(path).name for path, _ in result.skipped] == ["b.root"]
    assert result.cutflow["read"] == 40


@pytest.mark.parametrize("executor", ["iterative", pytest.param("futures", marks=pytest.mark.slow)])
def test_a_full_disk_names_the_table_and_leaves_nothing(
    executor: str, random_events: Callable[[int], Events], write_events: Callable[..., Path], tmp_path: Path
) -> None:
    """The limit on the size of a file, which workers inherit, stands for a full disk."""
    path, out = write_events("a.root", random_events(40)), tmp_path / "out" / "t.parquet"
    options = Running(executor=executor, workers=1, progress=False, skip_bad_files=True)
    with (
        small_files(500),
        pytest.raises(WriteError, match=rf"^{re.escape(str(out))}/\S+\.parquet: cannot be written: "),
    ):
        run_table([path], Features(min_leading_pt=1.0), options, output=out)
    assert list(out.parent.iterdir()) == []


def test_truth_stays_only_where_all_have_it_and_weights_are_all_or_nothing(
    random_events: Callable[[int], Events], write_events: Callable[..., Path]
) -> None:
    events = random_events(3)
    plain = write_events("plain.root", events)
    labelled = write_events("labelled.root", random_events(3), truth_signal=np.uint8([0, 1, 0]))
    weighted = write_events("weighted.root", events, genWeight=np.float32([1, -1, 2]))
    assert "truth_signal" not in run([plain, labelled]).table
    assert run(labelled).table["truth_signal"].tolist() == [0, 1, 0]
    assert run(weighted).table["genWeight"].tolist() == [1, -1, 2]
    with pytest.raises(InputError, match=r"plain\.root: no branch 'genWeight', which .*weighted\.root has"):
        run([plain, weighted])


class Suicidal(TableProcessor):
    """Dies the way the kernel kills a process that is out of memory."""

    def process(self, events: Any) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}


def test_a_killed_worker_is_an_error_that_says_so(
    random_events: Callable[[int], Events], write_events: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    from hunch.processors.runner import open_files, process_files

    files, _ = open_files([write_events("a.root", random_events(5))])
    with pytest.raises(ProcessingError, match="was killed"):
        process_files(files, Suicidal(Features()), Running(workers=1, progress=False))
    assert "Traceback" not in capfd.readouterr().err


def test_one_file_under_two_names_is_refused(write_events: Callable[..., Path]) -> None:
    path = write_events("a.root", [[(100.0, 0.0, 0.0)]])
    copy = path.with_name("b.root")
    copy.write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"b\.root: is the same ROOT file as .*a\.root"):
        run([path, copy])
    with pytest.raises(InputError, match="given twice"):
        run({"data": [str(path), str(path)]})
    with pytest.raises(InputError, match=r"a\.root: is in two datasets, 'qcd' and 'data'; its events"):
        run({"qcd": [str(path)], "data": [str(path)]})
    assert run({"data": [path]}).cutflow["read"] == 1


@pytest.mark.slow
def test_a_scheduler_that_is_not_there_is_named(write_events: Callable[..., Path]) -> None:
    path = write_events("a.root", [[(100.0, 0.0, 0.0)]])
    with pytest.raises(ProcessingError, match=r"tcp://127\.0\.0\.1:1'.*cannot be reached"):
        run(path, executor="dask", scheduler="tcp://127.0.0.1:1")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"executor": "future"}, "did you mean 'futures'"),
        ({"scheduler": "tcp://x:1"}, "scheduler"),
        ({"workers": 0}, "workers: 0"),
        ({"chunk_size": -1}, "chunk_size: -1"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Running(**options)


@pytest.mark.parametrize(
    "options", [{"radius": 0.0}, {"min_pt": -1.0}, {"max_deta": float("nan")}, {"min_mjj": 5.0, "max_mjj": 4.0}]
)
def test_impossible_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        Features(**options)


def test_stdout_stays_clean_with_progress_on_stderr(write_events: Callable[..., Path]) -> None:
    path = write_events("a.root", [[(100.0, 0.0, 0.0), (90.0, 0.0, 3.0)]])
    code = (
        "import sys\nfrom hunch.processors import Features, Running, run_table\n"
        "if __name__ == '__main__':\n"
        "    for name in ('iterative', 'futures'):\n"
        "        run_table(sys.argv[1], Features(), Running(executor=name, workers=1))\n"
    )
    script = path.with_suffix(".py")
    script.write_text(code)
    done = subprocess.run([sys.executable, script, path], capture_output=True, text=True, check=True, timeout=200)
    assert done.stdout == ""
    assert "Processing" in done.stderr


def test_events_that_come_again_are_refused_or_left_out(
    random_events: Callable[[int], Events], write_events: Callable[..., Path]
) -> None:
    events = random_events(30)
    collisions = {"run": np.full(30, 316, np.uint32)}
    for more in ({}, collisions):  # simulation is told by its content too
        first = write_events("a.root", events, **more)
        second = write_events("b.root", events[20:], event=np.arange(20, 30), **{k: v[20:] for k, v in more.items()})
        told = r"10 of 40 events come again: run \d+, luminosityBlock 1, event 20 of .*a\.root, and .* event 20 of .*b\.root"
        with pytest.raises(InputError, match=told):
            run([first, second], chunk_size=7)
        running = Running(executor="iterative", progress=False, chunk_size=7)
        dropped = run_table([first, second], Features(), running, repeats="drop")
        assert dropped.table["event"].tolist() == list(range(30))
        assert dropped.cutflow["comes again"] == 10
        assert dropped.table.metadata["cutflow"] == dropped.cutflow
        assert dropped.rows == dropped.cutflow["kept"] == 30
        adds_up(dropped.cutflow)
    # Of collisions the identity alone decides, of simulation two files that count from 0 are different events.
    other = random_events(30)
    assert len(run([first, write_events("c.root", other)]).table) == 60
    with pytest.raises(InputError, match="30 of 60 events come again"):
        run([first, write_events("d.root", other, **collisions)])
    twice = write_events("e.root", events, event=np.uint64([*range(15), *range(15)]), run=np.full(30, 316, np.uint32))
    with pytest.raises(InputError, match=r"15 of 30 events come again: .*e\.root, and .*e\.root"):
        run(twice)


def test_weights_that_differ_are_said_and_those_that_are_none_are_counted(
    random_events: Callable[[int], Events], write_events: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    events = random_events(6)
    equal = write_events("equal.root", events, genWeight=np.full(6, -2.5))
    result = run(equal)
    assert result.table.metadata["notes"] == []
    assert result.table.metadata["weights"]["negative"] == 6
    assert "genWeight" not in caplog.text
    result = run(write_events("unequal.root", events, genWeight=[1.0, -1.0, 1.0, np.nan, 3.0, -np.inf]))
    (note,) = result.table.metadata["notes"]
    assert "genWeight is not used" in note
    assert "weights of 4 events go from -1 to 3, 1 of them negative" in note
    assert f"unequal: {note}" in caplog.text
    assert result.table.metadata["weights"]["effective"] == pytest.approx(16 / 12)
    assert result.cutflow["its weight is no finite number"] == 2
    assert result.table["event"].tolist() == [0, 1, 2, 4]
    adds_up(result.cutflow)
    none = run(write_events("none.root", events, genWeight=np.full(6, np.nan)))
    assert (none.rows, none.cutflow["its weight is no finite number"]) == (0, 6)
    caplog.clear()
    run([equal, write_events("other.root", random_events(6), genWeight=np.full(6, 0.5))])
    assert "equal, other: genWeight is not used" in caplog.text


def test_an_empty_table_is_said_with_what_was_lost(
    write_events: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    run(write_events("few.root", [[(100.0, 0.0, 0.0)], [(100.0, 0.0, 0.0)], [(np.nan, 0.0, 0.0)]]))
    assert "no event is left of 3: 2 fewer than two jets, 1 unphysical candidates" in caplog.text


@pytest.mark.parametrize("executor", ["iterative", pytest.param("futures", marks=pytest.mark.slow)])
def test_a_file_that_cannot_be_opened_on_a_worker_is_left_out(
    executor: str,
    random_events: Callable[[int], Events],
    write_events: Callable[..., Path],
) -> None:
    """Damage that shows only where a worker opens the file, as when it is replaced after it was checked."""
    from hunch.processors.runner import open_files, process_files

    paths = [write_events(name, random_events(10)) for name in ("a.root", "b.root")]
    files, _ = open_files(paths)
    paths[0].write_bytes(paths[0].read_bytes()[:300])
    options = {"executor": executor, "workers": 1, "chunk_size": 5, "progress": False}
    with pytest.raises(InputError, match=r"a\.root: tree 'Events': cannot be read, damaged"):
        process_files(files, TableProcessor(Features()), Running(**options))
    done = process_files(files, TableProcessor(Features()), Running(**options, skip_bad_files=True))
    assert [Path(path).name for path, _ in done.skipped] == ["a.root"]
    assert done.skipped[0][1].endswith("the file is left out as a whole, with its 10 events")
    assert done.cutflow["read"] == 10


def test_a_chunk_that_is_lost_without_a_word_costs_its_file(
    random_events: Callable[[int], Events], write_events: Callable[..., Path]
) -> None:
    from hunch.processors.runner import open_files, process_files

    class Forgetful(TableProcessor):
        def process(self, events: Any) -> dict[str, Any]:
            return super().process(events) if events.metadata["entrystart"] else {"files": {}, "failed": {}}

    files, _ = open_files([write_events("a.root", random_events(10))])
    with pytest.raises(InputError, match=r"a\.root: tree 'Events': 5 of 10 events were read"):
        process_files(files, Forgetful(Features()), Running(executor="iterative", chunk_size=5, progress=False))


def test_links_and_other_spellings_of_one_file_are_refused(write_events: Callable[..., Path]) -> None:
    path = write_events("a.root", [[(100.0, 0.0, 0.0)]])
    link = path.with_name("link.root")
    link.symlink_to(path)
    hard = path.with_name("hard.root")
    hard.hardlink_to(path)
    for other in (link, hard, path.parent / ".." / path.parent.name / "a.root", f"file://{path}"):
        with pytest.raises(InputError, match=r"is the same ROOT file as .*a\.root|a\.root: is in two datasets"):
            run({"x": [str(path)], "y": [str(other)]})
    with pytest.raises(InputError, match=r"same ROOT file|given twice|two datasets"):
        run({"x": [str(path)], "y": [f"{path.parent}/[a]*.root"]})
