"""What every scorer in the registry keeps to."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch

from hunch.models import (
    KINDS,
    SCORERS,
    DeviceError,
    DtypeError,
    NonFiniteError,
    NotFittedError,
    Sample,
    Scorer,
    ScorerError,
    ScorerFolderError,
    ShapeError,
    Space,
    TooFewRowsError,
    UnknownMetricError,
    for_kind,
    load_scorer,
    load_space,
    make_space,
    scorer_fields,
)
from hunch.models.scorer import method_class
from hunch.models.storage import sealed
from hunch.models.train import checkpoint as checkpoint_module
from hunch.models.train import loop as training_module

OPTIONS: dict[str, Any] = {"max_epochs": 6, "patience": 6, "hidden": 16, "batch_size": 64, "channels": 4, "latent": 3}
OPTIONS |= {"k": 2, "sample": 60, "device": "cpu"}
OPTIONS |= {"n_estimators": 50, "components": 3, "clusters": 4, "outputs": 8}
OPTIONS |= {"nae_epochs": 2, "latent_steps": 2, "input_steps": 2, "replay": 64}
ENCODER = {
    "width": 8,
    "heads": 2,
    "layers": 1,
    "feedforward": 8,
    "dims": 4,
    "projection": 4,
    "max_epochs": 3,
    "batch_size": 64,
}
OPTIONS |= {"encoder": {"name": "JetCLR", **ENCODER}, "scorer": {"name": "Quak", "max_epochs": 6, "hidden": 16}}
"""Small sizes by the name of the option; a method takes those that it has."""
COMBINED = {"rows": ("Flow", "Vae"), "images": ("ConvVae", "NAE"), "sets": ("EventVae", "EventAutoencoder")}
"""What is combined, by the kind of events."""
RANGED = {"IsolationForest"}
"""Methods to which nothing is further out than the outermost event of their training: a far outlier is as anomalous as what is there."""
LEAST = 100  # events that every method can be trained on
Make = Callable[..., Any]


def table(n: int, seed: int = 0) -> np.ndarray:
    """Correlated, one column skewed, one of whole numbers."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    x[:, 1] = 0.8 * x[:, 0] + 0.3 * x[:, 1]
    x[:, 2] = rng.exponential(50.0, size=n)
    x[:, 3] = rng.poisson(8.0, size=n)
    return x


def images(n: int, seed: int = 0) -> np.ndarray:
    """Jets (n, 8, 8) with their pT around the middle, which sum to one."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:8, :8]
    made = np.exp(-0.5 * ((rows - 3.5) ** 2 + (columns - 3.5) ** 2)) * rng.exponential(size=(n, 8, 8))
    return made / made.sum(axis=(1, 2), keepdims=True)


def sets(n: int, seed: int = 0) -> np.ndarray:
    """Jets (n, 6, 3) of constituents near the axis: pT, which sums to one, and two coordinates."""
    rng = np.random.default_rng(seed)
    made = np.concatenate([rng.exponential(size=(n, 6, 1)), rng.normal(0, 0.2, (n, 6, 2))], axis=2)
    made[..., 0] /= made[..., 0].sum(axis=1, keepdims=True)
    return made


SAMPLES: dict[str, Callable[..., np.ndarray]] = {"rows": table, "images": images, "sets": sets}


def outliers(kind: str) -> np.ndarray:
    """Return events that nothing in a sample is like."""
    if kind == "rows":
        x = table(500, seed=1)
        return x.mean(axis=0) + 40.0 * x.std(axis=0) * np.array([[1, 0, 0, 0], [0, -1, 0, 0], [1, -1, 1, 1]])
    if kind == "images":
        corner = np.zeros((1, 8, 8))
        corner[0, 0, 7] = 1.0
        return corner
    return sets(3, seed=1) + np.array([0.0, 30.0, 0.0])


class Case:
    """One method on one kind of events."""

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.kind, self.cls = name, kind, method_class(name)
        self.options = {k: v for k, v in OPTIONS.items() if k in scorer_fields(self.cls)}
        self.options |= self.cls.kind_options.get(kind, {})
        if name == "Combined":
            own = [{"name": one} for one in COMBINED[kind]]
            self.options["scorers"] = [
                {k: v for k, v in OPTIONS.items() if k in scorer_fields(method_class(one["name"])) and k != "device"}
                | one
                for one in own
            ]

    def make(self, **options: Any) -> Any:
        return self.cls(**{**self.options, **options})

    def trained_for(self, epochs: int) -> Any:
        """One that trains for so many epochs; of an encoder and what is on top of it, both."""
        if self.name == "Combined":
            return self.make(scorers=[{**one, "max_epochs": epochs} for one in self.options["scorers"]])
        parts = {name: {**self.options[name], "max_epochs": epochs} for name in self.cls.parts(self.options)}
        return self.make(**(parts or {"max_epochs": epochs}))

    def events(self, n: int, seed: int = 0) -> np.ndarray:
        return SAMPLES[self.kind](n, seed)

    def space_events(self, n: int, seed: int = 0) -> np.ndarray:
        """Events of a space: two jets where there are jets."""
        if self.kind == "rows":
            return self.events(n, seed)
        return np.stack([self.events(n, 2 * seed + 100), self.events(n, 2 * seed + 101)], axis=1)

    def space(self, **given: Any) -> Space:
        free = {k: v for k, v in self.options.items() if k not in self.cls.kind_options.get(self.kind, {})}
        return make_space(self.name, kind=self.kind, options=free, **given)


CASES = [(name, kind) for name in SCORERS for kind in method_class(name).takes]


@pytest.fixture(params=CASES, ids=[" ".join(case) for case in CASES], scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return Case(*request.param)


@pytest.fixture(scope="module")
def fitted_case(case: Case) -> Any:
    return case.make(seed=3).fit(case.events(2 * LEAST))


@pytest.fixture(params=for_kind("rows"), scope="module")
def case_of_rows(request: pytest.FixtureRequest) -> Case:
    return Case(request.param, "rows")


@pytest.fixture(scope="module")
def make(case_of_rows: Case) -> Make:
    return case_of_rows.make


@pytest.fixture(scope="module")
def fitted(make: Make) -> Any:
    return make(seed=3).fit(table(600))


def test_every_entry_says_what_it_is(case: Case) -> None:
    assert set(case.cls.takes) <= set(KINDS)
    assert set(case.cls.uses) <= {"exposure", "weights", "mass"}
    assert case.name in for_kind(case.kind)
    # the constructor has nothing but keyword-only fields with defaults, and their types are known
    for name, field in scorer_fields(case.cls).items():
        assert field.kw_only, name
        assert field.default is not dataclasses.MISSING, name
        assert name in get_type_hints(case.cls)
    assert case.cls.spans == isinstance(case.make(), Space)
    assert case.cls.mosaic == ("hypotheses" in scorer_fields(case.cls))
    assert case.cls.narrows == hasattr(case.cls, "narrow")


def test_parameters_and_repr(case: Case, fitted_case: Any) -> None:
    parameters = fitted_case.parameters()
    assert parameters == case.cls(**parameters).parameters()
    assert set(parameters) == set(scorer_fields(case.cls))
    assert re.fullmatch(rf"{case.name}\([^\n]*not fitted\)", repr(case.make()))
    assert re.fullmatch(rf"{case.name}\([^\n]*, fitted on 200 events\)", repr(fitted_case))


def test_scores_of_every_metric(case: Case, fitted_case: Any) -> None:
    assert isinstance(fitted_case, Scorer)
    x = case.events(7, seed=1)
    for metric in fitted_case.metrics:
        scores = fitted_case.score(x, metric=metric)
        assert (scores.shape, scores.dtype) == ((7,), np.float64)
        assert np.isfinite(scores).all()
        # whatever comes beside them
        alone = np.concatenate([fitted_case.score(x[i : i + 1], metric=metric) for i in range(7)])
        np.testing.assert_allclose(alone, scores, rtol=0, atol=1e-10)
        assert fitted_case.score(x[:0], metric=metric).shape == (0,)
    assert np.array_equal(fitted_case.score(x), fitted_case.score(x, metric=fitted_case.metrics[0]))


def test_what_nothing_is_like_is_more_anomalous(case: Case, fitted_case: Any) -> None:
    ordinary = fitted_case.score(case.events(200, seed=1))
    if case.name in RANGED:
        assert fitted_case.score(outliers(case.kind))[-1] > np.quantile(ordinary, 0.99)
        return
    assert (fitted_case.score(outliers(case.kind)) > ordinary.max()).all()


def test_same_seed_same_scores_and_stored_ones_are_the_same(case: Case, fitted_case: Any, tmp_path: Path) -> None:
    x = case.events(20, seed=1)
    again = case.make(seed=3).fit(case.events(2 * LEAST))
    fitted_case.save(tmp_path / "s")
    loaded = load_scorer(tmp_path / "s")
    assert type(loaded) is case.cls
    assert loaded.parameters() == fitted_case.parameters()
    assert loaded.training_ == fitted_case.training_
    for metric in fitted_case.metrics:
        expected = fitted_case.score(x, metric=metric)
        assert np.array_equal(again.score(x, metric=metric), expected), metric
        assert np.array_equal(loaded.score(x, metric=metric), expected), metric


def killed(monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    """Make a training stop right after its n-th checkpoint."""
    written: list[int] = []

    def write(*arguments: Any) -> None:
        checkpoint_module.write_checkpoint(*arguments)
        written.append(1)
        if len(written) == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(training_module, "write_checkpoint", write)


def test_a_killed_training_that_is_resumed_ends_with_the_same_bits(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not case.cls.trains:
        pytest.skip(f"{case.name} has no epochs; it is fitted to the same bits, as tested above")
    x, path = case.events(2 * LEAST), tmp_path / "c"
    with monkeypatch.context() as patch:
        killed(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            case.trained_for(4).fit(x, checkpoint=path)
    assert any(tmp_path.iterdir())
    epochs: list[int] = []
    train_epoch = training_module.train_epoch
    monkeypatch.setattr(
        training_module, "train_epoch", lambda *a, **k: (epochs.append(k["epoch"]), train_epoch(*a, **k))[1]
    )
    resumed = case.trained_for(4).fit(x, checkpoint=path)
    assert epochs[:2] == [2, 3]
    assert list(tmp_path.iterdir()) == []
    after, epochs[:] = epochs.copy(), []
    whole = case.trained_for(4).fit(x)
    assert epochs[2:] == after
    assert np.array_equal(whole.score(x), resumed.score(x))
    assert whole.training_ == resumed.training_


def test_bad_events_are_refused(case: Case, fitted_case: Any) -> None:
    x = case.events(20)
    broken = x.copy()
    broken[(4, *(0,) * (x.ndim - 1))] = np.nan
    for error, bad in (
        (NonFiniteError, broken),
        (DtypeError, x.astype(complex)),
        (ShapeError, x[0]),
        (ShapeError, x[..., :-1]),
    ):
        with pytest.raises(error):
            fitted_case.score(bad)
    with pytest.raises(NonFiniteError):
        case.make().fit(np.concatenate([case.events(LEAST), broken]))
    with pytest.raises(TooFewRowsError):
        case.make().fit(x[:0])
    with pytest.raises(NotFittedError, match=case.name):
        case.make().score(x)
    with pytest.raises(NotFittedError):
        case.make().save("nowhere")
    with pytest.raises(UnknownMetricError, match="no metric 'nonsense'"):
        fitted_case.score(x, metric="nonsense")


def test_every_method_is_a_space(case: Case, tmp_path: Path, small_family: None) -> None:
    columns = 4 if case.kind == "rows" else 2
    names = tuple(f"input_{i}" for i in range(columns))
    background = Sample(case.space_events(150, 1), names, event=np.arange(150))
    turned = Sample(case.space_events(150, 2)[:, ::-1], names[::-1], event=np.arange(500, 650))
    held = Sample(case.space_events(40, 3), names, event=np.arange(900, 940))
    space = case.space(priors=("near",), seed=2)
    assert space.fit(background, priors={"near": turned}, validation=held) is space
    assert isinstance(space, Space)
    assert space.axis_names[:2] == ("background", "near")
    assert space.input_names == names
    assert space.trained_on.tolist() == [*range(150), *range(500, 650), *range(900, 940)]
    x = case.space_events(12, 4)
    losses = space.losses(x)
    assert losses.shape == (12, len(space.axis_names))
    assert np.isfinite(losses).all()
    for metric in space.metrics:
        assert np.array_equal(space.score(x, metric=metric), space.score_of(losses, metric)), metric
    assert np.array_equal(space.losses(Sample(x[:, ::-1], names[::-1])), losses)
    with pytest.raises(ScorerError, match="no column 'input_0'"):
        space.losses(Sample(x, ("other", *names[1:])))
    space.save(tmp_path / "space")
    again = load_space(tmp_path / "space")
    assert (again.axis_names, again.metrics, again.input_names) == (space.axis_names, space.metrics, names)
    assert np.array_equal(again.losses(x), losses)
    assert np.array_equal(again.trained_on, space.trained_on)
    same = case.space(priors=("near",), seed=2).fit(background, priors={"near": turned}, validation=held)
    assert np.array_equal(same.losses(x), losses)
    with pytest.raises(ScorerError, match="cannot use weights"):
        case.space().fit(Sample(background.inputs, weight=np.ones(150)))


@pytest.mark.parametrize("distance", [15.0, 40.0, 1e3, 1e12, 1e300])
def test_planted_outlier_is_the_most_anomalous(fitted: Scorer, distance: float) -> None:
    x = table(500, seed=1)
    ordinary = fitted.score(x)
    for direction in ([1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0], [1, -1, 1, 1], [-1, -1, -1, -1]):
        outlier = x.mean(axis=0) + distance * x.std(axis=0) * np.array(direction)
        if type(fitted).__name__ in RANGED:
            # as anomalous as a row at the edge of the training in these columns
            assert fitted.score(outlier[None])[0] > np.median(ordinary), direction
            continue
        assert fitted.score(outlier[None])[0] > ordinary.max(), direction


def test_same_seed_same_scores_and_global_random_state_untouched(make: Make, fitted: Scorer) -> None:
    x = table(100, seed=1)
    torch.manual_seed(11)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    again = make(seed=3).fit(table(600))
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])  # noqa: NPY002
    assert np.array_equal(again.score(x), fitted.score(x))
    if again.trains:  # what is fitted in one go may have the same optimum from every seed
        assert not np.array_equal(make(seed=4).fit(table(600)).score(x), fitted.score(x))


def test_fit_returns_self_and_leaves_its_input_alone(make: Make) -> None:
    x = table(300)
    copy, scorer = x.copy(), make()
    assert scorer.fit(x, validation=table(100, seed=2)) is scorer
    assert np.array_equal(x, copy)


def test_saved_scorer_scores_the_same(fitted: Scorer, tmp_path: Path) -> None:
    x = table(100, seed=1)
    fitted.save(tmp_path / "deep" / "scorer")
    loaded = load_scorer(tmp_path / "deep" / "scorer")
    assert type(loaded) is type(fitted)
    assert loaded.metrics == fitted.metrics
    for metric in fitted.metrics:
        assert np.array_equal(loaded.score(x, metric=metric), fitted.score(x, metric=metric))
    names = sorted(p.name for p in (tmp_path / "deep").rglob("*"))
    assert names == ["scorer", "scorer.json", "weights.safetensors"]
    record = json.loads((tmp_path / "deep" / "scorer" / "scorer.json").read_text())
    assert record["n_features"] == 4
    assert record["metrics"] == list(fitted.metrics)
    assert record["training"]["rows"][0] <= 600 - fitted.trains  # some are held out of a training


def test_saving_twice_replaces_the_folder_as_a_whole(fitted: Scorer, make: Make, tmp_path: Path) -> None:
    fitted.save(tmp_path / "s")
    (tmp_path / "s" / "left_over").touch()
    other = make(seed=9).fit(table(200))
    other.save(tmp_path / "s")
    x = table(20, seed=1)
    assert np.array_equal(load_scorer(tmp_path / "s").score(x), other.score(x))
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["s", "scorer.json", "weights.safetensors"]


def test_scores_do_not_depend_on_the_batch(fitted: Scorer) -> None:
    x = table(9000, seed=1)
    whole = fitted.score(x)
    alone = np.concatenate([fitted.score(x[i : i + 1]) for i in (0, 17, 4095, 4096, 8999)])
    parts = np.concatenate([fitted.score(x[:5000]), fitted.score(x[5000:])])
    np.testing.assert_allclose(whole[[0, 17, 4095, 4096, 8999]], alone, rtol=0, atol=1e-10)
    np.testing.assert_allclose(whole, parts, rtol=0, atol=1e-10)


def test_score_takes_any_real_type_and_layout(fitted: Scorer) -> None:
    x = np.round(table(30, seed=1))
    expected = fitted.score(x)
    for other in (x.astype(np.float32), x.astype(np.int32), np.asfortranarray(x), x.tolist(), np.repeat(x, 2, 0)[::2]):
        np.testing.assert_allclose(fitted.score(other), expected, rtol=0, atol=1e-10)


def test_bad_input_is_named(fitted: Scorer, case_of_rows: Case) -> None:
    make = case_of_rows.make
    x = table(20)
    x[[2, 5], 1], x[7, 3] = np.nan, np.inf
    with pytest.raises(NonFiniteError, match=r"3 of 20 rows, in columns 1 \(2 rows\), 3 \(1 rows\); first such row 2"):
        fitted.score(x)
    with pytest.raises(NonFiniteError):
        make().fit(np.where(np.arange(800).reshape(200, 4) == 9, np.nan, table(200)))
    with pytest.raises(NonFiniteError):
        fitted.score(np.ma.masked_less(table(20), 0.0))
    with pytest.raises(ShapeError, match="has 3 columns, the scorer was trained on 4"):
        fitted.score(table(20)[:, :3])
    with pytest.raises(ShapeError, match=r"reshape one column"):
        fitted.score(table(20)[:, 0])
    with pytest.raises(DtypeError, match="complex"):
        fitted.score(table(20).astype(complex))
    with pytest.raises(DtypeError, match="object"):
        fitted.score(table(20).astype(object))
    with pytest.raises(TooFewRowsError, match=r"has 20 rows, at least 1[02]0"):
        make().fit(table(20))
    with pytest.raises(UnknownMetricError, match="did you mean '" + fitted.metrics[-1]):
        fitted.score(table(20), metric=fitted.metrics[-1][:-1])
    with pytest.raises(NotFittedError, match=type(fitted).__name__):
        make().score(table(20))
    with pytest.raises(NotFittedError):
        make().save("nowhere")
    with pytest.raises(DeviceError, match="no device 'cuda:99'"):
        make(device="cuda:99").fit(table(200))
    with pytest.raises(DeviceError, match="no device 'gpu'"):
        make(device="gpu").fit(table(200))
    if fitted.trains:
        with pytest.raises(ScorerError, match="max_epochs is 0"):
            case_of_rows.trained_for(0).fit(table(200))


def test_bad_folders_are_named(fitted: Scorer, tmp_path: Path) -> None:
    with pytest.raises(ScorerFolderError, match="no such folder"):
        load_scorer(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(ScorerFolderError, match="is a file"):
        load_scorer(tmp_path / "file")
    with pytest.raises(ScorerFolderError, match="is a file"):
        fitted.save(tmp_path / "file")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(ScorerFolderError, match="not overwritten"):
        fitted.save(tmp_path / "mine")
    with pytest.raises(ScorerFolderError, match=r"no scorer\.json in it; found: thesis\.tex"):
        load_scorer(tmp_path / "mine")

    def damaged(name: str, change: Callable[[bytes], bytes]) -> Path:
        fitted.save(tmp_path / "s")
        path = tmp_path / "s" / name
        path.write_bytes(change(path.read_bytes()))
        return tmp_path / "s"

    def changed(before: str, after: str) -> Path:
        """Change the record and its sum with it."""
        fitted.save(tmp_path / "s")
        path = tmp_path / "s" / "scorer.json"
        path.write_text(json.dumps(sealed(json.loads(path.read_text().replace(before, after)))))
        return tmp_path / "s"

    with pytest.raises(ScorerFolderError, match=r"weights\.safetensors: damaged"):
        load_scorer(damaged("weights.safetensors", lambda data: data[:-1]))
    with pytest.raises(ScorerFolderError, match=r"weights\.safetensors: damaged"):
        load_scorer(damaged("weights.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1])))
    with pytest.raises(ScorerFolderError, match=r"scorer\.json: truncated or no JSON"):
        load_scorer(damaged("scorer.json", lambda data: data[:50]))
    name = type(fitted).__name__
    with pytest.raises(ScorerFolderError, match=f"did you mean '{name}'"):
        load_scorer(changed(f'"{name}"', f'"{name}x"'))
    with pytest.raises(ScorerFolderError, match="does not describe a fitted"):
        load_scorer(changed('"device"', '"devise"'))
    with pytest.raises(
        ScorerFolderError, match=r"scorer\.json: damaged, or changed by hand: it does not match its own sum"
    ):
        load_scorer(damaged("scorer.json", lambda data: data.replace(b'"device"', b'"devise"')))
    with pytest.raises(ScorerFolderError, match="format 99"):
        load_scorer(changed('"format": 2', '"format": 99'))


@pytest.mark.gpu
def test_cpu_and_gpu_agree(make: Make, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    x = table(500, seed=1)
    scorer = make(device="cuda").fit(table(2000))
    scorer.save(tmp_path / "s")
    loaded = load_scorer(tmp_path / "s")
    np.testing.assert_allclose(loaded.score(x), scorer.score(x), rtol=0, atol=1e-10)
    on_cpu = make(device="cpu").fit(table(2000)).score(x)
    assert np.corrcoef(on_cpu, scorer.score(x))[0, 1] > 0.9
