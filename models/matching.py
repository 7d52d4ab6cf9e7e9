"""A sample brought to the spectrum of another one, by weights or by drawing, so that what differs between the two is not that spectrum."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt

from .inputs import NonFiniteError, ScorerError

__all__ = ["LEAST_EFFECTIVE", "drawn_rows", "effective_fraction", "matched_rows", "matched_weights"]

logger = logging.getLogger(__name__)

Array = npt.NDArray[np.float64]
BINS = 25
LEAST_EFFECTIVE = 0.2  # of the sample: below, some few events stand for all of it
MOST_MISSING, SAID_MISSING = 0.15, 0.05  # of the wanted spectrum without any event of the sample: refused, and said


def matched_weights(own: Array, wanted: Array, *, of: str, column: str = "mass") -> Array:
    """Return the weights (n,) of a sample, 1 on average, with which its values have the spectrum of `wanted`.

    own: (n,) values of the sample, called `of` in errors; wanted: (k,). Bins hold equal parts of `wanted`; outside of it weights are 0. Raises NonFiniteError, and ScorerError
    where all of `wanted` are the same, where more than 15 % of them lie outside of the sample's spectrum (from 5 % on it is logged), and where
    the weights leave less than a fifth of the sample effective (`effective_fraction`).
    """
    for values, whose in ((own, of), (wanted, "background")):
        bad = ~np.isfinite(values)
        if bad.any():
            first = int(np.argmax(bad))
            raise NonFiniteError(f"{whose}: {column} holds {values[first]} in {bad.sum()} rows, first {first}")
    edges = np.unique(np.quantile(wanted, np.linspace(0, 1, BINS + 1))) if len(wanted) else np.empty(0)
    if len(edges) < 2:
        raise ScorerError(f"{of}: all {len(wanted)} background events have the same {column}, there is no spectrum")
    there, asked = (np.histogram(values, edges)[0].astype(float) for values in (own, wanted))
    weight = np.divide(asked, there, out=np.zeros_like(asked), where=there > 0)
    inside = (own >= edges[0]) & (own <= edges[-1])
    each = np.where(inside, weight[np.clip(np.searchsorted(edges, own, side="right") - 1, 0, len(weight) - 1)], 0.0)
    effective, missing = effective_fraction(each), asked[there == 0].sum() / asked.sum()
    if effective < LEAST_EFFECTIVE or missing > MOST_MISSING:
        raise ScorerError(
            f"{of}: resampled to the {column} of the background, {100 * effective:.0f} % of {len(own)} events are effective, and "
            f"{100 * missing:.0f} % of the background lie where none of them does; {100 * LEAST_EFFECTIVE:.0f} % are needed, and at most "
            f"{100 * MOST_MISSING:.0f} % allowed: events of one {column} cannot be resampled, simulate them over a range of it, as wide as the background's"
        )
    if missing > SAID_MISSING:
        logger.warning(
            "%s: none of its events has the %s of %.0f %% of the background: there the %s itself tells them apart",
            of,
            column,
            100 * missing,
            column,
        )
    return np.asarray(each / each.mean())


def effective_fraction(weights: Array) -> float:
    """Return which part of a sample weights leave effective: sum(w)² / sum(w²) / n, 0 of an empty one.

    >>> effective_fraction(np.array([1.0, 1.0, 0.0, 0.0]))
    0.5
    """
    return float(weights.sum() ** 2 / max((weights**2).sum(), 1e-300) / len(weights)) if len(weights) else 0.0


def drawn_rows(weights: Array, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return as many rows of a sample as it has, drawn with replacement in proportion to its weights (n,), in order."""
    return np.sort(rng.choice(len(weights), size=len(weights), p=weights / weights.sum()))


def matched_rows(own: Array, wanted: Array, *, seed: int, of: str, column: str = "mass") -> npt.NDArray[np.int64]:
    """Return rows of a sample, drawn with replacement, whose values have the spectrum of `wanted`; see `matched_weights`."""
    return drawn_rows(matched_weights(own, wanted, of=of, column=column), np.random.default_rng([seed, 0x3A7]))
