"""Tables of events as they are hunted in: found among tables of bins, their unit, their regions, events that come twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hunch.analysis import read_spectra
from hunch.analysis.spectra.bins import spectra_of_table
from hunch.errors import InputError
from hunch.files import write_folder_aside
from hunch.table import EVENT_ID, Table, write_part, write_parts_record

N = 400


@pytest.fixture
def mass(rng: np.random.Generator) -> Any:
    return np.round(1000 + rng.exponential(400, N), 3)


def stored(path: Path, **columns: Any) -> Path:
    """Write columns as parquet, CSV or HDF5, whichever the suffix says."""
    frame = pd.DataFrame(columns)
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_hdf(path, key="t", format="table")
    return path


@pytest.mark.parametrize("kind", ["bom", "quoted", "comment"])
def test_a_csv_of_events_is_no_table_of_bins(kind: str, shared_data: Callable[[str], Path]) -> None:
    path = shared_data(f"found/csv_event_table/ev_{kind}.csv")
    given = read_spectra([path])
    rows = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line[0].isdigit()]
    assert sum(h.sum() for h in given.spectra.values()) + sum(given.cutflow.values()) == len(rows)


def test_old_mac_line_ends_and_columns_nobody_asked_for(shared_data: Callable[[str], Path]) -> None:
    assert read_spectra([shared_data("found/mac_line_ends/mac.csv")]).spectra["all events"].sum() == 300
    assert read_spectra([shared_data("found/parquet_list_column/one_list.parquet")]).spectra["all events"].sum() == 50


NAMES = np.array(["SR1", "SR2"] * (N // 2), dtype=object)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".h5"])
@pytest.mark.parametrize(
    ("given", "names"),
    [
        ([None, "", "  ", "NaN", "nan", "None", "null", "<NA>"], ["SR1", "SR2"]),
        (["#N/A", "-nan", r"\N", "NA", "n/a", "NaT", "NULL", "#NA"], ["SR1", "SR2"]),
        ([np.nan] * 8, ["region 1", "region 2"]),
    ],
)
def test_an_event_without_a_region_is_in_none_and_counted(
    given: list[Any], names: list[str], suffix: str, tmp_path: Path, mass: Any
) -> None:
    region = NAMES.copy() if names[0] == "SR1" else np.array([1.0, 2.0] * (N // 2))
    region[: len(given)] = given
    found = read_spectra([stored(tmp_path / f"t{suffix}", mjj=mass, region=region)])
    assert list(found.spectra) == names
    assert sum(h.sum() for h in found.spectra.values()) == N - 8
    assert found.cutflow == {"no value in the column region": 8}
    assert "8 events have no value in the column 'region' and are in no region" in found.notes[0]


def test_regions_are_numbers_where_all_of_them_are(mass: Any) -> None:
    for region in ([1, -1] * (N // 2), ["1", " -1"] * (N // 2), [b"1", b"-1"] * (N // 2), [1.0, -np.inf] * (N // 2)):
        spectra, cutflow = spectra_of_table(Table({"mjj": mass, "region": np.array(region)}), sqrt_s=13000)
        assert list(spectra) == ["region 1"]
        assert cutflow["in no region"] + cutflow["no value in the column region"] == N // 2
    with pytest.raises(InputError, match=f"column 'region' puts none of its {N} events in a region"):
        spectra_of_table(Table({"mjj": mass, "region": np.full(N, np.nan)}), sqrt_s=13000)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".h5"])
def test_the_unit_of_a_column_is_in_its_name_or_asked_for(suffix: str, tmp_path: Path, mass: Any) -> None:
    expected = read_spectra([stored(tmp_path / f"g{suffix}", mjj=mass)]).spectra["all events"]
    path = stored(tmp_path / f"t{suffix}", mjj=mass / 1000)
    with pytest.raises(
        InputError, match=r"column 'mjj': the mass ends at \d\.\d+, and no unit is stated: GeV or TeV\?"
    ):
        read_spectra([path])
    named = [stored(tmp_path / f"n{i}{suffix}", **{f"mjj{u}": mass / 1000}) for i, u in enumerate((" [TeV]", "_TeV"))]
    for source, unit in ((path, "TeV"), (named[0], None), (named[1], None)):
        found = read_spectra([source], mass_unit=unit).spectra["all events"]
        np.testing.assert_allclose(found.axes[0].edges, expected.axes[0].edges)
        assert found.sum() == N
    with pytest.raises(InputError, match="the file says that the mass is in TeV, --mass-unit says GeV"):
        read_spectra([named[0]], mass_unit="GeV")


def test_centres_of_bins_are_no_events(tmp_path: Path, mass: Any) -> None:
    bins = np.arange(1000, 5000, 100)
    path = stored(tmp_path / "t.csv", mjj=bins, count=np.arange(len(bins)))
    with pytest.raises(InputError, match=r"'mjj' rises from row to row beside a column 'count': centres of bins\?"):
        read_spectra([path])
    assert read_spectra([stored(path, mjj=np.sort(mass), event=np.arange(N))]).spectra["all events"].sum() == N


def test_events_are_there_once(tmp_path: Path, mass: Any) -> None:
    event = np.arange(N)
    event[9] = 5
    run = np.full(N, 300_000)
    twice = stored(tmp_path / "t.parquet", mjj=mass, run=run, event=event)
    with pytest.raises(InputError, match=r"1 events are there twice or more; the first: run 300000, event 5, in row 9"):
        read_spectra([twice])
    assert (
        read_spectra([stored(twice, mjj=mass, event=event)]).spectra["all events"].sum() == N
    )  # simulation, other masses
    first = stored(tmp_path / "a.parquet", mjj=mass, run=run, event=np.arange(N))
    second = stored(tmp_path / "b.parquet", mjj=mass[: N // 2], run=run[: N // 2], event=np.arange(N // 2))
    with pytest.raises(InputError, match=rf"a\.parquet and .*b\.parquet share {N // 2} events"):
        read_spectra([first, second])
    second = stored(tmp_path / "b.csv", mjj=mass[: N // 2])
    with pytest.raises(InputError, match=rf"a\.parquet and .*b\.csv share {N // 2} events"):
        read_spectra([first, second])


def test_a_folder_of_parts_is_a_table_of_events(tmp_path: Path, mass: Any) -> None:
    with write_folder_aside(tmp_path / "parts") as folder:
        write_part(folder, "0", Table({"mjj": mass, EVENT_ID: np.arange(N, dtype=np.uint64)}))
        write_parts_record(folder, ["mjj", EVENT_ID], {"representation": "features"}, rows=N)
    assert read_spectra([tmp_path / "parts"]).spectra["all events"].sum() == N


def test_weights_that_are_no_numbers_are_refused(mass: Any) -> None:
    with pytest.raises(InputError, match="column 'weight' holds NaN"):
        spectra_of_table(Table({"mjj": mass, "weight": np.full(N, np.nan)}), sqrt_s=13000)


@pytest.mark.parametrize("name", ["genWeight", "Weights", "event_weight", "w"])
def test_weights_are_known_by_their_names(name: str, tmp_path: Path, mass: Any) -> None:
    path = stored(tmp_path / "t.parquet", **{"mjj": mass, "puppiWeight": mass, name: mass})
    with pytest.raises(InputError, match=f"column '{name}' differs between events; data carry no weights"):
        read_spectra([path])


@pytest.mark.parametrize("name", ["a\0b", "a\ud800"])
def test_a_region_whose_name_no_result_could_hold_is_refused(name: str, tmp_path: Path, mass: Any) -> None:
    """result.json would be written with it, and never be read again."""
    suffix = ".parquet" if "\0" in name else ".json"
    if suffix == ".parquet":
        path = stored(tmp_path / "t.parquet", mjj=mass, region=np.array([name] * len(mass), dtype=object))
    else:
        path = tmp_path / "t\udcff.json"
        path.write_text('{"edges": [1, 2], "counts": [1]}')
    with pytest.raises(InputError, match=r"NUL character in 'a.*b', which no name can|its name is no text in UTF-8"):
        read_spectra([path])


def test_masses_that_are_text_or_negative_are_said_to_be_so(tmp_path: Path, mass: Any) -> None:
    with pytest.raises(
        InputError, match="'mjj' holds text, not numbers; store numbers as such; row 0 holds the text '1"
    ):
        read_spectra([stored(tmp_path / "text.parquet", mjj=mass.astype(str))])
    with pytest.raises(InputError, match=r"column 'mjj': row 0 holds -.* 400 rows no positive number"):
        read_spectra([stored(tmp_path / "negative.parquet", mjj=-mass)])
