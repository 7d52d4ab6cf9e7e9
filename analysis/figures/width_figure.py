"""The scan in mass and width: combined local z of every width at every mass."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from ..fits.log_p import z_of_log
from ..significance.bumphunt import BumpHunt
from .base import COLOURS, INK, literal, on_axes

__all__ = ["width_figure"]

Z_SHOWN = 3.0  # the colour scale reaches this at both sides, and further where a z does
MOST_LABELS = 12


def width_figure(hunt: BumpHunt, *, ax: Axes | None = None) -> Axes:
    """Draw combined z against mass and width, the best width of each mass as a line, the largest excess as a cross."""
    observable = hunt.settings.observable
    widths = 100 * np.asarray(hunt.settings.widths)
    z = z_of_log(hunt.log_all).reshape(len(widths), -1)
    end = max(Z_SHOWN, float(np.abs(z).max()))
    with on_axes(ax, (8, 4.6)) as axes:
        shown = axes.pcolormesh(
            hunt.masses, np.arange(len(widths)), z, cmap="RdBu_r", vmin=-end, vmax=end, shading="nearest"
        )
        # widths are evenly apart in their logarithm: rows of one height, each with its own label
        rows = np.searchsorted(widths, 100 * hunt.widths)
        axes.step(hunt.masses, rows, where="mid", color=INK, linewidth=1.0, label="best width of each mass")
        best = hunt.best
        axes.plot(
            hunt.masses[best], rows[best], "X", color=COLOURS[1], markeredgecolor=INK, markersize=11, label="best"
        )
        axes.yaxis.set_major_locator(FixedLocator(np.arange(0, len(widths), 1 + len(widths) // MOST_LABELS).tolist()))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(lambda row, _: f"{widths[round(row)]:.2g}")
        axes.set_xlabel(f"resonance mass, {observable.axis_label}")
        axes.set_ylabel("relative width [%]")
        axes.set_title(
            f"largest excess at {literal(observable.at(hunt.masses[best]))}, {100 * hunt.widths[best]:.2g} % wide",
            loc="left",
        )
        axes.figure.colorbar(shown, ax=axes, label="combined local z")
        axes.legend(loc="upper right", frameon=True, facecolor="white", framealpha=0.85)
    return axes
