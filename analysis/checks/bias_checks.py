"""Verdicts on a bias test: yields, intervals, local and global p in experiments of every other family that describes the data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from ...table import Observable
from .bias import Bias, FamilyBias, Share
from .check import ASYMPTOTIC, Check

__all__ = ["bias_checks", "bias_notes"]

Floats = npt.NDArray[np.float64]
MOST_BIAS = 0.35  # sigma
LEAST_COVERAGE = 0.64  # of intervals of 68 %
MOST_LOCAL = 0.013  # of local p below 0.01
MOST_GLOBAL = 0.10  # of global p below 0.05
MOST_GLOBAL_1 = 0.025  # below 0.01
ERRORS = float(stats.norm.isf(0.005))  # statistical errors of what is compared: the 99 % interval


def bias_checks(of: Bias, observable: Observable) -> tuple[Check, ...]:
    """Judge every quantity by the family in which it is worst; regions that no other family describes are named, without verdict.

    An excess over what is allowed counts where it lies beyond its own 99 % interval. Yields in windows of which a bin expects
    fewer than ten events have no normal errors: what is wrong there is stated without verdict.
    """
    found = [
        Check(f"bias test, {region}", "no other family describes these data", "a truth of another family", None)
        for region in of.undescribed
    ]
    if not of.families:
        return tuple(found)
    return (*found, yields(of, observable), intervals(of), local_p(of), global_p(of))


def bias_notes(of: Bias, observable: Observable) -> list[str]:
    """State what a bias test finds wrong, in words for the report."""
    return [f"{check.name}: {check.found}" for check in bias_checks(of, observable) if check.passed is False]


def verdict(bad: Sequence[bool], bad_where_few: Sequence[bool] = ()) -> bool | None:
    """Return False where something is bad, None where that is so in windows with few events alone."""
    return False if any(bad) else None if any(bad_where_few) else True


def yields(of: Bias, observable: Observable) -> Check:
    """Judge the bias of the yield at every mass and strength."""
    beyond = MOST_BIAS + ERRORS / math.sqrt(of.n)
    few = (of.fewest < ASYMPTOTIC)[:, :, None]
    too_large = [np.abs(np.nan_to_num(f.bias)) > beyond for f in of.families]
    known = [f for f in of.families if f.worst is not None]
    said = "no fit reached a minimum"
    if known:
        # judged windows first, those with few events where there is no other
        judged = [np.where(few, 0.0, np.abs(np.nan_to_num(f.bias))) for f in known]
        if max(j.max() for j in judged) == 0:
            judged = [np.abs(np.nan_to_num(f.bias)) for f in known]
        largest = int(np.argmax([j.max() for j in judged]))
        family = known[largest]
        r, m, s = np.unravel_index(int(np.argmax(judged[largest])), judged[largest].shape)
        said = (
            f"{family.bias[r, m, s]:+.2f} ± {family.bias_error:.2f} sigma in {of.regions[r]} at {observable.at(of.masses[m])}, "
            f"{of.strengths[s]:g} sigma injected, background drawn from {family.name}"
        )
    return Check(
        f"bias test, yields, {of.n} experiments each of {named(of)}",
        said,
        f"{MOST_BIAS:g} sigma either way, within its error; with fewer than {ASYMPTOTIC:.0f} events in a bin of the window no verdict but pass",
        verdict(
            [bool((large & ~few).any()) for large in too_large], [bool((large & few).any()) for large in too_large]
        ),
    )


def named(of: Bias) -> str:
    """Name the families of a test."""
    return ", ".join(f.name for f in of.families)


def intervals(of: Bias) -> Check:
    """Judge the mean coverage of 68 % intervals over regions, masses and strengths."""
    few = np.broadcast_to((of.fewest < ASYMPTOTIC)[:, :, None], (*of.fewest.shape, len(of.strengths)))
    shares = [mean_share(np.where(few, np.nan, f.coverage), of.n) for f in of.families]
    whole = [mean_share(f.coverage, of.n) for f in of.families]
    shown = shares if any(n for _, n in shares) else whole
    worst = int(np.argmin([share if n else 2.0 for share, n in shown]))
    bad, bad_where_few = ([too_seldom(*share) for share in of_all] for of_all in (shares, whole))
    return Check(
        "bias test, coverage of 68 % intervals of the yield",
        f"{100 * shown[worst][0]:.1f} % in the mean where the background is drawn from {of.families[worst].name}",
        f"{100 * LEAST_COVERAGE:.0f} % or more, within its error",
        verdict(bad, bad_where_few),
    )


def mean_share(coverage: Floats, n: int) -> tuple[float, int]:
    """Return the mean of the known shares, and of how many experiments it is."""
    known = coverage[np.isfinite(coverage)]
    return (float(known.mean()) if known.size else math.nan), n * int(known.size)


def too_seldom(share: float, n: int) -> bool:
    """Tell whether a coverage of n experiments lies below what is allowed, beyond its error."""
    return n > 0 and share < LEAST_COVERAGE - ERRORS * math.sqrt(LEAST_COVERAGE * (1 - LEAST_COVERAGE) / n)


def local_p(of: Bias) -> Check:
    """Judge the share of local p below 0.01 in experiments without a signal, at all masses together."""
    worst = max(of.families, key=lambda f: f.local_p.share)
    at = max(worst.local_p_at, key=lambda share: share.share)
    return Check(
        "bias test, local p below 0.01 without a signal",
        f"{interval(worst.local_p)} where the background is drawn from {worst.name}, {100 * at.share:.1f} % at one mass",
        f"{100 * MOST_LOCAL:.1f} %, within its binomial interval",
        verdict([f.local_p.exceeds(MOST_LOCAL) for f in of.families]),
    )


def global_p(of: Bias) -> Check:
    """Judge the shares of global p below 0.05 and 0.01 in experiments without a signal."""
    allowed = f"{100 * MOST_GLOBAL:.0f} % below 0.05 and {100 * MOST_GLOBAL_1:.1f} % below 0.01, within their binomial intervals"
    name = "bias test, global p below 0.05 without a signal"
    known: list[FamilyBias] = [f for f in of.families if f.global_p_5.n]
    if not known:
        return Check(name, "no pseudo-experiments to rank it among", allowed, None)
    worst = max(known, key=lambda f: f.global_p_5.share)
    small = f", below 0.01 in {interval(worst.global_p_1)}" if worst.global_p_1.n else ""
    bad = [f.global_p_5.exceeds(MOST_GLOBAL) or f.global_p_1.exceeds(MOST_GLOBAL_1) for f in known]
    return Check(
        name,
        f"{interval(worst.global_p_5)} where the background is drawn from {worst.name}{small}",
        allowed,
        verdict(bad),
    )


def interval(share: Share) -> str:
    """Write a share in per cent with its 95 % interval."""
    return f"{100 * share.share:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f})"
