"""QUAK axes of any scorers: what `Quak` gives where they are its densities, and transport beside a density."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunch.models import (
    EventToEnsemble,
    Flow,
    MissingPackageError,
    NotFittedError,
    Quak,
    Sample,
    ScorerError,
    ScorerFolderError,
    ScorerSpace,
    ShapeError,
    Space,
    UnknownMetricError,
    load_scorer,
    load_space,
    make_space,
)
from hunch.models.scorer import Method
from hunch.models.train import checkpoint as checkpoint_module
from hunch.models.train import loop as training_module

QUICK: dict[str, Any] = {"seed": 1, "device": "cpu", "hidden": 8, "steps": 2, "max_epochs": 3}


@pytest.fixture
def samples(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Features (n, 2) of background and prior, and images (n, 4, 4) of the same events, dark on one side."""
    made = {}
    for name, shift in (("background", 0.0), ("prior", 2.0)):
        made[name] = rng.normal(shift, 1.0, (200, 2))
        images = rng.exponential(size=(200, 4, 4))
        images[:, :, (2 if shift else 0) : (4 if shift else 2)] *= 0.02
        made[f"{name} images"] = images / images.sum(axis=(1, 2), keepdims=True)
    return made


def test_axes_are_the_scorers_own_scores_in_spreads_of_the_background(samples: dict[str, np.ndarray]) -> None:
    flow, distance = Flow(**QUICK), EventToEnsemble(distance="mae", k=1)
    space = ScorerSpace(flow, {"two_prong": distance}, alpha=0.5)
    with pytest.raises(NotFittedError):
        space.losses(samples["background"])
    events = {"background": samples["background"], "two_prong": samples["background images"]}
    space.fit(events, priors={"two_prong": samples["prior images"]})
    assert space.axis_names == ("background", "two_prong")
    alone = Flow(**QUICK).fit(samples["background"]).score(samples["background"])
    far = EventToEnsemble(distance="mae", k=1).fit(samples["prior images"]).score(samples["background images"])
    losses = space.losses(events)
    np.testing.assert_allclose(losses, np.column_stack([alone / alone.std(), far / far.std()]))
    np.testing.assert_allclose(space.score(events), losses[:, 0] - 0.5 * losses[:, 1])
    np.testing.assert_allclose(space.score(events, metric="two_prong"), space.score(events))
    np.testing.assert_array_equal(space.score(events, metric="background"), losses[:, 0])
    assert space.axis_names == ("background", "two_prong")
    assert repr(space) == "ScorerSpace(Flow, EventToEnsemble, 1 priors, fitted on 200 events)"
    # an event of the prior is near the prior and far from the background
    signal = {"background": samples["prior"], "two_prong": samples["prior images"]}
    assert np.median(space.score(signal)) > np.quantile(space.score(events), 0.9)
    # scorers that are fitted stay as they are
    again = ScorerSpace(flow, {"two_prong": distance}).fit(events, fitted=True)
    np.testing.assert_array_equal(again.losses(events), losses)
    # what the background's scorer stops by
    held = {name: values[:50] for name, values in events.items()}
    space.fit(events, priors={"two_prong": samples["prior images"]}, validation=held)
    assert flow.training_["rows"] == [200]


def test_the_nearest_prior_counts(samples: dict[str, np.ndarray]) -> None:
    axes = {name: EventToEnsemble(distance="mae", k=1) for name in ("a", "b")}
    space = ScorerSpace(EventToEnsemble(distance="mae", k=1), axes)
    x = samples["background images"]
    space.fit(x, priors={"a": samples["prior images"], "b": x[:50]})
    losses = space.losses(x)
    np.testing.assert_allclose(space.score(x), losses[:, 0] - losses[:, 1:].min(axis=1))
    np.testing.assert_allclose(space.score(x, metric="b"), losses[:, 0] - losses[:, 2])


def test_a_space_is_stored_whole(samples: dict[str, np.ndarray], tmp_path: Path) -> None:
    space = ScorerSpace(Flow(**QUICK), {"two_prong": EventToEnsemble(distance="mae", k=1)}, alpha=0.5)
    with pytest.raises(NotFittedError, match="ScorerSpace is not fitted"):
        space.save(tmp_path / "space")
    events = {"background": samples["background"], "two_prong": samples["background images"]}
    space.fit(events, priors={"two_prong": samples["prior images"]}).save(tmp_path / "space")
    again = load_scorer(tmp_path / "space")
    assert isinstance(again, ScorerSpace)
    assert (again.axis_names, again.metrics, again.alpha) == (space.axis_names, space.metrics, 0.5)
    np.testing.assert_array_equal(again.losses(events), space.losses(events))
    assert isinstance(again.scorers["two_prong"], EventToEnsemble)

    class Mine(EventToEnsemble):
        pass

    other = ScorerSpace(Mine(distance="mae", k=1), {}).fit(samples["background images"])
    with pytest.raises(ScorerFolderError, match="axis 'background': no scorer 'Mine'"):
        other.save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_what_does_not_fit_is_named(samples: dict[str, np.ndarray]) -> None:
    x, prior = samples["background images"], samples["prior images"]

    def space() -> ScorerSpace:
        return ScorerSpace(EventToEnsemble(distance="mae", k=1), {"near": EventToEnsemble(distance="mae", k=1)})

    with pytest.raises(ScorerError, match="no prior 'neer'; did you mean 'near'"):
        space().fit(x, priors={"neer": prior})
    with pytest.raises(ScorerError, match="no sample of 'near'"):
        space().fit(x)
    with pytest.raises(ScorerError, match="nothing for the axis 'near'"):
        space().fit({"background": x}, priors={"near": prior})
    with pytest.raises(ScorerError, match="no axis 'far'"):
        space().fit({"background": x, "near": x, "far": x}, priors={"near": prior})
    with pytest.raises(ShapeError, match="background 200, near 9"):
        space().fit({"background": x, "near": x[:9]}, priors={"near": prior})
    with pytest.raises(ScorerError, match="axis 'background': metric 'min': every background event has the same score"):
        space().fit(np.repeat(x[:1], 5, axis=0), priors={"near": prior})
    with pytest.raises(ScorerError, match="cannot be called 'background'"):
        ScorerSpace(EventToEnsemble(), {"background": EventToEnsemble()})


def pairs(n: int, seed: int, *, side: int = 0) -> np.ndarray:
    """Return images (n, 2, 8, 8) of two jets an event, brighter in one corner of four."""
    images = np.random.default_rng(seed).exponential(size=(n, 2, 8, 8))
    images[:, :, 4 * (side // 2) : 4 * (side // 2) + 4, 4 * (side % 2) : 4 * (side % 2) + 4] *= 8
    return images / images.sum(axis=(2, 3), keepdims=True)


CONV: dict[str, Any] = {"device": "cpu", "max_epochs": 2, "channels": 2, "hidden": 8, "latent": 2, "batch_size": 64}


@pytest.fixture(scope="module")
def jets() -> ScorerSpace:
    space = make_space("ConvVae", kind="images", priors=("near",), options=CONV, seed=5, alpha=0.5)
    assert isinstance(space, ScorerSpace)
    background = Sample(pairs(120, 1), names=("image_1", "image_2"), event=np.arange(120))
    prior = Sample(pairs(120, 2, side=3), names=("image_2", "image_1"), event=np.arange(1000, 1120))
    return space.fit(background, priors={"near": prior})


def test_jets_are_pooled_split_by_event_and_put_together(jets: ScorerSpace) -> None:
    x = pairs(30, 4)
    single = {name: s.score(x.reshape(60, 8, 8)).reshape(30, 2) for name, s in jets.scorers.items()}
    # 85 % of 120 events of two jets each
    assert [s.training_["rows"] for s in jets.scorers.values()] == [[200], [200]]  # type: ignore[attr-defined]
    assert [s.training_["validation_rows"] for s in jets.scorers.values()] == [[40], [40]]  # type: ignore[attr-defined]
    background = jets.scorers["background"]
    spread = background.score(pairs(120, 1).reshape(240, 8, 8)).std()
    np.testing.assert_allclose(jets.losses(x)[:, 0], single["background"].sum(axis=1) / spread)
    most = jets.configured(per_jet="max")
    np.testing.assert_allclose(most.losses(x)[:, 0], single["background"].max(axis=1) / spread)
    each = jets.configured(per_jet="concat")
    assert each.axis_names == ("background jet 1", "background jet 2", "near jet 1", "near jet 2")
    losses = each.losses(x)
    np.testing.assert_allclose(losses[:, :2], single["background"] / spread)
    # each jet's own difference, then their sum
    expected = (losses[:, :2] - 0.5 * losses[:, 2:]).sum(axis=1)
    np.testing.assert_allclose(each.score_of(losses), expected)
    np.testing.assert_allclose(each.score_of(losses, "background"), losses[:, :2].sum(axis=1))
    assert most.scorers["near"] is jets.scorers["near"]
    assert (jets.per_jet, jets.axis_names) == ("sum", ("background", "near"))


def test_jets_of_one_event_are_never_parted(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, np.ndarray] = {}

    class Jets(Method):
        metrics = ("mean",)
        takes = ("images",)
        uses = ("exposure", "weights")

        def fit(self, x: np.ndarray, **options: Any) -> Jets:
            given.update(x=np.asarray(getattr(x, "inputs", x)))
            given.update(
                {name: getattr(value, "inputs", value) for name, value in options.items() if value is not None}
            )
            return self

        def score(self, x: np.ndarray, *, metric: str | None = None) -> np.ndarray:
            return x.mean(axis=(1, 2))

    # an event's two jets hold its number
    events = np.repeat(np.arange(100.0), 2).reshape(100, 2, 1, 1) * np.ones((1, 1, 4, 4))
    sample = Sample(events, weight=np.arange(100.0))
    ScorerSpace(Jets()).fit(sample, exposure=events[:7])  # type: ignore[arg-type]
    trained, held = set(given["x"].ravel()), set(given["validation"].ravel())
    assert trained | held == set(range(100))
    assert trained & held == set()
    np.testing.assert_array_equal(given["weight"], given["x"][:, 0, 0])
    assert given["exposure"].shape == (14, 4, 4)
    ScorerSpace(Jets()).fit(sample, validation=events[:10])  # type: ignore[arg-type]
    assert (len(given["x"]), len(given["validation"])) == (200, 20)


def test_what_a_space_was_trained_on_and_its_names_are_stored(jets: ScorerSpace, tmp_path: Path) -> None:
    assert jets.trained_on.tolist() == [*range(120), *range(1000, 1120)]
    jets.save(tmp_path / "space")
    again = load_space(tmp_path / "space", metric="mse", per_jet="max")
    assert isinstance(again, Space)
    assert again.trained_on.dtype == np.uint64
    np.testing.assert_array_equal(again.trained_on, jets.trained_on)
    x = pairs(9, 4)
    np.testing.assert_array_equal(again.losses(x), jets.configured(metric="mse", per_jet="max").losses(x))
    assert not np.allclose(again.losses(x), jets.configured(per_jet="max").losses(x))
    assert again.input_names == ("image_1", "image_2")
    turned = Sample(x[:, ::-1], names=("image_2", "image_1"))
    each = jets.configured(per_jet="concat")
    np.testing.assert_array_equal(each.losses(turned), each.losses(x))
    with pytest.raises(ScorerError, match="no column 'image_1'"):
        jets.losses(Sample(x, names=("image_2", "image_9")))
    with pytest.raises(ShapeError, match="1 jets an event, the space was fitted with 2"):
        jets.losses(x[:, :1])
    with pytest.raises(UnknownMetricError, match="no metric 'mze'; did you mean 'mse'"):
        jets.configured(metric="mze")
    with pytest.raises(ScorerError, match="no per_jet 'summ'"):
        load_space(tmp_path / "space", per_jet="summ")


def test_a_metric_whose_package_is_absent_is_refused_when_asked_for(
    samples: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: object, **__: object) -> None:
        raise MissingPackageError("exact transport needs the package POT")

    monkeypatch.setattr("hunch.models.autoencoders.conv_vae.wasserstein_rowwise", absent)
    space = make_space("ConvVae", kind="images", options=CONV)
    space.fit(samples["background images"].repeat(2, axis=1).repeat(2, axis=2) / 4)
    assert isinstance(space, ScorerSpace)
    with pytest.raises(ScorerError, match="axis 'background': metric 'wass1': exact transport needs the package POT"):
        space.configured(metric="wass1")
    space.configured(metric="kl")


def test_axes_that_are_finished_are_kept_and_a_resumed_fit_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    background, priors = pairs(120, 1), {"near": pairs(120, 2, side=3)}

    def fresh() -> Space:
        return make_space("ConvVae", kind="images", priors=("near",), options=CONV, seed=3)

    whole = fresh().fit(background, priors=priors)
    written: list[int] = []

    def write(*arguments: object) -> None:
        checkpoint_module.write_checkpoint(*arguments)  # type: ignore[arg-type]
        written.append(1)
        if len(written) == 3:
            raise KeyboardInterrupt

    path = tmp_path / "c"
    with monkeypatch.context() as patch:
        patch.setattr(training_module, "write_checkpoint", write)
        with pytest.raises(KeyboardInterrupt):
            fresh().fit(background, priors=priors, checkpoint=path)
    left = sorted(p.name for p in tmp_path.iterdir())
    assert [name[:4] for name in left] == ["c.0.", "c.1"]
    epochs: list[int] = []
    train_epoch = training_module.train_epoch
    with monkeypatch.context() as patch:
        patch.setattr(
            training_module, "train_epoch", lambda *a, **k: (epochs.append(k["epoch"]), train_epoch(*a, **k))[1]
        )
        resumed = fresh().fit(background, priors=priors, checkpoint=path)
    assert epochs == [1]  # the second axis' second epoch
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(resumed.losses(background), whole.losses(background))
    assert resumed.scorers["near"].training_ == whole.scorers["near"].training_  # type: ignore[attr-defined]


def test_make_space_names_what_fits() -> None:
    rows = (
        "Autoencoder, Combined, DeepSvdd, Flow, GaussianMixture, IsolationForest, KMeans, KernelDensity, NAE, Quak, Vae"
    )
    with pytest.raises(ScorerError, match=f"ConvVae takes images, not rows; what takes rows: {rows}"):
        make_space("ConvVae", kind="rows")
    with pytest.raises(ScorerError, match="no option 'latnt'; did you mean 'latent'"):
        make_space("ConvVae", kind="images", options={"latnt": 3})
    with pytest.raises(ScorerError, match="no scorer 'Quack'; did you mean 'Quak'"):
        make_space("Quack", kind="rows")
    with pytest.raises(ScorerError, match="no kind 'row'; did you mean 'rows'"):
        make_space("Quak", kind="row")
    with pytest.raises(ScorerError, match="Flow cannot train 4 hypotheses for a mosaic; what can: Quak"):
        make_space("Flow", kind="rows", hypotheses=4)
    with pytest.raises(ScorerError, match="option inputs is 'images', with sets it is 'constituents'"):
        make_space("EventToEnsemble", kind="sets", options={"inputs": "images"})
    with pytest.raises(ScorerError, match="a prior is named twice: a, a"):
        make_space("Flow", kind="rows", priors=("a", "a"))
    quak = make_space("Quak", kind="rows", options={"steps": 2}, seed=7, alpha=0.3, hypotheses=4)
    assert isinstance(quak, Quak)
    assert (quak.steps, quak.seed, quak.alpha, quak.hypotheses) == (2, 7, 0.3, 4)
    space = make_space("EventToEnsemble", kind="sets", priors=("a", "b"), seed=7, alpha=0.3)
    assert isinstance(space, ScorerSpace)
    assert [s.inputs for s in space.scorers.values()] == ["constituents"] * 3  # type: ignore[attr-defined]
    assert len({s.seed for s in space.scorers.values()}) == 3  # type: ignore[attr-defined]


def test_weights_and_exposure_are_refused_by_what_cannot_use_them(samples: dict[str, np.ndarray]) -> None:
    x = samples["background"]
    weighted = Sample(x, weight=np.ones(200))
    for space in (make_space("Flow", kind="rows"), make_space("Quak", kind="rows")):
        with pytest.raises(ScorerError, match="cannot use weights; it uses: mass"):
            space.fit(weighted)
        with pytest.raises(ScorerError, match="cannot use an exposure sample; it uses: mass"):
            space.fit(x, exposure=x)


def test_a_fit_that_fails_leaves_the_space_as_it_was(rng: np.random.Generator) -> None:
    x, priors = rng.normal(size=(300, 3)), {"near": rng.normal(1, 1, (200, 3))}
    space = make_space("Vae", kind="rows", priors=["near"], options={"max_epochs": 1, "hidden": 8, "device": "cpu"})
    before = space.fit(x, priors=priors).losses(x)
    with pytest.raises(ScorerError):
        space.fit(rng.normal(5, 2, (300, 3)), priors={"near": np.full((200, 3), np.nan)})
    np.testing.assert_array_equal(space.losses(x), before)
