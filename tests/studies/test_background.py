"""The acceptance table of the background model, small: no truth makes global p too small, and a signal of 5 sigma stays one."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import study_background


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cms", "dplfall", "exp3", "ua2"])
def test_smooth_truths_give_no_discoveries(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_background, "DATASETS", 80)
    monkeypatch.setattr(study_background, "EXPERIMENTS", 60)
    told = study_background.cell(study_background.TRUTHS[name], 1e5, rng=np.random.default_rng(3))
    # 80 of 5 %: 12.5 % is three sigma above
    assert told["global_below_0.05"] < 0.125
    assert told["cut"] == 0
    assert told["refused"] <= 0.05
    assert told["worst_bias"] < 0.65 + 3 / np.sqrt(80)
    assert told["coverage_68"] > 0.62
    assert told["z5"][0] > 2.0
    assert min(told["z5"][1:]) > 3.6


def test_five_sigma_is_that_of_the_asimov_formula() -> None:
    expected, template = np.full(10, 1e4), np.eye(10)[3]
    found = study_background.five_sigma(expected, template)
    assert found == pytest.approx(500, rel=0.01)  # 5 sqrt(b), less a little
    edges, nu = study_background.expectation(study_background.TRUTHS["cms"], 1e5)
    assert nu.sum() == pytest.approx(1e5)
    assert edges[0] == 1530
    assert 3000 < study_background.last_mass(edges, nu) < edges[-1]
