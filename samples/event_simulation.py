"""Simulate whole events, told as objects: each component in numbered blocks of its own, mixed in the order that the seed draws.

Event i is the next accepted event of the component that is drawn for it, so that the events depend neither on the number of workers nor
on how many are asked for.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import awkward as ak
import numpy as np
import numpy.typing as npt

from ..workers import WorkerPool
from .challenge_selection import STORED, ChallengeSelection, challenge_objects
from .detector import reconstruct
from .event_processes import LEPTON, Component
from .eventfile import object_writer
from .flavour_tags import heavy_hadrons
from .generation import (
    BATCH_TRIES,
    BLOCK_TRIES,
    MB_TO_PB,
    SimulationReport,
    block_seeds,
    final_state,
    progress_bar,
    start_pythia,
)
from .heavy_flavour import heavy_collisions
from .objects import EVENT_DETECTOR, ObjectSelection, event_objects
from .processes import PROCESSES, SimulationError, common_settings, shown_parameters
from .slha import spectrum_settings
from .veto import SumVeto

__all__ = ["mixture", "simulate_events"]

log = logging.getLogger(__name__)

CHUNK = 500
"""Events written at once."""
HOPELESS_TRIES = 20 * BLOCK_TRIES
"""Without one accepted event of a component after this many tries the settings are taken to be wrong."""
TOLD = {
    LEPTON: "fires the trigger",
    STORED: "has an object that the challenge stores an event for",
    "1": "passes the selection of channel 1",
    "2b": "passes the selection of channel 2b",
}
"""What no event does where none passes."""
MIXTURE = 1 << 20
"""Of the keys of the generator that draws components, so that it is none of a block's."""
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class EventJob:
    """What every block of a component needs to know; `enough` events end a block early, which changes none of them.

    component: whose number is `number`; settings: the lines for Pythia, but for those of forced decays; slha: the spectrum of superpartners, or nothing.
    """

    number: int
    component: Component
    settings: tuple[str, ...]
    seed: int
    enough: int
    slha: str = ""


@dataclass(frozen=True)
class EventBlock:
    """The accepted events of one block: their objects, generator weights (n,), tries up to each (n,)."""

    objects: ak.Array
    weights: npt.NDArray[np.float32]
    tried: Ints
    tries: int
    init_seconds: float
    cross_section: float
    cross_section_error: float


def mixture(components: Sequence[Component], n: int, *, seed: int) -> Ints:
    """Draw the component of each of n events, (n,); of a smaller n the first of them."""
    rng = np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=(MIXTURE,)))
    edges = np.cumsum([component.share for component in components])
    return np.minimum(np.searchsorted(edges / edges[-1], rng.random(n), side="right"), len(components) - 1)


def simulate_events(
    process: str,
    n: int,
    path: str | Path,
    *,
    seed: int,
    workers: int,
    sqrt_s: float,
    multiple_interactions: bool,
    parameters: Mapping[str, float],
    progress: bool,
) -> SimulationReport:
    """Simulate `n` events of a process of whole events that pass its selection, and write their objects to an event file.

    Options as of `simulate`, already checked. Raises SimulationError.
    """
    recipe = PROCESSES[process]
    challenge = recipe.components[0].kept != LEPTON
    jets = ChallengeSelection() if challenge else ObjectSelection()
    common = common_settings(sqrt_s=sqrt_s, multiple_interactions=multiple_interactions)
    drawn = mixture(recipe.components, n, seed=seed)
    start = time.perf_counter()
    with pool_of(workers) as pool:
        feeds = [
            Feed(
                EventJob(
                    number,
                    component,
                    (*common, *component.settings(parameters)),
                    seed,
                    int((drawn == number).sum()),
                    "" if component.slha is None else component.slha(parameters),
                ),
                pool,
                workers,
                f"process {process!r}, component {component.name}, with {shown_parameters(parameters) or 'its settings'}",
            )
            for number, component in enumerate(recipe.components)
        ]
        with (
            progress_bar(process, n, progress=progress) as bar,
            object_writer(
                path, measured=True, truth=True, process=True, weighted=True, photons=challenge, btag=challenge
            ) as writer,
        ):
            for first in range(0, n, CHUNK):
                kinds = drawn[first : first + CHUNK]
                taken = [feed.take(int((kinds == number).sum())) for number, feed in enumerate(feeds)]
                # the events lie component after component: back to the order that was drawn
                order = np.argsort(np.argsort(kinds, kind="stable"), kind="stable")
                objects = ak.concatenate([own for own, _ in taken])[order]
                weights = np.concatenate([own for _, own in taken])[order]
                writer.write(objects, truth_signal=int(recipe.signal), truth_process=kinds, weights=weights)
                bar.update(len(kinds))
    tries = sum(feed.tries for feed in feeds)
    sigma, error = feeds[0].cross_section if len(feeds) == 1 else (float("nan"), float("nan"))
    report = SimulationReport(
        process=process,
        path=str(path),
        seed=seed,
        min_jet_pt=jets.jet_pt,
        max_jet_pt=float("inf"),
        jet_radius=jets.jet_radius,
        jet_eta=jets.jet_eta,
        sqrt_s=sqrt_s,
        multiple_interactions=multiple_interactions,
        parameters=parameters,
        tries=tries,
        accepted=n,
        seconds=time.perf_counter() - start,
        init_seconds=sum(feed.init_seconds for feed in feeds),
        cross_section=sigma,
        cross_section_error=error,
    )
    log.info("%s: %d of %d tries accepted in %.1f s, written to %s", process, n, tries, report.seconds, path)
    return report


@contextmanager
def pool_of(workers: int) -> Iterator[WorkerPool | None]:
    """Give a pool of processes, None for one worker; leaving it stops the workers at once."""
    if workers == 1:
        yield None
        return
    pool = WorkerPool(workers)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, kill_workers=True)


class Feed:
    """The accepted events of one component, in the order of its blocks, as they are asked for."""

    def __init__(self, job: EventJob, pool: WorkerPool | None, workers: int, told: str) -> None:
        self._job, self._pool, self._workers, self._told = job, pool, workers, told
        self._numbers = itertools.count()
        self._waiting: deque[Future[EventBlock]] = deque()
        self._blocks: list[EventBlock] = []
        self._left: list[tuple[ak.Array, npt.NDArray[np.float32], Ints]] = []
        self._before = 0
        self.missing = job.enough
        self.tries = 0
        """Up to the last event that was taken."""
        self.init_seconds = 0.0

    def take(self, n: int) -> tuple[ak.Array, npt.NDArray[np.float32]]:
        """Return the objects of the next n events, and their weights (n,); raises SimulationError where none comes."""
        while sum(len(weights) for _, weights, _ in self._left) < n:
            block = self._next()
            self._left.append((block.objects, block.weights, self._before + block.tried))
            self._before += block.tries
            self._blocks.append(block)
            self.init_seconds += block.init_seconds
            if self._before >= HOPELESS_TRIES and not any(len(b.weights) for b in self._blocks):
                raise SimulationError(f"{self._told}: none of {self._before} events {TOLD[self._job.component.kept]}")
        if not n:
            return ak.Array([]), np.zeros(0, dtype=np.float32)
        objects = ak.concatenate([own for own, _, _ in self._left])
        weights = np.concatenate([own for _, own, _ in self._left])
        tried = np.concatenate([own for _, _, own in self._left])
        self._left = [(objects[n:], weights[n:], tried[n:])]
        self.missing -= n
        self.tries = int(tried[n - 1])
        return objects[:n], weights[:n]

    @property
    def cross_section(self) -> tuple[float, float]:
        """Its estimate and error over all blocks, pb."""
        weights = np.array([block.tries for block in self._blocks], dtype=float)
        weights /= weights.sum()
        errors = np.square([block.cross_section_error for block in self._blocks])
        return float(weights @ [block.cross_section for block in self._blocks]), float(np.sqrt(weights**2 @ errors))

    def _next(self) -> EventBlock:
        job = replace(self._job, enough=self.missing - sum(len(weights) for _, weights, _ in self._left))
        if self._pool is None:
            return run_event_block(job, next(self._numbers))
        # one block more than workers, so that none waits while a block is written
        while len(self._waiting) <= self._workers:
            self._waiting.append(self._pool.submit(run_event_block, job, next(self._numbers)))
        return self._waiting.popleft().result()


def run_event_block(job: EventJob, number: int) -> EventBlock:
    """Make one block: generate, detect, and keep the objects of the events that pass the selection.

    Where decays are forced, blocks of even number have leptons of charge 1, those of odd number leptons of charge -1.
    """
    begin = time.perf_counter()
    pythia_seed, rng = block_seeds(job.seed, job.number, number)
    forced, trigger = job.component.forced, job.component.kept == LEPTON
    charge = 0 if forced is None else 1 - 2 * (number % 2)
    veto = None if job.component.least_sum is None else SumVeto(job.component.least_sum)
    with spectrum_settings(job.slha) as superpartners:
        lines = (*job.settings, *superpartners, *(() if forced is None else forced.by_charge(charge)))
        pythia = start_pythia(lines, pythia_seed, veto=veto)
    init_seconds = time.perf_counter() - begin
    parts: list[ak.Array] = []
    weights, tried = [], []
    tries = accepted = 0
    while tries < BLOCK_TRIES and accepted < job.enough:
        if forced is None or not trigger:
            batch = pythia.nextBatch(BATCH_TRIES)
            state, own = final_state(batch), ak.to_numpy(batch.info.weights[:, 0])
            rows = np.arange(len(own))
        else:
            state, own, rows = heavy_collisions(pythia, BATCH_TRIES, decays=forced, charge=charge, rng=rng)
        particles = reconstruct(state, detector=EVENT_DETECTOR, rng=rng)
        if trigger:
            keep, objects = event_objects(particles, charge=charge)
        else:
            keep, objects = challenge_objects(particles, heavy_hadrons(batch), kept=job.component.kept, rng=rng)
        parts.append(objects)
        weights.append(own[keep])
        tried.append(tries + rows[keep] + 1)
        tries += BATCH_TRIES
        accepted += len(keep)
    info = pythia.infoPython()
    # Pythia counts what a hook gives up as not produced
    to_pb = MB_TO_PB * (1.0 if veto is None else 1 + veto.vetoed / tries)
    return EventBlock(
        ak.to_packed(ak.concatenate(parts)),
        np.concatenate(weights).astype(np.float32),
        np.concatenate(tried),
        tries,
        init_seconds,
        info.sigmaGen() * to_pb,
        info.sigmaErr() * to_pb,
    )
