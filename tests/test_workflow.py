"""The whole job on tables with known truth: the answer, skipping and resuming, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyhf
import pytest

from hunch.analysis import distance_correlation, read_regions
from hunch.config import Analysis, ConfigError, read_analysis
from hunch.errors import HunchError
from hunch.models import load_scorer
from hunch.table import read_table
from hunch.workflow.stages import STAGES, run, run_stage
from hunch.workflow.validate import validate_analysis

pytestmark = pytest.mark.usefixtures("small_family", "fast_hunt")

Frame = Callable[..., pd.DataFrame]

SMALL = "training: {max_epochs: 3, hidden: 16}\npseudo_experiments: 40\n"
POINTS = "limits: {points: 2}\n"


def background(rng: np.random.Generator, n: int) -> pd.DataFrame:
    """Make a falling spectrum with two features that know nothing of the mass."""
    mjj = 2000 * (1 - rng.random(n)) ** (-1 / 6)
    return pd.DataFrame({"mjj": mjj, "a": rng.exponential(60, n), "b": rng.normal(0, 1, n)})[mjj < 9000]


def signal(rng: np.random.Generator, n: int, mass: float, a: float) -> pd.DataFrame:
    """Make a narrow resonance with a feature far from the background's bulk."""
    return pd.DataFrame({"mjj": rng.normal(mass, 0.03 * mass, n), "a": rng.normal(a, 25, n), "b": rng.normal(0, 1, n)})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the whole analysis once, every check with it; tests that change something change a copy."""
    from hunch.models.density import family, quak

    folder = write_tables(tmp_path_factory.mktemp("finished"), np.random.default_rng(20260611))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(family, "BROAD", 40)
        patch.setattr(family, "REFINED", 20)
        patch.setattr(quak, "FAMILY_EVENTS", 4_000)
        run(analysis(folder), progress=False)
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished analysis."""
    return shutil.copytree(finished, tmp_path / "copy")


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Write data with 60 signal events at 3800 GeV, a background and a prior that is near, not equal."""
    return write_tables(tmp_path, rng)


def write_tables(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Write the three tables of an analysis."""
    signal_events = signal(rng, 60, 3800, 400).assign(truth_signal=1)
    data = pd.concat([background(rng, 6000).assign(truth_signal=0), signal_events])
    data.sample(frac=1, random_state=1).to_parquet(tmp_path / "data.parquet", index=False)
    background(rng, 6000).to_csv(tmp_path / "background.csv", index=False)
    signal(rng, 1500, 4500, 370).to_hdf(tmp_path / "prior.h5", key="df")
    return tmp_path


def analysis(folder: Path, text: str = "", *, samples: str | None = None) -> Analysis:
    """Write and read an analysis file."""
    samples = samples or "  data: [data.parquet]\n  background: [background.csv]\n  priors: {near: [prior.h5]}\n"
    path = folder / "analysis.yaml"
    points = "" if "limits:" in text else POINTS
    path.write_text(f"samples:\n{samples}features: [a, b]\noutput: out\n{SMALL}{points}{text}")
    return read_analysis(path)


def test_finds_the_injected_resonance_and_writes_everything(finished: Path) -> None:
    folder = finished
    result = run(analysis(folder), progress=False)
    best = result["best"]
    assert abs(best["mass"] / 3800 - 1) < 0.04
    assert best["z_local"] > 4
    assert best["p_global"] == pytest.approx(1 / 41)
    assert best["p_global_is_bound"] is True
    assert sum(v for k, v in result["cutflow"].items() if k != "read") == result["cutflow"]["read"]
    for name in ("report.html", "regions.json", "spectra.root", "figures/p_value_scan.png", "figures/quak_plane.pdf"):
        assert (folder / "out" / name).stat().st_size > 0
    stored = json.loads((folder / "out" / "result.json").read_text(), parse_constant=pytest.fail)
    for key in ("cutflow", "scan", "best", "regions", "sculpting", "seed", "versions", "configuration"):
        assert key in stored
    assert len(stored["scan"]["masses"]) == len(stored["scan"]["p_combined"])
    assert stored["metrics"]["loss difference"]["auc"] > 0.9


def test_regions_are_fixed_on_events_no_model_trained_on(finished: Path) -> None:
    folder = finished
    held_out = read_table(folder / "out/scores/calibration.parquet")
    everything = read_table(folder / "out/tables/background.parquet")
    trained_on = json.loads((folder / "out/models/fold_0/scorer.json").read_text())["training"]
    assert 0.4 < len(held_out) / len(everything) < 0.6
    assert trained_on["rows"][0] + trained_on["validation_rows"][0] == len(everything) - len(held_out)
    assert set(held_out["mjj"]) < set(everything["mjj"])


def test_a_stage_runs_again_only_when_something_changed(copy: Path) -> None:
    settings = analysis(copy)
    # a moved folder is the same analysis
    assert [run_stage(settings, name, progress=False) for name in STAGES] == [False] * 6
    (copy / "out" / "report.html").unlink()
    assert [run_stage(settings, name, progress=False) for name in STAGES] == [False] * 5 + [True]
    # what a stage wrote and somebody changed is made again
    (copy / "out" / "report.html").write_text("mine")
    assert [run_stage(settings, name, progress=False) for name in STAGES] == [False] * 5 + [True]
    changed = analysis(copy, "combination: simes\n")
    assert [run_stage(changed, name, progress=False) for name in STAGES] == [False, False, False, True, True, True]
    assert run_stage(changed, "report", force=True, progress=False)
    frame = pd.read_csv(copy / "background.csv")
    frame.iloc[:-1].to_csv(copy / "background.csv", index=False)
    with pytest.raises(HunchError, match=r"stage 'process' is older than what it was made of \(background.csv was"):
        run_stage(changed, "hunt", progress=False)
    assert run_stage(changed, "process", progress=False)


@pytest.mark.parametrize(
    ("keys", "trains", "scores"),
    [
        ("regions: {fraction: 0.1}\n", False, False),
        ("regions: {decorrelation: map}\n", False, False),
        ("regions: {alpha: 0.5}\n", False, False),
        ("folds: 7\n", False, False),  # models learn from a background sample: the data have no folds
        ("held_out: 0.4\n", True, True),
        ("seed: 1\n", True, True),
    ],
)
def test_training_depends_on_what_it_reads_and_nothing_else(
    keys: str, trains: bool, scores: bool, finished: Path
) -> None:
    before, after = analysis(finished), analysis(finished, keys)

    def changed(name: str) -> bool:
        return STAGES[name].settings(before) != STAGES[name].settings(after)

    assert (changed("process"), changed("train"), changed("score")) == (False, trains, scores)
    analysis(finished)  # put the file back


def test_more_signals_do_not_train_again(copy: Path, rng: np.random.Generator) -> None:
    signal(rng, 300, 3800, 400).to_csv(copy / "signal.csv", index=False)
    settings = analysis(copy, samples=SIGNALS)
    assert run_stage(settings, "process", progress=False)
    assert run_stage(settings, "train", progress=False) is False


def test_models_of_another_configuration_and_changed_outputs_are_noticed(copy: Path) -> None:
    with pytest.raises(HunchError, match=r"stage 'train' is older than the configuration \(seed was 0 and is 5\)"):
        run_stage(analysis(copy, "seed: 5\n"), "score", progress=False)
    path = copy / "out" / "models" / "fold_0" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(
        HunchError,
        match=r"'train' no longer has what it wrote \(fold_0 was changed\); before 'hunt' run hunch train, hunch score",
    ):
        run_stage(analysis(copy), "hunt", progress=False)


def test_a_hunt_that_fails_leaves_the_answer_of_before(copy: Path) -> None:
    with pytest.raises(HunchError, match="holds none of the"):
        run_stage(analysis(copy, "fit_range: [9500, 9900]\n"), "hunt", progress=False)
    settings = analysis(copy)
    assert run_stage(settings, "hunt", progress=False) is False
    assert run_stage(settings, "report", force=True, progress=False)


def test_a_hunt_that_is_killed_while_it_writes_leaves_no_answer_of_before(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    settings = analysis(copy, "combination: simes\n")
    with monkeypatch.context() as patch:
        patch.setattr("hunch.analysis.draw_figures", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(settings, progress=False)
    left = {"report.html", "result.json", "figures", "limits.json", "limits"} & {
        p.name for p in (copy / "out").iterdir()
    }
    assert left == set()
    run(settings, progress=False)
    assert [run_stage(settings, name, progress=False) for name in STAGES] == [False] * 6
    assert not list((copy / "out").glob(".stages/pieces/*"))


def test_an_output_folder_in_use_is_said(copy: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from hunch.lock import writing\n"
        "with writing(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(copy / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            with pytest.raises(
                HunchError, match=rf"out: is in use by another run \(process {other.pid} on .* since 20"
            ):
                run_stage(analysis(copy), "report", progress=False)
        finally:
            other.kill()
    assert run_stage(analysis(copy), "report", progress=False) is False


def test_the_same_seed_gives_the_same_result(folder: Path) -> None:
    first = run(analysis(folder, "limits: {points: 1}\n"), progress=False)
    again = run(analysis(folder, "limits: {points: 1}\n"), force=["process", "train", "score", "hunt"], progress=False)
    assert first == again


def test_without_background_models_learn_from_other_folds(folder: Path) -> None:
    settings = analysis(folder, "folds: 3\n", samples="  data: [data.parquet]\n")
    result = run(settings, progress=False)
    data = read_table(folder / "out/scores/data.parquet")
    calibration = read_table(folder / "out/scores/calibration.parquet")
    assert set(np.unique(data["fold"])) == {0, 1, 2}
    # an event calibrates the model of the fold before its own, never the one that hunts in it
    assert np.array_equal((data["fold"] - 1) % 3, calibration["fold"])
    assert (folder / "out/models/fold_2/scorer.json").is_file()
    assert np.isfinite(result["best"]["p_global"])


def test_row_order_does_not_change_an_events_fold(folder: Path, rng: np.random.Generator) -> None:
    samples = "  data: [data.parquet]\n"
    folds = []
    for _ in range(2):
        settings = analysis(folder, "folds: 3\n", samples=samples)
        for stage in ("process", "train", "score"):
            run_stage(settings, stage, progress=False)
        scored = read_table(folder / "out/scores/data.parquet")
        folds.append(dict(zip(scored["mjj"].tolist(), scored["fold"].tolist(), strict=True)))
        frame = pd.read_parquet(folder / "data.parquet")
        frame.sample(frac=1, random_state=7).to_parquet(folder / "data.parquet", index=False)
    assert folds[0] == folds[1]


def test_samples_that_share_events_are_refused_by_name(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.parquet is also in samples\.data"):
        analysis(folder, samples="  data: [data.parquet]\n  background: [data.parquet]\n")
    frame = pd.read_parquet(folder / "data.parquet").drop(columns="truth_signal")
    frame.iloc[:100].to_csv(folder / "copy.csv", index=False)
    settings = analysis(folder, samples="  data: [data.parquet]\n  background: [background.csv, copy.csv]\n")
    with pytest.raises(HunchError, match=r"data\.parquet.*copy\.csv.*share events \(100 by content\)"):
        run(settings, progress=False)
    assert not (folder / "out" / "tables").exists()


def test_the_same_identity_with_other_content_is_refused_where_the_file_says_the_dataset(
    folder: Path, rng: np.random.Generator
) -> None:
    def identified(n: int, dataset: str) -> pd.DataFrame:
        ids = {"dataset": dataset, "run": np.uint32(1), "luminosityBlock": np.int16(1), "event": np.arange(n)}
        return background(rng, 2 * n).iloc[:n].assign(**ids)

    identified(3000, "qcd").to_parquet(folder / "data.parquet", index=False)
    identified(3000, "qcd").to_csv(folder / "background.csv", index=False)
    settings = analysis(folder)
    with pytest.raises(HunchError, match=r"share events \(3000 by run, luminosityBlock and event\)"):
        run_stage(settings, "process", progress=False)
    identified(3000, "other").to_csv(folder / "background.csv", index=False)
    assert run_stage(settings, "process", progress=False)


def test_events_that_come_again_are_refused_or_dropped(folder: Path) -> None:
    frame = pd.read_parquet(folder / "data.parquet")
    frame = frame.assign(run=321_000, luminosityBlock=1, event=np.arange(len(frame)))
    frame.to_parquet(folder / "data.parquet", index=False)
    frame.iloc[5:8].to_csv(folder / "more.csv", index=False)
    samples = "  data: [data.parquet, more.csv]\n"
    with pytest.raises(
        HunchError,
        match=r"sample data: 3 of \d+ events come again: run 321000, luminosityBlock 1, event 5 of .*data\.parquet, and "
        r"run 321000, luminosityBlock 1, event 5 of .*more\.csv; repeats: drop",
    ):
        run_stage(analysis(folder, samples=samples), "process", progress=False)
    assert not (folder / "out" / "tables").exists()
    run_stage(analysis(folder, "repeats: drop\n", samples=samples), "process", progress=False)
    table = read_table(folder / "out/tables/data.parquet")
    assert table["event"].tolist() == frame["event"].tolist()
    assert table.metadata["cutflow"]["comes again"] == 3
    assert sum(v for k, v in table.metadata["cutflow"].items() if k != "read") == len(frame) + 3


def test_rows_that_are_no_numbers_are_counted(folder: Path) -> None:
    frame = pd.read_parquet(folder / "data.parquet")
    frame.loc[:4, "a"] = np.nan
    frame.loc[5:6, "mjj"] = -1.0
    frame.to_parquet(folder / "data.parquet", index=False)
    run_stage(analysis(folder), "process", progress=False)
    cutflow = read_table(folder / "out/tables/data.parquet").metadata["cutflow"]
    assert cutflow["an input or the observable is no finite number"] == 5
    assert cutflow["mjj is not positive"] == 2
    assert cutflow["read"] == len(frame)
    assert sum(v for k, v in cutflow.items() if k != "read") == len(frame)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fit_range: [9500, 9900]\n", r"fit_range \[9500, 9900\] GeV holds none of the"),
        ("masses: [100, 200]\n", r"masses \[100, 200\] GeV hold none of the [0-9]+ masses of the scan"),
        ("fit_range: [2100, 2150]\n", r"too short to scan"),
    ],
)
def test_an_empty_selection_is_one_clear_error(folder: Path, text: str, message: str) -> None:
    with pytest.raises(HunchError, match=message):
        run(analysis(folder, text), progress=False)
    assert not (folder / "out" / "result.json").exists()


def test_a_missing_column_names_file_and_nearest(folder: Path) -> None:
    path = folder / "analysis.yaml"
    path.write_text("samples:\n  data: [data.parquet]\nfeatures: [a, B]\noutput: out\n")
    with pytest.raises(HunchError, match=r"data\.parquet.*no column 'B'; did you mean 'b'"):
        run(read_analysis(path), progress=False)


def test_a_stage_says_what_it_needs_first(folder: Path) -> None:
    with pytest.raises(
        HunchError,
        match="stage 'process' has not been run yet; before 'hunt' run hunch process, hunch train, hunch score, or hunch run",
    ):
        run_stage(analysis(folder), "hunt", progress=False)


def test_weighted_data_are_refused(folder: Path) -> None:
    frame = pd.read_parquet(folder / "data.parquet")
    frame.assign(genWeight=np.linspace(0.5, 1.5, len(frame))).to_parquet(folder / "data.parquet", index=False)
    with pytest.raises(HunchError, match="genWeight"):
        run(analysis(folder), progress=False)


def test_events_outside_the_fit_range_are_counted(folder: Path) -> None:
    result = run(analysis(folder, "fit_range: [2500, 6000]\n"), progress=False)
    mjj = pd.read_parquet(folder / "data.parquet")["mjj"]
    assert result["cutflow"]["below the fit range"] == int((mjj < 2500).sum())
    assert result["cutflow"]["above the fit range"] == int((mjj >= 6000).sum())
    assert (result["fit_range"]["low"], result["fit_range"]["high"]) == (2500, 6000)


def test_several_priors_are_hunted_side_by_side(folder: Path, rng: np.random.Generator) -> None:
    signal(rng, 1500, 4500, 250).to_hdf(folder / "other.h5", key="df")
    both = "  data: [data.parquet]\n  background: [background.csv]\n  priors: {near: [prior.h5], other: [other.h5]}\n"
    result = run(analysis(folder, "regions: {number: 6, fraction: 0.3}\n", samples=both), progress=False)
    regions = result["regions"]
    assert regions["shape"] == "mosaic"
    assert 2 <= regions["n_regions"] <= 6
    # of background, two priors, their family and its neighbourhoods, the first and the last
    assert regions["axes"] == ["background", *(f"family {i + 1}" for i in range(sum(map(len, regions["groups"]))))]
    assert result["scan"]["combination"] == "simes"
    assert abs(result["best"]["mass"] / 3800 - 1) < 0.04
    assert result["best"]["z_local"] > 4
    scorer = load_scorer(folder / "out" / "models" / "fold_0")
    assert scorer.parameters()["hypotheses"] == 6
    assert sum(r["events"] for r in regions["regions"]) == sum(
        v for k, v in result["cutflow"].items() if "region " in k
    )


def test_weak_supervision_narrows_the_family_by_the_other_folds(folder: Path) -> None:
    result = run(analysis(folder, "weak_supervision: true\nfolds: 3\nplane_scan: {min_events: 20}\n"), progress=False)
    models = sorted(p.name for p in (folder / "out" / "models").iterdir())
    assert models == ["common", "fold_0", "fold_1", "fold_2"]
    # one background model, a family a fold
    x = read_table(folder / "out" / "tables" / "data.parquet").matrix(["a", "b"])
    losses = [load_scorer(folder / "out" / "models" / name).losses(x) for name in models]
    for own in losses[1:]:
        assert np.array_equal(own[:, :-1], losses[0][:, :-1])
        assert not np.array_equal(own[:, -1], losses[0][:, -1])
    scored = read_table(folder / "out" / "scores" / "data.parquet")
    for i, own in enumerate(losses[1:]):
        rows = scored["fold"] == i
        assert rows.any()
        np.testing.assert_allclose(scored["loss_family"][rows], own[rows, -1], rtol=1e-9)
    assert abs(result["best"]["mass"] / 3800 - 1) < 0.05
    assert json.loads((folder / "out" / "plane_scan.json").read_text())["note"].startswith("for locating")
    assert (folder / "out" / "figures" / "loss_plane.png").is_file()
    assert "locates an excess and is no significance" in (folder / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("weak_supervision: true\nregions: {axis: priors}\n", "weak_supervision: needs regions.axis: family"),
        ("expected_discovery: {yield: 4}\n", "did you mean 'yields'"),
        ("plane_scan: {degre: 4}\n", "did you mean 'degree'"),
        ("regions: {shape: tree, decorrelation: map}\n", "regions.decorrelation: boundaries of shape tree cannot"),
    ],
)
def test_keys_that_do_not_fit_are_named(folder: Path, change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        analysis(folder, change)


SIGNALS = "  data: [data.parquet]\n  background: [background.csv]\n  priors: {near: [prior.h5]}\n  signals: {truth: [signal.csv]}\n"


def test_limits_are_set_on_signals_that_nothing_trained_on(folder: Path, rng: np.random.Generator) -> None:
    signal(rng, 800, 3800, 400).to_csv(folder / "signal.csv", index=False)
    expecting = "luminosity: 20\nexpected_discovery: {masses: 2, yields: [30, 60], experiments: 0}\n"
    result = run(analysis(folder, expecting, samples=SIGNALS), progress=False)
    out = folder / "out"
    found = json.loads((out / "limits.json").read_text(), parse_constant=pytest.fail)
    limits = found["signals"]["truth"]
    # in a nearly empty tail too
    assert limits["failed"] == 0
    assert found["notes"] == []
    few = ~np.array(limits["asymptotic_holds"])
    assert [e[0] is not None for e in limits["statistical_errors"]] == few.tolist()
    at = int(np.argmin(np.abs(np.array(limits["masses"]) - 3800)))
    assert abs(limits["masses"][at] / 3800 - 1) < 0.02
    # 60 events were injected: what is excluded is above them, and above what background alone would exclude
    assert limits["observed"][at] > 50
    assert limits["observed"][at] > limits["expected"][at][4]
    assert limits["observed_fb"][at] == pytest.approx(limits["observed"][at] / 20)
    # the joint fit of the regions, shared out as the signal is, sees what the combination sees
    assert limits["joint_fit"]["z"][at] == pytest.approx(result["best"]["z_local_asymptotic"], abs=1.5)
    scored = read_table(out / "scores" / "signal.truth.parquet")
    regions = read_regions(out / "regions.json")
    names = tuple(scored.metadata["axes"])
    losses = scored.matrix([f"loss_{name}" for name in names])
    inside = regions.assign(losses, scored["fold"].astype(np.int64), names=names)
    shares = np.array([(inside == r).sum() for r in range(regions.n_regions)]) / 800
    assert limits["efficiencies"][at] == pytest.approx(shares)
    # up-crossings of the joint fit are counted for log-linear families alone
    assert limits["joint_fit"]["gross_vitells"] is None
    files = out / "limits" / "truth"
    workspace = json.loads(next(files.glob("workspace_*.json")).read_text())
    assert pyhf.Workspace(workspace).model().config.poi_name == "mu"
    for name in ("limits.png", "limits.pdf", "hepdata/submission.yaml", "../spectra.root"):
        assert (files / name).stat().st_size > 0
    assert len(list(files.glob("datacard_*.txt"))) == len(limits["masses"]) - limits["failed"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "signal like truth" in page
    discovery = result["expected_discovery"]["truth"]
    assert discovery["efficiencies"] == pytest.approx(limits["efficiencies"][at])
    assert discovery["cross_sections_fb"] == [[1.5, 3.0]] * 2
    assert "this hunt expects of a signal like truth" in page
    assert len(result["training"][0]["rows"]) == 2  # background and prior: no signal


def test_without_signals_limits_are_set_on_priors_and_say_so(copy: Path) -> None:
    folder = copy
    found = json.loads((folder / "out" / "limits.json").read_text())
    assert list(found["signals"]) == ["near"]
    assert "the models trained on" in found["notes"][0]
    assert found["signals"]["near"]["luminosity"] is None
    settings = analysis(folder, samples="  data: [data.parquet]\n  background: [background.csv]\n")
    run(settings, progress=False)
    found = json.loads((folder / "out" / "limits.json").read_text())
    assert found["signals"] == {}
    assert "neither signals nor priors" in found["notes"][0]
    assert not (folder / "out" / "limits" / "near").exists()


def test_a_blind_search_never_looks_at_the_data(folder: Path) -> None:
    result = run(analysis(folder, "blind: true\n"), progress=False)
    assert "held-out background events stand in" in result["best"]["no_significance"]
    assert result["best"]["p_global"] is None
    limits = json.loads((folder / "out" / "limits.json").read_text())["signals"]["near"]
    assert limits["observed"] == [None] * len(limits["masses"])
    failed = [f["mass"] for f in limits["failures"]]
    assert len(failed) < len(limits["masses"])
    assert all(None not in row for m, row in zip(limits["masses"], limits["expected"], strict=True) if m not in failed)
    assert not list((folder / "out" / "limits").glob("*/workspace*"))
    # other data of the same number, same answer
    frame = pd.read_parquet(folder / "data.parquet")
    frame["mjj"] = frame["mjj"].to_numpy()[::-1] * 1.01
    frame.to_parquet(folder / "data.parquet", index=False)
    again = run(analysis(folder, "blind: true\n"), progress=False)
    assert again["scan"] == result["scan"]
    assert again["regions"] == result["regions"]
    with pytest.raises(ConfigError, match="blind: cannot be with weak_supervision"):
        analysis(folder, "blind: true\nweak_supervision: true\n")
    with pytest.raises(ConfigError, match=r"blind: needs samples\.background"):
        analysis(folder, "blind: true\n", samples="  data: [data.parquet]\n")


QUICK_CHECKS = {"local": 400, "outer": 6, "inner": 30, "injected": 60, "workers": 1}


def test_validation_draws_from_events_that_nothing_was_fixed_with(folder: Path, rng: np.random.Generator) -> None:
    background(rng, 9000).to_csv(folder / "more.csv", index=False)
    samples = "  data: [data.parquet]\n  background: [background.csv]\n  priors: {near: [prior.h5]}\n  validation: [more.csv]\n"
    settings = analysis(folder, samples=samples)
    run(settings, progress=False)
    checks = validate_analysis(settings, progress=False, **QUICK_CHECKS)
    (judged,) = checks["global_p"]
    assert "of validation, in place of" in judged["how"]
    assert len(judged["p"]) == 6
    assert all(0 < p <= 1 for p in judged["p"])
    assert len(checks["injections"]) == len(json.loads((folder / "out/result.json").read_text())["regions"]["regions"])
    stored = json.loads((folder / "out" / "validation.json").read_text(), parse_constant=pytest.fail)
    assert stored == json.loads(json.dumps(checks))
    page = (folder / "out" / "report.html").read_text(encoding="utf-8")
    assert "6 outer experiments of 30 inner ones" in page
    # checks belong to the result that they were made of, whatever the time of a file; changed ones to none
    later = (folder / "out" / "validation.json").stat().st_mtime + 10
    os.utime(folder / "out" / "result.json", (later, later))
    assert [run_stage(settings, name, progress=False) for name in STAGES] == [False] * 6
    path = folder / "out" / "validation.json"
    path.write_text(path.read_text().replace('"n": 6', '"n": 7'))
    assert [run_stage(settings, name, progress=False) for name in STAGES] == [False] * 5 + [True]
    assert "outer experiments" not in (folder / "out" / "report.html").read_text(encoding="utf-8")


def test_validation_without_its_own_sample_takes_held_out_background(copy: Path) -> None:
    settings = analysis(copy)
    (judged,) = validate_analysis(settings, progress=False, **{**QUICK_CHECKS, "outer": 2})["global_p"]
    assert "calibration" in judged["how"]
    with pytest.raises(HunchError, match=r"--retrain needs samples\.validation"):
        validate_analysis(settings, retrain=2, progress=False, **QUICK_CHECKS)
    (copy / "out" / "result.json").unlink()
    with pytest.raises(HunchError, match=r"result\.json: not there yet"):
        validate_analysis(settings, progress=False, **QUICK_CHECKS)


@pytest.mark.slow
def test_weak_supervision_is_validated_with_models_trained_anew(folder: Path, rng: np.random.Generator) -> None:
    background(rng, 9000).to_csv(folder / "more.csv", index=False)
    samples = "  data: [data.parquet]\n  background: [background.csv]\n  priors: {near: [prior.h5]}\n  validation: [more.csv]\n"
    settings = analysis(folder, "weak_supervision: true\nfolds: 3\n", samples=samples)
    run(settings, progress=False)
    found = validate_analysis(settings, retrain=2, progress=False, **{**QUICK_CHECKS, "outer": 0})["global_p"]
    assert [f["n"] for f in found] == [2]
    assert "trained anew" in found[0]["how"]
    assert found[0]["p"][0] != found[0]["p"][1]
    assert not list((folder / "out").glob(".retrained*"))


def test_a_score_that_knows_the_mass_is_decorrelated_on_request(folder: Path, rng: np.random.Generator) -> None:
    frame = pd.read_csv(folder / "background.csv")
    frame["a"] += 0.1 * (frame["mjj"] - 2000)  # the feature follows the mass, by its own spread over the spectrum
    frame.to_csv(folder / "background.csv", index=False)
    found = {}
    for name, strength in {"plain": 0, "decorrelated": 20}.items():
        text = f"training: {{max_epochs: 5, hidden: 16, decorrelation: {strength}}}\n"
        path = folder / "analysis.yaml"
        path.write_text(
            "samples:\n  data: [data.parquet]\n  background: [background.csv]\n  priors: {near: [prior.h5]}\n"
            f"features: [a, b]\noutput: {name}\n{text}"
        )
        settings = read_analysis(path)
        for stage in ("process", "train", "score"):
            run_stage(settings, stage, progress=False)
        held = read_table(folder / name / "scores" / "calibration.parquet")
        found[name] = distance_correlation(held["loss_background"], held["mjj"])
    assert found["plain"] > 0.05
    assert found["decorrelated"] < 0.25 * found["plain"]
    stored = json.loads((folder / "decorrelated/models/fold_0/scorer.json").read_text())
    assert stored["parameters"]["decorrelation"] == 20


def test_boundaries_follow_the_mass_on_request(folder: Path) -> None:
    result = run(analysis(folder, "regions: {decorrelation: quantile}\n"), progress=False)
    regions = read_regions(folder / "out" / "regions.json")
    assert len(regions.curves[0]) == regions.n_regions == 3
    assert [s["region"] for s in result["sculpting_before"]] == [s["region"] for s in result["sculpting"]]
    assert abs(result["best"]["mass"] / 3800 - 1) < 0.05
    assert "JSD of one cut at all masses" in (folder / "out" / "report.html").read_text(encoding="utf-8")
