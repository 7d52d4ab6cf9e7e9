"""Checks that stand beside every answer: sculpting, spurious signal, injection linearity, uniform local p."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.spatial.distance import jensenshannon

from .background import FAMILIES, choose_background
from .bumphunt import HuntSettings, procedure
from .resonance import SignalShape, signal_templates
from .scan import scan_spectra

__all__ = [
    "Linearity",
    "Sculpting",
    "Spurious",
    "Uniformity",
    "injection_linearity",
    "local_p_uniformity",
    "sculpting",
    "spurious_signal",
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


@dataclass(frozen=True)
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
    for order in FAMILIES[settings.family]:
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
class Linearity:
    """Mean fitted yield against injected yield, all regions' own shares, one mass (GeV)."""

    mass: float
    injected: tuple[float, ...]
    fitted: tuple[float, ...]
    error: tuple[float, ...]
    slope: float
    offset: float


def injection_linearity(
    expected: Floats,
    edges: Floats,
    mass: float,
    *,
    shape: SignalShape,
    settings: HuntSettings,
    injected: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0),
    n: int = 300,
) -> Linearity:
    """Inject signal into pseudo-data of one region and fit it: expected background (bins,), yields in its sqrt(B) in the window."""
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, 0x11E]))
    template = signal_templates(shape, [mass], edges)
    unit = float(np.sqrt(max(expected[template[0] > 0.02 * template[0].max()].sum(), 1.0)))
    means, errors = [], []
    for strength in injected:
        counts = rng.poisson(expected + strength * unit * template[0], size=(n, len(expected))).astype(np.float64)
        fit = choose_background(counts, edges, sqrt_s=settings.sqrt_s, family=settings.family)
        result = scan_spectra(counts, fit, template, edges, sqrt_s=settings.sqrt_s, family=settings.family)
        fitted = result.signal[result.converged[:, 0], 0]
        means.append(float(fitted.mean()))
        errors.append(float(fitted.std() / np.sqrt(len(fitted))))
    x = np.array(injected) * unit
    slope, offset = np.polyfit(x, np.array(means), 1, w=1 / np.maximum(np.array(errors), 1e-9))
    return Linearity(mass, tuple(x.tolist()), tuple(means), tuple(errors), float(slope), float(offset))


@dataclass(frozen=True)
class Uniformity:
    """Combined local p of background-only pseudo-experiments at one mass: Kolmogorov-Smirnov p, and the tail at 5 %."""

    mass: float
    n: int
    ks_p: float
    below_5_percent: float
    below_1_percent: float


def local_p_uniformity(
    expected: Floats, edges: Floats, masses: Floats, *, shape: SignalShape, settings: HuntSettings, n: int = 1000
) -> list[Uniformity]:
    """Scan background-only experiments drawn from `expected` (regions, bins) at a few masses, regions combined."""
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, 0x0F1]))
    counts = rng.poisson(expected, size=(n, *expected.shape)).astype(np.float64)
    _, _, combined = procedure(counts, edges, signal_templates(shape, masses, edges), settings)
    return [
        Uniformity(
            float(m),
            n,
            float(stats.kstest(combined[:, i], "uniform").pvalue),
            float((combined[:, i] < 0.05).mean()),
            float((combined[:, i] < 0.01).mean()),
        )
        for i, m in enumerate(np.atleast_1d(masses))
    ]
