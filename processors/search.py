"""The search without a table: event files in, trained scorers applied chunk by chunk, spectra per region out."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import hist
import numpy as np
import numpy.typing as npt
from coffea.processor import ProcessorABC

from ..errors import InputError, unknown_name
from ..folds import fold_of, identity_hash
from ..table import DIJET_COLUMNS, IDENTITY, Table
from .chunks import UnreadableError
from .features import DijetSettings, dijet_columns
from .runner import FilesetLike, ProcessingError, Skipped, available_cores, open_files, process_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coffea.nanoevents.methods.base import NanoEventsArray

__all__ = ["RegionsLike", "SearchProcessor", "SearchResult", "assign_regions", "run_search", "spectra_of"]

logger = logging.getLogger(__name__)

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]


class LossScorer(Protocol):
    """A trained scorer that spans a space of losses."""

    def losses(self, x: Float) -> Float:
        """Return (n, m) losses of features x: (n, d)."""
        ...


class RegionsLike(Protocol):
    """Regions of the space of losses, fixed beforehand."""

    @property
    def n_regions(self) -> int:
        """How many there are."""
        ...

    def assign(self, losses: Float, fold: Int, mjj: Float) -> Int:
        """Return the region (0 to n_regions - 1, -1 for none) of losses (n, m) by the scorer of fold (n,), at masses mjj (n,) GeV."""
        ...


@dataclass(frozen=True)
class SearchResult:
    """Spectra (axes `region`, `mjj` in GeV), the cutflow ("read" is the sum of the rest), and the skipped files."""

    spectra: hist.Hist[Any]
    cutflow: dict[str, int]
    skipped: Skipped


def assign_regions(
    table: Table, *, scorers: Sequence[LossScorer], regions: RegionsLike, features: Sequence[str]
) -> Int:
    """Return the region of each event of a dijet table, -1 for none: (n,) int64.

    One scorer scores every event (fold 0). Of k scorers, number i scores the events whose identity hashes to fold i:
    it is the one that has not been trained on them.
    """
    x = table.matrix(features)
    fold = fold_of(identity_hash(table), len(scorers)) if len(scorers) > 1 else np.zeros(len(table), dtype=np.int64)
    if not len(table):
        return fold
    order, parts = [], []
    for number in np.unique(fold):
        rows = np.flatnonzero(fold == number)
        own = np.asarray(scorers[number].losses(x[rows]), dtype=np.float64)
        if not np.isfinite(own).all():
            raise ProcessingError(f"{table.source}: scorer {number} gives losses that are not finite")
        order.append(rows)
        parts.append(own)
    losses = np.concatenate(parts)[np.argsort(np.concatenate(order))]
    return np.asarray(regions.assign(losses, fold, table["mjj"]), dtype=np.int64)


def spectra_of(mjj: Float, region: Int, *, n_regions: int, edges: Sequence[float]) -> hist.Hist[Any]:
    """Fill the m_jj spectrum (edges in GeV, with under- and overflow) of every region; region -1 is left out."""
    spectra = hist.Hist(
        hist.axis.Integer(0, n_regions, underflow=False, overflow=False, name="region"),
        hist.axis.Variable(list(edges), name="mjj", label="m_jj [GeV]"),
        storage=hist.storage.Double(),
    )
    inside = region >= 0
    spectra.fill(region=region[inside], mjj=mjj[inside])
    return spectra


class SearchProcessor(ProcessorABC):  # type: ignore[misc]
    """Turn chunks of events into spectra per region; keeps no state, scorers are loaded once a worker process."""

    def __init__(
        self,
        *,
        scorers: Sequence[tuple[str, int]],
        regions: RegionsLike,
        features: Sequence[str],
        edges: Sequence[float],
        settings: DijetSettings,
        threads: int | None = None,
    ) -> None:
        """Take scorer folders with the time they were written, so that a worker never uses an older one.

        threads: of torch in a worker; None leaves torch as it is.
        """
        self.scorers = tuple(scorers)
        self.regions = regions
        self.features = tuple(features)
        self.edges = tuple(edges)
        self.settings = settings
        self.threads = threads

    def process(self, events: NanoEventsArray) -> dict[str, Any]:
        """Process one chunk of NanoEvents; the accumulator is laid out as DijetProcessor's."""
        meta = events.metadata
        where, start = (meta["dataset"], meta["filename"]), meta.get("entrystart", 0)
        try:
            columns, cutflow = dijet_columns(events, self.settings)
        except UnreadableError as error:
            return {"files": {}, "failed": {(*where, start): str(error)}}
        table = Table(columns, source=meta["filename"])
        scorers = loaded_scorers(self.scorers, self.threads)
        region = assign_regions(table, scorers=scorers, regions=self.regions, features=self.features)
        spectra = spectra_of(table["mjj"], region, n_regions=self.regions.n_regions, edges=self.edges)
        kept = cutflow.pop("kept")
        cutflow["in no region"] = int((region < 0).sum())
        cutflow["kept"] = kept - cutflow["in no region"]
        weights = np.unique(table["genWeight"])[:2].tolist() if "genWeight" in table else []
        return {"files": {where: {"spectra": spectra, "cutflow": cutflow, "weights": set(weights)}}, "failed": {}}

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Return the accumulator as it is."""
        return accumulator


@functools.lru_cache(maxsize=4)
def loaded_scorers(folders: tuple[tuple[str, int], ...], threads: int | None) -> tuple[LossScorer, ...]:
    """Load scorers from their folders, once a process; threads x workers stay within the cores of the machine."""
    import torch

    from ..models import load_scorer

    if threads is not None:
        torch.set_num_threads(threads)
    scorers: list[LossScorer] = []
    for folder, _ in folders:
        scorer: Any = load_scorer(folder)
        if not hasattr(scorer, "losses"):
            raise InputError(f"{folder}: scorer {type(scorer).__name__} has no losses; regions need them")
        scorers.append(scorer)
    return tuple(scorers)


def run_search(
    fileset: FilesetLike,
    *,
    scorers: Sequence[str | Path],
    regions: RegionsLike,
    features: Sequence[str],
    edges: Sequence[float],
    settings: DijetSettings | None = None,
    executor: str = "futures",
    workers: int | None = None,
    scheduler: str | None = None,
    chunk_size: int | None = None,
    skip_bad_files: bool = False,
    progress: bool = True,
) -> SearchResult:
    """Score event files chunk by chunk and return m_jj spectra per region; equal to the table's route, event by event.

    scorers: folders, one for all events or one a fold; features: columns of the dijet table, in the scorers' order;
    edges: of m_jj, GeV; the rest as `run_dijets`. Events are counted, not weighted: files whose `genWeight` differs
    between events are an InputError, as are an unknown feature, edges that do not rise, and what `run_dijets` refuses.
    """
    allowed = DIJET_COLUMNS[len(IDENTITY) :]
    for name in features:
        if name not in allowed:
            raise InputError(unknown_name("feature", name, allowed))
    if len(edges) < 2 or not np.all(np.diff(edges) > 0):
        raise InputError(f"edges: {list(edges)[:6]} do not rise; at least two m_jj bin edges in GeV are expected")
    if not scorers or not features:
        raise InputError("scorers and features: at least one of each is needed")
    folders = tuple((str(Path(path).resolve()), _written(Path(path))) for path in scorers)
    # Loaded here first: what is wrong with a scorer is then the caller's error and not a dead worker's.
    loaded_scorers(folders, None)
    local = executor != "iterative"
    threads = max(1, available_cores() // (workers or available_cores())) if local and scheduler is None else 1
    files, bad = open_files(fileset, skip_bad_files=skip_bad_files)
    processor = SearchProcessor(
        scorers=folders,
        regions=regions,
        features=features,
        edges=edges,
        settings=settings or DijetSettings(),
        threads=threads if local else None,
    )
    done = process_files(
        files,
        processor,
        executor=executor,
        workers=workers,
        scheduler=scheduler,
        chunk_size=chunk_size,
        skip_bad_files=skip_bad_files,
        progress=progress,
    )
    spectra = spectra_of(np.zeros(0), np.zeros(0, dtype=np.int64), n_regions=regions.n_regions, edges=edges)
    weights: set[float] = set()
    for file, part in done.parts:
        weights |= part["weights"]
        if len(weights) > 1:
            raise InputError(
                f"{file.path}: genWeight differs between events; a search counts events, as data have them"
            )
        spectra = spectra + part["spectra"]
    return SearchResult(spectra, done.cutflow, (*bad, *done.skipped))


def _written(folder: Path) -> int:
    """Return when a scorer's folder was last written, in ns; 0 leaves it to `load_scorer` to say what is missing."""
    record = folder / "scorer.json"
    return record.stat().st_mtime_ns if record.is_file() else 0
