"""A search that starts from the model of an earlier one: what it may be, that its events are not hunted, and when it is trained anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hunch.config import Analysis, read_analysis
from hunch.config.reading import ConfigError
from hunch.errors import InputError
from hunch.models import ScorerSpace, Vae, load_scorer, load_space
from hunch.table import Table, write_table
from hunch.workflow import run_stage

Make = Callable[..., Analysis]
OPTIONS: dict[str, Any] = {"name": "Vae", "max_epochs": 1, "hidden": 4, "latent": 2, "device": "cpu"}


def events(n: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "mjj": np.minimum(2000 * (1 - rng.random(n)) ** (-1 / 6), 8000.0),
        "a": rng.normal(size=n),
        "b": rng.exponential(size=n),
        "event": np.arange(n) + 100_000 * seed,
    }


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write an analysis of tables of 600 events, which are those of the seeds, in a folder of a name."""

    def write(name: str, *, data: int, background: int = 2, **options: Any) -> Analysis:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for sample, seed in (("data", data), ("background", background)):
            write_table(folder / f"{sample}.parquet", Table(events(600, seed), {}))
        content = {
            "samples": {"data": ["data.parquet"], "background": ["background.parquet"]},
            "output": "out",
            "features": ["a", "b"],
            "scorer": OPTIONS | options,
        }
        (folder / "analysis.yaml").write_text(yaml.safe_dump(content))
        return read_analysis(folder / "analysis.yaml")

    return write


@pytest.fixture
def before(make: Make) -> Path:
    """The model of an earlier search, with data of seed 1 and background of seed 2."""
    analysis = make("before", data=1)
    for stage in ("process", "train"):
        run_stage(analysis, stage, progress=False)
    return Path(analysis.output) / "models" / "fold_0"


def test_a_search_starts_from_a_model_and_is_trained_anew_where_it_changed(make: Make, before: Path) -> None:
    analysis = make("after", data=3, pretrained="../before/out/models/fold_0")
    assert analysis.scorer["pretrained"] == str(before.parents[3] / "after/../before/out/models/fold_0")
    run_stage(analysis, "process", progress=False)
    assert run_stage(analysis, "train", progress=False)
    space = load_space(Path(analysis.output) / "models" / "fold_0")
    earlier = load_space(before)
    assert np.isin(earlier.trained_on, space.trained_on).all()
    assert not run_stage(analysis, "train", progress=False)
    # the place of the folder does not count, its content does
    before.rename(before.parents[3] / "fold_0")
    analysis = make("after", data=3, pretrained="../fold_0")
    assert not run_stage(analysis, "train", progress=False)
    other = make("other", data=1)
    other = other.model_copy(update={"seed": 5})
    for stage in ("process", "train"):
        run_stage(other, stage, progress=False)
    (before.parents[3] / "fold_0").rename(before.parents[3] / "old")
    (Path(other.output) / "models" / "fold_0").rename(before.parents[3] / "fold_0")
    assert run_stage(analysis, "train", progress=False)


def test_no_event_is_hunted_that_the_model_had_trained_on(make: Make, before: Path) -> None:
    for name, data, background, words in (
        ("data", 2, 3, r"had trained on \d+ of 600 events of sample data"),
        ("held out", 3, 7, r"had trained on \d+ of \d+ held-out events of sample background"),
    ):
        given: dict[str, Any] = {"pretrained": str(before)}
        if name == "held out":
            # the same background, another half of which is held out
            made = make(name, data=data, **given)
            analysis = made.model_copy(update={"held_out": 0.8})
        else:
            analysis = make(name, data=data, background=background, **given)
        run_stage(analysis, "process", progress=False)
        with pytest.raises(InputError, match=rf"key 'scorer.pretrained': the model in .*fold_0 {words}"):
            run_stage(analysis, "train", progress=False)
        assert not (Path(analysis.output) / "models").exists()


def test_what_a_search_cannot_start_from_is_said_before_processing(make: Make, before: Path, tmp_path: Path) -> None:
    space = load_scorer(before)
    assert isinstance(space, ScorerSpace)
    space.scorers["background"].save(tmp_path / "alone")
    rows = np.random.default_rng(0).normal(size=(150, 2))
    ScorerSpace(Vae(max_epochs=1, hidden=4)).fit(rows).save(tmp_path / "unknown")
    no_record = "has no record of the events that it had trained on, and none of them may be hunted; allowed: the folder of a space"
    (tmp_path / "empty").mkdir()
    for folder, words in (
        ("alone", no_record),
        ("unknown", no_record),
        ("empty", "no scorer.json in it; found: nothing"),
    ):
        analysis = make("after", data=3, pretrained=f"../{folder}")
        with pytest.raises(InputError, match=rf"key 'scorer.pretrained': .*{folder}: {words}"):
            run_stage(analysis, "process", progress=False)
    with pytest.raises(
        ConfigError, match=r"analysis.yaml: line \d+: key 'scorer.pretrained': .*nowhere: no such folder"
    ):
        make("after", data=3, pretrained="nowhere")
    with pytest.raises(ConfigError, match=r"key 'scorer.pretrained': .*data.parquet: is a file; a scorer is a folder"):
        make("after", data=3, pretrained="data.parquet")
