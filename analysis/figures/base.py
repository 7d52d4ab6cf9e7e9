"""Figures with mplhep: the QUAK plane, spectra with fit and pulls, the p-value scan, sculpting, ROC and SIC.

Each function draws on a new figure and returns it; `save_figure` writes PDF and PNG.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import mplhep
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from scipy import special

from ...files import write_aside
from ..regions.metrics import roc, significance_improvement
from ..significance.bumphunt import BumpHunt

__all__ = [
    "inclusive_figure",
    "leading_regions",
    "plane_figure",
    "range_figure",
    "roc_figure",
    "save_figure",
    "scan_figure",
    "sculpting_figure",
    "spectrum_figure",
]

Floats = npt.NDArray[np.float64]
COLOURS = ("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadb")
INK = "#1a1a1a"
MOST_REGIONS = 6


@contextmanager
def style() -> Iterator[None]:
    """Use mplhep's CMS style, smaller, for the figures drawn inside and no others."""
    # a font that every matplotlib has, for text and mathematics: no fallback notices, the same figure everywhere
    fonts: dict[str, Any] = {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "mathtext.fontset": "dejavusans",
    }
    small: dict[str, Any] = {
        "font.size": 13,
        "axes.labelsize": 14,
        "legend.fontsize": 11,
        "figure.constrained_layout.use": True,
        "axes.titlesize": 13,
    }
    settings: Any = {k: v for k, v in mplhep.style.CMS.items() if v is not None and k in mpl.rcParams}
    settings |= {**fonts, **small, "xtick.labelsize": 12, "ytick.labelsize": 12}
    with mpl.rc_context(settings):
        yield


def save_figure(figure: Figure, folder: str | Path, name: str) -> list[Path]:
    """Write a figure as NAME.pdf and NAME.png, aside and renamed."""
    paths = []
    for suffix in (".pdf", ".png"):
        path = Path(folder) / f"{name}{suffix}"
        with write_aside(path) as aside:
            # no creation date: the same result gives the same file
            figure.savefig(aside, dpi=130, metadata={"CreationDate": None} if suffix == ".pdf" else None)
        paths.append(path)
    return paths


def spectrum_figure(hunt: BumpHunt, region: int, name: str) -> Figure:
    """Draw one region's spectrum with its background fit, the best-fit signal at the best mass, and pulls."""
    counts, expected = hunt.counts[region], hunt.background.expected[region]
    edges, centres = hunt.edges, 0.5 * (hunt.edges[1:] + hunt.edges[:-1])
    with style():
        figure = Figure(figsize=(7, 6.4))
        main, pulls = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
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
        order = int(hunt.background.order[region])
        fit_label = f"{hunt.settings.family} fit, {order} parameters (p = {hunt.fit_p[region]:.2g})"
        mplhep.histplot(expected, edges, color=COLOURS[0], label=fit_label, ax=main, linewidth=2, edges=False)
        signal = hunt.scan.signal[region, hunt.best] * hunt.templates[hunt.best]
        mass = hunt.masses[hunt.best]
        label = f"fitted signal at {mass:.0f} GeV: {hunt.scan.signal[region, hunt.best]:.1f} events"
        if signal.sum() > 0:
            mplhep.histplot(
                np.where(signal > 1e-3, signal, np.nan), edges, color=COLOURS[2], linestyle="--", label=label, ax=main
            )
        main.set_yscale("log")
        main.set_ylim(max(0.05, 0.3 * expected.min()), 30 * max(counts.max(), 1.0))
        main.set_ylabel("events / bin")
        main.legend(title=name, loc="upper right")
        pulls.axhline(0, color=INK, linewidth=1)
        pull = signed_pulls(counts, expected)
        mplhep.histplot(pull, edges, histtype="fill", color=COLOURS[3], ax=pulls)
        pulls.set_ylim(-4, 4)
        pulls.set_ylabel("pull")
        pulls.set_xlabel(r"$m_{jj}$ [GeV]")
        pulls.set_xlim(edges[0] - 0.01 * (edges[-1] - edges[0]), edges[-1])
        pulls.plot(centres, np.clip(pull, -4, 4), ".", color=INK, markersize=3)
    return figure


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


def leading_regions(hunt: BumpHunt) -> list[int]:
    """Return the regions that figures show one by one: all, or the six with the smallest p where the combined one is."""
    order = np.argsort(hunt.scan.p[:, hunt.best], kind="stable")[:MOST_REGIONS]
    return sorted(int(r) for r in order)


def scan_figure(hunt: BumpHunt, names: Sequence[str]) -> Figure:
    """Draw the local p-value of every region and of their combination against mass, with lines at whole sigmas.

    Of more than six regions, the leading ones have colours of their own and the others are grey.
    """
    with style():
        figure = Figure(figsize=(8, 5.6))
        axes = figure.subplots()
        leading = leading_regions(hunt)
        for r in sorted(set(range(len(names))) - set(leading)):
            label = "other regions" if r == next(i for i in range(len(names)) if i not in leading) else None
            axes.plot(hunt.masses, hunt.scan.p[r], color="0.8", linewidth=0.8, label=label)
        for colour, r in zip(COLOURS, leading, strict=False):
            axes.plot(hunt.masses, hunt.scan.p[r], color=colour, linewidth=1.2, alpha=0.9, label=names[r])
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
        axes.set_xlabel(r"$m_{jj}$ resonance mass [GeV]")
        axes.set_ylabel("local p-value")
        title = f"smallest combined p at {hunt.masses[best]:.0f} GeV"
        if hunt.global_p is not None:
            bound = "< " if hunt.global_p.is_bound else "= "
            title += f": local {hunt.combined[best]:.2g}, global {bound}{hunt.global_p.p:.2g}"
        axes.set_title(title, loc="left")
        axes.legend(loc="lower left", ncols=2)
    return figure


def plane_figure(losses: Mapping[str, Floats], regions: Mapping[str, npt.NDArray[np.int64]], n_regions: int) -> Figure:
    """Draw background loss against the signal's, the smallest there is; losses name -> (n, 1 + n_priors), regions name -> (n,).

    The first sample is drawn as a density, others as points; events of a region in its colour on the first sample.
    Without priors the background loss is drawn as a histogram.
    """
    with style():
        figure = Figure(figsize=(7.4, 6))
        axes = figure.subplots()
        everything = np.concatenate(list(losses.values()))
        low_b, high_b = np.quantile(everything[:, 0], [0.001, 0.998])
        if everything.shape[1] == 1:
            bins = np.linspace(low_b, high_b, 60)
            for i, (name, values) in enumerate(losses.items()):
                mplhep.histplot(*np.histogram(values[:, 0], bins), density=True, label=name, color=COLOURS[i], ax=axes)
            axes.set_xlabel("background loss")
            axes.set_ylabel("density")
            axes.set_yscale("log")
            axes.legend()
            return figure
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
        figure.colorbar(density[3], ax=axes, label=f"{first} events")
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
                label=name,
            )
        axes.set_xlim(low_s, high_s)
        axes.set_ylim(low_b, high_b)
        axes.set_xlabel("signal loss")
        axes.set_ylabel("background loss")
        axes.legend(loc="upper right", markerscale=3, frameon=True, framealpha=0.8)
    return figure


def sculpting_figure(inclusive: Floats, regions: Mapping[str, Floats], edges: Floats, sample: str) -> Figure:
    """Draw each region's background spectrum over the inclusive one, both to unit sum: counts (bins,)."""
    with style():
        figure = Figure(figsize=(7.4, 6))
        main, ratio = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
        base = inclusive / max(inclusive.sum(), 1.0)
        mplhep.histplot(base, edges, color=INK, label=f"inclusive {sample}", ax=main, linewidth=2)
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
                label=name,
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
        ratio.set_xlabel(r"$m_{jj}$ [GeV]")
    return figure


def roc_figure(scores: Mapping[str, Floats], label: npt.ArrayLike) -> Figure:
    """Draw ROC curves and significance improvement of scores name -> (n,) against truth labels (n,)."""
    truth = np.asarray(label)
    n_background = int((truth == 0).sum())
    with style():
        figure = Figure(figsize=(11.5, 5))
        left, right = figure.subplots(1, 2)
        for i, (name, score) in enumerate(scores.items()):
            eps_b, eps_s = roc(score, truth)
            colour = COLOURS[i % len(COLOURS)]
            left.plot(eps_s, 1 / np.maximum(eps_b, 1 / n_background), color=colour, label=name)
            b, sic = significance_improvement(eps_b, eps_s, n_background)
            right.plot(b, sic, color=colour, label=name)
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
    return figure


def inclusive_figure(
    mjj: Floats, edges: Floats, expected: Floats | None, name: str, fit_range: tuple[float, float]
) -> Figure:
    """Draw the inclusive spectrum, masses (n,) GeV, with the fit range shaded and its background fit (bins,)."""
    low = min(float(mjj.min()), fit_range[0]) if len(mjj) else fit_range[0]
    wide = np.unique(np.concatenate([np.linspace(low, edges[0], 30), edges]))
    return range_figure(np.histogram(mjj, wide)[0], wide, edges, expected, name, fit_range)


def range_figure(
    counts: npt.NDArray[Any],
    wide: Floats,
    edges: Floats,
    expected: Floats | None,
    name: str,
    fit_range: tuple[float, float],
) -> Figure:
    """Draw all counts (bins,) with edges `wide` (GeV), the fit range shaded and its background fit on `edges`."""
    with style():
        figure = Figure(figsize=(7, 5))
        axes = figure.subplots()
        show: dict[str, Any] = {"histtype": "errorbar", "color": INK, "markersize": 6}
        mplhep.histplot(counts / np.diff(wide), wide, yerr=np.sqrt(counts) / np.diff(wide), label=name, ax=axes, **show)
        if expected is not None:
            mplhep.histplot(
                expected / np.diff(edges), edges, color=COLOURS[0], label="fit", ax=axes, linewidth=2, edges=False
            )
        axes.axvspan(
            *fit_range, color=COLOURS[1], alpha=0.12, label=f"fit range {fit_range[0]:.0f} to {fit_range[1]:.0f} GeV"
        )
        axes.set_yscale("log")
        axes.set_xlabel(r"$m_{jj}$ [GeV]")
        axes.set_ylabel("events / GeV")
        axes.legend()
    return figure
