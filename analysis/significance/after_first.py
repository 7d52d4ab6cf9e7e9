"""A second excess beside a first one: the first, where it is above a threshold, is taken into the model and the scan repeated.

One resonance bends the background beside it, or is wider than its template: what is left of it can dress as a second. So the first
signal, of free yield in every region, becomes part of the model, the scan is repeated at the masses that are clear of it, and the
experiments that calibrate the second have the first injected at its fitted yield, find it themselves and repeat the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...pieces import NONE_KEPT, Pieces
from ..fits.background import BackgroundFit, columns_of_process, log_offset
from ..fits.gaussian_process import GAUSSIAN_PROCESS, evidences, largest, signal_evidences
from ..fits.log_linear import SignalFits
from ..fits.log_p import z_of_log
from ..fits.scan import LocalScan, basis_and_start, local_scan
from ..fits.second_signal import SecondFits, log_linear_columns, scan_seconds
from ..p_values.combination import z_value
from ..p_values.local_p import LocalP, local_p
from .bumphunt import BumpHunt
from .experiments import in_blocks
from .procedure import HuntSettings, combined_of, procedure
from .widths import at_best_width, best_widths

__all__ = ["Second", "second_of"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
CLEAR = 2.0  # widths between a second signal and the first
FEWEST = 100  # experiments with a first excess, below which no p-value is quoted


class Hypotheses(NamedTuple):
    """What is scanned: templates (t, bins), their masses (t,) in GeV and relative widths (t,)."""

    templates: Floats
    masses: Floats
    widths: Floats

    def clear_of(self, first: Indices) -> Bools:
        """Tell which of them are two widths, the wider's, away from the first ones, numbers (n,): (n, t)."""
        width = np.maximum(self.widths[first][:, None], self.widths[None, :])
        mass = self.masses[first][:, None]
        return np.asarray(np.abs(self.masses[None, :] - mass) > CLEAR * width * mass)


class SecondScan(NamedTuple):
    """Of each experiment and region: yields of the first (n_spectra,), the expectation with it (n_spectra, bins), the scan, ln of combined p.

    log_first: ln of combined p before a Gaussian process was chosen again. Hypotheses near the first have p = 1.
    """

    first: Floats
    expected: Floats
    scan: LocalScan
    log_combined: Floats
    log_first: Floats


@dataclass(frozen=True, repr=False)
class Second:
    """The largest excess beside a first one that is in the model.

    mass, width, signal (regions,), error: of it, and first_mass, first_width, first_signal of the first; expected (regions, bins):
    background and first signal; log_combined (masses,): ln of combined p, 0 near the first; scan (regions, masses); local: the quoted local
    p. p_global: (1 + above) / (1 + n) of those n of `drawn` experiments that have a first excess above the threshold too; None
    without experiments, or with fewer than 100 of these.
    """

    first_mass: float
    first_width: float
    first_signal: Floats
    mass: float
    width: float
    signal: Floats
    error: Floats
    templates: Floats
    expected: Floats
    scan: LocalScan
    log_combined: Floats
    local: LocalP
    p_global: float | None
    above: int
    n: int
    drawn: int

    def __repr__(self) -> str:
        """Return the answer in a line."""
        glob = "" if self.p_global is None else f", global p {self.p_global:.3g}"
        return f"Second({self.mass:.0f} GeV beside {self.first_mass:.0f} GeV, local p {self.local.p:.3g}{glob})"

    @property
    def z_global(self) -> float | None:
        """Return the one-sided significance of the global p."""
        return None if self.p_global is None else float(z_value(self.p_global))

    def as_dict(self) -> dict[str, Any]:
        """Return the answer for JSON; z_combined is null near the first."""
        near = self.log_combined >= 0
        return {
            "mass": self.mass,
            "width": self.width,
            "p_local": self.local.p,
            "z_local": self.local.z,
            "p_local_by": self.local.said,
            "p_global": self.p_global,
            "z_global": self.z_global,
            "p_global_is_bound": self.p_global is not None and self.above == 0,
            "pseudo_experiments": self.n,
            "pseudo_experiments_above": self.above,
            "pseudo_experiments_drawn": self.drawn,
            "signal_yield": self.signal.tolist(),
            "signal_yield_error": [e if np.isfinite(e) else None for e in self.error.tolist()],
            "first": {"mass": self.first_mass, "width": self.first_width, "signal_yield": self.first_signal.tolist()},
            "z_combined": [None if n else z for n, z in zip(near, z_of_log(self.log_combined).tolist(), strict=True)],
        }


def second_of(found: BumpHunt, *, progress: bool = True, pieces: Pieces = NONE_KEPT) -> Second | None:
    """Return the second excess of a hunt; None where no threshold is set, or no first excess above it leaves masses to scan."""
    settings = found.settings
    threshold = settings.after_first
    if threshold is None or found.z_combined[found.best] < threshold:
        return None
    masses = len(found.masses)
    widths = settings.widths or (found.shape.width,)
    scanned = Hypotheses(found.all_templates, np.tile(found.masses, len(widths)), np.repeat(np.array(widths), masses))
    first = int(found.log_all.argmin())
    if not scanned.clear_of(np.array([first])).any():
        return None
    made = second_scan(found.counts, found.edges, scanned, np.array([first]), found.background, settings)
    log_p = made.log_combined[0]
    second = int(log_p.argmin())
    smallest, local, taken = np.empty(0), np.empty(0), 0
    if settings.pseudo_experiments:
        smallest, local = second_experiments(made.expected, found, scanned, at=second, progress=progress, pieces=pieces)
        taken = len(smallest)
    above = int((smallest <= log_p[second]).sum())
    at = best_widths(log_p, masses)
    quoted = LocalP(max(float(log_p[second]), float(made.log_first[0, second])), "asymptotic", 0, 0)
    if taken >= FEWEST:
        quoted = local_p(local, float(log_p[second]), float(made.log_first[0, second]))
    return Second(
        first_mass=float(scanned.masses[first]),
        first_width=float(scanned.widths[first]),
        first_signal=made.first,
        mass=float(scanned.masses[second]),
        width=float(scanned.widths[second]),
        signal=made.scan.signal[:, second],
        error=made.scan.error[:, second],
        templates=scanned.templates[[first, second]],
        expected=made.expected,
        scan=at_best_width(made.scan, at),
        log_combined=log_p[at],
        local=quoted,
        p_global=(1 + above) / (1 + taken) if taken >= FEWEST else None,
        above=above,
        n=taken,
        drawn=settings.pseudo_experiments,
    )


def second_scan(
    counts: Floats,
    edges: Floats,
    scanned: Hypotheses,
    first: Indices,
    background: BackgroundFit,
    settings: HuntSettings,
) -> SecondScan:
    """Scan counts (n_experiments * regions, bins), regions fastest, again with the first signals, numbers (n_experiments,), in the model.

    background: the fits of the hunt for the first, of which a function's order is kept.
    """
    rows = np.ascontiguousarray(counts.reshape(-1, counts.shape[-1]), dtype=np.float64)
    regions = len(rows) // len(first)
    shapes = np.repeat(scanned.templates[first], regions, axis=0)
    clear = scanned.clear_of(first)
    asked = np.repeat(clear, regions, axis=0)

    def combined(scan: LocalScan) -> Floats:
        return np.asarray(np.where(clear, combined_of(scan, regions, settings), 0.0))

    if settings.family != GAUSSIAN_PROCESS:
        fits = log_linear_seconds(rows, edges, background, shapes, scanned.templates, asked, settings)
        scan = local_scan(fits.signals)
        log_p = combined(scan)
        return SecondScan(fits.first, fits.expected, scan, log_p, log_p)
    columns = columns_of_process(settings.process, edges, rows, sqrt_s=settings.sqrt_s)
    every = np.arange(len(rows))
    theta, _ = evidences(rows, columns)
    chosen = largest(signal_evidences(rows, columns, theta, shapes))
    fits = scan_seconds(rows, columns, chosen, theta[every, *chosen.T], shapes, scanned.templates, asked)
    log_first = combined(local_scan(fits.signals))
    # as with the first: chosen again with a signal where the largest excess is, for all regions one
    best = np.repeat(log_first.argmin(axis=1), regions)
    again = largest(signal_evidences(rows, columns, theta, shapes, scanned.templates[best]))
    moved = np.flatnonzero((again != chosen).any(axis=1))
    other = scan_seconds(
        rows[moved],
        columns,
        again[moved],
        theta[moved, *again[moved].T],
        shapes[moved],
        scanned.templates,
        asked[moved],
    )
    for mine, theirs in (
        (fits.first, other.first),
        (fits.expected, other.expected),
        *zip(fits.signals, other.signals, strict=True),
    ):
        mine[moved] = theirs
    scan = local_scan(fits.signals)
    return SecondScan(fits.first, fits.expected, scan, combined(scan), log_first)


def log_linear_seconds(
    counts: Floats,
    edges: Floats,
    background: BackgroundFit,
    first: Floats,
    templates: Floats,
    asked: Bools,
    settings: HuntSettings,
) -> SecondFits:
    """Scan spectra (n, bins) of a log-linear family, each in the order of its background fit."""
    n, (masses, bins) = len(counts), templates.shape
    signal, gain, error = np.empty((3, n, masses))
    signals = SignalFits(signal, gain, error, np.zeros((n, masses), dtype=bool))
    made = SecondFits(np.empty(n), np.empty((n, bins)), signals)
    offset = log_offset(edges, sqrt_s=settings.sqrt_s, family=settings.family)
    for order in np.unique(background.order):
        rows = np.flatnonzero(background.order == order)
        own = counts[rows]
        basis, start = basis_and_start(
            own, background, rows, edges, offset, sqrt_s=settings.sqrt_s, family=settings.family
        )
        columns, chosen = log_linear_columns(basis, offset), np.zeros((len(rows), 2), dtype=np.int64)
        fits = scan_seconds(own, columns, chosen, start, first[rows], templates, asked[rows])
        made.first[rows], made.expected[rows] = fits.first, fits.expected
        for mine, theirs in zip(made.signals, fits.signals, strict=True):
            mine[rows] = theirs
    return made


def second_experiments(
    expected: Floats,
    found: BumpHunt,
    scanned: Hypotheses,
    *,
    at: int,
    progress: bool = True,
    pieces: Pieces = NONE_KEPT,
) -> tuple[Floats, Floats]:
    """Draw experiments from background and first signal, `expected` (regions, bins), hunt for the first and then for a second.

    Returns ln of the smallest combined p of the second, and that of hypothesis number `at`, of those experiments in which a first is
    found above the threshold.
    """
    settings = found.experiment_settings
    threshold = settings.after_first or 0.0
    n, regions = settings.pseudo_experiments, len(expected)
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, 0x2ED]))
    own = pieces.of("second", expected, found.edges, scanned, settings, at)

    def hunted(counts: Floats) -> dict[str, npt.ArrayLike]:
        """Hunt in a block of experiments (size, regions, bins)."""
        made = procedure(counts, found.edges, scanned.templates, settings)
        first = made.log_combined.argmin(axis=1)
        taken = z_of_log(made.log_combined.min(axis=1)) >= threshold
        kept = np.repeat(taken, regions)
        if not taken.any():
            return {"smallest": np.empty(0), "local": np.empty(0)}
        background = replace(
            made.background, order=made.background.order[kept], log_expected=made.background.log_expected[kept]
        )
        log_p = second_scan(counts[taken], found.edges, scanned, first[taken], background, settings).log_combined
        return {"smallest": log_p.min(axis=1), "local": log_p[:, at]}

    what = "pseudo-experiments of the second"
    drawn = in_blocks(expected, hunted, n=n, rng=rng, pieces=own, what=what, progress=progress)
    smallest, local = zip(*((made["smallest"], made["local"]) for _, made in drawn), strict=True)
    return np.concatenate(smallest), np.concatenate(local)
