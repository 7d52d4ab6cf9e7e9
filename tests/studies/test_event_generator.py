"""The study of generated whole events at small size, on made-up lists of objects: its tables, and that the figure is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import study_event_generator as study
from benchmarks.generate_events import made_up
from hunch.table import Table


@pytest.mark.slow
def test_generated_events_stand_beside_their_ceilings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = made_up(1200)[:, :11]
    metadata = {"representation": "objects", "settings": study.representation().settings()}
    monkeypatch.setattr(study, "simulated", lambda: Table({"objects": x.astype(np.float32)}, metadata))
    for name, value in {
        "EPOCHS": 1,
        "MODELS": 2,
        "GRID": ((1.0, 0.05),),
        "LEAST": 60,
        "MOST_COPIED": 100,
        "RARE": 0.5,
    }.items():
        monkeypatch.setattr(study, name, value)
    result = json.loads(json.dumps(study.run(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == [result["figure"]]
    grid = {row["events"]: row for row in result["grid"]}
    assert set(grid) == {"simulated", "training", "alpha 1, gamma 0.05", "prior"}
    assert grid["training"]["copied"] == 1
    assert grid["simulated"]["copied"] < 0.3
    assert grid["simulated"]["delta_kin"] > grid["alpha 1, gamma 0.05"]["delta_kin"]
    assert [row["generated"] for row in result["statistics"]] == [50, 200, 800, 8000]
    assert result["window"][0]["buffer"] > 0
