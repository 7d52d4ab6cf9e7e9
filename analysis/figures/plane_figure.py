"""The map of a plane scan: signed local z of every window of the loss plane, for locating an excess."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle

from ...errors import InputError
from ...table import MJJ, Observable
from ..regions.plane_scan import FOR_LOCATING, PlaneScan
from .base import INK, literal, on_figure, save_figure

__all__ = ["draw_plane_scan", "plane_scan_figure"]

Floats = npt.NDArray[np.float64]
Z_SHOWN = 3.0  # the colour scale reaches this at both sides, and further where a z does


def plane_scan_figure(
    scan: PlaneScan,
    *,
    mass: float | None = None,
    observable: Observable = MJJ,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw z over the plane at one mass of the scan, in GeV; default the one with the largest excess.

    Left the corners, background loss above and prior loss below a quantile; right the cells between neighbouring
    quantiles. Windows without a converged fit are hatched; the largest z of each side is framed.
    Raises InputError for a mass that was not scanned and where no fit converged.
    """
    if mass is None:
        m = scan.largest[1]
    else:
        m = int(np.argmin(np.abs(scan.masses - mass)))
        if not np.isclose(scan.masses[m], mass, rtol=1e-6):
            raise InputError(f"{mass:g} GeV was not scanned; the nearest mass is {scan.masses[m]:g} GeV")
    with on_figure(figure, (12.4, 6.2)) as drawn:
        left, right = drawn.subplots(1, 2)
        background, prior = np.unique(scan.windows[:, :2]), np.unique(scan.windows[:, 2:])
        here = np.abs(scan.z[scan.converged[:, m], m])
        end = max(Z_SHOWN, float(here.max())) if len(here) else Z_SHOWN
        shown = None
        for axes, corners in ((left, True), (right, False)):
            z, fitted = tiles(scan, m, background, prior, corners=corners)
            shown = axes.pcolormesh(
                np.arange(len(prior)),
                np.arange(len(background)),
                np.ma.masked_invalid(z),
                cmap="RdBu_r",
                vmin=-end,
                vmax=end,
                edgecolors="white",
                linewidth=0.8,
            )
            label_tiles(axes, z, fitted, end=end)
        axis_ticks(left, prior[1:], background[:-1])
        left.set_xlabel("prior loss below its quantile")
        left.set_ylabel("background loss above its quantile")
        edge_ticks(right, prior, background)
        right.set_xlabel("quantile of the smallest prior loss")
        right.set_ylabel("quantile of the background loss")
        left.set_title("corners (hatched: not fitted)", loc="left")
        right.set_title("cells", loc="left")
        if shown is not None:
            drawn.colorbar(shown, ax=[left, right], label=f"signed local z\n({FOR_LOCATING})")
        drawn.suptitle(f"loss plane at {literal(observable.at(scan.masses[m]))}: {FOR_LOCATING}", fontsize=14)
    return drawn


def tiles(scan: PlaneScan, mass: int, background: Floats, prior: Floats, *, corners: bool) -> tuple[Floats, Any]:
    """Return z of the corners or cells as a picture (background, prior), NaN without a fit, and where a fit converged."""
    z = np.full((len(background) - 1, len(prior) - 1), np.nan)
    low, high = (np.searchsorted(background, scan.windows[:, i]) for i in (0, 1))
    start, end = (np.searchsorted(prior, scan.windows[:, i]) for i in (2, 3))
    # the corner of a single cell is among the corners only
    chosen = scan.corner if corners else (high == low + 1) & (end == start + 1)
    z[low[chosen], end[chosen] - 1] = np.where(scan.converged[:, mass], scan.z[:, mass], np.nan)[chosen]
    return z, np.isfinite(z)


def label_tiles(axes: Axes, z: Floats, fitted: npt.NDArray[np.bool_], *, end: float) -> None:
    """Write z into each tile, hatch those without a fit, and frame the largest."""
    for (row, column), value in np.ndenumerate(z):
        if fitted[row, column]:
            colour = "white" if abs(value) > 0.6 * end else INK
            axes.text(
                column + 0.5,
                row + 0.5,
                f"{round(float(value), 1) + 0.0:.1f}",
                ha="center",
                va="center",
                fontsize=9,
                color=colour,
            )
        else:
            axes.add_patch(Rectangle((column, row), 1, 1, fill=False, hatch="///", edgecolor="0.75", linewidth=0))
    if fitted.any():
        row, column = np.unravel_index(int(np.nanargmax(z)), z.shape)
        axes.add_patch(Rectangle((float(column), float(row)), 1, 1, fill=False, edgecolor=INK, linewidth=2.5))


def axis_ticks(axes: Axes, across: Floats, up: Floats) -> None:
    """Label the middle of each tile."""
    axes.set_xticks(np.arange(len(across)) + 0.5, [f"{v:g}" for v in across])
    axes.set_yticks(np.arange(len(up)) + 0.5, [f"{v:g}" for v in up])
    axes.tick_params(which="both", length=0)


def edge_ticks(axes: Axes, across: Floats, up: Floats) -> None:
    """Label the edges between the tiles."""
    axes.set_xticks(np.arange(len(across)), [f"{v:g}" for v in across])
    axes.set_yticks(np.arange(len(up)), [f"{v:g}" for v in up])
    axes.tick_params(which="both", length=0)


def draw_plane_scan(
    scan: PlaneScan, path: str | Path, *, mass: float | None = None, observable: Observable = MJJ
) -> list[Path]:
    """Write the map as PATH.pdf and PATH.png (a suffix of `path` is replaced); returns the two paths."""
    target = Path(path)
    name = target.stem if target.suffix in {".pdf", ".png"} else target.name
    return save_figure(plane_scan_figure(scan, mass=mass, observable=observable), target.parent, name)
