"""Events of a trained scorer, generated and written: a table of any of them, an event file of whole events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..models.autoencoders.event_generator import EventGenerator, LatentBuffer, Physicality
from ..models.autoencoders.event_layout import EventLayout
from ..models.autoencoders.event_vae import EventVae
from ..models.generated_table import generating_scorer
from ..models.scorer import load_scorer
from ..samples.eventfile import object_writer
from ..table import table_writer

__all__ = ["event_generator", "object_records", "write_generated"]

Single = npt.NDArray[np.float32]
ENDS = (".parquet", ".root")
CATEGORIES = {"Electron": (3, 4), "Muon": (5, 6), "Jet": (1, 2), "Photon": (7,)}
"""Collections of an event file -> categories of a list of objects."""
CLASSES = {"Electron": "e", "Muon": "mu", "Jet": "jet", "Photon": "photon"}
"""Collections -> what the classes of the other layout are called."""
POSITIVE = (4, 6)
B_JET = 2


def event_generator(
    folder: Path,
    *,
    axis: str | None = None,
    prior: bool = False,
    alpha: float = 1.0,
    gamma: float = 0.05,
    where: Mapping[str, tuple[float, float]] | None = None,
) -> tuple[EventGenerator, tuple[str, ...], dict[str, Any]] | None:
    """Return the generator of a stored EventVae, the names of its inputs and how these were made; None for a scorer of another sort.

    prior: whether draws are of the prior in place of the buffer; the others: see `EventGenerator`.
    Raises ScorerError as that and as `load_scorer`.
    """
    scorer, names, made = generating_scorer(load_scorer(folder), axis)
    if not isinstance(scorer, EventVae):
        return None
    made = made or scorer.made_
    buffer = LatentBuffer.prior(scorer.latent) if prior else None
    if prior:
        alpha, gamma = 1.0, 0.0
    generator = EventGenerator(vae=scorer, buffer=buffer, alpha=alpha, gamma=gamma, where=where or {}, made=made)
    return generator, names, made


def write_generated(
    generator: EventGenerator,
    n: int,
    output: Path,
    *,
    names: tuple[str, ...] = (),
    made: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Callable[[Iterable[Any]], Iterable[Any]] | None = None,
) -> Physicality:
    """Write n events of a generator, chunk by chunk, and return what was decoded for them.

    output: .root for an event file of objects, which `hunch process` reads, .parquet for a table of one column, that of the training; names, made: as `event_generator` returns them.
    Raises InputError for another name, and of an event file for events whose objects have no class.
    """
    if output.suffix not in ENDS:
        raise InputError(f"{output}: a name that ends in {' or '.join(ENDS)} is expected")
    told = {
        "scorer": type(generator.vae).__name__,
        "seed": seed,
        "events": n,
        "alpha": generator.alpha,
        "gamma": generator.gamma,
        "where": {window.name: [window.lowest, window.highest] for window in generator.windows},
    }
    opened = (
        event_file(output, generator.layout)
        if output.suffix == ".root"
        else table_file(output, names[0] if len(names) == 1 else "objects", {**(made or {}), "generated": told})
    )
    total = Physicality()
    with opened as write:
        chunks: Iterable[Any] = generator.stream(n, seed=seed)
        for chunk in progress(chunks) if progress else chunks:
            write(chunk.events)
            total += chunk.physicality
    return total


@contextmanager
def table_file(output: Path, name: str, metadata: Mapping[str, Any]) -> Iterator[Callable[[Single], None]]:
    """Give a function that appends events to a table of one column."""
    with table_writer(output, metadata) as write:
        yield lambda events: write({name: events}) if len(events) else None


@contextmanager
def event_file(output: Path, layout: EventLayout) -> Iterator[Callable[[Single], None]]:
    """Give a function that appends events (n, slots, 3 or 5) to an event file; raises InputError for a layout that says no class of objects."""
    if not layout.has_missing or not (layout.listed or layout.classes):
        raise InputError(
            f"{output}: what these events were made of is not known: missing momentum first, then objects by class, as representation objects has them; write a table (.parquet)"
        )
    photons = layout.listed or "photon" in layout.classes
    with object_writer(output, measured=layout.listed, truth=False, photons=photons, btag=layout.listed) as writer:
        yield lambda events: writer.write(object_records(events, layout, photons=photons), truth_signal=None)


def object_records(events: Single, layout: EventLayout, *, photons: bool) -> ak.Array:
    """Return events (n, slots, 3 or 5) as records of lists `Electron`, `Muon`, `Jet`, and `Photon` where asked for, and numbers `MET_pt` and `MET_phi`.

    Objects with an energy have mass, the root of E^2 - p^2, and leptons charge, jets btag.
    """
    records: dict[str, Any] = {"MET_pt": events[:, 0, 0], "MET_phi": events[:, 0, 2]}
    there = events[..., 0] > 0
    there[:, 0] = False
    for name, kinds in CATEGORIES.items():
        if name == "Photon" and not photons:
            continue
        if layout.listed:
            chosen = there & (events[..., 4] >= kinds[0]) & (events[..., 4] <= kinds[-1])
        else:
            chosen = layout.places(events, CLASSES[name]) if CLASSES[name] in layout.classes else there & False
        rows = events[chosen]
        fields = {"pt": rows[:, 0], "eta": rows[:, 1], "phi": rows[:, 2]}
        if layout.listed:
            momentum = rows[:, 0] * np.cosh(rows[:, 1].astype(np.float64))
            fields["mass"] = np.sqrt(np.maximum(rows[:, 3].astype(np.float64) ** 2 - momentum**2, 0)).astype(np.float32)
            if name in {"Electron", "Muon"}:
                fields["charge"] = np.where(rows[:, 4] == POSITIVE[name == "Muon"], 1, -1).astype(np.int8)
            elif name == "Jet":
                fields["btag"] = (rows[:, 4] == B_JET).astype(np.uint8)
        counts = np.count_nonzero(chosen, axis=1)
        records[name] = ak.unflatten(ak.Array(fields), counts)
    return ak.Array(records)
