"""Does the background describe what it was fitted to? Where it does not, no p-value of a bump means anything.

Two questions are asked of each region. Does the background fit, or else the background with a signal at the region's largest excess?
A real resonance spoils the first alone; it may lie beside the masses of the scan and be a quarter wider or narrower than its template. And does the yield at the mass that the search found agree with the one beside a background that
may bend as no smooth spectrum does, a Gaussian process of width 1 and length 0.3? The difference of two estimates of which one uses
less has the variance e_flexible^2 - e^2. What the thresholds were measured to do is in docs/design/background.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..fits.background import choose_background, goodness_of_fit
from ..fits.columns import columns_at
from ..fits.gaussian_process import GAUSSIAN_PROCESS, GaussianProcess
from ..fits.log_linear import fit_one_signal
from ..fits.log_p import stated_p
from ..fits.minuit_fit import MinuitFit
from ..fits.second_signal import fit_with_signals
from ..significance.after_first import Second
from ..significance.bumphunt import BumpHunt
from ..spectra.signal_shape import signal_templates
from .signal_curve import signal_curve

__all__ = ["FitQuality", "bending_notes", "fit_notes", "fit_qualities", "quality_notes", "significance_refused"]

Floats = npt.NDArray[np.float64]
DOUBTFUL = 0.01
UNFIT = 1e-3
FARTHEST = 3.0  # sigma between the yields beside the background and beside a flexible one
FLEXIBLE = GaussianProcess(widths=(1.0,), lengths=(0.3,))
DRIFT = 1e-3  # in -2 ln L, between iminuit and the batched fit
BENDING, BENDING_EVENTS = (
    0.3,
    5_000,
)  # width of a process of the shortest length that is said, and events from where on it is
SAID = 4  # masses that a note names


@dataclass(frozen=True)
class FitQuality:
    """How well one region's background fits: its chi-squared probability, and that with a signal at the region's largest excess.

    mass, z: of that excess, GeV; at: the mass that the search found, where `signal` and `error` (events) are the yield, and
    flexible_signal and flexible_error those beside a flexible background; tension: their difference in its own error, None where
    one of the fits gives none, or where the flexible background does not apply.
    """

    region: str
    family: str
    order: int
    p_value: float
    p_with_signal: float
    mass: float
    z: float
    at: float
    signal: float
    error: float
    flexible_signal: float | None = None
    flexible_error: float | None = None
    tension: float | None = None

    @property
    def doubtful(self) -> bool:
        """Tell whether p < 0.01 without and with a signal."""
        return self.p_value < DOUBTFUL and self.p_with_signal < DOUBTFUL

    @property
    def bent(self) -> bool:
        """Tell whether the yield is another one beside a flexible background."""
        return self.tension is not None and abs(self.tension) > FARTHEST

    @property
    def unfit(self) -> bool:
        """Tell whether no significance can be quoted: p < 0.001 without and with a signal, or another yield."""
        return (self.p_value < UNFIT and self.p_with_signal < UNFIT) or self.bent


def fit_qualities(found: BumpHunt, names: Sequence[str], second: Second | None = None) -> tuple[FitQuality, ...]:
    """Judge the background fit of every region of a hunt; second: of its two excesses, which then both are the signal."""
    settings, at = found.settings, found.best
    result = []
    for r, name in enumerate(names):
        m = int(np.where(found.scan.converged[r], found.scan.z[r], -np.inf).argmax())
        m = m if second is None else at
        p, template = fit_with_signal(found, r, m, second)
        own = yield_beside(found, r, template if m == at else found.templates[at])
        flexible = flexible_yield(found, r, template if m == at else found.templates[at])
        result.append(
            FitQuality(
                name,
                settings.family,
                int(found.background.order[r]),
                float(found.fit_p[r]),
                p,
                float(found.masses[m]),
                float(found.scan.z[r, m]),
                float(found.masses[at]),
                signal=own[0],
                error=own[1],
                flexible_signal=None if flexible is None else flexible[0],
                flexible_error=None if flexible is None else flexible[1],
                tension=None if flexible is None or not np.isfinite(own[1]) else apart(own, flexible),
            )
        )
    return tuple(result)


def apart(own: tuple[float, float], flexible: tuple[float, float]) -> float:
    """Return how many sigma two yields, each with its error, lie apart; 0 where the second background is hardly more flexible."""
    variance = flexible[1] ** 2 - own[1] ** 2
    return float((flexible[0] - own[0]) / np.sqrt(variance)) if variance > (0.05 * own[1]) ** 2 else 0.0


def fit_with_signal(found: BumpHunt, region: int, m: int, second: Second | None = None) -> tuple[float, Floats]:
    """Return the goodness of fit of one region's background with the signal of mass number m, and its template (bins,); second: beside it.

    A strong signal lies beside the masses of the scan and is a little wider or narrower than its template: where that one does not
    describe the spectrum, the best is taken within a width of the mass and a quarter of the signal's width.
    """
    counts, background = found.counts[region], found.background
    beside_it = np.empty((0, len(counts))) if second is None else second.templates[1:]
    parameters = background.n_parameters[region : region + 1] + 1.0 + len(beside_it)
    columns = found.columns(region)
    if columns is None:
        expected = signal_curve(found, region, m)
        p = 0.0 if expected is None else float(goodness_of_fit(counts[None], expected[None], parameters)[0])
        return p, found.templates[m]

    def p_at(template: Floats) -> float:
        """Return the goodness of fit with this template, 0 where no fit ends."""
        signals = np.concatenate([template[None], beside_it])
        _, expected, _, converged = fit_with_signals(
            counts, columns.basis, columns.offset, signals, columns.theta, precision=columns.precision
        )
        return float(goodness_of_fit(counts[None], expected[None], parameters)[0]) if converged else 0.0

    best, template = p_at(found.templates[m]), found.templates[m]
    if best >= DOUBTFUL:
        return best, template
    shape, mass = found.shape, float(found.masses[m])
    masses = mass * (1 + shape.width * np.linspace(-1, 1, 17))
    inside = masses[(masses > found.edges[0]) & (masses < found.edges[-1])]
    for width in shape.width * np.linspace(0.75, 1.25, 5):
        for beside in signal_templates(dataclasses.replace(shape, width=float(width)), inside, found.edges):
            p = p_at(beside)
            if p > best:
                best, template = p, beside
    return best, template


def yield_beside(found: BumpHunt, region: int, template: Floats) -> tuple[float, float]:
    """Return yield and error of a signal (bins,) beside one region's background, infinite where no fit ends."""
    columns = found.columns(region)
    if columns is None:
        signal, error = found.scan.signal[region, found.best], found.scan.error[region, found.best]
        return float(signal), float(error)
    fit = fit_one_signal(
        found.counts[region], columns.basis, columns.offset, template, columns.theta, precision=columns.precision
    )
    return fit.signal, fit.error if fit.converged else np.inf


def flexible_yield(found: BumpHunt, region: int, template: Floats) -> tuple[float, float] | None:
    """Return yield and error beside a flexible background; None where the dijet function is not defined or no fit ends."""
    edges, sqrt_s = found.edges, found.settings.sqrt_s
    if edges[0] <= 0 or edges[-1] >= sqrt_s:
        return None
    counts = found.counts[region]
    fit = choose_background(counts[None], edges, sqrt_s=sqrt_s, family=GAUSSIAN_PROCESS, process=FLEXIBLE)
    if not fit.converged[0]:
        return None
    columns = columns_at(fit, 0, edges, sqrt_s=sqrt_s, family=GAUSSIAN_PROCESS)
    made = fit_one_signal(counts, columns.basis, columns.offset, template, columns.theta, precision=columns.precision)
    return (made.signal, made.error) if made.converged and np.isfinite(made.error) else None


def quality_notes(qualities: Sequence[FitQuality], *, refusing: bool) -> list[str]:
    """State every background fit that is not good, in words for the report; refusing: whether significance then is."""
    notes = []
    for q in qualities:
        end = "no significance is quoted" if q.unfit and refusing else "read its p-values with care"
        if q.doubtful:
            notes.append(
                f"{q.region}: the {q.family} function, order {q.order}, fits the spectrum with p {stated_p(q.p_value)}, and with a signal at "
                f"{q.mass:.0f} GeV with p {stated_p(q.p_with_signal)}; {end}"
            )
        if q.bent:
            notes.append(
                f"{q.region}: the signal at {q.at:.0f} GeV is {q.signal:.4g} ± {q.error:.2g} events beside the {q.family} function and "
                f"{q.flexible_signal:.4g} ± {q.flexible_error:.2g} beside a background that may bend more, {abs(q.tension or 0):.1f} sigma apart; {end}"
            )
    return notes


def significance_refused(qualities: Sequence[FitQuality]) -> str | None:
    """Return why no significance can be quoted, or None where every region is described."""
    unfit = [q.region for q in qualities if q.unfit and not q.bent]
    bent = [q.region for q in qualities if q.bent]
    reasons = [f"the background function does not describe {', '.join(unfit)}"] if unfit else []
    if bent:
        reasons.append(f"the yield in {', '.join(bent)} depends on how far the background may bend")
    return "; ".join(reasons) or None


def bending_notes(found: BumpHunt, names: Sequence[str]) -> list[str]:
    """State where a background bends as a wide signal makes it bend, in a scan of one width; of few events some do by chance."""
    process, settings = found.background.process, found.settings
    if process is None or len(settings.widths) > 1:
        return []
    return [
        f"{name}: the background bends by {100 * width:.0f} % within {length:g} of ln m, as few smooth backgrounds do and a signal of 10 % of its mass does, "
        "which would be taken for background; scan widths beside masses (--width 0.01 0.10, width: [0.01, 0.10])"
        for name, width, length, counts in zip(names, process.width, process.length, found.counts, strict=True)
        if width >= BENDING and length == min(process.process.lengths) and counts.sum() >= BENDING_EVENTS
    ]


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
