"""A hunt in spectra that others made: range and masses from their bins, the scan, its checks, result and figures."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hist
import numpy as np
import numpy.typing as npt

from .checks.background_only import Uniformity, local_p_uniformity
from .checks.injection import Linearity, injection_linearity
from .figures.base import range_figure, save_figure, scan_figure, spectrum_figure
from .fits.background import choose_background
from .fits.minuit_fit import MinuitFit, fit_with_minuit
from .resonance_search import fit_notes, q0_row
from .results import best_of, fits_of, scan_of
from .significance.bumphunt import BumpHunt, HuntSettings, hunt, stack
from .significance.envelope import background_envelope
from .significance.fit_quality import fit_qualities, quality_notes, significance_refused
from .significance.fit_range import range_of_spectrum, scan_masses
from .spectra.bins import FitRange, as_hist
from .spectra.signal_shape import SignalShape

__all__ = ["SpectrumHunt", "draw_spectrum_figures", "hunt_spectra", "spectrum_result"]

log = logging.getLogger(__name__)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SpectrumHunt:
    """One hunt in given spectra: names of its disjoint regions, what was hunted in and found, and the checks beside it.

    counts, edges: (regions, bins) and (bins + 1,) GeV as given, of which the fit range is a part; no_significance: why its
    p-values mean nothing, None where they do.
    """

    names: tuple[str, ...]
    counts: Floats
    edges: Floats
    fit_range: FitRange
    hunt: BumpHunt
    minuit: tuple[MinuitFit, ...]
    q0_p: tuple[tuple[float | None, ...], ...]
    cutflow: dict[str, int]
    linearity: Linearity
    uniformity: tuple[Uniformity, ...]
    notes: tuple[str, ...]
    no_significance: str | None


def hunt_spectra(
    spectra: Mapping[str, hist.Hist[Any]],
    *,
    shape: SignalShape | None = None,
    settings: HuntSettings | None = None,
    fit_range: tuple[float, float] | None = None,
    masses: tuple[float, float] | None = None,
    progress: bool = True,
) -> SpectrumHunt:
    """Hunt in the spectra of disjoint regions, name -> hist on one mass axis in GeV, in their own bins.

    shape: of the signal, a Gaussian of 3.5 % where none is given; fit_range, masses: [low, high] GeV, else chosen from the
    bins (`range_of_spectrum`, `scan_masses`). Where the background function fails no pseudo-experiments are made and
    `no_significance` says so. Raises InputError for what is no spectrum of counts, and for ranges it does not cover.
    """
    shape, settings = shape or SignalShape(), settings or HuntSettings()
    names = tuple(spectra)
    edges, counts = stack(spectra)
    window = range_of_spectrum(
        counts.sum(axis=0), edges, shape=shape, sqrt_s=settings.sqrt_s, family=settings.family, fit_range=fit_range
    )
    start = int(np.searchsorted(edges, window.low))
    inside = counts[:, start : start + len(window.edges) - 1]
    grid = scan_masses(window, inside.sum(axis=0), width=shape.width, masses=masses)
    hunted = {n: as_hist(window.edges, row) for n, row in zip(names, inside, strict=True)}
    # first the fits alone: pseudo-experiments of a function that fails would say nothing
    found = hunt(hunted, grid, shape=shape, settings=dataclasses.replace(settings, pseudo_experiments=0))
    qualities = fit_qualities(found, names)
    refused = significance_refused(qualities)
    if refused is None:
        found = hunt(hunted, grid, shape=shape, settings=settings, progress=progress)
    minuit = tuple(
        fit_with_minuit(
            found.counts[r], found.edges, int(found.background.order[r]), sqrt_s=settings.sqrt_s, family=settings.family
        )
        for r in range(len(names))
    )
    cutflow = {
        "below the fit range": int(counts[:, :start].sum()),
        "above the fit range": int(counts[:, start + len(window.edges) - 1 :].sum()),
        **{name: int(inside[r].sum()) for r, name in enumerate(names)},
    }
    notes = [
        *range_notes(window, cutflow, counts, fit_range),
        *quality_notes(qualities, refusing=True),
        *fit_notes(found, minuit),
    ]
    for note in notes:
        log.warning("%s", note)
    middle = np.unique(np.linspace(0, len(grid) - 1, 5).astype(int)[1:-1])
    return SpectrumHunt(
        names=names,
        counts=counts,
        edges=edges,
        fit_range=window,
        hunt=found,
        minuit=minuit,
        q0_p=tuple(q0_row(found, r) if refused is None else (None,) * len(grid) for r in range(len(names))),
        cutflow=cutflow,
        linearity=injection_linearity(
            found.background.expected[0],
            found.edges,
            float(grid[found.best]),
            shape=shape,
            settings=settings,
            region=names[0],
            lowest=int(found.background.order[0]),
        ),
        uniformity=tuple(
            local_p_uniformity(
                found.background.expected, found.edges, grid[middle], shape=shape, settings=found.experiment_settings
            )
        ),
        notes=tuple(notes),
        no_significance=refused,
    )


def range_notes(
    window: FitRange, cutflow: Mapping[str, int], counts: Floats, given: tuple[float, float] | None
) -> list[str]:
    """Say it where most events are not hunted in because the function does not describe them."""
    below, total = cutflow["below the fit range"], counts.sum()
    if given is None and below > 0.5 * total:
        start = f"the fit range, which starts at {window.low:.0f} GeV ({window.chosen})"
        return [f"{below} of {total:.0f} events lie below {start}: they are not hunted in"]
    return []


def spectrum_result(found: SpectrumHunt) -> dict[str, Any]:
    """Return a hunt's answer as a JSON-like mapping with `best`, `scan`, `fit_range` and `regions` as `result_of` has them."""
    return {
        "best": best_of(found.hunt, found.no_significance),
        "scan": scan_of(found.hunt, found.names, found.q0_p),
        "fit_range": dataclasses.asdict(found.fit_range) | {"low": found.fit_range.low, "high": found.fit_range.high},
        "signal_shape": found.hunt.shape.as_dict(),
        "regions": {
            "n_regions": len(found.names),
            "regions": fits_of(found.hunt, found.names, found.minuit),
        },
        "cutflow": found.cutflow,
        "background_envelope": background_envelope(found.hunt).as_dict(),
        "injection_linearity": dataclasses.asdict(found.linearity),
        "local_p_uniformity": [dataclasses.asdict(u) for u in found.uniformity],
        "notes": list(found.notes),
    }


def draw_spectrum_figures(found: SpectrumHunt, folder: str | Path) -> list[Path]:
    """Draw and write the scan, each region's spectrum, and the fit range on the sum of all regions; returns the files."""
    hunted, window = found.hunt, found.fit_range
    settings = hunted.settings
    inclusive = hunted.counts.sum(axis=0)
    fit = choose_background(inclusive[None], hunted.edges, sqrt_s=settings.sqrt_s, family=settings.family)
    name = found.names[0] if len(found.names) == 1 else "all regions"
    drawn = {
        "p_value_scan": scan_figure(hunted, found.names),
        "fit_range": range_figure(
            found.counts.sum(axis=0), found.edges, hunted.edges, fit.expected[0], name, (window.low, window.high)
        ),
        **{f"spectrum_{r}": spectrum_figure(hunted, r, n) for r, n in enumerate(found.names)},
    }
    return [path for name, figure in drawn.items() for path in save_figure(figure, folder, name)]
