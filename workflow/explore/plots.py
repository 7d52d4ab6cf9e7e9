"""The plots of the page: a histogram of a column, a plane of two; each gets counts and gives bins that were brushed.

Names come from files: they are only ever text of the page, never its markup, nor the mathematics that bokeh sets between dollar signs.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
from bokeh.events import DoubleTap, SelectionGeometry, Tap
from bokeh.models import (
    BasicTickFormatter,
    BoxSelectTool,
    ColumnDataSource,
    HoverTool,
    LinearColorMapper,
    LogColorMapper,
    PlainText,
    Range1d,
)
from bokeh.palettes import Blues256
from bokeh.plotting import figure

from ...analysis.figures.base import COLOURS, INK
from ...errors import printable
from .binning import Binning, Bools, axis_of, bin_events
from .explored import Explored

__all__ = ["MOST_POINTS", "PLANE_BINS", "Plot", "labelled", "rectangles"]

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

PLANE_BINS = 60
"""Bins of each axis of a plane."""
MOST_POINTS = 2_000
"""Events that a plane shows as points; more are counted in its bins."""
WIDTH, HEIGHT = 350, 240
"""Of a figure, in pixels."""
LONGEST = 40
"""Characters of a name that fit beside an axis."""
BRUSH = "#e76300"
GRID = "#ececec"
PALETTE = tuple(reversed(Blues256[:216]))
"""From pale, which a single event still is seen in, to dark."""


def labelled(column: str, unit: str) -> str:
    """Return the label of a column with its unit, as it is shown.

    >>> labelled("pt_1", "GeV"), labelled("n_jet", "")
    ('pt_1 [GeV]', 'n_jet')
    """
    name = printable(column, limit=LONGEST)
    return f"{name} [{printable(unit, limit=LONGEST)}]" if unit else name


def rectangles(chosen: Bools) -> list[tuple[int, int, int, int]]:
    """Return bins of a plane (x, y) as rectangles from and to bins, the last ones exclusive: (x0, x1, y0, y1), none of which overlap.

    >>> rectangles(np.array([[True, True], [True, True], [False, True]]))
    [(0, 2, 0, 1), (0, 3, 1, 2)]
    """
    found: list[tuple[int, int, int, int]] = []
    open_runs: dict[tuple[int, int], int] = {}
    for y in range(chosen.shape[1] + 1):
        runs = [] if y == chosen.shape[1] else runs_of(chosen[:, y])
        found += [(*run, open_runs.pop(run), y) for run in list(open_runs) if run not in runs]
        for run in runs:
            open_runs.setdefault(run, y)
    return sorted(found, key=lambda r: (r[2], r[0]))


def runs_of(chosen: Bools) -> list[tuple[int, int]]:
    """Return the runs of neighbours that are chosen, (from, to), the last exclusive."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


class Plot:
    """A histogram of a column, or a plane of two, with the bins that were brushed in it, None where all are.

    number: its place among those that were ever made, of which its name as a filter is made; log: whether counts are on a logarithmic
    axis, or colours; shapes: whether each sample's counts are shares of its own; changed: called when bins were brushed.
    """

    def __init__(self, number: int, of: Explored, columns: tuple[str, ...], changed: Any) -> None:
        self.name = f"plot {number}"
        self.of = of
        self.changed = changed
        self.brush: Bools | None = None
        self.binning = self.binned(columns)
        self.zoomed = False
        self.log = self.shapes = False
        self.draw()

    @property
    def is_plane(self) -> bool:
        """Whether it has two axes."""
        return len(self.binning.axes) > 1

    def binned(self, columns: tuple[str, ...], spans: tuple[tuple[float, float] | None, ...] = (None, None)) -> Binning:
        """Return all events in the bins of columns, over their whole ranges or over spans."""
        values = tuple(self.of.columns[name] for name in columns)
        bins = {} if len(columns) == 1 else {"bins": PLANE_BINS}
        axes = tuple(axis_of(n, v, span=s, **bins) for n, v, s in zip(columns, values, spans, strict=False))
        return bin_events(axes, values)

    def choose(self, columns: tuple[str, ...]) -> None:
        """Show other columns, nothing brushed in them."""
        self.brush, self.zoomed, self.binning = None, False, self.binned(columns)
        self.draw()

    def zoom(self) -> None:
        """Show the range that is brushed alone, in finer bins, all of them brushed; the whole range where that is all, or nothing is."""
        columns = tuple(axis.column for axis in self.binning.axes)
        if self.brush is None or self.brush.all():
            self.choose(columns)
            return
        chosen = self.brush.reshape(self.binning.shape)
        spans = []
        for k, axis in enumerate(self.binning.axes):
            own = np.flatnonzero(chosen if chosen.ndim == 1 else chosen.any(axis=1 - k))
            spans.append((float(axis.edges[own[0]]), float(axis.edges[own[-1] + 1])))
        self.binning, self.zoomed = self.binned(columns, tuple(spans)), True
        self.brush = np.ones(self.binning.bins, dtype=np.bool_)
        self.draw()

    def passing(self) -> Bools | None:
        """Return which codes (codes,) the brush lets pass, None where nothing is brushed."""
        if self.brush is None:
            return None
        return np.concatenate([self.brush, np.zeros(self.binning.all_codes - self.binning.bins, dtype=np.bool_)])

    def set_brush(self, brush: Bools | None) -> None:
        """Take bins (bins,) as brushed, none of them or None for no brush, and tell who is to know."""
        self.brush = brush if brush is not None and brush.any() else None
        self.changed(self)

    def take_box(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        """Brush the bins that a box touches."""
        touched = [axis.touched(*span) for axis, span in zip(self.binning.axes, (x, y), strict=False)]
        self.set_brush(touched[0] if len(touched) == 1 else np.outer(*touched).ravel())

    def tap(self, x: float, y: float) -> None:
        """Add the bin at a place to the brush, or take it away from it."""
        at = [axis.at(value) for axis, value in zip(self.binning.axes, (x, y), strict=False)]
        if None in at:
            return
        code = at[0] if len(at) == 1 else int(np.ravel_multi_index(at, self.binning.shape))  # type: ignore[arg-type]
        brush = np.zeros(self.binning.bins, dtype=np.bool_) if self.brush is None else self.brush.copy()
        brush[code] = not brush[code]
        self.set_brush(brush)

    def lost(self, counts: Counts) -> str:
        """Say how many events that the other filters let pass are in no bin, of counts (groups, all codes)."""
        nan, below, above = (int(n) for n in counts[:, self.binning.bins :].sum(axis=0))
        outside = [(below + above, "outside of the range")] if self.is_plane else [(below, "below"), (above, "above")]
        return ", ".join(f"{n:,} {what}" for n, what in ((nan, "NaN"), *outside) if n)

    def draw(self) -> None:
        """Make the figure anew, empty, for the axes and scales as they are."""
        kind = {"y_axis_type": "log"} if self.log and not self.is_plane else {}
        x = self.binning.axes[0]
        ends = [Range1d(float(axis.edges[0]), float(axis.edges[-1])) for axis in self.binning.axes]
        y_range = ends[1] if self.is_plane else Range1d(0.0, 1.0)
        fig = figure(
            width=WIDTH, height=HEIGHT, tools="", toolbar_location=None, x_range=ends[0], y_range=y_range, **kind
        )
        fig.name = self.name
        box = BoxSelectTool(dimensions="both" if self.is_plane else "width", renderers=[])
        fig.add_tools(box)
        fig.toolbar.active_drag = box
        fig.xaxis.axis_label = PlainText(text=labelled(x.column, self.of.units.get(x.column, "")))
        fig.yaxis.axis_label = PlainText(text=self.y_label())
        for axis in (fig.xaxis, fig.yaxis):
            axis.axis_label_text_font_style = "normal"
            axis.axis_label_text_color = axis.major_label_text_color = INK
            axis.minor_tick_line_color = None
        linear = fig.xaxis if self.log and not self.is_plane else [*fig.xaxis, *fig.yaxis]
        for axis in linear:
            axis.formatter = BasicTickFormatter(power_limit_high=6, power_limit_low=-4)
        fig.grid.grid_line_color = GRID
        fig.outline_line_color = "#c8c8c8"
        self.figure = fig
        self.brushed = ColumnDataSource({"left": [], "right": [], "bottom": [], "top": []})
        (self.draw_plane if self.is_plane else self.draw_histogram)(fig)
        fig.on_event(SelectionGeometry, self.on_box)
        fig.on_event(Tap, lambda event: self.tap(event.x, event.y))
        fig.on_event(DoubleTap, lambda _: self.set_brush(None))

    def y_label(self) -> str:
        """Return the label of the vertical axis: the second column, or events a bin with its width."""
        if self.is_plane:
            name = self.binning.axes[1].column
            return labelled(name, self.of.units.get(name, ""))
        axis = self.binning.axes[0]
        width, unit = axis.edges[1] - axis.edges[0], self.of.units.get(axis.column, "")
        return f"{'share' if self.shapes else 'events'} / {width:.3g} {printable(unit, limit=LONGEST)}".rstrip()

    def spans(self) -> list[str]:
        """Return the bins of a histogram in words, with the unit."""
        axis = self.binning.axes[0]
        unit = printable(self.of.units.get(axis.column, ""), limit=LONGEST)
        edges = [f"{edge:.6g}" for edge in axis.edges]
        return [f"{low} to {high} {unit}".rstrip() for low, high in itertools.pairwise(edges)]

    def draw_histogram(self, fig: Any) -> None:
        """Prepare the outline of each sample, the strips of the brush, and what the pointer shows of a bin."""
        self.outlines = ColumnDataSource({"xs": [], "ys": [], "colour": []})
        self.bars = ColumnDataSource(
            {"left": [], "right": [], "top": [], "bottom": [], "events": [], "span": []}, name=f"{self.name} bins"
        )
        fig.vstrip(x0="left", x1="right", source=self.brushed, fill_color=BRUSH, fill_alpha=0.16, line_color=None)
        fig.patches(
            "xs",
            "ys",
            source=self.outlines,
            fill_color="colour",
            line_color=None,
            fill_alpha=0.25 if len(self.of.samples) == 1 else 0.1,
        )
        fig.multi_line("xs", "ys", source=self.outlines, line_color="colour", line_width=1.6)
        bars = fig.quad("left", "right", "top", "bottom", source=self.bars, fill_alpha=0, line_alpha=0)
        fig.add_tools(HoverTool(renderers=[bars], tooltips=[("", "@span"), ("events", "@events{0,0}")]))

    def draw_plane(self, fig: Any) -> None:
        """Prepare the counts as colours, the points of few events, and the boxes of the brush."""
        self.cells = ColumnDataSource({"image": []}, name=f"{self.name} bins")
        self.points = ColumnDataSource({"x": [], "y": [], "colour": []})
        self.mapper = (LogColorMapper if self.log else LinearColorMapper)(
            palette=PALETTE, nan_color="#00000000", low=0, high=1
        )
        x, y = (axis.edges for axis in self.binning.axes)
        fig.image(
            "image", source=self.cells, x=x[0], y=y[0], dw=x[-1] - x[0], dh=y[-1] - y[0], color_mapper=self.mapper
        )
        fig.scatter("x", "y", source=self.points, color="colour", size=4, alpha=0.7, line_color=None)
        fig.quad(
            "left", "right", "top", "bottom", source=self.brushed, fill_color=BRUSH, fill_alpha=0.12, line_color=BRUSH
        )

    def on_box(self, event: Any) -> None:
        """Take a box that was drawn to its end."""
        if event.final and event.geometry.get("type") == "rect":
            at = event.geometry
            self.take_box((at["x0"], at["x1"]), (at["y0"], at["y1"]))

    def show(self, counts: Counts, points: tuple[Floats, Floats, npt.NDArray[np.uint8]] | None = None) -> None:
        """Show counts (groups, all codes) of the events that the other filters let pass; points: few of a plane, x, y and sample."""
        inside = counts[:, : self.binning.bins]
        if self.is_plane:
            self.show_plane(inside.sum(axis=0), points)
        else:
            self.show_histogram(inside)

    def show_histogram(self, counts: Counts) -> None:
        """Show the counts (groups, bins), each group with events as an outline, and the brush."""
        edges = self.binning.axes[0].edges
        totals = counts.sum(axis=1)
        shown = [k for k in range(len(counts)) if totals[k]]
        heights = counts / np.maximum(totals, 1)[:, None] if self.shapes else counts.astype(np.float64)
        highest = float(heights.max(initial=0.0))
        smallest = 0.5 / max(float(totals.max(initial=1)), 1.0) if self.shapes else 0.5
        bottom = smallest if self.log else 0.0
        top = (max(highest, 2 * smallest) ** 1.1 / bottom**0.1 if self.log else 1.08 * highest) or 1.0
        self.figure.y_range.update(start=bottom, end=top)
        around = np.repeat(edges, 2)
        ys = [np.concatenate([[bottom], np.repeat(np.maximum(heights[k], bottom), 2), [bottom]]) for k in shown]
        self.outlines.data = {"xs": [around] * len(shown), "ys": ys, "colour": [COLOURS[k] for k in shown]}
        ends = np.full(len(edges) - 1, top)
        self.bars.data = {
            "left": edges[:-1],
            "right": edges[1:],
            "top": ends,
            "bottom": np.full(len(ends), bottom),
            "events": counts.sum(axis=0),
            "span": self.spans(),
        }
        runs = [] if self.brush is None else runs_of(self.brush)
        self.brushed.data = {
            "left": [edges[a] for a, _ in runs],
            "right": [edges[b] for _, b in runs],
            "bottom": [bottom] * len(runs),
            "top": [top] * len(runs),
        }

    def show_plane(self, counts: Counts, points: tuple[Floats, Floats, npt.NDArray[np.uint8]] | None) -> None:
        """Show the counts (bins,) as colours, or the points where they are given, and the brush."""
        x, y = (axis.edges for axis in self.binning.axes)
        image = counts.reshape(self.binning.shape).T.astype(np.float32)
        self.mapper.update(low=1 if self.log else 0, high=max(2.0, float(counts.max(initial=0))))
        self.cells.data = {
            "image": [np.where(image > 0, image, np.nan) if points is None else np.full_like(image, np.nan)]
        }
        none = np.empty(0), np.empty(0), np.empty(0, dtype=np.uint8)
        a, b, sample = none if points is None else points
        self.points.data = {"x": a, "y": b, "colour": [COLOURS[k] for k in sample]}
        boxes = [] if self.brush is None else rectangles(self.brush.reshape(self.binning.shape))
        self.brushed.data = {
            "left": [x[r[0]] for r in boxes],
            "right": [x[r[1]] for r in boxes],
            "bottom": [y[r[2]] for r in boxes],
            "top": [y[r[3]] for r in boxes],
        }
