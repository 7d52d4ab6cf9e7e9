"""Jets as four-vectors in a frame of their own: turned to phi = 0, boosted to eta = 0 or to rest, turned about their axis.

The steps are those of arXiv:2007.01850 in the form of its released code. Constituents are massless: E = pT cosh(eta).

1. The jet, which is the sum of its constituents, is turned about the beam (z) to phi = 0 and boosted along the beam alone to
   eta = 0 (`longitudinal`). It flies along x then: its py and pz are zero, which is also what centres it.
2. It is turned about x, so that the energy-weighted mean of its constituents' directions from its axis, the sum of
   E (phi, eta) / hypot(phi, eta), lies along phi > 0.
3. It is mirrored so that more energy lies at phi > 0 and more at eta < 0, as images are; the released code does not.
4. It is boosted along x to rest (`rest_frame`). Steps 2 and 3 are about x, so the axes are those of the jet in flight.

Without its step 2 are jets whose directions cancel (one constituent, two of one energy), without step 3 those whose halves
are equally bright. All else depends neither on the jet's azimuth nor on a boost along the beam.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError, unknown_name

__all__ = ["ALIGNMENTS", "aligned_momenta", "checked_alignment"]

Float = npt.NDArray[np.float64]

ALIGNMENTS = ("longitudinal", "rest_frame", "none")

ROUNDING = 1e-6
"""What is taken for zero: an angle in radians, a fraction of a jet's energy. Angles that were stored in single precision differ by 1e-7."""

BALANCED = 1e-12
"""Of the sum of pT: less than this in total has no azimuth."""


def checked_alignment(align: Any, *, rotate: Any, flip: Any) -> tuple[str, bool, bool]:
    """Return how jets are aligned; `rotate` None: wherever there is an axis to turn about.

    Raises InputError for an unknown alignment, and for rotations and mirrors of jets that are left as they are.
    """
    if align not in ALIGNMENTS:
        raise InputError(unknown_name("align", str(align), ALIGNMENTS))
    rotate = align != "none" if rotate is None else rotate
    for name, value in (("rotate", rotate), ("flip", flip)):
        if not isinstance(value, bool | np.bool_):
            raise InputError(f"{name}: {value!r} is neither True nor False")
        if value and align == "none":
            raise InputError(f"{name}: {value!r} needs jets along x, and align: none leaves them as they are")
    return str(align), bool(rotate), bool(flip)


def aligned_momenta(pt: Float, eta: Float, phi: Float, *, align: str, rotate: bool, flip: bool) -> Float:
    """Return E, px, py, pz (n, k, 4) GeV of jets of k massless constituents in their frame; the module's docstring has the steps.

    pt, eta, phi: (n, k), finite; pT 0 is padding, which stays zero, as does a jet of padding alone. In the rest frame a jet
    without mass (below a millionth of its energy) has no momentum either, and is zero.
    """
    rapid = np.exp(eta)
    up, down = pt * rapid, pt / rapid  # E + pz and E - pz: a boost multiplies the one and divides the other
    x, y = pt * np.cos(phi), pt * np.sin(phi)
    if align != "none":
        boost = _ratio(down.sum(axis=1), up.sum(axis=1))
        up *= boost
        down /= boost
        cos, sin = _direction(x.sum(axis=1), y.sum(axis=1), least=BALANCED * pt.sum(axis=1))
        x, y = x * cos + y * sin, y * cos - x * sin
    energy, z = 0.5 * (up + down), 0.5 * (up - down)
    if rotate:
        angle = phi - np.arctan2(sin, cos)
        angle -= 2 * np.pi * np.rint(angle / (2 * np.pi))
        y, z = _rotated(energy, eta + np.log(boost), angle, y, z)
    if flip:
        y *= _mirror(energy, y)
        z *= _mirror(energy, -z)
    if align == "rest_frame":
        energy, x, y, z = _at_rest(energy, x, y, z)
    found: Float = np.stack([energy, x, y, z], axis=-1)
    return found


def _ratio(numerator: Float, denominator: Float) -> Float:
    """Return the factor (n, 1) of a boost that makes both sums equal; 1 where there is nothing."""
    ratio = np.divide(numerator, denominator, out=np.ones_like(numerator), where=denominator > 0)
    return np.asarray(np.sqrt(ratio)[:, None])


def _direction(x: Float, y: Float, *, least: Float) -> tuple[Float, Float]:
    """Return cosine and sine (n, 1) of the directions of vectors (n,); those no longer than `least` lie along x."""
    length = np.hypot(x, y)
    long = length > least
    cos = np.divide(x, length, out=np.ones_like(x), where=long)
    return cos[:, None], np.divide(y, length, out=np.zeros_like(y), where=long)[:, None]


def _rotated(energy: Float, eta: Float, phi: Float, y: Float, z: Float) -> tuple[Float, Float]:
    """Return py and pz (n, k) of jets along x turned about x, their mean direction along phi; eta, phi: from the axis."""
    radius = np.hypot(phi, eta)
    weight = np.divide(energy, radius, out=np.zeros_like(energy), where=radius > ROUNDING)
    least = ROUNDING * energy.sum(axis=1)
    cos, sin = _direction((weight * phi).sum(axis=1), (weight * eta).sum(axis=1), least=least)
    return y * cos + z * sin, z * cos - y * sin


def _mirror(energy: Float, y: Float) -> Float:
    """Return -1 (n, 1) where more energy lies at y < 0 than at y > 0, else 1."""
    near = ROUNDING * energy
    balance = (energy * ((y > near).astype(np.float64) - (y < -near))).sum(axis=1)
    return np.where(balance < -ROUNDING * energy.sum(axis=1), -1.0, 1.0)[:, None]


def _at_rest(energy: Float, x: Float, y: Float, z: Float) -> tuple[Float, Float, Float, Float]:
    """Return the momenta (n, k) of jets along x after a boost along x to rest; without mass: zeros."""
    forward = energy + x
    # E - px of a light jet is a small difference, which py and pz have without the cancellation.
    backward = np.divide(y * y + z * z, forward, out=energy - x, where=x > 0)
    ahead, behind = forward.sum(axis=1), backward.sum(axis=1)
    massive = behind > ROUNDING**2 * ahead
    boost = _ratio(np.where(massive, behind, 1.0), np.where(massive, ahead, 1.0))
    there = massive[:, None].astype(np.float64)
    forward, backward = forward * boost * there, backward / boost * there
    return 0.5 * (forward + backward), 0.5 * (forward - backward), y * there, z * there
