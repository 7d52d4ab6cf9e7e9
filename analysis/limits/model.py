"""The likelihood of one mass over a hunt's regions, all bins of all of them, and what its numbers mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ..significance.bumphunt import BumpHunt
from ..significance.q0 import signal_window
from .backgrounds import LEAST_WEIGHT, RegionBackground, background_models, standard
from .fit import Likelihood, likelihood_of
from .names import valid_names
from .signal_errors import SignalErrors, factors_of, templates_of

__all__ = ["LimitModel", "limit_model", "region_names", "shares"]

Floats = npt.NDArray[np.float64]
NO_SIGNAL = "no signal in it"


@dataclass(frozen=True, repr=False)
class LimitModel:
    """The likelihood of one mass over R regions of B bins, with what other programs need to build it again.

    mass: GeV; unit: signal events (at all masses, in all regions) at mu = 1; channels: region -> its name there, which others
    can hold; left_out: region -> why it is not in it; edges (B + 1,) GeV; counts (R, B); signal (R, B) events at mu = 1;
    shapes: nuisance -> signal (R, B) at +1 and -1 sigma; factors: nuisance -> what multiplies it (R,) at +1 and -1 sigma;
    backgrounds: in standard form; background: events expected in the window that holds 98 % of the signal.
    """

    mass: float
    unit: float
    channels: dict[str, str]
    left_out: dict[str, str]
    edges: Floats
    counts: Floats
    signal: Floats
    shapes: dict[str, tuple[Floats, Floats]]
    factors: dict[str, tuple[Floats, Floats]]
    backgrounds: tuple[RegionBackground, ...]
    background: float

    @property
    def names(self) -> tuple[str, ...]:
        """Return the regions in it."""
        return tuple(self.channels)

    @property
    def likelihood(self) -> Likelihood:
        """Return the likelihood of the counts."""
        return likelihood_of(self.counts, self.backgrounds, self.signal, shapes=self.shapes, factors=self.factors)

    def __repr__(self) -> str:
        """Return the value in a line."""
        return f"LimitModel({self.mass:g} GeV, {', '.join(self.names)}, mu = 1 is {self.unit:.3g} signal events)"


def limit_model(
    found: BumpHunt,
    mass: float,
    *,
    names: Sequence[str] | None = None,
    efficiencies: npt.ArrayLike | None = None,
    errors: SignalErrors | None = None,
    backgrounds: Sequence[RegionBackground] | None = None,
) -> LimitModel | str:
    """Build the likelihood of one mass (GeV) over a hunt's regions; where there can be none, the reason instead.

    efficiencies: (regions,) share of the signal events in each region; one region alone holds all by default. A region that
    holds no signal says nothing of it and is left out. There is no model where a region with signal has no
    background. backgrounds: `background_models(found)`, where they are known already. Raises InputError for a mass
    outside the bins and for efficiencies or errors that are none.
    """
    regions, errors = region_names(found, names), errors or SignalErrors()
    share = shares(efficiencies, len(regions), 1)[0]
    edges = found.edges
    if not edges[0] < mass < edges[-1]:
        raise InputError(f"limits are set at masses between {edges[0]:g} and {edges[-1]:g} GeV; found {mass:g}")
    made = background_models(found) if backgrounds is None else backgrounds
    used = np.flatnonzero(share > 0).tolist()
    valid = valid_names(regions)
    own = {regions[r]: valid[regions[r]] for r in used}
    template, moved = templates_of(found.shape, mass, edges, errors)
    factors = factors_of(errors, {valid[regions[r]]: r for r in used}, len(regions))
    failed = [regions[r] for r in used if not made[r].usable]
    if failed:
        return f"the background fit of {failed[0]} did not converge"
    kept = tuple(standard(made[r]) for r in used)
    signal = share[used, None] * template
    unit = 2.0 / float(np.sqrt(max(information(signal, kept), 1e-300)))
    shapes = {
        name: (unit * share[used, None] * high, unit * share[used, None] * low) for name, (high, low) in moved.items()
    }
    window = signal_window(template)
    return LimitModel(
        mass=float(mass),
        unit=unit,
        channels=own,
        left_out={name: NO_SIGNAL for r, name in enumerate(regions) if share[r] == 0},
        edges=edges,
        counts=found.counts[used].astype(np.float64),
        signal=unit * signal,
        shapes=shapes,
        factors=factors,
        backgrounds=kept,
        background=float(sum(b.expected[window].sum() for b in kept)),
    )


def information(signal: Floats, backgrounds: Sequence[RegionBackground]) -> float:
    """Return the information on the yield of a signal (R, B) with the backgrounds free: mu = 1 is two of its errors."""
    total = 0.0
    for events, background in zip(signal, backgrounds, strict=True):
        expected = np.maximum(background.expected, LEAST_WEIGHT)
        cross = background.basis.T @ events
        own = background.basis.T @ (expected[:, None] * background.basis) + np.diag(background.precision)
        total += float((events**2 / expected).sum() - cross @ np.linalg.lstsq(own, cross, rcond=None)[0])
    return total


def region_names(found: BumpHunt, names: Sequence[str] | None) -> tuple[str, ...]:
    """Return one name a region of the hunt; refuse another number of them, or one name twice."""
    regions = tuple(names) if names is not None else tuple(f"region {r}" for r in range(len(found.counts)))
    if len(regions) != len(found.counts) or len(set(regions)) != len(regions):
        raise InputError(f"{len(found.counts)} regions need as many different names; found {', '.join(regions)}")
    return regions


def shares(efficiencies: npt.ArrayLike | None, regions: int, masses: int) -> Floats:
    """Return the share of the signal in each region, (masses, regions), from one row or one row a mass."""
    if efficiencies is None:
        if regions > 1:
            raise InputError(
                f"limits over {regions} regions need efficiencies, the share of a signal that falls into each"
            )
        efficiencies = [1.0]
    given = np.asarray(efficiencies, dtype=np.float64)
    if given.shape not in {(regions,), (masses, regions)}:
        raise InputError(
            f"efficiencies have shape {given.shape}; allowed: ({regions},) for all masses or ({masses}, {regions})"
        )
    rows = np.broadcast_to(given, (masses, regions))
    good = np.isfinite(rows).all() and (rows >= 0).all() and (rows.sum(axis=1) <= 1 + 1e-9).all()
    if not good or not (rows > 0).any(axis=1).all():
        raise InputError(
            "efficiencies are shares of one signal in disjoint regions: each 0 or more, their sum above 0 and at most 1; "
            f"found {given.tolist()}"
        )
    return rows.copy()
