"""Dask's cluster for a run: a scheduler of somebody's or workers here, watched while it works, and left without a sound."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from ..errors import HunchError

__all__ = ["ProcessingError", "dask_client", "watched"]

Made = TypeVar("Made")

CONNECT = "10s"
"""How long a scheduler is tried for, at first and when it is lost."""
PING_EVERY, LONGEST_SILENCE = 5.0, 15.0
"""Seconds between two questions to the scheduler, and how long the answer may take: a lost one is noticed within both."""
LOUD = ("distributed", "asyncio", "tornado")
"""Loggers that report what the user is told in one line."""


class ProcessingError(HunchError):
    """Workers died, could not be reached, or stopped with an error."""


@contextlib.contextmanager
def dask_client(scheduler: str | None, *, workers: int) -> Iterator[Any]:
    """Give a client of a running scheduler, or of a cluster of this machine; both are closed whatever happens.

    Raises ProcessingError where the scheduler cannot be reached.
    """
    import dask
    from distributed import Client, LocalCluster

    quick = {"distributed.comm.timeouts.connect": CONNECT, "distributed.comm.retry.count": 0}
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(quick))
        stack.enter_context(_quiet())
        where: Any = scheduler
        if scheduler is None:
            where = stack.enter_context(
                LocalCluster(
                    n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
                )  # type: ignore[no-untyped-call]
            )
        try:
            client = Client(where, timeout=CONNECT)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            raise ProcessingError(f"scheduler {scheduler!r} cannot be reached: {error}") from error
        stack.callback(_close, client)
        yield client


def watched(client: Any, scheduler: str | None, work: Callable[[], Made]) -> Made:
    """Return what a piece of work makes, which waits for the cluster, and stop waiting where its scheduler does not answer any more.

    Raises ProcessingError for a lost scheduler, and whatever the work raises.
    """
    made: list[Made] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            made.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that waits
            raised.append(error)

    thread = threading.Thread(target=run, name="hunch-dask", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(PING_EVERY)
        if thread.is_alive() and not _answers(client):
            raise _lost(scheduler)
    if raised:
        if isinstance(raised[0], OSError | CancelledError) and not _answers(client):
            raise _lost(scheduler) from raised[0]
        raise raised[0]
    return made[0]


def _lost(scheduler: str | None) -> ProcessingError:
    who = "dask's scheduler" if scheduler is None else f"scheduler {scheduler!r}"
    return ProcessingError(
        f"{who} does not answer any more: it was stopped, or its machine is out of reach; nothing was written"
    )


def _answers(client: Any) -> bool:
    """Tell whether the scheduler of a client answers."""
    if client.status != "running":
        return False
    try:
        client.sync(client.scheduler.identity, callback_timeout=LONGEST_SILENCE)
    except (OSError, TimeoutError, CancelledError, RuntimeError):
        return False
    return True


def _close(client: Any) -> None:
    """Close a client, whose scheduler may be gone."""
    with contextlib.suppress(OSError, TimeoutError, CancelledError, RuntimeError):
        client.close(timeout=2)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep dask's own reports of lost connections and cancelled work off stderr, to the end of the program where an error ends it.

    What is cancelled then is reported by threads that go on until the last.
    """
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in LOUD]
    levels = {name: logging.getLogger(name).level for name in (*LOUD, *names)}
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
