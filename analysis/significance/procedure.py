"""What is done to spectra, data and experiments alike: choice of the background, the scan of every region and mass, the combination.

A Gaussian process is chosen twice: by the evidence without signal, and, once a first scan has found the mass of the largest excess
of the whole search, by the evidence with a signal of free yield there, which keeps a signal from choosing its own background. The second
choice's z is a statistic, too large by itself: experiments repeat both, and what is quoted is calibrated by them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...table import MJJ, Observable
from ..fits.background import BackgroundFit, choose_background, columns_of_process, process_background
from ..fits.bernstein import half_deviance
from ..fits.gaussian_process import (
    GAUSSIAN_PROCESS,
    GaussianProcess,
    evidences,
    largest,
    scan_processes,
    signal_evidences,
)
from ..fits.log_p import log_p_of_z
from ..fits.scan import LocalScan, local_scan, scan_spectra
from ..p_values.combination import combine_log
from ..spectra.bins import FitRange

__all__ = ["HuntSettings", "Procedure", "of_experiments", "procedure", "saturated_deviances", "signed_z"]

Floats = npt.NDArray[np.float64]
DEFAULT_PROCESS = GaussianProcess()


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


def of_experiments(settings: HuntSettings, background: BackgroundFit) -> HuntSettings:
    """Return the settings of experiments drawn from a background fit: their F-test starts from the fit's own orders."""
    return replace(settings, lowest_orders=tuple(background.order.tolist()), spare_orders=0)


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
