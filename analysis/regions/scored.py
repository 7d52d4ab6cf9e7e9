"""Events with their losses, and regions fixed on held-out ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ..spectra.bins import FitRange
from .regions import Regions, fix_regions

__all__ = ["RegionChoice", "Scored", "choose_regions", "region_counts", "stand_in"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Scored:
    """Events with their losses: mjj (n,) GeV, losses (n, 1 + n_priors), fold (n,) of the model that scored them.

    No event here was seen in training by the model of its fold. truth: (n,) 0 or 1 where known, read by metrics alone.
    """

    name: str
    mjj: Floats
    losses: Floats
    fold: Ints
    truth: npt.NDArray[np.uint8] | None = None

    def select(self, keep: npt.NDArray[np.bool_]) -> Scored:
        """Return the events where `keep` is true."""
        truth = None if self.truth is None else self.truth[keep]
        return Scored(self.name, self.mjj[keep], self.losses[keep], self.fold[keep], truth)


def stand_in(calibration: Scored, n: int, rng: np.random.Generator) -> Scored:
    """Return n different held-out background events, all of them where they are fewer: what a blind search hunts in."""
    keep = np.zeros(len(calibration.mjj), dtype=bool)
    keep[rng.permutation(len(keep))[:n]] = True
    return calibration.select(keep)


@dataclass(frozen=True)
class RegionChoice:
    """How regions are to be fixed: shape, number, fraction of the background kept, alpha of the loss difference.

    columns: of the losses that the regions look at, the background's first; none given: all. decorrelation: "map" or
    "quantile", boundaries that follow the mass (`fix_regions`).
    """

    shape: str = "difference"
    number: int = 3
    fraction: float = 0.02
    alpha: float = 1.0
    columns: tuple[int, ...] = ()
    decorrelation: str | None = None


def choose_regions(calibration: Scored, fit_range: FitRange, choice: RegionChoice, *, expected_events: int) -> Regions:
    """Fix the regions on held-out events inside the fit range, fold by fold, before the hunted events are assigned."""
    inside = calibration.select(fit_range.inside(calibration.mjj))
    if len(inside.mjj) == 0:
        raise InputError(
            f"{calibration.name}: no held-out event in the fit range {fit_range.low:g} to {fit_range.high:g} GeV"
        )
    folds = [inside.fold == f for f in range(int(calibration.fold.max()) + 1)]
    return fix_regions(
        [inside.losses[own] for own in folds],
        shape=choice.shape,
        fraction=choice.fraction,
        n_regions=choice.number,
        alpha=choice.alpha,
        columns=choice.columns,
        expected_events=expected_events,
        decorrelation=choice.decorrelation,
        mjj=[inside.mjj[own] for own in folds],
    )


def region_counts(events: Scored, regions: Regions, edges: Floats) -> Floats:
    """Return the spectrum of each region: edges (bins + 1,) GeV -> counts (regions, bins)."""
    region = regions.assign(events.losses, events.fold, events.mjj)
    found = [np.histogram(events.mjj[region == r], edges)[0] for r in range(regions.n_regions)]
    return np.stack(found).astype(np.float64)
