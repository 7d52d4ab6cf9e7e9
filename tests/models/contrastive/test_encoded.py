"""A scorer of rows on an encoder's representations: what trains on what, what is stored, and what is refused before any training."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunch.models import (
    AnomalyCLR,
    EmptyImageError,
    Encoded,
    JetCLR,
    NonFiniteError,
    NotFittedError,
    Sample,
    ScorerError,
    ScorerFolderError,
    ShapeError,
    Space,
    TooFewRowsError,
    load_encoder,
    load_scorer,
    load_space,
    make_space,
)
from hunch.models.contrastive import clr as clr_module
from hunch.models.contrastive.clr import Encoder
from hunch.models.density.quak import Quak
from hunch.models.storage import read_folder, write_folder
from hunch.models.train.loop import DeviceError, TrainingSettings

TINY: dict[str, Any] = {
    "width": 8,
    "heads": 2,
    "layers": 1,
    "feedforward": 8,
    "dims": 4,
    "projection": 4,
    "max_epochs": 2,
    "batch_size": 64,
    "learning_rate": 3e-3,
}
ENCODER = {"name": "JetCLR", **TINY}
SCORER: dict[str, Any] = {"name": "Quak", "hidden": 8, "steps": 1, "max_epochs": 2, "batch_size": 64}
SLOTS = 6
NAMES = ("constituents_1", "constituents_2")


def jets(n: int, seed: int, *, prongs: int = 0) -> np.ndarray:
    """Return jets (n, 6, 3) of 2 to 5 constituents around the axis, or each at one of so many prongs."""
    rng = np.random.default_rng(seed)
    pt = -np.sort(-rng.exponential(40, size=(n, SLOTS)), axis=1) + 1
    angles = rng.normal(0, 0.1, (2, n, SLOTS))
    if prongs:
        turns = rng.uniform(0, 2 * np.pi, (n, 1)) + 2 * np.pi / prongs * (np.arange(SLOTS) % prongs)
        angles = 0.2 * angles + 0.35 * np.stack([np.cos(turns), np.sin(turns)])
    made = np.stack([pt, *angles], axis=-1)
    made[np.arange(SLOTS) >= rng.integers(2, 6, size=n)[:, None]] = 0.0
    return made


def dijets(n: int, seed: int, *, prongs: int = 0) -> Sample:
    """Return events of two jets, whose hashes are those of the seed."""
    sets = np.stack([jets(n, 2 * seed, prongs=prongs), jets(n, 2 * seed + 1, prongs=prongs)], axis=1)
    return Sample(sets, NAMES, event=np.arange(n) + 10_000 * seed)


def objects(n: int, seed: int, *, full: bool = False) -> np.ndarray:
    """Return events (n, 19, 3): MET, a muon, and some jets, or something in every slot."""
    rng = np.random.default_rng(seed)
    made = np.stack(
        [20 + rng.exponential(30, (n, 19)), rng.uniform(-2, 2, (n, 19)), rng.uniform(-np.pi, np.pi, (n, 19))], axis=-1
    )
    empty = np.full((n, 19), not full)
    empty[:, [0, 5]] = False
    empty[:, 9:] &= np.arange(10) >= rng.integers(0, 6, size=n)[:, None]
    made[:, 0, 1] = 0.0
    made[empty] = 0.0
    return made


def small(**options: Any) -> Encoded:
    return Encoded(**{"encoder": ENCODER, "scorer": SCORER, "device": "cpu", **options})


@pytest.fixture(autouse=True, scope="module")
def short_epochs() -> Iterator[None]:
    """Let an epoch have ten steps, whatever the size of the sample."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clr_module, "TrainingSettings", functools.partial(TrainingSettings, min_steps=10))
        yield


@pytest.fixture(scope="module")
def fitted() -> Encoded:
    return small().fit(dijets(200, 1), priors={"two": dijets(120, 2, prongs=2)})


def test_the_representations_of_both_jets_stand_side_by_side(fitted: Encoded) -> None:
    x = dijets(20, 5)
    assert isinstance(fitted, Space)
    assert fitted.encoder_ is not None
    assert fitted.space_ is not None
    found = fitted.representations(x)
    expected = np.hstack([fitted.encoder_.encode(x.inputs[:, jet]) for jet in range(2)])
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(fitted.losses(x), fitted.space_.losses(found))
    assert fitted.axis_names == ("background", "two")
    assert fitted.metrics == ("anomaly", "difference", "background", "two")
    # columns are known by name
    turned = Sample(x.inputs[:, ::-1], NAMES[::-1])
    np.testing.assert_array_equal(fitted.representations(turned), found)
    assert not np.allclose(fitted.representations(turned.inputs), found)
    assert repr(fitted) == "Encoded(JetCLR, Quak, 2 jets, 1 priors, fitted on 200 events)"
    assert repr(small()) == "Encoded(JetCLR, Quak, not fitted)"


def test_alpha_weighs_the_prior(fitted: Encoded) -> None:
    losses = fitted.losses(dijets(20, 5))
    before = fitted.alpha
    try:
        fitted.alpha = 0.25
        np.testing.assert_allclose(fitted.score_of(losses, "difference"), losses[:, 0] - 0.25 * losses[:, 1])
    finally:
        fitted.alpha = before


def test_one_encoder_learns_from_the_training_background_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[tuple[Sample, Sample]] = []
    above: list[tuple[Sample, Sample, dict[str, Sample]]] = []
    encode, rows = Encoder.fit, Quak.fit
    monkeypatch.setattr(
        Encoder, "fit", lambda self, x, **given: fits.append((x, given["validation"])) or encode(self, x, **given)
    )
    monkeypatch.setattr(
        Quak,
        "fit",
        lambda self, x, **given: above.append((x, given["validation"], given["priors"])) or rows(self, x, **given),
    )
    background, priors = dijets(200, 1), {"two": dijets(120, 2, prongs=2), "three": dijets(130, 3, prongs=3)}
    found = small().fit(background, priors=priors)
    ((train, held),) = fits
    # both jets of an event on one side, every event on one, and no prior
    assert (len(train), len(held)) == (340, 60)
    assert np.array_equal(np.unique(train.event, return_counts=True)[1], np.full(170, 2))
    assert np.array_equal(np.union1d(train.event, held.event), background.event)
    assert not np.intersect1d(train.event, held.event).size
    # what stops the scorer on top has not trained the encoder
    ((own, beside, others),) = above
    assert np.array_equal(own.event, train.event[::2])
    assert np.array_equal(beside.event, held.event[::2])
    assert own.inputs.shape == (170, 8)
    assert [len(sample) for sample in others.values()] == [120, 130]
    assert found.encoder_ is not None
    assert found.encoder_.trained_on.tolist() == background.event.tolist()
    assert found.trained_on.tolist() == sorted(
        [*background.event.tolist(), *(e for sample in priors.values() for e in sample.event.tolist())]
    )
    assert found.training_["encoder"]["frozen"] is False
    assert set(found.training_["encoder"]["monitor"]) == {"alignment", "uniformity", "rank"}
    fits.clear()
    above.clear()
    validation = dijets(60, 7)
    small().fit(background, validation=validation)
    ((train, held),) = fits
    assert (len(train), len(held)) == (400, 120)
    assert np.array_equal(np.unique(held.event), validation.event)
    assert np.array_equal(above[0][1].event, validation.event)


@pytest.mark.parametrize(
    "scorer",
    [
        {"name": "Vae", "hidden": 8, "max_epochs": 2, "metric": "reconstruction"},
        {
            "name": "NAE",
            "hidden": 8,
            "latent": 2,
            "max_epochs": 1,
            "nae_epochs": 1,
            "replay": 64,
            "batch_size": 64,
            "inputs": "rows",
        }
        | {"latent_steps": 1, "input_steps": 1},
        {"name": "KMeans", "clusters": 3, "metric": "distance"},
        {"name": "GaussianMixture", "components": 2, "covariance": "diag", "metric": "mahalanobis"},
    ],
    ids=["Vae", "NAE", "KMeans", "GaussianMixture"],
)
def test_a_scorer_of_rows_has_an_instance_for_each_prior(scorer: dict[str, Any], tmp_path: Path) -> None:
    space = make_space("Encoded", kind="sets", priors=("two",), seed=3, options={"encoder": ENCODER, "scorer": scorer})
    assert isinstance(space, Encoded)
    space.fit(dijets(150, 1), priors={"two": dijets(120, 2, prongs=2)})
    x = dijets(10, 5)
    losses = space.losses(x)
    assert losses.shape == (10, 2)
    assert space.axis_names == ("background", "two")
    inner: Any = space.space_
    rows = space.representations(x)
    metric = scorer.get("metric", "energy")
    one = inner.scorers["background"].score(rows, metric=metric) / inner.spreads_["background"][metric]
    np.testing.assert_allclose(losses[:, 0], one)
    space.save(tmp_path / "s")
    again = load_space(tmp_path / "s")
    np.testing.assert_array_equal(again.losses(x), losses)
    np.testing.assert_array_equal(again.trained_on, space.trained_on)


def test_whole_events_of_objects_are_scored(tmp_path: Path) -> None:
    x = objects(300, 1)
    scorer = Encoded(
        encoder={**TINY, "name": "AnomalyCLR", "loss": "anomclr"},
        scorer={"name": "Vae", "hidden": 8, "max_epochs": 10},
        device="cpu",
    ).fit(x)
    found = scorer.score(x)
    assert found.shape == (300,)
    # events with something in every slot are told from those that are like the training
    unlike, like = scorer.score(objects(100, 3, full=True)), scorer.score(objects(100, 4))
    assert (unlike[:, None] > like).mean() > 0.95
    # an event alone is one jet of a space
    np.testing.assert_array_equal(scorer.score(x[:, None]), found)
    assert "separation" in scorer.training_["encoder"]["monitor"]
    scorer.save(tmp_path / "s")
    np.testing.assert_array_equal(load_scorer(tmp_path / "s").score(x), found)
    with pytest.raises(ShapeError, match=r"events of \(6, 3\) numbers; allowed: \(19, 3\)"):
        scorer.score(jets(5, 1))


def test_a_fitted_encoder_is_taken_as_it_is(fitted: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted.save(tmp_path / "space")
    assert fitted.encoder_ is not None
    fitted.encoder_.save(tmp_path / "encoder")
    monkeypatch.setattr(Encoder, "fit", lambda *_, **__: pytest.fail("trained"))
    for folder in ("space", "encoder"):
        loaded = load_encoder(tmp_path / folder)
        np.testing.assert_array_equal(loaded.encode(jets(5, 9)), fitted.encoder_.encode(jets(5, 9)))
        other = small(encoder=str(tmp_path / folder), seed=5).fit(dijets(150, 8))
        x = dijets(10, 5)
        np.testing.assert_array_equal(other.representations(x), fitted.representations(x))
        assert other.training_["encoder"] == {**fitted.encoder_.training_, "frozen": True}
        # what it has seen is what this one has seen
        assert np.array_equal(other.trained_on, np.union1d(dijets(150, 8).event, dijets(200, 1).event))
        other.save(tmp_path / "other")
        np.testing.assert_array_equal(load_space(tmp_path / "other").losses(x), other.losses(x))
    many = np.concatenate([dijets(150, 8).inputs, np.zeros((150, 2, 3, 3))], axis=2)
    with pytest.raises(
        ShapeError, match=r"encoder: .*encoder: was trained on events of 6 slots, x has 9; as many are needed"
    ):
        small(encoder=str(tmp_path / "encoder")).fit(many)
    with pytest.raises(ScorerFolderError, match=r"encoder: nowhere: no such folder"):
        small(encoder="./nowhere").fit(dijets(150, 8))
    Quak(hidden=4, steps=1, max_epochs=1, device="cpu").fit(fitted.representations(dijets(150, 8))).save(
        tmp_path / "quak"
    )
    with pytest.raises(
        ScorerFolderError, match=r"encoder: .*scorer\.json: no encoder 'Quak'; allowed: AnomalyCLR, .*JetCLR"
    ):
        small(encoder=str(tmp_path / "quak")).fit(dijets(150, 8))


def test_jets_that_were_made_otherwise_are_refused(tmp_path: Path) -> None:
    made = {"representation": "constituents", "settings": {"radius": 1.0}}
    sample = Sample(dijets(150, 1).inputs, NAMES, made=made)
    space = small().fit(sample)
    assert space.encoder_ is not None
    space.encoder_.save(tmp_path / "e")
    other = Sample(sample.inputs, NAMES, made={**made, "settings": {"radius": 0.8}})
    for refused in (lambda: space.losses(other), lambda: small(encoder=str(tmp_path / "e")).fit(other)):
        with pytest.raises(ScorerError, match=r"radius = 0\.8, trained on 1\.0"):
            refused()


BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "encoder": ({"encoder": "JetCRL"}, "encoder: no encoder 'JetCRL'; did you mean 'JetCLR'"),
    "scorer": ({"scorer": "Vea"}, "scorer: no scorer 'Vea'; did you mean 'Vae'? allowed: Vae, "),
    "negative seed": ({"seed": -1}, "seed is -1, allowed: 0 or more"),
    "no rows": (
        {"scorer": "EventToEnsemble"},
        "scorer: EventToEnsemble takes images and sets, not rows; what takes rows: ",
    ),
    "itself": ({"scorer": "Encoded"}, "scorer: Encoded takes sets, not rows"),
    "no name": ({"encoder": {"dims": 3}}, "encoder: is {'dims': 3}, allowed: a name, or a mapping of name and options"),
    "number": ({"scorer": 3}, "scorer: is 3, allowed: a name"),
    "unknown option": (
        {"encoder": {"name": "JetCLR", "dim": 3}},
        "encoder: JetCLR: no option 'dim'; did you mean 'dims'",
    ),
    "unknown option of the scorer": (
        {"scorer": {"name": "Vae", "hiden": 3}},
        "scorer: Vae: no option 'hiden'; did you mean 'hidden'",
    ),
    "type": ({"encoder": {"name": "JetCLR", "dims": 2.5}}, "encoder: dims is 2.5; a whole number is expected"),
    "loss": ({"encoder": {"name": "JetCLR", "loss": "anomclr"}}, "encoder: JetCLR: no loss 'anomclr'"),
    "range": ({"scorer": {"name": "Flow", "steps": 0}}, "scorer: "),
    "seed": ({"encoder": {"name": "JetCLR", "seed": 3}}, "encoder: option seed is that of Encoded itself"),
    "device": ({"scorer": {"name": "Vae", "device": "cpu"}}, "scorer: option device is that of Encoded itself"),
    "family": (
        {"scorer": {"name": "Quak", "family": True}},
        "scorer: family is True, allowed on representations: false",
    ),
    "hypotheses": (
        {"scorer": {"name": "Quak", "hypotheses": 3}},
        "scorer: hypotheses is 3, allowed on representations: 0",
    ),
    "exposure": (
        {"scorer": {"name": "Vae", "exposure": "kl"}},
        "scorer: exposure is 'kl', allowed on representations: none",
    ),
    "pretrained": (
        {"scorer": {"name": "Vae", "pretrained": "a"}},
        "scorer: pretrained is 'a', allowed on representations: none",
    ),
    "inputs": (
        {"scorer": {"name": "NAE", "inputs": "sets"}},
        "scorer: NAE: option inputs is 'sets', with rows it is 'rows'",
    ),
    "metric": ({"scorer": {"name": "Vae", "metric": "los"}}, "no metric 'los'; did you mean 'loss'"),
    "path": ({"encoder": {"name": "a/b"}}, "encoder: is a mapping whose name is the path a/b"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_options_that_mean_nothing_are_named(case: str) -> None:
    options, told = BAD_OPTIONS[case]
    with pytest.raises(ScorerError) as found:
        small(**options).check()
    assert told in str(found.value)
    assert str(found.value).startswith(next(iter(options)))
    with pytest.raises(ScorerError):
        small(**options).fit(dijets(200, 1))


def test_what_cannot_be_trained_on_is_refused_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Encoder, "fit", lambda *_, **__: pytest.fail("trained"))
    good, broken, empty = dijets(150, 1), dijets(150, 2), dijets(150, 3)
    broken.inputs[3, 1, 0, 0] = np.nan
    empty.inputs[4, 0] = 0.0
    one: Callable[[np.ndarray], Sample] = Sample
    cases: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (TooFewRowsError, "background: has 119 events, at least 120", lambda: small().fit(dijets(119, 1))),
        (
            TooFewRowsError,
            "background: has 99 events, at least 100",
            lambda: small().fit(dijets(99, 1), validation=good),
        ),
        (
            TooFewRowsError,
            "validation of the background: has 1 events, at least 2",
            lambda: small().fit(good, validation=dijets(1, 2)),
        ),
        (TooFewRowsError, "prior 'two': has 99 events", lambda: small().fit(good, priors={"two": dijets(99, 2)})),
        (NonFiniteError, "background: NaN", lambda: small().fit(broken)),
        (NonFiniteError, "prior 'two': NaN", lambda: small().fit(good, priors={"two": broken})),
        (
            EmptyImageError,
            "prior 'two': 1 of 300 jets have no constituents",
            lambda: small().fit(good, priors={"two": empty}),
        ),
        (ShapeError, "background: ", lambda: small().fit(np.zeros((150, 4)))),
        (
            ShapeError,
            "prior 'two': events of .*6, 3.* numbers",
            lambda: small().fit(good, priors={"two": one(jets(150, 1))}),
        ),
        (ScorerError, "Encoded cannot use weights", lambda: small().fit(Sample(good.inputs, weight=np.ones(150)))),
        (
            ScorerError,
            "Encoded cannot use weights",
            lambda: small().fit(good, priors={"two": Sample(good.inputs, weight=np.ones(150))}),
        ),
        (ScorerError, "Encoded cannot use an exposure sample", lambda: small().fit(good, exposure=good)),
        (DeviceError, "no device 'gpu'", lambda: small(device="gpu").fit(good)),
        (
            ScorerError,
            "no column 'constituents_1'",
            lambda: small().fit(good, priors={"two": Sample(good.inputs, ("other", NAMES[1]))}),
        ),
    ]
    for error, told, refused in cases:
        with pytest.raises(error, match=told):
            refused()


def test_what_cannot_be_scored_is_refused(fitted: Encoded) -> None:
    x = dijets(5, 5)
    with pytest.raises(ShapeError, match="1 jets an event, the space was fitted with 2"):
        fitted.losses(jets(5, 1))
    with pytest.raises(ScorerError, match="no column 'constituents_1'"):
        fitted.losses(Sample(x.inputs, ("other", NAMES[1])))
    with pytest.raises(ScorerError, match="no metric 'anomly'; did you mean 'anomaly'"):
        fitted.score(x, metric="anomly")
    for used in (small().losses, small().score, small().representations):
        with pytest.raises(NotFittedError):
            used(x)


def test_too_few_events_for_so_many_numbers_are_said(caplog: pytest.LogCaptureFixture) -> None:
    scorer = small(encoder={**ENCODER, "dims": 80, "max_epochs": 1}, scorer={**SCORER, "max_epochs": 1})
    scorer.fit(dijets(200, 1), priors={"two": dijets(110, 2)})
    (told,) = [r.getMessage() for r in caplog.records if "fewer than" in r.getMessage()]
    assert told.startswith("prior 'two': 110 events are fewer than the 160 numbers of a representation")


def test_a_folder_whose_parts_do_not_fit_is_refused(fitted: Encoded, tmp_path: Path) -> None:
    fitted.save(tmp_path / "s")
    record, tensors = read_folder(tmp_path / "s")
    kept = {name: value for name, value in record.items() if name not in {"format", "record_sha256"}}
    state = record["state"]
    for change, told in (
        ({"n_features": 9}, "tells rows of 9 and 8 numbers; 2 jets of 4 have 8"),
        ({"state": {**state, "jets": 1}}, "tells rows of 8 and 8 numbers; 1 jets of 4 have 4"),
        ({"state": {**state, "jets": 10**9}}, "jets is 1000000000, allowed: 1 to 64"),
        ({"state": {**state, "encoder": {**state["encoder"], "class": "Quak"}}}, "no encoder 'Quak'"),
        ({"state": {**state, "scorer": {**state["scorer"], "class": "Vea"}}}, "no scorer 'Vea'"),
        ({"state": {"jets": 2}}, "does not describe a fitted Encoded"),
        ({"parameters": {**record["parameters"], "encoder": "JetCRL"}}, "no encoder 'JetCRL'"),
    ):
        write_folder(tmp_path / "bad", {**kept, **change}, tensors)
        with pytest.raises(ScorerFolderError, match=told):
            load_scorer(tmp_path / "bad")
    write_folder(tmp_path / "bad", {**kept, "state": {"jets": 2}}, tensors)
    with pytest.raises(ScorerFolderError, match="no class name in it"):
        load_encoder(tmp_path / "bad")


def test_encoders_know_the_events_that_they_have_seen(tmp_path: Path) -> None:
    x, held = Sample(jets(120, 1), event=np.arange(120)), Sample(jets(40, 2), event=np.arange(500, 540))
    encoder = JetCLR(**TINY, device="cpu").fit(x, validation=held)
    assert encoder.trained_on.tolist() == [*range(120), *range(500, 540)]
    encoder.save(tmp_path / "e")
    assert load_encoder(tmp_path / "e").trained_on.tolist() == encoder.trained_on.tolist()
    assert len(AnomalyCLR(**TINY, device="cpu").fit(objects(120, 1)).trained_on) == 0
