"""The joint fit of all regions at every mass, one signal strength for all, and its look-elsewhere effect.

The regions' spectra are laid side by side and fitted as one: background parameters of each region's own, one signal yield mu
shared out between the regions in given shares. Where a combination of p-values looks for an excess anywhere, this looks for
one signal; its z(m) is standard normal without signal, so that up-crossings apply to it (gross_vitells.py).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import block_diag
from threadpoolctl import threadpool_limits

from ...errors import InputError
from ..fits.background import BackgroundFit, choose_background, is_log_linear, log_offset
from ..fits.newton import LogLinear, fit_curve
from ..fits.scan import basis_and_start
from ..p_values.gross_vitells import GrossVitells, global_p_gross_vitells
from .bumphunt import BumpHunt
from .procedure import HuntSettings

__all__ = ["JointScan", "joint_gross_vitells", "joint_scan"]

Floats = npt.NDArray[np.float64]
EXPERIMENTS = 100
log = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class JointScan:
    """Signed z of the joint fit (n, masses), 0 where it failed; fitted yield in all regions and its error; convergence."""

    z: Floats
    signal: Floats
    error: Floats
    converged: npt.NDArray[np.bool_]

    def __repr__(self) -> str:
        """Return the value in a line."""
        n, masses = self.z.shape
        return f"JointScan({n} experiments at {masses} masses, largest z {self.z.max():.2f})"


def joint_scan(
    counts: npt.ArrayLike,
    background: BackgroundFit,
    templates: Floats,
    shares: npt.ArrayLike,
    edges: npt.ArrayLike,
    *,
    sqrt_s: float,
    family: str = "dijet",
) -> JointScan:
    """Fit one signal to the regions of every experiment at every mass, from each region's own background fit.

    counts: (n, regions, bins); background: of the n * regions spectra, regions fastest; templates: (masses, bins) for unit
    yield; shares: (regions,) of the signal, brought to a sum of one. Log-linear families (dijet, exponential, formulas of that
    kind); raises InputError for others, and for shares that are negative or all 0.
    """
    spectra, bins = np.asarray(counts, dtype=np.float64), np.asarray(edges, dtype=np.float64)
    share = np.asarray(shares, dtype=np.float64)
    n, regions, n_bins = spectra.shape
    if not is_log_linear(family):
        raise InputError(f"the joint scan needs a log-linear background, {family!r} is none")
    if share.shape != (regions,) or not np.all(share >= 0) or not share.sum() > 0:
        raise InputError(f"shares {share.tolist()} of {regions} regions; allowed: one each, 0 or more, not all 0")
    share = share / share.sum()
    offset = log_offset(bins, sqrt_s=sqrt_s, family=family)
    side_by_side = np.concatenate([s * templates for s in share], axis=1)
    orders = background.order.reshape(n, regions)
    z, signal, error = np.zeros((3, n, len(templates)))
    converged = np.zeros((n, len(templates)), dtype=bool)
    for own in np.unique(orders, axis=0):
        rows = np.flatnonzero((orders == own).all(axis=1))
        found = [
            basis_and_start(
                spectra[rows, r], background, rows * regions + r, bins, offset, sqrt_s=sqrt_s, family=family
            )
            for r in range(regions)
        ]
        bases, starts = zip(*found, strict=True)
        curve, theta = LogLinear(block_diag(*bases), np.tile(offset, regions)), np.concatenate(starts, axis=1)
        for i, row in enumerate(rows):
            flat = np.broadcast_to(spectra[row].ravel(), (len(templates), regions * n_bins))
            fit = fit_curve(flat, curve, np.broadcast_to(theta[i], (len(templates), theta.shape[1])), side_by_side)
            known = background.converged[row * regions : (row + 1) * regions].all()
            converged[row] = fit.converged & known
            z[row] = np.where(converged[row], np.sign(fit.signal) * np.sqrt(2 * np.maximum(fit.gain, 0.0)), 0.0)
            signal[row], error[row] = fit.signal, fit.error
    return JointScan(z, signal, error, converged)


def joint_gross_vitells(found: BumpHunt, shares: npt.ArrayLike, *, n: int = EXPERIMENTS) -> tuple[float, GrossVitells]:
    """Return the mass (GeV) of the joint fit's largest z over the whole scan of a hunt, and that z's global p.

    shares: (regions,) of the signal; regions with none are left out. n experiments drawn from the hunt's background fits
    repeat the choice of the background and the scan; seeded by the hunt's seed. Raises InputError as `joint_scan` does.
    """
    share = np.asarray(shares, dtype=np.float64)
    used = np.flatnonzero(share > 0)
    edges = found.edges

    def scanned(counts: Floats, settings: HuntSettings) -> JointScan:
        """Scan experiments (n, regions used, bins)."""
        options: dict[str, Any] = {"sqrt_s": settings.sqrt_s, "family": settings.family}
        lowest = settings.lowest_orders
        fits = choose_background(
            counts.reshape(-1, counts.shape[-1]),
            edges,
            lowest=None if lowest is None else np.tile(np.asarray(lowest)[used], len(counts)),
            highest=settings.highest,
            spare=settings.spare_orders,
            **options,
        )
        return joint_scan(counts, fits, found.templates, share[used], edges, **options)

    with threadpool_limits(1):
        seen = scanned(found.counts[None, used], found.settings)
        observed = seen.z[0]
        rng = np.random.default_rng(np.random.SeedSequence([found.settings.seed, 0x70]))
        drawn = rng.poisson(found.background.expected[used], size=(n, len(used), len(edges) - 1)).astype(np.float64)
        curves = scanned(drawn, found.experiment_settings).z
    if not seen.converged.all():
        failed = int((~seen.converged).sum())
        log.warning("%d of %d joint fits did not converge: the joint scan says nothing there", failed, observed.size)
    best = int(observed.argmax())
    return float(found.masses[best]), global_p_gross_vitells(float(observed[best]), curves)
