"""What every simulation needs of Pythia 8: started with a seed for each block, its final state as arrays; and what a simulation reports."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

import awkward as ak
import numpy as np
import pythia8mc
from tqdm import tqdm

from .processes import SimulationError, Value

__all__ = [
    "BATCH_TRIES",
    "BLOCK_TRIES",
    "MB_TO_PB",
    "SimulationReport",
    "block_seeds",
    "final_state",
    "progress_bar",
    "start_pythia",
]

BLOCK_TRIES = 1000
"""Tries a block: starting Pythia takes 0.3 to 0.5 s, about 4 % of the time a QCD block takes."""
BATCH_TRIES = 100
"""Tries between looks at Ctrl-C and at whether enough events are there; part of what a seed means."""
PYTHIA_SEEDS = 900_000_000
MB_TO_PB = 1e9


@dataclass(frozen=True)
class SimulationReport:
    """What a simulation did.

    min_jet_pt, max_jet_pt: the selected jet's pT, GeV; the latter is infinite but for single jets with an upper edge. jet_radius,
    jet_eta: its radius and largest |eta|, infinite but for single jets. Of whole events these are of all jets. sqrt_s: GeV. parameters: all
    parameters, defaults included. tries: Pythia events up to the last one kept (of single jets and of
    event_channel1_sm those that were not given up early); accepted: events
    written. seconds: wall-clock time; init_seconds: the part, summed over blocks, that starting Pythia took.
    cross_section, cross_section_error: pb before the jet selection, as Pythia estimates it from these events (its
    statistical error), no number for a mixture of whole events, whose shares are given; of the X Y and semi-visible processes only the product with an unknown coupling means something, of H and of a mass
    that is spread not even that.
    """

    process: str
    path: str
    seed: int
    min_jet_pt: float
    max_jet_pt: float
    jet_radius: float
    jet_eta: float
    sqrt_s: float
    multiple_interactions: bool
    parameters: Mapping[str, Value]
    tries: int
    accepted: int
    seconds: float
    init_seconds: float
    cross_section: float
    cross_section_error: float


def progress_bar(process: str, n: int, *, progress: bool) -> tqdm[NoReturn]:
    """Return a progress bar on stderr; outside a terminal at most one line every 30 s."""
    interval = 0.5 if sys.stderr.isatty() else 30.0
    bar: tqdm[NoReturn] = tqdm(
        total=n,
        desc=f"simulate {process}",
        unit="event",
        disable=not progress,
        mininterval=interval,
        maxinterval=interval,
    )
    return bar


def start_pythia(settings: tuple[str, ...], seed: int, *, veto: pythia8mc.UserHooks | None = None) -> pythia8mc.Pythia:
    """Return an initialised Pythia; seed: 1 to 900,000,000. Raises SimulationError with the line it refuses.

    The caller has to hold on to `veto` as long as to Pythia.
    """
    pythia = pythia8mc.Pythia("", False)
    if veto is not None:
        pythia.setUserHooksPtr(veto)
    for line in (*settings, f"Random:seed = {seed}"):
        if not pythia.readString(line):
            raise SimulationError(f"Pythia does not take the setting {line!r}")
    if not pythia.init():
        raise SimulationError("Pythia cannot start with the settings: " + "; ".join(settings))
    return pythia


def block_seeds(seed: int, *block: int) -> tuple[int, np.random.Generator]:
    """Return Pythia's seed and the detector's generator of one block, by its number, or those of its component and its own."""
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=block)
    return 1 + int(sequence.generate_state(1)[0]) % PYTHIA_SEEDS, np.random.default_rng(sequence.spawn(1)[0])


def final_state(batch: ak.Array) -> ak.Array:
    """Return the final-state particles of a Pythia batch: lists per event of `pdg`, `px`, `py`, `pz`, `e` (GeV)."""
    record = batch.prt
    final = record.status > 0
    flat = ak.to_numpy(ak.flatten(final))
    content = ak.flatten(record)
    columns = {"pdg": content.id, "px": content.p.px, "py": content.p.py, "pz": content.p.pz, "e": content.p.e}
    picked = ak.zip({name: ak.to_numpy(values)[flat] for name, values in columns.items()})
    return ak.unflatten(picked, ak.to_numpy(ak.sum(final, axis=1)))
