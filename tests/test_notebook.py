"""The notebook is stored without outputs, runs from top to bottom, and finds what `hunch run` finds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "first_search.ipynb"


def test_is_stored_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert [cell.source[:40] for cell in code if cell.outputs or cell.execution_count is not None] == []


@pytest.mark.slow
@pytest.mark.timeout(900)  # 2,000 QCD events are simulated, and trained on twice: minutes on a busy machine
def test_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    # the kernel is the Python that runs the tests, whatever kernels are registered on this machine
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    for name, value in (("EVENTS", "2000"), ("WORKERS", "2"), ("PSEUDO_EXPERIMENTS", "200")):
        monkeypatch.setenv(name, value)

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook, kernel_name="python3", timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()

    result = json.loads((tmp_path / "first_search" / "out" / "result.json").read_text())
    assert result["cutflow"]["read"] == 1020
    assert (tmp_path / "first_search" / "out" / "report.html").stat().st_size > 10_000
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert "largest excess at" in "".join(output.get("text", "") for output in outputs)
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) == 3
