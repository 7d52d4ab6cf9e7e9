"""Density models whose losses on background events are kept independent of the mass: DisCo for `Vae`, `Flow` and `Quak`.

Each member of a stack pays strength * dCorr^2(loss, mass) (disco.py) for its loss of background events, whatever it is
trained on itself: a model of a signal prior sculpts the background as a model of the background does. The background events
and their masses are a stream of their own beside the rows of the training; priors need no mass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..inputs import ScorerError
from .disco import RAMP, mass_dependence, ramped
from .objective import Batch, Objective, WrappedObjective

__all__ = ["MassPenalty", "MassSample", "check_strength", "checked_mass", "checked_masses"]

Matrix = npt.NDArray[np.float64]


def check_strength(strength: float) -> None:
    """Refuse a strength of decorrelation that is none: raises ScorerError."""
    if not 0 <= strength < float("inf"):
        raise ScorerError(f"decorrelation is {strength!r}, allowed: 0 (off) or more")


def checked_masses(
    strength: float,
    mass: tuple[npt.ArrayLike | None, int],
    validation: tuple[npt.ArrayLike | None, int | None],
    *,
    of: str = "x",
) -> tuple[Matrix | None, Matrix | None]:
    """Return the masses of a sample and of its validation rows, each given with its number of rows; None without strength.

    Validation rows that are split off the sample have None for their number. Raises ScorerError for a strength that is none
    and for what `checked_mass` refuses.
    """
    check_strength(strength)
    if strength == 0:
        return None, None
    own = checked_mass(mass[0], mass[1], of=of)
    held, rows = validation
    return own, None if rows is None else checked_mass(held, rows, name="validation_mass", of="validation")


def checked_mass(mass: npt.ArrayLike | None, rows: int, *, name: str = "mass", of: str) -> Matrix:
    """Return the masses (rows,) of a sample in whatever unit; ScorerError where there are none for just these rows."""
    if mass is None:
        raise ScorerError(f"decorrelation needs {name}: the mass of each of the {rows} rows of {of}")
    values = np.asarray(mass, dtype=np.float64)
    if values.shape != (rows,):
        raise ScorerError(f"{name} has shape {values.shape}, {of} has {rows} rows: needed ({rows},)")
    if not np.isfinite(values).all():
        first = int(np.argmax(~np.isfinite(values)))
        raise ScorerError(f"{name} holds {values[first]} in row {first}: only finite masses can be decorrelated from")
    if np.ptp(values) == 0:
        raise ScorerError(f"{name} is {values[0]:g} in all {rows} rows: there is nothing to be independent of")
    return values


@dataclass(frozen=True)
class MassSample:
    """What a training pays for: background rows (n, d) of the mapped space with masses (n,), twice.

    strength: of the penalty. The first of each pair is for training, the second for the validation loss.
    """

    strength: float
    rows: tuple[Matrix, Matrix]
    mass: tuple[Matrix, Matrix]

    def stream(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return rows with their masses in units of the spread as the last column, (n, d + 1) for each of the two parts."""
        first = self.mass[0]
        scaled = [(mass - first.mean()) / first.std() for mass in self.mass]
        train, held = (
            torch.from_numpy(np.column_stack([rows, mass])).float()
            for rows, mass in zip(self.rows, scaled, strict=True)
        )
        return train, held


class MassPenalty(WrappedObjective):
    """An objective whose members pay for the dependence of their losses of background rows on the mass.

    inner: densities of rows that each member sees in its own coordinates, whose module has `terms`; strength: of the
    penalty; centre (m, d), whiten (m, d, d): these coordinates. The background rows come as batch["background"] (b, d + 1), the mass
    last: one order for all members, and none of the rows that they are trained on.
    """

    def __init__(self, inner: Objective, *, strength: float, centre: Matrix, whiten: Matrix) -> None:
        super().__init__(inner)
        self.strength = strength
        self.centre, self.whiten = torch.from_numpy(centre).float()[:, None], torch.from_numpy(whiten).float()

    def keep(self, members: torch.Tensor) -> None:
        """Leave only these members (a,), with their coordinates."""
        super().keep(members)
        chosen = members.to(self.centre.device)
        self.centre, self.whiten = self.centre[chosen], self.whiten[chosen]

    def state(self) -> dict[str, torch.Tensor]:
        """Return the state of the inner objective and the coordinates of the members that still train."""
        return {**super().state(), "penalty.centre": self.centre, "penalty.whiten": self.whiten}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put back what `state` gave."""
        super().load_state(state)
        self.centre, self.whiten = state["penalty.centre"].clone(), state["penalty.whiten"].clone()

    def losses(self, batch: Batch, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        """Return the loss (m, b) of the members' own rows and the penalty of the background rows beside them."""
        losses = super().losses(batch, generator=generator, progress=progress)
        strength = ramped(self.strength, RAMP, progress)
        if strength == 0:
            return losses
        rows, mass = batch["background"][:, :-1], batch["background"][:, -1]
        seen = self.seen(rows)
        network: Any = self.model
        # scored as it will be, without a random draw
        first, second = network.terms(seen)
        return losses + strength * mass_dependence(first + second, mass.expand(len(seen), -1))

    def seen(self, rows: torch.Tensor) -> torch.Tensor:
        """Return background rows (b, d) in each member's coordinates (m, b, d)."""
        return torch.bmm(rows - self.centre.to(rows.device), self.whiten.to(rows.device))
