"""Regions of the space of losses: fixed on held-out background before the hunted events are looked at, frozen, saved as JSON.

Losses have shape (n, 1 + n_priors), the background's first. Region 0 is the most signal-like. The boundaries of each
fold are quantiles of that fold's own held-out losses, which brings the losses of different models to one scale. `SHAPES`
has the shapes that regions can have, a class each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...documents import read_json
from ...errors import InputError, unknown_name
from ...files import write_json
from .difference import Difference
from .l5 import L5
from .losses import as_losses, chosen_axes
from .mass_curve import MassCurve
from .mosaic import Mosaic
from .plane import Plane
from .shape import Boundaries, Groups, Rows, Shape
from .tree import Tree

__all__ = ["SHAPES", "Regions", "fix_regions", "read_regions"]

Ints = npt.NDArray[np.int64]
SHAPES: dict[str, type[Shape]] = {
    "difference": Difference,
    "plane": Plane,
    "l5": L5,
    "tree": Tree,
    "mosaic": Mosaic,
}


@dataclass(frozen=True, repr=False)
class Regions:
    """Boundaries of the regions, one entry a fold.

    cuts[fold]: rows of boundaries, whose meaning the shape's class says; fraction: share of held-out background events in
    the fit range that the regions keep together; centre, scale[fold]: of each prior axis, where the shape standardises
    them; groups: the priors of each branch of a tree, or the neighbourhoods of each region of a mosaic, from 0; axes: names
    of the losses that are looked at, the background's first, none where nobody named them; curves[fold]: one for each
    boundary that follows the mass, and then the cuts are of the score less its curve.
    """

    shape: str
    n_regions: int
    alpha: float
    fraction: float
    cuts: tuple[Rows, ...]
    centre: Rows = ()
    scale: Rows = ()
    groups: Groups = ()
    axes: tuple[str, ...] = ()
    curves: tuple[tuple[MassCurve, ...], ...] = ()

    def __repr__(self) -> str:
        """Return shape, number and share in one line."""
        axes = f", axes {', '.join(self.axes)}" if self.axes else ""
        moving = ", following the mass" if self.curves else ""
        return (
            f"Regions({self.n_regions} of shape {self.shape!r}, {100 * self.fraction:.3g} % of the background, "
            f"folds: {self.n_folds}{axes}{moving})"
        )

    @property
    def n_folds(self) -> int:
        """Return the number of folds that the boundaries were fixed for."""
        return len(self.cuts)

    @property
    def rule(self) -> Shape:
        """Return the shape that reads the boundaries."""
        return SHAPES[self.shape](self.n_regions, self.alpha, self.fraction, self.groups)

    def boundaries(self, fold: int) -> Boundaries:
        """Return the boundaries of one fold."""
        return Boundaries(
            self.cuts[fold],
            self.centre[fold] if self.centre else (),
            self.scale[fold] if self.scale else (),
            self.curves[fold] if self.curves else (),
        )

    def assign(
        self,
        losses: npt.ArrayLike,
        fold: npt.ArrayLike | None = None,
        mass: npt.ArrayLike | None = None,
        *,
        names: Sequence[str] = (),
    ) -> Ints:
        """Return the region of each event, -1 for none: losses (n, m), fold (n,) of the model that scored it -> (n,).

        mass: (n,) GeV, read by boundaries that follow the mass; names: (m,) of the columns of losses, among which the axes
        of the regions are found; without them the columns are the axes. Raises InputError for an axis that is no column, for
        folds that the regions were not fixed for, and where the mass is needed and not given.
        """
        values = chosen_axes(as_losses(losses), self.axes, names)
        folds = np.zeros(len(values), dtype=np.int64) if fold is None else np.asarray(fold, dtype=np.int64)
        if len(folds) and not (folds.min() >= 0 and folds.max() < self.n_folds):
            raise InputError(f"folds {folds.min()} to {folds.max()} found, regions fixed for 0 to {self.n_folds - 1}")
        if self.curves and mass is None:
            raise InputError("these regions have boundaries that follow the mass: the events' mass is needed")
        at = np.zeros(len(values)) if mass is None else np.asarray(mass, dtype=np.float64)
        region = np.full(len(values), -1, dtype=np.int64)
        rule = self.rule
        for f in range(self.n_folds):
            here = folds == f
            region[here] = rule.assign(values[here], self.boundaries(f), at[here])
        return region

    def save(self, path: str | Path) -> None:
        """Write regions.json."""
        write_json(path, asdict(self))


def regions_fixed_by(held_out: Sequence[int], events: int, *, shape: str, n_regions: int) -> int:
    """Return how many of the regions asked for so many held-out events of each fold fix, where `events` are hunted in.

    Raises InputError where they are too few.
    """
    affordable = SHAPES[shape].affordable(n_regions, events)
    if min(held_out) < 2 * affordable:
        raise InputError(
            f"{min(held_out)} held-out events in the fit range cannot fix {affordable} regions; give fewer or more data"
        )
    return affordable


def read_regions(path: str | Path) -> Regions:
    """Read regions.json; raises InputError naming the file where it is missing, damaged or of an earlier version."""
    try:
        raw = read_json(path, "regions.json")
        if "columns" in raw:
            raise InputError(
                f"{path}: written by an earlier version, which numbered the losses and did not name them; run the hunt again"
            )
        return regions_of(raw)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{path}: no regions can be read: {error!r}") from error


def regions_of(raw: dict[str, Any]) -> Regions:
    """Return regions from what `Regions.save` wrote."""
    if raw["shape"] not in SHAPES:
        raise ValueError(unknown_name("region shape", str(raw["shape"]), SHAPES))
    return Regions(
        shape=raw["shape"],
        n_regions=int(raw["n_regions"]),
        alpha=float(raw["alpha"]),
        fraction=float(raw["fraction"]),
        cuts=tuple(as_rows(fold) for fold in raw["cuts"]),
        centre=as_rows(raw["centre"]),
        scale=as_rows(raw["scale"]),
        groups=tuple(tuple(int(k) for k in group) for group in raw["groups"]),
        axes=tuple(str(name) for name in raw["axes"]),
        curves=tuple(
            tuple(MassCurve(tuple(map(float, c["masses"])), tuple(map(float, c["values"]))) for c in fold)
            for fold in raw["curves"]
        ),
    )


def as_rows(values: Sequence[Sequence[float]]) -> Rows:
    """Return nested tuples of floats."""
    return tuple(tuple(float(v) for v in row) for row in values)


def fix_regions(
    losses: Sequence[npt.ArrayLike],
    *,
    shape: str = "difference",
    fraction: float = 0.1,
    n_regions: int = 3,
    alpha: float = 1.0,
    axes: Sequence[str] = (),
    names: Sequence[str] = (),
    expected_events: float | None = None,
    decorrelation: str | None = None,
    mass: Sequence[npt.ArrayLike] = (),
) -> Regions:
    """Fix the regions on held-out losses inside the fit range, one array (n_f, m) a fold.

    shape: a name in `SHAPES`; fraction: share of background events kept by all regions together; expected_events:
    background-like events that will be hunted inside the fit range, by which the fraction is raised so that each region
    expects 150, or 80 of a mosaic; axes: names of the losses to look at, the background's first (none: all), found among
    `names`, the names (m,) of the columns; without names the columns are the axes. decorrelation: a name in
    `DECORRELATIONS` lets each boundary follow the mass (GeV, one array a fold), so that it keeps the same share of
    background at every mass, where the shape can. Raises InputError where the held-out events are too few for that.
    """
    if shape not in SHAPES:
        raise InputError(unknown_name("region shape", shape, SHAPES))
    kind = SHAPES[shape]
    if not 0 < fraction <= 1:
        raise InputError(f"the fraction of events kept lies in (0, 1], found {fraction:g}")
    if n_regions < 1:
        raise InputError(f"at least one region, found {n_regions}")
    if decorrelation is not None and not kind.follows_mass:
        raise InputError(f"region shape {shape!r} has boundaries that cannot follow the mass: no decorrelation")
    held_out = [chosen_axes(as_losses(x), axes, names) for x in losses]
    masses = [None] * len(held_out) if decorrelation is None else [np.asarray(m, dtype=np.float64) for m in mass]
    if decorrelation is not None and [len(m) for m in masses if m is not None] != [len(x) for x in held_out]:
        raise InputError("decorrelation needs the mass of each held-out event")
    events = int(expected_events or sum(len(x) for x in held_out))
    n_regions = regions_fixed_by([len(x) for x in held_out], events, shape=shape, n_regions=n_regions)
    raised = max(fraction, min(1.0, kind.least_events * n_regions / max(events, 1)))
    rule = kind(n_regions, alpha, raised).arranged(held_out)
    fixed = [rule.fix(x, m, decorrelation=decorrelation) for x, m in zip(held_out, masses, strict=True)]
    return Regions(
        shape=shape,
        n_regions=rule.n_regions,
        alpha=rule.alpha,
        fraction=rule.fraction,
        cuts=tuple(own.cuts for own in fixed),
        centre=tuple(own.centre for own in fixed) if fixed[0].centre else (),
        scale=tuple(own.scale for own in fixed) if fixed[0].scale else (),
        groups=rule.groups,
        axes=tuple(axes or names),
        curves=tuple(own.curves for own in fixed) if fixed[0].curves else (),
    )
