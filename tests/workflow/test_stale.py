"""What is older than the configuration, its inputs or the program, or was changed since: noticed by every stage, and said in a line.

The outputs are made up and stamped as a run stamps them: what a stage thinks of them does not depend on what they hold.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hunch.config import Analysis, read_analysis
from hunch.config.sections import (
    CountSettings,
    ExpectedSettings,
    LimitSettings,
    ObservableKey,
    PlaneScanSettings,
    RegionSettings,
)
from hunch.errors import HunchError
from hunch.workflow.layout import stamp_path
from hunch.workflow.older import MARK, mark_older, unmark
from hunch.workflow.search import search_files
from hunch.workflow.stages import STAGES, check_earlier, run_stage, stage_key
from hunch.workflow.stamps import stamp_holds, why_stale, write_stamp
from hunch.workflow.validate import validate_analysis

YAML = """samples:
  data: [data.csv]
  background: [background.csv]
  priors: {near: [prior.csv]}
features: [a, b]
output: out
"""


def analysis(folder: Path, text: str = "") -> Analysis:
    (folder / "analysis.yaml").write_text(YAML + text)
    return read_analysis(folder / "analysis.yaml")


@pytest.fixture
def done(tmp_path: Path) -> Path:
    """Make up a finished analysis."""
    for name in ("data", "background", "prior"):
        (tmp_path / f"{name}.csv").write_text(f"mjj,a,b\n{len(name)},1,2\n")
    stamped(analysis(tmp_path))
    return tmp_path


def stamped(settings: Analysis) -> None:
    """Write something for every output of every stage, and the stamps."""
    for name, stage in STAGES.items():
        for path in stage.writes(settings):
            if path.suffix in {".json", ".html", ".root"}:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"<body>{path.name}")
            else:
                path.mkdir(parents=True, exist_ok=True)
                (path / "part").write_text(path.name)
        write_stamp(stamp_path(settings, name), stage_key(settings, stage), stage.writes(settings))


def stale(settings: Analysis) -> list[str]:
    """Return the stages that would run again."""
    return [
        n
        for n, s in STAGES.items()
        if not stamp_holds(stamp_path(settings, n), stage_key(settings, s), s.writes(settings))
    ]


def changes(path: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Give what can happen to an output, by name."""
    inside = path / "part" if path.is_dir() else path
    yield "changed", lambda: inside.write_text("p_global 1e-9")
    yield "emptied", lambda: inside.write_text("")
    yield "deleted", lambda: shutil.rmtree(path) if path.is_dir() else path.unlink()
    yield "renamed inside", lambda: inside.rename(inside.with_name("other"))
    if path.is_dir():
        yield "added to", lambda: (path / "more").write_text("x")


def test_every_stage_notices_every_change_of_every_output_before_it(done: Path) -> None:
    settings, kept = analysis(done), done.parent / "kept"
    assert stale(settings) == []
    shutil.copytree(done / "out", kept)
    tried = 0
    for earlier, later in itertools.pairwise(STAGES):
        for path in STAGES[earlier].writes(settings)[:3]:
            for what, change in list(changes(path)):
                change()
                word = "was changed" if path.exists() else "is gone"
                said = rf"'{earlier}' no longer has what it wrote \({path.name} {word}.*\); before '{later}' run hunch {earlier}"
                with pytest.raises(HunchError, match=said):
                    check_earlier(settings, later)
                tried += 1
                shutil.rmtree(done / "out")
                shutil.copytree(kept, done / "out")
                assert path.exists(), what
    assert tried > 40
    (done / "out" / "models" / "fold_0" / "part").write_text("others")
    for later in list(STAGES)[2:]:
        with pytest.raises(HunchError, match=rf"'train' no longer has .*; before '{later}' run hunch train"):
            check_earlier(settings, later)


def test_times_of_files_say_nothing(done: Path) -> None:
    settings = analysis(done)
    for when in (0, 2_000_000_000):
        for path in [*done.glob("*.csv"), *(done / "out").rglob("*")]:
            os.utime(path, (when, when))
        assert stale(settings) == []
    moved = shutil.copytree(done, done.parent / "moved")
    assert stale(analysis(moved)) == []


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"key": 1}', "another folder's"])
def test_a_damaged_or_foreign_stamp_is_none(damage: str, done: Path) -> None:
    settings = analysis(done)
    if damage == "another folder's":
        other = shutil.copytree(done, done.parent / "other", ignore=shutil.ignore_patterns("out"))
        stamped(analysis(other, "seed: 1\n"))
        shutil.copytree(other / "out" / ".stages", done / "out" / ".stages", dirs_exist_ok=True)
        said = r"stage 'train' is older than the configuration \(seed was 1 and is 0\)"
    else:
        stamp_path(settings, "train").write_text(damage)
        said = r"stage 'train' has a damaged stamp, .*train\.json\); before 'hunt' run hunch train, hunch score, or hunch run"
    assert "train" in stale(settings)
    with pytest.raises(HunchError, match=said):
        check_earlier(settings, "hunt")


EDITS: dict[str, tuple[Any, str]] = {
    "seed": (1, "train"),
    "width": (0.05, "hunt"),
    "after_first": (4.0, "hunt"),
    "representation": ({"name": "features", "max_deta": 1.0}, "process"),
    "features": (("a",), "process"),
    "observable": (ObservableKey(name="c"), "process"),
    "jets": ({"min_mjj": 100.0}, "process"),
    "scorer": ({"name": "Vae"}, "train"),
    "prior_scorer": ({"name": "Vae"}, "train"),
    "training": ({"max_epochs": 1}, "train"),
    "without_exposure": (False, ""),
    "hunt": ("count", "process"),
    "count": (CountSettings(), ""),
    "regions": (RegionSettings(fraction=0.1), "hunt"),
    "repeats": ("drop", "process"),
    "folds": (7, ""),
    "held_out": (0.3, "train"),
    "weak_supervision": (True, "train"),
    "fit_range": ((2000.0, 5000.0), "hunt"),
    "masses": ((2000.0, 5000.0), "hunt"),
    "sqrt_s": (7000.0, "hunt"),
    "background_function": ("exponential", "hunt"),
    "combination": ("simes", "hunt"),
    "pseudo_experiments": (7, "hunt"),
    "limits": (LimitSettings(points=2), "limits"),
    "luminosity": (3.0, "limits"),
    "blind": (True, "hunt"),
    "plane_scan": (PlaneScanSettings(), "hunt"),
    "expected_discovery": (ExpectedSettings(), "hunt"),
    "executor": ("iterative", ""),
    "workers": (3, ""),
    "scheduler": ("tcp://x", ""),
    "skip_bad_files": (True, "process"),
    "output": ("out", ""),
}
"""Key -> another value, and the first stage that depends on it; none: what is written is the same."""
EVENTS_ONLY = {"representation", "jets"}


@pytest.mark.parametrize("key", EDITS)
def test_every_key_belongs_to_the_stage_that_reads_it(key: str, done: Path) -> None:
    before = analysis(done)
    if key in EVENTS_ONLY:
        features = before.model_copy(update={"features": None})
        object.__setattr__(features.samples, "data", ("data.root",))
        before = features
    value, first = EDITS[key]
    after = before.model_copy(update={key: value})
    changed = [name for name, stage in STAGES.items() if stage.settings(before) != stage.settings(after)]
    assert changed[:1] == ([first] if first else []), changed


def test_no_key_is_left_out() -> None:
    assert {*Analysis.model_fields} - {"samples"} == {*EDITS}


def test_each_sample_and_each_file_counts(done: Path) -> None:
    settings = analysis(done)
    stored = (done / "data.csv").read_text()
    (done / "data.csv").write_text(stored + "2,3,4\n")
    with pytest.raises(HunchError, match=r"'process' is older than what it was made of \(data.csv was changed\)"):
        check_earlier(settings, "train")
    (done / "data.csv").write_text(stored)
    assert stale(settings) == []
    # the same files in the same order, shared out otherwise
    (done / "more.csv").write_text("mjj,a,b\n9,1,2\n")
    text = YAML.replace("[data.csv]", "[data.csv, more.csv]")
    (done / "analysis.yaml").write_text(text)
    two = read_analysis(done / "analysis.yaml")
    stamped(two)
    (done / "analysis.yaml").write_text(
        text.replace("[data.csv, more.csv]", "[data.csv]").replace("[background.csv]", "[more.csv, background.csv]")
    )
    assert "process" in stale(read_analysis(done / "analysis.yaml"))


def test_another_version_of_the_program_is_said(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = analysis(done)
    monkeypatch.setattr("hunch.workflow.stages.source_hash", lambda *rooms: "another")
    assert stale(settings) == list(STAGES)
    for name in list(STAGES)[1:]:
        with pytest.raises(
            HunchError, match=r"'process' was run by another version of the program \(0\..*run hunch process"
        ):
            check_earlier(settings, name)
    check_earlier(settings, "score", any_source=True)


def test_searches_and_checks_ask_the_stages_before_them(done: Path) -> None:
    (done / "out" / "result.json").write_text("{}")
    for do in (lambda s: search_files(s, [str(done / "data.csv")]), validate_analysis):
        with pytest.raises(HunchError, match=r"is older than the configuration|no result of hunch run"):
            do(analysis(done, "seed: 3\n"))
    assert not list((done / "out").glob(".lock"))


def test_a_stage_that_runs_marks_the_report_of_before(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, page = analysis(done), done / "out" / "report.html"

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(STAGES, "hunt", STAGES["hunt"].__class__(**{**vars(STAGES["hunt"]), "do": interrupted}))
    changed = analysis(done, "pseudo_experiments: 7\n")
    with pytest.raises(KeyboardInterrupt):
        run_stage(changed, "hunt", progress=False)
    assert page.read_text() == f"<body>{MARK}report.html"
    assert (done / "out" / "result.json").read_text() == "<body>result.json"
    # nothing else is older for the configuration of before
    assert stale(analysis(done)) == ["report"]
    with pytest.raises(
        HunchError, match=r"'hunt' is older than the configuration \(pseudo_experiments was 5000 and is 7\)"
    ):
        run_stage(analysis(done, "pseudo_experiments: 7\n"), "limits", progress=False)
    mark_older(done / "out")
    assert page.read_text().count(MARK) == 1
    unmark(done / "out")
    assert page.read_text() == "<body>report.html"
    assert stale(settings) == []


def test_a_page_that_is_a_link_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "private").write_text("mine")
    (tmp_path / "report.html").symlink_to(tmp_path / "private")
    mark_older(tmp_path)
    unmark(tmp_path)
    assert (tmp_path / "report.html").is_symlink()
    assert (tmp_path / "private").read_text() == "mine"


def test_why_is_one_line_for_many_settings(done: Path) -> None:
    settings = analysis(done)
    after = settings.model_copy(
        update={"seed": 1, "held_out": 0.2, "weak_supervision": True, "training": {"max_epochs": 1}}
    )
    stage = STAGES["train"]
    why = why_stale(stamp_path(settings, "train"), stage_key(after, stage), stage.writes(settings))
    assert why is not None
    assert why.startswith("is older than the configuration (scorer")
    assert "\n" not in why
    assert len(why) < 500
