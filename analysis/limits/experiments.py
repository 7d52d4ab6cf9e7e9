"""CLs and local p by pseudo-experiments, for windows where a few events are expected and asymptotic formulas do not hold.

Experiments are drawn from the likelihood at several signal strengths at once, the background's and the nuisances' parameters
fitted to the data at each: counts, and the auxiliary measurements of the signal's nuisances; the constraints of backgrounds
are none and stay centred. One set of experiments then serves every hypothesis, weighted by its likelihood over that of the
mixture: what is far in the tail of one hypothesis is common under another, and a limit varies smoothly with mu.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import interpolate, special

from .asymptotic import MU_MAX, SIGMAS, NoLimit, asymptotic_limits, needed
from .fit import Fit, Likelihood
from .likelihood import Observed

__all__ = ["ExperimentLimits", "ExperimentP", "experiment_limits", "experiment_p"]

Floats = npt.NDArray[np.float64]
POINTS = 9  # signal strengths at which CLs is found; between them ln CLs is interpolated
SAME = 1e-5  # of 2 ln L: two experiments this close are as extreme as each other
MOST_FAILED = 0.02  # of the experiments' fits: beyond, what is left is no sample of a hypothesis
WIDER = 6  # how often the range of signal strengths is widened


@dataclass(frozen=True, repr=False)
class ExperimentLimits:
    """Limits by experiments: values (6,), observed and expected at -2, -1, 0, 1, 2 sigma; errors (6,), statistical; n
    experiments, failed of them."""

    values: Floats
    errors: Floats
    n: int
    failed: int

    def __repr__(self) -> str:
        """Return the observed limit in a line."""
        return f"ExperimentLimits({self.values[0]:.4g} ± {self.errors[0]:.2g}, {self.n} experiments, failed: {self.failed})"


@dataclass(frozen=True)
class ExperimentP:
    """Local p by experiments with its statistical error, of the signed root of 2 ln L; n experiments, failed of them."""

    p: float
    error: float
    n: int
    failed: int


class Drawn:
    """Experiments from a mixture of hypotheses, with their best fits. lower: of the signal strength in these."""

    def __init__(
        self,
        likelihood: Likelihood,
        hypotheses: Sequence[Fit],
        shares: Sequence[int],
        *,
        data: Observed,
        seed: int,
        lower: float,
    ) -> None:
        rng = np.random.default_rng(np.random.SeedSequence([seed, 0xC15]))
        self.likelihood, self.data = likelihood, data
        counts, auxiliary, starts = [], [], []
        for at, n in zip(hypotheses, shares, strict=True):
            nu = likelihood.expected(at)
            counts.append(rng.poisson(nu, size=(n, *nu.shape)).astype(np.float64))
            auxiliary.append(at.alpha + rng.normal(size=(n, len(at.alpha))))
            starts += [at] * n
        self.counts, self.auxiliary = np.concatenate(counts), np.concatenate(auxiliary)
        self.seen = [Observed(c, a, data.centre) for c, a in zip(self.counts, self.auxiliary, strict=True)]
        self.without = [likelihood.fit(0.0, to=s, near=at) for s, at in zip(self.seen, starts, strict=True)]
        self.best = [likelihood.fit(to=s, near=b, lower=lower) for s, b in zip(self.seen, self.without, strict=True)]
        self.last = list(self.best)
        self.good = np.array([a.converged and b.converged for a, b in zip(self.without, self.best, strict=True)])
        chances = np.stack([self.log_chance(at) + np.log(n) for at, n in zip(hypotheses, shares, strict=True)])
        self.log_mixture = special.logsumexp(chances, axis=0)

    def log_chance(self, at: Fit) -> Floats:
        """Return ln of the probability of each experiment (n,) under one hypothesis, up to what all of them share."""
        nu = self.likelihood.expected(at)
        events = (self.counts * np.log(nu)).sum(axis=(1, 2)) - nu.sum()
        return np.asarray(events - 0.5 * ((self.auxiliary - at.alpha) ** 2).sum(axis=1))

    def weights(self, at: Fit) -> Floats:
        """Return what each experiment (n,) stands for under one hypothesis; their sum is 1."""
        logs = np.where(self.good, self.log_chance(at) - self.log_mixture, -np.inf)
        weights = np.exp(logs - logs.max())
        return np.asarray(weights / weights.sum())

    def qtilde(self, mu: float) -> Floats:
        """Return qtilde of a signal strength in each experiment (n,): 0 where the best fit lies above it."""
        q = np.zeros(len(self.seen))
        for i, (seen, best) in enumerate(zip(self.seen, self.best, strict=True)):
            if self.good[i] and best.mu < mu:
                self.last[i] = fit = self.likelihood.fit(mu, to=seen, near=self.last[i])
                q[i] = 2 * max(fit.nll - best.nll, 0.0)
                self.good[i] = fit.converged
        return q

    @property
    def failed(self) -> int:
        """Return how many experiments a fit failed in; raises NoLimit where these are more than a few."""
        failed = int((~self.good).sum())
        if failed > MOST_FAILED * len(self.good):
            raise NoLimit(f"the fits of {failed} of {len(self.good)} pseudo-experiments did not converge")
        return failed


def experiment_limits(
    likelihood: Likelihood, level: float, *, n: int, seed: int, to: Observed | None = None
) -> ExperimentLimits:
    """Return the signal strengths whose CLs is `level` by n experiments, observed and expected; to: what stands in for the data.

    CLs = P(qtilde >= seen | mu) / P(qtilde >= seen | 0); the expected limits are those of the quantiles of qtilde without
    signal. Raises NoLimit where fits fail and where there is no limit up to MU_MAX.
    """
    data = to or likelihood.data
    try:
        guess = np.clip(asymptotic_limits(likelihood, level, to=to), 1e-3, 0.5 * MU_MAX)
    except NoLimit:
        guess = np.array([1.0, 0.5, 0.7, 1.0, 1.4, 2.0])
    background = needed(likelihood.fit(0.0, to=to), "the fit without signal")
    best = needed(likelihood.fit(to=to, near=background), "the fit with signal")
    at = {
        mu: needed(likelihood.fit(mu, to=to, near=background), "a fit with signal")
        for mu in (guess[3], guess[[0, 5]].max())
    }
    drawn = Drawn(
        likelihood,
        [background, *at.values()],
        [n - (len(at) * (n // 4)), *[n // 4] * len(at)],
        data=data,
        seed=seed,
        lower=0.0,
    )
    without = drawn.weights(background)
    found: dict[float, tuple[Floats, Floats]] = {}

    def evaluate(mu: float) -> None:
        fixed = needed(likelihood.fit(mu, to=to, near=background), f"a fit of the data at mu = {mu:.4g}")
        seen = 2 * max(fixed.nll - best.nll, 0.0) if best.mu < mu else 0.0
        found[mu] = log_cls_of_experiments(drawn.qtilde(mu), seen, drawn.weights(fixed), without)

    low, high = 0.5 * guess.min(), 1.4 * guess.max()
    for mu in np.geomspace(low, high, POINTS):
        evaluate(float(mu))
    for _ in range(WIDER):
        first, last = found[min(found)][0], found[max(found)][0]
        if last.max() > np.log(level) and max(found) < MU_MAX:
            evaluate(1.5 * max(found))
        elif first.min() < np.log(level):
            evaluate(0.5 * min(found))
        else:
            break
    mus = np.array(sorted(found))
    curves, errors = np.stack([found[mu][0] for mu in mus]), np.stack([found[mu][1] for mu in mus])
    values, spread = np.empty(6), np.empty(6)
    for i in range(6):
        values[i], spread[i] = crossing(mus, curves[:, i], errors[:, i], float(np.log(level)))
    return ExperimentLimits(values, spread, n, drawn.failed)


def log_cls_of_experiments(q: Floats, seen: float, with_signal: Floats, without: Floats) -> tuple[Floats, Floats]:
    """Return ln CLs of what was seen and of the quantiles of experiments without signal, (6,), and their statistical errors.

    q: qtilde (n,) of experiments with their weights under both hypotheses.
    """
    order = np.argsort(-q, kind="stable")
    sorted_q = q[order]
    # as extreme as the last one that is no more than rounding below it
    last = np.searchsorted(-sorted_q, -(sorted_q - SAME * (1 + sorted_q)), side="right") - 1
    above, below = np.cumsum(with_signal[order])[last], np.cumsum(without[order])[last]
    # quantiles of CLs itself: where few experiments are as extreme, it does not quite fall with qtilde
    cls = above / np.maximum(below, 1e-300)
    ranked = np.argsort(cls, kind="stable")
    chance = np.cumsum(without[order][ranked])
    at = [min(int(np.searchsorted(chance, special.ndtr(sigma) - 1e-9)), len(q) - 1) for sigma in SIGMAS]
    thresholds = [seen, *sorted_q[ranked[at]].tolist()]
    values, errors = np.empty(6), np.empty(6)
    for i, threshold in enumerate(thresholds):
        extreme = q >= threshold - SAME * (1 + threshold)
        signal, none = with_signal[extreme].sum(), without[extreme].sum()
        if not (signal > 0 and none > 0):
            values[i], errors[i] = (-np.inf if none > 0 else 0.0), np.inf
            continue
        values[i] = np.log(signal / none)
        pull = with_signal * (extreme - signal) / signal - without * (extreme - none) / none
        errors[i] = np.sqrt((pull**2).sum())
    return values, errors


def crossing(mus: Floats, curve: Floats, errors: Floats, goal: float) -> tuple[float, float]:
    """Return where a falling curve first reaches goal for good, between the points it is known at, and the error of that."""
    usable = np.isfinite(curve)
    x, y = np.log(mus[usable]), curve[usable]
    if len(x) < 2 or not y[-1] < goal:
        raise NoLimit("CLs by pseudo-experiments stays above its level at all signal strengths tried")
    i = int(np.flatnonzero(y >= goal)[-1]) if (y >= goal).any() else 0
    if not y[i] >= goal:
        raise NoLimit("CLs by pseudo-experiments lies below its level at all signal strengths tried")
    smooth = interpolate.PchipInterpolator(x, y)
    at = float(smooth.solve(goal, extrapolate=False)[-1])
    slope = float(smooth(at, 1))
    error = float(np.interp(at, x, errors[usable]))
    return float(np.exp(at)), float(np.exp(at) * error / max(-slope, 1e-3))


def experiment_p(likelihood: Likelihood, *, n: int, seed: int) -> ExperimentP:
    """Return the local p of the data by n experiments, half of them with the signal that was seen: p far below 1 / n has an error too.

    Raises NoLimit where fits fail.
    """
    background = needed(likelihood.fit(0.0), "the fit without signal")
    best = needed(likelihood.fit(near=background, lower=-np.inf), "the fit with signal")
    hypotheses, shares = [background], [n]
    if best.mu > 0:
        hypotheses, shares = [background, best], [n - n // 2, n // 2]
    drawn = Drawn(likelihood, hypotheses, shares, data=likelihood.data, seed=seed, lower=-np.inf)
    z = np.array([signed(b, f) for b, f in zip(drawn.without, drawn.best, strict=True)])
    weights = drawn.weights(background)
    extreme = z >= signed(background, best) - SAME
    p = float(weights[extreme].sum())
    error = float(np.sqrt(((weights * (extreme - p)) ** 2).sum()))
    return ExperimentP(p, error, n, drawn.failed)


def signed(without: Fit, best: Fit) -> float:
    """Return the signed root of twice the gain of a signal."""
    return float(np.sign(best.mu) * np.sqrt(2 * max(without.nll - best.nll, 0.0)))
