"""The bump hunt: local p-values over regions and masses, their combination, and the global p-value of the whole scan.

Pseudo-experiments repeat the whole procedure (choice of the background, refit, every region, every mass, the combination) on
spectra drawn from the observed background-only fits, with scorers and regions fixed.

A Gaussian process is chosen twice: by the evidence without signal, and, once a first scan has found the mass of the largest excess
of the whole search, by the evidence with a signal of free yield there, which keeps a signal from choosing its own background. The second
choice's z is a statistic, too large by itself: experiments repeat both, and what is quoted is calibrated by them.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import hist
import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from ...errors import InputError
from ...pieces import NONE_KEPT, Pieces
from ...table import MJJ, Observable
from ..fits.background import (
    BackgroundFit,
    choose_background,
    columns_of_process,
    family_orders,
    goodness_of_fit,
    is_log_linear,
    process_background,
)
from ..fits.bernstein import half_deviance
from ..fits.columns import Columns, columns_at
from ..fits.gaussian_process import (
    GAUSSIAN_PROCESS,
    GaussianProcess,
    evidences,
    largest,
    scan_processes,
    signal_evidences,
)
from ..fits.log_p import log_p_of_z, p_of_log, stated_p, z_of_log
from ..fits.scan import LocalScan, local_scan, scan_spectra
from ..spectra.bins import FitRange
from ..spectra.signal_shape import SignalShape
from .combination import combine_log, z_value
from .gross_vitells import GrossVitells, from_crossings, up_crossings
from .local_p import LocalP, local_p
from .tail import TailFit, fit_tail, upper_limit
from .widths import at_best_width, best_widths, width_templates

__all__ = ["BumpHunt", "GlobalP", "HuntSettings", "hunt", "pseudo_experiments"]

log = logging.getLogger(__name__)
Floats = npt.NDArray[np.float64]
BLOCK = 250  # pseudo-experiments fitted together
DEFAULT_PROCESS = GaussianProcess()
WIDEST = 0.10  # relative width of a signal: a wider one and a process of these lengths cannot be told apart


@dataclass(frozen=True)
class HuntSettings:
    """What is fixed before the scan: sqrt_s in GeV, the background family, the combination, pseudo-experiments and seed.

    lowest_orders: the order that each region's F-test starts from, where a spurious signal raised it. highest, spare_orders:
    how readily the background takes further parameters, for 5,000 events and more (`choose_background`; why these values:
    docs/design/background.md). process: what may be chosen for a Gaussian process. observable: what the masses are of, its name,
    unit and label. widths: relative widths of the signal that are all scanned at every mass; without them that of the shape alone. after_first: sigma
    of the combined local statistic above which the largest excess is taken into the model, and a second is looked for (`after_first`).
    """

    sqrt_s: float = 13_000.0
    family: str = GAUSSIAN_PROCESS
    combination: str = "fisher"
    pseudo_experiments: int = 5_000
    seed: int = 0
    lowest_orders: tuple[int, ...] | None = None
    highest: float = 0.1
    spare_orders: int = 1
    process: GaussianProcess = DEFAULT_PROCESS
    observable: Observable = MJJ
    widths: tuple[float, ...] = ()
    after_first: float | None = None

    def in_range(self, window: FitRange) -> HuntSettings:
        """Return the settings in a fit range: above a turn-on a Gaussian process has terms of what is left of it."""
        seen = window.turn_on is not None and window.turn_on.seen
        return replace(self, process=replace(self.process, edge_terms=True)) if seen else self


@dataclass(frozen=True, repr=False)
class GlobalP:
    """Probability under no signal of a smallest combined local p as small as the observed one.

    p: (1 + above) / (1 + n); is_bound: no pseudo-experiment reached the observation, p is an upper limit; upper_95: the
    95 % upper limit from the n pseudo-experiments, 3 / n where none reached it; tail: the fit of -ln(smallest) carried on
    to the observation, None where `fit_tail` gives none; it replaces neither. local: (n,) ln of each experiment's combined p at
    the observed best mass, None where there is no such mass. deviance, deviance_with_signal: (n, regions) of each experiment's
    background fits (`saturated_deviances`).
    gross_vitells: p_local + up-crossings of combined z(m), counted at `crossing_level`, approximate (arXiv:1005.1891), None where
    widths are scanned, which are no curve; crossings: their mean number; region_crossings: (n, regions) up-crossings of the same level by each region's z(m);
    smallest: (n,) smallest combined p of each pseudo-experiment; failed: fits that did not converge, share of all.
    """

    p: float
    z: float
    n: int
    above: int
    is_bound: bool
    gross_vitells: float | None
    crossing_level: float
    crossings: float | None
    region_crossings: npt.NDArray[np.int64]
    smallest: Floats
    failed: float
    upper_95: float
    local: Floats | None
    tail: TailFit | None
    deviance: Floats
    deviance_with_signal: Floats

    def __repr__(self) -> str:
        """Return the p-value in one line."""
        return f"GlobalP(p {stated_p(self.p, bound=self.is_bound)}, z {'>' if self.is_bound else '='} {self.z:.2f}, {self.above} of {self.n:,} above)"


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


def of_experiments(settings: HuntSettings, background: BackgroundFit) -> HuntSettings:
    """Return the settings of experiments drawn from a background fit: their F-test starts from the fit's own orders."""
    return replace(settings, lowest_orders=tuple(background.order.tolist()), spare_orders=0)


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


class Procedure(NamedTuple):
    """What is done to data: background fits, the scan, and ln of the combined p (n_experiments, n_masses), of `signed_z`.

    first, log_first: the scan and the combined p before a Gaussian process was chosen again; the same as the others for
    every other background.
    """

    background: BackgroundFit
    scan: LocalScan
    log_combined: Floats
    first: LocalScan
    log_first: Floats


def procedure(counts: Floats, edges: Floats, templates: Floats, settings: HuntSettings) -> Procedure:
    """Do what is done to data: counts (n_experiments * n_regions, bins), regions fastest if given as (..., regions, bins)."""
    regions, bins = counts.shape[-2:]
    flat = counts.reshape(-1, bins)
    if settings.family == GAUSSIAN_PROCESS:
        return process_procedure(flat, edges, templates, settings, regions=regions)
    lowest = None if settings.lowest_orders is None else np.tile(settings.lowest_orders, len(flat) // regions)
    background = choose_background(
        flat,
        edges,
        sqrt_s=settings.sqrt_s,
        family=settings.family,
        lowest=lowest,
        highest=settings.highest,
        spare=settings.spare_orders,
    )
    scan = scan_spectra(flat, background, templates, edges, sqrt_s=settings.sqrt_s, family=settings.family)
    combined = combined_of(scan, regions, settings)
    return Procedure(background, scan, combined, scan, combined)


def process_procedure(
    counts: Floats, edges: Floats, templates: Floats, settings: HuntSettings, *, regions: int
) -> Procedure:
    """Choose each spectrum's process, scan, choose again with a signal where the combined excess is largest, and scan again."""
    rows = np.ascontiguousarray(counts, dtype=np.float64)
    columns = columns_of_process(settings.process, edges, rows, sqrt_s=settings.sqrt_s)
    every = np.arange(len(rows))
    theta, log_z = evidences(rows, columns)
    chosen = largest(log_z)
    made = scan_processes(rows, columns, chosen, theta[every, *chosen.T], log_z, templates)
    first = local_scan(made.signals)
    log_first = combined_of(first, regions, settings)
    # one mass for the whole of a search
    best = np.repeat(log_first.argmin(axis=1), regions)
    log_z = signal_evidences(rows, columns, theta, templates[best])
    again = largest(log_z)
    moved = np.flatnonzero((again != chosen).any(axis=1))
    made = made.replaced(
        moved,
        scan_processes(rows[moved], columns, again[moved], theta[moved, *again[moved].T], log_z[moved], templates),
        log_z,
    )
    scan = local_scan(made.signals)
    return Procedure(process_background(made), scan, combined_of(scan, regions, settings), first, log_first)


def combined_of(scan: LocalScan, regions: int, settings: HuntSettings) -> Floats:
    """Return ln of the combined p (n_experiments, masses) of a scan, regions fastest."""
    log_p = log_p_of_z(signed_z(scan)).reshape(-1, regions, scan.z.shape[1])
    return combine_log(np.moveaxis(log_p, 1, 2), settings.combination)


def signed_z(scan: LocalScan) -> Floats:
    """Return z (n_spectra, n_masses) to combine. A fit that failed says nothing: its z is 0."""
    return np.where(scan.converged, scan.z, 0.0)


def saturated_deviances(counts: Floats, background: BackgroundFit, scan: LocalScan) -> Floats:
    """Return 2 sum(nu - n + n ln(n / nu)) of each background fit, and that less the gain by a signal at its largest excess: (2, n).

    counts: (n, bins). How far a fit is from one that has a parameter for every bin.
    """
    deviance = 2 * half_deviance(counts, background.expected)
    return np.stack([deviance, deviance - np.maximum(signed_z(scan).max(axis=1), 0.0) ** 2])


def pseudo_experiments(
    expected: Floats,
    edges: Floats,
    templates: Floats,
    log_observed: float,
    *,
    settings: HuntSettings,
    at: int | None = None,
    level: float = 0.5,
    progress: bool = True,
    pieces: Pieces = NONE_KEPT,
) -> GlobalP:
    """Draw background-only experiments from `expected` (regions, bins) and repeat the whole procedure on each.

    templates: of all widths and masses; log_observed: ln of the smallest combined p of the data, found at number `at` of them; pieces: where blocks of experiments are kept.
    """
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, 0x70E]))
    n = settings.pseudo_experiments
    regions = len(expected)
    smallest, crossings = np.empty(n), np.empty(n, dtype=np.int64)
    region_crossings = np.empty((n, regions), dtype=np.int64)
    failed, local = 0, np.empty(n)
    deviance = np.empty((2, n, regions))
    own = pieces.of("pseudo-experiments", expected, edges, templates, log_observed, settings, at, level)

    def hunted(counts: Floats) -> dict[str, npt.ArrayLike]:
        """Hunt in a block of experiments (size, regions, bins)."""
        made = procedure(counts, edges, templates, settings)
        scan, combined = made.scan, made.log_combined
        return {
            "smallest": combined.min(axis=1),
            "local": combined[:, 0 if at is None else at],
            "crossings": up_crossings(z_of_log(combined), level=level),
            "region_crossings": up_crossings(signed_z(scan), level=level).reshape(len(counts), regions),
            "failed": int((~scan.converged).sum()),
            "deviance": saturated_deviances(counts.reshape(-1, counts.shape[-1]), made.background, scan).reshape(
                2, len(counts), regions
            ),
        }

    pace = 0.5 if sys.stderr.isatty() else 30.0  # in a log, one line in 30 s
    bar = tqdm(total=n, desc="pseudo-experiments", unit="exp", disable=not progress, mininterval=pace)
    # matrices of a few columns: threads of the linear algebra library cost more than they give
    with bar, threadpool_limits(1):
        for start in range(0, n, BLOCK):
            size = min(BLOCK, n - start)
            # drawn whether they are kept or not: those of the next block follow from them
            counts = rng.poisson(np.broadcast_to(expected, (size, *expected.shape))).astype(np.float64)
            made = own.kept(f"{start}", functools.partial(hunted, counts))
            part = slice(start, start + size)
            smallest[part], crossings[part] = made["smallest"], made["crossings"]
            region_crossings[part] = made["region_crossings"]
            local[part], failed = made["local"], failed + int(made["failed"])
            deviance[:, part] = made["deviance"]
            bar.update(size)
    above = int((smallest <= log_observed).sum())
    p = (1 + above) / (1 + n)
    # a surface of widths and masses is no curve that crosses a level
    curve = len(settings.widths) < 2
    approximate = from_crossings(float(z_of_log(log_observed)), crossings, level=level) if curve else None
    return GlobalP(
        p=p,
        z=float(z_value(p)),
        n=n,
        above=above,
        is_bound=above == 0,
        gross_vitells=None if approximate is None else approximate.p,
        crossing_level=level,
        crossings=None if approximate is None else approximate.crossings,
        region_crossings=region_crossings,
        smallest=p_of_log(smallest),
        failed=failed / (n * regions * len(templates)),
        upper_95=upper_limit(above, n),
        local=None if at is None else local,
        tail=fit_tail(-smallest, -log_observed),
        deviance=deviance[0],
        deviance_with_signal=deviance[1],
    )
