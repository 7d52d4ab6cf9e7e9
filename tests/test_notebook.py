"""Notebooks run from top to bottom and find what `hunch run` finds; they are stored without outputs, but for those of a study."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


STUDIES = {
    NOTEBOOKS / "contrastive.ipynb": "without rotations  half a turn: mean cosine",
    NOTEBOOKS / "normalised_autoencoder.ipynb": "trained on top, tagging qcd: normalised autoencoder",
    NOTEBOOKS / "outlier_exposure.ipynb": "global p",
    NOTEBOOKS / "whole_events.ipynb": "of the gluino events are above the threshold: cross sections above",
}
"""Those that take long and are stored with their figures, three each -> what one of them prints."""


@pytest.mark.parametrize("path", sorted({*NOTEBOOKS.glob("*.ipynb")} - {*STUDIES}), ids=lambda p: p.stem)
def test_is_stored_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert [cell.source[:40] for cell in code if cell.outputs or cell.execution_count is not None] == []


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_is_stored_as_it_ran(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = [output.output_type for cell in code for output in cell.outputs]
    assert "error" not in kinds
    text, figures = outputs_of(notebook)
    assert figures == 3
    assert STUDIES[path] in text
    # no path of the machine that it ran on
    assert not [part for part in ("/home/", "/root/", "/tmp/", "/Users/", "site-packages") if part in path.read_text()]


def executed(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **environment: str) -> Any:
    """Run a notebook in a folder with the Python that runs the tests, whatever kernels this machine has; return it."""
    from nbclient import NotebookClient

    kernel = folder / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    # on a busy machine what a cell prints comes after its reply: the default of 4 s loses it
    NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=1200,
        iopub_timeout=120,
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    return notebook


def outputs_of(notebook: Any) -> tuple[str, int]:
    """Return what a notebook printed and how many figures it shows."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    figures = [output for output in outputs if "image/png" in output.get("data", {})]
    return "".join(output.get("text", "") for output in outputs), len(figures)


@pytest.mark.slow
@pytest.mark.timeout(900)  # 2,000 QCD events are simulated, and trained on twice: minutes on a busy machine
def test_the_first_search_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = executed(
        "first_search.ipynb", tmp_path, monkeypatch, EVENTS="2000", WORKERS="2", PSEUDO_EXPERIMENTS="200"
    )
    result = json.loads((tmp_path / "first_search" / "out" / "result.json").read_text())
    assert result["cutflow"]["read"] == 1020
    assert (tmp_path / "first_search" / "out" / "report.html").stat().st_size > 10_000
    text, figures = outputs_of(notebook)
    assert "largest excess at" in text
    assert figures == 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_any_method_goes_to_a_p_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = executed("any_method.ipynb", tmp_path, monkeypatch, EVENTS="1600", WORKERS="2", PSEUDO_EXPERIMENTS="50")
    found = sorted((tmp_path / "any_method").glob("*/result.json"))
    assert len(found) == 3
    p = [json.loads(path.read_text())["best"]["p_global"] for path in found]
    assert all(0 < value <= 1 for value in p)
    text, figures = outputs_of(notebook)
    assert text.count("global p") == 3
    assert figures == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_outlier_exposure_goes_to_a_p_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = {"EVENTS": "1800", "WORKERS": "2", "PSEUDO_EXPERIMENTS": "50", "EPOCHS": "2"}
    notebook = executed("outlier_exposure.ipynb", tmp_path, monkeypatch, **size)
    result = json.loads((tmp_path / "outlier_exposure" / "out" / "result.json").read_text())
    assert 0 < result["best"]["p_global"] <= 1
    assert [compared["observable"]["name"] for compared in result["exposure"]["sculpting"]] == ["mJ_1"]
    text, figures = outputs_of(notebook)
    assert text.count("1/JSD") == 4
    assert figures == 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_normalised_autoencoders_tag_in_both_directions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = {"EVENTS": "900", "WORKERS": "2", "UPDATES": "50"}
    notebook = executed("normalised_autoencoder.ipynb", tmp_path, monkeypatch, **size)
    text, figures = outputs_of(notebook)
    found = re.findall(r"trained on (\w+), tagging (\w+): (.+?) +AUC (\S+),", text)
    assert [(trained, signal) for trained, signal, _, _ in found[::3]] == [("qcd", "top"), ("top", "qcd")]
    aucs = {(signal, name): float(auc) for _, signal, name, auc in found}
    assert len(aucs) == 6
    # so few updates do not find a maximum, but neither do they leave QCD jets below tops
    assert aucs["top", "normalised autoencoder"] > 0.8
    assert aucs["qcd", "normalised autoencoder"] > 0.6
    assert figures == 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_representations_go_to_a_p_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = {"EVENTS": "1500", "WORKERS": "2", "PSEUDO_EXPERIMENTS": "50", "EPOCHS": "3"}
    notebook = executed("contrastive.ipynb", tmp_path, monkeypatch, **size)
    result = json.loads((tmp_path / "contrastive" / "out" / "result.json").read_text())
    assert 0 < result["best"]["p_global"] <= 1
    text, figures = outputs_of(notebook)
    cosine = {
        name: float(found) for name, found in re.findall(r"(with\w*) rotations +half a turn: mean cosine (\S+);", text)
    }
    assert cosine["with"] > cosine["without"]
    assert figures == 3


@pytest.mark.slow
@pytest.mark.timeout(1500)  # some two events of channel 1 a second and core, fewer on a busy machine
def test_whole_events_go_from_csv_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = executed("whole_events.ipynb", tmp_path, monkeypatch, EVENTS="360", WORKERS="2", EPOCHS="3")
    text, figures = outputs_of(notebook)
    assert "sm: 240 events, 0 malformed lines" in text
    limits = json.loads((tmp_path / "whole_events" / "out" / "limits.json").read_text())["signals"]["gluinos"]
    assert limits["observed_fb"] > 0
    assert f"cross sections above {limits['observed_fb']:.0f} fb are excluded" in text
    # what tags gluinos without any training is told beside
    found = {name: float(auc) for name, auc in re.findall(r"^(EventVae|MET|HT) +AUC (\S+)", text, flags=re.MULTILINE)}
    assert found["MET"] > 0.7
    assert set(found) == {"EventVae", "MET", "HT"}
    assert figures == 3
