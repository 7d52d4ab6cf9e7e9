"""All checks of one hunt at full size: what `hunch validate` makes, and whether each of them passes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...pieces import NONE_KEPT, Pieces
from ...table import MJJ, Observable
from ..fits.log_p import stated_p
from ..regions.dependence import distance_correlation
from ..regions.difference import difference_score
from ..regions.regions import Regions
from ..regions.scored import Scored
from ..significance.bumphunt import BumpHunt
from ..significance.experiments import pseudo_experiments
from .background_only import Uniformity, local_p_uniformity
from .bias import Bias, bias_test
from .bias_checks import bias_checks
from .check import ASYMPTOTIC, Check
from .global_p import (
    GlobalUniformity,
    drawn_from_events,
    drawn_from_fit,
    global_uniformity,
    hunt_experiments,
    reaches,
    shared_distances,
)
from .injection import Linearity, injection_linearity

__all__ = ["Check", "Validation", "validate"]

Floats = npt.NDArray[np.float64]
PERMUTATIONS = 100
NULL = 4  # times the inner experiments: that the bias test ranks a smallest p among
LEAST_TAIL = 0.005  # share of local p below 1e-2 under which even a conservative tail fails
MOST_EVENTS = 20_000  # of a distance correlation, whose floor takes a hundred of them


@dataclass(frozen=True)
class Dependence:
    """dCorr^2 of the score that cuts first with the mass, of held-out events, and the 95 % quantile of shuffled ones."""

    score: str
    events: int
    dcorr2: float
    floor_95: float


@dataclass(frozen=True, repr=False)
class Validation:
    """Every check of one hunt; see `Linearity`, `Uniformity`, `GlobalUniformity`, `Dependence` and `Bias`.

    observable: what the masses are of.
    """

    injections: tuple[Linearity, ...]
    uniformity: tuple[Uniformity, ...]
    global_p: tuple[GlobalUniformity, ...]
    dependence: tuple[Dependence, ...]
    bias: Bias
    observable: Observable = MJJ

    def __repr__(self) -> str:
        """Return the value in a line."""
        verdicts = [check.passed for check in self.checks]
        return f"Validation({verdicts.count(True)} checks passed, {verdicts.count(False)} failed, {verdicts.count(None)} not judged)"

    @property
    def checks(self) -> tuple[Check, ...]:
        """Return a verdict for each check."""
        return (
            *(injection_check(of) for of in self.injections),
            *(check for of in self.uniformity for check in uniformity_checks(of)),
            *(global_check(of) for of in self.global_p),
            *bias_checks(self.bias, self.observable),
            *(
                Check(
                    f"distance correlation of {of.score} with the mass",
                    f"{of.dcorr2:.2g}",
                    f"{of.floor_95:.2g} (95 % of shuffled events); a smooth trend is absorbed by the fit",
                    None if of.dcorr2 > of.floor_95 else True,
                )
                for of in self.dependence
            ),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return {
            "injections": [asdict(of) for of in self.injections],
            "uniformity": [asdict(of) for of in self.uniformity],
            "global_p": [asdict(of) for of in self.global_p],
            "dependence": [asdict(of) for of in self.dependence],
            "bias": self.bias.as_dict(),
            "checks": [asdict(check) for check in self.checks],
        }


def injection_check(of: Linearity) -> Check:
    """Judge the slope of fitted against injected yields, and the pulls of 0 to 5 sigma.

    Where a bin of the window expects fewer than ten events a yield has no normal error: what fails there is stated, without verdict.
    """
    known = np.isfinite(of.pull_mean)
    name = f"injected signals, {of.region} at {of.mass:.0f} GeV"
    emptiest = f"{of.fewest:.2g} events in the emptiest bin of the window"
    allowed = f"slope 0.9 to 1.1, pull mean within 0.3, width 0.8 to 1.2; with fewer than {ASYMPTOTIC:.0f} events in a bin no verdict but pass"
    no_verdict = None if of.fewest < ASYMPTOTIC else False
    if not known.all():
        found = (
            f"{sum(of.failed)} of {of.n * len(of.strengths)} fits reached no minimum, too many to judge by; {emptiest}"
        )
        return Check(name, found, allowed, no_verdict)
    pull, width, share = np.abs(of.pull_mean).max(), np.array(of.pull_width), of.coverage_68
    error = 5 / np.sqrt(of.n)
    good = bool(abs(of.slope - 1) < 0.1 and pull < 0.3 + error and abs(width - 1).max() < 0.2 + error)
    return Check(
        name,
        f"slope {of.slope:.3f}, pull mean up to {pull:.2f}, width {width.min():.2f} to {width.max():.2f}, "
        f"68 % intervals hold the truth in {100 * min(share):.0f} to {100 * max(share):.0f} %; {emptiest}",
        allowed,
        True if good else no_verdict,
    )


def uniformity_checks(of: Uniformity) -> tuple[Check, Check]:
    """Judge tail and bulk of the local p. A bulk that is not uniform fails where bins hold ten events and the formula should hold.

    The experiments are drawn from the hunt's own fit: that its function is wrong only the bias test can see. With fewer events
    asymptotic z are shifted by up to 0.1, and a region alone is one of many: then it is stated and no verdict.
    A tail with too many small p-values fails. One with too few, but half of them or more, is conservative: no excess is overstated, so
    it is stated and no verdict (an order of the background that rises with a fluctuation does it); with less than half it fails too.
    """
    where = f"local p, {of.region} at {of.mass:.0f} GeV, {of.n} experiments of the same fit, which cannot show a wrong function"
    judged = of.fewest >= ASYMPTOTIC and of.region == "combined"
    conservative = not of.excessive and not of.compatible
    tail: bool | None = of.compatible or (conservative and not judged)
    if not tail and (of.region != "combined" or (conservative and of.below_1_percent >= LEAST_TAIL)):
        tail = None
    return (
        Check(
            f"{where}, tail",
            f"below 1e-2: {of.below_1_percent:.4f}, below 1e-3: {of.below_0_1_percent:.5f}"
            + ", conservative" * conservative,
            "inside 99 % binomial intervals; below them where bins hold few events, else no verdict from half the rate on",
            tail,
        ),
        Check(
            f"{where}, bulk",
            f"KS p {stated_p(of.ks_p)}, {of.ks_distance:.3f} from uniform at most; {of.fewest:.2g} events in the emptiest bin of the window",
            f"KS p above 0.01; with fewer than {ASYMPTOTIC:.0f} events in a bin, or one region alone, no verdict",
            True if of.ks_p > 0.01 else False if judged else None,
        ),
    )


def global_check(of: GlobalUniformity) -> Check:
    """Judge the global p of outer experiments."""
    shared = "" if of.ks_p_shared is None else f" ({of.ks_p_shared:.2g} among experiments that share such a pool)"
    # a p of n experiments ends at 1 / (1 + n): what lies below is no finding
    tail = f"{of.below_1_percent:.3f}" if reaches(of.inner, 0.01) else f"not told by {of.inner} inner ones, 99 would"
    return Check(
        f"global p, {of.n} outer experiments of {of.inner} inner ones, drawn from {of.how}",
        f"below 0.05: {of.below_5_percent:.3f}, below 0.01: {tail}, KS p {stated_p(of.ks_p)}{shared}",
        "rejections within 99 % binomial intervals, KS p above 0.01, of the shared pool where there is one",
        of.compatible,
    )


def dependence_on_mass(events: Scored, regions: Regions, *, rng: np.random.Generator) -> Dependence:
    """Measure how far the loss difference of background events depends on the mass."""
    rows = rng.permutation(len(events.mass))[:MOST_EVENTS]
    losses = events.along(regions.axes)[rows]
    several = losses.shape[1] > 1
    score = difference_score(losses, regions.alpha) if several else losses[:, 0]
    mass = events.mass[rows]
    floor = [distance_correlation(score, rng.permutation(mass)) for _ in range(PERMUTATIONS)]
    return Dependence(
        "the loss difference" if several else "the background loss",
        len(rows),
        distance_correlation(score, mass),
        float(np.quantile(floor, 0.95)),
    )


def validate(
    found: BumpHunt,
    names: Sequence[str],
    *,
    seed: int = 0,
    events: float | None = None,
    pool: Scored | None = None,
    regions: Regions | None = None,
    local: int = 10_000,
    injected: int = 1_000,
    outer: int = 200,
    inner: int = 500,
    workers: int = 1,
    progress: bool = True,
    pieces: Pieces = NONE_KEPT,
) -> Validation:
    """Make every check of a hunt over regions called `names`.

    pool, regions: scored background events that no model trained on, and the regions they fall into, for the outer
    experiments (events: how many of the pool's kind were hunted in) and the dependence on the mass; without them the outer experiments are drawn from
    the hunt's own fits. local, injected, outer, inner: numbers of pseudo-experiments, `injected` of a strength, of the bias
    test too, whose global p are ranked among four times `inner`; outer 0 leaves the global p out. pieces: where finished
    experiments are kept.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x7A1]))
    mass = float(found.masses[found.best])
    lowest = found.background.order.tolist()
    expected = found.background.expected
    injections = tuple(
        injection_linearity(
            expected[r],
            found.edges,
            mass,
            shape=found.shape,
            settings=found.settings,
            region=name,
            n=injected,
            lowest=lowest[r],
            pieces=pieces,
        )
        for r, name in enumerate(names)
    )
    middle = np.unique(np.append(np.linspace(0, len(found.masses) - 1, 5).astype(int)[1:-1], found.best))
    uniformity = local_p_uniformity(
        expected,
        found.edges,
        found.masses[middle],
        shape=found.shape,
        settings=found.experiment_settings,
        n=local,
        names=names if len(names) > 1 else (),
        progress=progress,
        pieces=pieces,
    )
    judged: tuple[GlobalUniformity, ...] = ()
    dependence: tuple[Dependence, ...] = ()
    if pool is not None and regions is not None:
        inside = pool.select((pool.mass >= found.edges[0]) & (pool.mass < found.edges[-1]))
        dependence = (dependence_on_mass(inside, regions, rng=rng),)
    if outer > 0:
        if pool is not None and regions is not None:
            wanted = float(len(pool.mass)) if events is None else events
            spectra, mean, how = drawn_from_events(pool, regions, found.edges, events=wanted, n=outer, rng=rng)
        else:
            spectra, mean, how = drawn_from_fit(found, n=outer, rng=rng)
        running: dict[str, Any] = {"seed": seed, "workers": workers, "progress": progress, "pieces": pieces}
        p = hunt_experiments(spectra, found, inner=inner, **running)
        shared = None
        if pool is not None and regions is not None:
            times = len(pool.mass) / mean
            shared = shared_distances(found, times=times, n=outer, **running)
        judged = (global_uniformity(p, how=how, inner=inner, events=mean, shared=shared),)
    settings = dataclasses.replace(found.experiment_settings, pseudo_experiments=NULL * inner, seed=seed)
    null = pseudo_experiments(
        expected,
        found.edges,
        found.all_templates,
        float(found.log_combined.min()),
        settings=settings,
        progress=progress,
        pieces=pieces,
    )
    bias = bias_test(found, names, n=injected, null=null.smallest, seed=seed, progress=progress, pieces=pieces)
    return Validation(injections, tuple(uniformity), judged, dependence, bias, found.settings.observable)
