"""What all figures share: colours, the style, the axes that are drawn on, names shown as they are, and files.

A function of one axis takes `ax` and returns it, a function of several takes `figure` and returns it; without one they draw
on a new figure in mplhep's CMS style. The caller's own axes keep the caller's style.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import mplhep
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.legend import Legend

from ...errors import printable
from ...files import write_aside

__all__ = ["COLOURS", "INK", "literal", "on_axes", "on_figure", "save_figure", "style"]

COLOURS = ("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadb")
INK = "#1a1a1a"
LONGEST = 40  # characters of a name: a legend of two columns holds twice as many


@contextmanager
def style() -> Iterator[None]:
    """Use mplhep's CMS style, smaller, for the figures drawn inside and no others."""
    # a font that every matplotlib has, for text and mathematics: no fallback notices, the same figure everywhere
    fonts: dict[str, Any] = {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "mathtext.fontset": "dejavusans",
        "text.usetex": False,  # TeX would read every name as a program
    }
    small: dict[str, Any] = {
        "font.size": 13,
        "axes.labelsize": 14,
        "legend.fontsize": 11,
        "figure.constrained_layout.use": True,
        "axes.titlesize": 13,
    }
    settings: Any = {k: v for k, v in mplhep.style.CMS.items() if v is not None and k in mpl.rcParams}
    settings |= {**fonts, **small, "xtick.labelsize": 12, "ytick.labelsize": 12}
    with mpl.rc_context(settings):
        yield


@contextmanager
def on_axes(ax: Axes | None, size: tuple[float, float]) -> Iterator[Axes]:
    """Give the axes to draw on: the caller's as they are, else those of a new figure, inches wide and high, in our style."""
    if ax is not None:
        yield ax
        return
    with style():
        yield Figure(figsize=size).subplots()


@contextmanager
def on_figure(figure: Figure | SubFigure | None, size: tuple[float, float]) -> Iterator[Figure | SubFigure]:
    """Give the figure to draw on: the caller's as it is, else a new one, inches wide and high, in our style."""
    if figure is not None:
        yield figure
        return
    with style():
        yield Figure(figsize=size)


def literal(name: str) -> str:
    """Return a name that somebody else gave so that matplotlib shows it letter by letter, no `$` begins mathematics.

    Characters that cannot be seen are written out, the middle of a name of more than 40 characters is left out. A legend
    leaves out labels that start with an underscore: these get a space before it.
    """
    shown = printable(name, limit=LONGEST)
    return (" " if shown.startswith("_") else "") + shown.replace("$", r"\$")


def save_figure(drawn: Axes | Figure | SubFigure, folder: str | Path, name: str) -> list[Path]:
    """Write a figure, or the one that axes belong to, as NAME.pdf and NAME.png, aside and renamed."""
    figure = drawn.figure if isinstance(drawn, Axes) else drawn
    while isinstance(figure, SubFigure):
        figure = figure.figure
    for legend in figure.findobj(Legend):
        legend.set_in_layout(False)  # a legend of long names would squeeze its axes to nothing
    paths = []
    for suffix in (".pdf", ".png"):
        path = Path(folder) / f"{name}{suffix}"
        with write_aside(path) as aside:
            # no creation date: the same result gives the same file
            figure.savefig(aside, dpi=130, metadata={"CreationDate": None} if suffix == ".pdf" else None)
        paths.append(path)
    return paths
