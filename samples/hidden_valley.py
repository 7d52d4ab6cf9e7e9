"""Semi-visible jets: showers of dark quarks whose dark mesons decay to quarks or leave the detector unseen.

A dark force with two colours confines two flavours of dark quarks of equal mass (arXiv:1503.00009, arXiv:1707.05326). Pythia's
hidden valley (arXiv:1102.3795) showers and hadronises them. Every dark meson decays at once: a share r_inv to a pair of stable,
invisible particles, the rest to quarks. That is the model of the CMS search (arXiv:2112.11125), whose production of Z' and dark
sector is followed here, with two differences: the Z' has the width of the other new particles, and the decays of pseudoscalars go by ratios of
quark masses that do not depend on the scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from .event_processes import resonance_settings

__all__ = ["DARK_QUARK", "Z_PRIME", "alpha_peak", "confinement_scale", "dark_shower"]

Z_PRIME, DARK_QUARK = 4900023, 4900101
"""PDG numbers of the Z' that couples to dark quarks, and of the first of these."""
PSEUDOSCALARS, VECTORS = (4900111, 4900211), (4900113, 4900213)
"""Dark mesons of one flavour and of two; either kind decays, so that r_inv holds of all."""
SCALAR_MATTER, VECTOR_MATTER = 51, 53
"""Stable particles that dark pseudoscalars and vectors decay to; massless, as nothing of them is measured."""
COLOURS, FLAVOURS = 2, 2
VECTOR_SHARE = 0.75
"""Of the dark mesons, by their spin states."""
REFERENCE_SCALE = 1000.0
"""GeV; where alpha_dark is given."""
SHOWER_END = 1.1
"""Least pT of a dark gluon in units of the confinement scale, the lowest that Pythia takes."""
LIGHTEST_HADRON = {1: 0.14, 2: 0.14, 3: 0.5, 4: 1.87, 5: 5.28}
"""GeV; a quark whose two lightest hadrons a dark meson cannot hold is no decay of it."""
MASS_MARGIN = 0.5
"""GeV above that, for the quarks to hadronise."""
MASS_RATIO = {3: 1 / (4.58 * 11.77), 4: 1 / 4.58, 5: 1.0}
"""Running quark masses in units of that of b, the same at every scale (lattice averages, arXiv:2111.09849); u and d are left out."""
B0 = (11 * COLOURS - 2 * FLAVOURS) / 6
"""Of the running coupling: alpha(Q) = pi / (B0 ln(Q / Lambda)), arXiv:1707.05326, figure 2."""


def alpha_peak(m_dark: float) -> float:
    """Return the dark coupling at 1 TeV that leaves the most dark mesons of mass m_dark (GeV).

    Its confinement scale is 3.2 GeV (m_dark / GeV)^0.8 (arXiv:2112.11125).

    >>> round(alpha_peak(20.0), 3)
    0.313
    """
    return math.pi / (B0 * math.log(REFERENCE_SCALE / (3.2 * m_dark**0.8)))


def confinement_scale(alpha_dark: float) -> float:
    """Return Lambda (GeV) of a dark coupling at 1 TeV, one loop.

    >>> round(confinement_scale(alpha_peak(20.0)), 1)
    35.2
    """
    return REFERENCE_SCALE * math.exp(-math.pi / (B0 * alpha_dark))


def dark_shower(parameters: Mapping[str, float]) -> list[str]:
    """Return the lines for Pythia that make q qbar -> Z' -> two dark quarks, each of which showers to dark mesons.

    parameters: m_zprime and m_dark (GeV), r_inv, alpha_dark. The dark quarks have half the mass of a meson. Vectors decay evenly to the
    quarks that they can hold, pseudoscalars by the squares of the quarks' masses. The other decays of the Z' are closed, and
    couple it to the incoming quarks, so that the cross section is that of an arbitrary coupling.
    """
    m_dark, r_inv = parameters["m_dark"], parameters["r_inv"]
    scale = confinement_scale(parameters["alpha_dark"])
    possible = [q for q, mass in LIGHTEST_HADRON.items() if 2 * mass + MASS_MARGIN < m_dark]
    evenly = dict.fromkeys(possible, 1.0)
    by_mass = {q: ratio**2 for q, ratio in MASS_RATIO.items() if q in possible}
    return [
        "HiddenValley:ffbar2Zv = on",
        *resonance_settings(Z_PRIME, parameters["m_zprime"]),
        f"{Z_PRIME}:onMode = off",
        f"{Z_PRIME}:onIfAny = {DARK_QUARK}",
        f"HiddenValley:Ngauge = {COLOURS}",
        f"HiddenValley:nFlav = {FLAVOURS}",
        "HiddenValley:spinFv = 0",  # dark quarks have spin 1/2
        "HiddenValley:FSR = on",
        "HiddenValley:fragment = on",
        "HiddenValley:alphaOrder = 1",
        "HiddenValley:setLambda = on",
        f"HiddenValley:Lambda = {scale}",
        f"HiddenValley:pTminFSR = {SHOWER_END * scale}",
        f"HiddenValley:probVector = {VECTOR_SHARE}",
        f"{DARK_QUARK}:m0 = {m_dark / 2}",
        *(f"{matter}:{line}" for matter in (SCALAR_MATTER, VECTOR_MATTER) for line in ("isResonance = off", "m0 = 0.")),
        *(line for meson in PSEUDOSCALARS for line in _meson(meson, m_dark, r_inv, SCALAR_MATTER, by_mass)),
        *(line for meson in VECTORS for line in _meson(meson, m_dark, r_inv, VECTOR_MATTER, evenly)),
    ]


def _meson(number: int, mass: float, r_inv: float, matter: int, quarks: Mapping[int, float]) -> list[str]:
    """Define a dark meson that decays to `matter` with the probability r_inv, else to `quarks` by their shares."""
    total = sum(quarks.values())
    visible = {quark: (1 - r_inv) * share / total for quark, share in quarks.items()}
    return [
        f"{number}:m0 = {mass}",
        f"{number}:oneChannel = 1 {r_inv} 0 {matter} -{matter}",
        *(f"{number}:addChannel = 1 {probability} 91 {quark} -{quark}" for quark, probability in visible.items()),
    ]
