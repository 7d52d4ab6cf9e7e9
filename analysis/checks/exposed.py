"""What outlier exposure does to the sculpting: the same selection by the exposed model and by the one trained without, on held-out events."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ...table import Observable
from ..regions.regions import Regions
from ..regions.scored import RegionChoice, Scored, choose_regions, regions_of_events
from ..spectra.bins import FitRange
from .background_only import Sculpting, sculpting
from .mass_spectra import MassDecorrelation, mass_decorrelation

__all__ = ["ExposedMass", "exposed_sculpting"]

Floats = npt.NDArray[np.float64]
BINS = 25  # of a mass that is not hunted in
LEFT_OUT = 0.005  # of the events on each side, beyond the outermost bins of such a mass
HALF = 0.5


@dataclass(frozen=True, eq=False, repr=False)
class ExposedMass:
    """How held-out events that pass are distributed in one mass, without exposure (before) and with it (after).

    before, after: of each region, then of all regions together where there are several; before_half, after_half: of the half with the
    largest loss of the background's model, against all events. edges: (bins + 1,); inclusive: (bins,) counts of all held-out events in
    the fit range; passing, passing_half: (2, bins) of those that pass, before and after.
    """

    observable: Observable
    before: tuple[Sculpting, ...]
    after: tuple[Sculpting, ...]
    before_half: MassDecorrelation
    after_half: MassDecorrelation
    edges: Floats
    inclusive: Floats
    passing: Floats
    passing_half: Floats

    def __repr__(self) -> str:
        """Return the value in a line."""
        jsd = f"{self.before[-1].jsd:.3g} to {self.after[-1].jsd:.3g} nats"
        return f"ExposedMass({self.observable.name}, JSD of what passes: {jsd})"

    def as_dict(self) -> dict[str, Any]:
        """Return what stands in result.json."""
        told = ("observable", "before", "after", "before_half", "after_half")
        whole = dataclasses.asdict(self)
        return {name: whole[name] for name in told}


def exposed_sculpting(
    calibration: Scored,
    plain: Scored,
    regions: Regions,
    fit_range: FitRange,
    choice: RegionChoice,
    *,
    expected_events: int,
    masses: Sequence[tuple[Observable, npt.ArrayLike]] = (),
    observable: Observable,
    seed: int = 0,
) -> tuple[ExposedMass, ...]:
    """Measure the sculpting of the hunted mass, and of others, by the regions and by the regions that the plain losses would give.

    calibration: held-out events, which no model that scores them has trained on, with the losses that `regions` were fixed on; plain:
    the same events with those of the models without exposure. Only events inside the fit range count. choice, expected_events: as
    the regions were chosen; masses: other columns (n,) of finite numbers of the same events; observable: the hunted one. Raises InputError for samples
    of different events.
    """
    if not np.array_equal(calibration.mass, plain.mass) or not np.array_equal(calibration.fold, plain.fold):
        raise InputError(f"{plain.name}: are not the events of {calibration.name}")
    other = choose_regions(plain, fit_range, choice, expected_events=expected_events)
    columns = [(observable, calibration.mass), *masses]
    inside = fit_range.inside(calibration.mass)
    before, after = (events.select(inside) for events in (plain, calibration))
    region = [regions_of_events(before, other), regions_of_events(after, regions)]
    rank = [rank_in_fold(events) for events in (before, after)]
    found = []
    for number, (what, given) in enumerate(columns):
        values = np.asarray(given, dtype=np.float64)[inside]
        edges = np.asarray(fit_range.edges)
        if number:
            edges = drawn_bins(values)
            values = in_bins(values, edges)
        inclusive = np.histogram(values, edges)[0].astype(np.float64)
        rng = np.random.default_rng(np.random.SeedSequence([seed, 0xE05, number]))
        selected = [
            selections(events, found_by.n_regions) for events, found_by in zip(region, (other, regions), strict=True)
        ]
        counts = [
            {name: np.histogram(values[rows], edges)[0].astype(np.float64) for name, rows in named.items()}
            for named in selected
        ]
        shaped = [
            tuple(sculpting(inclusive, row, region=name, rng=rng) for name, row in named.items()) for named in counts
        ]
        half = [mass_decorrelation(r, values, efficiency=HALF, against="all", edges=edges, seed=seed) for r in rank]
        passing_half = [np.histogram(values[r > HALF], edges)[0] for r in rank]
        found.append(
            ExposedMass(
                observable=what,
                before=shaped[0],
                after=shaped[1],
                before_half=half[0],
                after_half=half[1],
                edges=edges,
                inclusive=inclusive,
                passing=np.stack([list(named.values())[-1] for named in counts]),
                passing_half=np.array(passing_half, dtype=np.float64),
            )
        )
    return tuple(found)


def selections(region: npt.NDArray[np.int64], n: int) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which events (n,) are in each region, and in any where there are several."""
    each = {f"region {r}": region == r for r in range(n)}
    return each if n == 1 else {**each, "all regions": region >= 0}


def rank_in_fold(events: Scored) -> Floats:
    """Return the background's loss (n,) as its rank among the events that the same model scored, 0 to 1: models have scales of their own."""
    rank = np.zeros(len(events.mass))
    for fold in np.unique(events.fold):
        own = np.flatnonzero(events.fold == fold)
        order = np.argsort(events.losses[own, 0], kind="stable")
        rank[own[order]] = (np.arange(len(own)) + 0.5) / len(own)
    return rank


def drawn_bins(values: Floats) -> Floats:
    """Return edges of bins of one width over all values but a few at the ends, which belong to the first and the last bin."""
    low, high = np.quantile(values, [LEFT_OUT, 1 - LEFT_OUT])
    return np.linspace(low, high if high > low else low + 1.0, BINS + 1)


def in_bins(values: Floats, edges: Floats) -> Floats:
    """Return values (n,) with those beyond the edges put into the outermost bins."""
    return np.clip(values, edges[0], np.nextafter(edges[-1], -np.inf))
