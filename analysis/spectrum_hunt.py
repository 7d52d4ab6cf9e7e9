"""A hunt in the spectra of disjoint regions, with the checks that stand beside it: of given spectra, and of a search's own."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import hist
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..pieces import NONE_KEPT, Pieces
from .checks.background_only import Uniformity, local_p_uniformity
from .checks.bias import Bias, bias_test
from .checks.bias_checks import bias_notes
from .checks.injection import Linearity, injection_linearity
from .fits.alternatives import Alternative
from .fits.minuit_fit import MinuitFit, fit_with_minuit
from .goodness.envelope import other_families
from .goodness.fit_quality import bending_notes, fit_notes, fit_qualities, quality_notes, significance_refused
from .goodness.saturated import saturated_fits, saturated_notes
from .ranges.fit_range import masses_note, range_of_spectrum, scan_masses
from .significance.after_first import Second, second_of
from .significance.bumphunt import BumpHunt, hunt, stack
from .significance.procedure import HuntSettings
from .significance.q0 import q0_row
from .spectra.bins import FitRange, as_hist
from .spectra.signal_shape import SignalShape

__all__ = ["SpectrumHunt", "hunt_in_range", "hunt_spectra"]

log = logging.getLogger(__name__)
Floats = npt.NDArray[np.float64]
BIAS_EXPERIMENTS = 100  # of a family and strength: a bias is known to 0.1 sigma
REGIONS_OF_BIAS = 3  # from which there are fewer
PART = 50  # of the pseudo-experiments


@dataclass(frozen=True, repr=False)
class SpectrumHunt:
    """One hunt: names of its disjoint regions, what was hunted in and found, and the checks beside it.

    counts, edges: (regions, bins) and (bins + 1,) GeV as given, of which the fit range is a part; others: (regions,
    families) fits of other background functions, bias: what the hunt says of experiments drawn from them; no_significance: why its
    p-values mean nothing, None where they do; second: the excess beside the first one, where that was taken into the model.
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
    others: tuple[tuple[Alternative, ...], ...]
    bias: Bias
    notes: tuple[str, ...]
    no_significance: str | None
    second: Second | None

    def __repr__(self) -> str:
        """Return the answer in two lines at most."""
        refused = f",\n    no significance: {self.no_significance}" if self.no_significance else ""
        return f"{type(self).__name__}({self.hunt.answer}, notes: {len(self.notes)}{refused})"

    @property
    def spectra(self) -> tuple[hist.Hist[Any], ...]:
        """Return the spectrum of each region inside the fit range."""
        observable = self.hunt.settings.observable
        return tuple(as_hist(self.hunt.edges, row, observable=observable) for row in self.hunt.counts)


def hunt_spectra(
    spectra: Mapping[str, hist.Hist[Any]],
    *,
    shape: SignalShape | None = None,
    settings: HuntSettings | None = None,
    fit_range: tuple[float, float] | FitRange | None = None,
    masses: tuple[float, float] | None = None,
    progress: bool = True,
    pieces: Pieces = NONE_KEPT,
) -> SpectrumHunt:
    """Hunt in the spectra of disjoint regions, name -> hist on one mass axis in GeV, in their own bins.

    shape: of the signal, a Gaussian of 3.5 % where none is given, its core of each of settings.widths where there are any; fit_range, masses: [low, high] GeV, or a range that was fixed before, else chosen from the
    bins (`range_of_spectrum`, `scan_masses`). Where the background function fails no pseudo-experiments are made and
    `no_significance` says so. pieces: where finished experiments are kept. Raises InputError for what is no spectrum of counts, and for ranges it does not cover.
    """
    shape, settings = shape or SignalShape(), settings or HuntSettings()
    edges, counts = stack(spectra)
    widths = settings.widths or (shape.width,)
    if isinstance(fit_range, FitRange):
        window = as_it_is(fit_range, edges)
    else:
        window = range_of_spectrum(
            counts.sum(axis=0),
            edges,
            shape=dataclasses.replace(shape, width=max(widths)),
            sqrt_s=settings.sqrt_s,
            family=settings.family,
            fit_range=fit_range,
        )
    settings = settings.in_range(window)
    start = int(np.searchsorted(edges, window.low))
    stop = start + len(window.edges) - 1
    inside = counts[:, start:stop]
    below, above = int(counts[:, :start].sum()), int(counts[:, stop:].sum())
    cutflow = {
        "below the fit range": below,
        "above the fit range": above,
        **{name: int(row.sum()) for name, row in zip(spectra, inside, strict=True)},
    }
    notes = []
    if fit_range is None and below > 0.5 * counts.sum():
        where = f"the fit range, which starts at {settings.observable.at(window.low)} ({window.chosen})"
        notes.append(f"{below} of {counts.sum():.0f} events lie below {where}: they are not hunted in")
    grid = scan_masses(window, inside.sum(axis=0), width=min(widths), masses=masses)
    notes += masses_note(window, inside.sum(axis=0), grid, width=min(widths), masses=masses)
    found = hunt_in_range(
        {name: as_hist(window.edges, row) for name, row in zip(spectra, inside, strict=True)},
        window,
        grid,
        shape=shape,
        settings=settings,
        refusing=True,
        cutflow=cutflow,
        notes=notes,
        progress=progress,
        pieces=pieces,
    )
    return dataclasses.replace(found, counts=counts, edges=edges)


def as_it_is(fixed: FitRange, edges: Floats) -> FitRange:
    """Return a range that was fixed before; raises InputError where its bins are not those of the spectrum, edges (bins + 1,) GeV."""
    low, high = np.searchsorted(edges, fixed.low), np.searchsorted(edges, fixed.high)
    if not np.array_equal(edges[low : high + 1], np.asarray(fixed.edges)):
        raise InputError(
            f"the fit range that was fixed, {fixed.low:g} to {fixed.high:g} GeV in {len(fixed.edges) - 1} bins, has other bins than this "
            f"spectrum, {edges[0]:g} to {edges[-1]:g} GeV in {len(edges) - 1}"
        )
    return fixed


def hunt_in_range(
    spectra: Mapping[str, hist.Hist[Any]],
    fit_range: FitRange,
    masses: Floats,
    *,
    shape: SignalShape,
    settings: HuntSettings,
    refusing: bool,
    cutflow: Mapping[str, int],
    notes: Sequence[str] = (),
    progress: bool = True,
    pieces: Pieces = NONE_KEPT,
) -> SpectrumHunt:
    """Hunt at the given masses (GeV) in spectra that have the bins of the fit range, and check the hunt.

    refusing: whether significance is refused where the background function fails, and no pseudo-experiments are made; else
    it is noted. cutflow, notes: of what was done before, kept and added to. Every note is logged.
    """
    names = tuple(spectra)
    if refusing:
        # first the fits alone: pseudo-experiments of a function that fails would say nothing
        found = hunt(spectra, masses, shape=shape, settings=dataclasses.replace(settings, pseudo_experiments=0))
        refused = significance_refused(fit_qualities(found, names, second_of(found, progress=False)))
    else:
        refused = None
    if refused is None:
        found = hunt(spectra, masses, shape=shape, settings=settings, progress=progress, pieces=pieces)
    second = second_of(found, progress=progress, pieces=pieces)
    minuit = tuple(
        fit_with_minuit(
            counts,
            found.edges,
            int(order),
            sqrt_s=settings.sqrt_s,
            family=settings.family,
            columns=found.columns(r),
        )
        for r, (counts, order) in enumerate(zip(found.counts, found.background.order, strict=True))
    )
    others = other_families(found)
    bias = bias_test(
        found,
        names,
        n=0 if refused else bias_experiments(settings, regions=len(names)),
        others=others,
        seed=settings.seed,
        progress=progress,
        pieces=pieces,
    )
    said = (
        *notes,
        *quality_notes(fit_qualities(found, names, second), refusing=refusing),
        *saturated_notes(saturated_fits(found, names)),
        *fit_notes(found, minuit, names),
        *([] if refused else bending_notes(found, names)),
        *bias_notes(bias, settings.observable),
    )
    for note in said:
        log.warning("%s", note)
    middle = np.unique(np.linspace(0, len(masses) - 1, 5).astype(int)[1:-1])
    expected = found.background.expected
    return SpectrumHunt(
        names=names,
        counts=found.counts,
        edges=found.edges,
        fit_range=fit_range,
        hunt=found,
        minuit=minuit,
        q0_p=tuple(q0_row(found, r) if refused is None else (None,) * len(masses) for r in range(len(names))),
        cutflow=dict(cutflow),
        linearity=injection_linearity(
            expected[0],
            found.edges,
            float(found.masses[found.best]),
            shape=found.shape,
            settings=settings,
            region=names[0],
            lowest=int(found.background.order[0]),
            pieces=pieces,
        ),
        uniformity=tuple(
            local_p_uniformity(
                expected,
                found.edges,
                found.masses[middle],
                shape=found.shape,
                settings=found.experiment_settings,
                pieces=pieces,
            )
        ),
        others=others,
        bias=bias,
        notes=said,
        no_significance=refused,
        second=second,
    )


def bias_experiments(settings: HuntSettings, *, regions: int) -> int:
    """Return how many experiments of a family the report of a hunt has: a few seconds' worth, none without pseudo-experiments.

    `hunch validate` has more.
    """
    return min(BIAS_EXPERIMENTS, REGIONS_OF_BIAS * BIAS_EXPERIMENTS // regions, settings.pseudo_experiments // PART)
