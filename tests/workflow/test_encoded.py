"""Searches in the representations of an encoder: configuration, one encoder a fold, kills, encoders that come trained, and what the page says of the training."""

from __future__ import annotations

import functools
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
from hunch.errors import InputError
from hunch.folds import already_trained_on, same_event_hash
from hunch.models import Encoded, JetCLR, ScorerError, load_encoder, load_scorer, load_space
from hunch.models.contrastive import clr as clr_module
from hunch.models.train import loop
from hunch.models.train.loop import TrainingSettings
from hunch.table import Table, read_table, write_table
from hunch.workflow import run, run_stage, search_files
from hunch.workflow.layout import model_paths, score_path, table_path
from hunch.workflow.trainings import ENCODER, draw_how_trained

pytestmark = pytest.mark.usefixtures("fast_hunt")

SLOTS = 6
ENCODED: dict[str, Any] = {
    "name": "JetCLR",
    "width": 8,
    "heads": 2,
    "layers": 1,
    "feedforward": 8,
    "dims": 3,
    "projection": 4,
    "max_epochs": 2,
    "batch_size": 64,
}
SCORED: dict[str, Any] = {"name": "Quak", "hidden": 4, "steps": 1, "max_epochs": 2, "batch_size": 64}
Columns = dict[str, np.ndarray]


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take few steps an epoch."""
    monkeypatch.setattr(clr_module, "TrainingSettings", functools.partial(TrainingSettings, min_steps=3, max_steps=3))


def events(n: int, seed: int) -> Columns:
    """Return the columns of events of two jets as constituents, as a table of one's own holds them."""
    rng = np.random.default_rng(seed)
    sets = {}
    for jet in range(2):
        pt = -np.sort(-rng.exponential(40, (n, SLOTS)), axis=1) + 1
        made = np.stack([pt, *rng.normal(0, 0.1, (2, n, SLOTS))], axis=-1)
        made[np.arange(SLOTS) >= rng.integers(2, 6, size=n)[:, None]] = 0.0
        sets[f"constituents_{jet + 1}"] = made.astype(np.float32)
    identity = {"event": np.arange(n) + 100_000 * seed}
    return {"mjj": np.minimum(2000 * (1 - rng.random(n)) ** (-1 / 6), 8000.0), **sets, **identity}


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes tables of events and an analysis of them; its options are further keys of the scorer and of the analysis."""

    def write(own: dict[str, Any] | None = None, *, folds: bool = False, background: int = 10, **more: Any) -> Path:
        for name, n, seed in (("data", 700, 4), ("background", 800, background), ("prior", 140, 5)):
            write_table(tmp_path / f"{name}.parquet", Table(events(n, seed), {}))
        content: dict[str, Any] = {
            "samples": {
                "data": ["data.parquet"],
                **({} if folds else {"background": ["background.parquet"]}),
                "priors": {"near": ["prior.parquet"]},
            },
            "output": "out",
            "representation": {"name": "constituents", "max_constituents": SLOTS},
            "scorer": {"name": "Encoded", "device": "cpu", "encoder": ENCODED, "scorer": SCORED} | (own or {}),
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


def trained(path: Path, *overrides: str) -> Path:
    """Process and train an analysis and return the folder of its models."""
    analysis = read_analysis(path, overrides)
    for stage in ("process", "train"):
        run_stage(analysis, stage, progress=False)
    return Path(analysis.output) / "models"


def weights(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.safetensors")}


BAD: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "no such encoder": (
        {"encoder": "JetCRL"},
        {},
        "encoder",
        "key 'scorer.encoder': no encoder 'JetCRL'; did you mean 'JetCLR'? allowed: JetCLR, AnomalyCLR, EventAutoencoder, EventVae, FourVectors; or the path of a folder, which has a / in it, as ./JetCRL",
    ),
    "no such scorer": (
        {"scorer": {"name": "Vea"}},
        {},
        "scorer",
        "key 'scorer.scorer': no scorer 'Vea'; did you mean 'Vae'? allowed: Vae, ",
    ),
    "a scorer of images": (
        {"scorer": "ConvVae"},
        {},
        "scorer",
        "key 'scorer.scorer': ConvVae takes images, not rows; what takes rows: Autoencoder, Combined, DeepSvdd, Flow, GaussianMixture, IsolationForest, ",
    ),
    "an option of the encoder that there is not": (
        {"encoder": {"name": "JetCLR", "max_epoch": 3}},
        {},
        "max_epoch",
        "unknown key 'scorer.encoder.max_epoch'; did you mean 'max_epochs'?",
    ),
    "an option of the scorer that there is not": (
        {"scorer": {"name": "Quak", "hiden": 3}},
        {},
        "hiden",
        "unknown key 'scorer.scorer.hiden'; did you mean 'hidden'?",
    ),
    "an option of the wrong type": (
        {"encoder": {"name": "JetCLR", "dims": "many"}},
        {},
        "dims",
        "key 'scorer.encoder.dims': input should be a valid integer, found 'many'",
    ),
    "an option that means nothing": (
        {"encoder": {"name": "JetCLR", "temperature": 0.0}},
        {},
        "temperature",
        "key 'scorer.encoder.temperature': temperature is 0.0, allowed: a finite number above 0",
    ),
    "an option of the scorer that means nothing": (
        {"scorer": {"name": "Vae", "latent": 0}},
        {},
        "latent",
        "key 'scorer.scorer.latent': ",
    ),
    "a seed of its own": (
        {"encoder": {"name": "JetCLR", "seed": 3}},
        {},
        "seed",
        "key 'scorer.encoder.seed': is the analysis' own key seed",
    ),
    "a device of its own": (
        {"scorer": {"name": "Flow", "device": "cpu"}},
        {},
        "device",
        "key 'scorer.scorer.device': is the analysis' own key scorer.device",
    ),
    "a family of hypotheses": (
        {"scorer": {"name": "Quak", "family": True}},
        {},
        "family",
        "key 'scorer.scorer.family': family is True, allowed on representations: false",
    ),
    "an exposure": (
        {"scorer": {"name": "Vae", "exposure": "kl"}},
        {},
        "exposure",
        "key 'scorer.scorer.exposure': exposure is 'kl', allowed on representations: none",
    ),
    "a metric that there is not": (
        {"scorer": {"name": "NAE", "metric": "loss"}},
        {},
        "metric",
        "key 'scorer.scorer.metric': axis 'background', NAE: no metric 'loss'",
    ),
    "a metric of a space": (
        {"scorer": {"name": "Quak", "metric": "background"}},
        {},
        "metric",
        "key 'scorer.scorer.metric': metric is 'background', allowed: none: the axes of Quak are its losses",
    ),
    "no name": (
        {"encoder": {"dims": 3}},
        {},
        "encoder",
        "key 'scorer.encoder': is {{'dims': 3}}, allowed: a name, or a mapping",
    ),
    "no name that is text": ({"encoder": 3}, {}, "encoder", "key 'scorer.encoder': input should be a valid string"),
    "options of a path": (
        {"encoder": {"name": "./trained", "dims": 3}},
        {},
        "encoder",
        "key 'scorer.encoder': is a mapping whose name is the path ./trained",
    ),
    "a path that there is not": (
        {"encoder": "./nowhere"},
        {},
        "encoder",
        "key 'scorer.encoder': {folder}/nowhere: no such folder",
    ),
    "per_jet": ({"per_jet": "max"}, {}, "per_jet", "scorer.per_jet: the axes of Encoded are losses of whole events"),
    "jets at rest": (
        {},
        {"representation": {"name": "constituents", "coordinates": "four_vectors", "align": "rest_frame"}},
        "encoder",
        "key 'scorer.encoder': takes pT, eta and phi, which mean nothing at rest",
    ),
    "jets that are not aligned": (
        {},
        {"representation": {"name": "constituents", "coordinates": "four_vectors", "align": "none"}},
        "encoder",
        "key 'scorer.encoder': takes jets along eta = phi = 0, and these are not aligned",
    ),
    "no mass not to follow": (
        {"scorer": {"name": "Quak", "decorrelation": 0.5}},
        {"hunt": "count"},
        "decorrelation",
        "key 'scorer.scorer.decorrelation': needs an observable not to follow; name one: observable",
    ),
    "rows": (
        {},
        {"representation": "features"},
        "scorer",
        "Encoded takes sets, and representation features gives rows",
    ),
    "hypotheses": (
        {},
        {"regions": {"axis": "family"}},
        "axis",
        "regions.axis: family needs a method with hypotheses (Quak); scorer is Encoded",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_encoded_names_its_line(case: str, written: Callable[..., Path], tmp_path: Path) -> None:
    own, more, at, told = BAD[case]
    path = written(own, **more)
    if more.get("hunt") == "count":
        content = yaml.safe_load(path.read_text())
        bump = ("regions", "fit_range", "background_function", "pseudo_experiments", "limits")
        path.write_text(yaml.safe_dump({k: v for k, v in content.items() if k not in bump}, sort_keys=False))
    with pytest.raises(ConfigError) as found:
        read_analysis(path)
    lines = str(found.value).splitlines()
    assert len(lines) == 1
    assert told.format(folder=tmp_path) in lines[0]
    number = int(lines[0].split(": line ")[1].split(":")[0])
    assert path.read_text().splitlines()[number - 1].strip().startswith(f"{at}:")


def test_options_have_the_types_of_their_classes(written: Callable[..., Path]) -> None:
    path = written(
        {"encoder": {"name": "JetCLR", "learning_rate": "1e-3"}, "scorer": {"name": "NAE", "inputs": "rows"}}
    )
    options = read_analysis(path).scorer_options
    assert options["encoder"] == {"name": "JetCLR", "learning_rate": 1e-3}
    assert options["scorer"] == {"name": "NAE", "inputs": "rows"}
    changed = read_analysis(path, ["encoder.max_epochs=7", "scorer.scorer=Flow", "scorer.scorer.hidden=5"])
    assert changed.scorer_options["encoder"] == {"name": "JetCLR", "learning_rate": 1e-3, "max_epochs": 7}
    assert changed.scorer_options["scorer"] == {"name": "Flow", "hidden": 5}
    plain = read_analysis(path, ["scorer=Encoded"])
    assert plain.scorer_options == {}
    assert plain.axis_names == ("background", "near")
    assert plain.region_settings.shape == "difference"


@pytest.mark.parametrize("folds", [False, True])
def test_a_fold_has_one_encoder_which_has_seen_its_training_background_alone(
    folds: bool, written: Callable[..., Path]
) -> None:
    analysis = read_analysis(written(folds=folds))
    for stage in ("process", "train", "score"):
        run_stage(analysis, stage, progress=False)
    table = read_table(table_path(analysis, "data"))
    scored = read_table(score_path(analysis, "data"))
    hashes = same_event_hash(table, analysis.represented.content)
    prior = same_event_hash(read_table(table_path(analysis, "prior.near")), analysis.represented.content)
    for number, folder in enumerate(model_paths(analysis)):
        space = load_space(folder)
        assert isinstance(space, Encoded)
        assert space.axis_names == ("background", "near")
        # no event that the model hunts in, and no prior, has trained the encoder
        encoder = load_encoder(folder)
        assert len(encoder.trained_on) > 100
        assert not already_trained_on(hashes[scored["fold"] == number], encoder.trained_on).any()
        assert already_trained_on(prior, space.trained_on).all()
        assert not already_trained_on(prior, encoder.trained_on).any()
        record = json.loads((folder / "scorer.json").read_text())["training"]["encoder"]
        assert set(record["monitor"]) == {"alignment", "uniformity", "rank"}
        assert record["frozen"] is False
    told = draw_how_trained(analysis)["how_trained"]["axes"]
    assert [axis["name"] for axis in told] == [ENCODER]
    assert [model["name"] for model in told[0]["models"]] == (["fold 1", "fold 2", "fold 3"] if folds else ["model"])


@pytest.mark.slow
@pytest.mark.parametrize("folds", [False, True])
def test_jets_and_an_encoder_go_to_a_p_value_and_a_page(
    folds: bool, written: Callable[..., Path], tmp_path: Path
) -> None:
    analysis = read_analysis(written(folds=folds))
    result = run(analysis, progress=False)
    assert 0 < result["best"]["p_global"] <= 1
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<h2>Training</h2>" in page
    assert "The encoder has learnt from pairs of versions of the same event" in page
    (axis,) = result["how_trained"]["axes"]
    assert axis["name"] == ENCODER
    for model in axis["models"]:
        assert model["epochs"] == 2
        for sign in model["signs"]:
            assert sign in page
    again = tmp_path / "renamed.parquet"
    write_table(again, Table(events(300, 77), {}))
    assert search_files(analysis, [str(again)], progress=False).spectra[0, :].values().sum() > 0


def test_a_collapse_is_named_and_so_are_the_trainings_on_top(
    written: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hunch.models.contrastive.training.POINT_UNIFORMITY", -100.0)
    monkeypatch.setattr("hunch.models.energy.training.COMPARED", 32)
    energies = {
        "name": "NAE",
        "hidden": 4,
        "latent": 2,
        "max_epochs": 1,
        "nae_epochs": 1,
        "batch_size": 64,
        "replay": 64,
    }
    analysis = read_analysis(written({"scorer": energies | {"latent_steps": 1, "input_steps": 1}}))
    for stage in ("process", "train"):
        run_stage(analysis, stage, progress=False)
    told = draw_how_trained(analysis)["how_trained"]["axes"]
    assert [axis["name"] for axis in told] == [ENCODER, "background", "near"]
    (model,) = told[0]["models"]
    assert model["collapse"] == "point"
    (sign,) = model["signs"]
    assert sign.startswith(
        "the representation has collapsed to a point: different events have the same projection (uniformity "
    )
    assert {p.name for p in (tmp_path / "out" / "figures").iterdir()} >= {
        "training_0.png",
        "training_1.png",
        "training_2.png",
    }


@pytest.mark.parametrize("ending", ["fold_0.checkpoint", "fold_0.checkpoint.scorer", "fold_0.checkpoint.scorer.1"])
def test_a_run_killed_in_either_training_ends_as_one_that_was_not(
    ending: str, written: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written({"scorer": {**SCORED, "name": "Flow"}} if ending.endswith("1") else None)
    expected = weights(trained(path))
    original, count, done = loop.write_checkpoint, 0, []

    def stop(place: Any, *arguments: Any) -> None:
        nonlocal count
        original(place, *arguments)
        done.append(Path(place).name)
        count += Path(place).name == ending
        if count == 1 and Path(place).name == ending:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "write_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        trained(path, "output=killed")
    models = tmp_path / "killed" / "models"
    assert (models / "fold_0.checkpoint").is_file()
    count, before = 1, len(done)
    found = weights(trained(path, "output=killed"))
    assert found == expected
    assert [p.name for p in models.iterdir()] == ["fold_0"]
    # what was finished was not trained again: one epoch is left of the one that was killed
    left = done[before:]
    assert left.count("fold_0.checkpoint") == (1 if ending == "fold_0.checkpoint" else 0)
    assert left.count(ending) == 1


def test_an_encoder_that_comes_trained_is_taken_as_it_is(written: Callable[..., Path], tmp_path: Path) -> None:
    before = trained(written(background=20), "output=before") / "fold_0"
    encoder = load_encoder(before)
    # a space and an encoder alone, which knows its events
    encoder.save(tmp_path / "alone")
    for folder in ("./before/models/fold_0", "./alone"):
        analysis = read_analysis(written({"encoder": folder}), [f"output=after_{len(folder)}"])
        assert analysis.scorer["encoder"] == str(tmp_path / folder)
        for stage in ("process", "train"):
            run_stage(analysis, stage, progress=False)
        space = load_scorer(Path(analysis.output) / "models" / "fold_0")
        assert isinstance(space, Encoded)
        assert space.encoder_ is not None
        assert {n: t.tolist() for n, t in space.encoder_.stored()[1].items()} == {
            n: t.tolist() for n, t in encoder.stored()[1].items()
        }
        assert np.isin(encoder.trained_on, space.trained_on).all()
        (axis,) = draw_how_trained(analysis)["how_trained"]["axes"]
        assert axis["models"][0]["frozen"] is True
        # its content counts, its place does not
        assert not run_stage(analysis, "train", progress=False)
    moved = tmp_path / "elsewhere" / "alone"
    moved.parent.mkdir()
    (tmp_path / "alone").rename(moved)
    analysis = read_analysis(written({"encoder": "elsewhere/alone"}), ["output=after_7"])
    assert not run_stage(analysis, "train", progress=False)
    encoder.trained_on = encoder.trained_on[:-1]
    encoder.save(moved)
    assert run_stage(analysis, "train", progress=False)


def test_an_encoder_that_may_have_seen_what_is_hunted_is_refused(written: Callable[..., Path], tmp_path: Path) -> None:
    encoder = load_encoder(trained(written(), "output=before") / "fold_0")
    encoder.save(tmp_path / "seen")
    encoder.trained_on = encoder.trained_on[:0]
    encoder.save(tmp_path / "unknown")
    (tmp_path / "empty").mkdir()
    for folder, told in (
        (
            "unknown",
            "has no record of the events that it had trained on, and none of them may be hunted; allowed: the folder of an encoder",
        ),
        ("empty", "no scorer.json in it; found: nothing"),
    ):
        analysis = read_analysis(written({"encoder": f"./{folder}"}))
        with pytest.raises(InputError, match=rf"key 'scorer.encoder': .*{folder}: {told}"):
            run_stage(analysis, "process", progress=False)
    # the half of the background that had trained it is held out now
    analysis = read_analysis(written({"encoder": "./seen"}, held_out=0.7))
    run_stage(analysis, "process", progress=False)
    with pytest.raises(
        InputError, match=r"key 'scorer.encoder': the model in .*seen had trained on \d+ of \d+ held-out events"
    ):
        run_stage(analysis, "train", progress=False)
    # of the data, which k folds would hunt in
    encoder = load_encoder(trained(written(folds=True), "output=folds") / "fold_1")
    encoder.save(tmp_path / "seen")
    analysis = read_analysis(written({"encoder": "./seen"}, folds=True))
    run_stage(analysis, "process", progress=False)
    with pytest.raises(
        InputError, match=r"key 'scorer.encoder': the model in .*seen had trained on \d+ of 700 events of sample data"
    ):
        run_stage(analysis, "train", progress=False)


def test_an_encoder_of_other_slots_names_the_key(written: Callable[..., Path], tmp_path: Path) -> None:
    sets = events(150, 3)["constituents_1"][:, :4]
    encoder = JetCLR(**{k: v for k, v in ENCODED.items() if k != "name"}, device="cpu").fit(sets)
    encoder.trained_on = np.arange(3, dtype=np.uint64)
    encoder.save(tmp_path / "four")
    analysis = read_analysis(written({"encoder": "./four"}))
    run_stage(analysis, "process", progress=False)
    with pytest.raises(
        ScorerError, match=r"encoder: .*four: was trained on events of 4 slots, x has 6; as many are needed"
    ):
        run_stage(analysis, "train", progress=False)


def test_too_few_events_are_said_before_the_training(written: Callable[..., Path], tmp_path: Path) -> None:
    analysis = read_analysis(written())
    write_table(tmp_path / "prior.parquet", Table(events(80, 5), {}))
    run_stage(analysis, "process", progress=False)
    with pytest.raises(
        InputError, match=r"sample prior.near: 80 events are too few to train Encoded on; 120 are needed"
    ):
        run_stage(analysis, "train", progress=False)


def test_there_is_no_graph_of_it(
    written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = trained(written()) / "fold_0"
    monkeypatch.setattr(sys, "argv", ["hunch", "--quiet", "export", str(folder), "-o", str(tmp_path / "model.onnx")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "Encoded cannot be exported as ONNX; allowed: ConvVae, Flow, NAE, Quak, Vae" in capfd.readouterr().err
    assert not (tmp_path / "model.onnx").exists()
