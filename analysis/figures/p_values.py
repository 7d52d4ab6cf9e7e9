"""The p-value scan: local p of every region and combined, against mass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from ..fits.log_p import log_p_of_z, shown_p, stated_p, z_of_log
from ..significance.after_first import Second
from ..significance.bumphunt import BumpHunt
from .base import COLOURS, INK, literal, on_axes

__all__ = ["leading_regions", "scan_figure"]

Floats = npt.NDArray[np.float64]
MOST_REGIONS = 6
MOST_DECADES = 9  # with the lines between them that a logarithmic axis has
LN10 = float(np.log(10))
LONG = 25  # characters of a name: two columns of them fit no figure


def leading_regions(hunt: BumpHunt) -> list[int]:
    """Return the regions that figures show one by one: all, or the six with the smallest p where the combined one is."""
    order = np.argsort(-hunt.scan.z[:, hunt.best], kind="stable")[:MOST_REGIONS]
    return sorted(int(r) for r in order)


def scan_figure(hunt: BumpHunt, names: Sequence[str], *, second: Second | None = None, ax: Axes | None = None) -> Axes:
    """Draw the local p-value of every region and of their combination against mass, with lines at whole sigmas.

    What is drawn is log10 p, which no double ends. Of more than six regions, the leading ones have colours of their own and
    the others are grey. second: the scan with the first excess in the model, at the masses clear of it.
    """
    observable = hunt.settings.observable
    own, together = log10_p(hunt.scan.z), hunt.log_combined / LN10
    with on_axes(ax, (8, 5.6)) as axes:
        leading = leading_regions(hunt)
        for r in sorted(set(range(len(names))) - set(leading)):
            label = "other regions" if r == next(i for i in range(len(names)) if i not in leading) else None
            axes.plot(hunt.masses, own[r], color="0.8", linewidth=0.8, label=label)
        for colour, r in zip(COLOURS, leading, strict=False):
            axes.plot(hunt.masses, own[r], color=colour, linewidth=1.2, alpha=0.9, label=literal(names[r]))
        axes.plot(hunt.masses, together, color=INK, linewidth=2.4, label=f"combined ({hunt.settings.combination})")
        if second is not None:
            left = np.where(second.log_combined < 0, second.log_combined, np.nan) / LN10
            label = f"with {literal(observable.at(second.first_mass))} in the model"
            axes.plot(hunt.masses, left, color=INK, linewidth=1.6, linestyle="--", label=label)
        best = hunt.best
        axes.plot(hunt.masses[best], together[best], "o", color=INK)
        largest = float(z_of_log(LN10 * min(together.min(), own.min())))
        # more than a dozen lines say no more
        top = max(4, int(np.ceil(largest)) + 1)
        sigmas = range(1 + (top - 1) % max(1, top // 10), top + 1, max(1, top // 10))
        for sigma in sigmas:
            level = float(log10_p(sigma))
            axes.axhline(level, color="0.6", linewidth=0.8, linestyle=":")
            axes.annotate(
                rf"{sigma}$\sigma$",
                (1.005, level),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=11,
                color="0.3",
            )
        axes.set_ylim(float(log10_p(sigmas[-1])) - 0.3, 0.3)
        decades(axes)
        axes.set_xlabel(f"resonance mass, {observable.axis_label}")
        axes.set_ylabel("local p-value")
        title = f"smallest combined p at {literal(observable.at(hunt.masses[best]))}"
        if hunt.global_p is not None:
            glob = stated_p(hunt.global_p.p, bound=hunt.global_p.is_bound)
            title += f": local {shown_p(hunt.combined[best])}, global {glob}"
        axes.set_title(title, loc="left")
        axes.legend(loc="lower left", ncols=2 if max(len(name) for name in names) < LONG else 1)
    return axes


def log10_p(z: npt.ArrayLike) -> Floats:
    """Return log10 of the one-sided p of z."""
    return np.asarray(log_p_of_z(z) / LN10)


def decades(axes: Axes) -> None:
    """Label an axis of log10 p as a logarithmic axis of p is labelled."""
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.yaxis.set_major_formatter(lambda value, _: f"$10^{{{value:.0f}}}$")
    if high - low < MOST_DECADES:
        inside = (np.arange(np.floor(low), np.ceil(high))[:, None] + np.log10(np.arange(2, 10))).ravel()
        axes.yaxis.set_minor_locator(FixedLocator(inside.tolist()))
    else:
        axes.yaxis.set_minor_locator(NullLocator())
