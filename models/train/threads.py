"""How many threads torch may use: a limit for a while, and what a training of stacked models takes."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["allowed_threads", "few_threads", "side_by_side", "training_threads"]

Result = TypeVar("Result")


def allowed_threads(limit: int) -> int:
    """Return the threads that torch may use: at most the limit, the cores and what the caller set."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(torch.get_num_threads(), cores, limit))


def training_threads(members: int, limit: int, *, by_member: bool) -> int:
    """Return the threads of a training on a CPU: one a member, so that no sum is divided and no model depends on them.

    limit: the threads at most; the cores and what the caller set bound them too. by_member: whether each member's loss is computed by
    itself; where something is added up over members, rounding would depend on the threads, and it is one.
    """
    return allowed_threads(min(members, limit)) if by_member else 1


@contextlib.contextmanager
def few_threads(limit: int) -> Iterator[None]:
    """Keep torch at `limit` threads, and at the number of cores and what the caller set, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(allowed_threads(limit))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def side_by_side(work: Callable[[int], Result], *, threads: int) -> Iterator[Result]:
    """Give work(0), work(1) and so on for ever, in order, up to `threads` of them at once, and as many ahead of what is asked for.

    Each thread has torch to itself with one thread of its own; the caller's setting stays.
    """
    before, ready = torch.get_num_threads(), threading.Barrier(threads + 1)

    def begin() -> None:
        torch.get_num_threads()  # the first call in a thread takes what the caller set, and is not to come later
        torch.set_num_threads(1)  # of this thread, and of threads that begin after it
        ready.wait()

    with ThreadPoolExecutor(threads, thread_name_prefix="hunch", initializer=begin) as pool:
        # a thread begins with the first piece that finds none idle, and none is before all have begun
        running = [pool.submit(work, i) for i in range(threads)]
        ready.wait()
        torch.set_num_threads(before)
        running += [pool.submit(work, i) for i in range(threads, 2 * threads)]
        number = len(running)
        try:
            while True:
                yield running.pop(0).result()
                running.append(pool.submit(work, number))
                number += 1
        finally:
            pool.shutdown(cancel_futures=True)
