"""The hunt by counting: no event does two jobs, cutflows add up, a hidden signal is found, no signal is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunch.analysis import CountedSample, CountingChoice, counting_figure, fix_thresholds, hunt_counts
from hunch.analysis.counting_hunt import close
from hunch.analysis.figures.base import save_figure
from hunch.analysis.regions.thresholds import above_thresholds
from hunch.errors import InputError
from hunch.folds import fold_of

ABCD = CountingChoice(expectation="abcd")


def sample(
    name: str, n: int, rng: np.random.Generator, *, axes: int = 1, signal: int = 0, folds: int = 2, tilt: float = 0.0
) -> CountedSample:
    """Draw normal scores, of another place in each fold, with a signal at 3 sigma; tilt: correlation of the two axes."""
    scores = rng.normal(size=(n, axes))
    if axes == 2:
        scores[:, 1] = tilt * scores[:, 0] + np.sqrt(1 - tilt**2) * scores[:, 1]
    scores[:signal] += 3
    events = rng.integers(0, 2**63, n, dtype=np.uint64)
    fold = fold_of(events, folds)
    scores += 5.0 * fold[:, None]
    return CountedSample(name, scores if axes == 2 else scores[:, 0], fold, events)


@pytest.mark.parametrize(("how", "axes"), [("sample", 1), ("abcd", 2)])
def test_a_signal_is_found_and_none_is_not(how: str, axes: int, rng: np.random.Generator) -> None:
    background = sample("background", 30_000, rng, axes=axes)
    choice = CountingChoice(expectation=how, systematic=0.05)
    without = hunt_counts(sample("data", 20_000, rng, axes=axes), background, choice=choice, seed=1)
    hidden = hunt_counts(sample("data", 20_000, rng, axes=axes, signal=200), background, choice=choice, seed=1)
    assert without.result is not None
    assert hidden.result is not None
    assert abs(without.result.z) < 3
    assert hidden.result.z > 4
    assert without.expectation.mean == pytest.approx(200, abs=5 * np.hypot(without.expectation.stat, np.sqrt(200)))
    assert hidden.limits.observed is not None
    # 200 of which a share lies above: of 3 sigma, above a threshold of 2.3 and of 1.3 twice
    assert hidden.limits.observed > (0.76 if axes == 1 else 0.91) * 150


@pytest.mark.parametrize(("how", "axes"), [("sample", 1), ("abcd", 2)])
def test_cutflows_add_up(how: str, axes: int, rng: np.random.Generator) -> None:
    data, background = sample("data", 5_000, rng, axes=axes), sample("background", 9_000, rng, axes=axes)
    found = hunt_counts(data, background, choice=CountingChoice(0.02, how), seed=1)
    for steps in found.cutflow.values():
        assert steps["events"] == sum(n for name, n in steps.items() if name != "events")
    assert found.cutflow["data"]["events"] == 5_000
    assert found.cutflow["fixing"]["events"] + found.cutflow["predicting"]["events"] == 9_000
    assert found.result is not None
    assert found.result.observed == found.cutflow["data"]["above" if axes == 1 else "A"]


def test_what_predicts_has_not_fixed_the_threshold(rng: np.random.Generator) -> None:
    background = sample("background", 9_000, rng)
    first, second = background.halves(1)
    assert first.events is not None
    assert second.events is not None
    assert not np.isin(first.events, second.events).any()
    assert len(first.folds) + len(second.folds) == 9_000
    # moved scores of one half move the thresholds, those of the other the prediction
    data = sample("data", 5_000, rng)
    inside = np.isin(background.events, first.events)  # type: ignore[arg-type]
    base = hunt_counts(data, background, choice=CountingChoice(0.02), seed=1)
    for half, moves_thresholds in ((inside, True), (~inside, False)):
        moved = CountedSample("moved", background.scores + 0.5 * half, background.folds, background.events)
        found = hunt_counts(data, moved, choice=CountingChoice(0.02), seed=1)
        assert np.array_equal(found.thresholds, base.thresholds) is not moves_thresholds
        assert found.expectation.mean != base.expectation.mean


def test_no_hunted_event_takes_part_in_a_threshold_or_a_prediction(rng: np.random.Generator) -> None:
    data, background = sample("data", 5_000, rng), sample("background", 9_000, rng)
    moved = CountedSample("data", data.scores + 1.0, data.folds, data.events)
    base, other = (hunt_counts(d, background, choice=CountingChoice(0.02), seed=1) for d in (data, moved))
    assert np.array_equal(base.thresholds, other.thresholds)
    assert base.expectation == other.expectation
    assert base.result is not None
    assert other.result is not None
    assert base.result.observed < other.result.observed


def test_halves_are_no_folds_and_do_not_depend_on_the_order(rng: np.random.Generator) -> None:
    background = sample("background", 8_000, rng)
    first, _ = background.halves(1)
    assert 0.45 < first.folds.mean() < 0.55
    order = rng.permutation(8_000)
    again, _ = background.select(np.ones(8_000, dtype=bool)).halves(2)
    shuffled, _ = CountedSample(
        "shuffled",
        background.scores[order],
        background.folds[order],
        background.events[order],  # type: ignore[index]
    ).halves(3)
    assert set(first.events.tolist()) == set(again.events.tolist()) == set(shuffled.events.tolist())  # type: ignore[union-attr]
    unnamed = CountedSample("unnamed", background.scores, background.folds)
    halves = [len(h.folds) for h in unnamed.halves(1)]
    assert halves == [4_000, 4_000]
    assert not np.array_equal(unnamed.halves(1)[0].scores, unnamed.halves(2)[0].scores)


def test_a_validation_sample_predicts_and_all_of_the_calibration_fixes(rng: np.random.Generator) -> None:
    data, background = sample("data", 5_000, rng), sample("background", 4_000, rng)
    validation = sample("validation", 20_000, rng)
    found = hunt_counts(data, background, validation=validation, choice=CountingChoice(0.02), seed=1)
    assert found.cutflow["fixing"]["events"] == 4_000
    assert found.cutflow["predicting"]["events"] == 20_000
    assert found.expectation.scale == pytest.approx(0.25, rel=0.02)
    assert found.expectation.mean == pytest.approx(100, abs=30)
    assert found.closure is not None
    assert found.closure.expected == pytest.approx(400)


def test_a_weight_of_the_whole_sample_is_that_of_its_halves_too(rng: np.random.Generator) -> None:
    data, background = sample("data", 6_000, rng), sample("background", 12_000, rng)
    counted = hunt_counts(data, background, choice=CountingChoice(0.05), seed=1)
    weighted = hunt_counts(data, background, choice=CountingChoice(0.05), seed=1, scale=0.5)
    assert weighted.expectation.mean == pytest.approx(counted.expectation.mean, rel=0.02)
    assert hunt_counts(
        data, background, choice=CountingChoice(0.05), seed=1, scale=1.0
    ).expectation.mean == pytest.approx(2 * weighted.expectation.mean)


def test_axes_that_depend_on_each_other_fail_the_closure_test(rng: np.random.Generator) -> None:
    data, background = (sample(n, 20_000, rng, axes=2, tilt=0.6) for n in ("data", "background"))
    tilted = hunt_counts(data, background, choice=ABCD, seed=1)
    straight = hunt_counts(
        sample("data", 20_000, rng, axes=2), sample("background", 20_000, rng, axes=2), choice=ABCD, seed=1
    )
    assert tilted.closure is not None
    assert straight.closure is not None
    assert tilted.closure.ratio > 2
    assert any("closure test is off" in note for note in tilted.notes)
    assert abs(straight.closure.ratio - 1) < 3.5 * straight.closure.error
    assert not any("closure" in note for note in straight.notes)


@pytest.mark.parametrize("axes", [1, 2])
def test_closure_error_is_the_spread_of_the_ratio(axes: int, rng: np.random.Generator) -> None:
    pulls = []
    for _ in range(200):
        fixing, predicting = (sample(n, 1_500, rng, axes=axes) for n in ("fixing", "predicting"))
        thresholds = fix_thresholds(fixing.scores, fixing.folds, efficiency=0.05, n_folds=2)
        fixed, held_out = (above_thresholds(s.scores, s.folds, thresholds) for s in (fixing, predicting))
        closure = close(held_out, {"events": 1_500, "above": int(fixed.all(axis=1).sum())})
        assert closure is not None
        pulls.append((closure.ratio - 1) / closure.error)
    assert 0.8 < np.std(pulls) < 1.25
    assert abs(np.mean(pulls)) < 0.3


def test_blind_counts_nothing_above(rng: np.random.Generator) -> None:
    data, background = sample("data", 5_000, rng, signal=300), sample("background", 9_000, rng)
    found = hunt_counts(data, background, choice=CountingChoice(0.02), seed=1, blind=True)
    assert found.result is None
    assert found.limits.observed is None
    assert found.cutflow["data"] == {"events": 5_000}
    assert "blind" in found.notes[0]
    json.dumps(found.as_dict(), allow_nan=False)


def test_data_alone_can_make_an_abcd_and_nothing_else(rng: np.random.Generator) -> None:
    data = sample("data", 9_000, rng, axes=2)
    found = hunt_counts(data, data, choice=ABCD, seed=1, independent=False)
    assert found.closure is None
    assert found.cutflow["fixing"]["events"] == 9_000
    assert "no closure test" in found.notes[0]
    flat = sample("data", 9_000, rng)
    with pytest.raises(InputError, match="expectation: sample needs a background sample"):
        hunt_counts(flat, flat, choice=CountingChoice(), seed=1, independent=False)


def test_an_answer_is_json_and_prints_in_two_lines(rng: np.random.Generator) -> None:
    data, background = sample("data", 5_000, rng), sample("background", 9_000, rng)
    found = hunt_counts(data, background, choice=CountingChoice(0.02), seed=1, luminosity=10.0, signal_efficiency=0.5)
    answer: dict[str, Any] = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert answer["result"]["observed"] == answer["cutflow"]["data"]["above"]
    assert answer["limits"]["observed_fb"] == pytest.approx(answer["limits"]["observed"] / 5.0)
    assert len(repr(found).splitlines()) == 2
    assert repr(data) == "CountedSample('data', 5,000 events, 1 axis)"


def test_what_cannot_be_is_refused_by_name(rng: np.random.Generator) -> None:
    flat, plane = sample("data", 5_000, rng), sample("background", 5_000, rng, axes=2)
    with pytest.raises(InputError, match="background: expectation: sample takes 1 score an event; found 2"):
        hunt_counts(flat, plane, choice=CountingChoice(0.02), seed=1)
    with pytest.raises(InputError, match="data: expectation: abcd takes 2 axes of scores an event; found 1"):
        hunt_counts(flat, plane, choice=ABCD, seed=1)
    with pytest.raises(InputError, match="did you mean 'sample'"):
        CountingChoice(expectation="samples")
    for wrong in ({"efficiency": 0.0}, {"systematic": -0.1}, {"confidence": 95}, {"constraint": "gauss"}):
        with pytest.raises(InputError):
            CountingChoice(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="data: arrays of different length"):
        CountedSample("data", np.zeros(3), np.zeros(2, dtype=np.int64))
    with pytest.raises(InputError, match="data: 1 of 3 events have a score that is not finite"):
        CountedSample("data", np.array([0.0, np.inf, 1.0]), np.zeros(3, dtype=np.int64))
    with pytest.raises(InputError, match="data: folds count from 0"):
        CountedSample("data", np.zeros(3), np.full(3, -1))
    validation = sample("validation", 500, rng, folds=1)
    with pytest.raises(InputError, match=r"validation: no held-out background event predicts fold \[1\]"):
        hunt_counts(flat, sample("background", 5_000, rng), validation=validation, choice=CountingChoice(0.02), seed=1)
    # both scores above: an empty region is named, not divided by
    corner = CountedSample("data", plane.scores + 100, plane.folds, plane.events)
    with pytest.raises(InputError, match="B and C and D is empty"):
        hunt_counts(corner, plane, choice=ABCD, seed=1)


@pytest.mark.parametrize(("how", "axes"), [("sample", 1), ("abcd", 2)])
def test_the_figure_tells_the_counts(how: str, axes: int, rng: np.random.Generator, tmp_path: Path) -> None:
    data, background = sample("data", 5_000, rng, axes=axes), sample("background", 9_000, rng, axes=axes)
    found = hunt_counts(data, background, choice=CountingChoice(0.02, how), seed=1)
    assert found.result is not None
    predicting = background.halves(1)[1]
    figure = counting_figure(
        data.scores,
        data.folds,
        found.thresholds,
        background=predicting.scores if axes == 1 else None,
        background_folds=predicting.folds,
        scale=found.expectation.scale,
    )
    axis = figure.axes[0]
    texts = [t.get_text() for t in axis.texts]
    legend = axis.get_legend()
    texts += [] if legend is None else [t.get_text() for t in legend.get_texts()]
    seen, expected = found.result.observed, found.expectation.mean
    if axes == 1:
        assert f"data, {seen} above" in texts
        # one scale for both folds in the figure: near to the expectation, which has one each
        told = next(float(t.split()[1]) for t in texts if t.startswith("background, "))
        assert told == pytest.approx(expected, rel=0.01)
    else:
        assert f"A = {seen}, BC/D = {expected:.4g}" in texts
        assert f"D = {found.cutflow['data']['D']}" in texts
    assert all(p.stat().st_size > 5_000 for p in save_figure(figure, tmp_path, "counting"))
    with pytest.raises(InputError, match="found none"):
        counting_figure(data.scores[:0], data.folds[:0], found.thresholds)
