"""The p-value scan: local p of every region and combined, against mass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from scipy import special

from ..significance.bumphunt import BumpHunt
from .base import COLOURS, INK, literal, on_axes

__all__ = ["leading_regions", "scan_figure"]

MOST_REGIONS = 6
LONG = 25  # characters of a name: two columns of them fit no figure


def leading_regions(hunt: BumpHunt) -> list[int]:
    """Return the regions that figures show one by one: all, or the six with the smallest p where the combined one is."""
    order = np.argsort(hunt.scan.p[:, hunt.best], kind="stable")[:MOST_REGIONS]
    return sorted(int(r) for r in order)


def scan_figure(hunt: BumpHunt, names: Sequence[str], *, ax: Axes | None = None) -> Axes:
    """Draw the local p-value of every region and of their combination against mass, with lines at whole sigmas.

    Of more than six regions, the leading ones have colours of their own and the others are grey.
    """
    observable = hunt.settings.observable
    with on_axes(ax, (8, 5.6)) as axes:
        leading = leading_regions(hunt)
        for r in sorted(set(range(len(names))) - set(leading)):
            label = "other regions" if r == next(i for i in range(len(names)) if i not in leading) else None
            axes.plot(hunt.masses, hunt.scan.p[r], color="0.8", linewidth=0.8, label=label)
        for colour, r in zip(COLOURS, leading, strict=False):
            axes.plot(hunt.masses, hunt.scan.p[r], color=colour, linewidth=1.2, alpha=0.9, label=literal(names[r]))
        axes.plot(hunt.masses, hunt.combined, color=INK, linewidth=2.4, label=f"combined ({hunt.settings.combination})")
        best = hunt.best
        axes.plot(hunt.masses[best], hunt.combined[best], "o", color=INK)
        axes.set_yscale("log")
        lowest = min(hunt.combined.min(), hunt.scan.p.min())
        # a tail of 37 sigma is the last whose logarithm there is; more than a dozen lines say no more
        top = min(37, max(4, int(np.ceil(-special.ndtri(max(lowest, 1e-300)))) + 2) - 1)
        sigmas = range(1 + (top - 1) % max(1, top // 10), top + 1, max(1, top // 10))
        for sigma in sigmas:
            level = special.ndtr(-sigma)
            axes.axhline(level, color="0.6", linewidth=0.8, linestyle=":")
            axes.annotate(
                rf"{sigma}$\sigma$",
                (1.005, level),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=11,
                color="0.3",
            )
        axes.set_ylim(special.ndtr(-float(sigmas[-1])) * 0.5, 2.0)
        axes.set_xlabel(f"resonance mass, {observable.axis_label}")
        axes.set_ylabel("local p-value")
        title = f"smallest combined p at {observable.at(hunt.masses[best])}"
        if hunt.global_p is not None:
            bound = "< " if hunt.global_p.is_bound else "= "
            title += f": local {hunt.combined[best]:.2g}, global {bound}{hunt.global_p.p:.2g}"
        axes.set_title(title, loc="left")
        axes.legend(loc="lower left", ncols=2 if max(len(name) for name in names) < LONG else 1)
    return axes
