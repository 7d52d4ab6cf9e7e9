"""Heavy quarks with a hard, isolated lepton: one collision, its heavy hadrons decayed again and again.

A collision takes Pythia some 7 ms, the decays of its heavy hadrons a twentieth of that, and one decay in seventy (b) or in hundreds (c) leaves
such a lepton. So each collision is decayed `repeats` times, and is kept with a probability that rises with the number of decays that
leave one: each collision comes as often as in nature, and once at most. That number counts up to MOST alone: collisions that
leave a lepton in more than MOST of their decays, the hardest, come somewhat too rarely.
"""

from __future__ import annotations

from collections.abc import Iterator

import awkward as ak
import numpy as np
import numpy.typing as npt
import pythia8mc

from .detector import INVISIBLE
from .event_processes import ForcedDecays
from .objects import ObjectSelection

__all__ = ["allow", "heavy_collisions", "leaves_lepton", "of_kind", "redecayed"]

MOST = 2
LOOSE_PT, LOOSE_ISOLATION = 0.9, 1.4
"""Before the detector a lepton may be softer, and less isolated, by these factors, and pass after it."""
LEPTONS = (11, 13)
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def heavy_collisions(
    pythia: pythia8mc.Pythia, n: int, *, decays: ForcedDecays, charge: int, rng: np.random.Generator
) -> tuple[ak.Array, Floats, Ints]:
    """Try n collisions; return the final states of those that are kept, their weights (m,), and which of the tries they are (m,).

    pythia: with the settings of `decays.by_charge(charge)`. The final states are lists per event of `pdg`, `px`, `py`, `pz`, `e` (GeV).
    """
    selection = ObjectSelection()
    wanted = tuple(-charge * code for code in LEPTONS)
    hadrons = frozenset(decays.hadrons)
    kept, weights, rows = [], [], []
    for row in range(n):
        chance = rng.random()
        allow(pythia, decays.hadrons, decay=False)
        if not pythia.next():
            continue
        heavy = [p for p in of_kind(pythia.event, hadrons) if p.isFinal()]
        if not any(p.pT() > LOOSE_PT * selection.trigger_pt for p in heavy):
            continue
        allow(pythia, decays.hadrons, decay=True)
        found: list[Floats] = []
        for state in redecayed(pythia, heavy, wanted, repeats=decays.repeats, least=LOOSE_PT * selection.trigger_pt):
            if leaves_lepton(state, wanted, selection):
                found.append(state)
                if len(found) == MOST:
                    break
        if len(found) > chance * MOST:
            kept.append(found[0])
            weights.append(pythia.infoPython().weight())
            rows.append(row)
    flat = np.concatenate(kept) if kept else np.zeros((0, 5))
    columns = {"pdg": flat[:, 0].astype(np.int64)} | {
        name: flat[:, i] for i, name in enumerate(("px", "py", "pz", "e"), start=1)
    }
    return (
        ak.unflatten(ak.zip(columns), [len(state) for state in kept])
        if kept
        else ak.unflatten(ak.zip(columns), np.zeros(0, dtype=np.int64)),
        np.array(weights, dtype=np.float64),
        np.array(rows, dtype=np.int64),
    )


def allow(pythia: pythia8mc.Pythia, hadrons: tuple[int, ...], *, decay: bool) -> None:
    """Let hadrons decay, or keep them as they are."""
    for number in hadrons:
        pythia.particleData.mayDecay(number, decay)


def of_kind(event: pythia8mc.Event, numbers: frozenset[int], first: int = 0) -> Iterator[pythia8mc.Particle]:
    """Give the particles of an event from number `first` on whose PDG number, without its sign, is one of some."""
    for i in range(first, event.size()):
        particle = event[i]
        if abs(particle.id()) in numbers:
            yield particle


def final(event: pythia8mc.Event, first: int) -> Iterator[pythia8mc.Particle]:
    """Give the final particles of an event from number `first` on."""
    for i in range(first, event.size()):
        if event[i].isFinal():
            yield event[i]


def redecayed(
    pythia: pythia8mc.Pythia,
    heavy: list[pythia8mc.Particle],
    wanted: tuple[int, ...],
    *,
    repeats: int,
    least: float,
) -> Iterator[Floats]:
    """Decay the heavy hadrons of an event again and again; give the final state, (k, 5) of PDG number, px, py, pz and E, where a lepton of
    the wanted numbers has a pT above `least`.

    The hadrons are decayed in an event of their own, which is soon copied.
    """
    whole = pythia8mc.Event(pythia.event)
    numbers = frozenset(p.index() for p in heavy)
    alone = pythia8mc.Event(pythia.event)
    alone.reset()
    for hadron in heavy:
        at = alone.append(hadron)
        alone[at].mothers(0, 0)
    size, leptons = alone.size(), frozenset(abs(code) for code in wanted)
    base: Floats | None = None
    for _ in range(repeats):
        pythia.event = alone
        pythia.moreDecays()
        if not any(p.id() in wanted and p.isFinal() and p.pT() > least for p in of_kind(pythia.event, leptons, size)):
            continue
        if base is None:  # what was final before, but for the hadrons that have decayed, is the same each time
            base = momenta(p for p in final(whole, 0) if p.index() not in numbers)
        yield np.concatenate([base, momenta(final(pythia.event, size))])


def momenta(particles: Iterator[pythia8mc.Particle]) -> Floats:
    """Return PDG number, px, py, pz and E of particles, (k, 5)."""
    return np.array([(p.id(), p.px(), p.py(), p.pz(), p.e()) for p in particles], dtype=np.float64).reshape(-1, 5)


def leaves_lepton(state: Floats, wanted: tuple[int, ...], selection: ObjectSelection) -> bool:
    """Tell whether a final state (k, 5) has a lepton of the wanted numbers that may pass trigger and isolation after the detector."""
    pt = np.hypot(state[:, 1], state[:, 2])
    hard = np.flatnonzero(np.isin(state[:, 0], wanted) & (pt > LOOSE_PT * selection.trigger_pt))
    seen = ~np.isin(np.abs(state[:, 0]), INVISIBLE) & (pt > selection.isolation_pt)
    eta, phi = np.arcsinh(state[seen, 3] / pt[seen]), np.arctan2(state[seen, 2], state[seen, 1])
    for i in hard:
        dphi = (phi - np.arctan2(state[i, 2], state[i, 1]) + np.pi) % (2 * np.pi) - np.pi
        near = (eta - np.arcsinh(state[i, 3] / pt[i])) ** 2 + dphi**2 < selection.isolation_radius**2
        if pt[seen][near].sum() - pt[i] < LOOSE_ISOLATION * selection.isolation * pt[i]:
            return True
    return False
