"""Running processors over filesets with coffea's executors: check files, run chunks, put the parts in order."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coffea.nanoevents import BaseSchema
from coffea.processor import DaskExecutor, FuturesExecutor, IterativeExecutor, ProcessorABC, Runner, accumulate
from coffea.processor.executor import WorkItem

from ..errors import HunchError, InputError, unknown_name
from ..files import WriteError
from ..workers import WorkerPool
from .events import EventFile, inspect_file
from .filesets import check_fileset, read_fileset

__all__ = [
    "EXECUTORS",
    "FilesetLike",
    "Processed",
    "ProcessingError",
    "Running",
    "Skipped",
    "open_files",
    "process_files",
]

logger = logging.getLogger(__name__)

EXECUTORS = ("iterative", "futures", "dask")
MIN_CHUNK, MAX_CHUNK = 500, 2500
"""Chunks are sized so that every worker gets about four, within these numbers of events."""

FilesetLike = Mapping[str, Any] | str | Path | Sequence[str | Path]
Skipped = tuple[tuple[str, str], ...]


class ProcessingError(HunchError):
    """Workers died, could not be reached, or stopped with an error."""


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


def open_files(
    fileset: FilesetLike, *, skip_bad_files: bool = False, same_counting: bool = True
) -> tuple[list[EventFile], Skipped]:
    """Check every file of a fileset and return those that can be processed, in order, and the others with reasons.

    Raises InputError for the first bad file, or when all are bad; also when the files cannot be in one table: some
    store charge and others do not (`ntrk` would mean two things; allowed without same_counting), only some store
    `genWeight`, or two are one file.
    """
    given = check_fileset(fileset) if isinstance(fileset, Mapping) else read_fileset(fileset)
    files: list[EventFile] = []
    skipped: list[tuple[str, str]] = []
    for dataset, entry in given.items():
        for path, tree in entry["files"].items():
            try:
                files.append(inspect_file(path, tree=tree, dataset=dataset))
            except InputError as error:
                if not skip_bad_files:
                    raise
                logger.warning("skipped: %s", error)
                skipped.append((str(path), str(error)))
    _require_some(files, skipped)
    first = files[0]
    seen: dict[bytes, str] = {}
    for file in files:
        if file.uuid in seen and any(file.uuid):
            raise InputError(f"{file.path}: is the same ROOT file as {seen[file.uuid]}; its events would count twice")
        seen[file.uuid] = file.path
        if same_counting and file.source.counting != first.source.counting:
            raise InputError(
                f"{file.path}: counts {file.source.counting} constituents as ntrk, {first.path} counts "
                f"{first.source.counting}: one stores charge, the other does not; they cannot be in one analysis"
            )
        if file.source.gen_weight != first.source.gen_weight:
            has, lacks = (file, first) if file.source.gen_weight else (first, file)
            raise InputError(f"{lacks.path}: no branch 'genWeight', which {has.path} has; weights are all or nothing")
    return files, tuple(skipped)


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
    skipped = []
    for file in files:
        reason = failed.get((file.dataset, file.path))
        if reason is not None:
            if not running.skip_bad_files:
                raise InputError(reason)
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
            runner = Runner(executor=chosen, schema=BaseSchema, savemetrics=False)
            # Only the needed branches become columns: NanoAOD has thousands, and a column costs time at every open.
            return runner(items, processor, iteritems_options={"filter_name": branches})
    except Exception as error:
        # Dead workers are RuntimeErrors; around what a worker raised coffea puts a bare Exception, no subclass of it.
        if type(error) is not Exception and not isinstance(error, RuntimeError):
            raise
        raise _explained(error, running.executor) from error
    finally:
        if log.getvalue():
            logger.debug("coffea wrote: %s", log.getvalue().strip())


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _require_some(files: Sequence[EventFile], skipped: Sequence[tuple[str, str]]) -> None:
    if not files:
        reasons = "; ".join(reason for _, reason in skipped)
        raise InputError(f"not one of {len(skipped)} files can be processed: {reasons}")


def _chunk_size(files: Sequence[EventFile], workers: int) -> int:
    total = sum(file.entries for file in files)
    return min(max(math.ceil(total / (4 * workers)), MIN_CHUNK), MAX_CHUNK)


def _chunks(files: Sequence[EventFile], size: int) -> list[WorkItem]:
    """Cut files into chunks of nearly equal size; an empty file is one empty chunk, so that it is counted."""
    items = []
    for number, file in enumerate(files):
        n = max(math.ceil(file.entries / size), 1)
        edges = [file.entries * i // n for i in range(n + 1)]
        items += [
            WorkItem(
                file.dataset, file.path, file.tree, start, stop, file.uuid, {"source": file.source, "number": number}
            )
            for start, stop in itertools.pairwise(edges)
        ]
    return items


@contextlib.contextmanager
def _executor(running: Running) -> Iterator[Any]:
    """Make coffea's executor; no retries, since a chunk that failed once fails again."""
    if running.executor == "iterative":
        yield IterativeExecutor(status=running.progress, retries=0)
    elif running.executor == "futures":
        yield FuturesExecutor(workers=running.processes, status=running.progress, retries=0, pool=WorkerPool)
    else:
        from distributed import Client, LocalCluster

        with contextlib.ExitStack() as stack:
            scheduler: Any = running.scheduler
            if scheduler is None:
                scheduler = stack.enter_context(
                    LocalCluster(n_workers=running.processes, threads_per_worker=1, dashboard_address=None)  # type: ignore[no-untyped-call]
                )
            try:
                client = stack.enter_context(Client(scheduler, timeout="10s"))  # type: ignore[no-untyped-call]
            except (OSError, ValueError) as error:
                raise ProcessingError(f"scheduler {scheduler!r} cannot be reached: {error}") from error
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
