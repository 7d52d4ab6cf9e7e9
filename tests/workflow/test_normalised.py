"""Searches whose axes are energies of normalised autoencoders: configuration, a kill in the second phase, and what the page says of the trainings."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hunch.cli import main
from hunch.config import ConfigError, read_analysis
from hunch.models import NAE, Flow, ScorerSpace, load_space
from hunch.models.train import loop
from hunch.table import Table, write_table
from hunch.workflow import run, run_stage, search_files
from hunch.workflow.trainings import draw_how_trained

pytestmark = pytest.mark.usefixtures("fast_hunt")

SIDE = 4
TINY: dict[str, Any] = {
    "name": "NAE",
    "hidden": 4,
    "latent": 2,
    "max_epochs": 1,
    "batch_size": 64,
    "nae_epochs": 3,
    "latent_steps": 1,
    "input_steps": 1,
    "replay": 64,
    "device": "cpu",
}
Columns = dict[str, np.ndarray]


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take few steps an epoch, and the distance of few events."""
    made = loop.TrainingSettings

    def short(**options: Any) -> Any:
        return made(**{**options, "min_steps": 3, "max_steps": 3})

    monkeypatch.setattr("hunch.models.energy.nae.TrainingSettings", short)
    monkeypatch.setattr("hunch.models.energy.training.COMPARED", 32)


def events(n: int, seed: int, *, side: int = SIDE) -> Columns:
    """Return the columns of events of two jets as images, with the pT around a pixel, as a table of one's own holds them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    images = {}
    for jet in range(2):
        width = rng.uniform(0.5, 1.5, (n, 1, 1))
        made = np.exp(-((y - 1.5) ** 2 + (x - 1.5) ** 2) / width) * rng.exponential(size=(n, side, side))
        images[f"image_{jet + 1}"] = (made / made.sum(axis=(1, 2), keepdims=True)).astype(np.float32)
    return {"mjj": np.minimum(2000 * (1 - rng.random(n)) ** (-1 / 6), 8000.0), **images}


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes tables of events and an analysis of them; its options are further keys of the scorer and of the analysis."""

    def write(own: dict[str, Any] | None = None, *, folds: bool = False, **more: Any) -> Path:
        for name, n in (("data", 700), ("background", 800), ("prior", 120)):
            write_table(tmp_path / f"{name}.parquet", Table(events(n, len(name)), {}))
        content: dict[str, Any] = {
            "samples": {
                "data": ["data.parquet"],
                **({} if folds else {"background": ["background.parquet"]}),
                "priors": {"near": ["prior.parquet"]},
            },
            "output": "out",
            "representation": {"name": "images", "pixels": SIDE},
            "scorer": TINY | (own or {}),
            "regions": {"number": 1, "fraction": 0.3},
            "folds": 3,
            "fit_range": [2000, 6000],
            "background_function": "dijet",
            "pseudo_experiments": 20,
            "limits": {"points": 1},
            "executor": "iterative",
        }
        (tmp_path / "analysis.yaml").write_text(yaml.safe_dump(content | more, sort_keys=False))
        return tmp_path / "analysis.yaml"

    return write


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hunch", "--quiet", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def weights(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.safetensors")}


BAD: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "odd side with conv": (
        {"architecture": "conv"},
        {"representation": {"name": "images", "pixels": 5}},
        "analysis.yaml: line {architecture}: key 'scorer.architecture': images of 5 x 5 pixels cannot be convolved: sides of an even number",
    ),
    "replay below batch_size": (
        {"replay": 63},
        {},
        "line {replay}: key 'scorer.replay': replay is 63, allowed: batch_size, 64, or more",
    ),
    "inputs": (
        {"inputs": "rows"},
        {},
        "line {inputs}: key 'scorer.inputs': is the analysis' own key representation",
    ),
    "sampler": (
        {"sampler": "mela"},
        {},
        "line {sampler}: key 'scorer.sampler': NAE: no sampler 'mela'; did you mean 'mala'",
    ),
    "step": (
        {"latent_step": -0.1},
        {},
        "line {latent_step}: key 'scorer.latent_step': latent_step is -0.1, allowed: a finite number above 0",
    ),
    "noise": (
        {"input_noise": 0},
        {},
        "line {input_noise}: key 'scorer.input_noise': input_noise is 0",
    ),
    "temperature of another sampler": (
        {"sampler": "langevin", "latent_temperature": 2.0},
        {},
        "line {latent_temperature}: key 'scorer.latent_temperature': latent_temperature is 2.0, which the sampler 'langevin' does not take",
    ),
    "epochs": (
        {"nae_epochs": 0},
        {},
        "line {nae_epochs}: key 'scorer.nae_epochs': nae_epochs is 0, allowed: 1 or more",
    ),
    "conv of constituents": (
        {"architecture": "conv"},
        {"representation": "constituents"},
        "line {architecture}: key 'scorer.architecture': architecture is 'conv', which takes images, not sets",
    ),
    "a key that there is not": (
        {"latent_stps": 3},
        {},
        "line {latent_stps}: unknown key 'scorer.latent_stps'; did you mean 'latent_steps'?",
    ),
    "metric": (
        {"metric": "loss"},
        {},
        "line {metric}: key 'scorer.metric': 'loss' is not known; allowed: energy, autoencoder",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_a_normalised_autoencoder_cannot_be_names_its_line(
    case: str, written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    scorer, more, told = BAD[case]
    path = written(scorer, **more)
    lines = path.read_text().splitlines()
    line = {key: next(n for n, text in enumerate(lines, 1) if text.strip().startswith(f"{key}:")) for key in scorer}
    assert called(monkeypatch, "run", str(path)) == 2
    error = [text for text in capfd.readouterr().err.splitlines() if text.startswith("hunch: ")]
    assert len(error) == 1
    assert told.format(**line) in error[0]


def stopped_after(monkeypatch: pytest.MonkeyPatch, ending: str, number: int) -> list[Path]:
    """Have a training interrupted after its n-th checkpoint whose name ends so; returns the list of all that were written."""
    original, written = loop.write_checkpoint, []

    def stop(path: Any, *arguments: Any) -> None:
        original(path, *arguments)
        written.append(Path(path))
        if sum(p.name.endswith(ending) for p in written) == number:
            monkeypatch.setattr(loop, "write_checkpoint", original)
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "write_checkpoint", stop)
    return written


@pytest.mark.parametrize("axis", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_run_killed_in_the_second_phase_ends_as_one_that_was_not(
    axis: int, written: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written()
    for stage in ("process", "train"):
        run_stage(read_analysis(path), stage, progress=False)
    expected = weights(tmp_path / "out" / "models")
    assert len(expected) == 1
    killed = read_analysis(path, ["output=killed"])
    run_stage(killed, "process", progress=False)
    checkpoints = stopped_after(monkeypatch, f"checkpoint.{axis}.normalised", 2)
    with pytest.raises(KeyboardInterrupt):
        run_stage(killed, "train", progress=False)
    models = tmp_path / "killed" / "models"
    left = {p.name for p in models.iterdir() if p.is_file()}
    assert left == {f"fold_0.checkpoint.{axis}", f"fold_0.checkpoint.{axis}.normalised"}
    assert len(list(models.glob("*.axis"))) == axis  # the background's, where the prior's was killed
    fits: list[Any] = []
    original = NAE.fit
    monkeypatch.setattr(NAE, "fit", lambda self, *a, **k: fits.append(self) or original(self, *a, **k))
    before = len(checkpoints)
    run_stage(killed, "train", progress=False)
    assert (len(fits), before) == (2 - axis, len(checkpoints))
    assert weights(models) == expected
    assert [p.name for p in models.iterdir()] == ["fold_0"]


def test_what_a_second_phase_has_left_goes_with_the_fit_of_another_method(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(120, 3))
    for name in ("c.0", "c.0.normalised", "c.0.notes"):
        (tmp_path / name).write_text("left")
    ScorerSpace(Flow(hidden=4, steps=1, max_epochs=1, device="cpu")).fit(x, checkpoint=tmp_path / "c")
    assert [p.name for p in tmp_path.iterdir()] == ["c.0.notes"]


@pytest.mark.parametrize("folds", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_training_of_every_axis_is_drawn_and_told(
    folds: bool, written: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analysis = read_analysis(written(folds=folds))
    for stage in ("process", "train"):
        run_stage(analysis, stage, progress=False)
    told = draw_how_trained(analysis)["how_trained"]["axes"]
    assert [axis["name"] for axis in told] == ["background", "near"]
    names = ["fold 1", "fold 2", "fold 3"] if folds else ["model"]
    for axis in told:
        assert [model["name"] for model in axis["models"]] == names
        for model in axis["models"]:
            assert (model["epochs"], model["select"]) == (3, "wasserstein_mean")
            assert 1 <= model["best_epoch"] <= 3
    drawn = {p.name for p in (tmp_path / "out" / "figures").iterdir()}
    assert drawn == {
        f"{name}.{kind}" for name in ("training_0", "training_1", "training_negatives") for kind in ("pdf", "png")
    }
    json.dumps(told, allow_nan=False)


@pytest.mark.slow
@pytest.mark.parametrize("folds", [False, True])
def test_images_and_a_normalised_autoencoder_go_to_a_p_value_and_a_page(
    folds: bool, written: Callable[..., Path], tmp_path: Path
) -> None:
    analysis = read_analysis(written(folds=folds))
    result = run(analysis, progress=False)
    assert 0 < result["best"]["p_global"] <= 1
    assert load_space(tmp_path / "out" / "models" / "fold_0").axis_names == ("background", "near")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<h2>Training</h2>" in page
    assert "Wasserstein distance is near 1" in page
    assert page.count("diverged and were taken back") == sum(
        any(model["setbacks"] for model in axis["models"]) for axis in result["how_trained"]["axes"]
    )
    for axis in result["how_trained"]["axes"]:
        for model in axis["models"]:
            for sign in model["signs"]:
                assert sign in page
    again = tmp_path / "renamed.parquet"
    write_table(again, Table(events(300, 77), {}))
    assert search_files(analysis, [str(again)], progress=False).spectra[0, :].values().sum() > 0


@pytest.mark.parametrize(
    "scorer", [TINY | {"architecture": "conv"}, {"name": "ConvVae", "blocks": 3}], ids=["NAE", "ConvVae"]
)
def test_images_of_tables_that_cannot_be_convolved_are_said_before_the_training(
    scorer: dict[str, Any],
    written: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = written(representation="images", scorer=scorer)
    monkeypatch.setattr("hunch.models.scorer_space.ScorerSpace.fit", lambda *_, **__: pytest.fail("trained"))
    for name in ("data", "background", "prior"):
        write_table(
            tmp_path / f"{name}.parquet", Table(events(300, len(name), side=6 if "blocks" in scorer else 5), {})
        )
    assert called(monkeypatch, "run", str(path)) == 2
    (error,) = [text for text in capfd.readouterr().err.splitlines() if text.startswith("hunch: ")]
    told = error.replace(f"{tmp_path}/", "")
    assert "sample background (background.parquet): column 'image_1': " in told
    assert "images of" in told


PRIORS: dict[str, Any] = {"name": "ConvVae", "blocks": 1, "hidden": 4, "latent": 2, "max_epochs": 1, "metric": "kl"}


def test_the_axes_of_the_priors_have_a_method_of_their_own(written: Callable[..., Path], tmp_path: Path) -> None:
    analysis = read_analysis(written({"metric": "autoencoder"}, prior_scorer=PRIORS))
    result = run(analysis, progress=False)
    assert 0 < result["best"]["p_global"] <= 1
    space = load_space(tmp_path / "out" / "models" / "fold_0", metric=analysis.axis_metric)
    assert isinstance(space, ScorerSpace)
    assert [type(scorer).__name__ for scorer in space.scorers.values()] == ["NAE", "ConvVae"]
    assert [space.axis_metric(axis) for axis in space.axis_names] == ["autoencoder", "kl"]
    again = tmp_path / "renamed.parquet"
    write_table(again, Table(events(300, 77), {}))
    assert search_files(analysis, [str(again)], progress=False).spectra[0, :].values().sum() > 0
    # another method, another training
    models = weights(tmp_path / "out" / "models")
    run_stage(read_analysis(written({"metric": "autoencoder"})), "train", progress=False)
    assert weights(tmp_path / "out" / "models").keys() == models.keys()
    assert weights(tmp_path / "out" / "models") != models


@pytest.mark.parametrize(
    ("prior_scorer", "more", "said"),
    [
        ("ConvVea", {}, "prior_scorer: 'ConvVea' is not known; did you mean 'ConvVae'?"),
        ("Flow", {}, "prior_scorer: Flow takes rows, and representation images gives images; allowed: Combined, ConvVae, EventToEnsemble, NAE"),
        ({"name": "ConvVae", "lattent": 3}, {}, "unknown key 'prior_scorer.lattent'; did you mean 'latent'?"),
        ({"name": "ConvVae", "latent": 0}, {}, "key 'prior_scorer.latent': "),
        ({"name": "ConvVae", "exposure": "kl"}, {}, "key 'prior_scorer.exposure': is the analysis' own key scorer.exposure"),
        ({"name": "ConvVae", "metric": "energy"}, {}, "key 'prior_scorer.metric': 'energy' is not known; allowed:"),
        ("ConvVae", {"samples": {"data": ["data.parquet"]}}, "prior_scorer: is of the axes of samples.priors, and there are none"),
        ("Flow", {"representation": "features", "scorer": "Quak"}, "scorer: Quak spans a space by itself, and has no axes of another method"),
        ("Quak", {"representation": "features", "scorer": "Flow"}, "prior_scorer: Quak spans a space by itself"),
    ],
)  # fmt: skip
def test_what_a_method_of_the_priors_cannot_be(
    prior_scorer: Any, more: dict[str, Any], said: str, written: Callable[..., Path]
) -> None:
    with pytest.raises(ConfigError) as error:
        read_analysis(written(prior_scorer=prior_scorer, **more))
    assert said in str(error.value)
