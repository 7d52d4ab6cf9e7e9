"""Figures of merit of generated whole events beside simulated ones (arXiv:1901.00875), as published and as they are meant, and what no generator can give: statistics.

Of each quantity two histograms p and q of unit sum are compared: chi2 = sum (p - q)^2 / (p + q), at most 2; the root of the Jensen-Shannon divergence in nats, at most
sqrt(ln 2) = 0.8326; and a Wasserstein distance. The published code hands the two arrays of bin heights to a function that expects samples: what comes out says how
unlike the sorted heights are, and is 0 for (1/2, 1/2, 0, 0) and (0, 0, 1/2, 1/2), which lie 2 bins apart. Both are here, by names of their own:

    delta_kin = - sum (ln chi2 + ln W + ln JSD)   larger = more alike
    delta_de = |f - f'| (chi2 + JSD)              smaller = more alike, f the share of empty cells of a histogram of two angles; no W is in it

No number has a meaning but beside that of two independent simulated samples of the same sizes, which is its ceiling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from ...errors import InputError, unknown_name
from ..regions.metrics import evaluate

__all__ = [
    "Copies",
    "EventFigures",
    "HistogramDistances",
    "StatisticalFloor",
    "classifier_auc",
    "copied_share",
    "event_figures",
    "event_quantities",
    "histogram_distances",
    "hole_share",
    "statistical_floor",
]

Floats = npt.NDArray[np.float64]
CELLS = 400
"""Of the histogram of two angles, in each direction."""
LOG_BINS, LINEAR_BINS = 25, 26
RANGES = {
    "e_j": (20.0, 7000.0),
    "pt_j": (20.0, 7000.0),
    "e_l": (10.0, 7000.0),
    "pt_l": (10.0, 7000.0),
    "met": (0.1, 7000.0),
    "m_": (10.0, 10000.0),
}
"""Beginning of a name -> GeV, bins of equal ratio."""
LINEAR = {"phi_": (-math.pi, math.pi), "eta_j": (-5.0, 5.0), "eta_l": (-2.5, 2.5)}
SMALLEST = 1e-12
"""Of what a logarithm is taken of: two histograms that are the same have no finite delta_kin, and what is below is counted."""
LEAST = 20
JETS, LEPTONS = (1, 2), (3, 4, 5, 6)  # categories of a list of objects
MASSES = {"m_2j": (2, 0), "m_3j": (3, 0), "m_4j": (4, 0), "m_4j1l": (4, 1), "m_4j2l": (4, 2)}
"""Invariant mass -> how many jets and leptons."""
LISTED_AXES, LISTED = 3, 5


@dataclass(frozen=True)
class HistogramDistances:
    """How far two histograms are apart: chi2 (0 to 2), jsd_root (0 to 0.8326), heights, the published Wasserstein term of the bin heights, and wasserstein, the distance in bins."""

    chi2: float
    jsd_root: float
    heights: float
    wasserstein: float


@dataclass(frozen=True, repr=False)
class EventFigures:
    """Generated events against simulated ones.

    distances: quantity -> its distances; delta_kin_published: with the term of bin heights; delta_kin: with the Wasserstein distance; clipped: how many of the terms of either were below 1e-12, and counted
    as that; holes: empty cells of the 400 x 400 histogram of the azimuths of the two leading jets, generated and simulated; delta_de.
    """

    distances: Mapping[str, HistogramDistances]
    delta_kin_published: float
    delta_kin: float
    clipped: int
    holes: tuple[float, float]
    delta_de: float

    def __repr__(self) -> str:
        """Return the value in a line."""
        clipped = f", {self.clipped} terms clipped" if self.clipped else ""
        return (
            f"EventFigures({len(self.distances)} quantities, delta_kin {self.delta_kin:.4g}, published {self.delta_kin_published:.4g}{clipped}, "
            f"delta_de {self.delta_de:.3g})"
        )


@dataclass(frozen=True)
class Copies:
    """Events next to one of the training: share of the generated that are as near as the nearest `expected` of independent events; medians of the distances to the nearest, in
    spreads of the training."""

    share: float
    error: float
    expected: float
    median: float
    median_independent: float


@dataclass(frozen=True)
class StatisticalFloor:
    """Error of a quantity that n generated events tell: root mean square over models and its own error, what n independent events would have, and what the events of the training have."""

    generated: int
    trained_on: int
    error: float
    error_error: float
    independent: float
    floor: float


def histogram_distances(first: npt.ArrayLike, second: npt.ArrayLike) -> HistogramDistances:
    """Return the distances of two histograms (bins,), which are brought to unit sum; raises InputError for other shapes and for contents below 0 or all 0."""
    p, q = (np.asarray(values, dtype=np.float64).ravel() for values in (first, second))
    if p.shape != q.shape or not p.size:
        raise InputError(f"histograms of {p.size} and {q.size} bins")
    for name, values in (("first", p), ("second", q)):
        if not np.isfinite(values).all() or (values < 0).any() or values.sum() <= 0:
            raise InputError(f"{name} histogram: contents are finite numbers from 0 on, and their sum is above 0")
    p, q = p / p.sum(), q / q.sum()
    both = p + q
    chi2 = float(np.sum((p - q)[both > 0] ** 2 / both[both > 0]))
    root = float(jensenshannon(p, q))
    return HistogramDistances(
        chi2=chi2,
        jsd_root=root if np.isfinite(root) else 0.0,  # rounding below 0 of two that are the same
        heights=float(wasserstein_distance(p, q)),
        wasserstein=float(np.abs(np.cumsum(p - q)).sum()),
    )


def hole_share(first: npt.ArrayLike, second: npt.ArrayLike, *, cells: int = CELLS) -> float:
    """Return the share of empty cells of the histogram of two angles (n,), cells x cells over -pi to pi; exp(-n / cells^2) where they are uniform."""
    return float((angle_counts(first, second, cells) == 0).mean())


def angle_counts(first: npt.ArrayLike, second: npt.ArrayLike, cells: int) -> Floats:
    """Return the histogram (cells, cells) of two angles (n,) in -pi to pi; NaN is in no cell."""
    pair = np.stack([np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)])
    pair = pair[:, np.isfinite(pair).all(axis=0)]
    at = np.clip(((pair + np.pi) / (2 * np.pi) * cells).astype(np.int64), 0, cells - 1)
    return np.bincount(at[0] * cells + at[1], minlength=cells**2).astype(np.float64).reshape(cells, cells)


def event_quantities(events: npt.ArrayLike) -> dict[str, Floats]:
    """Return the 27 quantities of arXiv:1901.00875 of a list of objects (n, slots, 5): name -> (n,), NaN where an object is not there.

    `met`, `phi_met`; `e_`, `pt_`, `eta_`, `phi_` of the jets j1 to j4 (b-jets too) and the leading lepton l1 (GeV); the masses `m_2j`, `m_3j`, `m_4j`, `m_4j1l`, `m_4j2l` of the leading ones.
    Raises InputError for another shape.
    """
    x = np.asarray(events)
    if x.ndim != LISTED_AXES or x.shape[2] != LISTED:
        raise InputError(f"events: have shape {x.shape}; a list of objects is expected, (n, slots, 5), layout: list")
    found = {"met": x[:, 0, 0].astype(np.float64), "phi_met": x[:, 0, 2].astype(np.float64)}
    jets, leptons = (leading(x, kinds, most) for kinds, most in ((JETS, 4), (LEPTONS, 2)))
    for letter, objects, most in (("j", jets, 4), ("l", leptons, 1)):
        for i in range(most):
            for k, name in ((3, "e"), (0, "pt"), (1, "eta"), (2, "phi")):
                found[f"{name}_{letter}{i + 1}"] = objects[:, i, k]
    vectors = [four_vectors(objects) for objects in (jets, leptons)]
    for name, (n_j, n_l) in MASSES.items():
        total = vectors[0][:, :n_j].sum(axis=1) + vectors[1][:, :n_l].sum(axis=1)
        found[name] = np.sqrt(np.maximum(total[:, 0] ** 2 - (total[:, 1:] ** 2).sum(axis=1), 0.0))
    return found


def leading(events: npt.NDArray[np.floating], kinds: tuple[int, ...], most: int) -> Floats:
    """Return the first objects of some categories of lists (n, slots, 5): (n, most, 5), NaN where there are not so many."""
    found = np.full((len(events), most, LISTED), np.nan)
    there = (events[..., 0] > 0) & np.isin(events[..., 4], kinds)
    there[:, 0] = False
    place = np.cumsum(there, axis=1) - 1
    rows, slots = np.nonzero(there & (place < most))
    found[rows, place[rows, slots]] = events[rows, slots]
    return found


def four_vectors(objects: Floats) -> Floats:
    """Return E, px, py, pz of objects (n, m, 5) of pT, eta, phi, E and category."""
    pt, eta, phi, energy = (objects[..., k] for k in range(4))
    return np.stack([energy, pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=-1)


def edges_of(name: str, values: Floats) -> Floats:
    """Return the edges of the bins of a quantity: those of the paper by its name, else 26 equal ones over the values."""
    for begin, (low, high) in RANGES.items():
        if name.startswith(begin):
            return np.geomspace(low, high, LOG_BINS + 1)
    for begin, (low, high) in LINEAR.items():
        if name.startswith(begin):
            return np.linspace(low, high, LINEAR_BINS + 1)
    low, high = float(values.min()), float(values.max())
    return np.linspace(low, high if high > low else low + 1, LINEAR_BINS + 1)


def event_figures(
    generated: Mapping[str, npt.ArrayLike],
    simulated: Mapping[str, npt.ArrayLike],
    *,
    angles: tuple[str, str] = ("phi_j1", "phi_j2"),
    cells: int = CELLS,
) -> EventFigures:
    """Return the figures of merit of generated events beside simulated ones, quantity -> (n,) and (m,), as of `event_quantities`.

    NaN is left out, what is beyond a histogram's range too, as published. angles: of the two-dimensional histogram, cells x cells. Raises InputError where one of the
    two lacks a quantity, or has fewer than 20 values of it.
    """
    distances, terms = {}, []
    for name in simulated:
        if name not in generated:
            raise InputError(unknown_name("quantity", name, generated, "generated"))
        pair = []
        for where, sample in (("generated", generated), ("simulated", simulated)):
            values = np.asarray(sample[name], dtype=np.float64)
            values = values[np.isfinite(values)]
            if len(values) < LEAST:
                raise InputError(f"{where}: {name!r} has {len(values)} finite values, at least {LEAST} are needed")
            pair.append(values)
        edges = edges_of(name, pair[1])
        counts = [np.histogram(values, edges)[0] for values in pair]
        for where, own in zip(("generated", "simulated"), counts, strict=True):
            if not own.sum():
                raise InputError(f"{where}: {name!r} has no value within {edges[0]:.4g} to {edges[-1]:.4g}")
        distances[name] = one = histogram_distances(*counts)
        terms.append((one.chi2, one.jsd_root, one.heights, one.wasserstein))
    values = np.array(terms)
    logs = -np.log(np.maximum(values, SMALLEST)).sum(axis=0)
    for name in angles:
        for where, sample in (("generated", generated), ("simulated", simulated)):
            if name not in sample:
                raise InputError(unknown_name("angle", name, sample, where))
    maps = [angle_counts(sample[angles[0]], sample[angles[1]], cells) for sample in (generated, simulated)]
    plane = histogram_distances(*maps)
    holes = [float((own == 0).mean()) for own in maps]
    return EventFigures(
        distances=distances,
        delta_kin_published=float(logs[0] + logs[1] + logs[2]),
        delta_kin=float(logs[0] + logs[1] + logs[3]),
        clipped=int((values < SMALLEST).sum()),
        holes=(holes[0], holes[1]),
        delta_de=abs(holes[1] - holes[0]) * (plane.chi2 + plane.jsd_root),
    )


def classifier_auc(
    generated: Mapping[str, npt.ArrayLike], simulated: Mapping[str, npt.ArrayLike], *, seed: int = 0
) -> tuple[float, float]:
    """Return how well gradient boosting tells generated from simulated events, the AUC and its error: 0.5 where it cannot.

    Both as of `event_quantities`; each half is scored by a model of the other. Raises InputError for quantities that one of the two lacks and for fewer than 20 events.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    for name in {*generated, *simulated}:
        for where, sample in (("generated", generated), ("simulated", simulated)):
            if name not in sample:
                raise InputError(unknown_name("quantity", name, sample, where))
    rows = [
        np.stack([np.asarray(sample[name], dtype=np.float64) for name in simulated], axis=1)
        for sample in (generated, simulated)
    ]
    if min(map(len, rows)) < LEAST:
        raise InputError(f"{len(rows[0])} generated and {len(rows[1])} simulated events, at least {LEAST} each")
    x, label = np.concatenate(rows), np.repeat([1, 0], [len(own) for own in rows])
    order = np.random.default_rng(seed).permutation(len(x))
    half, score = np.zeros(len(x), dtype=bool), np.empty(len(x))
    half[order[: len(x) // 2]] = True
    for tested in (half, ~half):
        model = HistGradientBoostingClassifier(random_state=seed, max_iter=60, early_stopping=False)
        model.fit(x[~tested], label[~tested])
        score[tested] = model.decision_function(x[tested])
    # each half has a scale of its own, so that the two AUC are averaged
    found = [evaluate(score[own], label[own]) for own in (half, ~half)]
    return float(np.mean([m.auc for m in found])), math.hypot(*(m.auc_error for m in found)) / 2


def copied_share(
    generated: npt.ArrayLike, training: npt.ArrayLike, independent: npt.ArrayLike, *, level: float = 0.05
) -> Copies:
    """Return which share of generated events is as near to one of the training as only a share `level` of independent ones is: `level` where none is copied, 1 where all are.

    generated, training, independent: (n, d) rows of the same numbers, brought to the spread of the training; NaN, of an object that is not there, is taken as four spreads below the middle. Raises InputError
    for other shapes and too few rows.
    """
    rows = [np.asarray(values, dtype=np.float64) for values in (generated, training, independent)]
    if any(own.ndim != 2 or own.shape[1] != rows[1].shape[1] or len(own) < LEAST for own in rows):
        raise InputError(
            f"rows of shapes {', '.join(str(own.shape) for own in rows)}; (n, d) of one d, n from {LEAST} on"
        )
    if not 0 < level < 1:
        raise InputError(f"level = {level}; allowed: above 0 and below 1")
    centre, spread = np.nanmean(rows[1], axis=0), np.nanstd(rows[1], axis=0)
    scaled = [np.nan_to_num((own - centre) / np.where(spread > 0, spread, 1.0), nan=-4.0) for own in rows]
    tree = KDTree(scaled[1])
    near, usual = (tree.query(own)[0] for own in (scaled[0], scaled[2]))
    share = float((near < np.quantile(usual, level)).mean())
    error = math.hypot(math.sqrt(share * (1 - share) / len(near)), math.sqrt(level * (1 - level) / len(usual)))
    return Copies(share, error, level, float(np.median(near)), float(np.median(usual)))


def statistical_floor(
    estimates: Mapping[int, npt.ArrayLike], *, truth: float, spread: float, trained_on: int
) -> tuple[StatisticalFloor, ...]:
    """Return the error of a mean against the number of generated events, beside that of as many independent ones and of those that the model was trained on.

    estimates: n -> means (models,) of n events of models that were trained on `trained_on` events each, independent samples; truth: the mean, spread: the standard deviation of the quantity. However many are
    generated, the error does not fall below spread / sqrt(trained_on), but by chance or where the model knows more than its events. Raises InputError for fewer than two models.
    """
    found = []
    for n, means in estimates.items():
        values = np.asarray(means, dtype=np.float64)
        if values.ndim != 1 or len(values) < 2:
            raise InputError(f"estimates of {n} events: shape {values.shape}; those of two models or more are needed")
        error = float(np.sqrt(np.mean((values - truth) ** 2)))
        found.append(
            StatisticalFloor(
                generated=int(n),
                trained_on=trained_on,
                error=error,
                error_error=error / math.sqrt(2 * len(values)),
                independent=spread / math.sqrt(n),
                floor=spread / math.sqrt(trained_on),
            )
        )
    return tuple(found)
