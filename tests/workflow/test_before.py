"""What can be known before events are processed, or before models are trained, is said before."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hunch.config import Analysis, read_analysis
from hunch.errors import HunchError, InputError
from hunch.models import Quak
from hunch.table import Table, write_table
from hunch.workflow import process as process_module
from hunch.workflow.search import rows_of
from hunch.workflow.stages import run_stage


def events(n: int, seed: int, *, scale: float = 1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "mjj": scale * np.minimum(2000 * (1 - rng.random(n)) ** (-1 / 6), 8000.0),
        "a": rng.normal(size=n),
        "b": rng.exponential(size=n),
        "event": np.arange(n) + 100_000 * seed,
    }


Make = Callable[..., Analysis]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write an analysis of tables: sample -> its columns, or how many events it has; text: further keys."""

    def write(
        text: str = "",
        *,
        features: str = "features: [a, b]\n",
        metadata: dict[str, dict[str, object]] | None = None,
        **samples: int | dict[str, np.ndarray],
    ) -> Analysis:
        lines = []
        for seed, (name, given) in enumerate({"data": 600, **samples}.items()):
            columns = events(given, seed) if isinstance(given, int) else given
            write_table(tmp_path / f"{name}.parquet", Table(columns, (metadata or {}).get(name, {})))
            lines.append(
                f"  priors: {{near: [{name}.parquet]}}\n" if name == "prior" else f"  {name}: [{name}.parquet]\n"
            )
        (tmp_path / "analysis.yaml").write_text(f"samples:\n{''.join(lines)}{features}output: out\n{text}")
        return read_analysis(tmp_path / "analysis.yaml")

    return write


@pytest.fixture(autouse=True)
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Quak, "fit", lambda *_, **__: pytest.fail("trained"))


TOO_LATE = {
    "no event in the fit range": (
        "fit_range: [8500, 12000]\n",
        {},
        r"fit_range \[8500, 12000\] GeV holds none of the \d+ events",
    ),
    "fit range in another unit": ("fit_range: [2, 8]\n", {}, r"fit_range \[2, 8\] GeV holds none of"),
    "few bins": ("fit_range: [2000, 2150]\n", {}, "is too short to scan: it holds 2 bins"),
    "masses": ("fit_range: [2000, 5000]\nmasses: [2001, 2005]\n", {}, r"masses \[2001, 2005\] GeV hold none of the"),
    "data in TeV": (
        "",
        {"data": events(600, 0, scale=1e-3)},
        r"sample data: column 'mjj' ends at .* is it in TeV\? Say observable: \{name: mjj, unit: TeV\}",
    ),
    "background in TeV": (
        "fit_range: [2000, 5000]\n",
        {"background": events(600, 1, scale=1e-3)},
        "holds none of the 600 events",
    ),
    "sqrt_s in another unit": (
        "sqrt_s: 13\n",
        {},
        "sqrt_s: 13 GeV is below most of the 600 events of sample data, mjj of 2",
    ),
    "background in MeV": (
        "",
        {"background": events(600, 1, scale=1e3)},
        "sqrt_s: 13000 GeV is below most of .* sample background",
    ),
    "data elsewhere": (
        "fit_range: [2000, 5000]\n",
        {"data": {**events(600, 0), "mjj": np.full(600, 900.0)}},
        "holds none of the 600 events of sample data",
    ),
    "more regions than events": (
        "fit_range: [2000, 5000]\nheld_out: 0.3\nregions: {number: 64}\n",
        {"background": 300},
        "held-out events in the fit range cannot fix 64 regions",
    ),
    "few background events": (
        "",
        {"background": 120},
        "sample background, events that are not held out: .* too few to train Quak on; 100 are needed",
    ),
    "few prior events": ("", {"prior": 40}, r"sample prior\.near: 40 events are too few to train Quak on"),
    "few events for a threshold": (
        "hunt: count\ncount: {efficiency: 1e-3}\n",
        {},
        "count.efficiency: a threshold that keeps 0.001 of the background needs 1002 held-out",
    ),
}


@pytest.mark.parametrize("case", TOO_LATE)
def test_before_training(make: Make, case: str) -> None:
    text, samples, said = TOO_LATE[case]
    analysis = make(text, **{"background": 600, "prior": 150, **samples})
    run_stage(analysis, "process", progress=False)
    with pytest.raises(InputError, match=said):
        run_stage(analysis, "train", progress=False)
    assert not (Path(analysis.output) / "models").exists()


def test_a_device_that_is_not_here_is_said_before_processing(make: Make) -> None:
    analysis = make("training: {device: 'cuda:63'}\n", background=600)
    with pytest.raises(InputError, match=r"key 'training.device': no device 'cuda:63' here: \d+ CUDA devices found"):
        run_stage(analysis, "process", progress=False)


def test_folds_of_few_data_are_too_small_to_train_on(make: Make) -> None:
    analysis = make(data=150, prior=150)
    run_stage(analysis, "process", progress=False)
    with pytest.raises(InputError, match=r"sample data, all folds but 0 and 1: .* are too few to train Quak on"):
        run_stage(analysis, "train", progress=False)


def test_a_column_that_any_sample_lacks_is_said_before_the_first_is_processed(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "make_table", lambda *_, **__: pytest.fail("processed"))
    for sample in ("background", "prior"):
        columns = events(300, 5)
        columns["bb"] = columns.pop("b")
        analysis = make(**{"background": 600, "prior": 150, sample: columns})
        with pytest.raises(HunchError, match=rf"{sample}\.parquet \(sample .*\): no column 'b'; did you mean 'bb'"):
            run_stage(analysis, "process", progress=False)
    analysis = make("observable: m_jj\n", background=600)
    with pytest.raises(HunchError, match="no column 'm_jj'; did you mean 'mjj'"):
        run_stage(analysis, "process", progress=False)


def test_event_files_are_opened_before_tables_are_copied(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "make_table", lambda *_, **__: pytest.fail("processed"))
    make(background=600)
    (tmp_path / "bad.root").write_bytes(b"no root")
    text = (
        (tmp_path / "analysis.yaml")
        .read_text()
        .replace("background.parquet", "bad.root")
        .replace("features: [a, b]", "features: [mJ_1]")
    )
    (tmp_path / "analysis.yaml").write_text(text)
    columns = {**events(600, 0), "mJ_1": np.ones(600)}
    write_table(tmp_path / "data.parquet", Table(columns))
    with pytest.raises(HunchError, match=r"bad\.root"):
        run_stage(read_analysis(tmp_path / "analysis.yaml"), "process", progress=False)


def made(radius: float, **more: object) -> dict[str, object]:
    return {"representation": "features", "settings": {"radius": radius, "min_pt": 50.0, "features": ["a"], **more}}


@pytest.mark.parametrize(
    ("text", "features", "metadata", "said"),
    [
        (
            "",
            "",
            {"data": made(0.8), "background": made(0.8)},
            r"data\.parquet \(sample data\): was made with other settings: radius is 0\.8, the analysis has 1\.0; .*\{radius: 0\.8\} takes it",
        ),
        (
            "jets: {radius: 0.8}\n",
            "",
            {"data": made(0.8), "background": made(1.0)},
            r"background\.parquet \(sample background\): .*radius is 1\.0, the analysis has 0\.8",
        ),
        (
            "",
            "features: [mJ_1]\n",
            {"data": made(0.8), "background": made(1.0)},
            r"sample background\): was made with other settings than .*data\.parquet \(sample data\): radius is 1\.0, there 0\.8",
        ),
        (
            "",
            "features: [mJ_1]\n",
            {"data": made(1.0, min_mjj=1000.0), "background": made(1.0, min_mjj=None)},
            "min_mjj is None, there 1000.0",
        ),
        (
            "jets: {min_pt: 500}\n",
            "",
            {},
            r"data\.parquet \(sample data\): does not say how it was made, and min_pt = 500 cannot be applied",
        ),
    ],
)
def test_tables_made_otherwise_are_refused(
    make: Make, text: str, features: str, metadata: dict[str, dict[str, object]], said: str
) -> None:
    from hunch.table import QUAK_FEATURES

    rng = np.random.default_rng(0)
    columns = [{**events(200, seed), **{name: rng.normal(size=200) for name in QUAK_FEATURES}} for seed in range(2)]
    analysis = make(text, features=features, metadata=metadata, data=columns[0], background=columns[1])
    with pytest.raises(InputError, match=said):
        run_stage(analysis, "process", progress=False)


def test_a_search_refuses_tables_made_otherwise_than_those_of_the_training(make: Make, tmp_path: Path) -> None:
    analysis = make(metadata={"data": made(1.0), "background": made(1.0)}, background=600)
    run_stage(analysis, "process", progress=False)
    write_table(tmp_path / "more.parquet", Table(events(50, 9), made(0.8)))
    with pytest.raises(InputError, match=re.escape("radius is 0.8, there 1.0")):
        list(rows_of(analysis, [str(tmp_path / "more.parquet")], "content"))


def test_columns_of_samples_are_taken_by_name(make: Make) -> None:
    other = events(600, 3)
    analysis = make(background={name: other[name] for name in ("event", "b", "mjj", "a")}, data=600)
    run_stage(analysis, "process", progress=False)
    table = pd.read_parquet(
        Path(analysis.output)
        / "tables"
        / "background.parquet"
        / next((Path(analysis.output) / "tables" / "background.parquet").glob("*.parquet")).name
    )
    np.testing.assert_array_equal(table["a"], other["a"])
