"""Figures of the checks: local and global p under no signal, the pulls of injected signals, and the bias test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from scipy import stats

from ...files import remove
from ...table import Observable
from ..checks.all_checks import Validation
from ..checks.bias import Bias
from ..checks.bias_checks import MOST_BIAS
from ..checks.global_p import GlobalUniformity
from ..checks.injection import Linearity
from .base import COLOURS, INK, literal, on_axes, on_figure, save_figure

__all__ = ["bias_figure", "global_p_figure", "pull_figure", "write_validation"]

SHOWN = 6
MARKERS = ("o", "s", "^")  # of the injected strengths


def global_p_figure(found: Sequence[GlobalUniformity], *, ax: Axes | None = None) -> Axes:
    """Draw the share of outer experiments with a global p below x, against x, with the 99 % band of uniform p-values."""
    with on_axes(ax, (6.2, 5.2)) as axes:
        for of, colour in zip(found, COLOURS, strict=False):
            p = np.sort(of.p)
            axes.step(p, np.arange(1, len(p) + 1) / len(p), where="post", color=colour, label=f"{of.n} experiments")
        x = np.geomspace(1e-3, 1, 200)
        n = found[0].n
        low, high = stats.binom.interval(0.99, n, x)
        axes.fill_between(x, low / n, high / n, color=COLOURS[3], alpha=0.35, linewidth=0, label="uniform, 99 %")
        axes.plot(x, x, "--", color=INK, linewidth=1)
        axes.set(xscale="log", yscale="log", xlim=(1e-3, 1), ylim=(0.5 / n, 1.3), xlabel="global p")
        axes.set_ylabel("share of experiments below")
        axes.legend(loc="lower right")
    return axes


def pull_figure(found: Sequence[Linearity], *, figure: Figure | SubFigure | None = None) -> Figure | SubFigure:
    """Draw mean and width of the pull, and the coverage of 68 % intervals, against the injected strength, of some regions."""
    with on_figure(figure, (7.5, 4.6)) as both:
        pulls, coverage = both.subplots(1, 2)
        for i, (of, colour) in enumerate(zip(found[:SHOWN], COLOURS, strict=False)):
            x = np.array(of.strengths) + 0.08 * (i - 0.5 * (min(len(found), SHOWN) - 1))
            pulls.errorbar(
                x, of.pull_mean, yerr=of.pull_width, fmt="o", color=colour, markersize=4, label=literal(of.region)
            )
            coverage.plot(x, of.coverage_68, "o", color=colour, markersize=4)
        for y in (-1, 0, 1):
            pulls.axhline(y, color=INK, linewidth=1, linestyle="-" if y == 0 else ":")
        coverage.axhline(0.6827, color=INK, linewidth=1)
        pulls.set(xlabel="injected signal [standard deviations]", ylabel="pull: mean and width", ylim=(-2.5, 3.5))
        coverage.set(
            xlabel="injected signal [standard deviations]", ylabel="68 % intervals that hold the truth", ylim=(0, 1)
        )
        pulls.legend(loc="upper right", ncols=2)
    return both


def bias_figure(found: Bias, observable: Observable, *, ax: Axes | None = None) -> Axes:
    """Draw the bias of the yield against the mass in experiments of every other family, of the region where it is largest."""
    with on_axes(ax, (7.0, 4.6)) as axes:
        masses = np.array(found.masses)
        step = np.diff(masses).min(initial=masses[0]) / (6 + 2 * len(found.families))
        for i, (of, colour) in enumerate(zip(found.families, COLOURS, strict=False)):
            largest = of.worst
            if largest is None:
                continue
            x = masses + step * (i - 0.5 * (len(found.families) - 1))
            for s, marker in enumerate(MARKERS):
                y = of.bias[largest[0], :, s]
                axes.errorbar(
                    x, y, yerr=of.bias_error, fmt=marker, color=colour, markersize=4, label=of.name if s == 0 else None
                )
        axes.axhline(0.0, color=INK, linewidth=1)
        for allowed in (-MOST_BIAS, MOST_BIAS):
            axes.axhline(allowed, color=INK, linewidth=1, linestyle="--")
        axes.set(xlabel=observable.axis_label, ylabel="bias of the yield [standard deviations]")
        handles, labels = axes.get_legend_handles_labels()
        for strength, marker in zip(found.strengths, MARKERS, strict=True):
            handles.append(axes.plot([], [], marker, color=INK, markersize=4)[0])
            labels.append(f"{strength:g} injected")
        axes.legend(handles, labels, ncols=2)
    return axes


def write_validation(found: Validation, output: str | Path) -> list[Path]:
    """Draw and write the figures of the checks into `output`/validation, in place of those that are there; returns the files."""
    drawn: dict[str, Axes | Figure | SubFigure] = {"pulls": pull_figure(found.injections)}
    if found.global_p:
        drawn["global_p"] = global_p_figure(found.global_p)
    if found.bias.families:
        drawn["bias"] = bias_figure(found.bias, found.observable)
    folder = Path(output) / "validation"
    remove(folder)
    return [path for name, figure in drawn.items() for path in save_figure(figure, folder, name)]
