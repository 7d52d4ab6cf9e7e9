"""The study of AnomalyCLR: efficiencies against a count, what is kept of events, and what of a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import study_anomalyclr as study
from benchmarks import whole_events as samples
from hunch.analysis.regions.metrics import efficiency_at
from hunch.table import Table, write_table


def test_the_efficiency_is_where_the_stated_part_of_the_background_passes() -> None:
    background = np.random.default_rng(1).permutation(20_000).astype(np.float64)
    signal = np.concatenate([np.full(300, 19_979.5), np.full(100, 19_980.5), np.zeros(600)])
    # the 20 hardest of the background are 19,980 and above
    eps_s, error = efficiency_at(background, signal, 1e-3) or (0, 0)
    assert eps_s == 0.4
    # 4 fewer events: none of the signal is above 19,984; 4 more: all 400 are
    assert error == pytest.approx(np.hypot((0.4 * 0.6 / 1000) ** 0.5, 0.2))


def test_ties_of_the_background_with_the_signal_are_not_told_from_it() -> None:
    background = np.repeat([0.0, 1.0], [900, 100])
    assert efficiency_at(background, np.ones(50), 0.05) == (0.0, pytest.approx(0.0))
    assert efficiency_at(background, np.full(50, 2.0), 0.05) == (1.0, pytest.approx(0.0))


@pytest.mark.parametrize(("events", "given"), [(19_999, False), (20_000, True)])
def test_no_efficiency_of_fewer_than_20_events(events: int, given: bool) -> None:
    background = np.arange(events, dtype=np.float64)
    assert (efficiency_at(background, background, 1e-3) is not None) is given
    row = study.row_of([{"background": background, "event_a4l": background + 5}] * 2, "event_a4l")
    assert (row["eps_s_1e-03"] is not None) is given
    assert row["eps_s_1e-04"] is None
    assert row["eps_s_1e-04_error"] is None
    if given:
        assert row["eps_s_1e-03"] == pytest.approx(25 / events, abs=1e-5)


def test_numbers_of_an_event_do_not_count_the_missing_momentum(monkeypatch: pytest.MonkeyPatch) -> None:
    made = np.zeros((2, 4, 3))
    made[:, :, 0] = [[30.0, 5.0, 0.0, 7.0], [0.0, 0.0, 4.0, 0.0]]
    monkeypatch.setattr(study, "events", lambda _: made)
    found = study.number_scores.__wrapped__()
    assert {name: each["event_a4l"].tolist() for name, each in found.items()} == {
        "missing momentum": [30.0, 0.0],
        "sum of pT": [12.0, 4.0],
        "number of objects": [2.0, 1.0],
    }


def test_scorers_of_objects_take_the_numbers_that_change(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"train": np.zeros((5, 2, 3)), **{name: np.ones((3, 2, 3)) for name in ("background", *study.SIGNALS)}}
    made["train"][:, 0, 2] = np.arange(5)
    made["train"][2, 1, 0] = 7.0
    made["event_a4l"][:, 1, 0] = 9.0
    monkeypatch.setattr(study, "events", made.__getitem__)
    rows = study.rows_of.__wrapped__(None)
    assert {name: part.shape for name, part in rows.items()} == {n: (len(made[n]), 2) for n in made}
    np.testing.assert_array_equal(rows["train"][:, 0], np.arange(5))
    assert (rows["event_a4l"] == [1.0, 9.0]).all()


def test_events_are_the_first_of_the_smallest_table_that_holds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUNCH_STUDY", str(tmp_path))
    monkeypatch.setenv("MULTIPLE_INTERACTIONS", "1")

    def table(number: int, name: str, missing: int) -> None:
        event = np.delete(np.arange(number), missing)
        objects = np.full((number - 1, 19, 3), float(number), dtype=np.float32)
        objects[:, 0, 1] = event
        write_table(tmp_path / name, Table({"event": event, "objects": objects}))

    table(8, "objects_event_sm_8_1.parquet", 2)
    table(12, "objects_event_sm_12_1.parquet", 3)
    table(9, "objects_event_sm_9_1_without.parquet", 3)
    table(9, "objects_event_sm_9_2.parquet", 3)
    found = samples.whole_events("event_sm", 9, seed=1)
    assert found[:, 0, 1].tolist() == [0, 1, 2, 4, 5, 6, 7, 8]
    assert found[0, 0, 0] == 12
    assert samples.whole_events("event_sm", 8, seed=1)[0, 0, 0] == 8
    monkeypatch.setenv("MULTIPLE_INTERACTIONS", "0")
    assert samples.whole_events("event_sm", 4, seed=1)[0, 0, 0] == 9

    class Simulated(Exception):
        pass

    def simulate(*_: object, **options: object) -> None:
        assert options["multiple_interactions"] is False
        raise Simulated

    monkeypatch.setattr(samples, "simulate", simulate)
    with pytest.raises(Simulated):
        samples.whole_events("event_sm", 10, seed=1)
