"""Searches with outlier exposure: what is trained beside, what the report compares, and exposure samples that cannot be."""

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
from hunch.config import read_analysis
from hunch.models import ConstituentVae, load_space
from hunch.table import Table, read_table, table_info, write_table
from hunch.workflow import run, run_stage, search_files, validate_analysis

SLOTS = 4
Columns = dict[str, np.ndarray]


@pytest.fixture(autouse=True)
def few_spreads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the scale of an axis from few jets: the energy mover's distances of 500 take a second."""
    monkeypatch.setattr("hunch.models.scorer_space.SPREAD_ROWS", 20)


def jets(rng: np.random.Generator, n: int, *, slots: int = SLOTS) -> np.ndarray:
    """Return constituents (n, slots, 4) of E, px, py, pz along x, narrow jets and broad ones."""
    pt = np.sort(rng.exponential(200, (n, slots)), axis=1)[:, ::-1] + 5
    width = rng.uniform(0.05, 0.4, (n, 1))
    y, z = (pt * width * rng.normal(size=(n, slots)) for _ in range(2))
    return np.stack([np.sqrt(pt**2 + y**2 + z**2), pt, y, z], axis=2).astype(np.float32)


def events(n: int, seed: int, *, slots: int = SLOTS) -> Columns:
    """Return the columns of events of two jets as a table of one's own holds them."""
    rng = np.random.default_rng(seed)
    made = {f"constituents_{i}": jets(rng, n, slots=slots) for i in (1, 2)}
    made["mJ_1"] = 10 + 100 * rng.random(n)
    return {"mjj": np.minimum(2000 * (1 - rng.random(n)) ** (-1 / 6), 8000.0), **made}


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes tables of events and an analysis of them: sample -> its columns, further keys of the analysis."""

    def write(more: dict[str, Any] | None = None, /, *, near: bool = False, **given: Columns) -> Path:
        tables = {"data": events(700, 1), "background": events(1600, 2), "exposure": events(300, 3)}
        tables |= {"prior": events(300, 4)} if near else {}
        for name, columns in (tables | given).items():
            write_table(tmp_path / f"{name}.parquet", Table(columns, {}))
        names = [name for name in (tables | given) if name != "prior"]
        samples: dict[str, Any] = {name: [f"{name}.parquet"] for name in names}
        samples |= {"priors": {"near": ["prior.parquet"]}} if near or "prior" in given else {}
        content: dict[str, Any] = {
            "samples": samples,
            "output": "out",
            "representation": {"name": "constituents", "coordinates": "four_vectors", "max_constituents": SLOTS},
            "scorer": {"name": "ConstituentVae", "exposure": "kl", "metric": "kl", "latent": 2, "max_epochs": 2},
            "regions": {"number": 1, "fraction": 0.3},
            "fit_range": [2000, 6000],
            "background_function": "dijet",
            "pseudo_experiments": 20,
            "limits": {"points": 1},
            "executor": "iterative",
        }
        for key, value in (more or {}).items():
            content[key] = content[key] | value if isinstance(value, dict) and key in content else value
        (tmp_path / "analysis.yaml").write_text(yaml.safe_dump(content))
        return tmp_path / "analysis.yaml"

    return write


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hunch", "--quiet", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def emptied(columns: Columns, rows: slice, value: float = 0.0) -> Columns:
    """Return the events with nothing but a value in the second jet of some of them."""
    changed = columns["constituents_2"].copy()
    changed[rows] = value
    return {**columns, "constituents_2": changed}


def numbered(columns: Columns, first: int) -> Columns:
    """Return the events with numbers of collisions from `first` on."""
    n = len(columns["mjj"])
    ones = {"run": np.full(n, 7), "luminosityBlock": np.ones(n, dtype=np.int64)}
    return {**ones, "event": np.arange(n) + first, **columns}


def one_jet(columns: Columns) -> Columns:
    """Return the events with the first of their jets alone."""
    return {name: columns[name] for name in ("constituents_1", "mJ_1")}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "the background's events": (
        {"exposure": {k: v[:200] for k, v in events(1600, 2).items()}},
        "sample background (background.parquet) and sample exposure (exposure.parquet) share events (200 by content)",
    ),
    "events of the data, by number": (
        {"data": numbered(events(700, 1), 0), "exposure": numbered(events(300, 3), 600)},
        "sample data (data.parquet) and sample exposure (exposure.parquet) share events (100 by run, luminosityBlock and event)",
    ),
    "events of the validation sample": (
        {"validation": events(250, 8), "exposure": {k: v[:150] for k, v in events(250, 8).items()}},
        "sample validation (validation.parquet) and sample exposure (exposure.parquet) share events (150 by content)",
    ),
    "events of a prior": (
        {"prior": events(300, 3)},
        "sample exposure (exposure.parquet) and sample prior.near (prior.parquet) share events (300 by content)",
    ),
    "jets of another shape": (
        {"exposure": events(300, 3, slots=6)},
        "column 'constituents_1' holds (4, 4) and sample exposure (exposure.parquet): column 'constituents_1' holds (6, 4) a row; one shape",
    ),
    "a prior of another shape": (
        {"prior": events(300, 4, slots=6)},
        "sample prior.near (prior.parquet): column 'constituents_1' holds (6, 4) a row",
    ),
    "few events": (
        {"exposure": events(40, 3)},
        "sample exposure: 40 events are too few to train ConstituentVae on; 50 are needed",
    ),
    "no constituents": (
        {"exposure": emptied(events(300, 3), slice(None))},
        "sample exposure: no event left of 300",
    ),
    "no numbers": (
        {"exposure": emptied(events(300, 3), slice(None), np.nan)},
        "sample exposure: no event left of 300",
    ),
    "no constituents in all but a few": (
        {"exposure": emptied(events(300, 3), slice(40, None))},
        "sample exposure: 40 events are too few",
    ),
    "one jet an event": (
        {"exposure": one_jet(events(300, 3))},
        "samples.exposure_jets: 1 takes exposure of one jet an event",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_exposure_that_cannot_be_is_said_before_anything_is_trained(
    case: str,
    written: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ConstituentVae, "fit", lambda *_, **__: pytest.fail("trained"))
    samples, told = BAD[case]
    assert called(monkeypatch, "run", str(written(**samples))) == 2
    error = [line for line in capfd.readouterr().err.splitlines() if line.startswith("hunch: ")]
    assert len(error) == 1
    assert told in error[0].replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (0.0, "a jet without constituents"),
        (np.nan, "an input or the observable is no finite number"),
        (-1.0, "a constituent of negative pT or E"),
    ],
)
def test_events_with_bad_jets_are_left_out_and_counted(value: float, why: str, written: Callable[..., Path]) -> None:
    path = written(exposure=emptied(events(300, 3), slice(10, 17), value))
    run_stage(read_analysis(path), "process", progress=False)
    info = table_info(path.parent / "out" / "tables" / "exposure.parquet")
    assert info.metadata["cutflow"][why] == 7
    assert info.rows == 293


def test_a_model_without_exposure_is_trained_beside_on_the_same_events(written: Callable[..., Path]) -> None:
    path = written(near=True)
    analysis = read_analysis(path)
    for stage in ("process", "train", "score"):
        run_stage(analysis, stage, progress=False)
    models = path.parent / "out" / "models"
    assert sorted(p.name for p in models.iterdir()) == ["fold_0", "plain_0"]
    exposed, plain = (load_space(models / name, metric="kl") for name in ("fold_0", "plain_0"))
    assert exposed.axis_names == plain.axis_names == ("background", "near")
    assert set(plain.trained_on.tolist()) < set(exposed.trained_on.tolist())
    scored = read_table(path.parent / "out" / "scores" / "calibration.parquet")
    assert not np.array_equal(scored["loss_background"], scored["plain_background"])
    assert len(np.unique(scored["mJ_1"])) > 100
    assert "plain_background" not in table_info(path.parent / "out" / "scores" / "data.parquet").columns


@pytest.mark.slow
def test_the_model_beside_is_that_of_a_search_without_exposure(written: Callable[..., Path]) -> None:
    path = written(near=True)
    for stage in ("process", "train"):
        run_stage(read_analysis(path), stage, progress=False)
    plain = load_space(path.parent / "out" / "models" / "plain_0", metric="kl")
    content = yaml.safe_load(path.read_text())
    del content["samples"]["exposure"], content["scorer"]["exposure"]
    (path.parent / "plain.yaml").write_text(yaml.safe_dump({**content, "output": "plain"}))
    whole = read_analysis(path.parent / "plain.yaml")
    for stage in ("process", "train"):
        run_stage(whole, stage, progress=False)
    assert sorted(p.name for p in (path.parent / "plain" / "models").iterdir()) == ["fold_0"]
    given = events(50, 9)
    inputs = np.stack([given["constituents_1"], given["constituents_2"]], axis=1)
    alone = load_space(path.parent / "plain" / "models" / "fold_0", metric="kl")
    np.testing.assert_array_equal(plain.losses(inputs), alone.losses(inputs))


def test_the_comparison_can_be_left_out(written: Callable[..., Path]) -> None:
    analysis = read_analysis(written({"without_exposure": False}))
    for stage in ("process", "train", "score"):
        run_stage(analysis, stage, progress=False)
    assert [p.name for p in (Path(analysis.output) / "models").iterdir()] == ["fold_0"]
    assert "plain_background" not in table_info(Path(analysis.output) / "scores" / "calibration.parquet").columns


def test_exposure_of_one_jet_an_event_serves_a_search_in_events_of_two(written: Callable[..., Path]) -> None:
    path = written(exposure=one_jet(events(300, 3)))
    content = yaml.safe_load(path.read_text())
    content["samples"]["exposure_jets"] = 1
    path.write_text(yaml.safe_dump(content))
    analysis = read_analysis(path)
    for stage in ("process", "train"):
        run_stage(analysis, stage, progress=False)
    exposed = load_space(path.parent / "out" / "models" / "fold_0")
    (training,) = (scorer.training_ for scorer in exposed.scorers.values())
    assert training["exposed_rows"] == 300  # not the 600 jets of 300 events of two


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("folds", [False, True])
def test_an_exposed_search_goes_to_a_report_that_shows_before_and_after(
    folds: bool, written: Callable[..., Path], tmp_path: Path
) -> None:
    path = written({"folds": 3}, near=True, data=events(2400, 1))
    if folds:
        content = yaml.safe_load(path.read_text())
        del content["samples"]["background"]
        path.write_text(yaml.safe_dump(content))
    analysis = read_analysis(path)
    result = run(analysis, progress=False)
    assert 0 < result["best"]["p_global"] <= 1
    models = sorted(p.name for p in (tmp_path / "out" / "models").iterdir())
    assert models == [f"{kind}_{i}" for kind in ("fold", "plain") for i in range(3 if folds else 1)]
    hunted, jet = result["exposure"]["sculpting"]
    assert (hunted["observable"]["name"], jet["observable"]["name"]) == ("mjj", "mJ_1")
    assert hunted["after"][0]["n_events"] == result["sculpting"][0]["n_events"]
    assert hunted["after"][0]["jsd"] == pytest.approx(result["sculpting"][0]["jsd"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Sculpting without exposure and with it" in page
    assert all(0.2 <= training["exposure_effective"] <= 1 for training in result["training"])
    assert f"exposed to {result['training'][0]['exposed_rows']} events" in page
    for name in ("exposed_0", "exposed_half_0", "exposed_1", "exposed_half_1"):
        assert (tmp_path / "out" / "figures" / f"{name}.png").is_file()
    again = tmp_path / "renamed.parquet"
    write_table(again, Table(events(500, 77), {}))
    searched = search_files(analysis, [str(again)], progress=False)
    assert searched.spectra[0, :].values().sum() > 0
    if not folds:
        checks = validate_analysis(analysis, local=50, outer=20, inner=20, injected=20, workers=1, progress=False)
        assert checks["checks"]
        assert "Sculpting without exposure" in (tmp_path / "out" / "report.html").read_text()
    stored = json.loads((tmp_path / "out" / "result.json").read_text())
    assert stored["exposure"]["sculpting"][1]["before_half"]["inverse"] > 0
