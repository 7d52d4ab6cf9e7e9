"""Where events come from: simulation, public records, converters. Everything is written as an event file."""

from .adc2021 import convert_adc2021
from .challenge_selection import ChallengeSelection, challenge_objects
from .convert import ConversionReport, convert_lhco
from .detector import Detector, reconstruct
from .download import FetchError
from .eventfile import EventWriter, ObjectWriter, event_writer, object_writer
from .generation import SimulationReport
from .objects import ObjectSelection, event_objects
from .phenoml import convert_phenoml, write_phenoml
from .processes import PROCESSES, Process, SimulationError
from .records import RECORDS, Record, fetch
from .simulation import simulate
from .toptag import convert_toptag
from .vaejet import convert_vaejet

__all__ = [
    "PROCESSES",
    "RECORDS",
    "ChallengeSelection",
    "ConversionReport",
    "Detector",
    "EventWriter",
    "FetchError",
    "ObjectSelection",
    "ObjectWriter",
    "Process",
    "Record",
    "SimulationError",
    "SimulationReport",
    "challenge_objects",
    "convert_adc2021",
    "convert_lhco",
    "convert_phenoml",
    "convert_toptag",
    "convert_vaejet",
    "event_objects",
    "event_writer",
    "fetch",
    "object_writer",
    "reconstruct",
    "simulate",
    "write_phenoml",
]


def __dir__() -> list[str]:
    """Return what the room hands on, and nothing else."""
    return sorted(__all__)
