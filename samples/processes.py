"""The processes that can be simulated: their parameters and the Pythia 8 settings that make them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..errors import HunchError, unknown_name
from .challenge_processes import (
    CHANEUT,
    CHANNEL1_SM,
    CHANNEL2B_SM,
    GLGL,
    MONOJET,
    SQSQ,
    STLP,
    STOP2B,
    ZH_INV,
    ZP_MUTAU,
)
from .event_processes import (
    A_TO_4L,
    COCKTAIL,
    H0_TO_TAUTAU,
    HCH_TO_TAUNU,
    LQ_TO_BTAU,
    RELATIVE_WIDTH,
    Component,
    resonance_settings,
)
from .hidden_valley import Z_PRIME, alpha_peak, dark_shower
from .spread import spread_settings

__all__ = [
    "PROCESSES",
    "SQRT_S",
    "Process",
    "SimulationError",
    "Value",
    "common_settings",
    "pythia_settings",
    "shown_parameters",
    "spread_of",
    "with_defaults",
]

PTHAT_FRACTION = 0.9
"""Default pT-hat floor of QCD in units of the jet cut.

Initial-state radiation lifts some events of lower pT-hat over the cut. On 10,000 biased events with a cut of 1200 GeV
a floor of 0.9 misses 25 % of them and accepts 62 % of its tries; 0.85: 19 %, 46 %; 0.8: 16 %, 32 %; 0.75: 12 %, 22 %.
The share missed falls with the jet's pT (34 % at the cut), so that relative to a floor of 0.8 the first 50 GeV of the
jet pT spectrum are 6 +- 8 % lower in shape; a fit of m_jj has to start above the turn-on in any case.
"""
WINDOW = 0.02
"""Breit-Wigner window on both sides in units of the mass: 20 widths."""
X, Y, H_LIGHT = 9900101, 9900102, 9900103
TOP, W, HIGGS = 6, 24, 25
TOP_MASS, W_MASS, Z_MASS, B_MASS = 173.0, 80.4, 91.2, 4.8
TAU_MASS, Z_STAR_MIN = 1.777, 10.0
"""GeV; the second is the least mass that Pythia gives a Z."""
TOP_WIDTH, W_WIDTH = 0.0082, 0.026
"""Natural widths of top and W in units of their masses (PDG 2024), kept for other masses."""
SQRT_S = 13_000.0
"""GeV; of the colliding protons, unless given."""
MASS_MIN = 20.0
"""GeV; Pythia treats lighter particles as hadrons, not as resonances that shower."""

NO_LIMIT = -1.0
"""What Pythia takes for no upper limit."""

Window = tuple[float, float]
Value = float | Window
"""A parameter: a number or, of a mass that can be spread, the edges of its range."""


class SimulationError(HunchError):
    """A simulation that cannot be set up, or that gives no events."""


@dataclass(frozen=True)
class Process:
    """One process: what it is, its parameters (masses in GeV) with defaults, and whether it counts as signal.

    settings(parameters, (low, high)) gives the lines for Pythia, with the window that the jet's pT has to lie in (GeV;
    high is infinite unless it is a process of single jets); daughters names the masses whose sum has to stay below the
    first parameter, as parameter names or GeV. single_jet: an event of the sample is one jet and nothing else;
    mothers: PDG numbers of the particles whose decay it has to hold, none for the leading jet whatever it is; quarks: how
    many that decay leaves. resonant: the collision makes one particle nearly at rest, so that what it leaves in a cone is not known before its decay. spreads: PDG number of the particle whose mass, the first parameter, may be spread flat over a
    range; legs: the outgoing particles of the collision that are it, as Pythia counts (3, 4). components: of a sample of whole events,
    which are told as electrons, muons, jets and missing momentum: the kinds of collisions that it is mixed of; the settings, and the selection, are theirs.
    limits: of parameters whose range is not that of all masses.
    """

    description: str
    parameters: Mapping[str, float]
    signal: bool
    settings: Callable[[Mapping[str, float], Window], list[str]]
    daughters: tuple[str | float, ...] = ()
    single_jet: bool = False
    mothers: tuple[int, ...] = ()
    quarks: int = 0
    resonant: bool = False
    spreads: int = 0
    legs: tuple[int, ...] = ()
    components: tuple[Component, ...] = ()
    limits: Mapping[str, Window] = field(default_factory=dict)


def _of_components(parameters: Mapping[str, float], window: Window) -> list[str]:
    """Raise SimulationError: of whole events each component has settings of its own."""
    raise SimulationError(f"whole events are made of components; no settings for {dict(parameters)}, {window}")


def _events(
    description: str,
    components: tuple[Component, ...],
    daughters: tuple[str | float, ...] = (),
    *,
    limits: Mapping[str, Window] | None = None,
    **parameters: float,
) -> Process:
    """Return a process of whole events; mixtures of the Standard Model, which have no mass, are no signals."""
    return Process(
        description,
        parameters,
        signal=bool(parameters),
        settings=_of_components,
        daughters=daughters,
        components=components,
        limits=limits or {},
    )


def _qcd(parameters: Mapping[str, float], window: Window) -> list[str]:
    return ["HardQCD:all = on", f"PhaseSpace:pTHatMin = {parameters['pthat_fraction'] * window[0]}"]


def _singlet(number: int, name: str, mass: float, decays: tuple[str, ...]) -> list[str]:
    """Define a neutral, colourless scalar, its own antiparticle, that decays evenly into `decays`, isotropically."""
    particle = f"{number}:all = {name} void 1 0 0 {mass} {RELATIVE_WIDTH * mass} {(1 - WINDOW) * mass} {(1 + WINDOW) * mass} 0."
    first, *others = (f"1 {1 / len(decays)} 101 {products}" for products in decays)
    lines = [particle, f"{number}:isResonance = true", f"{number}:oneChannel = {first}"]
    return lines + [f"{number}:addChannel = {other}" for other in others]


def _semi_visible(parameters: Mapping[str, float], window: Window) -> list[str]:
    del window
    return dark_shower(parameters)


def _to_xy(decays: tuple[str, ...]) -> Callable[[Mapping[str, float], Window], list[str]]:
    """Produce q qbar -> Z' -> X Y.

    Pythia's own Z' (32) couples to fermions only, so its generic neutral vector boson (4900023) is used; its decay to
    fermions stays in the table, closed, because that is what couples it to the incoming quarks.
    """

    def settings(parameters: Mapping[str, float], window: Window) -> list[str]:
        del window
        return [
            "HiddenValley:ffbar2Zv = on",
            *_singlet(X, "X", parameters["m_x"], decays),
            *_singlet(Y, "Y", parameters["m_y"], decays),
            *resonance_settings(Z_PRIME, parameters["m_zprime"]),
            f"{Z_PRIME}:onMode = off",
            f"{Z_PRIME}:addChannel = 1 0.5 101 {X} {Y}",
        ]

    return settings


HADRONIC_WZ = [
    "24:onMode = off",
    "24:onIfAny = 1 2 3 4 5",
    "23:onMode = off",
    "23:onIfAny = 1 2 3 4 5",
]


def _to_tt(parameters: Mapping[str, float], window: Window) -> list[str]:
    del window
    return [
        "NewGaugeBoson:ffbar2gmZZprime = on",
        "Zprime:gmZmode = 3",  # the Z' alone, no interference with photon and Z
        *resonance_settings(32, parameters["m_zprime"]),
        "32:onMode = off",
        "32:onIfAny = 6",
        *HADRONIC_WZ,
    ]


def _to_wz(parameters: Mapping[str, float], window: Window) -> list[str]:
    del window
    return [
        "NewGaugeBoson:ffbar2Wprime = on",
        "Wprime:coup2WZ = 1.",
        *resonance_settings(34, parameters["m_wprime"]),
        "34:onMode = off",
        "34:onIfAll = 24 23",
        *HADRONIC_WZ,
    ]


def _hard_window(parameters: Mapping[str, float], window: Window) -> list[str]:
    highest = parameters["pthat_ceiling"] * window[1]
    return [
        f"PhaseSpace:pTHatMin = {parameters['pthat_floor'] * window[0]}",
        f"PhaseSpace:pTHatMax = {highest if math.isfinite(highest) else NO_LIMIT}",
    ]


def _qcd_jet(parameters: Mapping[str, float], window: Window) -> list[str]:
    return ["HardQCD:all = on", *_hard_window(parameters, window)]


def _top_jet(parameters: Mapping[str, float], window: Window) -> list[str]:
    return [
        "Top:gg2ttbar = on",
        "Top:qqbar2ttbar = on",
        *resonance_settings(TOP, parameters["m_top"], width=TOP_WIDTH),
        *resonance_settings(W, parameters["m_w"], width=W_WIDTH),
        *HADRONIC_WZ,
        *_hard_window(parameters, window),
    ]


def _w_jet(parameters: Mapping[str, float], window: Window) -> list[str]:
    return [
        "WeakBosonAndParton:qqbar2Wg = on",
        "WeakBosonAndParton:qg2Wq = on",
        *resonance_settings(W, parameters["m_w"], width=W_WIDTH),
        *HADRONIC_WZ,
        *_hard_window(parameters, window),
    ]


def _higgs_jet(parameters: Mapping[str, float], window: Window) -> list[str]:
    """Produce a scalar H beside a jet, H -> h h, h -> q q, all isotropic.

    Pythia's Higgs boson (25) is given the mass and the decay; its coupling to gluons is the top loop's, so that the cross section
    means nothing.
    """
    return [
        "HiggsSM:gg2Hg(l:t) = on",
        "HiggsSM:qg2Hq(l:t) = on",
        *resonance_settings(HIGGS, parameters["m_H"]),
        *_singlet(H_LIGHT, "h", parameters["m_h"], ("1 -1", "2 -2", "3 -3")),
        f"{HIGGS}:onMode = off",
        f"{HIGGS}:addChannel = 1 1. 101 {H_LIGHT} {H_LIGHT}",
        *_hard_window(parameters, window),
    ]


LHCO = {"m_zprime": 3500.0, "m_x": 500.0, "m_y": 100.0}
"""The LHC Olympics R&D signal (arXiv:2101.08320)."""

M_DARK = 20.0
DARK = {"m_dark": M_DARK, "r_inv": 0.3, "alpha_dark": alpha_peak(M_DARK)}
"""The dark sector of the CMS benchmark (arXiv:2112.11125); m_dark in GeV."""

HARD = {"pthat_floor": 0.6, "pthat_ceiling": 1.3}
"""Range of pT-hat of single jets in units of the window's edges; what lies low in it is mostly given up early (`veto`).

Initial-state radiation lifts jets far above pT-hat. Of 12,000 biased tries of each kind from pT-hat = 250 GeV, for jets
of 550 to 650 GeV, floors of 0.6, 0.7 and 0.8 miss 4, 15 and 27 % of the QCD jets, 3, 10 and 16 % of the top jets and
0, 1 and 4 % of the W jets; the ceiling of 1.3 misses 0.05 % or less. At 0.8 the shares in the lower and the upper half
of the window differ by 10 % (QCD, top), which would bend the pT spectrum.
"""

NEUTRALINO, MATTER, IN_Z = {"m_neut": (1.0, SQRT_S)}, {"m_dm": (1.0, SQRT_S)}, {"m_zprime": (MASS_MIN, 85.0)}
"""GeV; what the masses of dark particles may be, and that of a Z' that a Z decays to."""

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
    "zprime_svj": Process(
        "Z' -> two semi-visible jets: dark quarks shower to dark mesons, a share r_inv of which is invisible",
        {"m_zprime": 3500.0, **DARK},
        signal=True,
        settings=_semi_visible,
        daughters=("m_dark",) * 2,
    ),
    "jet_qcd": Process("one QCD jet an event, the leading one", HARD, signal=False, settings=_qcd_jet, single_jet=True),
    "jet_top": Process(
        "one jet an event that holds a hadronic top decay, of t tbar",
        {"m_top": TOP_MASS, "m_w": W_MASS, "min_quarks": 3, **HARD},
        signal=True,
        settings=_top_jet,
        daughters=("m_w", B_MASS),
        single_jet=True,
        mothers=(TOP, W),
        quarks=3,
        spreads=TOP,
        legs=(3, 4),
    ),
    "jet_w": Process(
        "one jet an event that holds a hadronic W decay, of W + jet",
        {"m_w": W_MASS, "min_quarks": 2, **HARD, "pthat_floor": 0.65},
        signal=True,
        settings=_w_jet,
        single_jet=True,
        mothers=(W,),
        quarks=2,
        spreads=W,
        legs=(3,),
    ),
    "jet_hh4j": Process(
        "one jet an event that holds H -> h h -> 4 q, of H + jet (four-prong; scalars, q = u, d, s)",
        {"m_H": 174.0, "m_h": 80.0, "min_quarks": 4, **HARD, "pthat_floor": 0.65},
        signal=True,
        settings=_higgs_jet,
        daughters=("m_h", "m_h"),
        single_jet=True,
        mothers=(H_LIGHT,),
        quarks=4,
    ),
    "jet_svj": Process(
        "one semi-visible jet an event, of Z' -> two dark quarks",
        {"m_zprime": 1700.0, **DARK},
        signal=True,
        settings=_semi_visible,
        daughters=("m_dark",) * 2,
        single_jet=True,
        mothers=(Z_PRIME,),
        quarks=1,
        resonant=True,
    ),
    "event_sm": _events(
        "whole events with a lepton: W -> l nu 59.2 %, QCD (b, c) 33.8 %, Z -> l l 6.7 %, ttbar 0.3 %", COCKTAIL
    ),
    "event_a4l": _events("whole events with a lepton: A -> Z* Z* -> 4 l (e, mu)", A_TO_4L, (Z_STAR_MIN,) * 2, m_A=50.0),
    "event_lqbtau": _events(
        "whole events with a lepton: LQ LQbar, LQ -> b tau", LQ_TO_BTAU, (B_MASS, TAU_MASS), m_LQ=80.0
    ),
    "event_h0tautau": _events("whole events with a lepton: h0 -> tau tau", H0_TO_TAUTAU, (TAU_MASS,) * 2, m_h0=60.0),
    "event_htaunu": _events(
        "whole events with a lepton: h+- -> tau nu, tau -> l nu nu (e, mu)", HCH_TO_TAUNU, (TAU_MASS,), m_hch=60.0
    ),
    "event_channel1_sm": _events("whole events of channel 1: Z -> nu nu, W -> l nu, ttbar, QCD", CHANNEL1_SM),
    "event_channel2b_sm": _events("whole events of channel 2b: ttbar, Drell-Yan, WW, WZ, ZZ", CHANNEL2B_SM),
    "event_glgl": _events(
        "whole events: gluino pairs, gluino -> q q chi",
        GLGL,
        ("m_neut",),
        limits=NEUTRALINO,
        m_gluino=1600.0,
        m_neut=800.0,
    ),
    "event_sqsq": _events(
        "whole events: squark pairs (u d s c), squark -> q chi",
        SQSQ,
        ("m_neut",),
        limits=NEUTRALINO,
        m_squark=1800.0,
        m_neut=800.0,
    ),
    "event_stop2b": _events(
        "whole events: stop pairs, stop -> b chi+, chi+ -> W chi (chi+ halfway between stop and chi)",
        STOP2B,
        ("m_neut", W_MASS, W_MASS),
        limits=NEUTRALINO,
        m_stop=1000.0,
        m_neut=300.0,
    ),
    "event_stlp": _events("whole events: stop pairs without R parity, stop -> b l (e, mu)", STLP, m_stop=1000.0),
    "event_chaneut": _events(
        "whole events: chi+- chi2 -> W chi Z chi, W -> l nu, Z -> l l",
        CHANEUT,
        ("m_neut", Z_MASS),
        limits=NEUTRALINO,
        m_cha=300.0,
        m_neut=100.0,
    ),
    "event_monojet": _events(
        "whole events: Z' + jet, Z' -> dark matter",
        MONOJET,
        ("m_dm", "m_dm"),
        limits=MATTER,
        m_zprime=2000.0,
        m_dm=50.0,
    ),
    "event_zp_mutau": _events(
        "whole events: Z -> mu mu Z', Z' -> mu mu, tau tau, nu nu", ZP_MUTAU, limits=IN_Z, m_zprime=50.0
    ),
    "event_zh_inv": _events("whole events: Z H, Z -> l l (e, mu), H -> invisible", ZH_INV, m_H=125.0),
}
"""Every process by name. Cross sections of the X Y and of the semi-visible processes are those of an arbitrary coupling."""


BOUNDS = {
    "pthat_fraction": (0.1, 1.0),
    "pthat_floor": (0.4, 1.0),
    "pthat_ceiling": (1.0, 10.0),
    "m_dark": (5.0, 200.0),
    "r_inv": (0.0, 0.95),
    "alpha_dark": (0.15, 0.8),
}
"""What parameters may be that are no masses of resonances; m_dark in GeV, and alpha_dark such that Lambda is 0.9 to 270 GeV.

At r_inv = 1 nothing of a semi-visible jet is seen: of 6,000 Z' of 3.5 TeV 13 have a jet of pT > 1.2 TeV, all of them initial-state radiation.
"""
REASONS = {"r_inv": " (at 1 nothing of the jets is seen)"}
"""Why a parameter is bounded, where that is not plain."""


def with_defaults(
    process: str, parameters: Mapping[str, Value] | None = None, *, sqrt_s: float = SQRT_S
) -> dict[str, Value]:
    """Return all parameters of a process, the given ones over its defaults.

    A top too light for a W of 80.4 GeV has one lighter in proportion (m_w of 37.2 GeV at m_top = 80), unless m_w is given;
    the dark coupling alpha_dark is `alpha_peak` of m_dark unless it is given.
    Raises SimulationError for an unknown process or parameter, a mass outside what the process allows or above sqrt_s (GeV),
    a range where one number is taken, or daughters too heavy for their mother.
    """
    if process not in PROCESSES:
        raise SimulationError(unknown_name("process", process, PROCESSES))
    recipe = PROCESSES[process]
    values: dict[str, Value] = dict(recipe.parameters)
    for name, value in (parameters or {}).items():
        if name not in values:
            raise SimulationError(unknown_name("parameter", name, values, f"process {process!r}"))
        values[name] = _checked(process, name, value, sqrt_s)
    if recipe.daughters:
        mother = next(iter(values))
        if "m_w" in recipe.daughters and "m_w" not in (parameters or {}):
            values["m_w"] = _w_that_fits(_low(values[mother]))
        masses = [_low(values[d]) if isinstance(d, str) else d for d in recipe.daughters]
        most = (1 - WINDOW) * _low(values[mother])
        if sum(masses) >= most:
            shown = " + ".join(f"{mass:g}" for mass in masses)
            raise SimulationError(
                f"process {process!r}: {mother} = {_shown(values[mother])} GeV is too light for daughters of {shown} GeV; "
                f"allowed: a sum below {most:g} GeV"
            )
    if "alpha_dark" in values and "alpha_dark" not in (parameters or {}):
        values["alpha_dark"] = alpha_peak(_low(values["m_dark"]))
    return values


def _checked(process: str, name: str, value: Value, sqrt_s: float) -> Value:
    """Return a parameter if it can be what it is given as; raises SimulationError."""
    recipe = PROCESSES[process]
    whole = name == "min_quarks"
    low, high = (
        (1.0, float(recipe.quarks)) if whole else recipe.limits.get(name) or BOUNDS.get(name, (MASS_MIN, sqrt_s))
    )
    ranged = bool(recipe.spreads) and name == next(iter(recipe.parameters))
    allowed = (
        "whole numbers, " * whole + f"{low:g} to {high:g}" + ", or LOW:HIGH within it" * ranged + REASONS.get(name, "")
    )
    if isinstance(value, tuple):
        good = ranged and low <= value[0] < value[1] <= high
        value = (float(value[0]), float(value[1]))
    else:
        good = low <= value <= high and not (whole and value % 1)
        value = float(value)
    if not good:
        raise SimulationError(f"process {process!r}: {name} = {_shown(value)}; allowed: {allowed}")
    return value


def _w_that_fits(m_top: float) -> float:
    """Return the mass of the W in a top: its own or, where that does not fit, its share of the top's (GeV)."""
    fits = (1 - WINDOW) * m_top > W_MASS + B_MASS
    return W_MASS if fits else max(MASS_MIN, W_MASS / TOP_MASS * m_top)


def _low(value: Value) -> float:
    return value[0] if isinstance(value, tuple) else value


def _shown(value: Value) -> str:
    return ":".join(f"{edge:g}" for edge in value) if isinstance(value, tuple) else f"{value:g}"


def shown_parameters(values: Mapping[str, Value]) -> str:
    """Return parameters as the command line takes them, in a line."""
    return ", ".join(f"{name} = {_shown(value)}" for name, value in values.items())


def spread_of(values: Mapping[str, Value]) -> Window | None:
    """Return the range of the mass that is spread (GeV), None where every mass is one number."""
    return next((value for value in values.values() if isinstance(value, tuple)), None)


def pythia_settings(
    process: str,
    parameters: Mapping[str, Value],
    *,
    min_jet_pt: float,
    max_jet_pt: float = math.inf,
    sqrt_s: float = SQRT_S,
    multiple_interactions: bool = True,
) -> list[str]:
    """Return the lines for Pythia's `readString`, without seed: pp at sqrt_s (GeV), Pythia's default tune and PDF."""
    recipe = PROCESSES[process]
    numbers = {name: math.fsum(v) / 2 if isinstance(v, tuple) else v for name, v in parameters.items()}
    spread = spread_of(parameters)
    return [
        *common_settings(sqrt_s=sqrt_s, multiple_interactions=multiple_interactions),
        *recipe.settings(numbers, (min_jet_pt, max_jet_pt)),
        *(spread_settings(recipe.spreads, spread) if spread else []),
    ]


def common_settings(*, sqrt_s: float, multiple_interactions: bool) -> list[str]:
    """Return the lines for Pythia that do not depend on the process; sqrt_s: GeV."""
    return [
        f"Beams:eCM = {sqrt_s}",
        "Print:quiet = on",
        "Random:setSeed = on",
        *([] if multiple_interactions else ["PartonLevel:MPI = off"]),
    ]
