"""The search against the table's route, with any representation, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from hunch.errors import HunchError, InputError
from hunch.folds import FoldPlan, content_hash, fold_hash, fold_plan, same_event_hash
from hunch.models import Quak
from hunch.models.space import Sample, load_space, make_space
from hunch.processors import (
    Features,
    Images,
    Representation,
    Running,
    SearchResult,
    UserTable,
    read_inputs,
    run_search,
    run_table,
    sample_of,
    score_events,
    search_table,
    trained_events,
)
from hunch.processors.scoring import told_by_content
from hunch.table import EVENT_ID, IDENTITY, Table, read_table, table_parts

if TYPE_CHECKING:
    from collections.abc import Callable

QUIET = Running(executor="iterative", progress=False)
FEATURES = Features(features=("mJ_1", "tau21_1", "mJ_2", "tau21_2"))
EDGES = (2000.0, 2500.0, 3000.0, 3500.0, 5000.0)
ONE, THREE = fold_plan(background=True), fold_plan(background=False, folds=3)


@dataclass(frozen=True)
class Slices:
    """Regions of the background loss, with boundaries of each model's own."""

    cuts: tuple[tuple[float, ...], ...]
    names: tuple[str, ...] = ("background",)

    @property
    def n_regions(self) -> int:
        return len(self.cuts[0]) - 1

    def assign(
        self, losses: npt.NDArray[Any], fold: npt.NDArray[Any], mass: npt.NDArray[Any], *, names: Sequence[str]
    ) -> npt.NDArray[np.int64]:
        assert len(mass) == len(losses)
        assert tuple(names) == self.names
        region = np.full(len(losses), -1)
        for number, cuts in enumerate(self.cuts):
            inside = np.searchsorted(np.asarray(cuts), losses[:, 0]) - 1
            region = np.where((fold == number) & (inside < self.n_regions), inside, region)
        return region


def slices_of(losses: Sequence[npt.NDArray[Any]], names: tuple[str, ...] = ("background",)) -> Slices:
    return Slices(tuple(tuple(np.quantile(own[:, 0], [0.2, 0.5, 0.8, 0.95])) for own in losses), names)


@pytest.fixture(scope="module")
def table(lhco_file: Path) -> Table:
    """The features of the LHC Olympics events."""
    return run_table(lhco_file, FEATURES, QUIET).table


@pytest.fixture(scope="module")
def trained(table: Table, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Slices]:
    """Three spaces, each trained on the data that the plan has for it, and regions fixed with all of them."""
    sample, hashes = sample_of(table, FEATURES), fold_hash(table, FEATURES.content)
    folder = tmp_path_factory.mktemp("spaces")
    paths, losses = [], []
    for model in range(3):
        own = sample.select(THREE.trains_on_data(hashes, model))
        space = Quak(seed=model, max_epochs=2, hidden=8, device="cpu").fit(own)
        space.save(folder / str(model))
        paths.append(folder / str(model))
        losses.append(space.losses(own))
    return paths, slices_of(losses)


@pytest.fixture(scope="module")
def elsewhere(table: Table, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Slices]:
    """One space that was trained on other events, and its regions."""
    rng = np.random.default_rng(3)
    x = table.matrix(FEATURES.inputs)
    space = Quak(seed=5, max_epochs=2, hidden=8, device="cpu").fit(
        Sample(x * rng.uniform(0.9, 1.1, x.shape), FEATURES.inputs)
    )
    space.save(tmp_path_factory.mktemp("elsewhere") / "0")
    return [tmp_path_factory.getbasetemp() / "elsewhere0" / "0"], slices_of([space.losses(x)])


def expected_counts(
    table: Table,
    representation: Representation,
    paths: Sequence[Path],
    regions: Slices,
    plan: FoldPlan,
    *,
    edges: Sequence[float] = EDGES,
    **read: Any,
) -> npt.NDArray[np.float64]:
    """Fill the spectra from the table with numpy alone, every event by every space."""
    x, model = read_inputs(table, representation), plan.hunting_model(fold_hash(table, representation.content))
    losses = np.stack([load_space(path, **read).losses(x) for path in paths])[model, np.arange(len(x))]
    assert representation.observable is not None
    mass = table[representation.observable.name]
    region = regions.assign(losses, model, mass, names=regions.names)
    return np.stack([np.histogram(mass[region == r], [-np.inf, *edges, np.inf])[0] for r in range(regions.n_regions)])


def adds_up(result: SearchResult) -> None:
    assert result.cutflow["read"] == sum(count for name, count in result.cutflow.items() if name != "read")
    assert result.spectra.sum() == result.cutflow["kept"]


@pytest.mark.parametrize("folds", [1, 3])
def test_spectra_equal_those_of_the_table(
    folds: int, lhco_file: Path, table: Table, trained: tuple[list[Path], Slices], elsewhere: tuple[list[Path], Slices]
) -> None:
    (paths, regions), plan = (elsewhere, ONE) if folds == 1 else (trained, THREE)
    options: dict[str, Any] = {"spaces": paths, "regions": regions, "plan": plan, "edges": EDGES}
    running = Running(executor="iterative", chunk_size=300, progress=False)
    result = run_search(lhco_file, FEATURES, running, **options)
    expected = expected_counts(table, FEATURES, paths, regions, plan)
    np.testing.assert_array_equal(result.spectra.values(flow=True), expected)
    adds_up(result)
    assert result.cutflow["read"] == 1000
    assert result.cutflow["kept"] > 500
    assert [axis.name for axis in result.spectra.axes] == ["region", "mjj"]
    assert result.spectra.axes[1].label == r"$m_{jj}$ [GeV]"
    again = search_table(table, FEATURES, **options)
    np.testing.assert_array_equal(again.spectra.values(flow=True), expected)
    adds_up(again)


def test_a_table_is_searched_part_by_part(
    lhco_file: Path, table: Table, trained: tuple[list[Path], Slices], tmp_path: Path
) -> None:
    paths, regions = trained
    run_table(lhco_file, FEATURES, Running(executor="iterative", chunk_size=300, progress=False), output=tmp_path / "t")
    parts = table_parts(tmp_path / "t")
    result = search_table(parts, FEATURES, spaces=paths, regions=regions, plan=THREE, edges=EDGES)
    np.testing.assert_array_equal(
        result.spectra.values(flow=True), expected_counts(table, FEATURES, paths, regions, THREE)
    )
    adds_up(result)
    assert result.cutflow["read"] == len(table)


def test_a_table_of_the_users_own_is_searched(table: Table, tmp_path: Path) -> None:
    own = UserTable(features=("a", "b"), observable="m")
    rows = Table({"a": table["mJ_1"], "b": table["tau21_1"], "m": table["mJ_2"]})
    sample, hashes = sample_of(rows, own), fold_hash(rows, own.content)
    paths, losses = [], []
    for model in range(3):
        mine = sample.select(THREE.trains_on_data(hashes, model))
        space = Quak(seed=model, max_epochs=2, hidden=8, device="cpu").fit(mine)
        space.save(tmp_path / str(model))
        paths.append(tmp_path / str(model))
        losses.append(space.losses(mine))
    regions = slices_of(losses)
    bad = {"a": [np.nan, 1.0, 1.0], "b": [0.5, 0.5, 0.5], "m": [100.0, -1.0, np.inf]}
    with_bad = {name: np.concatenate([bad[name], values]) for name, values in rows.columns.items()}
    path = tmp_path / "own.csv"
    path.write_text(
        "b,m,a\n"
        + "".join(
            f"{b!r},{m!r},{a!r}\n"
            for a, b, m in zip(*map(np.ndarray.tolist, (with_bad["a"], with_bad["b"], with_bad["m"])), strict=True)
        )
    )
    edges = (50.0, 100.0, 200.0, 400.0)
    result = search_table(read_table(path), own, spaces=paths, regions=regions, plan=THREE, edges=edges)
    expected = expected_counts(rows, own, paths, regions, THREE, edges=edges)
    np.testing.assert_array_equal(result.spectra.values(flow=True), expected)
    assert result.cutflow["read"] == len(rows) + 3
    assert result.cutflow["an input or the observable is no finite number"] == 2
    assert result.cutflow["m is not positive"] == 1
    adds_up(result)
    assert result.spectra.axes[1].name == "m"
    with pytest.raises(InputError, match="events would be scored by a model that has trained on them"):
        search_table(read_table(path), own, spaces=paths[::-1], regions=regions, plan=THREE, edges=edges)


def test_images_are_searched_with_a_space_of_autoencoders(
    random_events: Callable[[int], Any], write_events: Callable[..., Path], tmp_path: Path
) -> None:
    images = Images(pixels=8)
    path, other = write_events("a.root", random_events(60)), write_events("b.root", random_events(150))
    table, background = (run_table(p, images, QUIET).table for p in (path, other))
    space = make_space("ConvVae", kind="images", options={"max_epochs": 1, "latent": 2, "blocks": 1, "device": "cpu"})
    space.fit(sample_of(background, images)).save(tmp_path / "space")
    assert len(space.trained_on) == len(background)
    counts = []
    for per_jet in ("sum", "max"):
        losses = load_space(tmp_path / "space", per_jet=per_jet).losses(read_inputs(background, images))
        edges = (100.0, 300.0, 600.0)
        options: dict[str, Any] = {
            "spaces": [tmp_path / "space"], "regions": slices_of([losses], space.axis_names), "plan": ONE,
            "edges": edges, "per_jet": per_jet,
        }  # fmt: skip
        found = [
            run_search(path, images, Running(executor="iterative", chunk_size=25, progress=False), **options),
            search_table(table, images, **options),
        ]
        expected = expected_counts(
            table, images, options["spaces"], options["regions"], ONE, edges=edges, per_jet=per_jet
        )
        assert expected.sum() > 20
        for result in found:
            np.testing.assert_array_equal(result.spectra.values(flow=True), expected)
        counts.append(expected)
    assert (counts[0] != counts[1]).any()
    with pytest.raises(InputError, match=f"{len(background)} events would be scored .*b.root: .* by model 0"):
        run_search([path, other], images, QUIET, **options)


def test_events_that_come_again_are_refused_or_left_out(
    random_events: Callable[[int], Any], write_events: Callable[..., Path], tmp_path: Path
) -> None:
    images, edges = Images(pixels=8), (100.0, 300.0, 600.0)
    events = random_events(60)
    first, part = write_events("a.root", events), write_events("b.root", events[:20])
    background = run_table(write_events("c.root", random_events(150)), images, QUIET).table
    space = make_space("ConvVae", kind="images", options={"max_epochs": 1, "latent": 2, "blocks": 1, "device": "cpu"})
    space.fit(sample_of(background, images)).save(tmp_path / "space")
    losses = load_space(tmp_path / "space").losses(read_inputs(background, images))
    options: dict[str, Any] = {
        "spaces": [tmp_path / "space"], "regions": slices_of([losses], space.axis_names), "plan": ONE, "edges": edges,
    }  # fmt: skip
    chunks = Running(executor="iterative", chunk_size=7, progress=False)
    once = run_search(first, images, chunks, **options)
    assert once.cutflow["kept"] > 3
    rows = [run_table(path, images, QUIET).table for path in (first, part)]
    n = len(rows[1])
    for search, second in (
        (lambda **more: run_search([part, first], images, chunks, **options, **more), "b.root, and in .*a.root"),
        (lambda **more: search_table(rows[::-1], images, **options, **more), "again in it"),
    ):
        with pytest.raises(InputError, match=f"{n} events come again: the first .*{second}; repeats: drop leaves"):
            search()
        found = search(repeats="drop")
        np.testing.assert_array_equal(found.spectra.values(flow=True), once.spectra.values(flow=True))
        assert found.cutflow["comes again"] == n
        assert found.cutflow["kept"] == once.cutflow["kept"]
        adds_up(found)


def test_an_event_is_never_scored_by_a_model_that_has_trained_on_it(
    lhco_file: Path, table: Table, trained: tuple[list[Path], Slices]
) -> None:
    paths, regions = trained
    hashes = fold_hash(table, FEATURES.content)
    turned = [paths[1], paths[2], paths[0]]
    model = THREE.hunting_model(hashes)
    leaked = sum(int(THREE.trains_on_data(hashes, (m + 1) % 3)[model == m].sum()) for m in range(3))
    assert leaked > 200
    options: dict[str, Any] = {"regions": regions, "plan": THREE, "edges": EDGES}
    with pytest.raises(InputError, match=rf"^{leaked} events would be scored .*: .*lhco\.root: \d+ by model 0"):
        run_search(
            lhco_file, FEATURES, Running(executor="iterative", chunk_size=300, progress=False), spaces=turned, **options
        )
    with pytest.raises(InputError, match=f"^{leaked} events"):
        search_table(table, FEATURES, spaces=turned, **options)
    # one event of many is enough
    one = table.select(np.flatnonzero(THREE.trains_on_data(hashes, 1) & (model == 0))[:1])
    free = table.select(~np.isin(same_event_hash(table, ()), load_space(paths[1]).trained_on))
    both = Table({name: np.concatenate([one[name], free[name]]) for name in table.columns}, table.metadata)
    single: dict[str, Any] = {"spaces": paths[1:2], "regions": Slices(regions.cuts[1:2]), "plan": ONE, "edges": EDGES}
    assert search_table(free, FEATURES, **single).cutflow["read"] == len(free) > 200
    with pytest.raises(InputError, match=r"^1 events"):
        search_table(both, FEATURES, **single)


def test_coarse_rows_without_identity_are_equal_by_chance(rng: np.random.Generator) -> None:
    def rows(n: int, identity: list[str]) -> Table:
        columns = {"mjj": rng.integers(1, 60, n).astype(float), "x": rng.integers(0, 60, n).astype(float)}
        return Table({**columns, "run": np.full(n, 7), "luminosityBlock": np.ones(n, int), "event": np.arange(n)},
                     {"identity": identity})  # fmt: skip

    own = UserTable(features=("x",))
    space = Counting(0)
    model = np.zeros(2000, dtype=np.int64)
    trained = rows(1500, [])
    space.trained_on = np.unique(same_event_hash(trained, own.content))
    told = same_event_hash(rows(2000, []), own.content)
    assert np.isin(told, space.trained_on).sum() > 300
    assert trained_events(told, [space], model, by_content=True) == {}
    assert trained_events(told, [space], model) != {}
    fine = rng.normal(size=(2000, 2))
    space.trained_on = np.unique(content_hash(fine[:40]))
    assert trained_events(content_hash(fine), [space], model, by_content=True) == {0: 40}
    assert told_by_content(rows(3, []))
    assert not told_by_content(rows(3, list(IDENTITY)))
    assert not told_by_content(Table({EVENT_ID: np.zeros(1, np.uint64)}))


class Counting:
    """A space whose first loss is the first input and whose second is its own number; it remembers what it is given."""

    input_names = ()
    trained_on = np.empty(0, dtype=np.uint64)

    def __init__(self, number: int) -> None:
        self.axis_names = ("background", "near")
        self.number = number
        self.seen: list[float] = []

    def losses(self, sample: Any) -> npt.NDArray[np.float64]:
        self.seen += sample.inputs[:, 0].tolist()
        return np.stack([sample.inputs[:, 0], np.full(len(sample), float(self.number))], axis=1)


def test_each_event_is_inferred_once_by_its_own_model() -> None:
    spaces = [Counting(number) for number in range(3)]
    table = Table({"mjj": np.ones(7), "x": np.arange(7.0)}, {"identity": []})
    sample = sample_of(table, UserTable(features=("x",)))
    model = np.array([2, 0, 0, 2, 2, 0, 2])
    losses = score_events(sample, spaces, model)
    assert losses.tolist() == [[float(i), float(m)] for i, m in enumerate(model)]
    assert [space.seen for space in spaces] == [[1, 2, 5], [], [0, 3, 4, 6]]
    assert score_events(sample.select(np.zeros(7, dtype=bool)), spaces, model[:0]).shape == (0, 2)


def test_spaces_of_different_axes_are_refused(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    spaces = {name: Counting(number) for number, name in enumerate(("first", "second", "third"))}
    spaces["second"].axis_names = ("background", "far")
    monkeypatch.setattr("hunch.models.space.load_space", lambda folder, **_: spaces[Path(folder).name])
    options: dict[str, Any] = {"regions": Slices(((0.0, 1.0),)), "plan": THREE, "edges": EDGES}
    with pytest.raises(InputError, match="space 1 has the axes background, far where space 0 has background, near"):
        search_table(table, FEATURES, spaces=list(spaces), **options)


@pytest.mark.slow
def test_workers_load_the_spaces_and_give_the_same_spectra(lhco_file: Path, trained: tuple[list[Path], Slices]) -> None:
    # Regions must travel to the workers: those of the analysis room are importable there, test classes are not.
    from hunch.analysis import fix_regions

    paths, _ = trained
    rng = np.random.default_rng(1)
    regions = fix_regions([rng.normal(5, 3, (3000, 1)) for _ in paths], fraction=0.9)
    options: dict[str, Any] = {"spaces": paths, "regions": regions, "plan": THREE, "edges": EDGES}
    one = run_search(lhco_file, FEATURES, QUIET, **options)
    two = run_search(lhco_file, FEATURES, Running(workers=2, chunk_size=500, progress=False), **options)
    np.testing.assert_array_equal(one.spectra.values(flow=True), two.spectra.values(flow=True))
    assert one.cutflow == two.cutflow
    assert one.spectra.sum(flow=True) > 100


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"edges": [3000.0, 2000.0]}, "do not rise"),
        ({"edges": [3000.0]}, "do not rise"),
        ({"spaces": []}, "0 given; the plan has 1 models"),
        ({"plan": THREE}, "1 given; the plan has 3 models"),
        ({"spaces": ["nowhere"]}, "nowhere"),
        ({"representation": Features(features=("mJ_1", "tau21_1"))}, "no input 'mJ_2'; did you mean 'mJ_1'"),
        ({"representation": Features(observable=None)}, "no observable"),
        ({"representation": UserTable(features=("mJ_1",))}, "table of your own"),
    ],
)
def test_wrong_settings_are_named(
    wrong: dict[str, Any], says: str, write_events: Callable[..., Path], elsewhere: tuple[list[Path], Slices]
) -> None:
    path = write_events("a.root", [[(100.0, 0.0, 0.0), (90.0, 0.0, 3.0)]])
    options: dict[str, Any] = {"spaces": elsewhere[0], "edges": EDGES, "regions": elsewhere[1], "plan": ONE, **wrong}
    representation = options.pop("representation", FEATURES)
    with pytest.raises(HunchError, match=says):
        run_search(path, representation, QUIET, **options)


def test_columns_of_a_table_are_found_by_name(table: Table, trained: tuple[list[Path], Slices]) -> None:
    paths, regions = trained
    options: dict[str, Any] = {"spaces": paths, "regions": regions, "plan": THREE, "edges": EDGES}
    turned = Features(features=FEATURES.features[::-1])
    first, second = (search_table(table, made, **options) for made in (FEATURES, turned))
    np.testing.assert_array_equal(first.spectra.values(flow=True), second.spectra.values(flow=True))


def test_events_of_different_weight_are_refused(
    write_events: Callable[..., Path], elsewhere: tuple[list[Path], Slices]
) -> None:
    pair = [(100.0, 0.0, 0.0), (90.0, 0.0, 3.0)]
    options: dict[str, Any] = {"spaces": elsewhere[0], "regions": elsewhere[1], "plan": ONE, "edges": EDGES}
    equal = write_events("equal.root", [pair, pair], genWeight=np.float32([2, 2]))
    unequal = write_events("unequal.root", [pair, pair], genWeight=np.float32([1, 2]))
    run_search(equal, FEATURES, QUIET, **options)
    with pytest.raises(InputError, match="genWeight differs"):
        run_search(unequal, FEATURES, QUIET, **options)
    assert set(IDENTITY) <= set(run_table(unequal, FEATURES, QUIET).table.columns)
