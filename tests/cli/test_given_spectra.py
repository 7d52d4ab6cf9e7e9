"""Hunts in spectra of others, as a stranger asks for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from hunch.errors import HunchError

Call = Callable[..., tuple[int, str, str]]
FALLING = [4021, 2911, 2156, 1588, 1113, 884, 590, 427, 301, 214, 160, 108, 83, 55, 41, 24, 20, 13, 8, 7]
EDGES = [1530, 1607, 1687, 1770, 1856, 1945, 2037, 2132, 2231, 2332, 2438]
EDGES += [2546, 2659, 2775, 2895, 3019, 3147, 3279, 3416, 3558, 3704]
FEW = ("--pseudo-experiments", "20")


@pytest.mark.usefixtures("fast_hunt")
def test_a_spectrum_of_others_is_hunted_in(tmp_path: Path, call: Call) -> None:
    source, out = tmp_path / "s.json", tmp_path / "out"
    source.write_text(json.dumps({"edges": EDGES, "counts": FALLING}))
    status, text, err = call("hunt", str(source), "-o", str(out), *FEW, "--width", "0.05", "--seed", "3")
    assert (status, err) == (0, "")
    assert "largest excess at" in text
    result = json.loads((out / "result.json").read_text())
    assert {"mass", "p_local", "z_local", "p_global", "z_global", "p_global_is_bound"} <= set(result["best"])
    assert {"masses", "p_combined", "z_combined", "regions"} <= set(result["scan"])
    assert result["best"]["pseudo_experiments"] == 20
    assert result["signal_shape"]["width"] == 0.05
    assert result["configuration"]["seed"] == 3
    assert result["fit_range"]["edges"] == EDGES
    assert result["regions"]["regions"][0]["counts"] == FALLING
    names = {"p_value_scan", "fit_range", "spectrum_0"}
    assert {p.name for p in (out / "figures").iterdir()} == {f"{n}.{s}" for n in names for s in ("pdf", "png")}
    assert "Search for a resonance" in (out / "report.html").read_text()
    # what `hunch run` writes for its regions goes in again, and the masses can be narrowed down
    with uproot.recreate(tmp_path / "spectra.root") as file:
        for r in range(2):
            file[f"region_{r}"] = (np.array(FALLING, dtype=float), np.array(EDGES, dtype=float))
    again = tmp_path / "again"
    options = ("--masses", "2000", "2500", "--fit-range", "1600", "3560", "--function", "exponential")
    assert call("hunt", str(tmp_path / "spectra.root"), "-o", str(again), *FEW, *options)[0] == 0
    result = json.loads((again / "result.json").read_text())
    assert [r["name"] for r in result["scan"]["regions"]] == ["region_0", "region_1"]
    assert all(2000 <= m <= 2500 for m in result["scan"]["masses"])
    assert (result["fit_range"]["low"], result["fit_range"]["high"]) == (1607, 3558)
    assert result["cutflow"]["below the fit range"] == 2 * FALLING[0]


def test_a_spectrum_that_no_function_fits_is_said_to_be_so(tmp_path: Path, call: Call) -> None:
    source, out = tmp_path / "s.csv", tmp_path / "out"
    counts = [n * (180 if i % 4 < 2 else 100) for i, n in enumerate(FALLING)]
    rows = "".join(f"{a},{b},{n}\n" for a, b, n in zip(EDGES[:-1], EDGES[1:], counts, strict=True))
    source.write_text("m_low,m_high,count\n" + rows)
    status, text, err = call("hunt", str(source), "-o", str(out), *FEW)
    assert status == 0
    assert "global: none" in text
    assert "no significance is quoted" in err
    assert len(err.strip().splitlines()) == 1
    result = json.loads((out / "result.json").read_text())
    assert result["best"]["p_global"] is None
    assert any("no significance is quoted" in note for note in result["notes"])
    assert "No significance is quoted" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        ({"edges": EDGES, "counts": [-1, *FALLING[1:]]}, [], ["s.json", "bin 0 (1530 to 1607 GeV)", "-1"]),
        ({"edges": EDGES, "counts": [0.5, *FALLING[1:]]}, [], ["s.json", "bin 0", "0.5"]),
        ({"edges": EDGES, "counts": [0] * 20}, [], ["s.json", "empty"]),
        ({"edges": EDGES[:4], "counts": FALLING[:3]}, [], ["3 bins", "parameters"]),
        ({"edges": EDGES, "counts": FALLING[:8] + [0] * 12}, [], ["2231 to 3704", "zero"]),
        (
            {"edges": EDGES, "counts": FALLING},
            ["--fit-range", "1000", "9000"],
            ["wider than the spectrum", "1530 to 3704"],
        ),
        ({"edges": EDGES, "counts": FALLING}, ["--masses", "100", "200"], ["masses", "1530 to 3704"]),
        ({"edges": EDGES, "counts": FALLING}, ["--width", "0.4"], ["0.4", "too short"]),
        ({"edges": EDGES, "counts": FALLING}, ["--width", "-1"], ["width", "-1"]),
        ({"edges": EDGES, "counts": FALLING}, ["--sqrt-s", "3000"], ["sqrt_s = 3000"]),
        ({"edges": EDGES, "counts": FALLING}, ["--luminosity", "20"], ["--luminosity", "cross-section"]),
        ({"edges": EDGES, "counts": FALLING}, ["--force"], ["--force"]),
    ],
)
def test_bad_spectra_end_with_one_message_and_nothing_written(
    content: dict[str, Any], arguments: list[str], words: list[str], tmp_path: Path, call: Call
) -> None:
    source = tmp_path / "s.json"
    source.write_text(json.dumps(content))
    status, out, err = call("hunt", str(source), "-o", str(tmp_path / "out"), *FEW, *arguments)
    assert (status, out) == (2, "")
    assert all(word in err for word in words), err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == [source]


def test_hunt_tells_analyses_from_spectra(tmp_path: Path, call: Call) -> None:
    analysis = tmp_path / "a.yaml"
    analysis.write_text("samples: {data: [absent.root]}\noutput: out\n")
    status, _, err = call("hunt", str(analysis))
    assert (status, "absent.root" in err) == (2, True)
    status, _, err = call("hunt", str(analysis), "-o", "x", "--width", "0.1")
    assert (status, "--output, --width: for spectra" in err) == (2, True)
    (tmp_path / "s.json").write_text(json.dumps({"edges": EDGES, "counts": FALLING}))
    status, _, err = call("hunt", str(tmp_path / "s.json"))
    assert (status, "-o OUT is missing" in err) == (2, True)
    (tmp_path / "out" / ".stages").mkdir(parents=True)
    status, _, err = call("hunt", str(tmp_path / "s.json"), "-o", str(tmp_path / "out"))
    assert (status, "holds an analysis" in err) == (2, True)


def test_files_that_hold_no_spectrum_are_named(shared_data: Callable[[str], Path], tmp_path: Path, call: Call) -> None:
    for name, word in (("pybumphunter_data.root", "data (TTree)"), ("lhco_events_tiny.h5", "'mjj'")):
        status, _, err = call("hunt", str(shared_data(name)), "-o", str(tmp_path / "out"))
        assert status == 2
        assert name in err
        assert word in err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("fast_hunt")
def test_pybumphunters_own_data_are_hunted_in(shared_data: Callable[[str], Path], tmp_path: Path, call: Call) -> None:
    values = uproot.open(shared_data("pybumphunter_data.root"))["data"]["data"].array(library="np")
    counts, edges = np.histogram(values, np.linspace(0, 20, 61))
    (tmp_path / "s.json").write_text(json.dumps({"edges": edges.tolist(), "counts": counts.tolist()}))
    options = ("--function", "exponential", "--width", "0.065")
    status, _, err = call("hunt", str(tmp_path / "s.json"), "-o", str(tmp_path / "out"), *FEW, *options)
    assert (status, err) == (0, "")
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert 5 < result["best"]["mass"] < 6.2  # 150 events were put in at 5.5
    assert result["regions"]["regions"][0]["fit"]["p_value"] > 0.05
    assert result["cutflow"] == {
        "below the fit range": int(counts[0]),
        "above the fit range": 0,
        "s": int(counts[1:].sum()),
    }


@pytest.mark.usefixtures("fast_hunt")
def test_a_formula_of_ones_own_is_fitted(tmp_path: Path, call: Call) -> None:
    edges = np.linspace(1500, 4500, 41)
    centres = 0.5 * (edges[1:] + edges[:-1])
    counts = np.random.default_rng(4).poisson(3e4 * (centres / 1000) ** -6.5)
    spectrum = tmp_path / "spectrum.json"
    spectrum.write_text(json.dumps({"edges": edges.tolist(), "counts": counts.tolist()}))
    results = {}
    for name, function in {"formula": "(1-x)**p1 * x**(-p2 - p3*log(x))", "family": "dijet"}.items():
        out = tmp_path / name
        call_arguments = ("hunt", str(spectrum), "-o", str(out), "--pseudo-experiments", "20", "--function", function)
        assert call(*call_arguments)[0] == 0
        results[name] = json.loads((out / "result.json").read_text(), parse_constant=pytest.fail)
    fit = results["formula"]["regions"]["regions"][0]["fit"]
    assert fit["family"] == "(1-x)**p1 * x**(-p2 - p3*log(x))"
    families = results["formula"]["background_envelope"]["regions"][0]["families"]
    assert [f["family"] for f in families] == [fit["family"], "exponential"]
    assert results["family"]["regions"]["regions"][0]["fit"]["order"] == 3
    assert results["formula"]["scan"]["z_combined"] == pytest.approx(results["family"]["scan"]["z_combined"], abs=1e-4)
    status, _, err = call("hunt", str(spectrum), "-o", str(tmp_path / "x"), "--function", "x**-q1")
    assert status == 2
    assert "q1" in err
    assert not (tmp_path / "x").exists()


def test_widths_are_fixed_or_scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    given: dict[str, Any] = {}

    def taken(_sources: Any, _output: Path, **options: Any) -> dict[str, Any]:
        given.update(options)
        raise HunchError("nothing is hunted in here")

    monkeypatch.setattr("hunch.workflow.given_spectra.hunt_files", taken)
    command = ("hunt", str(tmp_path / "s.json"), "-o", str(tmp_path / "out"))
    for options, expected in (
        (("--width", "0.01", "0.10"), (0.01, 0.10)),
        (("--width", "0.01,0.1", "--seed", "2"), (0.01, 0.10)),
        (("--width=0.05",), 0.05),
        (("--width", "0.05", "--seed", "3"), 0.05),
    ):
        assert call(*command, *options)[0] == 2
        assert given["width"] == expected
    for wrong in (("0.1", "0.01"), ("1.5",), ("wide",), ("0.1,0.2,0.3",)):
        status, _, err = call(*command, "--width", *wrong)
        assert (status, "two that rise" in err) == (2, True)


def test_names_of_files_reach_no_terminal_raw(tmp_path: Path, call: Call) -> None:
    name = "a\x1b]0;owned\x07\x1b[2Kb\r\x00"
    folder = tmp_path / "x\x1b[31m"
    folder.mkdir()
    source = folder / "s.json"
    source.write_text(json.dumps({"edges": EDGES, "counts": {name: [-1, *FALLING[1:]]}}))
    status, text, err = call("hunt", str(source), "-o", str(tmp_path / "out"))
    assert (status, text) == (2, "")
    assert r"x\x1b[31m" in err
    assert r"a\x1b]0;owned\x07\x1b[2Kb\r\x00" in err
    assert not set("\x1b\x07\r\0") & set(err)
    status, _, err = call("hunt", "--width", "\x1b[31m", "x")
    assert (status, "\x1b" in err) == (2, False)


@pytest.mark.parametrize("option", ["--after-first", "--sqrt-s"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_number_is_finite(tmp_path: Path, call: Call, option: str, value: str) -> None:
    source = tmp_path / "s.json"
    source.write_text(json.dumps({"edges": EDGES, "counts": FALLING}))
    status, _, err = call("hunt", str(source), "-o", str(tmp_path / "out"), option, value)
    assert (status, f"{value} is no finite number" in err, (tmp_path / "out").exists()) == (2, True, False)


@pytest.mark.usefixtures("fast_hunt")
def test_a_spectrum_without_significance_has_no_limits_either(tmp_path: Path, call: Call) -> None:
    source, out = tmp_path / "s.json", tmp_path / "out"
    counts = [100 * n for n in FALLING]
    counts[8:10] = [0, 0]
    source.write_text(json.dumps({"edges": EDGES, "counts": counts}))
    assert call("hunt", str(source), "-o", str(out), *FEW)[0] == 0
    assert json.loads((out / "result.json").read_text())["best"]["no_significance"]
    status, _, err = call("limits", str(out))
    assert (status, "no limits, as no significance is quoted" in err) == (2, True)
    assert not (out / "limits.json").exists()
