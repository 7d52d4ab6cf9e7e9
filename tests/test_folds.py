"""Who an event is: folds and hashes are the same everywhere, no model hunts in what it trained on, shared events are told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hunch.errors import InputError
from hunch.folds import (
    already_trained_on,
    beyond_chance,
    check_shared,
    comparable_hashes,
    content_hash,
    fold_hash,
    fold_of,
    fold_plan,
    identity_hash,
    repeated_events,
    same_event_hash,
    shared_events,
)
from hunch.table import EVENT_ID, IDENTITY, Table

GOLDEN_HASH = [14541518850940644254, 17118832061698908834, 9147453849817196977]
GOLDEN_FOLD = [1, 4, 1, 1, 0, 4, 0, 1, 3, 1, 0, 0]


def events(n: int, dataset: str = "qcd", dtype: Any = np.int64, start: int = 0) -> Table:
    ones = np.ones(n, dtype=dtype)
    return Table(
        {
            "dataset": np.full(n, dataset),
            "run": ones,
            "luminosityBlock": ones,
            "event": np.arange(start, start + n).astype(dtype),
        }
    )


def test_folds_never_change() -> None:
    """Values written down once: another version that changes them would hunt events with models that saw them."""
    table = Table(events(12).columns, {"identity": list(IDENTITY)})
    assert fold_hash(table, []).tolist()[:3] == GOLDEN_HASH
    assert fold_of(fold_hash(table, []), 5).tolist() == GOLDEN_FOLD


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.uint64, np.float64])
def test_identity_does_not_depend_on_the_integer_type(dtype: Any) -> None:
    np.testing.assert_array_equal(identity_hash(events(100, dtype=dtype)), identity_hash(events(100)))


def test_identity_depends_on_every_column() -> None:
    base = identity_hash(events(50))
    for name in IDENTITY[1:]:
        moved = events(50)
        moved = moved.with_columns(**{name: moved[name] + 1000})
        assert not np.isin(identity_hash(moved), base).any()
    assert not np.isin(identity_hash(events(50, "other")), base).any()


@pytest.mark.parametrize("n_folds", [2, 5, 7])
def test_folds_are_uniform_and_independent_of_the_event_number(n_folds: int) -> None:
    folds = fold_of(identity_hash(events(20_000)), n_folds)
    assert folds.min() == 0
    assert folds.max() == n_folds - 1
    assert stats.chisquare(np.bincount(folds)).pvalue > 0.001
    pairs = np.bincount(folds[1:] * n_folds + folds[:-1], minlength=n_folds**2)
    assert stats.chisquare(pairs).pvalue > 0.001


rows = st.lists(
    st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=3, max_size=3), min_size=1, max_size=30
)


@settings(max_examples=60, deadline=None)
@given(values=rows, seed=st.integers(0, 1000))
def test_content_hash_follows_the_rows(values: list[list[float]], seed: int) -> None:
    x = np.array(values)
    order = np.random.default_rng(seed).permutation(len(x))
    np.testing.assert_array_equal(content_hash(x[order]), content_hash(x)[order])
    # rows that are equal have equal hashes whatever stands around them, and through single precision
    np.testing.assert_array_equal(content_hash(x[:1]), content_hash(x)[:1])
    np.testing.assert_array_equal(content_hash(x.astype(np.float32).astype(np.float64)), content_hash(x))


def test_content_hash_tells_columns_zeros_and_nans() -> None:
    x = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0], [-0.0, np.nan], [0.0, -np.nan]])
    h = content_hash(x)
    assert h[0] == h[2]
    assert h[0] != h[1]
    assert h[3] == h[4]
    assert content_hash(x + 1e-3)[0] != h[0]


def test_real_overlap_is_counted_and_its_absence_is_zero(rng: np.random.Generator) -> None:
    first, second = (content_hash(rng.normal(size=(5000, 4))) for _ in range(2))
    assert shared_events(first, second) == 0
    assert shared_events(first, np.concatenate([second, first[:3]])) == 3
    assert shared_events(first, first) == 5000
    assert shared_events(first[:0], second) == 0


def test_coarse_tables_raise_no_false_alarm(rng: np.random.Generator) -> None:
    """Twenty integer values in two columns repeat by chance; half of a sample given twice does not."""
    for _ in range(10):
        first, second = (content_hash(rng.integers(0, 20, size=(2000, 2)).astype(float)) for _ in range(2))
        assert np.isin(first, second).sum() > 1500
        assert shared_events(first, second) == 0
    fine = [content_hash(rng.integers(0, 300, size=(3000, 2)).astype(float)) for _ in range(2)]
    assert shared_events(fine[0], fine[1]) == 0
    assert shared_events(fine[0], np.concatenate([fine[1], fine[0][:1500]])) >= 1500


def test_one_number_a_row_meets_by_chance() -> None:
    """Masses of 3,000 events in single precision: two or three of two samples are equal, and often none of one."""
    samples = [1200 * (1 + np.random.default_rng(i).pareto(6, 3000)) for i in range(40)]
    hashes = [content_hash(mass[:, None]) for mass in samples]
    pairs = list(zip(hashes[::2], hashes[1::2], strict=True))
    assert sum(int(np.isin(*pair).sum()) for pair in pairs) > 20
    assert not any(shared_events(*pair, one_number=True) for pair in pairs)
    assert shared_events(hashes[0], np.concatenate([hashes[1], hashes[0][:100]]), one_number=True) >= 100


@pytest.mark.parametrize("bad", [np.array([1.5, 2.0]), np.array([np.nan, 1.0]), np.array(["a", "b"])])
def test_identity_columns_hold_integers(bad: np.ndarray[Any, Any]) -> None:
    table = Table({"dataset": np.array(["d", "d"]), "run": np.ones(2), "luminosityBlock": np.ones(2), "event": bad})
    with pytest.raises(InputError, match="'event' identifies events"):
        identity_hash(table)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (np.array([1, -5]), "holds -5, a negative number; one above 2.63 is negative in a signed column"),
        (np.array([1.0, -5.0]), "holds -5.0, a negative number"),
        (np.array([1.0, 2.0**60]), r"holds 1.15292e\+18 as float64, exact below 9.0072e\+15 alone; store it as uint64"),
        (np.array([1.0, 2.0**25], dtype=np.float32), "holds 3.35544e.07 as float32, exact below"),
        (np.array([1.0, 1e300]), "holds 1e.300 as float64, exact below"),
    ],
)
def test_numbers_that_cannot_tell_events_apart_are_refused(bad: np.ndarray[Any, Any], said: str) -> None:
    for name in IDENTITY[1:]:
        table = events(2).with_columns(**{name: bad})
        with pytest.raises(InputError, match=f"column '{name}' identifies events and {said}"):
            identity_hash(table)


def test_collisions_are_known_by_their_numbers_and_simulation_by_what_is_stored_too() -> None:
    """Simulated and converted files all count from 0 in run 1."""
    numbers = events(5).with_columns(run=np.array([1, 1, 7, 7, 1]))
    first = Table({**numbers.columns, "a": np.arange(5.0)}, {"identity": list(IDENTITY)})
    second = first.with_columns(a=np.arange(5.0) + 0.5, dataset=np.full(5, "renamed"))
    same = same_event_hash(first, ["a"]) == same_event_hash(second, ["a"])
    assert same.tolist() == [False, False, True, True, False]
    # what event files store is hashed when they are read, and then stands for the event
    stored = first.with_columns(**{EVENT_ID: np.arange(5, dtype=np.uint64)})
    assert same_event_hash(stored, ["a"]).tolist() == list(range(5))
    # a file without an identity has its content
    nameless = Table(first.columns, {"identity": []})
    np.testing.assert_array_equal(same_event_hash(nameless, ["a"]), content_hash(first.matrix(["a"])))


def test_a_fold_knows_no_file_name() -> None:
    """Renamed or merged, an event keeps its fold: else a model would hunt in what it trained on."""
    table = Table({**events(200).columns, "a": np.arange(200.0)}, {"identity": list(IDENTITY)})
    renamed = table.with_columns(dataset=np.full(200, "renamed"))
    np.testing.assert_array_equal(fold_hash(table, ["a"]), fold_hash(renamed, ["a"]))
    other = table.with_columns(a=np.zeros(200))
    np.testing.assert_array_equal(fold_hash(table, ["a"]), fold_hash(other, ["a"]))
    moved = table.with_columns(event=table["event"] + 1000)
    assert not np.isin(fold_hash(moved, ["a"]), fold_hash(table, ["a"])).any()


def test_the_plan_trains_no_model_on_what_it_hunts_or_calibrates_with() -> None:
    hashes = fold_hash(Table(events(5000).columns, {"identity": list(IDENTITY)}), [])
    plan = fold_plan(background=False, folds=4)
    assert plan.n_models == 4
    hunted, fixing = plan.hunting_model(hashes), plan.calibrating_model(hashes)
    for model in range(4):
        trained = plan.trains_on_data(hashes, model)
        assert trained.any()
        assert not (trained & (hunted == model)).any()
        assert not (trained & (fixing == model)).any()
        assert not ((hunted == model) & (fixing == model)).any()
        assert (trained | (hunted == model) | (fixing == model)).all()
    one = fold_plan(background=True, held_out=0.3)
    assert one.n_models == 1
    assert not one.trains_on_data(hashes, 0).any()
    assert set(one.hunting_model(hashes)) == {0}
    assert abs(one.held_out_rows(hashes).mean() - 0.3) < 0.03
    weak = fold_plan(background=True, folds=3, weak=True)
    assert weak.n_models == 3
    for model in range(3):
        assert not (weak.narrows_on_data(hashes, model) & (weak.hunting_model(hashes) == model)).any()
        assert not (weak.reference_rows(hashes, model) & (weak.calibrating_model(hashes) == model)).any()
    with pytest.raises(InputError, match="folds is 2; at least 3"):
        fold_plan(background=False, folds=2)
    with pytest.raises(InputError, match="held_out is 1"):
        fold_plan(background=True, held_out=1.0)


def test_events_trained_on_and_repeats_are_told() -> None:
    events_ = np.array([5, 3, 5, 9, 3, 3], dtype=np.uint64)
    assert repeated_events(events_).tolist() == [False, False, True, False, True, True]
    trained = np.array([3, 9], dtype=np.uint64)
    assert already_trained_on(events_, trained).tolist() == [False, True, False, True, True, True]
    assert not already_trained_on(events_, trained[:0]).any()


def test_samples_that_share_events_are_named() -> None:
    def sample(start: int, run: int, dataset: str = "qcd") -> Table:
        table = events(50, dataset, start=start).with_columns(run=np.full(50, run))
        return Table({**table.columns, "a": np.arange(50.0) + start + run}, {"identity": list(IDENTITY)[1:]})

    def check(first: Table, second: Table) -> None:
        check_shared({n: (n, comparable_hashes(t, ["a"])) for n, t in (("one", first), ("two", second))})

    check(sample(0, 1), sample(50, 1))
    check(sample(0, 321_000), sample(50, 321_000))
    with pytest.raises(InputError, match=r"one and two share events \(50 by content\)"):
        check(sample(0, 1), sample(0, 1, "renamed"))
    other = sample(0, 321_000).with_columns(a=np.arange(50.0) + 0.25)
    with pytest.raises(InputError, match=r"share events \(50 by run, luminosityBlock and event\)"):
        check(sample(0, 321_000), other)
    # simulation with the same numbers and other content is other events
    check(sample(0, 1), sample(0, 1).with_columns(a=np.arange(50.0) + 0.25))


def test_repeats_are_compared_with_what_digits_explain(rng: np.random.Generator) -> None:
    fine = rng.normal(size=(2000, 2))
    coarse = np.round(rng.normal(size=(2000, 1)), 1)
    zeros = np.zeros((2000, 1))
    chance = 2000 - len(np.unique(coarse))
    assert not beyond_chance(chance, coarse)
    assert not beyond_chance(chance, zeros)
    assert beyond_chance(10, fine)
    assert beyond_chance(10, np.concatenate([coarse, zeros, fine], axis=1))
    assert not beyond_chance(3, np.concatenate([fine, np.full((2000, 1), np.nan)], axis=1)[:, ::-1])
