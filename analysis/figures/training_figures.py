"""How trainings went: their figures against the epoch, and what a model drew along the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ...errors import InputError
from ..checks.training_signs import TrainingRecord
from .base import COLOURS, INK, literal, on_figure, save_figure

__all__ = ["draw_negatives", "draw_trainings", "negatives_figure", "training_figure"]

Floats = npt.NDArray[np.float64]
STYLES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")
SHOWN = 8  # images of a row
DARKEST, TINY = 1e-4, 1e-300  # smallest share of pT that is told from nothing; of a sum that is divided by
GAP = 2  # pixels between images
WIDTH, ROW, LINE, EDGES = 8.0, 1.55, 0.28, 0.6  # inches; LINE: of the legend
COLUMNS = 4  # of the legend
NAMED = 12  # trainings in the legend


@dataclass(frozen=True)
class Panel:
    """One panel: what its axis is called, the figures in it with their words, and levels that are drawn."""

    label: str
    figures: Mapping[str, str]
    levels: tuple[float, ...] = field(default=())


PANELS = (
    Panel("energy [$E_0$]", {"positive": "data", "negative": "negatives"}),
    Panel("gap [$E_0$]", {"gap": ""}, (0.0,)),
    Panel("acceptance", {"latent_acceptance": "latent chain", "input_acceptance": "chain of inputs"}, (0.0, 1.0)),
    Panel("latent move\n[rad]", {"latent_displacement": ""}),
    Panel("move of inputs\n[$\\sqrt{E_0}$]", {"input_displacement": ""}),
    Panel(
        "Wasserstein\n[data to data]", {"wasserstein": "of the epoch", "wasserstein_mean": "mean of the last"}, (1.0,)
    ),
    Panel("alignment", {"alignment": ""}, (0.0,)),
    Panel("separation", {"separation": ""}, (0.0,)),
    Panel("uniformity", {"uniformity": ""}, (0.0,)),
    Panel("effective rank", {"rank": ""}, (1.0,)),
)
"""The panels of the figures that a normalised autoencoder and a contrastive encoder note; any other figure has a panel of its own name."""


def training_figure(
    records: Sequence[TrainingRecord], *, figure: Figure | SubFigure | None = None
) -> Figure | SubFigure:
    """Draw the figures of trainings against the epoch, a panel each, a colour a training.

    A dot marks the chosen epoch, a triangle at the upper edge an epoch that diverged and was taken back. Raises InputError where there is nothing to draw.
    """
    panels = panels_of(records)
    if not panels:
        raise InputError("training figure: no figures of epochs; a record with 'monitor' is needed")
    named = _handles(records)
    lines = -(-len(named) // COLUMNS)
    heights = [LINE * lines, *(ROW for _ in panels)]
    with on_figure(figure, (WIDTH, sum(heights) + EDGES)) as drawn:
        above, *grid = list(drawn.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0])
        above.set_axis_off()
        above.legend(handles=named, loc="center", ncols=COLUMNS, frameon=False, fontsize=10)
        for axes, panel in zip(grid, panels, strict=True):
            _panel(axes, panel, records)
            axes.sharex(grid[0])
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.tick_params(labelbottom=axes is grid[-1])
        grid[-1].set_xlabel("epoch")
        drawn.align_ylabels(grid)
    return drawn


def panels_of(records: Sequence[TrainingRecord]) -> list[Panel]:
    """Return the panels of the figures that any of the records has, those that are known first."""
    noted = list(dict.fromkeys(name for record in records for name in record.figures))
    known = [panel for panel in PANELS if panel.figures.keys() & set(noted)]
    own = {name for panel in known for name in panel.figures}
    return [*known, *(Panel(literal(name.replace("_", " ")), {name: ""}) for name in noted if name not in own)]


def _panel(axes: Axes, panel: Panel, records: Sequence[TrainingRecord]) -> None:
    for level in panel.levels:
        axes.axhline(level, color=COLOURS[3], linewidth=1)
    across = axes.get_xaxis_transform()
    for number, record in enumerate(records):
        if not panel.figures.keys() & record.figures.keys():
            continue
        colour = COLOURS[number % len(COLOURS)]
        for style, name in zip(STYLES, panel.figures, strict=False):
            values = record.figures.get(name)
            if values is None:
                continue
            axes.plot(np.arange(1, len(values) + 1), values, style, color=colour, linewidth=1.4)
            chosen = record.at_best(name)
            if chosen is not None:
                axes.plot(record.best_epoch, chosen, "o", color=colour, markersize=5)
        for epoch in dict.fromkeys(record.setbacks):
            axes.plot(epoch, 0.96, "v", color=colour, markersize=6, transform=across, clip_on=False)
    axes.set_ylabel(panel.label, fontsize=11, loc="center")
    axes.margins(x=0.02, y=0.12)
    axes.tick_params(labelsize=10)
    if len(panel.figures) > 1:
        lines = [
            Line2D([], [], color=INK, linestyle=style, linewidth=1.4, label=name)
            for style, name in zip(STYLES, panel.figures.values(), strict=False)
        ]
        axes.legend(handles=lines, fontsize=9, loc="best")


def _handles(records: Sequence[TrainingRecord]) -> list[Line2D]:
    """Return what the legend above all panels holds: the trainings, and what dots and triangles mean."""
    named = [
        Line2D([], [], color=COLOURS[number % len(COLOURS)], label=literal(record.name))
        for number, record in enumerate(records[:NAMED])
    ]
    marks = [Line2D([], [], color=INK, marker="o", linestyle="", markersize=5, label="chosen epoch")]
    if any(record.setbacks for record in records):
        marks.append(Line2D([], [], color=INK, marker="v", linestyle="", markersize=6, label="diverged, taken back"))
    return [*named, *marks]


def negatives_figure(
    frames: npt.ArrayLike, events: npt.ArrayLike, *, figure: Figure | SubFigure | None = None
) -> Figure | SubFigure:
    """Draw images that a model drew along its training (times, n, rows, columns), a row a time, and below them images of events (k, rows, columns).

    Each is divided by its sum. Raises InputError for shapes that do not go together.
    """
    drawn_images, own = np.asarray(frames, dtype=np.float64), np.asarray(events, dtype=np.float64)
    if drawn_images.ndim != 4 or own.ndim != 3 or not drawn_images.size or drawn_images.shape[2:] != own.shape[1:]:
        raise InputError(
            f"images of shapes {drawn_images.shape} and {own.shape}; (times, n, rows, columns) and (k, rows, columns) of one size are expected"
        )
    rows = [row[:SHOWN] for row in (*drawn_images, own)]
    height, width = (side + GAP for side in own.shape[1:])
    columns = max(len(row) for row in rows)
    # one picture of all images: an axis each would take seconds
    mosaic = np.full((height * len(rows) - GAP, width * columns - GAP), np.nan)
    for down, row in enumerate(rows):
        for along, image in enumerate(row):
            part = (slice(down * height, (down + 1) * height - GAP), slice(along * width, (along + 1) * width - GAP))
            mosaic[part] = np.maximum(image / max(float(image.sum()), TINY), DARKEST)[::-1]
    names = [f"{number + 1} of {len(rows) - 1}" for number in range(len(rows) - 1)]
    with on_figure(figure, (1.0 * columns + 1.4, 1.0 * len(rows) + 0.3)) as drawn:
        axes = drawn.subplots()
        axes.imshow(mosaic, cmap="viridis", norm="log", vmin=DARKEST, vmax=1, interpolation="nearest")
        axes.set_yticks([number * height + own.shape[1] / 2 for number in range(len(rows))], [*names, "events"])
        axes.tick_params(which="both", bottom=False, top=False, left=False, right=False, labelbottom=False)
        axes.minorticks_off()
        axes.spines[:].set_visible(False)
    return drawn


def draw_trainings(trainings: Mapping[str, Sequence[TrainingRecord]], folder: str | Path) -> list[Path]:
    """Draw and write the trainings of each axis as training_0, training_1, ... in their order; returns the files."""
    return [
        path
        for number, records in enumerate(trainings.values())
        for path in save_figure(training_figure(records), folder, f"training_{number}")
    ]


def draw_negatives(frames: npt.ArrayLike, events: npt.ArrayLike, folder: str | Path) -> list[Path]:
    """Draw and write what a model drew along its training as training_negatives; returns the files."""
    return save_figure(negatives_figure(frames, events), folder, "training_negatives")
