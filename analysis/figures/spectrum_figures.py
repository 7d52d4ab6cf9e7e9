"""Mass spectra: each region's with fit, signal and pulls, and the inclusive one with the fit range."""

from __future__ import annotations

from typing import Any

import mplhep
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from scipy import special

from ...table import MJJ, Observable
from ..fits.log_p import stated_p
from ..goodness.signal_curve import both_curve, signal_curve
from ..significance.after_first import Second
from ..significance.bumphunt import BumpHunt
from .base import COLOURS, INK, literal, on_axes, on_figure

__all__ = ["inclusive_figure", "range_figure", "spectrum_figure"]

Floats = npt.NDArray[np.float64]
SOFT = "#e8a99f"  # of the signal's colour
LEAST_REACH, REACH = 4.0, 10.0  # of the pulls' axis


def spectrum_figure(
    hunt: BumpHunt, region: int, name: str, *, second: Second | None = None, figure: Figure | SubFigure | None = None
) -> Figure | SubFigure:
    """Draw one region's spectrum with its background fit, that with the signal of the best mass, the signal, and the pulls of both fits.

    second: the excess beside the first, whose signal is then in the fit and drawn too.
    """
    counts, expected = hunt.counts[region], hunt.background.expected[region]
    edges, centres = hunt.edges, 0.5 * (hunt.edges[1:] + hunt.edges[:-1])
    observable = hunt.settings.observable
    with on_figure(figure, (7, 6.4)) as drawn:
        main, pulls = drawn.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        mplhep.histplot(
            counts,
            edges,
            yerr=poisson_interval(counts),
            histtype="errorbar",
            color=INK,
            label="data",
            ax=main,
            markersize=7,
        )
        told = f"{float(hunt.background.n_parameters[region]):.3g} parameters"
        fit_label = f"{literal(hunt.settings.family)} fit, {told} (p {stated_p(hunt.fit_p[region])})"
        both, drawn_signals = curve_and_signals(hunt, region, second)
        if both is not None:
            # wide and below: the fits coincide in most bins, and both are to be seen
            a_signal = "a signal" if second is None else "signals"
            with_signal = (
                f"fit with {a_signal} at {' and '.join(literal(observable.at(mass)) for mass, _, _ in drawn_signals)}"
            )
            mplhep.histplot(both, edges, color=SOFT, label=with_signal, ax=main, linewidth=4, edges=False)
        mplhep.histplot(expected, edges, color=COLOURS[0], label=fit_label, ax=main, linewidth=2, edges=False)
        for (mass, events, template), style in zip(drawn_signals, ("--", ":"), strict=False):
            signal = events * template
            label = f"fitted signal at {literal(observable.at(mass))}: {events:.1f} events"
            if signal.sum() > 0:
                shown = np.where(signal > 1e-3, signal, np.nan)
                mplhep.histplot(shown, edges, color=COLOURS[2], linestyle=style, label=label, ax=main)
        main.set_yscale("log")
        main.set_ylim(max(0.05, 0.3 * expected.min()), 30 * max(counts.max(), 1.0))
        main.set_ylabel("events / bin")
        main.legend(title=literal(name), loc="upper right")
        pulls.axhline(0, color=INK, linewidth=1)
        pull = signed_pulls(counts, expected)
        reach = float(np.clip(np.ceil(np.abs(pull).max()), LEAST_REACH, REACH))
        mplhep.histplot(pull, edges, histtype="fill", color=COLOURS[3], ax=pulls)
        if both is not None:
            beside = signed_pulls(counts, both)
            mplhep.histplot(beside, edges, color=COLOURS[2], ax=pulls, linewidth=1.2, edges=False)
        pulls.set_ylim(-reach, reach)
        pulls.set_ylabel("pull")
        pulls.set_xlabel(observable.axis_label)
        pulls.set_xlim(edges[0] - 0.01 * (edges[-1] - edges[0]), edges[-1])
        pulls.plot(centres, np.clip(pull, -reach, reach), ".", color=INK, markersize=3)
    return drawn


def curve_and_signals(
    hunt: BumpHunt, region: int, second: Second | None
) -> tuple[Floats | None, list[tuple[float, float, Floats]]]:
    """Return a region's fit with signal (bins,), None where it does not end, and mass in GeV, yield as stated and template (bins,) of each signal.

    The signal is that of the best mass, or there are two where a second was looked for and found.
    """
    if second is None:
        best = hunt.best
        alone = (float(hunt.masses[best]), float(hunt.scan.signal[region, best]), hunt.templates[best])
        return signal_curve(hunt, region, best), [alone]
    signals = [
        (second.first_mass, float(second.first_signal[region]), second.templates[0]),
        (second.mass, float(second.signal[region]), second.templates[1]),
    ]
    return both_curve(hunt, region, second), signals


def poisson_interval(counts: Floats) -> Floats:
    """Return the lengths (2, bins) down and up of the 68 % Garwood interval of each count."""
    tail = 0.5 * special.erfc(1 / np.sqrt(2))
    low = np.where(counts > 0, special.gammaincinv(np.maximum(counts, 1), tail), 0.0)
    high = special.gammainccinv(counts + 1, tail)
    return np.stack([counts - low, high - counts])


def signed_pulls(counts: Floats, expected: Floats) -> Floats:
    """Return the Poisson deviance pull of each bin, signed: its square sums to the deviance."""
    deviance = 2 * (expected - counts + special.xlogy(counts, counts / expected))
    return np.asarray(np.sign(counts - expected) * np.sqrt(np.maximum(deviance, 0.0)))


def inclusive_figure(
    mass: Floats,
    edges: Floats,
    expected: Floats | None,
    name: str,
    fit_range: tuple[float, float],
    *,
    observable: Observable = MJJ,
    ax: Axes | None = None,
) -> Axes:
    """Draw the inclusive spectrum, masses (n,) GeV, with the fit range shaded and its background fit (bins,)."""
    low = min(float(mass.min()), fit_range[0]) if len(mass) else fit_range[0]
    wide = np.unique(np.concatenate([np.linspace(low, edges[0], 30), edges]))
    return range_figure(
        np.histogram(mass, wide)[0], wide, edges, expected, name, fit_range, observable=observable, ax=ax
    )


def range_figure(
    counts: npt.NDArray[Any],
    wide: Floats,
    edges: Floats,
    expected: Floats | None,
    name: str,
    fit_range: tuple[float, float],
    *,
    observable: Observable = MJJ,
    ax: Axes | None = None,
) -> Axes:
    """Draw all counts (bins,) with edges `wide` (GeV), the fit range shaded and its background fit on `edges`."""
    with on_axes(ax, (7, 5)) as axes:
        show: dict[str, Any] = {"histtype": "errorbar", "color": INK, "markersize": 6}
        mplhep.histplot(
            counts / np.diff(wide), wide, yerr=np.sqrt(counts) / np.diff(wide), label=literal(name), ax=axes, **show
        )
        if expected is not None:
            mplhep.histplot(
                expected / np.diff(edges), edges, color=COLOURS[0], label="fit", ax=axes, linewidth=2, edges=False
            )
        axes.axvspan(
            *fit_range,
            color=COLOURS[1],
            alpha=0.12,
            label=f"fit range {literal(observable.span(*fit_range))}",
        )
        axes.set_yscale("log")
        axes.set_xlabel(observable.axis_label)
        axes.set_ylabel(f"events / {literal(observable.unit) or 'unit'}")
        axes.legend()
    return axes
