"""The page: its plots side by side, the samples and regions to choose from, what is selected, and the selection's file."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.models import Button, CheckboxGroup, Column, Div, InlineStyleSheet, RadioButtonGroup, Row, Select
from markupsafe import Markup, escape

from ...analysis.figures.base import COLOURS
from ...errors import HunchError, printable
from ...files import write_reason
from ...table import write_table
from .binning import Codes
from .explored import Explored
from .linked import Linked
from .plots import MOST_POINTS, Plot

__all__ = ["MOST_PLOTS", "Page", "template"]

log = logging.getLogger(__name__)

MOST_PLOTS = 16
SIDE = 230
"""Width of the column beside the plots, in pixels."""
SNUG = (2, 2, 4, 2)
"""Margins of what stands above a plot, in pixels."""
LONGEST = 26
"""Characters of a name that fit beside a box to tick."""
STYLE = """
body { margin: 0; background: #f6f7f8; font-family: "DejaVu Sans", Helvetica, Arial, sans-serif; }
"""
CARD = {
    "background": "#ffffff",
    "border": "1px solid #dfe3e6",
    "border-radius": "6px",
    "padding": "8px",
    "margin": "0 10px 10px 0",
}
TEXT = """
    :host { font-size: 13px; color: #1a1a1a; }
    h1 { font-size: 16px; margin: 0 0 4px 0; } h2 { font-size: 13px; margin: 8px 0 0 0; } p { margin: 2px 0; }
    .source, .note { color: #5a6167; font-size: 12px; overflow-wrap: anywhere; } .number { font-size: 20px; font-weight: bold; }
    .error { color: #bd1f01; overflow-wrap: anywhere; }
"""


def template(port: int) -> str:
    """Return the frame of the page, which lets the browser load and speak to nothing but this address."""
    own = f"'self' http://127.0.0.1:{port} ws://127.0.0.1:{port} http://localhost:{port} ws://localhost:{port}"
    policy = f"default-src {own} 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'"
    return (
        "{% block preamble %}"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><meta name="referrer" content="no-referrer">'
        f"<style>{STYLE}</style>"
        "{% endblock %}"
    )


def text(content: str | Markup, **options: Any) -> Div:
    """Return a piece of text; what is no markup is escaped, and dollar signs are no mathematics."""
    return Div(text=str(escape(content)), disable_math=True, stylesheets=[InlineStyleSheet(css=TEXT)], **options)


def names_with_counts(names: Sequence[str], chosen: np.ndarray[Any, Any]) -> list[str]:
    """Return names with how many events of each are selected."""
    return [f"{printable(name, limit=LONGEST)}  {int(n):,}" for name, n in zip(names, chosen, strict=True)]


class Page:
    """The page of one visitor: its plots and filters; the events are shared by all."""

    def __init__(self, of: Explored, *, export: Path | None = None) -> None:
        self.of = of
        self.export = export
        self.linked = Linked(of.sample, len(of.samples))
        self.sample_codes: Codes = of.sample.astype(np.uint16)
        self.plots: list[Plot] = []
        self.cards: dict[str, Column] = {}
        self.made = 0
        self.heading = text("", width=SIDE)
        self.status = text("", width=SIDE, name="status")
        self.samples = self.boxes(of.samples, "samples", self.sample_codes, coloured=True)
        self.regions = self.boxes(of.regions, "regions", of.region)
        self.scale = RadioButtonGroup(labels=["linear", "logarithmic"], active=0, width=SIDE, name="scale")
        self.heights = RadioButtonGroup(labels=["events", "shapes"], active=0, width=SIDE, name="heights")
        for buttons in (self.scale, self.heights):
            buttons.on_change("active", lambda _, __, ___: self.redraw())
        self.board = Row(children=[], styles={"flex-wrap": "wrap"}, sizing_mode="stretch_width")
        for name in of.first:
            self.add((name,))
        for pair in of.pairs:
            self.add(pair)
        self.update()

    def add_to(self, document: Document, port: int) -> None:
        """Put the page on a document."""
        document.title = f"hunch explore: {printable(self.of.source, limit=80)}"
        document.template = template(port)
        document.add_root(
            Row(children=[self.side(), self.board], sizing_mode="stretch_width", styles={"padding": "10px"})
        )

    def side(self) -> Column:
        """Return the column beside the plots."""
        more = text(Markup("").join(Markup('<p class="note">{}</p>').format(n) for n in self.of.notes), width=SIDE)
        parts: list[Any] = [self.heading]
        if len(self.of.samples) > 1:
            parts += [text(Markup("<h2>Samples</h2>"), width=SIDE), self.samples]
        if self.of.regions:
            parts += [text(Markup("<h2>Regions</h2>"), width=SIDE), self.regions]
        parts += [text(Markup("<h2>Counts</h2>"), width=SIDE), self.scale]
        if len(self.of.samples) > 1:
            parts.append(self.heights)
        parts += [
            self.button("Clear all brushes", self.clear),
            Row(
                children=[
                    self.button("Add histogram", partial(self.add_more, 1), width=SIDE // 2 - 5),
                    self.button("Add scatter plot", partial(self.add_more, 2), width=SIDE // 2 - 5),
                ]
            ),
        ]
        if self.export is not None:
            parts.append(self.button("Write selection", self.write, button_type="primary"))
        return Column(
            children=[*parts, self.status, more], width=SIDE + 20, styles={**CARD, "align-self": "flex-start"}
        )

    def button(self, label: str, pressed: Callable[[], None], *, width: int = SIDE, **options: Any) -> Button:
        """Return a button."""
        button = Button(label=label, width=width, **options)
        button.on_click(lambda: self.guarded(pressed))
        return button

    def boxes(self, names: Sequence[str], what: str, codes: Codes, *, coloured: bool = False) -> CheckboxGroup:
        """Return boxes to tick, one for each name, that let the events of those names pass."""
        mark = "content: ''; display: inline-block; width: 10px; height: 10px; margin-right: 5px; border-radius: 2px;"
        colours = [
            f"label:nth-of-type({k + 1}) span::before {{ {mark} background: {COLOURS[k]}; }}" for k in range(len(names))
        ]
        group = CheckboxGroup(
            labels=[printable(name, limit=LONGEST) for name in names],
            active=list(range(len(names))),
            width=SIDE,
            name=what,
            stylesheets=[InlineStyleSheet(css=":host { font-size: 13px; } " + " ".join(colours if coloured else []))],
        )

        def ticked(_: str, __: object, ___: object) -> None:
            passing = np.zeros(len(names), dtype=np.bool_)
            passing[group.active] = True
            self.guarded(lambda: self.linked.restrict(what, codes, passing))
            self.update()

        group.on_change("active", ticked)
        return group

    def add(self, columns: tuple[str, ...]) -> None:
        """Add a plot of one column, or of two."""
        self.made += 1
        plot = Plot(self.made, self.of, columns, self.brushed)
        plot.log, plot.shapes = self.scale.active == 1, self.heights.active == 1
        plot.draw()
        self.plots.append(plot)
        self.cards[plot.name] = self.card(plot)
        self.board.children = [*self.board.children, self.cards[plot.name]]

    def add_more(self, axes: int) -> None:
        """Add a plot of the first columns that no other plot of its kind shows."""
        if len(self.plots) >= MOST_PLOTS:
            raise HunchError(f"{MOST_PLOTS} plots are the most; take one away")
        shown = {axis.column for plot in self.plots for axis in plot.binning.axes if len(plot.binning.axes) == axes}
        left = [name for name in self.of.columns if name not in shown] + [
            name for name in self.of.columns if name in shown
        ]
        self.add(tuple((left * axes)[:axes]))
        self.update()

    def card(self, plot: Plot) -> Column:
        """Return a plot with what chooses its columns above and its events without a bin below."""
        options = [(name, printable(name, limit=LONGEST)) for name in self.of.columns]
        width = 200 if len(plot.binning.axes) == 1 else 97
        selects = [
            Select(value=axis.column, options=options, width=width, margin=SNUG, name=f"{plot.name} column {k}")
            for k, axis in enumerate(plot.binning.axes)
        ]

        def chosen(_: str, __: object, ___: object) -> None:
            self.linked.release(plot.name)
            plot.choose(tuple(select.value for select in selects))
            self.put_anew(plot)
            self.update()

        for select in selects:
            select.on_change("value", chosen)
        buttons = [
            self.button("zoom", partial(self.zoom, plot), width=52, margin=SNUG),
            self.button("clear", partial(plot.set_brush, None), width=48, margin=SNUG),
            self.button("×", partial(self.remove, plot), width=28, margin=SNUG),
        ]
        lost = text("", width=340, height=16, margin=(0, 5, 0, 5), css_classes=["lost"])
        return Column(
            children=[Row(children=[*selects, *buttons]), plot.figure, lost], styles=CARD, name=f"{plot.name} card"
        )

    def put_anew(self, plot: Plot) -> None:
        """Put the new figure of a plot in the place of its old one."""
        card = self.cards[plot.name]
        card.children = [card.children[0], plot.figure, card.children[2]]

    def remove(self, plot: Plot) -> None:
        """Take a plot away, and its brush."""
        self.linked.release(plot.name)
        self.plots.remove(plot)
        gone = self.cards.pop(plot.name)
        self.board.children = [card for card in self.board.children if card is not gone]
        self.update()

    def zoom(self, plot: Plot) -> None:
        """Show the brushed range of a plot alone, or the whole one again."""
        plot.zoom()
        self.put_anew(plot)
        self.brushed(plot)

    def brushed(self, plot: Plot) -> None:
        """Filter all other plots by what was brushed in one."""
        self.guarded(lambda: self.linked.restrict(plot.name, plot.binning.codes, plot.passing()))
        self.update()

    def clear(self) -> None:
        """Take every brush away."""
        for plot in self.plots:
            plot.brush = None
            self.linked.release(plot.name)
        self.update()

    def redraw(self) -> None:
        """Draw every plot anew, with the scales that are chosen."""
        for plot in self.plots:
            plot.log, plot.shapes = self.scale.active == 1, self.heights.active == 1
            plot.draw()
            self.put_anew(plot)
        self.update()

    def update(self) -> None:
        """Count the events that pass, and show them in every plot and beside every name."""
        begin = time.perf_counter()
        for plot in self.plots:
            counts = self.linked.counts(plot.binning, plot.name)
            plot.show(counts, self.points(plot, int(counts[:, : plot.binning.bins].sum())))
            lost = self.cards[plot.name].children[2]
            lost.text = str(escape(plot.lost(counts)))
        seconds = time.perf_counter() - begin
        chosen = self.linked.selected()
        self.samples.labels = names_with_counts(self.of.samples, chosen)
        if self.of.regions:
            inside = np.bincount(self.of.region[self.linked.passing()], minlength=len(self.of.regions))
            self.regions.labels = names_with_counts(self.of.regions, inside)
        told = Markup(
            '<h1>hunch explore</h1><p class="source">{}</p><p><span class="number">{:,}</span> of {:,} events selected</p>'
        )
        self.heading.text = str(told.format(printable(self.of.source), int(chosen.sum()), len(self.of)))
        self.heading.text += f'<p class="note">unweighted; counted in {1000 * seconds:.0f} ms</p>'

    def points(self, plot: Plot, events: int) -> Any:
        """Return the events that a plane shows as points, x, y and sample, None where they are too many."""
        if not plot.is_plane or not 0 < events <= MOST_POINTS:
            return None
        rows = np.flatnonzero(self.linked.passing(plot.name) & (plot.binning.codes < plot.binning.bins))
        x, y = (self.of.columns[axis.column][rows].astype(np.float64) for axis in plot.binning.axes)
        return x, y, self.of.sample[rows]

    def guarded(self, action: Callable[[], None]) -> None:
        """Do something; what a user can get wrong is said on the page."""
        try:
            action()
        except HunchError as error:
            self.say(str(error), kind="error")
        except OSError as error:
            self.say(f"{error.filename or self.export}: {write_reason(error)}", kind="error")

    def say(self, message: str, *, kind: str = "") -> None:
        """Say something on the page, and in the log."""
        (log.warning if kind else log.info)("%s", message)
        self.status.text = str(Markup('<p class="{}">{}</p>').format(kind, printable(message)))

    def write(self) -> None:
        """Write the selected events to the file that the command line named."""
        if self.export is None:
            return
        selected = self.of.selection(self.linked.passing())
        write_table(self.export, selected)
        self.say(
            f"{len(selected):,} of {len(self.of):,} events written to {self.export}, {len(selected.columns)} columns"
        )
