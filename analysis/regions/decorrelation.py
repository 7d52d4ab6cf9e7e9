"""Cuts that follow the mass, for scores that sculpt: the selected background keeps the shape of the inclusive one.

A cut at a fixed value of a score that depends on the mass selects more background at some masses than at others, which
makes bumps or hides them. The cut here is the conditional quantile of the background's score, so that the efficiency is
the same at every mass (and pT, where given): from quantiles in cells, smoothed (the fixed-efficiency form of DDT,
arXiv:1603.00027, as CMS uses it, arXiv:1710.00159), or by quantile regression on splines of the mass (Koenker and
Bassett 1978, a linear programme). Fit it on background that is not hunted and that the scorer did not
train on: held-out simulation, another fold or a control sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline, make_smoothing_spline
from scipy.optimize import brentq, linprog
from scipy.sparse import csr_array, hstack

from ...errors import InputError

__all__ = ["FixedEfficiency", "MovingCut", "QuantileRegression", "fit_fixed_efficiency", "fit_quantile_regression"]

Floats = npt.NDArray[np.float64]

MIN_SELECTED = 15  # events on the rarer side of the cut in one cell: its quantile is known to 25 % in efficiency

FINE = 40  # cells along ln m, before the sparse ones are merged

MIN_CELLS = 5  # of a smoothing spline

STIFFNESS = (-9.0, 5.0)  # decades of the smoothing parameter, in ln m: from interpolation to a straight line


class MovingCut(Protocol):
    """A cut on a score that depends on the mass (GeV), and on pT (GeV) where it was fitted with it."""

    @property
    def efficiency(self) -> float:
        """Return the share of background above the cut, at every mass."""

    def cut(self, mass: npt.ArrayLike, pt: npt.ArrayLike | None = None) -> Floats:
        """Return the cut (n,) at each event's mass (n,) in GeV and, where it was fitted with it, pT (n,) in GeV."""

    def transform(self, score: npt.ArrayLike, mass: npt.ArrayLike, pt: npt.ArrayLike | None = None) -> Floats:
        """Return the score less its cut (n,): above 0 for the same share of background everywhere."""


@dataclass(frozen=True, repr=False)
class FixedEfficiency:
    """Cut values in cells of mass and pT/mass, smoothed along the mass.

    mass_range: GeV, of the sample, constant beyond; nodes: (cells,) GeV, mean masses of the cells; cuts, errors:
    (cells, pt_cells) their quantiles and statistical errors before smoothing; cut_spline, ratio_spline: of ln m, with the
    cut and the position in pT/m of every cell of pT/m; with_pt: whether pT was used. Between cells of pT/m the cut is
    linear.
    """

    efficiency: float
    mass_range: tuple[float, float]
    nodes: Floats
    cuts: Floats
    errors: Floats
    cut_spline: BSpline
    ratio_spline: BSpline
    with_pt: bool

    def __repr__(self) -> str:
        """Return the value in a line."""
        return f"FixedEfficiency({self.efficiency:g} kept, {self.mass_range[0]:g} to {self.mass_range[1]:g} GeV)"

    def cut(self, mass: npt.ArrayLike, pt: npt.ArrayLike | None = None) -> Floats:
        """Return the cut (n,) at masses (n,) and pT (n,) in GeV."""
        log_mass, ratio = positions(mass, pt, with_pt=self.with_pt)
        at = np.clip(log_mass, *np.log(self.mass_range))
        values = followed(self.cut_spline, at)
        if not self.with_pt:
            return np.asarray(values[:, 0])
        places = np.maximum.accumulate(followed(self.ratio_spline, at), axis=1)
        left = np.clip((places < ratio[:, None]).sum(axis=1) - 1, 0, places.shape[1] - 2)
        rows = np.arange(len(at))
        step = np.maximum(places[rows, left + 1] - places[rows, left], 1e-12)
        share = np.clip((ratio - places[rows, left]) / step, -0.5, 1.5)  # half a cell beyond the outer places
        return np.asarray(values[rows, left] * (1 - share) + values[rows, left + 1] * share)

    def transform(self, score: npt.ArrayLike, mass: npt.ArrayLike, pt: npt.ArrayLike | None = None) -> Floats:
        """Return the score (n,) less its cut."""
        return np.asarray(np.asarray(score, dtype=np.float64) - self.cut(mass, pt))


@dataclass(frozen=True, repr=False)
class QuantileRegression:
    """The conditional quantile of a score as a cubic spline of ln m, plus one of ln(pT/m) where pT was used.

    mass_range, ratio_range: of the sample, constant beyond; splines of ln m, and of ln(pT/m) or None.
    """

    efficiency: float
    mass_range: tuple[float, float]
    ratio_range: tuple[float, float] | None
    mass_spline: BSpline
    ratio_spline: BSpline | None

    def __repr__(self) -> str:
        """Return the value in a line."""
        return f"QuantileRegression({self.efficiency:g} kept, {self.mass_range[0]:g} to {self.mass_range[1]:g} GeV)"

    def cut(self, mass: npt.ArrayLike, pt: npt.ArrayLike | None = None) -> Floats:
        """Return the cut (n,) at masses (n,) and pT (n,) in GeV."""
        log_mass, ratio = positions(mass, pt, with_pt=self.ratio_spline is not None)
        value = self.mass_spline(np.clip(log_mass, *np.log(self.mass_range)))
        if self.ratio_spline is not None and self.ratio_range is not None:
            value = value + self.ratio_spline(np.clip(ratio, *self.ratio_range))
        return np.asarray(value)

    def transform(self, score: npt.ArrayLike, mass: npt.ArrayLike, pt: npt.ArrayLike | None = None) -> Floats:
        """Return the score (n,) less its cut."""
        return np.asarray(np.asarray(score, dtype=np.float64) - self.cut(mass, pt))


def fit_fixed_efficiency(
    score: npt.ArrayLike,
    mass: npt.ArrayLike,
    *,
    efficiency: float,
    pt: npt.ArrayLike | None = None,
    pt_cells: int = 4,
) -> FixedEfficiency:
    """Map the cut that a share `efficiency` of background passes at every mass: score, mass and pt (n,), GeV.

    The quantile of each cell of mass and, within it, of as many events each in pT/mass, smoothed along ln m by the
    stiffest spline that agrees with them within their errors. Raises InputError for too few events: at least five cells in mass with
    15 events on both sides of the cut in each.
    """
    s, log_mass, ratio = sample(score, mass, pt, efficiency)
    columns = 1 if pt is None else pt_cells
    if columns < 1 or (pt is not None and columns < 2):
        raise InputError(f"{pt_cells} cells of pT, allowed: 2 or more")
    least = int(np.ceil(MIN_SELECTED / min(efficiency, 1 - efficiency))) * columns
    edges = merged_edges(log_mass, FINE, least)
    if len(edges) - 1 < MIN_CELLS:
        raise InputError(
            f"{len(s)} events give {len(edges) - 1} cells of {least} in mass, needed: {MIN_CELLS}; "
            "use more background, fewer cells of pT or an efficiency nearer to 1/2"
        )
    which = np.clip(np.searchsorted(edges, log_mass, side="right") - 1, 0, len(edges) - 2)
    shape = (len(edges) - 1, columns)
    nodes, (cuts, errors, places, place_errors) = np.empty(shape[0]), np.empty((4, *shape))
    for i in range(shape[0]):
        inside = np.flatnonzero(which == i)
        nodes[i] = log_mass[inside].mean()
        for j, cell in enumerate(np.array_split(inside[np.argsort(ratio[inside], kind="stable")], columns)):
            cuts[i, j], errors[i, j] = quantile(s[cell], 1 - efficiency)
            places[i, j], place_errors[i, j] = quantile(ratio[cell], 0.5)
    return FixedEfficiency(
        efficiency=efficiency,
        mass_range=(float(np.exp(log_mass.min())), float(np.exp(log_mass.max()))),
        nodes=np.exp(nodes),
        cuts=cuts,
        errors=errors,
        cut_spline=smoothed(nodes, cuts, errors),
        ratio_spline=smoothed(nodes, places, place_errors),
        with_pt=pt is not None,
    )


def fit_quantile_regression(
    score: npt.ArrayLike,
    mass: npt.ArrayLike,
    *,
    efficiency: float,
    pt: npt.ArrayLike | None = None,
    pieces: int = 4,
) -> QuantileRegression:
    """Fit the cut as a spline of ln m of so many pieces (plus one of ln(pT/m)): score, mass and pt (n,), GeV.

    Minimises the pinball loss over all events, exactly. Fewer pieces than asked where events are few. Raises InputError
    for too few events for one piece.
    """
    s, log_mass, ratio = sample(score, mass, pt, efficiency)
    if pieces < 1:
        raise InputError(f"{pieces} pieces of the spline, allowed: 1 or more")
    least = int(np.ceil(2 * MIN_SELECTED / min(efficiency, 1 - efficiency)))
    if len(s) < least:
        raise InputError(f"{len(s)} events for a quantile at efficiency {efficiency}, needed: {least}")
    knots = [spline_knots(merged_edges(log_mass, pieces, least))]
    parts = [BSpline.design_matrix(log_mass, knots[0], 3)]
    if pt is not None:
        knots.append(spline_knots(np.quantile(ratio, np.linspace(0, 1, pieces + 1))))
        # one function less: the constant is already among those of the mass
        parts.append(BSpline.design_matrix(ratio, knots[1], 3)[:, 1:])
    # the programme is kinder to scores of order one
    centre, scale = float(np.median(s)), float(s.std()) or 1.0
    found = pinball_fit(hstack(parts).tocsr(), (s - centre) / scale, 1 - efficiency) * scale
    first = parts[0].shape[1]
    return QuantileRegression(
        efficiency=efficiency,
        mass_range=(float(np.exp(log_mass.min())), float(np.exp(log_mass.max()))),
        ratio_range=None if pt is None else (float(ratio.min()), float(ratio.max())),
        mass_spline=BSpline(knots[0], found[:first] + centre, 3),
        ratio_spline=None if pt is None else BSpline(knots[1], np.concatenate([[0.0], found[first:]]), 3),
    )


def sample(
    score: npt.ArrayLike, mass: npt.ArrayLike, pt: npt.ArrayLike | None, efficiency: float
) -> tuple[Floats, Floats, Floats]:
    """Return score, ln m and ln(pT/m) (n,), 0 without pT; refuse what is no sample, InputError."""
    if not 0 < efficiency < 1:
        raise InputError(f"efficiency is {efficiency!r}, allowed: between 0 and 1")
    s = np.asarray(score, dtype=np.float64)
    log_mass, ratio = positions(mass, pt, with_pt=pt is not None)
    if s.ndim != 1 or len(s) != len(log_mass) or len(s) == 0:
        raise InputError(f"scores {s.shape} for masses {log_mass.shape}, needed: (n,) each")
    if not np.all(np.isfinite(s)):
        raise InputError(f"{int((~np.isfinite(s)).sum())} of {len(s)} scores are not finite")
    return s, log_mass, ratio


def positions(mass: npt.ArrayLike, pt: npt.ArrayLike | None, *, with_pt: bool) -> tuple[Floats, Floats]:
    """Return ln m and ln(pT/m) (n,) of masses and pT in GeV, above 0."""
    if with_pt != (pt is not None):
        raise InputError(
            f"the cut was fitted {'with' if with_pt else 'without'} pT; {'none' if with_pt else 'pT'} given"
        )
    m = np.atleast_1d(np.asarray(mass, dtype=np.float64))
    momentum = m if pt is None else np.atleast_1d(np.asarray(pt, dtype=np.float64))
    if m.ndim != 1 or momentum.shape != m.shape:
        raise InputError(f"masses {m.shape} and pT {momentum.shape}, needed: (n,) each")
    for name, values in (("mass", m), ("pT", momentum)):
        if not np.all(np.isfinite(values) & (values > 0)):
            raise InputError(f"{name} is {values[~(np.isfinite(values) & (values > 0))][0]} GeV, needed: above 0")
    return np.log(m), np.log(momentum / m)


def merged_edges(values: Floats, cells: int, least: int) -> Floats:
    """Return edges of equal cells over the range of values, merged from below until each holds `least` of them."""
    fine = np.linspace(values.min(), values.max(), cells + 1)
    total = np.concatenate([[0], np.cumsum(np.histogram(values, fine)[0])])
    kept = [0]
    for i in range(1, cells + 1):
        if total[i] - total[kept[-1]] >= least and (total[-1] - total[i] >= least or i == cells):
            kept.append(i)
    return np.asarray(fine[[*kept[:-1], cells]] if len(kept) > 1 else fine[[0, cells]])


def quantile(values: Floats, share: float) -> tuple[float, float]:
    """Return the quantile of values and its error, half the distance of the quantiles one binomial error to both sides."""
    error = np.sqrt(share * (1 - share) / len(values))
    low, middle, high = np.quantile(values, [max(share - error, 0.0), share, min(share + error, 1.0)])
    return float(middle), float(max(0.5 * (high - low), 1e-12 * max(abs(middle), 1.0)))


def smoothed(nodes: Floats, values: Floats, errors: Floats) -> BSpline:
    """Return natural splines through the columns of values (nodes, columns), each the stiffest within the errors.

    The stiffest whose chi-squared is at most the number of nodes: a straight line where that describes them.
    """

    def spline(column: int, stiffness: float) -> BSpline:
        weights = 1 / errors[:, column] ** 2
        return make_smoothing_spline(nodes, values[:, column], w=weights / weights.mean(), lam=10.0**stiffness)

    def excess(stiffness: float, column: int) -> float:
        residual = (values[:, column] - spline(column, stiffness)(nodes)) / errors[:, column]
        return float(residual @ residual) - len(nodes)

    found = []
    for column in range(values.shape[1]):
        low, high = STIFFNESS
        best = high if excess(high, column) <= 0 else low if excess(low, column) >= 0 else None
        if best is None:
            best = float(brentq(excess, low, high, args=(column,), xtol=1e-3))
        found.append(spline(column, best))
    return BSpline(found[0].t, np.stack([f.c for f in found], axis=1), found[0].k)


def pinball_fit(design: csr_array, values: Floats, share: float) -> Floats:
    """Return the coefficients (k,) whose linear function is the conditional quantile of values (n,): design (n, k), sparse.

    Solves the dual linear programme, which has k constraints where the primal has n; the coefficients are its prices.
    """
    right = (1 - share) * np.asarray(design.sum(axis=0)).ravel()
    found = linprog(-values, A_eq=design.T, b_eq=right, bounds=(0, 1), method="highs-ipm")
    if found.status != 0:
        raise InputError(f"the quantile regression has no solution: {found.message}")
    return np.asarray(-found.eqlin.marginals, dtype=np.float64)


def followed(spline: BSpline, at: Floats) -> Floats:
    """Evaluate splines (n, columns), continued along their slopes beyond the outer nodes."""
    inside = np.clip(at, spline.t[spline.k], spline.t[-spline.k - 1])
    return np.asarray(spline(inside) + (at - inside)[:, None] * spline(inside, 1))


def spline_knots(edges: Floats) -> Floats:
    """Return the knots of cubic B-splines on pieces with these edges."""
    return np.concatenate([np.repeat(edges[0], 3), edges, np.repeat(edges[-1], 3)])
