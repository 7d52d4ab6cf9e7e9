"""The search processor against the table's route, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from hunch.errors import HunchError, InputError
from hunch.folds import fold_of, identity_hash
from hunch.models import Quak, ScorerSpace, load_scorer
from hunch.processors import run_dijets, run_search

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FEATURES = ("mJ_1", "tau21_1", "mJ_2", "tau21_2")
EDGES = (2000.0, 2500.0, 3000.0, 3500.0, 5000.0)


@dataclass(frozen=True)
class Slices:
    """Regions of the background loss, with boundaries of each fold's own."""

    cuts: tuple[tuple[float, ...], ...]

    @property
    def n_regions(self) -> int:
        return len(self.cuts[0]) - 1

    def assign(
        self, losses: npt.NDArray[np.float64], fold: npt.NDArray[np.int64], mjj: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.int64]:
        assert len(mjj) == len(losses)
        region = np.full(len(losses), -1)
        for number, cuts in enumerate(self.cuts):
            inside = np.searchsorted(np.asarray(cuts), losses[:, 0]) - 1
            region = np.where((fold == number) & (inside < self.n_regions), inside, region)
        return region


@pytest.fixture(scope="module")
def trained(lhco_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[Path], Slices]:
    """The table of the LHC Olympics events, two scorers trained each on the other's fold, and regions."""
    table = run_dijets(lhco_file, executor="iterative", progress=False).table
    fold = fold_of(identity_hash(table), 2)
    x = table.matrix(FEATURES)
    folder = tmp_path_factory.mktemp("scorers")
    paths, cuts = [], []
    for number in (0, 1):
        scorer = Quak(seed=number, max_epochs=2, hidden=8, device="cpu").fit(x[fold != number])
        scorer.save(folder / str(number))
        paths.append(folder / str(number))
        cuts.append(tuple(np.quantile(scorer.losses(x[fold != number])[:, 0], [0.2, 0.5, 0.8, 0.95])))
    return table, paths, Slices(tuple(cuts))


def expected_counts(table: Any, paths: list[Path], regions: Slices) -> npt.NDArray[np.float64]:
    """Fill the spectra from the table with numpy alone."""
    x, fold = table.matrix(FEATURES), fold_of(identity_hash(table), len(paths))
    losses = np.stack([load_scorer(path).losses(x) for path in paths])[fold, np.arange(len(x))]
    region = regions.assign(losses, fold, table["mjj"])
    edges = [-np.inf, *EDGES, np.inf]
    return np.stack([np.histogram(table["mjj"][region == r], edges)[0] for r in range(regions.n_regions)])


@pytest.mark.parametrize("n_scorers", [1, 2])
def test_spectra_equal_those_of_the_table(
    n_scorers: int, lhco_file: Path, trained: tuple[Any, list[Path], Slices]
) -> None:
    table, paths, regions = trained
    paths, regions = paths[:n_scorers], Slices(regions.cuts[:n_scorers])
    result = run_search(
        lhco_file, scorers=paths, regions=regions, features=FEATURES, edges=EDGES,
        executor="iterative", chunk_size=300, progress=False,
    )  # fmt: skip
    np.testing.assert_array_equal(result.spectra.values(flow=True), expected_counts(table, paths, regions))
    assert result.cutflow["read"] == 1000 == sum(n for name, n in result.cutflow.items() if name != "read")
    assert result.spectra.sum(flow=True) == result.cutflow["kept"] > 500


def test_a_stored_space_of_scorers_is_searched_with(
    lhco_file: Path, tmp_path: Path, trained: tuple[Any, list[Path], Slices]
) -> None:
    table, paths, _ = trained
    x = table.matrix(FEATURES)
    background, prior = (load_scorer(path) for path in paths)
    space = ScorerSpace(background, {"near": prior}).fit(x, fitted=True)
    space.save(tmp_path / "space")
    regions = Slices((tuple(np.quantile(space.losses(x)[:, 0], [0.2, 0.5, 0.8])),))
    result = run_search(
        lhco_file, scorers=[tmp_path / "space"], regions=regions, features=FEATURES, edges=EDGES,
        executor="iterative", progress=False,
    )  # fmt: skip
    np.testing.assert_array_equal(
        result.spectra.values(flow=True), expected_counts(table, [tmp_path / "space"], regions)
    )
    assert result.spectra.sum(flow=True) > 300


@pytest.mark.slow
def test_workers_load_the_scorers_and_give_the_same_spectra(
    lhco_file: Path, trained: tuple[Any, list[Path], Slices]
) -> None:
    table, paths, _ = trained
    # Regions must travel to the workers: those of the analysis room are importable there, test classes are not.
    from hunch.analysis.regions.regions import Regions

    background = [load_scorer(path).losses(table.matrix(FEATURES))[:, 0] for path in paths]
    cuts = tuple((tuple(np.quantile(loss, [0.95, 0.8, 0.5])),) for loss in background)
    regions = Regions("difference", 3, 0.0, 0.5, cuts)
    options: dict[str, Any] = {"scorers": paths, "regions": regions, "features": FEATURES, "edges": EDGES}
    one = run_search(lhco_file, executor="iterative", progress=False, **options)
    two = run_search(lhco_file, executor="futures", workers=2, chunk_size=500, progress=False, **options)
    np.testing.assert_array_equal(one.spectra.values(flow=True), two.spectra.values(flow=True))
    assert one.cutflow == two.cutflow
    assert one.spectra.sum(flow=True) > 300


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"features": ["mj_1"]}, "did you mean 'mJ_1'"),
        ({"edges": [3000.0, 2000.0]}, "do not rise"),
        ({"scorers": []}, "at least one"),
        ({"scorers": ["nowhere"]}, "nowhere"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, Any], says: str, write_events: Callable[..., Path]) -> None:
    path = write_events("a.root", [[(100.0, 0.0, 0.0), (90.0, 0.0, 3.0)]])
    options = {"scorers": ["x"], "features": FEATURES, "edges": EDGES, "regions": Slices(((0.0, 1.0),)), **wrong}
    with pytest.raises(HunchError, match=says):
        run_search(path, executor="iterative", progress=False, **options)


def test_events_of_different_weight_are_refused(
    write_events: Callable[..., Path], trained: tuple[Any, list[Path], Slices]
) -> None:
    _, paths, regions = trained
    pair = [(100.0, 0.0, 0.0), (90.0, 0.0, 3.0)]
    options: dict[str, Any] = {
        "scorers": paths[:1], "regions": Slices(regions.cuts[:1]), "features": FEATURES, "edges": EDGES,
        "executor": "iterative", "progress": False,
    }  # fmt: skip
    run_search(write_events("equal.root", [pair, pair], genWeight=np.float32([2, 2])), **options)
    with pytest.raises(InputError, match="genWeight differs"):
        run_search(write_events("unequal.root", [pair, pair], genWeight=np.float32([1, 2])), **options)
