"""Where events come from: simulation, public records, converters. Everything is written as an event file."""

from .detector import Detector, reconstruct
from .processes import PROCESSES, Process, SimulationError
from .simulate import SimulationReport, simulate

__all__ = [
    "PROCESSES",
    "Detector",
    "Process",
    "SimulationError",
    "SimulationReport",
    "reconstruct",
    "simulate",
]
