"""Pseudo-experiments: the whole procedure repeated on spectra drawn from background-only fits, and the global p-value they give.

Choice of the background, refit, every region, every mass and the combination are done again, with scorers and regions fixed.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from ...pieces import NONE_KEPT, Pieces
from ..fits.log_p import p_of_log, stated_p, z_of_log
from ..p_values.combination import z_value
from ..p_values.gross_vitells import from_crossings, up_crossings
from ..p_values.tail import TailFit, fit_tail, upper_limit
from .procedure import HuntSettings, procedure, saturated_deviances, signed_z

__all__ = ["BLOCK", "GlobalP", "in_blocks", "pseudo_experiments"]

Floats = npt.NDArray[np.float64]
Kept = Mapping[str, npt.NDArray[Any]]
BLOCK = 250  # pseudo-experiments fitted together


@dataclass(frozen=True, repr=False)
class GlobalP:
    """Probability under no signal of a smallest combined local p as small as the observed one.

    p: (1 + above) / (1 + n); is_bound: no pseudo-experiment reached the observation, p is an upper limit; upper_95: the
    95 % upper limit from the n pseudo-experiments, 3 / n where none reached it; tail: the fit of -ln(smallest) carried on
    to the observation, None where `fit_tail` gives none; it replaces neither. local: (n,) ln of each experiment's combined p at
    the observed best mass, None where there is no such mass. deviance, deviance_with_signal: (n, regions) of each experiment's
    background fits (`saturated_deviances`).
    gross_vitells: p_local + up-crossings of combined z(m), counted at `crossing_level`, approximate (arXiv:1005.1891), None where
    widths are scanned, which are no curve; crossings: their mean number; region_crossings: (n, regions) up-crossings of the same level by each region's z(m);
    smallest: (n,) smallest combined p of each pseudo-experiment; failed: fits that did not converge, share of all.
    """

    p: float
    z: float
    n: int
    above: int
    is_bound: bool
    gross_vitells: float | None
    crossing_level: float
    crossings: float | None
    region_crossings: npt.NDArray[np.int64]
    smallest: Floats
    failed: float
    upper_95: float
    local: Floats | None
    tail: TailFit | None
    deviance: Floats
    deviance_with_signal: Floats

    def __repr__(self) -> str:
        """Return the p-value in one line."""
        return f"GlobalP(p {stated_p(self.p, bound=self.is_bound)}, z {'>' if self.is_bound else '='} {self.z:.2f}, {self.above} of {self.n:,} above)"


def in_blocks(
    expected: Floats,
    hunted: Callable[[Floats], Mapping[str, npt.ArrayLike]],
    *,
    n: int,
    rng: np.random.Generator,
    pieces: Pieces,
    what: str,
    progress: bool,
) -> Iterator[tuple[slice, Kept]]:
    """Draw n experiments from `expected` (regions, bins) and hunt in a block (size, regions, bins) at a time, for memory's sake.

    Yields which experiments a block holds, and what `hunted` gave of them, kept in `pieces`. what: is drawn, for the progress bar.
    """
    pace = 0.5 if sys.stderr.isatty() else 30.0  # in a log, one line in 30 s
    bar = tqdm(total=n, desc=what, unit="exp", disable=not progress, mininterval=pace)
    # matrices of a few columns: threads of the linear algebra library cost more than they give
    with bar, threadpool_limits(1):
        for start in range(0, n, BLOCK):
            size = min(BLOCK, n - start)
            # drawn whether they are kept or not: those of the next block follow from them
            counts = rng.poisson(expected, size=(size, *expected.shape)).astype(np.float64)
            yield slice(start, start + size), pieces.kept(f"{start}", functools.partial(hunted, counts))
            bar.update(size)


def pseudo_experiments(
    expected: Floats,
    edges: Floats,
    templates: Floats,
    log_observed: float,
    *,
    settings: HuntSettings,
    at: int | None = None,
    level: float = 0.5,
    progress: bool = True,
    pieces: Pieces = NONE_KEPT,
) -> GlobalP:
    """Draw background-only experiments from `expected` (regions, bins) and repeat the whole procedure on each.

    templates: of all widths and masses; log_observed: ln of the smallest combined p of the data, found at number `at` of them; pieces: where blocks of experiments are kept.
    """
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, 0x70E]))
    n = settings.pseudo_experiments
    regions = len(expected)
    smallest, crossings = np.empty(n), np.empty(n, dtype=np.int64)
    region_crossings = np.empty((n, regions), dtype=np.int64)
    failed, local = 0, np.empty(n)
    deviance = np.empty((2, n, regions))
    own = pieces.of("pseudo-experiments", expected, edges, templates, log_observed, settings, at, level)

    def hunted(counts: Floats) -> dict[str, npt.ArrayLike]:
        """Hunt in a block of experiments (size, regions, bins)."""
        made = procedure(counts, edges, templates, settings)
        scan, combined = made.scan, made.log_combined
        return {
            "smallest": combined.min(axis=1),
            "local": combined[:, 0 if at is None else at],
            "crossings": up_crossings(z_of_log(combined), level=level),
            "region_crossings": up_crossings(signed_z(scan), level=level).reshape(len(counts), regions),
            "failed": int((~scan.converged).sum()),
            "deviance": saturated_deviances(counts.reshape(-1, counts.shape[-1]), made.background, scan).reshape(
                2, len(counts), regions
            ),
        }

    drawn = in_blocks(expected, hunted, n=n, rng=rng, pieces=own, what="pseudo-experiments", progress=progress)
    for part, made in drawn:
        smallest[part], crossings[part] = made["smallest"], made["crossings"]
        region_crossings[part] = made["region_crossings"]
        local[part], failed = made["local"], failed + int(made["failed"])
        deviance[:, part] = made["deviance"]
    above = int((smallest <= log_observed).sum())
    p = (1 + above) / (1 + n)
    # a surface of widths and masses is no curve that crosses a level
    curve = len(settings.widths) < 2
    approximate = from_crossings(float(z_of_log(log_observed)), crossings, level=level) if curve else None
    return GlobalP(
        p=p,
        z=float(z_value(p)),
        n=n,
        above=above,
        is_bound=above == 0,
        gross_vitells=None if approximate is None else approximate.p,
        crossing_level=level,
        crossings=None if approximate is None else approximate.crossings,
        region_crossings=region_crossings,
        smallest=p_of_log(smallest),
        failed=failed / (n * regions * len(templates)),
        upper_95=upper_limit(above, n),
        local=None if at is None else local,
        tail=fit_tail(-smallest, -log_observed),
        deviance=deviance[0],
        deviance_with_signal=deviance[1],
    )
