"""An exported scorer scores as torch does: every architecture, every metric, ordinary rows and wild ones."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from hunch.models import (
    ConvVae,
    Flow,
    NotFittedError,
    Quak,
    ScorerError,
    ShapeError,
    UnknownMetricError,
    Vae,
    load_scorer,
    make_space,
)
from hunch.models.export.onnx_export import export_onnx
from hunch.models.export.onnx_file import SUM, sum_of
from hunch.models.export.onnx_scorer import OnnxScorer

pytestmark = pytest.mark.usefixtures("small_family")  # what is tested is what happens around it

QUICK = {"max_epochs": 2, "patience": 2, "hidden": 16, "batch_size": 128, "device": "cpu"}
Made = Quak | Flow | Vae


def table(n: int, seed: int = 0) -> np.ndarray:
    """Columns of every kind: light, heavy-tailed on both sides, on one, with a spike, of whole numbers."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5))
    x[:, 1] = rng.standard_t(1.5, size=n) + x[:, 0]
    x[:, 2] = np.exp(2.0 * rng.normal(size=n)) * 1e4
    x[:, 3] = np.where(rng.random(n) < 0.6, 0.0, rng.exponential(3.0, size=n))
    x[:, 4] = rng.poisson(8.0, size=n)
    return x


def light(n: int, seed: int = 0) -> np.ndarray:
    """Columns that are standardised by a straight line."""
    rng = np.random.default_rng(seed)
    return 40.0 * rng.normal(size=(n, 3)) @ rng.normal(size=(3, 3)) + 300.0


def outliers(x: np.ndarray) -> np.ndarray:
    """Rows far off, one column at a time and all at once."""
    signs = np.concatenate([np.eye(x.shape[1]), -np.eye(x.shape[1]), np.ones((2, x.shape[1])) * [[1.0], [-1.0]]])
    far = [x.mean(axis=0) + d * x.std(axis=0) * signs for d in (15.0, 40.0, 1e3, 1e12, 1e290)]
    return np.concatenate(far)


@functools.cache
def fitted(kind: str) -> tuple[Made, np.ndarray, np.ndarray]:
    """Return a scorer, ordinary rows that it never saw, and wild rows."""
    make = light if kind == "light" else table
    x = make(700)
    priors = {"a": x + 0.4 * x.std(axis=0), "b": 1.3 * x}
    made: Made
    if kind == "flow":
        made = Flow(seed=1, **QUICK).fit(x)
    elif kind in {"vae", "flow_vae"}:
        made = Vae(seed=1, flow_steps=2 * (kind == "flow_vae"), **QUICK).fit(x)
    elif kind == "quak_alone":
        made = Quak(seed=1, **QUICK).fit(x)
    else:
        architecture = kind.removeprefix("quak_") if kind.startswith("quak_") else "maf"
        made = Quak(seed=1, alpha=0.7, architecture=architecture, family=kind == "quak_maf", **QUICK).fit(
            x, priors=priors
        )
    assert made.density_ is not None
    # values on the knots of the column map themselves belong to the segment below
    return made, make(3000, seed=5), np.concatenate([outliers(x), made.density_.columns.knots.T])


KINDS = ("light", "quak_maf", "quak_alone", "quak_vae", "quak_flow_vae", "flow", "vae", "flow_vae")


@pytest.fixture(params=KINDS, scope="module")
def case(request: pytest.FixtureRequest) -> tuple[Made, np.ndarray, np.ndarray]:
    return fitted(request.param)


@pytest.fixture(scope="module")
def quak() -> tuple[Made, np.ndarray, np.ndarray]:
    return fitted("quak_maf")


def exported_metrics(scorer: Made) -> tuple[str, ...]:
    return scorer.metrics if isinstance(scorer, Quak) else scorer.metrics[:3]


def test_double_precision_scores_as_torch_does(case: tuple[Made, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    scorer, ordinary, wild = case
    for metric in exported_metrics(scorer):
        path = export_onnx(scorer, tmp_path / "m.onnx", metric=metric)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for rows in (ordinary, wild, ordinary[:1], ordinary[:0]):
            expected = scorer.score(rows, metric=metric)
            found = session.run(["score"], {"x": rows})[0]
            assert found.shape == (len(rows),)
            assert found.dtype == np.float64
            # an issue asks for 1e-5; rounding is far below it, so that a small mistake shows
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9, err_msg=metric)


def test_single_precision_is_close(case: tuple[Made, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    scorer, ordinary, _ = case
    path = export_onnx(scorer, tmp_path / "m.onnx", precision="float")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(["score"], {"x": ordinary.astype(np.float32)})[0]
    expected = scorer.score(ordinary.astype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-3)


def test_losses_come_too_and_the_file_says_what_it_is(
    quak: tuple[Made, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    scorer, ordinary, _ = quak
    assert isinstance(scorer, Quak)
    path = export_onnx(scorer, tmp_path / "m.onnx", metric="difference")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["losses"], {"x": ordinary})[0], scorer.losses(ordinary), rtol=1e-9)
    held = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert held["class"] == "Quak"
    assert held["metric"] == "difference"
    assert held["n_columns"] == "5"
    assert json.loads(held["axis_names"]) == ["background", "a", "b", "family"]
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_a_loaded_scorer_is_exported_the_same(quak: tuple[Made, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    scorer, _, _ = quak
    scorer.save(tmp_path / "scorer")
    first = export_onnx(scorer, tmp_path / "a.onnx").read_bytes()
    assert export_onnx(load_scorer(tmp_path / "scorer"), tmp_path / "b.onnx").read_bytes() == first


def test_exported_scorer_keeps_to_the_protocol(quak: tuple[Made, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    scorer, ordinary, wild = quak
    for precision, rtol in (("double", 1e-9), ("float", 1e-3)):
        exported = OnnxScorer(export_onnx(scorer, tmp_path / f"{precision}.onnx", precision=precision))
        rows = np.tile(ordinary, (2, 1))  # more than one step
        np.testing.assert_allclose(exported.score(rows, metric="anomaly"), scorer.score(rows), rtol=rtol, atol=rtol)
        assert np.isfinite(exported.score(wild)).all()
        assert exported.axis_names == scorer.axis_names  # type: ignore[union-attr]
        with pytest.raises(UnknownMetricError, match="allowed: anomaly"):
            exported.score(ordinary, metric="background")
        with pytest.raises(ScorerError, match="has 2 columns, the scorer was trained on 5"):
            exported.score(ordinary[:, :2])


def images(n: int, seed: int = 0) -> np.ndarray:
    """Return images (n, 2, 8, 8) of two jets that sum to one."""
    x = np.random.default_rng(seed).exponential(1.0, (n, 2, 8, 8)) ** 3
    return np.asarray(x / x.sum(axis=(2, 3), keepdims=True))


def run_file(path: Path, x: np.ndarray, output: str = "score") -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([output], {"x": x})[0])


@pytest.mark.parametrize(
    "options", [{"blocks": 2, "beta": 0.3}, {"convolutions": 2, "blocks": 1, "alpha": 1.3, "normalise": True}]
)
def test_a_convolutional_vae_scores_as_torch_does(options: dict[str, Any], tmp_path: Path) -> None:
    vae = ConvVae(max_epochs=1, latent=3, channels=4, hidden=8, device="cpu", **options).fit(images(100)[:, 0])
    x = images(40, seed=1)[:, 1]
    x = 5 * x if options.get("normalise") else x
    for metric in ("loss", "reconstruction", "kl", "mse", "mae", "latent_radius"):
        path = export_onnx(vae, tmp_path / "m.onnx", metric=metric)
        for some in (x, x[:1], x[:0]):
            found, expected = OnnxScorer(path).score(some), vae.score(some, metric=metric)
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, err_msg=metric)
    with pytest.raises(ShapeError, match=r"events of \(4,\), \(8, 8\) are expected"):
        OnnxScorer(path).score(np.ones((2, 4)))
    with pytest.raises(ScorerError, match=r"'wass1' is optimal transport.*allowed: kl, mse, mae, latent_radius, loss"):
        export_onnx(vae, tmp_path / "m.onnx", metric="wass1")


def test_spaces_score_as_torch_does(tmp_path: Path) -> None:
    x, priors = table(500), {"a": 1.1 * table(300, seed=2), "b": 0.8 * table(300, seed=3)}
    pictures = images(100), {"a": images(100, seed=2) ** 1.1}
    pictures[1]["a"] /= pictures[1]["a"].sum(axis=(2, 3), keepdims=True)
    rows = make_space("Vae", kind="rows", priors=["a", "b"], options={**QUICK, "seed": 2}).fit(x, priors=priors)
    jets = make_space(
        "ConvVae", kind="images", priors=["a"], options={"max_epochs": 1, "latent": 2, "blocks": 1, "device": "cpu"}
    ).fit(pictures[0], priors=pictures[1])
    read = [(rows, table(50, seed=5))]
    read += [
        (jets.configured(metric=metric, per_jet=way), images(50, seed=5))
        for metric, way in ((None, "sum"), ("mae", "max"), ("kl", "concat"))
    ]
    for space, events in read:
        for metric in space.metrics:
            path = export_onnx(space, tmp_path / "m.onnx", metric=metric)
            for some in (events, events[:1]):
                np.testing.assert_allclose(run_file(path, some), space.score(some, metric=metric), rtol=1e-9, atol=1e-9)
                np.testing.assert_allclose(run_file(path, some, "losses"), space.losses(some), rtol=1e-9, atol=1e-9)
            assert OnnxScorer(path).axis_names == space.axis_names
    far = make_space("EventToEnsemble", kind="images", options={"k": 2}).fit(images(20))
    with pytest.raises(ScorerError, match=r"axis 'background': EventToEnsemble cannot .* \(optimal transport"):
        export_onnx(far, tmp_path / "far.onnx")
    assert not (tmp_path / "far.onnx").exists()


def test_what_cannot_be_exported_says_what_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = light(200)
    with pytest.raises(NotFittedError):
        export_onnx(Flow(), tmp_path / "m.onnx")
    spline = Flow(transform="spline", max_epochs=1, device="cpu").fit(x)
    with pytest.raises(ScorerError, match="'nsf' cannot be exported as ONNX; allowed: maf, vae, flow_vae"):
        export_onnx(spline, tmp_path / "m.onnx")
    vae = Vae(**QUICK).fit(x)
    with pytest.raises(ScorerError, match=r"log_density.*allowed: loss, reconstruction, kl"):
        export_onnx(vae, tmp_path / "m.onnx", metric="log_density")
    with pytest.raises(ScorerError, match="did you mean 'double'"):
        export_onnx(vae, tmp_path / "m.onnx", precision="doubl")
    with pytest.raises(UnknownMetricError):
        export_onnx(vae, tmp_path / "m.onnx", metric="los")
    with pytest.raises(ScorerError, match="object cannot be exported as ONNX; allowed: ConvVae"):
        export_onnx(object(), tmp_path / "m.onnx")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ScorerError, match="pip install onnx"):
        export_onnx(vae, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_exported_scorer_says_so(tmp_path: Path) -> None:
    with pytest.raises(ScorerError, match="no such file"):
        OnnxScorer(tmp_path / "m.onnx")
    (tmp_path / "m.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(ScorerError, match="damaged, or no ONNX file"):
        OnnxScorer(tmp_path / "m.onnx")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, ["n"])
    other = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.DOUBLE, ["n"])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Abs", ["x"], ["y"])], "g", [value], [other])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ScorerError, match="not one that hunch export wrote"):
        OnnxScorer(tmp_path / "m.onnx")


def damaged(model: Any, change: Callable[[Any], object]) -> Any:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    change(copy)
    return copy


def put_outside(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")


def set_metadata(model: Any, key: str, value: str) -> None:
    next(entry for entry in model.metadata_props if entry.key == key).value = value


def put_steps(model: Any, *steps: tuple[str, list[str]], **attributes: int) -> None:
    """Put steps before those of a graph, each of which makes more of what it is given."""
    for i, (name, given) in enumerate(steps):
        model.graph.node.insert(i, onnx.helper.make_node(name, given, [f"made_{i}"], **attributes))


def put_grid(model: Any) -> None:
    for name, shape in (("row", (1, 4000)), ("column", (4000, 1))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(shape), name))
    put_steps(model, ("Add", ["row", "column"]))


def change_weight(model: Any) -> None:
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    tensor.raw_data = bytes([tensor.raw_data[0] ^ 1]) + tensor.raw_data[1:]


DAMAGES: dict[str, tuple[Callable[[Any], object], str]] = {
    "external": (put_outside, r"are in another file, '\.\./secret\.bin', which is not read"),
    "size": (lambda m: m.graph.initializer[0].dims.append(10**12), "damaged, its weights 'constant_0' hold"),
    "operation": (lambda m: setattr(m.graph.node[0], "op_type", "ConstantOfShape"), "operation 'ConstantOfShape'"),
    "domain": (lambda m: setattr(m.graph.node[0], "domain", "com.elsewhere"), "which hunch export does not write"),
    "loop": (lambda m: setattr(m.graph.node[0], "op_type", "Loop"), "operation 'Loop'"),
    "columns": (lambda m: set_metadata(m, "n_columns", "1000000000000"), "damaged, tells events of"),
    "shape": (lambda m: set_metadata(m, "shape", "[[[["), "metadata 'shape'"),
    "digits": (lambda m: set_metadata(m, "n_columns", "9" * 5000), "tell no sizes"),
    "precision": (lambda m: set_metadata(m, "precision", "half"), "tell no sizes"),
    "a grid of two lines": (put_grid, "makes more than 4,194,304 numbers of an event"),
    "doubled 40 times": (
        lambda m: put_steps(m, *(("Concat", [x, x]) for x in ["x", *(f"made_{i}" for i in range(39))]), axis=1),
        "makes more than 4,194,304 numbers of an event",
    ),
    "events with each other": (
        lambda m: put_steps(m, ("Transpose", ["x"]), ("MatMul", ["x", "made_0"])),
        "or of events with each other",
    ),
    "no metadata": (lambda m: m.metadata_props.pop(), "tell no sizes"),
    "a name": (lambda m: set_metadata(m, "metric", "nice"), "it does not match its own sum"),
    "a weight": (change_weight, "it does not match its own sum"),
    "no sum": (lambda m: m.metadata_props.pop(0), "it holds no sum of itself"),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("onnx") / "m.onnx"
    rows = np.random.default_rng(5).normal(size=(120, 3))
    export_onnx(Flow(max_epochs=1, hidden=4).fit(rows), path)
    return onnx.load(path)


@pytest.mark.parametrize("name", DAMAGES)
def test_what_hunch_export_does_not_write_is_refused(name: str, exported: Any, tmp_path: Path) -> None:
    """ONNX Runtime would read weights from the other file, and would make a tensor of any size."""
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "m.onnx"
    path.write_bytes(exported.SerializeToString())
    OnnxScorer(path)
    change, said = DAMAGES[name]
    made = damaged(exported, change)
    if "sum" not in said:  # what its maker writes on purpose has a sum that fits
        set_metadata(made, SUM, sum_of(made))
    path.write_bytes(made.SerializeToString())
    with pytest.raises(ScorerError, match=rf"m\.onnx: .*{said}"):
        OnnxScorer(path)
