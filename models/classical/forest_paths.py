"""How deep rows come in the trees of an isolation forest, compiled; all that is compiled stands in this one file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["path_sums"]

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(kernel: Kernel) -> Kernel:
    """Compile a kernel; numba keeps what it compiled beside this file."""
    return cast("Kernel", njit(cache=True, nogil=True)(kernel))


@compiled
def path_sums(
    x: npt.NDArray[np.float32],
    roots: npt.NDArray[np.int64],
    left: npt.NDArray[np.int64],
    right: npt.NDArray[np.int64],
    feature: npt.NDArray[np.int64],
    threshold: npt.NDArray[np.float64],
    path: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Return, for rows x (n, d), the sum over all trees of `path` at the leaf that a row falls in (n,).

    roots: (trees,) numbers of the first nodes; left, right, feature, threshold, path: (nodes,) of all trees, `left` -1 of leaves; a row goes left where
    its feature is at most the threshold. The caller checks that children are nodes behind their parents, and features columns.
    """
    found = np.zeros(len(x))
    for root in roots:
        for row in range(len(x)):
            node = root
            while left[node] >= 0:
                node = left[node] if x[row, feature[node]] <= threshold[node] else right[node]
            found[row] += path[node]
    return found
