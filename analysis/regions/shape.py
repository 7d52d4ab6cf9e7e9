"""What a shape of regions is: it fixes the boundaries of one fold, and assigns that fold's events to its regions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from .mass_curve import MassCurve

__all__ = ["Boundaries", "Groups", "Rows", "Shape"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Rows = tuple[tuple[float, ...], ...]
Groups = tuple[tuple[int, ...], ...]
MIN_EVENTS = 150


@dataclass(frozen=True)
class Boundaries:
    """The boundaries of one fold.

    cuts: rows of boundaries, whose meaning the shape says; centre, scale: (n_priors,) of each prior axis, where the shape
    standardises them; curves: one for each boundary that follows the mass, and then the cuts are of the score less its curve.
    """

    cuts: Rows
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    curves: tuple[MassCurve, ...] = ()

    def followed(self, mass: Floats) -> Floats:
        """Return what is subtracted from the score at each boundary: mass (n,) GeV -> (n, boundaries)."""
        return np.stack([curve.at(mass) for curve in self.curves], axis=1)


@dataclass(frozen=True)
class Shape(ABC):
    """A way to divide the space of losses: how many regions, alpha of the loss differences, and the share they keep together.

    groups: the priors of each branch of a tree, or the neighbourhoods of each region of a mosaic, from 0; losses have shape
    (n, 1 + n_priors), the background's first.
    """

    n_regions: int
    alpha: float
    fraction: float
    groups: Groups = ()

    follows_mass: ClassVar[bool] = True
    """Whether the boundaries can follow the mass."""
    needs_hypotheses: ClassVar[bool] = False
    """Whether one model with losses of several signal hypotheses is needed."""
    combination: ClassVar[str] = "fisher"
    """How the regions' p-values are combined where nobody chose: a signal is spread over several regions, or is in one."""
    least_events: ClassVar[int] = MIN_EVENTS
    """Background events that a region expects at least: a smaller fraction is raised."""

    @property
    @abstractmethod
    def description(self) -> str:
        """Return what the regions are, in words for the report."""

    @classmethod
    def affordable(cls, n_regions: int, events: float) -> int:
        """Return how many of the regions that were asked for so many hunted events can fill."""
        del events
        return n_regions

    def arranged(self, held_out: Sequence[Floats]) -> Self:
        """Return the shape with what all folds share, from the held-out losses (n_f, 1 + n_priors) of each.

        Raises InputError where the folds' losses differ in number.
        """
        widths = sorted({x.shape[1] for x in held_out})
        if len(widths) > 1:
            raise InputError(
                f"every fold has losses of the same models, found {' and '.join(map(str, widths))} columns"
            )
        return self

    @abstractmethod
    def fix(self, losses: Floats, mass: Floats | None = None, *, decorrelation: str | None = None) -> Boundaries:
        """Fix one fold's boundaries on its held-out losses (n, 1 + n_priors).

        mass: (n,) GeV, which boundaries follow by the method `decorrelation` (`moving_cut`), where one is given.
        """

    @abstractmethod
    def assign(self, losses: Floats, own: Boundaries, mass: Floats) -> Ints:
        """Return the region of each event of one fold, -1 for none: losses (n, 1 + n_priors), mass (n,) GeV -> (n,)."""
