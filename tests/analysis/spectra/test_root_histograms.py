"""Histograms of ROOT files: units in titles, keys and cycles, flow bins, and what is no spectrum of counts, named in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pytest
import uproot
from uproot.writing.identify import to_TAxis, to_TH1x

from hunch.analysis import read_spectra
from hunch.errors import InputError

EDGES = np.array([1000.0, 1058, 1118, 1181, 1246, 1313])
COUNTS = np.array([1203.0, 711, 402, 33, 0])


def th1(
    contents: Any = COUNTS,
    edges: Any = EDGES,
    *,
    x: str = "",
    y: str = "",
    flow: tuple[float, float] = (0, 0),
    variances: Any = (),
    dtype: Any = np.float64,
) -> Any:
    """Return a TH1 as ROOT stores it, with titles of its axes and flow bins."""
    data = np.array([flow[0], *contents, flow[1]]).astype(dtype)
    axis = to_TAxis("xaxis", x, len(edges) - 1, edges[0], edges[-1], fXbins=np.asarray(edges, dtype=np.float64))
    others = {"fYaxis": to_TAxis("yaxis", y, 1, 0, 1), "fZaxis": to_TAxis("zaxis", "", 1, 0, 1)}
    return to_TH1x("h", "t", data, 1.0, 1.0, 1.0, 1.0, 1.0, np.array(variances, dtype=np.float64), axis, **others)


def written(folder: Path, **histograms: Any) -> Path:
    with uproot.recreate(folder / "s.root", compression=None) as file:
        for name, histogram in histograms.items():
            file[name.replace("__", "/")] = histogram
    return folder / "s.root"


def only(given: Any) -> hist.Hist[Any]:
    (histogram,) = given.spectra.values()
    return histogram


@pytest.mark.parametrize(
    ("title", "per_gev"),
    [
        ("m_{jj} [TeV]", 1e-3),
        ("m (TeV)", 1e-3),
        ("m_{jj} / TeV", 1e-3),
        ("#it{m}_{jj} [TeV/#it{c}^{2}]", 1e-3),
        ("m_{jj}, #sqrt{s} = 13 TeV [GeV]", 1),
        ("#it{m} [GeV/c^{2}]", 1),
        ("m_{jj} (13 TeV)", 1),
        ("dijet mass in MeV", 1e3),
        ("", 1),
    ],
)
def test_the_title_of_the_axis_says_the_unit(title: str, per_gev: float, tmp_path: Path) -> None:
    path = written(tmp_path, h=th1(edges=EDGES * per_gev, x=title))
    np.testing.assert_allclose(only(read_spectra([path])).axes[0].edges, EDGES, rtol=1e-12)


def test_a_bump_of_a_spectrum_in_tev_is_found_in_gev(shared_data: Callable[[str], Path]) -> None:
    found = only(read_spectra([shared_data("found/root_tev_axis/tev.root")]))
    assert found.axes[0].edges[[0, -1]].tolist() == [1000, 6808]
    assert found.sum() == 40153


def test_masses_that_may_be_in_tev_are_asked_about(tmp_path: Path) -> None:
    path = written(tmp_path, h=th1(edges=EDGES / 1000))
    with pytest.raises(
        InputError, match=r"'h': the mass ends at 1\.313, and no unit is stated: GeV or TeV\?.*--mass-unit TeV"
    ):
        read_spectra([path])
    assert only(read_spectra([path], mass_unit="TeV")).axes[0].edges[-1] == 1313
    assert only(read_spectra([path], mass_unit="GeV")).axes[0].edges[-1] == 1.313
    assert only(read_spectra([path], sqrt_s=800)).axes[0].edges[-1] == 1.313
    path = written(tmp_path, h=th1(x="m [GeV]"))
    with pytest.raises(InputError, match="the file says that the mass is in GeV, --mass-unit says TeV"):
        read_spectra([path], mass_unit="TeV")
    path = written(tmp_path, h=th1(x="time [ns]"))
    with pytest.raises(InputError, match="the mass is in 'ns'; allowed: GeV, TeV, MeV"):
        read_spectra([path])


def test_the_width_in_the_title_of_the_other_axis_is_that_of_bins(tmp_path: Path) -> None:
    regular = np.linspace(1.0, 1.5, 6)
    path = written(tmp_path, h=th1(edges=regular, x="m [TeV]", y="Events / 0.1 TeV"))
    assert only(read_spectra([path])).values().tolist() == COUNTS.tolist()
    path = written(tmp_path, h=th1(y="Events / (100 GeV)"))
    with pytest.raises(InputError, match="events/100 GeV, in bins of 58 to 67 GeV; counts or a density"):
        read_spectra([path])
    given = read_spectra([path], unit="counts")
    assert only(given).values().tolist() == COUNTS.tolist()
    assert "the values are in counts (--unit), where the file says events/100 GeV" in given.notes[0]
    path = written(tmp_path, h=th1(np.round(COUNTS / np.diff(EDGES) / 19710, 9), y="d#sigma/dm_{jj} [pb/GeV]"))
    with pytest.raises(InputError, match=r"pb/GeV\); --luminosity turns it into events"):
        read_spectra([path])
    path = written(tmp_path, h=th1(np.array([58, 120, 63, 65, 67]) * 10.0, y="dN/dm [GeV^{-1}]"))
    given = read_spectra([path])
    assert only(given).values()[0] == 58 * 580


@pytest.mark.parametrize(
    ("histogram", "words"),
    [
        (th1(flow=(0, np.inf)), ["the overflow bin holds inf"]),
        (th1(flow=(np.nan, 0)), ["the underflow bin holds nan"]),
        (th1(flow=(0, -4)), ["the overflow bin holds -4"]),
        (th1(flow=(0, 3), variances=[0, *COUNTS, 9]), ["the overflow bin: 3 with variance 9"]),
        (th1(flow=(1, 0), variances=[2, *COUNTS, 0]), ["the underflow bin: 1 with variance 2"]),
        (th1(variances=[0, *(2 * COUNTS), 0]), ["bin 0 (1000 to 1058 GeV): 1203 with variance 2406"]),
        (th1(-COUNTS), ["bin 0 (1000 to 1058 GeV) holds -1203"]),
        (th1(COUNTS + 0.5), ["bin 0", "1203.5", "whole number"]),
        (th1(COUNTS * np.nan), ["bin 0", "NaN"]),
        (th1(edges=[*EDGES[:-1], np.inf]), ["edges rise", "inf"]),
        (th1(edges=[-np.inf, *EDGES[1:]]), ["edges rise", "-inf"]),
        (th1([2**24, 5, 4, 3, 2], dtype=np.float32), ["bin 0", "16777216", "TH1F stops to count"]),
        (th1([5, 127, 4, 3, 2], dtype=np.int8), ["bin 1", "127", "TH1C stops to count"]),
        (hist.Hist(hist.axis.StrCategory(["cut a", "cut b"])).fill(["cut a"]), ["labels (cut a, cut b)"]),
        (hist.Hist(hist.axis.Variable(EDGES), hist.axis.Regular(2, 0, 1)), ["is a TH2D", "one dimension"]),
    ],
)
def test_a_histogram_that_is_no_spectrum_of_counts_is_named(histogram: Any, words: list[str], tmp_path: Path) -> None:
    path = written(tmp_path, h=histogram, other=th1())
    with pytest.raises(InputError) as caught:
        read_spectra([f"{path}:h"])
    assert all(word in str(caught.value) for word in ("s.root: 'h'", *words)), str(caught.value)


def test_events_outside_of_the_bins_are_counted(tmp_path: Path) -> None:
    given = read_spectra([written(tmp_path, h=th1(flow=(3, 4)))])
    assert given.cutflow == {"below the bins": 3, "above the bins": 4}


def test_keys_in_folders_with_cycles_and_with_a_slash_of_their_own(tmp_path: Path) -> None:
    path = written(tmp_path, d__e__h=th1(), d__x=th1(COUNTS + 1))
    assert only(read_spectra([f"{path}:d/e/h"])).values()[0] == 1203
    assert only(read_spectra([f"{path}:d/e/h;1"])).values()[0] == 1203
    with pytest.raises(InputError, match=r"no histogram 'd/e/g'; did you mean 'd/e/h'\?"):
        read_spectra([f"{path}:d/e/g"])
    with pytest.raises(InputError, match="'d' is a TDirectory"):
        read_spectra([f"{path}:d"])
    with uproot.recreate(path) as file:
        file["h"], file["h"] = th1(), th1(COUNTS + 1)
    assert [only(read_spectra([f"{path}{end}"])).values()[0] for end in ("", ":h", ":h;2", ":h;1")] == [
        1204,
        1204,
        1204,
        1203,
    ]
    path = written(tmp_path, aXb=th1(), c=th1(COUNTS + 1))
    path.write_bytes(path.read_bytes().replace(b"aXb", b"a/b"))  # ROOT writes such a key, uproot makes a folder of it
    assert only(read_spectra([f"{path}:a/b"])).values()[0] == 1203
    with pytest.raises(InputError, match=r"name one: s\.root:a/b"):
        read_spectra([path])


def test_damaged_and_cut_files_are_one_line(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"spectrum_damaged\.root: 'region_0': damaged, or not written by ROOT: [^\n]*$"
    ):
        read_spectra([shared_data("found/spectrum_damaged.root")])
    whole = written(tmp_path, h=th1()).read_bytes()
    path = tmp_path / "cut.root"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.root: is cut off: \d+ of \d+ bytes"):
        read_spectra([path])
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"cut\.root: is empty"):
        read_spectra([path])
    with uproot.recreate(path) as file:
        file.mktree("Events", {"x": np.float64})
    with pytest.raises(
        InputError, match=r"no histogram \(TH1\); found: Events \(TTree\); events in a tree go through hunch run"
    ):
        read_spectra([path])


def test_mutated_files_end_in_one_line(tmp_path: Path) -> None:
    """Whatever a byte of the file becomes, the reader gives a spectrum or one message."""
    rng = np.random.default_rng(8)
    whole = written(tmp_path, h=th1(x="m [GeV]")).read_bytes()
    outcomes = []
    for _ in range(60):
        data = bytearray(whole)
        data[int(rng.integers(1300, 2300))] = int(rng.integers(256))  # behind it are the streamers
        (tmp_path / "m.root").write_bytes(data)
        try:
            read_spectra([tmp_path / "m.root"])
            outcomes.append("")
        except InputError as error:
            outcomes.append(str(error))
    assert "" in outcomes
    assert any(outcomes)
    assert not any("\n" in said for said in outcomes)
