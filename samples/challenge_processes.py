"""The Standard Model in channels 1 and 2b of the DarkMachines challenge (arXiv:2105.14027), and signals in its manner, by Pythia 8 at leading order.

A component's share is the cross section of what passes, pb: that of what Pythia generates, from the least pT-hat on, times the part of the tries that passes, those that are given
up early included. Both were measured with the components as they are, seed 77, multiple interactions on; docs/conventions.md has the table with its errors, and what is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .challenge_selection import STORED
from .event_processes import FORCED_BEAUTY, Component, resonance_settings
from .slha import CHARGINO, GLUINO, LIGHT_SQUARKS, NEUTRALINO, NEUTRALINO2, STOP, Decay, spectrum

__all__ = [
    "CHANEUT",
    "CHANNEL1_SM",
    "CHANNEL2B_SM",
    "GLGL",
    "MONOJET",
    "SQSQ",
    "STLP",
    "STOP2B",
    "ZH_INV",
    "ZP_MUTAU",
    "passing",
]

LEAST_SUM = 680.0
"""GeV; 0.85 of MET + HT = 800, which an event of channel 1 has at least."""
HIGGS, ZPRIME_DM, DARK = 25, 55, 52
ZPRIME_LEPTONS = 9900104
GENERIC_Z, Z_MASS, Z_WIDTH = 4900023, 91.19, 0.0274
"""PDG number, GeV, and the width in units of the mass."""
MONOJET_PTHAT = 100.0
Parameters = Mapping[str, float]


def _always(*lines: str) -> Callable[[Parameters], list[str]]:
    """Return settings that do not depend on parameters."""

    def settings(parameters: Parameters) -> list[str]:
        del parameters
        return list(lines)

    return settings


def passing(cross_section: float, passed: int, tried: int, *, part: float = 1.0) -> float:
    """Return the cross section of what passes, pb; cross_section: Pythia's of what was tried, pb; part: of the collisions, where decays are forced."""
    return cross_section * part * passed / tried


Z_JET = ("WeakBosonAndParton:qqbar2gmZg = on", "WeakBosonAndParton:qg2gmZq = on")
W_JET = ("WeakBosonAndParton:qqbar2Wg = on", "WeakBosonAndParton:qg2Wq = on")
TTBAR = ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on")
W_LEPTONIC = ("24:onMode = off", "24:onIfAny = 11 13 15")
Z_LEPTONIC = ("23:onMode = off", "23:onIfAny = 11 13 15")
Z_INVISIBLE = ("23:onMode = off", "23:onIfAny = 12 14 16")

ONE_SEMILEPTONIC = 2 * 0.21
"""Of pairs of b quarks, those in which one or the other decays to electron or muon directly (PDG 2024), those with two counted twice."""

CHANNEL1_SM = (
    Component(
        "znunu",
        passing(32.3, 14, 7953),
        _always(*Z_JET, "WeakZ0:gmZmode = 2", *Z_INVISIBLE, "PhaseSpace:pTHatMin = 150"),
        kept="1",
        least_sum=LEAST_SUM,
    ),
    Component(
        "wlnu",
        passing(126.4, 15, 12004),
        _always(*W_JET, *W_LEPTONIC, "PhaseSpace:pTHatMin = 150"),
        kept="1",
        least_sum=LEAST_SUM,
    ),
    Component(
        "ttbar", passing(274.3, 5, 5019), _always(*TTBAR, "PhaseSpace:pTHatMin = 100"), kept="1", least_sum=LEAST_SUM
    ),
    Component(
        "bb",
        passing(70.8, 2, 1085, part=ONE_SEMILEPTONIC),
        _always("HardQCD:hardbbbar = on", "PhaseSpace:pTHatMin = 250"),
        FORCED_BEAUTY,
        kept="1",
        least_sum=LEAST_SUM,
    ),
)

CHANNEL2B_SM = (
    Component("ttbar", passing(51.7, 119, 1000), _always(*TTBAR, *W_LEPTONIC), kept="2b"),
    Component(
        "dy",
        passing(531.0, 4, 2000),
        _always(*Z_JET, *Z_LEPTONIC, "23:mMin = 20", "PhaseSpace:pTHatMin = 40"),
        kept="2b",
    ),
    Component("ww", passing(6.88, 28, 1000), _always("WeakDoubleBoson:ffbar2WW = on", *W_LEPTONIC), kept="2b"),
    Component(
        "wz",
        passing(0.763, 14, 300),
        _always("WeakDoubleBoson:ffbar2ZW = on", *W_LEPTONIC, *Z_LEPTONIC, "23:mMin = 20"),
        kept="2b",
    ),
    Component(
        "zz",
        passing(0.890, 17, 1000),
        _always(
            "WeakDoubleBoson:ffbar2gmZgmZ = on", "23:onMode = off", "23:onIfAny = 11 12 13 14 15 16", "23:mMin = 20"
        ),
        kept="2b",
    ),
)


def _signal(
    name: str, settings: Callable[[Parameters], list[str]], slha: Callable[[Parameters], str] | None = None
) -> tuple[Component, ...]:
    """Return the one component of a signal, whose events are those that the challenge stores."""
    return (Component(name, 1.0, settings, kept=STORED, slha=slha),)


def _even(*channels: tuple[int, ...]) -> tuple[Decay, ...]:
    """Return channels that are as likely as each other."""
    return tuple((1 / len(channels), products) for products in channels)


def _glgl(parameters: Parameters) -> str:
    decays = _even(*((NEUTRALINO, quark, -quark) for quark in (1, 2, 3, 4)))
    return spectrum({GLUINO: parameters["m_gluino"], NEUTRALINO: parameters["m_neut"]}, {GLUINO: decays})


def _sqsq(parameters: Parameters) -> str:
    masses = {NEUTRALINO: parameters["m_neut"]} | dict.fromkeys(LIGHT_SQUARKS, parameters["m_squark"])
    return spectrum(masses, {squark: _even((NEUTRALINO, squark % 10)) for squark in LIGHT_SQUARKS})


def _stop2b(parameters: Parameters) -> str:
    stop, neutralino = parameters["m_stop"], parameters["m_neut"]
    masses = {STOP: stop, CHARGINO: (stop + neutralino) / 2, NEUTRALINO: neutralino}
    return spectrum(masses, {STOP: _even((CHARGINO, 5)), CHARGINO: _even((NEUTRALINO, 24))})


def _stlp(parameters: Parameters) -> str:
    return spectrum({STOP: parameters["m_stop"]}, {STOP: _even((5, -11), (5, -13))})


def _chaneut(parameters: Parameters) -> str:
    masses = {CHARGINO: parameters["m_cha"], NEUTRALINO2: parameters["m_cha"], NEUTRALINO: parameters["m_neut"]}
    return spectrum(masses, {CHARGINO: _even((NEUTRALINO, 24)), NEUTRALINO2: _even((NEUTRALINO, 23))})


def _squark_pair(*processes: str, squarks: tuple[int, ...]) -> Callable[[Parameters], list[str]]:
    numbers = ",".join(map(str, squarks))
    lines = (f"SUSY:{process} = on" for process in processes)
    return _always(*lines, f"SUSY:idVecA = {numbers}", f"SUSY:idVecB = {numbers}")


def _monojet(parameters: Parameters) -> list[str]:
    """Make a vector mediator beside a jet, which decays to two dark fermions."""
    return [
        "DM:ffbar2Zp2XXj = on",
        "DM:qg2Zp2XXj = on",
        *resonance_settings(ZPRIME_DM, parameters["m_zprime"]),
        f"{DARK}:m0 = {parameters['m_dm']}",
        f"{ZPRIME_DM}:onMode = off",
        f"{ZPRIME_DM}:onIfAny = {DARK}",
        f"PhaseSpace:pTHatMin = {MONOJET_PTHAT}",
    ]


def _zp_mutau(parameters: Parameters) -> list[str]:
    """Make a Z that decays to two muons and a Z' (phase space), and the Z' to muons, taus, and neutrinos of both, as L_mu - L_tau has it.

    The Z is Pythia's generic neutral vector boson, with the mass and width of a Z: its own takes no three products.
    """
    mass = parameters["m_zprime"]
    return [
        "HiddenValley:ffbar2Zv = on",
        *resonance_settings(GENERIC_Z, Z_MASS, width=Z_WIDTH),
        f"{GENERIC_Z}:mMin = {mass + 1}",
        f"{ZPRIME_LEPTONS}:all = Zprime void 3 0 0 {mass} {1e-3 * mass} {0.98 * mass} {1.02 * mass} 0.",
        f"{ZPRIME_LEPTONS}:isResonance = true",
        f"{ZPRIME_LEPTONS}:oneChannel = 1 0.3333 101 13 -13",
        f"{ZPRIME_LEPTONS}:addChannel = 1 0.3333 101 15 -15",
        f"{ZPRIME_LEPTONS}:addChannel = 1 0.1667 101 14 -14",
        f"{ZPRIME_LEPTONS}:addChannel = 1 0.1667 101 16 -16",
        f"{GENERIC_Z}:onMode = off",
        f"{GENERIC_Z}:addChannel = 1 0.5 101 13 -13 {ZPRIME_LEPTONS}",
    ]


def _zh_inv(parameters: Parameters) -> list[str]:
    """Make a Higgs boson that leaves nothing to be seen, neutrinos in its place, beside a Z of two electrons or muons."""
    return [
        "HiggsSM:ffbar2HZ = on",
        *resonance_settings(HIGGS, parameters["m_H"]),
        f"{HIGGS}:onMode = off",
        f"{HIGGS}:addChannel = 1 1. 101 14 -14",
        "23:onMode = off",
        "23:onIfAny = 11 13",
    ]


SQUARK_PAIRS = ("gg2squarkantisquark", "qqbar2squarkantisquark")
GLGL = _signal("glgl", _always("SUSY:gg2gluinogluino = on", "SUSY:qqbar2gluinogluino = on"), _glgl)
SQSQ = _signal("sqsq", _squark_pair(*SQUARK_PAIRS, "qq2squarksquark", squarks=LIGHT_SQUARKS), _sqsq)
STOP2B = _signal("stop2b", _squark_pair(*SQUARK_PAIRS, squarks=(STOP,)), _stop2b)
STLP = _signal("stlp", _squark_pair(*SQUARK_PAIRS, squarks=(STOP,)), _stlp)
CHANEUT = _signal(
    "chaneut",
    _always(
        "SUSY:qqbar2chi+-chi0 = on",
        f"SUSY:idVecA = {CHARGINO}",
        f"SUSY:idVecB = {NEUTRALINO2}",
        *W_LEPTONIC,
        *Z_LEPTONIC,
    ),
    _chaneut,
)
MONOJET = _signal("monojet", _monojet)
ZP_MUTAU = _signal("zp_mutau", _zp_mutau)
ZH_INV = _signal("zh_inv", _zh_inv)
