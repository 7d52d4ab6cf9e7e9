"""Scorers combined on the scale of background quantiles: the scale itself, the four rules, and scorers of every kind as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunch.analysis import evaluate
from hunch.models import Combined, ScorerError, TooFewRowsError, load_scorer, make_space
from hunch.models.combined import BackgroundQuantiles, combined

SMALL: dict[str, Any] = {"max_epochs": 4, "hidden": 16, "batch_size": 64}
TWO = ({"name": "Flow", **SMALL}, {"name": "Vae", "metric": "reconstruction", **SMALL})


def table(n: int, seed: int = 0, *, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1.0, (n, 4))


@pytest.fixture(scope="module")
def two() -> Combined:
    return Combined(scorers=TWO).fit(table(600))


def test_the_surprise_is_minus_the_logarithm_of_the_part_above() -> None:
    rng = np.random.default_rng(0)
    quantiles = BackgroundQuantiles(np.sort(rng.normal(size=4000)))
    x = rng.normal(size=20_000)
    u = np.exp(-quantiles.surprise(x))
    # of the background itself the part above is uniform
    assert np.abs(np.sort(u) - (np.arange(20_000) + 0.5) / 20_000).max() < 0.03
    assert quantiles.surprise(np.array([1.6449]))[0] == pytest.approx(-np.log(0.05), abs=0.15)


def test_the_surprise_rises_beyond_every_event_and_stays_above_zero() -> None:
    quantiles = BackgroundQuantiles(np.sort(np.random.default_rng(1).exponential(size=2000)))
    x = np.array([-5.0, -1.0, 0.0, 1.0, 9.0, 20.0, 40.0])
    found = quantiles.surprise(x)
    assert (np.diff(found) > 0).all()
    assert (found > 0).all()
    # an exponential goes on as one: −ln p = x
    assert found[-1] == pytest.approx(40, rel=0.25)


def test_equal_scores_are_of_the_middle_of_their_part() -> None:
    quantiles = BackgroundQuantiles(np.sort(np.repeat([0.0, 1.0, 2.0, 3.0], 25)))
    np.testing.assert_allclose(
        np.exp(-quantiles.surprise(np.array([0.0, 1.0, 2.0, 3.0]))), (np.array([87.5, 62.5, 37.5, 12.5]) + 0.5) / 101
    )


@pytest.mark.parametrize(
    ("metric", "quantile"),
    [
        ("and", lambda u: u.min(axis=1)),
        ("or", lambda u: u.max(axis=1)),
        ("average", lambda u: u.mean(axis=1)),
        ("product", lambda u: u.prod(axis=1)),
    ],
)
def test_the_rules_are_those_of_the_quantiles(metric: str, quantile: Any) -> None:
    u = np.random.default_rng(2).uniform(size=(500, 3))
    found = combined(-np.log(1 - u), metric)
    np.testing.assert_allclose(1 - np.exp(-found), quantile(u), rtol=1e-9)


@pytest.mark.parametrize("metric", Combined.metrics)
def test_two_that_are_the_same_are_as_good_as_one(metric: str) -> None:
    rng = np.random.default_rng(3)
    quantiles = BackgroundQuantiles(np.sort(rng.normal(size=300)))
    score, label = np.concatenate([rng.normal(size=2000), rng.normal(1.5, 1, 2000)]), np.repeat([0, 1], 2000)
    t = quantiles.surprise(score)
    both = evaluate(combined(np.stack([t, t], axis=1), metric), label)
    assert both.auc == pytest.approx(evaluate(score, label).auc, abs=1e-12)


@pytest.mark.parametrize("metric", Combined.metrics)
def test_far_out_nothing_is_lost_to_rounding(metric: str) -> None:
    t = np.stack([np.linspace(20, 900, 200), np.linspace(30, 950, 200)], axis=1)
    found = combined(t, metric)
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()


def test_surprises_are_those_of_the_scorers(two: Combined) -> None:
    x = table(30, seed=5)
    found = two.surprises(x)
    assert two.scorers_ is not None
    for number, metric in enumerate([None, "reconstruction"]):
        scores = two.scorers_[number].score(x, metric=metric)
        np.testing.assert_array_equal(found[:, number], two.quantiles_[number].surprise(scores))
    np.testing.assert_array_equal(two.score(x), found.max(axis=1))
    np.testing.assert_array_equal(two.score(x, metric="and"), found.min(axis=1))


def test_quantiles_are_of_events_that_no_scorer_was_trained_on() -> None:
    train, held = table(300), table(80, seed=1, shift=0.3)
    scorer = Combined(scorers=TWO).fit(train, validation=held)
    assert scorer.scorers_ is not None
    np.testing.assert_array_equal(scorer.quantiles_[0].scores, np.sort(scorer.scorers_[0].score(held)))
    assert scorer.training_["rows"] == [300]
    assert scorer.training_["validation_rows"] == [80]
    split = Combined(scorers=TWO).fit(train)
    assert split.scorers_ is not None
    assert len(split.quantiles_[0].scores) == 45
    assert split.scorers_[0].training_["rows"] == [255]


def test_a_space_can_join_and_priors_have_axes(tmp_path: Path) -> None:
    options = {"scorers": [{"name": "Quak", **SMALL}, {"name": "Flow", **SMALL}]}
    space = make_space("Combined", kind="rows", priors=("p",), options=options)
    space.fit(table(400), priors={"p": table(300, seed=4, shift=3.0)})
    assert space.axis_names == ("background", "p")
    space.save(tmp_path / "s")
    x = np.concatenate([table(50, seed=6), table(50, seed=7, shift=3.0)])
    losses = space.losses(x)
    np.testing.assert_array_equal(load_scorer(tmp_path / "s").losses(x), losses)  # type: ignore[attr-defined]
    assert evaluate(losses[:, 0], np.repeat([0, 1], 50)).auc > 0.95
    assert evaluate(losses[:, 1], np.repeat([0, 1], 50)).auc < 0.1


@pytest.mark.parametrize(
    ("scorers", "told"),
    [
        (("Flow",), "scorers: 1 are named, 2 or more"),
        ("Flow", "scorers: is 'Flow', allowed: a list"),
        (("Flow", "Vee"), "scorers: number 2: no scorer 'Vee'.*Vae"),
        (("Flow", 3), "scorers: number 2 is 3, allowed: a name, or a mapping"),
        (("Flow", "ConvVae"), "number 2: ConvVae takes images, not rows; what takes rows: "),
        (("Flow", "Combined"), "number 2: is Combined itself"),
        (("Flow", {"name": "Vae", "latnt": 3}), "number 2: Vae: no option 'latnt'.*latent"),
        (("Flow", {"name": "Vae", "seed": 3}), "number 2: option seed is that of Combined"),
        (("Flow", {"name": "Vae", "exposure": "kl"}), "number 2: exposure is 'kl', allowed in a combination: none"),
        (("Flow", {"name": "Vae", "metric": "kll"}), "number 2: Vae: no metric 'kll'"),
        (("Flow", {"name": "Vae", "latent": 0}), "number 2: latent"),
        (("Flow", {"name": "Vae", "pretrained": "a/b"}), "number 2: pretrained is 'a/b'"),
    ],
)
def test_what_cannot_be_combined_is_named(scorers: Any, told: str) -> None:
    with pytest.raises(ScorerError, match=told):
        Combined(scorers=scorers).fit(table(200))


def test_too_few_events_are_named() -> None:
    with pytest.raises(TooFewRowsError, match="x: has 110 rows, at least 120"):
        Combined(scorers=TWO).fit(table(110))
    with pytest.raises(TooFewRowsError, match="validation: has 10 rows, at least 20"):
        Combined(scorers=TWO).fit(table(200), validation=table(10))
