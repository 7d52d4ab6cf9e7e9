"""Samples of whole events: the kinds of collisions that each is mixed of, and the Pythia 8 settings that make them.

The background is the cocktail of arXiv:2107.02157, the signals are its four. QCD is b bbar and c cbar alone, whose hadrons give
leptons: of light flavours next to none has a lepton above the trigger's threshold. One of the two heavy quarks decays to
electron or muon in every event, and the lepton that fires the trigger has to have its charge: the events are those of natural decays, and
come four times as often. `heavy_flavour` makes them faster still.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = [
    "A_TO_4L",
    "COCKTAIL",
    "FORCED_BEAUTY",
    "H0_TO_TAUTAU",
    "HCH_TO_TAUNU",
    "LEPTON",
    "LQ_TO_BTAU",
    "Component",
    "ForcedDecays",
    "resonance_settings",
]

RELATIVE_WIDTH = 1e-3
"""Natural width of every new particle in units of its mass: far below the detector's 3 to 4 % in m_jj."""
HIGGS, CHARGED_HIGGS, LEPTOQUARK = 25, 37, 42
HEAVY_PTHAT = 30.0
"""GeV; pT-hat floor of b bbar and c cbar.

Of b bbar with an isolated lepton above 23 GeV some half have pT-hat below 40 GeV (41 of 3,000 tries from 30 GeV on, 65 of 3,000 from 40 GeV on, at a third
of the cross section); what lies below 30 GeV is missing.
"""
DRELL_YAN_MASS = 20.0
"""GeV; the least mass of the lepton pair of Z -> l l, photon and interference included."""
B_MESONS, B_BARYONS = (511, 521, 531, 541), (5122, 5132, 5232, 5332)
C_MESONS, C_BARYONS = (411, 421, 431), (4122, 4132, 4232, 4332)
"""Hadrons that decay weakly, by PDG number."""
FOR_PARTICLE, FOR_ANTIPARTICLE = 2, 3
"""Pythia's `onMode` of channels that are open for one of the two alone."""
LEPTON = "lepton"
"""The selection of a sample whose events fire a lepton trigger."""


@dataclass(frozen=True)
class ForcedDecays:
    """Decays that leave leptons of one charge.

    hadrons: those that decay, by PDG number; by_charge(charge): the lines for Pythia under which leptons of that charge (1 or -1) are
    many, and the other charge is as in nature; repeats: how often each collision is decayed, where a lepton has to fire the trigger.
    """

    hadrons: tuple[int, ...]
    by_charge: Callable[[int], list[str]]
    repeats: int


@dataclass(frozen=True)
class Component:
    """One kind of collision in a sample of whole events.

    share: of the sample, whose events all pass what `kept` says, in units that a sample's components have in common; settings(parameters): the lines for Pythia; forced: the
    lepton that fires the trigger has to be of such a decay. None where nothing is forced. kept: the selection, "lepton" for the trigger of
    arXiv:2107.02157, else one of `challenge_selection.passes`, and told as its objects. least_sum: collisions whose outgoing particles have less
    transverse energy, after the hard part of the shower (GeV), are given up; slha(parameters): the spectrum of superpartners.
    """

    name: str
    share: float
    settings: Callable[[Mapping[str, float]], list[str]]
    forced: ForcedDecays | None = None
    kept: str = LEPTON
    least_sum: float | None = None
    slha: Callable[[Mapping[str, float]], str] | None = None


def resonance_settings(number: int, mass: float, *, width: float = RELATIVE_WIDTH) -> list[str]:
    """Give a particle a mass (GeV), a width in units of it, and a Breit-Wigner window of 20 widths on both sides."""
    return [
        f"{number}:m0 = {mass}",
        f"{number}:doForceWidth = on",
        f"{number}:mWidth = {width * mass}",
        f"{number}:mMin = {(1 - 20 * width) * mass}",
        f"{number}:mMax = {(1 + 20 * width) * mass}",
    ]


def _w(parameters: Mapping[str, float]) -> list[str]:
    del parameters
    return ["WeakSingleBoson:ffbar2W = on", "24:onMode = off", "24:onIfAny = 11 13 15"]


def _z(parameters: Mapping[str, float]) -> list[str]:
    del parameters
    return [
        "WeakSingleBoson:ffbar2gmZ = on",
        "23:onMode = off",
        "23:onIfAny = 11 13 15",
        f"23:mMin = {DRELL_YAN_MASS}",
    ]


def _ttbar(parameters: Mapping[str, float]) -> list[str]:
    del parameters
    return ["Top:gg2ttbar = on", "Top:qqbar2ttbar = on"]


def _heavy(process: str) -> Callable[[Mapping[str, float]], list[str]]:
    """Return the settings of a pair of heavy quarks."""

    def settings(parameters: Mapping[str, float]) -> list[str]:
        del parameters
        return [f"HardQCD:{process} = on", f"PhaseSpace:pTHatMin = {HEAVY_PTHAT}"]

    return settings


def _semileptonic(hadrons: tuple[int, ...], *, natural: int) -> list[str]:
    """Let hadrons decay to electron or muon, but their antiparticles (natural = 3) or particles (2) as in nature."""
    return [line for h in hadrons for line in (f"{h}:onMode = {natural}", f"{h}:onIfAny = 11 13")]


def _beauty(charge: int) -> list[str]:
    """Force the decays of hadrons with an anti-b (charge 1) or a b quark: mesons of positive number have the anti-b, baryons the b."""
    positive, negative = FOR_ANTIPARTICLE, FOR_PARTICLE
    meson, baryon = (positive, negative) if charge > 0 else (negative, positive)
    return _semileptonic(B_MESONS, natural=meson) + _semileptonic(B_BARYONS, natural=baryon)


def _charm(charge: int) -> list[str]:
    """Force the decays of hadrons with a c (charge 1) or an anti-c quark."""
    natural = FOR_ANTIPARTICLE if charge > 0 else FOR_PARTICLE
    return _semileptonic((*C_MESONS, *C_BARYONS), natural=natural)


def _a_to_4l(parameters: Mapping[str, float]) -> list[str]:
    return [
        "HiggsSM:gg2H = on",
        *resonance_settings(HIGGS, parameters["m_A"]),
        f"{HIGGS}:onMode = off",
        f"{HIGGS}:onIfMatch = 23 23",
        "23:onMode = off",
        "23:onIfAny = 11 13",
    ]


def _lq_to_btau(parameters: Mapping[str, float]) -> list[str]:
    """Make pairs of scalar leptoquarks of charge -4/3, each of which decays to b and tau-."""
    return [
        "LeptoQuark:gg2LQLQbar = on",
        "LeptoQuark:qqbar2LQLQbar = on",
        f"{LEPTOQUARK}:chargeType = -4",
        f"{LEPTOQUARK}:0:products = 5 15",
        *resonance_settings(LEPTOQUARK, parameters["m_LQ"]),
    ]


def _h0_to_tautau(parameters: Mapping[str, float]) -> list[str]:
    return [
        "HiggsSM:gg2H = on",
        *resonance_settings(HIGGS, parameters["m_h0"]),
        f"{HIGGS}:onMode = off",
        f"{HIGGS}:onIfMatch = 15 -15",
    ]


def _hch_to_taunu(parameters: Mapping[str, float]) -> list[str]:
    """Make a charged scalar that decays to tau nu, and the tau to a lepton: no other decay fires the trigger."""
    return [
        "Higgs:useBSM = on",
        "HiggsBSM:ffbar2H+- = on",
        *resonance_settings(CHARGED_HIGGS, parameters["m_hch"]),
        f"{CHARGED_HIGGS}:onMode = off",
        f"{CHARGED_HIGGS}:onIfMatch = 15 16",
        "15:onMode = off",
        "15:onIfAny = 11 13",
    ]


FORCED_BEAUTY = ForcedDecays((*B_MESONS, *B_BARYONS), _beauty, 20)
QCD, CHARM = 0.338, 0.12
"""Share of QCD in the cocktail, and of c cbar in it."""

COCKTAIL = (
    Component("w", 0.592, _w),
    Component("bb", QCD * (1 - CHARM), _heavy("hardbbbar"), FORCED_BEAUTY),
    Component("cc", QCD * CHARM, _heavy("hardccbar"), ForcedDecays((*C_MESONS, *C_BARYONS), _charm, 60)),
    Component("z", 0.067, _z),
    Component("ttbar", 0.003, _ttbar),
)
"""The Standard Model after a single-lepton trigger of 23 GeV (arXiv:2107.02157)."""
A_TO_4L = (Component("a4l", 1.0, _a_to_4l),)
LQ_TO_BTAU = (Component("lqbtau", 1.0, _lq_to_btau),)
H0_TO_TAUTAU = (Component("h0tautau", 1.0, _h0_to_tautau),)
HCH_TO_TAUNU = (Component("htaunu", 1.0, _hch_to_taunu),)
