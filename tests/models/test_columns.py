"""Columns are matched by name: whatever names them gives the scores that the columns in their own order give."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from hunch.errors import HunchError
from hunch.models import (
    NAE,
    ConvVae,
    DtypeError,
    EventToEnsemble,
    Flow,
    NonFiniteError,
    Quak,
    Sample,
    ScorerError,
    ScorerFolderError,
    ScorerSpace,
    ShapeError,
    TooFewRowsError,
    Vae,
    load_scorer,
    make_space,
)
from hunch.models.columns import say_surplus
from hunch.models.export.onnx_export import export_onnx
from hunch.models.export.onnx_scorer import OnnxScorer
from hunch.models.storage import sealed
from hunch.table import Table

QUICK: dict[str, Any] = {"device": "cpu", "max_epochs": 1, "hidden": 4}
FLOW: dict[str, Any] = {**QUICK, "steps": 1}
TINY: dict[str, Any] = {
    **QUICK,
    "latent": 2,
    "batch_size": 64,
    "nae_epochs": 1,
    "latent_steps": 1,
    "input_steps": 1,
    "replay": 64,
}
NAMES = ("light", "heavy", "tau21")
OTHER = (2, 0, 1)
"""Another order of the columns."""


def rows(n: int = 120, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal([1.0, 20.0, 300.0], [0.1, 4.0, 50.0], size=(n, 3))


def named(x: np.ndarray, order: tuple[int, ...] = (0, 1, 2)) -> dict[str, np.ndarray]:
    return {NAMES[i]: x[:, i] for i in order}


FORMS: dict[str, Callable[[dict[str, np.ndarray]], Any]] = {
    "sample": lambda d: Sample(np.stack(list(d.values()), axis=1), tuple(d)),
    "table": Table,
    "mapping": dict,
    "pandas": pd.DataFrame,
    "pandas that knows of missing values": lambda d: pd.DataFrame(d).convert_dtypes(),
    "arrow table": pa.table,
    "arrow batch": pa.RecordBatch.from_pydict,
    "awkward records": ak.zip,
    "structured array": lambda d: np.rec.fromarrays(list(d.values()), names=list(d)),
    "list of rows": lambda d: [
        dict(zip(d, row, strict=True)) for row in zip(*(v.tolist() for v in d.values()), strict=True)
    ],
    "sample of a data frame": lambda d: Sample(pd.DataFrame(d)),
}
MAKERS: dict[str, Callable[[], Any]] = {
    "Flow": lambda: Flow(**FLOW),
    "Vae": lambda: Vae(**QUICK),
    "Quak": lambda: Quak(**FLOW, family=False),
    "space": lambda: ScorerSpace(Flow(**FLOW)),
}


@pytest.fixture(params=[*MAKERS, "NAE"], scope="module")
def fitted(request: pytest.FixtureRequest) -> Any:
    makers = MAKERS | {"NAE": lambda: NAE(**TINY, inputs="rows")}
    return makers[request.param]().fit(pd.DataFrame(named(rows())))


@pytest.mark.parametrize("form", FORMS)
def test_columns_in_another_order_have_the_scores_of_their_own(fitted: Any, form: str) -> None:
    x = rows(40, 1)
    assert tuple(fitted.input_names) == NAMES
    np.testing.assert_array_equal(fitted.score(FORMS[form](named(x, OTHER))), fitted.score(x))


@pytest.mark.parametrize("form", FORMS)
def test_names_are_those_of_what_is_trained_on(form: str) -> None:
    x = rows()
    scorer = Flow(**FLOW).fit(FORMS[form](named(x)), validation=FORMS[form](named(x, OTHER)))
    assert scorer.input_names == NAMES
    np.testing.assert_array_equal(scorer.score(x), Flow(**FLOW).fit(x, validation=x).score(x))


def test_names_are_stored_and_those_that_do_not_fit_refused(fitted: Any, tmp_path: Path) -> None:
    x = rows(5, 1)
    fitted.save(tmp_path / "s")
    again: Any = load_scorer(tmp_path / "s")
    assert tuple(again.input_names) == NAMES
    np.testing.assert_array_equal(again.score(pd.DataFrame(named(x, OTHER))), fitted.score(x))
    record = json.loads((tmp_path / "s" / "scorer.json").read_text())
    assert record["input_names"] == list(NAMES)
    own = record["state"]["axes"][0]["scorer"] if "axes" in record["state"] else record
    for wrong in (["light"], [1, 2, 3], "light"):
        own["input_names"] = wrong
        (tmp_path / "s" / "scorer.json").write_text(json.dumps(sealed(record)))
        with pytest.raises(ScorerFolderError, match="input_names"):
            load_scorer(tmp_path / "s")


def test_a_scorer_stored_before_names_were_takes_columns_as_they_come_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    x = rows()
    Flow(**FLOW).fit(pd.DataFrame(named(x))).save(tmp_path / "s")
    record = json.loads((tmp_path / "s" / "scorer.json").read_text())
    del record["input_names"]
    (tmp_path / "s" / "scorer.json").write_text(json.dumps(sealed(record)))
    say_surplus.cache_clear()
    again = load_scorer(tmp_path / "s")
    np.testing.assert_array_equal(again.score(pd.DataFrame(named(x))), again.score(x))  # type: ignore[arg-type]
    assert "knows no names of its inputs; columns are taken in this order: light, heavy, tau21" in caplog.text
    with pytest.raises(ShapeError, match="has 2 columns, the scorer was trained on 3"):
        again.score(x[:, :2])


def test_what_does_not_fit_is_named(fitted: Any, caplog: pytest.LogCaptureFixture) -> None:
    x = rows(5, 1)
    frame = pd.DataFrame(named(x))

    def fails(given: Any, match: str, kind: type[HunchError] = ScorerError) -> None:
        with pytest.raises(kind, match=match):
            fitted.score(given)

    fails(frame.rename(columns={"heavy": "heavi"}), "no column 'heavy'; did you mean 'heavi'")
    fails(frame[["light"]], "no column 'heavy'.*; 2 are missing in all: heavy, tau21")
    fails(pd.concat([frame, frame[["light"]]], axis=1), "column 'light' is there 2 times")
    fails(frame.assign(heavy="x"), "column 'heavy' holds .*, not real numbers", DtypeError)
    fails(frame.assign(heavy=np.nan), r"NaN or infinity in 5 of 5 rows, in columns heavy \(5 rows\)", NonFiniteError)
    fails(x[:, :2], "has 2 columns, the scorer was trained on 3: light, heavy, tau21", ShapeError)
    fails([frame, frame], "is a list of 2 DataFrame", DtypeError)
    fails([Table(named(x))], "is a list of 1 Table", DtypeError)
    fails([[1.0, 2.0, 3.0], [1.0]], "different shapes", ShapeError)
    fails(
        ak.Array([{"light": 1.0, "heavy": [1.0], "tau21": 2.0}, {"light": 1.0, "heavy": [], "tau21": 2.0}]),
        "column 'heavy'",
    )
    fails(np.ones((5, 2, 4, 4)), "images", ShapeError)
    say_surplus.cache_clear()
    fitted.score(frame.assign(event=1, mjj=3000.0, deta=1.0))
    assert "columns that the scorer was not trained on are left out: deta\n" in caplog.text


@pytest.mark.parametrize("name", ["Flow", "Quak"])
def test_a_space_is_fitted_on_tables_and_says_what_it_cannot_take(name: str) -> None:
    x, prior = rows(), rows(seed=2) * 1.2
    options = {**FLOW, **({"family": False} if name == "Quak" else {})}

    def space() -> Any:
        return make_space(name, kind="rows", priors=("near",), options=options)

    plain = space().fit(x, priors={"near": prior}, validation=x)
    tables = space().fit(
        Table(named(x)),
        priors={"near": Table({**named(prior, OTHER), "event": np.arange(120)})},
        validation=Table(named(x, OTHER)),
    )
    assert tables.input_names == NAMES
    np.testing.assert_array_equal(tables.losses(Table(named(x, OTHER))), plain.losses(x))
    np.testing.assert_array_equal(tables.losses(named(x, OTHER)), plain.losses(x))
    whole = Table({**named(x), "run": np.ones(120), "truth_signal": np.zeros(120)})
    with pytest.raises(
        ScorerError,
        match=r"'run' tells events apart, column 'truth_signal' is a label.*x\[\['light', 'heavy', 'tau21'\]\]",
    ):
        space().fit(whole, priors={"near": prior})
    with pytest.raises(DtypeError, match=r"is a list of 2 Table; one sample, table or array"):
        space().fit([whole, whole], priors={"near": prior})
    with pytest.raises(ScorerError, match="prior 'near': no column 'tau21'"):
        space().fit(Table(named(x)), priors={"near": Table(named(prior, (0, 1)))})
    with pytest.raises(ScorerError, match="validation: no column 'light'"):
        space().fit(Table(named(x)), priors={"near": prior}, validation=Table(named(x, (1, 2))))


def test_narrowing_takes_columns_by_name(small_family: None) -> None:
    x, prior = rows(), rows(seed=2) * 1.2
    quak = Quak(**FLOW).fit(Table(named(x)), priors={"near": Table(named(prior, OTHER))}, data=Table(named(x, OTHER)))
    plain = quak.narrow(x, priors={"near": prior}, reference=x)
    other = quak.narrow(
        pd.DataFrame(named(x, OTHER)),
        priors={"near": Table(named(prior, OTHER))},
        reference=pd.DataFrame(named(x, OTHER)),
    )
    np.testing.assert_array_equal(plain.losses(x), other.losses(named(x, OTHER)))


def test_scorers_that_were_fitted_before_keep_their_own_order() -> None:
    x = rows()
    flow = Flow(**FLOW).fit(pd.DataFrame(named(x, OTHER)))
    space = ScorerSpace(flow).fit(pd.DataFrame(named(x)), fitted=True)
    assert space.input_names == tuple(NAMES[i] for i in OTHER)
    expected = flow.score(pd.DataFrame(named(x)))
    np.testing.assert_allclose(space.losses(pd.DataFrame(named(x)))[:, 0], expected / expected.std())


def jets(n: int, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).exponential(size=(n, 4, 4))
    return made / made.sum(axis=(1, 2), keepdims=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda: EventToEnsemble(distance="mae", k=1),
        lambda: ConvVae(blocks=1, channels=2, hidden=4, latent=2, max_epochs=1, device="cpu"),
        lambda: NAE(**TINY),
    ],
    ids=["EventToEnsemble", "ConvVae", "NAE"],
)
def test_a_column_of_images_is_asked_for_by_its_name(make: Callable[[], Any]) -> None:
    x = jets(100)
    scorer = make().fit(Table({"image_1": x}), validation=Table({"image_2": x, "image_1": x}))
    assert scorer.input_names == ("image_1",)
    whole = Table({"image_2": jets(100, 1), "mjj": np.ones(100), "image_1": x})
    np.testing.assert_array_equal(scorer.score(whole), scorer.score(x))
    with pytest.raises(ScorerError, match="no column 'image_1'; did you mean 'image_2'"):
        scorer.score(whole[["image_2"]])
    with pytest.raises(ShapeError, match="rows of numbers are another representation"):
        scorer.score(rows())
    with pytest.raises(ShapeError):
        scorer.score(np.ones((3, 8, 8)) / 64)


def made(x: np.ndarray, **settings: Any) -> Table:
    return Table(
        named(x, OTHER), {"representation": "features", "settings": {"radius": 1.0, "min_pt": 50.0, **settings}}
    )


@pytest.mark.parametrize("name", MAKERS)
def test_jets_of_another_radius_are_not_scored(name: str, tmp_path: Path) -> None:
    x = rows()
    scorer: Any = MAKERS[name]().fit(made(x))
    scorer.save(tmp_path / "s")
    exported = OnnxScorer(export_onnx(scorer, tmp_path / "m.onnx"))
    for own in (scorer, load_scorer(tmp_path / "s"), exported):
        with pytest.raises(
            ScorerError, match=r"x: its columns were made with other settings .*: radius = 0\.8, trained on 1\.0"
        ):
            own.score(made(x, radius=0.8))
        np.testing.assert_array_equal(
            own.score(made(x, min_pt=200.0)), own.score(made(x))
        )  # other events, the same columns
        np.testing.assert_array_equal(own.score(Table(named(x))), own.score(made(x)))
    with pytest.raises(ScorerError, match="validation: its columns were made with other settings"):
        MAKERS[name]().fit(made(x), validation=made(x, radius=0.8))


def test_priors_of_another_radius_are_not_trained_on() -> None:
    for name in ("Flow", "Quak"):
        space = make_space(name, kind="rows", priors=("near",), options=FLOW)
        with pytest.raises(ScorerError, match="prior 'near': its columns were made with other settings"):
            space.fit(made(rows()), priors={"near": made(rows(), radius=0.8)})


def test_all_axes_are_looked_at_before_the_first_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Flow, "fit", lambda *_, **__: pytest.fail("trained"))
    space = make_space("Flow", kind="rows", priors=("near",), options=FLOW)
    with pytest.raises(TooFewRowsError, match="prior 'near': has 30 events, at least 100 rows are needed"):
        space.fit(rows(), priors={"near": rows(30)})
    bad = rows()
    bad[3, 1] = np.nan
    with pytest.raises(NonFiniteError, match="prior 'near': NaN or infinity in 1 of 120 events, in heavy"):
        space.fit(Table(named(rows())), priors={"near": Table(named(bad))})


def test_a_space_of_two_jets_takes_their_columns_by_name() -> None:
    one, two = jets(100), jets(100, 1) ** 2
    two /= two.sum(axis=(1, 2), keepdims=True)
    space = ScorerSpace(EventToEnsemble(distance="mae", k=1), per_jet="concat").fit(
        Table({"image_1": one, "image_2": two})
    )
    both = np.stack([one, two], axis=1)
    np.testing.assert_array_equal(space.losses(Table({"image_2": two, "image_1": one})), space.losses(both))
    with pytest.raises(ScorerError, match="no column 'image_2'"):
        space.losses(Table({"image_1": one}))


@pytest.mark.parametrize("name", ["Flow", "Quak", "space"])
def test_onnx_files_hold_the_names(name: str, tmp_path: Path) -> None:
    x = rows()
    scorer = MAKERS[name]().fit(pd.DataFrame(named(x)))
    exported = OnnxScorer(export_onnx(scorer, tmp_path / "m.onnx"))
    assert exported.input_names == NAMES
    np.testing.assert_allclose(exported.score(pd.DataFrame(named(x, OTHER))), scorer.score(x), rtol=1e-9)
    with pytest.raises(ScorerError, match="no column 'tau21'; did you mean 'tau'"):
        exported.score(pd.DataFrame(named(x)).rename(columns={"tau21": "tau"}))
    bare = OnnxScorer(export_onnx(MAKERS[name]().fit(x), tmp_path / "bare.onnx"))
    assert bare.input_names == ()


def test_axes_with_columns_of_another_order_are_no_onnx_graph(tmp_path: Path) -> None:
    x, flow = rows(), Flow(**FLOW)
    space = ScorerSpace(flow, {"near": Flow(**FLOW)})
    given = {"background": pd.DataFrame(named(x)), "near": pd.DataFrame(named(x, OTHER))}
    space.fit(given, priors={"near": pd.DataFrame(named(x))})
    np.testing.assert_array_equal(space.losses(named(x, OTHER)), space.losses(named(x)))
    with pytest.raises(ScorerError, match=r"axes take different columns .*near: tau21, light, heavy"):
        export_onnx(space, tmp_path / "m.onnx")
