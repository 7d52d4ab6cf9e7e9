"""Priors bent and moved until the data support them: from approximate signal priors to a family of hypotheses.

A prior is a hunch: a signal near it, not at it. Between priors lies a family: moments are interpolated, and a prior's
events carried over by the linear map that is optimal transport between Gaussians of the old and the new moments
(moment morphing, arXiv:1410.7388). Affine combinations of several priors span mass planes that none of them lies in;
a random shift on top stands for what simulation does not know.

Which members of the family do unlabelled data support? Each hypothesis h has a likelihood ratio: the data as
(1 − w) p_b + w p_h against p_b alone, at the best fraction w. Hypotheses are searched by generations (population Monte
Carlo), and weighted by the tempered ratio. A search through some hundred independent places finds a ratio that large
by chance, so what was found by searching carries one part in `TRIALS` of the prior mass: where the data hold no signal the
broad family remains, where they hold one its neighbourhood takes over. No label and no mass window enters, and the
events that are hunted in must not be among these data.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Adaptation", "Family", "adapt", "sample_family"]

log = logging.getLogger(__name__)
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BROAD = 300  # hypotheses of the first generation, the family as it is without data
REFINED, GENERATIONS = 200, 4
SPREAD = 1.2  # of affine combinations: 1 has the covariance of the priors' own centres
SHIFTS = (0.06, 0.6)  # length of a centre's shift, log-uniform, in the background's standard deviations
BEYOND, TAILS = (
    1.0,
    3,
)  # of half of the members, column by column: in units of the scatter of the priors' centres; Student's t
STEP, COOLING = 0.35, 0.6  # width of the steps of a generation, relative to the family's, and how it shrinks
TEMPERATURE = 2.0  # of the likelihood ratio: neither density is exact
TRIALS = 300.0
UNMOVED = 0.2  # prior mass of the priors as they were given
MAX_ROWS = 60_000  # of data, a random part of more
MAX_FRACTION = 0.05
MAX_LOG_RATIO = 40.0
SMALLEST_WEIGHT = 0.02  # of a prior in the interpolation of covariances


@dataclass(frozen=True)
class Family:
    """Hypotheses: prior (h,) whose events are carried; matrix (h, d, d), offset (h, d): x of the prior = matrix x + offset.

    combination (h, n_priors) and shift (h, d): what they were made from.
    """

    prior: Ints
    matrix: Floats
    offset: Floats
    combination: Floats
    shift: Floats

    def __len__(self) -> int:
        return len(self.prior)


@dataclass(frozen=True)
class Adaptation:
    """A family with weights (h,) that sum to one, each hypothesis' log likelihood ratio (h,) and fitted fraction (h,).

    refined: prior probability times evidence of what was found by searching, 0 to 1; rows: data used.
    """

    family: Family
    weights: Floats
    log_ratio: Floats
    fraction: Floats
    refined: float
    rows: int


def spd_power(matrices: Floats, power: float) -> Floats:
    """Return powers of symmetric positive matrices (..., d, d)."""
    values, axes = np.linalg.eigh(matrices)
    scaled = axes * np.maximum(values, 1e-300)[..., None, :] ** power
    return np.asarray(scaled @ np.swapaxes(axes, -1, -2))


def spd_log(matrices: Floats) -> Floats:
    """Return logarithms of symmetric positive matrices (..., d, d)."""
    values, axes = np.linalg.eigh(matrices)
    return np.asarray((axes * np.log(np.maximum(values, 1e-300))[..., None, :]) @ np.swapaxes(axes, -1, -2))


def spd_exp(matrices: Floats) -> Floats:
    """Return exponentials of symmetric matrices (..., d, d)."""
    values, axes = np.linalg.eigh(matrices)
    return np.asarray((axes * np.exp(values)[..., None, :]) @ np.swapaxes(axes, -1, -2))


def make_family(centres: Floats, covariances: Floats, combination: Floats, shift: Floats) -> Family:
    """Build hypotheses from priors' centres (k, d) and covariances (k, d, d), affine weights (h, k), shifts (h, d).

    The covariance is interpolated by its logarithm, with the affine weights cut at zero: no hypothesis is narrower
    than its priors. The prior of the largest weight gives the events.
    """
    centre = combination @ centres + shift
    positive = np.maximum(combination, SMALLEST_WEIGHT)
    positive /= positive.sum(axis=1, keepdims=True)
    wanted = spd_exp(np.einsum("hk,kde->hde", positive, spd_log(covariances)))
    prior = combination.argmax(axis=1)
    root, inverse = spd_power(wanted, 0.5), spd_power(wanted, -0.5)
    matrix = inverse @ spd_power(root @ covariances[prior] @ root, 0.5) @ inverse
    offset = centres[prior] - np.einsum("hde,he->hd", matrix, centre)
    return Family(prior, matrix, offset, combination, shift)


def broad_family(
    centres: Floats,
    covariances: Floats,
    rng: np.random.Generator,
    *,
    n: int | None = None,
    beyond: float | None = None,
) -> Family:
    """Return the priors themselves, then random members of the family, n (BROAD) in all.

    A member is an affine combination of the priors, moved in each column by as much as the priors' centres differ there
    (heavy-tailed: the columns in which they agree are left alone, in the others a signal may lie beyond them all), and
    by a little in all. beyond: how far, in units of the scatter of the centres (BEYOND).
    """
    k, d = centres.shape
    n = max((BROAD if n is None else n) - k, 1)
    scale = BEYOND if beyond is None else beyond
    draw = rng.normal(size=(n, k))
    combination = 1 / k + SPREAD * (draw - draw.mean(axis=1, keepdims=True)) / np.sqrt(k)
    low, high = np.log(SHIFTS) - 0.5 * np.log(d)
    shift = np.exp(rng.uniform(low, high, size=(n, 1))) * rng.normal(size=(n, d))
    if k > 1:
        shift[::2] += scale * centres.std(axis=0) * rng.standard_t(TAILS, size=(n, d))[::2]
    return make_family(
        centres, covariances, np.concatenate([np.eye(k), combination]), np.concatenate([np.zeros((k, d)), shift])
    )


def next_generation(
    family: Family, log_ratio: Floats, centres: Floats, covariances: Floats, *, step: float, rng: np.random.Generator
) -> Family:
    """Return REFINED hypotheses near the better ones of a family."""
    weight = np.exp((log_ratio - log_ratio.max()) / max(1.0, log_ratio.max() / 6))
    parent = rng.choice(len(family), REFINED, p=weight / weight.sum())
    k, d = centres.shape
    draw = rng.normal(size=(REFINED, k))
    combination = family.combination[parent] + step * (draw - draw.mean(axis=1, keepdims=True)) / np.sqrt(k)
    scale = np.maximum(np.sqrt(np.mean(family.shift[parent] ** 2, axis=1, keepdims=True)), SHIFTS[0] / np.sqrt(d))
    shift = family.shift[parent] + step * scale * rng.normal(size=(REFINED, d))
    return make_family(centres, covariances, combination, shift)


def profile_fraction(log_ratio: Floats, n_rows: int, mean_gain: float = 0.0) -> tuple[float, float]:
    """Maximise Σ log(1 + w (r − 1)) − n log(1 + w g) over the fraction w in [0, MAX_FRACTION]; return maximum and w.

    log_ratio: ln r of the rows near the hypothesis; the other of n_rows have r = 0. mean_gain: g, the mean of r − 1 over
    background events: 0 where p_b is exact, else what its errors feign, taken off (the Donsker-Varadhan bound of the
    divergence of data from background, with ln(1 + w (r − 1)) as its function). Newton steps, kept inside a bracket.
    """
    gain = np.exp(np.minimum(log_ratio, MAX_LOG_RATIO)) - 1.0
    rest = n_rows - len(gain)

    def slope(w: float) -> tuple[float, float]:
        part, mean = gain / (1.0 + w * gain), mean_gain / (1.0 + w * mean_gain)
        first = float(part.sum() - rest / (1.0 - w) - n_rows * mean)
        return first, float(-(part**2).sum() - rest / (1.0 - w) ** 2 + n_rows * mean**2)

    if slope(0.0)[0] <= 0:
        return 0.0, 0.0
    low, high, w = 0.0, MAX_FRACTION, 1e-3
    for _ in range(60):
        first, second = slope(w)
        low, high = (w, high) if first > 0 else (low, w)
        following = w - first / second if second < 0 else low
        following = following if low < following < high else 0.5 * (low + high)
        if abs(following - w) < 1e-7:
            break
        w = following
    value = float(np.log1p(w * gain).sum() + rest * np.log1p(-w) - n_rows * np.log1p(w * mean_gain))
    return max(value, 0.0), w


LogDensity = Callable[[int, Floats], Floats]
"""What `adapt` needs to know of the priors' models: log density of prior k at rows (n, d), in nats."""


def log_ratios(
    family: Family, rows: Floats, background: Floats, centres: Floats, covariances: Floats, density: LogDensity
) -> list[Floats]:
    """Return for each hypothesis log p_h/p_b of the rows near it; rows (n, d), background (n,) log densities."""
    d = rows.shape[1]
    reach = d + 4 * np.sqrt(2 * d) + 4  # squared, in the prior's spreads: what lies beyond is taken as p_h = 0
    inverse = spd_power(covariances, -0.5)
    found: list[Floats] = [np.empty(0)] * len(family)
    for prior in np.unique(family.prior):
        members = np.flatnonzero(family.prior == prior)
        carried, places = [], []
        for h in members:
            moved = rows @ family.matrix[h].T + family.offset[h]
            near = np.flatnonzero((((moved - centres[prior]) @ inverse[prior]) ** 2).sum(axis=1) < reach)
            carried.append(moved[near])
            places.append(near)
        values = density(int(prior), np.concatenate(carried))
        log_scale = np.linalg.slogdet(family.matrix[members])[1]
        ends = np.cumsum([len(place) for place in places])[:-1]
        for h, part, near, scale in zip(members, np.split(values, ends), places, log_scale, strict=True):
            found[h] = part + scale - background[near]
    return found


def joined(families: Sequence[Family]) -> Family:
    """Return several families as one."""
    return Family(*(np.concatenate([getattr(f, name) for f in families]) for name in Family.__dataclass_fields__))


def adapt(
    rows: Floats,
    background: Floats,
    centres: Floats,
    covariances: Floats,
    density: LogDensity,
    *,
    rng: np.random.Generator,
    reference: tuple[Floats, Floats] | None = None,
) -> Adaptation:
    """Weigh the family of the priors by unlabelled data.

    rows: (n, d) data in the common space; background: (n,) log p_b there; centres (k, d), covariances (k, d, d) of the
    priors; density: their models. reference: rows (m, d) of pure background and log p_b there, against which errors of
    the background model are taken off.
    """

    def profiles(family: Family) -> tuple[Floats, Floats]:
        ratios = log_ratios(family, data[0], data[1], centres, covariances, density)
        means = np.zeros(len(family))
        if known is not None:
            seen = log_ratios(family, known[0], known[1], centres, covariances, density)
            means = np.array([np.exp(np.minimum(r, MAX_LOG_RATIO)).sum() / len(known[0]) - 1.0 for r in seen])
        found = [profile_fraction(r, len(data[0]), float(m)) for r, m in zip(ratios, means, strict=True)]
        return np.array([f[0] for f in found]), np.array([f[1] for f in found])

    data = at_most(rows, background, rng)
    known = None if reference is None else at_most(*reference, rng)
    families = [broad_family(centres, covariances, rng)]
    ratio, fraction = profiles(families[0])
    for generation in range(GENERATIONS):
        step = STEP * COOLING**generation
        families.append(next_generation(joined(families), ratio, centres, covariances, step=step, rng=rng))
        more, w = profiles(families[-1])
        ratio, fraction = np.concatenate([ratio, more]), np.concatenate([fraction, w])
    family = joined(families)
    k, n_broad = len(centres), len(families[0])
    prior_mass = np.full(len(family), 1.0 / (TRIALS * (len(family) - n_broad)))
    prior_mass[:n_broad] = (1.0 - UNMOVED) / max(n_broad - k, 1)
    prior_mass[:k] = UNMOVED / k
    log_weight = np.log(prior_mass) + ratio / TEMPERATURE
    weights = np.exp(log_weight - log_weight.max())
    weights /= weights.sum()
    best = int(ratio.argmax())
    log.debug("best hypothesis: log ratio %.1f at a fraction of %.4f", ratio[best], fraction[best])
    return Adaptation(family, weights, ratio, fraction, float(weights[n_broad:].sum()), len(data[0]))


def at_most(rows: Floats, values: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return MAX_ROWS random rows and their values, or all where there are no more."""
    if len(rows) <= MAX_ROWS:
        return rows, values
    part = rng.choice(len(rows), MAX_ROWS, replace=False)
    return rows[part], values[part]


def sample_family(
    family: Family, weights: Floats, samples: Sequence[Floats], n: int, *, rng: np.random.Generator
) -> Floats:
    """Return n events (n, d) of a family with weights (h,), carried from the priors' own events, in the common space."""
    chosen = rng.choice(len(family), n, p=weights)
    out = np.empty((n, samples[0].shape[1]))
    for h in np.unique(chosen):
        place = np.flatnonzero(chosen == h)
        events = samples[family.prior[h]]
        picked = events[rng.integers(len(events), size=len(place))]
        out[place] = np.linalg.solve(family.matrix[h], (picked - family.offset[h]).T).T
    return out
