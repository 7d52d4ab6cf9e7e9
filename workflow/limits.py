"""The last stages: limits on signals, and the report."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import Analysis
from ..errors import InputError
from ..files import finite, remove, write_json
from ..pieces import NONE_KEPT, Pieces
from .count import count_limits
from .layout import simulated_signals
from .score import read_scored

__all__ = ["limits", "report", "signals_in"]

if TYPE_CHECKING:
    from ..analysis import Regions
    from ..analysis.limits.signals import Signal

log = logging.getLogger(__name__)


def limits(analysis: Analysis, progress: bool, pieces: Pieces = NONE_KEPT) -> None:  # noqa: ARG001 - every stage takes progress
    """Set limits on every signal, or prior where there is none, and write limits.json and the folder limits."""
    from ..analysis import SignalErrors, limits_of, read_regions, write_limits
    from ..analysis.limits.signals import notes_of, widths_note
    from .given_spectra import hunt_in, read_any_result

    output = Path(analysis.output)
    if analysis.hunt == "count":
        counted = count_limits(analysis, read_any_result(output))
        for note in counted["notes"]:
            log.warning("%s", note)
        remove(output / "limits.json")
        remove(output / "limits")
        write_json(output / "limits.json", finite(counted))
        return
    found, names = hunt_in(output)
    regions = read_regions(output / "regions.json")
    signals, notes = signals_in(analysis, regions)
    if not simulated_signals(analysis):
        notes.append("no limits: samples name neither signals nor priors, whose share in the regions would be needed")
    elif not analysis.samples.signals:
        notes.append(
            "efficiencies are those of events that the models trained on, and so a little high; name samples.signals"
        )
    for note in notes:
        log.warning("%s", note)
    keys = analysis.limits
    set_on = limits_of(
        found,
        signals,
        names=names,
        points=keys.points,
        confidence=keys.confidence,
        luminosity=analysis.luminosity,
        blind=analysis.blind,
        errors=SignalErrors(keys.scale_error, keys.resolution_error, keys.efficiency_error, keys.luminosity_error),
        experiments=keys.pseudo_experiments,
        pieces=pieces,
    )
    remove(output / "limits.json")
    remove(output / "limits")
    own = [*notes_of(set_on, found.settings.observable), *widths_note(found)]
    for note in own:
        log.warning("%s", note)
    written = write_limits(found, set_on, output / "limits", names=names)
    write_json(output / "limits.json", finite({"signals": written, "notes": [*notes, *own]}))


def signals_in(analysis: Analysis, regions: Regions) -> tuple[list[Signal], list[str]]:
    """Return the signals of an analysis, or its priors where it names none, with their shares in the regions; and what has none."""
    from ..analysis import as_signal

    notes, signals = [], []
    kind = "signal" if analysis.samples.signals else "prior"
    for name in simulated_signals(analysis):
        if name.startswith(f"{kind}."):
            events = dataclasses.replace(read_scored(analysis, name), name=name.removeprefix(f"{kind}."))
            try:
                signals.append(as_signal(events, regions))
            except InputError as error:
                notes.append(str(error))
    return signals, notes


def report(analysis: Analysis, progress: bool, pieces: Pieces = NONE_KEPT) -> None:  # noqa: ARG001 - every stage takes these
    """Write report.html from result.json, limits.json, validation.json where it was made of this result, and the figures."""
    from .given_spectra import report_folder

    report_folder(Path(analysis.output))
