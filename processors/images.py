"""The jet image: pT over the (eta, phi) plane around each jet, centred, rotated, flipped, pixelised and normalised.

The steps are those of arXiv:2110.06948 in the form of arXiv:2206.14225, on points, before pixels:

1. Azimuths are taken relative to the hardest constituent, wrapped to [-pi, pi]; the pT-weighted centroid becomes (0, 0).
2. The principal axis of the pT-weighted second moments becomes vertical (phi), by a rotation of at most 90 degrees.
3. Mirrored so that more pT lies at eta < 0 and more at phi > 0; this also settles the axis' two directions.
4. pT is summed (not overwritten) in square images; the window is [-half, half), what is outside is cut off.
5. Divided by the sum, so that an image sums to one.
6. Where asked for, a Gaussian filter and then a power of every pixel, divided by their sum (`image_filters`).

A jet without a principal axis (one constituent, a regular polygon) is not rotated, and one whose halves are equally
bright is not mirrored: these are the only jets whose image depends on how the jet was turned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from .constituents import JetConstituents, constituents_of
from .events import LARGEST_ANGLE, LARGEST_PT
from .image_filters import ImageSettingsError, checked_filter, filtered
from .jets import JET_SCALARS, JetRepresentation, Momenta, jet_numbers

if TYPE_CHECKING:
    from .chunks import Columns
    from .events import Candidates
    from .substructure import Jets

__all__ = ["IMAGE_AXES", "ImageSettings", "ImageSettingsError", "Images", "JetImages", "jet_images"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

IMAGE_AXES = ("jet", "phi", "eta")
"""Axes of the images: rows are phi, upwards from -half_phi, so `imshow(image, origin="lower")` shows them upright."""

BATCH = 256
"""Jets done at a time: their pixels in double precision (3 MB at 40 x 40) stay in the processor's cache."""

MOST_PIXELS = 1000
"""Of a side; a batch of larger images would not fit into memory."""

ROUNDING = 1e-9
"""What is taken for zero: a distance in (eta, phi), an asymmetry of second moments, a difference of brightness."""


@dataclass(frozen=True)
class ImageSettings:
    """How an image is made.

    pixels: a side; half_eta, half_phi: half the window's width, so that the default pitch is 0.05 for jets of R = 1.0
    (0.58 and 0.70 with 40 pixels are the grid of arXiv:2206.14225, for R = 0.8); rotate, flip: steps 2 and 3;
    normalise: the image sums to one, else it holds GeV. smear: standard deviation of the Gaussian filter, in pixels, 0 for none;
    power: of every pixel, after the filter, 1 for none; with another one an image has to be normalised.
    """

    pixels: int = 40
    half_eta: float = 1.0
    half_phi: float = 1.0
    rotate: bool = True
    flip: bool = True
    normalise: bool = True
    smear: float = 0.0
    power: float = 1.0

    def __post_init__(self) -> None:
        if (
            isinstance(self.pixels, bool)
            or not isinstance(self.pixels, int | np.integer)
            or not 1 <= self.pixels <= MOST_PIXELS
        ):
            raise ImageSettingsError(f"pixels: {self.pixels!r} is not a whole number from 1 to {MOST_PIXELS}")
        for name in ("rotate", "flip", "normalise"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise ImageSettingsError(f"{name}: {getattr(self, name)!r} is neither True nor False")
        for name in ("half_eta", "half_phi"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not ROUNDING < value <= LARGEST_ANGLE:
                raise ImageSettingsError(
                    f"{name}: {value!r} is not a number above {ROUNDING:g} and up to {LARGEST_ANGLE:g}"
                )
        checked_filter(self.smear, self.power)
        if self.power != 1 and not self.normalise:
            raise ImageSettingsError(
                f"power: {self.power!r} makes an image that sums to one, and normalise is {self.normalise!r}"
            )


@dataclass(frozen=True, kw_only=True, repr=False)
class Images(JetRepresentation):
    """Jets as images, `image_1` and `image_2`: (n, pixels, pixels) float32, axes IMAGE_AXES; options as of ImageSettings.

    An event is lost where one of its jets has nothing inside the window. Beside the images stand `mjj` and `deta` of two jets,
    and of each jet `pt_1` and `mJ_1` (GeV), `eta_1`, and `n_1`, its number of constituents.
    """

    name: ClassVar[str] = "images"
    kind: ClassVar[str] = "images"

    pixels: int = 40
    half_eta: float = 1.0
    half_phi: float = 1.0
    rotate: bool = True
    flip: bool = True
    normalise: bool = True
    smear: float = 0.0
    power: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.image_settings  # which raises for what no image can be made with

    @property
    def image_settings(self) -> ImageSettings:
        """How each image is made."""
        return ImageSettings(
            pixels=self.pixels,
            half_eta=self.half_eta,
            half_phi=self.half_phi,
            rotate=self.rotate,
            flip=self.flip,
            normalise=self.normalise,
            smear=self.smear,
            power=self.power,
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The images of the jets."""
        return self.of_each("image")

    @property
    def jet_scalars(self) -> tuple[str, ...]:
        """What is told of each jet by a number."""
        return JET_SCALARS

    def described(self, jets: Jets, candidates: Candidates, momentum: Momenta) -> tuple[Jets, Columns, dict[str, int]]:
        """Return the events all of whose jets have an image, what is told of each jet, and how many events have not."""
        del momentum
        made = jet_images(constituents_of(jets, candidates), settings=self.image_settings)
        seen = np.zeros(jets.px.size, dtype=np.bool_)
        seen[made.jet] = True
        whole = np.asarray(seen.reshape(jets.px.shape).all(axis=1))
        images = made.images[np.repeat(whole, self.jets)[made.jet]]
        lost = {"nothing inside the window": int((~whole).sum())}
        jets = jets.select(whole)
        return jets, {**jet_numbers(jets), "image": images.reshape(*jets.px.shape, *images.shape[1:])}, lost


@dataclass(frozen=True)
class JetImages:
    """The images of the jets that have one.

    images: (n, pixels, pixels) float32, axes IMAGE_AXES; jet: (n,) int64 row of the jet in what was read;
    outside: (n,) int64 constituents that fell outside the window; outside_pt: (n,) their fraction of the jet's pT sum;
    cutflow: "read", what was lost in order, "kept"; "read" is the sum of all others; settings: what made them.
    """

    images: npt.NDArray[np.float32]
    jet: Int
    outside: Int
    outside_pt: Float
    cutflow: dict[str, int]
    settings: ImageSettings


def jet_images(constituents: JetConstituents, *, settings: ImageSettings | None = None) -> JetImages:
    """Return one image a jet; the module's docstring has the steps.

    Constituents of pT 0 are padding, whatever their angles. Left out, and counted, are jets with "unphysical
    constituents" (not finite, pT negative or above 1e9 GeV, |eta| or |phi| above 100), jets with "no constituents" of
    pT > 0, and jets with "nothing inside the window".
    """
    settings = settings or ImageSettings()
    counts, present, unphysical = _usable(constituents)
    chosen = np.flatnonzero(counts)
    starts = np.concatenate([[0], np.cumsum(counts[chosen])]).astype(np.int64)
    points = [values[present] for values in (constituents.pt, constituents.eta, constituents.phi)]
    n, side = len(chosen), settings.pixels
    images = np.empty((n, side, side), dtype=np.float32)
    kept, outside, outside_pt = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
    done = 0
    for first in range(0, n, BATCH):
        last = min(first + BATCH, n)
        a, b = starts[first], starts[last]
        pixels, jet, out, out_pt = _batch(starts[first : last + 1] - a, *(p[a:b] for p in points), settings=settings)
        images[done : done + len(jet)] = pixels
        done += len(jet)
        kept.append(chosen[first + jet])
        outside.append(out)
        outside_pt.append(out_pt)
    n_bad = int(unphysical.sum())
    cutflow = {
        "read": len(counts),
        "unphysical constituents": n_bad,
        "no constituents": len(counts) - n_bad - n,
        "nothing inside the window": n - done,
        "kept": done,
    }
    return JetImages(
        images[:done], np.concatenate(kept), np.concatenate(outside), np.concatenate(outside_pt), cutflow, settings
    )


def _usable(constituents: JetConstituents) -> tuple[Int, Bool, Bool]:
    """Return the usable constituents a jet (n,), which those are (m,), and which jets have unphysical ones (n,)."""
    pt, length = constituents.pt, np.diff(constituents.offsets)
    angles = np.maximum(np.abs(constituents.eta), np.abs(constituents.phi))
    present = pt != 0
    bad = present & ~((pt > 0) & (pt <= LARGEST_PT) & (angles <= LARGEST_ANGLE))  # comparisons with NaN are false
    jet = np.repeat(np.arange(len(length)), length)
    unphysical = np.zeros(len(length), dtype=np.bool_)
    unphysical[jet[bad]] = True
    present &= ~unphysical[jet]
    return np.bincount(jet[present], minlength=len(length)), present, unphysical


def _batch(
    offsets: Int, pt: Float, eta: Float, phi: Float, *, settings: ImageSettings
) -> tuple[Float, Int, Int, Float]:
    """Return pixels, row, constituents outside and their fraction of pT, of the jets with something in the window.

    No jet is empty here, which np.add.reduceat would take for its next neighbour's first constituent.
    """
    n, side, starts = len(offsets) - 1, settings.pixels, offsets[:-1]
    jet = np.repeat(np.arange(n), np.diff(offsets))
    hardest = np.maximum.reduceat(pt, starts)
    weight = pt / hardest[jet]  # no sum over- or underflows, whatever the unit
    total = np.add.reduceat(weight, starts)
    x, y = _centred(weight, eta, phi, jet=jet, starts=starts, total=total)
    if settings.rotate:
        x, y = _rotated(weight, x, y, jet=jet, starts=starts)
    if settings.flip:
        x = x * np.where(_balance(weight, x, starts) > ROUNDING * total, -1.0, 1.0)[jet]
        y = y * np.where(_balance(weight, y, starts) < -ROUNDING * total, -1.0, 1.0)[jet]
    # Two prongs lie on an edge between pixels once they are upright: rounding must not choose the side.
    column = np.floor((x + ROUNDING) * (side / (2 * settings.half_eta)) + side / 2)
    row = np.floor((y + ROUNDING) * (side / (2 * settings.half_phi)) + side / 2)
    inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
    flat = (jet * side**2)[inside] + (row * side + column)[inside].astype(np.int64)
    pixels = _sums(flat, weight[inside], n * side**2).reshape(n, side, side)
    seen, lost = _sums(jet[inside], weight[inside], n), _sums(jet[~inside], weight[~inside], n)
    n_lost = np.bincount(jet[~inside], minlength=n)
    scale = np.divide(1.0, seen, out=np.zeros(n), where=seen > 0) if settings.normalise else hardest
    pixels *= scale[:, None, None]
    keep = np.flatnonzero(seen > 0)
    if len(keep) < n:
        pixels = pixels[keep]
    pixels = filtered(pixels, smear=settings.smear, power=settings.power)
    return pixels, keep, n_lost[keep], (lost / total)[keep]


def _centred(weight: Float, eta: Float, phi: Float, *, jet: Int, starts: Int, total: Float) -> tuple[Float, Float]:
    """Return eta and phi (m,) relative to the jet's pT-weighted centroid.

    Relative to the hardest constituent first (the first of equally hard ones), for whom weight is 1: a jet is
    narrower than pi, so no wrapped difference within it is ambiguous.
    """
    maxima = np.flatnonzero(weight == 1.0)[::-1]
    centre = np.empty(len(starts), dtype=np.int64)
    centre[jet[maxima]] = maxima
    x, y = eta - eta[centre][jet], phi - phi[centre][jet]
    y -= 2 * np.pi * np.rint(y / (2 * np.pi))
    x -= (np.add.reduceat(weight * x, starts) / total)[jet]
    y -= (np.add.reduceat(weight * y, starts) / total)[jet]
    return x, y


def _rotated(weight: Float, x: Float, y: Float, *, jet: Int, starts: Int) -> tuple[Float, Float]:
    """Return the points (m,) with each jet's principal axis along y, turned by at most 90 degrees.

    The axis is (sin a, cos a) with tan 2a = 2 <xy> / (<yy> - <xx>), the eigenvector of the larger eigenvalue.
    """
    xx, xy, yy = (np.add.reduceat(weight * product, starts) for product in (x * x, x * y, y * y))
    angle = 0.5 * np.arctan2(2 * xy, yy - xx)
    angle[np.hypot(2 * xy, yy - xx) <= ROUNDING * (xx + yy)] = 0.0
    cos, sin = np.cos(angle)[jet], np.sin(angle)[jet]
    return x * cos - y * sin, x * sin + y * cos


def _balance(weight: Float, x: Float, starts: Int) -> Float:
    """Return the weight at x > 0 less that at x < 0, per jet."""
    side = (x > ROUNDING).astype(np.float64) - (x < -ROUNDING)
    return np.asarray(np.add.reduceat(weight * side, starts))


def _sums(rows: Int, weight: Float, n: int) -> Float:
    """Return the sum of weights of each of n rows; for no rows at all, bincount gives integers."""
    return np.bincount(rows, weights=weight, minlength=n).astype(np.float64, copy=False)
