"""Which jets of a sample stand for it: k-medoids for one k after another, and the k at the elbow of their inertia.

The swaps are FasterPAM's (Schubert and Rousseeuw, arXiv:2008.05171) from the package kmedoids (`pip install kmedoids`);
k = 1 needs no package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..inputs import ShapeError, TooFewRowsError, required_package
from .clouds import Array

__all__ = ["MedoidPath", "elbow", "medoid_path"]

MAX_SWAPS = 1000  # passes over the sample; FasterPAM needs two or three


@dataclass(frozen=True)
class MedoidPath:
    """The medoids of one sample for k = 1, 2, ...

    rows: for each k the rows (k,) of the medoids, ascending; inertia: (k_max,) sums of the distances to the nearest
    medoid, in the unit of the distances, never rising with k.
    """

    rows: tuple[npt.NDArray[np.int64], ...]
    inertia: Array


def medoid_path(distances: Array, *, k_max: int) -> MedoidPath:
    """Return the medoids for k = 1 to k_max of a sample with the distances (n, n).

    Each k starts from the medoids of k − 1 and the row that lowers the inertia most, and swaps while that helps: the
    result is determined by the distances, and no larger k is worse. Raises ShapeError for a matrix that is not square,
    TooFewRowsError for k_max above n or below 1, MissingPackageError without kmedoids for k_max above 1.
    """
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1]:
        raise ShapeError(f"distances: have shape {distances.shape}, all pairs (n, n) are needed")
    n = len(distances)
    if not 1 <= k_max <= n:
        raise TooFewRowsError(f"k is {k_max}; a sample of {n} jets has 1 to {n} medoids")
    rows = [np.array([int(np.argmin(distances.sum(axis=0)))], dtype=np.int64)]
    inertia = [float(distances[:, rows[0][0]].sum())]
    package: Any = required_package("kmedoids", "kmedoids", "more than one medoid") if k_max > 1 else None
    for _ in range(1, k_max):
        nearest = distances[:, rows[-1]].min(axis=1)
        gain = np.maximum(nearest[:, None] - distances, 0.0).sum(axis=0)
        gain[rows[-1]] = -1.0
        start = np.append(rows[-1], int(np.argmax(gain)))
        swapped = package.fasterpam(distances, start.astype(np.uint64), max_iter=MAX_SWAPS, n_cpu=1)
        rows.append(np.sort(np.asarray(swapped.medoids, dtype=np.int64)))
        inertia.append(float(distances[:, rows[-1]].min(axis=1).sum()))
    return MedoidPath(tuple(rows), np.array(inertia))


def elbow(inertia: npt.ArrayLike) -> int:
    """Return the k at the elbow of the inertia (k_max,) of k = 1, 2, ...: farthest below the line from first to last.

    >>> elbow([10.0, 4.0, 2.0, 1.8, 1.6, 1.4])
    3
    """
    values = np.asarray(inertia, dtype=np.float64)
    fall = values[0] - values[-1]
    if len(values) < 3 or fall <= 0:
        return 1
    below = np.linspace(1.0, 0.0, len(values)) - (values - values[-1]) / fall
    return int(np.argmax(below)) + 1
