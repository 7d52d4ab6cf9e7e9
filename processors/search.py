"""The search without a table: events in, trained spaces applied chunk by chunk, spectra per region out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import hist
import numpy as np
import numpy.typing as npt
from coffea.processor import ProcessorABC

from ..errors import InputError
from ..folds import FoldPlan, fold_hash, same_event_hash
from ..table import IDENTITY, Observable, Table
from .chunks import ROW, Representation, UnreadableError, metadata_of
from .runner import FilesetLike, Running, Skipped, available_cores, open_files, process_files
from .scoring import (
    FolderTimes,
    check_inputs,
    folder_times,
    loaded_spaces,
    sample_of,
    score_events,
    shared_axes,
    told_by_content,
    trained_events,
)

__all__ = ["Hunted", "RegionsLike", "SearchProcessor", "SearchResult", "run_search", "search_table", "spectra_of"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class RegionsLike(Protocol):
    """Regions of a space of losses, fixed beforehand."""

    @property
    def n_regions(self) -> int:
        """How many there are."""

    def assign(self, losses: Floats, fold: Ints, mass: Floats, *, names: Sequence[str]) -> Ints:
        """Return the region (0 to n_regions - 1, -1 for none) of losses (n, axes) by the model of fold (n,).

        mass: (n,) the observable; names: of the axes, in the order of the columns of the losses.
        """


@dataclass(frozen=True)
class SearchResult:
    """Spectra (axes `region` and the observable), the cutflow ("read" is the sum of the rest), and the skipped files."""

    spectra: hist.Hist[Any]
    cutflow: dict[str, int]
    skipped: Skipped

    def __repr__(self) -> str:
        regions, bins = (len(axis) for axis in self.spectra.axes)
        told = f"{self.cutflow['kept']:,} of {self.cutflow['read']:,} events in {regions} regions of {bins} bins"
        return f"SearchResult({told}, {len(self.skipped)} files skipped)"


@dataclass(frozen=True)
class Hunted:
    """A search that is ready for events, and travels to the workers: what events become, who scores them, where they go.

    spaces: folders of trained spaces, one for each model of the plan; edges: of the observable's bins; metric, per_jet: how
    a space is read (`load_space`); threads: of torch in a worker, None leaves torch as it is. Raises InputError for edges that
    do not rise, a representation without observable, and another number of spaces than the plan has models.
    """

    representation: Representation
    spaces: FolderTimes
    regions: RegionsLike
    plan: FoldPlan
    edges: tuple[float, ...]
    metric: str | None = None
    per_jet: str = "sum"
    threads: int | None = None

    def __post_init__(self) -> None:
        _ = self.observable
        if len(self.edges) < 2 or not np.all(np.diff(self.edges) > 0):
            raise InputError(f"edges: {list(self.edges)[:6]} do not rise; at least two bin edges are expected")
        if len(self.spaces) != self.plan.n_models:
            raise InputError(f"spaces: {len(self.spaces)} given; the plan has {self.plan.n_models} models that hunt")

    @property
    def observable(self) -> Observable:
        """What is hunted in."""
        if self.representation.observable is None:
            raise InputError(
                f"representation {self.representation.name!r} has no observable: there are no spectra to fill"
            )
        return self.representation.observable

    def region_of(self, table: Table) -> tuple[Ints, dict[int, int]]:
        """Return the region of each row (n,), -1 for none, and how many events each model has trained on."""
        spaces = loaded_spaces(self.spaces, metric=self.metric, per_jet=self.per_jet, threads=self.threads)
        content = self.representation.content
        model = self.plan.hunting_model(fold_hash(table, content))
        known = same_event_hash(table, content)
        trained = trained_events(known, spaces, model, by_content=told_by_content(table))
        losses = score_events(sample_of(table, self.representation), spaces, model)
        mass = np.asarray(table[self.observable.name], dtype=np.float64)
        region = self.regions.assign(losses, model, mass, names=shared_axes(spaces))
        return np.asarray(region, dtype=np.int64), trained

    def searched(self, table: Table, cutflow: dict[str, int]) -> dict[str, Any]:
        """Return the spectra of a table of usable rows, its cutflow, its weights, and its events that were trained on.

        cutflow: up to "kept"; the events below and above the bins, and those in no region, are counted after it.
        """
        region, trained = self.region_of(table)
        mass = np.asarray(table[self.observable.name], dtype=np.float64)
        below, above = mass < self.edges[0], mass >= self.edges[-1]
        lost = {
            "below the fit range": int(below.sum()),
            "above the fit range": int(above.sum()),
            "in no region": int(((region < 0) & ~below & ~above).sum()),
        }
        kept = cutflow["kept"] - sum(lost.values())
        cutflow = {name: count for name, count in cutflow.items() if name != "kept"}
        return {
            "spectra": spectra_of(mass, region, self.observable, n_regions=self.regions.n_regions, edges=self.edges),
            "cutflow": {**cutflow, **lost, "kept": kept},
            "weights": set(np.unique(table["genWeight"])[:2].tolist()) if "genWeight" in table else set(),
            "trained": trained,
        }


def spectra_of(
    mass: Floats, region: Ints, observable: Observable, *, n_regions: int, edges: Sequence[float]
) -> hist.Hist[Any]:
    """Fill the spectrum of the observable (n,) of every region (n,), with under- and overflow; region -1 is left out."""
    spectra = hist.Hist(
        hist.axis.Integer(0, n_regions, underflow=False, overflow=False, name="region"),
        hist.axis.Variable(list(edges), name=observable.name, label=observable.axis_label),
        storage=hist.storage.Double(),
    )
    inside = region >= 0
    spectra.fill(region[inside], mass[inside])
    return spectra


class SearchProcessor(ProcessorABC):  # type: ignore[misc]
    """Turn chunks of events into spectra per region; keeps no state, spaces are loaded once a worker process."""

    def __init__(self, hunted: Hunted) -> None:
        self.hunted = hunted

    def process(self, events: Any) -> dict[str, Any]:
        """Process one chunk of events; the accumulator is laid out as TableProcessor's, with spectra for parts."""
        meta = metadata_of(events)
        where = (meta["dataset"], meta["filename"])
        try:
            columns, cutflow = self.hunted.representation.columns(events)
        except UnreadableError as error:
            return {"files": {}, "failed": {(*where, int(meta["entrystart"])): str(error)}}
        del columns[ROW]
        table = Table(columns, {"identity": list(IDENTITY)}, meta["filename"])
        return {"files": {where: self.hunted.searched(table, cutflow)}, "failed": {}}

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Return the accumulator as it is."""
        return accumulator


def run_search(
    fileset: FilesetLike,
    representation: Representation,
    running: Running = Running(),  # noqa: B008 - frozen
    *,
    spaces: Sequence[str | Path],
    regions: RegionsLike,
    plan: FoldPlan,
    edges: Sequence[float],
    metric: str | None = None,
    per_jet: str = "sum",
) -> SearchResult:
    """Score event files chunk by chunk and return the spectra per region; equal to the table's route, event by event.

    spaces: folders of trained spaces, one for each model of the plan; regions: fixed in these spaces; edges: of the observable's
    bins; metric, per_jet: as they were when the regions were fixed. Raises InputError for files whose `genWeight` differs between
    events (they are counted, not weighted), for events that the model which would score them has trained on, for spaces
    with different axes, and for what `run_table` refuses.
    """
    representation.require_events()
    hunted = _hunted(representation, spaces, regions, plan, edges, metric, per_jet)
    if running.executor != "iterative":
        threads = max(1, available_cores() // running.processes) if running.scheduler is None else 1
        hunted = replace(hunted, threads=threads)
    files, bad = open_files(fileset, skip_bad_files=running.skip_bad_files, same_counting=representation.same_counting)
    done = process_files(files, SearchProcessor(hunted), running)
    spectra = _sum(hunted, ((file.path, part) for file, part in done.parts))
    return SearchResult(spectra, done.cutflow, (*bad, *done.skipped))


def search_table(
    table: Table | Iterable[Table],
    representation: Representation,
    *,
    spaces: Sequence[str | Path],
    regions: RegionsLike,
    plan: FoldPlan,
    edges: Sequence[float],
    metric: str | None = None,
    per_jet: str = "sum",
) -> SearchResult:
    """Score the rows of a table and return the spectra per region, the same as `run_search` does for the events it is made of.

    table: a table of this representation, or its parts (`table_parts`). Rows without finite inputs and a positive observable
    are left out and counted; "read" is the number of rows. Raises InputError as `run_search`.
    """
    hunted = _hunted(representation, spaces, regions, plan, edges, metric, per_jet)
    done: list[tuple[str, dict[str, Any]]] = []
    cutflow: dict[str, int] = {}
    for part in [table] if isinstance(table, Table) else table:
        usable, lost = representation.usable({name: part[name] for name in representation.content})
        kept = part if usable.all() else part.select(usable)
        found = hunted.searched(kept, {"read": len(part), **lost, "kept": len(kept)})
        done.append((part.source, found))
        cutflow = {name: cutflow.get(name, 0) + count for name, count in found["cutflow"].items()}
    if not done:
        raise InputError("no table to search in")
    return SearchResult(_sum(hunted, done), cutflow, ())


def _hunted(
    representation: Representation,
    spaces: Sequence[str | Path],
    regions: RegionsLike,
    plan: FoldPlan,
    edges: Sequence[float],
    metric: str | None,
    per_jet: str,
) -> Hunted:
    """Return the search with its spaces loaded: what is wrong with them is the caller's error and not a dead worker's."""
    hunted = Hunted(representation, folder_times(spaces), regions, plan, tuple(edges), metric, per_jet)
    check_inputs(loaded_spaces(hunted.spaces, metric=metric, per_jet=per_jet), representation)
    return hunted


def _sum(hunted: Hunted, parts: Iterable[tuple[str, Mapping[str, Any]]]) -> hist.Hist[Any]:
    """Add up the spectra of files; refuse events of different weight, and those that were trained on."""
    none, nowhere = np.zeros(0), np.zeros(0, dtype=np.int64)
    spectra = spectra_of(none, nowhere, hunted.observable, n_regions=hunted.regions.n_regions, edges=hunted.edges)
    weights: set[float] = set()
    trained: dict[str, dict[int, int]] = {}
    for where, part in parts:
        weights |= part["weights"]
        if len(weights) > 1:
            raise InputError(f"{where}: genWeight differs between events; a search counts events, as data have them")
        spectra = spectra + part["spectra"]
        for model, count in part["trained"].items():
            own = trained.setdefault(where, {})
            own[model] = own.get(model, 0) + count
    if trained:
        told = "; ".join(
            f"{where}: {', '.join(f'{count} by model {model}' for model, count in sorted(own.items()))}"
            for where, own in trained.items()
        )
        total = sum(sum(own.values()) for own in trained.values())
        raise InputError(
            f"{total} events would be scored by a model that has trained on them, which no search may: {told}"
        )
    return spectra
