"""Regions of QUAK space: fixed on held-out background before the hunted events are looked at, frozen, saved as JSON.

Losses have shape (n, 1 + n_priors), the background's first. Two shapes: nested equal-population slices of the loss
difference L_b - alpha min_k L_k, and equal-population cells of the (background loss, prior loss) plane, background loss
first. Region 0 is the most signal-like. The boundaries of each fold are quantiles of that fold's own held-out losses, which
brings the losses of different models to one scale.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InputError, unknown_name
from ..table import write_json

__all__ = ["SHAPES", "Regions", "difference_score", "fix_regions", "read_regions"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
SHAPES = ("difference", "plane")
MIN_EVENTS = 150


@dataclass(frozen=True)
class Regions:
    """Boundaries of the regions, per fold.

    cuts[fold]: "difference": descending score boundaries, n_regions of them, region r between cuts[r] and cuts[r-1];
    "plane": one row a slice of background loss, [lower background-loss boundary, ascending prior-loss boundaries...];
    fraction: share of held-out background events in the fit range that the regions keep together.
    """

    shape: str
    n_regions: int
    alpha: float
    fraction: float
    cuts: tuple[tuple[tuple[float, ...], ...], ...]

    @property
    def n_folds(self) -> int:
        """Return the number of folds that the boundaries were fixed for."""
        return len(self.cuts)

    def assign(self, losses: npt.ArrayLike, fold: npt.ArrayLike | None = None) -> Ints:
        """Return the region of each event, -1 for none: losses (n, 1 + n_priors), fold (n,) of the model that scored it."""
        values = as_losses(losses)
        folds = np.zeros(len(values), dtype=np.int64) if fold is None else np.asarray(fold, dtype=np.int64)
        if len(folds) and not (folds.min() >= 0 and folds.max() < self.n_folds):
            raise InputError(f"folds {folds.min()} to {folds.max()} found, regions fixed for 0 to {self.n_folds - 1}")
        region = np.full(len(values), -1, dtype=np.int64)
        for f, cuts in enumerate(self.cuts):
            here = folds == f
            if self.shape == "difference":
                score = difference_score(values[here], self.alpha)
                # cuts descend; the number of cuts above the score is the region
                index = np.searchsorted(-np.asarray(cuts[0]), -score, side="left")
                region[here] = np.where(index < self.n_regions, index, -1)
            else:
                region[here] = assign_plane(values[here], cuts)
        return region

    def save(self, path: str | Path) -> None:
        """Write regions.json."""
        write_json(path, asdict(self))


def read_regions(path: str | Path) -> Regions:
    """Read regions.json; raises InputError naming the file where it is missing or damaged."""
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8"))
        cuts = tuple(tuple(tuple(float(c) for c in row) for row in fold) for fold in raw["cuts"])
        return Regions(raw["shape"], int(raw["n_regions"]), float(raw["alpha"]), float(raw["fraction"]), cuts)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no regions can be read: {error}") from error


def difference_score(losses: npt.ArrayLike, alpha: float = 1.0) -> Floats:
    """Return L_b - alpha min_k L_k, or L_b alone where there are no priors: (n, 1 + n_priors) -> (n,)."""
    values = as_losses(losses)
    if values.shape[1] == 1:
        return values[:, 0]
    return np.asarray(values[:, 0] - alpha * values[:, 1:].min(axis=1))


def fix_regions(
    losses: Sequence[npt.ArrayLike],
    *,
    shape: str = "difference",
    fraction: float = 0.1,
    n_regions: int = 3,
    alpha: float = 1.0,
    expected_events: float | None = None,
) -> Regions:
    """Fix the regions on held-out losses inside the fit range, one array (n_f, 1 + n_priors) a fold.

    fraction: share of background events kept by all regions together; `expected_events`: background-like events that
    will be hunted inside the fit range, by which the fraction is raised so that each region expects 150.
    Raises InputError where the held-out events are too few for that.
    """
    if shape not in SHAPES:
        raise InputError(unknown_name("region shape", shape, SHAPES))
    if not 0 < fraction <= 1:
        raise InputError(f"the fraction of events kept lies in (0, 1], found {fraction:g}")
    if n_regions < 1:
        raise InputError(f"at least one region, found {n_regions}")
    held_out = [as_losses(x) for x in losses]
    fewest = min(len(x) for x in held_out)
    events = expected_events or sum(len(x) for x in held_out)
    raised = max(fraction, min(1.0, MIN_EVENTS * n_regions / max(events, 1)))
    if fewest < 2 * n_regions:
        raise InputError(
            f"{fewest} held-out events in the fit range cannot fix {n_regions} regions; give fewer or more data"
        )
    return Regions(
        shape, n_regions, alpha, raised, tuple(fix_fold(x, shape, raised, n_regions, alpha) for x in held_out)
    )


def fix_fold(
    losses: Floats, shape: str, fraction: float, n_regions: int, alpha: float
) -> tuple[tuple[float, ...], ...]:
    """Fix one fold's boundaries."""
    if shape == "difference":
        score = difference_score(losses, alpha)
        return (tuple(upper_cut(score, fraction * (r + 1) / n_regions) for r in range(n_regions)),)
    rows, columns = plane_grid(n_regions) if losses.shape[1] > 1 else (n_regions, 1)
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


def assign_plane(losses: Floats, cuts: tuple[tuple[float, ...], ...]) -> Ints:
    """Return each event's cell in the plane, row by row of background loss, least background-like first."""
    region = np.full(len(losses), -1, dtype=np.int64)
    columns = len(cuts[0])
    smallest = losses[:, 1:].min(axis=1) if losses.shape[1] > 1 else np.zeros(len(losses))
    for row, (low, *inner) in enumerate(cuts):
        here = (region < 0) & (losses[:, 0] > low)
        region[here] = row * columns + np.searchsorted(np.asarray(inner), smallest[here], side="right")
    return region


def upper_cut(values: Floats, fraction: float) -> float:
    """Return the boundary above which a fraction of the values lies, half-way between two neighbours.

    No event used to fix it sits on the boundary, so rounding in the last digit of a score cannot move it across.
    """
    n = len(values)
    keep = round(fraction * n)
    ordered = np.sort(values)[::-1]
    if keep <= 0:
        return float(np.nextafter(ordered[0], np.inf))
    if keep >= n:
        return float(-np.finfo(np.float64).max)
    return float(0.5 * (ordered[keep - 1] + ordered[keep]))


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
