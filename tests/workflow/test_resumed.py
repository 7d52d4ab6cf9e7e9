"""A run that is killed goes on after its last finished chunk, sample, model or experiment, to what an undisturbed run writes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hunch.analysis.significance import experiments as pseudo
from hunch.config import Analysis, read_analysis
from hunch.errors import HunchError
from hunch.models.density.quak import Quak
from hunch.processors import runner
from hunch.processors.features import Features
from hunch.workflow import given_spectra
from hunch.workflow.given_spectra import hunt_files, limit_folder, report_folder, validate_folder
from hunch.workflow.older import MARK
from hunch.workflow.stages import run_stage
from hunch.workflow.stamps import file_hash

pytestmark = pytest.mark.usefixtures("small_family", "fast_hunt")


def killed(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, at: int) -> list[int]:
    """Have a function killed at its n-th call; returns the list of its calls."""
    original, calls = getattr(owner, name), []

    def counted(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return original(*args, **options)

    monkeypatch.setattr(owner, name, counted)
    return calls


def events_analysis(folder: Path, output: str) -> Analysis:
    (folder / "events.yaml").write_text(
        "samples: {data: [data.root], background: [background.root]}\nexecutor: iterative\n"
        f"features: [mJ_1, mJ_2]\njets: {{min_leading_pt: 200}}\noutput: {output}\n"
    )
    return read_analysis(folder / "events.yaml")


def test_chunks_and_samples_are_processed_once(
    make_events: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runner, "MIN_CHUNK", 50)
    make_events("data.root", 200, 1)
    make_events("background.root", 200, 2)
    undisturbed = events_analysis(tmp_path, "undisturbed")
    run_stage(undisturbed, "process", progress=False)
    settings = events_analysis(tmp_path, "out")
    calls = killed(monkeypatch, Features, "columns", 7)  # four chunks a sample: the third of the background
    with pytest.raises(KeyboardInterrupt):
        run_stage(settings, "process", progress=False)
    assert [p.name for p in (tmp_path / "out" / "tables").iterdir()] == ["data.parquet"]
    # a part that is not as it was does not count
    parts = sorted((tmp_path / "out" / ".stages" / "pieces").rglob("*.parquet"))
    assert len(parts) == 2
    parts[0].write_bytes(parts[0].read_bytes()[:-1])
    with caplog.at_level(logging.INFO, "hunch"):
        run_stage(settings, "process", progress=False)
    assert len(calls) == 7 + 3
    assert "1 of 4 chunks were finished by a run before" in caplog.text
    for name in ("data", "background"):
        assert file_hash(tmp_path / "out/tables" / f"{name}.parquet") == file_hash(
            tmp_path / "undisturbed/tables" / f"{name}.parquet"
        )
    assert not (tmp_path / "out" / ".stages" / "pieces" / "process").exists()
    # asked for, it is all done again
    assert run_stage(settings, "process", force=True, progress=False)
    assert len(calls) == 10 + 8


def tables_analysis(folder: Path, output: str) -> Analysis:
    (folder / "tables.yaml").write_text(
        "samples: {data: [data.csv]}\nfeatures: [a]\nfolds: 3\nscorer: {name: Quak, family: false}\n"
        f"training: {{max_epochs: 2, hidden: 8}}\noutput: {output}\n"
    )
    return read_analysis(folder / "tables.yaml")


def test_models_and_scores_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"mjj": 2000 * (1 - rng.random(600)) ** (-1 / 6), "a": rng.normal(size=600)})
    frame.to_csv(tmp_path / "data.csv", index=False)
    undisturbed, settings = tables_analysis(tmp_path, "undisturbed"), tables_analysis(tmp_path, "out")
    for name in ("process", "train", "score"):
        run_stage(undisturbed, name, progress=False)
    run_stage(settings, "process", progress=False)
    saved = killed(monkeypatch, Quak, "save", 2)
    with pytest.raises(KeyboardInterrupt):
        run_stage(settings, "train", progress=False)
    assert [p.name for p in (tmp_path / "out" / "models").iterdir() if p.is_dir()] == ["fold_0"]
    run_stage(settings, "train", progress=False)
    assert len(saved) == 4
    from hunch.workflow import score

    scored = killed(monkeypatch, score, "score_sample", 2)
    with pytest.raises(KeyboardInterrupt):
        run_stage(settings, "score", progress=False)
    run_stage(settings, "score", progress=False)
    assert len(scored) == 3
    for name in (
        "models/fold_0",
        "models/fold_1",
        "models/fold_2",
        "scores/data.parquet",
        "scores/calibration.parquet",
    ):
        assert file_hash(tmp_path / "out" / name) == file_hash(tmp_path / "undisturbed" / name) != ""


EDGES = np.linspace(1500, 4500, 31)


@pytest.fixture
def spectrum(tmp_path: Path) -> str:
    centres = 0.5 * (EDGES[1:] + EDGES[:-1])
    counts = np.random.default_rng(4).poisson(3e5 * (centres / 1000) ** -6.5)
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"edges": EDGES.tolist(), "counts": counts.tolist()}))
    return str(path)


OPTIONS: dict[str, Any] = {
    "pseudo_experiments": 40,
    "progress": False,
    "family": "exponential",
    "fit_range": (1500, 4500),
}


def test_a_hunt_in_a_spectrum_goes_on_and_leaves_no_old_answer(
    spectrum: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pseudo, "BLOCK", 10)
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    wanted = hunt_files([spectrum], undisturbed, **OPTIONS)
    hunt_files([spectrum], out, **{**OPTIONS, "seed": 7})
    page = (out / "report.html").read_text()
    calls = killed(monkeypatch, pseudo, "procedure", 2)
    with pytest.raises(KeyboardInterrupt):
        hunt_files([spectrum], out, **OPTIONS)
    assert (out / "report.html").read_text() == page.replace("<body>", "<body>" + MARK)
    assert json.loads((out / "result.json").read_text())["seed"] == 7
    # the first block of four is kept
    before = len(calls)
    assert hunt_files([spectrum], out, **OPTIONS) == wanted
    assert len(calls) - before == 3
    for name in ("result.json", "report.html"):
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes()
    assert not (out / ".spectra" / "pieces").exists()
    # killed while the answer is written: none is there
    killed(monkeypatch, given_spectra, "draw_spectrum_figures", 1)
    with pytest.raises(KeyboardInterrupt):
        hunt_files([spectrum], out, **{**OPTIONS, "seed": 7})
    assert not (out / "result.json").exists()
    assert not (out / "report.html").exists()


def test_a_hunt_that_is_refused_leaves_the_folder_as_it_was(spectrum: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    wrong = {**OPTIONS, "masses": (100, 200)}
    with pytest.raises(HunchError, match="masses"):
        hunt_files([spectrum], out, **wrong)
    assert not out.exists()
    hunt_files([spectrum], out, **OPTIONS)
    before = file_hash(out)
    with pytest.raises(HunchError, match="masses"):
        hunt_files([spectrum], out, **wrong)
    assert file_hash(out) == before


def test_a_result_that_was_changed_is_not_built_on(
    spectrum: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    hunt_files([spectrum], out, **OPTIONS)
    limit_folder(out, points=1)
    path, stored = out / "result.json", (out / "result.json").read_text()
    changed = json.loads(stored)
    changed["best"]["p_global"] = 1e-9
    path.write_text(json.dumps(changed))
    for do in (limit_folder, validate_folder):
        with pytest.raises(HunchError, match=r"out: the hunt no longer has what it wrote \(result.json was changed\)"):
            do(out)
    # limits of another result are not in its report
    report_folder(out)
    assert "<h2>Limits</h2>" not in (out / "report.html").read_text()
    assert "limits.json: left out of the report: limits is older than what it was made of (result.json" in caplog.text
    path.write_text(stored)
    report_folder(out)
    assert "<h2>Limits</h2>" in (out / "report.html").read_text()
    # a result alone, as people send it, is taken with a word
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "result.json").write_text(stored)
    monkeypatch.setattr(given_spectra, "limits_of", lambda *_, **__: {})
    monkeypatch.setattr(given_spectra, "report_folder", lambda _: None)
    limit_folder(alone)
    assert "has no stamp beside it" in caplog.text
