"""The study of generation at small size, on made-up jets: its tables, and that the figures are written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import study_generation as study
from benchmarks.jets import Jets
from hunch.processors import aligned_four_vectors


def made_up(n: int = 200) -> Jets:
    """Jets of 12 constituents around one axis, of different widths."""
    rng = np.random.default_rng(0)
    pt = np.sort(rng.exponential(60, (n, 12)), axis=1)[:, ::-1] + 5
    eta, phi = rng.uniform(0.05, 0.4, (n, 1)) * rng.normal(size=(2, n, 12))
    stored = np.stack([pt, eta, phi], axis=-1).astype(np.float32)
    total = pt.sum(axis=1)
    return Jets(aligned_four_vectors(stored), total / 5, total, stored)


@pytest.mark.slow  # eight figures
def test_every_vae_has_its_tables_and_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "jets", lambda _: made_up())
    monkeypatch.setattr(study, "trained_on", lambda: 200)
    monkeypatch.setattr(study, "seeds", lambda: (0, 1))
    for name, value in {"EPOCHS": 1, "IMAGE_EPOCHS": 1, "AROUND": 20, "STEPS": 3}.items():
        monkeypatch.setattr(study, name, value)
    for name in ("SETS", "IMAGES"):
        monkeypatch.setattr(study, name, dict(list(getattr(study, name).items())[:1]))
    result = json.loads(json.dumps(study.run(tmp_path)))
    figures = [f for part in ("constituents", "images", "rows") for f in result[f"{part}_figures"]]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(figures)
    assert len(figures) == 8
    features = {part: [row["feature"] for row in result[part]] for part in ("constituents", "images", "rows")}
    assert {"mass", "massless_mass", "pt", "width", "tau21"} <= set(features["constituents"])
    assert "pt" not in features["images"]  # normalised: the same for all
    assert [row["model"] for row in result["rows"] if row["feature"] == "mass"] == ["Vae", "Flow"]
    for row in result["constituents"]:
        assert row["wasserstein"] > 0 < row["by_chance"]
    assert result["constituents_latent"][0]["dcorr2"] >= result["constituents_latent"][0]["next_dcorr2"]
