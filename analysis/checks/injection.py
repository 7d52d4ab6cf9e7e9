"""Injected signals: does the fit give back what was put in, with the error that it states?

Signals of 0, 1, 3 and 5 standard deviations of the yield are added to pseudo-data of one region and fitted as a hunt fits
them, the background chosen anew in each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from ...pieces import NONE_KEPT, Pieces
from ..significance.procedure import HuntSettings, procedure
from ..spectra.signal_shape import SignalShape, signal_templates

__all__ = ["Linearity", "injection_linearity"]

Floats = npt.NDArray[np.float64]
STRENGTHS = (0.0, 1.0, 3.0, 5.0)


@dataclass(frozen=True, repr=False)
class Linearity:
    """Fitted yields of injected signals in one region at one mass (GeV), an entry for each strength.

    sigma: error of the yield (events) where there is no signal, of counting where no fit tells it; strengths: injected yield in
    sigma; injected: in events;
    fitted, error: mean of the fits, and its error; pull_mean, pull_width: of (fitted - injected) / own error;
    coverage_68, coverage_95: share of fits whose own interval of 1, and 1.96, errors holds the truth; failed: fits left out;
    n: pseudo-experiments a strength; slope, offset: of the straight line through the means; fewest: background events expected
    in the emptiest bin of the signal's window. What fewer than two fits, or two strengths, do not tell is NaN.
    """

    region: str
    mass: float
    sigma: float
    strengths: tuple[float, ...]
    injected: tuple[float, ...]
    fitted: tuple[float, ...]
    error: tuple[float, ...]
    pull_mean: tuple[float, ...]
    pull_width: tuple[float, ...]
    coverage_68: tuple[float, ...]
    coverage_95: tuple[float, ...]
    failed: tuple[int, ...]
    n: int
    slope: float
    offset: float
    fewest: float

    def __repr__(self) -> str:
        """Return the value in a line."""
        return f"Linearity({self.region} at {self.mass:g} GeV, slope {self.slope:.3f}, {self.n} experiments a strength)"


def injection_linearity(
    expected: Floats,
    edges: Floats,
    mass: float,
    *,
    shape: SignalShape,
    settings: HuntSettings,
    region: str = "region 0",
    strengths: Sequence[float] = STRENGTHS,
    n: int = 300,
    lowest: int | None = None,
    pieces: Pieces = NONE_KEPT,
) -> Linearity:
    """Inject signals at one mass into pseudo-data of one region's expected background (bins,) and fit them.

    lowest: order from which the F-test of the background starts, as the hunt had it; pieces: where the fits of a strength are kept.
    """
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, 0x11E]))
    template = signal_templates(shape, [mass], edges)
    hunting = replace(settings, lowest_orders=None if lowest is None else (lowest,), highest=0.0, spare_orders=0)

    def fit(counts: Floats) -> tuple[Floats, Floats]:
        scan = procedure(counts[:, None, :], edges, template, hunting).scan
        good = scan.converged[:, 0] & np.isfinite(scan.error[:, 0]) & (scan.error[:, 0] > 0)
        return scan.signal[good, 0], scan.error[good, 0]

    own = pieces.of("injection", region, expected, edges, mass, template, settings, n, lowest)

    def fitted_kept(name: str, counts: Floats) -> tuple[Floats, Floats]:
        made = own.kept(name, lambda: dict(zip(("yield", "error"), fit(counts), strict=True)))
        return made["yield"], made["error"]

    background = rng.poisson(expected, size=(n, len(expected))).astype(np.float64)
    errors = fitted_kept("background", background)[1]
    window = template[0] > 0.02 * template[0].max()
    sigma = float(np.median(errors)) if len(errors) else math.inf
    if sigma > max(expected.sum(), 1.0):  # more than all events: the fits determine nothing
        sigma = float(np.sqrt(max(expected[window].sum(), 1.0)))
    rows = []
    for strength in strengths:
        signal = rng.poisson(strength * sigma * template[0], size=(n, len(expected)))
        counts = rng.poisson(expected, size=signal.shape).astype(np.float64) + signal
        fitted, error = fitted_kept(f"strength_{strength:g}", counts)
        rows.append(summary(fitted, error, strength * sigma, n))
    injected = np.array(strengths) * sigma
    slope, offset = straight_line(injected, np.array([r.mean for r in rows]), np.array([r.error for r in rows]))
    return Linearity(
        region=region,
        mass=float(mass),
        sigma=sigma,
        strengths=tuple(float(s) for s in strengths),
        injected=tuple(injected.tolist()),
        fitted=tuple(r.mean for r in rows),
        error=tuple(r.error for r in rows),
        pull_mean=tuple(r.pull_mean for r in rows),
        pull_width=tuple(r.pull_width for r in rows),
        coverage_68=tuple(r.coverage_68 for r in rows),
        coverage_95=tuple(r.coverage_95 for r in rows),
        failed=tuple(r.failed for r in rows),
        n=n,
        slope=slope,
        offset=offset,
        fewest=float(expected[window].min()),
    )


def straight_line(x: Floats, y: Floats, error: Floats) -> tuple[float, float]:
    """Return slope and offset of the line through points (k,) with errors; NaN where fewer than two places are known."""
    known = np.isfinite(y) & np.isfinite(error)
    if len(np.unique(x[known])) < 2:
        return math.nan, math.nan
    slope, offset = np.polyfit(x[known], y[known], 1, w=1 / np.maximum(error[known], 1e-9))
    return float(slope), float(offset)


class Summary(NamedTuple):
    """The fits of one strength; see `Linearity`."""

    mean: float
    error: float
    pull_mean: float
    pull_width: float
    coverage_68: float
    coverage_95: float
    failed: int


def summary(fitted: Floats, error: Floats, truth: float, n: int) -> Summary:
    """Sum up the fits that reached a minimum, of n."""
    k = len(fitted)
    if k < 2:
        nan = math.nan
        return Summary(nan, nan, nan, nan, nan, nan, n - k)
    pull = (fitted - truth) / error
    within = [float((np.abs(pull) < stats.norm.isf(0.5 * (1 - level))).mean()) for level in (0.6827, 0.95)]
    return Summary(
        mean=float(fitted.mean()),
        error=float(fitted.std(ddof=1) / np.sqrt(k)),
        pull_mean=float(pull.mean()),
        pull_width=float(pull.std(ddof=1)),
        coverage_68=within[0],
        coverage_95=within[1],
        failed=n - k,
    )
