"""The study of decorrelation on made-up tables whose 13th column is the mass."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from benchmarks import study_decorrelation


@pytest.mark.slow
def test_boundaries_that_follow_the_mass_sculpt_less(
    tables: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables(6000)
    monkeypatch.setattr(study_decorrelation, "EPOCHS", 4)
    result = json.loads(json.dumps(study_decorrelation.run()))
    rows = {(row["training"], row["boundary"]): row for row in result["rows"]}
    assert len(rows) == 6
    bare = rows["plain", "one cut"]
    assert bare["jsd"] > 2 * bare["random_95"]
    for how, left in {"map": 0.75, "quantile": 0.5}.items():
        assert rows["plain", how]["jsd"] < left * bare["jsd"]
        assert rows["plain", how]["eps_b"] == pytest.approx(bare["eps_b"], abs=0.05)
    assert all(row["sic"] > 1 for row in rows.values())
