"""Generation: draws of a latent prior, and points along one of its dimensions, which VAEs and flows turn into events; chains draw them too."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import shown
from .inputs import NonFiniteError, ScorerError, ShapeError, whole_number

__all__ = [
    "Generative",
    "as_latent",
    "can_generate",
    "checked_draws",
    "principal_walk",
    "prior_draws",
    "traversal",
]

Array = npt.NDArray[np.float64]


class Generative(Protocol):
    """A scorer that makes events like those of its training."""

    def sample(self, n: int, *, seed: int = 0) -> Array:
        """Return n events, of the latent prior or of the model's own chains, float64, in the units of the training's inputs; the same for the same seed.

        Raises NotFittedError, and ScorerError for an n that is no whole number from 1 on.
        """


def can_generate(cls: type) -> bool:
    """Tell whether a scorer of this class has the method `sample`; an option of that name, as one method has, is none."""
    return callable(getattr(cls, "sample", None))


def checked_draws(n: Any, seed: Any) -> tuple[int, np.random.Generator]:
    """Return how many events are to be made and the generator of their random numbers.

    Raises ScorerError for an n that is no whole number from 1 on, and for a seed that is none from 0 on.
    """
    for name, value, least in (("n", n, 1), ("seed", seed, 0)):
        if whole_number(name, value) < least:
            raise ScorerError(f"{name} is {shown(value)}, allowed: {least} or more")
    return int(n), np.random.default_rng(int(seed))


def prior_draws(n: Any, latent: int, *, seed: Any) -> Array:
    """Return draws (n, latent) of a standard normal prior; raises ScorerError as `checked_draws`."""
    number, rng = checked_draws(n, seed)
    return rng.normal(size=(number, latent))


def as_latent(z: npt.ArrayLike, latent: int) -> Array:
    """Return points (n, latent) of a latent space in float64; raises ShapeError and NonFiniteError."""
    points = np.asarray(z, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != latent:
        raise ShapeError(f"z: has shape {points.shape}, the latent space has {latent} dimensions: (n, {latent})")
    if not np.isfinite(points).all():
        raise NonFiniteError(f"z: NaN or infinity in {int((~np.isfinite(points)).any(axis=1).sum())} of {len(points)}")
    return points


def traversal(latent: int, dimension: int, values: npt.ArrayLike, *, draws: int = 0, seed: int = 0) -> Array:
    """Return points along one dimension of a latent space: (values, latent), all others at the middle of the prior, 0.

    values: (k,) of that dimension, which is counted from 0. draws: of the other dimensions from the prior, the same ones at every value: the
    points are (values · draws, latent) then, those of a value side by side. Raises ScorerError for a dimension that there is not.
    """
    if not 0 <= whole_number("dimension", dimension) < latent:
        raise ScorerError(f"dimension is {shown(dimension)}, allowed: 0 to {latent - 1}")
    at = np.asarray(values, dtype=np.float64).ravel()
    others = prior_draws(draws, latent, seed=seed) if draws else np.zeros((1, latent))
    points = np.tile(others, (len(at), 1))
    points[:, dimension] = np.repeat(at, len(others))
    return points


def principal_walk(means: npt.ArrayLike, axis: int, values: npt.ArrayLike) -> Array:
    """Return points (k, latent) along a principal axis of latent means (n, latent), through their middle; raises ScorerError for an axis that there is not.

    axis: counted from 0, that of the largest variance first, in the direction in which its largest number is positive; values: (k,) steps from the middle in units of
    the standard deviation along it.
    """
    given = np.asarray(means, dtype=np.float64)
    if given.ndim != 2 or len(given) < 2:
        raise ShapeError(f"means: has shape {given.shape}, two latent points or more (n, latent) are needed")
    if not 0 <= whole_number("axis", axis) < given.shape[1]:
        raise ScorerError(f"axis is {shown(axis)}, allowed: 0 to {given.shape[1] - 1}")
    middle = given.mean(axis=0)
    variances, vectors = np.linalg.eigh(np.cov(given, rowvar=False).reshape(given.shape[1], -1))
    chosen = vectors[:, ::-1][:, axis]
    chosen = chosen * np.sign(chosen[np.abs(chosen).argmax()])
    steps = np.asarray(values, dtype=np.float64).ravel() * np.sqrt(max(float(variances[::-1][axis]), 0.0))
    return np.asarray(middle + steps[:, None] * chosen)
