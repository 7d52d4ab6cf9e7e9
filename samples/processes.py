"""The processes that can be simulated: their parameters and the Pythia 8 settings that make them, at 13 TeV."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..errors import HunchError, unknown_name

__all__ = ["PROCESSES", "Process", "SimulationError", "pythia_settings", "with_defaults"]

PTHAT_FRACTION = 0.9
"""Default pT-hat floor of QCD in units of the jet cut.

Initial-state radiation lifts some events of lower pT-hat over the cut. On 10,000 biased events with a cut of 1200 GeV
a floor of 0.9 misses 25 % of them and accepts 62 % of its tries; 0.85: 19 %, 46 %; 0.8: 16 %, 32 %; 0.75: 12 %, 22 %.
The share missed falls with the jet's pT (34 % at the cut), so that relative to a floor of 0.8 the first 50 GeV of the
jet pT spectrum are 6 +- 8 % lower in shape; a fit of m_jj has to start above the turn-on in any case.
"""
RELATIVE_WIDTH = 1e-3
"""Natural width of every new particle in units of its mass: far below the detector's 3 to 4 % in m_jj."""
WINDOW = 0.02
"""Breit-Wigner window on both sides in units of the mass: 20 widths."""
X, Y = 9900101, 9900102
TOP_MASS, W_MASS, Z_MASS = 173.0, 80.4, 91.2
MASS_MIN = 20.0
"""GeV; Pythia treats lighter particles as hadrons, not as resonances that shower."""


class SimulationError(HunchError):
    """A simulation that cannot be set up, or that gives no events."""


@dataclass(frozen=True)
class Process:
    """One process: what it is, its parameters (masses in GeV) with defaults, and whether it counts as signal.

    settings(parameters, min_jet_pt) gives the lines for Pythia; daughters names the masses whose sum has to stay
    below `m_zprime` or `m_wprime`, as parameter names or GeV.
    """

    description: str
    parameters: Mapping[str, float]
    signal: bool
    settings: Callable[[Mapping[str, float], float], list[str]]
    daughters: tuple[str | float, ...] = ()


def _qcd(parameters: Mapping[str, float], min_jet_pt: float) -> list[str]:
    return ["HardQCD:all = on", f"PhaseSpace:pTHatMin = {parameters['pthat_fraction'] * min_jet_pt}"]


def _narrow(number: int, mass: float) -> list[str]:
    return [
        f"{number}:m0 = {mass}",
        f"{number}:doForceWidth = on",
        f"{number}:mWidth = {RELATIVE_WIDTH * mass}",
        f"{number}:mMin = {(1 - WINDOW) * mass}",
        f"{number}:mMax = {(1 + WINDOW) * mass}",
    ]


def _singlet(number: int, name: str, mass: float, decays: tuple[str, ...]) -> list[str]:
    """Define a neutral, colourless scalar, its own antiparticle, that decays evenly into `decays`, isotropically."""
    particle = f"{number}:all = {name} void 1 0 0 {mass} {RELATIVE_WIDTH * mass} {(1 - WINDOW) * mass} {(1 + WINDOW) * mass} 0."
    first, *others = (f"1 {1 / len(decays)} 101 {products}" for products in decays)
    lines = [particle, f"{number}:isResonance = true", f"{number}:oneChannel = {first}"]
    return lines + [f"{number}:addChannel = {other}" for other in others]


def _to_xy(decays: tuple[str, ...]) -> Callable[[Mapping[str, float], float], list[str]]:
    """Produce q qbar -> Z' -> X Y.

    Pythia's own Z' (32) couples to fermions only, so its generic neutral vector boson (4900023) is used; its decay to
    fermions stays in the table, closed, because that is what couples it to the incoming quarks.
    """

    def settings(parameters: Mapping[str, float], min_jet_pt: float) -> list[str]:
        del min_jet_pt
        return [
            "HiddenValley:ffbar2Zv = on",
            *_singlet(X, "X", parameters["m_x"], decays),
            *_singlet(Y, "Y", parameters["m_y"], decays),
            *_narrow(4900023, parameters["m_zprime"]),
            "4900023:onMode = off",
            f"4900023:addChannel = 1 0.5 101 {X} {Y}",
        ]

    return settings


HADRONIC_WZ = [
    "24:onMode = off",
    "24:onIfAny = 1 2 3 4 5",
    "23:onMode = off",
    "23:onIfAny = 1 2 3 4 5",
]


def _to_tt(parameters: Mapping[str, float], min_jet_pt: float) -> list[str]:
    del min_jet_pt
    return [
        "NewGaugeBoson:ffbar2gmZZprime = on",
        "Zprime:gmZmode = 3",  # the Z' alone, no interference with photon and Z
        *_narrow(32, parameters["m_zprime"]),
        "32:onMode = off",
        "32:onIfAny = 6",
        *HADRONIC_WZ,
    ]


def _to_wz(parameters: Mapping[str, float], min_jet_pt: float) -> list[str]:
    del min_jet_pt
    return [
        "NewGaugeBoson:ffbar2Wprime = on",
        "Wprime:coup2WZ = 1.",
        *_narrow(34, parameters["m_wprime"]),
        "34:onMode = off",
        "34:onIfAll = 24 23",
        *HADRONIC_WZ,
    ]


LHCO = {"m_zprime": 3500.0, "m_x": 500.0, "m_y": 100.0}
"""The LHC Olympics R&D signal (arXiv:2101.08320)."""

PROCESSES: dict[str, Process] = {
    "qcd": Process("QCD dijets", {"pthat_fraction": PTHAT_FRACTION}, signal=False, settings=_qcd),
    "zprime_xy": Process(
        "Z' -> X Y, X -> q q, Y -> q q (two-prong; q = u, d, s)",
        LHCO,
        signal=True,
        settings=_to_xy(("1 -1", "2 -2", "3 -3")),
        daughters=("m_x", "m_y"),
    ),
    "zprime_qqq": Process(
        "Z' -> X Y, X -> q q q, Y -> q q q (three-prong; u d s and its conjugate)",
        LHCO,
        signal=True,
        settings=_to_xy(("2 1 3", "-2 -1 -3")),
        daughters=("m_x", "m_y"),
    ),
    "zprime_tt": Process(
        "Z' -> t tbar, both tops hadronic",
        {"m_zprime": 3500.0},
        signal=True,
        settings=_to_tt,
        daughters=(TOP_MASS,) * 2,
    ),
    "wprime_wz": Process(
        "W' -> W Z, both hadronic", {"m_wprime": 3500.0}, signal=True, settings=_to_wz, daughters=(W_MASS, Z_MASS)
    ),
}
"""Every process by name. Cross sections of the X Y processes are those of an arbitrary coupling."""


def with_defaults(process: str, parameters: Mapping[str, float] | None = None) -> dict[str, float]:
    """Return all parameters of a process, the given ones over its defaults.

    Raises SimulationError for an unknown process or parameter, a mass outside what the process allows, or daughters
    too heavy for their mother.
    """
    if process not in PROCESSES:
        raise SimulationError(unknown_name("process", process, PROCESSES))
    recipe = PROCESSES[process]
    values = dict(recipe.parameters)
    for name, value in (parameters or {}).items():
        if name not in values:
            raise SimulationError(unknown_name("parameter", name, values, f"process {process!r}"))
        values[name] = float(value)
    for name, value in values.items():
        low, high = (0.1, 1.0) if name == "pthat_fraction" else (MASS_MIN, 13000.0)
        if not low <= value <= high:
            raise SimulationError(f"process {process!r}: {name} = {value:g}; allowed: {low:g} to {high:g}")
    if recipe.daughters:
        mother = next(iter(values))
        masses = [values[d] if isinstance(d, str) else d for d in recipe.daughters]
        if sum(masses) >= (1 - WINDOW) * values[mother]:
            shown = " + ".join(f"{mass:g}" for mass in masses)
            raise SimulationError(
                f"process {process!r}: {mother} = {values[mother]:g} GeV is too light for daughters of {shown} GeV"
            )
    return values


def pythia_settings(process: str, parameters: Mapping[str, float], *, min_jet_pt: float) -> list[str]:
    """Return the lines for Pythia's `readString`, without seed: 13 TeV pp, Pythia's default tune and PDF."""
    return [
        "Beams:eCM = 13000.",
        "Print:quiet = on",
        "Random:setSeed = on",
        *PROCESSES[process].settings(parameters, min_jet_pt),
    ]
