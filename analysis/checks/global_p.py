"""Is the global p-value right? Whole hunts in background-only experiments, each with its own fit and its own inner experiments.

The outer experiments are drawn from events, not from a fitted function, so that a function which does not describe the
background shows; scorers, regions, fit range and masses are those of the analysis. Under no signal the global p is uniform.

Experiments that are drawn from one pool of events share its fluctuations, so their global p are uniform each and not
independent: their distance from uniform is larger than Kolmogorov and Smirnov's distribution has it. `shared_distances`
gives the distribution itself (docs/design/background.md).
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from ...errors import InputError
from ...pieces import NONE_KEPT, Pieces
from ..regions.regions import Regions
from ..regions.scored import Scored, regions_of_events
from ..significance.bumphunt import BumpHunt, hunt
from ..significance.experiments import BLOCK
from ..significance.procedure import procedure
from ..spectra.bins import as_hist
from .background_only import within_binomial

__all__ = [
    "GlobalUniformity",
    "drawn_from_events",
    "drawn_from_fit",
    "global_p_of",
    "global_uniformity",
    "hunt_experiments",
    "shared_distances",
]

Floats = npt.NDArray[np.float64]
POOL_PER_EXPERIMENT = 10  # the pool's own fluctuation is then 0.3 of an experiment's statistical error
POOLS = 100  # of the fitted background, for the distribution of the distance


@dataclass(frozen=True, repr=False)
class GlobalUniformity:
    """Global p of n outer experiments without signal.

    how: what they were drawn from; events: mean number an experiment; inner: pseudo-experiments in each; p: (n,); ks_p:
    Kolmogorov-Smirnov against uniform, as if experiments were independent; ks_p_shared: among experiments that share a pool as
    these do, None where they share none; compatible: ks_p_shared, or ks_p where there is none, above 0.01, and the rejections at
    0.05 and 0.01 within their 99 % binomial intervals; a level that `inner` experiments cannot reach is not judged.
    """

    how: str
    n: int
    inner: int
    events: float
    ks_p: float
    ks_p_shared: float | None
    below_5_percent: float
    below_1_percent: float
    compatible: bool
    p: tuple[float, ...]

    def __repr__(self) -> str:
        """Return the value in a line."""
        return (
            f"GlobalUniformity({self.n} experiments of {self.inner}, below 0.05: {self.below_5_percent:.3f}, "
            f"KS p = {self.ks_p:.2g}, {'' if self.compatible else 'not '}compatible)"
        )


def global_uniformity(
    p: npt.ArrayLike, *, how: str, inner: int, events: float, shared: npt.ArrayLike | None = None
) -> GlobalUniformity:
    """Judge the global p-values (n,) of outer experiments; shared: the distances of `shared_distances`, if they have a pool."""
    values = np.asarray(p, dtype=np.float64)
    n = len(values)
    tail = {level: int((values <= level).sum()) for level in (0.05, 0.01)}
    ks = stats.kstest(values, "uniform")
    among = None
    if shared is not None:
        distances = np.asarray(shared, dtype=np.float64)
        among = float((1 + (distances >= ks.statistic).sum()) / (1 + len(distances)))
    return GlobalUniformity(
        how=how,
        n=n,
        inner=inner,
        events=float(events),
        ks_p=float(ks.pvalue),
        ks_p_shared=among,
        below_5_percent=tail[0.05] / n,
        below_1_percent=tail[0.01] / n,
        compatible=(ks.pvalue if among is None else among) > 0.01
        and all(within_binomial(count, n, level) for level, count in tail.items() if reaches(inner, level)),
        p=tuple(values.tolist()),
    )


def reaches(inner: int, level: float) -> bool:
    """Tell whether a global p from `inner` experiments, 1 / (1 + inner) at the least, can be as small as a level."""
    return 1.0 / (1 + inner) <= level


def drawn_from_events(
    pool: Scored, regions: Regions, edges: Floats, *, events: float, n: int, rng: np.random.Generator
) -> tuple[Floats, float, str]:
    """Draw n background-only spectra (n, regions, bins) from a pool of scored events, each of Poisson(events) of them.

    Events are drawn without replacement within an experiment: an event that is there twice is a bump where events are few. Where
    the pool has less than ten times the events, experiments are made smaller. Returns the spectra, the mean number of events
    and how they were drawn. Raises InputError where no pool event lies in a region.
    """
    region = regions_of_events(pool, regions)
    cell = np.digitize(pool.mass, edges) - 1
    bins = len(edges) - 1
    inside = (region >= 0) & (cell >= 0) & (cell < bins)
    index = np.where(inside, region * bins + cell, regions.n_regions * bins)
    if not inside.any():
        raise InputError(f"{pool.name}: none of its {len(pool.mass)} events lies in a region and in the fit range")
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


def smallest_of_pool(found: BumpHunt, *, times: float, n: int, seed: int) -> Floats:
    """Return ln of the smallest combined p (n,) of experiments that share one pool of `times` their events, drawn from the fits."""
    rng = np.random.default_rng(seed)
    pool = rng.poisson(times * found.background.expected)
    smallest = np.empty(n)
    with threadpool_limits(1):
        for start in range(0, n, BLOCK):
            size = min(BLOCK, n - start)
            counts = rng.binomial(pool, 1 / times, size=(size, *pool.shape)).astype(np.float64)
            made = procedure(counts, found.edges, found.all_templates, found.experiment_settings)
            smallest[start : start + size] = made.log_combined.min(axis=1)
    return smallest


def shared_distances(
    found: BumpHunt,
    *,
    times: float,
    n: int,
    seed: int,
    pools: int = POOLS,
    workers: int = 1,
    progress: bool = True,
    pieces: Pieces = NONE_KEPT,
) -> Floats:
    """Return Kolmogorov-Smirnov distances (pools,) of n experiments from uniform where no signal and no wrong function is there.

    The experiments of a pool share its events, `times` as many as one of them has; pool and experiments are drawn from the
    hunt's own fits. Each smallest p is ranked among those of all pools, which is its global p. pieces: where those of a pool are
    kept.
    """
    seeds = [int(s) for s in np.random.SeedSequence([seed, 0x5DA]).generate_state(pools)]
    jobs = [functools.partial(smallest_of_pool, light(found), times=times, n=n, seed=s) for s in seeds]
    own = pieces.of("pools", light(found), times, n, seeds)
    smallest = np.stack(
        done(jobs, "experiments of shared pools", "pool", workers=workers, progress=progress, pieces=own)
    )
    p = stats.rankdata(smallest).reshape(smallest.shape) / (smallest.size + 1)
    return np.array([stats.kstest(row, "uniform").statistic for row in p])


def hunt_experiments(
    spectra: Floats,
    found: BumpHunt,
    *,
    inner: int,
    seed: int,
    workers: int = 1,
    progress: bool = True,
    pieces: Pieces = NONE_KEPT,
) -> Floats:
    """Return the global p (n,) of whole hunts in n experiments (n, regions, bins); pieces: where that of an experiment is kept."""
    seeds = [int(s) for s in np.random.SeedSequence([seed, 0x0E7]).generate_state(len(spectra))]
    jobs = [
        functools.partial(global_p_of, counts, light(found), inner=inner, seed=s)
        for counts, s in zip(spectra, seeds, strict=True)
    ]
    own = pieces.of("outer", spectra, light(found), inner, seeds)
    return np.array(done(jobs, "outer experiments", "exp", workers=workers, progress=progress, pieces=own))


def light(found: BumpHunt) -> BumpHunt:
    """Return the hunt less its pseudo-experiments, which need not travel to other processes."""
    return dataclasses.replace(found, global_p=None)


def as_piece(job: Callable[[], npt.ArrayLike]) -> dict[str, npt.ArrayLike]:
    """Do a job and return what it returns as a piece."""
    return {"made": job()}


def done(
    jobs: Sequence[Callable[[], npt.ArrayLike]],
    what: str,
    unit: str,
    *,
    workers: int,
    progress: bool,
    pieces: Pieces = NONE_KEPT,
) -> list[npt.NDArray[Any]]:
    """Do the jobs, `workers` of them at a time in processes of their own; return what they return, in order.

    pieces: where it is kept, by the number of the job.
    """
    pace = 0.5 if sys.stderr.isatty() else 30.0
    bar = functools.partial(tqdm, total=len(jobs), desc=what, unit=unit, disable=not progress, mininterval=pace)
    if workers <= 1:
        return [pieces.kept(f"{i}", functools.partial(as_piece, job))["made"] for i, job in enumerate(bar(jobs))]
    from ...workers import WorkerPool

    known = [pieces.load(f"{i}") for i in range(len(jobs))]
    found = []
    with WorkerPool(workers) as pool:
        waiting = [pool.submit(job) if own is None else own for job, own in zip(jobs, known, strict=True)]
        for i, own in enumerate(bar(waiting)):
            if isinstance(own, dict):
                found.append(own["made"])
                continue
            found.append(np.asarray(own.result()))
            pieces.save(f"{i}", made=found[-1])
    return found
