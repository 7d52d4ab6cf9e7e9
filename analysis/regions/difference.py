"""Nested equal-population slices of one score, and the simplest such score: background loss less the smallest prior loss."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .cuts import slice_of, upper_cut
from .losses import as_losses
from .mass_curve import moving_cut
from .shape import Boundaries, Shape

__all__ = ["Difference", "Slices", "difference_score"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def difference_score(losses: npt.ArrayLike, alpha: float = 1.0) -> Floats:
    """Return L_b - alpha min_k L_k, or L_b alone where there are no priors: (n, 1 + n_priors) -> (n,)."""
    values = as_losses(losses)
    if values.shape[1] == 1:
        return values[:, 0]
    return np.asarray(values[:, 0] - alpha * values[:, 1:].min(axis=1))


@dataclass(frozen=True)
class Slices(Shape):
    """Nested slices of one score, the highest first.

    cuts: one row of n_regions descending boundaries, region r between cuts[r] and cuts[r - 1].
    """

    @abstractmethod
    def score(self, losses: Floats, own: Boundaries) -> Floats:
        """Return what the slices are cut in, for events of one fold: (n, 1 + n_priors) -> (n,)."""

    def standardised(self, losses: Floats) -> Boundaries:
        """Return the fold's boundaries without cuts: centre and scale of its axes, where the score has any."""
        del losses
        return Boundaries(())

    def fix(self, losses: Floats, mass: Floats | None = None, *, decorrelation: str | None = None) -> Boundaries:
        """Fix the slices at quantiles of the score, or at curves that keep the same share at every mass."""
        own = self.standardised(losses)
        score = self.score(losses, own)
        shares = [self.fraction * (r + 1) / self.n_regions for r in range(self.n_regions)]
        if decorrelation is None or mass is None:
            cuts = tuple(upper_cut(score, share) for share in shares)
            return Boundaries((cuts,), own.centre, own.scale)
        moving = [moving_cut(score, mass, share, decorrelation) for share in shares]
        cuts = tuple(cut for _, cut in moving)
        return Boundaries((cuts,), own.centre, own.scale, tuple(curve for curve, _ in moving))

    def assign(self, losses: Floats, own: Boundaries, mass: Floats) -> Ints:
        """Return the slice of each event, -1 below the last one."""
        score = self.score(losses, own)
        if own.curves:
            # slices are nested: the first boundary that an event passes
            passed = score[:, None] - own.followed(mass) > np.asarray(own.cuts[0])
            return np.asarray(np.where(passed.any(axis=1), passed.argmax(axis=1), -1), dtype=np.int64)
        index = slice_of(score, own.cuts[0])
        return np.asarray(np.where(index < self.n_regions, index, -1), dtype=np.int64)


@dataclass(frozen=True)
class Difference(Slices):
    """Nested slices of L_b - alpha min_k L_k."""

    @property
    def description(self) -> str:
        """Return what the regions are, in words for the report."""
        share = "" if self.alpha == 1 else f"{self.alpha:g} times "
        return f"nested slices of the background loss less {share}the signal's, the smallest there is"

    def score(self, losses: Floats, own: Boundaries) -> Floats:
        """Return L_b - alpha min_k L_k, L_b alone without priors."""
        del own
        return difference_score(losses, self.alpha)
