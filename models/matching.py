"""A sample resampled to the spectrum of another one, so that what differs between the two is not that spectrum."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .inputs import ScorerError

__all__ = ["matched_rows"]

Array = npt.NDArray[np.float64]
BINS = 25
LEAST_EFFECTIVE = 0.2  # of the sample: below, some few events stand for all of it


def matched_rows(own: Array, wanted: Array, *, seed: int, of: str, column: str = "mass") -> npt.NDArray[np.int64]:
    """Return as many rows of a sample, drawn with replacement, as it has, whose values have the spectrum of `wanted`.

    own: (n,) values of the sample, called `of` in errors; wanted: (k,). Bins hold equal parts of `wanted`. Raises ScorerError where the
    weights leave less than a fifth of the sample effective, sum(w)² / sum(w²), or a spectrum is outside of the sample's.
    """
    edges = np.unique(np.quantile(wanted, np.linspace(0, 1, BINS + 1)))
    edges[0], edges[-1] = -np.inf, np.inf
    there, asked = (np.histogram(values, edges)[0].astype(float) for values in (own, wanted))
    weight = np.divide(asked, there, out=np.zeros_like(asked), where=there > 0)
    each = weight[np.clip(np.searchsorted(edges, own, side="right") - 1, 0, len(weight) - 1)]
    effective = each.sum() ** 2 / max((each**2).sum(), 1e-300) / len(own) if len(own) else 0.0
    missing = asked[there == 0].sum() / asked.sum()
    if effective < LEAST_EFFECTIVE or missing > 1 - LEAST_EFFECTIVE:
        raise ScorerError(
            f"{of}: resampled to the {column} of the background, {100 * effective:.2g} % of {len(own)} events are effective, and "
            f"{100 * missing:.2g} % of the background has a {column} that none of them has; {100 * LEAST_EFFECTIVE:.0f} % are needed: "
            f"events of one {column} cannot be resampled, simulate them over a range of it"
        )
    rng = np.random.default_rng([seed, 0x3A7])
    return np.sort(rng.choice(len(own), size=len(own), p=each / each.sum()))
