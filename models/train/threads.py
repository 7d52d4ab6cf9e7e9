"""How many threads torch may use: a limit for a while, and what a training of stacked models takes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

__all__ = ["allowed_threads", "few_threads", "training_threads"]


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
