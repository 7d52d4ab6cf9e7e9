"""Limits and checks of a hunt that is there already."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hunch.analysis import SignalErrors
from hunch.cli.spectra import signal_errors
from hunch.errors import HunchError
from hunch.workflow.given_spectra import RESULT_KEYS

Call = Callable[..., tuple[int, str, str]]


@pytest.mark.usefixtures("fast_hunt")
def test_limits_and_checks_of_a_hunt_in_a_spectrum(tmp_path: Path, call: Call) -> None:
    edges = np.linspace(1500, 4500, 41)
    centres = 0.5 * (edges[1:] + edges[:-1])
    counts = np.random.default_rng(4).poisson(3e5 * (centres / 1000) ** -6.5)
    spectrum = tmp_path / "spectrum.json"
    spectrum.write_text(json.dumps({"edges": edges.tolist(), "counts": counts.tolist()}))
    out = tmp_path / "out"
    assert call("hunt", str(spectrum), "-o", str(out), "--pseudo-experiments", "40")[0] == 0
    errors = ("--scale-error", "1500:0.01:0.02,4500:0.03:0.03", "--luminosity-error", "0.02")
    status, told, err = call("limits", str(out), "--points", "3", "--luminosity", "20/fb", *errors)
    assert (status, err) == (0, "")
    limits = json.loads((out / "limits.json").read_text(), parse_constant=pytest.fail)["signals"]["signal"]
    assert len(told.splitlines()) == len(limits["masses"]) + 1
    assert limits["observed_fb"][0] == pytest.approx(limits["observed"][0] / 20)
    assert limits["signal_errors"] == "mass scale 1 to 3 %, by mass, resolution 10 %, luminosity 2 %"
    assert limits["failures"] == []
    assert next((out / "limits" / "signal").glob("datacard_*.txt")).stat().st_size > 0
    numbers = ("--local", "200", "--outer", "3", "--inner", "20", "--injected", "40", "--workers", "1")
    status, told, err = call("validate", str(out), *numbers)
    assert status in {0, 1}
    assert ("FAIL" in told) == (status == 1)
    checks = json.loads((out / "validation.json").read_text(), parse_constant=pytest.fail)
    assert "says nothing of a function that is wrong" in checks["global_p"][0]["how"]
    assert checks["bias"]["experiments"] == 40
    assert [family["family"] for family in checks["bias"]["families"]] == ["exponential"]
    assert "bias test, global p below 0.05 without a signal" in told
    assert "experiments of the same fit, which cannot show a wrong function" in told
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<h2>Limits</h2>" in page
    assert "<h2>Validation</h2>" in page
    (out / "report.html").unlink()
    assert call("report", str(out))[0] == 0
    assert (out / "report.html").read_text(encoding="utf-8") == page
    status, _, err = call("report", str(out), "--force")
    assert (status, "only with an ANALYSIS" in err) == (2, True)
    # hunting again leaves nothing of an old answer
    assert call("hunt", str(spectrum), "-o", str(out), "--pseudo-experiments", "40")[0] == 0
    assert not (out / "limits.json").exists()
    assert not (out / "validation.json").exists()


def test_errors_of_a_signal_are_read_from_options() -> None:
    read = signal_errors(scale_error="0.02,0.01", resolution_error="0.2", efficiency_error=0.1, luminosity_error=None)
    assert read == SignalErrors(scale=(0.02, 0.01), resolution=0.2, efficiency=0.1)
    assert signal_errors(scale_error="2000:0.1:0.2") == SignalErrors(scale=[[2000.0, 0.1, 0.2]])
    assert signal_errors(scale_error=None) == SignalErrors()
    with pytest.raises(HunchError, match="--scale-error 'much': a number, up,down or MASS:up:down"):
        signal_errors(scale_error="much")
    with pytest.raises(HunchError, match="scale error is one number"):
        signal_errors(scale_error="0.1,0.1,0.1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("limits", "{empty}"), "result.json: not there yet"),
        (("validate", "{empty}"), "result.json: not there yet"),
        (("limits", "{empty}/foreign"), "result.json: no result of hunch run or hunch hunt; missing: best, scan"),
        (("validate", "{empty}/truncated"), "result.json: truncated or no JSON"),
        (("validate", "{empty}", "--retrain", "2"), "--retrain: only with an ANALYSIS"),
        (("limits", "{empty}", "--efficiencies", "a,b"), "--efficiencies 'a,b': numbers are expected"),
        (("limits", "{empty}/truncated"), "result.json: truncated or no JSON"),
        (("limits", "{empty}/deep"), "result.json: lists or mappings inside each other more than 100 deep"),
        (("validate", "{empty}/digits"), "result.json: holds 999999999999...9999 (5000 characters)"),
        (("limits", "{empty}/hollow"), "result.json: damaged, or written by another version of hunch (KeyError"),
        (("limits", "nothing.yaml"), "nothing.yaml"),
        (("validate", "nothing.yaml"), "nothing.yaml"),
        (("limits", "nothing.yaml", "--points", "3"), "--points: for the folder of a hunt"),
    ],
)
def test_limits_and_checks_say_what_is_missing(
    arguments: tuple[str, ...], message: str, tmp_path: Path, call: Call
) -> None:
    hollow = json.dumps({key: {} for key in RESULT_KEYS})
    made = {
        "foreign": '{"a": 1}',
        "truncated": '{"best": {',
        "deep": "[" * 9999,
        "digits": "9" * 5000,
        "hollow": hollow,
    }
    for folder, text in made.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "result.json").write_text(text)
    status, out, err = call(*(a.format(empty=tmp_path) for a in arguments))
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1
