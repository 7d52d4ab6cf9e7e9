"""Every method on every representation that it takes goes to a p-value through both doors: `hunch run`, then `hunch search`.

The pairs come from the dicts: a new representation or method enters by being in its dict. Searched are the same events under
other file names and merged into one file, with a background sample and with k folds; the counts in every region are the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hunch.config import read_analysis
from hunch.errors import HunchError
from hunch.models import ScorerError, load_scorer, load_space
from hunch.models.density.densities import ARCHITECTURES
from hunch.models.export.onnx_export import export_onnx
from hunch.models.export.onnx_scorer import OnnxScorer
from hunch.models.scorer import SCORERS, scorer_class, scorer_fields
from hunch.models.train import loop
from hunch.processors.representations import REPRESENTATIONS, read_inputs
from hunch.table import read_table
from hunch.workflow import run, run_stage, search_files, validate_analysis

pytestmark = [pytest.mark.usefixtures("small_family", "fast_hunt"), pytest.mark.timeout(600)]

EVENTS, PRIORS = 1500, 300
QUICK: dict[str, Any] = {
    "max_epochs": 1,
    "nae_epochs": 1,
    "latent_steps": 1,
    "input_steps": 1,
    "replay": 64,
    "hidden": 8,
    "steps": 2,
    "blocks": 1,
    "channels": 2,
    "latent": 2,
    "batch_size": 64,
    "sample": 40,
    "k": 2,
    "n_estimators": 10,
    "components": 2,
    "clusters": 2,
    "outputs": 4,
    "max_rows": 500,
    "encoder": {
        "name": "JetCLR",
        "width": 8,
        "heads": 2,
        "layers": 1,
        "feedforward": 8,
        "dims": 4,
        "projection": 4,
        "max_epochs": 1,
        "batch_size": 64,
    },
    "scorer": {"name": "Quak", "max_epochs": 1, "hidden": 8, "steps": 2, "batch_size": 64},
}
"""Of every method the fields that make it small."""
NO_GRAPH = (
    "Autoencoder",
    "Combined",
    "ConstituentVae",
    "DeepSvdd",
    "Encoded",
    "EventAutoencoder",
    "EventToEnsemble",
    "EventVae",
    "GaussianMixture",
    "IsolationForest",
    "KMeans",
    "KernelDensity",
)
"""Methods that cannot be exported as ONNX."""
SMALL: dict[str, dict[str, Any]] = {"images": {"pixels": 8}, "constituents": {"max_constituents": 12}}
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "Quak": [{"architecture": name} for name in ARCHITECTURES],
    "ConvVae": [
        {},
        {"reconstruction": "wasserstein"},
        {"exposure": "kl", "exposure_match": "none", "metric": "kl"},
    ],
    "Vae": [{}, {"exposure": "mse", "exposure_match": "none", "metric": "reconstruction"}],
    "ConstituentVae": [{}, {"exposure": "kl", "exposure_match": "none", "metric": "kl"}],
}
"""Options of a method that are each a search of their own."""


COMBINED = {
    kind: [
        {"name": name, **{k: v for k, v in QUICK.items() if k in scorer_fields(scorer_class(name))}} for name in names
    ]
    for kind, names in {
        "rows": ("Flow", "Vae"),
        "images": ("ConvVae", "EventToEnsemble"),
        "sets": ("ConstituentVae", "EventVae"),
    }.items()
}
"""What is combined, by the kind of events."""


def pairs() -> list[tuple[str, str, dict[str, Any]]]:
    """Return representation, method and options of every search that can be."""
    found = []
    for representation, cls in REPRESENTATIONS.items():
        if representation == "objects":  # whole events, which are counted: tests/workflow/test_objects.py
            continue
        for scorer in SCORERS:
            if cls.kind in scorer_class(scorer).takes:
                own = [{"scorers": COMBINED[cls.kind]}] if scorer == "Combined" else VARIANTS.get(scorer, [{}])
                found += [(representation, scorer, options) for options in own]
    return found


FAST = {("features", "Vae"), ("images", "EventToEnsemble")}


ONE_WAY = {
    *("Autoencoder", "DeepSvdd", "GaussianMixture", "IsolationForest", "KMeans", "KernelDensity"),
    *("Combined", "EventAutoencoder", "EventVae"),
}
"""Methods that share all code of a search with others: with a background sample, or with folds, and not both."""


def ways(representation: str, scorer: str) -> tuple[bool, ...]:
    """Return whether a pair is searched with a background sample (False), with folds (True), or each way."""
    if scorer not in ONE_WAY:
        return False, True
    return (representation in {"table", "images"} or scorer == "EventVae",)


def marked() -> list[Any]:
    return [
        pytest.param(
            *pair,
            folds,
            id="-".join(
                (
                    *pair[:2],
                    *(str(v) for v in pair[2].values() if not isinstance(v, list)),
                    "folds" if folds else "background",
                )
            ),
            marks=[] if pair[:2] in FAST and not pair[2] and folds == (pair[1] == "Vae") else [pytest.mark.slow],
        )
        for pair in pairs()
        for folds in ways(*pair[:2])
    ]


def quick(scorer: str) -> dict[str, Any]:
    return {name: value for name, value in QUICK.items() if name in scorer_fields(scorer_class(scorer))}


@pytest.fixture
def written(tmp_path: Path, make_events: Callable[..., Path]) -> Callable[..., Path]:
    """Return a function that writes event files (tables where the representation is one of tables) and an analysis of them."""

    def write(representation: str, scorer: str, options: dict[str, Any], *, folds: bool, **more: Any) -> Path:
        files = {
            "a.root": make_events("a.root", EVENTS // 2, 1),
            "b.root": make_events("b.root", EVENTS // 2, 2, mass=None),
            "prior.root": make_events("prior.root", PRIORS, 4, prongs=2, mass=3000.0),
        }
        samples: dict[str, Any] = {"data": ["a.root", "b.root"], "priors": {"near": ["prior.root"]}}
        if not folds:
            files["qcd.root"] = make_events("qcd.root", EVENTS, 3)
            samples["background"] = ["qcd.root"]
        if options.get("exposure"):
            files["exposed.root"] = make_events("exposed.root", EVENTS, 5, prongs=2)
            samples["exposure"] = ["exposed.root"]
        content: dict[str, Any] = {
            "samples": samples,
            "output": "out",
            "representation": {"name": representation, **SMALL.get(representation, {})},
            "scorer": {"name": scorer, **quick(scorer), **options},
            "folds": 3,
            "fit_range": [2100, 6000],
            # the mass peak of so few prior events may come out wider than a Gaussian process allows
            "background_function": "dijet",
            "pseudo_experiments": 20,
            "limits": {"points": 1},
            "executor": "iterative",
            **more,
        }
        if representation == "table":
            content["features"] = ["mJ_1", "mJ_2", "tau21_1"]
            content["representation"] = "features"
            content |= as_tables(tmp_path, content, files)
        (tmp_path / "analysis.yaml").write_text(yaml.safe_dump(content))
        return tmp_path / "analysis.yaml"

    return write


def as_tables(folder: Path, content: dict[str, Any], files: dict[str, Path]) -> dict[str, Any]:
    """Process the event files into CSV tables of their identity, mass and features; return the keys that name them."""
    from hunch.processors import Running, run_table
    from hunch.processors.representations import representation_of

    running = Running(executor="iterative", progress=False)
    for name, path in files.items():
        table = run_table(path, representation_of("features"), running).table
        columns = [*("run", "luminosityBlock", "event"), "mjj", *content["features"]]
        table[columns].to_pandas().to_csv(folder / name.replace(".root", ".csv"), index=False)
    text = json.dumps(content["samples"]).replace(".root", ".csv")
    return {"samples": json.loads(text), "representation": "table"}


@pytest.mark.parametrize(("representation", "scorer", "options", "folds"), marked())
def test_a_pair_goes_to_a_p_value_through_both_doors(
    representation: str,
    scorer: str,
    options: dict[str, Any],
    folds: bool,
    written: Callable[..., Path],
    merged: Callable[..., Path],
    tmp_path: Path,
) -> None:
    analysis = read_analysis(written(representation, scorer, options, folds=folds))
    result = run(analysis, progress=False)
    assert 0 < result["best"]["p_global"] <= 1
    counts = [region["counts"] for region in result["regions"]["regions"]]
    assert sum(map(sum, counts)) > 0
    check_training(analysis)
    assert ("exposure" in result) == bool(options.get("exposure"))
    if representation == "table":
        rows = "".join((tmp_path / f"{n}.csv").read_text().partition("\n")[2] for n in ("b", "a"))
        head = (tmp_path / "a.csv").read_text().partition("\n")[0]
        again = tmp_path / "renamed.csv"
        again.write_text(f"{head}\n{rows}")
    else:
        again = merged("renamed.root", tmp_path / "b.root", tmp_path / "a.root")
    found = search_files(analysis, [str(again)], progress=False)
    np.testing.assert_array_equal([found.spectra[r, :].values() for r in range(len(counts))], counts)
    check_export(analysis, tmp_path / "model.onnx")


def check_export(analysis: Any, path: Path) -> None:
    """Check that the first model gives the same losses as ONNX, or that what ONNX cannot hold is refused by name."""
    from hunch.workflow.layout import model_paths, table_path

    space = load_space(model_paths(analysis)[0])
    chosen = [value for value in analysis.scorer_options.values() if isinstance(value, str)]
    if analysis.scorer_name in NO_GRAPH or {"nsf", "wasserstein"} & set(chosen):
        refusal = rf"optimal transport|('nsf'|{'|'.join(NO_GRAPH)}) cannot be exported as ONNX"
        with pytest.raises(ScorerError, match=refusal):
            export_onnx(space, path)
        assert not path.exists()
        return
    scorer = OnnxScorer(export_onnx(space, path))
    x = read_inputs(read_table(table_path(analysis, "data")), analysis.represented)[:50]
    np.testing.assert_allclose(scorer.score(x), space.score(x), rtol=1e-8, atol=1e-8)


def check_training(analysis: Any) -> None:
    """Check that no hunted event is among those that the model which hunts in it was trained on, by what was trained on."""
    from hunch.folds import already_trained_on, identity_hash, same_event_hash
    from hunch.workflow.layout import model_paths, score_path, table_path

    scored = read_table(score_path(analysis, "data"))
    table = read_table(table_path(analysis, "data"))
    events = same_event_hash(table, analysis.represented.content)
    spaces = [load_scorer(folder) for folder in model_paths(analysis)]
    seen = np.zeros(len(events), dtype=bool)
    for i, space in enumerate(spaces):
        assert len(space.trained_on) > 100
        rows = scored["fold"] == i
        assert rows.any()
        assert not already_trained_on(events[rows], space.trained_on).any()
        seen |= already_trained_on(events, space.trained_on)
    # with folds of the data every event trains some model; with a background sample none does
    assert seen.all() == (analysis.samples.background is None)
    calibration = read_table(score_path(analysis, "calibration"))
    source = read_table(table_path(analysis, "data" if analysis.samples.background is None else "background"))
    events = same_event_hash(source, analysis.represented.content)
    row_of = {number: row for row, number in enumerate(identity_hash(source).tolist())}
    assert len(row_of) == len(source)
    rows = np.array([row_of[number] for number in identity_hash(calibration).tolist()])
    for i, space in enumerate(spaces):
        own = calibration["fold"] == i
        assert own.any()
        assert not already_trained_on(events[rows[own]], space.trained_on).any()


@pytest.mark.slow
@pytest.mark.parametrize("metric", [m for m in scorer_class("ConvVae").metrics if m != "loss"])
def test_metrics_of_one_method_share_its_trained_model(
    metric: str, written: Callable[..., Path], tmp_path: Path
) -> None:
    path = written("images", "ConvVae", {}, folds=False)
    run(read_analysis(path), progress=False)
    before = {p: p.read_bytes() for p in (tmp_path / "out" / "models").rglob("*") if p.is_file()}
    other = read_analysis(path, [f"scorer.metric={metric}"])
    assert run_stage(other, "train", progress=False) is False
    result = run(other, progress=False)
    assert 0 < result["best"]["p_global"] <= 1
    assert {p: p.read_bytes() for p in (tmp_path / "out" / "models").rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("representation", "scorer", "folds"),
    [
        pytest.param(r, s, folds, marks=[] if (r, s, folds) == ("images", "ConvVae", False) else [pytest.mark.slow])
        for r, s in dict.fromkeys((r, s) for r, s, _ in pairs())
        for folds in ways(r, s)
        if "max_epochs" in scorer_fields(scorer_class(s)) and r != "table"
    ],
)
def test_a_run_killed_in_training_ends_as_one_that_was_not(
    representation: str,
    scorer: str,
    folds: bool,
    written: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = written(representation, scorer, {"max_epochs": 3}, folds=folds)
    whole = read_analysis(path)
    for stage in ("process", "train"):
        run_stage(whole, stage, progress=False)
    expected = weights(tmp_path / "out" / "models")
    killed = read_analysis(path, ["output=killed"])
    run_stage(killed, "process", progress=False)
    original, calls = loop.write_checkpoint, 0

    def stop_after_two(*arguments: Any, **options: Any) -> None:
        nonlocal calls
        original(*arguments, **options)
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "write_checkpoint", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        run_stage(killed, "train", progress=False)
    assert list((tmp_path / "killed" / "models").glob("*checkpoint*"))
    monkeypatch.setattr(loop, "write_checkpoint", original)
    run_stage(killed, "train", progress=False)
    found = weights(tmp_path / "killed" / "models")
    assert found.keys() == expected.keys()
    for name, data in expected.items():
        assert found[name] == data, name
    assert not list((tmp_path / "killed" / "models").glob("*checkpoint*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("representation", "scorer"),
    [(r, s) for r, s in dict.fromkeys((r, s) for r, s, _ in pairs()) if not scorer_class(s).trains and r != "table"],
)
def test_a_method_without_training_gives_the_same_bits_again(
    representation: str, scorer: str, written: Callable[..., Path], tmp_path: Path
) -> None:
    path = written(representation, scorer, {}, folds=False)
    found = []
    for output in ("one", "two"):
        analysis = read_analysis(path, [f"output={output}"])
        for stage in ("process", "train"):
            run_stage(analysis, stage, progress=False)
        found.append(weights(tmp_path / output / "models"))
    assert found[0] == found[1]


def test_without_priors_the_background_loss_is_searched(written: Callable[..., Path]) -> None:
    path = written(
        "images", "EventToEnsemble", {}, folds=False, samples={"data": ["a.root"], "background": ["qcd.root"]}
    )
    result = run(read_analysis(path), progress=False)
    assert result["regions"]["axes"] == ["background"]
    assert 0 < result["best"]["p_global"] <= 1


@pytest.mark.parametrize(
    ("count", "method"),
    [
        ({"efficiency": 0.1}, {"name": "EventToEnsemble"}),
        ({"efficiency": 0.1, "expectation": "abcd"}, {"name": "EventToEnsemble", "per_jet": "concat"}),
    ],
    ids=["sample", "abcd"],
)
def test_events_are_counted_where_there_is_no_mass(
    count: dict[str, Any], method: dict[str, Any], written: Callable[..., Path], tmp_path: Path
) -> None:
    path = written("images", "EventToEnsemble", {}, folds=False)
    content = yaml.safe_load(path.read_text())
    for key in ("fit_range", "background_function", "pseudo_experiments", "limits"):
        del content[key]
    content |= {"hunt": "count", "count": count, "scorer": {**content["scorer"], **method}}
    path.write_text(yaml.safe_dump(content))
    result = run(read_analysis(path), progress=False)
    found = result["counting"]
    assert "mjj is not positive" not in result["cutflow"]
    assert sum(n for name, n in result["cutflow"].items() if name != "read") == result["cutflow"]["read"] == EVENTS
    # data and background are alike: what is expected is what is seen, within five errors
    error = np.hypot(np.sqrt(found["result"]["expected"]), found["result"]["statistical_error"])
    assert abs(found["result"]["observed"] - found["result"]["expected"]) < 5 * error
    assert 0 < found["result"]["p_value"] < 1
    limits = json.loads((tmp_path / "out" / "limits.json").read_text())
    assert set(limits["signals"]) <= {"near"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"{found['result']['observed']} events" in page
    assert found["limits"]["confidence"] == 0.95
    other = run(read_analysis(path, ["limits.confidence=0.8"]), progress=False)
    assert other["counting"]["limits"]["confidence"] == 0.8
    assert json.loads((tmp_path / "out" / "result.json").read_text())["counting"] == other["counting"]
    with pytest.raises(HunchError, match="hunt: count has no regions"):
        search_files(read_analysis(path), [str(tmp_path / "a.root")], progress=False)
    with pytest.raises(HunchError, match="hunt: count has no spectra"):
        validate_analysis(read_analysis(path), progress=False)
    # a hunt for a bump afterwards leaves nothing of the count
    content = {k: v for k, v in content.items() if k not in {"hunt", "count"}} | {"background_function": "dijet"}
    content |= {"pseudo_experiments": 20, "limits": {"points": 1}}
    content["scorer"].pop("per_jet", None)
    path.write_text(yaml.safe_dump(content))
    assert "counting" not in run(read_analysis(path), progress=False)


def weights(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("weights.safetensors")}
