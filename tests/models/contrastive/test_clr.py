"""Contrastive encoders: what they learn, keep, resume and refuse."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hunch.models.contrastive import clr as clr_module
from hunch.models.contrastive.clr import AnomalyCLR, Encoder, JetCLR
from hunch.models.contrastive.encoders import ENCODERS, encoder_class, load_encoder
from hunch.models.contrastive.jet_augmentations import JetAugmentations, rotated, smeared, translated
from hunch.models.contrastive.jet_augmentations import split as split_jets
from hunch.models.contrastive.losses import LOSSES
from hunch.models.distance.clouds import EmptyImageError, NegativePixelError
from hunch.models.inputs import NonFiniteError, NotFittedError, ScorerError, ShapeError, TooFewRowsError
from hunch.models.sample import Sample
from hunch.models.storage import RECORD, ScorerFolderError, read_folder, write_folder
from hunch.models.train import checkpoint as checkpoint_module
from hunch.models.train import loop as training_module
from hunch.models.train.loop import DeviceError, TrainingDivergedError, TrainingSettings

SMALL: dict[str, Any] = {
    "device": "cpu",
    "width": 16,
    "heads": 2,
    "layers": 1,
    "feedforward": 16,
    "dims": 6,
    "projection": 6,
    "max_epochs": 2,
    "batch_size": 32,
    "learning_rate": 3e-3,
}
SLOTS = 10


def jets(n: int = 200, seed: int = 0, *, prongs: int = 0) -> np.ndarray:
    """Return jets (n, 10, 3) of 3 to 7 constituents around the axis, or each at one of so many prongs."""
    rng = np.random.default_rng(seed)
    pt = -np.sort(-rng.exponential(40, size=(n, SLOTS)), axis=1) + 1
    angles = rng.normal(0, 0.1, (2, n, SLOTS))
    if prongs:
        turns = rng.uniform(0, 2 * np.pi, (n, 1)) + 2 * np.pi / prongs * (np.arange(SLOTS) % prongs)
        angles = 0.2 * angles + 0.35 * np.stack([np.cos(turns), np.sin(turns)])
    made = np.stack([pt, *angles], axis=-1)
    made[np.arange(SLOTS) >= rng.integers(3, 8, size=n)[:, None]] = 0.0
    return made


def events(n: int = 200, seed: int = 0) -> np.ndarray:
    """Return events (n, 19, 3): MET, a muon, and some jets."""
    rng = np.random.default_rng(seed)
    made = np.stack(
        [20 + rng.exponential(30, (n, 19)), rng.uniform(-2, 2, (n, 19)), rng.uniform(-np.pi, np.pi, (n, 19))], axis=-1
    )
    empty = np.ones((n, 19), dtype=bool)
    empty[:, [0, 5]] = False
    empty[:, 9:] = np.arange(10) >= rng.integers(0, 6, size=n)[:, None]
    made[:, 0, 1] = 0.0
    made[empty] = 0.0
    return made


MAKE: dict[str, Callable[..., np.ndarray]] = {"JetCLR": jets, "AnomalyCLR": events}


@pytest.fixture(autouse=True, scope="module")
def short_epochs() -> Iterator[None]:
    """Let an epoch have ten steps, whatever the size of the sample."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clr_module, "TrainingSettings", functools.partial(TrainingSettings, min_steps=10))
        yield


@pytest.fixture(params=MAKE, scope="module")
def fitted(request: pytest.FixtureRequest) -> tuple[np.ndarray, Encoder]:
    x = MAKE[request.param]()
    return x, ENCODERS[request.param](**SMALL).fit(x)


def test_a_representation_is_a_row_an_event_whatever_comes_with_it(fitted: tuple[np.ndarray, Encoder]) -> None:
    x, encoder = fitted
    found = encoder.encode(x)
    assert found.shape == (200, 6)
    assert found.dtype == np.float64
    assert np.isfinite(found).all()
    assert found.std(axis=0).min() > 0
    np.testing.assert_array_equal(encoder.encode(x), found)
    np.testing.assert_allclose(encoder.encode(x[5:9][::-1]), found[5:9][::-1], rtol=1e-9, atol=1e-12)
    assert encoder.encode(x[:0]).shape == (0, 6)
    # a search hands on one jet, or one set, an event
    np.testing.assert_array_equal(encoder.encode(Sample(x[:, None], ("constituents_1",)).inputs), found)
    assert encoder.trained_rows() == 200
    assert "fitted on 200 events" in repr(encoder)


def test_the_same_seed_gives_the_same_bits(fitted: tuple[np.ndarray, Encoder]) -> None:
    x, encoder = fitted
    before = torch.get_rng_state()
    again = type(encoder)(**SMALL).fit(x)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(again.encode(x), encoder.encode(x))
    assert not np.array_equal(type(encoder)(**SMALL | {"seed": 1}).fit(x).encode(x), encoder.encode(x))


def test_the_record_tells_of_the_training(fitted: tuple[np.ndarray, Encoder]) -> None:
    _, encoder = fitted
    record = encoder.training_
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    names = {"alignment", "uniformity", "rank"} | ({"separation"} if isinstance(encoder, AnomalyCLR) else set())
    assert set(record["monitor"]) == names
    assert record["collapse"] in {"", "point", "line"}
    assert record["rows"] == [170]


def test_a_stored_one_encodes_the_same(fitted: tuple[np.ndarray, Encoder], tmp_path: Path) -> None:
    x, encoder = fitted
    encoder.input_names = ("constituents_1",)
    encoder.save(tmp_path / "e")
    for again in (load_encoder(tmp_path / "e"), type(encoder).load(tmp_path / "e")):
        assert type(again) is type(encoder)
        np.testing.assert_array_equal(again.encode(x), encoder.encode(x))
        assert again.parameters() == encoder.parameters()
        assert again.training_ == encoder.training_
        assert again.input_names == ("constituents_1",)
    encoder.input_names = ()
    # what stands inside the folder of another scorer is enough
    record, tensors = encoder.stored()
    inside = type(encoder).from_stored(json.loads(json.dumps(record)), {name: t.clone() for name, t in tensors.items()})
    np.testing.assert_array_equal(inside.encode(x), encoder.encode(x))
    other = next(ENCODERS[name] for name in MAKE if name != type(encoder).__name__)
    with pytest.raises(ScorerFolderError, match=f"holds a {type(encoder).__name__}, a {other.__name__} is expected"):
        other.load(tmp_path / "e")


def test_a_killed_training_resumes_with_the_same_bits(
    fitted: tuple[np.ndarray, Encoder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, encoder = fitted
    write = checkpoint_module.write_checkpoint

    def killed(*given: Any) -> None:
        write(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training_module, "write_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            type(encoder)(**SMALL).fit(x, checkpoint=tmp_path / "c")
    again = type(encoder)(**SMALL).fit(x, checkpoint=tmp_path / "c")
    np.testing.assert_array_equal(again.encode(x), encoder.encode(x))
    assert again.training_ == encoder.training_


def test_padding_changes_no_representation() -> None:
    x = jets()
    encoder = JetCLR(**SMALL).fit(x)
    wide = np.concatenate([x, np.zeros((200, 5, 3))], axis=1)
    wide[:, -2:, 1:] = 0.7  # without pT
    np.testing.assert_allclose(encoder.encode(wide), encoder.encode(x), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(encoder.encode(x[:, ::-1]), encoder.encode(x), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(encoder.encode(x[:, :7]), encoder.encode(x), rtol=1e-9, atol=1e-12)


def test_a_batch_is_no_larger_than_the_sample() -> None:
    """Else an event would be told from itself."""
    record = JetCLR(**SMALL | {"max_epochs": 1, "batch_size": 128}).fit(jets(100)).training_
    assert record["rows"] == [80]
    assert record["settings"]["batch_size"] == 80


def test_no_event_is_twice_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be told from itself: batches go on from one pass over a small sample to the next."""
    seen, pair = [], JetAugmentations.pair

    def noted(self: JetAugmentations, x: torch.Tensor, generator: torch.Generator) -> Any:
        seen.append(len(x[:, 0, 0].unique()))
        return pair(self, x, generator)

    monkeypatch.setattr(JetAugmentations, "pair", noted)
    JetCLR(**SMALL | {"max_epochs": 1}).fit(jets(120), validation=jets(32, 5))
    assert seen == [32] * 11


def test_a_training_that_diverges_says_so() -> None:
    with pytest.raises(TrainingDivergedError, match="training loss is nan in epoch 1; lower learning_rate"):
        JetCLR(**SMALL | {"learning_rate": 1e3}).fit(jets())


def test_four_vectors_are_the_jets_that_they_are() -> None:
    x = jets()
    pt, eta, phi = np.moveaxis(x, -1, 0)
    vectors = np.stack([pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=-1)
    encoder = JetCLR(**SMALL).fit(x)
    np.testing.assert_allclose(encoder.encode(vectors), encoder.encode(x), rtol=1e-6, atol=1e-9)
    # a slot without energy is empty, one without pT as well
    beside = vectors.copy()
    beside[:, -1] = 0.0, 3.0, 1.0, 0.0
    beside[:, -2] = 9.0, 0.0, 0.0, 9.0
    np.testing.assert_allclose(encoder.encode(beside), encoder.encode(vectors), rtol=1e-9, atol=1e-12)
    with pytest.raises(EmptyImageError, match="x: 1 of 1 jets have no constituents with pT, first 0"):
        encoder.encode(beside[:1, -2:])


def test_objects_of_a_kind_have_no_order_and_kinds_differ() -> None:
    x = events()
    encoder = AnomalyCLR(**SMALL).fit(x)
    found = encoder.encode(x)
    np.testing.assert_allclose(encoder.encode(x[:, [0, *range(1, 9), *range(18, 8, -1)]]), found, rtol=1e-9, atol=1e-12)
    other = x.copy()
    other[:, 1], other[:, 5] = x[:, 5], 0.0
    assert np.abs(encoder.encode(other) - found).max(axis=1).min() > 1e-3
    turned = x.copy()
    turned[..., 2] = np.where(x[..., 0] > 0, x[..., 2] + 2 * np.pi, 0.0)
    np.testing.assert_allclose(encoder.encode(turned), found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains(loss: str) -> None:
    options = SMALL | {"loss": loss, "max_epochs": 1}
    encoder = AnomalyCLR(**options).fit(events())
    assert ("separation" in encoder.training_["monitor"]) is loss.startswith("anomclr")
    if loss in JetCLR.losses:
        JetCLR(**options).fit(jets())


def moved_by(encoder: Encoder, x: np.ndarray) -> float:
    """Return how far versions of jets lie from them, in units of how far jets lie from each other."""
    generator = torch.Generator().manual_seed(5)
    versions = torch.from_numpy(x)
    for change in (rotated, split_jets, smeared, translated):
        versions = change(versions, generator)
    first, second = encoder.encode(x), encoder.encode(versions.numpy())
    between = ((first - first[::-1]) ** 2).sum(axis=1).mean()
    return float(((first - second) ** 2).sum(axis=1).mean() / between)


def test_a_trained_encoder_is_invariant_and_still_tells_jets_apart() -> None:
    x = np.concatenate([jets(400, 1), jets(400, 2, prongs=3)])
    options = SMALL | {"max_epochs": 12}
    untrained = JetCLR(**options | {"max_epochs": 1, "learning_rate": 1e-9}).fit(x)
    trained = JetCLR(**options).fit(x)
    fresh = np.concatenate([jets(300, 11), jets(300, 12, prongs=3)])[np.random.default_rng(0).permutation(600)]
    assert moved_by(trained, fresh) < 0.5 * moved_by(untrained, fresh)
    # a linear cut tells one prong from three
    labels = np.repeat([-1.0, 1.0], 400)
    rows = np.c_[trained.encode(x), np.ones(800)]
    weights = np.linalg.lstsq(rows, labels, rcond=None)[0]
    cut = [np.c_[trained.encode(part), np.ones(300)] @ weights for part in (jets(300, 11), jets(300, 12, prongs=3))]
    assert (cut[0] < 0).mean() + (cut[1] > 0).mean() > 1.8


def test_no_folder_but_one_of_an_encoder_is_read(tmp_path: Path) -> None:
    encoder = JetCLR(**SMALL | {"max_epochs": 1}).fit(jets())
    encoder.save(tmp_path / "e")
    record, tensors = read_folder(tmp_path / "e")
    kept = {name: value for name, value in record.items() if name not in {"format", "record_sha256"}}
    first = next(name for name in tensors if name.startswith("weights"))
    for change, told in (
        ({"class": "JetCRL"}, "no encoder 'JetCRL'; did you mean 'JetCLR'"),
        ({"class": 3}, "damaged, no class name"),
        ({"parameters": {**record["parameters"], "width": 32}}, "the folder holds"),
        ({"parameters": {**record["parameters"], "loss": "anomclr"}}, "no loss 'anomclr'"),
        ({"parameters": {**record["parameters"], "more": 1}}, "does not describe a fitted JetCLR"),
        ({"state": {"slots": 10, "unit": 0.0}}, "slots is 10 and unit 0.0"),
        ({"input_names": "ab"}, "input_names is 'ab'"),
    ):
        write_folder(tmp_path / "bad", {**kept, **change}, tensors)
        with pytest.raises(ScorerFolderError, match=told):
            load_encoder(tmp_path / "bad")
    for bad, told in (
        ({**tensors, first: tensors[first] * np.nan}, "a weight is not finite"),
        ({name: t for name, t in tensors.items() if name != first}, "weights, the folder holds"),
    ):
        write_folder(tmp_path / "bad", kept, bad)
        with pytest.raises(ScorerFolderError, match=told):
            load_encoder(tmp_path / "bad")
    with pytest.raises(ScorerFolderError, match=RECORD):
        load_encoder(tmp_path)
    with pytest.raises(ScorerError, match="encoder: no encoder 'jetclr'; did you mean 'JetCLR'"):
        encoder_class("jetclr", where="encoder")
    assert encoder_class("JetCLR") is JetCLR


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("JetCLR", {"loss": "anomclr"}, "JetCLR: no loss 'anomclr'; .*allowed: "),
        ("AnomalyCLR", {"loss": "nt-xent"}, "did you mean 'nt_xent'"),
        ("JetCLR", {"temperature": 0}, "temperature is 0, allowed: a finite number above 0"),
        ("JetCLR", {"temperature": "a"}, "temperature is 'a', allowed"),
        ("JetCLR", {"dropout": 1.0}, "dropout is 1.0, allowed: 0 to 1, and below 1"),
        ("JetCLR", {"dropout": -0.1}, "dropout is -0.1, allowed"),
        ("JetCLR", {"width": 15}, "width is 15, allowed: a multiple of heads, 2"),
        ("JetCLR", {"batch_size": 1}, "batch_size is 1, allowed: 2 or more"),
        ("JetCLR", {"learning_rate": -1.0}, "learning_rate is -1.0, allowed"),
        ("JetCLR", {"infrared_safe": 1}, "infrared_safe is 1, allowed: true or false"),
        ("JetCLR", {"soft": None}, "soft is None, allowed: true or false"),
        ("JetCLR", {"soft_scale": 5.0}, "soft_scale is 5.0, allowed: 0 to 1 GeV"),
        ("JetCLR", {"spare_slots": 1001}, "spare_slots is 1001, allowed: 0 to 1000"),
        ("JetCLR", {"seed": -1}, "seed is -1, allowed: 0 or more"),
        ("JetCLR", {"seed": "a"}, "seed is 'a'; a whole number is expected"),
        ("AnomalyCLR", {"muon_eta": -1.0}, "muon_eta is -1.0, allowed"),
        ("AnomalyCLR", {"added": False, "split": False, "shifted": False}, "one of them is needed, or loss: nt_xent"),
    ],
)
def test_options_that_mean_nothing_are_refused(name: str, options: dict[str, Any], told: str) -> None:
    encoder = ENCODERS[name](**SMALL | options)
    with pytest.raises(ScorerError, match=told):
        encoder.check()
    with pytest.raises(ScorerError, match=told):
        encoder.fit(MAKE[name]())


def test_the_device_is_looked_for() -> None:
    with pytest.raises(DeviceError, match="no device 'cup'"):
        JetCLR(device="cup").check()


def with_value(x: np.ndarray, event: int, slot: int, number: int, value: float) -> np.ndarray:
    x[event, slot, number] = value
    return x


@pytest.mark.parametrize("name", MAKE)
def test_events_that_are_none_are_refused(name: str) -> None:
    x, cls = MAKE[name](), ENCODERS[name]
    with pytest.raises(NotFittedError, match=f"{name} is not fitted"):
        cls().encode(x)
    with pytest.raises(TooFewRowsError, match="x: has 99 events, at least 100"):
        cls(**SMALL).fit(x[:99])
    with pytest.raises(TooFewRowsError, match="validation: has 1 events, at least 2"):
        cls(**SMALL).fit(x, validation=x[:1])
    encoder = cls(**SMALL | {"max_epochs": 1}).fit(x, validation=x[:50])
    assert encoder.training_["validation_rows"] == [50]
    empty = x.copy()
    empty[3, 1:] = 0.0
    empty[3, 0] = 0.0
    each = "events" if cls.whole_events else "jets"
    for bad, error, told in (
        (with_value(x.copy(), 7, 0, 1, np.nan), NonFiniteError, f"x: NaN or infinity in 1 of 200 {each}, first 7"),
        (
            with_value(x.copy(), 7, 0, 0, -2.0),
            NegativePixelError,
            r"x: 1 of 200 .* below 0, first 7: -2; allowed: 0 or more",
        ),
        (
            with_value(x.copy(), 7, 0, 0, 1e39),
            NonFiniteError,
            r"x: 1 of 200 events have numbers that no momentum has, first 7: pT 1e\+39; allowed: pT up to 1e\+09 GeV",
        ),
        (
            with_value(x.copy(), 7, 0, 2, -1e30),
            NonFiniteError,
            r"first 7: phi -1e\+30; allowed: .* eta and phi within ±100",
        ),
        (empty, EmptyImageError, "1 of 200 .* have no .*, first 3"),
        (x[:, 0], ShapeError, "x: has shape"),
        (x[..., :2], ShapeError, "x: "),
    ):
        with pytest.raises(error, match=told):
            cls(**SMALL).fit(bad)
        with pytest.raises(error, match=told):
            encoder.encode(bad)
    weighted = Sample(x[:, None], weight=np.ones(200))
    with pytest.raises(ScorerError, match="cannot use weights"):
        cls(**SMALL).fit(weighted)
