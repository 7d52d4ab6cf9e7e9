"""Is the global p-value right? Whole hunts in background-only experiments, each with its own fit and its own inner experiments.

The outer experiments are drawn from events, not from a fitted function, so that a function which does not describe the
background shows; scorers, regions, fit range and masses are those of the analysis. Under no signal the global p is uniform.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from tqdm import tqdm

from ..errors import InputError
from .bumphunt import BumpHunt, hunt
from .regions import Regions
from .search import Scored
from .spectra import as_hist
from .validation import within_binomial

__all__ = [
    "GlobalUniformity",
    "drawn_from_events",
    "drawn_from_fit",
    "global_p_of",
    "global_uniformity",
    "hunt_experiments",
]

Floats = npt.NDArray[np.float64]
POOL_PER_EXPERIMENT = 10  # the pool's own fluctuation is then 0.3 of an experiment's statistical error


@dataclass(frozen=True)
class GlobalUniformity:
    """Global p of n outer experiments without signal.

    how: what they were drawn from; events: mean number an experiment; inner: pseudo-experiments in each; p: (n,); ks_p:
    Kolmogorov-Smirnov against uniform; compatible: ks_p above 0.01, and the rejections at 0.05 and 0.01 within their 99 %
    binomial intervals.
    """

    how: str
    n: int
    inner: int
    events: float
    ks_p: float
    below_5_percent: float
    below_1_percent: float
    compatible: bool
    p: tuple[float, ...]


def global_uniformity(p: npt.ArrayLike, *, how: str, inner: int, events: float) -> GlobalUniformity:
    """Judge the global p-values (n,) of outer experiments."""
    values = np.asarray(p, dtype=np.float64)
    n = len(values)
    tail = {level: int((values <= level).sum()) for level in (0.05, 0.01)}
    ks = float(stats.kstest(values, "uniform").pvalue)
    return GlobalUniformity(
        how=how,
        n=n,
        inner=inner,
        events=float(events),
        ks_p=ks,
        below_5_percent=tail[0.05] / n,
        below_1_percent=tail[0.01] / n,
        compatible=ks > 0.01 and all(within_binomial(count, n, level) for level, count in tail.items()),
        p=tuple(values.tolist()),
    )


def drawn_from_events(
    pool: Scored, regions: Regions, edges: Floats, *, events: float, n: int, rng: np.random.Generator
) -> tuple[Floats, float, str]:
    """Draw n background-only spectra (n, regions, bins) from a pool of scored events, each of Poisson(events) of them.

    Events are drawn without replacement within an experiment: an event that is there twice is a bump where events are few. Where
    the pool has less than ten times the events, experiments are made smaller. Returns the spectra, the mean number of events
    and how they were drawn. Raises InputError where no pool event lies in a region.
    """
    region = regions.assign(pool.losses, pool.fold, pool.mjj)
    cell = np.digitize(pool.mjj, edges) - 1
    bins = len(edges) - 1
    inside = (region >= 0) & (cell >= 0) & (cell < bins)
    index = np.where(inside, region * bins + cell, regions.n_regions * bins)
    if not inside.any():
        raise InputError(f"{pool.name}: none of its {len(pool.mjj)} events lies in a region and in the fit range")
    size = min(events, len(index) / POOL_PER_EXPERIMENT)
    spectra = np.empty((n, regions.n_regions, bins))
    for i in range(n):
        chosen = rng.choice(len(index), min(int(rng.poisson(size)), len(index)), replace=False)
        counts = np.bincount(index[chosen], minlength=regions.n_regions * bins + 1)[:-1]
        spectra[i] = counts.reshape(regions.n_regions, bins)
    how = f"{size:.0f} events each of {len(index)} of {pool.name}"
    if size < events:
        how += f", in place of {events:.0f}: a pool of ten times as many would be needed"
    return spectra, float(size), how


def drawn_from_fit(found: BumpHunt, *, n: int, rng: np.random.Generator) -> tuple[Floats, float, str]:
    """Draw n spectra (n, regions, bins) from a hunt's own background fits: all there is where no events are at hand."""
    expected = found.background.expected
    spectra = rng.poisson(expected, size=(n, *expected.shape)).astype(np.float64)
    return spectra, float(expected.sum()), "the fitted background: says nothing of a function that is wrong"


def global_p_of(counts: Floats, found: BumpHunt, *, inner: int, seed: int) -> float:
    """Hunt in the spectra (regions, bins) of one experiment as `found` was hunted; return the global p, 1 where all are empty."""
    if not counts.any():
        return 1.0
    settings = dataclasses.replace(found.settings, pseudo_experiments=inner, seed=seed)
    spectra = [as_hist(found.edges, row) for row in counts]
    made = hunt(spectra, found.masses, shape=found.shape, settings=settings, progress=False).global_p
    assert made is not None
    return made.p


def hunted_side_by_side(
    spectra: Floats, found: BumpHunt, *, inner: int, seeds: Sequence[int], workers: int
) -> Iterator[float]:
    """Give the global p of each experiment (n, regions, bins), `workers` of them at a time in processes of their own."""
    if workers <= 1:
        for counts, seed in zip(spectra, seeds, strict=True):
            yield global_p_of(counts, found, inner=inner, seed=seed)
        return
    from loky import ProcessPoolExecutor

    pool = ProcessPoolExecutor(max_workers=workers)
    try:
        jobs = [
            pool.submit(global_p_of, counts, found, inner=inner, seed=seed)
            for counts, seed in zip(spectra, seeds, strict=True)
        ]
        for job in jobs:
            yield job.result()
    finally:
        pool.shutdown(wait=True, kill_workers=True)


def hunt_experiments(
    spectra: Floats, found: BumpHunt, *, inner: int, seed: int, workers: int = 1, progress: bool = True
) -> Floats:
    """Return the global p (n,) of whole hunts in n experiments (n, regions, bins)."""
    seeds = [int(s) for s in np.random.SeedSequence([seed, 0x0E7]).generate_state(len(spectra))]
    # the observed fits and their pseudo-experiments need not travel to the workers
    light = dataclasses.replace(found, global_p=None)
    pace = 0.5 if sys.stderr.isatty() else 30.0
    each = hunted_side_by_side(spectra, light, inner=inner, seeds=seeds, workers=workers)
    bar = tqdm(each, total=len(spectra), desc="outer experiments", unit="exp", disable=not progress, mininterval=pace)
    return np.array(list(bar))
