"""Normalised autoencoders as scorers: what is recorded, resumed, drawn, and refused."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hunch.models import NAE, TrainingSettings, load_scorer
from hunch.models.energy import nae as nae_module
from hunch.models.inputs import NonFiniteError, ScorerError, ShapeError, TooFewRowsError
from hunch.models.train import checkpoint as checkpoint_module
from hunch.models.train import loop as training_module

SMALL: dict[str, Any] = {
    "device": "cpu",
    "hidden": 8,
    "channels": 2,
    "max_epochs": 1,
    "nae_epochs": 1,
    "batch_size": 32,
    "replay": 48,
    "latent_steps": 2,
    "input_steps": 2,
}


def rows(n: int = 200, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3)) * [1.0, 2.0, 0.5]


def images(n: int = 200) -> np.ndarray:
    made = np.random.default_rng(1).exponential(size=(n, 6, 4)) * np.linspace(1, 0, 4)
    return made / made.sum(axis=(1, 2), keepdims=True)


def sets(n: int = 200) -> np.ndarray:
    rng = np.random.default_rng(2)
    made = np.concatenate([rng.exponential(size=(n, 5, 1)), rng.normal(0, 0.2, (n, 5, 2))], axis=2)
    made[np.arange(5) >= rng.integers(2, 5, size=n)[:, None]] = 0.0
    return made


KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "rows": (rows, {"inputs": "rows"}),
    "rows that go on": (rows, {"inputs": "rows", "input_replay": True}),
    "images": (images, {"inputs": "images"}),
    "convolved images": (images, {"inputs": "images", "architecture": "conv", "input_replay": True}),
    "sets": (sets, {"inputs": "sets", "input_replay": True}),
}


@pytest.fixture(autouse=True, scope="module")
def short_epochs() -> Iterator[None]:
    """Let an epoch have ten steps, whatever the size of the sample."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nae_module, "TrainingSettings", functools.partial(TrainingSettings, min_steps=10))
        yield


@pytest.fixture(params=KINDS, scope="module")
def fitted(request: pytest.FixtureRequest) -> tuple[Any, NAE]:
    make, options = KINDS[request.param]
    x = make()
    return x, NAE(**(SMALL | options)).fit(x)


def test_the_record_tells_of_both_phases(fitted: tuple[Any, NAE]) -> None:
    _, nae = fitted
    record = nae.training_
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["setbacks"] == []
    assert record["select"] == "wasserstein_mean"
    assert set(record["monitor"]) == {
        "positive",
        "negative",
        "gap",
        "latent_acceptance",
        "latent_displacement",
        "input_acceptance",
        "input_displacement",
        "wasserstein",
        "wasserstein_mean",
    }
    figures = {name: values[0][0] for name, values in record["monitor"].items()}
    assert figures["gap"] == pytest.approx(figures["positive"] - figures["negative"], abs=1e-5)
    for name in ("latent_acceptance", "input_acceptance"):
        assert 0 < figures[name] <= 1
    assert min(figures["latent_displacement"], figures["input_displacement"]) > 0
    assert figures["wasserstein"] > 0
    assert record["autoencoder"]["epochs"] == 1


def test_what_is_drawn_looks_like_what_was_given(fitted: tuple[Any, NAE]) -> None:
    x, nae = fitted
    drawn = nae.sample(70, seed=1)  # more than there are chains in the buffer
    assert drawn.shape == (70, *x.shape[1:])
    assert np.array_equal(drawn, nae.sample(70, seed=1))
    assert not np.array_equal(drawn, nae.sample(70, seed=2))
    frames = nae.frames()
    assert frames.shape == (6, 16, *x.shape[1:])
    for made in (drawn, *frames):
        assert np.isfinite(made).all()
        if nae.inputs == "images":
            assert (made >= 0).all()
        if nae.inputs == "sets":
            filled = made[..., 0] > 0
            assert (made[~filled] == 0).all()
            assert (filled.sum(axis=1) <= 4).all()  # as many as in the training
    assert np.abs(drawn).mean() < 10 * np.abs(x).mean()


def test_a_stored_one_draws_and_scores_the_same(fitted: tuple[Any, NAE], tmp_path: Path) -> None:
    x, nae = fitted
    nae.save(tmp_path / "s")
    again: Any = load_scorer(tmp_path / "s")
    assert np.array_equal(again.score(x), nae.score(x))
    assert np.array_equal(again.sample(60, seed=3), nae.sample(60, seed=3))
    assert np.array_equal(again.frames(), nae.frames())


def test_the_sphere_is_a_sphere(fitted: tuple[Any, NAE]) -> None:
    x, nae = fitted
    z = nae.latent_points(x)
    assert z.shape == (len(x), 3)
    assert np.linalg.norm(z, axis=1) == pytest.approx(1.0, abs=1e-12)
    assert nae.decode(z).shape == x.shape
    assert nae.manifold_energies(2 * z) == pytest.approx(nae.manifold_energies(z), rel=1e-9)
    for name in ("replay", "points"):
        if name in nae.chains_:
            assert torch.isfinite(nae.chains_[name]).all()
    lengths = nae.chains_["replay"].double().norm(dim=-1)
    assert float((lengths - 1).abs().max()) < 1e-6


def test_chains_of_inputs_that_went_on_are_those_that_are_drawn_from(tmp_path: Path) -> None:
    nae = NAE(**(SMALL | {"inputs": "rows", "input_replay": True})).fit(rows())
    before = np.abs(nae.sample(20)).max()
    points = nae.chains_["points"]
    nae.chains_["points"] = points + 100.0
    assert np.abs(nae.sample(20)).min() > 2 * before
    nae.chains_["points"] = points[:, :5]
    nae.save(tmp_path / "s")
    with pytest.raises(ScorerError, match=r"tells 48 chains of 3 numbers, the buffer is \(1, 5, 3\)"):
        load_scorer(tmp_path / "s")


def test_units_and_temperatures_are_those_of_the_first_phase_and_of_the_steps() -> None:
    x, held = rows(), rows(80, seed=5)
    nae = NAE(inputs="rows", latent_step=0.2, latent_noise=0.5, input_step=0.3, input_noise=0.7, **SMALL)
    nae.fit(x, validation=held)
    assert nae.training_["unit"] == pytest.approx(nae.score(held, metric="autoencoder").mean(), rel=1e-5)
    # of "mala" σ² / (2 λ); of x λ is a part of d / 2
    assert nae.training_["temperatures"] == pytest.approx({"latent": 0.5**2 / 0.4, "input": 0.7**2 / (3 * 0.3)})
    given = NAE(inputs="rows", latent_temperature=0.6, input_temperature=2.5, **SMALL).fit(x, validation=held)
    assert given.training_["temperatures"] == {"latent": 0.6, "input": 2.5}


def kill_after(monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    """Make a training stop right after it wrote its n-th checkpoint, of both phases together."""
    written = 0

    def write(*arguments: Any) -> None:
        nonlocal written
        checkpoint_module.write_checkpoint(*arguments)
        written += 1
        if written == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(training_module, "write_checkpoint", write)


def everything(nae: NAE) -> dict[str, torch.Tensor]:
    assert nae.network_ is not None
    assert nae.autoencoder_ is not None
    return {
        **{f"network {name}": value for name, value in nae.network_.state_dict().items()},
        **{f"autoencoder {name}": value for name, value in nae.autoencoder_.state_dict().items()},
        **nae.chains_,
    }


@pytest.mark.parametrize("go_on", [False, True])
def test_a_second_phase_that_is_killed_resumes_with_its_chains(
    go_on: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replay buffers, scales of the steps, singular vectors and frames: all are those of a training that was left alone."""
    options = SMALL | {
        "inputs": "rows",
        "nae_epochs": 3,
        "input_noise": 2.0,
        "input_temperature": 0.1,
        "input_replay": go_on,
    }
    whole, path = NAE(**options).fit(rows()), tmp_path / "c"
    assert float(whole.chains_["scales"].min()) < 1
    with monkeypatch.context() as patch:
        kill_after(patch, 1 + 2)
        with pytest.raises(KeyboardInterrupt):
            NAE(**options).fit(rows(), checkpoint=path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["c", "c.normalised"]
    resumed = NAE(**options).fit(rows(), checkpoint=path)
    assert not list(tmp_path.iterdir())
    assert resumed.training_ == whole.training_
    distances, means = (np.array(whole.training_["monitor"][f"wasserstein{part}"])[:, 0] for part in ("", "_mean"))
    assert means[0] == distances[0]
    assert means[1:] == pytest.approx(0.7 * means[:-1] + 0.3 * distances[1:], rel=1e-5)
    found = everything(resumed)
    for name, value in everything(whole).items():
        assert torch.equal(torch.nan_to_num(found[name], nan=7.0), torch.nan_to_num(value, nan=7.0)), name


def test_a_rate_that_no_training_bears_leaves_the_autoencoder_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    x = rows()
    nae = NAE(**(SMALL | {"inputs": "rows", "nae_learning_rate": 1e3, "lipschitz": 0.0, "nae_epochs": 4})).fit(x)
    record = nae.training_
    assert record["setbacks"] == [1] * training_module.MOST_SETBACKS
    assert record["best_epoch"] == [0]
    assert sum("epoch 1 diverged and is taken back" in message for message in caplog.messages) == len(
        record["setbacks"]
    )
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert np.array_equal(nae.score(x), nae.score(x, metric="autoencoder"))
    assert nae.frames().shape == (0, 0, 3)
    assert np.isfinite(nae.sample(10)).all()


def test_what_has_no_variety_is_no_divergence() -> None:
    assert NAE(**(SMALL | {"inputs": "rows"})).fit(np.ones((150, 3))).training_["setbacks"] == []
    held = np.tile(rows(1), (20, 1))
    assert NAE(**(SMALL | {"inputs": "rows"})).fit(rows(), validation=held).training_["setbacks"] == []


def test_negatives_of_a_small_batch_are_shown_too() -> None:
    nae = NAE(**(SMALL | {"inputs": "rows", "batch_size": 8, "replay": 8})).fit(rows())
    assert nae.frames().shape == (6, 8, 3)


NOTHING: list[tuple[dict[str, Any], str]] = [
    ({"inputs": "jets"}, "inputs"),
    ({"architecture": "convolutional"}, "conv"),
    ({"architecture": "conv"}, "architecture is 'conv', which takes images, not rows; allowed: 'dense'"),
    ({"sampler": "langevn"}, "langevin"),
    ({"hidden": 0}, "hidden is 0, allowed: 1 or more"),
    ({"latent": 1}, "latent is 1, allowed: 2 or more"),
    ({"channels": 0}, "channels is 0, allowed: 1 or more"),
    ({"hidden": 2.5}, "hidden"),
    ({"lipschitz": -1.0}, "lipschitz is -1.0, allowed: 0, or a finite number above"),
    ({"lipschitz": float("nan")}, "lipschitz is nan"),
    ({"gamma": float("inf")}, "gamma is inf"),
    ({"clip": -0.1}, "clip is -0.1"),
    ({"latent_temperature": -1.0}, "latent_temperature is -1.0"),
    ({"input_temperature": float("nan")}, "input_temperature is nan"),
    ({"input_temperature": 1.0, "sampler": "released"}, "input_temperature is 1.0, which the sampler 'released'"),
    ({"latent_temperature": 1.0, "sampler": "langevin"}, "latent_temperature is 1.0, which the sampler 'langevin'"),
    ({"restart": 1.5}, "restart is 1.5, allowed: 0 to 1"),
    ({"replay": 31}, "replay is 31, allowed: batch_size, 32, or more"),
    ({"latent_steps": -1}, "latent_steps is -1, allowed: 0 to"),
    ({"input_steps": 1.5}, "input_steps"),
    ({"latent_step": 0.0}, "latent_step is 0.0, allowed: a finite number above 0"),
    ({"input_step": -0.1}, "input_step is -0.1, allowed: a finite number above 0"),
    ({"latent_noise": -0.3}, "latent_noise is -0.3, allowed: a finite number above 0"),
    ({"input_noise": 0.0}, "input_noise is 0.0, allowed: a finite number above 0"),
    ({"input_noise": float("nan")}, "input_noise is nan"),
    ({"nae_epochs": 0}, "nae_epochs is 0, allowed: 1 or more"),
    ({"nae_patience": 0}, "nae_patience is 0, allowed: 1 or more"),
    ({"nae_learning_rate": -1e-3}, "nae_learning_rate is -0.001, allowed: a finite number above 0"),
    ({"max_epochs": 0}, "max_epochs is 0, allowed: 1 or more"),
    ({"learning_rate": float("nan")}, "learning_rate is nan"),
    ({"device": "gpu"}, "gpu"),
    # options that are of another type, as a configuration may have them
    ({"lipschitz": "1"}, "lipschitz is '1'"),
    ({"restart": None}, "restart is None"),
    ({"input_step": "small"}, "input_step is 'small'"),
    ({"nae_epochs": "many"}, "nae_epochs"),
    ({"gamma": True}, "gamma is True"),
    ({"adapt": "no"}, "adapt is 'no', allowed: true or false"),
    ({"anneal": 1}, "anneal is 1, allowed: true or false"),
    ({"input_replay": "yes"}, "input_replay is 'yes', allowed: true or false"),
]


@pytest.mark.parametrize(("options", "told"), NOTHING, ids=[str(case[0]) for case in NOTHING])
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ScorerError, match=told):
        NAE(**(SMALL | {"inputs": "rows"} | options)).fit(rows())


def test_images_and_events_that_do_not_fit_are_refused() -> None:
    conv = SMALL | {"inputs": "images", "architecture": "conv"}
    for shape in ((5, 4), (6, 7), (2, 8)):
        odd = np.full((150, *shape), 1.0 / np.prod(shape))
        with pytest.raises(ShapeError, match=f"images of {shape[0]} x {shape[1]} pixels cannot be convolved"):
            NAE(**conv).fit(odd)
        with pytest.raises(ShapeError, match="cannot be convolved"):
            NAE(**conv).check(shape)
    nae = NAE(**(SMALL | {"inputs": "images"})).fit(images())
    with pytest.raises(ShapeError, match=r"x: images of \(4, 6\), \(6, 4\) are expected"):
        nae.score(images().transpose(0, 2, 1))
    with pytest.raises(ShapeError, match=r"validation: images of \(4, 6\), \(6, 4\) are expected"):
        NAE(**(SMALL | {"inputs": "images"})).fit(images(), validation=images().transpose(0, 2, 1))
    with pytest.raises(TooFewRowsError, match="validation: has 1 events, at least 2 are needed"):
        NAE(**(SMALL | {"inputs": "rows"})).fit(rows(), validation=rows(1))
    with pytest.raises(TooFewRowsError, match="99"):
        NAE(**(SMALL | {"inputs": "rows"})).fit(rows(99))


def test_energies_that_are_not_finite_are_refused() -> None:
    wild = sets()
    wild[5, 0, 0] = 1e30
    options = SMALL | {"inputs": "sets"}
    with pytest.raises(NonFiniteError, match="validation: the mean energy of the held-out events is not finite"):
        NAE(**options).fit(sets(), validation=wild)
    nae = NAE(**options).fit(sets())
    wild[5, 0, 0] = 1e200
    with pytest.raises(NonFiniteError, match=r"x: the energies of 1 of 200 events are not finite, .* event 5"):
        nae.score(wild)
