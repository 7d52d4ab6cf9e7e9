"""The figure of a counting experiment: the score with its threshold, or the plane of two axes with its four counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ...errors import InputError
from ..regions.thresholds import as_axes
from .base import COLOURS, INK, literal, style
from .spectrum_figures import poisson_interval

__all__ = ["counting_figure"]

Floats = npt.NDArray[np.float64]
BINS = 40
PLANE_BINS = 60
HIDDEN = 1e-4  # of the events at either end of an axis that may lie outside of it


def counting_figure(
    scores: npt.ArrayLike,
    folds: npt.ArrayLike,
    thresholds: Floats,
    *,
    background: npt.ArrayLike | None = None,
    background_folds: npt.ArrayLike | None = None,
    scale: float = 1.0,
    title: str = "",
    labels: Sequence[str] = ("score", "score"),
) -> Figure:
    """Draw hunted events against the threshold of their fold, scores measured from it.

    scores: (n,) or (n, 2); folds: (n,); thresholds: (folds, axes). One axis: the spectrum of scores, beside that of the
    predicting background times `scale` where given. Two: the plane, with the events of each region and B C / D. labels: of
    the axes.
    Raises InputError where there is no event.
    """
    hunted = from_threshold(scores, folds, thresholds)
    if not len(hunted):
        raise InputError("a figure of a counting experiment needs events; found none")
    with style():
        figure = Figure(figsize=(7, 5.4))
        axes = figure.subplots()
        if hunted.shape[1] == 2:
            draw_plane(axes, hunted, labels)
        else:
            other = None
            if background is not None and background_folds is not None:
                other = from_threshold(background, background_folds, thresholds)[:, 0]
            draw_spectrum(axes, hunted[:, 0], other, scale, labels[0])
        if title:
            axes.set_title(literal(title), loc="left")
    return figure


def from_threshold(scores: npt.ArrayLike, folds: npt.ArrayLike, thresholds: Floats) -> Floats:
    """Return scores (n, axes) minus the threshold of their fold and axis."""
    return as_axes(scores) - thresholds[np.asarray(folds, dtype=np.int64)]


def ends_of(values: Floats) -> tuple[float, float]:
    """Return the ends of an axis that shows nearly all values and the threshold at 0."""
    low, high = np.quantile(values, [HIDDEN, 1 - HIDDEN]).tolist()
    low, high = min(low, 0.0), max(high, 0.0)
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def draw_spectrum(axes: Axes, hunted: Floats, background: Floats | None, scale: float, label: str) -> None:
    """Draw the spectrum of scores with the threshold at 0, counts on a logarithmic axis; the ends hold what lies beyond."""
    low, high = ends_of(hunted)
    # an edge on the threshold: no bin is partly above it
    width = (high - low) / BINS
    edges = width * np.arange(np.floor(low / width), np.ceil(high / width) + 1)
    inside = (edges[0] + 1e-9 * width, edges[-1] - 1e-9 * width)
    centres = 0.5 * (edges[1:] + edges[:-1])
    counts = np.histogram(np.clip(hunted, *inside), edges)[0].astype(np.float64)
    if background is not None:
        expected = scale * np.histogram(np.clip(background, *inside), edges)[0]
        text = f"background, {scale * (background > 0).sum():.4g} above"
        axes.stairs(expected, edges, fill=True, color=COLOURS[0], alpha=0.5, label=text)
    shown = counts > 0
    axes.errorbar(
        centres[shown],
        counts[shown],
        yerr=poisson_interval(counts)[:, shown],
        fmt="o",
        color=INK,
        markersize=4,
        linewidth=1,
        label=f"data, {int((hunted > 0).sum())} above",
    )
    axes.axvline(0.0, color=COLOURS[2], linestyle="--", label="threshold")
    axes.set_yscale("log")
    axes.set_ylim(0.3 * min(scale, 1.0), 5 * max(float(counts.max()), 1.0))
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel(f"{literal(label)} - threshold of its fold")
    axes.set_ylabel("events / bin")
    axes.legend(loc="upper right", frameon=True, framealpha=1.0, edgecolor="none")


def draw_plane(axes: Axes, hunted: Floats, labels: Sequence[str]) -> None:
    """Draw the plane of two axes with both thresholds at 0 and the events of each region."""
    (left, right), (bottom, top) = ends_of(hunted[:, 0]), ends_of(hunted[:, 1])
    counts, x, y = np.histogram2d(
        np.clip(hunted[:, 0], left, right), np.clip(hunted[:, 1], bottom, top), bins=PLANE_BINS
    )
    # from below one event: a single event is seen
    shade = LogNorm(vmin=0.2, vmax=max(float(counts.max()), 2.0))
    image = axes.pcolormesh(x, y, np.ma.masked_equal(counts.T, 0), cmap="Blues", norm=shade, rasterized=True)
    axes.figure.colorbar(image, ax=axes, label="events / cell")
    axes.axvline(0.0, color=COLOURS[2], linestyle="--")
    axes.axhline(0.0, color=COLOURS[2], linestyle="--")
    first, second = hunted[:, 0] > 0, hunted[:, 1] > 0
    a, b, c, d = (int(r.sum()) for r in (first & second, first & ~second, ~first & second, ~first & ~second))
    expected = f", BC/D = {b * c / d:.4g}" if d else ""
    places = {
        f"A = {a}{expected}": (0.98, 0.97),
        f"B = {b}": (0.98, 0.03),
        f"C = {c}": (0.02, 0.97),
        f"D = {d}": (0.02, 0.03),
    }
    for text, (horizontal, vertical) in places.items():
        axes.text(
            horizontal,
            vertical,
            text,
            transform=axes.transAxes,
            horizontalalignment="right" if horizontal > 0.5 else "left",
            verticalalignment="top" if vertical > 0.5 else "bottom",
            fontsize=12,
            bbox={"facecolor": "white", "edgecolor": INK, "linewidth": 0.6, "boxstyle": "round,pad=0.25"},
        )
    axes.set_xlabel(f"{literal(labels[0])} - threshold of its fold")
    axes.set_ylabel(f"{literal(labels[1])} - threshold of its fold")
