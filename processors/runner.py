"""Running processors over filesets with coffea's executors: check files, run chunks, put the parts in order."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coffea.nanoevents import BaseSchema
from coffea.processor import DaskExecutor, FuturesExecutor, IterativeExecutor, ProcessorABC, Runner, accumulate
from coffea.processor.executor import WorkItem

from ..errors import HunchError, InputError, unknown_name
from ..files import WriteError
from ..workers import WorkerPool
from .cluster import ProcessingError, dask_client, watched
from .damage import READ_ERRORS, told
from .eventfiles import EventFile, inspect_file
from .events import EventSource, source_of
from .filesets import Fileset, check_fileset, read_fileset

__all__ = [
    "EXECUTORS",
    "FilesetLike",
    "Processed",
    "ProcessingError",
    "Running",
    "Skipped",
    "as_fileset",
    "open_files",
    "process_files",
]

logger = logging.getLogger(__name__)

EXECUTORS = ("iterative", "futures", "dask")
MIN_CHUNK, MAX_CHUNK = 500, 2500
"""Chunks are sized so that every worker gets about four, within these numbers of events."""

FilesetLike = Mapping[str, Any] | str | Path | Sequence[str | Path]
Skipped = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Running:
    """How files are processed; no result depends on it.

    executor: one of EXECUTORS; workers: processes (all cores); scheduler: address of a running dask scheduler, whose
    workers see the folders that this process writes to; chunk_size: events; skip_bad_files: files that cannot be processed are
    counted and reported and do not stop the run; progress: bars on stderr. Raises InputError for what is none of these.
    """

    executor: str = "futures"
    workers: int | None = None
    scheduler: str | None = None
    chunk_size: int | None = None
    skip_bad_files: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise InputError(unknown_name("executor", self.executor, EXECUTORS))
        if self.scheduler is not None and self.executor != "dask":
            raise InputError(f"scheduler: {self.scheduler!r} is for executor 'dask', not {self.executor!r}")
        for name, value in (("workers", self.workers), ("chunk_size", self.chunk_size)):
            if value is not None and value < 1:
                raise InputError(f"{name}: {value} is not a positive number")

    @property
    def processes(self) -> int:
        """Number of worker processes: one where the work is done in this process."""
        return 1 if self.executor == "iterative" else self.workers or available_cores()


@dataclass(frozen=True)
class Processed:
    """What a processor made of each file, in the fileset's order, and the files left out with the reason."""

    parts: tuple[tuple[EventFile, Mapping[str, Any]], ...]
    skipped: Skipped

    @property
    def cutflow(self) -> dict[str, int]:
        """The sum of the files' cutflows."""
        total: dict[str, int] = {}
        for _, part in self.parts:
            for name, count in part["cutflow"].items():
                total[name] = total.get(name, 0) + count
        return total


def as_fileset(fileset: FilesetLike) -> Fileset:
    """Return a fileset in the one form of `read_fileset`, from that, a looser one of coffea's, or paths."""
    if isinstance(fileset, str | Path) or not isinstance(fileset, Mapping):
        return read_fileset(fileset)
    return check_fileset(fileset)


def open_files(
    fileset: FilesetLike,
    *,
    skip_bad_files: bool = False,
    same_counting: bool = True,
    find: Callable[[Collection[str], str], EventSource] = source_of,
) -> tuple[list[EventFile], Skipped]:
    """Check every file of a fileset and return those that can be processed, in order, and the others with reasons.

    find: what is looked for in each, `Representation.source_of`; candidates unless given.
    Raises InputError for the first bad file, or when all are bad; also when the files cannot be in one table: some
    store charge and others do not (`ntrk` would mean two things; allowed without same_counting), only some store
    `genWeight`, or two are one file.
    """
    files: list[EventFile] = []
    skipped: list[tuple[str, str]] = []
    for dataset, entry in as_fileset(fileset).items():
        for path, said in entry["files"].items():
            try:
                files.append(_inspected(path, said, dataset, find))
            except InputError as error:
                if not skip_bad_files:
                    raise
                logger.warning("skipped: %s", error)
                skipped.append((str(path), str(error)))
    _require_some(files, skipped)
    first = files[0]
    seen: dict[bytes | str, EventFile] = {}
    for file in files:
        if file.steps is not None:
            logger.info("%s: steps take %d of its %d events", file.path, file.selected, file.entries)
        # The identifier is that of a copy, too; files without one are known by where they are.
        known = file.uuid if any(file.uuid) else os.path.realpath(file.path)
        if known in seen and seen[known].path == file.path:
            datasets = f"{seen[known].dataset!r} and {file.dataset!r}"
            raise InputError(f"{file.path}: is in two datasets, {datasets}; its events would count twice")
        if known in seen:
            raise InputError(f"{file.path}: is the same ROOT file as {seen[known].path}; its events would count twice")
        seen[known] = file
        if same_counting and file.source.counting != first.source.counting:
            raise InputError(
                f"{file.path}: counts {file.source.counting} constituents as ntrk, {first.path} counts "
                f"{first.source.counting}: one stores charge, the other does not; they cannot be in one analysis"
            )
        if file.source.gen_weight != first.source.gen_weight:
            has, lacks = (file, first) if file.source.gen_weight else (first, file)
            raise InputError(f"{lacks.path}: no branch 'genWeight', which {has.path} has; weights are all or nothing")
    return files, tuple(skipped)


def _inspected(
    path: str, said: str | Mapping[str, Any], dataset: str, find: Callable[[Collection[str], str], EventSource]
) -> EventFile:
    """Open a file as its entry of a fileset says."""
    if isinstance(said, str):
        return inspect_file(path, tree=said, dataset=dataset, find=find)
    steps = said.get("steps")
    return inspect_file(
        path,
        tree=said["object_path"],
        dataset=dataset,
        steps=None if steps is None else tuple((start, stop) for start, stop in steps),
        num_entries=said.get("num_entries"),
        file_uuid=said.get("uuid"),
        find=find,
    )


def process_files(
    files: Sequence[EventFile],
    processor: ProcessorABC,
    running: Running = Running(),
    *,
    finished: Callable[[int, tuple[str, str], int, int], dict[str, Any] | None] | None = None,
) -> Processed:
    """Run a processor over checked files; its accumulator has "files" and "failed" as `TableProcessor` describes.

    finished: gives what an earlier run has made of a chunk (number of the file, dataset and file name, first entry, last), if it has.
    A file with a damaged chunk is left out as a whole. Raises InputError, ProcessingError.
    """
    items = _chunks(files, running.chunk_size or _chunk_size(files, running.processes))
    known: list[dict[str, Any]] = []
    if finished is not None:
        items, known = _left_to_do(items, finished)
    out: Any = accumulate([*([_run(items, files, processor, running)] if items else []), *known])
    failed = {key[:2]: reason for key, reason in sorted(out["failed"].items(), reverse=True)}
    for file in files:
        _require_whole(file, out["files"].get((file.dataset, file.path)), failed)
    skipped = []
    for file in files:
        reason = failed.get((file.dataset, file.path))
        if reason is not None:
            if not running.skip_bad_files:
                raise InputError(reason)
            reason = f"{reason}; the file is left out as a whole, with its {file.selected} events"
            logger.warning("skipped: %s", reason)
            skipped.append((file.path, reason))
    good = [file for file in files if (file.dataset, file.path) not in failed]
    _require_some(good, skipped)
    return Processed(tuple((file, out["files"][file.dataset, file.path]) for file in good), tuple(skipped))


def _left_to_do(
    items: Sequence[WorkItem], finished: Callable[[int, tuple[str, str], int, int], dict[str, Any] | None]
) -> tuple[list[WorkItem], list[dict[str, Any]]]:
    """Return the chunks that no earlier run has finished, and what it made of the others."""
    left, known = [], []
    for item in items:
        where = (item.dataset, item.filename)
        made = finished(item.usermeta["number"], where, item.entrystart, item.entrystop)
        if made is None:
            left.append(item)
        else:
            known.append(made)
    if known:
        logger.info("%d of %d chunks were finished by a run before", len(known), len(items))
    return left, known


def _run(items: list[WorkItem], files: Sequence[EventFile], processor: ProcessorABC, running: Running) -> Any:
    """Run a processor over chunks and return its accumulator; raises ProcessingError."""
    branches = sorted({branch for file in files for branch in file.source.branches})
    log = io.StringIO()
    try:
        with _executor(running) as chosen, _own_output(log, progress=running.progress):
            runner: Any = CarefulRunner(executor=chosen, schema=BaseSchema, savemetrics=False)
            # Only the needed branches become columns: NanoAOD has thousands, and a column costs time at every open.
            run = functools.partial(runner, items, processor, iteritems_options={"filter_name": branches})
            return watched(chosen.client, running.scheduler, run) if running.executor == "dask" else run()
    except Exception as error:
        # Dead workers are RuntimeErrors; around what a worker raised coffea puts a bare Exception, no subclass of it.
        if type(error) is not Exception and not isinstance(error, RuntimeError):
            raise
        raise _explained(error, running.executor) from error
    finally:
        if log.getvalue():
            logger.debug("coffea wrote: %s", log.getvalue().strip())


class CarefulRunner(Runner):  # type: ignore[misc]
    """coffea's runner, in which a file that cannot be opened any more on a worker is a file that failed, not the end of the run."""

    @staticmethod
    def _work_function(*given: Any, **options: Any) -> dict[str, Any]:
        """Process one chunk; where opening it fails with an error of reading, hand on the reason in place of a result."""
        try:
            made: dict[str, Any] = Runner._work_function(*given, **options)
        except Exception as error:
            # coffea raises a bare Exception around what opening a file raised; anything else has its own class.
            cause = error.__cause__
            opening = str(error).startswith(("Failed to open file", "Failed creating nanoevents"))
            if type(error) is not Exception or not opening or not isinstance(cause, READ_ERRORS):
                raise
            return _failed(given, cause, error)
        return made


def _failed(given: Sequence[Any], cause: BaseException, error: BaseException) -> dict[str, Any]:
    """Return the accumulator of a chunk whose file could not be opened."""
    found = next((x[0] if isinstance(x, tuple) else x for x in given if isinstance(x, WorkItem | tuple)), None)
    if not isinstance(found, WorkItem):
        raise error
    reason = f"{found.filename}: tree {found.treename!r}: cannot be read, damaged: {told(cause)}"
    failed = {(found.dataset, found.filename, found.entrystart): reason}
    return {"out": {"files": {}, "failed": failed}, "processed": {found}}


def _require_whole(file: EventFile, part: Mapping[str, Any] | None, failed: dict[tuple[str, str], str]) -> None:
    """Mark a file as failed whose chunks were not all read: no event is lost without a word."""
    key = (file.dataset, file.path)
    read = part["cutflow"]["read"] if part else 0
    if key not in failed and (part is None or read != file.selected):
        failed[key] = f"{file.path}: tree {file.tree!r}: {read} of {file.selected} events were read"


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _require_some(files: Sequence[EventFile], skipped: Sequence[tuple[str, str]]) -> None:
    if not files:
        reasons = "; ".join(reason for _, reason in skipped)
        raise InputError(f"not one of {len(skipped)} files can be processed: {reasons}")


def _chunk_size(files: Sequence[EventFile], workers: int) -> int:
    total = sum(file.selected for file in files)
    return min(max(math.ceil(total / (4 * workers)), MIN_CHUNK), MAX_CHUNK)


def _chunks(files: Sequence[EventFile], size: int) -> list[WorkItem]:
    """Cut files into chunks of nearly equal size; an empty file is one empty chunk, so that it is counted."""
    items = []
    for number, file in enumerate(files):
        edges: list[tuple[int, int]] = []
        for start, stop in file.ranges or ((0, 0),):
            n = max(math.ceil((stop - start) / size), 1)
            edges += itertools.pairwise(start + (stop - start) * i // n for i in range(n + 1))
        usermeta = {"source": file.source, "number": number}
        items += [WorkItem(file.dataset, file.path, file.tree, *edge, file.uuid, usermeta) for edge in edges]
    return items


@contextlib.contextmanager
def _executor(running: Running) -> Iterator[Any]:
    """Make coffea's executor; no retries, since a chunk that failed once fails again."""
    if running.executor == "iterative":
        yield IterativeExecutor(status=running.progress, retries=0)
    elif running.executor == "futures":
        yield FuturesExecutor(workers=running.processes, status=running.progress, retries=0, pool=WorkerPool)
    else:
        with dask_client(running.scheduler, workers=running.processes) as client:
            yield DaskExecutor(client=client, status=running.progress, retries=0)


@contextlib.contextmanager
def _own_output(log: io.StringIO, *, progress: bool) -> Iterator[None]:
    """Keep stdout for the caller while coffea runs: its bar goes to stderr, the tracebacks it prints to `log`."""
    with contextlib.redirect_stdout(sys.stderr if progress else log), contextlib.redirect_stderr(log):
        yield


def _explained(error: Exception, executor: str) -> HunchError:
    """Say in one line what stopped the run, with what to do where that is known."""
    text = " ".join(str(error).split())
    written = re.search(r"WriteError\((['\"])(.*)\1\)", text)
    if written is not None:  # of a worker, who can hand on text alone
        return WriteError(written[2])
    if "KilledWorker" in text or type(error).__name__ in {"TerminatedWorkerError", "BrokenProcessPool", "KilledWorker"}:
        return ProcessingError(
            f"a worker of executor {executor!r} was killed, most likely for want of memory; "
            f"use fewer workers or a smaller chunk_size ({type(error).__name__}: {text[:300]})"
        )
    return ProcessingError(f"executor {executor!r} stopped: {type(error).__name__}: {text[:1000]}")
