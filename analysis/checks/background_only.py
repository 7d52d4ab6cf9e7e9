"""Checks that stand beside every answer: sculpting, spurious signal, uniform local p; injections are in `injection.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.spatial.distance import jensenshannon

from ...errors import InputError
from ...pieces import NONE_KEPT, Pieces
from ..fits.background import choose_background, family_orders
from ..fits.log_p import p_of_log
from ..fits.scan import scan_spectra
from ..regions.decorrelation import MovingCut, sample
from ..regions.dependence import distance_correlation
from ..significance.experiments import in_blocks
from ..significance.procedure import HuntSettings, procedure
from ..spectra.signal_shape import SignalShape, signal_templates

__all__ = [
    "Decorrelation",
    "Sculpting",
    "Spurious",
    "Uniformity",
    "compare_sculpting",
    "local_p_uniformity",
    "sculpting",
    "spurious_signal",
    "within_binomial",
]

Floats = npt.NDArray[np.float64]
TOLERATED = 0.3
NOISE_UNITS = 3.0


@dataclass(frozen=True)
class Sculpting:
    """How far a region's background spectrum departs from the inclusive one.

    jsd: Jensen-Shannon divergence in nats; floor, floor_95: mean and 95 % quantile of random selections of the same size.
    """

    region: str
    n_events: int
    jsd: float
    floor: float
    floor_95: float


@dataclass(frozen=True)
class Decorrelation:
    """What a moving cut does to the sculpting of a background sample.

    efficiency: share above the moving cut, asked: what it was fitted for; before, after: sculpting of the selection by
    one cut of that efficiency and by the moving cut; dependence_before, dependence_after: dCorr^2 of score and mass, 0 in
    expectation where there is none.
    """

    asked: float
    efficiency: float
    before: Sculpting
    after: Sculpting
    dependence_before: float
    dependence_after: float


def divergence(first: Floats, second: Floats) -> float:
    """Return the Jensen-Shannon divergence of two spectra (bins,) in nats."""
    value = float(jensenshannon(first, second)) ** 2
    return value if np.isfinite(value) else 0.0


def sculpting(
    inclusive: Floats, selected: Floats, *, region: str, rng: np.random.Generator, n_random: int = 200
) -> Sculpting:
    """Compare a region's background counts (bins,) with the inclusive ones it was selected from."""
    n = int(selected.sum())
    if n == 0 or inclusive.sum() == 0:
        return Sculpting(region, n, 0.0, 0.0, 0.0)
    random = rng.multivariate_hypergeometric(inclusive.astype(np.int64), n, size=n_random)
    floor = np.array([divergence(r.astype(np.float64), inclusive) for r in random])
    return Sculpting(region, n, divergence(selected, inclusive), float(floor.mean()), float(np.quantile(floor, 0.95)))


@dataclass(frozen=True, repr=False)
class Spurious:
    """Signal fitted to held-out background of one region, over the statistical error of the hunted events, per mass.

    worst: largest |ratio|; noise: the error of a ratio from the finite background sample; lowest: the order of that fit,
    by F-test or raised, from which the hunt's own F-test starts; resolved: whether `worst` stays within 0.3 plus three times the noise.
    """

    region: int
    ratio: tuple[float, ...]
    worst: float
    noise: float
    lowest: int
    resolved: bool

    def __repr__(self) -> str:
        """Return the value in a line."""
        return f"Spurious(region {self.region}, at most {self.worst:.2f} of the statistical error, order {self.lowest})"


def spurious_signal(
    background: Floats,
    edges: Floats,
    masses: Floats,
    *,
    region: int,
    shape: SignalShape,
    scale: float,
    settings: HuntSettings,
) -> Spurious:
    """Fit signal to held-out background that has none, raising the order until the answer is small: counts (bins,).

    The order starts where the F-test on these events puts it: they often are more than the hunted ones, whose own F-test
    then cannot see that a stiff function is wrong.

    scale: hunted events over held-out ones. Yields grow with the events and their errors with the root, so the fitted
    z times sqrt(scale) is the bias in units of the hunt's error, known to sqrt(scale). The tolerance is 0.3 of the
    statistical error plus three of these noise units: with 30 masses some fluctuation of the sample itself is certain.
    """
    templates = signal_templates(shape, masses, edges)
    noise = float(np.sqrt(scale))
    result = None
    for order in family_orders(settings.family):
        if result is not None and order <= result.lowest:
            continue
        fit = choose_background(background[None], edges, sqrt_s=settings.sqrt_s, family=settings.family, lowest=[order])
        scan = scan_spectra(background[None], fit, templates, edges, sqrt_s=settings.sqrt_s, family=settings.family)
        ratio = np.where(scan.converged, scan.z, 0.0)[0] * noise
        worst = float(np.abs(ratio).max())
        result = Spurious(
            region,
            tuple(ratio.tolist()),
            worst,
            noise,
            int(fit.order[0]),
            worst <= TOLERATED + NOISE_UNITS * noise,
        )
        if result.resolved:
            break
    assert result is not None
    return result


@dataclass(frozen=True)
class Uniformity:
    """Local p of n pseudo-experiments of the hunt's own fit at one mass: Kolmogorov-Smirnov p in bulk, and rejection in the tail.

    It says whether the fit, its order and the asymptotic formula give a right p where the function is right. That the
    function is wrong it cannot see: the bias test (`bias.py`) draws from others.

    region: "combined", or the name of one region; compatible: whether the rejections at 1e-2 and 1e-3 lie within the 99 %
    binomial interval of n experiments; excessive: whether one of them lies above it; ks_distance: largest distance from uniform;
    fewest: events expected in the emptiest bin of the signal's window, of all regions or of this one.
    """

    mass: float
    n: int
    ks_p: float
    below_5_percent: float
    below_1_percent: float
    below_0_1_percent: float
    compatible: bool
    excessive: bool
    ks_distance: float
    fewest: float
    region: str = "combined"


def within_binomial(count: int, n: int, p: float, *, level: float = 0.99) -> bool:
    """Tell whether a count of n lies in the central interval of a binomial of probability p."""
    low, high = stats.binom.interval(level, n, p)
    return bool(low <= count <= high)


def uniformity_of(p: Floats, mass: float, region: str, fewest: float) -> Uniformity:
    """Judge the local p-values (n,) of background-only experiments."""
    n = len(p)
    test = stats.kstest(p, "uniform")
    tail = {level: int((p < level).sum()) for level in (0.05, 0.01, 0.001)}
    return Uniformity(
        mass=float(mass),
        n=n,
        ks_p=float(test.pvalue),
        ks_distance=float(test.statistic),
        fewest=fewest,
        below_5_percent=tail[0.05] / n,
        below_1_percent=tail[0.01] / n,
        below_0_1_percent=tail[0.001] / n,
        compatible=all(within_binomial(tail[level], n, level) for level in (0.01, 0.001)),
        excessive=any(tail[level] > stats.binom.isf(0.005, n, level) for level in (0.01, 0.001)),
        region=region,
    )


def local_p_uniformity(
    expected: Floats,
    edges: Floats,
    masses: Floats,
    *,
    shape: SignalShape,
    settings: HuntSettings,
    n: int = 1000,
    names: Sequence[str] = (),
    progress: bool = False,
    pieces: Pieces = NONE_KEPT,
) -> list[Uniformity]:
    """Scan experiments drawn from `expected` (regions, bins), the hunt's own fit, at a few masses, regions combined.

    names: of the regions that are judged alone, too, each after the combined ones. A fit that failed is no p-value: alone, it
    is left out of its region's; combined, it counts as 0.5, as in a hunt. pieces: where blocks of experiments are kept.
    """
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, 0x0F1]))
    grid = np.atleast_1d(np.asarray(masses, dtype=np.float64))
    templates = signal_templates(shape, grid, edges)
    combined = np.empty((n, len(grid)))
    alone = np.empty((n, len(expected), len(grid))) if names else None
    own = pieces.of("uniformity", expected, edges, templates, settings, n, list(names))

    def scanned(counts: Floats) -> dict[str, Floats]:
        """Scan a block of experiments (size, regions, bins)."""
        made = procedure(counts, edges, templates, settings)
        p = np.where(made.scan.converged, made.scan.p, np.nan)
        return {"combined": p_of_log(made.log_combined), "alone": p.reshape(-1, len(expected), len(grid))}

    drawn = in_blocks(expected, scanned, n=n, rng=rng, pieces=own, what="uniformity of local p", progress=progress)
    for part, made in drawn:
        combined[part] = made["combined"]
        if alone is not None:
            alone[part] = made["alone"]
    # (regions, masses): the emptiest bin that holds 2 % of the template's highest or more
    inside = templates > 0.02 * templates.max(axis=1, keepdims=True)
    fewest = np.where(inside[None], expected[:, None, :], np.inf).min(axis=2)
    found = [uniformity_of(combined[:, i], m, "combined", float(fewest[:, i].min())) for i, m in enumerate(grid)]
    for r, name in enumerate(names):
        if alone is not None:
            for i, m in enumerate(grid):
                p = alone[:, r, i]
                found.append(uniformity_of(p[np.isfinite(p)], m, name, float(fewest[r, i])))
    return found


def compare_sculpting(
    moving: MovingCut,
    score: npt.ArrayLike,
    mass: npt.ArrayLike,
    edges: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    pt: npt.ArrayLike | None = None,
) -> Decorrelation:
    """Measure the sculpting before and after on background that the cut was not fitted on: score, mass, pt (n,), edges GeV.

    Events outside of the edges are left out.
    """
    bins = np.asarray(edges, dtype=np.float64)
    s, log_mass, _ = sample(score, mass, pt, moving.efficiency)
    m = np.exp(log_mass)
    inside = (m >= bins[0]) & (m < bins[-1])
    if not inside.any():
        raise InputError(f"no event between {bins[0]} and {bins[-1]} GeV")
    s, m = s[inside], m[inside]
    residual = moving.transform(s, m, None if pt is None else np.asarray(pt, dtype=np.float64)[inside])
    fixed, moved = s > np.quantile(s, 1 - moving.efficiency), residual > 0
    inclusive = np.histogram(m, bins)[0].astype(np.float64)
    selected = [np.histogram(m[chosen], bins)[0].astype(np.float64) for chosen in (fixed, moved)]
    return Decorrelation(
        asked=moving.efficiency,
        efficiency=float(moved.mean()),
        before=sculpting(inclusive, selected[0], region="one cut", rng=rng),
        after=sculpting(inclusive, selected[1], region="moving cut", rng=rng),
        dependence_before=distance_correlation(s, m),
        dependence_after=distance_correlation(residual, m),
    )
