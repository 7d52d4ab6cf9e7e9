"""The limit plot: observed and expected upper limits against mass, with the bands of one and two sigma."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from ...table import MJJ, Observable
from ..limits.cls import Limits
from .base import COLOURS, INK, literal, on_axes

__all__ = ["limit_figure"]

MISSING = COLOURS[2]
ONE_SIGMA, TWO_SIGMA = "#607641", "#f5bb54"  # the colours that CMS recommends for readers who see colours differently


def limit_figure(limits: Limits, name: str, *, observable: Observable = MJJ, ax: Axes | None = None) -> Axes:
    """Draw the limits on one signal; a mass with fewer than 10 background events is hollow.

    A mass without a limit is a gap in lines and bands, with a cross at the lower edge.
    """
    observed, expected = limits.observed, limits.expected
    label = "signal events"
    if limits.observed_fb is not None and limits.expected_fb is not None:
        observed, expected = limits.observed_fb, limits.expected_fb
        label = r"$\sigma \times B \times \epsilon$ [fb]"
    masses = limits.masses
    with on_axes(ax, (7, 5)) as axes:
        axes.fill_between(masses, expected[:, 0], expected[:, 4], color=TWO_SIGMA, label="expected, 95 %", linewidth=0)
        axes.fill_between(masses, expected[:, 1], expected[:, 3], color=ONE_SIGMA, label="expected, 68 %", linewidth=0)
        axes.plot(masses, expected[:, 2], "--", color=INK, label="expected, median")
        if not limits.blind:
            axes.plot(masses, observed, "-", color=INK, label="observed")
            few = ~limits.asymptotic
            axes.plot(masses[~few], observed[~few], "o", color=INK, markersize=4)
            axes.plot(
                masses[few],
                observed[few],
                "o",
                color=INK,
                markersize=4,
                markerfacecolor="white",
                label="fewer than 10 background events: asymptotic formula doubtful" if few.any() else None,
            )
        shown = expected[np.isfinite(expected)]
        if len(shown) and shown.min() > 0:
            axes.set_yscale("log")
            finite = observed[np.isfinite(observed)]
            top = max(shown.max(), finite.max(initial=0.0))
            axes.set_ylim(0.5 * min(shown.min(), finite.min(initial=np.inf)), 8 * top)
        missing = ~np.isfinite(expected).all(axis=1)
        if missing.any():
            below = np.full(int(missing.sum()), 0.04)
            across = axes.get_xaxis_transform()
            axes.plot(masses[missing], below, "x", color=MISSING, markersize=9, transform=across, label="no limit")
            axes.set_xlim(masses.min() - 0.02 * np.ptp(masses), masses.max() + 0.02 * np.ptp(masses))
        axes.set_xlabel(f"resonance mass, peak of reconstructed {observable.axis_label}")
        axes.set_ylabel(f"upper limit at {limits.confidence:.0%} CL on {label}", fontsize=12)
        axes.legend(title=f"signal: {literal(name)}", loc="upper right")
    return axes
