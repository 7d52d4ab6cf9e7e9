"""The challenge's figures of merit against a count and its own definitions, and its tables there and back."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from hunch.analysis.regions.challenge import (
    ChallengeRow,
    challenge_row,
    read_challenge,
    selected_model,
    summaries,
    total_improvements,
    write_challenge,
)
from hunch.errors import InputError

NAN = math.nan


def row(signal: str, model: str, channel: str, *eps_s: float, auc: float = 0.8) -> ChallengeRow:
    return ChallengeRow(signal, model, channel, auc, (eps_s[0], eps_s[1], eps_s[2]))


def test_a_row_of_the_truth_and_of_nothing() -> None:
    rng = np.random.default_rng(0)
    background = rng.uniform(size=300_000)
    chance = challenge_row(background, rng.uniform(size=100_000), name="s", model="m", channel="1")
    assert chance.auc == pytest.approx(0.5, abs=3 * 0.289 * math.sqrt(1 / 1e5 + 1 / 3e5))
    for level, eps in zip((1e-2, 1e-3, 1e-4), chance.eps_s, strict=True):
        assert eps == pytest.approx(level, abs=4 * math.sqrt(level / 1e5) + 4 * math.sqrt(level / 3e5))
    assert chance.improvement == pytest.approx(0.1, rel=0.05)
    truth = challenge_row(background, np.full(100, 2.0), name="s", model="m", channel="1")
    assert truth.eps_s == (1.0, 1.0, 1.0)
    assert truth.improvement == pytest.approx(100)


def test_no_figure_where_fewer_than_20_background_events_pass() -> None:
    found = challenge_row(np.arange(20_000.0), np.arange(500.0), name="s", model="m", channel="2a")
    assert [math.isnan(v) for v in found.eps_s] == [False, False, True]
    assert [math.isnan(v) for v in found.errors] == [False, False, False, True]


def test_total_improvement_is_the_best_over_levels_and_channels() -> None:
    rows = [
        row("a", "m", "1", 0.5, 0.1, 0.001),  # SI 5, 3.16, 0.1
        row("a", "m", "3", 0.01, 0.01, 0.08),  # SI 0.1, 0.32, 8
        row("b", "m", "1", 0.2, NAN, NAN),  # SI 2
        row("c", "m", "1", NAN, NAN, NAN),
        row("a", "other", "1", 0.3, 0.0, 0.0),
    ]
    found = total_improvements(rows)
    assert found["m"]["a"] == pytest.approx(8)
    assert found["m"]["b"] == pytest.approx(2)
    assert math.isnan(found["m"]["c"])
    first, second = summaries(rows)
    assert (first.model, first.signals, first.pairs) == ("m", 2, 4)
    assert (first.smallest, first.median, first.largest) == pytest.approx((2, 5, 8))
    assert (second.model, second.median) == ("other", pytest.approx(3))


def test_what_is_selected_on_one_half_is_quoted_on_the_other() -> None:
    signals = [f"s{i}" for i in range(8)]
    rng = np.random.default_rng(1)
    rows = [row(s, f"m{k}", "1", float(rng.uniform()), 0.0, 0.0) for k in range(30) for s in signals]
    rows += [row("s0", "incomplete", "1", 1.0, 1.0, 1.0)]
    first, other = selected_model(rows, seed=3)
    assert first.model == other.model != "incomplete"
    assert first.signals == other.signals == 4
    own = total_improvements(rows)[first.model]
    # the medians are of disjoint halves of that model's own figures
    order = np.random.default_rng(3).permutation(8)
    halves = [[own[sorted(signals)[i]] for i in part] for part in (order[:4], order[4:])]
    assert first.median == pytest.approx(np.median(halves[0]))
    assert other.median == pytest.approx(np.median(halves[1]))
    # nothing has a larger median on the first half
    chosen = {sorted(signals)[i] for i in order[:4]}
    for model, each in total_improvements(rows).items():
        if model != "incomplete":
            assert np.median([each[s] for s in chosen]) <= first.median + 1e-12
    # a choice on noise shrinks
    assert first.median > other.median


def test_tables_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = [row("a,b", 'm "x"', "2a", 0.25, 0.125, NAN), row("c", "m", "1", 1.0, 0.0, 0.5, auc=NAN)]
    write_challenge(tmp_path / "rows.csv", rows)
    text = (tmp_path / "rows.csv").read_text()
    assert text.splitlines()[0] == "Signal,Model,Chan,AUC,1e-2,1e-3,1e-4"
    assert repr(read_challenge(tmp_path / "rows.csv")) == repr(rows)


def test_columns_may_stand_in_another_order_beside_others(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("\ufeffid,Chan,1e-4,1e-3,1e-2,AUC,Model,Signal\n1,3,0.1,0.2,0.3,0.9,m,s\n")
    assert read_challenge(tmp_path / "r.csv") == [row("s", "m", "3", 0.3, 0.2, 0.1, auc=0.9)]


HEAD = "Signal,Model,Chan,AUC,1e-2,1e-3,1e-4\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Signal,Model,Chan,AUC,1e-2,1e-3\ns,m,1,0.5,0,0\n", "no column '1e-4'"),
        (HEAD + "s,m,1,1.5,0,0,0\n", "line 2: AUC is '1.5', a number from 0 to 1"),
        (HEAD + "s,m,1,0.5,0,0,0\ns,m,2a,0.5,x,0,0\n", "line 3: 1e-2 is 'x'"),
        (HEAD + "s,m,1,0.5,0,0,inf\n", "line 2: 1e-4 is 'inf'"),
        (HEAD + "s,m,1,0.5,0,0\n", "line 2: has another number of fields"),
        (HEAD + "s,m,1,0.5,0,0,0,7\n", "line 2: has another number of fields"),
        (HEAD + ",m,1,0.5,0,0,0\n", "line 2: Signal is ''"),
        (HEAD + "s,m,1,0.5,0,0,0\ns,m,1,0.6,0,0,0\n", "rows 1 and 2 are both of m on s in channel 1"),
        (HEAD, "holds no row"),
        ("", "no column 'Signal'"),
    ],
)
def test_tables_that_are_none_are_named(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(InputError, match=told):
        read_challenge(tmp_path / "bad.csv")


def test_a_binary_file_and_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match=r"b\.csv: is no CSV table"):
        read_challenge(tmp_path / "b.csv")
    with pytest.raises(InputError, match="no such file"):
        read_challenge(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="1 signals: one half"):
        selected_model([row("a", "m", "1", 0.1, 0.1, 0.1)])
