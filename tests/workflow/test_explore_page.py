"""The page in a browser: real drags and clicks, what they filter, what they write, and what names of others do there."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunch.table import Table, read_table, write_table

pytestmark = pytest.mark.slow

HUNCH = (sys.executable, "-c", "from hunch.cli import main; main()")
NASTY = "<script>window.harmed = 1</script>"
IMAGE = "<img src=x onerror='window.harmed = 1'>"
FRAME = """(() => {{
  const view = [...all_views(Bokeh.index.roots)].find(v => v.model.name == "{name}" && v.frame);
  const at = view.el.getBoundingClientRect(), frame = view.frame.bbox;
  return [at.left + frame.left, at.top + frame.top, frame.width, frame.height];
}})()"""
VIEWS = """window.all_views = function* (views) {
  for (const view of views) { yield view; if (view.child_views) yield* all_views(view.child_views); }
}"""


@pytest.fixture
def browser() -> Iterator[Any]:
    """Start a browser; skip, or fail, where there is none."""
    place = Path(__file__).with_name("chromium.py")
    spec = importlib.util.spec_from_file_location("chromium_of_tests", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.Browser()
    yield found
    found.close()


@pytest.fixture
def page(tmp_path: Path, rng: np.random.Generator, heeds_interrupts: Callable[[], None]) -> Iterator[str]:
    """Explore a table with names of harm, give the address, and end it by Ctrl-C, which is 130."""
    n = 30_000
    columns = {"mjj": rng.normal(3000, 500, n), IMAGE: rng.normal(size=n), "$$x$$": rng.normal(size=n)}
    parts = np.array(["qcd", NASTY])[(np.arange(n) % 3 == 0).astype(int)]
    whole = Table({"dataset": parts, "event": np.arange(n, dtype=np.uint64), **columns, "truth_signal": np.ones(n)})
    write_table(tmp_path / "<b>t.parquet", whole)
    command = [*HUNCH, "explore", "<b>t.parquet", "--no-browser"]
    command += ["--port", "0", "--export", "s.parquet"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=heeds_interrupts,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            told = next((line for line in process.stdout if line.startswith("page: ")), "")
            assert told, process.stderr.read()
            yield told.split()[1]
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 130
        finally:
            process.kill()
        said = process.stderr.read()
        assert "Traceback" not in said
        assert "interrupted" in said


def numbers(labels: list[str]) -> list[int]:
    """Return how many events the labels of samples tell."""
    return [int(re.search(r"([\d,]+)$", label)[1].replace(",", "")) for label in labels]  # type: ignore[index]


def test_a_drag_filters_the_other_plots_and_the_selection_is_written(page: str, browser: Any, tmp_path: Path) -> None:
    whole = read_table(tmp_path / "<b>t.parquet")
    labels = "Bokeh.documents[0].get_model_by_name('samples').labels"

    def shown(plot: int) -> int:
        """Return how many events a histogram shows."""
        source = f"Bokeh.documents[0].get_model_by_name('plot {plot} bins').data.events"
        return int(browser.value(f"Array.from({source}).reduce((a, b) => a + b, 0)"))

    def frame(plot: int) -> list[float]:
        found: list[float] = browser.value(FRAME.format(name=f"plot {plot}"))
        return found

    browser.call("Page.navigate", url=page)
    browser.wait(
        f"window.Bokeh && {labels}.length == 2 && document.querySelector('.bk-Row') && Bokeh.index.roots.length"
    )
    browser.value(VIEWS)
    browser.wait(FRAME.format(name="plot 1"))
    assert numbers(browser.value(labels)) == [20_000, 10_000]
    every = shown(1), shown(2)
    # a drag over the first histogram: the second one follows, the first one does not
    left, top, width, height = frame(1)
    browser.drag((left + 0.4 * width, top + 0.5 * height), (left + 0.6 * width, top + 0.6 * height))
    browser.wait(f"{labels}[0] != 'qcd  20,000'")
    first = sum(numbers(browser.value(labels)))
    assert 0 < first < 25_000
    assert (shown(1), every[0] >= first) == (every[0], True)
    browser.wait("true")
    assert every[1] > shown(2) >= first - 100
    # a click on one bin of the second histogram
    left, top, width, height = frame(2)
    browser.click(left + 0.5 * width, top + 0.5 * height)
    browser.wait(f"{labels}.map(l => +l.split('  ').pop().replace(/,/g, '')).reduce((a, b) => a + b) < {first}")
    both = numbers(browser.value(labels))
    # the selection is written where the command line said
    place = browser.value(BUTTON)
    browser.click(*place)
    said = browser.wait("(t => t.includes('written to') && t)(Bokeh.documents[0].get_model_by_name('status').text)")
    assert f"{sum(both):,} of 30,000 events written to s.parquet" in said
    written = read_table(tmp_path / "s.parquet")
    assert len(written) == sum(both)
    assert "truth_signal" not in written
    names, counts = np.unique(written["sample"], return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {"qcd": both[0], NASTY: both[1]}
    rows = written["event"].astype(np.int64)
    for name in ("mjj", IMAGE):
        np.testing.assert_array_equal(written[name], whole[name][rows])
    edges = written["mjj"].min(), written["mjj"].max()
    chosen = (whole["mjj"] >= edges[0]) & (whole["mjj"] <= edges[1])
    other = written[IMAGE].min(), written[IMAGE].max()
    chosen &= (whole[IMAGE] >= other[0]) & (whole[IMAGE] <= other[1])
    assert chosen.sum() == len(written)  # whole bins, all of their events
    # nothing that files are named did anything, and nothing came from elsewhere
    assert browser.value("window.harmed === undefined")
    assert browser.said == []
    elsewhere = [url for url in browser.asked if not re.match(r"(http|ws)://127\.0\.0\.1:\d+/|data:|blob:", url)]
    assert elsewhere == []
    if os.environ.get("HUNCH_SCREENSHOT"):
        browser.screenshot(Path(os.environ["HUNCH_SCREENSHOT"]))


BUTTON = """(() => {
  const view = [...all_views(Bokeh.index.roots)].find(v => v.model.label == "Write selection");
  view.el.scrollIntoView({block: "center"});
  const at = view.el.getBoundingClientRect();
  return [at.left + at.width / 2, at.top + at.height / 2];
})()"""
"""The middle of the button, in the window."""
