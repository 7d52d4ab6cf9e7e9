"""Simulate collisions: Pythia 8 in numbered blocks, the detector, the jet selection, and the event file.

A block is BLOCK_TRIES tries of a fresh Pythia object whose seed depends on (seed, block) alone, so that the events do
not depend on the number of workers. Blocks are joined in order and cut at the number of events asked for.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

import awkward as ak
import numpy as np
import numpy.typing as npt

from .detector import reconstruct
from .event_simulation import simulate_events
from .eventfile import event_writer
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
from .jets import decay_quarks, leading_jet_pt, single_jets
from .processes import (
    PROCESSES,
    SQRT_S,
    SimulationError,
    Value,
    pythia_settings,
    shown_parameters,
    spread_of,
    with_defaults,
)
from .selection import Selection, checked_number, refuse_jet_options, selection_of
from .veto import EarlyVeto

__all__ = ["BLOCK_TRIES", "SimulationReport", "simulate"]

log = logging.getLogger(__name__)

HOPELESS_TRIES = 3 * BLOCK_TRIES
"""Without one accepted event after this many tries the settings are taken to be wrong."""
SQRT_S_RANGE = (500.0, 200_000.0)
"""GeV."""


@dataclass(frozen=True)
class Job:
    """What every block needs to know; `enough` events end a block early, which changes none of them.

    min_quarks: how many quarks of a decay a single jet has to hold; spread: the range of the mass that is spread, GeV.
    """

    process: str
    settings: tuple[str, ...]
    seed: int
    selection: Selection
    enough: int
    min_quarks: int = 0
    spread: tuple[float, float] | None = None


@dataclass(frozen=True)
class Block:
    """The accepted events of one block: candidates as lists per event, generator weights (n,), tries up to each (n,)."""

    particles: ak.Array
    weights: np.ndarray[tuple[int], np.dtype[np.float32]]
    tried: np.ndarray[tuple[int], np.dtype[np.int64]]
    tries: int
    init_seconds: float
    cross_section: float
    cross_section_error: float


def simulate(
    process: str,
    n: int,
    path: str | Path,
    *,
    seed: int = 0,
    workers: int = 1,
    min_jet_pt: float | None = None,
    jet_pt: tuple[float, float] | None = None,
    jet_radius: float | None = None,
    jet_eta: float | None = None,
    sqrt_s: float = SQRT_S,
    multiple_interactions: bool = True,
    parameters: Mapping[str, Value] | None = None,
    progress: bool = True,
) -> SimulationReport:
    """Simulate `n` accepted events of a process and write them to an event file.

    An event is accepted when its leading anti-kT jet of detector candidates, of jet_radius (1.0 unless given), has
    pT > min_jet_pt (GeV, 1200 unless given). Of the processes `jet_*` an event of the file is one jet with jet_pt[0] < pT <
    jet_pt[1] (GeV, 550 to 650 unless given; the second may be infinite) and |eta| < jet_eta, and nothing else: the leading jet
    (QCD), or the leading of the jets that hold all quarks (or `min_quarks` of them) of a hadronic top, W or H decay, or a dark quark, within dR <
    jet_radius; at most one jet is taken of a collision.

    jet_eta: unless given the tracker's edge, 2.5, less the radius; at most 3.0 less the radius. Where jets reach beyond the
    tracker, the detector has calorimeters there (Detector.calorimeter_eta = 3.0), so that no jet is cut in two. sqrt_s: of the two protons,
    GeV. multiple_interactions: whether further partons of the same two protons collide, as in nature. The top-tagging reference
    sample (arXiv:1902.09914) has sqrt_s=14000, jet_radius=0.8, jet_eta=2 and multiple_interactions=False. parameters: masses in GeV
    and the like (r_inv: the share of dark mesons that is invisible), see PROCESSES; a pair (low, high) for m_w of jet_w or m_top of jet_top spreads that mass flat over a range,
    before the jet is selected.

    Of the processes `event_*` an event is told as its electrons, muons, jets (R = 0.4) and missing transverse momentum; there are no options of jets. There
    is no pile-up, and no jet is taken for a lepton. Of event_sm, event_a4l, event_lqbtau, event_h0tautau and event_htaunu the objects are those of
    `ObjectSelection`, and an event is accepted when its leading isolated lepton has pT > 23 GeV. Those of the others are in the manner of the DarkMachines
    challenge (arXiv:2105.14027), as `ChallengeSelection` has them, with photons and `Jet_btag`: event_channel1_sm and event_channel2b_sm are the
    Standard Model in these channels, and signals are accepted on what the challenge stores an event for, a jet above 60 GeV or another object above 25 GeV.

    `event` counts from 0; `truth_signal` is 1 for every process but QCD and the Standard Model's mixtures, where `truth_process` numbers the component. The same process, options, parameters and seed give the
    same events for any `workers`, and a smaller `n` the first of them. The file appears when it is complete; Ctrl-C leaves nothing behind. Raises SimulationError.
    """
    energy = checked_number("sqrt_s", sqrt_s, *SQRT_S_RANGE, " GeV; 14 TeV is 14000")
    values = with_defaults(process, parameters, sqrt_s=energy)
    for name, value, low in (("n", n, 1), ("workers", workers, 1), ("seed", seed, 0)):
        if not value >= low:
            raise SimulationError(f"{name} = {value}; allowed: {low} or more")
    if PROCESSES[process].components:
        refuse_jet_options(process, min_jet_pt=min_jet_pt, jet_pt=jet_pt, jet_radius=jet_radius, jet_eta=jet_eta)
        return simulate_events(
            process,
            n,
            path,
            seed=seed,
            workers=workers,
            sqrt_s=energy,
            multiple_interactions=multiple_interactions,
            parameters={name: value for name, value in values.items() if not isinstance(value, tuple)},
            progress=progress,
        )
    selection = selection_of(process, min_jet_pt=min_jet_pt, jet_pt=jet_pt, jet_radius=jet_radius, jet_eta=jet_eta)
    window = selection.window
    settings = tuple(
        pythia_settings(
            process,
            values,
            min_jet_pt=window[0],
            max_jet_pt=window[1],
            sqrt_s=energy,
            multiple_interactions=multiple_interactions,
        )
    )
    quarks = values.get("min_quarks", PROCESSES[process].quarks)
    least = 0 if isinstance(quarks, tuple) else int(quarks)
    job = Job(process, settings, seed, selection, n, least, spread_of(values))
    signal = int(PROCESSES[process].signal)
    start = time.perf_counter()
    tries, init_seconds, sigmas = 0, 0.0, []
    bar = progress_bar(process, n, progress=progress)
    with bar, event_writer(path, charged=True, truth=True, weighted=True) as writer:
        for block in _blocks(job, workers, lambda: n - writer.n_events):
            init_seconds += block.init_seconds
            sigmas.append((block.tries, block.cross_section, block.cross_section_error))
            kept = min(n - writer.n_events, len(block.particles))
            writer.write(block.particles[:kept], truth_signal=signal, weights=block.weights[:kept])
            bar.update(kept)
            done = writer.n_events == n
            tries += int(block.tried[kept - 1]) if done else block.tries
            if done:
                break
            if tries >= HOPELESS_TRIES and not writer.n_events:
                upper = f" and < {window[1]:g}" if math.isfinite(window[1]) else ""
                raise SimulationError(
                    f"process {process!r}: none of {tries} events has a jet of pT > {window[0]:g}{upper} GeV with "
                    + shown_parameters(values)
                )
    weights = np.array([s[0] for s in sigmas], dtype=float)
    weights /= weights.sum()
    report = SimulationReport(
        process=process,
        path=str(path),
        seed=seed,
        min_jet_pt=window[0],
        max_jet_pt=window[1],
        jet_radius=selection.radius,
        jet_eta=selection.eta_max,
        sqrt_s=energy,
        multiple_interactions=multiple_interactions,
        parameters=values,
        tries=tries,
        accepted=n,
        seconds=time.perf_counter() - start,
        init_seconds=init_seconds,
        cross_section=float(weights @ [s[1] for s in sigmas]),
        cross_section_error=float(np.sqrt(weights**2 @ np.square([s[2] for s in sigmas]))),
    )
    log.info("%s: %d of %d tries accepted in %.1f s, written to %s", process, n, tries, report.seconds, path)
    return report


def _blocks(job: Job, workers: int, missing: Callable[[], int]) -> Iterator[Block]:
    """Give the blocks in order, for as long as they are asked for; closing it stops the workers at once.

    missing: how many events are still to come, which ends a block early.
    """
    numbers = itertools.count()
    if workers == 1:
        for number in numbers:
            yield run_block(replace(job, enough=missing()), number)
    from ..workers import WorkerPool

    pool = WorkerPool(workers)
    waiting: deque[Future[Block]] = deque()
    try:
        while True:
            # one block more than workers, so that none waits while a block is written
            while len(waiting) <= workers:
                waiting.append(pool.submit(run_block, replace(job, enough=missing()), next(numbers)))
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, kill_workers=True)


def run_block(job: Job, number: int) -> Block:
    """Make one block: generate, detect, cluster, select."""
    begin = time.perf_counter()
    pythia_seed, rng = block_seeds(job.seed, number)
    recipe = PROCESSES[job.process]
    low, radius, detector = job.selection.window[0], job.selection.radius, job.selection.detector
    early = recipe.single_jet and not recipe.resonant
    veto = EarlyVeto(low, radius=radius, spread=job.spread, legs=recipe.legs) if early else None
    pythia = start_pythia(job.settings, pythia_seed, veto=veto)
    init_seconds = time.perf_counter() - begin
    parts: list[ak.Array] = []
    weights, tried = [], []
    tries = accepted = 0
    while tries < BLOCK_TRIES and accepted < job.enough:
        batch = pythia.nextBatch(BATCH_TRIES)
        particles = reconstruct(final_state(batch), detector=detector, rng=rng)
        keep, selected = select(job, batch, particles)
        parts.append(selected)
        weights.append(ak.to_numpy(batch.info.weights[:, 0])[keep])
        tried.append(tries + keep + 1)
        tries += BATCH_TRIES
        accepted += len(keep)
    info = pythia.infoPython()
    # Pythia counts what a hook gives up as not produced
    to_pb = MB_TO_PB * (1.0 if veto is None else 1 + veto.vetoed / tries)
    return Block(
        ak.to_packed(ak.concatenate(parts)),
        np.concatenate(weights).astype(np.float32),
        np.concatenate(tried),
        tries,
        init_seconds,
        info.sigmaGen() * to_pb,
        info.sigmaErr() * to_pb,
    )


def select(job: Job, batch: ak.Array, particles: ak.Array) -> tuple[npt.NDArray[np.int64], ak.Array]:
    """Return the rows of a batch that the job keeps, and the candidates kept of them: all, or those of one jet."""
    recipe, chosen = PROCESSES[job.process], job.selection
    if not recipe.single_jet:
        low = chosen.window[0]
        keep = np.flatnonzero(leading_jet_pt(particles, min_pt=low, radius=chosen.radius) > low)
        return keep, particles[keep]
    quarks = decay_quarks(batch, recipe.mothers) if recipe.mothers else None
    return single_jets(
        particles,
        window=chosen.window,
        quarks=quarks,
        min_quarks=job.min_quarks,
        eta_max=chosen.eta_max,
        radius=chosen.radius,
    )
