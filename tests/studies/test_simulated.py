"""Samples and figures of merit of the studies: simulated once, cut as stated, errors that add up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import simulated
from hunch.analysis import evaluate
from hunch.table import QUAK_FEATURES


def test_a_sample_is_simulated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUNCH_STUDY", str(tmp_path / "study"))
    made = simulated.table("zprime_xy", 8, 5, (3500, 500, 100))
    assert 0 < len(made) <= 8
    assert [p.name for p in (tmp_path / "study").iterdir()] == ["zprime_xy_3500_500_100_8_5.parquet"]

    def again(*_: object, **__: object) -> None:
        raise AssertionError("simulated again")

    monkeypatch.setattr(simulated, "simulate", again)
    np.testing.assert_array_equal(simulated.table("zprime_xy", 8, 5, (3500, 500, 100))["mjj"], made["mjj"])
    with pytest.raises(AssertionError, match="simulated again"):
        simulated.table("zprime_xy", 9, 5, (3500, 500, 100))


def test_samples_are_cut_and_labelled(tables: Callable[[], None]) -> None:
    tables()
    qcd = simulated.table("qcd", 400, simulated.TRAIN_SEED)
    assert len(simulated.training_background()) == (qcd["mjj"] >= 2800).sum() < len(qcd)
    x, label = simulated.tested()
    tested = [
        simulated.table("qcd", 400, simulated.TEST_SEED),
        simulated.table("zprime_xy", 200, 101, (3500, 500, 100)),
    ]
    inside = [t.select((t["mjj"] >= 3000) & (t["mjj"] < 4200)) for t in tested]
    np.testing.assert_array_equal(np.bincount(label), [len(t) for t in inside])
    np.testing.assert_array_equal(x[label == 1], inside[1].matrix(QUAK_FEATURES))
    stated = simulated.sizes(label, 3)
    assert stated["tested_background"] + stated["tested_signal"] == len(x)


def test_no_prior_event_is_tested(tables: Callable[[], None]) -> None:
    tables()
    seeds = [*simulated.PRIOR_SEEDS.values(), simulated.SIGNAL_SEED, simulated.TRAIN_SEED, simulated.TEST_SEED]
    assert len(set(seeds)) == len(seeds)
    x, _ = simulated.tested()
    used = np.concatenate([simulated.training_background(), simulated.prior(simulated.SIGNAL)])
    assert not {row.tobytes() for row in x} & {row.tobytes() for row in used}


def test_the_network_tells_its_classes_apart(rng: np.random.Generator) -> None:
    background, signal = rng.normal(size=(600, 12)), rng.normal(1.0, 1.0, size=(200, 12))
    x = np.concatenate([rng.normal(size=(300, 12)), rng.normal(1.0, 1.0, size=(300, 12))])
    score = simulated.supervised(background, signal, x, seed=0)
    # the best possible is Phi(sqrt(12 / 2)) = 0.993
    assert 0.93 < evaluate(score, np.repeat([0, 1], 300)).auc < 0.999
    np.testing.assert_array_equal(score, simulated.supervised(background, signal, x, seed=0))


def test_log_odds_are_finite() -> None:
    found = simulated.log_odds(np.array([0.0, 0.5, 1.0]))
    assert np.isfinite(found).all()
    assert found[1] == 0


def test_errors_add_statistics_and_spread(rng: np.random.Generator) -> None:
    label = np.repeat([0, 1], 500)
    scores = [label * shift + rng.normal(size=1000) for shift in (0.5, 1.0, 1.5)]
    found = [evaluate(s, label) for s in scores]
    aucs = [m.auc for m in found]
    result = simulated.summary(scores, label)
    assert result["auc"] == pytest.approx(np.mean(aucs), abs=1e-4)
    expected = np.hypot(np.mean([m.auc_error for m in found]), np.std(aucs, ddof=1) / np.sqrt(3))
    assert result["auc_error"] == pytest.approx(expected, abs=1e-4)
    assert simulated.summary(scores[:1], label)["auc_error"] == pytest.approx(found[0].auc_error, abs=1e-4)
