"""The notebook runs from top to bottom, is stored without outputs, and does what the README says."""

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
@pytest.mark.timeout(900)  # 2,000 QCD events are simulated and trained on twice: four minutes on a busy machine
def test_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    class ThisPython(KernelSpecManager):  # the kernel is the Python that runs the tests, whatever is registered
        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=argv, display_name=kernel_name, language="python")

    for name, value in (("EVENTS", "2000"), ("WORKERS", "2"), ("PSEUDO_EXPERIMENTS", "200")):
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    kernels = AsyncKernelManager(kernel_name="python3")
    kernels.kernel_spec_manager = ThisPython(parent=kernels)
    client = NotebookClient(notebook, km=kernels, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()

    result = json.loads((tmp_path / "first_search" / "out" / "result.json").read_text())
    assert result["cutflow"]["read"] == 1020
    text = "".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", []))
    assert "largest excess at" in text
    figures = [o for cell in notebook.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(figures) == 3
    assert (tmp_path / "first_search" / "out" / "report.html").stat().st_size > 10_000
