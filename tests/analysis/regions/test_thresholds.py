"""Thresholds of counting experiments: what they keep, fold by fold, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from hunch.analysis import fix_thresholds
from hunch.analysis.regions.thresholds import abcd_counts, above_thresholds
from hunch.errors import InputError


def test_each_fold_keeps_the_share_half_way_between_neighbours(rng: np.random.Generator) -> None:
    folds = rng.integers(0, 3, 6000)
    scores = rng.exponential(size=6000) * 10.0**folds
    thresholds = fix_thresholds(scores, folds, efficiency=0.05, n_folds=3)
    above = above_thresholds(scores, folds, thresholds)
    for f in range(3):
        own = np.sort(scores[folds == f])[::-1]
        keep = round(0.05 * len(own))
        assert above[folds == f].sum() == keep
        assert thresholds[f, 0] == 0.5 * (own[keep - 1] + own[keep])
    assert np.all(np.diff(np.log10(thresholds[:, 0])) > 0.8)


def test_independent_axes_keep_the_share_together(rng: np.random.Generator) -> None:
    held_out, others = rng.normal(size=(2, 40_000, 2))
    fold = np.zeros(40_000, dtype=int)
    thresholds = fix_thresholds(held_out, fold, efficiency=0.01)
    counts = abcd_counts(above_thresholds(others, fold, thresholds))
    assert sum(counts.values()) == 40_000
    assert counts["A"] == pytest.approx(400, abs=5 * np.sqrt(400))
    assert counts["B"] == pytest.approx(3600, abs=5 * np.sqrt(2 * 3600))
    assert counts["C"] == pytest.approx(3600, abs=5 * np.sqrt(2 * 3600))


def test_the_four_regions_are_named_as_they_lie() -> None:
    above = np.array([[True, True], [True, False], [True, False], [False, True], [False, False]])
    assert abcd_counts(above) == {"A": 1, "B": 2, "C": 1, "D": 1}


def test_what_cannot_be_is_refused(rng: np.random.Generator) -> None:
    scores, folds = rng.normal(size=30), np.zeros(30, dtype=int)
    with pytest.raises(InputError, match=r"fold 0 has 30 held-out background events .* at least 51 are needed"):
        fix_thresholds(scores, folds, efficiency=0.01)
    with pytest.raises(InputError, match="fold 1 has 0"):
        fix_thresholds(scores, folds, efficiency=0.1, n_folds=2)
    with pytest.raises(InputError, match="between 0 and 1; found 1"):
        fix_thresholds(scores, folds, efficiency=1.0)
    thresholds = fix_thresholds(scores, folds, efficiency=0.1)
    with pytest.raises(InputError, match=r"fold \[2\] have no threshold"):
        above_thresholds(scores, folds + 2, thresholds)
    with pytest.raises(InputError, match="2 axes of scores and 1 of thresholds"):
        above_thresholds(rng.normal(size=(30, 2)), folds, thresholds)
    with pytest.raises(InputError, match="2 of 30 events have a score that is not finite"):
        fix_thresholds(np.where(np.arange(30) < 2, np.nan, scores), folds, efficiency=0.1)
