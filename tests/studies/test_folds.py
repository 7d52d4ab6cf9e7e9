"""The study of folds at small size: no event is hunted by a model that saw it, and a signal in training costs signal."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from benchmarks import simulated, study_folds
from hunch.models import Quak
from hunch.models.density import quak
from hunch.table import QUAK_FEATURES, Table

QCD, SIGNAL = 1200, 600


def sample(process: str, n: int, seed: int, masses: tuple[int, int, int] | None = None) -> Table:
    """Make up QCD, or a resonance of two-prong jets, with an identity for each event."""
    rng = np.random.default_rng([seed, n])
    mean = np.array(masses or (0, 250, 100), dtype=np.float64)
    columns: dict[str, Any] = {"mjj": mean[0] * rng.normal(1, 0.03, n) if masses else 2000 + rng.exponential(600, n)}
    for jet in (1, 2):
        columns[f"mJ_{jet}"] = mean[jet] * rng.lognormal(0, 0.1 if masses else 0.5, n)
        for name in ("tau21", "tau32", "tau43", "tau12", "ntrk"):
            columns[f"{name}_{jet}"] = rng.normal(0.55 if masses and name == "tau21" else 0.7, 0.1, n)
    assert set(QUAK_FEATURES) < set(columns)
    columns |= {"dataset": np.full(n, f"{process}_{seed}"), "run": np.ones(n, dtype=np.int64)}
    columns |= {"luminosityBlock": np.ones(n, dtype=np.int64), "event": np.arange(n)}
    return Table(columns, {"identity": ["dataset", "run", "luminosityBlock", "event"]})


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, small_family: None) -> None:
    monkeypatch.setattr(quak, "FAMILY_EVENTS", 1_000)
    monkeypatch.setattr(simulated, "table", sample)
    monkeypatch.setattr(study_folds, "N_QCD", QCD)
    monkeypatch.setattr(study_folds, "DATA_SEEDS", (309,))
    monkeypatch.setattr(study_folds, "SIGNAL_SAMPLE", (SIGNAL, 101))
    monkeypatch.setattr(study_folds, "INJECTED", (120,))
    monkeypatch.setattr(study_folds, "PRIORS", {(3500, 600, 120): (200, 102), (3500, 400, 120): (200, 303)})
    monkeypatch.setattr(study_folds, "FOLDS", 3)
    monkeypatch.setattr(study_folds, "FRACTIONS", (0.05, 0.2))
    monkeypatch.setattr(study_folds, "OPTIONS", {"architecture": "vae", "max_epochs": 2})
    monkeypatch.setattr(study_folds, "EXPERIMENTS", 40)


def test_a_model_neither_hunts_nor_fixes_regions_where_it_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[bytes]] = []
    asked: list[set[bytes]] = []

    class Spy:
        axis_names = ("background", "near", "family")

        def __init__(self, number: int) -> None:
            self.number = number

        def losses(self, x: np.ndarray) -> np.ndarray:
            asked[self.number] |= {row.tobytes() for row in x}
            return np.full((len(x), 3), float(self.number))

    def fitted(x: np.ndarray, priors: Any, *, seed: int) -> Any:
        seen.append({row.tobytes() for row in x})
        asked.append(set())
        return Spy(seed)

    monkeypatch.setattr(study_folds, "fitted", fitted)
    data = sample("qcd", QCD, 309)
    trained = study_folds.in_folds(data, {})
    fixing = [set(a) for a in asked]
    hunted = trained.scored(data, "data")
    np.testing.assert_array_equal(hunted.losses[:, 0], hunted.fold)
    for i in range(3):
        assert not seen[i] & asked[i]
        assert len(seen[i]) + len(asked[i]) == QCD
        assert 0 < len(fixing[i]) == (study_folds.folds_of(data) == (i + 1) % 3).sum()
    np.testing.assert_array_equal(trained.calibration.fold, (hunted.fold - 1) % 3)


def test_small_study(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[np.ndarray] = []
    fit = Quak.fit

    def counted(self: Quak, background: np.ndarray, **options: Any) -> Quak:
        trained.append(background)
        return fit(self, background, **options)

    monkeypatch.setattr(Quak, "fit", counted)
    result = json.loads(json.dumps(study_folds.run()))
    assert len(trained) == 1 + 2 * 3
    signal = {row.tobytes() for row in study_folds.injected(0).matrix(study_folds.FEATURES)}
    held = [sum(row.tobytes() in signal for row in x) for x in trained]
    assert held[:4] == [0, 0, 0, 0]
    assert sum(held[4:]) == 120  # each event trains one of three models: it is hunted by one and fixes regions of one
    kept = {(r["score"], r["fraction"], r["trained_on"]): r for r in result["kept"]}
    for row in kept.values():
        assert 0 <= row["above_boundary"] <= 1
        assert row["error"] > 0
    clean, as_is = (kept["difference", 0.05, kind] for kind in (study_folds.LEFT_OUT, study_folds.AS_IS))
    assert clean["signal_kept"] > 0.5
    assert as_is["signal_kept"] < clean["signal_kept"]
    # a tenth of what fixes the boundary is signal: it lies higher and lets less background pass
    assert as_is["background_above_boundary"] < clean["background_above_boundary"] - 0.02
    assert as_is["above_boundary"] < as_is["signal_kept"]
    assert abs(as_is["injected_above_boundary"] - as_is["above_boundary"]) < 5 * as_is["injected_error"] + 0.05
    changes = {(r["score"], r["fraction"], r["cause"]): r["change"] for r in result["lost"]}
    expected = as_is["signal_kept"] - clean["signal_kept"]
    assert changes["difference", 0.05, "120 signal events in training"] == pytest.approx(expected, abs=2e-4)
    z = {(r["trained_on"], r["signal_events"]): r for r in result["search"]}
    assert set(z) == {(k, n) for k in (study_folds.SIMULATION, study_folds.LEFT_OUT) for n in (0, 120)} | {
        (study_folds.AS_IS, 120)
    }
    for kind in (study_folds.SIMULATION, study_folds.LEFT_OUT):
        assert z[kind, 120]["z_expected"] > z[kind, 0]["z_expected"] + 2
        assert z[kind, 120]["median_z_at_signal"] > z[kind, 0]["median_z_at_signal"] + 2


def test_errors_are_the_larger_of_the_two_spreads() -> None:
    same, apart = [np.array([0.4, 0.6]), np.array([0.4, 0.6])], [np.array([0.4, 0.4]), np.array([0.6, 0.6])]
    assert study_folds.mean_error(same) == (pytest.approx(0.5), pytest.approx(np.sqrt(0.04 / 3) / 2))
    assert study_folds.mean_error(apart) == (pytest.approx(0.5), pytest.approx(0.1))
    assert study_folds.mean_error([np.array([0.3])]) == (pytest.approx(0.3), 0.0)
