"""Upper limits on a resonance by CLs against mass, in the full likelihood of all bins and regions.

Limits follow from qtilde (arXiv:1007.1727, eq. 16) by CLs (J. Phys. G 28 (2002) 2693): asymptotically, and by
pseudo-experiments where fewer than ten background events are expected in the signal's window.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from ...errors import InputError
from ...pieces import NONE_KEPT, Pieces
from ...table import MJJ, Observable
from ..fits.log_p import p_of_z
from ..significance.bumphunt import BumpHunt
from ..significance.q0 import signal_window
from .asymptotic import SIGMAS, NoLimit, asymptotic_limits, discovery_z
from .backgrounds import background_models, width_of
from .experiments import experiment_limits, experiment_p
from .fit import likelihood_of
from .likelihood import Observed
from .model import LimitModel, limit_model, region_names, shares
from .signal_errors import SignalErrors

__all__ = ["Limits", "cls_limits", "model_discovery_p", "model_discovery_z"]

Floats = npt.NDArray[np.float64]
LEVEL = 0.05
FEW_EVENTS = 10.0
EXPERIMENTS = 2_000  # of a mass: limits to about 1.5 %
SAID = 4  # masses that a note names
MAX_LOG_ERROR = 2.0  # sidebands that know the background to a factor of 7 only say nothing of it


@dataclass(frozen=True, repr=False)
class Limits:
    """Upper limits at `confidence` on the signal events at all masses in all regions together, one point a mass.

    masses: (n,) GeV; observed: (n,), NaN where blind; expected: (n, 5) at -2, -1, 0, 1, 2 sigma; failures: mass -> why it has
    no limit, where observed and expected are NaN; background: (n,) events expected in the window; asymptotic: (n,) False
    where that is below 10 and the limit is that of pseudo-experiments, whose statistical error is in experiment_errors (n, 6),
    of observed and expected, NaN elsewhere; experiments: their number; p: (n,) local p by them, NaN elsewhere; dropped: mass
    -> region -> why it was left out; luminosity: fb^-1 or None; efficiencies: (n, regions), the share of the signal in each
    region; errors: of the signal; linearised: whether the background's function was taken along its tangent.
    """

    masses: Floats
    observed: Floats
    expected: Floats
    confidence: float
    blind: bool
    failures: dict[float, str]
    dropped: dict[float, dict[str, str]]
    background: Floats
    asymptotic: npt.NDArray[np.bool_]
    efficiencies: Floats
    experiment_errors: Floats
    experiments: int
    p: Floats
    errors: SignalErrors = field(default_factory=SignalErrors)
    linearised: bool = False
    luminosity: float | None = None

    def __repr__(self) -> str:
        """Return the value in a line."""
        kind = "blind" if self.blind else "observed and expected"
        lowest, highest = (f"{m:g}" for m in (self.masses.min(), self.masses.max()))
        return (
            f"Limits({kind} at {self.confidence:.0%}, masses: {len(self.masses)} from {lowest} to {highest} GeV, "
            f"without a limit: {self.n_failed})"
        )

    @property
    def n_failed(self) -> int:
        """Return the number of masses without a limit."""
        return len(self.failures)

    @property
    def method(self) -> str:
        """Return how the limits were made, in words."""
        by = "CLs with qtilde over all bins, asymptotic"
        if not self.asymptotic.all():
            by += f"; by {self.experiments} pseudo-experiments where the window expects fewer than {FEW_EVENTS:g} background events"
        return by + ("; the background's function along its tangent at the fit" if self.linearised else "")

    def note(self, name: str, observable: Observable = MJJ) -> str | None:
        """Say at which masses a signal of this name has no limit, and why at the first; None where it has one at all."""
        if not self.failures:
            return None
        where = ", ".join(observable.at(m) for m in list(self.failures)[:SAID])
        more = f" and {self.n_failed - SAID} more" if self.n_failed > SAID else ""
        first = next(iter(self.failures.values()))
        return f"{name}: no limit at {self.n_failed} of {len(self.masses)} masses, {where}{more}: {first}"

    @property
    def observed_fb(self) -> Floats | None:
        """Return the observed limit (n,) on cross-section times branching times efficiency in fb, None without luminosity."""
        return None if self.luminosity is None else self.observed / self.luminosity

    @property
    def expected_fb(self) -> Floats | None:
        """Return the expected limits (n, 5) in fb, None without luminosity; the efficiency is that of the whole selection."""
        return None if self.luminosity is None else self.expected / self.luminosity

    def as_dict(self) -> dict[str, Any]:
        """Return everything for strict JSON; a limit that does not exist is null."""
        answer = {
            "masses": self.masses.tolist(),
            "observed": strict(self.observed),
            "expected": strict(self.expected),
            "expected_sigmas": list(SIGMAS),
            "unit": "signal events at all masses in all regions",
            "confidence": self.confidence,
            "method": self.method,
            "blind": self.blind,
            "failed": self.n_failed,
            "failures": [{"mass": m, "reason": why} for m, why in self.failures.items()],
            "dropped_regions": [{"mass": m, "regions": regions} for m, regions in self.dropped.items()],
            "background_in_window": strict(self.background),
            "asymptotic_holds": self.asymptotic.tolist(),
            "pseudo_experiments": self.experiments,
            "statistical_errors": strict(self.experiment_errors),
            "p_local_by_experiments": strict(self.p),
            "efficiencies": self.efficiencies.tolist(),
            **self.errors.as_dict(),
            "luminosity": self.luminosity,
        }
        if self.observed_fb is not None and self.expected_fb is not None:
            answer |= {"observed_fb": strict(self.observed_fb), "expected_fb": strict(self.expected_fb)}
        return answer


def strict(values: Floats) -> list[Any]:
    """Return nested lists with None where a value is not finite: strict JSON has no NaN."""
    if values.ndim > 1:
        return [strict(row) for row in values]
    return [v if np.isfinite(v) else None for v in values.tolist()]


def model_discovery_z(model: LimitModel) -> float | None:
    """Return the signed z of the joint fit of all regions; None where a fit fails."""
    return discovery_z(model.likelihood)


def model_discovery_p(model: LimitModel) -> float | None:
    """Return the one-sided p of `model_discovery_z`, above 0.5 for a deficit; None where a fit fails."""
    z = model_discovery_z(model)
    return None if z is None else float(p_of_z(z))


def cls_limits(
    found: BumpHunt,
    *,
    names: Sequence[str] | None = None,
    masses: npt.ArrayLike | None = None,
    efficiencies: npt.ArrayLike | None = None,
    luminosity: float | None = None,
    confidence: float = 1 - LEVEL,
    errors: SignalErrors | None = None,
    experiments: int = EXPERIMENTS,
    blind: bool = False,
    pieces: Pieces = NONE_KEPT,
) -> Limits:
    """Set CLs limits over a hunt's regions at each mass (GeV; the hunt's own by default), observed and expected.

    efficiencies: (regions,) or (masses, regions), share of the signal events in each region; luminosity: fb^-1, for limits
    in fb; errors: of the signal; experiments: of a mass whose window expects fewer than ten background events, seeded by the
    hunt's seed, 0 for the asymptotic formulas there too; blind: the sidebands' background stands in for the counts and
    observed is NaN. A mass whose likelihood cannot be built or fitted has NaN and its reason in `failures`. pieces: where the
    limits of a mass are kept. Raises InputError for settings outside what they mean.
    """
    grid = np.atleast_1d(np.asarray(found.masses if masses is None else masses, dtype=np.float64))
    regions = region_names(found, names)
    share = shares(efficiencies, len(regions), len(grid))
    errors = errors or SignalErrors()
    if luminosity is not None and not (np.isfinite(luminosity) and luminosity > 0):
        raise InputError(f"luminosity is a positive number of fb^-1; found {luminosity:g}")
    if not 0.5 <= confidence < 1:
        raise InputError(f"confidence lies in [0.5, 1), usually 0.95; found {confidence:g}")
    background, p = np.full(len(grid), np.nan), np.full(len(grid), np.nan)
    limits, spread = np.full((len(grid), 6), np.nan), np.full((len(grid), 6), np.nan)
    few = np.zeros(len(grid), dtype=bool)
    failures: dict[float, str] = {}
    dropped: dict[float, dict[str, str]] = {}
    settled: dict[str, Any] = {"confidence": confidence, "blind": blind, "experiments": experiments}
    own = pieces.of(
        "limits",
        dataclasses.replace(found, global_p=None),
        list(regions),
        grid,
        share,
        dataclasses.astuple(errors),
        settled,
    )
    backgrounds = background_models(found)
    with threadpool_limits(1):
        for m, mass in enumerate(grid.tolist()):
            model = limit_model(
                found, mass, names=regions, efficiencies=share[m], errors=errors, backgrounds=backgrounds
            )
            if isinstance(model, str):
                failures[mass] = model
                continue
            background[m] = model.background
            few[m] = experiments > 0 and model.background < FEW_EVENTS
            if model.left_out:
                dropped[mass] = model.left_out

            def answered(model: LimitModel = model, number: int = experiments if few[m] else 0, m: int = m) -> Any:
                return answer_of(model, 1 - confidence, number, seed=found.settings.seed + m, blind=blind)

            made = own.kept(f"{m}", answered)
            if str(made["failure"]):
                failures[mass] = str(made["failure"])
                continue
            limits[m], spread[m], p[m] = made["limits"], made["errors"], made["p"]
    if blind:
        limits[:, 0] = spread[:, 0] = p[:] = np.nan
    return Limits(
        masses=grid,
        observed=limits[:, 0],
        expected=limits[:, 1:],
        confidence=confidence,
        blind=blind,
        failures=failures,
        dropped=dropped,
        background=background,
        asymptotic=~few,
        efficiencies=share,
        experiment_errors=spread,
        experiments=experiments,
        p=p,
        errors=errors,
        linearised=any(b.linearised for b in backgrounds),
        luminosity=luminosity,
    )


def answer_of(model: LimitModel, level: float, experiments: int, *, seed: int, blind: bool) -> dict[str, Any]:
    """Return a mass's limits (6,) in events, their statistical errors (6,) and its local p where they are of experiments, or its failure.

    experiments: how many, 0 for asymptotic limits.
    """
    nothing = np.full(6, np.nan)
    try:
        likelihood = model.likelihood
        stand_in = from_sidebands(model) if blind else None
        if experiments == 0:
            values = asymptotic_limits(likelihood, level, to=stand_in)
            return {"limits": model.unit * values, "errors": nothing, "p": np.nan, "failure": ""}
        by = experiment_limits(likelihood, level, n=experiments, seed=seed, to=stand_in)
        p = np.nan if blind else experiment_p(likelihood, n=experiments, seed=seed).p
    except NoLimit as error:
        return {"limits": nothing, "errors": nothing, "p": np.nan, "failure": str(error)}
    return {"limits": model.unit * by.values, "errors": model.unit * by.errors, "p": p, "failure": ""}


def from_sidebands(model: LimitModel) -> Observed:
    """Return the data that backgrounds fitted without the signal's window would give: what blind limits are of.

    Raises NoLimit where the sidebands of a region do not tell the window's background.
    """
    window = signal_window(model.signal.sum(axis=0))
    beside = [dataclasses.replace(b, basis=b.basis[~window], offset=b.offset[~window]) for b in model.backgrounds]
    masked = likelihood_of(model.counts[:, ~window], beside, model.signal[:, ~window])
    fit = masked.fit(0.0)
    if not fit.converged:
        raise NoLimit("the background fit beside the window did not converge")
    counts = np.empty_like(model.counts)
    for r, (name, whole) in enumerate(zip(model.names, model.backgrounds, strict=True)):
        counts[r] = np.exp(np.clip(whole.basis @ fit.theta[r, : len(whole.theta)] + whole.offset, -60.0, 60.0))
        prior = np.diag(width_of(whole) ** -2)
        known = whole.basis.T @ (np.where(window, 0.0, counts[r])[:, None] * whole.basis) + prior
        inside = whole.basis[window].T
        error = float(np.sqrt((inside * np.linalg.solve(known, inside)).sum(axis=0).max()))
        if not error <= MAX_LOG_ERROR:
            raise NoLimit(
                f"the sidebands of {name} know the window's background to {error:.2g} in ln b only (allowed: {MAX_LOG_ERROR:g})"
            )
    data = model.likelihood.data
    return Observed(counts, data.auxiliary, data.centre)
