"""No event is hunted with a model that trained on it, told by what was trained on; each test fails where the rule is broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hunch.config import Analysis, read_analysis
from hunch.errors import HunchError
from hunch.folds import FoldPlan, already_trained_on, same_event_hash
from hunch.models import load_scorer
from hunch.table import read_table
from hunch.workflow import run, run_stage, search_files
from hunch.workflow.layout import model_paths, score_path, table_path
from hunch.workflow.validate import own_representation

pytestmark = pytest.mark.usefixtures("small_family", "fast_hunt")


@pytest.fixture
def analysis(tmp_path: Path, rng: np.random.Generator) -> Callable[..., Analysis]:
    """Return a function that writes tables with identities and an analysis of them."""

    def write(*keys: str, background: bool = False, weak: bool = False) -> Analysis:
        def sample(n: int, start: int, shift: float = 0.0) -> pd.DataFrame:
            mjj = 2000 * (1 - rng.random(n)) ** (-1 / 6)
            ids = {"run": 321_000, "luminosityBlock": 1, "event": np.arange(start, start + n)}
            return pd.DataFrame({**ids, "mjj": mjj, "a": rng.normal(shift, 1, n), "b": rng.normal(0, 1, n)})

        sample(1200, 0).to_parquet(tmp_path / "data.parquet", index=False)
        sample(1200, 10_000).to_parquet(tmp_path / "background.parquet", index=False)
        sample(300, 20_000, 2.0).to_parquet(tmp_path / "prior.parquet", index=False)
        lines = ["samples:", "  data: [data.parquet]", "  priors: {near: [prior.parquet]}"]
        lines += ["  background: [background.parquet]"] if background or weak else []
        lines += ["features: [a, b]", "output: out", "folds: 3", "training: {max_epochs: 1, hidden: 8}", *keys]
        lines += ["weak_supervision: true"] if weak else []
        (tmp_path / "analysis.yaml").write_text("\n".join(lines) + "\n")
        return read_analysis(tmp_path / "analysis.yaml")

    return write


def trained(settings: Analysis) -> Analysis:
    for stage in ("process", "train"):
        run_stage(settings, stage, progress=False)
    return settings


def test_retrained_experiments_have_the_representation_of_the_analysis(tmp_path: Path) -> None:
    text = "samples: {data: [d.root], background: [b.root], priors: {p: [p.root]}}\noutput: out\n"
    for name in "dbp":
        (tmp_path / f"{name}.root").touch()
        (tmp_path / f"{name}.parquet").touch()
    path = tmp_path / "a.yaml"
    for more in (
        "representation: {name: images, jets: 1, pixels: 8}\nscorer: ConvVae\n",
        "jets: {jets: 1, radius: 0.8}\n",
    ):
        path.write_text(text + more)
        own = read_analysis(path)
        tables = own.samples.model_copy(
            update={
                "data": (str(tmp_path / "d.parquet"),),
                "background": (str(tmp_path / "b.parquet"),),
                "priors": {"p": (str(tmp_path / "p.parquet"),)},
            }
        )
        again = own.model_copy(update={"samples": tables, "jets": {}, "representation": own_representation(own)})
        assert again.represented.settings() == own.represented.settings()


def seen_by_own_model(settings: Analysis) -> int:
    """Return how many events of the data the model that hunts in them was trained on, narrowed down by, or stopped by."""
    table = read_table(table_path(settings, "data"))
    events = same_event_hash(table, settings.represented.content)
    scored = read_table(score_path(settings, "data"))
    spaces = [load_scorer(folder) for folder in model_paths(settings)]
    return sum(int(already_trained_on(events[scored["fold"] == i], s.trained_on).sum()) for i, s in enumerate(spaces))


@pytest.mark.parametrize("options", [{}, {"background": True}, {"weak": True}], ids=["folds", "background", "weak"])
def test_no_model_has_trained_on_what_it_hunts_in(options: dict[str, Any], analysis: Callable[..., Analysis]) -> None:
    settings = trained(analysis(**options))
    run_stage(settings, "score", progress=False)
    assert seen_by_own_model(settings) == 0
    spaces = [load_scorer(folder) for folder in model_paths(settings)]
    assert all(len(space.trained_on) > 300 for space in spaces)
    if not options.get("background"):
        events = same_event_hash(read_table(table_path(settings, "data")), settings.represented.content)
        assert all(already_trained_on(events, space.trained_on).any() for space in spaces)


def test_a_model_that_trains_on_the_fold_it_hunts_in_is_noticed(
    analysis: Callable[..., Analysis], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FoldPlan, "trains_on_data", lambda self, data, model: np.ones(len(data), dtype=bool))
    settings = trained(analysis())
    with pytest.raises(HunchError, match=r"1200 events would be scored by a model that has trained on them"):
        run_stage(settings, "score", progress=False)


def test_weak_supervision_that_sees_its_own_fold_is_noticed(
    analysis: Callable[..., Analysis], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FoldPlan, "narrows_on_data", lambda self, data, model: np.ones(len(data), dtype=bool))
    settings = trained(analysis(weak=True))
    with pytest.raises(HunchError, match=r"1200 events would be scored by a model that has trained on them"):
        run_stage(settings, "score", progress=False)


def test_regions_fixed_on_events_that_a_model_trained_on_are_noticed(
    analysis: Callable[..., Analysis], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = trained(analysis(background=True))
    held = FoldPlan.held_out_rows
    monkeypatch.setattr(FoldPlan, "held_out_rows", lambda self, rows: ~held(self, rows))
    with pytest.raises(HunchError, match="scored by a model that has trained on them"):
        run_stage(settings, "score", progress=False)


def test_a_search_cannot_be_told_other_events_by_a_column(analysis: Callable[..., Analysis], tmp_path: Path) -> None:
    """Nor by an identity where the models know contents alone, nor by none where they know identities."""
    settings = analysis("pseudo_experiments: 20", "limits: {points: 1}", "fit_range: [2100, 6000]", background=True)
    run(settings, progress=False)
    frame = pd.read_parquet(tmp_path / "background.parquet")
    frame.assign(event_id=np.arange(len(frame))).to_csv(tmp_path / "again.csv", index=False)
    with pytest.raises(HunchError, match="events would be scored by a model that has trained on them"):
        search_files(settings, [str(tmp_path / "again.csv")], progress=False)
    frame.drop(columns=["run", "luminosityBlock", "event"]).to_csv(tmp_path / "nameless.csv", index=False)
    with pytest.raises(HunchError, match="whether they have trained on these events cannot be told"):
        search_files(settings, [str(tmp_path / "nameless.csv")], progress=False)
    for name in ("data", "background", "prior"):
        whole = pd.read_parquet(tmp_path / f"{name}.parquet")
        whole.drop(columns=["run", "luminosityBlock", "event"]).to_parquet(tmp_path / f"{name}.parquet", index=False)
    nameless = read_analysis(tmp_path / "analysis.yaml", ["output=nameless"])
    run(nameless, progress=False)
    with pytest.raises(HunchError, match="events would be scored by a model that has trained on them"):
        search_files(nameless, [str(tmp_path / "again.csv")], progress=False)
