"""Commands that read and write events and scores: real files that are wrong, what is skipped, what is not replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import uproot
from click.testing import CliRunner

from hunch.cli import cli
from hunch.models import Quak, Vae
from hunch.table import DIJET_COLUMNS, Table, read_table

Call = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("name", ["treemaker.root", "uproot-HZZ.root", "missing_luminosityBlock.root"])
def test_a_wrong_file_is_one_line_and_exit_2(
    name: str, shared_data: Callable[[str], Path], tmp_path: Path, call: Call
) -> None:
    table = tmp_path / "t.parquet"
    arguments = ("process", str(shared_data(name)), "-o", str(table), "--executor", "iterative")
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert name in err
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_truncated_directory_and_missing_files_are_named(
    shared_data: Callable[[str], Path], tmp_path: Path, call: Call
) -> None:
    truncated = tmp_path / "truncated.root"
    truncated.write_bytes(shared_data("pfnano.root").read_bytes()[:100_000])
    for path in (truncated, tmp_path, tmp_path / "absent.root"):
        status, _, err = call("process", str(path), "-o", str(tmp_path / "t.parquet"))
        assert status == 2
        assert str(path) in err
        assert "Traceback" not in err
    assert not (tmp_path / "t.parquet").exists()


@pytest.mark.parametrize("name", ["nano_dimuon.root", "nano_dy.root"])
def test_files_without_candidates_end_in_a_clear_statement(
    name: str, shared_data: Callable[[str], Path], tmp_path: Path, call: Call
) -> None:
    table = tmp_path / "t.parquet"
    arguments = ("process", str(shared_data(name)), "-o", str(table), "--executor", "iterative")
    status, out, err = call(*arguments)
    assert "Traceback" not in err
    if status == 0:
        assert "read" in out
        assert set(DIJET_COLUMNS) <= set(read_table(table).columns)
    else:
        assert status == 2
        assert name in err
        assert "candidates" in err


def test_bad_files_are_skipped_and_counted_on_request(
    shared_data: Callable[[str], Path], tmp_path: Path, call: Call
) -> None:
    good = tmp_path / "tiny.root"
    assert call("convert", "lhco", str(shared_data("lhco_events_tiny.h5")), str(good))[0] == 0
    table = tmp_path / "t.parquet"
    files = [str(good), str(shared_data("treemaker.root"))]
    arguments = ("process", *files, "-o", str(table), "--executor", "iterative", "--skip-bad-files")
    status, out, err = call(*arguments)
    assert status == 0
    assert "1000 events, 1 files skipped" in out
    assert err.count("treemaker.root") == 1
    stored = read_table(table)
    assert len(stored) == 1000
    assert stored["event"].tolist() == list(range(1000))
    assert int(stored["truth_signal"].sum()) == 93
    assert stored.metadata["ntrk"] == "all"
    assert len(stored.metadata["skipped"]) == 1


def test_event_files_become_images_or_constituents_of_jets(
    tmp_path: Path, call: Call, write_jets: Callable[[Path], Path]
) -> None:
    path, out = write_jets(tmp_path / "e.root"), tmp_path / "jets.parquet"

    def processed(*options: str) -> tuple[str, Table]:
        arguments = ("process", str(path), "-o", str(out), "--executor", "iterative", *options)
        status, told, err = call(*arguments)
        assert (status, err) == (0, "")
        return told, read_table(out)

    told, table = processed("--as", "images", "--set", "jets=1")
    assert "3 events, 0 files skipped" in told
    assert table["image_1"].shape == (3, 40, 40)
    assert table["event"].tolist() == [1, 2, 3]
    assert "mjj" not in table
    small = ("pixels=8", "radius=0.8", "max_pt=95")
    told, table = processed("--as", "images", *(word for key in small for word in ("--set", key)))
    assert "fewer than two jets" in told
    assert table["image_2"].shape == (1, 8, 8)
    assert table.metadata["settings"]["radius"] == 0.8
    own = ("jets=1", "max_constituents=4", "min_pt=75")
    _, table = processed("--as", "constituents", *(word for key in own for word in ("--set", key)))
    assert table["constituents_1"].shape == (2, 4, 3)
    assert table["constituents_1"][:, 0, 0].tolist() == [100, 80]
    _, table = processed()
    assert set(DIJET_COLUMNS) <= set(table.columns)


def test_no_events_become_a_table_of_ones_own(tmp_path: Path, call: Call) -> None:
    status, _, err = call("process", "a.root", "--as", "table", "-o", str(tmp_path / "t.parquet"))
    assert status == 2
    assert "--as table: no events become a table of your own; allowed: features, images, constituents" in err


def test_what_stands_at_the_outputs_place_is_not_lost(
    tmp_path: Path, call: Call, write_jets: Callable[[Path], Path]
) -> None:
    path = write_jets(tmp_path / "e.root")
    (tmp_path / "file.parquet").write_text("mine")
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "folder.parquet" / "notes.txt").write_text("mine")
    for name in ("file.parquet", "folder.parquet"):
        status, _, err = call("process", str(path), "-o", str(tmp_path / name), "--executor", "iterative")
        assert (status, "is not replaced" in err) == (2, True)
    assert (tmp_path / "file.parquet").read_text() == "mine"
    assert (tmp_path / "folder.parquet" / "notes.txt").read_text() == "mine"
    out = tmp_path / "table.parquet"
    for _ in range(2):  # a table of ours is
        assert call("process", str(path), "-o", str(out), "--executor", "iterative")[0] == 0
    (out / "notes.txt").write_text("mine")
    assert call("process", str(path), "-o", str(out), "--executor", "iterative")[0] == 2


def test_a_single_jet_is_simulated_in_the_window_asked_for(tmp_path: Path, call: Call) -> None:
    path = tmp_path / "jets.root"
    arguments = ("simulate", "jet_w", "-n", "3", "-o", str(path), "--workers", "1")
    options = ("--jet-pt", "400", "500", "--set", "m_w=60")
    status, out, _ = call(*arguments, *options)
    assert (status, "3 events of" in out) == (0, True)
    with uproot.open(path) as file:
        scalar = [sum(pt) for pt in file["Events"]["PFCands_pt"].array()]
    assert all(400 < pt < 560 for pt in scalar)


def test_whole_events_are_simulated_and_processed_to_objects(tmp_path: Path, call: Call) -> None:
    path, table = tmp_path / "a.root", tmp_path / "a.parquet"
    options = ("--workers", "1", "--no-multiple-interactions", "--set", "m_A=80", "--sqrt-s", "14TeV")
    status, out, _ = call("simulate", "event_a4l", "-n", "4", "-o", str(path), *options)
    assert (status, "4 events of" in out) == (0, True)
    arguments = ("process", str(path), "-o", str(table), "--executor", "iterative", "--as", "objects")
    assert call(*arguments, "--set", "max_jets=3")[0] == 0
    assert read_table(table)["objects"].shape == (4, 12, 3)
    status, _, err = call(*arguments[:-2])
    assert (status, "representation: objects takes" in err) == (2, True)


def test_adc2021_files_are_converted_and_processed(tmp_path: Path, call: Call) -> None:
    source, path, table = tmp_path / "in.h5", tmp_path / "a.root", tmp_path / "a.parquet"
    rows = np.zeros((3, 19, 4))
    rows[:, 0], rows[:, 5] = (20.0, 0.0, 1.0, 1.0), (30.0, 1.0, 2.0, 3.0)
    rows[2, 5, 0] = np.inf
    with h5py.File(source, "w") as file:
        file["Particles"] = rows
    status, out, err = call("convert", "adc2021", str(source), str(path), "--truth", "1")
    assert (status, "2 events, 2 with truth_signal = 1, 1 malformed and left out" in out) == (0, True)
    assert "row 2: slot 5, pT: found inf" in err
    assert call("process", str(path), "-o", str(table), "--executor", "iterative", "--as", "objects")[0] == 0
    np.testing.assert_allclose(read_table(table)["objects"], rows[:2, :, :3])


def test_phenoml_files_are_converted_processed_and_written_back(tmp_path: Path, call: Call) -> None:
    source, path, table = tmp_path / "in.csv", tmp_path / "a.root", tmp_path / "a.parquet"
    lines = [f"{i};zz;1;{50 + i};1;j,90,80.5,0.1,2;e-,30,20.25,-0.5,1;g,30,30,0,0" for i in range(20)]
    source.write_text("\n".join([*lines, "20;zz;1;50;1;x,1,2,3,4"]) + "\n")
    status, _, err = call("convert", "phenoml", str(source), str(path))
    assert (status, "--unit GeV, or --unit MeV to insist" in err) == (2, True)
    status, out, err = call("convert", "phenoml", str(source), str(path), "--unit", "GeV", "--truth", "1")
    assert (status, "20 events, 20 with truth_signal = 1, 1 malformed and left out" in out) == (0, True)
    assert "line 21: object 1, symbol: found 'x'" in err
    arguments = ("process", str(path), "-o", str(table), "--executor", "iterative", "--as", "objects")
    assert call(*arguments, "--set", "layout=list", "--set", "max_objects=10", "--set", "channel=2b")[0] == 0
    assert read_table(table)["objects"].shape == (0, 11, 5)
    assert call(*arguments, "--set", "layout=list")[0] == 0
    assert read_table(table)["objects"][3, :5, 4].tolist() == [0, 1, 7, 3, 0]
    back = tmp_path / "back.csv"
    status, out, _ = call("convert", "phenoml", str(path), str(back), "--process", "zz")
    assert (status, "20 events, 5 leading fields, 4 numbers an object" in out) == (0, True)
    assert (
        back.read_text().splitlines()[3] == "3;zz;1;53000;1;j,90000,80500,0.1,2;e-,30000,20250,-0.5,1;g,30000,30000,0,0"
    )
    assert call("convert", "phenoml", str(path), str(back), "--numbers", "3")[0] == 0
    assert back.read_text().splitlines()[3] == "1;53000;1;j,80500,0.1,2;e-,20250,-0.5,1;g,30000,0,0"
    for option, target, said in (("--unit", back, "an event file"), ("--numbers", path, "CSV")):
        status, _, err = call(
            "convert", "phenoml", str(path), str(target), option, "4" if option == "--numbers" else "GeV"
        )
        assert (status, f"{option}: is of the way to {said}" in err) == (2, True)


@pytest.mark.parametrize(
    "words",
    [
        ["simulate", "qcd", "-n", "1", "-o"],
        ["convert", "lhco", "a.h5"],
        ["convert", "toptag", "a.h5"],
        ["convert", "vaejet", "a.h5"],
        ["convert", "adc2021", "a.h5"],
        ["convert", "phenoml", "a.csv"],
    ],
)
def test_an_event_file_ends_in_root(words: list[str], tmp_path: Path) -> None:
    ran = CliRunner().invoke(cli, [*words, str(tmp_path / "events.txt")])
    assert "events.txt: event files are written as ROOT; a name that ends in .root is expected" in str(ran.exception)
    assert not list(tmp_path.iterdir())


def test_a_scorer_is_exported_and_scores_a_stream(tmp_path: Path, call: Call) -> None:
    rng = np.random.default_rng(0)
    quak = Quak(seed=0, device="cpu", max_epochs=1, hidden=8).fit(
        rng.normal(size=(300, 2)), priors={"p": rng.normal(1.0, 0.5, size=(200, 2))}
    )
    quak.save(tmp_path / "scorer")
    model, rows, out = tmp_path / "model.onnx", tmp_path / "rows.csv", tmp_path / "scores.csv"
    x = rng.normal(size=(50, 2))
    np.savetxt(rows, x, delimiter=",", header="a,b", comments="", fmt="%.17g")
    assert call("export", str(tmp_path / "scorer"), "-o", str(model))[0] == 0
    for scorer in (tmp_path / "scorer", model):
        assert call("score", "--stream", str(scorer), str(rows), "-o", str(out))[0] == 0
        found = np.genfromtxt(out, delimiter=",", names=True)["score"]
        np.testing.assert_allclose(found, quak.score(x), rtol=1e-5, atol=1e-9)
    rows.write_text("a\n1.0\n")
    status, _, err = call("score", "--stream", str(model), str(rows), "-o", str(out))
    assert status == 2
    assert "rows.csv" in err
    status, _, err = call("score", str(tmp_path / "a.yaml"), str(rows))
    assert (status, "only with --stream" in err) == (2, True)
    status, _, err = call("export", str(tmp_path / "nowhere"), "-o", str(model))
    assert (status, "no such folder" in err) == (2, True)


def test_a_scorer_generates_a_table_of_its_own_columns(tmp_path: Path, call: Call) -> None:
    rng = np.random.default_rng(0)
    vae = Vae(device="cpu", max_epochs=1, hidden=8).fit({"a": rng.normal(size=200), "n": rng.poisson(5, 200)})
    vae.save(tmp_path / "scorer")
    out = tmp_path / "made.parquet"
    assert call("generate", str(tmp_path / "scorer"), "-n", "40", "-o", str(out), "--seed", "3")[0] == 0
    table = read_table(out)
    np.testing.assert_array_equal(table.matrix(("a", "n")), vae.sample(40, seed=3))
    assert table.metadata["generated"]["seed"] == 3
    first = out.read_bytes()
    assert call("generate", str(tmp_path / "scorer"), "-n", "40", "-o", str(out), "--seed", "3")[0] == 0
    assert out.read_bytes() == first  # what was there is replaced, as by the other commands
    out.unlink()
    for extra, words in (
        (["--axis", "near"], "scorer: axis 'near': Vae is one model"),
        (["--seed", "-1"], "--seed"),
        (["-n", "2.5"], "-n"),
    ):
        status, said, err = call("generate", str(tmp_path / "scorer"), "-n", "4", "-o", str(out), *extra)
        assert (status, said) == (2, "")
        assert words in err
        assert "Traceback" not in err
    Quak(seed=0, device="cpu", max_epochs=1, hidden=8).fit(rng.normal(size=(200, 2))).save(tmp_path / "quak")
    status, _, err = call("generate", str(tmp_path / "quak"), "-n", "4", "-o", str(out))
    assert (status, "quak: Quak generates no events; what does: ConstituentVae" in err) == (2, True)
    (tmp_path / "a.root").write_bytes(b"no folder")
    status, _, err = call("generate", str(tmp_path / "a.root"), "-n", "4", "-o", str(out))
    assert (status, "a.root" in err) == (2, True)
    assert not out.exists()
