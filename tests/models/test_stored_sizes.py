"""A stored scorer: sizes that its record declares are compared with the weights before anything is made of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunch.models import (
    NAE,
    Autoencoder,
    ConvVae,
    DeepSvdd,
    EventToEnsemble,
    Flow,
    GaussianMixture,
    IsolationForest,
    KernelDensity,
    KMeans,
    Quak,
    Sample,
    Scorer,
    ScorerFolderError,
    ScorerSpace,
    Vae,
    load_scorer,
)
from hunch.models.autoencoders.conv_autoencoder import ConvSizes, StackedConvVae
from hunch.models.axis_fit import Axis, fit_axes
from hunch.models.density.densities import ARCHITECTURES, Architecture
from hunch.models.storage import sealed

SHORT: dict[str, Any] = {"max_epochs": 1, "hidden": 4}
TINY: dict[str, Any] = {
    **SHORT,
    "latent": 2,
    "batch_size": 64,
    "nae_epochs": 1,
    "latent_steps": 1,
    "input_steps": 1,
    "replay": 64,
}
RNG = np.random.default_rng(3)
ROWS = RNG.normal(size=(120, 3))
IMAGES = RNG.exponential(size=(120, 8, 8))
IMAGES /= IMAGES.sum(axis=(1, 2), keepdims=True)


FITTED: dict[str, Any] = {
    "Autoencoder": Autoencoder(**SHORT),
    "DeepSvdd": DeepSvdd(**SHORT, outputs=2),
    "GaussianMixture": GaussianMixture(components=2),
    "IsolationForest": IsolationForest(n_estimators=3),
    "KernelDensity": KernelDensity(),
    "KMeans": KMeans(clusters=2),
}


def fitted(name: str) -> Scorer:
    if name == "Quak":
        return Quak(**SHORT, family=False).fit(ROWS, priors={"a": ROWS + 1})
    if name == "ScorerSpace":
        return ScorerSpace(Flow(**SHORT), {"a": Flow(**SHORT)}).fit(ROWS, priors={"a": ROWS + 1})
    if name == "ConvVae":
        return ConvVae(**SHORT, blocks=1, channels=2, latent=2).fit(IMAGES)
    if name == "EventToEnsemble":
        return EventToEnsemble(distance="mse", references="average").fit(IMAGES)
    if name == "NAE":
        return NAE(**TINY, inputs="rows").fit(ROWS)
    if name == "NAE of images":
        return NAE(**TINY, architecture="conv", channels=2).fit(IMAGES)
    if name in FITTED:
        return FITTED[name].fit(ROWS)
    return {"Flow": Flow(**SHORT), "Vae": Vae(**SHORT), "Vae with flows": Vae(**SHORT, flow_steps=2)}[name].fit(ROWS)


NAMES = ("Flow", "Vae", "Vae with flows", "Quak", "ConvVae", "EventToEnsemble", "NAE", "NAE of images", "ScorerSpace")
NAMES += tuple(FITTED)


@pytest.fixture(scope="module", params=NAMES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scorer") / "s"
    fitted(request.param).save(path)
    return path


def places(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Give the place of every value in a record but those of its training."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            if key != "training":
                yield (*at, key)
                yield from places(inner, (*at, key))


def changed(record: Any, at: tuple[str | int, ...], value: Any) -> Any:
    made = json.loads(json.dumps(record))
    place = made
    for key in at[:-1]:
        place = place[key]
    place[at[-1]] = value
    return made


def resealed(text: str) -> str:
    return json.dumps(sealed(json.loads(text)))


@pytest.mark.parametrize("value", [10_000_000, 10**15, -1, "x", None, [], {}, 2.5], ids=str)
def test_a_changed_record_is_refused_or_read_at_once(folder: Path, value: Any) -> None:
    path = folder / "scorer.json"
    text = path.read_text()
    record = json.loads(text)
    sizes = 0
    try:
        for at in places(record):
            path.write_text(json.dumps(sealed(changed(record, at, value))))
            started = time.process_time()
            try:
                load_scorer(folder)
            except ScorerFolderError as error:
                assert str(folder) in str(error)  # noqa: PT017
                sizes += at[-1] in {
                    "steps",
                    "hidden",
                    "latent",
                    "channels",
                    "height",
                    "n_features",
                    "jets",
                    "flow_steps",
                    "outputs",
                    "components",
                    "n_estimators",
                    "max_rows",
                    "clusters",
                }
            assert time.process_time() - started < 1.0, at
    finally:
        path.write_text(text)
    if value in (10_000_000, 10**15) and "shape" not in record["state"]:
        assert sizes >= 2


def test_the_sizes_of_the_issue_are_said(tmp_path: Path) -> None:
    fitted("Flow").save(tmp_path / "s")
    path = tmp_path / "s" / "scorer.json"
    text = path.read_text()
    path.write_text(resealed(text.replace('"steps": 4', '"steps": 10000000')))
    with pytest.raises(ScorerFolderError, match=r"s/scorer\.json: .*: steps is 10000000, allowed: 1 to 1000"):
        load_scorer(tmp_path / "s")
    path.write_text(resealed(text.replace('"steps": 4', '"steps": 5').replace('"hidden": 4', '"hidden": 60000')))
    with pytest.raises(ScorerFolderError, match=r"have \d{11} numbers in 30 arrays, the weights hold 264 in 24"):
        load_scorer(tmp_path / "s")
    path.write_text(text.replace('"hidden": 4', '"hidden": ' + "9" * 5000))
    with pytest.raises(ScorerFolderError, match=r"s/scorer\.json: holds 9{12}\.\.\.9999 \(5000 characters\)"):
        load_scorer(tmp_path / "s")
    path.write_text("[" * 100_000)
    with pytest.raises(ScorerFolderError, match=r"s/scorer\.json: lists or mappings inside each other"):
        load_scorer(tmp_path / "s")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_size_of_an_architecture_is_that_of_what_it_builds(name: str) -> None:
    for architecture in (Architecture(name, hidden=5, steps=3), Architecture(name, hidden=2, latent=3, steps=1)):
        built = list(architecture.build(2, 4, seed=0).parameters())
        assert architecture.size(2, 4) == (len(built), sum(p.numel() for p in built))


def test_the_size_of_a_convolutional_network_is_that_of_what_it_builds() -> None:
    for sizes in (ConvSizes(8, 4, blocks=2, convolutions=3, channels=3, hidden=5, latent=2), ConvSizes(2, 2, blocks=1)):
        built = list(StackedConvVae(1, sizes, seed=0).parameters())
        assert sizes.size == (len(built), sum(p.numel() for p in built))


def test_a_finished_axis_that_was_damaged_is_trained_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sample, flow = Sample(ROWS), Flow(**SHORT)
    options: dict[str, Any] = {"checkpoint": str(tmp_path / "c"), "progress": False}
    first = fit_axes([Axis(Flow(**SHORT), sample)], **options)[0].score(ROWS)
    (finished,) = tmp_path.glob("*.axis")
    (finished / "scorer.json").write_text("{")
    assert np.array_equal(fit_axes([Axis(flow, sample)], **options)[0].score(ROWS), first)
    assert "this axis is trained anew" in caplog.text
    load_scorer(finished)
