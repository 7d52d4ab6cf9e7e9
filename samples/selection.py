"""What jet an event is selected by: the window of its pT, its radius, how far forward it may lie, and the detector that sees all of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .detector import Detector
from .jets import JET_RADIUS
from .processes import PROCESSES, SimulationError

__all__ = ["Selection", "checked_number", "refuse_jet_options", "selection_of"]

MIN_JET_PT = 1200.0
"""GeV; the least pT of the leading jet of an event, unless given."""
JET_PT = (550.0, 650.0)
"""GeV; the window of single jets, unless given: that of arXiv:2007.01850 and of the top-tagging reference."""
JET_PT_MIN = 20.0
RADII = (0.1, 1.5)
ETA_MIN = 0.1
CALORIMETER_ETA = 3.0
"""|eta| at which the endcap calorimeters of the Delphes CMS card end (arXiv:1307.6346); the tracker ends at 2.5."""
ROUNDING = 1e-9


@dataclass(frozen=True)
class Selection:
    """The selected jet: the window of its pT (GeV), its radius, |eta| < eta_max (infinite for whole events); the detector that sees it."""

    window: tuple[float, float]
    radius: float
    eta_max: float
    detector: Detector


def selection_of(
    process: str,
    *,
    min_jet_pt: float | None,
    jet_pt: tuple[float, float] | None,
    jet_radius: float | None,
    jet_eta: float | None,
) -> Selection:
    """Return the jet that a process is selected by, options over defaults.

    Single jets lie within the tracker unless jet_eta asks for more: then the calorimeters see up to |eta| = 3.0, where charged
    particles leave no track. Raises SimulationError for an option of the other kind of process, and for what no jet can have.
    """
    window = _window(process, min_jet_pt, jet_pt)
    radius = JET_RADIUS if jet_radius is None else checked_number("jet_radius", jet_radius, *RADII)
    if not PROCESSES[process].single_jet:
        if jet_eta is not None:
            raise SimulationError(f"process {process!r}: jet_eta is for single jets ({_single_jets()})")
        return Selection(window, radius, math.inf, Detector())
    usual = Detector()
    if jet_eta is None:
        return Selection(window, radius, usual.eta_max - radius, usual)
    why = f": jets of R = {radius:g} have to lie within |eta| = {CALORIMETER_ETA:g}, where the calorimeters end"
    eta = checked_number("jet_eta", jet_eta, ETA_MIN, round(CALORIMETER_ETA - radius, 9), why)
    whole = eta + radius <= usual.eta_max + ROUNDING
    return Selection(window, radius, eta, usual if whole else Detector(calorimeter_eta=CALORIMETER_ETA))


def refuse_jet_options(process: str, **options: object) -> None:
    """Raise SimulationError where an option of jets is given of whole events, whose jets are all that there are."""
    for name, value in options.items():
        if value is not None:
            raise SimulationError(
                f"process {process!r}: {name} = {value} is of samples that are selected by a jet; whole events are selected by their objects"
            )


def checked_number(name: str, value: float, low: float, high: float, why: str = "") -> float:
    """Return an option if it is a number from low to high; raises SimulationError, `why` behind what is allowed."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise SimulationError(f"{name} = {value!r}; allowed: {low:g} to {high:g}{why}")
    return float(value)


def _single_jets() -> str:
    return ", ".join(name for name, recipe in PROCESSES.items() if recipe.single_jet)


def _window(process: str, min_jet_pt: float | None, jet_pt: tuple[float, float] | None) -> tuple[float, float]:
    """Return what the pT of the selected jet of a process has to lie in (GeV): one of the options, or its default."""
    if PROCESSES[process].single_jet:
        if min_jet_pt is not None:
            raise SimulationError(
                f"process {process!r}: min_jet_pt is for whole events; single jets take jet_pt, a window"
            )
        low, high = JET_PT if jet_pt is None else jet_pt
        if not JET_PT_MIN <= low < high:
            raise SimulationError(
                f"jet_pt = {low:g} to {high:g}; allowed: two rising numbers from {JET_PT_MIN:g} GeV, the second may be inf"
            )
        return float(low), float(high)
    if jet_pt is not None:
        raise SimulationError(f"process {process!r}: jet_pt is for single jets ({_single_jets()}); take min_jet_pt")
    low = MIN_JET_PT if min_jet_pt is None else min_jet_pt
    if not low >= JET_PT_MIN:
        raise SimulationError(f"min_jet_pt = {low}; allowed: {JET_PT_MIN:g} or more")
    return float(low), math.inf
