"""Event to ensemble: references and reductions by hand, and what every scorer keeps to (see test_contract.py)."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunch.models import (
    SCORERS,
    DeviceError,
    DtypeError,
    EmptyImageError,
    EventToEnsemble,
    NegativePixelError,
    NonFiniteError,
    NotFittedError,
    NotNormalisedError,
    Scorer,
    ScorerFolderError,
    ShapeError,
    SinkhornDistances,
    TooFewRowsError,
    TransportOptionError,
    UnknownMetricError,
    clouds_from_images,
    elbow,
    load_scorer,
    mean_power_distance,
    medoid_path,
    wasserstein,
)
from hunch.models.distance.sinkhorn import sinkhorn
from hunch.models.inputs import ScorerError
from hunch.models.storage import sealed

pytest.importorskip("ot", reason="exact transport needs POT")
pytest.importorskip("kmedoids", reason="more than one medoid needs kmedoids")


def images(n: int, seed: int = 0, *, at: tuple[float, float] = (6.0, 6.0)) -> np.ndarray:
    """Images (n, 13, 13) that sum to one: ten deposits about a point."""
    rng = np.random.default_rng(seed)
    made = np.zeros((n, 13, 13))
    for image in made:
        rows, columns = np.clip(np.rint(rng.normal(at, 1.2, (10, 2))), 0, 12).astype(int).T
        np.add.at(image, (rows, columns), rng.exponential(1.0, 10))
    return made / made.sum(axis=(1, 2), keepdims=True)


def constituents(n: int, seed: int = 0, *, most: int = 8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    made = np.concatenate([rng.exponential(1.0, (n, most, 1)), rng.normal(0, 0.2, (n, most, 2))], axis=2)
    made[:, 5:, 0] *= rng.random((n, most - 5)) < 0.5
    made[..., 0] /= made[..., 0].sum(axis=1, keepdims=True)
    return made


CASES: dict[str, tuple[dict[str, Any], Callable[..., np.ndarray]]] = {
    "wasserstein": ({"k": 3}, images),
    "elbow": ({"p": 2.0, "k_max": 5, "sample": 30}, images),
    "mae": ({"distance": "mae", "k": 2}, images),
    "mse": ({"distance": "mse", "references": "all"}, images),
    "average": ({"references": "average", "pixel": 0.05}, images),
    "sinkhorn": ({"solver": "sinkhorn", "k": 2, "sample": 12, "device": "cpu"}, images),
    "sinkhorn unbalanced": (
        {"solver": "sinkhorn", "references": "average", "unbalanced": 3.0, "tolerance": 0.05, "device": "cpu"},
        images,
    ),
    "constituents": ({"inputs": "constituents", "k": 2, "unbalanced": 0.5}, constituents),
    "constituents mae": ({"inputs": "constituents", "k": 1, "distance": "mae", "normalise": True}, constituents),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[EventToEnsemble, Callable[..., np.ndarray]]:
    options, jets = CASES[request.param]
    return EventToEnsemble(**options), jets


def test_it_keeps_to_the_contract(case: tuple[EventToEnsemble, Callable[..., np.ndarray]], tmp_path: Path) -> None:
    scorer, jets = case
    x, tests = jets(60), jets(40, seed=1)
    before = x.copy()
    assert scorer.fit(x, validation=jets(10, seed=2)) is scorer
    assert isinstance(scorer, Scorer)
    assert type(scorer).__name__ in SCORERS
    assert np.array_equal(x, before)
    again = EventToEnsemble(**scorer.parameters()).fit(x)
    scorer.save(tmp_path / "deep" / "s")
    loaded = load_scorer(tmp_path / "deep" / "s")
    assert isinstance(loaded, EventToEnsemble)
    assert loaded.parameters() == scorer.parameters()
    assert loaded.training_ == scorer.training_
    for metric in (None, *scorer.metrics):
        scores = scorer.score(tests, metric=metric)
        assert scores.shape == (40,)
        assert scores.dtype == np.float64
        assert np.isfinite(scores).all()
        assert np.array_equal(again.score(tests, metric=metric), scores)
        assert np.array_equal(loaded.score(tests, metric=metric), scores)
        alone = np.concatenate([scorer.score(tests[i : i + 1], metric=metric) for i in range(40)])
        # Sinkhorn's last digits depend on what else is in a product of matrices
        rtol, atol = (1e-4, 0.0) if scorer.solver == "sinkhorn" else (0.0, 1e-10)
        np.testing.assert_allclose(alone, scores, rtol=rtol, atol=atol)
        assert scorer.score(tests[:0], metric=metric).shape == (0,)
    assert np.array_equal(scorer.score(tests), scorer.score(tests, metric="min"))
    assert np.array_equal(scorer.score(tests.tolist()), scorer.score(tests))
    np.testing.assert_allclose(scorer.score(tests.astype(np.float32)), scorer.score(tests), rtol=1e-5)
    assert scorer.training_["validation_mean"] == pytest.approx(scorer.score(jets(10, seed=2)).mean())
    record = json.loads((tmp_path / "deep" / "s" / "scorer.json").read_text())
    assert record["n_features"] == x[0].size
    assert sorted(p.name for p in (tmp_path / "deep" / "s").iterdir()) == ["scorer.json", "weights.safetensors"]


@pytest.mark.parametrize("options", [{"k": 1}, {"k": 3}, {"references": "average"}, {"references": "all"}, {"p": 5.0}])
def test_planted_outlier_is_the_most_anomalous(options: dict[str, Any]) -> None:
    scorer = EventToEnsemble(**options).fit(images(50))
    for metric in scorer.metrics:
        outlier = scorer.score(images(1, seed=3, at=(0.0, 12.0)), metric=metric)[0]
        assert outlier > scorer.score(images(50, seed=1), metric=metric).max()


def test_scores_do_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = EventToEnsemble(k=2).fit(images(30))
    whole = scorer.score(images(50, seed=1))
    monkeypatch.setattr("hunch.models.distance.event_to_ensemble.CHUNK", 7)
    assert np.array_equal(scorer.score(images(50, seed=1)), whole)
    with pytest.raises(NotNormalisedError, match="do not sum to one"):
        scorer.score(2 * images(50))


@pytest.mark.parametrize("options", [{}, {"p": 2.0}, {"unbalanced": 4.0}, {"pixel": 0.05}])
def test_sinkhorn_scores_are_close_to_exact_ones(options: dict[str, Any]) -> None:
    x = images(8) * (np.arange(1, 9)[:, None, None] if "unbalanced" in options else 1)
    exact = EventToEnsemble(references="all", **options).fit(x)
    fast = EventToEnsemble(references="all", solver="sinkhorn", device="cpu", **options).fit(x)
    tests = images(10, seed=1)
    np.testing.assert_allclose(fast.score(tests, metric="mean"), exact.score(tests, metric="mean"), rtol=0.02)
    assert (fast.score(x) == 0).all()
    tight = EventToEnsemble(references="all", solver="sinkhorn", tolerance=0.001, device="cpu", **options).fit(x)
    off = [
        np.abs(scorer.score(tests, metric="mean") / exact.score(tests, metric="mean") - 1).max()
        for scorer in (tight, fast)
    ]
    assert off[0] < off[1]


def test_reductions_are_those_of_the_distances_to_the_references() -> None:
    x, tests = images(20), images(9, seed=1)
    scorer = EventToEnsemble(references="all", p=2.0, pixel=0.1).fit(x)
    d = wasserstein(clouds_from_images(tests, pixel=0.1), clouds_from_images(x, pixel=0.1), p=2.0)
    np.testing.assert_allclose(scorer.score(tests), d.min(axis=1), rtol=1e-12)
    np.testing.assert_allclose(scorer.score(tests, metric="mean"), d.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(scorer.score(tests, metric="sum"), d.sum(axis=1), rtol=1e-12)
    assert (scorer.score(x) == 0).all()  # each is one of its references


def test_average_is_the_mean_image_and_not_the_mean_distance() -> None:
    x, tests = images(20), images(9, seed=1)
    scorer = EventToEnsemble(references="average", pixel=0.05).fit(x)
    mean = clouds_from_images(x.mean(axis=0, keepdims=True), pixel=0.05)
    expected = wasserstein(clouds_from_images(tests, pixel=0.05), mean)[:, 0]
    np.testing.assert_allclose(scorer.score(tests), expected, rtol=1e-12)
    every = EventToEnsemble(references="all", pixel=0.05).fit(x).score(tests, metric="mean")
    assert (expected < every).all()  # W1 is convex


def test_mean_power_distances_by_hand() -> None:
    x = np.array([[[0.0, 1.0]], [[1.0, 3.0]]])
    y = np.array([[[1.0, 0.0]]])
    np.testing.assert_array_equal(mean_power_distance(x, y, power=1), [[1.0], [1.5]])
    np.testing.assert_array_equal(mean_power_distance(x, y, power=2), [[1.0], [4.5]])
    assert mean_power_distance(x, y[:0], power=1).shape == (2, 0)
    with pytest.raises(ShapeError, match="jets have the shape"):
        mean_power_distance(x, np.ones((1, 2, 2)), power=1)
    scorer = EventToEnsemble(distance="mse", references="all", normalise=True).fit(y)
    np.testing.assert_array_equal(scorer.score(x), [1.0, 0.5625])


def test_medoids_are_the_best_rows_there_are() -> None:
    """Against all choices of k out of 14: the greedy start and the swaps find the optimum here."""
    d = wasserstein(clouds_from_images(images(14)))
    path = medoid_path(d, k_max=4)
    assert path.rows[0].tolist() == [int(np.argmin(d.sum(axis=0)))]
    for k in (1, 2, 3, 4):
        best = min(d[:, list(rows)].min(axis=1).sum() for rows in itertools.combinations(range(14), k))
        assert path.inertia[k - 1] == pytest.approx(best, rel=0.02)
        assert path.inertia[k - 1] == pytest.approx(d[:, path.rows[k - 1]].min(axis=1).sum())
        assert len(set(path.rows[k - 1].tolist())) == k
    whole = medoid_path(d, k_max=14)
    assert (np.diff(whole.inertia) <= 1e-12).all()
    assert whole.inertia[-1] == 0
    with pytest.raises(TooFewRowsError, match="k is 15; a sample of 14 jets has 1 to 14 medoids"):
        medoid_path(d, k_max=15)
    with pytest.raises(ShapeError, match="all pairs"):
        medoid_path(d[:3], k_max=1)


def test_medoids_of_equal_jets_are_different_rows() -> None:
    path = medoid_path(np.zeros((5, 5)), k_max=4)
    assert [len(set(rows.tolist())) for rows in path.rows] == [1, 2, 3, 4]


def test_elbow_finds_the_number_of_groups() -> None:
    groups = [images(12, seed=s, at=at) for s, at in enumerate([(2, 2), (2, 10), (10, 6)])]
    scorer = EventToEnsemble(k_max=8).fit(np.concatenate(groups))
    assert scorer.training_["k"] == 3
    assert sorted(m // 12 for m in scorer.training_["medoids"]) == [0, 1, 2]
    given = EventToEnsemble(k=3).fit(np.concatenate(groups))
    assert given.training_["medoids"] == scorer.training_["medoids"]
    assert elbow([5.0]) == elbow([5.0, 1.0]) == elbow([2.0, 2.0, 2.0]) == 1
    assert elbow([10.0, 9.5, 1.0, 0.9, 0.8]) == 3


def test_a_prior_as_reference_turns_the_order_round() -> None:
    qcd, top = images(40), images(40, at=(3.0, 9.0))
    by_qcd, by_top = EventToEnsemble(k=2).fit(qcd), EventToEnsemble(k=2).fit(top)
    tests = images(30, seed=1), images(30, seed=1, at=(3.0, 9.0))
    assert by_qcd.score(tests[0]).mean() < by_qcd.score(tests[1]).mean()
    assert by_top.score(tests[0]).mean() > by_top.score(tests[1]).mean()


def test_large_samples_are_drawn_by_seed_and_the_random_state_is_left_alone() -> None:
    x = images(60)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (EventToEnsemble(k=3, sample=20, seed=s).fit(x) for s in (0, 1))
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    assert first.training_["rows"] == [20]
    assert first.training_["medoids"] != second.training_["medoids"]
    assert first.references_ is not None
    assert np.array_equal(first.references_, x[first.training_["medoids"]])


def test_normalise_divides_by_the_sum_and_padding_is_free() -> None:
    x = images(20)
    plain = EventToEnsemble(k=2).fit(x)
    scaled = EventToEnsemble(k=2, normalise=True).fit(x * np.arange(1, 21)[:, None, None])
    np.testing.assert_allclose(scaled.score(3 * images(9, seed=1)), plain.score(images(9, seed=1)), rtol=1e-9)
    jets = constituents(20)
    scorer = EventToEnsemble(k=2, inputs="constituents", normalise=True).fit(jets * [5.0, 1.0, 1.0])
    padded = np.concatenate([jets, np.zeros((20, 4, 3))], axis=1)
    np.testing.assert_allclose(scorer.score(padded), scorer.score(jets), rtol=1e-9)


def test_bad_jets_are_named() -> None:
    scorer = EventToEnsemble(k=1).fit(images(10))
    x = images(6)
    x[4] = 0
    with pytest.raises(EmptyImageError, match="x: 1 of 6 are empty, first 4"):
        scorer.score(x)
    with pytest.raises(EmptyImageError, match="x: 1 of 6 are empty, first 4"):
        EventToEnsemble(normalise=True, k=1).fit(x)
    x[4, 0, 0] = -1.0
    with pytest.raises(NegativePixelError, match="first 4 with -1"):
        scorer.score(x)
    with pytest.raises(NegativePixelError, match="first 4 with -1"):
        EventToEnsemble(references="all").fit(x)
    with pytest.raises(NotNormalisedError, match="references: 1 of 1 do not sum to one"):
        EventToEnsemble(references="average").fit(2 * images(6))
    x[4, 0, 0] = np.inf
    with pytest.raises(NonFiniteError, match="first 4"):
        scorer.score(x)
    with pytest.raises(NonFiniteError, match="first 0"):
        scorer.score(np.ma.masked_less(images(2), 0.5))
    with pytest.raises(ShapeError, match=r"jets have the shape \(12, 13\), the references \(13, 13\)"):
        scorer.score(images(6)[:, 1:])
    with pytest.raises(ShapeError, match=r"one jet is x\[None\]"):
        scorer.score(images(1)[0])
    with pytest.raises(ShapeError, match=r"\(8, 2\), the references \(8, 3\)"):
        EventToEnsemble(inputs="constituents", k=1).fit(constituents(5)).score(constituents(5)[..., :2])
    with pytest.raises(DtypeError, match="object"):
        scorer.score(images(6).astype(object))
    with pytest.raises(UnknownMetricError, match="did you mean 'mean'"):
        scorer.score(images(6), metric="means")
    with pytest.raises(NotFittedError, match="EventToEnsemble is not fitted"):
        EventToEnsemble().score(images(6))
    with pytest.raises(NotFittedError):
        EventToEnsemble().save("nowhere")
    with pytest.raises(TooFewRowsError, match="x: has 0 jets"):
        EventToEnsemble().fit(images(0))
    with pytest.raises(TooFewRowsError, match=r"k is 7, more than the 6 jets to choose from \(x has 6"):
        EventToEnsemble(k=7).fit(images(6))


@pytest.mark.parametrize("distance", ["wasserstein", "mae", "mse"])
def test_every_distance_names_bad_images(distance: str) -> None:
    x, scorer = images(6), EventToEnsemble(distance=distance, k=1).fit(images(10))
    for fails in (scorer.score, EventToEnsemble(distance=distance, k=1).fit):
        with pytest.raises(NotNormalisedError, match="6 of 6 do not sum to one"):
            fails(3 * x)
        bad = x.copy()
        bad[4] = 0
        with pytest.raises(EmptyImageError, match="1 of 6 are empty, first 4"):
            fails(bad)
        bad[4, 0, 0] = -1.0
        with pytest.raises(NegativePixelError, match="first 4 with -1"):
            fails(bad)
    with pytest.raises(NegativePixelError, match="first 4 with -1"):
        EventToEnsemble(distance=distance, k=1, normalise=True).fit(bad)


def test_the_side_of_a_pixel_may_be_a_whole_number() -> None:
    one, two = (EventToEnsemble(k=1, pixel=pixel).fit(images(6)).score(images(6)) for pixel in (1, 2))
    np.testing.assert_allclose(two, 2 * one)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 2, "references": "average"}, "references='average' has no medoids"),
        ({"k_max": 2}, "k_max is 2; an elbow needs 3"),
        ({"distance": "mae", "p": 2.0}, "p is 2.0, unbalanced None: options of distance='wasserstein'"),
        ({"distance": "mse", "unbalanced": 1.0}, "not of 'mse'"),
        ({"inputs": "image"}, "did you mean 'images'"),
        ({"distance": "wasserstien"}, "did you mean 'wasserstein'"),
        ({"references": "medoid"}, "did you mean 'medoids'"),
        ({"p": 0.5}, "finite p >= 1"),
        ({"unbalanced": 0.0}, "R > 0"),
        ({"k": 0}, "k is 0"),
        ({"sample": 0}, "sample is 0"),
        ({"pixel": -1.0}, "pixel is -1"),
        ({"inputs": "constituents", "references": "average"}, "needs inputs='images'"),
        ({"solver": "sinkhorm"}, "did you mean 'sinkhorn'"),
        ({"solver": "sinkhorn", "distance": "mse"}, "'mse' is no transport"),
        ({"solver": "sinkhorn", "tolerance": 1.0}, "tolerance is 1.0"),
        ({"device": "cuda"}, "the exact solver runs on the CPU, solver='sinkhorn' on this one"),
        ({"tolerance": 0.01}, "tolerance is 0.01; the exact solver has none"),
    ],
)
def test_options_that_mean_nothing_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TransportOptionError, match=message):
        EventToEnsemble(**options).fit(images(5))


@pytest.mark.parametrize(("name", "value"), [("k", 2.5), ("sample", True), ("k_max", "3")])
def test_numbers_of_jets_are_whole(name: str, value: Any) -> None:
    with pytest.raises(ScorerError, match=f"{name} is {value!r}; a whole number"):
        EventToEnsemble(**{name: value}).fit(images(5))


def test_options_of_sinkhorn_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def spy(*clouds: Any, **options: Any) -> SinkhornDistances:
        seen.append(options)
        return sinkhorn(*clouds, **options | {"device": "cpu"})

    monkeypatch.setattr("hunch.models.distance.event_to_ensemble.sinkhorn", spy)
    scorer = EventToEnsemble(solver="sinkhorn", k=1, p=2.0, unbalanced=1.5, threads=2, device="cuda:7", tolerance=0.1)
    scorer.fit(images(4)).score(images(2))
    EventToEnsemble(solver="sinkhorn", k=1).fit(images(4))
    given = {"p": 2.0, "unbalanced": 1.5, "tolerance": 0.1, "device": "cuda:7", "threads": 2, "progress": False}
    usual = {"p": 1.0, "unbalanced": None, "tolerance": 0.02, "device": "auto", "threads": 1, "progress": False}
    assert seen == [given, given, usual]


def test_the_largest_k_is_at_most_the_sample() -> None:
    assert EventToEnsemble(k_max=10).fit(images(4)).training_["k"] <= 4
    assert len(EventToEnsemble(k_max=10, sample=3).fit(images(8)).training_["inertia"]) == 3


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(DeviceError, match="no device 'gpu'"):
        EventToEnsemble(solver="sinkhorn", device="gpu").fit(images(5))


def test_damaged_folders_are_named(tmp_path: Path) -> None:
    scorer = EventToEnsemble(k=2).fit(images(10))
    scorer.save(tmp_path / "s")
    record = tmp_path / "s" / "scorer.json"
    text = record.read_text()
    for before, after in (('"k_max"', '"kmax"'), ('"shape"', '"shap"'), ("      2,\n      13", "      3,\n      13")):
        assert before in text
        record.write_text(json.dumps(sealed(json.loads(text.replace(before, after, 1)))))
        with pytest.raises(ScorerFolderError, match="does not describe a fitted EventToEnsemble"):
            load_scorer(tmp_path / "s")
    record.write_text(json.dumps(sealed(json.loads(text.replace('"EventToEnsemble"', '"EventToEnsembl"')))))
    with pytest.raises(ScorerFolderError, match="did you mean 'EventToEnsemble'"):
        load_scorer(tmp_path / "s")


def test_one_medoid_by_mse_or_sinkhorn_needs_neither_pot_nor_kmedoids() -> None:
    script = """
    import sys
    for name in ("ot", "ot.lp", "ot.lp.emd_wrap", "kmedoids", "scipy"):
        sys.modules[name] = None
    import numpy as np
    from hunch.models import EventToEnsemble, MissingPackageError
    x = np.random.default_rng(0).random((5, 4, 4))
    print(EventToEnsemble(k=1, distance="mse", normalise=True).fit(x).score(x).shape)
    sinkhorn = EventToEnsemble(k=1, solver="sinkhorn", device="cpu", normalise=True)
    print(sinkhorn.fit(x).score(x).shape)
    for options in ({"k": 2, "distance": "mse"}, {"k": 1}):
        try:
            EventToEnsemble(normalise=True, **options).fit(x)
        except MissingPackageError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines() == [
        "(5,)",
        "(5,)",
        "more than one medoid needs the package kmedoids: pip install kmedoids",
        "exact transport needs the package POT: pip install pot",
    ]
