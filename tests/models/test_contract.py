"""What every scorer in the registry keeps to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hunch.models import (
    SCORERS,
    DeviceError,
    DtypeError,
    NonFiniteError,
    NotFittedError,
    Scorer,
    ScorerError,
    ScorerFolderError,
    ShapeError,
    TooFewRowsError,
    UnknownMetricError,
    load_scorer,
)
from hunch.models.scorer import scorer_class

QUICK = {"max_epochs": 6, "patience": 6, "hidden": 16, "batch_size": 64}
Make = Callable[..., Scorer]


def table(n: int, seed: int = 0) -> np.ndarray:
    """Correlated, one column skewed, one of whole numbers."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    x[:, 1] = 0.8 * x[:, 0] + 0.3 * x[:, 1]
    x[:, 2] = rng.exponential(50.0, size=n)
    x[:, 3] = rng.poisson(8.0, size=n)
    return x


@pytest.fixture(params=sorted(SCORERS), scope="module")
def make(request: pytest.FixtureRequest) -> Make:
    cls = scorer_class(request.param)
    return lambda **options: cls(**{**QUICK, "device": "cpu", **options})  # type: ignore[call-arg]


@pytest.fixture(scope="module")
def fitted(make: Make) -> Scorer:
    return make(seed=3).fit(table(600))


def test_score_is_one_finite_number_an_event_for_every_metric(fitted: Scorer) -> None:
    assert isinstance(fitted, Scorer)
    for metric in (None, *fitted.metrics):
        scores = fitted.score(table(7, seed=1), metric=metric)
        assert scores.shape == (7,)
        assert scores.dtype == np.float64
        assert np.isfinite(scores).all()
    assert fitted.score(np.empty((0, 4))).shape == (0,)


def test_default_metric_is_the_first(fitted: Scorer) -> None:
    x = table(50, seed=1)
    assert np.array_equal(fitted.score(x), fitted.score(x, metric=fitted.metrics[0]))


@pytest.mark.parametrize("distance", [15.0, 40.0, 1e3, 1e12, 1e300])
def test_planted_outlier_is_the_most_anomalous(fitted: Scorer, distance: float) -> None:
    x = table(500, seed=1)
    ordinary = fitted.score(x)
    for direction in ([1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0], [1, -1, 1, 1], [-1, -1, -1, -1]):
        outlier = x.mean(axis=0) + distance * x.std(axis=0) * np.array(direction)
        assert fitted.score(outlier[None])[0] > ordinary.max(), direction


def test_same_seed_same_scores_and_global_random_state_untouched(make: Make, fitted: Scorer) -> None:
    x = table(100, seed=1)
    torch.manual_seed(11)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    again = make(seed=3).fit(table(600))
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])  # noqa: NPY002
    assert np.array_equal(again.score(x), fitted.score(x))
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
    assert record["training"]["rows"][0] < 600


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


def test_bad_input_is_named(fitted: Scorer, make: Make) -> None:
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
    with pytest.raises(TooFewRowsError, match="has 20 rows, at least 100"):
        make().fit(table(20))
    with pytest.raises(UnknownMetricError, match="did you mean '" + fitted.metrics[1]):
        fitted.score(table(20), metric=fitted.metrics[1][:-1])
    with pytest.raises(NotFittedError, match=type(fitted).__name__):
        make().score(table(20))
    with pytest.raises(NotFittedError):
        make().save("nowhere")
    with pytest.raises(DeviceError, match="no device 'cuda:99'"):
        make(device="cuda:99").fit(table(200))
    with pytest.raises(DeviceError, match="no device 'gpu'"):
        make(device="gpu").fit(table(200))
    with pytest.raises(ScorerError, match="max_epochs is 0"):
        make(max_epochs=0).fit(table(200))


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

    with pytest.raises(ScorerFolderError, match=r"weights\.safetensors: damaged"):
        load_scorer(damaged("weights.safetensors", lambda data: data[:-1]))
    with pytest.raises(ScorerFolderError, match=r"weights\.safetensors: damaged"):
        load_scorer(damaged("weights.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1])))
    with pytest.raises(ScorerFolderError, match="not JSON"):
        load_scorer(damaged("scorer.json", lambda data: data[:50]))
    name = type(fitted).__name__
    with pytest.raises(ScorerFolderError, match=f"did you mean '{name}'"):
        load_scorer(damaged("scorer.json", lambda data: data.replace(f'"{name}"'.encode(), f'"{name}x"'.encode())))
    with pytest.raises(ScorerFolderError, match="does not describe a fitted"):
        load_scorer(damaged("scorer.json", lambda data: data.replace(b'"hidden"', b'"hiden"')))
    with pytest.raises(ScorerFolderError, match="format 99"):
        load_scorer(damaged("scorer.json", lambda data: data.replace(b'"format": 1', b'"format": 99')))


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
