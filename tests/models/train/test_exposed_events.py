"""Outlier exposure of every method that has it: lambda 0, what exposure does, what the exposed events are matched in, and what is said."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hunch.models import (
    SCORERS,
    EmptyImageError,
    Flow,
    NonFiniteError,
    Sample,
    ScorerError,
    ShapeError,
    TooFewRowsError,
    load_scorer,
    make_space,
)
from hunch.models.autoencoders.conv_autoencoder import ConvSizes, StackedConvVae
from hunch.models.autoencoders.set_scaling import jet_masses
from hunch.models.density.autoencoder import StackedVae
from hunch.models.density.densities import DensityStack
from hunch.models.scorer import method_class
from hunch.models.train import checkpoint as checkpoint_module
from hunch.models.train import exposed_events as exposed_module
from hunch.models.train import exposure as exposure_module
from hunch.models.train import loop
from hunch.models.train.exposed_events import ExposedMethod

NAMES = ("width", "mJ", "ntrk")


def rows(n: int, seed: int, *, signal: bool = False) -> np.ndarray:
    """Background (n, 3) of a width, a mass and a number of tracks; signal lies at other widths, over the masses."""
    rng = np.random.default_rng(seed)
    mass = rng.uniform(0, 100, n) if signal else rng.uniform(20, 80, n)
    return np.stack([rng.normal(2.5 if signal else 0.0, 1.0, n), mass, rng.poisson(20, n)], axis=-1)


def images(n: int, seed: int, *, signal: bool = False) -> np.ndarray:
    """Images (n, 8, 8) of one blob, or of two, which sum to one."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:8, :8]
    centres = (1.5, 5.5) if signal else (3.5,)
    made = sum(np.exp(-0.5 * ((y - c) ** 2 + (x - c) ** 2)) for c in centres) * rng.exponential(size=(n, 8, 8))
    return np.asarray(made / made.sum(axis=(1, 2), keepdims=True))


def sets(n: int, seed: int, *, signal: bool = False) -> np.ndarray:
    """Jets (n, 6, 4) of massless constituents around one direction or two."""
    rng = np.random.default_rng(seed)
    pt = np.sort(rng.exponential(80.0, (n, 6)), axis=1)[:, ::-1]
    side = np.where(np.arange(6) % 2 == 0, 1.0, -1.0) * (0.15 if signal else 0.0)
    size = rng.uniform(0.3, 2.0, (n, 1))
    eta, phi = size * rng.normal(0, 0.1, (n, 6)), size * (side + rng.normal(0, 0.1, (n, 6)))
    return np.stack([pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=-1)


MAKERS: dict[str, Callable[..., np.ndarray]] = {"rows": rows, "images": images, "sets": sets}
OPTIONS: dict[str, Any] = {"max_epochs": 4, "batch_size": 32, "channels": 4, "hidden": 16, "latent": 2, "device": "cpu"}
EXPOSED = [name for name in SCORERS if "exposure" in method_class(name).uses]


class Case:
    """One method with outlier exposure, on samples that know what is hunted in."""

    def __init__(self, name: str) -> None:
        self.cls: Any = method_class(name)
        self.events = MAKERS[self.cls.takes[0]]
        self.known = {k: v for k, v in OPTIONS.items() if k in self.cls().parameters()}

    def make(self, **options: Any) -> Any:
        return self.cls(**{**self.known, **options})

    def sample(self, n: int, seed: int, *, signal: bool = False) -> Sample:
        inputs = self.events(n, seed, signal=signal)
        low, high = (0, 100) if signal else (20, 80)
        observable = np.random.default_rng(seed + 50).uniform(low, high, n)
        return Sample(inputs, NAMES if inputs.ndim == 2 else (), observable=observable)


@pytest.fixture(params=EXPOSED, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_the_methods_with_exposure_are_one_family(case: Case) -> None:
    assert {"ConstituentVae", "ConvVae", "Vae"} <= set(EXPOSED)
    assert issubclass(case.cls, ExposedMethod)
    assert case.cls().exposure == "none"


@pytest.mark.parametrize("kind", ["mse", "kl"])
def test_without_strength_the_training_is_the_plain_one_bit_for_bit(case: Case, kind: str) -> None:
    """It stops as early as that one too: lambda alone is what an exposed training goes on for."""
    options = {"max_epochs": 2, "patience": 1}
    background, beside = case.sample(150, 0), case.sample(250, 1, signal=True)
    plain = case.make(**options).fit(background)
    exposed = case.make(**options, exposure=kind, exposure_strength=0.0).fit(background, exposure=beside)
    x = case.events(50, 3)
    for metric in plain.metrics[:3]:
        np.testing.assert_array_equal(exposed.score(x, metric=metric), plain.score(x, metric=metric))
    told = {
        name: value for name, value in exposed.training_.items() if name not in {"exposed_rows", "exposure_effective"}
    }
    assert told == plain.training_
    whole = case.make(**options, exposure=kind).fit(background, exposure=beside)
    assert whole.training_["settings"]["patience"] == 2
    assert whole.training_["validation_loss"] != plain.training_["validation_loss"]


@pytest.mark.parametrize(
    ("name", "kind", "metric"),
    [
        ("Vae", "kl", "kl"),
        ("Vae", "mse", "reconstruction"),
        ("ConvVae", "kl", "kl"),
        ("ConvVae", "mse", "reconstruction"),
    ],
)
def test_an_exposed_scorer_finds_what_it_was_exposed_to(name: str, kind: str, metric: str, tmp_path: Path) -> None:
    case = Case(name)
    options = {"max_epochs": 4, "seed": 1, "learning_rate": 5e-3}
    tested = [case.events(300, 5), case.events(300, 6, signal=True)]
    auc = []
    for exposure in ("none", kind):
        beside = None if exposure == "none" else case.sample(200, 1, signal=True)
        scorer = case.make(**options, exposure=exposure).fit(case.sample(300, 0), exposure=beside)
        own, other = (scorer.score(x, metric=metric) for x in tested)
        auc.append((other[:, None] > own).mean())
    assert auc[1] > max(auc[0], 0.8), auc
    scorer.save(tmp_path / "scorer")
    again: Any = load_scorer(tmp_path / "scorer")
    np.testing.assert_array_equal(again.score(tested[0], metric=metric), own)
    assert again.training_ == scorer.training_
    assert f"exposure='{kind}'" in repr(again)


def test_networks_give_the_parts_of_their_loss() -> None:
    x = torch.rand(2, 5, 64)
    x = x / x.sum(dim=-1, keepdim=True)
    sizes = ConvSizes(8, 8, blocks=2, channels=2, hidden=4, latent=3)
    for network, latent, total in (
        (StackedVae(2, 64, 3, 8, seed=0, beta=0.5), 3, lambda p: p.error + 0.5 * p.kl.sum(-1)),
        (StackedVae(2, 64, 3, 8, seed=0, beta=0.5, steps=2), 1, lambda p: p.error + 0.5 * p.kl.sum(-1)),
        (StackedConvVae(2, sizes, seed=0, beta=0.1, scale=40.0), 3, lambda p: 0.9 * p.error + 4.0 * p.kl.sum(-1)),
    ):
        parts, loss = (
            given(x, generator=torch.Generator().manual_seed(1), **more)  # type: ignore[operator]
            for given, more in ((network.parts, {}), (network.losses, {"progress": 1.0}))
        )
        assert (parts.error.shape, parts.kl.shape) == ((2, 5), (2, 5, latent))
        torch.testing.assert_close(loss, total(parts))
        torch.testing.assert_close(network.loss_of(parts, progress=1.0), loss)  # type: ignore[operator]


def test_errors_of_images_are_exposed_in_units_of_the_average_image() -> None:
    """Without a unit the errors of images, 1e-4 and less, would all be one to the sigmoid."""
    x = torch.rand(1, 5, 64)
    sizes = ConvSizes(8, 8, blocks=2, channels=2, hidden=4, latent=3)
    one, more = (
        StackedConvVae(1, sizes, seed=0, scale=scale).parts(x, generator=torch.Generator().manual_seed(1)).error
        for scale in (1.0, 40.0)
    )
    torch.testing.assert_close(more, 40 * one)


def test_the_mass_penalty_and_exposure_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exposure is paid for beside the penalty, not in place of it."""
    monkeypatch.setattr(exposure_module, "annealed", lambda progress: 1.0)
    case, mass = Case("Vae"), np.random.default_rng(0).uniform(20, 80, 300)
    background = Sample(np.column_stack([rows(300, 0), mass]), observable=mass)
    beside = case.sample(200, 1, signal=True)
    beside = Sample(np.column_stack([beside.inputs, beside.observable]), observable=beside.observable)
    found = []
    for penalty, exposure in ((0.0, 2.0), (50.0, 2.0), (50.0, 0.0)):
        options = {"exposure": "kl", "max_epochs": 1, "decorrelation": penalty, "exposure_strength": exposure}
        found.append(case.make(**options).fit(background, exposure=beside).score(background.inputs))
    assert not np.array_equal(found[0], found[1])
    assert not np.array_equal(found[1], found[2])


def test_exposed_rows_pass_the_map_of_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    whole = exposed_module.exposed_objective

    def seen(objective: Any, exposed: Any, as_rows: Any) -> Any:
        found = whole(objective, exposed, as_rows)
        given.update(exposed=exposed, stream=found[1]["exposure"])
        return found

    monkeypatch.setattr("hunch.models.density.densities.exposed_objective", seen)
    # whole numbers are spread at random in training: none here
    background, beside = (Sample(rows(200, i, signal=bool(i))[:, :2], observable=rows(200, i)[:, 1]) for i in (0, 1))
    scorer = Case("Vae").make(exposure="kl").fit(background, exposure=beside)
    density = scorer.density_
    assert isinstance(density, DensityStack)
    events = np.concatenate(given["exposed"].rows)
    _, scored, _ = next(density._chunks(beside.inputs))
    expected = {tuple(row) for row in np.round(scored[0].numpy(), 4)}
    found = {tuple(row) for row in np.round(np.concatenate([part.double().numpy() for part in given["stream"]]), 4)}
    assert len(events) == scorer.training_["exposed_rows"]
    close = np.abs(np.array(sorted(found))[:, None] - np.array(sorted(expected))[None]).max(axis=2).min(axis=1)
    assert close.max() < 1e-3


@pytest.mark.parametrize("match", ["observable", "mJ", "none", "jet_mass", "rescaled"])
def test_exposed_events_have_the_spectrum_that_is_asked_for(match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "ConstituentVae" if match in {"jet_mass", "rescaled"} else "Vae"
    case, kept = Case(name), {}
    make = ExposedMethod.exposed_events

    def seen(self: Any, *given: Any, **more: Any) -> Any:
        kept["events"] = make(self, *given, **more)
        return kept["events"]

    monkeypatch.setattr(ExposedMethod, "exposed_events", seen)
    background, beside = case.sample(500, 0), case.sample(800, 1, signal=True)
    assert background.observable is not None
    assert beside.observable is not None
    scorer = case.make(exposure="kl", exposure_match=match, max_epochs=1).fit(background, exposure=beside)
    events = np.concatenate(kept["events"].rows)
    record = scorer.training_

    def place(inputs: np.ndarray, observable: np.ndarray) -> np.ndarray:
        return jet_masses(inputs) if name == "ConstituentVae" else observable if match == "observable" else inputs[:, 1]

    known = {row.tobytes(): value for row, value in zip(beside.inputs, beside.observable, strict=True)}
    own = place(events, np.array([known.get(row.tobytes(), np.nan) for row in events]))
    wanted, before = place(background.inputs, background.observable), place(beside.inputs, beside.observable)
    quartiles = [np.quantile(v, [0.1, 0.5, 0.9]) for v in (own, wanted, before)]
    if match == "none":
        np.testing.assert_array_equal(quartiles[0], quartiles[2])
        assert record["exposure_effective"] == 1.0
        return
    np.testing.assert_allclose(quartiles[0], quartiles[1], rtol=0.15)
    assert not np.allclose(quartiles[2], quartiles[1], rtol=0.15)
    if match == "rescaled":
        assert record["exposure_unreached"] + record["exposed_rows"] == 800
    else:
        assert 0.2 < record["exposure_effective"] < 0.9
        # what stands in for several events never serves both training and validation
        train, held = ({row.tobytes() for row in part} for part in kept["events"].rows)
        assert not train & held


def test_jets_of_one_mass_are_rescaled_where_they_cannot_be_resampled() -> None:
    case = Case("ConstituentVae")
    background, beside = case.events(200, 0), case.events(200, 1, signal=True)
    beside = beside * (80 / jet_masses(beside))[:, None, None]
    with pytest.raises(ScorerError, match="events of one jet mass cannot be resampled"):
        case.make(exposure="kl").fit(background, exposure=beside)
    scorer = case.make(exposure="kl", exposure_match="rescaled").fit(background, exposure=beside)
    assert scorer.training_["exposed_rows"] > 150
    one = np.zeros_like(beside)
    one[:, 0] = beside[:, 0]
    with pytest.raises(ScorerError, match="0 of 200 jets can be rescaled"):
        case.make(exposure="kl", exposure_match="rescaled").fit(background, exposure=one)


def test_a_space_hands_on_what_is_matched(case: Case) -> None:
    """The observable of events of two jets is that of both; the models of priors are not exposed."""
    background, beside = case.sample(150, 0), case.sample(250, 1, signal=True)
    kind, observed = case.cls.takes[0], beside.observable
    options = {**case.known, "exposure": "kl", "exposure_match": "observable", "max_epochs": 1}
    if kind != "rows":
        double = [np.stack([s.inputs, s.inputs[::-1]], axis=1) for s in (background, beside)]
        background, beside = (
            Sample(inputs, observable=s.observable) for inputs, s in zip(double, (background, beside), strict=True)
        )
    space: Any = make_space(case.cls.__name__, kind=kind, priors=("near",), options=options)
    space.fit(background, priors={"near": beside}, exposure=beside)
    record = space.scorers["background"].training_
    inside = (observed > background.observable.min()) & (observed < background.observable.max())
    assert record["exposed_rows"] == (1 if kind == "rows" else 2) * inside.sum()
    assert record["exposure_effective"] < 0.8
    assert "exposed_rows" not in space.scorers["near"].training_


def test_wrong_exposure_is_said(case: Case) -> None:
    background, beside = case.sample(150, 0), case.sample(250, 1, signal=True)
    broken = beside.inputs.copy()
    broken[(3, *(0,) * (broken.ndim - 1))] = np.nan
    mixed = np.concatenate([beside.inputs, background.inputs[:20]])
    narrow = beside.inputs[..., :-1] if beside.inputs.ndim == 2 else beside.inputs[:, :4]
    kl: dict[str, Any] = {"exposure": "kl"}
    for options, given, error, words in (
        ({}, beside, ScorerError, "the option exposure is 'none'; allowed: mse, kl"),
        (kl, None, ScorerError, "the option is 'kl', which needs a sample"),
        ({"exposure": "kll"}, beside, ScorerError, "no exposure 'kll'"),
        (kl | {"exposure_strength": -1.0}, beside, ScorerError, "exposure_strength is -1"),
        (kl, beside.select(np.arange(30)), TooFewRowsError, "exposure: has 30 events, at least 100 are needed"),
        (kl, Sample(broken), NonFiniteError, "exposure: NaN or infinity in"),
        (kl | {"exposure_match": "none"}, Sample(mixed), ScorerError, "exposure: 20 of 270 events are in x, too"),
        (kl, Sample(beside.inputs, weight=np.ones(250)), ScorerError, "exposure: has weights"),
        (kl, Sample(narrow), ShapeError, "exposure: .*(columns|expected)"),
        (kl | {"exposure_match": "observable"}, beside.inputs, ScorerError, "exposure: has no observable, .*'none'"),
        (kl | {"exposure_match": "mjj"}, beside, ScorerError, "no exposure_match 'mjj'.*observable"),
    ):
        with pytest.raises(error, match=words):
            case.make(**options).fit(background, exposure=given)
    far = Sample(beside.inputs, beside.names, observable=np.where(np.arange(250) < 150, beside.observable, 900.0))
    with pytest.raises(
        ScorerError, match=r"exposure: \d\d of 250 events lie within the background's observable, at least 100"
    ):
        case.make(**kl, exposure_match="observable").fit(background, exposure=far)
    with pytest.raises(ScorerError, match="x: has no observable"):
        case.make(**kl, exposure_match="observable").fit(background.inputs, exposure=beside)


def test_a_space_is_not_exposed_to_events_of_its_other_samples(case: Case) -> None:
    def known(number: int, *, shared: bool = False) -> Sample:
        event = np.arange(150, dtype=np.uint64) + np.uint64(1000 * number)
        if shared:
            event[:7] = np.arange(7) + 3000
        return dataclasses.replace(case.sample(150, number), event=event)

    options = {**case.known, "exposure": "kl", "exposure_match": "none", "max_epochs": 1}
    space: Any = make_space(case.cls.__name__, kind=case.cls.takes[0], priors=("near",), options=options)
    for number, where in enumerate(("background", "prior 'near'", "validation")):
        background, prior, held = (known(i, shared=i == number) for i in range(3))
        with pytest.raises(ScorerError, match=f"exposure: 7 events are among those of {where}"):
            space.fit(background, priors={"near": prior}, exposure=known(3), validation=held)


def test_columns_that_do_not_fit_are_named() -> None:
    case = Case("Vae")
    background, beside = case.sample(150, 0), case.sample(250, 1, signal=True)
    with pytest.raises(ScorerError, match="exposure: no column 'mJ'"):
        case.make(exposure="kl").fit(background, exposure=Sample(beside.inputs, ("width", "mass", "ntrk")))
    with pytest.raises(ScorerError, match="no exposure_match 'mass'; allowed: observable, none, width, mJ, ntrk"):
        case.make(exposure="kl", exposure_match="mass").fit(background, exposure=beside)
    with pytest.raises(ScorerError, match="'none', or one of width, mJ, ntrk"):
        case.make(exposure="kl").fit(background, exposure=Sample(beside.inputs, NAMES))
    turned = Sample(beside.inputs[:, ::-1], NAMES[::-1], observable=beside.observable)
    x = case.events(20, 3)
    first, second = (case.make(exposure="kl").fit(background, exposure=s).score(x) for s in (beside, turned))
    np.testing.assert_array_equal(first, second)


def test_jets_without_constituents_and_flows_are_refused() -> None:
    case = Case("ConstituentVae")
    beside = case.events(150, 1)
    beside[7] = 0
    with pytest.raises(EmptyImageError, match="exposure: 1 of 150 jets have no constituents, first 7"):
        case.make(exposure="kl").fit(case.events(150, 0), exposure=beside)
    with pytest.raises(ScorerError, match="Flow cannot use an exposure sample; it uses: mass"):
        Flow().fit(rows(150, 0), exposure=rows(150, 1))


@pytest.mark.parametrize("name", ["Vae", "ConvVae"])
def test_a_training_starts_from_a_saved_scorer(name: str, tmp_path: Path) -> None:
    case, folder = Case(name), str(tmp_path / "before")
    background, beside = case.sample(300, 0), case.sample(200, 1, signal=True)
    before = case.make(seed=4).fit(background)
    before.save(folder)
    # a training that hardly moves ends where it started
    same = case.make(max_epochs=1, learning_rate=1e-12, pretrained=folder, seed=5).fit(background)
    x = case.events(50, 3)
    np.testing.assert_allclose(same.score(x), before.score(x), rtol=1e-3)
    tuned = case.make(pretrained=folder, exposure="kl", max_epochs=1).fit(background, exposure=beside)
    tuned.save(tmp_path / "after")
    np.testing.assert_array_equal(load_scorer(tmp_path / "after").score(x), tuned.score(x))
    with pytest.raises(ScorerError, match="option latent is 3, allowed: 2"):
        case.make(pretrained=folder, latent=3).fit(background)
    with pytest.raises(ScorerError, match="pretrained is 3, allowed: the path"):
        case.make(pretrained=3).check()
    other = background.inputs[:, :2] if name == "Vae" else np.pad(background.inputs, ((0, 0), (0, 8), (0, 8)))
    with pytest.raises(ShapeError, match=r"pretrained: .*before: was trained on"):
        case.make(pretrained=folder).fit(other)
    if name == "Vae":
        with pytest.raises(ScorerError, match="pretrained: was trained on the columns width, mJ, ntrk, x has ntrk"):
            case.make(pretrained=folder).fit(Sample(background.inputs, NAMES[::-1]))


def test_a_killed_exposed_training_ends_with_the_same_bits(case: Case, tmp_path: Path, monkeypatch: Any) -> None:
    background, beside = case.sample(150, 0), case.sample(250, 1, signal=True)
    written: list[int] = []

    def write(*given: Any) -> None:
        checkpoint_module.write_checkpoint(*given)
        written.append(1)
        if len(written) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_checkpoint", write)
        with pytest.raises(KeyboardInterrupt):
            case.make(exposure="kl", max_epochs=3).fit(background, exposure=beside, checkpoint=tmp_path / "c")
    resumed = case.make(exposure="kl", max_epochs=3).fit(background, exposure=beside, checkpoint=tmp_path / "c")
    whole = case.make(exposure="kl", max_epochs=3).fit(background, exposure=beside)
    x = case.events(20, 3)
    np.testing.assert_array_equal(resumed.score(x), whole.score(x))
    assert resumed.training_ == whole.training_
