"""Events with their losses, and regions fixed on held-out ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ..spectra.bins import FitRange
from .losses import check_names, chosen_axes, default_axes
from .regions import Regions, fix_regions

__all__ = ["RegionChoice", "Scored", "choose_regions", "region_counts", "regions_of_events", "stand_in"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class Scored:
    """Events with their losses: mass (n,) GeV of the observable, losses (n, m), fold (n,) of the model that scored them.

    No event here was seen in training by the model of its fold. truth: (n,) 0 or 1 where known, read by metrics alone.
    axes: (m,) names of the losses, the background's first; "background", "prior 1", ... where none are given. Raises
    InputError where numbers of events or names differ.
    """

    name: str
    mass: Floats
    losses: Floats
    fold: Ints
    truth: npt.NDArray[np.uint8] | None = None
    axes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        found = {"mass": len(self.mass), "losses": len(self.losses), "fold": len(self.fold)}
        found |= {} if self.truth is None else {"truth": len(self.truth)}
        if np.ndim(self.losses) != 2 or len(set(found.values())) > 1:
            said = ", ".join(f"{n} of {what}" for what, n in found.items())
            raise InputError(
                f"{self.name}: losses (n, m) and a mass and a fold for each event are needed; found {said}"
            )
        if not self.axes:
            object.__setattr__(self, "axes", default_axes(self.losses.shape[1]))
        check_names(self.axes, self.losses.shape[1])

    def __repr__(self) -> str:
        """Return name, number of events and axes in one line."""
        truth = "" if self.truth is None else f", {int(self.truth.sum())} true signals"
        return f"Scored({self.name}, {len(self.mass):,} events, axes {', '.join(self.axes)}{truth})"

    def select(self, keep: npt.NDArray[np.bool_]) -> Scored:
        """Return the events where `keep` is true."""
        truth = None if self.truth is None else self.truth[keep]
        return Scored(self.name, self.mass[keep], self.losses[keep], self.fold[keep], truth, self.axes)

    def along(self, axes: Sequence[str]) -> Floats:
        """Return the losses of the named axes (n, len(axes)), of all where none is named; InputError for an unknown one."""
        return chosen_axes(self.losses, axes, self.axes)


def stand_in(calibration: Scored, n: int, rng: np.random.Generator) -> Scored:
    """Return n different held-out background events, all of them where they are fewer: what a blind search hunts in."""
    keep = np.zeros(len(calibration.mass), dtype=bool)
    keep[rng.permutation(len(keep))[:n]] = True
    return calibration.select(keep)


@dataclass(frozen=True)
class RegionChoice:
    """How regions are to be fixed: shape, number, fraction of the background kept, alpha of the loss difference.

    axes: names of the losses that the regions look at, the background's first; none given: all. decorrelation: a
    name in `DECORRELATIONS`, for boundaries that follow the mass.
    """

    shape: str = "difference"
    number: int = 3
    fraction: float = 0.02
    alpha: float = 1.0
    axes: tuple[str, ...] = ()
    decorrelation: str | None = None


def choose_regions(calibration: Scored, fit_range: FitRange, choice: RegionChoice, *, expected_events: int) -> Regions:
    """Fix the regions on held-out events inside the fit range, fold by fold, before the hunted events are assigned."""
    inside = calibration.select(fit_range.inside(calibration.mass))
    if len(inside.mass) == 0:
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
        axes=choice.axes,
        names=calibration.axes,
        expected_events=expected_events,
        decorrelation=choice.decorrelation,
        mass=[inside.mass[own] for own in folds],
    )


def regions_of_events(events: Scored, regions: Regions) -> Ints:
    """Return the region of each event (n,), -1 for none, the regions' axes found by name."""
    return regions.assign(events.losses, events.fold, events.mass, names=events.axes)


def region_counts(events: Scored, regions: Regions, edges: Floats) -> Floats:
    """Return the spectrum of each region: edges (bins + 1,) GeV -> counts (regions, bins)."""
    region = regions_of_events(events, regions)
    found = [np.histogram(events.mass[region == r], edges)[0] for r in range(regions.n_regions)]
    return np.stack(found).astype(np.float64)
