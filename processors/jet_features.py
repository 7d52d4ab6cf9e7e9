"""High-level features of jets that are sets of constituents or images, simulated or generated: mass, pT, width, how many, how hard.

They are of what is there: of 20 kept constituents the mass is that of their sum, which is less than the jet's. What a model generates need not be
what a jet can be: constituents off their mass shell, a pixel everywhere. So the mass of four-vectors is told twice, of the energies
as they are and of massless constituents of the same momenta, and pixels count from a share of the jet on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .constituents import padded_constituents
from .images import ImageSettings, jet_images
from .substructure import Jets, n_subjettiness, ratio

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FEATURE_LABELS", "constituent_features", "constituent_images", "image_features"]

Float = npt.NDArray[np.float64]

FEATURE_LABELS: Mapping[str, str] = {
    "mass": "jet mass [GeV]",
    "massless_mass": "jet mass of massless constituents [GeV]",
    "pt": "jet pT [GeV]",
    "multiplicity": "number of constituents",
    "width": "pT-weighted distance from the axis",
    "leading": "pT share of the hardest constituent",
    "tau21": "tau21",
    "mass_over_pt": "mass / sum of pT",
    "pixels": "number of pixels",
    "brightest": "pT share of the brightest pixel",
}
"""Feature -> what an axis of a figure calls it."""

LEAST_PT = 1e-6
"""Of a jet's pT: a constituent below has no direction that matters."""
SINGLE = 1e-5
"""Of a sum of one in single precision, what it may be off."""
LEAST_SHARE = 1e-3
"""Of a jet's pT, that a pixel holds at least to be counted."""


def constituent_features(sets: npt.ArrayLike, *, tau21: bool = False, radius: float = 1.0) -> dict[str, Float]:
    """Return features (n,) of jets (n, k, 3) of pT (GeV), eta, phi or (n, k, 4) of E, px, py, pz (GeV); the slots whose first number is 0 are empty.

    "mass", "pt": of the sum of the constituents, GeV; 0 where E² − p² is below 0; "massless_mass", of four-vectors alone: with |p| in place
    of E; "multiplicity"; "width": the mean distance in eta and phi from the sum's axis, weighted with pT (girth); "leading": the pT share of the
    hardest constituent. tau21: whether to add it (N-subjettiness as `substructure.py` has it, a millisecond or less a jet, massless
    constituents), radius: R0 there. Raises InputError for another shape, for numbers that are not finite and for a first number below 0.
    """
    given = _checked_sets(sets)
    points = _polar(given)
    pt, eta, phi = (points[..., i] for i in range(3))
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    energy = pt * np.cosh(eta)
    summed = [values.sum(axis=1) for values in (px, py, pz)]
    found = {"mass": _mass(energy.sum(axis=1), *summed)}
    if given.shape[2] == 4:
        found = {"mass": _mass(given[..., 0].sum(axis=1), *summed), "massless_mass": found["mass"]}
    jet_pt, total = np.hypot(summed[0], summed[1]), pt.sum(axis=1)
    axis_eta = np.arcsinh(np.divide(summed[2], jet_pt, out=np.zeros_like(jet_pt), where=jet_pt > 0))
    angle = phi - np.arctan2(summed[1], summed[0])[:, None]
    distance = np.hypot(eta - axis_eta[:, None], angle - 2 * np.pi * np.rint(angle / (2 * np.pi)))
    found["pt"] = jet_pt
    found["multiplicity"] = (pt > 0).sum(axis=1).astype(np.float64)
    found["width"] = ratio((pt * distance).sum(axis=1), total)
    found["leading"] = ratio(pt.max(axis=1), total)
    if tau21:
        there = pt > LEAST_PT * total[:, None]
        offsets = np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int64)
        momentum = px[there], py[there], pz[there], energy[there]
        sx, sy, sz, se = (values[:, None] for values in (*summed, energy.sum(axis=1)))
        jets = Jets(np.arange(len(pt)), sx, sy, sz, se, offsets, np.arange(offsets[-1], dtype=np.int64))
        taus = n_subjettiness(jets, momentum, radius=radius)
        found["tau21"] = ratio(taus.beta1[:, 1], taus.beta1[:, 0])
    return found


def constituent_images(sets: npt.ArrayLike, *, settings: ImageSettings | None = None) -> npt.NDArray[np.float32]:
    """Return an image (n, pixels, pixels) of each jet of sets as `constituent_features` takes them, by `jet_images`; axes IMAGE_AXES.

    settings: of the images. Jets without any pixel inside the window are left out. Raises InputError as `constituent_features`.
    """
    return jet_images(padded_constituents(_polar(_checked_sets(sets))), settings=settings).images


def image_features(
    images: npt.ArrayLike, *, half_eta: float = 1.0, half_phi: float = 1.0, least: float = LEAST_SHARE
) -> dict[str, Float]:
    """Return features (n,) of images (n, rows of phi, columns of eta) of jets, not negative, in a window of ±half_phi and ±half_eta.

    "pt": the sum of the pixels, 1 where images are normalised, without the rounding of single precision; "mass_over_pt": the mass of massless constituents at the pixels' centres, in units
    of that sum; "width": the mean distance from the centroid in eta and phi, weighted with the pixels; "pixels": how many hold at least the share
    `least` of the sum; "brightest": the share of the brightest. Raises InputError for another shape, for pixels that are negative or not
    finite, for an image without any, and for a window or a share that is no positive number.
    """
    values = np.asarray(images, dtype=np.float64)
    if values.ndim != 3 or 0 in values.shape[1:]:
        raise InputError(f"images: shape {values.shape}; (n, rows, columns) is expected")
    for name, option in (("half_eta", half_eta), ("half_phi", half_phi), ("least", least)):
        if not 0 < option < np.inf:
            raise InputError(f"{name}: {option!r} is not a positive number")
    good = (np.isfinite(values) & (values >= 0)).all(axis=(1, 2)) & (values > 0).any(axis=(1, 2))
    if not good.all():
        raise InputError(
            f"images: image {int(np.argmin(good))} has no pixel above 0, or one that is below or not finite"
        )
    n, rows, columns = values.shape
    phi, eta = np.repeat(_centres(rows, half_phi), columns), np.tile(_centres(columns, half_eta), rows)
    total = values.sum(axis=(1, 2))
    share = (values / total[:, None, None]).reshape(n, rows * columns)
    sums = (share @ f for f in (np.cosh(eta), np.cos(phi), np.sin(phi), np.sinh(eta)))
    around = np.hypot(eta - (share @ eta)[:, None], phi - (share @ phi)[:, None])
    return {
        "pt": np.where(np.abs(total - 1) < SINGLE, 1.0, total),
        "mass_over_pt": _mass(*sums),
        "width": (share * around).sum(axis=1),
        "pixels": (share >= least).sum(axis=1).astype(np.float64),
        "brightest": share.max(axis=1),
    }


def _checked_sets(sets: npt.ArrayLike) -> Float:
    """Return sets (n, k, 3 or 4) in float64, or say what is wrong with them."""
    given: Any = np.asarray(sets, dtype=np.float64)
    if given.ndim != 3 or given.shape[2] not in (3, 4) or given.shape[1] == 0:
        raise InputError(
            f"sets: shape {given.shape}; (n, k, 3) of pT, eta, phi or (n, k, 4) of E, px, py, pz is expected"
        )
    good = np.isfinite(given).all(axis=(1, 2)) & (given[..., 0] >= 0).all(axis=1)
    if not good.all():
        raise InputError(f"sets: jet {int(np.argmin(good))} has a number that is not finite, or E or pT below 0")
    return np.asarray(given)


def _polar(sets: Float) -> Float:
    """Return pT, eta and phi (n, k, 3) of checked sets, zeros in empty slots."""
    from ..models.autoencoders.set_scaling import filled_slots, polar

    return np.asarray(np.where(filled_slots(sets)[..., None], polar(sets), 0.0))


def _mass(energy: Float, px: Float, py: Float, pz: Float) -> Float:
    """Return the mass (n,) of momenta, 0 where its square is not above 0."""
    return np.asarray(np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0.0)))


def _centres(pixels: int, half: float) -> Float:
    """Return the centres (pixels,) of the pixels of a window of ±half."""
    return np.asarray((np.arange(pixels) + 0.5) / pixels * 2 * half - half)
