"""The search without a table: events in, trained spaces applied chunk by chunk, spectra per region out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import hist
import numpy as np
import numpy.typing as npt
from coffea.processor import ProcessorABC

from ..errors import InputError
from ..folds import FoldPlan, beyond_chance, fold_hash, repeated_events, same_event_hash
from ..table import IDENTITY, Observable, Table, weight_columns
from .chunks import ROW, Representation, UnreadableError, metadata_of
from .repeats import COMES_AGAIN, Repeats
from .runner import FilesetLike, Running, Skipped, available_cores, open_files, process_files
from .scoring import (
    AxisMetric,
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
from .weights import UNWEIGHED, weights_of

__all__ = ["Hunted", "RegionsLike", "SearchProcessor", "SearchResult", "run_search", "search_table", "spectra_of"]

logger = logging.getLogger(__name__)
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
    a space is read (`load_space`); threads: of torch in a worker, None leaves torch as it is; repeats: what happens to events that come
    again, where an identity tells them. Raises InputError for edges that do not rise, a representation without observable, and
    another number of spaces than the plan has models.
    """

    representation: Representation
    spaces: FolderTimes
    regions: RegionsLike
    plan: FoldPlan
    edges: tuple[float, ...]
    metric: AxisMetric = None
    per_jet: str = "sum"
    threads: int | None = None
    repeats: Repeats = "refuse"

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

    def region_of(self, table: Table) -> tuple[Ints, dict[int, int], npt.NDArray[np.uint64]]:
        """Return the region of each row (n,), -1 for none, how many events each model has trained on, and each row's hash (n,)."""
        spaces = loaded_spaces(self.spaces, metric=self.metric, per_jet=self.per_jet, threads=self.threads)
        content = self.representation.content
        model = self.plan.hunting_model(fold_hash(table, content))
        known = same_event_hash(table, content)
        trained = trained_events(known, spaces, model, by_content=told_by_content(table))
        losses = score_events(sample_of(table, self.representation), spaces, model)
        mass = np.asarray(table[self.observable.name], dtype=np.float64)
        region = self.regions.assign(losses, model, mass, names=shared_axes(spaces))
        return np.asarray(region, dtype=np.int64), trained, known

    def filled(self, mass: Floats, region: Ints) -> hist.Hist[Any]:
        """Return the spectrum of every region of events (n,)."""
        return spectra_of(mass, region, self.observable, n_regions=self.regions.n_regions, edges=self.edges)

    def lost(self, mass: Floats, region: Ints) -> dict[str, int]:
        """Count the events (n,) that no bin of a region takes, by why."""
        below, above = mass < self.edges[0], mass >= self.edges[-1]
        return {
            "below the fit range": int(below.sum()),
            "above the fit range": int(above.sum()),
            "in no region": int(((region < 0) & ~below & ~above).sum()),
        }

    def searched(self, table: Table, cutflow: dict[str, int], *, part: int = 0) -> dict[str, Any]:
        """Return the spectra of a table of usable rows, its cutflow, its weights, its events that were trained on, and its events.

        cutflow: up to "kept"; the events below and above the bins, and those in no region, are counted after it. part: number of
        the table, in the order in which events come.
        """
        region, trained, known = self.region_of(table)
        mass = np.asarray(table[self.observable.name], dtype=np.float64)
        lost = self.lost(mass, region)
        kept = cutflow["kept"] - sum(lost.values())
        cutflow = {name: count for name, count in cutflow.items() if name != "kept"}
        by_content = told_by_content(table)
        events: dict[str, npt.NDArray[Any]] = {"event": known}
        if self.repeats == "drop" or by_content:
            events |= {"region": region, "mass": mass}
        return {
            "events": {part: events},
            "by_content": {by_content},
            "spectra": self.filled(mass, region),
            "cutflow": {**cutflow, **lost, "kept": kept},
            "weights": {name: weights_of(table[name])["extremes"] for name in weight_columns(table.columns)},
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
        found = self.hunted.searched(table, cutflow, part=int(meta["entrystart"]))
        return {"files": {where: found}, "failed": {}}

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
    metric: AxisMetric = None,
    per_jet: str = "sum",
    repeats: Repeats = "refuse",
) -> SearchResult:
    """Score event files chunk by chunk and return the spectra per region; equal to the table's route, event by event.

    spaces: folders of trained spaces, one for each model of the plan; regions: fixed in these spaces; edges: of the observable's
    bins; metric, per_jet: as they were when the regions were fixed; repeats: events that come again, in one file or another, are an
    error ("refuse"), or the later ones are left out and counted ("drop"). Raises InputError for files whose `genWeight` differs between
    events (they are counted, not weighted), for events that the model which would score them has trained on, for spaces
    with different axes, and for what `run_table` refuses.
    """
    representation.require_events()
    hunted = _hunted(representation, spaces, regions, plan, edges, metric, per_jet, repeats)
    if running.executor != "iterative":
        threads = max(1, available_cores() // running.processes) if running.scheduler is None else 1
        hunted = replace(hunted, threads=threads)
    files, bad = open_files(
        fileset,
        skip_bad_files=running.skip_bad_files,
        same_counting=representation.same_counting,
        find=representation.source_of,
    )
    done = process_files(files, SearchProcessor(hunted), running)
    spectra, cutflow = _sum(hunted, [(file.path, part) for file, part in done.parts], done.cutflow)
    return SearchResult(spectra, cutflow, (*bad, *done.skipped))


def search_table(
    table: Table | Iterable[Table],
    representation: Representation,
    *,
    spaces: Sequence[str | Path],
    regions: RegionsLike,
    plan: FoldPlan,
    edges: Sequence[float],
    metric: AxisMetric = None,
    per_jet: str = "sum",
    repeats: Repeats = "refuse",
) -> SearchResult:
    """Score the rows of a table and return the spectra per region, the same as `run_search` does for the events it is made of.

    table: a table of this representation, or its parts (`table_parts`). Rows without finite inputs and a positive observable
    are left out and counted; "read" is the number of rows. Raises InputError as `run_search`.
    """
    hunted = _hunted(representation, spaces, regions, plan, edges, metric, per_jet, repeats)
    done: list[tuple[str, dict[str, Any]]] = []
    cutflow: dict[str, int] = {}
    for number, part in enumerate([table] if isinstance(table, Table) else table):
        usable, lost = representation.usable({name: part[name] for name in representation.content})
        kept = part if usable.all() else part.select(usable)
        if weights := weight_columns(kept.columns):
            weighed = np.asarray(np.isfinite(kept.matrix(weights)).all(axis=1))
            kept, lost = kept.select(weighed), lost | {UNWEIGHED: int((~weighed).sum())}
        found = hunted.searched(kept, {"read": len(part), **lost, "kept": len(kept)}, part=number)
        done.append((part.source, found))
        cutflow = {name: cutflow.get(name, 0) + count for name, count in found["cutflow"].items()}
    if not done:
        raise InputError("no table to search in")
    return SearchResult(*_sum(hunted, done, cutflow), ())


def _hunted(
    representation: Representation,
    spaces: Sequence[str | Path],
    regions: RegionsLike,
    plan: FoldPlan,
    edges: Sequence[float],
    metric: AxisMetric,
    per_jet: str,
    repeats: Repeats,
) -> Hunted:
    """Return the search with its spaces loaded: what is wrong with them is the caller's error and not a dead worker's."""
    hunted = Hunted(representation, folder_times(spaces), regions, plan, tuple(edges), metric, per_jet, repeats=repeats)
    check_inputs(loaded_spaces(hunted.spaces, metric=metric, per_jet=per_jet), representation)
    return hunted


def _sum(
    hunted: Hunted, parts: Sequence[tuple[str, Mapping[str, Any]]], cutflow: dict[str, int]
) -> tuple[hist.Hist[Any], dict[str, int]]:
    """Add up the spectra of files; refuse events of different weight, those that were trained on, and repeats or leave them out."""
    spectra = hunted.filled(np.zeros(0), np.zeros(0, dtype=np.int64))
    weights: dict[str, set[float]] = {}
    trained: dict[str, dict[int, int]] = {}
    for where, part in parts:
        for name, extremes in part["weights"].items():
            weights[name] = weights.get(name, set()) | extremes
            if len(weights[name]) > 1:
                raise InputError(f"{where}: {name} differs between events; a search counts events, as data have them")
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
    return _without_repeats(hunted, parts, spectra, cutflow)


def _without_repeats(
    hunted: Hunted, parts: Sequence[tuple[str, Mapping[str, Any]]], spectra: hist.Hist[Any], cutflow: dict[str, int]
) -> tuple[hist.Hist[Any], dict[str, int]]:
    """Refuse events that come again, or take the later ones off the spectra and count them in the cutflow."""
    found = [(where, part["events"][number]) for where, part in parts for number in sorted(part["events"])]
    if not found:
        return spectra, cutflow
    events = np.concatenate([own["event"] for _, own in found])
    again = repeated_events(events)
    n = int(again.sum())
    if n == 0:
        return spectra, cutflow
    by_content = any(True in part["by_content"] for _, part in parts)
    # rows without an identity may be equal by chance, as often as their masses are
    if by_content and not beyond_chance(n, np.concatenate([own["mass"] for _, own in found])[:, None]):
        return spectra, cutflow
    later = int(np.flatnonzero(again)[0])
    ends = np.cumsum([len(own["event"]) for _, own in found])
    rows = (int(np.flatnonzero(events == events[later])[0]), later)
    first, second = (found[int(np.searchsorted(ends, row, side="right"))][0] for row in rows)
    told = f"{n} events come again: the first of them is in {first}, and " + (
        "again in it" if first == second else f"in {second}"
    )
    if hunted.repeats == "refuse":
        raise InputError(f"{told}; repeats: drop leaves the later ones out")
    logger.warning("%s; the later ones are left out", told)
    mass, region = (np.concatenate([own[name] for _, own in found])[again] for name in ("mass", "region"))
    spectra = spectra.copy()
    spectra.view(flow=True)[...] -= hunted.filled(mass, region).view(flow=True)
    lost = hunted.lost(mass, region)
    fewer = {name: count - lost.get(name, 0) for name, count in cutflow.items() if name != "kept"}
    return spectra, {**fewer, COMES_AGAIN: n, "kept": cutflow["kept"] - (n - sum(lost.values()))}
