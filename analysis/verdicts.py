"""What a global p-value says, in a sentence, and what the pseudo-experiments behind it cannot tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scipy import special

from .fits.log_p import p_of_z

__all__ = ["experiments_needed", "more_experiments", "verdict"]

COMMON = "That is what background alone commonly does."
UNUSUAL = "That is unusual for background alone"
RARE = "Background alone rarely does that: look at the checks below before believing it."
LEVELS = {2: "0.023", 3: "1.35e-3", 5: "2.87e-7"}
"""Whole sigmas that a verdict looks at, and their p."""


def experiments_needed(z: float) -> int:
    """Return the fewest pseudo-experiments, none of which reaches an excess, that bound its p below that of z: 1 / (1 + n) < p.

    >>> experiments_needed(2), experiments_needed(3), experiments_needed(5)
    (43, 740, 3488555)
    """
    return int(1.0 / float(p_of_z(z)))


def more_experiments(n: int) -> str:
    """Say how many pseudo-experiments would see what n of them cannot; empty where there is no more to see."""
    left = [f"{experiments_needed(z):,} to see p below {p} ({z} sigma)" for z, p in LEVELS.items()]
    missing = [text for text, z in zip(left, LEVELS, strict=True) if n < experiments_needed(z)]
    return f"it takes at least {missing[0]}{', ' if missing[1:] else ''}{', '.join(missing[1:])}" if missing else ""


def verdict(best: Mapping[str, Any]) -> str:
    """Say in a sentence or two what the global p-value of `best` means; empty where there is none.

    A bound tells nothing of how far below it p lies: the sentence says what it does tell, and how many pseudo-experiments
    would tell more. So does one of a few experiments above the observation, where p might be that of 3 sigma all the same.
    """
    z = best.get("z_global")
    if z is None:
        return ""
    n, above = int(best["pseudo_experiments"]), int(best["pseudo_experiments_above"])
    more = more_experiments(n)
    if best["p_global_is_bound"] and more:
        if z < 2:
            return f"None of {n:,} pseudo-experiments shows as much; so few do not tell the common from the unusual: {more}."
        if z < 3:
            return f"{UNUSUAL}. Whether it is evidence, {n:,} pseudo-experiments do not tell, none of which shows as much: {more}."
        return f"{RARE} How rarely, {n:,} pseudo-experiments do not tell, none of which shows as much: {more}."
    if z < 2:
        return COMMON
    if z < 3:
        lowest = special.betaincinv(above, n - above + 1, 0.05) if above else 0.0
        if lowest < p_of_z(3.0):
            return f"{UNUSUAL}. Whether it is evidence, {above} of {n:,} pseudo-experiments are too few to tell."
        return f"{UNUSUAL}, and no evidence."
    return RARE
