"""Regions: the plane of losses, what they do to the background's spectrum, and the scores against the truth."""

from __future__ import annotations

from collections.abc import Mapping

import mplhep
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from ...table import MJJ, Observable
from ..regions.metrics import roc, significance_improvement
from .base import COLOURS, INK, literal, on_axes, on_figure
from .p_values import MOST_REGIONS

__all__ = ["plane_figure", "roc_figure", "sculpting_figure"]

Floats = npt.NDArray[np.float64]


def plane_figure(
    losses: Mapping[str, Floats],
    regions: Mapping[str, npt.NDArray[np.int64]],
    n_regions: int,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw background loss against the signal's, the smallest there is; losses name -> (n, 1 + n_priors), regions name -> (n,).

    The first sample is drawn as a density, others as points; events of a region in its colour on the first sample.
    Without priors the background loss is drawn as a histogram.
    """
    with on_axes(ax, (7.4, 6)) as axes:
        everything = np.concatenate(list(losses.values()))
        low_b, high_b = np.quantile(everything[:, 0], [0.001, 0.998])
        if everything.shape[1] == 1:
            bins = np.linspace(low_b, high_b, 60)
            for i, (name, values) in enumerate(losses.items()):
                mplhep.histplot(
                    *np.histogram(values[:, 0], bins), density=True, label=literal(name), color=COLOURS[i], ax=axes
                )
            axes.set_xlabel("background loss")
            axes.set_ylabel("density")
            axes.set_yscale("log")
            axes.legend()
            return axes
        smallest = {name: values[:, 1:].min(axis=1) for name, values in losses.items()}
        low_s, high_s = np.quantile(np.concatenate(list(smallest.values())), [0.001, 0.998])
        first = next(iter(losses))
        density = axes.hist2d(
            smallest[first],
            losses[first][:, 0],
            bins=70,
            range=[[low_s, high_s], [low_b, high_b]],
            cmap="Greys",
            norm="log",
        )
        axes.figure.colorbar(density[3], ax=axes, label=f"{literal(first)} events")
        for r in range(n_regions):
            here = regions[first] == r
            axes.plot(
                smallest[first][here],
                losses[first][here, 0],
                ".",
                markersize=2.5,
                color=COLOURS[r % 10],
                label=f"region {r}" if n_regions <= MOST_REGIONS else None,
            )
        rng = np.random.default_rng(0)
        for i, name in enumerate(list(losses)[1:]):
            show = rng.permutation(len(losses[name]))[:400]
            axes.plot(
                smallest[name][show],
                losses[name][show, 0],
                "x",
                markersize=3,
                alpha=0.5,
                color=COLOURS[(4 + i) % 10],
                label=literal(name),
            )
        axes.set_xlim(low_s, high_s)
        axes.set_ylim(low_b, high_b)
        axes.set_xlabel("signal loss")
        axes.set_ylabel("background loss")
        axes.legend(loc="upper right", markerscale=3, frameon=True, framealpha=0.8)
    return axes


def sculpting_figure(
    inclusive: Floats,
    regions: Mapping[str, Floats],
    edges: Floats,
    sample: str,
    *,
    observable: Observable = MJJ,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw each region's background spectrum over the inclusive one, both to unit sum: counts (bins,)."""
    with on_figure(figure, (7.4, 6)) as drawn:
        main, ratio = drawn.subplots(2, 1, sharex=True, height_ratios=[2, 1])
        base = inclusive / max(inclusive.sum(), 1.0)
        mplhep.histplot(base, edges, color=INK, label=f"inclusive {literal(sample)}", ax=main, linewidth=2)
        centres = 0.5 * (edges[1:] + edges[:-1])
        for r, (name, counts) in enumerate(regions.items()):
            total = max(counts.sum(), 1.0)
            colour = COLOURS[r % len(COLOURS)]
            shown = counts > 0
            main.errorbar(
                centres[shown],
                (counts / total)[shown],
                yerr=(np.sqrt(counts) / total)[shown],
                fmt="o",
                markersize=4,
                color=colour,
                label=literal(name),
            )
            use = shown & (base > 0)
            ratio.errorbar(
                centres[use],
                (counts / total)[use] / base[use],
                yerr=(np.sqrt(counts) / total)[use] / base[use],
                fmt="o",
                markersize=4,
                color=colour,
            )
        main.set_yscale("log")
        main.set_ylabel("share of events / bin")
        main.legend()
        ratio.axhline(1, color=INK, linewidth=1)
        ratio.set_ylim(0, 2.5)
        ratio.set_ylabel("ratio")
        ratio.set_xlabel(observable.axis_label)
    return drawn


def roc_figure(
    scores: Mapping[str, Floats], label: npt.ArrayLike, *, figure: Figure | SubFigure | None = None
) -> Figure | SubFigure:
    """Draw ROC curves and significance improvement of scores name -> (n,) against truth labels (n,)."""
    truth = np.asarray(label)
    n_background = int((truth == 0).sum())
    with on_figure(figure, (11.5, 5)) as drawn:
        left, right = drawn.subplots(1, 2)
        for i, (name, score) in enumerate(scores.items()):
            eps_b, eps_s = roc(score, truth)
            colour = COLOURS[i % len(COLOURS)]
            left.plot(eps_s, 1 / np.maximum(eps_b, 1 / n_background), color=colour, label=literal(name))
            b, sic = significance_improvement(eps_b, eps_s, n_background)
            right.plot(b, sic, color=colour, label=literal(name))
        grid = np.geomspace(1 / n_background, 1, 200)
        left.plot(grid, 1 / grid, ":", color="0.5", label="random")
        right.plot(grid, np.sqrt(grid), ":", color="0.5", label="random")
        right.axvspan(1 / n_background, 20 / n_background, color="0.92")
        left.set_yscale("log")
        left.set_xlabel(r"$\epsilon_S$")
        left.set_ylabel(r"1 / $\epsilon_B$")
        right.set_xscale("log")
        right.set_xlabel(r"$\epsilon_B$ (grey: fewer than 20 background events)")
        right.set_ylabel(r"SIC = $\epsilon_S\,/\,\epsilon_B^{1/2}$")
        left.legend()
    return drawn
