"""Scorers that pay for the dependence of their losses on the mass: how much is left of it, at what cost, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from hunch.models import Flow, Quak, Vae, load_scorer
from hunch.models.inputs import ScorerError
from hunch.models.train.disco import distance_correlation
from hunch.models.train.mass_penalty import MassPenalty

Array = np.ndarray[Any, Any]
SHORT: dict[str, Any] = {"max_epochs": 2, "device": "cpu", "hidden": 8}


def background(n: int, seed: int) -> tuple[Array, Array]:
    """Return (n, 3) features, the first of which follows the mass, and masses (n,) in GeV that fall exponentially."""
    rng = np.random.default_rng(seed)
    mass = 1.5 + rng.exponential(0.8, n)
    x = np.stack([mass - 2.5 + rng.normal(0, 0.4, n), rng.normal(size=n), rng.normal(size=n)], axis=1)
    return x, 1000 * mass


def signal(n: int, seed: int, centre: tuple[float, float]) -> Array:
    """Return (n, 3) features of a resonance at 3 TeV whose other two features are rare in background."""
    rng = np.random.default_rng(seed)
    mass = rng.normal(3.0, 0.1, n)
    return np.stack([mass - 2.5 + rng.normal(0, 0.4, n), *(rng.normal(c, 0.6, n) for c in centre)], axis=1)


def judged(scorer: Any, metric: str | None = None) -> tuple[float, float]:
    """Return dCorr^2 of fresh background's score with the mass, and the AUC of fresh signal."""
    (x, mass), s = background(3000, 2), signal(1000, 3, (2.2, -2.0))
    score = scorer.score(x, metric=metric)
    depends = distance_correlation(torch.from_numpy(score), torch.from_numpy(mass), unbiased=True)
    truth = np.arange(len(x) + len(s)) >= len(x)
    return float(depends), float(roc_auc_score(truth, np.concatenate([score, scorer.score(s, metric=metric)])))


@pytest.mark.parametrize("scorer", [Flow, Vae])
def test_the_score_no_longer_follows_the_mass(scorer: Any) -> None:
    x, mass = background(4000, 1)
    options: dict[str, Any] = {"max_epochs": 10, "patience": 10, "device": "cpu", "hidden": 32, "batch_size": 300}
    bare, bare_auc = judged(scorer(**options).fit(x))
    paid, paid_auc = judged(scorer(decorrelation=20.0, **options).fit(x, mass=mass))
    print(f"{scorer.__name__}: dCorr^2 {bare:.3f} to {paid:.4f}, AUC {bare_auc:.3f} to {paid_auc:.3f}")  # noqa: T201
    assert bare > 0.1
    assert paid < bare / 5
    assert paid_auc > bare_auc - 0.03


@pytest.fixture(scope="module")
def quaks() -> tuple[Quak, Quak]:
    x, mass = background(4000, 1)
    priors = {"a": signal(1000, 4, (2.2, -2.0)), "b": signal(1000, 5, (2.0, 2.0))}
    options: dict[str, Any] = {"max_epochs": 8, "patience": 8, "device": "cpu", "batch_size": 300, "steps": 2}
    bare = Quak(**options).fit(x, priors=priors)
    return bare, Quak(decorrelation=20.0, **options).fit(x, priors=priors, mass=mass)


@pytest.mark.parametrize("metric", ["anomaly", "difference", "background", "family"])
def test_no_axis_of_quak_follows_the_mass(metric: str, quaks: tuple[Quak, Quak]) -> None:
    (bare, bare_auc), (paid, paid_auc) = (judged(q, metric) for q in quaks)
    print(f"quak, {metric}: dCorr^2 {bare:.3f} to {paid:.4f}, AUC {bare_auc:.3f} to {paid_auc:.3f}")  # noqa: T201
    assert bare > 0.03
    assert paid < bare / 3
    assert paid_auc > bare_auc - 0.03


def tensors_of(scorer: Any) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = scorer.density_.tensors()
    return found


def same(first: Any, second: Any) -> bool:
    a, b = tensors_of(first), tensors_of(second)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("scorer", [Flow, Vae, Quak])
def test_off_it_changes_nothing_and_on_it_is_deterministic(scorer: Any) -> None:
    x, mass = background(400, 6)
    plain = scorer(**SHORT).fit(x)
    assert same(plain, scorer(decorrelation=0.0, **SHORT).fit(x, mass=mass))
    first, second = (scorer(decorrelation=5.0, **SHORT).fit(x, mass=mass) for _ in range(2))
    assert same(first, second)
    assert not same(first, plain)
    # a scale is no knowledge, an order is
    assert not same(first, scorer(decorrelation=5.0, **SHORT).fit(x, mass=mass[::-1]))
    scaled = scorer(decorrelation=5.0, **SHORT).fit(x, mass=mass / 1000)
    np.testing.assert_allclose(scaled.score(x[:20]), first.score(x[:20]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scorer", [Flow, Vae, Quak])
def test_it_is_saved(scorer: Any, tmp_path: Path) -> None:
    x, mass = background(300, 6)
    fitted = scorer(decorrelation=2.5, **SHORT).fit(x, mass=mass)
    fitted.save(tmp_path / "scorer")
    assert json.loads((tmp_path / "scorer" / "scorer.json").read_text())["parameters"]["decorrelation"] == 2.5
    again = load_scorer(tmp_path / "scorer")
    np.testing.assert_array_equal(again.score(x), fitted.score(x))
    assert again.decorrelation == 2.5  # type: ignore[attr-defined]


@pytest.mark.parametrize("scorer", [Flow, Quak])
def test_masses_that_cannot_be_are_refused(scorer: Any) -> None:
    x, mass = background(200, 7)
    bad = mass.copy()
    bad[17] = np.nan
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, r"decorrelation needs mass: the mass of each of the 200 rows"),
        ({"mass": mass[:-1]}, r"mass has shape \(199,\).* 200 rows"),
        ({"mass": mass[:, None]}, r"shape \(200, 1\)"),
        ({"mass": bad}, "nan in row 17"),
        ({"mass": np.full(200, 3.0)}, "nothing to be independent of"),
        ({"mass": mass, "validation": x[:50]}, "needs validation_mass"),
        ({"mass": mass, "validation": x[:50], "validation_mass": mass[:49]}, r"validation_mass has shape \(49,\)"),
    ]
    for given, message in cases:
        with pytest.raises(ScorerError, match=message):
            scorer(decorrelation=1.0, **SHORT).fit(x, **given)
    for strength in (-1.0, np.inf, np.nan):
        with pytest.raises(ScorerError, match="allowed: 0"):
            scorer(decorrelation=strength, **SHORT).fit(x, mass=mass)


def test_validation_rows_come_with_their_masses() -> None:
    x, mass = background(400, 8)
    held, held_mass = background(100, 9)
    fitted = Flow(decorrelation=5.0, **SHORT).fit(x, mass=mass, validation=held, validation_mass=held_mass)
    other = Flow(decorrelation=5.0, **SHORT).fit(x, mass=mass, validation=held, validation_mass=held_mass[::-1])
    assert fitted.training_["validation_rows"] == [100]
    assert fitted.training_["validation_loss"] != other.training_["validation_loss"]


def test_a_family_narrowed_by_other_data_pays_as_well(quaks: tuple[Quak, Quak]) -> None:
    x, mass = background(1500, 10)
    reference = background(1500, 11)[0]
    priors = {"a": signal(1000, 4, (2.2, -2.0)), "b": signal(1000, 5, (2.0, 2.0))}
    for given in ({"reference": reference}, {"mass": mass}):
        with pytest.raises(ScorerError, match="decorrelation needs"):
            quaks[1].narrow(x, priors=priors, **given)
    narrowed = quaks[1].narrow(x, priors=priors, reference=reference, mass=mass)
    assert narrowed.decorrelation == quaks[1].decorrelation
    depends, auc = judged(narrowed, "family")
    assert depends < judged(quaks[0], "family")[0] / 3
    assert auc > 0.9


def test_a_background_row_keeps_its_mass(rng: np.random.Generator) -> None:
    rows, held = rng.normal(size=(50, 2)), rng.normal(size=(30, 2))
    # masses that the first column tells, in units of the training masses' spread
    penalty = MassPenalty(4.0, (rows, held), (100 * rows[:, 0] + 7, 100 * held[:, 0] + 7), seed=3)
    own = torch.from_numpy(rng.normal(size=(120, 2))).float()
    for part in (0, 1):
        found = penalty.beside(own, part, 0, np.zeros(2), np.eye(2))
        assert found.shape == (120, 5)
        torch.testing.assert_close(found[:, :2], own)
        expected = 4.0 * (found[:, 2] - rows[:, 0].mean()) / rows[:, 0].std()
        torch.testing.assert_close(found[:, 4], expected.float(), atol=1e-4, rtol=1e-4)
        assert len(np.unique(found[:, 2].numpy())) == len(penalty.rows[part])  # all of them are used
    moved = penalty.beside(own, 0, 0, np.array([1.0, 0.0]), 2 * np.eye(2))
    torch.testing.assert_close(moved[:, 2], 2 * (penalty.beside(own, 0, 0, np.zeros(2), np.eye(2))[:, 2] - 1))
    # a checkpoint of another strength does not fit
    weaker = MassPenalty(2.0, penalty.rows, penalty.mass, seed=3)
    assert not torch.equal(weaker.beside(own, 0, 0, np.zeros(2), np.eye(2)), found)
