from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pytest
import uproot

from hunch.errors import InputError
from hunch.processors import Objects, Running, run_table
from hunch.samples import convert_adc2021

CODES = np.repeat([1, 2, 3, 4], [1, 4, 4, 10])
EDGES = np.repeat([0.0, 3.0, 2.1, 4.0], [1, 4, 4, 10])
LEAST = np.repeat([0.0, 3.0, 3.0, 15.0], [1, 4, 4, 10])
RUNNING = Running(executor="iterative", progress=False)


def rows(rng: np.random.Generator, n: int) -> np.ndarray:
    """Events in the published layout: each class by falling pT, within its acceptance, empty slots zeros; the eta of MET is 0."""
    found = np.zeros((n, 19, 4))
    pt = LEAST + 0.5 + rng.exponential(20, (n, 19))
    for first, last in ((1, 5), (5, 9), (9, 19)):
        pt[:, first:last] = np.sort(pt[:, first:last], axis=1)[:, ::-1]
        pt[:, first:last][np.arange(last - first) >= rng.integers(0, last - first + 1, n)[:, None]] = 0
    pt[:, 1] = np.maximum(pt[:, 1], 90.0)
    found[..., 0] = pt
    found[..., 1] = rng.uniform(-0.99, 0.99, (n, 19)) * EDGES
    found[..., 2] = rng.uniform(-np.pi, np.pi, (n, 19))
    found[..., 3] = CODES
    found[pt == 0] = 0
    return found


def write(path: Path, particles: np.ndarray, *, name: str = "Particles", **options: Any) -> Path:
    """The published layout, with the datasets beside that name columns and classes."""
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=particles, **options)
        file.create_dataset("Particles_Names", data=np.array([b"Pt", b"Eta", b"Phi", b"Class"]))
        classes = [b"MET_class_1", b"Four_Ele_class_2", b"Four_Mu_class_3", b"Ten_Jet_class_4"]
        file.create_dataset("Particles_Classes", data=np.array(classes))
        file.create_dataset("EvtId", data=np.arange(len(particles)))
    return path


def read(path: Path) -> ak.Array:
    with uproot.open(path) as file:
        return file["Events"].arrays()


@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "gzip"}, {"chunks": (7, 2, 1), "compression": "gzip", "shuffle": True}, {"dtype": ">f4"}],
)
def test_events_come_back_from_the_representation_as_they_went_in(tmp_path, rng, options):
    given = rows(rng, 50)
    source = write(tmp_path / "in.h5", given, **options)
    report = convert_adc2021(source, tmp_path / "out.root", chunk_size=13, progress=False)
    assert (report.n_events, report.n_malformed, report.n_empty, report.n_signal) == (50, 0, 0, None)
    assert report.n_particles == int((given[:, 1:, 0] > 0).sum())
    assert report.key == "Particles"
    found = run_table(tmp_path / "out.root", Objects(), RUNNING).table
    assert found["event"].tolist() == list(range(50))
    np.testing.assert_allclose(found["objects"], given[..., :3], rtol=1e-6, atol=1e-6)
    assert found["n_jet"].tolist() == (given[:, 9:, 0] > 0).sum(axis=1).tolist()
    assert "truth_signal" not in found.columns


def test_the_class_says_what_a_slot_holds_and_a_label_is_given(tmp_path, rng):
    given = rows(rng, 20)
    mixed = np.stack([event[rng.permutation(19)] for event in given])
    mixed[..., 1][mixed[..., 3] == 1] = 77.0  # of MET it means nothing
    report = convert_adc2021(write(tmp_path / "in.h5", mixed), tmp_path / "out.root", truth=1, progress=False)
    table = run_table(tmp_path / "out.root", Objects(), RUNNING).table
    np.testing.assert_allclose(table["objects"], given[..., :3], rtol=1e-6, atol=1e-6)
    assert table["truth_signal"].tolist() == [1] * 20
    pt = read(tmp_path / "out.root").Jet_pt
    assert ak.all(pt[:, :-1] >= pt[:, 1:])
    assert report.n_signal == 20
    # a slot of pT 0 is empty whatever else it says, as where jets beyond |eta| of 4 were taken out
    mixed[:, :, 1:][given[..., 0] == 0] = 0
    zeroed = given.copy()
    zeroed[:, 18] = (0.0, 0.0, 2.0, 4.0)
    convert_adc2021(write(tmp_path / "zero.h5", zeroed), tmp_path / "zero.root", progress=False)
    assert ak.all(read(tmp_path / "zero.root").Jet_pt > 0)


def test_malformed_rows_are_named_counted_and_left_out(tmp_path, rng, caplog):
    given = rows(rng, 20)
    given[1, 0, 2] = np.nan
    given[4, 1, 0] = -3.0
    given[6, 1, 3] = 7.0
    given[8, 2] = (20.0, 0.0, 0.0, 1.0)
    given[9, 1, 1] = -999.0
    given[11, 1, 2] = 180.0
    given[13, 0, 0] = 1e7
    given[15, 1:] = 0.0
    given[16] = 0.0
    with caplog.at_level(logging.WARNING):
        report = convert_adc2021(write(tmp_path / "in.h5", given), tmp_path / "out.root", chunk_size=6, progress=False)
    found = read(tmp_path / "out.root")
    bad = (1, 4, 6, 8, 9, 11, 13)
    assert found.event.tolist() == [i for i in range(20) if i not in bad]
    assert (report.n_events, report.n_malformed, report.n_empty) == (13, 7, 2)
    good = np.delete(given, bad, axis=0)
    assert ak.to_numpy(found.MET_pt) == pytest.approx(good[:, 0, 0], rel=1e-6)
    assert ak.num(found.Electron_pt).tolist() == (good[:, 1:5, 0] > 0).sum(axis=1).tolist()
    for said in (
        "7 of 20 rows are malformed",
        "row 1: slot 0, phi: found nan; allowed: finite numbers",
        "row 4: slot 1, pT: found -3; allowed: 0 or more",
        "row 6: slot 1, class: found 7; allowed: 1 (MET), 2 (electron), 3 (muon), 4 (jet)",
        "row 8: more than one missing transverse momentum",
        "row 9: slot 1, eta: found -999",
        "row 11: slot 1, phi: found 180",
        "row 13: slot 0, pT: found 1e+07",
        "2 of 13 events hold no electron, muon or jet",
    ):
        assert said in caplog.text
    table = run_table(tmp_path / "out.root", Objects(), RUNNING)
    assert (table.cutflow["no object"], table.rows) == (2, 11)


def test_what_is_no_such_file_is_refused(tmp_path, rng):
    given = rows(rng, 10)
    target = tmp_path / "out.root"

    def refused(path: Path, says: str, **options: Any) -> None:
        with pytest.raises(InputError, match=says):
            convert_adc2021(path, target, progress=False, **options)
        assert not target.exists()

    refused(write(tmp_path / "name.h5", given, name="particles"), "no dataset 'Particles'; did you mean 'particles'")
    refused(write(tmp_path / "three.h5", given[..., :3]), r"shape \(10, 19, 3\); \(rows, 19, 4\) is expected")
    refused(write(tmp_path / "flat.h5", given.reshape(10, -1)), r"shape \(10, 76\)")
    refused(write(tmp_path / "none.h5", given[:0]), "holds no events")
    refused(write(tmp_path / "text.h5", given.astype("S8")), "holds .*; numbers are expected")
    degrees = given.copy()
    degrees[..., 2] *= 180 / np.pi
    refused(write(tmp_path / "degrees.h5", degrees), "10 of 10 rows are malformed; row 0: slot")
    whole = write(tmp_path / "whole.h5", given)
    refused(whole, "truth = 2", truth=2)
    refused(whole, "chunk_size = 0", chunk_size=0)
    (tmp_path / "cut.h5").write_bytes(whole.read_bytes()[:4000])
    refused(tmp_path / "cut.h5", "truncated or damaged|cut off")
    (tmp_path / "no.h5").write_bytes(b"nothing")
    refused(tmp_path / "no.h5", "not an HDF5 file; an HDF5 file with Particles")
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("Particles", (10**9, 19, 4), chunks=(100, 19, 4), dtype="f8")
    refused(tmp_path / "huge.h5", "never written, or cut off")
    with h5py.File(tmp_path / "objects.h5", "w") as file:
        file.create_dataset("Particles", (10, 19, 4), dtype=h5py.special_dtype(vlen=str))
    refused(tmp_path / "objects.h5", "numbers are expected")
