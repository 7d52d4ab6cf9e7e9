"""Density models whose losses on background events are kept independent of the mass: DisCo for `Vae`, `Flow` and `Quak`.

Each member of a stack pays strength * dCorr^2(loss, mass) (disco.py) for its loss of background events, whatever it is
trained on itself: a model of a signal prior sculpts the background as a model of the background does. Every training row
carries a background row and its mass beside it; priors need no mass of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from ..inputs import ScorerError
from .disco import Decorrelated
from .loop import Stack

__all__ = ["MassPenalty", "checked_mass", "checked_masses"]

Matrix = npt.NDArray[np.float64]


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
    if not 0 <= strength < float("inf"):
        raise ScorerError(f"decorrelation is {strength!r}, allowed: 0 (off) or more")
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
class MassPenalty:
    """What a training pays for: strength, and background rows (n, d) of the mapped space with masses (n,), twice.

    The first of each pair is for training, the second for the validation loss. seed: of which row stands beside which.
    """

    strength: float
    rows: tuple[Matrix, Matrix]
    mass: tuple[Matrix, Matrix]
    seed: int

    def beside(self, own: torch.Tensor, part: int, member: int, centre: Matrix, whiten: Matrix) -> torch.Tensor:
        """Return a member's rows (n, d) with background rows as it sees them and their masses beside: (n, 2 d + 1)."""
        rng = np.random.default_rng([self.seed, 0xD15C0, part, member])
        chosen = np.resize(rng.permutation(len(self.rows[part])), len(own))
        seen = (self.rows[part][chosen] - centre) @ whiten
        # dCorr^2 knows no scale: in units of the strength, a checkpoint of another strength is one of other data
        first = self.mass[0]
        mass = self.strength * (self.mass[part][chosen] - first.mean()) / first.std()
        return torch.cat([own, torch.from_numpy(np.column_stack([seen, mass])).float()], dim=1)

    def stack(self, network: torch.nn.Module, features: int) -> Decorrelated:
        """Return what `train_stack` takes of a network of d features whose rows come from `beside`."""
        pair = OwnAndBackground(network, features)
        return Decorrelated(cast("Stack", pair), strength=self.strength, score=pair.score)


class OwnAndBackground:
    """A stack of densities whose rows are (own row, background row), d columns each: trained on one, scored on the other."""

    def __init__(self, network: Any, features: int) -> None:
        self.network, self.features = network, features

    def losses(self, x: torch.Tensor, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        """Return the loss (m, b) of the own rows in x (m, b, 2 d)."""
        found: torch.Tensor = self.network.losses(x[..., : self.features], generator=generator, progress=progress)
        return found

    def score(self, x: torch.Tensor) -> torch.Tensor:
        """Return the loss (m, b) of the background rows in x (m, b, 2 d) as it will be scored, without a random draw."""
        first, second = self.network.terms(x[..., self.features :])
        total: torch.Tensor = first + second
        return total
