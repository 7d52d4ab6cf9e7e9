"""Looking at events: what is counted, what is filtered, which columns and samples there are, what is shown of names of others."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from bokeh.document import Document
from bokeh.models import Div, PlainText, Select
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from hunch.analysis.regions.regions import Regions
from hunch.errors import HunchError, InputError
from hunch.table import Table, read_table, write_table
from hunch.workflow.explore.binning import Axis, axis_of, bin_events
from hunch.workflow.explore.explored import Explored, content_of, numbered, read_explored_table
from hunch.workflow.explore.linked import MOST_FILTERS, Linked
from hunch.workflow.explore.outputs import is_output, read_explored_output, rows_of
from hunch.workflow.explore.page import Page, template
from hunch.workflow.explore.plots import MOST_POINTS, rectangles
from hunch.workflow.explore.serving import serve

NASTY = "<script>alert(1)</script>"
NASTY_NAMES = (NASTY, "$$x^2$$", '"><img src=x onerror=alert(1)>', "a\x1b[31mb")


@pytest.fixture
def values(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return numbers of a steep spectrum, some of them no numbers, some without end, some on edges."""
    found = rng.exponential(1.0, 20_000).astype(np.float32)
    found[:50], found[50:70], found[70:75] = np.nan, np.inf, -np.inf
    found[100:160] = np.linspace(0, 3, 61)[:-1]
    return found


def test_bins_are_those_of_numpy(values: npt.NDArray[np.float32]) -> None:
    axis = Axis("x", np.linspace(0.0, 3.0, 61))
    binning = bin_events((axis,), (values,))
    found = np.bincount(binning.codes, minlength=binning.all_codes)
    np.testing.assert_array_equal(found[:60], np.histogram(values.astype(np.float64), bins=axis.edges)[0])
    known = values[~np.isnan(values)]
    assert found[60:].tolist() == [50, (known < 0).sum(), (known > 3).sum()]
    assert found.sum() == len(values)


def test_planes_are_those_of_numpy(values: npt.NDArray[np.float32], rng: np.random.Generator) -> None:
    other = rng.normal(size=len(values)).astype(np.float32)
    other[-30:] = np.nan
    axes = Axis("x", np.linspace(0.0, 3.0, 31)), Axis("y", np.linspace(-1.0, 2.0, 21))
    binning = bin_events(axes, (values, other))
    found = np.bincount(binning.codes, minlength=binning.all_codes)
    both = ~np.isnan(values) & ~np.isnan(other)
    expected = np.histogram2d(values[both], other[both], bins=[axis.edges for axis in axes])[0]
    np.testing.assert_array_equal(found[:600].reshape(30, 20), expected)
    assert found[600:].tolist() == [(~both).sum(), both.sum() - expected.sum(), 0]


def test_axes_follow_their_columns(rng: np.random.Generator) -> None:
    whole = axis_of("n", np.array([2, 7, 3, 3], dtype=np.float32))
    np.testing.assert_array_equal(whole.edges, np.arange(1.5, 8.0))
    many = axis_of("n", np.arange(130, dtype=np.float32))
    assert (many.edges[0], many.edges[1] - many.edges[0], many.edges[-1]) == (-0.5, 3.0, 131.5)
    constant = axis_of("c", np.full(5, 2.5, dtype=np.float32))
    assert constant.edges[0] < 2.5 < constant.edges[-1]
    assert axis_of("x", np.full(5, np.nan, dtype=np.float32)).bins == 1
    tail = np.append(rng.normal(size=9_999), 1e6).astype(np.float32)
    assert axis_of("x", tail).edges[-1] < 10
    assert axis_of("x", np.array([0.5, 1.25, np.inf], dtype=np.float32)).edges[-1] == 1.25
    np.testing.assert_allclose(axis_of("x", tail, span=(0.0, 2.0)).edges[[0, -1]], [0, 2])


def test_places_on_an_axis() -> None:
    axis = Axis("x", np.array([0.0, 1.0, 2.0, 3.0]))
    assert [axis.at(v) for v in (-0.1, 0.0, 1.0, 2.99, 3.0, 3.1)] == [None, 0, 1, 2, 2, None]
    assert axis.touched(0.5, 1.5).tolist() == [True, True, False]
    assert axis.touched(1.2, 1.2).tolist() == [False, True, False]
    assert not axis.touched(4.0, 5.0).any()


def test_a_brush_changes_all_counts_but_its_own(rng: np.random.Generator) -> None:
    n = 5_000
    a, b = (rng.normal(size=n).astype(np.float32) for _ in range(2))
    b[:9] = np.nan
    group = rng.integers(0, 3, n).astype(np.uint8)
    linked = Linked(group, 3)
    axis = Axis("a", np.linspace(-2, 2, 21)), Axis("b", np.linspace(-3, 3, 31))
    of_a, of_b = bin_events(axis[:1], (a,)), bin_events(axis[1:], (b,))
    before = linked.counts(of_a, "a"), linked.counts(of_b, "b")
    passing = np.zeros(of_a.all_codes, dtype=bool)
    passing[5:10] = True
    linked.restrict("a", of_a.codes, passing)
    inside = (a >= axis[0].edges[5]) & (a < axis[0].edges[10])
    np.testing.assert_array_equal(linked.counts(of_a, "a"), before[0])
    found = linked.counts(of_b, "b")
    for k in range(3):
        np.testing.assert_array_equal(
            found[k, :30], np.histogram(b[inside & (group == k)].astype(float), bins=axis[1].edges)[0]
        )
    assert found[:, 30].sum() == np.isnan(b[inside]).sum()
    np.testing.assert_array_equal(linked.selected(), np.bincount(group[inside], minlength=3))
    # a second brush: its own counts know the first, those of the first know it
    second = np.zeros(of_b.all_codes, dtype=bool)
    second[:15] = True
    linked.restrict("b", of_b.codes, second)
    below = (b >= -3) & (b < 0)
    np.testing.assert_array_equal(linked.counts(of_b, "b"), found)
    np.testing.assert_array_equal(
        linked.counts(of_a, "a").sum(axis=0)[:20], np.histogram(a[below].astype(float), bins=axis[0].edges)[0]
    )
    np.testing.assert_array_equal(linked.passing(), inside & below)
    np.testing.assert_array_equal(linked.passing("a"), below)
    linked.release("b")
    linked.restrict("a", of_a.codes, None)
    np.testing.assert_array_equal(linked.counts(of_b, "b"), before[1])
    assert linked.selected().sum() == n


def test_a_filter_too_many_is_told() -> None:
    codes = np.array([0, 1], dtype=np.uint16)
    linked = Linked(np.zeros(2, dtype=np.uint8), 1)
    for k in range(MOST_FILTERS):
        linked.restrict(str(k), codes, np.array([True, False]))
    with pytest.raises(InputError, match="32 filters at once are the most"):
        linked.restrict("more", codes, np.array([True, False]))
    for k in range(MOST_FILTERS):
        linked.release(str(k))
    assert linked.selected().tolist() == [2]


def test_rectangles_cover_what_is_chosen_once(rng: np.random.Generator) -> None:
    for share in (0.0, 0.1, 0.6, 1.0):
        chosen = rng.random((13, 9)) < share
        found = np.zeros(chosen.shape, dtype=int)
        for x0, x1, y0, y1 in rectangles(chosen):
            found[x0:x1, y0:y1] += 1
        np.testing.assert_array_equal(found, chosen.astype(int))


def events(n: int, rng: np.random.Generator, **more: Any) -> Table:
    """Return a table of two datasets with an array, a text, a label, and a column with gaps."""
    part = np.where(np.arange(n) % 4 == 0, "signal", "qcd")
    met = rng.exponential(80, n)
    met[::10] = np.nan
    return Table(
        {
            "dataset": part,
            "run": np.ones(n, dtype=np.uint64),
            "luminosityBlock": np.ones(n, dtype=np.uint64),
            "event": np.arange(n, dtype=np.uint64) + 2**60,
            "mjj": 2000 + rng.exponential(500, n),
            "met": met,
            "n_jet": rng.integers(2, 9, n).astype(np.float64),
            "image": np.zeros((n, 2, 2), dtype=np.float32),
            "process": np.full(n, "x"),
            "truth_signal": (np.arange(n) % 4 == 0).astype(np.uint8),
            **more,
        },
        {"representation": "features"},
    )


@pytest.fixture
def table(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Return a table file of 400 events."""
    write_table(tmp_path / "t.parquet", events(400, rng))
    return tmp_path / "t.parquet"


def test_a_table_is_read_with_what_can_be_shown(table: Path) -> None:
    found = read_explored_table(table)
    assert list(found.columns) == ["mjj", "met", "n_jet"]
    assert found.columns["mjj"].dtype == np.float32
    assert (found.samples, np.bincount(found.sample).tolist()) == (("qcd", "signal"), [300, 100])
    assert found.units["met"] == "GeV"
    assert found.units["n_jet"] == ""
    assert found.notes == (
        "1 column with an array an event left out",
        "1 column without numbers left out",
        "1 column of truth labels (--truth shows them) left out",
    )
    assert found.first == ("mjj", "met", "n_jet")
    assert "truth_signal" in read_explored_table(table, truth=True).columns
    assert read_explored_table(table, columns=["n_jet"]).first == ("n_jet",)


def test_units_are_told_of_tables_that_hunch_made_alone(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("pt,name\n1.5,a\n2,b\n")
    found = read_explored_table(tmp_path / "t.csv")
    assert (list(found.columns), dict(found.units), found.samples) == (["pt"], {}, ("t",))
    assert content_of(tmp_path / "t.csv", truth=False).text == ("name",)


def test_many_datasets_are_a_few_and_others() -> None:
    names, number = numbered(np.array([f"d{k:02}" for k in range(30) for _ in range(30 - k)]))
    assert names == (*(f"d{k:02}" for k in range(9)), "21 others")
    assert np.bincount(number)[:2].tolist() == [30, 29]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["mij"], "no column 'mij'; did you mean 'mjj'"),
        (["image"], "column 'image' holds an array an event"),
        (["process"], "column 'process' holds no numbers"),
        (["truth_signal"], "'truth_signal' is a truth label; --truth shows it"),
    ],
)
def test_columns_that_cannot_be_shown_are_named(columns: list[str], message: str, table: Path) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        read_explored_table(table, columns=columns)


def test_a_selection_is_what_the_file_holds(table: Path) -> None:
    found, whole = read_explored_table(table), read_table(table)
    keep = np.zeros(400, dtype=bool)
    keep[[3, 8, 399]] = True
    selected = found.selection(keep)
    assert not {"image", "truth_signal"} & set(selected.columns)
    for name in ("event", "mjj", "met", "process"):
        np.testing.assert_array_equal(selected[name], whole[name][keep])
        assert selected[name].dtype == whole[name].dtype
    assert selected["sample"].tolist() == ["qcd", "signal", "qcd"]
    with pytest.raises(InputError, match="no event is selected"):
        found.selection(np.zeros(400, dtype=bool))
    write_table(table, whole.select(slice(0, 10)))
    with pytest.raises(InputError, match="holds 10 events now and held 400"):
        found.selection(keep)


EDGES = np.linspace(2000, 4000, 21)


def output_folder(path: Path, rng: np.random.Generator, *, blind: Any = False, result: bool = True) -> Path:
    """Write the output folder of a search: data and held-out background, their tables in other orders, two regions."""
    sizes = {"data": 300, "background": 500}
    for name, n in sizes.items():
        own = events(n, rng, dataset=np.full(n, name), pt_1=np.arange(n) * 1.0)
        own = Table({k: v for k, v in own.columns.items() if k != "image"}, own.metadata)
        write_table(path / "tables" / f"{name}.parquet", own)
        order = rng.permutation(n)[: n if name == "data" else n // 2]
        losses = {"loss_background": own["pt_1"][order], "loss_near": np.zeros(len(order))}
        kept = {k: own[k][order] for k in ("dataset", "run", "luminosityBlock", "event", "mjj", "truth_signal")}
        scored = Table(
            {**kept, **losses, "fold": np.zeros(len(order), dtype=np.int64)}, {"axes": ["background", "near"]}
        )
        write_table(path / "scores" / f"{'data' if name == 'data' else 'calibration'}.parquet", scored)
    Regions("difference", 2, 1.0, 0.5, (((199.5, 99.5),),), axes=("background", "near")).save(path / "regions.json")
    if result:
        told = {
            "signal_shape": {},
            "observable": {"name": "mjj", "unit": "GeV", "label": "m"},
            "fit_range": {"edges": EDGES.tolist()},
            "regions": {"regions": [{"name": "near"}, {"name": "region <b>"}]},
            "configuration": {"blind": blind},
        }
        (path / "result.json").write_text(
            json.dumps({**dict.fromkeys(("hunch", "seed", "best", "scan", "notes", "cutflow")), **told})
        )
    return path


def test_an_output_is_joined_by_event_and_has_its_regions(tmp_path: Path, rng: np.random.Generator) -> None:
    out = output_folder(tmp_path / "out", rng)
    assert is_output(out)
    found = read_explored_output(out)
    assert (found.samples, np.bincount(found.sample).tolist()) == (("data", "calibration"), [300, 250])
    np.testing.assert_array_equal(found.columns["pt_1"], found.columns["loss_background"])  # of the same event
    assert found.regions == ("outside of the fit range", "in no region", "near", "region <b>")
    mass, loss = found.columns["mjj"].astype(float), found.columns["loss_background"]
    inside = (mass >= 2000) & (mass < 4000)
    expected = np.select([~inside, loss > 199.5, loss > 99.5], [0, 2, 3], 1)
    np.testing.assert_array_equal(found.region, expected)
    assert list(found.columns)[:3] == ["mjj", "loss_background", "loss_near"]
    assert "the configuration in result.json is none of this version: no score" in found.notes
    selected = found.selection(found.region == 2)
    assert set(selected["region"].tolist()) == {"near"}
    assert "truth_signal" not in selected
    np.testing.assert_array_equal(selected["pt_1"], selected["loss_background"])


@pytest.mark.parametrize(
    ("blind", "result", "why"),
    [(True, True, "the search is blind"), (None, True, "the search is blind"), (False, False, "no result.json yet")],
)
def test_data_of_a_blind_or_unfinished_search_stay_closed(
    blind: Any, result: bool, why: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    found = read_explored_output(output_folder(tmp_path / "out", rng, blind=blind, result=result))
    assert found.samples == ("calibration",)
    assert any(note.startswith("data left out") and why in note for note in found.notes)
    assert set(found.selection(np.ones(len(found), dtype=bool))["dataset"].tolist()) == {"background"}


def test_rows_are_found_by_what_tells_events_apart() -> None:
    stored = np.array([5, 7, 9, 7, 1], dtype=np.uint64)
    row, twice = rows_of(np.array([9, 7, 4, 1], dtype=np.uint64), stored)
    assert (row.tolist(), twice) == ([2, -1, -1, 4], 1)
    assert rows_of(stored, stored)[0].tolist() == [0, 1, 2, 3, 4]


@pytest.fixture
def nasty(tmp_path: Path, rng: np.random.Generator) -> Explored:
    """Return events of which everything is named by somebody who means harm."""
    own = {name: rng.normal(size=60) for name in NASTY_NAMES}
    parts = np.array([NASTY, "$$y$$"])[np.arange(60) % 2]
    path = tmp_path / "<b>t<b>.parquet"
    write_table(path, Table({"dataset": parts, **own}))
    return read_explored_table(path)


def test_names_of_others_are_text_and_nothing_else(nasty: Explored) -> None:
    document = Document()
    page = Page(nasty)
    page.add_to(document, 5000)
    page.say(f"failed: {NASTY}", kind="error")
    shown = [model.text for model in document.select({"type": Div})]
    assert any("&lt;script&gt;" in text for text in shown)
    assert any("&lt;b&gt;t&lt;b&gt;.parquet" in text for text in shown)
    assert not [text for text in shown if re.search(r"<(script|img|b)\b", text)]
    assert all(model.disable_math for model in document.select({"type": Div}))
    for plot in page.plots:
        for axis in (*plot.figure.xaxis, *plot.figure.yaxis):
            assert isinstance(axis.axis_label, PlainText)
    options = next(iter(document.select({"type": Select}))).options
    assert [value for value, _ in options] == list(NASTY_NAMES)
    assert options[3][1] == r"a\x1b[31mb"
    assert "http-equiv" in template(5000)
    assert "ws://127.0.0.1:5000" in template(5000)


def test_the_page_counts_filters_and_writes(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    page = Page(read_explored_table(table, columns=["mjj", "n_jet"]), export=out)
    first, second, plane = page.plots
    first.take_box((2000.0, 2300.0), (0.0, 1.0))
    kept = page.linked.passing()
    assert 0 < kept.sum() < 400
    assert second.bars.data["events"].sum() == kept.sum()
    assert first.bars.data["events"].sum() == 400  # its own brush takes nothing from it
    assert len(plane.points.data["x"]) == kept.sum()
    assert MOST_POINTS >= 400
    second.tap(3.1, 5.0)
    assert set(read_table(table)["n_jet"][page.linked.passing()]) == {3.0}
    second.tap(4.0, 5.0)
    assert set(read_table(table)["n_jet"][page.linked.passing()]) == {3.0, 4.0}
    second.tap(3.0, 5.0)
    page.samples.active = [1]
    keep = page.linked.passing()
    rows = read_table(table).select(keep)
    assert set(rows["n_jet"]) == {4.0}
    assert set(rows["dataset"]) == {"signal"}
    assert page.samples.labels[1] == f"signal  {keep.sum()}"
    page.write()
    assert f"{keep.sum()} of 400 events written to" in page.status.text
    np.testing.assert_array_equal(read_table(out)["event"], rows["event"])
    page.clear()
    page.samples.active = [0, 1]
    assert page.linked.selected().sum() == 400
    page.samples.active = []
    page.guarded(page.write)
    assert "no event is selected" in page.status.text


def test_plots_zoom_change_and_go(table: Path) -> None:
    page = Page(read_explored_table(table, columns=["mjj", "met"]))
    first, second = page.plots[:2]
    first.take_box((2100.0, 2300.0), (0.0, 1.0))
    kept = page.linked.passing()
    page.zoom(first)
    np.testing.assert_array_equal(page.linked.passing(), kept)
    edges = first.binning.axes[0].edges
    assert 2100 - 100 < edges[0] <= 2100
    assert 2300 <= edges[-1] < 2400
    page.zoom(first)
    assert page.linked.selected().sum() == 400
    assert "40 NaN" in page.cards[second.name].children[2].text
    page.cards[second.name].children[0].children[0].value = "n_jet"
    assert second.binning.axes[0].column == "n_jet"
    page.cards[second.name].children[0].children[0].value = "met"
    second.take_box((0.0, 50.0), (0.0, 1.0))
    page.remove(second)
    assert page.linked.selected().sum() == 400
    page.add_more(2)
    assert page.plots[-1].is_plane
    page.scale.active, page.heights.active = 1, 1
    assert page.plots[0].y_label().startswith("share")
    shares = [np.asarray(ys) for ys in page.plots[0].outlines.data["ys"]]
    assert all(0 < y.max() <= 1 for y in shares)
    while len(page.plots) < 16:
        page.add_more(1)
    page.guarded(lambda: page.add_more(1))
    assert "16 plots are the most" in page.status.text


@pytest.fixture
def served(table: Path) -> Iterator[str]:
    """Serve a page in a thread, and return its address."""
    found = read_explored_table(table)
    told: dict[str, Any] = {}
    ready = threading.Event()

    def began(address: str) -> None:
        told.update(address=address, loop=asyncio.get_event_loop())
        ready.set()

    thread = threading.Thread(target=lambda: serve(lambda d, port: Page(found).add_to(d, port), port=0, ready=began))
    thread.start()
    assert ready.wait(60)
    yield told["address"]
    told["loop"].call_soon_threadsafe(told["loop"].stop)
    thread.join(30)
    assert not thread.is_alive()


def test_the_server_is_for_this_machine_and_this_address(served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOKEH_RESOURCES", "cdn")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", served)
    with urllib.request.urlopen(served, timeout=60) as answer:
        html = answer.read().decode()
    sources = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert sources
    assert all(source.startswith(("/", "static/")) for source in sources)
    assert "cdn." not in html
    assert not re.search(r"https?://(?!127\.0\.0\.1|localhost)", html)
    port = int(served.split(":")[2].split("/", maxsplit=1)[0])
    with urllib.request.urlopen(served, timeout=60) as again:  # another visitor has a page of his own
        assert again.status == 200
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60)
    refused.value.close()
    with pytest.raises(OSError, match="refused"), socket.create_connection((own_address(), port), timeout=10):
        pass

    async def from_elsewhere(origin: str) -> None:
        token = re.search(r'"token":"([^"]+)"', html)
        assert token is not None
        request = HTTPRequest(served.replace("http", "ws") + "ws", headers={"Origin": origin})
        (await websocket_connect(request, subprotocols=["bokeh", token[1]])).close()

    with pytest.raises(HTTPClientError, match="403"):
        asyncio.run(from_elsewhere("http://example.org"))
    asyncio.run(from_elsewhere(f"http://127.0.0.1:{port}"))


def own_address() -> str:
    """Return an address of this machine that is not 127.0.0.1."""
    return "127.0.0.2"


def test_an_error_of_the_server_is_ours() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(HunchError, match="in use by another program"):
        serve(lambda *_: None, port=taken.getsockname()[1], ready=lambda _: None)
