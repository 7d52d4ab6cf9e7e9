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
