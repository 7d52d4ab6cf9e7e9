"""Worker processes that do not outlive the run which started them."""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType

from loky import ProcessPoolExecutor

__all__ = ["WorkerPool"]

PACE = 1.0  # s, between two looks at the parent


class WorkerPool(ProcessPoolExecutor):  # type: ignore[misc]
    """A pool of processes. Left by an error or by Ctrl-C it kills them at once; where its own process was killed they end themselves."""

    def __init__(self, max_workers: int) -> None:
        super().__init__(max_workers=max_workers, initializer=end_with, initargs=(os.getpid(),))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Wait for what is being done, or kill the workers where something was raised."""
        self.shutdown(wait=True, kill_workers=kind is not None)


def end_with(parent: int) -> None:
    """Have this process end when it is no longer a child of the process of that number."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PACE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
