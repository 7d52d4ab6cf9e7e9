"""The tail of a scan's global p-value beyond its last pseudo-experiment: a fit, its error, and the bound beside it.

Excesses over a high threshold follow a generalised Pareto distribution (Pickands, doi:10.1214/aos/1176343003). For
t = -ln(smallest p) it is close to an exponential of scale 1, whose shape is 0: the p-value of one mass is uniform, and
the number of independent masses grows with t only as its square root (arXiv:1005.1891). That growth makes the fit of a
scan conservative: 10 to 100 times beyond 2,000 experiments p comes out 1.1 to 1.7 times too large on average, against a
statistical factor of 2.0 to 2.5 to either side (a test measures both). An extrapolation rests on the shape of the tail; the
limit from the pseudo-experiments alone does not, and always stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from ...errors import InputError
from ..fits.log_p import p_of_log

__all__ = ["TailFit", "fit_tail", "upper_limit"]

Floats = npt.NDArray[np.float64]
ENOUGH_ABOVE = 10  # pseudo-experiments above the observation: from here on their share is better than any fit
TAIL_SHARE = 0.05
MIN_TAIL, MAX_TAIL = 100, 250  # more of them would only reach back to where the slope is still another
MIN_EXPERIMENTS = 400  # 100 excesses of fewer are no tail
MIN_KS = 0.01
FREE_SHAPE = 2.0  # sigma of the excesses' spread over that of an exponential, from where the shape is fitted
MAX_SHAPE = 0.5
STEPS, SHAPE_STEPS, REACH = 400, 51, 6.0  # of the likelihood's grid: points, and sigma of the scale to either side
HALF_WIDTH = 0.5  # in ln L: the 68 % interval of one parameter


@dataclass(frozen=True)
class TailFit:
    """A global p-value extrapolated by a fit of the tail of t.

    p, z: of the observed t, z one-sided; low, high: 68 % interval of p by the profile likelihood; n_tail: excesses fitted;
    threshold, scale: of t, in units of ln p; shape: 0 for an exponential; ks: Kolmogorov-Smirnov p of the excesses.
    """

    p: float
    z: float
    low: float
    high: float
    n_tail: int
    threshold: float
    scale: float
    shape: float
    ks: float


def upper_limit(above: int, n: int, *, confidence: float = 0.95) -> float:
    """Return the upper limit on p from `above` of n pseudo-experiments (Clopper-Pearson): 3 / n at 95 % for none."""
    if not 0 <= above <= n or n < 1:
        raise InputError(f"{above} of {n} pseudo-experiments: needed are one or more, and no more above than there are")
    return 1.0 if above == n else float(special.betaincinv(above + 1, n - above, confidence))


def fit_tail(t: npt.ArrayLike, observed: float) -> TailFit | None:
    """Fit the tail of t (n,) of background-only experiments and extrapolate it to the observed t.

    The highest 5 %, at least 100 and at most 250, are fitted by maximum likelihood; where their Kolmogorov-Smirnov p is
    below 0.05, the highest 100. The shape is 0 unless the excesses spread wider than an exponential by 2 sigma; it is then
    fitted between 0 and 0.5. It is never negative: that tail would end, and no p-value's does.
    None where the fit is no help: 10 or more experiments lie above, fewer than 400 were made, or the tail is no such
    distribution (KS p below 0.01). Raises InputError where a value is not finite.
    """
    values = np.sort(np.asarray(t, dtype=np.float64).ravel())[::-1]
    if not (np.all(np.isfinite(values)) and np.isfinite(observed)):
        raise InputError("the tail fit takes finite values of t alone")
    n = len(values)
    if n < MIN_EXPERIMENTS or int((values >= observed).sum()) >= ENOUGH_ABOVE:
        return None
    first = int(np.clip(TAIL_SHARE * n, MIN_TAIL, MAX_TAIL))
    if values[0] == values[MIN_TAIL]:
        return None
    found = extrapolated(values, first, observed)
    if found.ks < 0.05 and first > MIN_TAIL:
        found = extrapolated(values, MIN_TAIL, observed)
    return found if found.ks >= MIN_KS else None


def extrapolated(values: Floats, n_tail: int, observed: float) -> TailFit:
    """Fit the highest n_tail of t (n,), sorted downwards, and carry them on to the observed t."""
    threshold = float(values[n_tail])
    excess, distance = values[:n_tail] - threshold, observed - threshold
    mean = float(excess.mean())
    wide = np.sqrt(n_tail) * (float((excess**2).mean()) / (2 * mean**2) - 1) > FREE_SHAPE
    shapes = np.linspace(0.0, MAX_SHAPE, SHAPE_STEPS) if wide else np.zeros(1)
    reach = REACH / np.sqrt(n_tail) * (2.0 if wide else 1.0)
    scales = mean * np.exp(np.linspace(-reach, reach, STEPS + 1))
    likelihood = np.stack([log_likelihood(excess, scales, shape) for shape in shapes])
    log_survival = np.stack([-stretched(distance, scales, shape) for shape in shapes])
    s, i = np.unravel_index(int(likelihood.argmax()), likelihood.shape)
    rest = len(values) - n_tail

    def best(log_p: float) -> float:
        """Return the largest ln L of a given ln p: the share above the threshold follows from p and the tail."""
        share = np.minimum(log_p - log_survival, -1e-12)
        return float((likelihood + n_tail * share + rest * np.log(-np.expm1(share))).max())

    centre = float(np.log(n_tail / len(values)) + log_survival[s, i])
    wanted = best(centre) - HALF_WIDTH
    low, high = (edge_of(best, wanted, centre, direction) for direction in (-1.0, 1.0))
    return TailFit(
        p=float(p_of_log(centre)),
        z=float(-special.ndtri_exp(centre)),
        low=float(p_of_log(low)),
        high=float(p_of_log(high)),
        n_tail=n_tail,
        threshold=threshold,
        scale=float(scales[i]),
        shape=float(shapes[s]),
        ks=ks_of_exponential(stretched(excess, scales[i], float(shapes[s]))),
    )


def stretched(excess: npt.ArrayLike, scale: npt.ArrayLike, shape: float) -> Floats:
    """Return -ln of the share of a generalised Pareto tail beyond each excess; broadcasts excess and scale."""
    relative = np.asarray(excess, dtype=np.float64) / np.asarray(scale, dtype=np.float64)
    return np.asarray(np.log1p(shape * relative) / shape if shape > 0 else relative)


def log_likelihood(excess: Floats, scales: Floats, shape: float) -> Floats:
    """Return ln L of the excesses (m,) for each scale (k,) at one shape: (k,)."""
    beyond = stretched(excess[None, :], scales[:, None], shape).sum(axis=1)
    return np.asarray(-len(excess) * np.log(scales) - (1 + shape) * beyond)


def edge_of(ln_l: Callable[[float], float], wanted: float, centre: float, direction: float) -> float:
    """Return where ln L of ln p falls to `wanted`, below (direction -1) or above (+1) its largest at `centre`."""
    far = 0.1
    while ln_l(centre + direction * far) > wanted:
        far *= 2
        if direction * far + centre >= 0:
            return 0.0
    return float(optimize.brentq(lambda log_p: ln_l(log_p) - wanted, centre, centre + direction * far, xtol=1e-4))


@cache
def exponential_distances(n: int) -> Floats:
    """Return the Kolmogorov-Smirnov distances (2000,) of n exponential values from the exponential fitted to them, sorted."""
    rng = np.random.default_rng([n, 0x7A11])
    return np.sort(ks_distance(rng.exponential(size=(2000, n))))


def ks_distance(values: Floats) -> Floats:
    """Return the Kolmogorov-Smirnov distance of each row (..., n) from an exponential of its own mean."""
    n = values.shape[-1]
    expected = -np.expm1(-np.sort(values, axis=-1) / values.mean(axis=-1, keepdims=True))
    steps = np.arange(n + 1) / n
    return np.asarray(np.maximum(steps[1:] - expected, expected - steps[:-1]).max(axis=-1))


def ks_of_exponential(values: Floats) -> float:
    """Return the p-value of the distance of values (n,) from an exponential whose mean is fitted to them (Lilliefors).

    The tables of Kolmogorov and Smirnov know of no fitted mean and would give p = 0.2 for 0.05.
    """
    reference = exponential_distances(len(values))
    beyond = len(reference) - int(np.searchsorted(reference, float(ks_distance(values))))
    return (1 + beyond) / (1 + len(reference))
