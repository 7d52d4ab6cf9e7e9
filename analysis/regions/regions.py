"""Regions of QUAK space: fixed on held-out background before the hunted events are looked at, frozen, saved as JSON.

Losses have shape (n, 1 + n_priors), the background's first. Region 0 is the most signal-like. The boundaries of each
fold are quantiles of that fold's own held-out losses, which brings the losses of different models to one scale. Shapes:

    difference  nested equal-population slices of L_b - alpha min_k L_k
    plane       equal-population cells of the (background loss, smallest prior loss) plane, background loss first
    l5          nested equal-population slices of the signed L5 of the prior axes (arXiv:2412.03747)
    tree        background loss first, then a branch a prior (or group of like priors), then slices along its axis
    mosaic      a region a neighbourhood of hypotheses (or group of like ones), its most signal-like events (mosaic.py)

The prior axes of "l5" and "tree" are x_k = (L_b - alpha L_k - centre_k) / scale_k, larger where an event is more like
prior k and less like background. The number of regions is what was asked for, whatever the number of priors: another
prior re-divides the same cells, and time grows linearly with it. Without priors both are slices of L_b.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...errors import InputError, unknown_name
from ...files import write_json
from .cuts import slice_of, upper_cut
from .mass_curve import MassCurve, moving_cut
from .mosaic import join_neighbourhoods, mosaic_place
from .tree import group_priors, leaf_of, tree_cuts

__all__ = ["SHAPES", "Regions", "difference_score", "fix_regions", "read_regions", "signed_l5"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Rows = tuple[tuple[float, ...], ...]
SHAPES = ("difference", "plane", "l5", "tree", "mosaic")
FIXED_SHAPES = ("plane", "tree")
"""Shapes whose boundaries cannot follow the mass."""
MIN_EVENTS = 150
MOST_OF_ALL = 0.5  # of the events in a mosaic: fewer regions rather than larger ones
MIN_MOSAIC = 80  # events of a region: more would let in background that hides a signal of one place
CENTRAL = (0.16, 0.84)


@dataclass(frozen=True)
class Regions:
    """Boundaries of the regions, per fold.

    cuts[fold]: "difference": descending score boundaries, n_regions of them, region r between cuts[r] and cuts[r-1];
    "plane": one row a slice of background loss, [lower background-loss boundary, ascending prior-loss boundaries...];
    "l5": as "difference", of the signed L5; "tree": first [lower background-loss boundary, margin by which each branch
    but the last beats those after it], then for each branch the descending inner boundaries of its slices; "mosaic": the
    lower boundary of each region's L_b - alpha L.
    fraction: share of held-out background events in the fit range that the regions keep together.
    centre, scale[fold]: of each prior axis ("l5", "tree"); groups: the priors of each branch of a tree, or the neighbourhoods of each region of a
    mosaic, from 0.
    columns: of the losses that are looked at, the background's first; none given: all.
    curves[fold]: one for each boundary of "difference", "l5" and "mosaic" where it follows the mass; the cuts are then of
    the score less its curve.
    """

    shape: str
    n_regions: int
    alpha: float
    fraction: float
    cuts: tuple[Rows, ...]
    centre: Rows = ()
    scale: Rows = ()
    groups: tuple[tuple[int, ...], ...] = ()
    columns: tuple[int, ...] = ()
    curves: tuple[tuple[MassCurve, ...], ...] = ()

    @property
    def n_folds(self) -> int:
        """Return the number of folds that the boundaries were fixed for."""
        return len(self.cuts)

    def assign(
        self, losses: npt.ArrayLike, fold: npt.ArrayLike | None = None, mjj: npt.ArrayLike | None = None
    ) -> Ints:
        """Return the region of each event, -1 for none: losses (n, 1 + n_priors), fold (n,) of the model that scored it.

        mjj: (n,) GeV, read by boundaries that follow the mass; without it they raise InputError.
        """
        values = chosen_columns(as_losses(losses), self.columns)
        folds = np.zeros(len(values), dtype=np.int64) if fold is None else np.asarray(fold, dtype=np.int64)
        if len(folds) and not (folds.min() >= 0 and folds.max() < self.n_folds):
            raise InputError(f"folds {folds.min()} to {folds.max()} found, regions fixed for 0 to {self.n_folds - 1}")
        if self.curves and mjj is None:
            raise InputError("these regions have boundaries that follow the mass: the events' mjj is needed")
        mass = np.zeros(len(values)) if mjj is None else np.asarray(mjj, dtype=np.float64)
        region = np.full(len(values), -1, dtype=np.int64)
        for f, cuts in enumerate(self.cuts):
            here = folds == f
            if self.shape == "plane":
                region[here] = assign_plane(values[here], cuts)
            elif self.shape == "mosaic" and self.groups:
                place, score = mosaic_place(values[here], self.groups, self.alpha)
                if self.curves:
                    score = score - self.followed(f, mass[here])[np.arange(len(place)), place]
                region[here] = np.where(score > np.asarray(cuts[0])[place], place, -1)
            elif self.groups:
                rows = np.flatnonzero(here & (values[:, 0] > cuts[0][0]))
                region[rows] = leaf_of(self.axes(values[rows], f), cuts, self.groups)
            elif self.curves:
                left = self.score(values[here], f)[:, None] - self.followed(f, mass[here])
                # slices are nested: the first boundary that an event passes
                passed = left > np.asarray(cuts[0])
                region[here] = np.where(passed.any(axis=1), passed.argmax(axis=1), -1)
            else:
                index = slice_of(self.score(values[here], f), cuts[0])
                region[here] = np.where(index < self.n_regions, index, -1)
        return region

    def followed(self, fold: int, mjj: Floats) -> Floats:
        """Return what is subtracted from the score at each boundary: masses (n,) GeV -> (n, boundaries)."""
        return np.stack([curve.at(mjj) for curve in self.curves[fold]], axis=1)

    def axes(self, losses: Floats, fold: int) -> Floats:
        """Return the standardised prior axes of events of one fold: (n, 1 + n_priors) -> (n, n_priors)."""
        n_priors = len(self.centre[fold])
        if losses.shape[1] != 1 + n_priors:
            raise InputError(f"losses of {losses.shape[1] - 1} priors found, regions fixed for {n_priors}")
        axes = prior_axes(losses, self.alpha)
        return np.asarray((axes - np.asarray(self.centre[fold])) / np.asarray(self.scale[fold]))

    def score(self, losses: Floats, fold: int) -> Floats:
        """Return what nested slices are cut in, for events of one fold: (n, 1 + n_priors) -> (n,)."""
        if self.shape == "difference":
            return difference_score(losses, self.alpha)
        return signed_l5(self.axes(losses, fold)) if self.centre else losses[:, 0]

    def save(self, path: str | Path) -> None:
        """Write regions.json."""
        write_json(path, asdict(self))


def read_regions(path: str | Path) -> Regions:
    """Read regions.json; raises InputError naming the file where it is missing or damaged."""
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8"))
        return Regions(
            raw["shape"],
            int(raw["n_regions"]),
            float(raw["alpha"]),
            float(raw["fraction"]),
            tuple(as_rows(fold) for fold in raw["cuts"]),
            # files from before these shapes do not have the rest
            as_rows(raw.get("centre", ())),
            as_rows(raw.get("scale", ())),
            tuple(tuple(int(k) for k in group) for group in raw.get("groups", ())),
            tuple(int(c) for c in raw.get("columns", ())),
            tuple(
                tuple(MassCurve(tuple(map(float, c["masses"])), tuple(map(float, c["values"]))) for c in fold)
                for fold in raw.get("curves", ())
            ),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no regions can be read: {error}") from error


def as_rows(values: Sequence[Sequence[float]]) -> Rows:
    """Return nested tuples of floats."""
    return tuple(tuple(float(v) for v in row) for row in values)


def chosen_columns(losses: Floats, columns: Sequence[int]) -> Floats:
    """Return the columns of losses (n, m) that regions look at; raises InputError where there are too few."""
    if columns and max(columns) >= losses.shape[1]:
        raise InputError(f"losses have {losses.shape[1]} columns, the regions look at column {max(columns)}")
    return losses[:, list(columns)] if columns else losses


def difference_score(losses: npt.ArrayLike, alpha: float = 1.0) -> Floats:
    """Return L_b - alpha min_k L_k, or L_b alone where there are no priors: (n, 1 + n_priors) -> (n,)."""
    values = as_losses(losses)
    if values.shape[1] == 1:
        return values[:, 0]
    return np.asarray(values[:, 0] - alpha * values[:, 1:].min(axis=1))


def signed_l5(values: npt.ArrayLike, p: float = 5.0) -> Floats:
    """Reduce many axes to one, (n, k) -> (n,): y = sum_k sign(x_k) |x_k|^p, returned as sign(y) |y|^(1/p).

    Between the sum (p = 1) and the largest in size (p -> infinity): one axis that stands out decides, several together
    count a little more. That holds for a large negative axis too: an event far from one prior is pulled away from all,
    and the more priors, the more often. CMS reduces its six signal losses with p = 5 (arXiv:2412.03747).
    Raises InputError for another shape or p <= 0.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] < 1:
        raise InputError(f"the axes to reduce have shape (n, k) with k >= 1, found {x.shape}")
    if not p > 0:
        raise InputError(f"the power of the norm is positive, found {p:g}")
    # relative to the largest, so that no power overflows
    largest = np.maximum(np.abs(x).max(axis=1), np.finfo(np.float64).tiny)
    relative = x / largest[:, None]
    y = (np.sign(relative) * np.abs(relative) ** p).sum(axis=1)
    return np.asarray(largest * np.sign(y) * np.abs(y) ** (1 / p))


def prior_axes(losses: Floats, alpha: float) -> Floats:
    """Return L_b - alpha L_k of each prior: (n, 1 + n_priors) -> (n, n_priors)."""
    return np.asarray(losses[:, :1] - alpha * losses[:, 1:])


def centre_and_scale(axes: Floats) -> tuple[Floats, Floats]:
    """Return the median and half the central 68 % of each axis (n, k), each (k,).

    An axis without spread says nothing: its scale is 1, which leaves it at 0.
    """
    low, middle, high = np.quantile(axes, [CENTRAL[0], 0.5, CENTRAL[1]], axis=0)
    half = 0.5 * (high - low)
    # equal values differ by rounding
    return middle, np.where(half > 1e-9 * np.abs(middle), half, 1.0)


def fix_regions(
    losses: Sequence[npt.ArrayLike],
    *,
    shape: str = "difference",
    fraction: float = 0.1,
    n_regions: int = 3,
    alpha: float = 1.0,
    columns: Sequence[int] = (),
    expected_events: float | None = None,
    decorrelation: str | None = None,
    mjj: Sequence[npt.ArrayLike] = (),
) -> Regions:
    """Fix the regions on held-out losses inside the fit range, one array (n_f, 1 + n_priors) a fold.

    fraction: share of background events kept by all regions together; `expected_events`: background-like events that
    will be hunted inside the fit range, by which the fraction is raised so that each region expects 150; columns: of
    the losses to look at, the background's first (none: all). decorrelation: "map" or "quantile" lets each boundary of
    "difference", "l5" and "mosaic" follow the masses mjj (GeV, one array a fold), so that it keeps the same share of
    background at every mass. Raises InputError where the held-out events are too few for that.
    """
    if shape not in SHAPES:
        raise InputError(unknown_name("region shape", shape, SHAPES))
    if not 0 < fraction <= 1:
        raise InputError(f"the fraction of events kept lies in (0, 1], found {fraction:g}")
    if n_regions < 1:
        raise InputError(f"at least one region, found {n_regions}")
    if decorrelation is not None and shape in FIXED_SHAPES:
        raise InputError(f"region shape {shape!r} has boundaries that cannot follow the mass: no decorrelation")
    held_out = [chosen_columns(as_losses(x), columns) for x in losses]
    masses = [np.asarray(m, dtype=np.float64) for m in mjj] if decorrelation is not None else []
    if decorrelation is not None and [len(m) for m in masses] != [len(x) for x in held_out]:
        raise InputError("decorrelation needs mjj, one mass for each held-out event")
    fewest = min(len(x) for x in held_out)
    events = expected_events or sum(len(x) for x in held_out)
    least = MIN_MOSAIC if shape == "mosaic" else MIN_EVENTS
    if shape == "mosaic" and least * n_regions > MOST_OF_ALL * events:
        n_regions = max(1, int(MOST_OF_ALL * events / least))
    raised = max(fraction, min(1.0, least * n_regions / max(events, 1)))
    if fewest < 2 * n_regions:
        raise InputError(
            f"{fewest} held-out events in the fit range cannot fix {n_regions} regions; give fewer or more data"
        )
    if shape == "mosaic":
        return fix_mosaic(held_out, alpha, raised, n_regions, columns, decorrelation=decorrelation, mjj=masses)
    regions = standardise(Regions(shape, n_regions, alpha, raised, (), columns=tuple(columns)), held_out)
    if decorrelation is None:
        return replace(regions, cuts=tuple(fix_fold(regions, x, f) for f, x in enumerate(held_out)))
    shares = [raised * (r + 1) / n_regions for r in range(n_regions)]
    moving = [
        [moving_cut(regions.score(x, f), masses[f], share, decorrelation) for share in shares]
        for f, x in enumerate(held_out)
    ]
    return replace(
        regions,
        cuts=tuple((tuple(cut for _, cut in fold),) for fold in moving),
        curves=tuple(tuple(curve for curve, _ in fold) for fold in moving),
    )


def fix_mosaic(
    held_out: Sequence[Floats],
    alpha: float,
    fraction: float,
    n_regions: int,
    columns: Sequence[int],
    *,
    decorrelation: str | None = None,
    mjj: Sequence[Floats] = (),
) -> Regions:
    """Fix at most n_regions regions of equal population, `fraction` of the held-out events together if there are that many.

    Raises InputError for several folds, whose models have neighbourhoods of their own.
    """
    if len(held_out) > 1:
        raise InputError(
            f"region shape 'mosaic' needs one model for all events, found {len(held_out)} folds; "
            "give samples.background without weak_supervision, or another shape"
        )
    losses = held_out[0]
    if losses.shape[1] < 2:
        raise InputError("region shape 'mosaic' needs losses of signal hypotheses, found those of the background alone")
    each = fraction / n_regions
    groups = join_neighbourhoods(losses[:, 1:], each * len(losses), n_regions)
    place, score = mosaic_place(losses, groups, alpha)
    share = [each * len(losses) / max(int((place == g).sum()), 1) for g in range(len(groups))]
    whole = Regions("mosaic", len(groups), alpha, each * len(groups), (), groups=groups, columns=tuple(columns))
    if decorrelation is None:
        cuts = tuple(upper_cut(score[place == g], min(share[g], 1.0)) for g in range(len(groups)))
        return replace(whole, cuts=((cuts,),))
    moving = [
        moving_cut(score[place == g], mjj[0][place == g], min(share[g], 1.0), decorrelation) for g in range(len(groups))
    ]
    curves, cuts = zip(*moving, strict=True)
    return replace(whole, cuts=((cuts,),), curves=(curves,))


def standardise(regions: Regions, held_out: Sequence[Floats]) -> Regions:
    """Add centre and scale of the prior axes, and the branches of a tree, to regions whose shape has any.

    A tree has them from the events that its cut in the background loss keeps, among which its branches compete.
    """
    widths = sorted({x.shape[1] for x in held_out})
    if len(widths) > 1:
        raise InputError(f"every fold has losses of the same models, found {' and '.join(map(str, widths))} columns")
    if regions.shape not in {"l5", "tree"} or widths == [1]:
        return regions
    if regions.shape == "tree":
        held_out = [x[x[:, 0] > upper_cut(x[:, 0], regions.fraction)] for x in held_out]
        fewest = min(len(x) for x in held_out)
        if fewest < 2 * regions.n_regions:
            raise InputError(
                f"a share of {regions.fraction:.2g} of the held-out events is {fewest}, which cannot fix the "
                f"{regions.n_regions} regions of a tree; give fewer regions, a larger fraction or more data"
            )
    found = [centre_and_scale(prior_axes(x, regions.alpha)) for x in held_out]
    regions = replace(
        regions,
        centre=tuple(tuple(centre.tolist()) for centre, _ in found),
        scale=tuple(tuple(scale.tolist()) for _, scale in found),
    )
    if regions.shape == "l5":
        return regions
    # a branch of one slice would not look at how close its prior is: two regions a branch or more
    branches = max(1, min(widths[0] - 1, regions.n_regions // 2))
    return replace(regions, groups=group_priors([regions.axes(x, f) for f, x in enumerate(held_out)], branches))


def fix_fold(regions: Regions, losses: Floats, fold: int) -> Rows:
    """Fix one fold's boundaries."""
    n, fraction = regions.n_regions, regions.fraction
    if regions.groups:
        axes = regions.axes(losses, fold)
        return tree_cuts(losses[:, 0], axes, regions.groups, n_regions=n, fraction=fraction)
    if regions.shape != "plane":
        score = regions.score(losses, fold)
        return (tuple(upper_cut(score, fraction * (r + 1) / n) for r in range(n)),)
    rows, columns = plane_grid(n) if losses.shape[1] > 1 else (n, 1)
    background = losses[:, 0]
    cuts, above = [], np.inf
    for row in range(rows):
        low = upper_cut(background, fraction * (row + 1) / rows)
        prior = losses[(background > low) & (background <= above), 1:]
        smallest = prior.min(axis=1) if prior.shape[1] else np.zeros(0)
        inner = [-upper_cut(-smallest, (c + 1) / columns) for c in range(columns - 1)] if len(smallest) else []
        cuts.append((low, *inner))
        above = low
    return tuple(cuts)


def plane_grid(n_regions: int) -> tuple[int, int]:
    """Split n regions into rows of background loss and columns of prior loss: the most even split, more columns."""
    rows = max(r for r in range(1, int(np.sqrt(n_regions)) + 1) if n_regions % r == 0)
    return rows, n_regions // rows


def assign_plane(losses: Floats, cuts: Rows) -> Ints:
    """Return each event's cell in the plane, row by row of background loss, least background-like first."""
    region = np.full(len(losses), -1, dtype=np.int64)
    columns = len(cuts[0])
    smallest = losses[:, 1:].min(axis=1) if losses.shape[1] > 1 else np.zeros(len(losses))
    for row, (low, *inner) in enumerate(cuts):
        here = (region < 0) & (losses[:, 0] > low)
        region[here] = row * columns + np.searchsorted(np.asarray(inner), smallest[here], side="right")
    return region


def as_losses(losses: npt.ArrayLike) -> Floats:
    """Check losses (n, 1 + n_priors): finite and two-dimensional."""
    values = np.asarray(losses, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 1:
        raise InputError(f"losses have shape (n, 1 + n_priors), found {values.shape}")
    if not np.isfinite(values).all():
        raise InputError(
            f"{int((~np.isfinite(values)).any(axis=1).sum())} of {len(values)} events have a loss that is no number"
        )
    return values
