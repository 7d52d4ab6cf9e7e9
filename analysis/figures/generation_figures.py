"""Generated events against those of the training: distributions, average images, and what a latent dimension does to the mass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mplhep
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from ...errors import InputError
from ..checks.generation import Compared, LatentCorrelations, compare_generated, feature_edges
from .base import COLOURS, INK, literal, on_axes, on_figure

__all__ = ["average_image_figure", "generation_figure", "latent_mass_figure"]

Floats = npt.NDArray[np.float64]
COLUMNS = 3  # of panels
LEAST_EXPECTED = 10  # events of the training in a bin whose ratio is drawn
TOP_RATIO = 2.5  # ratios above are arrows
DARKEST = 1e-4  # of the brightest pixel


def generation_figure(
    generated: Mapping[str, npt.ArrayLike],
    training: Mapping[str, npt.ArrayLike],
    *,
    labels: Mapping[str, str] | None = None,
    compared: Sequence[Compared] | None = None,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw each feature of generated events (name -> (n,)) over the training's, and their ratio below, a panel a feature.

    labels: what the axes are called, else the names. compared: the distances that stand above the panels, else those of
    `compare_generated`. The outermost bins hold what is beyond them. Raises InputError as `compare_generated`.
    """
    distances = {c.name: c for c in (compare_generated(generated, training) if compared is None else compared)}
    columns = min(COLUMNS, len(training))
    rows = -(-len(training) // columns)
    with on_figure(figure, (4.6 * columns, 4.1 * rows)) as drawn:
        grid = drawn.subplots(2 * rows, columns, squeeze=False, height_ratios=[2.2, 1] * rows)
        for number, (name, real) in enumerate(training.items()):
            main, ratio = (grid[2 * (number // columns) + part, number % columns] for part in (0, 1))
            made = np.asarray(generated[name], dtype=np.float64)
            _panel(main, ratio, made, np.asarray(real, dtype=np.float64), distances.get(name))
            ratio.set_xlabel(literal((labels or {}).get(name, name)))
            if number % columns == 0:
                main.set_ylabel("share of jets / bin")
                ratio.set_ylabel("ratio")
            if number == 0:
                main.legend()
        for spare in range(len(training), rows * columns):
            for part in (0, 1):
                grid[2 * (spare // columns) + part, spare % columns].set_visible(False)
    return drawn


def _panel(main: Axes, ratio: Axes, made: Floats, real: Floats, distance: Compared | None) -> None:
    """Draw one feature."""
    edges = feature_edges(real)
    centres = 0.5 * (edges[1:] + edges[:-1])
    counts = [np.histogram(np.clip(v, edges[0], edges[-1]), edges)[0].astype(np.float64) for v in (made, real)]
    share = [c / len(v) for c, v in zip(counts, (made, real), strict=True)]
    mplhep.histplot(share[1], edges, color=INK, label=f"training, {len(real):,}", ax=main)
    mplhep.histplot(share[0], edges, color=COLOURS[0], label=f"generated, {len(made):,}", ax=main, linewidth=2)
    main.set_ylim(bottom=0)
    main.tick_params(labelbottom=False)
    use = counts[1] >= LEAST_EXPECTED
    value = share[0][use] / share[1][use]
    error = value * np.sqrt(1 / np.maximum(counts[0][use], 1) + 1 / counts[1][use])
    ratio.errorbar(centres[use], value, yerr=error, fmt="o", markersize=3, color=COLOURS[0])
    beyond = value > TOP_RATIO
    ratio.plot(centres[use][beyond], np.full(int(beyond.sum()), 0.95 * TOP_RATIO), "^", markersize=4, color=COLOURS[0])
    ratio.axhline(1, color=INK, linewidth=1)
    ratio.set_ylim(0, TOP_RATIO)
    for axis in (main, ratio):
        axis.set_xlim(edges[0], edges[-1])
    if distance is not None:
        main.set_title(
            f"Wasserstein {distance.wasserstein:.2g} ({distance.wasserstein_floor:.1g} by chance)\n"
            f"JSD {distance.jsd:.2g} ({distance.jsd_floor:.1g})",
            loc="left",
            fontsize=10,
        )


def average_image_figure(
    generated: npt.ArrayLike,
    training: npt.ArrayLike,
    *,
    half_eta: float = 1.0,
    half_phi: float = 1.0,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw the average image of generated jets (n, rows, columns), the training's (k, rows, columns), and their difference.

    half_eta, half_phi: half the window's width; each image is divided by its sum. Raises InputError for shapes that do not go together.
    """
    images = [np.asarray(x, dtype=np.float64) for x in (training, generated)]
    if any(x.ndim != 3 or not len(x) for x in images) or images[0].shape[1:] != images[1].shape[1:]:
        raise InputError(
            f"images of shapes {images[1].shape} and {images[0].shape}; (n, rows, columns) of one size are expected"
        )
    means = [(x / np.maximum(x.sum(axis=(1, 2), keepdims=True), 1e-300)).mean(axis=0) for x in images]
    where: dict[str, Any] = {"origin": "lower", "extent": (-half_eta, half_eta, -half_phi, half_phi), "aspect": "auto"}
    brightest = max(float(mean.max()) for mean in means)
    with on_figure(figure, (13.5, 4.2)) as drawn:
        axes = drawn.subplots(1, 3, sharey=True)
        for axis, mean, name, x in zip(axes, means, ("training", "generated"), images, strict=False):
            shown = axis.imshow(
                np.maximum(mean, DARKEST * brightest),
                cmap="viridis",
                norm="log",
                vmin=DARKEST * brightest,
                vmax=brightest,
                **where,
            )
            axis.set_title(f"{name}, {len(x):,} jets", loc="left")
        drawn.colorbar(shown, ax=axes[1], label="mean share of pT")
        difference = means[1] - means[0]
        end = float(np.abs(difference).max()) or 1.0
        apart = axes[2].imshow(difference, cmap="RdBu_r", vmin=-end, vmax=end, **where)
        axes[2].set_title("generated − training", loc="left")
        drawn.colorbar(apart, ax=axes[2], label="difference")
        for axis in axes:
            axis.set_xlabel(r"$\eta$")
        axes[0].set_ylabel(r"$\phi$")
    return drawn


def latent_mass_figure(
    correlations: LatentCorrelations,
    latent_means: npt.ArrayLike,
    mass: npt.ArrayLike,
    values: npt.ArrayLike,
    generated_mass: npt.ArrayLike,
    *,
    images: npt.ArrayLike | None = None,
    mass_label: str = "jet mass [GeV]",
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw how latent dimensions go with the mass, and the mass along the one that goes with it most.

    correlations: of `latent_correlations`; latent_means (n, dimensions), mass (n,): of the training, drawn as a density; values (k,): of that
    dimension; generated_mass (k, draws): of jets generated there, whose median and central 68 % are drawn; images (k, rows, columns): of
    generated jets along it, drawn below. Raises InputError for shapes that do not go together.
    """
    means, masses = np.asarray(latent_means, dtype=np.float64), np.asarray(mass, dtype=np.float64)
    at, made = np.asarray(values, dtype=np.float64), np.asarray(generated_mass, dtype=np.float64)
    pictures = None if images is None else np.asarray(images, dtype=np.float64)
    _require_along(correlations, means, masses, at, made, pictures)
    most = correlations.most
    with on_figure(figure, (12, 4.6 if pictures is None else 6.6)) as drawn:
        parts: Any = drawn.subfigures(
            1 if pictures is None else 2, 1, squeeze=False, height_ratios=[1] if pictures is None else [2.3, 1]
        )
        left, right = parts[0, 0].subplots(1, 2)
        _bars(correlations, ax=left)
        low, high = np.quantile(masses, [0.0, 0.99])
        top = max(float(high), float(np.quantile(made, 0.9)))
        density = right.hist2d(
            means[:, most], masses, bins=60, range=[[at.min(), at.max()], [low, top]], cmap="Greys", norm="log"
        )
        parts[0, 0].colorbar(density[3], ax=right, label="training jets")
        bottom, middle, upper = np.quantile(made, [0.16, 0.5, 0.84], axis=1)
        right.fill_between(at, bottom, upper, color=COLOURS[0], alpha=0.3, linewidth=0)
        right.plot(at, middle, "o-", color=COLOURS[0], markersize=4, label="generated: median, central 68 %")
        right.set_xlabel(f"latent dimension {most}")
        right.set_ylabel(mass_label)
        right.set_ylim(low, top)
        right.legend(loc="upper left", frameon=True, facecolor="white", framealpha=0.85)
        if pictures is not None:
            _strip(pictures, at, parts[1, 0])
    return drawn


def _bars(correlations: LatentCorrelations, *, ax: Axes | None = None) -> Axes:
    """Draw the size of the three correlations of each dimension."""
    with on_axes(ax, (6, 4.6)) as axes:
        places = np.arange(len(correlations.dcorr2))
        shown = {
            "|Pearson|": np.abs(correlations.pearson),
            "|Spearman|": np.abs(correlations.spearman),
            "dCorr²": correlations.dcorr2,
        }
        for i, (name, values) in enumerate(shown.items()):
            axes.bar(places + 0.27 * (i - 1), np.maximum(values, 0), width=0.25, color=COLOURS[i], label=name)
        axes.set_xticks(places, [str(p) for p in places])
        axes.set_xlabel("latent dimension")
        axes.set_ylabel("correlation with the mass")
        axes.set_ylim(0, 1.25 * max(float(v.max()) for v in shown.values()) + 0.02)
        axes.legend()
    return axes


def _strip(pictures: Floats, at: Floats, part: SubFigure) -> None:
    """Draw images of jets side by side, with the latent value of each."""
    axes = np.atleast_1d(part.subplots(1, len(pictures)))
    part.suptitle("generated jets there, all other dimensions at 0", fontsize=11)
    for axis, picture, value in zip(axes, pictures, at, strict=True):
        end = float(picture.max()) or 1.0
        axis.imshow(
            np.maximum(picture, DARKEST * end), cmap="viridis", norm="log", vmin=DARKEST * end, vmax=end, origin="lower"
        )
        axis.set_title(f"{value:.2g}", fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])


def _require_along(
    correlations: LatentCorrelations, means: Floats, masses: Floats, at: Floats, made: Floats, pictures: Floats | None
) -> None:
    """Raise InputError where the shapes of `latent_mass_figure` do not go together."""
    n = len(correlations.dcorr2)
    fits = means.ndim == 2 and means.shape[1] == n and masses.shape == (len(means),) and len(means) > 0
    fits = fits and at.ndim == 1 and len(at) > 1 and made.ndim == 2 and len(made) == len(at) and made.shape[1] > 0
    if not fits or (pictures is not None and (pictures.ndim != 3 or len(pictures) != len(at))):
        raise InputError(
            f"correlations of {n} dimensions, latent means {means.shape}, mass {masses.shape}, values {at.shape}, generated mass "
            f"{made.shape}, images {None if pictures is None else pictures.shape}; (n, {n}), (n,), (k,), (k, draws) and (k, rows, columns) "
            "are expected"
        )
