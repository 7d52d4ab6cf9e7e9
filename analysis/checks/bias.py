"""The bias test: what the hunt says of experiments that its own background function did not make.

Several smooth functions describe a spectrum as well as the hunt's (`fits/alternatives.py`), and any of them may be the
truth. Each is a truth in turn: experiments are drawn from it, signals are added at a few masses, and the hunt's own
procedure is run on them. Where the hunt's function is too stiff the yields are biased, their intervals hold the truth too
seldom, and local and global p are too small, which no experiment drawn from the hunt's own fit can show.

The global p of an experiment is the rank of its smallest combined p among the pseudo-experiments of the analysis.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from ...errors import InputError
from ...files import finite
from ...pieces import NONE_KEPT, Pieces
from ..fits.alternatives import ALTERNATIVES, Alternative, same_curve
from ..fits.gaussian_process import GAUSSIAN_PROCESS
from ..fits.log_p import p_of_log
from ..goodness.envelope import none_left, other_families
from ..significance.bumphunt import BumpHunt
from ..significance.experiments import BLOCK
from ..significance.procedure import procedure

__all__ = ["Bias", "FamilyBias", "Share", "bias_test"]

Floats = npt.NDArray[np.float64]
STRENGTHS = (0.0, 2.0, 5.0)
PLACES = (0.0, 0.225, 0.45, 0.675, 0.9)
"""Of the scan, from its low edge on, where signals are injected; at its upper end next to no event is left."""


@dataclass(frozen=True)
class Share:
    """A share of n experiments: count of them, and the 95 % interval of Clopper and Pearson; NaN where there are none."""

    count: int
    n: int
    share: float
    low: float
    high: float

    def exceeds(self, allowed: float, *, level: float = 0.99) -> bool:
        """Tell whether the count lies above the central interval of a binomial of the allowed probability."""
        return self.n > 0 and self.count > stats.binom.isf(0.5 * (1 - level), self.n, allowed)


def share_of(chosen: npt.NDArray[np.bool_]) -> Share:
    """Count the experiments chosen of all."""
    count, n = int(chosen.sum()), chosen.size
    if n == 0:
        return Share(0, 0, math.nan, math.nan, math.nan)
    interval = stats.binomtest(count, n).proportion_ci()
    return Share(count, n, count / n, float(interval.low), float(interval.high))


@dataclass(frozen=True, repr=False)
class FamilyBias:
    """The hunt in n experiments drawn from one family.

    members: (regions,) the function that each region was drawn from, empty where the family does not describe the region, which was
    then drawn from the hunt's own fit; sigma: (regions, masses) injected at a strength of 1, the median error of the yield in
    events; bias: (regions, masses, strengths) mean of (fitted - injected) / error, width: its standard deviation,
    coverage: share of 68 % intervals that hold the injected yield, NaN where the family does not describe the region or
    fewer than two fits reached a minimum; failed: share of fits that did not; local_p: combined local p below 0.01 without
    a signal, at all masses together, local_p_at: (masses,) at each; global_p_5, global_p_1: global p below 0.05 and 0.01.
    """

    family: str
    members: tuple[str, ...]
    n: int
    sigma: Floats
    bias: Floats
    width: Floats
    coverage: Floats
    failed: float
    local_p: Share
    local_p_at: tuple[Share, ...]
    global_p_5: Share
    global_p_1: Share

    def __repr__(self) -> str:
        """Return the value in a line."""
        worst = self.worst
        return f"FamilyBias({self.name}, bias up to {math.nan if worst is None else self.bias[worst]:.2f} sigma, {self.n} experiments)"

    @property
    def name(self) -> str:
        """Return the function, or the family where regions were drawn from different members of it."""
        there = {member for member in self.members if member}
        return there.pop() if len(there) == 1 else self.family

    @property
    def worst(self) -> tuple[int, int, int] | None:
        """Return region, mass and strength of the largest |bias|; None where nothing is known."""
        if not np.isfinite(self.bias).any():
            return None
        r, m, s = np.unravel_index(int(np.nanargmax(np.abs(self.bias))), self.bias.shape)
        return int(r), int(m), int(s)

    @property
    def bias_error(self) -> float:
        """Return the statistical error of a bias, in sigma, where pulls are as wide as they should be."""
        return 1 / math.sqrt(self.n)

    @property
    def mean_coverage(self) -> float:
        """Return the mean coverage over regions, masses and strengths; NaN where nothing is known."""
        known = self.coverage[np.isfinite(self.coverage)]
        return float(known.mean()) if known.size else math.nan

    def as_dict(self) -> dict[str, Any]:
        """Return the family for JSON, NaN as null."""
        worst = self.worst
        return dict(
            finite(
                {
                    "family": self.family,
                    "name": self.name,
                    "members": list(self.members),
                    "sigma": self.sigma.tolist(),
                    "bias": self.bias.tolist(),
                    "bias_error": self.bias_error,
                    "pull_width": self.width.tolist(),
                    "coverage_68": self.coverage.tolist(),
                    "mean_coverage_68": self.mean_coverage,
                    "failed": self.failed,
                    "local_p_below_1_percent": vars(self.local_p),
                    "local_p_below_1_percent_at": [vars(share) for share in self.local_p_at],
                    "global_p_below_5_percent": vars(self.global_p_5),
                    "global_p_below_1_percent": vars(self.global_p_1),
                    "worst": None if worst is None else dict(zip(("region", "mass", "strength"), worst, strict=True)),
                }
            )
        )


@dataclass(frozen=True, repr=False)
class Bias:
    """The bias test of one hunt.

    regions: their names; masses: (GeV) that signals were injected at; strengths: in sigma; n: experiments a family and
    strength; families: those that describe a region and differ from one another; same: name -> name of a family of the same
    curve, which stands for it; undescribed: regions that no other family describes; fewest: (regions, masses) background
    events in the emptiest bin of the signal's window, in the hunt's own fit.
    """

    regions: tuple[str, ...]
    masses: tuple[float, ...]
    strengths: tuple[float, ...]
    n: int
    families: tuple[FamilyBias, ...]
    same: dict[str, str]
    undescribed: tuple[str, ...]
    fewest: Floats

    def __repr__(self) -> str:
        """Return the value in a line."""
        names = ", ".join(f.name for f in self.families) or "no other family describes these data"
        return f"Bias({names}; {self.n} experiments each)"

    def as_dict(self) -> dict[str, Any]:
        """Return the test for JSON."""
        return {
            "regions": list(self.regions),
            "masses": list(self.masses),
            "strengths": list(self.strengths),
            "experiments": self.n,
            "no_other_family_describes": list(self.undescribed),
            "same_curve": dict(self.same),
            "fewest_events_in_window": self.fewest.tolist(),
            "families": [family.as_dict() for family in self.families],
        }


def bias_test(
    found: BumpHunt,
    names: Sequence[str],
    *,
    n: int,
    null: Floats | None = None,
    others: Sequence[Sequence[Alternative]] | None = None,
    seed: int = 0,
    progress: bool = False,
    pieces: Pieces = NONE_KEPT,
) -> Bias:
    """Draw n experiments without a signal, and n with each signal, from every other family that describes the data; hunt in them.

    names: of the hunt's regions; null: smallest combined p of pseudo-experiments of the hunt's own fit, by default those that
    the hunt has made; others: (regions, families) of `other_families`; pieces: where finished blocks
    of experiments are kept. With n = 0 families are named and nothing is drawn. Raises InputError for a negative n and for names that
    are not one a region.
    """
    if n < 0 or len(names) != len(found.counts):
        raise InputError(
            f"{n} experiments in {len(names)} named regions: none or more, and {len(found.counts)} regions"
        )
    others = other_families(found) if others is None else others
    if null is None and found.global_p is not None:
        null = found.global_p.smallest
    at = np.unique((np.array(PLACES) * (len(found.masses) - 1)).round().astype(np.int64))
    truths, same = different_truths(found, others)
    made = []
    total = n * len(truths) * (1 + len(at) * (len(STRENGTHS) - 1))
    pace = 0.5 if sys.stderr.isatty() else 30.0
    bar = tqdm(total=total, desc="bias test", unit="exp", disable=not (progress and total), mininterval=pace)
    with bar, threadpool_limits(1):
        for family, members in truths.items() if n else ():
            number = list(ALTERNATIVES).index(family)
            own = np.random.SeedSequence([seed, 0xB1A, number])
            made.append(family_bias(found, family, members, at, n=n, null=null, seed=own, bar=bar, pieces=pieces))
    return Bias(
        regions=tuple(names),
        masses=tuple(found.masses[at].tolist()),
        strengths=STRENGTHS,
        n=n,
        families=tuple(made),
        same=same,
        undescribed=tuple(name for name, own in zip(names, others, strict=True) if none_left(own)),
        fewest=fewest_in_window(found, at),
    )


def different_truths(
    found: BumpHunt, others: Sequence[Sequence[Alternative]]
) -> tuple[dict[str, tuple[Alternative | None, ...]], dict[str, str]]:
    """Return family -> its member in each region, None where it does not describe the region; and names of those left out for names of their likes.

    A family that describes no region is none; one whose curves are those of an earlier family in every region is left out.
    """
    truths: dict[str, tuple[Alternative | None, ...]] = {}
    same: dict[str, str] = {}
    for families in zip(*others, strict=True):
        members = tuple(f if f.described else None for f in families)
        there = [f for f in members if f is not None]
        if not there:
            continue
        like = next(
            (
                name
                for name, other in truths.items()
                if same_curve(drawn_from(found, members), drawn_from(found, other))
            ),
            None,
        )
        if like is None:
            truths[there[0].family] = members
        else:
            same[name_of(members)] = name_of(truths[like])
    return truths, same


def name_of(members: Sequence[Alternative | None]) -> str:
    """Return the function of a family's members where they are one, else the family."""
    there = [f for f in members if f is not None]
    return there[0].name if len({f.name for f in there}) == 1 else there[0].family


def drawn_from(found: BumpHunt, members: Sequence[Alternative | None]) -> Floats:
    """Return the expected background (regions, bins) of a family, the hunt's own where it does not describe a region."""
    own = found.background.expected
    return np.stack([own[r] if member is None else member.expected for r, member in enumerate(members)])


def fewest_in_window(found: BumpHunt, at: npt.NDArray[np.int64]) -> Floats:
    """Return the background in the emptiest bin that holds 2 % of the template's highest or more: (regions, masses)."""
    templates = found.templates[at]
    inside = templates > 0.02 * templates.max(axis=1, keepdims=True)
    expected = found.background.expected[:, None, :]
    return np.asarray(np.where(inside[None], expected, np.inf).min(axis=2))


def hunted_at(found: BumpHunt, counts: Floats, at: npt.NDArray[np.int64]) -> dict[str, Floats]:
    """Hunt in experiments (size, regions, bins) as in pseudo-experiments, at number `at` of all templates.

    Returns signal and error (size, regions, masses), NaN where a fit reached no minimum, and ln of the combined p (size,
    masses). A Gaussian process is chosen by what the whole scan finds; else the fit at one mass knows nothing of other masses, and
    these alone are scanned.
    """
    whole = found.settings.family == GAUSSIAN_PROCESS
    templates = found.all_templates
    made = procedure(counts, found.edges, templates if whole else templates[at], found.experiment_settings)
    scan, kept = made.scan, at if whole else np.arange(len(at))
    good = scan.converged & np.isfinite(scan.error) & (scan.error > 0)
    shape = (len(counts), counts.shape[1], scan.z.shape[1])
    signal, error = (np.where(good, a, np.nan).reshape(shape)[:, :, kept] for a in (scan.signal, scan.error))
    return {"signal": signal, "error": error, "log_p": made.log_combined[:, kept]}


def family_bias(
    found: BumpHunt,
    family: str,
    members: Sequence[Alternative | None],
    at: npt.NDArray[np.int64],
    *,
    n: int,
    null: Floats | None,
    seed: np.random.SeedSequence,
    bar: tqdm[Any],
    pieces: Pieces,
) -> FamilyBias:
    """Hunt in experiments drawn from one family, without a signal and with signals at masses number `at`."""
    truth = drawn_from(found, members)
    rng = np.random.default_rng(seed)
    templates, at = found.all_templates, found.best_widths[at]
    own = pieces.of("bias", truth, found.edges, templates, found.experiment_settings, n, at, seed.entropy)

    def hunted(name: str, masses: npt.NDArray[np.int64], signal: Floats | None) -> dict[str, Floats]:
        """Hunt in n experiments with a signal (regions, bins)."""
        parts = []
        for start in range(0, n, BLOCK):
            size = min(BLOCK, n - start)
            # drawn whether they are kept or not: those of the next block follow from them
            counts = rng.poisson(truth, size=(size, *truth.shape)).astype(np.float64)
            if signal is not None:
                counts += rng.poisson(signal, size=counts.shape)
            parts.append(own.kept(f"{family}_{name}_{start}", functools.partial(hunted_at, found, counts, masses)))
            bar.update(size)
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    without = hunted("background", np.arange(len(templates)), None)
    signal, error = without["signal"][:, :, at], without["error"][:, :, at]
    sigma = usual_error(error, truth, templates[at])
    described = np.array([member is not None for member in members])
    shape = (len(truth), len(at), len(STRENGTHS))
    bias, width, coverage = (np.full(shape, np.nan) for _ in range(3))
    failed = fits = 0
    for m, mass in enumerate(at):
        for s, strength in enumerate(STRENGTHS):
            fitted, errors = signal[:, :, m], error[:, :, m]
            if strength > 0:
                injected = strength * sigma[:, m, None] * templates[mass]
                made = hunted(f"{mass}_{strength:g}", np.array([mass]), injected)
                fitted, errors = made["signal"][:, :, 0], made["error"][:, :, 0]
            pulls = (fitted - strength * sigma[:, m]) / errors
            failed, fits = failed + int(np.isnan(pulls).sum()), fits + pulls.size
            for r in np.flatnonzero(described & (np.isfinite(pulls).sum(axis=0) > 1)):
                pull = pulls[np.isfinite(pulls[:, r]), r]
                bias[r, m, s], width[r, m, s] = pull.mean(), pull.std(ddof=1)
                coverage[r, m, s] = (np.abs(pull) < 1).mean()
    local: npt.NDArray[np.bool_] = np.asarray(p_of_log(without["log_p"][:, at]) < 0.01)
    ranks = global_p(p_of_log(without["log_p"].min(axis=1)), null)
    return FamilyBias(
        family=family,
        members=tuple("" if member is None else member.name for member in members),
        n=n,
        sigma=sigma,
        bias=bias,
        width=width,
        coverage=coverage,
        failed=failed / fits,
        local_p=share_of(local),
        local_p_at=tuple(share_of(column) for column in local.T),
        global_p_5=share_of(ranks < 0.05),
        global_p_1=share_of(ranks < 0.01) if null is None or len(null) >= 100 else share_of(ranks[:0] < 0),
    )


def usual_error(error: Floats, truth: Floats, templates: Floats) -> Floats:
    """Return the median error of the yield (regions, masses) over experiments (n, regions, masses).

    It is that of counting in the window where no fit tells it, or it is larger than all events: the fits then determine nothing.
    """
    inside = templates > 0.02 * templates.max(axis=1, keepdims=True)
    counting = np.sqrt(np.maximum(truth @ inside.T, 1.0))
    told: npt.NDArray[np.bool_] = np.asarray(np.isfinite(error).any(axis=0))
    median = np.nanmedian(np.where(told[None], error, 0.0), axis=0)
    return np.asarray(np.where(told & (median <= np.maximum(truth.sum(axis=1), 1.0)[:, None]), median, counting))


def global_p(smallest: Floats, null: Floats | None) -> Floats:
    """Return the global p (n,) of experiments with a smallest combined p (n,) among those of the null (k,); empty without one."""
    if null is None or len(null) == 0:
        return np.empty(0)
    as_small = np.searchsorted(np.sort(null), smallest, side="right")
    return np.asarray((1 + as_small) / (1 + len(null)))
