from __future__ import annotations

import logging
from pathlib import Path

import awkward as ak
import numpy as np
import pandas as pd
import pytest
import uproot

from hunch.errors import InputError
from hunch.samples import convert_toptag

PION = 0.13957
COLUMNS = [f"{c}_{i}" for i in range(200) for c in ("E", "PX", "PY", "PZ")]
TRUTH = ["truthE", "truthPX", "truthPY", "truthPZ"]


def jets(rng: np.random.Generator, n: int) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """n jets in the layout of the reference data, and the (pt, eta, phi, mass) of their particles: pions and photons."""
    slots = np.zeros((n, 200, 4))
    particles = []
    for row, filled in enumerate([0, 200, *rng.integers(1, 120, n - 2)]):
        pt = np.sort(rng.exponential(10, filled) + 0.3)[::-1]
        eta, phi = rng.normal(0.5, 0.3, filled), rng.uniform(-np.pi, np.pi, filled)
        mass = np.where(rng.random(filled) < 0.5, PION, 0.0)
        px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
        slots[row, :filled] = np.stack([np.sqrt(px**2 + py**2 + pz**2 + mass**2), px, py, pz], axis=1)
        particles.append(np.stack([pt, eta, phi, mass]))
    frame = pd.DataFrame(slots.reshape(n, 800).astype(np.float32), columns=COLUMNS)
    truth = pd.DataFrame(rng.normal(0, 500, (n, 4)).astype(np.float32), columns=TRUTH)
    labels = pd.DataFrame({"ttv": rng.integers(0, 3, n), "is_signal_new": rng.integers(0, 2, n)})
    return pd.concat([frame, truth, labels], axis=1), particles


def read(path: Path) -> ak.Array:
    with uproot.open(path) as file:
        return file["Events"].arrays()


@pytest.mark.parametrize("layout", ["table", "fixed"])
@pytest.mark.parametrize("chunk_size", [7, 1000])
def test_jets_come_out_as_they_went_in(tmp_path, rng, layout, chunk_size):
    frame, particles = jets(rng, 20)
    frame.to_hdf(tmp_path / "in.h5", key="table", format=layout)
    report = convert_toptag(tmp_path / "in.h5", tmp_path / "out.root", chunk_size=chunk_size, progress=False)
    events = read(tmp_path / "out.root")
    assert events.event.tolist() == list(range(20))
    assert set(events.run.tolist()) == set(events.luminosityBlock.tolist()) == {1}
    assert events.truth_signal.tolist() == frame["is_signal_new"].tolist()
    assert ak.num(events.PFCands_pt).tolist() == [p.shape[1] for p in particles]
    expected = np.concatenate(particles, axis=1)
    for i, name in enumerate(("pt", "eta", "phi")):
        assert ak.to_numpy(ak.flatten(events[f"PFCands_{name}"])) == pytest.approx(expected[i], rel=1e-5, abs=1e-6)
    energy = expected[0] * np.cosh(expected[1])
    mass = ak.to_numpy(ak.flatten(events.PFCands_mass))
    # what float32 cannot tell from 0 is 0, and a resolved mass is the pion's
    assert np.all(mass[expected[3] == 0] == 0)
    resolved = (expected[3] > 0) & (energy < 30)
    assert resolved.sum() > 100
    assert mass[resolved] == pytest.approx(PION, rel=0.01)
    assert (report.key, report.n_events, report.n_empty, report.n_spacelike) == ("table", 20, 1, 0)
    assert (report.n_particles, report.n_signal) == (expected.shape[1], int(frame["is_signal_new"].sum()))
    assert not set(events.fields) & {"PFCands_charge", "PFCands_pdgId"}


def test_columns_are_found_by_name_in_any_order_and_when_searchable(tmp_path, rng):
    frame, _ = jets(rng, 12)
    frame.to_hdf(tmp_path / "in.h5", key="table", format="table")
    other = frame[rng.permutation(frame.columns)]
    other.to_hdf(tmp_path / "other.h5", key="jets", format="table", data_columns=["is_signal_new", "E_0"])
    for name in ("in", "other"):
        convert_toptag(tmp_path / f"{name}.h5", tmp_path / f"{name}.root", progress=False)
    assert ak.array_equal(read(tmp_path / "in.root"), read(tmp_path / "other.root"))


def test_an_energy_below_the_momentum_is_massless_and_counted(tmp_path, rng, caplog):
    frame, particles = jets(rng, 6)
    frame.loc[1, "E_0"] *= 0.999
    frame.loc[1, "E_3"] *= 1 - 1e-7
    frame.to_hdf(tmp_path / "in.h5", key="table", format="table")
    with caplog.at_level(logging.WARNING):
        report = convert_toptag(tmp_path / "in.h5", tmp_path / "out.root", progress=False)
    events = read(tmp_path / "out.root")
    assert report.n_spacelike == 1
    assert events.PFCands_mass[1][0] == 0
    assert events.PFCands_pt[1][0] == pytest.approx(particles[1][0][0], rel=1e-5)
    assert "1 particles have E < |p|" in caplog.text


def test_a_file_is_read_in_slices(tmp_path, rng, monkeypatch):
    frame, _ = jets(rng, 20)
    frame.to_hdf(tmp_path / "in.h5", key="table", format="table")
    asked = []
    from hunch.hdf5 import StoredTable

    whole = StoredTable.matrix
    monkeypatch.setattr(StoredTable, "matrix", lambda rows, a, b: asked.append((a, b)) or whole(rows, a, b))
    convert_toptag(tmp_path / "in.h5", tmp_path / "out.root", chunk_size=8, progress=False)
    assert asked == [(0, 8), (8, 16), (16, 20)]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.rename(columns={"E_0": "E0"}), r"in\.h5: key 'table': no column 'E_0'; did you mean 'E0'"),
        (lambda f: f.rename(columns={"is_signal_new": "is_signal"}), "'is_signal_new'; did you mean 'is_signal'"),
        (lambda f: put(f, 3, "PX_7", np.nan), "key 'table', row 3, column 'PX_7': found nan; allowed: finite"),
        (lambda f: put(f, 1, "E_5", -1.0), "row 1, column 'E_5': found -1; allowed: E above 0, or a slot of zeros"),
        (lambda f: put(f, 0, "PZ_5", 3.0), "row 0, column 'E_5': found 0; allowed: E above 0, or a slot of zeros"),
        (lambda f: put(put(f, 1, "PX_2", 0.0), 1, "PY_2", 0.0), "row 1, column 'PX_2': found 0; .* along the beam"),
        (lambda f: put(f, 4, "is_signal_new", 2), "row 4, column 'is_signal_new': found 2; allowed: 0 or 1"),
        (lambda f: f.iloc[:, :700].copy(), "no column 'E_175' among its 700; expected: E_0, PX_0"),
        (lambda f: f.drop(columns="PZ_17"), r"no column 'PZ_17' among its \d+; expected: E_0"),
        (lambda f: f.assign(extra="text"), "numbers are expected"),
    ],
)
@pytest.mark.parametrize("layout", ["table", "fixed"])
def test_wrong_content_is_named_and_nothing_written(tmp_path, rng, layout, spoil, message):
    spoil(jets(rng, 6)[0]).to_hdf(tmp_path / "in.h5", key="table", format=layout)
    with pytest.raises(InputError, match=message):
        convert_toptag(tmp_path / "in.h5", tmp_path / "out.root", chunk_size=2, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5"]


def test_a_table_without_rows_is_no_jet(tmp_path, rng):
    jets(rng, 3)[0].iloc[:0].to_hdf(
        tmp_path / "in.h5", key="table", format="fixed"
    )  # pandas stores a block of one number
    with pytest.raises(InputError, match="key 'table' holds no rows"):
        convert_toptag(tmp_path / "in.h5", tmp_path / "out.root", progress=False)


def put(frame: pd.DataFrame, row: int, column: str, value: float) -> pd.DataFrame:
    frame.loc[row, column] = value
    return frame


def test_files_that_are_none_and_keys_that_are_not_there(tmp_path, rng):
    frame, _ = jets(rng, 4)
    frame.to_hdf(tmp_path / "whole.h5", key="table", format="table")
    (tmp_path / "text.h5").write_text("not HDF5")
    (tmp_path / "cut.h5").write_bytes((tmp_path / "whole.h5").read_bytes()[:20_000])
    for name, message in (
        ("text.h5", "not an HDF5 file; a pandas HDF5 file of the top-tagging"),
        ("cut.h5", "truncated or damaged"),
        ("none.h5", "no such file"),
        ("", "is a directory"),
    ):
        with pytest.raises(InputError, match=message):
            convert_toptag(tmp_path / name, tmp_path / "out.root", progress=False)
    with pytest.raises(InputError, match="no key 'tabel'; did you mean 'table'"):
        convert_toptag(tmp_path / "whole.h5", tmp_path / "out.root", key="tabel", progress=False)
    with pytest.raises(InputError, match="is the file to convert"):
        convert_toptag(tmp_path / "whole.h5", tmp_path / "whole.h5", progress=False)
