"""Jets as weights at points: what transport moves. Images give their non-zero pixels, constituents themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..inputs import DtypeError, NonFiniteError, ScorerError, ShapeError

__all__ = [
    "Clouds",
    "EmptyImageError",
    "NegativePixelError",
    "NotNormalisedError",
    "TransportOptionError",
    "as_jets",
    "check_pixel",
    "clouds_from_constituents",
    "clouds_from_images",
    "require_unit",
    "require_weights",
]

Array = npt.NDArray[np.float64]

SUM_TOLERANCE = 1e-5  # of a sum of one: float32 images of 1,600 pixels keep it


class EmptyImageError(ScorerError):
    """A jet has no pixel or constituent above zero: there is nothing to transport."""


class NegativePixelError(ScorerError):
    """A jet has a pixel or constituent below zero: transport moves only what is there."""


class NotNormalisedError(ScorerError):
    """A jet does not sum to one, which balanced transport needs."""


class TransportOptionError(ScorerError):
    """An option of the transport has a value that means nothing."""


@dataclass(frozen=True)
class Clouds:
    """n jets of different sizes, one after the other.

    weights: (t,) above zero, within a jet the lightest first; points: (t, d) in the unit of the distances;
    starts: (n + 1,) where each jet begins, and t; name: what they are called in errors.
    """

    weights: Array
    points: Array
    starts: npt.NDArray[np.int64]
    name: str = "jets"

    def __len__(self) -> int:
        return len(self.starts) - 1

    def jet(self, i: int) -> tuple[Array, Array]:
        """Return the weights (m,) and points (m, d) of one jet, as views."""
        inside = slice(self.starts[i], self.starts[i + 1])
        return self.weights[inside], self.points[inside]

    def take(self, rows: npt.NDArray[np.intp]) -> Clouds:
        """Return the jets of these rows (k,), in their order."""
        counts = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        inside = np.repeat(self.starts[rows] - starts[:-1], counts) + np.arange(starts[-1])
        return Clouds(self.weights[inside], self.points[inside], starts, self.name)

    def sums(self) -> Array:
        """Return the total weight (n,) of each jet."""
        return np.array([self.weights[a:b].sum() for a, b in zip(self.starts[:-1], self.starts[1:], strict=True)])

    def require_unit_sums(self) -> None:
        """Raise NotNormalisedError unless every jet sums to one within SUM_TOLERANCE."""
        way = "balanced transport needs it: normalise=True divides by the sum, unbalanced=R charges for the difference"
        require_unit(self.sums(), self.name, way)


def require_unit(sums: Array, name: str, way: str) -> None:
    """Raise NotNormalisedError unless the sums (n,) of jets called `name` are one within SUM_TOLERANCE; way: what to do then."""
    bad = np.flatnonzero(np.abs(sums - 1) > SUM_TOLERANCE)
    if len(bad):
        first = f"first {bad[0]} with {sums[bad[0]]:.6g}"
        raise NotNormalisedError(f"{name}: {len(bad)} of {len(sums)} do not sum to one, {first}; {way}")


def as_jets(x: Any, *, name: str = "x", shape: tuple[int, ...] | None = None, each: str = "jet") -> Array:
    """Return jets (n, a, b) as float64, or say what is wrong with them.

    x: (n, height, width) images or (n, m, columns) constituents, of real numbers; shape: the (a, b) that is required; each: what one of
    them is called in errors.
    Raises DtypeError, ShapeError, NonFiniteError.
    """
    if isinstance(x, np.ma.MaskedArray):
        x = np.ma.filled(x.astype(np.float64), np.nan)
    try:
        values = np.asarray(x)
    except ValueError as error:  # a list of arrays of different shapes
        raise ShapeError(f"{name}: the {each}s have different shapes: {error}") from error
    if values.dtype.kind not in "fiub":
        raise DtypeError(f"{name}: holds {values.dtype}, not real numbers; allowed: float, integer and boolean arrays")
    if values.ndim != 3 or 0 in values.shape[1:]:
        hint = {
            2: f"; one {each} is x[None], and rows of numbers are another representation",
            4: "; events of several jets are for a space of a method (make_space)",
        }.get(values.ndim, "")
        raise ShapeError(f"{name}: has shape {values.shape}, ({each}s, rows, columns) is needed{hint}")
    if shape is not None and values.shape[1:] != shape:
        raise ShapeError(f"{name}: jets have the shape {values.shape[1:]}, the references {shape}")
    bad = ~np.isfinite(values).all(axis=(1, 2))
    if bad.any():
        raise NonFiniteError(
            f"{name}: NaN or infinity in {bad.sum()} of {len(values)} {each}s, first {np.flatnonzero(bad)[0]}"
        )
    return values.astype(np.float64)


def clouds_from_images(
    images: npt.ArrayLike, *, pixel: float = 1.0, normalise: bool = False, name: str = "images"
) -> Clouds:
    """Return the non-zero pixels of images as clouds of points in the plane.

    images: (n, height, width), not negative; pixel: side of a pixel, so that distances come in its unit (1: in pixels;
    0.05 for 40×40 over ±1.0 in η and φ). normalise: divide each image by its sum.
    Raises TransportOptionError for a side that is no length, EmptyImageError, NegativePixelError and what `as_jets` raises.
    """
    check_pixel(pixel)
    values = as_jets(images, name=name)
    _, height, width = values.shape
    places = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), axis=-1).reshape(-1, 2)
    grid = places * float(pixel)
    return _clouds(
        values.reshape(len(values), height * width),
        np.broadcast_to(grid, (len(values), *grid.shape)),
        normalise=normalise,
        name=name,
    )


def clouds_from_constituents(jets: npt.ArrayLike, *, normalise: bool = False, name: str = "constituents") -> Clouds:
    """Return constituents as clouds of points.

    jets: (n, m, 1 + d), pT first, then coordinates relative to the jet's axis (η, φ: differences, φ wrapped already);
    rows of pT 0 are padding. normalise: divide each jet's pT by their sum.
    Raises EmptyImageError, NegativePixelError, ShapeError without coordinates, and what `as_jets` raises.
    """
    values = as_jets(jets, name=name)
    if values.shape[2] < 2:
        raise ShapeError(f"{name}: has shape {values.shape}, the last axis is pT and then at least one coordinate")
    return _clouds(values[..., 0], values[..., 1:], normalise=normalise, name=name)


def check_pixel(pixel: float) -> None:
    """Raise TransportOptionError unless the side of a pixel is a length above 0."""
    if not (np.isfinite(pixel) and pixel > 0):
        raise TransportOptionError(f"pixel is {pixel}; the side of a pixel is a length above 0")


def require_weights(weights: Array, name: str) -> None:
    """Raise NegativePixelError or EmptyImageError unless the pT (n, m) of each jet is nowhere below and somewhere above zero."""
    negative = (weights < 0).any(axis=1)
    if negative.any():
        first = int(np.flatnonzero(negative)[0])
        raise NegativePixelError(
            f"{name}: {negative.sum()} of {len(weights)} have entries below zero, first {first} "
            f"with {weights[first].min():.6g}; weights are pT, at least 0"
        )
    empty = np.flatnonzero(~(weights > 0).any(axis=1))
    if len(empty):
        raise EmptyImageError(
            f"{name}: {len(empty)} of {len(weights)} are empty, first {empty[0]}; there is no jet in them"
        )


def _clouds(weights: Array, points: Array, *, normalise: bool, name: str) -> Clouds:
    require_weights(weights, name)
    counts = (weights > 0).sum(axis=1)
    if normalise:
        weights = weights / weights.sum(axis=1, keepdims=True)
    row, place = np.nonzero(weights)
    # the network simplex needs about a tenth fewer steps with the lightest first
    order = np.lexsort((weights[row, place], row))
    row, place = row[order], place[order]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Clouds(weights[row, place], np.ascontiguousarray(points[row, place]), starts, name)
