"""Spectra that others made: every format gives the same counts, and what is no spectrum of counts is named."""

from __future__ import annotations

import itertools
import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import uproot

from hunch.analysis import read_luminosity, read_spectra
from hunch.analysis.spectra.units import counts_from, read_unit
from hunch.errors import InputError
from hunch.table import Table, write_table

EDGES = np.array([1000.0, 1058, 1118, 1181, 1246, 1313])
COUNTS = np.array([1203.0, 711, 402, 33, 0])
LUMINOSITY = "19.71/fb"


def hepdata(values: list[str], unit: str, name: str = "D(SIG)/DM") -> str:
    bins = "\n".join(f"  - {{low: {a:g}, high: {b:g}}}" for a, b in itertools.pairwise(EDGES))
    listed = "\n".join(f"  - errors:\n    - {{symerror: 0.1, label: stat}}\n    value: {v}" for v in values)
    return (
        f"dependent_variables:\n- header: {{name: {name}, units: {unit}}}\n  values:\n{listed}\n"
        f"independent_variables:\n- header: {{name: M(JJ), units: GEV}}\n  values:\n{bins}\n"
    )


def cross_sections(digits: int) -> list[str]:
    return [f"{n / (b - a) / 19710:.{digits}e}" for n, a, b in zip(COUNTS, EDGES, EDGES[1:], strict=False)]


def write(folder: Path, kind: str) -> tuple[Path, str | None]:
    """Write the spectrum in one format; return the file and the luminosity it needs."""
    rows = list(zip(EDGES, EDGES[1:], COUNTS, strict=False))
    path = folder / f"s.{kind.split('-', maxsplit=1)[0]}"
    if kind == "json":
        path.write_text(json.dumps({"edges": EDGES.tolist(), "counts": COUNTS.tolist()}))
    elif kind == "json-density":
        path.write_text(json.dumps({"edges": EDGES.tolist(), "densities": [n / (b - a) for a, b, n in rows]}))
    elif kind == "csv":
        path.write_text("m_low,m_high,count,error\n" + "".join(f"{a:g},{b:g},{n:g},1.5\n" for a, b, n in rows))
    elif kind == "csv-tev":
        lines = "".join(f"{(a + b) / 2000:g};{a / 1000:g};{b / 1000:g};{n / (b - a):.6g}\n" for a, b, n in rows)
        path.write_text("mjj [TeV];mjj_low [TeV];mjj_high [TeV];events_per_gev\n" + lines)
    elif kind == "csv-hepdata":
        head = '#: name: Table 1\n"M(JJ) [GEV]","M(JJ) [GEV] LOW","M(JJ) [GEV] HIGH","D(SIG)/DM [PB/GEV]","stat +","stat -"\n'
        lines = "".join(
            f"{(a + b) / 2:g},{a:g},{b:g},{x},1,-1\n" for (a, b, _), x in zip(rows, cross_sections(6), strict=True)
        )
        path.write_text(head + lines)
        return path, LUMINOSITY
    elif kind == "yaml":
        path.write_text(hepdata(cross_sections(6), "PB/GEV"))
        return path, LUMINOSITY
    else:
        with uproot.recreate(path) as file:
            file["h"] = (COUNTS, EDGES)
    return path, None


@pytest.mark.parametrize("kind", ["json", "json-density", "csv", "csv-tev", "csv-hepdata", "yaml", "root"])
def test_every_format_gives_the_same_counts(kind: str, tmp_path: Path) -> None:
    path, luminosity = write(tmp_path, kind)
    given = read_spectra([path], luminosity=None if luminosity is None else read_luminosity(luminosity))
    (histogram,) = given.spectra.values()
    np.testing.assert_allclose(histogram.axes[0].edges, EDGES, rtol=1e-12)
    assert histogram.values().tolist() == COUNTS.tolist()


@pytest.mark.parametrize(
    ("text", "width_gev", "pb"), [("PB/GEV", 1, 1), ("fb/TeV", 1e3, 1e-3), ("1 / GeV", 1, None), ("pb GeV^-1", 1, 1)]
)
def test_units(text: str, width_gev: float, pb: float | None) -> None:
    unit = read_unit(text)
    assert (unit.per_energy, unit.cross_section) == (width_gev, pb)


def test_luminosity_units_agree() -> None:
    assert read_luminosity("19.7").per_pb == pytest.approx(read_luminosity("19700/pb").per_pb) == pytest.approx(19700)
    with pytest.raises(InputError, match="-3"):
        read_luminosity("-3")


def test_digits_decide_what_a_density_can_be() -> None:
    edges = np.array([1000.0, 1100, 1200])
    fine = tuple(Decimal(t) for t in ("123.45", "0.07"))
    counts, note = counts_from(fine, edges, read_unit("events/GeV"), where="x")
    assert counts.tolist() == [12345, 7]
    assert note is not None  # 0.005 of 100 GeV is half an event: said, not silent
    with pytest.raises(InputError, match=r"bin 1 \(1100 to 1200 GeV\).*no whole number"):
        counts_from((Decimal("123.4500"), Decimal("0.0753")), edges, read_unit("events/GeV"), where="x")
    with pytest.raises(InputError, match="more than the statistical error"):
        counts_from((Decimal("1.2e2"), Decimal("3e-1")), edges, read_unit("events/GeV"), where="x")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("s.json", '{"edges": [1, 2, 3], "counts": [5, -1]}', ["s.json", "counts", "bin 1 (2 to 3 GeV)", "-1"]),
        ("s.json", '{"edges": [1, 2, 3], "counts": [5, 1.5]}', ["bin 1", "1.5", "--unit"]),
        ("s.json", '{"edges": [1, 2, 3], "mass_unit": "TeV", "counts": [0, 0]}', ["s.json", "empty"]),
        ("s.json", '{"edges": [1, 3, 2], "counts": [5, 1]}', ["edges", "3", "2"]),
        ("s.json", '{"edges": [1, 2], "counts": [5, 1]}', ["2 values", "2 bin edges"]),
        ("s.json", '{"edges": [1, 2], "count": [5]}', ["counts", "count"]),
        ("s.json", '{"edges": [1, 2, 3], "counts": [5, NaN]}', ["holds NaN, no number"]),
        ("s.json", "[1, 2", ["no JSON"]),
        ("s.csv", "low,high,count\n1,2,3\n3,4,5\n", ["bin 0 ends at 2", "bin 1 starts at 3"]),
        ("s.csv", "low,count\n1,3\n", ["upper bin edges", "low, count"]),
        ("s.csv", "low,high,count\n1,2,three\n", ["'count'", "three"]),
        ("s.csv", "low,high,n,events\n1,2,3,4\n", ["2 spectra"]),
        ("s.csv", "low,high,dsigma_dm\n1,2,3\n", ["dsigma_dm", "--unit pb/GeV"]),
        ("s.csv", "low,high,dsigma_dm [pb/GeV]\n1,2,3\n", ["--luminosity"]),
        ("s.csv", "low,high,value [furlong]\n1,2,3\n", ["furlong", "pb/GeV"]),
        ("s.yaml", "a: 1\n", ["HEPData", "found: a"]),
        ("s.yaml", hepdata(["1", "'-'", "2", "3", "4"], "EVENTS"), ["value 1", "'-'"]),
        (
            "s.yaml",
            "dependent_variables: []\n"
            + hepdata(["1"], "EVENTS").partition("\n  - errors")[2].partition("value: 1\n")[2],
            ["holds no spectrum"],
        ),
        ("s.root", "no root", ["s.root"]),
        ("s.txt", "", ["s.txt", ".json"]),
    ],
)
def test_what_is_no_spectrum_is_named(name: str, text: str, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_spectra([path])
    assert all(word in str(caught.value) for word in words), str(caught.value)


HEAD = "m_low,m_high,count\n"
ROWS = "".join(f"{a:g},{b:g},{n:g}\n" for a, b, n in zip(EDGES, EDGES[1:], COUNTS, strict=False))
TEV = "".join(f"{a / 1000:g},{b / 1000:g},{n:g}\n" for a, b, n in zip(EDGES, EDGES[1:], COUNTS, strict=False))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("s.csv", (HEAD + ROWS).replace("\n", "\r").encode()),
        ("s.csv", (HEAD + ROWS).replace("\n", "\r\n").encode()),
        ("s.csv", (HEAD + ROWS).encode("utf-16")),
        ("s.csv", b"\xef\xbb\xbf# mine\n" + (HEAD + ROWS).encode()),
        ("s.csv", (HEAD + ROWS).replace(",", ";").encode()),
        ("s.csv", (HEAD + ROWS).replace(",", "\t").encode()),
        ("s.csv", (HEAD + ROWS).replace("\n", ",\n").encode()),
        ("s.csv", ("m_low [TeV],m_high [TeV],count\n" + TEV).encode()),
        ("s.csv", ("m_low_TeV,m_high_TeV,count\n" + TEV).encode()),
        ("s.csv", ("m_low / TeV,m_high / TeV,count\n" + TEV).encode()),
        ("s.csv", b"m_low,m_high,count,stat,stat\n" + ROWS.replace("\n", ",1,1\n").encode()),
        ("s.json", json.dumps({"edges": EDGES.tolist(), "counts": [f"{n:g}" for n in COUNTS]}).encode("utf-16")),
        (
            "s.json",
            json.dumps({"edges": (EDGES * 1000).tolist(), "counts": COUNTS.tolist(), "mass_unit": "MeV"}).encode(),
        ),
    ],
)
def test_the_same_counts_however_they_are_written(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    (histogram,) = read_spectra([tmp_path / name]).spectra.values()
    np.testing.assert_allclose(histogram.axes[0].edges, EDGES, rtol=1e-12)
    assert histogram.values().tolist() == COUNTS.tolist()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("s.csv", (HEAD + ROWS)[:-3], ["line 6 has 2 cells", "3 are expected", "cut off"]),
        ("s.csv", HEAD + "1000,1058,5,6\n", ["line 2 has 4 cells"]),
        ("s.csv", HEAD, ["no rows"]),
        ("s.csv", ROWS, ["line 1 holds numbers"]),
        ("s.csv", (HEAD + ROWS).replace(",", " "), ["line 1 names one column", "semicolons"]),
        ("s.csv", HEAD + TEV, ["ends at 1.313", "GeV or TeV?"]),
        ("s.csv", "m_low [TeV],m_high [GeV],count\n" + ROWS, ["different units: TeV, GeV"]),
        ("s.csv", "m_low,m_high,events / 20 GeV\n" + ROWS, ["events/20 GeV", "bins of 58 to 67 GeV"]),
        ("s.csv", HEAD + '1000,1058,"1,203"\n', ["'1,203'", "a comma parts no digits"]),
        ("s.csv", (HEAD + "1000,1058,3").replace(",", ";") + ",5\n", ["'3,5'"]),
        ("s.csv", "m_low,m_high,count,count\n1,2,3,4\n", ["2 columns are called 'count'"]),
        ("s.csv", HEAD + '1000,1058,"3\n', ["line 2 is no row of cells"]),
        ("s.csv", HEAD + "1000,1058,1e-500000\n", ["no number of events"]),
        ("s.csv", HEAD + "1000,1058,9007199254740993\n", ["fewer than 2^53"]),
        ("s.csv", HEAD + "1000,1058,1e400\n", ["value 0", "double precision"]),
        ("s.csv", HEAD + "1000,1058,sNaN\n", ["'sNaN'", "no number"]),
        ("s.csv", "\n", ["is empty"]),
        ("s.json", "", ["is empty"]),
        ("s.json", '{"edges": [1000, 1058], "counts": {}}', ["counts: is empty"]),
        ("s.json", '{"edges": [1000], "counts": []}', ["1 bin edges"]),
        ("s.json", '{"edges": [1000, 1058], "counts": [true]}', ["value 0 is True"]),
        ("s.json", '{"edges": [1000, 1058], "counts": [null]}', ["value 0 is None"]),
        ("s.json", '{"edges": [1000, 1058], "counts": [[1, 2]]}', ["value 0 is a list"]),
        ("s.json", '{"edges": [1000, 1058], "counts": 5}', ["lists of numbers"]),
        ("s.json", '{"edges": [1000, 1058], "counts": [5], "units": "TeV"}', ["no key 'units'", "mass_unit"]),
        (
            "s.json",
            '{"edges": [1, 1.058], "densities": [5], "mass_unit": "TeV"}',
            ["per which unit", "--unit events/TeV"],
        ),
        ("s.json", '{"edges": [1, 1.058], "counts": [5], "mass_unit": "furlong"}', ["'furlong'", "GeV, TeV, MeV"]),
        ("s.json.gz", "", ["is compressed"]),
        ("s.yaml", "independent_variables: []\ndependent_variables: []\n", ["HEPData table"]),
    ],
)
def test_what_a_file_of_bins_lacks_is_named(name: str, content: str, words: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as caught:
        read_spectra([tmp_path / name])
    assert all(word in str(caught.value) for word in (name, *words)), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ((HEAD + ROWS).encode() + b"\0\0", ["line 7 holds NUL bytes"]),
        ((HEAD + ROWS + "# µ\n").encode("latin-1"), ["byte 0xb5 in line 7"]),
        (b"\x1f\x8b\x08" + bytes(20), ["is compressed (gzip)"]),
    ],
)
def test_what_is_no_text_is_named(content: bytes, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_spectra([tmp_path / "s.csv"])
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_stated_unit_of_the_mass_and_one_that_is_given(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"edges": (EDGES / 1000).tolist(), "counts": COUNTS.tolist()}))
    (found,) = read_spectra([path], mass_unit="TeV").spectra.values()
    assert found.axes[0].edges.tolist() == EDGES.tolist()
    with pytest.raises(InputError, match=r"'GeV'.*that of the mass is --mass-unit"):
        read_spectra([path], unit="GeV")
    path.write_text(json.dumps({"edges": (EDGES / 1000).tolist(), "counts": COUNTS.tolist(), "mass_unit": "TeV"}))
    with pytest.raises(InputError, match="the file says that the mass is in TeV, --mass-unit says MeV"):
        read_spectra([path], mass_unit="MeV")
    path.write_text(json.dumps({"edges": EDGES.tolist(), "counts": COUNTS.tolist(), "unit": "pb"}))
    (note,) = read_spectra([path], unit="counts").notes
    assert "the values are in counts (--unit), where the file says pb" in note


def test_a_last_line_without_an_end_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text((HEAD + ROWS).strip())
    assert "the last line has no line end (1246,1313,0)" in read_spectra([path]).notes[0]


def test_spectra_of_one_name_are_told_apart_by_their_qualifiers(tmp_path: Path) -> None:
    qualified = "  qualifiers:\n  - {name: RE, value: P P}\n  - {name: SQRT(S), units: GEV, value: '%s'}\n"
    tables = [hepdata([f"{n + i:g}" for n in COUNTS], "''", "N") for i in (0, 1)]
    blocks = [t.split("independent")[0].replace("dependent_variables:\n", "") for t in tables]
    both = [
        b.replace("  values:", qualified % energy + "  values:", 1)
        for b, energy in zip(blocks, (7000, 8000), strict=True)
    ]
    yaml = tmp_path / "s.yaml"
    yaml.write_text("dependent_variables:\n" + "".join(both) + "independent" + tables[0].split("independent")[1])
    csv = tmp_path / "s.csv"
    rows = ROWS.replace(",1203\n", ",1204\n")
    csv.write_text(f"#: SQRT(S) GEV,,7000\n{HEAD}{ROWS}\n#: SQRT(S) GEV,,8000\n{HEAD}{rows}".replace("count", "N"))
    for path, names in (
        (yaml, ["N (SQRT(S) 7000 GEV)", "N (SQRT(S) 8000 GEV)"]),
        (csv, ["N (SQRT(S) GEV 7000)", "N (SQRT(S) GEV 8000)"]),
    ):
        for source in (path, f"{path}:N"):
            with pytest.raises(InputError) as caught:
                read_spectra([source])
            assert all(name in str(caught.value) for name in names), str(caught.value)
        (found,) = read_spectra([f"{path}:{names[1]}"]).spectra.values()
        assert found.values()[0] == 1204


def test_a_region_is_given_once_and_no_region_is_lost(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for i, folder in enumerate(folders):
        folder.mkdir()
        (folder / "s.json").write_text(json.dumps({"edges": EDGES.tolist(), "counts": (COUNTS + i).tolist()}))
    paths = [folder / "s.json" for folder in folders]
    assert len(read_spectra(paths).spectra) == 3
    with pytest.raises(InputError, match="'s' is given twice"):
        read_spectra([paths[0], tmp_path / "b" / ".." / "a" / "s.json"])
    paths[1].write_text(paths[0].read_text())
    (note,) = read_spectra(paths).notes
    assert "'s' and 's (s.json)' hold the same 2349 events, bin by bin" in note


def test_root_files_with_several_histograms(tmp_path: Path) -> None:
    path = tmp_path / "s.root"
    with uproot.recreate(path) as file:
        for r in range(3):
            file[f"region_{r}"] = (COUNTS + r, EDGES)
    assert list(read_spectra([path]).spectra) == ["region_0", "region_1", "region_2"]
    with uproot.recreate(path) as file:
        file["dir/a"], file["b"] = (COUNTS, EDGES), (COUNTS + 1, EDGES)
        file["t"] = {"x": np.zeros(3)}
    assert list(read_spectra([f"{path}:dir/a"]).spectra) == ["dir/a"]
    for source, word in ((path, "dir/a, b"), (f"{path}:dir/c", "dir/a"), (f"{path}:t", "TH1")):
        with pytest.raises(InputError, match=word):
            read_spectra([source])


def test_weighted_histograms_are_refused(tmp_path: Path) -> None:
    import hist

    weighted = hist.Hist(hist.axis.Variable(EDGES), storage=hist.storage.Weight())
    weighted.fill([1010, 1010, 1100], weight=[2, 2, 1])
    with uproot.recreate(tmp_path / "s.root") as file:
        file["h"] = weighted
    with pytest.raises(InputError, match="weights"):
        read_spectra([tmp_path / "s.root"])


def test_regions_share_their_bins(tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    first.write_text('{"edges": [1, 2, 3], "mass_unit": "GeV", "counts": {"x": [5, 1], "y": [3, 2]}}')
    second.write_text('{"edges": [1, 2, 4], "mass_unit": "GeV", "counts": [5, 1]}')
    assert list(read_spectra([first]).spectra) == ["x", "y"]
    with pytest.raises(InputError, match="other bins"):
        read_spectra([f"{first}:x", second])


def test_a_table_of_events_is_filled_by_region_and_counted(tmp_path: Path, rng: np.random.Generator) -> None:
    mjj = 900 + rng.exponential(600, size=5000)
    region = rng.integers(-1, 2, size=5000)
    write_table(tmp_path / "t.parquet", Table({"mjj": mjj, "region": region}))
    given = read_spectra([tmp_path / "t.parquet"])
    assert list(given.spectra) == ["region 0", "region 1"]
    hunted = sum(h.sum() for h in given.spectra.values())
    kept = (region >= 0) & (mjj >= 1000)
    assert hunted == kept.sum()
    assert given.cutflow == {"below the bins": int((mjj < 1000).sum()), "in no region": int((region < 0).sum())}
    with pytest.raises(InputError, match="sqrt_s"):
        read_spectra([tmp_path / "t.parquet"], sqrt_s=2000)


@pytest.mark.parametrize("name", ["no", "2018", "null", "1e3", "2018-01-01"])
def test_a_hepdata_column_keeps_its_name_as_it_is_written(name: str, tmp_path: Path) -> None:
    bins = ", ".join(f"{{low: {a}, high: {a + 100}}}" for a in range(1000, 1300, 100))
    values = ", ".join("{value: 5}" for _ in range(3))
    path = tmp_path / "t.yaml"
    path.write_text(
        f"independent_variables: [{{header: {{name: m, units: GeV}}, values: [{bins}]}}]\n"
        f"dependent_variables: [{{header: {{name: {name}, units: events}}, values: [{values}]}}]\n"
    )
    assert list(read_spectra([path]).spectra) == [name]
