"""Where events come from: simulation, public records, converters. Everything is written as an event file."""

from .convert import ConversionReport, convert_lhco
from .detector import Detector, reconstruct
from .download import FetchError
from .eventfile import EventWriter, event_writer
from .processes import PROCESSES, Process, SimulationError
from .records import RECORDS, Record, fetch
from .simulation import SimulationReport, simulate
from .toptag import convert_toptag
from .vaejet import convert_vaejet

__all__ = [
    "PROCESSES",
    "RECORDS",
    "ConversionReport",
    "Detector",
    "EventWriter",
    "FetchError",
    "Process",
    "Record",
    "SimulationError",
    "SimulationReport",
    "convert_lhco",
    "convert_toptag",
    "convert_vaejet",
    "event_writer",
    "fetch",
    "reconstruct",
    "simulate",
]


def __dir__() -> list[str]:
    """Return what the room hands on, and nothing else."""
    return sorted(__all__)
