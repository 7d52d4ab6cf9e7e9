"""The bump hunt: local p-values over regions and masses, their combination, and the global p-value of the whole scan."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import hist
import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ...pieces import NONE_KEPT, Pieces
from ..fits.background import BackgroundFit, family_orders, goodness_of_fit, is_log_linear
from ..fits.columns import Columns, columns_at
from ..fits.gaussian_process import GAUSSIAN_PROCESS
from ..fits.log_p import p_of_log, stated_p, z_of_log
from ..fits.scan import LocalScan
from ..p_values.gross_vitells import GrossVitells, from_crossings
from ..p_values.local_p import LocalP, local_p
from ..spectra.signal_shape import SignalShape
from .experiments import GlobalP, pseudo_experiments
from .procedure import HuntSettings, of_experiments, procedure, saturated_deviances, signed_z
from .widths import at_best_width, best_widths, width_templates

__all__ = ["BumpHunt", "check_hunted", "check_width", "hunt", "stack"]

log = logging.getLogger(__name__)
Floats = npt.NDArray[np.float64]
WIDEST = 0.10  # relative width of a signal: a wider one and a process of these lengths cannot be told apart


@dataclass(frozen=True, repr=False)
class BumpHunt:
    """One hunt: spectra and background fits (regions, bins), scan (regions, masses), ln of combined p (masses,), global p.

    first, log_first: the scan and the combined p before a Gaussian process was chosen again; else the same as the others.
    templates: (masses, bins), of the width that is best at each mass, `widths` (masses,), as scan and combined p are; shape: of the best
    mass. all_templates: (widths * masses, bins), every width after the other, log_all: ln of the combined p of each. deviances: (2, regions) of the
    background fits, as `saturated_deviances` has them.
    """

    edges: Floats
    masses: Floats
    counts: Floats
    background: BackgroundFit
    fit_p: Floats
    scan: LocalScan
    templates: Floats
    log_combined: Floats
    first: LocalScan
    log_first: Floats
    global_p: GlobalP | None
    shape: SignalShape
    settings: HuntSettings
    widths: Floats
    all_templates: Floats
    log_all: Floats
    deviances: Floats

    def __repr__(self) -> str:
        """Return the answer in one line."""
        return f"BumpHunt({self.answer})"

    @property
    def answer(self) -> str:
        """Return what was hunted in and found, in one line."""
        at = self.settings.observable.at
        width = f", {100 * self.widths[self.best]:.2g} % wide," if self.scans_widths else ""
        found = f"regions: {len(self.counts)}, {at(self.edges[0])} to {at(self.edges[-1])}, masses: {len(self.masses)}"
        best = f"largest excess at {at(self.masses[self.best])}{width} with local p {stated_p(self.local_p.p)}"
        glob = self.global_p
        wide = "" if glob is None else f", global p {stated_p(glob.p, bound=glob.is_bound)}"
        return f"{found}, {best}{wide}"

    @property
    def best(self) -> int:
        """Return the index of the mass where the combined local p is smallest, by its logarithm: p itself ends at 1e-300."""
        return int(np.argmin(self.log_combined))

    @property
    def scans_widths(self) -> bool:
        """Tell whether several widths were scanned."""
        return len(self.all_templates) > len(self.masses)

    @property
    def best_widths(self) -> npt.NDArray[np.int64]:
        """Return the number of each mass's best width among all templates: (masses,)."""
        return best_widths(self.log_all, len(self.masses))

    @property
    def combined(self) -> Floats:
        """Return the combined local p at every mass (masses,), 1e-300 where it is smaller."""
        return p_of_log(self.log_combined)

    @property
    def z_combined(self) -> Floats:
        """Return the significance of the combined local p at every mass, however small that is: (masses,)."""
        return z_of_log(self.log_combined)

    @property
    def local_p(self) -> LocalP:
        """Return the local p at the best mass that is quoted, calibrated by the experiments where there are any."""
        log_observed, log_first = float(self.log_combined[self.best]), float(self.log_first[self.best])
        if self.global_p is None or self.global_p.local is None:
            return LocalP(max(log_observed, log_first), "asymptotic", 0, 0)
        return local_p(self.global_p.local, log_observed, log_first)

    @property
    def expected_in_window(self) -> Floats:
        """Return the background expected within 2 widths of each mass, all regions together: (masses,) events."""
        window = 2 * self.widths
        low = np.maximum(self.edges[None, :-1], (self.masses * (1 - window))[:, None])
        high = np.minimum(self.edges[None, 1:], (self.masses * (1 + window))[:, None])
        share = np.clip((high - low) / np.diff(self.edges)[None, :], 0.0, 1.0)
        return np.asarray((share[:, None, :] * self.background.expected[None, :, :]).sum(axis=(1, 2)))

    def columns(self, region: int) -> Columns | None:
        """Return the columns of one region's background; None of a family that is not log-linear."""
        family = self.settings.family
        if not (is_log_linear(family) or family == GAUSSIAN_PROCESS):
            return None
        return columns_at(self.background, region, self.edges, sqrt_s=self.settings.sqrt_s, family=family)

    @property
    def experiment_settings(self) -> HuntSettings:
        """Return the settings of pseudo-experiments drawn from this hunt's background fits."""
        return of_experiments(self.settings, self.background)

    @property
    def largest_z(self) -> Floats:
        """Return each region's largest signed z anywhere in the scan: (regions,)."""
        return np.asarray(signed_z(self.scan).max(axis=1))

    def gross_vitells(self) -> list[GrossVitells] | None:
        """Return the global p of each region's own largest z; None without pseudo-experiments, and where widths are scanned."""
        if self.global_p is None or self.scans_widths:
            return None
        level, crossings = self.global_p.crossing_level, self.global_p.region_crossings.T
        return [from_crossings(z, c, level=level) for z, c in zip(self.largest_z.tolist(), crossings, strict=True)]


def hunt(
    spectra: Mapping[str, hist.Hist[Any]] | Sequence[hist.Hist[Any]],
    masses: npt.ArrayLike,
    *,
    shape: SignalShape | None = None,
    settings: HuntSettings | None = None,
    progress: bool = True,
    pieces: Pieces = NONE_KEPT,
) -> BumpHunt:
    """Hunt for a bump in the spectra of disjoint regions (one hist each, same mass axis in GeV) at the given masses.

    Raises InputError for weighted, differing or empty spectra, for fewer bins than parameters, and for masses outside the
    bins. Masses mean the peak of the reconstructed observable. settings.widths: of the shape's core, in place of its own. pieces: where finished pseudo-experiments are kept.
    """
    shape, settings = shape or SignalShape(), settings or HuntSettings()
    edges, counts = stack(spectra)
    grid = np.atleast_1d(np.asarray(masses, dtype=np.float64))
    widths = settings.widths or (shape.width,)
    check_hunted(counts, edges, grid, settings, width=max(widths))
    templates = width_templates(shape, widths, grid, edges)
    made = procedure(counts, edges, templates, settings)
    background, scan, combined = made.background, made.scan, made.log_combined
    if not background.converged.all():
        log.warning("the background fit of region %s did not converge", np.flatnonzero(~background.converged).tolist())
    result = None
    if settings.pseudo_experiments > 0:
        result = pseudo_experiments(
            background.expected,
            edges,
            templates,
            float(combined[0].min()),
            at=int(combined[0].argmin()),
            settings=of_experiments(settings, background),
            progress=progress,
            pieces=pieces,
        )
    at = best_widths(combined[0], len(grid))
    of_mass = np.repeat(widths, len(grid))[at]
    return BumpHunt(
        edges=edges,
        masses=grid,
        counts=counts,
        background=background,
        fit_p=goodness_of_fit(counts, background.expected, background.n_parameters),
        scan=at_best_width(scan, at),
        templates=templates[at],
        log_combined=combined[0, at],
        first=at_best_width(made.first, at),
        log_first=made.log_first[0, at],
        global_p=result,
        shape=replace(shape, width=float(of_mass[combined[0, at].argmin()])),
        settings=settings,
        widths=of_mass,
        all_templates=templates,
        log_all=combined[0],
        deviances=saturated_deviances(counts, background, scan),
    )


def stack(spectra: Mapping[str, hist.Hist[Any]] | Sequence[hist.Hist[Any]]) -> tuple[Floats, Floats]:
    """Return edges (bins + 1,) and counts (regions, bins); refuse weights, negative or fractional counts, differing axes."""
    named = spectra if isinstance(spectra, Mapping) else {f"spectrum {i}": h for i, h in enumerate(spectra)}
    if not named:
        raise InputError("no spectrum to hunt in")
    first = next(iter(named))
    edges = np.asarray(named[first].axes[0].edges, dtype=np.float64)
    rows = []
    for name, histogram in named.items():
        if histogram.ndim != 1 or not np.array_equal(histogram.axes[0].edges, edges):
            raise InputError(f"{name} has another mass axis than {first}")
        values = np.asarray(histogram.values(), dtype=np.float64)
        wrong = ~(np.isfinite(values) & (values >= 0) & (values == np.round(values)))
        if wrong.any():
            i = int(np.argmax(wrong))
            raise InputError(
                f"{name} is weighted or no spectrum of counts: bin {i} ({edges[i]:g} to {edges[i + 1]:g} GeV) holds {values[i]:g}"
            )
        variances = histogram.variances()
        if variances is None:  # a plain storage that was filled with weights, scaled, or added up
            log.warning("%s: its storage does not tell whether it was filled with weights; taken for counts", name)
        elif not np.array_equal(variances, values):
            raise InputError(f"{name} is weighted (its variances are not its contents); data carry no weights")
        rows.append(values)
    return edges, np.stack(rows)


def check_width(family: str, width: float) -> None:
    """Refuse signals, of a relative width, that a Gaussian process would take for background."""
    if family == GAUSSIAN_PROCESS and width > WIDEST:
        raise InputError(
            f"the signal is {100 * width:.3g} % of its mass wide; beside a Gaussian process at most {100 * WIDEST:g} % can be told from the "
            "background. Another background_function (as dijet; --function dijet), or a smaller width, is needed"
        )


def check_hunted(counts: Floats, edges: Floats, masses: Floats, settings: HuntSettings, *, width: float) -> None:
    """Refuse what no fit can say anything about: counts (regions, bins), edges (bins + 1,) and masses (n,) in GeV."""
    if not counts.any():
        raise InputError(f"the spectra are empty: no event from {edges[0]:g} to {edges[-1]:g} GeV")
    check_width(settings.family, width)
    if settings.after_first is not None and not (settings.family == GAUSSIAN_PROCESS or is_log_linear(settings.family)):
        raise InputError(
            f"after_first: a second signal is fitted beside {GAUSSIAN_PROCESS}, dijet, exponential and formulas whose logarithm is linear in "
            f"their parameters; found {settings.family}"
        )
    needed = family_orders(settings.family)[0] + 3
    if counts.shape[1] < needed:
        raise InputError(
            f"{counts.shape[1]} bins are too few: the {settings.family} function has {needed - 2} parameters or more and a bump one more, "
            f"so {needed} bins are needed"
        )
    outside = masses[~((masses > edges[0]) & (masses < edges[-1]))]
    if len(masses) == 0 or len(outside):
        found = f"found {outside[0]:g}" if len(outside) else "none is given"
        raise InputError(
            f"masses to hunt at lie between {edges[0]:g} and {edges[-1]:g} GeV, where the bins are; {found}"
        )
