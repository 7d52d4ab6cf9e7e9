"""How many threads torch may use: a limit for a while, or what is fastest just now for many like steps."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Self

import torch

__all__ = ["ThreadChoice", "allowed_threads", "few_threads"]

TRIES = 2  # of each number of threads in a trial
TRIAL_AFTER = 100  # steps from one trial to the next, twice as many after every trial that one thread won
LONGEST_WAIT = 1600
TOO_SLOW = 2.0  # times one thread's step: the cores have become busy


def allowed_threads(limit: int) -> int:
    """Return the threads that torch may use: at most the limit, the cores and what the caller set."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(torch.get_num_threads(), cores, limit))


@contextlib.contextmanager
def few_threads(limit: int) -> Iterator[None]:
    """Keep torch at `limit` threads, and at the number of cores and what the caller set, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(allowed_threads(limit))
    try:
        yield
    finally:
        torch.set_num_threads(before)


class ThreadChoice:
    """One thread or as many as allowed, whichever makes the steps of a training faster; tried again every now and then.

    Threads inside a product wait for each other: on free cores two take little more than half the time of one, on busy
    cores they were seen to take ten times as long. Members of a stack are computed whole by one thread, so the choice
    does not change the models (tests/models/test_threads.py): `train_stack` never uses more threads than members, and keeps to
    one where something else than the models' own losses is added up.

    limit: threads at most; clock: seconds. Use: `with choice: ... with choice.step(): ...`; leaving it puts back
    what torch had.
    """

    def __init__(self, limit: int, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.many = allowed_threads(limit)
        self.clock = clock
        self.threads = 1
        self.wait, self.next_trial = TRIAL_AFTER, 1  # the first step pays for what is loaded late
        self.done = 0
        self.seconds: dict[int, float] = {}
        self.slow = 0

    def __enter__(self) -> Self:
        self.before = torch.get_num_threads()
        torch.set_num_threads(1)
        return self

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.before)

    def at_most(self, threads: int) -> None:
        """Use no more than these threads from now on."""
        if threads < self.many:
            self.many = threads
            self.seconds = {1: self.seconds[1]} if 1 in self.seconds else {}
            self.next_trial = self.done + 1
            self._use(1)

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Run one step with the threads that are its turn."""
        trial = self.many > 1 and self.done >= self.next_trial
        if trial:
            self._use(self.many if (self.done - self.next_trial) % 2 else 1)
        start = self.clock()
        yield
        self._count(self.clock() - start, trial=trial)

    def _count(self, seconds: float, *, trial: bool) -> None:
        self.done += 1
        if trial:
            self.seconds[self.threads] = min(seconds, self.seconds.get(self.threads, float("inf")))
            if self.done == self.next_trial + 2 * TRIES:
                self._decide(won=self.seconds[self.many] < self.seconds[1])
        elif self.threads > 1:
            self.slow = self.slow + 1 if seconds > TOO_SLOW * self.seconds[1] else 0
            if self.slow == TRIES:
                self._decide(won=False)

    def _decide(self, *, won: bool) -> None:
        self._use(self.many if won else 1)
        self.wait = TRIAL_AFTER if won else min(2 * self.wait, LONGEST_WAIT)
        self.next_trial, self.slow = self.done + self.wait, 0
        self.seconds = {1: self.seconds[1]} if won else {}

    def _use(self, threads: int) -> None:
        if threads != self.threads:
            torch.set_num_threads(threads)
        self.threads = threads
