"""Neighbourhoods of the family of priors: like hypotheses together, so that a search can look at each place by itself.

A model of the whole family asks whether an event could be any of its signals, and so lets through background wherever a
signal could be. A signal that is really there sits in one place. The family's hypotheses are grouped by where their
centres lie (k-means, in the priors' mean spread, distances from the middle compressed), and each group's carried prior events train one density more.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .family import Family, broad_family, sample_family

__all__ = ["grouped_hypotheses", "neighbourhood_samples"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
HYPOTHESES = 1500
BEYOND = 2.5  # scatter of the priors' centres by which half of the hypotheses are moved: more than in the family itself
COMPRESSED = 2.0  # spreads from the middle of the family, from which on distances count by their logarithm
EVENTS, HELD = 3_000, 750  # of one neighbourhood, to train on and to stop by


def grouped_hypotheses(
    centres: Floats, covariances: Floats, n: int, *, rng: np.random.Generator
) -> tuple[Family, Ints]:
    """Draw hypotheses around priors of centres (k, d), covariances (k, d, d); group them: the family and (h,) groups.

    There are at most n groups, numbered from 0, none empty.
    """
    from scipy.cluster.vq import kmeans2  # all else in this room does without scipy

    family = broad_family(centres, covariances, rng, n=HYPOTHESES, beyond=BEYOND)
    own = np.linalg.solve(family.matrix, (centres[family.prior] - family.offset)[..., None])[..., 0]
    spread = np.linalg.cholesky(covariances.mean(axis=0))
    place = np.linalg.solve(spread, own.T).T
    # far from all priors hypotheses are sparse and need no place each
    place = np.arcsinh((place - np.median(place, axis=0)) / COMPRESSED)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One of the clusters is empty")  # it is dropped below
        _, label = kmeans2(place, n, minit="++", iter=30, rng=rng)
    return family, np.unique(label, return_inverse=True)[1].astype(np.int64)


def neighbourhood_samples(
    centres: Floats,
    covariances: Floats,
    parts: Sequence[tuple[Floats, Floats]],
    n: int,
    *,
    rng: np.random.Generator,
) -> list[tuple[Floats, Floats]]:
    """Return events to train on and to stop by, one pair a neighbourhood, carried from the priors' own two parts."""
    family, label = grouped_hypotheses(centres, covariances, n, rng=rng)
    found = []
    for group in range(int(label.max()) + 1):
        weights = (label == group) / (label == group).sum()
        first, second = (
            sample_family(family, weights, [part[i] for part in parts], size, rng=rng)
            for i, size in enumerate((EVENTS, HELD))
        )
        found.append((first, second))
    return found
