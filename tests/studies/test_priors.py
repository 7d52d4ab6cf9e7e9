"""The studies of priors at small size, on made-up samples where an exact prior has to beat a far one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks import simulated, study_latent_space, study_model_independence, study_more_priors, study_prior_accuracy
from hunch.models import Quak


def few(monkeypatch: pytest.MonkeyPatch, study: Any) -> None:
    monkeypatch.setattr(study, "TRAININGS", 1)
    monkeypatch.setattr(study, "EPOCHS", 2)
    if study is not study_latent_space:
        monkeypatch.setattr(simulated, "KINDS", {"QUAK": simulated.KINDS["QUAK of VAEs"]})  # the faster one


def figure(rows: list[dict[str, Any]], name: str = "auc", **of: Any) -> float:
    (row,) = [r for r in rows if all(r[k] == v for k, v in of.items())]
    return float(row[name])


def check_errors(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert 0 <= row["auc"] <= 1
        assert 0 < row["auc_error"] < 0.2
        assert row["max_sic_error"] >= 0  # none where nothing is gained by a cut


def test_model_independence(tables: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    tables()
    few(monkeypatch, study_model_independence)
    result = json.loads(json.dumps(study_model_independence.run()))
    rows = result["rows"]
    check_errors(rows)
    for method in ("QUAK, loss difference", "supervised network"):
        assert figure(rows, prior="exact", method=method) > figure(rows, prior="far", method=method) - 0.01
    assert figure(rows, prior="exact", method="QUAK") > figure(rows, prior="none", method="background loss") - 0.01
    assert result["tested_signal"] > 150


def test_more_priors(tables: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    tables()
    few(monkeypatch, study_more_priors)
    monkeypatch.setattr(study_more_priors, "NUMBERS", (1, 6))
    result = json.loads(json.dumps(study_more_priors.run()))
    assert [(row["number"], row["choices"]) for row in result["any_choice"]] == [(1, 6), (6, 1)]
    check_errors([*result["any_choice"], *result["in_order"]])
    one, six = result["any_choice"]
    assert one["auc_worst"] <= one["auc"] <= one["auc_best"]
    assert six["auc_worst"] == six["auc_best"]
    assert [(row["number"], row["way"]) for row in result["in_order"] if row["method"] == "QUAK"] == [
        (1, "one prior each"),
        (6, "one prior each"),
        (6, "one prior of all"),
    ]


def test_the_truth_lies_between_the_priors_and_is_none_of_them() -> None:
    _, *truth = simulated.SIGNAL
    for number in study_more_priors.NUMBERS[1:]:
        masses = np.array([m[1:] for m in study_more_priors.PRIORS[:number]])
        assert (masses.min(axis=0) < truth).all()
        assert (masses.max(axis=0) > truth).all()
        assert not (masses == truth).all(axis=1).any()


def test_prior_accuracy(tables: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    tables()
    few(monkeypatch, study_prior_accuracy)
    monkeypatch.setattr(study_prior_accuracy, "PARTS", (1.0, 0.0))
    result = json.loads(json.dumps(study_prior_accuracy.run()))
    check_errors(result["rows"])
    for method in ("QUAK", "supervised network"):
        exact, far = (figure(result["rows"], exact_part=part, method=method) for part in (1.0, 0.0))
        assert exact > far - 0.01


@pytest.mark.parametrize(("part", "expected"), [(1.0, 100), (0.5, 50), (0.05, 5), (0.0, 0)])
def test_dilution_keeps_the_size(part: float, expected: int) -> None:
    exact, far = np.arange(100.0)[:, None], -1 - np.arange(120.0)[:, None]
    rows = study_prior_accuracy.diluted(exact, far, part, seed=1)
    assert len(np.unique(rows)) == len(rows) == 100
    assert (rows >= 0).sum() == expected


def test_latent_space(tables: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    tables()
    few(monkeypatch, study_latent_space)
    monkeypatch.setattr(study_latent_space, "PRIORS", {"exact": study_model_independence.PRIORS["exact"]})
    trained: list[int] = []
    fit = Quak.fit

    def counted(self: Quak, background: Any, **options: Any) -> Quak:
        trained.append(len(background))
        return fit(self, background, **options)

    monkeypatch.setattr(Quak, "fit", counted)
    # a prior has 150 rows here, of which two thirds are the least that a model takes
    result = json.loads(json.dumps(study_latent_space.run()))
    check_errors(result["rows"])
    assert {(row["space"], row["head"]) for row in result["rows"]} == {
        *((space, head) for space in ("losses", "latent") for head in ("linear", "quadratic")),
        ("difference", "none"),
    }
    assert trained == [2 * result["training_background"] // 3]
    assert figure(result["rows"], space="losses", head="linear") > 0.8
