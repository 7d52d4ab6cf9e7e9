from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pytest
import uproot

from hunch.errors import InputError
from hunch.hdf5 import StoredLists
from hunch.samples import convert_vaejet

PION = 0.13957
DATASET = "objects/jets/constituents"
Momenta = list[list[np.ndarray]]


def jets(rng: np.random.Generator, sizes: Sequence[tuple[int, int]]) -> Momenta:
    """(E, px, py, pz) of the constituents, by falling pT, of two jets for each event; sizes: how many each has."""
    events = []
    for both in sizes:
        event = []
        for n in both:
            pt = np.sort(rng.exponential(10, n) + 0.3)[::-1]
            eta, phi = rng.normal(0.5, 0.3, n), rng.uniform(-np.pi, np.pi, n)
            px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
            event.append(np.stack([np.sqrt(px**2 + py**2 + pz**2 + PION**2), px, py, pz], axis=1))
        events.append(event)
    return events


def write(
    path: Path, events: Sequence[Sequence[Any]], *, dtype: Any = np.float32, name: str = DATASET, **options: Any
) -> None:
    """The published layout: lists of numbers, (events, jets), and nine observables of each jet."""
    shape = (len(events), 2)
    with h5py.File(path, "w") as file:
        stored = file.create_dataset(name, shape, dtype=h5py.vlen_dtype(dtype), **options)
        for i, event in enumerate(events):
            for j, one in enumerate(event):
                stored[i, j] = np.asarray(one).reshape(-1).astype(dtype)
        file.create_dataset("objects/jets/obs", data=np.ones((*shape, 9), dtype=np.float32))


def read(path: Path) -> ak.Array:
    with uproot.open(path) as file:
        return file["Events"].arrays()


SIZES = [(3, 2), (40, 12), (1, 0), (0, 0), (7, 9), (120, 60)]


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("<f4", {}),
        (">f8", {"chunks": (4, 1)}),
        ("<f8", {"chunks": (4, 2), "compression": "gzip", "shuffle": True}),
        ("<f4", {"chunks": (100, 2), "maxshape": (None, 2)}),
    ],
)
@pytest.mark.parametrize("jet", [1, 2])
def test_jets_come_out_as_they_went_in(tmp_path, rng, dtype, options, jet):
    events = jets(rng, SIZES)
    write(tmp_path / "in.h5", events, dtype=dtype, **options)
    report = convert_vaejet(tmp_path / "in.h5", tmp_path / "out.root", jet=jet, chunk_size=4, progress=False)
    found = read(tmp_path / "out.root")
    own = [event[jet - 1] for event in events]
    assert found.event.tolist() == list(range(6))
    assert ak.num(found.PFCands_pt).tolist() == [len(one) for one in own]
    e, px, py, pz = np.concatenate(own).T
    flat = {name: ak.to_numpy(ak.flatten(found[f"PFCands_{name}"])) for name in ("pt", "eta", "phi", "mass")}
    assert flat["pt"] == pytest.approx(np.hypot(px, py), rel=1e-6)
    assert flat["eta"] == pytest.approx(np.arcsinh(pz / np.hypot(px, py)), rel=1e-5, abs=1e-6)
    assert flat["phi"] == pytest.approx(np.arctan2(py, px), rel=1e-6)
    assert flat["mass"][e < 30] == pytest.approx(PION, rel=0.01)
    assert "truth_signal" not in found.fields
    assert (report.n_events, report.n_particles, report.n_malformed) == (6, len(e), 0)
    assert (report.n_empty, report.n_signal, report.key) == (sum(len(o) == 0 for o in own), None, DATASET)


def test_zeros_are_dropped_a_fifth_number_is_left_out_and_a_label_is_given(tmp_path, rng):
    events = jets(rng, SIZES)
    write(tmp_path / "four.h5", events)
    padded = [[np.concatenate([np.c_[one, np.full(len(one), 0.5)], np.zeros((2, 5))]) for one in e] for e in events]
    write(tmp_path / "five.h5", padded)
    convert_vaejet(tmp_path / "four.h5", tmp_path / "four.root", progress=False)
    report = convert_vaejet(tmp_path / "five.h5", tmp_path / "five.root", numbers=5, truth=1, progress=False)
    four, five = read(tmp_path / "four.root"), read(tmp_path / "five.root")
    assert ak.array_equal(four.PFCands_pt, five.PFCands_pt)
    assert five.truth_signal.tolist() == [1] * 6
    assert (report.n_signal, report.n_empty) == (6, 1)
    with pytest.raises(InputError, match="no multiple of 4; 5 numbers a constituent fit all of them"):
        convert_vaejet(tmp_path / "five.h5", tmp_path / "no.root", progress=False)


def test_malformed_events_are_named_counted_and_left_out(tmp_path, rng, caplog):
    events = jets(rng, [(5, 3)] * 12)
    events[1][0] = events[1][0].reshape(-1)[:-1]
    events[4][0][2, 1] = np.nan
    events[6][0][0, 0] = -3.0
    events[9][0][1, 1:3] = 0.0
    events[11][0][4, 3] = np.inf
    events[2][1][0, 0] = np.nan  # of the other jet
    write(tmp_path / "in.h5", events)
    with caplog.at_level(logging.WARNING):
        report = convert_vaejet(tmp_path / "in.h5", tmp_path / "out.root", chunk_size=5, progress=False)
    found = read(tmp_path / "out.root")
    assert found.event.tolist() == [0, 2, 3, 5, 7, 8, 10]
    good = [events[i][0] for i in found.event]
    assert found.PFCands_pt[:, 0].tolist() == pytest.approx([np.hypot(*one[0, 1:3]) for one in good], rel=1e-6)
    assert (report.n_events, report.n_malformed) == (7, 5)
    for said in (
        "jet 1 of 5 of 12 events is malformed",
        "event 1: 19 numbers, no multiple of 4",
        "event 4: constituent 2, px: found nan; allowed: finite numbers",
        "event 6: constituent 0, E: found -3; allowed: E above 0",
        "event 9: constituent 1, pz",
        "event 11: constituent 4, pz: found inf",
    ):
        assert said in caplog.text


def test_the_order_of_the_components_is_checked(tmp_path, rng):
    write(
        tmp_path / "in.h5",
        [[one[:, [1, 2, 3, 0]] * [0, 1, 1, 1] + [1, 0, 0, 0] for one in e] for e in jets(rng, SIZES)],
    )
    with pytest.raises(InputError, match=r"have E < \|p\|: E, px, py, pz are expected in this order"):
        convert_vaejet(tmp_path / "in.h5", tmp_path / "out.root", progress=False)
    assert not (tmp_path / "out.root").exists()


def other_rows(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["objects/jets/obs"]
        file["objects/jets/obs"] = np.ones((5, 2, 9))


def linked(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file.move(DATASET, "elsewhere")
        file[DATASET] = h5py.SoftLink("/elsewhere")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda p, e: write(p, e, name="objects/jets/constituent"),
            "no dataset 'objects/jets/constituents'; did you mean",
        ),
        (lambda p, e: write(p, e, name=DATASET + "/a"), "'objects/jets/constituents' is a group"),
        (lambda p, e: write(p, e, dtype=np.int32), "holds lists of int32; lists of float32 or float64"),
        (lambda p, e: write(p, e, dtype=np.uint8), "holds lists of uint8; lists of float32"),  # how PyTables pickles
        (lambda p, _: plain(p, np.zeros((6, 2, 80))), "holds float64; lists of float32 or float64, of variable length"),
        (lambda p, _: plain(p, [["a", "b"]]), "of variable length, are expected"),
        (lambda p, _: plain(p, np.zeros((6, 2, 2)), h5py.vlen_dtype(float)), r"has the shape \(6, 2, 2\)"),
        (lambda p, _: plain(p, np.zeros((0, 2)), h5py.vlen_dtype(float)), "holds no events"),
        (lambda p, e: (write(p, e), other_rows(p)), "has 6 events, 'objects/jets/obs' has 5"),
        (lambda p, e: (write(p, e), linked(p)), "is a link to '/elsewhere'; no link is followed"),
        (
            lambda p, _: write(p, [[[1.0], [1.0]]]),
            "1 of its jets are malformed; event 0: 1 numbers",
        ),
        (
            lambda p, _: p.write_text("text"),
            "not an HDF5 file; an HDF5 file with objects/jets/constituents is expected",
        ),
    ],
)
def test_files_of_another_layout_are_refused(tmp_path, rng, make: Callable[[Path, Momenta], None], message):
    make(tmp_path / "in.h5", jets(rng, SIZES))
    with pytest.raises(InputError, match=message):
        convert_vaejet(tmp_path / "in.h5", tmp_path / "out.root", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5"]


def plain(path: Path, values: Any, dtype: Any = None) -> None:
    with h5py.File(path, "w") as file:
        if dtype is None:
            file[DATASET] = values
        else:
            file.create_dataset(DATASET, np.shape(values), dtype=dtype)


@pytest.mark.parametrize("chunks", [None, (4, 1)])
def test_a_length_that_the_file_cannot_hold_is_refused_before_it_is_allocated(tmp_path, rng, chunks):
    """The library allocates what stands there: 1.6 GB for a file of 40 kB."""
    path = tmp_path / "in.h5"
    events = jets(rng, [(5, 3)] * 8)
    write(path, events, chunks=chunks)
    with h5py.File(path) as file:
        stored = file[DATASET].id
        place = stored.get_offset() if chunks is None else stored.get_chunk_info(0).byte_offset
    raw = bytearray(path.read_bytes())
    assert raw[place : place + 4] == struct.pack("<I", 20)
    raw[place : place + 4] = struct.pack("<I", 400_000_000)
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"declares lists that take 1,600,00\d,\d+ bytes; the file has"):
        convert_vaejet(path, tmp_path / "out.root", progress=False)
    raw[place : place + 4] = struct.pack("<I", 24)  # fits the file, not the heap
    path.write_bytes(raw)
    with pytest.raises(InputError, match="truncated or damaged"):
        convert_vaejet(path, tmp_path / "out.root", progress=False)


def test_truncated_files_and_lists_that_were_never_written(tmp_path, rng):
    write(tmp_path / "in.h5", jets(rng, [(50, 40)] * 30))
    whole = (tmp_path / "in.h5").read_bytes()
    for share in (0.3, 0.9):
        (tmp_path / "cut.h5").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InputError, match="truncated or damaged"):
            convert_vaejet(tmp_path / "cut.h5", tmp_path / "out.root", progress=False)
    plain(tmp_path / "bare.h5", np.zeros((9, 2)), h5py.vlen_dtype(float))
    with pytest.raises(InputError, match=r"declares 9 x 2 values .* never written, or cut off"):
        convert_vaejet(tmp_path / "bare.h5", tmp_path / "out.root", progress=False)


def test_a_file_is_read_in_slices(tmp_path, rng, monkeypatch):
    write(tmp_path / "in.h5", jets(rng, [(5, 3)] * 20))
    asked: list[int] = []
    whole = StoredLists.slices

    def slices(self: StoredLists, size: int) -> Any:
        for first, lengths, values in whole(self, size):
            asked.append(len(lengths))
            yield first, lengths, values

    monkeypatch.setattr(StoredLists, "slices", slices)
    convert_vaejet(tmp_path / "in.h5", tmp_path / "out.root", chunk_size=8, progress=False)
    assert asked == [8, 8, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jet": 3}, "has 2 jets an event; jet 3 is asked for, allowed: 1 to 2"),
        ({"jet": 0}, "jet = 0; allowed: 1"),
        ({"numbers": 3}, "numbers = 3; allowed: 4"),
        ({"truth": 2}, "truth = 2; allowed: 0, 1"),
        ({"chunk_size": 0}, "chunk_size = 0"),
    ],
)
def test_wrong_options_are_named(tmp_path, rng, options, message):
    write(tmp_path / "in.h5", jets(rng, SIZES))
    with pytest.raises(InputError, match=message):
        convert_vaejet(tmp_path / "in.h5", tmp_path / "out.root", progress=False, **options)
    with pytest.raises(InputError, match="is the file to convert"):
        convert_vaejet(tmp_path / "in.h5", tmp_path / "in.h5", progress=False)
    with pytest.raises(InputError, match="no such file"):
        convert_vaejet(tmp_path / "absent.h5", tmp_path / "out.root", progress=False)
