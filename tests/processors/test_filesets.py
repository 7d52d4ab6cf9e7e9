"""Filesets in every form that coffea writes or takes, and what is said of those that are none."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from hunch.errors import InputError
from hunch.processors import Features, Running, read_fileset, run_table
from hunch.processors.filesets import check_fileset, files_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUIET = Running(executor="iterative", progress=False)
UUID = "3d546f46-eb2a-11f1-b2b2-02fc00000001"


def one(value: Any, *, key: str = "files") -> dict[str, Any]:
    """Return what is made of one dataset's files."""
    entry = {"files": value} if key else value
    return check_fileset({"d": entry})["d"]["files"]


def test_filesets_are_read_from_paths_json_and_yaml(tmp_path: Path) -> None:
    assert read_fileset(["x/a.root", "b.root"]) == {
        "a": {"files": {"x/a.root": "Events"}, "metadata": {}},
        "b": {"files": {"b.root": "Events"}, "metadata": {}},
    }
    assert list(read_fileset(["a.root", "b.root"], dataset="data")["data"]["files"]) == ["a.root", "b.root"]
    (tmp_path / "f.yaml").write_text("qcd: [a.root]\nxy:\n  files: {b.root: tree}\n  metadata: {mass: 1}\n")
    text = '{"qcd": {"files": ["a.root"], "treename": "T"}}'
    (tmp_path / "f.json").write_text(text)
    (tmp_path / "f.json.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "f.yml.gz").write_bytes(gzip.compress(b"qcd: {files: [a.root], treename: T}"))
    fileset = read_fileset(tmp_path / "f.yaml")
    assert fileset["qcd"]["files"] == {str(tmp_path / "a.root"): "Events"}
    assert fileset["xy"] == {"files": {str(tmp_path / "b.root"): "tree"}, "metadata": {"mass": 1}}
    for name in ("f.json", "f.json.gz", "f.yml.gz"):
        assert read_fileset(tmp_path / name)["qcd"]["files"] == {str(tmp_path / "a.root"): "T"}
    assert files_of([tmp_path / "f.json", "c.root"]) == [str(tmp_path / "a.root"), "c.root"]


def test_coffeas_forms_of_a_dataset_are_taken() -> None:
    assert one(["a.root:T", "b.root"]) == {"a.root": "T", "b.root": "Events"}
    assert one({"a.root": "T", "x/b": "Events"}) == {"a.root": "T", "x/b": "Events"}
    assert one({"a.root": "T", "b.root": "Events"}, key="") == {"a.root": "T", "b.root": "Events"}
    assert one({"a.root": {"object_path": "T"}}) == {"a.root": "T"}
    said = {"object_path": "T", "steps": [[20, 40], [0, 10], [40, 40]], "num_entries": 40, "uuid": UUID.upper()}
    more = {"format": "root", "lfn": None, "pfn": None, "num_selected_entries": 30, "form_hash_md5": "0"}
    assert one({"a.root": {**said, **more}}) == {
        "a.root": {"object_path": "T", "steps": [[0, 10], [20, 40]], "num_entries": 40, "uuid": UUID}
    }
    entry = {"files": ["root://server//store/a.root"], "form": None, "compressed_form": "H4s", "did": None}
    assert list(check_fileset({"d": {**entry, "format": "root"}})["d"]["files"]) == ["root://server//store/a.root"]


def test_coffeas_own_classes_are_taken(shared_data: Callable[[str], Path]) -> None:
    from coffea.dataset_tools.filespec import DataGroupSpec

    path = shared_data("found/coffea_preprocessed/prep.json")
    given = json.loads(path.read_text())
    assert check_fileset(DataGroupSpec(given)) == check_fileset(given)


@pytest.mark.parametrize(("name", "events"), [("prep", 40), ("prep_max_slim", 20)])
def test_steps_of_preprocessed_filesets_are_honoured(
    name: str, events: int, shared_data: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="hunch")
    result = run_table(shared_data(f"found/coffea_preprocessed/{name}.json"), Features(), QUIET)
    assert result.cutflow["read"] == events
    assert result.table["event"].tolist() == list(range(events))
    assert result.table.metadata["datasets"] == {"d": {"xs": 1.0}}
    (taken,) = result.table.metadata["steps"].values()
    assert taken == {"steps": events, "events": 40}
    assert f"steps take {events} of its 40 events" in caplog.text


def test_steps_are_read_exactly_in_chunks_of_any_size(
    random_events: Callable[[int], Any], write_events: Callable[..., Path]
) -> None:
    path = write_events("a.root", random_events(30))
    steps = [[22, 30], [3, 4], [5, 16]]
    wanted = [3, *range(5, 16), *range(22, 30)]
    for size in (4, 100):
        running = Running(executor="iterative", progress=False, chunk_size=size)
        result = run_table({"d": {"files": {str(path): {"steps": steps}}}}, Features(min_pt=0), running)
        assert result.cutflow["read"] == len(wanted)
        assert set(result.table["event"].tolist()) <= set(wanted)
        assert result.table["event"].tolist() == sorted(result.table["event"].tolist())
    none = run_table({"d": {"files": {str(path): {"steps": [[0, 0]]}}}}, Features(), QUIET)
    assert (none.cutflow["read"], none.rows) == (0, 0)


def test_what_a_fileset_says_of_a_file_is_compared_with_it(write_events: Callable[..., Path]) -> None:
    path = str(write_events("a.root", [[(100.0, 0.0, 0.0)]] * 3))
    for said, words in (
        ({"num_entries": 4}, "holds 3 events, the fileset says num_entries 4"),
        ({"uuid": UUID}, "has the uuid .*, the fileset says 3d546f46"),
        ({"steps": [[0, 4]]}, r"steps: \[0, 4\] ends beyond the 3 events"),
    ):
        fileset = {"d": {"files": {path: {"object_path": "Events", **said}}}}
        with pytest.raises(InputError, match=words):
            run_table(fileset, Features(), QUIET)
    good = str(write_events("b.root", [[(100.0, 0.0, 0.0)]]))
    files = {path: {"num_entries": 4}, good: "Events"}
    running = Running(executor="iterative", progress=False, skip_bad_files=True)
    result = run_table({"d": {"files": files}}, Features(), running)
    assert [name for name, _ in result.skipped] == [path]
    assert result.cutflow["read"] == 1


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"steps": [[0, 20], [10, 30]]}, r"steps: \[0, 20\] and \[10, 30\] overlap"),
        ({"steps": [[0, 20], [0, 20]]}, "overlap"),
        ({"steps": [[20, 0]]}, r"\[20, 0\] does not rise"),
        ({"steps": [[-5, 5]]}, r"\[-5, 5\] does not rise"),
        ({"steps": [[0, 2.5]]}, "whole numbers"),
        ({"steps": [[0, True]]}, "whole numbers"),
        ({"steps": [["0", "5"]]}, "whole numbers"),
        ({"steps": [[0, 5, 9]]}, "whole numbers"),
        ({"steps": [0, 5]}, "whole numbers"),
        ({"steps": []}, "no list of"),
        ({"steps": 5}, "no list of"),
        ({"steps": [[0, 50]], "num_entries": 40}, r"\[0, 50\] ends beyond its num_entries 40"),
        ({"num_entries": -1}, "num_entries: -1"),
        ({"num_entries": 1.5}, "num_entries: 1.5"),
        ({"uuid": "no"}, "uuid: 'no'"),
        ({"format": "parquet"}, "format: 'parquet'"),
        ({"object_path": 3}, "object_path: 3"),
        ({"step": [[0, 5]]}, "no key 'step'; did you mean 'steps'"),
    ],
)
def test_what_cannot_be_said_of_a_file_is_refused(said: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=rf"dataset 'd': a\.root: .*{words}"):
        one({"a.root": said})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("qcd: {file: [a.root]}", "dataset 'qcd': no key 'file'; did you mean 'files'"),
        ("qcd: {metadata: {}}", "no key 'files'"),
        ("qcd: 3", "must be a list"),
        ("qcd: [a.root, a.root]", "given twice"),
        ("qcd: [a.root]\nqcd: [b.root]", "line 2: key 'qcd' is given twice"),
        ("[a.root]", "maps dataset names"),
        ("qcd: [a.root", "is no YAML: line 1"),
        ("qcd: [1]", "1 is no path"),
        ("qcd: [[a.root]]", "is no path"),
        ("qcd: {files: {a.root: 3}}", "is not a tree"),
        ("qcd: {files: [a.root], format: parquet}", "format: 'parquet'"),
        ("qcd: {files: [a.root], metadata: [1]}", "'metadata' must map"),
        ("qcd: {files: [a.root], metadata: {x: .nan}}", "nan"),
        ("qcd: {files: ['*.root']}", r"\*\.root: no file matches"),
        ("a: [x.root]\n---\nb: [y.root]", "line 2: a second document begins here"),
        ("a: &a {files: [x.root], metadata: *a}", "stands for a list or mapping that it is in itself"),
        ("", "names no dataset"),
        ("a: []", "names no file"),
    ],
)
def test_a_wrong_fileset_is_explained(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"f\.yaml: .*{says}"):
        read_fileset(tmp_path / "f.yaml")


def test_text_that_would_not_end_is_refused(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match="more than 100 deep"):
        read_fileset(shared_data("found/fileset_odd.yaml"))
    (tmp_path / "deep.json.gz").write_bytes(gzip.compress(b"[" * 100_000))
    with pytest.raises(InputError, match="more than 100 deep"):
        read_fileset(tmp_path / "deep.json.gz")
    levels = "\n".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]" for i in range(1, 12))
    (tmp_path / "bomb.yaml").write_text(f"x0: &x0 [a, b]\n{levels}\nd: {{files: [a.root], metadata: {{m: *x11}}}}\n")
    with pytest.raises(InputError, match=r"bomb\.yaml"):
        read_fileset(tmp_path / "bomb.yaml")
    (tmp_path / "half.json.gz").write_bytes(gzip.compress(b'{"d": ["a.root"]}')[:-9])
    with pytest.raises(InputError, match=r"half\.json\.gz: damaged, or no compressed text"):
        read_fileset(tmp_path / "half.json.gz")


def test_names_of_datasets_are_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(
        "no: [a.root]\n2018: {files: [b.root], metadata: {on: 2018-01-02}}\n1e3: [c.root]\n"
    )
    fileset = read_fileset(tmp_path / "f.yaml")
    assert list(fileset) == ["no", "2018", "1e3"]
    assert fileset["2018"]["metadata"] == {"on": "2018-01-02"}


def test_wildcards_stand_for_the_files_that_match(write_events: Callable[..., Path], tmp_path: Path) -> None:
    paths = [write_events(f"run{i}.root", [[(100.0, 0.0, 0.0)]], event=np.uint64([i])) for i in (2, 1)]
    names = sorted(map(str, paths))
    assert list(read_fileset(f"{tmp_path}/run*.root", dataset="d")["d"]["files"]) == names
    assert list(read_fileset(f"{tmp_path}/run[12].root")) == ["run1", "run2"]
    (tmp_path / "f.yaml").write_text("d: {files: ['run?.root'], treename: T}\n")
    assert read_fileset(tmp_path / "f.yaml")["d"]["files"] == dict.fromkeys(names, "T")
    (tmp_path / "odd[1].root").touch()
    assert list(read_fileset(tmp_path / "odd[1].root")) == ["odd[1]"]
    (tmp_path / "f.yaml").write_text("d: ['run*.root', run1.root]\n")
    with pytest.raises(InputError, match=r"run1\.root is given twice"):
        read_fileset(tmp_path / "f.yaml")
    with pytest.raises(InputError, match="stands for several files"):
        check_fileset({"d": {"files": {f"{tmp_path}/run*.root": {"steps": [[0, 1]]}}}})


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
    texts = [f"a: [{name}]", f"a: {{files: {{a.root: {name}}}}}", f"a: {{files: [a.root], treename: {name}}}"]
    for text in texts:
        path.write_text(text)
        with pytest.raises(InputError, match=r"fileset\.yaml: dataset 'a': .*stands in quotes"):
            read_fileset(path)
    with pytest.raises(InputError, match="dataset False is no name"):
        check_fileset({False: ["a.root"]})
