"""Give up collisions early that cannot leave a jet hard enough: before the soft half of the shower and hadronisation.

Pythia's shower is ordered in pT. At SCALE all hard radiation is there and a tenth of the work is done. Jets well above
the pT-hat of their collision (recoil against hard radiation, merged partons) can then be generated at a cost that hardly
depends on how low pT-hat starts.
"""

from __future__ import annotations

import math
from typing import Any

import pythia8mc

from .spread import flat_weight

__all__ = ["EarlyVeto", "SumVeto", "hardest_cone"]

SCALE = 20.0
"""GeV; where the shower pauses. Radiation below it moves a jet's pT by less than the margin."""
MARGIN = 0.85
"""Collisions are given up below this times the least pT of a jet.

Underlying event and resolution add some 5 %. Of 1,096 accepted jets (357 QCD, 381 top, 358 W; biased to low pT-hat, no
collision given up) the least cone was 0.93 of the window's lower edge. Smaller jets and collisions without an underlying
event need more, not less, of what is in the cone.
"""
CONE = 1.5
"""Radius of the cone around each parton, in units of the jet's or of 1.0 for smaller jets, so that a jet's partons are all in one."""
PARTON_PT_MIN = 5.0
RESONANCE_DECAY = 5
"""Pythia's number for a pause in the shower of a resonance decay; the collision itself was judged before."""


def hardest_cone(partons: list[tuple[float, float, float]], *, cone: float = CONE) -> float:
    """Return the largest scalar pT sum in a cone (its radius) around any of the partons (pt, eta, phi): GeV, 0 without partons.

    >>> hardest_cone([(300.0, 0.0, 3.1), (200.0, 0.5, -3.1), (400.0, 0.2, 0.0)])
    500.0
    """
    best = 0.0
    for _, eta, phi in partons:
        total = 0.0
        for pt, other_eta, other_phi in partons:
            dphi = abs(phi - other_phi)
            dphi = min(dphi, 2 * math.pi - dphi)
            if (eta - other_eta) ** 2 + dphi**2 < cone**2:
                total += pt
        best = max(best, total)
    return best


class EarlyVeto(pythia8mc.UserHooks):  # type: ignore[misc]
    """Hook for Pythia that gives up collisions whose hardest cone lies below MARGIN * min_pt (GeV).

    radius: of the jets; spread: the range over which the masses of the outgoing particles `legs` (3, 4) are to be flat, with the settings of
    `spread_settings`; None for masses as Pythia draws them. vetoed: how many it gave up. hardest: the hardest cone of the last collision that it judged.
    """

    def __init__(
        self,
        min_pt: float,
        *,
        radius: float = 1.0,
        spread: tuple[float, float] | None = None,
        legs: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self._threshold = MARGIN * min_pt
        self._cone = CONE * max(radius, 1.0)
        self._spread = spread
        self._legs = legs
        self.vetoed = 0
        self.hardest = 0.0

    def canModifySigma(self) -> bool:
        """Tell Pythia whether cross sections are multiplied."""
        return self._spread is not None

    def multiplySigmaBy(self, sigma: Any, phase_space: Any, in_event: bool) -> float:
        """Tell Pythia what to multiply the cross section of a collision by; sigma: its process, with the masses drawn."""
        del phase_space, in_event
        if self._spread is None:
            return 1.0
        return math.prod(flat_weight(sigma.m(leg), self._spread) for leg in self._legs)

    def canVetoPT(self) -> bool:
        """Tell Pythia to pause its shower once."""
        return True

    def scaleVetoPT(self) -> float:
        """Tell Pythia where: GeV."""
        return SCALE

    def doVetoPT(self, position: int, event: Any) -> bool:
        """Tell Pythia whether to give up the collision; position: what the shower did last."""
        if position == RESONANCE_DECAY:
            return False
        partons = []
        for i in range(event.size()):
            particle = event[i]
            if particle.isFinal() and (pt := particle.pT()) > PARTON_PT_MIN:
                partons.append((pt, particle.eta(), particle.phi()))
        self.hardest = hardest_cone(partons, cone=self._cone)
        given_up = self.hardest < self._threshold
        self.vetoed += given_up
        return given_up


class SumVeto(pythia8mc.UserHooks):  # type: ignore[misc]
    """Hook for Pythia that gives up collisions whose outgoing particles have less transverse energy than `least` (GeV) in all.

    Of a massive particle, a top or W that has still to decay, it is the root of m^2 + pT^2. Where an event has to have missing momentum and jets, their sum is at most
    this, but for what the soft half of the shower, the underlying event and the detector add. vetoed: how many it gave up; total: of the last
    collision that it judged.
    """

    def __init__(self, least: float) -> None:
        super().__init__()
        self._least = least
        self.vetoed = 0
        self.total = 0.0

    def canVetoPT(self) -> bool:
        """Tell Pythia to pause its shower once."""
        return True

    def scaleVetoPT(self) -> float:
        """Tell Pythia where: GeV."""
        return SCALE

    def doVetoPT(self, position: int, event: Any) -> bool:
        """Tell Pythia whether to give up the collision; position: what the shower did last."""
        if position == RESONANCE_DECAY:
            return False
        self.total = 0.0
        for i in range(event.size()):
            particle = event[i]
            if particle.isFinal() and particle.pT() > PARTON_PT_MIN:
                self.total += particle.mT()
        given_up = self.total < self._least
        self.vetoed += given_up
        return given_up
