"""Masses of a particle spread flat over a range, so that one sample holds jets of every mass.

Pythia draws a mass from a Breit-Wigner curve. Here that is as wide as its particle is heavy, cut at the edges of the range, and each
collision's cross section is multiplied by the curve's inverse.
"""

from __future__ import annotations

__all__ = ["flat_weight", "spread_settings"]

Window = tuple[float, float]


def spread_settings(number: int, masses: Window) -> list[str]:
    """Return the lines for Pythia that spread the mass of particle `number` over `masses` (low, high; GeV)."""
    middle = sum(masses) / 2
    return [
        f"{number}:m0 = {middle}",
        f"{number}:doForceWidth = on",
        f"{number}:mWidth = {middle}",
        f"{number}:mMin = {masses[0]}",
        f"{number}:mMax = {masses[1]}",
    ]


def flat_weight(mass: float, masses: Window) -> float:
    """Return the inverse of the curve that `spread_settings` makes Pythia draw masses (GeV) from, 1 at the middle of the range.

    The curve in m^2 has a width that grows with m, Gamma(m) m = m^2 for a width as large as the mass of its peak.

    >>> flat_weight(120.0, (40.0, 200.0))
    1.0
    """
    middle = sum(masses) / 2
    square, peak = mass**2, middle**2
    return ((square - peak) ** 2 + square**2) / (mass * square * middle)
