"""Representations by their name: fields, inputs, observables, what is refused, and what a scorer is given of a table."""

from __future__ import annotations

import dataclasses
import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from hunch.errors import InputError
from hunch.processors import (
    REPRESENTATIONS,
    Constituents,
    Features,
    Images,
    Representation,
    Running,
    UserTable,
    read_inputs,
    representation_of,
    run_table,
)
from hunch.table import DIJET_COLUMNS, EVENT_ID, IDENTITY, QUAK_FEATURES, Observable, Table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NEEDED: dict[str, dict[str, Any]] = {"table": {"features": ["x", "y"]}}
KINDS = {"rows": 2, "images": 4, "sets": 4}
ONE_JET = ("pt_1", "eta_1", "mJ_1", "tau21_1", "tau32_1", "tau43_1", "tau12_1", "ntrk_1")


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_every_representation_is_made_again_of_its_settings(name: str) -> None:
    made = representation_of(name, **NEEDED.get(name, {}))
    assert made.name == name
    assert made.kind in KINDS
    assert made.inputs
    hunted = None if name == "objects" else Observable.of("mjj")  # of whole events nothing is hunted in
    assert made.observable == hunted
    settings = json.loads(json.dumps(made.settings()))
    assert set(settings) == {field.name for field in dataclasses.fields(made)}
    assert representation_of(name, **settings) == made
    assert pickle.loads(pickle.dumps(made)) == made
    assert hash(made) == hash(representation_of(name, **settings))
    counting = representation_of(name, **NEEDED.get(name, {}), observable=None)
    assert counting.observable is None
    assert counting.settings()["observable"] is None
    assert representation_of(name, **counting.settings()) == counting
    assert counting.content == counting.inputs
    assert made.content == (*(("mjj",) if hunted else ()), *made.inputs)


@pytest.mark.parametrize("jets", [1, 2])
@pytest.mark.parametrize("name", ["features", "images", "constituents"])
def test_the_table_has_the_columns_that_the_representation_says(
    name: str, jets: int, random_events: Callable[[int], Any], write_events: Callable[..., Path]
) -> None:
    representation = representation_of(name, jets=jets)
    table = run_table(
        write_events("a.root", random_events(12)), representation, Running(executor="iterative", progress=False)
    ).table
    assert len(table) > 5
    numbers = [column for column in table.columns if table[column].ndim == 1 and column not in (*IDENTITY, EVENT_ID)]
    assert tuple(numbers) == representation.scalars
    assert set(representation.inputs) <= set(table.columns)
    inputs = read_inputs(table, representation)
    assert inputs.ndim == KINDS[representation.kind]
    assert inputs.dtype == (np.float64 if representation.kind == "rows" else np.float32)
    if representation.kind == "rows":
        np.testing.assert_array_equal(inputs, table.matrix(representation.inputs))
    else:
        assert inputs.shape[:2] == (len(table), jets)
        for number, column in enumerate(representation.inputs):
            np.testing.assert_array_equal(inputs[:, number], table[column])
    assert read_inputs(table[:0], representation).shape == (0, *inputs.shape[1:])


def hunted_in(representation: Representation) -> tuple[str, str]:
    assert representation.observable is not None
    return representation.observable.name, representation.observable.unit


def test_features_are_those_of_quak_without_the_observable() -> None:
    assert Features().inputs == QUAK_FEATURES
    assert Features().scalars == DIJET_COLUMNS[4:]
    assert Features(jets=1).scalars == ONE_JET
    assert hunted_in(Features(jets=1)) == ("mJ_1", "GeV")
    assert Features(jets=1).inputs == tuple(name for name in QUAK_FEATURES if name[-2:] == "_1" and name != "mJ_1")
    assert Features(jets=1, observable="pt_1").inputs == tuple(name for name in QUAK_FEATURES if name[-2:] == "_1")
    assert Features(observable="mJ_1").inputs == tuple(name for name in QUAK_FEATURES if name != "mJ_1")
    assert hunted_in(Features(observable="tau21_1")) == ("tau21_1", "")
    assert hunted_in(Features(observable=Observable("pt_1", "TeV"))) == ("pt_1", "GeV")
    assert Features(features=["deta", "pt_1"]).inputs == ("deta", "pt_1")
    assert Images(jets=1).inputs == ("image_1",)
    assert Constituents().inputs == ("constituents_1", "constituents_2")
    assert hunted_in(UserTable(features="x", observable="m", unit="TeV")) == ("m", "TeV")


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("image", {}, "no representation 'image'; did you mean 'images'"),
        ("images", {"pixel": 3}, "representation images: no option 'pixel'; did you mean 'pixels'"),
        ("features", {"observable": "mj_1"}, "features: no observable 'mj_1'; did you mean 'mJ_1'"),
        ("features", {"features": ["mj_1"]}, "no feature 'mj_1'; did you mean 'mJ_1'"),
        ("features", {"features": ["mjj", "mJ_1"]}, "'mjj' is the observable"),
        ("features", {"features": ["mJ_1", "mJ_1"]}, "'mJ_1' is named twice"),
        ("features", {"features": 3}, "features: 3 is no list"),
        ("features", {"jets": 1, "features": ["mJ_2"]}, "no feature 'mJ_2'"),
        ("table", {}, "representation table: option 'features' is needed"),
        ("table", {"features": []}, "needs its training columns named"),
        ("table", {"features": ["x", "mjj"]}, "'mjj' is the observable"),
        ("table", {"features": ["x", "x"]}, "'x' is named twice"),
        ("table", {"features": ["x"], "observable": "region"}, "cannot be called 'region'"),
    ],
)
def test_what_is_no_representation_is_named(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        representation_of(name, **options)


def test_no_events_become_a_table_of_the_users_own(write_events: Callable[..., Path]) -> None:
    own = UserTable(features=("x",))
    with pytest.raises(InputError, match="'table' is a table of your own"):
        run_table(write_events("a.root", [[]]), own, Running(executor="iterative", progress=False))
    with pytest.raises(InputError, match="'table' is a table of your own"):
        own.columns([])


def test_columns_of_another_shape_are_named() -> None:
    images = np.zeros((3, 4, 4))
    with pytest.raises(InputError, match=r"column 'image_2' holds \(2, 2\) a row; images of one shape"):
        read_inputs(Table({"image_1": images, "image_2": images[:, :2, :2]}), Images())
    with pytest.raises(InputError, match="'image_1' holds a number a row"):
        read_inputs(Table({"image_1": np.zeros(3), "image_2": images}), Images())
    with pytest.raises(InputError, match="no column 'image_2'; did you mean 'image_1'"):
        read_inputs(Table({"image_1": images}), Images())


def test_unusable_rows_are_told_and_counted() -> None:
    own = UserTable(features=("x", "y"), observable="m")
    nan, inf = np.nan, np.inf
    columns = {
        "m": np.array([1.0, nan, -1.0, 0.0, 2.0, -3.0]),
        "x": np.array([0.0, 0.0, 0.0, 0.0, inf, nan]),
        "y": np.arange(6),
    }
    keep, lost = own.usable(columns)
    assert keep.tolist() == [True, False, False, False, False, False]
    assert lost == {"an input or the observable is no finite number": 3, "m is not positive": 2}
    keep, lost = UserTable(features=("x", "y"), observable=None).usable(columns)
    assert keep.tolist() == [True] * 4 + [False] * 2
    assert lost == {"an input or the observable is no finite number": 2}


def test_a_column_that_holds_no_numbers_is_named() -> None:
    own = UserTable(features=("x",), observable="m")
    with pytest.raises(InputError, match="column 'x' holds text, not numbers"):
        own.usable({"m": np.ones(2), "x": np.array(["a", "b"])})


def test_a_representation_of_ones_own_needs_no_more_than_the_contract() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Multiplicity(Representation):
        name = "multiplicity"
        kind = "rows"
        inputs = ("n",)
        scalars = ("n", "ht")
        usual_observable = "ht"

        def columns(self, events: Any) -> tuple[dict[str, Any], dict[str, int]]:
            return {"row": np.arange(len(events))}, {"read": len(events), "kept": len(events)}

    assert hunted_in(Multiplicity()) == ("ht", "")
    assert Multiplicity().content == ("ht", "n")
