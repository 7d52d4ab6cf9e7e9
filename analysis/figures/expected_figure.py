"""Expected discovery: the signal that is needed against mass, and the significance against the signal."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from ...table import MJJ, Observable
from ..significance.expected import ExpectedDiscovery
from .base import COLOURS, INK, literal, on_figure

__all__ = ["expected_figure"]

Floats = npt.NDArray[np.float64]
MOST = 4  # masses, or yields, with a line of their own
LEVELS = (3, 5)  # sigma


def expected_figure(
    expected: ExpectedDiscovery,
    name: str,
    *,
    observable: Observable = MJJ,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw the expected significance of a signal against its mass, and against its yield, a cross-section where the luminosity is known.

    Against mass: the significance of each yield where all masses have the same, else the signal with 3 and with 5 sigma. Bands: where 68 %
    of the experiments lie; dashed: the Asimov data set.
    """
    scale = expected.luminosity or 1.0
    label = "signal events" if expected.luminosity is None else r"$\sigma \times B \times \epsilon$ [fb]"
    with on_figure(figure, (11, 4.8)) as drawn:
        against_mass, against_yield = drawn.subplots(1, 2)
        same = bool((expected.yields == expected.yields[0]).all())
        if same:
            for j, colour in zip(spread(expected.yields.shape[1]), COLOURS, strict=False):
                one = f"{expected.yields[0, j] / scale:.3g} {'events' if expected.luminosity is None else 'fb'}"
                line(against_mass, expected, expected.masses, (slice(None), j), colour, one)
            against_mass.set_ylabel("expected local significance")
        else:
            for z, colour in zip(LEVELS, COLOURS, strict=False):
                needed = expected.yield_for(z) / scale
                against_mass.plot(expected.masses, needed, "o-", color=colour, label=rf"median of {z}$\sigma$")
            against_mass.set_yscale("log")
            against_mass.set_ylabel(label)
        against_mass.set_xlabel(f"resonance mass, peak of reconstructed {observable.axis_label}", fontsize=12)
        for i, colour in zip(spread(len(expected.masses)), COLOURS, strict=False):
            at = literal(observable.at(float(expected.masses[i])))
            line(against_yield, expected, expected.yields[i] / scale, (i, slice(None)), colour, at)
        for z in LEVELS:
            against_yield.axhline(z, color="0.6", linewidth=0.8, linestyle=":")
        against_yield.set_xscale("log")
        against_yield.set_ylim(min(0.0, against_yield.get_ylim()[0]), None)
        against_yield.set_xlabel(label)
        against_yield.set_ylabel("expected local significance")
        against_yield.plot([], [], "--", color=INK, label="Asimov")
        against_mass.legend(title=f"signal: {literal(name)}")
        against_yield.legend(loc="upper left")
        against_yield.margins(y=0.25)
    return drawn


def line(
    axes: Axes, expected: ExpectedDiscovery, x: Floats, of: tuple[int | slice, int | slice], colour: str, label: str
) -> None:
    """Draw the expected significance along one axis of masses and yields, with the band of the experiments where there are any."""
    if expected.experiments:
        axes.fill_between(x, expected.low[of], expected.high[of], color=colour, alpha=0.18, linewidth=0)
        axes.plot(x, expected.median[of], ".-", color=colour, label=label)
    axes.plot(x, expected.asimov[of], ".--", color=colour, label=None if expected.experiments else label)


def spread(n: int) -> list[int]:
    """Return at most four of n, evenly spread."""
    return sorted({round(i) for i in np.linspace(0, n - 1, min(n, MOST)).tolist()})
