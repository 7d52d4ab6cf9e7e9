from __future__ import annotations

import awkward as ak
import numpy as np
import pandas as pd
import pytest
import tables
import uproot

from hunch.errors import InputError
from hunch.samples import convert_lhco


def rows(rng: np.random.Generator, n: int, *, label: bool = True) -> np.ndarray:
    """n events of up to 700 particles, some with none, some with all slots filled."""
    matrix = np.zeros((n, 2101 if label else 2100))
    for row, filled in enumerate([0, 700, *rng.integers(1, 300, n - 2)]):
        matrix[row, : 3 * filled : 3] = rng.exponential(20, filled) + 0.1
        matrix[row, 1 : 3 * filled : 3] = rng.uniform(-2.5, 2.5, filled)
        matrix[row, 2 : 3 * filled : 3] = rng.uniform(-np.pi, np.pi, filled)
    if label:
        matrix[:, 2100] = rng.integers(0, 2, n)
    return matrix


def check(path, matrix: np.ndarray) -> None:
    """Every event of the file holds the particles of its row, in order."""
    with uproot.open(path) as file:
        events = file["Events"].arrays()
    slots = matrix[:, :2100].reshape(len(matrix), 700, 3)
    assert events.event.tolist() == list(range(len(matrix)))
    assert set(events.run.tolist()) == set(events.luminosityBlock.tolist()) == {1}
    for i, name in enumerate(("pt", "eta", "phi")):
        expected = [slot[slot[:, 0] > 0, i].astype(np.float32).tolist() for slot in slots]
        assert ak.to_list(events[f"PFCands_{name}"]) == expected
    assert not np.any(ak.flatten(events.PFCands_mass))
    if matrix.shape[1] == 2101:
        assert events.truth_signal.tolist() == matrix[:, 2100].astype(int).tolist()


@pytest.mark.parametrize("layout", ["fixed", "table"])
@pytest.mark.parametrize("label", [True, False])
@pytest.mark.parametrize("chunk_size", [7, 1000])
def test_both_pandas_layouts(tmp_path, rng, layout, label, chunk_size):
    matrix = rows(rng, 20, label=label)
    pd.DataFrame(matrix).to_hdf(tmp_path / "in.h5", key="df", format=layout)
    report = convert_lhco(tmp_path / "in.h5", tmp_path / "out.root", chunk_size=chunk_size, progress=False)
    check(tmp_path / "out.root", matrix)
    assert (report.n_events, report.n_particles) == (20, int((matrix[:, :2100:3] > 0).sum()))
    assert report.n_signal == (int(matrix[:, 2100].sum()) if label else None)
    with uproot.open(tmp_path / "out.root") as file:
        names = set(file["Events"].keys())
    assert ("truth_signal" in names) == label
    assert not names & {"PFCands_charge", "PFCands_pdgId"}


@pytest.mark.parametrize("layout", ["fixed", "table"])
def test_a_label_of_another_type_is_a_block_of_its_own(tmp_path, rng, layout):
    matrix = rows(rng, 10)
    frame = pd.DataFrame(matrix).astype({2100: "int64"})
    frame.to_hdf(tmp_path / "in.h5", key="df", format=layout)
    convert_lhco(tmp_path / "in.h5", tmp_path / "out.root", progress=False)
    check(tmp_path / "out.root", matrix)


def test_the_public_sample(tmp_path, shared_data):
    source = shared_data("lhco_events_tiny.h5")
    report = convert_lhco(source, tmp_path / "out.root", chunk_size=300, progress=False)
    assert (report.n_events, report.n_signal, report.key) == (1000, 93, "df")
    with tables.open_file(str(source)) as file:
        matrix = file.root.df.block0_values.read()
    check(tmp_path / "out.root", matrix)


def write(path, matrix, **names) -> None:
    for key, value in ({"df": matrix} | names).items():
        pd.DataFrame(value).to_hdf(path, key=key)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: m[:, :2000], r"in\.h5: key 'df' has 2000 columns; allowed: 2100 .* or 2101"),
        (lambda m: put(m, 3, 4, np.nan), "key 'df', row 3, column 4: found nan; allowed: finite"),
        (lambda m: put(m, 2, 0, -1.0), "key 'df', row 2, column 0: found -1; allowed: pT of 0 or more"),
        (lambda m: put(m, 2, 2100, 7.0), "key 'df', row 2, column 2100: found 7; allowed: 0 or 1"),
        (lambda m: put(m, 5, 2100, np.nan), "key 'df', row 5, column 2100: found nan; allowed: finite"),
        (lambda m: put(m, 3, 1, -np.inf), "key 'df', row 3, column 1: found -inf; allowed: finite"),
        (lambda m: put(m, 3, 0, 1e39), "row 3, column 0: found 1e.39; allowed: pT up to 1e.06 GeV"),
        (lambda m: put(m, 3, 1, 1e10), "row 3, column 1: found 1e.10; allowed: eta from -20 to 20"),
        (lambda m: put(m, 3, 2, 180.0), "row 3, column 2: found 180; allowed: phi in radians"),
    ],
)
def test_wrong_content_is_named(tmp_path, rng, spoil, message):
    write(tmp_path / "in.h5", spoil(rows(rng, 6)))
    with pytest.raises(InputError, match=message):
        convert_lhco(tmp_path / "in.h5", tmp_path / "out.root", chunk_size=2, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5"]


def put(matrix: np.ndarray, row: int, column: int, value: float) -> np.ndarray:
    matrix[row, column] = value
    return matrix


def test_rows_without_a_particle_are_counted(tmp_path, rng, caplog):
    matrix = rows(rng, 8)
    matrix[[2, 5], :2100] = 0  # beside row 0
    matrix[3, :3] = 1e-50, 9e9, 9e9  # no pT in single precision, and angles of nothing
    matrix[4, :2100] = 0
    matrix[4, :3] = 1e-50, 1.0, 1.0
    write(tmp_path / "in.h5", matrix)
    with pytest.raises(InputError, match=r"row 3, column 1: found 9e.09"):
        convert_lhco(tmp_path / "in.h5", tmp_path / "out.root", progress=False)
    matrix[3, 1:3] = 1.0
    write(tmp_path / "in.h5", matrix)
    with caplog.at_level("WARNING"):
        report = convert_lhco(tmp_path / "in.h5", tmp_path / "out.root", chunk_size=3, progress=False)
    assert (report.n_events, report.n_empty) == (8, 4)
    assert "in.h5: 4 of 8 rows hold no particle; written as events without one" in caplog.text
    with uproot.open(tmp_path / "out.root") as file:
        events = file["Events"].arrays()
    assert events.event.tolist() == list(range(8))  # a row keeps its number
    assert (np.asarray(events.nPFCands) == 0).sum() == 4
    assert float(ak.min(events.PFCands_pt)) > 0


def test_keys_are_chosen_and_named(tmp_path, rng):
    matrix = rows(rng, 4)
    write(tmp_path / "in.h5", matrix, other=matrix[:2])
    with pytest.raises(InputError, match="holds the pandas keys: df, other; one is expected"):
        convert_lhco(tmp_path / "in.h5", tmp_path / "out.root", progress=False)
    with pytest.raises(InputError, match="no key 'othr'; did you mean 'other'"):
        convert_lhco(tmp_path / "in.h5", tmp_path / "out.root", key="othr", progress=False)
    assert convert_lhco(tmp_path / "in.h5", tmp_path / "out.root", key="other", progress=False).n_events == 2


def test_files_that_are_none(tmp_path, rng):
    (tmp_path / "text.h5").write_text("not HDF5")
    write(tmp_path / "whole.h5", rows(rng, 6))
    (tmp_path / "cut.h5").write_bytes((tmp_path / "whole.h5").read_bytes()[:50_000])
    for name, message in (
        ("text.h5", "not an HDF5 file"),
        ("cut.h5", "truncated or damaged"),
        ("none.h5", "no such file"),
        ("", "is a directory"),
    ):
        with pytest.raises(InputError, match=message):
            convert_lhco(tmp_path / name, tmp_path / "out.root", progress=False)
