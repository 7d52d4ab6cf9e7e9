"""Does the background function describe what it was fitted to? Where it does not, no p-value of a bump means anything.

A real resonance spoils the fit of the background alone too. So a fit that is bad is looked at again with the largest
excess. It is a bump, and the function is right about the rest, where all hold: without the bins of the excess the
function fits; none of these bins lies far below it, for a hole in a spectrum lifts what is beside it; three bins with events
lie below them, for at the start of a range the function bends to anything, or else the function with a Gaussian there fits
all; and a smooth function of three more parameters, too stiff to follow a bump, leaves most of the excess.
The last is asked of 5,000 events or more: fewer let any bend follow a bump, and show no bend of a smooth background
(docs/design/background.md).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from ..fits.background import (
    design_matrix,
    family_orders,
    fit_background,
    fit_log_linear,
    goodness_of_fit,
    is_log_linear,
    log_offset,
)
from ..fits.bernstein import half_deviance
from ..fits.log_p import stated_p, z_of_log
from ..fits.minuit_fit import MinuitFit
from ..fits.scan import LocalScan, fit_signal
from ..spectra.signal_shape import SignalShape, signal_templates
from .bumphunt import BumpHunt
from .bumphunter import log_tail

__all__ = [
    "Excess",
    "FitQuality",
    "fit_notes",
    "fit_qualities",
    "largest_excess",
    "quality_notes",
    "significance_refused",
]

Floats = npt.NDArray[np.float64]
DOUBTFUL = 0.01
UNFIT = 1e-3
WINDOW = 2.0  # widths on either side of a bump that are left out
MIN_EXCESS = 3.0  # z below which there is no bump
MORE = 3  # smooth parameters more
KEPT = 0.65  # share of its z that a bump keeps against them: 0.67 and more of 200 bumps, but fewer at a sparse end
FEW = 5_000  # events
HOLE = 4.0  # sigma by which no bin of a bump lies below the background of the others
DRIFT = 1e-3  # in -2 ln L, between iminuit and the batched fit
BELOW = 3  # bins with events below a bump
SAID = 4  # masses that a note names


@dataclass(frozen=True)
class Excess:
    """The largest excess of a spectrum that its background fit does not describe: at mass (GeV), z sigma.

    p_outside: of the best background fit without its bins; deficit: sigma by which the lowest of these bins lies below that
    fit; bins_below: with events, below these bins; p_with: of the background fit and a Gaussian there, by its deviance;
    z_smoother: what is left of z with three more parameters; events: in the whole spectrum.
    """

    mass: float
    z: float
    p_outside: float
    p_with: float
    deficit: float
    bins_below: int
    z_smoother: float
    events: int

    @property
    def is_bump(self) -> bool:
        """Tell a bump on a background that is described from a shape that the function lacks."""
        held = self.bins_below >= BELOW or self.p_with > DOUBTFUL
        stays = self.z_smoother > max(MIN_EXCESS, KEPT * self.z) or self.events < FEW
        return self.p_outside > DOUBTFUL and self.deficit < HOLE and held and stays


@dataclass(frozen=True)
class FitQuality:
    """Chi-squared probability of one region's background fit; its largest excess, None where the fit is good or has none."""

    region: str
    family: str
    order: int
    p_value: float
    excess: Excess | None = None

    @property
    def doubtful(self) -> bool:
        """Tell whether p < 0.01 and no bump explains it."""
        return self.p_value < DOUBTFUL and not (self.excess is not None and self.excess.is_bump)

    @property
    def unfit(self) -> bool:
        """Tell whether the function fails: p < 0.001 and no bump explains it."""
        return self.doubtful and self.p_value < UNFIT


def largest_excess(
    counts: Floats,
    expected: Floats,
    scan: LocalScan,
    masses: Floats,
    edges: Floats,
    *,
    order: int,
    width: float,
    sqrt_s: float,
    family: str,
) -> Excess | None:
    """Look at the largest excess in a scan of one spectrum, counts (bins,), of Gaussians of a relative width; None below 3 sigma.

    expected, order: of the background fit behind the scan, (bins,).
    """
    z = np.where(scan.converged[0], scan.z[0], -np.inf)
    if z.max() < MIN_EXCESS:
        return None
    mass = float(masses[np.argmax(z)])
    outside, deficit = without_bump(counts, edges, mass, width=width, lowest=order, sqrt_s=sqrt_s, family=family)
    deviance = 2 * float(half_deviance(counts[None], expected[None])[0]) - float(z.max()) ** 2
    return Excess(
        mass,
        float(z.max()),
        outside,
        float(special.chdtrc(max(len(counts) - order - 2, 1), max(deviance, 0.0))),
        deficit,
        int((counts[edges[1:] <= mass * (1 - WINDOW * width)] > 0).sum()),
        smoother_z(counts, edges, mass, width=width, order=order, sqrt_s=sqrt_s, family=family),
        int(counts.sum()),
    )


def away_from(edges: Floats, mass: float, width: float) -> npt.NDArray[np.bool_]:
    """Tell which bins lie outside 2 widths of a mass (GeV): (bins,)."""
    return np.asarray((edges[1:] <= mass * (1 - WINDOW * width)) | (edges[:-1] >= mass * (1 + WINDOW * width)))


def without_bump(
    counts: Floats, edges: Floats, mass: float, *, width: float, lowest: int, sqrt_s: float, family: str
) -> tuple[float, float]:
    """Fit one spectrum (bins,) without the bins within 2 widths of a mass (GeV), in every order from `lowest` on.

    Returns how well the best of them fits, a p-value, 0 where too few bins are left; and by how many sigma the lowest of
    the bins left out lies below it.
    """
    away = away_from(edges, mass, width)
    best, deficit = 0.0, 0.0
    for order in family_orders(family):
        if order < lowest or away.sum() <= order + 2:
            continue
        fit = fit_background(counts[None], edges, order, sqrt_s=sqrt_s, family=family, mask=away.astype(np.float64))
        if fit.converged[0]:
            p = float(goodness_of_fit(counts[None, away], fit.expected[:, away], fit.n_parameters)[0])
            if p > best:
                best = p
                fewer = log_tail(counts[~away], np.maximum(fit.expected[0, ~away], 1e-300), deficit=True)
                deficit = float(z_of_log(fewer).max(initial=0.0))
    return best, deficit


def smoother_z(
    counts: Floats, edges: Floats, mass: float, *, width: float, order: int, sqrt_s: float, family: str
) -> float:
    """Return the signed z of a Gaussian at mass (GeV) on the family's function times exp of three more smooth terms.

    The terms are the next Chebyshev polynomials, in ln m for the dijet function and in m else; 0 where no fit is reached.
    Bernstein polynomials and formulas that are not log-linear, fitted without the bins of the Gaussian, stand still, times
    exp of as many polynomials as they have parameters and three more.
    """
    if is_log_linear(family):
        design = design_matrix(edges, order, sqrt_s=sqrt_s, family=family)
        offset = log_offset(edges, sqrt_s=sqrt_s, family=family)
    else:
        away = away_from(edges, mass, width).astype(np.float64)
        alone = fit_background(counts[None], edges, order, sqrt_s=sqrt_s, family=family, mask=away)
        if not alone.converged[0]:
            return 0.0
        design, offset = np.empty((len(counts), 0)), alone.log_expected[0]
    centres = 0.5 * (edges[1:] + edges[:-1])
    u = np.log(centres) if family == "dijet" else centres
    t = 2 * (u - u[0]) / (u[-1] - u[0]) - 1
    # powers that the function has: ln^k up to k = order - 1, at most 3; the exponentials' polynomials up to the order
    have = min(order - 1, 3) if family == "dijet" else order
    first = have + 1 if design.shape[1] else 0
    columns = np.concatenate([design, np.polynomial.chebyshev.chebvander(t, have + MORE)[:, first:]], axis=1)
    if columns.shape[1] + 2 > len(centres):
        return 0.0
    root = np.sqrt(np.maximum(counts, 1e-3 * max(float(counts.mean()), 1e-9)))[:, None]
    q, _ = np.linalg.qr(columns / np.abs(columns).max(axis=0) * root)
    q, _ = np.linalg.qr(q)
    basis = q / root
    theta, _, smooth = fit_log_linear(counts[None], basis, offset)
    template = signal_templates(SignalShape(width), [mass], edges)
    mu, gain, _, converged = fit_signal(counts[None], basis, offset, template, theta)
    if not (smooth[0] and converged[0]):
        return 0.0
    return float(np.sign(mu[0]) * np.sqrt(2 * max(float(gain[0]), 0.0)))


def fit_qualities(found: BumpHunt, names: Sequence[str]) -> tuple[FitQuality, ...]:
    """Judge the background fit of every region of a hunt."""
    settings = found.settings
    result = []
    for r, name in enumerate(names):
        order, p = int(found.background.order[r]), float(found.fit_p[r])
        excess = None
        if p < DOUBTFUL:
            scan = LocalScan(*(a[r : r + 1] for a in dataclasses.astuple(found.scan)))
            excess = largest_excess(
                found.counts[r],
                found.background.expected[r],
                scan,
                found.masses,
                found.edges,
                order=order,
                width=found.shape.width,
                sqrt_s=settings.sqrt_s,
                family=settings.family,
            )
        result.append(FitQuality(name, settings.family, order, p, excess))
    return tuple(result)


def quality_notes(qualities: Sequence[FitQuality], *, refusing: bool) -> list[str]:
    """State every background fit that is not good, in words for the report; refusing: whether significance then is."""
    notes = []
    for q in qualities:
        if not q.doubtful:
            continue
        said = f"{q.region}: the {q.family} function, order {q.order}, fits the spectrum with p {stated_p(q.p_value)}"
        if q.excess is not None:
            said += (
                f"; no bump explains that: without the bins around {q.excess.mass:.0f} GeV p {stated_p(q.excess.p_outside)}, one "
                f"of these lies {q.excess.deficit:.1f} sigma below that fit, {q.excess.bins_below} bins with events are below them, and "
                f"of the {q.excess.z:.1f} sigma there a smoother function leaves {q.excess.z_smoother:.1f}"
            )
        end = "no significance is quoted" if q.unfit and refusing else "read its p-values with care"
        notes.append(f"{said}; {end}")
    return notes


def significance_refused(qualities: Sequence[FitQuality]) -> str | None:
    """Return why no significance can be quoted, or None where every region is described."""
    unfit = [q.region for q in qualities if q.unfit]
    return f"the background function does not describe {', '.join(unfit)}" if unfit else None


def fit_notes(found: BumpHunt, minuit: Sequence[MinuitFit], names: Sequence[str]) -> list[str]:
    """State every fit that failed, where, and every background fit on which iminuit and the batched fit disagree."""
    notes = []
    at = found.settings.observable.at
    for r, (name, fit) in enumerate(zip(names, minuit, strict=True)):
        difference = 2 * abs(fit.nll - float(found.background.nll[r]))
        failed = found.masses[~found.scan.converged[r]]
        if not found.background.converged[r]:
            notes.append(f"{name}: the background fit did not converge: it says nothing at any mass")
            continue
        if not fit.valid:
            notes.append(f"{name}: iminuit's background fit did not converge")
        elif difference > DRIFT:
            notes.append(f"{name}: iminuit and the batched fit differ by {difference:.2g} in -2 ln L")
        if len(failed):
            where = ", ".join(at(m) for m in failed[:SAID]) + (", ..." if len(failed) > SAID else "")
            notes.append(
                f"{name}: {len(failed)} of {len(found.masses)} signal fits did not converge ({where}): it says nothing there, "
                "and a combination counts it as p = 0.5"
            )
    return notes
