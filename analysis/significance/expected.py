"""Expected discovery: the significance that a hunt would give a signal, against its mass and its yield.

Two answers. The Asimov data set, the background fit plus the signal as they are, hunted in as data are: the z of the local statistic.
And experiments drawn from it, hunted in too, whose local p is calibrated as the quoted one is, by experiments without signal: median
and 68 % band. The first is no more than a statistic where a Gaussian process is chosen beside the signal; the second counts that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from ...errors import InputError
from ...pieces import NONE_KEPT, Pieces
from ..fits.log_p import z_of_log
from ..p_values.local_p import local_p
from .bumphunt import BumpHunt
from .experiments import BLOCK
from .procedure import procedure

__all__ = ["ExpectedDiscovery", "expected_discovery", "known_background_z"]

Floats = npt.NDArray[np.float64]
STRENGTHS = (1.0, 3.0, 5.0, 7.0, 10.0, 15.0)
"""Sigma that a known background would show; the fit of one takes up to half of it."""
NULL = 1_000  # experiments without signal: the tail is fitted to the largest 5 % of them
BAND = (0.1587, 0.5, 0.8413)
LEAST = 1e-9  # events a bin


@dataclass(frozen=True, repr=False)
class ExpectedDiscovery:
    """Expected local z of a signal at each mass (n,) GeV, for yields (n, k), events in all regions and at all masses.

    asimov: (n, k) z of the statistic in the Asimov data set; known_background: (n, k) the same for a background without any
    uncertainty, which none exceeds; low, median, high: (n, k) 16, 50 and 84 % quantiles of the calibrated local z of `experiments`
    experiments, NaN without; efficiencies: (regions,) share of the signal in each; luminosity: fb^-1, None where not known.
    """

    masses: Floats
    yields: Floats
    asimov: Floats
    known_background: Floats
    low: Floats
    median: Floats
    high: Floats
    experiments: int
    null: int
    efficiencies: Floats
    luminosity: float | None

    def __repr__(self) -> str:
        """Return the value in a line."""
        n, k = self.yields.shape
        return f"ExpectedDiscovery({n} masses, {k} yields, {self.experiments} experiments each)"

    @property
    def z(self) -> Floats:
        """Return the median of the experiments, or the Asimov z without any: (n, k)."""
        return self.median if self.experiments else self.asimov

    def yield_for(self, z: float) -> Floats:
        """Return the events at which the expected significance reaches z, (n,), between the yields on a line; NaN where none does."""
        found = np.full(len(self.masses), np.nan)
        for i, (events, reached) in enumerate(zip(self.yields, self.z, strict=True)):
            x, y = np.append(0.0, events), np.append(0.0, reached)
            above = np.flatnonzero(y >= z)
            if len(above):
                j = int(above[0])
                found[i] = x[j - 1] + (z - y[j - 1]) / (y[j] - y[j - 1]) * (x[j] - x[j - 1])
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return the value as a JSON-like mapping, with cross-sections in fb where the luminosity is known."""
        needed = {f"{z}_sigma": self.yield_for(float(z)) for z in (3, 5)}
        answer = {
            "masses": self.masses.tolist(),
            "yields": self.yields.tolist(),
            "z_asimov": self.asimov.tolist(),
            "z_known_background": self.known_background.tolist(),
            "z_median": self.median.tolist(),
            "z_low_68": self.low.tolist(),
            "z_high_68": self.high.tolist(),
            "experiments": self.experiments,
            "experiments_without_signal": self.null,
            "efficiencies": self.efficiencies.tolist(),
            **{f"yield_for_{name}": events.tolist() for name, events in needed.items()},
        }
        if self.luminosity is not None:
            answer |= {"luminosity": self.luminosity, "cross_sections_fb": (self.yields / self.luminosity).tolist()}
            answer |= {f"fb_for_{name}": (events / self.luminosity).tolist() for name, events in needed.items()}
        return answer


def expected_discovery(
    found: BumpHunt,
    *,
    points: int = 6,
    yields: Sequence[float] | None = None,
    efficiencies: Sequence[float] | Floats | None = None,
    experiments: int = 100,
    luminosity: float | None = None,
    progress: bool = True,
    pieces: Pieces = NONE_KEPT,
) -> ExpectedDiscovery:
    """Return the significance that the hunt expects of a signal of its own shape, at `points` masses of its scan.

    Where several widths are scanned, the signal has the one that is best at its mass in the data, and the hunt scans them all.

    yields: signal events, the same at every mass; where there are none those that a known background would show at 1 to 15 sigma;
    efficiencies: (regions,) share of the signal in each region, [1] where there is one; experiments: of a mass and yield.
    The background is the hunt's own fit. Raises InputError for yields and efficiencies that are none.
    """
    share = checked_shares(efficiencies, len(found.counts))
    at = np.unique(np.linspace(0, len(found.masses) - 1, min(points, len(found.masses))).round().astype(int))
    expected, settings = found.background.expected, found.experiment_settings
    unit = share[:, None] * found.templates[at][:, None, :]  # (n, regions, bins)
    if yields is None:
        injected = np.array([[yield_of(z, s, expected) for z in STRENGTHS] for s in unit])
    else:
        injected = np.tile(checked_yields(yields), (len(at), 1))
    signal = injected[:, :, None, None] * unit[:, None]  # (n, k, regions, bins)
    templates, own_width = found.all_templates, found.best_widths[at]
    n, k = injected.shape
    own = pieces.of("expected", expected, found.edges, templates, own_width, settings, injected, share, experiments)
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, 0xE9D]))

    def hunted(counts: Floats) -> dict[str, npt.ArrayLike]:
        """Hunt in experiments (size, regions, bins): ln of the combined p at the n masses, last and first."""
        blocks = [counts[i : i + BLOCK] for i in range(0, len(counts), BLOCK)]
        made = [procedure(block, found.edges, templates, settings) for block in blocks]
        parts = [[m.log_combined[:, own_width] for m in made], [m.log_first[:, own_width] for m in made]]
        return {"log_p": np.stack([np.concatenate(part) for part in parts])}

    def kept(name: str, counts: Floats) -> Floats:
        return np.asarray(own.kept(name, lambda: hunted(counts))["log_p"])

    quantiles = np.full((3, n, k), np.nan)
    bar = tqdm(total=n * k, desc="expected discovery", unit="yield", disable=not progress)
    with bar, threadpool_limits(1):
        asimov = kept("asimov", (expected + signal).reshape(n * k, *expected.shape))[0].reshape(n, k, n)
        null = np.empty((2, 0, n))
        if experiments:
            null = kept("null", rng.poisson(expected, size=(NULL, *expected.shape)).astype(np.float64))
        for i, j in np.ndindex(n, k) if experiments else ():
            # drawn whether they are kept or not: the next ones follow from them
            counts = rng.poisson(expected + signal[i, j], size=(experiments, *expected.shape)).astype(np.float64)
            made = kept(f"{i}-{j}", counts)[:, :, i]
            z = [local_p(null[0, :, i], float(log_p), float(first)).z for log_p, first in made.T]
            quantiles[:, i, j] = np.quantile(z, BAND)
            bar.update()
    return ExpectedDiscovery(
        masses=found.masses[at],
        yields=injected,
        asimov=z_of_log(asimov[np.arange(n), :, np.arange(n)]),
        known_background=known_background_z(signal, expected),
        low=quantiles[0],
        median=quantiles[1],
        high=quantiles[2],
        experiments=experiments,
        null=null.shape[1],
        efficiencies=share,
        luminosity=luminosity,
    )


def known_background_z(signal: Floats, expected: Floats) -> Floats:
    """Return sqrt(2 sum((s + b) ln(1 + s / b) - s)) over regions and bins, (..., regions, bins) -> (...): Asimov's z (arXiv:1007.1727)."""
    b = np.maximum(expected, LEAST)
    return np.asarray(
        np.sqrt(2 * np.maximum((special.xlog1py(signal + b, signal / b) - signal).sum(axis=(-2, -1)), 0.0))
    )


def yield_of(z: float, unit: Floats, expected: Floats) -> float:
    """Return how many events of a signal of one event, (regions, bins), a known background would show at z."""

    def missing(log_events: float) -> float:
        return float(known_background_z(np.exp(log_events) * unit, expected)) - z

    return float(np.exp(optimize.brentq(missing, -20.0, 40.0)))


def checked_shares(efficiencies: Sequence[float] | Floats | None, regions: int) -> Floats:
    """Return the share of the signal in each region, (regions,); refuse what is none."""
    if efficiencies is None:
        if regions > 1:
            raise InputError(
                f"expected discovery over {regions} regions needs efficiencies, the share of a signal that falls into each"
            )
        return np.ones(1)
    share = np.asarray(efficiencies, dtype=np.float64)
    good = share.shape == (regions,) and bool(np.isfinite(share).all() and (share >= 0).all())
    if not good or not 0 < share.sum() <= 1 + 1e-9:
        raise InputError(
            f"efficiencies are shares of one signal in {regions} disjoint regions: each 0 or more, their sum above 0 and at most 1; "
            f"found {share.tolist()}"
        )
    return share


def checked_yields(yields: Sequence[float]) -> Floats:
    """Return yields (k,), sorted; refuse what is no number of events."""
    given = np.asarray(yields, dtype=np.float64)
    if given.ndim != 1 or len(given) == 0 or not (np.isfinite(given).all() and (given > 0).all()):
        raise InputError(f"yields of an expected discovery are numbers of signal events above 0; found {list(yields)}")
    return np.unique(given)
