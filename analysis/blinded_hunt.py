"""A hunt with a blind window: what can be fixed and checked before anybody looks into it, and no p-value.

The fit range follows from the spectrum with a power law in place of the window's bins, and is stored; the background is fitted to the
other bins. Expected errors and checks are those of experiments from that fit. Unblinding hunts in exactly the stored range.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import hist
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..files import finite
from ..pieces import NONE_KEPT, Pieces
from .checks.background_only import Uniformity, local_p_uniformity
from .checks.injection import Linearity, injection_linearity
from .fits.background import BackgroundFit, goodness_of_fit
from .fits.log_p import stated_p
from .goodness.fit_quality import DOUBTFUL
from .ranges.fit_range import masses_note, range_of_spectrum, scan_masses
from .significance.bumphunt import check_hunted, stack
from .significance.masked import bins_seen, filled, masked_background
from .significance.procedure import HuntSettings, of_experiments, procedure
from .spectra.bins import FitRange, TurnOn
from .spectra.signal_shape import SignalShape, signal_templates

__all__ = ["BlindedHunt", "blinded_result", "hunt_blinded", "stored_range"]

log = logging.getLogger(__name__)
Floats = npt.NDArray[np.float64]
FEWEST_SEEN = 6  # bins of the fit range


@dataclass(frozen=True, repr=False)
class BlindedHunt:
    """Spectra (regions, bins) in the fit range, the bins that are seen, the background fitted to those, and expected results.

    window: (low, high) GeV, the edges of the masked bins; fit_p: (regions,), of the bins seen; error: (regions, masses) of a yield where
    the spectra are what the fit expects.
    """

    names: tuple[str, ...]
    window: tuple[float, float]
    fit_range: FitRange
    counts: Floats
    seen: npt.NDArray[np.bool_]
    masses: Floats
    background: BackgroundFit
    fit_p: Floats
    error: Floats
    shape: SignalShape
    settings: HuntSettings
    cutflow: dict[str, int]
    linearity: Linearity
    uniformity: tuple[Uniformity, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        """Return the window and the range in a line."""
        of = self.settings.observable
        return (
            f"BlindedHunt(blind {of.span(*self.window)}, fit range {of.span(self.fit_range.low, self.fit_range.high)})"
        )


def hunt_blinded(
    spectra: Mapping[str, hist.Hist[Any]],
    window: tuple[float, float],
    *,
    shape: SignalShape | None = None,
    settings: HuntSettings | None = None,
    fit_range: tuple[float, float] | None = None,
    masses: tuple[float, float] | None = None,
    experiments: int = 1000,
    pieces: Pieces = NONE_KEPT,
) -> BlindedHunt:
    """Fix the range of a hunt in spectra (name -> hist, GeV) and fit the background without the bins of a window [low, high] GeV.

    The contents of those bins change nothing of what comes back. experiments: of the check of local p, a fifth of them of a
    strength of injected signals; other arguments as `hunt_spectra` has them. Raises InputError for
    a window beside the fit range, or one that leaves too few bins.
    """
    shape, settings = shape or SignalShape(), settings or HuntSettings()
    edges, counts = stack(spectra)
    seen = bins_seen(edges, window)
    widths = settings.widths or (shape.width,)
    counts = np.where(seen, counts, 0.0)
    inclusive = filled(counts.sum(axis=0), edges, seen)
    chosen = range_of_spectrum(
        inclusive,
        edges,
        shape=dataclasses.replace(shape, width=max(widths)),
        sqrt_s=settings.sqrt_s,
        family=settings.family,
        fit_range=fit_range,
    )
    settings = settings.in_range(chosen)
    start = int(np.searchsorted(edges, chosen.low))
    part = slice(start, start + len(chosen.edges) - 1)
    bins, inside, left = np.asarray(chosen.edges), counts[:, part], seen[part]
    said = f"blind [{window[0]:g}, {window[1]:g}] GeV"
    if left.all():
        raise InputError(f"{said}: lies outside of the fit range, {chosen.low:g} to {chosen.high:g} GeV")
    if left.sum() < FEWEST_SEEN:
        raise InputError(
            f"{said}: leaves {left.sum()} of {len(left)} bins of the fit range; {FEWEST_SEEN} or more are needed"
        )
    grid = scan_masses(chosen, inclusive[part], width=min(widths), masses=masses)
    check_hunted(inside, bins, grid, settings, width=max(widths))
    background = masked_background(inside, bins, left, settings)
    expected = background.expected
    drawn = of_experiments(settings, background)
    hunted = dataclasses.replace(shape, width=min(widths))
    asimov = procedure(expected, bins, signal_templates(hunted, grid, bins), drawn)
    middle = np.unique(np.linspace(0, len(grid) - 1, 5).astype(int)[1:-1])
    names = tuple(spectra)
    masked = (float(edges[:-1][~seen][0]), float(edges[1:][~seen][-1]))
    fit_p = goodness_of_fit(inside[:, left], expected[:, left], background.n_parameters)
    notes = (
        *masses_note(chosen, inclusive[part], grid, width=min(widths), masses=masses),
        *(
            f"{name}: the {settings.family} function fits the bins outside of the blind window with p {stated_p(p)}"
            for name, p in zip(names, fit_p.tolist(), strict=True)
            if p < DOUBTFUL
        ),
    )
    for note in notes:
        log.warning("%s", note)
    return BlindedHunt(
        names=names,
        window=masked,
        fit_range=chosen,
        counts=inside,
        seen=left,
        masses=grid,
        background=background,
        fit_p=fit_p,
        error=np.where(asimov.scan.converged, asimov.scan.error, np.nan),
        shape=hunted,
        settings=settings,
        cutflow={
            "below the fit range": int(counts[:, :start].sum()),
            "above the fit range": int(counts[:, part.stop :].sum()),
            **{f"{name}, seen": int(row.sum()) for name, row in zip(names, inside, strict=True)},
        },
        linearity=injection_linearity(
            expected[0],
            bins,
            float(grid[np.abs(grid - 0.5 * sum(masked)).argmin()]),
            shape=hunted,
            settings=settings,
            region=names[0],
            n=experiments // 5,
            lowest=int(background.order[0]),
            pieces=pieces,
        ),
        uniformity=tuple(
            local_p_uniformity(expected, bins, grid[middle], shape=hunted, settings=drawn, n=experiments, pieces=pieces)
        ),
        notes=notes,
    )


def blinded_result(found: BlindedHunt) -> dict[str, Any]:
    """Return what a blinded hunt knows as a JSON-like mapping: counts of the window are null, and no p-value of a bump is in it."""
    observable, process = found.settings.observable, found.background.process
    where = observable.span(*found.window)
    regions = []
    for r, name in enumerate(found.names):
        chosen = found.settings.process
        of_process = process and {
            "width": float(process.width[r]),
            "length": float(process.length[r]),
            "edge_terms": chosen.edge_terms,
            "widths": list(chosen.widths),
            "lengths": list(chosen.lengths),
            "modes": chosen.modes,
        }
        regions.append(
            {
                "name": name,
                "events": int(found.counts[r].sum()),
                "counts": [n if s else None for n, s in zip(found.counts[r].tolist(), found.seen, strict=True)],
                "expected": found.background.expected[r].tolist(),
                "fit": {
                    "family": found.settings.family,
                    "order": int(found.background.order[r]),
                    "p_value": float(found.fit_p[r]),
                    "process": of_process,
                },
            }
        )
    window = list(found.window)
    return {
        "blinded": {"window": window, "bins": int((~found.seen).sum())},
        "best": {"mass": None, "p_global": None, "z_global": None, "no_significance": f"blind: {where} is masked"},
        "scan": {
            "masses": found.masses.tolist(),
            "combination": found.settings.combination,
            "widths_scanned": list(found.settings.widths),
            "regions": [
                {"name": name, "signal_yield_error": row}
                for name, row in zip(found.names, finite(found.error.tolist()), strict=True)
            ],
        },
        "fit_range": dataclasses.asdict(found.fit_range) | {"low": found.fit_range.low, "high": found.fit_range.high},
        "signal_shape": found.shape.as_dict(),
        "observable": dataclasses.asdict(observable),
        "regions": {"n_regions": len(found.names), "regions": regions},
        "cutflow": found.cutflow,
        "injection_linearity": finite(dataclasses.asdict(found.linearity)),
        "local_p_uniformity": [dataclasses.asdict(u) for u in found.uniformity],
        "notes": list(found.notes),
    }


def stored_range(result: Mapping[str, Any]) -> FitRange:
    """Return the fit range that a blinded result stores, with its test for a turn-on, as it was fixed."""
    window, stored = result["blinded"]["window"], result["fit_range"]
    turn_on = stored["turn_on"]
    return FitRange(
        tuple(float(e) for e in stored["edges"]),
        f"fixed while {window[0]:g} to {window[1]:g} GeV was blind: {stored['chosen']}",
        None if turn_on is None else TurnOn(**turn_on | {"mode": tuple(turn_on["mode"])}),
    )
